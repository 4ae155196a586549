// LPIPS v0.1: how different two pictures look to a network, and that network's features for a Frechet distance (core/frechet.h).
//
// Pixels go to -1..1, are shifted and scaled per channel, and pass a trunk of convolutions; at each of its layers the features are made
// unit vectors over the channels (z/(|z|+1e-10)), squared differences are weighted per channel and averaged over the map; the distance is
// the sum over the layers. Source: Zhang et al. 2018, the public module `lpips` 0.1. The trunk is recognised by the tensors of the
// file: squeeze (net.0, net.3.squeeze ...; 7 layers), alex (net.0, net.3, net.6, net.8, net.10; 5) or vgg (net.0, net.2, ... net.28; 5),
// numbered as torchvision's `features`; the weights of layer k are lin<k>.model.1.weight. Figures of different trunks do not compare.
//
// A yd_lpips belongs to one thread at a time. It keeps its workspace, which grows with the picture and is reused while the size stays.
// It computes with the threads OpenMP gives it; the bytes of its figures do not depend on how many those are.
#ifndef YD_CORE_PERCEPTUAL_H
#define YD_CORE_PERCEPTUAL_H

#include "core/err.h"
#include <stdint.h>

#define YD_LPIPS_MAX_LAYERS 7
#define YD_LPIPS_MAX_SIDE   8192

typedef struct yd_lpips yd_lpips;

typedef struct yd_lpips_figure {
    double total; // sum of the layers
    int layers;
    double layer[YD_LPIPS_MAX_LAYERS];
} yd_lpips_figure;

// Read trunk and weights from a safetensors file. YD_E_IO; YD_E_CHECKPOINT naming the tensor that is missing or has another shape, with
// the shape that is expected; YD_E_NOMEM. Close with yd_lpips_close (NULL is fine).
int yd_lpips_open(const char *path, yd_lpips **out, yd_err *err);
void yd_lpips_close(yd_lpips *p);

const char *yd_lpips_trunk(const yd_lpips *p); // "squeeze", "alex" or "vgg": figures are named lpips_<trunk>, fd_<trunk>
int yd_lpips_min_side(const yd_lpips *p);      // pixels; below it the trunk runs out of map

// Distance of two w x h pictures of RGB bytes. map, unless NULL: w*h floats, where they differ: the sum over the layers of their maps,
// each enlarged bilinearly (pixel centres aligned); its mean is about the total, not exactly. Blocks while it computes.
// YD_E_IMAGE_TOO_SMALL, YD_E_IMAGE_TOO_LARGE (side above YD_LPIPS_MAX_SIDE), YD_E_NOMEM; *out is then untouched.
int yd_lpips_distance(yd_lpips *p, const uint8_t *a, const uint8_t *b, int w, int h, yd_lpips_figure *out, float *map, yd_err *err);

// The last layer's features of one picture, averaged over the map: yd_lpips_feature_size() floats (squeeze 512, alex 256, vgg 512).
// Errors as above.
int yd_lpips_feature_size(const yd_lpips *p);
int yd_lpips_features(yd_lpips *p, const uint8_t *rgb, int w, int h, float *out, yd_err *err);

// Distance per attention: the pixels are sorted into bins by their attention, and for each bin both pictures are compared with every
// pixel outside it black (0, 0, 0). Source: YODA's appendix. Bin i holds i*width <= attention < (i+1)*width; the last one also 1.
typedef struct yd_lpips_bin {
    double from, to; // attention
    long pixels;     // in this bin; 0: distance is 0 and says nothing
    double distance;
} yd_lpips_bin;

#define YD_LPIPS_BIN_WIDTH 0.01
#define YD_LPIPS_MAX_BINS  1000

// Number of bins of that width, 0 when width is not in 0.001..1.
int yd_lpips_bin_count(double width);
// attention: w*h values 0..1. bins: room for yd_lpips_bin_count(width). Takes one distance per bin that is not empty. YD_E_INVALID naming
// the width or the first attention outside 0..1; else errors as yd_lpips_distance; *bins is then undefined.
int yd_lpips_bins(yd_lpips *p, const uint8_t *a, const uint8_t *b, const float *attention, int w, int h, double width,
                  yd_lpips_bin *bins, yd_err *err);

#endif
