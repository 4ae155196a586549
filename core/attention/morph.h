// Morphology of binary planes.
#ifndef YD_CORE_ATTENTION_MORPH_H
#define YD_CORE_ATTENTION_MORPH_H

#include "core/err.h"
#include <stdint.h>

// Close the plane (w x h bytes, 0 or 1) in place with a square of (2*radius+1)^2 pixels, 0 <= radius <= 64: dilate, then erode, which joins
// what is at most 2*radius apart and removes nothing. Pixels outside the picture take no part. Blocks; reentrant. YD_E_NOMEM.
int yd_morph_close(uint8_t *plane, int w, int h, int radius, yd_err *err);

#endif
