// Picture quality figures of a result `a` against the truth `b`, both w*h*3 bytes of RGB. All sums in double and in row order.
//
// PSNR: 10 log10(255^2/MSE), at most 100 (equal pictures). SSIM: Gaussian 11x11 sigma 1.5, C1 = (0.01*255)^2, C2 = (0.03*255)^2, valid
// region, per channel then mean (the SR3 reference's and BasicSR's definition). Two protocols are in use, so both are settings:
// RGB without a crop (SR3, SRDiff) and luma with the scale cropped off every side (classical super resolution).
//
// space y:  Y = 16 + (65.481 R + 128.553 G + 24.966 B)/255 of the bytes, 16..235, not rounded.
// unshift:  "without colour shift": each channel of a is moved by mean(b) - mean(a) before it is compared. The means are taken over the
//           pixels that remain after the crop; the moved values are neither rounded nor clamped. Y is affine in R, G and B, so moving
//           the three channels or Y itself is the same.
// All functions may be called on any thread.
#ifndef YD_CORE_METRICS_H
#define YD_CORE_METRICS_H

#include "core/err.h"
#include <stdint.h>

typedef enum { YD_METRIC_RGB, YD_METRIC_Y } yd_metric_space;

typedef struct yd_metric_options {
    yd_metric_space space;
    int crop;    // pixels left out on every side, from 0
    int unshift; // compare without colour shift
} yd_metric_options;

// opt NULL: RGB, no crop, as they are. YD_E_IMAGE_TOO_SMALL when no pixel remains.
int yd_psnr(const uint8_t *a, const uint8_t *b, int w, int h, const yd_metric_options *opt, double *out, yd_err *err);
// The same for SSIM. YD_E_NOMEM; YD_E_IMAGE_TOO_SMALL below 11 pixels a side after cropping.
int yd_ssim(const uint8_t *a, const uint8_t *b, int w, int h, const yd_metric_options *opt, double *out, yd_err *err);

// Does the result agree with its own input: PSNR (RGB) of a, shrunk to lw x lh as Pillow's bicubic does, against the input lr, lw*lh*3
// bytes. YD_E_NOMEM; YD_E_INVALID when lw x lh is larger than w x h.
int yd_psnr_lr(const uint8_t *a, int w, int h, const uint8_t *lr, int lw, int lh, double *out, yd_err *err);

// RGB with a crop, for callers that need no more. PSNR is NaN when no pixel remains.
double yd_psnr_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop);
int yd_ssim_rgb(const uint8_t *a, const uint8_t *b, int w, int h, int crop, double *out, yd_err *err);

#endif
