// yoda upscale: one picture in, one larger picture out, on this machine.
//
// Reading, preparing, sampling and finishing are core's; this file adds options, progress, previews and the closing line.
// Read next: core/upscale.h, core/sampler.h
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

typedef struct upscale_args {
    const char *in, *out, *preview;
    yd_session_options session;
    yd_sampling_args sampling;
    long quality;
    int quiet;
} upscale_args;

typedef struct upscale_job {
    const upscale_args *args;
    yd_prepared prepared;
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

// Everything between a decoded picture and the written file. *in is released as soon as it is prepared.
static int run_job(upscale_job *j, yd_session *s, yd_image *in, yd_err *err)
{
    yd_sample_settings set = s->model->cfg.defaults;
    int rc = yd_sampling_apply(&j->args->sampling, &set, err);
    if (rc == 0) rc = yd_prepare(&s->model->cfg, &set, NULL, in, &j->prepared, err);
    yd_image_clear(in);
    if (rc < 0) return rc;

    yd_sampler_work(j->prepared.sampler, &j->work);
    yd_session_watch watch = {.unit = on_unit, .step = on_step, .user = j};
    yd_progress_start(&j->bar, j->args->quiet);
    rc = yd_session_run(s, j->prepared.sampler, &watch, err);
    yd_progress_end(&j->bar);
    if (rc < 0) return rc;

    yd_image result = {0};
    rc = yd_finish(&j->prepared, &result, err);
    if (rc == 0) rc = yd_cli_write_image(j->args->out, &result, (int)j->args->quality, err);
    yd_image_clear(&result);
    return rc;
}

static void print_summary(const upscale_job *j, const yd_session *s)
{
    if (j->args->quiet) return;
    printf("%s: %d x %d, %s, %d steps, %.1f%% of the pixel-steps diffused, %ld of %ld window-steps run, %.2f s (%s, "
           "%s, %d threads)\n",
           j->args->out, j->prepared.w, j->prepared.h, s->model->cfg.name, j->work.steps, j->work.pixel_share * 100,
           j->work.units, j->work.units_all, yd_progress_elapsed_s(&j->bar), s->info.backend.name,
           s->info.dtype == YD_BF16 ? "bf16" : "f32", s->info.backend.threads);
}

// On failure *subject is the file that the message is about.
static int run(const upscale_args *a, const char **subject, yd_err *err)
{
    upscale_job job = {.args = a};
    yd_session session = {0};
    yd_image in = {0};
    yd_image_format format;
    *subject = a->out;
    int rc = yd_cli_image_format(a->out, &format, err); // before the work, not after it
    if (rc < 0) return rc;
    *subject = a->in;
    rc = yd_cli_read_image(a->in, &in, err);
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
        "make a picture larger (PNG or JPEG in, PNG or JPEG out)",
        "  yoda upscale photo.jpg large.png\n"
        "  yoda upscale photo.jpg large.jpg --quality 92 --steps 12 --seed 7\n"
        "  yoda upscale photo.jpg large.png --attention edge --lower-bound 0.2 --preview steps/\n"};
    upscale_args a = {.session = YD_SESSION_DEFAULTS, .quality = YD_RESULT_JPEG_QUALITY};
    const yd_arg args[] = {
        YD_MODEL_ARG(&a.session),
        YD_SAMPLING_ARGS(&a.sampling),
        {"quality", 0, YD_ARG_LONG, &a.quality, 1, 100, "Q", "of a JPEG result, 1..100 (default 92)"},
        {"preview", 0, YD_ARG_TEXT, &a.preview, 0, 0, "DIR", "write the prediction after every step into this folder"},
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
    return run(&a, &subject, &err) < 0 ? yd_cli_fail("upscale", subject, &err) : 0;
}
