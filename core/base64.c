// Base64 both ways. Pure; allocates nothing; any thread. Decoding is strict about the alphabet, about what follows padding and about
// unused bits, so that one picture has one spelling.
#include "core/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void yd_base64_encode(const uint8_t *src, size_t n, char *dst)
{
    for (; n >= 3; n -= 3, src += 3, dst += 4) {
        const uint32_t v = (uint32_t)src[0] << 16 | (uint32_t)src[1] << 8 | src[2];
        dst[0] = alphabet[v >> 18];
        dst[1] = alphabet[v >> 12 & 63];
        dst[2] = alphabet[v >> 6 & 63];
        dst[3] = alphabet[v & 63];
    }
    if (!n) return;
    const uint32_t v = (uint32_t)src[0] << 16 | (n == 2 ? (uint32_t)src[1] << 8 : 0);
    dst[0] = alphabet[v >> 18];
    dst[1] = alphabet[v >> 12 & 63];
    dst[2] = n == 2 ? alphabet[v >> 6 & 63] : '=';
    dst[3] = '=';
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static int is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int yd_base64_decode(const char *src, size_t n, uint8_t *dst, size_t *out)
{
    uint32_t bits = 0;
    size_t sextets = 0, pads = 0, len = 0;
    for (size_t i = 0; i < n; i++) {
        if (is_space(src[i])) continue;
        if (src[i] == '=') {
            if (++pads > 2) return -1;
            continue;
        }
        const int v = value_of(src[i]);
        if (v < 0 || pads) return -1;
        bits = bits << 6 | (uint32_t)v;
        if (++sextets % 4) continue;
        dst[len++] = (uint8_t)(bits >> 16);
        dst[len++] = (uint8_t)(bits >> 8);
        dst[len++] = (uint8_t)bits;
    }
    const size_t rest = sextets % 4;
    if (rest == 1 || (pads && rest + pads != 4)) return -1;
    if (rest == 2) {
        if (bits & 15) return -1;
        dst[len++] = (uint8_t)(bits >> 4);
    } else if (rest == 3) {
        if (bits & 3) return -1;
        dst[len++] = (uint8_t)(bits >> 10);
        dst[len++] = (uint8_t)(bits >> 2);
    }
    *out = len;
    return 0;
}
