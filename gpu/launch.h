// From the functions of gpu/device to kernels: the two forms that all of ours have, and their launches.
//
//   YD_ITEMS   one call for each index below a count
//   YD_BLOCKS  threads that share memory: one call for each phase, and all threads of a block have ended a phase before one begins the
//              next. What a thread has to keep from phase to phase is in shared memory.
// Both take their arguments as one struct by value. The macros return 0 or a cudaError_t as an int.
//
// The .cu files that include this are C as well as CUDA C++. Where nvcc does not compile them, they run on the host: the same launches
// loop over the same grids in memory of the host, threads of a phase in the order that yd_host_order says. That is how their index
// arithmetic, their phases and their order of sums are tested where no device is at hand; a phase in which a thread reads what another
// writes shows as a result that depends on that order.
#ifndef YD_GPU_LAUNCH_H
#define YD_GPU_LAUNCH_H

#include "gpu/device/num.h"

enum {
    YD_ITEM_THREADS = 256,
    YD_SHARED_MAX = 48 << 10, // bytes that every device gives a block without being asked
    YD_REFUSED = 1            // cudaErrorInvalidValue
};

static inline int yd_count_refused(double count)
{
    return !(count >= 0) || count > 2147483647.0;
}

static inline int yd_grid_refused(double blocks, size_t shared)
{
    return !(blocks >= 1) || blocks > 2147483647.0 || shared > YD_SHARED_MAX;
}

#ifdef __CUDACC__

#include <cuda_runtime.h>

template <typename A, void (*ITEM)(const A *, uint32_t, int), int VEC>
__global__ void __launch_bounds__(YD_ITEM_THREADS) yd_items_kernel(const __grid_constant__ A a, uint32_t count)
{
    const uint32_t i = blockIdx.x * (uint32_t)YD_ITEM_THREADS + threadIdx.x;
    if (i < count) ITEM(&a, i, VEC);
}

template <typename A, void (*ITEM)(const A *, uint32_t, int), int VEC>
static int yd_launch_items(const A &a, double count, void *stream)
{
    if (yd_count_refused(count)) return YD_REFUSED;
    const uint32_t n = (uint32_t)count;
    if (n == 0) return 0;
    yd_items_kernel<A, ITEM, VEC><<<yd_ceil_div(n, YD_ITEM_THREADS), YD_ITEM_THREADS, 0, (cudaStream_t)stream>>>(a, n);
    return (int)cudaGetLastError();
}

template <typename A, void (*BLOCK)(const A *, uint32_t, int, int, int, void *), int PHASES, int THREADS, int VEC>
__global__ void __launch_bounds__(THREADS) yd_blocks_kernel(const __grid_constant__ A a)
{
    extern __shared__ __align__(16) unsigned char yd_shared_memory[];
#pragma unroll
    for (int phase = 0; phase < PHASES; phase++) {
        if (phase) __syncthreads();
        BLOCK(&a, blockIdx.x, (int)threadIdx.x, phase, VEC, yd_shared_memory);
    }
}

template <typename A, void (*BLOCK)(const A *, uint32_t, int, int, int, void *), int PHASES, int THREADS, int VEC>
static int yd_launch_blocks(const A &a, double blocks, size_t shared, void *stream)
{
    if (yd_grid_refused(blocks, shared)) return YD_REFUSED;
    yd_blocks_kernel<A, BLOCK, PHASES, THREADS, VEC><<<(uint32_t)blocks, THREADS, shared, (cudaStream_t)stream>>>(a);
    return (int)cudaGetLastError();
}

static inline int yd_zero_async(void *p, size_t bytes, void *stream)
{
    return (int)cudaMemsetAsync(p, 0, bytes, (cudaStream_t)stream);
}

// vec: 1 or YD_VEC, known when it runs; count: items.
#define YD_ITEMS(A, ITEM, vec, a, count, stream)                                                                       \
    ((vec) == YD_VEC ? yd_launch_items<A, ITEM, YD_VEC>(a, count, stream)                                              \
                     : yd_launch_items<A, ITEM, 1>(a, count, stream))
#define YD_BLOCKS(A, BLOCK, PHASES, THREADS, vec, a, blocks, shared, stream)                                           \
    ((vec) == YD_VEC ? yd_launch_blocks<A, BLOCK, PHASES, THREADS, YD_VEC>(a, blocks, shared, stream)                  \
                     : yd_launch_blocks<A, BLOCK, PHASES, THREADS, 1>(a, blocks, shared, stream))
// Where there is nothing to widen: half as much to compile.
#define YD_ITEMS_1(A, ITEM, a, count, stream) yd_launch_items<A, ITEM, 1>(a, count, stream)
#define YD_BLOCKS_1(A, BLOCK, PHASES, THREADS, a, blocks, shared, stream)                                              \
    yd_launch_blocks<A, BLOCK, PHASES, THREADS, 1>(a, blocks, shared, stream)

#else

extern int yd_host_order; // 0: threads and items from the first to the last; 1: from the last to the first
extern _Thread_local int yd_host_dry; // 1: a launch's grid is judged, and nothing is done

static inline uint32_t yd_host_turn(uint32_t i, uint32_t count)
{
    return yd_host_order ? count - 1 - i : i;
}

static inline int yd_zero_async(void *p, size_t bytes, void *stream)
{
    (void)stream;
    if (!yd_host_dry) memset(p, 0, bytes);
    return 0;
}

#define YD_ITEMS(A, ITEM, vec, a, count, stream)                                                                       \
    __extension__({                                                                                                    \
        const double host_count = (double)(count);                                                                     \
        const int host_rc = yd_count_refused(host_count) ? YD_REFUSED : 0;                                             \
        const uint32_t host_n = host_rc || yd_host_dry ? 0 : (uint32_t)host_count;                                     \
        (void)(stream);                                                                                                \
        for (uint32_t host_i = 0; host_i < host_n; host_i++) ITEM(&(a), yd_host_turn(host_i, host_n), vec);            \
        host_rc;                                                                                                       \
    })

// What a block finds in shared memory is whatever another left there: NaN, here.
#define YD_BLOCKS(A, BLOCK, PHASES, THREADS, vec, a, blocks, shared, stream)                                           \
    __extension__({                                                                                                    \
        static _Thread_local double host_shared[YD_SHARED_MAX / sizeof(double)];                                                     \
        const int host_rc = yd_grid_refused((double)(blocks), shared) ? YD_REFUSED : 0;                                \
        const uint32_t host_n = host_rc || yd_host_dry ? 0 : (uint32_t)(blocks);                                       \
        (void)(stream);                                                                                                \
        for (uint32_t host_b = 0; host_b < host_n; host_b++) {                                                         \
            memset(host_shared, 0xff, shared);                                                                         \
            for (int host_phase = 0; host_phase < (PHASES); host_phase++)                                              \
                for (uint32_t host_t = 0; host_t < (uint32_t)(THREADS); host_t++)                                      \
                    BLOCK(&(a), yd_host_turn(host_b, host_n), (int)yd_host_turn(host_t, THREADS), host_phase, vec,     \
                          host_shared);                                                                                \
        }                                                                                                              \
        host_rc;                                                                                                       \
    })
#define YD_ITEMS_1(A, ITEM, a, count, stream) YD_ITEMS(A, ITEM, 1, a, count, stream)
#define YD_BLOCKS_1(A, BLOCK, PHASES, THREADS, a, blocks, shared, stream)                                              \
    YD_BLOCKS(A, BLOCK, PHASES, THREADS, 1, a, blocks, shared, stream)

#endif

#endif
