// A GPU that is none: a driver (gpu/driver.h) over the process's own memory, and the kernels of
// gpu/kernels.h as the host runs them.
//
// What is asked of a stream is done at once, except during a capture: then it is recorded with its arguments and done at each launch of the
// graph, so that what a real graph would get wrong (an address that changed, something not recorded) goes wrong here too. "Device" memory is
// filled with NaNs when it is handed out. The tests say what the fake refuses, which call fails and how, and look at its counters.
// One fake for each thread: all about it is the thread's own (plugin.c makes several devices of that).
#ifndef TESTS_FAKE_GPU_H
#define TESTS_FAKE_GPU_H

#include "gpu/driver.h"

typedef struct fake_gpu {
    // set by tests
    size_t memory_total, memory_free;
    int no_fused, no_conv, no_wide,
        no_capture,   // no engine with an end; none at all; none with bf16 in and f32 out; captures fail
        no_attention,   // none for attention
        wide_attention; // one for attention of more than 256 channels
    int no_tiles; // engines name no tiles, and choose them by the batch
    int conv_one_by_one, matmul_one_by_one; // pinned engines take one sample only
    int idle;     // kernels' grids are judged, and no more; convolutions and products do nothing; memory is handed out as zeros
    long choose_ms; // that choosing an engine by time takes, below 1000
    long fail_at; // the n-th call that can fail from now fails; 0: none
    yd_gpu_outcome fail_with;
    void (*watch)(struct fake_gpu *f); // called before each call that can fail, and at the end; or NULL
    // read by tests
    long calls;                     // that can fail
    long allocs, prepared, choices; // memory of either kind; convolutions and products; engines chosen
    long timed;                     // of those by time
    long attentions;                // of what was prepared
    long live;                      // objects and memory blocks that are not yet released
    size_t bytes, peak;             // of device memory
    long graph_launches, launches;  // launches: kernels and copies that were not replayed
    int lost;
} fake_gpu;

#ifdef __cplusplus
extern thread_local fake_gpu fake;
#else
extern _Thread_local fake_gpu fake;
#endif

// Everything back to the beginning: a large device that refuses nothing. Nothing may be alive.
void fake_reset(void);
yd_gpu_driver *fake_driver(void);

// For the kernels: do `run` with these arguments, now or in each replay. What the launch is to return.
int fake_submit(int (*run)(const void *args), const void *args, size_t size);

#endif
