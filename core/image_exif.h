// EXIF blocks: what a larger picture must not repeat is taken out, in place. Private to core/image*.c.
#ifndef YD_CORE_IMAGE_EXIF_H
#define YD_CORE_IMAGE_EXIF_H

#include <stddef.h>
#include <stdint.h>

// The orientation that a block (a TIFF structure, with or without "Exif\0\0" before it) states; 1 when it states none.
int yd_exif_orientation(const uint8_t *p, size_t n);

// Step over "Exif\0\0" and the like: the TIFF structure in p[0..n), NULL when there is none.
const uint8_t *yd_exif_body(const uint8_t *p, size_t n, size_t *body);

// Make p[0..n) true of an upright picture of w x h: orientation 1, its sizes; the thumbnail goes, and the place too when drop_gps.
// What goes is overwritten with zeros; everything else stays where it is, so that maker notes remain readable.
// Returns the new length (n or less), 0 when the block is damaged and should not be passed on.
size_t yd_exif_adapt(uint8_t *p, size_t n, int w, int h, int drop_gps);

#endif
