// Where the buffers of an exec lie in one block of device memory: those that do not live at the same time share it.
//
// Invariant: two items whose lives overlap never overlap in memory (tests/unit/test_gpu_host.c).
#ifndef YD_GPU_ARENA_H
#define YD_GPU_ARENA_H

#include "core/err.h"
#include <stddef.h>

#define YD_GPU_ALIGN ((size_t)256)

typedef struct yd_gpu_item {
    size_t bytes;    // 0: takes no room
    int first, last; // steps that first write and last read it, both included
    size_t offset;   // out
} yd_gpu_item;

// Choose offsets, all multiples of YD_GPU_ALIGN: the largest first, each at the lowest place that is free during its life. *total: bytes of the
// block. YD_E_NOMEM when that is more than `limit` or the host has no memory to plan with.
int yd_gpu_arena_place(yd_gpu_item *items, int n, size_t limit, size_t *total, yd_err *err);

// What a backend may hold on a device with so much memory free: `wanted` if that is set and there is as much, else all but a reserve for the
// driver, other programs and what libraries allocate on their own.
size_t yd_gpu_budget(size_t free, size_t total, size_t wanted);

#endif
