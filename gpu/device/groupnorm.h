// Group normalisation with the embedding's vector and SiLU, per sample: u = x + v, y = f(gamma*(u - mean)*rstd + beta).
//
// Sums are of x - shift, shift being the channel's value in the sample's first pixel, and of its square: a mean far from zero costs no
// digits. A channel's sums are joined in double, and groups are made of channels' means and squared deviations, also in double.
//   large maps   sum (a block: some pixels) -> finish (a block: a group) -> apply (an item: up to YD_GN_PIXELS pixels of a run)
//   small maps   one kernel, a block for as few whole groups as also are whole runs; which it is follows from one sample's shape
#ifndef YD_GPU_DEVICE_GROUPNORM_H
#define YD_GPU_DEVICE_GROUPNORM_H

#include "gpu/device/columns.h"

enum {
    YD_GN_SUM_PHASES = 2,
    YD_GN_FINISH_THREADS = 128,
    YD_GN_FINISH_PHASES = 4,
    YD_GN_PIXELS = 8,      // pixels that one item applies a run's coefficients to, on large maps
    YD_GN_SMALL = 32 * 32, // pixels of a map for one kernel
    YD_GN_SMALL_PHASES = 4,
    YD_GN_SMALL_CHANNELS = 256, // of a block, at most
    YD_GN_MAX_WIDTH = 1024      // channels of a group: what finish holds in shared memory
};

typedef struct yd_gnorm_args {
    yd_gpu_map x, y;
    const float *v, *gamma, *beta;
    float *stats; // [n][2*groups] or NULL
    float *coef;  // [n][2][c]: m and a of y = f((x - m)*a + beta)
    yd_columns k;
    int groups, act, n, chunk; // chunk: channels of a block, on small maps
    float eps;
} yd_gnorm_args;

// A channel's mean and sum of squared deviations from it, from the sums of x - shift and its square.
typedef struct yd_moments {
    double mean, m2;
} yd_moments;

static YD_HD yd_moments yd_moments_of(double sum, double square, double count, float shift, float v)
{
    yd_moments m;
    m.mean = (double)shift + (double)v + sum / count;
    m.m2 = square - sum * sum / count;
    if (m.m2 < 0.0) m.m2 = 0.0;
    return m;
}

// Group of `width` channels of `count` elements each.
static YD_HD void yd_group_of(const yd_moments *m, int width, double count, float eps, double *mean, double *rstd)
{
    double sum = 0.0, m2 = 0.0;
    for (int c = 0; c < width; c++) sum += m[c].mean;
    *mean = sum / width;
    for (int c = 0; c < width; c++) m2 += m[c].m2 + count * (m[c].mean - *mean) * (m[c].mean - *mean);
    *rstd = 1.0 / sqrt(m2 / (count * width) + (double)eps);
}

static YD_HD float yd_gn_v(const yd_gnorm_args *a, uint32_t sample, int ch)
{
    return a->v ? a->v[(size_t)sample * (size_t)a->x.c + (size_t)ch] : 0.0f;
}

static YD_HD float yd_gn_shift(const yd_gnorm_args *a, uint32_t sample, int ch)
{
    return yd_get(a->x.data, yd_at_pixel(&a->x, sample * yd_pixels(&a->x), ch), yd_is_bf16_map(&a->x));
}

// A thread's part of both sums; left in shared memory.
static YD_HD void yd_gn_sum(const yd_gnorm_args *a, const yd_column_part *p, int ch, int on, int vec, int thread, float *shared)
{
    float shift[YD_VEC], v[YD_VEC], sums[2 * YD_VEC];
    for (int j = 0; j < 2 * vec; j++) sums[j] = 0.0f;
    if (on) {
        const uint32_t sample = p->sample * yd_pixels(&a->x);
        yd_map_get(&a->x, sample, ch, vec, shift);
        for (uint32_t i = p->first; i < p->end; i += p->step) {
            yd_map_get(&a->x, sample + i, ch, vec, v);
            for (int j = 0; j < vec; j++) {
                const float d = v[j] - shift[j];
                sums[j] += d;
                sums[vec + j] += d * d;
            }
        }
    }
    yd_columns_leave(sums, 2 * vec, thread, shared);
}

static YD_HD void yd_gnorm_sum_block(const yd_gnorm_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    if (phase == 1) {
        yd_columns_join(&a->k, block, thread, vec, (const float *)shared);
        return;
    }
    const yd_column_part p = yd_columns_part(&a->k, block, thread);
    yd_gn_sum(a, &p, (int)p.run * vec, p.run < a->k.runs, vec, thread, (float *)shared);
}

static YD_HD void yd_gn_coef(const yd_gnorm_args *a, uint32_t sample, int ch, double mean, double rstd, float *m, float *scale)
{
    *m = (float)(mean - (double)yd_gn_v(a, sample, ch));
    *scale = (float)((double)a->gamma[ch] * rstd);
}

static YD_HD void yd_gn_keep(const yd_gnorm_args *a, uint32_t sample, int group, double mean, double rstd)
{
    float *stats = a->stats + (size_t)sample * 2 * (size_t)a->groups + group;
    stats[0] = (float)mean;
    stats[a->groups] = (float)rstd;
}

// Threads for each channel of a group, and channels at a time, where a block of YD_GN_FINISH_THREADS joins them.
static YD_HD int yd_gn_lanes(int width)
{
    return width < YD_GN_FINISH_THREADS ? YD_GN_FINISH_THREADS / width : 1;
}

static inline size_t yd_gnorm_finish_shared(int width)
{
    return (size_t)(2 * width * yd_gn_lanes(width) + 2 * width + 2) * sizeof(double);
}

// Block: a group of a sample. shared: [width*lanes] sums, as many squares, [width] moments, the group's mean and rstd.
static YD_HD void yd_gnorm_finish_block(const yd_gnorm_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    const uint32_t sample = block / (uint32_t)a->groups;
    const int group = (int)(block % (uint32_t)a->groups), width = a->x.c / a->groups, lanes = yd_gn_lanes(width), parts = width * lanes;
    double *sum = (double *)shared, *square = sum + parts, *result = square + parts + 2 * width;
    yd_moments *m = (yd_moments *)(square + parts);
    if (phase == 0) {
        for (int i = thread; i < parts; i += YD_GN_FINISH_THREADS) {
            sum[i] = yd_columns_total(&a->k, sample, 0, group * width + i / lanes, (uint32_t)(i % lanes), (uint32_t)lanes);
            square[i] = yd_columns_total(&a->k, sample, 1, group * width + i / lanes, (uint32_t)(i % lanes), (uint32_t)lanes);
        }
    } else if (phase == 1) {
        for (int c = thread; c < width; c += YD_GN_FINISH_THREADS) {
            const int ch = group * width + c;
            double s = 0.0, q = 0.0;
            for (int l = 0; l < lanes; l++) s += sum[c * lanes + l], q += square[c * lanes + l];
            m[c] = yd_moments_of(s, q, (double)a->k.pixels, yd_gn_shift(a, sample, ch), yd_gn_v(a, sample, ch));
        }
    } else if (phase == 2) {
        if (thread == 0) yd_group_of(m, width, (double)a->k.pixels, a->eps, &result[0], &result[1]);
    } else {
        if (thread == 0 && a->stats) yd_gn_keep(a, sample, group, result[0], result[1]);
        for (int c = thread; c < width; c += YD_GN_FINISH_THREADS) {
            const size_t at = (size_t)sample * 2 * (size_t)a->x.c + (size_t)(group * width + c);
            yd_gn_coef(a, sample, group * width + c, result[0], result[1], &a->coef[at], &a->coef[at + (size_t)a->x.c]);
        }
    }
}

static YD_HD void yd_gn_apply(const yd_gnorm_args *a, uint32_t pixel, int ch, int vec, const float *m, const float *scale,
                              const float *beta)
{
    float v[YD_VEC];
    yd_map_get(&a->x, pixel, ch, vec, v);
    for (int j = 0; j < vec; j++) {
        const float z = (v[j] - m[j]) * scale[j] + beta[j];
        v[j] = a->act ? yd_silu_of(z, a->y.dtype == YD_BF16) : z;
    }
    yd_map_put(&a->y, pixel, ch, vec, v);
}

static YD_HD uint32_t yd_gn_strides(uint32_t pixels)
{
    return yd_ceil_div(pixels, YD_GN_PIXELS);
}

static inline double yd_gnorm_items(const yd_gnorm_args *a, int vec)
{
    return (double)a->n * yd_gn_strides(yd_pixels(&a->y)) * yd_ceil_div((uint32_t)a->y.padded, (uint32_t)vec);
}

// Item: a run of channels of up to YD_GN_PIXELS pixels, as far from each other as there are items, so that neighbours stay neighbours.
static YD_HD void yd_gnorm_apply_item(const yd_gnorm_args *a, uint32_t i, int vec)
{
    const uint32_t runs = yd_ceil_div((uint32_t)a->y.padded, (uint32_t)vec), pixels = yd_pixels(&a->y), step = yd_gn_strides(pixels);
    const uint32_t sample = i / runs / step;
    const int ch = (int)(i % runs) * vec;
    const float *coef = a->coef + (size_t)sample * 2 * (size_t)a->x.c + ch;
    float m[YD_VEC], scale[YD_VEC], beta[YD_VEC];
    yd_zero_vec(vec, m);
    for (int j = 0; j < vec && ch < a->y.c; j++) m[j] = coef[j], scale[j] = coef[a->x.c + j], beta[j] = a->beta[ch + j];
    for (uint32_t p = i / runs % step; p < pixels; p += step) {
        if (ch < a->y.c)
            yd_gn_apply(a, sample * pixels + p, ch, vec, m, scale, beta);
        else
            yd_map_put(&a->y, sample * pixels + p, ch, vec, m);
    }
}

// ---- small maps ----

// Channels of a block: whole groups and whole runs; 0 where that is too many.
static inline int yd_gnorm_chunk(const yd_gpu_map *x, int groups, int vec)
{
    const int width = x->c / groups;
    int chunk = width;
    while (chunk % vec) chunk += width;
    return yd_pixels(x) <= YD_GN_SMALL && chunk <= YD_GN_SMALL_CHANNELS && chunk / vec <= YD_COL_TILE ? chunk : 0;
}

// shared: [2*vec][YD_COL_THREADS] floats, then [chunk] moments, then a mean and a rstd for each group.
static inline size_t yd_gnorm_small_shared(int chunk, int width, int vec)
{
    return (size_t)(2 * vec * YD_COL_THREADS) * sizeof(float) + (size_t)chunk * sizeof(yd_moments) +
           (size_t)(chunk / width) * 2 * sizeof(double);
}

typedef struct yd_gn_small {
    float *parts;
    yd_moments *moments;
    double *groups;
} yd_gn_small;

static YD_HD yd_gn_small yd_gn_small_in(const yd_gnorm_args *a, int vec, void *shared)
{
    yd_gn_small s;
    s.parts = (float *)shared;
    s.moments = (yd_moments *)(void *)(s.parts + 2 * vec * YD_COL_THREADS);
    s.groups = (double *)(void *)(s.moments + a->chunk);
    return s;
}

static YD_HD void yd_gn_small_apply(const yd_gnorm_args *a, const yd_column_part *p, int first, int vec, const yd_gn_small *s)
{
    const int width = a->x.c / a->groups, ch = first + (int)p->run * vec;
    const uint32_t sample = p->sample * a->k.pixels;
    float m[YD_VEC], scale[YD_VEC], beta[YD_VEC], zero[YD_VEC];
    for (int j = 0; j < vec; j++) {
        const double *group = s->groups + 2 * ((ch + j - first) / width);
        yd_gn_coef(a, p->sample, ch + j, group[0], group[1], &m[j], &scale[j]);
        beta[j] = a->beta[ch + j];
    }
    for (uint32_t i = p->first; i < p->end; i += p->step) yd_gn_apply(a, sample + i, ch, vec, m, scale, beta);
    yd_zero_vec(vec, zero);
    for (int pad = a->y.c; ch + vec == a->y.c && pad < a->y.padded; pad += vec) // whoever has the last run has what is behind it
        for (uint32_t i = p->first; i < p->end; i += p->step) yd_map_put(&a->y, sample + i, pad, vec, zero);
}

// Block: `chunk` channels of a sample; k is planned for a map of so many channels and one block of all its pixels.
static YD_HD void yd_gnorm_small_block(const yd_gnorm_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    const uint32_t chunks = (uint32_t)(a->x.c / a->chunk), sample = block / chunks;
    const int first = (int)(block % chunks) * a->chunk, width = a->x.c / a->groups;
    const yd_gn_small s = yd_gn_small_in(a, vec, shared);
    yd_column_part p = yd_columns_part(&a->k, 0, thread);
    p.sample = sample;
    if (phase == 0) {
        yd_gn_sum(a, &p, first + (int)p.run * vec, p.run < a->k.runs, vec, thread, s.parts);
    } else if (phase == 1) {
        for (int c = thread; c < a->chunk; c += YD_COL_THREADS) {
            const double sum = (double)yd_columns_down(&a->k, c % vec, (uint32_t)(c / vec), s.parts);
            const double square = (double)yd_columns_down(&a->k, vec + c % vec, (uint32_t)(c / vec), s.parts);
            s.moments[c] =
                yd_moments_of(sum, square, (double)a->k.pixels, yd_gn_shift(a, sample, first + c), yd_gn_v(a, sample, first + c));
        }
    } else if (phase == 2) {
        for (int g = thread; g < a->chunk / width; g += YD_COL_THREADS) {
            yd_group_of(s.moments + g * width, width, (double)a->k.pixels, a->eps, &s.groups[2 * g], &s.groups[2 * g + 1]);
            if (a->stats) yd_gn_keep(a, sample, first / width + g, s.groups[2 * g], s.groups[2 * g + 1]);
        }
    } else if (p.run < a->k.runs) {
        yd_gn_small_apply(a, &p, first, vec, &s);
    }
}

#endif
