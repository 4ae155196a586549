// A loop of the test's own. It is woken every few milliseconds, so that it never sleeps past the end of a wait.
#ifndef LOOP_RIG_H
#define LOOP_RIG_H

#include "daemon/clock.h"
#include "tests/unit/t.h"
#include <uv.h>

static uv_loop_t loop;
static uv_timer_t ticker;

static void on_tick(uv_timer_t *t)
{
    (void)t;
}

static void loop_begin(uint64_t tick_ms)
{
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, tick_ms, tick_ms);
}

// What is closing comes to its end first; then no handle may be left.
static void loop_end(void)
{
    uv_close((uv_handle_t *)&ticker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT)) continue;
    CHECK(uv_loop_close(&loop) == 0);
}

__attribute__((unused)) static void wait_ms(int64_t ms)
{
    const int64_t until = yd_mono_us() + ms * 1000;
    while (yd_mono_us() < until) uv_run(&loop, UV_RUN_ONCE);
}

#endif
