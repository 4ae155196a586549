// Degradations: presets, drawing of parameters, and applying them to a picture or to a part of one. See degrade.h.
//
// A part is made from as little of the HR picture as decides it: the JPEG units that touch it (and the chroma sample beside them), the
// reach of the reduction's kernel around those, the blur's radius around that. Each step's value at a pixel depends on picture
// coordinates alone (noise is drawn by coordinate, the JPEG grid is fixed to the picture), so a part equals the cut-out of the whole.
// Blur works in whole numbers, so that it too gives the same bits everywhere.
// Read next: core/jpeg_loss.c
#include "core/degrade.h"

#include "core/jpeg_loss.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/rng.h"
#include "core/simd.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STREAM_DEGRADE = 0x6465u, MAX_RADIUS = 24, MAX_SCALE = 16, KERNEL_REACH = 2, CHROMA_REACH = 2 };
enum {
    LANE_ANY, LANE_HAS_BLUR, LANE_BLUR, LANE_HAS_NOISE, LANE_NOISE, LANE_SHOT, LANE_GREY, LANE_HAS_JPEG, LANE_JPEG,
    LANE_CHROMA, LANE_PHASE_X, LANE_PHASE_Y, LANE_SEED, LANE_SEED_2, LANE_SEED_3
};

static const struct {
    const char *name;
    yd_degrade_ranges ranges;
} presets[] = {
    {"none", {.share = 0}},
    {"mild",
     {.share = 0.5, .blur = {0.0, 0.8, 0.5}, .noise = {0.0, 4.0, 0.6}, .jpeg = {70, 98, 0.8}, .full_chroma = 0.4}},
    {"blind",
     {.share = 1.0, .blur = {0.4, 2.4, 0.9}, .noise = {1.0, 10.0, 0.9}, .jpeg = {40, 85, 0.9}, .full_chroma = 0.3}},
};
enum { N_PRESETS = sizeof presets / sizeof presets[0] };

const char *yd_degrade_presets(void)
{
    return "none, mild, blind";
}

int yd_degrade_preset(const char *name, yd_degrade_ranges *out, yd_err *err)
{
    for (int i = 0; i < N_PRESETS; i++)
        if (strcmp(name, presets[i].name) == 0) {
            *out = presets[i].ranges;
            return 0;
        }
    return yd_fail_field(err, YD_E_SETTING, "degrade", yd_degrade_presets(), "there is no degradation \"%s\"; there are: %s",
                         name, yd_degrade_presets());
}

static int check_share(double share, const char *field, yd_err *err)
{
    if (share >= 0 && share <= 1) return 0;
    return yd_fail_field(err, YD_E_SETTING, field, "a number from 0 to 1", "%s must be a number from 0 to 1", field);
}

static int check_range(const yd_degrade_range *r, double lo, double hi, const char *field, yd_err *err)
{
    char accepted[64];
    if (r->share == 0 && r->lo == 0 && r->hi == 0) return 0;
    if (!(r->lo >= lo && r->lo <= r->hi && r->hi <= hi)) {
        snprintf(accepted, sizeof accepted, "[low, high] with %g <= low <= high <= %g", lo, hi);
        return yd_fail_field(err, YD_E_SETTING, field, accepted, "%s must be %s", field, accepted);
    }
    return check_share(r->share, field, err);
}

int yd_degrade_check(const yd_degrade_ranges *r, yd_err *err)
{
    int rc = check_share(r->share, "degrade.share", err);
    if (!rc) rc = check_range(&r->blur, 0, 8, "degrade.blur", err);
    if (!rc) rc = check_range(&r->noise, 0, 64, "degrade.noise", err);
    if (!rc) rc = check_range(&r->jpeg, 1, 100, "degrade.jpeg", err);
    return rc ? rc : check_share(r->full_chroma, "degrade.full_chroma", err);
}

// ---- drawing

typedef struct source {
    uint64_t seed, number;
} source;

static double draw(const source *s, uint32_t lane)
{
    return (double)yd_rng_uniform(s->seed, STREAM_DEGRADE, s->number, lane);
}

static double draw_range(const source *s, const yd_degrade_range *r, uint32_t lane_has, uint32_t lane)
{
    return draw(s, lane_has) < r->share ? r->lo + (r->hi - r->lo) * draw(s, lane) : 0.0;
}

static uint64_t draw_seed(const source *s)
{
    const double unit = 16777216.0; // a uniform draw has 24 bits
    return (uint64_t)(draw(s, LANE_SEED) * unit) | (uint64_t)(draw(s, LANE_SEED_2) * unit) << 24 |
           (uint64_t)(draw(s, LANE_SEED_3) * 65536.0) << 48;
}

void yd_degrade_draw(const yd_degrade_ranges *r, uint64_t seed, uint64_t number, yd_degradation *out)
{
    const source s = {seed, number};
    *out = (yd_degradation){.reduction = r->reduction};
    if (draw(&s, LANE_ANY) >= r->share) return;
    out->blur = draw_range(&s, &r->blur, LANE_HAS_BLUR, LANE_BLUR);
    out->noise = draw_range(&s, &r->noise, LANE_HAS_NOISE, LANE_NOISE);
    out->shot = draw(&s, LANE_SHOT);
    out->grey_noise = draw(&s, LANE_GREY) < 0.4;
    out->jpeg = (int)floor(draw_range(&s, &r->jpeg, LANE_HAS_JPEG, LANE_JPEG) + 0.5);
    out->full_chroma = draw(&s, LANE_CHROMA) < r->full_chroma;
    out->noise_seed = draw_seed(&s);
    if (!r->any_phase) return;
    out->phase_x = (int)(draw(&s, LANE_PHASE_X) * YD_JPEG_UNIT);
    out->phase_y = (int)(draw(&s, LANE_PHASE_Y) * YD_JPEG_UNIT);
}

size_t yd_degradation_print(const yd_degradation *d, char *dst, size_t cap)
{
    char blur[32] = "", noise[32] = "", jpeg[32] = "";
    if (d->blur > 0) snprintf(blur, sizeof blur, ", blur %.2f", d->blur);
    if (d->noise > 0) snprintf(noise, sizeof noise, ", noise %.1f", d->noise);
    if (d->jpeg > 0) snprintf(jpeg, sizeof jpeg, ", jpeg %d %s", d->jpeg, d->full_chroma ? "4:4:4" : "4:2:0");
    char all[96];
    snprintf(all, sizeof all, "%s%s%s", blur, noise, jpeg);
    const int n = snprintf(dst, cap, "%s", *all ? all + 2 : "clean");
    return n < 0 ? 0 : (size_t)n;
}

// ---- blur

// A rectangle [x0, x1) x [y0, y1).
typedef struct area {
    int x0, y0, x1, y1;
} area;

static int area_w(area a)
{
    return a.x1 - a.x0;
}

static int area_h(area a)
{
    return a.y1 - a.y0;
}

static area area_grow(area a, int by)
{
    return (area){a.x0 - by, a.y0 - by, a.x1 + by, a.y1 + by};
}

static int at_least(int a, int b)
{
    return a > b ? a : b;
}

static int at_most(int a, int b)
{
    return a < b ? a : b;
}

static area area_clip(area a, int w, int h)
{
    return (area){at_least(a.x0, 0), at_least(a.y0, 0), at_most(a.x1, w), at_most(a.y1, h)};
}

// Which pixel stands at position i of an axis of n that goes on beyond its ends: the last one, or the mirrored ones.
static int beyond(int i, int n, yd_reduction how)
{
    if (how == YD_REDUCE_PILLOW8) return i < 0 ? 0 : i >= n ? n - 1 : i;
    const int period = 2 * n, at = (i % period + period) % period;
    return at < n ? at : period - 1 - at;
}

static void cut_out(const uint8_t *rgb, int w, int h, area a, yd_reduction how, uint8_t *dst)
{
    for (int y = a.y0; y < a.y1; y++) {
        const uint8_t *row = rgb + (size_t)beyond(y, h, how) * (size_t)w * 3;
        for (int x = a.x0; x < a.x1; x++, dst += 3) memcpy(dst, row + (size_t)beyond(x, w, how) * 3, 3);
    }
}

// A Gaussian of 2*radius+1 whole-number weights with sum 2^14.
typedef struct gauss {
    int radius;
    uint32_t weight[2 * MAX_RADIUS + 1];
} gauss;

static void gauss_make(double sigma, gauss *g)
{
    double values[2 * MAX_RADIUS + 1], sum = 0;
    g->radius = at_most((int)ceil(3 * sigma), MAX_RADIUS);
    for (int i = 0; i <= 2 * g->radius; i++) {
        const int from = i - g->radius;
        sum += values[i] = exp(-0.5 * from * from / fmax(sigma * sigma, 1e-9));
    }
    uint32_t others = 0;
    for (int i = 0; i <= 2 * g->radius; i++) {
        g->weight[i] = (uint32_t)(values[i] / sum * 16384.0 + 0.5);
        if (i != g->radius) others += g->weight[i];
    }
    g->weight[g->radius] = 16384 - others;
}

// Rows: bytes to 1/256 of a step. src has n + 2*radius*3 bytes.
YD_SIMD static void blur_row(const uint8_t *restrict src, const gauss *g, uint32_t *restrict acc, uint16_t *restrict dst,
                             size_t n)
{
    memset(acc, 0, n * sizeof *acc);
    for (int k = 0; k <= 2 * g->radius; k++) {
        const uint32_t weight = g->weight[k];
        const uint8_t *from = src + 3 * (size_t)k;
        for (size_t i = 0; i < n; i++) acc[i] += weight * from[i];
    }
    for (size_t i = 0; i < n; i++) dst[i] = (uint16_t)((acc[i] + 32) >> 6);
}

// Columns: 2*radius+1 rows of n into one row of bytes.
YD_SIMD static void blur_column(const uint16_t *restrict src, const gauss *g, uint32_t *restrict acc, uint8_t *restrict dst,
                                size_t n)
{
    memset(acc, 0, n * sizeof *acc);
    for (int k = 0; k <= 2 * g->radius; k++) {
        const uint32_t weight = g->weight[k];
        const uint16_t *from = src + (size_t)k * n;
        for (size_t i = 0; i < n; i++) acc[i] += weight * from[i];
    }
    for (size_t i = 0; i < n; i++) dst[i] = (uint8_t)((acc[i] + (1u << 21)) >> 22);
}

// src: the area grown by the radius on each side; dst: w x h.
static int blur(const uint8_t *src, int w, int h, const gauss *g, uint8_t *dst, yd_err *err)
{
    const size_t n = (size_t)w * 3, src_n = (size_t)(w + 2 * g->radius) * 3, rows = (size_t)(h + 2 * g->radius);
    uint16_t *mid = yd_malloc(rows * n * sizeof *mid);
    uint32_t *acc = yd_malloc(n * sizeof *acc);
    const int ok = mid && acc;
    for (size_t y = 0; ok && y < rows; y++) blur_row(src + y * src_n, g, acc, mid + y * n, n);
    for (size_t y = 0; ok && y < (size_t)h; y++) blur_column(mid + y * n, g, acc, dst + y * n, n);
    yd_free(mid);
    yd_free(acc);
    return ok ? 0 : yd_fail(err, YD_E_NOMEM, "out of memory for blurring %d x %d pixels", w, h);
}

// ---- reduction

static int reduce_exact(const uint8_t *src, int w, int h, uint8_t *dst, int dw, int dh, yd_err *err)
{
    const size_t n = (size_t)w * (size_t)h * 3, dn = (size_t)dw * (size_t)dh * 3;
    uint16_t *wide = yd_malloc(n * sizeof *wide), *out = yd_malloc(dn * sizeof *out);
    int rc = wide && out ? 0 : yd_fail(err, YD_E_NOMEM, "out of memory for reducing %d x %d pixels", w, h);
    for (size_t i = 0; !rc && i < n; i++) wide[i] = (uint16_t)(src[i] * 257u);
    if (!rc) rc = yd_resize_bicubic_u16(wide, w, h, 3, out, dw, dh, err);
    for (size_t i = 0; !rc && i < dn; i++) dst[i] = (uint8_t)((out[i] * 255u + 32767u) / 65535u);
    yd_free(wide);
    yd_free(out);
    return rc;
}

// The LR pixels of `want`, blurred and reduced. dst has their bytes.
static int reduce(const uint8_t *hr, int w, int h, int scale, const yd_degradation *d, area want, uint8_t *dst, yd_err *err)
{
    area lr = area_grow(want, KERNEL_REACH);
    if (d->reduction == YD_REDUCE_PILLOW8) lr = area_clip(lr, w / scale, h / scale);
    const area fine = {lr.x0 * scale, lr.y0 * scale, lr.x1 * scale, lr.y1 * scale};
    const int fw = area_w(fine), fh = area_h(fine), lw = area_w(lr), lh = area_h(lr);
    gauss g = {0};
    if (d->blur > 0) gauss_make(d->blur, &g);
    const area reach = area_grow(fine, g.radius);
    uint8_t *from = yd_malloc((size_t)area_w(reach) * (size_t)area_h(reach) * 3);
    uint8_t *soft = g.radius ? yd_malloc((size_t)fw * (size_t)fh * 3) : NULL;
    uint8_t *small = yd_malloc((size_t)lw * (size_t)lh * 3);
    int rc = from && small && (soft || !g.radius) ? 0 : yd_fail(err, YD_E_NOMEM, "out of memory for reducing %d x %d pixels", fw, fh);
    if (rc) goto done;
    cut_out(hr, w, h, reach, d->reduction, from);
    if (g.radius) rc = blur(from, fw, fh, &g, soft, err);
    const uint8_t *sharp_or_soft = g.radius ? soft : from;
    if (!rc) rc = d->reduction == YD_REDUCE_PILLOW8 ? yd_resize_bicubic_u8(sharp_or_soft, fw, fh, 3, small, lw, lh, err)
                                                    : reduce_exact(sharp_or_soft, fw, fh, small, lw, lh, err);
    const size_t row = (size_t)area_w(want) * 3;
    for (int y = 0; !rc && y < area_h(want); y++)
        memcpy(dst + (size_t)y * row,
               small + ((size_t)(y + want.y0 - lr.y0) * (size_t)lw + (size_t)(want.x0 - lr.x0)) * 3, row);
done:
    yd_free(from);
    yd_free(soft);
    yd_free(small);
    return rc;
}

// ---- noise

// Variance sigma^2 * ((1 - shot) + shot * value / 128): read noise, and photon noise that grows with the light.
static int add_noise(uint8_t *rgb, area a, const yd_degradation *d, yd_err *err)
{
    const int n = area_w(a);
    float *normals = yd_malloc((size_t)n * 3 * sizeof *normals);
    if (!normals) return yd_fail(err, YD_E_NOMEM, "out of memory for a row of noise");
    float amplitude[256];
    for (int v = 0; v < 256; v++) amplitude[v] = (float)(d->noise * sqrt(1 - d->shot + d->shot * v / 128.0));
    for (int y = a.y0; y < a.y1; y++) {
        yd_rng_row(d->noise_seed, 0, (uint32_t)y, (uint32_t)a.x0, n, 3, normals);
        for (int i = 0; i < 3 * n; i++, rgb++) {
            const float v = (float)*rgb + amplitude[*rgb] * normals[d->grey_noise ? i - i % 3 : i];
            *rgb = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : (int)(v + 0.5f));
        }
    }
    yd_free(normals);
    return 0;
}

// ---- the whole

// The JPEG units that decide the pixels of `a`, inside the picture.
static area whole_units(area a, const yd_degradation *d, int w, int h)
{
    const int unit = YD_JPEG_UNIT;
    const area r = area_clip(area_grow(a, CHROMA_REACH), w, h);
    const area grid = {(r.x0 + d->phase_x) / unit * unit - d->phase_x, (r.y0 + d->phase_y) / unit * unit - d->phase_y,
                       (r.x1 + d->phase_x + unit - 1) / unit * unit - d->phase_x,
                       (r.y1 + d->phase_y + unit - 1) / unit * unit - d->phase_y};
    return area_clip(grid, w, h);
}

int yd_degrade_patch(const uint8_t *hr, int w, int h, int scale, const yd_degradation *d, int x, int y, int pw, int ph,
                     uint8_t *lr, yd_err *err)
{
    if (scale < 1 || scale > MAX_SCALE || w < scale || h < scale || w % scale || h % scale)
        return yd_fail(err, YD_E_INVALID, "a picture of %d x %d cannot be reduced by %d: both sides must be multiples", w, h, scale);
    if (x < 0 || y < 0 || pw < 1 || ph < 1 || pw > w / scale - x || ph > h / scale - y)
        return yd_fail(err, YD_E_INVALID, "a part of %d x %d at (%d, %d) is not inside %d x %d", pw, ph, x, y, w / scale, h / scale);
    const area want = {x, y, x + pw, y + ph};
    const area made = d->jpeg ? whole_units(want, d, w / scale, h / scale) : want;
    const int mw = area_w(made), mh = area_h(made);
    uint8_t *part = yd_malloc((size_t)mw * (size_t)mh * 3);
    if (!part) return yd_fail(err, YD_E_NOMEM, "out of memory for a part of %d x %d", mw, mh);
    int rc = reduce(hr, w, h, scale, d, made, part, err);
    if (!rc && d->noise > 0) rc = add_noise(part, made, d, err);
    if (!rc && d->jpeg)
        rc = yd_jpeg_loss(part, mw, mh, d->jpeg, d->full_chroma, (made.x0 + d->phase_x) % YD_JPEG_UNIT,
                          (made.y0 + d->phase_y) % YD_JPEG_UNIT, err);
    for (int row = 0; !rc && row < ph; row++)
        memcpy(lr + (size_t)row * (size_t)pw * 3, part + ((size_t)(row + y - made.y0) * (size_t)mw + (size_t)(x - made.x0)) * 3,
               (size_t)pw * 3);
    yd_free(part);
    return rc;
}

int yd_degrade_apply(const uint8_t *hr, int w, int h, int scale, const yd_degradation *d, uint8_t *lr, yd_err *err)
{
    return yd_degrade_patch(hr, w, h, scale, d, 0, 0, scale > 0 ? w / scale : 0, scale > 0 ? h / scale : 0, lr, err);
}
