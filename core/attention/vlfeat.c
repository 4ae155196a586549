// Memory for libvlfeat, which does not look at what its allocator returns and would write through NULL.
//
// vl_set_alloc_func is process-wide, so it is set once; the functions given find the call in progress in a variable of their thread.
// Each block has a header that links it into the call's list. When memory is out, or the call's share of it is used up, the allocator
// does not return: it jumps back to yd_vlfeat_run, which releases the list. That is sound because the functions used (SIFT) hold no
// locks, start no threads and keep nothing between calls but in those blocks; the frames in between are plain C.
// Outside of a call there is no memory to be had, and none is needed: libvlfeat's own state uses the C library directly.
#include "core/attention/vlfeat.h"

#include "core/mem.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <vl/generic.h>

typedef struct block {
    _Alignas(16) struct block *next; // what follows the header is as aligned as malloc's
    struct block *before;
    size_t size;
} block;

typedef struct call {
    jmp_buf back;
    block *blocks;
    size_t used, most;
} call;

static _Thread_local call *current;

static void unlink_block(block *b)
{
    if (b->before) b->before->next = b->next;
    else current->blocks = b->next;
    if (b->next) b->next->before = b->before;
    current->used -= b->size;
}

static void *take(size_t size)
{
    size_t whole;
    if (!current) return NULL;
    if (yd_add_size(size, sizeof(block), &whole) || whole > current->most - current->used) longjmp(current->back, 1);
    block *b = yd_malloc(whole);
    if (!b) longjmp(current->back, 1);
    *b = (block){.next = current->blocks, .size = whole};
    if (b->next) b->next->before = b;
    current->blocks = b;
    current->used += whole;
    return b + 1;
}

static void *take_array(size_t count, size_t size)
{
    size_t bytes;
    if (yd_mul_size(count, size, &bytes)) bytes = SIZE_MAX; // more than any call may have
    void *p = take(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

static void give(void *p)
{
    if (!p || !current) return;
    block *b = (block *)p - 1;
    unlink_block(b);
    yd_free(b);
}

static void *take_more(void *p, size_t size)
{
    void *larger = take(size);
    if (p && larger) {
        const size_t had = ((block *)p - 1)->size - sizeof(block);
        memcpy(larger, p, had < size ? had : size);
        give(p);
    }
    return larger;
}

static void hand_over(void)
{
    vl_set_alloc_func(take, take_more, take_array, give);
}

int yd_vlfeat_run(void (*work)(void *arg), void *arg, size_t most)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    call c = {.most = most};
    volatile int rc = -1;
    pthread_once(&once, hand_over);
    current = &c;
    if (setjmp(c.back) == 0) {
        work(arg);
        rc = 0;
    }
    while (c.blocks) give(c.blocks + 1);
    current = NULL;
    return rc;
}
