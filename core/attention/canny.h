// Canny's edge detector on a picture that has been smoothed already.
#ifndef YD_CORE_ATTENTION_CANNY_H
#define YD_CORE_ATTENTION_CANNY_H

#include "core/err.h"
#include <stdint.h>

// The largest gradient (grey levels 0..255, Sobel's scale of 8 per level and pixel) that still counts as none: rounding in the blur.
#define YD_CANNY_FLAT 0.05f
#define YD_CANNY_HIGH 0.2f // an edge starts at this share of the largest gradient
#define YD_CANNY_LOW  0.5f // and goes on at this share of that

// Fill edges (w x h bytes) with 1 on edges, one pixel wide, and 0 elsewhere. smooth: w x h grey values. *any: 0 when there is no edge.
// Source: Canny 1986, with the four directions usual in practice. Blocks; reentrant. YD_E_NOMEM, YD_E_IMAGE_TOO_LARGE beyond 2^32 pixels.
int yd_canny(const float *smooth, int w, int h, uint8_t *edges, int *any, yd_err *err);

#endif
