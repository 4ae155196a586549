// core/attention: every stage of the edge map against plain loops, and the promises of every method.
#include "core/attention.h"
#include "core/attention/blur.h"
#include "core/attention/canny.h"
#include "core/attention/morph.h"
#include "core/mem.h"
#include "tests/unit/t.h"

#include <time.h>

static uint32_t state;

static uint32_t next(void)
{
    return (state = state * 1664525u + 1013904223u) >> 8;
}

static int clamp(int v, int most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

// ---- the stages -----------------------------------------------------------------------------------------------------------------

// Two-dimensional, in double: every pixel looks at the whole square of the kernel.
static void blur_oracle(const float *src, int w, int h, double sigma, double *dst)
{
    int r = (int)ceil(3 * sigma);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double sum = 0, weight = 0;
            for (int j = -r; j <= r; j++)
                for (int i = -r; i <= r; i++) {
                    double k = exp(-(i * i + j * j) / (2 * sigma * sigma));
                    sum += k * (double)src[clamp(y + j, h - 1) * w + clamp(x + i, w - 1)];
                    weight += k;
                }
            dst[y * w + x] = sum / weight;
        }
}

static void test_blur(void)
{
    static const int sizes[][2] = {{1, 1}, {1, 9}, {9, 1}, {2, 2}, {31, 17}, {5, 40}};
    static const double sigmas[] = {0.5, 1.4, 2.0, 8.0, YD_BLUR_MAX_SIGMA};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof sigmas / sizeof *sigmas; k++) {
            int w = sizes[i][0], h = sizes[i][1];
            float *plane = malloc((size_t)(w * h) * sizeof *plane);
            double *want = malloc((size_t)(w * h) * sizeof *want), worst = 0;
            for (int p = 0; p < w * h; p++) plane[p] = (float)(next() % 256);
            blur_oracle(plane, w, h, sigmas[k], want);
            CHECK(yd_blur_gaussian(plane, w, h, sigmas[k], NULL) == 0);
            for (int p = 0; p < w * h; p++) worst = fmax(worst, fabs((double)plane[p] - want[p]));
            CHECK_MSG(worst < 2e-4, "%dx%d sigma %g: %g", w, h, sigmas[k], worst);
            free(plane);
            free(want);
        }
}

static void test_close(void)
{
    for (int round = 0; round < 60; round++) {
        int w = 1 + (int)(next() % 30), h = 1 + (int)(next() % 30), r = (int)(next() % 6);
        uint8_t *got = malloc((size_t)(w * h)), *src = malloc((size_t)(w * h)), *wide = malloc((size_t)(w * h));
        for (int p = 0; p < w * h; p++) src[p] = next() % 12 == 0;
        memcpy(got, src, (size_t)(w * h));
        CHECK(yd_morph_close(got, w, h, r, NULL) == 0);
        for (int pass = 0; pass < 2; pass++) // dilate src into wide, then erode wide and compare
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++) {
                    int any = 0, all = 1;
                    for (int j = y - r; j <= y + r; j++)
                        for (int i = x - r; i <= x + r; i++) {
                            if (i < 0 || j < 0 || i >= w || j >= h) continue;
                            any |= src[j * w + i];
                            if (pass == 1) all &= wide[j * w + i];
                        }
                    if (pass == 0)
                        wide[y * w + x] = (uint8_t)any;
                    else
                        CHECK_MSG(got[y * w + x] == all, "%dx%d radius %d at %d,%d", w, h, r, x, y);
                }
        for (int p = 0; p < w * h; p++) CHECK(got[p] >= src[p]);
        free(got);
        free(src);
        free(wide);
    }
}

// A blurred step between columns 15 and 16 is one line of edge pixels on one of the two, in every row, whichever way it faces.
static void test_canny_step(void)
{
    enum { W = 32, H = 20 };
    for (int way = 0; way < 4; way++) {
        float grey[W * W];
        uint8_t edges[W * W];
        int w = way < 2 ? W : H, h = way < 2 ? H : W, any = 0;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) grey[y * w + x] = ((way < 2 ? x : y) >= 16) ^ (way & 1) ? 200.0f : 50.0f;
        CHECK(yd_blur_gaussian(grey, w, h, 1.4, NULL) == 0);
        CHECK(yd_canny(grey, w, h, edges, &any, NULL) == 0 && any);
        for (int line = 0; line < H; line++) {
            int on = 0, near = 0;
            for (int p = 0; p < W; p++) {
                int e = way < 2 ? edges[line * w + p] : edges[p * w + line];
                on += e;
                if (p == 15 || p == 16) near += e;
            }
            CHECK_MSG(on == 1 && near == 1, "way %d, line %d: %d pixels on, %d at the step", way, line, on, near);
        }
    }
}

// The definition: gradient in double, the direction as an angle, weak pixels grown from strong ones until nothing changes. Pixels whose
// decision hangs on rounding are not compared, nor are pictures where such a pixel could change what is connected.
typedef struct oracle_pixel {
    double gx, gy, m;
    int class, doubtful;
} oracle_pixel;

static double sobel_at(const float *g, int w, int h, int x, int y, int along_x)
{
    static const int k[3] = {1, 2, 1};
    double sum = 0;
    for (int i = -1; i <= 1; i++) {
        int a = along_x ? clamp(y + i, h - 1) : clamp(x + i, w - 1);
        double plus = along_x ? (double)g[a * w + clamp(x + 1, w - 1)] : (double)g[clamp(y + 1, h - 1) * w + a];
        double minus = along_x ? (double)g[a * w + clamp(x - 1, w - 1)] : (double)g[clamp(y - 1, h - 1) * w + a];
        sum += k[i + 1] * (plus - minus);
    }
    return sum;
}

static double magnitude_at(const oracle_pixel *p, int w, int h, int x, int y)
{
    return x < 0 || y < 0 || x >= w || y >= h ? 0 : p[y * w + x].m;
}

static void classify(oracle_pixel *p, int w, int h, int x, int y, double most)
{
    oracle_pixel *o = &p[y * w + x];
    double angle = atan2(o->gy, o->gx) * 180 / M_PI, eps = 2e-4; // magnitudes are tens to hundreds, in float
    if (angle < 0) angle += 180;
    double sector = (angle + 22.5) / 45;
    static const int step[5][2] = {{1, 0}, {1, 1}, {0, 1}, {-1, 1}, {1, 0}};
    const int *d = step[(int)sector];
    double a = magnitude_at(p, w, h, x - d[0], y - d[1]), b = magnitude_at(p, w, h, x + d[0], y + d[1]);
    o->class = o->m > a && o->m >= b && o->m >= 0.1 * most ? (o->m >= 0.2 * most ? 2 : 1) : 0;
    o->doubtful = o->m > 0.1 * most - eps &&
                  (fabs(sector - round(sector)) < 1e-5 || fabs(o->m - a) < eps || fabs(o->m - b) < eps ||
                   fabs(o->m - 0.1 * most) < eps || fabs(o->m - 0.2 * most) < eps);
}

static void grow(oracle_pixel *p, int w, int h)
{
    for (int changed = 1; changed;) {
        changed = 0;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                for (int j = y - 1; j <= y + 1 && p[y * w + x].class == 1; j++)
                    for (int i = x - 1; i <= x + 1; i++)
                        if (i >= 0 && j >= 0 && i < w && j < h && p[j * w + i].class == 2)
                            p[y * w + x].class = 2, changed = 1;
    }
}

static void test_canny_oracle(void)
{
    enum { W = 48, H = 36, N = W * H, PICTURES = 20 };
    static oracle_pixel p[N];
    int compared = 0, weak_kept = 0;
    for (int round = 0; round < PICTURES; round++) {
        float grey[N];
        uint8_t edges[N];
        double most = 0;
        int any = 0, doubtful = 0;
        for (int i = 0; i < N; i++) grey[i] = (float)(next() % 256);
        CHECK(yd_blur_gaussian(grey, W, H, 1.4 + round % 3, NULL) == 0);
        for (int i = 0; i < N; i++) {
            p[i].gx = sobel_at(grey, W, H, i % W, i / W, 1);
            p[i].gy = sobel_at(grey, W, H, i % W, i / W, 0);
            most = fmax(most, p[i].m = hypot(p[i].gx, p[i].gy));
        }
        for (int i = 0; i < N; i++) {
            classify(p, W, H, i % W, i / W, most);
            doubtful += p[i].doubtful;
            weak_kept -= p[i].class == 2;
        }
        grow(p, W, H);
        for (int i = 0; i < N; i++) weak_kept += p[i].class == 2;
        CHECK(yd_canny(grey, W, H, edges, &any, NULL) == 0 && any);
        if (doubtful) continue;
        compared++;
        for (int i = 0; i < N; i++)
            CHECK_MSG(edges[i] == (p[i].class == 2), "picture %d at %d,%d: %d, class %d", round, i % W, i / W, edges[i],
                      p[i].class);
    }
    CHECK_MSG(compared >= PICTURES / 4, "only %d pictures compared", compared);
    CHECK(weak_kept > 0); // the hysteresis had something to do
}

// A ramp of contrast along a vertical step: where the contrast is under the low threshold the line ends, in between it is kept only
// because it hangs on the strong part; a weak line of its own is dropped.
static void test_hysteresis(void)
{
    enum { W = 64, H = 100 };
    static float grey[W * H];
    static uint8_t edges[W * H];
    int any = 0;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            float contrast = 200.0f * (1.0f - (float)y / H);
            grey[y * W + x] = x < 20 ? 0.0f : contrast;
        }
    for (int y = 0; y < H; y++) // alone at column 50, 15 per cent of the strongest: between low and high
        for (int x = 50; x < W; x++) grey[y * W + x] += y > 2 && y < 60 ? 30.0f : 0.0f;
    for (int i = 0; i < W * H; i++) grey[i] += 1.0f;
    CHECK(yd_canny(grey, W, H, edges, &any, NULL) == 0 && any);
    int line_15 = 0, line_5 = 0, lonely = 0;
    for (int x = 18; x <= 21; x++) {
        line_15 += edges[85 * W + x];
        line_5 += edges[95 * W + x];
    }
    for (int y = 6; y < 56; y++)
        for (int x = 48; x <= 51; x++) lonely += edges[y * W + x];
    CHECK(line_15 == 1); // weak, connected
    CHECK(line_5 == 0);  // below low
    CHECK_MSG(lonely == 0, "%d", lonely);
}

// ---- the methods ----------------------------------------------------------------------------------------------------------------

static float *compute(const char *name, const uint8_t *rgb, int w, int h)
{
    const yd_attention_method *m = NULL;
    float *map = malloc((size_t)w * (size_t)h * sizeof *map);
    for (int i = 0; i < w * h; i++) map[i] = NAN;
    CHECK(yd_attention_find(name, &m, NULL) == 0 && m->compute(rgb, w, h, map, NULL) == 0);
    return map;
}

static void test_every_method(void)
{
    static const int sizes[][2] = {{1, 1},  {1, 2}, {2, 1},   {2, 2},   {3, 3},    {1, 50},
                                   {50, 1}, {5, 4}, {16, 16}, {63, 64}, {128, 96}, {300, 260}};
    size_t count = 0;
    const yd_attention_method *all = yd_attention_methods(&count);
    CHECK(count >= 3);
    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; all[k].compute && i < sizeof sizes / sizeof *sizes; i++) {
            int w = sizes[i][0], h = sizes[i][1], bad = 0;
            uint8_t *rgb = malloc((size_t)(w * h * 3));
            for (int p = 0; p < w * h * 3; p++) rgb[p] = (uint8_t)(next() % 256);
            float *map = compute(all[k].name, rgb, w, h), *again = compute(all[k].name, rgb, w, h);
            for (int p = 0; p < w * h; p++) bad += !(map[p] >= 0.0f && map[p] <= 1.0f);
            CHECK_MSG(bad == 0, "%s %dx%d: %d values outside [0,1]", all[k].name, w, h, bad);
            CHECK(memcmp(map, again, (size_t)(w * h) * sizeof *map) == 0);
            free(rgb);
            free(map);
            free(again);
        }
}

static void test_find(void)
{
    const yd_attention_method *m = NULL;
    yd_err err = {0};
    CHECK(yd_attention_find("edge", &m, NULL) == 0 && strcmp(m->name, "edge") == 0 && m->summary[0]);
    m = NULL;
    CHECK(yd_attention_find("edges", &m, &err) == YD_E_SETTING && !m);
    CHECK(strcmp(err.field, "attention") == 0 && strstr(err.detail, "edges"));
    size_t n = 0;
    const yd_attention_method *all = yd_attention_methods(&n);
    for (size_t i = 0; i < n; i++) CHECK(strstr(err.accepted, all[i].name) != NULL);
    CHECK(yd_attention_find("", &m, NULL) == YD_E_SETTING);
}

static void test_constant(void)
{
    uint8_t rgb[5 * 4 * 3] = {0};
    float *map = compute("constant", rgb, 5, 4);
    for (int i = 0; i < 20; i++) CHECK(map[i] == 1.0f);
    free(map);
}

static void test_gaussian(void)
{
    enum { W = 41, H = 30 };
    uint8_t rgb[W * H * 3] = {0};
    float *map = compute("gaussian", rgb, W, H);
    CHECK(map[0] == 0.0f && map[W - 1] == 0.0f && map[W * H - 1] == 0.0f);
    CHECK(map[14 * W + 20] == 1.0f && map[15 * W + 20] == 1.0f);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double cx = x - 20, cy = y - 14.5, sx = W / 4.0, sy = H / 4.0;
            double low = exp(-(20 * 20 / (2 * sx * sx) + 14.5 * 14.5 / (2 * sy * sy))),
                   top = exp(-0.25 / (2 * sy * sy));
            double want = (exp(-(cx * cx / (2 * sx * sx) + cy * cy / (2 * sy * sy))) - low) / (top - low);
            CHECK(fabs((double)map[y * W + x] - want) < 1e-6);
            CHECK(map[y * W + x] == map[y * W + W - 1 - x] && map[y * W + x] == map[(H - 1 - y) * W + x]);
            if (x > 0 && x <= 20) CHECK(map[y * W + x] > map[y * W + x - 1]);
        }
    free(map);
    map = compute("gaussian", rgb, 2, 2);
    for (int i = 0; i < 4; i++) CHECK(map[i] == 1.0f);
    free(map);
}

static void test_edge_flat_is_zero(void)
{
    enum { W = 70, H = 50 };
    static const uint8_t colours[][3] = {{0, 0, 0}, {255, 255, 255}, {13, 77, 201}, {1, 2, 3}};
    static uint8_t rgb[W * H * 3];
    for (int c = 0; c < 4; c++) {
        for (int i = 0; i < W * H * 3; i++) rgb[i] = colours[c][i % 3];
        float *map = compute("edge", rgb, W, H);
        for (int i = 0; i < W * H; i++) CHECK(map[i] == 0.0f);
        free(map);
    }
}

// One step: 1 on it, falling with the distance on both sides, nothing far away, and the same whatever the contrast.
static void test_edge_step(void)
{
    enum { W = 256, H = 128 };
    static uint8_t strong[W * H * 3], faint[W * H * 3];
    for (int i = 0; i < W * H; i++)
        for (int c = 0; c < 3; c++) {
            strong[i * 3 + c] = i % W < 100 ? 10 : 240;
            faint[i * 3 + c] = i % W < 100 ? 100 : 104;
        }
    float *map = compute("edge", strong, W, H), *same = compute("edge", faint, W, H);
    for (int y = 0; y < H; y++) {
        const float *row = map + y * W;
        CHECK(row[99] > 0.9f && row[100] > 0.9f);
        for (int x = 0; x < 98; x++) CHECK(row[x] <= row[x + 1]);
        for (int x = 101; x < W - 1; x++) CHECK(row[x] >= row[x + 1]);
        CHECK(row[50] == 0.0f && row[150] == 0.0f && row[92] > 0.0f && row[107] > 0.0f);
        for (int x = 0; x < W; x++) CHECK(fabsf(row[x] - same[y * W + x]) < 0.25f);
    }
    float most = 0;
    for (int i = 0; i < W * H; i++) most = fmaxf(most, map[i]);
    CHECK(most == 1.0f);
    free(map);
    free(same);
}

// Beyond a shorter side of 256 the reach of the map stays what it is: 24 pixels of blur and the line's own width.
static void test_edge_reach_is_bounded(void)
{
    enum { W = 600, H = 520 };
    uint8_t *rgb = malloc(W * H * 3);
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (i / 3) % W < 300 ? 0 : 255;
    float *map = compute("edge", rgb, W, H);
    for (int y = 0; y < H; y += 7) {
        CHECK(map[y * W + 300] > 0.9f && map[y * W + 280] > 0.0f);
        CHECK(map[y * W + 274] == 0.0f && map[y * W + 326] == 0.0f);
    }
    free(map);
    free(rgb);
}

static void test_edge_out_of_memory(void)
{
    enum { W = 20, H = 20 };
    uint8_t rgb[W * H * 3];
    float map[W * H];
    const yd_attention_method *m = NULL;
    CHECK(yd_attention_find("edge", &m, NULL) == 0);
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (uint8_t)((i / 3) % W < 10 ? 0 : 255);
    long k = 1;
    int rc = YD_E_NOMEM;
    for (; k < 50 && rc == YD_E_NOMEM; k++) {
        yd_err err = {0};
        yd_mem_fail_at(k);
        rc = m->compute(rgb, W, H, map, &err);
        yd_mem_fail_at(0);
        CHECK(rc == YD_OK || (rc == YD_E_NOMEM && err.code == YD_E_NOMEM && strstr(err.detail, "20 x 20")));
    }
    CHECK(rc == YD_OK && k > 6);
    CHECK(yd_attention_find("gaussian", &m, NULL) == 0);
    yd_mem_fail_at(1);
    CHECK(m->compute(rgb, W, H, map, NULL) == YD_E_NOMEM);
    yd_mem_fail_at(0);
}

static void test_edge_speed(void)
{
    enum { SIDE = 1024 };
    uint8_t *rgb = malloc(SIDE * SIDE * 3);
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        rgb[i] = (uint8_t)((((i / 37) ^ (i / 3072 / 9)) * 17) + (int)(next() % 30));
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    free(compute("edge", rgb, SIDE, SIDE));
    clock_gettime(CLOCK_MONOTONIC, &b);
    double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
    printf("  1024 x 1024: %.0f ms\n", ms);
    CHECK(ms < 5000.0); // catches a lost algorithm, not a busy machine
    free(rgb);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"attention: Gaussian blur against plain loops", test_blur},
        {"attention: closing against plain loops", test_close},
        {"attention: a step is one line of edge pixels", test_canny_step},
        {"attention: Canny against its definition", test_canny_oracle},
        {"attention: hysteresis keeps weak edges on strong ones", test_hysteresis},
        {"attention: every method, every size: in [0,1], repeatable", test_every_method},
        {"attention: find", test_find},
        {"attention: constant", test_constant},
        {"attention: gaussian", test_gaussian},
        {"attention: edge map of a flat picture is zero", test_edge_flat_is_zero},
        {"attention: edge map of a step", test_edge_step},
        {"attention: reach of the edge map is bounded", test_edge_reach_is_bounded},
        {"attention: every allocation may fail", test_edge_out_of_memory},
        {"attention: speed of the edge map", test_edge_speed},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
