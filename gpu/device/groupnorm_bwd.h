// The gradient of group normalisation, from x and the saved statistics.
//
// With u the normalised input, z = gamma*u + beta and g = dy*f'(z), a channel of a sample needs A = sum g, B = sum g*u, C = sum u.
// Then dbeta = sum A and dgamma = sum B over the batch, and per group of N elements
//     dx = rstd * (gamma*g - m1 - u*m2),   m1 = sum gamma*A / N,   m2 = sum gamma*B / N,
// and dv, the sum of dx over the pixels, follows from the sums: rstd * (gamma*A - pixels*m1 - C*m2).
//   sum (a block: some pixels) -> finish (a block: a group) -> parameters (an item: a channel) and apply (an item: a run of a pixel)
#ifndef YD_GPU_DEVICE_GROUPNORM_BWD_H
#define YD_GPU_DEVICE_GROUPNORM_BWD_H

#include "gpu/device/groupnorm.h"

enum { YD_GNB_PHASES = 2, YD_GNB_FINISH_PHASES = 4 };

typedef struct yd_gnorm_bwd_args {
    yd_gpu_map x, dy, dx;
    const float *v, *gamma, *beta, *stats;
    float *dv, *dgamma, *dbeta;
    double *totals; // [n][2][c]: A, B
    float *means;   // [n][groups][2]: m1, m2
    yd_columns k;
    int groups, act, n;
} yd_gnorm_bwd_args;

// What an element's gradient is made of.
static YD_HD void yd_gnb_element(const yd_gnorm_bwd_args *a, uint32_t sample, int ch, float x, float dy, float *u, float *g)
{
    const int group = ch / (a->x.c / a->groups);
    const float *stats = a->stats + (size_t)sample * 2 * (size_t)a->groups + group;
    const float v = a->v ? a->v[(size_t)sample * (size_t)a->x.c + (size_t)ch] : 0.0f;
    *u = (x - (stats[0] - v)) * stats[a->groups];
    *g = a->act ? dy * yd_silu_slope_of(a->gamma[ch] * *u + a->beta[ch], a->dx.dtype == YD_BF16) : dy;
}

static YD_HD void yd_gnorm_bwd_sum_block(const yd_gnorm_bwd_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    if (phase == 1) {
        yd_columns_join(&a->k, block, thread, vec, (const float *)shared);
        return;
    }
    const yd_column_part p = yd_columns_part(&a->k, block, thread);
    const int ch = (int)p.run * vec;
    float x[YD_VEC], dy[YD_VEC], sums[3 * YD_VEC], u, g;
    for (int j = 0; j < 3 * vec; j++) sums[j] = 0.0f;
    for (uint32_t i = p.first; p.run < a->k.runs && i < p.end; i += p.step) {
        yd_map_get(&a->x, p.sample * a->k.pixels + i, ch, vec, x);
        yd_map_get(&a->dy, p.sample * a->k.pixels + i, ch, vec, dy);
        for (int j = 0; j < vec; j++) {
            yd_gnb_element(a, p.sample, ch + j, x[j], dy[j], &u, &g);
            sums[j] += g;
            sums[vec + j] += g * u;
            sums[2 * vec + j] += u;
        }
    }
    yd_columns_leave(sums, 3 * vec, thread, (float *)shared);
}

static inline size_t yd_gnorm_bwd_finish_shared(int width)
{
    return (size_t)(3 * width * yd_gn_lanes(width) + 2) * sizeof(double);
}

static YD_HD void yd_gnb_vector(const yd_gnorm_bwd_args *a, uint32_t sample, int group, int c, const double total[3], const double mean[2])
{
    const int width = a->x.c / a->groups, ch = group * width + c;
    const double rstd = (double)a->stats[(size_t)sample * 2 * (size_t)a->groups + (size_t)(a->groups + group)];
    a->dv[(size_t)sample * (size_t)a->x.c + (size_t)ch] =
        (float)(rstd * ((double)a->gamma[ch] * total[0] - (double)a->k.pixels * mean[0] - total[2] * mean[1]));
}

// Block: a group of a sample. shared: [3][width*lanes] totals, whose first lanes become the channels', then m1 and m2.
static YD_HD void yd_gnorm_bwd_finish_block(const yd_gnorm_bwd_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    const uint32_t sample = block / (uint32_t)a->groups;
    const int group = (int)(block % (uint32_t)a->groups), width = a->x.c / a->groups, lanes = yd_gn_lanes(width), parts = width * lanes;
    double *total = (double *)shared, *mean = total + 3 * parts;
    if (phase == 0) {
        for (int i = thread; i < 3 * parts; i += YD_GN_FINISH_THREADS)
            total[i] =
                yd_columns_total(&a->k, sample, i / parts, group * width + i % parts / lanes, (uint32_t)(i % lanes), (uint32_t)lanes);
    } else if (phase == 1) {
        for (int c = thread; c < 3 * width; c += YD_GN_FINISH_THREADS)
            for (int l = 1; l < lanes; l++) total[c * lanes] += total[c * lanes + l];
    } else if (phase == 2) {
        if (thread > 1) return;
        double sum = 0.0; // thread 0: m1, thread 1: m2
        for (int c = 0; c < width; c++) sum += (double)a->gamma[group * width + c] * total[thread * parts + c * lanes];
        mean[thread] = sum / ((double)width * (double)a->k.pixels);
        a->means[((size_t)sample * (size_t)a->groups + (size_t)group) * 2 + (size_t)thread] = (float)mean[thread];
    } else {
        for (int c = thread; c < width; c += YD_GN_FINISH_THREADS) {
            const double of[3] = {total[c * lanes], total[parts + c * lanes], total[2 * parts + c * lanes]};
            double *to = a->totals + (size_t)sample * 2 * (size_t)a->x.c + (size_t)(group * width + c);
            to[0] = of[0];
            to[a->x.c] = of[1];
            if (a->dv) yd_gnb_vector(a, sample, group, c, of, mean);
        }
    }
}

// Item: a channel.
static YD_HD void yd_gnorm_bwd_param_item(const yd_gnorm_bwd_args *a, uint32_t i, int vec)
{
    double dbeta = 0.0, dgamma = 0.0;
    (void)vec;
    for (size_t s = 0; s < (size_t)a->n; s++) {
        dbeta += a->totals[s * 2 * (size_t)a->x.c + i];
        dgamma += a->totals[(s * 2 + 1) * (size_t)a->x.c + i];
    }
    a->dbeta[i] = (float)dbeta;
    a->dgamma[i] = (float)dgamma;
}

static YD_HD void yd_gnorm_bwd_apply_item(const yd_gnorm_bwd_args *a, uint32_t i, int vec)
{
    const yd_item it = yd_item_of(&a->dx, i, vec);
    const uint32_t sample = it.pixel / a->k.pixels;
    const int width = a->x.c / a->groups;
    float x[YD_VEC], dy[YD_VEC], u, g;
    yd_zero_vec(vec, dy);
    if (it.ch < a->dx.c) {
        yd_map_get(&a->x, it.pixel, it.ch, vec, x);
        yd_map_get(&a->dy, it.pixel, it.ch, vec, dy);
        for (int j = 0; j < vec; j++) {
            const int ch = it.ch + j, group = ch / width;
            const float *mean = a->means + ((size_t)sample * (size_t)a->groups + (size_t)group) * 2;
            const float rstd = a->stats[(size_t)sample * 2 * (size_t)a->groups + (size_t)(a->groups + group)];
            yd_gnb_element(a, sample, ch, x[j], dy[j], &u, &g);
            dy[j] = rstd * (a->gamma[ch] * g - mean[0] - u * mean[1]);
        }
    }
    yd_map_put(&a->dx, it.pixel, it.ch, vec, dy);
}

#endif
