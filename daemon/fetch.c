// Jobs whose picture is fetched from elsewhere: stored and answered for at once, in the queue when the picture is there.
//
//   fetching --(outgoing thread)--> fetched -> header (a codec), digest -> examined -> stored with the picture -> queue
// Until then the job is queued for clients, with the event `fetching`, has no turn in the scheduler, and is in the service's list of
// fetches. It may be cancelled, deleted or left to the next process at any point: whatever comes back then is dropped. What makes the
// picture unfit is its problem, as with any job that fails. Threads: the loop's, except give_file. Read next: outgoing.h.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/clock.h"
#include "daemon/errands.h"
#include "daemon/log.h"
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct yd_fetch {
    yd_out_call call;   // first: what it calls back with
    yd_codec_call look; // then this
    yd_service *service;
    yd_job *job;
    yd_fetch *prev, *next;
    yd_errand errand;
    yd_blob *picture;
    uv_timer_t timer; // between two attempts
    int attempts, looking, timing, calling;
};

static void close_fetch(uv_handle_t *h)
{
    yd_fetch *f = h->data;
    yd_service *s = f->service;
    yd_free(f);
    yd_service_release(s);
}

// Its part is over, whatever becomes of the job.
static void leave(yd_fetch *f)
{
    yd_service *s = f->service;
    yd_job *j = f->job;
    *(f->prev ? &f->prev->next : &s->fetches) = f->next;
    if (f->next) f->next->prev = f->prev;
    s->fetching--;
    j->fetch = NULL;
    yd_blob_unref(f->picture);
    yd_errand_clear(&f->errand);
    uv_close((uv_handle_t *)&f->timer, close_fetch);
    yd_job_unpin(j);
}

static void fail(yd_fetch *f, const yd_err *err)
{
    yd_job *j = f->job;
    yd_log(YD_LOG_INFO, j->request_id, "picture not fetched", "job", j->rec.id, "why", err->detail, NULL);
    yd_pipeline_finish(j, YD_JOB_FAILED, err);
    leave(f);
}

// ---- stored, and into the queue ------------------------------------------------------------------------------------

static void on_stored(yd_store_op *op)
{
    yd_fetch *f = op->arg;
    yd_job *j = f->job;
    yd_service *s = f->service;
    yd_job_pin(j);
    if (yd_job_over(j)) {
        leave(f);
    } else if (op->rc) {
        fail(f, &op->err);
    } else {
        leave(f);
        if (yd_share_fill(s, &j->rec)) {
            s->input_bytes -= op->rec.input->len;
            j->rec.state = YD_JOB_QUEUED; // until its end is stored
            yd_pipeline_finish(j, YD_JOB_SUCCEEDED, NULL);
        } else
            yd_service_enter_queue(j);
        yd_replicas_look(s, j->rec.id);
    }
    yd_job_unpin(j);
}

// The URL has been used, and may be a secret: it is kept no longer.
static void forget_url(yd_job *j)
{
    yd_blob *errands = yd_errands_note(j->rec.errands, YD_OUT_FETCH, NULL, 1);
    if (!errands) return; // without memory it stays until the job goes
    yd_blob_unref(j->rec.errands);
    j->rec.errands = errands;
}

static void store(yd_fetch *f, const yd_image_header *h)
{
    yd_job *j = f->job;
    yd_err err = {0};
    j->rec.input = f->picture; // the reference goes along
    f->picture = NULL;
    f->service->input_bytes += j->rec.input->len;
    int rc = yd_service_keeps(f->service, "input.url", j->rec.input->len, &err);
    if (!rc) rc = yd_service_examine_fetched(f->service, h, j, &err);
    if (!rc) rc = yd_service_book(f->service, j->rec.owner, j->estimate.units, &j->booking, &err);
    if (!rc) yd_service_charge_late(f->service, j->rec.owner, &j->booking);
    if (!rc && f->service->store->spend) j->rec.units = j->booking.units;
    forget_url(j);
    j->rec.bytes = yd_job_bytes(j);
    j->rec.fetching = 0;
    if (!rc) yd_service_tell_queued(j);
    yd_store_op *op = rc ? NULL : yd_store_op_new(YD_OP_UPDATE, &j->rec, on_stored, f);
    if (op && f->service->store->several) op->rec.events = yd_events_hand_over(j->events, j->rec.claims); // whoever has it next goes on from there
    if (!rc && !op) yd_fail(&err, YD_E_NOMEM, "no memory to store the picture");
    if (op)
        yd_service_store(f->service, op);
    else
        fail(f, &err);
}

// ---- looked at -----------------------------------------------------------------------------------------------------

static yd_fetch *fetch_of(yd_codec_call *c)
{
    return (yd_fetch *)(void *)((char *)c - offsetof(yd_fetch, look));
}

static int give_file(yd_codec_call *c, yd_err *err)
{
    yd_blob *b = fetch_of(c)->picture;
    yd_sha256_hex(b->bytes, b->len, b->sha256);
    return yd_codec_put_file(c, b->bytes, b->len, err);
}

static void on_looked(yd_codec_call *c)
{
    yd_fetch *f = fetch_of(c);
    f->looking = 0;
    if (yd_job_over(f->job))
        leave(f);
    else if (c->rc)
        fail(f, &c->err);
    else
        store(f, &c->header);
}

static void look(yd_fetch *f)
{
    yd_service *s = f->service;
    f->picture = yd_blob_new(f->call.bytes, f->call.len, "application/octet-stream", 0);
    f->call.bytes = NULL;
    if (!f->picture) {
        yd_err err = {0};
        yd_fail(&err, YD_E_NOMEM, "no memory for the picture");
        fail(f, &err);
        return;
    }
    f->look = (yd_codec_call){.op = YD_CODEC_PROBE, .fill = give_file, .done = on_looked, .limits = yd_service_image_limits(s)};
    f->look.request_id = f->job->request_id;
    f->looking = 1;
    yd_codec_start(s->codecs, &f->look);
}

// ---- fetched -------------------------------------------------------------------------------------------------------

static void ask(yd_fetch *f)
{
    f->calling = 1;
    yd_outgoing_start(f->service->outgoing, &f->call);
}

static void on_time(uv_timer_t *t)
{
    yd_fetch *f = t->data;
    f->timing = 0;
    ask(f);
}

static void try_again(yd_fetch *f)
{
    const yd_config *cfg = f->service->cfg;
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random) random = 0;
    const int64_t ms = yd_outgoing_wait_ms(f->attempts, cfg->fetch_retry_ms, 60000, random);
    f->timing = 1;
    uv_timer_start(&f->timer, on_time, (uint64_t)ms, 0);
}

static void on_fetched(yd_out_call *c)
{
    yd_fetch *f = (yd_fetch *)(void *)c;
    f->calling = 0;
    f->attempts++;
    if (yd_job_over(f->job)) {
        yd_free(c->bytes);
        leave(f);
    } else if (!c->rc && !c->len) {
        yd_fail_field(&c->err, YD_E_UPSTREAM, "input.url", "the URL of a picture", "%s sent nothing", c->target.host);
        fail(f, &c->err);
    } else if (!c->rc)
        look(f);
    else if (c->again && f->attempts < (int)f->service->cfg->fetch_attempts)
        try_again(f);
    else {
        snprintf(c->err.field, sizeof c->err.field, "input.url");
        fail(f, &c->err);
    }
}

// ---- from outside --------------------------------------------------------------------------------------------------

static int begin(yd_job *j, yd_err *err)
{
    yd_service *s = j->service;
    if (!s->outgoing)
        return yd_fail_field(err, YD_E_SETTING, "input.url", "the picture itself", "this server does not fetch pictures any more");
    yd_fetch *f = yd_calloc(1, sizeof *f);
    if (!f || yd_errands_input(j->rec.errands, &f->errand) <= 0) {
        yd_free(f);
        return yd_fail(err, YD_E_NOMEM, "no memory to fetch a picture");
    }
    f->service = s;
    f->job = j;
    f->call = (yd_out_call){.kind = YD_OUT_FETCH, .url = f->errand.url, .done = on_fetched};
    f->call.headers[f->call.n_headers++] = "Accept: image/*, application/octet-stream;q=0.9, */*;q=0.5";
    f->timer.data = f;
    uv_timer_init(s->loop, &f->timer);
    if (s->fetches) s->fetches->prev = f;
    f->next = s->fetches;
    s->fetches = j->fetch = f;
    s->fetching++;
    s->holds++;
    yd_job_pin(j);
    ask(f);
    return 0;
}

void yd_fetch_start(yd_job *j)
{
    yd_err err = {0};
    yd_job_pin(j);
    json_t *errands = yd_errands_public(j->rec.errands), *data = json_pack("{s:s, s:O?}", "id", j->rec.id, "host", json_object_get(json_object_get(errands, "input"), "host"));
    json_decref(errands);
    yd_job_event(j, YD_EVENT_FETCHING, data, NULL);
    if (j->service->draining && j->service->store->durable)
        yd_pipeline_park(j);
    else if (begin(j, &err))
        yd_pipeline_finish(j, YD_JOB_FAILED, &err);
    yd_job_unpin(j);
}

void yd_fetch_stop(yd_job *j)
{
    yd_fetch *f = j->fetch;
    if (!f) return;
    if (f->calling) yd_outgoing_cancel(&f->call);
    if (f->looking) yd_codec_cancel(&f->look);
    if (!f->timing) return;
    f->timing = 0;
    uv_timer_stop(&f->timer);
    leave(f);
}

static yd_job *first_not_over(const yd_service *s)
{
    for (const yd_fetch *f = s->fetches; f; f = f->next)
        if (!yd_job_over(f->job)) return f->job;
    return NULL;
}

void yd_fetches_end(yd_service *s, int park)
{
    // From the start each time: readers of events may do anything to the list.
    for (yd_job *j; (j = first_not_over(s));) {
        yd_job_pin(j);
        if (park)
            yd_pipeline_park(j);
        else
            yd_pipeline_finish(j, YD_JOB_CANCELLED, NULL);
        yd_job_unpin(j);
    }
}
