// Training of a YODA model (Eq. 13 of the paper): pictures in a folder become weights in a model file.
//
// What is trained, on what and how is one JSON text (yd_train_config); where the run stops, resumes and reports is yd_train_options.
// The run is a sequence of iterations 1..N. Everything random in iteration k is a pure function of (seed, k), and the optimiser's
// state is kept in a checkpoint beside the model, so a run that was stopped and resumed ends in the same bytes as one that was not
// (same machine, same thread count, same pictures).
//
//   model file     <out>                          EMA weights, for yodad; rewritten at every checkpoint
//   checkpoint     <out minus .safetensors>.checkpoint.safetensors: parameters, AdamW moments, EMA, iteration, settings; if
//                  wanted in parts (core/parts.h)
//
// Threads: yd_train blocks; one helper thread prepares the next batch and is gone when it returns. It installs no signal handlers:
// a caller that wants a clean stop sets *options.stop from its own.
#ifndef YD_CORE_TRAIN_TRAIN_H
#define YD_CORE_TRAIN_TRAIN_H

#include "core/backend.h"
#include "core/degrade.h"
#include "core/image.h"
#include "core/model.h"
#include <signal.h>

#define YD_TRAIN_MAX_BATCH      1024
#define YD_TRAIN_MAX_ITERATIONS 100000000L
#define YD_TRAIN_MAX_SYNTHETIC  100000

typedef enum { YD_TRAIN_AUTO, YD_TRAIN_F32, YD_TRAIN_BF16 } yd_train_dtype;
typedef enum { YD_NORMALISE_ACTIVE, YD_NORMALISE_ALL } yd_train_normaliser;
typedef enum { YD_WEIGHT_NONE, YD_WEIGHT_SNR } yd_train_weight;

// The settings of a training. JSON keys have the names given; all but "model" and "data" may be left out.
//
//   {"model": {...}, "data": {"folder": "...", "memory_mb": 4096, "synthetic": 0, "synthetic_share": 0}, "out": "...", "out_dtype": "bf16", "seed": 1,
//    "iterations": 20000, "batch": 24, "crop": 64, "augment": true, "dtype": "auto", "checkpoint_every_s": 300,
//    "lr": 4e-4, "lr_floor": 0.02, "warmup": 200, "weight_decay": 1e-4, "clip_norm": 1.0, "ema": 0.999,
//    "loss_p": 1, "normaliser": "active", "loss_weight": {"kind": "snr", "min": 0.2, "max": 5},
//    "attention": "edge", "mask_form": "add", "lower_bound": [0.02, 0.52],
//    "degrade": {"preset": "mild", "share": 0.5, "blur": [0, 0.8], "blur_share": 0.5, "noise": [0, 4], "noise_share": 0.6,
//                "jpeg": [70, 98], "jpeg_share": 0.8, "full_chroma": 0.4}}
// docs/training.md describes each key.
typedef struct yd_train_config {
    yd_model_config model;
    char folder[512];       // data.folder: PNG and JPEG files, used in the order of their names; or a file that yd_train_pack wrote
    int synthetic;          // data.synthetic: procedural pictures beside the folder's; with them the folder may be left out
    float synthetic_share;  // data.synthetic_share: of samples that come from them; 0 = every picture is as likely as any other
    int memory_mb;          // data.memory_mb: the decoded pictures may take this much
    char out[512];          // model file to write
    yd_dtype out_dtype;     // of the model file
    uint64_t seed;          // of the initial weights and of every draw
    long iterations;        // length of the learning-rate schedule
    int batch;              // 1..YD_TRAIN_MAX_BATCH
    int crop;               // side of the HR crops, a multiple of yd_net_multiple()
    int augment;            // 1: each crop in one of 8 orientations
    yd_train_dtype dtype;   // of feature maps; auto = bf16 where the backend is fast at it
    int checkpoint_every_s; // 0 = only at the end
    float lr, lr_floor;     // peak rate; the cosine ends at lr * lr_floor
    long warmup;            // iterations of linear warm-up
    float weight_decay, clip_norm, ema;
    int loss_p;                     // 1 or 2
    yd_train_normaliser normaliser; // the loss is divided by the number of active values of the batch, or of all
    yd_train_weight weight_kind;    // snr: gamma/(1-gamma), clamped
    float weight_min, weight_max;
    char attention[32]; // method that makes the maps, on whole pictures
    yd_mask_form mask_form;
    double lower_bound[2]; // each sample draws its l uniformly from this range
    yd_degrade_ranges degrade; // of the LR side; share 0 = bicubic reduction alone
} yd_train_config;

// Every default, without a model or a folder.
void yd_train_config_init(yd_train_config *cfg);
// Parse a config text. Unknown keys and values out of range are YD_E_CONFIG, naming the key and what it accepts; the model's part
// is reported by yd_model_config_parse.
int yd_train_config_parse(const char *json, size_t len, yd_train_config *out, yd_err *err);
// The same from a file of at most 1 MiB. YD_E_IO when it cannot be read.
int yd_train_config_load(const char *path, yd_train_config *out, yd_err *err);

typedef enum {
    YD_TRAIN_START,   // from iteration 1; refused (YD_E_CONFLICT) when a checkpoint is already there
    YD_TRAIN_RESUME,  // go on from the checkpoint; YD_E_IO when there is none
    YD_TRAIN_RESTART, // from iteration 1; an existing checkpoint is replaced by the first one written
} yd_train_mode;

typedef struct yd_train_progress {
    long iteration, iterations;
    double loss;      // exponential mean over about 100 iterations
    double grad_norm; // of this iteration, before clipping
    double lr;
    double samples_per_s; // exponential mean
    double active_share;  // active pixels / all, exponential mean
    double eta_s;         // at the current speed
    double elapsed_s;     // of this call, the loading of pictures included
} yd_train_progress;

typedef struct yd_train_options {
    yd_train_mode mode;
    const char *init_model; // START/RESTART: begin with this model file's weights (same network); NULL = untrained
    double max_minutes;     // stop so early that checkpoint and model file are written by then, as far as the iterations and saves so far tell; 0 = no limit
    long stop_after;        // stop after this many iterations of this call, with a checkpoint; 0 = no limit
    size_t checkpoint_part; // checkpoints are written in parts of at most this many bytes (core/parts.h); 0 = in one file. Either is resumed
    volatile sig_atomic_t
        *stop; // NULL, or: when it becomes non-zero, stop with a checkpoint after the current iteration
    void (*progress)(void *user, const yd_train_progress *p); // after every iteration; may be NULL
    void (*notice)(void *user, const char *text); // rare events: a picture skipped, a checkpoint written; may be NULL
    void *user;
} yd_train_options;

typedef struct yd_train_result {
    long iteration; // last one done
    int finished;   // 1: all iterations are done
    double loss;    // as in yd_train_progress
    int pictures;   // in use
    int skipped;    // files that could not be used
} yd_train_result;

// Train on `be` (borrowed; nothing else may use it meanwhile). Blocks until all iterations are done or the options say stop; then the
// checkpoint and the model file are written. *res may be NULL. Callers override settings (folder, out, iterations) in their copy of cfg.
// On resume the settings that decide the weights must be those of the checkpoint; `iterations` may differ (the schedule is then that of the
// new number), as may out_dtype and checkpoint_every_s.
// Errors: YD_E_CONFIG (a setting; the pictures do not fit it or the memory), YD_E_IMAGE (no usable picture in the folder), YD_E_CONFLICT
// (see yd_train_mode; a resumed checkpoint of other settings or pictures), YD_E_NUMERIC (loss or gradient is NaN or Inf: the iteration is named,
// earlier files stay as they are), YD_E_CHECKPOINT, YD_E_IO, YD_E_NOMEM, YD_E_UNSUPPORTED.
int yd_train(yd_backend *be, const yd_train_config *cfg, const yd_train_options *opt, yd_train_result *res,
             yd_err *err);

// Make a picture of the first `samples` (1..1024) samples that a run with these settings draws: pairs of the HR crop and what the network is
// shown of it, side by side. Of opt (may be NULL) notice and stop are used. Blocks. *out is the caller's (yd_image_clear). Errors as yd_train's
// about settings, pictures and memory.
int yd_train_show(const yd_train_config *cfg, const yd_train_options *opt, int samples, yd_image *out, yd_err *err);

// Write the pictures that a run with these settings takes from data.folder as one file of raw bytes in parts of at most YD_TRAIN_PACK_PART: data.folder
// of a training elsewhere, which ends in the same weights. Procedural ones are not in it: they are drawn there. Of opt (may be NULL) notice and
// stop are used. Blocks. *res may be NULL. Errors as yd_train's about settings, pictures and memory, and YD_E_IO.
#define YD_TRAIN_PACK_PART ((size_t)40000000)

typedef struct yd_train_packed {
    int pictures, skipped;
    size_t bytes; // of the pictures
} yd_train_packed;

int yd_train_pack(const yd_train_config *cfg, const yd_train_options *opt, const char *path, yd_train_packed *res, yd_err *err);

// Train the learned attention map (core/learned_map.h) for models of cfg's scale, on cfg's pictures and seed; nothing else of cfg is used.
// A pure function of them and of the number of iterations: one thread, the same bytes every time. Takes a minute or two, so that it has no
// checkpoint. progress and notice may be NULL; *stop non-zero ends it with YD_E_CANCELLED. Errors as yd_train's about pictures, YD_E_NUMERIC,
// YD_E_NOMEM.
typedef struct yd_map_options {
    long iterations; // of 16 crops of 32 x 32 averages; YD_MAP_ITERATIONS is plenty
    volatile sig_atomic_t *stop;
    void (*progress)(void *user, long iteration, long iterations, double loss);
    void (*notice)(void *user, const char *text);
    void *user;
} yd_map_options;

typedef struct yd_map_result {
    double loss;  // mean squared difference, exponential mean over about 100 iterations
    double level; // c of the target e / (e + c), in shares of the full range
    int pictures; // in use
} yd_map_result;

#define YD_MAP_ITERATIONS 2000

int yd_train_map(const yd_train_config *cfg, const yd_map_options *opt, yd_map_net *out, yd_map_result *res, yd_err *err);

// Path of the checkpoint that belongs to a model file. YD_E_CONFIG when it does not fit.
int yd_train_checkpoint_path(const char *out, char *dst, size_t cap, yd_err *err);

#endif
