// EXIF editing in place. See image_exif.h.
//
// An EXIF block is a TIFF structure: directory 0 (camera), with pointers to the EXIF and the GPS directory, and directory 1 (thumbnail).
// Maker notes hold offsets that only their makers understand, so nothing is ever moved: entries leave their directory, and the bytes
// that they and their directories used become zeros. A structure whose directories are not inside the block, or whose pointers lead to
// directories that are not, is given up as a whole: what cannot be read cannot be cleaned.
#include "core/image_exif.h"

#include "core/image_tiff.h"

#include <string.h>

enum {
    TAG_WIDTH = 0x100,
    TAG_HEIGHT = 0x101,
    TAG_ORIENTATION = 0x112,
    TAG_THUMBNAIL = 0x201,
    TAG_THUMBNAIL_BYTES = 0x202,
    TAG_EXIF = 0x8769,
    TAG_GPS = 0x8825,
    TAG_PIXEL_X = 0xa002,
    TAG_PIXEL_Y = 0xa003,
};

const uint8_t *yd_exif_body(const uint8_t *p, size_t n, size_t *body)
{
    yd_tiff t;
    size_t skip = n >= 6 && memcmp(p, "Exif\0\0", 6) == 0 ? 6 : 0;
    if (!yd_tiff_open(&t, p + skip, n - skip)) return NULL;
    *body = n - skip;
    return p + skip;
}

int yd_exif_orientation(const uint8_t *p, size_t n)
{
    yd_tiff t;
    uint32_t v = 1;
    const uint8_t *body = yd_exif_body(p, n, &n);
    if (body) yd_tiff_number(&t, yd_tiff_open(&t, body, n), TAG_ORIENTATION, &v);
    return v >= 1 && v <= 8 ? (int)v : 1;
}

// Overwrite a directory and what its entries point at.
static void wipe_directory(const yd_tiff *t, uint8_t *p, size_t dir)
{
    int count = yd_tiff_count(t, dir);
    for (int i = 0; i < count; i++) {
        yd_tiff_entry e = yd_tiff_at(t, dir, i);
        if (e.data && e.bytes > 4) memset(p + e.data, 0, e.bytes);
        count = yd_tiff_count(t, dir) < count ? yd_tiff_count(t, dir) : count; // the values may have been the directory itself
    }
    if (count >= 0) memset(p + dir, 0, 2 + 12 * (size_t)count + 4);
}

// Take entry i out of a directory: the following ones and the link to the next directory move up.
static void drop_entry(const yd_tiff *t, uint8_t *p, size_t dir, int i)
{
    int count = yd_tiff_count(t, dir);
    size_t at = dir + 2 + 12 * (size_t)i, end = dir + 2 + 12 * (size_t)count + 4;
    memmove(p + at, p + at + 12, end - at - 12);
    memset(p + end - 12, 0, 12);
    yd_tiff_put16(t, p, dir, (uint16_t)(count - 1));
}

// 0, or -1 when a place is mentioned that cannot be found.
static int drop_place(const yd_tiff *t, uint8_t *p, size_t dir)
{
    for (int i = 0; i < yd_tiff_count(t, dir);) {
        yd_tiff_entry e = yd_tiff_at(t, dir, i);
        if (e.tag != TAG_GPS) {
            i++;
            continue;
        }
        size_t gps = yd_tiff_get32(t, e.at + 8);
        if (gps == dir || yd_tiff_count(t, gps) < 0) return -1;
        drop_entry(t, p, dir, i);
        wipe_directory(t, p, gps);
    }
    return yd_tiff_count(t, dir) < 0 ? -1 : 0;
}

// Replace the value that yd_tiff_number reads, in whatever type it is written.
static void set_number(const yd_tiff *t, uint8_t *p, size_t dir, uint16_t tag, uint32_t v)
{
    yd_tiff_entry e;
    uint32_t was;
    if (!yd_tiff_find(t, dir, tag, &e) || !yd_tiff_number(t, dir, tag, &was)) return;
    if (e.type == 3)
        yd_tiff_put16(t, p, e.data, (uint16_t)v);
    else if (e.type == 4)
        yd_tiff_put32(t, p, e.data, v);
    else if (v <= UINT8_MAX)
        p[e.data] = (uint8_t)v;
}

// The thumbnail's directory and pixels. They usually come last and are cut off then.
static size_t drop_thumbnail(const yd_tiff *t, uint8_t *p, size_t dir)
{
    size_t link = dir + 2 + 12 * (size_t)yd_tiff_count(t, dir), next = yd_tiff_get32(t, link), n = t->n;
    uint32_t at = 0, bytes = 0;
    yd_tiff_put32(t, p, link, 0);
    if (next == dir || yd_tiff_count(t, next) < 0) return n;
    if (yd_tiff_number(t, next, TAG_THUMBNAIL, &at) && yd_tiff_number(t, next, TAG_THUMBNAIL_BYTES, &bytes) && at >= 8 &&
        at < n) {
        if (bytes >= n - at)
            n = at;
        else
            memset(p + at, 0, bytes);
    }
    yd_tiff cut = {t->p, n, t->big};
    wipe_directory(&cut, p, next);
    return n;
}

size_t yd_exif_adapt(uint8_t *p, size_t n, int w, int h, int drop_gps)
{
    yd_tiff t;
    uint32_t exif = 0;
    size_t dir = yd_tiff_open(&t, p, n);
    if (!dir) return 0;
    if (drop_gps && drop_place(&t, p, dir)) return 0;
    t.n = drop_thumbnail(&t, p, dir);
    if (yd_tiff_count(&t, dir) < 0) return 0;
    if (yd_tiff_number(&t, dir, TAG_EXIF, &exif) && exif != dir) {
        if (yd_tiff_count(&t, exif) < 0 || (drop_gps && drop_place(&t, p, exif))) return 0;
        set_number(&t, p, exif, TAG_PIXEL_X, (uint32_t)w);
        set_number(&t, p, exif, TAG_PIXEL_Y, (uint32_t)h);
    }
    set_number(&t, p, dir, TAG_WIDTH, (uint32_t)w);
    set_number(&t, p, dir, TAG_HEIGHT, (uint32_t)h);
    set_number(&t, p, dir, TAG_ORIENTATION, 1);
    return yd_exif_orientation(p, t.n) == 1 ? t.n : 0; // values that lie in one another can undo each other
}
