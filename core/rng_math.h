// Philox 4x32-10 and the step from words to normals, as inline functions that the C compiler and nvcc both take.
//
// The bits must be the same on every device, so this file keeps to operations that IEEE 754 defines to the last bit: integer
// arithmetic, conversion of integers, multiplication, sqrtf, and fmaf written out. There is no `a * b + c` for a compiler to
// contract or not, and no call into a mathematics library. Polynomials are Chebyshev interpolants on the reduced range.
//
// Words to uniforms: u1 = (w0 + 1/2) / 2^32 in (0, 1], which reaches 6.7 standard deviations; the angle is w1 / 2^32 of a full turn,
// in [0, 1), reduced to an eighth of a turn on the integers, before any rounding.
#ifndef YD_CORE_RNG_MATH_H
#define YD_CORE_RNG_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define YD_HD __host__ __device__ __forceinline__
#else
#define YD_HD inline __attribute__((always_inline))
#endif

static YD_HD uint32_t yd_bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static YD_HD float yd_float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

// Round number `round` (0..9) on the counter w. Constants: Salmon et al., SC'11.
static YD_HD void yd_philox_round(uint32_t w[4], const uint32_t key[2], uint32_t round)
{
    uint64_t p = (uint64_t)w[0] * 0xD2511F53u, q = (uint64_t)w[2] * 0xCD9E8D57u;
    w[0] = (uint32_t)(q >> 32) ^ w[1] ^ (key[0] + round * 0x9E3779B9u);
    w[2] = (uint32_t)(p >> 32) ^ w[3] ^ (key[1] + round * 0xBB67AE85u);
    w[1] = (uint32_t)q;
    w[3] = (uint32_t)p;
}

// The counter w becomes its four random words. Written out: a loop in here keeps the loop around it from becoming vectors.
static YD_HD void yd_philox_words(uint32_t w[4], const uint32_t key[2])
{
    yd_philox_round(w, key, 0);
    yd_philox_round(w, key, 1);
    yd_philox_round(w, key, 2);
    yd_philox_round(w, key, 3);
    yd_philox_round(w, key, 4);
    yd_philox_round(w, key, 5);
    yd_philox_round(w, key, 6);
    yd_philox_round(w, key, 7);
    yd_philox_round(w, key, 8);
    yd_philox_round(w, key, 9);
}

// ln(u) for u in [2^-33, 1]; 0 at u = 1.
static YD_HD float yd_ln(float u)
{
    // u = 2^e * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): subtract the bits of sqrt(1/2), and the exponent is e.
    int32_t d = (int32_t)(yd_bits_of(u) - 0x3F3504F3u);
    int32_t e = d >> 23;
    float f = yd_float_of(yd_bits_of(u) - ((uint32_t)e << 23)) - 1.0f;
    float ef = (float)e;

    // ln(1 + f) = f - f^2/2 + f^3 P(f)
    float p = 0x1.1d8ea6p-4f;
    p = fmaf(p, f, -0x1.d635bcp-4f);
    p = fmaf(p, f, 0x1.dea282p-4f);
    p = fmaf(p, f, -0x1.fcf4c6p-4f);
    p = fmaf(p, f, 0x1.23d21ap-3f);
    p = fmaf(p, f, -0x1.555b4ap-3f);
    p = fmaf(p, f, 0x1.999d5ap-3f);
    p = fmaf(p, f, -0x1.fffffcp-3f);
    p = fmaf(p, f, 0x1.555554p-2f);
    float f2 = f * f;
    float tail = fmaf(f2 * f, p, -0.5f * f2);
    tail = fmaf(ef, -0x1.05c610p-29f, tail); // the part of ln 2 that its float leaves out
    return fmaf(ef, 0x1.62e43p-1f, f + tail);
}

// cos and sin of w / 2^32 of a full turn.
static YD_HD void yd_cos_sin_turn(uint32_t w, float *cosine, float *sine)
{
    // The nearest quarter turn, and what is left as a signed share of 2^32 quarters: w*4 without its two top bits.
    uint32_t quarter = (w + 0x20000000u) >> 30;
    float x = (float)(int32_t)(w << 2) * 0x1.921fb6p-32f; // in [-pi/4, pi/4]
    float z = x * x;

    float s = 0x1.6dbe08p-19f;
    s = fmaf(s, z, -0x1.a013a8p-13f);
    s = fmaf(s, z, 0x1.11110ep-7f);
    s = fmaf(s, z, -0x1.555556p-3f);
    s = fmaf(s, z * x, x);
    float c = -0x1.25244ep-22f;
    c = fmaf(c, z, 0x1.a015c4p-16f);
    c = fmaf(c, z, -0x1.6c16c0p-10f);
    c = fmaf(c, z, 0x1.555556p-5f);
    c = fmaf(c, z, -0.5f);
    c = fmaf(c, z, 1.0f);

    // Odd quarters swap the two; signs by quarter: cos + - - +, sin + + - -. On the bits, so that no comparison can branch.
    uint32_t swap = 0u - (quarter & 1u);
    uint32_t cb = yd_bits_of(c), sb = yd_bits_of(s), mixed = (cb ^ sb) & swap;
    *cosine = yd_float_of((cb ^ mixed) ^ (((quarter + 1u) & 2u) << 30));
    *sine = yd_float_of((sb ^ mixed) ^ ((quarter & 2u) << 30));
}

// Two words to two independent standard normals (Box-Muller).
static YD_HD void yd_normal_pair(uint32_t w0, uint32_t w1, float *n0, float *n1)
{
    // float(w0) from its halves: both convert exactly, one rounding in the sum; signed conversions exist on every instruction set.
    float w = fmaf((float)(int32_t)(w0 >> 16), 65536.0f, (float)(int32_t)(w0 & 0xFFFFu));
    float radius = sqrtf(-2.0f * yd_ln(fmaf(w, 0x1p-32f, 0x1p-33f)));
    float c, s;
    yd_cos_sin_turn(w1, &c, &s);
    *n0 = radius * c;
    *n1 = radius * s;
}

#endif
