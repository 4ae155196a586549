// Launches of gpu/device/softmax.h.
#include "gpu/device/softmax.h"
#include "gpu/kernels.h"
#include "gpu/launch.h"

int yd_gpu_softmax(const float *scores, void *p, yd_dtype dtype, float scale, int rows, int cols, yd_gpu_stream stream)
{
    if (cols < 1) return YD_REFUSED;
    const yd_softmax_args a = {scores, NULL, p, dtype == YD_BF16, 0, cols, scale};
    return YD_BLOCKS_1(yd_softmax_args, yd_softmax_block, YD_SOFTMAX_PHASES, YD_SOFTMAX_THREADS, a, rows, YD_SOFTMAX_SHARED, stream);
}

int yd_gpu_softmax_bwd(const void *p, yd_dtype p_dtype, const float *dp, void *ds, yd_dtype ds_dtype, float scale, int rows, int cols,
                       yd_gpu_stream stream)
{
    if (cols < 1) return YD_REFUSED;
    const yd_softmax_args a = {dp, p, ds, ds_dtype == YD_BF16, p_dtype == YD_BF16, cols, scale};
    return YD_BLOCKS_1(yd_softmax_args, yd_softmax_bwd_block, YD_SOFTMAX_BWD_PHASES, YD_SOFTMAX_THREADS, a, rows, YD_SOFTMAX_SHARED,
                       stream);
}
