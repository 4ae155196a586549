// Which network of the public SR3 code a checkpoint holds: see model_public.h.
//
// A level's width is told by its blocks' second dimension, its attention by the presence of attn.qkv.weight, its end by a strided
// convolution (downs.N.conv). Only the way down is walked: what the way up must have follows from it, and core/model.c compares the whole
// file with the network tensor by tensor. Owns nothing.
#include "core/model_public.h"

#include "core/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INNER      "denoise_fn."
#define MAX_BLOCKS 16
#define FAST_STEPS 100
#define ATTENDS_AT 16 // resolution of the attention in every published config that has any
#define NAME_MAX_BYTES 320

static const char *const buffer_names[] = {"betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
                                           "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
                                           "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
                                           "posterior_mean_coef1", "posterior_mean_coef2"};
enum { N_BUFFERS = sizeof buffer_names / sizeof buffer_names[0] };

int yd_public_is_buffer(const char *name)
{
    for (int i = 0; i < N_BUFFERS; i++)
        if (strcmp(name, buffer_names[i]) == 0) return 1;
    return 0;
}

int yd_public_takes_no_picture(yd_err *err, const char *field)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, field, "a network of 6 input channels, condition and noise",
                         "this network is unconditional (3 input channels): it makes pictures from nothing and takes none, so it cannot enlarge one");
}

yd_schedule_config yd_public_schedule(yd_net_type type)
{
    if (type == YD_NET_DDPM) return (yd_schedule_config){.kind = YD_SCHEDULE_LINEAR, .train_steps = 2000, .start = 1e-4, .end = 2e-2};
    return (yd_schedule_config){.kind = YD_SCHEDULE_LINEAR, .train_steps = 2000, .start = 1e-6, .end = 1e-2};
}

void yd_public_sampling(yd_model_config *cfg)
{
    const int T = cfg->schedule.train_steps;
    cfg->defaults.steps = T;
    cfg->defaults.sampler = YD_SAMPLER_ANCESTRAL;
    cfg->defaults.variance = YD_VARIANCE_POSTERIOR;
    snprintf(cfg->defaults.attention, sizeof cfg->defaults.attention, "constant");
    cfg->fast = (yd_profile){.given = 1, .set = cfg->defaults};
    cfg->fast.set.steps = T < FAST_STEPS ? T : FAST_STEPS;
    cfg->fast.set.sampler = YD_SAMPLER_DDIM;
    cfg->fast.set.eta = 0.0f;
}

// ---- where it stands

// Length of what stands before `tail` in name, which is nothing or ends with a dot; -1 when it does not end so.
static int before(const char *name, const char *tail)
{
    const size_t n = strlen(name), k = strlen(tail);
    if (n < k || strcmp(name + n - k, tail) != 0) return -1;
    return n == k || name[n - k - 1] == '.' ? (int)(n - k) : -1;
}

__attribute__((format(printf, 3, 4))) static const yd_st_tensor *find(const yd_safetensors *st, const char *prefix, const char *fmt, ...)
{
    char name[NAME_MAX_BYTES];
    va_list ap;
    const int n = snprintf(name, sizeof name, "%s", prefix);
    if (n < 0 || (size_t)n >= sizeof name) return NULL;
    va_start(ap, fmt);
    const int m = vsnprintf(name + n, sizeof name - (size_t)n, fmt, ap);
    va_end(ap);
    return m < 0 || (size_t)(n + m) >= sizeof name ? NULL : yd_st_find(st, name);
}

int yd_public_locate(const yd_safetensors *st, yd_public_net *out, yd_err *err)
{
    *out = (yd_public_net){.root = ""};
    int found = 0;
    for (size_t i = 0; i < yd_st_count(st); i++) {
        const char *name = yd_st_at(st, i)->name;
        char prefix[sizeof out->prefix];
        const int n = before(name, "downs.0.weight");
        if (n < 0 || (size_t)n >= sizeof out->root) continue;
        snprintf(prefix, sizeof prefix, "%.*s", n, name);
        if (!find(st, prefix, "noise_level_mlp.1.weight") && !find(st, prefix, "time_mlp.1.weight")) continue;
        if (found)
            return yd_fail_field(err, YD_E_CHECKPOINT, name, "a file with one network",
                                 "it holds several networks, under \"%s\" and under \"%s\"", out->prefix, prefix);
        found = 1;
        memcpy(out->prefix, prefix, sizeof prefix);
        const int inner = n >= (int)sizeof INNER - 1 ? before(prefix, INNER) : -1;
        snprintf(out->root, sizeof out->root, "%.*s", inner >= 0 ? inner : n, prefix);
    }
    return found;
}

// ---- what it is

static int odd(yd_err *err, const char *name, const char *why)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "tensor %s: %s, as no network of the public SR3 code has it", name, why);
}

// A level ends: its blocks become its multiplier.
static int close_level(yd_public_net *f, int blocks, int64_t width, int attends, yd_err *err)
{
    yd_net_config *net = &f->net;
    char where[48];
    snprintf(where, sizeof where, "downs (level %d)", net->n_levels);
    if (net->n_levels == YD_MAX_LEVELS) return odd(err, where, "there are more than 8 levels");
    if (blocks < 1 || blocks > MAX_BLOCKS || (net->n_levels > 0 && blocks != net->res_blocks))
        return odd(err, where, "a level has another number of blocks");
    if (width % net->inner_channel || width / net->inner_channel < 1 || width / net->inner_channel > 64)
        return odd(err, where, "its width is not 1 to 64 times the first layer's");
    net->res_blocks = blocks;
    f->attends[net->n_levels] = attends;
    net->mult[net->n_levels++] = (int)(width / net->inner_channel);
    return 0;
}

static int walk_down(const yd_safetensors *st, yd_public_net *f, yd_err *err)
{
    int blocks = 0, attends = 0;
    int64_t width = 0;
    for (int i = 1;; i++) {
        const yd_st_tensor *t = find(st, f->prefix, "downs.%d.res_block.block1.block.3.weight", i);
        const int has = find(st, f->prefix, "downs.%d.attn.qkv.weight", i) != NULL;
        if (t) {
            if (t->ndim != 4) return odd(err, t->name, "it is no convolution");
            if (blocks > 0 && (t->dims[0] != width || has != attends)) return odd(err, t->name, "the blocks of a level differ");
            width = t->dims[0];
            attends = has;
            blocks++;
            continue;
        }
        int rc = close_level(f, blocks, width, attends, err);
        if (rc || !find(st, f->prefix, "downs.%d.conv.weight", i)) return rc;
        blocks = 0;
    }
}

// A number as somebody wrote it, from its float: 1e-6 and not 9.99999997e-7.
static double as_written(float v)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", (double)v);
    return strtod(text, NULL);
}

static double linear_beta(const yd_schedule_config *s, int t)
{
    return s->train_steps > 1 ? s->start + (s->end - s->start) * t / (s->train_steps - 1) : s->start;
}

// The schedule whose betas the file holds, if it is a linear one.
static int read_betas(const yd_safetensors *st, yd_public_net *f, yd_err *err)
{
    const yd_st_tensor *t = find(st, f->root, "betas");
    if (!t) return 0;
    if (t->ndim != 1 || t->numel < 1 || t->numel > YD_MAX_STEPS) {
        char accepted[48];
        snprintf(accepted, sizeof accepted, "1 to %d", YD_MAX_STEPS);
        return yd_fail_field(err, YD_E_CHECKPOINT, t->name, accepted, "%s holds %zu values, one for each training step", t->name, t->numel);
    }
    float *v = yd_malloc(t->numel * sizeof *v);
    if (!v) return yd_fail(err, YD_E_NOMEM, "no memory for a noise schedule");
    int rc = yd_st_to_f32(t, v, err);
    if (!rc) {
        yd_schedule_config s = {.kind = YD_SCHEDULE_LINEAR, .train_steps = (int)t->numel, .start = as_written(v[0]),
                                .end = as_written(v[t->numel - 1])};
        f->buffers = s.train_steps;
        int linear = s.start > 0.0 && s.start <= s.end && s.end < 1.0;
        for (int i = 0; linear && i < s.train_steps; i++) linear = fabs((double)v[i] - linear_beta(&s, i)) <= 1e-3 * linear_beta(&s, i) + 1e-7;
        if (linear) f->schedule = s;
    }
    yd_free(v);
    return rc;
}

int yd_public_detect(const yd_safetensors *st, yd_public_net *f, yd_err *err)
{
    yd_net_config *net = &f->net;
    const yd_st_tensor *first = find(st, f->prefix, "downs.0.weight"), *last = find(st, f->prefix, "final_conv.block.3.weight");
    if (!first || first->ndim != 4 || first->dims[0] < 2 || first->dims[0] > 1024 || first->dims[0] % 2)
        return odd(err, first ? first->name : "downs.0.weight", "it is no convolution to 2 to 1024 channels");
    if (!last || last->ndim != 4) return odd(err, "final_conv.block.3.weight", "it is missing or no convolution");
    if (first->dims[1] == 3 && last->dims[0] == 3) return yd_public_takes_no_picture(err, first->name);
    if (first->dims[1] != 6 || last->dims[0] != 3) return odd(err, first->name, "it does not make 3 channels from 6");
    *net = (yd_net_config){.type = find(st, f->prefix, "time_mlp.1.weight") ? YD_NET_DDPM : YD_NET_SR3, .in_channel = 6, .out_channel = 3,
                           .inner_channel = (int)first->dims[0], .unshuffle = 1, .noise_scale = 1.0f};
    net->mid_attention = find(st, f->prefix, "mid.0.attn.qkv.weight") != NULL;
    int rc = walk_down(st, f, err);
    return rc ? rc : read_betas(st, f, err);
}

// ---- what it is run with

typedef struct notes {
    char *dst;
    size_t cap;
} notes;

__attribute__((format(printf, 2, 3))) static void note(notes *n, const char *fmt, ...)
{
    const size_t len = strlen(n->dst);
    va_list ap;
    va_start(ap, fmt);
    const int sep = snprintf(n->dst + len, n->cap - len, "%s", len ? ", " : "");
    if (len + (size_t)sep < n->cap) vsnprintf(n->dst + len + (size_t)sep, n->cap - len - (size_t)sep, fmt, ap);
    va_end(ap);
}

static int differs(yd_err *err, const char *field, int config, int file)
{
    char accepted[32];
    snprintf(accepted, sizeof accepted, "%d", file);
    return yd_fail_field(err, YD_E_CHECKPOINT, field, accepted, "the config says %s %d, the file's tensors are of %d: it is another network's config",
                         field, config, file);
}

static int compare(const yd_net_config *config, const yd_net_config *file, yd_err *err)
{
    static const char *const type[] = {[YD_NET_SR3] = "sr3", [YD_NET_DDPM] = "ddpm"};
    if (config->type != file->type)
        return yd_fail_field(err, YD_E_CHECKPOINT, "type", type[file->type], "its config says %s, but by its tensors it is a %s network",
                             type[config->type], type[file->type]);
    if (config->inner_channel != file->inner_channel) return differs(err, "inner_channel", config->inner_channel, file->inner_channel);
    if (config->res_blocks != file->res_blocks) return differs(err, "res_blocks", config->res_blocks, file->res_blocks);
    if (config->n_levels != file->n_levels) return differs(err, "channel_multiplier", config->n_levels, file->n_levels);
    for (int i = 0; i < file->n_levels; i++)
        if (config->mult[i] != file->mult[i]) return differs(err, "channel_multiplier", config->mult[i], file->mult[i]);
    return 0;
}

// The published 64 -> 512 network, the only one with 16 groups: five levels up to 16 times the width, one block each, no attention in them.
static int is_64_512(const yd_public_net *f)
{
    static const int mult[] = {1, 2, 4, 8, 16};
    int attends = 0;
    for (int i = 0; i < f->net.n_levels; i++) attends |= f->attends[i];
    return f->net.type == YD_NET_SR3 && !attends && f->net.res_blocks == 1 && f->net.n_levels == 5 && memcmp(f->net.mult, mult, sizeof mult) == 0;
}

// 32, as that code takes where its config says nothing, or the most that every width allows.
static int likely_groups(const yd_public_net *f)
{
    int g = is_64_512(f) ? 16 : 32;
    for (int i = 0; i < f->net.n_levels; i++)
        while (f->net.inner_channel % g || f->net.inner_channel * f->net.mult[i] % g) g /= 2;
    return g;
}

static int likely_size(const yd_public_net *f)
{
    if (is_64_512(f)) return 512;
    for (int i = 0; i < f->net.n_levels; i++)
        if (f->attends[i]) return ATTENDS_AT << i;
    return 128;
}

// image_size and attn_res such that attention comes out where the file has it.
static void place_attention(const yd_public_net *f, yd_net_config *net)
{
    const int least = 1 << (net->n_levels - 1);
    if (net->image_size % least) net->image_size += least - net->image_size % least;
    net->n_attn = 0;
    for (int i = 0; i < net->n_levels; i++)
        if (f->attends[i]) net->attn_res[net->n_attn++] = net->image_size >> i;
}

static int settle_schedule(const yd_public_net *f, yd_model_config *cfg, notes *n, yd_err *err)
{
    if (cfg->from.has_schedule) return 0;
    if (f->buffers && !f->schedule.train_steps)
        return yd_fail_field(err, YD_E_CHECKPOINT, "betas", "linear",
                             "the file was trained with a noise schedule that is not linear, and no config says how to sample it");
    cfg->schedule = f->buffers ? f->schedule : yd_public_schedule(f->net.type);
    if (!f->buffers) note(n, "%d linear noise steps from %g to %g", cfg->schedule.train_steps, cfg->schedule.start, cfg->schedule.end);
    yd_public_sampling(cfg);
    return 0;
}

int yd_public_settle(const yd_public_net *f, yd_model_config *cfg, char *assumed, size_t cap, yd_err *err)
{
    notes n = {assumed, cap};
    const int given = cfg->from.is_public;
    assumed[0] = 0;
    int rc = given ? compare(&cfg->net, &f->net, err) : 0;
    if (rc) return rc;
    const int groups = given ? cfg->net.norm_groups : likely_groups(f);
    const int size = cfg->from.has_size ? cfg->net.image_size : likely_size(f);
    cfg->net = f->net;
    cfg->net.norm_groups = groups;
    cfg->net.image_size = size;
    place_attention(f, &cfg->net);
    if (!given) {
        note(&n, "norm_groups %d", groups);
        cfg->noise_input = f->net.type == YD_NET_DDPM ? YD_NOISE_TIMESTEP : YD_NOISE_SQRT_GAMMA;
        snprintf(cfg->name, sizeof cfg->name, "%s", f->net.type == YD_NET_DDPM ? "ddpm" : "sr3");
    }
    if (!cfg->from.has_size) {
        cfg->window = cfg->net.image_size;
        cfg->overlap = cfg->window / 8;
        note(&n, "windows of %d pixels", cfg->window);
    }
    if (!cfg->from.has_scale) {
        cfg->scale = cfg->net.image_size == 256 ? 4 : 8;
        note(&n, "scale %d", cfg->scale);
    }
    return settle_schedule(f, cfg, &n, err);
}

// ---- the buffers

// Value i of the 12 at one step, in the order of their names.
static void expected(double beta, double g, double before_g, double v[N_BUFFERS])
{
    const double variance = beta * (1.0 - before_g) / (1.0 - g);
    const double all[N_BUFFERS] = {beta, g, before_g, sqrt(g), sqrt(1.0 - g), log(1.0 - g), sqrt(1.0 / g), sqrt(1.0 / g - 1.0), variance,
                                   log(fmax(variance, 1e-20)), beta * sqrt(before_g) / (1.0 - g), (1.0 - before_g) * sqrt(1.0 - beta) / (1.0 - g)};
    memcpy(v, all, sizeof all);
}

static int check_one(const yd_st_tensor *t, int which, const yd_schedule_config *s, float *v, yd_err *err)
{
    char says[32];
    snprintf(says, sizeof says, "%d", (int)(t->numel < 1000000 ? t->numel : 1000000));
    if (t->ndim != 1 || t->numel != (size_t)s->train_steps)
        return yd_fail_field(err, YD_E_CHECKPOINT, "n_timestep", says, "the config's schedule has %d steps, the file's %s has %zu", s->train_steps,
                             t->name, t->numel);
    int rc = yd_st_to_f32(t, v, err);
    double gamma = 1.0, want[N_BUFFERS];
    for (int i = 0; !rc && i < s->train_steps; i++) {
        const double beta = yd_schedule_beta(s, i + 1), last = gamma;
        gamma *= 1.0 - beta;
        expected(beta, gamma, last, want);
        if (!(fabs((double)v[i] - want[which]) <= 2e-3 * fabs(want[which]) + 1e-6)) // files of 16 bits keep three digits
            return yd_fail_field(err, YD_E_CHECKPOINT, t->name, "the config that the file was trained with, or none",
                                 "the file was trained with another noise schedule than the config's: %s is %g at step %d, not %g", t->name,
                                 (double)v[i], i, want[which]);
    }
    return rc;
}

int yd_public_check_buffers(const yd_safetensors *st, const yd_public_net *f, const yd_model_config *cfg, yd_err *err)
{
    const yd_schedule_config *s = cfg->from.trained.train_steps ? &cfg->from.trained : &cfg->schedule;
    if (!f->buffers || !yd_schedule_is_table(s)) return 0;
    float *v = yd_malloc((size_t)s->train_steps * sizeof *v);
    if (!v) return yd_fail(err, YD_E_NOMEM, "no memory for a noise schedule");
    int rc = 0;
    for (int b = 0; !rc && b < N_BUFFERS; b++) {
        const yd_st_tensor *t = find(st, f->root, "%s", buffer_names[b]);
        if (t) rc = check_one(t, b, s, v, err);
    }
    yd_free(v);
    return rc;
}
