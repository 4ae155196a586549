// A real device: backend, model and engine, made on the thread that will use them.
//
// Units that fail for one job are that job's; an error of the whole run is the device's. Read next: core/engine.h.
#include "daemon/device.h"

#include "core/mem.h"
#include "daemon/log.h"
#include <stdio.h>
#include <string.h>

typedef struct engine_device {
    yd_device base;
    const yd_config *cfg;
    char path[512];
    yd_backend *backend;
    yd_model *model;
    yd_engine *engine[YD_ENGINES_MAX]; // the first has the weights
    int n_engines;
} engine_device;

static int open_device(yd_device *d, yd_err *err)
{
    engine_device *e = (engine_device *)d;
    int rc = yd_model_load(e->path, &e->model, err);
    if (!rc && e->model->assumed[0])
        yd_log(YD_LOG_WARN, NULL, "no config says all about the model", "model", e->path, "assumed", e->model->assumed, NULL);
    if (!rc) rc = yd_model_config_windows(&e->model->cfg, (int)e->cfg->window, (int)e->cfg->overlap, err);
    if (rc) return rc;
    yd_cpu_options co = {.threads = (int)e->cfg->threads, .no_winograd = strcmp(e->cfg->winograd, "off") == 0};
    if ((rc = yd_cpu_open(&co, &e->backend, err))) return rc;
    yd_backend_info bi;
    e->backend->info(e->backend, &bi);
    yd_dtype dtype[YD_ENGINES_MAX];
    const int n = yd_device_dtypes(e->cfg, &e->model->cfg, bi.bf16, dtype);
    const int most = (int)e->cfg->max_batch, batch = bi.batch_pays ? most : yd_engine_preferred_batch(&e->model->cfg, most);
    for (int i = 0; i < n && !rc; i++) {
        const yd_engine_options eo = {.dtype = dtype[i], .max_batch = batch, .weights_of = i ? e->engine[0] : NULL};
        rc = yd_engine_new(e->backend, e->model, &eo, &e->engine[i], err);
        if (!rc) e->n_engines++;
    }
    return rc;
}

static int run(yd_device *d, int engine, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info,
               yd_err *errs)
{
    return yd_engine_run(((engine_device *)d)->engine[engine], sampler, unit, n, done, info, errs);
}

static const yd_model *model(const yd_device *d)
{
    return ((const engine_device *)d)->model;
}

static int info(const yd_device *d, int engine, yd_engine_info *out)
{
    const engine_device *e = (const engine_device *)d;
    if (engine >= e->n_engines) return 0;
    yd_engine_info_get(e->engine[engine], out);
    return 1;
}

static void close_device(yd_device *d)
{
    engine_device *e = (engine_device *)d;
    while (e->n_engines > 0) yd_engine_free(e->engine[--e->n_engines]);
    if (e->backend) e->backend->close(e->backend);
    if (e->model) yd_model_free(e->model);
    yd_free(e);
}

int yd_device_engine_new(const yd_config *cfg, const char *path, yd_device **out, yd_err *err)
{
    engine_device *e = yd_calloc(1, sizeof *e);
    if (!e) return yd_fail(err, YD_E_NOMEM, "no memory for a device");
    e->base = (yd_device){open_device, run, model, info, close_device};
    e->cfg = cfg;
    snprintf(e->path, sizeof e->path, "%s", path);
    *out = &e->base;
    return 0;
}
