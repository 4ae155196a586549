// A job's canvas where an accelerator keeps it: the arrays of core/sampler.c in the device's memory, the units that are cut from it, the step
// that it takes. Plain data that the sampler fills in (sampler_device.c) and a backend's canvas operations work on (core/backend.h).
//
// Pointers are the device's. What is done with them is defined to the bit by core/sampler.c and core/sampler_rows.c: a job has the same
// result wherever its canvas is, as far as the network's predictions are the same.
#ifndef YD_CORE_CANVAS_H
#define YD_CORE_CANVAS_H

#include "core/mask.h"
#include "core/sampler_rows.h"
#include <stdint.h>

typedef struct yd_canvas {
    int w, h, window_w, window_h;
    int windows_x;  // windows along x: number i lies at column i % windows_x, row i / windows_x
    int channels;   // of the network's input: 6, the condition and z, or 3, z alone
    int residual;   // the network's target is the residual: a pixel's mean is 0, not the condition
    int rest_shown; // pixels at rest are shown as noise of the step, not as 0
    uint64_t seed;
    float *z, *acc;                   // [h*w*3]
    float *before, *first;            // [h*w*3] or NULL
    const float *cond;                // [h*w*3], or NULL: that of up
    const uint16_t *up;               // [h*w*3]
    const uint16_t *a;                // [h*w]
    const float *weight_x, *weight_y; // of each window's columns, by window along x; of its rows, by window along y
    uint8_t *shown;                   // [h*w*3]
} yd_canvas;

// A window of a step. canvas.z NULL: this sample of the batch is none, or is not on the device.
typedef struct yd_canvas_unit {
    yd_canvas canvas;
    int x, y, window, step;
    int from;                    // pixels with a >= from are on
    float level;                 // what the network is told
    float rest_mean, rest_noise; // how pixels at rest are shown
} yd_canvas_unit;

// What the whole canvas does when all windows of a step are back: acc is used up and zero again.
typedef struct yd_canvas_step {
    int n;    // moves
    int late; // late allocation: pixels of `next` come on
    yd_step_coefs coefs[YD_MASK_MOVES];
    int next[YD_MASK_MOVES]; // the noise that a move draws
} yd_canvas_step;

#endif
