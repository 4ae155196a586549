// Metadata into finished files: segments into JPEG, a chunk into PNG, chunks into WebP.
//
// libvips can write such blocks too, but it rewrites EXIF through another library on the way (maker notes break, entries appear). Here
// the blocks are copied as they are. Order: JPEG - JFIF, EXIF, XMP, profile, IPTC; PNG - eXIf before the first IDAT
// (profile and XMP are libvips' part, they are compressed); WebP - VP8X, ICCP, picture, EXIF, XMP, as its specification demands.
// The files come from libvips, not from strangers: a surprise in them is an internal error.
#include "core/image_container.h"

#include "core/mem.h"

#include <string.h>

enum {
    JPEG_SEGMENT = 65533,                // payload of one
    ICC_SEGMENT = JPEG_SEGMENT - 14,     // of a profile in it
    ICC_SEGMENTS = 255,                  // they are counted by a byte
};

typedef struct sink {
    uint8_t *p;
    size_t n;
} sink;

static void put(sink *s, const void *p, size_t n)
{
    if (!p) return;
    memcpy(s->p + s->n, p, n);
    s->n += n;
}

static void put_be(sink *s, size_t v, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) s->p[s->n++] = (uint8_t)(v >> (8 * i));
}

static void put_le(sink *s, size_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) s->p[s->n++] = (uint8_t)(v >> (8 * i));
}

static int strange(const char *format, yd_err *err)
{
    return yd_fail(err, YD_E_INTERNAL, "an encoded %s file is not built as expected", format);
}

// ---- JPEG

static void put_segment(sink *s, int marker, const void *head, size_t head_n, const void *data, size_t n)
{
    put_be(s, 0xff00u | (unsigned)marker, 2);
    put_be(s, head_n + n + 2, 2);
    put(s, head, head_n);
    put(s, data, n);
}

static void put_jpeg_profile(sink *s, const yd_meta_blob *icc)
{
    size_t count = (icc->n + ICC_SEGMENT - 1) / ICC_SEGMENT;
    for (size_t i = 0; i < count; i++) {
        uint8_t head[14] = "ICC_PROFILE";
        size_t from = i * ICC_SEGMENT, n = icc->n - from < ICC_SEGMENT ? icc->n - from : ICC_SEGMENT;
        head[12] = (uint8_t)(i + 1);
        head[13] = (uint8_t)count;
        put_segment(s, 0xe2, head, sizeof head, icc->p + from, n);
    }
}

static void put_jpeg_iptc(sink *s, const yd_meta_blob *iptc)
{
    uint8_t bytes[26] = "Photoshop 3.0\0" "8BIM\x04\x04\0"; // resource 0x0404, no name
    sink head = {bytes, 22};
    put_be(&head, iptc->n, 4);
    put_segment(s, 0xed, head.p, head.n, iptc->p, iptc->n);
    if (!(iptc->n & 1)) return;
    // The resource is padded to an even length: one byte more, in the segment's length too.
    uint8_t *length = s->p + s->n - iptc->n - sizeof bytes - 2;
    size_t padded = sizeof bytes + iptc->n + 3;
    length[0] = (uint8_t)(padded >> 8);
    length[1] = (uint8_t)padded;
    s->p[s->n++] = 0;
}

// The resolution in whole dots per inch: JFIF's segment, which libvips leaves out of stripped files.
static void put_jpeg_resolution(sink *s, const yd_image_meta *m)
{
    double x = m->xres * 25.4 + 0.5, y = m->yres * 25.4 + 0.5;
    if (!(x >= 1 && x < 65536 && y >= 1 && y < 65536)) return;
    put(s, "\xff\xe0\0\x10JFIF\0\x01\x02\x01", 12); // version 1.2, dots per inch
    put_be(s, (size_t)x, 2);
    put_be(s, (size_t)y, 2);
    put(s, "\0\0", 2); // no thumbnail
}

static int add_to_jpeg(const uint8_t *file, size_t len, const yd_image_meta *m, sink *s, yd_err *err)
{
    static const char exif[6] = "Exif\0", xmp[29] = "http://ns.adobe.com/xap/1.0/";
    const size_t head = 2;
    if (len < 4 || file[0] != 0xff || file[1] != 0xd8 || file[3] == 0xe0) return strange("jpeg", err);
    put(s, file, head);
    put_jpeg_resolution(s, m);
    if (m->exif.p && m->exif.n + sizeof exif <= JPEG_SEGMENT) put_segment(s, 0xe1, exif, sizeof exif, m->exif.p, m->exif.n);
    if (m->xmp.p && m->xmp.n + sizeof xmp <= JPEG_SEGMENT) put_segment(s, 0xe1, xmp, sizeof xmp, m->xmp.p, m->xmp.n);
    if (m->icc.p) put_jpeg_profile(s, &m->icc);
    if (m->iptc.p && m->iptc.n + 27 <= JPEG_SEGMENT) put_jpeg_iptc(s, &m->iptc);
    put(s, file + head, len - head);
    return 0;
}

// ---- PNG

static uint32_t crc32_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

static int add_to_png(const uint8_t *file, size_t len, const yd_image_meta *m, sink *s, yd_err *err)
{
    size_t head = 8;
    for (;;) {
        if (head + 12 > len) return strange("png", err);
        if (memcmp(file + head + 4, "IDAT", 4) == 0) break;
        size_t n = (size_t)file[head] << 24 | (size_t)file[head + 1] << 16 | (size_t)file[head + 2] << 8 | file[head + 3];
        if (n > len - head - 12) return strange("png", err);
        head += n + 12;
    }
    put(s, file, head);
    if (m->exif.p) {
        put_be(s, m->exif.n, 4);
        put(s, "eXIf", 4);
        put(s, m->exif.p, m->exif.n);
        put_be(s, crc32_of(s->p + s->n - m->exif.n - 4, m->exif.n + 4), 4);
    }
    put(s, file + head, len - head);
    return 0;
}

// ---- WebP

static void put_webp_chunk(sink *s, const char *type, const uint8_t *p, size_t n)
{
    put(s, type, 4);
    put_le(s, n, 4);
    put(s, p, n);
    if (n & 1) put_le(s, 0, 1);
}

// Size and alpha from the picture's own chunk at p, "VP8 " or "VP8L".
static int webp_size(const uint8_t *p, size_t len, size_t *w, size_t *h, int *alpha)
{
    if (len >= 18 && memcmp(p, "VP8 ", 4) == 0) {
        *w = ((size_t)p[15] << 8 | p[14]) & 0x3fff;
        *h = ((size_t)p[17] << 8 | p[16]) & 0x3fff;
        return 0;
    }
    if (len < 13 || memcmp(p, "VP8L", 4) != 0) return -1;
    size_t bits = (size_t)p[12] << 24 | (size_t)p[11] << 16 | (size_t)p[10] << 8 | p[9];
    *w = (bits & 0x3fff) + 1;
    *h = (bits >> 14 & 0x3fff) + 1;
    *alpha = (int)(bits >> 28 & 1);
    return 0;
}

// The chunks that make the picture, of a file in which libvips has put its own EXIF whatever it was told.
typedef struct webp_picture {
    const uint8_t *alpha, *pixels; // whole chunks; alpha NULL when absent
    size_t alpha_n, pixels_n;
} webp_picture;

static int find_picture(const uint8_t *file, size_t len, webp_picture *out)
{
    *out = (webp_picture){0};
    if (len < 20 || memcmp(file + 8, "WEBP", 4) != 0) return -1;
    for (size_t i = 12; i + 8 <= len;) {
        const uint8_t *p = file + i;
        size_t n = (size_t)p[7] << 24 | (size_t)p[6] << 16 | (size_t)p[5] << 8 | p[4];
        n += 8 + (n & 1);
        if (n > len - i) return -1;
        if (memcmp(p, "ALPH", 4) == 0) {
            out->alpha = p;
            out->alpha_n = n;
        } else if (memcmp(p, "VP8 ", 4) == 0 || memcmp(p, "VP8L", 4) == 0) {
            out->pixels = p;
            out->pixels_n = n;
        }
        i += n;
    }
    return out->pixels ? 0 : -1;
}

static int add_to_webp(const uint8_t *file, size_t len, const yd_image_meta *m, sink *s, yd_err *err)
{
    enum { XMP = 4, EXIF = 8, ALPHA = 16, ICC = 32 };
    webp_picture pic;
    size_t w = 0, h = 0;
    int alpha = 0;
    if (find_picture(file, len, &pic) || webp_size(pic.pixels, pic.pixels_n, &w, &h, &alpha)) return strange("webp", err);
    alpha |= pic.alpha != NULL;
    put(s, "RIFF\0\0\0\0WEBP", 12);
    if (m->icc.p || m->exif.p || m->xmp.p || pic.alpha) {
        uint8_t vp8x[10] = {0};
        sink size = {vp8x, 4};
        vp8x[0] = (uint8_t)((m->icc.p ? ICC : 0) | (m->exif.p ? EXIF : 0) | (m->xmp.p ? XMP : 0) | (alpha ? ALPHA : 0));
        put_le(&size, w - 1, 3);
        put_le(&size, h - 1, 3);
        put_webp_chunk(s, "VP8X", vp8x, sizeof vp8x);
    }
    if (m->icc.p) put_webp_chunk(s, "ICCP", m->icc.p, m->icc.n);
    put(s, pic.alpha, pic.alpha_n);
    put(s, pic.pixels, pic.pixels_n);
    if (m->exif.p) put_webp_chunk(s, "EXIF", m->exif.p, m->exif.n);
    if (m->xmp.p) put_webp_chunk(s, "XMP ", m->xmp.p, m->xmp.n);
    sink riff = {s->p, 4};
    put_le(&riff, s->n - 8, 4);
    return 0;
}

int yd_container_add(yd_image_format format, const uint8_t *file, size_t len, const yd_image_meta *meta, void **out,
                     size_t *out_len, yd_err *err)
{
    static const yd_image_meta nothing;
    if (!meta) meta = &nothing;
    if (format == YD_JPEG && meta->icc.n > (size_t)ICC_SEGMENT * ICC_SEGMENTS)
        return yd_fail_field(err, YD_E_SETTING, "format", "png, webp, tiff",
                             "the picture's colour profile of %zu bytes is too long for a jpeg file", meta->icc.n);
    // Generous: every block once, and a segment's head for every 65519 bytes of the profile.
    size_t room = len + meta->icc.n + meta->exif.n + meta->xmp.n + meta->iptc.n + (meta->icc.n / ICC_SEGMENT + 1) * 18 + 256;
    sink s = {yd_malloc(room), 0};
    if (!s.p) return yd_fail(err, YD_E_NOMEM, "no memory for an encoded picture of %zu bytes", room);
    int rc = format == YD_JPEG   ? add_to_jpeg(file, len, meta, &s, err)
             : format == YD_WEBP ? add_to_webp(file, len, meta, &s, err)
                                 : add_to_png(file, len, meta, &s, err);
    if (rc) {
        yd_free(s.p);
        return rc;
    }
    *out = s.p;
    *out_len = s.n;
    return 0;
}
