// Errands read from a client's JSON, kept as JSON, and shown without their secrets.
#include "daemon/errands.h"

#include "core/mem.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define VALUE_MAX 1024
#define NAME_MAX_ 64

static const char *const members[] = {[YD_OUT_FETCH] = "input", [YD_OUT_RESULT] = "result", [YD_OUT_WEBHOOK] = "webhook"};

static yd_blob *wrap(json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    char *copy = text ? yd_strdup(text) : NULL;
    free(text);
    json_decref(o);
    return copy ? yd_blob_new(copy, strlen(copy), "application/json", 0) : NULL;
}

static json_t *unwrap(const yd_blob *b)
{
    return b ? json_loadb((const char *)b->bytes, b->len, 0, NULL) : NULL;
}

// ---- what a client asks for ----------------------------------------------------------------------------------------

// Headers that stores want to see with what is put there. Nothing that changes whom a request is for or how it is framed.
static int is_header_allowed(const char *name)
{
    static const char *const whole[] = {"content-type", "content-disposition", "content-language", "cache-control", "expires"};
    static const char *const beginning[] = {"x-amz-", "x-goog-", "x-ms-"};
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (strcasecmp(name, whole[i]) == 0) return 1;
    for (size_t i = 0; i < sizeof beginning / sizeof beginning[0]; i++)
        if (strncasecmp(name, beginning[i], strlen(beginning[i])) == 0) return 1;
    return 0;
}

static int is_token(const char *s)
{
    size_t n = 0;
    for (; s[n]; n++)
        if (!isalnum((unsigned char)s[n]) && s[n] != '-') return 0;
    return n > 0 && n <= NAME_MAX_;
}

static int is_value(const json_t *v)
{
    const char *s = json_string_value(v);
    if (!s || json_string_length(v) != strlen(s) || strlen(s) > VALUE_MAX || !*s) return 0;
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || (unsigned char)*s > 126) return 0;
    return 1;
}

static int check_headers(json_t *headers, yd_err *err)
{
    static const char accepted[] = "at most 8 of Content-Type, Content-Disposition, Content-Language, Cache-Control, Expires, x-amz-*, x-goog-*, "
                                   "x-ms-*, with values of printable ASCII";
    const char *name;
    json_t *value;
    if (!headers) return 0;
    if (!json_is_object(headers) || json_object_size(headers) > YD_ERRAND_HEADERS)
        return yd_fail_field(err, YD_E_SETTING, "result.headers", accepted, "result.headers is no object of at most %d members", YD_ERRAND_HEADERS);
    json_object_foreach(headers, name, value)
        if (!is_token(name) || !is_header_allowed(name) || !is_value(value))
            return yd_fail_field(err, YD_E_SETTING, "result.headers", accepted, "the header '%.64s' is not sent", name);
    return 0;
}

static int check_errand(const yd_config *cfg, yd_out_kind kind, json_t *o, yd_err *err)
{
    char field[32];
    yd_url url;
    json_t *text = json_object_get(o, "url"), *headers = kind == YD_OUT_RESULT ? json_object_get(o, "headers") : NULL;
    snprintf(field, sizeof field, "%s.url", members[kind]);
    if (!json_is_string(text) || json_string_length(text) != strlen(json_string_value(text)) || json_object_size(o) != 1 + (headers != NULL))
        return yd_fail_field(err, YD_E_SETTING, members[kind], kind == YD_OUT_RESULT ? "{\"url\":\"https://...\", \"headers\":{...}}" : "{\"url\":\"https://...\"}",
                             "%s is no object with a url", members[kind]);
    int rc = yd_outgoing_permits(cfg, kind, json_string_value(text), field, &url, err);
    if (!rc) rc = check_headers(headers, err);
    if (rc) return rc;
    json_object_set_new(o, "host", json_string(url.host));
    if (kind == YD_OUT_FETCH) return 0;
    json_object_set_new(o, "state", json_string("waiting"));
    return json_object_set_new(o, "attempts", json_integer(0)) ? yd_fail(err, YD_E_NOMEM, "no memory for another job") : 0;
}

int yd_errands_make(const yd_config *cfg, const json_t *asked, yd_blob **out, yd_err *err)
{
    int rc = 0;
    *out = NULL;
    if (!asked || !json_object_size(asked)) return 0;
    json_t *o = json_deep_copy(asked);
    if (!o) return yd_fail(err, YD_E_NOMEM, "no memory for another job");
    for (int k = 0; k < YD_OUT_COUNT && !rc; k++) {
        json_t *e = json_object_get(o, members[k]);
        if (e) rc = check_errand(cfg, (yd_out_kind)k, e, err);
    }
    if (rc) {
        json_decref(o);
        return rc;
    }
    *out = wrap(o);
    return *out ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for another job");
}

// ---- what is to be done --------------------------------------------------------------------------------------------

static int is_waiting(const json_t *o)
{
    const char *state = json_string_value(json_object_get(o, "state"));
    return state && strcmp(state, "waiting") == 0;
}

// The result comes before the webhook, which can then say what became of it. There is none of a job that did not succeed.
static int next_kind(const json_t *all, yd_job_state state)
{
    if (state == YD_JOB_SUCCEEDED && is_waiting(json_object_get(all, members[YD_OUT_RESULT]))) return YD_OUT_RESULT;
    if (yd_job_state_final(state) && is_waiting(json_object_get(all, members[YD_OUT_WEBHOOK]))) return YD_OUT_WEBHOOK;
    return -1;
}

int yd_errands_due(const yd_blob *errands, yd_job_state state)
{
    json_t *all = unwrap(errands);
    const int due = next_kind(all, state) >= 0;
    json_decref(all);
    return due;
}

static char *header_line(const char *name, const char *value)
{
    const size_t n = strlen(name) + strlen(value) + 3;
    char *line = yd_malloc(n);
    if (line) snprintf(line, n, "%s: %s", name, value);
    return line;
}

static int take(const json_t *o, yd_out_kind kind, yd_errand *out)
{
    const char *url = json_string_value(json_object_get(o, "url")), *name;
    json_t *value, *headers = json_object_get(o, "headers");
    memset(out, 0, sizeof *out);
    if (!url) return 0;
    out->kind = kind;
    out->attempts = (int)json_integer_value(json_object_get(o, "attempts"));
    out->url = yd_strdup(url);
    int bad = !out->url;
    json_object_foreach(headers, name, value) {
        if (bad || out->n_headers == YD_ERRAND_HEADERS || !json_is_string(value)) continue;
        char *line = header_line(name, json_string_value(value));
        if (line)
            out->headers[out->n_headers++] = line;
        else
            bad = 1;
    }
    if (!bad) return 1;
    yd_errand_clear(out);
    return YD_E_NOMEM;
}

int yd_errands_input(const yd_blob *errands, yd_errand *out)
{
    json_t *all = unwrap(errands);
    const int rc = take(json_object_get(all, members[YD_OUT_FETCH]), YD_OUT_FETCH, out);
    json_decref(all);
    return rc;
}

int yd_errands_next(const yd_blob *errands, yd_job_state state, yd_errand *out)
{
    json_t *all = unwrap(errands);
    const int kind = next_kind(all, state);
    memset(out, 0, sizeof *out);
    const int rc = kind < 0 ? 0 : take(json_object_get(all, members[kind]), (yd_out_kind)kind, out);
    json_decref(all);
    return rc;
}

void yd_errand_clear(yd_errand *e)
{
    yd_free(e->url);
    for (size_t i = 0; i < e->n_headers; i++) yd_free(e->headers[i]);
    memset(e, 0, sizeof *e);
}

yd_blob *yd_errands_note(const yd_blob *errands, yd_out_kind kind, const char *problem, int last)
{
    json_t *all = unwrap(errands), *o = json_object_get(all, members[kind]);
    if (!o) {
        json_decref(all);
        return NULL;
    }
    const json_int_t attempts = json_integer_value(json_object_get(o, "attempts")) + 1;
    int bad = kind == YD_OUT_FETCH ? 0 : json_object_set_new(o, "attempts", json_integer(attempts));
    if (problem)
        bad |= json_object_set_new(o, "problem", json_string(problem));
    else
        json_object_del(o, "problem");
    if (!problem || last) {
        json_object_del(o, "url");
        json_object_del(o, "headers");
        if (kind != YD_OUT_FETCH) bad |= json_object_set_new(o, "state", json_string(problem ? "failed" : "delivered"));
    }
    if (!bad) return wrap(all);
    json_decref(all);
    return NULL;
}

json_t *yd_errands_public(const yd_blob *errands)
{
    json_t *all = unwrap(errands), *o;
    for (int k = 0; k < YD_OUT_COUNT; k++) {
        if (!(o = json_object_get(all, members[k]))) continue;
        json_object_del(o, "url");
        json_object_del(o, "headers");
    }
    return all;
}
