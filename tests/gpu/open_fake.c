// gpu-check-fake's device: the CUDA backend, all but the kernels' machine code and the libraries, on a driver that computes with loops
// (tests/fake_gpu). It proves that the checks go with that backend. Slow: --only words.
#include "gpu/gpu.h"
#include "tests/fake_gpu/fake.h"
#include "tests/gpu/check.h"

int check_find_device(const char *name, int *on_gpu, yd_err *err)
{
    (void)name, (void)err;
    fake_reset();
    return *on_gpu = 1;
}

int check_open_device(const char *name, const yd_cpu_options *cpu, const yd_cuda_options *cuda, yd_backend **out,
                      yd_err *err)
{
    (void)name, (void)cpu;
    return yd_gpu_open(fake_driver(), cuda, out, err);
}
