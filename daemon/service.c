// The service itself: opened, drained, closed; and its jobs looked up, listed, cancelled, deleted.
//
// Closing: everything is cancelled, then whoever still holds the struct (timers, workers, pool tasks) lets go; `holds` counts them and
// the last one frees it. Threads: the loop thread only. Read next: submit.c, then pipeline.c.
#include "daemon/service_internal.h"

#include "core/image.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include "core/keys.h"
#include "daemon/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWEEP_MS 1000
#define LIST_MAX 200

// ---- open ----------------------------------------------------------------------------------------------------------

void yd_service_store(yd_service *s, yd_store_op *op)
{
    if (!s->store_closing) {
        s->store->submit(s->store, op);
        return;
    }
    op->rc = yd_fail(&op->err, YD_E_DRAINING, "the server has stopped");
    if (op->done) op->done(op);
    yd_store_op_free(op);
}

static void sweep(yd_service *s);

static void on_expired(yd_store_op *op)
{
    yd_service *s = op->arg;
    s->expiring = 0;
    for (int i = 0; i < op->n_expired; i++) {
        yd_job *j = yd_idmap_get(s->jobs, op->expired[i]);
        yd_log(YD_LOG_DEBUG, NULL, "job expired", "job", op->expired[i], NULL);
        if (j) yd_job_forget(j);
    }
    if (op->n_expired == YD_EXPIRE_MAX && !s->closing) sweep(s); // there may be more
}

static void sweep(yd_service *s)
{
    yd_store_op *op = s->expiring ? NULL : yd_store_op_new(YD_OP_EXPIRE, NULL, on_expired, s);
    yd_jobs_evict(s);
    if (!op) return; // the next sweep comes soon
    op->now_ms = yd_wall_ms();
    op->limits = (yd_store_limits){s->cfg->job_ttl_s * 1000, s->cfg->tombstone_ttl_s * 1000, (size_t)s->cfg->max_finished_jobs,
                                   (size_t)s->cfg->max_finished_bytes};
    s->expiring = 1;
    yd_service_store(s, op);
}

static void on_sweep(uv_timer_t *t)
{
    yd_service *s = t->data;
    sweep(s);
    yd_owners_sweep(s->owners, &s->sched);
    yd_bundles_sweep(s);
    yd_models_sweep(s);
    yd_replicas_sweep(s);
    yd_pipeline_say_reached(s);
    yd_lanes_sweep(s);
    yd_pipeline_kick(s); // deadlines pass without any event
}

static void on_codecs(void *arg)
{
    yd_pipeline_kick(arg);
}

static void free_service(yd_service *s)
{
    yd_checkpoints_close(s);
    yd_idmap_free(s->jobs);
    yd_idmap_free(s->leaders);
    yd_idmap_free(s->keyed);
    yd_bundles_close(s);
    yd_feed_free(s->feed);
    yd_free(s->left);
    yd_owners_free(s->owners);
    yd_keys_free(s->keys);
    yd_metrics_free(s->metrics);
    yd_registry_clear(&s->models);
    yd_mapper_free(s->mapper);
    yd_free(s->lanes);
    yd_free(s);
}

static void forget_all(yd_service *s)
{
    for (yd_job *j; (j = yd_idmap_any(s->jobs));) yd_job_forget(j);
}

static void on_store_closed(void *arg)
{
    yd_service *s = arg;
    void (*closed)(void *arg) = s->closed;
    void *closed_arg = s->closed_arg;
    if (s->jobs) forget_all(s); // what became a job while everything closed
    free_service(s);
    if (closed) closed(closed_arg);
}

static void close_store(void *service)
{
    yd_service *s = service;
    s->store->close(s->store, on_store_closed, s);
}

// A service that never began; its handles close when the loop runs.
static void abandon(yd_service *s)
{
    s->closing = s->store_closing = 1;
    if (s->codecs) yd_codecs_close(s->codecs, NULL, NULL);
    if (s->mapper) yd_mapper_close(s->mapper, NULL, NULL);
    if (s->jobs) forget_all(s);
    yd_lanes_stop(s);
    if (s->deliveries)
        yd_deliveries_close(s); // the store follows
    else if (s->holds > 0)
        return; // it follows the devices
    else if (s->store)
        yd_replica_events_close(s, close_store);
    else
        free_service(s);
}

// Ids of this process lie above those of earlier ones: by their number, or, where nobody counts, by the time.
static uint64_t feed_base(const yd_store *store)
{
    if (store->several) return 0; // ids are those of all
    return store->durable ? (uint64_t)store->boot << 32 : (uint64_t)(yd_wall_ms() / 1000) << 20;
}

static int open_store(yd_service *s, yd_err *err)
{
    const yd_config *cfg = s->cfg;
    if (*cfg->store && !*cfg->state_dir)
        return yd_fail_field(err, YD_E_CONFIG, "state_dir", "a folder", "with a shared store pictures and checkpoints still need a folder");
    if (*cfg->store) return yd_store_redis_open(s->loop, cfg->store, cfg->state_dir, cfg->store_lease_ms, strcmp(cfg->picture_store, "redis") == 0 ? (size_t)cfg->picture_store_max : 0, &s->store, err);
    return *cfg->state_dir ? yd_store_sqlite_open(s->loop, cfg->state_dir, &s->store, err) : yd_store_memory_open(s->loop, &s->store, err);
}

// Everything that has no thread or process of its own.
static int open_parts(yd_service *s, yd_err *err)
{
    const yd_config *cfg = s->cfg;
    s->metrics = yd_metrics_new();
    s->jobs = yd_idmap_new();
    s->leaders = yd_idmap_new();
    s->keyed = yd_idmap_new();
    s->bundles = yd_idmap_new();
    s->owners = yd_owners_new(yd_owner_weight, s);
    yd_scheduler_init(&s->sched, &(yd_policy){
        .max_running = (int)cfg->max_running, .max_memory = (size_t)cfg->max_memory_bytes, .ageing = (double)cfg->ageing_percent / 100,
        .ahead_us = cfg->priority_ahead_s * 1000000, .slack_s = (double)cfg->share_slack_ms / 1000,
        .catch_up_s = (double)cfg->share_catch_up_ms / 1000, .max_idle_us = cfg->max_idle_ms * 1000, .reserve_us = cfg->reserve_after_ms * 1000});
    int rc = s->metrics && s->jobs && s->leaders && s->keyed && s->bundles && s->owners ? yd_lanes_plan(s, err) : yd_fail(err, YD_E_NOMEM, "no memory for the service");
    if (!rc) rc = yd_mapper_open(s->loop, cfg, &s->mapper, err); // before it is measured what models may take
    if (!rc) rc = yd_models_open(s, err);
    if (!rc) rc = open_store(s, err);
    if (!rc && !(s->feed = yd_feed_new((size_t)cfg->feed_events, feed_base(s->store)))) rc = yd_fail(err, YD_E_NOMEM, "no memory for the service");
    if (!rc) rc = yd_service_recover(s, err);
    if (!rc) rc = yd_replica_events_open(s, err);
    if (!rc) yd_bundles_recover(s);
    return rc ? rc : yd_checkpoints_open(s, err);
}

int yd_service_open(uv_loop_t *loop, const yd_config *cfg, yd_service **out, yd_err *err)
{
    yd_service *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for the service");
    s->loop = loop;
    s->cfg = cfg;
    int rc = *cfg->keys ? yd_keys_load(cfg->keys, &s->keys, err) : 0;
    if (rc) {
        yd_free(s);
        return rc;
    }
    rc = open_parts(s, err);
    if (!rc) rc = yd_codecs_open(loop, cfg, s->metrics, NULL, &s->codecs, err);
    if (!rc) rc = yd_deliveries_open(s, err);
    if (!rc) rc = yd_lanes_start(s, err);
    if (rc) {
        abandon(s);
        return rc;
    }
    yd_codecs_on_ready(s->codecs, on_codecs, s);
    s->sweep_timer.data = s->drain_timer.data = s;
    uv_timer_init(loop, &s->sweep_timer);
    uv_timer_init(loop, &s->drain_timer);
    uv_timer_start(&s->sweep_timer, on_sweep, SWEEP_MS, SWEEP_MS);
    s->holds += 5; // the caller, the mapper, the codecs, two timers
    yd_models_kick(s);
    *out = s;
    return 0;
}

void yd_service_on_broken(yd_service *s, void (*fn)(void *arg, const yd_err *err), void *arg)
{
    s->broken = fn;
    s->broken_arg = arg;
}

// ---- drain and close -----------------------------------------------------------------------------------------------

static void end_the_rest(yd_service *s)
{
    yd_fetches_end(s, s->store->durable);
    if (s->store->durable)
        yd_pipeline_park_all(s, 0);
    else
        yd_pipeline_end_all(s, YD_JOB_CANCELLED, NULL);
}

// The time for jobs to finish is over: they come to the end of their step, then whatever is left is left where it stands.
static void on_drain_time(uv_timer_t *t)
{
    yd_service *s = t->data;
    if (s->under_way > 0 && s->store->durable && !s->handing_over) {
        s->handing_over = 1;
        const int n = yd_pipeline_hand_over(s);
        if (n > 0) yd_log(YD_LOG_INFO, NULL, "running jobs are handed over at the end of their step", NULL);
        if (n > 0 && !uv_timer_start(t, on_drain_time, (uint64_t)s->cfg->handover_timeout_ms, 0)) return;
    }
    if (s->under_way > 0)
        yd_log(YD_LOG_WARN, NULL, s->store->durable ? "not waiting any longer, what is left is for the next process"
                                                    : "not waiting any longer, cancelling what is left", NULL);
    end_the_rest(s);
    if (s->under_way > 0 || s->arriving > 0 || !s->drained) return; // the last one to let go comes back here
    void (*drained)(void *arg) = s->drained;
    s->drained = NULL;
    drained(s->drained_arg);
}

// The end of a drain is told from the timer, never from the middle of a job's end: the watcher may close the service.
void yd_service_check_drained(yd_service *s)
{
    if (s->draining && !s->closing && s->under_way == 0 && s->arriving == 0) uv_timer_start(&s->drain_timer, on_drain_time, 0, 0);
}

void yd_service_leave(yd_service *s)
{
    s->leaving = 1;
}

int yd_service_leaving(const yd_service *s)
{
    return s->leaving || s->draining;
}

void yd_service_drain(yd_service *s, int fast, void (*on_drained)(void *arg), void *arg)
{
    if (on_drained) {
        s->drained = on_drained;
        s->drained_arg = arg;
    }
    int first = !s->draining;
    s->draining = 1;
    if (first && s->store->durable) {
        yd_fetches_end(s, 1);
        yd_pipeline_park_all(s, 1);
    }
    if (fast) s->handing_over = 1; // there is no time for it
    int64_t wait_ms = fast || s->under_way == 0 ? 0 : s->cfg->drain_timeout_ms;
    if (first || fast) uv_timer_start(&s->drain_timer, on_drain_time, (uint64_t)wait_ms, 0);
    if (!first) return;
    yd_log(YD_LOG_INFO, NULL, "draining", "fast", fast ? "true" : "false", NULL);
    if (s->drain_watch) s->drain_watch(s->drain_watch_arg);
}

int yd_service_draining(const yd_service *s)
{
    return s->draining;
}

void yd_service_on_drain(yd_service *s, void (*fn)(void *arg), void *arg)
{
    s->drain_watch = fn;
    s->drain_watch_arg = arg;
}

void yd_service_release(yd_service *s)
{
    if (--s->holds > 0) return;
    s->store_closing = 1;
    yd_replica_events_close(s, close_store);
}

static void on_handle_closed(uv_handle_t *h)
{
    yd_service_release(h->data);
}

static void on_part_closed(void *arg)
{
    yd_service_release(arg);
}

void yd_service_close(yd_service *s, void (*done)(void *arg), void *arg)
{
    s->closed = done;
    s->closed_arg = arg;
    s->draining = s->closing = 1;
    s->drained = NULL;
    end_the_rest(s);
    yd_demands_end(s);
    yd_lanes_stop(s);
    yd_mapper_close(s->mapper, on_part_closed, s);
    yd_codecs_close(s->codecs, on_part_closed, s);
    yd_deliveries_close(s);
    forget_all(s);
    uv_close((uv_handle_t *)&s->sweep_timer, on_handle_closed);
    uv_close((uv_handle_t *)&s->drain_timer, on_handle_closed);
    yd_service_release(s);
}

// ---- jobs ----------------------------------------------------------------------------------------------------------

int yd_service_find(yd_service *s, const char *owner, const char *id, yd_job **out, yd_err *err)
{
    yd_job *j = yd_idmap_get(s->jobs, id);
    int rc = j ? yd_replicas_gone(j, err) : yd_job_recall(s, id, &j, err);
    if (rc == YD_E_NOT_FOUND) rc = yd_replicas_unknown(s, id, err);
    if (rc) return rc;
    if (strcmp(j->rec.owner, owner) != 0) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %.40s", id);
    if (j->deleted) return yd_fail(err, YD_E_GONE, "job %.40s has been deleted or has expired", id);
    if (j->resting) yd_job_rest(j); // the latest used of them
    *out = j;
    return 0;
}

const yd_event *yd_service_event(const yd_service *s, const char *owner, const char *job, uint64_t id)
{
    const yd_job *j = yd_idmap_get(s->jobs, job); // what only the store has comes without pictures anyway
    if (!j || !id || j->deleted || strcmp(j->rec.owner, owner) != 0) return NULL;
    const yd_event *e = yd_events_next(j->events, id - 1, NULL);
    return e && e->id == id ? e : NULL;
}

static int parse_cursor(const char *text, uint64_t *out, yd_err *err)
{
    char *end;
    errno = 0;
    *out = UINT64_MAX;
    if (!text || !*text) return 0;
    *out = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return yd_fail_field(err, YD_E_INVALID, "cursor", "what an earlier answer gave as \"next\"",
                             "'%.32s' is no cursor", text);
    return 0;
}

int yd_service_list(yd_service *s, const char *owner, int state, const char *cursor, int limit, json_t **out,
                    yd_err *err)
{
    static char ids[LIST_MAX][YD_ID_MAX]; // the loop thread's
    static uint64_t orders[LIST_MAX];
    uint64_t before;
    if (limit < 1 || limit > LIST_MAX)
        return yd_fail_field(err, YD_E_SETTING, "limit", "an integer from 1 to 200", "limit is %d", limit);
    int rc = parse_cursor(cursor, &before, err);
    if (rc) return rc;
    int n = s->store->list(s->store, owner, state, before, limit, ids, orders);
    json_t *jobs = json_array();
    for (int i = 0; i < n; i++) {
        const yd_job *j = yd_idmap_get(s->jobs, ids[i]);
        json_t *o = j ? yd_service_job_json(s, j) : yd_job_stored_json(s, ids[i]);
        if (o && !(j && j->deleted))
            json_array_append_new(jobs, o);
        else
            json_decref(o);
    }
    char next[24];
    snprintf(next, sizeof next, "%llu", (unsigned long long)(n ? orders[n - 1] : 0));
    *out = json_pack("{s:o, s:o}", "jobs", jobs, "next", n == limit ? json_string(next) : json_null());
    return *out ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the list of jobs");
}

int yd_service_subscribe(yd_service *s, yd_job *j, yd_notify_fn fn, void *arg, yd_subscription **out, yd_err *err)
{
    (void)s;
    const int rc = yd_events_subscribe(j->events, 1, fn, arg, out, err);
    if (!rc) yd_job_looked_at(j, 0);
    return rc;
}

yd_feed *yd_service_feed(const yd_service *s)
{
    return s->feed;
}

int yd_service_result(const yd_service *s, const yd_job *j, yd_blob **out, yd_err *err)
{
    (void)s;
    if (j->rec.state == YD_JOB_FAILED) {
        if (err) *err = j->rec.problem;
        return j->rec.problem.code;
    }
    if (j->rec.state == YD_JOB_CANCELLED)
        return yd_fail(err, YD_E_CANCELLED, "the job was cancelled; there is no result");
    if (j->rec.state != YD_JOB_SUCCEEDED || !j->rec.result)
        return yd_fail(err, YD_E_NOT_READY, "the job is %s", yd_job_state_name(j->rec.state));
    *out = yd_blob_ref(j->rec.result);
    return 0;
}

const uint8_t *yd_service_secret(const yd_service *s)
{
    return s->store->secret;
}

const char *yd_service_durability(const yd_service *s)
{
    return s->store->durability;
}
