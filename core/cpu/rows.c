// Products over blocks of rows: see rows.h.
//
// A product is one matmul primitive, made while OpenMP is told of one thread, so that its kernels are not cut for more. Each seat has
// memory objects and scratch of its own; packed weights are shared and only read. oneDNN's reference code is refused.
#include "core/cpu/rows.h"

#include "core/mem.h"

#include <dnnl.h>
#include <omp.h>
#include <string.h>

#define SCRATCH_MAX ((size_t)64 << 20) // a primitive that wants more is not made for this

typedef struct seat_scratch {
    void *data;
    size_t bytes;
} seat_scratch;

struct yd_rows {
    dnnl_engine_t engine;
    int seats;
    dnnl_stream_t *stream;
    seat_scratch *scratch;
};

typedef struct operands {
    dnnl_memory_t x, b, y, scratch;
} operands;

struct yd_product {
    yd_rows *rows;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t prim;
    operands *seat;
    int in, out;
};

struct yd_packed_memory {
    void *w;
    float *bias;
    dnnl_memory_t w_memory, bias_memory;
};

static int check(dnnl_status_t s, const char *call, yd_err *err)
{
    if (s == dnnl_success) return 0;
    if (s == dnnl_out_of_memory) return yd_fail(err, YD_E_NOMEM, "no memory for a matrix product (%s)", call);
    return yd_fail(err, YD_E_DEVICE, "oneDNN: %s of a matrix product failed with status %d", call, (int)s);
}

// ---- what all products share

void yd_rows_free(yd_rows *r)
{
    if (!r) return;
    for (int i = 0; i < r->seats; i++) {
        if (r->stream && r->stream[i]) dnnl_stream_destroy(r->stream[i]);
        if (r->scratch) yd_free_aligned(r->scratch[i].data);
    }
    yd_free(r->stream);
    yd_free(r->scratch);
    if (r->engine) dnnl_engine_destroy(r->engine);
    yd_free(r);
}

int yd_rows_new(int seats, yd_rows **out, yd_err *err)
{
    yd_rows *r = yd_calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return yd_fail(err, YD_E_NOMEM, "no memory for matrix products");
    r->seats = seats;
    r->stream = yd_calloc((size_t)seats, sizeof(dnnl_stream_t));
    r->scratch = yd_calloc((size_t)seats, sizeof *r->scratch);
    int rc = r->stream && r->scratch ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for matrix products");
    if (!rc) rc = check(dnnl_engine_create(&r->engine, dnnl_cpu, 0), "engine_create", err);
    for (int i = 0; i < seats && !rc; i++)
        rc = check(dnnl_stream_create(&r->stream[i], r->engine, dnnl_stream_in_order), "stream_create", err);
    if (rc)
        yd_rows_free(r);
    else
        *out = r;
    return rc;
}

static int grow_scratch(yd_rows *r, size_t bytes, yd_err *err)
{
    if (bytes > SCRATCH_MAX) return yd_fail(err, YD_E_UNSUPPORTED, "a matrix product wants %zu bytes of scratch", bytes);
    for (int i = 0; i < r->seats; i++) {
        seat_scratch *s = &r->scratch[i];
        if (bytes <= s->bytes) continue;
        void *data = yd_alloc_aligned(bytes);
        if (!data) return yd_fail(err, YD_E_NOMEM, "no memory for the scratch of a matrix product");
        yd_free_aligned(s->data);
        *s = (seat_scratch){data, bytes};
    }
    return 0;
}

// ---- making a product

typedef struct shapes {
    dnnl_memory_desc_t x, b, bias, y;
} shapes;

static int strided(dnnl_memory_desc_t *md, int rows, int cols, int row, int col, yd_err *err)
{
    return check(dnnl_memory_desc_init_by_strides(md, 2, (dnnl_dims_t){rows, cols}, dnnl_f32, (dnnl_dims_t){row, col}), "memory_desc_init",
                 err);
}

static int choose(yd_product *p, const shapes *s, int with_bias, yd_product_end end, yd_err *err)
{
    dnnl_matmul_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t st = dnnl_matmul_desc_init(&desc, &s->x, &s->b, with_bias ? &s->bias : NULL, &s->y);
    if (!st) st = dnnl_primitive_attr_create(&attr);
    if (!st) st = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!st) st = dnnl_post_ops_create(&ops);
    if (!st && end == YD_PRODUCT_GELU) st = dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_gelu_erf, 0.0f, 0.0f);
    if (!st && end == YD_PRODUCT_ADD) st = dnnl_post_ops_append_sum(ops, 1.0f);
    if (!st) st = dnnl_primitive_attr_set_post_ops(attr, ops);
    if (!st) st = dnnl_primitive_desc_create(&p->desc, &desc, attr, p->rows->engine, NULL);
    dnnl_post_ops_destroy(ops);
    dnnl_primitive_attr_destroy(attr);
    int rc = check(st, "matmul", err);
    if (rc) return rc;
    const char *impl = NULL;
    dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &impl);
    if (impl && strstr(impl, "ref"))
        return yd_fail(err, YD_E_UNSUPPORTED, "oneDNN offers only its reference code (%s) for %d x %d x %d", impl, YD_ROWS, p->in, p->out);
    return check(dnnl_primitive_create(&p->prim, p->desc), "primitive_create", err);
}

static int make_operands(yd_product *p, const shapes *s, int layer, yd_err *err)
{
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    const dnnl_engine_t engine = p->rows->engine;
    const size_t bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    p->seat = yd_calloc((size_t)p->rows->seats, sizeof *p->seat);
    if (!p->seat) return yd_fail(err, YD_E_NOMEM, "no memory for a matrix product");
    int rc = grow_scratch(p->rows, bytes, err);
    for (int i = 0; i < p->rows->seats && !rc; i++) {
        operands *o = &p->seat[i];
        dnnl_status_t st = dnnl_memory_create(&o->x, &s->x, engine, DNNL_MEMORY_NONE);
        if (!st) st = dnnl_memory_create(&o->y, &s->y, engine, DNNL_MEMORY_NONE);
        if (!st && !layer) st = dnnl_memory_create(&o->b, &s->b, engine, DNNL_MEMORY_NONE);
        if (!st && bytes) st = dnnl_memory_create(&o->scratch, scratch, engine, DNNL_MEMORY_NONE);
        rc = check(st, "memory_create", err);
    }
    return rc;
}

static int make(yd_rows *r, int in, int out, const shapes *s, int layer, yd_product_end end, yd_product **out_p, yd_err *err)
{
    yd_product *p = yd_calloc(1, sizeof *p);
    *out_p = NULL;
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for a matrix product");
    p->rows = r;
    p->in = in;
    p->out = out;
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    int rc = choose(p, s, layer, end, err);
    omp_set_num_threads(threads);
    if (!rc) rc = make_operands(p, s, layer, err);
    if (rc)
        yd_product_free(p);
    else
        *out_p = p;
    return rc;
}

int yd_product_new_layer(yd_rows *r, int in, int out, int x_row, int y_row, yd_product_end end, yd_product **p, yd_err *err)
{
    shapes s;
    int rc = strided(&s.x, YD_ROWS, in, x_row, 1, err);
    if (!rc) rc = strided(&s.y, YD_ROWS, out, y_row, 1, err);
    if (!rc)
        rc = check(dnnl_memory_desc_init_by_tag(&s.b, 2, (dnnl_dims_t){in, out}, dnnl_f32, dnnl_format_tag_any), "memory_desc_init", err);
    if (!rc) rc = check(dnnl_memory_desc_init_by_tag(&s.bias, 2, (dnnl_dims_t){1, out}, dnnl_f32, dnnl_ab), "memory_desc_init", err);
    return rc ? rc : make(r, in, out, &s, 1, end, p, err);
}

int yd_product_new(yd_rows *r, int in, int out, int x_row, int b_in, int b_out, int y_row, yd_product **p, yd_err *err)
{
    shapes s;
    int rc = strided(&s.x, YD_ROWS, in, x_row, 1, err);
    if (!rc) rc = strided(&s.b, in, out, b_in, b_out, err);
    if (!rc) rc = strided(&s.y, YD_ROWS, out, y_row, 1, err);
    return rc ? rc : make(r, in, out, &s, 0, YD_PRODUCT_PLAIN, p, err);
}

void yd_product_free(yd_product *p)
{
    if (!p) return;
    for (int i = 0; p->seat && i < p->rows->seats; i++) {
        dnnl_memory_t all[] = {p->seat[i].x, p->seat[i].b, p->seat[i].y, p->seat[i].scratch};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (all[k]) dnnl_memory_destroy(all[k]);
    }
    yd_free(p->seat);
    if (p->prim) dnnl_primitive_destroy(p->prim);
    if (p->desc) dnnl_primitive_desc_destroy(p->desc);
    yd_free(p);
}

// ---- weights

void yd_packed_clear(yd_packed *w)
{
    if (w->memory) {
        if (w->memory->w_memory) dnnl_memory_destroy(w->memory->w_memory);
        if (w->memory->bias_memory) dnnl_memory_destroy(w->memory->bias_memory);
        yd_free_aligned(w->memory->w);
        yd_free_aligned(w->memory->bias);
        yd_free(w->memory);
    }
    *w = (yd_packed){0};
}

// W as it lies in a checkpoint, into the product's layout. oneDNN only reads what a reorder's source points at.
static dnnl_status_t reorder(yd_rows *r, const yd_product *p, const dnnl_memory_desc_t *md, const float *w, dnnl_memory_t to)
{
    dnnl_memory_desc_t plain;
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t prim = NULL;
    dnnl_status_t st = dnnl_memory_desc_init_by_tag(&plain, 2, (dnnl_dims_t){p->in, p->out}, dnnl_f32, dnnl_ba);
    if (!st) st = dnnl_memory_create(&from, &plain, r->engine, (void *)w);
    if (!st) st = dnnl_reorder_primitive_desc_create(&desc, &plain, r->engine, md, r->engine, NULL);
    if (!st) st = dnnl_primitive_create(&prim, desc);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    if (!st) st = dnnl_primitive_execute(prim, r->stream[0], 2, args);
    if (!st) st = dnnl_stream_wait(r->stream[0]);
    if (prim) dnnl_primitive_destroy(prim);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (from) dnnl_memory_destroy(from);
    return st;
}

int yd_packed_make(yd_rows *r, const yd_product *p, const float *w, const float *bias, yd_packed *out, yd_err *err)
{
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0);
    const dnnl_memory_desc_t *bias_md = dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 1);
    const size_t bytes = dnnl_memory_desc_get_size(md), bias_bytes = (size_t)p->out * sizeof *bias;
    *out = (yd_packed){.memory = yd_calloc(1, sizeof *out->memory), .bytes = bytes + bias_bytes};
    struct yd_packed_memory *m = out->memory;
    if (m) m->w = yd_alloc_aligned(bytes);
    if (m) m->bias = yd_alloc_aligned(bias_bytes);
    int rc = m && m->w && m->bias ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for weights of %zu bytes", bytes);
    if (!rc) {
        memcpy(m->bias, bias, bias_bytes);
        dnnl_status_t st = dnnl_memory_create(&m->w_memory, md, r->engine, m->w);
        if (!st) st = dnnl_memory_create(&m->bias_memory, bias_md, r->engine, m->bias);
        if (!st) st = reorder(r, p, md, w, m->w_memory);
        rc = check(st, "reorder", err);
    }
    if (rc) yd_packed_clear(out);
    return rc;
}

// ---- running

void yd_rows_alone(void)
{
    omp_set_num_threads(1);
}

static int execute(const yd_product *p, int seat, const float *x, dnnl_memory_t b, dnnl_memory_t bias, float *y)
{
    const operands *o = &p->seat[seat];
    dnnl_exec_arg_t args[5] = {{DNNL_ARG_SRC, o->x}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, o->y}};
    int n = 3;
    dnnl_status_t st = dnnl_memory_set_data_handle(o->x, (void *)x);
    if (!st) st = dnnl_memory_set_data_handle(o->y, y);
    if (bias) args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, bias};
    if (!st && o->scratch) {
        st = dnnl_memory_set_data_handle(o->scratch, p->rows->scratch[seat].data);
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, o->scratch};
    }
    if (!st) st = dnnl_primitive_execute(p->prim, p->rows->stream[seat], n, args);
    return st ? -1 : 0;
}

int yd_product_run_layer(const yd_product *p, int seat, const float *x, const yd_packed *w, float *y)
{
    return execute(p, seat, x, w->memory->w_memory, w->memory->bias_memory, y);
}

int yd_product_run(const yd_product *p, int seat, const float *x, const float *b, float *y)
{
    if (dnnl_memory_set_data_handle(p->seat[seat].b, (void *)b)) return -1;
    return execute(p, seat, x, p->seat[seat].b, NULL, y);
}
