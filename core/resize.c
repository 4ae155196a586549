// Bicubic resampling: of bytes in fixed point, the same bytes as Pillow's; of 16-bit values in floating point.
//
// An axis is described once: for every output position, the first input position it reads and its weights, worked out in double and
// normalised to sum 1; for bytes then in 1/2^22, rounded half away from zero. The horizontal pass turns one source row into one row of
// the result's width; the vertical pass mixes those rows. Source rows are needed in order and only `ring` of them at a time, so the
// intermediate picture is a ring of rows rather than a plane.
//   bytes   the ring holds bytes, rounded and clipped. A weighted sum fits an int: the weights' absolute values add up to less than
//           1.5, and 1.5 * 2^22 * 255 < 2^31.
//   16 bit  the ring holds floats, neither rounded to integers nor clipped (half a unit in a float's last place is below 1/256 of a
//           step); sums are made in double, in the order of the taps, so that the bits are the same on every machine.
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

#define ALLOCATION_SLACK 1024 // what the allocator adds to seven blocks: headers and alignment

typedef struct span {
    int first; // input position of the first weight
    int count;
} span;

typedef struct axis {
    int taps; // room for weights per output position
    span *spans;
    int32_t *weights; // [out][taps], for bytes; else NULL
    double *exact;    // [out][taps], for 16 bits; else NULL
} axis;

typedef enum { FIXED, EXACT } precision;

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

// Weights of one output position: at most `taps` values into w.
static span axis_weights(double center, double stretch, int in, double *w)
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
    for (int i = 0; sum != 0.0 && i < count; i++) w[i] /= sum;
    return (span){first, count};
}

static void axis_free(axis *ax)
{
    yd_free(ax->spans);
    yd_free(ax->weights);
    yd_free(ax->exact);
}

static int axis_taps(int in, int out)
{
    double scale = (double)in / out;
    return (int)ceil(CUBIC_SUPPORT * (scale < 1.0 ? 1.0 : scale)) * 2 + 1;
}

// Returns 0, or -1 when memory is out. The caller frees the axis either way.
static int axis_make(axis *ax, int in, int out, precision p)
{
    double scale = (double)in / out;
    double stretch = scale < 1.0 ? 1.0 : scale; // shrinking widens the kernel
    *ax = (axis){.taps = axis_taps(in, out)};
    const size_t taps = (size_t)ax->taps, n = (size_t)out * taps;
    double *scratch = NULL;
    ax->spans = yd_calloc((size_t)out, sizeof *ax->spans);
    if (p == FIXED) {
        ax->weights = yd_calloc(n, sizeof *ax->weights);
        scratch = yd_calloc(taps, sizeof *scratch);
    } else {
        ax->exact = yd_calloc(n, sizeof *ax->exact);
    }
    const int ok = ax->spans && (p == FIXED ? ax->weights && scratch : ax->exact != NULL);
    for (int i = 0; ok && i < out; i++) {
        double *w = p == FIXED ? scratch : ax->exact + (size_t)i * taps;
        ax->spans[i] = axis_weights((i + 0.5) * scale, stretch, in, w);
        for (int k = 0; p == FIXED && k < ax->spans[i].count; k++) ax->weights[(size_t)i * taps + (size_t)k] = to_fixed(w[k]);
    }
    yd_free(scratch);
    return ok ? 0 : -1;
}

// ---- bytes ---------------------------------------------------------------------------------------------------------

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

    if (axis_make(&ax, sw, dw, FIXED) || axis_make(&ay, sh, dh, FIXED)) goto nomem;
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

// ---- 16 bits -------------------------------------------------------------------------------------------------------

// Four channels side by side; one that is not there is carried along as zero.
typedef double lanes __attribute__((vector_size(4 * sizeof(double))));

typedef struct wide_work {
    lanes *row;  // one source row, a pixel in four lanes [sw]
    float *ring; // [ring_rows][dw*c]
    double *acc; // [dw*c]
    int ring_rows;
} wide_work;

static inline uint16_t to_word(double v)
{
    v += 0.5;
    v = v > 0.0 ? v : 0.0;
    return (uint16_t)(v < 65535.0 ? v : 65535.0);
}

YD_SIMD static void widen_row(lanes *restrict dst, const uint16_t *restrict src, int n, int c)
{
    for (int x = 0; x < n; x++, src += c)
        dst[x] = (lanes){src[0], c > 1 ? src[1] : 0, c > 2 ? src[2] : 0, c > 3 ? src[3] : 0};
}

YD_SIMD static void wide_row_pass(const lanes *restrict row, const axis *ax, float *restrict dst, int dw, int c)
{
    for (int x = 0; x < dw; x++, dst += c) {
        const double *k = ax->exact + (size_t)x * (size_t)ax->taps;
        const lanes *p = row + ax->spans[x].first;
        lanes sum = {0};
        for (int i = 0; i < ax->spans[x].count; i++) sum += p[i] * k[i];
        for (int ch = 0; ch < c; ch++) dst[ch] = (float)sum[ch];
    }
}

YD_SIMD static void wide_mix_four(uint16_t *restrict dst, const float *const row[4], const double k[4], size_t n)
{
    const float *r0 = row[0], *r1 = row[1], *r2 = row[2], *r3 = row[3];
    const double k0 = k[0], k1 = k[1], k2 = k[2], k3 = k[3];
    for (size_t i = 0; i < n; i++) dst[i] = to_word(k0 * r0[i] + k1 * r1[i] + k2 * r2[i] + k3 * r3[i]);
}

YD_SIMD static void wide_add_row(double *restrict acc, const float *restrict row, double k, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += k * row[i];
}

YD_SIMD static void wide_store_row(uint16_t *restrict dst, const double *restrict acc, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = to_word(acc[i]);
}

static void wide_mix_rows(uint16_t *dst, const wide_work *work, size_t n, span s, const double *k)
{
    const float *row[4];
    double w[4];
    for (int i = 0; i < 4; i++) { // fewer than four: the missing ones weigh nothing
        int at = i < s.count ? i : 0;
        row[i] = work->ring + (size_t)((s.first + at) % work->ring_rows) * n;
        w[i] = i < s.count ? k[i] : 0;
    }
    if (s.count <= 4) {
        wide_mix_four(dst, row, w, n);
        return;
    }
    memset(work->acc, 0, n * sizeof *work->acc);
    for (int i = 0; i < s.count; i++)
        wide_add_row(work->acc, work->ring + (size_t)((s.first + i) % work->ring_rows) * n, k[i], n);
    wide_store_row(dst, work->acc, n);
}

static void wide_resize(const wide_work *work, const axis *ax, const axis *ay, const uint16_t *src, int sw, int c, uint16_t *dst,
                        int dw, int dh)
{
    const size_t n = (size_t)dw * (size_t)c, src_n = (size_t)sw * (size_t)c;
    int ready = 0; // source rows below this one have been through the ring
    for (int y = 0; y < dh; y++) {
        const span s = ay->spans[y];
        if (ready < s.first) ready = s.first;
        for (; ready < s.first + s.count; ready++) {
            widen_row(work->row, src + (size_t)ready * src_n, sw, c);
            wide_row_pass(work->row, ax, work->ring + (size_t)(ready % work->ring_rows) * n, dw, c);
        }
        wide_mix_rows(dst + (size_t)y * n, work, n, s, ay->exact + (size_t)y * (size_t)ay->taps);
    }
}

int yd_resize_bicubic_u16(const uint16_t *src, int sw, int sh, int c, uint16_t *dst, int dw, int dh, yd_err *err)
{
    const size_t n = (size_t)dw * (size_t)c;
    axis ax = {0}, ay = {0};
    wide_work work = {0};
    int rc = 0;
    if (axis_make(&ax, sw, dw, EXACT) || axis_make(&ay, sh, dh, EXACT)) goto nomem;
    work.ring_rows = ay.taps < sh ? ay.taps : sh;
    work.row = yd_alloc_aligned((size_t)sw * sizeof *work.row);
    work.ring = yd_calloc((size_t)work.ring_rows, n * sizeof *work.ring);
    work.acc = yd_calloc(n, sizeof *work.acc);
    if (!work.row || !work.ring || !work.acc) goto nomem;
    wide_resize(&work, &ax, &ay, src, sw, c, dst, dw, dh);
    goto done;

nomem:
    rc = yd_fail(err, YD_E_NOMEM, "no memory to resize a picture of %d x %d to %d x %d", sw, sh, dw, dh);
done:
    yd_free(work.acc);
    yd_free(work.ring);
    yd_free_aligned(work.row);
    axis_free(&ay);
    axis_free(&ax);
    return rc;
}

size_t yd_resize_u16_bytes(int sw, int sh, int c, int dw, int dh)
{
    const size_t tx = (size_t)axis_taps(sw, dw), ty = (size_t)axis_taps(sh, dh), rows = ty < (size_t)sh ? ty : (size_t)sh;
    const size_t axes = (size_t)dw * (tx * sizeof(double) + sizeof(span)) + (size_t)dh * (ty * sizeof(double) + sizeof(span));
    const size_t n = (size_t)dw * (size_t)c;
    return axes + (size_t)sw * sizeof(lanes) + rows * n * sizeof(float) + n * sizeof(double) + ALLOCATION_SLACK;
}
