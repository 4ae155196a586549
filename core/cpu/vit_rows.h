// Private to core/cpu/vit*.c: the arithmetic of single rows.
#ifndef YD_CORE_CPU_VIT_ROWS_H
#define YD_CORE_CPU_VIT_ROWS_H

#include <stddef.h>

// y = (x - mean) / sqrt(variance + 1e-6) * weight + bias over n channels, variance over n. x and y do not overlap.
void yd_norm_row(const float *x, const float *weight, const float *bias, size_t n, float *y);
// s = softmax(scale * s), in place.
void yd_softmax_row(float *s, float scale, size_t n);
float yd_dot(const float *a, const float *b, size_t n);
void yd_add_row(float *y, const float *x, size_t n); // y += x

#endif
