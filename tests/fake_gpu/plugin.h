// The fake GPU as a plug-in, yoda-cuda-loops.so, which the program loads as it would the CUDA one: several devices, each on a thread of its own,
// that compute with loops. A test in the same process gives orders and reads counters through loops_device().
#ifndef TESTS_FAKE_GPU_PLUGIN_H
#define TESTS_FAKE_GPU_PLUGIN_H

#include <stdatomic.h>
#include <stddef.h>

#define LOOPS_DEVICES 4

typedef struct loops_device {
    atomic_long fail_in;   // the device is lost at its n-th call from now; 0: it is not
    atomic_size_t memory;  // bytes that it has; 0: 8 GiB
    atomic_long live;      // objects and memory blocks that it holds, as of its latest call
    atomic_long opened;    // how often
} loops_device;

// By the name LOOPS_SYMBOL in the loaded plug-in.
typedef loops_device *loops_device_fn(int device);
#define LOOPS_SYMBOL "yoda_loops_device"

#endif
