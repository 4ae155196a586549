// Numbers on the device: storage in f32 and bf16, products that are not contracted, the activations and their slopes.
//
// Everything under gpu/device is compiled by nvcc for the device and by the C compiler for tests, from the same text. A function is
// YD_HD (core/rng_math.h); where the device has an instruction that C has not, both ways stand side by side here and nowhere else.
// yd_mul and yd_add round each by itself, as the C compiler under -std=c11 does; nvcc would contract a*b + c to one rounding.
// What has to have the bits of core/ is written with them (canvas.h); the rest is free to be contracted.
#ifndef YD_GPU_DEVICE_NUM_H
#define YD_GPU_DEVICE_NUM_H

#include "core/rng_math.h"
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#endif

#define YD_VEC 8 // elements that a thread reads and writes at once where it can: 16 bytes of bf16

static YD_HD float yd_mul(float a, float b)
{
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

static YD_HD float yd_add(float a, float b)
{
#ifdef __CUDA_ARCH__
    return __fadd_rn(a, b);
#else
    return a + b;
#endif
}

// Round to nearest, ties to even; NaN stays NaN.
static YD_HD uint16_t yd_bf16_of(float f)
{
#ifdef __CUDA_ARCH__
    return __bfloat16_as_ushort(__float2bfloat16_rn(f));
#else
    uint32_t u = yd_bits_of(f);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, quiet = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
#endif
}

static YD_HD float yd_get(const void *p, size_t i, int bf16)
{
    return bf16 ? yd_float_of((uint32_t)((const uint16_t *)p)[i] << 16) : ((const float *)p)[i];
}

static YD_HD void yd_put(void *p, size_t i, int bf16, float v)
{
    if (bf16)
        ((uint16_t *)p)[i] = yd_bf16_of(v);
    else
        ((float *)p)[i] = v;
}

// v = the vec (1 or YD_VEC) elements from i on; where there are YD_VEC, they lie on 16 bytes.
static YD_HD void yd_get_vec(const void *p, size_t i, int bf16, int vec, float v[YD_VEC])
{
#ifdef __CUDA_ARCH__
    if (vec == YD_VEC && bf16) {
        const uint4 u = *(const uint4 *)((const uint16_t *)p + i);
        const uint32_t word[4] = {u.x, u.y, u.z, u.w};
        for (int k = 0; k < 4; k++) {
            v[2 * k] = __uint_as_float(word[k] << 16);
            v[2 * k + 1] = __uint_as_float(word[k] & 0xffff0000u);
        }
        return;
    }
    if (vec == YD_VEC) {
        const float4 a = *(const float4 *)((const float *)p + i), b = *(const float4 *)((const float *)p + i + 4);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
        return;
    }
#endif
    for (int k = 0; k < vec; k++) v[k] = yd_get(p, i + (size_t)k, bf16);
}

static YD_HD void yd_put_vec(void *p, size_t i, int bf16, int vec, const float v[YD_VEC])
{
#ifdef __CUDA_ARCH__
    if (vec == YD_VEC && bf16) {
        uint32_t word[4];
        for (int k = 0; k < 4; k++) {
            const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * k], v[2 * k + 1]);
            memcpy(&word[k], &pair, sizeof pair);
        }
        *(uint4 *)((uint16_t *)p + i) = make_uint4(word[0], word[1], word[2], word[3]);
        return;
    }
    if (vec == YD_VEC) {
        *(float4 *)((float *)p + i) = make_float4(v[0], v[1], v[2], v[3]);
        *(float4 *)((float *)p + i + 4) = make_float4(v[4], v[5], v[6], v[7]);
        return;
    }
#endif
    for (int k = 0; k < vec; k++) yd_put(p, i + (size_t)k, bf16, v[k]);
}

static YD_HD int yd_finite(float v)
{
    return (yd_bits_of(v) & 0x7f800000u) != 0x7f800000u;
}

// 1/(1 + e^-z). quick: what is stored as bf16 does not need more than 6 digits.
static YD_HD float yd_logistic(float z, int quick)
{
#ifdef __CUDA_ARCH__
    if (quick) return __fdividef(1.0f, 1.0f + __expf(-z));
#endif
    (void)quick;
    return 1.0f / (1.0f + expf(-z));
}

static YD_HD float yd_silu_of(float z, int quick)
{
    return z * yd_logistic(z, quick);
}

// d/dz of z*sigmoid(z)
static YD_HD float yd_silu_slope_of(float z, int quick)
{
    const float s = yd_logistic(z, quick);
    return s * (1.0f + z * (1.0f - s));
}

// z*tanh(ln(1 + e^z)) = z*m/(m + 2), m = e^z (e^z + 2): nothing cancels. From 20 on the quotient is 1.
static YD_HD float yd_mish_of(float z)
{
    const float e = expf(z < 20.0f ? z : 20.0f), m = e * (e + 2.0f);
    return z * (m / (m + 2.0f));
}

// What a grid of threads needs.
static YD_HD uint32_t yd_ceil_div(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

// One round of a sum over 2*half neighbours that shared memory holds.
static YD_HD void yd_tree_add(float *s, int lane, int half)
{
    if (lane < half) s[lane] += s[lane + half];
}

static YD_HD void yd_tree_add_double(double *s, int lane, int half)
{
    if (lane < half) s[lane] += s[lane + half];
}

#endif
