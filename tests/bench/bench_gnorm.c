// The normalisation kernel on the maps of a network of the paper's size: elements per second, two types, two layouts,
// and beside them what the machine's memory allows: the same maps only read twice and written once.
//
// Run it with words to measure only the shapes that contain them: bench_gnorm 16x16.
#include "core/cpu/gnorm_kernel.h"
#include "tests/bench/bench.h"
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLICES = 30 };

typedef struct shape {
    int side, c0, c1; // c1: channels of a second source
} shape;

static const shape shapes[] = {{128, 64, 0}, {128, 64, 64},  {64, 128, 0}, {32, 256, 0},
                               {16, 512, 0}, {16, 512, 512}, {8, 512, 0}};

static void *map_new(size_t elements, int bf16)
{
    size_t bytes = elements * (bf16 ? 2 : 4);
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    for (size_t i = 0; p && i < elements; i++) {
        float x = (float)(i * 2654435761u % 65536u) / 32768.0f - 1.0f;
        uint32_t u;
        memcpy(&u, &x, sizeof u);
        if (bf16)
            ((uint16_t *)p)[i] = (uint16_t)(u >> 16);
        else
            ((float *)p)[i] = x;
    }
    return p;
}

// Read x twice and write y, as the kernel does, with as little arithmetic as can be.
static uint64_t touch(const void *x, void *y, size_t bytes, int threads)
{
    const uint64_t *from = x;
    uint64_t *to = y, sum = 0;
    size_t n = bytes / 8;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
    {
        size_t t = (size_t)omp_get_thread_num(), all = (size_t)omp_get_num_threads();
        size_t first = n / 8 * t / all * 8, last = n / 8 * (t + 1) / all * 8;
#pragma omp simd reduction(+ : sum)
        for (size_t i = first; i < last; i++) sum += from[i];
#pragma omp simd
        for (size_t i = first; i < last; i++) to[i] = from[i] + 1;
    }
    return sum;
}

// Seconds of one call, the best of many slices of about a millisecond.
#define TIME(CALL, RESULT)                                                                                             \
    do {                                                                                                               \
        double once = bench_now_s();                                                                                   \
        CALL;                                                                                                          \
        once = bench_now_s() - once;                                                                                   \
        int repeat = once < 1e-3 ? (int)(1e-3 / (once + 1e-7)) + 1 : 1;                                                \
        once = bench_now_s();                                                                                          \
        for (int i = 0; i < repeat; i++) CALL;                                                                         \
        once = (bench_now_s() - once) / repeat;                                                                        \
        if (once < (RESULT)) (RESULT) = once;                                                                          \
    } while (0)

static int measure(const shape *s, int bf16, int threads)
{
    size_t pixels = (size_t)s->side * (size_t)s->side, c = (size_t)(s->c0 + s->c1), count = pixels * c;
    void *x = map_new(pixels * (size_t)s->c0, bf16), *x1 = map_new(pixels * (size_t)s->c1 + 1, bf16);
    void *y = map_new(count, bf16), *joined = map_new(count, bf16);
    float *vec = map_new(3 * c, 0), *stats = map_new(64, 0);
    yd_gnorm g = {.n = 1, .pixels = pixels, .groups = 32, .eps = 1e-5f, .act = 1, .v = vec, .gamma = vec + c};
    g.beta = vec + 2 * c;
    g.stats = stats;
    g.src[0] = (yd_gnorm_map){.data = x, .c = s->c0, .bf16 = bf16};
    g.src[1] = (yd_gnorm_map){.data = x1, .c = s->c1, .bf16 = bf16};
    g.dst = (yd_gnorm_map){.data = y, .c = (int)c, .bf16 = bf16};
    void *scratch = aligned_alloc(64, (yd_gnorm_scratch(&g) + 63) / 64 * 64);
    if (!x || !x1 || !y || !joined || !vec || !stats || !scratch) return 1;
    double best[3] = {1e9, 1e9, 1e9};
    uint64_t sum = 0;
    for (int k = 0; k < SLICES; k++) {
        for (int blocked = 0; blocked < 2; blocked++) {
            g.src[0].blocked = g.src[1].blocked = g.dst.blocked = blocked;
            TIME(yd_gnorm_run(&g, scratch, threads), best[blocked]);
        }
        TIME(sum += touch(joined, y, count * (bf16 ? 2 : 4), threads), best[2]);
    }
    double giga = (double)count / 1e9;
    printf("%3dx%-3d %4d%c%-4d %-4s %8.2f %8.2f %10.2f %8.1f us%s\n", s->side, s->side, s->c0, s->c1 ? '+' : ' ', s->c1,
           bf16 ? "bf16" : "f32", giga / best[0], giga / best[1], giga / best[2], best[0] * 1e6, sum == 1 ? " " : "");
    free(x);
    free(x1);
    free(y);
    free(joined);
    free(vec);
    free(stats);
    free(scratch);
    return 0;
}

int main(int argc, char **argv)
{
    int threads = omp_get_num_procs(), rc = 0;
    printf("normalisation, %d threads: Gelem/s, and the same maps read twice and written once\n", threads);
    printf("map     channels  type      NHWC  nChw16c     memory   NHWC takes\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        char name[32];
        snprintf(name, sizeof name, "%dx%dx%d", shapes[i].side, shapes[i].side, shapes[i].c0);
        if (argc > 1 && !strstr(name, argv[1])) continue;
        for (int bf16 = 0; bf16 < 2; bf16++) rc |= measure(&shapes[i], bf16, threads);
    }
    return rc;
}
