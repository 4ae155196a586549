// Private to core/attention_net*.c: what a kind of network is, and the tensors of a file as a kind sees them.
//
// A kind is a constant yd_attention_kind, defined in its own file and named in the table of attention_net.c. Sizes and variants are
// checked before a kind's functions are called.
#ifndef YD_CORE_ATTENTION_NET_KINDS_H
#define YD_CORE_ATTENTION_NET_KINDS_H

#include "core/attention_net.h"

// Where a network stands in a file: its tensors' names without what is common to them all.
typedef struct yd_attention_tensors {
    const yd_safetensors *st;
    char prefix[160];
} yd_attention_tensors;

typedef struct yd_attention_kind {
    yd_attention_net_kind kind;
    const char *const *marks; // names, NULL at the end: a file that has all of them, under one prefix, is of this kind
    // Make the network. info comes zeroed with its kind and checksum; everything else is filled in. *state is what the others get. What
    // open has made it frees itself when it fails.
    int (*open)(const yd_attention_tensors *t, const yd_attention_net_options *opt, yd_attention_net_info *info, void **state, yd_err *err);
    void (*grid)(const void *state, int variant, int w, int h, int *gw, int *gh);
    int (*reserve)(void *state, int variant, int n, int w, int h, yd_err *err);
    int (*run)(void *state, int variant, int n, int w, int h, const float *const *rgb, float *const *raw, yd_err *err);
    size_t (*bytes)(const void *state); // of memory, now
    void (*free)(void *state);
} yd_attention_kind;

extern const yd_attention_kind yd_attention_vit; // attention_net_vit.c
extern const yd_attention_kind yd_attention_resnet, yd_attention_squeezenet; // attention_net_resnet.c, attention_net_squeezenet.c

// What ImageNet's networks are shown of a value in 0..1: (x - mean) / deviation.
extern const float yd_imagenet_mean[3], yd_imagenet_deviation[3];

// A tensor by its name within the network, or NULL.
const yd_st_tensor *yd_attention_tensor(const yd_attention_tensors *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Its values as floats, when it has this shape: *out is 64-byte aligned and the caller's (yd_free_aligned). Dimensions 1..4.
// YD_E_CHECKPOINT when it is missing, has another shape or holds what is not finite; YD_E_NOMEM.
int yd_attention_tensor_read(const yd_attention_tensors *t, const char *name, int ndim, const int64_t *dims, float **out, yd_err *err);

#endif
