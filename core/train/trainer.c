// The training loop: read yd_train() at the bottom for the run, train_iterations() for the loop, one_iteration() for a step.
//
// Owns the graph, its weights on the backend, the compiled training step and the files it writes; knows nothing of signals, terminals or
// command lines. One caller's thread, plus prefetch.c's helper.
// Invariant: `state.iteration` counts optimiser steps that are in the weights; every way out of the loop, except a failure, writes
// exactly that state. After a failure nothing is written, so files from before a NaN stay usable.
// Read next: core/train/draw.c (what is learned), core/autodiff.c (how gradients come about)
#include "core/file.h"
#include "core/mem.h"
#include "core/train/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct trainer {
    yd_backend *be;
    const yd_train_config *cfg;
    const yd_train_options *opt;
    yd_dataset *data;
    yd_graph *graph;
    yd_weights *weights;
    yd_exec *exec;
    yd_prefetch *prefetch;
    float *x, *level, *target, *mask, *weight; // staging of the graph's inputs
    const float *loss;                         // and of its output, [batch]
    yd_train_state state;
    double start_s, saved_s, samples_per_s;
    double iteration_s, save_s; // the longest of each so far
    long done;                  // iterations of this call
    char identity[8192];
    char checkpoint[576];
} trainer;

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void notice(const trainer *t, const char *text)
{
    if (t->opt->notice) t->opt->notice(t->opt->user, text);
}

// ---- the schedules of one iteration (1-based)

// Linear warm-up, then half a cosine down to the floor.
static float rate_at(const yd_train_config *cfg, long iteration)
{
    if (iteration <= cfg->warmup) return cfg->lr * (float)iteration / (float)cfg->warmup;
    const double span = (double)(cfg->iterations - cfg->warmup);
    const double at = span > 0 ? fmin((double)(iteration - cfg->warmup) / span, 1.0) : 1.0;
    const double floor_ = (double)cfg->lr_floor, cosine = 0.5 * (1.0 + cos(3.14159265358979323846 * at));
    return (float)((double)cfg->lr * (floor_ + (1.0 - floor_) * cosine));
}

// The average forgets the untrained weights quickly at first: with a fixed 0.999 they would still weigh 5% after 3000 iterations.
static float ema_at(const yd_train_config *cfg, long iteration)
{
    const float early = (1.0f + (float)iteration) / (10.0f + (float)iteration);
    return early < cfg->ema ? early : cfg->ema;
}

// ---- one iteration

static void load_batch(trainer *t, const yd_batch *b)
{
    const size_t pixels = (size_t)b->n * (size_t)b->crop * (size_t)b->crop;
    memcpy(t->x, b->x, pixels * 6 * sizeof(float));
    memcpy(t->target, b->target, pixels * 3 * sizeof(float));
    memcpy(t->mask, b->mask, pixels * sizeof(float));
    memcpy(t->level, b->level, (size_t)b->n * sizeof(float));
    memcpy(t->weight, b->weight, (size_t)b->n * sizeof(float));
}

static double running_mean(double mean, double value, long count, double span)
{
    const double n = (double)count < span ? (double)count : span;
    return mean + (value - mean) / n;
}

static int all_finite(const float *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        if (!isfinite(v[i])) return 0;
    return 1;
}

// Does this input or parameter hold a NaN or an infinity? Other tensors share their memory and are gone by now.
static int is_bad(const trainer *t, int id, const yd_tensor *x)
{
    const size_t n = yd_tensor_numel(x);
    if (x->kind == YD_T_INPUT) return !all_finite(t->be->buffer(t->exec, id), n * (size_t)t->cfg->batch);
    if (x->kind != YD_T_PARAM) return 0;
    float *v = yd_malloc(n * sizeof *v);
    const int bad = v && !t->be->weights_read(t->weights, YD_W_PARAM, x->param, v, NULL) && !all_finite(v, n);
    yd_free(v);
    return bad;
}

// The loss of iteration k is no number: say where that began.
static int refuse_loss(const trainer *t, long k, yd_err *err)
{
    for (int i = 0; i < t->graph->n_tensors; i++) {
        const yd_tensor *x = &t->graph->tensors[i];
        if (is_bad(t, i, x))
            return yd_fail_field(err, YD_E_NUMERIC, x->name, "finite numbers",
                                 "the loss of iteration %ld is not finite: %s '%s' has a NaN or an infinity", k,
                                 x->kind == YD_T_INPUT ? "the input" : "the parameter", x->name);
    }
    return yd_fail_field(err, YD_E_NUMERIC, "loss", "a finite loss",
                         "the loss of iteration %ld is not finite, though inputs and parameters are: an activation "
                         "overflowed; a lower lr may help",
                         k);
}

static int one_iteration(trainer *t, double *grad_norm, yd_err *err)
{
    const long k = t->state.iteration + 1;
    const yd_batch *b = yd_prefetch_next(t->prefetch, err);
    if (!b) return YD_E_NOMEM;
    load_batch(t, b);
    int rc = t->be->run(t->exec, err);
    if (rc) return rc;
    double loss = 0;
    for (int i = 0; i < b->n; i++) loss += (double)t->loss[i];
    if (!isfinite(loss)) return refuse_loss(t, k, err);
    const yd_adamw hp = {.lr = rate_at(t->cfg, k),
                         .beta1 = 0.9f,
                         .beta2 = 0.999f,
                         .eps = 1e-8f,
                         .weight_decay = t->cfg->weight_decay,
                         .clip_norm = t->cfg->clip_norm,
                         .ema_decay = ema_at(t->cfg, k),
                         .step = k};
    yd_err why = {0};
    rc = t->be->adamw(t->weights, t->exec, &hp, grad_norm, &why);
    if (rc) return yd_fail_field(err, rc, why.field, why.accepted, "iteration %ld: %s", k, why.detail);
    t->state.iteration = k;
    t->state.loss = running_mean(t->state.loss, loss, k, 100);
    t->state.active = running_mean(t->state.active, b->active_share, k, 100);
    return 0;
}

static void report(const trainer *t, double grad_norm)
{
    if (!t->opt->progress) return;
    const yd_train_state *s = &t->state;
    const double left = (double)(t->cfg->iterations - s->iteration) * t->cfg->batch;
    const yd_train_progress p = {.iteration = s->iteration,
                                 .iterations = t->cfg->iterations,
                                 .loss = s->loss,
                                 .grad_norm = grad_norm,
                                 .lr = (double)rate_at(t->cfg, s->iteration),
                                 .samples_per_s = t->samples_per_s,
                                 .active_share = s->active,
                                 .eta_s = left / t->samples_per_s,
                                 .elapsed_s = now_s() - t->start_s};
    t->opt->progress(t->opt->user, &p);
}

// ---- the loop

static int save(trainer *t, yd_err *err)
{
    char text[704];
    const double began = now_s();
    int rc = yd_checkpoint_save(t->be, t->weights, t->graph, t->identity, &t->state, t->checkpoint,
                                t->opt->checkpoint_part, err);
    if (!rc) rc = yd_checkpoint_export(t->be, t->weights, t->graph, t->cfg, err);
    if (rc) return rc;
    t->saved_s = now_s();
    t->save_s = fmax(t->save_s, t->saved_s - began);
    snprintf(text, sizeof text, "iteration %ld is saved in %s", t->state.iteration, t->checkpoint);
    notice(t, text);
    return 0;
}

static int should_stop(const trainer *t)
{
    const yd_train_options *o = t->opt;
    if (t->state.iteration >= t->cfg->iterations) return 1;
    if (o->stop && *o->stop) return 1;
    if (o->stop_after > 0 && t->done >= o->stop_after) return 1;
    return o->max_minutes > 0 && now_s() - t->start_s + t->iteration_s + t->save_s >= o->max_minutes * 60;
}

static int train_iterations(trainer *t, yd_err *err)
{
    const long first = t->state.iteration;
    while (!should_stop(t)) {
        double began = now_s(), grad_norm = 0;
        int rc = one_iteration(t, &grad_norm, err);
        if (rc) return rc;
        const double took = fmax(now_s() - began, 1e-9), speed = t->cfg->batch / took;
        if (t->done > 0) t->iteration_s = fmax(t->iteration_s, took); // the first one warms caches up
        t->samples_per_s = running_mean(t->samples_per_s, speed, ++t->done, 20);
        report(t, grad_norm);
        if (t->cfg->checkpoint_every_s && now_s() - t->saved_s >= t->cfg->checkpoint_every_s && !should_stop(t) &&
            (rc = save(t, err)))
            return rc;
    }
    if (t->state.iteration > first || first == 0) return save(t, err);
    // A finished run that is resumed has no new weights, but its model file is written with the settings of now.
    return yd_checkpoint_export(t->be, t->weights, t->graph, t->cfg, err);
}

// ---- setting up

static int build_graph(trainer *t, yd_dtype act, yd_err *err)
{
    const int crop = t->cfg->crop;
    int rc = yd_net_build(&t->cfg->model.net, crop, crop, act, 1, &t->graph, err);
    if (rc) return rc;
    yd_graph_backward(t->graph, yd_graph_find(t->graph, "out"), t->cfg->loss_p);
    return yd_graph_finish(t->graph, err);
}

// The starting weights, onto the device: untrained ones, or those of a model file with the same network.
static int make_weights(trainer *t, yd_err *err)
{
    yd_model *m = NULL;
    int rc = t->opt->init_model && t->opt->mode != YD_TRAIN_RESUME
                 ? yd_model_load(t->opt->init_model, &m, err)
                 : yd_model_init(&t->cfg->model, t->cfg->seed, 1, &m, err);
    if (rc) return rc;
    if (memcmp(&m->cfg.net, &t->cfg->model.net, sizeof m->cfg.net) != 0)
        rc = yd_fail_field(err, YD_E_CONFIG, "init_model", "a model with the network that is to be trained",
                           "%s has another network than the training's settings", t->opt->init_model);
    if (!rc) rc = t->be->weights_new(t->be, t->graph, (const float *const *)m->params, 1, &t->weights, err);
    yd_model_free(m);
    return rc;
}

static float *staging(const trainer *t, const char *name)
{
    return t->be->buffer(t->exec, yd_graph_find(t->graph, name));
}

static int compile_step(trainer *t, yd_err *err)
{
    int rc = t->be->compile(t->be, t->graph, t->weights, t->cfg->batch, &t->exec, err);
    if (rc) return rc;
    t->x = staging(t, "x");
    t->level = staging(t, "level");
    t->target = staging(t, "target");
    t->mask = staging(t, "mask");
    t->weight = staging(t, "weight");
    t->loss = staging(t, "loss");
    if (t->x && t->level && t->target && t->mask && t->weight && t->loss) return 0;
    return yd_fail(err, YD_E_INTERNAL, "the training graph lacks an input or its loss");
}

int yd_train_checkpoint_path(const char *out, char *dst, size_t cap, yd_err *err)
{
    static const char ending[] = ".safetensors";
    size_t stem = strlen(out);
    if (stem > sizeof ending - 1 && strcmp(out + stem - (sizeof ending - 1), ending) == 0) stem -= sizeof ending - 1;
    int n = snprintf(dst, cap, "%.*s.checkpoint%s", (int)stem, out, ending);
    if (stem && n > 0 && (size_t)n < cap) return 0;
    return yd_fail_field(err, YD_E_CONFIG, "out", "the path of the model file to write",
                         "out, the model file to write, is %s", stem ? "too long a path" : "missing");
}

// Find out before hours of work, not after, that a file must not be replaced.
static int check_files(trainer *t, yd_err *err)
{
    int rc = yd_train_checkpoint_path(t->cfg->out, t->checkpoint, sizeof t->checkpoint, err);
    if (rc) return rc;
    const int exists = access(t->checkpoint, F_OK) == 0;
    if (t->opt->mode == YD_TRAIN_START && exists)
        return yd_fail_field(err, YD_E_CONFLICT, "out", "resume, restart, or another out",
                             "%s is there already: resume it, ask for a restart, or choose another out", t->checkpoint);
    if (t->opt->mode == YD_TRAIN_RESUME && !exists)
        return yd_fail(err, YD_E_IO, "there is no checkpoint %s to resume from", t->checkpoint);
    return 0;
}

static int prepare(trainer *t, yd_err *err)
{
    yd_backend_info info;
    t->be->info(t->be, &info);
    const yd_train_dtype want = t->cfg->dtype;
    const yd_dtype act = want == YD_TRAIN_BF16 || (want == YD_TRAIN_AUTO && info.bf16) ? YD_BF16 : YD_F32;
    int rc = yd_train_config_check(t->cfg, err);
    if (rc) return rc;
    if (yd_train_config_identity(t->cfg, act, t->identity, sizeof t->identity) >= sizeof t->identity)
        return yd_fail(err, YD_E_INTERNAL, "the settings do not fit a checkpoint's metadata");
    rc = check_files(t, err);
    if (!rc) rc = build_graph(t, act, err);
    if (!rc) rc = make_weights(t, err);
    if (!rc) rc = compile_step(t, err);
    if (!rc) rc = yd_dataset_load(t->cfg, t->opt, &t->data, err);
    if (rc) return rc;
    t->state.data_digest = t->data->digest;
    if (t->opt->mode == YD_TRAIN_RESUME)
        rc = yd_checkpoint_load(t->be, t->weights, t->graph, t->identity, t->checkpoint, &t->state, err);
    if (!rc) rc = yd_prefetch_start(t->cfg, t->data, t->state.iteration + 1, &t->prefetch, err);
    return rc;
}

static void tear_down(trainer *t)
{
    yd_prefetch_stop(t->prefetch);
    yd_dataset_free(t->data);
    if (t->exec) t->be->exec_free(t->exec);
    if (t->weights) t->be->weights_free(t->weights);
    yd_graph_free(t->graph);
    yd_free(t);
}

int yd_train(yd_backend *be, const yd_train_config *cfg, const yd_train_options *opt, yd_train_result *res, yd_err *err)
{
    trainer *t = yd_calloc(1, sizeof *t);
    if (!t) return yd_fail(err, YD_E_NOMEM, "out of memory for a training");
    t->be = be;
    t->cfg = cfg;
    t->opt = opt;
    t->start_s = t->saved_s = now_s();
    int rc = prepare(t, err);
    if (!rc) rc = train_iterations(t, err);
    if (!rc && res)
        *res = (yd_train_result){.iteration = t->state.iteration,
                                 .finished = t->state.iteration >= cfg->iterations,
                                 .loss = t->state.loss,
                                 .pictures = t->data->count,
                                 .skipped = t->data->skipped};
    tear_down(t);
    return rc;
}
