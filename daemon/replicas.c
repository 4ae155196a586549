// Jobs of other processes that share the store: seen, waited for, taken over, and let go of.
//
// Every process has every unfinished job in its table. One that nobody has claimed waits in the scheduler of each, so that all of them keep one
// policy, and whoever has room claims it; the store decides who was first. One that another process has is `foreign` here: it has no turn, holds
// no model and no picture, and is answered for from its record.
//
//   waits here --own claim--> runs here --parked, or its process is gone--> waits here
//       \--another one's claim, or no room for it here--> foreign --released, parked--> waits here
//                                                            \--ended, removed--> final, forgotten
// Whenever the store says that a record has changed, the job is made to agree with what the record is now (yd_replicas_look). While a change of
// this process's own is being stored the job is left alone; whoever hears of that looks then. A job that runs here and is another one's by the
// record is dropped without a word to the store: its events go on in the foreign job that takes its place.
// Threads: the loop's. Read next: store.h for claims and holders, recovery.c for what waits.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <string.h>

#define PAGE     200
#define UNFIT_US 30000000 // until it is tried again whether it can be computed here, or by another program or machine than it was taken for

// ---- foreign jobs --------------------------------------------------------------------------------------------------

// It waits here, or its claim came too late: its turn, its model and its picture go.
static void give_way(yd_job *j)
{
    yd_service *s = j->service;
    if (j->foreign) return;
    j->foreign = 1;
    yd_share_yield(j);
    yd_scheduler_leave(&s->sched, &j->turn);
    if (j->has_prep) yd_prepared_clear(&j->prep);
    j->has_prep = 0;
    yd_models_release(s, &j->model);
    j->booking.units = 0; // whoever has it gives back what it does not need
    j->stage = YD_STAGE_DONE;
    s->under_way--;
    yd_service_check_drained(s);
}

// Is somebody here at work with it, so that it cannot simply change hands?
static int is_under_way(const yd_job *j)
{
    return !j->foreign && (j->rec.state == YD_JOB_RUNNING || j->fetch || j->codec || j->turn.out > 0 || j->saving);
}

static void swap_record(yd_job *j, const yd_job_record *r)
{
    yd_service *s = j->service;
    yd_job_record old = j->rec;
    const yd_job_progress told = old.progress; // its events may be ahead of its record
    const int ahead = !yd_job_state_final(r->state) && r->claims == old.claims && told.step > r->progress.step;
    if (old.input) s->input_bytes -= old.input->len;
    yd_job_record_copy(&j->rec, r);
    if (j->rec.input) s->input_bytes += j->rec.input->len;
    if (ahead) j->rec.progress = told;
    yd_blob_unref(j->rec.events);
    j->rec.events = NULL;
    yd_job_record_clear(&old);
}

// A job that another process has, or put, as it was stored. Without memory it is not there until somebody looks again.
static yd_job *enter_foreign(yd_service *s, yd_job_record *r)
{
    yd_job *j = yd_job_revive(s, r);
    if (!j || yd_idmap_put(s->jobs, r->id, j)) {
        yd_job_free(j);
        yd_log(YD_LOG_ERROR, NULL, "no memory for another process's job", "job", r->id, NULL);
        return NULL;
    }
    j->foreign = 1;
    j->stage = YD_STAGE_DONE;
    j->booking.counted = yd_owners_enter(s->owners, r->owner) == 0; // over the limit or not: it was taken
    if (j->rec.input) s->input_bytes += j->rec.input->len;
    return j;
}

// What runs here and is not ours any more goes on in a foreign job with the same events; whoever still works with it lets go of the old one.
static yd_job *disown(yd_job *j, yd_job_record *r)
{
    yd_service *s = j->service;
    yd_event_log *events = yd_events_ref(j->events), *none = yd_events_new(16, 1);
    yd_log(YD_LOG_WARN, j->request_id, "a job is another process's now", "job", j->rec.id, NULL);
    yd_job_pin(j);
    yd_pipeline_drop(j);
    yd_job_drop_input(j);
    j->booking.units = 0;
    if (none) {
        yd_events_unref(j->events);
        j->events = none; // nothing that is closed with it is anybody's
    }
    yd_job_forget(j);
    yd_job_unpin(j);
    if (yd_job_state_final(r->state)) r->state = YD_JOB_RUNNING; // whoever looks at it next tells its end
    yd_job *heir = enter_foreign(s, r);
    if (heir && none) {
        yd_events_unref(heir->events);
        heir->events = events;
        yd_free(yd_job_history(heir, r));
    } else
        yd_events_unref(events);
    return heir;
}

// ---- what a record has become --------------------------------------------------------------------------------------

static void vanish(yd_job *j)
{
    yd_job_pin(j);
    if (!yd_job_state_final(j->rec.state)) {
        const int here = is_under_way(j);
        yd_pipeline_drop(j);
        j->booking.units = 0;
        if (!here) j->foreign = 1; // it counts where it ran, or was deleted
        yd_pipeline_removed(j);
    }
    if (!j->gone) yd_job_forget(j);
    yd_job_unpin(j);
}

void yd_replicas_lost(yd_job *j)
{
    yd_service *s = j->service;
    yd_job_record r;
    yd_err err;
    yd_job_pin(j);
    if (s->store->get(s->store, j->rec.id, 0, &r, &err) == 0) {
        disown(j, &r);
        yd_job_record_clear(&r);
        yd_replicas_look(s, j->rec.id);
    } else
        vanish(j);
    yd_job_unpin(j);
}

// A final record has got pictures, or its errands have got on. Whoever looks at it next reads it anew, or it is read now.
static void freshen(yd_service *s, yd_job *j)
{
    yd_job_record r;
    yd_err ignored; // it stays as it is
    if (j->pins > 0 || !j->resting) {
        if (s->store->get(s->store, j->rec.id, 1, &r, &ignored)) return;
        yd_blob *const errands = j->rec.errands, *const attention = j->rec.attention,
                       *const activation = j->rec.activation;
        j->rec.errands = yd_blob_ref(r.errands);
        if (r.attention)
            j->rec.attention = yd_blob_ref(r.attention); // otherwise they are this process's, and being stored
        if (r.activation) j->rec.activation = yd_blob_ref(r.activation);
        j->rec.due = r.due;
        yd_blob_unref(errands);
        if (r.attention) yd_blob_unref(attention);
        if (r.activation) yd_blob_unref(activation);
        yd_job_record_clear(&r);
        return;
    }
    yd_job_stir(j);
    yd_idmap_remove(s->jobs, j->rec.id);
    yd_job_free(j);
}

static void end_elsewhere(yd_service *s, yd_job *j)
{
    yd_job_record r;
    yd_err err;
    if (yd_job_state_final(j->rec.state)) {
        freshen(s, j);
        return;
    }
    yd_job_pin(j);
    if (is_under_way(j))
        yd_pipeline_drop(j); // it is told of its end below all the same
    else
        give_way(j);
    j->foreign = 1;
    j->booking.units = 0;
    if (s->store->get(s->store, j->rec.id, 1, &r, &err)) {
        yd_log(YD_LOG_ERROR, j->request_id, "what another process has stored cannot be read", "job", j->rec.id, "why",
               err.detail, NULL);
        yd_job_drop_input(j);
        yd_job_forget(j); // whoever asks for it reads it again
    } else {
        char *words = yd_job_history(j, &r);
        swap_record(j, &r);
        yd_job_record_clear(&r);
        yd_pipeline_told(j, words);
    }
    yd_job_unpin(j);
}

static void runs_elsewhere(yd_service *s, yd_job *j, yd_job_record *r)
{
    if (j && is_under_way(j))
        j = disown(j, r);
    else if (!j)
        j = enter_foreign(s, r);
    if (!j) return;
    give_way(j);
    swap_record(j, r);
}

static void runs_here(yd_job *j, const yd_job_record *r)
{
    if (r->cancel && !yd_job_over(j)) yd_pipeline_finish(j, YD_JOB_CANCELLED, NULL);
}

// Into the queue, as after a restart; where its model is on its way it follows later.
static void take_up(yd_service *s, yd_job *j)
{
    size_t bytes;
    void *more = yd_mul_size(s->n_left + 1, sizeof *s->left, &bytes) ? NULL : yd_realloc(s->left, bytes);
    if (!more) return; // whoever looks again
    s->left = more;
    memmove(s->left + 1, s->left, s->n_left * sizeof *s->left);
    memcpy(s->left[0], j->rec.id, sizeof s->left[0]);
    s->n_left++;
    j->foreign = 0;
    j->stage = YD_STAGE_QUEUED;
    memset(&j->turn, 0, sizeof j->turn);
    j->has_checkpoint = 1; // perhaps
    yd_job_book_stored(j);
    s->under_way++;
    if (s->device == YD_DEVICE_READY) yd_service_resume(s);
}

// A process that was taken for dead claims nothing.
static int works(const yd_service *s)
{
    yd_store_health h;
    s->store->health(s->store, &h);
    return h.ok;
}

static void waits(yd_service *s, yd_job *j, yd_job_record *r)
{
    if (j && is_under_way(j))
        j = disown(j, r);
    else if (j && !j->foreign)
        return; // it waits already
    const int is_new = !j;
    if (is_new) j = enter_foreign(s, r);
    if (!j) return;
    if (!is_new) {
        yd_free(yd_job_history(j, r));
        swap_record(j, r);
    }
    j->rec.resumed = (int)r->claims;
    if (r->cancel)
        yd_service_cancel(s, j, NULL);
    else if (!s->draining && (!j->unfit_us || yd_mono_us() - j->unfit_us > s->unfit_us) && works(s))
        take_up(s, j);
}

static int is_being_stored(const yd_job *j)
{
    return j->arrival || j->claiming || j->deleted || (j->ending && !yd_job_state_final(j->rec.state));
}

// rc, r: of a look at its record. A claim that is still on its way comes too late for a job that has ended.
static int is_left_alone(const yd_job *j, int rc, const yd_job_record *r)
{
    const int over = rc ? rc == YD_E_GONE : yd_job_state_final(r->state);
    return is_being_stored(j) && !(over && j->claiming && !j->arrival && !j->deleted && !j->ending);
}

int yd_replicas_gone(const yd_job *j, yd_err *err)
{
    yd_job_record r;
    yd_service *s = j->service;
    if (!s->store->several || j->arrival || !is_being_stored(j)) return 0; // otherwise it is as the store has it
    const int rc = s->store->get(s->store, j->rec.id, 0, &r, err);
    if (!rc) yd_job_record_clear(&r);
    return rc == YD_E_GONE ? rc : 0;
}

void yd_replicas_kept(yd_job *j)
{
    yd_job_record r;
    yd_err ignored;
    yd_service *s = j->service;
    if (!s->store->several || s->closing || j->gone || j->deleted) return;
    const int rc = s->store->get(s->store, j->rec.id, 0, &r, &ignored);
    if (!rc) yd_job_record_clear(&r);
    if (rc == YD_E_GONE) vanish(j);
}

int yd_replicas_unknown(const yd_service *s, const char *id, yd_err *err)
{
    yd_store_health now;
    s->store->health(s->store, &now);
    if (!s->store->several || now.ok || now.code != YD_E_STORE_AWAY) return YD_E_NOT_FOUND;
    yd_fail(err, YD_E_STORE_AWAY, "%.40s is not known here, and the shared store cannot be asked: %.200s", id,
            now.why);
    if (err) err->retry_ms = YD_STORE_RETRY_MS;
    return YD_E_STORE_AWAY;
}

void yd_replicas_look(yd_service *s, const char *id)
{
    yd_job_record r;
    yd_err err = {0};
    yd_job *j = yd_idmap_get(s->jobs, id);
    if (!s->store->several || s->closing) return;
    const int rc = s->store->get(s->store, id, 0, &r, &err);
    if (j && is_left_alone(j, rc, &r)) {
        if (!rc) yd_job_record_clear(&r);
        return;
    }
    if (rc) {
        if (j)
            vanish(j);
        else if (rc == YD_E_NOT_FOUND)
            yd_bundles_look(s, id);
        return;
    }
    const int64_t holder = s->store->holder(s->store, id);
    if (j) yd_job_pin(j);
    if (yd_job_state_final(r.state)) {
        if (j) end_elsewhere(s, j);
    } else if (holder && holder != s->store->boot)
        runs_elsewhere(s, j, &r);
    else if (holder && j)
        runs_here(j, &r);
    else if (!holder)
        waits(s, j, &r);
    if (j) yd_job_unpin(j);
    yd_job_record_clear(&r);
}

// ---- what this process does with them ------------------------------------------------------------------------------

void yd_replicas_give_way(yd_job *j)
{
    yd_job_pin(j);
    give_way(j);
    yd_replicas_look(j->service, j->rec.id);
    yd_job_unpin(j);
}

void yd_replicas_leave(yd_job *j)
{
    yd_job_pin(j);
    give_way(j);
    yd_events_close(j->events);
    yd_job_unpin(j);
}

void yd_replicas_unfit(yd_job *j, const yd_err *why)
{
    const int later = strcmp(why->field, "fingerprint") == 0;
    if (!j->unfit_us)
        yd_log(later ? YD_LOG_DEBUG : YD_LOG_WARN, j->request_id, "a job cannot be computed here and is left to others", "job", j->rec.id,
               "why", why->detail, NULL);
    j->unfit_us = yd_mono_us();
    give_way(j);
}

static void on_fetch_claimed(yd_store_op *op)
{
    yd_job *j = op->arg;
    j->claiming = 0;
    if (!yd_job_over(j) && op->rc)
        yd_replicas_give_way(j);
    else if (!yd_job_over(j)) {
        j->rec.claims = op->rec.claims;
        yd_fetch_start(j);
        yd_replicas_look(j->service, j->rec.id); // it may have been asked to cancel it
    }
    yd_job_unpin(j);
}

void yd_replicas_fetch(yd_job *j)
{
    yd_store_op *op = yd_store_op_new(YD_OP_CLAIM, NULL, on_fetch_claimed, j);
    if (!op) {
        give_way(j); // the sweep looks again
        return;
    }
    memcpy(op->rec.id, j->rec.id, sizeof op->rec.id);
    op->now_ms = yd_wall_ms();
    j->claiming = 1;
    yd_job_pin(j);
    yd_service_store(j->service, op);
}

static void on_asked(yd_store_op *op)
{
    yd_service *s = op->arg;
    yd_job *j = yd_idmap_get(s->jobs, op->rec.id);
    if (j && !op->rc && !op->asked) j->ends_here = 1; // nobody had it
    yd_replicas_look(s, op->rec.id);
}

int yd_replicas_cancel(yd_job *j, const yd_job_record *end, yd_err *err)
{
    yd_store_op *op = yd_store_op_new(YD_OP_CANCEL, end, on_asked, j->service);
    if (!op) return yd_fail(err, YD_E_NOMEM, "no memory to cancel a job");
    yd_service_store(j->service, op);
    return 0;
}

int yd_replicas_claimed(yd_job *j, yd_store_op *op)
{
    yd_job_record r;
    yd_service *s = j->service;
    if (op->rc || !s->store->several) return op->rc;
    j->rec.claims = op->rec.claims;
    yd_job_tell_unheard(j, UINT64_MAX);
    if (!j->rec.input || j->rec.input->bytes) return 0;
    op->rc = s->store->get(s->store, j->rec.id, 1, &r, &op->err);
    if (op->rc) return op->rc;
    yd_blob_unref(j->rec.input);
    j->rec.input = yd_blob_ref(r.input);
    yd_job_record_clear(&r);
    return j->rec.input ? 0 : (op->rc = yd_fail(&op->err, YD_E_IO, "its picture is not there"));
}

// ---- reading -------------------------------------------------------------------------------------------------------

struct yd_sync {
    yd_store_sync wait; // first: what it is called back with
    yd_service *service;
    void (*fn)(void *arg); // NULL: forgotten
    void *arg;
};

static void on_synced(yd_store_sync *w)
{
    yd_sync *y = (yd_sync *)(void *)w;
    yd_service *s = y->service;
    void (*fn)(void *arg) = y->fn;
    void *arg = y->arg;
    yd_free(y);
    if (fn) fn(arg);
    yd_service_release(s);
}

yd_sync *yd_service_sync(yd_service *s, void (*fn)(void *arg), void *arg)
{
    yd_sync *y =
        s->store->several && !s->closing ? yd_calloc(1, sizeof *y) : NULL; // without memory what is known is told
    if (!y) return NULL;
    *y = (yd_sync){{.done = on_synced}, s, fn, arg};
    s->holds++;
    s->store->sync(s->store, &y->wait);
    return y;
}

void yd_sync_forget(yd_sync *y)
{
    if (y) y->fn = NULL;
}

// ---- all of them ---------------------------------------------------------------------------------------------------

// more: those that nobody here knows of, or that wait for nobody, are looked at.
static void look_at_all(yd_service *s, yd_job_state state, int more)
{
    char ids[PAGE][YD_ID_MAX];
    uint64_t orders[PAGE], before = UINT64_MAX;
    for (int n = PAGE; n == PAGE;) {
        n = s->store->list(s->store, NULL, (int)state, before, PAGE, ids, orders);
        for (int i = n; i-- > 0;) {
            const yd_job *j = yd_idmap_get(s->jobs, ids[i]);
            if (!more || !j || j->foreign) yd_replicas_look(s, ids[i]);
        }
        if (n) before = orders[n - 1];
    }
}

typedef struct id_list {
    char (*id)[YD_ID_MAX];
    size_t n;
} id_list;

static void add_id(void *arg, const char *key)
{
    id_list *l = arg;
    snprintf(l->id[l->n++], YD_ID_MAX, "%s", key);
}

// Every job that is in the table; without memory the sweep and whoever asks look at some of them.
static void look_at_known(yd_service *s)
{
    size_t bytes;
    id_list l = {yd_mul_size(yd_idmap_count(s->jobs) + 1, YD_ID_MAX, &bytes) ? NULL : yd_malloc(bytes), 0};
    if (!l.id) return;
    yd_idmap_each(s->jobs, add_id, &l);
    for (size_t i = 0; i < l.n; i++) yd_replicas_look(s, l.id[i]);
    yd_free(l.id);
}

static void on_changed(void *arg, const char *id)
{
    yd_service *s = arg;
    if (id) {
        yd_replicas_look(s, id);
        return;
    }
    look_at_known(s);
    look_at_all(s, YD_JOB_RUNNING, 0);
    look_at_all(s, YD_JOB_QUEUED, 0);
    yd_bundles_look(s, NULL);
}

// What was passed by for want of memory, of a model or of a store that works.
void yd_replicas_sweep(yd_service *s)
{
    if (s->store->several && !s->draining) look_at_all(s, YD_JOB_QUEUED, 1);
}

void yd_replicas_open(yd_service *s)
{
    if (!s->store->several) return;
    s->unfit_us = UNFIT_US;
    on_changed(s, NULL);
    s->store->watch(s->store, on_changed, s);
}
