// The models: what there is, and bringing them to the device and away from it.
//
// Loading and unloading take a while: the answer is 202 with the model as it is now, or, with wait=N, comes when that is over. A load that came to
// nothing is then answered with the reason. Whoever waits is woken by the service's word that a model has changed, or by a timer.
// Threads: the loop's.
#include "api/handlers.h"
#include "api/job_wait.h"
#include "api/respond.h"
#include "core/mem.h"

#include <string.h>

typedef struct model_wait {
    yd_model_watch watch;
    yd_request *r;
    struct yd_wait_timer *timer;
} model_wait;

void yd_handle_models(yd_request *r)
{
    yd_respond_json(r, 200, yd_service_models(r->service));
}

static void answer_model(yd_request *r, int status)
{
    yd_err err = {0};
    json_t *o = NULL;
    if (yd_service_model(r->service, r->match.param, &o, &err))
        yd_respond_problem(r, &err);
    else
        yd_respond_json(r, status, o);
}

void yd_handle_model_get(yd_request *r)
{
    answer_model(r, 200);
}

static void answer_outcome(yd_request *r)
{
    yd_err err = {0};
    const int settled = yd_service_model_settled(r->service, r->match.param, &err);
    if (settled < 0)
        yd_respond_problem(r, &err);
    else
        answer_model(r, settled ? 200 : 202);
}

static void on_change(void *arg)
{
    const model_wait *w = arg;
    yd_err ignored;
    if (yd_service_model_settled(w->r->service, w->r->match.param, &ignored)) yd_request_wake(w->r);
}

static void drop(yd_request *r)
{
    model_wait *w = r->wait;
    yd_service_model_unwatch(r->service, &w->watch);
    yd_wait_timer_stop(w->timer);
    yd_free(w);
}

static int wait_for_it(yd_request *r, int64_t ms, yd_err *err)
{
    model_wait *w = yd_calloc(1, sizeof *w);
    if (!w || !(w->timer = yd_wait_timer_start(r, ms))) {
        yd_free(w);
        return yd_fail(err, YD_E_NOMEM, "no memory to wait for a model");
    }
    w->r = r;
    w->watch.fn = on_change;
    w->watch.arg = w;
    yd_service_model_watch(r->service, &w->watch);
    yd_request_wait(r, answer_outcome, drop, w);
    return 0;
}

static void change(yd_request *r, int (*how)(yd_service *s, const char *name, yd_err *err))
{
    yd_err err = {0}, ignored;
    int64_t wait_s = 0;
    int rc = yd_request_arg_int(r, "wait", 0, 3600, &wait_s, &err);
    if (!rc) rc = how(r->service, r->match.param, &err);
    if (!rc && wait_s > 0 && !r->api->draining && yd_service_model_settled(r->service, r->match.param, &ignored) == 0) {
        const int64_t max = r->api->cfg->max_wait_ms;
        rc = wait_for_it(r, wait_s * 1000 < max ? wait_s * 1000 : max, &err);
        if (!rc) return;
    }
    if (rc)
        yd_respond_problem(r, &err);
    else
        answer_outcome(r);
}

void yd_handle_model_load(yd_request *r)
{
    change(r, yd_service_model_load);
}

void yd_handle_model_unload(yd_request *r)
{
    change(r, yd_service_model_unload);
}
