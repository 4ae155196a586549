// What the sampler's files share: the sampler itself, whose owner is sampler.c, and how its state is saved (sampler_state.c).
#ifndef YD_CORE_SAMPLER_INTERNAL_H
#define YD_CORE_SAMPLER_INTERNAL_H

#include "core/backend.h"
#include "core/sampler.h"
#include "core/windows.h"
#include <pthread.h>

// Where the canvas is when a device has it (sampler_device.c). The host's arrays are then out of date.
typedef struct yd_sampler_device {
    yd_backend *be; // NULL: the host has it
    void *memory;   // be->canvas's
    yd_canvas canvas;
    yd_backend *refused; // had no room: it is not asked again
    pthread_t owner;     // the thread that put it there
    int failed;          // in the midst of a run: what the canvas holds means nothing
    int losses;          // how often the canvas was lost so
    struct yd_sampler *prev, *next; // of all that are on a device
} yd_sampler_device;

struct yd_sampler {
    yd_model_config cfg;
    yd_sample_settings set;
    yd_schedule *sched;
    yd_windows win;
    int w, h;
    long pixels;
    float *z, *acc;      // [h*w*3]
    float *before;       // [h*w*3] x0 of the step before, for second-order samplers, else NULL
    float *first;        // [h*w*3] x0 of each pixel's first step, for fidelity > 0, else NULL
    float *scratch;      // per band a row of noise and one of conditions [BANDS * 2 * w*3]
    float *cond;         // [h*w*3] where up is not exact, else NULL
    uint16_t *up;        // up(LR), [h*w*3]
    uint8_t *shown;      // the current prediction as bytes, [h*w*3]
    uint16_t *a;         // steps of each pixel [h*w]
    uint16_t *r;         // threshold of each step [S+1]
    uint16_t *row_max;   // largest a of each row [h]
    uint16_t *win_max;   // largest a of each window's pixels with weight > 0
    long *counts;        // pixels with at least so many steps [S+1]
    const float *const *noise; // given draws, or NULL
    uint16_t *lr;        // the picture for the encoder [h/up_scale * w/up_scale * 3], or NULL
    float *features;     // what the encoder made, by window
    uint8_t *encoded;    // by window: it is there

    yd_sampler_device device;

    int step;      // s that is being worked on; 0 when done
    int cursor;    // next window to look at for handing out
    int expect;    // next window that scatter must bring
    int run;       // windows handed out and back in this step
};

// sampler_encoder.c: bytes of what is kept for an encoder, 0 for a network without one; take it (YD_E_NOMEM); give it back.
size_t yd_sampler_encoder_bytes(const yd_model_config *cfg, int w, int h);
int yd_sampler_encoder_new(yd_sampler *s, const uint16_t *lr, yd_err *err);
void yd_sampler_encoder_free(yd_sampler *s);

// sampler_device.c: the canvas takes the step; what is shown comes to the host; the memory is given back as it is.
int yd_sampler_device_step(yd_sampler *s, const yd_canvas_step *step, yd_err *err);
void yd_sampler_device_show(const yd_sampler *s);
void yd_sampler_device_forget(yd_sampler *s);
// All of the state comes to the host, which the device keeps as well.
int yd_sampler_device_fetch(const yd_sampler *s, yd_err *err);
// And after the state has been replaced there.
int yd_sampler_device_put(const yd_sampler *s, yd_err *err);

// From the top.
void yd_sampler_start(yd_sampler *s);

// What the network is told about the noise of a step.
float yd_sampler_told(const yd_sampler *s, int step);

// Mirror an index into 0..n-1 without repeating the border.
int yd_sampler_reflect(int i, int n);

// The first window from i on that the present step runs; the number of windows if there is none.
int yd_sampler_next_needed(const yd_sampler *s, int i);

#endif
