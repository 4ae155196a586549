// Decoding: from an opened file to samples of our own.
//
//   source (image_open.c) -> colour plan (image_color.c) -> strips from libvips -> 16 bits -> colours -> our planes, turned upright
//
// 8-bit samples are widened by 257, so that an 8-bit picture comes out exactly as it went in. Samples that a profile converts get all 16
// bits. EXIF orientation is applied while lines are copied, so no second picture is held. Alpha passes by the profile; it stays as it is
// in the file (straight; libvips divides what a TIFF has multiplied).
// Read next: image_meta.c, image_encode.c
#include "core/image_source.h"

#include "core/image_parts.h"
#include "core/mem.h"

#include <string.h>

enum { STRIP = 16 };

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

// One line on its way.
typedef struct line_buffer {
    uint16_t *stored;    // w * colours, widened
    uint16_t *converted; // w * out_colours; the same as stored when there is nothing to convert
    uint16_t *alpha;     // w, or NULL
} line_buffer;

static void line_free(line_buffer *b)
{
    if (b->converted != b->stored) yd_free(b->converted);
    yd_free(b->stored);
    yd_free(b->alpha);
}

static int line_new(const yd_source *s, int colours, const yd_color_plan *plan, line_buffer *b, yd_err *err)
{
    size_t w = (size_t)s->w * sizeof(uint16_t);
    *b = (line_buffer){.stored = yd_calloc(w, (size_t)colours)};
    b->converted = plan->transform ? yd_calloc(w, (size_t)plan->out_colours) : b->stored;
    if (s->alpha) b->alpha = yd_calloc(w, 1);
    if (b->stored && b->converted && (b->alpha || !s->alpha)) return 0;
    line_free(b);
    return yd_fail(err, YD_E_NOMEM, "no memory for a line of %d pixels", s->w);
}

// libvips' interleaved samples, 8 or 16 bits -> colours and alpha, 16 bits.
static void split_line(const void *line, int wide, int w, int colours, line_buffer *b)
{
    const uint8_t *p8 = line;
    const uint16_t *p16 = line;
    uint16_t *dst = b->stored;
    for (int x = 0; x < w; x++) {
        for (int c = 0; c < colours; c++) *dst++ = wide ? *p16++ : yd_widen(*p8++);
        if (b->alpha) b->alpha[x] = wide ? *p16++ : yd_widen(*p8++);
    }
}

// Samples of 10 or 12 bits lie in the upper ones: repeating them below makes white 65535.
static void spread_bits(uint16_t *v, size_t n, int bits)
{
    for (size_t i = 0; i < n; i++) v[i] = (uint16_t)(v[i] | v[i] >> bits);
}

static void place_line(yd_image *im, const line_buffer *b, int colours, placing at, int w)
{
    const uint16_t *p = b->converted;
    int green = colours == 3 ? 1 : 0, blue = 2 * green;
    for (ptrdiff_t x = 0, to = at.base; x < w; x++, to += at.dx, p += colours) {
        im->rgb[3 * to] = p[0];
        im->rgb[3 * to + 1] = p[green];
        im->rgb[3 * to + 2] = p[blue];
        if (im->alpha && b->alpha) im->alpha[to] = b->alpha[x];
    }
}

// 1: libvips failed.
static int copy_strips(VipsImage *from, const yd_source *s, const yd_color_plan *plan, line_buffer *b, yd_image *im)
{
    int wide = vips_image_get_format(from) == VIPS_FORMAT_USHORT, failed = 0;
    int colours = vips_image_get_bands(from) - s->alpha;
    placing at = place(s->orientation, s->w, s->h);
    VipsRegion *region = vips_region_new(from);
    if (!region) return 1;
    for (int y = 0; y < s->h && !failed; y += STRIP) {
        VipsRect r = {0, y, s->w, s->h - y < STRIP ? s->h - y : STRIP};
        failed = vips_region_prepare(region, &r) != 0;
        for (int k = 0; k < r.height && !failed; k++, at.base += at.dy) {
            const void *line = region->data + (ptrdiff_t)(y + k - region->valid.top) * region->bpl;
            split_line(line, wide, s->w, colours, b);
            if (s->bits < 16) spread_bits(b->stored, (size_t)s->w * (size_t)colours, s->bits);
            if (s->bits < 16 && b->alpha) spread_bits(b->alpha, (size_t)s->w, s->bits);
            if (plan->transform) yd_color_apply(plan, b->stored, b->converted, (size_t)s->w);
            place_line(im, b, plan->out_colours, at, s->w);
        }
    }
    g_object_unref(region);
    return failed;
}

// Lab and the like become sRGB by libvips' own arithmetic; everything else is taken as it is. 1: libvips failed.
static int prepare_bands(const yd_source *s, VipsImage **out)
{
    if (s->lab) return vips_colourspace(s->im, out, VIPS_INTERPRETATION_RGB16, NULL) != 0;
    *out = g_object_ref(s->im);
    return 0;
}

static int decode_pixels(const yd_source *s, const yd_color_plan *plan, yd_image_room_fn room, void *arg, yd_image *out, yd_err *err)
{
    VipsImage *bands = NULL;
    line_buffer line = {0};
    int turned = s->orientation >= 5, rc = 0;
    if (prepare_bands(s, &bands)) return yd_source_damaged(s, err);
    if (vips_image_get_bands(bands) != (s->lab ? 3 : s->colours) + s->alpha)
        rc = yd_fail_field(err, YD_E_IMAGE, "image", "grey, RGB or CMYK",
                           "the picture's colours cannot be converted to sRGB");
    if (rc == 0) rc = line_new(s, s->colours, plan, &line, err);
    if (rc == 0) {
        rc = room(arg, turned ? s->h : s->w, turned ? s->w : s->h, s->alpha, out, err);
        if (rc == 0 && copy_strips(bands, s, plan, &line, out)) rc = yd_source_damaged(s, err);
        line_free(&line);
    }
    g_object_unref(bands);
    out->grey = s->colours == 1;
    out->depth = s->depth;
    return rc;
}

int yd_image_decode_into(const void *bytes, size_t len, const yd_image_limits *lim, const yd_decode_options *opt, yd_image_room_fn room,
                         void *arg, yd_image *out, yd_err *err)
{
    yd_source s;
    yd_color_plan plan = {0};
    *out = (yd_image){0};
    int rc = yd_source_open(bytes, len, lim, &s, err);
    if (rc) return rc;
    rc = yd_color_plan_make(&s, opt ? opt->color_space : YD_COLOR_SOURCE, &plan, err);
    if (rc == 0) rc = decode_pixels(&s, &plan, room, arg, out, err);
    if (rc == 0) rc = yd_meta_collect(&s, &plan, &out->meta, err);
    yd_color_plan_clear(&plan);
    g_object_unref(s.im);
    return rc;
}

static int own_room(void *arg, int w, int h, int with_alpha, yd_image *out, yd_err *err)
{
    (void)arg;
    return yd_image_alloc(out, w, h, with_alpha, err);
}

int yd_image_decode(const void *bytes, size_t len, const yd_image_limits *lim, const yd_decode_options *opt, yd_image *out,
                    yd_err *err)
{
    int rc = yd_image_decode_into(bytes, len, lim, opt, own_room, NULL, out, err);
    if (rc) yd_image_clear(out);
    return rc;
}
