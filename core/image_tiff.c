// Directories of a TIFF structure: see image_tiff.h. Nothing is copied; a directory that is not wholly inside counts as absent.
#include "core/image_tiff.h"

#include <string.h>

uint16_t yd_tiff_get16(const yd_tiff *t, size_t at)
{
    const uint8_t *p = t->p + at;
    return (uint16_t)(t->big ? p[0] << 8 | p[1] : p[1] << 8 | p[0]);
}

uint32_t yd_tiff_get32(const yd_tiff *t, size_t at)
{
    uint32_t first = yd_tiff_get16(t, at), second = yd_tiff_get16(t, at + 2);
    return t->big ? first << 16 | second : second << 16 | first;
}

void yd_tiff_put16(const yd_tiff *t, uint8_t *p, size_t at, uint16_t v)
{
    p[at + (t->big ? 0 : 1)] = (uint8_t)(v >> 8);
    p[at + (t->big ? 1 : 0)] = (uint8_t)v;
}

void yd_tiff_put32(const yd_tiff *t, uint8_t *p, size_t at, uint32_t v)
{
    yd_tiff_put16(t, p, at + (t->big ? 0 : 2), (uint16_t)(v >> 16));
    yd_tiff_put16(t, p, at + (t->big ? 2 : 0), (uint16_t)v);
}

int yd_tiff_count(const yd_tiff *t, size_t dir)
{
    if (dir < 8 || dir > t->n || t->n - dir < 6) return -1;
    size_t count = yd_tiff_get16(t, dir);
    return count * 12 <= t->n - dir - 6 ? (int)count : -1;
}

size_t yd_tiff_open(yd_tiff *t, const void *bytes, size_t n)
{
    *t = (yd_tiff){bytes, n, 0};
    if (n < 14) return 0;
    if (memcmp(bytes, "MM\0*", 4) == 0)
        t->big = 1;
    else if (memcmp(bytes, "II*\0", 4) != 0)
        return 0;
    size_t dir = yd_tiff_get32(t, 4);
    return yd_tiff_count(t, dir) < 0 ? 0 : dir;
}

yd_tiff_entry yd_tiff_at(const yd_tiff *t, size_t dir, int i)
{
    static const uint8_t size_of[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4};
    yd_tiff_entry e = {.at = dir + 2 + 12 * (size_t)i};
    e.tag = yd_tiff_get16(t, e.at);
    e.type = yd_tiff_get16(t, e.at + 2);
    e.count = yd_tiff_get32(t, e.at + 4);
    e.bytes = (size_t)e.count * (e.type < sizeof size_of ? size_of[e.type] : 1);
    e.data = e.bytes <= 4 ? e.at + 8 : yd_tiff_get32(t, e.at + 8);
    if (e.data > t->n || e.bytes > t->n - e.data) e.data = 0;
    return e;
}

size_t yd_tiff_next(const yd_tiff *t, size_t dir)
{
    return yd_tiff_get32(t, dir + 2 + 12 * (size_t)yd_tiff_count(t, dir));
}

int yd_tiff_find(const yd_tiff *t, size_t dir, uint16_t tag, yd_tiff_entry *out)
{
    for (int i = 0, n = yd_tiff_count(t, dir); i < n; i++) {
        *out = yd_tiff_at(t, dir, i);
        if (out->tag == tag) return 1;
    }
    return 0;
}

int yd_tiff_number(const yd_tiff *t, size_t dir, uint16_t tag, uint32_t *out)
{
    yd_tiff_entry e;
    if (!yd_tiff_find(t, dir, tag, &e) || !e.data || e.count < 1) return 0;
    if (e.type == 1)
        *out = t->p[e.data];
    else if (e.type == 3)
        *out = yd_tiff_get16(t, e.data);
    else if (e.type == 4)
        *out = yd_tiff_get32(t, e.data);
    else
        return 0;
    return 1;
}

int yd_tiff_pages(const void *bytes, size_t n)
{
    enum { TAG_SUBFILE = 254, REDUCED = 1, MOST = 1000 };
    yd_tiff t;
    int pages = 0;
    size_t dir = yd_tiff_open(&t, bytes, n);
    for (int i = 0; i < MOST && yd_tiff_count(&t, dir) >= 0; i++, dir = yd_tiff_next(&t, dir)) { // a ring ends there, too
        uint32_t kind = 0;
        yd_tiff_number(&t, dir, TAG_SUBFILE, &kind);
        pages += !(kind & REDUCED);
    }
    return pages < 1 ? 1 : pages;
}
