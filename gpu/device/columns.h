// Sums down the channels of a map: what normalisation, its gradient and a bias's gradient begin with.
//
// A sample's pixels are cut into blocks of rows, its channels into tiles of at most 32 runs; both follow from the shape of one sample.
// In a block neighbouring threads take neighbouring runs, and as many pixels side by side as there are threads for. A thread sums
// in f32, then the block's threads are joined in order; blocks are joined in double by whoever reads the partial sums.
// What is summed is the caller's: up to three values for each element.
#ifndef YD_GPU_DEVICE_COLUMNS_H
#define YD_GPU_DEVICE_COLUMNS_H

#include "gpu/device/map.h"

enum {
    YD_COL_THREADS = 256,
    YD_COL_TILE = 32,      // runs of channels
    YD_COL_MIN_ROWS = 128, // pixels of a block
    YD_COL_MAX_BLOCKS = 128
};

typedef struct yd_columns {
    uint32_t pixels, rows, blocks; // of a sample: pixels, pixels of a block, blocks
    uint32_t runs, tile, tiles;    // runs of channels, runs of a tile, tiles
    int c, sums;                   // channels; sums for each
    float *partial;                // [n][blocks][sums][c]
} yd_columns;

static YD_HD void yd_columns_plan(yd_columns *k, const yd_gpu_map *x, int sums, int vec, float *partial)
{
    k->pixels = yd_pixels(x);
    k->rows = yd_ceil_div(k->pixels, YD_COL_MAX_BLOCKS);
    if (k->rows < YD_COL_MIN_ROWS) k->rows = YD_COL_MIN_ROWS;
    k->blocks = yd_ceil_div(k->pixels, k->rows);
    k->runs = yd_ceil_div((uint32_t)x->c, (uint32_t)vec);
    k->tiles = yd_ceil_div(k->runs, YD_COL_TILE);
    k->tile = yd_ceil_div(k->runs, k->tiles);
    k->c = x->c;
    k->sums = sums;
    k->partial = partial;
}

// Blocks of a sample that sums take at most, whatever the width of access.
static inline uint32_t yd_columns_blocks(const yd_gpu_map *x)
{
    yd_columns k;
    yd_columns_plan(&k, x, 1, 1, NULL);
    return k.blocks;
}

// A thread's part: from which pixel of the sample on, in which steps, which run of channels. run >= runs: it has none.
typedef struct yd_column_part {
    uint32_t sample, block, first, end, step, run;
} yd_column_part;

static YD_HD yd_column_part yd_columns_part(const yd_columns *k, uint32_t block, int thread)
{
    const uint32_t lanes = YD_COL_THREADS / k->tile, lane = (uint32_t)thread / k->tile, in_tile = (uint32_t)thread % k->tile;
    const uint32_t tile = block % k->tiles, at = block / k->tiles % k->blocks;
    yd_column_part p;
    p.sample = block / k->tiles / k->blocks;
    p.block = at;
    p.first = at * k->rows + lane;
    p.end = (at + 1) * k->rows < k->pixels ? (at + 1) * k->rows : k->pixels;
    p.step = lanes;
    p.run = tile * k->tile + in_tile;
    if (lane >= lanes) p.run = k->runs; // a thread that is left over
    return p;
}

// shared: [sums*vec][YD_COL_THREADS]. Where a thread leaves value j (of sums*vec).
static YD_HD void yd_columns_leave(const float *v, int count, int thread, float *shared)
{
    for (int j = 0; j < count; j++) shared[j * YD_COL_THREADS + thread] = v[j];
}

// Thread t sums column t of the block's tile, all of whose threads have left theirs: the sum of value j of run `in_tile`.
static YD_HD float yd_columns_down(const yd_columns *k, int j, uint32_t in_tile, const float *shared)
{
    const uint32_t lanes = YD_COL_THREADS / k->tile;
    float sum = 0.0f;
    for (uint32_t lane = 0; lane < lanes; lane++) sum += shared[(uint32_t)j * YD_COL_THREADS + lane * k->tile + in_tile];
    return sum;
}

static YD_HD void yd_columns_join(const yd_columns *k, uint32_t block, int thread, int vec, const float *shared)
{
    const yd_column_part p = yd_columns_part(k, block, 0);
    const uint32_t values = (uint32_t)(k->sums * vec) * k->tile, first = block % k->tiles * k->tile;
    for (uint32_t i = (uint32_t)thread; i < values; i += YD_COL_THREADS) {
        const uint32_t in_tile = i % k->tile, j = i / k->tile, kind = j / (uint32_t)vec,
                       ch = (first + in_tile) * (uint32_t)vec + j % (uint32_t)vec;
        if (first + in_tile >= k->runs || ch >= (uint32_t)k->c) continue;
        const size_t at = (((size_t)p.sample * k->blocks + p.block) * (size_t)k->sums + kind) * (size_t)k->c + ch;
        k->partial[at] = yd_columns_down(k, (int)j, in_tile, shared);
    }
}

// The sum of one kind over blocks first, first + step, ... of a sample's channel.
static YD_HD double yd_columns_total(const yd_columns *k, uint32_t sample, int kind, int ch, uint32_t first, uint32_t step)
{
    double sum = 0.0;
    for (uint32_t b = first; b < k->blocks; b += step)
        sum += (double)k->partial[(((size_t)sample * k->blocks + b) * (size_t)k->sums + (size_t)kind) * (size_t)k->c + (size_t)ch];
    return sum;
}

// ---- a bias's gradient: one plain sum ----

typedef struct yd_bias_grad_args {
    yd_gpu_map dy;
    yd_columns k;
    float *db;
    int n;
} yd_bias_grad_args;

enum { YD_BIAS_PHASES = 2, YD_BIAS_CHANNELS = 8, YD_BIAS_LANES = 32, YD_BIAS_JOIN_PHASES = 7, YD_BIAS_JOIN_SHARED = YD_COL_THREADS * 8 };

static YD_HD void yd_bias_grad_block(const yd_bias_grad_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    if (phase == 1) {
        yd_columns_join(&a->k, block, thread, vec, (const float *)shared);
        return;
    }
    const yd_column_part p = yd_columns_part(&a->k, block, thread);
    float v[YD_VEC], sum[YD_VEC];
    yd_zero_vec(vec, sum);
    for (uint32_t i = p.first; p.run < a->k.runs && i < p.end; i += p.step) {
        yd_map_get(&a->dy, p.sample * a->k.pixels + i, (int)p.run * vec, vec, v);
        for (int j = 0; j < vec; j++) sum[j] += v[j];
    }
    yd_columns_leave(sum, vec, thread, (float *)shared);
}

// A block of 8 channels, 32 threads each, over the blocks of all samples.
static YD_HD void yd_bias_join_block(const yd_bias_grad_args *a, uint32_t block, int thread, int phase, int vec, void *shared)
{
    (void)vec;
    double *sums = (double *)shared;
    const int lane = thread % YD_BIAS_LANES, ch = (int)block * YD_BIAS_CHANNELS + thread / YD_BIAS_LANES;
    if (phase == 0) {
        double sum = 0.0;
        for (uint32_t i = (uint32_t)lane; ch < a->k.c && i < (uint32_t)a->n * a->k.blocks; i += YD_BIAS_LANES)
            sum += (double)a->k.partial[(size_t)i * (size_t)a->k.c + (size_t)ch];
        sums[thread] = sum;
    } else if (phase < YD_BIAS_JOIN_PHASES - 1) {
        yd_tree_add_double(sums + thread - lane, lane, YD_BIAS_LANES >> phase);
    } else if (lane == 0 && ch < a->k.c) {
        a->db[ch] = (float)sums[thread];
    }
}

#endif
