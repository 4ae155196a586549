// A plot as pixels: lines are capsules and points discs, blended by how much of a pixel they cover; letters come from the 5 x 7 font.
#include "core/mem.h"
#include "tools/font.h"
#include "tools/plot_pen.h"
#include <math.h>
#include <string.h>

#define ZOOM 2 // pixels per unit
#define DASH 5.0
#define GAP  4.0

typedef struct sheet {
    uint8_t *rgb;
    int w, h;
} sheet;

static void blend(const sheet *s, int x, int y, double cover, uint32_t colour)
{
    uint8_t *at = s->rgb + ((size_t)y * (size_t)s->w + (size_t)x) * 3;
    for (int c = 0; c < 3; c++) {
        const double ink = (double)(colour >> (16 - 8 * c) & 255u);
        at[c] = (uint8_t)lround(at[c] + (ink - at[c]) * cover);
    }
}

static int bounded(double v, int limit)
{
    return v < 0 ? 0 : v > limit ? limit : (int)v;
}

// Everything within `radius` of the segment, in pixels.
static void capsule(const sheet *s, double x0, double y0, double x1, double y1, double radius, uint32_t colour)
{
    const double dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy;
    const int left = bounded(fmin(x0, x1) - radius - 1, s->w), right = bounded(fmax(x0, x1) + radius + 2, s->w);
    const int top = bounded(fmin(y0, y1) - radius - 1, s->h), bottom = bounded(fmax(y0, y1) + radius + 2, s->h);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            const double px = x + 0.5 - x0, py = y + 0.5 - y0;
            const double t = length2 > 0 ? fmax(0, fmin(1, (px * dx + py * dy) / length2)) : 0;
            const double cover = radius + 0.5 - hypot(px - t * dx, py - t * dy);
            if (cover > 0) blend(s, x, y, fmin(1, cover), colour);
        }
}

static void raster_line(void *user, double x0, double y0, double x1, double y1, double width, int dashed, uint32_t colour)
{
    const double length = hypot(x1 - x0, y1 - y0), period = DASH + GAP;
    if (!dashed) {
        capsule(user, x0 * ZOOM, y0 * ZOOM, x1 * ZOOM, y1 * ZOOM, width * ZOOM / 2, colour);
        return;
    }
    for (double at = 0; at < length; at += period) {
        const double a = at / length, b = fmin(1, (at + DASH) / length);
        capsule(user, (x0 + (x1 - x0) * a) * ZOOM, (y0 + (y1 - y0) * a) * ZOOM, (x0 + (x1 - x0) * b) * ZOOM, (y0 + (y1 - y0) * b) * ZOOM,
                width * ZOOM / 2, colour);
    }
}

static void raster_disc(void *user, double x, double y, double radius, uint32_t colour, const char *note)
{
    (void)note;
    capsule(user, x * ZOOM, y * ZOOM, x * ZOOM, y * ZOOM, radius * ZOOM, colour);
}

static void raster_text(void *user, double x, double y, yd_pen_align align, int strong, uint32_t colour, const char *text)
{
    const sheet *s = user;
    const uint8_t ink[3] = {(uint8_t)(colour >> 16), (uint8_t)(colour >> 8), (uint8_t)colour};
    const int zoom = strong ? 3 : 2, wide = (int)strlen(text) * YD_FONT_W * zoom;
    const int left = (int)lround(x * ZOOM) - (align == YD_PEN_MIDDLE ? wide / 2 : align == YD_PEN_RIGHT ? wide : 0);
    yd_font_draw(s->rgb, s->w, s->h, left, (int)lround(y * ZOOM) - YD_FONT_H * zoom, zoom, ink, text);
}

int yd_plot_rgb(const yd_plot *p, uint8_t **rgb, int *w, int *h, yd_err *err)
{
    int rc = yd_plot_size(p, w, h, err);
    if (rc < 0) return rc;
    sheet s = {.w = *w * ZOOM, .h = *h * ZOOM};
    const size_t bytes = (size_t)s.w * (size_t)s.h * 3;
    s.rgb = yd_malloc(bytes);
    if (!s.rgb) return yd_fail(err, YD_E_NOMEM, "no memory for a plot of %d x %d pixels", s.w, s.h);
    memset(s.rgb, 255, bytes);
    const yd_pen pen = {&s, raster_line, raster_disc, raster_text};
    rc = yd_plot_draw(p, &pen, err);
    if (rc < 0) yd_free(s.rgb);
    else *rgb = s.rgb, *w = s.w, *h = s.h;
    return rc;
}
