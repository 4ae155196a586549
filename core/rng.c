// Counter-based noise: rng_math.h over rows of pixels, in blocks that the compiler turns into vectors.
//
// The loop over normals becomes vectors only under -fno-math-errno: otherwise sqrtf keeps a branch for setting errno.
// fmaf is one instruction in the v3 and v4 clones; the plain clone calls the C library's, which is slow and gives the same bits.
// Owns nothing; every function is pure.
#include "core/rng.h"

#include "core/rng_math.h"
#include "core/simd.h"

#include <string.h>

#define BLOCK 64 // pixels at a time: the words and normals of a block stay in the first-level cache

// The noise of pictures uses counters whose last word is channel/4 = 0; other draws set this bit and cannot meet them.
#define UNIFORM_DOMAIN 0x80000000u

void yd_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t w[4] = {counter[0], counter[1], counter[2], counter[3]};
    yd_philox_words(w, key);
    memcpy(out, w, sizeof w);
}

void yd_normal4(const uint32_t words[4], float out[4])
{
    yd_normal_pair(words[0], words[1], &out[0], &out[1]);
    yd_normal_pair(words[2], words[3], &out[2], &out[3]);
}

// Four planes of normals for BLOCK pixels from x0 on; always a whole block, so that the loop has a constant length.
YD_SIMD static void normal_block(uint64_t seed, uint32_t step, uint32_t y, uint32_t x0, float n[4][BLOCK])
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4][BLOCK];
    for (uint32_t i = 0; i < BLOCK; i++) {
        uint32_t w[4] = {x0 + i, y, step, 0};
        yd_philox_words(w, key);
        for (int k = 0; k < 4; k++) words[k][i] = w[k];
    }
    for (int i = 0; i < BLOCK; i++) {
        yd_normal_pair(words[0][i], words[1][i], &n[0][i], &n[1][i]);
        yd_normal_pair(words[2][i], words[3][i], &n[2][i], &n[3][i]);
    }
}

void yd_rng_row(uint64_t seed, uint32_t step, uint32_t y, uint32_t x0, int n, int c, float *dst)
{
    float normals[4][BLOCK];
    for (int at = 0; at < n; at += BLOCK) {
        int count = n - at < BLOCK ? n - at : BLOCK;
        normal_block(seed, step, y, x0 + (uint32_t)at, normals);
        for (int i = 0; i < count; i++)
            for (int ch = 0; ch < c; ch++) *dst++ = normals[ch][i];
    }
}

float yd_rng_uniform(uint64_t seed, uint32_t stream, uint64_t index, uint32_t lane)
{
    uint32_t w[4] = {(uint32_t)index, (uint32_t)(index >> 32), stream, UNIFORM_DOMAIN | lane >> 2};
    yd_philox(w, (const uint32_t[2]){(uint32_t)seed, (uint32_t)(seed >> 32)}, w);
    return (float)(w[lane & 3] >> 8) * 0x1p-24f;
}
