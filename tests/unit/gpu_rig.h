// Maps in memory as gpu/kernels.h lays them out, with what nobody may write marked, for tests of our kernels on the host.
#ifndef TESTS_GPU_RIG_H
#define TESTS_GPU_RIG_H

#include "tests/unit/gpu_host.h"
#include "tests/unit/t.h"

#define SENTINEL 0x5a5a5a5au // what memory holds that nobody has written

typedef struct layout {
    const char *name;
    int pad;   // channels are padded to a multiple of 8
    int gap;   // elements between pixels
    int shift; // elements before the first
} layout;

__attribute__((unused)) static const layout layouts[] = {{"tight", 0, 0, 0}, {"padded", 1, 0, 0}, {"gaps of 8", 1, 8, 8}, {"odd gaps", 1, 3, 1}};

typedef struct place {
    void *base; // NULL: not used
    int is_map, n;
    size_t bytes;
    yd_gpu_map m;
    float *v;
    size_t count; // of a vector or parameter
} place;

__attribute__((unused)) static yd_gpu_map lay_out(const layout *l, yd_dtype dt, int h, int w, int c)
{
    yd_gpu_map m = yd_gpu_map_of(NULL, dt, h, w, c);
    m.padded = l->pad ? (c + 7) / 8 * 8 : c;
    m.pitch = m.padded + l->gap;
    return m;
}

__attribute__((unused)) static void *take(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    for (size_t i = 0; i < (bytes + 127) / 64 * 16; i++) ((uint32_t *)p)[i] = SENTINEL;
    return p;
}

// Padding is zero and what lies between pixels is as it was.
__attribute__((unused)) static int in_bounds(const place *p)
{
    const uint8_t *bytes = p->base;
    const size_t size = p->m.dtype == YD_BF16 ? 2 : 4, pixels = (size_t)p->n * (size_t)(p->m.h * p->m.w);
    const size_t before = (size_t)((const uint8_t *)p->m.data - bytes);
    for (size_t i = 0; i < before; i++)
        if (bytes[i] != 0x5a) return 0;
    for (size_t i = 0; i < pixels; i++)
        for (int c = p->m.c; c < p->m.pitch; c++)
            for (size_t b = 0; b < size; b++)
                if (bytes[before + (i * (size_t)p->m.pitch + (size_t)c) * size + b] != (c < p->m.padded ? 0 : 0x5a)) return 0;
    for (size_t i = p->bytes; i < (p->bytes + 127) / 64 * 64; i++)
        if (bytes[i] != 0x5a) return 0;
    return 1;
}

#endif
