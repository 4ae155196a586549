// A job's settings: how the model samples, and what the client wants to get back.
//
// Made from (name, value) texts, as any front end has them. Threads: pure functions, any.
#ifndef YD_DAEMON_JOB_SETTINGS_H
#define YD_DAEMON_JOB_SETTINGS_H

#include "core/output.h"
#include "core/upscale.h"
#include "daemon/config.h"
#include "daemon/scheduler.h"
#include <jansson.h>

typedef struct yd_job_settings {
    yd_quality quality; // the profile that sample was made from
    yd_sample_settings sample;
    yd_output output;  // how the result is written, and how large it is
    yd_storage dtype;  // how feature maps are stored; as used, it is not auto
    int report;        // account for what was invented
    int preview_every; // steps; 0: none at all
    int preview_max_side;
    yd_priority priority;
    int64_t deadline_ms; // from its submission; 0: none
} yd_job_settings;

// What a model and the configuration give when the client says nothing; dtype stays auto, for the service to choose. The result is a PNG, which loses nothing.
void yd_job_settings_init(yd_job_settings *js, const yd_model_config *model, const yd_config *cfg);

// Take one setting; quality replaces how the model samples, so it comes before what is to win over it. YD_E_SETTING naming the field and what it accepts; an unknown name lists the names there are.
// Which dtype is resident is for the service, and whether they go together is for yd_sample_settings_check and yd_output_check.
int yd_job_settings_set(yd_job_settings *js, const yd_model_config *model, const char *name, const char *value,
                        yd_err *err);

// The settings as used (new reference). NULL: out of memory.
json_t *yd_job_settings_json(const yd_job_settings *js, const yd_model_config *model);

// Everything as it is, with all digits, for a record that is kept; and back. A new reference, NULL: out of memory. YD_E_IO: o is not what
// was saved.
json_t *yd_job_settings_save(const yd_job_settings *js);
int yd_job_settings_load(yd_job_settings *js, const json_t *o, yd_err *err);

// The accepted names, separated by ", ". Static storage.
const char *yd_job_settings_names(void);

#endif
