// core/attention/sift.c: keypoints become a map, whatever the size; the same bits again and at once; bounded memory and work.
#include "core/attention.h"
#include "core/attention/vlfeat.h"
#include "core/mem.h"
#include "tests/unit/t.h"

#include <pthread.h>
#include <time.h>
#include <vl/generic.h>

static uint32_t state;

static uint32_t next(void)
{
    return (state = state * 1664525u + 1013904223u) >> 8;
}

static float *compute(const char *name, const uint8_t *rgb, int w, int h)
{
    const yd_attention_method *m = NULL;
    float *map = malloc((size_t)w * (size_t)h * sizeof *map);
    for (int i = 0; i < w * h; i++) map[i] = NAN;
    CHECK(yd_attention_find(name, &m, NULL) == 0 && m->compute(rgb, w, h, map, NULL) == 0);
    return map;
}

// A smooth bright spot of the given radius on grey.
static void add_spot(uint8_t *rgb, int w, int h, double cx, double cy, double radius)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double d2 = (x - cx) * (x - cx) + (y - cy) * (y - cy), v = 150 * exp(-d2 / (2 * radius * radius));
            for (int c = 0; c < 3; c++) {
                int sum = rgb[(y * w + x) * 3 + c] + (int)v;
                rgb[(y * w + x) * 3 + c] = (uint8_t)(sum > 255 ? 255 : sum);
            }
        }
}

static void test_sift_blank_is_one(void)
{
    enum { W = 90, H = 60 };
    static uint8_t rgb[W * H * 3];
    memset(rgb, 77, sizeof rgb);
    float *map = compute("sift", rgb, W, H);
    for (int i = 0; i < W * H; i++) CHECK(map[i] == 1.0f);
    free(map);
}

// The map is largest at each spot, wider around the larger one, and nothing far from all of them. In every size: doubled (octave -1), as it
// is, and reduced. The spots are nowhere half-way between pixels of any octave, where none of the two would be an extremum.
static void test_sift_spots(void)
{
    static const int sides[] = {160, 600, 1500};
    for (int k = 0; k < 3; k++) {
        const int n = sides[k];
        const double u = n / 160.0, spots[3][3] = {{30.3 * u, 40.3 * u, 2.5 * u}, {110.3 * u, 30.3 * u, 4 * u}, {40.3 * u, 120.3 * u, 6 * u}};
        uint8_t *rgb = malloc((size_t)n * (size_t)n * 3);
        memset(rgb, 60, (size_t)n * (size_t)n * 3);
        for (int s = 0; s < 3; s++) add_spot(rgb, n, n, spots[s][0], spots[s][1], spots[s][2]);
        float *map = compute("sift", rgb, n, n), most = 0;
        double width[3];
        for (int i = 0; i < n * n; i++) most = fmaxf(most, map[i]);
        CHECK_MSG(most > 0.99f && most <= 1.0f, "%g", (double)most);
        for (int s = 0; s < 3; s++) {
            const int x = (int)spots[s][0], y = (int)spots[s][1];
            CHECK_MSG(map[y * n + x] > 0.97f, "side %d, spot %d: %g", n, s, (double)map[y * n + x]);
            int half = x;
            while (half < n && map[y * n + half] > 0.5f) half++;
            width[s] = half - x;
            // half of the maximum lies at r sqrt(2 ln 2), r three times the scale, which for a spot is about its radius (sqrt 2 at most)
            CHECK_MSG(width[s] > 2.0 * spots[s][2] && width[s] < 7.0 * spots[s][2], "side %d, spot %d: half width %g", n, s, width[s]);
        }
        CHECK_MSG(width[0] < width[1] && width[1] < width[2], "%g %g %g", width[0], width[1], width[2]);
        CHECK_MSG(map[(int)(130 * u) * n + (int)(130 * u)] < 0.01f, "%g", (double)map[(int)(130 * u) * n + (int)(130 * u)]);
        free(map);
        free(rgb);
    }
}

// What only the second attempt, at half the contrast, finds.
static void test_sift_faint(void)
{
    enum { N = 128 };
    static uint8_t rgb[N * N * 3];
    int low = 0, high = 0;
    for (int contrast = 1; contrast <= 40; contrast++) {
        for (int i = 0; i < N * N; i++) {
            double d2 = pow(i % N - 64, 2) + pow(i / N - 64, 2);
            memset(rgb + 3 * i, (int)lrint(100 + contrast * exp(-d2 / 50)), 3);
        }
        float *map = compute("sift", rgb, N, N);
        const int flat = map[0] == 1.0f;
        low += flat;
        if (!flat) CHECK(map[64 * N + 64] > 0.97f && map[0] < 0.01f);
        high += !flat;
        free(map);
    }
    CHECK_MSG(low >= 1 && low <= 15 && high >= 25, "%d nothing found, %d found", low, high);
}

typedef struct sift_run {
    const uint8_t *rgb;
    int w, h;
    float *map;
} sift_run;

static void *sift_thread(void *arg)
{
    sift_run *r = arg;
    for (int i = 0; i < 3; i++) {
        free(r->map);
        r->map = compute("sift", r->rgb, r->w, r->h);
    }
    return NULL;
}

static void test_sift_concurrent(void)
{
    enum { THREADS = 4, W = 220, H = 180 };
    static uint8_t rgb[2][W * H * 3];
    pthread_t t[THREADS];
    sift_run runs[THREADS];
    float *alone[2];
    for (int p = 0; p < 2; p++) {
        for (int i = 0; i < W * H * 3; i++) rgb[p][i] = (uint8_t)((i / 3 / (7 + p) ^ i / (W * 12)) * 37 % 256);
        alone[p] = compute("sift", rgb[p], W, H);
    }
    CHECK(memcmp(alone[0], alone[1], W * H * sizeof(float)) != 0);
    for (int i = 0; i < THREADS; i++) {
        runs[i] = (sift_run){.rgb = rgb[i % 2], .w = W, .h = H};
        CHECK(pthread_create(&t[i], NULL, sift_thread, &runs[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(t[i], NULL);
        CHECK(memcmp(runs[i].map, alone[i % 2], W * H * sizeof(float)) == 0);
        free(runs[i].map);
    }
    free(alone[0]);
    free(alone[1]);
}

static void test_sift_out_of_memory(void)
{
    enum { W = 100, H = 80 };
    static uint8_t rgb[W * H * 3];
    static float map[W * H];
    const yd_attention_method *m = NULL;
    CHECK(yd_attention_find("sift", &m, NULL) == 0);
    for (int i = 0; i < W * H * 3; i++) rgb[i] = (uint8_t)(next() % 256);
    long k = 1;
    int rc = YD_E_NOMEM;
    for (; k < 200 && rc == YD_E_NOMEM; k++) {
        yd_err err = {0};
        yd_mem_fail_at(k);
        rc = m->compute(rgb, W, H, map, &err);
        yd_mem_fail_at(0);
        CHECK(rc == YD_OK || (rc == YD_E_NOMEM && strstr(err.detail, "100 x 80")));
    }
    CHECK_MSG(rc == YD_OK && k > 7, "%ld", k);
    float *again = compute("sift", rgb, W, H);
    CHECK(memcmp(again, map, sizeof map) == 0);
    free(again);
}

// libvlfeat's own allocations: kept to the share, values kept while blocks grow, all gone at the end.
static void use_vlfeat(void *arg)
{
    size_t *want = arg, size = 16;
    unsigned char *grows = vl_malloc(size), *zero = vl_calloc(8, 8);
    for (int i = 0; i < 64; i++) CHECK(zero[i] == 0);
    for (size_t i = 0; i < size; i++) grows[i] = (unsigned char)i;
    while (size < *want) {
        grows = vl_realloc(grows, size *= 2);
        for (unsigned i = 0; i < 16; i++) CHECK(grows[i] == i);
    }
    vl_free(zero);
    *want = 0; // came to its end
}

static void test_vlfeat_share(void)
{
    size_t want = 1 << 12;
    CHECK(yd_vlfeat_run(use_vlfeat, &want, 1 << 16) == 0 && want == 0);
    want = 1 << 20;
    CHECK(yd_vlfeat_run(use_vlfeat, &want, 1 << 16) == -1 && want == 1 << 20);
    want = 1 << 12;
    CHECK(yd_vlfeat_run(use_vlfeat, &want, 1 << 16) == 0 && want == 0); // and goes on working
}

// Noise is full of keypoints: the most work there can be, in a bound that does not grow with the picture.
static void test_sift_speed(void)
{
    static const int sides[] = {1024, 4096};
    for (int k = 0; k < 2; k++) {
        const size_t n = (size_t)sides[k] * (size_t)sides[k] * 3;
        uint8_t *rgb = malloc(n);
        for (size_t i = 0; i < n; i++) rgb[i] = (uint8_t)(next() % 256);
        struct timespec a, b;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        free(compute("sift", rgb, sides[k], sides[k]));
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double ms = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
        printf("  noise, %d x %d: %.0f ms\n", sides[k], sides[k], ms);
        CHECK(ms < 20000.0); // catches a lost bound, not a busy machine
        free(rgb);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"sift: a blank picture is 1 everywhere", test_sift_blank_is_one},
        {"sift: spots in three sizes of pictures", test_sift_spots},
        {"sift: faint pictures get a second look", test_sift_faint},
        {"sift: concurrent calls give the same bits", test_sift_concurrent},
        {"sift: every allocation may fail", test_sift_out_of_memory},
        {"sift: libvlfeat keeps to its share of memory", test_vlfeat_share},
        {"sift: work has a bound", test_sift_speed},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
