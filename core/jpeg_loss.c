// JPEG's loss on pixels in memory: see jpeg_loss.h.
//
// Three planes on the block grid (padded to whole units), each coded and decoded block by block, then joined. The transform is the
// orthonormal DCT as two products with one 8 x 8 matrix: at the sizes of training crops it costs less than preparing them does.
// Floating-point contraction is off (-std=c11), so the sums are the same everywhere.
// Owns nothing between calls. Fails only when memory is out.
#include "core/jpeg_loss.h"

#include "core/mem.h"
#include "core/simd.h"

#include <math.h>
#include <string.h>

enum { SIDE = 8, AREA = SIDE * SIDE };

// T.81 tables K.1 and K.2: quality 50.
static const uint8_t base_tables[2][AREA] = {
    {16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,  14, 13, 16, 24, 40,  57,
     69, 56, 14, 17, 22,  29,  51,  87,  80, 62, 18, 22, 37,  56,  68,  109, 103, 77, 24, 35, 55,  64,
     81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95,  98,  112, 100, 103, 99},
    {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
     47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
     99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99},
};

// Row k: the k-th cosine, orthonormal.
static const float dct[SIDE][SIDE] = {
    {0.35355339f, 0.35355339f, 0.35355339f, 0.35355339f, 0.35355339f, 0.35355339f, 0.35355339f, 0.35355339f},
    {0.49039264f, 0.41573481f, 0.27778512f, 0.09754516f, -0.09754516f, -0.27778512f, -0.41573481f, -0.49039264f},
    {0.46193977f, 0.19134172f, -0.19134172f, -0.46193977f, -0.46193977f, -0.19134172f, 0.19134172f, 0.46193977f},
    {0.41573481f, -0.09754516f, -0.49039264f, -0.27778512f, 0.27778512f, 0.49039264f, 0.09754516f, -0.41573481f},
    {0.35355339f, -0.35355339f, -0.35355339f, 0.35355339f, 0.35355339f, -0.35355339f, -0.35355339f, 0.35355339f},
    {0.27778512f, -0.49039264f, 0.09754516f, 0.41573481f, -0.41573481f, -0.09754516f, 0.49039264f, -0.27778512f},
    {0.19134172f, -0.46193977f, 0.46193977f, -0.19134172f, -0.19134172f, 0.46193977f, -0.46193977f, 0.19134172f},
    {0.09754516f, -0.27778512f, 0.41573481f, -0.49039264f, 0.49039264f, -0.41573481f, 0.27778512f, -0.09754516f},
};

// One axis of the picture on the grid: pixel i of the grid is pixel clamp(i - phase) of the picture.
typedef struct grid_axis {
    int phase, pixels; // before the picture; of the picture
    int size;          // whole units
} grid_axis;

typedef struct plane {
    int w, h;
    uint8_t *at;
} plane;

static int clamp_int(int v, int lo, int hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static uint8_t to_byte(int v)
{
    return (uint8_t)clamp_int(v, 0, 255);
}

static grid_axis axis_of(int pixels, int phase, int unit)
{
    phase %= unit;
    return (grid_axis){phase, pixels, (phase + pixels + unit - 1) / unit * unit};
}

static int axis_pixel(const grid_axis *a, int i)
{
    return clamp_int(i - a->phase, 0, a->pixels - 1);
}

// ---- colours, in 1/65536 as JFIF's factors

static void split_colours(const uint8_t *rgb, const grid_axis *ax, const grid_axis *ay, plane p[3])
{
    for (int y = 0; y < ay->size; y++) {
        const uint8_t *row = rgb + (size_t)axis_pixel(ay, y) * (size_t)ax->pixels * 3;
        const size_t at = (size_t)y * (size_t)ax->size;
        for (int x = 0; x < ax->size; x++) {
            const uint8_t *px = row + (size_t)axis_pixel(ax, x) * 3;
            const int r = px[0], g = px[1], b = px[2];
            const int middle = (128 << 16) + 32767;
            p[0].at[at + (size_t)x] = (uint8_t)((19595 * r + 38470 * g + 7471 * b + 32768) >> 16);
            p[1].at[at + (size_t)x] = (uint8_t)((32768 * b - 11059 * r - 21709 * g + middle) >> 16);
            p[2].at[at + (size_t)x] = (uint8_t)((32768 * r - 27439 * g - 5329 * b + middle) >> 16);
        }
    }
}

static void join_pixel(int y, int cb, int cr, uint8_t *rgb)
{
    cb -= 128;
    cr -= 128;
    rgb[0] = to_byte(y + ((91881 * cr + 32768) >> 16));
    rgb[1] = to_byte(y + ((32768 - 22554 * cb - 46802 * cr) >> 16));
    rgb[2] = to_byte(y + ((116130 * cb + 32768) >> 16));
}

// ---- chroma at half size

// Mean of 2 x 2, in place; what is between two values is rounded down and up in turn. Rows below the picture repeat the last one.
static void halve(plane *p, const grid_axis *ay)
{
    const int w = p->w / 2, h = p->h / 2, last = (ay->phase + ay->pixels + 1) / 2 - 1;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const uint8_t *a = p->at + (size_t)(2 * y) * (size_t)p->w + (size_t)(2 * x), *b = a + p->w;
            p->at[(size_t)y * (size_t)w + (size_t)x] =
                y > last ? p->at[(size_t)last * (size_t)w + (size_t)x] : (uint8_t)((a[0] + a[1] + b[0] + b[1] + 1 + (x & 1)) >> 2);
        }
    p->w = w;
    p->h = h;
}

// The half-size sample nearest to grid pixel i, and its neighbour on the other side of i; both inside the picture.
static void chroma_taps(const grid_axis *a, int i, int *near, int *far)
{
    const int first = a->phase / 2, last = (a->phase + a->pixels + 1) / 2 - 1;
    *near = i / 2;
    *far = clamp_int(i & 1 ? *near + 1 : *near - 1, first, last);
}

// Triangle filter: 3/4 of the near sample and 1/4 of the far one, along both axes.
static int chroma_at(int near_x, int far_x, const uint8_t *near_row, const uint8_t *far_row, int odd)
{
    const int near = 3 * near_row[near_x] + far_row[near_x], far = 3 * near_row[far_x] + far_row[far_x];
    return (3 * near + far + (odd ? 7 : 8)) >> 4;
}

static void join_half(const plane p[3], const grid_axis *ax, const grid_axis *ay, uint8_t *rgb)
{
    for (int y = 0; y < ay->pixels; y++) {
        const int gy = y + ay->phase;
        int near_y, far_y;
        chroma_taps(ay, gy, &near_y, &far_y);
        const uint8_t *luma = p[0].at + (size_t)gy * (size_t)p[0].w;
        const size_t near = (size_t)near_y * (size_t)p[1].w, far = (size_t)far_y * (size_t)p[1].w;
        for (int x = 0; x < ax->pixels; x++, rgb += 3) {
            const int gx = x + ax->phase;
            int near_x, far_x;
            chroma_taps(ax, gx, &near_x, &far_x);
            const int cb = chroma_at(near_x, far_x, p[1].at + near, p[1].at + far, gx & 1);
            const int cr = chroma_at(near_x, far_x, p[2].at + near, p[2].at + far, gx & 1);
            join_pixel(luma[gx], cb, cr, rgb);
        }
    }
}

static void join_full(const plane p[3], const grid_axis *ax, const grid_axis *ay, uint8_t *rgb)
{
    for (int y = 0; y < ay->pixels; y++) {
        const size_t at = (size_t)(y + ay->phase) * (size_t)p[0].w + (size_t)ax->phase;
        for (int x = 0; x < ax->pixels; x++, rgb += 3)
            join_pixel(p[0].at[at + (size_t)x], p[1].at[at + (size_t)x], p[2].at[at + (size_t)x], rgb);
    }
}

// ---- blocks

static void make_table(const uint8_t *base, int quality, int *table)
{
    const int percent = quality < 50 ? 5000 / quality : 200 - 2 * quality;
    for (int i = 0; i < AREA; i++) table[i] = clamp_int((base[i] * percent + 50) / 100, 1, 255);
}

// out = dct * in (forward) or its transpose * in (inverse); both transposed, so that two passes end the right way round.
static inline void pass(float in[SIDE][SIDE], float out[SIDE][SIDE], int inverse)
{
    for (int k = 0; k < SIDE; k++) {
        float sum[SIDE] = {0};
        for (int i = 0; i < SIDE; i++) {
            const float c = inverse ? dct[i][k] : dct[k][i];
            for (int x = 0; x < SIDE; x++) sum[x] += c * in[i][x];
        }
        for (int x = 0; x < SIDE; x++) out[x][k] = sum[x];
    }
}

// The integer transform that codecs commonly use has results scaled by sqrt(8) per axis and keeps two more bits between the passes,
// rows before columns on the way in and after them on the way out. Rounding where it rounds lets ties fall as they do in files.
#define AXIS_SCALE 2.8284271f
#define EXTRA_BITS 4.0f

static inline void round_all(float m[SIDE][SIDE], float scale)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) m[y][x] = floorf(m[y][x] * scale + 0.5f);
}

// A coefficient in eighths to the nearest multiple of step, in whole steps; halves go away from zero.
static float quantise(float eighths, int step)
{
    const int level = ((int)fabsf(eighths) + 4 * step) / (8 * step);
    return (float)(eighths < 0 ? -level * step : level * step);
}

YD_SIMD static void code_block(uint8_t *at, size_t stride, const int *table)
{
    float a[SIDE][SIDE], b[SIDE][SIDE];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) a[x][y] = (float)at[(size_t)y * stride + (size_t)x] - 128.0f;
    pass(a, b, 0); // b[y][u]
    round_all(b, AXIS_SCALE * EXTRA_BITS);
    pass(b, a, 0); // a[u][v]
    round_all(a, AXIS_SCALE / EXTRA_BITS);
    for (int v = 0; v < SIDE; v++)
        for (int u = 0; u < SIDE; u++) b[v][u] = quantise(a[u][v], table[v * SIDE + u]);
    pass(b, a, 1); // a[u][y]
    round_all(a, AXIS_SCALE * EXTRA_BITS);
    pass(a, b, 1); // b[y][x]
    round_all(b, 1.0f / (AXIS_SCALE * EXTRA_BITS));
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) at[(size_t)y * stride + (size_t)x] = to_byte((int)b[y][x] + 128);
}

static void code_plane(const plane *p, const uint8_t *base, int quality)
{
    int table[AREA];
    make_table(base, quality, table);
    for (int y = 0; y < p->h; y += SIDE)
        for (int x = 0; x < p->w; x += SIDE) code_block(p->at + (size_t)y * (size_t)p->w + (size_t)x, (size_t)p->w, table);
}

int yd_jpeg_loss(uint8_t *rgb, int w, int h, int quality, int full_chroma, int phase_x, int phase_y, yd_err *err)
{
    const int unit = full_chroma ? SIDE : YD_JPEG_UNIT;
    const grid_axis ax = axis_of(w, phase_x, unit), ay = axis_of(h, phase_y, unit);
    size_t area, bytes;
    if (yd_mul_size((size_t)ax.size, (size_t)ay.size, &area) || yd_mul_size(area, 3, &bytes))
        return yd_fail(err, YD_E_NOMEM, "a picture of %d x %d does not fit memory", w, h);
    uint8_t *samples = yd_malloc(bytes);
    if (!samples) return yd_fail(err, YD_E_NOMEM, "out of memory for the planes of a picture of %d x %d", w, h);
    plane p[3];
    for (int i = 0; i < 3; i++) p[i] = (plane){ax.size, ay.size, samples + (size_t)i * area};
    split_colours(rgb, &ax, &ay, p);
    for (int i = 1; i < 3 && !full_chroma; i++) halve(&p[i], &ay);
    for (int i = 0; i < 3; i++) code_plane(&p[i], base_tables[i > 0], quality);
    if (full_chroma)
        join_full(p, &ax, &ay, rgb);
    else
        join_half(p, &ax, &ay, rgb);
    yd_free(samples);
    return 0;
}
