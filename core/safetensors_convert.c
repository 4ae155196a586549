// Values of safetensors as f32: every type is read unaligned, converted exactly or by rounding, never silently to something else.
//
// Floating types round to nearest even; a finite f64 beyond the range of f32 and an integer that f32 cannot hold are refused, since
// a weight that became infinite or another number would spoil a model without a word. Stateless. Read next: safetensors.c
#include "core/safetensors.h"

#include <float.h>
#include <math.h>
#include <string.h>

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint16_t yd_bf16_from_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40); // quiet: cutting the payload must not leave an infinity
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float yd_bf16_to_f32(uint16_t b)
{
    return float_of_bits((uint32_t)b << 16);
}

static float half_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000 | mantissa << 13);
    if (exponent) return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float tiny = (float)mantissa * 0x1p-24f; // zero and subnormals: exact in f32
    return sign ? -tiny : tiny;
}

static int64_t load_integer(yd_st_dtype dt, const uint8_t *p, size_t i)
{
    int64_t v64;
    int32_t v32;
    int16_t v16;
    switch (dt) {
    case YD_ST_I64:
        memcpy(&v64, p + 8 * i, 8);
        return v64;
    case YD_ST_I32:
        memcpy(&v32, p + 4 * i, 4);
        return v32;
    case YD_ST_I16:
        memcpy(&v16, p + 2 * i, 2);
        return v16;
    case YD_ST_I8:
        return (int8_t)p[i];
    default:
        return p[i]; // U8, BOOL
    }
}

// An integer is a float exactly when its odd part has at most 24 bits.
static int fits_f32(int64_t v)
{
    uint64_t m = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    return m == 0 || m >> __builtin_ctzll(m) < (uint64_t)1 << FLT_MANT_DIG;
}

static int integers_to_f32(const yd_st_tensor *t, float *dst, yd_err *err)
{
    for (size_t i = 0; i < t->numel; i++) {
        int64_t v = load_integer(t->dtype, t->data, i);
        if (!fits_f32(v))
            return yd_fail_field(err, YD_E_CHECKPOINT, t->name, "integers that a 32-bit float holds exactly",
                                 "tensor '%.200s': element %zu is %lld", t->name, i, (long long)v);
        dst[i] = (float)v;
    }
    return 0;
}

static int doubles_to_f32(const yd_st_tensor *t, float *dst, yd_err *err)
{
    const double past = 0x1.ffffffp127; // the first value that rounds to infinity
    for (size_t i = 0; i < t->numel; i++) {
        double v;
        memcpy(&v, (const uint8_t *)t->data + 8 * i, sizeof v);
        if (isfinite(v) && fabs(v) >= past)
            return yd_fail_field(err, YD_E_CHECKPOINT, t->name, "values in the range of a 32-bit float",
                                 "tensor '%.200s': element %zu is %g", t->name, i, v);
        dst[i] = (float)v;
    }
    return 0;
}

static void halves_to_f32(const yd_st_tensor *t, float *dst, float (*convert)(uint16_t))
{
    for (size_t i = 0; i < t->numel; i++) {
        uint16_t v;
        memcpy(&v, (const uint8_t *)t->data + 2 * i, sizeof v);
        dst[i] = convert(v);
    }
}

int yd_st_to_f32(const yd_st_tensor *t, float *dst, yd_err *err)
{
    switch (t->dtype) {
    case YD_ST_F32:
        if (t->bytes) memcpy(dst, t->data, t->bytes);
        return 0;
    case YD_ST_F16:
        halves_to_f32(t, dst, half_to_f32);
        return 0;
    case YD_ST_BF16:
        halves_to_f32(t, dst, yd_bf16_to_f32);
        return 0;
    case YD_ST_F64:
        return doubles_to_f32(t, dst, err);
    case YD_ST_OTHER:
        return yd_fail_field(err, YD_E_CHECKPOINT, t->name, "F32, F16, BF16, F64, I64, I32, I16, I8, U8, BOOL",
                             "tensor '%.200s': its type cannot be converted to 32-bit floats", t->name);
    default:
        return integers_to_f32(t, dst, err);
    }
}
