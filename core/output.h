// How a result is written: format, depth, metadata, colours, size. One record that the daemon and the command share, so that their
// bytes agree, and one parser for its names.
//
// Pure: no libvips, no I/O; reentrant. What the values do to a picture is in docs/pictures.md.
#ifndef YD_CORE_OUTPUT_H
#define YD_CORE_OUTPUT_H

#include "core/image.h"

#define YD_RESULT_JPEG_QUALITY 92 // unless somebody asks otherwise

#define YD_MAX_SCALE 8 // a result is at most this many times as wide and high as the source, when a size is asked for

typedef enum {
    YD_META_KEEP,      // everything but what is about the old pixels (thumbnail, size, orientation)
    YD_META_STRIP_GPS, // the same without the place
    YD_META_STRIP,     // only the colour profile
} yd_metadata_policy;

struct yd_output {
    yd_image_format format;
    int format_given; // otherwise the default
    int encode_quality; // 1..100, jpeg and lossy webp
    int lossless;     // webp
    int bit_depth;    // 0 = as the source where the format has it, 8, 16
    int effort;       // 1..9, png and tiff: level of compression
    yd_metadata_policy metadata;
    yd_color_space color_space;
    double scale;      // 0 = not given
    int width, height; // 0 = not given; a box the result is fitted into, keeping its shape
};

// The defaults: png, encode quality 92, depth as the source, strip-gps, colour space of the source, the model's own scale.
void yd_output_init(yd_output *out);

// Take one setting as text: "format", "encode_quality", "lossless" (true, false), "bit_depth" (source, 8, 16), "metadata" (keep,
// strip-gps, strip), "color_space" (source, srgb), "scale" (above 1, at most 8), "width", "height" (pixels). 1 taken; 0 not an output setting;
// YD_E_SETTING naming the field and what it accepts.
int yd_output_set(yd_output *out, const char *name, const char *value, yd_err *err);

// The names that yd_output_set takes, NULL-terminated, static.
const char *const *yd_output_names(void);

// Do the settings go together? YD_E_SETTING: 16 bits in a format that has 8, lossless in one that has no such form,
// scale together with width or height.
int yd_output_check(const yd_output *out, yd_err *err);

// One JSON object (no newline) of what applies: encode_quality only where the format has it, sizes only when given, bit_depth 0 = source.
// Length needed, as snprintf.
size_t yd_output_print(const yd_output *out, char *dst, size_t cap);

// Size of the result of a w x h picture with a model of `native` scale. YD_E_SETTING naming scale, width or height when the picture
// would not grow or grow more than YD_MAX_SCALE times; YD_E_IMAGE_TOO_LARGE beyond 65535 pixels a side.
int yd_output_size(const yd_output *out, int native, int w, int h, int *out_w, int *out_h, yd_err *err);

#endif
