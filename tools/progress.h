// Progress of a long command on stderr: a bar that redraws itself on a terminal, a line now and then everywhere else.
// One thread.
#ifndef YD_TOOLS_PROGRESS_H
#define YD_TOOLS_PROGRESS_H

typedef struct yd_progress {
    int mode; // what stderr is; see progress.c
    double started_s, shown_s;
} yd_progress;

// Begin. quiet: show nothing at all.
void yd_progress_start(yd_progress *p, int quiet);
// Show `share` (0..1) and a printf-style text, unless it was shown a moment ago.
void yd_progress_show(yd_progress *p, double share, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
// Print a whole line of its own, above the bar.
void yd_progress_note(yd_progress *p, const char *text);
// Remove the bar.
void yd_progress_end(yd_progress *p);

// Seconds since the start.
double yd_progress_elapsed_s(const yd_progress *p);
// "12 s", "3 min 20 s", "2 h 05 min" into dst.
void yd_progress_duration(double seconds, char *dst, unsigned cap);

#endif
