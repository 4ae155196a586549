// See resnet.h. Block by block, each convolution with its normalisation; a step is complete when its four small tensors have been read.
#include "core/resnet.h"

#include "core/mem.h"

#include <math.h>
#include <stdio.h>

enum { MAX_CHANNELS = 16384, MAX_KERNEL = 15, BLOCK_STEPS = 5 };

typedef struct reader {
    const yd_attention_tensors *t;
    yd_resnet *net;
    int last, c; // map that the next step reads, and its channels
    yd_err *err;
} reader;

// ---- tensors

// Output channels of a convolution as its tensor says; 0 when it is not there or has no such shape, which reading it then says.
static int channels_of(const reader *r, const char *name)
{
    const yd_st_tensor *t = yd_attention_tensor(r->t, "%s.weight", name);
    return t && t->ndim == 4 && t->dims[0] >= 1 && t->dims[0] <= MAX_CHANNELS ? (int)t->dims[0] : 0;
}

static int fold(const reader *r, const char *norm, const float *const stat[4], int at)
{
    const yd_trunk_step *s = &r->net->steps[at];
    for (int i = 0; i < s->c; i++) {
        const double spread = (double)stat[3][i] + YD_RESNET_EPSILON, k = stat[0][i] / sqrt(spread), shift = stat[1][i] - stat[2][i] * k;
        if (!(spread > 0.0) || !isfinite(k) || !isfinite((float)shift))
            return yd_fail_field(r->err, YD_E_CHECKPOINT, norm, "finite numbers, variances of 0 or more",
                                 "the normalisation '%s' of channel %d is not finite", norm, i);
        r->net->scales[at][i] = k;
        r->net->biases[at][i] = (float)shift;
    }
    return 0;
}

static int read_norm(const reader *r, const char *norm, int at)
{
    static const char *const names[4] = {"weight", "bias", "running_mean", "running_var"};
    yd_resnet *net = r->net;
    float *stat[4] = {NULL};
    char name[96];
    int rc = 0;
    for (int i = 0; i < 4 && !rc; i++) {
        snprintf(name, sizeof name, "%s.%s", norm, names[i]);
        rc = yd_attention_tensor_read(r->t, name, 1, (const int64_t[1]){net->steps[at].c}, &stat[i], r->err);
    }
    const size_t c = (size_t)net->steps[at].c;
    if (!rc && (!(net->scales[at] = yd_calloc(c, sizeof(double))) || !(net->biases[at] = yd_calloc(c, sizeof(float)))))
        rc = yd_fail(r->err, YD_E_NOMEM, "no memory for the normalisation '%s'", norm);
    if (!rc) rc = fold(r, norm, (const float *const[4]){stat[0], stat[1], stat[2], stat[3]}, at);
    for (int i = 0; i < 4; i++) yd_free_aligned(stat[i]);
    net->params += 4 * c;
    return rc;
}

// ---- steps

static yd_trunk_step *append(reader *r, yd_trunk_kind kind, int from, int in_c, int c)
{
    yd_trunk_step *s = &r->net->steps[r->net->n_steps++];
    *s = (yd_trunk_step){.kind = kind, .from = {from}, .n_from = 1, .in_c = in_c, .c = c, .k = {1, 1}, .stride = 1, .tap = -1};
    r->last = r->net->n_steps;
    r->c = c;
    return s;
}

typedef struct conv {
    const char *name, *norm;
    int c;     // output channels; 0: what the tensor says
    int usual; // those of a ResNet-50
    int k, stride, linear;
} conv;

// A convolution of map `from` with its normalisation, from in_c channels.
static int add_conv(reader *r, int from, int in_c, conv v)
{
    const int at = r->net->n_steps, said = v.c ? v.c : channels_of(r, v.name);
    const int64_t c = said ? said : v.usual; // which is then what is asked for
    char name[96];
    yd_trunk_step *s = append(r, YD_TRUNK_CONV, from, in_c, (int)c);
    s->k[0] = s->k[1] = v.k, s->pad[0] = s->pad[1] = v.k / 2, s->stride = v.stride, s->linear = v.linear;
    snprintf(name, sizeof name, "%s.weight", v.name);
    int rc = yd_attention_tensor_read(r->t, name, 4, (const int64_t[4]){c, in_c, v.k, v.k}, &r->net->weights[at], r->err);
    if (!rc) rc = read_norm(r, v.norm, at);
    s->weight = r->net->weights[at], s->bias = r->net->biases[at], s->scale = r->net->scales[at];
    r->net->params += (size_t)c * (size_t)in_c * (size_t)v.k * (size_t)v.k;
    return rc;
}

static int add_stem(reader *r)
{
    const yd_st_tensor *w = yd_attention_tensor(r->t, "conv1.weight");
    int k = w && w->ndim == 4 && w->dims[3] % 2 == 1 && w->dims[3] <= MAX_KERNEL ? (int)w->dims[3] : 7;
    int rc = add_conv(r, 0, 3, (conv){"conv1", "bn1", 0, 64, k, 2, 0});
    if (rc) return rc;
    yd_trunk_step *s = append(r, YD_TRUNK_MAX, r->last, r->c, r->c);
    s->k[0] = s->k[1] = 3, s->pad[0] = s->pad[1] = 1, s->stride = 2;
    return 0;
}

// One block: `stage` counts from 1 as in the names.
static int add_block(reader *r, int stage, int block)
{
    const int from = r->last, in_c = r->c, stride = stage > 1 && block == 0 ? 2 : 1, usual = 32 << stage;
    char name[4][48], at[32]; // the shortcut's and its normalisation's; a convolution's and its normalisation's
    snprintf(at, sizeof at, "layer%d.%d", stage, block);
    if (r->net->n_steps + BLOCK_STEPS > YD_TRUNK_MAX_STEPS)
        return yd_fail_field(r->err, YD_E_CHECKPOINT, at, "a ResNet-50 or a shallower one", "the ResNet has too many blocks");
    snprintf(name[0], sizeof name[0], "%s.downsample.0", at);
    snprintf(name[1], sizeof name[1], "%s.downsample.1", at);
    const int shortened = stride > 1 || yd_attention_tensor(r->t, "%s.weight", name[0]) != NULL;
    int rc = 0;
    for (int i = 1; i <= 3 && !rc; i++) {
        snprintf(name[2], sizeof name[2], "%s.conv%d", at, i);
        snprintf(name[3], sizeof name[3], "%s.bn%d", at, i);
        const conv v = {name[2], name[3], i == 3 && !shortened ? in_c : 0, usual << (i == 3 ? 2 : 0), i == 2 ? 3 : 1, i == 2 ? stride : 1,
                        i == 3};
        rc = add_conv(r, r->last, r->c, v);
    }
    const int inside = r->last, c = r->c;
    int around = from;
    if (!rc && shortened) {
        rc = add_conv(r, from, in_c, (conv){name[0], name[1], c, c, 1, stride, 1});
        around = r->last;
    }
    if (rc) return rc;
    yd_trunk_step *s = append(r, YD_TRUNK_ADD, inside, c, c);
    s->from[s->n_from++] = around;
    return 0;
}

int yd_resnet_read(const yd_attention_tensors *t, yd_resnet *net, yd_err *err)
{
    *net = (yd_resnet){0};
    reader r = {.t = t, .net = net, .c = 3, .err = err};
    int rc = add_stem(&r);
    for (int stage = 0; stage < YD_RESNET_STAGES && !rc; stage++) {
        int block = 0;
        do rc = add_block(&r, stage + 1, block++);
        while (!rc && yd_attention_tensor(t, "layer%d.%d.conv1.weight", stage + 1, block));
        net->blocks[stage] = block;
        net->end[stage] = net->n_steps;
        net->channels[stage] = r.c;
    }
    return rc;
}

void yd_resnet_clear(yd_resnet *net)
{
    for (int i = 0; i < net->n_steps; i++) {
        yd_free_aligned(net->weights[i]);
        yd_free(net->biases[i]);
        yd_free(net->scales[i]);
    }
    *net = (yd_resnet){0};
}
