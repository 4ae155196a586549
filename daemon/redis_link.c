// Connections to Redis on libuv: see redis_link.h.
//
// A watcher is the poll handle of one context. hiredis ends a context from inside its own read and write functions (cleanup): the watcher lives
// on until libuv has closed it, and knows by then that its context is gone. It refers to nothing else that could go before it.
#include "daemon/redis_link.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 6379
#define ACCEPTED     "redis://[:password@]host[:port][/database] or unix:///path[?db=number]"

// ---- addresses -----------------------------------------------------------------------------------------------------

static int bad_url(yd_err *err, const char *what)
{
    return yd_fail_field(err, YD_E_CONFIG, "store", ACCEPTED, "the address of the shared store has %s", what);
}

// Digits up to the end. -1: anything else, or more than `most`.
static int number_of(const char *text, int most)
{
    char *end;
    const long v = strtol(text, &end, 10);
    return *text < '0' || *text > '9' || *end || v > most ? -1 : (int)v;
}

static int parse_unix(const char *rest, yd_redis_url *out, yd_err *err)
{
    const char *q = strchr(rest, '?');
    const size_t n = q ? (size_t)(q - rest) : strlen(rest);
    if (*rest != '/' || n >= sizeof out->path) return bad_url(err, "no path of a socket, or one that is too long");
    memcpy(out->path, rest, n);
    if (q) out->database = strncmp(q, "?db=", 4) == 0 ? number_of(q + 4, INT_MAX) : -1;
    return out->database < 0 ? bad_url(err, "no number of a database behind the question mark") : 0;
}

static int parse_host(const char *rest, yd_redis_url *out, yd_err *err)
{
    const char *at = strrchr(rest, '@');
    if (at) {
        if (*rest != ':' || (size_t)(at - rest) > sizeof out->password) return bad_url(err, "a user's name, or a password that is too long");
        memcpy(out->password, rest + 1, (size_t)(at - rest) - 1);
        rest = at + 1;
    }
    char place[sizeof out->host + 8];
    const char *slash = strchr(rest, '/');
    const size_t n = slash ? (size_t)(slash - rest) : strlen(rest);
    if (n >= sizeof place) return bad_url(err, "a host's name that is too long");
    snprintf(place, sizeof place, "%.*s", (int)n, rest);
    if (slash && slash[1] && (out->database = number_of(slash + 1, INT_MAX)) < 0) return bad_url(err, "no number behind the slash");
    char *host = place, *colon = strrchr(place, ':'), *bracket = strchr(place, ']');
    out->port = DEFAULT_PORT;
    if (colon && (!bracket || colon > bracket)) {
        *colon = 0;
        if ((out->port = number_of(colon + 1, 65535)) < 1) return bad_url(err, "no port behind the colon");
    }
    if (*host == '[' && bracket) {
        host++;
        *bracket = 0;
    }
    if (!*host || strlen(host) >= sizeof out->host) return bad_url(err, "no host");
    snprintf(out->host, sizeof out->host, "%.*s", (int)sizeof out->host - 1, host);
    return 0;
}

int yd_redis_url_parse(const char *text, yd_redis_url *out, yd_err *err)
{
    memset(out, 0, sizeof *out);
    if (strncmp(text, "redis://", 8) == 0) return parse_host(text + 8, out, err);
    if (strncmp(text, "unix://", 7) == 0) return parse_unix(text + 7, out, err);
    return bad_url(err, "an unknown scheme");
}

void yd_redis_url_show(const yd_redis_url *u, char *dst, size_t cap)
{
    if (*u->path)
        snprintf(dst, cap, "unix://%s?db=%d", u->path, u->database);
    else
        snprintf(dst, cap, "redis://%s:%d/%d", u->host, u->port, u->database);
}

// ---- the blocking one ----------------------------------------------------------------------------------------------

static int refused(yd_err *err, const yd_redis_url *u, int code, const char *why)
{
    char place[200];
    yd_redis_url_show(u, place, sizeof place);
    return yd_fail_field(err, code, "store", ACCEPTED, "the shared store at %s cannot be used: %s", place, why);
}

static int log_in(redisContext *c, const yd_redis_url *u, yd_err *err)
{
    redisReply *r[3] = {0};
    int rc = 0, n = 0;
    if (*u->password) r[n++] = redisCommand(c, "AUTH %s", u->password);
    if (u->database) r[n++] = redisCommand(c, "SELECT %d", u->database);
    r[n++] = redisCommand(c, "PING");
    for (int i = 0; i < n; i++) {
        const int loading = r[i] && r[i]->type == REDIS_REPLY_ERROR && strncmp(r[i]->str, "LOADING", 7) == 0;
        if (!rc && !r[i]) rc = refused(err, u, YD_E_STORAGE, c->errstr);
        if (!rc && r[i]->type == REDIS_REPLY_ERROR) rc = refused(err, u, loading ? YD_E_STORAGE : YD_E_CONFIG, r[i]->str);
        freeReplyObject(r[i]);
    }
    return rc;
}

int yd_redis_connect(const yd_redis_url *u, int timeout_ms, redisContext **out, yd_err *err)
{
    const struct timeval most = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    redisContext *c = *u->path ? redisConnectUnixWithTimeout(u->path, most) : redisConnectWithTimeout(u->host, u->port, most);
    if (!c) return yd_fail(err, YD_E_NOMEM, "no memory for a connection");
    int rc = c->err ? refused(err, u, YD_E_STORAGE, c->errstr) : 0;
    if (!rc && redisSetTimeout(c, most) != REDIS_OK) rc = refused(err, u, YD_E_STORAGE, c->errstr);
    if (!rc) rc = log_in(c, u, err);
    if (rc) {
        redisFree(c);
        return rc;
    }
    *out = c;
    return 0;
}

// ---- hiredis on libuv ----------------------------------------------------------------------------------------------

typedef struct watcher {
    uv_poll_t poll;
    redisAsyncContext *context; // NULL: gone
    yd_redis_link *link;        // only looked at while there is a context
    int events;
} watcher;

static void lost(yd_redis_link *l, const char *why)
{
    char text[160];
    snprintf(text, sizeof text, "%s", why); // it may be the context's
    yd_redis_link_drop(l);
    l->down(l->arg, text);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    watcher *w = poll->data;
    if (status < 0) {
        if (w->context && w->link->context == w->context) lost(w->link, uv_strerror(status));
        return;
    }
    if (w->context && events & UV_READABLE) redisAsyncHandleRead(w->context);
    if (w->context && events & UV_WRITABLE) redisAsyncHandleWrite(w->context);
}

static void watch(watcher *w, int events)
{
    if (events == w->events) return;
    w->events = events;
    // Cannot fail on a descriptor that could be watched once; if it does, the next answer is missed and the link is dropped for that.
    if (events)
        uv_poll_start(&w->poll, events, on_poll);
    else
        uv_poll_stop(&w->poll);
}

static void add_read(void *w) { watch(w, ((watcher *)w)->events | UV_READABLE); }
static void del_read(void *w) { watch(w, ((watcher *)w)->events & ~UV_READABLE); }
static void add_write(void *w) { watch(w, ((watcher *)w)->events | UV_WRITABLE); }
static void del_write(void *w) { watch(w, ((watcher *)w)->events & ~UV_WRITABLE); }

static void on_closed(uv_handle_t *h)
{
    yd_free(h->data);
}

// The context goes, and closes its descriptor right after this: libuv lets go of it in uv_close, before it returns.
static void cleanup(void *arg)
{
    watcher *w = arg;
    w->context = NULL;
    uv_close((uv_handle_t *)&w->poll, on_closed);
}

static int attach(yd_redis_link *l, redisAsyncContext *c)
{
    watcher *w = yd_calloc(1, sizeof *w);
    if (!w) return -1;
    if (uv_poll_init(l->loop, &w->poll, c->c.fd)) {
        yd_free(w);
        return -1;
    }
    w->poll.data = w;
    w->context = c;
    w->link = l;
    c->ev.data = w;
    c->ev.addRead = add_read;
    c->ev.delRead = del_read;
    c->ev.addWrite = add_write;
    c->ev.delWrite = del_write;
    c->ev.cleanup = cleanup;
    return 0;
}

// ---- links ---------------------------------------------------------------------------------------------------------

static void on_connect(const redisAsyncContext *c, int status)
{
    yd_redis_link *l = c->data;
    if (status == REDIS_OK || l->context != c) return;
    l->context = NULL; // hiredis frees it
    l->ready = 0;
    l->down(l->arg, *c->errstr ? c->errstr : "no connection");
}

static void on_disconnect(const redisAsyncContext *c, int status)
{
    yd_redis_link *l = c->data;
    if (l->context != c) return;
    l->context = NULL;
    l->ready = 0;
    l->down(l->arg, status != REDIS_OK && *c->errstr ? c->errstr : "the connection has ended");
}

// arg: 1 for the last one.
static void on_hello(redisAsyncContext *c, void *reply, void *arg)
{
    yd_redis_link *l = c->data;
    const redisReply *r = reply;
    if (!r || l->context != c) return;
    if (r->type == REDIS_REPLY_ERROR) {
        lost(l, r->str);
    } else if (arg) {
        l->ready = 1;
        l->up(l->arg);
    }
}

static void say_hello(yd_redis_link *l)
{
    char number[16];
    const char *auth[] = {"AUTH", l->url->password}, *pick[] = {"SELECT", number}, *ping[] = {"PING"};
    snprintf(number, sizeof number, "%d", l->url->database);
    if (*l->url->password) redisAsyncCommandArgv(l->context, on_hello, NULL, 2, auth, NULL);
    if (l->url->database) redisAsyncCommandArgv(l->context, on_hello, NULL, 2, pick, NULL);
    redisAsyncCommandArgv(l->context, on_hello, l, 1, ping, NULL);
}

void yd_redis_link_start(yd_redis_link *l)
{
    yd_redis_link_drop(l);
    l->since_us = yd_mono_us();
    redisAsyncContext *c = *l->url->path ? redisAsyncConnectUnix(l->url->path) : redisAsyncConnect(l->url->host, l->url->port);
    if (c && !c->err && !attach(l, c)) {
        c->data = l;
        l->context = c;
        redisAsyncSetConnectCallback(c, on_connect);
        redisAsyncSetDisconnectCallback(c, on_disconnect);
        say_hello(l);
        return;
    }
    char why[160];
    snprintf(why, sizeof why, "%s", c && c->err ? c->errstr : "no memory for a connection");
    if (c) redisAsyncFree(c);
    l->down(l->arg, why);
}

void yd_redis_link_drop(yd_redis_link *l)
{
    redisAsyncContext *c = l->context;
    l->context = NULL;
    l->ready = 0;
    if (c) redisAsyncFree(c);
}

int yd_redis_link_send(yd_redis_link *l, redisCallbackFn *fn, void *arg, int argc, const char **argv, const size_t *len)
{
    if (!l->ready) return -1;
    return redisAsyncCommandArgv(l->context, fn, arg, argc, argv, len) == REDIS_OK ? 0 : -1;
}
