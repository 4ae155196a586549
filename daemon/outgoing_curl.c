// One transfer by libcurl: its options, what may come back, and what its end means. On the outgoing thread.
//
// Redirects are followed here and not by libcurl, so that each is a new request, held to the same lists as the first and bare of anything
// that was meant for another host. What is received counts towards a sum that all fetches share, until the caller has it.
#include "daemon/outgoing.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_CAP    65536
#define HEADERS_MOST 65536 // of an answer, redirects included
#define IGNORED_MOST 65536 // of an answer's body that nobody reads

typedef struct transfer { // what callbacks need beside the call
    const yd_config *cfg;
    atomic_size_t *received;
} transfer;

// The two are the same for every call of a process; the thread sets them with each handle.
static _Thread_local transfer now;

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    yd_out_call *c = arg;
    (void)purpose;
    const char *refused = yd_address_refused(&a->addr, now.cfg->outgoing_networks);
    if (refused) {
        c->refused = refused;
        return CURL_SOCKET_BAD;
    }
    c->opened++;
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

// A connection that is used again was made by the networks of its time, which may have changed since.
static int judge_connection(void *arg, char *address, char *local, int port, int local_port)
{
    yd_out_call *c = arg;
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    const int is_six = strchr(address, ':') != NULL;
    (void)local;
    (void)port;
    (void)local_port;
    if (inet_pton(is_six ? AF_INET6 : AF_INET, address, is_six ? (void *)&six.sin6_addr : (void *)&four.sin_addr) != 1) return CURL_PREREQFUNC_ABORT;
    c->refused = yd_address_refused(is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four, now.cfg->outgoing_networks);
    if (c->refused) c->opened = 0;
    return c->refused ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

static size_t take_header(char *data, size_t size, size_t n, void *arg)
{
    yd_out_call *c = arg;
    static const char name[] = "retry-after:";
    c->header_bytes += size * n;
    if (c->header_bytes > HEADERS_MOST) return 0;
    if (n > sizeof name && strncasecmp(data, name, sizeof name - 1) == 0) {
        char value[16] = "", *end;
        const size_t len = n - (sizeof name - 1);
        memcpy(value, data + sizeof name - 1, len < sizeof value - 1 ? len : sizeof value - 1);
        const long s = strtol(value, &end, 10); // a date is not understood, which is no error
        if (end != value && s > 0 && s < 1000000) c->retry_after_ms = s * 1000;
    }
    return n;
}

static int grow(yd_out_call *c, size_t need)
{
    const size_t most = (size_t)now.cfg->max_body_bytes;
    size_t cap = c->cap ? c->cap : FIRST_CAP;
    while (cap < need) cap = cap > most / 2 ? most : 2 * cap;
    const size_t more = cap - c->cap;
    if (atomic_fetch_add(now.received, more) + more > (size_t)now.cfg->max_queue_bytes) {
        atomic_fetch_sub(now.received, more);
        c->no_room = 1;
        return -1;
    }
    uint8_t *p = yd_realloc(c->bytes, cap);
    if (!p) {
        atomic_fetch_sub(now.received, more);
        c->no_room = 1;
        return -1;
    }
    c->bytes = p;
    c->cap = cap;
    return 0;
}

static size_t take_body(char *data, size_t size, size_t n, void *arg)
{
    yd_out_call *c = arg;
    size_t need;
    (void)size; // 1
    if (yd_add_size(c->len, n, &need)) return 0;
    long status = 0;
    curl_easy_getinfo((CURL *)c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (c->kind != YD_OUT_FETCH || status != 200) { // nobody reads it, but the connection may be used again
        c->len = need;
        return need > IGNORED_MOST ? 0 : n;
    }
    if (need > (size_t)now.cfg->max_body_bytes) {
        c->too_large = 1;
        return 0;
    }
    if (need > c->cap && grow(c, need)) return 0;
    memcpy(c->bytes + c->len, data, n);
    c->len = need;
    return n;
}

static size_t give_body(char *dst, size_t size, size_t n, void *arg)
{
    yd_out_call *c = arg;
    const size_t left = c->body_len - c->sent, k = left < size * n ? left : size * n;
    if (k) memcpy(dst, (const char *)c->body + c->sent, k);
    c->sent += k;
    return k;
}

static int rewind_body(void *arg, curl_off_t offset, int origin)
{
    yd_out_call *c = arg;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > c->body_len) return CURL_SEEKFUNC_CANTSEEK;
    c->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

// ---- options -------------------------------------------------------------------------------------------------------

static long limited(int64_t ms)
{
    return ms < 1 ? 1 : ms > 100000000 ? 100000000 : (long)ms;
}

static CURLcode set_limits(CURL *e, const yd_out_call *c)
{
    const yd_config *cfg = now.cfg;
    CURLcode rc = curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, cfg->outgoing_http ? "https,http" : "https");
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_PROXY, "");
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (!rc && *cfg->outgoing_ca_file) rc = curl_easy_setopt(e, CURLOPT_CAINFO, cfg->outgoing_ca_file);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, limited(cfg->outgoing_connect_ms));
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, limited((c->deadline_us - yd_mono_us()) / 1000));
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, limited(cfg->outgoing_min_rate));
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_LOW_SPEED_TIME, limited(cfg->outgoing_stall_s));
    return rc;
}

static CURLcode set_callbacks(CURL *e, yd_out_call *c)
{
    CURLcode rc = curl_easy_setopt(e, CURLOPT_PRIVATE, c);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->why);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_OPENSOCKETDATA, c);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, judge_connection);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_PREREQDATA, c);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, take_header);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_READFUNCTION, give_body);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_READDATA, c);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, rewind_body);
    if (!rc) rc = curl_easy_setopt(e, CURLOPT_SEEKDATA, c);
    return rc;
}

static CURLcode set_method(CURL *e, const yd_out_call *c)
{
    const curl_off_t len = (curl_off_t)c->body_len;
    CURLcode rc;
    switch (c->kind) {
    case YD_OUT_RESULT:
        rc = curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        return rc ? rc : curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, len);
    case YD_OUT_WEBHOOK:
        rc = curl_easy_setopt(e, CURLOPT_POST, 1L);
        return rc ? rc : curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, len);
    case YD_OUT_FETCH:
    case YD_OUT_COUNT: break;
    }
    return curl_easy_setopt(e, CURLOPT_HTTPGET, 1L);
}

// "Expect:" keeps libcurl from asking first, which many receivers answer late or never.
static int set_headers(CURL *e, yd_out_call *c)
{
    struct curl_slist *list = NULL, *longer = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; longer && i < c->n_headers; i++) {
        list = longer;
        longer = curl_slist_append(list, c->headers[i]);
    }
    if (!longer) {
        curl_slist_free_all(list);
        return -1;
    }
    c->list = longer;
    return curl_easy_setopt(e, CURLOPT_HTTPHEADER, longer) ? -1 : 0;
}

int yd_out_prepare(yd_out_call *c, const yd_config *cfg, atomic_size_t *received)
{
    now = (transfer){cfg, received};
    if (!c->deadline_us) c->deadline_us = yd_mono_us() + cfg->outgoing_total_ms * 1000;
    c->sent = c->len = 0;
    c->refused = NULL;
    c->opened = 0;
    c->status = 0;
    c->why[0] = 0;
    CURL *e = c->easy = curl_easy_init();
    if (e && !set_limits(e, c) && !set_callbacks(e, c) && !set_method(e, c) && !set_headers(e, c) &&
        !curl_easy_setopt(e, CURLOPT_USERAGENT, "yodad/" YD_VERSION) && !curl_easy_setopt(e, CURLOPT_URL, c->at ? c->at : c->url))
        return 0;
    return yd_fail(&c->err, YD_E_NOMEM, "no memory for a request to %s", c->target.host);
}

void yd_out_release(yd_out_call *c)
{
    if (c->easy) curl_easy_cleanup((CURL *)c->easy);
    curl_slist_free_all(c->list);
    c->easy = c->list = NULL;
}

// ---- the end -------------------------------------------------------------------------------------------------------

// 1: follow; 0: no redirect; negative: one that is not followed.
static int redirected(yd_out_call *c, const yd_config *cfg)
{
    char *to = NULL;
    if (c->kind != YD_OUT_FETCH || c->status < 300 || c->status > 399) return 0;
    curl_easy_getinfo((CURL *)c->easy, CURLINFO_REDIRECT_URL, &to);
    if (!to) return 0;
    if (++c->redirects > cfg->outgoing_redirects)
        return yd_fail(&c->err, YD_E_UPSTREAM, "%s redirects further than %lld times", c->target.host, (long long)cfg->outgoing_redirects);
    const yd_url from = c->target;
    yd_err why;
    if (yd_outgoing_permits(cfg, c->kind, to, "input.url", &c->target, &why))
        return yd_fail(&c->err, YD_E_ADDRESS, "%.64s redirects to where the server does not connect: %.200s", from.host, why.detail);
    if (from.secure && !c->target.secure) return yd_fail(&c->err, YD_E_ADDRESS, "%s redirects to a URL without encryption", from.host);
    char *copy = yd_strdup(to);
    if (!copy) return yd_fail(&c->err, YD_E_NOMEM, "no memory for a redirect");
    yd_free(c->at);
    c->at = copy;
    return 1;
}

static int judge_failure(yd_out_call *c, int code, yd_err *err)
{
    const char *host = c->target.host;
    if (c->too_large)
        return yd_fail(err, YD_E_BODY_TOO_LARGE, "what %s sends has more than %lld bytes", host, (long long)now.cfg->max_body_bytes);
    c->again = 1;
    if (c->no_room) return yd_fail(err, YD_E_QUEUE_FULL, "pictures that are being fetched fill the memory that is set aside for them");
    if (c->refused && !c->opened) {
        c->again = 0;
        return yd_fail(err, YD_E_ADDRESS, "%s is %s, to which the server does not connect", host, c->refused);
    }
    if (code == CURLE_OPERATION_TIMEDOUT) return yd_fail(err, YD_E_UPSTREAM, "%s did not answer in time, or too slowly", host);
    return yd_fail(err, YD_E_UPSTREAM, "%s could not be asked: %.200s", host, *c->why ? c->why : curl_easy_strerror((CURLcode)code));
}

static int judge_status(yd_out_call *c, yd_err *err)
{
    const long s = c->status;
    if (c->kind == YD_OUT_FETCH ? s == 200 : s >= 200 && s <= 299) return 0;
    // Whoever is told may be repaired, a signed address that is refused stays so.
    c->again = c->kind == YD_OUT_WEBHOOK ? s != 410 : s >= 500 || s == 408 || s == 425 || s == 429;
    return yd_fail(err, YD_E_UPSTREAM, "%s answered %ld", c->target.host, s);
}

int yd_out_judge(yd_out_call *c, const yd_config *cfg, int code)
{
    curl_easy_getinfo((CURL *)c->easy, CURLINFO_RESPONSE_CODE, &c->status);
    // An answer whose body nobody reads is complete with its head.
    if (code == CURLE_WRITE_ERROR && c->status && !c->too_large && !c->no_room && (c->kind != YD_OUT_FETCH || c->status != 200)) code = CURLE_OK;
    if (code != CURLE_OK) {
        c->rc = judge_failure(c, code, &c->err);
        return 0;
    }
    const int follow = redirected(c, cfg);
    if (follow > 0) return 1;
    c->rc = follow ? follow : judge_status(c, &c->err);
    return 0;
}
