// Recognising checkpoints by the names of their tensors: see identify.h. Who runs a kind of network decides what it is (model_public.h,
// model_srdiff.h, attention_net.h); here stand only those that nobody runs. Stateless.
#include "core/identify.h"

#include "core/attention_net.h"
#include "core/model_srdiff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The first tensor whose name ends so, after nothing or a dot; NULL when there is none. *n: what stands before.
static const yd_st_tensor *ends(const yd_safetensors *st, const char *tail, size_t *n)
{
    const size_t k = strlen(tail);
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const yd_st_tensor *t = yd_st_at(st, i);
        const size_t len = strlen(t->name);
        if (len < k || strcmp(t->name + len - k, tail) != 0 || (len > k && t->name[len - k - 1] != '.')) continue;
        *n = len - k;
        return t;
    }
    return NULL;
}

static size_t count_with(const yd_safetensors *st, const char *part)
{
    size_t n = 0;
    for (size_t i = 0; i < yd_st_count(st); i++) n += strstr(yd_st_at(st, i)->name, part) != NULL;
    return n;
}

// "optimizer_states.0.state.7.exp_avg" and the like, and nothing that could be a network.
static int is_optimizer(const yd_safetensors *st)
{
    const size_t moments = count_with(st, "exp_avg") + count_with(st, "momentum_buffer"), steps = count_with(st, ".step");
    return moments && moments + steps >= yd_st_count(st);
}

static yd_identity identify_encoder(const yd_safetensors *st, char *dst, size_t cap)
{
    size_t n = 0;
    long blocks = 0;
    const yd_st_tensor *first = ends(st, "conv_first.weight", &n);
    if (!first || !count_with(st, "RRDB_trunk.")) return YD_IS_UNKNOWN;
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const char *trunk = strstr(yd_st_at(st, i)->name, "RRDB_trunk.");
        const long at = trunk ? strtol(trunk + strlen("RRDB_trunk."), NULL, 10) + 1 : 0;
        if (at > blocks && at < 1000) blocks = at;
    }
    snprintf(dst, cap, "SRDiff's encoder alone: RRDB of %ld blocks, %lld wide, without the UNet that makes the pictures", blocks,
             first->ndim ? (long long)first->dims[0] : 0);
    return YD_IS_ENCODER;
}

static yd_identity identify_attention(const yd_safetensors *st, char *dst, size_t cap)
{
    static const char *const names[] = {[YD_ATTENTION_VIT] = "a vision transformer of DINO", [YD_ATTENTION_RESNET50] = "a ResNet-50 of DINO", [YD_ATTENTION_SQUEEZENET] = "a SqueezeNet"};
    yd_attention_net_kind kind;
    size_t n = 0;
    if (!yd_attention_net_recognise(st, &kind)) return YD_IS_UNKNOWN;
    const yd_st_tensor *patches = kind == YD_ATTENTION_VIT ? ends(st, "patch_embed.proj.weight", &n) : NULL;
    const int used = snprintf(dst, cap, "%s, whose attention says where a picture matters", names[kind]);
    if (patches && patches->ndim == 4 && used > 0 && (size_t)used < cap)
        snprintf(dst + used, cap - (size_t)used, ": %lld channels, patches of %lld pixels%s", (long long)patches->dims[0], (long long)patches->dims[3],
                 count_with(st, "student.") ? ", in a training checkpoint with teacher and student" : "");
    return YD_IS_ATTENTION;
}

static yd_identity identify_model(const yd_safetensors *st, char *dst, size_t cap)
{
    yd_public_net at;
    size_t n = 0;
    if (yd_st_metadata(st, "yoda.config")) {
        snprintf(dst, cap, "a model of this project");
        return YD_IS_MODEL;
    }
    if (yd_srdiff_locate(st, &at, NULL) == 1) {
        snprintf(dst, cap, "a network of the public SRDiff code, under \"%s\"", at.prefix);
        return YD_IS_MODEL;
    }
    const yd_st_tensor *first = ends(st, "downs.0.weight", &n);
    const int ddpm = ends(st, "time_mlp.1.weight", &n) != NULL;
    if (!first || (!ddpm && !ends(st, "noise_level_mlp.1.weight", &n))) return YD_IS_UNKNOWN;
    const int nothing = first->ndim == 4 && first->dims[1] == 3;
    snprintf(dst, cap, "%s network of the public SR3 code, %s", nothing ? "an unconditional" : "a", ddpm ? "ddpm" : "sr3");
    return nothing ? YD_IS_UNCONDITIONAL : YD_IS_MODEL;
}

yd_identity yd_identify(const yd_safetensors *st, char *dst, size_t cap)
{
    yd_identity id = identify_model(st, dst, cap);
    if (id == YD_IS_UNKNOWN) id = identify_encoder(st, dst, cap);
    if (id == YD_IS_UNKNOWN) id = identify_attention(st, dst, cap);
    if (id != YD_IS_UNKNOWN) return id;
    if (is_optimizer(st)) {
        snprintf(dst, cap, "the state of an optimizer, as a training saves it beside its network");
        return YD_IS_OPTIMIZER;
    }
    snprintf(dst, cap, yd_st_count(st) ? "tensors that no known network has" : "no tensors at all");
    return YD_IS_UNKNOWN;
}

const char *yd_identity_advice(yd_identity id)
{
    static const char *const advice[] = {
        [YD_IS_UNKNOWN] = "it is no network that is known here",
        [YD_IS_MODEL] = "",
        [YD_IS_UNCONDITIONAL] = "it takes no picture, so it cannot enlarge one",
        [YD_IS_ENCODER] = "it makes no pictures; the file that holds the whole of SRDiff is needed, which has this encoder inside",
        [YD_IS_ATTENTION] = "it makes attention maps, no pictures: yoda attention, or attention= of a job",
        [YD_IS_OPTIMIZER] = "it holds no network; take the file that was saved beside it (..._gen.pth where this is ..._opt.pth)",
    };
    return advice[id];
}
