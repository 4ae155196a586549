// Outcomes of driver calls as errors of ours: see errors.h.
#include "gpu/errors.h"

int yd_gpu_fail(yd_gpu_outcome outcome, const char *doing, const char *words, yd_err *err)
{
    const char *said = words && *words ? words : "no reason given";
    switch (outcome) {
    case YD_GPU_OK:
        return 0;
    case YD_GPU_NO_MEMORY:
        return yd_fail(err, YD_E_NOMEM, "no memory on the GPU for %s: %.200s", doing, said);
    case YD_GPU_UNSUPPORTED:
        return yd_fail(err, YD_E_UNSUPPORTED, "the GPU libraries have nothing for %s: %.200s", doing, said);
    case YD_GPU_LOST:
        return yd_fail(err, YD_E_DEVICE, "the GPU was lost while %s: %.200s", doing, said);
    case YD_GPU_FAILED:
        break;
    }
    return yd_fail(err, YD_E_DEVICE, "%s failed on the GPU: %.200s", doing, said);
}
