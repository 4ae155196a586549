// SRDiff's published checkpoints, told from their tensors and the code's config: the counterpart of model_public.h for that family.
//
// Everything about the network follows from shapes. What does not (that the residual is diffused, times 2) is as in every published
// config, and a config that says otherwise is refused. Stateless; any thread. Read next: core/model.c, which asks.
#ifndef YD_CORE_MODEL_SRDIFF_H
#define YD_CORE_MODEL_SRDIFF_H

#include "core/json.h"
#include "core/model_public.h"

// Where such a network stands in a file: root and prefix of *out, both what stands before "denoise_fn." and "rrdb.". 1 found, 0 none
// there; YD_E_CHECKPOINT when there are several, or when it holds the encoder alone.
int yd_srdiff_locate(const yd_safetensors *st, yd_public_net *out, yd_err *err);

// The rest of *out, of a located network: net, and the schedule that its buffers are of, if it is the published one. YD_E_CHECKPOINT naming the tensor that fits no
// such network, or that belongs to a part (weight normalisation, group normalisation, attention, a second input) which is not run.
int yd_srdiff_detect(const yd_safetensors *st, yd_public_net *out, yd_err *err);

// Make the config what the file says it is. cfg may come from a config of that code (cfg->from.is_public), which has to agree in scale and
// widths; the encoder's sizes are the file's, because the code's configs are known to be wrong there. `assumed` as yd_public_settle.
int yd_srdiff_settle(const yd_public_net *found, yd_model_config *cfg, char *assumed, size_t cap, yd_err *err);

// Is this tensor, without what stands before the network, one of the encoder's own upscaler, which is not run?
int yd_srdiff_is_tail(const char *name);

// Everything but name and network as in the published files of this scale: what a config that names this type starts from.
void yd_srdiff_defaults(yd_model_config *cfg);

// Is this parsed text a config of that code: its flat list of settings, as JSON? Read it. YD_E_CHECKPOINT naming the key and what is
// accepted; other keys are the training's and ignored.
int yd_srdiff_is_config(const yd_json *j);
int yd_srdiff_read_config(const yd_json *j, yd_model_config *out, yd_err *err);

#endif
