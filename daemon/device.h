// A device: something that holds models and runs units of work. The worker's thread owns it, nobody else calls it.
//
// A model sits at a seat, 0..YD_SEATS-1, with an engine for each type that feature maps are stored in: engine k of a seat is number
// seat * YD_ENGINES_MAX + k of the device.
#ifndef YD_DAEMON_DEVICE_H
#define YD_DAEMON_DEVICE_H

#include "core/engine.h"
#include "daemon/config.h"
#include "daemon/registry.h"

typedef struct yd_device yd_device;

struct yd_device {
    // Get hold of the device, and say what it is. After a failure only shut and close are called.
    int (*open)(yd_device *d, yd_backend_info *about, yd_err *err);
    // Let go of the device and of all that is loaded, whatever state it is in; then it may be opened again.
    void (*shut)(yd_device *d);
    // Compile a model at a free seat and warm it up, a step at a time: the same call again while it returns 1; 0: it may be run, and the model
    // is not needed any more. Negative: it failed, and the seat is free again.
    int (*load)(yd_device *d, int seat, const yd_model *m, yd_err *err);
    // Free a seat, whatever has become of it, and give its memory back.
    void (*unload)(yd_device *d, int seat);
    // See yd_engine_run.
    int (*run)(yd_device *d, int engine, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info,
               yd_err *errs);
    // Of a loaded engine: 1, or 0 when there is none of that number. The first of a seat is there, and serves jobs that do not ask for one.
    int (*info)(const yd_device *d, int engine, yd_engine_info *out);
    // What there is of its memory: 0, or -1 when it has none of its own, or cannot say.
    int (*memory)(const yd_device *d, yd_backend_memory *out);
    void (*close)(yd_device *d); // frees d and what is loaded; also after a failed open
};

// What the configuration's dtype means for a model on a machine with or without bf16: the type of each engine. Returns how many.
int yd_device_dtypes(const yd_config *cfg, const yd_model_config *model, int has_bf16, yd_dtype out[YD_ENGINES_MAX]);

// How long engines of a GPU may be measured for one model: 0 for not at all, as `tuning` has it.
int yd_device_tune_ms(const yd_config *cfg);

// The engines of core on a backend: the CPU's, or a GPU by its number. cfg is borrowed. YD_E_NOMEM.
int yd_device_engine_new(const yd_config *cfg, int cuda, int number, yd_device **out, yd_err *err);

// Tests of the service: no network, a fixed prediction, fake_unit_us of waiting per unit. There may be several, told apart by number. YD_E_NOMEM.
int yd_device_fake_new(const yd_config *cfg, int number, yd_device **out, yd_err *err);
// What fake devices are loaded with, in place of files: fake_models of them, in the order of names. files: YD_MODELS_MAX.
int yd_device_fake_scan(const yd_config *cfg, yd_model_file *files);
int yd_device_fake_read(const yd_config *cfg, const yd_model_file *f, yd_model **out, yd_err *err);

#endif
