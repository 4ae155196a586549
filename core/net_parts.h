// What the network builders share: names, layers with their parameters, and the builders that core/net.c chooses from.
//
// A layer declares its parameters whether its input is a tensor or YD_NONE; in the latter case it makes no operator and returns YD_NONE.
// So two graphs, each computing a part of one network, have the same parameters in the same order and run on one yd_weights: a builder
// walks the whole network for both, and gives the part that the graph does not compute no input.
#ifndef YD_CORE_NET_PARTS_H
#define YD_CORE_NET_PARTS_H

#include "core/model.h"

typedef struct yd_label {
    char s[112]; // as long as a tensor's name
} yd_label;

__attribute__((format(printf, 1, 2))) yd_label yd_name(const char *fmt, ...);

// Parameters `prefix`.weight [out,in,k,k] and, with_bias, `prefix`.bias; the operator is called `prefix`.
yd_tid yd_part_conv(yd_graph *g, const char *prefix, yd_tid x, int in, int out, int k, int stride, int with_bias, yd_tid res,
                    const yd_conv_mode *mode);
// Transposed, `stride` times as large: `prefix`.weight [in,out,k,k], padded by half the stride, and `prefix`.bias.
yd_tid yd_part_convt(yd_graph *g, const char *prefix, yd_tid x, int in, int out, int k, int stride);
yd_tid yd_part_linear(yd_graph *g, const char *prefix, yd_tid v, int in, int out);

// x, the prediction, becomes the graph's output "out", in f32.
void yd_part_out(yd_graph *g, yd_tid x);

// The graphs of yd_net_build and yd_net_build_encoder, without their checks.
void yd_unet_add(yd_graph *g, const yd_net_config *net, int h, int w, yd_dtype act);
void yd_srdiff_add(yd_graph *g, const yd_net_config *net, int h, int w, yd_dtype act);
void yd_srdiff_add_encoder(yd_graph *g, const yd_net_config *net, int h, int w);

// RRDB, the encoder: features [h,w,yd_rrdb_channels] of a picture [h,w,3] with values 0 to 1.
yd_tid yd_rrdb_add(yd_graph *g, const yd_net_config *net, yd_tid picture);
int yd_rrdb_channels(const yd_net_config *net);

#endif
