// Names, ranges and printing of a job's settings. Sampling settings are core's (yd_setting_set); the rest is decided here.
#include "daemon/job_settings.h"

#include "core/mem.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char names[] =
    "model, scale, steps, seed, sampler, eta, variance, attention, mask_form, lower_bound, lr_noise, "
    "skip, format, quality, preview_every, preview_max_side";

const char *yd_job_settings_names(void)
{
    return names;
}

void yd_job_settings_init(yd_job_settings *js, const yd_model_config *model, const yd_config *cfg)
{
    memset(js, 0, sizeof *js);
    js->sample = model->defaults;
    js->scale = model->scale;
    js->format = YD_PNG;
    js->quality = YD_RESULT_JPEG_QUALITY;
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

static int set_scale(yd_job_settings *js, const yd_model_config *model, const char *value, yd_err *err)
{
    char *end, accepted[32];
    errno = 0;
    double v = strtod(value, &end);
    if (!begins_number(value) || end == value || *end || errno || v != model->scale) {
        snprintf(accepted, sizeof accepted, "%d", model->scale);
        return yd_fail_field(err, YD_E_SETTING, "scale", accepted, "scale is '%.64s'; the model %s upscales by %d",
                             value, model->name, model->scale);
    }
    js->scale = model->scale;
    return 0;
}

static int set_model(const yd_model_config *model, const char *value, yd_err *err)
{
    if (strcmp(value, model->name) == 0) return 0;
    return yd_fail_field(err, YD_E_SETTING, "model", model->name, "there is no model '%.64s' here, only %s", value,
                         model->name);
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
    if (strcmp(name, "scale") == 0) return set_scale(js, model, value, err);
    if (strcmp(name, "format") == 0) return yd_image_format_parse(value, &js->format, err);
    if (strcmp(name, "quality") == 0) return set_int(&js->quality, name, value, 1, 100, err);
    if (strcmp(name, "preview_every") == 0) return set_int(&js->preview_every, name, value, 0, YD_MAX_STEPS, err);
    if (strcmp(name, "preview_max_side") == 0) return set_int(&js->preview_max_side, name, value, 16, 8192, err);
    if (strcmp(name, "seed") == 0 && strcmp(value, "random") == 0) return set_random_seed(js, err);
    int rc = yd_setting_set(&js->sample, name, value, err);
    if (rc != 0) return rc < 0 ? rc : 0;
    return yd_fail_field(err, YD_E_SETTING, name, names, "there is no setting '%.64s'", name);
}

json_t *yd_job_settings_json(const yd_job_settings *js, const yd_model_config *model)
{
    // jansson's integers are signed: the upper half of the seeds is written as a string.
    yd_sample_settings printed = js->sample;
    int big = printed.seed > INT64_MAX;
    if (big) printed.seed = 0;
    size_t n = yd_settings_print(&printed, NULL, 0);
    char *text = yd_malloc(n + 1), seed[24];
    if (!text) return NULL;
    yd_settings_print(&printed, text, n + 1);
    json_t *o = json_loads(text, 0, NULL);
    yd_free(text);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)js->sample.seed);
    if (o && big) json_object_set_new(o, "seed", json_string(seed));
    json_t *more = json_pack("{s:s, s:i, s:s, s:i, s:i}", "model", model->name, "scale", js->scale, "format",
                             js->format == YD_JPEG ? "jpeg" : "png", "preview_every", js->preview_every,
                             "preview_max_side", js->preview_max_side);
    if (more && js->format == YD_JPEG) json_object_set_new(more, "quality", json_integer(js->quality));
    if (o && (!more || json_object_update(o, more))) {
        json_decref(o);
        o = NULL;
    }
    json_decref(more);
    return o;
}
