// Decoding: from hostile bytes to sRGB pixels of our own.
//
//   sniff -> size from the header -> limits -> libvips (sequential, fail_on error) -> profile to sRGB -> strips -> our planes
//
// The limits are decided before a pixel is decoded; for PNG even before libvips sees the file. Colours: an embedded profile is applied
// unless it amounts to sRGB anyway (then the pixels stay exactly as they are) or is broken (then it is ignored, as browsers do); CMYK is
// converted in every case. EXIF orientation is applied while strips are
// copied, so no second picture is held. Alpha stays as it is in the file (not premultiplied).
// Read next: image_encode.c
#include "core/image.h"

#include "core/image_vips.h"

#include <stdio.h>
#include <string.h>
#include <vips/vips.h>

enum { STRIP = 16, CUBE = 9, NEARLY = 2, MAX_SCANS = 100 };

typedef struct source {
    VipsImage *im; // as loaded
    const char *format;
    int w, h; // as stored
    int orientation;
    int colours; // 1, 3, or 4 = CMYK
    int alpha;
} source;

// ---- the header

static int check_size(long long w, long long h, const yd_image_limits *lim, yd_err *err)
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

static long long be32(const uint8_t *p)
{
    return (long long)p[0] << 24 | (long long)p[1] << 16 | (long long)p[2] << 8 | p[3];
}

// A PNG states its size at a fixed place, so libvips need not be asked about bombs.
static int check_png_size(const uint8_t *bytes, size_t len, const yd_image_limits *lim, yd_err *err)
{
    if (len < 33 || memcmp(bytes + 12, "IHDR", 4) != 0)
        return yd_fail_field(err, YD_E_IMAGE, "image", "", "the PNG file has no header: it is damaged or cut short");
    return check_size(be32(bytes + 16), be32(bytes + 20), lim, err);
}

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
static int check_scans(const uint8_t *bytes, size_t len, yd_err *err)
{
    int scans = count_scans(bytes, len);
    if (scans <= MAX_SCANS) return 0;
    return yd_fail_field(err, YD_E_IMAGE, "image", "at most 100 scans",
                         "the JPEG file has %d scans, no more than %d are accepted", scans, MAX_SCANS);
}

static int check_format(const void *bytes, size_t len, const yd_image_limits *lim, const char **format, yd_err *err)
{
    static const char formats[] = "png, jpeg";
    if (lim->max_bytes > 0 && len > lim->max_bytes) {
        char accepted[64];
        snprintf(accepted, sizeof accepted, "at most %zu bytes", lim->max_bytes);
        return yd_fail_field(err, YD_E_BODY_TOO_LARGE, "image", accepted,
                             "the picture's file has %zu bytes, at most %zu are accepted", len, lim->max_bytes);
    }
    if (len == 0) return yd_fail_field(err, YD_E_IMAGE, "image", formats, "the picture's file is empty");
    const char *name = yd_image_sniff(bytes, len);
    if (!name)
        return yd_fail_field(err, YD_E_IMAGE_FORMAT, "image", formats,
                             "this is no picture in a known format; png and jpeg are accepted");
    if (strcmp(name, "PNG") != 0 && strcmp(name, "JPEG") != 0)
        return yd_fail_field(err, YD_E_IMAGE_FORMAT, "image", formats, "this is a %s file; png and jpeg are accepted",
                             name);
    *format = name;
    return strcmp(name, "PNG") == 0 ? check_png_size(bytes, len, lim, err) : check_scans(bytes, len, err);
}

static int damaged(const source *s, yd_err *err)
{
    return yd_vips_fail(err, YD_E_IMAGE,
                        strcmp(s->format, "PNG") == 0 ? "the PNG file is damaged or cut short"
                                                      : "the JPEG file is damaged or cut short");
}

static int understand_bands(source *s, yd_err *err)
{
    int bands = vips_image_get_bands(s->im);
    VipsBandFormat format = vips_image_get_format(s->im);
    s->alpha = vips_image_hasalpha(s->im) != 0;
    s->colours = bands - s->alpha;
    if ((s->colours == 1 || s->colours == 3 || s->colours == 4) &&
        (format == VIPS_FORMAT_UCHAR || format == VIPS_FORMAT_USHORT))
        return 0;
    return yd_fail_field(err, YD_E_IMAGE, "image", "grey, RGB or CMYK, 8 or 16 bits",
                         "the picture has %d channels of a kind that cannot be read", bands);
}

// Check and open; no pixel is decoded yet. After success s->im must be released.
static int open_source(const void *bytes, size_t len, const yd_image_limits *lim, source *s, yd_err *err)
{
    *s = (source){0};
    int rc = yd_image_init(err);
    if (rc == 0) rc = check_format(bytes, len, lim, &s->format, err);
    if (rc) return rc;
    int failed = strcmp(s->format, "PNG") == 0
                     ? vips_pngload_buffer((void *)(uintptr_t)bytes, len, &s->im, "access", VIPS_ACCESS_SEQUENTIAL,
                                           "fail_on", VIPS_FAIL_ON_ERROR, NULL)
                     : vips_jpegload_buffer((void *)(uintptr_t)bytes, len, &s->im, "access", VIPS_ACCESS_SEQUENTIAL,
                                            "fail_on", VIPS_FAIL_ON_ERROR, NULL);
    if (failed) return damaged(s, err);
    s->w = vips_image_get_width(s->im);
    s->h = vips_image_get_height(s->im);
    s->orientation = vips_image_get_orientation(s->im);
    rc = check_size(s->w, s->h, lim, err);
    if (rc == 0) rc = understand_bands(s, err);
    if (rc) g_object_unref(s->im);
    return rc;
}

int yd_image_probe(const void *bytes, size_t len, const yd_image_limits *lim, yd_image_header *out, yd_err *err)
{
    source s;
    *out = (yd_image_header){0};
    int rc = open_source(bytes, len, lim, &s, err);
    if (rc) return rc;
    int turned = s.orientation >= 5 && s.orientation <= 8;
    out->w = turned ? s.h : s.w;
    out->h = turned ? s.w : s.h;
    out->channels = s.colours + s.alpha;
    out->depth = vips_image_get_format(s.im) == VIPS_FORMAT_USHORT ? 16 : 8;
    out->pages = 1;
    snprintf(out->format, sizeof out->format, "%s", strcmp(s.format, "PNG") == 0 ? "png" : "jpeg");
    g_object_unref(s.im);
    return 0;
}

// ---- colours

static int has_profile(VipsImage *im)
{
    return vips_image_get_typeof(im, VIPS_META_ICC_NAME) != 0;
}

static int apply_profile(VipsImage *in, int colours, VipsImage **out)
{
    return colours == 4
               ? vips_icc_transform(in, out, "srgb", "embedded", TRUE, "input_profile", "cmyk", "depth", 8, NULL)
               : vips_icc_transform(in, out, "srgb", "embedded", TRUE, "depth", 8, NULL);
}

static void fill_probe(uint8_t *p, int colours)
{
    if (colours == 1) {
        for (int i = 0; i < 256; i++) p[i] = (uint8_t)i;
        return;
    }
    for (int i = 0; i < CUBE * CUBE * CUBE; i++, p += 3) {
        p[0] = (uint8_t)(i % CUBE * 255 / (CUBE - 1));
        p[1] = (uint8_t)(i / CUBE % CUBE * 255 / (CUBE - 1));
        p[2] = (uint8_t)(i / CUBE / CUBE * 255 / (CUBE - 1));
    }
}

// Largest difference between the probe colours and what the profile makes of them; -1 when it cannot be applied.
static int probe_difference(VipsImage *im, const uint8_t *probe, int count, int colours)
{
    VipsImage *raw = NULL, *tagged = NULL, *seen = NULL;
    const void *profile;
    size_t size, n;
    uint8_t *got = NULL;
    int worst = -1;
    raw = vips_image_new_from_memory(probe, (size_t)count * (size_t)colours, count, 1, colours, VIPS_FORMAT_UCHAR);
    if (!raw || vips_image_get_blob(im, VIPS_META_ICC_NAME, &profile, &size)) goto done;
    if (vips_copy(raw, &tagged, "interpretation", colours == 1 ? VIPS_INTERPRETATION_B_W : VIPS_INTERPRETATION_sRGB,
                  NULL))
        goto done;
    vips_image_set_blob_copy(tagged, VIPS_META_ICC_NAME, profile, size);
    if (apply_profile(tagged, colours, &seen) || vips_image_get_bands(seen) != 3) goto done;
    got = vips_image_write_to_memory(seen, &n);
    if (!got || n != 3 * (size_t)count) goto done;
    worst = 0;
    for (int i = 0; i < 3 * count; i++) {
        int d = got[i] - probe[colours == 1 ? i / 3 : i];
        if (d < 0) d = -d;
        if (d > worst) worst = d;
    }
done:
    g_free(got);
    g_clear_object(&seen);
    g_clear_object(&tagged);
    g_clear_object(&raw);
    return worst;
}

// Most profiles in the wild say "sRGB" at length. Rather than trusting a name, look at what the profile does to a few colours:
// when that is nothing but rounding, or impossible, the pixels are left alone.
static int profile_matters(const source *s)
{
    uint8_t probe[3 * CUBE * CUBE * CUBE];
    if (!has_profile(s->im)) return 0;
    fill_probe(probe, s->colours);
    int difference = probe_difference(s->im, probe, s->colours == 1 ? 256 : CUBE * CUBE * CUBE, s->colours);
    yd_vips_forget_errors();
    return difference > NEARLY;
}

// Colour bands through the profile, alpha (whatever its depth) joined again unchanged.
static int with_profile(const source *s, VipsImage **out)
{
    VipsImage *colour = NULL, *alpha = NULL, *srgb = NULL;
    int failed =
        vips_extract_band(s->im, &colour, 0, "n", s->colours, NULL) || apply_profile(colour, s->colours, &srgb);
    if (!failed && s->alpha)
        failed = vips_extract_band(s->im, &alpha, s->colours, NULL) || vips_bandjoin2(srgb, alpha, out, NULL);
    else if (!failed)
        *out = g_object_ref(srgb);
    g_clear_object(&srgb);
    g_clear_object(&alpha);
    g_clear_object(&colour);
    return failed;
}

// The picture as one or three sRGB bands, and its alpha. *shallow: colours are 8-bit values, whatever the band format.
static int to_srgb(const source *s, VipsImage **out, int *shallow)
{
    *shallow = 1;
    if (s->colours == 4) {
        if (with_profile(s, out) == 0) return 0;
        yd_vips_forget_errors();
        return vips_colourspace(s->im, out, VIPS_INTERPRETATION_sRGB, NULL);
    }
    if (profile_matters(s)) return with_profile(s, out);
    *shallow = vips_image_get_format(s->im) == VIPS_FORMAT_UCHAR;
    *out = g_object_ref(s->im);
    return 0;
}

// ---- pixels

// Where the stored pixel (x, y) goes: index base + x*dx + y*dy of the upright picture.
typedef struct placing {
    ptrdiff_t base, dx, dy;
} placing;

static placing place(int orientation, ptrdiff_t w, ptrdiff_t h)
{
    switch (orientation) {
    case 2:
        return (placing){w - 1, -1, w}; // mirrored
    case 3:
        return (placing){w * h - 1, -1, -w}; // half a turn
    case 4:
        return (placing){(h - 1) * w, 1, -w}; // upside down, mirrored
    case 5:
        return (placing){0, h, 1}; // transposed
    case 6:
        return (placing){h - 1, h, -1}; // a quarter clockwise to do
    case 7:
        return (placing){w * h - 1, -h, -1}; // transposed the other way
    case 8:
        return (placing){(w - 1) * h, -h, 1}; // a quarter counter-clockwise to do
    default:
        return (placing){0, 1, w};
    }
}

typedef struct layout {
    int bands, colours; // per stored pixel; colours 1 or 3
    int shallow;
} layout;

static void copy_line8(yd_image *im, const uint8_t *line, layout l, placing at, int w)
{
    int green = l.colours == 3 ? 1 : 0, blue = 2 * green;
    for (ptrdiff_t x = 0, to = at.base; x < w; x++, to += at.dx, line += l.bands) {
        im->rgb[3 * to] = yd_widen(line[0]);
        im->rgb[3 * to + 1] = yd_widen(line[green]);
        im->rgb[3 * to + 2] = yd_widen(line[blue]);
        if (im->alpha) im->alpha[to] = yd_widen(line[l.colours]);
    }
}

static void copy_line16(yd_image *im, const uint16_t *line, layout l, placing at, int w)
{
    int green = l.colours == 3 ? 1 : 0;
    for (ptrdiff_t x = 0, to = at.base; x < w; x++, to += at.dx, line += l.bands) {
        for (int c = 0; c < 3; c++) {
            uint16_t v = line[c * green];
            im->rgb[3 * to + c] = l.shallow ? yd_widen((uint8_t)v) : v;
        }
        if (im->alpha) im->alpha[to] = line[l.colours];
    }
}

static int copy_strips(VipsImage *from, const source *s, layout l, yd_image *im)
{
    int wide = vips_image_get_format(from) == VIPS_FORMAT_USHORT, failed = 0;
    placing at = place(s->orientation, s->w, s->h);
    VipsRegion *region = vips_region_new(from);
    if (!region) return -1;
    for (int y = 0; y < s->h && !failed; y += STRIP) {
        VipsRect r = {0, y, s->w, s->h - y < STRIP ? s->h - y : STRIP};
        failed = vips_region_prepare(region, &r);
        for (int k = 0; k < r.height && !failed; k++, at.base += at.dy) {
            const void *line = region->data + (ptrdiff_t)(y + k - region->valid.top) * region->bpl;
            if (wide)
                copy_line16(im, line, l, at, s->w);
            else
                copy_line8(im, line, l, at, s->w);
        }
    }
    g_object_unref(region);
    return failed;
}

static int decode_source(const source *s, yd_image *out, yd_err *err)
{
    VipsImage *srgb = NULL;
    layout l;
    if (to_srgb(s, &srgb, &l.shallow)) return damaged(s, err);
    l.bands = vips_image_get_bands(srgb);
    l.colours = l.bands - s->alpha;
    int turned = s->orientation >= 5 && s->orientation <= 8, rc;
    if (l.colours != 1 && l.colours != 3)
        rc = yd_fail_field(err, YD_E_IMAGE, "image", "grey, RGB or CMYK",
                           "the picture's colours cannot be converted to sRGB");
    else
        rc = yd_image_alloc(out, turned ? s->h : s->w, turned ? s->w : s->h, s->alpha, err);
    if (rc == 0 && copy_strips(srgb, s, l, out)) rc = damaged(s, err);
    g_object_unref(srgb);
    out->grey = s->colours == 1;
    out->depth = vips_image_get_format(s->im) == VIPS_FORMAT_USHORT ? 16 : 8;
    if (rc) yd_image_clear(out);
    return rc;
}

int yd_image_decode(const void *bytes, size_t len, const yd_image_limits *lim, const yd_decode_options *opt, yd_image *out,
                    yd_err *err)
{
    (void)opt; // everything becomes sRGB
    source s;
    *out = (yd_image){0};
    int rc = open_source(bytes, len, lim, &s, err);
    if (rc) return rc;
    rc = decode_source(&s, out, err);
    g_object_unref(s.im);
    return rc;
}
