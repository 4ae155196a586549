// Launches of gpu/device/im2col.h.
#include "gpu/device/im2col.h"
#include "gpu/launch.h"

int yd_gpu_im2col(const void *map, yd_dtype dtype, const yd_gpu_patches *p, void *matrix, yd_gpu_stream stream)
{
    const yd_im2col_args a = {*p, map, matrix, dtype == YD_BF16};
    const double count = (double)p->oh * p->ow * p->k * p->k * p->c;
    return YD_ITEMS_1(yd_im2col_args, yd_im2col_item, a, count, stream);
}

int yd_gpu_col2im(const float *matrix, const yd_gpu_patches *p, void *map, yd_dtype dtype, yd_gpu_stream stream)
{
    const yd_im2col_args a = {*p, matrix, map, dtype == YD_BF16};
    const double count = (double)p->h * p->w * p->c;
    return YD_ITEMS_1(yd_im2col_args, yd_col2im_item, a, count, stream);
}
