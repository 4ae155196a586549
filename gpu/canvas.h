// Jobs' canvases on the GPU, for backend.c and exec.c.
#ifndef YD_GPU_CANVAS_H
#define YD_GPU_CANVAS_H

#include "gpu/gpu.h"

// Set memory for canvases aside, where the options ask for it and there is enough, and offer what works on them. YD_E_NOMEM, YD_E_DEVICE.
int yd_gpu_canvases_open(yd_gpu *g, yd_err *err);
void yd_gpu_canvases_close(yd_gpu *g);
// Capture an exec's operators without the copies of inputs and outputs, after its first runs.
int yd_gpu_canvas_warm_up(yd_exec *e, yd_err *err);

#endif
