// What the benchmarks share: a clock, the machine's peak, and a model to measure.
//
// All figures are ratios of slices taken in turn within one run (A B A B ...), each the minimum of many: machines are noisy, and only
// such ratios mean anything. The peak is measured in the same run, before and after; when it moved by more than 10% the run says so.
#ifndef BENCH_H
#define BENCH_H

#include "core/backend.h"
#include "core/model.h"

double bench_now_s(void);

// Multiply-adds * 2 per second of `threads` threads running independent fused multiply-adds in registers: f32 FMA, or the bf16 dot
// product where the processor has it (0 where it has not). Takes about 50 ms.
double bench_peak_f32(int threads);
double bench_peak_bf16(int threads);

// The model to measure: $YODA_MODEL, else the only models/*.safetensors, else NULL with a line on stderr.
yd_model *bench_model(void);

// A network of the paper's size: SR3, 64 channels, [1,2,4,8,8], 3 ResBlocks, random weights.
yd_model *bench_paper_model(void);
// The public code's sr3_16_128, 97.8 million parameters, random weights.
yd_model *bench_sr3_16_128_model(void);
// SRDiff's diffsr_df2k4x with an RRDB of 17 blocks of 64, 25.2 million parameters, random weights.
yd_model *bench_srdiff_model(void);

#endif
