// The table of one-operator cases and their graphs.
#include "tests/oracle/one_op.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S(KIND, N, H, W, C, ...)                                                                                       \
    {                                                                                                                  \
        .kind = KIND, .n = N, .h = H, .w = W, .c = C, __VA_ARGS__                                                      \
    }

#define CONVS(KIND, RES)                                                                                               \
    S(KIND, 1, 9, 9, 3, .o = 16, .k = 3, .stride = 1, .b = 1),                                                         \
        S(KIND, 2, 8, 8, 6, .o = 24, .k = 3, .stride = 1, .b = 1, .res = RES),                                         \
        S(KIND, 3, 7, 5, 16, .o = 6, .k = 1, .stride = 1, .res = RES),                                                 \
        S(KIND, 5, 9, 7, 24, .o = 16, .k = 3, .stride = 2, .b = 1),                                                    \
        S(KIND, 2, 16, 16, 48, .o = 48, .k = 3, .stride = 1, .b = 1, .res = RES),                                      \
        S(KIND, 1, 8, 8, 64, .o = 96, .k = 3, .stride = 2, .b = 1),                                                    \
        S(KIND, 2, 6, 6, 96, .o = 64, .k = 1, .stride = 1, .b = 1, .res = RES),                                        \
        S(KIND, 1, 5, 5, 48, .o = 3, .k = 3, .stride = 1, .b = 1), S(KIND, 1, 8, 8, 96, .o = 96, .k = 3, .stride = 1), \
        S(KIND, 2, 1, 1, 16, .o = 16, .k = 3, .stride = 1, .b = 1),                                                    \
        S(KIND, 3, 4, 4, 33, .o = 17, .k = 3, .stride = 2, .b = 1),                                                    \
        S(KIND, 1, 6, 6, 16, .o = 24, .k = 1, .stride = 2, .b = 1)

// Mirrored borders, activations and what is added behind them; large maps with 16 channels and more are Winograd's.
#define MODES                                                                                                          \
    S(YD_OP_CONV, 1, 9, 9, 3, .o = 16, .k = 3, .stride = 1, .b = 1, .reflect = 1, .act = YD_ACT_MISH),                 \
        S(YD_OP_CONV, 2, 16, 20, 32, .o = 48, .k = 3, .stride = 1, .b = 1, .reflect = 1, .act = YD_ACT_MISH, .v = 1),  \
        S(YD_OP_CONV, 3, 17, 18, 24, .o = 24, .k = 3, .stride = 1, .b = 1, .reflect = 1, .act = YD_ACT_MISH,           \
          .res = 1),                                                                                                   \
        S(YD_OP_CONV, 2, 19, 16, 16, .o = 20, .k = 3, .stride = 1, .reflect = 1, .act = YD_ACT_MISH, .v = 1,           \
          .res = 1),                                                                                                   \
        S(YD_OP_CONV, 2, 2, 3, 48, .o = 33, .k = 3, .stride = 1, .b = 1, .reflect = 1, .act = YD_ACT_MISH, .v = 1),    \
        S(YD_OP_CONV, 3, 8, 6, 24, .o = 16, .k = 3, .stride = 2, .b = 1, .reflect = 1),                                \
        S(YD_OP_CONV, 1, 7, 9, 17, .o = 5, .k = 5, .stride = 1, .b = 1, .reflect = 1, .res = 1),                       \
        S(YD_OP_CONV, 2, 16, 16, 64, .o = 32, .k = 3, .stride = 1, .b = 1, .act = YD_ACT_LEAKY),                       \
        S(YD_OP_CONV, 3, 5, 4, 12, .o = 7, .k = 3, .stride = 1, .b = 1, .act = YD_ACT_LEAKY, .res = 1),                \
        S(YD_OP_CONV, 2, 20, 17, 40, .o = 16, .k = 3, .stride = 1, .b = 1, .v = 1, .res = 1),                          \
        S(YD_OP_CONV, 2, 6, 5, 32, .o = 8, .k = 1, .stride = 1, .b = 1, .act = YD_ACT_MISH, .v = 1),                   \
        S(YD_OP_CONV, 1, 32, 32, 96, .o = 64, .k = 3, .stride = 1, .b = 1, .reflect = 1, .act = YD_ACT_MISH)

#define TRANSPOSED                                                                                                     \
    S(YD_OP_CONVT, 1, 5, 6, 64, .o = 64, .k = 4, .stride = 2, .b = 1),                                                 \
        S(YD_OP_CONVT, 3, 4, 3, 24, .o = 16, .k = 4, .stride = 2, .b = 1),                                             \
        S(YD_OP_CONVT, 2, 1, 1, 33, .o = 7, .k = 4, .stride = 2),                                                      \
        S(YD_OP_CONVT, 2, 12, 10, 16, .o = 16, .k = 8, .stride = 4, .b = 1),                                           \
        S(YD_OP_CONVT, 1, 8, 8, 96, .o = 64, .k = 8, .stride = 4, .b = 1),                                             \
        S(YD_OP_CONVT, 2, 5, 4, 96, .o = 64, .k = 16, .stride = 8, .b = 1),                                            \
        S(YD_OP_CONVT, 1, 8, 8, 16, .o = 16, .k = 16, .stride = 8, .b = 1),                                            \
        S(YD_OP_CONVT, 1, 3, 3, 48, .o = 64, .k = 4, .stride = 2, .b = 1)

#define NORMS(KIND)                                                                                                    \
    S(KIND, 1, 8, 8, 16, .groups = 4, .act = 1), S(KIND, 2, 9, 7, 24, .groups = 8, .act = 1, .v = 1),                  \
        S(KIND, 3, 5, 5, 48, .groups = 6, .v = 1), S(KIND, 2, 1, 1, 6, .groups = 3, .act = 1),                         \
        S(KIND, 5, 16, 16, 64, .groups = 32, .act = 1, .v = 1), S(KIND, 1, 33, 17, 96, .groups = 16),                  \
        S(KIND, 2, 40, 40, 3, .groups = 1, .act = 1), S(KIND, 1, 3, 2, 16, .groups = 16, .act = 1)

static const spec specs[] = {
    CONVS(YD_OP_CONV, 1),
    MODES,
    TRANSPOSED,
    CONVS(YD_OP_CONV_DX, 0),
    CONVS(YD_OP_CONV_DW, 0),
    NORMS(YD_OP_GNORM),
    NORMS(YD_OP_GNORM_BWD),
    S(YD_OP_LINEAR, 3, 1, 1, 16, .o = 24, .b = 1),
    S(YD_OP_LINEAR, 5, 1, 1, 65, .o = 7),
    S(YD_OP_LINEAR, 2, 1, 1, 192, .o = 192, .b = 1),
    S(YD_OP_LINEAR_BWD, 3, 1, 1, 16, .o = 24, .b = 1),
    S(YD_OP_LINEAR_BWD, 5, 1, 1, 65, .o = 7),
    S(YD_OP_LINEAR_BWD, 2, 1, 1, 192, .o = 192, .b = 1),
    S(YD_OP_SILU, 3, 1, 1, 37, .o = 0),
    S(YD_OP_SILU_BWD, 3, 1, 1, 37, .o = 0),
    S(YD_OP_MISH, 3, 1, 1, 37, .o = 0),
    S(YD_OP_MISH, 2, 1, 1, 256, .o = 0),
    S(YD_OP_EMBED, 3, 1, 1, 1, .o = 64),
    S(YD_OP_EMBED, 3, 1, 1, 1, .o = 64, .r = 1),
    S(YD_OP_CONCAT, 2, 5, 3, 16, .o = 24),
    S(YD_OP_CONCAT, 3, 4, 4, 3, .o = 3),
    S(YD_OP_SPLIT, 2, 5, 3, 16, .o = 24),
    S(YD_OP_SPLIT, 3, 4, 4, 3, .o = 6),
    S(YD_OP_ADD, 3, 7, 5, 24, .o = 0),
    S(YD_OP_ADD, 2, 64, 64, 16, .o = 0),
    S(YD_OP_AXPY, 3, 7, 5, 24, .o = 0),
    S(YD_OP_AXPY, 2, 64, 64, 16, .o = 0),
    S(YD_OP_UPSAMPLE, 3, 5, 3, 24, .o = 0),
    S(YD_OP_UPSAMPLE, 1, 4, 4, 3, .o = 0),
    S(YD_OP_UPSAMPLE_BWD, 3, 5, 3, 24, .o = 0),
    S(YD_OP_UPSAMPLE_BWD, 1, 4, 4, 3, .o = 0),
    S(YD_OP_UNSHUFFLE, 2, 6, 4, 3, .r = 2),
    S(YD_OP_UNSHUFFLE, 3, 8, 8, 6, .r = 4),
    S(YD_OP_SHUFFLE, 2, 3, 2, 12, .r = 2),
    S(YD_OP_SHUFFLE, 3, 2, 2, 48, .r = 4),
    S(YD_OP_ATTENTION, 2, 4, 4, 16, .o = 0),
    S(YD_OP_ATTENTION, 3, 5, 3, 48, .o = 0),
    S(YD_OP_ATTENTION, 1, 16, 16, 64, .o = 0),
    S(YD_OP_ATTENTION, 2, 32, 48, 8, .o = 0), // scores in blocks
    S(YD_OP_ATTENTION_BWD, 2, 4, 4, 16, .o = 0),
    S(YD_OP_ATTENTION_BWD, 3, 5, 3, 48, .o = 0),
    S(YD_OP_ATTENTION_BWD, 1, 12, 12, 64, .o = 0),
    S(YD_OP_LOSS, 3, 6, 5, 3, .p = 1),
    S(YD_OP_LOSS, 2, 8, 8, 3, .p = 2),
};

const spec *one_op_table(size_t *n)
{
    *n = sizeof specs / sizeof *specs;
    return specs;
}

const char *one_op_label(const spec *s)
{
    static char text[160];
    snprintf(text, sizeof text,
             "%s n=%d %dx%dx%d o=%d k=%d s=%d reflect=%d groups=%d act=%d v=%d b=%d res=%d r=%d p=%d %s->%s",
             yd_op_name(s->kind), s->n, s->h, s->w, s->c, s->o, s->k, s->stride, s->reflect, s->groups, s->act, s->v,
             s->b, s->res, s->r, s->p, s->dt ? "bf16" : "f32", s->out_dt ? "bf16" : "f32");
    return text;
}

// --- graphs of one operator

static yd_tid input(yd_graph *g, const char *name, int h, int w, int c, yd_dtype dt)
{
    return yd_graph_input(g, name, h, w, c, dt);
}

static yd_tid result(yd_graph *g, const char *name, int h, int w, int c, yd_dtype dt)
{
    return yd_graph_tensor(g, name, YD_T_ACT, dt, h, w, c);
}

static yd_tid param(yd_graph *g, const char *name, int d0, int d1, int d2, int d3)
{
    int ndim = d1 == 0 ? 1 : d2 == 0 ? 2 : 4;
    return yd_graph_param(g, name, ndim, (int[4]){d0, d1 ? d1 : 1, d2 ? d2 : 1, d3 ? d3 : 1});
}

static yd_tid gradient(yd_graph *g, const char *name, yd_tid p)
{
    yd_tid t = yd_graph_tensor(g, name, YD_T_PGRAD, YD_F32, 1, 1, 1);
    memcpy(g->tensors[t].dims, g->tensors[p].dims, sizeof g->tensors[t].dims);
    g->tensors[t].ndim = g->tensors[p].ndim;
    g->tensors[t].param = g->tensors[p].param;
    return t;
}

// Operands in order.
typedef struct operands {
    yd_tid in[YD_OP_MAX_IN], out[YD_OP_MAX_OUT];
} operands;

static const operands none = {{-1, -1, -1, -1, -1, -1}, {-1, -1, -1, -1}};

static operands conv_operands(yd_graph *g, const spec *s)
{
    operands a = none;
    int pad = s->k / 2, oh = (s->h + 2 * pad - s->k) / s->stride + 1, ow = (s->w + 2 * pad - s->k) / s->stride + 1;
    yd_tid w = param(g, "W", s->o, s->c, s->k, s->k),
           b = s->b && s->kind != YD_OP_CONV_DX ? param(g, "b", s->o, 0, 0, 0) : YD_NONE;
    yd_tid x = s->kind != YD_OP_CONV_DX ? input(g, "x", s->h, s->w, s->c, s->dt) : YD_NONE;
    yd_tid dy = s->kind != YD_OP_CONV ? input(g, "dy", oh, ow, s->o, s->out_dt) : YD_NONE;
    if (s->kind == YD_OP_CONV) {
        a.in[0] = x, a.in[1] = w, a.in[2] = b;
        if (s->res) a.in[3] = input(g, "res", oh, ow, s->o, s->dt);
        if (s->v) a.in[4] = input(g, "v", 1, 1, s->o, YD_F32);
        a.out[0] = result(g, "y", oh, ow, s->o, s->out_dt);
    } else if (s->kind == YD_OP_CONV_DX) {
        a.in[0] = dy, a.in[1] = w;
        a.out[0] = result(g, "d.x", s->h, s->w, s->c, s->dt);
    } else {
        a.in[0] = x, a.in[1] = dy;
        a.out[0] = gradient(g, "d.W", w);
        if (s->b) a.out[1] = gradient(g, "d.b", b);
    }
    return a;
}

// Padded by half its stride, as all of them are: the result is stride times as large.
static operands transposed_operands(yd_graph *g, const spec *s)
{
    operands a = none;
    a.in[0] = input(g, "x", s->h, s->w, s->c, s->dt);
    a.in[1] = param(g, "W", s->c, s->o, s->k, s->k);
    if (s->b) a.in[2] = param(g, "b", s->o, 0, 0, 0);
    a.out[0] = result(g, "y", s->h * s->stride, s->w * s->stride, s->o, s->out_dt);
    return a;
}

static operands norm_operands(yd_graph *g, const spec *s)
{
    operands a = none;
    a.in[0] = input(g, "x", s->h, s->w, s->c, s->dt);
    if (s->v) a.in[1] = input(g, "v", 1, 1, s->c, YD_F32);
    a.in[2] = param(g, "gamma", s->c, 0, 0, 0);
    a.in[3] = param(g, "beta", s->c, 0, 0, 0);
    if (s->kind == YD_OP_GNORM) {
        a.out[0] = result(g, "y", s->h, s->w, s->c, s->out_dt);
        a.out[1] = result(g, "stats", 1, 1, 2 * s->groups, YD_F32);
        return a;
    }
    a.in[4] = input(g, "stats", 1, 1, 2 * s->groups, YD_F32);
    a.in[5] = input(g, "dy", s->h, s->w, s->c, s->out_dt);
    a.out[0] = result(g, "d.x", s->h, s->w, s->c, s->dt);
    if (s->v) a.out[1] = result(g, "d.v", 1, 1, s->c, YD_F32);
    a.out[2] = gradient(g, "d.gamma", a.in[2]);
    a.out[3] = gradient(g, "d.beta", a.in[3]);
    return a;
}

static operands linear_operands(yd_graph *g, const spec *s)
{
    operands a = none;
    a.in[0] = input(g, "x", 1, 1, s->c, YD_F32);
    a.in[1] = param(g, "W", s->o, s->c, 0, 0);
    yd_tid b = s->b ? param(g, "b", s->o, 0, 0, 0) : YD_NONE;
    if (s->kind == YD_OP_LINEAR) {
        a.in[2] = b;
        a.out[0] = result(g, "y", 1, 1, s->o, YD_F32);
        return a;
    }
    a.in[2] = input(g, "dy", 1, 1, s->o, YD_F32);
    a.out[0] = result(g, "d.x", 1, 1, s->c, YD_F32);
    a.out[1] = gradient(g, "d.W", a.in[1]);
    if (s->b) a.out[2] = gradient(g, "d.b", b);
    return a;
}

static operands loss_operands(yd_graph *g, const spec *s)
{
    operands a = none;
    a.in[0] = input(g, "x", s->h, s->w, s->c, s->dt);
    a.in[1] = input(g, "target", s->h, s->w, s->c, YD_F32);
    a.in[2] = input(g, "mask", s->h, s->w, 1, YD_F32);
    a.in[3] = input(g, "weight", 1, 1, 1, YD_F32);
    a.out[0] = yd_graph_tensor(g, "y", YD_T_OUTPUT, YD_F32, 1, 1, 1);
    a.out[1] = result(g, "d.x", s->h, s->w, s->c, s->out_dt);
    return a;
}

// Operators without parameters: maps in, maps out. (h,w,c) is the forward input, or x1 of CONCAT and SPLIT.
static operands map_operands(yd_graph *g, const spec *s)
{
    operands a = none;
    int h = s->h, w = s->w, c = s->c, r2 = s->r * s->r;
    yd_dtype dt = s->dt, odt = s->out_dt;
    switch (s->kind) {
    case YD_OP_SILU:
    case YD_OP_MISH:
        a.in[0] = input(g, "x", h, w, c, YD_F32);
        a.out[0] = result(g, "y", h, w, c, YD_F32);
        break;
    case YD_OP_SILU_BWD:
        a.in[0] = input(g, "x", h, w, c, YD_F32);
        a.in[1] = input(g, "dy", h, w, c, YD_F32);
        a.out[0] = result(g, "d.x", h, w, c, YD_F32);
        break;
    case YD_OP_EMBED:
        a.in[0] = input(g, "x", 1, 1, 1, YD_F32);
        a.out[0] = result(g, "y", 1, 1, s->o, YD_F32);
        break;
    case YD_OP_CONCAT:
        a.in[0] = input(g, "x", h, w, c, dt);
        a.in[1] = input(g, "x2", h, w, s->o, dt);
        a.out[0] = result(g, "y", h, w, c + s->o, odt);
        break;
    case YD_OP_SPLIT:
        a.in[0] = input(g, "dy", h, w, c + s->o, odt);
        a.out[0] = result(g, "d.x", h, w, c, dt);
        a.out[1] = result(g, "d.x2", h, w, s->o, dt);
        break;
    case YD_OP_ADD:
    case YD_OP_AXPY:
        a.in[0] = input(g, "x", h, w, c, dt);
        a.in[1] = input(g, "x2", h, w, c, dt);
        a.out[0] = result(g, "y", h, w, c, odt);
        break;
    case YD_OP_UPSAMPLE:
        a.in[0] = input(g, "x", h, w, c, dt);
        a.out[0] = result(g, "y", 2 * h, 2 * w, c, odt);
        break;
    case YD_OP_UPSAMPLE_BWD:
        a.in[0] = input(g, "dy", 2 * h, 2 * w, c, odt);
        a.out[0] = result(g, "d.x", h, w, c, dt);
        break;
    case YD_OP_UNSHUFFLE:
        a.in[0] = input(g, "x", h, w, c, dt);
        a.out[0] = result(g, "y", h / s->r, w / s->r, c * r2, odt);
        break;
    case YD_OP_SHUFFLE:
        a.in[0] = input(g, "x", h, w, c, dt);
        a.out[0] = result(g, "y", h * s->r, w * s->r, c / r2, odt);
        break;
    case YD_OP_ATTENTION:
        a.in[0] = input(g, "x", h, w, 3 * c, dt);
        a.out[0] = result(g, "y", h, w, c, odt);
        break;
    case YD_OP_ATTENTION_BWD:
        a.in[0] = input(g, "x", h, w, 3 * c, dt);
        a.in[1] = input(g, "dy", h, w, c, odt);
        a.out[0] = result(g, "d.x", h, w, 3 * c, dt);
        break;
    default:
        break;
    }
    return a;
}

yd_graph *one_op_graph(const spec *s)
{
    yd_graph *g = yd_graph_new();
    operands a;
    switch (s->kind) {
    case YD_OP_CONV:
    case YD_OP_CONV_DX:
    case YD_OP_CONV_DW:
        a = conv_operands(g, s);
        break;
    case YD_OP_CONVT:
        a = transposed_operands(g, s);
        break;
    case YD_OP_GNORM:
    case YD_OP_GNORM_BWD:
        a = norm_operands(g, s);
        break;
    case YD_OP_LINEAR:
    case YD_OP_LINEAR_BWD:
        a = linear_operands(g, s);
        break;
    case YD_OP_LOSS:
        a = loss_operands(g, s);
        break;
    default:
        a = map_operands(g, s);
        break;
    }
    yd_op *op = yd_graph_op(g, s->kind);
    memcpy(op->in, a.in, sizeof op->in);
    memcpy(op->out, a.out, sizeof op->out);
    op->k = s->k, op->stride = s->stride, op->pad = s->kind == YD_OP_CONVT ? s->stride / 2 : s->k / 2,
    op->reflect = s->reflect;
    op->groups = s->groups, op->act = s->act, op->r = s->r, op->p = s->p;
    op->eps = 1e-5f, op->scale = s->kind == YD_OP_EMBED ? 50.0f : 0.2f;
    return g;
}

spec one_op_with_types(spec s, yd_dtype dt, yd_dtype out_dt)
{
    s.dt = dt;
    s.out_dt = out_dt;
    return s;
}

// The operator whose gradient s->kind is; s->kind itself for LOSS, which brings its own.
yd_op_kind one_op_forward_of(yd_op_kind k)
{
    switch (k) {
    case YD_OP_CONV_DX:
    case YD_OP_CONV_DW:
        return YD_OP_CONV;
    case YD_OP_GNORM_BWD:
        return YD_OP_GNORM;
    case YD_OP_LINEAR_BWD:
        return YD_OP_LINEAR;
    case YD_OP_SILU_BWD:
        return YD_OP_SILU;
    case YD_OP_UPSAMPLE_BWD:
        return YD_OP_UPSAMPLE;
    case YD_OP_SPLIT:
        return YD_OP_CONCAT;
    case YD_OP_ATTENTION_BWD:
        return YD_OP_ATTENTION;
    default:
        return k;
    }
}

// --- values

static unsigned long seed;

static double draw(void) // uniform in [-1, 1)
{
    seed = seed * 6364136223846793005ul + 1442695040888963407ul;
    return (double)(seed >> 11) / 4503599627370496.0 - 1.0;
}

// Inputs and parameters get values that f32 (bf16 where the operator computes in it) holds exactly.
void one_op_fill(oracle *o, const spec *s)
{
    seed = 12345;
    for (int t = 0; t < o->g->n_tensors; t++) {
        const yd_tensor *x = &o->g->tensors[t];
        if (x->kind != YD_T_INPUT && x->kind != YD_T_PARAM) continue;
        int weights = x->kind == YD_T_PARAM && x->ndim > 1;
        for (size_t i = 0; i < oracle_count(o, t); i++) {
            double v = (double)(float)draw();
            o->t[t][i] = x->dtype == YD_BF16 || (weights && s->dt == YD_BF16) ? oracle_bf16(v) : v;
        }
    }
}

// Copy what has the same name in both.
void one_op_copy_named(oracle *to, const oracle *from)
{
    for (int t = 0; t < to->g->n_tensors; t++) {
        yd_tid f = yd_graph_find(from->g, to->g->tensors[t].name);
        if (f != YD_NONE && oracle_count(to, t) == oracle_count(from, f))
            memcpy(to->t[t], from->t[f], oracle_count(to, t) * sizeof(double));
    }
}

// A filled oracle for the spec; statistics that a backward operator reads are those of its forward operator.
oracle *one_op_oracle(const yd_graph *g, const spec *s)
{
    oracle *o = oracle_new(g, s->n);
    one_op_fill(o, s);
    if (s->kind != YD_OP_GNORM_BWD) return o;
    spec fs = *s;
    fs.kind = YD_OP_GNORM;
    yd_graph *fg = one_op_graph(&fs);
    oracle *f = oracle_new(fg, s->n);
    one_op_copy_named(f, o);
    oracle_run(f, 0);
    memcpy(o->t[yd_graph_find(g, "stats")], f->t[yd_graph_find(fg, "stats")],
           oracle_count(o, yd_graph_find(g, "stats")) * sizeof(double));
    for (size_t i = 0, t = (size_t)yd_graph_find(g, "stats"); i < oracle_count(o, (yd_tid)t); i++)
        o->t[t][i] = (double)(float)o->t[t][i];
    oracle_free(f);
    yd_graph_free(fg);
    return o;
}
