// Shapes, what they are filled with, and strokes, onto the fine canvas. See synth.h.
//
// A shape says how deep inside it a point is, in pixels; the edge is that depth over its softness. A fill says which colour stands at a
// point. Both are plain functions of the point, and painting is a loop over the shape's bounding box.
// Owns nothing; cannot fail. What lies outside the canvas is left out.
// Read next: core/train/synth_scene.c
#include "core/train/synth.h"

#include <math.h>

static float clamp01(float v)
{
    return v < 0 ? 0 : v > 1 ? 1 : v;
}

float yd_synth_wave(float t)
{
    t -= floorf(t);                                     // one turn
    const float x = t < 0.5f ? 4 * t - 1 : 3 - 4 * t;   // a quarter turn is 1; falls and rises linearly from -1 at 0
    const float q = 1 - x * x;                          // a parabola per half turn ...
    const float bow = q * (0.7759f + 0.2241f * q);      // ... bent towards the sine
    return t < 0.5f ? bow : -bow;
}

// ---- noise

static uint32_t hash(uint32_t x, uint32_t y, uint32_t key)
{
    uint32_t h = x * 0x9e3779b1u ^ y * 0x85ebca77u ^ key * 0xc2b2ae3du;
    h = (h ^ h >> 15) * 0x2c1b3c6du;
    h = (h ^ h >> 12) * 0x297a2d39u;
    return h ^ h >> 15;
}

static float lattice(int x, int y, uint32_t key)
{
    return (float)(hash((uint32_t)x, (uint32_t)y, key) >> 8) * 0x1p-23f - 1.0f;
}

// Values at whole numbers, smoothly between: -1..1.
static float value_noise(float x, float y, uint32_t key)
{
    const float fx = floorf(x), fy = floorf(y);
    float u = x - fx, v = y - fy;
    const int ix = (int)fx, iy = (int)fy;
    u = u * u * (3 - 2 * u);
    v = v * v * (3 - 2 * v);
    const float top = lattice(ix, iy, key) * (1 - u) + lattice(ix + 1, iy, key) * u;
    const float bottom = lattice(ix, iy + 1, key) * (1 - u) + lattice(ix + 1, iy + 1, key) * u;
    return top * (1 - v) + bottom * v;
}

static float clouds(float x, float y, uint32_t key)
{
    float sum = 0, weight = 0.55f;
    for (uint32_t octave = 0; octave < 6; octave++) {
        sum += weight * value_noise(x, y, key + octave);
        x = 2 * x + 17;
        y = 2 * y + 31;
        weight *= 0.65f;
    }
    return sum;
}

// ---- fills

// Two levels with an edge that is one fine pixel wide.
static float two_levels(float wave, float period)
{
    const float v = wave * period * 0.16f;
    return v < -1 ? -1 : v > 1 ? 1 : v;
}

// Mortar is -1. Every other row is moved by half a brick.
static float bricks(float u, float v, float period)
{
    const float row = floorf(v), along = u * 0.5f + (row - 2 * floorf(row * 0.5f) > 0.5f ? 0.5f : 0.0f);
    const float du = 2 * (along - floorf(along)), dv = v - row; // in bricks' heights
    const float from_edge = fminf(fminf(du, 2 - du), fminf(dv, 1 - dv)) - 0.07f;
    return 2 * clamp01(0.5f + from_edge * period) - 1;
}

static float texture_at(const yd_synth_fill *f, float x, float y)
{
    const float away = 1.0f / (1.0f + f->tilt * y);
    const float scale = away / f->period, u = (x * f->dir[0] + y * f->dir[1]) * scale, v = (y * f->dir[0] - x * f->dir[1]) * scale;
    const float period = f->period / away;
    float t;
    switch (f->texture) {
    case YD_TEXTURE_GRATING: t = yd_synth_wave(u); break;
    case YD_TEXTURE_STRIPES: t = two_levels(yd_synth_wave(u), period); break;
    case YD_TEXTURE_CHECKS: t = two_levels(yd_synth_wave(u), period) * two_levels(yd_synth_wave(v), period); break;
    case YD_TEXTURE_BRICKS: t = bricks(u, v, period); break;
    case YD_TEXTURE_DOTS: t = two_levels(yd_synth_wave(u) + yd_synth_wave(v) - 0.6f, period); break;
    case YD_TEXTURE_CLOUDS: t = clouds(u, v, f->key); break;
    case YD_TEXTURE_GRAIN: t = value_noise(x * 0.5f, y * 0.5f, f->key); break;
    case YD_TEXTURE_WOOD: t = yd_synth_wave(u + 1.5f * value_noise(u * 0.3f, v * 0.12f, f->key)); break;
    default: t = 0; break;
    }
    // finer than the picture's pixels can show: fade instead of turning into another pattern
    const float fade = f->texture == YD_TEXTURE_GRAIN || f->texture == YD_TEXTURE_CLOUDS ? 1.0f : clamp01((period - 3.0f) * 0.5f);
    return t * fade;
}

static void fill_at(const yd_synth_fill *f, float x, float y, float out[3])
{
    float at = 0;
    if (f->gradient > 0) at += f->gradient * clamp01(f->ramp[0] * x + f->ramp[1] * y + f->ramp_at);
    if (f->gradient < 1) at += (1 - f->gradient) * (0.5f + 0.5f * texture_at(f, x, y));
    at = clamp01(at); // clouds reach a little beyond
    for (int c = 0; c < 3; c++) out[c] = f->a[c] + (f->b[c] - f->a[c]) * at;
}

void yd_synth_plain(yd_synth_fill *fill, const float colour[3])
{
    *fill = (yd_synth_fill){.period = 8, .dir = {1, 0}, .gradient = 1};
    for (int c = 0; c < 3; c++) fill->a[c] = fill->b[c] = colour[c];
}

// ---- shapes

// How deep (x, y), relative to the centre, lies inside; pixels, negative outside.
static float depth(const yd_synth_shape *s, const float (*normals)[2], float x, float y)
{
    const float u = x * s->dir[0] + y * s->dir[1], v = (y * s->dir[0] - x * s->dir[1]) / s->ratio;
    switch (s->kind) {
    case YD_SHAPE_BOX: return fminf(s->r - fabsf(u), (s->r - fabsf(v)) * s->ratio);
    case YD_SHAPE_POLYGON: {
        float d = s->r;
        for (int i = 0; i < s->sides; i++) d = fminf(d, s->r * 0.8f - (u * normals[i][0] + v * normals[i][1]));
        return d * s->ratio;
    }
    case YD_SHAPE_BLOB: {
        const float wave = yd_synth_wave((0.6f * u + 0.3f * v) / s->r) + yd_synth_wave((0.9f * v - 0.4f * u) / s->r + 0.3f);
        return (s->r * (0.8f + 0.5f * s->wobble * wave) - sqrtf(u * u + v * v)) * s->ratio;
    }
    default: return (s->r - sqrtf(u * u + v * v)) * s->ratio;
    }
}

static int pixel_floor(float v, int side)
{
    return v < 0 ? 0 : v > (float)side ? side : (int)v;
}

static void blend(uint8_t *p, const float colour[3], float share)
{
    for (int c = 0; c < 3; c++) p[c] = (uint8_t)((float)p[c] + (colour[c] - (float)p[c]) * share + 0.5f);
}

enum { MAX_SIDES = 9 };

void yd_synth_paint(yd_synth *s, const yd_synth_shape *shape, const yd_synth_fill *fill)
{
    const float reach = shape->r * 1.45f + shape->soft; // a box's corner
    const int x0 = pixel_floor(shape->x - reach, s->side), x1 = pixel_floor(shape->x + reach + 1, s->side);
    const int y0 = pixel_floor(shape->y - reach, s->side), y1 = pixel_floor(shape->y + reach + 1, s->side);
    const int sides = shape->sides < MAX_SIDES ? shape->sides : MAX_SIDES;
    yd_synth_shape bounded = *shape;
    float normals[MAX_SIDES][2];
    bounded.sides = sides;
    for (int i = 0; i < sides; i++) {
        normals[i][0] = yd_synth_wave((float)i / (float)sides + 0.25f);
        normals[i][1] = yd_synth_wave((float)i / (float)sides);
    }
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const float share = clamp01(0.5f + depth(&bounded, normals, (float)x - shape->x, (float)y - shape->y) / shape->soft);
            float colour[3];
            if (share <= 0) continue;
            fill_at(fill, (float)x, (float)y, colour);
            blend(s->rgb + ((size_t)y * (size_t)s->side + (size_t)x) * 3, colour, share);
        }
}

void yd_synth_stroke(yd_synth *s, float x0, float y0, float x1, float y1, float width, const float colour[3])
{
    const float dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy, half = 0.5f * width;
    const int left = pixel_floor(fminf(x0, x1) - half - 1, s->side), right = pixel_floor(fmaxf(x0, x1) + half + 2, s->side);
    const int top = pixel_floor(fminf(y0, y1) - half - 1, s->side), bottom = pixel_floor(fmaxf(y0, y1) + half + 2, s->side);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) {
            const float px = (float)x - x0, py = (float)y - y0;
            const float along = square > 0 ? clamp01((px * dx + py * dy) / square) : 0;
            const float ex = px - along * dx, ey = py - along * dy;
            const float share = clamp01(half + 0.5f - sqrtf(ex * ex + ey * ey));
            if (share > 0) blend(s->rgb + ((size_t)y * (size_t)s->side + (size_t)x) * 3, colour, share);
        }
}

void yd_synth_rect(yd_synth *s, float x0, float y0, float x1, float y1, const float colour[3])
{
    const int left = pixel_floor(x0, s->side), right = pixel_floor(x1, s->side);
    const int top = pixel_floor(y0, s->side), bottom = pixel_floor(y1, s->side);
    for (int y = top; y < bottom; y++)
        for (int x = left; x < right; x++) blend(s->rgb + ((size_t)y * (size_t)s->side + (size_t)x) * 3, colour, 1.0f);
}
