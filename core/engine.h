// A model made resident on a backend: the compiled graphs for each batch size, and "run these units".
//
// Threads: everything here belongs to the device's owner thread, except yd_engine_info after creation.
#ifndef YD_CORE_ENGINE_H
#define YD_CORE_ENGINE_H

#include "core/backend.h"
#include "core/sampler.h"

typedef struct yd_engine yd_engine;

typedef struct yd_engine_options {
    yd_dtype dtype;  // storage of feature maps
    int max_batch;   // 1..64; graphs are compiled for some sizes up to it (core/buckets.h)
    int resident;    // jobs' canvases are kept on the device where it can (yd_canvas_ops): who uses the samplers keeps to yd_sampler_enter's rules
    const yd_engine *weights_of; // NULL, or an engine of the same model and backend, which must outlive this one: share its weights
} yd_engine_options;

typedef struct yd_engine_info {
    yd_backend_info backend;
    yd_dtype dtype;
    int window, max_batch;
    int preferred_batch; // yd_engine_preferred_batch
    size_t weight_bytes, arena_bytes; // shared weights count for the engine that was first
    double unit_flops;
    double warm_ms; // time of one unit measured after warm-up
} yd_engine_info;

// The batch, 1..max, at which a unit costs about the least where filling the machine is all that batches do (no batch_pays): from the
// window's pixels. For whoever chooses max_batch.
int yd_engine_preferred_batch(const yd_model_config *cfg, int max);

// Compile and warm up. The backend must outlive it; the model is not needed afterwards. YD_E_DEVICE, YD_E_NOMEM, YD_E_UNSUPPORTED.
int yd_engine_new(yd_backend *be, const yd_model *m, const yd_engine_options *opt, yd_engine **out, yd_err *err);
// The same a step at a time, for a device that runs other engines in between. begin puts the weights on the backend; a step compiles one
// batch size, or runs once to warm up. step returns 1 while there is more to do and 0 when the engine may run; else it can only be freed.
int yd_engine_begin(yd_backend *be, const yd_model *m, const yd_engine_options *opt, yd_engine **out, yd_err *err);
int yd_engine_step(yd_engine *e, yd_err *err);
void yd_engine_free(yd_engine *e);
void yd_engine_info_get(const yd_engine *e, yd_engine_info *out);

// Run n units (1..max_batch), after the encoder for windows that have not been through it, unit[i] of sampler[i], and scatter them in order. done[i]: what yd_sampler_scatter returned for it; info[i]
// its step info. A negative done[i] fails that job only, and errs[i] says why; the return value is for the device as a whole, and then
// errs[0] says why, and a unit whose done[i] was not set, or is YD_E_DEVICE, is to be run again. errs: n records, or NULL.
int yd_engine_run(yd_engine *e, yd_sampler *const *sampler, const yd_unit *unit, int n, int *done, yd_step_info *info, yd_err *errs);

// Run the bare network on n = 1..max_batch samples: x [n*window*window*in_channel], level [n] -> out [n*window*window*3]. Where it has an
// encoder, of which this runs nothing, as if that had made zeroes.
int yd_engine_forward(yd_engine *e, const float *x, const float *level, int n, float *out, yd_err *err);

#endif
