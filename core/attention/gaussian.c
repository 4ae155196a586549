// Attention that falls off from the middle: exp(-((x-cx)^2/(2 sx^2) + (y-cy)^2/(2 sy^2))), sx = W/4, sy = H/4, stretched so that the
// map reaches both 0 (its corners) and 1 (its middle). It does not look at the picture. A map that comes out flat, as that of 1 x 1 or
// 2 x 2 pixels does, is all ones: there is no middle to prefer.
#include "core/attention/methods.h"

#include "core/mem.h"

#include <math.h>

static void fill_profile(double *p, int n)
{
    double centre = (n - 1) / 2.0, sigma = n / 4.0;
    for (int i = 0; i < n; i++) p[i] = exp(-(i - centre) * (i - centre) / (2.0 * sigma * sigma));
}

int yd_attention_gaussian(const uint8_t *rgb, int w, int h, float *map, yd_err *err)
{
    (void)rgb;
    double *px = yd_calloc((size_t)w + (size_t)h, sizeof *px);
    if (!px) return yd_fail(err, YD_E_NOMEM, "no memory for the Gaussian map of a picture of %d x %d", w, h);
    double *py = px + w;
    fill_profile(px, w);
    fill_profile(py, h);

    // The product is smallest in the corner and largest in the middle.
    double least = px[0] * py[0], range = px[(w - 1) / 2] * py[(h - 1) / 2] - least;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) *map++ = range > 0.0 ? (float)((px[x] * py[y] - least) / range) : 1.0f;
    yd_free(px);
    return YD_OK;
}
