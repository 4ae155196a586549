// Jobs' canvases on the GPU (yd_canvas_ops of core/backend.h): their memory, and runs whose windows are cut out and put back there.
//
// The memory is one block, set aside when the backend is opened; pieces of it are handed out by a pool. A run copies the units, some kilobytes,
// cuts the windows out into the inputs' buffers, replays the operators (their own captured graph, without the copies of inputs and outputs),
// puts the predictions back, and fetches which of them were bad. Samples that are not the device's go through staging, beside the others.
// Read next: gpu/device/canvas.h, pool.h.
#include "gpu/canvas.h"

#include "core/mem.h"
#include "gpu/pool.h"
#include <string.h>

#define SHARE     16                 // of the budget: one part is the canvases'
#define AT_LEAST  ((size_t)16 << 20) // less is not worth having
#define MAX_UNITS 64

typedef struct hand { // what a run hands over and gets back
    yd_canvas_unit units[MAX_UNITS];
    int bad[MAX_UNITS];
} hand;

struct yd_gpu_canvases {
    yd_gpu_pool pool;
    size_t bytes; // of the block, with the device's hand at its end
    char *block;
    hand *host, *device; // host: pinned
};

void yd_gpu_canvases_close(yd_gpu *g)
{
    yd_gpu_canvases *c = g->canvases;
    if (!c) return;
    g->d->release_host(g->d, c->host);
    yd_gpu_give(g, &g->scratch, c->bytes, c->block);
    yd_gpu_pool_end(&c->pool);
    yd_free(c);
    g->canvases = NULL;
}

static int take(yd_backend *be, size_t bytes, void **memory, yd_err *err)
{
    yd_gpu_canvases *c = ((yd_gpu *)be)->canvases;
    size_t at;
    if (yd_gpu_pool_take(&c->pool, bytes, &at)) return yd_fail(err, YD_E_NOMEM, "no room on the GPU for a canvas of %zu MB", bytes >> 20);
    *memory = c->block + at;
    return 0;
}

static void give(yd_backend *be, void *memory)
{
    yd_gpu_canvases *c = ((yd_gpu *)be)->canvases;
    yd_gpu_pool_give(&c->pool, (size_t)((char *)memory - c->block));
}

// The host's memory is any: whoever asks waits.
static int move(yd_backend *be, void *dst, const void *src, size_t bytes, yd_err *err)
{
    yd_gpu *g = (yd_gpu *)be;
    int rc = yd_gpu_alive(g, err);
    if (!rc) rc = yd_gpu_check(g, g->d->copy(g->d, dst, src, bytes, g->stream), "copying a canvas", err);
    return rc ? rc : yd_gpu_check(g, g->d->sync(g->d, g->stream), "copying a canvas", err);
}

static int step(yd_backend *be, const yd_canvas *canvas, const yd_canvas_step *s, yd_err *err)
{
    yd_gpu *g = (yd_gpu *)be;
    int rc = yd_gpu_alive(g, err);
    return rc ? rc : yd_gpu_check(g, g->d->kernel(g->d, yd_gpu_canvas_step(canvas, s, g->stream)), "a step of a canvas", err);
}

static int launch_operators(void *arg, yd_err *err)
{
    yd_exec *e = arg;
    return yd_gpu_launch_steps(e, e->ops_from, e->ops_to, err);
}

static int operators(yd_exec *e, yd_err *err)
{
    yd_gpu_outcome o = YD_GPU_OK;
    int rc = yd_gpu_replay_run(&e->canvas_replay, e->gpu->d, e->gpu->stream, launch_operators, e, &o, err);
    return rc ? rc : yd_gpu_check(e->gpu, o, "launching the graph", err);
}

int yd_gpu_canvas_warm_up(yd_exec *e, yd_err *err)
{
    if (!e->gpu->canvases || e->training) return 0;
    e->canvas_replay.state = e->replay.state == YD_GPU_EAGER ? YD_GPU_EAGER : YD_GPU_WARM; // the libraries are warm
    int rc = operators(e, err);
    return rc ? rc : yd_gpu_check(e->gpu, e->gpu->d->sync(e->gpu->d, e->gpu->stream), "running the network", err);
}

// Hand the units over; 1 when some sample is not the device's.
static int hand_over(const yd_exec *e, const yd_canvas_unit *units, int n)
{
    hand *h = e->gpu->canvases->host;
    int others = 0;
    memset(h->units, 0, sizeof h->units);
    memcpy(h->units, units, (size_t)n * sizeof *units);
    for (int i = 0; i < n; i++) others |= !units[i].canvas.z;
    return others;
}

static int kernel(const yd_exec *e, int code, const char *doing, yd_err *err)
{
    return yd_gpu_check(e->gpu, e->gpu->d->kernel(e->gpu->d, code), doing, err);
}

static int run(yd_exec *e, yd_tid x, yd_tid level, yd_tid out, const yd_canvas_unit *units, int n, int *bad, yd_err *err)
{
    yd_gpu *g = e->gpu;
    yd_gpu_canvases *c = g->canvases;
    int rc = yd_gpu_alive(g, err);
    if (rc) return rc;
    if (n < 1 || n > e->n || n > MAX_UNITS) return yd_fail(err, YD_E_INTERNAL, "%d units in a batch of %d", n, e->n);
    const int others = hand_over(e, units, n);
    rc = yd_gpu_packed_refresh(e->w, err);
    if (!rc)
        rc = yd_gpu_check(g, g->d->copy(g->d, c->device->units, c->host->units, (size_t)n * sizeof *units, g->stream), "copying the units",
                          err);
    if (!rc && others) rc = yd_gpu_launch_steps(e, 0, e->ops_from, err);
    if (!rc)
        rc = kernel(e, yd_gpu_gather(c->device->units, &e->bufs[x].map, e->bufs[level].map.data, n, g->stream), "cutting windows out", err);
    if (!rc) rc = operators(e, err);
    if (!rc) rc = kernel(e, yd_gpu_scatter(c->device->units, &e->bufs[out].map, c->device->bad, n, g->stream), "putting windows back", err);
    if (!rc && others) rc = yd_gpu_launch_steps(e, e->ops_to, e->n_steps, err);
    if (!rc)
        rc = yd_gpu_check(g, g->d->copy(g->d, c->host->bad, c->device->bad, (size_t)n * sizeof *bad, g->stream), "copying what was found",
                          err);
    if (!rc) rc = yd_gpu_check(g, g->d->sync(g->d, g->stream), "running the network", err);
    if (!rc) memcpy(bad, c->host->bad, (size_t)n * sizeof *bad);
    return rc;
}

static const yd_canvas_ops ops = {take, give, move, move, run, step};

int yd_gpu_canvases_open(yd_gpu *g, yd_err *err)
{
    const size_t tail = (sizeof(hand) + YD_GPU_ALIGN - 1) / YD_GPU_ALIGN * YD_GPU_ALIGN;
    const size_t room = g->budget / SHARE / YD_GPU_ALIGN * YD_GPU_ALIGN;
    if (!g->opt.canvases || room < AT_LEAST) return 0;
    yd_gpu_canvases *c = yd_calloc(1, sizeof *c);
    void *block = NULL, *pinned = NULL;
    if (!c) return yd_fail(err, YD_E_NOMEM, "no memory for the CUDA backend");
    int rc = yd_gpu_take(g, &g->scratch, room + tail, "jobs' canvases", &block, err);
    if (!rc) rc = yd_gpu_check(g, g->d->alloc_host(g->d, sizeof(hand), &pinned), "pinning memory for units", err);
    if (rc) {
        yd_gpu_give(g, &g->scratch, room + tail, block);
        yd_free(c);
        return rc;
    }
    yd_gpu_pool_init(&c->pool, room);
    c->bytes = room + tail;
    c->block = block;
    c->device = (hand *)(void *)(c->block + room);
    c->host = pinned;
    g->canvases = c;
    g->base.canvas = &ops;
    return 0;
}
