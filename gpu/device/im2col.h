// Patches of a map as the rows of a matrix, and their sums back: a convolution as a matrix product.
//
// Row (i, j) of the matrix belongs to pixel (i, j) of the convolution's output and has k*k*c columns: (di*k + dj)*c + channel, zero beyond the
// border. An item is one element of what is written, of one sample.
#ifndef YD_GPU_DEVICE_IM2COL_H
#define YD_GPU_DEVICE_IM2COL_H

#include "gpu/device/num.h"
#include "gpu/im2col.h"

typedef struct yd_im2col_args {
    yd_gpu_patches p;
    const void *from;
    void *to;
    int bf16; // of the map, and of the matrix that is made from it
} yd_im2col_args;

static YD_HD void yd_im2col_item(const yd_im2col_args *a, uint32_t item, int vec)
{
    const yd_gpu_patches *p = &a->p;
    const uint32_t c = (uint32_t)p->c, k = (uint32_t)p->k, ow = (uint32_t)p->ow;
    const uint32_t channel = item % c, dj = item / c % k, di = item / c / k % k, pixel = item / c / k / k;
    const int y = (int)(pixel / ow) * p->stride - p->pad + (int)di,
              x = (int)(pixel % ow) * p->stride - p->pad + (int)dj;
    const int inside = y >= 0 && y < p->h && x >= 0 && x < p->w;
    (void)vec;
    yd_put(a->to, item, a->bf16,
           inside ? yd_get(a->from, ((size_t)y * (size_t)p->w + (size_t)x) * c + channel, a->bf16) : 0.0f);
}

// The matrix is f32 here. Taps in ascending order.
static YD_HD void yd_col2im_item(const yd_im2col_args *a, uint32_t item, int vec)
{
    const yd_gpu_patches *p = &a->p;
    const uint32_t channel = item % (uint32_t)p->c, pixel = item / (uint32_t)p->c;
    const int y = (int)(pixel / (uint32_t)p->w), x = (int)(pixel % (uint32_t)p->w);
    float sum = 0;
    (void)vec;
    for (int di = 0; di < p->k; di++)
        for (int dj = 0; dj < p->k; dj++) {
            const int i = y + p->pad - di, j = x + p->pad - dj;
            if (i < 0 || j < 0 || i % p->stride || j % p->stride || i / p->stride >= p->oh || j / p->stride >= p->ow)
                continue;
            const size_t row = (size_t)(i / p->stride) * (size_t)p->ow + (size_t)(j / p->stride);
            sum +=
                ((const float *)
                     a->from)[((row * (size_t)p->k + (size_t)di) * (size_t)p->k + (size_t)dj) * (size_t)p->c + channel];
        }
    yd_put(a->to, item, a->bf16, sum);
}

#endif
