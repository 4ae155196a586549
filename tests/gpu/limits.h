// The least time that a device can need for a run of a network: what its operators compute and move, against the rates of its matrix units and
// its memory.
#ifndef YODA_TESTS_GPU_LIMITS_H
#define YODA_TESTS_GPU_LIMITS_H

#include "core/graph.h"

typedef struct gpu_machine {
    double flops; // multiply-adds * 2 per second of the matrix units
    double bytes; // per second, read and written together
} gpu_machine;

typedef struct gpu_limit {
    double flops, bytes;
    double matrix, memory; // seconds, were there only the one or the other
    double seconds;        // the sum over operators of the longer of the two: one kernel after another
} gpu_limit;

// One operator, for a batch of n. Maps are counted as often as gpu/'s kernels pass over them: a large map's normalisation reads it twice, what is
// joined or enlarged is written, attention's scores and weights are. Parameters are read once, in the maps' type.
gpu_limit gpu_limit_of_op(const yd_graph *g, const yd_op *op, int n, const gpu_machine *m);
// The whole graph.
gpu_limit gpu_limit_of(const yd_graph *g, int n, const gpu_machine *m);

// Tables of the paper's SR3 and of the model that ships; no device is asked. 0, or 1 with a line on stderr.
int gpu_limits_print(const gpu_machine *m);

#endif
