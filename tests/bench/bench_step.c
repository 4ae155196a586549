// One network evaluation (a unit of work) against the machine: share of the measured FMA peak, and how much everything that is not a
// convolution adds on top of the same convolutions timed one by one. For the shipped model and the paper's SR3, in f32 with direct
// convolutions only, f32 and bf16; then what batches gain with small windows.
//
// bench_step [shipped|paper]: one of the models only. A missed aim is a line below its row; exits with 1 when something could not be
// measured.
#include "core/mem.h"
#include "tests/bench/bench.h"

#include <stdio.h>
#include <string.h>

#define MAX_CONVS 256

typedef struct timed {
    yd_graph *graph;
    yd_weights *weights;
    yd_exec *exec;
    double best;  // seconds
    int count;    // how many convolutions of the network have this shape
    yd_op op;     // the convolution
    yd_tensor in; // its input
    int out_c;
} timed;

// A way to run the models, and what is asked of it.
typedef struct variant {
    const char *name;
    yd_dtype dtype;
    yd_backend *be;
    double peak_aim, convs_aim;
} variant;

static int broken; // something could not be measured

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

static int compile(yd_backend *be, timed *t, const float *const *host, int n)
{
    yd_err err = {0};
    int rc = be->weights_new(be, t->graph, host, 0, &t->weights, &err);
    if (!rc) rc = be->compile(be, t->graph, t->weights, n, &t->exec, &err);
    if (rc) fprintf(stderr, "%s\n", err.detail);
    return rc;
}

// One convolution as a graph of its own.
static int conv_alone(yd_backend *be, timed *t, const yd_graph *g, const yd_op *op)
{
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
    int rc = yd_graph_finish(c, NULL);
    if (!rc) rc = compile(be, t, (const float *const *)zero, 1);
    yd_free(zero[0]);
    yd_free(zero[1]);
    return rc;
}

static void release(yd_backend *be, timed *t)
{
    if (t->exec) be->exec_free(t->exec);
    if (t->weights) be->weights_free(t->weights);
    yd_graph_free(t->graph);
    *t = (timed){0};
}

static int network(const variant *v, const yd_model *m, int window, int n, timed *t)
{
    yd_err err = {0};
    if (yd_net_build(&m->cfg.net, window, window, v->dtype, 0, &t->graph, &err)) {
        fprintf(stderr, "%s\n", err.detail);
        return -1;
    }
    return compile(v->be, t, (const float *const *)m->params, n);
}

// The network's convolutions, each shape once. Their number, or -1: without one of them the sum would be wrong.
static int convolutions(yd_backend *be, const yd_graph *g, timed convs[MAX_CONVS])
{
    int n = 0;
    for (int i = 0; i < g->n_ops; i++) {
        const yd_op *op = &g->ops[i];
        if (op->kind != YD_OP_CONV) continue;
        int k = 0;
        while (k < n && !same_conv(&convs[k], g, op)) k++;
        if (k < n) convs[k].count++;
        else if (n == MAX_CONVS || conv_alone(be, &convs[n++], g, op)) return -1;
    }
    return n;
}

// Share of the time that normalisation takes.
static double norm_share(const yd_exec_stats *st)
{
    double norm = 0, all = 0;
    for (size_t i = 0; i < sizeof st->profile / sizeof *st->profile && st->profile[i].family; i++) {
        all += st->profile[i].seconds;
        if (strcmp(st->profile[i].family, "GNORM") == 0) norm += st->profile[i].seconds;
    }
    return all > 0 ? norm / all : 0;
}

static double peak_of(const variant *v, int threads)
{
    return v->dtype == YD_BF16 ? bench_peak_bf16(threads) : bench_peak_f32(threads);
}

static void judge(const char *what, double value, double aim, int at_least)
{
    if (aim <= 0 || (at_least ? value >= aim : value <= aim)) return;
    printf("  missed: %s is %.2f, aimed at %s %.2f\n", what, value, at_least ? "at least" : "at most", aim);
}

static void bench(const variant *v, const yd_model *m, int threads, int rounds)
{
    static timed convs[MAX_CONVS];
    timed whole = {0};
    memset(convs, 0, sizeof convs);
    int n = network(v, m, m->cfg.window, 1, &whole) ? -1 : convolutions(v->be, whole.graph, convs);
    if (n < 0) broken = 1;
    const double before = peak_of(v, threads);
    for (int r = 0; r < rounds && n > 0; r++) {
        time_once(v->be, &whole);
        for (int i = 0; i < n; i++) time_once(v->be, &convs[i]);
    }
    const double after = peak_of(v, threads), peak = before > after ? before : after;
    if (n > 0) {
        double sum = 0, flops = yd_graph_flops(whole.graph);
        for (int i = 0; i < n; i++) sum += convs[i].best * convs[i].count;
        yd_exec_stats st;
        v->be->exec_stats(whole.exec, &st);
        printf("%-16s %-10s %4d %8.2f %8.1f %9.0f %8.2f %8.2f %8.2f %6.0f%% %7.0f %8.0f%s\n", m->cfg.name, v->name, m->cfg.window,
               flops / 1e9, whole.best * 1e3, peak / 1e9, flops / whole.best / peak, flops / sum / peak, whole.best / sum,
               100 * norm_share(&st), (double)(st.arena_bytes + st.scratch_bytes) / 1e6,
               (double)(st.weight_bytes + m->param_count * sizeof(float)) / 1e6,
               before / after > 1.1 || after / before > 1.1 ? "  (peak moved by more than 10%: void)" : "");
        judge("of peak", flops / whole.best / peak, v->peak_aim, 1);
        judge("step / convs", whole.best / sum, v->convs_aim, 0);
    }
    fflush(stdout);
    for (int i = 0; i < MAX_CONVS; i++) release(v->be, &convs[i]);
    release(v->be, &whole);
}

// What one sample costs in batches of 1, 2, 4 and 8, in turn.
static void bench_batches(const variant *v, const yd_model *m, int window)
{
    timed t[4] = {0};
    int ok = 1;
    for (int i = 0; i < 4; i++) ok &= !network(v, m, window, 1 << i, &t[i]);
    for (int r = 0; r < 25 && ok; r++)
        for (int i = 0; i < 4; i++) time_once(v->be, &t[i]);
    if (ok)
        printf("%-16s %-10s %4d %10.2f %8.2f %8.2f %8.2f\n", m->cfg.name, v->name, window, t[0].best * 1e3, t[1].best / 2 / t[0].best,
               t[2].best / 4 / t[0].best, t[3].best / 8 / t[0].best);
    broken |= !ok;
    fflush(stdout);
    for (int i = 0; i < 4; i++) release(v->be, &t[i]);
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    yd_err err = {0};
    yd_backend *direct = NULL, *be = NULL;
    const yd_cpu_options opt = {.profile = 1}, without = {.profile = 1, .no_winograd = 1};
    if (yd_cpu_open(&opt, &be, &err) || yd_cpu_open(&without, &direct, &err)) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    yd_backend_info info;
    be->info(be, &info);
    const int wino = strncmp(info.kernels, "winograd", 8) == 0;
    const char *only = argc > 1 ? argv[1] : "";
    const variant variants[] = {{"f32 direct", YD_F32, direct, 0, 1.2},
                                {"f32", YD_F32, be, wino ? 1.1 : 0.85, 1.2},
                                {"bf16", YD_BF16, be, 0.8, 1.2}};
    printf("# one unit of work on %s, %s, kernels %s, %d threads\n", info.device, info.isa, info.kernels, info.threads);
    printf("# limit: of peak, were there nothing but the convolutions; norm: share of normalisation; MB of activations and of weights\n");
    printf("%-16s %-10s %4s %8s %8s %9s %8s %8s %8s %7s %7s %8s\n", "model", "type", "win", "GFLOP", "ms", "peak GF/s", "of peak", "limit",
           "/ convs", "norm", "act MB", "w MB");
    yd_model *models[2] = {strcmp(only, "paper") == 0 ? NULL : bench_model(), strcmp(only, "shipped") == 0 ? NULL : bench_paper_model()};
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < (info.bf16 ? 3 : 2) && models[i]; k++) bench(&variants[k], models[i], info.threads, i == 0 ? 30 : 6);
    if (models[0]) {
        printf("\n# small windows: ms of a unit alone, and its cost in batches, relative\n%-16s %-10s %4s %10s %8s %8s %8s\n", "model", "type",
               "win", "ms alone", "of 2", "of 4", "of 8");
        for (int window = 32; window <= 128; window *= 2)
            for (int k = 1; k < (info.bf16 ? 3 : 2); k++) bench_batches(&variants[k], models[0], window);
    }
    for (int i = 0; i < 2; i++) yd_model_free(models[i]);
    direct->close(direct);
    be->close(be);
    return broken;
}
