// Feature maps as kernels see them: where an element lies, and how work on a map is cut into items.
//
// An item is one run of vec channels (1 or YD_VEC) of one pixel of one sample; items are counted through channels first, then pixels,
// then samples, so that neighbouring threads touch neighbouring memory. Channels c..padded-1 have items too: they are zero.
#ifndef YD_GPU_DEVICE_MAP_H
#define YD_GPU_DEVICE_MAP_H

#include "gpu/device/num.h"
#include "gpu/kernels.h"

typedef struct yd_item {
    uint32_t pixel; // of all samples
    int ch;         // first channel
} yd_item;

static YD_HD uint32_t yd_pixels(const yd_gpu_map *m)
{
    return (uint32_t)m->h * (uint32_t)m->w;
}

static YD_HD yd_item yd_item_of(const yd_gpu_map *m, uint32_t i, int vec)
{
    const uint32_t runs = yd_ceil_div((uint32_t)m->padded, (uint32_t)vec), pixel = i / runs;
    yd_item it;
    it.pixel = pixel;
    it.ch = (int)(i - pixel * runs) * vec;
    return it;
}

static YD_HD size_t yd_at_pixel(const yd_gpu_map *m, uint32_t pixel, int ch)
{
    return (size_t)pixel * (size_t)m->pitch + (size_t)ch;
}

// Sample, row and column of a pixel of a map.
static YD_HD void yd_split_pixel(const yd_gpu_map *m, uint32_t pixel, uint32_t *sample, int *y, int *x)
{
    const uint32_t row = pixel / (uint32_t)m->w;
    *x = (int)(pixel - row * (uint32_t)m->w);
    *sample = row / (uint32_t)m->h;
    *y = (int)(row - *sample * (uint32_t)m->h);
}

static YD_HD uint32_t yd_pixel_at(const yd_gpu_map *m, uint32_t sample, int y, int x)
{
    return (sample * (uint32_t)m->h + (uint32_t)y) * (uint32_t)m->w + (uint32_t)x;
}

static YD_HD int yd_is_bf16_map(const yd_gpu_map *m)
{
    return m->dtype == YD_BF16;
}

static YD_HD void yd_map_get(const yd_gpu_map *m, uint32_t pixel, int ch, int vec, float v[YD_VEC])
{
    yd_get_vec(m->data, yd_at_pixel(m, pixel, ch), yd_is_bf16_map(m), vec, v);
}

static YD_HD void yd_map_put(const yd_gpu_map *m, uint32_t pixel, int ch, int vec, const float v[YD_VEC])
{
    yd_put_vec(m->data, yd_at_pixel(m, pixel, ch), yd_is_bf16_map(m), vec, v);
}

static YD_HD void yd_zero_vec(int vec, float v[YD_VEC])
{
    for (int k = 0; k < vec; k++) v[k] = 0.0f;
}

// ---- the host's, before a launch ----

// 1: a map that can be: c <= padded <= pitch.
static inline int yd_map_good(const yd_gpu_map *m)
{
    return m->data && m->h > 0 && m->w > 0 && m->c > 0 && m->padded >= m->c && m->pitch >= m->padded;
}

// 1: YD_VEC channels of it can be touched at a time.
static inline int yd_map_wide(const yd_gpu_map *m)
{
    return m->c % YD_VEC == 0 && m->padded % YD_VEC == 0 && m->pitch % YD_VEC == 0 && (uintptr_t)m->data % 16 == 0;
}

static inline int yd_map_same(const yd_gpu_map *a, const yd_gpu_map *b)
{
    return yd_map_good(a) && yd_map_good(b) && a->h == b->h && a->w == b->w && a->c == b->c;
}

// 1: n samples of it have no more pixels than an index holds.
static inline int yd_map_fits(const yd_gpu_map *m, int n)
{
    return n > 0 && (double)n * m->h * m->w <= 2147483647.0;
}

// Items of n samples: a launch refuses more than an index holds.
static inline double yd_items(const yd_gpu_map *m, int n, int vec)
{
    return (double)n * yd_pixels(m) * yd_ceil_div((uint32_t)m->padded, (uint32_t)vec);
}

#endif
