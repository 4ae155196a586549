// Launches of gpu/device/elementwise.h.
#include "gpu/device/elementwise.h"
#include "gpu/launch.h"

int yd_gpu_copy(const yd_gpu_map *x, const yd_gpu_map *y, int n, yd_gpu_stream stream)
{
    if (!yd_map_same(x, y) || !yd_map_fits(y, n)) return YD_REFUSED;
    const yd_copy_args a = {*x, *y};
    const int vec = yd_map_wide(x) && yd_map_wide(y) ? YD_VEC : 1;
    return YD_ITEMS(yd_copy_args, yd_copy_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_axpy(float scale, const yd_gpu_map *x1, const yd_gpu_map *x2, const yd_gpu_map *y, int n, yd_gpu_stream stream)
{
    if (!yd_map_same(x1, y) || !yd_map_same(x2, y) || !yd_map_fits(y, n)) return YD_REFUSED;
    const yd_axpy_args a = {*x1, *x2, *y, scale};
    const int vec = yd_map_wide(x1) && yd_map_wide(x2) && yd_map_wide(y) ? YD_VEC : 1;
    return YD_ITEMS(yd_axpy_args, yd_axpy_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_conv_end(const yd_gpu_map *x, const float *bias, yd_act act, float slope, const float *v, const yd_gpu_map *res,
                    const yd_gpu_map *y, int n, yd_gpu_stream stream)
{
    if (!yd_map_same(x, y) || (res && !yd_map_same(res, y)) || !yd_map_fits(y, n) || act == YD_ACT_SILU) return YD_REFUSED;
    yd_conv_end_args a;
    memset(&a, 0, sizeof a);
    a.x = *x, a.y = *y, a.bias = bias, a.v = v, a.act = (int)act, a.slope = slope;
    if (res) a.res = *res;
    const int vec = yd_map_wide(x) && yd_map_wide(y) && (!res || yd_map_wide(res)) ? YD_VEC : 1;
    return YD_ITEMS(yd_conv_end_args, yd_conv_end_item, vec, a, yd_items(y, n, vec), stream);
}

int yd_gpu_not_finite(const yd_gpu_map *x, int *flags, int n, yd_gpu_stream stream)
{
    if (!yd_map_good(x) || !yd_map_fits(x, n)) return YD_REFUSED;
    const yd_not_finite_args a = {*x, flags};
    const int rc = yd_zero_async(flags, (size_t)n * sizeof *flags, stream), vec = yd_map_wide(x) ? YD_VEC : 1;
    return rc ? rc : YD_ITEMS(yd_not_finite_args, yd_not_finite_item, vec, a, yd_items(x, n, vec), stream);
}
