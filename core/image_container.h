// Metadata blocks put into finished files. Private to core/image*.c.
#ifndef YD_CORE_IMAGE_CONTAINER_H
#define YD_CORE_IMAGE_CONTAINER_H

#include "core/image_meta.h"

// Put into a PNG, JPEG or WebP file of len bytes what libvips has not written, and take out of a WebP what it should not have: a new file
// of *out_len bytes, released with yd_free. meta may be NULL.
// Blocks longer than the format can hold are left out; a colour profile that is too long is an error, because the colours would be
// wrong without it. YD_E_NOMEM, YD_E_SETTING naming "format", YD_E_INTERNAL.
int yd_container_add(yd_image_format format, const uint8_t *file, size_t len, const yd_image_meta *meta, void **out,
                     size_t *out_len, yd_err *err);

#endif
