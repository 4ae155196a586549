// The sampling settings as options: see sampling.h.
#include "tools/sampling.h"
#include "core/sampler.h"
#include "core/upscale.h"

int yd_sampling_apply(const yd_sampling_args *a, const yd_model_config *cfg, yd_sample_settings *set, yd_err *err)
{
    // In the order of YD_SAMPLING_ARGS, by their public names.
    static const char *const names[YD_SAMPLING_N] = {"steps",   "seed", "attention", "mask_form", "lower_bound",
                                                     "sampler", "eta",  "variance",  "lr_noise",  "spacing",
                                                     "allocation", "fidelity"};
    yd_quality quality = YD_QUALITY_BALANCED;
    int rc = a->quality ? yd_quality_parse(a->quality, &quality, err) : 0;
    if (rc < 0) return rc;
    yd_model_config_profile(cfg, quality, set);
    for (int i = 0; i < YD_SAMPLING_N; i++) {
        if (!a->value[i]) continue;
        rc = yd_setting_set(set, names[i], a->value[i], err);
        if (rc < 0) return rc;
        if (rc == 0) return yd_fail(err, YD_E_INTERNAL, "%s is no sampling setting", names[i]);
    }
    if (a->no_skip) set->skip = 0;
    return yd_sampler_accepts(cfg, set, err);
}
