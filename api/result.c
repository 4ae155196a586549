// The finished picture: strong entity tag (its SHA-256 and the job's fingerprint), one range at a time, Content-Digest.
// The response holds a reference of the picture, so a slow download survives the deletion of its job.
#include "api/result.h"

#include "core/base64.h"
#include "api/accept.h"
#include "api/handlers.h"
#include "api/range.h"
#include "api/respond.h"
#include "core/image.h"
#include "core/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DIGEST_BYTES 32

static int nibble(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

// "sha-256=:BASE64:" (RFC 9530) from the hex digest.
static void content_digest(const char *hex, char out[64])
{
    uint8_t raw[DIGEST_BYTES];
    char text[45] = "";
    for (size_t i = 0; i < DIGEST_BYTES; i++) raw[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    yd_base64_encode(raw, sizeof raw, text);
    snprintf(out, 64, "sha-256=:%s:", text);
}

const char *yd_extension_of(const char *mime)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(k[i].mime, mime) == 0) return k[i].extensions;
    return "bin";
}

static void picture_headers(struct MHD_Response *resp, const yd_job *j, const yd_blob *b, const char *etag,
                            int attachment)
{
    char text[160];
    yd_header(resp, "ETag", etag);
    yd_header(resp, "Accept-Ranges", "bytes");
    yd_header(resp, "Cache-Control", "private, no-cache");
    yd_header(resp, "Vary", "Accept");
    yd_header(resp, "X-Job-Id", yd_job_id(j));
    const char *end = yd_extension_of(b->mime);
    snprintf(text, sizeof text, "%s; filename=\"%.40s.%.*s\"", attachment ? "attachment" : "inline", yd_job_id(j),
             (int)strcspn(end, " "), end);
    yd_header(resp, "Content-Disposition", text);
}

static void answer_unsatisfiable(yd_request *r, uint64_t size)
{
    char range[48];
    snprintf(range, sizeof range, "bytes */%" PRIu64, size);
    struct MHD_Response *resp = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (resp) yd_header(resp, "Content-Range", range);
    yd_respond(r, 416, resp, 0);
}

// A range only counts while If-Range (when given) names the bytes that we have.
static yd_range_kind wanted_range(const yd_request *r, const char *etag, uint64_t size, uint64_t *first, uint64_t *last)
{
    const char *condition = yd_request_header(r, "If-Range");
    if (r->method != YD_GET || (condition && strcmp(condition, etag))) return YD_RANGE_WHOLE;
    return yd_range_parse(yd_request_header(r, "Range"), size, first, last);
}

static void answer_blob(yd_request *r, const yd_job *j, yd_blob *b, int attachment)
{
    char etag[96], digest[64], range[80];
    uint64_t first = 0, last = b->len ? b->len - 1 : 0;
    snprintf(etag, sizeof etag, "\"%s-%s\"", b->sha256, yd_job_fingerprint(j));
    content_digest(b->sha256, digest);

    const yd_range_kind kind = wanted_range(r, etag, b->len, &first, &last);
    if (kind == YD_RANGE_UNSATISFIABLE) {
        answer_unsatisfiable(r, b->len);
        yd_blob_unref(b);
        return;
    }
    const int known = r->method != YD_POST && yd_etag_listed(yd_request_header(r, "If-None-Match"), etag);
    const int part = kind == YD_RANGE_PART && !known;
    const size_t size = b->len, n = known ? size : (size_t)(last - first + 1); // of what is known only the length is sent
    struct MHD_Response *resp = yd_blob_response(yd_blob_ref(b), known ? 0 : (size_t)first, n);
    if (resp) picture_headers(resp, j, b, etag, attachment);
    if (resp && !part && !known) yd_header(resp, "Content-Digest", digest);
    if (resp && part) {
        snprintf(range, sizeof range, "bytes %" PRIu64 "-%" PRIu64 "/%zu", first, last, size);
        yd_header(resp, "Content-Range", range);
    }
    yd_respond(r, known ? 304 : part ? 206 : 200, resp, known ? 0 : n);
    yd_blob_unref(b);
}

// ---- as it is: what has been on a disk is held against its digest before the first byte, on a pool thread

typedef struct check_task {
    uv_work_t work;
    yd_request *r; // NULL once nobody waits any more
    yd_blob *blob;
    yd_err err;
    int rc, attachment;
    char id[64];
} check_task;

static void check_work(uv_work_t *work)
{
    check_task *t = work->data;
    t->rc = yd_blob_check(t->blob, &t->err);
}

static void free_check(check_task *t)
{
    yd_blob_unref(t->blob);
    yd_free(t);
}

static void check_after(uv_work_t *work, int status)
{
    check_task *t = work->data;
    (void)status;
    t->work.data = NULL;
    if (t->r)
        yd_request_wake(t->r);
    else
        free_check(t);
}

static void drop_check(yd_request *r)
{
    check_task *t = r->wait;
    t->r = NULL;
    if (!t->work.data) free_check(t); // otherwise check_after does
}

static void checked(yd_request *r)
{
    check_task *t = r->wait;
    yd_job *j;
    if (t->rc || yd_service_find(r->service, r->owner, t->id, &j, &t->err))
        yd_respond_problem_with(r, &t->err, json_pack("{s:s}", "job", t->id));
    else
        answer_blob(r, j, yd_blob_ref(t->blob), t->attachment);
}

// Takes the reference.
static void check_blob(yd_request *r, const yd_job *j, yd_blob *b, int attachment)
{
    yd_err err = {0};
    check_task *t = yd_calloc(1, sizeof *t);
    if (t) {
        *t = (check_task){.r = r, .blob = b, .attachment = attachment};
        t->work.data = t;
        snprintf(t->id, sizeof t->id, "%s", yd_job_id(j));
    }
    if (!t || uv_queue_work(r->api->loop, &t->work, check_work, check_after)) {
        yd_fail(&err, YD_E_NOMEM, "no memory to read a picture");
        yd_blob_unref(b);
        yd_free(t);
        yd_respond_problem(r, &err);
        return;
    }
    yd_request_release(r); // it may have waited for the job
    yd_request_wait(r, checked, drop_check, t);
}

// ---- in another format, by Accept

typedef struct format_wait {
    yd_request *r;
    yd_picture_call *call; // NULL once it was answered
    yd_blob *blob;
    yd_err err;
    char id[64];
    int attachment;
} format_wait;

static void on_picture(void *arg, int rc, yd_blob *blob, const yd_err *err)
{
    format_wait *w = arg;
    w->call = NULL;
    w->blob = blob;
    if (rc) w->err = *err;
    yd_request_wake(w->r);
}

static void drop(yd_request *r)
{
    format_wait *w = r->wait;
    if (w->call) yd_picture_cancel(w->call);
    yd_blob_unref(w->blob);
    yd_free(w);
}

static void wake(yd_request *r)
{
    format_wait *w = r->wait;
    yd_job *j;
    if (!w->blob || yd_service_find(r->service, r->owner, w->id, &j, &w->err))
        yd_respond_problem(r, &w->err);
    else
        answer_blob(r, j, yd_blob_ref(w->blob), w->attachment);
}

static void answer_as(yd_request *r, yd_job *j, yd_image_format format, int attachment)
{
    yd_err err = {0};
    format_wait *w = yd_calloc(1, sizeof *w);
    const yd_picture_want want = {.kind = YD_PICTURE_RESULT, .format = format};
    int rc = w ? yd_service_picture(r->service, j, &want, on_picture, w, &w->call, &err) : yd_fail(&err, YD_E_NOMEM, "no memory for a picture");
    if (rc) {
        yd_free(w);
        yd_respond_problem(r, &err);
        return;
    }
    w->r = r;
    w->attachment = attachment;
    snprintf(w->id, sizeof w->id, "%s", yd_job_id(j));
    yd_request_release(r); // it may have waited for the job
    yd_request_wait(r, wake, drop, w);
}

// The format it has, by its name; the job's own unless the client wants another.
static int choose_format(const yd_request *r, const yd_blob *b, yd_image_format *native, yd_image_format *wanted, yd_err *err)
{
    const int rc = yd_image_format_parse(b->mime, native, err);
    return rc ? rc : yd_accept_picture(r, *native, wanted, err);
}

void yd_answer_result(yd_request *r, yd_job *j, int attachment)
{
    yd_err err = {0};
    yd_blob *b = NULL;
    const int rc = yd_service_result(r->service, j, &b, &err);
    yd_image_format native, wanted;
    if (!rc && choose_format(r, b, &native, &wanted, &err)) {
        yd_blob_unref(b);
        yd_respond_problem(r, &err);
        return;
    }
    if (!rc && wanted == native) {
        if (yd_blob_fresh(b))
            answer_blob(r, j, b, attachment);
        else
            check_blob(r, j, b, attachment);
        return;
    }
    if (!rc) {
        yd_blob_unref(b);
        answer_as(r, j, wanted, attachment);
        return;
    }
    if (rc == YD_E_CANCELLED && yd_service_draining(r->service))
        yd_fail(&err, YD_E_DRAINING, "the server is shutting down and the job was not finished in time");
    yd_respond_problem_with(r, &err, json_pack("{s:s}", "job", yd_job_id(j)));
}

void yd_handle_result(yd_request *r)
{
    yd_err err = {0};
    yd_job *j;
    if (yd_service_find(r->service, r->owner, r->match.param, &j, &err))
        yd_respond_problem(r, &err);
    else
        yd_answer_result(r, j, yd_request_arg(r, "download") != NULL);
}
