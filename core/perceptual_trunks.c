// The trunks of LPIPS: SqueezeNet 1.1, AlexNet and VGG-16 up to their last feature map, and how their weights are named.
//
// A trunk is a table of blocks, numbered as in torchvision's `features`; a fire block becomes four steps (squeeze, two expansions,
// their join). Tensors are found as net.<number>.weight or, as the module `lpips` saves them, net.slice<k>.<number>.weight.
// Owns the f32 copies of the weights; the file is closed after reading.
#include "core/perceptual_trunks.h"

#include "core/mem.h"
#include "core/safetensors.h"

#include <stdio.h>
#include <string.h>

typedef enum { END, CONV, POOL, FIRE } block_kind;

typedef struct block {
    block_kind kind;
    int number;         // within `features`
    int c;              // channels made; FIRE: of each of the two expansions
    int k, stride, pad; // FIRE: k is the channels of its squeeze; POOL: pad is its ceil mode
    int tap;            // this block's result is a layer of LPIPS
} block;

static const block squeeze_blocks[] = {
    {CONV, 0, 64, 3, 2, 0, 1},    {POOL, 2, 0, 3, 2, 1, 0},     {FIRE, 3, 64, 16, 0, 0, 0},
    {FIRE, 4, 64, 16, 0, 0, 1},   {POOL, 5, 0, 3, 2, 1, 0},     {FIRE, 6, 128, 32, 0, 0, 0},
    {FIRE, 7, 128, 32, 0, 0, 1},  {POOL, 8, 0, 3, 2, 1, 0},     {FIRE, 9, 192, 48, 0, 0, 1},
    {FIRE, 10, 192, 48, 0, 0, 1}, {FIRE, 11, 256, 64, 0, 0, 1}, {FIRE, 12, 256, 64, 0, 0, 1},
    {END, 0, 0, 0, 0, 0, 0},
};
static const block alex_blocks[] = {
    {CONV, 0, 64, 11, 4, 2, 1}, {POOL, 2, 0, 3, 2, 0, 0},   {CONV, 3, 192, 5, 1, 2, 1},  {POOL, 5, 0, 3, 2, 0, 0},
    {CONV, 6, 384, 3, 1, 1, 1}, {CONV, 8, 256, 3, 1, 1, 1}, {CONV, 10, 256, 3, 1, 1, 1}, {END, 0, 0, 0, 0, 0, 0},
};
static const block vgg_blocks[] = {
    {CONV, 0, 64, 3, 1, 1, 0},   {CONV, 2, 64, 3, 1, 1, 1}, {POOL, 4, 0, 2, 2, 0, 0},    {CONV, 5, 128, 3, 1, 1, 0},
    {CONV, 7, 128, 3, 1, 1, 1},  {POOL, 9, 0, 2, 2, 0, 0},  {CONV, 10, 256, 3, 1, 1, 0}, {CONV, 12, 256, 3, 1, 1, 0},
    {CONV, 14, 256, 3, 1, 1, 1}, {POOL, 16, 0, 2, 2, 0, 0}, {CONV, 17, 512, 3, 1, 1, 0}, {CONV, 19, 512, 3, 1, 1, 0},
    {CONV, 21, 512, 3, 1, 1, 1}, {POOL, 23, 0, 2, 2, 0, 0}, {CONV, 24, 512, 3, 1, 1, 0}, {CONV, 26, 512, 3, 1, 1, 0},
    {CONV, 28, 512, 3, 1, 1, 1}, {END, 0, 0, 0, 0, 0, 0},
};

static const struct {
    const char *name, *mark; // a tensor that only this trunk has, with these many dimensions and this kernel
    int k;
    const block *blocks;
} trunks[] = {
    {"squeeze", "3.squeeze.weight", 1, squeeze_blocks},
    {"alex", "0.weight", 11, alex_blocks},
    {"vgg", "28.weight", 3, vgg_blocks},
};

typedef struct reader {
    const yd_safetensors *st;
    const char *path;
    yd_lpips_net *net;
    int last; // map that the next block reads
    int c;    // its channels
    yd_err *err;
} reader;

static const yd_st_tensor *find(const yd_safetensors *st, const char *rest)
{
    char name[80];
    snprintf(name, sizeof name, "net.%s", rest);
    const yd_st_tensor *t = yd_st_find(st, name);
    for (int k = 1; k <= YD_LPIPS_MAX_LAYERS && !t; k++) {
        snprintf(name, sizeof name, "net.slice%d.%s", k, rest);
        t = yd_st_find(st, name);
    }
    return t;
}

// Is the tensor there, in this shape?
static int check_shape(const reader *r, const yd_st_tensor *t, const char *name, int ndim, const int64_t dims[4])
{
    char want[64];
    if (ndim == 1)
        snprintf(want, sizeof want, "shape [%d]", (int)dims[0]);
    else
        snprintf(want, sizeof want, "shape [%d, %d, %d, %d]", (int)dims[0], (int)dims[1], (int)dims[2], (int)dims[3]);
    if (!t)
        return yd_fail_field(r->err, YD_E_CHECKPOINT, name, want, "%s: tensor '%s' of the LPIPS trunk '%s' is missing",
                             r->path, name, r->net->name);
    int same = t->ndim == ndim;
    for (int i = 0; i < ndim && same; i++) same = t->dims[i] == dims[i];
    if (same) return YD_OK;
    return yd_fail_field(r->err, YD_E_CHECKPOINT, name, want, "%s: tensor '%s' does not have the %s", r->path, t->name,
                         want);
}

static int load(reader *r, const yd_st_tensor *t, const char *name, int ndim, const int64_t dims[4], float **out)
{
    int rc = check_shape(r, t, name, ndim, dims);
    if (rc) return rc;
    float *data = yd_calloc(t->numel, sizeof *data);
    if (!data) return yd_fail(r->err, YD_E_NOMEM, "no memory for tensor '%s'", name);
    r->net->params[r->net->n_params++] = data;
    *out = data;
    return yd_st_to_f32(t, data, r->err);
}

static int load_pair(reader *r, const char *module, yd_trunk_step *s)
{
    static const char *const parts[2] = {"weight", "bias"};
    const int64_t dims[2][4] = {{s->c, s->in_c, s->k[0], s->k[1]}, {s->c, 0, 0, 0}};
    for (int i = 0; i < 2; i++) {
        char rest[64], name[80];
        float *data = NULL;
        snprintf(rest, sizeof rest, "%s.%s", module, parts[i]);
        snprintf(name, sizeof name, "net.%s", rest);
        int rc = load(r, find(r->st, rest), name, i ? 1 : 4, dims[i], &data);
        if (rc) return rc;
        *(i ? &s->bias : &s->weight) = data;
    }
    return YD_OK;
}

// Append a step that reads map `from`; the map it writes has the number returned by net->n_steps afterwards.
static yd_trunk_step *append(reader *r, yd_trunk_kind kind, int from, int in_c, int c)
{
    yd_trunk_step *s = &r->net->steps[r->net->n_steps++];
    *s = (yd_trunk_step){.kind = kind, .from = {from}, .n_from = 1, .in_c = in_c, .c = c, .k = {1, 1}, .stride = 1, .tap = -1};
    return s;
}

static int add_conv(reader *r, const char *module, int from, int in_c, int c, int k, int stride, int pad)
{
    yd_trunk_step *s = append(r, YD_TRUNK_CONV, from, in_c, c);
    s->k[0] = s->k[1] = k, s->stride = stride, s->pad[0] = s->pad[1] = pad;
    return load_pair(r, module, s);
}

static int add_fire(reader *r, const block *b)
{
    char module[40];
    snprintf(module, sizeof module, "%d.squeeze", b->number);
    int rc = add_conv(r, module, r->last, r->c, b->k, 1, 1, 0);
    int squeezed = r->net->n_steps;
    snprintf(module, sizeof module, "%d.expand1x1", b->number);
    if (!rc) rc = add_conv(r, module, squeezed, b->k, b->c, 1, 1, 0);
    snprintf(module, sizeof module, "%d.expand3x3", b->number);
    if (!rc) rc = add_conv(r, module, squeezed, b->k, b->c, 3, 1, 1);
    if (rc) return rc;
    yd_trunk_step *s = append(r, YD_TRUNK_JOIN, squeezed + 1, b->c, 2 * b->c);
    s->from[s->n_from++] = squeezed + 2;
    return YD_OK;
}

static int add_block(reader *r, const block *b)
{
    yd_lpips_net *net = r->net;
    int rc = YD_OK;
    if (b->kind == POOL) {
        yd_trunk_step *s = append(r, YD_TRUNK_MAX, r->last, r->c, r->c);
        s->k[0] = s->k[1] = b->k, s->stride = b->stride, s->ceil = b->pad;
    } else if (b->kind == FIRE) {
        rc = add_fire(r, b);
    } else {
        char module[16];
        snprintf(module, sizeof module, "%d", b->number);
        rc = add_conv(r, module, r->last, r->c, b->c, b->k, b->stride, b->pad);
    }
    if (rc) return rc;
    r->last = net->n_steps;
    r->c = net->steps[net->n_steps - 1].c;
    if (!b->tap) return YD_OK;

    int layer = net->layers++;
    char name[40];
    snprintf(name, sizeof name, "lin%d.model.1.weight", layer);
    net->steps[net->n_steps - 1].tap = layer;
    net->channels[layer] = r->c;
    return load(r, yd_st_find(r->st, name), name, 4, (const int64_t[4]){1, r->c, 1, 1}, &net->lin[layer]);
}

static int read_trunk(reader *r)
{
    for (size_t i = 0; i < sizeof trunks / sizeof *trunks; i++) {
        const yd_st_tensor *mark = find(r->st, trunks[i].mark);
        if (!mark || mark->ndim != 4 || mark->dims[3] != trunks[i].k) continue;
        r->net->name = trunks[i].name;
        int rc = YD_OK;
        for (const block *b = trunks[i].blocks; b->kind != END && !rc; b++) rc = add_block(r, b);
        return rc;
    }
    return yd_fail_field(r->err, YD_E_CHECKPOINT, r->path,
                         "squeeze (net.3.squeeze.weight), alex (net.0.weight of 11 x 11), vgg (net.28.weight)",
                         "%s holds none of the LPIPS trunks squeeze, alex and vgg", r->path);
}

int yd_lpips_net_read(yd_lpips_net *net, const char *path, yd_err *err)
{
    yd_safetensors *st = NULL;
    *net = (yd_lpips_net){0};
    int rc = yd_st_open(path, &st, err);
    if (rc) return rc;
    reader r = {.st = st, .path = path, .net = net, .c = 3, .err = err};
    rc = read_trunk(&r);
    yd_st_close(st);
    return rc;
}

void yd_lpips_net_clear(yd_lpips_net *net)
{
    for (int i = 0; i < net->n_params; i++) yd_free(net->params[i]);
    *net = (yd_lpips_net){0};
}

int yd_lpips_net_min_side(const yd_lpips_net *net)
{
    return yd_trunk_min_side(net->steps, net->n_steps);
}
