// GET /v1/jobs/{id}/events: the event log of a job as server-sent events or as JSON lines.
//
// DESIGN
//   A stream is a cursor into the log, and libmicrohttpd pulls: whenever the socket takes more, read_more() is asked. It hands out what
//   is pending, then the next event, then a heartbeat if one is due; with nothing to say it suspends the connection, and the log's
//   notification, the heartbeat or the end of the server resumes it. So a slow reader holds one piece of text and a number: previews that
//   were replaced meanwhile are simply never seen, and the engine waits for nobody.
//
//       retry --> [gap] event event ... (suspended) ... event --> final event --> end
//                                            \draining, job deleted: end after what is there; the client comes back with its last id
//
//   Inline pictures are encoded to base64 piece by piece, a stream never holds more than PIECE_BYTES of text beyond one event.
//   The heartbeat is one timer for all streams: each resume walks libmicrohttpd's list of suspended connections, ten thousand timers
//   would walk it at ten thousand moments. It also cuts streams whose socket has taken nothing for send_timeout_ms.
// Threads: the loop's. Invariants: ids sent increase strictly; a stream is on api->streams until its request ends (drop), its memory
// lives until libmicrohttpd releases the response.
// Read next: daemon/events.h.
#include "api/event_stream.h"

#include "core/base64.h"
#include "api/handlers.h"
#include "api/respond.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES                                                                                                    \
    512 // libmicrohttpd's buffer per stream, used for HTTP/1.0; chunks are made in the connection's memory
#define PIECE_BYTES 12288 // of a picture, encoded at a time; a multiple of 3
#define RETRY_MS    2000  // when a browser shall come back

typedef struct stream {
    yd_link in_api;
    yd_request *r; // NULL once the request ended
    yd_subscription *sub;
    char id[64]; // the job's
    uint64_t cursor, live_from;
    int lines;   // JSON lines instead of server-sent events
    int inlined; // previews carry their picture
    int greeted, beat, ending;
    int failed; // out of memory: nothing follows, the client comes back for the rest
    char *out;  // text on its way
    size_t out_len, out_pos;
    yd_blob *picture; // being encoded after `out`
    size_t picture_pos;
    int64_t taken_us; // when the socket last took something
} stream;

// ---- making text

static void set_out(stream *s, yd_text *t)
{
    yd_free(s->out);
    s->out_pos = s->out_len = 0;
    s->out = yd_text_take(t, &s->out_len);
    if (!s->out) s->failed = 1;
}

static void begin_event(const stream *s, yd_text *t, uint64_t id, const char *name)
{
    if (s->lines)
        yd_text_printf(t, "{\"id\":%" PRIu64 ",\"event\":\"%s\",\"data\":", id, name);
    else
        yd_text_printf(t, "id: %" PRIu64 "\nevent: %s\ndata: ", id, name);
}

static void end_event(const stream *s, yd_text *t)
{
    yd_text_printf(t, s->lines ? "}\n" : "\n\n");
}

// What was trimmed is made up for by the job as it is now.
static void say_gap(stream *s, uint64_t id)
{
    yd_job *j;
    json_t *job = NULL;
    if (!yd_service_find(s->r->service, s->r->owner, s->id, &j, NULL)) job = yd_service_job_json(s->r->service, j);
    char *snapshot = yd_text_json(job, NULL);
    yd_text t = {0};
    begin_event(s, &t, id, "gap");
    yd_text_printf(&t, "{\"after\":%" PRIu64 ",\"job\":%s}", s->cursor, snapshot ? snapshot : "null");
    end_event(s, &t);
    yd_free(snapshot);
    set_out(s, &t);
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
        yd_metrics_sse_dropped(yd_service_metrics(s->r->service), e->id - s->cursor - 1);
    yd_text t = {0};
    begin_event(s, &t, e->id, yd_event_name(e->type));
    if (s->inlined && e->blob) {
        open_picture(&t, e);
        s->picture = yd_blob_ref(e->blob);
        s->picture_pos = 0;
    } else {
        yd_text_add(&t, e->data, strlen(e->data));
        end_event(s, &t);
    }
    set_out(s, &t);
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
        end_event(s, &t);
        yd_blob_unref(s->picture);
        s->picture = NULL;
    }
    set_out(s, &t);
}

static void say_word(stream *s, const char *word)
{
    yd_text t = {0};
    yd_text_add(&t, word, strlen(word));
    set_out(s, &t);
}

// Put the next thing to say into s->out. 0: there is nothing.
static int next_piece(stream *s)
{
    if (s->failed) return 0;
    if (s->picture) {
        say_picture(s);
        return 1;
    }
    if (!s->greeted && !s->lines) {
        yd_text t = {0};
        yd_text_printf(&t, "retry: %d\n\n", RETRY_MS);
        set_out(s, &t);
        s->greeted = 1;
        return 1;
    }
    int gap = 0;
    const yd_event *e = yd_events_next(yd_subscription_log(s->sub), s->cursor, &gap);
    if (e && gap && e->id > s->cursor + 1) {
        say_gap(s, e->id - 1);
        return 1;
    }
    if (e)
        say_event(s, e);
    else if (s->beat)
        say_word(s, s->lines ? "\n" : ":\n\n");
    else
        return 0;
    s->beat = 0;
    return 1;
}

// ---- being read

static int is_over(const stream *s)
{
    const yd_event_log *log = yd_subscription_log(s->sub);
    return s->failed || s->ending || yd_events_ended(log) || yd_events_closed(log);
}

static void drop(yd_request *r);

static ssize_t read_more(void *cls, uint64_t pos, char *buf, size_t max)
{
    stream *s = cls;
    if (!s->r) return MHD_CONTENT_READER_END_WITH_ERROR; // the client is gone
    size_t n = 0;
    while (n < max && (s->out_pos < s->out_len || next_piece(s)) && s->out) {
        const size_t left = s->out_len - s->out_pos, k = left < max - n ? left : max - n;
        memcpy(buf + n, s->out + s->out_pos, k);
        s->out_pos += k;
        n += k;
    }
    s->r->sent_bytes = pos + n;
    s->taken_us = yd_mono_us();
    if (n) return (ssize_t)n;
    if (is_over(s)) return MHD_CONTENT_READER_END_OF_STREAM;
    yd_free(s->out);
    s->out = NULL;
    s->out_len = s->out_pos = 0;
    yd_request_wait(s->r, NULL, drop, s);
    return 0;
}

static void on_event(void *arg)
{
    const stream *s = arg;
    if (s->r) yd_request_wake(s->r);
}

// The request is over: let go of the job. The stream itself belongs to the response.
static void drop(yd_request *r)
{
    stream *s = r->wait;
    yd_metrics_sse_clients(yd_service_metrics(r->service), -1);
    yd_events_unsubscribe(s->sub);
    s->sub = NULL;
    s->r = NULL;
    yd_link_remove(&s->in_api);
}

static void free_stream(void *cls)
{
    stream *s = cls;
    yd_blob_unref(s->picture);
    yd_free(s->out);
    yd_free(s);
}

// ---- all streams

void yd_streams_heartbeat(yd_api *api)
{
    const int64_t now = yd_mono_us();
    for (yd_link *l = api->streams.next; l != &api->streams; l = l->next) {
        stream *s = YD_CONTAINER(l, stream, in_api);
        if (s->r->suspended) {
            s->beat = 1;
            yd_request_wake(s->r);
        } else if (now - s->taken_us > api->cfg->send_timeout_ms * 1000) {
            yd_conn_cut(s->r->conn);
        }
    }
}

void yd_streams_end_all(yd_api *api)
{
    for (yd_link *l = api->streams.next; l != &api->streams; l = l->next) {
        stream *s = YD_CONTAINER(l, stream, in_api);
        s->ending = 1;
        yd_request_wake(s->r);
    }
}

// ---- opening one

static int read_cursor(const yd_request *r, uint64_t *cursor, yd_err *err)
{
    const char *text = yd_request_header(r, "Last-Event-ID");
    if (!text || !*text) text = yd_request_arg(r, "last_event_id");
    *cursor = 0;
    if (!text || !*text) return 0;
    char *end = NULL;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno)
        return yd_fail_field(err, YD_E_INVALID, "Last-Event-ID", "an id of this stream", "this is no event id");
    *cursor = v;
    return 0;
}

static stream *open_stream(yd_request *r, yd_job *j, uint64_t cursor, yd_err *err)
{
    stream *s = yd_calloc(1, sizeof *s);
    if (!s) {
        yd_fail(err, YD_E_NOMEM, "no memory for an event stream");
        return NULL;
    }
    if (yd_service_subscribe(r->service, j, on_event, s, &s->sub, err)) {
        yd_free(s);
        return NULL;
    }
    const char *inlined = yd_request_arg(r, "inline");
    memcpy(s->id, r->match.param, sizeof s->id);
    s->r = r;
    s->cursor = cursor;
    s->live_from = yd_events_last_id(yd_job_events(j));
    s->lines = yd_request_prefers(r, "application/x-ndjson", "text/event-stream");
    s->inlined = inlined && strcmp(inlined, "0") && strcmp(inlined, "false");
    s->ending = r->api->draining;
    s->taken_us = yd_mono_us();
    yd_list_append(&r->api->streams, &s->in_api);
    yd_metrics_sse_clients(yd_service_metrics(r->service), 1);
    r->drop = drop;
    r->wait = s;
    return s;
}

static void answer_stream(yd_request *r, stream *s)
{
    struct MHD_Response *resp =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_more, s, free_stream);
    if (!resp) {
        drop(r);
        r->drop = NULL;
        free_stream(s);
    } else {
        yd_header(resp, "Content-Type", s->lines ? "application/x-ndjson" : "text/event-stream; charset=utf-8");
        yd_header(resp, "Cache-Control", "no-store");
        yd_header(resp, "X-Accel-Buffering", "no");
        yd_header(resp, "Vary", "Accept");
    }
    yd_respond(r, 200, resp, YD_UNKNOWN_SIZE);
}

void yd_handle_events(yd_request *r)
{
    yd_err err = {0};
    yd_job *j;
    uint64_t cursor;
    int rc = yd_service_find(r->service, r->owner, r->match.param, &j, &err);
    if (!rc) rc = read_cursor(r, &cursor, &err);
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
        answer_stream(r, s);
    else
        yd_respond_problem(r, &err);
}
