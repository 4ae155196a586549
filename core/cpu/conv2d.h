// One convolution of a fixed shape on oneDNN, or the gradient of its input, for code that walks a network of its own accord (trunk.c,
// core/agf.c) instead of compiling a graph.
//
// Maps are NHWC f32. What is convolved with is made from weights in checkpoint layout when the convolution is set: scaled by output
// channel, which folds a normalisation in, and of one sign or without signs, if asked for; the result is kept in the layout that the
// kernel wants. Direct kernels only: a sample's bytes do not depend on the number of threads or of samples.
// A yd_conv2d belongs to one thread at a time; setting allocates, running does not.
#ifndef YD_CORE_CPU_CONV2D_H
#define YD_CORE_CPU_CONV2D_H

#include "core/err.h"
#include <dnnl.h>
#include <stddef.h>

typedef struct yd_conv2d_device {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
} yd_conv2d_device;

// YD_E_NOMEM, YD_E_DEVICE. Close after everything that was set on it has been cleared; a zeroed one is fine.
int yd_conv2d_device_open(yd_conv2d_device *d, yd_err *err);
void yd_conv2d_device_close(yd_conv2d_device *d);

typedef enum {
    YD_CONV2D_FORWARD, // y = conv(x) + bias, zero padding
    YD_CONV2D_RELU,    // max(0, the same)
    YD_CONV2D_GRADIENT // dx of dy
} yd_conv2d_way;

typedef enum { YD_CONV2D_SIGNED, YD_CONV2D_MAGNITUDE, YD_CONV2D_POSITIVE, YD_CONV2D_NEGATIVE } yd_conv2d_part;

typedef struct yd_conv2d_shape {
    int n, h, w;      // samples and sides of the convolution's input, whatever the way
    int in_c, c;      // channels of input and output
    int k[2], pad[2]; // down, across
    int stride;
    int out_h, out_w; // sides of its output
} yd_conv2d_shape;

typedef struct yd_conv2d_filter {
    const float *weight; // [c][in_c][k[0]][k[1]], borrowed while it is set
    const double *scale; // by output channel, borrowed likewise; NULL: 1
    yd_conv2d_part part; // of the scaled weights
    const float *bias;   // borrowed until cleared; NULL: none. Not looked at by gradients
} yd_conv2d_filter;

typedef struct yd_conv2d {
    dnnl_primitive_t prim;
    dnnl_memory_t weight, bias, from, to;
    dnnl_memory_desc_t layout; // of packed
    void *packed;
    size_t bytes;
    yd_conv2d_way way;
} yd_conv2d;

// Make c (zeroed, or set before: then with the same filter, whose packed copy is kept where the layout stays; f->weight may then be
// NULL). YD_E_DEVICE, YD_E_NOMEM, after which c can be set again or cleared.
int yd_conv2d_set(yd_conv2d *c, const yd_conv2d_device *d, const yd_conv2d_shape *s, yd_conv2d_way way, const yd_conv2d_filter *f,
                  yd_err *err);
void yd_conv2d_clear(yd_conv2d *c);
// from: n x h x w x in_c floats, to: n x out_h x out_w x c; the other way round for a gradient. They do not overlap.
int yd_conv2d_run(const yd_conv2d *c, const yd_conv2d_device *d, const float *from, float *to, yd_err *err);

#endif
