// Plots of a few series of points as SVG text or as RGB pixels: panels side by side, each with its own axes, legend and labels.
//
// The layout is made once (plot.c) and drawn by one of two pens: plot_svg.c writes elements, plot_raster.c paints with its own
// anti-aliased lines and the 5 x 7 font, so that a PNG needs no fonts and no SVG renderer. Equal input gives equal bytes.
// Points whose x or y is not finite are left out. In SVG every point is one <circle class="point"> whose <title> has its numbers.
// Nothing is kept between calls; any thread.
#ifndef YD_TOOLS_PLOT_H
#define YD_TOOLS_PLOT_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

#define YD_PLOT_MAX_LABELS 256 // per panel; further points are drawn without

typedef enum { YD_PLOT_NO_FRONT, YD_PLOT_LESS_IS_BETTER, YD_PLOT_MORE_IS_BETTER } yd_plot_front;

typedef struct yd_plot_point {
    double x, y;
    const char *label; // written beside it, or NULL
} yd_plot_point;

typedef struct yd_plot_series {
    const char *name; // in the legend
    int colour;       // 0.., repeats after YD_PLOT_COLOURS
    const yd_plot_point *points;
    int n; // joined by lines in this order
} yd_plot_series;

#define YD_PLOT_COLOURS 9 // the last is black

typedef struct yd_plot_panel {
    const char *title, *x_label;
    const yd_plot_series *series;
    int n;
    yd_plot_front front;    // the points that none beats in both x (less is better) and y get a ring and are joined by a wide grey line
    double level;           // a dashed horizontal line, NaN for none; far from all points it is only named in the legend
    const char *level_name; // its name in the legend
    int x_from_zero, y_from_zero;
} yd_plot_panel;

typedef struct yd_plot {
    const char *title;
    const yd_plot_panel *panels;
    int n, columns;
} yd_plot;

// Draw as a complete SVG document, NUL-terminated; *svg is released with free(). YD_E_INVALID for a plot without a panel, YD_E_NOMEM.
int yd_plot_svg(const yd_plot *p, char **svg, size_t *len, yd_err *err);
// Draw as w*h*3 bytes, two pixels per SVG unit; *rgb is released with yd_free. Errors as above.
int yd_plot_rgb(const yd_plot *p, uint8_t **rgb, int *w, int *h, yd_err *err);

// Which of n points no other one beats: front[i] = 1 when no point has x <= and y at least as good, one of them better. Non-finite
// points are never in the front. Returns how many are.
int yd_plot_find_front(const yd_plot_point *points, int n, yd_plot_front kind, uint8_t *front);

// Round steps for an axis from lo to hi (lo < hi) of about `want` intervals: 1, 2 or 5 times a power of ten.
double yd_plot_tick_step(double lo, double hi, int want);

#endif
