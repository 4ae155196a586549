// Attribution guided factorisation (AGF): maps at the input's resolution of what decided a network's highest features.
//
// The network is a trunk (core/cpu/trunk.h) of convolutions, ReLUs, sums and maxima, whose last map's channel means are the features Y. Head
// k is the map of the k-th highest of them. Two things go back layer by layer, the gradient G and an attribution C; core/agf_rules.h has
// the rules of single layers, agf.c those of convolutions:
//   1 x 1         C_in = |X| convT_|W|( sd(C, conv_|W|(|X|)) )                                                      ("flat")
//   k x k         the same, then yd_agf_full_rule
//   the first     Z = conv_W(X) - conv_W+(min X) - conv_W-(max X), S = sd(C, Z), C_in = X convT_W(S) - min X convT_W+(S) - max X convT_W-(S)
// A convolution's scale (a normalisation folded in) belongs to G's way only; C's has the weights as they are.
//
// Results do not depend on the number of threads or on how many heads go back together. A yd_agf belongs to one thread at a time.
#ifndef YD_CORE_AGF_H
#define YD_CORE_AGF_H

#include "core/cpu/trunk.h"

#define YD_AGF_MAX_HEADS 16

typedef struct yd_agf yd_agf;

// Steps as yd_trunk_new's, copied, what they point at borrowed until yd_agf_free. The first is a convolution of three channels and alone reads
// the input; no JOIN, no MEAN. heads: 1..YD_AGF_MAX_HEADS, at most the features; together: how many of them go back at once, a
// divisor of them, or 0: as many as memory suggests, which is less for large pictures.
// YD_E_INVALID, YD_E_NOMEM, YD_E_DEVICE.
int yd_agf_new(const yd_trunk_step *steps, int n_steps, int heads, int together, yd_agf **out, yd_err *err);
void yd_agf_free(yd_agf *a); // NULL is fine

// Kernels and memory for a picture of h x w; nothing to do when that was the last. Errors as yd_trunk_prepare.
int yd_agf_prepare(yd_agf *a, int h, int w, yd_err *err);
// Memory of maps, work areas and packed weights, as prepared.
size_t yd_agf_bytes(const yd_agf *a);

// Where the input is written before each run: h*w*3 floats. maps: heads x h x w, signed, to fill. YD_E_DEVICE. Allocates nothing.
float *yd_agf_input(yd_agf *a);
int yd_agf_run(yd_agf *a, float *maps, yd_err *err);

// The parts of a run, for tests. Forward; then C and G of the last map for `together` heads back to map `to`, whose C and G are written
// (to = 0: C only, g is not looked at).
int yd_agf_forward(yd_agf *a, yd_err *err);
int yd_agf_back(yd_agf *a, const float *last_c, const float *last_g, int to, float *c, float *g, yd_err *err);

#endif
