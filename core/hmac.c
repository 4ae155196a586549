// HMAC as RFC 2104 defines it over SHA-256: H(key ^ opad, H(key ^ ipad, text)), a key longer than a block replaced by its digest.
#include "core/hmac.h"

#include "core/sha256.h"
#include <string.h>

#define BLOCK 64

static void begin(yd_sha256 *h, const uint8_t key[BLOCK], uint8_t pad)
{
    uint8_t masked[BLOCK];
    for (int i = 0; i < BLOCK; i++) masked[i] = key[i] ^ pad;
    yd_sha256_init(h);
    yd_sha256_update(h, masked, BLOCK);
}

void yd_hmac_sha256(const void *key, size_t key_len, const yd_hmac_piece *piece, size_t n, uint8_t code[32])
{
    uint8_t block[BLOCK] = {0}, inner[32];
    yd_sha256 h;
    if (key_len > BLOCK) {
        yd_sha256_init(&h);
        yd_sha256_update(&h, key, key_len);
        yd_sha256_final(&h, block);
    } else if (key_len)
        memcpy(block, key, key_len);
    begin(&h, block, 0x36);
    for (size_t i = 0; i < n; i++) yd_sha256_update(&h, piece[i].bytes, piece[i].len);
    yd_sha256_final(&h, inner);
    begin(&h, block, 0x5c);
    yd_sha256_update(&h, inner, sizeof inner);
    yd_sha256_final(&h, code);
}

int yd_equal_secret(const void *a, const void *b, size_t n)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t differs = 0;
    for (size_t i = 0; i < n; i++) differs |= (uint8_t)(x[i] ^ y[i]);
    return differs == 0;
}
