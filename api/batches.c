// The collection of batches: take one, list them, look at one or wait for it, cancel it,
// forget it.
//
// Taking: the form is split, every picture is submitted by itself, and the last one to be stored or refused has the batch stored; then it
// is answered. A picture that is refused is an item with a problem and leaves the others alone. A client that leaves meanwhile leaves no
// job behind, unless its Idempotency-Key lets it come back: every picture then has a key of its own, "KEY#NUMBER", so that no picture is
// computed twice. Threads: the loop's. Read next: daemon/bundle.h, archive.c
#include "api/batches.h"

#include "api/handlers.h"
#include "api/job_wait.h"
#include "api/removal.h"
#include "api/respond.h"
#include "core/mem.h"
#include "daemon/bundle.h"
#include "daemon/clock.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

// ---- taking one

typedef struct batch_wait batch_wait;

typedef struct item {
    batch_wait *batch;
    yd_arrival *arrival; // NULL once it has answered
    char job[64];        // "": refused
    char name[YD_NAME_MAX];
    json_t *problem;
} item;

struct batch_wait {
    yd_request *r; // NULL: its client has gone while the batch was being stored
    size_t n, open;
    int storing, rc;
    yd_err err, first; // first: why the first picture that was refused was
    char id[64];
    item item[];
};

static void note_problem(item *it, const yd_err *err)
{
    if (!it->batch->first.code) it->batch->first = *err;
    it->problem = yd_problem_json(err);
}

static json_t *items_json(const batch_wait *w)
{
    json_t *list = json_array();
    for (size_t i = 0; i < w->n; i++) {
        const item *it = &w->item[i];
        json_array_append_new(list, *it->job ? json_pack("{s:s, s:s}", "name", it->name, "job", it->job)
                                             : json_pack("{s:s, s:O?}", "name", it->name, "problem", it->problem));
    }
    return list;
}

static void free_wait(batch_wait *w)
{
    for (size_t i = 0; i < w->n; i++) json_decref(w->item[i].problem);
    yd_free(w);
}

static void on_stored(void *arg, int rc, const char *id, const yd_err *err)
{
    batch_wait *w = arg;
    w->storing = 0;
    if (!w->r) {
        free_wait(w);
        return;
    }
    w->rc = rc;
    if (rc)
        w->err = *err;
    else
        snprintf(w->id, sizeof w->id, "%s", id);
    yd_request_wake(w->r);
}

static int any_taken(const batch_wait *w)
{
    for (size_t i = 0; i < w->n; i++)
        if (*w->item[i].job) return 1;
    return 0;
}

// Every picture has been stored or refused.
static void close_items(batch_wait *w)
{
    if (any_taken(w)) {
        w->rc = yd_bundle_add(w->r->service, w->r->owner, items_json(w), on_stored, w, &w->err);
        w->storing = !w->rc;
    }
    if (!w->storing) yd_request_wake(w->r);
}

static void on_submitted(void *arg, int rc, yd_job *j, const yd_err *err)
{
    item *it = arg;
    batch_wait *w = it->batch;
    it->arrival = NULL;
    if (rc)
        note_problem(it, err);
    else
        snprintf(it->job, sizeof it->job, "%s", yd_job_id(j));
    if (--w->open == 0) close_items(w); // never while they are being begun: answers come later
}

static void remove_jobs(const batch_wait *w)
{
    const yd_request *r = w->r;
    yd_job *j;
    for (size_t i = 0; i < w->n; i++)
        if (*w->item[i].job && !yd_service_find(r->service, r->owner, w->item[i].job, &j, NULL))
            (void)yd_service_delete(r->service, j, NULL, NULL, NULL);
}

static void drop(yd_request *r)
{
    batch_wait *w = r->wait;
    for (size_t i = 0; i < w->n; i++)
        if (w->item[i].arrival) yd_arrival_abandon(w->item[i].arrival);
    if (!r->answered && !r->api->stopping && !yd_submit_repeatable(r)) remove_jobs(w);
    w->r = NULL;
    if (!w->storing) free_wait(w);
}

static void answer_batch(yd_request *r, const batch_wait *w)
{
    yd_err err = {0};
    yd_bundle *b;
    char location[96];
    if (yd_bundle_find(r->service, r->owner, w->id, &b, &err)) {
        yd_respond_problem(r, &err);
        return;
    }
    snprintf(location, sizeof location, "/v1/batches/%s", w->id);
    yd_respond_created(r, 202, yd_bundle_json(r->service, b, 1), location);
}

// Nothing to wait for: the first reason stands for all.
static void answer_refused(yd_request *r, const batch_wait *w)
{
    yd_respond_problem_with(r, &w->first, json_pack("{s:o}", "items", items_json(w)));
}

static void wake(yd_request *r)
{
    const batch_wait *w = r->wait;
    if (w->open > 0 || w->storing) return;
    if (w->rc)
        yd_respond_problem(r, &w->err);
    else if (any_taken(w))
        answer_batch(r, w);
    else
        answer_refused(r, w);
}

static int submit_item(yd_request *r, const yd_intake *in, size_t i, item *it, yd_err *err)
{
    const char *key = yd_request_header(r, "Idempotency-Key");
    char once[320];
    snprintf(once, sizeof once, "%.280s#%zu", key ? key : "", i);
    yd_upload *up = &in->uploads[i];
    if (!up->len) return yd_fail_field(err, YD_E_INVALID, "image", "a picture", "the picture is empty");
    const yd_submission sub = {.bytes = up->bytes,
                               .len = up->len,
                               .settings = in->settings,
                               .n_settings = in->n_settings,
                               .errands = in->errands,
                               .owner = r->owner,
                               .once = key ? once : NULL,
                               .request_id = r->id};
    up->bytes = NULL; // submit owns it from here, whatever it answers
    return yd_service_submit(r->service, &sub, on_submitted, it, &it->arrival, err);
}

static void submit_items(yd_request *r, const yd_intake *in, batch_wait *w)
{
    w->r = r;
    w->n = in->n_uploads;
    for (size_t i = 0; i < w->n; i++) {
        item *it = &w->item[i];
        yd_err err = {0};
        it->batch = w;
        snprintf(it->name, sizeof it->name, "%s", in->uploads[i].name);
        if (submit_item(r, in, i, it, &err))
            note_problem(it, &err);
        else
            w->open++;
    }
    if (w->open > 0) {
        yd_request_wait(r, wake, drop, w);
        return;
    }
    answer_refused(r, w); // submissions that were begun answer later
    free_wait(w);
}

static int is_form(const yd_request *r)
{
    const char *type = yd_request_header(r, "Content-Type");
    return type && !strncasecmp(type, "multipart/form-data", 19);
}

void yd_batch_request(yd_request *r, int one_alone, void (*then)(yd_request *r, yd_job *j))
{
    yd_err err = {0};
    yd_intake in = {.max_uploads = (size_t)r->api->cfg->max_batch_items};
    int rc = is_form(r) ? yd_intake_read(&in, r, &err)
                        : yd_fail_field(&err, YD_E_MEDIA_TYPE, "Content-Type", "multipart/form-data", "a batch is a form with several pictures");
    if (!rc && in.n_uploads == 1 && one_alone) {
        yd_submit_intake(r, &in, 0, then);
        return;
    }
    if (!rc && json_object_get(in.errands, "result")) // each would take the place of the one before
        rc = yd_fail_field(&err, YD_E_SETTING, "result", "a webhook, or one request for each picture", "the results of several pictures cannot be put to one URL");
    batch_wait *w = rc ? NULL : yd_calloc(1, sizeof *w + in.n_uploads * sizeof w->item[0]);
    if (!rc && !w) rc = yd_fail(&err, YD_E_NOMEM, "no memory for a batch");
    if (rc)
        yd_respond_problem(r, &err);
    else
        submit_items(r, &in, w);
    yd_intake_clear(&in);
}

void yd_handle_batches_post(yd_request *r)
{
    yd_batch_request(r, 0, NULL);
}

// ---- looking

void yd_handle_batches_list(yd_request *r)
{
    yd_err err = {0};
    int64_t limit = 50;
    json_t *list = NULL;
    int rc = yd_request_arg_int(r, "limit", 1, 200, &limit, &err);
    if (!rc) rc = yd_bundle_list(r->service, r->owner, yd_request_arg(r, "cursor"), (int)limit, &list, &err);
    if (rc)
        yd_respond_problem(r, &err);
    else
        yd_respond_json(r, 200, list);
}

static void answer_state(yd_request *r, yd_bundle *b)
{
    yd_respond_json(r, 200, yd_bundle_json(r->service, b, 1));
}

// Wait for one unfinished job after the other; which one ends first makes no difference.
static void wait_for_rest(yd_request *r, yd_job *ended)
{
    yd_err err = {0};
    yd_bundle *b;
    yd_job *j;
    (void)ended;
    const int64_t left_ms = (r->until_us - yd_mono_us()) / 1000;
    int rc = yd_bundle_find(r->service, r->owner, r->match.param, &b, &err);
    if (!rc && left_ms > 0 && !r->api->draining && yd_bundle_unfinished(r->service, b, 0, &j) >= 0) {
        rc = yd_job_wait_chained(r, j, left_ms, wait_for_rest, &err);
        if (!rc) return;
    }
    if (rc)
        yd_respond_problem(r, &err);
    else
        answer_state(r, b);
}

void yd_handle_batch_get(yd_request *r)
{
    yd_err err = {0};
    int64_t wait_s = 0;
    if (yd_request_arg_int(r, "wait", 0, 3600, &wait_s, &err)) {
        yd_respond_problem(r, &err);
        return;
    }
    const int64_t max = r->api->cfg->max_wait_ms;
    r->until_us = yd_mono_us() + 1000 * (wait_s * 1000 < max ? wait_s * 1000 : max);
    wait_for_rest(r, NULL);
}

// What has ended stays as it is; answered when every end is stored.
void yd_handle_batch_cancel(yd_request *r)
{
    yd_err err = {0};
    yd_bundle *b;
    yd_job *j;
    int rc = yd_bundle_find(r->service, r->owner, r->match.param, &b, &err);
    for (long i = 0; !rc && (i = yd_bundle_unfinished(r->service, b, (size_t)i, &j)) >= 0; i++) (void)yd_service_cancel(r->service, j, NULL);
    if (rc) {
        yd_respond_problem(r, &err);
        return;
    }
    r->until_us = yd_mono_us() + 1000 * r->api->cfg->max_wait_ms;
    wait_for_rest(r, NULL);
}

static int start_remove(yd_service *s, void *bundle, yd_removed_fn fn, void *arg, yd_err *err)
{
    return yd_bundle_remove(s, bundle, fn, arg, err);
}

void yd_handle_batch_delete(yd_request *r)
{
    yd_err err = {0};
    yd_bundle *b;
    if (yd_bundle_find(r->service, r->owner, r->match.param, &b, &err))
        yd_respond_problem(r, &err);
    else
        yd_removal_answer(r, start_remove, b);
}
