// The training operators of core/graph.h in double, by definition: every gradient scatters dy along the forward loops.
#include "tests/oracle/oracle.h"
#include <math.h>
#include <stdlib.h>

#define AT(map, sample, row, col, ch) o->t[map][oracle_at(o, map, sample, row, col, ch)]

static const yd_tensor *shape(const oracle *o, yd_tid t)
{
    return &o->g->tensors[t];
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double silu_slope(double x)
{
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
}

static void zero(oracle *o, yd_tid t)
{
    for (size_t i = 0; t != YD_NONE && i < oracle_count(o, t); i++) o->t[t][i] = 0;
}

static void loss(oracle *o, const yd_op *op)
{
    yd_tid pred = op->in[0], target = op->in[1], mask = op->in[2];
    const yd_tensor *p = shape(o, pred);
    for (int s = 0; s < o->n; s++) {
        double sum = 0, weight = o->t[op->in[3]][s];
        for (int i = 0; i < p->h; i++)
            for (int j = 0; j < p->w; j++)
                for (int c = 0; c < p->c; c++) {
                    double m = AT(mask, s, i, j, 0), d = AT(pred, s, i, j, c) - AT(target, s, i, j, c);
                    sum += m * (op->p == 1 ? fabs(d) : d * d);
                    double slope = op->p == 1 ? (d > 0) - (d < 0) : 2 * d;
                    if (op->out[1] != YD_NONE) AT(op->out[1], s, i, j, c) = weight * m * slope;
                }
        o->t[op->out[0]][s] = weight * sum;
    }
}

// Visit every (output pixel, input pixel, weight) triple of a convolution: dx += w*dy, dw += x*dy. Unwanted results
// are YD_NONE.
static void conv_scatter(oracle *o, const yd_op *op, yd_tid x, yd_tid w, yd_tid dy, yd_tid dx, yd_tid dw)
{
    const yd_tensor *xs = shape(o, dx == YD_NONE ? x : dx), *ys = shape(o, dy);
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < ys->h; i++)
            for (int j = 0; j < ys->w; j++)
                for (int oc = 0; oc < ys->c; oc++)
                    for (int ic = 0; ic < xs->c; ic++)
                        for (int ky = 0; ky < op->k; ky++)
                            for (int kx = 0; kx < op->k; kx++) {
                                int u = i * op->stride + ky - op->pad, v = j * op->stride + kx - op->pad;
                                if (u < 0 || v < 0 || u >= xs->h || v >= xs->w) continue;
                                int at = ((oc * xs->c + ic) * op->k + ky) * op->k + kx;
                                double g = AT(dy, s, i, j, oc);
                                if (dx != YD_NONE) AT(dx, s, u, v, ic) += o->t[w][at] * g;
                                if (dw != YD_NONE) o->t[dw][at] += AT(x, s, u, v, ic) * g;
                            }
}

static void conv_dx(oracle *o, const yd_op *op)
{
    zero(o, op->out[0]);
    conv_scatter(o, op, YD_NONE, op->in[1], op->in[0], op->out[0], YD_NONE);
}

static void conv_dw(oracle *o, const yd_op *op)
{
    zero(o, op->out[0]);
    zero(o, op->out[1]);
    conv_scatter(o, op, op->in[0], YD_NONE, op->in[1], YD_NONE, op->out[0]);
    size_t c = (size_t)shape(o, op->in[1])->c;
    for (size_t i = 0; op->out[1] != YD_NONE && i < oracle_count(o, op->in[1]); i++)
        o->t[op->out[1]][i % c] += o->t[op->in[1]][i];
}

static void gnorm_group_bwd(oracle *o, const yd_op *op, int s, int g)
{
    yd_tid x = op->in[0], v = op->in[1], stats = op->in[4], dy = op->in[5];
    const yd_tensor *xs = shape(o, x);
    const double *gamma = o->t[op->in[2]], *beta = o->t[op->in[3]];
    int width = xs->c / op->groups;
    double count = (double)width * xs->h * xs->w, mean = AT(stats, s, 0, 0, g),
           rstd = AT(stats, s, 0, 0, op->groups + g), m1 = 0, m2 = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < xs->h; i++)
            for (int j = 0; j < xs->w; j++)
                for (int c = g * width; c < (g + 1) * width; c++) {
                    double u = (AT(x, s, i, j, c) + (v == YD_NONE ? 0 : AT(v, s, 0, 0, c)) - mean) * rstd;
                    double dz = AT(dy, s, i, j, c) * (op->act ? silu_slope(gamma[c] * u + beta[c]) : 1);
                    if (pass == 0) {
                        o->t[op->out[2]][c] += dz * u;
                        o->t[op->out[3]][c] += dz;
                        m1 += gamma[c] * dz / count;
                        m2 += gamma[c] * dz * u / count;
                    } else {
                        double dx = rstd * (gamma[c] * dz - m1 - u * m2);
                        AT(op->out[0], s, i, j, c) = dx;
                        if (op->out[1] != YD_NONE) AT(op->out[1], s, 0, 0, c) += dx;
                    }
                }
}

static void gnorm_bwd(oracle *o, const yd_op *op)
{
    for (int k = 1; k < 4; k++) zero(o, op->out[k]);
    for (int s = 0; s < o->n; s++)
        for (int g = 0; g < op->groups; g++) gnorm_group_bwd(o, op, s, g);
}

static void linear_bwd(oracle *o, const yd_op *op)
{
    int in = shape(o, op->in[0])->c, out = shape(o, op->in[2])->c;
    for (int k = 0; k < 3; k++) zero(o, op->out[k]);
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < out; i++) {
            double g = AT(op->in[2], s, 0, 0, i);
            if (op->out[2] != YD_NONE) o->t[op->out[2]][i] += g;
            for (int j = 0; j < in; j++) {
                if (op->out[0] != YD_NONE) AT(op->out[0], s, 0, 0, j) += g * o->t[op->in[1]][i * in + j];
                o->t[op->out[1]][i * in + j] += g * AT(op->in[0], s, 0, 0, j);
            }
        }
}

static void silu_bwd(oracle *o, const yd_op *op)
{
    for (size_t i = 0; i < oracle_count(o, op->in[0]); i++)
        o->t[op->out[0]][i] = o->t[op->in[1]][i] * silu_slope(o->t[op->in[0]][i]);
}

static void upsample_bwd(oracle *o, const yd_op *op)
{
    const yd_tensor *y = shape(o, op->in[0]);
    zero(o, op->out[0]);
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < y->h; i++)
            for (int j = 0; j < y->w; j++)
                for (int c = 0; c < y->c; c++) AT(op->out[0], s, i / 2, j / 2, c) += AT(op->in[0], s, i, j, c);
}

static void split(oracle *o, const yd_op *op)
{
    const yd_tensor *y = shape(o, op->in[0]);
    int c1 = shape(o, op->out[0])->c;
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < y->h; i++)
            for (int j = 0; j < y->w; j++)
                for (int c = 0; c < y->c; c++) {
                    double *part = c < c1 ? &AT(op->out[0], s, i, j, c) : &AT(op->out[1], s, i, j, c - c1);
                    *part = AT(op->in[0], s, i, j, c);
                }
}

// One query of one sample: its probabilities, and what its dy gives to q, k and v.
static void attention_query(const double *qkv, const double *dy, double *dqkv, double *p, double *dp, int i, int t,
                            int c)
{
    double sum = 0, mean = 0, top = -INFINITY, scale = 1 / sqrt(c);
    for (int j = 0; j < t; j++) {
        p[j] = dp[j] = 0;
        for (int k = 0; k < c; k++) {
            p[j] += qkv[i * 3 * c + k] * qkv[j * 3 * c + c + k] * scale;
            dp[j] += dy[i * c + k] * qkv[j * 3 * c + 2 * c + k];
        }
        top = fmax(top, p[j]);
    }
    for (int j = 0; j < t; j++) sum += p[j] = exp(p[j] - top);
    for (int j = 0; j < t; j++) mean += (p[j] /= sum) * dp[j];
    for (int j = 0; j < t; j++)
        for (int k = 0; k < c; k++) {
            double ds = p[j] * (dp[j] - mean) * scale;
            dqkv[i * 3 * c + k] += ds * qkv[j * 3 * c + c + k];
            dqkv[j * 3 * c + c + k] += ds * qkv[i * 3 * c + k];
            dqkv[j * 3 * c + 2 * c + k] += p[j] * dy[i * c + k];
        }
}

static void attention_bwd(oracle *o, const yd_op *op)
{
    const yd_tensor *dy = shape(o, op->in[1]);
    int t = dy->h * dy->w, c = dy->c;
    size_t sample = (size_t)t * (size_t)c;
    double *p = calloc(2 * (size_t)t, sizeof *p);
    zero(o, op->out[0]);
    for (size_t s = 0; p && s < (size_t)o->n; s++)
        for (int i = 0; i < t; i++)
            attention_query(o->t[op->in[0]] + s * 3 * sample, o->t[op->in[1]] + s * sample,
                            o->t[op->out[0]] + s * 3 * sample, p, p + t, i, t, c);
    free(p);
}

void oracle_backward(oracle *o, const yd_op *op)
{
    switch (op->kind) {
    case YD_OP_LOSS:
        loss(o, op);
        break;
    case YD_OP_CONV_DX:
        conv_dx(o, op);
        break;
    case YD_OP_CONV_DW:
        conv_dw(o, op);
        break;
    case YD_OP_GNORM_BWD:
        gnorm_bwd(o, op);
        break;
    case YD_OP_LINEAR_BWD:
        linear_bwd(o, op);
        break;
    case YD_OP_SILU_BWD:
        silu_bwd(o, op);
        break;
    case YD_OP_UPSAMPLE_BWD:
        upsample_bwd(o, op);
        break;
    case YD_OP_SPLIT:
        split(o, op);
        break;
    case YD_OP_ATTENTION_BWD:
        attention_bwd(o, op);
        break;
    default:
        break;
    }
}
