// The devices, each with its compute thread, as the loop sees them: a lane each.
//
//   opening --opened--> up --a run or a load fails--> down --back-off--> opening
//                        \--it is another kind of device than the first--> refused, for good
//   opening --cannot be opened--> down; when that is every device's first opening, the service is broken
// A lane that is up computes with the models that are on it; loading.c brings those that are missing, after an opening all of them. What was under way on a
// lane that goes down goes back into the scheduler's queue, and on elsewhere or later: from where it stood, or from its beginning when the device is lost
// with the canvas in its memory (canvases.c).
// All devices of a service compute the same bytes, or the result of a job would depend on where it ran: they must be alike in all that decides those.
// Threads: the loop's. Read next: worker.h, loading.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <stdio.h>
#include <string.h>

#define LOOK_SWEEPS 5 // a device's memory is looked at every so many sweeps

typedef struct look {
    yd_chore chore; // first
    yd_lane *lane;
    yd_backend_memory memory;
    int rc;
} look;

static unsigned bit_of(const yd_lane *l)
{
    return 1u << (l - l->service->lanes);
}

unsigned yd_lanes_up(const yd_service *s)
{
    unsigned up = 0;
    for (int i = 0; i < s->n_lanes; i++)
        if (s->lanes[i].state == YD_LANE_UP) up |= 1u << i;
    return up;
}

int yd_lanes_first(const yd_service *s)
{
    for (int i = 0; i < s->n_lanes; i++)
        if (!s->lanes[i].tried) return 1;
    return 0;
}

unsigned yd_lanes_serving(const yd_service *s)
{
    unsigned on = 0;
    for (int i = 0; i < s->models.n; i++)
        if (s->models.record[i]->current) on |= s->models.record[i]->current->on;
    return on & yd_lanes_up(s);
}

const yd_err *yd_lanes_problem(const yd_service *s)
{
    for (int i = 0; i < s->n_lanes; i++)
        if (s->lanes[i].problem.code) return &s->lanes[i].problem;
    return NULL;
}

yd_lane *yd_lane_for_work(const yd_service *s, unsigned except)
{
    yd_lane *best = NULL;
    for (int i = 0; i < s->n_lanes; i++) {
        yd_lane *l = &s->lanes[i];
        if (except & 1u << i || l->state != YD_LANE_UP || yd_worker_room(l->worker) < 1) continue;
        if (!best || yd_worker_under_way(l->worker) < yd_worker_under_way(best->worker)) best = l;
    }
    return best;
}

// ---- memory --------------------------------------------------------------------------------------------------------

static int look_step(yd_chore *c, yd_device *d)
{
    look *k = (look *)c;
    k->rc = d->memory(d, &k->memory);
    return 0;
}

// Of devices with memory of their own models may have what the smallest of them had free when it was opened, less a tenth.
static void set_budget(yd_service *s)
{
    size_t least = SIZE_MAX;
    if (s->cfg->model_memory_bytes || s->models.seats) return; // it was said, or models are there already
    for (int i = 0; i < s->n_lanes; i++)
        if (s->lanes[i].has_memory && s->lanes[i].memory.free < least) least = s->lanes[i].memory.free;
    s->models.budget = least - least / 10;
}

static void look_done(yd_chore *c)
{
    look *k = (look *)c;
    yd_lane *l = k->lane;
    l->looking = 0;
    l->has_memory = l->state == YD_LANE_UP && !c->dropped && k->rc == 0; // it may have failed, or been left out, since
    if (l->has_memory) l->memory = k->memory;
    if (l->has_memory && l->service->choice.kind == YD_CHOOSE_CUDA) set_budget(l->service);
    yd_service_release(l->service);
    yd_free(k);
}

static void look_at(yd_lane *l)
{
    look *k = l->looking || l->state != YD_LANE_UP || l->service->closing ? NULL : yd_calloc(1, sizeof *k);
    if (!k) return; // another time
    k->chore.step = look_step;
    k->chore.done = look_done;
    k->lane = l;
    l->looking = 1;
    l->service->holds++;
    yd_worker_chore(l->worker, &k->chore);
}

void yd_lanes_look(yd_service *s)
{
    for (int i = 0; i < s->n_lanes; i++) look_at(&s->lanes[i]);
}

void yd_lanes_sweep(yd_service *s)
{
    if (++s->lane_sweeps < LOOK_SWEEPS) return;
    s->lane_sweeps = 0;
    yd_lanes_look(s);
}

// ---- up and down ---------------------------------------------------------------------------------------------------

static void tell_scheduler(yd_service *s)
{
    yd_scheduler_devices(&s->sched, yd_lanes_up(s));
}

static void open_again(uv_timer_t *t)
{
    yd_lane *l = t->data;
    if (l->service->closing || l->state != YD_LANE_DOWN) return;
    if (yd_worker_under_way(l->worker) > 0) { // what comes back yet was sent before it failed
        uv_timer_start(t, open_again, 1, 0);
        return;
    }
    l->state = YD_LANE_OPENING;
    yd_worker_open(l->worker);
}

static int64_t back_off_ms(const yd_lane *l)
{
    const yd_config *cfg = l->service->cfg;
    int64_t ms = cfg->device_retry_ms;
    for (int i = 1; i < l->failures && ms < cfg->device_retry_max_ms; i++) ms *= 2;
    return ms < cfg->device_retry_max_ms ? ms : cfg->device_retry_max_ms;
}

void yd_lane_fail(yd_lane *l, const yd_err *why)
{
    yd_service *s = l->service;
    char ms[32];
    if (s->closing || l->state == YD_LANE_DOWN || l->state == YD_LANE_REFUSED) return;
    l->state = YD_LANE_DOWN;
    l->problem = *why;
    l->failed++;
    if (l->failures < INT32_MAX) l->failures++;
    l->has_memory = 0;
    tell_scheduler(s);
    yd_models_off(s, bit_of(l));
    const int64_t wait_ms = back_off_ms(l);
    l->retry_us = yd_mono_us() + wait_ms * 1000;
    snprintf(ms, sizeof ms, "%lld", (long long)wait_ms);
    yd_log(YD_LOG_ERROR, NULL, "a device is out of service", "device", l->name, "why", why->detail, "#retry_ms", ms,
           NULL);
    uv_timer_start(&l->timer, open_again, (uint64_t)wait_ms, 0);
}

void yd_lane_worked(yd_lane *l, int units, double run_s)
{
    l->failures = 0;
    l->runs++;
    l->units += (uint64_t)units;
    l->busy_s += run_s;
}

// What decides the bytes of results must be the same on all.
static int same_kind(const yd_backend_info *a, const yd_backend_info *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->isa, b->isa) == 0 && strcmp(a->library, b->library) == 0 &&
           strcmp(a->kernels, b->kernels) == 0 && a->bf16 == b->bf16;
}

static int shut_step(yd_chore *c, yd_device *d)
{
    (void)c;
    (void)d;
    return -1; // the worker shuts what has failed
}

static void shut_done(yd_chore *c)
{
    look *k = (look *)c;
    yd_service_release(k->lane->service);
    yd_free(k);
}

static void refuse_lane(yd_lane *l)
{
    yd_service *s = l->service;
    look *k = yd_calloc(1, sizeof *k);
    l->state = YD_LANE_REFUSED;
    l->has_memory = 0;
    yd_fail(&l->problem, YD_E_DEVICE, "%s (%s, %s) is not like the first device (%s, %s): its results would differ",
            l->name, l->about.device, l->about.isa, s->backend.device, s->backend.isa);
    yd_log(YD_LOG_ERROR, NULL, "a device is left out", "device", l->name, "why", l->problem.detail, NULL);
    if (!k) return; // it stays open, and idle
    k->chore.step = shut_step;
    k->chore.done = shut_done;
    k->lane = l;
    s->holds++;
    yd_worker_chore(l->worker, &k->chore);
}

// When each was opened once, or could not be, it is clear what the service computes on: the first in the list that is there says what the others must be.
static void judge_kinds(yd_service *s)
{
    for (int i = 0; i < s->n_lanes; i++) {
        yd_lane *l = &s->lanes[i];
        if (l->state != YD_LANE_UP) continue;
        if (!*s->backend.name) s->backend = l->about;
        if (!same_kind(&l->about, &s->backend)) refuse_lane(l);
    }
}

static void come_up(yd_lane *l, const yd_backend_info *about)
{
    l->about = *about;
    l->state = YD_LANE_UP;
    yd_err_clear(&l->problem);
    if (l->failed) yd_log(YD_LOG_INFO, NULL, "a device is open again", "device", l->name, NULL);
}

static void on_opened(void *arg, int rc, const yd_backend_info *about, const yd_err *err)
{
    yd_lane *l = arg;
    yd_service *s = l->service;
    l->tried = 1;
    if (rc)
        yd_lane_fail(l, err);
    else
        come_up(l, about);
    if (!yd_lanes_first(s)) judge_kinds(s);
    tell_scheduler(s);
    look_at(l);
    if (s->device == YD_DEVICE_LOADING && !yd_lanes_first(s) && !yd_lanes_up(s))
        yd_models_broken(s, yd_lanes_problem(s));
    yd_models_kick(s);
}

// ---- open and close ------------------------------------------------------------------------------------------------

static int make_device(const yd_config *cfg, const yd_device_choice *c, int i, yd_device **out, yd_err *err)
{
    if (c->kind == YD_CHOOSE_FAKE) return yd_device_fake_new(cfg, c->number[i], out, err);
    return yd_device_engine_new(cfg, c->kind == YD_CHOOSE_CUDA, c->number[i], out, err);
}

int yd_lanes_plan(yd_service *s, yd_err *err)
{
    int rc = yd_device_choice_parse(s->cfg->device, &s->choice, err);
    if (!rc) rc = yd_device_choice_find(&s->choice, s->why_cpu, err);
    if (rc) return rc;
    s->lanes = yd_calloc((size_t)s->choice.n, sizeof *s->lanes);
    if (!s->lanes) return yd_fail(err, YD_E_NOMEM, "no memory for the devices");
    s->n_lanes = s->choice.n;
    for (int i = 0; i < s->n_lanes; i++) {
        s->lanes[i].service = s;
        yd_device_choice_name(&s->choice, i, s->lanes[i].name);
    }
    return 0;
}

int yd_lanes_start(yd_service *s, yd_err *err)
{
    int rc = 0;
    if (*s->why_cpu) yd_log(YD_LOG_INFO, NULL, "the CPU computes", "why", s->why_cpu, NULL);
    for (int i = 0; i < s->n_lanes && !rc; i++) {
        yd_lane *l = &s->lanes[i];
        const yd_worker_events ev = {on_opened, yd_units_back, l};
        yd_device *d;
        rc = make_device(s->cfg, &s->choice, i, &d, err);
        if (!rc) rc = yd_worker_start(s->loop, d, &ev, &l->worker, err);
        if (rc) break;
        l->timer.data = l;
        uv_timer_init(s->loop, &l->timer);
        s->holds += 2; // the worker, the timer
    }
    return rc;
}

static void on_timer_closed(uv_handle_t *h)
{
    yd_service_release(((yd_lane *)h->data)->service);
}

static void on_worker_closed(void *arg)
{
    yd_service_release(arg);
}

void yd_lanes_stop(yd_service *s)
{
    for (int i = 0; i < s->n_lanes; i++) {
        yd_lane *l = &s->lanes[i];
        if (!l->worker) continue;
        uv_close((uv_handle_t *)&l->timer, on_timer_closed);
        yd_worker_stop(l->worker, on_worker_closed, s);
        l->worker = NULL;
    }
}
