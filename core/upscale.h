// From a decoded picture to a sampler and back: the part of a job that needs no device.
//
// Both the daemon and the `yoda` command go through here, so that they make the same bytes. Everything is reentrant and may run on
// worker threads; prepare and finish of one job never run at the same time.
//
// Two sizes: the native grid is the source times the model's scale; the sampler, the attention map, masks and previews live on it. The
// result's size is what yd_output asks for; where it differs, the finished native picture is resampled to it (bicubic, antialiased, in 16
// bits), smaller or larger alike.
// Depth: a source of 8 bits is enlarged byte for byte as the networks were trained, one of 16 bits in 16-bit precision by the same kernel.
// The network's floats are rounded once, to the result's depth.
// Alpha: colours are enlarged as if nothing were transparent, with those of the visible neighbours where nothing is seen (core/alpha.h);
// alpha is enlarged alone, from the source straight to the result's size.
#ifndef YD_CORE_UPSCALE_H
#define YD_CORE_UPSCALE_H

#include "core/attention_nets.h"
#include "core/image.h"
#include "core/output.h"
#include "core/sampler.h"

// Between yd_prepare_begin and yd_prepare_end: what the sampler begins with, and of a map that awaits its network what that is to be shown.
typedef struct yd_prepare_begun {
    yd_sampler_picture given;
    uint16_t *up, *own; // up(LR), w*h*3; the source's colours, where they are not the picture's
    float *exact;
    int awaits;           // 1: end wants the raw maps of `shown`
    yd_attention_ref ref; // by this network
    uint8_t *shown;       // shown_w*shown_h*3
    int shown_w, shown_h;
} yd_prepare_begun;

typedef struct yd_prepared {
    int w, h;            // native grid
    int out_w, out_h;    // size of the result
    int in_w, in_h;      // size of the source
    int depth, in_depth; // bits per sample of the result and of the source
    int grey;
    float *map;          // attention, w*h
    uint16_t *alpha;     // the source's, in_w*in_h, or NULL
    yd_image_meta *meta; // the source's, or NULL
    yd_sampler *sampler;
    yd_prepare_begun begun;
} yd_prepared;

// Upsample, compute the attention map, make the sampler. out: size and depth of the result; NULL: native size, depth of the source. *in
// is not needed afterwards. YD_E_SETTING, YD_E_IMAGE_TOO_LARGE, YD_E_NOMEM. Clear with yd_prepared_clear also after a failure.
int yd_prepare(const yd_model_config *cfg, const yd_sample_settings *set, const yd_output *out, const yd_image *in, yd_prepared *p,
               yd_err *err);
void yd_prepared_clear(yd_prepared *p);

// The same in two parts, for who runs attention networks somewhere else. Begin does all but a network's map and the sampler. Where
// p->begun.awaits is set, end wants the raw maps of what is shown, and *in is not needed any more; else raw is NULL, and *in must still be
// there. Errors as above; the two may run on different threads, one after the other.
int yd_prepare_begin(const yd_model_config *cfg, const yd_sample_settings *set, const yd_output *out, const yd_image *in, yd_prepared *p,
                     yd_err *err);
int yd_prepare_end(const yd_model_config *cfg, const yd_sample_settings *set, yd_prepared *p, const float *raw, yd_err *err);

// The result with alpha and metadata re-attached (before the last step: the present state in its place). *out owns its pixels. YD_E_NOMEM.
int yd_finish(const yd_prepared *p, yd_image *out, yd_err *err);
// The present state on the native grid, 8 bits, with alpha. YD_E_NOMEM.
int yd_preview(const yd_prepared *p, yd_image *out, yd_err *err);

// up(LR): the source's colours enlarged to w x h without any network, what the sampler is conditioned on. rgb: w*h*3. YD_E_NOMEM.
int yd_upsample(const yd_image *in, int w, int h, uint16_t *rgb, yd_err *err);

// Bytes of memory that a job takes at most from its decoded picture (in_w x in_h, with alpha) to the result before it is encoded, both
// included. out as for yd_prepare. YD_E_SETTING and YD_E_IMAGE_TOO_LARGE where yd_prepare would say so.
int yd_upscale_bytes(const yd_model_config *cfg, const yd_sample_settings *set, const yd_output *out, int in_w, int in_h, size_t *bytes, yd_err *err);

// Parse one setting by its public name ("steps", "seed", "sampler", "eta", "variance", "attention", "mask_form", "lower_bound", "allocation", "fidelity",
// "lr_noise", "spacing", "skip") from text. 1 taken, 0 not a sampling setting, YD_E_SETTING naming the field and what it accepts.
int yd_setting_set(yd_sample_settings *set, const char *name, const char *value, yd_err *err);
// A sampler's public name, static.
const char *yd_sampler_name(yd_sampler_kind kind);
// One JSON object (no trailing newline) of the settings as used, for job JSON and reports. Length needed, as snprintf.
size_t yd_settings_print(const yd_sample_settings *set, char *dst, size_t cap);

#endif
