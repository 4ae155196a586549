// The test harness: a test program is a list of functions; each runs, counts its failed checks and is reported on one line.
//
// A case fails when any CHECK in it fails; it may call t_skip("why") when files of YODA_SHARED are not there (the only allowed
// reason). The last line is "N passed, N failed, N skipped", which tests/run adds up.
#ifndef T_H
#define T_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int t_failed_checks, t_skipped_case;

#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            printf("  %s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                                              \
            t_failed_checks++;                                                                                         \
        }                                                                                                              \
    } while (0)
// With a printf-style explanation.
#define CHECK_MSG(cond, ...)                                                                                           \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            printf("  %s:%d: not true: %s: ", __FILE__, __LINE__, #cond);                                              \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
            t_failed_checks++;                                                                                         \
        }                                                                                                              \
    } while (0)

__attribute__((unused)) static void t_skip(const char *why)
{
    printf("  skipped: %s\n", why);
    t_skipped_case = 1;
}

// Path of a file below YODA_SHARED (default ../shared); NULL when it is not there. One static buffer.
__attribute__((unused)) static const char *t_shared(const char *rel)
{
    static char path[1024];
    const char *root = getenv("YODA_SHARED");
    snprintf(path, sizeof path, "%s/%s", root && *root ? root : "../shared", rel);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fclose(f);
    return path;
}

// max |a-b| / max |b|
__attribute__((unused)) static double t_rel_diff(const float *a, const float *b, size_t n)
{
    double d = 0, m = 0;
    for (size_t i = 0; i < n; i++) {
        double x = fabs((double)a[i] - (double)b[i]), y = fabs((double)b[i]);
        if (!(x <= d)) d = x;
        if (y > m) m = y;
    }
    return m > 0 ? d / m : d;
}

typedef struct t_case {
    const char *name;
    void (*run)(void);
} t_case;

__attribute__((unused)) static int t_main(int argc, char **argv, const t_case *cases, size_t n)
{
    int passed = 0, failed = 0, skipped = 0;
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && !strstr(cases[i].name, argv[1])) continue;
        t_failed_checks = t_skipped_case = 0;
        cases[i].run();
        const char *verdict = t_failed_checks ? "FAIL" : t_skipped_case ? "skip" : "ok";
        if (t_failed_checks) failed++;
        else if (t_skipped_case) skipped++;
        else passed++;
        printf("%-4s %s\n", verdict, cases[i].name);
        fflush(stdout);
    }
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed ? 1 : 0;
}

#endif
