// The Inception-v3 of FID up to its last map, as the converted TensorFlow weights of 2015 name and compute it.
//
// A block is a table of rows; a row reads the block's input or an earlier row and is, when it is marked, a part of the block's result,
// in the order of the table. Three things differ from the usual Inception-v3: mean pools do not count their padding, the last block
// pools by the maximum, and there are 1008 classes, which nobody needs here. Convolutions have no bias but a batch normalisation with
// running statistics (epsilon 0.001), which is folded into weights and a bias while reading.
// Owns the f32 copies of the weights; the file is closed after reading. Source: Szegedy et al. 2015; the public module `pytorch-fid`.
#include "core/inception_net.h"

#include "core/mem.h"
#include "core/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define EPSILON 0.001

enum { OWN = 0 };         // channels: the block's own number
enum { INSIDE, PART };    // does a row belong to the block's result?
enum { VALID, SAME };     // padding: none, or so that sides stay
enum { MAX_ROWS = 16 };

typedef struct row {
    const char *module; // NULL: a pool
    yd_trunk_kind kind;
    int from;           // 0: the block's input, i: the table's i-th row, counted from 1
    int c;              // pools: not looked at
    int down, across;   // kernel
    int stride, padding, part;
} row;

#define CONV(name, from, c, down, across, stride, padding, part) {name, YD_TRUNK_CONV, from, c, down, across, stride, padding, part}
#define POOL(kind, stride, padding, part)                        {NULL, YD_TRUNK_##kind, 0, 0, 3, 3, stride, padding, part}
#define END                                                      {NULL, YD_TRUNK_JOIN, 0, 0, 0, 0, 0, 0, 0}

static const row stem[] = {
    CONV("Conv2d_1a_3x3", 0, 32, 3, 3, 2, VALID, INSIDE),
    CONV("Conv2d_2a_3x3", 1, 32, 3, 3, 1, VALID, INSIDE),
    CONV("Conv2d_2b_3x3", 2, 64, 3, 3, 1, SAME, PART),
    END,
};
static const row shrink[] = {POOL(MAX, 2, VALID, PART), END};
static const row stem_end[] = {
    CONV("Conv2d_3b_1x1", 0, 80, 1, 1, 1, VALID, INSIDE),
    CONV("Conv2d_4a_3x3", 1, 192, 3, 3, 1, VALID, PART),
    END,
};
static const row a_rows[] = {
    CONV("branch1x1", 0, 64, 1, 1, 1, VALID, PART),
    CONV("branch5x5_1", 0, 48, 1, 1, 1, VALID, INSIDE),
    CONV("branch5x5_2", 2, 64, 5, 5, 1, SAME, PART),
    CONV("branch3x3dbl_1", 0, 64, 1, 1, 1, VALID, INSIDE),
    CONV("branch3x3dbl_2", 4, 96, 3, 3, 1, SAME, INSIDE),
    CONV("branch3x3dbl_3", 5, 96, 3, 3, 1, SAME, PART),
    POOL(MEAN, 1, SAME, INSIDE),
    CONV("branch_pool", 7, OWN, 1, 1, 1, VALID, PART),
    END,
};
static const row b_rows[] = {
    CONV("branch3x3", 0, 384, 3, 3, 2, VALID, PART),
    CONV("branch3x3dbl_1", 0, 64, 1, 1, 1, VALID, INSIDE),
    CONV("branch3x3dbl_2", 2, 96, 3, 3, 1, SAME, INSIDE),
    CONV("branch3x3dbl_3", 3, 96, 3, 3, 2, VALID, PART),
    POOL(MAX, 2, VALID, PART),
    END,
};
static const row c_rows[] = {
    CONV("branch1x1", 0, 192, 1, 1, 1, VALID, PART),
    CONV("branch7x7_1", 0, OWN, 1, 1, 1, VALID, INSIDE),
    CONV("branch7x7_2", 2, OWN, 1, 7, 1, SAME, INSIDE),
    CONV("branch7x7_3", 3, 192, 7, 1, 1, SAME, PART),
    CONV("branch7x7dbl_1", 0, OWN, 1, 1, 1, VALID, INSIDE),
    CONV("branch7x7dbl_2", 5, OWN, 7, 1, 1, SAME, INSIDE),
    CONV("branch7x7dbl_3", 6, OWN, 1, 7, 1, SAME, INSIDE),
    CONV("branch7x7dbl_4", 7, OWN, 7, 1, 1, SAME, INSIDE),
    CONV("branch7x7dbl_5", 8, 192, 1, 7, 1, SAME, PART),
    POOL(MEAN, 1, SAME, INSIDE),
    CONV("branch_pool", 10, 192, 1, 1, 1, VALID, PART),
    END,
};
static const row d_rows[] = {
    CONV("branch3x3_1", 0, 192, 1, 1, 1, VALID, INSIDE),
    CONV("branch3x3_2", 1, 320, 3, 3, 2, VALID, PART),
    CONV("branch7x7x3_1", 0, 192, 1, 1, 1, VALID, INSIDE),
    CONV("branch7x7x3_2", 3, 192, 1, 7, 1, SAME, INSIDE),
    CONV("branch7x7x3_3", 4, 192, 7, 1, 1, SAME, INSIDE),
    CONV("branch7x7x3_4", 5, 192, 3, 3, 2, VALID, PART),
    POOL(MAX, 2, VALID, PART),
    END,
};
#define E_ROWS(pool)                                        \
    CONV("branch1x1", 0, 320, 1, 1, 1, VALID, PART),        \
    CONV("branch3x3_1", 0, 384, 1, 1, 1, VALID, INSIDE),    \
    CONV("branch3x3_2a", 2, 384, 1, 3, 1, SAME, PART),      \
    CONV("branch3x3_2b", 2, 384, 3, 1, 1, SAME, PART),      \
    CONV("branch3x3dbl_1", 0, 448, 1, 1, 1, VALID, INSIDE), \
    CONV("branch3x3dbl_2", 5, 384, 3, 3, 1, SAME, INSIDE),  \
    CONV("branch3x3dbl_3a", 6, 384, 1, 3, 1, SAME, PART),   \
    CONV("branch3x3dbl_3b", 6, 384, 3, 1, 1, SAME, PART),   \
    POOL(pool, 1, SAME, INSIDE),                            \
    CONV("branch_pool", 9, 192, 1, 1, 1, VALID, PART), END
static const row e1_rows[] = {E_ROWS(MEAN)};
static const row e2_rows[] = {E_ROWS(MAX)};

static const struct block {
    const char *prefix;
    const row *rows;
    int own; // channels of the rows that have OWN
} blocks[] = {
    {"", stem, 0},
    {"", shrink, 0},
    {"", stem_end, 0},
    {"", shrink, 0},
    {"Mixed_5b.", a_rows, 32},
    {"Mixed_5c.", a_rows, 64},
    {"Mixed_5d.", a_rows, 64},
    {"Mixed_6a.", b_rows, 0},
    {"Mixed_6b.", c_rows, 128},
    {"Mixed_6c.", c_rows, 160},
    {"Mixed_6d.", c_rows, 160},
    {"Mixed_6e.", c_rows, 192},
    {"Mixed_7a.", d_rows, 0},
    {"Mixed_7b.", e1_rows, 0},
    {"Mixed_7c.", e2_rows, 0},
};

typedef struct reader {
    const yd_safetensors *st;
    const char *path;
    yd_inception_net *net;
    int last, c; // map that the next block reads, and its channels
    yd_err *err;
} reader;

// ---- weights

// Is the tensor there, in this shape?
static int check_shape(const reader *r, const yd_st_tensor *t, const char *name, int ndim, const int64_t dims[4])
{
    char want[64];
    if (ndim == 1) snprintf(want, sizeof want, "shape [%d]", (int)dims[0]);
    else snprintf(want, sizeof want, "shape [%d, %d, %d, %d]", (int)dims[0], (int)dims[1], (int)dims[2], (int)dims[3]);
    if (!t)
        return yd_fail_field(r->err, YD_E_CHECKPOINT, name, want, "%s: tensor '%s' of the Inception-v3 of FID is missing", r->path, name);
    int same = t->ndim == ndim;
    for (int i = 0; i < ndim && same; i++) same = t->dims[i] == dims[i];
    if (same) return YD_OK;
    return yd_fail_field(r->err, YD_E_CHECKPOINT, name, want, "%s: tensor '%s' does not have the %s", r->path, name, want);
}

// out: a new array.
static int load(const reader *r, const char *name, int ndim, const int64_t dims[4], float **out)
{
    const yd_st_tensor *t = yd_st_find(r->st, name);
    int rc = check_shape(r, t, name, ndim, dims);
    if (rc) return rc;
    *out = yd_calloc(t->numel, sizeof **out);
    if (!*out) return yd_fail(r->err, YD_E_NOMEM, "no memory for tensor '%s'", name);
    return yd_st_to_f32(t, *out, r->err);
}

int yd_inception_fold(float *weight, size_t per, int c, const float *gamma, const float *beta, const float *mean, const float *var,
                      float *bias)
{
    for (int i = 0; i < c; i++) {
        const double spread = (double)var[i] + EPSILON, k = gamma[i] / sqrt(spread), shift = beta[i] - mean[i] * k;
        if (!(spread > 0.0) || !isfinite(k) || !isfinite(shift)) return i;
        for (size_t j = 0; j < per; j++) weight[(size_t)i * per + j] = (float)(weight[(size_t)i * per + j] * k);
        bias[i] = (float)shift;
    }
    return -1;
}

static int load_and_fold(const reader *r, const char *module, const yd_trunk_step *s, float *weight, float **bias)
{
    static const char *const names[4] = {"weight", "bias", "running_mean", "running_var"};
    const int64_t dims[4] = {s->c};
    float *norm[4] = {NULL};
    char name[96];
    int rc = YD_OK;
    for (int i = 0; i < 4 && !rc; i++) {
        snprintf(name, sizeof name, "%s.bn.%s", module, names[i]);
        rc = load(r, name, 1, dims, &norm[i]);
    }
    if (!rc && !(*bias = yd_calloc((size_t)s->c, sizeof **bias))) rc = yd_fail(r->err, YD_E_NOMEM, "no memory for the biases of '%s'", module);
    if (!rc) {
        const size_t per = (size_t)s->in_c * (size_t)s->k[0] * (size_t)s->k[1];
        int bad = yd_inception_fold(weight, per, s->c, norm[0], norm[1], norm[2], norm[3], *bias);
        if (bad >= 0)
            rc = yd_fail_field(r->err, YD_E_CHECKPOINT, name, "finite numbers, variances of 0 or more",
                               "%s: the normalisation '%s.bn' of channel %d is not finite", r->path, module, bad);
    }
    for (int i = 0; i < 4; i++) yd_free(norm[i]);
    return rc;
}

// ---- steps

static yd_trunk_step *append(reader *r, yd_trunk_kind kind, int from, int in_c, int c)
{
    yd_trunk_step *s = &r->net->steps[r->net->n_steps++];
    *s = (yd_trunk_step){.kind = kind, .from = {from}, .n_from = 1, .in_c = in_c, .c = c, .k = {1, 1}, .stride = 1, .tap = -1};
    return s;
}

static int add_row(reader *r, const struct block *b, const row *w, int from, int in_c)
{
    const int at = r->net->n_steps;
    yd_trunk_step *s = append(r, w->kind, from, in_c, !w->module ? in_c : w->c == OWN ? b->own : w->c);
    s->k[0] = w->down, s->k[1] = w->across, s->stride = w->stride;
    for (int axis = 0; axis < 2 && w->padding == SAME; axis++) s->pad[axis] = s->k[axis] / 2;
    if (!w->module) return YD_OK;

    char module[64], name[80];
    snprintf(module, sizeof module, "%s%s", b->prefix, w->module);
    snprintf(name, sizeof name, "%s.conv.weight", module);
    int rc = load(r, name, 4, (const int64_t[4]){s->c, s->in_c, s->k[0], s->k[1]}, &r->net->weights[at]);
    if (!rc) rc = load_and_fold(r, module, s, r->net->weights[at], &r->net->biases[at]);
    s->weight = r->net->weights[at], s->bias = r->net->biases[at];
    return rc;
}

// The block's result: its only part, or the parts joined.
static void add_end(reader *r, const int *parts, int n)
{
    const yd_trunk_step *steps = r->net->steps;
    int c = 0;
    for (int i = 0; i < n; i++) c += steps[parts[i] - 1].c;
    r->last = parts[0], r->c = c;
    if (n == 1) return;
    yd_trunk_step *s = append(r, YD_TRUNK_JOIN, parts[0], 0, c);
    memcpy(s->from, parts, (size_t)n * sizeof *parts);
    s->n_from = n;
    r->last = r->net->n_steps;
}

static int add_block(reader *r, const struct block *b)
{
    int maps[MAX_ROWS] = {r->last}, channels[MAX_ROWS] = {r->c}, parts[YD_TRUNK_MAX_FROM] = {r->last}, n_parts = 0;
    for (int i = 0; b->rows[i].kind != YD_TRUNK_JOIN; i++) {
        const row *w = &b->rows[i];
        int rc = add_row(r, b, w, maps[w->from], channels[w->from]);
        if (rc) return rc;
        maps[i + 1] = r->net->n_steps;
        channels[i + 1] = r->net->steps[r->net->n_steps - 1].c;
        if (w->part == PART) parts[n_parts++] = maps[i + 1];
    }
    add_end(r, parts, n_parts);
    return YD_OK;
}

int yd_inception_net_read(yd_inception_net *net, const char *path, yd_err *err)
{
    yd_safetensors *st = NULL;
    *net = (yd_inception_net){0};
    int rc = yd_st_open(path, &st, err);
    if (rc) return rc;
    reader r = {.st = st, .path = path, .net = net, .c = 3, .err = err};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks && !rc; i++) rc = add_block(&r, &blocks[i]);
    if (!rc) net->steps[net->n_steps - 1].tap = 0;
    yd_st_close(st);
    return rc;
}

void yd_inception_net_drop_weights(yd_inception_net *net)
{
    for (int i = 0; i < net->n_steps; i++) {
        yd_free(net->weights[i]);
        net->weights[i] = NULL;
    }
}

void yd_inception_net_clear(yd_inception_net *net)
{
    yd_inception_net_drop_weights(net);
    for (int i = 0; i < net->n_steps; i++) yd_free(net->biases[i]);
    *net = (yd_inception_net){0};
}
