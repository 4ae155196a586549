// The AdamW step on the GPU: all parameters are cut into spans, a list of which lies on the device; sums of squares per span come back and are
// joined in span order, so that the norm's bits do not depend on timing. Nothing is changed before every gradient is known to be finite.
#include "core/mem.h"
#include "gpu/gpu.h"

#include <math.h>
#include <string.h>

// What the optimiser goes through, with this exec's gradients.
static void list_spans(const yd_exec *e, yd_gpu_span *span)
{
    const yd_weights *w = e->w;
    for (int i = 0; i < w->n_params; i++) {
        const yd_gpu_master *m = &w->params[i];
        const float *g = e->bufs[e->pgrads[i]].map.data;
        for (size_t at = 0; at < m->count; at += YD_GPU_SPAN) {
            const size_t left = m->count - at;
            *span++ = (yd_gpu_span){
                .g = g + at,
                .w = w->part[YD_W_PARAM] + m->at + at,
                .m = w->part[YD_W_M] + m->at + at,
                .v = w->part[YD_W_V] + m->at + at,
                .ema = w->part[YD_W_EMA] + m->at + at,
                .count = (uint32_t)(left < YD_GPU_SPAN ? left : YD_GPU_SPAN),
                .param = i,
            };
        }
    }
}

int yd_gpu_prepare_optimiser(yd_exec *e, yd_err *err)
{
    yd_gpu *g = e->gpu;
    yd_gpu_driver *d = g->d;
    const yd_weights *w = e->w;
    if (!e->training || !w->part[YD_W_M] || w->n_spans < 1) return 0;
    for (int i = 0; i < w->n_params; i++)
        if (e->pgrads[i] == YD_NONE) return 0; // the step itself says which one is missing
    void *spans, *squares, *host;
    const size_t n = yd_sz(w->n_spans);
    e->n_spans = w->n_spans;
    int rc = yd_gpu_take(g, &g->scratch, n * sizeof(yd_gpu_span), "the optimiser", &spans, err);
    e->spans = spans;
    if (!rc) rc = yd_gpu_take(g, &g->scratch, n * sizeof(double), "the optimiser", &squares, err);
    if (rc) return rc;
    e->squares = squares;
    rc = yd_gpu_check(g, d->alloc_host(d, n * sizeof(double), &host), "pinning memory for the optimiser", err);
    if (rc) return rc;
    e->host_squares = host;
    yd_gpu_span *list = yd_calloc(n, sizeof *list);
    if (!list) return yd_fail(err, YD_E_NOMEM, "no memory for the optimiser");
    list_spans(e, list);
    rc = yd_gpu_check(g, d->copy(d, e->spans, list, n * sizeof *list, g->stream), "copying the optimiser's list", err);
    if (!rc) rc = yd_gpu_check(g, d->sync(d, g->stream), "copying the optimiser's list", err);
    yd_free(list);
    return rc;
}

void yd_gpu_drop_optimiser(yd_exec *e)
{
    yd_gpu *g = e->gpu;
    yd_gpu_give(g, &g->scratch, yd_sz(e->n_spans) * sizeof(yd_gpu_span), e->spans);
    yd_gpu_give(g, &g->scratch, yd_sz(e->n_spans) * sizeof(double), e->squares);
    g->d->release_host(g->d, e->host_squares);
}

static int check_request(const yd_weights *w, const yd_exec *train, const yd_adamw *hp, yd_err *err)
{
    if (!w->part[YD_W_M]) return yd_fail(err, YD_E_INVALID, "these weights were not made for training");
    if (train->w != w) return yd_fail(err, YD_E_INVALID, "the gradients belong to other weights");
    if (hp->step < 1) return yd_fail(err, YD_E_INVALID, "optimiser step %ld: counting starts at 1", hp->step);
    for (int i = 0; i < w->n_params; i++)
        if (train->pgrads[i] == YD_NONE)
            return yd_fail(err, YD_E_INVALID, "the graph has no gradient for '%s'", w->params[i].name);
    if (!train->spans) return yd_fail(err, YD_E_INVALID, "this graph has no loss: it cannot train");
    return yd_gpu_alive(w->gpu, err);
}

// Parameter of span i, counted as list_spans does.
static const char *name_of_span(const yd_weights *w, int i)
{
    int p = 0;
    for (; p < w->n_params - 1; p++) {
        const int spans = (int)((w->params[p].count + YD_GPU_SPAN - 1) / YD_GPU_SPAN);
        if (i < spans) break;
        i -= spans;
    }
    return w->params[p].name;
}

static int global_norm(yd_weights *w, yd_exec *e, double *norm, yd_err *err)
{
    yd_gpu *g = w->gpu;
    yd_gpu_driver *d = g->d;
    int rc = yd_gpu_check(g, d->kernel(d, yd_gpu_square_sums(e->spans, e->n_spans, e->squares, g->stream)),
                          "adding up the gradients", err);
    if (!rc)
        rc = yd_gpu_check(g, d->copy(d, e->host_squares, e->squares, yd_sz(e->n_spans) * sizeof(double), g->stream),
                          "adding up the gradients", err);
    if (!rc) rc = yd_gpu_check(g, d->sync(d, g->stream), "adding up the gradients", err);
    double sum = 0;
    for (int i = 0; i < e->n_spans && !rc; i++) {
        if (!isfinite(e->host_squares[i])) {
            const char *name = name_of_span(w, i);
            return yd_fail_field(err, YD_E_NUMERIC, name, "", "the gradient of '%s' has a NaN or an infinity", name);
        }
        sum += e->host_squares[i];
    }
    *norm = sqrt(sum);
    return rc;
}

int yd_gpu_adamw_step(yd_weights *w, yd_exec *train, const yd_adamw *hp, double *grad_norm, yd_err *err)
{
    yd_gpu *g = w->gpu;
    double norm = 0;
    int rc = check_request(w, train, hp, err);
    if (!rc) rc = global_norm(w, train, &norm, err);
    if (rc) return rc;
    if (grad_norm) *grad_norm = norm;
    const yd_gpu_rates rates = yd_gpu_rates_of(hp, norm);
    rc = yd_gpu_check(g, g->d->kernel(g->d, yd_gpu_adamw(train->spans, train->n_spans, &rates, g->stream)),
                      "the optimiser's step", err);
    if (!rc) rc = yd_gpu_check(g, g->d->sync(g->d, g->stream), "the optimiser's step", err);
    for (int i = 0; i < w->n_params; i++) w->params[i].version++;
    return rc;
}
