// Reading and writing pictures in two halves, for programs that let another process do the half that touches libvips.
//
// Writing: pack (samples as the file will hold them, pure arithmetic) on one side, encode_packed on the other. Reading: decode into pixel
// memory that the caller provides. What a picture carries beside its pixels travels as one block of bytes, which is checked when it is
// read. yd_image_encode and yd_image_decode are these halves put together, so the bytes are the same whoever does what.
// Threads: reentrant, like core/image.h.
#ifndef YD_CORE_IMAGE_PARTS_H
#define YD_CORE_IMAGE_PARTS_H

#include "core/output.h"

// The longest block of metadata.
#define YD_META_BLOCK_MAX ((size_t)32 << 20)

// ---- which formats are read

// Bit i: kind i of yd_image_kinds is read. For a process that never starts libvips: take over what another one has found.
unsigned yd_image_reads(void);
void yd_image_set_reads(unsigned mask);

// Name of the format these bytes begin like; an accepted format has its name in yd_image_kinds. NULL: unknown. Pure.
const char *yd_image_sniff(const void *bytes, size_t len);

// ---- writing

// The channels of a file, interleaved.
typedef struct yd_packing {
    int w, h, bands, depth; // bands 1..4, depth 8 or 16
} yd_packing;

size_t yd_packing_bytes(const yd_packing *p);

// How im is packed for `out`. YD_E_SETTING when the settings are out of range or the format cannot hold it.
int yd_image_packing(const yd_image *im, const yd_output *out, yd_packing *p, yd_err *err);
// Write yd_packing_bytes(p) of samples to dst.
void yd_image_pack(const yd_image *im, const yd_output *out, const yd_packing *p, void *dst);
// The other half: *bytes is released with yd_free. meta may be NULL. YD_E_SETTING, YD_E_NOMEM, YD_E_INTERNAL.
int yd_image_encode_packed(const yd_packing *p, const void *samples, const yd_image_meta *meta, const yd_output *out, void **bytes,
                           size_t *len, yd_err *err);
// How yd_image_encode_grey writes maps and masks.
void yd_output_for_maps(yd_output *out);

// ---- reading

// Give out->rgb and, with_alpha, out->alpha room for w*h pixels; called once the header has passed every limit. An error ends the decoding.
typedef int (*yd_image_room_fn)(void *arg, int w, int h, int with_alpha, yd_image *out, yd_err *err);

// yd_image_decode into memory of the caller's, who keeps owning it whatever comes back; only out->meta is to be released.
int yd_image_decode_into(const void *bytes, size_t len, const yd_image_limits *lim, const yd_decode_options *opt, yd_image_room_fn room,
                         void *arg, yd_image *out, yd_err *err);

// ---- metadata as bytes

// 0 for NULL. Never more than YD_META_BLOCK_MAX: what is too long for it is left out.
size_t yd_image_meta_block(const yd_image_meta *m, void *dst); // dst NULL: only the size
// Read a block, which may come from anywhere. n = 0: *out is NULL. YD_E_IMAGE when it is none, YD_E_NOMEM.
int yd_image_meta_read(const void *block, size_t n, yd_image_meta **out, yd_err *err);

#endif
