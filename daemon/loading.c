// How models come to the device and leave it, while it goes on with the jobs of others.
//
//   want -> [read, check, hash: a pool thread] -> reserve a seat -> [compile and warm up: chores of the device, a step between two batches] -> commit
//   -> what was read is given back: a pool thread
//   the last job of a retired version -> [free: a chore] -> left
// One load at a time. Whatever goes wrong is kept in the record as its problem, and what was resident before goes on. A model that the
// configuration asks for by name, and the default, must come at the start, or the service is broken; of "all" those that cannot be loaded are left out.
// The folders are looked at every SCAN_SWEEPS sweeps, in the pool.
// Threads: the loop's; *_work runs in the pool and *_step on the device's thread, and both touch only their task. Read next: registry.c, model_requests.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/memory.h"
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#define SCAN_SWEEPS 3

typedef struct yd_load {
    yd_chore chore; // first
    uv_work_t read;
    yd_service *service;
    yd_model_record *record;
    yd_model_file file, as;
    yd_model *model;
    yd_resident *coming;
    int seat, n_engines;
    yd_engine_info engine[YD_ENGINES_MAX];
    int rc;
    yd_err err;
    int64_t began_us, longest_us; // the longest step on the device: what jobs of others wait for at most
} yd_load;

static int is_fake(const yd_service *s)
{
    return strcmp(s->cfg->device, "fake") == 0;
}

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
static void started(yd_service *s, yd_model_record *m)
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

// What jobs may take is theirs; of the rest a model may have all.
static size_t derived_budget(const yd_config *cfg)
{
    const size_t there = yd_memory_available(), jobs = (size_t)cfg->max_memory_bytes;
    return there / 2 > jobs ? there - jobs : there / 2;
}

static int scan(const yd_config *cfg, const yd_model_file *before, int n_before, yd_model_file *files, int *n, yd_err *err)
{
    if (strcmp(cfg->device, "fake") != 0) return yd_models_scan(cfg->model_dir, before, n_before, files, n, err);
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

// ---- loading -------------------------------------------------------------------------------------------------------

static void tidy_work(uv_work_t *req)
{
    yd_pool_thread();
    yd_model_free(((yd_load *)req->data)->model);
    malloc_trim(0); // its weights are on the device: what they took on the way goes back to the system
}

static void tidy_after(uv_work_t *req, int status)
{
    yd_load *l = req->data;
    yd_service *s = l->service;
    (void)status;
    yd_free(l);
    yd_service_release(s);
}

static void load_over(yd_load *l)
{
    yd_service *s = l->service;
    yd_model_record *m = l->record;
    s->load = NULL;
    if (!s->closing) {
        started(s, m);
        if (s->device == YD_DEVICE_READY) yd_service_resume(s);
        yd_demands_look(s);
        yd_models_tell(s);
        yd_models_kick(s);
        yd_pipeline_kick(s);
    }
    uv_queue_work(s->loop, &l->read, tidy_work, tidy_after);
}

static void fail_load(yd_load *l)
{
    const int called_off = l->record->dropped || l->err.code == 0;
    if (!called_off)
        yd_log(YD_LOG_ERROR, NULL, "a model is not loaded", "model", l->record->file.name, "why", l->err.detail, NULL);
    yd_registry_refuse(&l->service->models, l->record, called_off ? &(yd_err){0} : &l->err);
    load_over(l);
}

static int compile_step(yd_chore *c, yd_device *d)
{
    yd_load *l = (yd_load *)c;
    const int64_t began_us = yd_mono_us();
    l->rc = d->load(d, l->seat, l->model, &l->err);
    const int64_t took_us = yd_mono_us() - began_us;
    if (took_us > l->longest_us) l->longest_us = took_us;
    if (l->rc > 0) return 1;
    const int first = l->seat * YD_ENGINES_MAX;
    while (!l->rc && l->n_engines < YD_ENGINES_MAX && d->info(d, first + l->n_engines, &l->engine[l->n_engines])) l->n_engines++;
    return 0;
}

// The scheduler hears of a resident's engines before the first job of theirs.
static void announce(yd_service *s, const yd_resident *v)
{
    int most = 1;
    for (int i = 0; i < s->models.n; i++) {
        const yd_resident *one = s->models.record[i]->current;
        if (one && one->engine[0].max_batch > most) most = one->engine[0].max_batch;
    }
    s->backend = v->engine[0].backend;
    yd_scheduler_device(&s->sched, most, s->backend.batch_pays);
    for (int k = 0; k < v->n_engines; k++) {
        yd_scheduler_engine(&s->sched, yd_models_engine(v, k), v->engine[k].warm_ms / 1000);
        yd_scheduler_engine_batch(&s->sched, yd_models_engine(v, k), v->engine[k].max_batch);
    }
}

static void compile_done(yd_chore *c)
{
    yd_load *l = (yd_load *)c;
    yd_service *s = l->service;
    yd_resident *v = l->coming;
    if (c->dropped || l->rc) {
        fail_load(l);
        return;
    }
    v->n_engines = l->n_engines;
    for (int k = 0; k < l->n_engines; k++) {
        v->engine[k] = l->engine[k];
        if (v->engine[k].max_batch < 1 || v->engine[k].max_batch > YD_BATCH_MAX) v->engine[k].max_batch = 1;
    }
    if (yd_registry_commit(&s->models, v, &l->err))
        yd_log(YD_LOG_ERROR, NULL, "a model is not loaded", "model", l->record->file.name, "why", l->err.detail, NULL);
    else {
        char ms[32], longest[32];
        snprintf(ms, sizeof ms, "%.0f", (double)(yd_mono_us() - l->began_us) / 1000);
        snprintf(longest, sizeof longest, "%.1f", (double)l->longest_us / 1000);
        yd_log(YD_LOG_INFO, NULL, "model loaded", "model", l->record->file.name, "checksum", v->checksum, "#ms", ms, "#longest_step_ms", longest, NULL);
        announce(s, v);
    }
    load_over(l);
}

static void read_work(uv_work_t *req)
{
    yd_load *l = req->data;
    yd_pool_thread();
    l->as = l->file;
    l->rc = is_fake(l->service) ? yd_device_fake_read(&l->file, &l->model, &l->err)
                                : yd_model_file_read(&l->file, l->service->cfg, &l->as, &l->model, &l->err);
}

static void read_after(uv_work_t *req, int status)
{
    yd_load *l = req->data;
    yd_service *s = l->service;
    (void)status;
    if (s->closing || l->record->dropped) {
        yd_err_clear(&l->err);
        fail_load(l);
        return;
    }
    if (!l->rc && l->model->assumed[0])
        yd_log(YD_LOG_WARN, NULL, "no config says all about the model", "model", l->file.path, "assumed", l->model->assumed, NULL);
    if (!l->rc) l->rc = yd_registry_reserve(&s->models, l->record, &l->as, l->model, &l->coming, &l->err);
    if (l->rc < 0) {
        fail_load(l);
    } else if (l->rc > 0) {
        load_over(l); // it is there
    } else {
        l->coming->cfg.nets = yd_mapper_nets(s->mapper);
        l->seat = l->coming->seat;
        l->chore.step = compile_step;
        l->chore.done = compile_done;
        yd_worker_chore(s->worker, &l->chore);
    }
}

static void begin(yd_service *s)
{
    yd_load *l = s->load || s->closing || s->device == YD_DEVICE_BROKEN ? NULL : yd_calloc(1, sizeof *l); // without memory: at the next kick
    if (!l) return;
    if (!(l->record = yd_registry_begin(&s->models))) {
        yd_free(l);
        return;
    }
    l->service = s;
    l->file = l->record->file;
    l->began_us = yd_mono_us();
    l->read.data = l;
    s->load = l;
    s->holds++;
    uv_queue_work(s->loop, &l->read, read_work, read_after);
}

// ---- leaving -------------------------------------------------------------------------------------------------------

typedef struct leave {
    yd_chore chore; // first
    yd_service *service;
    yd_resident *resident;
    int seat;
} leave;

static int leave_step(yd_chore *c, yd_device *d)
{
    d->unload(d, ((leave *)c)->seat);
    return 0;
}

static void leave_done(yd_chore *c)
{
    leave *l = (leave *)c;
    yd_service *s = l->service;
    yd_log(YD_LOG_INFO, NULL, "model unloaded", "model", l->resident->record->file.name, "checksum", l->resident->checksum, NULL);
    yd_registry_left(&s->models, l->resident);
    yd_free(l);
    if (!s->closing) {
        yd_models_tell(s);
        yd_models_kick(s);
    }
    yd_service_release(s);
}

static void see_off(yd_service *s)
{
    for (yd_resident *v; !s->closing && (v = yd_registry_leaving(&s->models));) {
        leave *l = yd_calloc(1, sizeof *l);
        if (!l) {
            v->leaving = 0; // at the next kick
            return;
        }
        l->chore.step = leave_step;
        l->chore.done = leave_done;
        l->service = s;
        l->resident = v;
        l->seat = v->seat;
        s->holds++;
        yd_worker_chore(s->worker, &l->chore);
    }
}

void yd_models_kick(yd_service *s)
{
    see_off(s);
    begin(s);
}

void yd_models_release(yd_service *s, yd_resident **at)
{
    yd_resident *v = *at;
    *at = NULL;
    yd_resident_release(v);
    if (v && v->users == 0 && v->record->current != v) yd_models_kick(s);
}
