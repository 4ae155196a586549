// What a codec does with a request: probe, decode or encode between two parts of the shared memory.
//
// Runs in a codec process, or on a thread of the daemon where there are none. The request has been checked; the pictures have not.
// Read next: core/image_open.c, core/image_encode.c
#include "daemon/codec.h"

#include "core/mem.h"
#include <stdio.h>
#include <string.h>

static yd_image_limits limits_of(const yd_codec_request *q)
{
    return (yd_image_limits){(long)q->max_pixels, q->min_side, q->max_side, (size_t)q->max_bytes};
}

// ---- probe and decode

static int probe(const yd_codec_request *q, const uint8_t *region, yd_codec_answer *a, yd_err *err)
{
    const yd_image_limits lim = limits_of(q);
    yd_image_header h;
    int rc = yd_image_probe(region, (size_t)q->in_len, &lim, &h, err);
    if (rc) return rc;
    a->w = h.w;
    a->h = h.h;
    a->channels = h.channels;
    a->depth = h.depth;
    a->pages = h.pages;
    snprintf(a->format, sizeof a->format, "%s", h.format);
    return 0;
}

typedef struct room {
    const yd_codec_request *q;
    uint8_t *pixels;
} room;

static int give_room(void *arg, int w, int h, int with_alpha, yd_image *out, yd_err *err)
{
    const room *r = arg;
    if (w != r->q->w || h != r->q->h)
        return yd_fail_field(err, YD_E_IMAGE, "image", "", "the picture has %dx%d pixels, not the %dx%d of its header", w, h, r->q->w,
                             r->q->h);
    *out = (yd_image){.w = w, .h = h, .depth = 8, .rgb = (uint16_t *)(void *)r->pixels};
    if (with_alpha) out->alpha = out->rgb + 3 * (size_t)w * (size_t)h;
    return 0;
}

static int decode(const yd_codec_request *q, uint8_t *region, yd_codec_answer *a, yd_err *err)
{
    const yd_image_limits lim = limits_of(q);
    const yd_decode_options how = {(yd_color_space)q->color_space};
    yd_image im = {0};
    room r = {q, region + q->out_off};
    int rc = yd_image_decode_into(region, (size_t)q->in_len, &lim, &how, give_room, &r, &im, err);
    if (!rc) {
        a->meta_len = yd_image_meta_block(im.meta, NULL);
        if (a->meta_len > q->meta_len)
            rc = yd_fail_field(err, YD_E_IMAGE, "image", "", "the picture's metadata is too long");
        else
            yd_image_meta_block(im.meta, region + q->meta_off);
    }
    a->w = im.w;
    a->h = im.h;
    a->depth = im.depth;
    a->grey = im.grey;
    a->alpha = im.alpha != NULL;
    yd_image_meta_unref(im.meta);
    return rc;
}

// ---- encode

static int encode(const yd_codec_request *q, uint8_t *region, yd_codec_answer *a, yd_err *err)
{
    const yd_packing p = {q->w, q->h, q->bands, q->depth};
    yd_image_meta *meta;
    yd_output out;
    void *bytes = NULL;
    size_t n = 0;
    yd_codec_output_of(q, &out);
    int rc = yd_image_meta_read(region + q->meta_off, (size_t)q->meta_len, &meta, err);
    if (!rc) rc = yd_image_encode_packed(&p, region, meta, &out, &bytes, &n, err);
    if (!rc && n > q->out_len) rc = yd_fail(err, YD_E_INTERNAL, "the encoded picture of %zu bytes is longer than was thought possible", n);
    if (!rc) memcpy(region + q->out_off, bytes, n);
    a->out_len = n;
    yd_free(bytes);
    yd_image_meta_unref(meta);
    return rc;
}

void yd_codec_perform(const yd_codec_request *q, uint8_t *region, yd_codec_answer *a)
{
    yd_err err = {0};
    yd_codec_answer_init(a, q);
    int rc = q->op == YD_CODEC_PROBE    ? probe(q, region, a, &err)
             : q->op == YD_CODEC_DECODE ? decode(q, region, a, &err)
                                        : encode(q, region, a, &err);
    if (rc) yd_codec_answer_fail(a, rc, &err);
}
