// SHA-256 (FIPS 180-4, section 6.2). The compression function is plain C, whose steps are named as in the standard, or the processor's
// own instructions where it has them (sha256_x86.c); the digest is the same.
#include "core/sha256.h"

#include "core/sha256_blocks.h"

#include <stdatomic.h>
#include <string.h>

const uint32_t yd_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotr(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void store_be32(uint8_t *p, uint32_t x)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(x >> (24 - 8 * i));
}

static void expand(uint32_t w[64], const uint8_t *block)
{
    for (int t = 0; t < 16; t++) w[t] = load_be32(block + 4 * t);
    for (int t = 16; t < 64; t++) {
        uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
        uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
}

static void compress(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64];
    expand(w, block);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int t = 0; t < 64; t++) {
        uint32_t big1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
        uint32_t t1 = h + big1 + ((e & f) ^ (~e & g)) + yd_sha256_k[t] + w[t];
        uint32_t big0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
        uint32_t t2 = big0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

void yd_sha256_blocks_plain(uint32_t state[8], const uint8_t *p, size_t n)
{
    for (; n > 0; n--, p += 64) compress(state, p);
}

static void blocks(uint32_t state[8], const uint8_t *p, size_t n)
{
    static atomic_int known; // 0 not asked yet, 1 plain, 2 instructions: whoever asks at the same time finds the same
    int how = atomic_load_explicit(&known, memory_order_relaxed);
    if (!how) atomic_store_explicit(&known, how = 1 + yd_sha256_has_instructions(), memory_order_relaxed);
    if (how == 2) yd_sha256_blocks_fast(state, p, n);
    else yd_sha256_blocks_plain(state, p, n);
}

void yd_sha256_init(yd_sha256 *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(s, 0, sizeof *s);
    memcpy(s->state, start, sizeof start);
}

void yd_sha256_update(yd_sha256 *s, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    size_t held = s->bytes % 64;
    if (len == 0) return;
    s->bytes += len;
    if (held) {
        size_t take = 64 - held < len ? 64 - held : len;
        memcpy(s->block + held, p, take);
        if (held + take < 64) return;
        blocks(s->state, s->block, 1);
        p += take;
        len -= take;
    }
    blocks(s->state, p, len / 64);
    p += len / 64 * 64;
    len %= 64;
    if (len) memcpy(s->block, p, len);
}

void yd_sha256_final(yd_sha256 *s, uint8_t digest[32])
{
    uint64_t bits = s->bytes * 8;
    size_t held = s->bytes % 64;
    s->block[held++] = 0x80;
    if (held > 56) { // no room for the length: it goes into a block of its own
        memset(s->block + held, 0, 64 - held);
        blocks(s->state, s->block, 1);
        held = 0;
    }
    memset(s->block + held, 0, 56 - held);
    store_be32(s->block + 56, (uint32_t)(bits >> 32));
    store_be32(s->block + 60, (uint32_t)bits);
    blocks(s->state, s->block, 1);
    for (int i = 0; i < 8; i++) store_be32(digest + 4 * i, s->state[i]);
}

void yd_sha256_hex(const void *bytes, size_t len, char out[65])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[32];
    yd_sha256 s;
    yd_sha256_init(&s);
    yd_sha256_update(&s, bytes, len);
    yd_sha256_final(&s, digest);
    for (int i = 0; i < 32; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[64] = '\0';
}
