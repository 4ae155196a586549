// The layout of windows and their weights (see windows.h). Owns the arrays of a yd_windows; no threads, no state.
#include "core/windows.h"
#include "core/mem.h"

#include <string.h>

#define COLUMNS 1024 // of the canvas, reduced at a time

// 0 before lo, 1 from hi on, a smoothstep between; pixel centres are at x + 0.5.
static float transition(int x, float lo, float hi)
{
    float p = (float)x + 0.5f;
    if (p <= lo) return 0.0f;
    if (p >= hi) return 1.0f;
    float t = (p - lo) / (hi - lo);
    return t * t * (3.0f - 2.0f * t);
}

// How far pixel x has passed from window i to window i+1.
static float passed(const yd_axis *a, int window, int i, int x)
{
    float lo = (float)a->start[i + 1], hi = (float)(a->start[i] + window);
    float quarter = (hi - lo) / 4.0f;
    return transition(x, lo + quarter, hi - quarter);
}

static float raw_weight(const yd_axis *a, int window, int size, int i, int x)
{
    if (x < a->start[i] || x >= a->start[i] + window || x >= size) return 0.0f;
    float left = i > 0 ? passed(a, window, i - 1, x) : 1.0f;
    float right = i + 1 < a->n ? passed(a, window, i, x) : 0.0f;
    return left * (1.0f - right);
}

// Only windows first..last-1 reach pixel x, a handful: both ends move along with x, so that a long axis takes linear time.
static void normalise(yd_axis *a, int window, int size)
{
    int first = 0, last = 0;
    for (int x = 0; x < size; x++) {
        while (a->start[first] + window <= x) first++;
        while (last < a->n && a->start[last] <= x) last++;
        float sum = 0.0f;
        for (int i = first; i < last; i++) sum += raw_weight(a, window, size, i, x);
        for (int i = first; i < last; i++)
            a->weight[(size_t)i * (size_t)window + (size_t)(x - a->start[i])] = raw_weight(a, window, size, i, x) / sum;
    }
}

static int make_axis(int size, int window, int overlap, int align, yd_axis *a, yd_err *err)
{
    a->n = yd_windows_along(size, window, overlap);
    a->start = yd_calloc((size_t)a->n, sizeof *a->start);
    a->weight = yd_calloc((size_t)a->n * (size_t)window, sizeof *a->weight);
    if (!a->start || !a->weight) return yd_fail(err, YD_E_NOMEM, "no memory for the window layout");
    for (int i = 1; i < a->n; i++) a->start[i] = (int)((long)i * (size - window) / (a->n - 1)) / align * align;
    normalise(a, window, size);
    return 0;
}

int yd_windows_make(int w, int h, int window_w, int window_h, int overlap, yd_windows *out, yd_err *err)
{
    return yd_windows_make_aligned(w, h, window_w, window_h, overlap, 1, out, err);
}

int yd_windows_make_aligned(int w, int h, int window_w, int window_h, int overlap, int align, yd_windows *out, yd_err *err)
{
    memset(out, 0, sizeof *out);
    out->window_w = window_w;
    out->window_h = window_h;
    out->w = w;
    out->h = h;
    if (w % align || h % align || window_w % align || window_h % align)
        return yd_fail(err, YD_E_INTERNAL, "windows of %dx%d over %dx%d pixels do not lie on multiples of %d", window_w, window_h, w, h, align);
    int rc = make_axis(w, window_w, overlap, align, &out->x, err);
    return rc ? rc : make_axis(h, window_h, overlap, align, &out->y, err);
}

// The pixels first..end-1 of window i that count, as canvas coordinates. Weights are positive on one run of pixels.
static void say(const yd_axis *a, int window, int i, int *first, int *end)
{
    const float *weight = a->weight + (size_t)i * (size_t)window;
    int lo = 0, hi = window;
    while (lo < window && !(weight[lo] > 0.0f)) lo++;
    while (hi > lo && !(weight[hi - 1] > 0.0f)) hi--;
    *first = a->start[i] + lo;
    *end = a->start[i] + hi;
}

// The largest values of columns x0..x0+n-1 over the rows y0..y1-1.
static void column_max(const yd_windows *ws, const uint16_t *a, int x0, int n, int y0, int y1, uint16_t *column)
{
    memset(column, 0, (size_t)n * sizeof *column);
    for (int y = y0; y < y1; y++) {
        const uint16_t *row = a + (size_t)y * (size_t)ws->w + (size_t)x0;
        for (int x = 0; x < n; x++) column[x] = row[x] > column[x] ? row[x] : column[x];
    }
}

// What columns x0..x0+n-1 add to the windows of one row of them.
static void spread_columns(const yd_windows *ws, const uint16_t *column, int x0, int n, uint16_t *max)
{
    for (int ix = 0; ix < ws->x.n; ix++) {
        int first, end;
        say(&ws->x, ws->window_w, ix, &first, &end);
        if (first >= x0 + n) break;
        if (first < x0) first = x0;
        if (end > x0 + n) end = x0 + n;
        for (int x = first; x < end; x++)
            if (column[x - x0] > max[ix]) max[ix] = column[x - x0];
    }
}

void yd_windows_max(const yd_windows *ws, const uint16_t *a, uint16_t *max)
{
    uint16_t column[COLUMNS];
    memset(max, 0, (size_t)yd_windows_count(ws) * sizeof *max);
    for (int iy = 0; iy < ws->y.n; iy++) {
        int y0, y1;
        say(&ws->y, ws->window_h, iy, &y0, &y1);
        for (int x0 = 0; x0 < ws->w; x0 += COLUMNS) {
            const int n = ws->w - x0 < COLUMNS ? ws->w - x0 : COLUMNS;
            column_max(ws, a, x0, n, y0, y1, column);
            spread_columns(ws, column, x0, n, max + (size_t)iy * (size_t)ws->x.n);
        }
    }
}

// The pixels that window i has a say in: columns x[0]..x[1]-1, rows y[0]..y[1]-1.
static void rectangle(const yd_windows *ws, int i, int x[2], int y[2])
{
    say(&ws->x, ws->window_w, i % ws->x.n, &x[0], &x[1]);
    say(&ws->y, ws->window_h, i / ws->x.n, &y[0], &y[1]);
}

static uint16_t mean_of(const yd_windows *ws, const uint16_t *a, int i)
{
    int x[2], y[2];
    uint64_t sum = 0;
    rectangle(ws, i, x, y);
    for (int row = y[0]; row < y[1]; row++)
        for (int col = x[0]; col < x[1]; col++) sum += a[(size_t)row * (size_t)ws->w + (size_t)col];
    const uint64_t n = (uint64_t)(x[1] - x[0]) * (uint64_t)(y[1] - y[0]);
    return n ? (uint16_t)((sum + n / 2) / n) : 0;
}

void yd_windows_level(const yd_windows *ws, uint16_t *a, uint16_t *worth)
{
    const int n = yd_windows_count(ws);
    for (int i = 0; i < n; i++) worth[i] = mean_of(ws, a, i);
    memset(a, 0xff, (size_t)ws->w * (size_t)ws->h * sizeof *a);
    for (int i = 0; i < n; i++) {
        int x[2], y[2];
        rectangle(ws, i, x, y);
        for (int row = y[0]; row < y[1]; row++)
            for (int col = x[0]; col < x[1]; col++) {
                uint16_t *at = a + (size_t)row * (size_t)ws->w + (size_t)col;
                if (worth[i] < *at) *at = worth[i];
            }
    }
}

void yd_windows_clear(yd_windows *ws)
{
    yd_free(ws->x.start);
    yd_free(ws->x.weight);
    yd_free(ws->y.start);
    yd_free(ws->y.weight);
    memset(ws, 0, sizeof *ws);
}
