// Reverse-mode differentiation of a graph: walks the forward operators backwards and appends the operators of YD_OPS' second half.
//
// Gradients of feature maps are stored in the type of the maps (the first convolution's input tells which), gradients of vectors
// and parameters in f32. A tensor read by several operators gets its gradients joined by ADD in the order of the walk, so the
// training graph is deterministic. Only what leads to a parameter is differentiated.
// Owns nothing beyond the call. Read next: core/train/trainer.c.
#include "core/graph.h"
#include "core/mem.h"

#include <stdio.h>
#include <string.h>

typedef struct walk {
    yd_graph *g;
    yd_dtype map_dtype; // of gradients of feature maps
    int n_forward;      // operators before the backward half
    int n_tensors;      // tensors before it
    char *needs;        // [n_tensors] depends on a parameter
    yd_tid *grad;       // [n_tensors] gradient so far
} walk;

static yd_tid grad_like(walk *k, yd_tid t, const char *prefix)
{
    const yd_tensor src = k->g->tensors[t];
    char name[sizeof src.name];
    snprintf(name, sizeof name, "%s%.*s", prefix, (int)(sizeof name - 8), src.name);
    if (src.kind == YD_T_PARAM) {
        yd_tid id = yd_graph_tensor(k->g, name, YD_T_PGRAD, YD_F32, 1, 1, 1);
        if (id < 0) return YD_NONE;
        yd_tensor *p = &k->g->tensors[id];
        p->ndim = src.ndim;
        memcpy(p->dims, src.dims, sizeof p->dims);
        p->param = src.param;
        return id;
    }
    int vector = src.h == 1 && src.w == 1;
    return yd_graph_tensor(k->g, name, YD_T_ACT, vector ? YD_F32 : k->map_dtype, src.h, src.w, src.c);
}

// Gradient tensor for t if anything upstream wants one.
static yd_tid want(walk *k, yd_tid t)
{
    return t >= 0 && k->needs[t] ? grad_like(k, t, "d.") : YD_NONE;
}

// d is one more contribution to t's gradient.
static void contribute(walk *k, yd_tid t, yd_tid d)
{
    if (t < 0 || d < 0 || !k->needs[t]) return;
    if (k->grad[t] < 0) {
        k->grad[t] = d;
        return;
    }
    yd_tid sum = grad_like(k, t, "d+");
    yd_op *op = yd_graph_op(k->g, YD_OP_ADD);
    if (!op) return;
    op->in[0] = k->grad[t], op->in[1] = d;
    op->out[0] = sum;
    k->grad[t] = sum;
}

static void back_conv(walk *k, const yd_op *f, yd_tid dy)
{
    yd_tid dw = grad_like(k, f->in[1], "g."), db = f->in[2] >= 0 ? grad_like(k, f->in[2], "g.") : YD_NONE;
    yd_op *op = yd_graph_op(k->g, YD_OP_CONV_DW);
    if (!op) return;
    op->in[0] = f->in[0], op->in[1] = dy;
    op->out[0] = dw, op->out[1] = db;
    op->k = f->k, op->stride = f->stride, op->pad = f->pad;
    yd_tid dx = want(k, f->in[0]);
    if (dx >= 0) {
        op = yd_graph_op(k->g, YD_OP_CONV_DX);
        if (!op) return;
        op->in[0] = dy, op->in[1] = f->in[1];
        op->out[0] = dx;
        op->k = f->k, op->stride = f->stride, op->pad = f->pad;
        contribute(k, f->in[0], dx);
    }
    contribute(k, f->in[3], dy); // the residual's gradient is dy itself
}

static void back_gnorm(walk *k, int index, yd_tid dy)
{
    const yd_op f = k->g->ops[index];
    char name[sizeof k->g->tensors->name];
    snprintf(name, sizeof name, "stats.%.*s", (int)(sizeof name - 8), k->g->tensors[f.out[0]].name);
    yd_tid stats = yd_graph_tensor(k->g, name, YD_T_ACT, YD_F32, 1, 1, 2 * f.groups);
    k->g->ops[index].out[1] = stats;
    yd_tid dx = grad_like(k, f.in[0], "d."), dv = want(k, f.in[1]);
    yd_tid dgamma = grad_like(k, f.in[2], "g."), dbeta = grad_like(k, f.in[3], "g.");
    yd_op *op = yd_graph_op(k->g, YD_OP_GNORM_BWD);
    if (!op) return;
    for (int i = 0; i < 4; i++) op->in[i] = f.in[i];
    op->in[4] = stats, op->in[5] = dy;
    op->out[0] = dx, op->out[1] = dv, op->out[2] = dgamma, op->out[3] = dbeta;
    op->groups = f.groups, op->eps = f.eps, op->act = f.act;
    contribute(k, f.in[0], dx);
    contribute(k, f.in[1], dv);
}

static void back_linear(walk *k, const yd_op *f, yd_tid dy)
{
    yd_tid dv = want(k, f->in[0]), dw = grad_like(k, f->in[1], "g."), db = f->in[2] >= 0 ? grad_like(k, f->in[2], "g.") : YD_NONE;
    yd_op *op = yd_graph_op(k->g, YD_OP_LINEAR_BWD);
    if (!op) return;
    op->in[0] = f->in[0], op->in[1] = f->in[1], op->in[2] = dy;
    op->out[0] = dv, op->out[1] = dw, op->out[2] = db;
    contribute(k, f->in[0], dv);
}

// Operators whose gradient needs dy and at most the forward input, and yields one tensor.
static void back_unary(walk *k, const yd_op *f, yd_op_kind kind, yd_tid dy, int with_input)
{
    yd_tid dx = want(k, f->in[0]);
    if (dx < 0) return;
    yd_op *op = yd_graph_op(k->g, kind);
    if (!op) return;
    if (with_input) op->in[0] = f->in[0], op->in[1] = dy;
    else op->in[0] = dy;
    op->out[0] = dx;
    op->r = f->r;
    contribute(k, f->in[0], dx);
}

static void back_concat(walk *k, const yd_op *f, yd_tid dy)
{
    // SPLIT always writes both halves, so both tensors must exist
    yd_tid da = grad_like(k, f->in[0], "d."), db = grad_like(k, f->in[1], "d.");
    yd_op *op = yd_graph_op(k->g, YD_OP_SPLIT);
    if (!op) return;
    op->in[0] = dy;
    op->out[0] = da, op->out[1] = db;
    contribute(k, f->in[0], da);
    contribute(k, f->in[1], db);
}

static void back(walk *k, int index)
{
    const yd_op f = k->g->ops[index]; // a copy: appending moves the array
    if (f.out[0] < 0 || f.out[0] >= k->n_tensors) return;
    yd_tid dy = k->grad[f.out[0]];
    if (dy < 0) return;
    switch (f.kind) {
    case YD_OP_CONV: back_conv(k, &f, dy); break;
    case YD_OP_GNORM: back_gnorm(k, index, dy); break;
    case YD_OP_LINEAR: back_linear(k, &f, dy); break;
    case YD_OP_SILU: back_unary(k, &f, YD_OP_SILU_BWD, dy, 1); break;
    case YD_OP_ATTENTION: back_unary(k, &f, YD_OP_ATTENTION_BWD, dy, 1); break;
    case YD_OP_UPSAMPLE: back_unary(k, &f, YD_OP_UPSAMPLE_BWD, dy, 0); break;
    case YD_OP_UNSHUFFLE: back_unary(k, &f, YD_OP_SHUFFLE, dy, 0); break;
    case YD_OP_SHUFFLE: back_unary(k, &f, YD_OP_UNSHUFFLE, dy, 0); break;
    case YD_OP_CONCAT: back_concat(k, &f, dy); break;
    case YD_OP_ADD:
        contribute(k, f.in[0], dy);
        contribute(k, f.in[1], dy);
        break;
    default: break; // EMBED reads only inputs
    }
}

// Operators that networks are run with, not trained.
static int has_gradient(const yd_op *op)
{
    if (op->kind == YD_OP_CONV) return !op->reflect && op->act == YD_ACT_NONE && op->in[4] < 0;
    return op->kind != YD_OP_CONVT && op->kind != YD_OP_MISH && op->kind != YD_OP_AXPY;
}

static int all_have_gradients(yd_graph *g)
{
    for (int i = 0; i < g->n_ops; i++) {
        const yd_op *op = &g->ops[i];
        if (has_gradient(op)) continue;
        const char *name = op->out[0] >= 0 ? g->tensors[op->out[0]].name : "?";
        g->failed = 1;
        yd_fail_field(&g->err, YD_E_UNSUPPORTED, name, "", "%s '%s' has no gradient: this network can be run, not trained", yd_op_name(op->kind), name);
        return 0;
    }
    return 1;
}

// Which tensors depend on a parameter.
static void mark_needs(walk *k)
{
    for (int i = 0; i < k->n_forward; i++) {
        const yd_op *op = &k->g->ops[i];
        int any = 0;
        for (int j = 0; j < YD_OP_MAX_IN; j++)
            if (op->in[j] >= 0 && (k->needs[op->in[j]] || k->g->tensors[op->in[j]].kind == YD_T_PARAM)) any = 1;
        for (int j = 0; j < YD_OP_MAX_OUT; j++)
            if (op->out[j] >= 0) k->needs[op->out[j]] = (char)any;
    }
}

static yd_dtype map_dtype(const yd_graph *g)
{
    for (int i = 0; i < g->n_ops; i++)
        if (g->ops[i].kind == YD_OP_CONV) return g->tensors[g->ops[i].in[0]].dtype;
    return YD_F32;
}

static yd_tid append_loss(yd_graph *g, yd_tid pred, int p, yd_dtype dt)
{
    const yd_tensor t = g->tensors[pred];
    yd_tid target = yd_graph_input(g, "target", t.h, t.w, t.c, YD_F32);
    yd_tid mask = yd_graph_input(g, "mask", t.h, t.w, 1, YD_F32);
    yd_tid weight = yd_graph_input(g, "weight", 1, 1, 1, YD_F32);
    yd_tid loss = yd_graph_tensor(g, "loss", YD_T_OUTPUT, YD_F32, 1, 1, 1);
    yd_tid dpred = yd_graph_tensor(g, "d.pred", YD_T_ACT, dt, t.h, t.w, t.c);
    yd_op *op = yd_graph_op(g, YD_OP_LOSS);
    if (!op) return YD_NONE;
    op->in[0] = pred, op->in[1] = target, op->in[2] = mask, op->in[3] = weight;
    op->out[0] = loss, op->out[1] = dpred;
    op->p = p;
    return dpred;
}

void yd_graph_backward(yd_graph *g, yd_tid pred, int p)
{
    if (g->failed || pred < 0 || !all_have_gradients(g)) return;
    walk k = {.g = g, .map_dtype = map_dtype(g), .n_forward = g->n_ops, .n_tensors = g->n_tensors};
    k.needs = yd_calloc((size_t)g->n_tensors, 1);
    k.grad = yd_malloc((size_t)g->n_tensors * sizeof *k.grad);
    if (!k.needs || !k.grad) {
        g->failed = 1;
        yd_fail(&g->err, YD_E_NOMEM, "no memory for the backward graph");
    } else {
        for (int i = 0; i < k.n_tensors; i++) k.grad[i] = YD_NONE;
        mark_needs(&k);
        k.grad[pred] = append_loss(g, pred, p, k.map_dtype);
        for (int i = k.n_forward - 1; i >= 0 && !g->failed; i--) back(&k, i);
    }
    yd_free(k.needs);
    yd_free(k.grad);
}
