// Jobs of earlier processes: unfinished ones wait again in their old order, finished ones are recalled when somebody asks.
//
// What is unfinished is put into the table when the service opens, so that its clients find it, and into the queue when their model
// is there, which is loaded for them. What has ended lives in a durable store; in memory it only rests: a list of jobs that nobody uses, the longest unused in front,
// of which the sweep keeps KEPT. Their events come from the lines that were stored with them; ids go on above everything that an earlier
// process can have given (YD_EVENT_STRIDE a process, or, where processes share a store, a claim: steps and previews of a job are at most YD_MAX_STEPS each).
// Threads: the loop thread.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/mutant.h"
#include <stdio.h>
#include <string.h>

#define KEPT         64
#define KEPT_BYTES   (64u << 20)
#define PAGE         200

// ---- jobs at rest --------------------------------------------------------------------------------------------------

void yd_job_stir(yd_job *j)
{
    yd_service *s = j->service;
    if (!j->resting) return;
    j->resting = 0;
    *(j->rest_prev ? &j->rest_prev->rest_next : &s->rest_first) = j->rest_next;
    *(j->rest_next ? &j->rest_next->rest_prev : &s->rest_last) = j->rest_prev;
    j->rest_prev = j->rest_next = NULL;
    s->resting--;
    s->resting_bytes -= j->rest_bytes;
}

void yd_job_rest(yd_job *j)
{
    yd_service *s = j->service;
    if (!s->store->durable || j->gone || !yd_job_state_final(j->rec.state)) return;
    yd_job_stir(j);
    j->resting = 1;
    j->rest_prev = s->rest_last;
    *(s->rest_last ? &s->rest_last->rest_next : &s->rest_first) = j;
    s->rest_last = j;
    j->rest_bytes = yd_job_bytes(j);
    s->resting++;
    s->resting_bytes += j->rest_bytes;
}

void yd_jobs_evict(yd_service *s)
{
    while (s->rest_first && (s->resting > KEPT || s->resting_bytes > KEPT_BYTES)) {
        yd_job *j = s->rest_first;
        yd_job_stir(j);
        if (j->pins > 0 || j->deleted) continue; // rests again when it is let go of
        yd_idmap_remove(s->jobs, j->rec.id);
        yd_job_free(j); // whoever reads its events holds the log
    }
}

// ---- recalling -----------------------------------------------------------------------------------------------------

char *yd_job_history(yd_job *j, const yd_job_record *r)
{
    const char *text = r->events ? (const char *)r->events->bytes : "";
    size_t len = r->events ? r->events->len : 0;
    uint64_t last = 0;
    char *final = NULL;
    yd_err ignored; // a history that cannot be read is a history that was trimmed
    const int64_t from = yd_events_handed_over(text, &len, &last);
    yd_events_catch_up(j->events, text, len, &final, &ignored);
    yd_events_skip_to(j->events, last);
    // Whoever had it last may have told more than it has stored.
    if (r->state == YD_JOB_QUEUED && from != r->claims) yd_events_trim_to(j->events, (uint64_t)r->claims * YD_EVENT_STRIDE);
    return final;
}

static void restore_events(yd_service *s, yd_job *j, const yd_job_record *r)
{
    const yd_blob *lines = r->events;
    const char *text = lines ? (const char *)lines->bytes : "";
    size_t len = lines ? lines->len : 0;
    uint64_t last = 0;
    const int64_t from = yd_events_handed_over(text, &len, &last);
    const int whole = yd_job_state_final(r->state) || s->store->boot <= r->boot || (from >= 0 && from == s->store->boot - 1);
    const uint64_t above = whole ? 0 : (uint64_t)(s->store->boot - r->boot) * YD_EVENT_STRIDE;
    yd_err ignored; // a history that cannot be read is a history that was trimmed
    yd_events_restore(j->events, text, len, above, &ignored);
    yd_events_skip_to(j->events, last);
}

static void restore_shared_events(yd_job *j, const yd_job_record *r)
{
    static const yd_event_type final[] = {
        [YD_JOB_SUCCEEDED] = YD_EVENT_SUCCEEDED, [YD_JOB_FAILED] = YD_EVENT_FAILED, [YD_JOB_CANCELLED] = YD_EVENT_CANCELLED};
    char *words = yd_job_history(j, r);
    yd_err ignored;
    if (yd_job_state_final(r->state))
        yd_events_append(j->events, final[r->state], words ? words : yd_strdup("{}"), NULL, NULL, NULL, &ignored);
    else
        yd_free(words);
}

yd_job *yd_job_revive(yd_service *s, yd_job_record *r)
{
    yd_job *j = yd_job_new(s, r);
    if (!j) return NULL;
    if (s->store->several)
        restore_shared_events(j, r);
    else
        restore_events(s, j, r);
    yd_blob_unref(j->rec.events);
    j->rec.events = NULL;
    const int64_t age_ms = yd_wall_ms() - r->created_ms;
    j->created_us -= (age_ms > 0 ? age_ms : 0) * 1000;
    if (yd_job_state_final(r->state)) j->stage = YD_STAGE_DONE;
    return j;
}

int yd_job_recall(yd_service *s, const char *id, yd_job **out, yd_err *err)
{
    yd_job_record r;
    int rc = s->store->get(s->store, id, 1, &r, err);
    if (rc) return rc;
    yd_job *j = yd_job_state_final(r.state) ? yd_job_revive(s, &r) : NULL;
    if (!yd_job_state_final(r.state))
        rc = yd_fail(err, YD_E_NOT_FOUND, "there is no job %.40s", id);
    else if (!j || yd_idmap_put(s->jobs, id, j))
        rc = yd_fail(err, YD_E_NOMEM, "no memory to look at a job");
    yd_job_record_clear(&r);
    if (rc) {
        yd_job_free(j);
        return rc;
    }
    yd_job_rest(j);
    *out = j;
    return 0;
}

json_t *yd_job_stored_json(yd_service *s, const char *id)
{
    yd_job_record r;
    yd_err ignored; // it went between two looks
    if (s->store->get(s->store, id, 0, &r, &ignored)) return NULL;
    yd_job *j = yd_job_state_final(r.state) ? yd_job_revive(s, &r) : NULL;
    json_t *o = j ? yd_service_job_json(s, j) : NULL;
    yd_job_free(j);
    yd_job_record_clear(&r);
    return o;
}

// ---- taking up what was left unfinished ----------------------------------------------------------------------------

// Ids of everything that waits in the store, newest first.
static int collect(yd_service *s, yd_err *err)
{
    uint64_t orders[PAGE], before = UINT64_MAX;
    for (int n = PAGE; n == PAGE;) {
        size_t bytes;
        if (yd_mul_size(s->n_left + PAGE, sizeof *s->left, &bytes)) return yd_fail(err, YD_E_NOMEM, "too many jobs to take up");
        void *more = yd_realloc(s->left, bytes);
        if (!more) return yd_fail(err, YD_E_NOMEM, "no memory for the jobs that wait");
        s->left = more;
        n = s->store->list(s->store, NULL, YD_JOB_QUEUED, before, PAGE, s->left + s->n_left, orders);
        s->n_left += (size_t)n;
        if (n) before = orders[n - 1];
    }
    return 0;
}

void yd_job_book_stored(yd_job *j)
{
    const long left = j->rec.units - j->rec.progress.windows_done; // what was computed stays charged
    j->booking.units = left > 0 ? left : 0;
}

static int take_up(yd_service *s, const char *id, yd_err *err)
{
    yd_job_record r;
    int rc = s->store->get(s->store, id, 1, &r, err);
    if (rc) return rc;
    r.resumed++;
    const int whole = r.input || !*r.in_format; // or its picture was to be fetched yet
    yd_job *j = whole ? yd_job_revive(s, &r) : NULL;
    if (!whole)
        rc = yd_fail(err, YD_E_IO, "its picture is not there");
    else if (!j || yd_idmap_put(s->jobs, id, j))
        rc = yd_fail(err, YD_E_NOMEM, "no memory for it");
    yd_job_record_clear(&r);
    if (rc) {
        yd_job_free(j);
        return rc;
    }
    s->under_way++;
    j->booking.counted = yd_owners_enter(s->owners, j->rec.owner) == 0; // over the limit or not: it was taken
    yd_job_book_stored(j);
    if (j->rec.input) s->input_bytes += j->rec.input->len;
    j->has_checkpoint = 1; // perhaps
    return 0;
}

int yd_service_recover(yd_service *s, yd_err *err)
{
    yd_replicas_open(s);
    if (s->store->several) return 0;
    int rc = s->store->durable && !YD_BROKEN(NO_REQUEUE) ? collect(s, err) : 0;
    for (size_t i = 0; i < s->n_left && !rc; i++) {
        yd_err why;
        rc = take_up(s, s->left[i], &why);
        if (rc == YD_E_NOMEM) return yd_fail(err, rc, "%s", why.detail);
        // A record that cannot be read stays where it is for whoever looks into it; the others go on.
        if (rc) yd_log(YD_LOG_ERROR, NULL, "a job cannot be taken up", "job", s->left[i], "why", why.detail, NULL);
        rc = 0;
    }
    return rc;
}

// 0: it goes on. 1: its model is on its way.
static int may_go_on(yd_service *s, yd_job *j, yd_err *err)
{
    const int most = (int)s->cfg->max_attempts;
    yd_resident *model;
    if (j->rec.attempts >= most)
        return yd_fail(err, YD_E_INTERNAL, "the job was under way %d times when the server stopped without warning; it is not tried again",
                       j->rec.attempts);
    int rc = yd_models_recall(s, &j->rec, &model, err);
    if (rc) return rc;
    j->model = yd_resident_hold(model);
    if (!j->rec.input) return 0;
    char before[sizeof j->rec.fingerprint];
    memcpy(before, j->rec.fingerprint, sizeof before);
    rc = yd_service_reexamine(s, j, err);
    if (rc || !s->store->several || j->unfit_us || strcmp(before, j->rec.fingerprint) == 0) return rc;
    memcpy(j->rec.fingerprint, before, sizeof before);
    return yd_fail_field(err, YD_E_SETTING, "fingerprint", before, "processes that compute what it was taken for go first");
}

static void forget_left(yd_service *s)
{
    yd_free(s->left);
    s->left = NULL;
    s->n_left = 0;
}

void yd_service_park_left(yd_service *s)
{
    for (size_t i = 0; i < s->n_left; i++) {
        yd_job *j = yd_idmap_get(s->jobs, s->left[i]);
        if (j) yd_pipeline_park(j);
    }
    forget_left(s);
}

static void go_on(yd_job *j)
{
    const int again = !j->service->store->several || j->rec.claims > 0;
    yd_log(again ? YD_LOG_INFO : YD_LOG_DEBUG, j->request_id, again ? "job taken up again" : "another process's job waits here too", "job", j->rec.id, NULL);
    if (j->rec.input)
        yd_service_enter_queue(j);
    else if (j->service->store->several)
        yd_replicas_fetch(j);
    else
        yd_fetch_start(j);
}

void yd_service_resume(yd_service *s)
{
    size_t waiting = s->n_left; // from here on: those whose models are on their way
    for (size_t i = s->n_left; i-- > 0;) {
        yd_job *j = yd_idmap_get(s->jobs, s->left[i]);
        yd_err err = {0};
        if (!j || j->foreign || yd_job_over(j) || j->turn.state != YD_TURN_OUT || j->model) continue;
        yd_job_pin(j);
        const int rc = may_go_on(s, j, &err);
        if (rc < 0 && s->store->several && j->rec.attempts < (int)s->cfg->max_attempts)
            yd_replicas_unfit(j, &err);
        else if (rc < 0)
            yd_pipeline_finish(j, YD_JOB_FAILED, &err);
        else if (rc == 0)
            go_on(j);
        else
            memmove(s->left[--waiting], s->left[i], sizeof *s->left);
        yd_job_unpin(j);
    }
    if (waiting == s->n_left) {
        forget_left(s);
        return;
    }
    s->n_left -= waiting;
    memmove(s->left, s->left + waiting, s->n_left * sizeof *s->left);
}
