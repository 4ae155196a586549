// Progress on stderr: see progress.h.
//
// A terminal gets a bar, redrawn at most ten times a second; a file or pipe gets one line every ten seconds, so that logs of long
// runs stay readable. The clock is monotonic.
#include "tools/progress.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { MODE_QUIET, MODE_LINES, MODE_BAR };

#define BAR_EVERY_S  0.1
#define LINE_EVERY_S 10.0
#define BAR_CELLS    24

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void yd_progress_start(yd_progress *p, int quiet)
{
    p->mode = quiet ? MODE_QUIET : isatty(STDERR_FILENO) ? MODE_BAR : MODE_LINES;
    p->started_s = p->shown_s = now_s();
}

double yd_progress_elapsed_s(const yd_progress *p)
{
    return now_s() - p->started_s;
}

void yd_progress_show(yd_progress *p, double share, const char *fmt, ...)
{
    double now = now_s(), every = p->mode == MODE_BAR ? BAR_EVERY_S : LINE_EVERY_S;
    if (p->mode == MODE_QUIET || now - p->shown_s < every) return;
    p->shown_s = now;
    if (!(share >= 0)) share = 0;
    if (share > 1) share = 1;

    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);

    if (p->mode == MODE_LINES) {
        fprintf(stderr, "%3.0f%%  %s\n", floor(share * 100), text);
        return;
    }
    char bar[BAR_CELLS + 1];
    for (int i = 0; i < BAR_CELLS; i++) bar[i] = (i + 1) <= (int)(share * BAR_CELLS + 0.5) ? '#' : '.';
    bar[BAR_CELLS] = 0;
    fprintf(stderr, "\r\033[K[%s] %3.0f%%  %s", bar, floor(share * 100), text);
}

void yd_progress_note(yd_progress *p, const char *text)
{
    if (p->mode == MODE_QUIET) return;
    fprintf(stderr, "%s%s\n", p->mode == MODE_BAR ? "\r\033[K" : "", text);
}

void yd_progress_end(yd_progress *p)
{
    if (p->mode == MODE_BAR) fprintf(stderr, "\r\033[K");
}

void yd_progress_duration(double seconds, char *dst, unsigned cap)
{
    long s = seconds > 0 && seconds < 1e9 ? lround(seconds) : 0;
    if (s < 60)
        snprintf(dst, cap, "%ld s", s);
    else if (s < 3600)
        snprintf(dst, cap, "%ld min %02ld s", s / 60, s % 60);
    else
        snprintf(dst, cap, "%ld h %02ld min", s / 3600, s / 60 % 60);
}
