// The symmetric eigenvalue problem, by rows: every inner loop runs along memory.
//
// Step k of the reduction takes the rest of row k to one number by H = I - 2vv'. v stays in the row that it cleared. The transposed
// product of all reflections starts the vectors; each rotation of a QR step then mixes two neighbouring rows of them.
#include "core/eigen.h"

#include "core/mem.h"
#include "core/simd.h"

#include <float.h>
#include <math.h>
#include <string.h>

YD_SIMD static double dot(const double *restrict a, const double *restrict b, size_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

// y += k x
YD_SIMD static void add_scaled(double *restrict y, const double *restrict x, double k, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += k * x[i];
}

// (x, y) <- (c x + s y, c y - s x)
YD_SIMD static void rotate(double *restrict x, double *restrict y, double c, double s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double t = x[i];
        x[i] = c * t + s * y[i];
        y[i] = c * y[i] - s * t;
    }
}

// Make x a unit vector v with H x = (e, 0, ...); return e. v = 0 (H = I) where nothing is to be cleared.
static double reflect(double *x, size_t n)
{
    double most = 0.0;
    for (size_t i = 1; i < n; i++) most = fmax(most, fabs(x[i]));
    if (most == 0.0) {
        double e = x[0];
        memset(x, 0, n * sizeof *x);
        return e;
    }
    most = fmax(most, fabs(x[0]));
    for (size_t i = 0; i < n; i++) x[i] /= most;
    double norm = sqrt(dot(x, x, n)), e = x[0] > 0.0 ? -norm : norm;
    x[0] -= e;
    double length = sqrt(dot(x, x, n));
    for (size_t i = 0; i < n; i++) x[i] /= length;
    return e * most;
}

// a <- H a H for the trailing m x m block, whose first element is *block; w: room for m. Only both triangles together stay symmetric,
// so both are updated.
static void apply_both_sides(double *block, size_t stride, const double *v, double *w, size_t m)
{
    for (size_t i = 0; i < m; i++) w[i] = 2.0 * dot(block + i * stride, v, m);
    add_scaled(w, v, -dot(v, w, m), m);
    for (size_t i = 0; i < m; i++) {
        add_scaled(block + i * stride, w, -v[i], m);
        add_scaled(block + i * stride, v, -w[i], m);
    }
}

static void tridiagonalise(double *a, size_t n, double *d, double *e, double *w)
{
    for (size_t k = 0; k + 2 < n; k++) {
        double *v = a + k * n + k + 1;
        d[k] = a[k * n + k];
        e[k] = reflect(v, n - k - 1);
        apply_both_sides(a + (k + 1) * n + k + 1, n, v, w, n - k - 1);
    }
    if (n > 1) {
        d[n - 2] = a[(n - 2) * n + n - 2];
        e[n - 2] = a[(n - 2) * n + n - 1];
    }
    d[n - 1] = a[n * n - 1];
    e[n - 1] = 0.0;
}

// The reflections' product, transposed: rows and columns up to k are still those of the identity when H_k comes.
static void start_vectors(const double *a, size_t n, double *z)
{
    memset(z, 0, n * n * sizeof *z);
    for (size_t i = 0; i < n; i++) z[i * n + i] = 1.0;
    for (size_t k = n > 2 ? n - 2 : 0; k-- > 0;) {
        const double *v = a + k * n + k + 1;
        for (size_t i = k + 1; i < n; i++) {
            double *row = z + i * n + k + 1;
            add_scaled(row, v, -2.0 * dot(row, v, n - k - 1), n - k - 1);
        }
    }
}

// Wilkinson's shift: the eigenvalue of the last 2 x 2 block that is nearer to its last element.
static double shift_of(const double *d, const double *e, size_t hi)
{
    double half = (d[hi - 1] - d[hi]) / 2.0, off = e[hi - 1];
    return d[hi] - off * off / (half + copysign(hypot(half, off), half));
}

// One QR step on the rows lo..hi: the bulge is chased down by rotations.
static void qr_step(double *d, double *e, size_t lo, size_t hi, double *z, size_t n)
{
    double x = d[lo] - shift_of(d, e, hi), bulge = e[lo];
    for (size_t k = lo; k < hi; k++) {
        double r = hypot(x, bulge), c = r > 0.0 ? x / r : 1.0, s = r > 0.0 ? bulge / r : 0.0;
        double p = d[k], q = d[k + 1], off = e[k];
        if (k > lo) e[k - 1] = r;
        d[k] = c * c * p + 2.0 * c * s * off + s * s * q;
        d[k + 1] = s * s * p - 2.0 * c * s * off + c * c * q;
        e[k] = c * s * (q - p) + (c * c - s * s) * off;
        if (k + 1 < hi) {
            x = e[k];
            bulge = s * e[k + 1];
            e[k + 1] *= c;
        }
        if (z) rotate(z + k * n, z + (k + 1) * n, c, s, n);
    }
}

static int diagonalise(double *d, double *e, size_t n, double *z, yd_err *err)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++) most = fmax(most, fmax(fabs(d[i]), fabs(e[i])));
    const double nothing = DBL_EPSILON * most;
    size_t hi = n - 1, steps = 0;
    while (hi > 0) {
        if (fabs(e[hi - 1]) <= nothing) {
            hi--;
            continue;
        }
        size_t lo = hi - 1;
        while (lo > 0 && !(fabs(e[lo - 1]) <= nothing)) lo--;
        if (++steps > 60 * n)
            return yd_fail(err, YD_E_NUMERIC, "the eigenvalues of a %zu x %zu matrix do not converge", n, n);
        qr_step(d, e, lo, hi, z, n);
    }
    return YD_OK;
}

int yd_eigen_symmetric(double *a, int size, double *values, double *vectors, yd_err *err)
{
    size_t n = (size_t)size;
    double *work = yd_calloc(2 * n, sizeof *work);
    if (!work) return yd_fail(err, YD_E_NOMEM, "no memory for the eigenvalues of a %d x %d matrix", size, size);
    tridiagonalise(a, n, values, work, work + n);
    if (vectors) start_vectors(a, n, vectors);
    int rc = diagonalise(values, work, n, vectors, err);
    yd_free(work);
    return rc;
}
