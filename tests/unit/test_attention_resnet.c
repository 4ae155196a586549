// ResNets and SqueezeNet as attention networks: whole networks against plain loops in double, what does not depend on what, files that lie.
#include "core/attention_net.h"

#include "core/agf.h"
#include "core/attention/blur.h"
#include "core/mem.h"
#include "core/resnet.h"
#include "core/tensors.h"
#include "tests/oracle/resnet.h"
#include "tests/unit/t.h"

#include <omp.h>
#include <unistd.h>

#define TOLERANCE 2e-5

static char folder[] = "/tmp/yd-test-resnet-XXXXXX";
static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f};

static const char *path_of(const char *name)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, name);
    return path;
}

static uint32_t state = 7;

// Smooth blobs and some noise, 0..1, h*w*3.
static float *draw(int w, int h)
{
    float *rgb = calloc((size_t)(w * h * 3), sizeof *rgb);
    for (int i = 0; i < w * h * 3; i++) {
        state = state * 1664525u + 1013904223u;
        const int p = i / 3, c = i % 3;
        const double wave = 0.5 + 0.35 * sin(0.31 * (p % w) * (c + 1)) * cos(0.17 * (p / w) + c);
        rgb[i] = (float)(wave + 0.14 * (double)(state >> 8) / 16777216.0);
    }
    return rgb;
}

static oracle_map shown(const float *rgb, int w, int h)
{
    oracle_map x = oracle_map_new(3, h, w);
    for (int i = 0; i < w * h * 3; i++) x.v[i % 3 * w * h + i / 3] = (double)((rgb[i] - mean[i % 3]) / deviation[i % 3]);
    return x;
}

static yd_attention_net *open_file(const char *path)
{
    yd_attention_net *net = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_attention_net_open(path, NULL, &net, &err) == 0, "%s", err.detail);
    return net;
}

// The raw maps of one picture, new; NULL when it failed.
static float *maps_of(yd_attention_net *net, int variant, const float *rgb, int w, int h, size_t *count)
{
    yd_err err = {0};
    int gw, gh;
    yd_attention_net_grid(net, variant, w, h, &gw, &gh);
    *count = (size_t)yd_attention_net_info_of(net)->variant[variant].heads * (size_t)gw * (size_t)gh;
    float *raw = calloc(*count, sizeof *raw);
    const int rc = yd_attention_net_run(net, variant, 1, w, h, (const float *const[1]){rgb}, (float *const[1]){raw}, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    return raw;
}

static float *floats(const double *v, size_t n)
{
    float *f = calloc(n, sizeof *f);
    for (size_t i = 0; i < n; i++) f[i] = (float)v[i];
    return f;
}

// ---- a tiny ResNet

enum { LAST, AGF, AGF_SMOOTH, LAYER3 };

static const int sizes[][2] = {{32, 32}, {50, 37}, {64, 96}, {1, 1}, {7, 33}}; // w, h

static void test_info(void)
{
    yd_attention_net *net = open_file(path_of("tiny"));
    if (!net) return;
    const yd_attention_net_info *i = yd_attention_net_info_of(net);
    CHECK_MSG(i->kind == YD_ATTENTION_RESNET50 && !strcmp(i->name, "resnet2x1x2x1-33"), "%s", i->name);
    CHECK(i->multiple == 1 && i->min_side == 1 && i->depth == 6 && i->dim == 33 && i->n_variants == 4);
    static const int strides[4] = {32, 1, 1, 16};
    static const char *const words[4] = {"", "agf", "agf-smooth", "layer3"};
    for (int v = 0; v < 4; v++) {
        CHECK(!strcmp(i->variant[v].word, words[v]) && i->variant[v].heads == 6 && i->variant[v].stride == strides[v]);
        CHECK(i->variant[v].norm == (v == AGF || v == AGF_SMOOTH ? YD_ATTENTION_NORM_P99 : YD_ATTENTION_NORM_MINMAX));
    }
    int gw, gh;
    yd_attention_net_grid(net, LAST, 224, 100, &gw, &gh);
    CHECK(gw == 7 && gh == 4);
    yd_attention_net_grid(net, LAYER3, 224, 100, &gw, &gh);
    CHECK(gw == 14 && gh == 7);
    yd_attention_net_grid(net, AGF, 224, 100, &gw, &gh);
    CHECK(gw == 224 && gh == 100);
    yd_attention_net_close(net);
}

static void check_pooled(yd_attention_net *net, const oracle_resnet *o, int w, int h, int variant)
{
    size_t count;
    float *rgb = draw(w, h), *raw = maps_of(net, variant, rgb, w, h, &count);
    oracle_map x = shown(rgb, w, h), z = oracle_resnet_stage(o, &x, variant == LAST ? 4 : 3);
    double *s = oracle_pooled_query(&z, 6);
    CHECK(count == (size_t)(6 * z.h * z.w));
    float *want = floats(s, count);
    const double apart = t_rel_diff(raw, want, count);
    CHECK_MSG(apart < TOLERANCE, "%d x %d, variant %d: %g apart", w, h, variant, apart);
    free(rgb), free(raw), free(s), free(want);
    oracle_map_free(&x), oracle_map_free(&z);
}

static oracle_resnet *open_oracle(const char *path, const char *prefix, const oracle_resnet_shape *s)
{
    yd_safetensors *st = NULL;
    CHECK(yd_st_open(path, &st, NULL) == 0);
    oracle_resnet *o = st ? oracle_resnet_open(st, prefix, s) : NULL;
    yd_st_close(st);
    return o;
}

static void test_pooled(void)
{
    yd_attention_net *net = open_file(path_of("tiny"));
    oracle_resnet *o = open_oracle(path_of("tiny"), "", &oracle_resnet_tiny);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && net && o; i++)
        for (int v = LAST; v <= LAYER3; v += LAYER3) check_pooled(net, o, sizes[i][0], sizes[i][1], v);
    yd_attention_net_close(net);
    oracle_resnet_close(o);
}

static void check_agf(yd_attention_net *net, const oracle_resnet *o, int w, int h)
{
    size_t count;
    float *rgb = draw(w, h), *raw = maps_of(net, AGF, rgb, w, h, &count);
    oracle_map x = shown(rgb, w, h);
    const size_t places = (size_t)(w * h);
    double *map = calloc(places, sizeof *map), most = 0, low = 0;
    for (int k = 0; k < 6; k++) {
        oracle_resnet_agf(o, &x, k, map);
        float *want = floats(map, places);
        const double apart = t_rel_diff(raw + (size_t)k * places, want, places);
        CHECK_MSG(apart < TOLERANCE, "%d x %d, head %d: %g apart", w, h, k, apart);
        for (size_t p = 0; p < places; p++) most = fmax(most, map[p]), low = fmin(low, map[p]);
        free(want);
    }
    CHECK_MSG((most > 0.1 && low < -0.1) || places == 1, "a map from %g to %g", low, most);
    free(rgb), free(raw), free(map);
    oracle_map_free(&x);
}

static void test_agf(void)
{
    yd_attention_net *net = open_file(path_of("tiny"));
    oracle_resnet *o = open_oracle(path_of("tiny"), "", &oracle_resnet_tiny);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && net && o; i++) check_agf(net, o, sizes[i][0], sizes[i][1]);
    yd_attention_net_close(net);
    oracle_resnet_close(o);
}

static void test_smooth(void)
{
    yd_attention_net *net = open_file(path_of("tiny"));
    if (!net) return;
    const int w = 40, h = 24;
    size_t count;
    float *rgb = draw(w, h), *plain = maps_of(net, AGF, rgb, w, h, &count), *smooth = maps_of(net, AGF_SMOOTH, rgb, w, h, &count);
    for (size_t i = 0; i < count; i++) plain[i] = plain[i] > 0 ? plain[i] : 0;
    for (size_t k = 0; k < 6; k++) CHECK(yd_blur_gaussian(plain + k * count / 6, w, h, 2.0, NULL) == 0);
    CHECK(!memcmp(plain, smooth, count * sizeof *plain));
    free(rgb), free(plain), free(smooth);
    yd_attention_net_close(net);
}

// ---- what does not depend on what

// Alone, in a batch, after a picture of another size, with one to most_threads threads.
static void check_same(const char *path, int variants, int w, int h, int most_threads)
{
    yd_attention_net *net = open_file(path);
    const int before = omp_get_max_threads();
    float *rgb = draw(w, h), *other = draw(w, h);
    for (int v = LAST; v < variants && net; v++) {
        size_t count;
        omp_set_num_threads(1);
        float *first = maps_of(net, v, rgb, w, h, &count);
        float *batch[3] = {calloc(count, sizeof *first), calloc(count, sizeof *first), calloc(count, sizeof *first)};
        const float *const pictures[3] = {other, rgb, rgb};
        for (int threads = 2; threads <= most_threads; threads++) {
            size_t less;
            omp_set_num_threads(threads);
            free(maps_of(net, v, other, w - 5, h - 3, &less));
            CHECK(yd_attention_net_run(net, v, 3, w, h, pictures, (float *const[3]){batch[0], batch[1], batch[2]}, NULL) == 0);
            for (int i = 1; i < 3; i++)
                CHECK_MSG(!memcmp(batch[i], first, count * sizeof *first), "%d threads, variant %d, picture %d", threads, v, i);
            CHECK(memcmp(batch[0], first, count * sizeof *first) != 0);
        }
        free(first);
        for (int i = 0; i < 3; i++) free(batch[i]);
    }
    omp_set_num_threads(before);
    free(rgb), free(other);
    yd_attention_net_close(net);
}

// Heads that go back together do not see each other.
static void check_together(const char *path, int w, int h)
{
    yd_safetensors *st = NULL;
    yd_resnet net;
    yd_err err = {0};
    CHECK(yd_st_open(path, &st, NULL) == 0);
    const yd_attention_tensors t = {.st = st};
    CHECK_MSG(yd_resnet_read(&t, &net, &err) == 0, "%s", err.detail);
    yd_st_close(st);
    float *rgb = draw(w, h), *first = NULL;
    for (int together = 1; together <= 6; together++) {
        yd_agf *a = NULL;
        if (together == 2 || 6 % together) continue;
        float *maps = calloc((size_t)(6 * w * h), sizeof *maps);
        CHECK_MSG(yd_agf_new(net.steps, net.n_steps, 6, together, &a, &err) == 0 && yd_agf_prepare(a, h, w, &err) == 0, "%s", err.detail);
        memcpy(yd_agf_input(a), rgb, (size_t)(3 * w * h) * sizeof *rgb);
        CHECK(yd_agf_run(a, maps, &err) == 0);
        yd_agf_free(a);
        if (!first) {
            first = maps;
            continue;
        }
        CHECK_MSG(!memcmp(maps, first, (size_t)(6 * w * h) * sizeof *maps), "%d together", together);
        free(maps);
    }
    free(rgb), free(first);
    yd_resnet_clear(&net);
}

static void test_same(void)
{
    check_same(path_of("tiny"), LAYER3 + 1, 61, 45, 3);
    check_together(path_of("tiny"), 33, 40);
}

static void test_full_size(void)
{
    if (oracle_resnet_write(path_of("full"), "", &oracle_resnet50, 3, NULL)) {
        CHECK(0);
        return;
    }
    yd_attention_net *net = open_file(path_of("full"));
    const yd_attention_net_info *i = net ? yd_attention_net_info_of(net) : NULL;
    CHECK(i && !strcmp(i->name, "resnet50") && i->params == 23508032 + 26560 * 2 && i->dim == 2048 && i->depth == 16);
    yd_attention_net_close(net);
#ifndef YD_SANITIZE
    check_same(path_of("full"), AGF + 1, 50, 65, 2);
    check_together(path_of("full"), 64, 48);
#endif
    unlink(path_of("full"));
}

// ---- names and files

static void test_prefixes(void)
{
    static const char *const prefixes[] = {"module.", "backbone.", "module.backbone.", "teacher.backbone."};
    size_t count;
    float *rgb = draw(40, 40);
    yd_attention_net *net = open_file(path_of("tiny"));
    float *want = maps_of(net, LAST, rgb, 40, 40, &count);
    yd_attention_net_close(net);
    for (int i = 0; i < 4; i++) {
        CHECK(oracle_resnet_write(path_of("named"), prefixes[i], &oracle_resnet_tiny, 1, NULL) == 0);
        net = open_file(path_of("named"));
        if (!net) continue;
        float *raw = maps_of(net, LAST, rgb, 40, 40, &count);
        CHECK_MSG(!memcmp(raw, want, count * sizeof *raw), "%s", prefixes[i]);
        free(raw);
        yd_attention_net_close(net);
    }
    free(rgb), free(want);
}

static void check_refused(const char *broken, const char *field, const char *accepted, const char *says)
{
    yd_attention_net *net = NULL;
    yd_err err = {0};
    CHECK(oracle_resnet_write(path_of("broken"), "", &oracle_resnet_tiny, 1, broken) == 0);
    CHECK_MSG(yd_attention_net_open(path_of("broken"), NULL, &net, &err) == YD_E_CHECKPOINT && !net, "%s", broken);
    CHECK_MSG(!strcmp(err.field, field) && !strcmp(err.accepted, accepted) && strstr(err.detail, says), "%s: %s (%s): %s", broken,
              err.field, err.accepted, err.detail);
}

static void test_refused(void)
{
    check_refused("layer2.0.conv2.weight", "layer2.0.conv2.weight", "shape [128, 8, 3, 3]", "missing");
    check_refused("layer4.0.conv1.weight", "layer4.0.conv1.weight", "shape [512, 24, 1, 1]", "missing");
    check_refused("layer1.1.bn3.running_var", "layer1.1.bn3.running_var", "shape [12]", "missing");
    check_refused("layer3.0.downsample.0.weight", "layer3.0.downsample.0.weight", "shape [24, 16, 1, 1]", "missing");
    check_refused("+layer3.0.downsample.0.weight", "layer3.0.downsample.0.weight", "shape [24, 16, 1, 1]", "does not have");
    check_refused("+layer3.1.conv3.weight", "layer3.1.conv3.weight", "shape [24, 8, 1, 1]", "does not have");
    check_refused("+layer1.1.conv2.weight", "layer1.1.bn2.weight", "shape [6]", "does not have");
    check_refused("-bn1.running_var", "bn1", "finite numbers, variances of 0 or more", "channel 0");
    yd_attention_net *net = NULL;
    yd_err err = {0};
    oracle_resnet_shape deep = oracle_resnet_tiny;
    deep.blocks[2] = 30;
    CHECK(oracle_resnet_write(path_of("broken"), "", &deep, 1, NULL) == 0);
    CHECK(yd_attention_net_open(path_of("broken"), NULL, &net, &err) == YD_E_CHECKPOINT && strstr(err.detail, "too many blocks"));
}

static void test_no_memory(void)
{
    int failed = 0;
    for (long at = 1; at < 3000; at += at < 10 ? 1 : at < 100 ? 13 : 251) {
        yd_attention_net *net = NULL;
        float *rgb = draw(40, 33), *raw = calloc(6 * 40 * 33, sizeof *raw);
        yd_mem_fail_at(at);
        int rc = yd_attention_net_open(path_of("tiny"), NULL, &net, NULL);
        if (!rc) rc = yd_attention_net_run(net, AGF_SMOOTH, 1, 40, 33, (const float *const[1]){rgb}, (float *const[1]){raw}, NULL);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == 0 || rc == YD_E_NOMEM, "allocation %ld: %d", at, rc);
        failed += rc != 0;
        // A net that was short of memory works when there is some again.
        if (net) CHECK(yd_attention_net_run(net, AGF, 1, 40, 33, (const float *const[1]){rgb}, (float *const[1]){raw}, NULL) == 0);
        yd_attention_net_close(net);
        free(rgb), free(raw);
    }
    CHECK_MSG(failed > 14, "%d", failed);
}

// ---- SqueezeNet

static const struct {
    int number, squeeze, c;
} fires[] = {{3, 16, 64}, {4, 16, 64}, {6, 32, 128}, {7, 32, 128}, {9, 48, 192}, {10, 48, 192}, {11, 64, 256}, {12, 64, 256}};

static void add_tensor(yd_st_writer *w, float **kept, int *n, const char *module, int c, int in_c, int k)
{
    char name[80];
    float *v = kept[(*n)++] = calloc((size_t)(c * in_c * k * k + c), sizeof *v);
    for (int i = 0; i < c * in_c * k * k + c; i++) {
        state = state * 1664525u + 1013904223u;
        v[i] = (float)(((double)(state >> 8) / 8388608.0 - 1) * sqrt(6.0 / (in_c * k * k)));
    }
    snprintf(name, sizeof name, "%s.weight", module);
    CHECK(yd_st_writer_add(w, name, YD_ST_F32, 4, (int64_t[4]){c, in_c, k, k}, v, NULL) == 0);
    snprintf(name, sizeof name, "%s.bias", module);
    CHECK(yd_st_writer_add(w, name, YD_ST_F32, 1, (int64_t[1]){c}, v + c * in_c * k * k, NULL) == 0);
}

static void write_squeezenet(const char *path)
{
    yd_st_writer *w = yd_st_writer_new();
    float *kept[40];
    int n = 0, c = 64;
    char module[64];
    add_tensor(w, kept, &n, "features.0", 64, 3, 3);
    for (size_t i = 0; i < sizeof fires / sizeof *fires; i++) {
        snprintf(module, sizeof module, "features.%d.squeeze", fires[i].number);
        add_tensor(w, kept, &n, module, fires[i].squeeze, c, 1);
        snprintf(module, sizeof module, "features.%d.expand1x1", fires[i].number);
        add_tensor(w, kept, &n, module, fires[i].c, fires[i].squeeze, 1);
        snprintf(module, sizeof module, "features.%d.expand3x3", fires[i].number);
        add_tensor(w, kept, &n, module, fires[i].c, fires[i].squeeze, 3);
        c = 2 * fires[i].c;
    }
    CHECK(yd_st_writer_save(w, path, NULL) == 0);
    yd_st_writer_free(w);
    while (n) free(kept[--n]);
}

static oracle_map conv_relu(const yd_safetensors *st, const char *prefix, const char *module, const oracle_map *x, int stride)
{
    char name[96];
    snprintf(name, sizeof name, "%s%s.weight", prefix, module);
    const yd_st_tensor *t = yd_st_find(st, name);
    snprintf(name, sizeof name, "%s%s.bias", prefix, module);
    const yd_st_tensor *b = yd_st_find(st, name);
    float *w = calloc(t->numel, sizeof *w), *bias = calloc(b->numel, sizeof *bias);
    CHECK(yd_st_to_f32(t, w, NULL) == 0 && yd_st_to_f32(b, bias, NULL) == 0);
    oracle_filter f = {
        (int)t->dims[0], (int)t->dims[1], (int)t->dims[2], stride, stride == 1 ? (int)t->dims[2] / 2 : 0, calloc(t->numel, sizeof(double))};
    for (size_t i = 0; i < t->numel; i++) f.w[i] = w[i];
    oracle_map y = oracle_conv_map(x, &f);
    for (int i = 0; i < y.c * y.h * y.w; i++) y.v[i] = fmax(0, y.v[i] + bias[i / (y.h * y.w)]);
    free(w), free(bias), free(f.w);
    return y;
}

static oracle_map squeeze_pool(oracle_map x)
{
    oracle_map y = oracle_map_new(x.c, (x.h - 2) / 2 + (x.h % 2 || x.h < 3 ? 0 : 1), 0);
    y.h = 0;
    for (int r = 0; r < x.h && (r == 0 || r - 2 + 3 < x.h); r += 2) y.h++; // the last window may hang over
    for (int r = 0; r < x.w && (r == 0 || r - 2 + 3 < x.w); r += 2) y.w++;
    oracle_map out = oracle_map_new(x.c, y.h, y.w);
    for (int c = 0; c < x.c; c++)
        for (int r = 0; r < y.h; r++)
            for (int q = 0; q < y.w; q++) {
                double best = 0; // everything is above
                for (int a = 2 * r; a < 2 * r + 3 && a < x.h; a++)
                    for (int b = 2 * q; b < 2 * q + 3 && b < x.w; b++) best = fmax(best, *oracle_map_at(&x, c, a, b));
                *oracle_map_at(&out, c, r, q) = best;
            }
    oracle_map_free(&y), oracle_map_free(&x);
    return out;
}

static oracle_map squeeze_features(const yd_safetensors *st, const char *prefix, const oracle_map *x)
{
    char module[64];
    oracle_map y = squeeze_pool(conv_relu(st, prefix, "0", x, 2));
    for (size_t i = 0; i < sizeof fires / sizeof *fires; i++) {
        if (i && fires[i].number - fires[i - 1].number == 2) y = squeeze_pool(y);
        snprintf(module, sizeof module, "%d.squeeze", fires[i].number);
        oracle_map s = conv_relu(st, prefix, module, &y, 1);
        snprintf(module, sizeof module, "%d.expand1x1", fires[i].number);
        oracle_map a = conv_relu(st, prefix, module, &s, 1);
        snprintf(module, sizeof module, "%d.expand3x3", fires[i].number);
        oracle_map b = conv_relu(st, prefix, module, &s, 1);
        oracle_map_free(&y), oracle_map_free(&s);
        y = oracle_map_new(a.c + b.c, a.h, a.w);
        const size_t half = (size_t)(a.c * a.h * a.w);
        memcpy(y.v, a.v, half * sizeof *y.v);
        memcpy(y.v + half, b.v, half * sizeof *y.v);
        oracle_map_free(&a), oracle_map_free(&b);
    }
    return y;
}

static void check_squeezenet(const char *path, const char *prefix, int w, int h)
{
    yd_safetensors *st = NULL;
    yd_attention_net *net = open_file(path);
    CHECK(yd_st_open(path, &st, NULL) == 0);
    if (!net || !st) return;
    const yd_attention_net_info *i = yd_attention_net_info_of(net);
    CHECK(i->kind == YD_ATTENTION_SQUEEZENET && !strcmp(i->name, "squeezenet") && i->n_variants == 1 && i->variant[0].heads == 6);
    CHECK(i->params == 722496);
    size_t count;
    float *rgb = draw(w, h), *raw = maps_of(net, 0, rgb, w, h, &count);
    oracle_map x = shown(rgb, w, h), z = squeeze_features(st, prefix, &x);
    double *s = oracle_pooled_query(&z, 6);
    CHECK(count == (size_t)(6 * z.h * z.w));
    float *want = floats(s, count);
    const double apart = t_rel_diff(raw, want, count);
    CHECK_MSG(apart < TOLERANCE, "%d x %d: %g apart", w, h, apart);
    free(rgb), free(raw), free(s), free(want);
    oracle_map_free(&x), oracle_map_free(&z);
    yd_st_close(st);
    yd_attention_net_close(net);
}

static void test_squeezenet(void)
{
    write_squeezenet(path_of("squeeze"));
    yd_attention_net *net = open_file(path_of("squeeze"));
    const int least = net ? yd_attention_net_info_of(net)->min_side : 0;
    int gw, gh;
    if (net) yd_attention_net_grid(net, 0, 224, 224, &gw, &gh);
    CHECK(net && gw == 13 && gh == 13 && least > 1);
    yd_attention_net_close(net);
    check_squeezenet(path_of("squeeze"), "features.", 64, 48);
    check_squeezenet(path_of("squeeze"), "features.", 51, 75);
    check_squeezenet(path_of("squeeze"), "features.", least, least);
}

static void test_squeezenet_real(void)
{
    const char *found = t_shared("data/weights/lpips_squeeze_v0.1.safetensors");
    if (!found) {
        t_skip("no weights of SqueezeNet");
        return;
    }
    char path[1024];
    snprintf(path, sizeof path, "%s", found);
    check_squeezenet(path, "net.", 80, 64);
    const char *backbone = t_shared("data/weights/squeeze.backbone.pth");
    if (!backbone) return;
    float *rgb = draw(90, 70), *raw[2];
    size_t count[2];
    for (int i = 0; i < 2; i++) { // the same weights in torch.save's container
        yd_attention_net *net = NULL;
        yd_safetensors *st = NULL;
        yd_err err = {0};
        CHECK_MSG(yd_tensors_open(i ? backbone : path, &st, &err) == 0 && yd_attention_net_open_tensors(st, NULL, &net, &err) == 0, "%s",
                  err.detail);
        raw[i] = net ? maps_of(net, 0, rgb, 90, 70, &count[i]) : NULL;
        yd_attention_net_close(net);
        yd_st_close(st);
    }
    CHECK(raw[0] && raw[1] && count[0] == count[1] && !memcmp(raw[0], raw[1], count[0] * sizeof **raw));
    free(rgb), free(raw[0]), free(raw[1]);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"resnet: what it says of itself", test_info},
        {"resnet: pooled query against plain loops", test_pooled},
        {"resnet: attribution against plain loops", test_agf},
        {"resnet: attribution smoothed", test_smooth},
        {"resnet: the same bytes with any threads, batch and order", test_same},
        {"resnet: full size", test_full_size},
        {"resnet: names with prefixes", test_prefixes},
        {"resnet: files that are refused", test_refused},
        {"resnet: out of memory", test_no_memory},
        {"squeezenet: pooled query against plain loops", test_squeezenet},
        {"squeezenet: with its own weights", test_squeezenet_real},
    };
    if (!mkdtemp(folder) || oracle_resnet_write(path_of("tiny"), "", &oracle_resnet_tiny, 1, NULL)) return 1;
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    static const char *const files[] = {"tiny", "named", "broken", "squeeze"};
    for (int i = 0; i < 4; i++) unlink(path_of(files[i]));
    rmdir(folder);
    return rc;
}
