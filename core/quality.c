// Profiles: what fast, balanced and best mean for a model. Pure; reentrant. See core/model.h.
#include "core/model.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[YD_QUALITIES] = {"fast", "balanced", "best"};

const char *yd_quality_name(yd_quality q)
{
    return names[q];
}

// The setting's name once belonged to the encoder; a number is somebody who means that one.
int yd_quality_parse(const char *value, yd_quality *out, yd_err *err)
{
    static const char accepted[] = "fast, balanced, best";
    char *end;
    for (int i = 0; i < YD_QUALITIES; i++)
        if (strcmp(value, names[i]) == 0) {
            *out = (yd_quality)i;
            return 0;
        }
    (void)strtod(value, &end);
    if (*value && !*end)
        return yd_fail_field(err, YD_E_SETTING, "quality", accepted,
                             "quality=%.40s is not accepted: it names a profile of the model; the encoder's number is encode_quality", value);
    return yd_fail_field(err, YD_E_SETTING, "quality", accepted, "quality=%.40s is not accepted", value);
}

static void derive(const yd_model_config *cfg, yd_quality q, yd_sample_settings *set)
{
    const int most = yd_schedule_is_table(&cfg->schedule) ? cfg->schedule.train_steps : YD_MAX_STEPS;
    if (q == YD_QUALITY_FAST) {
        set->steps = (set->steps + 1) / 2;
    } else if (q == YD_QUALITY_BEST) {
        set->steps = set->steps > most / 2 ? most : set->steps * 2;
        set->lower_bound = 1.0;
    }
}

void yd_model_config_profile(const yd_model_config *cfg, yd_quality q, yd_sample_settings *set)
{
    const yd_profile *const given[YD_QUALITIES] = {[YD_QUALITY_FAST] = &cfg->fast, [YD_QUALITY_BEST] = &cfg->best};
    const yd_profile *p = given[q];
    *set = p && p->given ? p->set : cfg->defaults;
    if (p && !p->given) derive(cfg, q, set);
}
