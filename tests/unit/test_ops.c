// Every operator of core/graph.h on the CPU backend against the plain loops of tests/oracle, over a table of shapes; the oracle's
// gradients against finite differences of the oracle's own forward; and the promise that a sample's bytes depend on nothing else.
//
// A spec names an operator and a shape; make_graph() turns it into a graph of that one operator, whose tensors have fixed names
// ("x", "W", ...; gradients "d.x", "d.W", ...) so that a forward and a backward graph can be matched.
#include "core/cpu/vec.h"
#include "tests/oracle/oracle.h"
#include "tests/unit/t.h"
#include <sys/wait.h>
#include <unistd.h>

typedef struct spec {
    yd_op_kind kind;
    int n, h, w, c;       // batch and input map; c channels
    int o, k, stride;     // convolutions, LINEAR (o)
    int groups, act;      // normalisation
    int r, p;             // shuffles, LOSS
    int v, b, res;        // with the optional operands
    yd_dtype dt, out_dt;  // of maps
} spec;

#define S(KIND, N, H, W, C, ...)                                                                                       \
    {                                                                                                                  \
        .kind = KIND, .n = N, .h = H, .w = W, .c = C, __VA_ARGS__                                                      \
    }

#define CONVS(KIND, RES) \
    S(KIND, 1, 9, 9, 3, .o = 16, .k = 3, .stride = 1, .b = 1), \
    S(KIND, 2, 8, 8, 6, .o = 24, .k = 3, .stride = 1, .b = 1, .res = RES), \
    S(KIND, 3, 7, 5, 16, .o = 6, .k = 1, .stride = 1, .res = RES), \
    S(KIND, 5, 9, 7, 24, .o = 16, .k = 3, .stride = 2, .b = 1), \
    S(KIND, 2, 16, 16, 48, .o = 48, .k = 3, .stride = 1, .b = 1, .res = RES), \
    S(KIND, 1, 8, 8, 64, .o = 96, .k = 3, .stride = 2, .b = 1), \
    S(KIND, 2, 6, 6, 96, .o = 64, .k = 1, .stride = 1, .b = 1, .res = RES), \
    S(KIND, 1, 5, 5, 48, .o = 3, .k = 3, .stride = 1, .b = 1), \
    S(KIND, 1, 8, 8, 96, .o = 96, .k = 3, .stride = 1), \
    S(KIND, 2, 1, 1, 16, .o = 16, .k = 3, .stride = 1, .b = 1), \
    S(KIND, 3, 4, 4, 33, .o = 17, .k = 3, .stride = 2, .b = 1), \
    S(KIND, 1, 6, 6, 16, .o = 24, .k = 1, .stride = 2, .b = 1)

#define NORMS(KIND) \
    S(KIND, 1, 8, 8, 16, .groups = 4, .act = 1), \
    S(KIND, 2, 9, 7, 24, .groups = 8, .act = 1, .v = 1), \
    S(KIND, 3, 5, 5, 48, .groups = 6, .v = 1), \
    S(KIND, 2, 1, 1, 6, .groups = 3, .act = 1), \
    S(KIND, 5, 16, 16, 64, .groups = 32, .act = 1, .v = 1), \
    S(KIND, 1, 33, 17, 96, .groups = 16), \
    S(KIND, 2, 40, 40, 3, .groups = 1, .act = 1), \
    S(KIND, 1, 3, 2, 16, .groups = 16, .act = 1)

static const spec specs[] = {
    CONVS(YD_OP_CONV, 1),
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
    S(YD_OP_EMBED, 3, 1, 1, 1, .o = 64),
    S(YD_OP_CONCAT, 2, 5, 3, 16, .o = 24),
    S(YD_OP_CONCAT, 3, 4, 4, 3, .o = 3),
    S(YD_OP_SPLIT, 2, 5, 3, 16, .o = 24),
    S(YD_OP_SPLIT, 3, 4, 4, 3, .o = 6),
    S(YD_OP_ADD, 3, 7, 5, 24, .o = 0),
    S(YD_OP_ADD, 2, 64, 64, 16, .o = 0),
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
    S(YD_OP_ATTENTION_BWD, 2, 4, 4, 16, .o = 0),
    S(YD_OP_ATTENTION_BWD, 3, 5, 3, 48, .o = 0),
    S(YD_OP_ATTENTION_BWD, 1, 12, 12, 64, .o = 0),
    S(YD_OP_LOSS, 3, 6, 5, 3, .p = 1),
    S(YD_OP_LOSS, 2, 8, 8, 3, .p = 2),
};
#define N_SPECS (sizeof specs / sizeof *specs)

#ifdef YD_SANITIZE
#define SPARSE 1 // the cases that compile hundreds of graphs take some of them
#else
#define SPARSE 0
#endif

static const char *label(const spec *s)
{
    static char text[160];
    snprintf(text, sizeof text, "%s n=%d %dx%dx%d o=%d k=%d s=%d groups=%d act=%d v=%d b=%d res=%d r=%d p=%d %s->%s", yd_op_name(s->kind), s->n, s->h,
             s->w, s->c, s->o, s->k, s->stride, s->groups, s->act, s->v, s->b, s->res, s->r, s->p, s->dt ? "bf16" : "f32", s->out_dt ? "bf16" : "f32");
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

// Operands in order; YD_NONE ends neither list.
typedef struct operands {
    yd_tid in[YD_OP_MAX_IN], out[YD_OP_MAX_OUT];
} operands;

static const operands none = {{-1, -1, -1, -1, -1, -1}, {-1, -1, -1, -1}};

static operands conv_operands(yd_graph *g, const spec *s)
{
    operands a = none;
    int pad = s->k / 2, oh = (s->h + 2 * pad - s->k) / s->stride + 1, ow = (s->w + 2 * pad - s->k) / s->stride + 1;
    yd_tid w = param(g, "W", s->o, s->c, s->k, s->k), b = s->b && s->kind != YD_OP_CONV_DX ? param(g, "b", s->o, 0, 0, 0) : YD_NONE;
    yd_tid x = s->kind != YD_OP_CONV_DX ? input(g, "x", s->h, s->w, s->c, s->dt) : YD_NONE;
    yd_tid dy = s->kind != YD_OP_CONV ? input(g, "dy", oh, ow, s->o, s->out_dt) : YD_NONE;
    if (s->kind == YD_OP_CONV) {
        a.in[0] = x, a.in[1] = w, a.in[2] = b;
        if (s->res) a.in[3] = input(g, "res", oh, ow, s->o, s->dt);
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
    case YD_OP_SILU: a.in[0] = input(g, "x", h, w, c, YD_F32), a.out[0] = result(g, "y", h, w, c, YD_F32); break;
    case YD_OP_SILU_BWD: a.in[0] = input(g, "x", h, w, c, YD_F32), a.in[1] = input(g, "dy", h, w, c, YD_F32), a.out[0] = result(g, "d.x", h, w, c, YD_F32); break;
    case YD_OP_EMBED: a.in[0] = input(g, "x", 1, 1, 1, YD_F32), a.out[0] = result(g, "y", 1, 1, s->o, YD_F32); break;
    case YD_OP_CONCAT: a.in[0] = input(g, "x", h, w, c, dt), a.in[1] = input(g, "x2", h, w, s->o, dt), a.out[0] = result(g, "y", h, w, c + s->o, odt); break;
    case YD_OP_SPLIT: a.in[0] = input(g, "dy", h, w, c + s->o, odt), a.out[0] = result(g, "d.x", h, w, c, dt), a.out[1] = result(g, "d.x2", h, w, s->o, dt); break;
    case YD_OP_ADD: a.in[0] = input(g, "x", h, w, c, dt), a.in[1] = input(g, "x2", h, w, c, dt), a.out[0] = result(g, "y", h, w, c, odt); break;
    case YD_OP_UPSAMPLE: a.in[0] = input(g, "x", h, w, c, dt), a.out[0] = result(g, "y", 2 * h, 2 * w, c, odt); break;
    case YD_OP_UPSAMPLE_BWD: a.in[0] = input(g, "dy", 2 * h, 2 * w, c, odt), a.out[0] = result(g, "d.x", h, w, c, dt); break;
    case YD_OP_UNSHUFFLE: a.in[0] = input(g, "x", h, w, c, dt), a.out[0] = result(g, "y", h / s->r, w / s->r, c * r2, odt); break;
    case YD_OP_SHUFFLE: a.in[0] = input(g, "x", h, w, c, dt), a.out[0] = result(g, "y", h * s->r, w * s->r, c / r2, odt); break;
    case YD_OP_ATTENTION: a.in[0] = input(g, "x", h, w, 3 * c, dt), a.out[0] = result(g, "y", h, w, c, odt); break;
    case YD_OP_ATTENTION_BWD: a.in[0] = input(g, "x", h, w, 3 * c, dt), a.in[1] = input(g, "dy", h, w, c, odt), a.out[0] = result(g, "d.x", h, w, 3 * c, dt); break;
    default: break;
    }
    return a;
}

static yd_graph *make_graph(const spec *s)
{
    yd_graph *g = yd_graph_new();
    operands a;
    switch (s->kind) {
    case YD_OP_CONV: case YD_OP_CONV_DX: case YD_OP_CONV_DW: a = conv_operands(g, s); break;
    case YD_OP_GNORM: case YD_OP_GNORM_BWD: a = norm_operands(g, s); break;
    case YD_OP_LINEAR: case YD_OP_LINEAR_BWD: a = linear_operands(g, s); break;
    case YD_OP_LOSS: a = loss_operands(g, s); break;
    default: a = map_operands(g, s); break;
    }
    yd_op *op = yd_graph_op(g, s->kind);
    memcpy(op->in, a.in, sizeof op->in);
    memcpy(op->out, a.out, sizeof op->out);
    op->k = s->k, op->stride = s->stride, op->pad = s->k / 2;
    op->groups = s->groups, op->act = s->act, op->r = s->r, op->p = s->p;
    op->eps = 1e-5f, op->scale = s->kind == YD_OP_EMBED ? 50.0f : 0;
    return g;
}

static spec with_types(spec s, yd_dtype dt, yd_dtype out_dt)
{
    s.dt = dt;
    s.out_dt = out_dt;
    return s;
}

// The operator whose gradient s->kind is; s->kind itself for LOSS, which brings its own.
static yd_op_kind forward_of(yd_op_kind k)
{
    switch (k) {
    case YD_OP_CONV_DX: case YD_OP_CONV_DW: return YD_OP_CONV;
    case YD_OP_GNORM_BWD: return YD_OP_GNORM;
    case YD_OP_LINEAR_BWD: return YD_OP_LINEAR;
    case YD_OP_SILU_BWD: return YD_OP_SILU;
    case YD_OP_UPSAMPLE_BWD: return YD_OP_UPSAMPLE;
    case YD_OP_SPLIT: return YD_OP_CONCAT;
    case YD_OP_ATTENTION_BWD: return YD_OP_ATTENTION;
    default: return k;
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
static void fill(oracle *o, const spec *s)
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
static void copy_named(oracle *to, const oracle *from)
{
    for (int t = 0; t < to->g->n_tensors; t++) {
        yd_tid f = yd_graph_find(from->g, to->g->tensors[t].name);
        if (f != YD_NONE && oracle_count(to, t) == oracle_count(from, f)) memcpy(to->t[t], from->t[f], oracle_count(to, t) * sizeof(double));
    }
}

// A filled oracle for the spec; statistics that a backward operator reads are those of its forward operator.
static oracle *make_oracle(const yd_graph *g, const spec *s)
{
    oracle *o = oracle_new(g, s->n);
    fill(o, s);
    if (s->kind != YD_OP_GNORM_BWD) return o;
    spec fs = *s;
    fs.kind = YD_OP_GNORM;
    yd_graph *fg = make_graph(&fs);
    oracle *f = oracle_new(fg, s->n);
    copy_named(f, o);
    oracle_run(f, 0);
    memcpy(o->t[yd_graph_find(g, "stats")], f->t[yd_graph_find(fg, "stats")], oracle_count(o, yd_graph_find(g, "stats")) * sizeof(double));
    for (size_t i = 0, t = (size_t)yd_graph_find(g, "stats"); i < oracle_count(o, (yd_tid)t); i++) o->t[t][i] = (double)(float)o->t[t][i];
    oracle_free(f);
    yd_graph_free(fg);
    return o;
}

// --- running on the backend

static yd_backend *backend[2]; // one and two threads, activations kept

typedef struct device {
    yd_backend *be;
    yd_weights *w;
    yd_exec *e;
} device;

static void device_close(device *d)
{
    if (d->e) d->be->exec_free(d->e);
    if (d->w) d->be->weights_free(d->w);
}

// Samples first..first+n-1 of the oracle's inputs, run on the backend. 0 or the error, printed.
static int device_run(device *d, yd_backend *be, const oracle *o, int first, int n)
{
    yd_err err = {0};
    const yd_graph *g = o->g;
    *d = (device){.be = be};
    float **host = calloc((size_t)g->n_params + 1, sizeof *host);
    for (int i = 0; i < g->n_params; i++) {
        size_t count = oracle_count(o, g->params[i]);
        host[i] = malloc(count * sizeof(float));
        for (size_t j = 0; j < count; j++) host[i][j] = (float)o->t[g->params[i]][j];
    }
    int rc = be->weights_new(be, g, (const float *const *)host, 0, &d->w, &err);
    for (int i = 0; i < g->n_params; i++) free(host[i]);
    free(host);
    if (!rc) rc = be->compile(be, g, d->w, n, &d->e, &err);
    for (int t = 0; t < g->n_tensors && !rc; t++) {
        if (g->tensors[t].kind != YD_T_INPUT) continue;
        size_t per = yd_tensor_numel(&g->tensors[t]);
        float *stage = be->buffer(d->e, t);
        for (size_t i = 0; i < per * (size_t)n; i++) stage[i] = (float)o->t[t][(size_t)first * per + i];
    }
    if (!rc) rc = be->run(d->e, &err);
    if (rc) printf("  %s\n", err.detail);
    return rc;
}

// A result of the last run as floats; the caller frees it.
static float *device_read(const device *d, const yd_graph *g, yd_tid t, int n)
{
    size_t count = yd_tensor_numel(&g->tensors[t]) * (size_t)(g->tensors[t].kind == YD_T_PGRAD ? 1 : n);
    float *out = malloc(count * sizeof *out);
    float *stage = d->be->buffer(d->e, t);
    if (stage) memcpy(out, stage, count * sizeof *out);
    else CHECK(d->be->peek(d->e, t, out, NULL) == 0);
    return out;
}

static void compare(const spec *s, double f32_limit, double bf16_limit)
{
    yd_graph *g = make_graph(s);
    CHECK_MSG(!g->failed, "%s: %s", label(s), g->err.detail);
    oracle *o = make_oracle(g, s);
    oracle_run(o, 0);
    device d;
    int rc = device_run(&d, backend[1], o, 0, s->n);
    CHECK_MSG(rc == 0, "%s", label(s));
    for (int k = 0; k < YD_OP_MAX_OUT && !rc; k++) {
        yd_tid t = g->ops[0].out[k];
        if (t == YD_NONE) continue;
        size_t count = oracle_count(o, t);
        float *got = device_read(&d, g, t, s->n), *want = malloc(count * sizeof *want);
        for (size_t i = 0; i < count; i++) want[i] = (float)o->t[t][i];
        int half = s->dt == YD_BF16 || g->tensors[t].dtype == YD_BF16;
        double diff = t_rel_diff(got, want, count), limit = half ? bf16_limit : f32_limit;
        CHECK_MSG(diff <= limit, "%s: %s is off by %.3g, allowed %.3g", label(s), g->tensors[t].name, diff, limit);
        free(got);
        free(want);
    }
    device_close(&d);
    oracle_free(o);
    yd_graph_free(g);
}

static void test_f32(void)
{
    for (size_t i = 0; i < N_SPECS; i++) compare(&specs[i], 2e-5, 0);
}

static void test_bf16(void)
{
    for (size_t i = 0; i < N_SPECS; i++) {
        spec s = with_types(specs[i], YD_BF16, YD_BF16);
        compare(&s, 2e-5, 1e-2);
    }
}

// Results stored otherwise than inputs: the first and last layers of a bf16 network.
static void test_mixed_types(void)
{
    for (size_t i = 0; i < N_SPECS; i++) {
        spec s = with_types(specs[i], YD_BF16, YD_F32), r = with_types(specs[i], YD_F32, YD_BF16);
        compare(&s, 2e-5, 1e-2);
        compare(&r, 1e-2, 1e-2);
    }
}

// --- the same bytes whatever the batch and the thread count

static void check_same_bytes(const spec *s)
{
    yd_graph *g = make_graph(s);
    oracle *o = make_oracle(g, s);
    device two, one;
    int rc = device_run(&two, backend[1], o, 0, s->n), rc1 = device_run(&one, backend[0], o, 0, s->n);
    CHECK_MSG(rc == 0 && rc1 == 0, "%s", label(s));
    for (int k = 0; k < YD_OP_MAX_OUT && !rc && !rc1; k++) {
        yd_tid t = g->ops[0].out[k];
        if (t == YD_NONE || (s->kind == YD_OP_CONV_DW && g->tensors[t].kind == YD_T_PGRAD)) continue; // oneDNN reduces dW by thread
        float *a = device_read(&two, g, t, s->n), *b = device_read(&one, g, t, s->n);
        CHECK_MSG(memcmp(a, b, sizeof(float) * oracle_count(o, t)) == 0, "%s: %s differs between 1 and 2 threads", label(s), g->tensors[t].name);
        free(b);
        size_t per = yd_tensor_numel(&g->tensors[t]);
        for (int i = 0; i < s->n && g->tensors[t].kind != YD_T_PGRAD; i++) {
            device alone;
            if (device_run(&alone, backend[1], o, i, 1) == 0) {
                b = device_read(&alone, g, t, 1);
                CHECK_MSG(memcmp(a + (size_t)i * per, b, per * sizeof *b) == 0, "%s: sample %d of %s differs when alone", label(s), i, g->tensors[t].name);
                free(b);
            } else CHECK(0);
            device_close(&alone);
        }
        free(a);
    }
    device_close(&two);
    device_close(&one);
    oracle_free(o);
    yd_graph_free(g);
}

static void test_same_bytes(void)
{
    for (size_t i = 0; i < N_SPECS; i += SPARSE ? 5 : 1) {
        spec f = with_types(specs[i], YD_F32, YD_F32), h = with_types(specs[i], YD_BF16, YD_BF16);
        check_same_bytes(&f);
        check_same_bytes(&h);
    }
}

// --- the oracle's gradients against central differences of the oracle's forward

// L = sum dy*y; for LOSS the sum of the losses.
static double scalar(oracle *f, const oracle *b)
{
    oracle_run(f, 0);
    double sum = 0;
    yd_tid dy = yd_graph_find(b->g, "dy");
    if (dy == YD_NONE) {
        yd_tid y = yd_graph_find(f->g, "y");
        for (size_t i = 0; i < oracle_count(f, y); i++) sum += f->t[y][i];
        return sum;
    }
    yd_tid y = yd_graph_find(f->g, "y");
    for (size_t i = 0; i < oracle_count(f, y); i++) sum += f->t[y][i] * b->t[dy][i];
    return sum;
}

static void check_gradient(const spec *s)
{
    const double step = 1e-5;
    spec fs = *s;
    fs.kind = forward_of(s->kind);
    yd_graph *g = make_graph(s), *fg = make_graph(&fs);
    oracle *b = make_oracle(g, s), *f = oracle_new(fg, s->n);
    fill(f, &fs);
    copy_named(f, b);
    oracle_run(f, 0);
    if (s->kind == YD_OP_GNORM_BWD) copy_named(b, f); // statistics in full precision
    oracle_run(b, 0);
    for (int k = 0; k < YD_OP_MAX_OUT; k++) {
        yd_tid grad = g->ops[0].out[k];
        if (grad == YD_NONE || strncmp(g->tensors[grad].name, "d.", 2) != 0) continue;
        yd_tid x = yd_graph_find(fg, g->tensors[grad].name + 2);
        double worst = 0, top = 0;
        size_t count = oracle_count(b, grad), stride = count / 40 + 1; // a sample of the elements is enough
        for (size_t i = 0; i < count; i += stride) {
            double keep = f->t[x][i];
            f->t[x][i] = keep + step;
            double up = scalar(f, b);
            f->t[x][i] = keep - step;
            double diff = fabs((up - scalar(f, b)) / (2 * step) - b->t[grad][i]);
            f->t[x][i] = keep;
            if (!(diff <= worst)) worst = diff;
            top = fmax(top, fabs(b->t[grad][i]));
        }
        CHECK_MSG(worst <= 1e-6 * fmax(top, 1), "%s: %s is off by %.3g of %.3g", label(s), g->tensors[grad].name, worst, top);
    }
    oracle_free(b);
    oracle_free(f);
    yd_graph_free(g);
    yd_graph_free(fg);
}

static void test_oracle_gradients(void)
{
    static const spec small[] = {
        S(YD_OP_CONV_DX, 2, 5, 4, 3, .o = 2, .k = 3, .stride = 1), S(YD_OP_CONV_DX, 1, 6, 5, 2, .o = 3, .k = 3, .stride = 2), S(YD_OP_CONV_DX, 2, 3, 3, 4, .o = 2, .k = 1, .stride = 1),
        S(YD_OP_CONV_DW, 2, 5, 4, 3, .o = 2, .k = 3, .stride = 1, .b = 1), S(YD_OP_CONV_DW, 1, 6, 5, 2, .o = 3, .k = 3, .stride = 2, .b = 1), S(YD_OP_CONV_DW, 2, 3, 3, 4, .o = 2, .k = 1, .stride = 1),
        S(YD_OP_GNORM_BWD, 2, 3, 4, 6, .groups = 2, .act = 1, .v = 1), S(YD_OP_GNORM_BWD, 1, 2, 2, 4, .groups = 4, .v = 1),
        S(YD_OP_GNORM_BWD, 2, 3, 3, 4, .groups = 1, .act = 1), S(YD_OP_LINEAR_BWD, 3, 1, 1, 5, .o = 4, .b = 1), S(YD_OP_SILU_BWD, 2, 1, 1, 9, .o = 0),
        S(YD_OP_UPSAMPLE_BWD, 2, 2, 3, 3, .o = 0), S(YD_OP_SPLIT, 2, 3, 2, 3, .o = 2), S(YD_OP_ATTENTION_BWD, 2, 3, 2, 4, .o = 0), S(YD_OP_ATTENTION_BWD, 1, 1, 5, 3, .o = 0),
        S(YD_OP_LOSS, 2, 3, 4, 3, .p = 2), S(YD_OP_LOSS, 2, 3, 4, 3, .p = 1),
    };
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) check_gradient(&small[i]);
}

// --- element arithmetic

static void test_arithmetic(void)
{
    double worst = 0;
    for (double x = -87; x <= 87; x += 0.00731) worst = fmax(worst, fabs((double)yd_exp((float)x) / exp((double)(float)x) - 1));
    CHECK_MSG(worst < 3e-7, "exp is off by %.3g", worst);
    CHECK(yd_exp(0) == 1 && isnan(yd_exp(NAN)) && isfinite(yd_exp(1e30f)) && yd_exp(-1e30f) > 0);
    CHECK(yd_sigmoid(100) == 1 && yd_sigmoid(-100) > 0 && yd_sigmoid(-100) < 1e-30f);
    const double hard[] = {1, 1.00390625, 1.01171875, 3.3895313892515355e38, 1e-40, -0.0, INFINITY, -INFINITY, 1.0 / 3};
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        uint16_t b = yd_to_bf16((float)hard[i]);
        CHECK_MSG((double)yd_load(&b, 0, 1) == oracle_bf16(hard[i]), "bf16 of %g", hard[i]);
    }
    uint16_t nan = yd_to_bf16(yd_from_bits(0x7f800001u)); // its set bit is among those dropped
    CHECK(isnan(yd_load(&nan, 0, 1)));
}

// --- older processors: oneDNN is told to use less than this one has; bf16 is then storage only

static void test_older_processors(void)
{
    static const char *const isas[] = {"AVX2", "AVX512_CORE", "SSE41"};
    for (size_t i = 0; i < (SPARSE ? 1 : sizeof isas / sizeof *isas); i++) {
        pid_t child = fork();
        if (child == 0) {
            setenv("DNNL_MAX_CPU_ISA", isas[i], 1);
            if (!freopen("/dev/null", "w", stdout)) _exit(126); // its verdict is its status; this program counts its own cases
            execl("/proc/self/exe", "test_ops", "operators", (char *)NULL);
            _exit(127);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child);
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "with DNNL_MAX_CPU_ISA=%s: status %x", isas[i], (unsigned)status);
    }
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    for (int i = 0; i < 2; i++) {
        yd_err err = {0};
        if (yd_cpu_open(&(yd_cpu_options){.threads = i + 1, .keep_activations = 1}, &backend[i], &err)) return fprintf(stderr, "%s\n", err.detail), 1;
    }
    static const t_case cases[] = {
        {"exp and bf16 rounding are accurate", test_arithmetic},
        {"oracle gradients are the slopes of the oracle's forward", test_oracle_gradients},
        {"f32 operators agree with the oracle", test_f32},
        {"bf16 operators agree with the oracle", test_bf16},
        {"operators between f32 and bf16 agree with the oracle", test_mixed_types},
        {"operators: a sample's bytes depend on neither batch nor threads", test_same_bytes},
        {"the same on older processors", test_older_processors},
    };
    int rc = t_main(argc, argv, cases, sizeof cases / sizeof *cases);
    for (int i = 0; i < 2; i++) backend[i]->close(backend[i]);
    return rc;
}
