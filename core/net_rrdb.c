// RRDB, the encoder of SRDiff (Wang et al. 2018, "ESRGAN", as the public code of SRDiff has it), up to the features that SRDiff uses. What
// that network has behind them, an upscaler of its own for training, is neither built nor run.
//
//   first = conv(picture) -> rrdb_blocks blocks -> conv, + first
//   block(x) = x + 0.2 * dense(dense(dense(x)))
//   dense(x) = x + 0.2 * conv5([x, y1..y4]),  y_i = lrelu(conv_i([x, y1..y(i-1)])) of half the width
// Features: the output of every third block from the third on, and with block counts of 3n+2 the end's: elements 2, 5, 8, ... of the list of
// all blocks' outputs and the end.
//
// Tensor names are the public checkpoints' keys. Owns nothing. Read next: core/net_srdiff.c.
#include "core/net_parts.h"

#define SLOPE  0.2f // of the activations
#define SHRINK 0.2f // of what a block adds

static const yd_conv_mode leaky = {.act = YD_ACT_LEAKY, .slope = SLOPE, .v = YD_NONE};

static yd_tid dense(yd_graph *g, const char *prefix, yd_tid x, int width)
{
    const int grown = width / 2;
    yd_tid all = x;
    for (int i = 1; i <= 4; i++) {
        yd_label name = yd_name("%s.conv%d", prefix, i);
        yd_tid y = yd_part_conv(g, name.s, all, width + (i - 1) * grown, grown, 3, 1, 1, YD_NONE, &leaky);
        all = yd_graph_concat(g, yd_name("%s.all", name.s).s, all, y);
    }
    yd_tid y = yd_part_conv(g, yd_name("%s.conv5", prefix).s, all, width + 4 * grown, width, 3, 1, 1, YD_NONE, NULL);
    return yd_graph_axpy(g, yd_name("%s.out", prefix).s, SHRINK, y, x);
}

static yd_tid block(yd_graph *g, int i, yd_tid x, int width)
{
    yd_tid y = x;
    for (int k = 1; k <= 3; k++) y = dense(g, yd_name("rrdb.RRDB_trunk.%d.RDB%d", i, k).s, y, width);
    return yd_graph_axpy(g, yd_name("rrdb.RRDB_trunk.%d.out", i).s, SHRINK, y, x);
}

// Is element i of the list a feature?
static int is_feature(int i)
{
    return i % 3 == 2;
}

int yd_rrdb_channels(const yd_net_config *net)
{
    return (net->rrdb_blocks + 1) / 3 * net->rrdb_features;
}

yd_tid yd_rrdb_add(yd_graph *g, const yd_net_config *net, yd_tid picture)
{
    const int width = net->rrdb_features;
    yd_tid first = yd_part_conv(g, "rrdb.conv_first", picture, 3, width, 3, 1, 1, YD_NONE, NULL), x = first, features = YD_NONE;
    for (int i = 0; i <= net->rrdb_blocks; i++) {
        if (i < net->rrdb_blocks) x = block(g, i, x, width);
        else x = yd_part_conv(g, "rrdb.trunk_conv", x, width, width, 3, 1, 1, first, NULL);
        if (!is_feature(i)) continue;
        features = features == YD_NONE ? x : yd_graph_concat(g, yd_name("rrdb.features.%d", i).s, features, x);
    }
    return features;
}
