// Gradient -> thinning -> hysteresis. The one byte per pixel of the result carries, in turn, the gradient's direction, the class of the
// pixel (nothing, weak, strong) and the answer; the magnitudes' plane becomes the stack of the hysteresis when they have been read.
//
//   Sobel: direction, magnitude --thin--> NONE | WEAK | STRONG --follow--> EDGE where a path of weak pixels leads from a strong one
//
// The border is replicated for the gradient; magnitudes outside the picture are 0. Every pixel enters the stack at most once, so
// the stack never outgrows the plane.
#include "core/attention/canny.h"

#include "core/mem.h"
#include "core/simd.h"

#include <math.h>

#define TAN_22_5 0.41421356f
#define TAN_67_5 2.4142136f

enum { ALONG_X, ALONG_DIAGONAL, ALONG_Y, ALONG_ANTIDIAGONAL }; // the direction in which grey changes fastest
enum { NONE, WEAK, STRONG, EDGE };

// Gradient at one pixel from its three rows and columns l, x, r.
static inline __attribute__((always_inline)) float gradient(const float *up, const float *mid, const float *down,
                                                            size_t l, size_t x, size_t r, uint8_t *direction)
{
    float gx = (up[r] - up[l]) + 2.0f * (mid[r] - mid[l]) + (down[r] - down[l]);
    float gy = (down[l] - up[l]) + 2.0f * (down[x] - up[x]) + (down[r] - up[r]);
    float ax = fabsf(gx), ay = fabsf(gy);
    uint8_t slanted = (gx > 0.0f) == (gy > 0.0f) ? ALONG_DIAGONAL : ALONG_ANTIDIAGONAL;
    uint8_t steep = ay >= TAN_67_5 * ax ? ALONG_Y : slanted;
    *direction = ay <= TAN_22_5 * ax ? ALONG_X : steep;
    return sqrtf(gx * gx + gy * gy);
}

YD_SIMD static void gradient_inside(const float *up, const float *mid, const float *down, size_t w,
                                    float *restrict magnitude, uint8_t *restrict direction)
{
    for (size_t x = 1; x + 1 < w; x++) magnitude[x] = gradient(up, mid, down, x - 1, x, x + 1, &direction[x]);
}

static float largest(const float *p, size_t n)
{
    float most = 0.0f;
    for (size_t i = 0; i < n; i++) most = p[i] > most ? p[i] : most;
    return most;
}

// Magnitude and direction of every pixel; returns the largest magnitude.
static float sobel(const float *smooth, size_t w, size_t h, float *magnitude, uint8_t *direction)
{
    float most = 0.0f;
    for (size_t y = 0; y < h; y++) {
        const float *mid = smooth + y * w, *up = y > 0 ? mid - w : mid, *down = y + 1 < h ? mid + w : mid;
        float *m = magnitude + y * w;
        uint8_t *d = direction + y * w;
        size_t last = w - 1;
        m[0] = gradient(up, mid, down, 0, 0, w > 1, &d[0]);
        m[last] = gradient(up, mid, down, w > 1 ? last - 1 : 0, last, last, &d[last]);
        gradient_inside(up, mid, down, w, m, d);
        most = fmaxf(most, largest(m, w));
    }
    return most;
}

static float at(const float *magnitude, long w, long h, long x, long y)
{
    return x >= 0 && x < w && y >= 0 && y < h ? magnitude[y * w + x] : 0.0f;
}

// Keep the ridge only: larger than the neighbour on one side, not smaller than on the other, so that of two equals one stays.
static void thin(const float *magnitude, long w, long h, float low, float high, uint8_t *pixels)
{
    static const int dx[] = {1, 1, 0, -1}, dy[] = {0, 1, 1, 1}; // by direction
    for (long y = 0; y < h; y++)
        for (long x = 0; x < w; x++) {
            uint8_t *p = &pixels[y * w + x];
            float m = magnitude[y * w + x];
            int d = *p;
            if (m < low || m <= at(magnitude, w, h, x - dx[d], y - dy[d]) ||
                m < at(magnitude, w, h, x + dx[d], y + dy[d]))
                *p = NONE;
            else
                *p = m < high ? WEAK : STRONG;
        }
}

static size_t push_neighbours(uint8_t *pixels, long w, long h, uint32_t p, uint32_t *stack, size_t depth)
{
    long px = (long)p % w, py = (long)p / w;
    for (long y = py > 0 ? py - 1 : 0; y <= py + 1 && y < h; y++)
        for (long x = px > 0 ? px - 1 : 0; x <= px + 1 && x < w; x++) {
            uint8_t *q = &pixels[y * w + x];
            if (*q != WEAK && *q != STRONG) continue;
            *q = EDGE;
            stack[depth++] = (uint32_t)(y * w + x);
        }
    return depth;
}

// Returns the number of edge pixels.
static size_t follow(uint8_t *pixels, long w, long h, uint32_t *stack)
{
    size_t n = (size_t)w * (size_t)h, count = 0;
    for (size_t i = 0; i < n; i++) {
        size_t depth = 0;
        if (pixels[i] != STRONG) continue;
        pixels[i] = EDGE;
        stack[depth++] = (uint32_t)i;
        while (depth > 0) {
            uint32_t p = stack[--depth];
            depth = push_neighbours(pixels, w, h, p, stack, depth);
            count++;
        }
    }
    return count;
}

int yd_canny(const float *smooth, int w, int h, uint8_t *edges, int *any, yd_err *err)
{
    size_t n = (size_t)w * (size_t)h;
    if (n > UINT32_MAX)
        return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "edges of %d x %d pixels: at most 2^32 can be searched", w, h);
    _Static_assert(sizeof(float) == sizeof(uint32_t), "one plane holds either");
    void *plane = yd_malloc(n * sizeof(float));
    if (!plane) return yd_fail(err, YD_E_NOMEM, "no memory to find the edges of a picture of %d x %d", w, h);

    float most = sobel(smooth, (size_t)w, (size_t)h, plane, edges);
    float high = YD_CANNY_HIGH * most;
    if (most <= YD_CANNY_FLAT) high = INFINITY;
    thin(plane, w, h, YD_CANNY_LOW * high, high, edges);
    *any = follow(edges, w, h, plane) > 0;
    for (size_t i = 0; i < n; i++) edges[i] = edges[i] == EDGE;
    yd_free(plane);
    return YD_OK;
}
