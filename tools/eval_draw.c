// The pictures an evaluation makes: the sheet, a strip per picture and row, and the curves. See eval.h.
#include "core/mem.h"
#include "core/output.h"
#include "tools/cli.h"
#include "tools/eval.h"
#include "tools/font.h"
#include "tools/plot.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ORIGINAL, BICUBIC, RESULT, DIFFERENCE, MAP, CELLS };

#define SIDE       96 // pixels of a place
#define ZOOM       2
#define CELL       (SIDE * ZOOM)
#define GAP        8
#define CAPTION_H  (2 * (YD_FONT_H + 3) + GAP)
#define STRIP_H    (CELL + CAPTION_H + GAP)
#define MAX_STRIPS 200
#define MAX_LINES  12 // of one panel that has a line for every row: with more nobody finds one
#define STRENGTH   3 // of differences

// --- sheet

typedef struct place {
    int x, y, w, h;
} place;

// The square of a half-overlapping grid where plain enlargement is furthest from the original.
static place busiest(const yd_eval_canvas *c)
{
    place best = {0, 0, c->w < SIDE ? c->w : SIDE, c->h < SIDE ? c->h : SIDE};
    long most = -1;
    for (int y = 0; y + best.h <= c->h; y += SIDE / 2)
        for (int x = 0; x + best.w <= c->w; x += SIDE / 2) {
            long sum = 0;
            for (int k = y; k < y + best.h; k++) {
                const size_t row = ((size_t)k * (size_t)c->w + (size_t)x) * 3;
                for (size_t i = row; i < row + (size_t)best.w * 3; i++) sum += labs((long)c->bicubic[i] - (long)c->hr[i]);
            }
            if (sum > most) most = sum, best.x = x, best.y = y;
        }
    return best;
}

static uint8_t clamp(int v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void pixel_of(const yd_eval_canvas *c, int kind, const uint8_t *rgb, const float *map, size_t at, uint8_t dst[3])
{
    for (size_t k = 0; k < 3; k++) switch (kind) {
        case ORIGINAL: dst[k] = c->hr[at * 3 + k]; break;
        case BICUBIC: dst[k] = c->bicubic[at * 3 + k]; break;
        case RESULT: dst[k] = rgb[at * 3 + k]; break;
        case DIFFERENCE: dst[k] = clamp(128 + STRENGTH * (rgb[at * 3 + k] - c->hr[at * 3 + k])); break;
        default: dst[k] = clamp((int)lroundf(map[at] * 255)); break;
        }
}

static int grow(yd_eval_sheet *s, yd_err *err)
{
    const int w = CELLS * (CELL + GAP) + GAP, h = s->h + STRIP_H;
    uint8_t *more = yd_realloc(s->rgb, (size_t)w * (size_t)h * 3);
    if (!more) return yd_fail(err, YD_E_NOMEM, "no memory for a sheet of %d x %d", w, h);
    memset(more + (size_t)w * (size_t)s->h * 3, 255, (size_t)w * STRIP_H * 3);
    *s = (yd_eval_sheet){more, w, h, s->strips + 1};
    return 0;
}

static void caption(const yd_eval_sheet *s, int top, const char *picture, const yd_eval_row *row, const double *v)
{
    static const uint8_t ink[3] = {40, 40, 40};
    char text[CELLS][96] = {"original", "", "", "difference x3", "attention"}, head[256];
    snprintf(head, sizeof head, "%.100s  %.100s", picture, row->name);
    const int lpips = isfinite(v[YD_EVAL_LPIPS]);
    snprintf(text[BICUBIC], sizeof text[0], "bicubic %.2f dB", v[YD_EVAL_BICUBIC_PSNR]);
    snprintf(text[RESULT], sizeof text[0], "%s %.2f dB", row->method == YD_EVAL_DIFFUSION ? "yoda" : "result", v[YD_EVAL_PSNR]);
    for (int i = BICUBIC; i <= RESULT && lpips; i++) {
        const size_t used = strlen(text[i]);
        snprintf(text[i] + used, sizeof text[i] - used, " %.4f", v[i == BICUBIC ? YD_EVAL_BICUBIC_LPIPS : YD_EVAL_LPIPS]);
    }
    yd_font_draw(s->rgb, s->w, s->h, GAP, top + GAP, 1, ink, head);
    for (int i = 0; i < CELLS; i++) yd_font_draw(s->rgb, s->w, s->h, GAP + i * (CELL + GAP), top + GAP + YD_FONT_H + 3, 1, ink, text[i]);
}

int yd_eval_sheet_add(yd_eval *e, const char *picture, const yd_eval_row *row, const yd_eval_figures *f, const yd_eval_canvas *c,
                      const uint8_t *rgb, const float *map, yd_err *err)
{
    yd_eval_sheet *s = &e->sheet;
    if (s->strips == MAX_STRIPS) return 0;
    const int top = s->h;
    int rc = grow(s, err);
    if (rc < 0) return rc;
    const place at = busiest(c);
    caption(s, top, picture, row, f->v);
    for (int i = 0; i < CELLS; i++)
        for (int y = 0; y < at.h * ZOOM; y++)
            for (int x = 0; x < at.w * ZOOM; x++) {
                const size_t to = (size_t)(top + CAPTION_H + y) * (size_t)s->w + (size_t)(GAP + i * (CELL + GAP) + x);
                pixel_of(c, i, rgb, map, (size_t)(at.y + y / ZOOM) * (size_t)c->w + (size_t)(at.x + x / ZOOM), s->rgb + to * 3);
            }
    return 0;
}

static int write_rgb(const char *path, int w, int h, const uint8_t *rgb, yd_err *err)
{
    yd_image im = {0};
    int rc = yd_image_from_rgb8(&im, w, h, rgb, NULL, err);
    if (rc == 0) rc = yd_cli_write_image(path, &im, YD_RESULT_JPEG_QUALITY, err);
    yd_image_clear(&im);
    return rc;
}

int yd_eval_sheet_write(const yd_eval *e, const char *path, yd_err *err)
{
    const int wanted = e->n_measured * e->n_rows;
    if (wanted > MAX_STRIPS) fprintf(stderr, "yoda eval: %s: shows the first %d of %d results\n", path, MAX_STRIPS, wanted);
    return write_rgb(path, e->sheet.w, e->sheet.h, e->sheet.rgb, err);
}

// --- curves

typedef struct curves {
    yd_plot_panel panel[4];
    yd_plot_series series[4][YD_EVAL_MAX_ROWS + 1];
    yd_plot_point *points, *next; // room for all of them
    int n;
} curves;

static int ends_with(const char *path, const char *ending)
{
    const size_t n = strlen(path), k = strlen(ending);
    return n > k && strcasecmp(path + n - k, ending) == 0;
}

int yd_eval_curves_check(const char *path, yd_err *err)
{
    if (ends_with(path, ".svg") || ends_with(path, ".png")) return 0;
    return yd_fail_field(err, YD_E_SETTING, "curves", ".svg, .png", "%s: the file name's extension names no format of curves", path);
}

static yd_plot_panel *add_panel(curves *c, const char *title, const char *x_label)
{
    yd_plot_panel *p = &c->panel[c->n];
    *p = (yd_plot_panel){.title = title, .x_label = x_label, .series = c->series[c->n], .level = NAN, .level_name = "bicubic"};
    c->n++;
    return p;
}

static yd_plot_series *add_series(curves *c, yd_plot_panel *p, const char *name)
{
    yd_plot_series *s = &c->series[p - c->panel][p->n];
    *s = (yd_plot_series){.name = name, .colour = p->n % (YD_PLOT_COLOURS - 1), .points = c->next};
    p->n++;
    return s;
}

static void add_point(curves *c, yd_plot_series *s, double x, double y, const char *label)
{
    *c->next++ = (yd_plot_point){x, y, label};
    s->n++;
}

// One figure against executed work: rows of one group are one line.
static void add_frontier(curves *c, const yd_eval *e, yd_eval_figure figure, double level, const char *title, yd_plot_front front)
{
    yd_plot_panel *p = add_panel(c, title, "executed work: network pixels x steps / pixels");
    p->front = front;
    p->level = level;
    p->x_from_zero = 1;
    yd_plot_series *s = NULL;
    for (int r = 0; r < e->n_rows; r++) {
        const yd_eval_row *row = &e->rows[r];
        if (!s || strcmp(e->rows[r - 1].group, row->group) != 0) s = add_series(c, p, row->group[0] ? row->group : "sweep");
        add_point(c, s, row->method == YD_EVAL_BICUBIC ? 0 : row->mean.v[YD_EVAL_WORK], row->mean.v[figure], row->label);
    }
}

static void add_shares(curves *c, const yd_eval *e)
{
    yd_plot_panel *p = add_panel(c, "Diffused pixels per step", "step, from the noisiest / all");
    p->x_from_zero = p->y_from_zero = 1;
    for (int r = 0; r < e->n_rows; r++) {
        const yd_eval_row *row = &e->rows[r];
        if (!row->share) continue;
        yd_plot_series *s = add_series(c, p, row->name);
        for (int k = 0; k < row->set.steps; k++) add_point(c, s, (k + 1.0) / row->set.steps, row->share[k], NULL);
    }
}

static void add_bin_line(curves *c, yd_plot_panel *p, const char *name, const yd_eval_bin *bins, int n)
{
    yd_plot_series *s = add_series(c, p, name);
    for (int i = 0; i < n; i++)
        if (bins[i].pictures) add_point(c, s, (bins[i].from + bins[i].to) / 2, bins[i].sum / bins[i].pictures, NULL);
}

static void add_bins(curves *c, const yd_eval *e)
{
    yd_plot_panel *p = add_panel(c, "LPIPS per attention (less is better)", "attention");
    for (int r = 0; r < e->n_rows; r++) add_bin_line(c, p, e->rows[r].name, e->rows[r].bins, e->n_bins);
    add_bin_line(c, p, "bicubic", e->bicubic_bins, e->n_bins);
    c->series[p - c->panel][p->n - 1].colour = YD_PLOT_COLOURS - 1;
}

static size_t count_points(const yd_eval *e)
{
    size_t n = (size_t)e->n_rows * 2 + (size_t)e->n_bins * ((size_t)e->n_rows + 1);
    for (int r = 0; r < e->n_rows; r++) n += e->rows[r].share ? (size_t)e->rows[r].set.steps : 0;
    return n;
}

static int write_plot(const yd_plot *plot, const char *path, yd_err *err)
{
    int w, h, rc;
    if (ends_with(path, ".svg")) {
        char *svg;
        size_t len;
        rc = yd_plot_svg(plot, &svg, &len, err);
        if (rc < 0) return rc;
        rc = yd_file_write_atomic(path, svg, len, err);
        free(svg);
        return rc;
    }
    uint8_t *rgb;
    rc = yd_plot_rgb(plot, &rgb, &w, &h, err);
    if (rc < 0) return rc;
    rc = write_rgb(path, w, h, rgb, err);
    yd_free(rgb);
    return rc;
}

int yd_eval_curves_write(const yd_eval *e, const char *path, yd_err *err)
{
    const double *mean = e->rows[0].mean.v;
    char title[256];
    int diffused = 0;
    for (int r = 0; r < e->n_rows; r++) diffused += e->rows[r].method == YD_EVAL_DIFFUSION;
    if (!diffused && !e->n_bins)
        return yd_fail_field(err, YD_E_SETTING, "curves", "rows that diffuse, or --bins", "there is nothing to draw curves of");
    curves *c = yd_calloc(1, sizeof *c);
    if (c) c->points = c->next = yd_malloc((count_points(e) + 1) * sizeof *c->points);
    int rc = c && c->points ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for curves");
    if (rc == 0) {
        if (diffused && e->lpips)
            add_frontier(c, e, YD_EVAL_LPIPS, mean[YD_EVAL_BICUBIC_LPIPS], "LPIPS (less is better)", YD_PLOT_LESS_IS_BETTER);
        if (diffused) add_frontier(c, e, YD_EVAL_PSNR, mean[YD_EVAL_BICUBIC_PSNR], "PSNR, dB (more is better)", YD_PLOT_MORE_IS_BETTER);
        if (diffused && diffused <= MAX_LINES) add_shares(c, e);
        if (e->n_bins) add_bins(c, e);
        snprintf(title, sizeof title, "%s, %d pictures, %dx, %s", e->has_model ? e->session.model->cfg.name : "results as given", e->n_measured,
                 e->scale, e->args->degrade);
        const yd_plot plot = {.title = title, .panels = c->panel, .n = c->n, .columns = 2};
        rc = write_plot(&plot, path, err);
    }
    if (c) yd_free(c->points);
    yd_free(c);
    return rc;
}
