// Every operator of core/graph.h on the CUDA backend against the plain loops of tests/oracle, over the table of tests/oracle/one_op.c, on a GPU
// that is none (tests/fake_gpu): operators' wiring, layouts, padding, temporaries and graphs are real, and so are our kernels, run on the host;
// what cuDNN and cublasLt compute are loops. Each case runs once for each way that a real library may force: with and without fused ends, engines,
// batches.
#include "gpu/gpu.h"
#include "tests/fake_gpu/fake.h"
#include "tests/oracle/device.h"
#include "tests/oracle/one_op.h"
#include "tests/unit/t.h"

static const spec *specs;
static size_t n_specs;

// A new backend and the oracle's samples on it. 0 or the error, printed.
static int run_on(device *d, const yd_cuda_options *opt, const oracle *o, int first, int n)
{
    yd_err err = {0};
    yd_backend *be = NULL;
    *d = (device){0};
    int rc = yd_gpu_open(fake_driver(), opt, &be, &err);
    if (!rc) rc = device_run(d, be, o, first, n, &err);
    if (rc) printf("  %s\n", err.detail);
    return rc;
}

static void close_all(device *d)
{
    yd_backend *be = d->be;
    device_close(d);
    if (be) be->close(be);
}

static yd_cuda_options keeping = {.keep_activations = 1};

static void compare(const spec *s, double f32_limit, double bf16_limit)
{
    yd_graph *g = one_op_graph(s);
    CHECK_MSG(!g->failed, "%s: %s", one_op_label(s), g->err.detail);
    oracle *o = one_op_oracle(g, s);
    oracle_run(o, 0);
    device d;
    const int rc = run_on(&d, &keeping, o, 0, s->n);
    CHECK_MSG(rc == 0, "%s", one_op_label(s));
    CHECK(rc || fake.graph_launches >= 2); // the warm-up's and the run's: what is compared came out of a graph
    for (int k = 0; k < YD_OP_MAX_OUT && !rc; k++) {
        const yd_tid t = g->ops[0].out[k];
        if (t == YD_NONE) continue;
        const size_t count = oracle_count(o, t);
        float *got = device_read(&d, g, t, s->n), *want = malloc(count * sizeof *want);
        for (size_t i = 0; i < count; i++) want[i] = (float)o->t[t][i];
        const int half = s->dt == YD_BF16 || s->out_dt == YD_BF16;
        const double diff = t_rel_diff(got, want, count), limit = half ? bf16_limit : f32_limit;
        CHECK_MSG(diff <= limit, "%s: %s is off by %.3g, allowed %.3g", one_op_label(s), g->tensors[t].name, diff,
                  limit);
        free(got);
        free(want);
    }
    close_all(&d);
    CHECK_MSG(fake.live == 0 && fake.bytes == 0, "%s: %ld objects and %zu bytes are left", one_op_label(s), fake.live,
              fake.bytes);
    oracle_free(o);
    yd_graph_free(g);
}

// What a library may force.
typedef struct way {
    const char *name;
    int no_fused, no_conv, no_wide, one_by_one, no_attention;
} way;

static void set_way(const way *w)
{
    fake_reset();
    fake.no_fused = w->no_fused;
    fake.no_conv = w->no_conv;
    fake.no_wide = w->no_wide;
    fake.no_attention = w->no_attention;
    fake.conv_one_by_one = fake.matmul_one_by_one = w->one_by_one;
}

static int uses_libraries(yd_op_kind k)
{
    return k == YD_OP_CONV || k == YD_OP_CONVT || k == YD_OP_CONV_DX || k == YD_OP_CONV_DW || k == YD_OP_ATTENTION ||
           k == YD_OP_ATTENTION_BWD;
}

static void all(const way *w, yd_dtype in, yd_dtype out, int everything)
{
    for (size_t i = 0; i < n_specs; i++) {
        if (!everything && !uses_libraries(specs[i].kind)) continue;
        set_way(w);
        const spec s = one_op_with_types(specs[i], in, out);
        compare(&s, 2e-5, 1e-2);
    }
}

static void test_f32(void)
{
    all(&(way){0}, YD_F32, YD_F32, 1);
}

static void test_bf16(void)
{
    all(&(way){0}, YD_BF16, YD_BF16, 1);
}

static void test_mixed(void)
{
    all(&(way){0}, YD_BF16, YD_F32, 1);
    all(&(way){0}, YD_F32, YD_BF16, 1);
    all(&(way){.no_wide = 1}, YD_BF16, YD_F32, 0);
}

static void test_no_fused_ends(void)
{
    all(&(way){.no_fused = 1}, YD_F32, YD_F32, 0);
    all(&(way){.no_fused = 1}, YD_BF16, YD_BF16, 0);
}

static void test_no_engines(void)
{
    all(&(way){.no_conv = 1}, YD_F32, YD_F32, 0);
    all(&(way){.no_conv = 1}, YD_BF16, YD_BF16, 0);
    all(&(way){.no_conv = 1}, YD_BF16, YD_F32, 0);
}

static void test_one_by_one(void)
{
    all(&(way){.one_by_one = 1}, YD_F32, YD_F32, 0);
    all(&(way){.one_by_one = 1, .no_fused = 1}, YD_BF16, YD_BF16, 0);
}

// By one kernel where maps are bf16, by products where no engine is there, where one asks for them, and in f32: the fake counts.
static void attention_way(const way *w, const yd_cuda_options *opt, yd_dtype in, yd_dtype out, int one_kernel)
{
    const yd_cuda_options kept = keeping;
    keeping = *opt;
    keeping.keep_activations = 1;
    for (size_t i = 0; i < n_specs; i++) {
        if (specs[i].kind != YD_OP_ATTENTION && specs[i].kind != YD_OP_ATTENTION_BWD) continue;
        set_way(w);
        const spec s = one_op_with_types(specs[i], in, out);
        compare(&s, 2e-5, 1e-2);
        CHECK_MSG(fake.attentions == (one_kernel && s.kind == YD_OP_ATTENTION), "%s: %ld fused kernels", one_op_label(&s), fake.attentions);
    }
    keeping = kept;
}

static void test_attention(void)
{
    attention_way(&(way){0}, &(yd_cuda_options){0}, YD_BF16, YD_BF16, 1);
    attention_way(&(way){0}, &(yd_cuda_options){0}, YD_BF16, YD_F32, 1);
    attention_way(&(way){0}, &(yd_cuda_options){.batch_variant = 1}, YD_BF16, YD_BF16, 1);
    attention_way(&(way){.one_by_one = 1}, &(yd_cuda_options){0}, YD_BF16, YD_BF16, 1);
    attention_way(&(way){.no_attention = 1}, &(yd_cuda_options){0}, YD_BF16, YD_BF16, 0);
    attention_way(&(way){0}, &(yd_cuda_options){.attention = YD_ATTENTION_PRODUCTS}, YD_BF16, YD_BF16, 0);
    attention_way(&(way){0}, &(yd_cuda_options){0}, YD_F32, YD_F32, 0);
    attention_way(&(way){0}, &(yd_cuda_options){0}, YD_F32, YD_BF16, 0);
}

// More channels than a fused kernel has, and too few tokens for one.
static void test_attention_too_large(void)
{
    static const spec odd[] = {{.kind = YD_OP_ATTENTION, .n = 2, .h = 3, .w = 3, .c = 264}, {.kind = YD_OP_ATTENTION, .n = 3, .h = 1, .w = 1, .c = 16},
                               {.kind = YD_OP_ATTENTION, .n = 2, .h = 3, .w = 5, .c = 12}};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        fake_reset();
        const spec s = one_op_with_types(odd[i], YD_BF16, YD_BF16);
        compare(&s, 2e-5, 1e-2);
        CHECK(fake.attentions == 0);
    }
    keeping.attention = YD_ATTENTION_FUSED; // whoever has one may take it
    fake_reset();
    fake.wide_attention = 1;
    const spec s = one_op_with_types(odd[0], YD_BF16, YD_BF16);
    compare(&s, 2e-5, 1e-2);
    CHECK(fake.attentions == 1);
    keeping.attention = YD_ATTENTION_BEST;
}

// Sample 1 of a batch is what it is alone.
static void mates(int no_tiles)
{
    for (size_t i = 0; i < n_specs; i++) {
        if (specs[i].n < 2 || (no_tiles && !uses_libraries(specs[i].kind))) continue;
        fake_reset();
        fake.no_tiles = no_tiles;
        yd_graph *g = one_op_graph(&specs[i]);
        oracle *o = one_op_oracle(g, &specs[i]);
        device batch, alone;
        int rc = run_on(&batch, &keeping, o, 0, specs[i].n);
        if (!rc) rc = run_on(&alone, &keeping, o, 1, 1);
        CHECK_MSG(rc == 0, "%s", one_op_label(&specs[i]));
        for (int k = 0; k < YD_OP_MAX_OUT && !rc; k++) {
            const yd_tid t = g->ops[0].out[k];
            if (t == YD_NONE || g->tensors[t].kind == YD_T_PGRAD) continue;
            const size_t per = yd_tensor_numel(&g->tensors[t]);
            float *a = device_read(&batch, g, t, specs[i].n), *b = device_read(&alone, g, t, 1);
            CHECK_MSG(memcmp(a + per, b, per * sizeof *a) == 0, "%s: %s depends on its mates", one_op_label(&specs[i]),
                      g->tensors[t].name);
            free(a);
            free(b);
        }
        close_all(&batch);
        if (!rc) close_all(&alone);
        oracle_free(o);
        yd_graph_free(g);
    }
}

static void test_mates(void)
{
    mates(0);
}

static void test_no_tiles(void)
{
    mates(1);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"f32 agrees with the oracle", test_f32},
        {"bf16 agrees with the oracle", test_bf16},
        {"mixed types agree with the oracle", test_mixed},
        {"without engines that fuse a convolution's end", test_no_fused_ends},
        {"without engines for convolutions", test_no_engines},
        {"with pinned engines that take one sample", test_one_by_one},
        {"attention by one kernel and by products", test_attention},
        {"attention that no kernel takes whole", test_attention_too_large},
        {"a sample does not depend on its mates", test_mates},
        {"nor where engines choose their tiles by the batch", test_no_tiles},
    };
    specs = one_op_table(&n_specs);
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
