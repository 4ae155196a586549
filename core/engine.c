// A model resident on a device: its weights once, its graph compiled for some batch sizes up to max_batch (core/buckets.h).
//
// Owns: weights and execs on the backend, one graph. A run gathers the units' windows into the staging of the smallest compiled batch
// that holds them, runs it, and puts the predictions back in order; the unused rest of a batch keeps its last content, which no
// sample can see. A network's encoder is compiled for one window: it runs once for each, before the window's first unit. Where that rest costs as much as units do (no batch_pays), the largest batch that is filled runs first. Nothing is allocated once it is made.
// Threads: the device's owner only. Read next: core/sampler.c, core/backend.h.
#include "core/engine.h"
#include "core/buckets.h"
#include "core/mem.h"

#include <string.h>
#include <time.h>

#define MAX_BUCKETS 7 // 1, 2, 4, ... MAX_BATCH
#define MAX_BATCH   64

// Timed runs: as many as take this long, within bounds.
#define WARM_MS    100
#define WARM_LEAST 3
#define WARM_MOST  32

typedef struct bucket {
    int n;
    yd_exec *exec;
    float *x, *level, *cond, *out; // staging; cond: what the encoder made, NULL without one
} bucket;

typedef struct encoder {
    yd_graph *graph; // NULL: the network has none
    yd_exec *exec;
    float *lr, *out; // staging
} encoder;

struct yd_engine {
    yd_backend *be;
    yd_graph *graph;
    yd_weights *weights;
    int borrowed; // weights are another engine's
    bucket buckets[YD_BUCKETS_MAX];
    int sizes[YD_BUCKETS_MAX]; // of the buckets
    int n_buckets;
    int untouched; // the last bucket has not run yet
    int warm_runs; // timed so far, and how long they took
    double warm_spent_ms;
    int window_w, window_h;
    int up_scale;        // of the encoder
    int resident;        // canvases go to the device
    yd_canvas_unit units[MAX_BATCH]; // of a run
    int bad[MAX_BATCH];
    size_t in_c, cond_c; // channels of the network's inputs; cond_c 0 without an encoder
    encoder encoder;
    yd_engine_info info;
};

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void yd_engine_free(yd_engine *e)
{
    if (!e) return;
    for (int i = 0; i < e->n_buckets; i++) e->be->exec_free(e->buckets[i].exec);
    if (e->encoder.exec) e->be->exec_free(e->encoder.exec);
    if (e->weights && !e->borrowed) e->be->weights_free(e->weights);
    yd_graph_free(e->encoder.graph);
    yd_graph_free(e->graph);
    yd_free(e);
}

// Where the samples of a batch begin in its staging.
static size_t pixels(const yd_engine *e)
{
    return (size_t)e->window_h * (size_t)e->window_w;
}

static void count_memory(yd_engine *e, const yd_exec *exec, int weights)
{
    yd_exec_stats st;
    e->be->exec_stats(exec, &st);
    e->info.arena_bytes += st.arena_bytes + st.scratch_bytes;
    if (weights) e->info.weight_bytes += st.weight_bytes;
}

static int add_encoder(yd_engine *e, yd_err *err)
{
    encoder *c = &e->encoder;
    int rc = e->be->compile(e->be, c->graph, e->weights, 1, &c->exec, err);
    if (rc) return rc;
    c->lr = e->be->buffer(c->exec, yd_graph_find(c->graph, "lr"));
    c->out = e->be->buffer(c->exec, yd_graph_find(c->graph, "out"));
    if (!c->lr || !c->out) return yd_fail(err, YD_E_INTERNAL, "the backend has no staging for the encoder's inputs");
    memset(c->lr, 0, pixels(e) / ((size_t)e->up_scale * (size_t)e->up_scale) * 3 * sizeof(float));
    count_memory(e, c->exec, 1);
    return e->be->run(c->exec, err);
}

static int add_bucket(yd_engine *e, int n, yd_err *err)
{
    bucket *b = &e->buckets[e->n_buckets];
    int rc = e->be->compile(e->be, e->graph, e->weights, n, &b->exec, err);
    if (rc) return rc;
    e->sizes[e->n_buckets++] = b->n = n;
    b->x = e->be->buffer(b->exec, yd_graph_find(e->graph, "x"));
    b->level = e->be->buffer(b->exec, yd_graph_find(e->graph, "level"));
    b->out = e->be->buffer(b->exec, yd_graph_find(e->graph, "out"));
    if (e->cond_c) b->cond = e->be->buffer(b->exec, yd_graph_find(e->graph, "cond"));
    if (!b->x || !b->level || !b->out || (e->cond_c && !b->cond))
        return yd_fail(err, YD_E_INTERNAL, "the backend has no staging for the network's inputs");
    if (b->cond) memset(b->cond, 0, (size_t)n * pixels(e) * e->cond_c * sizeof(float));
    count_memory(e, b->exec, e->n_buckets == 1); // the other buckets use the same copies of weights
    e->untouched = 1;
    return 0;
}

// Small windows leave the processor waiting between kernels and reading weights for few pixels. Measured on the shipped
// model: 64 x 64 costs 1.4 times less per unit in batches of 8, 32 x 32 1.7 times less; from this many pixels on, nothing.
int yd_engine_preferred_batch(const yd_model_config *cfg, int max)
{
    const long pixels = (long)cfg->window * (cfg->window_height ? cfg->window_height : cfg->window), want = 2L * 128 * 128;
    long n = pixels < want ? want / pixels : 1;
    return n < max ? (int)n : max;
}

// A timed run. The quickest of so many is close to what a unit takes when nothing else is in the way. 1: another one is wanted.
static int warm(yd_engine *e, yd_err *err)
{
    const double began = now_ms();
    int rc = e->be->run(e->buckets[0].exec, err);
    if (rc) return rc;
    const double took = now_ms() - began;
    if (e->warm_runs++ == 0 || took < e->info.warm_ms) e->info.warm_ms = took;
    e->warm_spent_ms += took;
    return e->warm_runs < WARM_LEAST || (e->warm_runs < WARM_MOST && e->warm_spent_ms < WARM_MS);
}

int yd_engine_step(yd_engine *e, yd_err *err)
{
    const bucket *last = e->n_buckets ? &e->buckets[e->n_buckets - 1] : NULL;
    int rc;
    if (e->encoder.graph && !e->encoder.exec) return (rc = add_encoder(e, err)) ? rc : 1;
    if (last && e->untouched) { // the first run touches all memory, so that no request pays for it
        e->untouched = 0;
        return (rc = e->be->run(last->exec, err)) ? rc : 1;
    }
    if (last && last->n == e->info.max_batch) return warm(e, err);
    return (rc = add_bucket(e, yd_bucket_after(last ? last->n : 0, e->info.max_batch, e->info.backend.batch_pays), err)) ? rc : 1;
}

int yd_engine_begin(yd_backend *be, const yd_model *m, const yd_engine_options *opt, yd_engine **out, yd_err *err)
{
    *out = NULL;
    if (opt->max_batch < 1 || opt->max_batch > MAX_BATCH)
        return yd_fail_field(err, YD_E_SETTING, "max_batch", "1 to 64", "max_batch is %d", opt->max_batch);
    yd_engine *e = yd_calloc(1, sizeof *e);
    if (!e) return yd_fail(err, YD_E_NOMEM, "no memory for an engine");
    e->be = be;
    e->resident = opt->resident && be->canvas;
    e->window_w = m->cfg.window;
    e->window_h = m->cfg.window_height ? m->cfg.window_height : m->cfg.window;
    be->info(be, &e->info.backend);
    e->info.dtype = opt->dtype;
    e->info.window = m->cfg.window;
    e->info.max_batch = opt->max_batch;
    e->info.preferred_batch = yd_engine_preferred_batch(&m->cfg, opt->max_batch);
    e->borrowed = opt->weights_of != NULL;
    e->weights = e->borrowed ? opt->weights_of->weights : NULL;
    e->info.weight_bytes = e->borrowed ? 0 : m->param_count * sizeof(float);
    e->in_c = (size_t)m->cfg.net.in_channel;
    int rc = yd_net_build(&m->cfg.net, e->window_h, e->window_w, opt->dtype, 0, &e->graph, err);
    if (!rc && yd_net_has_encoder(&m->cfg.net)) {
        e->cond_c = (size_t)m->cfg.net.inner_channel;
        e->up_scale = m->cfg.net.up_scale;
        rc = yd_net_build_encoder(&m->cfg.net, e->window_h, e->window_w, &e->encoder.graph, err);
    }
    if (!rc) e->info.unit_flops = yd_graph_flops(e->graph);
    if (!rc && !e->borrowed) rc = be->weights_new(be, e->graph, (const float *const *)m->params, 0, &e->weights, err);
    if (rc) {
        yd_engine_free(e);
        return rc;
    }
    *out = e;
    return 0;
}

int yd_engine_new(yd_backend *be, const yd_model *m, const yd_engine_options *opt, yd_engine **out, yd_err *err)
{
    int rc = yd_engine_begin(be, m, opt, out, err);
    if (rc) return rc;
    while ((rc = yd_engine_step(*out, err)) > 0) continue;
    if (rc) {
        yd_engine_free(*out);
        *out = NULL;
    }
    return rc;
}

void yd_engine_info_get(const yd_engine *e, yd_engine_info *out)
{
    *out = e->info;
}

// The smallest compiled batch for n samples; NULL when n is out of range.
static bucket *bucket_for(yd_engine *e, int n)
{
    const int i = yd_bucket_choose(e->sizes, e->n_buckets, n, 0);
    return i < 0 ? NULL : &e->buckets[i];
}

// The batch to run n units with, or the first of them; n is in range.
static bucket *bucket_to_run(yd_engine *e, int n)
{
    return &e->buckets[yd_bucket_choose(e->sizes, e->n_buckets, n, !e->info.backend.batch_pays)];
}

// What the encoder makes of the unit's window, into the staging: from what the job has kept, or by running it.
static int fetch_features(yd_engine *e, yd_sampler *s, const yd_unit *u, float *cond, yd_err *err)
{
    const size_t bytes = pixels(e) * e->cond_c * sizeof(float);
    const float *kept = yd_sampler_features(s, u);
    if (kept) {
        memcpy(cond, kept, bytes);
        return 0;
    }
    yd_sampler_gather_lr(s, u, e->encoder.lr);
    int rc = e->be->run(e->encoder.exec, err);
    if (rc) return rc;
    yd_sampler_keep_features(s, u, e->encoder.out);
    memcpy(cond, e->encoder.out, bytes);
    return 0;
}

// Fill the staging of sample `at` of a batch.
static int gather(yd_engine *e, bucket *b, int at, yd_sampler *s, const yd_unit *u, yd_err *err)
{
    const size_t first = (size_t)at * pixels(e);
    yd_sampler_gather(s, u, b->x + first * e->in_c, &b->level[at]);
    return e->cond_c ? fetch_features(e, s, u, b->cond + first * e->cond_c, err) : 0;
}

// Cut the units out, run, and put the predictions back, on the device for samplers whose canvas it has and through staging for others.
static int run_bucket(yd_engine *e, bucket *b, yd_sampler *const *sampler, const yd_unit *unit, int n, int *on_device, yd_err *err)
{
    int rc = 0, any = 0;
    for (int i = 0; i < n && rc >= 0; i++) {
        rc = on_device[i] = e->resident ? yd_sampler_enter(sampler[i], e->be, err) : 0;
        if (rc == 0) rc = gather(e, b, i, sampler[i], &unit[i], err);
        any |= on_device[i];
        if (e->resident) yd_sampler_device_unit(sampler[i], &unit[i], &e->units[i]);
    }
    if (rc < 0) return rc;
    if (!any) return e->be->run(b->exec, err);
    const yd_graph *g = e->graph;
    rc = e->be->canvas->run(b->exec, yd_graph_find(g, "x"), yd_graph_find(g, "level"), yd_graph_find(g, "out"), e->units, n, e->bad, err);
    for (int i = 0; i < n && rc; i++)
        if (on_device[i]) yd_sampler_device_failed(sampler[i]);
    return rc;
}

int yd_engine_run(yd_engine *e, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info, yd_err *errs)
{
    if (!bucket_for(e, n)) return yd_fail(errs, YD_E_INTERNAL, "a batch of %d units, at most %d are compiled", n, e->info.max_batch);
    for (int from = 0, to; from < n; from = to) {
        bucket *b = bucket_to_run(e, n - from);
        int on_device[MAX_BATCH] = {0};
        to = b->n < n - from ? from + b->n : n;
        int rc = run_bucket(e, b, sampler + from, unit + from, to - from, on_device, errs);
        if (rc) return rc;
        for (int i = from; i < to; i++) {
            yd_err *err = errs ? &errs[i] : NULL;
            if (on_device[i - from])
                done[i] = yd_sampler_device_took(sampler[i], &unit[i], e->bad[i - from], &info[i], err);
            else
                done[i] = yd_sampler_scatter(sampler[i], &unit[i], b->out + (size_t)(i - from) * pixels(e) * 3, &info[i], err);
            if (done[i] != YD_E_DEVICE) continue;
            if (errs && i) errs[0] = errs[i]; // the step failed, not the job
            for (int k = i; k < to; k++)
                if (on_device[k - from]) yd_sampler_device_failed(sampler[k]);
            return YD_E_DEVICE;
        }
    }
    return 0;
}

int yd_engine_forward(yd_engine *e, const float *x, const float *level, int n, float *out, yd_err *err)
{
    bucket *b = bucket_for(e, n);
    if (!b) return yd_fail(err, YD_E_INTERNAL, "a batch of %d samples, at most %d are compiled", n, e->info.max_batch);
    const size_t px = (size_t)n * pixels(e);
    memcpy(b->x, x, px * e->in_c * sizeof(float));
    memcpy(b->level, level, (size_t)n * sizeof(float));
    if (b->cond) memset(b->cond, 0, px * e->cond_c * sizeof(float));
    int rc = e->be->run(b->exec, err);
    if (rc) return rc;
    memcpy(out, b->out, px * 3 * sizeof(float));
    return 0;
}
