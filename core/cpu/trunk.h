// A feed-forward trunk of convolutions, pooling, sums and channel joins on oneDNN, for networks that only look at pictures.
//
// The graphs of core/graph.h are for networks that are trained and batched; a trunk is a list of steps whose shape follows the
// picture's. Maps are NHWC f32. Step i writes map i + 1; map 0 is the input. A map's storage is reused after its last reader, so
// whoever wants a map takes it while the trunk runs (tap), or has the trunk keep them all.
//
// The bytes do not depend on the number of threads: kernels are direct convolutions, and nothing else adds up more than a window.
// A yd_trunk belongs to one thread at a time. yd_trunk_prepare allocates, yd_trunk_run does not.
#ifndef YD_CORE_CPU_TRUNK_H
#define YD_CORE_CPU_TRUNK_H

#include "core/err.h"
#include <stddef.h>

typedef enum {
    YD_TRUNK_CONV, // ReLU(conv + bias), zero padding; with `linear` without the ReLU
    YD_TRUNK_MAX,  // maximum of a window; with `ceil` a last window may hang over the edge (torch's ceil_mode)
    YD_TRUNK_MEAN, // mean of the part of a window that lies inside: padding is not counted
    YD_TRUNK_JOIN, // channels of from[0], then those of from[1] and so on, of equal sides
    YD_TRUNK_ADD,  // ReLU(from[0] + from[1]), of equal shape
} yd_trunk_kind;

#define YD_TRUNK_MAX_FROM 6

typedef struct yd_trunk_step {
    yd_trunk_kind kind;
    int from[YD_TRUNK_MAX_FROM], n_from; // maps; only JOIN and ADD have several
    int in_c, c;                         // channels read and written; JOIN, ADD: in_c is not looked at
    int k[2], stride, pad[2], ceil;      // k, pad: down, across; pad below k
    int linear;                          // CONV
    const float *weight, *bias;          // [c][in_c][k[0]][k[1]] and [c], borrowed
    const double *scale;                 // [c], borrowed: what the weights of each channel are multiplied by; NULL: 1
    int tap;                             // number under which the result is shown, or -1
} yd_trunk_step;

#define YD_TRUNK_MAX_STEPS 128

typedef struct yd_trunk yd_trunk;

// What a trunk shows: n maps of h rows, w columns, c channels, readable during the call.
typedef void yd_trunk_tap(void *context, int tap, const float *maps, int n, int h, int w, int c);

// One side (axis 0: height, 1: width) of the map that a step makes of that side of its input; 0 or less when there is none.
int yd_trunk_side(const yd_trunk_step *step, int side, int axis);

// steps are copied, what they point at is borrowed: weights and scales until the last prepare, which keeps a packed copy; biases until
// yd_trunk_free. keep: every map has storage of its own and stays readable until the next run. YD_E_INVALID above YD_TRUNK_MAX_STEPS;
// YD_E_DEVICE, YD_E_NOMEM.
int yd_trunk_new(const yd_trunk_step *steps, int n_steps, int keep, yd_trunk **out, yd_err *err);
void yd_trunk_free(yd_trunk *t); // NULL is fine

// Choose kernels and storage for n pictures of h x w; nothing to do when they are those of last time. Every map must have pixels.
// YD_E_NOMEM, YD_E_DEVICE; the trunk may then be prepared again.
int yd_trunk_prepare(yd_trunk *t, int n, int h, int w, yd_err *err);
// Where the input is to be written before each run: n*h*w*in_c floats. Valid until the next prepare.
float *yd_trunk_input(yd_trunk *t);
int yd_trunk_run(yd_trunk *t, yd_trunk_tap *tap, void *context, yd_err *err); // tap: NULL where no step has one
// Map i of a trunk that keeps them, i = 0..n_steps, or the last map of any; and its shape. Valid until the next run or prepare.
const float *yd_trunk_map(const yd_trunk *t, int i, int *h, int *w, int *c);
// Memory of maps and packed weights, as prepared.
size_t yd_trunk_bytes(const yd_trunk *t);
// The smallest side of a square input for which every map of these steps has a pixel.
int yd_trunk_min_side(const yd_trunk_step *steps, int n_steps);

#endif
