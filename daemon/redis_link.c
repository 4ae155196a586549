// Connections to Redis on libuv: see redis_link.h.
//
// A watcher is the poll handle of one context. hiredis ends a context from inside its own read and write functions (cleanup): the watcher lives
// on until libuv has closed it, and knows by then that its context is gone. It refers to nothing else that could go before it.
#include "daemon/redis_link.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

// ---- the blocking one ----------------------------------------------------------------------------------------------

static int refused(yd_err *err, const yd_redis_url *u, int code, const char *why)
{
    char place[200];
    yd_redis_url_show(u, place, sizeof place);
    return yd_fail_field(err, code, "store", YD_REDIS_URL_ACCEPTED, "the shared store at %s cannot be used: %s", place, why);
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
    l->tries++;
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

// c is this link's from here, also when it is none.
static void take_context(yd_redis_link *l, redisAsyncContext *c)
{
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
    l->tries++;
    l->down(l->arg, why);
}

// ---- names ---------------------------------------------------------------------------------------------------------

// A name that is being looked up cannot be called off: the lookup outlives the link that is dropped, and is the next start's if that comes first. So
// there is one at a time for each link, however long a name server takes.
typedef struct yd_redis_lookup {
    uv_getaddrinfo_t req;
    yd_redis_link *link; // who wants the answer; NULL: nobody at present
    int refs, done;      // one of the link, one while it is under way
} lookup;

static void release(lookup *w)
{
    if (--w->refs == 0) yd_free(w);
}

static int is_numeric(const char *host)
{
    struct in6_addr address;
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

// Address number `tries` of the list, going round.
static int pick_address(const struct addrinfo *list, unsigned tries, char text[INET6_ADDRSTRLEN])
{
    unsigned n = 0;
    for (const struct addrinfo *a = list; a; a = a->ai_next) n++;
    if (!n) return -1;
    for (n = tries % n; n; n--) list = list->ai_next;
    return getnameinfo(list->ai_addr, list->ai_addrlen, text, INET6_ADDRSTRLEN, NULL, 0, NI_NUMERICHOST) ? -1 : 0;
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    lookup *w = req->data;
    yd_redis_link *l = w->link;
    char address[INET6_ADDRSTRLEN], why[160];
    w->done = 1;
    w->link = NULL;
    const int found = status == 0 && l && pick_address(list, l->tries, address) == 0;
    uv_freeaddrinfo(list);
    release(w);
    if (found) {
        take_context(l, redisAsyncConnect(address, l->url->port));
    } else if (l) {
        snprintf(why, sizeof why, "%.100s: %s", l->url->host, status ? uv_strerror(status) : "no address");
        l->down(l->arg, why);
    }
}

static void look_up(yd_redis_link *l)
{
    if (l->lookup && !l->lookup->done) {
        l->lookup->link = l;
        return;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
    if (l->lookup) release(l->lookup);
    lookup *w = l->lookup = yd_calloc(1, sizeof *w);
    int rc = w ? 0 : UV_ENOMEM;
    if (w) {
        *w = (lookup){.link = l, .refs = 1};
        w->req.data = w;
        rc = uv_getaddrinfo(l->loop, &w->req, on_looked_up, l->url->host, NULL, &hints);
        w->done = rc != 0;
        w->refs += rc == 0;
    }
    if (rc) l->down(l->arg, uv_strerror(rc));
}

// ---- calls ---------------------------------------------------------------------------------------------------------

void yd_redis_link_start(yd_redis_link *l)
{
    yd_redis_link_drop(l);
    l->since_us = yd_mono_us();
    if (*l->url->path)
        take_context(l, redisAsyncConnectUnix(l->url->path));
    else if (is_numeric(l->url->host))
        take_context(l, redisAsyncConnect(l->url->host, l->url->port));
    else
        look_up(l);
}

int yd_redis_link_busy(const yd_redis_link *l)
{
    return l->context || (l->lookup && l->lookup->link == l);
}

void yd_redis_link_drop(yd_redis_link *l)
{
    redisAsyncContext *c = l->context;
    if (c && !l->ready) l->tries++;
    l->context = NULL;
    l->ready = 0;
    if (l->lookup) l->lookup->link = NULL;
    if (c) redisAsyncFree(c);
}

void yd_redis_link_end(yd_redis_link *l)
{
    yd_redis_link_drop(l);
    if (l->lookup) release(l->lookup);
    l->lookup = NULL;
}

int yd_redis_link_send(yd_redis_link *l, redisCallbackFn *fn, void *arg, int argc, const char **argv, const size_t *len)
{
    if (!l->ready) return -1;
    return redisAsyncCommandArgv(l->context, fn, arg, argc, argv, len) == REDIS_OK ? 0 : -1;
}
