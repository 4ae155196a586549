// Element by element: copies between types and layouts, sums of maps, the end of a convolution, the search for NaN.
#ifndef YD_GPU_DEVICE_ELEMENTWISE_H
#define YD_GPU_DEVICE_ELEMENTWISE_H

#include "gpu/device/map.h"

typedef struct yd_copy_args {
    yd_gpu_map x, y;
} yd_copy_args;

static YD_HD void yd_copy_item(const yd_copy_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    float v[YD_VEC];
    if (it.ch < a->y.c)
        yd_map_get(&a->x, it.pixel, it.ch, vec, v);
    else
        yd_zero_vec(vec, v);
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

typedef struct yd_axpy_args {
    yd_gpu_map x1, x2, y;
    float scale;
} yd_axpy_args;

static YD_HD void yd_axpy_item(const yd_axpy_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    float v[YD_VEC], w[YD_VEC];
    yd_zero_vec(vec, v);
    if (it.ch < a->y.c) {
        yd_map_get(&a->x1, it.pixel, it.ch, vec, v);
        yd_map_get(&a->x2, it.pixel, it.ch, vec, w);
        for (int k = 0; k < vec; k++) v[k] = a->scale * v[k] + w[k];
    }
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

typedef struct yd_conv_end_args {
    yd_gpu_map x, res, y; // res.data NULL: none
    const float *bias, *v;
    int act;
    float slope;
} yd_conv_end_args;

static YD_HD float yd_act_of(int act, float slope, float z)
{
    if (act == YD_ACT_MISH) return yd_mish_of(z);
    if (act == YD_ACT_LEAKY) return z > 0.0f ? z : slope * z;
    return z;
}

static YD_HD void yd_conv_end_item(const yd_conv_end_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->y, i, vec);
    const float *vector = a->v ? a->v + (size_t)(it.pixel / yd_pixels(&a->y)) * (size_t)a->y.c + it.ch : NULL;
    float v[YD_VEC], r[YD_VEC];
    yd_zero_vec(vec, v);
    yd_zero_vec(vec, r);
    if (it.ch < a->y.c) {
        yd_map_get(&a->x, it.pixel, it.ch, vec, v);
        if (a->res.data) yd_map_get(&a->res, it.pixel, it.ch, vec, r);
        for (int k = 0; k < vec; k++) {
            const float z = yd_act_of(a->act, a->slope, a->bias ? v[k] + a->bias[it.ch + k] : v[k]);
            v[k] = (vector ? z + vector[k] : z) + r[k];
        }
    }
    yd_map_put(&a->y, it.pixel, it.ch, vec, v);
}

typedef struct yd_not_finite_args {
    yd_gpu_map x;
    int *flags;
} yd_not_finite_args;

// Whoever finds one writes the same 1.
static YD_HD void yd_not_finite_item(const yd_not_finite_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->x, i, vec);
    float v[YD_VEC];
    int bad = 0;
    if (it.ch >= a->x.c) return;
    yd_map_get(&a->x, it.pixel, it.ch, vec, v);
    for (int k = 0; k < vec; k++) bad |= !yd_finite(v[k]);
    if (bad) a->flags[it.pixel / yd_pixels(&a->x)] = 1;
}

#endif
