// LPIPS on the trunks of core/perceptual_trunks.c: pixels in, distances and features out.
//
// Both pictures pass the trunk as a batch of two, so that a layer can be compared as soon as it is there and no map has to be kept.
// Owns the weights, the trunk and a workspace for one size. Sums: f32 over the channels of a pixel, double along a row and over the
// rows in their order, so that threads change nothing.
#include "core/perceptual.h"

#include "core/mem.h"
#include "core/perceptual_trunks.h"
#include "core/simd.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = 3 };

struct yd_lpips {
    yd_lpips_net net;
    yd_trunk *trunk;
    int min_side;
    float levels[CHANNELS][256]; // what the trunk sees of a byte
    double *rows;                // sum of each row of the layer at hand, room for rows_room
    float *cells;                // the layer's map, room for cells_room; only when maps are asked for
    size_t rows_room, cells_room;
};

// ---- opening

static void fill_levels(yd_lpips *p)
{
    static const double shift[CHANNELS] = {-.030, -.088, -.188}, scale[CHANNELS] = {.458, .448, .450};
    for (int c = 0; c < CHANNELS; c++)
        for (int v = 0; v < 256; v++) p->levels[c][v] = (float)((v / 127.5 - 1.0 - shift[c]) / scale[c]);
}

void yd_lpips_close(yd_lpips *p)
{
    if (!p) return;
    yd_trunk_free(p->trunk);
    yd_lpips_net_clear(&p->net);
    yd_free(p->rows);
    yd_free(p->cells);
    yd_free(p);
}

int yd_lpips_open(const char *path, yd_lpips **out, yd_err *err)
{
    yd_lpips *p = yd_calloc(1, sizeof *p);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory to open %s", path);
    int rc = yd_lpips_net_read(&p->net, path, err);
    if (!rc) rc = yd_trunk_new(p->net.steps, p->net.n_steps, 0, &p->trunk, err);
    if (rc) {
        yd_lpips_close(p);
        return rc;
    }
    p->min_side = yd_lpips_net_min_side(&p->net);
    fill_levels(p);
    *out = p;
    return YD_OK;
}

const char *yd_lpips_trunk(const yd_lpips *p)
{
    return p->net.name;
}

int yd_lpips_min_side(const yd_lpips *p)
{
    return p->min_side;
}

int yd_lpips_feature_size(const yd_lpips *p)
{
    return p->net.channels[p->net.layers - 1];
}

// ---- getting ready

static int check_size(const yd_lpips *p, int w, int h, yd_err *err)
{
    if (w < p->min_side || h < p->min_side)
        return yd_fail(err, YD_E_IMAGE_TOO_SMALL, "LPIPS (%s) of %d x %d pixels: at least %d x %d are needed",
                       p->net.name, w, h, p->min_side, p->min_side);
    if (w > YD_LPIPS_MAX_SIDE || h > YD_LPIPS_MAX_SIDE)
        return yd_fail(err, YD_E_IMAGE_TOO_LARGE, "LPIPS (%s) of %d x %d pixels: at most %d a side are taken",
                       p->net.name, w, h, YD_LPIPS_MAX_SIDE);
    return YD_OK;
}

// No layer has more rows or pixels than the picture has.
static int make_room(yd_lpips *p, int w, int h, int with_cells, yd_err *err)
{
    size_t rows = (size_t)h, cells = (size_t)w * (size_t)h;
    if (rows > p->rows_room) {
        double *r = yd_realloc(p->rows, rows * sizeof *r);
        if (!r) return yd_fail(err, YD_E_NOMEM, "no memory for the LPIPS of %d x %d pixels", w, h);
        p->rows = r;
        p->rows_room = rows;
    }
    if (with_cells && cells > p->cells_room) {
        float *c = yd_realloc(p->cells, cells * sizeof *c);
        if (!c) return yd_fail(err, YD_E_NOMEM, "no memory for an LPIPS map of %d x %d pixels", w, h);
        p->cells = c;
        p->cells_room = cells;
    }
    return YD_OK;
}

static void enter(const yd_lpips *p, const uint8_t *rgb, size_t pixels, float *x)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < CHANNELS; c++) x[i * CHANNELS + c] = p->levels[c][rgb[i * CHANNELS + c]];
}

// Prepare for one or two (b not NULL) pictures and write them into the trunk's input.
static int start(yd_lpips *p, const uint8_t *a, const uint8_t *b, int w, int h, int with_cells, yd_err *err)
{
    int rc = check_size(p, w, h, err);
    if (!rc) rc = make_room(p, w, h, with_cells, err);
    if (!rc) rc = yd_trunk_prepare(p->trunk, b ? 2 : 1, h, w, err);
    if (rc) return rc;
    size_t pixels = (size_t)w * (size_t)h;
    float *x = yd_trunk_input(p->trunk);
    enter(p, a, pixels, x);
    if (b) enter(p, b, pixels, x + pixels * CHANNELS);
    return YD_OK;
}

// ---- distance

typedef struct comparison {
    yd_lpips *p;
    yd_lpips_figure figure;
    float *map; // or NULL
    int w, h;
} comparison;

YD_SIMD static float pixel_distance(const float *restrict a, const float *restrict b, const float *restrict lin,
                                    size_t c)
{
    float aa = 0.0f, bb = 0.0f, sum = 0.0f;
#pragma omp simd reduction(+ : aa, bb)
    for (size_t i = 0; i < c; i++) {
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    const float ka = 1.0f / (sqrtf(aa) + 1e-10f), kb = 1.0f / (sqrtf(bb) + 1e-10f);
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < c; i++) {
        const float d = a[i] * ka - b[i] * kb;
        sum += lin[i] * (d * d);
    }
    return sum;
}

// cells: one row of the layer's map, or NULL.
static double row_distance(const float *a, const float *b, const float *lin, size_t w, size_t c, float *cells)
{
    double sum = 0.0;
    for (size_t x = 0; x < w; x++) {
        float d = pixel_distance(a + x * c, b + x * c, lin, c);
        sum += d;
        if (cells) cells[x] = d;
    }
    return sum;
}

// The source position of pixel i of `out` in a row of `in`: two neighbours and the share of the second.
static void between(int i, int in, int out, int *first, int *second, float *share)
{
    double at = (i + 0.5) * in / out - 0.5;
    if (at < 0.0) at = 0.0;
    *first = (int)at < in - 1 ? (int)at : in - 1;
    *second = *first + 1 < in ? *first + 1 : *first;
    *share = (float)(at - *first);
}

static void add_enlarged(float *map, int w, int h, const float *cells, int cw, int ch)
{
#pragma omp parallel for schedule(static)
    for (int y = 0; y < h; y++) {
        int y0, y1, x0, x1;
        float fy, fx;
        between(y, ch, h, &y0, &y1, &fy);
        const float *top = cells + (size_t)y0 * (size_t)cw, *bottom = cells + (size_t)y1 * (size_t)cw;
        for (int x = 0; x < w; x++) {
            between(x, cw, w, &x0, &x1, &fx);
            float up = top[x0] + fx * (top[x1] - top[x0]), down = bottom[x0] + fx * (bottom[x1] - bottom[x0]);
            map[(size_t)y * (size_t)w + (size_t)x] += up + fy * (down - up);
        }
    }
}

static void compare_layer(void *context, int layer, const float *maps, int n, int h, int w, int c)
{
    comparison *k = context;
    (void)n; // 2
    size_t row = (size_t)w * (size_t)c;
    const float *a = maps, *b = maps + (size_t)h * row, *lin = k->p->net.lin[layer];
    double *rows = k->p->rows, sum = 0.0;
    float *cells = k->map ? k->p->cells : NULL;
#pragma omp parallel for schedule(static)
    for (int y = 0; y < h; y++)
        rows[y] = row_distance(a + (size_t)y * row, b + (size_t)y * row, lin, (size_t)w, (size_t)c,
                               cells ? cells + (size_t)y * (size_t)w : NULL);
    for (int y = 0; y < h; y++) sum += rows[y];
    k->figure.layer[layer] = sum / ((double)w * h);
    k->figure.total += k->figure.layer[layer];
    if (cells) add_enlarged(k->map, k->w, k->h, cells, w, h);
}

int yd_lpips_distance(yd_lpips *p, const uint8_t *a, const uint8_t *b, int w, int h, yd_lpips_figure *out, float *map,
                      yd_err *err)
{
    int rc = start(p, a, b, w, h, map != NULL, err);
    if (rc) return rc;
    if (map) memset(map, 0, (size_t)w * (size_t)h * sizeof *map);
    comparison k = {.p = p, .figure = {.layers = p->net.layers}, .map = map, .w = w, .h = h};
    rc = yd_trunk_run(p->trunk, compare_layer, &k, err);
    if (!rc) *out = k.figure;
    return rc;
}

// ---- features

typedef struct taking {
    int last;
    float *out;
} taking;

static void take_features(void *context, int layer, const float *maps, int n, int h, int w, int c)
{
    const taking *t = context;
    (void)n; // 1
    if (layer != t->last) return;
    size_t pixels = (size_t)h * (size_t)w, stride = (size_t)c;
    for (size_t i = 0; i < stride; i++) {
        double sum = 0.0;
        for (size_t p = 0; p < pixels; p++) sum += maps[p * stride + i];
        t->out[i] = (float)(sum / (double)pixels);
    }
}

int yd_lpips_features(yd_lpips *p, const uint8_t *rgb, int w, int h, float *out, yd_err *err)
{
    int rc = start(p, rgb, NULL, w, h, 0, err);
    taking t = {.last = p->net.layers - 1, .out = out};
    return rc ? rc : yd_trunk_run(p->trunk, take_features, &t, err);
}

// ---- distance per attention

int yd_lpips_bin_count(double width)
{
    if (!(width >= 1.0 / YD_LPIPS_MAX_BINS && width <= 1.0)) return 0;
    return (int)ceil(1.0 / width - 1e-9);
}

static int bin_of(float attention, double width, int count)
{
    int i = (int)(attention / width);
    return i < count ? i : count - 1;
}

static int count_bins(const float *attention, size_t pixels, double width, yd_lpips_bin *bins, yd_err *err)
{
    int count = yd_lpips_bin_count(width);
    if (!count)
        return yd_fail_field(err, YD_E_INVALID, "width", "0.001 to 1",
                             "bins of width %g of the attention cannot be made", width);
    for (int i = 0; i < count; i++)
        bins[i] = (yd_lpips_bin){.from = i * width, .to = i + 1 < count ? (i + 1) * width : 1.0};
    for (size_t i = 0; i < pixels; i++) {
        if (!(attention[i] >= 0.0f && attention[i] <= 1.0f))
            return yd_fail_field(err, YD_E_INVALID, "attention", "0 to 1", "attention %g of pixel %zu is out of range",
                                 (double)attention[i], i);
        bins[bin_of(attention[i], width, count)].pixels++;
    }
    return YD_OK;
}

int yd_lpips_bins(yd_lpips *p, const uint8_t *a, const uint8_t *b, const float *attention, int w, int h, double width,
                  yd_lpips_bin *bins, yd_err *err)
{
    int rc = check_size(p, w, h, err);
    if (rc) return rc;
    size_t pixels = (size_t)w * (size_t)h, bytes = pixels * CHANNELS;
    rc = count_bins(attention, pixels, width, bins, err);
    if (rc) return rc;
    uint8_t *part = yd_malloc(2 * bytes);
    if (!part) return yd_fail(err, YD_E_NOMEM, "no memory for the parts of %d x %d pixels", w, h);

    int count = yd_lpips_bin_count(width);
    for (int i = 0; i < count && !rc; i++) {
        if (!bins[i].pixels) continue;
        memset(part, 0, 2 * bytes);
        for (size_t k = 0; k < pixels; k++) {
            if (bin_of(attention[k], width, count) != i) continue;
            memcpy(part + k * CHANNELS, a + k * CHANNELS, CHANNELS);
            memcpy(part + bytes + k * CHANNELS, b + k * CHANNELS, CHANNELS);
        }
        yd_lpips_figure figure = {0};
        rc = yd_lpips_distance(p, part, part + bytes, w, h, &figure, NULL, err);
        bins[i].distance = figure.total;
    }
    yd_free(part);
    return rc;
}
