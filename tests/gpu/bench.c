// gpu-bench: how long one network step takes on a device, as tables.
//
//   gpu-bench [--backend cuda[:N]|cpu] [--peak TFLOPS] [--memory TBS] [--seconds N] [--json FILE] [--small]
//   gpu-bench --limits [--peak TFLOPS] [--memory TBS]       the least times possible at those rates (an H200's by default), without a device
//
// A step is yd_backend.run: inputs to the device, every operator, the result back, waited for. Each figure is the median of runs that follow each
// other, after three that do not count. The network is the paper's SR3 (128.8 million parameters, random weights), with feature maps in bf16. --peak is the device's own bf16 matrix product, --memory what it copies (tests/gpu/peak.cu); with both each row says
// how far it is from what they allow (tests/gpu/limits.h). --small: tiny shapes, to try the program on a CPU.
// Rows for which --seconds has run out are said to be left out. Each row goes to the JSON file as a line, for tests/gpu/torch_bench.py.
#include "tests/bench/bench.h"
#include "core/backend_load.h"
#include "core/engine.h"
#include "core/mem.h"
#include "tests/gpu/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM = 3, MOST_RUNS = 100 };
#define ROW_SECONDS 0.6
#define H200_FLOPS  989e12 // dense bf16, and the memory's rate, as its data sheet has them
#define H200_BYTES  4.8e12

typedef struct bench {
    const char *device;
    yd_backend *be;      // with the options of the table
    gpu_machine machine; // its own rates; 0: not known
    double until;        // the clock's reading at which no further row begins
    FILE *json;
    int failed, left_out;
} bench;

typedef struct measured {
    double seconds, flops, limit; // of a run; limit: the least seconds
    int ok;
} measured;

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Median seconds of a run.
static int time_runs(yd_backend *be, yd_exec *e, double *median, yd_err *err)
{
    double t[MOST_RUNS];
    int n = 0, rc = 0;
    for (int i = 0; i < WARM && !rc; i++) rc = be->run(e, err);
    const double until = bench_now_s() + ROW_SECONDS;
    while (!rc && n < MOST_RUNS && (n < 3 || bench_now_s() < until)) {
        const double began = bench_now_s();
        rc = be->run(e, err);
        t[n++] = bench_now_s() - began;
    }
    if (rc) return rc;
    qsort(t, (size_t)n, sizeof *t, by_value);
    *median = t[n / 2];
    return 0;
}

static void fill_inputs(yd_backend *be, yd_exec *e, const yd_graph *g, int n)
{
    uint64_t s = 1;
    for (int t = 0; t < g->n_tensors; t++) {
        float *stage = g->tensors[t].kind == YD_T_INPUT ? be->buffer(e, t) : NULL;
        const size_t count = yd_tensor_numel(&g->tensors[t]) * (size_t)n;
        for (size_t i = 0; stage && i < count; i++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            stage[i] = (float)(s >> 40) * (1.0f / 16777216.0f); // products of zeros would be quicker
        }
    }
}

static measured measure_graph(bench *b, const yd_graph *g, const float *const *params, int side, int batch, yd_dtype dt)
{
    yd_weights *w = NULL;
    yd_exec *e = NULL;
    yd_err err = {0};
    measured r = {0};
    int rc = b->be->weights_new(b->be, g, params, 0, &w, &err);
    if (!rc) rc = b->be->compile(b->be, g, w, batch, &e, &err);
    if (!rc) {
        fill_inputs(b->be, e, g, batch);
        r.flops = yd_graph_flops(g) * batch;
        if (b->machine.bytes > 0 && dt == YD_BF16) r.limit = gpu_limit_of(g, batch, &b->machine).seconds;
        rc = time_runs(b->be, e, &r.seconds, &err);
    }
    r.ok = !rc;
    if (rc == YD_E_NOMEM)
        printf("%5d %6d   does not fit: %s\n", side, batch, err.detail);
    else if (rc)
        printf("%5d %6d   %s\n", side, batch, err.detail), b->failed++;
    if (e) b->be->exec_free(e);
    if (w) b->be->weights_free(w);
    return r;
}

static measured measure(bench *b, const yd_model *m, int side, int batch, yd_dtype dt)
{
    yd_graph *g = NULL;
    yd_err err = {0};
    measured r = {0};
    if (yd_net_build(&m->cfg.net, side, side, dt, 0, &g, &err))
        printf("%5d %6d   %s\n", side, batch, err.detail), b->failed++;
    else
        r = measure_graph(b, g, (const float *const *)m->params, side, batch, dt);
    yd_graph_free(g);
    return r;
}

static int open_backend(bench *b, const yd_cuda_options *opt)
{
    yd_err err = {0};
    if (b->be) b->be->close(b->be);
    b->be = NULL;
    const int rc = yd_backend_open(b->device, &(yd_cpu_options){0}, opt, &b->be, NULL, &err);
    if (rc) printf("%s: %s\n", b->device, err.detail), b->failed++;
    return rc;
}

// ---- tables

static void head(const char *title)
{
    printf("\n%s\n side  batch     ms/step   ms/sample    TFLOP/s   of peak  ms limit\n", title);
}

static void row(bench *b, const yd_model *m, const char *mode, int side, int batch, yd_dtype dt)
{
    if (bench_now_s() > b->until) {
        b->left_out++;
        return;
    }
    const measured r = measure(b, m, side, batch, dt);
    if (!r.ok) return;
    const double rate = r.flops / r.seconds;
    printf("%5d %6d  %10.3f  %10.3f %10.1f", side, batch, r.seconds * 1e3, r.seconds * 1e3 / batch, rate * 1e-12);
    if (b->machine.flops > 0) printf("  %6.1f%%", 100 * rate / b->machine.flops);
    if (r.limit > 0) printf("  %8.3f", r.limit * 1e3);
    printf("\n");
    fflush(stdout);
    if (b->json)
        fprintf(b->json,
                "{\"mode\": \"%s\", \"model\": \"%s\", \"side\": %d, \"batch\": %d, \"ms\": %.6f, \"tflops\": %.3f}\n",
                mode, m->cfg.name, side, batch, r.seconds * 1e3, rate * 1e-12);
}

static const yd_cuda_options pinned = {.canvases = 1}, variant = {.batch_variant = 1}, eager = {.eager = 1},
                             tf32 = {.tf32 = 1};

// The shapes of the aims first: what the time leaves out is the rest.
static void steps(bench *b, const yd_model *m, int small)
{
    static const int shapes[][2] = {{128, 1}, {128, 16}, {128, 2}, {128, 4}, {128, 8}, {128, 32}, {128, 64}, {64, 1},
                                    {64, 4},  {64, 16},  {64, 64}, {256, 1}, {256, 4}, {256, 16}, {512, 1},  {512, 4}};
    if (open_backend(b, &pinned)) return;
    head("the paper's SR3, bf16, captured graph, a sample's bits independent of its batch");
    for (size_t i = 0; i < (small ? 1 : sizeof shapes / sizeof *shapes); i++)
        row(b, m, "pinned", small ? 32 : shapes[i][0], small ? 1 : shapes[i][1], YD_BF16);
    if (open_backend(b, &variant)) return;
    head("the same, each batch size with its own engines (batch_variant)");
    for (size_t i = 0; i < (small ? 1 : 7); i++)
        row(b, m, "variant", small ? 32 : shapes[i][0], small ? 1 : shapes[i][1], YD_BF16);
    if (open_backend(b, &eager)) return;
    head("the same, kernels launched one by one (eager)");
    row(b, m, "eager", small ? 32 : 128, 1, YD_BF16);
    if (!small) {
        row(b, m, "eager", 64, 1, YD_BF16);
        row(b, m, "eager", 128, 16, YD_BF16);
    }
}

static void precisions(bench *b, const yd_model *m, int small)
{
    const int side = small ? 32 : 128, batch = small ? 1 : 16;
    if (open_backend(b, &pinned)) return;
    head("the same in f32");
    row(b, m, "f32", side, batch, YD_F32);
    if (open_backend(b, &tf32)) return;
    head("the same in f32 on TF32 units");
    row(b, m, "tf32", side, batch, YD_F32);
}

static void shipped(bench *b, int small)
{
    yd_model *m = NULL;
    yd_err err = {0};
    if (yd_model_load("models/yoda-compact-4x.safetensors", &m, &err)) {
        printf("%s\n", err.detail);
        b->failed++;
        return;
    }
    if (!open_backend(b, &pinned)) {
        head("yoda-compact-4x, bf16, captured graph");
        for (int batch = 1; batch <= (small ? 1 : 64); batch *= 4)
            row(b, m, "pinned", small ? 32 : m->cfg.window, batch, YD_BF16);
    }
    yd_model_free(m);
}

// ---- attention, one kernel or products: layers of a 1x1 convolution to q, k and v and their attention, after each other

enum { LAYERS = 8 };

// NULL when there is no memory. All layers read one set of weights: params[0] [3c][c][1][1].
static yd_graph *attention_layers(int side, int c)
{
    const int dims[4] = {3 * c, c, 1, 1}, out[4] = {8, c, 1, 1};
    yd_graph *g = yd_graph_new();
    yd_err err = {0};
    if (!g) return NULL;
    yd_tid x = yd_graph_input(g, "x", side, side, c, YD_BF16);
    const yd_tid w = yd_graph_param(g, "qkv", 4, dims), last = yd_graph_param(g, "last", 4, out);
    for (int i = 0; i < LAYERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "qkv.%d", i);
        const yd_tid qkv = yd_graph_conv(g, name, x, w, YD_NONE, YD_NONE, 1, 0);
        snprintf(name, sizeof name, "y.%d", i);
        x = yd_graph_attention(g, name, qkv);
    }
    yd_graph_output(g, yd_graph_conv(g, "out", x, last, YD_NONE, YD_NONE, 1, 0));
    if (!yd_graph_finish(g, &err)) return g;
    printf("%s\n", err.detail);
    yd_graph_free(g);
    return NULL;
}

static double attention_ms(bench *b, int side, int c, int batch, yd_cuda_attention way)
{
    yd_graph *g = attention_layers(side, c);
    float *w = g ? yd_malloc(3 * (size_t)c * (size_t)c * sizeof *w) : NULL;
    measured r = {0};
    if (w && !open_backend(b, &(yd_cuda_options){.attention = way})) {
        for (size_t i = 0; i < 3 * (size_t)c * (size_t)c; i++)
            w[i] = (float)((i * 2654435761u >> 7) % 512) * (1.0f / 2048) - 0.125f;
        r = measure_graph(b, g, (const float *const[]){w, w}, side, batch, YD_BF16);
    }
    b->failed += !w;
    yd_free(w);
    yd_graph_free(g);
    return r.seconds * 1e3 / LAYERS;
}

static void attentions(bench *b, int small)
{
    static const int shapes[][3] = {{16, 64, 16}, {16, 128, 16}, {16, 256, 1},  {16, 256, 16},
                                    {32, 256, 4}, {16, 512, 1},  {16, 512, 16}, {64, 128, 1}};
    printf("\na 1x1 convolution and attention, bf16: matrix products around a softmax, and one kernel wherever there "
           "is one\n"
           " side  channels  batch   products ms   kernel ms   quicker\n");
    for (size_t i = 0; i < (small ? 1 : sizeof shapes / sizeof *shapes); i++) {
        const int side = small ? 4 : shapes[i][0], c = small ? 16 : shapes[i][1], batch = small ? 1 : shapes[i][2];
        if (bench_now_s() > b->until) {
            b->left_out++;
            continue;
        }
        const double plain = attention_ms(b, side, c, batch, YD_ATTENTION_PRODUCTS),
                     one = attention_ms(b, side, c, batch, YD_ATTENTION_FUSED);
        if (plain <= 0 || one <= 0) continue;
        printf("%5d %9d %6d    %10.4f  %10.4f  %7.2fx\n", side, c, batch, plain, one, plain / one);
        fflush(stdout);
        if (b->json)
            fprintf(b->json,
                    "{\"mode\": \"attention\", \"side\": %d, \"channels\": %d, \"batch\": %d, \"products_ms\": %.6f, "
                    "\"kernel_ms\": %.6f}\n",
                    side, c, batch, plain, one);
    }
}

// ---- whole steps of jobs, as the daemon has them done

// n jobs of one window each, every pixel of which is diffused in every step.
static int make_jobs(const yd_model_config *cfg, yd_sampler **s, int n, yd_err *err)
{
    const int side = cfg->window;
    const size_t pixels = (size_t)side * (size_t)side;
    yd_sample_settings set = cfg->defaults;
    uint8_t *rgb = yd_malloc(pixels * 3);
    float *map = yd_malloc(pixels * sizeof *map);
    int rc = rgb && map ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a picture");
    for (size_t i = 0; !rc && i < pixels; i++) {
        map[i] = 1;
        for (size_t k = 0; k < 3; k++) rgb[3 * i + k] = (uint8_t)((i * 7 + k * 50 + i / (size_t)side * 3) % 256);
    }
    set.sampler = YD_SAMPLER_DDIM;
    set.eta = 0.5f;
    set.steps = 200;
    set.lower_bound = 1;
    for (int i = 0; i < n && !rc; i++) {
        set.seed = (uint64_t)i;
        rc = yd_sampler_new(cfg, &set, side, side, rgb, map, &s[i], err);
    }
    yd_free(rgb);
    yd_free(map);
    return rc;
}

static int one_step(yd_engine *e, yd_sampler **s, int n, yd_err *err)
{
    yd_unit units[64] = {0};
    int done[64];
    yd_step_info info[64];
    yd_err errs[64] = {0};
    for (int i = 0; i < n; i++)
        if (!yd_sampler_next(s[i], &units[i])) return yd_fail(err, YD_E_INTERNAL, "a job has no unit left");
    int rc = yd_engine_run(e, s, units, n, done, info, errs);
    for (int i = 0; i < n && !rc; i++)
        if (done[i] < 0) {
            *err = errs[i];
            return done[i];
        }
    if (rc) *err = errs[0];
    return rc;
}

static void job_row(bench *b, const yd_model *m, int n, int resident)
{
    const yd_engine_options opt = {.dtype = YD_BF16, .max_batch = n, .resident = resident};
    yd_engine *e = NULL;
    yd_sampler *s[64] = {NULL};
    double t[40];
    int count = 0;
    yd_err err = {0};
    if (bench_now_s() > b->until) {
        b->left_out++;
        return;
    }
    int rc = yd_engine_new(b->be, m, &opt, &e, &err);
    if (!rc) rc = make_jobs(&m->cfg, s, n, &err);
    for (int i = 0; i < WARM && !rc; i++) rc = one_step(e, s, n, &err);
    const double until = bench_now_s() + ROW_SECONDS;
    while (!rc && count < 40 && (count < 3 || bench_now_s() < until)) {
        const double began = bench_now_s();
        rc = one_step(e, s, n, &err);
        t[count++] = bench_now_s() - began;
    }
    for (int i = 0; i < n; i++) yd_sampler_free(s[i]);
    if (e) yd_engine_free(e);
    if (rc) {
        printf("%5d %6d   %s\n", m->cfg.window, n, err.detail);
        b->failed += rc != YD_E_NOMEM;
        return;
    }
    qsort(t, (size_t)count, sizeof *t, by_value);
    printf("%5d %6d  %10.3f  %10.3f %10.1f\n", m->cfg.window, n, t[count / 2] * 1e3, t[count / 2] * 1e3 / n,
           n / t[count / 2]);
    fflush(stdout);
    if (b->json)
        fprintf(b->json, "{\"mode\": \"%s\", \"model\": \"%s\", \"side\": %d, \"batch\": %d, \"ms\": %.6f}\n",
                resident ? "jobs" : "jobs-host", m->cfg.name, m->cfg.window, n, t[count / 2] * 1e3);
}

static void jobs(bench *b, const yd_model *m, int small)
{
    if (open_backend(b, &pinned)) return;
    for (int resident = 1; resident >= 0; resident--) {
        if (resident && !b->be->canvas) continue; // it keeps none
        printf("\nsteps of jobs: window, network, update of the canvas; canvases on the %s\n side   jobs     ms/step   "
               "ms/window  windows/s\n",
               resident ? "device" : "host");
        for (int n = 1; n <= (small ? 1 : 16); n *= 4) job_row(b, m, n, resident);
    }
}

static int run(bench *b, int small)
{
    yd_backend_info info;
    if (open_backend(b, &pinned)) return 1;
    b->be->info(b->be, &info);
    printf("%s: %s, %s, %s\n", info.name, info.device, info.isa, info.library);
    if (b->machine.flops > 0)
        printf("its own bf16 matrix product: %.1f TFLOP/s, its own copy: %.2f TB/s\n", b->machine.flops * 1e-12,
               b->machine.bytes * 1e-12);
    yd_model *m = bench_paper_model();
    if (!m) return 1;
    if (small) m->cfg.window = 32, m->cfg.overlap = 8;
    steps(b, m, small);
    jobs(b, m, small);
    precisions(b, m, small);
    yd_model_free(m);
    shipped(b, small);
    attentions(b, small);
    if (b->be) b->be->close(b->be);
    if (b->left_out) printf("\n%d rows are left out: the time was over\n", b->left_out);
    return b->failed ? 1 : 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: gpu-bench [--backend cuda|cuda:N|cpu] [--peak TFLOPS] [--memory TBS] [--seconds N] [--json "
                    "FILE] [--small] [--limits]\n");
    return 2;
}

int main(int argc, char **argv)
{
    bench b = {.device = "cuda"};
    const char *json = NULL;
    double seconds = 200;
    int small = 0, limits = 0, n, cuda;
    yd_err err = {0};
    yd_cpu_prepare_process(argv);
    for (int i = 1; i < argc; i++) {
        const int more = i + 1 < argc;
        if (strcmp(argv[i], "--backend") == 0 && more)
            b.device = argv[++i];
        else if (strcmp(argv[i], "--peak") == 0 && more)
            b.machine.flops = strtod(argv[++i], NULL) * 1e12;
        else if (strcmp(argv[i], "--memory") == 0 && more)
            b.machine.bytes = strtod(argv[++i], NULL) * 1e12;
        else if (strcmp(argv[i], "--limits") == 0)
            limits = 1;
        else if (strcmp(argv[i], "--seconds") == 0 && more)
            seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--json") == 0 && more)
            json = argv[++i];
        else if (strcmp(argv[i], "--small") == 0)
            small = 1;
        else
            return usage();
    }
    if (limits) {
        if (b.machine.flops <= 0) b.machine.flops = H200_FLOPS;
        if (b.machine.bytes <= 0) b.machine.bytes = H200_BYTES;
        return gpu_limits_print(&b.machine);
    }
    if (yd_device_parse(b.device, &cuda, NULL, &err)) {
        fprintf(stderr, "gpu-bench: %s\n", err.detail);
        return 2;
    }
    if (cuda >= 0 && yd_cuda_count(&n, &err)) {
        printf("skipped: no CUDA device (%s)\n", err.detail);
        return 0;
    }
    if (json && !(b.json = fopen(json, "w"))) {
        fprintf(stderr, "gpu-bench: cannot write %s\n", json);
        return 1;
    }
    b.until = bench_now_s() + seconds;
    const int status = run(&b, small);
    if (b.json) fclose(b.json);
    return status;
}
