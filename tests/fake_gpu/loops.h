// Convolutions, products and elements of maps as plain loops, for the fake GPU. Sums in double.
#ifndef TESTS_FAKE_GPU_LOOPS_H
#define TESTS_FAKE_GPU_LOOPS_H

#include "gpu/driver.h"

// Element i of an array of dtype; bf16 is rounded to nearest, ties to even.
float loops_get(const void *data, yd_dtype dtype, size_t i);
void loops_put(void *data, yd_dtype dtype, size_t i, double x);

// lean: what every sum is multiplied by, a little beside 1: engines round each in its own way.
// ATTENTION, too.
void loops_conv(const yd_gpu_conv_shape *s, const yd_gpu_conv_io *io, double lean);
void loops_matmul(const yd_gpu_matmul_shape *s, const void *a, const void *b, void *c);

#endif
