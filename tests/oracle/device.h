// A graph that an oracle has values for, on a backend: what tests that compare the two begin with.
#ifndef TESTS_ORACLE_DEVICE_H
#define TESTS_ORACLE_DEVICE_H

#include "core/backend.h"
#include "tests/oracle/oracle.h"

typedef struct device {
    yd_backend *be; // borrowed
    yd_weights *w;
    yd_exec *e;
} device;

// Compile for samples first..first+n-1 of the oracle's inputs, with its parameters, and run. device_close is due also when this fails.
int device_run(device *d, yd_backend *be, const oracle *o, int first, int n, yd_err *err);
// A result of the last run, which the caller frees; NULL when it cannot be had.
float *device_read(const device *d, const yd_graph *g, yd_tid t, int n);
void device_close(device *d);

#endif
