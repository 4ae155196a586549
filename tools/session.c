// A model on a device and one sampler at a time: see session.h.
// Read next: core/engine.h
#include "tools/session.h"
#include "tools/cli.h"
#include <stdio.h>
#include <string.h>

// A single job fills a batch with windows of one step. Where batching pays, so many at once; elsewhere one, which needs less memory.
#define BATCH_WHERE_IT_PAYS 8

int yd_session_open(const yd_session_options *opt, yd_session *s, yd_err *err)
{
    memset(s, 0, sizeof *s);
    yd_engine_options engine = {.max_batch = 1};
    yd_backend_info be;
    int rc = 0;
    if (!opt->model)
        rc = yd_cli_default_model(s->path, sizeof s->path, err);
    else if (snprintf(s->path, sizeof s->path, "%s", opt->model) >= (int)sizeof s->path)
        rc = yd_fail(err, YD_E_NOT_FOUND, "the model's path is too long");
    if (rc == 0) rc = yd_model_load(s->path, &s->model, err);
    if (rc == 0) rc = yd_model_config_windows(&s->model->cfg, (int)opt->window, (int)opt->overlap, err);
    if (rc == 0) rc = yd_cli_open_backend(opt->device, opt->threads, &s->backend, err);
    if (rc == 0) rc = yd_cli_dtype(opt->dtype, s->backend, &engine.dtype, err);
    if (rc < 0) return rc;
    s->backend->info(s->backend, &be);
    if (be.batch_pays) engine.max_batch = BATCH_WHERE_IT_PAYS;
    rc = yd_engine_new(s->backend, s->model, &engine, &s->engine, err);
    if (rc == 0) yd_engine_info_get(s->engine, &s->info);
    return rc;
}

void yd_session_close(yd_session *s)
{
    yd_engine_free(s->engine);
    if (s->backend) s->backend->close(s->backend);
    yd_model_free(s->model);
    memset(s, 0, sizeof *s);
}

// Run the units that are ready now. The number of them, or a failure.
static int run_batch(yd_session *s, yd_sampler *sampler, const yd_session_watch *watch, yd_err *err)
{
    yd_unit unit[BATCH_WHERE_IT_PAYS];
    yd_sampler *owner[BATCH_WHERE_IT_PAYS];
    yd_step_info info[BATCH_WHERE_IT_PAYS];
    yd_err errs[BATCH_WHERE_IT_PAYS];
    int done[BATCH_WHERE_IT_PAYS], n = 0;
    while (n < s->info.max_batch && n < BATCH_WHERE_IT_PAYS && yd_sampler_next(sampler, &unit[n])) owner[n++] = sampler;
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
