// What the Winograd kernels of wino.c and wino_grad.c share: the points, the tiles of a map, and vectors of 16 floats.
//
// A tile is 4x4 pixels of the result; the patch it is made from is 6x6 and begins one pixel before.
#ifndef YD_CORE_CPU_WINO_TILE_H
#define YD_CORE_CPU_WINO_TILE_H

#include "core/cpu/vec.h" // before LANES, which it has a use for as well
#include "core/cpu/wino.h"

#define LANES  16 // floats of a vector
#define POINTS 36

#define PA  0.75f // the points; squares, cubes and products of the two are exact
#define PB  1.5f
#define PA2 (PA * PA)
#define PB2 (PB * PB)

typedef struct yd_wino_sizes {
    size_t tiles_x, per_sample, tiles, rows; // rows: tiles of one V
    size_t c, c_row, v_plane, m_plane;       // m_plane: of the widest output block
    int split;
} yd_wino_sizes;

typedef struct yd_wino_tile {
    size_t sample;
    int y, x; // where its 4x4 results begin
} yd_wino_tile;

static inline size_t round_up(size_t x)
{
    return (x + LANES - 1) / LANES * LANES;
}

static inline yd_wino_tile tile_at(const yd_wino_sizes *s, size_t t)
{
    size_t in = t % s->per_sample;
    return (yd_wino_tile){t / s->per_sample, (int)(in / s->tiles_x) * 4, (int)(in % s->tiles_x) * 4};
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512  __attribute__((target("avx512f,avx512bw,avx512vl")))
#define INLINED static inline __attribute__((always_inline, unused)) AVX512

typedef __m512 vec;

INLINED __mmask16 lanes(size_t left)
{
    return left < LANES ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffffu;
}

// The lanes of m, or all; that case is told apart because masked operands cost more, stores above all.
INLINED vec load(const void *p, size_t i, int bf16, int all, __mmask16 m)
{
    if (!bf16) return all ? _mm512_loadu_ps((const float *)p + i) : _mm512_maskz_loadu_ps(m, (const float *)p + i);
    const uint16_t *q = (const uint16_t *)p + i;
    __m256i h = all ? _mm256_loadu_si256((const void *)q) : _mm256_maskz_loadu_epi16(m, q);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

// B'dB of one tile's patch for channels [c0, c1), c0 a multiple of LANES: v is the tile's row in the first plane.
AVX512 void yd_wino_tile_in(const yd_wino *p, const yd_wino_sizes *s, yd_wino_tile t, size_t c0, size_t c1, float *v);

#endif
#endif
