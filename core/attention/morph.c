// Binary closing. Erosion is the dilation of the complement, so that one dilation does both; it is separable, and each of its passes
// is an OR of shifted rows of bytes, which is many pixels per instruction.
#include "core/attention/morph.h"

#include "core/mem.h"
#include "core/simd.h"

#include <string.h>

YD_SIMD static void or_row(uint8_t *restrict dst, const uint8_t *restrict src, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] |= src[i];
}

YD_SIMD static void invert(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] ^= 1;
}

// Along x into `scratch`, then along y back into `plane`.
static void dilate(uint8_t *plane, uint8_t *scratch, int w, int h, int radius)
{
    size_t width = (size_t)w;
    for (int y = 0; y < h; y++) {
        const uint8_t *src = plane + (size_t)y * width;
        uint8_t *dst = scratch + (size_t)y * width;
        memcpy(dst, src, width);
        for (int d = 1; d <= radius && d < w; d++) {
            or_row(dst + d, src, width - (size_t)d);
            or_row(dst, src + d, width - (size_t)d);
        }
    }
    for (int y = 0; y < h; y++) {
        uint8_t *dst = plane + (size_t)y * width;
        int first = y > radius ? y - radius : 0, last = y < h - radius ? y + radius : h - 1;
        memcpy(dst, scratch + (size_t)first * width, width);
        for (int row = first + 1; row <= last; row++) or_row(dst, scratch + (size_t)row * width, width);
    }
}

int yd_morph_close(uint8_t *plane, int w, int h, int radius, yd_err *err)
{
    size_t n = (size_t)w * (size_t)h;
    uint8_t *scratch = yd_malloc(n);
    if (!scratch) return yd_fail(err, YD_E_NOMEM, "no memory to close the edges of a picture of %d x %d", w, h);
    dilate(plane, scratch, w, h, radius);
    invert(plane, n);
    dilate(plane, scratch, w, h, radius);
    invert(plane, n);
    yd_free(scratch);
    return YD_OK;
}
