// SqueezeNet 1.1 as torchvision names it, up to its last fire module, as an attention network: the pooled query (core/pooled_query.h) of its
// 512 channels in six heads. An addition of this project's: the paper uses no SqueezeNet, and its weights were trained for ImageNet's classes,
// not as DINO's. Its file is small and free, so that attention of a trained network can be had and tested everywhere.
//
// Tensors are numbered as in torchvision's `features`; the classifier is not looked at. Pictures of one call are run one after the other.
// Owns the weights and a trunk. See attention_net_kinds.h.
#include "core/attention_net_kinds.h"

#include "core/cpu/trunk.h"
#include "core/mem.h"
#include "core/pooled_query.h"

#include <omp.h>
#include <stdio.h>

enum { HEADS = 6, CHANNELS = 512, STEPS = 40, FIRST_SIDE = 224 };

// A fire module, or with squeeze 0 a maximum over 3 x 3 of stride 2; c: channels of each of the two expansions.
static const struct {
    int number, squeeze, c;
} layers[] = {
    {2, 0, 0}, {3, 16, 64},  {4, 16, 64},   {5, 0, 0},     {6, 32, 128},  {7, 32, 128},
    {8, 0, 0}, {9, 48, 192}, {10, 48, 192}, {11, 64, 256}, {12, 64, 256},
};

typedef struct squeeze {
    yd_trunk_step steps[STEPS];
    float *weights[STEPS], *biases[STEPS];
    int n_steps, threads;
    size_t params;
    yd_trunk *trunk;
} squeeze;

typedef struct reader {
    const yd_attention_tensors *t;
    squeeze *net;
    yd_err *err;
} reader;

static yd_trunk_step *append(squeeze *net, yd_trunk_kind kind, int from, int in_c, int c)
{
    yd_trunk_step *s = &net->steps[net->n_steps++];
    *s = (yd_trunk_step){.kind = kind, .from = {from}, .n_from = 1, .in_c = in_c, .c = c, .k = {1, 1}, .stride = 1, .tap = -1};
    return s;
}

static int add_conv(reader *r, const char *module, int from, int in_c, int c, int k, int stride)
{
    squeeze *net = r->net;
    const int at = net->n_steps;
    char name[64];
    yd_trunk_step *s = append(net, YD_TRUNK_CONV, from, in_c, c);
    s->k[0] = s->k[1] = k, s->stride = stride;
    s->pad[0] = s->pad[1] = stride == 1 ? k / 2 : 0;
    snprintf(name, sizeof name, "%s.weight", module);
    int rc = yd_attention_tensor_read(r->t, name, 4, (const int64_t[4]){c, in_c, k, k}, &net->weights[at], r->err);
    snprintf(name, sizeof name, "%s.bias", module);
    if (!rc) rc = yd_attention_tensor_read(r->t, name, 1, (const int64_t[1]){c}, &net->biases[at], r->err);
    s->weight = net->weights[at], s->bias = net->biases[at];
    net->params += (size_t)c * ((size_t)in_c * (size_t)k * (size_t)k + 1);
    return rc;
}

static int add_fire(reader *r, int number, int in_c, int squeezed_c, int c)
{
    char module[32];
    snprintf(module, sizeof module, "%d.squeeze", number);
    int rc = add_conv(r, module, r->net->n_steps, in_c, squeezed_c, 1, 1);
    const int squeezed = r->net->n_steps;
    snprintf(module, sizeof module, "%d.expand1x1", number);
    if (!rc) rc = add_conv(r, module, squeezed, squeezed_c, c, 1, 1);
    snprintf(module, sizeof module, "%d.expand3x3", number);
    if (!rc) rc = add_conv(r, module, squeezed, squeezed_c, c, 3, 1);
    if (rc) return rc;
    yd_trunk_step *s = append(r->net, YD_TRUNK_JOIN, squeezed + 1, c, 2 * c);
    s->from[s->n_from++] = squeezed + 2;
    return 0;
}

static int read_net(reader *r)
{
    int rc = add_conv(r, "0", 0, 3, 64, 3, 2), c = 64;
    for (size_t i = 0; i < sizeof layers / sizeof *layers && !rc; i++) {
        if (layers[i].squeeze) {
            rc = add_fire(r, layers[i].number, c, layers[i].squeeze, layers[i].c);
            c = 2 * layers[i].c;
            continue;
        }
        yd_trunk_step *s = append(r->net, YD_TRUNK_MAX, r->net->n_steps, c, c);
        s->k[0] = s->k[1] = 3, s->stride = 2, s->ceil = 1;
    }
    return rc;
}

// ---- the row of the table

static void free_net(void *state)
{
    squeeze *net = state;
    yd_trunk_free(net->trunk);
    for (int i = 0; i < net->n_steps; i++) {
        yd_free_aligned(net->weights[i]);
        yd_free_aligned(net->biases[i]);
    }
    yd_free(net);
}

static void grid(const void *state, int variant, int w, int h, int *gw, int *gh)
{
    const squeeze *net = state;
    int sides[2][STEPS + 1] = {{h}, {w}};
    (void)variant; // there is one
    for (int axis = 0; axis < 2; axis++)
        for (int i = 0; i < net->n_steps; i++) sides[axis][i + 1] = yd_trunk_side(&net->steps[i], sides[axis][net->steps[i].from[0]], axis);
    *gh = sides[0][net->n_steps];
    *gw = sides[1][net->n_steps];
}

static int use_threads(int threads)
{
    const int before = omp_get_max_threads();
    if (threads > 0) omp_set_num_threads(threads);
    return before;
}

static int reserve(void *state, int variant, int n, int w, int h, yd_err *err)
{
    squeeze *net = state;
    (void)variant, (void)n;
    const int before = use_threads(net->threads), rc = yd_trunk_prepare(net->trunk, 1, h, w, err);
    use_threads(before);
    return rc;
}

static int run_one(squeeze *net, int w, int h, const float *rgb, float *raw, yd_err *err)
{
    const size_t n = (size_t)w * (size_t)h * 3;
    float *x = yd_trunk_input(net->trunk), query[CHANNELS];
    for (size_t i = 0; i < n; i++) x[i] = (rgb[i] - yd_imagenet_mean[i % 3]) / yd_imagenet_deviation[i % 3];
    const int rc = yd_trunk_run(net->trunk, NULL, NULL, err);
    if (rc) return rc;
    int gh, gw, c;
    const float *z = yd_trunk_map(net->trunk, net->n_steps, &gh, &gw, &c);
    yd_pooled_query(z, (size_t)gh * (size_t)gw, (size_t)c, HEADS, query, raw);
    return 0;
}

static int run(void *state, int variant, int n, int w, int h, const float *const *rgb, float *const *raw, yd_err *err)
{
    squeeze *net = state;
    const int before = use_threads(net->threads);
    int rc = 0;
    (void)variant;
    for (int i = 0; i < n && !rc; i++) rc = run_one(net, w, h, rgb[i], raw[i], err);
    use_threads(before);
    return rc;
}

static size_t bytes(const void *state)
{
    const squeeze *net = state;
    return net->params * sizeof(float) + yd_trunk_bytes(net->trunk);
}

static int open_net(const yd_attention_tensors *t, const yd_attention_net_options *opt, yd_attention_net_info *info, void **state,
                    yd_err *err)
{
    squeeze *net = yd_calloc(1, sizeof *net);
    if (!net) return yd_fail(err, YD_E_NOMEM, "no memory for a SqueezeNet");
    net->threads = opt->threads;
    int rc = read_net(&(reader){t, net, err});
    if (!rc) rc = yd_trunk_new(net->steps, net->n_steps, 0, &net->trunk, err);
    if (!rc) rc = reserve(net, 0, 1, FIRST_SIDE, FIRST_SIDE, err);
    if (rc) {
        free_net(net);
        return rc;
    }
    snprintf(info->name, sizeof info->name, "squeezenet");
    info->multiple = 1;
    info->min_side = yd_trunk_min_side(net->steps, net->n_steps);
    info->depth = 8; // fire modules
    info->dim = CHANNELS;
    info->n_variants = 1;
    info->variant[0] = (yd_attention_variant){.norm = YD_ATTENTION_NORM_MINMAX, .heads = HEADS, .stride = 16};
    info->params = net->params;
    *state = net;
    return 0;
}

static const char *const marks[] = {"3.squeeze.weight", "0.weight", "12.expand3x3.weight", NULL};

const yd_attention_kind yd_attention_squeezenet = {YD_ATTENTION_SQUEEZENET, marks, open_net, grid, reserve, run, bytes, free_net};
