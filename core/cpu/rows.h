// Matrix products over blocks of YD_ROWS rows on oneDNN, each by one thread: what a transformer's layers are made of.
//
// Every block of a layer is one call of one primitive that was made for one thread. So the bits of a row depend on what stands in the row,
// on the weights and on the row's place in its block: not on the number of threads, not on how many blocks there are. Whoever has rows that
// do not fill the last block pads it.
//
// Threads: make and free on one thread; run on any, one seat (0..threads-1) a thread at a time. Run inside a parallel region or on one thread, whose
// OpenMP would otherwise split the work: yd_rows_alone() sees to that.
#ifndef YD_CORE_CPU_ROWS_H
#define YD_CORE_CPU_ROWS_H

#include "core/err.h"
#include <stddef.h>

#define YD_ROWS 64

typedef struct yd_rows yd_rows; // engine, streams and scratch of all products of one network

// seats: threads that will run at a time. YD_E_DEVICE, YD_E_NOMEM. Free what was made with it first.
int yd_rows_new(int seats, yd_rows **out, yd_err *err);
void yd_rows_free(yd_rows *r); // NULL is fine

typedef enum {
    YD_PRODUCT_PLAIN,
    YD_PRODUCT_GELU, // the exact one: z (1 + erf(z / sqrt 2)) / 2
    YD_PRODUCT_ADD   // y += x W + bias
} yd_product_end;

typedef struct yd_product yd_product;

// y [YD_ROWS][out] = x [YD_ROWS][in] W + bias, rows of x and y x_row and y_row floats apart. W and bias are packed apart from it, so layers of one
// shape share a product. YD_E_DEVICE, YD_E_NOMEM, YD_E_UNSUPPORTED.
int yd_product_new_layer(yd_rows *r, int in, int out, int x_row, int y_row, yd_product_end end, yd_product **p, yd_err *err);
// y = x b, where b [in][out] is a matrix as it lies: element (i, o) at b[i * b_in + o * b_out]; one of the two is 1.
int yd_product_new(yd_rows *r, int in, int out, int x_row, int b_in, int b_out, int y_row, yd_product **p, yd_err *err);
void yd_product_free(yd_product *p); // NULL is fine

typedef struct yd_packed {
    struct yd_packed_memory *memory; // private
    size_t bytes;
} yd_packed;

// W [out][in] as checkpoints have it and bias [out], copied in the layout that the product wants. YD_E_NOMEM, YD_E_DEVICE.
int yd_packed_make(yd_rows *r, const yd_product *p, const float *w, const float *bias, yd_packed *out, yd_err *err);
void yd_packed_clear(yd_packed *w);

// On the calling thread, once in each parallel region: oneDNN shall not look for other threads.
void yd_rows_alone(void);
// Run one block. 0, or -1 when oneDNN failed. y must not overlap x.
int yd_product_run_layer(const yd_product *p, int seat, const float *x, const yd_packed *w, float *y);
int yd_product_run(const yd_product *p, int seat, const float *x, const float *b, float *y);

#endif
