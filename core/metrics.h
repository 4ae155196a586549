// Picture quality figures. PSNR: 10 log10(255^2/MSE) over all bytes of all three channels. SSIM: Gaussian 11x11 sigma 1.5,
// C1 = (0.01*255)^2, C2 = (0.03*255)^2, valid region, per channel then mean, in double (the SR3 reference's definition).
#ifndef YD_CORE_METRICS_H
#define YD_CORE_METRICS_H

#include "core/err.h"
#include <stdint.h>

// a, b: w*h*3 bytes; crop: pixels left out on every side. PSNR of equal pictures is 100.
double yd_psnr_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop);
// YD_E_NOMEM; YD_E_IMAGE_TOO_SMALL below 11 pixels a side after cropping.
int yd_ssim_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop, double *out, yd_err *err);

#endif
