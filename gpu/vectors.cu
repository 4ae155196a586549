// Launches of gpu/device/vectors.h.
#include "gpu/device/vectors.h"
#include "gpu/kernels.h"
#include "gpu/launch.h"

int yd_gpu_linear(const yd_gpu_linears *l, yd_gpu_stream stream)
{
    if (l->in < 1 || l->n < 1 || l->count < 1 || l->count > YD_GPU_LINEARS) return YD_REFUSED;
    double blocks = 0;
    for (int k = 0; k < l->count; k++) {
        if (l->of[k].out < 1) return YD_REFUSED;
        blocks += yd_linear_blocks(l->of[k].out, l->n);
    }
    return YD_BLOCKS_1(yd_gpu_linears, yd_linears_block, YD_LINEAR_PHASES, YD_LINEAR_THREADS, *l, blocks, YD_LINEAR_SHARED, stream);
}

int yd_gpu_linear_bwd(const float *v, const float *w, const float *dy, float *dv, float *dw, float *db, int in, int out, int n,
                      yd_gpu_stream stream)
{
    if (in < 1 || out < 1 || n < 1) return YD_REFUSED;
    const yd_linear_bwd_args a = {v, w, dy, dv, dw, db, in, out, n};
    int rc = 0;
    if (dv) rc = YD_ITEMS_1(yd_linear_bwd_args, yd_linear_dv_item, a, (double)n * in, stream);
    return rc ? rc : YD_ITEMS_1(yd_linear_bwd_args, yd_linear_dw_item, a, (double)out * in, stream);
}

int yd_gpu_silu(const float *x, float *y, int c, int n, yd_gpu_stream stream)
{
    const yd_unary_args a = {x, NULL, y};
    return YD_ITEMS_1(yd_unary_args, yd_silu_item, a, (double)n * c, stream);
}

int yd_gpu_mish(const float *x, float *y, int c, int n, yd_gpu_stream stream)
{
    const yd_unary_args a = {x, NULL, y};
    return YD_ITEMS_1(yd_unary_args, yd_mish_item, a, (double)n * c, stream);
}

int yd_gpu_silu_bwd(const float *x, const float *dy, float *dx, int c, int n, yd_gpu_stream stream)
{
    const yd_unary_args a = {x, dy, dx};
    return YD_ITEMS_1(yd_unary_args, yd_silu_bwd_item, a, (double)n * c, stream);
}

int yd_gpu_embed(const float *s, float *v, int c, float scale, int r, int n, yd_gpu_stream stream)
{
    if (c < 2 || c % 2 || r < 0 || r > 1 || c / 2 <= r) return YD_REFUSED;
    const yd_embed_args a = {s, v, c / 2, r, scale};
    return YD_ITEMS_1(yd_embed_args, yd_embed_item, a, (double)n * (c / 2), stream);
}
