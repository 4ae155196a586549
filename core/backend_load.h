// Opening a compute device by name, and the CUDA plug-in that may or may not be there.
//
// The plug-in yoda-cuda.so is the only code that knows CUDA. It is looked for where YODA_CUDA_PLUGIN says, beside the executable, and in
// ../lib/yodad from there; it is loaded once, on first use, and never unloaded. That it is not there, that a library or driver it needs
// is missing, or that the driver shows no device is no error of the program: `auto` then means the CPU, with one line that says why.
//
// Threads: every function may be called on any thread.
#ifndef YD_CORE_BACKEND_LOAD_H
#define YD_CORE_BACKEND_LOAD_H

#include "core/backend.h"

#define YD_CUDA_PLUGIN_VERSION 1
#define YD_CUDA_PLUGIN_SYMBOL  "yoda_cuda_plugin"

typedef struct yd_cuda_device {
    char name[96];
    int major, minor; // compute capability
    size_t memory_total, memory_free;
} yd_cuda_device;

// What the plug-in gives. count: at least 1, or YD_E_UNSUPPORTED with the reason in words.
typedef struct yd_cuda_plugin {
    int (*count)(int *n, yd_err *err);
    int (*probe)(int device, yd_cuda_device *out, yd_err *err);
    int (*open)(const yd_cuda_options *opt, yd_backend **out, yd_err *err);
} yd_cuda_plugin;

// The plug-in's one symbol. It refuses another version, and structures of other sizes (yd_cuda_plugin_layout) than it was built with.
typedef int yd_cuda_plugin_entry(int version, size_t layout, yd_cuda_plugin *out, yd_err *err);
static inline size_t yd_cuda_plugin_layout(void)
{
    return sizeof(yd_backend) + sizeof(yd_graph) + sizeof(yd_op) + sizeof(yd_tensor) + sizeof(yd_cuda_options) +
           sizeof(yd_err) + sizeof(yd_exec_stats) + sizeof(yd_backend_info) + sizeof(yd_backend_memory) + sizeof(yd_canvas_ops) +
           sizeof(yd_canvas_unit) + sizeof(yd_canvas_step);
}

// How many CUDA devices there are: 0 with *n >= 1, or YD_E_UNSUPPORTED and, in one line, why none can be used.
int yd_cuda_count(int *n, yd_err *err);
// Describe one. YD_E_UNSUPPORTED (none can be used), YD_E_SETTING (there is no such device), YD_E_DEVICE.
int yd_cuda_probe(int device, yd_cuda_device *out, yd_err *err);
// Open one. The same errors, and YD_E_NOMEM.
int yd_cuda_open(const yd_cuda_options *opt, yd_backend **out, yd_err *err);

// What a device's name means: "cpu", "cuda" (device 0), "cuda:N", "auto" (CUDA where it can be used, else the CPU). *cuda is the device's
// index, or -1 for the CPU. why[256], when not NULL: "", or for auto one line that says why it is the CPU. Looks at the machine for
// "auto" alone. YD_E_SETTING for another name.
int yd_device_parse(const char *name, int *cuda, char why[256], yd_err *err);

// Open a device by name. NULL options are the defaults; `cuda->device` is overwritten by the name's.
int yd_backend_open(const char *name, const yd_cpu_options *cpu, const yd_cuda_options *cuda, yd_backend **out,
                    char why[256], yd_err *err);

#endif
