// Every operator on the backend against the plain loops of tests/oracle: the table of tests/oracle/one_op.c and below it what a GPU's kernels
// are chosen by: batches to 33, channels to 512, maps that fill no tile. In f32, bf16 and both mixed. Each is run twice and its samples
// alone, which must not change a bit.
#include "tests/gpu/check.h"
#include "tests/oracle/device.h"
#include "tests/oracle/one_op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S(KIND, N, H, W, C, ...)                                                                                       \
    {                                                                                                                  \
        .kind = KIND, .n = N, .h = H, .w = W, .c = C, __VA_ARGS__                                                      \
    }

// Convolutions: what a UNet has, at odd sizes and batches.
#define WIDE(KIND, RES)                                                                                                \
    S(KIND, 33, 5, 7, 8, .o = 16, .k = 3, .stride = 1, .b = 1, .res = RES),                                            \
        S(KIND, 17, 9, 9, 40, .o = 24, .k = 3, .stride = 2, .b = 1),                                                   \
        S(KIND, 7, 8, 8, 6, .o = 64, .k = 3, .stride = 1, .b = 1),                                                     \
        S(KIND, 2, 31, 33, 64, .o = 64, .k = 3, .stride = 1, .b = 1, .res = RES),                                      \
        S(KIND, 1, 8, 8, 512, .o = 512, .k = 3, .stride = 1, .b = 1, .res = RES),                                      \
        S(KIND, 9, 4, 4, 256, .o = 128, .k = 1, .stride = 1, .b = 1),                                                  \
        S(KIND, 3, 16, 15, 128, .o = 3, .k = 3, .stride = 1, .b = 1),                                                  \
        S(KIND, 4, 12, 20, 72, .o = 96, .k = 3, .stride = 2),                                                          \
        S(KIND, 2, 64, 64, 6, .o = 64, .k = 3, .stride = 1, .b = 1)

#define NORM(KIND)                                                                                                     \
    S(KIND, 33, 6, 5, 32, .groups = 8, .act = 1, .v = 1), S(KIND, 3, 64, 64, 64, .groups = 32, .act = 1),              \
        S(KIND, 2, 8, 8, 512, .groups = 32, .v = 1), S(KIND, 17, 16, 16, 128, .groups = 32, .act = 1),                 \
        S(KIND, 1, 129, 65, 32, .groups = 16, .act = 1, .v = 1), S(KIND, 5, 3, 3, 96, .groups = 3),                    \
        S(KIND, 2, 8, 8, 1024, .groups = 32, .act = 1, .v = 1)

static const spec more[] = {
    WIDE(YD_OP_CONV, 1),
    WIDE(YD_OP_CONV_DX, 0),
    WIDE(YD_OP_CONV_DW, 0),
    NORM(YD_OP_GNORM),
    NORM(YD_OP_GNORM_BWD),
    S(YD_OP_CONVT, 5, 7, 9, 48, .o = 40, .k = 4, .stride = 2, .b = 1),
    S(YD_OP_CONVT, 17, 4, 4, 64, .o = 32, .k = 4, .stride = 2, .b = 1),
    S(YD_OP_LINEAR, 33, 1, 1, 256, .o = 512, .b = 1),
    S(YD_OP_LINEAR, 1, 1, 1, 1, .o = 1, .b = 1),
    S(YD_OP_LINEAR_BWD, 33, 1, 1, 256, .o = 64, .b = 1),
    S(YD_OP_SILU, 33, 1, 1, 256, .o = 0),
    S(YD_OP_SILU_BWD, 33, 1, 1, 255, .o = 0),
    S(YD_OP_MISH, 33, 1, 1, 129, .o = 0),
    S(YD_OP_EMBED, 33, 1, 1, 1, .o = 256),
    S(YD_OP_CONCAT, 17, 9, 7, 64, .o = 40),
    S(YD_OP_CONCAT, 2, 16, 16, 512, .o = 256),
    S(YD_OP_SPLIT, 17, 9, 7, 64, .o = 40),
    S(YD_OP_ADD, 33, 9, 7, 33, .o = 0),
    S(YD_OP_AXPY, 17, 9, 7, 40, .o = 0),
    S(YD_OP_UPSAMPLE, 17, 9, 7, 64, .o = 0),
    S(YD_OP_UPSAMPLE_BWD, 17, 9, 7, 64, .o = 0),
    S(YD_OP_UNSHUFFLE, 17, 10, 6, 6, .r = 2),
    S(YD_OP_SHUFFLE, 17, 5, 3, 24, .r = 2),
    S(YD_OP_ATTENTION, 2, 16, 16, 512, .o = 0),
    S(YD_OP_ATTENTION, 33, 4, 4, 32, .o = 0),
    S(YD_OP_ATTENTION, 5, 8, 8, 128, .o = 0),
    S(YD_OP_ATTENTION, 1, 23, 9, 40, .o = 0),
    S(YD_OP_ATTENTION, 17, 5, 3, 32, .o = 0),
    S(YD_OP_ATTENTION, 3, 13, 7, 64, .o = 0),
    S(YD_OP_ATTENTION, 2, 17, 31, 128, .o = 0),
    S(YD_OP_ATTENTION, 9, 11, 9, 192, .o = 0),
    S(YD_OP_ATTENTION, 8, 16, 16, 256, .o = 0),
    S(YD_OP_ATTENTION, 2, 9, 15, 256, .o = 0),
    S(YD_OP_ATTENTION, 3, 7, 9, 512, .o = 0),
    S(YD_OP_ATTENTION_BWD, 1, 8, 8, 512, .o = 0),
    S(YD_OP_ATTENTION_BWD, 17, 4, 5, 32, .o = 0),
    S(YD_OP_ATTENTION_BWD, 3, 16, 16, 64, .o = 0),
    S(YD_OP_LOSS, 33, 7, 9, 3, .p = 1),
    S(YD_OP_LOSS, 17, 32, 32, 3, .p = 2),
};

// ---- one row: all shapes of one operator in one pair of types

typedef struct row {
    int cases, wrong, unlike; // unlike: bits that depend on what they must not
    double worst, allowed;    // the largest share of what is allowed that a case has taken
    yd_err err;
} row;

// Operators that move elements and compute nothing.
static int moves(yd_op_kind k)
{
    return k == YD_OP_CONCAT || k == YD_OP_SPLIT || k == YD_OP_UPSAMPLE || k == YD_OP_UNSHUFFLE || k == YD_OP_SHUFFLE;
}

static double allowed(const spec *s, const yd_tensor *t, double f32_limit)
{
    if (moves(s->kind) && s->dt == s->out_dt) return 1e-12;
    return s->dt == YD_BF16 || s->out_dt == YD_BF16 || t->dtype == YD_BF16 ? 1e-2 : f32_limit;
}

static void compare(check *c, row *r, const spec *s, const yd_graph *g, const oracle *o, const device *d,
                    double f32_limit)
{
    for (int k = 0; k < YD_OP_MAX_OUT; k++) {
        const yd_tid t = g->ops[0].out[k];
        if (t == YD_NONE) continue;
        const size_t count = oracle_count(o, t);
        float *got = device_read(d, g, t, s->n), *want = malloc(count * sizeof *want);
        for (size_t i = 0; i < count; i++) want[i] = (float)o->t[t][i];
        const double limit = allowed(s, &g->tensors[t], f32_limit),
                     diff = got ? check_rel_diff(got, want, count) : INFINITY;
        if (!(diff <= limit)) {
            r->wrong++;
            check_detail(c, "%s: %s is off by %.3g, allowed %.3g", one_op_label(s), g->tensors[t].name, diff, limit);
        }
        if (!(diff / limit <= r->worst / r->allowed)) r->worst = diff, r->allowed = limit;
        free(got);
        free(want);
    }
}

static int same_bits(const device *a, const device *b, const yd_graph *g, yd_tid t, int n, int sample, int alone)
{
    const size_t per = yd_tensor_numel(&g->tensors[t]);
    const int whole = g->tensors[t].kind == YD_T_PGRAD;
    float *x = device_read(a, g, t, n), *y = device_read(b, g, t, alone ? 1 : n);
    const size_t count = whole || alone ? per : per * (size_t)n;
    const int same = x && y && memcmp(x + (alone ? per * (size_t)sample : 0), y, count * sizeof *x) == 0;
    free(x);
    free(y);
    return same;
}

// The same exec again, another one, and the first and last samples alone. A gradient over the batch is looked at but for the last; the CPU's
// of a convolution is split by thread.
static void check_bits(check *c, row *r, const spec *s, const yd_graph *g, const oracle *o, device *d)
{
    for (int alone = 0; alone < 2; alone++) {
        const int samples[2] = {0, s->n - 1};
        for (int i = 0; i < (alone ? 2 : 1); i++) {
            device other;
            yd_err err = {0};
            int rc = device_run(&other, c->be, o, alone ? samples[i] : 0, alone ? 1 : s->n, &err);
            for (int k = 0; k < YD_OP_MAX_OUT; k++) {
                const yd_tid t = g->ops[0].out[k];
                if (t == YD_NONE || (alone && g->tensors[t].kind == YD_T_PGRAD)) continue;
                if (!rc && same_bits(d, &other, g, t, s->n, samples[i], alone)) continue;
                r->unlike++;
                check_detail(c, "%s: %s %s%s", one_op_label(s), g->tensors[t].name,
                             rc      ? err.detail
                             : alone ? "of one sample has other bits when it runs alone"
                                     : "has other bits when it runs again",
                             "");
            }
            device_close(&other);
        }
    }
}

static void run_case(check *c, row *r, const spec *s, double f32_limit, int bits)
{
    yd_graph *g = one_op_graph(s);
    oracle *o = one_op_oracle(g, s);
    device d;
    r->cases++;
    oracle_run(o, 0);
    if (device_run(&d, c->be, o, 0, s->n, &r->err)) {
        r->wrong++;
        check_detail(c, "%s: %s", one_op_label(s), r->err.detail);
    } else {
        compare(c, r, s, g, o, &d, f32_limit);
        if (bits) check_bits(c, r, s, g, o, &d);
    }
    device_close(&d);
    oracle_free(o);
    yd_graph_free(g);
}

// Maps have types; vectors and losses' vectors are f32 whatever is asked.
static int has_types(yd_op_kind k)
{
    return k != YD_OP_LINEAR && k != YD_OP_LINEAR_BWD && k != YD_OP_SILU && k != YD_OP_SILU_BWD && k != YD_OP_MISH &&
           k != YD_OP_EMBED;
}

static const struct {
    const char *name;
    yd_dtype dt, out_dt;
} types[] = {{"f32", YD_F32, YD_F32},
             {"bf16", YD_BF16, YD_BF16},
             {"bf16 to f32", YD_BF16, YD_F32},
             {"f32 to bf16", YD_F32, YD_BF16}};

// All shapes of one operator in one pair of types; `how` ends the row's name.
static void check_row(check *c, yd_op_kind kind, size_t pair, const char *how)
{
    size_t n_table;
    const spec *table = one_op_table(&n_table);
    char name[64];
    row r = {.worst = -1, .allowed = 1};
    snprintf(name, sizeof name, "%s, %s%s", yd_op_name(kind), types[pair].name, how);
    if (!check_begin(c, "operator", name)) return;
    for (size_t i = 0; i < n_table + sizeof more / sizeof *more; i++) {
        const spec s =
            one_op_with_types(i < n_table ? table[i] : more[i - n_table], types[pair].dt, types[pair].out_dt);
        const int bits = types[pair].dt == types[pair].out_dt && (c->on_gpu || kind != YD_OP_CONV_DW);
        if (s.kind == kind) run_case(c, &r, &s, c->on_gpu ? 1e-4 : 2e-5, bits);
    }
    check_end(c, r.wrong + r.unlike == 0, "%d shapes, %d wrong, %d with changing bits; at most %.1e of %.0e", r.cases,
              r.wrong, r.unlike, r.worst, r.allowed);
}

// The ways of attention that are not the default: the backend says which it took with YODA_CUDA_VERBOSE=1.
static void check_attention(check *c)
{
    static const struct {
        const char *how;
        yd_cuda_attention way;
    } ways[] = {{" by products", YD_ATTENTION_PRODUCTS}, {" by one kernel", YD_ATTENTION_FUSED}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways && c->on_gpu; i++) {
        check other = *c;
        other.be = check_open(c, &(yd_cuda_options){.keep_activations = 1, .attention = ways[i].way});
        if (!other.be) {
            c->failed++;
            continue;
        }
        check_row(&other, YD_OP_ATTENTION, 1, ways[i].how);
        other.be->close(other.be);
        other.be = c->be;
        *c = other;
    }
}

static void check_op(check *c, yd_op_kind kind)
{
    for (size_t k = 0; k < (has_types(kind) ? sizeof types / sizeof *types : 1); k++) check_row(c, kind, k, "");
    if (kind == YD_OP_ATTENTION) check_attention(c);
}

void check_ops(check *c)
{
#define CHECK_OP(name) check_op(c, YD_OP_##name);
    YD_OPS(CHECK_OP)
#undef CHECK_OP
}
