// The two UNets of the public SR3 code as a graph, from their config: "sr3" (Saharia et al. 2021, told the noise level) and "ddpm"
// (the same told the timestep). They are one network but for the rows of `variants`.
//
//   x = cat(condition, m*z) -> [unshuffle r] -> conv -> levels of res_blocks ResBlocks with a stride-2 conv between them
//     -> middle -> levels upwards, res_blocks+1 ResBlocks each, on cat(x, skip) -> GroupNorm, SiLU, conv -> [shuffle r] -> out
//   ResBlock(x) = conv(act(norm(conv(act(norm(x))) + Linear(emb)))) + (1x1(x) | x);
//   emb = MLP(sinusoids(what it is told)), followed by a SiLU in ddpm
//
// Tensor names equal the public checkpoints' keys, so that a file's tensors are found by name. Where attention sits is decided by
// image_size and attn_res as in that code, not by the size that is run. Two additions of ours for the compact models: the whole
// network on r x r pixel-unshuffled input (unshuffle), and no attention in the middle (mid_attention = 0).
// Owns nothing; builds one graph per call. Read next: core/graph.h, core/backend.h.
#include "core/net_parts.h"

#define GN_EPS 1e-5f // the public code's (PyTorch's default)

typedef struct variant {
    const char *embed;  // prefix of the embedding's layers
    const char *inject; // the linear layer that takes the embedding into a ResBlock
    int silu;           // a SiLU stands before every such layer
} variant;

static const variant variants[] = {
    [YD_NET_SR3] = {"noise_level_mlp", "noise_func.noise_func.0", 0},
    [YD_NET_DDPM] = {"time_mlp", "mlp.1", 1},
};

typedef struct builder {
    yd_graph *g;
    const yd_net_config *cfg;
    const variant *v;
    yd_tid emb; // [n,1,1,inner_channel], as the ResBlocks take it
    yd_tid skip[YD_MAX_LEVELS * 20];
    int n_skip;
} builder;

#define MAX_SKIPS ((int)(sizeof((builder *)0)->skip / sizeof(yd_tid)))

static yd_tid conv(builder *b, const char *prefix, yd_tid x, int in, int out, int k, int stride, int with_bias, yd_tid res)
{
    return yd_part_conv(b->g, prefix, x, in, out, k, stride, with_bias, res, NULL);
}

static yd_tid linear(builder *b, const char *prefix, yd_tid v, int in, int out)
{
    return yd_part_linear(b->g, prefix, v, in, out);
}

static yd_tid vec_param(builder *b, const char *prefix, const char *what, int c)
{
    return yd_graph_param(b->g, yd_name("%s.%s", prefix, what).s, 1, (const int[4]){c});
}

static yd_tid norm(builder *b, const char *prefix, yd_tid x, yd_tid v, int c, int silu)
{
    yd_tid gamma = vec_param(b, prefix, "weight", c), beta = vec_param(b, prefix, "bias", c);
    return yd_graph_gnorm(b->g, prefix, x, v, gamma, beta, b->cfg->norm_groups, GN_EPS, silu);
}

static yd_tid res_block(builder *b, const char *prefix, yd_tid x, int in, int out)
{
    yd_tid v = linear(b, yd_name("%s.res_block.%s", prefix, b->v->inject).s, b->emb, b->cfg->inner_channel, out);
    yd_tid h = norm(b, yd_name("%s.res_block.block1.block.0", prefix).s, x, YD_NONE, in, 1);
    h = conv(b, yd_name("%s.res_block.block1.block.3", prefix).s, h, in, out, 3, 1, 1, YD_NONE);
    h = norm(b, yd_name("%s.res_block.block2.block.0", prefix).s, h, v, out, 1);
    yd_tid res = in == out ? x : conv(b, yd_name("%s.res_block.res_conv", prefix).s, x, in, out, 1, 1, 1, YD_NONE);
    return conv(b, yd_name("%s.res_block.block2.block.3", prefix).s, h, out, out, 3, 1, 1, res);
}

static yd_tid self_attention(builder *b, const char *prefix, yd_tid x, int c)
{
    yd_tid n = norm(b, yd_name("%s.attn.norm", prefix).s, x, YD_NONE, c, 0);
    yd_tid qkv = conv(b, yd_name("%s.attn.qkv", prefix).s, n, c, 3 * c, 1, 1, 0, YD_NONE);
    yd_tid o = yd_graph_attention(b->g, yd_name("%s.attn", prefix).s, qkv);
    return conv(b, yd_name("%s.attn.out", prefix).s, o, c, c, 1, 1, 1, x);
}

static int attends(const yd_net_config *cfg, int res)
{
    for (int i = 0; i < cfg->n_attn; i++)
        if (cfg->attn_res[i] == res) return 1;
    return 0;
}

static void push(builder *b, yd_tid t)
{
    if (b->n_skip < MAX_SKIPS) b->skip[b->n_skip++] = t;
}

// What the network is told, embedded: sinusoids -> Linear -> SiLU -> Linear. ddpm's blocks each apply a SiLU to it; it is one and the same,
// so it is computed once.
static void embed_noise(builder *b)
{
    const int ic = b->cfg->inner_channel;
    const char *p = b->v->embed;
    yd_tid level = yd_graph_input(b->g, "level", 1, 1, 1, YD_F32);
    yd_tid v = yd_graph_embed(b->g, yd_name("%s.0", p).s, level, ic, b->cfg->noise_scale, 0);
    v = linear(b, yd_name("%s.1", p).s, v, ic, 4 * ic);
    v = yd_graph_silu(b->g, yd_name("%s.2", p).s, v);
    v = linear(b, yd_name("%s.3", p).s, v, 4 * ic, ic);
    b->emb = b->v->silu ? yd_graph_silu(b->g, yd_name("%s.silu", p).s, v) : v;
}

// Downwards: every output is pushed for the way back. *c, *res: channels and attention resolution reached.
static yd_tid go_down(builder *b, yd_tid x, int *c, int *res)
{
    const yd_net_config *cfg = b->cfg;
    int index = 0, pre = cfg->inner_channel;
    x = conv(b, yd_name("downs.%d", index++).s, x, cfg->in_channel * cfg->unshuffle * cfg->unshuffle, pre, 3, 1, 1, YD_NONE);
    push(b, x);
    for (int level = 0; level < cfg->n_levels; level++) {
        const int out = cfg->inner_channel * cfg->mult[level];
        for (int r = 0; r < cfg->res_blocks; r++, index++) {
            yd_label p = yd_name("downs.%d", index);
            x = res_block(b, p.s, x, pre, out);
            if (attends(cfg, *res)) x = self_attention(b, p.s, x, out);
            push(b, x);
            pre = out;
        }
        if (level + 1 < cfg->n_levels) {
            x = conv(b, yd_name("downs.%d.conv", index++).s, x, out, out, 3, 2, 1, YD_NONE);
            push(b, x);
            *res /= 2;
        }
    }
    *c = pre;
    return x;
}

static yd_tid go_up(builder *b, yd_tid x, int *c, int *res)
{
    const yd_net_config *cfg = b->cfg;
    int index = 0, pre = *c;
    for (int level = cfg->n_levels - 1; level >= 0; level--) {
        const int out = cfg->inner_channel * cfg->mult[level];
        for (int r = 0; r <= cfg->res_blocks; r++, index++) {
            yd_label p = yd_name("ups.%d", index);
            yd_tid skip = b->n_skip > 0 ? b->skip[--b->n_skip] : YD_NONE;
            int in = pre + (skip >= 0 && !b->g->failed ? b->g->tensors[skip].c : 0);
            x = yd_graph_concat(b->g, yd_name("%s.concat", p.s).s, x, skip);
            x = res_block(b, p.s, x, in, out);
            if (attends(cfg, *res)) x = self_attention(b, p.s, x, out);
            pre = out;
        }
        if (level > 0) {
            yd_label p = yd_name("ups.%d.conv", index++);
            x = yd_graph_upsample(b->g, yd_name("%s.up", p.s).s, x);
            x = conv(b, p.s, x, out, out, 3, 1, 1, YD_NONE);
            *res *= 2;
        }
    }
    *c = pre;
    return x;
}

void yd_unet_add(yd_graph *g, const yd_net_config *net, int h, int w, yd_dtype act)
{
    builder b = {.g = g, .cfg = net, .v = &variants[net->type]};
    int c = 0, res = net->image_size / net->unshuffle;

    yd_tid x = yd_graph_input(g, "x", h, w, net->in_channel, act);
    embed_noise(&b);
    if (net->unshuffle > 1) x = yd_graph_unshuffle(g, "unshuffle", x, net->unshuffle);
    x = go_down(&b, x, &c, &res);
    x = res_block(&b, "mid.0", x, c, c);
    if (net->mid_attention) x = self_attention(&b, "mid.0", x, c);
    x = res_block(&b, "mid.1", x, c, c);
    x = go_up(&b, x, &c, &res);
    x = norm(&b, "final_conv.block.0", x, YD_NONE, c, 1);
    x = conv(&b, "final_conv.block.3", x, c, net->out_channel * net->unshuffle * net->unshuffle, 3, 1, 1, YD_NONE);
    if (x >= 0 && !g->failed) g->tensors[x].dtype = YD_F32; // the prediction leaves the network in f32
    if (net->unshuffle > 1) x = yd_graph_shuffle(g, "shuffle", x, net->unshuffle);
    yd_part_out(g, x);
}
