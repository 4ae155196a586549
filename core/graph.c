// Building and checking graphs: every builder call works out the shape of what it makes and refuses what cannot be computed.
//
// Owns: the arrays inside yd_graph. Knows nothing of devices or batch sizes. The first failure is kept in g->err and turns all
// later calls into no-ops, so that builders read as straight lines and check once, at yd_graph_finish().
// Read next: core/net_unet.c (a builder), core/autodiff.c (the backward half), core/cpu/plan.c (a compiler).
#include "core/graph.h"
#include "core/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const op_names[] = {
#define YD_OP_NAME(name) #name,
    YD_OPS(YD_OP_NAME)
#undef YD_OP_NAME
};

const char *yd_op_name(yd_op_kind k)
{
    return op_names[k];
}

size_t yd_dtype_bytes(yd_dtype dt)
{
    return dt == YD_BF16 ? 2 : 4;
}

size_t yd_tensor_numel(const yd_tensor *t)
{
    if (t->kind != YD_T_PARAM && t->kind != YD_T_PGRAD) return (size_t)t->h * (size_t)t->w * (size_t)t->c;
    size_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= (size_t)t->dims[i];
    return n;
}

yd_graph *yd_graph_new(void)
{
    return yd_calloc(1, sizeof(yd_graph));
}

void yd_graph_free(yd_graph *g)
{
    if (!g) return;
    yd_free(g->tensors);
    yd_free(g->ops);
    yd_free(g->params);
    yd_free(g);
}

__attribute__((format(printf, 3, 4))) static yd_tid fail(yd_graph *g, int code, const char *fmt, ...)
{
    if (g->failed) return YD_NONE;
    g->failed = 1;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    yd_fail(&g->err, code, "%s", text);
    return YD_NONE;
}

// Make room for one more element of `size` bytes in *arr.
static int grow(void **arr, int count, int *cap, size_t size)
{
    if (count < *cap) return 0;
    int n = *cap ? *cap * 2 : 64;
    void *p = yd_realloc(*arr, (size_t)n * size);
    if (!p) return -1;
    *arr = p;
    *cap = n;
    return 0;
}

yd_tid yd_graph_tensor(yd_graph *g, const char *name, yd_tensor_kind kind, yd_dtype dt, int h, int w, int c)
{
    if (g->failed) return YD_NONE;
    if (h < 1 || w < 1 || c < 1 || h > 65536 || w > 65536 || c > 65536)
        return fail(g, YD_E_CHECKPOINT, "tensor %s: its shape would be %dx%dx%d (h x w x c), 1 to 65536 are possible", name, h, w, c);
    void *arr = g->tensors;
    if (grow(&arr, g->n_tensors, &g->cap_tensors, sizeof(yd_tensor))) return fail(g, YD_E_NOMEM, "no memory for a network graph");
    g->tensors = arr;
    yd_tensor *t = &g->tensors[g->n_tensors];
    *t = (yd_tensor){.kind = kind, .dtype = dt, .h = h, .w = w, .c = c, .param = -1};
    snprintf(t->name, sizeof t->name, "%s", name);
    return g->n_tensors++;
}

yd_op *yd_graph_op(yd_graph *g, yd_op_kind kind)
{
    if (g->failed) return NULL;
    void *arr = g->ops;
    if (grow(&arr, g->n_ops, &g->cap_ops, sizeof(yd_op))) {
        fail(g, YD_E_NOMEM, "no memory for a network graph");
        return NULL;
    }
    g->ops = arr;
    yd_op *op = &g->ops[g->n_ops++];
    memset(op, 0, sizeof *op);
    op->kind = kind;
    for (int i = 0; i < YD_OP_MAX_IN; i++) op->in[i] = YD_NONE;
    for (int i = 0; i < YD_OP_MAX_OUT; i++) op->out[i] = YD_NONE;
    return op;
}

yd_tid yd_graph_input(yd_graph *g, const char *name, int h, int w, int c, yd_dtype dt)
{
    return yd_graph_tensor(g, name, YD_T_INPUT, dt, h, w, c);
}

yd_tid yd_graph_param(yd_graph *g, const char *name, int ndim, const int dims[4])
{
    for (int i = 0; i < ndim; i++)
        if (dims[i] < 1 || dims[i] > 65536) return fail(g, YD_E_CHECKPOINT, "parameter %s: its dimension %d would be %d, 1 to 65536 are possible", name, i, dims[i]);
    yd_tid id = yd_graph_tensor(g, name, YD_T_PARAM, YD_F32, 1, 1, 1);
    if (id < 0) return YD_NONE;
    int cap = g->n_params;
    // params grows one by one only in powers of two: the capacity is the next power of two of the count
    if ((cap & (cap - 1)) == 0) {
        yd_tid *p = yd_realloc(g->params, (size_t)(cap ? cap * 2 : 1) * sizeof *p);
        if (!p) return fail(g, YD_E_NOMEM, "no memory for a network graph");
        g->params = p;
    }
    yd_tensor *t = &g->tensors[id];
    t->ndim = ndim;
    for (int i = 0; i < ndim; i++) t->dims[i] = dims[i];
    t->param = g->n_params;
    g->params[g->n_params++] = id;
    return id;
}

static const yd_tensor *T(const yd_graph *g, yd_tid t)
{
    return &g->tensors[t];
}

static int is_vector(const yd_tensor *t)
{
    return t->h == 1 && t->w == 1;
}

static int same_shape(const yd_tensor *a, const yd_tensor *b)
{
    return a->h == b->h && a->w == b->w && a->c == b->c;
}

yd_tid yd_graph_conv(yd_graph *g, const char *name, yd_tid x, yd_tid w, yd_tid b, yd_tid res, int stride, int pad)
{
    return yd_graph_conv_mode(g, name, x, w, b, res, stride, pad, NULL);
}

// What a convolution has beyond the plain one, put into its operator.
static int set_mode(yd_graph *g, const char *name, const yd_tensor *x, const yd_conv_mode *mode, yd_op *op)
{
    if (mode->reflect && (op->pad >= x->h || op->pad >= x->w))
        return fail(g, YD_E_INTERNAL, "convolution %s: %dx%d pixels have no mirror image of %d", name, x->w, x->h, op->pad);
    if (mode->v >= 0 && (!is_vector(T(g, mode->v)) || T(g, mode->v)->c != T(g, op->out[0])->c))
        return fail(g, YD_E_INTERNAL, "convolution %s: the vector to add does not have %d channels", name, T(g, op->out[0])->c);
    op->reflect = mode->reflect;
    op->act = (int)mode->act;
    op->scale = mode->slope;
    op->in[4] = mode->v;
    return op->out[0];
}

yd_tid yd_graph_conv_mode(yd_graph *g, const char *name, yd_tid x, yd_tid w, yd_tid b, yd_tid res, int stride, int pad,
                          const yd_conv_mode *mode)
{
    if (g->failed || x < 0 || w < 0) return YD_NONE;
    const yd_tensor tx = *T(g, x), tw = *T(g, w);
    const int k = tw.dims[2];
    if (tw.ndim != 4 || tw.dims[3] != k || tw.dims[1] != tx.c)
        return fail(g, YD_E_CHECKPOINT, "convolution %s: weight [%d,%d,%d,%d] does not fit %d input channels", name, tw.dims[0], tw.dims[1],
                    tw.dims[2], tw.dims[3], tx.c);
    if (b >= 0 && (T(g, b)->ndim != 1 || T(g, b)->dims[0] != tw.dims[0]))
        return fail(g, YD_E_CHECKPOINT, "convolution %s: bias does not have %d elements", name, tw.dims[0]);
    const int h = (tx.h + 2 * pad - k) / stride + 1, wd = (tx.w + 2 * pad - k) / stride + 1;
    yd_tid y = yd_graph_tensor(g, name, YD_T_ACT, tx.dtype, h, wd, tw.dims[0]);
    yd_op *op = yd_graph_op(g, YD_OP_CONV);
    if (!op || y < 0) return YD_NONE;
    if (res >= 0 && !same_shape(T(g, res), T(g, y))) return fail(g, YD_E_INTERNAL, "convolution %s: residual has another shape", name);
    op->in[0] = x, op->in[1] = w, op->in[2] = b, op->in[3] = res;
    op->out[0] = y;
    op->k = k, op->stride = stride, op->pad = pad;
    return mode ? set_mode(g, name, &tx, mode, op) : y;
}

yd_tid yd_graph_convt(yd_graph *g, const char *name, yd_tid x, yd_tid w, yd_tid b, int stride, int pad)
{
    if (g->failed || x < 0 || w < 0) return YD_NONE;
    const yd_tensor tx = *T(g, x), tw = *T(g, w);
    const int k = tw.dims[2];
    if (tw.ndim != 4 || tw.dims[3] != k || tw.dims[0] != tx.c)
        return fail(g, YD_E_CHECKPOINT, "transposed convolution %s: weight [%d,%d,%d,%d] does not fit %d input channels", name, tw.dims[0],
                    tw.dims[1], tw.dims[2], tw.dims[3], tx.c);
    if (b >= 0 && (T(g, b)->ndim != 1 || T(g, b)->dims[0] != tw.dims[1]))
        return fail(g, YD_E_CHECKPOINT, "transposed convolution %s: bias does not have %d elements", name, tw.dims[1]);
    yd_tid y = yd_graph_tensor(g, name, YD_T_ACT, tx.dtype, (tx.h - 1) * stride + k - 2 * pad, (tx.w - 1) * stride + k - 2 * pad, tw.dims[1]);
    yd_op *op = yd_graph_op(g, YD_OP_CONVT);
    if (!op || y < 0) return YD_NONE;
    op->in[0] = x, op->in[1] = w, op->in[2] = b;
    op->out[0] = y;
    op->k = k, op->stride = stride, op->pad = pad;
    return y;
}

yd_tid yd_graph_gnorm(yd_graph *g, const char *name, yd_tid x, yd_tid v, yd_tid gamma, yd_tid beta, int groups, float eps, int silu)
{
    if (g->failed || x < 0 || gamma < 0 || beta < 0) return YD_NONE;
    const yd_tensor tx = *T(g, x);
    if (groups < 1 || tx.c % groups)
        return fail(g, YD_E_CHECKPOINT, "normalisation %s: %d channels cannot be split into %d groups", name, tx.c, groups);
    if (T(g, gamma)->dims[0] != tx.c || T(g, beta)->dims[0] != tx.c)
        return fail(g, YD_E_CHECKPOINT, "normalisation %s: weight or bias does not have %d elements", name, tx.c);
    if (v >= 0 && (!is_vector(T(g, v)) || T(g, v)->c != tx.c))
        return fail(g, YD_E_INTERNAL, "normalisation %s: embedding does not have %d channels", name, tx.c);
    yd_tid y = yd_graph_tensor(g, name, YD_T_ACT, tx.dtype, tx.h, tx.w, tx.c);
    yd_op *op = yd_graph_op(g, YD_OP_GNORM);
    if (!op) return YD_NONE;
    op->in[0] = x, op->in[1] = v, op->in[2] = gamma, op->in[3] = beta;
    op->out[0] = y;
    op->groups = groups, op->eps = eps, op->act = silu;
    return y;
}

yd_tid yd_graph_linear(yd_graph *g, const char *name, yd_tid v, yd_tid w, yd_tid b)
{
    if (g->failed || v < 0 || w < 0) return YD_NONE;
    const yd_tensor tv = *T(g, v), tw = *T(g, w);
    if (!is_vector(&tv) || tw.ndim != 2 || tw.dims[1] != tv.c)
        return fail(g, YD_E_CHECKPOINT, "linear %s: weight [%d,%d] does not fit %d inputs", name, tw.dims[0], tw.dims[1], tv.c);
    if (b >= 0 && T(g, b)->dims[0] != tw.dims[0]) return fail(g, YD_E_CHECKPOINT, "linear %s: bias does not have %d elements", name, tw.dims[0]);
    yd_tid y = yd_graph_tensor(g, name, YD_T_ACT, YD_F32, 1, 1, tw.dims[0]);
    yd_op *op = yd_graph_op(g, YD_OP_LINEAR);
    if (!op) return YD_NONE;
    op->in[0] = v, op->in[1] = w, op->in[2] = b;
    op->out[0] = y;
    return y;
}

// Operators with one map or vector in and one out, whose shape the caller gives.
static yd_tid unary(yd_graph *g, yd_op_kind kind, const char *name, yd_tid x, yd_dtype dt, int h, int w, int c, int r, float scale)
{
    yd_tid y = yd_graph_tensor(g, name, YD_T_ACT, dt, h, w, c);
    yd_op *op = yd_graph_op(g, kind);
    if (!op) return YD_NONE;
    op->in[0] = x;
    op->out[0] = y;
    op->r = r;
    op->scale = scale;
    return y;
}

yd_tid yd_graph_silu(yd_graph *g, const char *name, yd_tid v)
{
    if (g->failed || v < 0) return YD_NONE;
    if (!is_vector(T(g, v))) return fail(g, YD_E_INTERNAL, "silu %s: takes vectors", name);
    return unary(g, YD_OP_SILU, name, v, YD_F32, 1, 1, T(g, v)->c, 0, 0);
}

yd_tid yd_graph_mish(yd_graph *g, const char *name, yd_tid v)
{
    if (g->failed || v < 0) return YD_NONE;
    if (!is_vector(T(g, v))) return fail(g, YD_E_INTERNAL, "mish %s: takes vectors", name);
    return unary(g, YD_OP_MISH, name, v, YD_F32, 1, 1, T(g, v)->c, 0, 0);
}

yd_tid yd_graph_embed(yd_graph *g, const char *name, yd_tid s, int c, float scale, int r)
{
    if (g->failed || s < 0) return YD_NONE;
    if (T(g, s)->c != 1 || !is_vector(T(g, s)) || c < 2 + 2 * r || c % 2) return fail(g, YD_E_CHECKPOINT, "embedding %s: width %d is not even", name, c);
    return unary(g, YD_OP_EMBED, name, s, YD_F32, 1, 1, c, r, scale);
}

yd_tid yd_graph_upsample(yd_graph *g, const char *name, yd_tid x)
{
    if (g->failed || x < 0) return YD_NONE;
    const yd_tensor t = *T(g, x);
    return unary(g, YD_OP_UPSAMPLE, name, x, t.dtype, t.h * 2, t.w * 2, t.c, 0, 0);
}

yd_tid yd_graph_unshuffle(yd_graph *g, const char *name, yd_tid x, int r)
{
    if (g->failed || x < 0) return YD_NONE;
    const yd_tensor t = *T(g, x);
    if (r < 1 || t.h % r || t.w % r) return fail(g, YD_E_INTERNAL, "unshuffle %s: %dx%d is not a multiple of %d", name, t.w, t.h, r);
    return unary(g, YD_OP_UNSHUFFLE, name, x, t.dtype, t.h / r, t.w / r, t.c * r * r, r, 0);
}

yd_tid yd_graph_shuffle(yd_graph *g, const char *name, yd_tid x, int r)
{
    if (g->failed || x < 0) return YD_NONE;
    const yd_tensor t = *T(g, x);
    if (r < 1 || t.c % (r * r)) return fail(g, YD_E_INTERNAL, "shuffle %s: %d channels are not a multiple of %d", name, t.c, r * r);
    return unary(g, YD_OP_SHUFFLE, name, x, t.dtype, t.h * r, t.w * r, t.c / (r * r), r, 0);
}

yd_tid yd_graph_attention(yd_graph *g, const char *name, yd_tid qkv)
{
    if (g->failed || qkv < 0) return YD_NONE;
    const yd_tensor t = *T(g, qkv);
    if (t.c % 3) return fail(g, YD_E_INTERNAL, "attention %s: %d channels are not a multiple of 3", name, t.c);
    return unary(g, YD_OP_ATTENTION, name, qkv, t.dtype, t.h, t.w, t.c / 3, 0, 0);
}

static yd_tid binary(yd_graph *g, yd_op_kind kind, const char *name, yd_tid a, yd_tid b, int c)
{
    const yd_tensor t = *T(g, a);
    yd_tid y = yd_graph_tensor(g, name, YD_T_ACT, t.dtype, t.h, t.w, c);
    yd_op *op = yd_graph_op(g, kind);
    if (!op) return YD_NONE;
    op->in[0] = a, op->in[1] = b;
    op->out[0] = y;
    return y;
}

yd_tid yd_graph_concat(yd_graph *g, const char *name, yd_tid a, yd_tid b)
{
    if (g->failed || a < 0 || b < 0) return YD_NONE;
    if (T(g, a)->h != T(g, b)->h || T(g, a)->w != T(g, b)->w) return fail(g, YD_E_INTERNAL, "concat %s: sizes differ", name);
    return binary(g, YD_OP_CONCAT, name, a, b, T(g, a)->c + T(g, b)->c);
}

yd_tid yd_graph_add(yd_graph *g, const char *name, yd_tid a, yd_tid b)
{
    if (g->failed || a < 0 || b < 0) return YD_NONE;
    if (!same_shape(T(g, a), T(g, b))) return fail(g, YD_E_INTERNAL, "add %s: shapes differ", name);
    return binary(g, YD_OP_ADD, name, a, b, T(g, a)->c);
}

yd_tid yd_graph_axpy(yd_graph *g, const char *name, float scale, yd_tid a, yd_tid b)
{
    if (g->failed || a < 0 || b < 0) return YD_NONE;
    if (!same_shape(T(g, a), T(g, b))) return fail(g, YD_E_INTERNAL, "axpy %s: shapes differ", name);
    yd_tid y = binary(g, YD_OP_AXPY, name, a, b, T(g, a)->c);
    if (y >= 0) g->ops[g->n_ops - 1].scale = scale;
    return y;
}

void yd_graph_output(yd_graph *g, yd_tid t)
{
    if (g->failed || t < 0) return;
    g->tensors[t].kind = YD_T_OUTPUT;
    g->tensors[t].dtype = YD_F32;
}

yd_tid yd_graph_find(const yd_graph *g, const char *name)
{
    for (int i = 0; i < g->n_tensors; i++)
        if (strcmp(g->tensors[i].name, name) == 0) return i;
    return YD_NONE;
}

// Every tensor that is read was written before, and nothing is written twice.
static int check_order(const yd_graph *g, char *written, yd_err *err)
{
    for (int i = 0; i < g->n_tensors; i++) written[i] = g->tensors[i].kind == YD_T_INPUT || g->tensors[i].kind == YD_T_PARAM;
    for (int i = 0; i < g->n_ops; i++) {
        const yd_op *op = &g->ops[i];
        for (int k = 0; k < YD_OP_MAX_IN; k++)
            if (op->in[k] >= 0 && !written[op->in[k]])
                return yd_fail(err, YD_E_INTERNAL, "operator %d (%s) reads %s before it is written", i, yd_op_name(op->kind),
                               g->tensors[op->in[k]].name);
        for (int k = 0; k < YD_OP_MAX_OUT; k++) {
            if (op->out[k] < 0) continue;
            if (written[op->out[k]])
                return yd_fail(err, YD_E_INTERNAL, "operator %d (%s) writes %s a second time", i, yd_op_name(op->kind),
                               g->tensors[op->out[k]].name);
            written[op->out[k]] = 1;
        }
    }
    return 0;
}

int yd_graph_finish(yd_graph *g, yd_err *err)
{
    if (g->failed) {
        if (err) *err = g->err;
        return g->err.code;
    }
    char *written = yd_calloc((size_t)g->n_tensors + 1, 1);
    if (!written) return yd_fail(err, YD_E_NOMEM, "no memory to check a network graph");
    int rc = check_order(g, written, err);
    yd_free(written);
    return rc;
}

static double conv_flops(const yd_tensor *map, const yd_tensor *w)
{
    return 2.0 * map->h * map->w * (double)yd_tensor_numel(w);
}

double yd_op_flops(const yd_graph *g, const yd_op *op)
{
    switch (op->kind) {
    case YD_OP_CONV:
        return conv_flops(T(g, op->out[0]), T(g, op->in[1]));
    case YD_OP_CONVT:
    case YD_OP_CONV_DX:
        return conv_flops(T(g, op->in[0]), T(g, op->in[1]));
    case YD_OP_CONV_DW:
        return conv_flops(T(g, op->in[1]), T(g, op->out[0]));
    case YD_OP_LINEAR:
        return 2.0 * (double)yd_tensor_numel(T(g, op->in[1]));
    case YD_OP_LINEAR_BWD:
        return 4.0 * (double)yd_tensor_numel(T(g, op->in[1]));
    case YD_OP_ATTENTION:
    case YD_OP_ATTENTION_BWD: {
        const yd_tensor *q = T(g, op->in[0]);
        const double tokens = (double)q->h * q->w;
        return (op->kind == YD_OP_ATTENTION ? 4.0 : 10.0) * tokens * tokens * (q->c / 3);
    }
    default:
        return 0;
    }
}

double yd_graph_flops(const yd_graph *g)
{
    double sum = 0;
    for (int i = 0; i < g->n_ops; i++) sum += yd_op_flops(g, &g->ops[i]);
    return sum;
}
