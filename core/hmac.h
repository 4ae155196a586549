// HMAC-SHA256 (RFC 2104, FIPS 198-1), and a comparison whose time says nothing about where two values differ.
// No allocation, no failure; pure functions.
#ifndef YD_CORE_HMAC_H
#define YD_CORE_HMAC_H

#include <stddef.h>
#include <stdint.h>

typedef struct yd_hmac_piece {
    const void *bytes;
    size_t len;
} yd_hmac_piece;

// The code of n pieces one after the other.
void yd_hmac_sha256(const void *key, size_t key_len, const yd_hmac_piece *piece, size_t n, uint8_t code[32]);

// 1 when n bytes are the same.
int yd_equal_secret(const void *a, const void *b, size_t n);

#endif
