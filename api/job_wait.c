// Waiting for the end of a job: long polls and POST /v1/upscale.
//
// DESIGN
//   The request is suspended; a subscription to the job's event log and, with a limit, a timer wake it. Neither answers by itself: the
//   answer is made in the resumed request, from the job as it is then. Everything is released in drop(), which request.c calls exactly
//   once: after the answer, when the client is gone (then the job goes too, if asked), or when the server stops (then jobs stay).
//   The timer's handle outlives the wait until the loop has closed it, therefore it is an allocation of its own.
// Threads: the loop's.
#include "api/job_wait.h"

#include "api/respond.h"
#include "core/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_PREFER_S (24 * 3600LL)

struct yd_wait_timer {
    uv_timer_t uv;
    yd_request *r; // NULL once let go
};

static void timer_closed(uv_handle_t *h)
{
    yd_free(h->data);
}

static void on_time(uv_timer_t *t)
{
    const yd_wait_timer *timer = t->data;
    if (timer->r) yd_request_wake(timer->r);
}

yd_wait_timer *yd_wait_timer_start(yd_request *r, int64_t ms)
{
    yd_wait_timer *t = yd_calloc(1, sizeof *t);
    if (!t) return NULL;
    uv_timer_init(r->api->loop, &t->uv);
    uv_update_time(r->api->loop);
    t->uv.data = t;
    t->r = r;
    uv_timer_start(&t->uv, on_time, (uint64_t)ms, 0);
    return t;
}

void yd_wait_timer_stop(yd_wait_timer *t)
{
    if (!t) return;
    t->r = NULL;
    uv_close((uv_handle_t *)&t->uv, timer_closed);
}

static void on_event(void *arg)
{
    const yd_job_wait *w = arg;
    const yd_event_log *log = yd_subscription_log(w->sub);
    if (yd_events_ended(log) || yd_events_closed(log)) yd_request_wake(w->r);
}

static void cancel_job(const yd_job_wait *w)
{
    yd_job *j;
    if (!yd_service_find(w->r->service, w->r->owner, w->id, &j, NULL)) (void)yd_service_cancel(w->r->service, j, NULL);
}

static void let_go(yd_job_wait *w)
{
    yd_events_unsubscribe(w->sub);
    yd_wait_timer_stop(w->timer);
    yd_free(w);
}

static void drop(yd_request *r)
{
    yd_job_wait *w = r->wait;
    if (w->cancel_if_gone && !r->answered && !r->api->stopping) cancel_job(w);
    let_go(w);
}

static void wake_chained(yd_request *r)
{
    yd_job_wait *w = r->wait;
    void (*then)(yd_request *, yd_job *) = w->then;
    yd_job *j;
    if (yd_service_find(r->service, r->owner, w->id, &j, NULL)) j = NULL;
    r->drop = NULL; // what follows may wait for something else
    r->wait = NULL;
    let_go(w);
    then(r, j);
}

static void wake(yd_request *r)
{
    const yd_job_wait *w = r->wait;
    yd_err err = {0};
    yd_job *j;
    if (yd_service_find(r->service, r->owner, w->id, &j, &err))
        yd_respond_problem(r, &err);
    else
        w->then(r, j);
}

int yd_job_wait_start(yd_request *r, yd_job *j, int64_t ms, int cancel_if_gone, void (*then)(yd_request *, yd_job *),
                      yd_err *err)
{
    yd_job_wait *w = yd_calloc(1, sizeof *w);
    if (!w) return yd_fail(err, YD_E_NOMEM, "no memory to wait for a job");
    w->r = r;
    w->then = then;
    w->cancel_if_gone = cancel_if_gone;
    snprintf(w->id, sizeof w->id, "%s", yd_job_id(j));
    int rc = yd_events_subscribe(yd_job_events(j), 0, on_event, w, &w->sub, err);
    if (!rc && ms >= 0 && !(w->timer = yd_wait_timer_start(r, ms)))
        rc = yd_fail(err, YD_E_NOMEM, "no memory to wait for a job");
    if (rc) {
        yd_events_unsubscribe(w->sub);
        yd_free(w);
        return rc;
    }
    yd_request_wait(r, wake, drop, w);
    return 0;
}

int yd_job_wait_chained(yd_request *r, yd_job *j, int64_t ms, void (*then)(yd_request *, yd_job *), yd_err *err)
{
    const int rc = yd_job_wait_start(r, j, ms, 0, then, err);
    if (!rc) r->wake = wake_chained;
    return rc;
}

int64_t yd_prefer_parse(const char *prefer)
{
    const char *wait = prefer ? strcasestr(prefer, "wait=") : NULL;
    if (!wait) return prefer && strcasestr(prefer, "respond-async") ? 0 : -1;
    char *end = NULL;
    const long long s = strtoll(wait + 5, &end, 10);
    if (end == wait + 5 || s < 0) return -1;
    return (s < MAX_PREFER_S ? s : MAX_PREFER_S) * 1000;
}

int64_t yd_prefer_wait_ms(const yd_request *r)
{
    return yd_prefer_parse(yd_request_header(r, "Prefer"));
}
