// Rows of a transformer: normalisation, softmax, dot products. Sums run in partial sums that are joined in one order (vec.h), so the bits
// depend on nothing but the row.
#include "core/cpu/vit_rows.h"

#include "core/cpu/vec.h"
#include "core/simd.h"

#include <math.h>

#define NORM_EPS 1e-6f

YD_SIMD void yd_norm_row(const float *x, const float *weight, const float *bias, size_t n, float *y)
{
    const float mean = yd_lane_sum(x, NULL, n) / (float)n;
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = x[i] - mean;
    const float scale = 1.0f / sqrtf(yd_lane_sum(y, y, n) / (float)n + NORM_EPS);
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = y[i] * scale * weight[i] + bias[i];
}

YD_SIMD void yd_softmax_row(float *s, float scale, size_t n)
{
    float top = s[0];
#pragma omp simd reduction(max : top)
    for (size_t i = 0; i < n; i++) top = s[i] > top ? s[i] : top;
#pragma omp simd
    for (size_t i = 0; i < n; i++) s[i] = yd_exp((s[i] - top) * scale);
    const float inverse = 1.0f / yd_lane_sum(s, NULL, n);
#pragma omp simd
    for (size_t i = 0; i < n; i++) s[i] *= inverse;
}

YD_SIMD float yd_dot(const float *a, const float *b, size_t n)
{
    return yd_lane_sum(a, b, n);
}

YD_SIMD void yd_add_row(float *y, const float *x, size_t n)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}
