// What a picture carries beside its pixels. Private to core/image*.c; the outside sees an opaque, counted record.
#ifndef YD_CORE_IMAGE_META_H
#define YD_CORE_IMAGE_META_H

#include "core/output.h"
#include <stdatomic.h>

typedef struct yd_meta_blob {
    uint8_t *p; // NULL: absent
    size_t n;
} yd_meta_blob;

struct yd_image_meta {
    atomic_int refs;
    yd_meta_blob icc;  // what the pixels mean; absent: sRGB
    yd_meta_blob exif; // a TIFF structure, without "Exif\0\0"
    yd_meta_blob xmp;
    yd_meta_blob iptc; // IPTC-IIM records, without Photoshop's wrapping
    double xres, yres; // pixels per millimetre, 0 = unknown
};

// An empty record with one reference. YD_E_NOMEM.
int yd_image_meta_new(yd_image_meta **out, yd_err *err);

// Replace what a blob holds by a copy of n bytes. YD_E_NOMEM.
int yd_meta_blob_set(yd_meta_blob *b, const void *p, size_t n, yd_err *err);

// What is written with a w x h picture under a policy: a record of the caller's own (yd_image_meta_unref), or NULL when there is nothing.
// meta may be NULL. YD_E_NOMEM.
int yd_image_meta_adapt(const yd_image_meta *meta, yd_metadata_policy policy, int w, int h, yd_image_meta **out, yd_err *err);

#endif
