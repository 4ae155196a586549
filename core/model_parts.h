// What the files that make a model share: core/model.c, core/model_write.c and whoever describes a file.
#ifndef YD_CORE_MODEL_PARTS_H
#define YD_CORE_MODEL_PARTS_H

#include "core/model.h"
#include "core/model_public.h"
#include "core/tensors.h"

#define MODEL_MAX_BYTES ((size_t)4 << 30)

// Fill a model (zeroed but for its path, beside which a config is looked for) from a file's tensors: its config, its weights, and in *at where
// the network stands among them. Not its map and checksum. config: as in yd_model_load_with. Errors of loading.
int yd_model_from_tensors(yd_model *m, const char *config, const yd_safetensors *st, yd_public_net *at, yd_err *err);
// The config alone, of which *m then has the network that load_weights would be compared with.
int yd_model_config_from_tensors(yd_model *m, const char *config, const yd_safetensors *st, yd_public_net *at, yd_err *err);
// The weights for a config that *m has: memory is taken for them.
int yd_model_weights_from_tensors(yd_model *m, const yd_safetensors *st, const yd_public_net *at, yd_err *err);
// The parameter `name` of the network at `prefix`, or NULL.
const yd_st_tensor *yd_model_find_param(const yd_safetensors *st, const char *prefix, const char *name);

#endif
