// What event streams have in common: the text on its way, heartbeats, the end. Of what they tell they know nothing.
#ifndef YD_API_STREAM_H
#define YD_API_STREAM_H

#include "api/event_stream.h"
#include "api/request.h"
#include "daemon/text.h"

#define YD_STREAM_JOBS 64 // that a stream, or a token for one, may name

typedef struct yd_stream yd_stream;

typedef struct yd_stream_kind {
    int (*next)(yd_stream *s);         // have the next thing said; 0: there is nothing
    int (*over)(const yd_stream *s);   // nothing will follow
    void (*let_go)(yd_stream *s);      // its request ends
    void (*release)(yd_stream *s);     // free it, and what it holds besides
} yd_stream_kind;

struct yd_stream { // first in a larger struct
    const yd_stream_kind *kind;
    yd_link in_api;
    yd_request *r; // NULL once the request ended
    struct MHD_Response *resp; // with headers that are still to be forgotten; NULL afterwards
    int lines;     // JSON lines instead of server-sent events
    int greeted, beat, ending;
    int failed; // out of memory: nothing follows, the client comes back for the rest
    char *out;  // text on its way
    size_t out_len, out_pos;
    int64_t taken_us; // when the socket last took something
    yd_blob *picture, *mask; // being encoded, after the text on its way
    size_t picture_pos;
};

// Fill the fields of a zeroed stream, and answer its request with it. Without memory it is released.
void yd_stream_open(yd_stream *s, const yd_stream_kind *kind, yd_request *r);
void yd_stream_answer(yd_stream *s);
void yd_stream_notify(void *stream); // there may be something to say

// Does the request ask for something by ?name or ?name=1? `otherwise` when it says nothing of it.
int yd_stream_asked(const yd_request *r, const char *name, int otherwise);
// Last-Event-ID, from the header or the query; 0 when there is none. YD_E_INVALID.
int yd_stream_cursor(const yd_request *r, uint64_t *cursor, yd_err *err);
int yd_stream_cursor_parse(const char *text, uint64_t *cursor, yd_err *err); // of its text, NULL: none

// Saying an event of a job: the names of the job in front of its data (NULL: not), its pictures behind where they are given.
void yd_stream_tell(yd_stream *s, uint64_t id, const char *name, const char *job, const char *data, yd_blob *picture, yd_blob *mask);

// Saying something else: the text of an event stands between begin and end.
void yd_stream_say(yd_stream *s, yd_text *t); // takes the text
void yd_stream_begin(const yd_stream *s, yd_text *t, uint64_t id, const char *name);
void yd_stream_end(const yd_stream *s, yd_text *t);

#endif
