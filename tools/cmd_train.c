// yoda train: a folder of pictures and a config become a model (core/train/train.h does the work).
//
// This file turns options into settings, reports progress and makes Ctrl-C and SIGTERM end the run with a checkpoint. A second
// signal takes the default action, for runs that are beyond patience.
// Read next: core/train/train.h
#include "core/file.h"
#include "core/mem.h"
#include "core/output.h"
#include "core/train/train.h"
#include "tools/args.h"
#include "tools/cli.h"
#include "tools/progress.h"
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stop_requested;

static void on_signal(int number)
{
    (void)number;
    stop_requested = 1;
}

static void install_signals(void)
{
    struct sigaction act;
    memset(&act, 0, sizeof act);
    act.sa_handler = on_signal;
    act.sa_flags = (int)SA_RESETHAND;
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
}

static void on_progress(void *user, const yd_train_progress *p)
{
    char left[32];
    yd_progress_duration(p->eta_s, left, sizeof left);
    yd_progress_show(user, (double)p->iteration / (double)p->iterations,
                     "%ld/%ld  loss %.5f  grad %.3f  lr %.2e  active %.0f%%  %.1f samples/s  ETA %s", p->iteration,
                     p->iterations, p->loss, p->grad_norm, p->lr, p->active_share * 100, p->samples_per_s, left);
}

static void on_notice(void *user, const char *text)
{
    yd_progress_note(user, text);
}

typedef struct train_args {
    const char *config, *data, *out, *init, *dtype, *device, *show_data, *pack;
    long iterations, stop_after, threads, checkpoint_parts;
    double max_minutes;
    int resume, restart, quiet, map;
} train_args;

static int set_text(char *dst, size_t cap, const char *src, const char *name, yd_err *err)
{
    if (!src || snprintf(dst, cap, "%s", src) < (int)cap) return 0;
    return yd_fail_field(err, YD_E_CONFIG, name, "a shorter path", "--%s is too long", name);
}

// The config file's settings with the command line's on top.
static int make_config(const train_args *a, yd_train_config *cfg, yd_err *err)
{
    int rc = yd_train_config_load(a->config, cfg, err);
    if (rc == 0) rc = set_text(cfg->folder, sizeof cfg->folder, a->data, "data", err);
    if (rc == 0) rc = set_text(cfg->out, sizeof cfg->out, a->out, "out", err);
    if (rc) return rc;
    if (a->iterations) cfg->iterations = a->iterations;
    if (a->dtype) {
        if (strcmp(a->dtype, "auto") == 0)
            cfg->dtype = YD_TRAIN_AUTO;
        else if (strcmp(a->dtype, "f32") == 0)
            cfg->dtype = YD_TRAIN_F32;
        else if (strcmp(a->dtype, "bf16") == 0)
            cfg->dtype = YD_TRAIN_BF16;
        else
            return yd_fail_field(err, YD_E_CONFIG, "dtype", "auto, f32, bf16", "there is no number format '%s'",
                                 a->dtype);
    }
    if (a->resume && a->restart)
        return yd_fail_field(err, YD_E_CONFIG, "resume", "one of the two",
                             "--resume and --restart contradict each other");
    return 0;
}

// Write the sheet of samples instead of training.
static int show_data(const train_args *a, const yd_train_config *cfg, yd_err *err)
{
    enum { SAMPLES = 72 };
    yd_progress bar;
    const yd_train_options opt = {.stop = &stop_requested, .notice = on_notice, .user = &bar};
    yd_image sheet = {0};
    yd_output png;
    void *bytes = NULL;
    size_t len = 0;
    yd_output_init(&png);
    yd_progress_start(&bar, a->quiet);
    int rc = yd_train_show(cfg, &opt, SAMPLES, &sheet, err);
    yd_progress_end(&bar);
    if (rc) return rc;
    rc = yd_image_encode(&sheet, &png, &bytes, &len, err);
    if (!rc) rc = yd_file_write_atomic(a->show_data, bytes, len, err);
    if (!rc)
        printf("%s: the first %d samples, HR on the left and what the network is shown on the right\n", a->show_data,
               SAMPLES);
    yd_free(bytes);
    yd_image_clear(&sheet);
    return rc;
}

// Write the pictures for a training elsewhere instead of training.
static int pack(const train_args *a, const yd_train_config *cfg, yd_err *err)
{
    yd_progress bar;
    yd_train_packed res = {0};
    const yd_train_options opt = {.stop = &stop_requested, .notice = on_notice, .user = &bar};
    install_signals();
    yd_progress_start(&bar, a->quiet);
    int rc = yd_train_pack(cfg, &opt, a->pack, &res, err);
    yd_progress_end(&bar);
    if (rc) return rc;
    printf("%s: %d pictures (%d left out), %.1f MB in parts of at most %zu MB; train on it with --data %s\n", a->pack,
           res.pictures, res.skipped, (double)res.bytes * 1e-6, YD_TRAIN_PACK_PART / 1000000, a->pack);
    return 0;
}

static void on_map_progress(void *user, long iteration, long iterations, double loss)
{
    yd_progress_show(user, (double)iteration / (double)iterations, "map %ld/%ld  loss %.5f", iteration, iterations,
                     loss);
}

// Give a model file a learned attention map, or another one; its weights stay as they are.
static int train_map(const train_args *a, const yd_train_config *cfg, yd_err *err)
{
    char model[1024], took[32];
    yd_progress bar;
    yd_map_net *net = yd_malloc(sizeof *net);
    yd_map_result res = {0};
    const yd_map_options opt = {.iterations = a->iterations ? a->iterations : YD_MAP_ITERATIONS,
                                .stop = &stop_requested,
                                .progress = on_map_progress,
                                .notice = on_notice,
                                .user = &bar};
    int rc =
        net ? yd_cli_find_model(a->init, model, sizeof model, err) : yd_fail(err, YD_E_NOMEM, "no memory for a map");
    install_signals();
    yd_progress_start(&bar, a->quiet);
    if (rc == 0) rc = yd_train_map(cfg, &opt, net, &res, err);
    if (rc == 0) rc = yd_model_put_map(model, cfg->out, net, err);
    yd_progress_end(&bar);
    yd_free(net);
    if (rc < 0) return rc;
    yd_progress_duration(yd_progress_elapsed_s(&bar), took, sizeof took);
    printf("%s: %s with a learned map, %ld iterations, loss %.5f, %d pictures, median error %.4f, %s\n", cfg->out,
           model, opt.iterations, res.loss, res.pictures, res.level, took);
    return 0;
}

static int run(const train_args *a, yd_err *err)
{
    yd_train_config cfg;
    yd_backend *be = NULL;
    int rc = make_config(a, &cfg, err);
    if (rc == 0) rc = yd_image_init(err);
    if (rc == 0 && a->show_data) return show_data(a, &cfg, err);
    if (rc == 0 && a->pack) return pack(a, &cfg, err);
    if (rc == 0 && a->map) return train_map(a, &cfg, err);
    if (rc == 0) rc = yd_cli_open_backend(a->device, a->threads, "auto", 0, &be, err);
    if (rc) return rc;

    yd_progress bar;
    yd_train_options opt = {.mode = a->resume    ? YD_TRAIN_RESUME
                                    : a->restart ? YD_TRAIN_RESTART
                                                 : YD_TRAIN_START,
                            .init_model = a->init,
                            .max_minutes = a->max_minutes,
                            .stop_after = a->stop_after,
                            .checkpoint_part = (size_t)a->checkpoint_parts * 1000000,
                            .stop = &stop_requested,
                            .progress = on_progress,
                            .notice = on_notice,
                            .user = &bar};
    yd_train_result res;
    install_signals();
    yd_progress_start(&bar, a->quiet);
    rc = yd_train(be, &cfg, &opt, &res, err);
    yd_progress_end(&bar);
    be->close(be);
    if (rc < 0) return rc;

    char took[32];
    yd_progress_duration(yd_progress_elapsed_s(&bar), took, sizeof took);
    printf("%s: %ld of %ld iterations, loss %.5f, %d pictures (%d left out), %s%s\n", cfg.out, res.iteration,
           cfg.iterations, res.loss, res.pictures, res.skipped, took, res.finished ? "" : "; go on with --resume");
    return 0;
}

int yd_cmd_train(int argc, char **argv)
{
    static const yd_usage usage = {
        "train",
        "",
        0,
        0,
        "train a model on a folder of PNG and JPEG pictures",
        "  yoda train --config models/yoda-compact-4x.train.json --data photos --out my.safetensors\n"
        "  yoda train --config my.json --resume --max-minutes 60\n"
        "  yoda train --config my.json --data photos --pack photos.pack && yoda train --config my.json --data "
        "photos.pack\n"
        "  yoda train --config my.json --map --init my.safetensors --out my.safetensors\n"
        "Ctrl-C and SIGTERM write a checkpoint beside the model file and stop; --resume goes on from it.\n"};
    train_args a = {.device = "cpu"};
    const yd_arg args[] = {
        {"config", 'c', YD_ARG_TEXT, &a.config, 0, 0, "FILE", "JSON settings of the training (required)"},
        {"data", 'd', YD_ARG_TEXT, &a.data, 0, 0, "PATH",
         "folder of pictures or what --pack wrote, instead of the config's"},
        {"out", 'o', YD_ARG_TEXT, &a.out, 0, 0, "FILE", "model file to write, instead of the config's"},
        {"iterations", 'n', YD_ARG_LONG, &a.iterations, 1, (double)YD_TRAIN_MAX_ITERATIONS, "N",
         "length, instead of the config's"},
        {"max-minutes", 0, YD_ARG_REAL, &a.max_minutes, 0, 1e6, "N",
         "stop in time to have written the checkpoint by then"},
        {"stop-after", 0, YD_ARG_LONG, &a.stop_after, 1, (double)YD_TRAIN_MAX_ITERATIONS, "N",
         "stop after N iterations of this run, with a checkpoint"},
        {"resume", 'r', YD_ARG_FLAG, &a.resume, 0, 0, NULL, "go on from the checkpoint"},
        {"restart", 0, YD_ARG_FLAG, &a.restart, 0, 0, NULL, "begin again although there is a checkpoint"},
        {"checkpoint-parts", 0, YD_ARG_LONG, &a.checkpoint_parts, 1, 1000, "MB",
         "write checkpoints in parts of at most this size"},
        {"pack", 0, YD_ARG_TEXT, &a.pack, 0, 0, "FILE",
         "write the pictures for a training elsewhere, as raw bytes in parts of at most 40 MB, and do not train"},
        {"init", 0, YD_ARG_TEXT, &a.init, 0, 0, "MODEL", "begin with this model's weights"},
        {"dtype", 0, YD_ARG_TEXT, &a.dtype, 0, 0, "T", "auto, f32, bf16, instead of the config's"},
        {"device", 0, YD_ARG_TEXT, &a.device, 0, 0, "NAME", "cpu, cuda, cuda:N or auto"},
        {"threads", 't', YD_ARG_LONG, &a.threads, 0, 1024, "N", "compute threads, 0 = all cores"},
        {"map", 0, YD_ARG_FLAG, &a.map, 0, 0, NULL,
         "train only a learned attention map, for the model of --init, into --out"},
        {"show-data", 0, YD_ARG_TEXT, &a.show_data, 0, 0, "FILE", "write a PNG of training samples and do not train"},
        {"quiet", 'q', YD_ARG_FLAG, &a.quiet, 0, 0, NULL, "no progress"},
    };
    int status = yd_args_parse(&usage, args, sizeof args / sizeof *args, argc, argv, NULL);
    if (status != YD_ARGS_GO_ON) return status;
    if (!a.config) {
        fprintf(stderr, "yoda train: --config is missing (accepted: a JSON file; yoda train --help)\n");
        return 2;
    }
    yd_err err;
    yd_err_clear(&err);
    return run(&a, &err) < 0 ? yd_cli_fail("train", a.config, &err) : 0;
}
