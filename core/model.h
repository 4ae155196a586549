// A model: its description, its weights in host memory, and the graph they belong to.
//
// File: one safetensors with metadata "yoda.config" (the JSON below) and parameters under the names of the public SR3 code
// (downs.N..., mid.N..., ups.N..., final_conv..., noise_level_mlp... or time_mlp...; a "denoise_fn." prefix is dropped). A config beside
// the file, <file without .safetensors>.json or config.json in its folder, serves where the metadata is missing, and may be a config
// of the public code.
//
//   {"format": "yoda-model-1", "name": "yoda-compact-4x",
//    "network": {"type": "sr3" | "ddpm", "in_channel": 6, "out_channel": 3, "inner_channel": 48,
//                "channel_multiplier": [1,2,3], "res_blocks": 2, "norm_groups": 8, "attn_res": [], "image_size": 128, "unshuffle": 2, "mid_attention": false,
//                "noise_scale": 1000},
//    "noise_input": "sqrt_gamma" | "sqrt_one_minus_gamma" | "timestep",    what the network is told about the noise
//    "prediction": "eps" | "x0" | "v", "target": "direct" | "residual", "residual_scale": 4, "clip": 3,
//    "mask_input": true,   Eq. 9: the network sees zeros outside the mask; false: the enlarged picture at the step's noise level
//    "schedule": {"kind": "linear"|"cosine"|"cosine_betas", "train_steps": 2000, "start": 1e-6, "end": 1e-2},
//    "scale": 4, "window": 128, "overlap": 24, "conditioning": "pillow8"|"matlab256",
//    "defaults": {"steps": 8, "sampler": "ddim", "eta": 0.5, "attention": "edge", "mask_form": "add", "lower_bound": 0.4,
//                 "dtype": "auto" | "f32" | "bf16"},
//    "profiles": {"fast": {"steps": 4, ...}, "best": {...}}}    keys of "defaults" without dtype; what is absent is as in "defaults"
//
// A network of SRDiff: {"type": "srdiff", "inner_channel": 64, "channel_multiplier": [1,2,3,4], "up_scale": 4, "rrdb_blocks": 17,
// "rrdb_features": 64}; its parameters are those of the public code, denoise_fn... and rrdb..., without the encoder's own upscaler.
//
// Threads: a loaded model is read-only and may be shared.
#ifndef YD_CORE_MODEL_H
#define YD_CORE_MODEL_H

#include "core/graph.h"
#include "core/learned_map.h"
#include "core/mask.h"
#include "core/schedule.h"
#include <stdint.h>

#define YD_MAX_LEVELS 8

typedef enum { YD_PREDICT_EPS, YD_PREDICT_X0, YD_PREDICT_V } yd_prediction;
typedef enum { YD_TARGET_DIRECT, YD_TARGET_RESIDUAL } yd_target;
// How up(LR) is made. MATLAB256: MATLAB's bicubic of bytes divided by 256 instead of 255, in float and not clipped, as SRDiff was trained.
typedef enum { YD_CONDITION_PILLOW8, YD_CONDITION_MATLAB256 } yd_conditioning;
typedef enum { YD_NOISE_SQRT_GAMMA, YD_NOISE_SQRT_1M_GAMMA, YD_NOISE_TIMESTEP } yd_noise_input; // yd_schedule_timestep() says which
// The two UNets of the public code. They differ in the noise embedding's name, in where a block takes it in, and in that ddpm puts a SiLU
// before that; what they are told (noise_input) is a matter of its own, whose default follows the type. SRDiff's network is another one.
typedef enum { YD_NET_SR3, YD_NET_DDPM, YD_NET_SRDIFF } yd_net_type;
// DPMPP_2M: DDIM's step with the prediction extrapolated from the last two, DPM-Solver++(2M) where eta is 0 (Lu et al. 2022).
typedef enum { YD_SAMPLER_ANCESTRAL, YD_SAMPLER_DDIM, YD_SAMPLER_DPMPP_2M } yd_sampler_kind;
typedef enum { YD_VARIANCE_POSTERIOR, YD_VARIANCE_BETA } yd_variance;
typedef enum { YD_LR_FORWARD, YD_LR_LITERAL } yd_lr_noise;
// What somebody wants feature maps stored in; auto leaves it to the next who is asked: client, model, machine.
typedef enum { YD_STORE_AUTO, YD_STORE_F32, YD_STORE_BF16 } yd_storage;

typedef struct yd_net_config {
    yd_net_type type;
    int in_channel, out_channel, inner_channel;
    int n_levels, mult[YD_MAX_LEVELS];
    int res_blocks, norm_groups;
    int n_attn, attn_res[YD_MAX_LEVELS];
    int image_size;     // fixes where attn_res lands, as in the public code; not the size run
    int unshuffle;      // r: the network runs on r x r pixel-unshuffled input; 1 = none
    int mid_attention;  // 1 as in SR3
    float noise_scale;  // multiplies the noise level before the sinusoids; 1 as in SR3
    // srdiff, which has none of what stands from res_blocks to here and in_channel 3:
    int up_scale;       // of the enlargement that is built into it: even, and the model's scale
    int rrdb_blocks, rrdb_features; // of its encoder
} yd_net_config;

// How a job samples. A model's config gives the defaults; clients may change them.
typedef struct yd_sample_settings {
    int steps;                // S, 1..YD_MAX_STEPS
    uint64_t seed;
    yd_sampler_kind sampler;
    yd_variance variance;     // ancestral: which sigma
    float eta;                // ddim, dpmpp_2m: 0 = deterministic, 1 = ancestral noise; 0..1
    double spacing;           // step s stands at (s/S)^spacing of the noise range: yd_schedule_make(); 0 counts as 1
    char attention[32];       // method name
    yd_mask_form mask_form;
    double lower_bound;       // l, 0..1
    yd_lr_noise lr_noise;
    yd_allocation allocation; // which steps a pixel gets
    double fidelity;          // 0..1: the result is (1-f)*sample + f*(the pixel's first prediction)
    int skip;                 // 1: windows without an active pixel are skipped (same bytes either way)
} yd_sample_settings;

// What a request's quality chooses: settings for the same weights. Balanced is "defaults".
typedef enum { YD_QUALITY_FAST, YD_QUALITY_BALANCED, YD_QUALITY_BEST, YD_QUALITIES } yd_quality;

typedef struct yd_profile {
    int given; // 0: not in the config, derived from the defaults
    yd_sample_settings set;
} yd_profile;

// What a config of the public code has said. All 0 for a config of ours, and not in the printed text.
typedef struct yd_public_said {
    int is_public, has_schedule, has_size, has_scale;
    yd_schedule_config trained; // its beta_schedule.train; train_steps 0: not said
} yd_public_said;

typedef struct yd_model_config {
    char name[64];
    yd_net_config net;
    yd_noise_input noise_input;
    yd_prediction prediction;
    yd_target target;
    float residual_scale; // residual target: the network's variable is residual_scale * (HR - up(LR))
    float clip;           // x0 is clamped to [-clip, clip]; 0 = never
    int mask_input;       // 1: the network is shown m*z (Eq. 9). 0: z of Eq. 12, outside the mask the mean at the step's noise level. Weights
                          // are trained for one of them; 0 goes with the late allocation only
    yd_schedule_config schedule;
    yd_conditioning conditioning;
    int scale;            // native upscaling factor
    int window, overlap;  // pixels of the output grid; window is a multiple of yd_net_multiple()
    int window_height;    // 0 = square, as all config files have it; set only to compare with other implementations on rectangles
    yd_sample_settings defaults;
    yd_profile fast, best; // the other profiles; yd_model_config_profile() reads them
    yd_storage dtype;     // among the defaults in the file
    yd_public_said from;
    const yd_map_net *map_net; // of attention=learned, or NULL; not in the config's text: the model's, borrowed
    struct yd_attention_nets *nets; // attention networks by name, or NULL; likewise, of whoever runs the model
} yd_model_config;

typedef struct yd_model {
    yd_model_config cfg;
    char path[512];
    char checksum[72];    // "sha256:<64 hex>" of the file's bytes
    char assumed[192];    // what neither the file nor a config said of a public checkpoint, for a warning; "" = nothing
    float **params;       // [n_params], f32, order of the network's graph
    int n_params;
    size_t param_count;   // elements in all
    yd_map_net *map_net;  // the file's learned attention map, or NULL
} yd_model;

// Parse a config text (ours, or one of the public code). Every field is range-checked; YD_E_CHECKPOINT naming the field.
int yd_model_config_parse(const char *json, size_t len, yd_model_config *out, yd_err *err);
// Write it as JSON (what goes into "yoda.config"). Returns the length needed, as snprintf.
size_t yd_model_config_print(const yd_model_config *cfg, char *dst, size_t cap);
// Give a config other windows than its own: any model runs with any window that its network can be built for, but normalisation over a
// window makes results differ a little. window 0: as it is; overlap -1: the same share of the window as it was. YD_E_SETTING naming
// "window" or "overlap"; then *cfg is unchanged.
int yd_model_config_windows(yd_model_config *cfg, int window, int overlap, yd_err *err);
// The type that feature maps are stored in when auto was asked for: the model's own, or the best of a machine with or without bf16.
yd_dtype yd_model_config_dtype(const yd_model_config *cfg, int has_bf16);
// The settings that a quality stands for. A profile that the config does not give is derived from the defaults: fast takes half their
// steps, best twice as many (as far as a linear schedule goes) and no mask, a lower bound of 1.
void yd_model_config_profile(const yd_model_config *cfg, yd_quality q, yd_sample_settings *set);
// "fast", "balanced" or "best". YD_E_SETTING saying so, and where the encoder's number belongs that older clients send.
int yd_quality_parse(const char *value, yd_quality *out, yd_err *err);
const char *yd_quality_name(yd_quality q);
// Lay a config text over a config: what it says replaces, what it does not say stays. YD_E_CHECKPOINT as when parsing; then *cfg is unchanged.
int yd_model_config_update(yd_model_config *cfg, const char *json, size_t len, yd_err *err);
// Defaults of every field, before parsing: the SR3 conventions.
void yd_model_config_init(yd_model_config *cfg);

// Load a model file in any container (core/tensors.h): read, check against its network (missing and unexpected tensors are named), checksum; a
// checksum that the file carries must hold. YD_E_IO, YD_E_CHECKPOINT,
// YD_E_INVALID (over 4 GiB), YD_E_NOMEM; every message names the file.
//
// A checkpoint of the public SR3 code needs no config: what its tensors do not say is then as in the published configs, and told in
// `assumed`. Its names may stand under other words ("module.", "state_dict.", "denoise_fn."); what is beside them is not looked at.
int yd_model_load(const char *path, yd_model **out, yd_err *err);
// The same with a config file of one's own instead of the one inside or beside it. config NULL: as yd_model_load.
int yd_model_load_with(const char *path, const char *config, yd_model **out, yd_err *err);
// Only what a file says of itself, without its weights: its config, as yd_model_load would take it. The same errors, the file not always named;
// YD_E_UNSUPPORTED: it is a network for attention maps (core/attention_net.h).
int yd_model_peek(const char *path, yd_model_config *out, yd_err *err);
void yd_model_free(yd_model *m);
// Make an untrained model: deterministic initial weights from `seed` (second conv of each block and the output conv zero when zero_init).
int yd_model_init(const yd_model_config *cfg, uint64_t seed, int zero_init, yd_model **out, yd_err *err);
// Save parameters (params[i] in graph order) as f32 or bf16. tmp + fsync + rename.
int yd_model_save(const yd_model_config *cfg, const float *const *params, int n_params, yd_dtype dt, const char *path, yd_err *err);

// Write a model file anew as one of ours: the network's tensors under the names above, the config and a checksum of the whole file inside
// (core/seal.h). config: a config file of its own as in yd_model_load_with, or NULL; changes: config texts laid over it, one after the
// other. Weights, in their type and to the bit, the learned map and other metadata stay; the tensors must fit the changed network. in
// and out may be the same file. Errors of loading, YD_E_IO.
int yd_model_rewrite(const char *in, const char *config, const char *out, const char *const *changes, int n, yd_err *err);
// Write a model file anew with this learned map in place of its own, if it had one; everything else stays to the bit. The same errors.
int yd_model_put_map(const char *in, const char *out, const yd_map_net *net, yd_err *err);

// The network's graph for inputs of h x w pixels (multiples of yd_net_multiple, yd_net_least or more). Tensors: input "x" [h,w,in_channel]
// (6: condition first, then m*z; 3: m*z alone), input "level" [1,1,1], output "out" [h,w,out_channel]; of a network with an encoder
// also the input "cond" [h,w,inner_channel], what the encoder made. train: keep what backward needs (stats). The graph is
// finished unless train, where the caller appends the loss first.
int yd_net_build(const yd_net_config *net, int h, int w, yd_dtype act, int train, yd_graph **out, yd_err *err);
// Has the network an encoder, a part that sees the small picture and is the same for every step?
int yd_net_has_encoder(const yd_net_config *net);
// Its graph for a picture of h x w pixels after enlargement, of the same parameters in the same order as yd_net_build's: input "lr"
// [h/up_scale, w/up_scale, 3] with values 0..1, output "out" [h,w,inner_channel]. In f32.
int yd_net_build_encoder(const yd_net_config *net, int h, int w, yd_graph **out, yd_err *err);
// Height and width must be multiples of this: unshuffle * 2^(levels-1), and of up_scale where there is an encoder; and no less than that.
int yd_net_multiple(const yd_net_config *net);
int yd_net_least(const yd_net_config *net);

#endif
