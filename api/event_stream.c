// GET /v1/jobs/{id}/events: the event log of a job.
//
// DESIGN
//   A stream is a cursor into the log: previews that were replaced meanwhile are simply never seen.
//
//       retry --> [gap] event event ... (suspended) ... event --> final event --> end
//                                            \draining, job deleted: end after what is there; the client comes back with its last id
//
// Threads: the loop's. Invariant: ids sent increase strictly. Read next: stream.c, daemon/events.h.
#include "api/handlers.h"
#include "api/respond.h"
#include "api/stream.h"
#include "core/mem.h"

#include <inttypes.h>
#include <string.h>

typedef struct stream {
    yd_stream base;
    yd_subscription *sub;
    uint64_t cursor, live_from;
    int inlined; // previews carry their picture
} stream;

// What was trimmed is made up for by the job as it is now.
static void say_gap(stream *s, uint64_t id)
{
    yd_job *j;
    json_t *job = NULL;
    if (!yd_service_find(s->base.r->service, s->base.r->owner, s->base.r->match.param, &j, NULL)) job = yd_service_job_json(s->base.r->service, j);
    char *snapshot = yd_text_json(job, NULL);
    yd_text t = {0};
    yd_stream_begin(&s->base, &t, id, "gap");
    yd_text_printf(&t, "{\"after\":%" PRIu64 ",\"job\":%s}", s->cursor, snapshot ? snapshot : "null");
    yd_stream_end(&s->base, &t);
    yd_free(snapshot);
    yd_stream_say(&s->base, &t);
    s->cursor = id;
}

static void say_event(stream *s, const yd_event *e)
{
    if (s->cursor >= s->live_from && e->id > s->cursor + 1)
        yd_metrics_sse_dropped(yd_service_metrics(s->base.r->service), e->id - s->cursor - 1);
    yd_stream_tell(&s->base, e->id, yd_event_name(e->type), NULL, e->data, s->inlined ? e->blob : NULL, e->mask);
    s->cursor = e->id;
}

static int next(yd_stream *base)
{
    stream *s = (stream *)base;
    int gap = 0;
    const yd_event *e = yd_events_next(yd_subscription_log(s->sub), s->cursor, &gap);
    if (!e) return 0;
    if (gap && e->id > s->cursor + 1)
        say_gap(s, e->id - 1);
    else
        say_event(s, e);
    return 1;
}

static int over(const yd_stream *base)
{
    const yd_event_log *log = yd_subscription_log(((const stream *)base)->sub);
    return yd_events_ended(log) || yd_events_closed(log);
}

static void let_go(yd_stream *base)
{
    stream *s = (stream *)base;
    yd_events_unsubscribe(s->sub);
    s->sub = NULL;
}

static void release(yd_stream *base)
{
    yd_free(base);
}

static const yd_stream_kind kind = {next, over, let_go, release};

static stream *open_stream(yd_request *r, yd_job *j, uint64_t cursor, yd_err *err)
{
    stream *s = yd_calloc(1, sizeof *s);
    if (!s) {
        yd_fail(err, YD_E_NOMEM, "no memory for an event stream");
        return NULL;
    }
    if (yd_service_subscribe(r->service, j, yd_stream_notify, s, &s->sub, err)) {
        yd_free(s);
        return NULL;
    }
    s->cursor = cursor;
    s->live_from = yd_events_last_id(yd_job_events(j));
    s->inlined = yd_stream_asked(r, "inline", 0);
    yd_stream_open(&s->base, &kind, r);
    return s;
}

void yd_handle_events(yd_request *r)
{
    yd_err err = {0};
    yd_job *j;
    uint64_t cursor;
    int rc = yd_service_find(r->service, r->owner, r->match.param, &j, &err);
    if (!rc) rc = yd_stream_cursor(r, &cursor, &err);
    const yd_event_log *log = rc ? NULL : yd_job_events(j);
    if (!rc && cursor > yd_events_last_id(log) && !yd_service_id_may_follow(r->service, j, cursor))
        rc = yd_fail_field(&err, YD_E_INVALID, "Last-Event-ID", "an id of this stream",
                           "the job has had no event of this id");
    if (!rc && cursor && yd_events_ended(log) && cursor == yd_events_last_id(log)) {
        yd_respond_empty(r, 204); // an EventSource stops coming back
        return;
    }
    stream *s = rc ? NULL : open_stream(r, j, cursor, &err);
    if (s)
        yd_stream_answer(&s->base);
    else
        yd_respond_problem(r, &err);
}
