// Networks whose attention says where a picture matters: DINO's vision transformers and ResNet-50, SqueezeNet. Pictures in, raw maps
// per head out; core/attention_map.h makes YODA's A of them, core/attention_nets.h finds them by name.
//
// A file is recognised by the names and shapes of its tensors, whatever stands before the names (module., backbone., teacher.); of a
// training checkpoint with a teacher and a student the teacher is taken, and tensors that take no part (head.*) are not looked at. Every
// kind is a row of the table in attention_net.c and one or two files, see attention_net_kinds.h.
//
// A network may be read in several ways, its variants: the first has no word of its own, others are asked for by theirs
// ("resnet50" and "resnet50-agf").
//
// Results do not depend on the number of threads, on how many pictures are run together, or on what was run before.
// Threads: a net belongs to one thread at a time; several nets may run at once. recognise, info and grid are free for all.
#ifndef YD_CORE_ATTENTION_NET_H
#define YD_CORE_ATTENTION_NET_H

#include "core/safetensors.h"

#define YD_ATTENTION_MAX_HEADS    64
#define YD_ATTENTION_MAX_VARIANTS 4
#define YD_ATTENTION_NAME_MAX     48
#define YD_ATTENTION_MAX_BATCH    8    // pictures run together
#define YD_ATTENTION_MAX_SIDE     2048 // pixels of an input

typedef enum { YD_ATTENTION_VIT, YD_ATTENTION_RESNET50, YD_ATTENTION_SQUEEZENET } yd_attention_net_kind;

// How a head's raw values become 0..1; who has none of a setting takes the variant's own.
typedef enum {
    YD_ATTENTION_NORM_OWN,    // as the variant says
    YD_ATTENTION_NORM_MINMAX, // (a - min) / (max - min); all 0 where these are equal
    YD_ATTENTION_NORM_MAX,    // max(a, 0) / max; all 0 where nothing is above 0
    YD_ATTENTION_NORM_P99     // the same with everything above the 99th percentile (nearest rank) cut down to it
} yd_attention_norm;

typedef struct yd_attention_variant {
    char word[16];          // what is appended to the name after a '-'; "" for the first
    yd_attention_norm norm; // never OWN
    int heads;              // 1..YD_ATTENTION_MAX_HEADS
    int stride;             // pixels of the input per place of a map: the patch
} yd_attention_variant;

typedef struct yd_attention_net_info {
    yd_attention_net_kind kind;
    // As published: "dino-vits8", "dino-vits16", "dino-vitb8", "dino-vitb16", "resnet50", "squeezenet"; of other sizes what it has:
    // "dino-vit48x3-8" is 48 channels, 3 blocks, patches of 8; "resnet1x1x1x1-32" is blocks per stage and channels.
    char name[YD_ATTENTION_NAME_MAX];
    int multiple;   // sides of an input are multiples of this
    int min_side;   // and at least this
    int depth, dim; // blocks; channels of what the map is made from
    int n_variants;
    yd_attention_variant variant[YD_ATTENTION_MAX_VARIANTS];
    size_t params;     // numbers that take part
    size_t bytes;      // of memory: weights and workspace as it is now
    char checksum[72]; // "sha256:<64 hex>" of the file's bytes; "" of tensors that came without a file
} yd_attention_net_info;

typedef struct yd_attention_net yd_attention_net;

typedef struct yd_attention_net_options {
    int threads; // of computing; 0: as many as OpenMP gives
    int heads;   // of a vision transformer, whose tensors do not say; 0: as a config.json beside the file says ("num_heads"), else dim/64
} yd_attention_net_options;

// Is this such a network? 1 and its kind, 0. Looks at names only; cheap.
int yd_attention_net_recognise(const yd_safetensors *st, yd_attention_net_kind *kind);

// Read a network from a file, or from tensors that are open already (not needed afterwards). opt NULL: zeros. YD_E_IO; YD_E_CHECKPOINT
// naming the tensor that is missing or has another shape, with the shape that is expected; YD_E_NOMEM, YD_E_DEVICE. Blocks; a file of
// 90 MB in the page cache takes a fraction of a second. Close with yd_attention_net_close (NULL is fine).
int yd_attention_net_open(const char *path, const yd_attention_net_options *opt, yd_attention_net **out, yd_err *err);
int yd_attention_net_open_tensors(const yd_safetensors *st, const yd_attention_net_options *opt, yd_attention_net **out, yd_err *err);
void yd_attention_net_close(yd_attention_net *net);

// As it was opened; bytes follows the workspace, so read that only where run and reserve are not under way.
const yd_attention_net_info *yd_attention_net_info_of(const yd_attention_net *net);

// The size of a variant's maps for an input of w x h pixels, whose sides info allows.
void yd_attention_net_grid(const yd_attention_net *net, int variant, int w, int h, int *gw, int *gh);

// Have memory for n pictures of w x h, so that runs up to that need no more. YD_E_NOMEM, YD_E_DEVICE.
int yd_attention_net_reserve(yd_attention_net *net, int variant, int n, int w, int h, yd_err *err);

// Make the maps of n pictures (1..YD_ATTENTION_MAX_BATCH) of one size. rgb[i]: h*w*3 floats in 0..1, row-major, before any normalisation;
// raw[i]: heads x gh x gw floats to fill. Blocks while it computes. YD_E_INVALID for a size that info does not allow (naming "image"),
// YD_E_NUMERIC when a map is not finite, YD_E_NOMEM, YD_E_DEVICE.
int yd_attention_net_run(yd_attention_net *net, int variant, int n, int w, int h, const float *const *rgb, float *const *raw, yd_err *err);

#endif
