// A picture's metadata as one block of bytes, to travel between processes of the same program.
//
//   header: magic, lengths of ICC, EXIF, XMP, IPTC (0 = absent), resolution; then the four blobs in that order, nothing after them
// Whoever reads a block believes nothing of it: lengths must add up exactly, resolutions must be finite. What the blobs themselves say is
// judged later, by those who judge blobs of files. Read next: image_meta.c
#include "core/image_meta.h"
#include "core/image_parts.h"
#include "core/mem.h"

#include <math.h>
#include <string.h>

#define MAGIC          0x59444d31u
#define MAX_RESOLUTION 10000 // pixels per millimetre, as when a file is read
enum { BLOBS = 4 };

typedef struct block_header {
    uint32_t magic, unused;
    uint64_t len[BLOBS];
    double xres, yres;
} block_header;

static void list(const yd_image_meta *m, const yd_meta_blob *blob[BLOBS])
{
    blob[0] = &m->icc;
    blob[1] = &m->exif;
    blob[2] = &m->xmp;
    blob[3] = &m->iptc;
}

size_t yd_image_meta_block(const yd_image_meta *m, void *dst)
{
    const yd_meta_blob *blob[BLOBS];
    size_t at = sizeof(block_header);
    if (!m) return 0;
    block_header h = {.magic = MAGIC, .xres = m->xres, .yres = m->yres};
    list(m, blob);
    for (int i = 0; i < BLOBS; i++) {
        if (!blob[i]->p || blob[i]->n > YD_META_BLOCK_MAX - at) continue;
        h.len[i] = blob[i]->n;
        if (dst) memcpy((uint8_t *)dst + at, blob[i]->p, blob[i]->n);
        at += blob[i]->n;
    }
    if (dst) memcpy(dst, &h, sizeof h);
    return at;
}

static int sound(const block_header *h, size_t n)
{
    size_t left = n - sizeof *h;
    if (h->magic != MAGIC) return 0;
    for (int i = 0; i < BLOBS; i++) {
        if (h->len[i] > left) return 0;
        left -= (size_t)h->len[i];
    }
    const int known = h->xres > 0 && h->xres < MAX_RESOLUTION && h->yres > 0 && h->yres < MAX_RESOLUTION;
    return left == 0 && (known || (!(h->xres != 0) && !(h->yres != 0)));
}

int yd_image_meta_read(const void *block, size_t n, yd_image_meta **out, yd_err *err)
{
    block_header h;
    yd_image_meta *m;
    *out = NULL;
    if (n == 0) return 0;
    if (n >= sizeof h) memcpy(&h, block, sizeof h);
    if (n < sizeof h || n > YD_META_BLOCK_MAX || !sound(&h, n)) return yd_fail(err, YD_E_IMAGE, "the picture's metadata cannot be read");
    int rc = yd_image_meta_new(&m, err);
    if (rc) return rc;
    yd_meta_blob *blob[BLOBS] = {&m->icc, &m->exif, &m->xmp, &m->iptc};
    const uint8_t *at = (const uint8_t *)block + sizeof h;
    for (int i = 0; i < BLOBS && rc == 0; i++) {
        if (h.len[i] > 0) rc = yd_meta_blob_set(blob[i], at, (size_t)h.len[i], err);
        at += h.len[i];
    }
    m->xres = h.xres;
    m->yres = h.yres;
    if (rc)
        yd_image_meta_unref(m);
    else
        *out = m;
    return rc;
}
