// The loops of gnorm_loops.h in plain C, which the compiler turns into vectors of whatever size it has: once for any
// processor and once for AVX2.
#include "core/cpu/gnorm_loops.h"
#include "core/cpu/vec.h"

// Round to nearest even; below the normal range zero, as the processor's own conversion does.
YD_INLINE void store(void *p, size_t i, int bf16, float v)
{
    uint32_t u = yd_bits(v), tiny = (u & 0x7f800000u) == 0;
    if (bf16)
        ((uint16_t *)p)[i] = (uint16_t)(tiny ? u >> 16 & 0x8000u : yd_to_bf16(v));
    else
        ((float *)p)[i] = v;
}

YD_INLINE float silu(float z)
{
    float u = z * YD_SILU_LOG2E;
    u = u > YD_SILU_LIMIT ? YD_SILU_LIMIT : u;
    u = u < -YD_SILU_LIMIT ? -YD_SILU_LIMIT : u;
    float t = u + YD_SILU_ROUND, r = u - (t - YD_SILU_ROUND), p = YD_SILU_P5;
    p = p * r + YD_SILU_P4;
    p = p * r + YD_SILU_P3;
    p = p * r + YD_SILU_P2;
    p = p * r + YD_SILU_P1;
    p = p * r + 1.0f;
    return z / (1.0f + yd_from_bits(yd_bits(p) + (yd_bits(t) << 23)));
}

YD_INLINE void sum_chunk(const yd_gnorm_strip *s, int bf16, int lanes, const void *x, const void *first,
                         float *restrict shift, float *restrict sum, float *restrict square)
{
    float w[YD_GNORM_LANES], total[YD_GNORM_LANES] = {0}, squares[YD_GNORM_LANES] = {0};
    size_t step = s->x_pixel, r = 0;
    for (int i = 0; i < lanes; i++) w[i] = yd_load(first, (size_t)i, bf16);
    for (; r + 4 <= s->rows; r += 4) {
        const void *p0 = yd_at(x, r * step, bf16), *p1 = yd_at(x, (r + 1) * step, bf16);
        const void *p2 = yd_at(x, (r + 2) * step, bf16), *p3 = yd_at(x, (r + 3) * step, bf16);
#pragma omp simd
        for (int i = 0; i < lanes; i++) {
            float d0 = yd_load(p0, (size_t)i, bf16) - w[i], d1 = yd_load(p1, (size_t)i, bf16) - w[i];
            float d2 = yd_load(p2, (size_t)i, bf16) - w[i], d3 = yd_load(p3, (size_t)i, bf16) - w[i];
            total[i] += (d0 + d1) + (d2 + d3);
            squares[i] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
        }
    }
    for (; r < s->rows; r++)
        for (int i = 0; i < lanes; i++) {
            float d = yd_load(yd_at(x, r * step, bf16), (size_t)i, bf16) - w[i];
            total[i] += d;
            squares[i] += d * d;
        }
    for (int i = 0; i < lanes; i++) {
        shift[i] = w[i];
        sum[i] = total[i];
        square[i] = squares[i];
    }
}

YD_INLINE void sum_strip(const yd_gnorm_strip *s, const void *first, float *shift, float *sum, float *square)
{
    for (int k = 0; k < s->chunks; k++) {
        size_t at = (size_t)k * YD_GNORM_LANES;
        const void *x = yd_at(s->x, (size_t)k * s->x_chunk, s->x_bf16);
        const void *f = yd_at(first, (size_t)k * s->x_chunk, s->x_bf16);
        if (s->lanes < YD_GNORM_LANES)
            sum_chunk(s, s->x_bf16, s->lanes, x, f, shift + at, sum + at, square + at);
        else if (s->x_bf16)
            sum_chunk(s, 1, YD_GNORM_LANES, x, f, shift + at, sum + at, square + at);
        else
            sum_chunk(s, 0, YD_GNORM_LANES, x, f, shift + at, sum + at, square + at);
    }
}

YD_INLINE void apply_chunk(const yd_gnorm_strip *s, int x_bf16, int y_bf16, int act, int lanes, const void *x, void *y,
                           const float *restrict m, const float *restrict a, const float *restrict b)
{
    for (size_t r = 0; r < s->rows; r++) {
        const void *p = yd_at(x, r * s->x_pixel, x_bf16);
        void *q = yd_at_mut(y, r * s->y_pixel, y_bf16);
        float z[YD_GNORM_LANES];
#pragma omp simd
        for (int i = 0; i < lanes; i++) z[i] = (yd_load(p, (size_t)i, x_bf16) - m[i]) * a[i] + b[i];
#pragma omp simd
        for (int i = 0; i < lanes; i++) store(q, (size_t)i, y_bf16, act ? silu(z[i]) : z[i]);
        for (int i = lanes; s->pad && i < YD_GNORM_LANES; i++) store(q, (size_t)i, y_bf16, 0);
    }
}

YD_INLINE void apply_strip(const yd_gnorm_strip *s, const float *m, const float *a, const float *b)
{
    const int full = YD_GNORM_LANES;
    for (int k = 0; k < s->chunks; k++) {
        size_t at = (size_t)k * YD_GNORM_LANES;
        const void *x = yd_at(s->x, (size_t)k * s->x_chunk, s->x_bf16);
        void *y = yd_at_mut(s->y, (size_t)k * s->y_chunk, s->y_bf16);
        if (s->lanes < full)
            apply_chunk(s, s->x_bf16, s->y_bf16, s->act, s->lanes, x, y, m + at, a + at, b + at);
        else if (s->x_bf16 && s->y_bf16)
            apply_chunk(s, 1, 1, s->act, full, x, y, m + at, a + at, b + at);
        else if (!s->x_bf16 && !s->y_bf16)
            apply_chunk(s, 0, 0, s->act, full, x, y, m + at, a + at, b + at);
        else
            apply_chunk(s, s->x_bf16, s->y_bf16, s->act, full, x, y, m + at, a + at, b + at);
    }
}

static void sum_plain(const yd_gnorm_strip *s, const void *first, float *shift, float *sum, float *square)
{
    sum_strip(s, first, shift, sum, square);
}

static void apply_plain(const yd_gnorm_strip *s, const float *m, const float *a, const float *b)
{
    apply_strip(s, m, a, b);
}

const yd_gnorm_loops yd_gnorm_plain = {sum_plain, apply_plain};

#ifdef __x86_64__
__attribute__((target("avx2"))) static void sum_avx2(const yd_gnorm_strip *s, const void *first, float *shift,
                                                     float *sum, float *square)
{
    sum_strip(s, first, shift, sum, square);
}

__attribute__((target("avx2"))) static void apply_avx2(const yd_gnorm_strip *s, const float *m, const float *a,
                                                       const float *b)
{
    apply_strip(s, m, a, b);
}

const yd_gnorm_loops yd_gnorm_avx2 = {sum_avx2, apply_avx2};
#endif
