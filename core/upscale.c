// The deviceless ends of a job: picture -> condition, attention map, sampler; and canvas -> picture. See upscale.h.
//
// Owns nothing beyond the yd_prepared it fills; what only one stage needs (up(LR), its bytes, the filled colours) is released when the
// stage ends, and yd_upscale_bytes below is the sum of what can be alive at one time.
// The condition is made as the networks were trained: Pillow's 8-bit bicubic for pictures of bytes, the same kernel in 16 bits for others;
// or MATLAB's as SRDiff has it.
// Read next: core/alpha.c, core/sampler.c.
#include "core/upscale.h"
#include "core/alpha.h"
#include "core/attention.h"
#include "core/mem.h"
#include "core/resize.h"

#include <math.h>
#include <string.h>

#define MAX_SIDE 65535

static int no_memory(int w, int h, yd_err *err)
{
    return yd_fail(err, YD_E_NOMEM, "no memory for a picture of %dx%d pixels", w, h);
}

static void narrow(const uint16_t *src, uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = yd_narrow(src[i]);
}

static void widen(const uint8_t *src, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) dst[i] = yd_widen(src[i]);
}

// ---- enlarging -----------------------------------------------------------------------------------------------------

// c channels of a picture of bytes, through bytes.
static int enlarge8(const uint16_t *src, int sw, int sh, int c, uint16_t *dst, int w, int h, yd_err *err)
{
    const size_t n = (size_t)sw * (size_t)sh * (size_t)c, m = (size_t)w * (size_t)h * (size_t)c;
    uint8_t *low = yd_malloc(n), *up = yd_malloc(m);
    int rc = low && up ? 0 : no_memory(w, h, err);
    if (!rc) {
        narrow(src, low, n);
        rc = yd_resize_bicubic_u8(low, sw, sh, c, up, w, h, err);
    }
    if (!rc) widen(up, dst, m);
    yd_free(up);
    yd_free(low);
    return rc;
}

static int enlarge(int depth, const uint16_t *src, int sw, int sh, int c, uint16_t *dst, int w, int h, yd_err *err)
{
    return depth == 8 ? enlarge8(src, sw, sh, c, dst, w, h, err) : yd_resize_bicubic_u16(src, sw, sh, c, dst, w, h, err);
}

// The colours with those under transparency replaced. *own: what has to be freed, NULL where they are the source's own.
static int visible(const yd_image *in, const uint16_t **rgb, uint16_t **own, yd_err *err)
{
    const size_t px = (size_t)in->w * (size_t)in->h;
    *rgb = in->rgb;
    *own = NULL;
    if (!in->alpha || yd_alpha_opaque(in->alpha, px)) return 0;
    *own = yd_malloc(px * 3 * sizeof **own);
    if (!*own) return no_memory(in->w, in->h, err);
    memcpy(*own, in->rgb, px * 3 * sizeof **own);
    *rgb = *own;
    return yd_alpha_fill(*own, in->alpha, in->w, in->h, err);
}

int yd_upsample(const yd_image *in, int w, int h, uint16_t *rgb, yd_err *err)
{
    const uint16_t *seen;
    uint16_t *own;
    int rc = visible(in, &seen, &own, err);
    if (!rc) rc = enlarge(in->depth, seen, in->w, in->h, 3, rgb, w, h, err);
    yd_free(own);
    return rc;
}

// ---- before --------------------------------------------------------------------------------------------------------

static int settle_sizes(const yd_model_config *cfg, const yd_output *out, int w, int h, yd_prepared *p, yd_err *err)
{
    if (w > MAX_SIDE / cfg->scale || h > MAX_SIDE / cfg->scale)
        return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "%dx%d pixels times %d: no side of the result may pass %d", w, h, cfg->scale, MAX_SIDE);
    p->in_w = w;
    p->in_h = h;
    p->w = p->out_w = w * cfg->scale;
    p->h = p->out_h = h * cfg->scale;
    return out ? yd_output_size(out, cfg->scale, w, h, &p->out_w, &p->out_h, err) : 0;
}

// The source's alpha, metadata and kind of samples: what goes past the network.
static int keep(const yd_output *out, const yd_image *in, yd_prepared *p, yd_err *err)
{
    const size_t bytes = (size_t)in->w * (size_t)in->h * sizeof *p->alpha;
    p->in_depth = in->depth;
    p->depth = out && out->bit_depth ? out->bit_depth : in->depth;
    p->grey = in->grey;
    p->meta = yd_image_meta_ref(in->meta);
    if (!in->alpha) return 0;
    p->alpha = yd_malloc(bytes);
    if (!p->alpha) return no_memory(in->w, in->h, err);
    memcpy(p->alpha, in->alpha, bytes);
    return 0;
}

// What the network is shown of the picture.
static int make_shown(yd_attention_nets *nets, const char *name, const uint8_t *bytes, yd_prepared *p, yd_err *err)
{
    yd_prepare_begun *c = &p->begun;
    yd_attention_net_info info;
    int rc = yd_attention_nets_find(nets, name, &c->ref, err);
    if (rc) return rc;
    yd_attention_nets_info(nets, (size_t)c->ref.net, &info);
    yd_attention_input_size(&info, yd_attention_nets_options(nets), p->w, p->h, &c->shown_w, &c->shown_h);
    c->shown = yd_malloc((size_t)c->shown_w * (size_t)c->shown_h * 3);
    if (!c->shown) return no_memory(c->shown_w, c->shown_h, err);
    c->awaits = 1;
    return yd_attention_input(bytes, p->w, p->h, c->shown, c->shown_w, c->shown_h, err);
}

// The map, or where a network makes it, what that is shown.
static int begin_map(const yd_model_config *cfg, const char *name, yd_prepared *p, yd_err *err)
{
    const size_t px = (size_t)p->w * (size_t)p->h;
    const yd_attention_with with = {cfg->map_net, cfg->nets};
    uint8_t *bytes = yd_malloc(px * 3);
    p->map = yd_malloc(px * sizeof *p->map);
    int rc = bytes && p->map ? 0 : no_memory(p->w, p->h, err);
    if (!rc) {
        narrow(p->begun.up, bytes, px * 3);
        rc = yd_attention_is_net(name) ? make_shown(cfg->nets, name, bytes, p, err) : yd_attention_compute(name, &with, bytes, p->w, p->h, p->map, err);
    }
    yd_free(bytes);
    return rc;
}

static void begun_clear(yd_prepared *p)
{
    yd_prepare_begun *c = &p->begun;
    yd_free(c->exact);
    yd_free(c->up);
    yd_free(c->own);
    yd_free(c->shown);
    memset(c, 0, sizeof *c);
}

static uint16_t to_word(float v)
{
    v = v < -1.0f ? -1.0f : v > 1.0f ? 1.0f : v;
    return (uint16_t)lrint(((double)v + 1.0) * 32767.5);
}

static int make_condition(const yd_model_config *cfg, const yd_image *in, yd_prepared *p, yd_err *err)
{
    yd_prepare_begun *c = &p->begun;
    const size_t n = (size_t)p->w * (size_t)p->h * 3;
    int rc = visible(in, &c->given.lr, &c->own, err);
    if (rc) return rc;
    c->up = yd_malloc(n * sizeof *c->up);
    c->given.up = c->up;
    if (!c->up) return no_memory(p->w, p->h, err);
    if (cfg->conditioning == YD_CONDITION_PILLOW8) return enlarge(in->depth, c->given.lr, in->w, in->h, 3, c->up, p->w, p->h, err);
    c->exact = yd_malloc(n * sizeof *c->exact);
    c->given.exact = c->exact;
    rc = c->exact ? yd_resize_matlab256(c->given.lr, in->w, in->h, cfg->scale, c->exact, err) : no_memory(p->w, p->h, err);
    for (size_t i = 0; !rc && i < n; i++) c->up[i] = to_word(c->exact[i]);
    return rc;
}

// An encoder wants the source, which may be gone when the map is there.
static int keep_source(const yd_model_config *cfg, const yd_image *in, yd_prepare_begun *c, yd_err *err)
{
    const size_t bytes = (size_t)in->w * (size_t)in->h * 3 * sizeof *c->own;
    if (!yd_net_has_encoder(&cfg->net)) c->given.lr = NULL;
    if (!c->given.lr || c->own) return 0;
    c->own = yd_malloc(bytes);
    if (!c->own) return no_memory(in->w, in->h, err);
    memcpy(c->own, c->given.lr, bytes);
    c->given.lr = c->own;
    return 0;
}

int yd_prepare_begin(const yd_model_config *cfg, const yd_sample_settings *set, const yd_output *out, const yd_image *in, yd_prepared *p,
                     yd_err *err)
{
    memset(p, 0, sizeof *p);
    int rc = settle_sizes(cfg, out, in->w, in->h, p, err);
    if (!rc) rc = yd_attention_check(set->attention, err);
    if (!rc) rc = keep(out, in, p, err);
    if (!rc) rc = make_condition(cfg, in, p, err);
    if (!rc) rc = begin_map(cfg, set->attention, p, err);
    return rc || !p->begun.awaits ? rc : keep_source(cfg, in, &p->begun, err);
}

int yd_prepare_end(const yd_model_config *cfg, const yd_sample_settings *set, yd_prepared *p, const float *raw, yd_err *err)
{
    const yd_prepare_begun *c = &p->begun;
    int rc = 0;
    if (c->awaits) rc = yd_attention_nets_finish(cfg->nets, &c->ref, raw, c->shown_w, c->shown_h, p->map, p->w, p->h, err);
    if (!rc) rc = yd_sampler_new_from(cfg, set, p->w, p->h, &c->given, p->map, &p->sampler, err);
    begun_clear(p);
    return rc;
}

int yd_prepare(const yd_model_config *cfg, const yd_sample_settings *set, const yd_output *out, const yd_image *in, yd_prepared *p,
               yd_err *err)
{
    float *raw = NULL;
    int rc = yd_prepare_begin(cfg, set, out, in, p, err);
    const yd_prepare_begun *c = &p->begun;
    if (!rc && c->awaits) rc = yd_attention_nets_look(cfg->nets, &c->ref, c->shown, c->shown_w, c->shown_h, &raw, err);
    if (!rc) rc = yd_prepare_end(cfg, set, p, raw, err);
    yd_free(raw);
    return rc;
}

void yd_prepared_clear(yd_prepared *p)
{
    yd_sampler_free(p->sampler);
    begun_clear(p);
    yd_free(p->map);
    yd_free(p->alpha);
    yd_image_meta_unref(p->meta);
    memset(p, 0, sizeof *p);
}

// ---- after ---------------------------------------------------------------------------------------------------------

// The present state in bytes.
static int coarse_colours(const yd_prepared *p, uint16_t *rgb, yd_err *err)
{
    const size_t px = (size_t)p->w * (size_t)p->h;
    uint8_t *bytes = yd_malloc(px * 3);
    if (!bytes) return no_memory(p->w, p->h, err);
    yd_sampler_preview(p->sampler, bytes);
    for (size_t i = 0; p->grey && i < px; i++) memset(bytes + 3 * i, yd_luma(bytes + 3 * i), 3); // grey comes back grey
    widen(bytes, rgb, px * 3);
    yd_free(bytes);
    return 0;
}

// The finished state in 16 bits; before there is one, the present.
static int fine_colours(const yd_prepared *p, uint16_t *rgb, yd_err *err)
{
    const size_t px = (size_t)p->w * (size_t)p->h;
    if (!yd_sampler_result16(p->sampler, rgb)) return coarse_colours(p, rgb, err);
    for (size_t i = 0; p->grey && i < px; i++, rgb += 3) rgb[0] = rgb[1] = rgb[2] = yd_luma16(rgb);
    return 0;
}

// Colours at another size, rounded to the result's depth at the very end.
static int resampled_colours(const yd_prepared *p, const yd_image *out, yd_err *err)
{
    uint16_t *native = yd_malloc((size_t)p->w * (size_t)p->h * 3 * sizeof *native);
    int rc = native ? fine_colours(p, native, err) : no_memory(p->w, p->h, err);
    if (!rc) rc = yd_resize_bicubic_u16(native, p->w, p->h, 3, out->rgb, out->w, out->h, err);
    yd_free(native);
    for (size_t i = 0; !rc && p->depth == 8 && i < (size_t)out->w * (size_t)out->h * 3; i++) out->rgb[i] = yd_widen(yd_narrow(out->rgb[i]));
    return rc;
}

// Give *out what goes past the network; rc is the state of its colours.
static int complete(const yd_prepared *p, int depth, yd_image *out, int rc, yd_err *err)
{
    if (!rc && p->alpha) rc = enlarge(p->in_depth, p->alpha, p->in_w, p->in_h, 1, out->alpha, out->w, out->h, err);
    if (rc) {
        yd_image_clear(out);
        return rc;
    }
    out->depth = depth;
    out->grey = p->grey;
    out->meta = yd_image_meta_ref(p->meta);
    return 0;
}

int yd_finish(const yd_prepared *p, yd_image *out, yd_err *err)
{
    int rc = yd_image_alloc(out, p->out_w, p->out_h, p->alpha != NULL, err);
    if (rc) return rc;
    if (p->out_w != p->w || p->out_h != p->h) rc = resampled_colours(p, out, err);
    else if (p->depth == 16) rc = fine_colours(p, out->rgb, err);
    else rc = coarse_colours(p, out->rgb, err);
    return complete(p, p->depth, out, rc, err);
}

int yd_preview(const yd_prepared *p, yd_image *out, yd_err *err)
{
    int rc = yd_image_alloc(out, p->w, p->h, p->alpha != NULL, err);
    return rc ? rc : complete(p, 8, out, coarse_colours(p, out->rgb, err), err);
}

// ---- memory --------------------------------------------------------------------------------------------------------

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

// Sides are at most 65535, so that no sum here comes near the end of a size_t.
int yd_upscale_bytes(const yd_model_config *cfg, const yd_sample_settings *set, const yd_output *out, int in_w, int in_h, size_t *bytes, yd_err *err)
{
    yd_prepared p = {0};
    int rc = settle_sizes(cfg, out, in_w, in_h, &p, err);
    if (rc) return rc;
    const size_t low = (size_t)in_w * (size_t)in_h, px = (size_t)p.w * (size_t)p.h, end = (size_t)p.out_w * (size_t)p.out_h;
    const size_t word = sizeof(uint16_t), rgb = 3 * word;
    // up(LR) is there first with what makes it, then beside the map and the sampler; with it the floats that it is rounded from.
    const size_t exact = cfg->conditioning == YD_CONDITION_PILLOW8 ? 0 : px * 3 * sizeof(float);
    const size_t making = low * (2 * rgb + 3) + yd_alpha_fill_bytes(in_w, in_h) + px * 3 + yd_resize_u16_bytes(in_w, in_h, 3, p.w, p.h);
    const size_t lasting = yd_sampler_bytes(cfg, set, p.w, p.h) + px * sizeof(float) + low * word;
    yd_attention_ref ref;
    const int shown = cfg->nets && yd_attention_is_net(set->attention) && yd_attention_nets_find(cfg->nets, set->attention, &ref, NULL) == 0;
    const size_t before = low * (2 * rgb + word) + px * rgb + exact + most(making, lasting + px * 3) + (shown ? yd_attention_nets_bytes(cfg->nets, &ref) : 0);
    const size_t resampling = p.w == p.out_w && p.h == p.out_h ? 0 : px * rgb + yd_resize_u16_bytes(p.w, p.h, 3, p.out_w, p.out_h);
    const size_t after = lasting + end * (rgb + word) + px * 3 + resampling + end + low + yd_resize_u16_bytes(in_w, in_h, 1, p.out_w, p.out_h);
    *bytes = most(before, after);
    return 0;
}
