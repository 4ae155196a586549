// Counting and describing the devices: the first calls of CUDA that the process makes. Neither creates a context on a device that is not used.
extern "C" {
#include "gpu/devices.h"
}

#include <cstdio>
#include <cstring>
#include <cuda_runtime.h>

#define LEAST_MAJOR 8

extern "C" int yd_gpu_count(int *n, yd_err *err)
{
    int count = 0;
    cudaError_t s = cudaGetDeviceCount(&count);
    *n = 0;
    if (s != cudaSuccess) {
        int driver = 0;
        cudaGetLastError(); // it would be told again by the next call
        if (s == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0)
            return yd_fail(err, YD_E_UNSUPPORTED, "no CUDA device can be used: there is no NVIDIA driver");
        return yd_fail(err, YD_E_UNSUPPORTED, "no CUDA device can be used: %s", cudaGetErrorString(s));
    }
    if (count < 1) return yd_fail(err, YD_E_UNSUPPORTED, "no CUDA device can be used: the driver shows none");
    *n = count;
    return 0;
}

extern "C" int yd_gpu_probe(int device, yd_cuda_device *out, yd_err *err)
{
    cudaDeviceProp p;
    memset(out, 0, sizeof *out);
    cudaError_t s = cudaGetDeviceProperties(&p, device);
    if (s != cudaSuccess) {
        cudaGetLastError();
        return yd_fail(err, YD_E_DEVICE, "CUDA device %d cannot be described: %s", device, cudaGetErrorString(s));
    }
    snprintf(out->name, sizeof out->name, "%.95s", p.name);
    out->major = p.major;
    out->minor = p.minor;
    out->memory_total = p.totalGlobalMem;
    if (p.major < LEAST_MAJOR)
        return yd_fail(err, YD_E_UNSUPPORTED, "%.95s has compute capability %d.%d; the kernels need %d.0", p.name, p.major, p.minor, LEAST_MAJOR);
    return 0;
}
