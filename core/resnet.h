// ResNets of bottleneck blocks as torchvision names and computes them (ResNet-50 and shallower or narrower ones), as steps of a trunk.
//
// conv1 (k x k, stride 2), maximum over 3 x 3 (stride 2), four stages of blocks 1x1 - 3x3 - 1x1 with a shortcut; the first block of stages
// 2 to 4 halves the sides, by its 3 x 3 convolution. Widths and depths are those of the tensors. A normalisation (epsilon 1e-5, running
// statistics) becomes a scale of its convolution's weights, which stay as they are in the file, and a bias. Not looked at: fc.*,
// *.num_batches_tracked.
#ifndef YD_CORE_RESNET_H
#define YD_CORE_RESNET_H

#include "core/attention_net_kinds.h"
#include "core/cpu/trunk.h"

#define YD_RESNET_STAGES  4
#define YD_RESNET_EPSILON 1e-5

typedef struct yd_resnet {
    yd_trunk_step steps[YD_TRUNK_MAX_STEPS];
    int n_steps;
    int blocks[YD_RESNET_STAGES], end[YD_RESNET_STAGES], channels[YD_RESNET_STAGES]; // of a stage: end = steps up to its last
    size_t params;                                                                   // numbers read
    float *weights[YD_TRUNK_MAX_STEPS], *biases[YD_TRUNK_MAX_STEPS];                 // owned, by step, as are the scales
    double *scales[YD_TRUNK_MAX_STEPS];
} yd_resnet;

// Read one. YD_E_CHECKPOINT naming the tensor that is missing, has another shape (with the one that is expected) or is not finite, and for a
// negative variance; YD_E_NOMEM. Clear in any case; trunks made of the steps borrow from it.
int yd_resnet_read(const yd_attention_tensors *t, yd_resnet *net, yd_err *err);
void yd_resnet_clear(yd_resnet *net);

#endif
