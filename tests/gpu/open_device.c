// gpu-check's devices: the CPU, or CUDA by its plug-in.
#include "tests/gpu/check.h"

int check_find_device(const char *name, int *on_gpu, yd_err *err)
{
    int n, cuda, rc = yd_device_parse(name, &cuda, NULL, err);
    if (rc) return rc;
    *on_gpu = cuda >= 0;
    return cuda < 0 || !yd_cuda_count(&n, err);
}

int check_open_device(const char *name, const yd_cpu_options *cpu, const yd_cuda_options *cuda, yd_backend **out,
                      yd_err *err)
{
    return yd_backend_open(name, cpu, cuda, out, NULL, err);
}
