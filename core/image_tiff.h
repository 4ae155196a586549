// Directories of a TIFF structure, as in TIFF files and in EXIF: bounds-checked reading and patching in place.
// Private to core/image*.c. Offsets are from the structure's first byte; offset 0 means "none".
#ifndef YD_CORE_IMAGE_TIFF_H
#define YD_CORE_IMAGE_TIFF_H

#include <stddef.h>
#include <stdint.h>

typedef struct yd_tiff {
    const uint8_t *p;
    size_t n;
    int big; // byte order
} yd_tiff;

// One entry of a directory.
typedef struct yd_tiff_entry {
    size_t at; // of the entry itself
    uint16_t tag, type;
    uint32_t count;
    size_t data;  // of its values: within the entry or elsewhere; 0 when they lie outside the structure
    size_t bytes; // that the values take
} yd_tiff_entry;

// Offset of the first directory, 0 when this is no TIFF structure.
size_t yd_tiff_open(yd_tiff *t, const void *bytes, size_t n);

// Number of entries of the directory at dir, -1 when it is not all within the structure.
int yd_tiff_count(const yd_tiff *t, size_t dir);
// Entry i of 0..count-1.
yd_tiff_entry yd_tiff_at(const yd_tiff *t, size_t dir, int i);
// Offset of the next directory, 0 = none.
size_t yd_tiff_next(const yd_tiff *t, size_t dir);

// Find a tag: 1 and *out, or 0.
int yd_tiff_find(const yd_tiff *t, size_t dir, uint16_t tag, yd_tiff_entry *out);
// The (first) value of a tag of type byte, short or long: 1 and *out, or 0 and *out untouched.
int yd_tiff_number(const yd_tiff *t, size_t dir, uint16_t tag, uint32_t *out);

// Number of pictures in a TIFF file, not counting smaller versions of others (pyramids, thumbnails); at least 1, at most 1000.
int yd_tiff_pages(const void *bytes, size_t n);

uint16_t yd_tiff_get16(const yd_tiff *t, size_t at);
uint32_t yd_tiff_get32(const yd_tiff *t, size_t at);
void yd_tiff_put16(const yd_tiff *t, uint8_t *p, size_t at, uint16_t v);
void yd_tiff_put32(const yd_tiff *t, uint8_t *p, size_t at, uint32_t v);

#endif
