// The learned attention map: a small network that says where plain enlarging is wrong, for the attention method `learned`.
//
// Its target is e / (e + c): e is the error |HR - up(LR)| (mean over channels and over reduce x reduce pixels, blurred by a 3x3 binomial), c the
// median of e over the training pictures. So half of the picture area lies above 0.5, whatever the pictures are.
//
// Network: the enlarged picture is averaged over reduce x reduce pixels (which is nearly the LR picture again), scaled to [-1,1]; five
// 3x3 convolutions, 3 -> 16 -> 16 -> 16 -> 16 -> 1, leaky ReLU (0.1) between them, a sigmoid at the end; the result is enlarged
// bilinearly. No normalisation and no padding between layers: the value of a pixel depends on the 11 x 11 averages around it and on nothing
// else; beyond the border the outermost averages go on. 7,601 parameters.
//
// File: tensors "learned_map.N.weight" [out, in, 3, 3] and "learned_map.N.bias" [out], N = 0..4, beside the model's own, f32.
// Threads: reentrant; a net is read-only. The same bits on any thread and instruction set.
#ifndef YD_CORE_LEARNED_MAP_H
#define YD_CORE_LEARNED_MAP_H

#include "core/err.h"
#include "core/safetensors.h"

#define YD_MAP_LAYERS 5
#define YD_MAP_WIDTH  16
#define YD_MAP_HALO   YD_MAP_LAYERS // averages that a value sees on each side
#define YD_MAP_PREFIX "learned_map."

typedef struct yd_map_net {
    int reduce;                                                     // side of the squares that are averaged; the model's scale
    float weight[YD_MAP_LAYERS][9 * YD_MAP_WIDTH * YD_MAP_WIDTH]; // [3*3][in][out]
    float bias[YD_MAP_LAYERS][YD_MAP_WIDTH];
} yd_map_net;

// Channels that go into layer i = 0..YD_MAP_LAYERS; those of the last are the result's.
int yd_map_channels(int i);

// rgb: w*h*3 bytes of the enlarged picture; map: w*h floats to fill, each in [0,1]. YD_E_NOMEM.
int yd_map_net_run(const yd_map_net *net, const uint8_t *rgb, int w, int h, float *map, yd_err *err);

// The parts of it, for training. The averages x0..x0+nw-1 by y0..y0+nh-1, counted in squares, where those beyond the border repeat the outermost
// ones: dst is nh * nw * 3 floats in [-1,1].
void yd_map_reduce(const uint8_t *rgb, int w, int h, int reduce, int x0, int y0, int nw, int nh, float *dst);
// One convolution without padding: x [h][w][in] -> y [h-2][w-2][out]; relu: leaky ReLU behind it. out is at most YD_MAP_WIDTH.
void yd_map_conv(const float *x, int w, int h, int in, const float *weight, const float *bias, int out, int relu, float *y);

// Read the net of a model file; *out is NULL when there is none. Free with yd_free. YD_E_CHECKPOINT naming the tensor, YD_E_NOMEM.
int yd_map_net_read(const yd_safetensors *st, int reduce, yd_map_net **out, yd_err *err);
// Add its tensors to a file that is being written. store holds the reordered weights and must live until the file is saved.
typedef struct yd_map_store {
    float weight[YD_MAP_LAYERS][9 * YD_MAP_WIDTH * YD_MAP_WIDTH];
} yd_map_store;
int yd_map_net_add(const yd_map_net *net, yd_map_store *store, yd_st_writer *w, yd_err *err);

#endif
