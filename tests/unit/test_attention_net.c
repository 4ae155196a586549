// Attention networks: vision transformers against the original's numbers and plain loops; what does not depend on what; files that lie.
#include "tests/unit/t.h"
#include "core/attention_net.h"
#include "core/cpu/rows.h"
#include "core/cpu/vit.h"
#include "core/cpu/vit_rows.h"
#include "core/mem.h"
#include "tests/oracle/vit.h"
#include "tests/unit/vit_rig.h"

#include <unistd.h>

#define TOLERANCE 2e-5

static char scratch_dir[] = "/tmp/yoda-attention-XXXXXX";

static const char *scratch(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", scratch_dir, name);
    return path;
}

static float *random_picture(int w, int h)
{
    float *rgb = malloc((size_t)w * (size_t)h * 3 * sizeof *rgb);
    for (size_t i = 0; i < (size_t)w * (size_t)h * 3; i++) {
        const float x = 0.5f + 0.25f * vit_normal();
        rgb[i] = x < 0 ? 0 : x > 1 ? 1 : x;
    }
    return rgb;
}

// The maps of one picture; the caller's to free. *count: floats.
static float *maps_of(yd_attention_net *net, const float *rgb, int w, int h, size_t *count)
{
    yd_err err = {0};
    int gw, gh;
    yd_attention_net_grid(net, 0, w, h, &gw, &gh);
    *count = (size_t)yd_attention_net_info_of(net)->variant[0].heads * (size_t)gw * (size_t)gh;
    float *raw = malloc(*count * sizeof *raw);
    const int rc = yd_attention_net_run(net, 0, 1, w, h, &rgb, &raw, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    return raw;
}

// ---- the original's numbers

// planes [3][h][w] -> [h][w][3]
static float *interleaved(const yd_st_tensor *t)
{
    float *planes = malloc(t->numel * sizeof *planes), *rgb = malloc(t->numel * sizeof *rgb);
    const size_t n = t->numel / 3;
    CHECK(yd_st_to_f32(t, planes, NULL) == 0);
    for (size_t i = 0; i < t->numel; i++) rgb[i % n * 3 + i / n] = planes[i];
    free(planes);
    return rgb;
}

static int compare_size(yd_attention_net *net, const yd_safetensors *io, const yd_st_tensor *in)
{
    char name[64];
    size_t count;
    snprintf(name, sizeof name, "cls_attention_%s", in->name + strlen("rgb01_"));
    const yd_st_tensor *out = yd_st_find(io, name);
    CHECK(out != NULL);
    if (!out) return 0;
    float *rgb = interleaved(in), *want = malloc(out->numel * sizeof *want);
    float *raw = maps_of(net, rgb, (int)in->dims[3], (int)in->dims[2], &count);
    CHECK(yd_st_to_f32(out, want, NULL) == 0 && count == out->numel);
    const double d = t_rel_diff(raw, want, count);
    CHECK_MSG(d <= TOLERANCE, "%s differs by %g", name, d);
    free(rgb);
    free(want);
    free(raw);
    return 1;
}

static void compare_folder(const char *folder, const char *file, const char *called, int sizes)
{
    char path[1024], rel[256];
    yd_attention_net *net = NULL;
    yd_safetensors *io = NULL;
    yd_err err = {0};
    snprintf(rel, sizeof rel, "fixtures/%s/%s", folder, file);
    const char *found = t_shared(rel);
    if (!found) {
        t_skip("no fixtures");
        return;
    }
    CHECK_MSG(yd_attention_net_open(found, NULL, &net, &err) == 0, "%s", err.detail); // heads are in the config beside it
    snprintf(path, sizeof path, "%.*sio.safetensors", (int)(strlen(found) - strlen(file)), found);
    CHECK(yd_st_open(path, &io, &err) == 0);
    if (!net || !io) return;
    const yd_attention_net_info *info = yd_attention_net_info_of(net);
    CHECK_MSG(strcmp(info->name, called) == 0, "%s", info->name);
    CHECK(info->variant[0].heads == 6 && strncmp(info->checksum, "sha256:", 7) == 0 && strlen(info->checksum) == 71);
    int n = 0;
    for (size_t i = 0; i < yd_st_count(io); i++)
        if (strncmp(yd_st_at(io, i)->name, "rgb01_", 6) == 0) n += compare_size(net, io, yd_st_at(io, i));
    CHECK(n == sizes);
    yd_st_close(io);
    yd_attention_net_close(net);
}

static void test_fixture(void)
{
    compare_folder("dino_tiny", "weights.safetensors", "dino-vit48x3-8", 3);
    compare_folder("dino_tiny", "dino_tiny8_pretrain.pth", "dino-vit48x3-8", 3); // as it is published
}

static void test_fixture_of_teacher(void)
{
    compare_folder("dino_tiny_full_checkpoint", "weights.safetensors", "dino-vit36x2-8", 2);
    compare_folder("dino_tiny_full_checkpoint", "dino_tiny_full_checkpoint.pth", "dino-vit36x2-8", 2);
}

// ---- plain loops

static void compare_with_oracle(const vit_rig *r, int heads, int w, int h)
{
    yd_safetensors *st = NULL;
    yd_attention_net *net = NULL;
    yd_err err = {0};
    const yd_attention_net_options opt = {.heads = heads, .threads = 2};
    size_t n;
    CHECK(vit_rig_save(r, NULL, scratch("vit.safetensors")) == 0);
    CHECK(yd_st_open(scratch("vit.safetensors"), &st, &err) == 0);
    CHECK_MSG(yd_attention_net_open_tensors(st, &opt, &net, &err) == 0, "%s", err.detail);
    if (!st || !net) return;
    float *rgb = random_picture(w, h), *raw = maps_of(net, rgb, w, h, &n), *want = malloc(n * sizeof *want);
    double *exact = malloc(n * sizeof *exact);
    CHECK(oracle_vit(st, r->prefix ? r->prefix : "", heads, rgb, w, h, exact) == 0);
    for (size_t i = 0; i < n; i++) want[i] = (float)exact[i];
    const double d = t_rel_diff(raw, want, n);
    CHECK_MSG(d <= TOLERANCE, "dim %d, %d heads, %d blocks, %d x %d: %g", r->dim, heads, r->depth, w, h, d);
    free(exact);
    free(want);
    free(raw);
    free(rgb);
    yd_attention_net_close(net);
    yd_st_close(st);
}

static void test_oracle(void)
{
    compare_with_oracle(&(vit_rig){.dim = 64, .depth = 3, .patch = 8, .grid = 7, .hidden = 256}, 1, 56, 56); // the learned grid
    compare_with_oracle(&(vit_rig){.dim = 40, .depth = 2, .patch = 4, .grid = 5, .hidden = 96}, 5, 44, 20);
    compare_with_oracle(&(vit_rig){.dim = 30, .depth = 1, .patch = 16, .grid = 2, .hidden = 64}, 3, 16,
                        16); // one patch, the last block only
    compare_with_oracle(&(vit_rig){.dim = 48, .depth = 2, .patch = 8, .grid = 3, .hidden = 200, .prefix = "module.backbone."}, 4, 8, 512);
    compare_with_oracle(&(vit_rig){.dim = 128, .depth = 4, .patch = 2, .grid = 14, .hidden = 512}, 2, 14, 18); // 63 patches: a full block
    compare_with_oracle(&(vit_rig){.dim = 17, .depth = 2, .patch = 3, .grid = 4, .hidden = 33}, 17, 27,
                        21); // 63 again; heads of one number
}

static void test_positions(void)
{
    enum { GRID = 9, DIM = 5 };
    static const int sizes[][2] = {{9, 9}, {9, 8}, {3, 27}, {1, 1}, {28, 13}, {10, 9}};
    float learned[(1 + GRID * GRID) * DIM];
    double exact[GRID * GRID * DIM];
    for (size_t i = 0; i < sizeof learned / sizeof *learned; i++) learned[i] = vit_normal();
    for (int i = 0; i < GRID * GRID * DIM; i++) exact[i] = (double)learned[DIM + i];
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int gw = sizes[k][0], gh = sizes[k][1], n = gw * gh * DIM;
        float *got = malloc((size_t)(n + DIM) * sizeof *got), *want = malloc((size_t)n * sizeof *want);
        double *d = malloc((size_t)n * sizeof *d);
        yd_vit_positions(learned, GRID, DIM, gw, gh, got);
        oracle_vit_positions(exact, GRID, DIM, gw, gh, d);
        for (int i = 0; i < n; i++) want[i] = (float)d[i];
        CHECK(memcmp(got, learned, DIM * sizeof *got) == 0);
        CHECK_MSG(t_rel_diff(got + DIM, want, (size_t)n) < 2e-6, "%d x %d: %g", gw, gh, t_rel_diff(got + DIM, want, (size_t)n));
        free(got);
        free(want);
        free(d);
    }
}

static void test_rows(void)
{
    enum { MOST = 1537 };
    static float x[MOST], w[MOST], b[MOST], y[MOST], want[MOST];
    static const size_t sizes[] = {1, 2, 31, 32, 33, 48, 384, 785, 1537};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const size_t n = sizes[k];
        double mean = 0, var = 0, top = -INFINITY, sum = 0, dot = 0, size = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = 3 * vit_normal() + 1;
            w[i] = vit_normal();
            b[i] = vit_normal();
            mean += (double)x[i] / (double)n;
            dot += (double)x[i] * (double)w[i];
            size += fabs((double)x[i] * (double)w[i]);
        }
        for (size_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
        for (size_t i = 0; i < n; i++) want[i] = (float)(((double)x[i] - mean) / sqrt(var + 1e-6) * (double)w[i] + (double)b[i]);
        yd_norm_row(x, w, b, n, y);
        CHECK_MSG(t_rel_diff(y, want, n) < 2e-6, "norm of %zu: %g", n, t_rel_diff(y, want, n));
        CHECK(fabs((double)yd_dot(x, w, n) - dot) <= 1e-6 * size);
        for (size_t i = 0; i < n; i++) top = fmax(top, 0.3 * (double)x[i]);
        for (size_t i = 0; i < n; i++) sum += exp(0.3 * (double)x[i] - top);
        for (size_t i = 0; i < n; i++) want[i] = (float)(exp(0.3 * (double)x[i] - top) / sum);
        yd_softmax_row(x, 0.3f, n);
        CHECK_MSG(t_rel_diff(x, want, n) < 2e-6, "softmax of %zu: %g", n, t_rel_diff(x, want, n));
    }
}

// y [YD_ROWS][OUT] of one layer against doubles, for each end.
static void check_layer(yd_rows *r, yd_product_end end)
{
    enum { IN = 50, OUT = 37, X_ROW = 56, Y_ROW = 40 };
    static float x[YD_ROWS * X_ROW], y[YD_ROWS * Y_ROW], was[YD_ROWS * Y_ROW], w[OUT * IN], bias[OUT], got[OUT], want[OUT];
    yd_product *p = NULL;
    yd_packed packed = {0};
    yd_err err = {0};
    for (int i = 0; i < YD_ROWS * X_ROW; i++) x[i] = vit_normal();
    for (int i = 0; i < YD_ROWS * Y_ROW; i++) y[i] = was[i] = vit_normal();
    for (int i = 0; i < OUT * IN; i++) w[i] = 0.3f * vit_normal();
    for (int i = 0; i < OUT; i++) bias[i] = vit_normal();
    CHECK_MSG(yd_product_new_layer(r, IN, OUT, X_ROW, Y_ROW, end, &p, &err) == 0, "%s", err.detail);
    CHECK(p && yd_packed_make(r, p, w, bias, &packed, &err) == 0);
    if (!p || !packed.memory) return;
    CHECK(yd_product_run_layer(p, 0, x, &packed, y) == 0);
    for (int row = 0; row < YD_ROWS; row++) {
        for (int o = 0; o < OUT; o++) {
            double s = (double)bias[o];
            for (int i = 0; i < IN; i++) s += (double)w[o * IN + i] * (double)x[row * X_ROW + i];
            if (end == YD_PRODUCT_GELU) s *= 0.5 * (1 + erf(s / sqrt(2)));
            want[o] = (float)(end == YD_PRODUCT_ADD ? s + (double)was[row * Y_ROW + o] : s);
            got[o] = y[row * Y_ROW + o];
        }
        CHECK_MSG(t_rel_diff(got, want, OUT) < 2e-6, "end %d, row %d: %g", (int)end, row, t_rel_diff(got, want, OUT));
        CHECK(memcmp(y + row * Y_ROW + OUT, was + row * Y_ROW + OUT, (Y_ROW - OUT) * sizeof *y) == 0); // nothing beside the row
    }
    yd_packed_clear(&packed);
    yd_product_free(p);
}

static void test_layers(void)
{
    yd_rows *r = NULL;
    CHECK(yd_rows_new(1, &r, NULL) == 0);
    if (!r) return;
    check_layer(r, YD_PRODUCT_PLAIN);
    check_layer(r, YD_PRODUCT_GELU);
    check_layer(r, YD_PRODUCT_ADD);
    yd_rows_free(r);
}

// ---- what does not matter

static const vit_rig small = {.dim = 96, .depth = 3, .patch = 8, .grid = 6, .hidden = 384};

static yd_attention_net *open_small(int threads)
{
    yd_attention_net *net = NULL;
    yd_err err = {0};
    const yd_attention_net_options opt = {.threads = threads, .heads = 3};
    CHECK_MSG(yd_attention_net_open(scratch("small.safetensors"), &opt, &net, &err) == 0, "%s", err.detail);
    return net;
}

// Bits for any number of threads, alone or among others, first or after other sizes.
static void test_invariance(void)
{
    enum { W = 80, H = 104, PICTURES = 5 };
    static const int threads[] = {1, 2, 3, 7};
    float *rgb[PICTURES], *want[PICTURES] = {0}, *raw[PICTURES];
    size_t n = 0, other;
    CHECK(vit_rig_save(&small, NULL, scratch("small.safetensors")) == 0);
    for (int i = 0; i < PICTURES; i++) rgb[i] = random_picture(W, H);
    for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
        yd_attention_net *net = open_small(threads[t]);
        if (!net) return;
        for (int i = 0; i < PICTURES; i++) {
            float *one = maps_of(net, rgb[i], W, H, &n);
            if (t == 0)
                want[i] = one;
            else {
                CHECK_MSG(memcmp(one, want[i], n * sizeof *one) == 0, "%d threads", threads[t]);
                free(one);
            }
        }
        free(maps_of(net, rgb[0], H, W, &other)); // the same numbers as another picture
        for (int i = 0; i < PICTURES; i++) raw[i] = malloc(n * sizeof *raw[i]);
        for (int size = 2; size <= PICTURES; size++) {
            CHECK(yd_attention_net_run(net, 0, size, W, H, (const float *const *)(rgb + PICTURES - size), raw, NULL) == 0);
            for (int i = 0; i < size; i++)
                CHECK_MSG(memcmp(raw[i], want[PICTURES - size + i], n * sizeof(float)) == 0, "%d threads, picture %d of %d", threads[t], i,
                          size);
        }
        for (int i = 0; i < PICTURES; i++) free(raw[i]);
        yd_attention_net_close(net);
    }
    CHECK(memcmp(want[0], want[1], n * sizeof(float)) != 0);
    for (int i = 0; i < PICTURES; i++) free(want[i]), free(rgb[i]);
}

// Once there is memory for a size, runs take none.
static void test_no_allocation(void)
{
    enum { W = 64, H = 48 };
    size_t n;
    CHECK(vit_rig_save(&small, NULL, scratch("small.safetensors")) == 0);
    yd_attention_net *net = open_small(2);
    if (!net) return;
    const size_t opened = yd_attention_net_info_of(net)->bytes;
    CHECK(yd_attention_net_reserve(net, 0, 2, W, H, NULL) == 0);
    CHECK(yd_attention_net_info_of(net)->bytes > opened + 2 * W * H / 64 * 96 * 4 * sizeof(float));
    float *rgb = random_picture(W, H), *raw = maps_of(net, rgb, W, H, &n);
    const float *const in[2] = {rgb, rgb};
    float *const out[2] = {raw, raw};
    yd_mem_fail_at(0);
    CHECK(yd_attention_net_run(net, 0, 1, W, H, in, out, NULL) == 0 && yd_attention_net_run(net, 0, 2, W, H, in, out, NULL) == 0);
    CHECK(yd_mem_fail_at(0) == 0);
    free(rgb);
    free(raw);
    yd_attention_net_close(net);
}

// Every allocation of opening, reserving and running fails once; then all is well again.
static void test_out_of_memory(void)
{
    const yd_attention_net_options opt = {.threads = 2, .heads = 3};
    yd_safetensors *st = NULL;
    yd_err err = {0};
    int rc = -1;
    size_t n;
    CHECK(vit_rig_save(&small, NULL, scratch("small.safetensors")) == 0);
    CHECK(yd_st_open(scratch("small.safetensors"), &st, &err) == 0);
    float *rgb = random_picture(48, 48);
    for (long k = 1; k < 400 && rc; k++) {
        yd_attention_net *net = NULL;
        float *raw = malloc(3 * 36 * sizeof *raw);
        yd_mem_fail_at(k);
        rc = yd_attention_net_open_tensors(st, &opt, &net, &err);
        if (!rc) rc = yd_attention_net_run(net, 0, 1, 48, 48, (const float *const *)&rgb, &raw, &err);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == 0 || rc == YD_E_NOMEM, "allocation %ld: %d %s", k, rc, err.detail);
        if (net) { // what failed may be tried again
            float *again = maps_of(net, rgb, 48, 48, &n);
            CHECK(rc || memcmp(again, raw, n * sizeof *raw) == 0);
            free(again);
        }
        free(raw);
        yd_attention_net_close(net);
    }
    CHECK(rc == 0);
    free(rgb);
    yd_st_close(st);
}

// ---- files

static void test_names(void)
{
    static const struct {
        vit_rig r;
        const char *name;
        size_t params;
    } want[] = {
        {{.dim = 384, .depth = 12, .patch = 8, .grid = 28, .hidden = 1536}, "dino-vits8", 21670272},
        {{.dim = 384, .depth = 12, .patch = 16, .grid = 14, .hidden = 1536}, "dino-vits16", 21665664},
        {{.dim = 192, .depth = 12, .patch = 16, .grid = 14, .hidden = 768}, "dino-vit192x12-16", 5524416},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        yd_attention_net *net = NULL;
        yd_err err = {0};
        CHECK(vit_rig_save(&want[i].r, NULL, scratch("named.safetensors")) == 0);
        CHECK_MSG(yd_attention_net_open(scratch("named.safetensors"), NULL, &net, &err) == 0, "%s", err.detail);
        if (!net) return;
        const yd_attention_net_info *info = yd_attention_net_info_of(net);
        CHECK_MSG(strcmp(info->name, want[i].name) == 0 && info->params == want[i].params, "%s, %zu", info->name, info->params);
        CHECK(info->depth == 12 && info->dim == want[i].r.dim && info->variant[0].stride == want[i].r.patch && info->multiple == info->variant[0].stride);
        CHECK(info->variant[0].heads == want[i].r.dim / 64 && info->n_variants == 1 && info->bytes > info->params * 3);
        yd_attention_net_close(net);
    }
    unlink(scratch("named.safetensors"));
}

// The network's map of one picture, to tell networks apart; 0 when the file is refused.
static float mark_of(const char *path)
{
    yd_attention_net *net = NULL;
    size_t n;
    const yd_attention_net_options opt = {.heads = 2};
    float rgb[16 * 16 * 3];
    if (yd_attention_net_open(path, &opt, &net, NULL)) return 0;
    for (int i = 0; i < 16 * 16 * 3; i++) rgb[i] = (float)(i % 11) / 11.0f;
    float *raw = maps_of(net, rgb, 16, 16, &n), first = raw[0];
    free(raw);
    yd_attention_net_close(net);
    return first;
}

// Of a checkpoint with both the teacher is taken, whichever comes first by name.
static void test_teacher(void)
{
    vit_rig teacher = {.dim = 32, .depth = 2, .patch = 8, .grid = 2, .hidden = 64, .prefix = "teacher.backbone."}, student = teacher;
    student.prefix = "student.module.backbone.";
    char path[256];
    snprintf(path, sizeof path, "%s", scratch("both.safetensors"));
    vit_state = 5;
    CHECK(vit_rig_save(&teacher, &student, path) == 0);
    const float both = mark_of(path);
    teacher.prefix = "";
    vit_state = 5; // the same weights alone
    CHECK(vit_rig_save(&teacher, NULL, path) == 0);
    CHECK(both != 0 && mark_of(path) == both);
    teacher.prefix = "student.module.backbone.";
    vit_state = 5;
    CHECK(vit_rig_save(&teacher, NULL, path) == 0);
    CHECK(mark_of(path) == both); // there is nothing else
    teacher.prefix = "a.student.";
    student.prefix = "b.";
    vit_state = 5;
    CHECK(vit_rig_save(&student, &teacher, path) == 0);
    CHECK(mark_of(path) == both);
}

static void refuse(const vit_rig *r, int heads, const char *field)
{
    yd_attention_net *net = NULL;
    yd_err err = {0};
    const yd_attention_net_options opt = {.heads = heads};
    CHECK(vit_rig_save(r, NULL, scratch("odd.safetensors")) == 0);
    const int rc = yd_attention_net_open(scratch("odd.safetensors"), &opt, &net, &err);
    CHECK_MSG(rc == YD_E_CHECKPOINT && !net, "%d", rc);
    CHECK_MSG(strcmp(err.field, field) == 0 && err.detail[0], "field '%s', not '%s': %s", err.field, field, err.detail);
    yd_attention_net_close(net);
}

static void test_hostile(void)
{
    const vit_rig good = {.dim = 32, .depth = 2, .patch = 8, .grid = 2, .hidden = 64};
    static const char *const all[] = {"patch_embed.proj.bias",     "blocks.0.norm1.weight",   "blocks.0.attn.qkv.bias",
                                      "blocks.0.attn.proj.weight", "blocks.0.mlp.fc2.weight", "blocks.1.norm1.bias",
                                      "blocks.1.attn.qkv.weight"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        vit_rig r = good;
        r.spoil = all[i];
        r.odd = 1;
        refuse(&r, 2, all[i]);
        r.odd = 0;
        r.nan = 1;
        refuse(&r, 2, all[i]);
        r.nan = 0;
        if (i != 6) refuse(&r, 2, all[i]); // without its qkv a block is none, and the network one block shorter
    }
    vit_rig r = good;
    refuse(&r, 3, "num_heads");
    refuse(&r, 64, "num_heads");
    refuse(&r, 0, "num_heads"); // 32 channels: nothing says how many
    r.spoil = "pos_embed";
    r.odd = 1;
    refuse(&r, 2, "pos_embed");
    r.odd = 0;
    refuse(&r, 2, "tensors"); // no network at all
    r = good;
    r.patch = 80;
    refuse(&r, 2, "patch_embed.proj.weight");
}

static void test_sizes(void)
{
    CHECK(vit_rig_save(&small, NULL, scratch("small.safetensors")) == 0);
    yd_attention_net *net = open_small(1);
    if (!net) return;
    static const int bad[][3] = {{0, 64, 1}, {64, 0, 1}, {60, 64, 1}, {64, 63, 1}, {2056, 64, 1}, {64, -8, 1}, {64, 64, 0}, {64, 64, 9}};
    float x[1] = {0};
    const float *in[1] = {x};
    float *out[1] = {x};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(yd_attention_net_run(net, 0, bad[i][2], bad[i][0], bad[i][1], in, out, NULL) == YD_E_INVALID);
    CHECK(yd_attention_net_run(net, 1, 1, 64, 64, in, out, NULL) == YD_E_INVALID);
    float *rgb = random_picture(64, 64), *raw = malloc(3 * 64 * sizeof *raw);
    rgb[77] = NAN;
    CHECK(yd_attention_net_run(net, 0, 1, 64, 64, (const float *const *)&rgb, &raw, NULL) == YD_E_NUMERIC);
    free(rgb);
    free(raw);
    yd_attention_net_close(net);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"dino_tiny: the original's attention", test_fixture},
        {"a full checkpoint: the teacher's attention", test_fixture_of_teacher},
        {"plain loops agree", test_oracle},
        {"positions on other grids", test_positions},
        {"normalisation, softmax and dot products of rows", test_rows},
        {"layers with bias, GELU and sum", test_layers},
        {"threads, batches and earlier runs change no bit", test_invariance},
        {"a reserved size needs no memory", test_no_allocation},
        {"memory runs out anywhere", test_out_of_memory},
        {"published names and their parameters", test_names},
        {"teacher, student, prefixes", test_teacher},
        {"tensors that are missing, odd or not finite", test_hostile},
        {"sizes and pictures that cannot be", test_sizes},
    };
    if (!mkdtemp(scratch_dir)) return 1;
    const int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", scratch_dir);
    return system(command) || rc;
}
