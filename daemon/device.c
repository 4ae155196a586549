// Which engines a device has: what "dtype" of the configuration says, and where it says auto, the model and the machine.
#include "daemon/device.h"

#include <string.h>

int yd_device_dtypes(const yd_config *cfg, const yd_model_config *model, int has_bf16, yd_dtype out[YD_ENGINES_MAX])
{
    const char *said = cfg->dtype;
    const int both = strcmp(said, "both") == 0;
    // The first one: auto and both leave it open.
    if (both || strcmp(said, "auto") == 0)
        out[0] = yd_model_config_dtype(model, has_bf16);
    else
        out[0] = strncmp(said, "bf16", 4) == 0 ? YD_BF16 : YD_F32;
    out[1] = out[0] == YD_BF16 ? YD_F32 : YD_BF16;
    return both || strchr(said, ',') ? 2 : 1;
}
