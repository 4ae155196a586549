// ZIP headers: plain ones, and those whose numbers need 64 bits. Whole archives are opened by another program's reader in tests/api.
#include "api/zip.h"
#include "tests/unit/t.h"

static uint64_t at(const uint8_t *p, size_t i, int bytes)
{
    uint64_t v = 0;
    for (int k = bytes; k-- > 0;) v = v << 8 | p[i + (size_t)k];
    return v;
}

static void plain(void)
{
    uint8_t h[YD_ZIP_PART_MAX], d[YD_ZIP_PART_MAX], e[YD_ZIP_PART_MAX];
    const yd_zip_member m = {.name = "a.png", .size = 1000, .offset = 77, .crc = 0x12345678, .time_ms = 1000LL * 951829262}; // 2000-02-29 13:01:02
    CHECK(yd_zip_header(&m, NULL) == 35 && yd_zip_header(&m, h) == 35);
    CHECK(at(h, 0, 4) == 0x04034b50 && at(h, 4, 2) == 20 && at(h, 8, 2) == 0);
    CHECK(at(h, 10, 2) == (13u << 11 | 1u << 5 | 1) && at(h, 12, 2) == (20u << 9 | 2u << 5 | 29));
    CHECK(at(h, 14, 4) == 0x12345678 && at(h, 18, 4) == 1000 && at(h, 22, 4) == 1000 && at(h, 26, 2) == 5 && at(h, 28, 2) == 0);
    CHECK(memcmp(h + 30, "a.png", 5) == 0);
    CHECK(yd_zip_directory(&m, NULL) == 51 && yd_zip_directory(&m, d) == 51);
    CHECK(at(d, 0, 4) == 0x02014b50 && at(d, 16, 4) == 0x12345678 && at(d, 42, 4) == 77 && memcmp(d + 46, "a.png", 5) == 0);
    CHECK(yd_zip_end(3, 5000, 153, NULL) == 22 && yd_zip_end(3, 5000, 153, e) == 22);
    CHECK(at(e, 0, 4) == 0x06054b50 && at(e, 8, 2) == 3 && at(e, 12, 4) == 153 && at(e, 16, 4) == 5000);
}

static void large(void)
{
    uint8_t h[YD_ZIP_PART_MAX], d[YD_ZIP_PART_MAX], e[YD_ZIP_PART_MAX];
    const uint64_t size = 5ull << 30, offset = 9ull << 30;
    const yd_zip_member m = {.name = "a", .size = size, .offset = offset};
    CHECK(yd_zip_header(&m, h) == 31 + 20 && at(h, 18, 4) == UINT32_MAX && at(h, 28, 2) == 20);
    CHECK(at(h, 31, 2) == 1 && at(h, 33, 2) == 16 && at(h, 35, 8) == size && at(h, 43, 8) == size);
    CHECK(yd_zip_directory(&m, d) == 47 + 28 && at(d, 30, 2) == 28 && at(d, 42, 4) == UINT32_MAX);
    CHECK(at(d, 47, 2) == 1 && at(d, 49, 2) == 24 && at(d, 51, 8) == size && at(d, 59, 8) == size && at(d, 67, 8) == offset);
    const yd_zip_member far = {.name = "a", .size = 3, .offset = UINT32_MAX};
    CHECK(yd_zip_header(&far, NULL) == 31 && yd_zip_directory(&far, d) == 47 + 12 && at(d, 49, 2) == 8 && at(d, 51, 8) == UINT32_MAX);
    CHECK(yd_zip_end(2, offset, 100, e) == 56 + 20 + 22 && at(e, 0, 4) == 0x06064b50 && at(e, 32, 8) == 2 && at(e, 40, 8) == 100 && at(e, 48, 8) == offset);
    CHECK(at(e, 56, 4) == 0x07064b50 && at(e, 64, 8) == offset + 100 && at(e, 76, 4) == 0x06054b50 && at(e, 92, 4) == UINT32_MAX);
    CHECK(yd_zip_end(70000, 10, 10, e) == 98 && at(e, 84, 2) == UINT16_MAX && at(e, 24, 8) == 70000);
}

static void the_longest_name(void)
{
    char name[YD_ZIP_NAME_MAX + 1];
    memset(name, 'x', YD_ZIP_NAME_MAX);
    name[YD_ZIP_NAME_MAX] = 0;
    const yd_zip_member m = {.name = name, .size = UINT64_MAX, .offset = UINT64_MAX};
    CHECK(yd_zip_header(&m, NULL) <= YD_ZIP_PART_MAX && yd_zip_directory(&m, NULL) <= YD_ZIP_PART_MAX);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {{"zip: plain", plain}, {"zip: numbers of 64 bits", large}, {"zip: the longest name", the_longest_name}};
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
