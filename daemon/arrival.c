// A submission on its way to becoming a job. Nothing of it blocks the loop, and it is a job only once it would survive.
//
//   admit, model (the loop; one that is on its way is waited for: demand.c), settings (the loop) -> look: header (a codec) and digest (a pool thread) -> examine (the loop) -> persist (the store)
//                              -> queue, announce, answer (the loop)
// The digest is the picture's name in the store and the key to what was computed before: an identical request is answered from there.
// A request that may be repeated is looked up before it is examined (repeat.c); a repeat waits where the first one is being stored.
// Who submitted may go away meanwhile (yd_arrival_abandon): until the record is stored nothing stays of it, afterwards the job is deleted,
// unless its client may come back for it.
// Threads: the loop's, except give_file. Read next: submit.c for what is examined.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/clock.h"
#include "daemon/errands.h"
#include "daemon/log.h"
#include <stdio.h>
#include <string.h>

struct yd_arrival {
    yd_codec_call look; // first: what it calls back with
    yd_service *service;
    yd_job_record rec;
    yd_resident *model; // held, until it has a job that does
    yd_estimate estimate;
    yd_booking booking; // until the job has it
    size_t len;
    yd_job *job;
    yd_arrival *repeats, *next; // others that ask for the same job meanwhile
    int waits, repeated;        // one of those; its job was there, or another one's
    yd_demand demand;           // its model is not there yet, while `demands`
    int demands;
    int synced;                 // what other processes have taken by now is known
    yd_submit_fn fn; // NULL: abandoned
    void *arg;
    char request_id[64];
};

static void answer(yd_arrival *a, int rc, yd_job *j, const yd_err *err)
{
    yd_service *s = a->service;
    s->arriving--;
    if (a->fn) a->fn(a->arg, rc, j, err);
    yd_job_record_clear(&a->rec);
    yd_models_release(s, &a->model);
    yd_free(a);
    yd_service_check_drained(s);
    yd_service_release(s);
}

static void refuse(yd_arrival *a, int rc, const yd_err *err)
{
    a->service->input_bytes -= a->len;
    yd_service_settle(a->service, a->rec.owner, 0, &a->booking);
    yd_service_uncount(a->service, a->rec.owner, &a->booking);
    answer(a, rc, NULL, err);
}

// ---- queue, announce, answer ---------------------------------------------------------------------------------------

static json_t *queued_data(const yd_job *j)
{
    json_t *o = json_pack("{s:s, s:i, s:f}", "id", j->rec.id, "position", yd_scheduler_position(&j->service->sched, &j->turn, yd_mono_us()), "eta_s",
                          yd_job_eta_s(j));
    if (o && j->rec.resumed) json_object_set_new(o, "resumed", json_integer(j->rec.resumed));
    if (o && j->rec.cached) json_object_set_new(o, "cached", json_true());
    return o;
}

// What it asks of the scheduler: 0, or -1 and the job has failed.
static int make_ask(yd_job *j, yd_ask *ask)
{
    const yd_estimate *e = &j->estimate;
    const yd_job_settings *js = &j->rec.settings;
    *ask = (yd_ask){.share = yd_owners_share(j->service->owners, j->rec.owner), .engine = yd_models_engine(j->model, e->engine), .units = e->units, .windows = e->windows,
                    .memory = e->memory, .priority = js->priority, .deadline_us = js->deadline_ms ? j->created_us + js->deadline_ms * 1000 : 0};
    if (ask->share) return 0;
    yd_err err = {0};
    yd_fail(&err, YD_E_NOMEM, "no memory to queue the job");
    yd_pipeline_finish(j, YD_JOB_FAILED, &err);
    return -1;
}

void yd_service_enqueue(yd_job *j)
{
    yd_ask ask;
    if (make_ask(j, &ask) == 0) yd_scheduler_enqueue(&j->service->sched, &j->turn, &ask, j->created_us);
}

// Its place is looked up, and given back until it is stored.
void yd_service_tell_queued(yd_job *j)
{
    yd_ask ask;
    yd_service *s = j->service;
    if (!s->store->several || !yd_owners_share(s->owners, j->rec.owner) || make_ask(j, &ask)) return;
    yd_scheduler_enqueue(&s->sched, &j->turn, &ask, j->created_us);
    json_t *data = queued_data(j);
    yd_scheduler_leave(&s->sched, &j->turn);
    memset(&j->turn, 0, sizeof j->turn);
    yd_job_event(j, YD_EVENT_QUEUED, data, NULL);
}

void yd_service_take_over(yd_job *j, yd_job *from)
{
    yd_ask ask;
    if (make_ask(j, &ask)) return;
    yd_scheduler_take_over(&j->service->sched, &j->turn, &ask, &from->turn, j->created_us);
    j->prep = from->prep;
    j->has_prep = 1;
    j->losses = from->losses;
    from->has_prep = 0;
    yd_pipeline_go_on(j);
}

void yd_service_enter_queue(yd_job *j)
{
    yd_service *s = j->service;
    yd_job_pin(j); // even a job that fails while starting is there for the caller
    if (!yd_share_join(j)) yd_service_enqueue(j);
    if (!s->store->several) yd_job_event(j, YD_EVENT_QUEUED, queued_data(j), NULL); // otherwise it was told by who had it first
    if (s->draining && s->store->durable)
        yd_pipeline_park(j); // it came when the last call was over: the next process has it
    else
        yd_pipeline_kick(s);
    yd_job_unpin(j);
}

// Whoever repeated the request while its job was being stored is told the same.
static void answer_repeats(yd_arrival *a, int rc, yd_job *j, const yd_err *err)
{
    for (yd_arrival *w; (w = a->repeats);) {
        a->repeats = w->next;
        w->service->input_bytes -= w->len;
        w->repeated = 1;
        answer(w, rc, j, err);
    }
}

// It was not stored. Another process may have been first with the same request: then its job is this one's, too.
static void turn_down(yd_arrival *a, yd_store_op *op)
{
    yd_service *s = a->service;
    yd_job *before = NULL;
    yd_replicas_look(s, op->rec.id); // the id may be another process's
    if (*a->rec.once) *a->rec.id = 0; // it was given by this process, and is nobody's
    if (op->rc == YD_E_CONFLICT && s->store->several && !s->closing) op->rc = yd_repeat_find(s, &a->rec, &before, &op->err);
    if (!before) {
        if (!op->rc) op->rc = yd_fail(&op->err, YD_E_CONFLICT, "the same request was made before, and its job has been deleted");
        answer_repeats(a, op->rc, NULL, &op->err);
        refuse(a, op->rc, &op->err);
        return;
    }
    yd_job_pin(before);
    answer_repeats(a, 0, before, NULL);
    s->input_bytes -= a->len;
    a->repeated = 1;
    answer(a, 0, before, NULL);
    yd_job_unpin(before);
}

static void on_stored(yd_store_op *op)
{
    yd_arrival *a = op->arg;
    yd_service *s = a->service;
    yd_job *j = a->job;
    j->arrival = NULL;
    yd_repeat_stored(j);
    // In a durable store it is there all the same, for the next process.
    if (!op->rc && s->closing) op->rc = yd_fail(&op->err, YD_E_DRAINING, "the server has shut down");
    if (op->rc) {
        j->stage = YD_STAGE_DONE; // it never held a place
        if (s->store->spend && !op->charged) j->booking.units = 0; // nor were they taken
        yd_service_settle(s, j->rec.owner, 0, &j->booking);
        if (!j->gone) yd_job_forget(j);
        yd_job_unpin(j);
        turn_down(a, op);
        return;
    }
    j->rec.order = op->rec.order;
    yd_job_tell_stored(j);
    const int cached = yd_job_state_final(j->rec.state);
    char size[32];
    snprintf(size, sizeof size, "%dx%d", j->rec.in_w, j->rec.in_h);
    yd_log(YD_LOG_INFO, j->request_id, "job taken", "job", j->rec.id, "input", size, "cached", cached ? "true" : "false", NULL);
    if (cached) {
        s->input_bytes -= a->len;
        j->stage = YD_STAGE_DONE;
        yd_metrics_job(s->metrics, j->rec.model, YD_OUTCOME_SUCCEEDED);
        yd_delivery_add(j);
    } else {
        s->under_way++;
        if (j->rec.input)
            yd_service_enter_queue(j);
        else
            yd_fetch_start(j);
    }
    yd_replicas_look(s, op->rec.id); // another process may have been faster
    yd_err gone;
    if (!a->fn && !*j->rec.request) yd_service_delete(s, j, NULL, NULL, &gone); // without memory for that it simply goes on
    answer_repeats(a, 0, j, NULL);
    answer(a, 0, j, NULL);
    yd_job_unpin(j);
}

// ---- persist -------------------------------------------------------------------------------------------------------

// A job that has its result already is stored with its whole history.
static void tell_cached(yd_job *j)
{
    const yd_job_record *r = &j->rec;
    char path[128];
    snprintf(path, sizeof path, YD_JOB_PATH "%s/result", r->id);
    yd_job_event(j, YD_EVENT_QUEUED, queued_data(j), NULL);
    yd_job_event(j, YD_EVENT_SUCCEEDED,
                 json_pack("{s:i, s:i, s:f, s:i, s:i, s:I, s:s, s:s}", "step", r->progress.step, "steps", r->progress.steps, "elapsed_ms", 0.0,
                           "width", r->out_w, "height", r->out_h, "bytes", (json_int_t)r->result->len, "sha256", r->result->sha256, "link",
                           path),
                 NULL);
}

static int make_job(yd_arrival *a, yd_store_op **op, yd_err *err)
{
    yd_service *s = a->service;
    yd_job *j = a->job = yd_job_new(s, &a->rec);
    if (!j) return yd_fail(err, YD_E_NOMEM, "no memory for another job");
    memcpy(j->request_id, a->request_id, sizeof j->request_id);
    j->estimate = a->estimate;
    j->model = yd_resident_hold(a->model);
    j->arrival = a;
    yd_job_record stored = j->rec;
    if (yd_job_state_final(stored.state)) {
        stored.due = j->rec.due = yd_errands_due(stored.errands, stored.state);
        tell_cached(j);
    } else if (stored.input)
        yd_service_tell_queued(j);
    if (s->store->durable && yd_events_last_id(j->events)) stored.events = yd_events_print(j->events, YD_EVENT_QUEUED, NULL);
    stored.bytes = j->rec.bytes = yd_job_bytes(j);
    stored.units = j->rec.units = s->store->spend ? a->booking.units : 0;
    *op = yd_store_op_new(YD_OP_PUT, &stored, on_stored, a);
    if (*op && s->store->several) (*op)->once_ms = s->cfg->idempotency_ttl_s * 1000;
    if (*op) (*op)->charge = yd_service_charge(s, stored.owner, &a->booking);
    yd_blob_unref(stored.events);
    if (*op && yd_idmap_put(s->jobs, j->rec.id, j) == 0) {
        if (yd_repeat_storing(j) == 0) {
            j->booking = a->booking;
            a->booking = (yd_booking){0};
            yd_job_pin(j); // until it is stored
            return 0;
        }
        yd_idmap_remove(s->jobs, j->rec.id);
    }
    yd_store_op_free(*op);
    yd_job_free(j);
    a->job = NULL;
    return yd_fail(err, YD_E_NOMEM, "no memory for another job");
}

static void persist(yd_arrival *a)
{
    yd_store_op *op = NULL;
    yd_err err = {0};
    const int rc = make_job(a, &op, &err);
    if (rc)
        refuse(a, rc, &err);
    else
        yd_service_store(a->service, op);
}

// ---- look and examine ----------------------------------------------------------------------------------------------

static int give_file(yd_codec_call *c, yd_err *err)
{
    yd_blob *b = ((yd_arrival *)(void *)c)->rec.input;
    yd_sha256_hex(b->bytes, b->len, b->sha256);
    return yd_codec_put_file(c, b->bytes, b->len, err);
}

// A picture that is still to be fetched: the job is one at once (fetch.c).
static int give_nothing(yd_codec_call *c, yd_err *err)
{
    (void)c;
    (void)err;
    return YD_CODEC_NOTHING;
}

// Its job is there, or on the way: nothing is computed.
static void repeat(yd_arrival *a, yd_job *j)
{
    a->repeated = 1;
    if (j->arrival) {
        yd_arrival **at = &j->arrival->repeats;
        while (*at) at = &(*at)->next;
        *at = a;
        a->waits = 1;
        return;
    }
    a->service->input_bytes -= a->len;
    yd_job_pin(j);
    answer(a, 0, j, NULL);
    yd_job_unpin(j);
}

static void looked(yd_codec_call *c);

static void on_synced(void *arg)
{
    looked(&((yd_arrival *)arg)->look);
}

// The same request may have been made of another process.
static int awaits_others(yd_arrival *a)
{
    if (a->synced || (!*a->rec.id && !*a->rec.once)) return 0;
    a->synced = 1;
    return yd_service_sync(a->service, on_synced, a) != NULL;
}

static void looked(yd_codec_call *c)
{
    yd_arrival *a = (yd_arrival *)(void *)c;
    yd_service *s = a->service;
    if (!c->rc && awaits_others(a)) return;
    int rc = s->draining ? yd_fail(&c->err, YD_E_DRAINING, "the server is shutting down and takes no new jobs") : c->rc;
    if (!rc && !a->fn) rc = yd_fail(&c->err, YD_E_CANCELLED, "the client has gone");
    yd_job *before = NULL;
    if (!rc) {
        yd_repeat_digest(&a->rec);
        rc = yd_repeat_find(s, &a->rec, &before, &c->err);
    }
    if (before) {
        repeat(a, before);
        return;
    }
    if (!rc) rc = a->rec.input ? yd_service_examine(s, a->model, &c->header, a->len, &a->rec, &a->estimate, &c->err) : yd_service_name(s, &a->rec, &c->err);
    if (rc) {
        refuse(a, rc, &c->err);
        return;
    }
    a->rec.fetching = !a->rec.input;
    yd_share_key(s, &a->rec);
    if (!yd_share_fill(s, &a->rec) && (rc = yd_service_book(s, a->rec.owner, a->estimate.units, &a->booking, &c->err)))
        refuse(a, rc, &c->err);
    else
        persist(a);
}

// Its model is there: read its settings.
static int set_out(yd_arrival *a, const yd_submission *sub, yd_resident *model, yd_err *err)
{
    int rc = yd_service_begin_record(a->service, sub, model, &a->rec, err);
    if (rc) return rc;
    a->model = yd_resident_hold(model);
    a->look = (yd_codec_call){.op = YD_CODEC_PROBE, .fill = sub->bytes ? give_file : give_nothing, .done = looked,
                              .limits = yd_service_image_limits(a->service)};
    a->look.request_id = a->request_id;
    return 0;
}

static void on_model(yd_demand *d, int rc, const yd_submission *sub, yd_resident *model, yd_err *err)
{
    yd_arrival *a = (yd_arrival *)(void *)((char *)d - offsetof(yd_arrival, demand));
    a->demands = 0;
    if (!rc && !a->fn) rc = yd_fail(err, YD_E_CANCELLED, "the client has gone");
    if (!rc) rc = set_out(a, sub, model, err);
    if (rc)
        refuse(a, rc, err);
    else
        yd_codec_start(a->service->codecs, &a->look);
}

int yd_service_submit(yd_service *s, const yd_submission *sub, yd_submit_fn fn, void *arg, yd_arrival **out, yd_err *err)
{
    yd_arrival *a = yd_calloc(1, sizeof *a);
    yd_resident *model = NULL;
    int rc = yd_service_admit(s, sub->len, err);
    if (!rc) rc = yd_service_keeps(s, "image", sub->len, err);
    if (!rc && !a) rc = yd_fail(err, YD_E_NOMEM, "no memory for another job");
    if (rc) {
        yd_free(sub->bytes);
        yd_free(a);
        return rc;
    }
    *a = (yd_arrival){.service = s, .fn = fn, .arg = arg, .len = sub->len, .demand = {.ready = on_model}};
    if (sub->request_id) snprintf(a->request_id, sizeof a->request_id, "%s", sub->request_id);
    a->rec.input = sub->bytes ? yd_blob_new(sub->bytes, sub->len, "application/octet-stream", 0) : NULL;
    rc = sub->bytes && !a->rec.input ? yd_fail(err, YD_E_NOMEM, "no memory for another job") : yd_models_choose(s, sub, &model, err);
    if (rc == YD_E_MODEL_AWAY && yd_models_demand(s, sub)) {
        rc = yd_demand_wait(s, &a->demand, sub, err);
        a->demands = !rc;
    } else if (!rc)
        rc = set_out(a, sub, model, err);
    if (rc) {
        yd_job_record_clear(&a->rec);
        yd_free(a);
        return rc;
    }
    s->arriving++;
    s->holds++;
    s->input_bytes += a->len;
    if (!a->demands) yd_codec_start(s->codecs, &a->look);
    if (out) *out = a;
    return 0;
}

void yd_arrival_abandon(yd_arrival *a)
{
    a->fn = NULL;
    if (!a->job && !a->waits && !a->demands && !a->synced) yd_codec_cancel(&a->look);
}

int yd_arrival_repeats(const yd_arrival *a)
{
    return a->repeated;
}
