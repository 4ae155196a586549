// CONV, CONVT, CONV_DX and CONV_DW through cuDNN, with what an engine does not do around it as own kernels.
//
// For a convolution with an end (bias, activation, residual, a vector per sample) the ways are tried in this order, each with the engine that the
// plan cache has for its shape or that is chosen now:
//   1. one cuDNN graph that ends with bias, leaky activation and residual
//   2. the bare sum by cuDNN, into the result where its type allows, then conv_end
//   3. the bare sum as a matrix product with patches (ops_gemm.c), then conv_end
// With batch-invariance an engine is chosen for a batch of PIN_BATCH and used for every batch; where it does not take one, it runs sample by sample.
// Channels are multiples of 8 here: padded with zeros in maps and filters, so that what pads the result is zero by itself.
#include "gpu/gpu.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define PIN_BATCH 8

// --- choosing and preparing

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// By time as long as there is some left for these weights' model.
static yd_gpu_outcome choose_now(yd_exec *e, const yd_gpu_conv_shape *shape, yd_gpu_choice *out)
{
    yd_gpu *g = e->gpu;
    const double from = seconds(), left = e->w->tuning_s;
    memset(out, 0, sizeof *out);
    const yd_gpu_outcome o = g->d->conv_choose(g->d, shape, left, out);
    if (left > 0) e->w->tuning_s = left - (seconds() - from);
    return o;
}

static int choose_locked(yd_exec *e, const yd_gpu_conv_shape *shape, const char *key, yd_gpu_choice *out, yd_err *err)
{
    yd_gpu *g = e->gpu;
    const yd_gpu_choice *kept = yd_gpu_plans_get(g->plans, key);
    if (kept) {
        *out = *kept;
        return 0;
    }
    const yd_gpu_outcome o = choose_now(e, shape, out);
    if (o == YD_GPU_UNSUPPORTED)
        out->engine = -1;
    else if (o)
        return yd_gpu_check(g, o, "choosing a convolution's engine", err);
    if (g->verbose) fprintf(stderr, "cuda: %s: engine %d\n", key, out->engine);
    return yd_gpu_plans_put(g->plans, key, out, err);
}

static int choose(yd_exec *e, const yd_gpu_conv_shape *shape, const char *key, yd_gpu_choice *out, yd_err *err)
{
    yd_gpu_plans_lock(e->gpu->plans);
    const int rc = choose_locked(e, shape, key, out, err);
    yd_gpu_plans_unlock(e->gpu->plans);
    return rc;
}

// Prepare by a choice. 1 done, 0 that engine does not take the shape, negative: error.
static int prepare(yd_exec *e, const yd_gpu_conv_shape *shape, const yd_gpu_choice *how, yd_gpu_conv_plan *plan,
                   yd_err *err)
{
    yd_gpu *g = e->gpu;
    size_t workspace = 0;
    const yd_gpu_outcome o = g->d->conv_new(g->d, shape, how, &plan->conv, &workspace);
    if (o == YD_GPU_UNSUPPORTED) return 0;
    if (o) return yd_gpu_check(g, o, "preparing a convolution", err);
    plan->shape = *shape;
    yd_gpu_scratch(e, workspace);
    return 1;
}

// Does an engine say which tiles it has? One that does not (no knob, or one left at -1) may choose them by the batch.
static int names_tiles(const yd_gpu_choice *how)
{
    for (int i = 0; i < how->n_knobs; i++)
        if (how->knob[i].value < 0) return 0;
    return how->n_knobs > 0;
}

// Find a plan for a shape of all samples. Attention's kernel is compiled for one batch, in a third of a second: the largest power of two that divides
// the samples at a time, so that there are few. 1 found, 0 there is none, negative: error.
static int find_plan(yd_exec *e, const yd_gpu_conv_shape *shape, yd_gpu_conv_plan *plan, yd_err *err)
{
    // DW adds up the batch anyway, and in training so does what follows from a DX.
    const int pinned =
        !e->gpu->opt.batch_variant && shape->pass != YD_GPU_DW && !(e->training && shape->pass == YD_GPU_DX);
    char key[YD_GPU_KEY];
    yd_gpu_choice how;
    yd_gpu_conv_shape s = *shape;
    if (shape->pass == YD_GPU_ATTENTION) s.n = shape->n & -shape->n;
    const yd_gpu_conv_shape part = s;
    memset(plan, 0, sizeof *plan);
    yd_gpu_plans_key(e->gpu->plans, &part, !pinned, yd_gpu_tunes(e->gpu), key);
    if (pinned) s.n = PIN_BATCH;
    int rc = choose(e, &s, key, &how, err);
    if (rc || how.engine < 0) return rc;
    plan->times = shape->n / part.n;
    const int whole = !pinned || part.n == 1 || names_tiles(&how);
    rc = whole ? prepare(e, &part, &how, plan, err) : 0;
    if (rc || !pinned || part.n == 1) return rc;
    s.n = 1;
    plan->times = shape->n;
    return prepare(e, &s, &how, plan, err);
}

// --- running

static size_t sample_bytes(const yd_gpu_map *m)
{
    return yd_sz(m->h) * yd_sz(m->w) * yd_sz(m->pitch) * yd_dtype_bytes(m->dtype);
}

static void *sample_of(void *data, size_t bytes, int i)
{
    return data ? (char *)data + bytes * yd_sz(i) : NULL;
}

// buf: 0 x, 1 y, 2 residual, 3 the filter's gradient. Those that the plan does not have are -1.
static int run_plan(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    yd_gpu *g = e->gpu;
    const yd_gpu_map *x = &e->bufs[s->buf[0]].map, *y = &e->bufs[s->buf[1]].map;
    const size_t x_bytes = sample_bytes(x) * yd_sz(e->n / s->conv.times),
                 y_bytes = sample_bytes(y) * yd_sz(e->n / s->conv.times);
    yd_gpu_conv_io io = {.workspace = e->scratch,
                         .filter = s->filter       ? s->filter->data
                                   : s->buf[3] < 0 ? NULL
                                                   : e->bufs[s->buf[3]].map.data,
                         .bias = s->bias ? s->bias->data : NULL};
    for (int i = 0; i < s->conv.times; i++) {
        io.x = sample_of(x->data, x_bytes, i);
        io.y = sample_of(y->data, y_bytes, i);
        io.res = s->buf[2] < 0 ? NULL : sample_of(e->bufs[s->buf[2]].map.data, y_bytes, i);
        int rc = yd_gpu_check(g, g->d->conv_run(g->d, s->conv.conv, &io, g->stream), s->family, err);
        if (rc) return rc;
    }
    return 0;
}

static int run_end(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_op *op = s->op;
    const int conv = op->kind == YD_OP_CONV; // CONVT has a bias and no more
    const float *bias = op->in[2] == YD_NONE ? NULL : e->bufs[op->in[2]].map.data;
    const float *v = !conv || op->in[4] == YD_NONE ? NULL : e->bufs[op->in[4]].map.data;
    const yd_gpu_map *res = !conv || op->in[3] == YD_NONE ? NULL : &e->bufs[op->in[3]].map;
    return yd_gpu_launched(e, s,
                           yd_gpu_conv_end(&e->bufs[s->buf[0]].map, bias, conv ? (yd_act)op->act : YD_ACT_NONE,
                                           conv ? op->scale : 0, v, res, &e->bufs[s->buf[1]].map, e->n, e->gpu->stream),
                           err);
}

static int run_reflect(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    return yd_gpu_launched(
        e, s, yd_gpu_reflect(&e->bufs[s->buf[0]].map, &e->bufs[s->buf[1]].map, s->pad, e->n, e->gpu->stream), err);
}

static int run_unpack(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    const yd_gpu_map *packed = &e->bufs[s->buf[0]].map;
    const yd_tensor *w = yd_gpu_tensor(e, s->op->out[0]);
    return yd_gpu_launched(e, s,
                           yd_gpu_filter_unpack(packed->data, packed->dtype, yd_round8(w->dims[0]),
                                                yd_round8(w->dims[1]), e->bufs[s->op->out[0]].map.data, w->dims[0],
                                                w->dims[1], w->dims[2], e->gpu->stream),
                           err);
}

static int run_bias_grad(yd_exec *e, yd_gpu_step *s, yd_err *err)
{
    return yd_gpu_launched(
        e, s,
        yd_gpu_bias_grad(&e->bufs[s->op->in[1]].map, e->bufs[s->op->out[1]].map.data, e->scratch, e->n, e->gpu->stream),
        err);
}

// --- operands

// Can a convolution read or write the buffer as it is?
static int suits(const yd_exec *e, int buf, yd_dtype dtype)
{
    const yd_gpu_map *m = &e->bufs[buf].map;
    return m->dtype == dtype && m->pitch == yd_round8(m->c) && m->padded == m->pitch;
}

// A buffer with map t's elements that a convolution can read: t's own, or a copy made here. -1 with *err filled.
static int readable(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dtype, yd_err *err)
{
    if (suits(e, t, dtype)) return t;
    const yd_gpu_map m = e->bufs[t].map;
    const int buf = yd_gpu_temp(e, dtype, m.h, m.w, yd_round8(m.c), yd_round8(m.c), err);
    if (buf < 0) return -1;
    e->bufs[buf].map.c = m.c;
    return yd_gpu_make_copy(e, op, t, buf, err) ? -1 : buf;
}

static int mirrored(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dtype, int pad, yd_err *err)
{
    const yd_gpu_map m = e->bufs[t].map;
    const int buf = yd_gpu_temp(e, dtype, m.h + 2 * pad, m.w + 2 * pad, yd_round8(m.c), yd_round8(m.c), err);
    if (buf < 0) return -1;
    e->bufs[buf].map.c = m.c;
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_reflect, err);
    if (!s) return -1;
    s->buf[0] = t;
    s->buf[1] = buf;
    s->pad = pad;
    return buf;
}

static yd_gpu_conv_shape shape_of(const yd_exec *e, const yd_op *op, yd_gpu_pass pass, int x, int y, yd_dtype type,
                                  yd_dtype out, int pad)
{
    const yd_gpu_map *mx = &e->bufs[x].map, *my = &e->bufs[y].map;
    return (yd_gpu_conv_shape){.pass = pass,
                               .n = e->n,
                               .h = mx->h,
                               .w = mx->w,
                               .c = yd_round8(mx->c),
                               .oh = my->h,
                               .ow = my->w,
                               .o = yd_round8(my->c),
                               .k = op->k,
                               .stride = op->stride,
                               .pad = pad,
                               .type = type,
                               .out = out,
                               .tf32 = type == YD_F32 && e->gpu->opt.tf32};
}

// The parameter [a][b][k][k] as convolutions read it.
static yd_gpu_packed *pack(yd_exec *e, yd_tid t, yd_dtype dtype, yd_err *err)
{
    const yd_tensor *w = yd_gpu_tensor(e, t);
    return yd_gpu_packed_get(e->w, w->param, w->dims[0], w->dims[1], w->dims[2], dtype, yd_round8(w->dims[0]),
                             yd_round8(w->dims[1]), err);
}

// Append the step that runs a plan; the plan is the step's from here on, also after a failure.
static yd_gpu_step *plan_step(yd_exec *e, const yd_op *op, const yd_gpu_conv_plan *plan, int x, int y, yd_err *err)
{
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_plan, err);
    if (!s) {
        e->gpu->d->conv_free(e->gpu->d, plan->conv);
        return NULL;
    }
    s->conv = *plan;
    s->buf[0] = x;
    s->buf[1] = y;
    return s;
}

int yd_gpu_make_engine(yd_exec *e, const yd_op *op, const yd_gpu_conv_shape *shape, int x, int y, yd_err *err)
{
    yd_gpu_conv_plan plan;
    int rc = find_plan(e, shape, &plan, err);
    if (rc <= 0) return rc;
    return plan_step(e, op, &plan, x, y, err) ? 1 : yd_gpu_code(err);
}

// The bare sum of FORWARD or DX, from cuDNN or as a product.
static int bare_sum(yd_exec *e, const yd_op *op, const yd_gpu_conv_shape *shape, int x, int y, yd_tid weight,
                    yd_err *err)
{
    yd_gpu_conv_plan plan;
    int rc = find_plan(e, shape, &plan, err);
    if (rc < 0) return rc;
    if (!rc) {
        yd_gpu_packed *w = pack(e, weight, shape->type, err);
        return w ? yd_gpu_make_gemm_conv(e, op, shape, x, y, -1, w, err) : yd_gpu_code(err);
    }
    yd_gpu_step *s = plan_step(e, op, &plan, x, y, err);
    if (!s) return yd_gpu_code(err);
    s->filter = pack(e, weight, shape->type, err);
    return s->filter ? 0 : yd_gpu_code(err);
}

static int end_step(yd_exec *e, const yd_op *op, int from, int to, yd_err *err)
{
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_end, err);
    if (!s) return yd_gpu_code(err);
    s->buf[0] = from;
    s->buf[1] = to;
    return 0;
}

// --- the operators

static int check_filter(const yd_exec *e, const yd_op *op, yd_tid t, int a, int b, yd_err *err)
{
    int rc = yd_gpu_need(e, op, t, "filter", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *w = yd_gpu_tensor(e, t);
    if (w->param < 0 || w->ndim != 4 || w->dims[0] != a || w->dims[1] != b || w->dims[2] != op->k ||
        w->dims[3] != op->k || op->k < 1 || op->stride < 1 || op->pad < 0)
        return yd_gpu_refuse(e, op, YD_E_INVALID, "its filter does not fit its maps", err);
    return 0;
}

static int check_conv(const yd_exec *e, const yd_op *op, yd_tid tx, yd_tid ty, yd_tid weight, yd_err *err)
{
    int rc = yd_gpu_need(e, op, tx, "input map", 0, 0, 0, err);
    if (!rc) rc = yd_gpu_need(e, op, ty, "output map", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *x = yd_gpu_tensor(e, tx), *y = yd_gpu_tensor(e, ty);
    rc = check_filter(e, op, weight, y->c, x->c, err);
    if (rc) return rc;
    return yd_gpu_need(e, op, ty, "output map", (x->h + 2 * op->pad - op->k) / op->stride + 1,
                       (x->w + 2 * op->pad - op->k) / op->stride + 1, 0, err);
}

static int check_bias(const yd_exec *e, const yd_op *op, yd_tid t, int c, yd_err *err)
{
    if (t == YD_NONE || yd_tensor_numel(yd_gpu_tensor(e, t)) == yd_sz(c)) return 0;
    return yd_gpu_refuse(e, op, YD_E_INVALID, "its bias has another length", err);
}

static int check_end(const yd_exec *e, const yd_op *op, yd_err *err)
{
    const yd_tensor *x = yd_gpu_tensor(e, op->in[0]), *y = yd_gpu_tensor(e, op->out[0]);
    int rc = check_bias(e, op, op->in[2], y->c, err);
    if (!rc && op->in[3] != YD_NONE) rc = yd_gpu_need(e, op, op->in[3], "residual", y->h, y->w, y->c, err);
    if (!rc && op->in[4] != YD_NONE) rc = yd_gpu_need(e, op, op->in[4], "vector to add", 1, 1, y->c, err);
    if (rc) return rc;
    if (op->act != YD_ACT_NONE && op->act != YD_ACT_MISH && op->act != YD_ACT_LEAKY)
        return yd_gpu_refuse(e, op, YD_E_UNSUPPORTED, "its activation is none of a convolution's", err);
    return op->reflect && (op->pad >= x->h || op->pad >= x->w)
               ? yd_gpu_refuse(e, op, YD_E_INVALID, "a mirrored border is narrower than the map", err)
               : 0;
}

static int has_end(const yd_op *op)
{
    return op->in[2] != YD_NONE || op->in[3] != YD_NONE || op->in[4] != YD_NONE || op->act != YD_ACT_NONE;
}

// One cuDNN graph for sum and end. 1 done, 0 it cannot be, negative: error.
static int fused(yd_exec *e, const yd_op *op, yd_gpu_conv_shape shape, int x, yd_err *err)
{
    const yd_tid y = op->out[0], res = op->in[3];
    if (!suits(e, y, shape.out) || op->in[4] != YD_NONE || op->act == YD_ACT_MISH ||
        (res != YD_NONE && !suits(e, res, shape.out)))
        return 0;
    shape.bias = op->in[2] != YD_NONE;
    shape.res = res != YD_NONE;
    shape.leaky = op->act == YD_ACT_LEAKY;
    shape.slope = shape.leaky ? op->scale : 0;
    yd_gpu_conv_plan plan;
    int rc = find_plan(e, &shape, &plan, err);
    if (rc <= 0) return rc;
    yd_gpu_step *s = plan_step(e, op, &plan, x, y, err);
    if (!s) return yd_gpu_code(err);
    s->buf[2] = res == YD_NONE ? -1 : res;
    s->filter = pack(e, op->in[1], shape.type, err);
    if (!s->filter) return yd_gpu_code(err);
    if (!shape.bias) return 1;
    const yd_tensor *b = yd_gpu_tensor(e, op->in[2]);
    s->bias = yd_gpu_packed_get(e->w, b->param, b->dims[0], 1, 1, YD_F32, shape.o, 1, err);
    return s->bias ? 1 : yd_gpu_code(err);
}

// The buffer for a sum whose result is tensor t: t's own where that suits, else a temporary. bf16 products may have f32 sums.
static int sum_buffer(yd_exec *e, yd_tid t, yd_dtype type, yd_err *err)
{
    const yd_gpu_map m = e->bufs[t].map;
    if (suits(e, t, type) || (type == YD_BF16 && suits(e, t, YD_F32))) return t;
    const int buf = yd_gpu_temp(e, m.dtype == YD_F32 ? YD_F32 : type, m.h, m.w, yd_round8(m.c), yd_round8(m.c), err);
    if (buf >= 0) e->bufs[buf].map.c = m.c;
    return buf;
}

int yd_gpu_make_conv(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_conv(e, op, op->in[0], op->out[0], op->in[1], err);
    if (!rc) rc = check_end(e, op, err);
    if (rc) return rc;
    const yd_dtype type = e->bufs[op->in[0]].map.dtype;
    const int reflect = op->reflect && op->pad > 0;
    const int x = reflect ? mirrored(e, op, op->in[0], type, op->pad, err) : readable(e, op, op->in[0], type, err);
    if (x < 0) return yd_gpu_code(err);
    const int sum = sum_buffer(e, op->out[0], type, err);
    if (sum < 0) return yd_gpu_code(err);
    const yd_gpu_conv_shape shape =
        shape_of(e, op, YD_GPU_FORWARD, x, sum, type, e->bufs[sum].map.dtype, reflect ? 0 : op->pad);
    if (has_end(op) && (rc = fused(e, op, shape, x, err)) != 0) return rc < 0 ? rc : 0;
    rc = bare_sum(e, op, &shape, x, sum, op->in[1], err);
    if (rc || (sum == op->out[0] && !has_end(op))) return rc;
    return end_step(e, op, sum, op->out[0], err);
}

// dx of the convolution that has `weight`, from tensor ty to tensor tx. Leaves the sum in *sum.
static int make_dx(yd_exec *e, const yd_op *op, yd_tid ty, yd_tid tx, int *sum, yd_err *err)
{
    const yd_dtype type = e->bufs[ty].map.dtype;
    const int y = readable(e, op, ty, type, err);
    if (y < 0) return yd_gpu_code(err);
    *sum = sum_buffer(e, tx, type, err);
    if (*sum < 0) return yd_gpu_code(err);
    const yd_gpu_conv_shape shape = shape_of(e, op, YD_GPU_DX, *sum, y, type, e->bufs[*sum].map.dtype, op->pad);
    return bare_sum(e, op, &shape, *sum, y, op->in[1], err);
}

int yd_gpu_make_conv_dx(yd_exec *e, const yd_op *op, yd_err *err)
{
    int sum, rc = check_conv(e, op, op->out[0], op->in[0], op->in[1], err);
    if (!rc) rc = make_dx(e, op, op->in[0], op->out[0], &sum, err);
    return rc || sum == op->out[0] ? rc : yd_gpu_make_copy(e, op, sum, op->out[0], err);
}

int yd_gpu_make_convt(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_gpu_need(e, op, op->in[0], "input map", 0, 0, 0, err), sum;
    if (!rc) rc = yd_gpu_need(e, op, op->out[0], "output map", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *x = yd_gpu_tensor(e, op->in[0]), *y = yd_gpu_tensor(e, op->out[0]);
    rc = check_filter(e, op, op->in[1], x->c, y->c, err);
    if (!rc)
        rc = yd_gpu_need(e, op, op->out[0], "output map", (x->h - 1) * op->stride + op->k - 2 * op->pad,
                         (x->w - 1) * op->stride + op->k - 2 * op->pad, 0, err);
    if (!rc) rc = check_bias(e, op, op->in[2], y->c, err);
    if (!rc) rc = make_dx(e, op, op->in[0], op->out[0], &sum, err);
    if (rc || (sum == op->out[0] && op->in[2] == YD_NONE)) return rc;
    return end_step(e, op, sum, op->out[0], err);
}

// The filter's gradient in cuDNN's layout, f32 or else of the maps' type. 1 done (*packed), 0 no engine, negative: error.
static int filter_gradient(yd_exec *e, const yd_op *op, yd_dtype type, int x, int y, int *packed, yd_err *err)
{
    for (int attempt = 0; attempt < (type == YD_BF16 ? 2 : 1); attempt++) {
        const yd_dtype out = attempt ? YD_BF16 : YD_F32;
        const yd_gpu_conv_shape shape = shape_of(e, op, YD_GPU_DW, x, y, type, out, op->pad);
        yd_gpu_conv_plan plan;
        int rc = find_plan(e, &shape, &plan, err);
        if (rc < 0) return rc;
        if (!rc) continue;
        yd_gpu_step *s = plan_step(e, op, &plan, x, y, err);
        if (!s) return yd_gpu_code(err);
        *packed = yd_gpu_temp(e, out, shape.o, op->k * op->k, shape.c, shape.c, err);
        if (*packed < 0) return yd_gpu_code(err);
        s->buf[3] = *packed;
        return 1;
    }
    return 0;
}

static int unpack_step(yd_exec *e, const yd_op *op, int packed, yd_err *err)
{
    yd_gpu_step *s = yd_gpu_step_new(e, op, run_unpack, err);
    if (!s) return yd_gpu_code(err);
    s->buf[0] = packed;
    return 0;
}

int yd_gpu_make_conv_dw(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = check_conv(e, op, op->in[0], op->in[1], op->out[0], err);
    if (!rc && op->out[1] != YD_NONE) rc = check_bias(e, op, op->out[1], yd_gpu_tensor(e, op->in[1])->c, err);
    if (rc) return rc;
    const yd_dtype tx = e->bufs[op->in[0]].map.dtype, ty = e->bufs[op->in[1]].map.dtype,
                   type = tx == YD_F32 || ty == YD_F32 ? YD_F32 : YD_BF16;
    const int x = readable(e, op, op->in[0], type, err), y = x < 0 ? -1 : readable(e, op, op->in[1], type, err);
    if (y < 0) return yd_gpu_code(err);
    int packed = -1;
    rc = filter_gradient(e, op, type, x, y, &packed, err);
    if (rc < 0) return rc;
    if (!rc) {
        const yd_gpu_conv_shape shape = shape_of(e, op, YD_GPU_DW, x, y, type, YD_F32, op->pad);
        packed = yd_gpu_temp(e, YD_F32, shape.o, op->k * op->k, shape.c, shape.c, err);
        if (packed < 0) return yd_gpu_code(err);
        if ((rc = yd_gpu_make_gemm_conv(e, op, &shape, x, y, packed, NULL, err))) return rc;
    }
    rc = unpack_step(e, op, packed, err);
    if (rc || op->out[1] == YD_NONE) return rc;
    yd_gpu_scratch(e, yd_gpu_bias_grad_scratch(&e->bufs[op->in[1]].map, e->n));
    return yd_gpu_step_new(e, op, run_bias_grad, err) ? 0 : yd_gpu_code(err);
}
