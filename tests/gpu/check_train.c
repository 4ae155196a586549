// A short training on the backend: its losses and gradient norms against the CPU's, and that a run which was stopped, saved in parts and resumed
// ends in the same bytes as one that was not. It trains on drawn pictures, the same everywhere.
#include "core/file.h"
#include "core/mem.h"
#include "core/train/train.h"
#include "tests/gpu/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ITERATIONS = 40, STOP = 17 };

typedef struct curve {
    float loss[ITERATIONS], norm[ITERATIONS];
    int n;
} curve;

static void on_progress(void *user, const yd_train_progress *p)
{
    curve *v = user;
    if (v->n == ITERATIONS) return;
    v->loss[v->n] = (float)p->loss;
    v->norm[v->n++] = (float)p->grad_norm;
}

static const char json[] = "{\"model\": {\"format\": \"yoda-model-1\", \"name\": \"tiny\", \"network\": {\"type\": "
                           "\"sr3\", \"in_channel\": 6, \"out_channel\": 3, "
                           "\"inner_channel\": 24, \"channel_multiplier\": [1, 2], \"res_blocks\": 1, \"norm_groups\": "
                           "8, \"attn_res\": [16], \"image_size\": 32, "
                           "\"noise_scale\": 1000}, \"noise_input\": \"sqrt_one_minus_gamma\", \"prediction\": \"x0\", "
                           "\"target\": \"residual\", \"residual_scale\": 4, "
                           "\"clip\": 3, \"schedule\": {\"kind\": \"cosine\"}, \"scale\": 4, \"window\": 32, "
                           "\"overlap\": 8}, \"data\": {\"synthetic\": 6}, "
                           "\"out\": \"unset\", \"out_dtype\": \"f32\", \"seed\": 5, \"iterations\": 40, \"batch\": 6, "
                           "\"crop\": 32, \"lr\": 1e-3, \"warmup\": 5, "
                           "\"checkpoint_every_s\": 0}";

static int train(check *c, yd_train_dtype dt, const char *out, yd_train_options opt, curve *v, yd_err *err)
{
    yd_train_config cfg;
    int rc = yd_train_config_parse(json, sizeof json - 1, &cfg, err);
    if (rc) return rc;
    snprintf(cfg.out, sizeof cfg.out, "%s", out);
    cfg.dtype = dt;
    opt.progress = on_progress;
    opt.user = v;
    return yd_train(c->be, &cfg, &opt, NULL, err);
}

static void losses(check *c, const char *out)
{
    for (int half = 0; half < 2; half++) {
        curve v = {.n = 0};
        yd_err err = {0};
        if (!check_begin(c, "training", half ? "losses, bf16" : "losses, f32")) continue;
        const int rc =
            train(c, half ? YD_TRAIN_BF16 : YD_TRAIN_F32, out, (yd_train_options){.mode = YD_TRAIN_RESTART}, &v, &err);
        if (rc) check_detail(c, "%s", err.detail);
        const double limit = half ? 2e-2 : 1e-4, norm_limit = half ? 0.5 : 2e-2;
        const float *want = half ? saved_values(c->saved, "train/loss", ITERATIONS) : NULL,
                    *norm = half ? saved_values(c->saved, "train/norm", ITERATIONS) : NULL;
        const double loss = rc      ? INFINITY
                            : !half ? saved_compare(c->saved, "train/loss", v.loss, ITERATIONS)
                            : want  ? check_rel_diff(v.loss, want, ITERATIONS)
                                    : INFINITY;
        const double grad = rc      ? INFINITY
                            : !half ? saved_compare(c->saved, "train/norm", v.norm, ITERATIONS)
                            : norm  ? check_rel_diff(v.norm, norm, ITERATIONS)
                                    : INFINITY;
        check_end(c, loss <= limit && grad <= norm_limit && v.loss[ITERATIONS - 1] < 0.8f * v.loss[4],
                  "%d iterations, %.4f to %.4f: loss off by %.1e of %.0e, gradient by %.1e of %.0e", v.n,
                  (double)v.loss[0], (double)v.loss[ITERATIONS - 1], loss, limit, grad, norm_limit);
    }
}

static int same_file(const char *a, const char *b)
{
    void *x = NULL, *y = NULL;
    size_t n = 0, m = 0;
    const int same = !yd_file_read(a, 1 << 26, &x, &n, NULL) && !yd_file_read(b, 1 << 26, &y, &m, NULL) && n == m &&
                     memcmp(x, y, n) == 0;
    yd_free(x);
    yd_free(y);
    return same;
}

static void resumes(check *c, const char *folder)
{
    char straight[512], parted[512];
    curve v = {.n = 0};
    yd_err err = {0};
    if (!check_begin(c, "training", "stopped, saved in parts, resumed")) return;
    snprintf(straight, sizeof straight, "%s/straight.safetensors", folder);
    snprintf(parted, sizeof parted, "%s/parted.safetensors", folder);
    int rc = train(c, YD_TRAIN_F32, straight, (yd_train_options){.mode = YD_TRAIN_RESTART}, &v, &err);
    if (!rc)
        rc = train(c, YD_TRAIN_F32, parted,
                   (yd_train_options){.mode = YD_TRAIN_RESTART, .stop_after = STOP, .checkpoint_part = 1 << 20}, &v,
                   &err);
    if (!rc) rc = train(c, YD_TRAIN_F32, parted, (yd_train_options){.mode = YD_TRAIN_RESUME}, &v, &err);
    const int same = !rc && same_file(straight, parted);
    if (rc) check_detail(c, "%s", err.detail);
    check_end(c, same, "at %d of %d iterations: %s bytes in the model file", STOP, ITERATIONS,
              same ? "the same" : "other");
}

void check_train(check *c)
{
    char folder[] = "/tmp/yd-gpu-check-XXXXXX", out[64], command[96];
    if (!mkdtemp(folder)) {
        if (check_begin(c, "training", "folder")) check_end(c, 0, "no folder can be made in /tmp");
        return;
    }
    snprintf(out, sizeof out, "%s/losses.safetensors", folder);
    losses(c, out);
    resumes(c, folder);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) printf("  %s stays behind\n", folder);
}
