// The entry's other half (gpu/plugin.c has the first): which devices there are, and the driver of each. See plugin.h.
#include "tests/fake_gpu/plugin.h"

#include "gpu/devices.h"
#include "tests/fake_gpu/fake.h"
#include <stdio.h>
#include <string.h>

static loops_device devices[LOOPS_DEVICES];
static _Thread_local loops_device *mine; // what this thread has opened

__attribute__((visibility("default"))) loops_device_fn yoda_loops_device;

loops_device *yoda_loops_device(int device)
{
    return device >= 0 && device < LOOPS_DEVICES ? &devices[device] : NULL;
}

int yd_gpu_count(int *n, yd_err *err)
{
    (void)err;
    *n = LOOPS_DEVICES;
    return 0;
}

int yd_gpu_probe(int device, yd_cuda_device *out, yd_err *err)
{
    (void)err;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "loops %d", device);
    return 0;
}

static void watch(fake_gpu *f)
{
    atomic_store(&mine->live, f->live);
    if (atomic_load(&mine->fail_in) > 0 && atomic_fetch_sub(&mine->fail_in, 1) == 1) f->lost = 1;
}

int yd_gpu_cuda_driver(int device, yd_gpu_driver **out, yd_err *err)
{
    (void)err;
    const size_t memory = atomic_load(&devices[device].memory);
    mine = &devices[device];
    fake_reset();
    if (memory) fake.memory_total = fake.memory_free = memory;
    fake.watch = watch;
    atomic_fetch_add(&mine->opened, 1);
    *out = fake_driver();
    return 0;
}
