// What a pixel costs by the size of its window and the number of windows in a batch. Small windows follow a mask more closely (yoda work
// counts how closely), but the network's fixed work, and what does not fill the machine, is spread over fewer pixels.
// Printed: nanoseconds per pixel and step, and that cost relative to the model's own window alone.
#include "core/engine.h"
#include "core/mem.h"
#include "tests/bench/bench.h"

#include <stdio.h>
#include <string.h>

#define WINDOWS 7
#define BATCHES 4
#define ROUNDS  12

static const int windows[WINDOWS] = {32, 48, 64, 96, 128, 192, 256};
static const int batches[BATCHES] = {1, 2, 4, 8};

typedef struct column {
    yd_engine *engine;
    float *x, *level, *out;
    double best[BATCHES]; // seconds
} column;

static int open_column(yd_backend *be, yd_model *m, int window, yd_dtype dt, column *c, yd_err *err)
{
    const yd_engine_options opt = {.dtype = dt, .max_batch = batches[BATCHES - 1]};
    const size_t px = (size_t)window * (size_t)window * (size_t)opt.max_batch;
    c->x = yd_calloc(px * 6, sizeof *c->x);
    c->out = yd_calloc(px * 3, sizeof *c->out);
    c->level = yd_calloc((size_t)opt.max_batch, sizeof *c->level);
    if (!c->x || !c->out || !c->level) return yd_fail(err, YD_E_NOMEM, "no memory for windows of %d pixels", window);
    for (size_t i = 0; i < px * 6; i++) c->x[i] = (float)(i * 2654435761u % 2000) / 1000.0f - 1.0f;
    for (int i = 0; i < opt.max_batch; i++) c->level[i] = 0.5f;
    int rc = yd_model_config_windows(&m->cfg, window, -1, err);
    return rc ? rc : yd_engine_new(be, m, &opt, &c->engine, err);
}

static int time_once(column *c, int b, yd_err *err)
{
    double t = bench_now_s();
    int rc = yd_engine_forward(c->engine, c->x, c->level, batches[b], c->out, err);
    t = bench_now_s() - t;
    if (c->best[b] == 0 || t < c->best[b]) c->best[b] = t;
    return rc;
}

static double per_pixel(const column *c, int i, int b)
{
    return c->best[b] / ((double)windows[i] * windows[i] * batches[b]);
}

static void print(const column *c, int own, yd_dtype dt)
{
    printf("%-5s %6s", dt == YD_BF16 ? "bf16" : "f32", "window");
    for (int b = 0; b < BATCHES; b++) printf("  %4s %-8s", "batch", (const char *[]){"1", "2", "4", "8"}[b]);
    putchar('\n');
    for (int i = 0; i < WINDOWS; i++) {
        printf("%12d", windows[i]);
        for (int b = 0; b < BATCHES; b++) printf("  %6.1f %6.2fx ", per_pixel(&c[i], i, b) * 1e9, per_pixel(&c[i], i, b) / per_pixel(&c[own], own, 0));
        putchar('\n');
    }
    fflush(stdout);
}

static int bench(yd_backend *be, yd_model *m, yd_dtype dt, yd_err *err)
{
    static column columns[WINDOWS];
    int rc = 0, own = WINDOWS - 1;
    for (int i = 0; i < WINDOWS; i++)
        if (windows[i] == m->cfg.window) own = i;
    const int window = m->cfg.window, overlap = m->cfg.overlap;
    memset(columns, 0, sizeof columns);
    for (int i = 0; i < WINDOWS && rc == 0; i++) rc = open_column(be, m, windows[i], dt, &columns[i], err);
    for (int r = 0; r < ROUNDS && rc == 0; r++)
        for (int i = 0; i < WINDOWS * BATCHES && rc == 0; i++) rc = time_once(&columns[i / BATCHES], i % BATCHES, err);
    if (rc == 0) print(columns, own, dt);
    for (int i = 0; i < WINDOWS; i++) {
        yd_engine_free(columns[i].engine);
        yd_free(columns[i].x);
        yd_free(columns[i].level);
        yd_free(columns[i].out);
    }
    const int restored = yd_model_config_windows(&m->cfg, window, overlap, err);
    return rc ? rc : restored;
}

int main(int argc, char **argv)
{
    (void)argc;
    yd_cpu_prepare_process(argv);
    yd_backend *be = NULL;
    yd_backend_info info;
    yd_err err = {0};
    yd_cpu_options opt = {0};
    yd_model *m = bench_model();
    if (!m) return 1;
    int rc = yd_cpu_open(&opt, &be, &err);
    if (rc == 0) {
        be->info(be, &info);
        printf("# ns per pixel and step, and relative to the model's own window alone: %s, window %d, %d threads\n", m->cfg.name, m->cfg.window, info.threads);
        rc = bench(be, m, YD_F32, &err);
        if (rc == 0 && info.bf16) rc = bench(be, m, YD_BF16, &err);
        be->close(be);
    }
    if (rc) fprintf(stderr, "%s\n", err.detail);
    yd_model_free(m);
    return rc != 0;
}
