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
    // Get hold of the device. After a failure only close is called.
    int (*open)(yd_device *d, yd_err *err);
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
    void (*close)(yd_device *d); // frees d and what is loaded; also after a failed open
};

// What the configuration's dtype means for a model on a machine with or without bf16: the type of each engine. Returns how many.
int yd_device_dtypes(const yd_config *cfg, const yd_model_config *model, int has_bf16, yd_dtype out[YD_ENGINES_MAX]);

// The engines of core on a backend. cfg is borrowed. YD_E_NOMEM.
int yd_device_engine_new(const yd_config *cfg, yd_device **out, yd_err *err);

// Tests of the service: no network, a fixed prediction, fake_unit_us of waiting per unit. YD_E_NOMEM.
int yd_device_fake_new(const yd_config *cfg, yd_device **out, yd_err *err);
// What that device is loaded with, in place of files: fake_models of them, in the order of names. files: YD_MODELS_MAX.
int yd_device_fake_scan(const yd_config *cfg, yd_model_file *files);
int yd_device_fake_read(const yd_model_file *f, yd_model **out, yd_err *err);

#endif
