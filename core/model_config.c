// A model's description as text: our JSON (core/model.h shows it) and the public code's configs, parsed with every field checked, and
// printed back. A field that is absent keeps its default; a field that is present and wrong, or unknown, is an error naming it.
// Owns nothing; reentrant.
#include "core/json.h"
#include "core/model.h"
#include "core/model_public.h"
#include "core/model_srdiff.h"
#include "core/sampler.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MIN_WINDOW 8
#define MAX_WINDOW 2048

typedef struct reader {
    const yd_json *j;
    yd_err *err;
    int over; // what is read is laid over a config that is complete
    int rc; // the first failure; later calls do nothing
} reader;

static void bad(reader *r, const char *key, const char *accepted)
{
    if (!r->rc)
        r->rc = yd_fail_field(r->err, YD_E_CHECKPOINT, key, accepted, "model config: \"%s\" is missing its value or out of range", key);
}

static void read_int(reader *r, yd_jid obj, const char *key, int lo, int hi, int *out)
{
    yd_jid n = yd_json_get(r->j, obj, key);
    long long v;
    if (r->rc || n < 0) return;
    char accepted[64];
    snprintf(accepted, sizeof accepted, "an integer from %d to %d", lo, hi);
    if (yd_json_integer(r->j, n, lo, hi, &v)) bad(r, key, accepted);
    else *out = (int)v;
}

static void read_double(reader *r, yd_jid obj, const char *key, double lo, double hi, double *out)
{
    yd_jid n = yd_json_get(r->j, obj, key);
    if (r->rc || n < 0) return;
    char accepted[64];
    snprintf(accepted, sizeof accepted, "a number from %g to %g", lo, hi);
    double v = yd_json_number(r->j, n, NAN);
    if (!(v >= lo && v <= hi)) bad(r, key, accepted);
    else *out = v;
}

static void read_float(reader *r, yd_jid obj, const char *key, double lo, double hi, float *out)
{
    double v = (double)*out;
    read_double(r, obj, key, lo, hi, &v);
    *out = (float)v;
}

static void read_bool(reader *r, yd_jid obj, const char *key, int *out)
{
    yd_jid n = yd_json_get(r->j, obj, key);
    if (r->rc || n < 0) return;
    yd_json_type t = yd_json_type_of(r->j, n);
    if (t == YD_J_TRUE) *out = 1;
    else if (t == YD_J_FALSE) *out = 0;
    else bad(r, key, "true or false");
}

static void read_text(reader *r, yd_jid obj, const char *key, char *dst, size_t cap)
{
    yd_jid n = yd_json_get(r->j, obj, key);
    if (r->rc || n < 0) return;
    const char *s = yd_json_string(r->j, n);
    if (!s || !*s || strlen(s) >= cap) bad(r, key, "a short text");
    else snprintf(dst, cap, "%s", s);
}

// One of a NULL-terminated list of words; *out is its position.
static void read_word(reader *r, yd_jid obj, const char *key, const char *const *words, int *out)
{
    yd_jid n = yd_json_get(r->j, obj, key);
    if (r->rc || n < 0) return;
    const char *s = yd_json_string(r->j, n);
    char accepted[160] = "";
    for (int i = 0; words[i]; i++) {
        if (s && strcmp(s, words[i]) == 0) {
            *out = i;
            return;
        }
        size_t len = strlen(accepted);
        snprintf(accepted + len, sizeof accepted - len, "%s%s", i ? ", " : "", words[i]);
    }
    bad(r, key, accepted);
}

static void read_ints(reader *r, yd_jid obj, const char *key, int lo, int hi, int *dst, int cap, int *count)
{
    yd_jid n = yd_json_get(r->j, obj, key);
    if (r->rc || n < 0) return;
    if (yd_json_type_of(r->j, n) != YD_J_ARRAY || yd_json_count(r->j, n) > cap) {
        bad(r, key, "a list of at most 8 integers");
        return;
    }
    *count = 0;
    for (yd_jid c = yd_json_first(r->j, n); c >= 0; c = yd_json_next(r->j, c)) {
        long long v;
        if (yd_json_integer(r->j, c, lo, hi, &v)) {
            bad(r, key, "a list of at most 8 integers");
            return;
        }
        dst[(*count)++] = (int)v;
    }
}

// Refuse what is no object, and keys that are not in the NULL-terminated list.
static void only_keys(reader *r, yd_jid obj, const char *where, const char *const *known)
{
    if (obj >= 0 && yd_json_type_of(r->j, obj) != YD_J_OBJECT) bad(r, where, "an object");
    for (yd_jid m = yd_json_first(r->j, obj); m >= 0 && !r->rc; m = yd_json_next(r->j, m)) {
        const char *key = yd_json_key(r->j, m);
        int found = 0;
        for (int i = 0; known[i] && key; i++) found |= strcmp(key, known[i]) == 0;
        if (!found && key) r->rc = yd_fail_field(r->err, YD_E_CHECKPOINT, key, "", "model config: unknown key \"%s\" in \"%s\"", key, where);
    }
}

static const char *const prediction_words[] = {"eps", "x0", "v", NULL};
static const char *const target_words[] = {"direct", "residual", NULL};
static const char *const noise_words[] = {"sqrt_gamma", "sqrt_one_minus_gamma", "timestep", NULL};
static const char *const type_words[] = {"sr3", "ddpm", "srdiff", NULL};
static const char *const sampler_words[] = {"ancestral", "ddim", "dpmpp_2m", NULL};
static const char *const variance_words[] = {"posterior", "beta", NULL};
static const char *const form_words[] = {"add", "max", NULL};
static const char *const allocation_words[] = {"late", "strided", "windows", NULL};
static const char *const lr_words[] = {"forward", "literal", NULL};
static const char *const schedule_words[] = {"linear", "cosine", "cosine_betas", NULL};
static const char *const conditioning_words[] = {"pillow8", "matlab256", NULL};
static const char *const storage_words[] = {"auto", "f32", "bf16", NULL};

void yd_model_config_init(yd_model_config *c)
{
    *c = (yd_model_config){
        .net = {.in_channel = 6, .out_channel = 3, .inner_channel = 64, .n_levels = 5, .mult = {1, 2, 4, 8, 8}, .res_blocks = 2,
                .norm_groups = 32, .image_size = 128, .unshuffle = 1, .mid_attention = 1, .noise_scale = 1.0f},
        .residual_scale = 1.0f,
        .clip = 1.0f,
        .mask_input = 1,
        .schedule = {.kind = YD_SCHEDULE_LINEAR, .train_steps = 2000, .start = 1e-6, .end = 1e-2},
        .scale = 4,
        .window = 128,
        .overlap = 16,
        .defaults = {.steps = 100, .sampler = YD_SAMPLER_ANCESTRAL, .eta = 1.0f, .attention = "edge", .lower_bound = 0.4, .skip = 1},
    };
    snprintf(c->name, sizeof c->name, "unnamed");
}

static void read_schedule(reader *r, yd_jid obj, yd_schedule_config *s)
{
    static const char *const keys[] = {"kind", "train_steps", "start", "end", NULL};
    int kind = (int)s->kind;
    only_keys(r, obj, "schedule", keys);
    read_word(r, obj, "kind", schedule_words, &kind);
    s->kind = (yd_schedule_kind)kind;
    read_int(r, obj, "train_steps", 1, YD_MAX_STEPS, &s->train_steps);
    read_double(r, obj, "start", 1e-12, 0.999, &s->start);
    read_double(r, obj, "end", 1e-12, 0.999, &s->end);
}

static void read_srdiff_network(reader *r, yd_jid obj, yd_net_config *n)
{
    static const char *const keys[] = {"type", "inner_channel", "channel_multiplier", "up_scale", "rrdb_blocks", "rrdb_features", NULL};
    only_keys(r, obj, "network", keys);
    if (!r->over)
        *n = (yd_net_config){.in_channel = 3, .out_channel = 3, .inner_channel = 64, .n_levels = 4, .mult = {1, 2, 2, 4}, .unshuffle = 1,
                             .noise_scale = 1.0f, .up_scale = 4, .rrdb_blocks = 8, .rrdb_features = 32};
    n->type = YD_NET_SRDIFF;
    read_int(r, obj, "inner_channel", 4, 1024, &n->inner_channel);
    read_ints(r, obj, "channel_multiplier", 1, 64, n->mult, YD_MAX_LEVELS, &n->n_levels);
    read_int(r, obj, "up_scale", 2, 16, &n->up_scale);
    read_int(r, obj, "rrdb_blocks", 2, 64, &n->rrdb_blocks);
    read_int(r, obj, "rrdb_features", 2, 512, &n->rrdb_features);
}

static void read_unet(reader *r, yd_jid obj, yd_net_config *n)
{
    static const char *const keys[] = {"type", "in_channel", "out_channel", "inner_channel", "channel_multiplier", "res_blocks",
                                       "norm_groups", "attn_res", "image_size", "unshuffle", "mid_attention", "noise_scale", NULL};
    only_keys(r, obj, "network", keys);
    read_int(r, obj, "in_channel", 6, 6, &n->in_channel);
    read_int(r, obj, "out_channel", 3, 3, &n->out_channel);
    read_int(r, obj, "inner_channel", 2, 1024, &n->inner_channel);
    read_ints(r, obj, "channel_multiplier", 1, 64, n->mult, YD_MAX_LEVELS, &n->n_levels);
    read_int(r, obj, "res_blocks", 1, 16, &n->res_blocks);
    read_int(r, obj, "norm_groups", 1, 1024, &n->norm_groups);
    read_ints(r, obj, "attn_res", 1, 4096, n->attn_res, YD_MAX_LEVELS, &n->n_attn);
    read_int(r, obj, "image_size", 8, 4096, &n->image_size);
    read_int(r, obj, "unshuffle", 1, 8, &n->unshuffle);
    read_bool(r, obj, "mid_attention", &n->mid_attention);
    read_float(r, obj, "noise_scale", 1e-3, 1e6, &n->noise_scale);
}

static void read_network(reader *r, yd_jid obj, yd_net_config *n)
{
    const yd_net_type before = n->type;
    int type = (int)before;
    read_word(r, obj, "type", type_words, &type);
    if (r->over && (type == YD_NET_SRDIFF) != (before == YD_NET_SRDIFF)) bad(r, "type", type_words[before]);
    if (type == YD_NET_SRDIFF) {
        read_srdiff_network(r, obj, n);
        return;
    }
    n->type = (yd_net_type)type;
    read_unet(r, obj, n);
}

// How jobs sample: the defaults, or a profile. dtype is among the defaults alone.
static const char *const sample_keys[] = {"dtype", "steps", "sampler", "variance", "eta", "spacing", "attention", "mask_form", "lower_bound",
                                          "allocation", "fidelity", "lr_noise", NULL};

static void read_sampling(reader *r, yd_jid obj, yd_sample_settings *s)
{
    int sampler = (int)s->sampler, variance = (int)s->variance, form = (int)s->mask_form, lr = (int)s->lr_noise;
    int allocation = (int)s->allocation;
    read_int(r, obj, "steps", 1, YD_MAX_STEPS, &s->steps);
    read_word(r, obj, "sampler", sampler_words, &sampler);
    read_word(r, obj, "variance", variance_words, &variance);
    read_float(r, obj, "eta", 0, 1, &s->eta);
    read_double(r, obj, "spacing", YD_SPACING_MIN, YD_SPACING_MAX, &s->spacing);
    read_text(r, obj, "attention", s->attention, sizeof s->attention);
    read_word(r, obj, "mask_form", form_words, &form);
    read_double(r, obj, "lower_bound", 0, 1, &s->lower_bound);
    read_word(r, obj, "allocation", allocation_words, &allocation);
    read_double(r, obj, "fidelity", 0, 1, &s->fidelity);
    read_word(r, obj, "lr_noise", lr_words, &lr);
    s->sampler = (yd_sampler_kind)sampler;
    s->variance = (yd_variance)variance;
    s->mask_form = (yd_mask_form)form;
    s->lr_noise = (yd_lr_noise)lr;
    s->allocation = (yd_allocation)allocation;
}

static void read_defaults(reader *r, yd_jid obj, yd_model_config *c)
{
    int dtype = (int)c->dtype;
    only_keys(r, obj, "defaults", sample_keys);
    read_sampling(r, obj, &c->defaults);
    read_word(r, obj, "dtype", storage_words, &dtype);
    c->dtype = (yd_storage)dtype;
}

static void read_profile(reader *r, yd_jid obj, const char *where, const yd_sample_settings *defaults, yd_profile *p)
{
    if (obj < 0) return;
    only_keys(r, obj, where, sample_keys + 1);
    if (!p->given) p->set = *defaults;
    p->given = 1;
    read_sampling(r, obj, &p->set);
}

static void read_profiles(reader *r, yd_jid obj, yd_model_config *c)
{
    static const char *const keys[] = {"fast", "best", NULL};
    only_keys(r, obj, "profiles", keys);
    read_profile(r, yd_json_get(r->j, obj, "fast"), "profiles.fast", &c->defaults, &c->fast);
    read_profile(r, yd_json_get(r->j, obj, "best"), "profiles.best", &c->defaults, &c->best);
}

// What a network of this type is told where its config does not say.
static yd_noise_input told_to(yd_net_type type)
{
    return type == YD_NET_SR3 ? YD_NOISE_SQRT_GAMMA : YD_NOISE_TIMESTEP;
}

static void read_ours(reader *r, yd_model_config *c)
{
    static const char *const keys[] = {"format", "name", "network", "noise_input", "prediction", "target", "residual_scale", "clip",
                                       "mask_input", "schedule", "scale", "window", "overlap", "conditioning", "defaults", "profiles", NULL};
    static const char *const formats[] = {"yoda-model-1", NULL};
    int noise, prediction, target, conditioning, ignored = 0;
    only_keys(r, 0, "the whole", keys);
    read_network(r, yd_json_get(r->j, 0, "network"), &c->net);
    if (!r->over && !r->rc && c->net.type == YD_NET_SRDIFF && c->net.n_levels > 0) yd_srdiff_defaults(c); // none is refused below
    prediction = (int)c->prediction;
    target = (int)c->target;
    conditioning = (int)c->conditioning;
    noise = (int)(r->over ? c->noise_input : told_to(c->net.type));
    read_word(r, 0, "format", formats, &ignored);
    read_text(r, 0, "name", c->name, sizeof c->name);
    read_word(r, 0, "noise_input", noise_words, &noise);
    read_word(r, 0, "prediction", prediction_words, &prediction);
    read_word(r, 0, "target", target_words, &target);
    read_float(r, 0, "residual_scale", 1e-3, 1e3, &c->residual_scale);
    read_float(r, 0, "clip", 0, 1e3, &c->clip);
    read_bool(r, 0, "mask_input", &c->mask_input);
    read_word(r, 0, "conditioning", conditioning_words, &conditioning);
    read_int(r, 0, "scale", 1, 16, &c->scale);
    read_int(r, 0, "window", MIN_WINDOW, MAX_WINDOW, &c->window);
    read_int(r, 0, "overlap", 0, MAX_WINDOW / 2, &c->overlap);
    c->noise_input = (yd_noise_input)noise;
    c->prediction = (yd_prediction)prediction;
    c->target = (yd_target)target;
    c->conditioning = (yd_conditioning)conditioning;
    read_schedule(r, yd_json_get(r->j, 0, "schedule"), &c->schedule);
    if (yd_schedule_is_table(&c->schedule) && c->defaults.steps > c->schedule.train_steps) c->defaults.steps = c->schedule.train_steps;
    if (yd_schedule_is_table(&c->schedule) && c->fast.set.steps > c->schedule.train_steps) c->fast.set.steps = c->schedule.train_steps;
    read_defaults(r, yd_json_get(r->j, 0, "defaults"), c);
    read_profiles(r, yd_json_get(r->j, 0, "profiles"), c);
}

// beta_schedule.train or .val of the public code. 1 when it is there.
static int read_public_schedule(reader *r, yd_jid obj, yd_schedule_config *s)
{
    static const char *const linear[] = {"linear", NULL};
    int ignored = 0;
    if (obj < 0) return 0;
    read_word(r, obj, "schedule", linear, &ignored);
    read_int(r, obj, "n_timestep", 1, YD_MAX_STEPS, &s->train_steps);
    read_double(r, obj, "linear_start", 1e-12, 0.999, &s->start);
    read_double(r, obj, "linear_end", 1e-12, 0.999, &s->end);
    return 1;
}

// The "unet" of the public code.
static void read_public_network(reader *r, yd_jid unet, yd_jid diffusion, yd_net_config *n)
{
    long long in;
    if (!r->rc && (yd_json_type_of(r->j, yd_json_get(r->j, diffusion, "conditional")) == YD_J_FALSE ||
                   (yd_json_integer(r->j, yd_json_get(r->j, unet, "in_channel"), 3, 3, &in) == 0)))
        r->rc = yd_public_takes_no_picture(r->err, "in_channel");
    read_int(r, unet, "in_channel", 6, 6, &n->in_channel);
    read_int(r, unet, "out_channel", 3, 3, &n->out_channel);
    read_int(r, unet, "inner_channel", 2, 1024, &n->inner_channel);
    if (yd_json_type_of(r->j, yd_json_get(r->j, unet, "norm_groups")) != YD_J_NULL)
        read_int(r, unet, "norm_groups", 1, 1024, &n->norm_groups);
    read_ints(r, unet, "channel_multiplier", 1, 64, n->mult, YD_MAX_LEVELS, &n->n_levels);
    read_ints(r, unet, "attn_res", 1, 4096, n->attn_res, YD_MAX_LEVELS, &n->n_attn);
    read_int(r, unet, "res_blocks", 1, 16, &n->res_blocks);
    read_int(r, diffusion, "image_size", 8, 4096, &n->image_size);
}

// A config of the public code: {"name", "model": {"unet", "beta_schedule": {"train", "val"}, "diffusion"}, "datasets"?}. Other keys are
// ignored, because that code's files carry its whole training set-up. Sampling goes by "val".
static void read_public(reader *r, yd_jid model, yd_model_config *c)
{
    yd_jid diffusion = yd_json_get(r->j, model, "diffusion"), beta = yd_json_get(r->j, model, "beta_schedule");
    yd_jid data = yd_json_get(r->j, yd_json_get(r->j, 0, "datasets"), "val");
    const char *name = yd_json_string(r->j, yd_json_get(r->j, 0, "name"));
    static const char *const types[] = {"sr3", "ddpm", NULL};
    int type = (int)c->net.type, lo = 0, hi = 0;
    read_word(r, model, "which_model_G", types, &type);
    c->net.type = (yd_net_type)type;
    c->noise_input = told_to(c->net.type);
    c->from = (yd_public_said){.is_public = 1, .has_size = yd_json_get(r->j, diffusion, "image_size") >= 0};
    read_public_network(r, yd_json_get(r->j, model, "unet"), diffusion, &c->net);
    c->schedule = yd_public_schedule(c->net.type);
    c->from.has_schedule = read_public_schedule(r, yd_json_get(r->j, beta, "val"), &c->schedule);
    yd_schedule_config trained = c->schedule;
    if (read_public_schedule(r, yd_json_get(r->j, beta, "train"), &trained)) c->from.trained = trained;
    read_int(r, data, "l_resolution", 1, 4096, &lo);
    read_int(r, data, "r_resolution", 1, 4096, &hi);
    c->from.has_scale = lo > 0 && hi > lo && hi % lo == 0 && hi / lo <= 16;
    if (c->from.has_scale) c->scale = hi / lo;
    c->window = c->net.image_size;
    c->overlap = c->window / 8;
    yd_public_sampling(c);
    snprintf(c->name, sizeof c->name, "%s", name && *name && strlen(name) < sizeof c->name ? name : type_words[c->net.type]);
}

static int check_profile(const yd_model_config *c, yd_quality q, yd_err *err)
{
    yd_sample_settings set;
    yd_schedule *made = NULL;
    yd_err why = {0};
    yd_model_config_profile(c, q, &set);
    int rc = yd_sampler_accepts(c, &set, &why);
    if (!rc) rc = yd_schedule_make(&c->schedule, set.steps, set.spacing, &made, &why);
    yd_schedule_free(made);
    if (!rc || rc == YD_E_NOMEM) return rc ? yd_fail(err, rc, "%s", why.detail) : 0;
    return yd_fail_field(err, YD_E_CHECKPOINT, why.field, why.accepted, "model config: jobs could not run with its %s%s: %s",
                         q == YD_QUALITY_BALANCED ? "defaults" : "profile ", q == YD_QUALITY_BALANCED ? "" : yd_quality_name(q), why.detail);
}

// A model whose own defaults or profiles no job could run with is refused when it is read, not at every job.
static int check_defaults(const yd_model_config *c, yd_err *err)
{
    int rc = check_profile(c, YD_QUALITY_BALANCED, err);
    if (!rc) rc = check_profile(c, YD_QUALITY_FAST, err);
    return rc ? rc : check_profile(c, YD_QUALITY_BEST, err);
}

// What a network with an encoder goes with: the sampler gives it the picture in its own size, and nothing to add a picture to.
static int check_encoder(const yd_model_config *c, yd_err *err)
{
    char accepted[32];
    snprintf(accepted, sizeof accepted, "%d", c->net.up_scale);
    if (c->net.up_scale % 2)
        return yd_fail_field(err, YD_E_CHECKPOINT, "up_scale", "an even number", "model config: \"up_scale\" is odd");
    if (c->scale != c->net.up_scale)
        return yd_fail_field(err, YD_E_CHECKPOINT, "scale", accepted, "model config: \"scale\" is not the network's \"up_scale\"");
    if (c->net.rrdb_features % 2)
        return yd_fail_field(err, YD_E_CHECKPOINT, "rrdb_features", "an even number", "model config: \"rrdb_features\" is odd");
    if (c->net.n_levels > 0 && c->net.mult[0] != 1)
        return yd_fail_field(err, YD_E_CHECKPOINT, "channel_multiplier", "1 for the first level", "model config: the first level's multiplier is not 1");
    return c->target == YD_TARGET_RESIDUAL
               ? 0
               : yd_fail_field(err, YD_E_CHECKPOINT, "target", "residual", "model config: a network of type srdiff predicts a residual");
}

static int check_whole(const yd_model_config *c, yd_err *err)
{
    int rc = yd_net_has_encoder(&c->net) ? check_encoder(c, err) : 0;
    if (rc) return rc;
    if (c->net.n_levels < 1) return yd_fail_field(err, YD_E_CHECKPOINT, "channel_multiplier", "1 to 8 levels", "model config: no levels");
    if (c->net.inner_channel % 2)
        return yd_fail_field(err, YD_E_CHECKPOINT, "inner_channel", "an even number", "model config: \"inner_channel\" is odd");
    const int multiple = yd_net_multiple(&c->net);
    if (c->window % multiple)
        return yd_fail_field(err, YD_E_CHECKPOINT, "window", "", "model config: \"window\" %d is not a multiple of %d, which this network needs",
                             c->window, multiple);
    if (c->window < yd_net_least(&c->net))
        return yd_fail_field(err, YD_E_CHECKPOINT, "window", "", "model config: \"window\" %d is less than %d, which this network needs", c->window,
                             yd_net_least(&c->net));
    if (c->overlap * 2 > c->window)
        return yd_fail_field(err, YD_E_CHECKPOINT, "overlap", "at most half the window", "model config: \"overlap\" %d is too large", c->overlap);
    if (c->schedule.start > c->schedule.end)
        return yd_fail_field(err, YD_E_CHECKPOINT, "schedule", "start <= end", "model config: the schedule's start is above its end");
    return check_defaults(c, err);
}

int yd_model_config_windows(yd_model_config *c, int window, int overlap, yd_err *err)
{
    const int multiple = yd_net_multiple(&c->net), least = yd_net_least(&c->net) > MIN_WINDOW ? yd_net_least(&c->net) : MIN_WINDOW;
    if (window == 0) window = c->window;
    if (overlap < 0) overlap = (int)((long)c->overlap * window / c->window);
    if (window < least || window > MAX_WINDOW || window % multiple) {
        char accepted[64];
        snprintf(accepted, sizeof accepted, "%d to %d, a multiple of %d", least, MAX_WINDOW, multiple);
        return yd_fail_field(err, YD_E_SETTING, "window", accepted, "%s cannot be run on windows of %d pixels", c->name, window);
    }
    if (overlap > window / 2)
        return yd_fail_field(err, YD_E_SETTING, "overlap", "at most half the window", "windows of %d pixels cannot overlap by %d", window, overlap);
    c->window = window;
    c->overlap = overlap;
    c->window_height = 0;
    return 0;
}

yd_dtype yd_model_config_dtype(const yd_model_config *c, int has_bf16)
{
    if (c->dtype != YD_STORE_AUTO) return c->dtype == YD_STORE_BF16 ? YD_BF16 : YD_F32;
    return has_bf16 ? YD_BF16 : YD_F32;
}

static int read_config(const char *json, size_t len, int over, yd_model_config *out, yd_err *err)
{
    yd_json *j = NULL;
    int rc = yd_json_parse(json, len, YD_JSON_COMMENTS, &j, err);
    if (rc) return rc == YD_E_NOMEM ? rc : YD_E_CHECKPOINT;
    reader r = {.j = j, .err = err, .over = over};
    if (yd_json_type_of(j, 0) != YD_J_OBJECT) bad(&r, "", "a JSON object");
    yd_jid model = yd_json_get(j, 0, "model");
    if (yd_json_get(j, model, "unet") >= 0) read_public(&r, model, out);
    else if (yd_srdiff_is_config(j)) r.rc = yd_srdiff_read_config(j, out, err);
    else read_ours(&r, out);
    yd_json_free(j);
    return r.rc ? r.rc : check_whole(out, err);
}

int yd_model_config_parse(const char *json, size_t len, yd_model_config *out, yd_err *err)
{
    yd_model_config_init(out);
    return read_config(json, len, 0, out, err);
}

int yd_model_config_update(yd_model_config *cfg, const char *json, size_t len, yd_err *err)
{
    yd_model_config changed = *cfg;
    int rc = read_config(json, len, 1, &changed, err);
    if (!rc) *cfg = changed;
    return rc;
}

typedef struct printer {
    char *dst;
    size_t cap, len; // len may pass cap: what would have been needed
} printer;

__attribute__((format(printf, 2, 3))) static void put(printer *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(p->len < p->cap ? p->dst + p->len : NULL, p->len < p->cap ? p->cap - p->len : 0, fmt, ap);
    va_end(ap);
    if (n > 0) p->len += (size_t)n;
}

static void put_ints(printer *p, const char *key, const int *v, int n)
{
    put(p, "\"%s\": [", key);
    for (int i = 0; i < n; i++) put(p, "%s%d", i ? ", " : "", v[i]);
    put(p, "]");
}

// The members of the defaults or of a profile, without the braces.
static void put_sampling(printer *p, const yd_sample_settings *s)
{
    char quoted[6 * sizeof s->attention + 3];
    yd_json_quote(quoted, sizeof quoted, s->attention);
    put(p, "\"steps\": %d, \"sampler\": \"%s\", \"variance\": \"%s\", \"eta\": %.9g, \"spacing\": %.17g, \"attention\": %s, ", s->steps,
        sampler_words[s->sampler], variance_words[s->variance], (double)s->eta, s->spacing == 0.0 ? 1.0 : s->spacing, quoted);
    put(p, "\"mask_form\": \"%s\", \"lower_bound\": %.17g, \"allocation\": \"%s\", \"fidelity\": %.9g, \"lr_noise\": \"%s\"",
        form_words[s->mask_form], s->lower_bound, allocation_words[s->allocation], s->fidelity,
        lr_words[s->lr_noise]);
}

static void put_profiles(printer *p, const yd_model_config *c)
{
    const yd_profile *const list[] = {&c->fast, &c->best};
    static const char *const names[] = {"fast", "best"};
    if (!c->fast.given && !c->best.given) return;
    put(p, ",\n \"profiles\": {");
    for (int i = 0, n = 0; i < 2; i++) {
        if (!list[i]->given) continue;
        put(p, "%s\"%s\": {", n++ ? ",\n  " : "", names[i]);
        put_sampling(p, &list[i]->set);
        put(p, "}");
    }
    put(p, "}");
}

// The network's members behind its type.
static void put_network(printer *p, const yd_net_config *n)
{
    if (n->type != YD_NET_SRDIFF) put(p, "\"in_channel\": %d, \"out_channel\": %d, ", n->in_channel, n->out_channel);
    put(p, "\"inner_channel\": %d, ", n->inner_channel);
    put_ints(p, "channel_multiplier", n->mult, n->n_levels);
    if (n->type == YD_NET_SRDIFF) {
        put(p, ", \"up_scale\": %d, \"rrdb_blocks\": %d, \"rrdb_features\": %d},\n", n->up_scale, n->rrdb_blocks, n->rrdb_features);
        return;
    }
    put(p, ", \"res_blocks\": %d, \"norm_groups\": %d, ", n->res_blocks, n->norm_groups);
    put_ints(p, "attn_res", n->attn_res, n->n_attn);
    put(p, ", \"image_size\": %d, \"unshuffle\": %d, \"mid_attention\": %s, \"noise_scale\": %.9g},\n", n->image_size, n->unshuffle,
        n->mid_attention ? "true" : "false", (double)n->noise_scale);
}

// start and end mean something for a linear schedule alone.
static void put_schedule(printer *p, const yd_schedule_config *s)
{
    put(p, " \"schedule\": {\"kind\": \"%s\", \"train_steps\": %d", schedule_words[s->kind], s->train_steps);
    if (s->kind != YD_SCHEDULE_COSINE_BETAS) put(p, ", \"start\": %.17g, \"end\": %.17g", s->start, s->end);
    put(p, "},\n");
}

size_t yd_model_config_print(const yd_model_config *c, char *dst, size_t cap)
{
    printer p = {dst, cap, 0};
    char quoted[6 * sizeof c->name + 3]; // every byte as \u00xx, two quotes, NUL
    yd_json_quote(quoted, sizeof quoted, c->name);
    put(&p, "{\"format\": \"yoda-model-1\", \"name\": %s,\n \"network\": {\"type\": \"%s\", ", quoted, type_words[c->net.type]);
    put_network(&p, &c->net);
    put(&p, " \"noise_input\": \"%s\", \"prediction\": \"%s\", \"target\": \"%s\", \"residual_scale\": %.9g, \"clip\": %.9g,\n",
        noise_words[c->noise_input], prediction_words[c->prediction], target_words[c->target], (double)c->residual_scale, (double)c->clip);
    if (!c->mask_input) put(&p, " \"mask_input\": false,\n"); // only where it is not the default: it names a checkpoint's settings too
    put_schedule(&p, &c->schedule);
    put(&p, " \"scale\": %d, \"window\": %d, \"overlap\": %d, \"conditioning\": \"%s\",\n", c->scale, c->window, c->overlap,
        conditioning_words[c->conditioning]);
    put(&p, " \"defaults\": {");
    put_sampling(&p, &c->defaults);
    put(&p, ", \"dtype\": \"%s\"}", storage_words[c->dtype]);
    put_profiles(&p, c);
    put(&p, "}");
    return p.len;
}
