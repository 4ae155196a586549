// The compression function of SHA-256 over whole blocks, in its two forms. For core/sha256.c and its tests.
#ifndef YD_CORE_SHA256_BLOCKS_H
#define YD_CORE_SHA256_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

extern const uint32_t yd_sha256_k[64]; // the constants of the rounds

// Take n blocks of 64 bytes into the state. In C, for every machine.
void yd_sha256_blocks_plain(uint32_t state[8], const uint8_t *p, size_t n);

// The same with the processor's own instructions, some seven times as fast; only where yd_sha256_has_instructions() says 1.
void yd_sha256_blocks_fast(uint32_t state[8], const uint8_t *p, size_t n);
int yd_sha256_has_instructions(void);

#endif
