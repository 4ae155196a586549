// DINO's vision transformers: sizes from the tensors' shapes, weights into core/cpu/vit.h. See attention_net_kinds.h.
//
// Owns the transformer. Reading holds one block's tensors at a time beside it. Heads cannot be seen in a file: they are given, or dim/64.
#include "core/attention_net_kinds.h"

#include "core/cpu/vit.h"
#include "core/mem.h"

#include <stdio.h>

#define MAX_DIM    4096
#define MAX_HIDDEN 16384
#define MAX_DEPTH  64
#define MAX_PATCH  64
#define MAX_GRID   256
#define HEAD_DIM   64

typedef struct vit_net {
    yd_vit_shape shape;
    yd_vit *vit;
} vit_net;

// ---- shapes --------------------------------------------------------------------------------------------------------

static int odd(const yd_st_tensor *t, const char *name, const char *accepted, yd_err *err)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, t ? t->name : name, accepted, "tensor '%s' of a vision transformer %s", t ? t->name : name,
                         t ? "does not have the shape of one" : "is missing");
}

static int read_patch(const yd_attention_tensors *t, yd_vit_shape *s, yd_err *err)
{
    static const char name[] = "patch_embed.proj.weight";
    const yd_st_tensor *w = yd_attention_tensor(t, name);
    if (!w || w->ndim != 4 || w->dims[0] < 1 || w->dims[0] > MAX_DIM || w->dims[1] != 3 || w->dims[2] < 1 || w->dims[2] > MAX_PATCH ||
        w->dims[3] != w->dims[2])
        return odd(w, name, "shape [up to 4096, 3, p, p], p up to 64", err);
    s->dim = (int)w->dims[0];
    s->patch = (int)w->dims[2];
    return 0;
}

static int read_grid(const yd_attention_tensors *t, yd_vit_shape *s, yd_err *err)
{
    static const char name[] = "pos_embed";
    const yd_st_tensor *p = yd_attention_tensor(t, name);
    if (p && p->ndim == 3 && p->dims[0] == 1 && p->dims[2] == s->dim)
        for (s->grid = 1; s->grid <= MAX_GRID; s->grid++)
            if ((int64_t)s->grid * s->grid + 1 == p->dims[1]) return 0;
    return odd(p, name, "shape [1, 1 + g*g, dim], g up to 256", err);
}

static int read_depth(const yd_attention_tensors *t, yd_vit_shape *s, yd_err *err)
{
    const yd_st_tensor *w = yd_attention_tensor(t, "blocks.0.mlp.fc1.weight");
    if (w && (w->ndim != 2 || w->dims[0] < 1 || w->dims[0] > MAX_HIDDEN)) return odd(w, "", "shape [up to 16384, dim]", err);
    while (s->depth <= MAX_DEPTH && yd_attention_tensor(t, "blocks.%d.attn.qkv.weight", s->depth)) s->depth++;
    if (s->depth < 1 || s->depth > MAX_DEPTH || (!w && s->depth > 1)) return odd(NULL, "blocks", "1 to 64 blocks", err);
    s->hidden = w ? (int)w->dims[0] : 4 * s->dim;
    return 0;
}

static int settle_heads(const yd_attention_net_options *opt, yd_vit_shape *s, yd_err *err)
{
    s->heads = opt->heads ? opt->heads : s->dim % HEAD_DIM == 0 ? s->dim / HEAD_DIM : 0;
    if (s->heads >= 1 && s->heads <= YD_ATTENTION_MAX_HEADS && s->dim % s->heads == 0) return 0;
    static const char accepted[] = "a divisor of the channels, up to 64, in a config.json beside the file";
    if (!s->heads)
        return yd_fail_field(err, YD_E_CHECKPOINT, "num_heads", accepted, "%d channels are no multiple of 64: the number of heads must be said", s->dim);
    return yd_fail_field(err, YD_E_CHECKPOINT, "num_heads", accepted, "%d channels cannot be %d heads", s->dim, s->heads);
}

// ---- weights -------------------------------------------------------------------------------------------------------

typedef struct wanted {
    const char *name;
    int ndim;
    int64_t dims[4];
    const float **to;
} wanted;

static void drop(const wanted *w, int n)
{
    for (int i = 0; i < n; i++) {
        yd_free_aligned((float *)*w[i].to);
        *w[i].to = NULL;
    }
}

// Read n tensors whose names begin so; all or nothing.
static int read_all(const yd_attention_tensors *t, const char *begin, const wanted *w, int n, yd_err *err)
{
    char name[96];
    int rc = 0, done = 0;
    for (; done < n && !rc; done++) {
        float *values;
        snprintf(name, sizeof name, "%s%s", begin, w[done].name);
        rc = yd_attention_tensor_read(t, name, w[done].ndim, w[done].dims, &values, err);
        *w[done].to = rc ? NULL : values;
    }
    if (rc) drop(w, done);
    return rc;
}

static int make(const yd_attention_tensors *t, const yd_attention_net_options *opt, vit_net *net, yd_err *err)
{
    const yd_vit_shape *s = &net->shape;
    const int64_t d = s->dim, p = s->patch, places = 1 + (int64_t)s->grid * s->grid;
    yd_vit_tokens k = {0};
    const wanted w[] = {
        {"patch_embed.proj.weight", 4, {d, 3, p, p}, &k.patch_weight},
        {"patch_embed.proj.bias", 1, {d}, &k.patch_bias},
        {"cls_token", 3, {1, 1, d}, &k.class_token},
        {"pos_embed", 3, {1, places, d}, &k.positions},
    };
    int rc = read_all(t, "", w, 4, err);
    if (rc) return rc;
    rc = yd_vit_new(s, &k, opt->threads, &net->vit, err);
    drop(w, 4);
    return rc;
}

static int add_block(const yd_attention_tensors *t, vit_net *net, int i, yd_err *err)
{
    const int64_t d = net->shape.dim, hidden = net->shape.hidden;
    yd_vit_block b = {0};
    const wanted w[] = {
        {"norm1.weight", 1, {d}, &b.norm1_weight},         {"norm1.bias", 1, {d}, &b.norm1_bias},
        {"attn.qkv.weight", 2, {3 * d, d}, &b.qkv_weight}, {"attn.qkv.bias", 1, {3 * d}, &b.qkv_bias},
        {"attn.proj.weight", 2, {d, d}, &b.proj_weight},   {"attn.proj.bias", 1, {d}, &b.proj_bias},
        {"norm2.weight", 1, {d}, &b.norm2_weight},         {"norm2.bias", 1, {d}, &b.norm2_bias},
        {"mlp.fc1.weight", 2, {hidden, d}, &b.fc1_weight}, {"mlp.fc1.bias", 1, {hidden}, &b.fc1_bias},
        {"mlp.fc2.weight", 2, {d, hidden}, &b.fc2_weight}, {"mlp.fc2.bias", 1, {d}, &b.fc2_bias},
    };
    const int n = i + 1 < net->shape.depth ? (int)(sizeof w / sizeof *w) : 4; // of the last block norm1 and qkv
    char begin[32];
    snprintf(begin, sizeof begin, "blocks.%d.", i);
    int rc = read_all(t, begin, w, n, err);
    if (rc) return rc;
    rc = yd_vit_add(net->vit, &b, err);
    drop(w, n);
    return rc;
}

// ---- the row of the table ------------------------------------------------------------------------------------------

static void name_it(const yd_vit_shape *s, char name[YD_ATTENTION_NAME_MAX])
{
    const int published = s->depth == 12 && s->dim == HEAD_DIM * s->heads;
    if (published && s->dim == 384)
        snprintf(name, YD_ATTENTION_NAME_MAX, "dino-vits%d", s->patch);
    else if (published && s->dim == 768)
        snprintf(name, YD_ATTENTION_NAME_MAX, "dino-vitb%d", s->patch);
    else
        snprintf(name, YD_ATTENTION_NAME_MAX, "dino-vit%dx%d-%d", s->dim, s->depth, s->patch);
}

static size_t count(const yd_vit_shape *s)
{
    const size_t d = (size_t)s->dim, h = (size_t)s->hidden, patch = 3 * (size_t)s->patch * (size_t)s->patch;
    const size_t block = 4 * d + 3 * d * (d + 1) + d * (d + 1) + h * (d + 1) + d * (h + 1);
    return d * (patch + 1) + d * (2 + (size_t)s->grid * (size_t)s->grid) + (size_t)s->depth * block + 2 * d;
}

static void describe(const yd_vit_shape *s, yd_attention_net_info *info)
{
    name_it(s, info->name);
    info->multiple = info->min_side = s->patch;
    info->depth = s->depth;
    info->dim = s->dim;
    info->n_variants = 1;
    info->variant[0] = (yd_attention_variant){.norm = YD_ATTENTION_NORM_MINMAX, .heads = s->heads, .stride = s->patch};
    info->params = count(s);
}

static void free_net(void *state)
{
    vit_net *net = state;
    yd_vit_free(net->vit);
    yd_free(net);
}

static int open_net(const yd_attention_tensors *t, const yd_attention_net_options *opt, yd_attention_net_info *info, void **state,
                    yd_err *err)
{
    vit_net *net = yd_calloc(1, sizeof *net);
    if (!net) return yd_fail(err, YD_E_NOMEM, "no memory for a vision transformer");
    int rc = read_patch(t, &net->shape, err);
    if (!rc) rc = read_grid(t, &net->shape, err);
    if (!rc) rc = read_depth(t, &net->shape, err);
    if (!rc) rc = settle_heads(opt, &net->shape, err);
    if (!rc) rc = make(t, opt, net, err);
    for (int i = 0; i < net->shape.depth && !rc; i++) rc = add_block(t, net, i, err);
    if (rc) {
        free_net(net);
        return rc;
    }
    describe(&net->shape, info);
    *state = net;
    return 0;
}

static void grid(const void *state, int variant, int w, int h, int *gw, int *gh)
{
    const vit_net *net = state;
    (void)variant; // there is one
    *gw = w / net->shape.patch;
    *gh = h / net->shape.patch;
}

static int reserve(void *state, int variant, int n, int w, int h, yd_err *err)
{
    vit_net *net = state;
    int gw, gh;
    grid(net, variant, w, h, &gw, &gh);
    return yd_vit_reserve(net->vit, n, gw, gh, err);
}

static int run(void *state, int variant, int n, int w, int h, const float *const *rgb, float *const *raw, yd_err *err)
{
    vit_net *net = state;
    int gw, gh;
    grid(net, variant, w, h, &gw, &gh);
    return yd_vit_run(net->vit, n, gw, gh, yd_imagenet_mean, yd_imagenet_deviation, rgb, raw, err);
}

static size_t bytes(const void *state)
{
    return yd_vit_bytes(((const vit_net *)state)->vit);
}

static const char *const marks[] = {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", NULL};

const yd_attention_kind yd_attention_vit = {YD_ATTENTION_VIT, marks, open_net, grid, reserve, run, bytes, free_net};
