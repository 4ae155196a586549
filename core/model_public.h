// Networks of the public SR3 code, told from a checkpoint's tensors alone: names and shapes say everything about the network but its
// norm_groups, and the buffers beside it say which noise schedule it was trained with.
//
// Stateless; any thread. Read next: core/model.c, which asks, and core/model_config.c, which reads that code's config files.
#ifndef YD_CORE_MODEL_PUBLIC_H
#define YD_CORE_MODEL_PUBLIC_H

#include "core/model.h"
#include "core/safetensors.h"

typedef struct yd_public_net {
    char root[128];   // what stands before the schedule's buffers: "", "module.", "state_dict.", ...
    char prefix[160]; // what stands before the network's own names: root, mostly with "denoise_fn." behind it
    yd_net_config net; // type, channels, levels, res_blocks, mid_attention; the rest is 0
    int attends[YD_MAX_LEVELS]; // 1: the level's blocks have attention
    int buffers; // T of the file's schedule buffers, 0: it has none
    yd_schedule_config schedule; // that they are of; train_steps 0: none, or not a linear one
} yd_public_net;

// Where a file's network stands: root and prefix of *out. 1 found, 0 none there; YD_E_CHECKPOINT when there are several.
int yd_public_locate(const yd_safetensors *st, yd_public_net *out, yd_err *err);

// All of *out, of a located network. YD_E_CHECKPOINT naming the tensor that fits no such network, or that the network takes no picture.
int yd_public_detect(const yd_safetensors *st, yd_public_net *out, yd_err *err);

// Make the config what the file says it is. Where cfg came from a config of the public code, the two must agree, except on where attention
// sits, which the file decides; otherwise (cfg->from.is_public 0) cfg becomes that of the published file of this kind. What neither file nor config
// says is assumed and told in `assumed` ("" when nothing is). YD_E_CHECKPOINT naming the field that differs.
int yd_public_settle(const yd_public_net *found, yd_model_config *cfg, char *assumed, size_t cap, yd_err *err);

// The 12 buffers against the schedule that the config says the network was trained with. YD_E_CHECKPOINT naming the buffer; YD_E_NOMEM.
int yd_public_check_buffers(const yd_safetensors *st, const yd_public_net *found, const yd_model_config *cfg, yd_err *err);

// Is this one of the 12 buffers' names?
int yd_public_is_buffer(const char *name);

// How the public code's networks are sampled unless told otherwise: all T steps, ancestral, every pixel in each; `fast` takes at most 100, ddim.
void yd_public_sampling(yd_model_config *cfg);
// The schedule of the published configs for networks of this type.
yd_schedule_config yd_public_schedule(yd_net_type type);
// The message for networks that make pictures from nothing.
int yd_public_takes_no_picture(yd_err *err, const char *field);

#endif
