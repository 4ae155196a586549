// The whole networks of resnet.h: blocks as they are, forward and back, and files of random weights.
#include "tests/oracle/resnet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EPSILON 1e-5

const oracle_resnet_shape oracle_resnet50 = {64, 7, {64, 128, 256, 512}, {256, 512, 1024, 2048}, {3, 4, 6, 3}};
const oracle_resnet_shape oracle_resnet_tiny = {8, 7, {5, 8, 8, 16}, {12, 16, 24, 33}, {2, 1, 2, 1}};

// ---- files

static uint32_t name_hash(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

// In [0, 1).
static double mixed(uint32_t i, uint32_t seed)
{
    uint32_t x = i * 2654435761u + seed;
    x = (x ^ x >> 15) * 2246822519u;
    x = (x ^ x >> 13) * 3266489917u;
    return ((x ^ x >> 16) >> 8) / 16777216.0;
}

typedef struct writer {
    yd_st_writer *w;
    const char *prefix, *broken;
    uint32_t seed;
    float *kept[800];
    int n, failed;
} writer;

static void put(writer *w, const char *module, const char *part, int ndim, int64_t dims[4], double low, double span)
{
    char name[128], full[192];
    snprintf(name, sizeof name, "%s.%s", module, part);
    snprintf(full, sizeof full, "%s%s", w->prefix, name);
    const char *b = w->broken;
    if (b && !strcmp(b, name)) return;
    if (b && *b == '+' && !strcmp(b + 1, name)) dims[0]++;
    if (b && *b == '-' && !strcmp(b + 1, name)) low = -low, span = -span;
    size_t n = 1;
    for (int i = 0; i < ndim; i++) n *= (size_t)dims[i];
    float *v = w->kept[w->n++] = malloc(n * sizeof *v);
    const uint32_t seed = name_hash(name) + w->seed;
    for (size_t i = 0; i < n; i++) v[i] = (float)(low + span * mixed((uint32_t)i, seed));
    if (yd_st_writer_add(w->w, full, YD_ST_F32, ndim, dims, v, NULL)) w->failed = 1;
}

static void put_unit(writer *w, const char *conv, const char *norm, int in, int out, int k, double gain)
{
    const double span = sqrt(6.0 / (in * k * k));
    put(w, conv, "weight", 4, (int64_t[4]){out, in, k, k}, -span, 2 * span);
    put(w, norm, "weight", 1, (int64_t[4]){out}, 0.75 * gain, 0.5 * gain);
    put(w, norm, "bias", 1, (int64_t[4]){out}, -0.2, 0.4);
    put(w, norm, "running_mean", 1, (int64_t[4]){out}, -0.1, 0.2);
    put(w, norm, "running_var", 1, (int64_t[4]){out}, 0.5, 1);
}

int oracle_resnet_write(const char *path, const char *prefix, const oracle_resnet_shape *s, uint32_t seed, const char *broken)
{
    writer w = {.w = yd_st_writer_new(), .prefix = prefix, .broken = broken, .seed = seed};
    char name[2][64];
    int in = s->stem;
    put_unit(&w, "conv1", "bn1", 3, s->stem, s->k, 1);
    for (int stage = 0; stage < 4; stage++)
        for (int b = 0; b < s->blocks[stage]; b++) {
            for (int i = 1; i <= 3; i++) {
                snprintf(name[0], sizeof name[0], "layer%d.%d.conv%d", stage + 1, b, i);
                snprintf(name[1], sizeof name[1], "layer%d.%d.bn%d", stage + 1, b, i);
                put_unit(&w, name[0], name[1], i == 1 ? in : s->inner[stage], i == 3 ? s->out[stage] : s->inner[stage], i == 2 ? 3 : 1,
                         i == 3 ? 0.4 : 1);
            }
            if (b == 0) {
                snprintf(name[0], sizeof name[0], "layer%d.%d.downsample.0", stage + 1, b);
                snprintf(name[1], sizeof name[1], "layer%d.%d.downsample.1", stage + 1, b);
                put_unit(&w, name[0], name[1], in, s->out[stage], 1, 0.7);
            }
            in = s->out[stage];
        }
    int rc = w.failed || yd_st_writer_save(w.w, path, NULL);
    yd_st_writer_free(w.w);
    for (int i = 0; i < w.n; i++) free(w.kept[i]);
    return rc;
}

// ---- a network

typedef struct unit { // a convolution and its normalisation
    oracle_filter f;
    double *gain, *shift;
} unit;

typedef struct block {
    unit conv[3], around;
    int shortened;
} block;

struct oracle_resnet {
    unit stem;
    block blocks[4][16];
    int n[4];
};

static double *values(const yd_safetensors *st, const char *prefix, const char *module, const char *part, const yd_st_tensor **t)
{
    char name[192];
    snprintf(name, sizeof name, "%s%s.%s", prefix, module, part);
    *t = yd_st_find(st, name);
    float *v = calloc((*t)->numel, sizeof *v);
    double *d = calloc((*t)->numel, sizeof *d);
    yd_st_to_f32(*t, v, NULL);
    for (size_t i = 0; i < (*t)->numel; i++) d[i] = v[i];
    free(v);
    return d;
}

static unit unit_open(const yd_safetensors *st, const char *prefix, const char *conv, const char *norm, int stride)
{
    const yd_st_tensor *t, *n;
    unit u = {.f.w = values(st, prefix, conv, "weight", &t)};
    u.f.c = (int)t->dims[0], u.f.in_c = (int)t->dims[1], u.f.k = (int)t->dims[2], u.f.stride = stride, u.f.pad = u.f.k / 2;
    double *mean = values(st, prefix, norm, "running_mean", &n), *var = values(st, prefix, norm, "running_var", &n);
    u.gain = values(st, prefix, norm, "weight", &n), u.shift = values(st, prefix, norm, "bias", &n);
    for (int i = 0; i < u.f.c; i++) {
        u.gain[i] /= sqrt(var[i] + EPSILON);
        u.shift[i] -= mean[i] * u.gain[i];
    }
    free(mean), free(var);
    return u;
}

static void unit_close(unit *u)
{
    free(u->f.w), free(u->gain), free(u->shift);
}

oracle_resnet *oracle_resnet_open(const yd_safetensors *st, const char *prefix, const oracle_resnet_shape *s)
{
    oracle_resnet *r = calloc(1, sizeof *r);
    char conv[64], norm[64];
    r->stem = unit_open(st, prefix, "conv1", "bn1", 2);
    for (int stage = 0; stage < 4; stage++) {
        r->n[stage] = s->blocks[stage];
        for (int i = 0; i < r->n[stage]; i++) {
            block *b = &r->blocks[stage][i];
            int stride = stage && !i ? 2 : 1;
            for (int k = 0; k < 3; k++) {
                snprintf(conv, sizeof conv, "layer%d.%d.conv%d", stage + 1, i, k + 1);
                snprintf(norm, sizeof norm, "layer%d.%d.bn%d", stage + 1, i, k + 1);
                b->conv[k] = unit_open(st, prefix, conv, norm, k == 1 ? stride : 1);
            }
            b->shortened = i == 0;
            snprintf(conv, sizeof conv, "layer%d.%d.downsample.0", stage + 1, i);
            snprintf(norm, sizeof norm, "layer%d.%d.downsample.1", stage + 1, i);
            if (b->shortened) b->around = unit_open(st, prefix, conv, norm, stride);
        }
    }
    return r;
}

void oracle_resnet_close(oracle_resnet *r)
{
    unit_close(&r->stem);
    for (int stage = 0; stage < 4; stage++)
        for (int i = 0; i < r->n[stage]; i++) {
            block *b = &r->blocks[stage][i];
            for (int k = 0; k < 3; k++) unit_close(&b->conv[k]);
            if (b->shortened) unit_close(&b->around);
        }
    free(r);
}

// ---- forward

static int count(const oracle_map *x)
{
    return x->c * x->h * x->w;
}

// Convolution and normalisation.
static oracle_map unit_run(const unit *u, const oracle_map *x)
{
    oracle_map y = oracle_conv_map(x, &u->f);
    int places = y.h * y.w;
    for (int i = 0; i < count(&y); i++) y.v[i] = y.v[i] * u->gain[i / places] + u->shift[i / places];
    return y;
}

static oracle_map relu(const oracle_map *x)
{
    oracle_map y = oracle_map_copy(x);
    for (int i = 0; i < count(x); i++) y.v[i] = fmax(0, y.v[i]);
    return y;
}

static oracle_map sum(const oracle_map *a, const oracle_map *b)
{
    oracle_map y = oracle_map_copy(a);
    for (int i = 0; i < count(a); i++) y.v[i] += b->v[i];
    return y;
}

static oracle_map max_pool(const oracle_map *x)
{
    oracle_map y = oracle_map_new(x->c, (x->h - 1) / 2 + 1, (x->w - 1) / 2 + 1);
    for (int c = 0; c < y.c; c++)
        for (int i = 0; i < y.h; i++)
            for (int j = 0; j < y.w; j++) {
                double best = -INFINITY;
                for (int a = 2 * i - 1; a <= 2 * i + 1; a++)
                    for (int b = 2 * j - 1; b <= 2 * j + 1; b++)
                        if (a >= 0 && a < x->h && b >= 0 && b < x->w) best = fmax(best, *oracle_map_at(x, c, a, b));
                *oracle_map_at(&y, c, i, j) = best;
            }
    return y;
}

// What a block computes on its way: its input, before and after each ReLU, the two that are added, their sum.
typedef struct trace {
    oracle_map x, pre[2], post[2], inside, around, total, out;
} trace;

static trace block_run(const block *b, const oracle_map *x)
{
    trace t = {.x = oracle_map_copy(x)};
    for (int i = 0; i < 2; i++) {
        t.pre[i] = unit_run(&b->conv[i], i ? &t.post[0] : x);
        t.post[i] = relu(&t.pre[i]);
    }
    t.inside = unit_run(&b->conv[2], &t.post[1]);
    t.around = b->shortened ? unit_run(&b->around, x) : oracle_map_copy(x);
    t.total = sum(&t.inside, &t.around);
    t.out = relu(&t.total);
    return t;
}

static void trace_free(trace *t)
{
    oracle_map *all[] = {&t->x, &t->pre[0], &t->pre[1], &t->post[0], &t->post[1], &t->inside, &t->around, &t->total, &t->out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) oracle_map_free(all[i]);
}

oracle_map oracle_resnet_stage(const oracle_resnet *r, const oracle_map *x, int stage)
{
    oracle_map pre = unit_run(&r->stem, x), post = relu(&pre), y = max_pool(&post);
    oracle_map_free(&pre), oracle_map_free(&post);
    for (int s = 0; s < stage; s++)
        for (int i = 0; i < r->n[s]; i++) {
            trace t = block_run(&r->blocks[s][i], &y);
            oracle_map_free(&y);
            y = oracle_map_copy(&t.out);
            trace_free(&t);
        }
    return y;
}

// ---- back

typedef struct pair {
    oracle_map c, g;
} pair;

static void pair_free(pair *p)
{
    oracle_map_free(&p->c), oracle_map_free(&p->g);
}

static pair relu_back(const oracle_map *x, const pair *p)
{
    pair q = {oracle_agf_relu(x, &p->c), oracle_map_copy(&p->g)};
    for (int i = 0; i < count(x); i++)
        if (x->v[i] <= 0) q.g.v[i] = 0;
    return q;
}

// Through the normalisation, which leaves C alone, and the convolution.
static pair unit_back(const unit *u, const oracle_map *x, const pair *p, int full)
{
    oracle_map g = oracle_map_copy(&p->g);
    int places = g.h * g.w;
    for (int i = 0; i < count(&g); i++) g.v[i] *= u->gain[i / places];
    pair q = {full ? oracle_agf_full(x, &u->f, &p->c, &g) : oracle_agf_flat(x, &u->f, &p->c), oracle_conv_map_back(&g, &u->f, x->h, x->w)};
    oracle_map_free(&g);
    return q;
}

static pair block_back(const block *b, const trace *t, const pair *p)
{
    pair s = relu_back(&t->total, p), in = {.g = oracle_map_copy(&s.g)}, around = {.g = oracle_map_copy(&s.g)};
    oracle_agf_add(&t->inside, &t->around, &s.c, &in.c, &around.c);
    pair_free(&s);
    if (b->shortened) {
        pair q = unit_back(&b->around, &t->x, &around, 0);
        pair_free(&around);
        around = q;
    }
    for (int i = 2; i >= 0; i--) {
        pair q = unit_back(&b->conv[i], i ? &t->post[i - 1] : &t->x, &in, i == 1);
        pair_free(&in);
        in = i ? relu_back(&t->pre[i - 1], &q) : q;
        if (i) pair_free(&q);
    }
    pair out = {oracle_agf_fork(&t->x, &in.c, &around.c), sum(&in.g, &around.g)};
    pair_free(&in), pair_free(&around);
    return out;
}

// C and G of the last map: of the mean's index-th highest.
static pair start(const oracle_map *z, int index)
{
    double *y = calloc(3 * (size_t)z->c, sizeof *y), *c = y + z->c, *g = c + z->c;
    int places = z->h * z->w, t = 0;
    for (int i = 0; i < count(z); i++) y[i / places] += z->v[i] / places;
    for (int i = 0; i < z->c; i++) {
        int above = 0;
        for (int k = 0; k < z->c; k++) above += y[k] > y[i];
        if (above == index) t = i;
    }
    oracle_agf_start(y, z->c, t, c, g);
    pair p;
    p.c = oracle_agf_mean(z, c, g, &p.g);
    free(y);
    return p;
}

void oracle_resnet_agf(const oracle_resnet *r, const oracle_map *x, int index, double *map)
{
    oracle_map pre = unit_run(&r->stem, x), post = relu(&pre), y = max_pool(&post);
    trace traces[4][16];
    const oracle_map *last = &y;
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < r->n[s]; i++) {
            traces[s][i] = block_run(&r->blocks[s][i], last);
            last = &traces[s][i].out;
        }
    pair p = start(last, index);
    for (int s = 3; s >= 0; s--)
        for (int i = r->n[s] - 1; i >= 0; i--) {
            pair q = block_back(&r->blocks[s][i], &traces[s][i], &p);
            pair_free(&p);
            p = q;
            trace_free(&traces[s][i]);
        }
    pair n;
    n.c = oracle_agf_pool(&post, 3, 2, 1, &p.c, &p.g, &n.g);
    pair m = relu_back(&pre, &n);
    oracle_map c = oracle_agf_first(x, &r->stem.f, &m.c);
    double top = -INFINITY;
    for (int i = 0; i < count(&c); i++) top = fmax(top, c.v[i]);
    memset(map, 0, (size_t)(x->h * x->w) * sizeof *map);
    for (int i = 0; i < count(&c); i++) map[i % (x->h * x->w)] += c.v[i] / top;
    pair_free(&p), pair_free(&n), pair_free(&m);
    oracle_map_free(&c), oracle_map_free(&pre), oracle_map_free(&post), oracle_map_free(&y);
}
