// One job: look at it (or wait for its end), cancel it, delete it.
#include "api/handlers.h"
#include "api/job_wait.h"
#include "api/range.h"
#include "api/removal.h"
#include "api/respond.h"
#include "core/mem.h"
#include "core/sha256.h"

#include <stdio.h>
#include <string.h>

// The job with a weak tag over its text: a poller that sends it back gets 304 while nothing has changed.
static void answer_job(yd_request *r, yd_job *j)
{
    size_t len;
    char digest[65], etag[24];
    char *text = yd_json_line(yd_service_job_json(r->service, j), &len);
    if (!text) {
        yd_respond(r, 503, NULL, 0);
        return;
    }
    yd_sha256_hex(text, len, digest);
    snprintf(etag, sizeof etag, "W/\"%.16s\"", digest);
    const int known = yd_etag_listed(yd_request_header(r, "If-None-Match"), etag);
    // Of what is known no byte is sent, but its length is said as for a 200.
    struct MHD_Response *resp = MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_COPY);
    yd_free(text);
    if (resp) {
        yd_header(resp, "Content-Type", "application/json");
        yd_header(resp, "ETag", etag);
        yd_header(resp, "Cache-Control", "no-cache");
    }
    yd_respond(r, known ? 304 : 200, resp, known ? 0 : len);
}

static int find(yd_request *r, yd_job **j, yd_err *err)
{
    return yd_service_find(r->service, r->owner, r->match.param, j, err);
}

void yd_handle_job_get(yd_request *r)
{
    yd_err err = {0};
    yd_job *j;
    int64_t wait_s = 0;
    int rc = find(r, &j, &err);
    if (!rc) rc = yd_request_arg_int(r, "wait", 0, 3600, &wait_s, &err);
    if (!rc && wait_s > 0 && !yd_job_state_final(yd_job_state_of(j)) && !r->api->draining) {
        const int64_t max = r->api->cfg->max_wait_ms;
        rc = yd_job_wait_start(r, j, wait_s * 1000 < max ? wait_s * 1000 : max, 0, answer_job, &err);
        if (!rc) return;
    }
    if (rc)
        yd_respond_problem(r, &err);
    else
        answer_job(r, j);
}

static void answer_cancelled(yd_request *r, yd_job *j)
{
    yd_err err = {0};
    // Another end may have come first: cancelling again says so.
    if (yd_service_cancel(r->service, j, &err))
        yd_respond_problem(r, &err);
    else
        yd_respond_json(r, 200, yd_service_job_json(r->service, j));
}

// Answered when the end is stored; the unit of work under way runs out without anybody looking at it.
void yd_handle_job_cancel(yd_request *r)
{
    yd_err err = {0};
    yd_job *j;
    int rc = find(r, &j, &err);
    if (!rc) rc = yd_service_cancel(r->service, j, &err);
    if (!rc && !yd_job_state_final(yd_job_state_of(j))) {
        rc = yd_job_wait_start(r, j, -1, 0, answer_cancelled, &err);
        if (!rc) return;
    }
    if (rc)
        yd_respond_problem(r, &err);
    else
        yd_respond_json(r, 200, yd_service_job_json(r->service, j));
}

static int start_delete(yd_service *s, void *job, yd_removed_fn fn, void *arg, yd_err *err)
{
    return yd_service_delete(s, job, fn, arg, err);
}

// Deleting what is deleted already is no error: the wish is fulfilled.
void yd_handle_job_delete(yd_request *r)
{
    yd_err err = {0};
    yd_job *j;
    const int rc = find(r, &j, &err);
    if (!rc)
        yd_removal_answer(r, start_delete, j);
    else if (rc == YD_E_GONE)
        yd_respond_empty(r, 204);
    else
        yd_respond_problem(r, &err);
}
