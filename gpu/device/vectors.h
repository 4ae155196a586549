// Per-sample vectors: linear layers and their gradients, SiLU, Mish, the embedding of a noise level. All f32.
#ifndef YD_GPU_DEVICE_VECTORS_H
#define YD_GPU_DEVICE_VECTORS_H

#include "gpu/device/num.h"
#include "gpu/kernels.h"

// LINEAR: a block makes YD_LINEAR_ROWS outputs of YD_LINEAR_SAMPLES samples, 32 threads an output, so that a row of W is read once for
// all of these samples. A sample's sum runs in 32 partial sums joined as a tree, whoever its mates are. Layers that read one vector share a launch:
// their blocks follow each other.
enum {
    YD_LINEAR_ROWS = 8,
    YD_LINEAR_LANES = 32,
    YD_LINEAR_SAMPLES = 8,
    YD_LINEAR_THREADS = YD_LINEAR_ROWS * YD_LINEAR_LANES,
    YD_LINEAR_PHASES = 7, // partial sums, five rounds of the tree, results
    YD_LINEAR_SHARED = YD_LINEAR_SAMPLES * YD_LINEAR_THREADS * 4
};

typedef struct yd_linear_args {
    const float *v, *w, *b;
    float *y;
    int in, out, n;
} yd_linear_args;

static YD_HD uint32_t yd_linear_blocks(int out, int n)
{
    return yd_ceil_div((uint32_t)out, YD_LINEAR_ROWS) * yd_ceil_div((uint32_t)n, YD_LINEAR_SAMPLES);
}

static YD_HD void yd_linear_partial(const yd_linear_args *a, int row, int first, int lane, int thread, float *sums)
{
    float acc[YD_LINEAR_SAMPLES] = {0};
    for (int j = lane; row < a->out && j < a->in; j += YD_LINEAR_LANES) {
        const float w = a->w[(size_t)row * (size_t)a->in + (size_t)j];
        for (int s = 0; s < YD_LINEAR_SAMPLES; s++)
            if (first + s < a->n) acc[s] += w * a->v[(size_t)(first + s) * (size_t)a->in + (size_t)j];
    }
    for (int s = 0; s < YD_LINEAR_SAMPLES; s++) sums[s * YD_LINEAR_THREADS + thread] = acc[s];
}

static YD_HD void yd_linear_block(const yd_linear_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    float *sums = (float *)shared;
    const uint32_t rows = yd_ceil_div((uint32_t)a->out, YD_LINEAR_ROWS);
    const int lane = thread % YD_LINEAR_LANES, row = (int)(block % rows) * YD_LINEAR_ROWS + thread / YD_LINEAR_LANES;
    const int first = (int)(block / rows) * YD_LINEAR_SAMPLES;
    if (phase == 0) {
        yd_linear_partial(a, row, first, lane, thread, sums);
    } else if (phase < YD_LINEAR_PHASES - 1) {
        for (int s = 0; s < YD_LINEAR_SAMPLES; s++)
            yd_tree_add(sums + s * YD_LINEAR_THREADS + thread - lane, lane, YD_LINEAR_LANES >> phase);
    } else if (lane < YD_LINEAR_SAMPLES && first + lane < a->n && row < a->out) {
        const float sum = sums[lane * YD_LINEAR_THREADS + thread - lane];
        a->y[(size_t)(first + lane) * (size_t)a->out + (size_t)row] = a->b ? sum + a->b[row] : sum;
    }
}

static YD_HD void yd_linears_block(const yd_gpu_linears *l, uint32_t block, int thread, int phase, int vec, void *shared)
{
    int k = 0;
    for (uint32_t own; k + 1 < l->count && block >= (own = yd_linear_blocks(l->of[k].out, l->n)); k++) block -= own;
    const yd_linear_args a = {l->v, l->of[k].w, l->of[k].b, l->of[k].y, l->in, l->of[k].out, l->n};
    yd_linear_block(&a, block, thread, phase, vec, shared);
}

typedef struct yd_linear_bwd_args {
    const float *v, *w, *dy;
    float *dv, *dw, *db;
    int in, out, n;
} yd_linear_bwd_args;

// One element of dv [n][in].
static YD_HD void yd_linear_dv_item(const yd_linear_bwd_args *a, uint32_t i, int vec)
{
    const size_t in = (size_t)a->in, out = (size_t)a->out, s = i / (uint32_t)a->in, j = i % (uint32_t)a->in;
    float sum = 0.0f;
    (void)vec;
    for (size_t o = 0; o < out; o++) sum += a->dy[s * out + o] * a->w[o * in + j];
    a->dv[i] = sum;
}

// One element of dw [out][in], and of db where the row begins.
static YD_HD void yd_linear_dw_item(const yd_linear_bwd_args *a, uint32_t i, int vec)
{
    const size_t in = (size_t)a->in, out = (size_t)a->out, o = i / (uint32_t)a->in, j = i % (uint32_t)a->in;
    float sum = 0.0f, bias = 0.0f;
    (void)vec;
    for (size_t s = 0; s < (size_t)a->n; s++) {
        const float dy = a->dy[s * out + o];
        sum += dy * a->v[s * in + j];
        bias += dy;
    }
    a->dw[i] = sum;
    if (j == 0 && a->db) a->db[o] = bias;
}

typedef struct yd_unary_args {
    const float *x, *dy;
    float *y;
} yd_unary_args;

static YD_HD void yd_silu_item(const yd_unary_args *a, uint32_t i, int vec)
{
    (void)vec;
    a->y[i] = yd_silu_of(a->x[i], 0);
}

static YD_HD void yd_mish_item(const yd_unary_args *a, uint32_t i, int vec)
{
    (void)vec;
    a->y[i] = yd_mish_of(a->x[i]);
}

static YD_HD void yd_silu_bwd_item(const yd_unary_args *a, uint32_t i, int vec)
{
    (void)vec;
    a->y[i] = a->dy[i] * yd_silu_slope_of(a->x[i], 0);
}

typedef struct yd_embed_args {
    const float *s;
    float *v;
    int half, r;
    float scale;
} yd_embed_args;

// One frequency of one sample, in double: the argument reaches thousands of radians.
static YD_HD void yd_embed_item(const yd_embed_args *a, uint32_t i, int vec)
{
    const int k = (int)(i % (uint32_t)a->half);
    const size_t sample = i / (uint32_t)a->half;
    const double angle = (double)a->s[sample] * (double)a->scale * exp(-log(1e4) * k / (a->half - a->r));
    float *v = a->v + sample * 2 * (size_t)a->half + k;
    (void)vec;
    v[0] = (float)sin(angle);
    v[a->half] = (float)cos(angle);
}

#endif
