// Bicubic resampling of bytes in fixed point, the same bytes as Pillow's.
//
// An axis is described once: for every output position, the first input position it reads and its weights, in 1/2^22. Weights are
// worked out in double, normalised to sum 1, then rounded half away from zero. The horizontal pass turns one source row into one
// row of bytes; the vertical pass mixes those rows. Source rows are needed in order and only `ring` of them at a time, so the
// intermediate picture is a ring of rows rather than a plane.
// A weighted sum fits an int: the weights' absolute values add up to less than 1.5, and 1.5 * 2^22 * 255 < 2^31.
// Owns nothing between calls. Fails only when memory is out.
#include "core/resize.h"

#include "core/mem.h"
#include "core/simd.h"

#include <math.h>
#include <string.h>

#define WEIGHT_BITS   22
#define HALF          (1 << (WEIGHT_BITS - 1))
#define CUBIC_A       (-0.5)
#define CUBIC_SUPPORT 2.0

typedef struct span {
    int first; // input position of the first weight
    int count;
} span;

typedef struct axis {
    int taps; // room for weights per output position
    span *spans;
    int32_t *weights; // [out][taps]
} axis;

static double cubic(double x)
{
    x = fabs(x);
    if (x < 1.0) return ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC_A;
    return 0.0;
}

static int32_t to_fixed(double w)
{
    double scaled = w * (1 << WEIGHT_BITS);
    return (int32_t)(scaled < 0.0 ? scaled - 0.5 : scaled + 0.5);
}

// Weights of one output position; `w` is scratch for at least `taps` doubles.
static span axis_weights(double center, double stretch, int in, double *w, int32_t *fixed)
{
    double support = CUBIC_SUPPORT * stretch;
    int first = (int)(center - support + 0.5);
    int end = (int)(center + support + 0.5);
    if (first < 0) first = 0;
    if (end > in) end = in;

    double per_tap = 1.0 / stretch, sum = 0.0;
    int count = end - first;
    for (int i = 0; i < count; i++) {
        w[i] = cubic((i + first - center + 0.5) * per_tap);
        sum += w[i];
    }
    for (int i = 0; i < count; i++) fixed[i] = to_fixed(sum != 0.0 ? w[i] / sum : w[i]);
    return (span){first, count};
}

static void axis_free(axis *ax)
{
    yd_free(ax->spans);
    yd_free(ax->weights);
}

// Returns 0, or -1 when memory is out. The caller frees the axis either way.
static int axis_make(axis *ax, int in, int out)
{
    double scale = (double)in / out;
    double stretch = scale < 1.0 ? 1.0 : scale; // shrinking widens the kernel
    size_t bytes;
    *ax = (axis){.taps = (int)ceil(CUBIC_SUPPORT * stretch) * 2 + 1};
    double *scratch = yd_calloc((size_t)ax->taps, sizeof *scratch);
    ax->spans = yd_calloc((size_t)out, sizeof *ax->spans);
    if (yd_mul_size((size_t)out * (size_t)ax->taps, sizeof *ax->weights, &bytes) == 0) ax->weights = yd_malloc(bytes);
    int ok = scratch && ax->spans && ax->weights;
    for (int i = 0; ok && i < out; i++)
        ax->spans[i] =
            axis_weights((i + 0.5) * scale, stretch, in, scratch, ax->weights + (size_t)i * (size_t)ax->taps);
    yd_free(scratch);
    return ok ? 0 : -1;
}

static inline uint8_t to_byte(int32_t sum)
{
    int32_t v = sum >> WEIGHT_BITS; // floor: HALF was added before
    v = v < 0 ? 0 : v;
    return (uint8_t)(v > 255 ? 255 : v);
}

// One row, `c` a constant in each caller so that the channel loop unrolls.
static inline __attribute__((always_inline)) void row_pass(const uint8_t *src, const axis *ax, uint8_t *dst, int dw,
                                                           int c)
{
    for (int x = 0; x < dw; x++) {
        const int32_t *k = ax->weights + (size_t)x * (size_t)ax->taps;
        const uint8_t *p = src + (size_t)ax->spans[x].first * (size_t)c;
        int32_t sum[4] = {HALF, HALF, HALF, HALF};
        for (int i = 0; i < ax->spans[x].count; i++, p += c)
            for (int ch = 0; ch < c; ch++) sum[ch] += k[i] * p[ch];
        for (int ch = 0; ch < c; ch++) *dst++ = to_byte(sum[ch]);
    }
}

static void resize_row(const uint8_t *src, const axis *ax, uint8_t *dst, int dw, int c)
{
    switch (c) {
    case 1:
        row_pass(src, ax, dst, dw, 1);
        break;
    case 2:
        row_pass(src, ax, dst, dw, 2);
        break;
    case 3:
        row_pass(src, ax, dst, dw, 3);
        break;
    default:
        row_pass(src, ax, dst, dw, 4);
        break;
    }
}

// acc += k * row, the inner loop of the vertical pass.
YD_SIMD static void add_row(int32_t *restrict acc, const uint8_t *restrict row, int32_t k, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += k * row[i];
}

// The usual case, enlarging: all rows (at most four) in one go, without an accumulator in memory.
YD_SIMD static void mix_four(uint8_t *restrict dst, const uint8_t *const row[4], const int32_t k[4], size_t n)
{
    const uint8_t *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3];
    int32_t k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3];
    for (size_t i = 0; i < n; i++) dst[i] = to_byte(HALF + k0 * r0[i] + k1 * r1[i] + k2 * r2[i] + k3 * r3[i]);
}

YD_SIMD static void store_row(uint8_t *restrict dst, const int32_t *restrict acc, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = to_byte(acc[i]);
}

// Rows first..first+count-1 of the ring into one output row.
static void mix_rows(uint8_t *dst, const uint8_t *ring, int ring_rows, size_t row_bytes, span s, const int32_t *k,
                     int32_t *acc)
{
    if (s.count <= 4) {
        const uint8_t *row[4];
        int32_t w[4];
        for (int i = 0; i < 4; i++) { // fewer than four: the missing ones weigh nothing
            int at = i < s.count ? i : 0;
            row[i] = ring + (size_t)((s.first + at) % ring_rows) * row_bytes;
            w[i] = i < s.count ? k[i] : 0;
        }
        mix_four(dst, row, w, row_bytes);
        return;
    }
    for (size_t i = 0; i < row_bytes; i++) acc[i] = HALF;
    for (int i = 0; i < s.count; i++)
        add_row(acc, ring + (size_t)((s.first + i) % ring_rows) * row_bytes, k[i], row_bytes);
    store_row(dst, acc, row_bytes);
}

int yd_resize_bicubic_u8(const uint8_t *src, int sw, int sh, int c, uint8_t *dst, int dw, int dh, yd_err *err)
{
    axis ax = {0}, ay = {0};
    uint8_t *ring = NULL;
    int32_t *acc = NULL;
    int rc = YD_OK;
    size_t row_bytes = (size_t)dw * (size_t)c, src_bytes = (size_t)sw * (size_t)c;

    if (axis_make(&ax, sw, dw) || axis_make(&ay, sh, dh)) goto nomem;
    int ring_rows = ay.taps < sh ? ay.taps : sh;
    ring = yd_calloc((size_t)ring_rows, row_bytes);
    acc = yd_calloc(row_bytes, sizeof *acc);
    if (!ring || !acc) goto nomem;

    int ready = 0; // source rows below this one have been through the ring
    for (int y = 0; y < dh; y++) {
        span s = ay.spans[y];
        if (ready < s.first) ready = s.first;
        for (; ready < s.first + s.count; ready++)
            resize_row(src + (size_t)ready * src_bytes, &ax, ring + (size_t)(ready % ring_rows) * row_bytes, dw, c);
        mix_rows(dst + (size_t)y * row_bytes, ring, ring_rows, row_bytes, s, ay.weights + (size_t)y * (size_t)ay.taps,
                 acc);
    }
    goto done;

nomem:
    rc = yd_fail(err, YD_E_NOMEM, "no memory to resize a picture of %d x %d to %d x %d", sw, sh, dw, dh);
done:
    yd_free(acc);
    yd_free(ring);
    axis_free(&ay);
    axis_free(&ax);
    return rc;
}
