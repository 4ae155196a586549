// yoda work: how much of the diffusion a mask leaves to do, counted in pixels and in windows, without running any of it.
//
// The activation steps of a picture fix its whole schedule (core/mask.h), so the units of a job are known from its map and its windows
// alone. For a set of pictures this prints the mean of executed / all pixel-steps, and of executed / all window-steps for each size of
// window, over attention maps, mask forms and lower bounds. A pixel-step is what the paper counts; a window-step is what a
// network can be spared. The allocation `windows` levels the steps over each layout's windows, so that both depend on the layout.
// Read next: core/windows.h, core/mask.h, docs/attention-work.md
#include "core/attention.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/upscale.h"
#include "core/windows.h"
#include "tools/args.h"
#include "tools/cli.h"
#include "tools/session.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PICTURES 1024
#define MAX_LIST     16
#define MAX_SIDE     65535

typedef struct shape {
    int window, overlap;
    double unit_ms; // what one window-step takes here, 0 when not measured
} shape;

typedef struct count {
    double units, units_all; // window-steps, sums over the pictures
    double share;            // executed / all, sum of each picture's
    double pixels;           // executed / all pixel-steps, likewise
    double read;             // pixels that go through the network when nothing is skipped / pixels of the picture, likewise
} count;

typedef struct cell { // of one map, form and bound
    double pixels;    // the share of pixel-steps that the map asks for, sum of each picture's
    count by[MAX_LIST];
} cell;

typedef struct survey {
    yd_model *model;
    yd_model_config cfg; // its config
    yd_cli_attention attention;
    yd_allocation allocation;
    int steps, shrink, n_maps, n_forms, n_bounds, n_shapes, n_pictures;
    char map[MAX_LIST][64]; // attention by name
    yd_mask_form form[2];
    double bound[MAX_LIST];
    shape shape[MAX_LIST];
    cell *cells; // [map][form][bound]
} survey;

typedef struct canvas { // one picture on the upsampled grid
    int w, h;
    uint8_t *up;
    float *map;
    uint16_t *a;       // steps of every pixel, as the map has them
    uint16_t *levelled; // the same as a layout's windows level them
} canvas;

static cell *cell_at(const survey *s, int map, int form, int bound)
{
    return &s->cells[(map * s->n_forms + form) * s->n_bounds + bound];
}

static void canvas_clear(canvas *c)
{
    yd_free(c->up);
    yd_free(c->map);
    yd_free(c->a);
    yd_free(c->levelled);
}

// The picture as the model is given it, in bytes: as it is, or shrunk first.
static int low_picture(const survey *s, const yd_image *in, uint8_t **low, int *w, int *h, yd_err *err)
{
    uint8_t *whole = yd_malloc((size_t)in->w * (size_t)in->h * 3);
    *w = in->w;
    *h = in->h;
    *low = whole;
    if (!whole) return yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", in->w, in->h);
    yd_image_rgb8(in, whole);
    if (!s->shrink) return 0;
    *w = in->w / s->cfg.scale; // at least 1: pictures have 16 pixels a side or more, scales are 16 or less
    *h = in->h / s->cfg.scale;
    *low = yd_malloc((size_t)*w * (size_t)*h * 3);
    int rc = *low ? yd_resize_bicubic_u8(whole, in->w, in->h, 3, *low, *w, *h, err)
                  : yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", *w, *h);
    yd_free(whole);
    return rc;
}

static int canvas_make(const survey *s, const yd_image *in, canvas *c, yd_err *err)
{
    uint8_t *low;
    int w, h;
    int rc = low_picture(s, in, &low, &w, &h, err);
    if (rc == 0 && (w > MAX_SIDE / s->cfg.scale || h > MAX_SIDE / s->cfg.scale))
        rc = yd_fail(err, YD_E_IMAGE_TOO_LARGE, "%d x %d pixels times %d: no side may pass %d", w, h, s->cfg.scale, MAX_SIDE);
    if (rc < 0) goto out;
    c->w = w * s->cfg.scale;
    c->h = h * s->cfg.scale;
    const size_t px = (size_t)c->w * (size_t)c->h;
    c->up = yd_malloc(px * 3);
    c->map = yd_malloc(px * sizeof *c->map);
    c->a = yd_malloc(px * sizeof *c->a);
    c->levelled = yd_malloc(px * sizeof *c->levelled);
    if (!c->up || !c->map || !c->a || !c->levelled) rc = yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", c->w, c->h);
    else rc = yd_resize_bicubic_u8(low, w, h, 3, c->up, c->w, c->h, err);
out:
    yd_free(low);
    return rc;
}

// The steps of every pixel in this layout, as the sampler allocates them; max: room for one value per window.
static const uint16_t *allocate(const survey *s, const canvas *c, const yd_windows *ws, uint16_t *max)
{
    if (s->allocation != YD_ALLOCATION_WINDOWS) return c->a;
    memcpy(c->levelled, c->a, (size_t)c->w * (size_t)c->h * sizeof *c->a);
    yd_windows_level(ws, c->levelled, max);
    return c->levelled;
}

// Add the window-steps that the canvas's steps need.
static int count_windows(const survey *s, const canvas *c, const shape *sh, count *sum, yd_err *err)
{
    yd_windows ws;
    uint16_t *max = NULL;
    int rc = yd_windows_make(c->w, c->h, sh->window, sh->window, sh->overlap, &ws, err);
    const int n = rc == 0 ? yd_windows_count(&ws) : 0;
    if (rc == 0) max = yd_malloc((size_t)n * sizeof *max);
    if (rc == 0 && !max) rc = yd_fail(err, YD_E_NOMEM, "no memory for %d windows", n);
    if (rc == 0) {
        long units = 0;
        const uint16_t *a = allocate(s, c, &ws, max);
        yd_windows_max(&ws, a, max);
        for (int i = 0; i < n; i++) units += max[i];
        const double all = (double)n * s->steps;
        sum->units += (double)units;
        sum->units_all += all;
        sum->share += (double)units / all;
        sum->pixels += yd_mask_share(a, (long)c->w * c->h, s->steps);
        sum->read += (double)n * sh->window * sh->window / ((double)c->w * c->h);
    }
    yd_free(max);
    yd_windows_clear(&ws);
    return rc;
}

static int count_canvas(const survey *s, canvas *c, yd_err *err)
{
    const long px = (long)c->w * c->h;
    const yd_attention_with with = {s->cfg.map_net, s->cfg.nets};
    int rc = 0;
    for (int m = 0; m < s->n_maps; m++) {
        rc = yd_attention_compute(s->map[m], &with, c->up, c->w, c->h, c->map, err);
        for (int k = 0; k < s->n_forms * s->n_bounds && rc == 0; k++) {
            const int form = k / s->n_bounds, bound = k % s->n_bounds;
            cell *at = cell_at(s, m, form, bound);
            yd_mask_activation(c->map, px, s->steps, s->bound[bound], s->form[form], c->a);
            at->pixels += yd_mask_share(c->a, px, s->steps);
            for (int i = 0; i < s->n_shapes && rc == 0; i++) rc = count_windows(s, c, &s->shape[i], &at->by[i], err);
        }
        if (rc < 0) break;
    }
    return rc;
}

static int count_picture(const survey *s, const char *path, yd_err *err)
{
    yd_image in = {0};
    canvas c = {0};
    int rc = yd_cli_read_image(path, &in, err);
    if (rc == 0) rc = canvas_make(s, &in, &c, err);
    yd_image_clear(&in);
    if (rc == 0) rc = count_canvas(s, &c, err);
    canvas_clear(&c);
    return rc;
}

// --- the options that are lists

// The next item of a comma-separated list: 1, 0 at its end, or a failure.
static int next_item(const char **at, char *dst, size_t cap, const char *option, yd_err *err)
{
    if (!*at) return 0;
    const char *comma = strchr(*at, ',');
    const size_t len = comma ? (size_t)(comma - *at) : strlen(*at);
    if (len == 0 || len >= cap)
        return yd_fail_field(err, YD_E_SETTING, option, "items with commas between", "--%s %.40s has an empty or overlong item", option, *at);
    memcpy(dst, *at, len);
    dst[len] = 0;
    *at = comma ? comma + 1 : NULL;
    return 1;
}

static int too_many(const char *option, yd_err *err)
{
    return yd_fail_field(err, YD_E_SETTING, option, "at most 16 items", "--%s has more items than that", option);
}

static int read_maps(survey *s, const char *list, yd_err *err)
{
    const yd_attention_with with = {s->cfg.map_net, s->cfg.nets};
    char item[64];
    int rc = 0;
    if (!list) {
        size_t n;
        const yd_attention_method *all = yd_attention_methods(&n);
        for (size_t i = 0; i < n && i < MAX_LIST; i++)
            if (all[i].compute || s->cfg.map_net) snprintf(s->map[s->n_maps++], sizeof *s->map, "%s", all[i].name);
        return 0;
    }
    while ((rc = next_item(&list, item, sizeof item, "maps", err)) > 0) {
        if (s->n_maps == MAX_LIST) return too_many("maps", err);
        if ((rc = yd_attention_available(item, &with, err)) < 0) return rc;
        memcpy(s->map[s->n_maps++], item, sizeof item);
    }
    return rc;
}

static int read_forms(survey *s, const char *list, yd_err *err)
{
    char item[64];
    int rc;
    yd_sample_settings set = s->cfg.defaults;
    while ((rc = next_item(&list, item, sizeof item, "forms", err)) > 0) {
        if (s->n_forms == 2) return yd_fail_field(err, YD_E_SETTING, "forms", "add, max", "--forms has more than two items");
        if ((rc = yd_setting_set(&set, "mask_form", item, err)) < 0) return rc;
        s->form[s->n_forms++] = set.mask_form;
    }
    return rc;
}

static int read_bounds(survey *s, const char *list, yd_err *err)
{
    char item[64];
    int rc;
    yd_sample_settings set = s->cfg.defaults;
    while ((rc = next_item(&list, item, sizeof item, "bounds", err)) > 0) {
        if (s->n_bounds == MAX_LIST) return too_many("bounds", err);
        if ((rc = yd_setting_set(&set, "lower_bound", item, err)) < 0) return rc;
        s->bound[s->n_bounds++] = set.lower_bound;
    }
    return rc;
}

// "64" or "64/8": a window, and its overlap where it is not --overlap's.
static int read_shapes(survey *s, const char *list, long overlap, yd_err *err)
{
    char item[64];
    int rc;
    while ((rc = next_item(&list, item, sizeof item, "windows", err)) > 0) {
        if (s->n_shapes == MAX_LIST) return too_many("windows", err);
        char *end;
        yd_model_config cfg = s->cfg;
        long window = strtol(item, &end, 10), own = overlap;
        int bad = end == item || window < 1 || window > MAX_SIDE;
        if (!bad && *end == '/') {
            const char *text = end + 1;
            own = strtol(text, &end, 10);
            bad = end == text || own < 0 || own > MAX_SIDE;
        }
        if (bad || *end)
            return yd_fail_field(err, YD_E_SETTING, "windows", "sizes such as 64, or with an overlap 64/8", "--windows: %s is not taken", item);
        if ((rc = yd_model_config_windows(&cfg, (int)window, (int)own, err)) < 0) return rc;
        s->shape[s->n_shapes++] = (shape){.window = cfg.window, .overlap = cfg.overlap};
    }
    return rc;
}

// --- what is printed

static const char *const allocation_name[] = {[YD_ALLOCATION_LATE] = "late", [YD_ALLOCATION_STRIDED] = "strided", [YD_ALLOCATION_WINDOWS] = "windows"};

static double per_picture_s(const survey *s, const shape *sh, double units)
{
    return units / s->n_pictures * sh->unit_ms * 1e-3;
}

static void print_csv(const survey *s, int timed)
{
    printf("map,form,bound,allocation,steps,pictures,pixel_share,window,overlap,units,units_all,window_share,read%s\n",
           timed ? ",unit_ms,seconds,seconds_all" : "");
    for (int k = 0; k < s->n_maps * s->n_forms * s->n_bounds; k++) {
        const cell *at = &s->cells[k];
        const int bound = k % s->n_bounds, form = k / s->n_bounds % s->n_forms, map = k / s->n_bounds / s->n_forms;
        for (int i = 0; i < s->n_shapes; i++) {
            const shape *sh = &s->shape[i];
            printf("%s,%s,%g,%s,%d,%d,%.6f,%d,%d,%.0f,%.0f,%.6f,%.6f", s->map[map], s->form[form] == YD_MASK_MAX ? "max" : "add",
                   s->bound[bound], allocation_name[s->allocation], s->steps, s->n_pictures, at->by[i].pixels / s->n_pictures, sh->window, sh->overlap, at->by[i].units,
                   at->by[i].units_all, at->by[i].share / s->n_pictures, at->by[i].read / s->n_pictures);
            if (timed)
                printf(",%.4f,%.4f,%.4f", sh->unit_ms, per_picture_s(s, sh, at->by[i].units), per_picture_s(s, sh, at->by[i].units_all));
            putchar('\n');
        }
    }
}

static void print_shapes(const survey *s)
{
    for (int i = 0; i < s->n_shapes; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d/%d", s->shape[i].window, s->shape[i].overlap);
        printf(" %8s", name);
    }
}

static void print_map(const survey *s, int map, int timed)
{
    printf("\n%s\n  form bound   pixels", s->map[map]);
    print_shapes(s);
    putchar('\n');
    for (int k = 0; k < s->n_forms * s->n_bounds; k++) {
        const int form = k / s->n_bounds, bound = k % s->n_bounds;
        const cell *at = cell_at(s, map, form, bound);
        printf("  %-4s %5g %8.3f", s->form[form] == YD_MASK_MAX ? "max" : "add", s->bound[bound], at->pixels / s->n_pictures);
        for (int i = 0; i < s->n_shapes; i++) printf(" %8.3f", at->by[i].share / s->n_pictures);
        putchar('\n');
        if (!timed) continue;
        printf("  %19s", "s");
        for (int i = 0; i < s->n_shapes; i++) printf(" %8.2f", per_picture_s(s, &s->shape[i], at->by[i].units));
        putchar('\n');
    }
}

static void print_tables(const survey *s, int timed)
{
    printf("executed / all steps, mean of %d picture%s: %s, %dx, %d steps, allocation %s\n", s->n_pictures,
           s->n_pictures == 1 ? "" : "s", s->cfg.name, s->cfg.scale, s->steps, allocation_name[s->allocation]);
    printf("pixels: pixel-steps%s; window/overlap: window-steps%s\n",
           s->allocation == YD_ALLOCATION_WINDOWS ? " before levelling" : "", timed ? "; s: seconds a picture, units x the time of one here" : "");
    for (int m = 0; m < s->n_maps; m++) print_map(s, m, timed);
    printf("\n  pixels through the\n  network / picture's");
    print_shapes(s);
    printf("\n  %19s", "with nothing skipped");
    for (int i = 0; i < s->n_shapes; i++) printf(" %8.3f", s->cells[0].by[i].read / s->n_pictures);
    putchar('\n');
    if (!timed) return;
    printf("  %19s", "ms a unit here");
    for (int i = 0; i < s->n_shapes; i++) printf(" %8.3f", s->shape[i].unit_ms);
    putchar('\n');
}

// --- the command

typedef struct work_args {
    yd_session_options session;
    const char *maps, *forms, *bounds, *windows, *allocation;
    long steps;
    int shrink, csv, timed;
    const char *pictures[MAX_PICTURES];
} work_args;

static int load_config(const work_args *a, survey *s, yd_err *err)
{
    char path[1024];
    int rc = yd_cli_find_model(a->session.model, path, sizeof path, err);
    if (rc == 0) rc = yd_cli_load_model(path, a->session.config, &s->model, err);
    if (rc == 0) rc = yd_cli_attention_open(&a->session.attention, a->session.threads, &s->attention, err);
    if (rc) return rc;
    s->cfg = s->model->cfg;
    s->cfg.nets = s->attention.nets;
    return rc;
}

static int read_allocation(survey *s, const char *name, yd_err *err)
{
    yd_sample_settings set = s->cfg.defaults;
    const int rc = name ? yd_setting_set(&set, "allocation", name, err) : 0;
    s->allocation = set.allocation;
    return rc < 0 ? rc : 0;
}

static int read_settings(const work_args *a, survey *s, yd_err *err)
{
    int rc = load_config(a, s, err);
    if (rc == 0) rc = read_allocation(s, a->allocation, err);
    if (rc) return rc;
    s->steps = a->steps ? (int)a->steps : s->cfg.defaults.steps;
    s->shrink = a->shrink;
    rc = read_maps(s, a->maps, err);
    if (rc == 0) rc = read_forms(s, a->forms, err);
    if (rc == 0) rc = read_bounds(s, a->bounds, err);
    if (rc == 0) rc = read_shapes(s, a->windows, a->session.overlap, err);
    if (rc < 0) return rc;
    s->cells = yd_calloc((size_t)(s->n_maps * s->n_forms * s->n_bounds), sizeof *s->cells);
    return s->cells ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the table");
}

static int measure_units(const work_args *a, survey *s, yd_err *err)
{
    for (int i = 0; i < s->n_shapes; i++) {
        yd_session session = {0};
        yd_session_options opt = a->session;
        opt.window = s->shape[i].window;
        opt.overlap = s->shape[i].overlap;
        int rc = yd_session_open(&opt, &session, err);
        if (rc == 0) rc = yd_session_time_unit(&session, &s->shape[i].unit_ms, err);
        yd_session_close(&session);
        if (rc < 0) return rc;
    }
    return 0;
}

// On failure *subject is the file that the message is about.
static int run(const work_args *a, survey *s, const char **subject, yd_err *err)
{
    *subject = a->session.model;
    int rc = read_settings(a, s, err);
    if (rc == 0 && a->timed) rc = measure_units(a, s, err);
    for (; rc == 0 && s->n_pictures < MAX_PICTURES && a->pictures[s->n_pictures]; s->n_pictures++) {
        *subject = a->pictures[s->n_pictures];
        rc = count_picture(s, *subject, err);
    }
    if (rc < 0) return rc;
    if (a->csv) print_csv(s, a->timed);
    else print_tables(s, a->timed);
    return 0;
}

int yd_cmd_work(int argc, char **argv)
{
    static const yd_usage usage = {"work",
                                   "PICTURE...",
                                   MAX_PICTURES,
                                   YD_ARGS_SOME,
                                   "count what masks leave to do, in pixel-steps and in window-steps",
                                   "  yoda work photos/*.jpg\n"
                                   "  yoda work photos/*.jpg --maps edge --windows 32/4,64/8,128/16 --bounds 0.2,0.6 --time\n"
                                   "  yoda work originals/*.png --shrink --csv > work.csv\n"};
    static work_args a = {.session = YD_SESSION_DEFAULTS, .forms = "add,max", .bounds = "0,0.2,0.4,0.6", .windows = "32,48,64,96,128,192"};
    const yd_arg args[] = {
        YD_MODEL_ARG(&a.session),
        {"steps", 'n', YD_ARG_LONG, &a.steps, 1, YD_MAX_STEPS, "N", "denoising steps (default: the model's)"},
        {"maps", 'a', YD_ARG_TEXT, &a.maps, 0, 0, "LIST", "attention methods and networks (default: all methods)"},
        {"forms", 0, YD_ARG_TEXT, &a.forms, 0, 0, "LIST", "mask forms (default add,max)"},
        {"bounds", 'l', YD_ARG_TEXT, &a.bounds, 0, 0, "LIST", "lower bounds (default 0,0.2,0.4,0.6)"},
        {"allocation", 0, YD_ARG_TEXT, &a.allocation, 0, 0, "NAME", "late, strided, windows (default: the model's)"},
        {"windows", 'w', YD_ARG_TEXT, &a.windows, 0, 0, "LIST", "window or window/overlap (default 32,48,64,96,128,192)"},
        {"overlap", 0, YD_ARG_LONG, &a.session.overlap, 0, 1024, "PX", "where --windows has none (default: as the model's)"},
        {"shrink", 0, YD_ARG_FLAG, &a.shrink, 0, 0, NULL, "the pictures are originals: shrink them first"},
        {"csv", 0, YD_ARG_FLAG, &a.csv, 0, 0, NULL, "comma-separated values, one line per combination"},
        {"time", 0, YD_ARG_FLAG, &a.timed, 0, 0, NULL, "time a unit of each window here, estimate seconds a picture"},
        YD_ATTENTION_ARGS(&a.session.attention),
        YD_DEVICE_ARGS(&a.session),
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, a.pictures);
    if (status != YD_ARGS_GO_ON) return status;
    survey s = {0};
    yd_err err;
    yd_err_clear(&err);
    const char *subject = NULL;
    int rc = run(&a, &s, &subject, &err);
    yd_free(s.cells);
    yd_model_free(s.model);
    yd_cli_attention_close(&s.attention);
    return rc < 0 ? yd_cli_fail("work", subject, &err) : 0;
}
