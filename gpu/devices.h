// The CUDA devices of this machine, before one of them is opened.
#ifndef YD_GPU_DEVICES_H
#define YD_GPU_DEVICES_H

#include "core/backend_load.h"

// See yd_cuda_count and yd_cuda_probe. Compute capability 8.0 is the least that the kernels are built for.
int yd_gpu_count(int *n, yd_err *err);
int yd_gpu_probe(int device, yd_cuda_device *out, yd_err *err);

#endif
