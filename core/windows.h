// Windows of one fixed shape over a canvas, with blending weights that sum to one everywhere.
//
// Along each axis n = ceil((size - window)/(window - overlap)) + 1 windows are spread evenly; a canvas smaller than the window has
// one window that reaches over its right or bottom border. Neighbours share an overlap: its outer quarters are context only
// (weight 0), over its middle half the weight passes smoothly from one to the other. A window's weight at (x, y) is wx * wy.
// Pure data after making; any thread may read it.
#ifndef YD_CORE_WINDOWS_H
#define YD_CORE_WINDOWS_H

#include "core/err.h"
#include <stdint.h>

typedef struct yd_axis {
    int n;         // windows along this axis
    int *start;    // [n] first pixel of each
    float *weight; // [n * window length] weight of each of its pixels, 0 beyond the canvas
} yd_axis;

typedef struct yd_windows {
    int window_w, window_h, w, h;
    yd_axis x, y;
} yd_windows;

// overlap*2 <= each side of the window. YD_E_NOMEM. Clear with yd_windows_clear (also after a failure).
int yd_windows_make(int w, int h, int window_w, int window_h, int overlap, yd_windows *out, yd_err *err);
// The same with every window beginning at a multiple of `align`, which all sides must be multiples of. The overlap may come out
// smaller by up to align - 1.
int yd_windows_make_aligned(int w, int h, int window_w, int window_h, int overlap, int align, yd_windows *out, yd_err *err);
void yd_windows_clear(yd_windows *ws);

// For every window the largest of a[] (w*h values) among the canvas's pixels that it has a say in (weight > 0): with activation steps, the
// first step that needs the window. max: yd_windows_count values.
void yd_windows_max(const yd_windows *ws, const uint16_t *a, uint16_t *max);

// Make a[] (w*h values, 1 or more) coarse: every window is worth the rounded mean of the pixels that it has a say in, and a pixel the least of
// the windows that have a say in it, so that a window is needed for as many steps as it is worth. worth: yd_windows_count values, written.
void yd_windows_level(const yd_windows *ws, uint16_t *a, uint16_t *worth);

// Windows along an axis of `size` pixels.
static inline int yd_windows_along(int size, int window, int overlap)
{
    const int stride = window - overlap;
    return size <= window ? 1 : (size - window + stride - 1) / stride + 1;
}

static inline int yd_windows_count(const yd_windows *ws)
{
    return ws->x.n * ws->y.n;
}

#endif
