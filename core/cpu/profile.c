// Where the time goes: each kernel timed, summed by family. Costs two clock readings per kernel, and nothing when off.
#include "core/cpu/cpu.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LINES ((int)(sizeof((yd_exec *)0)->profile / sizeof(yd_profile_line)))

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// The family's line; the last one takes what finds no line of its own.
static yd_profile_line *line_of(yd_exec *e, const char *family)
{
    for (int i = 0; i < LINES; i++) {
        yd_profile_line *l = &e->profile[i];
        if (!l->family) l->family = i == LINES - 1 ? "others" : family;
        if (i == LINES - 1 || strcmp(l->family, family) == 0) return l;
    }
    return NULL;
}

int yd_run_profiled(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    double t = now_s();
    int rc = k->run(e, k, err);
    yd_profile_line *l = line_of(e, k->family);
    l->seconds += now_s() - t;
    l->calls++;
    return rc;
}

void yd_profile_print(const yd_exec *e)
{
    double sum = 0;
    for (int i = 0; i < LINES; i++) sum += e->profile[i].seconds;
    if (!(sum > 0)) return;
    fprintf(stderr, "%d samples per run, times of all runs:\n%-18s %8s %10s %8s %7s\n", e->n, "kernels", "calls", "ms",
            "us/call", "share");
    for (int i = 0; i < LINES && e->profile[i].family; i++) {
        const yd_profile_line *l = &e->profile[i];
        fprintf(stderr, "%-18s %8ld %10.2f %8.1f %6.1f%%\n", l->family, l->calls, l->seconds * 1e3,
                l->seconds * 1e6 / (double)l->calls, 100 * l->seconds / sum);
    }
}
