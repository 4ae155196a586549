// Convolutions by cuDNN 9's graph API (the backend descriptors): a graph of one convolution and, for FORWARD, the pointwise operations of its end;
// and for whatever graph, so for attention's (attention.cu), the engine that computes it.
//
// A choice is an engine's global index with its knobs' values. It is found by asking cuDNN's ranking (mode A, then what always works) for the first
// configuration that is fit: deterministic; f32 without tensor cores, Winograd or FFT unless TF32 is wanted; no reduced accumulation; a workspace
// that is not too large. Rebuilt from a choice, a plan for another batch uses the same engine with the same tiles, which is what makes a sample's
// bits independent of the batch.
//
// Some engines compile their kernel when a plan is made, half a second each. What only they can do (is_compiled) is described as a graph of dynamic
// shape with a kernel cache, so that a kernel is compiled once for all shapes and batches; exact f32, where it takes ten seconds, does without.
// tests/gpu/plans.c makes all of these plans on a machine without a device.
#include "gpu/cudnn_bag.h"

#include <cmath>
#include <cstring>
#include <ctime>
#include <new>

static_assert(YD_GPU_KNOBS >= CUDNN_KNOB_TYPE_COUNTS, "a choice holds a value for each kind of knob");

#define MAX_WORKSPACE  ((int64_t)1 << 30)
#define MAX_CANDIDATES 120 // some forty are answered; those without tensor cores stand last
#define MAX_NOTES      32
#define TIMED          6 // of those that are fit, when choosing by time
#define REPEATS        5

enum { ID_X = 1, ID_FILTER, ID_Y, ID_BIAS, ID_RES, ID_VIRTUAL };

// [n][h][w][c] without gaps, as cuDNN's n, c, h, w.
static desc_t tensor(bag *b, int64_t id, cudnnDataType_t type, int64_t n, int64_t h, int64_t w, int64_t c, bool is_virtual)
{
    const int64_t dims[] = {n, c, h, w}, strides[] = {h * w * c, 1, w * c, c};
    desc_t d = add_tensor(b, id, type, dims, strides);
    if (is_virtual) set(b, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    return done(b, d);
}

static desc_t convolution(bag *b, const yd_gpu_conv_shape *s)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t two = 2, ones[] = {1, 1}, stride[] = {s->stride, s->stride}, pad[] = {s->pad, s->pad};
    desc_t d = add(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    return done(b, d);
}

// The attributes of the three convolution operations: kind, descriptor, x, filter, y, alpha, beta.
struct pass_names {
    cudnnBackendDescriptorType_t kind;
    cudnnBackendAttributeName_t conv, x, filter, y, alpha, beta;
};

static const pass_names passes[] = {
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

static desc_t conv_operation(bag *b, const yd_gpu_conv_shape *s, desc_t x, desc_t filter, desc_t y)
{
    const pass_names *p = &passes[s->pass];
    const float one = 1, zero = 0;
    desc_t conv = convolution(b, s), d = add(b, p->kind);
    set_desc(b, d, p->conv, conv);
    set_desc(b, d, p->x, x);
    set_desc(b, d, p->filter, filter);
    set_desc(b, d, p->y, y);
    set(b, d, p->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(b, d, p->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    return done(b, d);
}

// y = x + other, or with other NULL leaky ReLU of x.
static desc_t pointwise(bag *b, desc_t x, desc_t other, desc_t y, double slope)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnPointwiseMode_t mode = other ? CUDNN_POINTWISE_ADD : CUDNN_POINTWISE_RELU_FWD;
    desc_t how = add(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    if (!other) set(b, how, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_TYPE_DOUBLE, 1, &slope);
    done(b, how);
    desc_t d = add(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (other) set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return done(b, d);
}

// Only engines that compile their kernel do it: bf16 with an end or with f32 sums, TF32 with more than a bias.
static bool is_compiled(const yd_gpu_conv_shape *s)
{
    if (s->pass != YD_GPU_FORWARD) return false;
    if (s->type == YD_BF16) return s->bias || s->leaky || s->res || s->out == YD_F32;
    return s->tf32 && (s->leaky || s->res);
}

// The operation graph of a shape. What stands between two operations is virtual and f32.
static desc_t operation_graph(yd_cuda *c, bag *b, const yd_gpu_conv_shape *s)
{
    if (s->pass == YD_GPU_ATTENTION) return yd_cuda_attention_graph(c, b, s);
    const cudnnDataType_t in = type_of(s->type), out = type_of(s->out), f32 = CUDNN_DATA_FLOAT;
    int left = s->bias + s->leaky + s->res, n = 0;
    int64_t id = ID_VIRTUAL;
    desc_t ops[4];
    desc_t x = tensor(b, ID_X, s->pass == YD_GPU_DX ? out : in, s->n, s->h, s->w, s->c, false);
    desc_t filter = tensor(b, ID_FILTER, s->pass == YD_GPU_DW ? out : in, s->o, s->k, s->k, s->c, false);
    desc_t y = tensor(b, ID_Y, s->pass == YD_GPU_FORWARD ? out : in, s->n, s->oh, s->ow, s->o, false);
    desc_t at = left ? tensor(b, id++, f32, s->n, s->oh, s->ow, s->o, true) : y;
    ops[n++] = conv_operation(b, s, x, filter, at);
    for (int end = 0; end < 3; end++) { // bias, activation, residual
        if (!(end == 0 ? s->bias : end == 1 ? s->leaky : s->res)) continue;
        desc_t other = end == 0   ? tensor(b, ID_BIAS, f32, 1, 1, 1, s->o, false)
                       : end == 2 ? tensor(b, ID_RES, out, s->n, s->oh, s->ow, s->o, false)
                                  : nullptr;
        desc_t to = --left ? tensor(b, id++, f32, s->n, s->oh, s->ow, s->o, true) : y;
        ops[n++] = pointwise(b, at, other, to, (double)s->slope);
        at = to;
    }
    return graph_of(c, b, ops, n, is_compiled(s));
}

// The cache for kernels of such graphs as this one, made when first asked for; NULL where there is none.
static desc_t kernels_of(yd_cuda *c, const yd_gpu_conv_shape *s, desc_t graph)
{
    yd_gpu_conv_shape like = *s; // a kernel has all the rest in it, the activation's slope as a number
    like.n = like.h = like.w = like.c = like.oh = like.ow = like.o = 0;
    for (int i = 0; i < c->n_kernels; i++)
        if (memcmp(&c->kernels[i].like, &like, sizeof like) == 0) return c->kernels[i].cache;
    if (c->n_kernels == YD_CUDA_KERNELS) return nullptr; // then each plan compiles its own
    bag b = {};
    desc_t cache = add(&b, CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR);
    set_desc(&b, cache, CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH, graph);
    done(&b, cache);
    if (b.status) {
        empty(&b);
        return nullptr;
    }
    yd_cuda_kernels *x = &c->kernels[c->n_kernels++];
    x->like = like;
    x->cache = cache; // the driver's now
    return cache;
}

void yd_cuda_drop_kernels(yd_cuda *d)
{
    while (d->n_kernels > 0) cudnnBackendDestroyDescriptor(d->kernels[--d->n_kernels].cache);
}

// --- choices

// The bits of an engine's notes of one kind; all of them where they cannot be read.
static unsigned notes_of(bag *b, desc_t engine, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type)
{
    int note[MAX_NOTES]; // both kinds are enumerations
    int64_t n = 0;
    unsigned bits = 0;
    if (!b->status) b->status = cudnnBackendGetAttribute(engine, name, type, MAX_NOTES, &n, note);
    if (b->status || n > MAX_NOTES) return ~0u;
    for (int64_t i = 0; i < n; i++) bits |= note[i] >= 0 && note[i] < 31 ? 1u << note[i] : 1u << 31;
    return bits;
}

typedef struct config_notes {
    unsigned numerical, behavior;
} config_notes;

// What an engine configuration is: index, knobs, and the notes of its engine. 0 when it cannot be read.
static int read_config(desc_t config, yd_gpu_choice *out, config_notes *notes)
{
    bag b = {};
    int64_t n = 0, index = -1, knobs = 0;
    desc_t choice[YD_GPU_KNOBS];
    desc_t engine = add(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    bag k = {};
    if (!b.status) b.status = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine);
    if (!b.status) b.status = cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n, &index);
    notes->numerical = notes_of(&b, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE);
    notes->behavior = notes_of(&b, engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE);
    for (int i = 0; i < YD_GPU_KNOBS && !b.status; i++) { // as many as there can be: it says how many there are
        choice[i] = add(&k, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        b.status = k.status;
    }
    if (!b.status)
        b.status = cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, YD_GPU_KNOBS, &knobs, choice);
    if (knobs > YD_GPU_KNOBS) b.status = CUDNN_STATUS_NOT_SUPPORTED;
    *out = yd_gpu_choice{};
    out->engine = (int)index;
    for (int64_t i = 0; i < knobs && !b.status; i++) {
        cudnnBackendKnobType_t type;
        int64_t value = 0;
        b.status = cudnnBackendGetAttribute(choice[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &n, &type);
        if (!b.status) b.status = cudnnBackendGetAttribute(choice[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &n, &value);
        if (b.status) break;
        out->knob[out->n_knobs].type = (int)type;
        out->knob[out->n_knobs++].value = value;
    }
    const int ok = !b.status && index >= 0;
    empty(&k);
    empty(&b);
    return ok;
}

static int is_fit(const yd_gpu_conv_shape *s, config_notes notes)
{
    const unsigned never = 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC | 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    const unsigned inexact = 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS | 1u << CUDNN_NUMERICAL_NOTE_FFT |
                             1u << CUDNN_NUMERICAL_NOTE_WINOGRAD;
    if (notes.numerical & never) return 0;
    if (notes.behavior & 1u << CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION && !is_compiled(s) && s->pass != YD_GPU_ATTENTION) return 0;
    return s->type == YD_BF16 || s->tf32 || !(notes.numerical & inexact);
}

// An execution plan from a choice: in the bag, with its workspace.
static desc_t plan_of(yd_cuda *c, bag *b, const yd_gpu_conv_shape *s, desc_t graph, const yd_gpu_choice *how, int64_t *workspace)
{
    const int64_t index = how->engine;
    int64_t n = 0;
    desc_t knobs[YD_GPU_KNOBS];
    desc_t engine = add(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    set_desc(b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
    if (c->properties) set_desc(b, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, c->properties);
    done(b, engine);
    for (int i = 0; i < how->n_knobs; i++) {
        const cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)how->knob[i].type;
        const int64_t value = how->knob[i].value;
        knobs[i] = add(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        set(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        set(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &value);
        done(b, knobs[i]);
    }
    desc_t config = add(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    set_desc(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (how->n_knobs) set(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, how->n_knobs, knobs);
    done(b, config);
    desc_t plan = add(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (!c->properties) set(b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->cudnn);
    if (c->properties) set_desc(b, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, c->properties);
    set_desc(b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    desc_t kernels = !b->status && is_compiled(s) ? kernels_of(c, s, graph) : nullptr;
    if (kernels) set_desc(b, plan, CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE, kernels);
    done(b, plan);
    if (!b->status) b->status = cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, workspace);
    return plan;
}

struct yd_gpu_conv {
    bag graph, rest; // the operation graph; engine, knobs and plan
    desc_t plan;
    yd_gpu_conv_shape shape;
    size_t workspace;
    // Of ATTENTION, whose kernel is compiled for one shape and batch: kept once for all that have the same.
    yd_cuda *of;
    yd_gpu_conv *next;
    int refs;
    yd_gpu_choice how;
    alignas(16) float scale; // read when a run is launched or recorded
};

static bool same_choice(const yd_gpu_choice *a, const yd_gpu_choice *b)
{
    if (a->engine != b->engine || a->n_knobs != b->n_knobs) return false;
    for (int i = 0; i < a->n_knobs; i++)
        if (a->knob[i].type != b->knob[i].type || a->knob[i].value != b->knob[i].value) return false;
    return true;
}

// The one that has been made for a shape of ATTENTION; NULL when there is none.
static yd_gpu_conv *kept(yd_cuda *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how)
{
    for (yd_gpu_conv *c = d->attention; c; c = c->next)
        if (c->shape.n == s->n && c->shape.h == s->h && c->shape.w == s->w && c->shape.o == s->o && same_choice(&c->how, how)) return c;
    return nullptr;
}

static void keep(yd_cuda *d, yd_gpu_conv *c, const yd_gpu_choice *how)
{
    c->of = d;
    c->how = *how;
    c->next = d->attention;
    d->attention = c;
}

static void forget(yd_gpu_conv *c)
{
    yd_gpu_conv **at = &c->of->attention;
    while (*at && *at != c) at = &(*at)->next;
    if (*at) *at = c->next;
}

void yd_cuda_conv_free(yd_gpu_driver *base, yd_gpu_conv *c)
{
    (void)base;
    if (!c || --c->refs > 0) return;
    if (c->of) forget(c);
    empty(&c->rest);
    empty(&c->graph);
    delete c;
}

// Whatever keeps a plan from being made, short of a lost device or no memory, means that this engine does not do this shape.
static yd_gpu_outcome not_made(yd_cuda *d, cudnnStatus_t s)
{
    const yd_gpu_outcome o = yd_cudnn_judge(d, s);
    return o == YD_GPU_FAILED ? YD_GPU_UNSUPPORTED : o;
}

yd_gpu_outcome yd_cuda_conv_new(yd_gpu_driver *base, const yd_gpu_conv_shape *s, const yd_gpu_choice *how, yd_gpu_conv **out, size_t *workspace)
{
    yd_cuda *d = yd_cuda_of(base);
    int64_t bytes = 0;
    *out = nullptr;
    *workspace = 0;
    if (how->engine < 0 || how->n_knobs < 0 || how->n_knobs > YD_GPU_KNOBS) return YD_GPU_UNSUPPORTED;
    yd_gpu_conv *c = s->pass == YD_GPU_ATTENTION ? kept(d, s, how) : nullptr;
    if (c) {
        c->refs++;
        *out = c;
        *workspace = c->workspace;
        return YD_GPU_OK;
    }
    c = new (std::nothrow) yd_gpu_conv();
    if (!c) return YD_GPU_NO_MEMORY;
    c->refs = 1;
    c->shape = *s;
    c->scale = 1 / sqrtf((float)s->o);
    desc_t graph = operation_graph(d, &c->graph, s);
    c->rest.status = c->graph.status;
    c->plan = plan_of(d, &c->rest, s, graph, how, &bytes);
    yd_gpu_outcome o = c->rest.status ? not_made(d, c->rest.status) : bytes > MAX_WORKSPACE ? YD_GPU_UNSUPPORTED : YD_GPU_OK;
    if (o) {
        yd_cuda_conv_free(base, c);
        return o;
    }
    if (s->pass == YD_GPU_ATTENTION) keep(d, c, how);
    *out = c;
    *workspace = c->workspace = bytes > 0 ? (size_t)bytes : 0;
    return YD_GPU_OK;
}

// What a convolution reads and writes, by the graph's numbers; how many there are.
static int conv_pointers(const yd_gpu_conv_shape *s, const yd_gpu_conv_io *io, int64_t *ids, const void **at)
{
    int n = 0;
    ids[n] = ID_X, at[n++] = io->x;
    ids[n] = ID_FILTER, at[n++] = io->filter;
    ids[n] = ID_Y, at[n++] = io->y;
    if (s->bias) ids[n] = ID_BIAS, at[n++] = io->bias;
    if (s->res) ids[n] = ID_RES, at[n++] = io->res;
    return n;
}

yd_gpu_outcome yd_cuda_conv_run(yd_gpu_driver *base, yd_gpu_conv *c, const yd_gpu_conv_io *io, yd_gpu_stream s)
{
    yd_cuda *d = yd_cuda_of(base);
    bag b = {};
    int64_t ids[YD_CUDA_ATTENTION_POINTERS], n = YD_CUDA_ATTENTION_POINTERS;
    const void *at[YD_CUDA_ATTENTION_POINTERS];
    (void)s; // the handle's
    if (c->shape.pass == YD_GPU_ATTENTION)
        yd_cuda_attention_pointers(&c->shape, io, &c->scale, ids, at);
    else
        n = conv_pointers(&c->shape, io, ids, at);
    desc_t pack = add(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, ids);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, at);
    set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &io->workspace);
    done(&b, pack);
    if (!b.status) b.status = cudnnBackendExecute(d->cudnn, c->plan, pack);
    const yd_gpu_outcome o = yd_cudnn_judge(d, b.status);
    empty(&b);
    return o;
}

// Memory that a timed run needs, all zeros.
struct arena {
    void *x, *filter, *y, *bias, *res, *workspace;
};

static yd_gpu_outcome reserve(yd_cuda *d, const yd_gpu_conv_shape *s, size_t workspace, arena *a)
{
    const size_t xs = (size_t)s->n * s->h * s->w * s->c * 4, ys = (size_t)s->n * s->oh * s->ow * s->o * 4, ws = (size_t)s->o * s->k * s->k * s->c * 4;
    void **const at[] = {&a->x, &a->filter, &a->y, &a->bias, &a->res, &a->workspace};
    const size_t bytes[] = {xs, ws, ys, (size_t)s->o * 4, ys, workspace + 1};
    for (int i = 0; i < 6; i++) {
        yd_gpu_outcome o = yd_cuda_judge(d, cudaMalloc(at[i], bytes[i]));
        if (!o && i < 5) o = yd_cuda_judge(d, cudaMemsetAsync(*at[i], 0, bytes[i], d->stream));
        if (o) return o;
    }
    return YD_GPU_OK;
}

static void give_back(arena *a)
{
    void *const at[] = {a->x, a->filter, a->y, a->bias, a->res, a->workspace};
    for (void *p : at)
        if (p) cudaFree(p);
}

// Milliseconds of the quickest of some runs.
static yd_gpu_outcome time_one(yd_cuda *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how, const arena *a, float *best)
{
    const yd_gpu_conv_io io = {a->x, a->y, a->filter, a->bias, a->res, a->workspace};
    yd_gpu_conv *c = nullptr;
    size_t workspace;
    cudaEvent_t from = nullptr, to = nullptr;
    *best = 1e30f;
    yd_gpu_outcome o = yd_cuda_conv_new(d, s, how, &c, &workspace);
    if (!o) o = yd_cuda_judge(d, cudaEventCreate(&from));
    if (!o) o = yd_cuda_judge(d, cudaEventCreate(&to));
    for (int i = 0; i < 1 + REPEATS && !o; i++) {
        float ms = 0;
        o = yd_cuda_judge(d, cudaEventRecord(from, d->stream));
        if (!o) o = yd_cuda_conv_run(d, c, &io, d->stream);
        if (!o) o = yd_cuda_judge(d, cudaEventRecord(to, d->stream));
        if (!o) o = yd_cuda_judge(d, cudaEventSynchronize(to));
        if (!o) o = yd_cuda_judge(d, cudaEventElapsedTime(&ms, from, to));
        if (i > 0 && ms < *best) *best = ms; // the first loads
    }
    if (from) cudaEventDestroy(from);
    if (to) cudaEventDestroy(to);
    yd_cuda_conv_free(d, c);
    return o;
}

// Engines that are fit, in order of rank.
struct candidates {
    yd_gpu_choice list[TIMED];
    int n, most;
    size_t workspace; // that the neediest of them asks for
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// The quickest, of those that there is time for. Where it cannot be measured, the first.
static yd_gpu_outcome quickest(yd_cuda *d, const yd_gpu_conv_shape *s, const candidates *from, double limit, yd_gpu_choice *out)
{
    arena a = {};
    float best = 1e30f;
    const double end = seconds() + limit;
    yd_gpu_outcome o = reserve(d, s, from->workspace, &a);
    for (int i = 0; i < from->n && !o && (i == 0 || seconds() < end); i++) {
        float ms;
        const yd_gpu_outcome one = time_one(d, s, &from->list[i], &a, &ms);
        if (one == YD_GPU_LOST) o = one;
        if (one || ms >= best) continue;
        best = ms;
        *out = from->list[i];
    }
    if (o != YD_GPU_LOST) {
        const yd_gpu_outcome last = yd_cuda_judge(d, cudaStreamSynchronize(d->stream)); // what is given back may still be used
        if (last) o = last;
    }
    give_back(&a);
    return o == YD_GPU_NO_MEMORY ? YD_GPU_OK : o;
}

static yd_gpu_outcome can_be_made(yd_cuda *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how, size_t *workspace)
{
    yd_gpu_conv *c = nullptr;
    const yd_gpu_outcome o = yd_cuda_conv_new(d, s, how, &c, workspace);
    yd_cuda_conv_free(d, c);
    return o;
}

// Ask one mode of cuDNN's ranking for those that are fit and can be made. Fails only where one could not be tried.
static yd_gpu_outcome ask(yd_cuda *d, const yd_gpu_conv_shape *s, desc_t graph, cudnnBackendHeurMode_t mode, candidates *out)
{
    bag b = {}, found = {};
    int64_t count = 0;
    yd_gpu_outcome o = YD_GPU_OK;
    desc_t heuristics = add(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), config[MAX_CANDIDATES];
    set_desc(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (d->properties) set_desc(&b, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, d->properties);
    done(&b, heuristics);
    for (int i = 0; i < MAX_CANDIDATES && !b.status; i++) {
        config[i] = add(&found, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        b.status = found.status;
    }
    if (!b.status)
        b.status = cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CANDIDATES, &count, config);
    if (count > MAX_CANDIDATES) count = MAX_CANDIDATES; // how many there are, not how many were given
    for (int64_t i = 0; i < count && out->n < out->most && !b.status; i++) {
        config_notes notes;
        size_t workspace;
        if (!read_config(config[i], &out->list[out->n], &notes) || !is_fit(s, notes)) continue;
        o = s->pass == YD_GPU_ATTENTION ? yd_cuda_attention_try(d, s, &out->list[out->n], &workspace)
                                        : can_be_made(d, s, &out->list[out->n], &workspace);
        if (o == YD_GPU_LOST || o == YD_GPU_NO_MEMORY) break;
        if (o) continue;
        if (workspace > out->workspace) out->workspace = workspace;
        out->n++;
    }
    empty(&found);
    empty(&b);
    return o == YD_GPU_LOST || o == YD_GPU_NO_MEMORY ? o : YD_GPU_OK;
}

yd_gpu_outcome yd_cuda_conv_choose(yd_gpu_driver *base, const yd_gpu_conv_shape *s, double by_time, yd_gpu_choice *out)
{
    yd_cuda *d = yd_cuda_of(base);
    candidates found = {};
    bag b = {};
    found.most = by_time > 0 ? TIMED : 1;
    desc_t graph = operation_graph(d, &b, s);
    yd_gpu_outcome o = b.status ? not_made(d, b.status) : YD_GPU_OK;
    if (!o) o = ask(d, s, graph, CUDNN_HEUR_MODE_A, &found);
    if (!o && found.n == 0) o = ask(d, s, graph, CUDNN_HEUR_MODE_FALLBACK, &found);
    empty(&b);
    if (!o && !d->properties) o = yd_cuda_judge(d, cudaPeekAtLastError()); // has an attempt taken the device with it?
    if (!o && found.n == 0) o = YD_GPU_UNSUPPORTED;
    if (o) return o;
    *out = found.list[0];
    return found.n > 1 ? quickest(d, s, &found, by_time, out) : YD_GPU_OK;
}
