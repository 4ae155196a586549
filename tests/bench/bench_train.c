// One iteration of training (forward, backward, optimiser) of the shipped model, batch 24 of 64 x 64: crops a second and share of the
// measured peak, with direct convolutions only and with Winograd's, in turn; on all threads and on one.
//
// The peak is that of the stored type, as bench_step has it. Inputs are noise: time does not depend on what is learned. A missed aim is
// a line below its row; exits with 1 when something could not be measured.
#include "tests/bench/bench.h"

#include <stdio.h>
#include <string.h>

#define BATCH    24
#define CROP     64
#define PEAK_AIM 0.5

typedef struct trained {
    yd_backend *be;
    yd_graph *graph;
    yd_weights *weights;
    yd_exec *exec;
    double best; // seconds
    long step;
} trained;

static int broken; // something could not be measured

static void fill_inputs(const trained *t)
{
    for (int i = 0; i < t->graph->n_tensors; i++) {
        const yd_tensor *x = &t->graph->tensors[i];
        if (x->kind != YD_T_INPUT) continue;
        const size_t count = yd_tensor_numel(x) * BATCH;
        float *to = t->be->buffer(t->exec, i);
        for (size_t k = 0; k < count; k++) to[k] = (float)(k * 2654435761u % 2003) / 2003.0f;
        for (size_t k = 0; k < count && strcmp(x->name, "weight") == 0; k++) to[k] = 1.0f / (CROP * CROP * 3 * BATCH);
    }
}

static int open_trained(trained *t, const yd_model *m, yd_dtype dt, int threads, int direct)
{
    yd_err err = {0};
    const yd_cpu_options opt = {.threads = threads, .no_winograd = direct};
    int rc = yd_cpu_open(&opt, &t->be, &err);
    if (!rc) rc = yd_net_build(&m->cfg.net, CROP, CROP, dt, 1, &t->graph, &err);
    if (!rc) {
        yd_graph_backward(t->graph, yd_graph_find(t->graph, "out"), 1);
        rc = yd_graph_finish(t->graph, &err);
    }
    if (!rc) rc = t->be->weights_new(t->be, t->graph, (const float *const *)m->params, 1, &t->weights, &err);
    if (!rc) rc = t->be->compile(t->be, t->graph, t->weights, BATCH, &t->exec, &err);
    if (rc) fprintf(stderr, "%s\n", err.detail);
    else fill_inputs(t);
    return rc;
}

static void close_trained(trained *t)
{
    if (t->exec) t->be->exec_free(t->exec);
    if (t->weights) t->be->weights_free(t->weights);
    yd_graph_free(t->graph);
    if (t->be) t->be->close(t->be);
}

static void iterate(trained *t)
{
    const yd_adamw hp = {.lr = 1e-5f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .clip_norm = 1, .ema_decay = 0.999f, .step = ++t->step};
    yd_err err = {0};
    double s = bench_now_s();
    if (t->be->run(t->exec, &err) || t->be->adamw(t->weights, t->exec, &hp, NULL, &err)) {
        fprintf(stderr, "%s\n", err.detail);
        broken = 1;
    }
    s = bench_now_s() - s;
    if (t->best == 0 || s < t->best) t->best = s;
}

static void bench(const yd_model *m, yd_dtype dt, int threads)
{
    trained t[2] = {0};
    if (open_trained(&t[0], m, dt, threads, 1) || open_trained(&t[1], m, dt, threads, 0)) broken = 1;
    const double before = dt == YD_BF16 ? bench_peak_bf16(threads) : bench_peak_f32(threads);
    for (int r = 0; r < 12 && !broken; r++)
        for (int k = 0; k < 2; k++) iterate(&t[k]);
    const double after = dt == YD_BF16 ? bench_peak_bf16(threads) : bench_peak_f32(threads);
    const double peak = before > after ? before : after;
    for (int k = 0; k < 2 && !broken; k++) {
        yd_exec_stats st;
        t[k].be->exec_stats(t[k].exec, &st);
        const double share = st.flops / t[k].best / peak;
        printf("%-5s %7d  %-9s %9.1f %10.1f %9.0f %8.2f %8.2f %8.0f%s\n", dt == YD_BF16 ? "bf16" : "f32", threads, k ? "Winograd" : "direct",
               t[k].best * 1e3, BATCH / t[k].best, peak / 1e9, share, t[0].best / t[k].best,
               (double)(st.arena_bytes + st.scratch_bytes + st.weight_bytes) / 1e6,
               before / after > 1.1 || after / before > 1.1 ? "  (peak moved by more than 10%: void)" : "");
        if (k && share < PEAK_AIM) printf("  missed: of peak is %.2f, aimed at at least %.2f\n", share, PEAK_AIM);
    }
    fflush(stdout);
    for (int k = 0; k < 2; k++) close_trained(&t[k]);
}

int main(int argc, char **argv)
{
    (void)argc;
    yd_cpu_prepare_process(argv);
    yd_err err = {0};
    yd_backend *be = NULL;
    yd_model *m = bench_model();
    if (!m || yd_cpu_open(NULL, &be, &err)) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    yd_backend_info info;
    be->info(be, &info);
    be->close(be);
    printf("# training %s on %s, batch %d of %dx%d; the iteration's multiply-adds counted as direct convolutions have them\n", m->cfg.name,
           info.device, BATCH, CROP, CROP);
    printf("%-5s %7s  %-9s %9s %10s %9s %8s %8s %8s\n", "type", "threads", "convs", "ms", "crops/s", "peak GF/s", "of peak", "times", "MB");
    for (int threads = info.threads; threads > 0; threads = threads > 1 ? 1 : 0) {
        if (info.bf16) bench(m, YD_BF16, threads);
        bench(m, YD_F32, threads);
    }
    yd_model_free(m);
    return broken;
}
