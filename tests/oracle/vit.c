// The plainest vision transformer: every sum as it is written down, in double. See vit.h.
#include "tests/oracle/vit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct net {
    const yd_safetensors *st;
    const char *prefix;
    int missing;
} net;

// A tensor as doubles; the caller's to free.
static double *get(net *n, const char *name, int64_t dims[4])
{
    char full[200];
    snprintf(full, sizeof full, "%s%s", n->prefix, name);
    const yd_st_tensor *t = yd_st_find(n->st, full);
    float *f = t ? malloc(t->numel * sizeof *f) : NULL;
    double *d = t ? malloc(t->numel * sizeof *d) : NULL;
    if (!f || !d || yd_st_to_f32(t, f, NULL)) {
        n->missing = 1;
        free(f);
        free(d);
        return NULL;
    }
    for (size_t i = 0; i < t->numel; i++) d[i] = (double)f[i];
    for (int i = 0; dims && i < 4; i++) dims[i] = i < t->ndim ? t->dims[i] : 1;
    free(f);
    return d;
}

static double *of_block(net *n, int block, const char *name)
{
    char full[100];
    snprintf(full, sizeof full, "blocks.%d.%s", block, name);
    return get(n, full, NULL);
}

static double cubic(double x)
{
    const double a = -0.75;
    x = fabs(x);
    if (x <= 1) return (a + 2) * x * x * x - (a + 3) * x * x + 1;
    return x < 2 ? a * x * x * x - 5 * a * x * x + 8 * a * x - 4 * a : 0;
}

static int clamp(int x, int top)
{
    return x < 0 ? 0 : x > top ? top : x;
}

void oracle_vit_positions(const double *learned, int grid, int dim, int gw, int gh, double *dst)
{
    for (int y = 0; y < gh; y++)
        for (int x = 0; x < gw; x++)
            for (int c = 0; c < dim; c++) {
                const int same = gw == grid && gh == grid;
                const double fy = same ? y : (y + 0.5) * grid / (gh + 0.1) - 0.5, fx = same ? x : (x + 0.5) * grid / (gw + 0.1) - 0.5;
                double sum = 0;
                for (int j = (int)floor(fy) - 1; j <= (int)floor(fy) + 2; j++)
                    for (int i = (int)floor(fx) - 1; i <= (int)floor(fx) + 2; i++)
                        sum += cubic(fy - j) * cubic(fx - i) * learned[(clamp(j, grid - 1) * grid + clamp(i, grid - 1)) * dim + c];
                dst[(y * gw + x) * dim + c] = sum;
            }
}

// y[out] = W[out][in] x + bias
static void layer(const double *x, const double *w, const double *bias, int in, int out, double *y)
{
    for (int o = 0; o < out; o++) {
        y[o] = bias[o];
        for (int i = 0; i < in; i++) y[o] += w[o * in + i] * x[i];
    }
}

static void normalise(const double *x, const double *w, const double *bias, int n, double *y)
{
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++) mean += x[i] / n;
    for (int i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean) / n;
    for (int i = 0; i < n; i++) y[i] = (x[i] - mean) / sqrt(var + 1e-6) * w[i] + bias[i];
}

// p[j] = softmax over j of q . k_j / sqrt(n); keys lie `row` apart
static void attention(const double *q, const double *k, int row, int n, int tokens, double *p)
{
    double top = -INFINITY, sum = 0;
    for (int j = 0; j < tokens; j++) {
        p[j] = 0;
        for (int i = 0; i < n; i++) p[j] += q[i] * k[j * row + i];
        p[j] /= sqrt(n);
        top = p[j] > top ? p[j] : top;
    }
    for (int j = 0; j < tokens; j++) sum += p[j] = exp(p[j] - top);
    for (int j = 0; j < tokens; j++) p[j] /= sum;
}

static double *enter(net *n, const float *rgb, int w, int h, int *dim, int *patch)
{
    static const double mean[3] = {.485, .456, .406}, deviation[3] = {.229, .224, .225};
    int64_t s[4] = {0}, places[4] = {0};
    double *kernel = get(n, "patch_embed.proj.weight", s), *bias = get(n, "patch_embed.proj.bias", NULL), *cls = get(n, "cls_token", NULL),
           *learned = get(n, "pos_embed", places), *x = NULL, *pos = NULL;
    if (n->missing) goto out;
    const int d = *dim = (int)s[0], p = *patch = (int)s[2], gw = w / p, gh = h / p, grid = (int)lround(sqrt((double)(places[1] - 1)));
    x = calloc((size_t)((1 + gw * gh) * d), sizeof *x);
    pos = malloc((size_t)(gw * gh * d) * sizeof *pos);
    oracle_vit_positions(learned + d, grid, d, gw, gh, pos);
    for (int o = 0; o < d; o++) x[o] = cls[o] + learned[o];
    for (int t = 0; t < gw * gh; t++)
        for (int o = 0; o < d; o++) {
            double sum = bias[o] + pos[t * d + o];
            for (int c = 0; c < 3; c++)
                for (int j = 0; j < p; j++)
                    for (int i = 0; i < p; i++) {
                        const double v = (double)rgb[((t / gw * p + j) * w + t % gw * p + i) * 3 + c];
                        sum += kernel[((o * 3 + c) * p + j) * p + i] * (v - mean[c]) / deviation[c];
                    }
            x[(1 + t) * d + o] = sum;
        }
out:
    free(kernel);
    free(bias);
    free(cls);
    free(learned);
    free(pos);
    return x;
}

// norm1, q, k and v of all tokens; the caller's to free.
static double *look(net *n, int block, const double *x, int tokens, int d)
{
    double *nw = of_block(n, block, "norm1.weight"), *nb = of_block(n, block, "norm1.bias"), *w = of_block(n, block, "attn.qkv.weight"),
           *b = of_block(n, block, "attn.qkv.bias"), *qkv = malloc((size_t)(tokens * 3 * d) * sizeof *qkv),
           *y = malloc((size_t)d * sizeof *y);
    for (int t = 0; !n->missing && t < tokens; t++) {
        normalise(x + t * d, nw, nb, d, y);
        layer(y, w, b, d, 3 * d, qkv + t * 3 * d);
    }
    double *all[] = {nw, nb, w, b, y};
    for (int i = 0; i < 5; i++) free(all[i]);
    return qkv;
}

static void whole_block(net *n, int block, double *x, int tokens, int d, int heads)
{
    static const char *const names[] = {"attn.proj.weight", "attn.proj.bias", "norm2.weight",   "norm2.bias",
                                        "mlp.fc1.weight",   "mlp.fc1.bias",   "mlp.fc2.weight", "mlp.fc2.bias"};
    double *m[8];
    char full[100];
    int64_t shape[4] = {0};
    for (int i = 0; i < 8; i++) {
        snprintf(full, sizeof full, "blocks.%d.%s", block, names[i]);
        m[i] = get(n, full, i == 4 ? shape : NULL);
    }
    const int hidden = (int)shape[0], head = d / heads;
    double *qkv = look(n, block, x, tokens, d), *seen = calloc((size_t)d, sizeof *seen), *y = malloc((size_t)d * sizeof *y),
           *wide = malloc((size_t)(hidden + 1) * sizeof *wide), *p = malloc((size_t)tokens * sizeof *p);
    for (int t = 0; !n->missing && t < tokens; t++) {
        for (int i = 0; i < d; i++) seen[i] = 0;
        for (int k = 0; k < heads; k++) {
            attention(qkv + t * 3 * d + k * head, qkv + d + k * head, 3 * d, head, tokens, p);
            for (int j = 0; j < tokens; j++)
                for (int i = 0; i < head; i++) seen[k * head + i] += p[j] * qkv[j * 3 * d + 2 * d + k * head + i];
        }
        layer(seen, m[0], m[1], d, d, y);
        for (int i = 0; i < d; i++) x[t * d + i] += y[i];
        normalise(x + t * d, m[2], m[3], d, y);
        layer(y, m[4], m[5], d, hidden, wide);
        for (int i = 0; i < hidden; i++) wide[i] *= 0.5 * (1 + erf(wide[i] / sqrt(2)));
        layer(wide, m[6], m[7], hidden, d, y);
        for (int i = 0; i < d; i++) x[t * d + i] += y[i];
    }
    for (int i = 0; i < 8; i++) free(m[i]);
    free(qkv);
    free(seen);
    free(y);
    free(wide);
    free(p);
}

int oracle_vit(const yd_safetensors *st, const char *prefix, int heads, const float *rgb, int w, int h, double *raw)
{
    net n = {.st = st, .prefix = prefix};
    int d = 0, patch = 1, block = 0;
    char name[200];
    double *x = enter(&n, rgb, w, h, &d, &patch);
    const int patches = (w / patch) * (h / patch), head = d / heads;
    double *p = malloc((size_t)(patches + 1) * sizeof *p);
    for (;; block++) {
        snprintf(name, sizeof name, "%sblocks.%d.attn.qkv.weight", prefix, block + 1);
        if (n.missing || !yd_st_find(st, name)) break;
        whole_block(&n, block, x, patches + 1, d, heads);
    }
    double *qkv = n.missing ? NULL : look(&n, block, x, patches + 1, d);
    for (int k = 0; !n.missing && k < heads; k++) {
        attention(qkv + k * head, qkv + d + k * head, 3 * d, head, patches + 1, p);
        memcpy(raw + k * patches, p + 1, (size_t)patches * sizeof *raw);
    }
    free(qkv);
    free(p);
    free(x);
    return n.missing ? -1 : 0;
}
