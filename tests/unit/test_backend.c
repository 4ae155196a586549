// The CPU backend as a whole: a small U-Net compiled, run, trained and refused.
//
// The network uses every forward operator, among them the residuals that tempt an arena planner: one whose source
// dies there, one whose source is read later, and one whose source is the convolution's own input. Expected values
// come from tests/oracle.
#include "core/cpu/cpu.h"
#include "core/mem.h"
#include "tests/oracle/oracle.h"
#include "tests/unit/t.h"

#define SIZE  16
#define BATCH 3

static yd_backend *be, *be1, *be_keep; // two threads; one thread; two threads, activations kept

// --- the network

static yd_tid P(yd_graph *g, const char *name, int ndim, int a, int b, int k)
{
    return yd_graph_param(g, name, ndim, (int[4]){a, b, k, k});
}

static yd_tid conv(yd_graph *g, const char *name, yd_tid x, yd_tid res, int out, int k, int stride)
{
    char w[32], b[32];
    snprintf(w, sizeof w, "%s.w", name);
    snprintf(b, sizeof b, "%s.b", name);
    int in = x == YD_NONE ? 1 : g->tensors[x].c;
    yd_tid wt = P(g, w, 4, out, in, k), bt = P(g, b, 1, out, 1, 1);
    return yd_graph_conv(g, name, x, wt, bt, res, stride, k / 2);
}

static yd_tid norm(yd_graph *g, const char *name, yd_tid x, yd_tid v, int groups, int act)
{
    char a[32], b[32];
    snprintf(a, sizeof a, "%s.gamma", name);
    snprintf(b, sizeof b, "%s.beta", name);
    int c = x == YD_NONE ? 1 : g->tensors[x].c;
    yd_tid gamma = P(g, a, 1, c, 1, 1), beta = P(g, b, 1, c, 1, 1);
    return yd_graph_gnorm(g, name, x, v, gamma, beta, groups, 1e-5f, act);
}

// Input "x" (SIZE x SIZE x 3) and noise level "s"; output "y" of x's shape.
static yd_graph *network(yd_dtype dt, int train)
{
    yd_graph *g = yd_graph_new();
    yd_tid x = yd_graph_input(g, "x", SIZE, SIZE, 3, dt), s = yd_graph_input(g, "s", 1, 1, 1, YD_F32);
    yd_tid e = yd_graph_embed(g, "embed", s, 8, 10.0f, 0);
    e = yd_graph_silu(g, "embed.silu",
                      yd_graph_linear(g, "embed.1", e, P(g, "e1.w", 2, 24, 8, 1), P(g, "e1.b", 1, 24, 1, 1)));
    yd_tid v = yd_graph_linear(g, "embed.2", e, P(g, "e2.w", 2, 16, 24, 1), YD_NONE);
    yd_tid u = yd_graph_unshuffle(g, "unshuffle", x, 2);
    yd_tid a = conv(g, "in", u, YD_NONE, 16, 3, 1);
    yd_tid h =
        conv(g, "r1.2", norm(g, "r1.n", conv(g, "r1.1", norm(g, "r1.m", a, YD_NONE, 4, 1), YD_NONE, 16, 3, 1), v, 4, 1),
             a, 16, 3, 1);
    yd_tid same = conv(g, "self", h, h, 16, 3, 1);          // residual is the input
    yd_tid down = conv(g, "down", same, YD_NONE, 24, 3, 2); // 4x4
    yd_tid att = yd_graph_attention(g, "att", conv(g, "qkv", norm(g, "att.n", down, YD_NONE, 8, 0), YD_NONE, 72, 1, 1));
    yd_tid mid = conv(g, "proj", att, down, 24, 1, 1); // residual dies here
    yd_tid up = conv(g, "up", yd_graph_upsample(g, "nearest", mid), YD_NONE, 16, 3, 1);
    yd_tid cat = yd_graph_concat(g, "cat", up, same);
    yd_tid r = conv(g, "r2.skip", cat, YD_NONE, 16, 1, 1);
    yd_tid sum = yd_graph_add(g, "sum", r, h);
    yd_tid r2 = conv(g, "r2.out", norm(g, "r2.n", cat, YD_NONE, 8, 1), sum, 16, 3, 1); // residual is read later
    yd_tid last =
        conv(g, "out", norm(g, "out.n", yd_graph_concat(g, "join", r2, sum), YD_NONE, 4, 1), YD_NONE, 12, 3, 1);
    yd_tid y = yd_graph_shuffle(g, "y", last, 2);
    if (!train) yd_graph_output(g, y);
    if (train) yd_graph_backward(g, y, 2);
    return g;
}

// --- values

static unsigned long seed;

static float draw(void) // uniform in [-1, 1)
{
    seed = seed * 6364136223846793005ul + 1442695040888963407ul;
    return (float)((double)(seed >> 11) / 4503599627370496.0 - 1.0);
}

typedef struct net {
    yd_graph *g;
    float **host; // parameters
    oracle *o;    // the same values, n samples
} net;

static net net_open(yd_dtype dt, int train, int n)
{
    net t = {.g = network(dt, train)};
    CHECK_MSG(!t.g->failed, "%s", t.g->err.detail);
    CHECK(yd_graph_finish(t.g, NULL) == 0);
    t.o = oracle_new(t.g, n);
    t.host = calloc((size_t)t.g->n_params, sizeof *t.host);
    seed = 7;
    for (int i = 0; i < t.g->n_params; i++) {
        const yd_tensor *p = &t.g->tensors[t.g->params[i]];
        size_t count = yd_tensor_numel(p), fan_in = p->ndim > 1 ? count / (size_t)p->dims[0] : 1;
        int gamma = strstr(p->name, "gamma") != NULL;
        t.host[i] = malloc(count * sizeof(float));
        for (size_t j = 0; j < count; j++) {
            float v = p->ndim > 1 ? draw() * 1.7f / sqrtf((float)fan_in) : gamma ? 1 + 0.3f * draw() : 0.2f * draw();
            if (dt == YD_BF16 && p->ndim == 4) v = (float)oracle_bf16((double)v);
            t.host[i][j] = v;
            t.o->t[t.g->params[i]][j] = (double)v;
        }
    }
    for (int i = 0; i < t.g->n_tensors; i++)
        for (size_t j = 0; t.g->tensors[i].kind == YD_T_INPUT && j < oracle_count(t.o, i); j++)
            t.o->t[i][j] = (double)draw();
    return t;
}

static void net_close(net *t)
{
    for (int i = 0; i < t->g->n_params; i++) free(t->host[i]);
    free(t->host);
    oracle_free(t->o);
    yd_graph_free(t->g);
}

// A compiled network with inputs set from the oracle's samples first..first+n-1.
typedef struct machine {
    yd_backend *be;
    yd_weights *w;
    yd_exec *e;
} machine;

static void set_inputs(const machine *m, const net *t, int first, int n)
{
    for (int i = 0; i < t->g->n_tensors; i++) {
        if (t->g->tensors[i].kind != YD_T_INPUT) continue;
        size_t per = yd_tensor_numel(&t->g->tensors[i]);
        float *stage = m->be->buffer(m->e, i);
        for (size_t j = 0; j < per * (size_t)n; j++) stage[j] = (float)t->o->t[i][(size_t)first * per + j];
    }
}

static machine machine_open(yd_backend *b, const net *t, int first, int n, int train)
{
    yd_err err = {0};
    machine m = {.be = b};
    int rc = b->weights_new(b, t->g, (const float *const *)t->host, train, &m.w, &err);
    if (!rc) rc = b->compile(b, t->g, m.w, n, &m.e, &err);
    if (rc) {
        fprintf(stderr, "%s\n", err.detail);
        exit(1); // every case needs this network
    }
    set_inputs(&m, t, first, n);
    return m;
}

static void machine_close(machine *m)
{
    m->be->exec_free(m->e);
    m->be->weights_free(m->w);
}

static void run(const machine *m)
{
    yd_err err = {0};
    CHECK_MSG(m->be->run(m->e, &err) == 0, "%s", err.detail);
}

// Largest difference between the exec's staging of tensor t and the oracle's, relative to the largest expected value.
static double off_by(const machine *m, const net *t, yd_tid id)
{
    size_t count = oracle_count(t->o, id);
    float *want = malloc(count * sizeof *want);
    for (size_t i = 0; i < count; i++) want[i] = (float)t->o->t[id][i];
    double d = t_rel_diff(m->be->buffer(m->e, id), want, count);
    free(want);
    return d;
}

// --- inference

static void test_network(void)
{
    for (int half = 0; half < 2; half++) {
        net t = net_open(half ? YD_BF16 : YD_F32, 0, BATCH);
        machine m = machine_open(be, &t, 0, BATCH, 0);
        run(&m);
        oracle_run(t.o, half);
        double d = off_by(&m, &t, yd_graph_find(t.g, "y"));
        CHECK_MSG(d <= (half ? 3e-2 : 2e-5), "%s network is off by %.3g", half ? "bf16" : "f32", d);
        run(&m); // nothing of the first run may be left in the way of the second
        double again = off_by(&m, &t, yd_graph_find(t.g, "y"));
        CHECK_MSG(again == d, "the second run is off by %.3g, the first by %.3g", again, d);
        machine_close(&m);
        net_close(&t);
    }
}

// y of the samples first..first+n-1 on backend b.
static void outputs(yd_backend *b, const net *t, int first, int n, float *dst, yd_exec_stats *stats)
{
    machine m = machine_open(b, t, first, n, 0);
    run(&m);
    yd_tid y = yd_graph_find(t->g, "y");
    memcpy(dst, b->buffer(m.e, y), yd_tensor_numel(&t->g->tensors[y]) * (size_t)n * sizeof(float));
    if (stats) b->exec_stats(m.e, stats);
    machine_close(&m);
}

static void test_network_bytes(void)
{
    for (int half = 0; half < 2; half++) {
        net t = net_open(half ? YD_BF16 : YD_F32, 0, BATCH);
        static float all[BATCH * SIZE * SIZE * 3], other[BATCH * SIZE * SIZE * 3];
        yd_exec_stats packed, kept;
        outputs(be, &t, 0, BATCH, all, &packed);
        outputs(be1, &t, 0, BATCH, other, NULL);
        CHECK(memcmp(all, other, sizeof all) == 0);
        outputs(be_keep, &t, 0, BATCH, other, &kept);
        CHECK(memcmp(all, other, sizeof all) == 0); // the arena's sharing changes nothing
        CHECK_MSG(packed.arena_bytes * 2 < kept.arena_bytes, "%zu bytes packed, %zu kept", packed.arena_bytes,
                  kept.arena_bytes);
        CHECK(packed.n_kernels > t.g->n_ops / 2 && packed.flops > 0);
        for (int i = 0; i < BATCH; i++) {
            outputs(be, &t, i, 1, other, NULL);
            CHECK(memcmp(all + i * SIZE * SIZE * 3, other, SIZE * SIZE * 3 * sizeof *all) == 0);
        }
        net_close(&t);
    }
}

// Vectors of known noise levels come from a table: the bytes are those of computing them, whether all, some or none of
// a batch's levels are known, also from another exec, and after the weights have changed.
static void test_levels(void)
{
    net t = net_open(YD_F32, 0, BATCH);
    machine with = machine_open(be, &t, 0, BATCH, 0), without = machine_open(be_keep, &t, 0, BATCH, 0);
    yd_tid s = yd_graph_find(t.g, "s"), y = yd_graph_find(t.g, "y");
    static const float levels[][BATCH] = {
        {0.1f, 0.2f, 0.3f}, {0.3f, 0.1f, 0.2f}, {0.2f, 0.4f, 0.4f}, {0.4f, 0.5f, 0.1f}};
    const size_t bytes = oracle_count(t.o, y) * sizeof(float);
    yd_exec *one = NULL;
    CHECK(be->compile(be, t.g, with.w, 1, &one, NULL) == 0);
    for (int change = 0; change < 2; change++) {
        for (size_t k = 0; k < sizeof levels / sizeof *levels; k++) {
            memcpy(be->buffer(with.e, s), levels[k], sizeof levels[k]);
            memcpy(be->buffer(without.e, s), levels[k], sizeof levels[k]);
            run(&with);
            run(&without);
            CHECK_MSG(memcmp(be->buffer(with.e, y), be->buffer(without.e, y), bytes) == 0, "levels %zu, weights %d", k,
                      change);
        }
        machine alone = with;
        alone.e = one;
        set_inputs(&alone, &t, 0, 1);
        be->buffer(one, s)[0] = 0.4f; // sample 0 of the last batch
        run(&alone);
        CHECK(memcmp(be->buffer(one, y), be->buffer(with.e, y), bytes / BATCH) == 0);
        yd_tid w = yd_graph_find(t.g, "e1.w");
        float other[24 * 8];
        for (int i = 0; i < 24 * 8; i++) other[i] = draw();
        CHECK(be->weights_write(with.w, YD_W_PARAM, t.g->tensors[w].param, other, NULL) == 0);
        CHECK(be->weights_write(without.w, YD_W_PARAM, t.g->tensors[w].param, other, NULL) == 0);
    }
    be->exec_free(one);
    machine_close(&with);
    machine_close(&without);
    net_close(&t);
}

// More levels than the table has rows: the oldest make room, and come back as the same bytes.
static void test_many_levels(void)
{
    net t = net_open(YD_F32, 0, 1);
    machine m = machine_open(be, &t, 0, 1, 0);
    yd_tid s = yd_graph_find(t.g, "s"), y = yd_graph_find(t.g, "y");
    const size_t bytes = oracle_count(t.o, y) * sizeof(float);
    float *first = malloc(bytes);
    for (int i = 0; i <= 1100; i++) {
        be->buffer(m.e, s)[0] = (float)(i % 1100) / 1100;
        run(&m);
        if (i == 0) memcpy(first, be->buffer(m.e, y), bytes);
        if (i == 1) CHECK(memcmp(first, be->buffer(m.e, y), bytes) != 0);
    }
    CHECK(memcmp(first, be->buffer(m.e, y), bytes) == 0);
    free(first);
    machine_close(&m);
    net_close(&t);
}

// The profile counts what ran.
static void test_profile(void)
{
    yd_backend *b = NULL;
    CHECK(yd_cpu_open(&(yd_cpu_options){.threads = 2, .profile = 1}, &b, NULL) == 0);
    net t = net_open(YD_F32, 0, 1);
    machine m = machine_open(b, &t, 0, 1, 0);
    run(&m);
    run(&m);
    yd_exec_stats st;
    b->exec_stats(m.e, &st);
    long norms = 0, convs = 0;
    for (size_t i = 0; i < sizeof st.profile / sizeof *st.profile && st.profile[i].family; i++) {
        CHECK_MSG(st.profile[i].seconds > 0, "%s", st.profile[i].family);
        if (strcmp(st.profile[i].family, "GNORM") == 0) norms = st.profile[i].calls;
        if (strncmp(st.profile[i].family, "CONV", 4) == 0) convs += st.profile[i].calls;
    }
    int want_norms = 0, want_convs = 0;
    for (int i = 0; i < t.g->n_ops; i++) {
        want_norms += t.g->ops[i].kind == YD_OP_GNORM;
        want_convs += t.g->ops[i].kind == YD_OP_CONV;
    }
    CHECK_MSG(norms == 2 * want_norms && convs >= 2 * want_convs, "%ld and %ld calls", norms, convs);
    machine_close(&m);
    b->close(b);
    net_close(&t);
}

// Without Winograd's method the network agrees to the tighter tolerance, and the backend says which tables it uses.
static void test_kernels(void)
{
    yd_backend *b = NULL;
    yd_backend_info info;
    CHECK(yd_cpu_open(&(yd_cpu_options){.threads = 2, .no_winograd = 1}, &b, NULL) == 0);
    b->info(b, &info);
    CHECK_MSG(strcmp(info.kernels, "direct-1") == 0, "'%s'", info.kernels);
    net t = net_open(YD_F32, 0, BATCH);
    machine m = machine_open(b, &t, 0, BATCH, 0), w = machine_open(be, &t, 0, BATCH, 0);
    run(&m);
    run(&w);
    oracle_run(t.o, 0);
    yd_tid y = yd_graph_find(t.g, "y");
    CHECK_MSG(off_by(&m, &t, y) <= 2e-5 && off_by(&w, &t, y) <= 2e-4, "off by %.3g, with Winograd %.3g",
              off_by(&m, &t, y), off_by(&w, &t, y));
    be->info(be, &info);
    int same = memcmp(be->buffer(w.e, y), b->buffer(m.e, y), oracle_count(t.o, y) * sizeof(float)) == 0;
    CHECK_MSG(same == (strcmp(info.kernels, "direct-1") == 0), "kernels '%s', the bytes are %s", info.kernels,
              same ? "equal" : "different");
    machine_close(&m);
    machine_close(&w);
    b->close(b);
    net_close(&t);
}

// Working copies follow the masters, in every exec.
static void test_weights_write(void)
{
    for (int half = 0; half < 2; half++) {
        net t = net_open(half ? YD_BF16 : YD_F32, 0, 1);
        machine m = machine_open(be, &t, 0, 1, 0);
        yd_exec *second = NULL;
        CHECK(be->compile(be, t.g, m.w, 2, &second, NULL) == 0);
        run(&m);
        yd_tid w = yd_graph_find(t.g, "out.w"), y = yd_graph_find(t.g, "y"), b = yd_graph_find(t.g, "out.b");
        float zero[16 * 16 * 12 * 9] = {0}, back[12];
        CHECK(be->weights_write(m.w, YD_W_PARAM, t.g->tensors[w].param, zero, NULL) == 0);
        for (int i = 0; i < 12; i++) back[i] = (float)i;
        CHECK(be->weights_write(m.w, YD_W_PARAM, t.g->tensors[b].param, back, NULL) == 0);
        memset(back, 0, sizeof back);
        CHECK(be->weights_read(m.w, YD_W_PARAM, t.g->tensors[b].param, back, NULL) == 0 && back[11] == 11);
        machine n = m;
        n.e = second;
        for (int k = 0; k < 2; k++) {
            run(k ? &n : &m);
            const float *got = be->buffer(k ? n.e : m.e, y); // y[0,0,:] is shuffled from channels 0, 4, 8
            CHECK_MSG(got[0] == 0 && got[1] == 4 && got[2] == 8, "exec %d: %g %g %g", k, (double)got[0], (double)got[1],
                      (double)got[2]);
        }
        be->exec_free(second);
        machine_close(&m);
        net_close(&t);
    }
}

// A mean of 1000 leaves 24 - 10 bits for the deviations; the sums must not lose more.
static void test_large_mean(void)
{
    yd_graph *g = yd_graph_new();
    yd_tid x = yd_graph_input(g, "x", 64, 64, 8, YD_F32);
    yd_graph_output(g, norm(g, "y", x, YD_NONE, 2, 0));
    oracle *o = oracle_new(g, 1);
    float gamma[8], beta[8] = {0};
    const float *const host[] = {gamma, beta};
    for (int i = 0; i < 8; i++) gamma[i] = 1, o->t[g->params[0]][i] = 1;
    for (size_t i = 0; i < oracle_count(o, x); i++) o->t[x][i] = (double)(1000 + draw());
    net t = {.g = g, .o = o, .host = NULL};
    machine m = {.be = be};
    CHECK(be->weights_new(be, g, host, 0, &m.w, NULL) == 0 && be->compile(be, g, m.w, 1, &m.e, NULL) == 0);
    set_inputs(&m, &t, 0, 1);
    run(&m);
    oracle_run(o, 0);
    double d = off_by(&m, &t, yd_graph_find(g, "y"));
    CHECK_MSG(d < 1e-6, "off by %.3g", d);
    machine_close(&m);
    oracle_free(o);
    yd_graph_free(g);
}

// --- training

static void test_gradients(void)
{
    for (int half = 0; half < 2; half++) {
        net t = net_open(half ? YD_BF16 : YD_F32, 1, BATCH);
        machine m = machine_open(be, &t, 0, BATCH, 1);
        run(&m);
        oracle_run(t.o, half);
        yd_tid loss = yd_graph_find(t.g, "loss");
        CHECK(off_by(&m, &t, loss) < (half ? 2e-2 : 1e-5));
        int found = 0;
        for (int i = 0; i < t.g->n_tensors; i++) {
            if (t.g->tensors[i].kind != YD_T_PGRAD) continue;
            found++;
            double d = off_by(&m, &t, i);
            CHECK_MSG(d < (half ? 0.15 : 1e-4), "%s %s is off by %.3g", half ? "bf16" : "f32", t.g->tensors[i].name, d);
        }
        CHECK_MSG(found == t.g->n_params, "%d gradients of %d parameters", found, t.g->n_params);
        machine_close(&m);
        net_close(&t);
    }
}

static const yd_adamw hyper = {.lr = 1e-2f,
                               .beta1 = 0.9f,
                               .beta2 = 0.99f,
                               .eps = 1e-8f,
                               .weight_decay = 0.05f,
                               .clip_norm = 0.5f,
                               .ema_decay = 0.9f};

// One parameter followed through three steps by the oracle's optimiser, fed with the backend's gradients.
static void test_adamw(void)
{
    net t = net_open(YD_F32, 1, 2);
    machine m = machine_open(be, &t, 0, 2, 1);
    int p = t.g->tensors[yd_graph_find(t.g, "r1.1.w")].param;
    size_t count = yd_tensor_numel(&t.g->tensors[t.g->params[p]]);
    double *ref[5];
    for (int k = 0; k < 5; k++) ref[k] = calloc(count, sizeof(double)); // w, m, v, ema, gradient
    for (size_t i = 0; i < count; i++) ref[0][i] = ref[3][i] = (double)t.host[p][i];
    float *got = malloc(count * sizeof *got), *want = malloc(count * sizeof *want);
    for (long step = 1; step <= 3; step++) {
        run(&m);
        double norm = 0, sum = 0;
        for (int i = 0; i < t.g->n_tensors; i++)
            for (size_t j = 0; t.g->tensors[i].kind == YD_T_PGRAD && j < oracle_count(t.o, i); j++)
                sum += pow((double)be->buffer(m.e, i)[j], 2);
        for (int i = 0; i < t.g->n_tensors; i++)
            for (size_t j = 0; t.g->tensors[i].kind == YD_T_PGRAD && t.g->tensors[i].param == p && j < count; j++)
                ref[4][j] = (double)be->buffer(m.e, i)[j];
        yd_adamw hp = hyper;
        hp.step = step;
        CHECK(be->adamw(m.w, m.e, &hp, &norm, NULL) == 0);
        CHECK_MSG(fabs(norm - sqrt(sum)) <= 1e-9 * norm, "norm %.12g, expected %.12g", norm, sqrt(sum));
        CHECK_MSG(norm > (double)hp.clip_norm, "norm %g does not exercise the clipping", norm);
        oracle_adamw(&hp, (double)hp.clip_norm / norm, count, ref[4], ref[0], ref[1], ref[2], ref[3]);
    }
    for (int part = 0; part < 4; part++) {
        CHECK(be->weights_read(m.w, (yd_weights_part)part, p, got, NULL) == 0);
        for (size_t i = 0; i < count; i++) want[i] = (float)ref[part][i];
        CHECK_MSG(t_rel_diff(got, want, count) < 1e-5, "part %d is off by %.3g", part, t_rel_diff(got, want, count));
    }
    for (int k = 0; k < 5; k++) free(ref[k]);
    free(got);
    free(want);
    machine_close(&m);
    net_close(&t);
}

static void test_training(void)
{
    for (int half = 0; half < 2; half++) {
        net t = net_open(half ? YD_BF16 : YD_F32, 1, 2);
        machine m = machine_open(be, &t, 0, 2, 1);
        yd_tid loss = yd_graph_find(t.g, "loss"), weight = yd_graph_find(t.g, "weight"),
               mask = yd_graph_find(t.g, "mask");
        for (size_t i = 0; i < oracle_count(t.o, weight); i++) be->buffer(m.e, weight)[i] = 1.0f / (SIZE * SIZE);
        for (size_t i = 0; i < oracle_count(t.o, mask); i++) be->buffer(m.e, mask)[i] = 1;
        float first = 0, last = 0;
        for (long step = 1; step <= 40; step++) {
            run(&m);
            last = be->buffer(m.e, loss)[0] + be->buffer(m.e, loss)[1];
            if (step == 1) first = last;
            yd_adamw hp = hyper;
            hp.step = step;
            CHECK(be->adamw(m.w, m.e, &hp, NULL, NULL) == 0);
        }
        CHECK_MSG(last < 0.5f * first, "loss went from %g to %g", (double)first, (double)last);
        machine_close(&m);
        net_close(&t);
    }
}

static void test_nan_gradient(void)
{
    net t = net_open(YD_F32, 1, 1);
    machine m = machine_open(be, &t, 0, 1, 1);
    be->buffer(m.e, yd_graph_find(t.g, "weight"))[0] = NAN;
    run(&m);
    yd_err err = {0};
    yd_adamw hp = hyper;
    hp.step = 1;
    CHECK(be->adamw(m.w, m.e, &hp, NULL, &err) == YD_E_NUMERIC);
    CHECK_MSG(yd_graph_find(t.g, err.field) != YD_NONE && strstr(err.detail, err.field), "field '%s', detail '%s'",
              err.field, err.detail);
    float after[16 * 16 * 9];
    int p = t.g->tensors[yd_graph_find(t.g, "r1.1.w")].param;
    CHECK(be->weights_read(m.w, YD_W_PARAM, p, after, NULL) == 0 && memcmp(after, t.host[p], sizeof after) == 0);
    CHECK(be->weights_read(m.w, YD_W_M, p, after, NULL) == 0 && after[0] == 0);
    machine_close(&m);
    net_close(&t);
}

// --- refusals

// Compile a graph of one convolution after `change`; the code, with *err filled.
static int compile_changed(void (*change)(yd_graph *), yd_err *err)
{
    yd_graph *g = yd_graph_new();
    yd_tid x = yd_graph_input(g, "x", 9, 9, 4, YD_F32);
    yd_tid y = norm(g, "n", conv(g, "c", x, YD_NONE, 8, 3, 1), YD_NONE, 2, 1);
    yd_graph_output(g, y);
    float zero[8 * 4 * 9] = {0};
    const float *const host[] = {zero, zero, zero, zero};
    yd_weights *w = NULL;
    yd_exec *e = NULL;
    CHECK(be->weights_new(be, g, host, 0, &w, NULL) == 0);
    if (change) change(g);
    *err = (yd_err){0};
    int rc = be->compile(be, g, w, 1, &e, err);
    CHECK((rc == 0) == (e != NULL));
    be->exec_free(e);
    be->weights_free(w);
    yd_graph_free(g);
    return rc;
}

static void change_stride(yd_graph *g)
{
    g->ops[0].stride = 2;
}
static void change_groups(yd_graph *g)
{
    g->ops[1].groups = 3;
}
static void change_output(yd_graph *g)
{
    g->tensors[g->ops[1].out[0]].dtype = YD_BF16;
}
static void change_input(yd_graph *g)
{
    g->ops[0].in[0] = YD_NONE;
}
static void change_index(yd_graph *g)
{
    g->ops[0].in[2] = 1000;
}
static void change_kind(yd_graph *g)
{
    g->ops[0].kind = (yd_op_kind)99;
}
static void change_order(yd_graph *g)
{
    yd_op op = g->ops[0];
    g->ops[0] = g->ops[1];
    g->ops[1] = op;
}
static void test_refusals(void)
{
    static const struct {
        void (*change)(yd_graph *);
        int code;
        const char *words;
    } cases[] = {
        {NULL, 0, ""},
        {change_stride, YD_E_INVALID, "CONV 'c'"},
        {change_groups, YD_E_INVALID, "GNORM 'n'"},
        {change_output, YD_E_INVALID, "outputs are f32"},
        {change_input, YD_E_INVALID, "input is missing"},
        {change_index, YD_E_INVALID, "reads tensor 1000"},
        {change_kind, YD_E_UNSUPPORTED, "operator 99"},
        {change_order, YD_E_INVALID, "read before it is written"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        yd_err err;
        int rc = compile_changed(cases[i].change, &err);
        CHECK_MSG(rc == cases[i].code && strstr(err.detail, cases[i].words), "case %zu: %d '%s'", i, rc, err.detail);
    }
}

// Every primitive is chosen by yd_prim_choose(). Asked for something that oneDNN has only in reference code on any
// processor, it refuses.
static void test_reference_code(void)
{
    net t = net_open(YD_F32, 0, 1);
    machine m = machine_open(be, &t, 0, 1, 0);
    yd_prim p = {0};
    yd_err err = {0};
    dnnl_lrn_desc_t desc;
    dnnl_memory_desc_t md = yd_md_map(m.e, yd_graph_find(t.g, "cat"), YD_F32);
    dnnl_primitive_attr_t attr;
    CHECK(dnnl_lrn_forward_desc_init(&desc, dnnl_forward_inference, dnnl_lrn_within_channel, &md, 3, 1, 1, 1) ==
          dnnl_success);
    CHECK(dnnl_primitive_attr_create(&attr) == dnnl_success);
    CHECK(yd_prim_choose(m.e, &t.g->ops[0], &p, &desc, attr, NULL, &err) == YD_E_UNSUPPORTED);
    CHECK_MSG(strstr(err.detail, "EMBED 'embed'") && strstr(err.detail, "ref:any"), "'%s'", err.detail);
    dnnl_primitive_attr_destroy(attr);
    yd_prim_drop(&p);
    machine_close(&m);
    net_close(&t);
}

static void test_requests(void)
{
    yd_err err = {0};
    yd_backend *b = be;
    CHECK(yd_cpu_open(&(yd_cpu_options){.threads = -1}, &b, &err) == YD_E_CONFIG && b == NULL &&
          strcmp(err.field, "threads") == 0);
    yd_backend_info info;
    be->info(be, &info);
    CHECK(strcmp(info.name, "cpu") == 0 && info.device[0] && info.isa[0] && strncmp(info.library, "oneDNN 2.", 9) == 0);
    CHECK(info.threads == 2 && info.batch_pays == 0 && info.memory_total > 0);
    CHECK(info.bf16 == (strstr(info.isa, "bf16") || strstr(info.isa, "amx")));
    net t = net_open(YD_F32, 0, 1);
    machine m = machine_open(be, &t, 0, 1, 0);
    yd_exec *e = NULL;
    float x[4];
    CHECK(be->compile(be, t.g, m.w, 0, &e, &err) == YD_E_INVALID && e == NULL);
    CHECK(be->weights_read(m.w, YD_W_M, 0, x, &err) == YD_E_INVALID);
    CHECK(be->weights_read(m.w, YD_W_PARAM, -1, x, &err) == YD_E_INVALID);
    CHECK(be->weights_write(m.w, YD_W_PARAM, t.g->n_params, x, &err) == YD_E_INVALID);
    CHECK(be->peek(m.e, yd_graph_find(t.g, "cat"), x, &err) == YD_E_UNSUPPORTED);
    CHECK(be->buffer(m.e, yd_graph_find(t.g, "cat")) == NULL && be->buffer(m.e, -1) == NULL &&
          be->buffer(m.e, t.g->n_tensors) == NULL);
    yd_adamw hp = hyper;
    hp.step = 1;
    CHECK(be->adamw(m.w, m.e, &hp, NULL, &err) == YD_E_INVALID);
    machine_close(&m);
    net_close(&t);
}

// The wait policy is in place, and preparing again changes nothing (if it restarted the program, this would never end).
static void test_process(void)
{
#ifndef YD_SANITIZE
    CHECK(getenv("OMP_WAIT_POLICY") && getenv("GOMP_SPINCOUNT"));
    yd_cpu_prepare_process((char *[]){"test_backend", NULL});
#endif
    CHECK(be != NULL);
}

// Every allocation of ours fails once: each failure is reported as such and leaves nothing behind (the sanitizer
// build counts).
static void test_out_of_memory(void)
{
    net t = net_open(YD_BF16, 1, 1);
    long failures = 0;
    for (long k = 1;; k++) {
        yd_err err = {0};
        yd_backend *b = NULL;
        yd_weights *w = NULL;
        yd_exec *e = NULL;
        yd_mem_fail_at(k);
        int rc = yd_cpu_open(NULL, &b, &err);
        if (!rc) rc = b->weights_new(b, t.g, (const float *const *)t.host, 1, &w, &err);
        if (!rc) rc = b->compile(b, t.g, w, 1, &e, &err);
        yd_mem_fail_at(0);
        if (b) {
            b->exec_free(e);
            b->weights_free(w);
            b->close(b);
        }
        if (rc == 0) break;
        CHECK_MSG(rc == YD_E_NOMEM && err.detail[0], "allocation %ld: %d '%s'", k, rc, err.detail);
        failures++;
        if (k > 12) k += 6; // the later ones are alike: one per operator
    }
    CHECK_MSG(failures > 10, "only %ld failures were met", failures);
    net_close(&t);
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    yd_err err = {0};
    int rc = yd_cpu_open(&(yd_cpu_options){.threads = 2}, &be, &err);
    if (!rc) rc = yd_cpu_open(&(yd_cpu_options){.threads = 1}, &be1, &err);
    if (!rc) rc = yd_cpu_open(&(yd_cpu_options){.threads = 2, .keep_activations = 1}, &be_keep, &err);
    if (rc) {
        fprintf(stderr, "%s\n", err.detail);
        return 1;
    }
    static const t_case cases[] = {
        {"a U-Net agrees with the oracle", test_network},
        {"a U-Net's bytes depend on neither batch, threads nor arena", test_network_bytes},
        {"vectors of known noise levels are the computed ones", test_levels},
        {"more noise levels than the table holds", test_many_levels},
        {"a profile counts what ran", test_profile},
        {"Winograd's method can be turned off and is named", test_kernels},
        {"written weights are used by the next run of each exec", test_weights_write},
        {"normalisation survives a large mean", test_large_mean},
        {"a U-Net's gradients agree with the oracle", test_gradients},
        {"AdamW agrees with the oracle", test_adamw},
        {"training lowers the loss", test_training},
        {"a NaN gradient is refused and changes nothing", test_nan_gradient},
        {"impossible operators are refused by name", test_refusals},
        {"reference code is refused", test_reference_code},
        {"impossible requests are refused", test_requests},
        {"the process is prepared once", test_process},
        {"running out of memory is reported and leaks nothing", test_out_of_memory},
    };
    rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    be->close(be);
    be1->close(be1);
    be_keep->close(be_keep);
    return rc;
}
