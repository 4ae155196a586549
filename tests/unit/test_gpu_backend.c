// The CUDA backend as a whole, on a GPU that is none (tests/fake_gpu): networks and training steps against the CPU backend, what it allocates and
// when, what becomes of it when any call fails or the device is lost, weights, the plan cache, accounts.
#include "core/engine.h"
#include "core/mem.h"
#include "core/rng.h"
#include "gpu/gpu.h"
#include "tests/fake_gpu/fake.h"
#include "tests/unit/t.h"
#include <unistd.h>

#define SIDE 16

static const yd_net_config net = {.type = YD_NET_SR3,
                                  .in_channel = 6,
                                  .out_channel = 3,
                                  .inner_channel = 16,
                                  .n_levels = 2,
                                  .mult = {1, 2},
                                  .res_blocks = 1,
                                  .norm_groups = 8,
                                  .n_attn = 1,
                                  .attn_res = {8},
                                  .image_size = SIDE,
                                  .unshuffle = 1,
                                  .mid_attention = 1,
                                  .noise_scale = 1};

typedef struct setup {
    yd_backend *be;
    yd_graph *g;
    yd_weights *w;
    yd_exec *e;
    float **host;
} setup;

static void draw(float *x, size_t n, uint64_t seed, float scale)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = scale * ((float)(seed >> 40) / (float)(1 << 23) - 1.0f);
    }
}

static yd_graph *build(yd_dtype dt, int train)
{
    yd_graph *g = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_net_build(&net, SIDE, SIDE, dt, train, &g, &err) == 0, "%s", err.detail);
    if (!g || !train) return g;
    yd_graph_backward(g, yd_graph_find(g, "out"), 1);
    CHECK_MSG(yd_graph_finish(g, &err) == 0, "%s", err.detail);
    return g;
}

static float **parameters(const yd_graph *g)
{
    float **host = calloc((size_t)g->n_params, sizeof *host);
    for (int i = 0; i < g->n_params; i++) {
        const yd_tensor *t = &g->tensors[g->params[i]];
        const size_t n = yd_tensor_numel(t);
        host[i] = malloc(n * sizeof(float));
        draw(host[i], n, 77 + (uint64_t)i, t->ndim > 1 ? 1.5f / sqrtf((float)n / (float)t->dims[0]) : 0.2f);
        for (size_t k = 0; k < n && t->ndim == 1 && strstr(t->name, "weight"); k++) host[i][k] += 1; // gamma
    }
    return host;
}

static void fill(const setup *s, int n)
{
    for (int t = 0; t < s->g->n_tensors; t++) {
        if (s->g->tensors[t].kind != YD_T_INPUT) continue;
        float *x = s->be->buffer(s->e, t);
        const size_t count = yd_tensor_numel(&s->g->tensors[t]) * (size_t)n;
        draw(x, count, 5 + (uint64_t)t, 0.5f);
        const char *name = s->g->tensors[t].name;
        for (size_t i = 0;
             i < count && (strcmp(name, "level") == 0 || strcmp(name, "mask") == 0 || strcmp(name, "weight") == 0); i++)
            x[i] = fabsf(x[i]) + 0.25f;
    }
}

static int start(setup *s, yd_backend *be, yd_dtype dt, int train, int n, yd_err *err)
{
    *s = (setup){.be = be, .g = build(dt, train)};
    s->host = parameters(s->g);
    int rc = be->weights_new(be, s->g, (const float *const *)s->host, train, &s->w, err);
    if (!rc) rc = be->compile(be, s->g, s->w, n, &s->e, err);
    if (!rc) fill(s, n);
    return rc;
}

static void stop(setup *s)
{
    if (s->e) s->be->exec_free(s->e);
    if (s->w) s->be->weights_free(s->w);
    if (s->be) s->be->close(s->be);
    for (int i = 0; s->host && i < s->g->n_params; i++) free(s->host[i]);
    free(s->host);
    yd_graph_free(s->g);
    *s = (setup){0};
}

static yd_backend *open_gpu(const yd_cuda_options *opt)
{
    yd_backend *be = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_gpu_open(fake_driver(), opt, &be, &err) == 0, "%s", err.detail);
    return be;
}

static yd_backend *open_cpu(void)
{
    yd_backend *be = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_cpu_open(&(yd_cpu_options){.threads = 2, .no_winograd = 1}, &be, &err) == 0, "%s", err.detail);
    return be;
}

static float *output(const setup *s)
{
    return s->be->buffer(s->e, yd_graph_find(s->g, "out"));
}

// --- the same numbers as on the CPU

static void agrees(yd_dtype dt, int n, double limit)
{
    setup cpu, gpu;
    yd_err err = {0};
    fake_reset();
    int rc = start(&cpu, open_cpu(), dt, 0, n, &err);
    if (!rc) rc = start(&gpu, open_gpu(NULL), dt, 0, n, &err);
    for (int i = 0; i < 3 && !rc; i++) rc = gpu.be->run(gpu.e, &err); // replays
    if (!rc) rc = cpu.be->run(cpu.e, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    CHECK(fake.graph_launches == 4); // of four runs after the warm-up
    CHECK((fake.attentions > 0) == (dt == YD_BF16));
    const double d = t_rel_diff(output(&gpu), output(&cpu), (size_t)n * SIDE * SIDE * 3);
    CHECK_MSG(d <= limit, "a batch of %d is off by %.3g, allowed %.3g", n, d, limit);
    stop(&cpu);
    stop(&gpu);
    CHECK(fake.live == 0 && fake.bytes == 0);
}

static void test_network_f32(void)
{
    agrees(YD_F32, 1, 2e-5);
    agrees(YD_F32, 3, 2e-5);
}

static void test_network_bf16(void)
{
    agrees(YD_BF16, 2, 2e-2);
}

// To train, attention stays what its gradient is made of, in bf16, too.
static void test_training_attention(void)
{
    setup s;
    yd_err err = {0};
    fake_reset();
    const int rc = start(&s, open_gpu(NULL), YD_BF16, 1, 2, &err);
    CHECK_MSG(rc == 0 && s.be->run(s.e, &err) == 0 && fake.attentions == 0, "%s", err.detail);
    stop(&s);
}

// Some steps of training: losses, norms, weights and gradients.
static void test_training(void)
{
    enum { N = 3, STEPS = 4 };
    setup cpu, gpu;
    yd_err err = {0};
    fake_reset();
    int rc = start(&cpu, open_cpu(), YD_F32, 1, N, &err);
    if (!rc) rc = start(&gpu, open_gpu(NULL), YD_F32, 1, N, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    const yd_tid loss = yd_graph_find(cpu.g, "loss");
    for (int step = 1; step <= STEPS && !rc; step++) {
        const yd_adamw hp = {.lr = 1e-3f,
                             .beta1 = 0.9f,
                             .beta2 = 0.99f,
                             .eps = 1e-8f,
                             .weight_decay = 0.01f,
                             .clip_norm = 0.5f,
                             .ema_decay = 0.9f,
                             .step = step};
        double norm[2] = {0, 0};
        rc = cpu.be->run(cpu.e, &err);
        if (!rc) rc = gpu.be->run(gpu.e, &err);
        if (rc) break;
        const double off = t_rel_diff(gpu.be->buffer(gpu.e, loss), cpu.be->buffer(cpu.e, loss), N);
        rc = cpu.be->adamw(cpu.w, cpu.e, &hp, &norm[0], &err);
        if (!rc) rc = gpu.be->adamw(gpu.w, gpu.e, &hp, &norm[1], &err);
        CHECK_MSG(off < 1e-4 && norm[0] > 0 && fabs(norm[1] / norm[0] - 1) < 1e-4,
                  "step %d: losses %.3g, norms %g and %g", step, off, norm[1], norm[0]);
    }
    CHECK_MSG(rc == 0, "%s", err.detail);
    for (int i = 0; i < cpu.g->n_params && !rc; i++) {
        const size_t n = yd_tensor_numel(&cpu.g->tensors[cpu.g->params[i]]);
        float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
        static const yd_weights_part parts[] = {YD_W_PARAM, YD_W_M, YD_W_EMA};
        for (int k = 0; k < 3; k++) {
            CHECK(gpu.be->weights_read(gpu.w, parts[k], i, a, &err) == 0 &&
                  cpu.be->weights_read(cpu.w, parts[k], i, b, &err) == 0);
            const double d = t_rel_diff(a, b, n);
            CHECK_MSG(d < (parts[k] == YD_W_M ? 1e-3 : 5e-3), "'%s' part %d is off by %.3g",
                      cpu.g->tensors[cpu.g->params[i]].name, k, d);
        }
        free(a);
        free(b);
    }
    stop(&cpu);
    stop(&gpu);
    CHECK(fake.live == 0 && fake.bytes == 0);
}

// --- an engine on it: buckets, the same bytes whatever the mates

static yd_model *small_model(void)
{
    yd_model *m = yd_calloc(1, sizeof *m);
    CHECK(m != NULL);
    m->cfg.net = net;
    m->cfg.window = SIDE;
    yd_graph *g = build(YD_F32, 0);
    m->n_params = g->n_params;
    m->params = yd_calloc((size_t)g->n_params, sizeof *m->params);
    float **host = parameters(g);
    for (int i = 0; i < g->n_params; i++) {
        const size_t n = yd_tensor_numel(&g->tensors[g->params[i]]);
        m->params[i] = yd_alloc_aligned(n * sizeof(float));
        memcpy(m->params[i], host[i], n * sizeof(float));
        m->param_count += n;
        free(host[i]);
    }
    free(host);
    yd_graph_free(g);
    return m;
}

static void small_model_free(yd_model *m)
{
    for (int i = 0; i < m->n_params; i++) yd_free_aligned(m->params[i]);
    yd_free(m->params);
    yd_free(m);
}

static void mates(yd_dtype dt, int one_by_one)
{
    enum { IN = SIDE * SIDE * 6, OUT = SIDE * SIDE * 3 };
    yd_model *m = small_model();
    yd_err err = {0};
    yd_engine *e = NULL;
    static float x[4 * IN], alone[OUT], batch[4 * OUT];
    const float level[4] = {0.3f, 0.9f, 0.1f, 0.6f};
    fake_reset();
    fake.conv_one_by_one = fake.matmul_one_by_one = one_by_one;
    yd_backend *be = open_gpu(NULL);
    draw(x, 4 * IN, 1, 1.0f);
    const yd_engine_options opt = {.dtype = dt, .max_batch = 4};
    int rc = yd_engine_new(be, m, &opt, &e, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    const long choices = fake.choices;
    for (int place = 0; place < 4 && !rc; place++) {
        rc = yd_engine_forward(e, x + place * IN, &level[place], 1, alone, &err);
        for (int n = place + 1; n <= 4 && !rc; n++) {
            rc = yd_engine_forward(e, x, level, n, batch, &err);
            CHECK_MSG(memcmp(batch + place * OUT, alone, sizeof alone) == 0, "place %d of %d", place, n);
        }
    }
    CHECK_MSG(rc == 0, "%s", err.detail);
    CHECK(fake.choices == choices);
    yd_engine_free(e);
    be->close(be);
    small_model_free(m);
    CHECK(fake.live == 0 && fake.bytes == 0);
}

static void test_mates(void)
{
    mates(YD_F32, 0);
    mates(YD_BF16, 0);
    mates(YD_BF16, 1);
}

// One engine is chosen for each shape, whatever batches there are; otherwise one for each batch.
static void test_pinning(void)
{
    for (int variant = 0; variant < 2; variant++) {
        yd_err err = {0};
        setup s;
        yd_exec *other = NULL;
        fake_reset();
        int rc = start(&s, open_gpu(&(yd_cuda_options){.batch_variant = variant}), YD_F32, 0, 1, &err);
        const long first = fake.choices;
        if (!rc) rc = s.be->compile(s.be, s.g, s.w, 4, &other, &err);
        CHECK_MSG(rc == 0 && first > 0, "%s", err.detail);
        CHECK(fake.choices == (variant ? 2 * first : first));
        if (other) s.be->exec_free(other);
        stop(&s);
    }
}

// --- memory

static void test_run_allocates_nothing(void)
{
    for (int train = 0; train < 2; train++) {
        setup s;
        yd_err err = {0};
        double norm;
        const yd_adamw hp = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .ema_decay = 0.9f, .step = 1};
        fake_reset();
        int rc = start(&s, open_gpu(NULL), YD_BF16, train, 2, &err);
        const fake_gpu before = fake;
        yd_mem_fail_at(0);
        for (int i = 0; i < 3 && !rc; i++) {
            rc = s.be->run(s.e, &err);
            if (!rc && train) rc = s.be->adamw(s.w, s.e, &hp, &norm, &err);
        }
        CHECK_MSG(rc == 0, "%s", err.detail);
        CHECK(yd_mem_fail_at(0) == 0);
        CHECK(fake.allocs == before.allocs && fake.prepared == before.prepared && fake.choices == before.choices &&
              fake.live == before.live);
        if (!train)
            CHECK(fake.launches == before.launches &&
                  fake.graph_launches == before.graph_launches + 3); // a replay, and nothing beside it
        stop(&s);
    }
}

static void test_accounts(void)
{
    setup s;
    yd_err err = {0};
    yd_backend_memory m;
    yd_exec_stats st;
    yd_backend_info info;
    fake_reset();
    int rc = start(&s, open_gpu(NULL), YD_BF16, 0, 4, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    s.be->info(s.be, &info);
    CHECK(strcmp(info.name, "cuda") == 0 && strcmp(info.kernels, "pinned-1") == 0 && info.batch_pays && info.bf16);
    CHECK(s.be->memory(s.be, &m, &err) == 0 && m.total == fake.memory_total && m.free == fake.memory_free - fake.bytes);
    CHECK(m.weights + m.arena + m.scratch == fake.bytes && m.weights > 0 && m.arena > 0 && m.scratch > 0);
    s.be->exec_stats(s.e, &st);
    CHECK(st.arena_bytes == m.arena && st.scratch_bytes == m.scratch && st.n_kernels > 20 && st.flops > 0);
    CHECK(m.weights > st.weight_bytes && st.weight_bytes > 0);
    stop(&s);
    CHECK(fake.bytes == 0);
}

// A budget that is not enough is refused before anything is asked of the device; what was there goes on.
static void test_budget(void)
{
    setup s;
    yd_err err = {0};
    yd_exec *large = NULL;
    fake_reset();
    int rc = start(&s, open_gpu(&(yd_cuda_options){.memory_limit = 4 << 20}), YD_F32, 0, 1, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    const size_t held = fake.bytes;
    CHECK(s.be->compile(s.be, s.g, s.w, 64, &large, &err) == YD_E_NOMEM && !large && strstr(err.detail, "GPU"));
    CHECK(fake.bytes == held && fake.bytes <= 4 << 20);
    CHECK(s.be->run(s.e, &err) == 0);
    stop(&s);
    fake_reset();
    CHECK(start(&s, open_gpu(&(yd_cuda_options){.memory_limit = 1000}), YD_F32, 0, 1, &err) == YD_E_NOMEM);
    stop(&s);
    CHECK(fake.live == 0 && fake.bytes == 0);
}

// --- failures

// Everything a model goes through. The error of the first call that fails; nothing may be left behind then.
static int life(const yd_cuda_options *opt, yd_err *err)
{
    setup s = {0};
    yd_backend *be = NULL;
    double norm;
    float *copy = NULL;
    const yd_adamw hp = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .ema_decay = 0.9f, .step = 1};
    int rc = yd_gpu_open(fake_driver(), opt, &be, err);
    if (rc) return rc;
    rc = start(&s, be, YD_BF16, 1, 2, err);
    for (int i = 0; i < 2 && !rc; i++) {
        rc = s.be->run(s.e, err);
        if (!rc) rc = s.be->adamw(s.w, s.e, &hp, &norm, err);
    }
    copy = malloc(yd_tensor_numel(&s.g->tensors[s.g->params[0]]) * sizeof *copy);
    if (!rc) rc = s.be->weights_read(s.w, YD_W_PARAM, 0, copy, err);
    if (!rc) rc = s.be->weights_write(s.w, YD_W_PARAM, 0, copy, err);
    if (!rc && !isfinite(output(&s)[0])) rc = YD_E_INTERNAL;
    free(copy);
    stop(&s);
    return rc;
}

static void every_call_fails(yd_gpu_outcome how, int code, const yd_cuda_options *opt)
{
    yd_err err = {0};
    fake_reset();
    fake.idle = 1;
    CHECK_MSG(life(opt, &err) == 0, "%s", err.detail);
    const long calls = fake.calls;
    long failed = 0, survived = 0;
    CHECK(calls > 300);
#ifdef YD_SANITIZE
    const long stride = 7;
#else
    const long stride = 1;
#endif
    for (long k = 1; k <= calls; k += stride) {
        fake_reset();
        fake.idle = 1, fake.fail_at = k, fake.fail_with = how;
        err = (yd_err){0};
        const int rc = life(opt, &err);
        // A recording that fails is done without, an engine that does not take a shape is done without.
        if (rc == 0)
            survived++;
        else
            failed++;
        CHECK_MSG(rc == 0 || rc == code, "call %ld of %ld: %d, %s", k, calls, rc, err.detail);
        CHECK_MSG(rc == 0 || err.detail[0], "call %ld: no words", k);
        CHECK_MSG(fake.live == 0 && fake.bytes == 0, "call %ld: %ld objects, %zu bytes are left", k, fake.live,
                  fake.bytes);
        CHECK_MSG(how != YD_GPU_LOST || rc != 0, "call %ld: the device is lost and nobody says so", k);
    }
    CHECK(failed > 0);
    printf("  %ld calls: %ld failed, %ld were done without\n", calls, failed, survived);
}

static void test_out_of_memory(void)
{
    every_call_fails(YD_GPU_NO_MEMORY, YD_E_NOMEM, NULL);
}

static void test_failed(void)
{
    every_call_fails(YD_GPU_FAILED, YD_E_DEVICE, &(yd_cuda_options){.eager = 1});
}

static void test_lost(void)
{
    every_call_fails(YD_GPU_LOST, YD_E_DEVICE, NULL);
}

static void test_unsupported(void)
{
    every_call_fails(YD_GPU_UNSUPPORTED, YD_E_UNSUPPORTED, NULL);
}

// After a sticky error everything is refused with the reason, without touching the device; another backend can be opened.
static void test_lost_stays_lost(void)
{
    setup s;
    yd_err err = {0};
    yd_exec *other = NULL;
    yd_backend_memory m;
    fake_reset();
    CHECK(start(&s, open_gpu(NULL), YD_F32, 0, 1, &err) == 0);
    fake.fail_at = 1, fake.fail_with = YD_GPU_LOST;
    CHECK(s.be->run(s.e, &err) == YD_E_DEVICE && strstr(err.detail, "lost") && strstr(err.detail, "illegal address"));
    const long calls = fake.calls;
    for (int i = 0; i < 3; i++) {
        err = (yd_err){0};
        CHECK(s.be->run(s.e, &err) == YD_E_DEVICE && strstr(err.detail, "illegal address"));
    }
    CHECK(s.be->compile(s.be, s.g, s.w, 2, &other, &err) == YD_E_DEVICE && !other);
    CHECK(s.be->memory(s.be, &m, &err) == YD_E_DEVICE);
    CHECK(fake.calls == calls);
    stop(&s);
    CHECK(fake.live == 0);
    fake_reset();
    CHECK(start(&s, open_gpu(NULL), YD_F32, 0, 1, &err) == 0 && s.be->run(s.e, &err) == 0);
    stop(&s);
}

static void test_host_memory(void)
{
    long failed = 0;
    for (long k = 1; k < 1500; k += k < 60 ? 1 : 37) {
        yd_err err = {0};
        setup s;
        yd_backend *be = NULL;
        fake_reset();
        fake.idle = 1;
        yd_graph *g = build(YD_BF16, 0);
        float **host = parameters(g);
        s = (setup){.g = g, .host = host};
        yd_mem_fail_at(k);
        int rc = yd_gpu_open(fake_driver(), NULL, &be, &err);
        s.be = be;
        if (!rc) rc = be->weights_new(be, g, (const float *const *)host, 0, &s.w, &err);
        if (!rc) rc = be->compile(be, g, s.w, 2, &s.e, &err);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == 0 || rc == YD_E_NOMEM, "allocation %ld: %d %s", k, rc, err.detail);
        failed += rc != 0;
        stop(&s);
        CHECK(fake.live == 0 && fake.bytes == 0);
    }
    CHECK(failed > 20);
}

// --- weights, gradients, requests that cannot be

static void test_weights(void)
{
    setup s;
    yd_err err = {0};
    fake_reset();
    CHECK(start(&s, open_gpu(NULL), YD_F32, 0, 1, &err) == 0 && s.be->run(s.e, &err) == 0);
    float first[12];
    memcpy(first, output(&s), sizeof first);
    for (int p = 0; p < s.g->n_params; p++) { // each parameter counts, and a write takes effect at the next run
        const size_t n = yd_tensor_numel(&s.g->tensors[s.g->params[p]]);
        float *was = malloc(n * sizeof *was), *now = malloc(n * sizeof *now);
        CHECK(s.be->weights_read(s.w, YD_W_PARAM, p, was, &err) == 0 && memcmp(was, s.host[p], n * sizeof *was) == 0);
        for (size_t i = 0; i < n; i++) now[i] = was[i] + 0.5f + 0.1f * (float)(i % 7);
        CHECK(s.be->weights_write(s.w, YD_W_PARAM, p, now, &err) == 0 && s.be->run(s.e, &err) == 0);
        CHECK_MSG(memcmp(first, output(&s), sizeof first) != 0, "'%s' has no influence",
                  s.g->tensors[s.g->params[p]].name);
        CHECK(s.be->weights_write(s.w, YD_W_PARAM, p, was, &err) == 0 && s.be->run(s.e, &err) == 0);
        CHECK(memcmp(first, output(&s), sizeof first) == 0);
        free(was);
        free(now);
    }
    float x;
    CHECK(s.be->weights_read(s.w, YD_W_M, 0, &x, &err) == YD_E_INVALID && strstr(err.detail, "training"));
    CHECK(s.be->weights_read(s.w, YD_W_PARAM, -1, &x, &err) == YD_E_INVALID &&
          s.be->weights_write(s.w, YD_W_PARAM, 9999, &x, &err) == YD_E_INVALID);
    CHECK(s.be->peek(s.e, 0, &x, &err) == YD_E_UNSUPPORTED && s.be->buffer(s.e, -1) == NULL &&
          s.be->buffer(s.e, s.g->params[0]) == NULL);
    yd_exec *none = NULL;
    CHECK(s.be->compile(s.be, s.g, s.w, 0, &none, &err) == YD_E_INVALID && !none);
    stop(&s);
}

static void test_gradients_that_are_nan(void)
{
    setup s;
    yd_err err = {0};
    double norm;
    const yd_adamw hp = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .ema_decay = 0.9f, .step = 1};
    fake_reset();
    CHECK(start(&s, open_gpu(NULL), YD_F32, 1, 1, &err) == 0);
    float *target = s.be->buffer(s.e, yd_graph_find(s.g, "target"));
    target[3] = NAN;
    CHECK(s.be->run(s.e, &err) == 0);
    CHECK(s.be->adamw(s.w, s.e, &hp, &norm, &err) == YD_E_NUMERIC && err.field[0]);
    const size_t n = yd_tensor_numel(&s.g->tensors[s.g->params[0]]);
    float *now = malloc(n * sizeof *now);
    CHECK(s.be->weights_read(s.w, YD_W_PARAM, 0, now, &err) == 0 && memcmp(now, s.host[0], n * sizeof *now) == 0);
    free(now);
    target[3] = 0;
    CHECK(s.be->run(s.e, &err) == 0 && s.be->adamw(s.w, s.e, &hp, &norm, &err) == 0 && norm > 0);
    CHECK(s.be->adamw(s.w, s.e, &(yd_adamw){.step = 0}, &norm, &err) == YD_E_INVALID);
    stop(&s);
}

// Choices outlive the backend in a file, and are not made again; those made by time are for whoever wants that.
static void test_plan_cache(void)
{
    static const struct {
        int tune_ms, chosen;
        const char *kernels;
    } rounds[] = {{1000, 1, "pinned-tuned-1"}, {1000, 0, "pinned-tuned-1"}, {0, 1, "pinned-1"}, {0, 0, "pinned-1"}};
    char folder[] = "/tmp/yd-gpu-XXXXXX", path[64];
    setup s;
    yd_err err = {0};
    if (!mkdtemp(folder)) CHECK(0);
    snprintf(path, sizeof path, "%s/plans", folder);
    for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++) {
        const yd_cuda_options opt = {.plan_cache = path, .tune_ms = rounds[i].tune_ms};
        yd_backend_info info;
        fake_reset();
        CHECK(start(&s, open_gpu(&opt), YD_F32, 0, 2, &err) == 0);
        s.be->info(s.be, &info);
        CHECK(strcmp(info.kernels, rounds[i].kernels) == 0);
        CHECK(rounds[i].chosen ? fake.choices > 5 : fake.choices == 0);
        CHECK(fake.timed == (rounds[i].tune_ms ? fake.choices : 0));
        stop(&s);
    }
    unlink(path);
    rmdir(folder);
}

// So long for a model, then by rank; without a file never.
static void test_tuning_ends(void)
{
    char folder[] = "/tmp/yd-gpu-XXXXXX", path[64];
    setup s;
    yd_err err = {0};
    if (!mkdtemp(folder)) CHECK(0);
    snprintf(path, sizeof path, "%s/plans", folder);
    for (int with = 0; with < 2; with++) {
        const yd_cuda_options opt = {.plan_cache = with ? path : NULL, .tune_ms = 50};
        fake_reset();
        fake.choose_ms = 30;
        CHECK(start(&s, open_gpu(&opt), YD_F32, 0, 2, &err) == 0);
        CHECK(with ? fake.timed >= 1 && fake.timed <= 2
                   : fake.timed == 0); // 2, but on a machine that sleeps for too long
        CHECK(fake.choices > 5);
        stop(&s);
    }
    unlink(path);
    rmdir(folder);
}

static void test_profile(void)
{
    setup s;
    yd_err err = {0};
    yd_exec_stats st;
    fake_reset();
    CHECK(start(&s, open_gpu(&(yd_cuda_options){.profile = 1}), YD_F32, 0, 1, &err) == 0 && s.be->run(s.e, &err) == 0);
    s.be->exec_stats(s.e, &st);
    long calls = 0;
    int conv = 0;
    for (int i = 0; i < 16 && st.profile[i].family; i++) {
        calls += st.profile[i].calls;
        conv |= strcmp(st.profile[i].family, "CONV") == 0;
        CHECK(st.profile[i].seconds > 0);
    }
    CHECK(calls == st.n_kernels && conv && fake.graph_launches == 0);
    stop(&s);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"a network in f32 agrees with the CPU", test_network_f32},
        {"a network in bf16 agrees with the CPU", test_network_bf16},
        {"training steps agree with the CPU", test_training},
        {"training has attention by products", test_training_attention},
        {"a sample's bytes do not depend on its batch", test_mates},
        {"engines are pinned over batches", test_pinning},
        {"a run allocates and prepares nothing", test_run_allocates_nothing},
        {"memory is accounted for", test_accounts},
        {"the budget is kept to", test_budget},
        {"out of memory at every call", test_out_of_memory},
        {"a failure at every call", test_failed},
        {"a lost device at every call", test_lost},
        {"an unsupported shape at every call", test_unsupported},
        {"a lost device stays lost", test_lost_stays_lost},
        {"without memory on the host", test_host_memory},
        {"weights are read, written and take effect", test_weights},
        {"gradients that are NaN change nothing", test_gradients_that_are_nan},
        {"the plan cache spares the choice", test_plan_cache},
        {"choosing by time ends in time", test_tuning_ends},
        {"profiles", test_profile},
    };
    yd_cpu_prepare_process(argv);
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
