// Parameters on the CPU: f32 masters in checkpoint layout, and working copies in the layouts the primitives want.
//
// All parameters of one part (weights, m, v, EMA) lie in one block, each starting on a cache line. A working copy is
// shared by every exec that wants the same layout. Masters carry a version that grows with each write; run()
// refreshes the copies that are behind, so writing is cheap and takes effect at the next run.
#include "core/cpu/cpu.h"
#include "core/cpu/wino.h"
#include "core/mem.h"
#include <string.h>
#include <sys/mman.h>

#define LINE_FLOATS 16 // a cache line
#define PAGE        4096
#define LARGE_COPY  ((size_t)4 << 20)
#define SPAN_FLOATS (1u << 15) // optimiser's unit of work: 128 KiB of each part

static const char *const part_names[] = {"weights", "first moments", "second moments", "moving averages"};

static int lay_out(yd_weights *w, const yd_graph *g, yd_err *err)
{
    for (int i = 0; i < w->n_params; i++) {
        const yd_tensor *t = &g->tensors[g->params[i]];
        yd_master *p = &w->params[i];
        memcpy(p->name, t->name, sizeof p->name);
        p->ndim = t->ndim;
        p->count = 1;
        p->version = 1;
        for (int d = 0; d < t->ndim; d++) {
            p->dims[d] = t->dims[d];
            if (t->dims[d] <= 0 || yd_mul_size(p->count, yd_sz(t->dims[d]), &p->count))
                return yd_fail(err, YD_E_INVALID, "parameter '%s': dimension %d is %d", t->name, d, t->dims[d]);
        }
        p->at = w->count;
        size_t padded;
        if (yd_add_size(p->count, LINE_FLOATS - 1, &padded) ||
            yd_add_size(w->count, padded / LINE_FLOATS * LINE_FLOATS, &w->count))
            return yd_fail(err, YD_E_NOMEM, "the parameters do not fit in memory");
        w->n_spans += (int)((p->count + SPAN_FLOATS - 1) / SPAN_FLOATS);
    }
    return 0;
}

static void cut_spans(yd_weights *w)
{
    int k = 0;
    for (int i = 0; i < w->n_params; i++)
        for (size_t at = 0; at < w->params[i].count; at += SPAN_FLOATS) {
            size_t left = w->params[i].count - at;
            w->spans[k++] = (yd_span){i, at, left < SPAN_FLOATS ? left : SPAN_FLOATS};
        }
}

static int allocate(yd_weights *w, int train, yd_err *err)
{
    size_t bytes;
    int parts = train ? 4 : 1;
    if (yd_mul_size(w->count, sizeof(float), &bytes)) goto fail;
    for (int k = 0; k < parts; k++) {
        w->part[k] = yd_alloc_aligned(bytes);
        if (!w->part[k]) goto fail;
    }
    if (!train) return 0;
    w->spans = yd_calloc(yd_sz(w->n_spans), sizeof *w->spans);
    w->square_sums = yd_calloc(yd_sz(w->n_spans), sizeof *w->square_sums);
    if (!w->spans || !w->square_sums) goto fail;
    cut_spans(w);
    return 0;
fail:
    return yd_fail(err, YD_E_NOMEM, "no memory for %zu parameters%s", w->count,
                   train ? " and the optimiser's state" : "");
}

int yd_cpu_weights_new(yd_backend *be, const yd_graph *g, const float *const *host, int train, yd_weights **out,
                       yd_err *err)
{
    *out = NULL;
    yd_weights *w = yd_calloc(1, sizeof *w);
    if (!w) return yd_fail(err, YD_E_NOMEM, "no memory for the weights");
    w->cpu = (yd_cpu *)be;
    w->n_params = g->n_params;
    w->params = yd_calloc(yd_sz(g->n_params), sizeof *w->params);
    int rc = w->params ? lay_out(w, g, err) : yd_fail(err, YD_E_NOMEM, "no memory for the weights");
    if (!rc) rc = allocate(w, train, err);
    if (rc) {
        yd_cpu_weights_free(w);
        return rc;
    }
    for (int i = 0; i < w->n_params; i++) {
        const yd_master *p = &w->params[i];
        memcpy(w->part[YD_W_PARAM] + p->at, host[i], p->count * sizeof(float));
        if (train) memcpy(w->part[YD_W_EMA] + p->at, host[i], p->count * sizeof(float));
    }
    *out = w;
    return 0;
}

void yd_cpu_weights_free(yd_weights *w)
{
    if (!w) return;
    while (w->copies) {
        w->copies->refs = 1;
        yd_copy_put(w, w->copies);
    }
    yd_levels_free(w);
    for (int k = 0; k < 4; k++) yd_free_aligned(w->part[k]);
    yd_free(w->spans);
    yd_free(w->square_sums);
    yd_free(w->params);
    yd_free(w);
}

static int locate(const yd_weights *w, yd_weights_part part, int param, float **at, yd_err *err)
{
    if (param < 0 || param >= w->n_params)
        return yd_fail(err, YD_E_INVALID, "parameter %d does not exist; there are %d", param, w->n_params);
    if ((int)part < 0 || (int)part > YD_W_EMA)
        return yd_fail(err, YD_E_INVALID, "there is no weights part %d", (int)part);
    if (!w->part[part])
        return yd_fail(err, YD_E_INVALID, "'%s' has no %s: the weights were not made for training",
                       w->params[param].name, part_names[part]);
    *at = w->part[part] + w->params[param].at;
    return 0;
}

int yd_cpu_weights_read(yd_weights *w, yd_weights_part part, int param, float *dst, yd_err *err)
{
    float *at = NULL;
    int rc = locate(w, part, param, &at, err);
    if (!rc) memcpy(dst, at, w->params[param].count * sizeof(float));
    return rc;
}

int yd_cpu_weights_write(yd_weights *w, yd_weights_part part, int param, const float *src, yd_err *err)
{
    float *at = NULL;
    int rc = locate(w, part, param, &at, err);
    if (rc) return rc;
    memcpy(at, src, w->params[param].count * sizeof(float));
    if (part == YD_W_PARAM) w->params[param].version++;
    return 0;
}

// Kernels stream through large copies: large pages spare them most of the address translation.
static void *alloc_copy(size_t bytes)
{
    void *p = yd_alloc_aligned(bytes);
    if (p && bytes >= LARGE_COPY) {
        uintptr_t from = ((uintptr_t)p + PAGE - 1) / PAGE * PAGE;
        madvise((void *)from, bytes - (from - (uintptr_t)p), MADV_HUGEPAGE); // advice: failure changes nothing
    }
    return p;
}

// Channels in and out of the convolution that a transformed copy serves.
static void copy_channels(const yd_master *p, const yd_copy *c, int *in, int *out)
{
    const int turned = c->form == YD_FORM_WINOGRAD_TURNED;
    *in = p->dims[!turned];
    *out = p->dims[turned];
}

static int copy_make_winograd(yd_weights *w, yd_copy *c, yd_err *err)
{
    const yd_master *p = &w->params[c->param];
    int in, out;
    copy_channels(p, c, &in, &out);
    c->bytes = yd_wino_weights_count(in, out) * sizeof(float);
    c->data = alloc_copy(c->bytes);
    return c->data ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a working copy of '%s'", p->name);
}

static int copy_make(yd_weights *w, yd_copy *c, yd_err *err)
{
    const yd_master *p = &w->params[c->param];
    if (c->form != YD_FORM_DNNL) return copy_make_winograd(w, c, err);
    float *master = w->part[YD_W_PARAM] + p->at;
    dnnl_memory_desc_t plain;
    dnnl_dims_t dims = {0};
    for (int d = 0; d < p->ndim; d++) dims[d] = p->dims[d];
    static const dnnl_format_tag_t tags[] = {dnnl_a, dnnl_ab, dnnl_abc, dnnl_abcd};
    dnnl_engine_t engine = w->cpu->engine;
    dnnl_status_t s = dnnl_memory_desc_init_by_tag(&plain, p->ndim, dims, dnnl_f32, tags[p->ndim - 1]);
    if (s == dnnl_success && c->slice.count) {
        dnnl_memory_desc_t whole = plain;
        dnnl_dims_t from = {0, c->slice.first};
        dims[1] = c->slice.count;
        s = dnnl_memory_desc_init_submemory(&plain, &whole, dims, from);
    }
    if (s != dnnl_success) goto fail;
    if (!c->slice.count && dnnl_memory_desc_equal(&plain, &c->md)) {
        c->version = UINT64_MAX; // the master itself: never behind
        s = dnnl_memory_create(&c->mem, &plain, engine, master);
        if (s != dnnl_success) goto fail;
        return 0;
    }
    c->bytes = dnnl_memory_desc_get_size(&c->md);
    c->data = alloc_copy(c->bytes);
    if (!c->data) return yd_fail(err, YD_E_NOMEM, "no memory for a working copy of '%s'", p->name);
    dnnl_primitive_desc_t desc = NULL;
    s = dnnl_memory_create(&c->mem, &c->md, engine, c->data);
    if (s == dnnl_success) s = dnnl_memory_create(&c->from, &plain, engine, master);
    if (s == dnnl_success) s = dnnl_reorder_primitive_desc_create(&desc, &plain, engine, &c->md, engine, NULL);
    if (s == dnnl_success) s = dnnl_primitive_create(&c->reorder, desc);
    if (desc) dnnl_primitive_desc_destroy(desc);
    if (s == dnnl_success) return 0;
fail:
    return yd_fail(err, s == dnnl_out_of_memory ? YD_E_NOMEM : YD_E_DEVICE,
                   "parameter '%s' cannot be brought into the kernel's layout (oneDNN status %d)", p->name, (int)s);
}

static int copy_matches(const yd_copy *c, int param, yd_slice slice, yd_form form, const dnnl_memory_desc_t *md)
{
    if (c->form != form || c->param != param || c->slice.first != slice.first || c->slice.count != slice.count)
        return 0;
    return form != YD_FORM_DNNL || dnnl_memory_desc_equal(&c->md, md);
}

yd_copy *yd_copy_get(yd_weights *w, int param, yd_slice slice, yd_form form, const dnnl_memory_desc_t *md, yd_err *err)
{
    for (yd_copy *c = w->copies; c; c = c->next)
        if (copy_matches(c, param, slice, form, md)) {
            c->refs++;
            return c;
        }
    yd_copy *c = yd_calloc(1, sizeof *c);
    if (!c) {
        yd_fail(err, YD_E_NOMEM, "no memory for a working copy of '%s'", w->params[param].name);
        return NULL;
    }
    *c = (yd_copy){.next = w->copies, .param = param, .refs = 1, .slice = slice, .form = form};
    if (md) c->md = *md;
    w->copies = c;
    if (copy_make(w, c, err)) {
        yd_copy_put(w, c);
        return NULL;
    }
    return c;
}

void yd_copy_put(yd_weights *w, yd_copy *c)
{
    if (--c->refs > 0) return;
    yd_copy **link = &w->copies;
    while (*link != c) link = &(*link)->next;
    *link = c->next;
    if (c->reorder) dnnl_primitive_destroy(c->reorder);
    if (c->from) dnnl_memory_destroy(c->from);
    if (c->mem) dnnl_memory_destroy(c->mem);
    yd_free_aligned(c->data);
    yd_free(c);
}

int yd_copy_refresh(yd_weights *w, yd_copy *c, yd_err *err)
{
    const yd_master *p = &w->params[c->param];
    const int transformed = c->form != YD_FORM_DNNL;
    if ((!c->reorder && !transformed) || c->version == p->version) return 0;
    if (transformed) {
        int in, out;
        copy_channels(p, c, &in, &out);
        yd_wino_weights(w->part[YD_W_PARAM] + p->at, in, out, c->form == YD_FORM_WINOGRAD_TURNED, c->data,
                        w->cpu->threads);
        c->version = p->version;
        return 0;
    }
    dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, c->from}, {DNNL_ARG_TO, c->mem}};
    dnnl_status_t s = dnnl_primitive_execute(c->reorder, w->cpu->stream, 2, args);
    if (s == dnnl_success) s = dnnl_stream_wait(w->cpu->stream);
    if (s != dnnl_success)
        return yd_fail(err, YD_E_DEVICE, "refreshing '%s' failed (oneDNN status %d)", p->name, (int)s);
    c->version = p->version;
    return 0;
}
