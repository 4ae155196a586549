// Capturing an exec and replaying it: see replay.h.
#include "gpu/replay.h"

#include <stddef.h>

// Record the launches. 1 when that gave a graph.
static int capture(yd_gpu_replay *r, yd_gpu_driver *d, yd_gpu_stream s, yd_gpu_launches *launches, void *arg)
{
    if (d->capture_begin(d, s)) return 0;
    const int rc = launches(arg, NULL);
    yd_gpu_graph graph = NULL;
    const yd_gpu_outcome o = d->capture_end(d, s, &graph);
    if (!rc && !o && graph) {
        r->graph = graph;
        return 1;
    }
    d->graph_free(d, graph);
    return 0;
}

int yd_gpu_replay_run(yd_gpu_replay *r, yd_gpu_driver *d, yd_gpu_stream s, yd_gpu_launches *launches, void *arg,
                      yd_gpu_outcome *outcome, yd_err *err)
{
    *outcome = YD_GPU_OK;
    if (r->state == YD_GPU_WARM) r->state = capture(r, d, s, launches, arg) ? YD_GPU_CAPTURED : YD_GPU_EAGER;
    if (r->state == YD_GPU_CAPTURED) {
        *outcome = d->graph_launch(d, r->graph, s);
        return 0;
    }
    const int rc = launches(arg, err);
    if (!rc && r->state == YD_GPU_FRESH) r->state = YD_GPU_WARM;
    return rc;
}

void yd_gpu_replay_drop(yd_gpu_replay *r, yd_gpu_driver *d)
{
    if (r->graph) d->graph_free(d, r->graph);
    *r = (yd_gpu_replay){0};
}
