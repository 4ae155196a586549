// What was invented: see invented.h.
//
// Everything is measured per pixel of the source ("cell"): the difference there, and the mean energy of the result's pixels that fall
// into it. Differences and energies are summed as integers, so that no order of summation matters.
// Owns its planes during the call: the plain enlargement while its luma is made, then three planes of 16 bits on the result's grid.
// Read next: resize.h, upscale.h (yd_upsample).
#include "core/invented.h"
#include "core/alpha.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/upscale.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEP     257.0 // of 8 bits, in 16
#define FULL_16  65535u
#define PSNR_TOP 100.0

typedef struct account {
    const yd_image *source, *result;
    uint16_t *luma[2];    // of the result and of the plain enlargement [result]
    uint16_t *band;       // a luma plane without its finest band [result]
    uint16_t *low;        // [source*3]
    int64_t *energy;      // sum of squares over the cell: result's band minus the plain one's [source]
    uint16_t *difference; // largest of the channels, absolute [source]
    uint16_t *detail;     // root of the mean energy [source]
} account;

static size_t area(const yd_image *im)
{
    return (size_t)im->w * (size_t)im->h;
}

static int no_memory(yd_err *err)
{
    return yd_fail(err, YD_E_NOMEM, "no memory for an account of what was invented");
}

// How much of a source pixel can be seen, 0..65535.
static uint64_t seen(const account *a, size_t i)
{
    return a->source->alpha ? a->source->alpha[i] : FULL_16;
}

// ---- measuring -----------------------------------------------------------------------------------------------------

static void luma_plane(const uint16_t *rgb, size_t pixels, uint16_t *luma)
{
    for (size_t i = 0; i < pixels; i++) luma[i] = yd_luma16(rgb + 3 * i);
}

static int make_lumas(account *a, yd_err *err)
{
    const size_t px = area(a->result);
    uint16_t *plain = yd_malloc(px * 3 * sizeof *plain);
    int rc = plain ? yd_upsample(a->source, a->result->w, a->result->h, plain, err) : no_memory(err);
    if (!rc) {
        luma_plane(a->result->rgb, px, a->luma[0]);
        luma_plane(plain, px, a->luma[1]);
    }
    yd_free(plain);
    return rc;
}

// Cell of a result's coordinate: the source pixel that its centre falls into.
static size_t cell_of(int x, int in, int out)
{
    return (size_t)(((2 * (int64_t)x + 1) * in) / (2 * (int64_t)out));
}

// Add sign * the finest band's squares of one luma plane to the cells.
static int add_energy(account *a, const uint16_t *luma, int sign, yd_err *err)
{
    const int w = a->result->w, h = a->result->h, iw = a->source->w, ih = a->source->h;
    int rc = yd_resize_bicubic_u16(luma, w, h, 1, a->low, iw, ih, err);
    if (!rc) rc = yd_resize_bicubic_u16(a->low, iw, ih, 1, a->band, w, h, err);
    for (int y = 0; !rc && y < h; y++) {
        const size_t row = (size_t)y * (size_t)w;
        int64_t *cells = a->energy + cell_of(y, ih, h) * (size_t)iw;
        for (int x = 0; x < w; x++) {
            const int64_t d = (int64_t)luma[row + (size_t)x] - a->band[row + (size_t)x];
            cells[cell_of(x, iw, w)] += sign * d * d;
        }
    }
    return rc;
}

// Result pixels whose centres fall into source pixel i, along one axis.
static int64_t cell_size(int i, int in, int out)
{
    // First x with (2x+1)*in >= 2*i*out, for i and i+1.
    const int64_t lo = (2 * (int64_t)i * out - in + 2 * (int64_t)in - 1) / (2 * (int64_t)in);
    const int64_t hi = (2 * ((int64_t)i + 1) * out - in + 2 * (int64_t)in - 1) / (2 * (int64_t)in);
    return hi - lo;
}

// Root mean squares per cell, and their mean over what can be seen.
static void measure_detail(account *a, yd_invented *n)
{
    const int iw = a->source->w, ih = a->source->h, w = a->result->w, h = a->result->h;
    double sum = 0.0, weight = 0.0;
    for (int y = 0; y < ih; y++)
        for (int x = 0; x < iw; x++) {
            const size_t i = (size_t)y * (size_t)iw + (size_t)x;
            const int64_t pixels = cell_size(x, iw, w) * cell_size(y, ih, h);
            const double mean = a->energy[i] > 0 ? (double)a->energy[i] / (double)pixels : 0.0, share = (double)seen(a, i) / FULL_16;
            a->detail[i] = (uint16_t)fmin(sqrt(mean) * share + 0.5, FULL_16);
            sum += mean * share;
            weight += share;
        }
    n->detail_rms = weight > 0.0 ? sqrt(sum / weight) / STEP : 0.0;
}

static int measure_difference(account *a, yd_invented *n, yd_err *err)
{
    const size_t px = area(a->source);
    double sum = 0.0, over = 0.0, weight = 0.0;
    int rc = yd_resize_bicubic_u16(a->result->rgb, a->result->w, a->result->h, 3, a->low, a->source->w, a->source->h, err);
    for (size_t i = 0; !rc && i < px; i++) {
        const double share = (double)seen(a, i) / FULL_16;
        int most = 0;
        for (size_t c = 0; c < 3; c++) {
            const int d = abs(a->low[3 * i + c] - a->source->rgb[3 * i + c]);
            sum += share * d * d;
            most = d > most ? d : most;
        }
        a->difference[i] = (uint16_t)(most * share + 0.5);
        over += most > YD_INVENTED_QUIET * STEP ? share : 0.0;
        weight += share;
    }
    if (rc) return rc;
    const double mse = weight > 0.0 ? sum / (3.0 * weight) / (STEP * STEP) : 0.0;
    n->difference_rms = sqrt(mse);
    n->psnr_db = mse > 0.0 ? fmin(10.0 * log10(255.0 * 255.0 / mse), PSNR_TOP) : PSNR_TOP;
    n->contradicted = weight > 0.0 ? over / weight : 0.0;
    return 0;
}

// Over the visible pixels of the result.
static void measure_change(const account *a, yd_invented *n)
{
    const int w = a->result->w, h = a->result->h;
    double changed = 0.0, weight = 0.0;
    for (int y = 0; y < h; y++) {
        const size_t row = (size_t)y * (size_t)w, from = cell_of(y, a->source->h, h) * (size_t)a->source->w;
        for (int x = 0; x < w; x++) {
            const double share = (double)seen(a, from + cell_of(x, a->source->w, w)) / FULL_16;
            if (abs(a->luma[0][row + (size_t)x] - a->luma[1][row + (size_t)x]) > YD_INVENTED_QUIET * STEP) changed += share;
            weight += share;
        }
    }
    n->changed = weight > 0.0 ? changed / weight : 0.0;
}

// ---- showing -------------------------------------------------------------------------------------------------------

// Strength of a colour, 0..65535, from a value in 16-bit steps: nothing below `quiet`, all from `full` on, both in steps of 8 bits.
static void to_strength(uint16_t *v, size_t n, int quiet, int full)
{
    for (size_t i = 0; i < n; i++) {
        const double s = (v[i] - quiet * STEP) / ((full - quiet) * STEP);
        v[i] = (uint16_t)(s <= 0.0 ? 0.0 : s >= 1.0 ? FULL_16 : s * FULL_16 + 0.5);
    }
}

static void mix(uint16_t *rgb, const uint16_t *tint, uint64_t strength)
{
    for (int c = 0; c < 3; c++) rgb[c] = (uint16_t)((rgb[c] * (FULL_16 - strength) + tint[c] * strength + FULL_16 / 2) / FULL_16);
}

// luma[1] and band are not needed any more: they take the strengths of red and cyan on the result's grid.
static int paint(account *a, yd_image *picture, yd_err *err)
{
    static const uint16_t cyan[3] = {10 * 257, 205 * 257, 235 * 257}, red[3] = {255 * 257, 60 * 257, 40 * 257};
    const int w = a->result->w, h = a->result->h, iw = a->source->w, ih = a->source->h;
    to_strength(a->difference, area(a->source), YD_INVENTED_QUIET, YD_INVENTED_FULL_DIFFERENCE);
    to_strength(a->detail, area(a->source), 0, YD_INVENTED_FULL_DETAIL);
    int rc = yd_resize_bicubic_u16(a->difference, iw, ih, 1, a->luma[1], w, h, err);
    if (!rc) rc = yd_resize_bicubic_u16(a->detail, iw, ih, 1, a->band, w, h, err);
    if (!rc) rc = yd_image_alloc(picture, w, h, 0, err);
    for (size_t i = 0; !rc && i < area(a->result); i++) {
        uint16_t *p = picture->rgb + 3 * i;
        p[0] = p[1] = p[2] = (uint16_t)(a->luma[0][i] / 2); // dim: colours must stand out on white
        mix(p, cyan, a->band[i]);
        mix(p, red, a->luma[1][i]);
        for (int c = 0; c < 3; c++) p[c] = yd_widen(yd_narrow(p[c]));
    }
    return rc;
}

// ---- the whole -----------------------------------------------------------------------------------------------------

static int allocate(account *a, yd_err *err)
{
    const size_t px = area(a->result), low = area(a->source);
    a->luma[0] = yd_malloc(px * sizeof(uint16_t));
    a->luma[1] = yd_malloc(px * sizeof(uint16_t));
    a->band = yd_malloc(px * sizeof(uint16_t));
    a->low = yd_malloc(low * 3 * sizeof(uint16_t));
    a->energy = yd_calloc(low, sizeof *a->energy);
    a->difference = yd_malloc(low * sizeof(uint16_t));
    a->detail = yd_malloc(low * sizeof(uint16_t));
    const int ok = a->luma[0] && a->luma[1] && a->band && a->low && a->energy && a->difference && a->detail;
    return ok ? 0 : no_memory(err);
}

static void release(account *a)
{
    yd_free(a->luma[0]);
    yd_free(a->luma[1]);
    yd_free(a->band);
    yd_free(a->low);
    yd_free(a->energy);
    yd_free(a->difference);
    yd_free(a->detail);
}

int yd_invented_account(const yd_image *source, const yd_image *result, yd_invented *numbers, yd_image *picture, yd_err *err)
{
    account a = {.source = source, .result = result};
    memset(numbers, 0, sizeof *numbers);
    if (picture) *picture = (yd_image){0};
    if (result->w < source->w || result->h < source->h)
        return yd_fail(err, YD_E_INVALID, "a result of %dx%d pixels is smaller than its source of %dx%d", result->w, result->h, source->w,
                       source->h);
    int rc = allocate(&a, err);
    if (!rc) rc = make_lumas(&a, err);
    if (!rc) rc = add_energy(&a, a.luma[0], 1, err);
    if (!rc) rc = add_energy(&a, a.luma[1], -1, err);
    if (!rc) {
        measure_detail(&a, numbers);
        measure_change(&a, numbers);
        rc = measure_difference(&a, numbers, err);
    }
    if (!rc && picture) rc = paint(&a, picture, err);
    release(&a);
    return rc;
}

size_t yd_invented_bytes(int in_w, int in_h, int out_w, int out_h)
{
    const size_t low = (size_t)in_w * (size_t)in_h, px = (size_t)out_w * (size_t)out_h, word = sizeof(uint16_t);
    const size_t planes = px * 3 * word + low * (5 * word + sizeof(int64_t));
    const size_t plain = px * 3 * (word + 1) + low * 3 * (word + 1) + yd_alpha_fill_bytes(in_w, in_h);
    const size_t resizing = yd_resize_u16_bytes(in_w, in_h, 3, out_w, out_h) + yd_resize_u16_bytes(out_w, out_h, 3, in_w, in_h);
    return planes + plain + resizing; // the picture comes when the plain enlargement has gone
}
