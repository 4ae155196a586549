// XMP packets: properties that a larger picture must not repeat are blanked, in place. Private to core/image*.c.
#ifndef YD_CORE_IMAGE_XMP_H
#define YD_CORE_IMAGE_XMP_H

#include <stddef.h>
#include <stdint.h>

// Overwrite with spaces: orientation, pixel sizes and thumbnails, and everything named GPS... when drop_gps; as attributes and as
// elements, under any namespace prefix. 0, or -1 when the packet is not the plain XML it should be and should not be passed on.
int yd_xmp_adapt(uint8_t *p, size_t n, int drop_gps);

#endif
