// yoda eval: how good results are, over folders of pictures, for one setting or many.
//
// Pictures outside, settings inside: every picture is read, degraded and enlarged plainly once, then each row makes its result of it with
// the model that stays loaded, and is measured. A picture that cannot be used is named and skipped; the exit status then is 1 although
// everything else was done and written. A failure of the model or of the disk ends the run.
// Read next: tools/eval.h, docs/evaluation.md
#include "core/mem.h"
#include "core/upscale.h"
#include "tools/cli.h"
#include "tools/eval.h"
#include "tools/progress.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DEFAULT_SCALE 4
#define MAX_SKIPPED   16 // messages kept; the others are counted

typedef struct run_state {
    yd_progress bar;
    int skipped;
    char message[MAX_SKIPPED][640];
    long units; // of the result that is being made
    const char *what;
    double share; // of the run that is done
} run_state;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void on_unit(void *user, long done)
{
    run_state *s = user;
    yd_progress_show(&s->bar, s->share, "%s  window %ld of %ld", s->what, done, s->units);
}

// --- making a result

// Share of the pixels that every executed step diffuses, from the noisiest on: known before the first one runs.
static int step_shares(const yd_prepared *job, const yd_sample_settings *set, double *share, yd_err *err)
{
    const size_t px = (size_t)job->w * (size_t)job->h;
    const uint16_t *a = yd_sampler_activation(job->sampler);
    long *at_least = yd_calloc((size_t)set->steps + 2, sizeof *at_least); // pixels with that many steps or more
    if (!at_least) return yd_fail(err, YD_E_NOMEM, "no memory for %d steps", set->steps);
    for (size_t i = 0; i < px; i++) at_least[a[i]]++;
    for (int n = set->steps - 1; n >= 0; n--) at_least[n] += at_least[n + 1];
    for (int s = set->steps; s >= 1; s--)
        share[set->steps - s] = (double)at_least[yd_mask_threshold(set->allocation, set->steps, s)] / (double)px;
    yd_free(at_least);
    return 0;
}

static void note_work(const yd_eval *e, const yd_prepared *job, double *v, long *units)
{
    yd_work work;
    yd_sampler_work(job->sampler, &work);
    const double side = e->session.model->cfg.window;
    *units = work.units;
    v[YD_EVAL_DIFFUSED] = work.pixel_share;
    v[YD_EVAL_WINDOW_STEPS] = (double)work.units;
    v[YD_EVAL_WINDOW_STEPS_ALL] = (double)work.units_all;
    v[YD_EVAL_WORK] = (double)work.units * side * side / ((double)job->w * job->h);
}

// *job stays for its map.
static int diffuse(yd_eval *e, const yd_eval_row *row, const yd_eval_canvas *c, yd_eval_result *r, yd_prepared *job, uint8_t *rgb,
                   run_state *state, yd_err *err)
{
    yd_image low = {0}, result = {0};
    const yd_session_watch watch = {.unit = on_unit, .user = state};
    const double began = now_s();
    r->share = yd_calloc((size_t)row->set.steps, sizeof *r->share);
    int rc = r->share ? yd_image_from_rgb8(&low, c->lw, c->lh, c->lr, NULL, err) : yd_fail(err, YD_E_NOMEM, "no memory for %d steps", row->set.steps);
    if (rc == 0) rc = yd_prepare(&e->session.model->cfg, &row->set, NULL, &low, job, err);
    if (rc == 0) {
        note_work(e, job, r->figures.v, &state->units);
        rc = yd_session_run(&e->session, job->sampler, &watch, err);
    }
    if (rc == 0) rc = yd_finish(job, &result, err);
    if (rc == 0) {
        r->figures.v[YD_EVAL_SECONDS] = now_s() - began;
        yd_image_rgb8(&result, rgb);
        rc = step_shares(job, &row->set, r->share, err);
    }
    yd_image_clear(&result);
    yd_image_clear(&low);
    return rc;
}

static int make_result(yd_eval *e, const yd_eval_row *row, const yd_eval_canvas *c, yd_eval_result *r, yd_prepared *job, uint8_t *rgb,
                       run_state *state, yd_err *err)
{
    const size_t bytes = (size_t)c->w * (size_t)c->h * 3;
    yd_eval_figures_clear(&r->figures);
    if (row->method == YD_EVAL_DIFFUSION) return diffuse(e, row, c, r, job, rgb, state, err);
    memcpy(rgb, row->method == YD_EVAL_GIVEN ? c->sr : c->bicubic, bytes);
    return 0;
}

static int do_row(yd_eval *e, int r, int file, const yd_eval_canvas *c, run_state *state, yd_err *err)
{
    yd_eval_row *row = &e->rows[r];
    yd_eval_result *result = &row->results[file];
    yd_prepared job = {0};
    uint8_t *rgb = yd_malloc((size_t)c->w * (size_t)c->h * 3);
    int rc = rgb ? make_result(e, row, c, result, &job, rgb, state, err) : yd_fail(err, YD_E_NOMEM, "no memory for %d x %d pixels", c->w, c->h);
    if (rc == 0) rc = yd_eval_measure(e, row, c, rgb, &result->figures, err);
    if (rc == 0 && e->args->sheet)
        rc = yd_eval_sheet_add(e, e->files[file].name, row, &result->figures, c, rgb, job.map ? job.map : c->map, err);
    yd_prepared_clear(&job);
    yd_free(rgb);
    return rc;
}

// --- the run

static void skip(run_state *s, const char *name, const yd_err *err)
{
    if (s->skipped < MAX_SKIPPED) snprintf(s->message[s->skipped], sizeof s->message[0], "%.200s: %s", name, err->detail);
    s->skipped++;
}

static int do_picture(yd_eval *e, int i, run_state *state, const char **subject, yd_err *err)
{
    yd_eval_canvas c = {0};
    yd_eval_file *file = &e->files[i];
    *subject = file->name;
    int rc = yd_eval_canvas_load(e, file, &c, err);
    if (rc == 0) rc = yd_eval_measure_bicubic(e, &c, err);
    if (rc < 0 && rc != YD_E_NOMEM) {
        skip(state, file->name, err);
        yd_err_clear(err);
        rc = 0;
    } else if (rc == 0) {
        for (int r = 0; r < e->n_rows && rc == 0; r++) {
            state->share = (i + (double)r / e->n_rows) / e->n_files;
            state->what = file->name;
            yd_progress_show(&state->bar, state->share, "%s  %s", file->name, e->rows[r].name);
            rc = do_row(e, r, i, &c, state, err);
        }
        file->measured = rc == 0;
        e->n_measured += rc == 0;
    }
    yd_eval_canvas_clear(&c);
    return rc;
}

static void print_skipped(const run_state *s)
{
    for (int i = 0; i < s->skipped && i < MAX_SKIPPED; i++) fprintf(stderr, "yoda eval: skipped %s\n", s->message[i]);
    if (s->skipped > MAX_SKIPPED) fprintf(stderr, "yoda eval: skipped %d more\n", s->skipped - MAX_SKIPPED);
}

static int measure_all(yd_eval *e, run_state *state, const char **subject, yd_err *err)
{
    static const char *const flags[YD_EVAL_SPACES] = {"frechet", "fid"};
    int rc = 0;
    yd_progress_start(&state->bar, e->args->quiet);
    for (int i = 0; i < e->n_files && rc == 0; i++) rc = do_picture(e, i, state, subject, err);
    yd_progress_end(&state->bar);
    print_skipped(state);
    if (rc < 0) return rc;
    *subject = e->args->hr;
    if (e->n_measured == 0) return yd_fail(err, YD_E_IMAGE, "none of %d pictures could be measured", e->n_files);
    for (int s = 0; s < YD_EVAL_SPACES; s++)
        if (e->originals[s] && e->n_measured < 2)
            return yd_fail_field(err, YD_E_SETTING, flags[s], "two pictures or more", "the Frechet distance of --%s needs two pictures", flags[s]);
    return yd_eval_summarize(e, err);
}

static int write_all(const yd_eval *e, const char **subject, yd_err *err)
{
    const yd_eval_args *a = e->args;
    int rc = 0;
    yd_eval_print_table(e);
    if (a->json && rc == 0) rc = yd_eval_write_json(e, *subject = a->json, err);
    if (a->csv && rc == 0) rc = yd_eval_write_csv(e, *subject = a->csv, err);
    if (a->sheet && rc == 0) rc = yd_eval_sheet_write(e, *subject = a->sheet, err);
    if (a->curves && rc == 0) rc = yd_eval_curves_write(e, *subject = a->curves, err);
    return rc;
}

// --- settling the arguments

static int settle_degradation(yd_eval *e, yd_err *err)
{
    const char *name = e->args->degrade;
    if (strcmp(name, "pillow") && strcmp(name, "matlab") && strcmp(name, "mild") && strcmp(name, "blind"))
        return yd_fail_field(err, YD_E_SETTING, "degrade", "pillow, matlab, mild, blind", "there is no degradation '%.40s'", name);
    const int plain = name[0] == 'p' || strcmp(name, "matlab") == 0;
    int rc = yd_degrade_preset(plain ? "none" : name, &e->ranges, err);
    if (rc == 0 && strcmp(name, "matlab") == 0) e->ranges.reduction = YD_REDUCE_MATLAB;
    return rc;
}

static int settle_lpips(yd_eval *e, const char **subject, yd_err *err)
{
    const yd_eval_args *a = e->args;
    if (!a->lpips && (a->bins > 0 || a->frechet))
        return yd_fail_field(err, YD_E_SETTING, "lpips", "a file of LPIPS weights", "--%s needs --lpips FILE", a->bins > 0 ? "bins" : "frechet");
    if (!a->lpips) return 0;
    *subject = a->lpips;
    e->n_bins = a->bins > 0 ? yd_lpips_bin_count(a->bins) : 0;
    if (a->bins > 0 && e->n_bins == 0) return yd_fail_field(err, YD_E_SETTING, "bins", "0.001 to 1", "--bins %g is no width of a bin", a->bins);
    int rc = yd_lpips_open(a->lpips, &e->lpips, err);
    if (rc == 0 && a->frechet) snprintf(e->frechet_key[YD_EVAL_FD], sizeof e->frechet_key[0], "fd_%s", yd_lpips_trunk(e->lpips));
    return rc;
}

static int settle_fid(yd_eval *e, const char **subject, yd_err *err)
{
    if (!e->args->fid) return 0;
    *subject = e->args->fid;
    snprintf(e->frechet_key[YD_EVAL_FID], sizeof e->frechet_key[0], "fid");
    return yd_inception_open(e->args->fid, &e->inception, err);
}

static int settle_options(yd_eval *e, yd_err *err)
{
    const yd_eval_args *a = e->args;
    yd_image_format ignored;
    e->how.crop = (int)a->crop;
    e->how.space = strcmp(a->space, "y") == 0 ? YD_METRIC_Y : YD_METRIC_RGB;
    if (strcmp(a->space, "y") && strcmp(a->space, "rgb")) return yd_fail_field(err, YD_E_SETTING, "space", "rgb, y", "there is no space '%.40s'", a->space);
    if (a->sr && (a->settings.n || a->sweeps.n || a->method))
        return yd_fail_field(err, YD_E_SETTING, "sr", "--hr alone with settings", "finished results have no settings: --sr goes without --setting, --sweep and --method");
    int rc = settle_degradation(e, err);
    if (rc == 0) rc = yd_attention_check(a->bins_map, err);
    if (rc == 0 && a->sheet) rc = yd_cli_image_format(a->sheet, &ignored, err);
    if (rc == 0 && a->curves) rc = yd_eval_curves_check(a->curves, err);
    return rc;
}

static int settle_model(yd_eval *e, const char **subject, yd_err *err)
{
    const yd_eval_args *a = e->args;
    int rc = 0;
    e->has_model = !a->sr && !(a->method && strcmp(a->method, "bicubic") == 0);
    *subject = a->session.model;
    if (e->has_model) rc = yd_session_open(&a->session, &e->session, err);
    if (rc < 0) return rc;
    if (!e->has_model) rc = yd_cli_attention_open(&a->session.attention, a->session.threads, &e->session.attention, err);
    if (rc < 0) return rc;
    e->with = (yd_attention_with){e->has_model ? e->session.model->map_net : NULL, e->session.attention.nets};
    if ((rc = yd_attention_available(a->bins_map, &e->with, err)) < 0) return rc;
    const int own = e->has_model ? e->session.model->cfg.scale : DEFAULT_SCALE;
    e->scale = a->scale ? (int)a->scale : own;
    if (e->has_model && e->scale != own) return yd_fail_field(err, YD_E_SETTING, "scale", "the model's", "the model enlarges %dx, not %dx", own, e->scale);
    *subject = NULL;
    return yd_eval_rows_make(e, e->has_model ? &e->session.model->cfg : NULL, err);
}

// An empty set for every space that is asked for. 0 when memory is out.
static int new_sets(const yd_eval *e, yd_moments **sets)
{
    for (int s = 0; s < YD_EVAL_SPACES; s++) {
        const int size = yd_eval_feature_size(e, s);
        if (size && !(sets[s] = yd_moments_new(size))) return 0;
    }
    return 1;
}

static void free_sets(yd_moments **sets)
{
    for (int s = 0; s < YD_EVAL_SPACES; s++) yd_moments_free(sets[s]);
}

// Room for the figures, once rows and pictures are known.
static int make_room(yd_eval *e, yd_err *err)
{
    int ok = new_sets(e, e->originals) && new_sets(e, e->bicubic_moments);
    if (e->n_bins) ok = ok && (e->bicubic_bins = yd_calloc((size_t)e->n_bins, sizeof *e->bicubic_bins));
    for (int r = 0; r < e->n_rows && ok; r++) {
        yd_eval_row *row = &e->rows[r];
        ok = (row->results = yd_calloc((size_t)e->n_files, sizeof *row->results)) != NULL;
        ok = ok && new_sets(e, row->moments);
        if (e->n_bins) ok = ok && (row->bins = yd_calloc((size_t)e->n_bins, sizeof *row->bins));
    }
    return ok ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the figures of %d pictures", e->n_files);
}

static void clear(yd_eval *e)
{
    for (int r = 0; r < e->n_rows; r++) {
        yd_eval_row *row = &e->rows[r];
        for (int i = 0; i < e->n_files && row->results; i++) yd_free(row->results[i].share);
        yd_free(row->results);
        yd_free(row->share);
        yd_free(row->bins);
        free_sets(row->moments);
    }
    yd_free(e->bicubic_bins);
    free_sets(e->bicubic_moments);
    free_sets(e->originals);
    yd_free(e->sheet.rgb);
    yd_inception_close(e->inception);
    yd_lpips_close(e->lpips);
    yd_eval_files_free(e);
    yd_session_close(&e->session);
}

// On failure *subject is the file that the message is about.
static int run(yd_eval *e, run_state *state, const char **subject, yd_err *err)
{
    int rc = settle_options(e, err);
    if (rc == 0) rc = yd_eval_files_find(e, err);
    if (rc == 0) rc = settle_lpips(e, subject, err);
    if (rc == 0) rc = settle_fid(e, subject, err);
    if (rc == 0) rc = settle_model(e, subject, err);
    if (rc == 0) rc = make_room(e, err);
    if (rc == 0) rc = measure_all(e, state, subject, err);
    return rc == 0 ? write_all(e, subject, err) : rc;
}

static int run_and_clear(const yd_eval_args *a)
{
    static run_state state;
    static yd_eval e;
    const char *subject = NULL;
    yd_err err;
    yd_err_clear(&err);
    e.args = a;
    int rc = run(&e, &state, &subject, &err);
    if (rc < 0) yd_cli_fail("eval", err.field[0] ? NULL : subject, &err);
    clear(&e);
    return rc < 0 || state.skipped ? YD_CLI_FAILED : 0;
}

int yd_cmd_eval(int argc, char **argv)
{
    static const yd_usage usage = {
        "eval",
        "",
        0,
        0,
        "measure how good results are, over folders of pictures and many settings",
        "  yoda eval --hr originals --lpips lpips.safetensors --json figures.json\n"
        "  yoda eval --sr results --hr originals --space y --crop 4\n"
        "  yoda eval --hr originals --lpips lpips.safetensors --sweep steps=2,4,8,12 --curves frontier.svg\n"
        "  yoda eval --hr originals --setting \"plain: attention=constant\" --setting \"edge: attention=edge lower_bound=0.2\" "
        "--sweep steps=4,8\n"
        "  yoda eval --hr photos --degrade blind --method bicubic\n"};
    static yd_eval_args a = {.session = YD_SESSION_DEFAULTS, .degrade = "pillow", .space = "rgb", .bins_map = "edge", .degrade_seed = 1};
    const yd_arg args[] = {
        {"hr", 0, YD_ARG_TEXT, &a.hr, 0, 0, "DIR", "originals"},
        {"sr", 0, YD_ARG_TEXT, &a.sr, 0, 0, "DIR", "finished results of the same names; without it they are made"},
        {"scale", 0, YD_ARG_LONG, &a.scale, 2, 16, "N", "originals are shrunk by this (default: the model's, else 4)"},
        {"degrade", 0, YD_ARG_TEXT, &a.degrade, 0, 0, "NAME", "pillow (default) or matlab: bicubic; mild, blind: blur, noise, JPEG too"},
        {"degrade-seed", 0, YD_ARG_SEED, &a.degrade_seed, 0, 0, "N", "of what mild and blind draw (default 1)"},
        {"method", 0, YD_ARG_TEXT, &a.method, 0, 0, "NAME", "yoda (default), or bicubic: no model at all"},
        {"lpips", 0, YD_ARG_TEXT, &a.lpips, 0, 0, "FILE", "LPIPS weights (squeeze, alex or vgg); without it no LPIPS"},
        {"crop", 0, YD_ARG_LONG, &a.crop, 0, 1024, "PX", "left out on every side by PSNR and SSIM (default 0)"},
        {"space", 0, YD_ARG_TEXT, &a.space, 0, 0, "NAME", "rgb (default) or y: of psnr and ssim"},
        {"bins", 0, YD_ARG_REAL, &a.bins, 0, 1, "WIDTH", "LPIPS per attention, in bins of this width"},
        {"bins-map", 0, YD_ARG_TEXT, &a.bins_map, 0, 0, "NAME", "attention method of the bins (default edge)"},
        {"frechet", 0, YD_ARG_FLAG, &a.frechet, 0, 0, NULL, "Frechet distance of the LPIPS trunk's features over the set"},
        {"fid", 0, YD_ARG_TEXT, &a.fid, 0, 0, "FILE", "FID over the set with these Inception-v3 weights (safetensors, names as pytorch-fid's)"},
        {"setting", 0, YD_ARG_LIST, &a.settings, 0, 0, "TEXT", "\"NAME: steps=4 eta=0\": one more row; may be repeated"},
        {"sweep", 0, YD_ARG_LIST, &a.sweeps, 0, 0, "TEXT", "\"steps=2,4,8\": rows for every value; may be repeated"},
        {"json", 0, YD_ARG_TEXT, &a.json, 0, 0, "OUT", "write all figures"},
        {"csv", 0, YD_ARG_TEXT, &a.csv, 0, 0, "OUT", "one line per row and picture, and the means"},
        {"sheet", 0, YD_ARG_TEXT, &a.sheet, 0, 0, "OUT", "picture: original, bicubic, result, difference, map"},
        {"curves", 0, YD_ARG_TEXT, &a.curves, 0, 0, "OUT", "plot (.svg or .png): quality against work, shares per step, bins"},
        YD_MODEL_ARG(&a.session),
        YD_SAMPLING_ARGS(&a.sampling),
        YD_ATTENTION_ARGS(&a.session.attention),
        YD_WINDOW_ARGS(&a.session),
        YD_DEVICE_ARGS(&a.session),
        {"quiet", 'q', YD_ARG_FLAG, &a.quiet, 0, 0, NULL, "no progress, no remarks; the table stays"},
    };
    const int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, NULL);
    if (status != YD_ARGS_GO_ON) return status;
    if (!a.hr) {
        fprintf(stderr, "yoda eval: --hr DIR is missing (yoda eval --help)\n");
        return 2;
    }
    return run_and_clear(&a);
}
