// A vision transformer in double by plain loops, straight from a weight file: what core/cpu/vit.c is to compute.
#ifndef TESTS_ORACLE_VIT_H
#define TESTS_ORACLE_VIT_H

#include "core/safetensors.h"

// rgb: h*w*3 values 0..1 of a picture whose sides are multiples of the patch; raw: heads x h/patch x w/patch. Tensors have DINO's names after
// `prefix`. 0, or -1 when one is missing.
int oracle_vit(const yd_safetensors *st, const char *prefix, int heads, const float *rgb, int w, int h, double *raw);
// Positions of gh x gw places out of grid x grid learned ones (without the class's), as PyTorch resamples them.
void oracle_vit_positions(const double *learned, int grid, int dim, int gw, int gh, double *dst);

#endif
