// From a decoded picture to a sampler and back: the part of a job that needs no device.
//
// Both the daemon and the `yoda` command go through here, so that they make the same bytes. Everything is reentrant and may run on
// worker threads; prepare and finish of one job never run at the same time.
#ifndef YD_CORE_UPSCALE_H
#define YD_CORE_UPSCALE_H

#include "core/image.h"
#include "core/output.h"
#include "core/sampler.h"

typedef struct yd_prepared {
    int w, h;            // output size
    uint8_t *up;         // up(LR), w*h*3
    float *map;          // attention, w*h
    uint8_t *alpha;      // upsampled alpha, w*h, or NULL
    int grey;
    yd_sampler *sampler;
} yd_prepared;

// Upsample, compute the attention map, make the sampler. YD_E_SETTING, YD_E_NOMEM. Clear with yd_prepared_clear also after a failure.
int yd_prepare(const yd_model_config *cfg, const yd_sample_settings *set, const yd_image *in, yd_prepared *out, yd_err *err);
void yd_prepared_clear(yd_prepared *p);

// The finished (or, before the end, the present) picture with alpha re-attached. *out owns its pixels.
int yd_finish(const yd_prepared *p, yd_image *out, yd_err *err);

// Parse one setting by its public name ("steps", "seed", "sampler", "eta", "variance", "attention", "mask_form", "lower_bound",
// "lr_noise", "skip") from text. 1 taken, 0 not a sampling setting, YD_E_SETTING naming the field and what it accepts.
int yd_setting_set(yd_sample_settings *set, const char *name, const char *value, yd_err *err);
// One JSON object (no trailing newline) of the settings as used, for job JSON and reports. Length needed, as snprintf.
size_t yd_settings_print(const yd_sample_settings *set, char *dst, size_t cap);

#endif
