// Launches for convolutions as matrix products (ops_gemm.c). As those of kernels.h.
#ifndef YD_GPU_IM2COL_H
#define YD_GPU_IM2COL_H

#include "gpu/kernels.h"

// A convolution of [h][w][c] to [oh][ow] pixels.
typedef struct yd_gpu_patches {
    int h, w, c, oh, ow, k, stride, pad;
} yd_gpu_patches;

#ifdef __cplusplus
extern "C" {
#endif

// Of one sample: matrix [oh*ow][k*k*c] from map [h][w][c], both of dtype.
int yd_gpu_im2col(const void *map, yd_dtype dtype, const yd_gpu_patches *p, void *matrix, yd_gpu_stream stream);
// Of one sample: map [h][w][c] of dtype from matrix [oh*ow][k*k*c], f32: each element the sum of what was taken from it.
int yd_gpu_col2im(const float *matrix, const yd_gpu_patches *p, void *map, yd_dtype dtype, yd_gpu_stream stream);

#ifdef __cplusplus
}
#endif

#endif
