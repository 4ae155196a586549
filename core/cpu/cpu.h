// Private to core/cpu: the oneDNN backend's structures, and the services its operator files share.
//
//   backend.c     open, info, the table of functions, process preparation
//   weights.c     f32 masters, per-layout working copies;  adamw.c  the optimiser step
//   plan.c        compile: buffers by liveness, one arena; run: walk the kernel list
//   prim.c        a oneDNN primitive with its arguments;  profile.c  where the time goes
//   views.c       maps that are not made, because their readers can read the parts
//   levels.c      vectors that follow from the noise level alone, kept by level
//   conv.c conv_ends.c conv_wino.c gnorm.c gnorm_bwd.c attention.c linear.c rearrange.c elementwise.c
//                 one operator family each;  wino.c wino_grad.c gnorm_kernel.c  kernels that know no graphs
//
// A compiled kernel is a function and the operator it runs. Operands are buffers: tensor i of the graph is buffer i,
// private temporaries follow. Addresses exist only after planning, so kernels ask for them when they run.
//
// Invariants. (1) run() neither allocates nor creates primitives. (2) Work is cut into blocks by shape alone, never
// by thread count, and partial sums are joined in block order: forward results are the same bits for any thread count
// and batch size. (3) Inside a parallel region only leaf loops run; nothing there can fail.
#ifndef YD_CORE_CPU_H
#define YD_CORE_CPU_H

#include "core/backend.h"
#include <dnnl.h>

typedef struct yd_cpu {
    yd_backend base; // first: a yd_backend * is a yd_cpu *
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    int threads;
    int keep;
    int verbose;      // print each chosen primitive
    int profile;      // time each kernel; 2: and print the times
    int bf16_kernels; // oneDNN has bf16 kernels for this processor (AVX-512); otherwise bf16 is only storage
    int bf16_fast;    // and they run at hardware speed
    int winograd;     // use Winograd's method where it pays
} yd_cpu;

// The tables by which kernels are chosen; a change that can change bits gets a new number.
#define YD_KERNELS_VERSION 1

// Input channels of a convolution's parameter: all of them where count is 0.
typedef struct yd_slice {
    int first, count;
} yd_slice;

// Working copies: as oneDNN describes them; transformed for wino.c; the same of the filters turned, for gradients.
typedef enum { YD_FORM_DNNL, YD_FORM_WINOGRAD, YD_FORM_WINOGRAD_TURNED } yd_form;

// One parameter in the layout and type some primitive wants. Shared by every exec of the same yd_weights, counted.
typedef struct yd_copy {
    struct yd_copy *next;
    int param, refs;
    yd_slice slice;
    yd_form form;
    size_t bytes;     // of data
    uint64_t version; // of the master it was made from; 0 = never filled
    dnnl_memory_desc_t md;
    void *data;              // NULL: the master itself has this layout
    dnnl_memory_t mem, from; // the copy; the master as oneDNN sees it
    dnnl_primitive_t reorder;
} yd_copy;

typedef struct yd_master {
    char name[112];
    int ndim, dims[4];
    size_t count, at; // elements, position in each part
    uint64_t version; // counts writes; starts at 1
} yd_master;

// A run of one parameter's elements: the unit of the optimiser's parallel loops.
typedef struct yd_span {
    int param;
    size_t at, count; // within the parameter
} yd_span;

struct yd_weights {
    yd_cpu *cpu;
    yd_master *params;
    int n_params;
    size_t count;        // elements of one part, padded so that every parameter starts on a cache line
    float *part[4];      // by yd_weights_part; M, V, EMA only when training
    yd_span *spans;      // when training
    double *square_sums; // one per span
    int n_spans;
    yd_copy *copies;
    struct yd_levels *levels;
};

// What a map that is not made consists of: two maps side by side, or one to be read at twice its size. parts = 0: it is
// made.
typedef struct yd_view {
    int parts;
    yd_tid part[2];
} yd_view;

typedef struct yd_buf {
    size_t bytes;    // of all n samples; 0 = not in the arena
    int first, last; // operators that first write and last read it
    int root;        // shares the storage of that buffer; itself otherwise
    size_t offset;
    void *ptr;
} yd_buf;

typedef struct yd_kernel {
    const yd_op *op;
    const char *family; // for the profile
    void (*drop)(void *state);
    int (*run)(yd_exec *e, const struct yd_kernel *k, yd_err *err);
    void *state;
    int buf[2];   // operands that are not the operator's own: temporaries, and the two ends of a conversion
    int bf16[2];  // their storage types
    size_t count; // elements to convert
} yd_kernel;

struct yd_exec {
    yd_cpu *cpu;
    const yd_graph *g;
    yd_weights *w;
    int n;
    yd_buf *bufs;
    int n_bufs, cap_bufs;
    yd_view *views; // by tensor
    yd_tid level;   // input whose followers are tabulated, or YD_NONE
    char *of_level; // by tensor: 1 follows from the level alone; 2 and is read by what does not
    struct yd_levels *levels;
    int n_level_kernels; // the first of all
    int training;        // the graph has a loss
    float **staging;     // by tensor
    yd_tid *pgrads;      // by parameter; YD_NONE where the graph has no gradient
    yd_kernel *kernels;
    int n_kernels, cap_kernels;
    yd_copy **copies;
    int n_copies, cap_copies;
    char *arena, *scratch;
    size_t arena_bytes, scratch_bytes;
    yd_profile_line profile[16];
    int at; // operator being compiled: the lifetime of temporaries made now
};

// --- plan.c: what an operator file may ask while compiling. Kernels run in the order they were appended; the exec
// frees them. Append a kernel for `op`; NULL when out of memory. The caller fills state and drop.
yd_kernel *yd_exec_kernel(yd_exec *e, const yd_op *op, int (*run)(yd_exec *, const yd_kernel *, yd_err *));
// A private buffer that lives during the operator being compiled. Its number, or -1 when out of memory.
int yd_exec_temp(yd_exec *e, size_t bytes);
// Let buffer `to` take over `from`'s storage, if nothing reads `from` later and both are arena buffers of one size. 1
// when done.
int yd_exec_alias(yd_exec *e, yd_tid to, yd_tid from);
// Does map x, or a part of it, lie where t lies? Then t must survive while x is read: y = conv(x) + x.
int yd_exec_reads(const yd_exec *e, yd_tid x, yd_tid t);
// Make the shared scratch buffer at least this large. Each kernel may use all of it while it runs.
void yd_exec_scratch(yd_exec *e, size_t bytes);
// The working copy of parameter tensor t in this layout, refreshed before each run; NULL with *err filled.
yd_copy *yd_exec_copy(yd_exec *e, yd_tid t, yd_slice slice, const dnnl_memory_desc_t *md, yd_err *err);
// The same, transformed for wino.c.
yd_copy *yd_exec_copy_winograd(yd_exec *e, yd_tid t, yd_form form, yd_err *err);
// Refuse the operator: "CONV 'mid.conv1': <what>".
int yd_exec_refuse(const yd_exec *e, const yd_op *op, int code, const char *what, yd_err *err);

static inline const yd_tensor *yd_exec_tensor(const yd_exec *e, yd_tid t)
{
    return &e->g->tensors[t];
}
static inline void *yd_exec_ptr(const yd_exec *e, int buf)
{
    return e->bufs[buf].ptr;
}
static inline int yd_is_bf16(const yd_exec *e, yd_tid t)
{
    return e->g->tensors[t].dtype == YD_BF16;
}
static inline size_t yd_sz(int x)
{
    return (size_t)x;
}

// Threads for an own kernel that touches this many elements: waking a second one costs more than a small kernel takes.
static inline int yd_threads(const yd_exec *e, size_t elements)
{
    return elements < 16384 ? 1 : e->cpu->threads;
}

// --- weights.c
int yd_cpu_weights_new(yd_backend *be, const yd_graph *g, const float *const *host, int train, yd_weights **out,
                       yd_err *err);
void yd_cpu_weights_free(yd_weights *w);
int yd_cpu_weights_read(yd_weights *w, yd_weights_part part, int param, float *dst, yd_err *err);
int yd_cpu_weights_write(yd_weights *w, yd_weights_part part, int param, const float *src, yd_err *err);
// md: NULL unless the form is YD_FORM_DNNL.
yd_copy *yd_copy_get(yd_weights *w, int param, yd_slice slice, yd_form form, const dnnl_memory_desc_t *md, yd_err *err);
void yd_copy_put(yd_weights *w, yd_copy *c);
int yd_copy_refresh(yd_weights *w, yd_copy *c, yd_err *err);

// --- adamw.c
int yd_cpu_adamw(yd_weights *w, yd_exec *train, const yd_adamw *hp, double *grad_norm, yd_err *err);

// --- profile.c: run one kernel and add its time to its family's line; print the lines.
int yd_run_profiled(yd_exec *e, const yd_kernel *k, yd_err *err);
void yd_profile_print(const yd_exec *e);

// --- plan.c: entries of the backend's table
int yd_cpu_compile(yd_backend *be, const yd_graph *g, yd_weights *w, int n, yd_exec **out, yd_err *err);
void yd_cpu_exec_free(yd_exec *e);
void yd_cpu_exec_stats(const yd_exec *e, yd_exec_stats *out);
float *yd_cpu_buffer(yd_exec *e, yd_tid t);
int yd_cpu_run(yd_exec *e, yd_err *err);
int yd_cpu_peek(yd_exec *e, yd_tid t, float *dst, yd_err *err);

// --- prim.c
#define YD_PRIM_ARGS 7
// Where an operand lies: `at` bytes into a buffer (-1: the scratch buffer), moving on by `step` bytes each `every`
// runs.
typedef struct yd_place {
    int buf;
    size_t at, step, every;
} yd_place;
typedef struct yd_prim_arg {
    int arg; // DNNL_ARG_*
    yd_place place;
    dnnl_memory_t mem;   // ours; its address is set at each run
    dnnl_memory_t fixed; // a working copy's instead, or NULL
} yd_prim_arg;
typedef struct yd_prim {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t prim;
    yd_prim_arg args[YD_PRIM_ARGS];
    int n_args;
} yd_prim;
// Translate a status: 0, or a yd_err naming the operator (op may be NULL) and the oneDNN call.
int yd_dnnl_check(const yd_exec *e, const yd_op *op, const char *call, dnnl_status_t s, yd_err *err);
dnnl_data_type_t yd_dnnl_dtype(yd_dtype dt);
// A plain NHWC map of the exec's n samples, stored as dt.
dnnl_memory_desc_t yd_md_map(const yd_exec *e, yd_tid t, yd_dtype dt);
// Append a kernel that runs one primitive; its primitive is empty, the calls below fill it. NULL with *err filled.
yd_prim *yd_prim_kernel(yd_exec *e, const yd_op *op, yd_err *err);
// Choose the implementation for a filled oneDNN operator descriptor, refusing reference code. `attr` may carry
// post-ops.
int yd_prim_choose(yd_exec *e, const yd_op *op, yd_prim *p, const_dnnl_op_desc_t desc, dnnl_primitive_attr_t attr,
                   const_dnnl_primitive_desc_t hint, yd_err *err);
// Create the chosen primitive.
int yd_prim_create(yd_exec *e, const yd_op *op, yd_prim *p, yd_err *err);
// A reorder between two layouts of the same tensor.
int yd_prim_reorder(yd_exec *e, const yd_op *op, yd_prim *p, const dnnl_memory_desc_t *from,
                    const dnnl_memory_desc_t *to, yd_err *err);
// Attach an operand: a whole buffer; one that moves with the index of yd_prim_run; a working copy.
int yd_prim_bind(yd_exec *e, const yd_op *op, yd_prim *p, int arg, const dnnl_memory_desc_t *md, int buf, yd_err *err);
int yd_prim_bind_at(yd_exec *e, const yd_op *op, yd_prim *p, int arg, const dnnl_memory_desc_t *md, yd_place place,
                    yd_err *err);
void yd_prim_bind_copy(yd_prim *p, int arg, const yd_copy *c);
int yd_prim_run(yd_exec *e, const yd_op *op, const yd_prim *p, size_t index, yd_err *err);
void yd_prim_drop(yd_prim *p);
const char *yd_prim_impl(const yd_prim *p);

// --- views.c: find the maps that need not be made. Before lifetimes.
int yd_exec_find_views(yd_exec *e, yd_err *err);

// --- levels.c: mark the operators that follow from the level (before lifetimes); is this one? Find or make the table.
typedef struct yd_levels yd_levels;
int yd_levels_mark(yd_exec *e, yd_err *err);
int yd_levels_has(const yd_exec *e, const yd_op *op);
int yd_levels_attach(yd_exec *e, yd_err *err);
void yd_levels_free(yd_weights *w);
// Fill the vectors from the table: 1 when all were there. Otherwise compute them and have them kept.
int yd_levels_recall(yd_exec *e);
void yd_levels_keep(yd_exec *e);

// --- conv_ends.c: before and after a convolution that oneDNN computes plainly.
// A buffer with map x and `pad` pixels of its mirror image on every side, stored as dt.
int yd_make_mirrored(yd_exec *e, const yd_op *op, yd_tid x, yd_dtype dt, int pad, int *buf, yd_err *err);
// Has this operator anything to be done to the plain sum besides adding bias and residual?
static inline int yd_conv_is_ended(const yd_op *op)
{
    return op->act != YD_ACT_NONE || op->in[4] != YD_NONE;
}
// y = f(sum + bias) + v + res from the plain sum in `buf` (dt); bias YD_NONE where the sum has it.
int yd_make_conv_end(yd_exec *e, const yd_op *op, int buf, yd_dtype dt, yd_tid bias, yd_err *err);

// --- conv_wino.c: is this CONV, CONV_DX or CONV_DW computed by Winograd's method? Its kernel, shapes being checked.
int yd_conv_is_winograd(const yd_exec *e, const yd_op *op);
int yd_make_conv_winograd(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_conv_dw_winograd(yd_exec *e, const yd_op *op, yd_err *err);

// --- operator families: check the shapes, append the kernels
int yd_make_conv(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_convt(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_conv_dx(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_conv_dw(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_gnorm(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_gnorm_bwd(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_attention(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_attention_bwd(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_linear(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_linear_bwd(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_silu(yd_exec *e, const yd_op *op, yd_err *err); // and MISH
int yd_make_silu_bwd(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_embed(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_add(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_axpy(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_loss(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_concat(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_split(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_upsample(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_upsample_bwd(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_unshuffle(yd_exec *e, const yd_op *op, yd_err *err);
int yd_make_shuffle(yd_exec *e, const yd_op *op, yd_err *err);

// --- elementwise.c
// n elements from one storage type to another, in parallel.
void yd_convert(const yd_cpu *cpu, const void *src, int src_bf16, void *dst, int dst_bf16, size_t n);
// Append a kernel that does so between two buffers. op may be NULL.
int yd_make_convert(yd_exec *e, const yd_op *op, int from, int from_bf16, int to, int to_bf16, size_t n, yd_err *err);
// The type oneDNN computes in for an operator whose input is map t.
yd_dtype yd_compute_type(const yd_exec *e, yd_tid t);
// A buffer with map t's elements as dt: t itself, or a temporary. For reading, the conversion is appended here. For
// writing, the caller appends its kernel and then calls yd_make_written, which converts the temporary, if it is one,
// to t.
int yd_make_readable(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dt, int *buf, yd_err *err);
int yd_make_writable(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dt, int *buf, yd_err *err);
int yd_make_written(yd_exec *e, const yd_op *op, yd_tid t, yd_dtype dt, int buf, yd_err *err);
// Refuse the operator unless t exists, has this shape (0 = any) and, for vectors and the like, is f32.
int yd_need(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, int h, int w, int c, yd_err *err);
int yd_need_f32(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, int h, int w, int c, yd_err *err);
// The same for a parameter or its gradient; dims beyond its rank are 1.
int yd_need_param(const yd_exec *e, const yd_op *op, yd_tid t, const char *role, const int dims[4], yd_err *err);

// Rows (pixels) of c channels per block of a parallel loop: about 16 Ki elements, by shape alone (invariant 2).
static inline size_t yd_block_rows(size_t rows, size_t c)
{
    size_t r = 16384 / c;
    r = r < 8 ? 8 : r > 256 ? 256 : r;
    return r < rows ? r : rows;
}

#endif
