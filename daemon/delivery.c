// Results put to where clients want them, and webhooks that tell of the ends of jobs. Off the path of every job.
//
//   job ended, stored as due --> waiting --turn--> under way --> noted in the record (delivered, or so many attempts) --> waiting | gone
// What is due is part of the record that says how the job ended, so no crash comes between: after a restart it is found there. An attempt
// that a crash cut short is made again; receivers tell repetitions by webhook-id, which is the same for every attempt. Waits double from
// attempt to attempt, and a random part of each is left away, so that a receiver that comes back is not met by everybody at once.
// A delivery ends with its job: what has expired or was deleted is not told. deliveries_max bounds how many wait.
// Threads: the loop's. Read next: outgoing.h for the transfer, errands.h for what is kept.
#include "daemon/service_internal.h"

#include "core/file.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/errands.h"
#include "daemon/log.h"
#include "daemon/signature.h"
#include "daemon/text.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define PAGE             100
#define SECRETS_MOST     (1u << 20)
#define SIGNATURE_HEADER 640

typedef struct delivery {
    yd_out_call call; // first: what it calls back with
    struct delivery *prev, *next;
    yd_service *service;
    char id[YD_ID_MAX];
    int64_t next_us;
    // while it is under way
    yd_job *job; // pinned; NULL: it waits
    yd_errand errand;
    yd_blob *result;
    char *body;
    char head[3][SIGNATURE_HEADER];
    char host[YD_HOST_MAX]; // of its next attempt, or the one under way
} delivery;

struct yd_deliveries {
    delivery *first, *last;
    size_t count;
    int under_way;
    uv_timer_t timer;
    yd_secrets *secrets;
};

static void run(yd_service *s);

static void append(yd_deliveries *all, delivery *d)
{
    d->prev = all->last;
    *(all->last ? &all->last->next : &all->first) = d;
    all->last = d;
    all->count++;
}

static void unlink_delivery(yd_deliveries *all, delivery *d)
{
    *(d->prev ? &d->prev->next : &all->first) = d->next;
    *(d->next ? &d->next->prev : &all->last) = d->prev;
    d->prev = d->next = NULL;
    all->count--;
}

static void forget(delivery *d)
{
    unlink_delivery(d->service->deliveries, d);
    yd_free(d);
}

// ---- noting what became of an attempt ------------------------------------------------------------------------------

// Whom its next attempt is for: turns are given by host.
static void set_host(delivery *d, const yd_job_record *r)
{
    yd_errand next;
    yd_url url;
    d->host[0] = 0;
    if (yd_errands_next(r->errands, r->state, &next) <= 0) return;
    if (!yd_url_parse(next.url, "url", &url, NULL)) memcpy(d->host, url.host, sizeof d->host);
    yd_errand_clear(&next);
}

// The attempt is over; the job may go.
static void let_go(delivery *d)
{
    yd_job *j = d->job;
    d->service->deliveries->under_way--;
    d->job = NULL;
    yd_errand_clear(&d->errand);
    yd_blob_unref(d->result);
    d->result = NULL;
    yd_free(d->body);
    d->body = NULL;
    yd_job_unpin(j);
}

static void set_errands(yd_job *j, yd_blob *errands)
{
    yd_blob_unref(j->rec.errands);
    j->rec.errands = errands;
    j->rec.due = yd_errands_due(errands, j->rec.state);
    yd_store_op *op = yd_store_op_new(YD_OP_NOTE, NULL, NULL, NULL);
    if (!op) return; // after a restart it is tried once more
    memcpy(op->rec.id, j->rec.id, sizeof op->rec.id);
    op->rec.due = j->rec.due;
    op->rec.errands = yd_blob_ref(errands);
    yd_service_store(j->service, op);
}

static int64_t wait_ms(const yd_config *cfg, int failed, int64_t asked_ms)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random) random = 0;
    const int64_t ms = yd_outgoing_wait_ms(failed, cfg->delivery_retry_ms, cfg->delivery_retry_max_ms, random);
    const int64_t kept = asked_ms < cfg->delivery_retry_max_ms ? asked_ms : cfg->delivery_retry_max_ms;
    return kept > ms ? kept : ms;
}

static void log_attempt(const delivery *d, int failed, int last, const yd_err *err)
{
    char attempt[16];
    snprintf(attempt, sizeof attempt, "%d", failed);
    if (err)
        yd_log(last ? YD_LOG_WARN : YD_LOG_INFO, NULL, last ? "delivery given up" : "delivery failed", "job", d->id, "kind", yd_out_kind_name(d->errand.kind),
               "#attempt", attempt, "why", err->detail, NULL);
    else
        yd_log(YD_LOG_INFO, NULL, "delivered", "job", d->id, "kind", yd_out_kind_name(d->errand.kind), "host", d->host, "#attempt", attempt, NULL);
}

// err NULL: it was delivered. again: another attempt may do better.
static void note(delivery *d, const yd_err *err, int again, int64_t asked_ms)
{
    const yd_config *cfg = d->service->cfg;
    yd_job *j = d->job;
    const int failed = d->errand.attempts + 1, last = !again || failed >= (int)cfg->delivery_attempts;
    log_attempt(d, failed, last, err);
    yd_blob *errands = j->gone ? NULL : yd_errands_note(j->rec.errands, d->errand.kind, err ? err->detail : NULL, last);
    const int known = errands != NULL;
    if (known) set_errands(j, errands);
    d->next_us = yd_mono_us() + (err && !last ? wait_ms(cfg, failed, asked_ms) * 1000 : 0);
    if (!known) d->next_us = yd_mono_us() + wait_ms(cfg, failed, 0) * 1000; // no memory: the same attempt again
    const int over = j->gone || (known && !j->rec.due);
    if (!over) set_host(d, &j->rec);
    let_go(d);
    if (over) forget(d);
}

static void on_done(yd_out_call *c)
{
    delivery *d = (delivery *)(void *)c;
    yd_service *s = d->service;
    if (s->closing || c->rc == YD_E_CANCELLED)
        let_go(d); // the attempt does not count: nobody knows how it would have ended
    else
        note(d, c->rc ? &c->err : NULL, c->again, c->retry_after_ms);
    run(s);
}

// ---- an attempt ----------------------------------------------------------------------------------------------------

static void add_header(delivery *d, const char *line)
{
    if (d->call.n_headers < YD_OUT_HEADERS) d->call.headers[d->call.n_headers++] = line;
}

static int has_content_type(const yd_errand *e)
{
    for (size_t i = 0; i < e->n_headers; i++)
        if (strncasecmp(e->headers[i], "content-type:", 13) == 0) return 1;
    return 0;
}

static int prepare_result(delivery *d, yd_err *err)
{
    d->result = yd_blob_ref(d->job->rec.result);
    if (!d->result) return yd_fail(err, YD_E_INTERNAL, "the job has no result");
    const int rc = yd_blob_check(d->result, err); // reads the file in the first attempt after a restart
    if (rc) return rc;
    for (size_t i = 0; i < d->errand.n_headers; i++) add_header(d, d->errand.headers[i]);
    snprintf(d->head[0], sizeof d->head[0], "Content-Type: %s", d->result->mime);
    if (!has_content_type(&d->errand)) add_header(d, d->head[0]);
    d->call.body = d->result->bytes;
    d->call.body_len = d->result->len;
    return 0;
}

// {"type":"job.succeeded","timestamp":"...","data":{the job}}
static char *message(const yd_job *j, size_t *len)
{
    char type[32], when[YD_RFC3339_MAX];
    json_t *job = yd_service_job_json(j->service, j);
    json_object_del(json_object_get(job, "deliveries"), "webhook"); // the same words in every attempt
    snprintf(type, sizeof type, "job.%s", yd_job_state_name(j->rec.state));
    yd_rfc3339(j->rec.finished_ms, when, sizeof when);
    return yd_text_json(json_pack("{s:s, s:s, s:o}", "type", type, "timestamp", when, "data", job), len);
}

static int prepare_webhook(delivery *d, yd_err *err)
{
    const yd_secrets *secrets = d->service->deliveries->secrets;
    char id[YD_ID_MAX + 8], signature[YD_SIGNATURES_MAX];
    const int64_t now_s = yd_wall_ms() / 1000;
    if (!secrets || !yd_secrets_have(secrets, d->job->rec.owner)) return yd_fail(err, YD_E_SETTING, "no secret signs this owner's webhooks");
    d->body = message(d->job, &d->call.body_len);
    if (!d->body) return yd_fail(err, YD_E_NOMEM, "no memory for a webhook");
    snprintf(id, sizeof id, "msg_%s", d->id);
    yd_secrets_sign(secrets, d->job->rec.owner, id, now_s, d->body, d->call.body_len, signature);
    snprintf(d->head[0], sizeof d->head[0], "webhook-id: %s", id);
    snprintf(d->head[1], sizeof d->head[1], "webhook-timestamp: %lld", (long long)now_s);
    snprintf(d->head[2], sizeof d->head[2], "webhook-signature: %s", signature);
    add_header(d, "Content-Type: application/json");
    for (int i = 0; i < 3; i++) add_header(d, d->head[i]);
    d->call.body = d->body;
    return 0;
}

static int find_job(yd_service *s, const char *id, yd_job **out)
{
    yd_err ignored;
    *out = yd_idmap_get(s->jobs, id);
    const int rc = *out ? 0 : yd_job_recall(s, id, out, &ignored);
    return !rc && (*out)->deleted ? YD_E_GONE : rc;
}

// It waits no more: under way, noted as failed, or forgotten.
static void start(delivery *d, yd_job *j)
{
    yd_err err = {0};
    d->job = j;
    d->service->deliveries->under_way++;
    yd_job_pin(j);
    d->call = (yd_out_call){.kind = d->errand.kind, .url = d->errand.url, .done = on_done};
    const int rc = d->errand.kind == YD_OUT_RESULT ? prepare_result(d, &err) : prepare_webhook(d, &err);
    if (rc)
        note(d, &err, rc == YD_E_NOMEM, 0);
    else
        yd_outgoing_start(d->service->outgoing, &d->call);
}

static int busy_with(const yd_deliveries *all, const char *host)
{
    int n = 0;
    for (const delivery *d = all->first; d; d = d->next) n += d->job && strcmp(d->host, host) == 0;
    return n;
}

static void try(delivery *d)
{
    yd_service *s = d->service;
    yd_job *j;
    const int rc = find_job(s, d->id, &j);
    if (rc == YD_E_GONE || rc == YD_E_NOT_FOUND) {
        yd_log(YD_LOG_WARN, NULL, "not delivered, the job has expired or was deleted", "job", d->id, NULL);
        forget(d);
        return;
    }
    d->next_us = yd_mono_us() + s->cfg->delivery_retry_ms * 1000; // should this not be the time
    const int got = rc ? rc : yd_errands_next(j->rec.errands, j->rec.state, &d->errand);
    if (got == 0)
        forget(d);
    else if (got > 0)
        start(d, j);
}

static void on_timer(uv_timer_t *t)
{
    run(t->data);
}

static void run(yd_service *s)
{
    yd_deliveries *all = s->deliveries;
    const int64_t now_us = yd_mono_us();
    int64_t first_us = INT64_MAX;
    if (s->closing) return;
    for (delivery *d = all->first, *next; d; d = next) {
        next = d->next;
        if (d->job) continue;
        if (d->next_us <= now_us) {
            if (all->under_way >= (int)s->cfg->outgoing_connections) continue; // whoever ends looks again
            if (busy_with(all, d->host) >= (int)s->cfg->outgoing_per_host) continue;
            try(d);
        } else if (d->next_us < first_us)
            first_us = d->next_us;
    }
    if (first_us < INT64_MAX) uv_timer_start(&all->timer, on_timer, (uint64_t)((first_us - now_us) / 1000 + 1), 0);
}

// ---- from outside --------------------------------------------------------------------------------------------------

static int add(yd_service *s, const yd_job_record *r, int64_t wait_us)
{
    delivery *d = yd_calloc(1, sizeof *d);
    if (!d) return YD_E_NOMEM;
    d->service = s;
    memcpy(d->id, r->id, sizeof d->id);
    set_host(d, r);
    d->next_us = yd_mono_us() + wait_us;
    append(s->deliveries, d);
    return 0;
}

void yd_delivery_add(yd_job *j)
{
    yd_service *s = j->service;
    if (!j->rec.due || j->deleted || j->gone || !s->deliveries || s->closing) return;
    if (add(s, &j->rec, 0))
        yd_log(YD_LOG_ERROR, j->request_id, "no memory to deliver", "job", j->rec.id, NULL);
    else // from the timer, never from the middle of a job's end
        uv_timer_start(&s->deliveries->timer, on_timer, 0, 0);
}

size_t yd_deliveries_waiting(const yd_service *s)
{
    return s->deliveries ? s->deliveries->count : 0;
}

int yd_deliveries_admit(const yd_service *s, const yd_job_record *r, yd_err *err)
{
    json_t *public = yd_errands_public(r->errands);
    const int told = json_object_get(public, "webhook") != NULL, any = told || json_object_get(public, "result");
    json_decref(public);
    if (any && yd_deliveries_waiting(s) >= (size_t)s->cfg->deliveries_max)
        return yd_fail(err, YD_E_QUEUE_FULL, "%zu results and webhooks wait for their receivers, no more than %lld may", yd_deliveries_waiting(s),
                       (long long)s->cfg->deliveries_max);
    if (!told || (s->deliveries && s->deliveries->secrets && yd_secrets_have(s->deliveries->secrets, r->owner))) return 0;
    return yd_fail_field(err, YD_E_SETTING, "webhook", "no webhook", "there is no secret that could sign the webhooks of this key");
}

static int read_secrets(const yd_config *cfg, yd_secrets **out, yd_err *err)
{
    void *text = NULL;
    size_t len = 0;
    yd_err why;
    if (!*cfg->webhook_secret_file) return 0;
    if (yd_file_read(cfg->webhook_secret_file, SECRETS_MOST, &text, &len, &why))
        return yd_fail_field(err, YD_E_CONFIG, "webhook_secret_file", "a file that can be read", "%s", why.detail);
    const int rc = yd_secrets_parse(text, len, out, err);
    memset(text, 0, len);
    yd_free(text);
    return rc;
}

// What an earlier process left: soon, but not everything in one moment. Where processes share the store it may be another one's that is at it: that
// one is given time, and what it has done by then is not done again.
static void recover(yd_service *s)
{
    const int64_t others_us = s->store->several ? s->cfg->store_lease_ms * 1000 : 0;
    char ids[PAGE][YD_ID_MAX];
    uint64_t orders[PAGE], before = UINT64_MAX;
    for (int n = PAGE; n == PAGE && s->deliveries->count < (size_t)s->cfg->deliveries_max;) {
        n = s->store->list_due(s->store, before, PAGE, ids, orders);
        for (int i = 0; i < n; i++) {
            yd_job_record r;
            yd_err ignored; // what cannot be read stays where it is
            if (s->store->get(s->store, ids[i], 0, &r, &ignored)) continue;
            add(s, &r, others_us + (int64_t)s->deliveries->count * 1000);
            yd_job_record_clear(&r);
        }
        if (n) before = orders[n - 1];
    }
    if (s->deliveries->count) uv_timer_start(&s->deliveries->timer, on_timer, 0, 0);
}

int yd_deliveries_open(yd_service *s, yd_err *err)
{
    const yd_config *cfg = s->cfg;
    if (!*cfg->fetch_hosts && !*cfg->result_hosts && !*cfg->webhook_hosts) return 0;
    yd_deliveries *all = yd_calloc(1, sizeof *all);
    if (!all) return yd_fail(err, YD_E_NOMEM, "no memory for the service");
    int rc = read_secrets(cfg, &all->secrets, err);
    if (!rc) rc = yd_outgoing_open(s->loop, cfg, s->metrics, &s->outgoing, err);
    if (rc) {
        yd_secrets_free(all->secrets);
        yd_free(all);
        return rc;
    }
    s->deliveries = all;
    uv_timer_init(s->loop, &all->timer); // closed with the outgoing connections
    all->timer.data = s;
    recover(s);
    return 0;
}

// The timer is started for what waits: more may have a turn now.
int yd_deliveries_reload(yd_service *s, const yd_config *next, yd_err *err)
{
    yd_secrets *secrets = NULL;
    int rc = read_secrets(next, &secrets, err);
    if (!rc && s->deliveries) rc = yd_outgoing_reload(s->outgoing, next, err);
    if (rc || !s->deliveries) { // what is not there yet is opened when the settings have been taken over
        yd_secrets_free(secrets);
        return rc;
    }
    yd_secrets_free(s->deliveries->secrets);
    s->deliveries->secrets = secrets;
    uv_timer_start(&s->deliveries->timer, on_timer, 0, 0);
    return 0;
}

static void on_timer_closed(uv_handle_t *h)
{
    yd_service *s = h->data;
    yd_deliveries *all = s->deliveries;
    while (all->first) forget(all->first);
    yd_secrets_free(all->secrets);
    yd_free(all);
    s->deliveries = NULL;
    yd_service_release(s);
}

static void on_outgoing_closed(void *arg)
{
    yd_service *s = arg;
    s->outgoing = NULL;
    uv_close((uv_handle_t *)&s->deliveries->timer, on_timer_closed);
}

void yd_deliveries_close(yd_service *s)
{
    if (!s->deliveries) return;
    s->holds++;
    yd_outgoing_close(s->outgoing, on_outgoing_closed, s);
}
