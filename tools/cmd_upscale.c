// yoda upscale: one picture in, one larger picture out, on this machine.
//
// Reading, preparing, sampling and finishing are core's; this file adds options, progress, previews, the report of what was invented and
// the closing lines.
// Read next: core/upscale.h, core/output.h, core/invented.h, core/sampler.h
#include "core/invented.h"
#include "core/upscale.h"
#include "tools/args.h"
#include "tools/cli.h"
#include "tools/progress.h"
#include "tools/sampling.h"
#include "tools/session.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

// What is said about the result, as yd_output_set takes it; the file name says the format.
static const char *const output_names[] = {"scale", "width", "height", "encode_quality", "bit_depth", "metadata", "color_space"};
enum { SCALE, WIDTH, HEIGHT, ENCODE_QUALITY, BIT_DEPTH, METADATA, COLOR_SPACE, OUTPUT_N };

typedef struct upscale_args {
    const char *in, *out, *preview, *report;
    yd_session_options session;
    yd_sampling_args sampling;
    const char *output[OUTPUT_N]; // NULL where not given
    int lossless;
    int quiet;
} upscale_args;

typedef struct upscale_job {
    const upscale_args *args;
    yd_output output;
    yd_prepared prepared;
    yd_invented invented;
    yd_work work;
    yd_progress bar;
    int step; // steps finished
} upscale_job;

static void on_unit(void *user, long done)
{
    upscale_job *j = user;
    double share = j->work.units ? (double)done / (double)j->work.units : 1, elapsed = yd_progress_elapsed_s(&j->bar);
    char left[32];
    yd_progress_duration(share > 0 ? elapsed / share - elapsed : 0, left, sizeof left);
    yd_progress_show(&j->bar, share, "step %d of %d  window %ld of %ld  ETA %s",
                     j->step < j->work.steps ? j->step + 1 : j->step, j->work.steps, done, j->work.units, left);
}

static int on_step(void *user, const yd_step_info *info, yd_err *err)
{
    upscale_job *j = user;
    j->step = info->steps - info->step + 1;
    if (!j->args->preview) return 0;
    char path[1024];
    if (snprintf(path, sizeof path, "%s/step-%04d.png", j->args->preview, j->step) >= (int)sizeof path)
        return yd_fail(err, YD_E_IO, "the preview folder's path is too long");
    yd_image im = {0};
    int rc = yd_preview(&j->prepared, &im, err);
    if (rc == 0) rc = yd_cli_write_image(path, &im, 100, err);
    yd_image_clear(&im);
    return rc;
}

static int make_preview_folder(const char *path, yd_err *err)
{
    if (!path || mkdir(path, 0777) == 0 || errno == EEXIST) return 0;
    return yd_fail(err, YD_E_IO, "cannot make the folder %s: %s", path, strerror(errno));
}

// The options' values, which are wrong whatever the files are.
static int parse_output(const upscale_args *a, yd_output *out, yd_err *err)
{
    int rc = 0;
    yd_output_init(out);
    for (int i = 0; rc >= 0 && i < OUTPUT_N; i++)
        if (a->output[i]) rc = yd_output_set(out, output_names[i], a->output[i], err);
    out->lossless = a->lossless;
    return rc < 0 ? rc : 0;
}

// The format is that of the file's name.
static int settle_output(const upscale_args *a, yd_output *out, yd_err *err)
{
    int rc = yd_cli_image_format(a->out, &out->format, err);
    return rc < 0 ? rc : yd_output_check(out, err);
}

static int write_report(upscale_job *j, const yd_image *in, const yd_image *result, yd_err *err)
{
    yd_image picture = {0};
    int rc = yd_invented_account(in, result, &j->invented, &picture, err);
    if (rc == 0) rc = yd_cli_write_image(j->args->report, &picture, YD_RESULT_JPEG_QUALITY, err);
    yd_image_clear(&picture);
    return rc;
}

// Everything between a decoded picture and the written file. *in is released as soon as nothing needs it.
static int run_job(upscale_job *j, yd_session *s, yd_image *in, yd_err *err)
{
    yd_sample_settings set;
    int rc = yd_sampling_apply(&j->args->sampling, &s->model->cfg, &set, err);
    if (rc == 0) rc = yd_prepare(&s->model->cfg, &set, &j->output, in, &j->prepared, err);
    if (!j->args->report) yd_image_clear(in);
    if (rc < 0) return rc;

    yd_sampler_work(j->prepared.sampler, &j->work);
    yd_session_watch watch = {.unit = on_unit, .step = on_step, .user = j};
    yd_progress_start(&j->bar, j->args->quiet);
    rc = yd_session_run(s, j->prepared.sampler, &watch, err);
    yd_progress_end(&j->bar);
    if (rc < 0) return rc;

    yd_image result = {0};
    rc = yd_finish(&j->prepared, &result, err);
    if (rc == 0) rc = yd_cli_write_output(j->args->out, &result, &j->output, err);
    if (rc == 0 && j->args->report) rc = write_report(j, in, &result, err);
    yd_image_clear(&result);
    return rc;
}

static void print_report(const upscale_job *j)
{
    const yd_invented *n = &j->invented;
    printf("%s: detail added %.2f (rms, of 255), %.1f%% of the result's pixels changed; contradicts %.1f%% of the input's pixels, "
           "by %.2f (rms), reduced result %.2f dB\n",
           j->args->report, n->detail_rms, n->changed * 100, n->contradicted * 100, n->difference_rms, n->psnr_db);
}

static void print_summary(const upscale_job *j, const yd_session *s)
{
    if (j->args->quiet) return;
    printf("%s: %d x %d, %s, %d steps, %.1f%% of the pixel-steps diffused, %ld of %ld window-steps run, %.2f s (%s, "
           "%s, %d threads)\n",
           j->args->out, j->prepared.out_w, j->prepared.out_h, s->model->cfg.name, j->work.steps, j->work.pixel_share * 100,
           j->work.units, j->work.units_all, yd_progress_elapsed_s(&j->bar), s->info.backend.name,
           s->info.dtype == YD_BF16 ? "bf16" : "f32", s->info.backend.threads);
    if (j->args->report) print_report(j);
}

// On failure *subject is the file that the message is about.
static int run(const upscale_args *a, const yd_output *output, const char **subject, yd_err *err)
{
    upscale_job job = {.args = a, .output = *output};
    yd_session session = {0};
    yd_image in = {0};
    yd_image_format ignored;
    *subject = a->out;
    int rc = settle_output(a, &job.output, err); // before the work, not after it
    if (rc < 0) return rc;
    *subject = a->report;
    if (a->report && (rc = yd_cli_image_format(a->report, &ignored, err)) < 0) return rc;
    *subject = a->in;
    const yd_decode_options how = {.color_space = job.output.color_space};
    rc = yd_cli_decode_image(a->in, &how, &in, err);
    if (rc == 0) {
        *subject = a->session.model;
        rc = yd_session_open(&a->session, &session, err);
    }
    if (rc == 0) {
        *subject = a->out;
        rc = make_preview_folder(a->preview, err);
    }
    if (rc == 0) rc = run_job(&job, &session, &in, err);
    if (rc == 0) print_summary(&job, &session);
    yd_prepared_clear(&job.prepared);
    yd_image_clear(&in);
    yd_session_close(&session);
    return rc;
}

int yd_cmd_upscale(int argc, char **argv)
{
    static const yd_usage usage = {
        "upscale",
        "IN OUT",
        2,
        0,
        "make a picture larger; the output's extension chooses the format",
        "  yoda upscale photo.jpg large.png\n"
        "  yoda upscale photo.jpg large.jpg --encode-quality 92 --quality best --seed 7\n"
        "  yoda upscale scan.tif large.tif --scale 2 --bit-depth 16\n"
        "  yoda upscale photo.jpg large.webp --width 1600 --height 1600 --report invented.png\n"
        "  yoda upscale photo.jpg large.png --attention edge --lower-bound 0.2 --preview steps/\n"};
    upscale_args a = {.session = YD_SESSION_DEFAULTS};
    const yd_arg args[] = {
        YD_MODEL_ARG(&a.session),
        YD_SAMPLING_ARGS(&a.sampling),
        {"scale", 0, YD_ARG_TEXT, &a.output[SCALE], 0, 0, "F", "size of the result, above 1, at most 8 (default: the model's)"},
        {"width", 0, YD_ARG_TEXT, &a.output[WIDTH], 0, 0, "PX", "fit the result into this width, keeping its shape"},
        {"height", 0, YD_ARG_TEXT, &a.output[HEIGHT], 0, 0, "PX", "fit it into this height"},
        {"encode-quality", 0, YD_ARG_TEXT, &a.output[ENCODE_QUALITY], 0, 0, "Q", "of JPEG and lossy WebP, 1..100 (default 92)"},
        {"lossless", 0, YD_ARG_FLAG, &a.lossless, 0, 0, NULL, "WebP without loss"},
        {"bit-depth", 0, YD_ARG_TEXT, &a.output[BIT_DEPTH], 0, 0, "N", "source, 8 or 16 bits per sample (default source)"},
        {"metadata", 0, YD_ARG_TEXT, &a.output[METADATA], 0, 0, "M", "keep, strip-gps or strip (default strip-gps)"},
        {"color-space", 0, YD_ARG_TEXT, &a.output[COLOR_SPACE], 0, 0, "C", "source or srgb (default source)"},
        {"report", 0, YD_ARG_TEXT, &a.report, 0, 0, "FILE", "write a picture of what was invented, print its figures"},
        {"preview", 0, YD_ARG_TEXT, &a.preview, 0, 0, "DIR", "write the prediction after every step into this folder"},
        YD_ATTENTION_ARGS(&a.session.attention),
        YD_WINDOW_ARGS(&a.session),
        YD_DEVICE_ARGS(&a.session),
        {"quiet", 'q', YD_ARG_FLAG, &a.quiet, 0, 0, NULL, "no progress, no summary"},
    };
    const char *operands[2];
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, operands);
    if (status != YD_ARGS_GO_ON) return status;
    a.in = operands[0];
    a.out = operands[1];
    yd_err err;
    yd_err_clear(&err);
    const char *subject = NULL;
    yd_output output;
    if (parse_output(&a, &output, &err) < 0) return yd_cli_fail("upscale", NULL, &err);
    return run(&a, &output, &subject, &err) < 0 ? yd_cli_fail("upscale", subject, &err) : 0;
}
