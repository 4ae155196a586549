// Networks by their config: which builder makes the graph, and what sizes it runs on. Layers that all builders use.
// Owns nothing; builds one graph per call. Read next: core/net_unet.c, core/net_srdiff.c.
#include "core/net_parts.h"

#include <stdarg.h>
#include <stdio.h>

yd_label yd_name(const char *fmt, ...)
{
    yd_label l;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l.s, sizeof l.s, fmt, ap);
    va_end(ap);
    return l;
}

yd_tid yd_part_conv(yd_graph *g, const char *prefix, yd_tid x, int in, int out, int k, int stride, int with_bias, yd_tid res,
                    const yd_conv_mode *mode)
{
    yd_tid w = yd_graph_param(g, yd_name("%s.weight", prefix).s, 4, (const int[4]){out, in, k, k});
    yd_tid b = with_bias ? yd_graph_param(g, yd_name("%s.bias", prefix).s, 1, (const int[4]){out}) : YD_NONE;
    return yd_graph_conv_mode(g, prefix, x, w, b, res, stride, k / 2, mode);
}

yd_tid yd_part_convt(yd_graph *g, const char *prefix, yd_tid x, int in, int out, int k, int stride)
{
    yd_tid w = yd_graph_param(g, yd_name("%s.weight", prefix).s, 4, (const int[4]){in, out, k, k});
    yd_tid b = yd_graph_param(g, yd_name("%s.bias", prefix).s, 1, (const int[4]){out});
    return yd_graph_convt(g, prefix, x, w, b, stride, stride / 2);
}

yd_tid yd_part_linear(yd_graph *g, const char *prefix, yd_tid v, int in, int out)
{
    yd_tid w = yd_graph_param(g, yd_name("%s.weight", prefix).s, 2, (const int[4]){out, in});
    return yd_graph_linear(g, prefix, v, w, yd_graph_param(g, yd_name("%s.bias", prefix).s, 1, (const int[4]){out}));
}

void yd_part_out(yd_graph *g, yd_tid x)
{
    yd_graph_output(g, x);
    if (x >= 0 && !g->failed) snprintf(g->tensors[x].name, sizeof g->tensors[x].name, "out");
}

int yd_net_has_encoder(const yd_net_config *net)
{
    return net->type == YD_NET_SRDIFF;
}

// A level is half the size of the one above; an encoder's picture is a whole number of pixels.
int yd_net_multiple(const yd_net_config *net)
{
    int m = net->unshuffle << (net->n_levels - 1), step = m;
    while (yd_net_has_encoder(net) && m % net->up_scale) m += step;
    return m;
}

int yd_net_least(const yd_net_config *net)
{
    // one pixel has no mirror image, so the deepest level has two
    const int multiple = yd_net_multiple(net), least = net->type == YD_NET_SRDIFF ? 2 << (net->n_levels - 1) : multiple;
    return least <= multiple ? multiple : (least + multiple - 1) / multiple * multiple;
}

static int new_graph(const yd_net_config *net, int h, int w, yd_graph **out, yd_err *err)
{
    const int multiple = yd_net_multiple(net), least = yd_net_least(net);
    *out = NULL;
    if (h < least || w < least || h % multiple || w % multiple)
        return yd_fail(err, YD_E_INTERNAL, "the network runs on sizes that are multiples of %d from %d on, not on %dx%d", multiple, least, w, h);
    *out = yd_graph_new();
    return *out ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a network graph");
}

static int finish(yd_graph *g, yd_graph **out, yd_err *err)
{
    int rc = yd_graph_finish(g, err);
    if (!rc) return 0;
    yd_graph_free(g);
    *out = NULL;
    return rc;
}

int yd_net_build(const yd_net_config *net, int h, int w, yd_dtype act, int train, yd_graph **out, yd_err *err)
{
    int rc = new_graph(net, h, w, out, err);
    if (rc) return rc;
    if (net->type == YD_NET_SRDIFF) yd_srdiff_add(*out, net, h, w, act);
    else yd_unet_add(*out, net, h, w, act);
    return train && !(*out)->failed ? 0 : finish(*out, out, err);
}

int yd_net_build_encoder(const yd_net_config *net, int h, int w, yd_graph **out, yd_err *err)
{
    int rc = new_graph(net, h, w, out, err);
    if (rc) return rc;
    yd_srdiff_add_encoder(*out, net, h, w);
    return finish(*out, out, err);
}
