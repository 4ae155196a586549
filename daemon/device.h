// A device: something that can load the model and run units of work. The worker's thread owns it, nobody else calls it.
#ifndef YD_DAEMON_DEVICE_H
#define YD_DAEMON_DEVICE_H

#include "core/engine.h"
#include "daemon/config.h"

#define YD_ENGINES_MAX 2 // feature maps in f32 and in bf16

typedef struct yd_device yd_device;

struct yd_device {
    // Load and warm up; may take seconds. After a failure only close is called.
    int (*open)(yd_device *d, yd_err *err);
    // See yd_engine_run. engine: 0.. as info knows them; all are compiled for the same batches.
    int (*run)(yd_device *d, int engine, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info,
               yd_err *errs);
    // After open. Read-only data that lives until close.
    const yd_model *(*model)(const yd_device *d);
    // 1, or 0 when there is no engine of that number; 0 is there, and serves jobs that do not ask for one.
    int (*info)(const yd_device *d, int engine, yd_engine_info *out);
    void (*close)(yd_device *d); // frees d; also after a failed open
};

// What the configuration's dtype means for a model on a machine with or without bf16: the type of each engine. Returns how many.
int yd_device_dtypes(const yd_config *cfg, const yd_model_config *model, int has_bf16, yd_dtype out[YD_ENGINES_MAX]);

// The engines of core on a backend, with the model file at path. cfg is borrowed. YD_E_NOMEM.
int yd_device_engine_new(const yd_config *cfg, const char *path, yd_device **out, yd_err *err);

// Tests of the service: no network, a fixed prediction, fake_unit_us of waiting per unit. YD_E_NOMEM.
int yd_device_fake_new(const yd_config *cfg, yd_device **out, yd_err *err);

#endif
