// Settings of a job as a query or a form has them, NAME=VALUE and a newline each: whatever was taken can be shown, kept, and read again.
#include "daemon/job_settings.h"
#include "tests/fuzz/fuzz.h"

static void set(yd_job_settings *js, const yd_model_config *model, char *text)
{
    while (text && *text) {
        char *line = text, *end = strchr(text, '\n'), *equals;
        yd_err err = {0};
        if (end) *end = '\0';
        text = end ? end + 1 : NULL;
        equals = strchr(line, '=');
        if (!equals) continue;
        *equals = '\0';
        HOLDS(yd_job_settings_set(js, model, line, equals + 1, &err) == 0 || err.detail[0]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static yd_model_config model;
    static yd_config cfg;
    yd_job_settings js, again;
    yd_err err = {0};
    if (!cfg.max_pixels) {
        yd_model_config_init(&model);
        yd_config_init(&cfg);
    }
    yd_job_settings_init(&js, &model, &cfg);
    char *text = as_text(data, size);
    set(&js, &model, text);
    free(text);
    json_t *shown = yd_job_settings_json(&js, &model), *saved = yd_job_settings_save(&js);
    again = js;
    HOLDS(shown && saved && yd_job_settings_load(&again, saved, &err) == 0);
    json_decref(shown);
    json_decref(saved);
    return 0;
}
