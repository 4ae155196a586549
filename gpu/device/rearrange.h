// Where values go: concatenation and its gradient, nearest upsampling and its gradient, pixel shuffles, mirrored borders, filters.
#ifndef YD_GPU_DEVICE_REARRANGE_H
#define YD_GPU_DEVICE_REARRANGE_H

#include "gpu/device/map.h"

typedef struct yd_concat_args {
    yd_gpu_map x1, x2, y;
} yd_concat_args;

static YD_HD void yd_concat_item(const yd_concat_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    float v[YD_VEC];
    if (it.ch < a->x1.c)
        yd_map_get(&a->x1, it.pixel, it.ch, vec, v);
    else if (it.ch < a->y.c)
        yd_map_get(&a->x2, it.pixel, it.ch - a->x1.c, vec, v);
    else
        yd_zero_vec(vec, v);
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

// Channels first..first+y.c-1 of x: one half of a SPLIT.
typedef struct yd_part_args {
    yd_gpu_map x, y;
    int first;
} yd_part_args;

static YD_HD void yd_part_item(const yd_part_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    float v[YD_VEC];
    if (it.ch < a->y.c)
        yd_map_get(&a->x, it.pixel, a->first + it.ch, vec, v);
    else
        yd_zero_vec(vec, v);
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

typedef struct yd_pair_args {
    yd_gpu_map x, y;
    int r; // of shuffles; pad of reflect
} yd_pair_args;

static YD_HD void yd_upsample_item(const yd_pair_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    uint32_t s;
    int y, x;
    float v[YD_VEC];
    yd_split_pixel(&a->y, it.pixel, &s, &y, &x);
    if (it.ch < a->y.c)
        yd_map_get(&a->x, yd_pixel_at(&a->x, s, y / 2, x / 2), it.ch, vec, v);
    else
        yd_zero_vec(vec, v);
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

// x: dy, y: dx.
static YD_HD void yd_upsample_bwd_item(const yd_pair_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    uint32_t s;
    int y, x;
    float v[YD_VEC], w[4][YD_VEC];
    yd_split_pixel(&a->y, it.pixel, &s, &y, &x);
    yd_zero_vec(vec, v);
    if (it.ch < a->y.c) {
        for (int q = 0; q < 4; q++) yd_map_get(&a->x, yd_pixel_at(&a->x, s, 2 * y + q / 2, 2 * x + q % 2), it.ch, vec, w[q]);
        for (int k = 0; k < vec; k++) v[k] = (w[0][k] + w[1][k]) + (w[2][k] + w[3][k]);
    }
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

// y is the deep map: channel c*r*r + dy*r + dx. Elements of x come one by one: they lie in r*r pixels.
static YD_HD void yd_unshuffle_item(const yd_pair_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    const int r = a->r;
    uint32_t s;
    int y, x;
    float v[YD_VEC];
    yd_split_pixel(&a->y, it.pixel, &s, &y, &x);
    for (int k = 0; k < vec; k++) {
        const int ch = it.ch + k, from = ch / (r * r), cell = ch % (r * r);
        const uint32_t pixel = yd_pixel_at(&a->x, s, y * r + cell / r, x * r + cell % r);
        v[k] = ch < a->y.c ? yd_get(a->x.data, yd_at_pixel(&a->x, pixel, from), yd_is_bf16_map(&a->x)) : 0.0f;
    }
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

// x is the deep map.
static YD_HD void yd_shuffle_item(const yd_pair_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    const int r = a->r;
    uint32_t s;
    int y, x;
    float v[YD_VEC];
    yd_split_pixel(&a->y, it.pixel, &s, &y, &x);
    const uint32_t pixel = yd_pixel_at(&a->x, s, y / r, x / r);
    const int cell = y % r * r + x % r;
    for (int k = 0; k < vec; k++) {
        const int ch = it.ch + k;
        v[k] = ch < a->y.c ? yd_get(a->x.data, yd_at_pixel(&a->x, pixel, ch * r * r + cell), yd_is_bf16_map(&a->x)) : 0.0f;
    }
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

// Pixel i of n where the mirror image, without the border itself, continues the row; -n < i < 2n - 1.
static YD_HD int yd_mirror_near(int i, int n)
{
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
}

static YD_HD void yd_reflect_item(const yd_pair_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    uint32_t s;
    int y, x;
    float v[YD_VEC];
    yd_split_pixel(&a->y, it.pixel, &s, &y, &x);
    if (it.ch < a->y.c) {
        const int sy = yd_mirror_near(y - a->r, a->x.h), sx = yd_mirror_near(x - a->r, a->x.w);
        yd_map_get(&a->x, yd_pixel_at(&a->x, s, sy, sx), it.ch, vec, v);
    } else {
        yd_zero_vec(vec, v);
    }
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

// A filter [a][b][k][k] in f32 and as [a_padded][k][k][b_padded].
typedef struct yd_filter_args {
    const float *w;
    float *dw;
    void *packed;
    int bf16, a, b, k, a_padded, b_padded;
} yd_filter_args;

static YD_HD size_t yd_filter_at(const yd_filter_args *f, int ia, int tap, int ib)
{
    return ((size_t)ia * (size_t)f->b + (size_t)ib) * (size_t)(f->k * f->k) + (size_t)tap;
}

// One element of the packed filter.
static YD_HD void yd_filter_pack_item(const yd_filter_args *f, uint32_t i, int vec)
{
    const uint32_t b = (uint32_t)f->b_padded, taps = (uint32_t)(f->k * f->k);
    const int ib = (int)(i % b), tap = (int)(i / b % taps), ia = (int)(i / b / taps);
    (void)vec;
    yd_put(f->packed, i, f->bf16, ia < f->a && ib < f->b ? f->w[yd_filter_at(f, ia, tap, ib)] : 0.0f);
}

// One element of the gradient in its checkpoint layout.
static YD_HD void yd_filter_unpack_item(const yd_filter_args *f, uint32_t i, int vec)
{
    const uint32_t taps = (uint32_t)(f->k * f->k), b = (uint32_t)f->b;
    const uint32_t tap = i % taps, ib = i / taps % b, ia = i / taps / b;
    (void)vec;
    f->dw[i] = yd_get(f->packed, ((size_t)ia * taps + tap) * (size_t)f->b_padded + ib, f->bf16);
}

#endif
