// The CUDA backend on a driver: opening it, what it says of itself, its memory account, and what becomes of it when the device is lost.
//
// Owns the driver, one stream and the plan cache. Every allocation is counted against a budget that is set from the free memory when it is opened.
// A sticky error is remembered: from then on every call fails with it, quickly, and the backend can only be closed.
// Read next: exec.c, driver.h.
#include "core/mem.h"
#include "gpu/canvas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The tables by which kernels are chosen; a change that can change bits gets a new number.
#define KERNELS_VERSION 1

int yd_gpu_check(yd_gpu *g, yd_gpu_outcome o, const char *doing, yd_err *err)
{
    if (o == YD_GPU_OK) return 0;
    if (o == YD_GPU_LOST && !g->lost) {
        g->lost = 1;
        yd_gpu_fail(o, doing, g->d->words(g->d), &g->why);
    }
    return yd_gpu_fail(o, doing, g->d->words(g->d), err);
}

int yd_gpu_alive(yd_gpu *g, yd_err *err)
{
    if (!g->lost) return yd_gpu_check(g, g->d->enter(g->d), "turning to it", err);
    if (err) *err = g->why;
    return YD_E_DEVICE;
}

int yd_gpu_take(yd_gpu *g, size_t *account, size_t bytes, const char *what, void **out, yd_err *err)
{
    const size_t held = g->weights + g->arena + g->scratch;
    *out = NULL;
    int rc = yd_gpu_alive(g, err);
    if (rc || !bytes) return rc;
    if (bytes > g->budget || held > g->budget - bytes)
        return yd_fail(err, YD_E_NOMEM, "no memory on the GPU for %s: %zu MB wanted, %zu of %zu MB are taken", what,
                       bytes >> 20, held >> 20, g->budget >> 20);
    rc = yd_gpu_check(g, g->d->alloc(g->d, bytes, out), what, err);
    if (!rc) *account += bytes;
    return rc;
}

void yd_gpu_give(yd_gpu *g, size_t *account, size_t bytes, void *p)
{
    if (!p) return;
    g->d->release(g->d, p);
    *account -= bytes;
}

static void gpu_close(yd_backend *be)
{
    yd_gpu *g = (yd_gpu *)be;
    if (!g) return;
    yd_gpu_canvases_close(g);
    if (g->stream) g->d->stream_free(g->d, g->stream);
    yd_gpu_plans_close(g->plans);
    g->d->close(g->d);
    yd_free(g);
}

static void gpu_info(const yd_backend *be, yd_backend_info *out)
{
    const yd_gpu *g = (const yd_gpu *)be;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "cuda");
    snprintf(out->device, sizeof out->device, "%s", g->about.device);
    snprintf(out->isa, sizeof out->isa, "%s", g->about.isa);
    snprintf(out->library, sizeof out->library, "%s", g->about.library);
    snprintf(out->kernels, sizeof out->kernels, "%s%s%s-%d", g->opt.batch_variant ? "variant" : "pinned",
             yd_gpu_tunes(g) ? "-tuned" : "", g->opt.tf32 ? "-tf32" : "", KERNELS_VERSION);
    out->bf16 = 1;
    out->batch_pays = 1;
    out->memory_total = g->about.memory_total;
}

static int gpu_memory(const yd_backend *be, yd_backend_memory *out, yd_err *err)
{
    yd_gpu *g = (yd_gpu *)be;
    *out = (yd_backend_memory){
        .total = g->about.memory_total, .weights = g->weights, .arena = g->arena, .scratch = g->scratch};
    int rc = yd_gpu_alive(g, err);
    return rc ? rc
              : yd_gpu_fail(g->d->memory(g->d, &out->free, &out->total), "reading its memory", g->d->words(g->d), err);
}

static int prepare(yd_gpu *g, yd_err *err)
{
    size_t available = 0, total = 0;
    const char *verbose = getenv("YODA_CUDA_VERBOSE");
    g->verbose = verbose && *verbose == '1';
    g->d->about(g->d, &g->about);
    int rc = yd_gpu_check(g, g->d->memory(g->d, &available, &total), "reading its memory", err);
    if (rc) return rc;
    g->budget = yd_gpu_budget(available, total, g->opt.memory_limit);
    rc = yd_gpu_check(g, g->d->stream_new(g->d, &g->stream), "making a stream", err);
    if (!rc) rc = yd_gpu_plans_open(g->opt.plan_cache, &g->about, &g->plans, err);
    g->opt.plan_cache =
        g->opt.plan_cache ? "" : NULL; // the caller's text may go; that there is a file is all that matters now
    return rc;
}

int yd_gpu_open(yd_gpu_driver *d, const yd_cuda_options *opt, yd_backend **out, yd_err *err)
{
    *out = NULL;
    yd_gpu *g = yd_calloc(1, sizeof *g);
    if (!g) {
        d->close(d);
        return yd_fail(err, YD_E_NOMEM, "no memory for the CUDA backend");
    }
    g->d = d;
    if (opt) g->opt = *opt;
    g->base = (yd_backend){
        .close = gpu_close,
        .info = gpu_info,
        .weights_new = yd_gpu_weights_new,
        .weights_free = yd_gpu_weights_free,
        .weights_read = yd_gpu_weights_read,
        .weights_write = yd_gpu_weights_write,
        .adamw = yd_gpu_adamw_step,
        .compile = yd_gpu_compile,
        .exec_free = yd_gpu_exec_free,
        .exec_stats = yd_gpu_exec_stats,
        .buffer = yd_gpu_buffer,
        .run = yd_gpu_run,
        .peek = yd_gpu_peek,
        .memory = gpu_memory,
    };
    int rc = prepare(g, err);
    if (!rc) rc = yd_gpu_canvases_open(g, err);
    if (rc)
        gpu_close(&g->base);
    else
        *out = &g->base;
    return rc;
}
