// One AdamW step (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", algorithm 2) over all parameters.
//
// Parameters are cut into spans of fixed length; the global norm is a double sum per span, joined in span order, so a
// step gives the same bits for any thread count. Nothing is changed before every gradient is known to be finite.
#include "core/cpu/cpu.h"
#include "core/simd.h"
#include <math.h>

static double square_sum(const float *g, size_t n)
{
    double lane[8] = {0}; // independent chains: the sum is bound by latency otherwise
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) lane[k] += (double)g[i + k] * (double)g[i + k];
    double s = 0;
    for (size_t k = 0; k < 8; k++) s += lane[k];
    for (; i < n; i++) s += (double)g[i] * (double)g[i];
    return s;
}

typedef struct rates {
    float scale; // of the gradient: clipping
    float beta1, beta2;
    float step;            // lr / (1 - beta1^t)
    float root;            // 1 / sqrt(1 - beta2^t)
    float eps, decay, ema; // decay: lr * weight_decay
} rates;

YD_SIMD
static void update(const rates *r, size_t n, const float *restrict g, float *restrict w, float *restrict m,
                   float *restrict v, float *restrict ema)
{
    const rates k = *r;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float gi = g[i] * k.scale;
        m[i] = k.beta1 * m[i] + (1.0f - k.beta1) * gi;
        v[i] = k.beta2 * v[i] + (1.0f - k.beta2) * gi * gi;
        float denom = __builtin_sqrtf(v[i]) * k.root + k.eps;
        w[i] = w[i] - k.decay * w[i] - k.step * m[i] / denom;
        ema[i] = k.ema * ema[i] + (1.0f - k.ema) * w[i];
    }
}

static int global_norm(yd_weights *w, yd_exec *train, double *norm, yd_err *err)
{
#pragma omp parallel for num_threads(w->cpu->threads) schedule(static)
    for (int i = 0; i < w->n_spans; i++) {
        const yd_span *s = &w->spans[i];
        w->square_sums[i] = square_sum((const float *)yd_exec_ptr(train, train->pgrads[s->param]) + s->at, s->count);
    }
    double sum = 0;
    for (int i = 0; i < w->n_spans; i++) {
        if (!isfinite(w->square_sums[i])) {
            const char *name = w->params[w->spans[i].param].name;
            return yd_fail_field(err, YD_E_NUMERIC, name, "", "the gradient of '%s' has a NaN or an infinity", name);
        }
        sum += w->square_sums[i];
    }
    *norm = sqrt(sum);
    return 0;
}

static int check_request(const yd_weights *w, const yd_exec *train, const yd_adamw *hp, yd_err *err)
{
    if (!w->part[YD_W_M]) return yd_fail(err, YD_E_INVALID, "these weights were not made for training");
    if (train->w != w) return yd_fail(err, YD_E_INVALID, "the gradients belong to other weights");
    if (hp->step < 1) return yd_fail(err, YD_E_INVALID, "optimiser step %ld: counting starts at 1", hp->step);
    for (int i = 0; i < w->n_params; i++)
        if (train->pgrads[i] == YD_NONE)
            return yd_fail(err, YD_E_INVALID, "the graph has no gradient for '%s'", w->params[i].name);
    return 0;
}

int yd_cpu_adamw(yd_weights *w, yd_exec *train, const yd_adamw *hp, double *grad_norm, yd_err *err)
{
    int rc = check_request(w, train, hp, err);
    double norm = 0;
    if (!rc) rc = global_norm(w, train, &norm, err);
    if (rc) return rc;
    if (grad_norm) *grad_norm = norm;
    double t = (double)hp->step;
    rates r = {
        .scale = hp->clip_norm > 0 && norm > (double)hp->clip_norm ? (float)((double)hp->clip_norm / norm) : 1.0f,
        .beta1 = hp->beta1,
        .beta2 = hp->beta2,
        .step = (float)((double)hp->lr / (1.0 - pow((double)hp->beta1, t))),
        .root = (float)(1.0 / sqrt(1.0 - pow((double)hp->beta2, t))),
        .eps = hp->eps,
        .decay = hp->lr * hp->weight_decay,
        .ema = hp->ema_decay,
    };
#pragma omp parallel for num_threads(w->cpu->threads) schedule(static)
    for (int i = 0; i < w->n_spans; i++) {
        const yd_span *s = &w->spans[i];
        size_t at = w->params[s->param].at + s->at;
        const float *g = (const float *)yd_exec_ptr(train, train->pgrads[s->param]) + s->at;
        update(&r, s->count, g, w->part[YD_W_PARAM] + at, w->part[YD_W_M] + at, w->part[YD_W_V] + at,
               w->part[YD_W_EMA] + at);
    }
    for (int i = 0; i < w->n_params; i++) w->params[i].version++;
    return 0;
}
