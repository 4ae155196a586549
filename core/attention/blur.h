// Gaussian blur of one float plane.
#ifndef YD_CORE_ATTENTION_BLUR_H
#define YD_CORE_ATTENTION_BLUR_H

#include "core/err.h"

#define YD_BLUR_MAX_SIGMA 16.0

// Blur plane (w x h) in place; sigma in pixels, 0 < sigma <= YD_BLUR_MAX_SIGMA. The kernel ends at 3 sigma; the border is replicated.
// A flat plane comes out with one value everywhere. Blocks; reentrant. YD_E_NOMEM (the plane is unchanged).
int yd_blur_gaussian(float *plane, int w, int h, double sigma, yd_err *err);

#endif
