// Base64 (RFC 4648, the standard alphabet). Pure functions.
#ifndef YD_CORE_BASE64_H
#define YD_CORE_BASE64_H

#include <stddef.h>
#include <stdint.h>

// Characters that n bytes become.
static inline size_t yd_base64_length(size_t n)
{
    return (n / 3 + (n % 3 != 0)) * 4;
}

// Encode n bytes into yd_base64_length(n) characters; no terminator is written.
void yd_base64_encode(const uint8_t *src, size_t n, char *dst);

// Decode n characters into dst (at least n / 4 * 3 + 3 bytes). White space is skipped, padding may be missing. 0 and *out, or -1 when
// the text is no base64.
int yd_base64_decode(const char *src, size_t n, uint8_t *dst, size_t *out);

#endif
