// Launches of gpu/device/groupnorm.h and groupnorm_bwd.h, and of a bias's gradient, which is a sum of the same kind.
//
// Scratch: what is made of partial sums, then these. Read next: gpu/device/groupnorm.h.
#include "gpu/device/groupnorm_bwd.h"
#include "gpu/launch.h"

static int good_groups(const yd_gpu_map *x, int groups)
{
    return groups >= 1 && x->c % groups == 0 && x->c / groups <= YD_GN_MAX_WIDTH;
}

size_t yd_gpu_gnorm_scratch(const yd_gpu_map *x, int groups, int n)
{
    (void)groups;
    return (size_t)n * (size_t)x->c * (2 + 2 * (size_t)yd_columns_blocks(x)) * sizeof(float);
}

static int small_map(yd_gnorm_args *a, int vec, void *stream)
{
    yd_gpu_map part = a->x;
    part.c = a->chunk;
    yd_columns_plan(&a->k, &part, 2, vec, NULL);
    a->k.rows = a->k.pixels;
    a->k.blocks = 1;
    return YD_BLOCKS(yd_gnorm_args, yd_gnorm_small_block, YD_GN_SMALL_PHASES, YD_COL_THREADS, vec, *a, (double)a->n * (a->x.c / a->chunk),
                     yd_gnorm_small_shared(a->chunk, a->x.c / a->groups, vec), stream);
}

static int large_map(yd_gnorm_args *a, int vec, float *scratch, void *stream)
{
    a->coef = scratch;
    yd_columns_plan(&a->k, &a->x, 2, vec, scratch + (size_t)a->n * 2 * (size_t)a->x.c);
    int rc = YD_BLOCKS(yd_gnorm_args, yd_gnorm_sum_block, YD_GN_SUM_PHASES, YD_COL_THREADS, vec, *a,
                       (double)a->n * a->k.blocks * a->k.tiles, (size_t)(2 * vec * YD_COL_THREADS) * sizeof(float), stream);
    if (!rc)
        rc = YD_BLOCKS_1(yd_gnorm_args, yd_gnorm_finish_block, YD_GN_FINISH_PHASES, YD_GN_FINISH_THREADS, *a, (double)a->n * a->groups,
                         yd_gnorm_finish_shared(a->x.c / a->groups), stream);
    return rc ? rc : YD_ITEMS(yd_gnorm_args, yd_gnorm_apply_item, vec, *a, yd_gnorm_items(a, vec), stream);
}

int yd_gpu_gnorm(const yd_gpu_map *x, const float *v, const float *gamma, const float *beta, int groups, float eps, int silu,
                 const yd_gpu_map *y, float *stats, void *scratch, int n, yd_gpu_stream stream)
{
    if (!yd_map_same(x, y) || !yd_map_fits(x, n) || !yd_map_fits(y, n) || !good_groups(x, groups)) return YD_REFUSED;
    yd_gnorm_args a;
    memset(&a, 0, sizeof a);
    a.x = *x, a.y = *y, a.v = v, a.gamma = gamma, a.beta = beta, a.stats = stats;
    a.groups = groups, a.act = silu, a.n = n, a.eps = eps;
    const int vec = yd_map_wide(x) && yd_map_wide(y) ? YD_VEC : 1;
    a.chunk = yd_gnorm_chunk(x, groups, vec);
    return a.chunk ? small_map(&a, vec, stream) : large_map(&a, vec, (float *)scratch, stream);
}

size_t yd_gpu_gnorm_bwd_scratch(const yd_gpu_map *x, int groups, int n)
{
    const size_t c = (size_t)x->c, each = c * 2 * sizeof(double) + (size_t)groups * 2 * sizeof(float);
    return (size_t)n * (each + c * 3 * (size_t)yd_columns_blocks(x) * sizeof(float));
}

static int gnorm_bwd(yd_gnorm_bwd_args *a, int vec, void *scratch, void *stream)
{
    a->totals = (double *)scratch;
    a->means = (float *)(a->totals + (size_t)a->n * 2 * (size_t)a->x.c);
    yd_columns_plan(&a->k, &a->x, 3, vec, a->means + (size_t)a->n * (size_t)a->groups * 2);
    int rc = YD_BLOCKS(yd_gnorm_bwd_args, yd_gnorm_bwd_sum_block, YD_GNB_PHASES, YD_COL_THREADS, vec, *a,
                       (double)a->n * a->k.blocks * a->k.tiles, (size_t)(3 * vec * YD_COL_THREADS) * sizeof(float), stream);
    if (!rc)
        rc = YD_BLOCKS_1(yd_gnorm_bwd_args, yd_gnorm_bwd_finish_block, YD_GNB_FINISH_PHASES, YD_GN_FINISH_THREADS, *a,
                         (double)a->n * a->groups, yd_gnorm_bwd_finish_shared(a->x.c / a->groups), stream);
    if (!rc) rc = YD_ITEMS_1(yd_gnorm_bwd_args, yd_gnorm_bwd_param_item, *a, a->x.c, stream);
    return rc ? rc : YD_ITEMS(yd_gnorm_bwd_args, yd_gnorm_bwd_apply_item, vec, *a, yd_items(&a->dx, a->n, vec), stream);
}

int yd_gpu_gnorm_bwd(const yd_gpu_map *x, const float *v, const float *gamma, const float *beta, const float *stats, const yd_gpu_map *dy,
                     int groups, int silu, const yd_gpu_map *dx, float *dv, float *dgamma, float *dbeta, void *scratch, int n,
                     yd_gpu_stream stream)
{
    if (!yd_map_same(x, dy) || !yd_map_same(x, dx) || !yd_map_fits(x, n) || !yd_map_fits(dx, n) || !good_groups(x, groups))
        return YD_REFUSED;
    yd_gnorm_bwd_args a;
    memset(&a, 0, sizeof a);
    a.x = *x, a.dy = *dy, a.dx = *dx, a.v = v, a.gamma = gamma, a.beta = beta, a.stats = stats;
    a.dv = dv, a.dgamma = dgamma, a.dbeta = dbeta, a.groups = groups, a.act = silu, a.n = n;
    return gnorm_bwd(&a, yd_map_wide(x) && yd_map_wide(dy) && yd_map_wide(dx) ? YD_VEC : 1, scratch, stream);
}

size_t yd_gpu_bias_grad_scratch(const yd_gpu_map *dy, int n)
{
    return (size_t)n * (size_t)dy->c * (size_t)yd_columns_blocks(dy) * sizeof(float);
}

int yd_gpu_bias_grad(const yd_gpu_map *dy, float *db, void *scratch, int n, yd_gpu_stream stream)
{
    if (!yd_map_good(dy) || !yd_map_fits(dy, n)) return YD_REFUSED;
    const int vec = yd_map_wide(dy) ? YD_VEC : 1;
    yd_bias_grad_args a;
    memset(&a, 0, sizeof a);
    a.dy = *dy, a.db = db, a.n = n;
    yd_columns_plan(&a.k, &a.dy, 1, vec, (float *)scratch);
    const int rc = YD_BLOCKS(yd_bias_grad_args, yd_bias_grad_block, YD_BIAS_PHASES, YD_COL_THREADS, vec, a,
                             (double)n * a.k.blocks * a.k.tiles, (size_t)(vec * YD_COL_THREADS) * sizeof(float), stream);
    if (rc) return rc;
    return YD_BLOCKS_1(yd_bias_grad_args, yd_bias_join_block, YD_BIAS_JOIN_PHASES, YD_COL_THREADS, a,
                       yd_ceil_div((uint32_t)a.dy.c, YD_BIAS_CHANNELS), YD_BIAS_JOIN_SHARED, stream);
}
