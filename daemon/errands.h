// What a job has to do with other servers: where its picture is fetched from, where its result is put, who is told of its end.
//
// Kept as one line of JSON in a blob that is never changed, only replaced: records are copied often, and few have errands.
//   {"input":{"url"}, "result":{"url","headers":{},"state","attempts","problem"}, "webhook":{"url","state","attempts","problem"}}
// state: "waiting" (its turn comes when the job has ended), then "delivered" or "failed". URLs are often secrets (presigned): they are kept
// for as long as they are needed and never shown; clients see hosts. Pure functions, any thread.
#ifndef YD_DAEMON_ERRANDS_H
#define YD_DAEMON_ERRANDS_H

#include "daemon/blob.h"
#include "daemon/outgoing.h"
#include "daemon/service.h"
#include <jansson.h>

#define YD_ERRAND_HEADERS 8

// Read what a client asked for: an object with any of "input", "result" and "webhook" (docs of the API), or NULL. *out: NULL when there is
// nothing. YD_E_SETTING naming the member, YD_E_NOMEM.
int yd_errands_make(const yd_config *cfg, const json_t *asked, yd_blob **out, yd_err *err);

// What is left to be delivered of a job that has ended so.
int yd_errands_due(const yd_blob *errands, yd_job_state state);

typedef struct yd_errand {
    yd_out_kind kind;
    char *url;                        // yd_malloc'ed
    char *headers[YD_ERRAND_HEADERS]; // "Name: value", yd_malloc'ed
    size_t n_headers;
    int attempts; // that have failed
} yd_errand;

// What its input is fetched from: 1; 0 when it is not, or not any more; YD_E_NOMEM. Clear it afterwards.
int yd_errands_input(const yd_blob *errands, yd_errand *out);
// What is to be delivered next: 1 and *out; 0: nothing; YD_E_NOMEM. Clear it afterwards.
int yd_errands_next(const yd_blob *errands, yd_job_state state, yd_errand *out);
void yd_errand_clear(yd_errand *e);

// The same errands after an attempt. problem: NULL when it was delivered. last: it is given up. A delivered or given up URL is forgotten.
// NULL: out of memory.
yd_blob *yd_errands_note(const yd_blob *errands, yd_out_kind kind, const char *problem, int last);

// What clients see: {"input":{"host"}, "result":{"host","state","attempts"[,"problem"]}, "webhook":{...}}. A new reference, NULL: nothing.
json_t *yd_errands_public(const yd_blob *errands);

#endif
