// Group normalisation with the noise-level vector added before it and SiLU applied after it, over maps in memory:
//     y = f(gamma*(x + v - mean)*rstd + beta)
// mean and rstd are taken per sample and group of channels. x is one map, or two maps side by side: the channels of
// the first, then those of the second, and groups may reach across. Nothing here knows graphs or operators.
//
// The bits of a result depend on its sample, the number of pixels and the number of channels only: not on batch,
// threads, layout, the processor, nor on whether x lies in one map or two. Storing as bf16 rounds to nearest even and
// takes results below 2^-126 in magnitude to zero.
#ifndef YD_CORE_CPU_GNORM_KERNEL_H
#define YD_CORE_CPU_GNORM_KERNEL_H

#include <stddef.h>

// How a map lies in memory. Counts are in elements.
typedef struct yd_gnorm_map {
    void *data;    // only read in sources
    int c;         // channels
    int blocked;   // 0: [pixel][channel] (NHWC); 1: [channel/16][pixel][16] (nChw16c), padded with zeros to full blocks
    int bf16;      // 0: f32
    size_t pitch;  // from one pixel to the next; 0 = c. Not used when blocked
    size_t sample; // from one sample to the next; 0 = close together
} yd_gnorm_map;

// Which code runs. Every choice gives the same bits; all but the first are for tests and measurements.
typedef enum yd_gnorm_path {
    YD_GNORM_BEST,
    YD_GNORM_PLAIN,
    YD_GNORM_AVX2,
    YD_GNORM_AVX512,
    YD_GNORM_AVX512_BF16,
    YD_GNORM_PATHS
} yd_gnorm_path;

typedef struct yd_gnorm {
    yd_gnorm_map src[2]; // src[1].c == 0: one source
    yd_gnorm_map dst;    // dst.c is the sum of the sources' channels
    int n;
    size_t pixels; // height times width
    int groups;    // divide the channels
    float eps;
    int act;            // 1: SiLU
    const float *v;     // [n][channels], v_step floats from one sample to the next (0 = close together), or NULL
    size_t v_step;      //
    const float *gamma; // [channels]
    const float *beta;  // [channels]
    float *stats;       // [n][2*groups]: means, then 1/deviations, of x + v; or NULL
    yd_gnorm_path path;
} yd_gnorm;

// Check shapes and layouts, not the pointers: NULL, or what is wrong, as text that lives for ever. Refused are counts
// that do not agree, and a blocked destination when the first of two sources does not end on a full block of 16
// channels.
const char *yd_gnorm_check(const yd_gnorm *g);

// Bytes of scratch one run needs. Depends on n, pixels and channels; g must pass yd_gnorm_check.
size_t yd_gnorm_scratch(const yd_gnorm *g);

// Normalise, in one parallel region of at most `threads` threads; small maps take fewer. `scratch` is 64-byte aligned;
// maps need only their elements' alignment. dst may be the one source itself, described alike; otherwise they must not
// overlap. g must pass yd_gnorm_check. Cannot fail.
void yd_gnorm_run(const yd_gnorm *g, void *scratch, int threads);

// 1 where this processor can run the path.
int yd_gnorm_has_path(yd_gnorm_path path);

#endif
