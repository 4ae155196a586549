// SHA-256's compression function with the SHA extensions of x86-64 (Intel SDM, SHA256RNDS2, SHA256MSG1, SHA256MSG2).
//
// A model of 400 MB is hashed while it is loaded: in plain C that alone would take a second and a half. The instructions keep the
// eight words of the state in two registers, {a,b,e,f} and {c,d,g,h}, and do two rounds at a time. Stateless.
#include "core/sha256_blocks.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define CPUID_SHA (1u << 29) // leaf 7, EBX

int yd_sha256_has_instructions(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1)) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & CPUID_SHA);
}

// The four words of the schedule after those in w, the oldest of which are in w[g % 4].
__attribute__((target("sha,sse4.1,ssse3"))) static inline __m128i next_words(const __m128i w[4], int g)
{
    const __m128i last = w[(g + 3) % 4];
    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[g % 4], w[(g + 1) % 4]), _mm_alignr_epi8(last, w[(g + 2) % 4], 4));
    return _mm_sha256msg2_epu32(sum, last);
}

__attribute__((target("sha,sse4.1,ssse3"))) void yd_sha256_blocks_fast(uint32_t s[8], const uint8_t *p, size_t n)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i abef = _mm_set_epi32((int)s[0], (int)s[1], (int)s[4], (int)s[5]);
    __m128i cdgh = _mm_set_epi32((int)s[2], (int)s[3], (int)s[6], (int)s[7]);
    for (; n > 0; n--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
#pragma GCC unroll 16
        for (int g = 0; g < 16; g++) {
            w[g % 4] = g < 4 ? _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * g)), big_endian) : next_words(w, g);
            const __m128i k = _mm_add_epi32(w[g % 4], _mm_loadu_si128((const __m128i *)(const void *)(yd_sha256_k + 4 * g)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    uint32_t x[4], y[4];
    _mm_storeu_si128((__m128i *)(void *)x, abef);
    _mm_storeu_si128((__m128i *)(void *)y, cdgh);
    s[0] = x[3], s[1] = x[2], s[4] = x[1], s[5] = x[0];
    s[2] = y[3], s[3] = y[2], s[6] = y[1], s[7] = y[0];
}

#else

int yd_sha256_has_instructions(void)
{
    return 0;
}

void yd_sha256_blocks_fast(uint32_t state[8], const uint8_t *p, size_t n)
{
    yd_sha256_blocks_plain(state, p, n);
}

#endif
