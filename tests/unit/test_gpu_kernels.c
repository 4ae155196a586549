// Our CUDA kernels, run on the host over the grids they have on a device, against the plain loops of tests/oracle: every operator that
// they serve, over the table of tests/oracle/one_op.c and shapes that reach what that does not, in both types and in every layout.
//
// Each case also holds them to gpu/kernels.h's promises: nothing is written that is not theirs, padding is zero, a sample's bits do not
// depend on its mates, and no phase depends on the order of its threads. Products of matrices and convolutions, which libraries do on
// the device, are loops here.
#include "tests/oracle/one_op.h"
#include "tests/unit/gpu_rig.h"

// --- tensors in memory

typedef struct job {
    const oracle *o;
    const layout *lay;
    int first, n; // samples of the oracle's
    place at[16];
} job;

static int is_per_sample(const yd_tensor *t)
{
    return t->kind != YD_T_PARAM && t->kind != YD_T_PGRAD;
}

static int is_given(const yd_tensor *t)
{
    return t->kind == YD_T_INPUT || t->kind == YD_T_PARAM;
}

// The tensor as a map of this job's samples, filled if it is an input.
static yd_gpu_map *map_at(job *j, yd_tid t)
{
    place *p = &j->at[t];
    const yd_tensor *x = &j->o->g->tensors[t];
    if (p->base) return &p->m;
    p->is_map = 1;
    p->n = j->n;
    p->m = lay_out(j->lay, x->dtype, x->h, x->w, x->c);
    const size_t size = x->dtype == YD_BF16 ? 2 : 4, pixels = (size_t)j->n * (size_t)(x->h * x->w);
    p->bytes = (pixels * (size_t)p->m.pitch + (size_t)j->lay->shift) * size;
    p->base = take(p->bytes);
    p->m.data = (char *)p->base + (size_t)j->lay->shift * size;
    const double *from = j->o->t[t] + (size_t)j->first * (size_t)(x->h * x->w * x->c);
    for (size_t i = 0; is_given(x) && i < pixels; i++)
        for (int c = 0; c < p->m.padded; c++)
            yd_put(p->m.data, i * (size_t)p->m.pitch + (size_t)c, x->dtype == YD_BF16,
                   c < x->c ? (float)from[i * (size_t)x->c + (size_t)c] : 0.0f);
    return &p->m;
}

// The tensor as floats without gaps; NULL for YD_NONE.
static float *floats_at(job *j, yd_tid t)
{
    if (t == YD_NONE) return NULL;
    place *p = &j->at[t];
    const yd_tensor *x = &j->o->g->tensors[t];
    if (p->base) return p->v;
    const size_t each = yd_tensor_numel(x);
    p->count = each * (is_per_sample(x) ? (size_t)j->n : 1);
    p->bytes = p->count * sizeof(float);
    p->base = take(p->bytes);
    p->v = p->base;
    const double *from = j->o->t[t] + (is_per_sample(x) ? (size_t)j->first * each : 0);
    for (size_t i = 0; is_given(x) && i < p->count; i++) p->v[i] = (float)from[i];
    return p->v;
}

static void job_clear(job *j)
{
    for (int t = 0; t < 16; t++) free(j->at[t].base);
}

// --- what libraries do

static float at(const yd_gpu_map *m, int s, int y, int x, int c)
{
    return yd_get(m->data, yd_at_pixel(m, yd_pixel_at(m, (uint32_t)s, y, x), c), m->dtype == YD_BF16);
}

// The bare sums of a convolution or a transposed one, in f32.
static void convolve(const yd_gpu_map *x, const float *w, const yd_op *op, int pad, int transposed, const yd_gpu_map *y, int n)
{
    double *sum = malloc((size_t)y->c * sizeof *sum);
    for (int s = 0; s < n; s++)
        for (int i = 0; i < y->h; i++)
            for (int j = 0; j < y->w; j++) {
                memset(sum, 0, (size_t)y->c * sizeof *sum);
                for (int ky = 0; ky < op->k; ky++)
                    for (int kx = 0; kx < op->k; kx++) {
                        int u = i * op->stride + ky - pad, v = j * op->stride + kx - pad;
                        if (transposed) {
                            u = i + pad - ky, v = j + pad - kx;
                            if (u % op->stride || v % op->stride) continue;
                            u /= op->stride, v /= op->stride;
                        }
                        if (u < 0 || v < 0 || u >= x->h || v >= x->w) continue;
                        for (int ic = 0; ic < x->c; ic++)
                            for (int oc = 0; oc < y->c; oc++) {
                                const int row = transposed ? ic * y->c + oc : oc * x->c + ic;
                                sum[oc] += (double)at(x, s, u, v, ic) * (double)w[(row * op->k + ky) * op->k + kx];
                            }
                    }
                for (int oc = 0; oc < y->c; oc++)
                    ((float *)y->data)[yd_at_pixel(y, yd_pixel_at(y, (uint32_t)s, i, j), oc)] = (float)sum[oc];
            }
    free(sum);
}

static int run_conv(job *j, const yd_op *op)
{
    yd_gpu_map x = *map_at(j, op->in[0]), wide = x, *y = map_at(j, op->out[0]);
    yd_gpu_map sums = yd_gpu_map_of(NULL, YD_F32, y->h, y->w, y->c);
    void *mirrored = NULL;
    int rc = 0, pad = op->pad;
    sums.data = take((size_t)(j->n * y->h * y->w * y->c) * sizeof(float));
    if (op->reflect) {
        wide = lay_out(j->lay, x.dtype, x.h + 2 * pad, x.w + 2 * pad, x.c);
        wide.data = mirrored = take((size_t)(j->n * wide.h * wide.w * wide.pitch) * 4);
        rc = yd_gpu_reflect(&x, &wide, pad, j->n, NULL);
        pad = 0;
    }
    convolve(&wide, floats_at(j, op->in[1]), op, pad, op->kind == YD_OP_CONVT, &sums, j->n);
    if (!rc)
        rc = yd_gpu_conv_end(&sums, floats_at(j, op->in[2]), (yd_act)op->act, op->scale, floats_at(j, op->in[4]),
                             op->in[3] == YD_NONE ? NULL : map_at(j, op->in[3]), y, j->n, NULL);
    free(sums.data);
    free(mirrored);
    return rc;
}

// dW is the oracle's, sent through the packed layout and back; db is the kernels'.
static int run_conv_dw(job *j, const yd_op *op)
{
    const yd_tensor *w = &j->o->g->tensors[op->out[0]];
    const int a = w->dims[0], b = w->dims[1], k = w->dims[2], a8 = (a + 7) / 8 * 8, b8 = (b + 7) / 8 * 8;
    float *given = take(yd_tensor_numel(w) * sizeof(float)), *packed = take((size_t)(a8 * b8 * k * k) * sizeof(float));
    for (size_t i = 0; i < yd_tensor_numel(w); i++) given[i] = (float)j->o->t[op->out[0]][i];
    int rc = yd_gpu_filter_pack(given, a, b, k, packed, YD_F32, a8, b8, NULL);
    CHECK(packed[0] == given[0] && (b8 == b || packed[b8 - 1] == 0.0f) && (a8 == a || packed[(size_t)a * (size_t)(k * k * b8)] == 0.0f));
    CHECK(k == 1 || packed[b8] == given[1]); // the next tap of the first pair
    if (!rc) rc = yd_gpu_filter_unpack(packed, YD_F32, a8, b8, floats_at(j, op->out[0]), a, b, k, NULL);
    free(given);
    free(packed);
    if (rc || op->out[1] == YD_NONE) return rc;
    yd_gpu_map *dy = map_at(j, op->in[1]);
    void *scratch = take(yd_gpu_bias_grad_scratch(dy, j->n));
    rc = yd_gpu_bias_grad(dy, floats_at(j, op->out[1]), scratch, j->n, NULL);
    free(scratch);
    return rc;
}

static int run_gnorm(job *j, const yd_op *op)
{
    yd_gpu_map *x = map_at(j, op->in[0]);
    void *scratch = take(yd_gpu_gnorm_scratch(x, op->groups, j->n));
    int rc = yd_gpu_gnorm(x, floats_at(j, op->in[1]), floats_at(j, op->in[2]), floats_at(j, op->in[3]), op->groups, op->eps, op->act,
                          map_at(j, op->out[0]), floats_at(j, op->out[1]), scratch, j->n, NULL);
    free(scratch);
    return rc;
}

static int run_gnorm_bwd(job *j, const yd_op *op)
{
    yd_gpu_map *x = map_at(j, op->in[0]);
    void *scratch = take(yd_gpu_gnorm_bwd_scratch(x, op->groups, j->n));
    int rc = yd_gpu_gnorm_bwd(x, floats_at(j, op->in[1]), floats_at(j, op->in[2]), floats_at(j, op->in[3]), floats_at(j, op->in[4]),
                              map_at(j, op->in[5]), op->groups, op->act, map_at(j, op->out[0]), floats_at(j, op->out[1]),
                              floats_at(j, op->out[2]), floats_at(j, op->out[3]), scratch, j->n, NULL);
    free(scratch);
    return rc;
}

// Scores, or what y's gradient says of the probabilities: [n*tokens][tokens] of dot products of c values.
static void products(const yd_gpu_map *a, int a_first, const yd_gpu_map *b, int b_first, int c, int n, float *out)
{
    const size_t t = (size_t)(a->h * a->w);
    for (size_t s = 0; s < (size_t)n; s++)
        for (size_t i = 0; i < t; i++)
            for (size_t k = 0; k < t; k++) {
                double sum = 0;
                for (int l = 0; l < c; l++)
                    sum += (double)yd_get(a->data, yd_at_pixel(a, (uint32_t)(s * t + i), a_first + l), a->dtype) *
                           (double)yd_get(b->data, yd_at_pixel(b, (uint32_t)(s * t + k), b_first + l), b->dtype);
                out[(s * t + i) * t + k] = (float)sum;
            }
}

// to[i][to_first + l] = sum over k of p[i][k] (or p[k][i]) * v[k][v_first + l]
static void weigh(const void *p, int turned, const yd_gpu_map *v, int v_first, int c, int n, const yd_gpu_map *to, int to_first)
{
    const size_t t = (size_t)(v->h * v->w);
    for (size_t s = 0; s < (size_t)n; s++)
        for (size_t i = 0; i < t; i++)
            for (int l = 0; l < c; l++) {
                double sum = 0;
                for (size_t k = 0; k < t; k++)
                    sum += (double)yd_get(p, turned ? (s * t + k) * t + i : (s * t + i) * t + k, v->dtype) *
                           (double)yd_get(v->data, yd_at_pixel(v, (uint32_t)(s * t + k), v_first + l), v->dtype);
                yd_put(to->data, yd_at_pixel(to, (uint32_t)(s * t + i), to_first + l), to->dtype, (float)sum);
            }
    for (size_t i = 0; i < (size_t)n * t; i++)
        for (int l = to->c; l < to->padded; l++) yd_put(to->data, yd_at_pixel(to, (uint32_t)i, l), to->dtype, 0.0f);
}

static int run_attention(job *j, const yd_op *op)
{
    const yd_gpu_map *qkv = map_at(j, op->in[0]);
    const int c = qkv->c / 3, t = qkv->h * qkv->w, rows = j->n * t, bwd = op->kind == YD_OP_ATTENTION_BWD;
    const float scale = 1.0f / sqrtf((float)c);
    float *scores = take((size_t)rows * (size_t)t * 4);
    void *p = take((size_t)rows * (size_t)t * 4), *ds = take((size_t)rows * (size_t)t * 4);
    products(qkv, 0, qkv, c, c, j->n, scores);
    int rc =
        yd_gpu_softmax(scores, qkv->dtype == YD_F32 ? (void *)scores : p, qkv->dtype, scale, rows, t, NULL); // in place where it may be
    const void *probabilities = qkv->dtype == YD_F32 ? (const void *)scores : p;
    if (!bwd) {
        weigh(probabilities, 0, qkv, 2 * c, c, j->n, map_at(j, op->out[0]), 0);
    } else {
        const yd_gpu_map *dy = map_at(j, op->in[1]), *dqkv = map_at(j, op->out[0]);
        float *dp = take((size_t)rows * (size_t)t * 4);
        products(dy, 0, qkv, 2 * c, c, j->n, dp);
        rc |= yd_gpu_softmax_bwd(probabilities, qkv->dtype, dp, ds, qkv->dtype, scale, rows, t, NULL);
        weigh(ds, 0, qkv, c, c, j->n, dqkv, 0);
        weigh(ds, 1, qkv, 0, c, j->n, dqkv, c);
        yd_gpu_map like = *dy; // p is of qkv's type, dy perhaps not
        float *wide = take((size_t)rows * (size_t)t * 4);
        for (size_t i = 0; i < (size_t)rows * (size_t)t; i++) yd_put(wide, i, like.dtype, yd_get(probabilities, i, qkv->dtype));
        weigh(wide, 1, &like, 0, c, j->n, dqkv, 2 * c);
        free(wide);
        free(dp);
    }
    free(scores);
    free(p);
    free(ds);
    return rc;
}

static int run_loss(job *j, const yd_op *op)
{
    yd_gpu_map *pred = map_at(j, op->in[0]);
    void *scratch = take(yd_gpu_loss_scratch(pred, j->n));
    int rc = yd_gpu_loss(pred, map_at(j, op->in[1]), floats_at(j, op->in[2]), floats_at(j, op->in[3]), op->p, floats_at(j, op->out[0]),
                         map_at(j, op->out[1]), scratch, j->n, NULL);
    free(scratch);
    return rc;
}

static int run_op(job *j, const yd_op *op)
{
    const yd_tensor *x = &j->o->g->tensors[op->in[0]], *y = &j->o->g->tensors[op->out[0] == YD_NONE ? op->out[1] : op->out[0]];
    switch (op->kind) {
    case YD_OP_CONV:
    case YD_OP_CONVT:
        return run_conv(j, op);
    case YD_OP_CONV_DW:
        return run_conv_dw(j, op);
    case YD_OP_GNORM:
        return run_gnorm(j, op);
    case YD_OP_GNORM_BWD:
        return run_gnorm_bwd(j, op);
    case YD_OP_ATTENTION:
    case YD_OP_ATTENTION_BWD:
        return run_attention(j, op);
    case YD_OP_LOSS:
        return run_loss(j, op);
    case YD_OP_LINEAR:
        return yd_gpu_linear(&(yd_gpu_linears){.v = floats_at(j, op->in[0]),
                                               .in = x->c,
                                               .n = j->n,
                                               .count = 1,
                                               .of = {{floats_at(j, op->in[1]), floats_at(j, op->in[2]), floats_at(j, op->out[0]), y->c}}},
                             NULL);
    case YD_OP_LINEAR_BWD:
        return yd_gpu_linear_bwd(floats_at(j, op->in[0]), floats_at(j, op->in[1]), floats_at(j, op->in[2]), floats_at(j, op->out[0]),
                                 floats_at(j, op->out[1]), floats_at(j, op->out[2]), x->c, j->o->g->tensors[op->in[2]].c, j->n, NULL);
    case YD_OP_SILU:
        return yd_gpu_silu(floats_at(j, op->in[0]), floats_at(j, op->out[0]), x->c, j->n, NULL);
    case YD_OP_MISH:
        return yd_gpu_mish(floats_at(j, op->in[0]), floats_at(j, op->out[0]), x->c, j->n, NULL);
    case YD_OP_SILU_BWD:
        return yd_gpu_silu_bwd(floats_at(j, op->in[0]), floats_at(j, op->in[1]), floats_at(j, op->out[0]), x->c, j->n, NULL);
    case YD_OP_EMBED:
        return yd_gpu_embed(floats_at(j, op->in[0]), floats_at(j, op->out[0]), y->c, op->scale, op->r, j->n, NULL);
    case YD_OP_CONCAT:
        return yd_gpu_concat(map_at(j, op->in[0]), map_at(j, op->in[1]), map_at(j, op->out[0]), j->n, NULL);
    case YD_OP_SPLIT:
        return yd_gpu_split(map_at(j, op->in[0]), map_at(j, op->out[0]), map_at(j, op->out[1]), j->n, NULL);
    case YD_OP_ADD:
        return yd_gpu_axpy(1.0f, map_at(j, op->in[0]), map_at(j, op->in[1]), map_at(j, op->out[0]), j->n, NULL);
    case YD_OP_AXPY:
        return yd_gpu_axpy(op->scale, map_at(j, op->in[0]), map_at(j, op->in[1]), map_at(j, op->out[0]), j->n, NULL);
    case YD_OP_UPSAMPLE:
        return yd_gpu_upsample(map_at(j, op->in[0]), map_at(j, op->out[0]), j->n, NULL);
    case YD_OP_UPSAMPLE_BWD:
        return yd_gpu_upsample_bwd(map_at(j, op->in[0]), map_at(j, op->out[0]), j->n, NULL);
    case YD_OP_UNSHUFFLE:
        return yd_gpu_unshuffle(map_at(j, op->in[0]), map_at(j, op->out[0]), op->r, j->n, NULL);
    case YD_OP_SHUFFLE:
        return yd_gpu_shuffle(map_at(j, op->in[0]), map_at(j, op->out[0]), op->r, j->n, NULL);
    default:
        return -1;
    }
}

// --- a case

// What a job made of tensor t, as doubles without gaps; the caller frees.
static double *made(const job *j, yd_tid t, size_t *count)
{
    const place *p = &j->at[t];
    const size_t pixels = p->is_map ? (size_t)j->n * (size_t)(p->m.h * p->m.w) : 0;
    *count = p->is_map ? pixels * (size_t)p->m.c : p->count;
    double *v = malloc(*count * sizeof *v);
    for (size_t i = 0; i < *count; i++)
        v[i] = p->is_map ? (double)yd_get(p->m.data, i / (size_t)p->m.c * (size_t)p->m.pitch + i % (size_t)p->m.c, p->m.dtype)
                         : (double)p->v[i];
    return v;
}

static double worst(const double *a, const double *b, size_t n)
{
    double d = 0, m = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = fabs(a[i] - b[i]);
        if (!(x <= d)) d = x;
        if (fabs(b[i]) > m) m = fabs(b[i]);
    }
    return m > 0 ? d / m : d;
}

// Samples first.. of the case again: with threads the other way round, their outputs have the same bits.
static void same_bits(const oracle *o, const layout *lay, const job *all, int first, int n, const char *label)
{
    const yd_op *op = &o->g->ops[0];
    job j = {.o = o, .lay = lay, .first = first, .n = n};
    yd_host_order = 1;
    CHECK_MSG(run_op(&j, op) == 0, "%s", label);
    yd_host_order = 0;
    for (int k = 0; k < YD_OP_MAX_OUT; k++) {
        const yd_tid t = op->out[k];
        if (t == YD_NONE || (n < o->n && !is_per_sample(&o->g->tensors[t]))) continue;
        size_t count, whole;
        double *part = made(&j, t, &count), *of = made(all, t, &whole);
        const size_t from = is_per_sample(&o->g->tensors[t]) ? (size_t)first * (whole / (size_t)o->n) : 0;
        CHECK_MSG(memcmp(part, of + from, count * sizeof *part) == 0, "%s, %s: samples %d to %d alone", label, lay->name, first,
                  first + n - 1);
        free(part);
        free(of);
    }
    job_clear(&j);
}

static void run_case(const spec *s, const layout *lay)
{
    const char *label = one_op_label(s);
    yd_graph *g = one_op_graph(s);
    CHECK_MSG(!g->failed && g->n_tensors <= 16, "%s", label);
    oracle *o = one_op_oracle(g, s);
    oracle_run(o, 0);
    job j = {.o = o, .lay = lay, .n = s->n};
    const int rc = run_op(&j, &g->ops[0]);
    CHECK_MSG(rc == 0, "%s, %s: %d", label, lay->name, rc);
    for (int k = 0; k < YD_OP_MAX_OUT && !rc; k++) {
        const yd_tid t = g->ops[0].out[k];
        if (t == YD_NONE) continue;
        size_t count;
        double *v = made(&j, t, &count);
        const double d = worst(v, o->t[t], count), limit = s->dt == YD_BF16 || s->out_dt == YD_BF16 ? 8e-3 : 2e-5;
        CHECK_MSG(d <= limit, "%s, %s: %s is %.2g off", label, lay->name, g->tensors[t].name, d);
        CHECK_MSG(!j.at[t].is_map || in_bounds(&j.at[t]), "%s, %s: %s", label, lay->name, g->tensors[t].name);
        free(v);
    }
    if (!rc) same_bits(o, lay, &j, 0, s->n, label);
    for (int i = 0; i < s->n && !rc && s->n > 1; i += s->n > 4 ? 3 : 1) same_bits(o, lay, &j, i, 1, label);
    job_clear(&j);
    oracle_free(o);
    yd_graph_free(g);
}

static void run_types(const spec *s, const layout *lay)
{
    static const yd_dtype types[][2] = {{YD_F32, YD_F32}, {YD_BF16, YD_BF16}, {YD_BF16, YD_F32}};
    for (size_t t = 0; t < 3; t++) {
        const spec typed = one_op_with_types(*s, types[t][0], types[t][1]);
        run_case(&typed, lay);
    }
}

// Convolutions and products are not what is tested here: of large ones there are enough small ones. A case's layouts, 0 to leave it out.
static size_t layouts_of(const spec *s)
{
    const double out = s->kind == YD_OP_CONVT ? (double)s->stride * s->stride : s->kind == YD_OP_CONV ? 1 : 0;
    const double conv = out * s->n * s->h * s->w * s->c * s->o * s->k * s->k, tokens = s->kind == YD_OP_ATTENTION ? s->h * s->w : 0;
    return conv > 2e6 ? 0 : tokens > 1000 ? 1 : sizeof layouts / sizeof *layouts;
}

static void table_of(int kind)
{
    size_t n;
    const spec *specs = one_op_table(&n);
    int cases = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; (int)specs[i].kind == kind && l < layouts_of(&specs[i]); l++, cases++) run_types(&specs[i], &layouts[l]);
    CHECK(cases > 0);
}

#define TABLE(NAME)                                                                                                                        \
    static void table_##NAME(void)                                                                                                         \
    {                                                                                                                                      \
        if (YD_OP_##NAME != YD_OP_CONV_DX) table_of(YD_OP_##NAME); /* that is one convolution and nothing else */                          \
    }
YD_OPS(TABLE)

// Shapes beyond the table: maps for several blocks, channels for several tiles, wide groups, batches up to 33.
#define S(KIND, N, H, W, C, ...)                                                                                                           \
    {                                                                                                                                      \
        .kind = KIND, .n = N, .h = H, .w = W, .c = C, __VA_ARGS__                                                                          \
    }
static const spec large[] = {
    S(YD_OP_GNORM, 33, 3, 5, 8, .groups = 4, .act = 1, .v = 1),
    S(YD_OP_GNORM, 2, 65, 33, 40, .groups = 5, .act = 1, .v = 1),
    S(YD_OP_GNORM, 2, 33, 32, 520, .groups = 13, .act = 1, .v = 1),
    S(YD_OP_GNORM, 1, 34, 34, 300, .groups = 2),
    S(YD_OP_GNORM, 1, 203, 150, 8, .groups = 2, .act = 1),
    S(YD_OP_GNORM, 3, 32, 32, 32, .groups = 32, .act = 1, .v = 1),
    S(YD_OP_GNORM, 1, 8, 8, 1032, .groups = 3, .v = 1),
    S(YD_OP_GNORM, 2, 4, 4, 1024, .groups = 32, .act = 1),
    S(YD_OP_GNORM_BWD, 33, 3, 5, 8, .groups = 4, .act = 1, .v = 1),
    S(YD_OP_GNORM_BWD, 2, 65, 33, 40, .groups = 5, .act = 1, .v = 1),
    S(YD_OP_GNORM_BWD, 2, 12, 11, 520, .groups = 13, .act = 1, .v = 1),
    S(YD_OP_GNORM_BWD, 1, 34, 34, 300, .groups = 2),
    S(YD_OP_CONV_DW, 33, 3, 2, 3, .o = 24, .k = 1, .stride = 1, .b = 1),
    S(YD_OP_CONV_DW, 2, 40, 37, 2, .o = 264, .k = 1, .stride = 1, .b = 1),
    S(YD_OP_LINEAR, 33, 1, 1, 100, .o = 20, .b = 1),
    S(YD_OP_LINEAR_BWD, 33, 1, 1, 100, .o = 20, .b = 1),
    S(YD_OP_LINEAR, 9, 1, 1, 1, .o = 1),
    S(YD_OP_LOSS, 2, 70, 40, 3, .p = 1),
    S(YD_OP_LOSS, 33, 5, 7, 3, .p = 2),
    S(YD_OP_CONCAT, 2, 9, 7, 24, .o = 40),
    S(YD_OP_SPLIT, 2, 9, 7, 24, .o = 40),
    S(YD_OP_SPLIT, 33, 2, 3, 5, .o = 8),
    S(YD_OP_UPSAMPLE, 33, 3, 1, 16),
    S(YD_OP_UNSHUFFLE, 2, 12, 8, 8, .r = 4),
    S(YD_OP_SHUFFLE, 2, 5, 3, 64, .r = 2),
    S(YD_OP_UNSHUFFLE, 2, 9, 6, 5, .r = 3),
};

static void larger_shapes(void)
{
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++) run_types(&large[i], &layouts[l]);
}

#define CASE(NAME) {#NAME, table_##NAME},
static const t_case cases[] = {YD_OPS(CASE){"larger shapes", larger_shapes}};

int main(int argc, char **argv)
{
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
