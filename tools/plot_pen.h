// What a plot is drawn with. Coordinates are SVG units: x to the right, y down. Colours are 0xRRGGBB.
#ifndef YD_TOOLS_PLOT_PEN_H
#define YD_TOOLS_PLOT_PEN_H

#include "tools/plot.h"

typedef enum { YD_PEN_LEFT, YD_PEN_MIDDLE, YD_PEN_RIGHT } yd_pen_align;

typedef struct yd_pen {
    void *user;
    void (*line)(void *user, double x0, double y0, double x1, double y1, double width, int dashed, uint32_t colour);
    // note: what an SVG reader is told about a point of the data; NULL for other discs
    void (*disc)(void *user, double x, double y, double radius, uint32_t colour, const char *note);
    // y is the baseline
    void (*text)(void *user, double x, double y, yd_pen_align align, int strong, uint32_t colour, const char *text);
} yd_pen;

#define YD_PEN_LETTER_W 6 // estimated width of a letter
#define YD_PEN_LETTER_H 9

// The size of the drawing. YD_E_INVALID.
int yd_plot_size(const yd_plot *p, int *w, int *h, yd_err *err);
// Draw it. YD_E_NOMEM.
int yd_plot_draw(const yd_plot *p, const yd_pen *pen, yd_err *err);

#endif
