// What pictures carry: EXIF and XMP that are made true of a larger picture, and the block that metadata travels in. The first byte chooses
// whether the place is to go.
#include "core/image_exif.h"
#include "core/image_meta.h"
#include "core/image_parts.h"
#include "core/image_xmp.h"
#include "tests/fuzz/fuzz.h"

static void block(const uint8_t *data, size_t size)
{
    yd_image_meta *m = NULL, *adapted = NULL;
    yd_err err = {0};
    if (yd_image_meta_read(data, size, &m, &err) == 0 && m) {
        HOLDS(yd_image_meta_block(m, NULL) <= YD_META_BLOCK_MAX);
        (void)yd_image_meta_adapt(m, YD_META_STRIP_GPS, 640, 480, &adapted, &err);
    }
    if (adapted) yd_image_meta_unref(adapted);
    if (m) yd_image_meta_unref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    const int drop_gps = data[0] & 1;
    const size_t n = size - 1;
    size_t body = 0;
    uint8_t *p = (uint8_t *)as_text(data + 1, n);
    const int orientation = yd_exif_orientation(p, n);
    HOLDS(orientation >= 1 && orientation <= 8);
    const uint8_t *inside = yd_exif_body(p, n, &body);
    HOLDS(!inside || (inside >= p && body <= n - (size_t)(inside - p)));
    const size_t left = yd_exif_adapt(p, n, 640, 480, drop_gps);
    HOLDS(left <= n);
    if (left) HOLDS(yd_exif_orientation(p, left) == 1);
    if (n) memcpy(p, data + 1, n);
    (void)yd_xmp_adapt(p, n, drop_gps);
    free(p);
    block(data, size);
    return 0;
}
