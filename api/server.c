// The HTTP server inside the libuv loop.
//
// DESIGN
//   libmicrohttpd runs without a thread: its epoll descriptor is polled by the loop, MHD_run() is called when it is readable or when
//   the time that MHD_get_timeout() names has come. A resumed connection wakes nothing by itself: whoever resumes one calls
//   yd_api_kick(), which has MHD_run() called in the loop's next turn, never inside the call (also from within MHD_run() itself).
//   The listening socket is ours, or a supervisor's who handed it over: bind errors get words, and draining can close it by itself.
//
//       start --> serving --(service drains)--> draining --> quiesce --> stop: end every wait and stream, run until no connection
//                                                                        is left, stop the daemon, close the handles
//
//   Requests whose framing libmicrohttpd cannot read (a malformed request line or length, a head beyond connection_memory_bytes) it
//   refuses by itself with a small HTML page and a close: 0.9.75 has no hook for its words, and guessing at the bytes before it does
//   would be a second parser to disagree with.
//
//   libmicrohttpd aborts when it is stopped with suspended connections; so stop wakes all of them first (request.c, event_stream.c).
// Threads: the loop's only. Read next: request.c, what happens to a request.
#include "api/server.h"

#include "api/access.h"
#include "api/event_stream.h"
#include "api/request.h"
#include "core/mem.h"
#include "daemon/log.h"
#include "daemon/supervise.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG    511
#define STOP_TURNS 1000

typedef struct yd_pump {
    uv_poll_t poll;
    uv_timer_t timer;
    uv_timer_t heartbeat;
    yd_api *api; // NULL once stopping
    int handles, kicked;
    void (*done)(void *);
    void *arg;
} yd_pump;

// Sent raw to clients whose body is late: libmicrohttpd takes no response in the middle of an upload.
static const char late_body[] =
    "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\r\n"
    "{\"type\":\"/problems/timeout\",\"title\":\"The request did not arrive in time\",\"status\":408,"
    "\"detail\":\"the body came too slowly: see body_timeout_ms and body_min_rate\"}\n";

// ---- the socket

static int open_socket(const struct addrinfo *ai)
{
    const int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, ai->ai_protocol);
    if (fd < 0) return -1;
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static int name_address(yd_api *api, yd_err *err)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getsockname(api->listen_fd, (struct sockaddr *)&a, &n) ||
        getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
        return yd_fail(err, YD_E_IO, "cannot read the bound address: %s", strerror(errno));
    const int six = a.ss_family == AF_INET6;
    snprintf(api->address, sizeof api->address, "%s%.255s%s:%.16s", six ? "[" : "", host, six ? "]" : "", port);
    return 0;
}

static int is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET) return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

// A socket that a supervisor listens on takes the place of our own. Where it leads is checked as `listen` is.
static int inherit_address(yd_api *api, yd_err *err)
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    int rc = yd_supervise_socket(&api->listen_fd, err);
    if (rc || api->listen_fd < 0) return rc;
    api->inherited = 1;
    rc = name_address(api, err);
    if (!rc && getsockname(api->listen_fd, (struct sockaddr *)&a, &n) == 0 && !is_loopback(&a) && !*api->cfg->keys &&
        !api->cfg->insecure_no_auth)
        rc = yd_fail_field(err, YD_E_CONFIG, "listen", "a loopback address, --keys FILE, or --insecure-no-auth",
                           "the socket that was handed over listens on %s, which is no loopback address, and nobody "
                           "would be asked for a key",
                           api->address);
    return rc;
}

static int bind_address(yd_api *api, yd_err *err)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", api->cfg->port);
    const int rc = getaddrinfo(api->cfg->host[0] ? api->cfg->host : NULL, port, &hints, &found);
    if (rc)
        return yd_fail_field(err, YD_E_CONFIG, "listen", "HOST:PORT of this machine", "cannot resolve '%s': %s",
                             api->cfg->host, gai_strerror(rc));
    for (const struct addrinfo *ai = found; ai && api->listen_fd < 0; ai = ai->ai_next)
        api->listen_fd = open_socket(ai);
    const int why = errno;
    freeaddrinfo(found);
    if (api->listen_fd < 0)
        return yd_fail_field(err, YD_E_IO, "listen", "a free address of this machine",
                             "cannot listen on '%s' port %s: %s", api->cfg->host, port, strerror(why));
    return name_address(api, err);
}

// ---- driving libmicrohttpd

static void on_mhd_timer(uv_timer_t *t);

static void pump(yd_pump *p)
{
    if (!p->api) return;
    const unsigned open = yd_guard_open_count(p->api->guard);
    p->kicked = 0;
    MHD_run(p->api->mhd);
    // With max_connections open the listening socket is not polled; the run after one has closed takes it up again.
    if (yd_guard_open_count(p->api->guard) < open) p->kicked = 1;
    MHD_UNSIGNED_LONG_LONG ms;
    if (p->kicked)
        uv_timer_start(&p->timer, on_mhd_timer, 0, 0);
    else if (MHD_get_timeout(p->api->mhd, &ms) == MHD_YES)
        uv_timer_start(&p->timer, on_mhd_timer, ms, 0);
    else
        uv_timer_stop(&p->timer);
}

static void on_mhd_timer(uv_timer_t *t)
{
    pump(t->data);
}

static void on_mhd_ready(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    pump(poll->data);
}

void yd_api_kick(yd_api *api)
{
    yd_pump *p = api->pump;
    if (!p || p->kicked) return;
    p->kicked = 1;
    uv_timer_start(&p->timer, on_mhd_timer, 0, 0);
}

static void on_heartbeat(uv_timer_t *t)
{
    const yd_pump *p = t->data;
    if (p->api) yd_streams_heartbeat(p->api);
}

static int pump_start(yd_api *api, yd_err *err)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    yd_pump *p = info ? yd_calloc(1, sizeof *p) : NULL;
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory to drive the HTTP server");
    const int rc = uv_poll_init(api->loop, &p->poll, info->epoll_fd);
    if (rc) {
        yd_free(p);
        return yd_fail(err, YD_E_INTERNAL, "cannot poll the HTTP server: %s", uv_strerror(rc));
    }
    uv_timer_init(api->loop, &p->timer);
    uv_timer_init(api->loop, &p->heartbeat);
    p->poll.data = p->timer.data = p->heartbeat.data = p;
    p->api = api;
    p->handles = 3;
    api->pump = p;
    const uint64_t beat = (uint64_t)api->cfg->sse_heartbeat_ms;
    uv_timer_start(&p->heartbeat, on_heartbeat, beat, beat);
    return 0;
}

// ---- callbacks of libmicrohttpd

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    yd_api *api = cls;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        yd_conn_close(*context);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *addr = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const int on = 1;
    setsockopt(fd->connect_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *context =
        yd_conn_open(api->guard, fd->connect_fd, addr ? addr->client_addr : NULL); // NULL: its requests are refused
}

__attribute__((format(printf, 2, 0))) static void on_mhd_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    char text[256];
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    yd_log(YD_LOG_DEBUG, NULL, "libmicrohttpd", "text", text, NULL);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Percent decoding in place. "%00" stays as it is, so that no string ends early, and so does what is no escape.
static size_t unescape(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    char *to = s;
    for (const char *p = s; *p;) {
        const int hi = p[0] == '%' ? hex(p[1]) : -1, lo = hi >= 0 ? hex(p[2]) : -1;
        if (lo >= 0 && hi + lo > 0) {
            *to++ = (char)(hi * 16 + lo);
            p += 3;
        } else {
            *to++ = *p++;
        }
    }
    *to = '\0';
    return (size_t)(to - s);
}

static int start_mhd(yd_api *api, yd_err *err)
{
    api->mhd =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, yd_request_handle,
                         api,                                          // port: the socket's
                         MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, // first, so that what follows can complain
                         MHD_OPTION_LISTEN_SOCKET, (MHD_socket)api->listen_fd,                          //
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)api->cfg->max_connections,              //
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)api->cfg->connection_memory_bytes, //
                         MHD_OPTION_CONNECTION_TIMEOUT, 0u,                      // conn_guard.c keeps the deadlines
                         MHD_OPTION_STRICT_FOR_CLIENT, 1,                        //
                         MHD_OPTION_NOTIFY_CONNECTION, on_connection, api,       //
                         MHD_OPTION_NOTIFY_COMPLETED, yd_request_completed, api, //
                         MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,           //
                         MHD_OPTION_END);
    if (!api->mhd) return yd_fail(err, YD_E_INTERNAL, "libmicrohttpd does not start");
    return 0;
}

// ---- life

static void on_drain(void *arg)
{
    yd_api *api = arg;
    api->draining = 1;
    yd_streams_end_all(api);
}

static yd_guard_limits guard_limits(const yd_config *cfg)
{
    return (yd_guard_limits){
        .per_address = (unsigned)cfg->max_connections_per_ip,
        .limit_loopback = cfg->limit_loopback,
        .header_ms = (uint64_t)cfg->header_timeout_ms,
        .body_ms = (uint64_t)cfg->body_timeout_ms,
        .idle_ms = (uint64_t)cfg->idle_timeout_ms,
        .send_ms = (uint64_t)cfg->send_timeout_ms,
        .body_rate = (size_t)cfg->body_min_rate,
        .send_rate = (size_t)cfg->send_min_rate,
        .late = late_body,
    };
}

int yd_api_start(uv_loop_t *loop, yd_service *service, yd_api **out, yd_err *err)
{
    *out = NULL;
    yd_api *api = yd_calloc(1, sizeof *api);
    if (!api) return yd_fail(err, YD_E_NOMEM, "no memory for the HTTP server");
    api->loop = loop;
    api->service = service;
    api->cfg = yd_service_config(service);
    api->listen_fd = -1;
    yd_link_init(&api->requests);
    yd_link_init(&api->streams);
    const yd_guard_limits limits = guard_limits(api->cfg);

    int rc = yd_access_open(api, err);
    if (!rc) rc = inherit_address(api, err);
    if (!rc && api->listen_fd < 0) rc = bind_address(api, err);
    if (rc) goto fail_socket;
    rc = yd_guard_new(loop, &limits, &api->guard, err);
    if (rc) goto fail_socket;
    rc = start_mhd(api, err);
    if (rc) goto fail_guard;
    rc = pump_start(api, err);
    if (rc) goto fail_mhd;
    yd_service_on_drain(service, on_drain, api);
    if (!api->inherited) yd_api_open(api);
    *out = api;
    return 0;

fail_mhd:
    MHD_stop_daemon(api->mhd); // closes the listening socket
    api->listen_fd = -1;
fail_guard:
    yd_guard_free(api->guard);
fail_socket:
    if (api->listen_fd >= 0) close(api->listen_fd);
    yd_free(api);
    return rc;
}

void yd_api_reload(yd_api *api)
{
    const yd_guard_limits limits = guard_limits(api->cfg);
    const uint64_t beat = (uint64_t)api->cfg->sse_heartbeat_ms;
    yd_guard_limit(api->guard, &limits);
    uv_timer_start(&api->pump->heartbeat, on_heartbeat, beat, beat);
    yd_streams_end_ownerless(api);
}

const char *yd_api_address(const yd_api *api)
{
    return api->address;
}

void yd_api_open(yd_api *api)
{
    uv_poll_start(&api->pump->poll, UV_READABLE, on_mhd_ready);
}

int yd_api_inherited(const yd_api *api)
{
    return api->inherited;
}

void yd_api_quiesce(yd_api *api)
{
    if (api->listen_fd < 0) return;
    const MHD_socket fd = MHD_quiesce_daemon(api->mhd);
    if (fd != MHD_INVALID_SOCKET) close(fd);
    api->listen_fd = -1;
    yd_guard_cut_idle(api->guard); // who has asked nothing since will ask another server
}

unsigned yd_api_connections(const yd_api *api)
{
    return yd_guard_open_count(api->guard);
}

static void pump_closed(uv_handle_t *h)
{
    yd_pump *p = h->data;
    if (--p->handles) return;
    if (p->done) p->done(p->arg);
    yd_free(p);
}

void yd_api_stop(yd_api *api, void (*done)(void *arg), void *arg)
{
    yd_pump *p = api->pump;
    api->draining = api->stopping = 1;
    yd_service_on_drain(api->service, NULL, NULL);
    yd_api_quiesce(api);
    yd_requests_end_all(api);
    yd_streams_end_all(api);
    yd_guard_cut_all(api->guard);
    for (int i = 0; i < STOP_TURNS && yd_guard_open_count(api->guard); i++) MHD_run(api->mhd);

    p->api = NULL;
    p->done = done;
    p->arg = arg;
    uv_close((uv_handle_t *)&p->poll, pump_closed); // before its descriptor
    uv_close((uv_handle_t *)&p->timer, pump_closed);
    uv_close((uv_handle_t *)&p->heartbeat, pump_closed);
    MHD_stop_daemon(api->mhd);
    yd_guard_free(api->guard);
    yd_free(api);
}
