// The forward operators of core/graph.h in double, by definition.
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

static double mish_of(double x)
{
    return x * tanh(log1p(exp(x)));
}

static double act_of(const yd_op *op, double z)
{
    if (op->act == YD_ACT_MISH) return mish_of(z);
    if (op->act == YD_ACT_LEAKY) return z > 0 ? z : (double)op->scale * z;
    return z;
}

// Pixel i of n where the mirror image, without the border itself, continues the row.
static int mirror(int i, int n)
{
    return i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
}

static void conv(oracle *o, const yd_op *op)
{
    yd_tid v4 = op->in[4], x = op->in[0], w = op->in[1], b = op->in[2], res = op->in[3], y = op->out[0];
    const yd_tensor *xs = shape(o, x), *ys = shape(o, y);
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < ys->h; i++)
            for (int j = 0; j < ys->w; j++)
                for (int oc = 0; oc < ys->c; oc++) {
                    double sum = b == YD_NONE ? 0 : o->t[b][oc];
                    for (int ic = 0; ic < xs->c; ic++)
                        for (int ky = 0; ky < op->k; ky++)
                            for (int kx = 0; kx < op->k; kx++) {
                                int u = i * op->stride + ky - op->pad, v = j * op->stride + kx - op->pad;
                                if (op->reflect) u = mirror(u, xs->h), v = mirror(v, xs->w);
                                if (u < 0 || v < 0 || u >= xs->h || v >= xs->w) continue;
                                sum += AT(x, s, u, v, ic) * o->t[w][((oc * xs->c + ic) * op->k + ky) * op->k + kx];
                            }
                    sum = act_of(op, sum) + (v4 == YD_NONE ? 0 : AT(v4, s, 0, 0, oc));
                    AT(y, s, i, j, oc) = sum + (res == YD_NONE ? 0 : AT(res, s, i, j, oc));
                }
}

static void convt(oracle *o, const yd_op *op)
{
    yd_tid x = op->in[0], w = op->in[1], b = op->in[2], y = op->out[0];
    const yd_tensor *xs = shape(o, x), *ys = shape(o, y);
    for (int s = 0; s < o->n; s++) {
        for (int i = 0; i < ys->h; i++)
            for (int j = 0; j < ys->w; j++)
                for (int oc = 0; oc < ys->c; oc++) AT(y, s, i, j, oc) = b == YD_NONE ? 0 : o->t[b][oc];
        for (int i = 0; i < xs->h; i++)
            for (int j = 0; j < xs->w; j++)
                for (int ky = 0; ky < op->k; ky++)
                    for (int kx = 0; kx < op->k; kx++) {
                        int u = i * op->stride + ky - op->pad, v = j * op->stride + kx - op->pad;
                        if (u < 0 || v < 0 || u >= ys->h || v >= ys->w) continue;
                        for (int ic = 0; ic < xs->c; ic++)
                            for (int oc = 0; oc < ys->c; oc++)
                                AT(y, s, u, v, oc) +=
                                    AT(x, s, i, j, ic) * o->t[w][((ic * ys->c + oc) * op->k + ky) * op->k + kx];
                    }
    }
}

static double shifted(const oracle *o, const yd_op *op, int s, int i, int j, int c)
{
    return AT(op->in[0], s, i, j, c) + (op->in[1] == YD_NONE ? 0 : AT(op->in[1], s, 0, 0, c));
}

static void gnorm_group(oracle *o, const yd_op *op, int s, int g)
{
    const yd_tensor *xs = shape(o, op->in[0]);
    int width = xs->c / op->groups;
    double count = (double)width * xs->h * xs->w, mean = 0, var = 0;
    for (int i = 0; i < xs->h; i++)
        for (int j = 0; j < xs->w; j++)
            for (int c = g * width; c < (g + 1) * width; c++) mean += shifted(o, op, s, i, j, c) / count;
    for (int i = 0; i < xs->h; i++)
        for (int j = 0; j < xs->w; j++)
            for (int c = g * width; c < (g + 1) * width; c++) var += pow(shifted(o, op, s, i, j, c) - mean, 2) / count;
    double rstd = 1 / sqrt(var + (double)op->eps);
    for (int i = 0; i < xs->h; i++)
        for (int j = 0; j < xs->w; j++)
            for (int c = g * width; c < (g + 1) * width; c++) {
                double z = o->t[op->in[2]][c] * (shifted(o, op, s, i, j, c) - mean) * rstd + o->t[op->in[3]][c];
                AT(op->out[0], s, i, j, c) = op->act ? z * sigmoid(z) : z;
            }
    if (op->out[1] == YD_NONE) return;
    AT(op->out[1], s, 0, 0, g) = mean;
    AT(op->out[1], s, 0, 0, op->groups + g) = rstd;
}

static void gnorm(oracle *o, const yd_op *op)
{
    for (int s = 0; s < o->n; s++)
        for (int g = 0; g < op->groups; g++) gnorm_group(o, op, s, g);
}

static void linear(oracle *o, const yd_op *op)
{
    int in = shape(o, op->in[0])->c, out = shape(o, op->out[0])->c;
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < out; i++) {
            double sum = op->in[2] == YD_NONE ? 0 : o->t[op->in[2]][i];
            for (int j = 0; j < in; j++) sum += o->t[op->in[1]][i * in + j] * AT(op->in[0], s, 0, 0, j);
            AT(op->out[0], s, 0, 0, i) = sum;
        }
}

static void silu(oracle *o, const yd_op *op)
{
    for (size_t i = 0; i < oracle_count(o, op->in[0]); i++)
        o->t[op->out[0]][i] = o->t[op->in[0]][i] * sigmoid(o->t[op->in[0]][i]);
}

static void mish(oracle *o, const yd_op *op)
{
    for (size_t i = 0; i < oracle_count(o, op->in[0]); i++) o->t[op->out[0]][i] = mish_of(o->t[op->in[0]][i]);
}

static void embed(oracle *o, const yd_op *op)
{
    int half = shape(o, op->out[0])->c / 2;
    for (int s = 0; s < o->n; s++)
        for (int k = 0; k < half; k++) {
            double f = exp(-log(1e4) * k / (half - op->r)), a = AT(op->in[0], s, 0, 0, 0) * (double)op->scale * f;
            AT(op->out[0], s, 0, 0, k) = sin(a);
            AT(op->out[0], s, 0, 0, half + k) = cos(a);
        }
}

static void concat(oracle *o, const yd_op *op)
{
    const yd_tensor *y = shape(o, op->out[0]);
    int c1 = shape(o, op->in[0])->c;
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < y->h; i++)
            for (int j = 0; j < y->w; j++)
                for (int c = 0; c < y->c; c++)
                    AT(op->out[0], s, i, j, c) = c < c1 ? AT(op->in[0], s, i, j, c) : AT(op->in[1], s, i, j, c - c1);
}

static void add(oracle *o, const yd_op *op)
{
    for (size_t i = 0; i < oracle_count(o, op->out[0]); i++)
        o->t[op->out[0]][i] = o->t[op->in[0]][i] + o->t[op->in[1]][i];
}

static void axpy(oracle *o, const yd_op *op)
{
    for (size_t i = 0; i < oracle_count(o, op->out[0]); i++)
        o->t[op->out[0]][i] = (double)op->scale * o->t[op->in[0]][i] + o->t[op->in[1]][i];
}

static void upsample(oracle *o, const yd_op *op)
{
    const yd_tensor *y = shape(o, op->out[0]);
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < y->h; i++)
            for (int j = 0; j < y->w; j++)
                for (int c = 0; c < y->c; c++) AT(op->out[0], s, i, j, c) = AT(op->in[0], s, i / 2, j / 2, c);
}

// wide [h*r, w*r, c] and deep [h, w, c*r*r]: one to the other.
static void shuffle(oracle *o, const yd_op *op, yd_tid wide, yd_tid deep, int to_deep)
{
    const yd_tensor *ws = shape(o, wide);
    int r = op->r;
    for (int s = 0; s < o->n; s++)
        for (int i = 0; i < ws->h; i++)
            for (int j = 0; j < ws->w; j++)
                for (int c = 0; c < ws->c; c++) {
                    double *w = &AT(wide, s, i, j, c), *d = &AT(deep, s, i / r, j / r, c * r * r + i % r * r + j % r);
                    if (to_deep)
                        *d = *w;
                    else
                        *w = *d;
                }
}

static void attention(oracle *o, const yd_op *op)
{
    const yd_tensor *y = shape(o, op->out[0]);
    int t = y->h * y->w, c = y->c;
    double *p = calloc((size_t)t, sizeof *p);
    for (int s = 0; p && s < o->n; s++)
        for (int i = 0; i < t; i++) {
            const double *qkv = o->t[op->in[0]] + (size_t)s * (size_t)t * 3 * (size_t)c;
            double top = -INFINITY, sum = 0;
            for (int j = 0; j < t; j++) {
                p[j] = 0;
                for (int k = 0; k < c; k++) p[j] += qkv[i * 3 * c + k] * qkv[j * 3 * c + c + k] / sqrt(c);
                top = fmax(top, p[j]);
            }
            for (int j = 0; j < t; j++) sum += p[j] = exp(p[j] - top);
            for (int k = 0; k < c; k++) {
                double v = 0;
                for (int j = 0; j < t; j++) v += p[j] / sum * qkv[j * 3 * c + 2 * c + k];
                o->t[op->out[0]][((size_t)s * (size_t)t + (size_t)i) * (size_t)c + (size_t)k] = v;
            }
        }
    free(p);
}

void oracle_forward(oracle *o, const yd_op *op)
{
    switch (op->kind) {
    case YD_OP_CONV:
        conv(o, op);
        break;
    case YD_OP_CONVT:
        convt(o, op);
        break;
    case YD_OP_GNORM:
        gnorm(o, op);
        break;
    case YD_OP_LINEAR:
        linear(o, op);
        break;
    case YD_OP_SILU:
        silu(o, op);
        break;
    case YD_OP_MISH:
        mish(o, op);
        break;
    case YD_OP_EMBED:
        embed(o, op);
        break;
    case YD_OP_CONCAT:
        concat(o, op);
        break;
    case YD_OP_ADD:
        add(o, op);
        break;
    case YD_OP_AXPY:
        axpy(o, op);
        break;
    case YD_OP_UPSAMPLE:
        upsample(o, op);
        break;
    case YD_OP_UNSHUFFLE:
        shuffle(o, op, op->in[0], op->out[0], 1);
        break;
    case YD_OP_SHUFFLE:
        shuffle(o, op, op->out[0], op->in[0], 0);
        break;
    case YD_OP_ATTENTION:
        attention(o, op);
        break;
    default:
        break;
    }
}
