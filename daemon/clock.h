// Time: a monotonic clock for durations and deadlines, the wall clock only for what people read. Threads: any.
#ifndef YD_DAEMON_CLOCK_H
#define YD_DAEMON_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define YD_RFC3339_MAX 32

int64_t yd_mono_us(void); // since some point in the past; never goes back
int64_t yd_wall_ms(void); // since 1970-01-01 UTC; may jump

// "2024-05-01T12:00:00.123Z". cap >= YD_RFC3339_MAX; times outside the years 1970..9999 are clamped.
void yd_rfc3339(int64_t wall_ms, char *dst, size_t cap);

#endif
