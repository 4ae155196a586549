// Room for jobs' canvases in one block of device memory that was taken when the backend was opened: what is asked for lies at the lowest place
// that is free. Only numbers; the block is the caller's. Any thread.
//
// Invariant: pieces that are out lie within the block, on multiples of 256, and none overlaps another (tests/unit/test_gpu_pool.c).
#ifndef YD_GPU_POOL_H
#define YD_GPU_POOL_H

#include <pthread.h>
#include <stddef.h>

#define YD_GPU_PIECES 1024 // out at a time, at most

typedef struct yd_gpu_piece {
    size_t at, bytes;
} yd_gpu_piece;

typedef struct yd_gpu_pool {
    pthread_mutex_t lock;
    size_t bytes;                      // of the block
    int n;                             // pieces that are out
    yd_gpu_piece piece[YD_GPU_PIECES]; // by place
} yd_gpu_pool;

void yd_gpu_pool_init(yd_gpu_pool *p, size_t bytes);
void yd_gpu_pool_end(yd_gpu_pool *p);
// *at: where `bytes` (1 or more) lie. 0, or -1: there is no such room, or too many are out.
int yd_gpu_pool_take(yd_gpu_pool *p, size_t bytes, size_t *at);
// What take gave; anything else is ignored.
void yd_gpu_pool_give(yd_gpu_pool *p, size_t at);

#endif
