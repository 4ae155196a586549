// The collection of jobs: take one, list them.
#include "api/batches.h"
#include "api/handlers.h"
#include "api/respond.h"
#include "api/submission.h"

#include <stdio.h>
#include <strings.h>

static void answer_taken(yd_request *r, yd_job *job)
{
    char location[128];
    snprintf(location, sizeof location, "/v1/jobs/%s", yd_job_id(job));
    yd_respond_created(r, r->repeated ? 200 : 202, yd_service_job_json(r->service, job), location);
}

void yd_handle_job_put(yd_request *r)
{
    yd_submit_request(r, 0, answer_taken);
}

// A form may hold several pictures, which are a batch then.
void yd_handle_jobs_post(yd_request *r)
{
    const char *type = yd_request_header(r, "Content-Type");
    if (type && !strncasecmp(type, "multipart/form-data", 19))
        yd_batch_request(r, 1, answer_taken);
    else
        yd_submit_request(r, 0, answer_taken);
}

static int list(yd_request *r, json_t **out, yd_err *err)
{
    yd_job_state state;
    int64_t limit = 50;
    const char *wanted = yd_request_arg(r, "state");
    int rc = wanted ? yd_job_state_parse(wanted, &state, err) : 0;
    if (!rc) rc = yd_request_arg_int(r, "limit", 1, 200, &limit, err);
    if (rc) return rc;
    return yd_service_list(r->service, r->owner, wanted ? (int)state : -1, yd_request_arg(r, "cursor"), (int)limit, out,
                           err);
}

void yd_handle_jobs_list(yd_request *r)
{
    yd_err err = {0};
    json_t *jobs = NULL;
    if (list(r, &jobs, &err))
        yd_respond_problem(r, &err);
    else
        yd_respond_json(r, 200, jobs);
}
