// core/resize: the same bytes as Pillow, and what must hold for any bicubic.
#include "core/mem.h"
#include "core/resize.h"
#include "tests/unit/fixture.h"
#include "tests/unit/t.h"

#include <time.h>

static void noise(uint8_t *p, size_t n, uint32_t state)
{
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (uint8_t)(state >> 24);
    }
}

static void compare_with_pillow(const char *path, const char *name, int dw, int dh)
{
    size_t src_len = 0, want_len = 0;
    uint8_t *src = fixture_read(path, "rgb_uint8_hwc_37x29", &src_len);
    uint8_t *want = fixture_read(path, name, &want_len);
    uint8_t *got = calloc((size_t)dw * (size_t)dh, 3);
    CHECK_MSG(src && want && src_len == 37 * 29 * 3 && want_len == (size_t)dw * (size_t)dh * 3, "%s", name);
    if (src && want && got && want_len == (size_t)dw * (size_t)dh * 3) {
        CHECK(yd_resize_bicubic_u8(src, 29, 37, 3, got, dw, dh, NULL) == 0);
        size_t differ = 0;
        for (size_t i = 0; i < want_len; i++) differ += got[i] != want[i];
        CHECK_MSG(differ == 0, "%s: %zu of %zu bytes differ", name, differ, want_len);
    }
    free(src);
    free(want);
    free(got);
}

static void test_pillow(void)
{
    const char *found = t_shared("fixtures/resize/resize.safetensors");
    if (!found) {
        t_skip("fixtures/resize is not there");
        return;
    }
    compare_with_pillow(found, "pillow_bicubic_148x116", 116, 148);
    compare_with_pillow(found, "pillow_bicubic_296x232", 232, 296);
    compare_with_pillow(found, "pillow_bicubic_74x58", 58, 74);
    compare_with_pillow(found, "pillow_bicubic_8x8", 8, 8);
    compare_with_pillow(found, "pillow_bicubic_11x16", 16, 11);
}

// The definition in plain double loops, with bytes between the passes. Fixed point may differ from it by one where the
// sum is (nearly) half way between two bytes, which in a tiny picture can be a whole row.
static double kernel(double x)
{
    x = fabs(x);
    if (x <= 1) return 1.5 * x * x * x - 2.5 * x * x + 1;
    return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}

static uint8_t sample(const uint8_t *p, int n, size_t stride, int out, int i)
{
    double scale = (double)n / out, wide = scale > 1 ? scale : 1, at = (i + 0.5) * scale, sum = 0, weight = 0;
    for (int j = 0; j < n; j++) {
        double k = kernel((j + 0.5 - at) / wide);
        sum += k * p[(size_t)j * stride];
        weight += k;
    }
    double v = floor(sum / weight + 0.5);
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void oracle(const uint8_t *src, int sw, int sh, int c, uint8_t *dst, int dw, int dh)
{
    uint8_t *mid = calloc((size_t)sh * (size_t)dw, (size_t)c);
    for (int y = 0; y < sh; y++)
        for (int x = 0; x < dw; x++)
            for (int ch = 0; ch < c; ch++)
                mid[((size_t)y * (size_t)dw + (size_t)x) * (size_t)c + (size_t)ch] =
                    sample(src + (size_t)y * (size_t)sw * (size_t)c + ch, sw, (size_t)c, dw, x);
    for (int y = 0; y < dh; y++)
        for (int i = 0; i < dw * c; i++)
            dst[(size_t)y * (size_t)(dw * c) + (size_t)i] = sample(mid + i, sh, (size_t)(dw * c), dh, y);
    free(mid);
}

static void test_oracle(void)
{
    static const int sizes[][4] = {{1, 1, 7, 5},     {5, 3, 1, 1},    {2, 2, 9, 9},     {16, 16, 64, 64},
                                   {40, 25, 13, 60}, {13, 60, 40, 7}, {100, 90, 17, 3}, {31, 1, 31, 8},
                                   {1, 31, 8, 31},   {33, 32, 34, 31}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int c = 1; c <= 4; c++) {
            int sw = sizes[k][0], sh = sizes[k][1], dw = sizes[k][2], dh = sizes[k][3];
            size_t sn = (size_t)(sw * sh * c), dn = (size_t)(dw * dh * c);
            uint8_t *src = malloc(sn), *got = malloc(dn), *want = malloc(dn);
            noise(src, sn, (uint32_t)(k * 4 + (size_t)c));
            CHECK(yd_resize_bicubic_u8(src, sw, sh, c, got, dw, dh, NULL) == 0);
            oracle(src, sw, sh, c, want, dw, dh);
            size_t off = 0;
            int worst = 0;
            for (size_t i = 0; i < dn; i++) {
                int d = abs(got[i] - want[i]);
                off += d != 0;
                worst = d > worst ? d : worst;
            }
            CHECK_MSG(worst <= 1 && off <= dn / 100 + 8, "%dx%dx%d to %dx%d: %zu off, worst %d", sw, sh, c, dw, dh, off,
                      worst);
            free(src);
            free(got);
            free(want);
        }
}

// The 16-bit definition: both passes in double, rounded at the end. Only a sum within 1/100 of half way may round the other way.
static double exact_sample(const double *p, int n, size_t stride, int out, int i)
{
    double scale = (double)n / out, wide = scale > 1 ? scale : 1, at = (i + 0.5) * scale, sum = 0, weight = 0;
    for (int j = 0; j < n; j++) {
        double k = kernel((j + 0.5 - at) / wide);
        sum += k * p[(size_t)j * stride];
        weight += k;
    }
    return sum / weight;
}

static void oracle_u16(const uint16_t *src, int sw, int sh, int c, double *dst, int dw, int dh)
{
    double *from = calloc((size_t)sh * (size_t)sw, (size_t)c * sizeof *from), *mid = calloc((size_t)sh * (size_t)dw, (size_t)c * sizeof *mid);
    for (int i = 0; i < sw * sh * c; i++) from[i] = src[i];
    for (int y = 0; y < sh; y++)
        for (int i = 0; i < dw * c; i++) mid[y * dw * c + i] = exact_sample(from + y * sw * c + i % c, sw, (size_t)c, dw, i / c);
    for (int y = 0; y < dh; y++)
        for (int i = 0; i < dw * c; i++) dst[y * dw * c + i] = exact_sample(mid + i, sh, (size_t)(dw * c), dh, y);
    free(from);
    free(mid);
}

static void compare_u16(int sw, int sh, int c, int dw, int dh, uint32_t state)
{
    size_t sn = (size_t)(sw * sh * c), dn = (size_t)(dw * dh * c);
    uint16_t *src = malloc(sn * 2), *got = malloc(dn * 2);
    double *want = malloc(dn * sizeof *want), worst = 0;
    noise((uint8_t *)src, sn * 2, state);
    CHECK(yd_resize_bicubic_u16(src, sw, sh, c, got, dw, dh, NULL) == 0);
    oracle_u16(src, sw, sh, c, want, dw, dh);
    for (size_t i = 0; i < dn; i++) {
        double d = fabs(got[i] - (want[i] < 0 ? 0 : want[i] > 65535 ? 65535 : want[i]));
        if (d > worst) worst = d;
    }
    CHECK_MSG(worst <= 0.51, "%dx%dx%d to %dx%d: off by %.3f", sw, sh, c, dw, dh, worst);
    free(src);
    free(got);
    free(want);
}

static void test_oracle_u16(void)
{
    static const int sizes[][4] = {{1, 1, 7, 5},     {5, 3, 1, 1},    {2, 2, 9, 9},  {16, 16, 64, 64}, {40, 25, 13, 60},
                                   {13, 60, 40, 7},  {100, 90, 17, 3}, {31, 1, 31, 8}, {1, 31, 8, 31},   {33, 32, 34, 31},
                                   {200, 160, 175, 140}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int c = 1; c <= 4; c++) compare_u16(sizes[k][0], sizes[k][1], c, sizes[k][2], sizes[k][3], (uint32_t)(k * 4 + (size_t)c));
}

// Enlarging bytes held in 16 bits differs from enlarging bytes by rounding alone: at most 1/2 for the rows between the passes, times the
// kernel's sum of absolute weights (below 1.3), and 1/2 at the end.
static void test_u16_agrees_with_u8(void)
{
    enum { IN = 40, OUT = 160 };
    uint8_t src[IN * IN * 3], small[OUT * OUT * 3];
    uint16_t wide_src[IN * IN * 3];
    uint16_t *wide = malloc(sizeof small * 2);
    noise(src, sizeof src, 9);
    for (size_t i = 0; i < sizeof src; i++) src[i] = (uint8_t)(64 + src[i] / 2); // no overshoot to clip
    for (size_t i = 0; i < sizeof src; i++) wide_src[i] = (uint16_t)(src[i] * 257);
    CHECK(yd_resize_bicubic_u8(src, IN, IN, 3, small, OUT, OUT, NULL) == 0);
    CHECK(yd_resize_bicubic_u16(wide_src, IN, IN, 3, wide, OUT, OUT, NULL) == 0);
    double worst = 0;
    for (size_t i = 0; i < sizeof small; i++) worst = fmax(worst, fabs(wide[i] / 257.0 - small[i]));
    CHECK_MSG(worst > 0.5 && worst <= 1.16, "off by %.3f of a byte", worst);
    free(wide);
}

// Half way between two bytes there are 256 values more: they must come through, in order.
static void test_u16_keeps_fine_steps(void)
{
    enum { IN = 64, OUT = 256 };
    uint16_t src[IN], dst[OUT];
    for (int i = 0; i < IN; i++) src[i] = (uint16_t)(30000 + i * 8);
    CHECK(yd_resize_bicubic_u16(src, IN, 1, 1, dst, OUT, 1, NULL) == 0);
    for (int i = 8; i + 8 < OUT; i++) CHECK_MSG(dst[i] - dst[i - 1] == 2, "step %d at %d", dst[i] - dst[i - 1], i);
}

static void test_same_size_is_copy(void)
{
    uint8_t src[23 * 19 * 3], dst[23 * 19 * 3];
    noise(src, sizeof src, 5);
    CHECK(yd_resize_bicubic_u8(src, 23, 19, 3, dst, 23, 19, NULL) == 0);
    CHECK(memcmp(src, dst, sizeof src) == 0);
    uint16_t wide[23 * 19 * 3], wide_dst[23 * 19 * 3];
    noise((uint8_t *)wide, sizeof wide, 6);
    CHECK(yd_resize_bicubic_u16(wide, 23, 19, 3, wide_dst, 23, 19, NULL) == 0);
    CHECK(memcmp(wide, wide_dst, sizeof wide) == 0);
}

static void test_flat_stays_flat(void)
{
    static const int sides[] = {1, 2, 3, 10, 37, 100};
    uint8_t src[37 * 37], dst[100 * 100];
    for (int v = 0; v < 256; v += 51) {
        memset(src, v, sizeof src);
        for (int i = 0; i < 6; i++) {
            int n = sides[i] * sides[i];
            CHECK(yd_resize_bicubic_u8(src, 37, 37, 1, dst, sides[i], sides[i], NULL) == 0);
            for (int j = 0; j < n; j++)
                if (dst[j] != v) {
                    CHECK_MSG(0, "value %d became %d at side %d", v, dst[j], sides[i]);
                    break;
                }
        }
    }
}

static void test_flat_stays_flat_u16(void)
{
    static const int sides[] = {1, 2, 3, 10, 37, 100};
    uint16_t src[37 * 37], dst[100 * 100];
    for (int v = 0; v < 65536; v += 4369)
        for (int i = 0; i < 6; i++) {
            int n = sides[i] * sides[i], off = 0;
            for (int j = 0; j < 37 * 37; j++) src[j] = (uint16_t)v;
            CHECK(yd_resize_bicubic_u16(src, 37, 37, 1, dst, sides[i], sides[i], NULL) == 0);
            for (int j = 0; j < n; j++) off += dst[j] != v;
            CHECK_MSG(off == 0, "value %d: %d of %d pixels differ at side %d", v, off, n, sides[i]);
        }
}

static void test_long_thin(void)
{
    enum { LONG = 65535 };
    uint8_t *src = malloc(LONG), one[3];
    memset(src, 77, LONG);
    CHECK(yd_resize_bicubic_u8(src, LONG, 1, 1, one, 1, 1, NULL) == 0 && one[0] == 77);
    CHECK(yd_resize_bicubic_u8(src, 1, LONG, 1, one, 1, 3, NULL) == 0 && one[0] == 77 && one[2] == 77);
    uint8_t tiny = 9;
    CHECK(yd_resize_bicubic_u8(&tiny, 1, 1, 1, src, LONG, 1, NULL) == 0 && src[0] == 9 && src[LONG - 1] == 9);
    free(src);
    uint16_t *wide = malloc(LONG * sizeof *wide), few[3];
    for (int i = 0; i < LONG; i++) wide[i] = 54321;
    CHECK(yd_resize_bicubic_u16(wide, LONG, 1, 1, few, 1, 1, NULL) == 0 && few[0] == 54321);
    CHECK(yd_resize_bicubic_u16(wide, 1, LONG, 1, few, 1, 3, NULL) == 0 && few[0] == 54321 && few[2] == 54321);
    free(wide);
}

// Every allocation may fail; `make` is one of the two functions, from 8x8 to 16x16.
static int make_u8(yd_err *err)
{
    uint8_t src[8 * 8 * 3] = {0}, dst[16 * 16 * 3];
    return yd_resize_bicubic_u8(src, 8, 8, 3, dst, 16, 16, err);
}

static int make_u16(yd_err *err)
{
    uint16_t src[8 * 8 * 3] = {0}, dst[16 * 16 * 3];
    return yd_resize_bicubic_u16(src, 8, 8, 3, dst, 16, 16, err);
}

static void fail_every_allocation(int (*make)(yd_err *))
{
    int rc = YD_E_NOMEM;
    long k = 1;
    for (; k < 100 && rc == YD_E_NOMEM; k++) {
        yd_err err = {0};
        yd_mem_fail_at(k);
        rc = make(&err);
        yd_mem_fail_at(0);
        CHECK(rc == YD_OK || (rc == YD_E_NOMEM && err.code == YD_E_NOMEM && strstr(err.detail, "16 x 16")));
    }
    CHECK_MSG(rc == YD_OK && k > 6, "%ld allocations", k - 2);
}

static void test_out_of_memory(void)
{
    fail_every_allocation(make_u8);
    fail_every_allocation(make_u16);
}

static double seconds_since(const struct timespec *a)
{
    struct timespec b;
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)(b.tv_sec - a->tv_sec) + (double)(b.tv_nsec - a->tv_nsec) / 1e9;
}

// Bounds are far above what any machine needs: they catch a lost algorithm, not a busy machine.
static void test_speed(void)
{
    enum { SMALL = 256, LARGE = 1024 };
    static const int way[2][2] = {{SMALL, LARGE}, {LARGE, SMALL}};
    uint8_t *src = malloc(LARGE * LARGE * 3), *dst = malloc(LARGE * LARGE * 3);
    uint16_t *wide_src = malloc(LARGE * LARGE * 6), *wide_dst = malloc(LARGE * LARGE * 6);
    noise(src, LARGE * LARGE * 3, 1);
    noise((uint8_t *)wide_src, LARGE * LARGE * 6, 1);
    for (int k = 0; k < 2; k++) {
        const int in = way[k][0], out = way[k][1];
        double best[2] = {1e9, 1e9};
        for (int i = 0; i < 5; i++) {
            struct timespec a;
            clock_gettime(CLOCK_MONOTONIC, &a);
            CHECK(yd_resize_bicubic_u8(src, in, in, 3, dst, out, out, NULL) == 0);
            best[0] = fmin(best[0], seconds_since(&a));
            clock_gettime(CLOCK_MONOTONIC, &a);
            CHECK(yd_resize_bicubic_u16(wide_src, in, in, 3, wide_dst, out, out, NULL) == 0);
            best[1] = fmin(best[1], seconds_since(&a));
        }
        const double mpx = LARGE * LARGE / 1e6; // of the larger picture
        printf("  %4d to %4d, three channels: bytes %.1f ms (%.0f MPx/s), 16 bits %.1f ms (%.0f MPx/s)\n", in, out, best[0] * 1e3,
               mpx / best[0], best[1] * 1e3, mpx / best[1]);
        CHECK(best[0] < 0.5 && best[1] < 0.5);
    }
    free(src);
    free(dst);
    free(wide_src);
    free(wide_dst);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"resize: Pillow's bytes", test_pillow},
        {"resize: the definition in double", test_oracle},
        {"resize: 16 bits, the definition in double", test_oracle_u16},
        {"resize: 16 bits agree with bytes", test_u16_agrees_with_u8},
        {"resize: 16 bits keep steps finer than a byte's", test_u16_keeps_fine_steps},
        {"resize: the same size is a copy", test_same_size_is_copy},
        {"resize: flat stays flat", test_flat_stays_flat},
        {"resize: flat stays flat in 16 bits", test_flat_stays_flat_u16},
        {"resize: 65535 pixels to one and back", test_long_thin},
        {"resize: every allocation may fail", test_out_of_memory},
        {"resize: speed", test_speed},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
