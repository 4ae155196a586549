// The sampler's loops over runs of pixels in a row, as vectors. Three channels throughout; pure, any thread.
//
// Bits do not depend on the instruction set: every value is made by the same operations, and nothing is contracted or summed across
// pixels.
#ifndef YD_CORE_SAMPLER_ROWS_H
#define YD_CORE_SAMPLER_ROWS_H

#include <stdint.h>

// One step of the update, rounded to float once.
typedef struct yd_step_coefs {
    float x0_z, x0_pred;     // x0 = x0_z*z + x0_pred*pred, before clipping
    float clip;              // x0 is clamped to [-clip, clip]; 0 = never
    float z_x0, z_z, sigma;  // z' = z_x0*x0 + z_z*z + sigma*noise
    float ahead;             // where the pixel's step before left an x0: z' takes x0 + ahead*(x0 - that one) in the place of x0
    float on_mean, on_noise; // a pixel that is switched on: on_mean*mean + on_noise*noise
    float unscale;           // residual target: what is shown is cond + x0*unscale; 0: x0
    float first;             // what is shown: (1-first)*x0 + first*(the pixel's first x0), where those are kept
    int from, to;            // pixels with from <= a <= to take the step
    int older;               // those with a >= older have taken one before
    int last;                // the step that leaves no noise: sigma is 0 and no pixel comes on
} yd_step_coefs;

// n samples of 16 bits as [-1,1]: v/65535*2 - 1 in double, rounded.
void yd_rows_condition(const uint16_t *up, int n, float *out);

// The network's input of n pixels, x[6*n]: the condition, then z where a >= from and 0 elsewhere. cond: the condition as float, or NULL
// for that of up. z is read nowhere else than where a >= from matters: it may hold anything there, NaN too.
void yd_rows_gather(const uint16_t *up, const float *cond, const float *z, const uint16_t *a, int from, int n, float *x);

// The same without the condition, x[3*n].
void yd_rows_gather_z(const float *z, const uint16_t *a, int from, int n, float *x);

// What a network that is not shown m*z sees of pixels at rest, in x as the two above left it (channels 6 or 3): on_mean*mean + on_noise*noise
// where a < from. The mean is the condition, or 0 for a residual, as it has to be with 3 channels. noise: 3*n normals.
void yd_rows_show_rest(const uint16_t *a, int from, float on_mean, float on_noise, int residual, const float *noise, int n, int channels, float *x);

// acc += wy*wx[x] * pred over n pixels. 0, or -1 when a prediction is not finite (acc is then of no use).
int yd_rows_blend(float *acc, const float *pred, float wy, const float *wx, int n);

// A share of one prediction and the rest of another: what fidelity mixes.
static inline float yd_rows_mix(float first, float x0, float first_x0)
{
    return (1.0f - first) * x0 + first * first_x0;
}

// Pixels in k's range take the step: z from z and pred, and what is shown as bytes. cond: 3*n values, read for a residual target
// only. noise: 3*n normals, read where sigma > 0. before: 3*n values, x0 of the step before, replaced by this step's where the pixel
// takes it, read only where it took one before; NULL: one-step samplers, ahead does not count. first: 3*n values, every pixel's first x0,
// written where it takes its first step, read where it takes any; NULL: k->first does not count.
void yd_rows_update(const yd_step_coefs *k, const uint16_t *a, const float *cond, const float *pred, const float *noise, int n,
                    float *before, float *first, float *z, uint8_t *shown);

// Pixels that come on (from <= a <= to) get their first value. mean: 3*n values, or NULL for 0.
void yd_rows_switch_on(const uint16_t *a, int from, int to, float on_mean, float on_noise, const float *mean, const float *noise, int n,
                       float *z);

#endif
