// The sampling settings as options of a command: the same names, ranges and defaults as in the HTTP interface.
#ifndef YD_TOOLS_SAMPLING_H
#define YD_TOOLS_SAMPLING_H

#include "core/model.h"
#include "tools/args.h"

#define YD_SAMPLING_N 12

// Values as given, NULL where not; settled once the model and with it the defaults are known.
typedef struct yd_sampling_args {
    const char *value[YD_SAMPLING_N];
    const char *quality;
    int no_skip;
} yd_sampling_args;

#define YD_SAMPLING_ARGS(s)                                                                                            \
    {"quality", 0, YD_ARG_TEXT, &(s)->quality, 0, 0, "Q", "fast, balanced (default) or best: profiles of the model"},  \
        {"steps", 'n', YD_ARG_TEXT, &(s)->value[0], 0, 0, "N", "denoising steps"},                                         \
        {"seed", 's', YD_ARG_TEXT, &(s)->value[1], 0, 0, "N", "of the noise; the same seed gives the same bytes"},     \
        {"attention", 'a', YD_ARG_TEXT, &(s)->value[2], 0, 0, "NAME", "attention method (yoda attention lists them)"}, \
        {"mask-form", 0, YD_ARG_TEXT, &(s)->value[3], 0, 0, "FORM", "add or max: how the lower bound enters"},         \
        {"lower-bound", 'l', YD_ARG_TEXT, &(s)->value[4], 0, 0, "L", "least share of the steps any pixel gets, 0..1"}, \
        {"sampler", 0, YD_ARG_TEXT, &(s)->value[5], 0, 0, "NAME", "ancestral, ddim or dpmpp_2m"},                      \
        {"eta", 0, YD_ARG_TEXT, &(s)->value[6], 0, 0, "E", "noise of ddim, 0..1"},                                     \
        {"variance", 0, YD_ARG_TEXT, &(s)->value[7], 0, 0, "NAME", "of ancestral: posterior or beta"},                 \
        {"lr-noise", 0, YD_ARG_TEXT, &(s)->value[8], 0, 0, "NAME", "resting pixels: forward or literal"},              \
        {"spacing", 0, YD_ARG_TEXT, &(s)->value[9], 0, 0, "P", "above 1: steps crowd at low noise, 0.25..8"},          \
        {"allocation", 0, YD_ARG_TEXT, &(s)->value[10], 0, 0, "NAME", "late, strided or windows: which steps"},          \
        {"fidelity", 0, YD_ARG_TEXT, &(s)->value[11], 0, 0, "F", "0 the sample, 1 the first prediction; less invented"}, \
    {                                                                                                                  \
        "no-skip", 0, YD_ARG_FLAG, &(s)->no_skip, 0, 0, NULL, "run windows without an active pixel too (same bytes)"   \
    }

// *set is what the model means by the given quality, with the given values over it. YD_E_SETTING.
int yd_sampling_apply(const yd_sampling_args *a, const yd_model_config *cfg, yd_sample_settings *set, yd_err *err);

#endif
