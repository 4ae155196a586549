// FID's network: the pieces that only it has by hand, the whole of it against numbers of PyTorch, and which files are refused.
//
// The weights follow from their tensors' names, here and in tests/oracle/inception.py, which prints the numbers that are kept here.
// `test_inception --features WEIGHTS RAW W H` prints the features of a file of RGB bytes, for that script's other comparison.
#include "core/inception.h"

#include "core/cpu/trunk.h"
#include "core/inception_net.h"
#include "core/mem.h"
#include "core/safetensors.h"
#include "tests/unit/t.h"

#include <omp.h>
#include <unistd.h>

static char folder[] = "/tmp/yd-test-inception-XXXXXX";

// ---- pieces

typedef struct seen {
    float v[64];
    int n;
} seen;

static void keep(void *context, int tap, const float *maps, int n, int h, int w, int c)
{
    seen *s = context;
    (void)tap;
    s->n = n * h * w * c;
    memcpy(s->v, maps, (size_t)s->n * sizeof *maps);
}

// Run the steps, of which the last one is tapped, on one picture of h x w.
static seen run(const yd_trunk_step *steps, int n, const float *x, int h, int w)
{
    seen s = {.n = 0};
    yd_trunk *t = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_trunk_new(steps, n, 0, &t, &err) == 0 && yd_trunk_prepare(t, 1, h, w, &err) == 0, "%s", err.detail);
    if (!t) return s;
    memcpy(yd_trunk_input(t), x, (size_t)(h * w * steps[0].in_c) * sizeof *x);
    CHECK(yd_trunk_run(t, keep, &s, NULL) == 0);
    yd_trunk_free(t);
    return s;
}

static void check_seen(const seen *s, const float *want, int n)
{
    CHECK(s->n == n);
    for (int i = 0; i < n && i < s->n; i++)
        CHECK_MSG(fabsf(s->v[i] - want[i]) < 1e-5f, "number %d: %g, not %g", i, (double)s->v[i], (double)want[i]);
}

static const float plane[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -12}; // 3 x 4

static void test_mean_pool(void)
{
    const yd_trunk_step mean = {.kind = YD_TRUNK_MEAN, .n_from = 1, .in_c = 1, .c = 1, .k = {3, 3}, .stride = 1, .pad = {1, 1}};
    seen s = run(&mean, 1, plane, 3, 4);
    check_seen(&s, (float[]){14 / 4.f, 24 / 6.f, 30 / 6.f, 22 / 4.f, 33 / 6.f, 54 / 9.f, 39 / 9.f, 21 / 6.f, 30 / 4.f, 48 / 6.f, 30 / 6.f, 14 / 4.f}, 12);
}

static void test_max_pool(void)
{
    yd_trunk_step most = {.kind = YD_TRUNK_MAX, .n_from = 1, .in_c = 1, .c = 1, .k = {3, 3}, .stride = 1, .pad = {1, 1}};
    float below[12]; // zeros of padding would win
    for (int i = 0; i < 12; i++) below[i] = plane[i] - 20;
    seen s = run(&most, 1, below, 3, 4);
    check_seen(&s, (float[]){-14, -13, -12, -12, -10, -9, -9, -9, -10, -9, -9, -9}, 12);
    most.pad[0] = most.pad[1] = 0, most.stride = 2;
    s = run(&most, 1, plane, 3, 4);
    check_seen(&s, (float[]){11}, 1);
}

static void test_oblong(void)
{
    static const float weight[3] = {1, 10, 100}, bias[1] = {-300};
    yd_trunk_step conv = {.kind = YD_TRUNK_CONV, .n_from = 1, .in_c = 1, .c = 1, .stride = 1, .weight = weight, .bias = bias};
    conv.k[0] = 1, conv.k[1] = 3, conv.pad[0] = 0, conv.pad[1] = 1; // across
    seen s = run(&conv, 1, plane, 3, 4);
    check_seen(&s, (float[]){0, 21, 132, 0, 350, 465, 576, 0, 790, 909, 0, 0}, 12);
    conv.k[0] = 3, conv.k[1] = 1, conv.pad[0] = 1, conv.pad[1] = 0; // down
    s = run(&conv, 1, plane, 3, 4);
    check_seen(&s, (float[]){210, 320, 430, 540, 651, 762, 873, 0, 0, 0, 0, 0}, 12);
    conv.k[0] = 1, conv.k[1] = 3, conv.pad[0] = conv.pad[1] = 0, conv.stride = 2; // one column, every second row
    s = run(&conv, 1, plane, 3, 4);
    check_seen(&s, (float[]){21, 909}, 2);
}

static void test_join(void)
{
    static const float weight[2] = {2, 3}, bias[2] = {0, 0};
    const yd_trunk_step steps[3] = {
        {.kind = YD_TRUNK_CONV, .n_from = 1, .in_c = 1, .c = 2, .k = {1, 1}, .stride = 1, .weight = weight, .bias = bias, .tap = -1},
        {.kind = YD_TRUNK_MAX, .n_from = 1, .in_c = 1, .c = 1, .k = {1, 1}, .stride = 1, .tap = -1},
        {.kind = YD_TRUNK_JOIN, .from = {0, 1, 2}, .n_from = 3, .c = 4},
    };
    seen s = run(steps, 3, plane, 1, 2);
    check_seen(&s, (float[]){1, 2, 3, 1, 2, 4, 6, 2}, 8);
}

static void test_fold(void)
{
    float w[4] = {1, 2, 3, 4}, bias[2];
    const float gamma[2] = {3, 1}, beta[2] = {0.5f, -1}, mean[2] = {4, 0}, var[2] = {2.249f, 0.999f}; // roots 1.5 and 1
    CHECK(yd_inception_fold(w, 2, 2, gamma, beta, mean, var, bias) == -1);
    static const float want[4] = {2, 4, 3, 4};
    for (int i = 0; i < 4; i++) CHECK(fabsf(w[i] - want[i]) < 1e-6f);
    CHECK(fabsf(bias[0] + 7.5f) < 1e-5f && fabsf(bias[1] + 1) < 1e-6f);
    CHECK(yd_inception_fold(w, 2, 2, gamma, beta, mean, (float[]){1, -0.002f}, bias) == 1);
    CHECK(yd_inception_fold(w, 2, 2, gamma, beta, mean, (float[]){NAN, 1}, bias) == 0);
    CHECK(yd_inception_fold(w, 2, 2, (float[]){1, INFINITY}, beta, mean, var, bias) == 1);
}

static void test_resize(void)
{
    enum { S = YD_INCEPTION_SIDE };
    static float x[S * S * 3];
    static uint8_t same[S * S * 3], twice[4 * S * S * 3];
    yd_inception_input((uint8_t[]){0, 51, 255}, 1, 1, x);
    CHECK(x[0] == -1 && fabsf(x[3 * S + 1] + 0.6f) < 1e-6f && x[3 * S * S - 1] == 1);
    yd_inception_input((uint8_t[]){0, 0, 0, 255, 255, 255}, 2, 1, x); // from one to the other between their centres
    CHECK(x[0] == -1 && x[3 * 74] == -1 && x[3 * 224] == 1 && fabsf(x[3 * 149]) < 1e-6f);
    CHECK(fabsf(x[3 * 100] - (float)(2 * ((100.5 * 2 / S) - 0.5) - 1)) < 1e-5f);
    for (int i = 0; i < S * S * 3; i++) same[i] = (uint8_t)(i * 7 % 251);
    yd_inception_input(same, S, S, x);
    int wrong = 0;
    for (int i = 0; i < S * S * 3; i++) wrong += fabsf(x[i] - (float)(same[i] / 127.5 - 1)) > 1e-6f;
    CHECK_MSG(wrong == 0, "%d numbers of a picture of that size have moved", wrong);
    for (int i = 0; i < 4 * S * S * 3; i++) twice[i] = (uint8_t)(i * 13 % 241);
    yd_inception_input(twice, 2 * S, 2 * S, x); // each the mean of four
    for (int row = 0, c = 1; row < S; row += 37)
        for (int col = 0; col < S; col += 23) {
            const uint8_t *p = twice + ((size_t)(2 * row) * 2 * S + (size_t)(2 * col)) * 3 + c;
            double mean = (p[0] + p[3] + p[2 * S * 3] + p[2 * S * 3 + 3]) / 4.0;
            CHECK(fabs((double)x[(row * S + col) * 3 + c] - (mean / 127.5 - 1)) < 1e-6);
        }
}

// ---- weights out of names

static uint32_t name_hash(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

// In [0, 1).
static double mixed(uint32_t i, uint32_t seed)
{
    uint32_t x = i * 2654435761u + seed;
    x = (x ^ x >> 15) * 2246822519u;
    x = (x ^ x >> 13) * 3266489917u;
    return ((x ^ x >> 16) >> 8) / 16777216.0;
}

typedef struct made {
    yd_st_writer *w;
    void *kept[512];
    int n;
    const char *left_out; // a tensor that is not written, or NULL
    const char *bent;     // one that gets a channel too many, or NULL
    const char *negative; // one whose numbers change their sign, or NULL
    const char *last;     // the module after which no other is written, or NULL
    int ended;
} made;

static void add(made *m, const char *name, int ndim, int64_t dims[4], double low, double span)
{
    if (m->left_out && !strcmp(name, m->left_out)) return;
    if (m->bent && !strcmp(name, m->bent)) dims[0]++;
    if (m->negative && !strcmp(name, m->negative)) low = -low, span = -span;
    size_t n = 1;
    for (int i = 0; i < ndim; i++) n *= (size_t)dims[i];
    const uint32_t seed = name_hash(name);
    const int narrow = ndim == 4; // convolutions are stored as bf16
    float *wide = m->kept[m->n] = malloc(n * sizeof *wide);
    uint16_t *half = m->kept[m->n];
    m->n++;
    for (size_t i = 0; i < n; i++) {
        const double u = mixed((uint32_t)i, seed);
        if (narrow) half[i] = yd_bf16_from_f32((float)((2 * u - 1) * span));
        else wide[i] = (float)(low + span * u);
    }
    CHECK(yd_st_writer_add(m->w, name, narrow ? YD_ST_BF16 : YD_ST_F32, ndim, dims, m->kept[m->n - 1], NULL) == 0);
}

static void add_unit(made *m, const char *prefix, const char *module, int in, int c, int down, int across)
{
    static const struct {
        const char *name;
        double low, span;
    } norm[4] = {{"weight", 0.75, 0.5}, {"bias", -0.2, 0.4}, {"running_mean", -0.1, 0.2}, {"running_var", 0.5, 1}};
    char name[96];
    if (m->ended) return;
    snprintf(name, sizeof name, "%s%s.conv.weight", prefix, module);
    add(m, name, 4, (int64_t[4]){c, in, down, across}, 0, sqrt(6.0 / (in * down * across)));
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s.bn.%s", prefix, module, norm[i].name);
        add(m, name, 1, (int64_t[4]){c}, norm[i].low, norm[i].span);
    }
    m->ended = m->last && !strcmp(module, m->last);
}

static void add_a(made *m, const char *p, int in, int pool)
{
    add_unit(m, p, "branch1x1", in, 64, 1, 1);
    add_unit(m, p, "branch5x5_1", in, 48, 1, 1);
    add_unit(m, p, "branch5x5_2", 48, 64, 5, 5);
    add_unit(m, p, "branch3x3dbl_1", in, 64, 1, 1);
    add_unit(m, p, "branch3x3dbl_2", 64, 96, 3, 3);
    add_unit(m, p, "branch3x3dbl_3", 96, 96, 3, 3);
    add_unit(m, p, "branch_pool", in, pool, 1, 1);
}

static void add_b(made *m, const char *p, int in)
{
    add_unit(m, p, "branch3x3", in, 384, 3, 3);
    add_unit(m, p, "branch3x3dbl_1", in, 64, 1, 1);
    add_unit(m, p, "branch3x3dbl_2", 64, 96, 3, 3);
    add_unit(m, p, "branch3x3dbl_3", 96, 96, 3, 3);
}

static void add_c(made *m, const char *p, int in, int n)
{
    add_unit(m, p, "branch1x1", in, 192, 1, 1);
    add_unit(m, p, "branch7x7_1", in, n, 1, 1);
    add_unit(m, p, "branch7x7_2", n, n, 1, 7);
    add_unit(m, p, "branch7x7_3", n, 192, 7, 1);
    add_unit(m, p, "branch7x7dbl_1", in, n, 1, 1);
    add_unit(m, p, "branch7x7dbl_2", n, n, 7, 1);
    add_unit(m, p, "branch7x7dbl_3", n, n, 1, 7);
    add_unit(m, p, "branch7x7dbl_4", n, n, 7, 1);
    add_unit(m, p, "branch7x7dbl_5", n, 192, 1, 7);
    add_unit(m, p, "branch_pool", in, 192, 1, 1);
}

static void add_d(made *m, const char *p, int in)
{
    add_unit(m, p, "branch3x3_1", in, 192, 1, 1);
    add_unit(m, p, "branch3x3_2", 192, 320, 3, 3);
    add_unit(m, p, "branch7x7x3_1", in, 192, 1, 1);
    add_unit(m, p, "branch7x7x3_2", 192, 192, 1, 7);
    add_unit(m, p, "branch7x7x3_3", 192, 192, 7, 1);
    add_unit(m, p, "branch7x7x3_4", 192, 192, 3, 3);
}

static void add_e(made *m, const char *p, int in)
{
    add_unit(m, p, "branch1x1", in, 320, 1, 1);
    add_unit(m, p, "branch3x3_1", in, 384, 1, 1);
    add_unit(m, p, "branch3x3_2a", 384, 384, 1, 3);
    add_unit(m, p, "branch3x3_2b", 384, 384, 3, 1);
    add_unit(m, p, "branch3x3dbl_1", in, 448, 1, 1);
    add_unit(m, p, "branch3x3dbl_2", 448, 384, 3, 3);
    add_unit(m, p, "branch3x3dbl_3a", 384, 384, 1, 3);
    add_unit(m, p, "branch3x3dbl_3b", 384, 384, 3, 1);
    add_unit(m, p, "branch_pool", in, 192, 1, 1);
}

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    return path;
}

// Write the network that `m` describes; returns its path, in one static buffer.
static const char *make_file(made m, const char *file)
{
    m.w = yd_st_writer_new();
    add_unit(&m, "", "Conv2d_1a_3x3", 3, 32, 3, 3);
    add_unit(&m, "", "Conv2d_2a_3x3", 32, 32, 3, 3);
    add_unit(&m, "", "Conv2d_2b_3x3", 32, 64, 3, 3);
    add_unit(&m, "", "Conv2d_3b_1x1", 64, 80, 1, 1);
    add_unit(&m, "", "Conv2d_4a_3x3", 80, 192, 3, 3);
    add_a(&m, "Mixed_5b.", 192, 32);
    add_a(&m, "Mixed_5c.", 256, 64);
    add_a(&m, "Mixed_5d.", 288, 64);
    add_b(&m, "Mixed_6a.", 288);
    add_c(&m, "Mixed_6b.", 768, 128);
    add_c(&m, "Mixed_6c.", 768, 160);
    add_c(&m, "Mixed_6d.", 768, 160);
    add_c(&m, "Mixed_6e.", 768, 192);
    add_d(&m, "Mixed_7a.", 768);
    add_e(&m, "Mixed_7b.", 1280);
    add_e(&m, "Mixed_7c.", 2048);
    CHECK(yd_st_writer_save(m.w, path_of(file), NULL) == 0);
    yd_st_writer_free(m.w);
    for (int i = 0; i < m.n; i++) free(m.kept[i]);
    return path_of(file);
}

// ---- the whole network

static void draw(uint8_t *rgb, int w, int h, int seed)
{
    for (int y = 0, i = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int base[3] = {x * 190 / w, y * 190 / h, (x * 7 + y * 3 + 40 * seed) % 190};
            for (int c = 0; c < 3; c++, i++) rgb[i] = (uint8_t)(base[c] + (int)(mixed((uint32_t)i, (uint32_t)seed) * 64));
        }
}

static void test_whole(void)
{
    // Every 128th feature: tests/oracle/inception.py --print
    static const struct {
        int w, h, seed;
        float v[16];
    } want[3] = {
        {64, 48, 1,
         {0.003903687f, 0.1378965f, 0.0009858644f, 0.02932222f, 0.02086727f, 0.313243f, 0.07450095f, 1.212009f, 0.5829621f, 1.730129f,
          0.1282415f, 0.2060949f, 0.09261492f, 0.3529805f, 0.9999291f, 0.0f}},
        {299, 299, 2,
         {0.02582168f, 0.161556f, 0.0f, 0.09365846f, 0.05784252f, 0.5254633f, 0.1223397f, 1.944586f, 1.02259f, 2.351791f, 0.1892459f,
          0.2452004f, 0.1239282f, 0.7458661f, 1.394427f, 0.0f}},
        {400, 310, 3,
         {0.02422611f, 0.1067591f, 0.0f, 0.0694337f, 0.04549498f, 0.4865723f, 0.1257497f, 1.765825f, 0.9470828f, 2.169406f, 0.1762178f,
          0.2368819f, 0.1407392f, 0.6773694f, 1.281045f, 0.0f}},
    };
    static uint8_t rgb[400 * 310 * 3];
    static float x[YD_INCEPTION_FEATURES], again[YD_INCEPTION_FEATURES];
    yd_inception *p = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_inception_open(make_file((made){0}, "whole"), &p, &err) == 0, "%s", err.detail);
    if (!p) return;
    for (int i = 0; i < 3; i++) {
        float got[16];
        draw(rgb, want[i].w, want[i].h, want[i].seed);
        CHECK_MSG(yd_inception_features(p, rgb, want[i].w, want[i].h, x, &err) == 0, "%s", err.detail);
        for (int k = 0; k < 16; k++) got[k] = x[128 * k];
        double apart = t_rel_diff(got, want[i].v, 16);
        CHECK_MSG(apart < 1e-5, "%d x %d: %g apart", want[i].w, want[i].h, apart);
    }
    const int before = omp_get_max_threads();
    omp_set_num_threads(before == 1 ? 2 : 1);
    CHECK(yd_inception_features(p, rgb, 400, 310, again, NULL) == 0 && !memcmp(x, again, sizeof x));
    omp_set_num_threads(before);
    yd_inception_close(p);
}

// ---- what is refused

static void check_refused(made m, const char *field, const char *accepted, const char *says)
{
    yd_inception *p = NULL;
    yd_err err = {0};
    if (!m.last) m.last = "Conv2d_2b_3x3"; // enough to see it by
    CHECK(yd_inception_open(make_file(m, "refused"), &p, &err) == YD_E_CHECKPOINT && p == NULL);
    CHECK_MSG(!strcmp(err.field, field) && !strcmp(err.accepted, accepted) && strstr(err.detail, says), "%s (%s): %s", err.field,
              err.accepted, err.detail);
}

static void test_refused(void)
{
    yd_inception *p = NULL;
    yd_err err = {0};
    CHECK(yd_inception_open("/nonexistent/fid.safetensors", &p, &err) == YD_E_IO && strstr(err.detail, "/nonexistent/fid"));
    check_refused((made){.left_out = "Conv2d_2a_3x3.conv.weight"}, "Conv2d_2a_3x3.conv.weight", "shape [32, 32, 3, 3]", "missing");
    check_refused((made){.left_out = "Conv2d_2a_3x3.bn.running_var"}, "Conv2d_2a_3x3.bn.running_var", "shape [32]", "missing");
    check_refused((made){.bent = "Conv2d_2b_3x3.conv.weight"}, "Conv2d_2b_3x3.conv.weight", "shape [64, 32, 3, 3]", "does not have");
    check_refused((made){.bent = "Conv2d_1a_3x3.bn.bias"}, "Conv2d_1a_3x3.bn.bias", "shape [32]", "does not have");
    check_refused((made){.negative = "Conv2d_1a_3x3.bn.running_var"}, "Conv2d_1a_3x3.bn.running_var",
                  "finite numbers, variances of 0 or more", "'Conv2d_1a_3x3.bn' of channel 0");
    check_refused((made){0}, "Conv2d_3b_1x1.conv.weight", "shape [80, 64, 1, 1]", "missing");
    check_refused((made){.last = "branch5x5_1"}, "Mixed_5b.branch5x5_2.conv.weight", "shape [64, 48, 5, 5]", "missing");
}

static void test_no_memory(void)
{
    static const long at[] = {1, 2, 3, 4, 20, 21, 22, 23, 24, 25, 26, 300};
    yd_inception *p = NULL;
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        yd_mem_fail_at(at[i]);
        int rc = yd_inception_open(path_of("whole"), &p, NULL);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == YD_E_NOMEM && p == NULL, "allocation %ld: %d", at[i], rc);
    }
}

// ---- for tests/oracle/inception.py

static int print_features(char **argv)
{
    static float x[YD_INCEPTION_FEATURES];
    const int w = (int)strtol(argv[4], NULL, 10), h = (int)strtol(argv[5], NULL, 10);
    const size_t bytes = (size_t)w * (size_t)h * 3;
    uint8_t *rgb = malloc(bytes);
    FILE *f = fopen(argv[3], "rb");
    yd_inception *p = NULL;
    yd_err err = {0};
    int ok = f && rgb && fread(rgb, 1, bytes, f) == bytes && yd_inception_open(argv[2], &p, &err) == 0 &&
             yd_inception_features(p, rgb, w, h, x, &err) == 0;
    for (int i = 0; i < YD_INCEPTION_FEATURES && ok; i++) printf("%.9g\n", (double)x[i]);
    if (!ok) fprintf(stderr, "no features of %s: %s\n", argv[3], err.detail);
    yd_inception_close(p);
    if (f) fclose(f);
    free(rgb);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"inception: mean pools do not count their padding", test_mean_pool},
        {"inception: padded maxima", test_max_pool},
        {"inception: kernels across and down", test_oblong},
        {"inception: joins of many", test_join},
        {"inception: folding a normalisation", test_fold},
        {"inception: resizing", test_resize},
        {"inception: the whole network against PyTorch's numbers", test_whole},
        {"inception: out of memory", test_no_memory},
        {"inception: files that are refused", test_refused},
    };
    if (argc == 6 && !strcmp(argv[1], "--features")) return print_features(argv);
    if (!mkdtemp(folder)) return 1;
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    unlink(path_of("whole"));
    unlink(path_of("refused"));
    rmdir(folder);
    return rc;
}
