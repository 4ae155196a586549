// Attention maps: for every pixel of the upsampled picture, how much of the diffusion it deserves, in [0,1].
//
// Each method is one file in core/attention/ that fills one row of the table in attention.c; `learned` is a network of the model's own
// (core/learned_map.h). Methods get the LR picture already upsampled to the working grid. Deterministic: the same picture gives the same bits on
// any thread. Reentrant.
#ifndef YD_CORE_ATTENTION_H
#define YD_CORE_ATTENTION_H

#include "core/err.h"
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

// Make a map by any method; net is the model's, or NULL when it has none. YD_E_SETTING naming "attention" when the method needs one,
// YD_E_NOMEM.
int yd_attention_compute(const yd_attention_method *m, const yd_map_net *net, const uint8_t *rgb, int w, int h, float *map, yd_err *err);
// Would it? The same error, before anything is computed.
int yd_attention_available(const yd_attention_method *m, const yd_map_net *net, yd_err *err);

#endif
