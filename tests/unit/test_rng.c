// core/rng: known answers, the transform against the C library in double, the distribution, and the same bits on every path.
#include "core/rng.h"
#include "core/rng_math.h"
#include "tests/unit/t.h"

#include <time.h>

static void test_known_answers(void)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof kat / sizeof *kat; i++) {
        uint32_t out[4];
        yd_philox(kat[i].counter, kat[i].key, out);
        CHECK(memcmp(out, kat[i].want, sizeof out) == 0);
    }
}

// Box-Muller in double, from the same uniforms (u1 as the float that it is).
static void reference_pair(uint32_t w0, uint32_t w1, double out[2])
{
    double u1 = (double)fmaf((float)w0, 0x1p-32f, 0x1p-33f), turn = 2 * M_PI * ((double)w1 * 0x1p-32);
    double radius = sqrt(-2.0 * log(u1));
    out[0] = radius * cos(turn);
    out[1] = radius * sin(turn);
}

static double worst_ulps(uint32_t w0, uint32_t w1)
{
    float got[4];
    double want[2], worst = 0;
    yd_normal4((const uint32_t[4]){w0, w1, w0, w1}, got);
    reference_pair(w0, w1, want);
    CHECK(got[0] == got[2] && got[1] == got[3]);
    for (int i = 0; i < 2; i++) {
        // cos and sin of whole quarters are 0 here and 1e-16 in double: an absolute floor of 1e-12
        double ulp = fmax(fabs(want[i]), 1e-5) * 0x1p-23;
        worst = fmax(worst, fabs((double)got[i] - want[i]) / ulp);
    }
    return worst;
}

static void test_accuracy(void)
{
    double worst = 0;
    uint32_t a = 1, b = 7;
    for (int i = 0; i < 400000; i++) {
        a = a * 1664525u + 1013904223u;
        b = b * 22695477u + 1u;
        worst = fmax(worst, worst_ulps(a, b ^ (b >> 15)));
    }
    // Both ends of u1, and around every eighth of a turn.
    for (uint32_t k = 0; k < 40; k++)
        for (uint32_t eighth = 0; eighth < 8; eighth++)
            for (int d = -3; d <= 3; d++) {
                worst = fmax(worst, worst_ulps(k * k, eighth * 0x20000000u + (uint32_t)d));
                worst = fmax(worst, worst_ulps(0u - k * k * k, eighth * 0x20000000u + (uint32_t)d));
            }
    printf("  worst error %.2f ulp\n", worst);
    CHECK(worst < 5.0);
}

static void test_extremes(void)
{
    float n[4];
    yd_normal4((const uint32_t[4]){0, 0, 0xffffffff, 0xffffffff}, n);
    CHECK(n[0] > 6.7f && n[0] < 6.8f && n[1] == 0.0f); // the farthest tail there is
    CHECK(n[2] == 0.0f && n[3] == 0.0f);               // u1 rounds to 1: radius 0, not NaN
    yd_normal4((const uint32_t[4]){0, 0x40000000, 0, 0x80000000}, n);
    CHECK(n[0] == 0.0f && n[1] > 6.7f && n[2] < -6.7f && n[3] == 0.0f);
}

// These values are part of the service's promise (the same bytes for the same seed): they may never change.
static void test_pinned_values(void)
{
    static const float pinned[6] = {-0x1.4d518cp+0f, -0x1.217bf6p-3f, -0x1.8b0c32p+0f,
                                    0x1.110f56p-2f,  0x1.1df0c4p-3f,  -0x1.052d32p+0f};
    float got[6];
    yd_rng_row(0x123456789abcdef0u, 17, 1000, 2000, 2, 3, got);
    for (int i = 0; i < 6; i++) CHECK_MSG(got[i] == pinned[i], "%d: %a", i, (double)got[i]);
    CHECK(yd_rng_uniform(42, 7, 99, 5) == 0x1.a46b5p-3f);
}

enum { WIDTH = 1000, ROWS = 400, CHANNELS = 3 };

static void test_moments(void)
{
    static float row[WIDTH * CHANNELS];
    double m[5] = {0}, cross = 0, n = 0;
    for (uint32_t y = 0; y < ROWS; y++) {
        yd_rng_row(2024, 3, y, 0, WIDTH, CHANNELS, row);
        for (int i = 0; i < WIDTH * CHANNELS; i++, n++) {
            double x = (double)row[i], p = 1;
            for (int k = 1; k <= 4; k++) m[k] += p *= x;
            if (i > 0) cross += x * (double)row[i - 1];
        }
    }
    // Five standard errors of each sum over n = 1.2 million.
    double se = 5 / sqrt(n);
    CHECK_MSG(fabs(m[1] / n) < se, "mean %g", m[1] / n);
    CHECK_MSG(fabs(m[2] / n - 1) < se * sqrt(2), "variance %g", m[2] / n);
    CHECK_MSG(fabs(m[3] / n) < se * sqrt(15), "third moment %g", m[3] / n);
    CHECK_MSG(fabs(m[4] / n - 3) < se * sqrt(96), "fourth moment %g", m[4] / n);
    CHECK_MSG(fabs(cross / n) < se, "neighbours correlate %g", cross / n);
}

// The empirical distribution against the normal one at 121 points, and the tails.
static void test_distribution(void)
{
    static float row[WIDTH * CHANNELS];
    static long below[122];
    double n = (double)WIDTH * ROWS * CHANNELS, ks = 0;
    memset(below, 0, sizeof below);
    for (uint32_t y = 0; y < ROWS; y++) {
        yd_rng_row(99, 1, y, 5000, WIDTH, CHANNELS, row);
        for (int i = 0; i < WIDTH * CHANNELS; i++) {
            int bin = (int)ceil(((double)row[i] + 6.0) * 10.0); // counts towards every edge -6 + bin/10 and above
            below[bin < 0 ? 0 : bin > 121 ? 121 : bin]++;
        }
    }
    for (int i = 0; i <= 120; i++) {
        if (i > 0) below[i] += below[i - 1];
        ks = fmax(ks, fabs((double)below[i] / n - 0.5 * erfc((6.0 - i / 10.0) / sqrt(2))));
    }
    CHECK_MSG(ks * sqrt(n) < 1.95, "KS statistic %g", ks * sqrt(n)); // 0.1 per cent of samples are beyond
    double tails = (n - (double)below[100] + (double)below[20]) / n;
    CHECK_MSG(fabs(tails / 6.33e-5 - 1) < 0.5, "beyond four sigma: %g", tails);
}

// Pixel by pixel through the public scalar functions: whole rows must give these bits.
static void scalar_row(uint64_t seed, uint32_t step, uint32_t y, uint32_t x0, int n, int c, float *dst)
{
    for (int i = 0; i < n; i++) {
        uint32_t w[4];
        float v[4];
        yd_philox((const uint32_t[4]){x0 + (uint32_t)i, y, step, 0},
                  (const uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)}, w);
        yd_normal4(w, v);
        memcpy(dst + i * c, v, (size_t)c * sizeof *v);
    }
}

static void test_scalar_path_same_bits(void)
{
    enum { N = 20011 };
    float *a = malloc(N * 4 * sizeof *a), *b = malloc(N * 4 * sizeof *b);
    for (int c = 1; c <= 4; c++) {
        yd_rng_row(0xfeedfacecafebeefu, 9, 77, 0xffffff00u, N, c, a); // x wraps around, as a counter should
        scalar_row(0xfeedfacecafebeefu, 9, 77, 0xffffff00u, N, c, b);
        CHECK(memcmp(a, b, (size_t)(N * c) * sizeof *a) == 0);
    }
    free(a);
    free(b);
}

#if defined(__x86_64__) && defined(__GNUC__)
// The inline functions compiled for FMA hardware here, whichever clone the library has chosen.
__attribute__((target("avx2,fma"))) static long fma_differences(void)
{
    long differ = 0;
    for (uint32_t i = 0; i < 200000; i++) {
        float n0, n1, want[4];
        uint32_t w0 = i * 2654435761u, w1 = ~i * 0x9E3779B1u;
        yd_normal_pair(w0, w1, &n0, &n1);
        yd_normal4((const uint32_t[4]){w0, w1, 0, 0}, want);
        differ += yd_bits_of(n0) != yd_bits_of(want[0]) || yd_bits_of(n1) != yd_bits_of(want[1]);
    }
    return differ;
}

static void test_fma_hardware_same_bits(void)
{
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) CHECK(fma_differences() == 0);
}
#endif

static void test_granularity(void)
{
    enum { N = 517 };
    float whole[N * 3], pieces[N * 3];
    yd_rng_row(5, 6, 7, 100, N, 3, whole);
    for (int size = 1; size < N; size = size * 2 + 1) {
        for (int at = 0; at < N; at += size) {
            int n = N - at < size ? N - at : size;
            yd_rng_row(5, 6, 7, 100 + (uint32_t)at, n, 3, pieces + at * 3);
        }
        CHECK(memcmp(whole, pieces, sizeof whole) == 0);
    }
    float one[1] = {0};
    for (int i = 0; i < N; i++) { // the first channel is the same draw, however many are asked for
        yd_rng_row(5, 6, 7, 100 + (uint32_t)i, 1, 1, one);
        CHECK(one[0] == whole[i * 3]);
    }
    float guard[4] = {1, 2, 3, 4};
    yd_rng_row(5, 6, 7, 100, 1, 3, guard);
    CHECK(guard[3] == 4); // writes n*c values and not one more
}

static void test_coordinates_matter(void)
{
    float base[3], other[3];
    yd_rng_row(1, 2, 3, 4, 1, 3, base);
    static const struct {
        uint64_t seed;
        uint32_t step, y, x;
    } k[] = {{2, 2, 3, 4}, {1ull << 32 | 1, 2, 3, 4}, {1, 3, 3, 4}, {1, 2, 4, 4}, {1, 2, 3, 5}, {1, 2, 4, 3}};
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        yd_rng_row(k[i].seed, k[i].step, k[i].y, k[i].x, 1, 3, other);
        CHECK(base[0] != other[0] && base[1] != other[1] && base[2] != other[2]);
    }
}

static void test_uniform(void)
{
    enum { N = 200000 };
    static long bins[64];
    double sum = 0, chi2 = 0;
    memset(bins, 0, sizeof bins);
    for (uint32_t i = 0; i < N; i++) {
        float u = yd_rng_uniform(7, 1, i / 8, i % 8);
        CHECK(u >= 0.0f && u < 1.0f);
        CHECK(u * 0x1p24f == floorf(u * 0x1p24f));
        sum += (double)u;
        bins[(int)(u * 64)]++;
    }
    CHECK(fabs(sum / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
    for (int i = 0; i < 64; i++) chi2 += pow((double)bins[i] - N / 64.0, 2) / (N / 64.0);
    CHECK_MSG(chi2 < 110, "chi^2 %g with 63 degrees of freedom", chi2);
    float u = yd_rng_uniform(7, 1, 0, 0);
    CHECK(u != yd_rng_uniform(8, 1, 0, 0) && u != yd_rng_uniform(7, 2, 0, 0) &&
          u != yd_rng_uniform(7, 1, 1ull << 32, 0));
    CHECK(u != yd_rng_uniform(7, 1, 0, 1) && u != yd_rng_uniform(7, 1, 0, 4));
}

static void test_speed(void)
{
    static float row[1024 * 3];
    double best = 1e9;
    for (int r = 0; r < 5; r++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (uint32_t y = 0; y < 50; y++) yd_rng_row(5, 3, y, 0, 1024, 3, row);
        clock_gettime(CLOCK_MONOTONIC, &b);
        best = fmin(best, ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / (50 * 3072));
    }
    printf("  %.2f ns per normal\n", best);
    CHECK(best < 1000.0); // the plain clone with the C library's fmaf stays below; catches a lost algorithm only
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"rng: Philox known answers", test_known_answers},
        {"rng: Box-Muller against the C library", test_accuracy},
        {"rng: the ends of the range", test_extremes},
        {"rng: pinned values", test_pinned_values},
        {"rng: moments", test_moments},
        {"rng: distribution and tails", test_distribution},
        {"rng: rows and single pixels, the same bits", test_scalar_path_same_bits},
#if defined(__x86_64__) && defined(__GNUC__)
        {"rng: FMA hardware, the same bits", test_fma_hardware_same_bits},
#endif
        {"rng: pieces of a row are the row", test_granularity},
        {"rng: every coordinate matters", test_coordinates_matter},
        {"rng: uniform draws", test_uniform},
        {"rng: speed", test_speed},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
