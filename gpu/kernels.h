// The launches of our own CUDA kernels: what no library does, or not in one pass. Plain C, one operator family per .cu file.
//
// Convolutions and matrix products are cuDNN's and cublasLt's; everything else that the operators of core/graph.h need is here.
// What a kernel computes for one element stands in gpu/device/*.h, which gcc compiles too: tests/unit/test_gpu_*.c run the same
// functions over the same grids on the host.
//
// Every launch
//   * returns 0 or the cudaError_t as an int, of this launch alone (cudaPeekAtLastError is clean again afterwards); operands that it
//     cannot take (more than 2^31 - 1 items of work, h or w that do not fit together) give cudaErrorInvalidValue and launch nothing
//   * is asynchronous on `stream`, a cudaStream_t; allocates nothing and reads no memory of the host after it returned, so that it
//     can be captured in a graph
//   * is deterministic, and sample i of what it writes depends on sample i of what it reads alone: sums run in an order that the shape
//     of one sample decides, never n. Sums over the batch (parameters' gradients) run in sample order.
// Pointers are the device's unless said otherwise. Operands must not overlap, except where a launch says that it works in place.
// Threads: any one thread at a time per stream.
#ifndef YD_GPU_KERNELS_H
#define YD_GPU_KERNELS_H

#include "core/backend.h"
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *yd_gpu_stream; // a cudaStream_t

// A feature map of n samples: NHWC with c channels, of which a pixel's next begins `pitch` elements further on. A kernel that writes
// a map also writes zeros to the channels c..padded-1 (what convolutions read that want multiples of 8), and no others, so that a map
// may be a part of another's channels. Samples follow each other: h*w*pitch elements apart. c <= padded <= pitch.
// Kernels work on 8 channels at a time where c, padded and pitch of all maps are multiples of 8 and their data lie on 16 bytes.
typedef struct yd_gpu_map {
    void *data;
    yd_dtype dtype;
    int h, w, c, padded, pitch;
} yd_gpu_map;

// A map without padding.
static inline yd_gpu_map yd_gpu_map_of(void *data, yd_dtype dtype, int h, int w, int c)
{
    yd_gpu_map m = {data, dtype, h, w, c, c, c};
    return m;
}

// ---- elementwise.cu ----

// INPUT and OUTPUT tensors, conversions, copies into a part of another's channels: y = x, in y's type and layout.
int yd_gpu_copy(const yd_gpu_map *x, const yd_gpu_map *y, int n, yd_gpu_stream stream);
// ADD (scale 1), AXPY: y = scale*x1 + x2. y may be x1 or x2.
int yd_gpu_axpy(float scale, const yd_gpu_map *x1, const yd_gpu_map *x2, const yd_gpu_map *y, int n,
                yd_gpu_stream stream);
// The end of CONV and CONVT where no engine has it fused: y = f(x + bias) + v + res, f and slope as core/graph.h's CONV. bias [c], v [n][c]
// and res may be NULL. y may be x or res.
int yd_gpu_conv_end(const yd_gpu_map *x, const float *bias, yd_act act, float slope, const float *v,
                    const yd_gpu_map *res, const yd_gpu_map *y, int n, yd_gpu_stream stream);
// flags[i] = 1 where sample i holds a NaN or an infinity, else 0.
int yd_gpu_not_finite(const yd_gpu_map *x, int *flags, int n, yd_gpu_stream stream);

// ---- vectors.cu: per-sample vectors, f32, [n][c] without gaps ----

// LINEAR, up to YD_GPU_LINEARS of them that read the same vectors, in one launch: y[out] = W[out][in] v[in] + b each. b may be NULL.
#define YD_GPU_LINEARS 40
typedef struct yd_gpu_linears {
    const float *v;
    int in, n, count;
    struct {
        const float *w, *b;
        float *y;
        int out;
    } of[YD_GPU_LINEARS];
} yd_gpu_linears;
int yd_gpu_linear(const yd_gpu_linears *l, yd_gpu_stream stream); // l is copied
// LINEAR_BWD: dv (or NULL), dw, db (or NULL), the last two summed over the batch.
int yd_gpu_linear_bwd(const float *v, const float *w, const float *dy, float *dv, float *dw, float *db, int in, int out,
                      int n, yd_gpu_stream stream);
// SILU, MISH, SILU_BWD (dx = dy * silu'(x)) on n*c values. y may be x, dx may be dy.
int yd_gpu_silu(const float *x, float *y, int c, int n, yd_gpu_stream stream);
int yd_gpu_mish(const float *x, float *y, int c, int n, yd_gpu_stream stream);
int yd_gpu_silu_bwd(const float *x, const float *dy, float *dx, int c, int n, yd_gpu_stream stream);
// EMBED: v[n][c] of s[n]; scale and r as core/graph.h says.
int yd_gpu_embed(const float *s, float *v, int c, float scale, int r, int n, yd_gpu_stream stream);

// ---- groupnorm.cu ----

// GNORM. v [n][c] or NULL. stats [n][2*groups] or NULL. scratch: yd_gpu_gnorm_scratch bytes, on 16 bytes. y may be x.
size_t yd_gpu_gnorm_scratch(const yd_gpu_map *x, int groups, int n);
int yd_gpu_gnorm(const yd_gpu_map *x, const float *v, const float *gamma, const float *beta, int groups, float eps,
                 int silu, const yd_gpu_map *y, float *stats, void *scratch, int n, yd_gpu_stream stream);
// GNORM_BWD. v and dv ([n][c]) may be NULL; dgamma [c] and dbeta [c] are summed over the batch. dx may be dy.
size_t yd_gpu_gnorm_bwd_scratch(const yd_gpu_map *x, int groups, int n);
int yd_gpu_gnorm_bwd(const yd_gpu_map *x, const float *v, const float *gamma, const float *beta, const float *stats,
                     const yd_gpu_map *dy, int groups, int silu, const yd_gpu_map *dx, float *dv, float *dgamma,
                     float *dbeta, void *scratch, int n, yd_gpu_stream stream);
// CONV_DW's db [c]: dy summed over pixels and samples.
size_t yd_gpu_bias_grad_scratch(const yd_gpu_map *dy, int n);
int yd_gpu_bias_grad(const yd_gpu_map *dy, float *db, void *scratch, int n, yd_gpu_stream stream);

// ---- rearrange.cu ----

// CONCAT, SPLIT. The maps' sizes agree; y.c = x1.c + x2.c.
int yd_gpu_concat(const yd_gpu_map *x1, const yd_gpu_map *x2, const yd_gpu_map *y, int n, yd_gpu_stream stream);
int yd_gpu_split(const yd_gpu_map *dy, const yd_gpu_map *dx1, const yd_gpu_map *dx2, int n, yd_gpu_stream stream);
// UPSAMPLE: y is 2h x 2w. UPSAMPLE_BWD: dx is h/2 x w/2 of dy, each pixel the sum of four.
int yd_gpu_upsample(const yd_gpu_map *x, const yd_gpu_map *y, int n, yd_gpu_stream stream);
int yd_gpu_upsample_bwd(const yd_gpu_map *dy, const yd_gpu_map *dx, int n, yd_gpu_stream stream);
// UNSHUFFLE: y.h = x.h/r, y.w = x.w/r, y.c = x.c*r*r. SHUFFLE: its inverse. Each other's gradients.
int yd_gpu_unshuffle(const yd_gpu_map *x, const yd_gpu_map *y, int r, int n, yd_gpu_stream stream);
int yd_gpu_shuffle(const yd_gpu_map *x, const yd_gpu_map *y, int r, int n, yd_gpu_stream stream);
// CONV's reflect: y is x with its mirror image, without the border itself, `pad` pixels wide on every side: the convolution then pads
// nothing. pad < x.h, x.w.
int yd_gpu_reflect(const yd_gpu_map *x, const yd_gpu_map *y, int pad, int n, yd_gpu_stream stream);
// CONV, CONVT, CONV_DX, CONV_DW: a filter from its checkpoint layout, f32 [a][b][k][k], to what cuDNN reads in NHWC, [a'][k][k][b'] of
// dtype, zeros where there are no channels (a' >= a, b' >= b). CONV has a = O, b = I; CONVT a = I, b = O: the filter of the convolution
// whose gradient it is. A vector of c floats is padded by a = c, b = b' = k = 1.
int yd_gpu_filter_pack(const float *w, int a, int b, int k, void *packed, yd_dtype dtype, int a_padded, int b_padded,
                       yd_gpu_stream stream);
// Its inverse, for gradients.
int yd_gpu_filter_unpack(const void *packed, yd_dtype dtype, int a_padded, int b_padded, float *w, int a, int b, int k,
                         yd_gpu_stream stream);

// ---- softmax.cu: ATTENTION between its two matrix products, ATTENTION_BWD between its five ----

// p[i] = softmax of scale * scores[i], over cols values of each of rows rows. p of dtype; may be scores where that is f32.
int yd_gpu_softmax(const float *scores, void *p, yd_dtype dtype, float scale, int rows, int cols, yd_gpu_stream stream);
// ds = p * (dp - sum p*dp) * scale, by rows. p of p_dtype; ds of ds_dtype, may be dp where that is f32.
int yd_gpu_softmax_bwd(const void *p, yd_dtype p_dtype, const float *dp, void *ds, yd_dtype ds_dtype, float scale,
                       int rows, int cols, yd_gpu_stream stream);

// ---- training.cu ----

// LOSS: loss [n], weight [n], mask [n][h][w], target: a map, f32; p 1 or 2; dpred: NULL or a map. scratch: yd_gpu_loss_scratch bytes.
size_t yd_gpu_loss_scratch(const yd_gpu_map *pred, int n);
int yd_gpu_loss(const yd_gpu_map *pred, const yd_gpu_map *target, const float *mask, const float *weight, int p,
                float *loss, const yd_gpu_map *dpred, void *scratch, int n, yd_gpu_stream stream);

// A run of at most YD_GPU_SPAN elements of one parameter, with what belongs to it; an array of them lies on the device.
#define YD_GPU_SPAN 16384
typedef struct yd_gpu_span {
    const float *g;
    float *w, *m, *v, *ema;
    uint32_t count;
    int32_t param;
} yd_gpu_span;

// An AdamW step with everything that is the same for all parameters worked out. scale: of the gradient, by clipping.
typedef struct yd_gpu_rates {
    float scale, beta1, beta2;
    float step;            // lr / (1 - beta1^t)
    float root;            // 1 / sqrt(1 - beta2^t)
    float eps, decay, ema; // decay: lr * weight_decay
} yd_gpu_rates;

// From the hyper-parameters and the gradient's norm before clipping.
static inline yd_gpu_rates yd_gpu_rates_of(const yd_adamw *hp, double norm)
{
    const double t = (double)hp->step;
    yd_gpu_rates r;
    r.scale = hp->clip_norm > 0 && norm > (double)hp->clip_norm ? (float)((double)hp->clip_norm / norm) : 1.0f;
    r.beta1 = hp->beta1;
    r.beta2 = hp->beta2;
    r.step = (float)((double)hp->lr / (1.0 - pow((double)hp->beta1, t)));
    r.root = (float)(1.0 / sqrt(1.0 - pow((double)hp->beta2, t)));
    r.eps = hp->eps;
    r.decay = hp->lr * hp->weight_decay;
    r.ema = hp->ema_decay;
    return r;
}
// squares[i] = sum of g*g over span i, in double. The host joins them in span order, so the norm's bits do not depend on the device's
// timing; a NaN or an infinity in a sum names its parameter.
int yd_gpu_square_sums(const yd_gpu_span *spans, int n_spans, double *squares, yd_gpu_stream stream);
int yd_gpu_adamw(const yd_gpu_span *spans, int n_spans, const yd_gpu_rates *rates, yd_gpu_stream stream);

// ---- canvas.cu: canvases in the device's memory (core/canvas.h). The units lie on the device, the other structs on the host ----

// Cut the units' windows out: x, a map of window_h x window_w of the network's input channels, and level [n], of those samples whose unit has a
// canvas; the others stay as they are.
int yd_gpu_gather(const yd_canvas_unit *units, const yd_gpu_map *x, float *level, int n, yd_gpu_stream stream);
// Add the predictions, 3 channels, to the units' canvases with their weights. bad[i]: 1 where one that counts is NaN or infinite, else 0.
int yd_gpu_scatter(const yd_canvas_unit *units, const yd_gpu_map *pred, int *bad, int n, yd_gpu_stream stream);
// The whole YODA update: x0, the posterior or DDIM move with its noise, by the mask; pixels that come on; what is shown; acc is zero again.
int yd_gpu_canvas_step(const yd_canvas *canvas, const yd_canvas_step *step, yd_gpu_stream stream);
// The field of noise of a step, [h][w][3], by itself: what yd_rng_row (core/rng.h) draws, bit for bit.
int yd_gpu_noise(uint64_t seed, int step, int w, int h, float *out, yd_gpu_stream stream);

#ifdef __cplusplus
}
#endif

#endif
