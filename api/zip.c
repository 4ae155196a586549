// ZIP headers, byte by byte, little-endian. Any thread.
#include "api/zip.h"

#include <string.h>
#include <time.h>

#define MOST_32 UINT32_MAX // says: the number is in the 64-bit extension
#define MOST_16 UINT16_MAX

enum { PLAIN = 20, WITH_64 = 45, MADE_BY_UNIX = 3 << 8, NAME_IS_UTF8 = 1 << 11, EXTENSION_64 = 1 };

typedef struct writer {
    uint8_t *dst; // NULL: only count
    size_t len;
} writer;

static void put(writer *w, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++, w->len++)
        if (w->dst) w->dst[w->len] = (uint8_t)(v >> (8 * i));
}

static void put_text(writer *w, const char *s)
{
    const size_t n = strlen(s);
    if (w->dst) memcpy(w->dst + w->len, s, n);
    w->len += n;
}

static uint32_t narrow(uint64_t v)
{
    return v >= MOST_32 ? MOST_32 : (uint32_t)v;
}

// Date and time as MS-DOS has them: from 1980, two seconds at a time.
static uint32_t dos_time(int64_t ms)
{
    const time_t t = (time_t)(ms / 1000);
    struct tm tm;
    if (!gmtime_r(&t, &tm) || tm.tm_year < 80 || tm.tm_year > 207) return 1u << 21 | 1u << 16;
    const uint32_t date = (uint32_t)(tm.tm_year - 80) << 9 | (uint32_t)(tm.tm_mon + 1) << 5 | (uint32_t)tm.tm_mday;
    return date << 16 | (uint32_t)tm.tm_hour << 11 | (uint32_t)tm.tm_min << 5 | (uint32_t)tm.tm_sec / 2;
}

// What header and directory have in common: version, flags, method 0, time, check sum, both sizes.
static void put_facts(writer *w, const yd_zip_member *m, int large)
{
    put(w, large ? WITH_64 : PLAIN, 2);
    put(w, NAME_IS_UTF8, 2);
    put(w, 0, 2);
    put(w, dos_time(m->time_ms), 4);
    put(w, m->crc, 4);
    put(w, narrow(m->size), 4);
    put(w, narrow(m->size), 4);
    put(w, strlen(m->name), 2);
}

size_t yd_zip_header(const yd_zip_member *m, uint8_t *dst)
{
    writer w = {dst, 0};
    const int large = m->size >= MOST_32;
    put(&w, 0x04034b50, 4);
    put_facts(&w, m, large);
    put(&w, large ? 20 : 0, 2);
    put_text(&w, m->name);
    if (large) {
        put(&w, EXTENSION_64, 2);
        put(&w, 16, 2);
        put(&w, m->size, 8);
        put(&w, m->size, 8);
    }
    return w.len;
}

size_t yd_zip_directory(const yd_zip_member *m, uint8_t *dst)
{
    writer w = {dst, 0};
    const int large = m->size >= MOST_32, far = m->offset >= MOST_32;
    const unsigned extra = (large ? 16u : 0) + (far ? 8u : 0);
    put(&w, 0x02014b50, 4);
    put(&w, MADE_BY_UNIX | WITH_64, 2);
    put_facts(&w, m, large || far);
    put(&w, extra ? extra + 4 : 0, 2);
    put(&w, 0, 2); // comment
    put(&w, 0, 2); // disk
    put(&w, 0, 2); // internal attributes
    put(&w, 0100644u << 16, 4);
    put(&w, narrow(m->offset), 4);
    put_text(&w, m->name);
    if (!extra) return w.len;
    put(&w, EXTENSION_64, 2);
    put(&w, extra, 2);
    if (large) put(&w, m->size, 8);
    if (large) put(&w, m->size, 8);
    if (far) put(&w, m->offset, 8);
    return w.len;
}

static void put_end_64(writer *w, uint64_t members, uint64_t offset, uint64_t size)
{
    put(w, 0x06064b50, 4);
    put(w, 44, 8); // bytes that follow
    put(w, MADE_BY_UNIX | WITH_64, 2);
    put(w, WITH_64, 2);
    put(w, 0, 4);
    put(w, 0, 4);
    put(w, members, 8);
    put(w, members, 8);
    put(w, size, 8);
    put(w, offset, 8);
    put(w, 0x07064b50, 4); // and where this is
    put(w, 0, 4);
    put(w, offset + size, 8);
    put(w, 1, 4);
}

size_t yd_zip_end(uint64_t members, uint64_t offset, uint64_t size, uint8_t *dst)
{
    writer w = {dst, 0};
    if (members >= MOST_16 || offset >= MOST_32 || size >= MOST_32) put_end_64(&w, members, offset, size);
    const uint64_t count = members >= MOST_16 ? MOST_16 : members;
    put(&w, 0x06054b50, 4);
    put(&w, 0, 4); // disks
    put(&w, count, 2);
    put(&w, count, 2);
    put(&w, narrow(size), 4);
    put(&w, narrow(offset), 4);
    put(&w, 0, 2); // comment
    return w.len;
}
