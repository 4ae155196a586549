// When an exec's launches are made one by one and when as one captured graph.
//
//   FRESH --run: launched one by one, so that libraries load what they load on first use--> WARM
//   WARM  --run: recorded, then launched as a graph-------------------------------------> CAPTURED  (stays: addresses never change)
//   WARM  --run: recording failed; launched one by one----------------------------------> EAGER     (stays; also when asked for)
// A run that fails leaves the state as it was, except that a failed recording is not tried again.
#ifndef YD_GPU_REPLAY_H
#define YD_GPU_REPLAY_H

#include "gpu/driver.h"

typedef enum { YD_GPU_FRESH, YD_GPU_WARM, YD_GPU_CAPTURED, YD_GPU_EAGER } yd_gpu_replay_state;

typedef struct yd_gpu_replay {
    yd_gpu_replay_state state; // zero: FRESH
    yd_gpu_graph graph;        // when CAPTURED
} yd_gpu_replay;

// Ask the stream for everything once. Asynchronous.
typedef int yd_gpu_launches(void *arg, yd_err *err);

// One run: does not wait for it. The error of `launches`, or of the driver as `*outcome` (YD_GPU_OK otherwise) with 0 returned.
int yd_gpu_replay_run(yd_gpu_replay *r, yd_gpu_driver *d, yd_gpu_stream s, yd_gpu_launches *launches, void *arg,
                      yd_gpu_outcome *outcome, yd_err *err);
void yd_gpu_replay_drop(yd_gpu_replay *r, yd_gpu_driver *d);

#endif
