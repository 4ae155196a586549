// The oracle's frame: tensors, order of operators, bf16 rounding, the optimiser. The operators are in forward.c and
// backward.c.
#include "tests/oracle/oracle.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

size_t oracle_count(const oracle *o, yd_tid t)
{
    const yd_tensor *x = &o->g->tensors[t];
    int per_sample = x->kind != YD_T_PARAM && x->kind != YD_T_PGRAD;
    return yd_tensor_numel(x) * (per_sample ? (size_t)o->n : 1);
}

oracle *oracle_new(const yd_graph *g, int n)
{
    oracle *o = calloc(1, sizeof *o);
    if (!o) return NULL;
    *o = (oracle){.g = g, .n = n, .t = calloc((size_t)g->n_tensors, sizeof *o->t)};
    for (int i = 0; o->t && i < g->n_tensors; i++)
        if (!(o->t[i] = calloc(oracle_count(o, i), sizeof **o->t))) goto fail;
    if (o->t) return o;
fail:
    oracle_free(o);
    return NULL;
}

void oracle_free(oracle *o)
{
    if (!o) return;
    for (int i = 0; o->t && i < o->g->n_tensors; i++) free(o->t[i]);
    free(o->t);
    free(o);
}

size_t oracle_at(const oracle *o, yd_tid t, int s, int y, int x, int c)
{
    const yd_tensor *m = &o->g->tensors[t];
    return (((size_t)s * (size_t)m->h + (size_t)y) * (size_t)m->w + (size_t)x) * (size_t)m->c + (size_t)c;
}

double oracle_bf16(double x)
{
    float f = (float)x;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) <= 0x7f800000u) u += 0x7fffu + ((u >> 16) & 1u);
    u &= 0xffff0000u;
    memcpy(&f, &u, sizeof f);
    return (double)f;
}

static void round_tensor(oracle *o, yd_tid t)
{
    if (t == YD_NONE || o->g->tensors[t].dtype != YD_BF16) return;
    for (size_t i = 0; i < oracle_count(o, t); i++) o->t[t][i] = oracle_bf16(o->t[t][i]);
}

void oracle_run(oracle *o, int round)
{
    for (int i = 0; i < o->g->n_tensors && round; i++)
        if (o->g->tensors[i].kind == YD_T_INPUT) round_tensor(o, i);
    for (int i = 0; i < o->g->n_ops; i++) {
        const yd_op *op = &o->g->ops[i];
        if (op->kind < YD_OP_LOSS)
            oracle_forward(o, op);
        else
            oracle_backward(o, op);
        for (int k = 0; k < YD_OP_MAX_OUT && round; k++) round_tensor(o, op->out[k]);
    }
}

void oracle_adamw(const yd_adamw *hp, double grad_scale, size_t n, const double *g, double *w, double *m, double *v,
                  double *ema)
{
    double b1 = (double)hp->beta1, b2 = (double)hp->beta2, lr = (double)hp->lr, d = (double)hp->ema_decay,
           t = (double)hp->step;
    for (size_t i = 0; i < n; i++) {
        double gi = g[i] * grad_scale;
        m[i] = b1 * m[i] + (1 - b1) * gi;
        v[i] = b2 * v[i] + (1 - b2) * gi * gi;
        double m_hat = m[i] / (1 - pow(b1, t)), v_hat = v[i] / (1 - pow(b2, t));
        w[i] -= lr * (double)hp->weight_decay * w[i] + lr * m_hat / (sqrt(v_hat) + (double)hp->eps);
        ema[i] = d * ema[i] + (1 - d) * w[i];
    }
}
