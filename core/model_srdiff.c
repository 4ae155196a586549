// Which network of SRDiff's public code a checkpoint holds: see model_srdiff.h.
//
// A level's width is that of its first block, the levels end where there is no such block, the scale is half the size of cond_proj's kernel,
// the encoder's blocks are counted. core/model.c then compares the whole file with the network tensor by tensor. Owns nothing.
#include "core/model_srdiff.h"

#include "core/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST          "denoise_fn.downs.0.0.block1.block.1.weight"
#define NAME_MAX_BYTES 320
#define MAX_BLOCKS     64 // of the encoder
#define PATCH          160 // the pictures that the published networks were trained on
#define OVERLAP        24
#define TIMESTEPS      100
#define RESCALE        2.0
#define FAST_STEPS     25

// ---- where it stands

// Length of what stands before `tail` in name, which is nothing or ends with a dot; -1 when it does not end so.
static int before(const char *name, const char *tail)
{
    const size_t n = strlen(name), k = strlen(tail);
    if (n < k || strcmp(name + n - k, tail) != 0) return -1;
    return n == k || name[n - k - 1] == '.' ? (int)(n - k) : -1;
}

__attribute__((format(printf, 3, 4))) static const yd_st_tensor *find(const yd_safetensors *st, const char *root, const char *fmt, ...)
{
    char name[NAME_MAX_BYTES];
    va_list ap;
    const int n = snprintf(name, sizeof name, "%s", root);
    va_start(ap, fmt);
    const int m = vsnprintf(name + n, sizeof name - (size_t)n, fmt, ap); // roots are shorter than yd_public_net.root
    va_end(ap);
    return m < 0 || (size_t)(n + m) >= sizeof name ? NULL : yd_st_find(st, name);
}

// An RRDB without the diffusion network: what SRDiff's training starts from, published beside it.
static int encoder_alone(const yd_safetensors *st, yd_err *err)
{
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const char *name = yd_st_at(st, i)->name;
        if (before(name, "RRDB_trunk.0.RDB1.conv1.weight") >= 0)
            return yd_fail_field(err, YD_E_CHECKPOINT, name, "the checkpoint of the whole SRDiff",
                                 "it holds an RRDB network alone, which is only the encoder of SRDiff");
    }
    return 0;
}

int yd_srdiff_locate(const yd_safetensors *st, yd_public_net *out, yd_err *err)
{
    int found = 0;
    *out = (yd_public_net){.root = ""};
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const char *name = yd_st_at(st, i)->name;
        const int n = before(name, FIRST);
        if (n < 0 || (size_t)n >= sizeof out->root) continue;
        if (found)
            return yd_fail_field(err, YD_E_CHECKPOINT, name, "a file with one network", "it holds several networks, one of them under \"%s\"",
                                 out->root);
        found = 1;
        snprintf(out->root, sizeof out->root, "%.*s", n, name);
        snprintf(out->prefix, sizeof out->prefix, "%s", out->root);
    }
    return found ? 1 : encoder_alone(st, err);
}

// ---- what it is

static int odd(yd_err *err, const char *name, const char *why)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "tensor %s: %s, as no network of the public SRDiff code has it", name, why);
}

static int is_conv(const yd_st_tensor *t, int k)
{
    return t && t->ndim == 4 && t->dims[2] == k && t->dims[3] == k;
}

static int read_levels(const yd_safetensors *st, yd_public_net *f, yd_err *err)
{
    yd_net_config *net = &f->net;
    const yd_st_tensor *t;
    while ((t = find(st, f->root, "denoise_fn.downs.%d.0.block1.block.1.weight", net->n_levels)) != NULL) {
        if (net->n_levels == YD_MAX_LEVELS) return odd(err, t->name, "there are more than 8 levels");
        if (!is_conv(t, 3) || t->dims[0] % net->inner_channel || t->dims[0] < net->inner_channel || t->dims[0] / net->inner_channel > 64)
            return odd(err, t->name, "its width is not 1 to 64 times the network's");
        net->mult[net->n_levels++] = (int)(t->dims[0] / net->inner_channel);
    }
    return net->mult[0] == 1 ? 0 : odd(err, "denoise_fn.downs.0.0.block1.block.1.weight", "the first level is not as wide as the network");
}

static int read_encoder(const yd_safetensors *st, yd_public_net *f, yd_err *err)
{
    yd_net_config *net = &f->net;
    const yd_st_tensor *first = find(st, f->root, "rrdb.conv_first.weight"), *cond = find(st, f->root, "denoise_fn.cond_proj.weight");
    if (!is_conv(first, 3) || first->dims[1] != 3 || first->dims[0] < 2 || first->dims[0] > 512 || first->dims[0] % 2)
        return odd(err, first ? first->name : "rrdb.conv_first.weight", "it is missing or no convolution of 3 channels to 2 to 512");
    if (!cond || cond->ndim != 4 || !is_conv(cond, (int)cond->dims[2]) || cond->dims[2] % 4 || cond->dims[2] < 4 || cond->dims[2] > 32)
        return odd(err, cond ? cond->name : "denoise_fn.cond_proj.weight", "it is missing or does not enlarge by 2 to 16, an even number");
    net->up_scale = (int)(cond->dims[2] / 2);
    net->rrdb_features = (int)first->dims[0];
    while (net->rrdb_blocks <= MAX_BLOCKS && find(st, f->root, "rrdb.RRDB_trunk.%d.RDB1.conv1.weight", net->rrdb_blocks)) net->rrdb_blocks++;
    if (net->rrdb_blocks >= 2 && net->rrdb_blocks <= MAX_BLOCKS) return 0;
    return odd(err, "rrdb.RRDB_trunk", "there are not 2 to 64 blocks");
}

// Parts that the public code can build and none of its published networks has.
static int refuse_parts(const yd_safetensors *st, const yd_public_net *f, yd_err *err)
{
    static const struct {
        const char *in, *setting;
    } parts[] = {
        {".weight_g", "weight normalisation (use_wn)"},        {".weight_v", "weight normalisation (use_wn)"},
        {".block.2.weight", "group normalisation (gn_groups)"}, {"denoise_fn.mid_attn.", "attention (use_attn)"},
        {"denoise_fn.up_proj.", "a second input (up_input)"},
    };
    const size_t root = strlen(f->root);
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const char *name = yd_st_at(st, i)->name;
        if (strncmp(name, f->root, root) != 0) continue;
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
            if (strstr(name + root, parts[k].in))
                return yd_fail_field(err, YD_E_CHECKPOINT, name, "a network without it", "tensor %s belongs to %s, which is not supported", name,
                                     parts[k].setting);
    }
    return 0;
}

static int is_cosine(const float *beta, const yd_schedule_config *s)
{
    for (int t = 1; t <= s->train_steps; t++) {
        const double want = yd_schedule_beta(s, t);
        if (!(fabs((double)beta[t - 1] - want) <= 1e-3 * want + 1e-7)) return 0;
    }
    return 1;
}

static int read_betas(const yd_safetensors *st, yd_public_net *f, yd_err *err)
{
    const yd_st_tensor *t = find(st, f->root, "betas");
    if (!t) return 0;
    if (t->ndim != 1 || t->numel < 1 || t->numel > YD_MAX_STEPS) return odd(err, t->name, "it does not hold one value for each of 1 to 4000 steps");
    float *v = yd_malloc(t->numel * sizeof *v);
    if (!v) return yd_fail(err, YD_E_NOMEM, "no memory for a noise schedule");
    int rc = yd_st_to_f32(t, v, err);
    const yd_schedule_config s = {.kind = YD_SCHEDULE_COSINE_BETAS, .train_steps = (int)t->numel};
    f->buffers = s.train_steps;
    if (!rc && is_cosine(v, &s)) f->schedule = s;
    yd_free(v);
    return rc;
}

int yd_srdiff_detect(const yd_safetensors *st, yd_public_net *f, yd_err *err)
{
    const yd_st_tensor *first = find(st, f->root, FIRST);
    if (!is_conv(first, 3) || first->dims[1] != 3 || first->dims[0] < 4 || first->dims[0] > 1024 || first->dims[0] % 2)
        return odd(err, FIRST, "it is no convolution of 3 channels to 4 to 1024");
    f->net = (yd_net_config){.type = YD_NET_SRDIFF, .in_channel = 3, .out_channel = 3, .inner_channel = (int)first->dims[0], .unshuffle = 1,
                             .noise_scale = 1.0f};
    int rc = refuse_parts(st, f, err);
    if (!rc) rc = read_levels(st, f, err);
    if (!rc) rc = read_encoder(st, f, err);
    return rc ? rc : read_betas(st, f, err);
}

int yd_srdiff_is_tail(const char *name)
{
    static const char *const tails[] = {"rrdb.upconv1.", "rrdb.upconv2.", "rrdb.upconv3.", "rrdb.HRconv.", "rrdb.conv_last."};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (strncmp(name, tails[i], strlen(tails[i])) == 0) return 1;
    return 0;
}

// ---- what it is run with

void yd_srdiff_defaults(yd_model_config *c)
{
    c->noise_input = YD_NOISE_TIMESTEP;
    c->prediction = YD_PREDICT_EPS;
    c->target = YD_TARGET_RESIDUAL;
    c->residual_scale = (float)RESCALE;
    c->clip = 1.0f;
    c->conditioning = YD_CONDITION_MATLAB256;
    c->schedule = (yd_schedule_config){.kind = YD_SCHEDULE_COSINE_BETAS, .train_steps = TIMESTEPS};
    c->scale = c->net.up_scale;
    const int multiple = yd_net_multiple(&c->net);
    c->window = (PATCH + multiple - 1) / multiple * multiple;
    c->overlap = OVERLAP;
    yd_public_sampling(c);
    c->fast.set.steps = FAST_STEPS;
}

static int differs(yd_err *err, const char *key, int config, int file)
{
    char accepted[32];
    snprintf(accepted, sizeof accepted, "%d", file);
    return yd_fail_field(err, YD_E_CHECKPOINT, key, accepted, "the config says %s %d, the file's tensors are of %d: it is another network's config",
                         key, config, file);
}

static int compare(const yd_model_config *c, const yd_public_net *f, yd_err *err)
{
    const yd_net_config *config = &c->net, *file = &f->net;
    if (config->type != YD_NET_SRDIFF)
        return yd_fail_field(err, YD_E_CHECKPOINT, "type", "srdiff", "its config is one of the SR3 code, but by its tensors it is an SRDiff network");
    if (config->up_scale != file->up_scale) return differs(err, "sr_scale", config->up_scale, file->up_scale);
    if (config->inner_channel != file->inner_channel) return differs(err, "hidden_size", config->inner_channel, file->inner_channel);
    if (config->n_levels != file->n_levels) return differs(err, "unet_dim_mults", config->n_levels, file->n_levels);
    for (int i = 0; i < file->n_levels; i++)
        if (config->mult[i] != file->mult[i]) return differs(err, "unet_dim_mults", config->mult[i], file->mult[i]);
    if (f->buffers && c->from.has_schedule && c->schedule.train_steps != f->buffers)
        return differs(err, "timesteps", c->schedule.train_steps, f->buffers);
    return 0;
}

int yd_srdiff_settle(const yd_public_net *f, yd_model_config *c, char *assumed, size_t cap, yd_err *err)
{
    const int given = c->from.is_public, steps = f->buffers ? f->buffers : given && c->from.has_schedule ? c->schedule.train_steps : 0;
    assumed[0] = 0;
    int rc = given ? compare(c, f, err) : 0;
    if (!rc && f->buffers && !f->schedule.train_steps)
        rc = yd_fail_field(err, YD_E_CHECKPOINT, "betas", "the cosine schedule with beta_s 0.008",
                           "the network was trained with another noise schedule than the published ones, which is not supported");
    if (rc) return rc;
    c->net = f->net;
    yd_srdiff_defaults(c);
    if (steps) c->schedule.train_steps = steps;
    yd_public_sampling(c);
    c->fast.set.steps = steps && steps < FAST_STEPS ? steps : FAST_STEPS;
    snprintf(c->name, sizeof c->name, "srdiff-%dx", c->scale);
    if (!steps) snprintf(assumed, cap, "%d cosine noise steps, res_rescale %g", TIMESTEPS, RESCALE);
    else if (!given) snprintf(assumed, cap, "res_rescale %g", RESCALE);
    return 0;
}

// ---- that code's configs

static int wrong(yd_err *err, const char *key, const char *accepted)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, key, accepted, "SRDiff config: \"%s\" is missing its value or not supported", key);
}

static int read_number(const yd_json *j, const char *key, int lo, int hi, int *out, yd_err *err)
{
    long long v;
    char accepted[64];
    const yd_jid n = yd_json_get(j, 0, key);
    if (n < 0) return 0;
    snprintf(accepted, sizeof accepted, "an integer from %d to %d", lo, hi);
    if (yd_json_integer(j, n, lo, hi, &v)) return wrong(err, key, accepted);
    *out = (int)v;
    return 0;
}

// "1|2|3|4"
static int read_mults(const yd_json *j, yd_net_config *net, yd_err *err)
{
    const yd_jid n = yd_json_get(j, 0, "unet_dim_mults");
    if (n < 0) return 0;
    const char *s = yd_json_string(j, n);
    for (net->n_levels = 0; s && net->n_levels < YD_MAX_LEVELS; s++) {
        char *end;
        const long m = strtol(s, &end, 10);
        if (end == s || m < 1 || m > 64) break;
        net->mult[net->n_levels++] = (int)m;
        if (!*end) return 0;
        if (*end != '|') break;
        s = end;
    }
    return wrong(err, "unet_dim_mults", "1 to 8 numbers from 1 to 64 with | between them");
}

// A setting that decides what the network computes, and has one supported value.
static int must_be(const yd_json *j, const char *key, int value, yd_err *err)
{
    const yd_jid n = yd_json_get(j, 0, key);
    const yd_json_type t = yd_json_type_of(j, n);
    if (n < 0) return 0;
    const int is = t == YD_J_TRUE ? 1 : t == YD_J_FALSE ? 0 : t == YD_J_NUMBER ? yd_json_number(j, n, -1.0) != 0.0 : !value;
    return is == value ? 0 : wrong(err, key, value ? "true" : "false");
}

static int read_fixed(const yd_json *j, yd_err *err)
{
    const char *kind = yd_json_string(j, yd_json_get(j, 0, "beta_schedule"));
    int rc = must_be(j, "res", 1, err);
    if (!rc) rc = must_be(j, "use_rrdb", 1, err);
    if (!rc) rc = must_be(j, "clip_input", 1, err);
    if (!rc) rc = must_be(j, "up_input", 0, err);
    if (!rc) rc = must_be(j, "use_wn", 0, err);
    if (!rc) rc = must_be(j, "use_attn", 0, err);
    if (!rc) rc = must_be(j, "gn_groups", 0, err);
    if (!rc && kind && strcmp(kind, "cosine") != 0) rc = wrong(err, "beta_schedule", "cosine");
    if (!rc && fabs(yd_json_number(j, yd_json_get(j, 0, "beta_s"), 0.008) - 0.008) > 1e-9) rc = wrong(err, "beta_s", "0.008");
    if (!rc && fabs(yd_json_number(j, yd_json_get(j, 0, "res_rescale"), RESCALE) - RESCALE) > 1e-9) rc = wrong(err, "res_rescale", "2.0");
    return rc;
}

int yd_srdiff_is_config(const yd_json *j)
{
    return yd_json_get(j, 0, "unet_dim_mults") >= 0 && yd_json_get(j, 0, "hidden_size") >= 0;
}

int yd_srdiff_read_config(const yd_json *j, yd_model_config *c, yd_err *err)
{
    int steps = TIMESTEPS;
    c->net = (yd_net_config){.type = YD_NET_SRDIFF, .in_channel = 3, .out_channel = 3, .inner_channel = 64, .n_levels = 4, .mult = {1, 2, 2, 4},
                             .unshuffle = 1, .noise_scale = 1.0f, .up_scale = 8, .rrdb_blocks = 8, .rrdb_features = 32};
    int rc = read_number(j, "sr_scale", 2, 16, &c->net.up_scale, err);
    if (!rc && c->net.up_scale % 2) rc = wrong(err, "sr_scale", "an even number from 2 to 16");
    if (!rc) rc = read_number(j, "hidden_size", 4, 1024, &c->net.inner_channel, err);
    if (!rc) rc = read_mults(j, &c->net, err);
    if (!rc) rc = read_number(j, "rrdb_num_block", 2, MAX_BLOCKS, &c->net.rrdb_blocks, err);
    if (!rc) rc = read_number(j, "rrdb_num_feat", 2, 512, &c->net.rrdb_features, err);
    if (!rc) rc = read_number(j, "timesteps", 1, YD_MAX_STEPS, &steps, err);
    if (!rc) rc = read_fixed(j, err);
    if (rc) return rc;
    yd_srdiff_defaults(c);
    c->schedule.train_steps = steps;
    yd_public_sampling(c);
    c->fast.set.steps = steps < FAST_STEPS ? steps : FAST_STEPS;
    c->from = (yd_public_said){.is_public = 1, .has_schedule = yd_json_get(j, 0, "timesteps") >= 0};
    snprintf(c->name, sizeof c->name, "srdiff-%dx", c->scale);
    return 0;
}
