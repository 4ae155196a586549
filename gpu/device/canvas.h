// The sampler's work on a canvas that the device holds: windows cut out, predictions put back, the YODA update with its noise, one thread
// for each pixel. Bit for bit what core/sampler.c, sampler_rows.c and rng.c do on the host: products and sums round one by one (num.h).
//
// Putting back adds up windows that overlap, in window order and without atomics: of the units of one canvas in a batch, the first that
// has a pixel adds to it for all of them. Read next: core/canvas.h.
#ifndef YD_GPU_DEVICE_CANVAS_H
#define YD_GPU_DEVICE_CANVAS_H

#include "core/canvas.h"
#include "gpu/device/map.h"

// The draw of (seed, step, x, y) for three channels (core/rng.c).
static YD_HD void yd_pixel_noise(uint64_t seed, int step, int x, int y, float n[3])
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t w[4] = {(uint32_t)x, (uint32_t)y, (uint32_t)step, 0};
    float rest;
    yd_philox_words(w, key);
    yd_normal_pair(w[0], w[1], &n[0], &n[1]);
    yd_normal_pair(w[2], w[3], &n[2], &rest);
}

static YD_HD float yd_pixel_condition(const yd_canvas *c, size_t i)
{
    if (c->cond) return c->cond[i];
#ifdef __CUDA_ARCH__
    return (float)__dadd_rn(__dmul_rn(__dmul_rn((double)c->up[i], 1.0 / 65535.0), 2.0), -1.0);
#else
    return (float)((double)c->up[i] * (1.0 / 65535.0) * 2.0 - 1.0);
#endif
}

// share*v + noise*n
static YD_HD float yd_mixed(float share, float v, float noise, float n)
{
    return yd_add(yd_mul(share, v), yd_mul(noise, n));
}

// ---- cutting out ----

typedef struct yd_gather_args {
    const yd_canvas_unit *units;
    yd_gpu_map x;
    float *level;
} yd_gather_args;

// Mirror an index into 0..n-1 without repeating the border.
static YD_HD int yd_mirror(int i, int n)
{
    const int period = 2 * (n - 1);
    if (n == 1) return 0;
    i %= period;
    return i < n ? i : period - i;
}

// The network's input of canvas pixel (x, y): channels values.
static YD_HD void yd_shown_to_network(const yd_canvas_unit *u, int x, int y, int beyond, float v[6])
{
    const yd_canvas *c = &u->canvas;
    const size_t p = (size_t)y * (size_t)c->w + (size_t)x;
    const int on = !beyond && c->a[p] >= u->from, at = c->channels - 3;
    float noise[3] = {0.0f, 0.0f, 0.0f};
    if (!on && c->rest_shown) yd_pixel_noise(c->seed, u->step, x, y, noise);
    for (int k = 0; k < 3; k++) {
        float mean = 0.0f, z = 0.0f;
        if (at) mean = v[k] = yd_pixel_condition(c, 3 * p + (size_t)k);
        if (on)
            z = c->z[3 * p + (size_t)k];
        else if (c->rest_shown)
            z = yd_mixed(u->rest_mean, c->residual ? 0.0f : mean, u->rest_noise, noise[k]);
        v[at + k] = z;
    }
}

// Item: a pixel of a window of the batch.
static YD_HD void yd_gather_item(const yd_gather_args *a, uint32_t i, int vec)
{
    uint32_t sample;
    int dy, dx;
    float v[6];
    yd_split_pixel(&a->x, i, &sample, &dy, &dx);
    const yd_canvas_unit *u = &a->units[sample];
    (void)vec;
    if (!u->canvas.z) return;
    const int y = u->y + dy, x = u->x + dx, beyond = y >= u->canvas.h || x >= u->canvas.w;
    yd_shown_to_network(u, yd_mirror(x, u->canvas.w), yd_mirror(y, u->canvas.h), beyond, v);
    for (int k = 0; k < a->x.padded; k++)
        yd_put(a->x.data, yd_at_pixel(&a->x, i, k), yd_is_bf16_map(&a->x), k < a->x.c && k < 6 ? v[k] : 0.0f);
    if (dy == 0 && dx == 0) a->level[sample] = u->level;
}

// ---- putting back ----

typedef struct yd_scatter_args {
    const yd_canvas_unit *units;
    yd_gpu_map pred;
    int *bad;
    int n;
} yd_scatter_args;

// Canvas pixel (x, y) in window coordinates of unit u; 0 when the unit is another canvas's or does not have it.
static YD_HD int yd_unit_has(const yd_canvas_unit *u, const yd_canvas *c, int x, int y)
{
    return u->canvas.z == c->z && x >= u->x && y >= u->y && x < u->x + c->window_w && y < u->y + c->window_h;
}

// What unit `sample` has for channel k of canvas pixel (x, y), weighted.
static YD_HD float yd_weighted(const yd_scatter_args *a, int sample, int x, int y, int k)
{
    const yd_canvas_unit *u = &a->units[sample];
    const yd_canvas *c = &u->canvas;
    const int dx = x - u->x, dy = y - u->y;
    const float wx = c->weight_x[(size_t)(u->window % c->windows_x) * (size_t)c->window_w + (size_t)dx];
    const float wy = c->weight_y[(size_t)(u->window / c->windows_x) * (size_t)c->window_h + (size_t)dy];
    const float pred =
        yd_get(a->pred.data, yd_at_pixel(&a->pred, yd_pixel_at(&a->pred, (uint32_t)sample, dy, dx), k), yd_is_bf16_map(&a->pred));
    return yd_mul(yd_mul(wy, wx), pred);
}

// Item: a pixel of a window of the batch.
static YD_HD void yd_scatter_item(const yd_scatter_args *a, uint32_t i, int vec)
{
    uint32_t sample;
    int dy, dx, bad = 0;
    yd_split_pixel(&a->pred, i, &sample, &dy, &dx);
    const yd_canvas_unit *u = &a->units[sample];
    const yd_canvas *c = &u->canvas;
    const int x = u->x + dx, y = u->y + dy;
    (void)vec;
    if (!c->z || x >= c->w || y >= c->h) return;
    for (int k = 0; k < 3; k++) bad |= !yd_finite(yd_get(a->pred.data, yd_at_pixel(&a->pred, i, k), yd_is_bf16_map(&a->pred)));
    if (bad) a->bad[sample] = 1; // whoever finds one writes the same
    for (uint32_t j = 0; j < sample; j++)
        if (yd_unit_has(&a->units[j], c, x, y)) return; // an earlier one adds for all
    for (int k = 0; k < 3; k++) {
        float *acc = c->acc + ((size_t)y * (size_t)c->w + (size_t)x) * 3 + k, sum = *acc;
        for (int j = (int)sample; j < a->n; j++)
            if (yd_unit_has(&a->units[j], c, x, y)) sum = yd_add(sum, yd_weighted(a, j, x, y, k));
        *acc = sum;
    }
}

// ---- the step ----

typedef struct yd_canvas_step_args {
    yd_canvas canvas;
    yd_canvas_step step;
} yd_canvas_step_args;

// [-1,1] as a byte, halves to even (sampler_rows.c).
static YD_HD uint8_t yd_byte_of(float v)
{
    v = v < -1.0f ? -1.0f : v;
    v = v > 1.0f ? 1.0f : v;
    return (uint8_t)yd_bits_of(yd_add(yd_mul(yd_add(v, 1.0f), 127.5f), 12582912.0f));
}

static YD_HD float yd_clamped(float v, float limit)
{
    if (limit > 0.0f) {
        v = v < -limit ? -limit : v;
        v = v > limit ? limit : v;
    }
    return v;
}

// One value of a pixel that takes the step.
static YD_HD void yd_value_step(const yd_canvas *c, const yd_step_coefs *k, size_t i, int older, float noise)
{
    const float z = c->z[i], now = yd_clamped(yd_mixed(k->x0_z, z, k->x0_pred, c->acc[i]), k->clip);
    float x0 = now, seen = now;
    if (c->before) { // the line through the step before and this one, followed on
        const float was = older ? c->before[i] : now;
        x0 = yd_add(now, yd_mul(k->ahead, yd_add(now, -was)));
        c->before[i] = now;
    }
    if (c->first) {
        if (!older) c->first[i] = seen;
        seen = yd_add(yd_mul(yd_add(1.0f, -k->first), seen), yd_mul(k->first, c->first[i]));
    }
    float next = yd_mixed(k->z_x0, x0, k->z_z, z);
    if (k->sigma > 0.0f) next = yd_add(next, yd_mul(k->sigma, noise));
    c->shown[i] = yd_byte_of(k->unscale != 0.0f ? yd_add(yd_pixel_condition(c, i), yd_mul(seen, k->unscale)) : seen);
    c->z[i] = next;
}

// Item: a pixel of the canvas.
static YD_HD void yd_canvas_step_item(const yd_canvas_step_args *s, uint32_t p, int vec)
{
    const yd_canvas *c = &s->canvas;
    const int a = c->a[p], x = (int)(p % (uint32_t)c->w), y = (int)(p / (uint32_t)c->w);
    (void)vec;
    for (int m = 0; m < s->step.n; m++) {
        const yd_step_coefs *k = &s->step.coefs[m];
        const int takes = a >= k->from && a <= k->to, comes = s->step.late && !k->last && a == s->step.next[m];
        float noise[3] = {0.0f, 0.0f, 0.0f};
        if (!takes && !comes) continue;
        if (!k->last && (comes || k->sigma > 0.0f)) yd_pixel_noise(c->seed, s->step.next[m], x, y, noise);
        for (size_t i = 3 * (size_t)p; i < 3 * (size_t)p + 3; i++) {
            const float n = noise[i - 3 * (size_t)p];
            if (takes) yd_value_step(c, k, i, a >= k->older, n);
            if (comes) c->z[i] = yd_mixed(k->on_mean, k->unscale != 0.0f ? 0.0f : yd_pixel_condition(c, i), k->on_noise, n);
        }
    }
    for (size_t i = 3 * (size_t)p; i < 3 * (size_t)p + 3; i++) c->acc[i] = 0.0f;
}

// ---- the field of noise by itself ----

typedef struct yd_noise_args {
    uint64_t seed;
    int step, w;
    float *out; // [h][w][3]
} yd_noise_args;

static YD_HD void yd_noise_item(const yd_noise_args *a, uint32_t p, int vec)
{
    (void)vec;
    yd_pixel_noise(a->seed, a->step, (int)(p % (uint32_t)a->w), (int)(p / (uint32_t)a->w), a->out + 3 * (size_t)p);
}

#endif
