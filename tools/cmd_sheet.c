// yoda sheet: what diffusion buys on one large picture, side by side: nearest | bicubic | yoda | original, the busiest places enlarged.
//
// The original is cut to a multiple of the scale and shrunk by Pillow's bicubic, which is what the models were made for; all three
// enlargements start from that. PSNR and SSIM are of the whole picture but a border of `scale` pixels,
// not of the places shown.
// Read next: tools/cmd_upscale.c
#include "core/mem.h"
#include "core/metrics.h"
#include "core/resize.h"
#include "core/upscale.h"
#include "tools/args.h"
#include "tools/cli.h"
#include "tools/font.h"
#include "tools/progress.h"
#include "tools/sampling.h"
#include "tools/session.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NEAREST, BICUBIC, YODA, ORIGINAL, PANELS };

#define GAP          8
#define CAPTION_ZOOM 2
#define CAPTION_H    (YD_FONT_H * CAPTION_ZOOM + 2 * GAP)
#define MAX_ROWS     8

typedef struct sheet_args {
    const char *in, *out;
    yd_session_options session;
    yd_sampling_args sampling;
    long scale, rows, crop, zoom;
    int quiet;
} sheet_args;

typedef struct spot {
    int x, y;
} spot;

typedef struct canvas {
    int w, h;
    uint8_t *rgb;
} canvas;

typedef struct pictures {
    int w, h;               // of all panels
    yd_image original;      // decoded
    uint8_t *low;           // w/scale * h/scale * 3
    uint8_t *panel[PANELS]; // w*h*3
    double psnr[PANELS], ssim[PANELS];
    int steps;
    double seconds, share;
} pictures;

static void pictures_clear(pictures *p)
{
    yd_image_clear(&p->original);
    yd_free(p->low);
    for (int i = 0; i < PANELS; i++) yd_free(p->panel[i]);
}

static void cut(const yd_image *im, uint8_t *dst, int w, int h)
{
    for (int y = 0; y < h; y++)
        for (int i = 0; i < w * 3; i++)
            dst[(size_t)y * (size_t)w * 3 + (size_t)i] = yd_narrow(im->rgb[(size_t)y * (size_t)im->w * 3 + (size_t)i]);
}

static void enlarge_nearest(const uint8_t *src, int sw, int scale, uint8_t *dst, int w, int h)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            memcpy(dst + ((size_t)y * (size_t)w + (size_t)x) * 3,
                   src + ((size_t)(y / scale) * (size_t)sw + (size_t)(x / scale)) * 3, 3);
}

// Original -> low resolution -> nearest and bicubic.
static int make_plain_panels(pictures *p, int scale, yd_err *err)
{
    p->w = p->original.w / scale * scale;
    p->h = p->original.h / scale * scale;
    int lw = p->w / scale, lh = p->h / scale;
    if (lw < 16 || lh < 16)
        return yd_fail(err, YD_E_IMAGE_TOO_SMALL, "%d x %d pixels are too few (accepted: at least %d a side)",
                       p->original.w, p->original.h, 16 * scale);
    size_t bytes = (size_t)p->w * (size_t)p->h * 3;
    p->low = yd_malloc((size_t)lw * (size_t)lh * 3);
    for (int i = 0; i < PANELS; i++) p->panel[i] = yd_malloc(bytes);
    if (!p->low || !p->panel[NEAREST] || !p->panel[BICUBIC] || !p->panel[YODA] || !p->panel[ORIGINAL])
        return yd_fail(err, YD_E_NOMEM, "no memory for four pictures of %d x %d", p->w, p->h);
    cut(&p->original, p->panel[ORIGINAL], p->w, p->h);
    int rc = yd_resize_bicubic_u8(p->panel[ORIGINAL], p->w, p->h, 3, p->low, lw, lh, err);
    if (rc == 0) rc = yd_resize_bicubic_u8(p->low, lw, lh, 3, p->panel[BICUBIC], p->w, p->h, err);
    if (rc == 0) enlarge_nearest(p->low, lw, scale, p->panel[NEAREST], p->w, p->h);
    return rc;
}

typedef struct sampling_progress {
    yd_progress bar;
    long units;
} sampling_progress;

static void on_unit(void *user, long done)
{
    sampling_progress *p = user;
    yd_progress_show(&p->bar, (double)done / (double)p->units, "window %ld of %ld", done, p->units);
}

static int make_yoda_panel(pictures *p, const sheet_args *a, yd_session *s, yd_err *err)
{
    yd_image low = {0};
    yd_sample_settings set;
    yd_prepared job = {0};
    yd_image result = {0};
    yd_work work;
    sampling_progress progress;
    int rc = yd_sampling_apply(&a->sampling, &s->model->cfg, &set, err);
    if (rc == 0) rc = yd_image_from_rgb8(&low, p->w / (int)a->scale, p->h / (int)a->scale, p->low, NULL, err);
    if (rc == 0) rc = yd_prepare(&s->model->cfg, &set, NULL, &low, &job, err);
    if (rc < 0) goto out;
    yd_sampler_work(job.sampler, &work);
    p->steps = work.steps;
    p->share = work.pixel_share;
    progress.units = work.units;
    yd_session_watch watch = {.unit = on_unit, .user = &progress};
    yd_progress_start(&progress.bar, a->quiet);
    rc = yd_session_run(s, job.sampler, &watch, err);
    yd_progress_end(&progress.bar);
    p->seconds = yd_progress_elapsed_s(&progress.bar);
    if (rc == 0) rc = yd_finish(&job, &result, err);
    if (rc == 0) yd_image_rgb8(&result, p->panel[YODA]);
out:
    yd_image_clear(&result);
    yd_image_clear(&low);
    yd_prepared_clear(&job);
    return rc;
}

static int measure(pictures *p, int scale, yd_err *err)
{
    for (int i = 0; i < ORIGINAL; i++) {
        p->psnr[i] = yd_psnr_rgb(p->panel[i], p->panel[ORIGINAL], p->w, p->h, scale);
        int rc = yd_ssim_rgb(p->panel[i], p->panel[ORIGINAL], p->w, p->h, scale, &p->ssim[i], err);
        if (rc < 0) return rc;
    }
    return 0;
}

// How much bicubic enlargement loses in a square: that is where a comparison is worth looking at.
static long loss_at(const pictures *p, spot at, int side)
{
    long sum = 0;
    for (int y = at.y; y < at.y + side; y++) {
        size_t row = ((size_t)y * (size_t)p->w + (size_t)at.x) * 3;
        for (size_t i = row; i < row + (size_t)side * 3; i++)
            sum += labs((long)p->panel[BICUBIC][i] - (long)p->panel[ORIGINAL][i]);
    }
    return sum;
}

static int overlaps(const spot *taken, int n, spot at, int side)
{
    for (int i = 0; i < n; i++)
        if (abs(taken[i].x - at.x) < side && abs(taken[i].y - at.y) < side) return 1;
    return 0;
}

// The squares of a half-overlapping grid where most was lost, disjoint. Returns how many were found, at most `rows`.
static int choose_spots(const pictures *p, int side, int rows, spot *spots)
{
    int n = 0;
    for (; n < rows; n++) {
        long best = -1;
        for (int y = 0; y + side <= p->h; y += side / 2)
            for (int x = 0; x + side <= p->w; x += side / 2) {
                spot at = {x, y};
                if (overlaps(spots, n, at, side)) continue;
                long loss = loss_at(p, at, side);
                if (loss > best) best = loss, spots[n] = at;
            }
        if (best < 0) break;
    }
    return n;
}

static void paint(const uint8_t *src, int sw, spot at, int side, int zoom, const canvas *sheet, int left, int top)
{
    for (int y = 0; y < side * zoom; y++)
        for (int x = 0; x < side * zoom; x++)
            memcpy(sheet->rgb + ((size_t)(top + y) * (size_t)sheet->w + (size_t)(left + x)) * 3,
                   src + ((size_t)(at.y + y / zoom) * (size_t)sw + (size_t)(at.x + x / zoom)) * 3, 3);
}

static void caption(const pictures *p, int panel, char *dst, size_t cap)
{
    static const char *const names[PANELS] = {"nearest", "bicubic", "yoda", "original"};
    if (panel == ORIGINAL)
        snprintf(dst, cap, "%s", names[panel]);
    else
        snprintf(dst, cap, "%s %.2f dB %.3f", names[panel], p->psnr[panel], p->ssim[panel]);
}

static int draw_sheet(const pictures *p, const sheet_args *a, canvas *sheet, yd_err *err)
{
    static const uint8_t ink[3] = {40, 40, 40};
    int side = (int)a->crop, zoom = (int)a->zoom;
    if (side > p->w) side = p->w;
    if (side > p->h) side = p->h;
    int cell = side * zoom;
    spot spots[MAX_ROWS];
    int rows = choose_spots(p, side, (int)a->rows, spots);
    sheet->w = PANELS * (cell + GAP) + GAP;
    sheet->h = rows * (cell + GAP) + CAPTION_H;
    sheet->rgb = yd_malloc((size_t)sheet->w * (size_t)sheet->h * 3);
    if (!sheet->rgb) return yd_fail(err, YD_E_NOMEM, "no memory for a sheet of %d x %d", sheet->w, sheet->h);
    memset(sheet->rgb, 255, (size_t)sheet->w * (size_t)sheet->h * 3);
    char text[PANELS][64];
    int letters = CAPTION_ZOOM; // narrow panels get small ones
    for (int i = 0; i < PANELS; i++) {
        caption(p, i, text[i], sizeof text[i]);
        if ((int)strlen(text[i]) * YD_FONT_W * CAPTION_ZOOM > cell) letters = 1;
    }
    for (int i = 0; i < PANELS; i++) {
        int left = GAP + i * (cell + GAP);
        yd_font_draw(sheet->rgb, sheet->w, sheet->h, left, GAP, letters, ink, text[i]);
        for (int r = 0; r < rows; r++)
            paint(p->panel[i], p->w, spots[r], side, zoom, sheet, left, CAPTION_H + r * (cell + GAP));
    }
    return 0;
}

static int run(const sheet_args *a, const char **subject, yd_err *err)
{
    pictures p = {0};
    yd_session s = {0};
    canvas sheet = {0};
    yd_image written = {0};
    yd_image_format format;
    *subject = a->out;
    int rc = yd_cli_image_format(a->out, &format, err); // before the work, not after it
    if (rc < 0) return rc;
    *subject = a->in;
    rc = yd_cli_read_image(a->in, &p.original, err);
    if (rc == 0) rc = make_plain_panels(&p, (int)a->scale, err);
    if (rc < 0) goto out;
    *subject = a->session.model;
    rc = yd_session_open(&a->session, &s, err);
    if (rc == 0 && s.model->cfg.scale != a->scale)
        rc = yd_fail(err, YD_E_SETTING, "the model enlarges %dx, not %ldx", s.model->cfg.scale, a->scale);
    if (rc < 0) goto out;
    *subject = a->in;
    rc = make_yoda_panel(&p, a, &s, err);
    if (rc == 0) rc = measure(&p, (int)a->scale, err);
    *subject = a->out;
    if (rc == 0) rc = draw_sheet(&p, a, &sheet, err);
    if (rc == 0) rc = yd_image_from_rgb8(&written, sheet.w, sheet.h, sheet.rgb, NULL, err);
    if (rc == 0) rc = yd_cli_write_image(a->out, &written, 92, err);
    if (rc == 0)
        printf("%s: bicubic PSNR %.3f SSIM %.4f, yoda PSNR %.3f SSIM %.4f, %d steps, %.1f%% diffused, %.2f s\n", a->out,
               p.psnr[BICUBIC], p.ssim[BICUBIC], p.psnr[YODA], p.ssim[YODA], p.steps, p.share * 100, p.seconds);
out:
    yd_image_clear(&written);
    yd_free(sheet.rgb);
    yd_session_close(&s);
    pictures_clear(&p);
    return rc;
}

int yd_cmd_sheet(int argc, char **argv)
{
    static const yd_usage usage = {"sheet",
                                   "IN OUT",
                                   2,
                                   0,
                                   "shrink a picture, enlarge it again, and show what came back",
                                   "  yoda sheet photo.png sheet.png\n"
                                   "  yoda sheet photo.png sheet.png --rows 3 --crop 96 --zoom 3 --steps 12\n"};
    sheet_args a = {.session = YD_SESSION_DEFAULTS, .scale = 4, .rows = 2, .crop = 128, .zoom = 2};
    const yd_arg args[] = {
        {"scale", 0, YD_ARG_LONG, &a.scale, 2, 16, "N", "shrink by this (default 4; the model's own scale)"},
        {"rows", 0, YD_ARG_LONG, &a.rows, 1, MAX_ROWS, "N", "places to show (default 2)"},
        {"crop", 0, YD_ARG_LONG, &a.crop, 16, 1024, "PX", "side of a place (default 128)"},
        {"zoom", 0, YD_ARG_LONG, &a.zoom, 1, 8, "N", "enlarge places by this (default 2)"},
        YD_MODEL_ARG(&a.session),
        YD_SAMPLING_ARGS(&a.sampling),
        YD_WINDOW_ARGS(&a.session),
        YD_DEVICE_ARGS(&a.session),
        {"quiet", 'q', YD_ARG_FLAG, &a.quiet, 0, 0, NULL, "no progress"},
    };
    const char *operands[2];
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, operands);
    if (status != YD_ARGS_GO_ON) return status;
    a.in = operands[0];
    a.out = operands[1];
    yd_err err;
    yd_err_clear(&err);
    const char *subject = NULL;
    return run(&a, &subject, &err) < 0 ? yd_cli_fail("sheet", subject, &err) : 0;
}
