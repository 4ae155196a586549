// MATLAB's bicubic enlargement by a whole factor, in double, of values v/256: see resize.h.
//
// Every result pixel is a weighted sum of 6 x 6 pixels (MATLAB's imresize counts two more than the kernel reaches), rows first, then columns.
// The weights depend on the pixel's place within the factor alone. Owns nothing beyond the call.
#include "core/mem.h"
#include "core/resize.h"

#include <math.h>
#include <string.h>

#define TAPS       6
#define MAX_FACTOR 64

// The six source pixels of one place within the factor: from `first` (relative to the source pixel below it) on, and their weights.
typedef struct phase {
    int first;
    double weight[TAPS];
} phase;

static double cubic(double x)
{
    x = fabs(x);
    if (x <= 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
    return x < 2.0 ? ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 : 0.0;
}

static void make_phases(int factor, phase *p)
{
    for (int i = 0; i < factor; i++, p++) {
        const double at = (i + 0.5) / factor - 0.5; // the pixel's centre between those of the source
        double sum = 0.0;
        p->first = (int)floor(at) - 2;
        for (int k = 0; k < TAPS; k++) sum += p->weight[k] = cubic(at - (p->first + k));
        for (int k = 0; k < TAPS; k++) p->weight[k] /= sum;
    }
}

// Mirrored with the border repeated: -1 is 0.
static int mirrored(int i, int n)
{
    const int period = 2 * n;
    i = (i % period + period) % period;
    return i < n ? i : period - 1 - i;
}

// Row y of the result, at the source's width.
static void combine_rows(const uint16_t *src, int sw, int sh, int y, int factor, const phase *p, double *row)
{
    const size_t n = (size_t)sw * 3;
    const phase *at = &p[y % factor];
    memset(row, 0, n * sizeof *row);
    for (int k = 0; k < TAPS; k++) {
        const uint16_t *line = src + (size_t)mirrored(y / factor + at->first + k, sh) * n;
        for (size_t i = 0; i < n; i++) row[i] += at->weight[k] * (line[i] / 65792.0); // 257 * 256
    }
}

static void enlarge_row(const double *row, int sw, int factor, const phase *p, float *dst)
{
    for (int x = 0; x < sw * factor; x++, dst += 3) {
        const phase *at = &p[x % factor];
        double sum[3] = {0.0, 0.0, 0.0};
        for (int k = 0; k < TAPS; k++) {
            const double *pixel = row + (size_t)mirrored(x / factor + at->first + k, sw) * 3;
            for (int c = 0; c < 3; c++) sum[c] += at->weight[k] * pixel[c];
        }
        for (int c = 0; c < 3; c++) dst[c] = (float)(sum[c] * 2.0 - 1.0);
    }
}

int yd_resize_matlab256(const uint16_t *src, int sw, int sh, int factor, float *dst, yd_err *err)
{
    phase phases[MAX_FACTOR];
    if (factor < 1 || factor > MAX_FACTOR) return yd_fail(err, YD_E_INTERNAL, "pictures cannot be enlarged by %d", factor);
    double *row = yd_malloc((size_t)sw * 3 * sizeof *row);
    if (!row) return yd_fail(err, YD_E_NOMEM, "no memory for a picture of %dx%d pixels", sw, sh);
    make_phases(factor, phases);
    for (int y = 0; y < sh * factor; y++) {
        combine_rows(src, sw, sh, y, factor, phases, row);
        enlarge_row(row, sw, factor, phases, dst + (size_t)y * (size_t)sw * (size_t)factor * 3);
    }
    yd_free(row);
    return 0;
}
