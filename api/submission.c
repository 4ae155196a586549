// From a request to a submission: bare pictures, JSON with base64, and settings from the query. Multipart is in multipart.c.
// Threads: the loop's. The base64 of a body of max_body_bytes is decoded in place of time, not of care: some 10 ms for 32 MiB.
// Fails without side effects: an intake is cleared by the one who made it. Read next: daemon/service.h, yd_service_submit.
#include "api/submission.h"

#include "core/base64.h"
#include "api/respond.h"
#include "core/mem.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define JSON_DEPTH    32
#define ACCEPTED_JSON "{\"image\":{\"base64\":\"...\"}, ...settings}"

static char *copy_text(const char *s, size_t n)
{
    char *d = yd_malloc(n + 1);
    if (!d) return NULL;
    memcpy(d, s, n);
    d[n] = '\0';
    return d;
}

int yd_intake_add(yd_intake *in, const char *name, size_t name_len, const char *value, size_t value_len, yd_err *err)
{
    if (memchr(name, '\0', name_len) || memchr(value, '\0', value_len))
        return yd_fail(err, YD_E_SETTING, "a setting has a NUL character in its name or value");
    if (in->n_settings == YD_SETTINGS_MAX)
        return yd_fail(err, YD_E_SETTING, "more than %d settings were given", YD_SETTINGS_MAX);
    char *n = copy_text(name, name_len), *v = copy_text(value, value_len);
    if (!n || !v) {
        yd_free(n);
        yd_free(v);
        return yd_fail(err, YD_E_NOMEM, "no memory for the settings");
    }
    for (size_t i = 0; i < in->n_settings; i++) {
        if (strcmp(in->settings[i].name, n)) continue;
        const int rc = yd_fail_field(err, YD_E_SETTING, n, "each setting once", "the setting is given twice");
        yd_free(n);
        yd_free(v);
        return rc;
    }
    in->settings[in->n_settings++] = (yd_setting){n, v};
    return 0;
}

void yd_intake_clear(yd_intake *in)
{
    for (size_t i = 0; i < in->n_settings; i++) {
        yd_free((void *)(uintptr_t)in->settings[i].name);
        yd_free((void *)(uintptr_t)in->settings[i].value);
    }
    for (size_t i = 0; i < in->n_uploads; i++) yd_free(in->uploads[i].bytes);
    yd_free(in->uploads);
    yd_free(in->picture);
    json_decref(in->errands);
    memset(in, 0, sizeof *in);
}

// ---- the query

typedef struct query {
    yd_intake *in;
    yd_err *err;
    int rc;
} query;

static int is_errand(const char *name);

static enum MHD_Result add_argument(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    query *q = cls;
    if (!value) value = "";
    if (!q->rc && is_errand(key)) // queries are written to the logs of everybody on the way
        q->rc = yd_fail_field(q->err, YD_E_SETTING, key, strcmp(key, "webhook") ? "a member of JSON" : "the header Webhook-URL, or a member of JSON",
                              "a URL that may be a secret is not taken from a query");
    if (!q->rc) q->rc = yd_intake_add(q->in, key, strlen(key), value, strlen(value), q->err);
    return MHD_YES;
}

static int read_query(yd_intake *in, yd_request *r, yd_err *err)
{
    query q = {in, err, 0};
    MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, add_argument, &q);
    return q.rc;
}

// ---- JSON

// The parser recurses, so depth is bounded before it starts.
static int too_deep(const char *text, size_t len)
{
    int depth = 0, in_string = 0;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = 0;
        } else if (c == '"') {
            in_string = 1;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH) return 1;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return 0;
}

static int take_base64(yd_intake *in, const json_t *image, yd_err *err)
{
    const json_t *text = json_object_get(image, "base64");
    if (!json_is_string(text) || json_object_size(image) != 1)
        return yd_fail_field(err, YD_E_INVALID, "image", ACCEPTED_JSON,
                             "image must be an object with the one member base64");
    const size_t n = json_string_length(text);
    in->picture = yd_malloc(n / 4 * 3 + 3);
    if (!in->picture) return yd_fail(err, YD_E_NOMEM, "no memory for the picture");
    if (yd_base64_decode(json_string_value(text), n, in->picture, &in->len))
        return yd_fail_field(err, YD_E_INVALID, "image.base64", "base64 of RFC 4648, standard alphabet",
                             "this is no base64");
    return 0;
}

static int take_value(yd_intake *in, const char *name, size_t name_len, const json_t *v, yd_err *err)
{
    char number[64];
    switch (json_typeof(v)) {
    case JSON_STRING:
        return yd_intake_add(in, name, name_len, json_string_value(v), json_string_length(v), err);
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(v));
        break;
    case JSON_REAL:
        snprintf(number, sizeof number, "%.17g", json_real_value(v));
        break;
    case JSON_TRUE:
        snprintf(number, sizeof number, "true");
        break;
    case JSON_FALSE:
        snprintf(number, sizeof number, "false");
        break;
    default:
        return yd_fail_field(err, YD_E_SETTING, name, "a string, a number, true or false",
                             "a setting is no list, object or null");
    }
    return yd_intake_add(in, name, name_len, number, strlen(number), err);
}

// Members that name other servers are no settings: they are kept as they are, for the service to judge.
static int is_errand(const char *name)
{
    return !strcmp(name, "input") || !strcmp(name, "result") || !strcmp(name, "webhook");
}

static int take_errand(yd_intake *in, const char *name, json_t *value, yd_err *err)
{
    if (!in->errands) in->errands = json_object();
    return in->errands && !json_object_set(in->errands, name, value) ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the settings");
}

static int take_object(yd_intake *in, json_t *root, int need_image, yd_err *err)
{
    const json_t *image = json_object_get(root, "image"), *input = json_object_get(root, "input");
    if (need_image && !image && !input)
        return yd_fail_field(err, YD_E_INVALID, "image", ACCEPTED_JSON, "the JSON body has no member \"image\"");
    if (image && input)
        return yd_fail_field(err, YD_E_INVALID, "input", "either image or input", "the picture is given twice, as image and as input");
    if (!need_image && (image || input))
        return yd_fail_field(err, YD_E_INVALID, "image", "settings only", "the picture has its own part");
    int rc = image ? take_base64(in, image, err) : 0;
    for (void *it = json_object_iter(root); it && !rc; it = json_object_iter_next(root, it)) {
        const char *name = json_object_iter_key(it);
        if (is_errand(name))
            rc = take_errand(in, name, json_object_iter_value(it), err);
        else if (json_object_iter_value(it) != image)
            rc = take_value(in, name, strlen(name), json_object_iter_value(it), err);
    }
    return rc;
}

int yd_intake_json(yd_intake *in, const char *text, size_t len, int need_image, yd_err *err)
{
    if (too_deep(text, len)) return yd_fail(err, YD_E_INVALID, "the JSON is nested deeper than %d levels", JSON_DEPTH);
    json_error_t why;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return yd_fail(err, YD_E_INVALID, "the JSON cannot be read: %s at line %d, column %d", why.text, why.line,
                       why.column);
    const int rc = json_is_object(root) ? take_object(in, root, need_image, err)
                                        : yd_fail_field(err, YD_E_INVALID, "", ACCEPTED_JSON, "the JSON is no object");
    json_decref(root);
    return rc;
}

// ---- all of it

static int has_type(const yd_request *r, const char *type)
{
    const char *given = yd_request_header(r, "Content-Type");
    return given && !strncasecmp(given, type, strlen(type));
}

static int read_body(yd_intake *in, yd_request *r, yd_err *err)
{
    if (!r->body.len)
        return yd_fail_field(err, YD_E_INVALID, "body", "a picture", "the body is empty: it must be the picture");
    const int json = has_type(r, "application/json"), multipart = has_type(r, "multipart/form-data");
    size_t len;
    uint8_t *bytes = yd_body_take(r, &len);
    if (!json && !multipart) {
        in->picture = bytes;
        in->len = len;
        return 0;
    }
    const int rc = json ? yd_intake_json(in, (const char *)bytes, len, 1, err)
                        : yd_intake_multipart(in, r, (const char *)bytes, len, err);
    yd_free(bytes);
    if (!rc && json && !in->len && !json_object_get(in->errands, "input")) return yd_fail_field(err, YD_E_INVALID, "image", "a picture", "the picture is empty");
    return rc;
}

// For bare pictures, whose settings are in the query; beside everything else it is as good as the member "webhook".
static int read_webhook(yd_intake *in, const yd_request *r, yd_err *err)
{
    const char *url = yd_request_header(r, "Webhook-URL");
    if (!url) return 0;
    if (json_object_get(in->errands, "webhook"))
        return yd_fail_field(err, YD_E_SETTING, "Webhook-URL", "either the header or the member webhook", "the webhook is named twice");
    json_t *webhook = json_pack("{s:s}", "url", url); // NULL: no UTF-8
    const int rc = webhook ? take_errand(in, "webhook", webhook, err) : yd_fail_field(err, YD_E_SETTING, "Webhook-URL", "a URL", "this is no URL");
    json_decref(webhook);
    return rc;
}

int yd_intake_read(yd_intake *in, yd_request *r, yd_err *err)
{
    int rc = read_query(in, r, err);
    if (!rc) rc = read_body(in, r, err);
    return rc ? rc : read_webhook(in, r, err);
}

// ---- waiting for the job to be stored

typedef struct submit_wait {
    yd_request *r;
    yd_arrival *arrival; // NULL once it has answered
    void (*then)(yd_request *r, yd_job *j);
    int cancel_if_gone, rc;
    yd_err err;
    char id[64];
} submit_wait;

static void on_submitted(void *arg, int rc, yd_job *j, const yd_err *err)
{
    submit_wait *w = arg;
    w->r->repeated = !rc && yd_arrival_repeats(w->arrival);
    w->arrival = NULL;
    w->rc = rc;
    if (rc)
        w->err = *err;
    else
        snprintf(w->id, sizeof w->id, "%s", yd_job_id(j));
    yd_request_wake(w->r);
}

static void drop(yd_request *r)
{
    submit_wait *w = r->wait;
    yd_job *j;
    if (w->arrival) yd_arrival_abandon(w->arrival);
    if (*w->id && w->cancel_if_gone && !yd_service_find(r->service, r->owner, w->id, &j, NULL)) (void)yd_service_cancel(r->service, j, NULL);
    yd_free(w);
}

static void wake(yd_request *r)
{
    submit_wait *w = r->wait, done = *w;
    yd_job *j = NULL;
    if (w->arrival) return;
    r->drop = NULL; // what follows may wait for something else
    r->wait = NULL;
    yd_free(w);
    if (!done.rc) done.rc = yd_service_find(r->service, r->owner, done.id, &j, &done.err);
    if (done.rc)
        yd_respond_problem(r, &done.err);
    else
        done.then(r, j);
}

int yd_submit_repeatable(const yd_request *r)
{
    return r->method == YD_PUT || yd_request_header(r, "Idempotency-Key");
}

static int submit(yd_request *r, yd_intake *in, submit_wait *w, yd_err *err)
{
    const int put = r->method == YD_PUT;
    const yd_submission sub = {.bytes = in->picture,
                               .len = in->len,
                               .settings = in->settings,
                               .n_settings = in->n_settings,
                               .errands = in->errands,
                               .owner = r->owner,
                               .id = put ? r->match.param : NULL,
                               .once = put ? NULL : yd_request_header(r, "Idempotency-Key"),
                               .request_id = r->id};
    in->picture = NULL; // submit owns it from here, whatever it answers
    return yd_service_submit(r->service, &sub, on_submitted, w, &w->arrival, err);
}

// One picture of a form that may have several.
static int take_only(yd_intake *in, yd_err *err)
{
    if (in->picture || in->n_uploads != 1) return 0;
    in->picture = in->uploads[0].bytes;
    in->len = in->uploads[0].len;
    in->uploads[0].bytes = NULL;
    return in->len ? 0 : yd_fail_field(err, YD_E_INVALID, "image", "a picture", "the picture is empty");
}

void yd_submit_intake(yd_request *r, yd_intake *in, int cancel_if_gone, void (*then)(yd_request *r, yd_job *j))
{
    yd_err err = {0};
    submit_wait *w = yd_calloc(1, sizeof *w);
    int rc = w ? take_only(in, &err) : yd_fail(&err, YD_E_NOMEM, "no memory for another job");
    if (!rc) rc = submit(r, in, w, &err);
    yd_intake_clear(in);
    if (rc) {
        yd_free(w);
        yd_respond_problem(r, &err);
        return;
    }
    w->r = r;
    w->then = then;
    w->cancel_if_gone = cancel_if_gone && !yd_submit_repeatable(r);
    yd_request_wait(r, wake, drop, w);
}

void yd_submit_request(yd_request *r, int cancel_if_gone, void (*then)(yd_request *r, yd_job *j))
{
    yd_err err = {0};
    yd_intake in = {0};
    if (!yd_intake_read(&in, r, &err)) {
        yd_submit_intake(r, &in, cancel_if_gone, then);
        return;
    }
    yd_intake_clear(&in);
    yd_respond_problem(r, &err);
}
