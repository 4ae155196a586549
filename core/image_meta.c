// The record of what a picture carries beside its pixels: its life. It is filled once, while decoding, and read only from then on, so
// that pictures share it by counting.
#include "core/image_meta.h"

#include "core/mem.h"

#include <string.h>

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
