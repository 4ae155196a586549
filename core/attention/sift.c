// Attention around SIFT keypoints (Lowe 2004; libvlfeat finds them): A = max over keypoints of exp(-d^2 / (2 r^2)), r = three times the
// keypoint's scale, between 2 pixels and an eighth of the shorter side; then divided by the largest value. The maximum, because a sum
// saturates where keypoints cluster.
//
// A picture without keypoints is examined once more at half the contrast; if there are none then either, nothing in it is worth less than
// the rest and the map is 1 everywhere. So it is for pictures whose shorter side has fewer than 8 pixels, where no keypoint has room.
//
// Work and memory have a bound whatever the picture: the first octave has at most FIRST_OCTAVE_PX pixels. Smaller pictures are doubled
// first (octave -1), larger ones are reduced by a whole factor, the map is made in the reduced size and enlarged bilinearly. Pictures here
// are enlarged ones, so that reducing them by a few loses little: their own pixels are that large.
#include "core/attention/methods.h"

#include "core/attention/vlfeat.h"
#include "core/mem.h"

#include <math.h>
#include <string.h>
#include <vl/sift.h>

#define FIRST_OCTAVE_PX ((size_t)1 << 19)
// libvlfeat's 22 floats per pixel of the first octave and room for a keypoint (40 bytes) on every one of them, which noise fills to a fifth.
#define BYTES_PER_PX  ((size_t)22 * sizeof(float) + 40)
#define FIXED_BYTES   ((size_t)1 << 20)
#define LEVELS        3
#define CONTRAST      (255.0 * 0.04 / 3)
#define EDGE          10.0
#define SMALLEST_SIDE 8
#define LARGEST_R     (1 << 7)            // an eighth of the shorter side: at most sqrt(FIRST_OCTAVE_PX) = 724 pixels
#define CUT           3.6                 // beyond so many r the value is under 1/600
#define MOST_REACH    (LARGEST_R * 4 + 2) // pixels on one side of a keypoint, and some more

typedef struct finder {
    const float *grey;
    float *map; // w*h, holds the largest value so far
    int w, h, first_octave;
    double contrast;
    long found;
} finder;

// exp(-d^2 / (2 r^2)) for the pixels lo..hi around a centre.
static void fill_profile(float *p, int lo, int hi, double centre, double r)
{
    for (int i = lo; i <= hi; i++) p[i - lo] = (float)exp(-(i - centre) * (i - centre) / (2.0 * r * r));
}

static void mark(finder *f, const VlSiftKeypoint *k)
{
    float px[2 * MOST_REACH] = {0}, py[2 * MOST_REACH] = {0};
    const int side = f->w < f->h ? f->w : f->h;
    const double r = fmax(2.0, fmin(3.0 * (double)k->sigma, fmin(side / 8.0, LARGEST_R))), reach = CUT * r;
    const double cx = (double)k->x, cy = (double)k->y;
    const int x0 = (int)fmax(0.0, ceil(cx - reach)), x1 = (int)fmin(f->w - 1, floor(cx + reach));
    const int y0 = (int)fmax(0.0, ceil(cy - reach)), y1 = (int)fmin(f->h - 1, floor(cy + reach));
    fill_profile(px, x0, x1, cx, r);
    fill_profile(py, y0, y1, cy, r);
    for (int y = y0; y <= y1; y++) {
        float *row = f->map + (size_t)y * (size_t)f->w + (size_t)x0;
        for (int x = 0; x <= x1 - x0; x++) {
            const float v = px[x] * py[y - y0];
            row[x] = row[x] > v ? row[x] : v;
        }
    }
}

static void find(void *arg)
{
    finder *f = arg;
    VlSiftFilt *s = vl_sift_new(f->w, f->h, -1, LEVELS, f->first_octave);
    vl_sift_set_peak_thresh(s, f->contrast);
    vl_sift_set_edge_thresh(s, EDGE);
    for (int rc = vl_sift_process_first_octave(s, f->grey); rc == 0; rc = vl_sift_process_next_octave(s)) {
        vl_sift_detect(s);
        const int n = vl_sift_get_nkeypoints(s);
        const VlSiftKeypoint *keys = vl_sift_get_keypoints(s);
        for (int i = 0; i < n; i++) mark(f, &keys[i]);
        f->found += n;
    }
    vl_sift_delete(s);
}

// Mean grey of blocks of by x by pixels; the last block of a row or column may be smaller.
static void reduce(const uint8_t *rgb, int w, int h, int by, float *grey, int gw, int gh)
{
    for (int y = 0; y < gh; y++)
        for (int x = 0; x < gw; x++) {
            const int x1 = (x + 1) * by < w ? (x + 1) * by : w, y1 = (y + 1) * by < h ? (y + 1) * by : h;
            long r = 0, g = 0, b = 0;
            for (int j = y * by; j < y1; j++) {
                const uint8_t *p = rgb + ((size_t)j * (size_t)w + (size_t)(x * by)) * 3;
                for (int i = x * by; i < x1; i++, p += 3) r += p[0], g += p[1], b += p[2];
            }
            const double n = (double)((x1 - x * by) * (y1 - y * by));
            grey[(size_t)y * (size_t)gw + (size_t)x] = (float)((0.299 * (double)r + 0.587 * (double)g + 0.114 * (double)b) / n);
        }
}

// Where pixel i of an axis enlarged `by` times lies between two of its n pixels.
static float between(int i, int by, int n, int *a, int *b)
{
    const double at = fmin(fmax((i + 0.5) / by - 0.5, 0.0), n - 1);
    *a = (int)at;
    *b = *a + 1 < n ? *a + 1 : *a;
    return (float)(at - *a);
}

static void enlarge(const float *small, int sw, int sh, int by, float *map, int w, int h)
{
    for (int y = 0; y < h; y++) {
        int ya, yb;
        const float v = between(y, by, sh, &ya, &yb);
        const float *above = small + (size_t)ya * (size_t)sw, *below = small + (size_t)yb * (size_t)sw;
        for (int x = 0; x < w; x++) {
            int xa, xb;
            const float u = between(x, by, sw, &xa, &xb);
            const float top = above[xa] + u * (above[xb] - above[xa]), bottom = below[xa] + u * (below[xb] - below[xa]);
            map[(size_t)y * (size_t)w + (size_t)x] = fminf(1.0f, fmaxf(0.0f, top + v * (bottom - top)));
        }
    }
}

static void scale_to_one(float *map, size_t n)
{
    float most = 0.0f;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, map[i]);
    for (size_t i = 0; i < n && most > 0.0f; i++) map[i] /= most;
}

// f's map in f's size; *found: whether there was anything to mark.
static int examine(finder *f, int *found)
{
    const size_t n = (size_t)f->w * (size_t)f->h, octave = f->first_octave < 0 ? 4 * n : n;
    memset(f->map, 0, n * sizeof *f->map);
    for (int attempt = 0; attempt < 2 && !f->found; attempt++) {
        f->contrast = attempt ? CONTRAST / 2 : CONTRAST;
        if (yd_vlfeat_run(find, f, octave * BYTES_PER_PX + FIXED_BYTES)) return -1;
    }
    scale_to_one(f->map, n);
    *found = f->found > 0;
    return 0;
}

int yd_attention_sift(const uint8_t *rgb, int w, int h, float *map, yd_err *err)
{
    const size_t n = (size_t)w * (size_t)h;
    int by = 1, found = 0, rc = YD_OK;
    finder f = {.w = w, .h = h};
    while ((size_t)f.w * (size_t)f.h > FIRST_OCTAVE_PX) {
        by *= 2;
        f.w = (w + by - 1) / by;
        f.h = (h + by - 1) / by;
    }
    f.first_octave = (size_t)f.w * (size_t)f.h * 4 <= FIRST_OCTAVE_PX ? -1 : 0;
    if (f.w >= SMALLEST_SIDE && f.h >= SMALLEST_SIDE) {
        const size_t px = (size_t)f.w * (size_t)f.h;
        float *grey = yd_malloc(px * sizeof *grey), *own = by > 1 ? yd_malloc(px * sizeof *own) : NULL;
        f.grey = grey;
        f.map = by > 1 ? own : map;
        if (grey && f.map) reduce(rgb, w, h, by, grey, f.w, f.h);
        if (!grey || !f.map || examine(&f, &found))
            rc = yd_fail(err, YD_E_NOMEM, "no memory for the keypoints of a picture of %d x %d", w, h);
        else if (found && by > 1)
            enlarge(own, f.w, f.h, by, map, w, h);
        yd_free(own);
        yd_free(grey);
    }
    for (size_t i = 0; i < n && !found && !rc; i++) map[i] = 1.0f;
    return rc;
}
