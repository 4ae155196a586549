// SRDiff (Li et al. 2021) as its public code has it: a UNet without normalisation, conditioned on features of the small picture.
//
//   encoder graph   lr -> RRDB -> cond_proj (transposed conv to full size) -> cond: the same for every step, so it is run once
//   step graph      x = m*z -> levels of two ResBlocks, a stride-2 conv between them; cond is added after the first level's blocks
//                   -> two ResBlocks -> levels upwards, two ResBlocks on cat(x, skip) and a transposed conv each -> conv, Mish, 1x1 conv
//   ResBlock(x) = b2(b1(x) + Linear(Mish(emb))) + (1x1(x) | x),  b(x) = Mish(conv(x)) with mirrored borders
//   emb = Linear(Mish(Linear(sinusoids of the timestep)))
// The first level's output is no skip: there are as many levels upwards as steps down.
//
// Both graphs declare the parameters of both, in one order (core/net_parts.h). Names are the public checkpoints' keys.
// Read next: core/net_rrdb.c.
#include "core/net_parts.h"

#define P "denoise_fn."

typedef struct builder {
    yd_graph *g;
    const yd_net_config *cfg;
    yd_tid emb; // after its Mish, [n,1,1,inner_channel]
} builder;

static int width_at(const builder *b, int level)
{
    return b->cfg->inner_channel * b->cfg->mult[level];
}

static yd_tid block_conv(const builder *b, const char *prefix, yd_tid x, int in, int out, yd_tid v, yd_tid res)
{
    const yd_conv_mode mode = {.reflect = 1, .act = YD_ACT_MISH, .v = v};
    return yd_part_conv(b->g, yd_name("%s.block.1", prefix).s, x, in, out, 3, 1, 1, res, &mode);
}

static yd_tid res_block(const builder *b, const char *prefix, yd_tid x, int in, int out)
{
    yd_tid v = yd_part_linear(b->g, yd_name("%s.mlp.1", prefix).s, b->emb, b->cfg->inner_channel, out);
    yd_tid h = block_conv(b, yd_name("%s.block1", prefix).s, x, in, out, v, YD_NONE), res = x;
    if (in != out) res = yd_part_conv(b->g, yd_name("%s.res_conv", prefix).s, x, in, out, 1, 1, 1, YD_NONE, NULL);
    return block_conv(b, yd_name("%s.block2", prefix).s, h, out, out, YD_NONE, res);
}

static void embed_timestep(builder *b, yd_tid t)
{
    const int ic = b->cfg->inner_channel;
    yd_tid v = yd_graph_embed(b->g, P "time_pos_emb", t, ic, 1.0f, 1);
    v = yd_part_linear(b->g, P "mlp.0", v, ic, 4 * ic);
    v = yd_graph_mish(b->g, P "mlp.1", v);
    v = yd_part_linear(b->g, P "mlp.2", v, 4 * ic, ic);
    b->emb = yd_graph_mish(b->g, P "mlp.mish", v);
}

static yd_tid go_down(const builder *b, yd_tid x, yd_tid cond, yd_tid skip[YD_MAX_LEVELS])
{
    static const yd_conv_mode mirrored = {.reflect = 1, .v = YD_NONE};
    int in = b->cfg->in_channel;
    for (int i = 0; i < b->cfg->n_levels; i++) {
        const int out = width_at(b, i);
        for (int k = 0; k < 2; k++, in = out) x = res_block(b, yd_name(P "downs.%d.%d", i, k).s, x, in, out);
        if (i == 0) x = yd_graph_add(b->g, P "conditioned", x, cond);
        skip[i] = x;
        if (i + 1 < b->cfg->n_levels)
            x = yd_part_conv(b->g, yd_name(P "downs.%d.2.conv.1", i).s, x, out, out, 3, 2, 1, YD_NONE, &mirrored);
    }
    return x;
}

static yd_tid go_up(const builder *b, yd_tid x, const yd_tid skip[YD_MAX_LEVELS])
{
    for (int i = 0; i + 1 < b->cfg->n_levels; i++) {
        const int level = b->cfg->n_levels - 1 - i, out = width_at(b, level - 1);
        x = yd_graph_concat(b->g, yd_name(P "ups.%d.concat", i).s, x, skip[level]);
        x = res_block(b, yd_name(P "ups.%d.0", i).s, x, 2 * width_at(b, level), out);
        x = res_block(b, yd_name(P "ups.%d.1", i).s, x, out, out);
        x = yd_part_convt(b->g, yd_name(P "ups.%d.2.conv.0", i).s, x, out, out, 4, 2);
    }
    return x;
}

// The whole network, of which only what has inputs is computed. Returns the prediction; *made: the encoder's result.
static yd_tid walk(yd_graph *g, const yd_net_config *net, yd_tid lr, yd_tid x, yd_tid t, yd_tid cond, yd_tid *made)
{
    builder b = {.g = g, .cfg = net};
    yd_tid skip[YD_MAX_LEVELS];
    const int s = net->up_scale, deepest = width_at(&b, net->n_levels - 1);
    yd_tid features = yd_rrdb_add(g, net, lr);
    *made = yd_part_convt(g, P "cond_proj", features, yd_rrdb_channels(net), net->inner_channel, 2 * s, s);
    embed_timestep(&b, t);
    x = go_down(&b, x, cond, skip);
    x = res_block(&b, P "mid_block1", x, deepest, deepest);
    x = res_block(&b, P "mid_block2", x, deepest, deepest);
    x = go_up(&b, x, skip);
    x = block_conv(&b, P "final_conv.0", x, net->inner_channel, net->inner_channel, YD_NONE, YD_NONE);
    return yd_part_conv(g, P "final_conv.1", x, net->inner_channel, net->out_channel, 1, 1, 1, YD_NONE, NULL);
}

void yd_srdiff_add(yd_graph *g, const yd_net_config *net, int h, int w, yd_dtype act)
{
    yd_tid x = yd_graph_input(g, "x", h, w, net->in_channel, act), t = yd_graph_input(g, "level", 1, 1, 1, YD_F32), made;
    yd_tid cond = yd_graph_input(g, "cond", h, w, net->inner_channel, act);
    yd_part_out(g, walk(g, net, YD_NONE, x, t, cond, &made));
}

void yd_srdiff_add_encoder(yd_graph *g, const yd_net_config *net, int h, int w)
{
    yd_tid lr = yd_graph_input(g, "lr", h / net->up_scale, w / net->up_scale, 3, YD_F32), made;
    walk(g, net, lr, YD_NONE, YD_NONE, YD_NONE, &made);
    yd_part_out(g, made);
}
