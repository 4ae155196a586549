// A network as a list of operators over tensors: what the builders (net_*.c) write and what backends compile.
//
// A graph is plain data. It says nothing about batch size, layout in memory or device: tensors are NHWC, `n` is chosen when a
// backend compiles the graph, and every operator works on each sample by itself, so that a sample's result cannot depend on
// its batch mates. Operators are listed in execution order; each tensor is written by exactly one operator (or is an input or
// a parameter). Training graphs are the same lists with backward operators appended by yd_graph_backward() (core/autodiff.c).
//
// Storage types: parameters, parameter gradients, per-sample vectors and OUTPUT tensors are always f32; feature maps are f32
// or bf16 as the builder was told. All sums are accumulated in f32 or better.
//
// Threads: a graph is built by one thread and is read-only afterwards.
#ifndef YD_CORE_GRAPH_H
#define YD_CORE_GRAPH_H

#include "core/err.h"
#include <stddef.h>

typedef enum { YD_F32, YD_BF16 } yd_dtype;

typedef enum {
    YD_T_ACT,    // computed by an operator, lives in the backend's arena
    YD_T_INPUT,  // written by the caller before a run (f32 staging, converted by the backend where dtype is bf16)
    YD_T_OUTPUT, // f32, read by the caller after a run
    YD_T_PARAM,  // weight in its checkpoint layout; f32 master copy in the backend's yd_weights
    YD_T_PGRAD,  // gradient of a parameter, f32, same layout as the parameter; summed over the batch
} yd_tensor_kind;

typedef int yd_tid; // index into yd_graph.tensors
#define YD_NONE (-1)

typedef struct yd_tensor {
    char name[112];
    yd_tensor_kind kind;
    yd_dtype dtype;
    int h, w, c;  // per sample, for ACT/INPUT/OUTPUT; a per-sample vector has h = w = 1
    int dims[4];  // for PARAM/PGRAD: conv OIHW, linear [out, in], vectors [c]
    int ndim;     // for PARAM/PGRAD, 1..4
    int param;    // for PARAM/PGRAD: the parameter's index 0..n_params-1, else -1
} yd_tensor;

// The operators. x, y: feature maps [n,h,w,c]; v: per-sample vectors [n,1,1,c]; W, b: parameters. in[] / out[] in the order listed;
// optional ones may be YD_NONE. Attributes are the yd_op fields named in brackets. dX is the gradient of the loss w.r.t. X.
//
// forward
//  CONV        x, W[O,I,k,k], b?, res?, v?  -> y = f(conv(x,W) + b) + v + res   [k, stride, pad, reflect, act, scale]  cross-correlation;
//              v is added to every pixel. Beyond the border lie zeros, or with reflect the map's mirror image without the border
//              itself (PyTorch's "reflect": pixel -1 is pixel 1), which wants pad < h, w. f as yd_act says, scale its slope
//  CONVT       x, W[I,O,k,k], b?            -> y = convT(x,W) + b          [k, stride, pad]  transposed convolution: y has (h-1)*stride + k
//              - 2*pad rows; x's pixel (i,j) adds x*W to the k x k pixels of y from (i*stride - pad, j*stride - pad) on
//  GNORM       x, v?, gamma[c], beta[c]     -> y, stats                    [groups, eps, act] u = x + v (broadcast over h,w);
//              y = f(gamma*(u-mean)*rstd + beta), f = SiLU if act else identity. Per sample and group over (c/groups)*h*w, biased
//              variance. stats: v-shaped f32 [n,1,1,2*groups]: mean then rstd (YD_NONE where no backward follows)
//  LINEAR      v, W[O,I], b?                -> v' = W v + b
//  SILU        v                            -> v' = v * sigmoid(v)         (vectors only; maps use GNORM's act)
//  MISH        v                            -> v' = v * tanh(ln(1 + e^v))  (vectors only; maps use CONV's act)
//  EMBED       s[n,1,1,1]                   -> v[n,1,1,c]: sin(s*scale*f_k), cos(s*scale*f_k), f_k = exp(-ln(1e4) k/(c/2 - r)), sines first
//              [scale, r]  r = 0, or 1: the last frequency is then 1e-4 itself
//  CONCAT      x1, x2                       -> y, channels of x1 then x2
//  ADD         x1, x2                       -> y = x1 + x2  (any equal shapes, maps or vectors)
//  AXPY        x1, x2                       -> y = scale*x1 + x2  (likewise)  [scale]
//  UPSAMPLE    x                            -> y, nearest, 2x
//  UNSHUFFLE   x[n,h,w,c]                   -> y[n,h/r,w/r,c*r*r]; channel order of torch.pixel_unshuffle: c*r*r + dy*r + dx [r]
//  SHUFFLE     x[n,h,w,c*r*r]               -> y[n,h*r,w*r,c], its inverse [r]
//  ATTENTION   qkv[n,h,w,3c]                -> y[n,h,w,c]: one head, softmax_j(q_i.k_j/sqrt(c)) v_j over the h*w tokens
// training
//  LOSS        pred, target, mask[n,h,w,1], weight[n,1,1,1] -> loss[n,1,1,1], dpred   [p = 1|2]
//              loss_n = weight_n * sum mask*|target-pred|^p ; dpred = its derivative (p = 1: sign, 0 at 0)
//  CONV_DX     dy, W                        -> dx                          [k, stride, pad]
//  CONV_DW     x, dy                        -> dW, db?                     [k, stride, pad]
//  GNORM_BWD   x, v?, gamma, beta, stats, dy -> dx, dv?, dgamma, dbeta     [groups, eps, act]
//  LINEAR_BWD  v, W, dv'                    -> dv (YD_NONE if not wanted), dW, db?
//  SILU_BWD    v, dv'                       -> dv
//  UPSAMPLE_BWD dy                          -> dx, sums of 2x2
//  SPLIT       dy                           -> dx1, dx2 (CONCAT's gradient)
//  ATTENTION_BWD qkv, dy                    -> dqkv
// (ADD's gradient is dy itself; SHUFFLE and UNSHUFFLE are each other's; gradients from several readers are joined by ADD. CONVT, MISH, AXPY and a CONV with
// reflect, act or v have none: networks with them are run, not trained.)
#define YD_OPS(X)                                                                                                      \
    X(CONV) X(CONVT) X(GNORM) X(LINEAR) X(SILU) X(MISH) X(EMBED) X(CONCAT) X(ADD) X(AXPY)                              \
    X(UPSAMPLE) X(UNSHUFFLE) X(SHUFFLE) X(ATTENTION)                                                                   \
    X(LOSS) X(CONV_DX) X(CONV_DW) X(GNORM_BWD) X(LINEAR_BWD) X(SILU_BWD) X(UPSAMPLE_BWD) X(SPLIT) X(ATTENTION_BWD)

typedef enum {
#define YD_OP_ENUM(name) YD_OP_##name,
    YD_OPS(YD_OP_ENUM)
#undef YD_OP_ENUM
} yd_op_kind;

// f of a CONV. GNORM's act is 0 or YD_ACT_SILU.
typedef enum {
    YD_ACT_NONE,
    YD_ACT_SILU,  // not for CONV
    YD_ACT_MISH,  // z * tanh(ln(1 + e^z))
    YD_ACT_LEAKY, // z, below 0 scale * z; 0 <= scale <= 1
} yd_act;

#define YD_OP_MAX_IN  6
#define YD_OP_MAX_OUT 4

typedef struct yd_op {
    yd_op_kind kind;
    yd_tid in[YD_OP_MAX_IN];   // unused entries are YD_NONE
    yd_tid out[YD_OP_MAX_OUT]; // likewise
    int k, stride, pad;
    int groups, act, r, p, reflect;
    float eps, scale;
} yd_op;

typedef struct yd_graph {
    yd_tensor *tensors;
    int n_tensors, cap_tensors;
    yd_op *ops;
    int n_ops, cap_ops;
    yd_tid *params; // tensor of each parameter, by parameter index
    int n_params;
    int failed; // a builder call ran out of memory or met impossible shapes; yd_graph_finish reports it
    yd_err err; // the first failure
} yd_graph;

// Make an empty graph; NULL when out of memory. Free with yd_graph_free (NULL is fine).
yd_graph *yd_graph_new(void);
void yd_graph_free(yd_graph *g);

// Builder calls: each appends one tensor or operator and returns the tensor it makes. They never fail visibly: after a failure they
// return YD_NONE, accept YD_NONE, and yd_graph_finish() reports the first thing that went wrong. Names are for messages and look-up.
yd_tid yd_graph_input(yd_graph *g, const char *name, int h, int w, int c, yd_dtype dt);
yd_tid yd_graph_param(yd_graph *g, const char *name, int ndim, const int dims[4]);
yd_tid yd_graph_conv(yd_graph *g, const char *name, yd_tid x, yd_tid w, yd_tid b, yd_tid res, int stride, int pad);
// With what graph.h's table has beyond zeros around a plain sum: mode may be NULL.
typedef struct yd_conv_mode {
    int reflect;
    yd_act act;
    float slope; // of YD_ACT_LEAKY
    yd_tid v;    // [1,1,O], or YD_NONE
} yd_conv_mode;
yd_tid yd_graph_conv_mode(yd_graph *g, const char *name, yd_tid x, yd_tid w, yd_tid b, yd_tid res, int stride, int pad,
                          const yd_conv_mode *mode);
yd_tid yd_graph_convt(yd_graph *g, const char *name, yd_tid x, yd_tid w, yd_tid b, int stride, int pad);
yd_tid yd_graph_gnorm(yd_graph *g, const char *name, yd_tid x, yd_tid v, yd_tid gamma, yd_tid beta, int groups, float eps, int silu);
yd_tid yd_graph_linear(yd_graph *g, const char *name, yd_tid v, yd_tid w, yd_tid b);
yd_tid yd_graph_silu(yd_graph *g, const char *name, yd_tid v);
yd_tid yd_graph_mish(yd_graph *g, const char *name, yd_tid v);
yd_tid yd_graph_embed(yd_graph *g, const char *name, yd_tid s, int c, float scale, int r);
yd_tid yd_graph_concat(yd_graph *g, const char *name, yd_tid a, yd_tid b);
yd_tid yd_graph_add(yd_graph *g, const char *name, yd_tid a, yd_tid b);
yd_tid yd_graph_axpy(yd_graph *g, const char *name, float scale, yd_tid a, yd_tid b);
yd_tid yd_graph_upsample(yd_graph *g, const char *name, yd_tid x);
yd_tid yd_graph_unshuffle(yd_graph *g, const char *name, yd_tid x, int r);
yd_tid yd_graph_shuffle(yd_graph *g, const char *name, yd_tid x, int r);
yd_tid yd_graph_attention(yd_graph *g, const char *name, yd_tid qkv);

// Mark a computed tensor as an f32 output of the graph.
void yd_graph_output(yd_graph *g, yd_tid t);

// Append the loss on `pred` (see LOSS) and the backward operators for every parameter (YD_E_UNSUPPORTED where one has none). Adds inputs "target", "mask", "weight" and
// the output "loss". After it each parameter has one PGRAD tensor. In core/autodiff.c.
void yd_graph_backward(yd_graph *g, yd_tid pred, int p);

// Check the whole graph (shapes, single writers, order). 0, or the first builder failure. Call once, after building.
int yd_graph_finish(yd_graph *g, yd_err *err);

// Find a tensor by name; YD_NONE if there is none.
yd_tid yd_graph_find(const yd_graph *g, const char *name);

// Elements of one sample (maps, vectors) or of the whole parameter.
size_t yd_tensor_numel(const yd_tensor *t);
// Bytes per element of a storage type.
size_t yd_dtype_bytes(yd_dtype dt);
const char *yd_op_name(yd_op_kind k);

// Multiply-add operations * 2 for one sample (convolutions, linear, attention only), of one operator and of all.
double yd_op_flops(const yd_graph *g, const yd_op *op);
double yd_graph_flops(const yd_graph *g);

// For builders and autodiff: append a bare tensor / operator. Rarely needed elsewhere.
yd_tid yd_graph_tensor(yd_graph *g, const char *name, yd_tensor_kind kind, yd_dtype dt, int h, int w, int c);
yd_op *yd_graph_op(yd_graph *g, yd_op_kind kind);

#endif
