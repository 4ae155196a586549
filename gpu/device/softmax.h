// Softmax along rows of scores and its gradient, a block a row: attention between its matrix products.
//
// Sums run in YD_SOFTMAX_THREADS partial sums joined as a tree. The exponentials are worked out twice rather than kept.
#ifndef YD_GPU_DEVICE_SOFTMAX_H
#define YD_GPU_DEVICE_SOFTMAX_H

#include "gpu/device/num.h"

enum {
    YD_SOFTMAX_THREADS = 128,
    YD_SOFTMAX_ROUNDS = 7, // of a tree over the threads
    YD_SOFTMAX_PHASES = 2 * YD_SOFTMAX_ROUNDS + 3,
    YD_SOFTMAX_BWD_PHASES = YD_SOFTMAX_ROUNDS + 2,
    YD_SOFTMAX_SHARED = 2 * YD_SOFTMAX_THREADS * 4
};

typedef struct yd_softmax_args {
    const float *s; // scores, or dp
    const void *q;  // of the gradient: p
    void *p;        // or ds
    int bf16, q_bf16, cols;
    float scale;
} yd_softmax_args;

static YD_HD void yd_softmax_block(const yd_softmax_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    float *top = (float *)shared, *sum = top + YD_SOFTMAX_THREADS;
    const size_t row = (size_t)block * (size_t)a->cols;
    const float *s = a->s + row;
    if (phase == 0) {
        float m = -INFINITY;
        for (int i = thread; i < a->cols; i += YD_SOFTMAX_THREADS) m = s[i] > m ? s[i] : m;
        top[thread] = m;
    } else if (phase <= YD_SOFTMAX_ROUNDS) {
        const int half = YD_SOFTMAX_THREADS >> phase;
        if (thread < half && top[thread + half] > top[thread]) top[thread] = top[thread + half];
    } else if (phase == YD_SOFTMAX_ROUNDS + 1) {
        float part = 0.0f;
        for (int i = thread; i < a->cols; i += YD_SOFTMAX_THREADS) part += expf((s[i] - top[0]) * a->scale);
        sum[thread] = part;
    } else if (phase <= 2 * YD_SOFTMAX_ROUNDS + 1) {
        yd_tree_add(sum, thread, YD_SOFTMAX_THREADS >> (phase - YD_SOFTMAX_ROUNDS - 1));
    } else {
        const float inverse = 1.0f / sum[0];
        for (int i = thread; i < a->cols; i += YD_SOFTMAX_THREADS)
            yd_put(a->p, row + (size_t)i, a->bf16, expf((s[i] - top[0]) * a->scale) * inverse);
    }
}

static YD_HD void yd_softmax_bwd_block(const yd_softmax_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    float *sum = (float *)shared;
    const size_t row = (size_t)block * (size_t)a->cols;
    if (phase == 0) {
        float part = 0.0f;
        for (int i = thread; i < a->cols; i += YD_SOFTMAX_THREADS) part += yd_get(a->q, row + (size_t)i, a->q_bf16) * a->s[row + (size_t)i];
        sum[thread] = part;
    } else if (phase <= YD_SOFTMAX_ROUNDS) {
        yd_tree_add(sum, thread, YD_SOFTMAX_THREADS >> phase);
    } else {
        for (int i = thread; i < a->cols; i += YD_SOFTMAX_THREADS) {
            const float p = yd_get(a->q, row + (size_t)i, a->q_bf16);
            yd_put(a->p, row + (size_t)i, a->bf16, p * (a->s[row + (size_t)i] - sum[0]) * a->scale);
        }
    }
}

#endif
