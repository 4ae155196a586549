// What yoda inspect says of any checkpoint, before and whether or not it is a model that can be loaded.
#ifndef YD_TOOLS_INSPECT_FILE_H
#define YD_TOOLS_INSPECT_FILE_H

#include "core/identify.h"

// Print what container it is, what it holds and what network that is; with all, every tensor.
yd_identity yd_inspect_print_file(const char *path, const yd_safetensors *st, int all);
// Print what is missing, has another shape, or is not expected, where the file was nearly a model.
void yd_inspect_print_differences(const char *path, const char *config, const yd_safetensors *st);

#endif
