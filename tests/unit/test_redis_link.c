// Connections to Redis by the name of a host: it is looked up by a thread of the pool, one at a time, whatever becomes of the link meanwhile.
//
// The look-up is made slow in this program: libuv's calls come through the function below.
#include "daemon/redis_link.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "tests/unit/redis_rig.h"
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>

static atomic_int lookups, slow_ms;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (strcmp(node, "redis.test") != 0) return real(node, service, hints, out); // hiredis asks for numbers too
    atomic_fetch_add(&lookups, 1);
    usleep((useconds_t)atomic_load(&slow_ms) * 1000);
    return real("127.0.0.1", service, hints, out);
}

static uv_loop_t loop;
static uv_timer_t ticker;
static int ticks, ups, downs;

static void on_tick(uv_timer_t *t)
{
    (void)t;
    ticks++;
}

static void up(void *arg)
{
    (void)arg;
    ups++;
}

static void down(void *arg, const char *why)
{
    (void)arg, (void)why;
    downs++;
}

static int free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    close(fd);
    return ntohs(a.sin_port);
}

static void begin(void)
{
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 5, 5);
    ticks = ups = downs = 0;
    atomic_store(&lookups, 0);
}

static void end(void)
{
    uv_close((uv_handle_t *)&ticker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT)) continue;
    CHECK(uv_loop_close(&loop) == 0);
}

static void run_until(const int *what, int value)
{
    for (const int64_t until = yd_mono_us() + 20000000; *what < value && yd_mono_us() < until;) uv_run(&loop, UV_RUN_ONCE);
    CHECK(*what >= value);
}

static void the_loop_goes_on(void)
{
    if (!redis_is_installed()) {
        t_skip("redis-server is not installed");
        return;
    }
    redis_start();
    const int port = free_port();
    CHECK(redis_do("CONFIG SET bind 127.0.0.1") > 0 && redis_do("CONFIG SET port %d", port) > 0);
    begin();
    yd_redis_url url = {.host = "redis.test", .port = port};
    yd_redis_link link = {.loop = &loop, .url = &url, .up = up, .down = down};
    atomic_store(&slow_ms, 400);
    const int64_t began = yd_mono_us();
    yd_redis_link_start(&link);
    CHECK_MSG(yd_mono_us() - began < 200000 && yd_redis_link_busy(&link), "starting waits for the name");
    run_until(&ups, 1);
    CHECK_MSG(yd_mono_us() - began >= 400000 && ticks > 5, "%d ticks", ticks);
    CHECK_MSG(atomic_load(&lookups) == 1 && !downs && link.ready, "%d lookups, down %d times", atomic_load(&lookups), downs);
    yd_redis_link_end(&link);
    end();
    redis_end();
}

// Given up and begun again while the name is looked up: no second look-up, and one that nobody waits for any more ends by itself.
static void given_up_meanwhile(void)
{
    begin();
    yd_redis_url url = {.host = "redis.test", .port = free_port()}; // nobody listens there
    yd_redis_link *link = yd_calloc(1, sizeof *link);
    *link = (yd_redis_link){.loop = &loop, .url = &url, .up = up, .down = down};
    atomic_store(&slow_ms, 300);
    for (int i = 0; i < 5; i++) {
        yd_redis_link_start(link);
        CHECK(yd_redis_link_busy(link));
        yd_redis_link_drop(link);
        CHECK(!yd_redis_link_busy(link) && !downs);
    }
    yd_redis_link_start(link);
    run_until(&downs, 1);
    CHECK_MSG(atomic_load(&lookups) == 1 && downs == 1 && !yd_redis_link_busy(link), "%d lookups, down %d times", atomic_load(&lookups), downs);
    yd_redis_link_start(link);
    run_until(&ticks, ticks + 2); // it has begun
    yd_redis_link_end(link);
    yd_free(link);
    end();
    CHECK_MSG(atomic_load(&lookups) == 2 && downs == 1, "%d lookups, down %d times", atomic_load(&lookups), downs);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"redis link: the loop goes on while a name is looked up", the_loop_goes_on},
        {"redis link: given up while a name is looked up", given_up_meanwhile},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
