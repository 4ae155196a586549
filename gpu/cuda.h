// The real driver's own structure, for the files that implement it: driver.cu, conv.cu, matmul.cu.
#ifndef YD_GPU_CUDA_H
#define YD_GPU_CUDA_H

extern "C" {
#include "gpu/driver.h"
}

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <cudnn.h>

// Kernels that cuDNN has compiled for convolutions that differ in their maps' sizes alone (conv.cu).
#define YD_CUDA_KERNELS 64
typedef struct yd_cuda_kernels {
    yd_gpu_conv_shape like; // sizes 0
    cudnnBackendDescriptor_t cache;
} yd_cuda_kernels;

struct yd_cuda : yd_gpu_driver {
    int device;
    cudaStream_t stream; // the one that there is, once stream_new was called
    cudnnHandle_t cudnn;
    // Of a device that is not there, in place of the handle: plans can then be made and not run (tests/gpu/no_device.cu). NULL otherwise.
    cudnnBackendDescriptor_t properties;
    cublasLtHandle_t lt;
    yd_cuda_kernels kernels[YD_CUDA_KERNELS];
    int n_kernels;
    struct yd_gpu_conv *attention; // plans of attention that are in use
    yd_gpu_about facts;
    mutable char said[256]; // by the library, of the last failure
};

static inline yd_cuda *yd_cuda_of(yd_gpu_driver *d)
{
    return static_cast<yd_cuda *>(d);
}

// Outcomes of the libraries' statuses; their words are kept.
yd_gpu_outcome yd_cuda_judge(yd_cuda *d, cudaError_t s);
yd_gpu_outcome yd_cudnn_judge(yd_cuda *d, cudnnStatus_t s);
yd_gpu_outcome yd_cublas_judge(yd_cuda *d, cublasStatus_t s);

// conv.cu, matmul.cu
yd_gpu_outcome yd_cuda_conv_choose(yd_gpu_driver *d, const yd_gpu_conv_shape *shape, double by_time, yd_gpu_choice *out);
yd_gpu_outcome yd_cuda_conv_new(yd_gpu_driver *d, const yd_gpu_conv_shape *shape, const yd_gpu_choice *how,
                                yd_gpu_conv **out, size_t *workspace);
yd_gpu_outcome yd_cuda_conv_run(yd_gpu_driver *d, yd_gpu_conv *c, const yd_gpu_conv_io *io, yd_gpu_stream s);
void yd_cuda_conv_free(yd_gpu_driver *d, yd_gpu_conv *c);
void yd_cuda_drop_kernels(yd_cuda *d); // when all convolutions have been freed
yd_gpu_outcome yd_cuda_matmul_new(yd_gpu_driver *d, const yd_gpu_matmul_shape *shape, yd_gpu_matmul **out,
                                  size_t *workspace);
yd_gpu_outcome yd_cuda_matmul_run(yd_gpu_driver *d, yd_gpu_matmul *m, const void *a, const void *b, void *c,
                                  void *workspace, yd_gpu_stream s);
void yd_cuda_matmul_free(yd_gpu_driver *d, yd_gpu_matmul *m);

#endif
