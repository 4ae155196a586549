// PSNR (at most 100 dB, so that nothing ranks above equality) and SSIM of two 8-bit RGB pictures.
//
// SSIM filters five planes (a, b, aa, bb, ab) with a separable Gaussian. The horizontal pass makes one row of all five at a time into
// a ring of 11 rows, from which the vertical pass takes one output row; so memory grows with the width, not with the picture.
// Owns nothing between calls. All sums are double and in row order: the result does not depend on anything but the pictures.
#include "core/metrics.h"

#include "core/mem.h"
#include "core/simd.h"

#include <math.h>
#include <string.h>

#define PSNR_MOST 100.0

enum { TAPS = 11, PLANES = 5, CHANNELS = 3 };
#define SIGMA 1.5
#define C1    (0.01 * 255 * 0.01 * 255)
#define C2    (0.03 * 255 * 0.03 * 255)

double yd_psnr_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop)
{
    uint64_t sum = 0;
    long cw = (long)w - 2L * crop, ch = (long)h - 2L * crop;
    if (crop < 0 || cw < 1 || ch < 1) return NAN;
    for (long y = crop; y < crop + ch; y++) {
        size_t at = ((size_t)y * (size_t)w + (size_t)crop) * CHANNELS;
        for (size_t i = at; i < at + (size_t)cw * CHANNELS; i++) {
            int d = a[i] - b[i];
            sum += (uint64_t)(d * d);
        }
    }
    if (sum == 0) return PSNR_MOST;
    double mse = (double)sum / ((double)cw * (double)ch * CHANNELS);
    return fmin(10.0 * log10(255.0 * 255.0 / mse), PSNR_MOST);
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

static void filter_row(ssim_work *s, const uint8_t *a, const uint8_t *b, double *out)
{
    double *line[PLANES];
    for (size_t p = 0; p < PLANES; p++) line[p] = s->line + p * s->w;
    for (size_t x = 0; x < s->w; x++) {
        double va = a[x * CHANNELS], vb = b[x * CHANNELS];
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

// Sum of the index over the valid region of one channel; a and b point at its first value, `stride` bytes from row to row.
static double sum_channel(ssim_work *s, const uint8_t *a, const uint8_t *b, size_t stride, size_t h)
{
    size_t row = PLANES * s->vw;
    double sum = 0.0;
    for (size_t y = 0; y < h; y++) {
        filter_row(s, a + y * stride, b + y * stride, s->ring + y % TAPS * row);
        if (y + 1 < TAPS) continue;
        memset(s->mix, 0, row * sizeof *s->mix);
        for (size_t t = 0; t < TAPS; t++)
            add_scaled(s->mix, s->ring + (y + 1 + t) % TAPS * row, s->taps[t], row); // oldest row first
        sum += sum_row(s);
    }
    return sum;
}

int yd_ssim_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop, double *out, yd_err *err)
{
    long cw = (long)w - 2L * crop, ch = (long)h - 2L * crop;
    if (crop < 0 || cw < TAPS || ch < TAPS)
        return yd_fail(err, YD_E_IMAGE_TOO_SMALL,
                       "SSIM of %d x %d pixels with %d cropped on every side: at least %d x %d must remain", w, h, crop,
                       TAPS, TAPS);

    ssim_work s = {.w = (size_t)cw, .vw = (size_t)cw - (TAPS - 1)};
    make_taps(s.taps);
    s.line = yd_calloc(PLANES * s.w, sizeof *s.line);
    s.ring = yd_calloc(TAPS * PLANES * s.vw, sizeof *s.ring);
    s.mix = yd_calloc(PLANES * s.vw, sizeof *s.mix);
    int rc = YD_OK;
    if (!s.line || !s.ring || !s.mix) {
        rc = yd_fail(err, YD_E_NOMEM, "no memory for the SSIM of %d x %d pixels", w, h);
    } else {
        size_t stride = (size_t)w * CHANNELS, at = (size_t)crop * stride + (size_t)crop * CHANNELS;
        double sum = 0.0;
        for (size_t c = 0; c < CHANNELS; c++) sum += sum_channel(&s, a + at + c, b + at + c, stride, (size_t)ch);
        *out = sum / ((double)s.vw * (double)(ch - (TAPS - 1)) * CHANNELS);
    }
    yd_free(s.line);
    yd_free(s.ring);
    yd_free(s.mix);
    return rc;
}
