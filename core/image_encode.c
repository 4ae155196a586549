// Encoding: our planes to PNG and JPEG files. Equal pixels and settings give equal bytes; no metadata is written.
//
// libvips is lent a packed buffer and its result is copied into memory of our own. JPEG knows no alpha: it is composited over white.
// A grey picture is written with one channel; when processing has made its channels differ, their luma (BT.601) is written.
#include "core/image.h"

#include "core/image_vips.h"
#include "core/mem.h"
#include "core/output.h"

#include <string.h>
#include <vips/vips.h>

enum { JPEG_MAX_SIDE = 65535, MAP_EFFORT = 6 };

static uint8_t over_white(unsigned v, unsigned alpha)
{
    return (uint8_t)((v * alpha + 255u * (255u - alpha) + 127u) / 255u);
}

// The channels of one file, interleaved: grey or RGB, and alpha unless it is flattened.
static void pack(const yd_image *im, int colours, int flatten, uint8_t *dst)
{
    size_t n = (size_t)im->w * (size_t)im->h;
    for (size_t i = 0; i < n; i++) {
        const uint8_t p[3] = {yd_narrow(im->rgb[3 * i]), yd_narrow(im->rgb[3 * i + 1]), yd_narrow(im->rgb[3 * i + 2])};
        uint8_t *start = dst;
        if (colours == 1)
            *dst++ = yd_luma(p);
        else
            for (int c = 0; c < 3; c++) *dst++ = p[c];
        if (!im->alpha) continue;
        if (!flatten)
            *dst++ = yd_narrow(im->alpha[i]);
        else
            for (; start < dst; start++) *start = over_white(*start, yd_narrow(im->alpha[i]));
    }
}

static int save(VipsImage *im, yd_image_format fmt, int level, void **buf, size_t *len)
{
    if (fmt == YD_JPEG)
        return vips_jpegsave_buffer(im, buf, len, "Q", level, "optimize_coding", TRUE, "strip", TRUE, NULL);
    return vips_pngsave_buffer(im, buf, len, "compression", level, "filter", VIPS_FOREIGN_PNG_FILTER_ALL, "strip", TRUE,
                               NULL);
}

// Encode interleaved pixels; level is quality or effort.
static int encode_packed(const uint8_t *pixels, int w, int h, int bands, yd_image_format fmt, int level, void **bytes,
                         size_t *len, yd_err *err)
{
    VipsImage *raw = NULL, *im = NULL;
    void *buf = NULL;
    size_t n = 0;
    int rc = 0;
    *bytes = NULL;
    *len = 0;
    raw = vips_image_new_from_memory(pixels, (size_t)w * (size_t)h * (size_t)bands, w, h, bands, VIPS_FORMAT_UCHAR);
    if (!raw ||
        vips_copy(raw, &im, "interpretation", bands < 3 ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB, NULL) ||
        save(im, fmt, level, &buf, &n))
        rc = yd_vips_fail(err, YD_E_INTERNAL, "the picture cannot be encoded");
    if (rc == 0) {
        *bytes = yd_malloc(n);
        if (*bytes)
            memcpy(*bytes, buf, *len = n);
        else
            rc = yd_fail(err, YD_E_NOMEM, "no memory for an encoded picture of %zu bytes", n);
    }
    g_free(buf);
    g_clear_object(&im);
    g_clear_object(&raw);
    return rc;
}

static int check_settings(const yd_image *im, const yd_output *out, yd_err *err)
{
    const int effort = out->effort, quality = out->quality;
    if (out->format == YD_PNG) {
        if (effort >= 1 && effort <= 9) return 0;
        return yd_fail_field(err, YD_E_SETTING, "effort", "1 to 9", "effort %d is out of range", effort);
    }
    if (quality < 1 || quality > 100)
        return yd_fail_field(err, YD_E_SETTING, "quality", "1 to 100", "quality %d is out of range", quality);
    if (im->w > JPEG_MAX_SIDE || im->h > JPEG_MAX_SIDE)
        return yd_fail_field(err, YD_E_SETTING, "format", "png",
                             "a JPEG file holds at most 65535 pixels a side, the result has %d x %d", im->w, im->h);
    return 0;
}

int yd_image_encode(const yd_image *im, const yd_output *out, void **bytes, size_t *len, yd_err *err)
{
    *bytes = NULL;
    *len = 0;
    int rc = yd_image_init(err);
    if (rc == 0) rc = check_settings(im, out, err);
    if (rc) return rc;
    yd_image_format fmt = out->format;
    int flatten = fmt == YD_JPEG, colours = im->grey ? 1 : 3, level = fmt == YD_JPEG ? out->quality : out->effort;
    int bands = colours + (im->alpha && !flatten);
    uint8_t *packed = yd_calloc((size_t)im->w * (size_t)im->h, (size_t)bands);
    if (!packed) return yd_fail(err, YD_E_NOMEM, "no memory to encode a picture of %d x %d pixels", im->w, im->h);
    pack(im, colours, flatten, packed);
    rc = encode_packed(packed, im->w, im->h, bands, fmt, level, bytes, len, err);
    yd_free(packed);
    return rc;
}

int yd_image_encode_grey(const uint8_t *plane, int w, int h, void **bytes, size_t *len, yd_err *err)
{
    *bytes = NULL;
    *len = 0;
    int rc = yd_image_init(err);
    return rc ? rc : encode_packed(plane, w, h, 1, YD_PNG, MAP_EFFORT, bytes, len, err);
}
