// Group normalisation over maps in memory: what is cut where, and the statistics. The loops over pixels are in
// gnorm_loops.c and gnorm_avx512.c.
//
// The first pass takes, per block of pixels and channel, f32 sums of d and d*d, d = x - x(first pixel of the sample):
// the shift keeps large means from cancelling. v shifts a channel's mean and leaves its variance alone, so it needs no
// pass. Blocks are joined per channel in double, in block order, and channels per group in channel order. The second
// pass applies
//     y = f((x - m)*a + b)
// with per-channel m, a, b; the part of the mean that m cannot hold in f32 goes into b.
//
// Work goes to threads in one of two ways; the bits are the same. By channels: a thread takes whole groups of a sample
// through both passes, and finds them in its cache the second time. By pixels, for maps larger than that: all threads
// sum blocks, meet, make the coefficients, meet, and apply blocks, last block first, as it is the one still in cache.
#include "core/cpu/gnorm_kernel.h"
#include "core/cpu/gnorm_loops.h"
#include "core/simd.h"
#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdint.h>

enum {
    LANES = YD_GNORM_LANES,
    BLOCK = 16384,         // elements of a block, about; cut by shape alone
    SMALL = 16384,         // elements for which a second thread costs more than it saves
    NEAR_BYTES = 512 << 10 // of x: a share that one core's cache holds
};

typedef struct job {
    const yd_gnorm *g;
    const yd_gnorm_loops *loops;
    size_t n, c, c0, width; // samples, channels, those of the first source, channels of a group
    size_t rows, blocks;    // pixels of a block; blocks of a sample
    size_t parts;           // by channels: tasks per sample; 0: by pixels
    double *totals;         // [n][2][c]
    float *coef;            // [n][3][c]
    float *sums;            // [n][blocks][3][c]: shift, sum, squares
} job;

// --- addresses

static char *element(const yd_gnorm_map *m, size_t i)
{
    return (char *)m->data + i * (m->bf16 ? 2u : 4u);
}

static size_t pixel_step(const yd_gnorm_map *m)
{
    return m->blocked ? (size_t)LANES : m->pitch ? m->pitch : (size_t)m->c;
}

static size_t chunk_step(const yd_gnorm_map *m, size_t pixels)
{
    return m->blocked ? pixels * LANES : (size_t)LANES;
}

static size_t sample_step(const yd_gnorm_map *m, size_t pixels)
{
    if (m->sample) return m->sample;
    size_t chunks = ((size_t)m->c + LANES - 1) / LANES;
    return m->blocked ? chunks * LANES * pixels : pixel_step(m) * pixels;
}

// Position of a channel that starts a chunk, at a pixel of a sample.
static size_t position(const yd_gnorm_map *m, size_t pixels, size_t sample, size_t pixel, size_t channel)
{
    return sample * sample_step(m, pixels) + pixel * pixel_step(m) + channel / LANES * chunk_step(m, pixels);
}

// --- one block of pixels, channels from..to, which are where chunks start

static size_t source_end(const job *k, size_t channel)
{
    return channel < k->c0 ? k->c0 : k->c;
}

// The strip that starts at a channel; the number of its channels.
static size_t next_strip(const job *k, size_t sample, size_t block, size_t channel, size_t to, yd_gnorm_strip *s,
                         const void **first)
{
    const yd_gnorm *g = k->g;
    const yd_gnorm_map *x = &g->src[channel >= k->c0], *y = &g->dst;
    size_t end = source_end(k, channel), local = channel < k->c0 ? channel : channel - k->c0;
    size_t left = (to < end ? to : end) - channel, pixel = block * k->rows, rows = g->pixels - pixel;
    size_t chunks = left / LANES;
    *s = (yd_gnorm_strip){
        .x = element(x, position(x, g->pixels, sample, pixel, local)),
        .x_pixel = pixel_step(x),
        .x_chunk = chunk_step(x, g->pixels),
        .x_bf16 = x->bf16,
        .y_pixel = pixel_step(y),
        .y_chunk = chunk_step(y, g->pixels),
        .y_bf16 = y->bf16,
        .rows = rows < k->rows ? rows : k->rows,
        .chunks = chunks > YD_GNORM_WIDTH ? YD_GNORM_WIDTH
                  : chunks                ? (int)chunks
                                          : 1,
        .lanes = chunks ? LANES : (int)left,
        .pad = y->blocked,
        .act = g->act,
    };
    // In a map by pixels a second source may start anywhere; in a blocked one it starts with a chunk.
    size_t at = y->blocked ? channel : 0;
    s->y = element(y, position(y, g->pixels, sample, pixel, at) + (y->blocked ? 0 : channel));
    *first = element(x, position(x, g->pixels, sample, 0, local));
    return chunks ? (size_t)s->chunks * LANES : left;
}

static void sum_block(const job *k, size_t sample, size_t block, size_t from, size_t to)
{
    float *out = k->sums + (sample * k->blocks + block) * 3 * k->c;
    yd_gnorm_strip s;
    const void *first;
    for (size_t j = from, step; j < to; j += step) {
        step = next_strip(k, sample, block, j, to, &s, &first);
        k->loops->sum(&s, first, out + j, out + k->c + j, out + 2 * k->c + j);
    }
}

static void apply_block(const job *k, size_t sample, size_t block, size_t from, size_t to)
{
    const float *m = k->coef + sample * 3 * k->c, *a = m + k->c, *b = a + k->c;
    yd_gnorm_strip s;
    const void *first;
    for (size_t j = from, step; j < to; j += step) {
        step = next_strip(k, sample, block, j, to, &s, &first);
        k->loops->apply(&s, m + j, a + j, b + j);
    }
}

// --- statistics

YD_SIMD
static void add_block(size_t n, const float *restrict sums, double *restrict totals)
{
#pragma omp simd
    for (size_t j = 0; j < n; j++) totals[j] += (double)sums[j];
}

// From sums to the mean of x + v and the sum of squared deviations.
YD_SIMD
static void center(size_t n, double count, const float *restrict shift, const float *restrict v, double *restrict mean,
                   double *restrict dev)
{
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        double d = mean[j] / count;
        dev[j] -= d * mean[j];
        mean[j] = (double)shift[j] + d + (v ? (double)v[j] : 0);
    }
}

YD_SIMD
static void coefficients(size_t n, double mean, double rstd, const float *restrict v, const float *restrict gamma,
                         const float *restrict beta, float *restrict m, float *restrict a, float *restrict b)
{
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        double mj = mean - (v ? (double)v[j] : 0), aj = (double)gamma[j] * rstd;
        m[j] = (float)mj;
        a[j] = (float)aj;
        b[j] = (float)((double)beta[j] - (mj - (double)m[j]) * aj);
    }
}

// The coefficients of channels from..to of a sample: whole groups.
static void make_coefficients(const job *k, size_t sample, size_t from, size_t to)
{
    const yd_gnorm *g = k->g;
    size_t c = k->c, groups = (size_t)g->groups;
    const float *sums = k->sums + sample * k->blocks * 3 * c;
    const float *v = g->v ? g->v + sample * (g->v_step ? g->v_step : c) : NULL;
    double *mean_c = k->totals + sample * 2 * c, *dev_c = mean_c + c;
    float *m = k->coef + sample * 3 * c, *a = m + c, *b = a + c;
    for (size_t j = from; j < to; j++) mean_c[j] = dev_c[j] = 0;
    for (size_t i = 0; i < k->blocks; i++) {
        add_block(to - from, sums + i * 3 * c + c + from, mean_c + from);
        add_block(to - from, sums + i * 3 * c + 2 * c + from, dev_c + from);
    }
    center(to - from, (double)g->pixels, sums + from, v ? v + from : NULL, mean_c + from, dev_c + from);
    for (size_t at = from; at < to; at += k->width) {
        double mean = 0, dev = 0, count = (double)k->width * (double)g->pixels;
        for (size_t j = at; j < at + k->width; j++) mean += mean_c[j];
        mean /= (double)k->width;
        for (size_t j = at; j < at + k->width; j++) {
            double d = mean_c[j] - mean;
            dev += dev_c[j] + (double)g->pixels * d * d;
        }
        double var = dev / count;
        double rstd = 1.0 / sqrt((var < 0 ? 0 : var) + (double)g->eps);
        coefficients(k->width, mean, rstd, v ? v + at : NULL, g->gamma + at, g->beta + at, m + at, a + at, b + at);
        if (!g->stats) continue;
        g->stats[sample * 2 * groups + at / k->width] = (float)mean;
        g->stats[sample * 2 * groups + groups + at / k->width] = (float)rstd;
    }
}

// --- shares

// The first channel at or after j where both a chunk and a group start.
static size_t cut(const job *k, size_t j)
{
    for (; j < k->c; j++) {
        size_t local = j < k->c0 ? j : j - k->c0;
        if (local % LANES == 0 && j % k->width == 0) return j;
    }
    return k->c;
}

static void by_channels(const job *k, size_t task)
{
    size_t sample = task / k->parts, part = task % k->parts;
    size_t from = cut(k, k->c * part / k->parts), to = cut(k, k->c * (part + 1) / k->parts);
    if (from == to) return;
    for (size_t b = 0; b < k->blocks; b++) sum_block(k, sample, b, from, to);
    make_coefficients(k, sample, from, to);
    for (size_t b = k->blocks; b-- > 0;) apply_block(k, sample, b, from, to);
}

// One thread's share of all samples' blocks; every thread of the team calls it.
static void by_pixels(const job *k, size_t thread, size_t threads)
{
    size_t tasks = k->n * k->blocks, from = tasks * thread / threads, to = tasks * (thread + 1) / threads;
    size_t groups = (size_t)k->g->groups, all = k->n * groups;
    for (size_t i = from; i < to; i++) sum_block(k, i / k->blocks, i % k->blocks, 0, k->c);
#pragma omp barrier
    for (size_t i = all * thread / threads, end = all * (thread + 1) / threads, next; i < end; i = next) {
        size_t sample = i / groups, last = (sample + 1) * groups;
        next = last < end ? last : end;
        make_coefficients(k, sample, (i - sample * groups) * k->width, (next - sample * groups) * k->width);
    }
#pragma omp barrier
    for (size_t i = to; i-- > from;) apply_block(k, i / k->blocks, i % k->blocks, 0, k->c);
}

// Tasks per sample by channels, or 0 to go by pixels.
static size_t choose_parts(const job *k, size_t threads)
{
    size_t parts = 1;
    while (k->n * parts % threads && parts < threads) parts++;
    size_t share = (k->c + parts - 1) / parts, x = k->g->src[0].bf16 ? 2 : 4;
    if (parts > 1 && cut(k, share) != share) return 0;
    return share * k->g->pixels * x <= NEAR_BYTES ? parts : 0;
}

static size_t block_rows(size_t pixels, size_t c)
{
    size_t r = BLOCK / c;
    r = r < 8 ? 8 : r > 256 ? 256 : r;
    return r < pixels ? r : pixels;
}

static void set_sizes(const yd_gnorm *g, job *k)
{
    *k = (job){.g = g, .n = (size_t)g->n, .c = (size_t)g->dst.c, .c0 = (size_t)g->src[0].c};
    k->width = k->c / (size_t)g->groups;
    k->rows = block_rows(g->pixels, k->c);
    k->blocks = (g->pixels + k->rows - 1) / k->rows;
}

// --- the interface

#ifdef __x86_64__
int yd_gnorm_has_path(yd_gnorm_path path)
{
    __builtin_cpu_init();
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    switch (path) {
    case YD_GNORM_BEST:
    case YD_GNORM_PLAIN:
        return 1;
    case YD_GNORM_AVX2:
        return __builtin_cpu_supports("avx2") != 0;
    case YD_GNORM_AVX512:
        return wide;
    case YD_GNORM_AVX512_BF16:
        return wide && __builtin_cpu_supports("avx512bf16");
    default:
        return 0;
    }
}

static const yd_gnorm_loops *loops_of(yd_gnorm_path path)
{
    static const yd_gnorm_loops *const loops[YD_GNORM_PATHS] = {
        [YD_GNORM_PLAIN] = &yd_gnorm_plain,
        [YD_GNORM_AVX2] = &yd_gnorm_avx2,
        [YD_GNORM_AVX512] = &yd_gnorm_avx512,
        [YD_GNORM_AVX512_BF16] = &yd_gnorm_avx512_bf16,
    };
    return loops[path];
}
#else
int yd_gnorm_has_path(yd_gnorm_path path)
{
    return path == YD_GNORM_BEST || path == YD_GNORM_PLAIN;
}

static const yd_gnorm_loops *loops_of(yd_gnorm_path path)
{
    (void)path;
    return &yd_gnorm_plain;
}
#endif

static const char *check_map(const yd_gnorm_map *m)
{
    if (m->c < 0) return "a map has a negative number of channels";
    if (m->blocked != 0 && m->blocked != 1) return "a map's layout is neither 0 nor 1";
    if (m->bf16 != 0 && m->bf16 != 1) return "a map's storage type is neither 0 nor 1";
    if (!m->blocked && m->pitch && m->pitch < (size_t)m->c) return "a map's pixels overlap";
    return NULL;
}

const char *yd_gnorm_check(const yd_gnorm *g)
{
    const yd_gnorm_map *x = g->src, *y = &g->dst;
    const char *wrong = check_map(&x[0]);
    if (!wrong) wrong = check_map(&x[1]);
    if (!wrong) wrong = check_map(y);
    if (wrong) return wrong;
    if (g->n < 1 || g->pixels < 1 || x[0].c < 1) return "there is nothing to normalise";
    if (x[1].c > INT_MAX - x[0].c || y->c != x[0].c + x[1].c) return "the result's channels are not the sources' sum";
    if (g->groups < 1 || y->c % g->groups) return "the groups do not divide the channels";
    if (y->blocked && x[1].c && x[0].c % LANES) return "the first source of a blocked result ends inside a block";
    if (!yd_gnorm_has_path(g->path)) return "this processor cannot run the path asked for";
    return NULL;
}

size_t yd_gnorm_scratch(const yd_gnorm *g)
{
    job k;
    set_sizes(g, &k);
    return k.n * k.c * (2 * sizeof(double) + 3 * sizeof(float) + k.blocks * 3 * sizeof(float));
}

static const yd_gnorm_loops *best_loops(void)
{
    for (int path = YD_GNORM_PATHS - 1; path > YD_GNORM_PLAIN; path--)
        if (yd_gnorm_has_path((yd_gnorm_path)path)) return loops_of((yd_gnorm_path)path);
    return &yd_gnorm_plain;
}

void yd_gnorm_run(const yd_gnorm *g, void *scratch, int threads)
{
    job k;
    set_sizes(g, &k);
    k.loops = g->path == YD_GNORM_BEST ? best_loops() : loops_of(g->path);
    k.totals = scratch;
    k.coef = (float *)(k.totals + k.n * 2 * k.c);
    k.sums = k.coef + k.n * 3 * k.c;
    if (threads < 1 || k.n * k.c * g->pixels < SMALL) threads = 1;
    k.parts = choose_parts(&k, (size_t)threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
    if (k.parts) {
#pragma omp for schedule(static) nowait
        for (size_t i = 0; i < k.n * k.parts; i++) by_channels(&k, i);
    } else
        by_pixels(&k, (size_t)omp_get_thread_num(), (size_t)omp_get_num_threads());
}
