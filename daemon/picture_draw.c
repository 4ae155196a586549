// What the pictures beside a result are made of: previews, maps and masks as pixels, before a codec makes files of them.
// Threads: any; nothing here knows jobs. Fails with nothing left behind.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "core/resize.h"
#include <limits.h>
#include <string.h>

#define PREVIEW_QUALITY 85

static void fit(int w, int h, int max_side, int *fw, int *fh)
{
    int longest = w > h ? w : h;
    *fw = w;
    *fh = h;
    if (max_side <= 0 || longest <= max_side) return;
    *fw = (int)((int64_t)w * max_side / longest);
    *fh = (int)((int64_t)h * max_side / longest);
    if (*fw < 1) *fw = 1;
    if (*fh < 1) *fh = 1;
}

void yd_preview_output(yd_image_format format, yd_output *out)
{
    yd_output_init(out);
    out->format = format;
    out->encode_quality = PREVIEW_QUALITY;
    out->effort = 1;
}

int yd_draw_preview(const uint8_t *rgb, int w, int h, int max_side, yd_image *out, yd_err *err)
{
    int fw, fh, rc = 0;
    uint8_t *small = NULL;
    fit(w, h, max_side, &fw, &fh);
    if (fw != w || fh != h) {
        small = yd_malloc((size_t)fw * (size_t)fh * 3);
        rc = small ? yd_resize_bicubic_u8(rgb, w, h, 3, small, fw, fh, err) : yd_fail(err, YD_E_NOMEM, "no memory for a preview");
    }
    if (!rc) rc = yd_image_from_rgb8(out, fw, fh, small ? small : rgb, NULL, err);
    yd_free(small);
    return rc;
}

int yd_draw_attention(const float *map, int w, int h, int max_side, uint8_t **plane, int *pw, int *ph, yd_err *err)
{
    int rc = 0;
    size_t n = (size_t)w * (size_t)h;
    uint8_t *full = yd_malloc(n), *small = NULL;
    if (!full) return yd_fail(err, YD_E_NOMEM, "no memory for a picture of the attention map");
    for (size_t i = 0; i < n; i++) full[i] = map[i] >= 1 ? 255 : map[i] > 0 ? (uint8_t)(map[i] * 255 + 0.5f) : 0;
    fit(w, h, max_side, pw, ph);
    if (*pw != w || *ph != h) {
        small = yd_malloc((size_t)*pw * (size_t)*ph);
        rc = small ? yd_resize_bicubic_u8(full, w, h, 1, small, *pw, *ph, err) : yd_fail(err, YD_E_NOMEM, "no memory for a map");
    }
    *plane = small && !rc ? small : full;
    if (*plane != small) yd_free(small);
    if (*plane != full) yd_free(full);
    if (!rc) return 0;
    yd_free(*plane);
    *plane = NULL;
    return rc;
}

int yd_draw_activation(const uint16_t *a, int w, int h, uint8_t **plane, yd_err *err)
{
    size_t n = (size_t)w * (size_t)h;
    uint8_t *p = h <= INT_MAX / 2 ? yd_malloc(2 * n) : NULL;
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for the activation steps");
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)(a[i] & 0xff);
        p[n + i] = (uint8_t)(a[i] >> 8);
    }
    *plane = p;
    return 0;
}

static uint8_t *new_mask(size_t n, yd_err *err)
{
    uint8_t *mask = yd_malloc(n);
    if (!mask) yd_fail(err, YD_E_NOMEM, "no memory for a mask");
    return mask;
}

int yd_draw_mask(const uint16_t *a, int w, int h, int threshold, uint8_t **plane, yd_err *err)
{
    const size_t n = (size_t)w * (size_t)h;
    uint8_t *mask = new_mask(n, err);
    if (!mask) return YD_E_NOMEM;
    for (size_t i = 0; i < n; i++) mask[i] = a[i] >= threshold ? 255 : 0;
    *plane = mask;
    return 0;
}

int yd_draw_small_mask(const uint16_t *a, int w, int h, int threshold, int pw, int ph, uint8_t **plane, yd_err *err)
{
    uint8_t *mask = new_mask((size_t)pw * (size_t)ph, err), *to = mask;
    if (!mask) return YD_E_NOMEM;
    for (int y = 0; y < ph; y++) {
        const uint16_t *row = a + (size_t)((2LL * y + 1) * h / (2LL * ph)) * (size_t)w;
        for (int x = 0; x < pw; x++) *to++ = row[(2LL * x + 1) * w / (2LL * pw)] >= threshold ? 255 : 0;
    }
    *plane = mask;
    return 0;
}

int yd_draw_mask_of(const yd_image *packed, int threshold, uint8_t **plane, yd_err *err)
{
    const size_t n = (size_t)packed->w * (size_t)(packed->h / 2);
    uint8_t *mask = new_mask(n, err);
    if (!mask) return YD_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const int a = yd_narrow(packed->rgb[3 * i]) | yd_narrow(packed->rgb[3 * (n + i)]) << 8;
        mask[i] = a >= threshold ? 255 : 0;
    }
    *plane = mask;
    return 0;
}
