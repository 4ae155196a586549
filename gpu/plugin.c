// The plug-in's entry: hands out what core/backend_load.h asks for, if both were built from the same headers.
// Read next: backend.c.
#include "gpu/devices.h"
#include "gpu/gpu.h"

static int open_device(const yd_cuda_options *opt, yd_backend **out, yd_err *err)
{
    yd_cuda_device about;
    yd_gpu_driver *driver;
    *out = NULL;
    int rc = yd_gpu_probe(opt->device, &about, err);
    if (!rc) rc = yd_gpu_cuda_driver(opt->device, &driver, err);
    return rc ? rc : yd_gpu_open(driver, opt, out, err);
}

__attribute__((visibility("default"))) yd_cuda_plugin_entry yoda_cuda_plugin;

int yoda_cuda_plugin(int version, size_t layout, yd_cuda_plugin *out, yd_err *err)
{
    if (version != YD_CUDA_PLUGIN_VERSION || layout != yd_cuda_plugin_layout())
        return yd_fail(err, YD_E_UNSUPPORTED,
                       "the CUDA plug-in is of another build: version %d, this program wants %d; build both again",
                       YD_CUDA_PLUGIN_VERSION, version);
    *out = (yd_cuda_plugin){.count = yd_gpu_count, .probe = yd_gpu_probe, .open = open_device};
    return 0;
}
