// POST /v1/upscale: a picture in, the bigger picture out, in one request.
// The connection is suspended while the job runs. With "Prefer: wait=N" the client gets 202 and the job's address after N seconds and
// the job goes on; without, a client that leaves takes its job along, unless an Idempotency-Key lets it come
// back for it.
#include "api/accept.h"
#include "api/handlers.h"
#include "api/job_wait.h"
#include "api/respond.h"
#include "api/result.h"
#include "api/submission.h"

#include <stdio.h>

static void answer(yd_request *r, yd_job *j)
{
    if (yd_job_state_final(yd_job_state_of(j))) {
        yd_answer_result(r, j, 0);
        return;
    }
    char location[128];
    snprintf(location, sizeof location, "/v1/jobs/%s", yd_job_id(j));
    yd_respond_created(r, 202, yd_service_job_json(r->service, j), location);
}

static void wait_for_end(yd_request *r, yd_job *j)
{
    yd_err err = {0};
    if (yd_job_state_final(yd_job_state_of(j))) {
        answer(r, j); // it was there already
        return;
    }
    if (!yd_job_wait_start(r, j, yd_prefer_wait_ms(r), !yd_submit_repeatable(r), answer, &err)) return;
    (void)yd_service_cancel(r->service, j, NULL);
    yd_respond_problem(r, &err);
}

void yd_handle_upscale(yd_request *r)
{
    yd_err err = {0};
    yd_image_format any;
    if (yd_accept_picture(r, YD_TIFF, &any, &err)) // before anything is computed; TIFF comes to who asks for it with `format`
        yd_respond_problem(r, &err);
    else
        yd_submit_request(r, 1, wait_for_end);
}
