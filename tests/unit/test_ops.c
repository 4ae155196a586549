// Every operator of core/graph.h on the CPU backend against the plain loops of tests/oracle, over the table of
// tests/oracle/one_op.c; the oracle's gradients against finite differences of the oracle's own forward; and the
// promise that a sample's bytes depend on nothing else.
#include "core/cpu/vec.h"
#include "tests/oracle/device.h"
#include "tests/oracle/one_op.h"
#include "tests/unit/t.h"
#include <sys/wait.h>
#include <unistd.h>

#ifdef YD_SANITIZE
#define SPARSE 1 // the cases that compile hundreds of graphs take some of them
#else
#define SPARSE 0
#endif

static const spec *specs;
static size_t n_specs;

// --- running on the backend

static yd_backend *backend[2]; // one and two threads, activations kept

// Of the oracle's samples, or the error, printed.
static int run_on(device *d, yd_backend *be, const oracle *o, int first, int n)
{
    yd_err err = {0};
    const int rc = device_run(d, be, o, first, n, &err);
    if (rc) printf("  %s\n", err.detail);
    return rc;
}

static void compare(const spec *s, double f32_limit, double bf16_limit)
{
    yd_graph *g = one_op_graph(s);
    CHECK_MSG(!g->failed, "%s: %s", one_op_label(s), g->err.detail);
    oracle *o = one_op_oracle(g, s);
    oracle_run(o, 0);
    device d;
    int rc = run_on(&d, backend[1], o, 0, s->n);
    CHECK_MSG(rc == 0, "%s", one_op_label(s));
    for (int k = 0; k < YD_OP_MAX_OUT && !rc; k++) {
        yd_tid t = g->ops[0].out[k];
        if (t == YD_NONE) continue;
        size_t count = oracle_count(o, t);
        float *got = device_read(&d, g, t, s->n), *want = malloc(count * sizeof *want);
        for (size_t i = 0; i < count; i++) want[i] = (float)o->t[t][i];
        int half = s->dt == YD_BF16 || g->tensors[t].dtype == YD_BF16;
        double diff = t_rel_diff(got, want, count), limit = half ? bf16_limit : f32_limit;
        CHECK_MSG(diff <= limit, "%s: %s is off by %.3g, allowed %.3g", one_op_label(s), g->tensors[t].name, diff,
                  limit);
        free(got);
        free(want);
    }
    device_close(&d);
    oracle_free(o);
    yd_graph_free(g);
}

static void test_f32(void)
{
    for (size_t i = 0; i < n_specs; i++) compare(&specs[i], 2e-5, 0);
}

static void test_bf16(void)
{
    for (size_t i = 0; i < n_specs; i++) {
        spec s = one_op_with_types(specs[i], YD_BF16, YD_BF16);
        compare(&s, 2e-5, 1e-2);
    }
}

// Results stored otherwise than inputs: the first and last layers of a bf16 network.
static void test_mixed_types(void)
{
    for (size_t i = 0; i < n_specs; i++) {
        spec s = one_op_with_types(specs[i], YD_BF16, YD_F32), r = one_op_with_types(specs[i], YD_F32, YD_BF16);
        compare(&s, 2e-5, 1e-2);
        compare(&r, 1e-2, 1e-2);
    }
}

// --- the same bytes whatever the batch and the thread count

static void check_same_bytes(const spec *s)
{
    yd_graph *g = one_op_graph(s);
    oracle *o = one_op_oracle(g, s);
    device two, one;
    int rc = run_on(&two, backend[1], o, 0, s->n), rc1 = run_on(&one, backend[0], o, 0, s->n);
    CHECK_MSG(rc == 0 && rc1 == 0, "%s", one_op_label(s));
    for (int k = 0; k < YD_OP_MAX_OUT && !rc && !rc1; k++) {
        yd_tid t = g->ops[0].out[k];
        if (t == YD_NONE || (s->kind == YD_OP_CONV_DW && g->tensors[t].kind == YD_T_PGRAD))
            continue; // oneDNN reduces dW by thread
        float *a = device_read(&two, g, t, s->n), *b = device_read(&one, g, t, s->n);
        CHECK_MSG(memcmp(a, b, sizeof(float) * oracle_count(o, t)) == 0, "%s: %s differs between 1 and 2 threads",
                  one_op_label(s), g->tensors[t].name);
        free(b);
        size_t per = yd_tensor_numel(&g->tensors[t]);
        for (int i = 0; i < s->n && g->tensors[t].kind != YD_T_PGRAD; i++) {
            device alone;
            if (run_on(&alone, backend[1], o, i, 1) == 0) {
                b = device_read(&alone, g, t, 1);
                CHECK_MSG(memcmp(a + (size_t)i * per, b, per * sizeof *b) == 0,
                          "%s: sample %d of %s differs when alone", one_op_label(s), i, g->tensors[t].name);
                free(b);
            } else
                CHECK(0);
            device_close(&alone);
        }
        free(a);
    }
    device_close(&two);
    device_close(&one);
    oracle_free(o);
    yd_graph_free(g);
}

static void test_same_bytes(void)
{
    for (size_t i = 0; i < n_specs; i += SPARSE ? 5 : 1) {
        spec f = one_op_with_types(specs[i], YD_F32, YD_F32), h = one_op_with_types(specs[i], YD_BF16, YD_BF16);
        check_same_bytes(&f);
        check_same_bytes(&h);
    }
}

// --- the oracle's gradients against central differences of the oracle's forward

// L = sum dy*y; for LOSS the sum of the losses.
static double scalar(oracle *f, const oracle *b)
{
    oracle_run(f, 0);
    double sum = 0;
    yd_tid dy = yd_graph_find(b->g, "dy");
    if (dy == YD_NONE) {
        yd_tid y = yd_graph_find(f->g, "y");
        for (size_t i = 0; i < oracle_count(f, y); i++) sum += f->t[y][i];
        return sum;
    }
    yd_tid y = yd_graph_find(f->g, "y");
    for (size_t i = 0; i < oracle_count(f, y); i++) sum += f->t[y][i] * b->t[dy][i];
    return sum;
}

static void check_gradient(const spec *s)
{
    const double step = 1e-5;
    spec fs = *s;
    fs.kind = one_op_forward_of(s->kind);
    yd_graph *g = one_op_graph(s), *fg = one_op_graph(&fs);
    oracle *b = one_op_oracle(g, s), *f = oracle_new(fg, s->n);
    one_op_fill(f, &fs);
    one_op_copy_named(f, b);
    oracle_run(f, 0);
    if (s->kind == YD_OP_GNORM_BWD) one_op_copy_named(b, f); // statistics in full precision
    oracle_run(b, 0);
    for (int k = 0; k < YD_OP_MAX_OUT; k++) {
        yd_tid grad = g->ops[0].out[k];
        if (grad == YD_NONE || strncmp(g->tensors[grad].name, "d.", 2) != 0) continue;
        yd_tid x = yd_graph_find(fg, g->tensors[grad].name + 2);
        double worst = 0, top = 0;
        size_t count = oracle_count(b, grad), stride = count / 40 + 1; // a sample of the elements is enough
        for (size_t i = 0; i < count; i += stride) {
            double keep = f->t[x][i];
            f->t[x][i] = keep + step;
            double up = scalar(f, b);
            f->t[x][i] = keep - step;
            double diff = fabs((up - scalar(f, b)) / (2 * step) - b->t[grad][i]);
            f->t[x][i] = keep;
            if (!(diff <= worst)) worst = diff;
            top = fmax(top, fabs(b->t[grad][i]));
        }
        CHECK_MSG(worst <= 1e-6 * fmax(top, 1), "%s: %s is off by %.3g of %.3g", one_op_label(s), g->tensors[grad].name,
                  worst, top);
    }
    oracle_free(b);
    oracle_free(f);
    yd_graph_free(g);
    yd_graph_free(fg);
}

#define S(KIND, N, H, W, C, ...)                                                                                       \
    {                                                                                                                  \
        .kind = KIND, .n = N, .h = H, .w = W, .c = C, __VA_ARGS__                                                      \
    }

static void test_oracle_gradients(void)
{
    static const spec small[] = {
        S(YD_OP_CONV_DX, 2, 5, 4, 3, .o = 2, .k = 3, .stride = 1),
        S(YD_OP_CONV_DX, 1, 6, 5, 2, .o = 3, .k = 3, .stride = 2),
        S(YD_OP_CONV_DX, 2, 3, 3, 4, .o = 2, .k = 1, .stride = 1),
        S(YD_OP_CONV_DW, 2, 5, 4, 3, .o = 2, .k = 3, .stride = 1, .b = 1),
        S(YD_OP_CONV_DW, 1, 6, 5, 2, .o = 3, .k = 3, .stride = 2, .b = 1),
        S(YD_OP_CONV_DW, 2, 3, 3, 4, .o = 2, .k = 1, .stride = 1),
        S(YD_OP_GNORM_BWD, 2, 3, 4, 6, .groups = 2, .act = 1, .v = 1),
        S(YD_OP_GNORM_BWD, 1, 2, 2, 4, .groups = 4, .v = 1),
        S(YD_OP_GNORM_BWD, 2, 3, 3, 4, .groups = 1, .act = 1),
        S(YD_OP_LINEAR_BWD, 3, 1, 1, 5, .o = 4, .b = 1),
        S(YD_OP_SILU_BWD, 2, 1, 1, 9, .o = 0),
        S(YD_OP_UPSAMPLE_BWD, 2, 2, 3, 3, .o = 0),
        S(YD_OP_SPLIT, 2, 3, 2, 3, .o = 2),
        S(YD_OP_ATTENTION_BWD, 2, 3, 2, 4, .o = 0),
        S(YD_OP_ATTENTION_BWD, 1, 1, 5, 3, .o = 0),
        S(YD_OP_LOSS, 2, 3, 4, 3, .p = 2),
        S(YD_OP_LOSS, 2, 3, 4, 3, .p = 1),
    };
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) check_gradient(&small[i]);
}

// --- element arithmetic

static void test_arithmetic(void)
{
    double worst = 0;
    for (double x = -87; x <= 87; x += 0.00731)
        worst = fmax(worst, fabs((double)yd_exp((float)x) / exp((double)(float)x) - 1));
    CHECK_MSG(worst < 3e-7, "exp is off by %.3g", worst);
    CHECK(yd_exp(0) == 1 && isnan(yd_exp(NAN)) && isfinite(yd_exp(1e30f)) && yd_exp(-1e30f) > 0);
    CHECK(yd_sigmoid(100) == 1 && yd_sigmoid(-100) > 0 && yd_sigmoid(-100) < 1e-30f);
    const double hard[] = {1, 1.00390625, 1.01171875, 3.3895313892515355e38, 1e-40, -0.0, INFINITY, -INFINITY, 1.0 / 3};
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        uint16_t b = yd_to_bf16((float)hard[i]);
        CHECK_MSG((double)yd_load(&b, 0, 1) == oracle_bf16(hard[i]), "bf16 of %g", hard[i]);
    }
    uint16_t nan = yd_to_bf16(yd_from_bits(0x7f800001u)); // its set bit is among those dropped
    CHECK(isnan(yd_load(&nan, 0, 1)));
}

// --- older processors: oneDNN is told to use less than this one has; bf16 is then storage only

static void test_older_processors(void)
{
    static const char *const isas[] = {"AVX2", "AVX512_CORE", "SSE41"};
    for (size_t i = 0; i < (SPARSE ? 1 : sizeof isas / sizeof *isas); i++) {
        pid_t child = fork();
        if (child == 0) {
            setenv("DNNL_MAX_CPU_ISA", isas[i], 1);
            if (!freopen("/dev/null", "w", stdout))
                _exit(126); // its verdict is its status; this program counts its own cases
            execl("/proc/self/exe", "test_ops", "operators", (char *)NULL);
            _exit(127);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "with DNNL_MAX_CPU_ISA=%s: status %x", isas[i],
                  (unsigned)status);
    }
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    specs = one_op_table(&n_specs);
    for (int i = 0; i < 2; i++) {
        yd_err err = {0};
        if (yd_cpu_open(&(yd_cpu_options){.threads = i + 1, .keep_activations = 1}, &backend[i], &err)) {
            fprintf(stderr, "%s\n", err.detail);
            return 1;
        }
    }
    static const t_case cases[] = {
        {"exp and bf16 rounding are accurate", test_arithmetic},
        {"oracle gradients are the slopes of the oracle's forward", test_oracle_gradients},
        {"f32 operators agree with the oracle", test_f32},
        {"bf16 operators agree with the oracle", test_bf16},
        {"operators between f32 and bf16 agree with the oracle", test_mixed_types},
        {"operators: a sample's bytes depend on neither batch nor threads", test_same_bytes},
        {"the same on older processors", test_older_processors},
    };
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    for (int i = 0; i < 2; i++) backend[i]->close(backend[i]);
    return rc;
}
