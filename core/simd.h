// YD_SIMD: put before a function that should be compiled once per instruction set and chosen when the program loads.
// The build stays runnable on any x86-64; floating-point contraction is off (-std=c11), so element-wise results are the same
// in every clone. Sanitizer builds use one plain copy.
#ifndef YD_CORE_SIMD_H
#define YD_CORE_SIMD_H

#if defined(__x86_64__) && !defined(YD_SANITIZE) && !defined(__clang__)
#define YD_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define YD_SIMD
#endif

#endif
