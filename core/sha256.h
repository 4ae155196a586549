// SHA-256 (FIPS 180-4), in pieces or at once. For content addresses and checksums of model files.
// No allocation, no failure; a context belongs to one thread at a time.
#ifndef YD_CORE_SHA256_H
#define YD_CORE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct yd_sha256 {
    uint32_t state[8];
    uint64_t bytes;    // taken so far
    uint8_t block[64]; // the part of the last block that is not full yet
} yd_sha256;

void yd_sha256_init(yd_sha256 *s);
void yd_sha256_update(yd_sha256 *s, const void *bytes, size_t len);
// Write the digest; s must be initialised again before further use.
void yd_sha256_final(yd_sha256 *s, uint8_t digest[32]);

// The digest of one block of memory as 64 lower-case hex digits and a NUL.
void yd_sha256_hex(const void *bytes, size_t len, char out[65]);

#endif
