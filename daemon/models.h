// Which model files there are. One model is resident for now; the file is chosen here, read by the device (device_engine.c).
#ifndef YD_DAEMON_MODELS_H
#define YD_DAEMON_MODELS_H

#include "core/err.h"
#include <stddef.h>

// The path of the model `name` in dir ("x" means dir/x.safetensors; empty: the first *.safetensors by name). YD_E_CONFIG, naming what
// there is to choose from.
int yd_models_find(const char *dir, const char *name, char *path, size_t cap, yd_err *err);

#endif
