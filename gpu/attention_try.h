// A trial of a fused attention engine: numbers to give it, and whether what it made of them is right. On the host, in plain C.
//
// Scores are near -20: an engine that counts a key beyond the last, whose score is 0, gives that key nearly all the weight, however few there are.
#ifndef YD_GPU_ATTENTION_TRY_H
#define YD_GPU_ATTENTION_TRY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// q, k and v of n samples, bf16, [n][tokens][3*c].
void yd_gpu_attention_fill(uint16_t *qkv, size_t n, int tokens, int c);
// Is y, bf16, [n][tokens][c], the attention of them? Looks at some tokens of the first and the last sample: 1 where no element is further off than 3 %
// of the largest, 0 where one is or is no number. 0, too, where the host has no memory for it.
int yd_gpu_attention_right(const uint16_t *qkv, const uint16_t *y, size_t n, int tokens, int c);

#ifdef __cplusplus
}
#endif

#endif
