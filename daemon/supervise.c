// systemd's protocols: see supervise.h.
//
// One timer does everything: every READY_MS until the service is ready, then at half the watchdog's period. A message that cannot be
// sent is dropped, except for READY=1. While the models load, EXTEND_TIMEOUT_USEC asks for more of it.
#include "daemon/supervise.h"

#include "core/mem.h"
#include "daemon/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD      3
#define READY_MS      100
#define EXTEND_US     30000000 // at every tick while loading: half a minute from now
#define LEAST_BEAT_MS 10

static struct {
    struct sockaddr_un to; // sun_family 0: nobody listens
    socklen_t to_len;
    int64_t watchdog_us; // 0: none
    int sockets;
} given;

struct yd_supervisor {
    uv_timer_t timer;
    int (*is_ready)(void *arg);
    void *arg;
    int fd, ready, stopping;
};

// A variable's number, or -1 where it is none of at most 18 digits.
static int64_t number_of(const char *text)
{
    char *end;
    if (!text || !*text || strlen(text) > 18 || *text == '-' || *text == '+') return -1;
    const long long v = strtoll(text, &end, 10);
    return *end ? -1 : v;
}

static int for_us(const char *pid_variable)
{
    const char *pid = getenv(pid_variable);
    return !pid || number_of(pid) == getpid();
}

static void read_address(const char *path)
{
    const size_t n = path ? strlen(path) : 0;
    if (n < 2 || n >= sizeof given.to.sun_path || (path[0] != '/' && path[0] != '@')) return;
    given.to.sun_family = AF_UNIX;
    memcpy(given.to.sun_path, path, n);
    if (path[0] == '@') given.to.sun_path[0] = '\0'; // an abstract name
    given.to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

void yd_supervise_begin(void)
{
    static const char *const ours[] = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                       "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES"};
    read_address(getenv("NOTIFY_SOCKET"));
    const int64_t us = number_of(getenv("WATCHDOG_USEC")), n = number_of(getenv("LISTEN_FDS"));
    given.watchdog_us = us > 0 && for_us("WATCHDOG_PID") ? us : 0;
    given.sockets = n > 0 && n < 1024 && getenv("LISTEN_PID") && for_us("LISTEN_PID") ? (int)n : 0;
    for (int i = 0; i < given.sockets; i++) fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) unsetenv(ours[i]);
}

int yd_supervise_socket(int *fd, yd_err *err)
{
    static const char wanted[] = "one listening TCP socket";
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a, size = sizeof(int);
    int type = 0, listens = 0;
    *fd = -1;
    if (given.sockets == 0) return 0;
    if (given.sockets > 1)
        return yd_fail_field(err, YD_E_CONFIG, "LISTEN_FDS", wanted, "%d sockets were handed over, one is served",
                             given.sockets);
    if (getsockname(FIRST_FD, (struct sockaddr *)&a, &n) || (a.ss_family != AF_INET && a.ss_family != AF_INET6) ||
        getsockopt(FIRST_FD, SOL_SOCKET, SO_TYPE, &type, &size) || type != SOCK_STREAM ||
        getsockopt(FIRST_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) || !listens)
        return yd_fail_field(err, YD_E_CONFIG, "LISTEN_FDS", wanted,
                             "descriptor %d, which was handed over, is no listening TCP socket", FIRST_FD);
    const int flags = fcntl(FIRST_FD, F_GETFL);
    if (flags < 0 || fcntl(FIRST_FD, F_SETFL, flags | O_NONBLOCK))
        return yd_fail(err, YD_E_IO, "cannot prepare the socket that was handed over: %s", strerror(errno));
    *fd = FIRST_FD;
    given.sockets = 0;
    return 0;
}

// ---- messages

static int say(const yd_supervisor *s, const char *text)
{
    const ssize_t n = (ssize_t)strlen(text);
    return s->fd >= 0 && sendto(s->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT,
                                (const struct sockaddr *)&given.to, given.to_len) == n;
}

static uint64_t beat_ms(void)
{
    const int64_t ms = given.watchdog_us / 2000;
    return (uint64_t)(ms > LEAST_BEAT_MS ? ms : LEAST_BEAT_MS);
}

static void on_tick(uv_timer_t *t)
{
    yd_supervisor *s = t->data;
    if (given.watchdog_us) say(s, "WATCHDOG=1");
    if (s->ready || s->stopping) return;
    if (!s->is_ready(s->arg)) {
        char text[64];
        snprintf(text, sizeof text, "EXTEND_TIMEOUT_USEC=%d\nSTATUS=loading", EXTEND_US);
        say(s, text);
        return;
    }
    s->ready = say(s, "READY=1\nSTATUS=serving");
    if (!s->ready) return; // the supervisor is behind with reading: once more at the next tick
    if (given.watchdog_us)
        uv_timer_start(t, on_tick, beat_ms(), beat_ms());
    else
        uv_timer_stop(t);
}

int yd_supervisor_start(uv_loop_t *loop, int (*is_ready)(void *arg), void *arg, yd_supervisor **out, yd_err *err)
{
    *out = NULL;
    if (!given.to.sun_family) return 0;
    yd_supervisor *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for the supervisor's messages");
    s->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    s->is_ready = is_ready;
    s->arg = arg;
    s->timer.data = s;
    uv_timer_init(loop, &s->timer);
    const uint64_t ms = given.watchdog_us && beat_ms() < READY_MS ? beat_ms() : READY_MS;
    uv_timer_start(&s->timer, on_tick, ms, ms);
    *out = s;
    return 0;
}

void yd_supervisor_reloaded(yd_supervisor *s)
{
    if (!s || !s->ready) return;
    char text[96];
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)yd_mono_us());
    say(s, text);
    say(s, "READY=1");
}

void yd_supervisor_stopping(yd_supervisor *s)
{
    if (!s || s->stopping) return;
    s->stopping = 1;
    say(s, "STOPPING=1\nSTATUS=draining");
}

static void on_closed(uv_handle_t *h)
{
    yd_supervisor *s = h->data;
    if (s->fd >= 0) close(s->fd);
    yd_free(s);
}

void yd_supervisor_stop(yd_supervisor *s)
{
    if (s) uv_close((uv_handle_t *)&s->timer, on_closed);
}
