// gpu-check: is a backend right? Prints one row a check and ends with "N passed, N failed, N skipped".
//
//   gpu-check [--backend cuda[:N]|cpu] [--only WORDS] [--data FILE] [--save]
//
// --only: rows whose name holds one of the words, which commas separate. --save: write FILE from what this backend gives.
// Everything that a backend promises in core/backend.h is asked of it from outside: operators against the plain loops of tests/oracle, whole
// networks, sampling runs and a training against what the CPU backend gave (saved.c), and that a sample's bits depend on nothing else. It
// runs on the CPU too, so that the checks themselves can be proven. Where there is no device it says so in one line and is content.
// Read next: check_ops.c
#include "tests/gpu/check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_DETAILS = 12 };

static double row_began;
static int details;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// ---- the table

// Does the label hold one of the words between commas?
static int has_word(const char *label, const char *words)
{
    while (*words) {
        const size_t n = strcspn(words, ",");
        char word[64];
        snprintf(word, sizeof word, "%.*s", (int)n, words);
        if (strstr(label, word)) return 1;
        words += n + (words[n] == ',');
    }
    return 0;
}

int check_begin(check *c, const char *group, const char *name)
{
    char label[128];
    snprintf(label, sizeof label, "%s %s", group, name);
    if (c->only && !has_word(label, c->only)) return 0;
    printf("  %-9s %-48s ", group, name);
    fflush(stdout);
    row_began = now_s();
    details = 0;
    return 1;
}

void check_detail(check *c, const char *fmt, ...)
{
    (void)c;
    va_list ap;
    if (++details > MAX_DETAILS) return;
    va_start(ap, fmt);
    printf("\n      ");
    vprintf(fmt, ap);
    va_end(ap);
}

void check_end(check *c, int ok, const char *fmt, ...)
{
    va_list ap;
    char found[160];
    va_start(ap, fmt);
    vsnprintf(found, sizeof found, fmt, ap);
    va_end(ap);
    if (details > MAX_DETAILS) printf("\n      and %d more", details - MAX_DETAILS);
    if (details) printf("\n  %59s", "");
    if (ok)
        c->passed++;
    else
        c->failed++;
    printf("%-4s  %s  (%.1f s)\n", ok ? "ok" : "FAIL", found, now_s() - row_began);
    fflush(stdout);
}

void check_skip(check *c, const char *why)
{
    c->skipped++;
    printf("skip  %s\n", why);
}

// ---- what the checks share

yd_backend *check_open(const check *c, const yd_cuda_options *cuda)
{
    const yd_cpu_options cpu = {.keep_activations = cuda->keep_activations};
    yd_err err = {0};
    yd_backend *be = NULL;
    if (check_open_device(c->device, &cpu, cuda, &be, &err))
        printf("\n      cannot open %s: %s\n", c->device, err.detail);
    return be;
}

double check_rel_diff(const float *a, const float *b, size_t n)
{
    double d = 0, m = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = fabs((double)a[i] - (double)b[i]), y = fabs((double)b[i]);
        if (!(x < INFINITY)) return INFINITY;
        if (x > d) d = x;
        if (y > m) m = y;
    }
    return m > 0 ? d / m : d;
}

double check_psnr(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return 10 * log10(4.0 * (double)n / fmax(sum, 1e-30));
}

void check_fill(float *dst, size_t n, unsigned long seed)
{
    uint64_t s = seed * 2654435761u + 88172645463325252u;
    for (size_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        dst[i] = (float)(s >> 40) * (1.0f / 8388608.0f) - 1.0f;
    }
}

// ---- the program

static int usage(void)
{
    fprintf(stderr, "usage: gpu-check [--backend cuda|cuda:N|cpu] [--only WORDS] [--data FILE] [--save]\n");
    return 2;
}

static void describe(const yd_backend *be)
{
    yd_backend_info info;
    be->info(be, &info);
    printf("%s: %s, %s, %s, %.1f GB\n\n", info.name, info.device, info.isa, info.library,
           (double)info.memory_total * 1e-9);
}

static int run(check *c, const char *data, int save)
{
    yd_err err = {0};
    const yd_cuda_options keep = {.keep_activations = 1, .canvases = 1};
    c->be = check_open(c, &keep);
    if (!c->be) return 1;
    describe(c->be);
    if (saved_open(data, save, &c->saved, &err)) {
        printf("%s: %s\n", data, err.detail);
        return 1;
    }
    if (!save) check_ops(c);
    check_nets(c);
    check_sampler(c);
    check_train(c);
    if (saved_close(c->saved, &err)) {
        printf("%s: %s\n", data, err.detail);
        c->failed++;
    }
    c->be->close(c->be);
    printf("%d passed, %d failed, %d skipped\n", c->passed, c->failed, c->skipped);
    return c->failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    check c = {.device = "cuda"};
    const char *data = "tests/gpu/data/cpu.safetensors";
    int save = 0;
    yd_err err = {0};
    yd_cpu_prepare_process(argv);
    for (int i = 1; i < argc; i++) {
        const int more = i + 1 < argc;
        if (strcmp(argv[i], "--backend") == 0 && more)
            c.device = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && more)
            c.only = argv[++i];
        else if (strcmp(argv[i], "--data") == 0 && more)
            data = argv[++i];
        else if (strcmp(argv[i], "--save") == 0)
            save = 1;
        else
            return usage();
    }
    const int there = check_find_device(c.device, &c.on_gpu, &err);
    if (there < 0) {
        fprintf(stderr, "gpu-check: %s\n", err.detail);
        return 2;
    }
    if (!there) {
        printf("skipped: no CUDA device (%s)\n", err.detail);
        return 0;
    }
    return run(&c, data, save);
}
