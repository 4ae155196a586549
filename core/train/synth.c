// Procedural training pictures: dead leaves, ground and grass, pages, patterns, screens, drawings, smooth light. See synth.h for the parts.
//
// A picture is a pure function of (seed, number). Half of them are dead leaves and rough ground: overlapping shapes whose sizes follow a power law
// have edges, contrasts and a spectrum much like photos'. The other kinds are what photos have little of and enlargers spoil: letters, fine
// regular patterns, sharp lines, slow gradients.
// Owns the fine canvas while it draws. Fails only when memory is out.
// Read next: core/train/synth_scene.c
#include "core/train/synth.h"

#include "core/mem.h"
#include "core/rng.h"
#include "core/train/internal.h"

#include <math.h>
#include <string.h>

enum { STREAM_SYNTH = 0x7379u };

static float uniform(yd_synth *s)
{
    return yd_rng_uniform(s->seed, STREAM_SYNTH, s->number, s->lane++);
}

float yd_synth_between(yd_synth *s, float lo, float hi)
{
    return lo + (hi - lo) * uniform(s);
}

int yd_synth_below(yd_synth *s, int n)
{
    const int i = (int)(uniform(s) * (float)n);
    return i < n ? i : n - 1;
}

int yd_synth_chance(yd_synth *s, float share)
{
    return uniform(s) < share;
}

float yd_synth_size(yd_synth *s, float lo, float hi)
{
    const float q = lo / hi;
    return lo / sqrtf(1.0f - uniform(s) * (1.0f - q * q));
}

void yd_synth_direction(yd_synth *s, float d[2])
{
    const float turn = uniform(s);
    d[0] = yd_synth_wave(turn + 0.25f);
    d[1] = yd_synth_wave(turn);
}

// ---- colours

static float clamp_byte(float v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

// A brightness and a tint; most tints are weak, as outdoors.
static void any_colour(yd_synth *s, float strength, float out[3])
{
    const float light = 255.0f * (0.7f * uniform(s) + 0.3f * uniform(s));
    const float warm = (uniform(s) + uniform(s) - 0.85f) * strength, green = (uniform(s) + uniform(s) - 1.0f) * strength * 0.6f;
    out[0] = clamp_byte(light + warm + 0.5f * green);
    out[1] = clamp_byte(light + green);
    out[2] = clamp_byte(light - warm + 0.3f * green);
}

static void make_palette(yd_synth *s)
{
    const float strength = yd_synth_chance(s, 0.12f) ? 0.0f : yd_synth_chance(s, 0.25f) ? 220.0f : yd_synth_between(s, 20, 110);
    for (int i = 0; i < YD_SYNTH_COLOURS; i++) any_colour(s, strength, s->palette[i]);
}

void yd_synth_colour(yd_synth *s, float out[3])
{
    const float *from = s->palette[yd_synth_below(s, YD_SYNTH_COLOURS)];
    const float lighter = yd_synth_between(s, -30, 30);
    for (int c = 0; c < 3; c++) out[c] = clamp_byte(from[c] + lighter + yd_synth_between(s, -10, 10));
}

void yd_synth_contrast(yd_synth *s, const float other[3], float out[3])
{
    const float light = 0.3f * other[0] + 0.6f * other[1] + 0.1f * other[2];
    const float to = light > 127 ? 0.0f : 255.0f, how = yd_synth_between(s, 0.55f, 1.0f);
    yd_synth_colour(s, out);
    for (int c = 0; c < 3; c++) out[c] = out[c] + (to - out[c]) * how;
}

// ---- the picture

typedef void (*scene)(yd_synth *s);

static const struct {
    scene draw;
    float share;
} scenes[] = {
    {yd_synth_leaves, 0.36f}, {yd_synth_ground, 0.18f},  {yd_synth_page, 0.12f},  {yd_synth_pattern, 0.12f},
    {yd_synth_screen, 0.08f}, {yd_synth_drawing, 0.08f}, {yd_synth_smooth, 0.06f},
};
enum { N_SCENES = sizeof scenes / sizeof scenes[0] };

static scene choose_scene(yd_synth *s)
{
    float at = uniform(s);
    for (int i = 0; i < N_SCENES - 1; i++) {
        if (at < scenes[i].share) return scenes[i].draw;
        at -= scenes[i].share;
    }
    return scenes[N_SCENES - 1].draw;
}

// Mean of the fine pixels; with `wide` of one more on each side too, as a lens that is a little out of focus.
static void average(const yd_synth *s, int wide, uint8_t *rgb)
{
    const int side = s->side / YD_SYNTH_FINE;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            int sum[3] = {0, 0, 0}, count = 0;
            for (int dy = -wide; dy < YD_SYNTH_FINE + wide; dy++)
                for (int dx = -wide; dx < YD_SYNTH_FINE + wide; dx++) {
                    const int fx = x * YD_SYNTH_FINE + dx, fy = y * YD_SYNTH_FINE + dy;
                    if (fx < 0 || fy < 0 || fx >= s->side || fy >= s->side) continue;
                    const uint8_t *p = s->rgb + ((size_t)fy * (size_t)s->side + (size_t)fx) * 3;
                    for (int c = 0; c < 3; c++) sum[c] += p[c];
                    count++;
                }
            for (int c = 0; c < 3; c++) *rgb++ = (uint8_t)(count ? (sum[c] + count / 2) / count : 0);
        }
}

int yd_synth_picture(uint64_t seed, uint64_t number, int side, uint8_t *rgb, yd_err *err)
{
    yd_synth s = {.seed = seed, .number = number, .side = side * YD_SYNTH_FINE};
    const size_t bytes = (size_t)s.side * (size_t)s.side * 3; // side is at most a few thousand
    s.rgb = yd_malloc(bytes);
    if (!s.rgb) return yd_fail(err, YD_E_NOMEM, "out of memory for drawing a picture of %d x %d", side, side);
    memset(s.rgb, 128, bytes);
    make_palette(&s);
    choose_scene(&s)(&s);
    average(&s, yd_synth_chance(&s, 0.15f), rgb);
    yd_free(s.rgb);
    return 0;
}
