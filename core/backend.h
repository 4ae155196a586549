// What an accelerator must do. core/cpu implements it on oneDNN, gpu/ on CUDA and cuDNN, as a plug-in (core/backend_load.h).
//
//   weights   the parameters of one model, resident on the device: f32 masters, working copies in whatever layout and type the
//             kernels want, and, for training, gradients' optimiser state (m, v) and the EMA.
//   exec      one graph compiled for one batch size: every kernel chosen, every buffer planned. Running it allocates, compiles
//             and plans nothing.
//
// Promises every backend keeps:
//   * Sample i of a run depends only on sample i of the inputs and on the weights: not on n, not on the other samples, not on
//     the thread count, not on timing. Kernels are chosen from fixed tables at compile time, never by a stopwatch.
//   * f32 graphs agree with the plain-loop oracles in tests/oracle to 2e-5 of the largest reference value (2e-4 with Winograd).
//   * An implementation that would fall back to a reference kernel fails at compile with YD_E_UNSUPPORTED, naming the operator.
//
// Threads: one thread at a time uses a backend and everything made from it (the device's owner). Different backends are independent.
#ifndef YD_CORE_BACKEND_H
#define YD_CORE_BACKEND_H

#include "core/canvas.h"
#include "core/graph.h"
#include <stdint.h>

typedef struct yd_backend yd_backend;
typedef struct yd_weights yd_weights;
typedef struct yd_exec yd_exec;

typedef struct yd_backend_info {
    char name[16];        // "cpu", "cuda"
    char device[96];      // the processor's or card's name
    char isa[32];         // instruction set or compute capability the kernels use, part of the fingerprint
    char library[48];     // "oneDNN 2.6.3"
    char kernels[32];     // which tables the kernels are chosen by ("direct-1", "winograd-1"), part of the fingerprint
    int threads;          // compute threads; 0 where the word has no meaning
    int bf16;             // bf16 convolutions run at hardware speed
    int batch_pays;       // batching raises throughput: the scheduler may wait for mates
    size_t memory_total;  // bytes on the device
} yd_backend_info;

typedef enum { YD_W_PARAM, YD_W_M, YD_W_V, YD_W_EMA } yd_weights_part;

// AdamW with decoupled weight decay (Loshchilov & Hutter), global-norm clipping and an exponential moving average of the weights.
typedef struct yd_adamw {
    float lr, beta1, beta2, eps, weight_decay;
    float clip_norm; // gradients are scaled by min(1, clip_norm / norm); 0 = no clipping
    float ema_decay; // ema = d*ema + (1-d)*w
    long step;       // 1-based, for bias correction
} yd_adamw;

// Time spent in one family of kernels, of all runs so far. Only when the backend was opened with `profile`.
typedef struct yd_profile_line {
    const char *family; // an operator's name, or a finer one; lives as long as the program
    long calls;
    double seconds;
} yd_profile_line;

typedef struct yd_exec_stats {
    size_t arena_bytes;   // activations
    size_t scratch_bytes; // kernel scratchpads
    size_t weight_bytes;  // working copies of parameters, beside the f32 masters; shared by the execs of one yd_weights
    int n_kernels;
    double flops;         // of one run (all n samples)
    yd_profile_line profile[16]; // in order of first use; unused lines have no family
} yd_exec_stats;

// Device memory, in bytes. What other processes have counts as not free.
typedef struct yd_backend_memory {
    size_t total, free;
    size_t weights, arena, scratch; // of this backend: parameters with their copies, activations, kernels' workspaces
} yd_backend_memory;

// Canvases in the device's memory, so that windows and predictions need not travel. A backend may be without; jobs' canvases are then the
// host's, and so they are for a job that finds no room. What these do is bit for bit what core/sampler.c does on the host.
typedef struct yd_canvas_ops {
    // Memory for a canvas, on 256 bytes, from what was set aside when the backend was opened. YD_E_NOMEM: there is no room now.
    int (*take)(yd_backend *be, size_t bytes, void **memory, yd_err *err);
    // Any thread may give it back while the backend is open, before what was asked of it has been done, too.
    void (*give)(yd_backend *be, void *memory);
    // Copy to and from such memory, in the order of what else is asked; src may be reused, and dst has it, on return.
    int (*write)(yd_backend *be, void *dst, const void *src, size_t bytes, yd_err *err);
    int (*read)(yd_backend *be, void *dst, const void *src, size_t bytes, yd_err *err);
    // run() with samples 0..n-1 cut from the units' canvases into the inputs x (a map) and level ([n,1,1,1]), and the output's predictions
    // put back onto them; for samples whose unit has no canvas, and those from n on, staging is what it is for run(). Units of one canvas
    // stand in window order. bad[i]: 1 where a prediction has NaN or Inf.
    int (*run)(yd_exec *e, yd_tid x, yd_tid level, yd_tid out, const yd_canvas_unit *units, int n, int *bad, yd_err *err);
    int (*step)(yd_backend *be, const yd_canvas *canvas, const yd_canvas_step *step, yd_err *err);
} yd_canvas_ops;

struct yd_backend {
    const yd_canvas_ops *canvas; // or NULL
    void (*close)(yd_backend *be); // waits for nothing; all weights and execs must be freed before
    void (*info)(const yd_backend *be, yd_backend_info *out);

    // Put a graph's parameters on the device. host[i]: parameter i in f32, its checkpoint layout (borrowed, copied).
    // train: 1 allocates m, v (zero) and EMA (a copy of the parameters) too. One yd_weights serves every exec whose graph has the same
    // parameters in the same order (other batch, other window, other dtype, training graph).
    int (*weights_new)(yd_backend *be, const yd_graph *g, const float *const *host, int train, yd_weights **out, yd_err *err);
    void (*weights_free)(yd_weights *w);
    // Copy one parameter's part to / from the host (blocks). Writing PARAM takes effect at the next run of each exec.
    int (*weights_read)(yd_weights *w, yd_weights_part part, int param, float *dst, yd_err *err);
    int (*weights_write)(yd_weights *w, yd_weights_part part, int param, const float *src, yd_err *err);
    // One optimiser step from the gradients of `train` (its last run). *grad_norm: the norm before clipping.
    // YD_E_NUMERIC when a gradient is NaN or Inf: the parameter is named, nothing is changed.
    int (*adamw)(yd_weights *w, yd_exec *train, const yd_adamw *hp, double *grad_norm, yd_err *err);

    // Compile a finished graph for n samples. The graph and the weights must outlive the exec.
    int (*compile)(yd_backend *be, const yd_graph *g, yd_weights *w, int n, yd_exec **out, yd_err *err);
    void (*exec_free)(yd_exec *e);
    void (*exec_stats)(const yd_exec *e, yd_exec_stats *out);
    // Host staging of an INPUT, OUTPUT or PGRAD tensor, f32, NHWC with n samples (PGRAD: the parameter's layout). Valid while the exec
    // lives. Inputs are read by run(), outputs are there when it returns. NULL for any other tensor.
    float *(*buffer)(yd_exec *e, yd_tid t);
    // Run all operators once; blocks until outputs are in their staging buffers.
    int (*run)(yd_exec *e, yd_err *err);
    // Tests and tools: copy any ACT tensor of the last run to the host as f32 (n samples). YD_E_UNSUPPORTED unless compiled with
    // keep_activations (see yd_cpu_options); never used on the request path.
    int (*peek)(yd_exec *e, yd_tid t, float *dst, yd_err *err);
    // Memory of a device that has its own; NULL where tensors lie in the process's memory.
    int (*memory)(const yd_backend *be, yd_backend_memory *out, yd_err *err);
};

typedef struct yd_cpu_options {
    int threads;          // compute threads, 1..1024; 0 = all cores this process may use
    int keep_activations; // no arena sharing, so that peek() works on every tensor
    int profile;          // time every kernel (yd_exec_stats.profile); also YODA_CPU_PROFILE=1, which prints each exec's times
                          // to stderr when it is freed
    int no_winograd;      // direct convolutions only: f32 agrees to 2e-5 instead of 2e-4, and weights take less memory
} yd_cpu_options;

// The oneDNN backend. Call yd_cpu_prepare_process() first thing in main(): OpenMP's wait policy can only be set before libgomp
// loads, so it re-executes the program once with OMP_WAIT_POLICY=passive in its environment (a no-op the second time).
void yd_cpu_prepare_process(char **argv);
int yd_cpu_open(const yd_cpu_options *opt, yd_backend **out, yd_err *err);

typedef enum {
    YD_ATTENTION_BEST,     // one kernel of the library up to the 256 channels that it documents, else products around a softmax
    YD_ATTENTION_PRODUCTS, // always products
    YD_ATTENTION_FUSED,    // one kernel wherever the library has one
} yd_cuda_attention;

// Of the CUDA backend, which core/backend_load.h opens. All zero is the default.
typedef struct yd_cuda_options {
    int device;           // index among the devices that CUDA shows, from 0
    int keep_activations; // no arena sharing, so that peek() works on every tensor
    int profile;          // time every kernel family with events; runs are launched one by one instead of as a graph
    int eager;            // launch kernels one by one instead of replaying a captured graph
    int tf32;             // f32 products on TF32 units: quicker, ten bits of mantissa
    int batch_variant;    // each batch size may have its own engines: quicker, but a sample's last bits may depend on its mates
    yd_cuda_attention attention; // of bf16 maps, to run a network
    int tune_ms;          // choose convolution engines by time when they are first met, so long for one model; then, and with 0, by the
                          // library's ranking. Only with plan_cache, so that a choice stays; backends of a process that have one file agree
    size_t memory_limit;  // bytes that this backend may hold; 0: what is free when it is opened, less a reserve
    const char *plan_cache; // file that keeps the choices of engines by GPU, library version and shape; NULL: kept in memory only
    int canvases; // set a sixteenth of the memory aside for jobs' canvases (yd_canvas_ops)
} yd_cuda_options;

#endif
