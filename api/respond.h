// Answers. Each call queues exactly one response; the request must not be answered again.
#ifndef YD_API_RESPOND_H
#define YD_API_RESPOND_H

#include "api/request.h"
#include <jansson.h>

#define YD_UNKNOWN_SIZE UINT64_MAX

// Queue `resp` (consumed; NULL is answered as out of memory). bytes: size of its body, YD_UNKNOWN_SIZE for streams. Adds the headers
// that every response has.
void yd_respond(yd_request *r, int status, struct MHD_Response *resp, uint64_t bytes);

// A problem document (RFC 9457) for err.
void yd_respond_problem(yd_request *r, const yd_err *err);
// The same with members of the caller's (consumed; NULL is fine), e.g. the job it is about.
void yd_respond_problem_with(yd_request *r, const yd_err *err, json_t *more);

// A line of JSON text, release with yd_free. Consumes body. NULL: it is NULL, or out of memory.
char *yd_json_line(json_t *body, size_t *len);
// JSON (consumed; NULL is answered as out of memory), never cached unless headers say so.
void yd_respond_json(yd_request *r, int status, json_t *body);
// JSON with a Location header.
void yd_respond_created(yd_request *r, int status, json_t *body, const char *location);
// No body.
void yd_respond_empty(yd_request *r, int status);
// Static or heap text. free_text: 1 releases it with yd_free when sent.
void yd_respond_text(yd_request *r, int status, const char *type, char *text, size_t len, int free_text);

// A response over a part of a blob (one reference consumed). NULL: out of memory, the reference is released.
struct MHD_Response *yd_blob_response(yd_blob *b, size_t first, size_t n);
void yd_header(struct MHD_Response *resp, const char *name, const char *value);

#endif
