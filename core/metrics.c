// PSNR (at most 100 dB, so that nothing ranks above equality) and SSIM of two 8-bit RGB pictures, in RGB or luma.
//
// SSIM filters five planes (a, b, aa, bb, ab) with a separable Gaussian. The horizontal pass makes one row of all five at a time into
// a ring of 11 rows, from which the vertical pass takes one output row; so memory grows with the width, not with the picture.
// Owns nothing between calls. All sums are double and in row order: the result does not depend on anything but the pictures.
#include "core/metrics.h"

#include "core/mem.h"
#include "core/resize.h"
#include "core/simd.h"

#include <math.h>
#include <string.h>

#define PSNR_MOST 100.0

enum { TAPS = 11, PLANES = 5, CHANNELS = 3 };
#define SIGMA 1.5
#define C1    (0.01 * 255 * 0.01 * 255)
#define C2    (0.03 * 255 * 0.03 * 255)

// One of the two pictures: its pixels that remain after the crop, and what is added to its values.
typedef struct picture {
    const uint8_t *px;
    size_t stride; // bytes from row to row
    double shift[CHANNELS];
} picture;

typedef struct pair {
    picture a, b;
    size_t w, h;
    yd_metric_space space;
    size_t channels; // that are compared: 3, or 1 for luma
} pair;

static double luma(double r, double g, double b)
{
    return (65.481 * r + 128.553 * g + 24.966 * b) / 255.0;
}

static inline double value_at(const picture *p, yd_metric_space space, const uint8_t *px, size_t c)
{
    return (space == YD_METRIC_Y ? 16.0 + luma(px[0], px[1], px[2]) : px[c]) + p->shift[c];
}

static double sum_of(const picture *p, size_t w, size_t h, size_t c)
{
    uint64_t sum = 0;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++) sum += p->px[y * p->stride + x * CHANNELS + c];
    return (double)sum;
}

static void move_to_mean(pair *k)
{
    double shift[CHANNELS], n = (double)k->w * (double)k->h;
    for (size_t c = 0; c < CHANNELS; c++) shift[c] = (sum_of(&k->b, k->w, k->h, c) - sum_of(&k->a, k->w, k->h, c)) / n;
    if (k->space == YD_METRIC_Y) shift[0] = luma(shift[0], shift[1], shift[2]);
    memcpy(k->a.shift, shift, sizeof shift);
}

// -1 when fewer than `least` pixels a side remain.
static int make_pair(pair *k, const uint8_t *a, const uint8_t *b, int w, int h, const yd_metric_options *opt,
                     long least)
{
    yd_metric_options o = opt ? *opt : (yd_metric_options){0};
    long cw = (long)w - 2L * o.crop, ch = (long)h - 2L * o.crop;
    if (o.crop < 0 || cw < least || ch < least) return -1;
    size_t stride = (size_t)w * CHANNELS, at = (size_t)o.crop * stride + (size_t)o.crop * CHANNELS;
    *k = (pair){.a = {.px = a + at, .stride = stride},
                .b = {.px = b + at, .stride = stride},
                .w = (size_t)cw,
                .h = (size_t)ch,
                .space = o.space,
                .channels = o.space == YD_METRIC_Y ? 1 : CHANNELS};
    if (o.unshift) move_to_mean(k);
    return 0;
}

static int too_small(const char *what, int w, int h, const yd_metric_options *opt, int least, yd_err *err)
{
    return yd_fail(err, YD_E_IMAGE_TOO_SMALL,
                   "%s of %d x %d pixels with %d cropped on every side: at least %d x %d must remain", what, w, h,
                   opt ? opt->crop : 0, least, least);
}

// Without a shift the differences of RGB are whole numbers and their sum of squares is exact.
static double psnr_of(const pair *k)
{
    double sum = 0.0;
    for (size_t y = 0; y < k->h; y++) {
        const uint8_t *pa = k->a.px + y * k->a.stride, *pb = k->b.px + y * k->b.stride;
        for (size_t x = 0; x < k->w; x++, pa += CHANNELS, pb += CHANNELS)
            for (size_t c = 0; c < k->channels; c++) {
                double d = value_at(&k->a, k->space, pa, c) - value_at(&k->b, k->space, pb, c);
                sum += d * d;
            }
    }
    double mse = sum / ((double)k->w * (double)k->h * (double)k->channels);
    return mse > 0.0 ? fmin(10.0 * log10(255.0 * 255.0 / mse), PSNR_MOST) : PSNR_MOST;
}

int yd_psnr(const uint8_t *a, const uint8_t *b, int w, int h, const yd_metric_options *opt, double *out, yd_err *err)
{
    pair k;
    if (make_pair(&k, a, b, w, h, opt, 1)) return too_small("PSNR", w, h, opt, 1, err);
    *out = psnr_of(&k);
    return YD_OK;
}

double yd_psnr_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop)
{
    double psnr = NAN;
    yd_psnr(a, b, w, h, &(yd_metric_options){.crop = crop}, &psnr, NULL);
    return psnr;
}

int yd_psnr_lr(const uint8_t *a, int w, int h, const uint8_t *lr, int lw, int lh, double *out, yd_err *err)
{
    if (lw < 1 || lh < 1 || lw > w || lh > h)
        return yd_fail(err, YD_E_INVALID, "a result of %d x %d pixels cannot be shrunk to an input of %d x %d", w, h,
                       lw, lh);
    uint8_t *small = yd_calloc((size_t)lw * (size_t)lh, CHANNELS);
    if (!small) return yd_fail(err, YD_E_NOMEM, "no memory to shrink a picture to %d x %d pixels", lw, lh);
    int rc = yd_resize_bicubic_u8(a, w, h, CHANNELS, small, lw, lh, err);
    if (!rc) rc = yd_psnr(small, lr, lw, lh, NULL, out, err);
    yd_free(small);
    return rc;
}

// The scratch of one SSIM: `line` holds one channel of one source row as the five products, `ring` their filtered rows.
typedef struct ssim_work {
    size_t w;  // source columns
    size_t vw; // valid columns, w - (TAPS - 1)
    double taps[TAPS];
    double *line; // [PLANES][w]
    double *ring; // [TAPS][PLANES][vw]
    double *mix;  // [PLANES][vw]
} ssim_work;

static void make_taps(double taps[TAPS])
{
    double sum = 0.0;
    for (int i = 0; i < TAPS; i++) {
        double x = i - TAPS / 2;
        sum += taps[i] = exp(-x * x / (2.0 * SIGMA * SIGMA));
    }
    for (int i = 0; i < TAPS; i++) taps[i] /= sum;
}

// acc += k * x
YD_SIMD static void add_scaled(double *restrict acc, const double *restrict x, double k, size_t n)
{
    for (size_t i = 0; i < n; i++) acc[i] += k * x[i];
}

static void filter_row(ssim_work *s, const pair *k, size_t y, size_t c, double *out)
{
    const uint8_t *a = k->a.px + y * k->a.stride, *b = k->b.px + y * k->b.stride;
    double *line[PLANES];
    for (size_t p = 0; p < PLANES; p++) line[p] = s->line + p * s->w;
    for (size_t x = 0; x < s->w; x++) {
        double va = value_at(&k->a, k->space, a + x * CHANNELS, c), vb = value_at(&k->b, k->space, b + x * CHANNELS, c);
        line[0][x] = va;
        line[1][x] = vb;
        line[2][x] = va * va;
        line[3][x] = vb * vb;
        line[4][x] = va * vb;
    }
    memset(out, 0, PLANES * s->vw * sizeof *out);
    for (size_t p = 0; p < PLANES; p++)
        for (size_t t = 0; t < TAPS; t++) add_scaled(out + p * s->vw, line[p] + t, s->taps[t], s->vw);
}

static double sum_row(const ssim_work *s)
{
    const double *ma = s->mix, *mb = ma + s->vw, *aa = mb + s->vw, *bb = aa + s->vw, *ab = bb + s->vw;
    double sum = 0.0;
    for (size_t x = 0; x < s->vw; x++) {
        double mean_aa = ma[x] * ma[x], mean_bb = mb[x] * mb[x], mean_ab = ma[x] * mb[x];
        double var = (aa[x] - mean_aa) + (bb[x] - mean_bb), cov = ab[x] - mean_ab;
        sum += (2.0 * mean_ab + C1) * (2.0 * cov + C2) / ((mean_aa + mean_bb + C1) * (var + C2));
    }
    return sum;
}

// Sum of the index over the valid region of channel c.
static double sum_channel(ssim_work *s, const pair *k, size_t c)
{
    size_t row = PLANES * s->vw;
    double sum = 0.0;
    for (size_t y = 0; y < k->h; y++) {
        filter_row(s, k, y, c, s->ring + y % TAPS * row);
        if (y + 1 < TAPS) continue;
        memset(s->mix, 0, row * sizeof *s->mix);
        for (size_t t = 0; t < TAPS; t++)
            add_scaled(s->mix, s->ring + (y + 1 + t) % TAPS * row, s->taps[t], row); // oldest row first
        sum += sum_row(s);
    }
    return sum;
}

int yd_ssim(const uint8_t *a, const uint8_t *b, int w, int h, const yd_metric_options *opt, double *out, yd_err *err)
{
    pair k;
    if (make_pair(&k, a, b, w, h, opt, TAPS)) return too_small("SSIM", w, h, opt, TAPS, err);
    ssim_work s = {.w = k.w, .vw = k.w - (TAPS - 1)};
    make_taps(s.taps);
    s.line = yd_calloc(PLANES * s.w, sizeof *s.line);
    s.ring = yd_calloc(TAPS * PLANES * s.vw, sizeof *s.ring);
    s.mix = yd_calloc(PLANES * s.vw, sizeof *s.mix);
    int rc = YD_OK;
    if (!s.line || !s.ring || !s.mix) {
        rc = yd_fail(err, YD_E_NOMEM, "no memory for the SSIM of %d x %d pixels", w, h);
    } else {
        double sum = 0.0;
        for (size_t c = 0; c < k.channels; c++) sum += sum_channel(&s, &k, c);
        *out = sum / ((double)s.vw * (double)(k.h - (TAPS - 1)) * (double)k.channels);
    }
    yd_free(s.line);
    yd_free(s.ring);
    yd_free(s.mix);
    return rc;
}

int yd_ssim_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop, double *out, yd_err *err)
{
    return yd_ssim(a, b, w, h, &(yd_metric_options){.crop = crop}, out, err);
}
