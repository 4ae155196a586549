// The one seam for allocation in our own code, and overflow-checked size arithmetic.
//
// Everything in core, daemon and api allocates through these, so that tests can make the k-th allocation fail and count what
// is still alive. All functions may be called on any thread.
#ifndef YD_CORE_MEM_H
#define YD_CORE_MEM_H

#include <stddef.h>
#include <stdint.h>

// Allocate. NULL when memory is out, when a*b overflows, or when a test asked for a failure. A size of 0 gives a valid pointer.
void *yd_malloc(size_t size);
void *yd_calloc(size_t count, size_t size);
void *yd_realloc(void *p, size_t size);
char *yd_strdup(const char *s);
void yd_free(void *p); // NULL is fine

// 64-byte aligned memory for tensors, zeroed; release with yd_free_aligned.
void *yd_alloc_aligned(size_t size);
void yd_free_aligned(void *p);

// r = a*b or a+b; return 0, or -1 when the result does not fit (then *r is untouched).
static inline int yd_mul_size(size_t a, size_t b, size_t *r)
{
    size_t x;
    if (__builtin_mul_overflow(a, b, &x)) return -1;
    *r = x;
    return 0;
}
static inline int yd_add_size(size_t a, size_t b, size_t *r)
{
    size_t x;
    if (__builtin_add_overflow(a, b, &x)) return -1;
    *r = x;
    return 0;
}

// Tests only: let the n-th allocation from now fail (1 = the next), 0 = never. Returns how many were made since the last call.
long yd_mem_fail_at(long n);

#endif
