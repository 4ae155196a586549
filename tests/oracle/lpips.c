// See lpips.h. Every map is a new allocation; nothing here is fast.
#include "tests/oracle/lpips.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct plane_stack {
    int c, h, w;
    double *v;
} stack;

typedef struct net {
    const yd_safetensors *st;
    const char *prefix;
    stack x;         // the map at hand
    stack layers[7]; // copies
    int n;
} net;

static stack stack_new(int c, int h, int w)
{
    return (stack){c, h, w, calloc((size_t)c * (size_t)h * (size_t)w, sizeof(double))};
}

static double *at(const stack *s, int c, int y, int x)
{
    return &s->v[((size_t)c * (size_t)s->h + (size_t)y) * (size_t)s->w + (size_t)x];
}

static float *values(const net *n, const char *module, const char *part, int64_t *dims)
{
    char name[100];
    snprintf(name, sizeof name, "%s%s.%s", n->prefix, module, part);
    const yd_st_tensor *t = yd_st_find(n->st, name);
    float *v = calloc(t->numel, sizeof *v);
    yd_st_to_f32(t, v, NULL);
    memcpy(dims, t->dims, 4 * sizeof *dims);
    return v;
}

static double conv_at(const stack *x, const float *w, int k, int top, int left)
{
    double sum = 0;
    for (int c = 0; c < x->c; c++)
        for (int i = 0; i < k; i++)
            for (int j = 0; j < k; j++) {
                int y = top + i, z = left + j;
                if (y >= 0 && y < x->h && z >= 0 && z < x->w) sum += w[(c * k + i) * k + j] * *at(x, c, y, z);
            }
    return sum;
}

static stack conv(const net *n, const stack *x, const char *module, int stride, int pad)
{
    int64_t d[4], bd[4];
    float *w = values(n, module, "weight", d), *bias = values(n, module, "bias", bd);
    int k = (int)d[2];
    stack y = stack_new((int)d[0], (x->h + 2 * pad - k) / stride + 1, (x->w + 2 * pad - k) / stride + 1);
    for (int c = 0; c < y.c; c++)
        for (int i = 0; i < y.h; i++)
            for (int j = 0; j < y.w; j++)
                *at(&y, c, i, j) =
                    fmax(0.0, bias[c] + conv_at(x, w + c * x->c * k * k, k, i * stride - pad, j * stride - pad));
    free(w);
    free(bias);
    return y;
}

static void become(net *n, stack x)
{
    free(n->x.v);
    n->x = x;
}

static void tap(net *n)
{
    stack *s = &n->layers[n->n++];
    *s = stack_new(n->x.c, n->x.h, n->x.w);
    memcpy(s->v, n->x.v, (size_t)s->c * (size_t)s->h * (size_t)s->w * sizeof(double));
}

// Windows begin at 0, stride, ... while they lie inside; ceil_mode: while they begin inside and the one before did not reach the end.
static void pool(net *n, int k, int stride, int ceil_mode)
{
    const stack *x = &n->x;
    int h = 0, w = 0;
    for (int y = 0; ceil_mode ? y < x->h && (y == 0 || y - stride + k < x->h) : y + k <= x->h; y += stride) h++;
    for (int z = 0; ceil_mode ? z < x->w && (z == 0 || z - stride + k < x->w) : z + k <= x->w; z += stride) w++;
    stack out = stack_new(x->c, h, w);
    for (int c = 0; c < x->c; c++)
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
                double most = -INFINITY;
                for (int y = i * stride; y < i * stride + k && y < x->h; y++)
                    for (int z = j * stride; z < j * stride + k && z < x->w; z++) most = fmax(most, *at(x, c, y, z));
                *at(&out, c, i, j) = most;
            }
    become(n, out);
}

static void fire(net *n, int number, int tapped)
{
    char module[40];
    snprintf(module, sizeof module, "%d.squeeze", number);
    stack s = conv(n, &n->x, module, 1, 0);
    snprintf(module, sizeof module, "%d.expand1x1", number);
    stack a = conv(n, &s, module, 1, 0);
    snprintf(module, sizeof module, "%d.expand3x3", number);
    stack b = conv(n, &s, module, 1, 1);
    stack out = stack_new(a.c + b.c, a.h, a.w);
    size_t half = (size_t)a.c * (size_t)a.h * (size_t)a.w;
    memcpy(out.v, a.v, half * sizeof(double));
    memcpy(out.v + half, b.v, half * sizeof(double));
    free(s.v);
    free(a.v);
    free(b.v);
    become(n, out);
    if (tapped) tap(n);
}

static void plain(net *n, const char *module, int stride, int pad, int tapped)
{
    become(n, conv(n, &n->x, module, stride, pad));
    if (tapped) tap(n);
}

static void run_squeeze(net *n)
{
    plain(n, "0", 2, 0, 1);
    pool(n, 3, 2, 1);
    fire(n, 3, 0), fire(n, 4, 1);
    pool(n, 3, 2, 1);
    fire(n, 6, 0), fire(n, 7, 1);
    pool(n, 3, 2, 1);
    fire(n, 9, 1), fire(n, 10, 1), fire(n, 11, 1), fire(n, 12, 1);
}

static void run_alex(net *n)
{
    plain(n, "0", 4, 2, 1);
    pool(n, 3, 2, 0);
    plain(n, "3", 1, 2, 1);
    pool(n, 3, 2, 0);
    plain(n, "6", 1, 1, 1), plain(n, "8", 1, 1, 1), plain(n, "10", 1, 1, 1);
}

static void run_vgg(net *n)
{
    plain(n, "0", 1, 1, 0), plain(n, "2", 1, 1, 1);
    pool(n, 2, 2, 0);
    plain(n, "5", 1, 1, 0), plain(n, "7", 1, 1, 1);
    pool(n, 2, 2, 0);
    plain(n, "10", 1, 1, 0), plain(n, "12", 1, 1, 0), plain(n, "14", 1, 1, 1);
    pool(n, 2, 2, 0);
    plain(n, "17", 1, 1, 0), plain(n, "19", 1, 1, 0), plain(n, "21", 1, 1, 1);
    pool(n, 2, 2, 0);
    plain(n, "24", 1, 1, 0), plain(n, "26", 1, 1, 0), plain(n, "28", 1, 1, 1);
}

static void run(net *n, const char *trunk, const uint8_t *rgb, int w, int h)
{
    static const double shift[3] = {-.030, -.088, -.188}, scale[3] = {.458, .448, .450};
    n->x = stack_new(3, h, w);
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                *at(&n->x, c, y, x) = (rgb[(y * w + x) * 3 + c] / 127.5 - 1 - shift[c]) / scale[c];
    if (!strcmp(trunk, "squeeze"))
        run_squeeze(n);
    else if (!strcmp(trunk, "alex"))
        run_alex(n);
    else
        run_vgg(n);
}

// Where the two differ, h x w of the layer.
static stack difference(const stack *a, const stack *b, const float *lin)
{
    stack d = stack_new(1, a->h, a->w);
    for (int y = 0; y < a->h; y++)
        for (int x = 0; x < a->w; x++) {
            double na = 0, nb = 0;
            for (int c = 0; c < a->c; c++) {
                na += pow(*at(a, c, y, x), 2);
                nb += pow(*at(b, c, y, x), 2);
            }
            for (int c = 0; c < a->c; c++)
                *at(&d, 0, y, x) +=
                    lin[c] * pow(*at(a, c, y, x) / (sqrt(na) + 1e-10) - *at(b, c, y, x) / (sqrt(nb) + 1e-10), 2);
        }
    return d;
}

static double clamped(const stack *d, int y, int x)
{
    return *at(d, 0, y < 0 ? 0 : y >= d->h ? d->h - 1 : y, x < 0 ? 0 : x >= d->w ? d->w - 1 : x);
}

static void enlarge(const stack *d, double *map, int w, int h)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double sy = (y + 0.5) * d->h / h - 0.5, sx = (x + 0.5) * d->w / w - 0.5;
            int iy = (int)floor(sy), ix = (int)floor(sx);
            double fy = sy - iy, fx = sx - ix;
            map[y * w + x] += (1 - fy) * ((1 - fx) * clamped(d, iy, ix) + fx * clamped(d, iy, ix + 1)) +
                              fy * ((1 - fx) * clamped(d, iy + 1, ix) + fx * clamped(d, iy + 1, ix + 1));
        }
}

static double compare(const net *a, const net *b, int i, double *map, int w, int h)
{
    char name[40];
    int64_t d4[4];
    net lins = {.st = a->st, .prefix = "lin"};
    snprintf(name, sizeof name, "%d.model.1", i);
    float *lin = values(&lins, name, "weight", d4);
    stack d = difference(&a->layers[i], &b->layers[i], lin);
    double mean = 0;
    for (int k = 0; k < d.h * d.w; k++) mean += d.v[k] / (d.h * d.w);
    enlarge(&d, map, w, h);
    free(lin);
    free(d.v);
    return mean;
}

double oracle_lpips(const yd_safetensors *st, const char *trunk, const char *prefix, const uint8_t *a, const uint8_t *b,
                    int w, int h, double *layer, double *map, double *features)
{
    net na = {.st = st, .prefix = prefix}, nb = na;
    double total = 0;
    run(&na, trunk, a, w, h);
    run(&nb, trunk, b, w, h);
    memset(map, 0, (size_t)(w * h) * sizeof *map);
    for (int i = 0; i < na.n; i++) total += layer[i] = compare(&na, &nb, i, map, w, h);
    const stack *last = &na.layers[na.n - 1];
    for (int c = 0; c < last->c; c++) {
        features[c] = 0;
        for (int k = 0; k < last->h * last->w; k++)
            features[c] += last->v[c * last->h * last->w + k] / (last->h * last->w);
    }
    for (int i = 0; i < na.n; i++) {
        free(na.layers[i].v);
        free(nb.layers[i].v);
    }
    free(na.x.v);
    free(nb.x.v);
    return total;
}
