// Encoding: our planes to files. Equal pictures and settings give equal bytes: nothing of the clock, the machine or the threads goes in.
//
//   samples -> channels of the wanted depth, interleaved (pack) -> libvips -> metadata blocks (image_container.c)
//
// 16 bits become 8 by rounding. JPEG knows no alpha: the picture is composited over white, in 16 bits, before that. A grey picture is
// written with one channel (WebP has none such and gets three); when processing has made its channels differ, their luma (BT.601) is
// written. libvips is lent a packed buffer and its result is copied into memory of our own.
// Who writes what: profile and XMP - libvips for PNG and TIFF (PNG's are compressed), ourselves for JPEG and WebP; EXIF - ourselves, not
// in TIFF; IPTC - ourselves, in JPEG only (PNG and WebP have no place for it, libvips cuts it short in TIFF); resolution - libvips for PNG and
// TIFF, ourselves for JPEG.
#include "core/image_container.h"
#include "core/image_parts.h"
#include "core/image_vips.h"
#include "core/mem.h"
#include "core/output.h"

#include <string.h>
#include <vips/vips.h>

enum { JPEG_MAX_SIDE = 65535, WEBP_MAX_SIDE = 16383, MAP_EFFORT = 6, WEBP_EFFORT = 4 };

static uint16_t over_white(uint32_t v, uint32_t alpha)
{
    return (uint16_t)(((uint64_t)v * alpha + 65535u * (uint64_t)(65535u - alpha) + 32767u) / 65535u);
}

// The channels of one pixel, at most 4.
static int pixel(const yd_image *im, size_t i, int flatten, uint16_t v[4])
{
    memcpy(v, im->rgb + 3 * i, 3 * sizeof *v);
    if (!im->alpha) return 3;
    if (flatten)
        for (int c = 0; c < 3; c++) v[c] = over_white(v[c], im->alpha[i]);
    v[3] = im->alpha[i];
    return flatten ? 3 : 4;
}

static void pack8(const yd_image *im, int flatten, uint8_t *dst)
{
    size_t n = (size_t)im->w * (size_t)im->h;
    for (size_t i = 0; i < n; i++) {
        uint16_t v[4];
        uint8_t b[4];
        int count = pixel(im, i, flatten, v);
        for (int c = 0; c < count; c++) b[c] = yd_narrow(v[c]);
        if (im->grey)
            *dst++ = yd_luma(b);
        else
            for (int c = 0; c < 3; c++) *dst++ = b[c];
        if (count == 4) *dst++ = b[3];
    }
}

static void pack16(const yd_image *im, int flatten, uint16_t *dst)
{
    size_t n = (size_t)im->w * (size_t)im->h;
    for (size_t i = 0; i < n; i++) {
        uint16_t v[4];
        int count = pixel(im, i, flatten, v);
        if (im->grey)
            *dst++ = yd_luma16(v);
        else
            for (int c = 0; c < 3; c++) *dst++ = v[c];
        if (count == 4) *dst++ = v[3];
    }
}

static int flattens(const yd_output *out)
{
    return out->format == YD_JPEG;
}

size_t yd_packing_bytes(const yd_packing *p)
{
    return (size_t)p->w * (size_t)p->h * (size_t)(p->bands * p->depth / 8);
}

void yd_image_pack(const yd_image *im, const yd_output *out, const yd_packing *p, void *dst)
{
    if (p->depth == 16)
        pack16(im, flattens(out), dst);
    else
        pack8(im, flattens(out), dst);
}

// ---- libvips

static void set_blob(VipsImage *im, const char *name, const yd_meta_blob *b)
{
    if (b->p) vips_image_set_blob_copy(im, name, b->p, b->n);
}

// What libvips writes of the metadata. With nothing of it there are no chunks but the picture's.
static int attach(VipsImage *im, yd_image_format fmt, const yd_image_meta *m)
{
    if (!m || (fmt != YD_PNG && fmt != YD_TIFF)) return 0;
    set_blob(im, VIPS_META_ICC_NAME, &m->icc);
    set_blob(im, VIPS_META_XMP_NAME, &m->xmp);
    return m->icc.p || m->xmp.p;
}

static int save(VipsImage *im, const yd_output *out, int with_blobs, void **buf, size_t *len)
{
    int strip = !with_blobs;
    switch (out->format) {
    case YD_JPEG:
        return vips_jpegsave_buffer(im, buf, len, "Q", out->encode_quality, "optimize_coding", TRUE, "strip", TRUE, NULL);
    case YD_WEBP:
        return vips_webpsave_buffer(im, buf, len, "Q", out->encode_quality, "lossless", out->lossless, "effort", WEBP_EFFORT,
                                    "strip", TRUE, NULL);
    case YD_TIFF:
        return vips_tiffsave_buffer(im, buf, len, "compression", VIPS_FOREIGN_TIFF_COMPRESSION_DEFLATE, "predictor",
                                    VIPS_FOREIGN_TIFF_PREDICTOR_HORIZONTAL, "strip", strip, NULL);
    default:
        return vips_pngsave_buffer(im, buf, len, "compression", out->effort, "filter", VIPS_FOREIGN_PNG_FILTER_ALL,
                                   "strip", strip, NULL);
    }
}

static VipsInterpretation interpretation(const yd_packing *p)
{
    if (p->depth == 16) return p->bands < 3 ? VIPS_INTERPRETATION_GREY16 : VIPS_INTERPRETATION_RGB16;
    return p->bands < 3 ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB;
}

// Through libvips; *buf is released with g_free.
static int save_packed(const yd_packing *p, const void *samples, const yd_output *out, const yd_image_meta *m, void **buf, size_t *n, yd_err *err)
{
    VipsImage *raw = NULL, *im = NULL;
    int known = m && m->xres > 0, rc = 0;
    raw = vips_image_new_from_memory(samples, yd_packing_bytes(p), p->w, p->h, p->bands,
                                     p->depth == 16 ? VIPS_FORMAT_USHORT : VIPS_FORMAT_UCHAR);
    if (!raw ||
        vips_copy(raw, &im, "interpretation", interpretation(p), "xres", known ? m->xres : 1.0, "yres",
                  known ? m->yres : 1.0, NULL) ||
        save(im, out, attach(im, out->format, m), buf, n) || !*buf)
        yd_vips_fail(err, rc = YD_E_INTERNAL, "the picture cannot be encoded");
    g_clear_object(&im);
    g_clear_object(&raw);
    return rc;
}

static int wants_blocks(yd_image_format fmt, const yd_image_meta *m)
{
    if (fmt == YD_WEBP) return 1; // libvips puts an EXIF of its own into every one
    if (!m || fmt == YD_TIFF) return 0;
    if (fmt == YD_PNG) return m->exif.p != NULL;
    return m->icc.p || m->exif.p || m->xmp.p || m->iptc.p || m->xres > 0;
}

static int encode_packed(const yd_packing *p, const void *samples, const yd_output *out, const yd_image_meta *m, void **bytes, size_t *len,
                         yd_err *err)
{
    void *buf = NULL;
    size_t n = 0;
    int rc = save_packed(p, samples, out, m, &buf, &n, err);
    if (rc == 0 && wants_blocks(out->format, m))
        rc = yd_container_add(out->format, buf, n, m, bytes, len, err);
    else if (rc == 0) {
        *bytes = yd_malloc(n);
        if (*bytes)
            memcpy(*bytes, buf, *len = n);
        else
            rc = yd_fail(err, YD_E_NOMEM, "no memory for an encoded picture of %zu bytes", n);
    }
    g_free(buf);
    return rc;
}

// ---- the outside

static int check_settings(int w, int h, const yd_output *out, yd_err *err)
{
    int most = out->format == YD_JPEG ? JPEG_MAX_SIDE : out->format == YD_WEBP ? WEBP_MAX_SIDE : 0;
    yd_output format_only = *out;
    format_only.scale = 0;
    if (out->format == YD_PNG && (out->effort < 1 || out->effort > 9))
        return yd_fail_field(err, YD_E_SETTING, "effort", "1 to 9", "effort %d is out of range", out->effort);
    if ((out->format == YD_JPEG || out->format == YD_WEBP) && (out->encode_quality < 1 || out->encode_quality > 100))
        return yd_fail_field(err, YD_E_SETTING, "encode_quality", "1 to 100", "encode_quality %d is out of range", out->encode_quality);
    if (out->bit_depth != 0 && out->bit_depth != 8 && out->bit_depth != 16)
        return yd_fail_field(err, YD_E_SETTING, "bit_depth", "source, 8, 16", "bit depth %d is not accepted", out->bit_depth);
    if (most && (w > most || h > most))
        return yd_fail_field(err, YD_E_SETTING, "format", "png, tiff",
                             "a %s file holds at most %d pixels a side, the result has %d x %d",
                             yd_image_format_name(out->format), most, w, h);
    return yd_output_check(&format_only, err);
}

int yd_image_packing(const yd_image *im, const yd_output *out, yd_packing *p, yd_err *err)
{
    const int deep = out->format == YD_PNG || out->format == YD_TIFF;
    *p = (yd_packing){.w = im->w, .h = im->h, .bands = (im->grey ? 1 : 3) + (im->alpha && !flattens(out))};
    p->depth = !deep ? 8 : out->bit_depth ? out->bit_depth : im->depth;
    return check_settings(im->w, im->h, out, err);
}

int yd_image_encode_packed(const yd_packing *p, const void *samples, const yd_image_meta *from, const yd_output *out, void **bytes,
                           size_t *len, yd_err *err)
{
    yd_image_meta *meta = NULL;
    *bytes = NULL;
    *len = 0;
    int rc = yd_image_init(err);
    if (rc == 0) rc = check_settings(p->w, p->h, out, err);
    if (rc == 0) rc = yd_image_meta_adapt(from, out->metadata, p->w, p->h, &meta, err);
    if (rc == 0) rc = encode_packed(p, samples, out, meta, bytes, len, err);
    yd_image_meta_unref(meta);
    return rc;
}

int yd_image_encode(const yd_image *im, const yd_output *out, void **bytes, size_t *len, yd_err *err)
{
    yd_packing p;
    *bytes = NULL;
    *len = 0;
    int rc = yd_image_packing(im, out, &p, err);
    if (rc) return rc;
    void *samples = yd_calloc((size_t)p.w * (size_t)p.h, (size_t)(p.bands * p.depth / 8));
    if (!samples) return yd_fail(err, YD_E_NOMEM, "no memory to encode a picture of %d x %d pixels", im->w, im->h);
    yd_image_pack(im, out, &p, samples);
    rc = yd_image_encode_packed(&p, samples, im->meta, out, bytes, len, err);
    yd_free(samples);
    return rc;
}

void yd_output_for_maps(yd_output *out)
{
    yd_output_init(out);
    out->effort = MAP_EFFORT;
}

int yd_image_encode_grey(const uint8_t *plane, int w, int h, void **bytes, size_t *len, yd_err *err)
{
    yd_output png;
    yd_output_for_maps(&png);
    return yd_image_encode_packed(&(yd_packing){w, h, 1, 8}, plane, NULL, &png, bytes, len, err);
}
