// The settings of a training: defaults, reading them from JSON, and the text by which a checkpoint recognises them again.
//
// One table row per key: where it lives, its kind, its range. The model's part is handed to yd_model_config_parse as the bytes that
// stand in the text, so that there is one reader of model configs. Pure functions, any thread.
// Read next: core/train/trainer.c
#include "core/attention.h"
#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/train/internal.h"

#include <stdio.h>
#include <string.h>

typedef enum { F_INT, F_LONG, F_SEED, F_FLOAT, F_BOOL, F_CHOICE, F_TEXT, F_ELSEWHERE } field_kind;

// lo..hi: of numbers; for F_TEXT hi is the room, for F_CHOICE `words` lists the names of the values 0, 1, ... with bars between.
typedef struct field {
    const char *key;
    field_kind kind;
    size_t offset;
    double lo, hi;
    const char *words;
} field;

#define AT(member) offsetof(yd_train_config, member)
#define TEXT(key, member)                                                                                              \
    {                                                                                                                  \
        key, F_TEXT, AT(member), 0, sizeof(((yd_train_config *)0)->member), NULL                                       \
    }

static const field top_fields[] = {
    {"model", F_ELSEWHERE, 0, 0, 0, NULL},
    {"data", F_ELSEWHERE, 0, 0, 0, NULL},
    {"loss_weight", F_ELSEWHERE, 0, 0, 0, NULL},
    {"lower_bound", F_ELSEWHERE, 0, 0, 0, NULL},
    {"degrade", F_ELSEWHERE, 0, 0, 0, NULL},
    TEXT("out", out),
    {"out_dtype", F_CHOICE, AT(out_dtype), 0, 0, "f32|bf16"},
    {"seed", F_SEED, AT(seed), 0, 9007199254740992.0, NULL},
    {"iterations", F_LONG, AT(iterations), 1, YD_TRAIN_MAX_ITERATIONS, NULL},
    {"batch", F_INT, AT(batch), 1, YD_TRAIN_MAX_BATCH, NULL},
    {"crop", F_INT, AT(crop), 2, 1024, NULL},
    {"augment", F_BOOL, AT(augment), 0, 0, NULL},
    {"dtype", F_CHOICE, AT(dtype), 0, 0, "auto|f32|bf16"},
    {"checkpoint_every_s", F_INT, AT(checkpoint_every_s), 0, 86400, NULL},
    {"lr", F_FLOAT, AT(lr), 1e-9, 1, NULL},
    {"lr_floor", F_FLOAT, AT(lr_floor), 0, 1, NULL},
    {"warmup", F_LONG, AT(warmup), 0, 1000000, NULL},
    {"weight_decay", F_FLOAT, AT(weight_decay), 0, 1, NULL},
    {"clip_norm", F_FLOAT, AT(clip_norm), 0, 1e6, NULL},
    {"ema", F_FLOAT, AT(ema), 0, 0.999999, NULL},
    {"loss_p", F_INT, AT(loss_p), 1, 2, NULL},
    {"normaliser", F_CHOICE, AT(normaliser), 0, 0, "active|all"},
    TEXT("attention", attention),
    {"mask_form", F_CHOICE, AT(mask_form), 0, 0, "add|max"},
};

// data.scale is only checked against the model's, see parse_data.
static const field data_fields[] = {
    TEXT("folder", folder),
    {"memory_mb", F_INT, AT(memory_mb), 1, 1048576, NULL},
    {"synthetic", F_INT, AT(synthetic), 0, YD_TRAIN_MAX_SYNTHETIC, NULL},
    {"synthetic_share", F_FLOAT, AT(synthetic_share), 0, 1, NULL},
    {"scale", F_ELSEWHERE, 0, 0, 0, NULL},
};

static const field weight_fields[] = {
    {"kind", F_CHOICE, AT(weight_kind), 0, 0, "none|snr"},
    {"min", F_FLOAT, AT(weight_min), 0, 1e6, NULL},
    {"max", F_FLOAT, AT(weight_max), 0, 1e6, NULL},
};
// Read by parse_degrade, in the order of the text's preset and then its own values.
static const field degrade_fields[] = {
    {"preset", F_ELSEWHERE, 0, 0, 0, NULL}, {"share", F_ELSEWHERE, 0, 0, 0, NULL},
    {"blur", F_ELSEWHERE, 0, 0, 0, NULL},   {"blur_share", F_ELSEWHERE, 0, 0, 0, NULL},
    {"noise", F_ELSEWHERE, 0, 0, 0, NULL},  {"noise_share", F_ELSEWHERE, 0, 0, 0, NULL},
    {"jpeg", F_ELSEWHERE, 0, 0, 0, NULL},   {"jpeg_share", F_ELSEWHERE, 0, 0, 0, NULL},
    {"full_chroma", F_ELSEWHERE, 0, 0, 0, NULL},
};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

void yd_train_config_init(yd_train_config *cfg)
{
    memset(cfg, 0, sizeof *cfg);
    yd_model_config_init(&cfg->model);
    cfg->memory_mb = 4096;
    cfg->out_dtype = YD_BF16;
    cfg->seed = 1;
    cfg->iterations = 20000;
    cfg->batch = 24;
    cfg->crop = 64;
    cfg->augment = 1;
    cfg->dtype = YD_TRAIN_AUTO;
    cfg->checkpoint_every_s = 300;
    cfg->lr = 4e-4f;
    cfg->lr_floor = 0.02f;
    cfg->warmup = 200;
    cfg->weight_decay = 1e-4f;
    cfg->clip_norm = 1.0f;
    cfg->ema = 0.999f;
    cfg->loss_p = 1;
    cfg->normaliser = YD_NORMALISE_ACTIVE;
    cfg->weight_kind = YD_WEIGHT_SNR;
    cfg->weight_min = 0.2f;
    cfg->weight_max = 5.0f;
    snprintf(cfg->attention, sizeof cfg->attention, "edge");
    cfg->mask_form = YD_MASK_ADD;
    cfg->lower_bound[0] = 0.02;
    cfg->lower_bound[1] = 0.52;
}

// Index of `word` in a list with bars, or -1.
static int choice_find(const char *words, const char *word)
{
    int i = 0;
    size_t len = strlen(word);
    for (const char *p = words;; p++, i++) {
        const char *end = strchr(p, '|');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        if (n == len && memcmp(p, word, n) == 0) return i;
        if (!end) return -1;
        p = end;
    }
}

static int bad_value(const field *f, const char *path, yd_err *err)
{
    char accepted[160];
    if (f->kind == F_CHOICE)
        snprintf(accepted, sizeof accepted, "one of %s", f->words);
    else if (f->kind == F_BOOL)
        snprintf(accepted, sizeof accepted, "true or false");
    else if (f->kind == F_TEXT)
        snprintf(accepted, sizeof accepted, "a text of 1 to %d bytes", (int)f->hi - 1);
    else
        snprintf(accepted, sizeof accepted, "%s from %.10g to %.16g", f->kind == F_FLOAT ? "a number" : "an integer",
                 f->lo, f->hi);
    return yd_fail_field(err, YD_E_CONFIG, path, accepted, "the training setting %s must be %s", path, accepted);
}

static int read_value(const yd_json *j, yd_jid n, const field *f, const char *path, yd_train_config *cfg, yd_err *err)
{
    void *dst = (char *)cfg + f->offset;
    const char *s = yd_json_string(j, n);
    yd_json_type type = yd_json_type_of(j, n);
    long long i = 0;
    int choice;
    switch (f->kind) {
    case F_INT:
    case F_LONG:
    case F_SEED:
        if (yd_json_integer(j, n, (long long)f->lo, (long long)f->hi, &i)) return bad_value(f, path, err);
        if (f->kind == F_INT)
            *(int *)dst = (int)i;
        else if (f->kind == F_LONG)
            *(long *)dst = (long)i;
        else
            *(uint64_t *)dst = (uint64_t)i;
        return 0;
    case F_FLOAT: {
        double x = yd_json_number(j, n, -1);
        if (type != YD_J_NUMBER || !(x >= f->lo && x <= f->hi)) return bad_value(f, path, err);
        *(float *)dst = (float)x;
        return 0;
    }
    case F_BOOL:
        if (type != YD_J_TRUE && type != YD_J_FALSE) return bad_value(f, path, err);
        *(int *)dst = type == YD_J_TRUE;
        return 0;
    case F_CHOICE:
        choice = s ? choice_find(f->words, s) : -1;
        if (choice < 0) return bad_value(f, path, err);
        memcpy(dst, &choice, sizeof choice); // every choice is an enum with the size of int
        return 0;
    case F_TEXT:
        if (!s || !*s || strlen(s) >= (size_t)f->hi) return bad_value(f, path, err);
        snprintf(dst, (size_t)f->hi, "%s", s);
        return 0;
    case F_ELSEWHERE:
        break;
    }
    return 0;
}
_Static_assert(sizeof(yd_dtype) == sizeof(int) && sizeof(yd_mask_form) == sizeof(int),
               "read_value stores enums as int");

// Read the members of one object; every key must be in the table.
static int read_object(const yd_json *j, yd_jid obj, const char *prefix, const field *fields, size_t n,
                       yd_train_config *cfg, yd_err *err)
{
    if (yd_json_type_of(j, obj) != YD_J_OBJECT)
        return yd_fail_field(err, YD_E_CONFIG, prefix, "a JSON object",
                             "the training settings%s%s must be a JSON object", *prefix ? " " : "", prefix);
    for (yd_jid m = yd_json_first(j, obj); m >= 0; m = yd_json_next(j, m)) {
        const char *key = yd_json_key(j, m);
        char path[96], known[256] = "";
        snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", key);
        const field *f = NULL;
        for (size_t i = 0; i < n; i++) {
            size_t used = strlen(known);
            snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", fields[i].key);
            if (strcmp(fields[i].key, key) == 0) f = &fields[i];
        }
        if (!f)
            return yd_fail_field(err, YD_E_CONFIG, path, known, "unknown training setting %s; known are: %s", path,
                                 known);
        int rc = read_value(j, m, f, path, cfg, err);
        if (rc) return rc;
    }
    return 0;
}

// Find the text of the member "model" of the top-level object in a text that is known to be valid JSON.
static int model_span(const char *s, size_t len, size_t *from, size_t *to)
{
    int depth = 0, found = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '"') {
            size_t start = i;
            for (i++; i < len && s[i] != '"'; i++)
                if (s[i] == '\\') i++;
            if (depth != 1 || found || i - start != 6 || memcmp(s + start, "\"model", 6) != 0) continue;
            size_t k = i + 1;
            while (k < len && strchr(" \t\r\n", s[k])) k++;
            found = k < len && s[k] == ':'; // otherwise it was a value
        } else if (s[i] == '{' || s[i] == '[') {
            if (++depth == 2 && found == 1) {
                *from = i;
                found = 2;
            }
        } else if (s[i] == '}' || s[i] == ']') {
            if (--depth == 1 && found == 2) {
                *to = i + 1;
                return 0;
            }
        }
    }
    return -1;
}

static int parse_model(const yd_json *j, const char *text, size_t len, yd_train_config *cfg, yd_err *err)
{
    size_t from = 0, to = 0;
    if (yd_json_type_of(j, yd_json_get(j, 0, "model")) != YD_J_OBJECT || model_span(text, len, &from, &to))
        return yd_fail_field(err, YD_E_CONFIG, "model", "a model config object",
                             "the training settings need \"model\", the config of the model to train");
    return yd_model_config_parse(text + from, to - from, &cfg->model, err);
}

static int parse_data(const yd_json *j, yd_train_config *cfg, yd_err *err)
{
    yd_jid data = yd_json_get(j, 0, "data");
    if (data < 0) return 0;
    int rc = read_object(j, data, "data", data_fields, COUNT(data_fields), cfg, err);
    if (rc) return rc;
    if (cfg->synthetic_share > 0 && !cfg->synthetic) cfg->synthetic = 300; // a share alone: enough not to know them by heart
    yd_jid scale = yd_json_get(j, data, "scale");
    long long v = 0;
    if (scale >= 0 && (yd_json_integer(j, scale, 1, 64, &v) || v != cfg->model.scale))
        return yd_fail_field(err, YD_E_CONFIG, "data.scale", "the model's scale",
                             "data.scale must be the model's scale, %d", cfg->model.scale);
    return 0;
}

static int parse_lower_bound(const yd_json *j, yd_train_config *cfg, yd_err *err)
{
    yd_jid n = yd_json_get(j, 0, "lower_bound");
    if (n < 0) return 0;
    yd_jid lo = yd_json_first(j, n), hi = yd_json_next(j, lo);
    double a = yd_json_number(j, lo, -1), b = yd_json_number(j, hi, -1);
    if (yd_json_type_of(j, n) != YD_J_ARRAY || yd_json_count(j, n) != 2 || !(a >= 0 && a <= b && b <= 1))
        return yd_fail_field(err, YD_E_CONFIG, "lower_bound", "[low, high] with 0 <= low <= high <= 1",
                             "lower_bound must be [low, high] with 0 <= low <= high <= 1");
    cfg->lower_bound[0] = a;
    cfg->lower_bound[1] = b;
    return 0;
}

// A share, when it is there.
static int parse_share(const yd_json *j, yd_jid obj, const char *key, double *dst, yd_err *err)
{
    yd_jid n = yd_json_get(j, obj, key);
    if (n < 0) return 0;
    char path[64];
    const double x = yd_json_number(j, n, -1);
    snprintf(path, sizeof path, "degrade.%s", key);
    if (yd_json_type_of(j, n) != YD_J_NUMBER || !(x >= 0 && x <= 1))
        return yd_fail_field(err, YD_E_CONFIG, path, "a number from 0 to 1", "%s must be a number from 0 to 1", path);
    *dst = x;
    return 0;
}

// A pair of numbers and the share of samples that have it; a range that the preset has not got applies to all unless a share is given.
static int parse_range(const yd_json *j, yd_jid obj, const char *key, const char *share, yd_degrade_range *r, yd_err *err)
{
    yd_jid n = yd_json_get(j, obj, key);
    if (n >= 0) {
        char path[64];
        yd_jid lo = yd_json_first(j, n), hi = yd_json_next(j, lo);
        snprintf(path, sizeof path, "degrade.%s", key);
        if (yd_json_type_of(j, n) != YD_J_ARRAY || yd_json_count(j, n) != 2 || yd_json_type_of(j, lo) != YD_J_NUMBER ||
            yd_json_type_of(j, hi) != YD_J_NUMBER)
            return yd_fail_field(err, YD_E_CONFIG, path, "[low, high]", "%s must be [low, high]", path);
        r->lo = yd_json_number(j, lo, 0);
        r->hi = yd_json_number(j, hi, 0);
        if (r->share == 0) r->share = 1;
    }
    return parse_share(j, obj, share, &r->share, err);
}

// The preset first, then what is written out. A cut-out of a photo begins anywhere on JPEG's grid.
static int parse_degrade(const yd_json *j, yd_train_config *cfg, yd_err *err)
{
    yd_jid obj = yd_json_get(j, 0, "degrade");
    if (obj < 0) return 0;
    int rc = read_object(j, obj, "degrade", degrade_fields, COUNT(degrade_fields), cfg, err);
    if (rc) return rc;
    yd_degrade_ranges *r = &cfg->degrade;
    yd_jid preset = yd_json_get(j, obj, "preset");
    const char *name = preset < 0 ? "mild" : yd_json_string(j, preset);
    if (!name || yd_degrade_preset(name, r, NULL))
        return yd_fail_field(err, YD_E_CONFIG, "degrade.preset", yd_degrade_presets(), "degrade.preset must be one of %s",
                             yd_degrade_presets());
    rc = parse_share(j, obj, "share", &r->share, err);
    if (!rc) rc = parse_range(j, obj, "blur", "blur_share", &r->blur, err);
    if (!rc) rc = parse_range(j, obj, "noise", "noise_share", &r->noise, err);
    if (!rc) rc = parse_range(j, obj, "jpeg", "jpeg_share", &r->jpeg, err);
    if (!rc) rc = parse_share(j, obj, "full_chroma", &r->full_chroma, err);
    r->any_phase = r->share > 0;
    return rc;
}

int yd_train_config_parse(const char *json, size_t len, yd_train_config *out, yd_err *err)
{
    yd_json *j = NULL;
    yd_train_config_init(out);
    int rc = yd_json_parse(json, len, 0, &j, err);
    if (rc) return rc;
    rc = read_object(j, 0, "", top_fields, COUNT(top_fields), out, err);
    if (!rc) rc = parse_model(j, json, len, out, err);
    if (!rc) rc = parse_data(j, out, err);
    if (!rc) rc = parse_lower_bound(j, out, err);
    if (!rc) rc = parse_degrade(j, out, err);
    yd_jid weight = rc ? -1 : yd_json_get(j, 0, "loss_weight");
    if (weight >= 0) rc = read_object(j, weight, "loss_weight", weight_fields, COUNT(weight_fields), out, err);
    yd_json_free(j);
    return rc ? rc : yd_train_config_check(out, err);
}

int yd_train_config_load(const char *path, yd_train_config *out, yd_err *err)
{
    void *text = NULL;
    size_t len = 0;
    int rc = yd_file_read(path, 1 << 20, &text, &len, err);
    if (rc) return rc;
    rc = yd_train_config_parse(text, len, out, err);
    yd_free(text);
    return rc;
}

// What no single row of the tables can say. Also run by yd_train, whose caller may have changed fields.
int yd_train_config_check(const yd_train_config *cfg, yd_err *err)
{
    const int multiple = yd_net_multiple(&cfg->model.net);
    if (cfg->crop < 2 || cfg->crop > 1024 || cfg->crop % multiple)
        return yd_fail_field(err, YD_E_CONFIG, "crop", "a multiple of the network's granularity up to 1024",
                             "crop must be a multiple of %d, at most 1024, and is %d", multiple, cfg->crop);
    if (cfg->weight_min > cfg->weight_max)
        return yd_fail_field(err, YD_E_CONFIG, "loss_weight.min", "at most loss_weight.max",
                             "loss_weight.min (%g) must not exceed loss_weight.max (%g)", (double)cfg->weight_min,
                             (double)cfg->weight_max);
    if (cfg->iterations < 1 || cfg->iterations > YD_TRAIN_MAX_ITERATIONS)
        return yd_fail_field(err, YD_E_CONFIG, "iterations", "1 to 100000000", "iterations must be 1 to %ld and is %ld",
                             YD_TRAIN_MAX_ITERATIONS, cfg->iterations);
    if (cfg->batch < 1 || cfg->batch > YD_TRAIN_MAX_BATCH)
        return yd_fail_field(err, YD_E_CONFIG, "batch", "1 to 1024", "batch must be 1 to %d and is %d",
                             YD_TRAIN_MAX_BATCH, cfg->batch);
    if (cfg->model.net.in_channel != 6 || cfg->model.net.out_channel != 3)
        return yd_fail_field(err, YD_E_CONFIG, "model.network.in_channel", "in_channel 6 and out_channel 3",
                             "only networks with 6 input and 3 output channels can be trained, not %d and %d",
                             cfg->model.net.in_channel, cfg->model.net.out_channel);
    int rc = yd_degrade_check(&cfg->degrade, err);
    const yd_attention_method *m;
    return rc ? rc : yd_attention_find(cfg->attention, &m, err);
}

// Nothing at all where there is none: checkpoints from before there was any go on.
static size_t degrade_identity(const yd_degrade_ranges *r, char *dst, size_t cap)
{
    if (cap) *dst = '\0';
    if (r->share == 0) return 0;
    const int n = snprintf(dst, cap, "degrade %.9g blur %.9g %.9g %.9g noise %.9g %.9g %.9g jpeg %.9g %.9g %.9g %.9g %d %d\n", r->share,
                           r->blur.lo, r->blur.hi, r->blur.share, r->noise.lo, r->noise.hi, r->noise.share, r->jpeg.lo,
                           r->jpeg.hi, r->jpeg.share, r->full_chroma, r->any_phase, (int)r->reduction);
    return n < 0 ? 0 : (size_t)n;
}

// The settings that decide the weights, one "key value" per line: a resumed run must have the same text. Not in it: what may change between
// the parts of a run (iterations, files, how the result samples and in which windows).
size_t yd_train_config_identity(const yd_train_config *cfg, yd_dtype act, char *dst, size_t cap)
{
    yd_model_config model = cfg->model, plain;
    yd_model_config_init(&plain);
    model.defaults = plain.defaults;
    model.fast = plain.fast;
    model.best = plain.best;
    model.window = plain.window;
    model.overlap = plain.overlap;
    memcpy(model.name, plain.name, sizeof model.name);
    char json[4096];
    yd_model_config_print(&model, json, sizeof json);
    for (char *p = json; *p; p++)
        if (*p == '\n') *p = ' ';
    int n = snprintf(
        dst, cap,
        "model %s\nseed %llu\nbatch %d\ncrop %d\naugment %d\ndtype %s\nlr %.9g\nlr_floor %.9g\nwarmup %ld\n"
        "weight_decay %.9g\nclip_norm %.9g\nema %.9g\nloss_p %d\nnormaliser %s\nloss_weight %s %.9g %.9g\n"
        "attention %s\nmask_form %s\nlower_bound %.17g %.17g\n",
        json, (unsigned long long)cfg->seed, cfg->batch, cfg->crop, cfg->augment, act == YD_BF16 ? "bf16" : "f32",
        (double)cfg->lr, (double)cfg->lr_floor, cfg->warmup, (double)cfg->weight_decay, (double)cfg->clip_norm,
        (double)cfg->ema, cfg->loss_p, cfg->normaliser == YD_NORMALISE_ACTIVE ? "active" : "all",
        cfg->weight_kind == YD_WEIGHT_SNR ? "snr" : "none", (double)cfg->weight_min, (double)cfg->weight_max,
        cfg->attention, cfg->mask_form == YD_MASK_ADD ? "add" : "max", cfg->lower_bound[0], cfg->lower_bound[1]);
    if (n < 0) return 0;
    size_t used = (size_t)n;
    used += degrade_identity(&cfg->degrade, used < cap ? dst + used : NULL, used < cap ? cap - used : 0);
    if (cfg->synthetic_share > 0) {
        n = snprintf(used < cap ? dst + used : NULL, used < cap ? cap - used : 0, "synthetic_share %.9g\n", (double)cfg->synthetic_share);
        used += n < 0 ? 0 : (size_t)n;
    }
    return used;
}
