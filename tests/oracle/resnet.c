// See resnet.h. Every map is a new allocation; nothing here is fast.
#include "tests/oracle/resnet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-5

oracle_map oracle_map_new(int c, int h, int w)
{
    return (oracle_map){c, h, w, calloc((size_t)c * (size_t)h * (size_t)w, sizeof(double))};
}

static int count(const oracle_map *x)
{
    return x->c * x->h * x->w;
}

oracle_map oracle_map_copy(const oracle_map *x)
{
    oracle_map y = oracle_map_new(x->c, x->h, x->w);
    memcpy(y.v, x->v, (size_t)count(x) * sizeof *y.v);
    return y;
}

void oracle_map_free(oracle_map *x)
{
    free(x->v);
    *x = (oracle_map){0};
}

double *oracle_map_at(const oracle_map *x, int c, int y, int x_)
{
    return &x->v[(c * x->h + y) * x->w + x_];
}

// ---- convolutions

oracle_map oracle_conv_map(const oracle_map *x, const oracle_filter *f)
{
    oracle_map y = oracle_map_new(f->c, (x->h + 2 * f->pad - f->k) / f->stride + 1, (x->w + 2 * f->pad - f->k) / f->stride + 1);
    for (int o = 0; o < f->c; o++)
        for (int row = 0; row < y.h; row++)
            for (int col = 0; col < y.w; col++)
                for (int i = 0; i < f->in_c; i++)
                    for (int a = 0; a < f->k; a++)
                        for (int b = 0; b < f->k; b++) {
                            int py = row * f->stride - f->pad + a, px = col * f->stride - f->pad + b;
                            if (py >= 0 && py < x->h && px >= 0 && px < x->w)
                                *oracle_map_at(&y, o, row, col) +=
                                    f->w[((o * f->in_c + i) * f->k + a) * f->k + b] * *oracle_map_at(x, i, py, px);
                        }
    return y;
}

oracle_map oracle_conv_map_back(const oracle_map *dy, const oracle_filter *f, int h, int w)
{
    oracle_map dx = oracle_map_new(f->in_c, h, w);
    for (int o = 0; o < f->c; o++)
        for (int row = 0; row < dy->h; row++)
            for (int col = 0; col < dy->w; col++)
                for (int i = 0; i < f->in_c; i++)
                    for (int a = 0; a < f->k; a++)
                        for (int b = 0; b < f->k; b++) {
                            int py = row * f->stride - f->pad + a, px = col * f->stride - f->pad + b;
                            if (py >= 0 && py < h && px >= 0 && px < w)
                                *oracle_map_at(&dx, i, py, px) +=
                                    f->w[((o * f->in_c + i) * f->k + a) * f->k + b] * *oracle_map_at(dy, o, row, col);
                        }
    return dx;
}

// A filter of |w|, of what is above 0 or of what is below.
static oracle_filter part_of(const oracle_filter *f, char which)
{
    oracle_filter p = *f;
    int n = f->c * f->in_c * f->k * f->k;
    p.w = calloc((size_t)n, sizeof *p.w);
    for (int i = 0; i < n; i++) p.w[i] = which == '|' ? fabs(f->w[i]) : which == '+' ? fmax(f->w[i], 0) : fmin(f->w[i], 0);
    return p;
}

// ---- rules

static double sd(double a, double b)
{
    return b != 0 ? a / (b + 1e-9) : 0;
}

static oracle_map divided(const oracle_map *c, const oracle_map *z)
{
    oracle_map q = oracle_map_copy(c);
    for (int i = 0; i < count(c); i++) q.v[i] = sd(c->v[i], c->v[i] != 0 ? z->v[i] : 0);
    return q;
}

static double biggest(const oracle_map *x)
{
    double m = -INFINITY;
    for (int i = 0; i < count(x); i++) m = fmax(m, x->v[i]);
    return m;
}

// The derivative by finite steps in double would lose half of its digits: written out instead, factor by factor, for one y_j at a time.
void oracle_agf_start(const double *y, int n, int t, double *c, double *g)
{
    int far = 0;
    double *z = calloc((size_t)n, sizeof *z), sum = 0;
    for (int k = 0; k < n; k++)
        if (fabs(y[k] - y[t]) > fabs(y[far] - y[t])) far = k;
    double s = fabs(y[far] - y[t]), sign = y[far] > y[t] ? 1 : -1;
    for (int k = 0; k < n; k++) sum += z[k] = exp(y[t] * exp(-pow((y[k] - y[t]) / s, 2) / 2));
    for (int j = 0; j < n; j++) {
        double dt = j == t, ds = sign * ((j == far) - dt), d = 0;
        for (int k = 0; k < n; k++) {
            double u = (y[k] - y[t]) / s, e = exp(-u * u / 2);
            double du = ((j == k) - dt) / s - u * ds / s;
            double dz = dt * e - y[t] * e * u * du;         // of y_t exp(-u^2 / 2)
            d += z[t] / sum * ((k == t) - z[k] / sum) * dz; // of softmax
        }
        g[j] = d;
        c[j] = y[j] * d;
    }
    free(z);
}

oracle_map oracle_agf_relu(const oracle_map *x, const oracle_map *c)
{
    oracle_map y = oracle_map_copy(c);
    for (int i = 0; i < count(x); i++) y.v[i] = x->v[i] > 0 ? x->v[i] * sd(c->v[i], x->v[i]) : 0;
    return y;
}

void oracle_agf_add(const oracle_map *a, const oracle_map *b, const oracle_map *c, oracle_map *ca, oracle_map *cb)
{
    *ca = oracle_map_copy(a), *cb = oracle_map_copy(b);
    for (int i = 0; i < count(a); i++) {
        ca->v[i] = a->v[i] * sd(c->v[i], a->v[i] + b->v[i]);
        cb->v[i] = b->v[i] * sd(c->v[i], a->v[i] + b->v[i]);
    }
}

oracle_map oracle_agf_fork(const oracle_map *x, const oracle_map *c0, const oracle_map *c1)
{
    oracle_map c = oracle_map_copy(x);
    for (int i = 0; i < count(x); i++) c.v[i] = x->v[i] * (sd(c0->v[i], x->v[i]) + sd(c1->v[i], x->v[i]));
    return c;
}

// The first largest of a window: its row and column.
static double window_max(const oracle_map *x, int c, int top, int left, int k, int *y0, int *x0)
{
    double best = -INFINITY;
    for (int py = top; py < top + k; py++)
        for (int px = left; px < left + k; px++)
            if (py >= 0 && py < x->h && px >= 0 && px<x->w && * oracle_map_at(x, c, py, px)> best)
                best = *oracle_map_at(x, c, py, px), *y0 = py, *x0 = px;
    return best;
}

oracle_map oracle_agf_pool(const oracle_map *x, int k, int stride, int pad, const oracle_map *c, const oracle_map *g, oracle_map *gx)
{
    oracle_map cx = oracle_map_new(x->c, x->h, x->w);
    *gx = oracle_map_new(x->c, x->h, x->w);
    for (int i = 0; i < c->c; i++)
        for (int row = 0; row < c->h; row++)
            for (int col = 0; col < c->w; col++) {
                int py = 0, px = 0;
                double z = window_max(x, i, row * stride - pad, col * stride - pad, k, &py, &px);
                *oracle_map_at(&cx, i, py, px) += *oracle_map_at(x, i, py, px) * sd(*oracle_map_at(c, i, row, col), z);
                *oracle_map_at(gx, i, py, px) += *oracle_map_at(g, i, row, col);
            }
    return cx;
}

oracle_map oracle_agf_mean(const oracle_map *x, const double *c, const double *g, oracle_map *gx)
{
    oracle_map cx = oracle_map_new(x->c, x->h, x->w);
    int places = x->h * x->w;
    *gx = oracle_map_new(x->c, x->h, x->w);
    for (int i = 0; i < x->c; i++) {
        double mean = 0;
        for (int p = 0; p < places; p++) mean += x->v[i * places + p] / places;
        for (int p = 0; p < places; p++) {
            cx.v[i * places + p] = x->v[i * places + p] * sd(c[i], mean) / places;
            gx->v[i * places + p] = g[i] / places;
        }
    }
    return cx;
}

oracle_map oracle_agf_flat(const oracle_map *x, const oracle_filter *f, const oracle_map *c)
{
    oracle_filter abs = part_of(f, '|');
    oracle_map a = oracle_map_copy(x);
    for (int i = 0; i < count(x); i++) a.v[i] = fabs(x->v[i]);
    oracle_map z = oracle_conv_map(&a, &abs), s = divided(c, &z), back = oracle_conv_map_back(&s, &abs, x->h, x->w);
    for (int i = 0; i < count(x); i++) back.v[i] *= a.v[i];
    oracle_map_free(&a), oracle_map_free(&z), oracle_map_free(&s);
    free(abs.w);
    return back;
}

void oracle_agf_factorise(const oracle_map *t, const double *phi, double *out)
{
    int places = t->h * t->w;
    double *r = calloc(2 * (size_t)t->c, sizeof *r), n[2] = {0, 0}, m[2][2] = {{1, 0}, {0, 1}}; // r: minus, plus
    double top = biggest(t);
    oracle_map h = oracle_map_copy(t);
    for (int i = 0; i < count(t); i++) h.v[i] = 1 / (1 + exp(-10 * sd(t->v[i], top)));
    for (int p = 0; p < places; p++) n[0] += phi[p]<0, n[1] += phi[p]> 0;
    for (int i = 0; i < t->c; i++)
        for (int p = 0; p < places; p++)
            if (phi[p] != 0) r[2 * i + (phi[p] > 0)] += h.v[i * places + p] / n[phi[p] > 0];
    for (int i = 0; i < t->c; i++)
        for (int a = 0; a < 2; a++)
            for (int b = 0; b < 2; b++) m[a][b] += r[2 * i + a] * r[2 * i + b];
    double det = m[0][0] * m[1][1] - m[0][1] * m[1][0];
    for (int p = 0; p < places; p++) {
        double d[2] = {0, 0};
        for (int i = 0; i < t->c; i++)
            for (int a = 0; a < 2; a++) d[a] += r[2 * i + a] * h.v[i * places + p];
        out[p] = fmax(0, (m[0][0] * d[1] - m[1][0] * d[0]) / det) - fmax(0, (m[1][1] * d[0] - m[0][1] * d[1]) / det);
    }
    oracle_map_free(&h);
    free(r);
}

// convT_|W|( sd(C, conv_|W|(1)) )
static oracle_map own_share(const oracle_map *x, const oracle_filter *f, const oracle_map *c)
{
    oracle_filter abs = part_of(f, '|');
    oracle_map one = oracle_map_copy(x);
    for (int i = 0; i < count(x); i++) one.v[i] = 1;
    oracle_map z = oracle_conv_map(&one, &abs), s = divided(c, &z), a = oracle_conv_map_back(&s, &abs, x->h, x->w);
    oracle_map_free(&one), oracle_map_free(&z), oracle_map_free(&s);
    free(abs.w);
    return a;
}

// M of every place, divided by the largest.
static void relevance(const oracle_map *x, const oracle_map *g, double *m)
{
    int places = x->h * x->w;
    double top = 0;
    for (int p = 0; p < places; p++) {
        m[p] = 0;
        for (int i = 0; i < x->c; i++) m[p] += x->v[i * places + p] * g->v[i * places + p] / x->c;
        m[p] = fmax(m[p], 0);
        top = fmax(top, m[p]);
    }
    for (int p = 0; p < places; p++) m[p] = sd(m[p], top);
}

oracle_map oracle_agf_full(const oracle_map *x, const oracle_filter *f, const oracle_map *c, const oracle_map *g)
{
    int places = x->h * x->w;
    oracle_map flat = oracle_agf_flat(x, f, c), a = own_share(x, f, c), masked = oracle_map_copy(g), r = oracle_map_copy(x);
    for (int i = 0; i < count(g); i++) masked.v[i] = c->v[i] != 0 ? g->v[i] : 0;
    oracle_map gx = oracle_conv_map_back(g, f, x->h, x->w), masked_gx = oracle_conv_map_back(&masked, f, x->h, x->w);
    double *by_place = calloc(4 * (size_t)places, sizeof *by_place), *m = by_place, *phi = m + places, *fx = phi + places,
           *fg = fx + places;
    relevance(x, &gx, m);
    for (int i = 0; i < count(x); i++) phi[i % places] += flat.v[i] / x->c;
    oracle_agf_factorise(x, phi, fx);
    oracle_agf_factorise(&masked_gx, phi, fg);
    double sum = 0, set = 0;
    for (int i = 0; i < count(x); i++) {
        int p = i % places;
        r.v[i] = flat.v[i] != 0 ? sd(fmax(fx[p], 0) + m[p], 1 + exp(-flat.v[i])) + fmax(fg[p], 0) + a.v[i] : 0;
        sum += r.v[i];
        set += flat.v[i] != 0;
    }
    for (int i = 0; i < count(x); i++)
        if (flat.v[i] != 0) flat.v[i] += r.v[i] - sum / set;
    oracle_map_free(&a), oracle_map_free(&masked), oracle_map_free(&r), oracle_map_free(&gx), oracle_map_free(&masked_gx);
    free(by_place);
    return flat;
}

oracle_map oracle_agf_first(const oracle_map *x, const oracle_filter *f, const oracle_map *c)
{
    oracle_filter plus = part_of(f, '+'), minus = part_of(f, '-');
    oracle_map low = oracle_map_copy(x), high = oracle_map_copy(x), back[3];
    double min = INFINITY, max = biggest(x);
    for (int i = 0; i < count(x); i++) min = fmin(min, x->v[i]);
    for (int i = 0; i < count(x); i++) low.v[i] = min, high.v[i] = max;
    oracle_map z = oracle_conv_map(x, f), zl = oracle_conv_map(&low, &plus), zh = oracle_conv_map(&high, &minus);
    for (int i = 0; i < count(&z); i++) z.v[i] -= zl.v[i] + zh.v[i];
    oracle_map s = divided(c, &z);
    back[0] = oracle_conv_map_back(&s, f, x->h, x->w);
    back[1] = oracle_conv_map_back(&s, &plus, x->h, x->w);
    back[2] = oracle_conv_map_back(&s, &minus, x->h, x->w);
    for (int i = 0; i < count(x); i++) back[0].v[i] = x->v[i] * back[0].v[i] - min * back[1].v[i] - max * back[2].v[i];
    oracle_map_free(&low), oracle_map_free(&high), oracle_map_free(&z), oracle_map_free(&zl), oracle_map_free(&zh);
    oracle_map_free(&s), oracle_map_free(&back[1]), oracle_map_free(&back[2]);
    free(plus.w), free(minus.w);
    return back[0];
}

double *oracle_pooled_query(const oracle_map *z, int heads)
{
    int places = z->h * z->w, group = z->c / heads;
    double *s = calloc((size_t)(heads * places), sizeof *s);
    for (int i = 0; i < heads * group; i++) {
        double q = 0;
        for (int p = 0; p < places; p++) q += z->v[i * places + p] / places;
        for (int p = 0; p < places; p++) s[i / group * places + p] += q * z->v[i * places + p];
    }
    return s;
}
