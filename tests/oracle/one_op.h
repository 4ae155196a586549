// Graphs of one operator with known operands, for tests that hold a backend to the oracle over a table of shapes.
//
// A spec names an operator and a shape. Its graph's tensors have fixed names ("x", "W", ...; gradients "d.x", "d.W",
// ...), so that the graphs of an operator and of its gradient can be matched.
#ifndef TESTS_ONE_OP_H
#define TESTS_ONE_OP_H

#include "tests/oracle/oracle.h"

typedef struct spec {
    yd_op_kind kind;
    int n, h, w, c;      // batch and input map; c channels
    int o, k, stride;    // convolutions, LINEAR (o)
    int groups, act;     // normalisation; act also of convolutions
    int reflect;         // convolutions
    int r, p;            // shuffles, LOSS
    int v, b, res;       // with the optional operands
    yd_dtype dt, out_dt; // of maps
} spec;

// The table: every operator over odd and even sizes, few and many channels, batches 1 to 5. Storage types are f32;
// tests change them.
const spec *one_op_table(size_t *n);
// One line that names the case.
const char *one_op_label(const spec *s);
spec one_op_with_types(spec s, yd_dtype dt, yd_dtype out_dt);
// The operator whose gradient k is; k itself when it is none.
yd_op_kind one_op_forward_of(yd_op_kind k);
// The graph; the caller frees it. g->failed when the spec is impossible.
yd_graph *one_op_graph(const spec *s);
// An oracle over the graph with values drawn for inputs and parameters, exactly representable in their storage types;
// statistics that a gradient reads are those of its forward operator.
oracle *one_op_oracle(const yd_graph *g, const spec *s);
// Draw the inputs and parameters only.
void one_op_fill(oracle *o, const spec *s);
// Copy the values of tensors that have the same name and size in both.
void one_op_copy_named(oracle *to, const oracle *from);

#endif
