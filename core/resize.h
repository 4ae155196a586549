// Bicubic resampling that agrees bit for bit with Pillow's 8-bit resize (Image.BICUBIC, a = -0.5): horizontal pass, then vertical,
// 22-bit fixed-point weights, rounded and clipped to bytes between the passes, support widened when shrinking.
// That is what SR3-family networks were conditioned on. Source: Pillow's documented behaviour, checked against fixtures/resize.
#ifndef YD_CORE_RESIZE_H
#define YD_CORE_RESIZE_H

#include "core/err.h"
#include <stdint.h>

// Resize src (sw x sh, c = 1..4 interleaved channels) into dst (dw x dh, caller-allocated dw*dh*c bytes).
// All sizes 1..65535. YD_E_NOMEM; nothing else can fail. Reentrant; single-threaded.
int yd_resize_bicubic_u8(const uint8_t *src, int sw, int sh, int c, uint8_t *dst, int dw, int dh, yd_err *err);

#endif
