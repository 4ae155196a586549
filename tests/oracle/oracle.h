// A graph run in double by plain loops: the meaning of every operator, written to be read.
//
// Nothing here is fast, shared with core/cpu, or clever. Tensors are double arrays, NHWC with n samples, or a
// parameter in its checkpoint layout. Tests fill the inputs and parameters, run, and compare.
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include "core/backend.h"

typedef struct oracle {
    const yd_graph *g;
    int n;
    double **t; // by tensor
} oracle;

// All tensors zero. NULL when out of memory.
oracle *oracle_new(const yd_graph *g, int n);
void oracle_free(oracle *o);
// Elements of a tensor, all samples.
size_t oracle_count(const oracle *o, yd_tid t);
// Run every operator in order. round: store bf16 tensors as bf16 would, after each operator and for the inputs.
void oracle_run(oracle *o, int round);
// The value bf16 storage would keep (round to nearest even).
double oracle_bf16(double x);

// Index of (sample, y, x, channel) in map t.
size_t oracle_at(const oracle *o, yd_tid t, int s, int y, int x, int c);

// One operator; forward.c and backward.c.
void oracle_forward(oracle *o, const yd_op *op);
void oracle_backward(oracle *o, const yd_op *op);

// One AdamW step on one parameter. grad_scale: the clipping factor.
void oracle_adamw(const yd_adamw *hp, double grad_scale, size_t n, const double *g, double *w, double *m, double *v,
                  double *ema);

#endif
