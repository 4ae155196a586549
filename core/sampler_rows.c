// Loops of the sampler over runs of pixels; see sampler_rows.h.
//
// A block of pixels at a time: what there is once per pixel (activation, weight) is first spread over the three channels, then every
// loop runs over 3*BLOCK values without a branch, which the compiler turns into vectors. Read next: core/sampler.c.
#include "core/sampler_rows.h"

#include "core/simd.h"

#include <stddef.h>
#include <string.h>

#define BLOCK 64 // pixels
#define INLINE static inline __attribute__((always_inline))

static const float round_to_integer = 12582912.0f; // 1.5 * 2^23: added, it leaves an integer in the low bits, halves to even

// The product with the reciprocal is the quotient once rounded to float, for each of the 65536 values.
INLINE float condition(uint16_t v)
{
    return (float)((double)v * (1.0 / 65535.0) * 2.0 - 1.0);
}

INLINE uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

INLINE uint8_t to_byte(float v)
{
    v = v < -1.0f ? -1.0f : v;
    v = v > 1.0f ? 1.0f : v;
    return (uint8_t)bits_of((v + 1.0f) * 127.5f + round_to_integer);
}

// mask[3*x + c] = all ones where from <= a[x] <= to.
INLINE void spread_mask(const uint16_t *a, int from, int to, int n, uint32_t mask[3 * BLOCK])
{
    for (int x = 0; x < n; x++) {
        const uint32_t on = (a[x] >= from) & (a[x] <= to) ? 0xffffffffu : 0;
        mask[3 * x] = on;
        mask[3 * x + 1] = on;
        mask[3 * x + 2] = on;
    }
}

// One of two floats by a mask, on their bits: what is not chosen may be anything.
INLINE float choose(uint32_t mask, float yes, float no)
{
    const uint32_t u = (bits_of(yes) & mask) | (bits_of(no) & ~mask);
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}

YD_SIMD void yd_rows_condition(const uint16_t *up, int n, float *out)
{
    for (int i = 0; i < n; i++) out[i] = condition(up[i]);
}

YD_SIMD void yd_rows_gather(const uint16_t *up, const float *cond, const float *z, const uint16_t *a, int from, int n, float *x)
{
    for (int at = 0; at < n; at += BLOCK) {
        const int count = n - at < BLOCK ? n - at : BLOCK;
        float low[3 * BLOCK], high[3 * BLOCK];
        uint32_t mask[3 * BLOCK];
        spread_mask(a + at, from, UINT16_MAX, count, mask);
        for (int i = 0; i < 3 * count; i++) high[i] = choose(mask[i], z[3 * at + i], 0.0f);
        if (cond)
            memcpy(low, cond + 3 * at, sizeof(float) * 3 * (size_t)count);
        else
            for (int i = 0; i < 3 * count; i++) low[i] = condition(up[3 * at + i]);
        for (int p = 0; p < count; p++, x += 6) {
            memcpy(x, low + 3 * p, 3 * sizeof *x);
            memcpy(x + 3, high + 3 * p, 3 * sizeof *x);
        }
    }
}

YD_SIMD void yd_rows_gather_z(const float *z, const uint16_t *a, int from, int n, float *x)
{
    for (int at = 0; at < n; at += BLOCK) {
        const int count = n - at < BLOCK ? n - at : BLOCK;
        uint32_t mask[3 * BLOCK];
        spread_mask(a + at, from, UINT16_MAX, count, mask);
        for (int i = 0; i < 3 * count; i++) x[3 * at + i] = choose(mask[i], z[3 * at + i], 0.0f);
    }
}

YD_SIMD void yd_rows_show_rest(const uint16_t *a, int from, float on_mean, float on_noise, int residual, const float *noise, int n, int channels, float *x)
{
    for (int p = 0; p < n; p++, x += channels, noise += 3)
        for (int c = 0; c < 3 && a[p] < from; c++) x[channels - 3 + c] = on_mean * (residual ? 0.0f : x[c]) + on_noise * noise[c];
}

YD_SIMD int yd_rows_blend(float *acc, const float *pred, float wy, const float *wx, int n)
{
    uint32_t bad = 0;
    for (int at = 0; at < n; at += BLOCK) {
        const int count = n - at < BLOCK ? n - at : BLOCK;
        float weight[3 * BLOCK], *restrict to = acc + 3 * at;
        const float *restrict from = pred + 3 * at;
        for (int x = 0; x < count; x++) weight[3 * x] = weight[3 * x + 1] = weight[3 * x + 2] = wy * wx[at + x];
        for (int i = 0; i < 3 * count; i++) {
            bad |= (bits_of(from[i]) & 0x7f800000u) == 0x7f800000u;
            to[i] += weight[i] * from[i];
        }
    }
    return bad ? -1 : 0;
}

INLINE void update_block(const yd_step_coefs *k, const uint32_t *mask, const float *cond, const float *restrict pred, const float *noise,
                         int n, float *restrict z, uint8_t *restrict shown, int clip, int noisy, int residual)
{
    for (int i = 0; i < n; i++) {
        float x0 = k->x0_z * z[i] + k->x0_pred * pred[i];
        if (clip) {
            x0 = x0 < -k->clip ? -k->clip : x0;
            x0 = x0 > k->clip ? k->clip : x0;
        }
        float next = k->z_x0 * x0 + k->z_z * z[i];
        if (noisy) next = next + k->sigma * noise[i];
        const uint8_t byte = to_byte(residual ? cond[i] + x0 * k->unscale : x0);
        shown[i] = mask[i] ? byte : shown[i];
        z[i] = choose(mask[i], next, z[i]);
    }
}

// What the network says of x0.
INLINE void predict(const yd_step_coefs *k, const float *pred, const float *z, int n, float *restrict x0)
{
    for (int i = 0; i < n; i++) {
        float now = k->x0_z * z[i] + k->x0_pred * pred[i];
        if (k->clip > 0.0f) {
            now = now < -k->clip ? -k->clip : now;
            now = now > k->clip ? k->clip : now;
        }
        x0[i] = now;
    }
}

// x0 becomes what a second-order step takes in its place: the line through the step before and this one, followed on.
// (DPM-Solver++(2M), Lu et al. 2022, Eq. 5.)
INLINE void look_ahead(const yd_step_coefs *k, const uint32_t *mask, const uint32_t *older, int n, float *restrict before, float *restrict x0)
{
    for (int i = 0; i < n; i++) {
        const float now = x0[i], was = choose(older[i], before[i], now);
        x0[i] = now + k->ahead * (now - was);
        before[i] = choose(mask[i], now, before[i]);
    }
}

// Keep a pixel's first prediction; what is shown is mixed with it.
INLINE void mix_first(const yd_step_coefs *k, const uint32_t *mask, const uint32_t *older, int n, float *restrict first, float *restrict seen)
{
    for (int i = 0; i < n; i++) {
        first[i] = choose(mask[i] & ~older[i], seen[i], first[i]);
        seen[i] = yd_rows_mix(k->first, seen[i], first[i]);
    }
}

// update_block for what looks at other steps' predictions too. What is shown is this step's, not what it looks ahead to.
INLINE void update_block_2(const yd_step_coefs *k, const uint32_t *mask, const uint32_t *older, const float *cond, const float *pred,
                           const float *noise, int n, float *before, float *first, float *restrict z, uint8_t *restrict shown)
{
    float x0[3 * BLOCK], seen[3 * BLOCK];
    predict(k, pred, z, n, x0);
    memcpy(seen, x0, sizeof(float) * (size_t)n);
    if (before) look_ahead(k, mask, older, n, before, x0);
    if (first) mix_first(k, mask, older, n, first, seen);
    for (int i = 0; i < n; i++) {
        float next = k->z_x0 * x0[i] + k->z_z * z[i];
        if (noise) next = next + k->sigma * noise[i];
        const uint8_t byte = to_byte(cond ? cond[i] + seen[i] * k->unscale : seen[i]);
        shown[i] = mask[i] ? byte : shown[i];
        z[i] = choose(mask[i], next, z[i]);
    }
}

YD_SIMD void yd_rows_update(const yd_step_coefs *k, const uint16_t *a, const float *cond, const float *pred, const float *noise, int n,
                            float *before, float *first, float *z, uint8_t *shown)
{
    const int clip = k->clip > 0.0f, noisy = k->sigma > 0.0f, residual = k->unscale != 0.0f;
    for (int at = 0; at < n; at += BLOCK) {
        const int count = n - at < BLOCK ? n - at : BLOCK, i = 3 * at;
        uint32_t mask[3 * BLOCK];
        spread_mask(a + at, k->from, k->to, count, mask);
        const float *c = residual ? cond + i : NULL, *e = noisy ? noise + i : NULL;
        if (before || first) {
            uint32_t older[3 * BLOCK];
            spread_mask(a + at, k->older, UINT16_MAX, count, older);
            update_block_2(k, mask, older, c, pred + i, e, 3 * count, before ? before + i : NULL, first ? first + i : NULL, z + i, shown + i);
        } else if (clip && noisy && residual)
            update_block(k, mask, c, pred + i, e, 3 * count, z + i, shown + i, 1, 1, 1);
        else if (clip && residual)
            update_block(k, mask, c, pred + i, e, 3 * count, z + i, shown + i, 1, 0, 1);
        else if (clip && noisy)
            update_block(k, mask, c, pred + i, e, 3 * count, z + i, shown + i, 1, 1, 0);
        else
            update_block(k, mask, c, pred + i, e, 3 * count, z + i, shown + i, clip, noisy, residual);
    }
}

YD_SIMD void yd_rows_switch_on(const uint16_t *a, int from, int to, float on_mean, float on_noise, const float *mean, const float *noise,
                               int n, float *z)
{
    for (int x = 0; x < n; x++) {
        if (a[x] < from || a[x] > to) continue;
        for (int c = 3 * x; c < 3 * x + 3; c++) z[c] = on_mean * (mean ? mean[c] : 0.0f) + on_noise * noise[c];
    }
}
