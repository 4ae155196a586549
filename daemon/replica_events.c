// What is told of jobs, in a process that shares them with others: told to all of them, and heard from them.
//
// Who runs a job gives its events their ids and publishes them (events_relay.h); in the other processes they are appended to the log of the foreign
// job under the same ids, so that a client goes on anywhere. What comes before a job runs (`fetching`, `queued`) is stored with its record, and its
// last event comes with the record, too: whoever hears of the end finds the result. In the stream of all jobs (feed.h) an event has its place among
// those of all processes, in each of them the same.
// Previews are drawn where the job runs, while somebody looks at it anywhere: who shows a job says so again every few seconds. Other pictures of a
// job that is under way are asked for from who runs it.
// Threads: the loop's. Read next: replicas.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <string.h>

#define FIRST_ID     1           // of the feed: an event's place and this, so that nothing has the id 0
#define LOOKS_US     5000000     // after which who looks at a job says so again
#define LOOKED_AT_US 30000000    // for which that counts
#define COMES_MS     10000       // within which the end of a job comes into the feed
#define MOST_BYTES   (64u << 20) // of a picture that is asked for

// ---- telling -------------------------------------------------------------------------------------------------------

static void publish(yd_job *j, const yd_event *e, uint64_t before)
{
    yd_told told = {.claims = j->rec.claims,
                    .id = e->id,
                    .before = before,
                    .type = e->type,
                    .data = e->data,
                    .blob = e->blob,
                    .mask = e->mask};
    memcpy(told.job, j->rec.id, sizeof told.job);
    memcpy(told.owner, j->rec.owner, sizeof told.owner);
    if (e->id > j->told_id) j->told_id = e->id;
    yd_relay_publish(j->service->relay, &told);
}

// Whoever told the first events may be slower than who has claimed the job by now, or gone. What was told twice is one event to all.
void yd_job_tell_unheard(yd_job *j, uint64_t below)
{
    uint64_t before = j->told_id;
    if (!j->service->relay) return;
    for (const yd_event *e; (e = yd_events_next(j->events, before, NULL)) && e->id < below; before = e->id)
        if (e->type != YD_EVENT_PREVIEW && !yd_event_is_final(e->type)) publish(j, e, before);
}

void yd_job_tell(yd_job *j, const yd_event *e, uint64_t before)
{
    const yd_service *s = j->service;
    if (!s->relay) {
        yd_feed_append(s->feed, j->rec.owner, j->rec.id, e->type, e->data, e->id);
        return;
    }
    if (j->foreign && !(j->ends_here && yd_event_is_final(e->type))) return; // who runs it tells it
    if (yd_event_is_final(e->type)) yd_job_tell_unheard(j, e->id);
    publish(j, e, before);
}

// ---- hearing -------------------------------------------------------------------------------------------------------

// Is it this process that gives its events their ids?
static int is_told_here(const yd_job *j)
{
    return !j->foreign && (j->rec.state != YD_JOB_QUEUED || j->fetch);
}

static int is_shown(const yd_job *j)
{
    return yd_events_viewers(j->events) > 0 || yd_feed_viewed(j->service->feed, j->rec.owner, j->rec.id);
}

void yd_job_looked_at(yd_job *j, int again)
{
    const yd_service *s = j->service;
    const int64_t now = yd_mono_us();
    if (!s->relay || !j->foreign || yd_job_state_final(j->rec.state) ||
        (!again && j->look_us && now - j->look_us < LOOKS_US) || !is_shown(j))
        return;
    j->look_us = now;
    yd_relay_view(s->relay, j->rec.id);
}

int yd_job_is_shown(const yd_job *j, int64_t now_us)
{
    return is_shown(j) || (j->looked_at_us && now_us - j->looked_at_us < LOOKED_AT_US);
}

// What an event, or a word between two events, says of how far a job has got where it runs.
static void take_progress(yd_job *j, const char *words)
{
    yd_job_progress *p = &j->rec.progress;
    json_t *o = json_loads(words, 0, NULL);
    const json_t *total = json_object_get(o, "windows_total"), *done = json_object_get(o, "windows_done"),
                 *step = json_object_get(o, "step"), *eta = json_object_get(o, "eta_s"),
                 *waited = json_object_get(o, "wait_ms");
    if (total) {
        p->windows_total = (long)json_integer_value(total);
        p->windows_skipped = (long)json_integer_value(json_object_get(o, "windows_skipped"));
        p->diffused_share = json_number_value(json_object_get(o, "diffused_share"));
    }
    if (step && json_integer_value(step) > p->step) p->step = (int)json_integer_value(step);
    if (done && json_integer_value(done) > p->windows_done) p->windows_done = (long)json_integer_value(done);
    if (waited) j->rec.timings.wait_ms = json_number_value(waited);
    if (eta) {
        j->told_eta_s = json_number_value(eta);
        j->told_eta_us = yd_mono_us();
    }
    json_decref(o);
}

// An event of a job that another process runs, into its log here; the end of a job comes with its record.
static void take(yd_job *j, const yd_told *e)
{
    yd_err ignored; // what is missing shows in `before` of the next one
    yd_event_log *log = j->events;
    if (yd_event_is_final(e->type) || yd_events_ended(log) || e->id <= yd_events_last_id(log)) return;
    if (e->before > yd_events_last_id(log)) yd_events_trim_to(log, e->before);
    if (e->type != YD_EVENT_PREVIEW && e->type != YD_EVENT_QUEUED) take_progress(j, e->data);
    if (e->type == YD_EVENT_PREVIEW && !e->blob) {
        yd_events_skip_to(log, e->id);
        return;
    }
    yd_events_skip_to(log, e->id - 1);
    yd_events_append(log, e->type, yd_strdup(e->data), yd_blob_ref(e->blob), yd_blob_ref(e->mask), NULL, &ignored);
}

// The log comes first: readers of the feed look for pictures there.
static void on_told(void *service, const yd_told *e)
{
    yd_service *s = service;
    yd_job *j = yd_idmap_get(s->jobs, e->job);
    if (j && e->id > j->told_id) j->told_id = e->id;
    if (j && !e->own && !is_told_here(j)) {
        yd_job_pin(j); // who hears of it may delete it
        take(j, e);
        yd_job_looked_at(j, e->type == YD_EVENT_STARTED);
        yd_job_unpin(j);
    }
    yd_feed_put(s->feed, e->place + FIRST_ID, e->owner, e->job, e->type, e->data, e->id);
}

// The picture of a map is small, and one for each job.
static int on_views(void *service, const yd_told *e)
{
    const yd_service *s = service;
    const yd_job *j = yd_idmap_get(s->jobs, e->job);
    return j && !is_told_here(j) && (e->type != YD_EVENT_PREVIEW || is_shown(j));
}

static void on_viewed(void *service, const char *job)
{
    const yd_service *s = service;
    yd_job *j = yd_idmap_get(s->jobs, job);
    if (j) j->looked_at_us = yd_mono_us();
}

static void on_reached(void *service, const char *job, const char *words)
{
    const yd_service *s = service;
    yd_job *j = yd_idmap_get(s->jobs, job);
    if (j && j->foreign && j->rec.state == YD_JOB_RUNNING) take_progress(j, words);
}

void yd_job_say_reached(yd_job *j)
{
    const yd_service *s = j->service;
    if (!s->relay || j->foreign || j->stage != YD_STAGE_COMPUTING || j->said_windows == j->rec.progress.windows_done)
        return;
    j->said_windows = j->rec.progress.windows_done;
    char *words = yd_text_json(
        json_pack("{s:I, s:f}", "windows_done", (json_int_t)j->said_windows, "eta_s", yd_job_eta_s(j)), NULL);
    if (words) yd_relay_reach(s->relay, j->rec.id, words);
    yd_free(words);
}

int yd_service_id_may_follow(const yd_service *s, const yd_job *j, uint64_t id)
{
    return s->relay && !yd_events_ended(j->events) && id < (uint64_t)(j->rec.claims + 2) * YD_EVENT_STRIDE;
}

int yd_service_end_may_follow(const yd_service *s, const char *job)
{
    const yd_job *j = yd_idmap_get(s->jobs, job);
    return s->relay && j && yd_wall_ms() - j->rec.finished_ms < COMES_MS;
}

// ---- pictures that another process wants ---------------------------------------------------------------------------

typedef struct question {
    yd_service *service;
    int64_t replica;
    uint64_t number;
} question;

static void on_made(void *arg, int rc, yd_blob *blob, const yd_err *err)
{
    question *q = arg;
    yd_err large;
    if (!rc && blob->len > MOST_BYTES) {
        rc = yd_fail(
            &large, YD_E_NOT_READY,
            "the picture is too large to be fetched from where the job runs; it is there when the job has ended");
        err = &large;
    }
    if (q->service->relay) yd_relay_answer(q->service->relay, q->replica, q->number, rc, blob, err);
    yd_blob_unref(blob);
    yd_free(q);
}

static char *print_want(const yd_picture_want *w)
{
    return yd_text_json(json_pack("{s:i, s:i, s:i, s:i}", "kind", (int)w->kind, "step", w->step, "format",
                                  (int)w->format, "max_side", w->max_side),
                        NULL);
}

static int parse_want(const char *words, yd_picture_want *w)
{
    int kind = 0, format = 0;
    json_t *o = json_loads(words, 0, NULL);
    const int bad = !o || json_unpack(o, "{s:i, s:i, s:i, s:i}", "kind", &kind, "step", &w->step, "format", &format,
                                      "max_side", &w->max_side);
    json_decref(o);
    w->kind = (yd_picture_kind)kind;
    w->format = (yd_image_format)format;
    return bad || kind < 0 || kind > YD_PICTURE_RESULT ||
                   (format != YD_PNG && format != YD_JPEG && format != YD_WEBP) || w->max_side < 0
               ? -1
               : 0;
}

static void on_asked(void *service, const yd_relay_question *asked)
{
    yd_service *s = service;
    yd_job *j = yd_idmap_get(s->jobs, asked->job);
    yd_picture_want want;
    yd_err err = {0};
    if (s->closing || !j || j->foreign || j->deleted || j->rec.state == YD_JOB_QUEUED ||
        parse_want(asked->words, &want))
        return;
    question *q = yd_malloc(sizeof *q);
    if (!q) return;
    *q = (question){s, asked->replica, asked->number};
    const int rc = yd_service_picture(s, j, &want, on_made, q, NULL, &err);
    if (rc) on_made(q, rc, NULL, &err);
}

int yd_job_ask_picture(yd_job *j, const yd_picture_want *want, yd_relay_answer_fn fn, void *arg, yd_err *err)
{
    char *words = print_want(want);
    if (!words) return yd_fail(err, YD_E_NOMEM, "no memory to ask another replica");
    const int rc = yd_relay_ask(j->service->relay, j->rec.id, words, fn, arg, NULL, err);
    yd_free(words);
    return rc;
}

// ---- opened and closed ---------------------------------------------------------------------------------------------

static int64_t replica_of(void *service)
{
    return ((yd_service *)service)->store->boot;
}

static uint64_t position_of(void *service)
{
    const yd_store *store = ((yd_service *)service)->store;
    return store->position(store);
}

static void on_advanced(void *service)
{
    yd_service *s = service;
    if (s->relay) yd_relay_advanced(s->relay);
}

int yd_replica_events_open(yd_service *s, yd_err *err)
{
    if (!s->store->several) return 0;
    const yd_relay_host host = {s, replica_of, position_of, on_views, on_told, on_viewed, on_reached, on_asked};
    yd_feed_share(s->feed);
    yd_feed_skip(s->feed, FIRST_ID);
    const int rc = yd_relay_open(s->loop, s->cfg->store, (long)s->cfg->feed_events, &host, &s->relay, err);
    if (rc) return rc;
    yd_feed_skip(s->feed, yd_relay_place(s->relay) + FIRST_ID);
    s->store->follow(s->store, on_advanced, s);
    return 0;
}

void yd_replica_events_close(yd_service *s, void (*closed)(void *service))
{
    yd_relay *r = s->relay;
    s->relay = NULL;
    if (r)
        yd_relay_close(r, closed, s);
    else
        closed(s);
}
