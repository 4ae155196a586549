// The loss and its derivative, the gradients' norm, AdamW.
//
// Sums run in double: a block's threads first, joined as a tree, then blocks in order. Read next: core/cpu/adamw.c, whose step this is.
#ifndef YD_GPU_DEVICE_TRAINING_H
#define YD_GPU_DEVICE_TRAINING_H

#include "gpu/device/map.h"

enum {
    YD_SUM_THREADS = 256,
    YD_SUM_ROUNDS = 8,
    YD_SUM_PHASES = YD_SUM_ROUNDS + 2,
    YD_SUM_SHARED = YD_SUM_THREADS * 8,
    YD_LOSS_PIXELS = 1024 // of a block
};

typedef struct yd_loss_args {
    yd_gpu_map pred, target, dpred; // dpred.data NULL: not wanted
    const float *mask, *weight;
    double *partial; // [n][blocks of a sample]
    float *loss;
    int p, n;
} yd_loss_args;

static YD_HD uint32_t yd_loss_blocks(const yd_gpu_map *pred)
{
    return yd_ceil_div(yd_pixels(pred), YD_LOSS_PIXELS);
}

// What a pixel adds to the loss, without the sample's weight; its derivative is written.
static YD_HD double yd_loss_pixel(const yd_loss_args *a, uint32_t pixel, float weight)
{
    const float m = a->mask[pixel] * weight;
    double sum = 0.0;
    for (int c = 0; c < a->pred.c; c++) {
        const float d = yd_get(a->pred.data, yd_at_pixel(&a->pred, pixel, c), yd_is_bf16_map(&a->pred)) -
                        yd_get(a->target.data, yd_at_pixel(&a->target, pixel, c), yd_is_bf16_map(&a->target));
        const float sign = d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d; // 0 stays 0 and NaN stays NaN
        sum += a->p == 1 ? fabs((double)d) : (double)d * (double)d;
        if (a->dpred.data)
            yd_put(a->dpred.data, yd_at_pixel(&a->dpred, pixel, c), yd_is_bf16_map(&a->dpred), a->p == 1 ? m * sign : 2.0f * m * d);
    }
    for (int c = a->dpred.c; a->dpred.data && c < a->dpred.padded; c++)
        yd_put(a->dpred.data, yd_at_pixel(&a->dpred, pixel, c), yd_is_bf16_map(&a->dpred), 0.0f);
    return sum * (double)a->mask[pixel];
}

static YD_HD void yd_loss_block(const yd_loss_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    double *sum = (double *)shared;
    const uint32_t blocks = yd_loss_blocks(&a->pred), pixels = yd_pixels(&a->pred), sample = block / blocks;
    if (phase == 0) {
        double part = 0.0;
        const uint32_t first = block % blocks * YD_LOSS_PIXELS;
        for (uint32_t i = first + (uint32_t)thread; i < first + YD_LOSS_PIXELS && i < pixels; i += YD_SUM_THREADS)
            part += yd_loss_pixel(a, sample * pixels + i, a->weight[sample]);
        sum[thread] = part;
    } else if (phase <= YD_SUM_ROUNDS) {
        yd_tree_add_double(sum, thread, YD_SUM_THREADS >> phase);
    } else if (thread == 0) {
        a->partial[block] = sum[0];
    }
}

// One sample's loss from its blocks.
static YD_HD void yd_loss_join_item(const yd_loss_args *a, uint32_t i, int vec)
{
    const uint32_t blocks = yd_loss_blocks(&a->pred);
    double sum = 0.0;
    (void)vec;
    for (uint32_t b = 0; b < blocks; b++) sum += a->partial[(size_t)i * blocks + b];
    a->loss[i] = (float)(sum * (double)a->weight[i]);
}

typedef struct yd_adamw_args {
    const yd_gpu_span *spans;
    double *squares;
    yd_gpu_rates r;
} yd_adamw_args;

// Block: a span.
static YD_HD void yd_square_block(const yd_adamw_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    double *sum = (double *)shared;
    if (phase == 0) {
        const yd_gpu_span s = a->spans[block];
        double part = 0.0;
        for (uint32_t i = (uint32_t)thread; i < s.count; i += YD_SUM_THREADS) part += (double)s.g[i] * (double)s.g[i];
        sum[thread] = part;
    } else if (phase <= YD_SUM_ROUNDS) {
        yd_tree_add_double(sum, thread, YD_SUM_THREADS >> phase);
    } else if (thread == 0) {
        a->squares[block] = sum[0];
    }
}

// Item: an element of a span, all spans counted as if they were full.
static YD_HD void yd_adamw_item(const yd_adamw_args *a, uint32_t item, int vec)
{
    const yd_gpu_span s = a->spans[item / YD_GPU_SPAN];
    const uint32_t i = item % YD_GPU_SPAN;
    const yd_gpu_rates *k = &a->r;
    (void)vec;
    if (i >= s.count) return;
    const float g = s.g[i] * k->scale;
    const float m = k->beta1 * s.m[i] + (1.0f - k->beta1) * g;
    const float v = k->beta2 * s.v[i] + (1.0f - k->beta2) * g * g;
    const float w = s.w[i] - k->decay * s.w[i] - k->step * m / (sqrtf(v) * k->root + k->eps);
    s.m[i] = m;
    s.v[i] = v;
    s.w[i] = w;
    s.ema[i] = k->ema * s.ema[i] + (1.0f - k->ema) * w;
}

#endif
