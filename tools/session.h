// A model made ready on a device, and "run this sampler to its end": the loop that yodad's scheduler runs for many jobs at once, for one.
// One thread.
#ifndef YD_TOOLS_SESSION_H
#define YD_TOOLS_SESSION_H

#include "core/engine.h"
#include "tools/attention_args.h"

typedef struct yd_session_options {
    const char *model;  // NULL: the default model
    const char *config; // NULL: the one inside or beside the model
    const char *device; // "cpu", "cuda", "cuda:N", "auto"
    const char *dtype;  // "auto", "f32", "bf16"
    long threads;       // 0: all cores
    const char *winograd; // "auto", "off"
    long window;        // 0: the model's own
    long overlap;       // -1: the same share of the window as the model's
    yd_attention_args attention;
} yd_session_options;

#define YD_SESSION_DEFAULTS                                                                                            \
    {                                                                                                                  \
        .device = "cpu", .dtype = "auto", .winograd = "auto", .overlap = -1                                                                \
    }

#define YD_CONFIG_ARG(o)                                                                                               \
    {                                                                                                                  \
        "config", 0, YD_ARG_TEXT, &(o)->config, 0, 0, "FILE",                                                          \
            "the model's config, ours or of the public SR3 code (default: inside or beside the model)"                 \
    }

// These options as rows of a command's table; `o` points to them.
#define YD_MODEL_ARG(o)                                                                                                \
    {                                                                                                                  \
        "model", 'm', YD_ARG_TEXT, &(o)->model, 0, 0, "FILE",                                                          \
            "file, or name of one in models/ (default: $YODA_MODEL, else the first)"                                   \
    }, YD_CONFIG_ARG(o)
#define YD_WINDOW_ARGS(o)                                                                                              \
    {"window", 'w', YD_ARG_LONG, &(o)->window, 8, 2048, "PX", "side of a window (default: the model's)"},              \
    {                                                                                                                  \
        "overlap", 0, YD_ARG_LONG, &(o)->overlap, 0, 1024, "PX", "of neighbouring windows (default: as the model's)"   \
    }
#define YD_DEVICE_ARGS(o)                                                                                              \
    {"dtype", 0, YD_ARG_TEXT, &(o)->dtype, 0, 0, "T", "auto, f32 or bf16: how feature maps are stored"},               \
        {"winograd", 0, YD_ARG_TEXT, &(o)->winograd, 0, 0, "W", "auto or off: quick convolutions that round a little differently"},   \
        {"device", 0, YD_ARG_TEXT, &(o)->device, 0, 0, "NAME", "cpu, cuda, cuda:N or auto"},                                                 \
    {                                                                                                                  \
        "threads", 't', YD_ARG_LONG, &(o)->threads, 0, 1024, "N", "compute threads, 0 = all cores"                     \
    }

typedef struct yd_session {
    char path[1024]; // of the model
    yd_model *model;
    yd_backend *backend;
    yd_engine *engine;
    yd_engine_info info;
    yd_cli_attention attention; // what the model's config has as its nets
} yd_session;

// Load, compile, warm up. *out stays where it is. Close with yd_session_close, also after a failure.
int yd_session_open(const yd_session_options *opt, yd_session *out, yd_err *err);
void yd_session_close(yd_session *s);

// Measure: *ms is what one unit takes in batches as yd_session_run makes them, the least of several. Takes some tens of units' time.
// YD_E_NOMEM, YD_E_DEVICE.
int yd_session_time_unit(yd_session *s, double *ms, yd_err *err);

// What a run reports. Either may be NULL.
typedef struct yd_session_watch {
    void (*unit)(void *user, long units_done);
    int (*step)(void *user, const yd_step_info *info, yd_err *err); // a negative return ends the run with it
    void *user;
} yd_session_watch;

// Run all units of a sampler that came from this session's model.
int yd_session_run(yd_session *s, yd_sampler *sampler, const yd_session_watch *watch, yd_err *err);

#endif
