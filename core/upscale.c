// The deviceless ends of a job: picture -> condition, attention map, sampler; and canvas -> picture. See upscale.h.
// Owns nothing beyond the yd_prepared it fills. The condition is made as the networks were trained: Pillow's 8-bit bicubic.
// Read next: core/sampler.c.
#include "core/upscale.h"
#include "core/attention.h"
#include "core/mem.h"
#include "core/resize.h"

#include <string.h>

static int upsample(const yd_image *in, yd_prepared *p, yd_err *err)
{
    size_t px;
    if (yd_mul_size((size_t)p->w, (size_t)p->h, &px) || px > SIZE_MAX / 16)
        return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "the result would have %dx%d pixels", p->w, p->h);
    p->up = yd_malloc(px * 3);
    p->map = yd_malloc(px * sizeof *p->map);
    if (in->alpha) p->alpha = yd_malloc(px);
    if (!p->up || !p->map || (in->alpha && !p->alpha)) return yd_fail(err, YD_E_NOMEM, "no memory for a result of %dx%d pixels", p->w, p->h);
    const size_t low = (size_t)in->w * (size_t)in->h;
    uint8_t *bytes = yd_malloc(low * 3);
    if (!bytes) return yd_fail(err, YD_E_NOMEM, "no memory for a picture of %dx%d pixels", in->w, in->h);
    yd_image_rgb8(in, bytes);
    int rc = yd_resize_bicubic_u8(bytes, in->w, in->h, 3, p->up, p->w, p->h, err);
    for (size_t i = 0; in->alpha && i < low; i++) bytes[i] = yd_narrow(in->alpha[i]);
    if (!rc && in->alpha) rc = yd_resize_bicubic_u8(bytes, in->w, in->h, 1, p->alpha, p->w, p->h, err);
    yd_free(bytes);
    return rc;
}

int yd_prepare(const yd_model_config *cfg, const yd_sample_settings *set, const yd_image *in, yd_prepared *out, yd_err *err)
{
    const yd_attention_method *method;
    memset(out, 0, sizeof *out);
    if (in->w > 65535 / cfg->scale || in->h > 65535 / cfg->scale)
        return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "%dx%d pixels times %d: no side of the result may pass 65535", in->w, in->h, cfg->scale);
    out->w = in->w * cfg->scale;
    out->h = in->h * cfg->scale;
    out->grey = in->grey;
    int rc = yd_attention_find(set->attention, &method, err);
    if (!rc) rc = upsample(in, out, err);
    if (!rc) rc = method->compute(out->up, out->w, out->h, out->map, err);
    if (!rc) rc = yd_sampler_new(cfg, set, out->w, out->h, out->up, out->map, &out->sampler, err);
    return rc;
}

void yd_prepared_clear(yd_prepared *p)
{
    yd_sampler_free(p->sampler);
    yd_free(p->up);
    yd_free(p->map);
    yd_free(p->alpha);
    memset(p, 0, sizeof *p);
}

// A grey source gives a grey result: the luma of the three channels in each.
static void make_grey(uint8_t *rgb, size_t px)
{
    for (size_t i = 0; i < px; i++, rgb += 3) rgb[0] = rgb[1] = rgb[2] = yd_luma(rgb);
}

int yd_finish(const yd_prepared *p, yd_image *out, yd_err *err)
{
    const size_t px = (size_t)p->w * (size_t)p->h;
    *out = (yd_image){0};
    uint8_t *rgb = yd_malloc(px * 3);
    if (!rgb) return yd_fail(err, YD_E_NOMEM, "no memory for a result of %dx%d pixels", p->w, p->h);
    yd_sampler_preview(p->sampler, rgb);
    if (p->grey) make_grey(rgb, px);
    int rc = yd_image_from_rgb8(out, p->w, p->h, rgb, p->alpha, err);
    out->grey = p->grey;
    yd_free(rgb);
    return rc;
}
