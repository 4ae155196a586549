// LPIPS: the published network against numbers of the original, all three trunks with random weights against plain loops, distances
// per attention against pictures masked by hand, and what is refused.
#include "core/perceptual.h"

#include "core/mem.h"
#include "tests/oracle/lpips.h"
#include "tests/unit/t.h"

#include <omp.h>
#include <unistd.h>

static char folder[] = "/tmp/yd-test-lpips-XXXXXX";

static uint32_t next(uint32_t *s)
{
    return *s = *s * 1664525u + 1013904223u;
}

static void noise(uint8_t *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(next(&seed) >> 24);
}

// ---- weight files

typedef struct made {
    yd_st_writer *w;
    float *kept[64];
    int n;
    uint32_t seed;
    const char *left_out; // a tensor that is not written, or NULL
    const char *bent;     // one that gets a channel too many, or NULL
} made;

// Uniform numbers around 0 (or, with from0, above it) whose spread keeps the sizes of maps alike from layer to layer.
static void add(made *m, const char *name, int o, int i, int k, int from0)
{
    if (m->left_out && !strcmp(name, m->left_out)) return;
    if (m->bent && !strcmp(name, m->bent)) o++;
    size_t n = (size_t)o * (size_t)(i ? i * k * k : 1);
    float *v = m->kept[m->n++] = malloc(n * sizeof *v), most = i && !from0 ? sqrtf(6.0f / (float)(i * k * k)) : 0.5f;
    for (size_t j = 0; j < n; j++) v[j] = most * ((float)(next(&m->seed) >> 8) / 8388608.0f - (from0 ? 0.0f : 1.0f));
    CHECK(yd_st_writer_add(m->w, name, YD_ST_F32, i ? 4 : 1, (const int64_t[]){o, i, k, k}, v, NULL) == 0);
}

static void add_conv(made *m, const char *module, int o, int i, int k)
{
    char name[80];
    snprintf(name, sizeof name, "%s.weight", module);
    add(m, name, o, i, k, 0);
    snprintf(name, sizeof name, "%s.bias", module);
    add(m, name, o, 0, 0, 0);
}

static void add_squeeze(made *m, const char *prefix)
{
    static const int fires[][4] = {{3, 64, 16, 64},   {4, 128, 16, 64},   {6, 128, 32, 128},  {7, 256, 32, 128},
                                   {9, 256, 48, 192}, {10, 384, 48, 192}, {11, 384, 64, 256}, {12, 512, 64, 256}};
    char name[64];
    snprintf(name, sizeof name, "%s0", prefix);
    add_conv(m, name, 64, 3, 3);
    for (int f = 0; f < 8; f++) {
        snprintf(name, sizeof name, "%s%d.squeeze", prefix, fires[f][0]);
        add_conv(m, name, fires[f][2], fires[f][1], 1);
        snprintf(name, sizeof name, "%s%d.expand1x1", prefix, fires[f][0]);
        add_conv(m, name, fires[f][3], fires[f][2], 1);
        snprintf(name, sizeof name, "%s%d.expand3x3", prefix, fires[f][0]);
        add_conv(m, name, fires[f][3], fires[f][2], 3);
    }
}

static void add_list(made *m, const char *prefix, const int (*convs)[3], int n)
{
    int in = 3;
    for (int i = 0; i < n; i++) {
        char name[40];
        snprintf(name, sizeof name, "%s%d", prefix, convs[i][0]);
        add_conv(m, name, convs[i][1], in, convs[i][2]);
        in = convs[i][1];
    }
}

// Write a file of random weights; its path is in one static buffer. left_out and bent as in struct made.
static const char *make_file(const char *trunk, const char *prefix, const char *left_out, const char *bent)
{
    static const int alex[][3] = {{0, 64, 11}, {3, 192, 5}, {6, 384, 3}, {8, 256, 3}, {10, 256, 3}};
    static const int vgg[][3] = {{0, 64, 3},   {2, 64, 3},   {5, 128, 3},  {7, 128, 3},  {10, 256, 3},
                                 {12, 256, 3}, {14, 256, 3}, {17, 512, 3}, {19, 512, 3}, {21, 512, 3},
                                 {24, 512, 3}, {26, 512, 3}, {28, 512, 3}};
    static const int layers[3][8] = {
        {64, 128, 256, 384, 384, 512, 512}, {64, 192, 384, 256, 256}, {64, 128, 256, 512, 512}};
    static char path[200];
    made m = {.w = yd_st_writer_new(), .seed = 7, .left_out = left_out, .bent = bent};
    int kind = !strcmp(trunk, "squeeze") ? 0 : !strcmp(trunk, "alex") ? 1 : 2;
    if (kind == 0)
        add_squeeze(&m, prefix);
    else if (kind == 1)
        add_list(&m, prefix, alex, 5);
    else
        add_list(&m, prefix, vgg, 13);
    for (int i = 0; layers[kind][i] && i < 7; i++) {
        char name[40];
        snprintf(name, sizeof name, "lin%d.model.1.weight", i);
        add(&m, name, 1, layers[kind][i], 1, 1);
    }
    snprintf(path, sizeof path, "%s/%s.safetensors", folder, trunk);
    CHECK(yd_st_writer_save(m.w, path, NULL) == 0);
    yd_st_writer_free(m.w);
    for (int i = 0; i < m.n; i++) free(m.kept[i]);
    return path;
}

static yd_lpips *opened(const char *trunk)
{
    yd_lpips *p = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_lpips_open(make_file(trunk, "net.", NULL, NULL), &p, &err) == 0, "%s", err.detail);
    return p;
}

// ---- cases

static void test_published(void)
{
    const char *path = t_shared("data/weights/lpips_squeeze_v0.1.safetensors");
    yd_lpips *p = NULL;
    yd_safetensors *st = NULL;
    if (!path) return t_skip("no published weights");
    CHECK(yd_lpips_open(path, &p, NULL) == 0 && !strcmp(yd_lpips_trunk(p), "squeeze") &&
          yd_lpips_feature_size(p) == 512);
    path = t_shared("fixtures/lpips/io.safetensors");
    if (!path || !p) {
        yd_lpips_close(p);
        return t_skip("no fixtures");
    }
    CHECK(yd_st_open(path, &st, NULL) == 0);
    // Computed by the original on its own pictures; kept with 5 decimals per layer.
    static const char *const other[2] = {"p0_rgb_uint8_hwc", "p1_rgb_uint8_hwc"}, *const layers[2] = {"layers_p0",
                                                                                                      "layers_p1"};
    static const double total[2] = {0.711048, 0.147902};
    for (int i = 0; i < 2; i++) {
        yd_lpips_figure f = {0};
        float want[7];
        CHECK(yd_st_to_f32(yd_st_find(st, layers[i]), want, NULL) == 0);
        CHECK(yd_lpips_distance(p, yd_st_find(st, "ref_rgb_uint8_hwc")->data, yd_st_find(st, other[i])->data, 64, 64,
                                &f, NULL, NULL) == 0);
        CHECK_MSG(fabs(f.total - total[i]) < 1e-6 && f.layers == 7, "%.8f", f.total);
        for (int k = 0; k < 7; k++)
            CHECK_MSG(fabs(f.layer[k] - (double)want[k]) < 6e-6, "layer %d: %.8f", k, f.layer[k]);
    }
    yd_st_close(st);
    yd_lpips_close(p);
}

static void check_trunk(const char *trunk, const char *prefix, const char *file_prefix, int w, int h)
{
    enum { MOST = 80 * 80 };
    static uint8_t a[MOST * 3], b[MOST * 3];
    static float map[MOST], features[512];
    static double want_map[MOST], want_features[512];
    double want[7], most = 0, top = 0;
    const char *path = make_file(trunk, file_prefix, NULL, NULL);
    yd_lpips *p = NULL;
    yd_safetensors *st = NULL;
    yd_lpips_figure f = {0};
    yd_err err = {0};
    noise(a, (size_t)(w * h * 3), 1);
    noise(b, (size_t)(w * h * 3), 2);
    for (int i = 0; i < w * h * 3; i++) b[i] = (uint8_t)((2 * a[i] + b[i]) / 3);
    CHECK_MSG(yd_lpips_open(path, &p, &err) == 0, "%s", err.detail);
    CHECK(yd_st_open(path, &st, NULL) == 0);
    if (!p || !st) return;
    CHECK(!strcmp(yd_lpips_trunk(p), trunk));
    double total = oracle_lpips(st, trunk, prefix, a, b, w, h, want, want_map, want_features);
    CHECK_MSG(yd_lpips_distance(p, a, b, w, h, &f, map, &err) == 0, "%s", err.detail);
    CHECK_MSG(fabs(f.total - total) < 1e-5 * total && total > 1e-3, "%s: %.9f, not %.9f", trunk, f.total, total);
    for (int i = 0; i < f.layers; i++)
        CHECK_MSG(fabs(f.layer[i] - want[i]) < 2e-5 * want[i], "%s layer %d: %.9f, not %.9f", trunk, i, f.layer[i],
                  want[i]);
    for (int i = 0; i < w * h; i++) {
        most = fmax(most, fabs((double)map[i] - want_map[i]));
        top = fmax(top, want_map[i]);
    }
    CHECK_MSG(most < 2e-5 * top, "%s: map differs by %g of %g", trunk, most, top);
    CHECK(yd_lpips_features(p, a, w, h, features, NULL) == 0);
    most = top = 0;
    for (int i = 0; i < yd_lpips_feature_size(p); i++) {
        most = fmax(most, fabs((double)features[i] - want_features[i]));
        top = fmax(top, want_features[i]);
    }
    CHECK_MSG(most < 2e-5 * top && top > 0, "%s: features differ by %g of %g", trunk, most, top);
    yd_st_close(st);
    yd_lpips_close(p);
}

static void test_squeeze(void)
{
    check_trunk("squeeze", "net.", "net.", 17, 17); // the smallest
    check_trunk("squeeze", "net.", "net.", 46, 35);
}
static void test_alex(void)
{
    check_trunk("alex", "net.", "net.", 31, 31);
    check_trunk("alex", "net.", "net.", 52, 39);
}
static void test_vgg(void)
{
    check_trunk("vgg", "net.slice2.", "net.slice2.", 17, 22); // and the other way to name tensors
}

static void test_equal_and_symmetric(void)
{
    enum { W = 40, H = 33 };
    static uint8_t a[W * H * 3], b[W * H * 3];
    static float map[W * H];
    yd_lpips_figure ab = {0}, ba = {0}, aa = {0};
    yd_lpips *p = opened("squeeze");
    noise(a, sizeof a, 3);
    noise(b, sizeof b, 4);
    CHECK(yd_lpips_distance(p, a, b, W, H, &ab, NULL, NULL) == 0 &&
          yd_lpips_distance(p, b, a, W, H, &ba, NULL, NULL) == 0);
    CHECK(ab.total == ba.total && ab.total > 0);
    CHECK(yd_lpips_distance(p, a, a, W, H, &aa, map, NULL) == 0 && aa.total == 0.0 && map[W + 1] == 0.0f);
    for (int v = 0; v < 256; v += 51) { // constant pictures have features, or none; never NaN
        memset(a, v, sizeof a);
        memset(b, 255 - v, sizeof b);
        CHECK(yd_lpips_distance(p, a, b, W, H, &ab, map, NULL) == 0 && isfinite(ab.total) && ab.total >= 0.0);
        CHECK(isfinite(map[0]) && isfinite(map[W * H - 1]));
    }
    yd_lpips_close(p);
}

static void test_threads_and_sizes(const char *trunk)
{
    enum { W = 75, H = 61 };
    static uint8_t a[W * H * 3], b[W * H * 3];
    static float map[3][W * H], features[3][512];
    yd_lpips_figure f[3] = {0}, again = {0};
    int before = omp_get_max_threads();
    yd_lpips *p = opened(trunk);
    noise(a, sizeof a, 5);
    noise(b, sizeof b, 6);
    for (int i = 0; i < 3; i++) {
        omp_set_num_threads(i + 1);
        yd_lpips *other = opened(trunk); // made with that many threads too
        CHECK(yd_lpips_distance(other, a, b, W, H, &f[i], map[i], NULL) == 0);
        CHECK(yd_lpips_features(other, a, W, H, features[i], NULL) == 0);
        yd_lpips_close(other);
        CHECK(!memcmp(&f[i], &f[0], sizeof f[0]) && !memcmp(map[i], map[0], sizeof map[0]));
        CHECK(!memcmp(features[i], features[0], sizeof features[0]));
    }
    omp_set_num_threads(before);
    CHECK(yd_lpips_distance(p, a, b, W, H, &again, NULL, NULL) == 0 && !memcmp(&again, &f[0], sizeof again));
    CHECK(yd_lpips_distance(p, a, b, W - 20, H - 9, &again, NULL, NULL) == 0 && again.total != f[0].total);
    CHECK(yd_lpips_distance(p, a, b, W, H, &again, NULL, NULL) == 0 && !memcmp(&again, &f[0], sizeof again));
    yd_lpips_close(p);
}

static void test_threads_squeeze(void)
{
    test_threads_and_sizes("squeeze");
}
static void test_threads_alex(void)
{
    test_threads_and_sizes("alex");
}

static void test_refused_files(void)
{
    yd_lpips *p = NULL;
    yd_err err = {0};
    CHECK(yd_lpips_open("/nonexistent/weights.safetensors", &p, &err) == YD_E_IO &&
          strstr(err.detail, "/nonexistent/weights"));
    const char *path = make_file("squeeze", "net.", "net.9.expand3x3.bias", NULL);
    CHECK(yd_lpips_open(path, &p, &err) == YD_E_CHECKPOINT && !strcmp(err.field, "net.9.expand3x3.bias"));
    CHECK(strstr(err.detail, "missing") && !strcmp(err.accepted, "shape [192]"));
    path = make_file("squeeze", "net.", NULL, "net.7.squeeze.weight");
    CHECK(yd_lpips_open(path, &p, &err) == YD_E_CHECKPOINT && !strcmp(err.field, "net.7.squeeze.weight"));
    CHECK(!strcmp(err.accepted, "shape [32, 256, 1, 1]"));
    path = make_file("alex", "net.", "lin4.model.1.weight", NULL);
    CHECK(yd_lpips_open(path, &p, &err) == YD_E_CHECKPOINT && strstr(err.detail, "lin4.model.1.weight"));
    path = make_file("alex", "other.", NULL, NULL);
    CHECK(yd_lpips_open(path, &p, &err) == YD_E_CHECKPOINT && strstr(err.detail, "none of the LPIPS trunks"));
    CHECK(p == NULL);
}

static void test_refused_sizes(void)
{
    static uint8_t a[64 * 64 * 3];
    float features[512] = {-3};
    yd_lpips_figure f = {.total = -7};
    yd_err err = {0};
    yd_lpips *p = opened("squeeze");
    CHECK(yd_lpips_min_side(p) == 17);
    CHECK(yd_lpips_distance(p, a, a, 16, 64, &f, NULL, &err) == YD_E_IMAGE_TOO_SMALL && strstr(err.detail, "17 x 17"));
    CHECK(yd_lpips_distance(p, a, a, 64, 16, &f, NULL, &err) == YD_E_IMAGE_TOO_SMALL);
    CHECK(yd_lpips_distance(p, a, a, YD_LPIPS_MAX_SIDE + 1, 17, &f, NULL, &err) == YD_E_IMAGE_TOO_LARGE &&
          strstr(err.detail, "8192"));
    CHECK(yd_lpips_features(p, a, 64, -1, features, &err) == YD_E_IMAGE_TOO_SMALL && features[0] == -3.0f &&
          f.total == -7.0);
    yd_lpips_close(p);
}

static void test_bins(void)
{
    enum { W = 24, H = 20, N = W * H };
    static uint8_t a[N * 3], b[N * 3], ma[N * 3], mb[N * 3];
    static float attention[N];
    yd_lpips_bin bins[100];
    yd_lpips_figure f = {0};
    yd_lpips *p = opened("squeeze");
    noise(a, sizeof a, 7);
    noise(b, sizeof b, 8);
    for (int i = 0; i < N; i++) attention[i] = i % 3 == 0 ? 1.0f : i % 3 == 1 ? 0.25f : 0.255f;
    CHECK(yd_lpips_bin_count(0.01) == 100 && yd_lpips_bin_count(0.3) == 4 && yd_lpips_bin_count(1.0) == 1);
    CHECK(yd_lpips_bin_count(0.0) == 0 && yd_lpips_bin_count(1.01) == 0 && yd_lpips_bin_count(NAN) == 0);
    CHECK(yd_lpips_bins(p, a, b, attention, W, H, YD_LPIPS_BIN_WIDTH, bins, NULL) == 0);
    for (int bin = 0; bin < 100; bin++) {
        long pixels = 0;
        memset(ma, 0, sizeof ma);
        memset(mb, 0, sizeof mb);
        for (int i = 0; i < N; i++) {
            if ((i % 3 == 0 ? 99 : 25) != bin) continue;
            memcpy(ma + i * 3, a + i * 3, 3);
            memcpy(mb + i * 3, b + i * 3, 3);
            pixels++;
        }
        CHECK_MSG(bins[bin].pixels == pixels, "bin %d: %ld pixels, not %ld", bin, bins[bin].pixels, pixels);
        CHECK(fabs(bins[bin].from - bin * 0.01) < 1e-12 && fabs(bins[bin].to - (bin + 1) * 0.01) < 1e-12);
        CHECK(yd_lpips_distance(p, ma, mb, W, H, &f, NULL, NULL) == 0 && bins[bin].distance == f.total);
    }
    yd_err err = {0};
    CHECK(yd_lpips_bins(p, a, b, attention, W, H, 0.0, bins, &err) == YD_E_INVALID && !strcmp(err.field, "width"));
    attention[5] = 1.5f;
    CHECK(yd_lpips_bins(p, a, b, attention, W, H, 0.5, bins, &err) == YD_E_INVALID && strstr(err.detail, "pixel 5"));
    attention[5] = NAN;
    CHECK(yd_lpips_bins(p, a, b, attention, W, H, 0.5, bins, &err) == YD_E_INVALID && !strcmp(err.field, "attention"));
    yd_lpips_close(p);
}

static void test_no_memory(void)
{
    static uint8_t a[40 * 40 * 3], b[40 * 40 * 3];
    static float map[40 * 40];
    yd_lpips_figure f = {0}, want = {0};
    const char *path = make_file("squeeze", "net.", NULL, NULL);
    yd_lpips *p = NULL;
    int rc = YD_E_NOMEM;
    noise(a, sizeof a, 9);
    noise(b, sizeof b, 10);
    for (long k = 1; rc && k < 500; k++) {
        yd_mem_fail_at(k);
        rc = yd_lpips_open(path, &p, NULL);
        CHECK(rc == 0 || (rc == YD_E_NOMEM && p == NULL));
    }
    yd_mem_fail_at(0);
    CHECK(rc == 0 && p);
    if (!p) return;
    rc = YD_E_NOMEM;
    for (long k = 1; rc && k < 500; k++) {
        yd_mem_fail_at(k);
        rc = yd_lpips_distance(p, a, b, 40, 40, &f, map, NULL);
        CHECK(rc == 0 || (rc == YD_E_NOMEM && f.total == 0.0));
    }
    yd_mem_fail_at(0);
    CHECK(rc == 0);
    yd_lpips *fresh = opened("squeeze");
    CHECK(yd_lpips_distance(fresh, a, b, 40, 40, &want, NULL, NULL) == 0 && want.total == f.total);
    yd_lpips_close(fresh);
    yd_lpips_close(p);
}

static void remove_files(void)
{
    static const char *const trunks[] = {"squeeze", "alex", "vgg"};
    for (int i = 0; i < 3; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s.safetensors", folder, trunks[i]);
        unlink(path);
    }
    rmdir(folder);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"lpips: the published network", test_published},
        {"lpips: squeeze against plain loops", test_squeeze},
        {"lpips: alex against plain loops", test_alex},
        {"lpips: vgg against plain loops", test_vgg},
        {"lpips: equal, swapped and constant pictures", test_equal_and_symmetric},
        {"lpips: any number of threads, any order of sizes (squeeze)", test_threads_squeeze},
        {"lpips: any number of threads, any order of sizes (alex)", test_threads_alex},
        {"lpips: files that are refused", test_refused_files},
        {"lpips: sizes that are refused", test_refused_sizes},
        {"lpips: per attention", test_bins},
        {"lpips: out of memory", test_no_memory},
    };
    if (!mkdtemp(folder)) return 1;
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    remove_files();
    return rc;
}
