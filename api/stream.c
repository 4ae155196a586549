// Streams of events, as server-sent events or as JSON lines.
//
// DESIGN
//   libmicrohttpd pulls: whenever the socket takes more, read_more() is asked. It hands out what is pending, then the next thing to say, then
//   a heartbeat if one is due; with nothing to say it suspends the connection, and a notification, the heartbeat or the end of the server
//   resumes it. So a slow reader holds one piece of text, and the engine waits for nobody.
//   Inline pictures are encoded to base64 piece by piece, a stream never holds more than PIECE_BYTES of text beyond one event.
//   The heartbeat is one timer for all streams: each resume walks libmicrohttpd's list of suspended connections, ten thousand timers
//   would walk it at ten thousand moments. It also cuts streams whose socket has taken nothing for send_timeout_ms.
// Threads: the loop's. Invariants: a stream is on api->streams until its request ends (drop), its memory lives until libmicrohttpd
// releases the response. Read next: event_stream.c, feed_stream.c
#include "api/stream.h"

#include "api/respond.h"
#include "core/base64.h"
#include "core/keys.h"
#include "core/mem.h"
#include "daemon/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 128 // libmicrohttpd's buffer per stream, used for HTTP/1.0; chunks are made in the connection's memory
#define PIECE_BYTES 12288 // of a picture, encoded at a time; a multiple of 3
#define RETRY_MS 2000 // when a browser shall come back

// ---- making text

void yd_stream_say(yd_stream *s, yd_text *t)
{
    yd_free(s->out);
    s->out_pos = s->out_len = 0;
    s->out = yd_text_take(t, &s->out_len);
    if (!s->out) s->failed = 1;
}

void yd_stream_begin(const yd_stream *s, yd_text *t, uint64_t id, const char *name)
{
    if (s->lines)
        yd_text_printf(t, "{\"id\":%" PRIu64 ",\"event\":\"%s\",\"data\":", id, name);
    else
        yd_text_printf(t, "id: %" PRIu64 "\nevent: %s\ndata: ", id, name);
}

void yd_stream_end(const yd_stream *s, yd_text *t)
{
    yd_text_printf(t, s->lines ? "}\n" : "\n\n");
}

static void open_picture(yd_stream *s, yd_text *t, const char *member)
{
    yd_text_printf(t, "\"%s\":{\"mime\":\"%s\",\"base64\":\"", member, s->picture->mime);
    s->picture_pos = 0;
}

// {"step":1} becomes {"job":"ID","step":1,"image":{"mime":"image/jpeg","base64":"  and the picture follows.
void yd_stream_tell(yd_stream *s, uint64_t id, const char *name, const char *job, const char *data, yd_blob *picture, yd_blob *mask)
{
    yd_text t = {0};
    const size_t n = strlen(data);
    const int empty = n <= 2;
    yd_stream_begin(s, &t, id, name);
    if (job)
        yd_text_printf(&t, "{\"job\":\"%s\"%s", job, empty ? "" : ",");
    else
        yd_text_printf(&t, "{");
    if (n) yd_text_add(&t, data + 1, n - 1 - (picture != NULL)); // without the braces
    if (picture) {
        s->picture = yd_blob_ref(picture);
        s->mask = yd_blob_ref(mask);
        if (job || !empty) yd_text_printf(&t, ",");
        open_picture(s, &t, "image");
    } else
        yd_stream_end(s, &t);
    yd_stream_say(s, &t);
}

static void say_picture(yd_stream *s)
{
    const size_t left = s->picture->len - s->picture_pos, n = left < PIECE_BYTES ? left : PIECE_BYTES;
    char text[PIECE_BYTES / 3 * 4];
    yd_text t = {0};
    yd_base64_encode(s->picture->bytes + s->picture_pos, n, text);
    s->picture_pos += n;
    yd_text_add(&t, text, yd_base64_length(n));
    if (n == left) {
        yd_blob_unref(s->picture);
        s->picture = s->mask;
        s->mask = NULL;
        yd_text_printf(&t, s->picture ? "\"}," : "\"}}");
        if (s->picture)
            open_picture(s, &t, "mask_image");
        else
            yd_stream_end(s, &t);
    }
    yd_stream_say(s, &t);
}

static void say_word(yd_stream *s, const char *word)
{
    yd_text t = {0};
    yd_text_add(&t, word, strlen(word));
    yd_stream_say(s, &t);
}

// Put the next thing to say into s->out. 0: there is nothing.
static int next_piece(yd_stream *s)
{
    if (s->failed) return 0;
    if (!s->greeted && !s->lines) {
        yd_text t = {0};
        yd_text_printf(&t, "retry: %d\n\n", RETRY_MS);
        yd_stream_say(s, &t);
        s->greeted = 1;
        return 1;
    }
    if (s->picture) {
        say_picture(s);
        return 1;
    }
    if (!s->kind->next(s)) {
        if (!s->beat) return 0;
        say_word(s, s->lines ? "\n" : ":\n\n");
    }
    s->beat = 0;
    return 1;
}

// ---- being read

static void drop(yd_request *r);

static const struct {
    const char *name, *value;
} headers[] = {{"Cache-Control", "no-store"}, {"X-Accel-Buffering", "no"}, {"Vary", "Accept"}, {"X-Content-Type-Options", "nosniff"}}; // the last is in every answer

static const char *type_of(const yd_stream *s)
{
    return s->lines ? "application/x-ndjson" : "text/event-stream; charset=utf-8";
}

// The head has been sent, or the body would not be asked for: what waits, often for long, need not keep it in memory.
static void forget_headers(yd_stream *s)
{
    if (!s->resp) return;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) (void)MHD_del_response_header(s->resp, headers[i].name, headers[i].value);
    (void)MHD_del_response_header(s->resp, "Content-Type", type_of(s));
    (void)MHD_del_response_header(s->resp, "X-Request-Id", s->r->id);
    s->resp = NULL;
}

static ssize_t read_more(void *cls, uint64_t pos, char *buf, size_t max)
{
    yd_stream *s = cls;
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
    if (s->failed || s->ending || s->kind->over(s)) return MHD_CONTENT_READER_END_OF_STREAM;
    yd_free(s->out);
    s->out = NULL;
    s->out_len = s->out_pos = 0;
    forget_headers(s);
    yd_request_wait(s->r, NULL, drop, s);
    return 0;
}

void yd_stream_notify(void *stream)
{
    const yd_stream *s = stream;
    if (s->r) yd_request_wake(s->r);
}

// The request is over: let go of what is told. The stream itself belongs to the response.
static void drop(yd_request *r)
{
    yd_stream *s = r->wait;
    yd_metrics_sse_clients(yd_service_metrics(r->service), -1);
    s->kind->let_go(s);
    s->r = NULL;
    yd_link_remove(&s->in_api);
}

static void free_stream(void *cls)
{
    yd_stream *s = cls;
    yd_free(s->out);
    yd_blob_unref(s->picture);
    yd_blob_unref(s->mask);
    s->kind->release(s);
}

// ---- all streams

void yd_streams_heartbeat(yd_api *api)
{
    const int64_t now = yd_mono_us();
    for (yd_link *l = api->streams.next; l != &api->streams; l = l->next) {
        yd_stream *s = YD_CONTAINER(l, yd_stream, in_api);
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
        yd_stream *s = YD_CONTAINER(l, yd_stream, in_api);
        s->ending = 1;
        yd_request_wake(s->r);
    }
}

// Nothing of what is there is sent any more.
void yd_streams_end_ownerless(yd_api *api)
{
    const yd_keys *keys = yd_service_keys(api->service);
    for (yd_link *l = api->streams.next; keys && l != &api->streams; l = l->next) {
        yd_stream *s = YD_CONTAINER(l, yd_stream, in_api);
        if (yd_keys_owner(keys, s->r->owner, YD_SCOPE_READ)) continue;
        s->failed = 1;
        yd_request_wake(s->r);
    }
}

// ---- opening one

int yd_stream_asked(const yd_request *r, const char *name, int otherwise)
{
    const char *value = yd_request_arg(r, name);
    return value ? strcmp(value, "0") && strcmp(value, "false") : otherwise;
}

int yd_stream_cursor(const yd_request *r, uint64_t *cursor, yd_err *err)
{
    const char *text = yd_request_header(r, "Last-Event-ID");
    if (!text || !*text) text = yd_request_arg(r, "last_event_id");
    return yd_stream_cursor_parse(text, cursor, err);
}

int yd_stream_cursor_parse(const char *text, uint64_t *cursor, yd_err *err)
{
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

void yd_stream_open(yd_stream *s, const yd_stream_kind *kind, yd_request *r)
{
    s->kind = kind;
    s->r = r;
    s->lines = yd_request_prefers(r, "application/x-ndjson", "text/event-stream");
    s->ending = r->api->draining;
    s->taken_us = yd_mono_us();
    yd_list_append(&r->api->streams, &s->in_api);
    yd_metrics_sse_clients(yd_service_metrics(r->service), 1);
    r->drop = drop;
    r->wait = s;
}

void yd_stream_answer(yd_stream *s)
{
    yd_request *r = s->r;
    struct MHD_Response *resp =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_more, s, free_stream);
    if (!resp) {
        drop(r);
        r->drop = NULL;
        free_stream(s);
    } else {
        s->resp = resp;
        yd_header(resp, "Content-Type", type_of(s));
        for (size_t i = 0; i + 1 < sizeof headers / sizeof headers[0]; i++) yd_header(resp, headers[i].name, headers[i].value);
    }
    yd_respond(r, 200, resp, YD_UNKNOWN_SIZE);
}
