// GET /v1/events: what happens to all jobs of the caller, or to those it names, in one stream.
//
//   retry --> snapshot | [gap] --> event event ... (suspended) ...
//
// Who comes for the first time is told how things are (`snapshot`), with an id to resume from; so is who comes back for what is not
// known any more (`gap`). Every event names its job; pictures are links. The stream ends with the server only.
// Threads: the loop's. Read next: stream.c, daemon/feed.h.
#include "api/handlers.h"
#include "api/respond.h"
#include "api/stream.h"
#include "core/mem.h"
#include "daemon/feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define JOBS_MAX     64 // that may be named
#define IN_SNAPSHOT  50 // jobs, the newest
#define ACCEPTED_IDS "at most 64 ids of jobs, separated by commas"

typedef struct feed_stream {
    yd_stream base;
    yd_feed_reader *reader;
    uint64_t cursor; // 0: nothing was said yet
    char owner[64];
    int previews;
    size_t n_jobs; // 0: all
    char job[][YD_ID_MAX];
} feed_stream;

static int is_wanted(const feed_stream *s, const yd_feed_event *e)
{
    if (e->type == YD_EVENT_PREVIEW && !s->previews) return 0;
    for (size_t i = 0; i < s->n_jobs; i++)
        if (strcmp(s->job[i], e->job) == 0) return 1;
    return s->n_jobs == 0;
}

static json_t *jobs_now(const feed_stream *s)
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
    for (size_t i = 0; i < s->n_jobs; i++)
        if (!yd_service_find(r->service, s->owner, s->job[i], &j, NULL)) json_array_append_new(jobs, yd_service_job_json(r->service, j));
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

// {"step":1} becomes {"job":"ID","step":1}.
static void say_event(feed_stream *s, const yd_feed_event *e)
{
    yd_text t = {0};
    yd_stream_begin(&s->base, &t, e->id, yd_event_name(e->type));
    yd_text_printf(&t, "{\"job\":\"%s\"%s", e->job, strcmp(e->data, "{}") ? "," : "");
    yd_text_add(&t, e->data + 1, strlen(e->data) - 1);
    yd_stream_end(&s->base, &t);
    yd_stream_say(&s->base, &t);
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
        if (!is_wanted(s, e)) continue;
        say_event(s, e);
        return 1;
    }
    if (gap)
        say_state(s, "gap");
    else
        s->cursor = yd_feed_last_id(feed); // what follows is other people's
    return gap;
}

static int over(const yd_stream *s)
{
    (void)s;
    return 0;
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

static int take_ids(feed_stream *s, const char *text, yd_err *err)
{
    for (size_t i = 0; i < s->n_jobs; i++) {
        yd_job *j;
        const size_t n = strcspn(text, ",");
        snprintf(s->job[i], YD_ID_MAX, "%.*s", (int)(n < YD_ID_MAX ? n : YD_ID_MAX), text);
        const int rc = yd_service_find(s->base.r->service, s->owner, s->job[i], &j, err);
        if (rc) return rc;
        text += n + (text[n] == ',');
    }
    return 0;
}

static int open_stream(yd_request *r, feed_stream **out, yd_err *err)
{
    const char *ids = yd_request_arg(r, "jobs"), *previews = yd_request_arg(r, "previews");
    const size_t n = count_ids(ids);
    if (n > JOBS_MAX) return yd_fail_field(err, YD_E_SETTING, "jobs", ACCEPTED_IDS, "%zu jobs are named", n);
    feed_stream *s = yd_calloc(1, sizeof *s + n * sizeof s->job[0]);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for an event stream");
    s->base.r = r;
    s->n_jobs = n;
    s->previews = !previews || (strcmp(previews, "0") && strcmp(previews, "false"));
    snprintf(s->owner, sizeof s->owner, "%s", r->owner);
    int rc = yd_stream_cursor(r, &s->cursor, err);
    if (!rc) rc = take_ids(s, ids, err);
    if (!rc) rc = yd_feed_read(yd_service_feed(r->service), s->owner, s->previews, yd_stream_notify, s, &s->reader, err);
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
    yd_stream_open(&s->base, &kind, r);
    yd_stream_answer(&s->base);
}
