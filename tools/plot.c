// The layout of a plot: axes, ticks, legends, fronts, labels that keep out of each other's way. See plot.h.
//
// A panel is a frame with a head above it (title, legend) and ticks left of and below it. A label tries four places around its point and
// takes the first that meets neither another label, nor a point, nor the frame; where all are taken it stays at the first.
// Read next: tools/plot_pen.h
#include "tools/plot.h"
#include "core/mem.h"
#include "tools/plot_pen.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FRAME_W   370
#define FRAME_H   280
#define LEFT      62
#define RIGHT     18
#define BOTTOM    48
#define TITLE_H   24
#define LEGEND_H  15
#define TOP       34 // of the whole drawing
#define TICKS     6
#define LEVEL_REACH 0.6 // of the points' range
#define RADIUS    3.6
#define RING      1.5 // around the points of a front
#define MAX_POINTS (1 << 20)

#define INK   0x333333u
#define FAINT 0xe4e4e4u
#define FRONT 0xc4c4c4u
#define LEVEL 0x888888u

// Told apart by people with colour blindness too (after Okabe and Ito), without the yellow that white swallows.
static const uint32_t colours[YD_PLOT_COLOURS] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0x7a4fa3, 0x5c5c5c, 0x000000};

typedef struct box {
    double x0, y0, x1, y1;
} box;

typedef struct view { // of one panel
    const yd_plot_panel *panel;
    box frame;
    double x_lo, x_hi, y_lo, y_hi; // of the axes
    box *labels;                   // places that are taken
    int n_labels;
} view;

static uint32_t colour_of(const yd_plot_series *s)
{
    return colours[(unsigned)s->colour % YD_PLOT_COLOURS];
}

static int is_point(const yd_plot_point *p)
{
    return isfinite(p->x) && isfinite(p->y);
}

static double place_x(const view *v, double x)
{
    return v->frame.x0 + (v->frame.x1 - v->frame.x0) * (x - v->x_lo) / (v->x_hi - v->x_lo);
}

static double place_y(const view *v, double y)
{
    return v->frame.y1 - (v->frame.y1 - v->frame.y0) * (y - v->y_lo) / (v->y_hi - v->y_lo);
}

// --- numbers

double yd_plot_tick_step(double lo, double hi, int want)
{
    const double raw = (hi - lo) / want, power = pow(10, floor(log10(raw)));
    const double steps[] = {1, 2, 5};
    for (int i = 0; i < 3; i++)
        if (raw <= steps[i] * power * (1 + 1e-9)) return steps[i] * power;
    return 10 * power;
}

// As many decimals as neighbouring ticks need to differ.
static void print_tick(double v, double step, char *dst, size_t cap)
{
    int decimals = (int)ceil(-log10(step) - 1e-9);
    decimals = decimals < 0 ? 0 : decimals > 9 ? 9 : decimals;
    snprintf(dst, cap, "%.*f", decimals, fabs(v) < step * 1e-6 ? 0 : v);
}

static void stretch(double *lo, double *hi, double v)
{
    if (v < *lo) *lo = v;
    if (v > *hi) *hi = v;
}

// A little air around the values; an axis of one value gets some width.
static void widen(double *lo, double *hi, int from_zero)
{
    if (!(*lo <= *hi)) *lo = 0, *hi = 1;
    if (from_zero && *lo > 0) *lo = 0;
    double span = *hi - *lo;
    if (!(span > 0)) span = *hi != 0 ? fabs(*hi) * 0.2 : 1;
    if (!(from_zero && *lo == 0)) *lo -= span * 0.07;
    *hi += span * 0.09;
}

// Where the points are.
static box range_of(const yd_plot_panel *p)
{
    box r = {INFINITY, INFINITY, -INFINITY, -INFINITY};
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < p->series[i].n; k++) {
            const yd_plot_point *at = &p->series[i].points[k];
            if (!is_point(at)) continue;
            stretch(&r.x0, &r.x1, at->x);
            stretch(&r.y0, &r.y1, at->y);
        }
    return r;
}

// A level far away from the points would press them flat: it is named in the legend instead.
static int level_is_drawn(const yd_plot_panel *p)
{
    if (!isfinite(p->level)) return 0;
    const box r = range_of(p);
    const double span = r.y1 - r.y0, away = fmax(r.y0 - p->level, p->level - r.y1);
    return !(span > 0) || away <= LEVEL_REACH * span;
}

static void settle_axes(view *v)
{
    const yd_plot_panel *p = v->panel;
    const box r = range_of(p);
    v->x_lo = r.x0, v->x_hi = r.x1;
    v->y_lo = r.y0, v->y_hi = r.y1;
    if (level_is_drawn(p)) stretch(&v->y_lo, &v->y_hi, p->level);
    widen(&v->x_lo, &v->x_hi, p->x_from_zero);
    widen(&v->y_lo, &v->y_hi, p->y_from_zero);
}

int yd_plot_find_front(const yd_plot_point *points, int n, yd_plot_front kind, uint8_t *front)
{
    const double sign = kind == YD_PLOT_MORE_IS_BETTER ? -1 : 1;
    int found = 0;
    for (int i = 0; i < n; i++) {
        front[i] = (uint8_t)is_point(&points[i]);
        for (int k = 0; k < n && front[i]; k++) {
            if (!is_point(&points[k])) continue;
            const double dx = points[k].x - points[i].x, dy = sign * (points[k].y - points[i].y);
            if (dx <= 0 && dy <= 0 && (dx < 0 || dy < 0)) front[i] = 0;
        }
        found += front[i];
    }
    return found;
}

// --- parts of a panel

static void draw_frame(const view *v, const yd_pen *pen)
{
    const box *f = &v->frame;
    char text[32];
    double step = yd_plot_tick_step(v->y_lo, v->y_hi, TICKS);
    for (double k = ceil(v->y_lo / step); k * step <= v->y_hi; k++) {
        const double y = place_y(v, k * step);
        print_tick(k * step, step, text, sizeof text);
        pen->line(pen->user, f->x0, y, f->x1, y, 1, 0, FAINT);
        pen->text(pen->user, f->x0 - 7, y + 4, YD_PEN_RIGHT, 0, INK, text);
    }
    step = yd_plot_tick_step(v->x_lo, v->x_hi, TICKS);
    for (double k = ceil(v->x_lo / step); k * step <= v->x_hi; k++) {
        const double x = place_x(v, k * step);
        print_tick(k * step, step, text, sizeof text);
        pen->line(pen->user, x, f->y0, x, f->y1, 1, 0, FAINT);
        pen->text(pen->user, x, f->y1 + 15, YD_PEN_MIDDLE, 0, INK, text);
    }
    pen->line(pen->user, f->x0, f->y1, f->x1, f->y1, 1, 0, INK);
    pen->line(pen->user, f->x0, f->y0, f->x0, f->y1, 1, 0, INK);
    pen->text(pen->user, f->x1, f->y1 + 33, YD_PEN_RIGHT, 0, INK, v->panel->x_label);
}

// Walk the legend's entries; with a pen they are drawn. The lines it takes.
static int legend(const yd_plot_panel *p, double left, double top, const yd_pen *pen)
{
    double x = 0;
    int lines = 1;
    for (int i = 0; i < p->n + 1; i++) {
        const int is_level = i == p->n;
        if (is_level && !isfinite(p->level)) break;
        char far[64];
        const int is_far = is_level && !level_is_drawn(p);
        if (is_far) snprintf(far, sizeof far, "(%.40s: %.4g)", p->level_name, p->level);
        const char *name = is_far ? far : is_level ? p->level_name : p->series[i].name;
        const double key = is_far ? 0 : 16, wide = key + YD_PEN_LETTER_W * (double)strlen(name) + 12;
        if (x > 0 && x + wide > FRAME_W) x = 0, lines++;
        const double y = top + LEGEND_H * (lines - 1);
        if (pen && is_level && !is_far) pen->line(pen->user, left + x, y - 4, left + x + 12, y - 4, 1.2, 1, LEVEL);
        else if (pen && !is_level) pen->disc(pen->user, left + x + 6, y - 4, RADIUS, colour_of(&p->series[i]), NULL);
        if (pen) pen->text(pen->user, left + x + key, y, YD_PEN_LEFT, 0, INK, name);
        x += wide;
    }
    return lines;
}

static int count_points(const yd_plot_panel *p)
{
    long n = 0;
    for (int i = 0; i < p->n; i++) n += p->series[i].n;
    return n < MAX_POINTS ? (int)n : -1;
}

// By x, so that the front is one line.
static void sort_by_x(yd_plot_point *points, int n)
{
    for (int i = 1; i < n; i++) {
        const yd_plot_point moved = points[i];
        int k = i;
        for (; k > 0 && points[k - 1].x > moved.x; k--) points[k] = points[k - 1];
        points[k] = moved;
    }
}

static int draw_front(const view *v, const yd_pen *pen, yd_err *err)
{
    const yd_plot_panel *p = v->panel;
    const int n = count_points(p);
    if (p->front == YD_PLOT_NO_FRONT || n <= 0) return 0;
    yd_plot_point *all = yd_malloc((size_t)n * sizeof *all);
    uint8_t *front = yd_malloc((size_t)n);
    int rc = all && front ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for %d points", n);
    if (rc == 0) {
        int used = 0, kept = 0;
        for (int i = 0; i < p->n; i++)
            for (int k = 0; k < p->series[i].n; k++) all[used++] = p->series[i].points[k];
        yd_plot_find_front(all, n, p->front, front);
        for (int i = 0; i < n; i++)
            if (front[i]) all[kept++] = all[i];
        sort_by_x(all, kept);
        for (int i = 1; i < kept; i++)
            pen->line(pen->user, place_x(v, all[i - 1].x), place_y(v, all[i - 1].y), place_x(v, all[i].x), place_y(v, all[i].y), 7, 0, FRONT);
        for (int i = 0; i < kept; i++) pen->disc(pen->user, place_x(v, all[i].x), place_y(v, all[i].y), RADIUS + RING, INK, NULL);
    }
    yd_free(front);
    yd_free(all);
    return rc;
}

static void draw_series(const view *v, const yd_plot_series *s, const yd_pen *pen)
{
    const uint32_t colour = colour_of(s);
    const yd_plot_point *last = NULL;
    for (int k = 0; k < s->n; k++) {
        const yd_plot_point *at = &s->points[k];
        if (!is_point(at)) continue;
        if (last) pen->line(pen->user, place_x(v, last->x), place_y(v, last->y), place_x(v, at->x), place_y(v, at->y), 1.6, 0, colour);
        last = at;
    }
    for (int k = 0; k < s->n; k++) {
        const yd_plot_point *at = &s->points[k];
        char note[192];
        if (!is_point(at)) continue;
        snprintf(note, sizeof note, "%s%s%s: %.6g, %.6g", s->name, at->label ? " " : "", at->label ? at->label : "", at->x, at->y);
        pen->disc(pen->user, place_x(v, at->x), place_y(v, at->y), RADIUS, colour, note);
    }
}

// --- labels

static int meet(const box *a, const box *b)
{
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

static int is_free(const view *v, const box *b)
{
    const yd_plot_panel *p = v->panel;
    if (b->x0 < v->frame.x0 || b->x1 > v->frame.x1 + RIGHT || b->y0 < v->frame.y0 - 4 || b->y1 > v->frame.y1) return 0;
    for (int i = 0; i < v->n_labels; i++)
        if (meet(b, &v->labels[i])) return 0;
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < p->series[i].n; k++) {
            const double x = place_x(v, p->series[i].points[k].x), y = place_y(v, p->series[i].points[k].y);
            const box mark = {x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS};
            if (meet(b, &mark)) return 0;
        }
    return 1;
}

static void draw_label(view *v, const yd_plot_series *s, const yd_plot_point *at, const yd_pen *pen)
{
    const double x = place_x(v, at->x), y = place_y(v, at->y), wide = YD_PEN_LETTER_W * (double)strlen(at->label), gap = RADIUS + 2;
    const box places[] = {
        {x + gap, y - YD_PEN_LETTER_H - 1, x + gap + wide, y - 1},
        {x - gap - wide, y + 1, x - gap, y + 1 + YD_PEN_LETTER_H},
        {x + gap, y + 2, x + gap + wide, y + 2 + YD_PEN_LETTER_H},
        {x - gap - wide, y - YD_PEN_LETTER_H - 1, x - gap, y - 1},
    };
    const box *chosen = &places[0];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (is_free(v, &places[i])) {
            chosen = &places[i];
            break;
        }
    v->labels[v->n_labels++] = *chosen;
    pen->text(pen->user, chosen->x0, chosen->y1, YD_PEN_LEFT, 0, colour_of(s), at->label);
}

static void draw_labels(view *v, const yd_pen *pen)
{
    const yd_plot_panel *p = v->panel;
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < p->series[i].n && v->n_labels < YD_PLOT_MAX_LABELS; k++) {
            const yd_plot_point *at = &p->series[i].points[k];
            if (is_point(at) && at->label && *at->label) draw_label(v, &p->series[i], at, pen);
        }
}

// --- the whole

static int columns_of(const yd_plot *p)
{
    return p->columns > 0 && p->columns < p->n ? p->columns : p->n;
}

// Height of what is above the frames of one line of panels.
static int head_height(const yd_plot *p, int line)
{
    const int columns = columns_of(p);
    int lines = 0;
    for (int i = line * columns; i < p->n && i < (line + 1) * columns; i++) {
        const int own = legend(&p->panels[i], 0, 0, NULL);
        if (own > lines) lines = own;
    }
    return TITLE_H + lines * LEGEND_H + 4;
}

int yd_plot_size(const yd_plot *p, int *w, int *h, yd_err *err)
{
    if (p->n < 1) return yd_fail(err, YD_E_INVALID, "a plot needs at least one panel");
    const int columns = columns_of(p), lines = (p->n + columns - 1) / columns;
    *w = columns * (LEFT + FRAME_W + RIGHT);
    *h = TOP;
    for (int i = 0; i < lines; i++) *h += head_height(p, i) + FRAME_H + BOTTOM;
    return 0;
}

static int draw_panel(view *v, int head, const yd_pen *pen, yd_err *err)
{
    const yd_plot_panel *p = v->panel;
    settle_axes(v);
    pen->text(pen->user, v->frame.x0, v->frame.y0 - head + 14, YD_PEN_LEFT, 1, INK, p->title);
    legend(p, v->frame.x0, v->frame.y0 - head + TITLE_H + 8, pen);
    draw_frame(v, pen);
    const int rc = draw_front(v, pen, err);
    if (rc < 0) return rc;
    if (level_is_drawn(p)) pen->line(pen->user, v->frame.x0, place_y(v, p->level), v->frame.x1, place_y(v, p->level), 1.2, 1, LEVEL);
    for (int i = 0; i < p->n; i++) draw_series(v, &p->series[i], pen);
    draw_labels(v, pen);
    return 0;
}

int yd_plot_draw(const yd_plot *p, const yd_pen *pen, yd_err *err)
{
    const int columns = columns_of(p);
    box *labels = yd_malloc(YD_PLOT_MAX_LABELS * sizeof *labels);
    if (!labels) return yd_fail(err, YD_E_NOMEM, "no memory for the labels of a plot");
    pen->text(pen->user, LEFT, 21, YD_PEN_LEFT, 1, INK, p->title);
    int rc = 0, head = 0, top = TOP;
    for (int i = 0; i < p->n && rc == 0; i++) {
        if (i > 0 && i % columns == 0) top += head + FRAME_H + BOTTOM;
        head = head_height(p, i / columns);
        const double x = i % columns * (LEFT + FRAME_W + RIGHT) + LEFT, y = top + head;
        view v = {.panel = &p->panels[i], .frame = {x, y, x + FRAME_W, y + FRAME_H}, .labels = labels};
        rc = draw_panel(&v, head, pen, err);
    }
    yd_free(labels);
    return rc;
}
