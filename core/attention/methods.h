// The attention methods, one per file; core/attention/attention.c lists them. Contract: compute in core/attention.h.
#ifndef YD_CORE_ATTENTION_METHODS_H
#define YD_CORE_ATTENTION_METHODS_H

#include "core/err.h"
#include <stdint.h>

int yd_attention_constant(const uint8_t *rgb, int w, int h, float *map, yd_err *err);
int yd_attention_gaussian(const uint8_t *rgb, int w, int h, float *map, yd_err *err);
int yd_attention_edge(const uint8_t *rgb, int w, int h, float *map, yd_err *err);
int yd_attention_sift(const uint8_t *rgb, int w, int h, float *map, yd_err *err);

#endif
