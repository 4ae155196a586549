// First fit over the gaps between pieces in order: see pool.h. A few dozen jobs are out at a time, so a walk is enough.
#include "gpu/pool.h"

#include <string.h>

#define PLACE ((size_t)256) // pieces begin at its multiples

void yd_gpu_pool_init(yd_gpu_pool *p, size_t bytes)
{
    memset(p, 0, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    p->bytes = bytes / PLACE * PLACE;
}

void yd_gpu_pool_end(yd_gpu_pool *p)
{
    pthread_mutex_destroy(&p->lock);
}

// The first piece that a new one of `bytes` fits before, n where that is the end, -1 for nowhere; *at: its place.
static int place_of(const yd_gpu_pool *p, size_t bytes, size_t *at)
{
    *at = 0;
    for (int i = 0; i < p->n; i++) {
        if (p->piece[i].at - *at >= bytes) return i;
        *at = p->piece[i].at + p->piece[i].bytes;
    }
    return p->bytes - *at >= bytes ? p->n : -1;
}

int yd_gpu_pool_take(yd_gpu_pool *p, size_t bytes, size_t *at)
{
    if (bytes == 0 || bytes > p->bytes) return -1;
    bytes = (bytes + PLACE - 1) / PLACE * PLACE;
    pthread_mutex_lock(&p->lock);
    const int i = p->n < YD_GPU_PIECES ? place_of(p, bytes, at) : -1;
    if (i >= 0) {
        memmove(&p->piece[i + 1], &p->piece[i], (size_t)(p->n - i) * sizeof *p->piece);
        p->piece[i].at = *at;
        p->piece[i].bytes = bytes;
        p->n++;
    }
    pthread_mutex_unlock(&p->lock);
    return i >= 0 ? 0 : -1;
}

void yd_gpu_pool_give(yd_gpu_pool *p, size_t at)
{
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < p->n; i++) {
        if (p->piece[i].at != at) continue;
        p->n--;
        memmove(&p->piece[i], &p->piece[i + 1], (size_t)(p->n - i) * sizeof *p->piece);
        break;
    }
    pthread_mutex_unlock(&p->lock);
}
