// Attention on edges: grey -> blur -> Canny -> closing, which joins edges that are near each other -> a wide blur, whose largest value
// becomes 1. A picture without edges has no attention anywhere.
//
// How far closing and blur reach grows with the picture (shorter side / 64 and / 32) up to a shorter side of 256 and no further: what
// counts as near is a matter of the network's window, not of how large the picture happens to be, and the map of a part of a
// large picture stays that of the part. It also bounds the work per pixel.
#include "core/attention/methods.h"

#include "core/attention/blur.h"
#include "core/attention/canny.h"
#include "core/attention/morph.h"
#include "core/mem.h"

#include <math.h>
#include <string.h>

#define NOISE_SIGMA  1.4
#define LARGEST_SIDE 256

static void to_grey(const uint8_t *rgb, size_t n, float *grey)
{
    for (size_t i = 0; i < n; i++) grey[i] = 0.299f * rgb[3 * i] + 0.587f * rgb[3 * i + 1] + 0.114f * rgb[3 * i + 2];
}

// Divide by the largest value. There is one: the caller has found an edge.
static void scale_to_one(float *map, size_t n)
{
    float most = 0.0f;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, map[i]);
    for (size_t i = 0; i < n; i++) map[i] /= most; // exactly 1 at the largest, never above
}

static int fill_map(uint8_t *edges, int w, int h, float *map, yd_err *err)
{
    size_t n = (size_t)w * (size_t)h;
    int side = w < h ? w : h;
    if (side > LARGEST_SIDE) side = LARGEST_SIDE;
    int radius = side < 64 ? 1 : (side + 32) / 64;

    int rc = yd_morph_close(edges, w, h, radius, err);
    if (rc) return rc;
    for (size_t i = 0; i < n; i++) map[i] = edges[i];
    rc = yd_blur_gaussian(map, w, h, fmax(2.0, side / 32.0), err);
    if (rc == YD_OK) scale_to_one(map, n);
    return rc;
}

int yd_attention_edge(const uint8_t *rgb, int w, int h, float *map, yd_err *err)
{
    size_t n = (size_t)w * (size_t)h;
    int any = 0;
    uint8_t *edges = yd_malloc(n);
    if (!edges) return yd_fail(err, YD_E_NOMEM, "no memory for the edge map of a picture of %d x %d", w, h);

    to_grey(rgb, n, map);
    int rc = yd_blur_gaussian(map, w, h, NOISE_SIGMA, err);
    if (rc == YD_OK) rc = yd_canny(map, w, h, edges, &any, err);
    if (rc == YD_OK && any)
        rc = fill_map(edges, w, h, map, err);
    else if (rc == YD_OK)
        memset(map, 0, n * sizeof *map);
    yd_free(edges);
    return rc;
}
