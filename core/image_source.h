// An opened picture file, between its header and its pixels. Private to core/image*.c.
#ifndef YD_CORE_IMAGE_SOURCE_H
#define YD_CORE_IMAGE_SOURCE_H

#include "core/image_meta.h"
#include "core/image_parts.h"
#include <vips/vips.h>

// What a PNG's chunks say that libvips does not pass on. Pointers are into the file.
typedef struct yd_png_facts {
    int frames;       // of an animated one, else 1
    int srgb;         // has an sRGB chunk
    uint32_t gamma;   // gAMA: 100000 / exponent, 0 = absent
    uint32_t chrm[8]; // cHRM: white, red, green, blue as x, y times 100000; all 0 = absent
    const uint8_t *exif;
    size_t exif_len;
} yd_png_facts;

typedef struct yd_source {
    const uint8_t *bytes;
    size_t len;
    const yd_image_kind *kind;
    VipsImage *im; // as loaded, no pixel decoded yet
    int w, h;      // as stored
    int orientation;
    int colours; // 1, 3, or 4 = CMYK
    int alpha;
    int depth; // 8 or 16
    int bits;  // of a 16-bit sample that libvips has filled, from the top: 10 or 12 of AVIF and HEIC, else 16
    int lab;   // 3 colours of a device-independent kind, which libvips converts
    int pages;
    yd_png_facts png;
} yd_source;

// The checks of a format's own structure that come before libvips: sizes within lim, no more scans, tiles or exotic codecs than are
// accepted. kind is what yd_image_sniff said.
int yd_image_precheck(const yd_image_kind *kind, const uint8_t *bytes, size_t len, const yd_image_limits *lim, yd_err *err);

// YD_E_IMAGE_TOO_LARGE or _SMALL when a picture of w x h is outside the limits.
int yd_image_check_size(long long w, long long h, const yd_image_limits *lim, yd_err *err);

void yd_png_read_facts(const uint8_t *bytes, size_t len, yd_png_facts *out);

// Check and open. After success s->im must be released.
int yd_source_open(const void *bytes, size_t len, const yd_image_limits *lim, yd_source *s, yd_err *err);
// "the PNG file is damaged or cut short: ..."
int yd_source_damaged(const yd_source *s, yd_err *err);

// ---- colours

// How the pixels become what the rest works on, and what they then are.
typedef struct yd_color_plan {
    void *transform;  // lcms2's, or NULL: the samples are taken as they are
    int out_colours;  // 1 or 3
    yd_meta_blob icc; // what to tag RGB with; absent: nothing (sRGB, as everybody assumes)
} yd_color_plan;

// Decide. YD_E_NOMEM, YD_E_IMAGE. Clear also after a failure.
int yd_color_plan_make(const yd_source *s, yd_color_space want, yd_color_plan *out, yd_err *err);
void yd_color_plan_clear(yd_color_plan *p);
// n pixels of 16 bits per sample, s->colours to out_colours samples each. Only when there is a transform.
void yd_color_apply(const yd_color_plan *p, const uint16_t *in, uint16_t *out, size_t n);

// ---- metadata

// Everything the file says beside its pixels, icc taken over from the plan; *out is NULL when there is nothing. YD_E_NOMEM.
int yd_meta_collect(const yd_source *s, yd_color_plan *plan, yd_image_meta **out, yd_err *err);

#endif
