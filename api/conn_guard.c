// Deadlines and vanished clients, per TCP connection.
//
// DESIGN
//   libmicrohttpd's own timeout is one of inactivity: a client that drips a byte a second stays for ever. So each connection has one
//   absolute deadline, set when it enters a phase, and is shut down (not closed: the library owns the descriptor) when it passes.
//
//       HEADERS --head read--> BODY --body read--> WORKING --response--> SENDING --taken--> IDLE --head read--> BODY ...
//                                                      \--stream--> STREAM --end--> IDLE
//
//   Connections with a deadline are on one list; one timer walks it and stops when the list is empty, so ten thousand idle streams
//   cost nothing. Suspended connections are not polled by the library: uv_poll watches them for the peer's hang-up, on the same
//   descriptor, and lets go in yd_conn_close, which the library calls before close().
//   A response sent before the request was read ends in a reset that may overtake it: lingering keeps a dup of the descriptor and
//   reads it empty for LINGER_MS.
//
// Threads: the loop's. Invariants: G1 a conn is on the timed list iff deadline != 0. G2 its uv_poll exists iff watch != NULL and is
// closed before the descriptor. G3 open == length of the list of all. Fails only by memory, reported to the caller.
// Read next: server.c.
#include "api/conn_guard.h"

#include "api/list.h"
#include "core/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS        100
#define LINGER_MS      2000
#define LINGER_SOCKETS 64   // more refused uploads at once than this are reset
#define RATE_GRACE_MS  2000 // before the average rate of a body is judged
#define MAX_SEND_MS    (60 * 60 * 1000ULL)

// A watched socket; outlives its yd_conn by one loop iteration.
typedef struct watch {
    uv_poll_t poll;
    yd_conn *conn; // NULL once let go
    void (*gone)(void *);
    void *ctx;
} watch;

typedef struct leftover {
    yd_link in_guard;
    uv_poll_t poll;
    uv_timer_t timer;
    yd_guard *guard; // NULL once ended
    int fd, handles;
} leftover;

struct yd_guard {
    uv_loop_t *loop;
    yd_guard_limits limits;
    uv_timer_t *tick;
    yd_link all, timed, lingering;
    unsigned open, n_lingering;
};

typedef union conn_address { // of any family that is told apart, in less room than sockaddr_storage
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} conn_address;

struct yd_conn {
    yd_link in_all, in_timed;
    yd_guard *guard;
    int fd;
    yd_conn_phase phase;
    uint64_t since, deadline; // loop milliseconds; deadline 0 = none
    size_t received;
    conn_address addr;
    char peer[INET6_ADDRSTRLEN];
    int over_limit, expired, lingers;
    watch *watch;
};

// ---- deadlines

static int too_slow(const yd_conn *c, uint64_t now)
{
    const size_t rate = c->guard->limits.body_rate;
    const uint64_t spent = now - c->since;
    if (c->phase != YD_CONN_BODY || !rate || spent < RATE_GRACE_MS) return 0;
    return (double)c->received * 1000.0 < (double)rate * (double)spent;
}

static void on_tick(uv_timer_t *t)
{
    yd_guard *g = t->data;
    const uint64_t now = uv_now(g->loop);
    for (yd_link *l = g->timed.next, *next; l != &g->timed; l = next) {
        next = l->next;
        yd_conn *c = YD_CONTAINER(l, yd_conn, in_timed);
        if (now < c->deadline && !too_slow(c, now)) continue;
        c->expired = 1;
        c->deadline = 0;
        yd_link_remove(l);
        if (c->phase == YD_CONN_BODY && g->limits.late)
            (void)!send(c->fd, g->limits.late, strlen(g->limits.late), MSG_DONTWAIT | MSG_NOSIGNAL);
        shutdown(c->fd, SHUT_RDWR);
    }
    if (yd_list_empty(&g->timed)) uv_timer_stop(g->tick);
}

static void set_deadline(yd_conn *c, uint64_t in_ms)
{
    yd_guard *g = c->guard;
    yd_link_remove(&c->in_timed);
    c->deadline = in_ms ? c->since + in_ms : 0;
    if (!in_ms) return;
    yd_list_append(&g->timed, &c->in_timed);
    if (!uv_is_active((uv_handle_t *)g->tick)) uv_timer_start(g->tick, on_tick, TICK_MS, TICK_MS);
}

static uint64_t send_ms(const yd_guard_limits *lim, size_t bytes)
{
    uint64_t ms = lim->send_ms;
    if (lim->send_rate) ms += (uint64_t)((double)bytes * 1000.0 / (double)lim->send_rate);
    return ms < MAX_SEND_MS ? ms : MAX_SEND_MS;
}

void yd_conn_enter(yd_conn *c, yd_conn_phase phase, size_t bytes)
{
    const yd_guard_limits *lim = &c->guard->limits;
    if (c->expired) return; // already shut down
    uv_update_time(c->guard->loop);
    c->since = uv_now(c->guard->loop);
    c->phase = phase;
    c->received = 0;
    switch (phase) {
    case YD_CONN_HEADERS:
        set_deadline(c, lim->header_ms);
        break;
    case YD_CONN_IDLE:
        set_deadline(c, lim->idle_ms);
        break;
    case YD_CONN_BODY:
        set_deadline(c, lim->body_ms);
        break;
    case YD_CONN_SENDING:
        set_deadline(c, send_ms(lim, bytes));
        break;
    case YD_CONN_WORKING:
    case YD_CONN_STREAM:
        set_deadline(c, 0);
        break;
    }
}

void yd_conn_received(yd_conn *c, size_t n)
{
    if (yd_add_size(c->received, n, &c->received)) c->received = SIZE_MAX;
}

void yd_conn_cut(yd_conn *c)
{
    shutdown(c->fd, SHUT_RDWR);
}

int yd_conn_over_limit(const yd_conn *c)
{
    return c->over_limit;
}

int yd_conn_expired(const yd_conn *c)
{
    return c->expired;
}

const char *yd_conn_peer(const yd_conn *c)
{
    return c->peer;
}

// ---- addresses

static int is_loopback(const conn_address *a)
{
    if (a->any.sa_family == AF_INET) return ntohl(a->four.sin_addr.s_addr) >> 24 == 127;
    if (a->any.sa_family != AF_INET6) return 1; // no network address: a local socket
    const struct in6_addr *six = &a->six.sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

static int same_address(const conn_address *a, const conn_address *b)
{
    if (a->any.sa_family != b->any.sa_family) return 0;
    if (a->any.sa_family == AF_INET) return a->four.sin_addr.s_addr == b->four.sin_addr.s_addr;
    return a->any.sa_family == AF_INET6 && !memcmp(&a->six.sin6_addr, &b->six.sin6_addr, sizeof a->six.sin6_addr);
}

static void take_address(yd_conn *c, const struct sockaddr *addr)
{
    conn_address *a = &c->addr;
    if (addr && addr->sa_family == AF_INET)
        memcpy(&a->four, addr, sizeof a->four);
    else if (addr && addr->sa_family == AF_INET6)
        memcpy(&a->six, addr, sizeof a->six);
    else
        a->any.sa_family = AF_UNIX;
    const void *ip = a->any.sa_family == AF_INET ? (const void *)&a->four.sin_addr : (const void *)&a->six.sin6_addr;
    if (a->any.sa_family == AF_UNIX || !inet_ntop(a->any.sa_family, ip, c->peer, sizeof c->peer)) snprintf(c->peer, sizeof c->peer, "local");
}

// Counting is a walk over the open connections: at a few thousand of them it is microseconds, and there is no table to keep right.
static int beyond_limit(const yd_guard *g, const yd_conn *c)
{
    const unsigned limit = g->limits.per_address;
    if (!limit || (!g->limits.limit_loopback && is_loopback(&c->addr))) return 0;
    unsigned n = 1;
    for (yd_link *l = g->all.next; l != &g->all; l = l->next)
        n += (unsigned)same_address(&YD_CONTAINER(l, yd_conn, in_all)->addr, &c->addr);
    return n > limit;
}

// ---- vanished clients

static void watch_closed(uv_handle_t *h)
{
    yd_free(h->data);
}

static void on_hangup(uv_poll_t *poll, int status, int events)
{
    (void)status; // an error on the socket is as final as a hang-up
    (void)events;
    watch *w = poll->data;
    if (!w->conn) return;
    void (*gone)(void *) = w->gone;
    void *ctx = w->ctx;
    yd_conn_unwatch(w->conn);
    gone(ctx);
}

int yd_conn_watch(yd_conn *c, void (*gone)(void *), void *ctx)
{
    yd_conn_unwatch(c);
    watch *w = yd_calloc(1, sizeof *w);
    if (!w) return YD_E_NOMEM;
    if (uv_poll_init(c->guard->loop, &w->poll, c->fd)) {
        yd_free(w);
        return YD_E_INTERNAL;
    }
    *w = (watch){.poll = w->poll, .conn = c, .gone = gone, .ctx = ctx};
    w->poll.data = w;
    c->watch = w;
    if (uv_poll_start(&w->poll, UV_DISCONNECT, on_hangup)) {
        yd_conn_unwatch(c);
        return YD_E_INTERNAL;
    }
    return 0;
}

void yd_conn_unwatch(yd_conn *c)
{
    watch *w = c->watch;
    if (!w) return;
    c->watch = NULL;
    w->conn = NULL;
    uv_close((uv_handle_t *)&w->poll, watch_closed);
}

// ---- lingering

static void linger_closed(uv_handle_t *h)
{
    leftover *l = h->data;
    if (--l->handles) return;
    close(l->fd);
    yd_free(l);
}

static void linger_end(leftover *l)
{
    if (!l->guard) return;
    l->guard->n_lingering--;
    yd_link_remove(&l->in_guard);
    l->guard = NULL;
    uv_close((uv_handle_t *)&l->poll, linger_closed);
    uv_close((uv_handle_t *)&l->timer, linger_closed);
}

static void on_linger_readable(uv_poll_t *poll, int status, int events)
{
    (void)events;
    leftover *l = poll->data;
    char sink[16384];
    for (int i = 0; i < 16 && status >= 0; i++) { // a bounded share of the loop's time
        ssize_t n = recv(l->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n > 0) continue;
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        status = -1;
    }
    if (status < 0) linger_end(l);
}

static void on_linger_timeout(uv_timer_t *t)
{
    linger_end(t->data);
}

static void linger_start(yd_guard *g, int fd)
{
    leftover *l = g->n_lingering < LINGER_SOCKETS ? yd_calloc(1, sizeof *l) : NULL;
    if (!l) return;
    l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (l->fd < 0 || uv_poll_init(g->loop, &l->poll, l->fd)) {
        if (l->fd >= 0) close(l->fd);
        yd_free(l);
        return;
    }
    uv_timer_init(g->loop, &l->timer);
    l->guard = g;
    l->handles = 2;
    l->poll.data = l->timer.data = l;
    g->n_lingering++;
    yd_list_append(&g->lingering, &l->in_guard);
    shutdown(fd, SHUT_WR);
    uv_unref((uv_handle_t *)&l->timer);
    uv_unref((uv_handle_t *)&l->poll);
    uv_timer_start(&l->timer, on_linger_timeout, LINGER_MS, 0);
    if (uv_poll_start(&l->poll, UV_READABLE, on_linger_readable)) linger_end(l);
}

void yd_conn_linger(yd_conn *c)
{
    c->lingers = 1;
}

void yd_conn_last_words(yd_conn *c, const char *bytes, size_t len)
{
    // One send: it fits an empty socket buffer, and a client that takes none of it has nothing to miss.
    if (send(c->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len) c->lingers = 1;
}

// ---- connections

yd_conn *yd_conn_open(yd_guard *g, int fd, const struct sockaddr *addr)
{
    yd_conn *c = yd_calloc(1, sizeof *c);
    if (!c) return NULL;
    c->guard = g;
    c->fd = fd;
    yd_link_init(&c->in_timed);
    take_address(c, addr);
    c->over_limit = beyond_limit(g, c);
    yd_list_append(&g->all, &c->in_all);
    g->open++;
    yd_conn_enter(c, YD_CONN_HEADERS, 0);
    return c;
}

void yd_conn_close(yd_conn *c)
{
    if (!c) return;
    yd_conn_unwatch(c);
    if (c->lingers && !c->expired) linger_start(c->guard, c->fd);
    yd_link_remove(&c->in_timed);
    yd_link_remove(&c->in_all);
    c->guard->open--;
    yd_free(c);
}

// ---- the guard

int yd_guard_new(uv_loop_t *loop, const yd_guard_limits *limits, yd_guard **out, yd_err *err)
{
    *out = NULL;
    yd_guard *g = yd_calloc(1, sizeof *g);
    uv_timer_t *tick = yd_calloc(1, sizeof *tick);
    if (!g || !tick) {
        yd_free(g);
        yd_free(tick);
        return yd_fail(err, YD_E_NOMEM, "no memory for the table of connections");
    }
    g->loop = loop;
    g->limits = *limits;
    g->tick = tick;
    yd_link_init(&g->all);
    yd_link_init(&g->timed);
    yd_link_init(&g->lingering);
    uv_timer_init(loop, tick);
    tick->data = g;
    *out = g;
    return 0;
}

void yd_guard_limit(yd_guard *g, const yd_guard_limits *limits)
{
    g->limits = *limits;
}

static void tick_closed(uv_handle_t *h)
{
    yd_free(h);
}

void yd_guard_free(yd_guard *g)
{
    if (!g) return;
    while (!yd_list_empty(&g->lingering)) linger_end(YD_CONTAINER(g->lingering.next, leftover, in_guard));
    uv_close((uv_handle_t *)g->tick, tick_closed);
    yd_free(g);
}

unsigned yd_guard_open_count(const yd_guard *g)
{
    return g->open;
}

void yd_guard_cut_idle(yd_guard *g)
{
    for (yd_link *l = g->all.next; l != &g->all; l = l->next) {
        yd_conn *c = YD_CONTAINER(l, yd_conn, in_all);
        if (c->phase == YD_CONN_IDLE) yd_conn_cut(c);
    }
}

void yd_guard_cut_all(yd_guard *g)
{
    for (yd_link *l = g->all.next; l != &g->all; l = l->next) shutdown(YD_CONTAINER(l, yd_conn, in_all)->fd, SHUT_RDWR);
}
