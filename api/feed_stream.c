// GET /v1/events: what happens to all jobs of the caller, or to those it names, in one stream.
//
//   retry --> snapshot | [gap] --> event event ... (suspended) ... --> end, when every job that was named has ended
//
// Who comes for the first time is told how things are (`snapshot`), with an id to resume from; so is who comes back for what is not
// known any more (`gap`). Every event names its job. Pictures are links, or inline as in a job's own stream; the feed has none itself, they
// are looked up in the job's log when their turn has come. Previews that are not there any more by then are left out: a slow reader loses
// them and nothing else, and holds one picture at most. A stream of all jobs ends with the server only.
// Threads: the loop's. Read next: stream.c, daemon/feed.h.
#include "api/handlers.h"
#include "api/respond.h"
#include "api/stream.h"
#include "core/mem.h"
#include "daemon/feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define IN_SNAPSHOT  50 // jobs, the newest
#define ACCEPTED_IDS "at most 64 ids of jobs, separated by commas"

typedef struct named_job {
    char id[YD_ID_MAX], over; // over: its last event has been told
} named_job;

typedef struct feed_stream {
    yd_stream base;
    yd_feed_reader *reader;
    uint64_t cursor, live_from; // cursor 0: nothing was said yet
    char owner[64];
    char previews, inlined;
    size_t n_jobs; // 0: all
    named_job job[];
} feed_stream;

static named_job *find_named(feed_stream *s, const char *id)
{
    for (size_t i = 0; i < s->n_jobs; i++)
        if (strcmp(s->job[i].id, id) == 0) return &s->job[i];
    return NULL;
}

static int is_wanted(const void *stream, const char *id)
{
    feed_stream *s = (feed_stream *)(uintptr_t)stream;
    return s->n_jobs == 0 || find_named(s, id);
}

static int all_over(const feed_stream *s)
{
    size_t n = 0;
    while (n < s->n_jobs && s->job[n].over) n++;
    return s->n_jobs && n == s->n_jobs;
}

static void note_state(named_job *named, const yd_job *j)
{
    named->over = (char)(!j || yd_job_state_final(yd_job_state_of(j)));
}

static json_t *jobs_now(feed_stream *s)
{
    const yd_request *r = s->base.r;
    json_t *page = NULL, *jobs;
    yd_job *j;
    if (s->n_jobs == 0) {
        if (yd_service_list(r->service, s->owner, -1, NULL, IN_SNAPSHOT, &page, NULL)) return NULL;
        jobs = json_incref(json_object_get(page, "jobs"));
        json_decref(page);
        return jobs;
    }
    jobs = json_array();
    for (size_t i = 0; i < s->n_jobs; i++) {
        if (yd_service_find(r->service, s->owner, s->job[i].id, &j, NULL)) j = NULL;
        if (j) json_array_append_new(jobs, yd_service_job_json(r->service, j));
        note_state(&s->job[i], j);
    }
    return jobs;
}

static void say_state(feed_stream *s, const char *name)
{
    const uint64_t id = yd_feed_last_id(yd_service_feed(s->base.r->service));
    char *jobs = yd_text_json(jobs_now(s), NULL);
    yd_text t = {0};
    yd_stream_begin(&s->base, &t, id, name);
    yd_text_printf(&t, "{\"after\":%" PRIu64 ",\"jobs\":", s->cursor);
    yd_text_add(&t, jobs ? jobs : "[]", strlen(jobs ? jobs : "[]"));
    yd_text_printf(&t, "}");
    yd_stream_end(&s->base, &t);
    yd_free(jobs);
    yd_stream_say(&s->base, &t);
    s->cursor = id;
}

// 0: it is a preview that is not there any more.
static int say_event(feed_stream *s, const yd_feed_event *e)
{
    const yd_service *service = s->base.r->service;
    const int preview = e->type == YD_EVENT_PREVIEW;
    const yd_event *own = preview || s->inlined ? yd_service_event(service, s->owner, e->job, e->log_id) : NULL;
    named_job *named = find_named(s, e->job);
    if (named && yd_event_is_final(e->type)) named->over = 1;
    if (preview && !own) {
        if (e->id > s->live_from) yd_metrics_sse_dropped(yd_service_metrics(s->base.r->service), 1);
        return 0;
    }
    yd_stream_tell(&s->base, e->id, yd_event_name(e->type), e->job, e->data, own && s->inlined ? own->blob : NULL, own ? own->mask : NULL);
    return 1;
}

static int next(yd_stream *base)
{
    feed_stream *s = (feed_stream *)base;
    const yd_feed *feed = yd_service_feed(base->r->service);
    int gap = 0;
    if (s->cursor == 0) {
        say_state(s, "snapshot");
        return 1;
    }
    for (const yd_feed_event *e; (e = yd_feed_next(feed, s->owner, s->cursor, &gap));) {
        s->cursor = e->id;
        if ((e->type == YD_EVENT_PREVIEW && !s->previews) || !is_wanted(s, e->job)) continue;
        if (say_event(s, e)) return 1;
    }
    if (gap)
        say_state(s, "gap");
    else if (s->cursor < yd_feed_last_id(feed))
        s->cursor = yd_feed_last_id(feed); // what follows is other people's
    return gap;
}

static int over(const yd_stream *base)
{
    return all_over((const feed_stream *)base);
}

static void let_go(yd_stream *base)
{
    feed_stream *s = (feed_stream *)base;
    yd_feed_unread(s->reader);
    s->reader = NULL;
}

static void release(yd_stream *s)
{
    yd_free(s);
}

static const yd_stream_kind kind = {next, over, let_go, release};

// ---- opening one

static size_t count_ids(const char *text)
{
    size_t n = text && *text ? 1 : 0;
    for (; n && *text; text++) n += *text == ',';
    return n;
}

static int take_ids(feed_stream *s, const char *text, size_t n, yd_err *err)
{
    size_t known = 0;
    for (size_t i = 0; i < n; i++) {
        yd_job *j;
        named_job *named = &s->job[s->n_jobs];
        const size_t len = strcspn(text, ",");
        snprintf(named->id, YD_ID_MAX, "%.*s", (int)(len < YD_ID_MAX ? len : YD_ID_MAX), text);
        text += len + (text[len] == ',');
        const int rc = yd_service_find(s->base.r->service, s->owner, named->id, &j, err);
        if (rc && !s->cursor) return rc;
        known += !rc;
        if (find_named(s, named->id)) continue; // once is enough
        note_state(named, rc ? NULL : j);       // who comes back may have had the end of one that is gone by now
        s->n_jobs++;
    }
    return known || !n ? 0 : err->code;
}

// Of a stream that is resumed: the jobs that have ended, but whose end is still to be told, or to come from where it happened.
static void look_ahead(feed_stream *s)
{
    const yd_service *service = s->base.r->service;
    const yd_feed *feed = yd_service_feed(service);
    int gap = 0;
    if (!s->cursor || !s->n_jobs) return;
    for (size_t i = 0; i < s->n_jobs; i++)
        if (s->job[i].over && yd_service_end_may_follow(service, s->job[i].id)) s->job[i].over = 0;
    uint64_t at = yd_feed_begin(feed);
    for (const yd_feed_event *e; (e = yd_feed_next(feed, s->owner, at, &gap)); at = e->id) {
        named_job *named = find_named(s, e->job);
        if (named && yd_event_is_final(e->type)) named->over = (char)(e->id <= s->cursor);
    }
    yd_feed_next(feed, s->owner, s->cursor, &gap);
    for (size_t i = 0; gap && i < s->n_jobs; i++) s->job[i].over = 0;
}

static int open_stream(yd_request *r, feed_stream **out, yd_err *err)
{
    const char *ids = yd_request_arg(r, "jobs");
    if (!ids) ids = r->only; // what the token is for
    const size_t n = count_ids(ids);
    if (n > YD_STREAM_JOBS) return yd_fail_field(err, YD_E_SETTING, "jobs", ACCEPTED_IDS, "%zu jobs are named", n);
    feed_stream *s = yd_calloc(1, sizeof *s + n * sizeof s->job[0]);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for an event stream");
    s->base.r = r;
    s->previews = (char)yd_stream_asked(r, "previews", 1);
    s->inlined = (char)yd_stream_asked(r, "inline", 0);
    s->live_from = yd_feed_last_id(yd_service_feed(r->service));
    snprintf(s->owner, sizeof s->owner, "%s", r->owner);
    int rc = yd_stream_cursor(r, &s->cursor, err);
    if (!rc) rc = take_ids(s, ids, n, err);
    if (!rc) look_ahead(s);
    if (!rc) rc = yd_feed_read(yd_service_feed(r->service), s->owner, s->previews ? is_wanted : NULL, yd_stream_notify, s, &s->reader, err);
    if (rc)
        yd_free(s);
    else
        *out = s;
    return rc;
}

void yd_handle_events_all(yd_request *r)
{
    yd_err err = {0};
    feed_stream *s = NULL;
    if (open_stream(r, &s, &err)) {
        yd_respond_problem(r, &err);
        return;
    }
    if (s->cursor && all_over(s)) { // everything has been told, and nothing can follow
        yd_feed_unread(s->reader);
        yd_free(s);
        yd_respond_empty(r, 204);
        return;
    }
    yd_stream_open(&s->base, &kind, r);
    yd_stream_answer(&s->base);
}
