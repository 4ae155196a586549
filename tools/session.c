// A model on a device and one sampler at a time: see session.h.
// Read next: core/engine.h
#include "tools/session.h"
#include "core/mem.h"
#include "tools/cli.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_BATCH  8 // a single job fills a batch with windows of one step
#define TIMED_RUNS 12

int yd_session_open(const yd_session_options *opt, yd_session *s, yd_err *err)
{
    memset(s, 0, sizeof *s);
    yd_engine_options engine = {0};
    yd_backend_info be;
    int rc = yd_cli_find_model(opt->model, s->path, sizeof s->path, err);
    if (rc == 0) rc = yd_cli_load_model(s->path, opt->config, &s->model, err);
    if (rc == 0) rc = yd_cli_attention_open(&opt->attention, opt->threads, &s->attention, err);
    if (rc == 0) s->model->cfg.nets = s->attention.nets;
    if (rc == 0) rc = yd_model_config_windows(&s->model->cfg, (int)opt->window, (int)opt->overlap, err);
    if (rc == 0) rc = yd_cli_open_backend(opt->device, opt->threads, opt->winograd, 1, &s->backend, err);
    if (rc == 0) rc = yd_cli_dtype(opt->dtype, s->backend, &engine.dtype, err);
    if (rc < 0) return rc;
    s->backend->info(s->backend, &be);
    if (strcmp(opt->dtype, "auto") == 0) engine.dtype = yd_model_config_dtype(&s->model->cfg, be.bf16);
    engine.resident = 1; // a sampler is run to its end on this thread
    engine.max_batch = be.batch_pays ? MAX_BATCH : yd_engine_preferred_batch(&s->model->cfg, MAX_BATCH);
    rc = yd_engine_new(s->backend, s->model, &engine, &s->engine, err);
    if (rc == 0) yd_engine_info_get(s->engine, &s->info);
    return rc;
}

void yd_session_close(yd_session *s)
{
    if (s->backend) yd_sampler_leave_all(s->backend); // those that did not come to their end
    yd_engine_free(s->engine);
    if (s->backend) s->backend->close(s->backend);
    yd_model_free(s->model);
    yd_cli_attention_close(&s->attention);
    memset(s, 0, sizeof *s);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int yd_session_time_unit(yd_session *s, double *ms, yd_err *err)
{
    const int n = s->info.max_batch;
    const size_t px = (size_t)n * (size_t)s->model->cfg.window * (size_t)s->model->cfg.window;
    float *x = yd_calloc(px * 6, sizeof *x), *out = yd_malloc(px * 3 * sizeof *out), level[MAX_BATCH] = {0};
    int rc = x && out ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for %d windows of %d pixels", n, s->model->cfg.window);
    *ms = INFINITY;
    for (int i = 0; i < TIMED_RUNS && rc == 0; i++) {
        const double began = now_ms();
        rc = yd_engine_forward(s->engine, x, level, n, out, err);
        *ms = fmin(*ms, (now_ms() - began) / n);
    }
    yd_free(x);
    yd_free(out);
    return rc;
}

// Run the units that are ready now. The number of them, or a failure.
static int run_batch(yd_session *s, yd_sampler *sampler, const yd_session_watch *watch, yd_err *err)
{
    yd_unit unit[MAX_BATCH];
    yd_sampler *owner[MAX_BATCH];
    yd_step_info info[MAX_BATCH];
    yd_err errs[MAX_BATCH];
    int done[MAX_BATCH], n = 0;
    while (n < s->info.max_batch && n < MAX_BATCH && yd_sampler_next(sampler, &unit[n])) owner[n++] = sampler;
    if (n == 0) return yd_fail(err, YD_E_INTERNAL, "the sampler is not done but has no unit to run");
    int rc = yd_engine_run(s->engine, owner, unit, n, done, info, errs);
    if (rc < 0 && err) *err = errs[0];
    for (int i = 0; i < n && rc >= 0; i++) {
        if (done[i] < 0) {
            if (err) *err = errs[i];
            return done[i];
        }
        if (done[i] && watch->step) rc = watch->step(watch->user, &info[i], err);
    }
    return rc < 0 ? rc : n;
}

int yd_session_run(yd_session *s, yd_sampler *sampler, const yd_session_watch *watch, yd_err *err)
{
    long units = 0;
    while (!yd_sampler_done(sampler)) {
        int n = run_batch(s, sampler, watch, err);
        if (n < 0) return n;
        units += n;
        if (watch->unit) watch->unit(watch->user, units);
    }
    return 0;
}
