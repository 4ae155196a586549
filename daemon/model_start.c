// Which models there are and which are to be there at the start; looking at their folders again every SCAN_SWEEPS sweeps, in the pool.
//
// A model that the configuration asks for by name, and the default, must come at the start, or the service is broken; of "all" those that
// cannot be loaded are left out. Threads: the loop's; look_work runs in the pool and touches only its task. Read next: loading.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/log.h"
#include "daemon/memory.h"
#include <stdio.h>
#include <string.h>

#define SCAN_SWEEPS 3

void yd_models_tell(yd_service *s)
{
    for (yd_model_watch *w = s->watches; w; w = w->next) w->fn(w->arg);
}

void yd_models_broken(yd_service *s, const yd_err *err)
{
    if (s->device == YD_DEVICE_BROKEN) return;
    s->device = YD_DEVICE_BROKEN;
    s->device_err = *err;
    yd_log(YD_LOG_ERROR, NULL, "the device cannot be used", "why", err->detail, NULL);
    if (s->broken) s->broken(s->broken_arg, err);
}

// ---- the start -----------------------------------------------------------------------------------------------------

static void log_engines(const yd_resident *v, const char *what)
{
    for (int i = 0; i < v->n_engines; i++) {
        const yd_engine_info *e = &v->engine[i];
        char unit[32];
        snprintf(unit, sizeof unit, "%.2f", e->warm_ms);
        yd_log(YD_LOG_INFO, NULL, what, "model", v->record->file.name, "device", e->backend.device, "isa", e->backend.isa, "dtype",
               yd_dtype_name(e->dtype), "#unit_ms", unit, NULL);
    }
}

static void become_ready(yd_service *s)
{
    yd_model_record *m;
    if (s->device != YD_DEVICE_LOADING || s->starting > 0) return;
    s->device = YD_DEVICE_READY;
    if (yd_registry_find(&s->models, "", &m, NULL) == 0 && m->current) log_engines(m->current, "ready");
}

static int is_all(const yd_config *cfg)
{
    return strcmp(cfg->models, "all") == 0;
}

// One of those that the service waits for has been loaded, or not.
void yd_models_started(yd_service *s, yd_model_record *m)
{
    if (!m->at_start) return;
    m->at_start = 0;
    s->starting--;
    const int needed = !is_all(s->cfg) || strcmp(m->file.name, s->models.default_name) == 0;
    if (!m->current && needed) yd_models_broken(s, &m->problem);
    become_ready(s);
}

static void want_at_start(yd_service *s, yd_model_record *m)
{
    if (m->at_start) return;
    m->at_start = 1;
    s->starting++;
    yd_registry_want(&s->models, m);
}

static int blame(yd_err *err, const char *setting)
{
    if (!err) return YD_E_CONFIG;
    snprintf(err->field, sizeof err->field, "%s", setting);
    return err->code = YD_E_CONFIG;
}

static int choose_default(yd_service *s, yd_err *err)
{
    yd_registry *r = &s->models;
    yd_model_record *m = r->record[0];
    for (int i = r->n; i-- > 0;)
        if (!r->record[i]->file.problem.code) m = r->record[i];
    if (*s->cfg->model && yd_registry_find(r, s->cfg->model, &m, err)) return blame(err, "model");
    memcpy(r->default_name, m->file.name, sizeof r->default_name);
    want_at_start(s, m);
    return 0;
}

static int choose_others(yd_service *s, yd_err *err)
{
    yd_registry *r = &s->models;
    char name[YD_MODEL_NAME_MAX];
    yd_model_record *m;
    if (is_all(s->cfg)) {
        for (int i = 0; i < r->n; i++) want_at_start(s, r->record[i]);
        return 0;
    }
    for (const char *at = s->cfg->models; *(at += strspn(at, ", "));) {
        const size_t n = strcspn(at, ", ");
        snprintf(name, sizeof name, "%.*s", (int)n, at);
        at += n;
        if (yd_registry_find(r, name, &m, err)) return blame(err, "models");
        want_at_start(s, m);
    }
    return 0;
}

// What jobs may take is theirs; of the rest a model may have all. Of devices with memory of their own: lanes.c, when they are open.
static size_t derived_budget(const yd_config *cfg)
{
    const size_t there = yd_memory_available(), jobs = (size_t)cfg->max_memory_bytes;
    return there / 2 > jobs ? there - jobs : there / 2;
}

static int scan(const yd_config *cfg, const yd_model_file *before, int n_before, yd_model_file *files, int *n, yd_err *err)
{
    if (!yd_device_choice_is_fake(cfg)) return yd_models_scan(cfg->model_dir, before, n_before, files, n, err);
    *n = yd_device_fake_scan(cfg, files);
    return 0;
}

int yd_models_open(yd_service *s, yd_err *err)
{
    const yd_config *cfg = s->cfg;
    int n = 0;
    const size_t budget = cfg->model_memory_bytes ? (size_t)cfg->model_memory_bytes : derived_budget(cfg);
    yd_registry_init(&s->models, budget, cfg->model_memory_bytes == 0);
    yd_model_file *files = yd_calloc(YD_MODELS_MAX, sizeof *files);
    int rc = files ? scan(cfg, NULL, 0, files, &n, err) : yd_fail(err, YD_E_NOMEM, "no memory to look for models");
    if (!rc && n == 0)
        rc = yd_fail_field(err, YD_E_CONFIG, "model_dir", "folders with *.safetensors, *.pth, *.pt or *.ckpt", "there is no model in %s", cfg->model_dir);
    if (!rc) rc = yd_registry_see(&s->models, files, n, err);
    yd_free(files);
    if (!rc) rc = choose_default(s, err);
    return rc ? rc : choose_others(s, err);
}

// ---- looking at the folders again ----------------------------------------------------------------------------------

typedef struct look {
    uv_work_t req;
    yd_service *service;
    yd_model_file *before, *files;
    int n_before, n, rc;
    yd_err err;
} look;

static void free_look(look *l)
{
    yd_free(l->before);
    yd_free(l->files);
    yd_free(l);
}

static void look_work(uv_work_t *req)
{
    look *l = req->data;
    yd_pool_thread();
    l->rc = scan(l->service->cfg, l->before, l->n_before, l->files, &l->n, &l->err);
}

static void look_after(uv_work_t *req, int status)
{
    look *l = req->data;
    yd_service *s = l->service;
    (void)status;
    s->scanning = 0;
    // A folder that cannot be read at the moment is no reason to forget what was in it.
    if (l->rc)
        yd_log(YD_LOG_WARN, NULL, "the model folders cannot be looked at", "why", l->err.detail, NULL);
    else if (yd_registry_see(&s->models, l->files, l->n, &l->err))
        yd_log(YD_LOG_WARN, NULL, "not every model is noted", "why", l->err.detail, NULL);
    free_look(l);
    yd_service_release(s);
}

void yd_models_sweep(yd_service *s)
{
    if (s->scanning || s->closing || ++s->sweeps < SCAN_SWEEPS) return;
    s->sweeps = 0;
    yd_models_try_again(s);
    look *l = yd_calloc(1, sizeof *l);
    if (!l) return; // another time
    l->before = yd_calloc(YD_MODELS_MAX, sizeof *l->before);
    l->files = yd_calloc(YD_MODELS_MAX, sizeof *l->files);
    if (!l->before || !l->files) {
        free_look(l);
        return;
    }
    for (int i = 0; i < s->models.n; i++) l->before[l->n_before++] = s->models.record[i]->file;
    l->service = s;
    l->req.data = l;
    s->scanning = 1;
    s->holds++;
    uv_queue_work(s->loop, &l->req, look_work, look_after);
}
