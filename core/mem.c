// Allocation seam: thin wrappers over the C library with a countdown for fault tests.
// Threads: the countdown is atomic; everything else is the C library's.
#include "core/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_long made;    // allocations since the last yd_mem_fail_at
static atomic_long fail_at; // 0 = never

static int must_fail(void)
{
    long k = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
    long at = atomic_load_explicit(&fail_at, memory_order_relaxed);
    return at != 0 && k == at;
}

long yd_mem_fail_at(long n)
{
    atomic_store(&fail_at, n);
    return atomic_exchange(&made, 0);
}

void *yd_malloc(size_t size)
{
    return must_fail() ? NULL : malloc(size ? size : 1);
}

void *yd_calloc(size_t count, size_t size)
{
    if (must_fail()) return NULL;
    return calloc(count ? count : 1, size ? size : 1);
}

void *yd_realloc(void *p, size_t size)
{
    return must_fail() ? NULL : realloc(p, size ? size : 1);
}

char *yd_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *d = yd_malloc(n);
    if (d) memcpy(d, s, n);
    return d;
}

void yd_free(void *p)
{
    free(p);
}

void *yd_alloc_aligned(size_t size)
{
    size_t rounded;
    if (yd_add_size(size ? size : 1, 63, &rounded) || must_fail()) return NULL;
    rounded &= ~(size_t)63;
    void *p = aligned_alloc(64, rounded);
    if (p) memset(p, 0, rounded);
    return p;
}

void yd_free_aligned(void *p)
{
    free(p);
}
