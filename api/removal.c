// Answering a DELETE: see removal.h.
#include "api/removal.h"

#include "api/respond.h"
#include "core/mem.h"

typedef struct removal {
    yd_request *r; // NULL: gone
    int done, rc;
    yd_err err;
} removal;

static void on_removed(void *arg, int rc, const yd_err *err)
{
    removal *w = arg;
    w->done = 1;
    w->rc = rc;
    if (rc) w->err = *err;
    if (w->r)
        yd_request_wake(w->r);
    else
        yd_free(w);
}

static void drop(yd_request *r)
{
    removal *w = r->wait;
    w->r = NULL;
    if (w->done) yd_free(w);
}

static void wake(yd_request *r)
{
    const removal *w = r->wait;
    if (w->rc)
        yd_respond_problem(r, &w->err);
    else
        yd_respond_empty(r, 204);
}

void yd_removal_answer(yd_request *r, yd_removal_start *start, void *what)
{
    yd_err err = {0};
    removal *w = yd_calloc(1, sizeof *w);
    int rc = w ? 0 : yd_fail(&err, YD_E_NOMEM, "no memory to delete anything");
    if (w) {
        w->r = r;
        rc = start(r->service, what, on_removed, w, &err);
    }
    if (!rc) {
        yd_request_wait(r, wake, drop, w);
        return;
    }
    yd_free(w);
    if (rc == YD_E_GONE)
        yd_respond_empty(r, 204);
    else
        yd_respond_problem(r, &err);
}
