// Our CUDA kernels and their launches compiled for the host (gpu/launch.h): to be included once by a test program, which can then call
// everything of gpu/kernels.h with memory of its own and any stream.
#ifndef TESTS_GPU_HOST_H
#define TESTS_GPU_HOST_H

int yd_host_order;
_Thread_local int yd_host_dry;

#include "gpu/canvas.cu"
#include "gpu/elementwise.cu"
#include "gpu/groupnorm.cu"
#include "gpu/rearrange.cu"
#include "gpu/softmax.cu"
#include "gpu/training.cu"
#include "gpu/vectors.cu"

#endif
