// What a picture carries beside its pixels: collected while decoding, adapted while encoding, shared by counting in between.
//
// EXIF, XMP and IPTC are kept as the blocks they are. Adapting works on copies: what would be untrue of a larger, upright picture goes
// (orientation, sizes, thumbnails), and the place where the policy says so. Blocks that cannot be read cannot be cleaned and go
// as a whole, and so does what is absurdly long. Of a Photoshop block only the IPTC part is kept: it may hold a thumbnail and
// another EXIF.
// Read next: image_exif.c, image_xmp.c, image_container.c
#include "core/image_meta.h"

#include "core/image_exif.h"
#include "core/image_source.h"
#include "core/image_xmp.h"
#include "core/mem.h"

#include <stdio.h>
#include <string.h>

#define MAX_HEIF_ITEMS  16
#define MAX_RESOLUTION  10000 // pixels per millimetre
#define MAX_BLOCK_BYTES (4u << 20) // of one kind of metadata

int yd_image_meta_new(yd_image_meta **out, yd_err *err)
{
    *out = yd_calloc(1, sizeof **out);
    if (!*out) return yd_fail(err, YD_E_NOMEM, "no memory for a picture's metadata");
    atomic_init(&(*out)->refs, 1);
    return 0;
}

int yd_meta_blob_set(yd_meta_blob *b, const void *p, size_t n, yd_err *err)
{
    uint8_t *copy = yd_malloc(n);
    if (!copy) return yd_fail(err, YD_E_NOMEM, "no memory for %zu bytes of a picture's metadata", n);
    memcpy(copy, p, n);
    yd_free(b->p);
    *b = (yd_meta_blob){copy, n};
    return 0;
}

yd_image_meta *yd_image_meta_ref(yd_image_meta *meta)
{
    if (meta) atomic_fetch_add_explicit(&meta->refs, 1, memory_order_relaxed);
    return meta;
}

void yd_image_meta_unref(yd_image_meta *meta)
{
    if (!meta || atomic_fetch_sub_explicit(&meta->refs, 1, memory_order_acq_rel) != 1) return;
    yd_free(meta->icc.p);
    yd_free(meta->exif.p);
    yd_free(meta->xmp.p);
    yd_free(meta->iptc.p);
    yd_free(meta);
}

// ---- collecting

static const void *vips_blob(const yd_source *s, const char *name, size_t *n)
{
    const void *p = NULL;
    if (!vips_image_get_typeof(s->im, name) || vips_image_get_blob(s->im, name, &p, n) || *n > MAX_BLOCK_BYTES) return NULL;
    return p;
}

static int collect_exif(const yd_source *s, yd_image_meta *m, yd_err *err)
{
    size_t n = s->png.exif_len;
    const uint8_t *p = s->png.exif ? s->png.exif : vips_blob(s, VIPS_META_EXIF_NAME, &n);
    if (!p || n > MAX_BLOCK_BYTES) return 0;
    p = yd_exif_body(p, n, &n);
    return p ? yd_meta_blob_set(&m->exif, p, n, err) : 0;
}

// XMP of AVIF and HEIC comes from libvips without its name, as one of the file's numbered items.
static const void *heif_xmp(const yd_source *s, size_t *n)
{
    for (int i = 0; i < MAX_HEIF_ITEMS; i++) {
        char name[24];
        snprintf(name, sizeof name, "heif-mime-%d", i);
        const void *p = vips_blob(s, name, n);
        if (p && memmem(p, *n, "<rdf:RDF", 8)) return p;
    }
    return NULL;
}

static int collect_xmp(const yd_source *s, yd_image_meta *m, yd_err *err)
{
    size_t n = 0;
    const uint8_t *p = vips_blob(s, VIPS_META_XMP_NAME, &n);
    if (!p) p = heif_xmp(s, &n);
    while (p && n > 0 && p[n - 1] == 0) n--; // some writers count the end of the string
    return p && n > 0 ? yd_meta_blob_set(&m->xmp, p, n, err) : 0;
}

// The IPTC resource within Photoshop's list of resources: "8BIM", number, padded name, length, padded data.
static const uint8_t *find_iptc(const uint8_t *p, size_t len, size_t *n)
{
    for (size_t i = 0; i + 12 <= len && memcmp(p + i, "8BIM", 4) == 0;) {
        int number = p[i + 4] << 8 | p[i + 5];
        size_t name = ((size_t)p[i + 6] + 2) & ~(size_t)1, data = i + 6 + name + 4;
        if (data > len) return NULL;
        *n = (size_t)p[data - 4] << 24 | (size_t)p[data - 3] << 16 | (size_t)p[data - 2] << 8 | p[data - 1];
        if (*n > len - data) return NULL;
        if (number == 0x0404) return p + data;
        i = data + *n + (*n & 1);
    }
    return NULL;
}

static int collect_iptc(const yd_source *s, yd_image_meta *m, yd_err *err)
{
    static const char photoshop[14] = "Photoshop 3.0";
    size_t n = 0;
    const uint8_t *p = vips_blob(s, VIPS_META_IPTC_NAME, &n);
    if (p && n > sizeof photoshop && memcmp(p, photoshop, sizeof photoshop) == 0)
        p = find_iptc(p + sizeof photoshop, n - sizeof photoshop, &n);
    return p && n > 0 && p[0] == 0x1c ? yd_meta_blob_set(&m->iptc, p, n, err) : 0;
}

static int empty(const yd_image_meta *m)
{
    return !m->icc.p && !m->exif.p && !m->xmp.p && !m->iptc.p && !(m->xres > 0);
}

int yd_meta_collect(const yd_source *s, yd_color_plan *plan, yd_image_meta **out, yd_err *err)
{
    yd_image_meta *m;
    *out = NULL;
    int rc = yd_image_meta_new(&m, err);
    if (rc) return rc;
    m->icc = plan->icc;
    plan->icc = (yd_meta_blob){0};
    rc = collect_exif(s, m, err);
    if (rc == 0) rc = collect_xmp(s, m, err);
    if (rc == 0) rc = collect_iptc(s, m, err);
    double xres = vips_image_get_xres(s->im), yres = vips_image_get_yres(s->im);
    int sane = xres > 0 && xres < MAX_RESOLUTION && yres > 0 && yres < MAX_RESOLUTION;
    if (sane && (xres != 1 || yres != 1)) { // libvips says 1 when the file says nothing
        int turned = s->orientation >= 5;
        m->xres = turned ? yres : xres;
        m->yres = turned ? xres : yres;
    }
    if (rc || empty(m))
        yd_image_meta_unref(m);
    else
        *out = m;
    return rc;
}

// ---- adapting

static int copy(yd_meta_blob *to, const yd_meta_blob *from, yd_err *err)
{
    return from->p ? yd_meta_blob_set(to, from->p, from->n, err) : 0;
}

static void drop(yd_meta_blob *b)
{
    yd_free(b->p);
    *b = (yd_meta_blob){0};
}

int yd_image_meta_adapt(const yd_image_meta *meta, yd_metadata_policy policy, int w, int h, yd_image_meta **out, yd_err *err)
{
    yd_image_meta *m;
    *out = NULL;
    if (!meta) return 0;
    int rc = yd_image_meta_new(&m, err), drop_gps = policy != YD_META_KEEP;
    if (rc) return rc;
    rc = copy(&m->icc, &meta->icc, err);
    if (policy != YD_META_STRIP) {
        m->xres = meta->xres;
        m->yres = meta->yres;
        if (rc == 0) rc = copy(&m->exif, &meta->exif, err);
        if (rc == 0) rc = copy(&m->xmp, &meta->xmp, err);
        if (rc == 0) rc = copy(&m->iptc, &meta->iptc, err);
        if (rc == 0 && m->exif.p && !(m->exif.n = yd_exif_adapt(m->exif.p, m->exif.n, w, h, drop_gps))) drop(&m->exif);
        if (rc == 0 && m->xmp.p && yd_xmp_adapt(m->xmp.p, m->xmp.n, drop_gps)) drop(&m->xmp);
    }
    if (rc || empty(m))
        yd_image_meta_unref(m);
    else
        *out = m;
    return rc;
}
