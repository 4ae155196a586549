// SHA-256 against the vectors of FIPS 180-4 and its companion examples, and pieces against the whole.
#include "core/sha256.h"
#include "core/sha256_blocks.h"
#include "t.h"

static void check_hex(const void *p, size_t n, const char *want)
{
    char got[65];
    yd_sha256_hex(p, n, got);
    CHECK_MSG(strcmp(got, want) == 0, "%zu bytes gave %s", n, got);
}

static void vectors(void)
{
    check_hex("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hex("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *a = malloc(1000000);
    memset(a, 'a', 1000000);
    check_hex(a, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(a);
}

// Every length around the block borders, cut at every place: the digest must not depend on the cut.
static void pieces(void)
{
    uint8_t data[200];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 37 + 11);
    int bad = 0;
    for (size_t len = 0; len <= sizeof data; len++) {
        uint8_t whole[32], cut[32];
        yd_sha256 s;
        yd_sha256_init(&s);
        yd_sha256_update(&s, data, len);
        yd_sha256_final(&s, whole);
        for (size_t at = 0; at <= len; at++) {
            yd_sha256_init(&s);
            yd_sha256_update(&s, data, at);
            yd_sha256_update(&s, NULL, 0);
            yd_sha256_update(&s, data + at, len - at);
            yd_sha256_final(&s, cut);
            bad += memcmp(whole, cut, 32) != 0;
        }
    }
    CHECK_MSG(bad == 0, "%d cuts changed the digest", bad);
}

// Lengths whose padding takes different ways, chained into one digest so that none can be wrong alone.
static void padding(void)
{
    uint8_t data[130] = {0}, digest[32];
    yd_sha256 all, s;
    yd_sha256_init(&all);
    for (size_t len = 0; len <= sizeof data; len++) {
        yd_sha256_init(&s);
        yd_sha256_update(&s, data, len);
        yd_sha256_final(&s, digest);
        yd_sha256_update(&all, digest, 32);
    }
    yd_sha256_final(&all, digest);
    char hex[65] = "";
    for (size_t i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", (unsigned)digest[i]);
    CHECK_MSG(strcmp(hex, "d6e99a52e4f306ac462a8669cfa9744fc9ac0cd54f1c1c92b91d2e3257397ead") == 0, "%s", hex);
}

// The processor's instructions against plain C: one block and many, from any state.
static void both_ways(void)
{
    uint8_t data[64 * 37];
    uint32_t plain[8], fast[8], x = 12345;
    if (!yd_sha256_has_instructions()) {
        t_skip("this processor has no SHA instructions");
        return;
    }
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
    for (int i = 0; i < 8; i++) plain[i] = fast[i] = x = x * 1664525 + 1013904223;
    for (size_t n = 0; n <= 37; n++) {
        yd_sha256_blocks_plain(plain, data, n);
        yd_sha256_blocks_fast(fast, data, n);
        CHECK_MSG(memcmp(plain, fast, sizeof plain) == 0, "%zu blocks", n);
    }
    data[5] ^= 1;
    yd_sha256_blocks_plain(plain, data, 1);
    data[5] ^= 1;
    yd_sha256_blocks_fast(fast, data, 1);
    CHECK(memcmp(plain, fast, sizeof plain) != 0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {{"vectors", vectors}, {"pieces", pieces}, {"padding", padding}, {"both ways", both_ways}};
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
