// What the host's side of the CUDA backend asks of the machine: memory, streams, graphs, convolutions and matrix products.
//
// A table of functions, so that everything above it (arena, plans, graphs, backend, operators) is plain C that knows no CUDA and is tested
// against a driver that computes with loops (tests/fake_gpu). driver.cu, conv.cu and matmul.cu implement it with the CUDA runtime, cuDNN's
// graph API and cublasLt; own kernels (kernels.h) are called beside it, and `kernel` judges what they returned.
//
// Every call that can fail returns an outcome (errors.h); words() then has what the library said. After YD_GPU_LOST every call fails.
// Threads: one thread at a time, the device's owner. Nothing here blocks but sync, the calls that allocate or release, and choosing by time. cuDNN's and cublasLt's handles belong to the
// driver's one stream: stream_new is called once, before any convolution.
#ifndef YD_GPU_DRIVER_H
#define YD_GPU_DRIVER_H

#include "gpu/errors.h"
#include "gpu/kernels.h"

// How a convolution is to be computed: cuDNN's engine and the values of its knobs, or that nothing there can do it. The unit of the plan cache.
#define YD_GPU_KNOBS 44 // as many as cuDNN 9 has kinds
typedef struct yd_gpu_choice {
    int engine; // cuDNN's global index; -1: no engine takes this shape
    int n_knobs;
    struct {
        int type;
        long long value;
    } knob[YD_GPU_KNOBS];
} yd_gpu_choice;

typedef enum { YD_GPU_FORWARD, YD_GPU_DX, YD_GPU_DW, YD_GPU_ATTENTION } yd_gpu_pass;

// One convolution of x [n,h,w,c] with a filter [o,k,k,c] to y [n,oh,ow,o]; or, by `pass`, from y and the filter to x, or from x and y to the
// filter. All NHWC without gaps, x and filter of `type`; sums in f32. FORWARD alone may have an end: y = f(sum + bias) + res.
//
// ATTENTION is no convolution, but its engines are found, kept and pinned like a convolution's: x is q, k and v [n,h,w,3*o], y [n,h,w,o] one head's
// softmax(q k^T / sqrt o) v over the h*w pixels of each sample. c = 3*o, oh = h, ow = w, k = stride = 1, pad = 0; no filter; type = out = bf16.
typedef struct yd_gpu_conv_shape {
    yd_gpu_pass pass;
    int n, h, w, c, oh, ow, o, k, stride, pad;
    yd_dtype type;
    yd_dtype out;  // of what is computed; the other of x, y and filter are of `type`
    int bias, res; // with bias [o] f32; with a residual like y
    int leaky;     // f is z < 0 ? slope * z : z
    float slope;
    int tf32; // f32 products may be rounded to TF32
} yd_gpu_conv_shape;

typedef struct yd_gpu_conv yd_gpu_conv;

typedef struct yd_gpu_conv_io {
    void *x, *y, *filter;
    const void *bias, *res;
    void *workspace;
} yd_gpu_conv_io;

// c[i] = alpha * op(a[i]) op(b[i]) + beta * c[i] for i < batch; row-major, op(a) m x k, op(b) k x n, c m x n. lda, ldb, ldc: elements from a row
// to the next as stored; step_*: from a matrix to the next.
typedef struct yd_gpu_matmul_shape {
    int m, n, k, batch, trans_a, trans_b;
    long lda, ldb, ldc, step_a, step_b, step_c;
    yd_dtype ab, out;
    float alpha, beta;
    int tf32;
    int pinned; // the kernel is chosen for batch 1: the bits do not depend on the batch
    int align;  // bytes, a power of two up to 256, that all operands' addresses are multiples of
} yd_gpu_matmul_shape;

typedef struct yd_gpu_matmul yd_gpu_matmul;
typedef void *yd_gpu_event;
typedef void *yd_gpu_graph; // captured and instantiated

typedef struct yd_gpu_about {
    char device[96], isa[32], library[48]; // "NVIDIA H200", "sm_90", "cuDNN 9.19.0"
    size_t memory_total;
} yd_gpu_about;

typedef struct yd_gpu_driver yd_gpu_driver;
struct yd_gpu_driver {
    void (*close)(yd_gpu_driver *d);
    yd_gpu_outcome (*enter)(
        yd_gpu_driver *d); // before anything else on a thread: what follows is meant for this device
    void (*about)(const yd_gpu_driver *d, yd_gpu_about *out);
    const char *(*words)(const yd_gpu_driver *d);

    yd_gpu_outcome (*memory)(yd_gpu_driver *d, size_t *free, size_t *total);
    yd_gpu_outcome (*alloc)(yd_gpu_driver *d, size_t bytes, void **out); // on 256 bytes; released: NULL is fine
    void (*release)(yd_gpu_driver *d, void *p);
    yd_gpu_outcome (*alloc_host)(yd_gpu_driver *d, size_t bytes, void **out); // pinned, zeroed
    void (*release_host)(yd_gpu_driver *d, void *p);

    yd_gpu_outcome (*stream_new)(yd_gpu_driver *d, yd_gpu_stream *out);
    void (*stream_free)(yd_gpu_driver *d, yd_gpu_stream s);
    yd_gpu_outcome (*sync)(yd_gpu_driver *d, yd_gpu_stream s);
    // Between host and device in either direction, or on the device. Both are asynchronous where the host's memory is pinned.
    yd_gpu_outcome (*copy)(yd_gpu_driver *d, void *dst, const void *src, size_t bytes, yd_gpu_stream s);
    yd_gpu_outcome (*zero)(yd_gpu_driver *d, void *dst, size_t bytes, yd_gpu_stream s);
    // What a launch of kernels.h returned.
    yd_gpu_outcome (*kernel)(yd_gpu_driver *d, int code);

    yd_gpu_outcome (*event_new)(yd_gpu_driver *d, yd_gpu_event *out);
    void (*event_free)(yd_gpu_driver *d, yd_gpu_event e);
    yd_gpu_outcome (*event_record)(yd_gpu_driver *d, yd_gpu_event e, yd_gpu_stream s);
    yd_gpu_outcome (*event_seconds)(yd_gpu_driver *d, yd_gpu_event from, yd_gpu_event to,
                                    double *out); // both have happened

    // What is asked of the stream between begin and end is recorded, not done. end ends the recording also when it fails, as after a failed call
    // in between, and *out is then NULL.
    yd_gpu_outcome (*capture_begin)(yd_gpu_driver *d, yd_gpu_stream s);
    yd_gpu_outcome (*capture_end)(yd_gpu_driver *d, yd_gpu_stream s, yd_gpu_graph *out);
    yd_gpu_outcome (*graph_launch)(yd_gpu_driver *d, yd_gpu_graph g, yd_gpu_stream s);
    void (*graph_free)(yd_gpu_driver *d, yd_gpu_graph g);

    // Choose how to compute a shape: by the library's own ranking, or among its first by time, of which so many seconds may be spent.
    // UNSUPPORTED: no engine that is deterministic and precise enough (f32 without tf32: no tensor cores; never reduced accumulation) takes it.
    // An engine for ATTENTION has been tried before it is given: what it computed was right.
    yd_gpu_outcome (*conv_choose)(yd_gpu_driver *d, const yd_gpu_conv_shape *shape, double by_time, yd_gpu_choice *out);
    // Prepare one. UNSUPPORTED: that engine does not take that shape.
    yd_gpu_outcome (*conv_new)(yd_gpu_driver *d, const yd_gpu_conv_shape *shape, const yd_gpu_choice *how,
                               yd_gpu_conv **out, size_t *workspace);
    yd_gpu_outcome (*conv_run)(yd_gpu_driver *d, yd_gpu_conv *c, const yd_gpu_conv_io *io, yd_gpu_stream s);
    void (*conv_free)(yd_gpu_driver *d, yd_gpu_conv *c);

    yd_gpu_outcome (*matmul_new)(yd_gpu_driver *d, const yd_gpu_matmul_shape *shape, yd_gpu_matmul **out,
                                 size_t *workspace);
    yd_gpu_outcome (*matmul_run)(yd_gpu_driver *d, yd_gpu_matmul *m, const void *a, const void *b, void *c,
                                 void *workspace, yd_gpu_stream s);
    void (*matmul_free)(yd_gpu_driver *d, yd_gpu_matmul *m);
};

#ifdef __cplusplus
extern "C" {
#endif

// The real one, on device `device`. YD_E_DEVICE, YD_E_NOMEM, YD_E_UNSUPPORTED.
int yd_gpu_cuda_driver(int device, yd_gpu_driver **out, yd_err *err);

#ifdef __cplusplus
}
#endif

#endif
