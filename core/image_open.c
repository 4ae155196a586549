// Opening: from hostile bytes to a header that has passed every limit, no pixel decoded.
//
//   byte limit -> sniff -> the format's own structure (image_sniff.c) -> libvips' header reader -> pixel limits -> kind of samples
//
// libvips reads sequentially with fail_on = error. Of a file with several pictures (TIFF pages, WebP animations, HEIC collections,
// animated PNG) the first, or the one that the file calls its main picture, is taken; how many there are is told.
// Read next: image_decode.c
#include "core/image_source.h"

#include "core/image_exif.h"
#include "core/image_tiff.h"
#include "core/image_vips.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const yd_image_kind *kind_named(const char *name)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    for (size_t i = 0; name && i < n; i++)
        if (k[i].reads && strcmp(k[i].name, name) == 0) return &k[i];
    return NULL;
}

// "png" -> "PNG", but WebP and what is spelt with care already.
static const char *shown(const char *name, char *dst, size_t cap)
{
    snprintf(dst, cap, "%s", name);
    if (strcmp(name, "webp") == 0)
        snprintf(dst, cap, "WebP");
    else
        for (char *c = dst; *c && islower((unsigned char)name[0]); c++) *c = (char)toupper((unsigned char)*c);
    return dst;
}

int yd_source_damaged(const yd_source *s, yd_err *err)
{
    char what[64], name[16];
    snprintf(what, sizeof what, "the %s file is damaged or cut short", shown(s->kind->name, name, sizeof name));
    return yd_vips_fail(err, YD_E_IMAGE, what);
}

static int check_format(yd_source *s, const yd_image_limits *lim, yd_err *err)
{
    const char *formats = yd_image_accepted();
    char name[16];
    if (lim->max_bytes > 0 && s->len > lim->max_bytes) {
        char accepted[64];
        snprintf(accepted, sizeof accepted, "at most %zu bytes", lim->max_bytes);
        return yd_fail_field(err, YD_E_BODY_TOO_LARGE, "image", accepted,
                             "the picture's file has %zu bytes, at most %zu are accepted", s->len, lim->max_bytes);
    }
    if (s->len == 0) return yd_fail_field(err, YD_E_IMAGE, "image", formats, "the picture's file is empty");
    const char *found = yd_image_sniff(s->bytes, s->len);
    s->kind = kind_named(found);
    if (!found)
        return yd_fail_field(err, YD_E_IMAGE_FORMAT, "image", formats, "this is no picture in a known format");
    if (!s->kind)
        return yd_fail_field(err, YD_E_IMAGE_FORMAT, "image", formats, "this is a %s file, which is not accepted here",
                             shown(found, name, sizeof name));
    return yd_image_precheck(s->kind, s->bytes, s->len, lim, err);
}

static int load(yd_source *s)
{
    void *p = (void *)(uintptr_t)s->bytes;
    const char *name = s->kind->name;
#define HOW "access", VIPS_ACCESS_SEQUENTIAL, "fail_on", VIPS_FAIL_ON_ERROR, NULL
    if (strcmp(name, "png") == 0) return vips_pngload_buffer(p, s->len, &s->im, HOW);
    if (strcmp(name, "jpeg") == 0) return vips_jpegload_buffer(p, s->len, &s->im, HOW);
    if (strcmp(name, "webp") == 0) return vips_webpload_buffer(p, s->len, &s->im, HOW);
    if (strcmp(name, "tiff") == 0) return vips_tiffload_buffer(p, s->len, &s->im, HOW);
    return vips_heifload_buffer(p, s->len, &s->im, HOW);
#undef HOW
}

static int understand_bands(yd_source *s, yd_err *err)
{
    int bands = vips_image_get_bands(s->im);
    VipsBandFormat format = vips_image_get_format(s->im);
    VipsInterpretation kind = vips_image_get_interpretation(s->im);
    s->lab = kind == VIPS_INTERPRETATION_LAB || kind == VIPS_INTERPRETATION_LABS || kind == VIPS_INTERPRETATION_XYZ;
    int coded = vips_image_get_coding(s->im) != VIPS_CODING_NONE;
    int proper = kind == VIPS_INTERPRETATION_CMYK ? 4 : bands < 3 ? 1 : 3;
    s->alpha = bands == proper + 1;
    s->colours = proper;
    s->depth = format == VIPS_FORMAT_UCHAR ? 8 : 16;
    int known = s->lab || format == VIPS_FORMAT_UCHAR || format == VIPS_FORMAT_USHORT;
    if (!coded && known && (bands == proper || s->alpha) && !(s->lab && proper != 3)) return 0;
    const char *accepted = "grey, RGB, CMYK or Lab, with alpha or without, of 8 or 16 bits per sample";
    if (!known)
        return yd_fail_field(err, YD_E_IMAGE, "image", accepted,
                             "the picture's samples are %s numbers, which are not accepted",
                             vips_band_format_isfloat(format) ? "floating-point" : "signed or 32-bit");
    return yd_fail_field(err, YD_E_IMAGE, "image", accepted, "the picture has %d channels of a kind that cannot be read",
                         bands);
}

static void read_facts(yd_source *s)
{
    s->orientation = vips_image_get_orientation(s->im);
    s->pages = vips_image_get_n_pages(s->im);
    s->bits = 16;
    if (strcmp(s->kind->name, "tiff") == 0) s->pages = yd_tiff_pages(s->bytes, s->len);
    if (strcmp(s->kind->name, "png") == 0) {
        yd_png_read_facts(s->bytes, s->len, &s->png);
        s->pages = s->png.frames;
        if (s->png.exif) s->orientation = yd_exif_orientation(s->png.exif, s->png.exif_len);
    }
    if (s->depth == 16 && vips_image_get_typeof(s->im, "heif-bitdepth") &&
        (vips_image_get_int(s->im, "heif-bitdepth", &s->bits) || s->bits < 9 || s->bits > 16))
        s->bits = 16;
    if (s->orientation < 1 || s->orientation > 8) s->orientation = 1;
}

int yd_source_open(const void *bytes, size_t len, const yd_image_limits *lim, yd_source *s, yd_err *err)
{
    *s = (yd_source){.bytes = bytes, .len = len};
    int rc = yd_image_init(err);
    if (rc == 0) rc = check_format(s, lim, err);
    if (rc) return rc;
    yd_vips_forget_errors(); // readers complain of odd profiles even when all goes well
    if (load(s)) return yd_source_damaged(s, err);
    s->w = vips_image_get_width(s->im);
    s->h = vips_image_get_height(s->im);
    rc = yd_image_check_size(s->w, s->h, lim, err);
    if (rc == 0) rc = understand_bands(s, err);
    if (rc)
        g_clear_object(&s->im);
    else
        read_facts(s);
    return rc;
}

int yd_image_probe(const void *bytes, size_t len, const yd_image_limits *lim, yd_image_header *out, yd_err *err)
{
    yd_source s;
    *out = (yd_image_header){0};
    int rc = yd_source_open(bytes, len, lim, &s, err);
    if (rc) return rc;
    int turned = s.orientation >= 5;
    out->w = turned ? s.h : s.w;
    out->h = turned ? s.w : s.h;
    out->channels = s.colours + s.alpha;
    out->depth = s.depth;
    out->pages = s.pages;
    snprintf(out->format, sizeof out->format, "%s", s.kind->name);
    g_object_unref(s.im);
    return 0;
}
