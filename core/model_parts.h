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
// May a tensor of this name be in the file of this network? Its own, and what is known to stand beside it.
int yd_model_expects(const yd_net_config *net, const yd_graph *g, const yd_public_net *at, const char *name);
// The parameter `name` of the network at `prefix`, or NULL.
const yd_st_tensor *yd_model_find_param(const yd_safetensors *st, const char *prefix, const char *name);

// What differs between a file's tensors and the network that its config, or its tensors, describe. say is called once for each difference.
typedef enum { YD_DIFF_MISSING, YD_DIFF_SHAPE, YD_DIFF_UNEXPECTED } yd_difference;
typedef void (*yd_difference_fn)(void *user, yd_difference what, const char *name, const char *shape, const char *wanted);
// 0 when the two could be compared, whatever came of it; else the errors of reading the config.
int yd_model_differences(const char *path, const char *config, const yd_safetensors *st, yd_difference_fn say, void *user, yd_err *err);

#endif
