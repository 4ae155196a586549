// DINO's ResNet-50 as an attention network. See attention_net_kinds.h.
//
// Variants: the pooled query (core/pooled_query.h) of the last stage's features, which takes one pass forward; "layer3", the same of the stage
// before it, with places of half the side; "agf", attribution guided factorisation (core/agf.h) of the six highest features, maps as large
// as the input; "agf-smooth", those blurred by a Gaussian of 2 pixels. Neither the paper nor DINO says what the heads of a ResNet are.
//
// Owns the weights and, of each variant that has been reserved, a trunk or the attribution, whose packed weights come on top. Pictures of
// one call are run one after the other: their maps are the same alone. A size that was not the last one is prepared anew.
#include "core/attention_net_kinds.h"

#include "core/agf.h"
#include "core/attention/blur.h"
#include "core/mem.h"
#include "core/pooled_query.h"
#include "core/resnet.h"

#include <omp.h>
#include <stdio.h>

enum { LAST, AGF, AGF_SMOOTH, LAYER3, VARIANTS };
enum { HEADS = 6, FIRST_SIDE = 224 };

#define SMOOTH_SIGMA 2.0

typedef struct resnet {
    yd_resnet net;
    int threads, heads;
    yd_trunk *trunk[VARIANTS]; // of LAST and LAYER3
    yd_agf *agf;
    float *query; // as long as the widest stage has channels
} resnet;

static int is_agf(int variant)
{
    return variant == AGF || variant == AGF_SMOOTH;
}

static int stage_of(int variant)
{
    return variant == LAYER3 ? 2 : 3;
}

static int use_threads(int threads)
{
    const int before = omp_get_max_threads();
    if (threads > 0) omp_set_num_threads(threads);
    return before;
}

// ---- sizes and memory

static void grid(const void *state, int variant, int w, int h, int *gw, int *gh)
{
    const resnet *r = state;
    int sides[2][YD_TRUNK_MAX_STEPS + 1] = {{h}, {w}};
    const int end = is_agf(variant) ? 0 : r->net.end[stage_of(variant)];
    for (int axis = 0; axis < 2; axis++)
        for (int i = 0; i < end; i++) sides[axis][i + 1] = yd_trunk_side(&r->net.steps[i], sides[axis][r->net.steps[i].from[0]], axis);
    *gh = sides[0][end];
    *gw = sides[1][end];
}

static int prepare(resnet *r, int variant, int w, int h, yd_err *err)
{
    int rc = 0;
    if (is_agf(variant)) {
        if (!r->agf) rc = yd_agf_new(r->net.steps, r->net.n_steps, r->heads, 0, &r->agf, err);
        return rc ? rc : yd_agf_prepare(r->agf, h, w, err);
    }
    yd_trunk **t = &r->trunk[variant];
    if (!*t) rc = yd_trunk_new(r->net.steps, r->net.end[stage_of(variant)], 0, t, err);
    return rc ? rc : yd_trunk_prepare(*t, 1, h, w, err);
}

static int reserve(void *state, int variant, int n, int w, int h, yd_err *err)
{
    resnet *r = state;
    (void)n;
    const int before = use_threads(r->threads), rc = prepare(r, variant, w, h, err);
    use_threads(before);
    return rc;
}

static size_t bytes(const void *state)
{
    const resnet *r = state;
    size_t sum = r->net.params * sizeof(float) + (r->agf ? yd_agf_bytes(r->agf) : 0);
    for (int i = 0; i < VARIANTS; i++) sum += r->trunk[i] ? yd_trunk_bytes(r->trunk[i]) : 0;
    return sum;
}

// ---- running

static void show(const float *rgb, int w, int h, float *x)
{
    const size_t n = (size_t)w * (size_t)h * 3;
    for (size_t i = 0; i < n; i++) x[i] = (rgb[i] - yd_imagenet_mean[i % 3]) / yd_imagenet_deviation[i % 3];
}

static int run_agf(resnet *r, int variant, int w, int h, const float *rgb, float *raw, yd_err *err)
{
    const size_t places = (size_t)w * (size_t)h;
    show(rgb, w, h, yd_agf_input(r->agf));
    int rc = yd_agf_run(r->agf, raw, err);
    for (size_t k = 0; k < (size_t)r->heads && variant == AGF_SMOOTH && !rc; k++) {
        float *map = raw + k * places;
        for (size_t p = 0; p < places; p++) map[p] = map[p] > 0.0f ? map[p] : 0.0f; // what is below 0 is none, and takes nothing away
        rc = yd_blur_gaussian(map, w, h, SMOOTH_SIGMA, err);
    }
    return rc;
}

static int run_pooled(resnet *r, int variant, int w, int h, const float *rgb, float *raw, yd_err *err)
{
    yd_trunk *t = r->trunk[variant];
    int gh, gw, c;
    show(rgb, w, h, yd_trunk_input(t));
    const int rc = yd_trunk_run(t, NULL, NULL, err);
    if (rc) return rc;
    const float *z = yd_trunk_map(t, r->net.end[stage_of(variant)], &gh, &gw, &c);
    yd_pooled_query(z, (size_t)gh * (size_t)gw, (size_t)c, r->heads, r->query, raw);
    return 0;
}

static int run(void *state, int variant, int n, int w, int h, const float *const *rgb, float *const *raw, yd_err *err)
{
    resnet *r = state;
    const int before = use_threads(r->threads);
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) rc = (is_agf(variant) ? run_agf : run_pooled)(r, variant, w, h, rgb[i], raw[i], err);
    use_threads(before);
    return rc;
}

// ---- opening

static void describe(const resnet *r, yd_attention_net_info *info)
{
    static const char *const words[VARIANTS] = {[LAST] = "", [AGF] = "agf", [AGF_SMOOTH] = "agf-smooth", [LAYER3] = "layer3"};
    static const int strides[VARIANTS] = {[LAST] = 32, [AGF] = 1, [AGF_SMOOTH] = 1, [LAYER3] = 16};
    const int *b = r->net.blocks, *c = r->net.channels;
    if (b[0] == 3 && b[1] == 4 && b[2] == 6 && b[3] == 3 && c[3] == 2048)
        snprintf(info->name, sizeof info->name, "resnet50");
    else
        snprintf(info->name, sizeof info->name, "resnet%dx%dx%dx%d-%d", b[0], b[1], b[2], b[3], c[3]);
    info->multiple = 1;
    info->min_side = 1;
    info->depth = b[0] + b[1] + b[2] + b[3];
    info->dim = c[3];
    info->n_variants = VARIANTS;
    for (int i = 0; i < VARIANTS; i++) {
        yd_attention_variant *v = &info->variant[i];
        *v = (yd_attention_variant){.norm = is_agf(i) ? YD_ATTENTION_NORM_P99 : YD_ATTENTION_NORM_MINMAX, .heads = r->heads, .stride = strides[i]};
        snprintf(v->word, sizeof v->word, "%s", words[i]);
    }
    info->params = r->net.params;
}

static void free_net(void *state)
{
    resnet *r = state;
    for (int i = 0; i < VARIANTS; i++) yd_trunk_free(r->trunk[i]);
    yd_agf_free(r->agf);
    yd_resnet_clear(&r->net);
    yd_free(r->query);
    yd_free(r);
}

static int open_net(const yd_attention_tensors *t, const yd_attention_net_options *opt, yd_attention_net_info *info, void **state,
                    yd_err *err)
{
    resnet *r = yd_calloc(1, sizeof *r);
    if (!r) return yd_fail(err, YD_E_NOMEM, "no memory for a ResNet");
    r->threads = opt->threads;
    int rc = yd_resnet_read(t, &r->net, err);
    const int c[2] = {rc ? 0 : r->net.channels[2], rc ? 0 : r->net.channels[3]}, most = c[0] > c[1] ? c[0] : c[1],
              least = c[0] < c[1] ? c[0] : c[1];
    r->heads = least < HEADS ? least : HEADS;
    if (!rc && !(r->query = yd_calloc((size_t)most, sizeof *r->query)))
        rc = yd_fail(err, YD_E_NOMEM, "no memory for a query of %d channels", most);
    if (!rc) rc = reserve(r, LAST, 1, FIRST_SIDE, FIRST_SIDE, err);
    if (rc) {
        free_net(r);
        return rc;
    }
    describe(r, info);
    *state = r;
    return 0;
}

static const char *const marks[] = {"layer1.0.conv1.weight", "layer1.0.conv3.weight", "conv1.weight", "bn1.running_mean", NULL};

const yd_attention_kind yd_attention_resnet = {YD_ATTENTION_RESNET50, marks, open_net, grid, reserve, run, bytes, free_net};
