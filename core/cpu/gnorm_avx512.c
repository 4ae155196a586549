// The loops of gnorm_loops.h in AVX-512 instructions: a vector is one chunk of 16 channels. Strips of full chunks keep
// their sums, or their coefficients, in registers; a chunk with fewer channels goes through masked loads and stores.
#include "core/cpu/gnorm_loops.h"
#ifdef __x86_64__
#include "core/cpu/vec.h"
#include <immintrin.h>

#define BASE           "avx512f,avx512bw,avx512dq,avx512vl"
#define YD_TARGET      __attribute__((target(BASE)))
#define YD_TARGET_BF16 __attribute__((target(BASE ",avx512bf16")))
// What is inlined into both kinds of function may use what both have.
#define YD_LEAF YD_TARGET YD_INLINE

#define EACH(n) _Pragma("GCC unroll 4") for (int k = 0; k < n; k++)

// The first lanes of a vector of either storage type, widened; the others zero.
YD_LEAF __m512 load(const void *p, int bf16, __mmask16 lanes)
{
    if (!bf16) return _mm512_maskz_loadu_ps(lanes, p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, p)), 16));
}

// Round to nearest even; below the normal range zero; NaN stays NaN.
YD_LEAF __m256i round_bf16(__m512 v)
{
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7fff), quiet = _mm512_set1_epi32(0x400000);
    __m512i u = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(half, odd));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __mmask16 tiny = _mm512_testn_epi32_mask(u, _mm512_set1_epi32(0x7f800000));
    rounded = _mm512_mask_or_epi32(rounded, nan, u, quiet);
    rounded = _mm512_mask_and_epi32(rounded, tiny, u, _mm512_set1_epi32((int)0x80000000u));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16));
}

// SiLU of n vectors, one operation on all of them after another: each alone is a chain of operations that wait for
// each other.
YD_LEAF void silu(__m512 *z, int n)
{
    const __m512 limit = _mm512_set1_ps(YD_SILU_LIMIT), round = _mm512_set1_ps(YD_SILU_ROUND);
    const __m512 one = _mm512_set1_ps(1.0f), log2e = _mm512_set1_ps(YD_SILU_LOG2E);
    const __m512 term[] = {_mm512_set1_ps(YD_SILU_P4), _mm512_set1_ps(YD_SILU_P3), _mm512_set1_ps(YD_SILU_P2),
                           _mm512_set1_ps(YD_SILU_P1), one};
    __m512 u[YD_GNORM_WIDTH], t[YD_GNORM_WIDTH], p[YD_GNORM_WIDTH];
    EACH(n) u[k] = _mm512_min_ps(limit, _mm512_mul_ps(z[k], log2e));
    EACH(n) u[k] = _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), limit), u[k]); // this order keeps NaN
    EACH(n) t[k] = _mm512_add_ps(u[k], round);
    EACH(n) u[k] = _mm512_sub_ps(u[k], _mm512_sub_ps(t[k], round));
    EACH(n) p[k] = _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(YD_SILU_P5), u[k]), term[0]);
#pragma GCC unroll 4
    for (int i = 1; i < 5; i++) EACH(n) p[k] = _mm512_add_ps(_mm512_mul_ps(p[k], u[k]), term[i]);
    EACH(n)
    {
        __m512i power = _mm512_slli_epi32(_mm512_castps_si512(t[k]), 23);
        p[k] = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p[k]), power));
    }
    EACH(n) z[k] = _mm512_div_ps(z[k], _mm512_add_ps(one, p[k]));
}

YD_LEAF __mmask16 first_lanes(int n)
{
    return (__mmask16)((1u << n) - 1u);
}

// --- sums

YD_LEAF void sum_chunks(const yd_gnorm_strip *s, int bf16, int chunks, __mmask16 lanes, const void *first, float *shift,
                        float *sum, float *square)
{
    __m512 w[YD_GNORM_WIDTH], total[YD_GNORM_WIDTH], squares[YD_GNORM_WIDTH];
    const size_t step = s->x_pixel, chunk = s->x_chunk;
    size_t r = 0;
#pragma GCC unroll 4
    for (int k = 0; k < chunks; k++) {
        w[k] = load(yd_at(first, (size_t)k * chunk, bf16), bf16, lanes);
        total[k] = squares[k] = _mm512_setzero_ps();
    }
    for (; r + 4 <= s->rows; r += 4) {
        const void *p = yd_at(s->x, r * step, bf16);
#pragma GCC unroll 4
        for (int k = 0; k < chunks; k++) {
            const void *q = yd_at(p, (size_t)k * chunk, bf16);
            __m512 d0 = _mm512_sub_ps(load(q, bf16, lanes), w[k]);
            __m512 d1 = _mm512_sub_ps(load(yd_at(q, step, bf16), bf16, lanes), w[k]);
            __m512 d2 = _mm512_sub_ps(load(yd_at(q, 2 * step, bf16), bf16, lanes), w[k]);
            __m512 d3 = _mm512_sub_ps(load(yd_at(q, 3 * step, bf16), bf16, lanes), w[k]);
            total[k] = _mm512_add_ps(total[k], _mm512_add_ps(_mm512_add_ps(d0, d1), _mm512_add_ps(d2, d3)));
            __m512 q01 = _mm512_add_ps(_mm512_mul_ps(d0, d0), _mm512_mul_ps(d1, d1));
            __m512 q23 = _mm512_add_ps(_mm512_mul_ps(d2, d2), _mm512_mul_ps(d3, d3));
            squares[k] = _mm512_add_ps(squares[k], _mm512_add_ps(q01, q23));
        }
    }
    for (; r < s->rows; r++) {
#pragma GCC unroll 4
        for (int k = 0; k < chunks; k++) {
            __m512 d = _mm512_sub_ps(load(yd_at(s->x, r * step + (size_t)k * chunk, bf16), bf16, lanes), w[k]);
            total[k] = _mm512_add_ps(total[k], d);
            squares[k] = _mm512_add_ps(squares[k], _mm512_mul_ps(d, d));
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < chunks; k++) {
        _mm512_mask_storeu_ps(shift + k * YD_GNORM_LANES, lanes, w[k]);
        _mm512_mask_storeu_ps(sum + k * YD_GNORM_LANES, lanes, total[k]);
        _mm512_mask_storeu_ps(square + k * YD_GNORM_LANES, lanes, squares[k]);
    }
}

YD_LEAF void sum_typed(const yd_gnorm_strip *s, int bf16, const void *first, float *shift, float *sum, float *square)
{
    if (s->lanes < YD_GNORM_LANES) {
        sum_chunks(s, bf16, 1, first_lanes(s->lanes), first, shift, sum, square);
        return;
    }
    switch (s->chunks) {
    case 1:
        sum_chunks(s, bf16, 1, 0xffff, first, shift, sum, square);
        break;
    case 2:
        sum_chunks(s, bf16, 2, 0xffff, first, shift, sum, square);
        break;
    case 3:
        sum_chunks(s, bf16, 3, 0xffff, first, shift, sum, square);
        break;
    default:
        sum_chunks(s, bf16, 4, 0xffff, first, shift, sum, square);
        break;
    }
}

YD_TARGET static void sum(const yd_gnorm_strip *s, const void *first, float *shift, float *total, float *square)
{
    if (s->x_bf16)
        sum_typed(s, 1, first, shift, total, square);
    else
        sum_typed(s, 0, first, shift, total, square);
}

// --- the second pass. STORE writes the first lanes of v as bf16; it differs between the two processors.

#define STORE_ROUNDED(q, lanes, v)   _mm256_mask_storeu_epi16(q, lanes, round_bf16(v))
#define STORE_CONVERTED(q, lanes, v) _mm256_mask_storeu_epi16(q, lanes, (__m256i)_mm512_cvtneps_pbh(v))

#define APPLY(NAME, TARGET, STORE)                                                                                     \
    TARGET YD_INLINE void NAME##_chunks(const yd_gnorm_strip *s, int x_bf16, int y_bf16, int act, int chunks,          \
                                        __mmask16 in, __mmask16 out, const float *m, const float *a, const float *b)   \
    {                                                                                                                  \
        __m512 mk[YD_GNORM_WIDTH], ak[YD_GNORM_WIDTH], bk[YD_GNORM_WIDTH];                                             \
        _Pragma("GCC unroll 4") for (int k = 0; k < chunks; k++)                                                       \
        {                                                                                                              \
            mk[k] = load(m + k * YD_GNORM_LANES, 0, in);                                                               \
            ak[k] = load(a + k * YD_GNORM_LANES, 0, in);                                                               \
            bk[k] = load(b + k * YD_GNORM_LANES, 0, in);                                                               \
        }                                                                                                              \
        for (size_t r = 0; r < s->rows; r++) {                                                                         \
            const void *p = yd_at(s->x, r * s->x_pixel, x_bf16);                                                       \
            void *q = yd_at_mut(s->y, r * s->y_pixel, y_bf16);                                                         \
            __m512 z[YD_GNORM_WIDTH];                                                                                  \
            EACH(chunks)                                                                                               \
            {                                                                                                          \
                __m512 x = load(yd_at(p, (size_t)k * s->x_chunk, x_bf16), x_bf16, in);                                 \
                z[k] = _mm512_add_ps(_mm512_mul_ps(_mm512_sub_ps(x, mk[k]), ak[k]), bk[k]);                            \
            }                                                                                                          \
            if (act) silu(z, chunks);                                                                                  \
            EACH(chunks)                                                                                               \
            {                                                                                                          \
                void *to = yd_at_mut(q, (size_t)k * s->y_chunk, y_bf16);                                               \
                if (y_bf16)                                                                                            \
                    STORE(to, out, z[k]);                                                                              \
                else                                                                                                   \
                    _mm512_mask_storeu_ps(to, out, z[k]);                                                              \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    TARGET YD_INLINE void NAME##_typed(const yd_gnorm_strip *s, int x_bf16, int y_bf16, int act, const float *m,       \
                                       const float *a, const float *b)                                                 \
    {                                                                                                                  \
        if (s->lanes < YD_GNORM_LANES) {                                                                               \
            __mmask16 in = first_lanes(s->lanes);                                                                      \
            NAME##_chunks(s, x_bf16, y_bf16, act, 1, in, s->pad ? 0xffff : in, m, a, b);                               \
            return;                                                                                                    \
        }                                                                                                              \
        switch (s->chunks) {                                                                                           \
        case 1:                                                                                                        \
            NAME##_chunks(s, x_bf16, y_bf16, act, 1, 0xffff, 0xffff, m, a, b);                                         \
            break;                                                                                                     \
        case 2:                                                                                                        \
            NAME##_chunks(s, x_bf16, y_bf16, act, 2, 0xffff, 0xffff, m, a, b);                                         \
            break;                                                                                                     \
        case 3:                                                                                                        \
            NAME##_chunks(s, x_bf16, y_bf16, act, 3, 0xffff, 0xffff, m, a, b);                                         \
            break;                                                                                                     \
        default:                                                                                                       \
            NAME##_chunks(s, x_bf16, y_bf16, act, 4, 0xffff, 0xffff, m, a, b);                                         \
            break;                                                                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    TARGET static void NAME(const yd_gnorm_strip *s, const float *m, const float *a, const float *b)                   \
    {                                                                                                                  \
        switch (s->x_bf16 * 4 + s->y_bf16 * 2 + s->act) {                                                              \
        case 0:                                                                                                        \
            NAME##_typed(s, 0, 0, 0, m, a, b);                                                                         \
            break;                                                                                                     \
        case 1:                                                                                                        \
            NAME##_typed(s, 0, 0, 1, m, a, b);                                                                         \
            break;                                                                                                     \
        case 2:                                                                                                        \
            NAME##_typed(s, 0, 1, 0, m, a, b);                                                                         \
            break;                                                                                                     \
        case 3:                                                                                                        \
            NAME##_typed(s, 0, 1, 1, m, a, b);                                                                         \
            break;                                                                                                     \
        case 4:                                                                                                        \
            NAME##_typed(s, 1, 0, 0, m, a, b);                                                                         \
            break;                                                                                                     \
        case 5:                                                                                                        \
            NAME##_typed(s, 1, 0, 1, m, a, b);                                                                         \
            break;                                                                                                     \
        case 6:                                                                                                        \
            NAME##_typed(s, 1, 1, 0, m, a, b);                                                                         \
            break;                                                                                                     \
        default:                                                                                                       \
            NAME##_typed(s, 1, 1, 1, m, a, b);                                                                         \
            break;                                                                                                     \
        }                                                                                                              \
    }

APPLY(apply_rounding, YD_TARGET, STORE_ROUNDED)
APPLY(apply_converting, YD_TARGET_BF16, STORE_CONVERTED)

const yd_gnorm_loops yd_gnorm_avx512 = {sum, apply_rounding};
const yd_gnorm_loops yd_gnorm_avx512_bf16 = {sum, apply_converting};
#endif
