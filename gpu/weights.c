// Parameters on the GPU: f32 masters in checkpoint layout, and packed copies in the layout and type that convolutions read.
//
// All parameters of one part (weights, m, v, EMA) lie in one block. A packed copy is shared by every exec that wants the same; masters carry a
// version that grows with each write, and a run brings the copies that are behind up to date before anything else, so that writing is cheap and
// takes effect at the next run. Addresses never change, which captured graphs rely on.
#include "core/mem.h"
#include "gpu/gpu.h"

#include <string.h>

#define PARAM_FLOATS (YD_GPU_ALIGN / sizeof(float))

static const char *const part_names[] = {"weights", "first moments", "second moments", "moving averages"};

static int lay_out(yd_weights *w, const yd_graph *g, yd_err *err)
{
    for (int i = 0; i < w->n_params; i++) {
        const yd_tensor *t = &g->tensors[g->params[i]];
        yd_gpu_master *p = &w->params[i];
        size_t padded;
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
        if (p->count > INT32_MAX || yd_add_size(p->count, PARAM_FLOATS - 1, &padded) ||
            yd_add_size(w->count, padded / PARAM_FLOATS * PARAM_FLOATS, &w->count) ||
            w->count > SIZE_MAX / sizeof(float))
            return yd_fail(err, YD_E_NOMEM, "parameter '%s' does not fit in memory", t->name);
        w->n_spans += (int)((p->count + YD_GPU_SPAN - 1) / YD_GPU_SPAN);
    }
    return 0;
}

static size_t part_bytes(const yd_weights *w)
{
    return w->count * sizeof(float);
}

// Everything zero but the weights, and the EMA, which begins as the weights.
static int fill(yd_weights *w, const float *const *host, int parts, yd_err *err)
{
    yd_gpu *g = w->gpu;
    yd_gpu_driver *d = g->d;
    int rc = 0;
    for (int k = 0; k < parts && !rc; k++)
        rc = yd_gpu_check(g, d->zero(d, w->part[k], part_bytes(w), g->stream), "clearing the weights", err);
    for (int i = 0; i < w->n_params && !rc; i++)
        rc = yd_gpu_check(
            g,
            d->copy(d, w->part[YD_W_PARAM] + w->params[i].at, host[i], w->params[i].count * sizeof(float), g->stream),
            "copying the weights", err);
    if (!rc && parts > YD_W_EMA)
        rc = yd_gpu_check(g, d->copy(d, w->part[YD_W_EMA], w->part[YD_W_PARAM], part_bytes(w), g->stream),
                          "copying the weights", err);
    return rc ? rc : yd_gpu_check(g, d->sync(d, g->stream), "copying the weights", err);
}

int yd_gpu_weights_new(yd_backend *be, const yd_graph *g, const float *const *host, int train, yd_weights **out,
                       yd_err *err)
{
    yd_gpu *gpu = (yd_gpu *)be;
    const int parts = train ? 4 : 1;
    *out = NULL;
    int rc = yd_gpu_alive(gpu, err);
    if (rc) return rc;
    yd_weights *w = yd_calloc(1, sizeof *w);
    if (!w) return yd_fail(err, YD_E_NOMEM, "no memory for the weights");
    w->gpu = gpu;
    w->n_params = g->n_params;
    w->tuning_s = yd_gpu_tunes(gpu) ? gpu->opt.tune_ms * 1e-3 : 0;
    w->params = yd_calloc(yd_sz(g->n_params) + 1, sizeof *w->params);
    rc = w->params ? lay_out(w, g, err) : yd_fail(err, YD_E_NOMEM, "no memory for the weights");
    for (int k = 0; k < parts && !rc; k++) {
        void *p;
        rc = yd_gpu_take(gpu, &gpu->weights, part_bytes(w), part_names[k], &p, err);
        w->part[k] = p;
    }
    if (!rc && w->count) rc = fill(w, host, parts, err);
    if (rc)
        yd_gpu_weights_free(w);
    else
        *out = w;
    return rc;
}

void yd_gpu_weights_free(yd_weights *w)
{
    if (!w) return;
    while (w->packed) {
        w->packed->refs = 1;
        yd_gpu_packed_put(w, w->packed);
    }
    for (int k = 0; k < 4; k++) yd_gpu_give(w->gpu, &w->gpu->weights, part_bytes(w), w->part[k]);
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
    return yd_gpu_alive(w->gpu, err);
}

static int transfer(yd_weights *w, void *dst, const void *src, int param, const char *doing, yd_err *err)
{
    yd_gpu *g = w->gpu;
    int rc = yd_gpu_check(g, g->d->copy(g->d, dst, src, w->params[param].count * sizeof(float), g->stream), doing, err);
    return rc ? rc : yd_gpu_check(g, g->d->sync(g->d, g->stream), doing, err);
}

int yd_gpu_weights_read(yd_weights *w, yd_weights_part part, int param, float *dst, yd_err *err)
{
    float *at = NULL;
    int rc = locate(w, part, param, &at, err);
    return rc ? rc : transfer(w, dst, at, param, "reading the weights", err);
}

int yd_gpu_weights_write(yd_weights *w, yd_weights_part part, int param, const float *src, yd_err *err)
{
    float *at = NULL;
    int rc = locate(w, part, param, &at, err);
    if (!rc && part == YD_W_PARAM) w->params[param].version++;
    return rc ? rc : transfer(w, at, src, param, "writing the weights", err);
}

yd_gpu_packed *yd_gpu_packed_get(yd_weights *w, int param, int a, int b, int k, yd_dtype dtype, int a_padded,
                                 int b_padded, yd_err *err)
{
    for (yd_gpu_packed *p = w->packed; p; p = p->next)
        if (p->param == param && p->a == a && p->b == b && p->k == k && p->dtype == dtype && p->a_padded == a_padded &&
            p->b_padded == b_padded) {
            p->refs++;
            return p;
        }
    size_t bytes = yd_dtype_bytes(dtype);
    if (yd_mul_size(bytes, yd_sz(a_padded), &bytes) || yd_mul_size(bytes, yd_sz(b_padded), &bytes) ||
        yd_mul_size(bytes, yd_sz(k * k), &bytes)) {
        yd_fail(err, YD_E_NOMEM, "parameter '%s' does not fit in memory", w->params[param].name);
        return NULL;
    }
    yd_gpu_packed *p = yd_calloc(1, sizeof *p);
    if (!p) {
        yd_fail(err, YD_E_NOMEM, "no memory for a copy of '%s'", w->params[param].name);
        return NULL;
    }
    *p = (yd_gpu_packed){.next = w->packed,
                         .param = param,
                         .refs = 1,
                         .a = a,
                         .b = b,
                         .k = k,
                         .a_padded = a_padded,
                         .b_padded = b_padded,
                         .dtype = dtype,
                         .bytes = bytes};
    if (yd_gpu_take(w->gpu, &w->gpu->weights, bytes, "copies of the weights", &p->data, err)) {
        yd_free(p);
        return NULL;
    }
    w->packed = p;
    return p;
}

void yd_gpu_packed_put(yd_weights *w, yd_gpu_packed *p)
{
    if (!p || --p->refs > 0) return;
    yd_gpu_packed **at = &w->packed;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    yd_gpu_give(w->gpu, &w->gpu->weights, p->bytes, p->data);
    yd_free(p);
}

int yd_gpu_packed_refresh(yd_weights *w, yd_err *err)
{
    yd_gpu *g = w->gpu;
    for (yd_gpu_packed *p = w->packed; p; p = p->next) {
        const yd_gpu_master *m = &w->params[p->param];
        if (p->version == m->version) continue;
        const int code = yd_gpu_filter_pack(w->part[YD_W_PARAM] + m->at, p->a, p->b, p->k, p->data, p->dtype,
                                            p->a_padded, p->b_padded, g->stream);
        int rc = yd_gpu_check(g, g->d->kernel(g->d, code), "packing the weights", err);
        if (rc) return rc;
        p->version = m->version;
    }
    return 0;
}
