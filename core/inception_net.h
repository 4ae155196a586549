// Private to core/inception*.c: the FID trunk as a list of steps, and its weights out of a file.
#ifndef YD_CORE_INCEPTION_NET_H
#define YD_CORE_INCEPTION_NET_H

#include "core/cpu/trunk.h"

typedef struct yd_inception_net {
    yd_trunk_step steps[YD_TRUNK_MAX_STEPS]; // the last one's result is tapped as 0
    int n_steps;
    float *weights[YD_TRUNK_MAX_STEPS], *biases[YD_TRUNK_MAX_STEPS]; // owned, by step; NULL where a step has none
} yd_inception_net;

// Errors as yd_inception_open. Clear in any case.
int yd_inception_net_read(yd_inception_net *net, const char *path, yd_err *err);
// Free the weights, not the biases: once a trunk has packed them.
void yd_inception_net_drop_weights(yd_inception_net *net);
void yd_inception_net_clear(yd_inception_net *net);

// Batch normalisation of c channels with running statistics, as a scale of each channel's weights and a bias, epsilon 0.001:
// weight (c x per) *= gamma/sqrt(var + eps); bias = beta - mean * that. Returns the first channel whose var has no such root or whose
// result is not finite, else -1.
int yd_inception_fold(float *weight, size_t per, int c, const float *gamma, const float *beta, const float *mean, const float *var,
                      float *bias);

#endif
