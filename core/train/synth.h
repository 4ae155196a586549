// What the files that draw procedural pictures share: the canvas, its stream of random numbers, shapes and fills.
// Private to core/train/synth*.c; the one function for others is yd_synth_picture (internal.h).
//
//   synth.c   canvas, colours, which scene    synth_paint.c   shapes, fills, strokes    synth_scene.c   scenes    synth_text.c   letters
//
// Everything is drawn at twice the size and averaged. Only +, -, *, / and sqrt of floats are used, in a fixed order, so that a picture
// has the same bytes on every machine.
#ifndef YD_CORE_TRAIN_SYNTH_H
#define YD_CORE_TRAIN_SYNTH_H

#include <stddef.h>
#include <stdint.h>

enum { YD_SYNTH_FINE = 2, YD_SYNTH_COLOURS = 6 };

typedef struct yd_synth {
    uint64_t seed, number;
    uint32_t lane; // draws made so far
    int side;      // of the fine canvas, pixels
    uint8_t *rgb;
    float palette[YD_SYNTH_COLOURS][3]; // 0..255
} yd_synth;

// ---- synth.c

float yd_synth_between(yd_synth *s, float lo, float hi);
int yd_synth_below(yd_synth *s, int n);
int yd_synth_chance(yd_synth *s, float share);
// A size between lo and hi with density 1/size^3: many small ones, and every scale covers as much area as any other.
float yd_synth_size(yd_synth *s, float lo, float hi);
void yd_synth_direction(yd_synth *s, float d[2]); // unit vector
void yd_synth_colour(yd_synth *s, float out[3]);  // one of the palette's, varied
// A colour that can be told apart from `other`: dark on light or light on dark.
void yd_synth_contrast(yd_synth *s, const float other[3], float out[3]);

// ---- synth_paint.c

// sin(2 pi t)
float yd_synth_wave(float t);

typedef enum { YD_SHAPE_ELLIPSE, YD_SHAPE_BOX, YD_SHAPE_POLYGON, YD_SHAPE_BLOB, YD_SHAPES } yd_synth_kind;

typedef struct yd_synth_shape {
    yd_synth_kind kind;
    float x, y, r;  // centre; half its length
    float ratio;    // width to length, 0..1
    float dir[2];   // of its length
    int sides;      // of a polygon
    float wobble;   // of a blob, 0..0.4
    float soft;     // width of the edge, pixels
} yd_synth_shape;

typedef enum {
    YD_TEXTURE_PLAIN, YD_TEXTURE_GRATING, YD_TEXTURE_STRIPES, YD_TEXTURE_CHECKS, YD_TEXTURE_BRICKS, YD_TEXTURE_DOTS,
    YD_TEXTURE_CLOUDS, YD_TEXTURE_GRAIN, YD_TEXTURE_WOOD, YD_TEXTURES
} yd_synth_texture;

// Between two colours: the position is `gradient` parts of a linear ramp and the rest of a texture.
typedef struct yd_synth_fill {
    float a[3], b[3];
    float gradient, ramp[2], ramp_at; // ramp*(x,y) + ramp_at, 0..1
    yd_synth_texture texture;
    float period, dir[2], tilt; // pixels; of the texture; perspective, 0 = none
    uint32_t key;               // of noise
} yd_synth_fill;

void yd_synth_paint(yd_synth *s, const yd_synth_shape *shape, const yd_synth_fill *fill);
void yd_synth_plain(yd_synth_fill *fill, const float colour[3]);
// A line of one colour with round ends.
void yd_synth_stroke(yd_synth *s, float x0, float y0, float x1, float y1, float width, const float colour[3]);
// An upright rectangle of one colour.
void yd_synth_rect(yd_synth *s, float x0, float y0, float x1, float y1, const float colour[3]);

// ---- synth_text.c

// One line of invented words from x to at most x1, capitals `height` pixels high, in a hand drawn for this line.
void yd_synth_text_line(yd_synth *s, float x, float y, float x1, float height, const float colour[3]);
// Lines in a rectangle.
void yd_synth_paragraph(yd_synth *s, float x0, float y0, float x1, float y1, float height, const float colour[3]);

// ---- synth_scene.c

void yd_synth_leaves(yd_synth *s);
void yd_synth_ground(yd_synth *s);
void yd_synth_page(yd_synth *s);
void yd_synth_pattern(yd_synth *s);
void yd_synth_screen(yd_synth *s);
void yd_synth_drawing(yd_synth *s);
void yd_synth_smooth(yd_synth *s);

#endif
