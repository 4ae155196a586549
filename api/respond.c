// Answers: the headers every response has, JSON, problem documents and parts of blobs.
// Threads: the loop's. Running out of memory while answering is answered from static text; when even that fails the connection closes.
#include "api/respond.h"

#include "api/access.h"

#include "core/image.h"
#include "core/mem.h"
#include "daemon/text.h"

#include <stdio.h>
#include <string.h>

static const char no_memory[] = "{\"type\":\"/problems/out-of-memory\",\"title\":\"Out of memory\",\"status\":503}\n";

void yd_header(struct MHD_Response *resp, const char *name, const char *value)
{
    (void)MHD_add_response_header(resp, name, value); // fails only without memory: the answer is then short of a header
}

static struct MHD_Response *out_of_memory(uint64_t *bytes)
{
    *bytes = sizeof no_memory - 1;
    struct MHD_Response *resp =
        MHD_create_response_from_buffer(sizeof no_memory - 1, (void *)(uintptr_t)no_memory, MHD_RESPMEM_PERSISTENT);
    if (resp) yd_header(resp, "Content-Type", "application/problem+json");
    return resp;
}

static void common_headers(const yd_request *r, struct MHD_Response *resp)
{
    yd_header(resp, "X-Request-Id", r->id);
    yd_header(resp, "X-Content-Type-Options", "nosniff");
    if (r->repeated) yd_header(resp, "Idempotency-Replayed", "true");
    if (r->trace[0]) yd_header(resp, "traceparent", r->trace);
    yd_access_headers(r, resp);
    if (r->closing || yd_service_leaving(r->service)) yd_header(resp, "Connection", "close");
}

void yd_respond(yd_request *r, int status, struct MHD_Response *resp, uint64_t bytes)
{
    if (!resp) {
        resp = out_of_memory(&bytes);
        status = 503;
    }
    if (!resp) return; // not answered: the connection is closed
    common_headers(r, resp);
    r->answered = MHD_queue_response(r->mhd, (unsigned)status, resp) == MHD_YES;
    MHD_destroy_response(resp);
    if (!r->answered) return;
    r->status = status;
    if (bytes == YD_UNKNOWN_SIZE) {
        yd_conn_enter(r->conn, YD_CONN_STREAM, 0);
        return;
    }
    r->sent_bytes = r->method == YD_HEAD ? 0 : bytes;
    yd_conn_enter(r->conn, YD_CONN_SENDING, (size_t)r->sent_bytes);
}

void yd_respond_empty(yd_request *r, int status)
{
    yd_respond(r, status, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), 0);
}

static void release_text(void *text)
{
    yd_free(text);
}

static struct MHD_Response *text_response(char *text, size_t len, const char *type, int free_text)
{
    struct MHD_Response *resp =
        free_text ? MHD_create_response_from_buffer_with_free_callback_cls(len, text, release_text, text)
                  : MHD_create_response_from_buffer(len, text, MHD_RESPMEM_PERSISTENT);
    if (resp)
        yd_header(resp, "Content-Type", type);
    else if (free_text)
        yd_free(text);
    return resp;
}

void yd_respond_text(yd_request *r, int status, const char *type, char *text, size_t len, int free_text)
{
    struct MHD_Response *resp = text ? text_response(text, len, type, free_text) : NULL;
    if (resp) yd_header(resp, "Cache-Control", "no-cache");
    yd_respond(r, status, resp, len);
}

// ---- JSON

char *yd_json_line(json_t *body, size_t *len)
{
    char *text = yd_text_json(body, len);
    if (text) text[(*len)++] = '\n'; // where the NUL was
    return text;
}

static struct MHD_Response *json_response(json_t *body, const char *type, size_t *len)
{
    char *text = yd_json_line(body, len);
    struct MHD_Response *resp = text ? text_response(text, *len, type, 1) : NULL;
    if (resp) yd_header(resp, "Cache-Control", "no-store");
    return resp;
}

void yd_respond_json(yd_request *r, int status, json_t *body)
{
    size_t len = 0;
    struct MHD_Response *resp = json_response(body, "application/json", &len);
    yd_respond(r, status, resp, len);
}

void yd_respond_created(yd_request *r, int status, json_t *body, const char *location)
{
    size_t len = 0;
    struct MHD_Response *resp = json_response(body, "application/json", &len);
    if (resp) yd_header(resp, "Location", location);
    if (resp && status == 202) yd_header(resp, "X-Durability", yd_service_durability(r->service));
    yd_respond(r, status, resp, len);
}

// ---- problems

static json_t *readable_formats(void)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    json_t *a = json_array();
    for (size_t i = 0; a && i < n; i++)
        if (k[i].reads) json_array_append_new(a, json_string(k[i].name));
    return a;
}

// Limits as numbers, for programs.
static void add_limits(json_t *doc, const yd_request *r, const yd_err *err, long retry_ms)
{
    const yd_config *cfg = r->api->cfg;
    if (retry_ms) json_object_set_new(doc, "retry_after_ms", json_integer(retry_ms));
    if (err->code == YD_E_IMAGE_TOO_LARGE) {
        json_object_set_new(doc, "max_pixels", json_integer(cfg->max_pixels));
        json_object_set_new(doc, "max_side", json_integer(cfg->max_side));
    }
    if (err->code == YD_E_BODY_TOO_LARGE) json_object_set_new(doc, "max_bytes", json_integer(cfg->max_body_bytes));
    if (err->code == YD_E_IMAGE_FORMAT) json_object_set_new(doc, "supported_formats", readable_formats());
}

static json_t *problem_document(const yd_request *r, const yd_err *err, long retry_ms)
{
    json_t *doc = yd_problem_json(err);
    json_object_set_new(doc, "request_id", json_string(r->id));
    add_limits(doc, r, err, retry_ms);
    return doc;
}

void yd_respond_problem_with(yd_request *r, const yd_err *err, json_t *more)
{
    const yd_err_info *info = yd_err_lookup(err->code);
    const int later = info->http_status == 503 || info->http_status == 507 || info->http_status == 429;
    const long retry_ms = !later ? 0 : err->retry_ms ? err->retry_ms : yd_service_retry_after_ms(r->service);
    json_t *doc = problem_document(r, err, retry_ms);
    if (doc && more) json_object_update(doc, more);
    json_decref(more);

    size_t len = 0;
    struct MHD_Response *resp = json_response(doc, "application/problem+json", &len);
    if (resp && later) {
        char seconds[24];
        snprintf(seconds, sizeof seconds, "%ld", (retry_ms + 999) / 1000);
        yd_header(resp, "Retry-After", seconds);
    }
    if (resp && err->code == YD_E_METHOD) yd_header(resp, "Allow", err->accepted);
    if (resp && err->code == YD_E_UNAUTHORIZED) yd_header(resp, "WWW-Authenticate", "Bearer realm=\"yodad\"");
    if (err->code == YD_E_LIMIT && yd_conn_over_limit(r->conn)) r->closing = 1;
    if (!r->match.route || r->match.route->body == YD_BODY_PICTURE)
        yd_metrics_rejected(yd_service_metrics(r->service), info->slug);
    yd_respond(r, info->http_status, resp, len);
}

void yd_respond_problem(yd_request *r, const yd_err *err)
{
    yd_respond_problem_with(r, err, NULL);
}

// ---- blobs

static void release_blob(void *b)
{
    yd_blob_unref(b);
}

struct MHD_Response *yd_blob_response(yd_blob *b, size_t first, size_t n)
{
    struct MHD_Response *resp = MHD_create_response_from_buffer_with_free_callback_cls(
        n, (void *)(uintptr_t)(b->bytes + first), release_blob, b);
    if (resp)
        yd_header(resp, "Content-Type", b->mime);
    else
        yd_blob_unref(b);
    return resp;
}
