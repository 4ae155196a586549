// The scenes of procedural pictures: see synth.h. Each fills the whole canvas; sizes are in fine pixels.
//
// Owns nothing; cannot fail; everything random comes from the picture's own stream.
// Read next: core/train/synth_paint.c
#include "core/train/synth.h"

#include <math.h>

static float side_of(const yd_synth *s)
{
    return (float)s->side;
}

// A ramp across the canvas between two of the palette's colours, with a texture of any kind and period.
static void any_fill(yd_synth *s, float plainness, yd_synth_fill *f)
{
    *f = (yd_synth_fill){.texture = YD_TEXTURE_PLAIN, .gradient = 1};
    yd_synth_colour(s, f->a);
    for (int c = 0; c < 3; c++) f->b[c] = f->a[c];
    yd_synth_direction(s, f->ramp);
    for (int i = 0; i < 2; i++) f->ramp[i] *= yd_synth_between(s, 0.5f, 4.0f) / side_of(s);
    f->ramp_at = yd_synth_between(s, -0.5f, 1.0f);
    yd_synth_direction(s, f->dir);
    f->period = yd_synth_size(s, 12, 120);
    f->key = (uint32_t)yd_synth_below(s, 1 << 24);
    if (yd_synth_chance(s, plainness)) return;
    yd_synth_colour(s, f->b);
    const float nearness = yd_synth_chance(s, 0.35f) ? 1.0f : yd_synth_between(s, 0.2f, 0.7f);
    for (int c = 0; c < 3; c++) f->b[c] = f->a[c] + (f->b[c] - f->a[c]) * nearness;
    if (yd_synth_chance(s, 0.35f)) return; // a gradient alone
    f->gradient = yd_synth_between(s, 0.0f, 0.6f);
    // nature has more clouds and grain than gratings
    f->texture = yd_synth_chance(s, 0.6f)    ? YD_TEXTURE_CLOUDS
                 : yd_synth_chance(s, 0.35f) ? YD_TEXTURE_GRAIN
                                             : (yd_synth_texture)(1 + yd_synth_below(s, YD_TEXTURES - 1));
}

static void background(yd_synth *s, const yd_synth_fill *f)
{
    const yd_synth_shape all = {.kind = YD_SHAPE_BOX, .x = side_of(s) / 2, .y = side_of(s) / 2, .r = side_of(s), .ratio = 1, .dir = {1, 0}, .soft = 1};
    yd_synth_paint(s, &all, f);
}

static void any_shape(yd_synth *s, float r, float soft, yd_synth_shape *shape)
{
    *shape = (yd_synth_shape){.kind = (yd_synth_kind)yd_synth_below(s, YD_SHAPES), .r = r};
    shape->x = yd_synth_between(s, 0, side_of(s));
    shape->y = yd_synth_between(s, 0, side_of(s));
    shape->ratio = yd_synth_chance(s, 0.25f) ? yd_synth_between(s, 0.06f, 0.4f) : yd_synth_between(s, 0.4f, 1.0f);
    yd_synth_direction(s, shape->dir);
    shape->sides = 3 + yd_synth_below(s, 5);
    shape->wobble = yd_synth_between(s, 0.1f, 0.4f);
    shape->soft = 1.0f + (yd_synth_chance(s, 0.3f) ? yd_synth_between(s, 0, soft) : 0.0f);
}

// The ramp runs over the shape itself, as light does over a thing.
static void light_across(yd_synth *s, const yd_synth_shape *shape, yd_synth_fill *f)
{
    float d[2];
    yd_synth_direction(s, d);
    for (int i = 0; i < 2; i++) f->ramp[i] = d[i] / (2 * shape->r);
    f->ramp_at = yd_synth_between(s, 0.2f, 0.8f) - f->ramp[0] * shape->x - f->ramp[1] * shape->y;
}

static void scatter(yd_synth *s, int count, float smallest, float largest, float plainness, float soft)
{
    for (int i = 0; i < count; i++) {
        yd_synth_shape shape;
        yd_synth_fill fill;
        any_shape(s, yd_synth_size(s, smallest, largest), soft, &shape);
        any_fill(s, plainness, &fill);
        light_across(s, &shape, &fill);
        yd_synth_paint(s, &shape, &fill);
    }
}

void yd_synth_leaves(yd_synth *s)
{
    yd_synth_fill fill;
    any_fill(s, 0.3f, &fill);
    background(s, &fill);
    const float smallest = yd_synth_chance(s, 0.5f) ? yd_synth_between(s, 4, 9) : yd_synth_between(s, 9, 24);
    const float area = side_of(s) * side_of(s) / (smallest * smallest);
    const int most = 6000, count = (int)(area * yd_synth_between(s, 0.1f, 0.6f));
    const float plainness = yd_synth_between(s, 0.05f, 0.45f), soft = yd_synth_chance(s, 0.5f) ? 4 : 16;
    scatter(s, count < most ? count : most, smallest, side_of(s) * 0.45f, plainness, soft);
}

// Blades: long thin leaves that lean much the same way, darker behind and lighter before.
static void blades(yd_synth *s)
{
    const int count = 300 + yd_synth_below(s, 2500);
    const float length = yd_synth_between(s, 12, 70), lean = yd_synth_between(s, 0.1f, 1.0f), ratio = yd_synth_between(s, 0.03f, 0.12f);
    float way[2], low[3], high[3];
    yd_synth_direction(s, way);
    yd_synth_colour(s, low);
    yd_synth_colour(s, high);
    for (int i = 0; i < count; i++) {
        yd_synth_shape shape;
        yd_synth_fill fill;
        any_shape(s, length * yd_synth_between(s, 0.4f, 1.3f), 0, &shape);
        shape.kind = YD_SHAPE_ELLIPSE;
        shape.ratio = ratio + 1.2f / shape.r;
        const float dx = way[0] + lean * shape.dir[0], dy = way[1] + lean * shape.dir[1], norm = dx * dx + dy * dy;
        if (norm > 0.01f) shape.dir[0] = dx / sqrtf(norm), shape.dir[1] = dy / sqrtf(norm);
        yd_synth_plain(&fill, low);
        const float before = (float)i / (float)count, to = before * yd_synth_between(s, 0.3f, 1.0f);
        for (int c = 0; c < 3; c++) fill.b[c] = low[c] + (high[c] - low[c]) * to;
        for (int c = 0; c < 3; c++) fill.a[c] = fill.b[c] * yd_synth_between(s, 0.5f, 1.0f);
        light_across(s, &shape, &fill);
        yd_synth_paint(s, &shape, &fill);
    }
}

// Stone, sand, bark, water, grass: areas with a rough texture of all sizes, and blades or pebbles on them.
void yd_synth_ground(yd_synth *s)
{
    const int areas = 1 + yd_synth_below(s, 5);
    for (int i = 0; i < areas; i++) {
        yd_synth_fill f;
        yd_synth_shape shape;
        any_fill(s, 0, &f);
        yd_synth_colour(s, f.b);
        f.texture = yd_synth_chance(s, 0.2f) ? YD_TEXTURE_WOOD : YD_TEXTURE_CLOUDS;
        f.gradient = yd_synth_between(s, 0, 0.4f);
        f.period = yd_synth_size(s, 20, 200);
        if (yd_synth_chance(s, 0.4f)) f.tilt = yd_synth_between(s, 0, 3.0f) / side_of(s);
        any_shape(s, side_of(s) * yd_synth_between(s, 0.3f, 0.7f), 12, &shape);
        if (i == 0)
            background(s, &f);
        else
            yd_synth_paint(s, &shape, &f);
    }
    if (yd_synth_chance(s, 0.5f)) blades(s);
    if (yd_synth_chance(s, 0.5f)) scatter(s, yd_synth_below(s, 300), yd_synth_between(s, 5, 15), 60, 0.2f, 4);
}

// Paper, or something behind the letters; paragraphs, sometimes a heading, sometimes turned to large letters.
void yd_synth_page(yd_synth *s)
{
    const float side = side_of(s), edge = yd_synth_between(s, 4, 40);
    yd_synth_fill paper;
    float ink[3], light[3];
    any_fill(s, 0.6f, &paper);
    if (yd_synth_chance(s, 0.5f)) {
        const float white[3] = {yd_synth_between(s, 225, 255), yd_synth_between(s, 225, 255), yd_synth_between(s, 215, 255)};
        yd_synth_plain(&paper, white);
    }
    background(s, &paper);
    if (yd_synth_chance(s, 0.25f)) scatter(s, 40, 40, side * 0.4f, 0.7f, 8);
    for (int c = 0; c < 3; c++) light[c] = 0.5f * (paper.a[c] + paper.b[c]);
    yd_synth_contrast(s, light, ink);
    float y = edge;
    if (yd_synth_chance(s, 0.5f)) {
        const float height = yd_synth_between(s, 36, 110);
        yd_synth_text_line(s, edge, y, side - edge, height, ink);
        y += height * 1.6f;
    }
    while (y < side - edge) {
        const float height = yd_synth_size(s, 18, 80), to = y + yd_synth_between(s, 60, 240);
        yd_synth_contrast(s, light, ink);
        yd_synth_paragraph(s, edge, y, side - edge, to < side ? to : side, height, ink);
        y = to + height;
    }
}

// One regular texture over everything, seen straight or at an angle; sometimes a few shapes with others before it.
void yd_synth_pattern(yd_synth *s)
{
    const int patches = yd_synth_below(s, 5);
    for (int i = 0; i <= patches; i++) {
        yd_synth_fill f;
        any_fill(s, 0, &f);
        yd_synth_contrast(s, f.a, f.b);
        f.texture = (yd_synth_texture)(1 + yd_synth_below(s, YD_TEXTURES - 1));
        f.gradient = yd_synth_chance(s, 0.3f) ? yd_synth_between(s, 0, 0.5f) : 0.0f;
        f.period = yd_synth_size(s, yd_synth_chance(s, 0.15f) ? 10 : 17, 120);
        if (yd_synth_chance(s, 0.4f)) f.dir[0] = 1, f.dir[1] = 0;
        if (yd_synth_chance(s, 0.3f)) f.tilt = yd_synth_between(s, 0, 2.0f) / side_of(s);
        if (i == 0) {
            background(s, &f);
            continue;
        }
        yd_synth_shape shape;
        any_shape(s, side_of(s) * yd_synth_between(s, 0.12f, 0.4f), 3, &shape);
        yd_synth_paint(s, &shape, &f);
    }
}

static void frame(yd_synth *s, float x0, float y0, float x1, float y1, float width, const float colour[3])
{
    yd_synth_rect(s, x0, y0, x1, y0 + width, colour);
    yd_synth_rect(s, x0, y1 - width, x1, y1, colour);
    yd_synth_rect(s, x0, y0, x0 + width, y1, colour);
    yd_synth_rect(s, x1 - width, y0, x1, y1, colour);
}

// Boxes on whole pixels, as programs draw their windows: titles, buttons, rules, lists.
void yd_synth_screen(yd_synth *s)
{
    const float side = side_of(s);
    const float unit = (float)YD_SYNTH_FINE;
    yd_synth_fill wall;
    any_fill(s, 0.6f, &wall);
    background(s, &wall);
    const int windows = 2 + yd_synth_below(s, 6);
    for (int i = 0; i < windows; i++) {
        const float x0 = unit * (float)yd_synth_below(s, s->side / 3), y0 = unit * (float)yd_synth_below(s, s->side / 3);
        const float x1 = x0 + unit * (float)(30 + yd_synth_below(s, s->side / 3)), y1 = y0 + unit * (float)(24 + yd_synth_below(s, s->side / 3));
        const int dark = yd_synth_chance(s, 0.3f);
        const float grey = dark ? yd_synth_between(s, 15, 60) : yd_synth_between(s, 215, 255), body[3] = {grey, grey, grey};
        float bar[3], ink[3], line[3];
        yd_synth_colour(s, bar);
        yd_synth_contrast(s, body, ink);
        yd_synth_contrast(s, bar, line);
        yd_synth_rect(s, x0, y0, x1, y1, body);
        yd_synth_rect(s, x0, y0, x1, y0 + 22 * unit / 2, bar);
        yd_synth_text_line(s, x0 + 8, y0 + 5, x1 - 30, 12, line);
        frame(s, x0, y0, x1, y1, unit, ink);
        for (float y = y0 + 20 * unit; y + 12 * unit < y1; y += 14 * unit) {
            const float height = yd_synth_between(s, 11, 20);
            if (yd_synth_chance(s, 0.6f))
                yd_synth_text_line(s, x0 + 8 * unit, y, x1 - 8, height, ink);
            else if (yd_synth_chance(s, 0.5f))
                yd_synth_rect(s, x0 + 6 * unit, y, x0 + 6 * unit + (x1 - x0) * yd_synth_between(s, 0.1f, 0.6f), y + 9 * unit, bar);
            else
                frame(s, x0 + 6 * unit, y, x0 + 16 * unit, y + 10 * unit, unit, ink);
            if (yd_synth_chance(s, 0.3f)) yd_synth_rect(s, x0 + unit, y + 12 * unit, x1 - unit, y + 13 * unit, ink);
        }
    }
    if (yd_synth_chance(s, 0.3f)) yd_synth_stroke(s, 0, 0, side, side * yd_synth_between(s, 0.2f, 1), unit, wall.b);
}

// A curve through three points in short pieces, thinner towards its ends when `taper`.
static void curve(yd_synth *s, const float p[6], float width, int taper, const float colour[3])
{
    enum { PIECES = 24 };
    float x = p[0], y = p[1];
    for (int i = 1; i <= PIECES; i++) {
        const float t = (float)i / PIECES, u = 1 - t;
        const float nx = u * u * p[0] + 2 * u * t * p[2] + t * t * p[4], ny = u * u * p[1] + 2 * u * t * p[3] + t * t * p[5];
        yd_synth_stroke(s, x, y, nx, ny, taper ? width * (0.3f + 2.8f * t * u) : width, colour);
        x = nx;
        y = ny;
    }
}

static void hatch(yd_synth *s, const float colour[3])
{
    const float side = side_of(s), x = yd_synth_between(s, 0, side), y = yd_synth_between(s, 0, side), size = yd_synth_between(s, 30, 150);
    const float pitch = yd_synth_between(s, 5, 14), width = yd_synth_between(s, 1.5f, 3.5f);
    float d[2];
    yd_synth_direction(s, d);
    for (float at = -size; at < size; at += pitch)
        yd_synth_stroke(s, x + at * d[0] - size * d[1], y + at * d[1] + size * d[0], x + at * d[0] + size * d[1], y + at * d[1] - size * d[0],
                        width, colour);
}

// Ink on paper: flat colours with outlines, curves, hatching.
void yd_synth_drawing(yd_synth *s)
{
    const float side = side_of(s), light = yd_synth_between(s, 200, 255), paper[3] = {light, light, light * yd_synth_between(s, 0.9f, 1)};
    float ink[3];
    yd_synth_fill plain;
    yd_synth_plain(&plain, paper);
    background(s, &plain);
    yd_synth_contrast(s, paper, ink);
    const int flat = yd_synth_below(s, 12), lines = 10 + yd_synth_below(s, 40), hatches = yd_synth_below(s, 5);
    const float pen = yd_synth_between(s, 2, 7);
    for (int i = 0; i < flat; i++) {
        yd_synth_shape shape;
        float colour[3];
        any_shape(s, yd_synth_between(s, 20, side * 0.3f), 0, &shape);
        yd_synth_plain(&plain, ink);
        yd_synth_paint(s, &shape, &plain);
        shape.r -= pen / shape.ratio < shape.r * 0.5f ? pen / shape.ratio : shape.r * 0.5f;
        yd_synth_colour(s, colour);
        yd_synth_plain(&plain, colour);
        yd_synth_paint(s, &shape, &plain);
    }
    for (int i = 0; i < hatches; i++) hatch(s, ink);
    for (int i = 0; i < lines; i++) {
        float p[6];
        for (int k = 0; k < 6; k++) p[k] = yd_synth_between(s, -0.1f * side, 1.1f * side);
        if (yd_synth_chance(s, 0.6f)) // short ones as well
            for (int k = 2; k < 6; k++) p[k] = p[k % 2] + (p[k] - p[k % 2]) * 0.25f;
        curve(s, p, pen * yd_synth_between(s, 0.5f, 1.5f), yd_synth_chance(s, 0.4f), ink);
    }
}

// Slow light: a ramp, large soft shapes, hardly any texture.
void yd_synth_smooth(yd_synth *s)
{
    yd_synth_fill f;
    any_fill(s, 0, &f);
    yd_synth_colour(s, f.b);
    yd_synth_direction(s, f.ramp);
    for (int i = 0; i < 2; i++) f.ramp[i] *= yd_synth_between(s, 0.4f, 1.2f) / side_of(s);
    f.ramp_at = 0.5f - 0.5f * side_of(s) * (f.ramp[0] + f.ramp[1]);
    f.gradient = yd_synth_between(s, 0.7f, 1.0f);
    f.texture = YD_TEXTURE_CLOUDS;
    f.period = yd_synth_between(s, 80, 300);
    background(s, &f);
    const int count = yd_synth_below(s, 12);
    for (int i = 0; i < count; i++) {
        yd_synth_shape shape;
        any_shape(s, yd_synth_between(s, 30, side_of(s) * 0.5f), 0, &shape);
        shape.kind = YD_SHAPE_ELLIPSE;
        shape.soft = yd_synth_between(s, 1, shape.r * shape.ratio);
        any_fill(s, 0.4f, &f);
        f.gradient = 1;
        yd_synth_paint(s, &shape, &f);
    }
}
