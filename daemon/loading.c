// How models come to the devices and leave them, while those go on with the jobs of others.
//
//   want -> [read, check, hash: a pool thread] -> reserve a seat -> [compile and warm up: chores of every device, a step between two batches] -> commit
//   -> what was read is given back: a pool thread
//   the last job of a retired version -> [free: chores] -> left
//   a device was opened again -> [read: a pool thread] -> the same version as before? -> [compile and warm up: a chore of that device] -> it is on that, too
// One load at a time. Whatever goes wrong is kept in the record as its problem, and what was resident before goes on. A model is resident when one device
// at least has it, at the same seat on all. A version that no device has any more and whose file is another one now is given up with the jobs it has.
// Threads: the loop's; *_work runs in the pool and *_step on a device's thread, and both touch only their part of the task, and read the model.
// Read next: registry.c, model_start.c, model_requests.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <malloc.h>
#include <stdio.h>
#include <string.h>

// A load's work on one device.
typedef struct load_part {
    yd_chore chore; // first
    struct yd_load *load;
    yd_lane *lane;
    int rc, n_engines;
    yd_engine_info engine[YD_ENGINES_MAX];
    yd_err err;
    int64_t longest_us; // the longest step: what jobs of others wait for at most
} load_part;

typedef struct yd_load {
    uv_work_t read;
    yd_service *service;
    yd_model_record *record;
    yd_model_file file, as;
    yd_model *model;
    yd_resident *coming;
    int again;            // it is resident, and comes to a device that has lost it
    unsigned lanes, lost; // devices that are to get it; of these, those that failed meanwhile
    load_part part[YD_DEVICES_MAX];
    int parts; // that are not through
    int rc;
    yd_err err;
    int64_t began_us;
} yd_load;

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
    s->load = NULL;
    if (l->again) yd_models_release(s, &l->coming);
    if (!s->closing) {
        if (!l->again) yd_models_started(s, l->record);
        if (s->device == YD_DEVICE_READY) yd_service_resume(s);
        yd_demands_look(s);
        yd_models_tell(s);
        yd_lanes_look(s);
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

// Which devices have a version: for itself and the scheduler.
static void set_on(yd_service *s, yd_resident *v, unsigned on)
{
    v->on = on;
    for (int k = 0; k < v->n_engines; k++) yd_scheduler_engine_on(&s->sched, yd_models_engine(v, k), on);
}

// ---- coming back ---------------------------------------------------------------------------------------------------

void yd_models_off(yd_service *s, unsigned lanes)
{
    if (s->load) s->load->lost |= lanes;
    for (int i = 0; i < s->models.n; i++) {
        const yd_model_record *m = s->models.record[i];
        if (m->current) set_on(s, m->current, m->current->on & ~lanes);
        if (m->current) m->current->refused &= ~lanes;
        for (yd_resident *v = m->retired; v; v = v->next) {
            set_on(s, v, v->on & ~lanes);
            v->refused &= ~lanes;
        }
    }
}

// Devices that should have it and have not.
static unsigned missing(const yd_service *s, const yd_resident *v)
{
    return !v || v->leaving || (v != v->record->current && v->users == 0) ? 0 : yd_lanes_up(s) & ~(v->on | v->refused);
}

// A version that is to come back; the default's first, since most jobs are for that.
static yd_resident *next_missing(const yd_service *s)
{
    yd_resident *first = NULL;
    for (int i = 0; i < s->models.n; i++) {
        const yd_model_record *m = s->models.record[i];
        const int is_default = strcmp(m->file.name, s->models.default_name) == 0;
        if (missing(s, m->current) && (!first || is_default)) first = m->current;
        for (yd_resident *v = m->retired; v; v = v->next)
            if (!first && missing(s, v)) first = v;
    }
    return first;
}

// No device has this version, and its file is not what it was: whoever waits for it would wait for ever.
static void give_up(yd_load *l)
{
    yd_service *s = l->service;
    yd_resident *v = l->coming;
    yd_log(YD_LOG_ERROR, NULL, "a model is lost: the device failed that had it, and its file has changed since",
           "model", v->record->file.name, "checksum", v->checksum, NULL);
    if (v->record->current == v) {
        yd_registry_unload(v->record);
        yd_registry_want(&s->models, v->record);
    }
    yd_fail(&l->err, YD_E_DEVICE,
            "the device failed, and the version of the model %s that the job was taken for is not there any more",
            v->record->file.name);
    yd_pipeline_end_of_model(s, v, &l->err);
}

void yd_models_try_again(yd_service *s)
{
    for (int i = 0; i < s->models.n; i++) {
        const yd_model_record *m = s->models.record[i];
        if (m->current && !m->current->on) m->current->refused = 0;
        for (yd_resident *v = m->retired; v; v = v->next)
            if (!v->on) v->refused = 0;
    }
    yd_models_kick(s);
}

// ---- compiling -----------------------------------------------------------------------------------------------------

static int compile_step(yd_chore *c, yd_device *d)
{
    load_part *p = (load_part *)c;
    const int seat = p->load->coming->seat;
    const int64_t began_us = yd_mono_us();
    p->rc = d->load(d, seat, p->load->model, &p->err);
    const int64_t took_us = yd_mono_us() - began_us;
    if (took_us > p->longest_us) p->longest_us = took_us;
    if (p->rc > 0) return 1;
    const int first = seat * YD_ENGINES_MAX;
    while (!p->rc && p->n_engines < YD_ENGINES_MAX && d->info(d, first + p->n_engines, &p->engine[p->n_engines]))
        p->n_engines++;
    return p->rc == YD_E_DEVICE ? -1 : 0;
}

// The scheduler hears of a resident's engines before the first job of theirs.
static void announce(yd_service *s, const yd_resident *v)
{
    int most = 1;
    for (int i = 0; i < s->models.n; i++) {
        const yd_resident *one = s->models.record[i]->current;
        if (one && one->engine[0].max_batch > most) most = one->engine[0].max_batch;
    }
    yd_scheduler_device(&s->sched, most, s->backend.batch_pays);
    for (int k = 0; k < v->n_engines; k++) {
        yd_scheduler_engine(&s->sched, yd_models_engine(v, k), v->engine[k].warm_ms / 1000);
        yd_scheduler_engine_batch(&s->sched, yd_models_engine(v, k), v->engine[k].max_batch);
    }
}

static void commit(yd_load *l, const load_part *p, unsigned on)
{
    yd_service *s = l->service;
    yd_resident *v = l->coming;
    v->n_engines = p->n_engines;
    for (int k = 0; k < p->n_engines; k++) {
        v->engine[k] = p->engine[k];
        if (v->engine[k].max_batch < 1 || v->engine[k].max_batch > YD_BATCH_MAX) v->engine[k].max_batch = 1;
    }
    set_on(s, v, on);
    if (yd_registry_commit(&s->models, v, &l->err)) {
        yd_log(YD_LOG_ERROR, NULL, "a model is not loaded", "model", l->record->file.name, "why", l->err.detail, NULL);
        return;
    }
    char ms[32], longest[32];
    snprintf(ms, sizeof ms, "%.0f", (double)(yd_mono_us() - l->began_us) / 1000);
    snprintf(longest, sizeof longest, "%.1f", (double)p->longest_us / 1000);
    yd_log(YD_LOG_INFO, NULL, "model loaded", "model", l->record->file.name, "checksum", v->checksum, "#ms", ms,
           "#longest_step_ms", longest, NULL);
    announce(s, v);
}

// Every device is through: those that have it now, that could not take it, or were lost on the way.
static void all_compiled(yd_load *l)
{
    yd_service *s = l->service;
    const load_part *good = NULL;
    unsigned on = 0, refused = 0;
    for (int i = 0; i < s->n_lanes; i++) {
        const load_part *p = &l->part[i];
        if (!p->load) continue;
        if (!p->chore.dropped && p->rc == 0) {
            good = p;
            on |= 1u << i;
        }
        if (!p->chore.dropped && p->rc && p->rc != YD_E_DEVICE) refused |= 1u << i;
        if (p->err.code) l->err = p->err;
    }
    on &= ~l->lost;
    if (l->again) {
        set_on(s, l->coming, l->coming->on | on);
        l->coming->refused |= refused & ~l->lost;
        if (on) yd_log(YD_LOG_INFO, NULL, "a model is on the device again", "model", l->record->file.name, NULL);
    } else if (good) {
        l->coming->refused = refused & ~l->lost;
        commit(l, good, on);
    } else {
        fail_load(l);
        return;
    }
    load_over(l);
}

static void part_done(yd_chore *c)
{
    load_part *p = (load_part *)c;
    if (c->dropped && !p->err.code) p->err = p->lane->problem;
    if (p->rc)
        yd_log(YD_LOG_WARN, NULL, "a device does not take a model", "device", p->lane->name, "model",
               p->load->record->file.name, "why", p->err.detail, NULL);
    if (!c->dropped && p->rc == YD_E_DEVICE) {
        yd_lane_fail(p->lane, &p->err);
        yd_canvases_left(p->lane);
    }
    if (--p->load->parts == 0) all_compiled(p->load);
}

static void compile(yd_load *l)
{
    yd_service *s = l->service;
    for (int i = 0; i < s->n_lanes; i++) l->parts += (l->lanes & 1u << i) != 0;
    for (int i = 0; i < s->n_lanes; i++) {
        if (!(l->lanes & 1u << i)) continue;
        load_part *p = &l->part[i];
        p->load = l;
        p->lane = &s->lanes[i];
        p->chore.step = compile_step;
        p->chore.done = part_done;
        yd_worker_chore(p->lane->worker, &p->chore);
    }
}

// ---- reading -------------------------------------------------------------------------------------------------------

static void read_work(uv_work_t *req)
{
    yd_load *l = req->data;
    yd_pool_thread();
    l->as = l->file;
    l->rc = yd_device_choice_is_fake(l->service->cfg)
                ? yd_device_fake_read(l->service->cfg, &l->file, &l->model, &l->err)
                : yd_model_file_read(&l->file, l->service->cfg, &l->as, &l->model, &l->err);
}

// What was read for a device that has lost it: the version that the others have, or had.
static void read_again(yd_load *l)
{
    yd_service *s = l->service;
    l->lanes &= yd_lanes_up(s);
    if (!l->rc && strcmp(l->model->checksum, l->coming->checksum) == 0 && l->lanes && !s->closing) {
        compile(l);
        return;
    }
    const int another = l->rc == 0 || l->rc == YD_E_CHECKPOINT || l->rc == YD_E_SETTING; // a file, but not that one
    l->coming->refused |= l->lanes;
    if (l->rc)
        yd_log(YD_LOG_WARN, NULL, "a model cannot be read again", "model", l->record->file.name, "why", l->err.detail,
               NULL);
    if (another && l->lanes && !l->coming->on && !s->closing) give_up(l);
    load_over(l);
}

static void read_after(uv_work_t *req, int status)
{
    yd_load *l = req->data;
    yd_service *s = l->service;
    (void)status;
    if (l->again) {
        read_again(l);
        return;
    }
    if (s->closing || l->record->dropped) {
        yd_err_clear(&l->err);
        fail_load(l);
        return;
    }
    if (!l->rc && l->model->assumed[0])
        yd_log(YD_LOG_WARN, NULL, "no config says all about the model", "model", l->file.path, "assumed",
               l->model->assumed, NULL);
    l->lanes = yd_lanes_up(s);
    if (!l->rc && !l->lanes) { // they have failed meanwhile
        l->rc = YD_E_DEVICE;
        l->err = *yd_lanes_problem(s);
    }
    if (!l->rc) l->rc = yd_registry_reserve(&s->models, l->record, &l->as, l->model, &l->coming, &l->err);
    if (l->rc < 0) {
        fail_load(l);
    } else if (l->rc > 0) {
        load_over(l); // it is there
    } else {
        l->coming->cfg.nets = yd_mapper_nets(s->mapper);
        compile(l);
    }
}

// What is to be read: a version that a device has lost, else a record that is wanted.
static int choose(yd_service *s, yd_load *l)
{
    yd_resident *v = next_missing(s);
    if (v) {
        l->again = 1;
        l->coming = yd_resident_hold(v);
        l->record = v->record;
        l->file = v->file;
        l->lanes = missing(s, v);
        return 1;
    }
    if (!(l->record = yd_registry_begin(&s->models))) return 0;
    l->file = l->record->file;
    return 1;
}

static void begin(yd_service *s)
{
    if (s->load || s->closing || s->device == YD_DEVICE_BROKEN || yd_lanes_first(s) || !yd_lanes_up(s)) return;
    yd_load *l = yd_calloc(1, sizeof *l); // without memory: at the next kick
    if (!l) return;
    if (!choose(s, l)) {
        yd_free(l);
        return;
    }
    l->service = s;
    l->began_us = yd_mono_us();
    l->read.data = l;
    s->load = l;
    s->holds++;
    uv_queue_work(s->loop, &l->read, read_work, read_after);
}

// ---- leaving -------------------------------------------------------------------------------------------------------

typedef struct leave leave;

typedef struct leave_part {
    yd_chore chore; // first
    leave *leave;
} leave_part;

struct leave {
    yd_service *service;
    yd_resident *resident;
    int seat, parts;
    leave_part part[YD_DEVICES_MAX];
};

static int leave_step(yd_chore *c, yd_device *d)
{
    d->unload(d, ((leave_part *)c)->leave->seat);
    return 0;
}

static void has_left(leave *l)
{
    yd_service *s = l->service;
    yd_log(YD_LOG_INFO, NULL, "model unloaded", "model", l->resident->record->file.name, "checksum", l->resident->checksum, NULL);
    yd_registry_left(&s->models, l->resident);
    yd_free(l);
    if (!s->closing) {
        yd_models_tell(s);
        yd_lanes_look(s);
        yd_models_kick(s);
    }
    yd_service_release(s);
}

// A device that has failed has nothing more to give back.
static void leave_done(yd_chore *c)
{
    leave *l = ((leave_part *)c)->leave;
    if (--l->parts == 0) has_left(l);
}

static void see_off(yd_service *s)
{
    for (yd_resident *v; !s->closing && (v = yd_registry_leaving(&s->models));) {
        leave *l = yd_calloc(1, sizeof *l);
        if (!l) {
            v->leaving = 0; // at the next kick
            return;
        }
        l->service = s;
        l->resident = v;
        l->seat = v->seat;
        l->parts = s->n_lanes;
        s->holds++;
        for (int i = 0; i < s->n_lanes; i++) {
            leave_part *p = &l->part[i];
            p->leave = l;
            p->chore.step = leave_step;
            p->chore.done = leave_done;
            yd_worker_chore(s->lanes[i].worker, &p->chore);
        }
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
