// LPIPS in double by plain loops over channel-first maps, straight from a weight file: what core/perceptual.c is to compute.
#ifndef TESTS_ORACLE_LPIPS_H
#define TESTS_ORACLE_LPIPS_H

#include "core/safetensors.h"

// trunk: "squeeze", "alex" or "vgg"; tensors are named <prefix><number>.weight. layer: 7 numbers; map: w*h; features: of picture a, 512.
// Returns the distance.
double oracle_lpips(const yd_safetensors *st, const char *trunk, const char *prefix, const uint8_t *a, const uint8_t *b, int w, int h,
                    double *layer, double *map, double *features);

#endif
