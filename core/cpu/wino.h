// 3x3 convolutions of stride 1 by Winograd's minimal filtering, F(4x4, 3x3), in f32 over NHWC maps:
//     y = f(conv(x, W) + bias) + v + res,   around x one pixel of zeros or of its mirror image
// A quarter of the direct method's multiplications. x may be stored at half size: it is then read as if every pixel
// were repeated 2x2 (nearest upsampling), without making the large map.
//
// The bits of an output pixel depend on the pixels under its 6x6 patch and on the weights only: every sum runs over
// the channels in one order, whatever the batch, the threads and the schedule. Errors against exact arithmetic stay
// below 2e-4 of the largest result (a few 1e-6 are usual). Storage is f32 or bf16, arithmetic always f32.
// Nothing here knows graphs or operators. Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks".
#ifndef YD_CORE_CPU_WINO_H
#define YD_CORE_CPU_WINO_H

#include <stddef.h>

typedef struct yd_wino {
    int n, h, w;     // of the result
    int c, o;        // channels in and out
    int up;          // x is [n][h/2][w/2][c]: h and w are even
    int reflect;     // pixel -1 is pixel 1, likewise at the other border: h and w are at least 2; not with up
    int act;         // f: YD_ACT_NONE, _MISH or _LEAKY
    float slope;     // of the latter, 0 to 1
    const void *x;   // [n][h][w][c]
    const void *res; // [n][h][w][o] or NULL; may be y itself
    void *y;         // [n][h][w][o]
    int x_bf16, res_bf16, y_bf16;
    const float *u;    // transformed weights, 64-byte aligned
    const float *bias; // [o] or NULL
    const float *v;    // [n][o] or NULL
} yd_wino;

// 1 where this processor can run it: AVX-512.
int yd_wino_here(void);

// Floats of the transformed weights.
size_t yd_wino_weights_count(int c, int o);

// Transform W[o][c][3][3] on `threads` threads; `turned`: W[c][o][3][3], each filter by half a turn, which makes the
// convolution of a gradient with them the gradient of the convolution's input.
void yd_wino_weights(const float *w, int c, int o, int turned, float *u, int threads);

// Bytes of scratch that one run needs. Pointers in p are not looked at.
size_t yd_wino_scratch(const yd_wino *p, int threads);

// Convolve, in one parallel region. `scratch` is 64-byte aligned. x and y must not overlap. Cannot fail.
void yd_wino_run(const yd_wino *p, void *scratch, int threads);

// The gradients of the weights and the bias of y = conv(x, W) + bias.
typedef struct yd_wino_dw {
    int n, h, w;    // of both maps
    int c, o;       // channels of x and of dy
    const void *x;  // [n][h][w][c]
    const void *dy; // [n][h][w][o]
    int x_bf16, dy_bf16;
    float *dw; // [o][c][3][3]
    float *db; // [o] or NULL
} yd_wino_dw;

// Bytes of scratch that one run needs. Pointers in p are not looked at.
size_t yd_wino_dw_scratch(const yd_wino_dw *p, int threads);

// Compute them, in one parallel region. `scratch` is 64-byte aligned. The bits do not depend on `threads`: every sum
// runs over the tiles in one order. Errors as above. Cannot fail.
void yd_wino_dw_run(const yd_wino_dw *p, void *scratch, int threads);

#endif
