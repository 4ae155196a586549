// One request, from its head to the last byte of its answer.
//
// A handler gets a complete request (body included) and must, before it returns, either answer (yd_respond*) or wait
// (yd_request_wait). While it waits the connection is suspended; yd_request_wake has it called again through `wake`.
// Loop thread only. A yd_request ends when libmicrohttpd reports it completed, however that came about.
#ifndef YD_API_REQUEST_H
#define YD_API_REQUEST_H

#include "api/body.h"
#include "api/forwarded.h"
#include "api/router.h"
#include "api/server.h"

#define YD_REQUEST_ID_MAX 65

typedef struct yd_request {
    yd_link in_api;
    yd_api *api;
    yd_service *service;
    struct MHD_Connection *mhd;
    yd_conn *conn;
    yd_route_match match; // match.param: the {id} of the path
    unsigned method;
    char method_text[16], path[128]; // as sent, cut: for logs
    char id[YD_REQUEST_ID_MAX];      // X-Request-Id
    char trace[56];                  // traceparent, or ""
    const char *owner;               // whose jobs it may see
    char owner_name[64];             // where that is kept, of one with a key
    char *only;                      // ids of the jobs that its token is for, separated by commas; NULL: its owner's
    char client[YD_CLIENT_MAX];      // address it comes from: the peer's, or what a trusted proxy says
    char scheme[YD_SCHEME_MAX];      // by which it came to the first proxy, if one says so: http or https
    yd_body body;
    const yd_err *refusal; // NULL: none. Found while reading the head, answered when the (empty) body is over
    int64_t began_us;
    int repeated; // the job that it is about was there before, made by the same request
    // the answer
    int status;
    uint64_t sent_bytes;   // of the body, as far as known
    int answered, closing; // closing: the response is the connection's last
    // waiting
    int suspended;
    int64_t until_us; // for handlers that wait more than once
    int gone;         // the client vanished, or the server stops: no answer is needed any more
    void (*wake)(struct yd_request *r);
    void (*drop)(struct yd_request *r); // called once, when the request ends or its client is gone: release `wait`
    void *wait;
} yd_request;

// Suspend. `wake` runs after yd_request_wake, to answer or to wait on; `drop` as above. Both stay set until changed.
void yd_request_wait(yd_request *r, void (*wake)(yd_request *r), void (*drop)(yd_request *r), void *wait);
// Let go of what it waited for, before it waits for something else.
void yd_request_release(yd_request *r);
// Resume a waiting request in the loop's next turn. Harmless when it is not waiting.
void yd_request_wake(yd_request *r);

// A header or query argument; NULL when absent (an argument without "=" is ""). Valid as long as r.
const char *yd_request_header(const yd_request *r, const char *name);
const char *yd_request_arg(const yd_request *r, const char *name);
// An integer argument in [lo, hi]; absent leaves *out. YD_E_SETTING naming it.
int yd_request_arg_int(const yd_request *r, const char *name, int64_t lo, int64_t hi, int64_t *out, yd_err *err);
// Texts of a client that are taken over as they are: a traceparent (W3C Trace Context; ids of zeros are none), an X-Request-Id. NULL is neither.
int yd_trace_is_plain(const char *s);
int yd_request_id_is_plain(const char *s);
// Does the Accept header name this media type before (or without) the other one?
int yd_request_prefers(const yd_request *r, const char *type, const char *other);

// For server.c
enum MHD_Result yd_request_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **context);
void yd_request_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why);
void yd_requests_end_all(yd_api *api);

#endif
