// Private to core/perceptual*.c: the three trunks of LPIPS as lists of steps, and their weights out of a file.
#ifndef YD_CORE_PERCEPTUAL_TRUNKS_H
#define YD_CORE_PERCEPTUAL_TRUNKS_H

#include "core/cpu/trunk.h"
#include "core/perceptual.h"

typedef struct yd_lpips_net {
    const char *name; // static
    yd_trunk_step steps[YD_TRUNK_MAX_STEPS];
    int n_steps;
    int layers, channels[YD_LPIPS_MAX_LAYERS];
    float *lin[YD_LPIPS_MAX_LAYERS]; // weights of each layer's channels
    float *params[2 * YD_TRUNK_MAX_STEPS + YD_LPIPS_MAX_LAYERS]; // owned: everything that steps and lin point at
    int n_params;
} yd_lpips_net;

// Recognise and read; errors as yd_lpips_open. Clear in any case.
int yd_lpips_net_read(yd_lpips_net *net, const char *path, yd_err *err);
void yd_lpips_net_clear(yd_lpips_net *net);
// The smallest side at which every map has a pixel.
int yd_lpips_net_min_side(const yd_lpips_net *net);

#endif
