// Suspend a request until a job has ended.
#ifndef YD_API_JOB_WAIT_H
#define YD_API_JOB_WAIT_H

#include "api/request.h"

#define YD_JOB_ID_TEXT 64

// Wakes a request after so long. A handle of its own: it outlives the wait until the loop has closed it. NULL: out of memory; stopping NULL is fine.
typedef struct yd_wait_timer yd_wait_timer;
yd_wait_timer *yd_wait_timer_start(yd_request *r, int64_t ms);
void yd_wait_timer_stop(yd_wait_timer *t);

typedef struct yd_job_wait {
    yd_request *r;
    yd_subscription *sub;
    struct yd_wait_timer *timer; // NULL when there is no limit
    void (*then)(yd_request *r, yd_job *j);
    char id[YD_JOB_ID_TEXT];
    int cancel_if_gone;
} yd_job_wait;

// Wait until `j` is final or `ms` have passed (negative: no limit), then find it again and call `then` with it; when it is gone by then
// the request is answered with that. cancel_if_gone: a client that leaves before an answer takes its job along. YD_E_NOMEM: not waiting.
int yd_job_wait_start(yd_request *r, yd_job *j, int64_t ms, int cancel_if_gone, void (*then)(yd_request *r, yd_job *j),
                      yd_err *err);

// The same for requests that wait for one job after the other: `then` may wait again, and is called with NULL when the job is not there any
// more.
int yd_job_wait_chained(yd_request *r, yd_job *j, int64_t ms, void (*then)(yd_request *r, yd_job *j), yd_err *err);

// N of "Prefer: wait=N" in milliseconds, at most a day's; 0 for "respond-async" without it (RFC 7240); -1 when neither can be read, or prefer is NULL.
int64_t yd_prefer_parse(const char *prefer);
int64_t yd_prefer_wait_ms(const yd_request *r);

#endif
