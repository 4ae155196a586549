// One network evaluation (a unit of work) against the machine: share of the measured FMA peak, and how much everything that is not a
// convolution adds on top of the same convolutions timed one by one. For the shipped model and the paper's SR3, f32 and bf16.
#include "core/mem.h"
#include "tests/bench/bench.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct timed {
    yd_graph *graph;
    yd_weights *weights;
    yd_exec *exec;
    double best;  // seconds
    int count;    // how many convolutions of the network have this shape
    yd_op op;     // the convolution
    yd_tensor in; // its input
    yd_dtype out_dtype;
    int out_c;
} timed;

static void time_once(yd_backend *be, timed *t)
{
    double s = bench_now_s();
    be->run(t->exec, NULL);
    s = bench_now_s() - s;
    if (t->best == 0 || s < t->best) t->best = s;
}

static int same_conv(const timed *t, const yd_graph *g, const yd_op *op)
{
    const yd_tensor *x = &g->tensors[op->in[0]], *y = &g->tensors[op->out[0]];
    return t->op.k == op->k && t->op.stride == op->stride && t->in.h == x->h && t->in.w == x->w && t->in.c == x->c && t->out_c == y->c &&
           (t->op.in[3] >= 0) == (op->in[3] >= 0);
}

// One convolution as a graph of its own.
static int conv_alone(yd_backend *be, timed *t, const yd_graph *g, const yd_op *op)
{
    yd_err err = {0};
    t->op = *op;
    t->in = g->tensors[op->in[0]];
    t->out_c = g->tensors[op->out[0]].c;
    t->count = 1;
    yd_graph *c = t->graph = yd_graph_new();
    yd_tid x = yd_graph_input(c, "x", t->in.h, t->in.w, t->in.c, t->in.dtype);
    yd_tid w = yd_graph_param(c, "w", 4, (const int[4]){t->out_c, t->in.c, op->k, op->k});
    yd_tid b = yd_graph_param(c, "b", 1, (const int[4]){t->out_c});
    yd_tid y = yd_graph_conv(c, "y", x, w, b, YD_NONE, op->stride, op->pad);
    c->tensors[y].dtype = g->tensors[op->out[0]].dtype;
    float *zero[2] = {yd_calloc(yd_tensor_numel(&c->tensors[w]), 4), yd_calloc((size_t)t->out_c, 4)};
    int rc = yd_graph_finish(c, &err);
    if (!rc) rc = be->weights_new(be, c, (const float *const *)zero, 0, &t->weights, &err);
    if (!rc) rc = be->compile(be, c, t->weights, 1, &t->exec, &err);
    if (rc) fprintf(stderr, "%s\n", err.detail);
    yd_free(zero[0]);
    yd_free(zero[1]);
    return rc;
}

static void release(yd_backend *be, timed *t)
{
    if (t->exec) be->exec_free(t->exec);
    if (t->weights) be->weights_free(t->weights);
    yd_graph_free(t->graph);
}

static void bench(yd_backend *be, const yd_model *m, yd_dtype dt, int threads, int rounds)
{
    static timed convs[256];
    timed whole = {0};
    yd_err err = {0};
    int n = 0;
    memset(convs, 0, sizeof convs);
    if (yd_net_build(&m->cfg.net, m->cfg.window, m->cfg.window, dt, 0, &whole.graph, &err) ||
        be->weights_new(be, whole.graph, (const float *const *)m->params, 0, &whole.weights, &err) ||
        be->compile(be, whole.graph, whole.weights, 1, &whole.exec, &err)) {
        printf("%-18s %s\n", m->cfg.name, err.detail);
        release(be, &whole);
        return;
    }
    for (int i = 0; i < whole.graph->n_ops; i++) {
        const yd_op *op = &whole.graph->ops[i];
        if (op->kind != YD_OP_CONV) continue;
        int k = 0;
        while (k < n && !same_conv(&convs[k], whole.graph, op)) k++;
        if (k < n) convs[k].count++;
        else if (n == 256 || conv_alone(be, &convs[n++], whole.graph, op)) goto out; // without one of them the ratio would be wrong
    }
    const double flops = yd_graph_flops(whole.graph);
    const double before = dt == YD_BF16 ? bench_peak_bf16(threads) : bench_peak_f32(threads);
    for (int r = 0; r < rounds; r++) {
        time_once(be, &whole);
        for (int i = 0; i < n; i++) time_once(be, &convs[i]);
    }
    const double after = dt == YD_BF16 ? bench_peak_bf16(threads) : bench_peak_f32(threads);
    const double peak = before > after ? before : after;
    double sum = 0;
    for (int i = 0; i < n; i++) sum += convs[i].best * convs[i].count;
    printf("%-18s %-5s %4d %9.2f %9.1f %9.1f %8.2f %12.2f%s\n", m->cfg.name, dt == YD_BF16 ? "bf16" : "f32", m->cfg.window, flops / 1e9,
           whole.best * 1e3, peak / 1e9, flops / whole.best / peak, whole.best / sum,
           before / after > 1.1 || after / before > 1.1 ? "  (peak moved by more than 10%: void)" : "");
    fflush(stdout);
out:
    for (int i = 0; i < n; i++) release(be, &convs[i]);
    release(be, &whole);
}

int main(int argc, char **argv)
{
    (void)argc;
    yd_cpu_prepare_process(argv);
    yd_backend *be = NULL;
    yd_err err = {0};
    yd_cpu_options opt = {0};
    if (yd_cpu_open(&opt, &be, &err)) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    yd_backend_info info;
    be->info(be, &info);
    printf("# one unit of work on %s, %s, %d threads\n", info.device, info.isa, info.threads);
    printf("%-18s %-5s %4s %9s %9s %9s %8s %12s\n", "model", "type", "win", "GFLOP", "ms", "peak GF/s", "of peak", "step / convs");
    yd_model *models[2] = {bench_model(), bench_paper_model()};
    for (int i = 0; i < 2; i++) {
        if (!models[i]) continue;
        bench(be, models[i], YD_F32, info.threads, i == 0 ? 30 : 8);
        if (info.bf16) bench(be, models[i], YD_BF16, info.threads, i == 0 ? 30 : 8);
        yd_model_free(models[i]);
    }
    be->close(be);
    return 0;
}
