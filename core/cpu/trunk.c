// Runs a trunk (trunk.h): one oneDNN convolution per CONV step, own loops for pooling and joining.
//
// Owns an engine and a stream of its own, per convolution a primitive and its weights in the layout that the primitive asked for, and
// the slots in which maps live. prepare() walks the steps as run() will: a step takes a free slot for its map and gives back those
// of maps that nobody reads later, so a slot is as large as the largest map that it will hold.
#include "core/cpu/trunk.h"

#include "core/mem.h"
#include "core/simd.h"

#include <dnnl.h>
#include <string.h>

enum { MAX_SLOTS = 10, MAX_MAPS = YD_TRUNK_MAX_STEPS + 1 };

typedef struct map {
    int h, w, c;
    int last; // the last step that reads it
    int slot;
} map;

typedef struct conv {
    dnnl_primitive_t prim;
    dnnl_memory_t src, weight, bias, dst;
    void *packed; // the weights as the primitive wants them
} conv;

typedef struct slot {
    float *data;
    size_t bytes, capacity; // wanted now; allocated
    int busy;
} slot;

struct yd_trunk {
    yd_trunk_step steps[YD_TRUNK_MAX_STEPS];
    int n_steps;
    int n, h, w; // prepared for; n = 0: for nothing
    map maps[MAX_MAPS];
    conv convs[YD_TRUNK_MAX_STEPS];
    slot slots[MAX_SLOTS];
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

static int check(dnnl_status_t s, const char *call, yd_err *err)
{
    if (s == dnnl_success) return YD_OK;
    if (s == dnnl_out_of_memory) return yd_fail(err, YD_E_NOMEM, "no memory for a convolution (%s)", call);
    return yd_fail(err, YD_E_DEVICE, "oneDNN: %s failed with status %d", call, (int)s);
}

int yd_trunk_side(const yd_trunk_step *step, int side, int axis)
{
    if (step->kind == YD_TRUNK_JOIN) return side;
    int room = side + 2 * step->pad[axis] - step->k[axis] + (step->ceil ? step->stride - 1 : 0);
    if (room < 0) return 0;
    int out = room / step->stride + 1;
    if (step->ceil && (out - 1) * step->stride >= side + step->pad[axis]) out--; // a window must begin inside
    return out;
}

// ---- making and freeing

static void drop_conv(conv *c)
{
    dnnl_memory_destroy(c->src);
    dnnl_memory_destroy(c->weight);
    dnnl_memory_destroy(c->bias);
    dnnl_memory_destroy(c->dst);
    dnnl_primitive_destroy(c->prim);
    yd_free_aligned(c->packed);
    *c = (conv){0};
}

void yd_trunk_free(yd_trunk *t)
{
    if (!t) return;
    for (int i = 0; i < t->n_steps; i++) drop_conv(&t->convs[i]);
    for (int i = 0; i < MAX_SLOTS; i++) yd_free_aligned(t->slots[i].data);
    dnnl_stream_destroy(t->stream);
    dnnl_engine_destroy(t->engine);
    yd_free(t);
}

int yd_trunk_new(const yd_trunk_step *steps, int n_steps, yd_trunk **out, yd_err *err)
{
    if (n_steps < 1 || n_steps > YD_TRUNK_MAX_STEPS)
        return yd_fail(err, YD_E_INVALID, "a trunk has 1 to %d steps, not %d", YD_TRUNK_MAX_STEPS, n_steps);
    yd_trunk *t = yd_calloc(1, sizeof *t);
    if (!t) return yd_fail(err, YD_E_NOMEM, "no memory for a trunk of %d steps", n_steps);
    memcpy(t->steps, steps, (size_t)n_steps * sizeof *steps);
    t->n_steps = n_steps;
    for (int i = 0; i < n_steps; i++)
        for (int j = 0; j < steps[i].n_from; j++) t->maps[steps[i].from[j]].last = i;
    int rc = check(dnnl_engine_create(&t->engine, dnnl_cpu, 0), "engine_create", err);
    if (!rc) rc = check(dnnl_stream_create(&t->stream, t->engine, dnnl_stream_in_order), "stream_create", err);
    if (rc) {
        yd_trunk_free(t);
        return rc;
    }
    *out = t;
    return YD_OK;
}

// ---- storage

static int map_bytes(const yd_trunk *t, const map *m, size_t *bytes)
{
    size_t size = (size_t)t->n * sizeof(float);
    return yd_mul_size(size, (size_t)m->h, &size) || yd_mul_size(size, (size_t)m->w, &size) ||
           yd_mul_size(size, (size_t)m->c, bytes);
}

static int take_slot(yd_trunk *t, map *m, yd_err *err)
{
    size_t bytes;
    if (map_bytes(t, m, &bytes))
        return yd_fail(err, YD_E_NOMEM, "a map of %d x %d x %d is too large", m->h, m->w, m->c);
    for (int i = 0; i < MAX_SLOTS; i++) {
        slot *s = &t->slots[i];
        if (s->busy) continue;
        s->busy = 1;
        if (bytes > s->bytes) s->bytes = bytes;
        m->slot = i;
        return YD_OK;
    }
    return yd_fail(err, YD_E_INTERNAL, "a trunk keeps more than %d maps at once", MAX_SLOTS);
}

static int plan_maps(yd_trunk *t, yd_err *err)
{
    for (int i = 0; i < MAX_SLOTS; i++) t->slots[i].busy = 0, t->slots[i].bytes = 0;
    t->maps[0].h = t->h, t->maps[0].w = t->w, t->maps[0].c = t->steps[0].in_c;
    int rc = take_slot(t, &t->maps[0], err);
    for (int i = 0; i < t->n_steps && !rc; i++) {
        const yd_trunk_step *s = &t->steps[i];
        const map *x = &t->maps[s->from[0]];
        map *y = &t->maps[i + 1];
        y->h = yd_trunk_side(s, x->h, 0);
        y->w = yd_trunk_side(s, x->w, 1);
        y->c = s->c;
        if (y->h < 1 || y->w < 1) return yd_fail(err, YD_E_INTERNAL, "step %d of the trunk has no pixels left", i);
        rc = take_slot(t, y, err);
        for (int m = 0; m <= i; m++)
            if (t->maps[m].last == i) t->slots[t->maps[m].slot].busy = 0;
    }
    return rc;
}

static int grow_slots(yd_trunk *t, yd_err *err)
{
    for (int i = 0; i < MAX_SLOTS; i++) {
        slot *s = &t->slots[i];
        if (s->bytes <= s->capacity) continue;
        yd_free_aligned(s->data);
        s->capacity = 0;
        s->data = yd_alloc_aligned(s->bytes);
        if (!s->data) return yd_fail(err, YD_E_NOMEM, "no memory for maps of %zu bytes", s->bytes);
        s->capacity = s->bytes;
    }
    return YD_OK;
}

static float *data_of(const yd_trunk *t, int m)
{
    return t->slots[t->maps[m].slot].data;
}

// ---- convolutions

typedef struct conv_mds {
    dnnl_memory_desc_t src, weight, bias, dst;
} conv_mds;

static int describe(const yd_trunk *t, const yd_trunk_step *s, const map *x, const map *y, conv_mds *md, yd_err *err)
{
    dnnl_dims_t src = {t->n, x->c, x->h, x->w}, dst = {t->n, y->c, y->h, y->w}, bias = {y->c},
                weight = {y->c, x->c, s->k[0], s->k[1]};
    dnnl_status_t st = dnnl_memory_desc_init_by_tag(&md->src, 4, src, dnnl_f32, dnnl_nhwc);
    if (!st) st = dnnl_memory_desc_init_by_tag(&md->dst, 4, dst, dnnl_f32, dnnl_nhwc);
    if (!st) st = dnnl_memory_desc_init_by_tag(&md->bias, 1, bias, dnnl_f32, dnnl_a);
    if (!st) st = dnnl_memory_desc_init_by_tag(&md->weight, 4, weight, dnnl_f32, dnnl_format_tag_any);
    return check(st, "memory_desc_init_by_tag", err);
}

static int choose(yd_trunk *t, const yd_trunk_step *s, const conv_mds *md, dnnl_primitive_desc_t *out, yd_err *err)
{
    dnnl_dims_t strides = {s->stride, s->stride}, pads = {s->pad[0], s->pad[1]};
    dnnl_convolution_desc_t desc;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t relu = NULL;
    dnnl_status_t st =
        dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct, &md->src,
                                           &md->weight, &md->bias, &md->dst, strides, pads, pads);
    if (!st) st = dnnl_primitive_attr_create(&attr);
    if (!st) st = dnnl_post_ops_create(&relu);
    if (!st) st = dnnl_post_ops_append_eltwise(relu, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f);
    if (!st) st = dnnl_primitive_attr_set_post_ops(attr, relu);
    if (!st) st = dnnl_primitive_desc_create(out, &desc, attr, t->engine, NULL);
    dnnl_post_ops_destroy(relu);
    dnnl_primitive_attr_destroy(attr);
    return check(st, "convolution", err);
}

// The weights in the layout `md`, at c->packed.
static int pack(yd_trunk *t, const yd_trunk_step *s, const dnnl_memory_desc_t *md, conv *c, yd_err *err)
{
    size_t bytes = dnnl_memory_desc_get_size(md);
    c->packed = yd_alloc_aligned(bytes);
    if (!c->packed) return yd_fail(err, YD_E_NOMEM, "no memory for weights of %zu bytes", bytes);
    dnnl_memory_desc_t plain;
    dnnl_memory_t from = NULL;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t reorder = NULL;
    // oneDNN only reads what a reorder's source points at.
    dnnl_status_t st = dnnl_memory_desc_init_by_tag(&plain, 4, md->dims, dnnl_f32, dnnl_oihw);
    if (!st) st = dnnl_memory_create(&from, &plain, t->engine, (void *)s->weight);
    if (!st) st = dnnl_memory_create(&c->weight, md, t->engine, c->packed);
    if (!st) st = dnnl_reorder_primitive_desc_create(&desc, &plain, t->engine, md, t->engine, NULL);
    if (!st) st = dnnl_primitive_create(&reorder, desc);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, c->weight}};
    if (!st) st = dnnl_primitive_execute(reorder, t->stream, 2, args);
    if (!st) st = dnnl_stream_wait(t->stream);
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(desc);
    dnnl_memory_destroy(from);
    return check(st, "reorder", err);
}

static int make_conv(yd_trunk *t, int i, yd_err *err)
{
    const yd_trunk_step *s = &t->steps[i];
    conv *c = &t->convs[i];
    conv_mds md;
    dnnl_primitive_desc_t desc = NULL;
    int rc = describe(t, s, &t->maps[s->from[0]], &t->maps[i + 1], &md, err);
    if (!rc) rc = choose(t, s, &md, &desc, err);
    if (!rc) rc = pack(t, s, dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0), c, err);
    if (!rc) rc = check(dnnl_primitive_create(&c->prim, desc), "primitive_create", err);
    if (!rc) rc = check(dnnl_memory_create(&c->src, &md.src, t->engine, data_of(t, s->from[0])), "memory_create", err);
    if (!rc) rc = check(dnnl_memory_create(&c->bias, &md.bias, t->engine, (void *)s->bias), "memory_create", err);
    if (!rc) rc = check(dnnl_memory_create(&c->dst, &md.dst, t->engine, data_of(t, i + 1)), "memory_create", err);
    dnnl_primitive_desc_destroy(desc);
    return rc;
}

int yd_trunk_prepare(yd_trunk *t, int n, int h, int w, yd_err *err)
{
    if (t->n == n && t->h == h && t->w == w) return YD_OK;
    for (int i = 0; i < t->n_steps; i++) drop_conv(&t->convs[i]);
    t->n = n, t->h = h, t->w = w;
    int rc = plan_maps(t, err);
    if (!rc) rc = grow_slots(t, err);
    for (int i = 0; i < t->n_steps && !rc; i++)
        if (t->steps[i].kind == YD_TRUNK_CONV) rc = make_conv(t, i, err);
    if (rc) t->n = 0;
    return rc;
}

float *yd_trunk_input(yd_trunk *t)
{
    return data_of(t, 0);
}

// ---- running

static int run_conv(yd_trunk *t, int i, yd_err *err)
{
    const conv *c = &t->convs[i];
    dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, c->src}, {DNNL_ARG_WEIGHTS, c->weight}, {DNNL_ARG_BIAS, c->bias}, {DNNL_ARG_DST, c->dst}};
    int rc = check(dnnl_primitive_execute(c->prim, t->stream, 4, args), "primitive_execute", err);
    return rc ? rc : check(dnnl_stream_wait(t->stream), "stream_wait", err);
}

YD_SIMD static void keep_larger(float *restrict y, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

YD_SIMD static void add_to(float *restrict y, const float *restrict x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

YD_SIMD static void divide(float *restrict y, float by, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] /= by;
}

// Where window i of a step begins and ends along an axis, cut to what lies inside.
static void window(const yd_trunk_step *s, int i, int side, int axis, int *from, int *to)
{
    int start = i * s->stride - s->pad[axis], end = start + s->k[axis];
    *from = start > 0 ? start : 0;
    *to = end < side ? end : side;
}

// One pixel of a pooled map: the maximum or the mean over the part of its window that lies inside.
static void pool_pixel(const yd_trunk_step *s, const map *x, const float *in, int row, int col, float *out)
{
    size_t c = (size_t)x->c;
    int y0, y1, x0, x1;
    window(s, row, x->h, 0, &y0, &y1);
    window(s, col, x->w, 1, &x0, &x1);
    for (int py = y0; py < y1; py++)
        for (int px = x0; px < x1; px++) {
            const float *at = in + ((size_t)py * (size_t)x->w + (size_t)px) * c;
            if (py == y0 && px == x0) memcpy(out, at, c * sizeof *out);
            else if (s->kind == YD_TRUNK_MAX) keep_larger(out, at, c);
            else add_to(out, at, c);
        }
    if (s->kind == YD_TRUNK_MEAN) divide(out, (float)((y1 - y0) * (x1 - x0)), c);
}

static void run_pool(yd_trunk *t, int i)
{
    const yd_trunk_step *s = &t->steps[i];
    const map *x = &t->maps[s->from[0]], *y = &t->maps[i + 1];
    const float *in = data_of(t, s->from[0]);
    float *out = data_of(t, i + 1);
    size_t in_map = (size_t)x->h * (size_t)x->w * (size_t)x->c, c = (size_t)y->c;
#pragma omp parallel for schedule(static)
    for (int row = 0; row < t->n * y->h; row++)
        for (int col = 0; col < y->w; col++)
            pool_pixel(s, x, in + (size_t)(row / y->h) * in_map, row % y->h, col,
                       out + ((size_t)row * (size_t)y->w + (size_t)col) * c);
}

static void run_join(yd_trunk *t, int i)
{
    const yd_trunk_step *s = &t->steps[i];
    const map *y = &t->maps[i + 1];
    size_t w = (size_t)y->w, all = (size_t)y->c, before = 0;
    float *out = data_of(t, i + 1);
    for (int part = 0; part < s->n_from; part++) {
        const float *from = data_of(t, s->from[part]);
        size_t c = (size_t)t->maps[s->from[part]].c;
#pragma omp parallel for schedule(static)
        for (int row = 0; row < t->n * y->h; row++)
            for (size_t p = (size_t)row * w; p < ((size_t)row + 1) * w; p++)
                memcpy(out + p * all + before, from + p * c, c * sizeof *out);
        before += c;
    }
}

int yd_trunk_run(yd_trunk *t, yd_trunk_tap *tap, void *context, yd_err *err)
{
    int rc = YD_OK;
    for (int i = 0; i < t->n_steps && !rc; i++) {
        switch (t->steps[i].kind) {
        case YD_TRUNK_CONV:
            rc = run_conv(t, i, err);
            break;
        case YD_TRUNK_MAX:
        case YD_TRUNK_MEAN:
            run_pool(t, i);
            break;
        case YD_TRUNK_JOIN:
            run_join(t, i);
            break;
        }
        const map *y = &t->maps[i + 1];
        if (!rc && t->steps[i].tap >= 0) tap(context, t->steps[i].tap, data_of(t, i + 1), t->n, y->h, y->w, y->c);
    }
    return rc;
}
