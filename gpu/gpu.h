// The CUDA backend's own structures, for the files of this folder that are plain C.
//
//   backend.c   opening, memory accounts, what it says of itself        weights.c   masters, packed copies, reading and writing
//   exec.c      compile: buffers, lifetimes, one block; run             optimise.c  the AdamW step
//   canvas.c    jobs' canvases in the device's memory
//   ops.c       operators that are one kernel                           ops_conv.c, ops_gemm.c, ops_attention.c   the others
//
// A buffer is one map or vector of an exec's n samples; the first are the graph's tensors, by number, then come operators' temporaries. A step is
// one launch, or a few that belong together. Steps run in the order in which they were appended, all on the backend's one stream.
#ifndef YD_GPU_GPU_H
#define YD_GPU_GPU_H

#include "gpu/arena.h"
#include "gpu/driver.h"
#include "gpu/plans.h"
#include "gpu/replay.h"

typedef struct yd_gpu_canvases yd_gpu_canvases; // canvas.c

typedef struct yd_gpu {
    yd_backend base; // first: a yd_backend * is a yd_gpu *
    yd_gpu_driver *d;
    yd_cuda_options opt;
    yd_gpu_about about;
    yd_gpu_plans *plans;
    yd_gpu_canvases *canvases; // or NULL
    yd_gpu_stream stream;
    size_t budget, weights, arena, scratch; // bytes that may be held, and that are
    int lost;                               // a sticky error: every call fails with `why`
    yd_err why;
    int verbose; // YODA_CUDA_VERBOSE=1: what was chosen, on stderr
} yd_gpu;

typedef struct yd_gpu_master {
    char name[112];
    int ndim, dims[4];
    size_t count, at; // elements, position in each part
    uint64_t version; // counts writes; starts at 1
} yd_gpu_master;

// A parameter as convolutions read it: [a_padded][k][k][b_padded] of dtype from [a][b][k][k]. Shared by all execs of the weights, counted.
typedef struct yd_gpu_packed {
    struct yd_gpu_packed *next;
    int param, refs;
    int a, b, k, a_padded, b_padded;
    yd_dtype dtype;
    size_t bytes;
    uint64_t version; // of the master it was made from; 0: never filled
    void *data;
} yd_gpu_packed;

struct yd_weights {
    yd_gpu *gpu;
    yd_gpu_master *params;
    int n_params, n_spans;
    size_t count;   // elements of one part, padded so that each parameter starts on 256 bytes
    float *part[4]; // by yd_weights_part, on the device; M, V, EMA only when training
    yd_gpu_packed *packed;
    double tuning_s; // that choosing engines by time may still take
};

typedef struct yd_gpu_buf {
    yd_gpu_item item; // bytes of all samples; 0: not in the arena
    yd_gpu_map map;   // of one sample; data is set when the arena is there
} yd_gpu_buf;

// A convolution, or attention, through cuDNN that was found: for all samples at once, or for a part of them at a time.
typedef struct yd_gpu_conv_plan {
    yd_gpu_conv *conv;
    yd_gpu_conv_shape shape; // as prepared
    int times;               // runs of it, each of as many samples
} yd_gpu_conv_plan;

#define YD_GPU_ROLES 8
typedef struct yd_gpu_step {
    const yd_op *op; // NULL: loading inputs, storing outputs
    const char *family;
    int (*run)(yd_exec *e, struct yd_gpu_step *s, yd_err *err);
    int buf[YD_GPU_ROLES]; // by the step's own roles; -1: none
    yd_gpu_conv_plan conv;
    yd_gpu_matmul *mm[2];
    yd_gpu_packed *filter, *bias;
    int pad; // of reflect
} yd_gpu_step;

struct yd_exec {
    yd_gpu *gpu;
    const yd_graph *g;
    yd_weights *w;
    int n;
    yd_gpu_buf *bufs;
    int n_bufs, cap_bufs;
    yd_gpu_step *steps;
    int n_steps, cap_steps;
    float **staging; // by tensor: pinned, of INPUT and OUTPUT; plain, of PGRADs that were asked for
    yd_tid *pgrads;  // by parameter; YD_NONE where the graph has no gradient
    char *arena, *scratch;
    size_t arena_bytes, scratch_bytes;
    int at;             // operator being compiled: the life of temporaries made now
    int *with;          // by operator: the one whose step does its work too, itself included
    int training;       // the graph has a loss
    yd_gpu_span *spans; // on the device, of a training exec: what the optimiser goes through
    double *squares;    // likewise; sums per span
    double *host_squares;
    int n_spans;
    int ops_from, ops_to; // the operators' steps; those before load the inputs, those behind store the outputs
    yd_gpu_replay replay, canvas_replay; // of all steps; of the operators alone, for canvases on the device
    yd_gpu_event event[2]; // when profiling
    yd_profile_line profile[16];
};

static inline size_t yd_sz(int x)
{
    return (size_t)x;
}
// The code of an error that has been told, while compiling: never 0.
static inline int yd_gpu_code(const yd_err *err)
{
    return err->code ? err->code : YD_E_INTERNAL;
}
static inline int yd_round8(int c)
{
    return (c + 7) / 8 * 8;
}
// Are engines chosen by time?
static inline int yd_gpu_tunes(const yd_gpu *g)
{
    return g->opt.tune_ms > 0 && g->opt.plan_cache != NULL;
}
static inline const yd_tensor *yd_gpu_tensor(const yd_exec *e, yd_tid t)
{
    return &e->g->tensors[t];
}

// --- backend.c
// On any driver, which the backend then owns (also when this fails). opt NULL: the defaults.
int yd_gpu_open(yd_gpu_driver *d, const yd_cuda_options *opt, yd_backend **out, yd_err *err);
// 0, or an error that says what was being done; remembers a lost device.
int yd_gpu_check(yd_gpu *g, yd_gpu_outcome o, const char *doing, yd_err *err);
// Turn this thread to the device: every entry of the table begins with it. 0, or the error that the device was lost by.
int yd_gpu_alive(yd_gpu *g, yd_err *err);
// Device memory, counted in *account (one of the yd_gpu's). YD_E_NOMEM when the budget or the device has no more.
int yd_gpu_take(yd_gpu *g, size_t *account, size_t bytes, const char *what, void **out, yd_err *err);
void yd_gpu_give(yd_gpu *g, size_t *account, size_t bytes, void *p);

// --- weights.c
int yd_gpu_weights_new(yd_backend *be, const yd_graph *g, const float *const *host, int train, yd_weights **out,
                       yd_err *err);
void yd_gpu_weights_free(yd_weights *w);
int yd_gpu_weights_read(yd_weights *w, yd_weights_part part, int param, float *dst, yd_err *err);
int yd_gpu_weights_write(yd_weights *w, yd_weights_part part, int param, const float *src, yd_err *err);
// The packed copy of a parameter, made or found; NULL with *err filled. For a vector b = k = 1.
yd_gpu_packed *yd_gpu_packed_get(yd_weights *w, int param, int a, int b, int k, yd_dtype dtype, int a_padded,
                                 int b_padded, yd_err *err);
void yd_gpu_packed_put(yd_weights *w, yd_gpu_packed *p);
// Bring all packed copies up to date, asynchronously.
int yd_gpu_packed_refresh(yd_weights *w, yd_err *err);

// --- optimise.c
int yd_gpu_prepare_optimiser(yd_exec *e, yd_err *err);
void yd_gpu_drop_optimiser(yd_exec *e);
int yd_gpu_adamw_step(yd_weights *w, yd_exec *train, const yd_adamw *hp, double *grad_norm, yd_err *err);

// --- exec.c
int yd_gpu_compile(yd_backend *be, const yd_graph *g, yd_weights *w, int n, yd_exec **out, yd_err *err);
void yd_gpu_exec_free(yd_exec *e);
void yd_gpu_exec_stats(const yd_exec *e, yd_exec_stats *out);
float *yd_gpu_buffer(yd_exec *e, yd_tid t);
int yd_gpu_run(yd_exec *e, yd_err *err);
int yd_gpu_peek(yd_exec *e, yd_tid t, float *dst, yd_err *err);
// For operators while compiling, when err is never NULL. Append a step; NULL with *err filled. All its buffers are -1.
yd_gpu_step *yd_gpu_step_new(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, yd_gpu_step *, yd_err *), yd_err *err);
// A private buffer during the operator being compiled: a map whose pixels are `pitch` apart, all channels padded. -1 with *err filled.
int yd_gpu_temp(yd_exec *e, yd_dtype dtype, int h, int w, int c, int pitch, yd_err *err);
// Make the scratch block at least this large. Each step may use all of it while it runs.
void yd_gpu_scratch(yd_exec *e, size_t bytes);
// Refuse the operator: "CONV 'mid.conv1': <what>".
int yd_gpu_refuse(const yd_exec *e, const yd_op *op, int code, const char *what, yd_err *err);
// Refuse it unless t is there and has this shape (0: any).
int yd_gpu_need(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, int h, int w, int c, yd_err *err);
// Launch the steps from..to-1.
int yd_gpu_launch_steps(yd_exec *e, int from, int to, yd_err *err);
// Judge what a launch of kernels.h returned.
int yd_gpu_launched(yd_exec *e, const yd_gpu_step *s, int code, yd_err *err);

// --- ops.c: operators that are one kernel; and copies between buffers, appended as a step.
int yd_gpu_make_simple(yd_exec *e, const yd_op *op, yd_err *err);
int yd_gpu_make_copy(yd_exec *e, const yd_op *op, int from, int to, yd_err *err);

// --- ops_conv.c, ops_gemm.c, ops_attention.c
int yd_gpu_make_conv(yd_exec *e, const yd_op *op, yd_err *err);
int yd_gpu_make_convt(yd_exec *e, const yd_op *op, yd_err *err);
int yd_gpu_make_conv_dx(yd_exec *e, const yd_op *op, yd_err *err);
int yd_gpu_make_conv_dw(yd_exec *e, const yd_op *op, yd_err *err);
// A convolution as a product with the patches of x (ops_gemm.c), sample by sample, where cuDNN has no engine: x, y and filter as buffers or, where
// `filter` < 0, the packed parameter. DW adds the samples in order.
int yd_gpu_make_gemm_conv(yd_exec *e, const yd_op *op, const yd_gpu_conv_shape *shape, int x, int y, int filter,
                          yd_gpu_packed *packed, yd_err *err);
// A step that has neither filter nor end, by the engine of its shape (ATTENTION). 1 done, 0 no engine takes it, negative: error.
int yd_gpu_make_engine(yd_exec *e, const yd_op *op, const yd_gpu_conv_shape *shape, int x, int y, yd_err *err);
int yd_gpu_make_attention(yd_exec *e, const yd_op *op, yd_err *err);
int yd_gpu_make_attention_bwd(yd_exec *e, const yd_op *op, yd_err *err);
// A product prepared, its workspace counted in the scratch after the first `behind` bytes; UNSUPPORTED for a pinned batch is *out NULL with 0.
int yd_gpu_matmul_prepare(yd_exec *e, const yd_op *op, const yd_gpu_matmul_shape *shape, size_t behind,
                          yd_gpu_matmul **out, yd_err *err);

#endif
