// From a picture to what an attention network is shown, and from its raw maps to YODA's A: what all networks have in common.
//
//   up(LR) -> bicubic to the network's size -> [network] -> raw [heads][gh][gw] -> each head to 0..1 -> one head, their mean or maximum -> A
//
// The network's size: the short side becomes short_side, or less where the long one would pass long_side; proportions stay, then both sides
// are rounded down to what the network takes. All pure and reentrant.
#ifndef YD_CORE_ATTENTION_MAP_H
#define YD_CORE_ATTENTION_MAP_H

#include "core/attention_net.h"

typedef enum { YD_ATTENTION_BILINEAR, YD_ATTENTION_NEAREST, YD_ATTENTION_BICUBIC } yd_attention_resize; // of A to the picture's grid

typedef struct yd_attention_map_options {
    int short_side, long_side; // pixels of the network's input, YD_ATTENTION_SIDE_MIN..YD_ATTENTION_MAX_SIDE
    yd_attention_norm norm;
    yd_attention_resize resize;
} yd_attention_map_options;

#define YD_ATTENTION_SIDE_MIN 32
#define YD_ATTENTION_MAP_DEFAULTS                                                                                                          \
    (yd_attention_map_options)                                                                                                             \
    {                                                                                                                                      \
        .short_side = 224, .long_side = 480, .norm = YD_ATTENTION_NORM_OWN, .resize = YD_ATTENTION_BILINEAR                                \
    }

// Which of a network's heads: 0.., or all of them.
enum { YD_ATTENTION_HEAD_MAX = -1, YD_ATTENTION_HEAD_AVG = -2 };

// The size that a picture of w x h is shown to a network in.
void yd_attention_input_size(const yd_attention_net_info *net, const yd_attention_map_options *opt, int w, int h, int *nw, int *nh);
// The picture in that size: rgb w*h*3 bytes, out nw*nh*3 bytes; Pillow's bicubic, antialiased where it shrinks. YD_E_NOMEM.
int yd_attention_input(const uint8_t *rgb, int w, int h, uint8_t *out, int nw, int nh, yd_err *err);
// n bytes as a network wants them: 0..1.
void yd_attention_unit(const uint8_t *bytes, size_t n, float *dst);

// A of w x h from a variant's raw maps: map w*h floats in [0,1]. head: below v->heads, or one of the above. With MAX a place is 1 where some
// head has its largest value; AVG is the plain mean. YD_E_NOMEM.
int yd_attention_map_make(const yd_attention_variant *v, const yd_attention_map_options *opt, const float *raw, int gw, int gh, int head,
                          float *map, int w, int h, yd_err *err);

// By public name: "own", "minmax", "max", "p99"; "bilinear", "nearest", "bicubic". YD_E_SETTING naming `field` and the words.
int yd_attention_norm_parse(const char *field, const char *word, yd_attention_norm *out, yd_err *err);
int yd_attention_resize_parse(const char *field, const char *word, yd_attention_resize *out, yd_err *err);
const char *yd_attention_norm_name(yd_attention_norm n);
const char *yd_attention_resize_name(yd_attention_resize r);

#endif
