// Judging a request's head: owner, scope, rate; and what browsers add to it. What proxies add is in forwarded.c.
// Order: the route is known -> token, if the route takes one and there is one -> key -> scope -> rate -> jobs at a time.
// Threads: the loop's. Read next: core/keys.h.
#include "api/access.h"

#include "api/respond.h"
#include "api/stream.h"
#include "core/hmac.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include "core/keys.h"
#include "daemon/address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#define MAC_HEX    64
#define JOBS_TEXT  (YD_STREAM_JOBS * YD_PARAM_MAX)
#define TOKEN_MOST (24 + YD_OWNER_MAX + JOBS_TEXT + MAC_HEX + 4)

// ---- the secret ----------------------------------------------------------------------------------------------------

static int make_secret(uint8_t secret[32], yd_err *err)
{
    if (getrandom(secret, 32, 0) == 32) return 0;
    return yd_fail(err, YD_E_IO, "no random numbers: %s", strerror(errno));
}

// Whole or not at all, and once: processes that share the folder may make one in the same moment, and the first one's counts.
static int write_secret(const char *path, yd_err *err)
{
    char own[YD_TEXT_MAX + 64];
    uint8_t secret[32];
    const int rc = make_secret(secret, err);
    if (rc) return rc;
    snprintf(own, sizeof own, "%s.%ld", path, (long)getpid());
    unlink(own);
    const int fd = open(own, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return yd_fail(err, YD_E_IO, "%.250s: %s", own, strerror(errno));
    int bad = write(fd, secret, sizeof secret) != sizeof secret || fsync(fd) != 0;
    bad |= close(fd) != 0;
    bad = bad || (link(own, path) && errno != EEXIST);
    const int why = errno;
    unlink(own);
    return bad ? yd_fail(err, YD_E_IO, "%.250s cannot be written: %s", path, strerror(why)) : 0;
}

int yd_access_open(yd_api *api, yd_err *err)
{
    char path[YD_TEXT_MAX + 32];
    const uint8_t *shared = yd_service_secret(api->service);
    if (shared) memcpy(api->token_secret, shared, sizeof api->token_secret);
    if (shared) return 0;
    if (!*api->cfg->state_dir) return make_secret(api->token_secret, err);
    snprintf(path, sizeof path, "%s/tokens.secret", api->cfg->state_dir);
    for (int tries = 0; tries < 3; tries++) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        const ssize_t n = fd < 0 ? 0 : read(fd, api->token_secret, 32);
        if (fd >= 0) close(fd);
        if (n == 32) return 0;
        if (fd >= 0) unlink(path); // of an earlier version, cut short by a crash: tokens made with it are over
        const int rc = write_secret(path, err);
        if (rc) return rc;
    }
    return yd_fail(err, YD_E_IO, "%.250s cannot be read", path);
}

// ---- tokens --------------------------------------------------------------------------------------------------------

static void sign(const yd_api *api, const char *text, size_t len, char hex[MAC_HEX + 1])
{
    static const char purpose[] = "yodad stream token\n";
    const yd_hmac_piece piece[] = {{purpose, sizeof purpose - 1}, {text, len}};
    uint8_t mac[32];
    yd_hmac_sha256(api->token_secret, sizeof api->token_secret, piece, 2, mac);
    for (size_t i = 0; i < sizeof mac; i++) snprintf(hex + 2 * i, 3, "%02x", mac[i]);
}

// The next part of a token, up to a dot: its length, 0 when there is none. Owners may have dots, so theirs is found from the end.
static int split_token(char *text, char **owner, char **jobs, char **mac)
{
    char *dot = strchr(text, '.'), *last = strrchr(text, '.');
    if (!dot || last == dot) return -1;
    *last = '\0';
    *mac = last + 1;
    char *before = strrchr(text, '.');
    if (before == dot) return -1;
    *before = *dot = '\0';
    *owner = dot + 1;
    *jobs = before + 1;
    return strlen(*mac) == MAC_HEX ? 0 : -1;
}

static int refuse_token(const char *why, yd_err *err)
{
    return yd_fail_field(err, YD_E_UNAUTHORIZED, "token", "a token of POST /v1/tokens that has not ended", "%s", why);
}

// Is an id of n bytes in a list with commas?
static int is_listed(const char *list, const char *id, size_t n)
{
    for (const char *p = list; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ','))
        if (n && strcspn(p, ",") == n && memcmp(p, id, n) == 0) return 1;
    return 0;
}

// A stream over several jobs is for those of the token when it names none.
static int check_named(yd_request *r, const char *jobs, yd_err *err)
{
    const char *named = yd_request_arg(r, "jobs");
    for (const char *p = named ? named : ""; *p; p += strcspn(p, ","), p += *p == ',')
        if (!is_listed(jobs, p, strcspn(p, ","))) return refuse_token("the token is for other jobs", err);
    r->only = yd_strdup(jobs);
    return r->only ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a token");
}

static int check_jobs(yd_request *r, const char *jobs, yd_err *err)
{
    if (strcmp(jobs, "-") == 0) return 0;
    if (!*r->match.param) return check_named(r, jobs, err);
    return is_listed(jobs, r->match.param, strlen(r->match.param)) ? 0 : refuse_token("the token is another job's", err);
}

// 0: *who is the name in the table.
static int check_token(yd_request *r, const char *token, const char **who, yd_err *err)
{
    char text[TOKEN_MOST], expected[MAC_HEX + 1], *owner, *jobs, *mac, *end;
    if (strlen(token) >= sizeof text) return refuse_token("the token is none of this server's", err);
    memcpy(text, token, strlen(token) + 1);
    const char *signed_end = strrchr(token, '.');
    if (!signed_end || split_token(text, &owner, &jobs, &mac)) return refuse_token("the token is none of this server's", err);
    sign(r->api, token, (size_t)(signed_end - token), expected);
    if (!yd_equal_secret(expected, mac, MAC_HEX)) return refuse_token("the token is none of this server's", err);
    const long long expires = strtoll(text, &end, 10);
    if (*end || expires * 1000 <= yd_wall_ms()) return refuse_token("the token has ended", err);
    const int rc = check_jobs(r, jobs, err);
    if (rc) return rc;
    *who = yd_keys_owner(yd_service_keys(r->service), owner, YD_SCOPE_READ);
    return *who ? 0 : refuse_token("the token's owner has no key any more that reads", err);
}

// Which jobs: one by `job`, several by `jobs`, "-" for all. They must be the owner's.
static int take_jobs(const yd_request *r, char text[JOBS_TEXT], json_t **list, yd_err *err)
{
    const char *one = yd_request_arg(r, "job"), *several = yd_request_arg(r, "jobs"), *p = one ? one : several;
    char id[YD_PARAM_MAX];
    size_t len = 0, n;
    yd_job *j;
    if (one && several) return yd_fail_field(err, YD_E_SETTING, "jobs", "either job or jobs", "the jobs are named twice");
    snprintf(text, JOBS_TEXT, "-");
    for (; p && (len == 0 || *p); p += *p == ',') {
        n = one ? strlen(p) : strcspn(p, ",");
        if (json_array_size(*list) == YD_STREAM_JOBS) return yd_fail_field(err, YD_E_SETTING, "jobs", "at most 64 ids of jobs, separated by commas", "more jobs are named");
        snprintf(id, sizeof id, "%.*s", (int)(n < sizeof id ? n : sizeof id), p);
        const int rc = yd_service_find(r->service, r->owner, id, &j, err);
        if (rc) return rc;
        len += (size_t)snprintf(text + len, JOBS_TEXT - len, "%s%s", len ? "," : "", id);
        if (json_array_append_new(*list, json_string(id))) return yd_fail(err, YD_E_NOMEM, "no memory for a token");
        p += n;
    }
    return 0;
}

static void answer_token(yd_request *r, const char *jobs, json_t *list, int64_t ttl_s)
{
    char text[TOKEN_MOST], mac[MAC_HEX + 1], when[YD_RFC3339_MAX];
    const int64_t expires_s = yd_wall_ms() / 1000 + ttl_s;
    const int n = snprintf(text, sizeof text - MAC_HEX - 1, "%lld.%s.%s", (long long)expires_s, r->owner, jobs);
    sign(r->api, text, (size_t)n, mac);
    yd_rfc3339(expires_s * 1000, when, sizeof when);
    snprintf(text + n, sizeof text - (size_t)n, ".%s", mac);
    json_t *answer = json_pack("{s:s, s:s, s:I, s:s?}", "token", text, "expires", when, "ttl_s", (json_int_t)ttl_s, "job", yd_request_arg(r, "job"));
    if (yd_request_arg(r, "jobs")) json_object_set(answer, "jobs", list);
    yd_respond_json(r, 201, answer);
}

void yd_handle_tokens_post(yd_request *r)
{
    yd_err err = {0};
    int64_t ttl_s = r->api->cfg->stream_token_ttl_s;
    char jobs[JOBS_TEXT];
    json_t *list = json_array();
    int rc = list ? take_jobs(r, jobs, &list, &err) : yd_fail(&err, YD_E_NOMEM, "no memory for a token");
    if (!rc) rc = yd_request_arg_int(r, "ttl_s", 1, ttl_s, &ttl_s, &err);
    if (!rc && !yd_service_keys(r->service))
        rc = yd_fail(&err, YD_E_CONFLICT, "nobody is asked for a key here, so streams need no token");
    if (rc)
        yd_respond_problem(r, &err);
    else
        answer_token(r, jobs, list, ttl_s);
    json_decref(list);
}

// ---- keys ----------------------------------------------------------------------------------------------------------

static const char *bearer(const yd_request *r)
{
    const char *text = yd_request_header(r, "Authorization");
    if (!text || strncasecmp(text, "Bearer ", 7) != 0) return NULL;
    text += 7;
    return text + strspn(text, " ");
}

static const char *scope_name(unsigned scope)
{
    return scope == YD_SCOPE_SUBMIT ? "submit" : scope == YD_SCOPE_METRICS ? "metrics" : scope == YD_SCOPE_ADMIN ? "admin" : "read";
}

static int check_key(const yd_request *r, const char **who, yd_err *err)
{
    const char *key = bearer(r);
    unsigned scopes = 0;
    if (!key) return yd_fail_field(err, YD_E_UNAUTHORIZED, "Authorization", "Bearer and a key", "this server asks for a key");
    int rc = yd_keys_check(yd_service_keys(r->service), key, who, &scopes, err);
    if (rc || (scopes & r->match.route->scope)) return rc;
    return yd_fail_field(err, YD_E_FORBIDDEN, "Authorization", scope_name(r->match.route->scope), "this key lacks the scope '%s'",
                         scope_name(r->match.route->scope));
}

// Where nobody is asked for a key, only who sits at the machine administers it: not who comes through a proxy, nor a page in a browser.
static int check_local(const yd_request *r, yd_err *err)
{
    static const char *const foreign[] = {"Origin", "X-Forwarded-For", "Forwarded"};
    int local = yd_address_named(yd_conn_peer(r->conn), "127.0.0.0/8, ::1/128") == 1;
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) local &= yd_request_header(r, foreign[i]) == NULL;
    if (local) return 0;
    return yd_fail_field(err, YD_E_FORBIDDEN, "Authorization", "a key with the scope 'admin', or a call from the machine itself",
                         "this server has no keys, so models are loaded and unloaded from loopback only");
}

int yd_access_judge(yd_request *r, yd_err *err)
{
    yd_keys *keys = yd_service_keys(r->service);
    const char *who = "", *token = r->match.route->token ? yd_request_arg(r, "token") : NULL;
    if (!keys && r->match.route->scope == YD_SCOPE_ADMIN) return check_local(r, err);
    if (!keys || r->match.route->scope == YD_SCOPE_PUBLIC) return 0;
    int rc = token && !bearer(r) ? check_token(r, token, &who, err) : check_key(r, &who, err);
    if (!rc) rc = yd_service_request(r->service, who, err);
    if (!rc && r->match.route->body == YD_BODY_PICTURE) rc = yd_service_admit_owner(r->service, who, err);
    if (rc) return rc;
    snprintf(r->owner_name, sizeof r->owner_name, "%s", who); // the table may be replaced while the request lasts
    r->owner = r->owner_name;
    return 0;
}

// ---- other origins -------------------------------------------------------------------------------------------------

// The value for Access-Control-Allow-Origin, or NULL.
static const char *allowed_origin(const yd_request *r)
{
    const char *list = r->api->cfg->cors_origins, *origin = *list ? yd_request_header(r, "Origin") : NULL;
    if (!origin || !*origin) return NULL;
    for (const char *s = list; *s;) {
        s += strspn(s, ", ");
        const size_t n = strcspn(s, ", ");
        if (n == 1 && *s == '*') return "*";
        if (n && strlen(origin) == n && strncasecmp(s, origin, n) == 0) return origin;
        s += n;
    }
    return NULL;
}

void yd_access_headers(const yd_request *r, struct MHD_Response *resp)
{
    if (*r->api->cfg->cors_origins) yd_header(resp, "Vary", "Origin");
    const char *origin = allowed_origin(r);
    if (!origin) return;
    yd_header(resp, "Access-Control-Allow-Origin", origin);
    yd_header(resp, "Access-Control-Expose-Headers",
              "Location, ETag, Retry-After, X-Request-Id, X-Durability, Idempotency-Replayed, Content-Digest, Content-Range, Content-Disposition, traceparent");
}

void yd_access_preflight(const yd_request *r, struct MHD_Response *resp)
{
    char allow[64];
    if (!allowed_origin(r) || !yd_request_header(r, "Access-Control-Request-Method")) return;
    yd_methods_print(r->match.allowed, allow, sizeof allow);
    yd_header(resp, "Access-Control-Allow-Methods", allow);
    yd_header(resp, "Access-Control-Allow-Headers",
              "Authorization, Content-Type, Accept, Idempotency-Key, If-None-Match, If-Range, Last-Event-ID, Prefer, Range, Webhook-URL, X-Request-Id, traceparent");
    yd_header(resp, "Access-Control-Max-Age", "600");
}
