// Names, ranges and printing of a job's settings. Sampling (yd_setting_set) and output settings (yd_output_set) are core's; the rest is
// decided here.
#include "daemon/job_settings.h"

#include "core/mem.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define DEADLINE_MAX_MS      604800000 // a week
#define DEFAULT_PREVIEW_SIDE 512       // as the configuration has it unless somebody says otherwise

static const char names[] =
    "model, quality, scale, width, height, steps, seed, sampler, eta, spacing, variance, attention, mask_form, lower_bound, allocation, fidelity, lr_noise, skip, dtype, "
    "format, encode_quality, lossless, bit_depth, metadata, color_space, report, preview_every, preview_max_side, priority, deadline_ms";

const char *yd_job_settings_names(void)
{
    return names;
}

void yd_job_settings_init(yd_job_settings *js, const yd_model_config *model, const yd_config *cfg)
{
    memset(js, 0, sizeof *js);
    js->quality = YD_QUALITY_BALANCED;
    yd_model_config_profile(model, js->quality, &js->sample);
    yd_output_init(&js->output);
    js->preview_every = 1;
    js->preview_max_side = (int)cfg->preview_max_side;
}

// strtol and strtod also take white space and a plus; settings do not, wherever they are read.
static int begins_number(const char *s)
{
    return (*s >= '0' && *s <= '9') || *s == '-' || *s == '.';
}

static int set_int(int *dst, const char *name, const char *value, int lo, int hi, yd_err *err)
{
    char *end, accepted[64];
    errno = 0;
    long v = strtol(value, &end, 10);
    if (!begins_number(value) || end == value || *end || errno || v < lo || v > hi) {
        snprintf(accepted, sizeof accepted, "an integer from %d to %d", lo, hi);
        return yd_fail_field(err, YD_E_SETTING, name, accepted, "%s is '%.64s', not %s", name, value, accepted);
    }
    *dst = (int)v;
    return 0;
}

static int set_switch(int *dst, const char *name, const char *value, yd_err *err)
{
    int on = strcmp(value, "true") == 0;
    if (!on && strcmp(value, "false") != 0)
        return yd_fail_field(err, YD_E_SETTING, name, "true or false", "%s is '%.64s', not true or false", name, value);
    *dst = on;
    return 0;
}

static const char *const priority_words[] = {"low", "normal", "high"}; // from YD_PRIORITY_LOW on

static int set_priority(yd_job_settings *js, const char *value, yd_err *err)
{
    for (int i = 0; i < 3; i++)
        if (strcmp(value, priority_words[i]) == 0) {
            js->priority = (yd_priority)(YD_PRIORITY_LOW + i);
            return 0;
        }
    return yd_fail_field(err, YD_E_SETTING, "priority", "low, normal, high", "priority is '%.64s', not low, normal or high", value);
}

static int set_deadline(yd_job_settings *js, const char *value, yd_err *err)
{
    int ms;
    int rc = set_int(&ms, "deadline_ms", value, 0, DEADLINE_MAX_MS, err);
    if (!rc) js->deadline_ms = ms;
    return rc;
}

static const char *const storage_words[] = {[YD_STORE_AUTO] = "auto", [YD_STORE_F32] = "f32", [YD_STORE_BF16] = "bf16"};

static int set_dtype(yd_job_settings *js, const char *value, yd_err *err)
{
    for (int i = YD_STORE_AUTO; i <= YD_STORE_BF16; i++)
        if (strcmp(value, storage_words[i]) == 0) {
            js->dtype = (yd_storage)i;
            return 0;
        }
    return yd_fail_field(err, YD_E_SETTING, "dtype", "auto, f32, bf16", "dtype is '%.64s', not auto, f32 or bf16", value);
}

static int set_model(const yd_model_config *model, const char *value, yd_err *err)
{
    if (strcmp(value, model->name) == 0) return 0;
    return yd_fail_field(err, YD_E_SETTING, "model", model->name, "there is no model '%.64s' here, only %s", value,
                         model->name);
}

static int set_quality(yd_job_settings *js, const yd_model_config *model, const char *value, yd_err *err)
{
    int rc = yd_quality_parse(value, &js->quality, err);
    if (!rc) yd_model_config_profile(model, js->quality, &js->sample);
    return rc;
}

static int set_random_seed(yd_job_settings *js, yd_err *err)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return yd_fail(err, YD_E_INTERNAL, "no random seed: %m");
    js->sample.seed = seed >> 11; // 53 bits: the number survives every JSON reader
    return 0;
}

int yd_job_settings_set(yd_job_settings *js, const yd_model_config *model, const char *name, const char *value,
                        yd_err *err)
{
    if (strcmp(name, "model") == 0) return set_model(model, value, err);
    if (strcmp(name, "quality") == 0) return set_quality(js, model, value, err);
    if (strcmp(name, "dtype") == 0) return set_dtype(js, value, err);
    if (strcmp(name, "report") == 0) return set_switch(&js->report, name, value, err);
    if (strcmp(name, "preview_every") == 0) return set_int(&js->preview_every, name, value, 0, YD_MAX_STEPS, err);
    if (strcmp(name, "preview_max_side") == 0) return set_int(&js->preview_max_side, name, value, 16, 8192, err);
    if (strcmp(name, "priority") == 0) return set_priority(js, value, err);
    if (strcmp(name, "deadline_ms") == 0) return set_deadline(js, value, err);
    if (strcmp(name, "seed") == 0 && strcmp(value, "random") == 0) return set_random_seed(js, err);
    int rc = yd_output_set(&js->output, name, value, err);
    if (rc == 0) rc = yd_setting_set(&js->sample, name, value, err);
    if (rc != 0) return rc < 0 ? rc : 0;
    return yd_fail_field(err, YD_E_SETTING, name, names, "there is no setting '%.64s'", name);
}

// What core prints as text, as an object.
typedef size_t print_fn(const void *what, char *dst, size_t cap);

static size_t print_sample(const void *what, char *dst, size_t cap)
{
    return yd_settings_print(what, dst, cap);
}

static size_t print_output(const void *what, char *dst, size_t cap)
{
    return yd_output_print(what, dst, cap);
}

static json_t *printed(print_fn *print, const void *what)
{
    size_t n = print(what, NULL, 0);
    char *text = yd_malloc(n + 1);
    if (!text) return NULL;
    print(what, text, n + 1);
    json_t *o = json_loads(text, 0, NULL);
    yd_free(text);
    return o;
}

// jansson's integers are signed: the upper half of the seeds is written as a string.
static json_t *sample_json(const yd_sample_settings *sample)
{
    yd_sample_settings copy = *sample;
    char seed[24];
    if (copy.seed > INT64_MAX) copy.seed = 0;
    json_t *o = printed(print_sample, &copy);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)sample->seed);
    if (o && sample->seed > INT64_MAX) json_object_set_new(o, "seed", json_string(seed));
    return o;
}

// The size that nobody asked for is the model's own.
static json_t *output_json(const yd_output *out, const yd_model_config *model)
{
    json_t *o = printed(print_output, out);
    if (o && !json_object_get(o, "scale") && !out->width && !out->height)
        json_object_set_new(o, "scale", json_integer(model->scale));
    return o;
}

json_t *yd_job_settings_json(const yd_job_settings *js, const yd_model_config *model)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:b, s:i, s:i, s:s, s:I}", "model", model->name, "quality", yd_quality_name(js->quality), "dtype", storage_words[js->dtype], "report", js->report,
                          "preview_every", js->preview_every, "preview_max_side", js->preview_max_side, "priority",
                          priority_words[js->priority - YD_PRIORITY_LOW], "deadline_ms", (json_int_t)js->deadline_ms);
    json_t *sample = sample_json(&js->sample), *output = output_json(&js->output, model);
    if (o && (!sample || !output || json_object_update(o, sample) || json_object_update(o, output))) {
        json_decref(o);
        o = NULL;
    }
    json_decref(sample);
    json_decref(output);
    return o;
}

json_t *yd_job_settings_save(const yd_job_settings *js)
{
    json_t *o = json_pack("{s:s, s:s, s:b, s:i, s:i, s:s, s:I}", "quality", yd_quality_name(js->quality), "dtype", storage_words[js->dtype],
                          "report", js->report, "preview_every", js->preview_every, "preview_max_side", js->preview_max_side, "priority",
                          priority_words[js->priority - YD_PRIORITY_LOW], "deadline_ms", (json_int_t)js->deadline_ms);
    json_t *sample = sample_json(&js->sample), *output = printed(print_output, &js->output);
    if (o && (!sample || !output || json_object_update(o, sample) || json_object_update(o, output))) {
        json_decref(o);
        o = NULL;
    }
    json_decref(sample);
    json_decref(output);
    return o;
}

// A value as a client would write it. 0, or -1 for what no setting can be.
static int value_text(const json_t *v, char *dst, size_t cap)
{
    if (json_is_string(v))
        snprintf(dst, cap, "%s", json_string_value(v));
    else if (json_is_integer(v))
        snprintf(dst, cap, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(dst, cap, "%.17g", json_real_value(v));
    else if (json_is_boolean(v))
        snprintf(dst, cap, "%s", json_is_true(v) ? "true" : "false");
    else
        return -1;
    return 0;
}

int yd_job_settings_load(yd_job_settings *js, const json_t *o, yd_err *err)
{
    yd_model_config any; // every setting is in what was saved: the model's own are not asked for
    const char *quality = json_string_value(json_object_get(o, "quality"));
    yd_model_config_init(&any);
    memset(js, 0, sizeof *js);
    yd_output_init(&js->output);
    js->preview_max_side = DEFAULT_PREVIEW_SIDE; // what a record of another version may lack is as nobody asked for it
    int rc = quality ? set_quality(js, &any, quality, err) : yd_fail(err, YD_E_IO, "settings that were kept have no quality");
    for (void *it = json_object_iter((json_t *)(uintptr_t)o); it && !rc; it = json_object_iter_next((json_t *)(uintptr_t)o, it)) {
        char value[96];
        const char *name = json_object_iter_key(it);
        if (strcmp(name, "quality") == 0) continue;
        rc = value_text(json_object_iter_value(it), value, sizeof value) ? YD_E_IO : yd_job_settings_set(js, &any, name, value, err);
        if (rc) rc = yd_fail(err, YD_E_IO, "the setting %.40s that was kept cannot be read", name);
    }
    return rc;
}
