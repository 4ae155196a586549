// Operators that are one kernel of kernels.h: shapes are checked, roles named, scratch asked for; the step calls the launch.
#include "gpu/gpu.h"

#include <stddef.h>

// A step's operands by the operator's own order.
static yd_gpu_map *in(const yd_exec *e, const yd_gpu_step *s, int i)
{
    return &e->bufs[s->op->in[i]].map;
}
static yd_gpu_map *out(const yd_exec *e, const yd_gpu_step *s, int i)
{
    return &e->bufs[s->op->out[i]].map;
}
static void *in_data(const yd_exec *e, const yd_gpu_step *s, int i)
{
    return s->op->in[i] == YD_NONE ? NULL : in(e, s, i)->data;
}
static void *out_data(const yd_exec *e, const yd_gpu_step *s, int i)
{
    return s->op->out[i] == YD_NONE ? NULL : out(e, s, i)->data;
}

static int run_copy(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    return yd_gpu_launched(e, s, yd_gpu_copy(&e->bufs[s->buf[0]].map, &e->bufs[s->buf[1]].map, e->n, e->gpu->stream),
                           err);
}

int yd_gpu_make_copy(yd_exec *e, const yd_op *op, int from, int to, yd_err *err)
{
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_copy, err);
    if (!s) return yd_gpu_code(err);
    s->buf[0] = from;
    s->buf[1] = to;
    return 0;
}

static int run_gnorm(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_op *op = s->op;
    return yd_gpu_launched(e, s,
                           yd_gpu_gnorm(in(e, s, 0), in_data(e, s, 1), in_data(e, s, 2), in_data(e, s, 3), op->groups,
                                        op->eps, op->act != 0, out(e, s, 0), out_data(e, s, 1), e->scratch, e->n,
                                        e->gpu->stream),
                           err);
}

static int run_gnorm_bwd(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_op *op = s->op;
    return yd_gpu_launched(e, s,
                           yd_gpu_gnorm_bwd(in(e, s, 0), in_data(e, s, 1), in_data(e, s, 2), in_data(e, s, 3),
                                            in_data(e, s, 4), in(e, s, 5), op->groups, op->act != 0, out(e, s, 0),
                                            out_data(e, s, 1), out_data(e, s, 2), out_data(e, s, 3), e->scratch, e->n,
                                            e->gpu->stream),
                           err);
}

// Of all operators that it does the work of.
static int run_linear(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu_linears l = {.v = in_data(e, s, 0), .in = in(e, s, 0)->c, .n = e->n};
    const int first = (int)(s->op - e->g->ops);
    for (int i = first; i < e->g->n_ops; i++) {
        const yd_op *op = &e->g->ops[i];
        if (e->with[i] != first) continue;
        l.of[l.count].w = e->bufs[op->in[1]].map.data;
        l.of[l.count].b = op->in[2] == YD_NONE ? NULL : e->bufs[op->in[2]].map.data;
        l.of[l.count].y = e->bufs[op->out[0]].map.data;
        l.of[l.count++].out = e->bufs[op->out[0]].map.c;
    }
    return yd_gpu_launched(e, s, yd_gpu_linear(&l, e->gpu->stream), err);
}

static int run_linear_bwd(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    return yd_gpu_launched(e, s,
                           yd_gpu_linear_bwd(in_data(e, s, 0), in_data(e, s, 1), in_data(e, s, 2), out_data(e, s, 0),
                                             out_data(e, s, 1), out_data(e, s, 2), in(e, s, 0)->c, in(e, s, 2)->c, e->n,
                                             e->gpu->stream),
                           err);
}

static int run_vector(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_op *op = s->op;
    const float *x = in_data(e, s, 0);
    float *y = out_data(e, s, 0);
    const int c = out(e, s, 0)->c;
    int code;
    if (op->kind == YD_OP_SILU)
        code = yd_gpu_silu(x, y, c, e->n, e->gpu->stream);
    else if (op->kind == YD_OP_MISH)
        code = yd_gpu_mish(x, y, c, e->n, e->gpu->stream);
    else if (op->kind == YD_OP_EMBED)
        code = yd_gpu_embed(x, y, c, op->scale, op->r, e->n, e->gpu->stream);
    else
        code = yd_gpu_silu_bwd(x, in_data(e, s, 1), y, c, e->n, e->gpu->stream);
    return yd_gpu_launched(e, s, code, err);
}

static int run_map(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_op *op = s->op;
    yd_gpu_stream stream = e->gpu->stream;
    int code;
    switch (op->kind) {
    case YD_OP_CONCAT:
        code = yd_gpu_concat(in(e, s, 0), in(e, s, 1), out(e, s, 0), e->n, stream);
        break;
    case YD_OP_SPLIT:
        code = yd_gpu_split(in(e, s, 0), out(e, s, 0), out(e, s, 1), e->n, stream);
        break;
    case YD_OP_ADD:
    case YD_OP_AXPY:
        code =
            yd_gpu_axpy(op->kind == YD_OP_ADD ? 1.0f : op->scale, in(e, s, 0), in(e, s, 1), out(e, s, 0), e->n, stream);
        break;
    case YD_OP_UPSAMPLE:
        code = yd_gpu_upsample(in(e, s, 0), out(e, s, 0), e->n, stream);
        break;
    case YD_OP_UPSAMPLE_BWD:
        code = yd_gpu_upsample_bwd(in(e, s, 0), out(e, s, 0), e->n, stream);
        break;
    case YD_OP_UNSHUFFLE:
        code = yd_gpu_unshuffle(in(e, s, 0), out(e, s, 0), op->r, e->n, stream);
        break;
    default:
        code = yd_gpu_shuffle(in(e, s, 0), out(e, s, 0), op->r, e->n, stream);
        break;
    }
    return yd_gpu_launched(e, s, code, err);
}

static int run_loss(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_op *op = s->op;
    return yd_gpu_launched(e, s,
                           yd_gpu_loss(in(e, s, 0), in(e, s, 1), in_data(e, s, 2), in_data(e, s, 3), op->p,
                                       out_data(e, s, 0), op->out[1] == YD_NONE ? NULL : out(e, s, 1), e->scratch, e->n,
                                       e->gpu->stream),
                           err);
}

// --- shapes

static int need_vector(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, int c, yd_err *err)
{
    int rc = yd_gpu_need(e, op, t, role, 1, 1, c, err);
    if (!rc && yd_gpu_tensor(e, t)->dtype != YD_F32) rc = yd_gpu_refuse(e, op, YD_E_INVALID, "vectors are f32", err);
    return rc;
}

static int need_param(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, size_t count, yd_err *err)
{
    if (t == YD_NONE || yd_tensor_numel(yd_gpu_tensor(e, t)) == count) return 0;
    return yd_gpu_refuse(e, op, YD_E_INVALID, role, err);
}

static int check_gnorm(yd_exec *e, const yd_op *op, yd_err *err)
{
    const int back = op->kind == YD_OP_GNORM_BWD;
    int rc = yd_gpu_need(e, op, op->in[0], "map", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *x = yd_gpu_tensor(e, op->in[0]);
    const yd_tid stats = back ? op->in[4] : op->out[1];
    if (op->groups < 1 || x->c % op->groups)
        return yd_gpu_refuse(e, op, YD_E_INVALID, "its channels cannot be split into groups", err);
    if (op->act != YD_ACT_NONE && op->act != YD_ACT_SILU)
        return yd_gpu_refuse(e, op, YD_E_UNSUPPORTED, "its activation is none of its own", err);
    if (op->in[1] != YD_NONE) rc = need_vector(e, op, op->in[1], "vector to add", x->c, err);
    if (!rc) rc = yd_gpu_need(e, op, op->in[2], "gamma", 0, 0, 0, err);
    if (!rc) rc = yd_gpu_need(e, op, op->in[3], "beta", 0, 0, 0, err);
    for (int i = 2; i < 4 && !rc; i++)
        rc = need_param(e, op, op->in[i], "gamma or beta has another length", yd_sz(x->c), err);
    if (!rc && (back || stats != YD_NONE)) rc = need_vector(e, op, stats, "statistics", 2 * op->groups, err);
    if (!rc) rc = yd_gpu_need(e, op, op->out[0], "result", x->h, x->w, x->c, err);
    const yd_gpu_map *map = &e->bufs[op->in[0]].map;
    if (!back) {
        if (!rc) yd_gpu_scratch(e, yd_gpu_gnorm_scratch(map, op->groups, e->n));
        return rc;
    }
    if (!rc) rc = yd_gpu_need(e, op, op->in[5], "gradient", x->h, x->w, x->c, err);
    if (!rc && op->out[1] != YD_NONE) rc = need_vector(e, op, op->out[1], "vector's gradient", x->c, err);
    for (int i = 2; i < 4 && !rc; i++) {
        rc = yd_gpu_need(e, op, op->out[i], "gradient of gamma or beta", 0, 0, 0, err);
        if (!rc) rc = need_param(e, op, op->out[i], "a gradient has another length", yd_sz(x->c), err);
    }
    if (!rc) yd_gpu_scratch(e, yd_gpu_gnorm_bwd_scratch(map, op->groups, e->n));
    return rc;
}

static int check_linear(yd_exec *e, const yd_op *op, yd_err *err)
{
    const int back = op->kind == YD_OP_LINEAR_BWD;
    const yd_tid y = back ? op->in[2] : op->out[0];
    int rc = need_vector(e, op, op->in[0], "vector", 0, err);
    if (!rc) rc = need_vector(e, op, y, "result", 0, err);
    if (!rc) rc = yd_gpu_need(e, op, op->in[1], "weight", 0, 0, 0, err);
    if (rc) return rc;
    const size_t inputs = yd_sz(yd_gpu_tensor(e, op->in[0])->c), outputs = yd_sz(yd_gpu_tensor(e, y)->c);
    rc = need_param(e, op, op->in[1], "its weight has another shape", inputs * outputs, err);
    if (!back) return rc ? rc : need_param(e, op, op->in[2], "its bias has another length", outputs, err);
    if (!rc) rc = yd_gpu_need(e, op, op->out[1], "weight's gradient", 0, 0, 0, err);
    if (!rc) rc = need_param(e, op, op->out[1], "the weight's gradient has another shape", inputs * outputs, err);
    if (!rc) rc = need_param(e, op, op->out[2], "the bias's gradient has another length", outputs, err);
    return rc || op->out[0] == YD_NONE ? rc : need_vector(e, op, op->out[0], "vector's gradient", (int)inputs, err);
}

// Later layers that read the same vector, such as every block's projection of the noise level: one launch makes their results now.
static int join_linear(yd_exec *e, const yd_op *op, yd_err *err)
{
    const int first = (int)(op - e->g->ops);
    for (int i = first + 1, count = 1; i < e->g->n_ops && count < YD_GPU_LINEARS; i++) {
        const yd_op *next = &e->g->ops[i];
        if (next->kind != YD_OP_LINEAR || next->in[0] != op->in[0] || e->with[i] != i) continue;
        int rc = check_linear(e, next, err);
        if (rc) return rc;
        e->with[i] = first;
        e->bufs[next->out[0]].item.first = first;
        count++;
    }
    return 0;
}

static int check_vector(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = need_vector(e, op, op->out[0], "result", 0, err);
    if (rc) return rc;
    const int c = yd_gpu_tensor(e, op->out[0])->c;
    rc = need_vector(e, op, op->in[0], "vector", op->kind == YD_OP_EMBED ? 1 : c, err);
    if (!rc && op->kind == YD_OP_SILU_BWD) rc = need_vector(e, op, op->in[1], "gradient", c, err);
    return rc;
}

static int check_pair(yd_exec *e, const yd_op *op, yd_tid whole, yd_tid first, yd_tid second, yd_err *err)
{
    int rc = yd_gpu_need(e, op, whole, "map", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *y = yd_gpu_tensor(e, whole);
    const int joined = op->kind == YD_OP_CONCAT || op->kind == YD_OP_SPLIT;
    rc = yd_gpu_need(e, op, first, "first map", y->h, y->w, joined ? 0 : y->c, err);
    if (!rc)
        rc = yd_gpu_need(e, op, second, "second map", y->h, y->w, joined ? y->c - yd_gpu_tensor(e, first)->c : y->c,
                         err);
    return rc;
}

// y is x enlarged by `up` in both directions and with `c` of its channels for each `per`.
static int check_scaled(yd_exec *e, const yd_op *op, yd_tid small, yd_tid large, int r, int channels, yd_err *err)
{
    int rc = yd_gpu_need(e, op, small, "map", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *t = yd_gpu_tensor(e, small);
    if (r < 1 || t->c % channels)
        return yd_gpu_refuse(e, op, YD_E_INVALID, "its factor does not fit its channels", err);
    return yd_gpu_need(e, op, large, "map", t->h * r, t->w * r, t->c / channels, err);
}

static int check_loss(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_gpu_need(e, op, op->in[0], "prediction", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *x = yd_gpu_tensor(e, op->in[0]);
    if (op->p != 1 && op->p != 2) return yd_gpu_refuse(e, op, YD_E_INVALID, "p is 1 or 2", err);
    rc = yd_gpu_need(e, op, op->in[1], "target", x->h, x->w, x->c, err);
    if (!rc) rc = yd_gpu_need(e, op, op->in[2], "mask", x->h, x->w, 1, err);
    if (!rc && (e->bufs[op->in[2]].map.dtype != YD_F32 || e->bufs[op->in[2]].map.pitch != 1))
        rc = yd_gpu_refuse(e, op, YD_E_UNSUPPORTED, "its mask is no f32 input", err);
    if (!rc) rc = need_vector(e, op, op->in[3], "weight", 1, err);
    if (!rc) rc = need_vector(e, op, op->out[0], "result", 1, err);
    if (!rc && op->out[1] != YD_NONE) rc = yd_gpu_need(e, op, op->out[1], "gradient", x->h, x->w, x->c, err);
    if (!rc) yd_gpu_scratch(e, yd_gpu_loss_scratch(&e->bufs[op->in[0]].map, e->n));
    return rc;
}

int yd_gpu_make_simple(yd_exec *e, const yd_op *op, yd_err *err)
{
    int (*run)(yd_exec *, yd_gpu_step *, yd_err *) = run_map;
    int rc;
    switch (op->kind) {
    case YD_OP_GNORM:
    case YD_OP_GNORM_BWD:
        rc = check_gnorm(e, op, err);
        run = op->kind == YD_OP_GNORM ? run_gnorm : run_gnorm_bwd;
        break;
    case YD_OP_LINEAR:
    case YD_OP_LINEAR_BWD:
        rc = check_linear(e, op, err);
        if (!rc && op->kind == YD_OP_LINEAR) rc = join_linear(e, op, err);
        run = op->kind == YD_OP_LINEAR ? run_linear : run_linear_bwd;
        break;
    case YD_OP_SILU:
    case YD_OP_MISH:
    case YD_OP_EMBED:
    case YD_OP_SILU_BWD:
        rc = check_vector(e, op, err);
        run = run_vector;
        break;
    case YD_OP_CONCAT:
    case YD_OP_ADD:
    case YD_OP_AXPY:
        rc = check_pair(e, op, op->out[0], op->in[0], op->in[1], err);
        break;
    case YD_OP_SPLIT:
        rc = check_pair(e, op, op->in[0], op->out[0], op->out[1], err);
        break;
    case YD_OP_UPSAMPLE:
        rc = check_scaled(e, op, op->in[0], op->out[0], 2, 1, err);
        break;
    case YD_OP_UPSAMPLE_BWD:
        rc = check_scaled(e, op, op->out[0], op->in[0], 2, 1, err);
        break;
    case YD_OP_UNSHUFFLE:
        rc = check_scaled(e, op, op->out[0], op->in[0], op->r, op->r * op->r, err);
        break;
    case YD_OP_SHUFFLE:
        rc = check_scaled(e, op, op->in[0], op->out[0], op->r, op->r * op->r, err);
        break;
    case YD_OP_LOSS:
        rc = check_loss(e, op, err);
        run = run_loss;
        break;
    default:
        return yd_fail(err, YD_E_UNSUPPORTED, "the CUDA backend has no operator %s", yd_op_name(op->kind));
    }
    if (rc) return rc;
    return yd_gpu_step_new(e, op, run, err) ? 0 : yd_gpu_code(err);
}
