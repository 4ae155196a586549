// yodad's engine as one of the contestants of tests/bench/peers/compare.py: a process that loads one network and runs it on demand.
//
//   ours paper FILE                          write the paper's SR3 (random weights) as safetensors, for everybody to load
//   ours sr3_16_128 FILE                     the same of the public code's network for 16 -> 128
//   ours srdiff FILE                         the same of SRDiff's for 4x
//   ours                                     answer the lines below on standard input, one line of JSON each, until it ends
//     load MODEL DTYPE BATCH INPUT OUTPUT    compile; evaluate INPUT (f32: BATCH windows NHWC, then BATCH levels) once into OUTPUT; of a network
//                                            with an encoder, the step's part alone: a window's channels are x, then what the encoder made
//     run COUNT                              evaluate COUNT times: {"seconds": [...]}
//     peak DTYPE                             {"flops": multiply-adds * 2 per second that the cores do in registers}
//   What fails is answered with {"error": "..."}; the process goes on. Paths have no blanks. Between lines it sleeps on its input.
// Read next: worker.py, the same for the others.
#include "core/err.h"
#include "core/file.h"
#include "core/mem.h"
#include "tests/bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BATCH 64
#define MAX_COUNT 1000

typedef struct contestant {
    yd_backend *be;
    yd_backend_info info;
    yd_model *model;
    yd_graph *graph;
    yd_weights *weights;
    yd_exec *exec;
} contestant;

static void unload(contestant *c)
{
    if (c->exec) c->be->exec_free(c->exec);
    if (c->weights) c->be->weights_free(c->weights);
    yd_graph_free(c->graph);
    yd_model_free(c->model);
    c->exec = NULL;
    c->weights = NULL;
    c->graph = NULL;
    c->model = NULL;
}

static int compile(contestant *c, const char *path, yd_dtype dt, int batch, yd_err *err)
{
    int rc = yd_model_load(path, &c->model, err);
    if (rc) return rc;
    const yd_model_config *cfg = &c->model->cfg;
    rc = yd_net_build(&cfg->net, cfg->window, cfg->window, dt, 0, &c->graph, err);
    if (!rc) rc = c->be->weights_new(c->be, c->graph, (const float *const *)c->model->params, 0, &c->weights, err);
    if (!rc) rc = c->be->compile(c->be, c->graph, c->weights, batch, &c->exec, err);
    return rc;
}

static yd_tid tensor(const yd_graph *g, const char *name)
{
    for (int i = 0; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i].name, name) == 0) return i;
    return YD_NONE;
}

// Pixels of nx and nc channels, which lie in two maps.
static void split(const float *pixels, size_t n, float *x, size_t nx, float *cond, size_t nc)
{
    for (size_t i = 0; i < n; i++, pixels += nx + nc) {
        memcpy(x + i * nx, pixels, nx * sizeof *x);
        if (nc) memcpy(cond + i * nc, pixels + nx, nc * sizeof *cond);
    }
}

// Evaluate the input file into the output file.
static int evaluate(contestant *c, int batch, const char *input, const char *output, yd_err *err)
{
    const yd_graph *g = c->graph;
    const yd_tid x = tensor(g, "x"), cond = tensor(g, "cond"), level = tensor(g, "level"), out = tensor(g, "out");
    if (x < 0 || level < 0 || out < 0) return yd_fail(err, YD_E_INTERNAL, "the network has no x, level or out");
    const size_t nx = (size_t)g->tensors[x].c, nc = cond < 0 ? 0 : (size_t)g->tensors[cond].c;
    const size_t pixels = (size_t)batch * (size_t)g->tensors[x].h * (size_t)g->tensors[x].w, maps = pixels * (nx + nc) * sizeof(float);
    const size_t levels = (size_t)batch * sizeof(float), nout = (size_t)batch * yd_tensor_numel(&g->tensors[out]) * sizeof(float);
    char *bytes = NULL;
    size_t len = 0;
    int rc = yd_file_read(input, maps + levels, (void **)&bytes, &len, err);
    if (rc) return rc;
    if (len != maps + levels) {
        rc = yd_fail(err, YD_E_INVALID, "%s has %zu bytes, not %zu", input, len, maps + levels);
    } else {
        split((const float *)(const void *)bytes, pixels, c->be->buffer(c->exec, x), nx, nc ? c->be->buffer(c->exec, cond) : NULL, nc);
        memcpy(c->be->buffer(c->exec, level), bytes + maps, levels);
        rc = c->be->run(c->exec, err);
    }
    yd_free(bytes);
    return rc ? rc : yd_file_write_atomic(output, c->be->buffer(c->exec, out), nout, err);
}

static void answer_load(contestant *c, const char *line)
{
    char path[512], dtype[8], input[512], output[512];
    int batch = 0;
    yd_err err = {0};
    unload(c);
    if (sscanf(line, "load %511s %7s %d %511s %511s", path, dtype, &batch, input, output) != 5 || batch < 1 || batch > MAX_BATCH) {
        printf("{\"error\": \"load wants MODEL DTYPE BATCH INPUT OUTPUT, BATCH 1 to %d\"}\n", MAX_BATCH);
        return;
    }
    if (compile(c, path, strcmp(dtype, "bf16") == 0 ? YD_BF16 : YD_F32, batch, &err) || evaluate(c, batch, input, output, &err)) {
        fprintf(stderr, "%s\n", err.detail);
        printf("{\"error\": \"status %d, see standard error\"}\n", err.code);
        return;
    }
    printf("{\"version\": \"%s\", \"detail\": \"%s, %d threads\", \"flops\": %.0f}\n", c->info.library, c->info.isa, c->info.threads,
           yd_graph_flops(c->graph) * batch);
}

static void answer_run(contestant *c, const char *line)
{
    const long count = strtol(line + 3, NULL, 10);
    yd_err err = {0};
    if (!c->exec || count < 1 || count > MAX_COUNT) {
        printf("{\"error\": \"run wants a loaded network and a COUNT of 1 to %d\"}\n", MAX_COUNT);
        return;
    }
    printf("{\"seconds\": [");
    for (long i = 0; i < count; i++) {
        const double t = bench_now_s();
        if (c->be->run(c->exec, &err)) break;
        printf("%s%.9f", i ? ", " : "", bench_now_s() - t);
    }
    if (err.code) printf("], \"error\": \"status %d\"}\n", err.code);
    else printf("]}\n");
}

static void answer_peak(const contestant *c, const char *line)
{
    const double peak = strstr(line, "bf16") ? bench_peak_bf16(c->info.threads) : bench_peak_f32(c->info.threads);
    printf("{\"flops\": %.0f}\n", peak);
}

static int write_model(yd_model *m, const char *path)
{
    yd_err err = {0};
    if (!m) return 1;
    int rc = yd_model_save(&m->cfg, (const float *const *)m->params, m->n_params, YD_F32, path, &err);
    if (rc) fprintf(stderr, "%s\n", err.detail);
    yd_model_free(m);
    return rc ? 1 : 0;
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    if (argc == 3 && strcmp(argv[1], "paper") == 0) return write_model(bench_paper_model(), argv[2]);
    if (argc == 3 && strcmp(argv[1], "sr3_16_128") == 0) return write_model(bench_sr3_16_128_model(), argv[2]);
    if (argc == 3 && strcmp(argv[1], "srdiff") == 0) return write_model(bench_srdiff_model(), argv[2]);
    contestant c = {0};
    yd_err err = {0};
    if (argc != 1 || yd_cpu_open(NULL, &c.be, &err)) {
        fprintf(stderr, "%s\n", argc != 1 ? "usage: ours [paper|sr3_16_128|srdiff FILE]" : err.detail);
        return 1;
    }
    c.be->info(c.be, &c.info);
    char line[2048];
    while (fgets(line, sizeof line, stdin)) {
        if (strncmp(line, "load ", 5) == 0) answer_load(&c, line);
        else if (strncmp(line, "run ", 4) == 0) answer_run(&c, line);
        else if (strncmp(line, "peak ", 5) == 0) answer_peak(&c, line);
        else printf("{\"error\": \"the words are load, run and peak\"}\n");
        fflush(stdout);
    }
    unload(&c);
    c.be->close(c.be);
    return 0;
}
