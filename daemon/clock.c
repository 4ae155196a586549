// The two clocks and the one way a time is written. Stateless.
#include "daemon/clock.h"

#include <stdio.h>
#include <time.h>

int64_t yd_mono_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t yd_wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void yd_rfc3339(int64_t wall_ms, char *dst, size_t cap)
{
    const int64_t last = 253402300799999; // 9999-12-31T23:59:59.999Z
    if (wall_ms < 0) wall_ms = 0;
    if (wall_ms > last) wall_ms = last;
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(dst, cap, "%Y-%m-%dT%H:%M:%S", &tm);
    if (n < cap) snprintf(dst + n, cap - n, ".%03dZ", (int)(wall_ms % 1000));
}
