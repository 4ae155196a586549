// Separable Gaussian blur. Rows are blurred along x into a ring as high as the kernel, and mixed from there along y into the row they
// replace, which the ring no longer needs in its first form. So there is no second plane, and the ring stays in the second-level cache.
// Sums run over taps in order in every clone: the same bits everywhere.
#include "core/attention/blur.h"

#include "core/mem.h"
#include "core/simd.h"

#include <math.h>
#include <string.h>

enum { MAX_RADIUS = 48, MAX_TAPS = 2 * MAX_RADIUS + 1 }; // ceil(3 * YD_BLUR_MAX_SIGMA)

typedef struct kernel {
    int radius, taps;
    float k[MAX_TAPS];
} kernel;

static kernel make_kernel(double sigma)
{
    kernel out = {.radius = (int)ceil(3.0 * sigma)};
    double weights[MAX_TAPS], sum = 0.0;
    out.taps = 2 * out.radius + 1;
    for (int i = 0; i < out.taps; i++) {
        double x = i - out.radius;
        sum += weights[i] = exp(-x * x / (2.0 * sigma * sigma));
    }
    for (int i = 0; i < out.taps; i++) out.k[i] = (float)(weights[i] / sum);
    return out;
}

// dst[x] = sum over taps of k[t] * rows[t][x].
YD_SIMD static void weigh(float *restrict dst, const float *const *rows, const float *k, int taps, size_t n)
{
    for (size_t x = 0; x < n; x++) dst[x] = 0.0f;
    for (int t = 0; t < taps; t++) {
        const float *restrict row = rows[t];
        float weight = k[t];
        for (size_t x = 0; x < n; x++) dst[x] += weight * row[x];
    }
}

// One row along x: its taps are the same padded row, shifted.
static void blur_row(float *dst, const float *src, size_t w, float *padded, const kernel *k)
{
    const float *shifted[MAX_TAPS];
    size_t r = (size_t)k->radius;
    for (size_t i = 0; i < r; i++) {
        padded[i] = src[0];
        padded[r + w + i] = src[w - 1];
    }
    memcpy(padded + r, src, w * sizeof *src);
    for (int t = 0; t < k->taps; t++) shifted[t] = padded + t;
    weigh(dst, shifted, k->k, k->taps, w);
}

static int clamp(int v, int most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

int yd_blur_gaussian(float *plane, int w, int h, double sigma, yd_err *err)
{
    kernel k = make_kernel(sigma);
    size_t width = (size_t)w;
    float *padded = yd_calloc(width + 2 * (size_t)k.radius, sizeof *padded);
    float *ring = yd_calloc(width * (size_t)k.taps, sizeof *ring);
    if (!padded || !ring) {
        yd_free(padded);
        yd_free(ring);
        return yd_fail(err, YD_E_NOMEM, "no memory to blur a picture of %d x %d", w, h);
    }
    int ready = 0; // rows below this one are in the ring, or have been
    for (int y = 0; y < h; y++) {
        const float *rows[MAX_TAPS];
        for (; ready < h && ready <= y + k.radius; ready++)
            blur_row(ring + (size_t)(ready % k.taps) * width, plane + (size_t)ready * width, width, padded, &k);
        for (int t = 0; t < k.taps; t++) rows[t] = ring + (size_t)(clamp(y - k.radius + t, h - 1) % k.taps) * width;
        weigh(plane + (size_t)y * width, rows, k.k, k.taps, width);
    }
    yd_free(padded);
    yd_free(ring);
    return YD_OK;
}
