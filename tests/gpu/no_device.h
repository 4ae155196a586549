// A CUDA device that is not there: cuDNN itself ranks engines and makes plans for one whose properties it is told, and nothing is ever run.
//
// The driver's convolutions are those of gpu/conv.cu; all else is the fake driver's (tests/fake_gpu), idle: launches are judged and not made, and
// memory is addresses with nothing behind them. So a network can be compiled for a card on a machine that has none, by all of the code that would
// do it there, in memory that this machine has not got. Engines that compile their kernel when a plan is made load it by libcuda.so.1, for which
// tests/gpu/no_driver.c stands in.
#ifndef TESTS_GPU_NO_DEVICE_H
#define TESTS_GPU_NO_DEVICE_H

#include "gpu/driver.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct no_device_counts { // since the driver was made
    long chosen, refused;         // shapes with an engine that is fit, and without
    long made, not_taken;         // plans, and those that a chosen engine did not make
} no_device_counts;

// Its driver: sm 90 is an H200, 80 an A100. One at a time. NULL with the reason in why: cuDNN knows no such thing.
yd_gpu_driver *no_device_driver(int sm, char why[256]);
extern no_device_counts no_device;

// products.cu: a matrix product as its descriptors for cublasLt have it, by loops over matrices of f32. NULL, or what is wrong.
const char *no_device_product(const yd_gpu_matmul_shape *shape, const float *a, const float *b, float *c);

#ifdef __cplusplus
}
#endif

#endif
