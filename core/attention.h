// Attention maps: for every pixel of the upsampled picture, how much of the diffusion it deserves, in [0,1].
//
// Each method is one file in core/attention/ that fills one row of the table in attention.c; `learned` is a network of the model's own
// (core/learned_map.h). Beside the methods there are networks by name, as "dino-vits8:max" (core/attention_nets.h). Methods get the LR picture already upsampled to the working grid. Deterministic: the same picture gives the same bits on
// any thread. Reentrant.
#ifndef YD_CORE_ATTENTION_H
#define YD_CORE_ATTENTION_H

#include "core/attention_nets.h"
#include "core/learned_map.h"
#include <stddef.h>
#include <stdint.h>

typedef struct yd_attention_method {
    const char *name;    // as clients write it: "edge"
    const char *summary; // one line for --help and /v1/capabilities
    // rgb: h*w*3 bytes, row-major; map: h*w floats to fill, each in [0,1]. 0, or YD_E_NOMEM. NULL: it needs a network, ask
    // yd_attention_compute.
    int (*compute)(const uint8_t *rgb, int w, int h, float *map, yd_err *err);
} yd_attention_method;

// All methods; *n is their number. Static storage.
const yd_attention_method *yd_attention_methods(size_t *n);

// Find one by name. YD_E_SETTING naming "attention" and listing the methods when there is none.
int yd_attention_find(const char *name, const yd_attention_method **out, yd_err *err);

// The networks that maps may be asked of. Borrowed; NULL: there is none.
typedef struct yd_attention_with {
    const yd_map_net *map_net; // the model's
    yd_attention_nets *nets;
} yd_attention_with;

// Is this the name of a method, or does it look like that of a network? YD_E_SETTING naming "attention" when neither.
int yd_attention_check(const char *name, yd_err *err);
// Can a map be made by this name? YD_E_SETTING naming "attention" and what there is, when not.
int yd_attention_available(const char *name, const yd_attention_with *with, yd_err *err);
// Make a map by a method's or a network's name. Errors as above, those of yd_attention_nets_map, YD_E_NOMEM.
int yd_attention_compute(const char *name, const yd_attention_with *with, const uint8_t *rgb, int w, int h, float *map, yd_err *err);

#endif
