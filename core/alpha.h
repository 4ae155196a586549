// Colours under transparency: what a transparent pixel should look like before its picture is enlarged.
//
// A file may hold any colour where nothing is seen: black, white, leftovers. Enlarging mixes it into the visible pixels beside it, which
// shows as a dark or light rim. So invisible colours are replaced by those of the visible neighbours; then colours and alpha can be
// enlarged each for itself. Reentrant; the same bits on every machine.
#ifndef YD_CORE_ALPHA_H
#define YD_CORE_ALPHA_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

// Fill the colours of transparent pixels in place, smoothly, from the nearest pixels that can be seen. rgb: w*h*3, straight; alpha: w*h.
// A pixel of at least 1/16 opacity keeps its colour exactly; below that its own colour counts in proportion. A picture without any
// visible pixel stays as it is. Time and memory in proportion to w*h (1..65535 each). YD_E_NOMEM, then rgb is unchanged.
int yd_alpha_fill(uint16_t *rgb, const uint16_t *alpha, int w, int h, yd_err *err);

// Is every pixel fully opaque?
int yd_alpha_opaque(const uint16_t *alpha, size_t pixels);

// Bytes of memory that yd_alpha_fill takes at most while it runs.
size_t yd_alpha_fill_bytes(int w, int h);

#endif
