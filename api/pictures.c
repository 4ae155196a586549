// Pictures of a job under way: the latest preview, the attention map, the mask of a step; of one that has succeeded what it invented.
// They are encoded in the service's pool; the request is suspended meanwhile, and a client that leaves calls the encoding off.
#include "api/accept.h"
#include "api/handlers.h"
#include "api/respond.h"
#include "core/mem.h"

#include <string.h>

typedef struct picture_wait {
    yd_request *r;
    yd_picture_call *call; // NULL once it was answered
    yd_blob *blob;
    yd_err err;
} picture_wait;

static void on_picture(void *arg, int rc, yd_blob *blob, const yd_err *err)
{
    picture_wait *w = arg;
    w->call = NULL;
    w->blob = blob;
    if (rc) w->err = *err;
    yd_request_wake(w->r);
}

static void drop(yd_request *r)
{
    picture_wait *w = r->wait;
    if (w->call) yd_picture_cancel(w->call);
    yd_blob_unref(w->blob);
    yd_free(w);
}

static void wake(yd_request *r)
{
    picture_wait *w = r->wait;
    if (!w->blob) {
        yd_respond_problem(r, &w->err);
        return;
    }
    const size_t n = w->blob->len;
    struct MHD_Response *resp = yd_blob_response(w->blob, 0, n);
    w->blob = NULL;
    if (resp) yd_header(resp, "Cache-Control", "no-store");
    if (resp) yd_header(resp, "Vary", "Accept");
    yd_respond(r, 200, resp, n);
}

static int ask(yd_request *r, const yd_picture_want *want, yd_err *err)
{
    yd_job *j;
    int rc = yd_service_find(r->service, r->owner, r->match.param, &j, err);
    if (rc) return rc;
    picture_wait *w = yd_calloc(1, sizeof *w);
    if (!w) return yd_fail(err, YD_E_NOMEM, "no memory to wait for a picture");
    w->r = r;
    rc = yd_service_picture(r->service, j, want, on_picture, w, &w->call, err);
    if (rc) {
        yd_free(w);
        return rc;
    }
    yd_request_wait(r, wake, drop, w);
    return 0;
}

static void answer(yd_request *r, yd_picture_want *want)
{
    yd_err err = {0};
    if (yd_accept_picture(r, YD_PNG, &want->format, &err) || ask(r, want, &err)) yd_respond_problem(r, &err);
}

void yd_handle_preview(yd_request *r)
{
    yd_err err = {0};
    int64_t max_side = 0;
    if (yd_request_arg_int(r, "max_side", 16, 8192, &max_side, &err)) {
        yd_respond_problem(r, &err);
        return;
    }
    answer(r, &(yd_picture_want){.kind = YD_PICTURE_PREVIEW, .max_side = (int)max_side});
}

void yd_handle_attention(yd_request *r)
{
    answer(r, &(yd_picture_want){.kind = YD_PICTURE_ATTENTION});
}

void yd_handle_invented(yd_request *r)
{
    answer(r, &(yd_picture_want){.kind = YD_PICTURE_INVENTED});
}

void yd_handle_mask(yd_request *r)
{
    yd_err err = {0};
    int64_t step = 0;
    if (!yd_request_arg(r, "step"))
        yd_fail_field(&err, YD_E_SETTING, "step", "1..the job's steps", "the mask of which step?");
    else
        (void)yd_request_arg_int(r, "step", 1, 100000, &step, &err);
    if (err.code)
        yd_respond_problem(r, &err);
    else
        answer(r, &(yd_picture_want){.kind = YD_PICTURE_MASK, .step = (int)step});
}
