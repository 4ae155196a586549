// Private to gnorm_kernel.c: its two inner loops, once per instruction set, all with the same arithmetic.
//
// A strip is some pixels of one source times 1 to YD_GNORM_WIDTH chunks of 16 channels. Lane i of every vector is
// channel i of its chunk, whatever the instruction set; nothing is summed across lanes and nothing is contracted, so
// the sets agree to the bit.
#ifndef YD_CORE_CPU_GNORM_LOOPS_H
#define YD_CORE_CPU_GNORM_LOOPS_H

#include <stddef.h>

enum { YD_GNORM_LANES = 16, YD_GNORM_WIDTH = 4 };

typedef struct yd_gnorm_strip {
    const void *x; // the strip's first pixel, first channel
    void *y;
    size_t x_pixel, x_chunk, y_pixel, y_chunk; // elements from one to the next
    int x_bf16, y_bf16;
    size_t rows; // pixels
    int chunks;  // full ones, unless it is one
    int lanes;   // channels of the last chunk
    int pad;     // 1: y takes 16 lanes, those beyond `lanes` zero
    int act;     // 1: SiLU
} yd_gnorm_strip;

typedef struct yd_gnorm_loops {
    // shift = the channels at `first`; sum and square sum of x - shift over the strip's pixels. Four pixels are added
    // before they are added to the sum. One float per channel each.
    void (*sum)(const yd_gnorm_strip *s, const void *first, float *shift, float *sum, float *square);
    // y = f((x - m)*a + b).
    void (*apply)(const yd_gnorm_strip *s, const float *m, const float *a, const float *b);
} yd_gnorm_loops;

// SiLU is z/(1 + 2^u), u = -z log2 e kept within what a float's exponent holds. 2^u = 2^k 2^r, |r| <= 1/2, with a
// polynomial for 2^r within 1.1e-7; adding ROUND rounds u to the integer k and leaves k in the low bits.
#define YD_SILU_LOG2E (-1.44269504f)
#define YD_SILU_LIMIT 125.0f
#define YD_SILU_ROUND 12582912.0f
#define YD_SILU_P1    0.693147004f
#define YD_SILU_P2    0.240222424f
#define YD_SILU_P3    0.0555073358f
#define YD_SILU_P4    0.00967151299f
#define YD_SILU_P5    0.00132647273f

extern const yd_gnorm_loops yd_gnorm_plain, yd_gnorm_avx2, yd_gnorm_avx512, yd_gnorm_avx512_bf16;

#endif
