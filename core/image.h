// Pictures in and out, through libvips, with everything hostile kept out.
//
// Only formats on the allow-list (yd_image_kinds) are decoded; libvips' untrusted loaders are blocked and every other loader class is
// blocked by name. Pixel, byte and memory limits are checked from the header before a pixel is decoded; damaged data is an error
// (fail_on = error), never half a picture. EXIF orientation is applied. Pixels are 16 bits per sample whatever the file had, so that
// nothing is crushed on the way; grey becomes RGB with `grey` remembered, alpha is kept apart and straight. What else the file said
// (colour profile, EXIF, XMP, IPTC, resolution) travels with the picture as an opaque record.
// Threads: yd_image_init once; the rest is reentrant and meant for worker threads (decoding blocks).
#ifndef YD_CORE_IMAGE_H
#define YD_CORE_IMAGE_H

#include "core/err.h"
#include "core/file.h"
#include <stddef.h>
#include <stdint.h>

typedef struct yd_image_meta yd_image_meta; // immutable, counted: yd_image_meta_ref / _unref
typedef struct yd_output yd_output;         // core/output.h

typedef struct yd_image {
    int w, h;
    int depth;           // 8 or 16: bits per sample that carry information, and that are written unless asked otherwise
    int grey;            // the source had one colour channel: write one back
    uint16_t *rgb;       // w*h*3, full range 0..65535; an 8-bit sample v is v*257 exactly
    uint16_t *alpha;     // w*h, straight (colours are not multiplied by it), or NULL
    yd_image_meta *meta; // what else the source said, or NULL (sRGB, nothing known)
} yd_image;

// A sample of 8 bits as 16 and back: v*257 comes back as v, everything between is rounded.
static inline uint16_t yd_widen(uint8_t v)
{
    return (uint16_t)(v * 257u);
}
static inline uint8_t yd_narrow(uint16_t v)
{
    return (uint8_t)((v * 255u + 32767u) / 65535u);
}

// Luma of one RGB pixel (Rec. 601), 16-bit fixed point: the weights sum to 65536, so that grey stays exactly what it is.
static inline uint8_t yd_luma(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 32768u) >> 16);
}
static inline uint16_t yd_luma16(const uint16_t *rgb)
{
    return (uint16_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 32768u) >> 16);
}

// ---- formats

typedef enum { YD_PNG, YD_JPEG, YD_WEBP, YD_TIFF } yd_image_format; // that can be written

// One known file format. The list is the one source of what help, error messages and capabilities say.
typedef struct yd_image_kind {
    const char *name;       // "png"
    const char *mime;       // "image/png"
    const char *extensions; // "png"; several are separated by spaces
    int reads, writes;      // here and now: reads depends on the decoders that libvips finds
    yd_image_format format; // when it can be written
    int deep;               // written with 16 bits per sample on request
    int quality;            // has a lossy form with a quality
} yd_image_kind;

// Start libvips, block untrusted and unlisted loaders, find out which decoders work, set libvips' caches to zero and one thread per
// operation. Idempotent. YD_E_INTERNAL.
int yd_image_init(yd_err *err);

// The formats, static; `reads` is settled by yd_image_init.
const yd_image_kind *yd_image_kinds(size_t *n);
// Their names as "png, jpeg, ..." in static storage: what is accepted, and what can be written.
const char *yd_image_accepted(void);
const char *yd_image_writable(void);

// A written format by name, alias ("jpg", "tif") or MIME type, in any case. YD_E_SETTING naming "format".
int yd_image_format_parse(const char *name, yd_image_format *out, yd_err *err);
const char *yd_image_format_name(yd_image_format fmt);
const char *yd_image_format_mime(yd_image_format fmt);

// ---- reading

typedef enum { YD_COLOR_SOURCE, YD_COLOR_SRGB } yd_color_space;

typedef struct yd_image_limits { // 0 = no limit of that kind
    long max_pixels; // width*height of the source
    int min_side;    // both sides at least this, 16
    int max_side;    // either side at most this
    size_t max_bytes;
} yd_image_limits;

typedef struct yd_decode_options {
    yd_color_space color_space;
} yd_decode_options;

typedef struct yd_image_header {
    int w, h; // after orientation
    int channels;
    int depth;       // 8 or 16, as yd_image.depth will be
    int pages;       // pictures in the file; the first is read
    char format[16]; // "png", "jpeg", ...
} yd_image_header;

// Read the header only. YD_E_IMAGE_FORMAT (accepted lists the formats), YD_E_IMAGE, YD_E_IMAGE_TOO_LARGE / _SMALL and YD_E_BODY_TOO_LARGE
// (max_bytes), each with the limit.
int yd_image_probe(const void *bytes, size_t len, const yd_image_limits *lim, yd_image_header *out, yd_err *err);

// Probe, then decode. opt NULL: the defaults. On success *out owns its pixels: yd_image_clear.
int yd_image_decode(const void *bytes, size_t len, const yd_image_limits *lim, const yd_decode_options *opt, yd_image *out,
                    yd_err *err);

// ---- memory

// Allocate zeroed pixels of depth 8 (alpha plane when asked for), no metadata. YD_E_NOMEM.
int yd_image_alloc(yd_image *im, int w, int h, int with_alpha, yd_err *err);
// Allocate, then widen bytes: rgb w*h*3, alpha w*h or NULL. YD_E_NOMEM.
int yd_image_from_rgb8(yd_image *im, int w, int h, const uint8_t *rgb, const uint8_t *alpha, yd_err *err);
// The colours as bytes, rounded: dst has w*h*3.
void yd_image_rgb8(const yd_image *im, uint8_t *dst);
void yd_image_clear(yd_image *im);

// Share a record between pictures (both take NULL); any thread.
yd_image_meta *yd_image_meta_ref(yd_image_meta *meta);
void yd_image_meta_unref(yd_image_meta *meta);

// ---- writing

// Encode as `out` says (core/output.h; its size fields are not looked at). JPEG has no alpha: the picture is composited over white.
// Equal pictures and settings give equal bytes. *bytes is released with yd_free. YD_E_SETTING, YD_E_NOMEM, YD_E_INTERNAL.
int yd_image_encode(const yd_image *im, const yd_output *out, void **bytes, size_t *len, yd_err *err);

// Encode one 8-bit plane as a grey PNG (maps, masks).
int yd_image_encode_grey(const uint8_t *plane, int w, int h, void **bytes, size_t *len, yd_err *err);

#endif
