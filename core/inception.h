// The features of FID: what the Inception-v3 of 2015 sees in a picture, for a Frechet distance (core/frechet.h).
//
// A picture of any size is resized bilinearly to 299 x 299 (pixel centres aligned, no filter against aliasing), goes to -1..1, passes the
// network, and the last map's 2048 channels are averaged. Resizing, network and names are those of the public module `pytorch-fid`,
// whose weights (pt_inception-2015-12-05-6726825d.pth) belong here, saved as safetensors. Only with those is the distance called FID.
//
// A yd_inception belongs to one thread at a time and takes about 130 MB. It computes with the threads OpenMP gives it; the bytes of
// its figures do not depend on how many those are.
#ifndef YD_CORE_INCEPTION_H
#define YD_CORE_INCEPTION_H

#include "core/err.h"
#include <stdint.h>

#define YD_INCEPTION_SIDE     299
#define YD_INCEPTION_FEATURES 2048

typedef struct yd_inception yd_inception;

// Read the network from a safetensors file; tensors it does not know (the classifier's) are left alone. YD_E_IO; YD_E_CHECKPOINT naming
// the tensor that is missing or has another shape, with the shape that is expected, or that is not finite; YD_E_NOMEM, YD_E_DEVICE.
// Close with yd_inception_close (NULL is fine).
int yd_inception_open(const char *path, yd_inception **out, yd_err *err);
void yd_inception_close(yd_inception *p);

// Features of w x h pixels of RGB bytes, sides from 1. Blocks while it computes; allocates nothing. YD_E_DEVICE; out is then undefined.
int yd_inception_features(yd_inception *p, const uint8_t *rgb, int w, int h, float out[YD_INCEPTION_FEATURES], yd_err *err);

// What the network is shown: x has YD_INCEPTION_SIDE^2 pixels of three channels.
void yd_inception_input(const uint8_t *rgb, int w, int h, float *x);

#endif
