// See conv2d.h. Setting describes the maps, lets oneDNN choose a kernel and brings the filter into that kernel's layout, through one copy
// in checkpoint layout that is gone afterwards.
#include "core/cpu/conv2d.h"

#include "core/mem.h"

#include <string.h>

static int check(dnnl_status_t s, const char *call, yd_err *err)
{
    if (s == dnnl_success) return YD_OK;
    if (s == dnnl_out_of_memory) return yd_fail(err, YD_E_NOMEM, "no memory for a convolution (%s)", call);
    return yd_fail(err, YD_E_DEVICE, "oneDNN: %s failed with status %d", call, (int)s);
}

int yd_conv2d_device_open(yd_conv2d_device *d, yd_err *err)
{
    *d = (yd_conv2d_device){NULL, NULL};
    int rc = check(dnnl_engine_create(&d->engine, dnnl_cpu, 0), "engine_create", err);
    if (!rc) rc = check(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_in_order), "stream_create", err);
    if (rc) yd_conv2d_device_close(d);
    return rc;
}

void yd_conv2d_device_close(yd_conv2d_device *d)
{
    dnnl_stream_destroy(d->stream);
    dnnl_engine_destroy(d->engine);
    *d = (yd_conv2d_device){NULL, NULL};
}

// Everything but the packed filter.
static void drop_primitive(yd_conv2d *c)
{
    dnnl_memory_destroy(c->from);
    dnnl_memory_destroy(c->to);
    dnnl_memory_destroy(c->bias);
    dnnl_memory_destroy(c->weight);
    dnnl_primitive_destroy(c->prim);
    c->from = c->to = c->bias = c->weight = NULL;
    c->prim = NULL;
}

void yd_conv2d_clear(yd_conv2d *c)
{
    drop_primitive(c);
    yd_free_aligned(c->packed);
    *c = (yd_conv2d){0};
}

// ---- choosing a kernel

typedef struct descs {
    dnnl_memory_desc_t x, weight, bias, y;
} descs;

static int describe(const yd_conv2d_shape *s, descs *md, yd_err *err)
{
    dnnl_dims_t x = {s->n, s->in_c, s->h, s->w}, y = {s->n, s->c, s->out_h, s->out_w}, bias = {s->c},
                weight = {s->c, s->in_c, s->k[0], s->k[1]};
    dnnl_status_t st = dnnl_memory_desc_init_by_tag(&md->x, 4, x, dnnl_f32, dnnl_nhwc);
    if (!st) st = dnnl_memory_desc_init_by_tag(&md->y, 4, y, dnnl_f32, dnnl_nhwc);
    if (!st) st = dnnl_memory_desc_init_by_tag(&md->bias, 1, bias, dnnl_f32, dnnl_a);
    if (!st) st = dnnl_memory_desc_init_by_tag(&md->weight, 4, weight, dnnl_f32, dnnl_format_tag_any);
    return check(st, "memory_desc_init_by_tag", err);
}

static int choose_forward(const yd_conv2d_device *d, const yd_conv2d_shape *s, const descs *md, int biased, int relu,
                          dnnl_primitive_desc_t *out, yd_err *err)
{
    dnnl_dims_t strides = {s->stride, s->stride}, pads = {s->pad[0], s->pad[1]};
    dnnl_convolution_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    dnnl_status_t st = dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &md->x, &md->weight,
                                                          biased ? &md->bias : NULL, &md->y, strides, pads, pads);
    if (!st) st = dnnl_primitive_attr_create(&attr);
    if (!st) st = dnnl_post_ops_create(&post);
    if (!st && relu) st = dnnl_post_ops_append_eltwise(post, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (!st) st = dnnl_primitive_attr_set_post_ops(attr, post);
    if (!st) st = dnnl_primitive_desc_create(out, &desc, attr, d->engine, NULL);
    dnnl_post_ops_destroy(post);
    dnnl_primitive_attr_destroy(attr);
    return check(st, "convolution", err);
}

static int choose_gradient(const yd_conv2d_device *d, const yd_conv2d_shape *s, const descs *md, dnnl_primitive_desc_t *out, yd_err *err)
{
    dnnl_dims_t strides = {s->stride, s->stride}, pads = {s->pad[0], s->pad[1]};
    dnnl_convolution_desc_t forward, desc;
    dnnl_primitive_desc_t hint = NULL;
    dnnl_status_t st = dnnl_convolution_forward_desc_init(&forward, dnnl_forward_training, dnnl_convolution_direct, &md->x, &md->weight,
                                                          NULL, &md->y, strides, pads, pads);
    if (!st) st = dnnl_primitive_desc_create(&hint, &forward, NULL, d->engine, NULL);
    if (!st)
        st = dnnl_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &md->x, &md->weight, &md->y, strides, pads, pads);
    if (!st) st = dnnl_primitive_desc_create(out, &desc, NULL, d->engine, hint);
    dnnl_primitive_desc_destroy(hint);
    return check(st, "convolution gradient", err);
}

// ---- the filter

static float part_of(double v, yd_conv2d_part part)
{
    const float x = (float)v;
    switch (part) {
    case YD_CONV2D_MAGNITUDE:
        return x < 0.0f ? -x : x;
    case YD_CONV2D_POSITIVE:
        return x > 0.0f ? x : 0.0f;
    case YD_CONV2D_NEGATIVE:
        return x < 0.0f ? x : 0.0f;
    case YD_CONV2D_SIGNED:
        break;
    }
    return x;
}

// The filter in checkpoint layout: the weights themselves where nothing is done to them, otherwise a new array, also at *made.
static const float *plain_filter(const yd_conv2d_shape *s, const yd_conv2d_filter *f, float **made)
{
    *made = NULL;
    if (!f->scale && f->part == YD_CONV2D_SIGNED) return f->weight;
    const size_t per = (size_t)s->in_c * (size_t)s->k[0] * (size_t)s->k[1];
    float *out = *made = yd_calloc((size_t)s->c * per, sizeof *out);
    for (size_t o = 0; out && o < (size_t)s->c; o++)
        for (size_t i = 0; i < per; i++)
            out[o * per + i] = part_of((f->scale ? f->scale[o] : 1.0) * (double)f->weight[o * per + i], f->part);
    return out;
}

static int reorder(const yd_conv2d_device *d, const float *plain, const dnnl_memory_desc_t *md, void *packed, yd_err *err)
{
    dnnl_memory_desc_t own;
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t prim = NULL;
    // oneDNN only reads what a reorder's source points at.
    dnnl_status_t st = dnnl_memory_desc_init_by_tag(&own, 4, md->dims, dnnl_f32, dnnl_oihw);
    if (!st) st = dnnl_memory_create(&from, &own, d->engine, (void *)plain);
    if (!st) st = dnnl_memory_create(&to, md, d->engine, packed);
    if (!st) st = dnnl_reorder_primitive_desc_create(&desc, &own, d->engine, md, d->engine, NULL);
    if (!st) st = dnnl_primitive_create(&prim, desc);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    if (!st) st = dnnl_primitive_execute(prim, d->stream, 2, args);
    if (!st) st = dnnl_stream_wait(d->stream);
    dnnl_primitive_destroy(prim);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(from);
    dnnl_memory_destroy(to);
    return check(st, "reorder", err);
}

static int pack(yd_conv2d *c, const yd_conv2d_device *d, const yd_conv2d_shape *s, const yd_conv2d_filter *f, const dnnl_memory_desc_t *md,
                yd_err *err)
{
    if (c->packed && dnnl_memory_desc_equal(&c->layout, md)) return YD_OK;
    if (!f->weight) return yd_fail(err, YD_E_INTERNAL, "a convolution's weights are gone");
    yd_free_aligned(c->packed);
    c->bytes = dnnl_memory_desc_get_size(md);
    c->layout = *md;
    c->packed = yd_alloc_aligned(c->bytes);
    if (!c->packed) return yd_fail(err, YD_E_NOMEM, "no memory for weights of %zu bytes", c->bytes);
    float *made;
    const float *plain = plain_filter(s, f, &made);
    const int rc =
        plain ? reorder(d, plain, md, c->packed, err) : yd_fail(err, YD_E_NOMEM, "no memory to scale weights of %zu bytes", c->bytes);
    yd_free(made);
    if (rc) {
        yd_free_aligned(c->packed);
        c->packed = NULL;
    }
    return rc;
}

// ---- setting and running

int yd_conv2d_set(yd_conv2d *c, const yd_conv2d_device *d, const yd_conv2d_shape *s, yd_conv2d_way way, const yd_conv2d_filter *f,
                  yd_err *err)
{
    const int gradient = way == YD_CONV2D_GRADIENT, biased = !gradient && f->bias != NULL;
    descs md;
    dnnl_primitive_desc_t desc = NULL;
    drop_primitive(c);
    c->way = way;
    int rc = describe(s, &md, err);
    if (!rc) rc = gradient ? choose_gradient(d, s, &md, &desc, err) : choose_forward(d, s, &md, biased, way == YD_CONV2D_RELU, &desc, err);
    if (!rc) rc = pack(c, d, s, f, dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0), err);
    if (!rc) rc = check(dnnl_primitive_create(&c->prim, desc), "primitive_create", err);
    if (!rc) rc = check(dnnl_memory_create(&c->weight, &c->layout, d->engine, c->packed), "memory_create", err);
    if (!rc && biased) rc = check(dnnl_memory_create(&c->bias, &md.bias, d->engine, (void *)f->bias), "memory_create", err);
    if (!rc) rc = check(dnnl_memory_create(&c->from, gradient ? &md.y : &md.x, d->engine, DNNL_MEMORY_NONE), "memory_create", err);
    if (!rc) rc = check(dnnl_memory_create(&c->to, gradient ? &md.x : &md.y, d->engine, DNNL_MEMORY_NONE), "memory_create", err);
    dnnl_primitive_desc_destroy(desc);
    if (rc) drop_primitive(c);
    return rc;
}

int yd_conv2d_run(const yd_conv2d *c, const yd_conv2d_device *d, const float *from, float *to, yd_err *err)
{
    const int gradient = c->way == YD_CONV2D_GRADIENT;
    dnnl_exec_arg_t args[] = {
        {gradient ? DNNL_ARG_DIFF_DST : DNNL_ARG_SRC, c->from},
        {DNNL_ARG_WEIGHTS, c->weight},
        {gradient ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST, c->to},
        {DNNL_ARG_BIAS, c->bias},
    };
    // oneDNN only reads what comes from `from`.
    dnnl_status_t st = dnnl_memory_set_data_handle(c->from, (void *)from);
    if (!st) st = dnnl_memory_set_data_handle(c->to, to);
    if (!st) st = dnnl_primitive_execute(c->prim, d->stream, c->bias ? 4 : 3, args);
    if (!st) st = dnnl_stream_wait(d->stream);
    return check(st, "primitive_execute", err);
}
