// Launches of gpu/device/training.h.
#include "gpu/device/training.h"
#include "gpu/launch.h"

size_t yd_gpu_loss_scratch(const yd_gpu_map *pred, int n)
{
    return (size_t)n * yd_loss_blocks(pred) * sizeof(double);
}

int yd_gpu_loss(const yd_gpu_map *pred, const yd_gpu_map *target, const float *mask, const float *weight, int p, float *loss,
                const yd_gpu_map *dpred, void *scratch, int n, yd_gpu_stream stream)
{
    if (!yd_map_same(pred, target) || (dpred && !yd_map_same(pred, dpred)) || !yd_map_fits(pred, n) || (p != 1 && p != 2))
        return YD_REFUSED;
    yd_loss_args a;
    memset(&a, 0, sizeof a);
    a.pred = *pred, a.target = *target, a.mask = mask, a.weight = weight, a.partial = (double *)scratch, a.loss = loss, a.p = p, a.n = n;
    if (dpred) a.dpred = *dpred;
    const int rc =
        YD_BLOCKS_1(yd_loss_args, yd_loss_block, YD_SUM_PHASES, YD_SUM_THREADS, a, (double)n * yd_loss_blocks(pred), YD_SUM_SHARED, stream);
    return rc ? rc : YD_ITEMS_1(yd_loss_args, yd_loss_join_item, a, n, stream);
}

int yd_gpu_square_sums(const yd_gpu_span *spans, int n_spans, double *squares, yd_gpu_stream stream)
{
    yd_adamw_args a;
    memset(&a, 0, sizeof a);
    a.spans = spans, a.squares = squares;
    return YD_BLOCKS_1(yd_adamw_args, yd_square_block, YD_SUM_PHASES, YD_SUM_THREADS, a, n_spans, YD_SUM_SHARED, stream);
}

int yd_gpu_adamw(const yd_gpu_span *spans, int n_spans, const yd_gpu_rates *rates, yd_gpu_stream stream)
{
    const yd_adamw_args a = {spans, NULL, *rates};
    return YD_ITEMS_1(yd_adamw_args, yd_adamw_item, a, (double)n_spans * YD_GPU_SPAN, stream);
}
