// Bytes and sums of each operator, and tables of them. See the header.
#include "tests/gpu/limits.h"
#include "core/model.h"
#include "tests/bench/bench.h"

#include <stdio.h>

static double bytes_of(const yd_graph *g, yd_tid t, int n, yd_dtype maps)
{
    if (t == YD_NONE) return 0;
    const yd_tensor *x = &g->tensors[t];
    if (x->kind == YD_T_PARAM) return (double)yd_tensor_numel(x) * (double)yd_dtype_bytes(maps);
    if (x->kind == YD_T_PGRAD) return (double)yd_tensor_numel(x) * 4;
    const int c = x->h * x->w > 1 ? (x->c + 7) / 8 * 8 : x->c; // maps' channels are padded
    return (double)x->h * x->w * c * (double)yd_dtype_bytes(x->dtype) * n;
}

// Passes over the first input beyond the one that every operator makes.
static double again(const yd_graph *g, const yd_op *op, int n, yd_dtype maps)
{
    const yd_tensor *x = &g->tensors[op->in[0]];
    switch (op->kind) {
    case YD_OP_GNORM:
        return x->h * x->w > 32 * 32 ? bytes_of(g, op->in[0], n, maps) : 0;
    case YD_OP_GNORM_BWD:
        return bytes_of(g, op->in[0], n, maps) + bytes_of(g, op->in[5], n, maps);
    case YD_OP_ATTENTION: { // scores in f32 and weights, each written and read
        const double tokens = (double)x->h * x->w;
        return 2 * tokens * tokens * n * (4 + (double)yd_dtype_bytes(x->dtype));
    }
    default:
        return 0;
    }
}

gpu_limit gpu_limit_of_op(const yd_graph *g, const yd_op *op, int n, const gpu_machine *m)
{
    const yd_dtype maps = g->tensors[op->in[0]].dtype;
    gpu_limit l = {.flops = yd_op_flops(g, op) * n, .bytes = again(g, op, n, maps)};
    for (int i = 0; i < YD_OP_MAX_IN; i++) l.bytes += bytes_of(g, op->in[i], n, maps);
    for (int i = 0; i < YD_OP_MAX_OUT; i++) l.bytes += bytes_of(g, op->out[i], n, maps);
    l.matrix = l.flops / m->flops;
    l.memory = l.bytes / m->bytes;
    l.seconds = l.matrix > l.memory ? l.matrix : l.memory;
    return l;
}

gpu_limit gpu_limit_of(const yd_graph *g, int n, const gpu_machine *m)
{
    gpu_limit sum = {0};
    for (int i = 0; i < g->n_ops; i++) {
        const gpu_limit l = gpu_limit_of_op(g, &g->ops[i], n, m);
        sum.flops += l.flops, sum.bytes += l.bytes;
        sum.matrix += l.matrix, sum.memory += l.memory, sum.seconds += l.seconds;
    }
    return sum;
}

static int graph_of(const yd_model *m, int side, yd_graph **g)
{
    yd_err err = {0};
    if (!yd_net_build(&m->cfg.net, side, side, YD_BF16, 0, g, &err)) return 0;
    fprintf(stderr, "gpu-bench: %s\n", err.detail);
    return 1;
}

static int print_steps(const yd_model *m, const int (*shapes)[2], int n, const gpu_machine *machine)
{
    printf("\n%s, bf16\n side  batch     GFLOP        MB   ms matrix   ms memory    ms limit   of peak\n", m->cfg.name);
    for (int i = 0; i < n; i++) {
        yd_graph *g = NULL;
        if (graph_of(m, shapes[i][0], &g)) return 1;
        const gpu_limit l = gpu_limit_of(g, shapes[i][1], machine);
        printf("%5d %6d  %8.1f  %8.1f  %10.3f  %10.3f  %10.3f   %6.1f%%\n", shapes[i][0], shapes[i][1], l.flops * 1e-9,
               l.bytes * 1e-6, l.matrix * 1e3, l.memory * 1e3, l.seconds * 1e3, 100 * l.matrix / l.seconds);
        yd_graph_free(g);
    }
    return 0;
}

// Where the least time of a step goes.
static int print_operators(const yd_model *m, int side, int batch, const gpu_machine *machine)
{
    gpu_limit of[YD_OP_ATTENTION_BWD + 1] = {0};
    int count[YD_OP_ATTENTION_BWD + 1] = {0};
    yd_graph *g = NULL;
    if (graph_of(m, side, &g)) return 1;
    const gpu_limit all = gpu_limit_of(g, batch, machine);
    for (int i = 0; i < g->n_ops; i++) {
        const gpu_limit l = gpu_limit_of_op(g, &g->ops[i], batch, machine);
        gpu_limit *k = &of[g->ops[i].kind];
        k->flops += l.flops, k->bytes += l.bytes, k->seconds += l.seconds;
        count[g->ops[i].kind]++;
    }
    printf("\n%s, %d pixels, batch %d\n operator        number     GFLOP        MB    ms limit     share\n",
           m->cfg.name, side, batch);
    for (int k = 0; k <= YD_OP_ATTENTION_BWD; k++)
        if (count[k])
            printf(" %-14s %7d  %8.1f  %8.1f  %10.3f   %6.1f%%\n", yd_op_name((yd_op_kind)k), count[k],
                   of[k].flops * 1e-9, of[k].bytes * 1e-6, of[k].seconds * 1e3, 100 * of[k].seconds / all.seconds);
    yd_graph_free(g);
    return 0;
}

int gpu_limits_print(const gpu_machine *machine)
{
    static const int paper_shapes[][2] = {{128, 1}, {128, 4}, {128, 16}, {128, 64}, {64, 1},
                                          {64, 16}, {256, 1}, {256, 16}, {512, 1},  {512, 4}},
                     shipped_shapes[][2] = {{128, 1}, {128, 4}, {128, 16}, {128, 64}};
    yd_model *paper = bench_paper_model(), *shipped = NULL;
    yd_err err = {0};
    if (!paper) return 1;
    printf("%.1f TFLOP/s, %.2f TB/s\n", machine->flops * 1e-12, machine->bytes * 1e-12);
    int rc = print_steps(paper, paper_shapes, sizeof paper_shapes / sizeof *paper_shapes, machine);
    if (!rc) rc = print_operators(paper, 128, 16, machine);
    if (!rc) rc = print_operators(paper, 128, 1, machine);
    yd_model_free(paper);
    if (!rc && (rc = yd_model_load("models/yoda-compact-4x.safetensors", &shipped, &err)))
        fprintf(stderr, "gpu-bench: %s\n", err.detail);
    if (!rc) rc = print_steps(shipped, shipped_shapes, sizeof shipped_shapes / sizeof *shipped_shapes, machine);
    yd_model_free(shipped);
    return rc != 0;
}
