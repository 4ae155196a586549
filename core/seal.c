// Checking the checksum that a model file carries: see seal.h. Read next: safetensors_write.c, which puts it there
#include "core/seal.h"

#include "core/sha256.h"

#include <stdint.h>
#include <string.h>

static int damaged(yd_err *err, const char *what)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, YD_SEAL_KEY, "the file as it was written", "%s", what);
}

// The header's bytes: from 8 to the returned end. The file has been opened, so its length is known to be right.
static size_t header_end(const uint8_t *bytes)
{
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | bytes[i];
    return 8 + (size_t)n;
}

int yd_seal_find(const yd_safetensors *st, size_t *at, yd_err *err)
{
    size_t len;
    const uint8_t *bytes = yd_st_bytes(st, &len);
    if (!yd_st_metadata(st, YD_SEAL_KEY)) return yd_st_metadata(st, YD_SEAL_MARK) ? damaged(err, "the file is damaged: its checksum is lost") : 0;
    const uint8_t *end = bytes + header_end(bytes), *p = memmem(bytes, (size_t)(end - bytes), YD_SEAL_BEFORE, sizeof YD_SEAL_BEFORE - 1);
    if (!p || (size_t)(end - p) < sizeof YD_SEAL_BEFORE - 1 + YD_SEAL_DIGITS) return damaged(err, "the file is damaged: its checksum is none");
    *at = (size_t)(p - bytes) + sizeof YD_SEAL_BEFORE - 1;
    return 1;
}

int yd_seal_check(const void *bytes, size_t len, size_t at, yd_err *err)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *b = bytes;
    char zeros[YD_SEAL_DIGITS];
    uint8_t digest[32];
    yd_sha256 s;
    memset(zeros, '0', sizeof zeros);
    yd_sha256_init(&s);
    yd_sha256_update(&s, b, at);
    yd_sha256_update(&s, zeros, sizeof zeros);
    yd_sha256_update(&s, b + at + YD_SEAL_DIGITS, len - at - YD_SEAL_DIGITS);
    yd_sha256_final(&s, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        if (b[at + 2 * i] != (uint8_t)hex[digest[i] >> 4] || b[at + 2 * i + 1] != (uint8_t)hex[digest[i] & 15])
            return damaged(err, "the file is damaged: its bytes are not those that its checksum was made of");
    return 0;
}
