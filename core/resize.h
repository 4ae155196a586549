// Bicubic resampling (a = -0.5, support widened when shrinking, horizontal pass, then vertical), of bytes and of 16-bit values.
//
// The one for bytes agrees bit for bit with Pillow's 8-bit resize (Image.BICUBIC): 22-bit fixed-point weights, rounded and clipped to
// bytes between the passes. That is what SR3-family networks were conditioned on. Source: Pillow's documented behaviour, checked against
// fixtures/resize. The one for 16 bits has the same weights in double and rounds once, at the end.
#ifndef YD_CORE_RESIZE_H
#define YD_CORE_RESIZE_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

// Resize src (sw x sh, c = 1..4 interleaved channels) into dst (dw x dh, caller-allocated dw*dh*c bytes).
// All sizes 1..65535. YD_E_NOMEM; nothing else can fail. Reentrant; single-threaded.
int yd_resize_bicubic_u8(const uint8_t *src, int sw, int sh, int c, uint8_t *dst, int dw, int dh, yd_err *err);

// The same for 16-bit values 0..65535: the exact sum, rounded half up and clipped (within 1/100 of a step before rounding). The same
// bits on every machine. Limits, errors and threads as above.
int yd_resize_bicubic_u16(const uint16_t *src, int sw, int sh, int c, uint16_t *dst, int dw, int dh, yd_err *err);
// Bytes of memory that yd_resize_bicubic_u16 takes at most while it runs.
size_t yd_resize_u16_bytes(int sw, int sh, int c, int dw, int dh);

// Enlarge by a whole factor, 1..64, as SRDiff's public code makes its condition: MATLAB's bicubic (mirrored with the border repeated, in
// double, neither clipped nor rounded) of bytes v divided by 256, then times 2 minus 1. src: sw*sh*3 values 0..65535, v*257 for a byte; dst:
// (sw*factor)*(sh*factor)*3 floats. YD_E_NOMEM (it takes a row). Source: imresize of that code, checked against fixtures/srdiff_*.
int yd_resize_matlab256(const uint16_t *src, int sw, int sh, int factor, float *dst, yd_err *err);

#endif
