// Pictures in and out, through libvips, with everything hostile kept out.
//
// Only formats on the allow-list (PNG, JPEG) are decoded; libvips' untrusted loaders are blocked and every other loader class is
// blocked by name. Pixel and byte limits are checked from the header before a pixel is decoded; damaged data is an error
// (fail_on = error), never half a picture. EXIF orientation is applied and dropped. Pixels are sRGB bytes; grey becomes RGB with
// `grey` remembered, alpha is kept apart.
// Threads: yd_image_init once; the rest is reentrant and meant for worker threads (decoding blocks).
#ifndef YD_CORE_IMAGE_H
#define YD_CORE_IMAGE_H

#include "core/err.h"
#include "core/file.h"
#include <stddef.h>
#include <stdint.h>

typedef struct yd_image {
    int w, h;
    uint8_t *rgb;   // w*h*3
    uint8_t *alpha; // w*h, or NULL
    int grey;       // the source had one colour channel: write one back
} yd_image;

// Luma of one RGB pixel (Rec. 601), 16-bit fixed point: the weights sum to 65536, so that grey stays exactly what it is.
static inline uint8_t yd_luma(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 32768u) >> 16);
}

typedef struct yd_image_limits { // 0 = no limit of that kind
    long max_pixels; // width*height of the source
    int min_side;    // both sides at least this, 16
    int max_side;    // either side at most this
    size_t max_bytes;
} yd_image_limits;

typedef struct yd_image_header {
    int w, h; // after orientation
    int channels;
    char format[16]; // "png", "jpeg"
} yd_image_header;

// Start libvips, block untrusted and unlisted loaders, set its caches to zero and one thread per operation. Idempotent. YD_E_INTERNAL.
int yd_image_init(yd_err *err);

// Read the header only. YD_E_IMAGE_FORMAT (accepted lists the formats), YD_E_IMAGE, YD_E_IMAGE_TOO_LARGE / _SMALL and YD_E_BODY_TOO_LARGE
// (max_bytes), each with the limit.
int yd_image_probe(const void *bytes, size_t len, const yd_image_limits *lim, yd_image_header *out, yd_err *err);

// Probe, then decode. On success *out owns its pixels: yd_image_clear.
int yd_image_decode(const void *bytes, size_t len, const yd_image_limits *lim, yd_image *out, yd_err *err);

// Allocate pixels (alpha plane when asked for). YD_E_NOMEM.
int yd_image_alloc(yd_image *im, int w, int h, int with_alpha, yd_err *err);
void yd_image_clear(yd_image *im);

typedef enum { YD_PNG, YD_JPEG } yd_image_format;

// How results are written unless somebody asks otherwise: the daemon and the command use the same, so that their bytes agree.
#define YD_RESULT_JPEG_QUALITY 92
#define YD_RESULT_PNG_EFFORT   3

// Encode. quality 1..100 for JPEG (alpha is composited over white there), ignored for PNG; effort 1..9 is PNG's compression level.
// *bytes is released with yd_free.
int yd_image_encode(const yd_image *im, yd_image_format fmt, int quality, int effort, void **bytes, size_t *len, yd_err *err);

// Encode one 8-bit plane as a grey PNG (maps, masks).
int yd_image_encode_grey(const uint8_t *plane, int w, int h, void **bytes, size_t *len, yd_err *err);

// "png" / "jpeg" and their aliases ("jpg"). YD_E_SETTING naming "format".
int yd_image_format_parse(const char *name, yd_image_format *out, yd_err *err);
const char *yd_image_format_mime(yd_image_format fmt);

#endif
