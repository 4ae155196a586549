// Counter-based noise: the value at (seed, step, x, y, channel) is a pure function, so that any pixel's noise can be drawn at any
// time, on any device, in any order, with the same bits.
//
// Philox 4x32-10 (Salmon et al., SC'11). key = (seed low, seed high), counter = (x, y, step, channel/4), picture coordinates.
// The four words make four normals: words 0,1 -> one Box-Muller pair, words 2,3 -> another. The transform (log, sin, cos) is our own
// polynomials with explicit fmaf, because libm and CUDA round differently. All functions are pure; any thread may call them.
#ifndef YD_CORE_RNG_H
#define YD_CORE_RNG_H

#include <stdint.h>

// The raw generator: out = Philox4x32-10(counter, key). Agrees with the Random123 known-answer vectors.
void yd_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// Four standard normals from four words.
void yd_normal4(const uint32_t words[4], float out[4]);

// Normals for channels 0..c-1 (c <= 4) of the pixels x0..x0+n-1 of row y: dst[i*c + ch].
void yd_rng_row(uint64_t seed, uint32_t step, uint32_t y, uint32_t x0, int n, int c, float *dst);

// A uniform draw in [0,1) with 24 bits from (seed, stream, index): for training crops, timesteps and the like.
float yd_rng_uniform(uint64_t seed, uint32_t stream, uint64_t index, uint32_t lane);

#endif
