// What a codec does with a request: probe, decode or encode between two parts of the shared memory.
//
// Runs in a codec process, or on a thread of the daemon where there are none. The request has been checked; the pictures have not.
// Read next: core/image_open.c, core/image_encode.c
#include "daemon/codec.h"

#include "core/mem.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// A part of the region, mapped. Offsets of mappings are whole pages: what lies before the part on its page comes along.
typedef struct part {
    void *map;
    size_t map_len;
    uint8_t *bytes;
} part;

static int map_part(int fd, uint64_t off, uint64_t len, int prot, part *p, yd_err *err)
{
    const uint64_t before = off % (uint64_t)sysconf(_SC_PAGESIZE);
    p->map_len = (size_t)(len + before);
    p->map = mmap(NULL, p->map_len, prot, MAP_SHARED, fd, (off_t)(off - before));
    if (p->map == MAP_FAILED) {
        p->map = NULL;
        return yd_fail(err, YD_E_NOMEM, "no memory for a picture of %llu bytes", (unsigned long long)len);
    }
    p->bytes = (uint8_t *)p->map + before;
    return 0;
}

static void unmap(part *p)
{
    if (p->map) munmap(p->map, p->map_len);
}

static int write_all(int fd, const void *bytes, size_t n, uint64_t off, yd_err *err)
{
    for (const uint8_t *p = bytes; n > 0;) {
        const ssize_t put = pwrite(fd, p, n, (off_t)off);
        if (put <= 0) return yd_fail(err, YD_E_NOMEM, "no shared memory for a picture's bytes");
        p += put;
        off += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

static yd_image_limits limits_of(const yd_codec_request *q)
{
    return (yd_image_limits){(long)q->max_pixels, q->min_side, q->max_side, (size_t)q->max_bytes};
}

// ---- probe and decode

static int probe(const yd_codec_request *q, const part *in, yd_codec_answer *a, yd_err *err)
{
    const yd_image_limits lim = limits_of(q);
    yd_image_header h;
    int rc = yd_image_probe(in->bytes, (size_t)q->in_len, &lim, &h, err);
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

static int write_meta(const yd_codec_request *q, int fd, const yd_image_meta *meta, yd_codec_answer *a, yd_err *err)
{
    const size_t n = yd_image_meta_block(meta, NULL);
    if (n == 0) return 0;
    if (n > q->meta_len) return yd_fail(err, YD_E_IMAGE, "the picture's metadata is too long");
    void *block = yd_malloc(n);
    if (!block) return yd_fail(err, YD_E_NOMEM, "no memory for a picture's metadata");
    yd_image_meta_block(meta, block);
    int rc = write_all(fd, block, n, q->meta_off, err);
    yd_free(block);
    a->meta_len = n;
    return rc;
}

static int decode(const yd_codec_request *q, int fd, const part *in, yd_codec_answer *a, yd_err *err)
{
    const yd_image_limits lim = limits_of(q);
    const yd_decode_options how = {(yd_color_space)q->color_space};
    part out = {0};
    yd_image im = {0};
    int rc = map_part(fd, q->out_off, q->out_len, PROT_READ | PROT_WRITE, &out, err);
    if (rc) return rc;
    room r = {q, out.bytes};
    rc = yd_image_decode_into(in->bytes, (size_t)q->in_len, &lim, &how, give_room, &r, &im, err);
    if (!rc) rc = write_meta(q, fd, im.meta, a, err);
    a->w = im.w;
    a->h = im.h;
    a->depth = im.depth;
    a->grey = im.grey;
    a->alpha = im.alpha != NULL;
    yd_image_meta_unref(im.meta);
    unmap(&out);
    return rc;
}

// ---- encode

static int read_meta(const yd_codec_request *q, int fd, yd_image_meta **meta, yd_err *err)
{
    part p = {0};
    *meta = NULL;
    if (q->meta_len == 0) return 0;
    int rc = map_part(fd, q->meta_off, q->meta_len, PROT_READ, &p, err);
    if (!rc) rc = yd_image_meta_read(p.bytes, (size_t)q->meta_len, meta, err);
    unmap(&p);
    return rc;
}

static int encode(const yd_codec_request *q, int fd, const part *in, yd_codec_answer *a, yd_err *err)
{
    const yd_packing p = {q->w, q->h, q->bands, q->depth};
    yd_image_meta *meta;
    yd_output out;
    void *bytes = NULL;
    size_t n = 0;
    yd_codec_output_of(q, &out);
    int rc = read_meta(q, fd, &meta, err);
    if (!rc) rc = yd_image_encode_packed(&p, in->bytes, meta, &out, &bytes, &n, err);
    if (!rc && n > q->out_len) rc = yd_fail(err, YD_E_INTERNAL, "the encoded picture of %zu bytes is longer than was thought possible", n);
    if (!rc) rc = write_all(fd, bytes, n, q->out_off, err);
    a->out_len = n;
    yd_free(bytes);
    yd_image_meta_unref(meta);
    return rc;
}

void yd_codec_perform(const yd_codec_request *q, int fd, yd_codec_answer *a)
{
    yd_err err = {0};
    part in = {0};
    yd_codec_answer_init(a, q);
    int rc = map_part(fd, 0, q->in_len, PROT_READ, &in, &err);
    if (!rc)
        rc = q->op == YD_CODEC_PROBE    ? probe(q, &in, a, &err)
             : q->op == YD_CODEC_DECODE ? decode(q, fd, &in, a, &err)
                                        : encode(q, fd, &in, a, &err);
    unmap(&in);
    if (rc) yd_codec_answer_fail(a, rc, &err);
}
