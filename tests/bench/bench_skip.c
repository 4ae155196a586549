// Does the time follow the mask? A synthetic map on a canvas of 8 x 8 windows leaves most windows off for most steps; the same job
// runs with skipping on and off in turn. Printed: wall(on)/wall(off) against executed/all window-steps. The bytes must be equal.
#include "core/engine.h"
#include "core/mem.h"
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 8

typedef struct scene {
    int w, h;
    uint8_t *rgb;
    float *map;
} scene;

// A grey ramp; `live` of the SIDE*SIDE blocks have attention 1, the others 0.
static scene scene_new(const yd_model_config *cfg, int live)
{
    const int stride = cfg->window - cfg->overlap, side = stride * (SIDE - 1) + cfg->window;
    scene s = {side, side, yd_malloc((size_t)side * (size_t)side * 3), yd_calloc((size_t)side * (size_t)side, sizeof(float))};
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            const size_t i = (size_t)y * (size_t)side + (size_t)x;
            memset(s.rgb + i * 3, (x * 7 + y * 3) & 255, 3);
            // the inner part of a block, so that it belongs to one window only
            const int bx = x / stride, by = y / stride, ix = x % stride, iy = y % stride;
            const int inner = ix > cfg->overlap && iy > cfg->overlap && ix < stride - 1 && iy < stride - 1;
            s.map[i] = inner && by * SIDE + bx < live ? 1.0f : 0.0f;
        }
    return s;
}

static double run(yd_engine *e, const yd_model *m, const yd_sample_settings *set, const scene *sc, yd_work *work, float **result)
{
    yd_sampler *s = NULL;
    yd_err err = {0};
    if (yd_sampler_new(&m->cfg, set, sc->w, sc->h, sc->rgb, sc->map, &s, &err)) {
        fprintf(stderr, "%s\n", err.detail);
        exit(1);
    }
    yd_sampler_work(s, work);
    double t = bench_now_s();
    yd_unit u;
    while (yd_sampler_next(s, &u)) {
        int done;
        yd_step_info info;
        if (yd_engine_run(e, &s, &u, 1, &done, &info, &err) || done < 0) {
            fprintf(stderr, "%s\n", err.detail);
            exit(1);
        }
    }
    t = bench_now_s() - t;
    const size_t bytes = (size_t)sc->w * (size_t)sc->h * 3 * sizeof(float);
    *result = yd_malloc(bytes);
    memcpy(*result, yd_sampler_result(s), bytes);
    yd_sampler_free(s);
    return t;
}

static void bench(yd_engine *e, const yd_model *m, int live, double bound)
{
    scene sc = scene_new(&m->cfg, live);
    yd_sample_settings set = m->cfg.defaults;
    set.steps = 8;
    set.mask_form = YD_MASK_MAX;
    set.lower_bound = bound;
    yd_work on, off;
    double best_on = 1e30, best_off = 1e30;
    int equal = 1;
    for (int r = 0; r < 2; r++) {
        float *a, *b;
        set.skip = 1;
        double t = run(e, m, &set, &sc, &on, &a);
        if (t < best_on) best_on = t;
        set.skip = 0;
        t = run(e, m, &set, &sc, &off, &b);
        if (t < best_off) best_off = t;
        equal &= memcmp(a, b, (size_t)sc.w * (size_t)sc.h * 3 * sizeof(float)) == 0;
        yd_free(a);
        yd_free(b);
    }
    const double ideal = (double)on.units / (double)on.units_all, got = best_on / best_off;
    printf("%4d of %d %7.2f %9ld %9ld %10.3f %10.3f %+8.3f %7s\n", live, SIDE * SIDE, bound, on.units, on.units_all, ideal, got, got - ideal,
           equal ? "equal" : "DIFFER");
    fflush(stdout);
    yd_free(sc.rgb);
    yd_free(sc.map);
}

int main(int argc, char **argv)
{
    (void)argc;
    yd_cpu_prepare_process(argv);
    yd_backend *be = NULL;
    yd_engine *e = NULL;
    yd_err err = {0};
    yd_cpu_options opt = {0};
    yd_model *m = bench_model();
    if (!m) return 1;
    yd_backend_info info;
    if (yd_cpu_open(&opt, &be, &err)) goto fail;
    be->info(be, &info);
    yd_engine_options eopt = {.dtype = info.bf16 ? YD_BF16 : YD_F32, .max_batch = 1};
    if (yd_engine_new(be, m, &eopt, &e, &err)) goto fail;
    printf("# skipping: %s, window %d, 8 steps, %s\n", m->cfg.name, m->cfg.window, info.bf16 ? "bf16" : "f32");
    printf("%10s %7s %9s %9s %10s %10s %8s %7s\n", "live", "bound", "executed", "all", "exec/all", "wall ratio", "over", "bytes");
    bench(e, m, 16, 0.5);
    bench(e, m, 1, 0.5);
    bench(e, m, 4, 0.125);
    bench(e, m, 64, 0.5);
    yd_engine_free(e);
    be->close(be);
    yd_model_free(m);
    return 0;
fail:
    fprintf(stderr, "%s\n", err.detail);
    return 1;
}
