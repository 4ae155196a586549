// GET /v1/jobs/{id}/events: the event log of a job.
//
// DESIGN
//   A stream is a cursor into the log: previews that were replaced meanwhile are simply never seen.
//
//       retry --> [gap] event event ... (suspended) ... event --> final event --> end
//                                            \draining, job deleted: end after what is there; the client comes back with its last id
//
//   Inline pictures are encoded to base64 piece by piece, a stream never holds more than PIECE_BYTES of text beyond one event.
// Threads: the loop's. Invariant: ids sent increase strictly. Read next: stream.c, daemon/events.h.
#include "core/base64.h"
#include "api/handlers.h"
#include "api/respond.h"
#include "api/stream.h"
#include "core/mem.h"

#include <inttypes.h>
#include <string.h>

#define PIECE_BYTES 12288 // of a picture, encoded at a time; a multiple of 3

typedef struct stream {
    yd_stream base;
    yd_subscription *sub;
    char id[64]; // the job's
    uint64_t cursor, live_from;
    int inlined;      // previews carry their picture
    yd_blob *picture; // being encoded after the text on its way
    size_t picture_pos;
} stream;

// What was trimmed is made up for by the job as it is now.
static void say_gap(stream *s, uint64_t id)
{
    yd_job *j;
    json_t *job = NULL;
    if (!yd_service_find(s->base.r->service, s->base.r->owner, s->id, &j, NULL)) job = yd_service_job_json(s->base.r->service, j);
    char *snapshot = yd_text_json(job, NULL);
    yd_text t = {0};
    yd_stream_begin(&s->base, &t, id, "gap");
    yd_text_printf(&t, "{\"after\":%" PRIu64 ",\"job\":%s}", s->cursor, snapshot ? snapshot : "null");
    yd_stream_end(&s->base, &t);
    yd_free(snapshot);
    yd_stream_say(&s->base, &t);
    s->cursor = id;
}

// {"step":1} becomes {"step":1,"image":{"mime":"image/jpeg","base64":"  and the picture follows.
static void open_picture(yd_text *t, const yd_event *e)
{
    const size_t n = strlen(e->data);
    yd_text_add(t, e->data, n ? n - 1 : 0); // without the brace
    yd_text_printf(t, "%s\"image\":{\"mime\":\"%s\",\"base64\":\"", n > 2 ? "," : "", e->blob->mime);
}

static void say_event(stream *s, const yd_event *e)
{
    if (s->cursor >= s->live_from && e->id > s->cursor + 1)
        yd_metrics_sse_dropped(yd_service_metrics(s->base.r->service), e->id - s->cursor - 1);
    yd_text t = {0};
    yd_stream_begin(&s->base, &t, e->id, yd_event_name(e->type));
    if (s->inlined && e->blob) {
        open_picture(&t, e);
        s->picture = yd_blob_ref(e->blob);
        s->picture_pos = 0;
    } else {
        yd_text_add(&t, e->data, strlen(e->data));
        yd_stream_end(&s->base, &t);
    }
    yd_stream_say(&s->base, &t);
    s->cursor = e->id;
}

static void say_picture(stream *s)
{
    const size_t left = s->picture->len - s->picture_pos;
    const size_t n = left < PIECE_BYTES ? left : PIECE_BYTES;
    char text[PIECE_BYTES / 3 * 4];
    yd_base64_encode(s->picture->bytes + s->picture_pos, n, text);
    s->picture_pos += n;
    yd_text t = {0};
    yd_text_add(&t, text, yd_base64_length(n));
    if (n == left) {
        yd_text_printf(&t, "\"}}");
        yd_stream_end(&s->base, &t);
        yd_blob_unref(s->picture);
        s->picture = NULL;
    }
    yd_stream_say(&s->base, &t);
}

static int next(yd_stream *base)
{
    stream *s = (stream *)base;
    if (s->picture) {
        say_picture(s);
        return 1;
    }
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
    yd_blob_unref(((stream *)base)->picture);
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
    const char *inlined = yd_request_arg(r, "inline");
    memcpy(s->id, r->match.param, sizeof s->id);
    s->cursor = cursor;
    s->live_from = yd_events_last_id(yd_job_events(j));
    s->inlined = inlined && strcmp(inlined, "0") && strcmp(inlined, "false");
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
    if (!rc && cursor > yd_events_last_id(log))
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
