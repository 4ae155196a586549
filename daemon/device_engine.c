// A real device: a backend and the engines of the models on it, made on the thread that will use them.
//
// Units that fail for one job are that job's; an error of the whole run is the device's. Read next: core/engine.h.
#include "daemon/device.h"

#include "core/backend_load.h"
#include "core/mem.h"
#include <malloc.h>
#include <stdio.h>
#include <string.h>

typedef struct seat {
    yd_engine *engine[YD_ENGINES_MAX]; // the first has the weights
    yd_dtype dtype[YD_ENGINES_MAX];
    int n, wanted; // engines that are there, the last perhaps not ready; 0 wanted: the seat is free
    int batch;
} seat;

typedef struct engine_device {
    yd_device base;
    const yd_config *cfg;
    int cuda, number; // a GPU, which one
    char plans[YD_TEXT_MAX + 32];
    yd_backend *backend;
    seat seats[YD_SEATS];
} engine_device;

// What was chosen for cards' kernels is kept beside the jobs, one file for all cards, so that those of one kind agree.
static const char *plan_cache(engine_device *e)
{
    if (!*e->cfg->state_dir) return NULL;
    snprintf(e->plans, sizeof e->plans, "%s/cuda-plans", e->cfg->state_dir);
    return e->plans;
}

// Other processes that have jobs of ours would have to have the same file.
int yd_device_tune_ms(const yd_config *c)
{
    const int on = strcmp(c->tuning, "auto") == 0 ? !*c->store : strcmp(c->tuning, "on") == 0;
    return on ? (int)c->tuning_ms : 0;
}

static int open_backend(engine_device *e, yd_err *err)
{
    if (e->cuda) {
        const yd_cuda_options go = {.device = e->number, .batch_variant = !e->cfg->batch_invariant, .tf32 = e->cfg->tf32,
                                    .plan_cache = plan_cache(e), .tune_ms = yd_device_tune_ms(e->cfg), .canvases = 1};
        return yd_cuda_open(&go, &e->backend, err);
    }
    const yd_cpu_options co = {.threads = (int)e->cfg->threads, .no_winograd = strcmp(e->cfg->winograd, "off") == 0};
    return yd_cpu_open(&co, &e->backend, err);
}

static int open_device(yd_device *d, yd_backend_info *about, yd_err *err)
{
    engine_device *e = (engine_device *)d;
    const int rc = open_backend(e, err);
    if (!rc) e->backend->info(e->backend, about);
    return rc;
}

static void unload(yd_device *d, int at)
{
    seat *t = &((engine_device *)d)->seats[at];
    while (t->n > 0) yd_engine_free(t->engine[--t->n]);
    t->wanted = 0;
    malloc_trim(0); // what is free goes back to the system, where others may need it
}

static void sit_down(engine_device *e, seat *t, const yd_model_config *cfg)
{
    yd_backend_info bi;
    e->backend->info(e->backend, &bi);
    t->wanted = yd_device_dtypes(e->cfg, cfg, bi.bf16, t->dtype);
    t->batch = bi.batch_pays ? (int)e->cfg->max_batch : yd_engine_preferred_batch(cfg, (int)e->cfg->max_batch);
}

// One step: of the engine that is being made, or the beginning of the next one.
static int step(engine_device *e, seat *t, const yd_model *m, yd_err *err)
{
    int rc = t->n ? yd_engine_step(t->engine[t->n - 1], err) : 0;
    if (rc || t->n == t->wanted) return rc;
    const yd_engine_options eo = {.dtype = t->dtype[t->n], .max_batch = t->batch, .resident = 1, .weights_of = t->n ? t->engine[0] : NULL};
    if ((rc = yd_engine_begin(e->backend, m, &eo, &t->engine[t->n], err))) return rc;
    t->n++;
    return 1;
}

static int load(yd_device *d, int at, const yd_model *m, yd_err *err)
{
    engine_device *e = (engine_device *)d;
    seat *t = &e->seats[at];
    if (!t->wanted) sit_down(e, t, &m->cfg);
    const int rc = step(e, t, m, err);
    if (rc < 0) unload(d, at);
    return rc;
}

static int run(yd_device *d, int engine, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info,
               yd_err *errs)
{
    const seat *t = &((engine_device *)d)->seats[engine / YD_ENGINES_MAX];
    return yd_engine_run(t->engine[engine % YD_ENGINES_MAX], sampler, unit, n, done, info, errs);
}

static int info(const yd_device *d, int engine, yd_engine_info *out)
{
    const seat *t = &((const engine_device *)d)->seats[engine / YD_ENGINES_MAX];
    if (engine % YD_ENGINES_MAX >= t->n) return 0;
    yd_engine_info_get(t->engine[engine % YD_ENGINES_MAX], out);
    return 1;
}

static void shut(yd_device *d)
{
    engine_device *e = (engine_device *)d;
    if (e->backend) yd_sampler_leave_all(e->backend); // what can be read goes on elsewhere from where it stands
    for (int i = 0; i < YD_SEATS; i++)
        if (e->seats[i].wanted) unload(d, i);
    if (e->backend) e->backend->close(e->backend);
    e->backend = NULL;
}

static int memory(const yd_device *d, yd_backend_memory *out)
{
    const yd_backend *be = ((const engine_device *)d)->backend;
    return be && be->memory && be->memory(be, out, NULL) == 0 ? 0 : -1;
}

static void close_device(yd_device *d)
{
    shut(d);
    yd_free(d);
}

int yd_device_engine_new(const yd_config *cfg, int cuda, int number, yd_device **out, yd_err *err)
{
    engine_device *e = yd_calloc(1, sizeof *e);
    if (!e) return yd_fail(err, YD_E_NOMEM, "no memory for a device");
    e->base = (yd_device){.open = open_device, .shut = shut, .load = load, .unload = unload, .run = run, .info = info, .memory = memory,
                          .close = close_device};
    e->cfg = cfg;
    e->cuda = cuda;
    e->number = number;
    *out = &e->base;
    return 0;
}
