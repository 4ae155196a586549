// The life of a request between libmicrohttpd and the handlers.
//
// DESIGN
//   libmicrohttpd calls yd_request_handle first with the head, then for each piece of the body, then once more; and again after each
//   resume of a suspended connection.
//
//       head --begin()--> body --yd_body_append--> dispatch() --handler--> answered
//        |  \refusal, no body: answered at the end    |  \yd_request_wait--> suspended --wake--> r->wake() --> answered | waits on
//        \refusal, body coming: answered at once,     |                        \client gone: drop, resumed, closed
//         the connection lingers and closes           \too large while it comes: last words on the raw socket, closed
//
//   A refusal before the body leaves the client's bytes unread, that is what "checked before it is read" means: with
//   "Expect: 100-continue" nothing was sent yet, otherwise conn_guard.c sees to it that the answer arrives.
//   drop() is the one place where a handler lets go of what it waited for: called once, answered or not, before the request is freed.
// Threads: the loop's. Invariant: suspended implies wake and drop set, the connection watched. Read next: routes.c, jobs.c.
#include "api/request.h"

#include "api/access.h"
#include "api/respond.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/mutant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

// ---- reading the head

const char *yd_request_header(const yd_request *r, const char *name)
{
    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

typedef struct arg_search {
    const char *name, *value;
} arg_search;

static enum MHD_Result match_arg(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    arg_search *a = cls;
    if (!a->value && !strcmp(key, a->name)) a->value = value ? value : "";
    return MHD_YES;
}

const char *yd_request_arg(const yd_request *r, const char *name)
{
    arg_search a = {name, NULL};
    MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, match_arg, &a);
    return a.value;
}

int yd_request_arg_int(const yd_request *r, const char *name, int64_t lo, int64_t hi, int64_t *out, yd_err *err)
{
    const char *text = yd_request_arg(r, name);
    if (!text) return 0;
    char *end = NULL;
    const long long v = strtoll(text, &end, 10);
    if (end != text && !*end && v >= lo && v <= hi) {
        *out = v;
        return 0;
    }
    char accepted[80];
    snprintf(accepted, sizeof accepted, "an integer from %lld to %lld", (long long)lo, (long long)hi);
    return yd_fail_field(err, YD_E_SETTING, name, accepted, "%s is no integer in its range", name);
}

int yd_request_prefers(const yd_request *r, const char *type, const char *other)
{
    const char *accept = yd_request_header(r, "Accept");
    if (!accept) return 0;
    const char *a = strcasestr(accept, type), *b = strcasestr(accept, other);
    return a && (!b || a < b);
}

typedef struct arg_check {
    const char *known; // separated by spaces
    int token;         // "token" besides
    yd_err *err;
    int rc;
} arg_check;

static int listed(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (const char *p = list; n && (p = strstr(p, word)); p++)
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return 1;
    return 0;
}

static enum MHD_Result check_arg(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    (void)value;
    arg_check *c = cls;
    if (c->rc || listed(c->known, key) || (c->token && strcmp(key, "token") == 0)) return MHD_YES;
    c->rc = yd_fail_field(c->err, YD_E_SETTING, key, c->known[0] ? c->known : "none",
                          "this address has no argument of that name");
    return MHD_YES;
}

static int judge_args(yd_request *r, yd_err *err)
{
    if (!r->match.route->args) return 0;
    arg_check c = {r->match.route->args, r->match.route->token, err, 0};
    MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, check_arg, &c);
    return c.rc;
}

int yd_request_id_is_plain(const char *s)
{
    const size_t n = s ? strlen(s) : 0;
    return n > 0 && n < YD_REQUEST_ID_MAX &&
           n == strspn(s, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-");
}

// version-trace-parent-flags
int yd_trace_is_plain(const char *s)
{
    static const char form[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    if (!s || strlen(s) != sizeof form - 1 || strncmp(s, "ff", 2) == 0) return 0;
    for (size_t i = 0; form[i]; i++)
        if (form[i] == '-' ? s[i] != '-' : !strchr("0123456789abcdef", s[i])) return 0;
    return strspn(s + 3, "0") < 32 && strspn(s + 36, "0") < 16;
}

static void take_ids(yd_request *r)
{
    const char *given = yd_request_header(r, "X-Request-Id"), *trace = yd_request_header(r, "traceparent");
    if (yd_trace_is_plain(trace)) memcpy(r->trace, trace, 56);
    if (yd_request_id_is_plain(given)) {
        snprintf(r->id, sizeof r->id, "%s", given);
        return;
    }
    unsigned char random[16];
    if (getrandom(random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        memcpy(random, &r->began_us, sizeof r->began_us); // before the kernel has entropy: unique enough for a log line
    for (size_t i = 0; i < sizeof random; i++) snprintf(r->id + 2 * i, 3, "%02x", random[i]);
}

// "http://host/path" is as good as "/path".
static const char *origin_form(const char *url)
{
    const char *rest = !strncasecmp(url, "http://", 7) ? strchr(url + 7, '/') : NULL;
    return rest ? rest : url;
}

static int find_route(yd_request *r, const char *path, yd_err *err)
{
    yd_route_find(yd_routes, yd_routes_count, r->method, path, &r->match);
    if (r->match.route || (r->match.allowed && r->method == YD_OPTIONS)) return 0;
    if (!r->match.allowed) return yd_fail(err, YD_E_NOT_FOUND, "there is no such resource; /openapi.json lists them");
    char allow[64];
    yd_methods_print(r->match.allowed | YD_OPTIONS, allow, sizeof allow);
    return yd_fail_field(err, YD_E_METHOD, "", allow, "%s is not among this resource's methods", r->method_text);
}

// Everything that can be known before the body. 0, or the code of what is wrong.
static int judge_head(yd_request *r, const char *path, yd_err *err)
{
    const int proxy = yd_access_client(r);
    if (!proxy && yd_conn_over_limit(r->conn))
        return yd_fail(err, YD_E_LIMIT, "more than %lld connections from one address",
                       (long long)r->api->cfg->max_connections_per_ip);
    int rc = find_route(r, path, err);
    yd_err framing = {0};
    const int bad_framing =
        yd_body_begin(r, &framing); // also for unknown paths: it decides whether the connection can go on
    if (bad_framing && (!rc || bad_framing == YD_E_INVALID)) *err = framing;
    if (rc || bad_framing) return err->code;
    if (!r->match.route) return 0; // OPTIONS
    rc = yd_access_judge(r, err);
    if (!rc) rc = judge_args(r, err);
    if (!rc && r->match.route->body == YD_BODY_PICTURE) rc = yd_service_admit(r->service, r->body.announced, err);
    return rc;
}

static const yd_err no_memory = {.code = YD_E_NOMEM, .detail = "no memory to say what is wrong"};

// Refusals are rare and their words take room, which the many requests that wait quietly need not carry.
static const yd_err *keep(const yd_err *err)
{
    yd_err *kept = yd_malloc(sizeof *kept);
    if (!kept) return &no_memory;
    *kept = *err;
    return kept;
}

static void *volatile lost; // where a build with a leak forgets what it has

static yd_request *begin(yd_api *api, struct MHD_Connection *mhd, const char *url, const char *method)
{
    const union MHD_ConnectionInfo *conn = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    // While stopping nobody may begin to wait any more: libmicrohttpd aborts when it is stopped with suspended connections.
    yd_request *r = conn && conn->socket_context && !api->stopping ? yd_calloc(1, sizeof *r) : NULL;
    if (!r) return NULL;
    if (YD_BROKEN(LEAK)) lost = yd_calloc(1, 64);
    r->api = api;
    r->service = api->service;
    r->mhd = mhd;
    r->conn = conn->socket_context;
    r->owner = "";
    r->began_us = yd_mono_us();
    r->method = yd_method_parse(method);
    snprintf(r->method_text, sizeof r->method_text, "%s", method);
    const char *path = origin_form(url);
    snprintf(r->path, sizeof r->path, "%s", path);
    take_ids(r);
    yd_list_append(&api->requests, &r->in_api);
    yd_err err = {0};
    if (judge_head(r, path, &err)) r->refusal = keep(&err);
    yd_conn_enter(r->conn, YD_CONN_BODY, 0);
    return r;
}

// ---- answering

static void answer_options(yd_request *r)
{
    char allow[64];
    yd_methods_print(r->match.allowed | YD_OPTIONS, allow, sizeof allow);
    struct MHD_Response *resp = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (resp) {
        yd_header(resp, "Allow", allow);
        yd_access_preflight(r, resp);
    }
    yd_respond(r, 204, resp, 0);
}

static void on_synced(void *arg)
{
    yd_request *r = arg;
    r->wait = NULL;
    yd_request_wake(r);
}

static void drop_sync(yd_request *r)
{
    yd_sync_forget(r->wait);
}

static void handle_synced(yd_request *r)
{
    r->wake = r->drop = NULL;
    r->match.route->handle(r);
}

static void dispatch(yd_request *r)
{
    yd_sync *sync = NULL;
    yd_conn_enter(r->conn, YD_CONN_WORKING, 0);
    if (r->refusal)
        yd_respond_problem(r, r->refusal);
    else if (!r->match.route)
        answer_options(r);
    else if (r->match.route->stored && (sync = yd_service_sync(r->service, on_synced, r)))
        yd_request_wait(r, handle_synced, drop_sync, sync);
    else
        r->match.route->handle(r);
}

// What a handler must have done by the time it returns.
static enum MHD_Result settle(yd_request *r)
{
    return r->answered || r->suspended ? MHD_YES : MHD_NO;
}

// In the middle of a body no response can be queued: say it on the socket and close.
static enum MHD_Result refuse_midway(yd_request *r, const yd_err *err)
{
    const yd_err_info *info = yd_err_lookup(err->code);
    char text[1024];
    const int n =
        snprintf(text, sizeof text,
                 "HTTP/1.1 %d Refused\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
                 "X-Request-Id: %s\r\n\r\n"
                 "{\"type\":\"/problems/%s\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s\",\"request_id\":\"%s\"}\n",
                 info->http_status, r->id, info->slug, info->title, info->http_status, err->detail, r->id);
    if (n > 0 && (size_t)n < sizeof text) yd_conn_last_words(r->conn, text, (size_t)n);
    r->status = info->http_status;
    yd_metrics_rejected(yd_service_metrics(r->service), info->slug);
    yd_body_clear(r);
    return MHD_NO;
}

static enum MHD_Result take_body(yd_request *r, const char *data, size_t *size)
{
    yd_err err = {0};
    if (YD_BROKEN(BYTE_DEADLINE)) yd_conn_enter(r->conn, YD_CONN_BODY, 0);
    yd_conn_received(r->conn, *size);
    if (yd_body_append(r, data, *size, &err)) return refuse_midway(r, &err);
    *size = 0;
    return MHD_YES;
}

enum MHD_Result yd_request_handle(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **context)
{
    (void)version;
    yd_request *r = *context;
    if (!r) {
        *context = r = begin(cls, mhd, url, method);
        if (!r) return MHD_NO;
        if (!r->refusal || !r->body.present) return MHD_YES;
        yd_conn_linger(r->conn);
        r->closing = 1; // what follows is a body, or worse: something that only pretends to be one
        yd_respond_problem(r, r->refusal);
        return settle(r);
    }
    if (r->gone) return MHD_NO;
    if (*size) return take_body(r, data, size);
    if (r->wake)
        r->wake(r);
    else
        dispatch(r);
    return settle(r);
}

// ---- waiting

void yd_request_release(yd_request *r)
{
    void (*drop)(yd_request *) = r->drop;
    r->drop = NULL;
    if (drop) drop(r);
    r->wait = NULL;
}

static void on_gone(void *ctx)
{
    yd_request *r = ctx;
    r->gone = 1;
    yd_request_release(r);
    yd_request_wake(r);
}

void yd_request_wait(yd_request *r, void (*wake)(yd_request *), void (*drop)(yd_request *), void *wait)
{
    r->wake = wake;
    r->drop = drop;
    r->wait = wait;
    if (r->suspended) return;
    r->suspended = 1;
    MHD_suspend_connection(r->mhd);
    if (yd_conn_watch(r->conn, on_gone, r)) on_gone(r); // out of memory: better no answer than a job nobody waits for
}

void yd_request_wake(yd_request *r)
{
    if (!r->suspended) return;
    r->suspended = 0;
    yd_conn_unwatch(r->conn);
    MHD_resume_connection(r->mhd);
    yd_api_kick(r->api);
}

void yd_requests_end_all(yd_api *api)
{
    for (yd_link *l = api->requests.next, *next; l != &api->requests; l = next) {
        next = l->next;
        yd_request *r = YD_CONTAINER(l, yd_request, in_api);
        if (r->suspended) on_gone(r);
    }
}

// ---- the end

static void log_request(const yd_request *r)
{
    char status[16], bytes[32], ms[32];
    snprintf(status, sizeof status, "%d", r->status);
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)r->sent_bytes);
    snprintf(ms, sizeof ms, "%.3f", (double)(yd_mono_us() - r->began_us) / 1000.0);
    const int quiet = r->match.route && r->match.route->quiet && r->status < 400;
    const char *also[6] = {NULL}; // pairs; the first that is missing ends the line
    size_t n = 0;
    if (r->owner[0]) also[n++] = "owner", also[n++] = r->owner;
    if (r->trace[0]) also[n++] = "traceparent", also[n++] = r->trace;
    if (r->scheme[0]) also[n++] = "scheme", also[n++] = r->scheme;
    yd_log(quiet ? YD_LOG_DEBUG : YD_LOG_INFO, r->id, "request", "method", r->method_text, "path", r->path, "#status",
           status, "#bytes", bytes, "#ms", ms, "peer", r->client, "outcome", r->answered ? "answered" : "abandoned",
           also[0], also[1], also[2], also[3], also[4], also[5], NULL);
}

void yd_request_completed(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why)
{
    (void)cls;
    (void)mhd;
    yd_request *r = *context;
    *context = NULL;
    if (!r) return;
    if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK) r->gone = 1;
    yd_conn_unwatch(r->conn);
    yd_request_release(r);
    if (!r->status && yd_conn_expired(r->conn)) r->status = 408;
    if (!r->status) r->status = 499; // the client went away before there was an answer
    log_request(r);
    yd_conn_enter(r->conn, YD_CONN_IDLE, 0);
    yd_link_remove(&r->in_api);
    yd_body_clear(r);
    yd_free(r->only);
    if (r->refusal != &no_memory) yd_free((void *)(uintptr_t)r->refusal);
    yd_free(r);
}
