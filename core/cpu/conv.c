// Convolutions on oneDNN: forward with bias and residual, transposed, and both gradients.
//
// Maps are plain NHWC everywhere; oneDNN's brgconv and jit kernels run at full speed on that, for odd channel counts
// too. Only the weights are brought into the layout the chosen kernel asks for. A convolution computes in the storage
// type of its input x (or dx), or in f32 where the processor has no bf16 kernels; operands stored otherwise are
// converted through temporaries. A bf16 convolution may write an f32 result directly.
//
// The residual is added by the `sum` post-op, that is, it has to be in y's place beforehand: y takes over its storage
// when nobody reads it later, otherwise it is copied. (Binary post-ops would drop to slower or reference kernels.)
// A mirrored border is made beforehand, what is done to the sum afterwards, by own kernels (conv_ends.c). The transposed
// convolution is oneDNN's gradient of the input with the same filters.
// Read next: prim.c.
#include "core/cpu/cpu.h"
#include <string.h>

typedef struct shape {
    yd_tid x, w, y; // input side, weights, output side: for gradients the same roles
    yd_slice slice; // of the input channels that x stands for
    int border;     // pixels that x has on every side beyond its tensor's
    dnnl_dims_t wdims, bdims, strides, pads;
} shape;

static int check_shape(const yd_exec *e, const yd_op *op, shape *s, yd_err *err)
{
    int rc = yd_need(e, op, s->x, "input", 0, 0, 0, err);
    if (!rc) rc = yd_need(e, op, s->y, "output", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *x = yd_exec_tensor(e, s->x), *y = yd_exec_tensor(e, s->y);
    if (op->k < 1 || op->stride < 1 || op->pad < 0 || op->k > 64 || op->stride > 64 || op->pad > 64)
        return yd_exec_refuse(e, op, YD_E_INVALID, "kernel and stride must be 1..64, padding 0..64", err);
    if (x->h + 2 * op->pad < op->k || x->w + 2 * op->pad < op->k)
        return yd_exec_refuse(e, op, YD_E_INVALID, "the kernel is larger than the padded input", err);
    if ((x->h + 2 * op->pad - op->k) / op->stride + 1 != y->h || (x->w + 2 * op->pad - op->k) / op->stride + 1 != y->w)
        return yd_exec_refuse(e, op, YD_E_INVALID, "input and output sizes do not fit kernel, stride and padding", err);
    rc = yd_need_param(e, op, s->w, "weights", (int[4]){y->c, x->c, op->k, op->k}, err);
    dnnl_dim_t wd[] = {y->c, x->c, op->k, op->k};
    for (int i = 0; i < 4; i++) s->wdims[i] = wd[i];
    s->bdims[0] = y->c;
    for (int i = 0; i < 2; i++) {
        s->strides[i] = op->stride;
        s->pads[i] = op->pad;
    }
    return rc;
}

// x as it lies in memory.
static dnnl_memory_desc_t md_input(const yd_exec *e, const shape *s, yd_dtype dt)
{
    const yd_tensor *x = yd_exec_tensor(e, s->x);
    dnnl_memory_desc_t md;
    memset(&md, 0, sizeof md);
    dnnl_memory_desc_init_by_tag(&md, 4, (dnnl_dims_t){e->n, x->c, x->h + 2 * s->border, x->w + 2 * s->border},
                                 yd_dnnl_dtype(dt), dnnl_nhwc);
    return md;
}

static dnnl_memory_desc_t md_weights(const shape *s, dnnl_data_type_t dt, dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t md;
    memset(&md, 0, sizeof md);
    dnnl_memory_desc_init_by_tag(&md, 4, s->wdims, dt, tag);
    return md;
}

static dnnl_memory_desc_t md_bias(const shape *s)
{
    dnnl_memory_desc_t md;
    memset(&md, 0, sizeof md);
    dnnl_memory_desc_init_by_tag(&md, 1, s->bdims, dnnl_f32, dnnl_a);
    return md;
}

static size_t elements(const yd_exec *e, yd_tid t)
{
    return yd_tensor_numel(yd_exec_tensor(e, t)) * yd_sz(e->n);
}

// Attributes with an optional `sum` post-op.
static int make_attr(const yd_exec *e, const yd_op *op, int sum, dnnl_primitive_attr_t *attr, yd_err *err)
{
    int rc = yd_dnnl_check(e, op, "primitive_attr_create", dnnl_primitive_attr_create(attr), err);
    if (rc || !sum) return rc;
    dnnl_post_ops_t post = NULL;
    dnnl_status_t s = dnnl_post_ops_create(&post);
    if (s == dnnl_success) s = dnnl_post_ops_append_sum(post, 1.0f);
    if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*attr, post);
    if (post) dnnl_post_ops_destroy(post);
    rc = yd_dnnl_check(e, op, "post_ops", s, err);
    if (rc) dnnl_primitive_attr_destroy(*attr);
    return rc;
}

// Put the residual where the sum post-op expects it: into `dst`.
static int place_residual(yd_exec *e, const yd_op *op, yd_tid res, int dst, int dst_bf16, yd_err *err)
{
    yd_tid y = op->out[0];
    const yd_tensor *t = yd_exec_tensor(e, y);
    int rc = yd_need(e, op, res, "residual", t->h, t->w, t->c, err);
    if (rc) return rc;
    if (dst == y && !yd_exec_reads(e, op->in[0], res) && yd_exec_alias(e, y, res)) return 0;
    return yd_make_convert(e, op, res, yd_is_bf16(e, res), dst, dst_bf16, elements(e, y), err);
}

static int bind_weights(yd_exec *e, yd_prim *p, int arg, yd_tid t, yd_slice slice, const dnnl_memory_desc_t *md,
                        yd_err *err)
{
    yd_copy *c = yd_exec_copy(e, t, slice, md, err);
    if (!c) return err ? err->code : YD_E_NOMEM;
    yd_prim_bind_copy(p, arg, c);
    return 0;
}

// sum: add to what lies in dst. The bias is added unless b is YD_NONE.
static int forward_primitive(yd_exec *e, const yd_op *op, const shape *s, yd_dtype xdt, yd_dtype ydt, int src, int dst,
                             yd_tid b, int sum, yd_err *err)
{
    dnnl_memory_desc_t x = md_input(e, s, xdt), y = yd_md_map(e, s->y, ydt), bias = md_bias(s);
    dnnl_memory_desc_t w = md_weights(s, yd_dnnl_dtype(xdt), dnnl_format_tag_any);
    yd_prim *p = yd_prim_kernel(e, op, err);
    if (!p) return YD_E_NOMEM;
    dnnl_convolution_desc_t desc;
    int rc =
        yd_dnnl_check(e, op, "convolution_forward_desc_init",
                      dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &x, &w,
                                                         b == YD_NONE ? NULL : &bias, &y, s->strides, s->pads, s->pads),
                      err);
    dnnl_primitive_attr_t attr;
    if (rc || (rc = make_attr(e, op, sum, &attr, err))) return rc;
    rc = yd_prim_choose(e, op, p, &desc, attr, NULL, err);
    dnnl_primitive_attr_destroy(attr);
    if (!rc) rc = yd_prim_create(e, op, p, err);
    if (!rc) rc = yd_prim_bind(e, op, p, DNNL_ARG_SRC, &x, src, err);
    if (!rc) rc = yd_prim_bind(e, op, p, DNNL_ARG_DST, &y, dst, err);
    if (!rc)
        rc = bind_weights(e, p, DNNL_ARG_WEIGHTS, s->w, s->slice,
                          dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0), err);
    if (!rc && b != YD_NONE) rc = bind_weights(e, p, DNNL_ARG_BIAS, b, (yd_slice){0, 0}, &bias, err);
    return rc;
}

// A 1x1 convolution of a concatenation that is not made: one over each part, the second adding to the first.
static int forward_parts(yd_exec *e, const yd_op *op, const shape *s, yd_dtype dt, yd_dtype ydt, int dst, yd_err *err)
{
    int first = 0, rc = 0;
    for (int k = 0; k < 2 && !rc; k++) {
        shape part = *s;
        part.x = e->views[s->x].part[k];
        part.slice = (yd_slice){first, yd_exec_tensor(e, part.x)->c};
        part.wdims[1] = part.slice.count;
        first += part.slice.count;
        rc = forward_primitive(e, op, &part, dt, ydt, part.x, dst, k ? YD_NONE : op->in[2], k || op->in[3] != YD_NONE,
                               err);
    }
    return rc;
}

static int check_mode(const yd_exec *e, const yd_op *op, yd_err *err)
{
    const yd_tensor *x = yd_exec_tensor(e, op->in[0]), *y = yd_exec_tensor(e, op->out[0]);
    if (op->act != YD_ACT_NONE && op->act != YD_ACT_MISH && op->act != YD_ACT_LEAKY)
        return yd_exec_refuse(e, op, YD_E_INVALID, "its act must be none, mish or leaky", err);
    if (op->act == YD_ACT_LEAKY && !(op->scale >= 0 && op->scale <= 1))
        return yd_exec_refuse(e, op, YD_E_INVALID, "the slope of a leaky act must be 0 to 1", err);
    if (op->reflect && (op->pad >= x->h || op->pad >= x->w))
        return yd_exec_refuse(e, op, YD_E_INVALID, "the map has no mirror image as large as the padding", err);
    return op->in[4] == YD_NONE ? 0 : yd_need_f32(e, op, op->in[4], "vector", 1, 1, y->c, err);
}

// The input as oneDNN reads it: plain, or with the mirror image around it.
static int make_input(yd_exec *e, const yd_op *op, shape *s, yd_dtype dt, int *src, yd_err *err)
{
    if (!op->reflect || op->pad == 0) return yd_make_readable(e, op, s->x, dt, src, err);
    s->border = op->pad;
    for (int i = 0; i < 2; i++) s->pads[i] = 0;
    return yd_make_mirrored(e, op, s->x, dt, op->pad, src, err);
}

// A convolution whose sum something is done to.
static int make_ended(yd_exec *e, const yd_op *op, const shape *s, yd_dtype xdt, yd_dtype ydt, int src, yd_err *err)
{
    int dst, rc = yd_make_writable(e, op, s->y, ydt, &dst, err);
    if (!rc) rc = forward_primitive(e, op, s, xdt, ydt, src, dst, op->in[2], 0, err);
    return rc ? rc : yd_make_conv_end(e, op, dst, ydt, YD_NONE, err);
}

int yd_make_conv(yd_exec *e, const yd_op *op, yd_err *err)
{
    shape s = {.x = op->in[0], .w = op->in[1], .y = op->out[0]};
    int rc = check_shape(e, op, &s, err), in_parts;
    if (!rc && op->in[2] != YD_NONE)
        rc = yd_need_param(e, op, op->in[2], "bias", (int[4]){(int)s.bdims[0], 1, 1, 1}, err);
    if (!rc) rc = check_mode(e, op, err);
    if (rc) return rc;
    if (yd_conv_is_winograd(e, op)) return yd_make_conv_winograd(e, op, err);
    yd_dtype xdt = yd_compute_type(e, s.x), ydt = xdt == YD_F32 ? YD_F32 : yd_exec_tensor(e, s.y)->dtype;
    int src = YD_NONE, dst;
    in_parts = e->views[s.x].parts == 2;
    if (!in_parts) rc = make_input(e, op, &s, xdt, &src, err);
    if (!rc && yd_conv_is_ended(op)) return make_ended(e, op, &s, xdt, ydt, src, err);
    if (!rc) rc = yd_make_writable(e, op, s.y, ydt, &dst, err);
    if (!rc && op->in[3] != YD_NONE) rc = place_residual(e, op, op->in[3], dst, ydt == YD_BF16, err);
    if (!rc && in_parts) rc = forward_parts(e, op, &s, xdt, ydt, dst, err);
    if (!rc && !in_parts) rc = forward_primitive(e, op, &s, xdt, ydt, src, dst, op->in[2], op->in[3] != YD_NONE, err);
    return rc ? rc : yd_make_written(e, op, s.y, ydt, dst, err);
}

// oneDNN wants the forward convolution as a hint for choosing a gradient's kernel.
static int forward_hint(const yd_exec *e, const yd_op *op, const shape *s, yd_dtype dt, dnnl_primitive_desc_t *hint,
                        yd_err *err)
{
    dnnl_memory_desc_t x = yd_md_map(e, s->x, dt), y = yd_md_map(e, s->y, dt),
                       w = md_weights(s, yd_dnnl_dtype(dt), dnnl_format_tag_any);
    dnnl_convolution_desc_t desc;
    dnnl_status_t st = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_training, dnnl_convolution_direct, &x, &w,
                                                          NULL, &y, s->strides, s->pads, s->pads);
    if (st == dnnl_success) st = dnnl_primitive_desc_create(hint, &desc, NULL, e->cpu->engine, NULL);
    return yd_dnnl_check(e, op, "forward hint", st, err);
}

// Choose and create a gradient's primitive.
static int gradient_primitive(yd_exec *e, const yd_op *op, const shape *s, yd_dtype dt, yd_prim *p,
                              const_dnnl_op_desc_t desc, yd_err *err)
{
    dnnl_primitive_desc_t hint = NULL;
    dnnl_primitive_attr_t attr = NULL;
    int rc = forward_hint(e, op, s, dt, &hint, err);
    if (rc) return rc;
    rc = make_attr(e, op, 0, &attr, err);
    if (!rc) {
        rc = yd_prim_choose(e, op, p, desc, attr, hint, err);
        dnnl_primitive_attr_destroy(attr);
    }
    dnnl_primitive_desc_destroy(hint);
    return rc ? rc : yd_prim_create(e, op, p, err);
}

// dx from dy: oneDNN's gradient of the input, from one buffer to another.
static int input_primitive(yd_exec *e, const yd_op *op, const shape *s, yd_dtype dt, int dy, int dx, yd_err *err)
{
    yd_prim *p = yd_prim_kernel(e, op, err);
    if (!p) return YD_E_NOMEM;
    dnnl_memory_desc_t x = yd_md_map(e, s->x, dt), y = yd_md_map(e, s->y, dt),
                       w = md_weights(s, yd_dnnl_dtype(dt), dnnl_format_tag_any);
    dnnl_convolution_desc_t desc;
    dnnl_status_t st = dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &x, &w, &y, s->strides,
                                                                s->pads, s->pads);
    int rc = yd_dnnl_check(e, op, "convolution_backward_data_desc_init", st, err);
    if (!rc) rc = gradient_primitive(e, op, s, dt, p, &desc, err);
    if (!rc) rc = yd_prim_bind(e, op, p, DNNL_ARG_DIFF_SRC, &x, dx, err);
    if (!rc) rc = yd_prim_bind(e, op, p, DNNL_ARG_DIFF_DST, &y, dy, err);
    if (rc) return rc;
    return bind_weights(e, p, DNNL_ARG_WEIGHTS, s->w, s->slice,
                        dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0), err);
}

int yd_make_conv_dx(yd_exec *e, const yd_op *op, yd_err *err)
{
    shape s = {.x = op->out[0], .w = op->in[1], .y = op->in[0]};
    int rc = check_shape(e, op, &s, err), dy, dx;
    if (rc) return rc;
    if (yd_conv_is_winograd(e, op)) return yd_make_conv_winograd(e, op, err);
    yd_dtype dt = yd_compute_type(e, s.x);
    rc = yd_make_readable(e, op, s.y, dt, &dy, err);
    if (!rc) rc = yd_make_writable(e, op, s.x, dt, &dx, err);
    if (!rc) rc = input_primitive(e, op, &s, dt, dy, dx, err);
    return rc ? rc : yd_make_written(e, op, s.x, dt, dx, err);
}

int yd_make_convt(yd_exec *e, const yd_op *op, yd_err *err)
{
    shape s = {.x = op->out[0], .w = op->in[1], .y = op->in[0]};
    int rc = check_shape(e, op, &s, err), from, to;
    if (!rc && op->in[2] != YD_NONE)
        rc = yd_need_param(e, op, op->in[2], "bias", (int[4]){(int)s.wdims[1], 1, 1, 1}, err);
    if (rc) return rc;
    yd_dtype dt = yd_compute_type(e, s.y);
    rc = yd_make_readable(e, op, s.y, dt, &from, err);
    if (!rc) rc = yd_make_writable(e, op, s.x, dt, &to, err);
    if (!rc) rc = input_primitive(e, op, &s, dt, from, to, err);
    if (rc) return rc;
    return op->in[2] == YD_NONE ? yd_make_written(e, op, s.x, dt, to, err)
                                : yd_make_conv_end(e, op, to, dt, op->in[2], err);
}

// Bind dW: directly where the kernel writes checkpoint layout, through a temporary and a reorder otherwise.
static int bind_weight_gradient(yd_exec *e, const yd_op *op, const shape *s, yd_prim *p, yd_err *err)
{
    dnnl_memory_desc_t plain = md_weights(s, dnnl_f32, dnnl_oihw);
    const dnnl_memory_desc_t *own = dnnl_primitive_desc_query_md(p->desc, dnnl_query_diff_weights_md, 0);
    if (dnnl_memory_desc_equal(&plain, own)) return yd_prim_bind(e, op, p, DNNL_ARG_DIFF_WEIGHTS, own, s->w, err);
    int tmp = yd_exec_temp(e, dnnl_memory_desc_get_size(own));
    if (tmp < 0) return yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for a temporary", err);
    int rc = yd_prim_bind(e, op, p, DNNL_ARG_DIFF_WEIGHTS, own, tmp, err);
    if (rc) return rc;
    yd_prim *back = yd_prim_kernel(e, op, err);
    if (!back) return YD_E_NOMEM;
    rc = yd_prim_reorder(e, op, back, own, &plain, err);
    if (!rc) rc = yd_prim_bind(e, op, back, DNNL_ARG_FROM, own, tmp, err);
    if (!rc) rc = yd_prim_bind(e, op, back, DNNL_ARG_TO, &plain, s->w, err);
    return rc;
}

int yd_make_conv_dw(yd_exec *e, const yd_op *op, yd_err *err)
{
    shape s = {.x = op->in[0], .w = op->out[0], .y = op->in[1]};
    yd_tid db = op->out[1];
    int rc = check_shape(e, op, &s, err), dy, x_buf;
    if (!rc && db != YD_NONE) rc = yd_need_param(e, op, db, "bias gradient", (int[4]){(int)s.bdims[0], 1, 1, 1}, err);
    if (rc) return rc;
    if (yd_conv_is_winograd(e, op)) return yd_make_conv_dw_winograd(e, op, err);
    yd_dtype dt = yd_compute_type(e, s.x);
    rc = yd_make_readable(e, op, s.y, dt, &dy, err);
    if (!rc) rc = yd_make_readable(e, op, s.x, dt, &x_buf, err);
    if (rc) return rc;
    yd_prim *p = yd_prim_kernel(e, op, err);
    if (!p) return YD_E_NOMEM;
    dnnl_memory_desc_t x = yd_md_map(e, s.x, dt), y = yd_md_map(e, s.y, dt), bias = md_bias(&s),
                       w = md_weights(&s, dnnl_f32, dnnl_format_tag_any);
    dnnl_convolution_desc_t desc;
    dnnl_status_t st = dnnl_convolution_backward_weights_desc_init(
        &desc, dnnl_convolution_direct, &x, &w, db == YD_NONE ? NULL : &bias, &y, s.strides, s.pads, s.pads);
    rc = yd_dnnl_check(e, op, "convolution_backward_weights_desc_init", st, err);
    if (!rc) rc = gradient_primitive(e, op, &s, dt, p, &desc, err);
    if (!rc) rc = yd_prim_bind(e, op, p, DNNL_ARG_SRC, &x, x_buf, err);
    if (!rc) rc = yd_prim_bind(e, op, p, DNNL_ARG_DIFF_DST, &y, dy, err);
    if (!rc && db != YD_NONE) rc = yd_prim_bind(e, op, p, DNNL_ARG_DIFF_BIAS, &bias, db, err);
    return rc ? rc : bind_weight_gradient(e, op, &s, p, err);
}
