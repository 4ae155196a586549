// Element arithmetic for the vectorised loops: storage conversion, exp, sigmoid.
//
// Everything here is inlined into YD_SIMD functions and written so that gcc vectorises it: no branches, no libm
// calls. The `bf16` arguments are constants at the call sites that matter, so each loop is compiled once per storage
// type.
#ifndef YD_CORE_CPU_VEC_H
#define YD_CORE_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define YD_INLINE static inline __attribute__((always_inline, unused))

YD_INLINE float yd_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

YD_INLINE uint32_t yd_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

// Round to nearest, ties to even; NaN stays NaN.
YD_INLINE uint16_t yd_to_bf16(float f)
{
    uint32_t u = yd_bits(f);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

YD_INLINE float yd_load(const void *p, size_t i, int bf16)
{
    return bf16 ? yd_from_bits((uint32_t)((const uint16_t *)p)[i] << 16) : ((const float *)p)[i];
}

YD_INLINE void yd_store(void *p, size_t i, int bf16, float v)
{
    if (bf16)
        ((uint16_t *)p)[i] = yd_to_bf16(v);
    else
        ((float *)p)[i] = v;
}

YD_INLINE const void *yd_at(const void *p, size_t i, int bf16)
{
    return (const char *)p + i * (bf16 ? 2u : 4u);
}

YD_INLINE void *yd_at_mut(void *p, size_t i, int bf16)
{
    return (char *)p + i * (bf16 ? 2u : 4u);
}

// exp(x) within 2e-7 relative for |x| <= 87; clamped outside, so never Inf or 0. x = k ln2 + r, |r| <= ln2/2, Taylor
// to r^7/7!.
YD_INLINE float yd_exp(float x)
{
    const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    x = x > 87.0f ? 87.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float t = x * 1.44269504f + magic;
    float k = t - magic;
    float r = (x - k * 0.693359375f) + k * 2.12194440e-4f; // ln2 in two parts, the first exact in products with k
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 5.0e-1f;
    p = p * (r * r) + r + 1.0f;
    return yd_from_bits(yd_bits(p) + (yd_bits(t) << 23)); // multiply by 2^k
}

YD_INLINE float yd_sigmoid(float x)
{
    return 1.0f / (1.0f + yd_exp(-x));
}

// d/dz of z*sigmoid(z)
YD_INLINE float yd_silu_slope(float z)
{
    float s = yd_sigmoid(z);
    return s * (1.0f + z * (1.0f - s));
}

// x*tanh(ln(1 + e^x)) = x*n/(n+2), n = e^x (e^x + 2): nothing cancels. From 20 on the quotient is 1.
YD_INLINE float yd_mish(float x)
{
    float e = yd_exp(x < 20.0f ? x : 20.0f), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

// Sum of x, or of x*w where w is given, in 32 partial sums joined in one order: the bits do not depend on how wide the
// machine's vectors are.
YD_INLINE float yd_lane_sum(const float *x, const float *w, size_t n)
{
    enum { LANES = 32 };
    float lane[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) lane[k] += w ? x[i + k] * w[i + k] : x[i + k];
    for (size_t k = 0; i < n; i++, k++) lane[k] += w ? x[i] * w[i] : x[i];
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t k = 0; k < half; k++) lane[k] += lane[k + half];
    return lane[0];
}

#endif
