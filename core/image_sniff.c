// What can be said about a picture file from its bytes alone, before any library sees it: which format it is, how large it claims to
// be, and whether its structure is one of those that make small files cost much.
//
// PNG and TIFF state their size at places that are quickly found, so no library is asked about bombs. JPEGs with very many scans and
// TIFFs with gigantic tiles are refused here, as are TIFF codecs that would lead to decoders which are otherwise blocked. The other
// formats give their size through libvips' header readers, which decode nothing (image_open.c).
// All numbers read here are a stranger's; every access is checked against the length.
// Read next: image_open.c
#include "core/image_source.h"

#include "core/image_tiff.h"
#include "core/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_SCANS = 100, MAX_BRANDS = 32 };

// A tile or strip is decoded at once: 64 MiB is far more than writers use and far less than hurts.
#define MAX_BLOCK_BYTES (64u << 20)

// ---- which format

static int is_brand(const uint8_t *p, const char *brands)
{
    for (; *brands; brands += 4)
        if (memcmp(p, brands, 4) == 0) return 1;
    return 0;
}

// Files in boxes: the brands after "ftyp" tell AVIF from HEIC from films. The second place is a version number.
static const char *sniff_boxes(const uint8_t *p, size_t len)
{
    size_t end = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (end > len) end = len;
    if (end > 8 + 4 * MAX_BRANDS) end = 8 + 4 * MAX_BRANDS;
    const char *found = "ISO media";
    for (size_t i = 8; i + 4 <= end; i += 4) {
        if (i == 12) continue;
        if (is_brand(p + i, "avifavis")) return "avif";
        if (is_brand(p + i, "heicheixheimheishevchevx")) found = "heic";
    }
    return found;
}

const char *yd_image_sniff(const void *bytes, size_t len)
{
    static const struct {
        const char *format;
        size_t offset, length;
        const char *magic;
    } known[] = {
        {"png", 0, 8, "\x89PNG\r\n\x1a\n"},
        {"jpeg", 0, 3, "\xff\xd8\xff"},
        {"webp", 8, 4, "WEBP"},
        {"tiff", 0, 4, "II*\0"},
        {"tiff", 0, 4, "MM\0*"},
        {"BigTIFF", 0, 4, "II+\0"},
        {"BigTIFF", 0, 4, "MM\0+"},
        {"GIF", 0, 4, "GIF8"},
        {"BMP", 0, 2, "BM"},
        {"JPEG XL", 0, 2, "\xff\x0a"},
        {"JPEG XL", 4, 4, "JXL "},
        {"JPEG 2000", 4, 4, "jP  "},
        {"PDF", 0, 4, "%PDF"},
        {"SVG", 0, 4, "<svg"},
        {"XML or SVG", 0, 5, "<?xml"},
        {"PNM", 0, 3, "P5\n"},
        {"PNM", 0, 3, "P6\n"},
        {"PSD", 0, 4, "8BPS"},
    };
    if (len >= 12 && memcmp((const char *)bytes + 4, "ftyp", 4) == 0) return sniff_boxes(bytes, len);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t end = known[i].offset + known[i].length;
        if (len >= end && memcmp((const char *)bytes + known[i].offset, known[i].magic, known[i].length) == 0)
            return known[i].format;
    }
    return NULL;
}

// ---- sizes

int yd_image_check_size(long long w, long long h, const yd_image_limits *lim, yd_err *err)
{
    char accepted[128];
    if (lim->max_side > 0 && (w > lim->max_side || h > lim->max_side)) {
        snprintf(accepted, sizeof accepted, "sides of at most %d pixels", lim->max_side);
        return yd_fail_field(err, YD_E_IMAGE_TOO_LARGE, "image", accepted,
                             "the picture is %lld x %lld pixels, a side may have at most %d", w, h, lim->max_side);
    }
    if (lim->max_pixels > 0 && h > 0 && w > lim->max_pixels / h) {
        snprintf(accepted, sizeof accepted, "at most %ld pixels", lim->max_pixels);
        return yd_fail_field(err, YD_E_IMAGE_TOO_LARGE, "image", accepted,
                             "the picture is %lld x %lld pixels, at most %ld in all are accepted", w, h,
                             lim->max_pixels);
    }
    if (w < lim->min_side || h < lim->min_side) {
        snprintf(accepted, sizeof accepted, "sides of at least %d pixels", lim->min_side);
        return yd_fail_field(err, YD_E_IMAGE_TOO_SMALL, "image", accepted,
                             "the picture is %lld x %lld pixels, a side must have at least %d", w, h, lim->min_side);
    }
    return 0;
}

// ---- PNG

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int check_png(const uint8_t *bytes, size_t len, const yd_image_limits *lim, yd_err *err)
{
    if (len < 33 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return yd_fail_field(err, YD_E_IMAGE, "image", "", "the PNG file has no header: it is damaged or cut short");
    return yd_image_check_size(be32(bytes + 16), be32(bytes + 20), lim, err);
}

void yd_png_read_facts(const uint8_t *bytes, size_t len, yd_png_facts *out)
{
    *out = (yd_png_facts){.frames = 1};
    for (size_t i = 8; i + 12 <= len;) {
        const uint8_t *type = bytes + i + 4, *data = bytes + i + 8;
        size_t n = be32(bytes + i);
        if (n > len - i - 12) break;
        if (memcmp(type, "acTL", 4) == 0 && n >= 8) {
            uint32_t frames = be32(data);
            out->frames = frames < 1 ? 1 : frames > 1000000 ? 1000000 : (int)frames;
        } else if (memcmp(type, "sRGB", 4) == 0) {
            out->srgb = 1;
        } else if (memcmp(type, "gAMA", 4) == 0 && n == 4) {
            out->gamma = be32(data);
        } else if (memcmp(type, "cHRM", 4) == 0 && n == 32) {
            for (int k = 0; k < 8; k++) out->chrm[k] = be32(data + 4 * k);
        } else if (memcmp(type, "eXIf", 4) == 0) {
            out->exif = data;
            out->exif_len = n;
        }
        i += n + 12;
    }
}

// ---- JPEG

// Number of scans of a JPEG, found by walking its markers; what other segments hold (thumbnails) is stepped over.
static int count_scans(const uint8_t *p, size_t len)
{
    int scans = 0;
    for (size_t i = 2; i + 3 < len;) {
        if (p[i] != 0xff || p[i + 1] == 0xff) {
            i++;
            continue;
        }
        int marker = p[i + 1];
        if (marker == 0xd9) break;
        scans += marker == 0xda;
        int bare = marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8); // stuffed byte, restart: no length follows
        i += bare ? 2 : 2 + ((size_t)p[i + 2] << 8 | p[i + 3]);
    }
    return scans;
}

// Each scan of a progressive JPEG passes over all pixels, yet may have only some bytes: a small file could cost minutes.
static int check_jpeg(const uint8_t *bytes, size_t len, yd_err *err)
{
    int scans = count_scans(bytes, len);
    if (scans <= MAX_SCANS) return 0;
    return yd_fail_field(err, YD_E_IMAGE, "image", "at most 100 scans",
                         "the JPEG file has %d scans, no more than %d are accepted", scans, MAX_SCANS);
}

// ---- TIFF

static int is_plain_codec(uint32_t compression)
{
    static const uint32_t plain[] = {1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50000}; // none, fax, LZW, JPEG, deflate, PackBits, Zstd
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (compression == plain[i]) return 1;
    return 0;
}

// One tile, or one strip, in memory.
static int check_block(const yd_tiff *t, size_t dir, uint32_t w, uint32_t h, yd_err *err)
{
    uint32_t bits = 1, samples = 1, block_w = 0, block_h = 0;
    size_t bytes;
    yd_tiff_number(t, dir, 258, &bits);
    yd_tiff_number(t, dir, 277, &samples);
    if (!yd_tiff_number(t, dir, 322, &block_w) || !yd_tiff_number(t, dir, 323, &block_h)) {
        block_w = w;
        block_h = h;
        if (yd_tiff_number(t, dir, 278, &block_h) && block_h > h) block_h = h;
    }
    if (bits > 64 || samples > 16)
        return yd_fail_field(err, YD_E_IMAGE, "image", "8 or 16 bits per sample; grey, RGB, CMYK or Lab",
                             "the TIFF file has %u channels of %u bits", samples, bits);
    if (yd_mul_size(block_w, block_h, &bytes) == 0 && yd_mul_size(bytes, (size_t)samples * ((bits + 7) / 8), &bytes) == 0 &&
        (bytes <= MAX_BLOCK_BYTES || (block_w <= w && block_h <= h)))
        return 0;
    return yd_fail_field(err, YD_E_IMAGE, "image", "tiles of at most 64 MiB",
                         "the TIFF file's tiles of %u x %u pixels are too large", block_w, block_h);
}

static int check_tiff(const uint8_t *bytes, size_t len, const yd_image_limits *lim, yd_err *err)
{
    yd_tiff t;
    uint32_t w, h, compression = 1;
    size_t dir = yd_tiff_open(&t, bytes, len);
    if (!dir || !yd_tiff_number(&t, dir, 256, &w) || !yd_tiff_number(&t, dir, 257, &h))
        return yd_fail_field(err, YD_E_IMAGE, "image", "", "the TIFF file has no directory: it is damaged or cut short");
    int rc = yd_image_check_size(w, h, lim, err);
    if (rc) return rc;
    yd_tiff_number(&t, dir, 259, &compression);
    if (!is_plain_codec(compression))
        return yd_fail_field(err, YD_E_IMAGE, "image", "none, LZW, deflate, PackBits, JPEG, CCITT or Zstandard",
                             "the TIFF file's compression %u is not accepted", compression);
    return check_block(&t, dir, w, h, err);
}

int yd_image_precheck(const yd_image_kind *kind, const uint8_t *bytes, size_t len, const yd_image_limits *lim, yd_err *err)
{
    if (strcmp(kind->name, "png") == 0) return check_png(bytes, len, lim, err);
    if (strcmp(kind->name, "jpeg") == 0) return check_jpeg(bytes, len, err);
    if (strcmp(kind->name, "tiff") == 0) return check_tiff(bytes, len, lim, err);
    return 0;
}
