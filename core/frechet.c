// Moments of a set of vectors, and the Frechet distance of two sets.
//
// With S1 = B'B the matrix B S2 B' has the eigenvalues of sqrt(S1) S2 sqrt(S1) and, maybe, zeros more or less, which add nothing. A set
// of at most as many vectors as they have numbers is itself such a B: its vectors about their mean, by sqrt(count - 1). It is kept for
// that, and one decomposition of a small matrix is all. For larger sets, with S1 = Z'LZ (rows of Z are eigenvectors), B = sqrt(L) Z;
// directions in which S1 has no variance are left out.
#include "core/frechet.h"

#include "core/eigen.h"
#include "core/mem.h"
#include "core/simd.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct yd_moments {
    int size;
    long count;
    double *mean;  // [size]
    double *delta; // [size], scratch
    double *co;    // [size][size], sums of products about the mean; from the diagonal to the right
    float *kept;   // [size][size], the first `size` vectors
};

// y += k x
YD_SIMD static void add_scaled(double *restrict y, const double *restrict x, double k, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += k * x[i];
}

YD_SIMD static double dot(const double *restrict a, const double *restrict b, size_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

void yd_moments_free(yd_moments *m)
{
    if (!m) return;
    yd_free(m->mean);
    yd_free(m->delta);
    yd_free(m->co);
    yd_free(m->kept);
    yd_free(m);
}

yd_moments *yd_moments_new(int size)
{
    if (size < 1 || size > YD_MOMENTS_MAX_SIZE) return NULL;
    yd_moments *m = yd_calloc(1, sizeof *m);
    if (!m) return NULL;
    size_t n = (size_t)size;
    m->size = size;
    m->mean = yd_calloc(n, sizeof *m->mean);
    m->delta = yd_calloc(n, sizeof *m->delta);
    m->co = yd_calloc(n * n, sizeof *m->co);
    m->kept = yd_malloc(n * n * sizeof *m->kept);
    if (m->mean && m->delta && m->co && m->kept) return m;
    yd_moments_free(m);
    return NULL;
}

void yd_moments_add(yd_moments *m, const float *x)
{
    size_t n = (size_t)m->size;
    if (m->count < m->size) memcpy(m->kept + (size_t)m->count * n, x, n * sizeof *x);
    double count = (double)++m->count;
    for (size_t i = 0; i < n; i++) m->delta[i] = x[i] - m->mean[i];
    for (size_t i = 0; i < n; i++) {
        add_scaled(m->co + i * n + i, m->delta + i, m->delta[i] * (count - 1.0) / count, n - i);
        m->mean[i] += m->delta[i] / count;
    }
}

long yd_moments_count(const yd_moments *m)
{
    return m->count;
}

// The whole matrix, both triangles. Returns its trace.
static double covariance(const yd_moments *m, double *s)
{
    size_t n = (size_t)m->size;
    double trace = 0.0, k = 1.0 / (double)(m->count - 1);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i; j < n; j++) s[i * n + j] = s[j * n + i] = m->co[i * n + j] * k;
        trace += s[i * n + i];
    }
    return trace;
}

static int check_set(const yd_moments *m, yd_err *err)
{
    if (m->count < 2)
        return yd_fail(err, YD_E_INVALID, "a Frechet distance needs sets of at least 2 vectors, not %ld", m->count);
    for (size_t i = 0; i < (size_t)m->size; i++) // a vector that is not finite leaves its mark on the mean
        if (!isfinite(m->mean[i])) return yd_fail(err, YD_E_INVALID, "number %zu of a feature vector is not finite", i);
    return YD_OK;
}

// Values this far below the largest are rounding, and their roots would not be small.
static double cut_of(const double *values, size_t n)
{
    double most = 0.0;
    for (size_t i = 0; i < n; i++) most = fmax(most, values[i]);
    return most * (double)n * DBL_EPSILON;
}

static double sum_of_roots(const double *values, size_t n)
{
    double cut = cut_of(values, n), sum = 0.0;
    for (size_t i = 0; i < n; i++)
        if (values[i] > cut) sum += sqrt(values[i]);
    return sum;
}

// Rows of z that belong to values above rounding, scaled by the values' roots and moved to the front. Returns their number.
static size_t scaled_rows(double *z, const double *values, size_t n)
{
    double cut = cut_of(values, n);
    size_t rank = 0;
    for (size_t i = 0; i < n; i++) {
        if (!(values[i] > cut)) continue;
        double root = sqrt(values[i]);
        for (size_t j = 0; j < n; j++) z[rank * n + j] = z[i * n + j] * root;
        rank++;
    }
    return rank;
}

// m = b s b', rank x rank; row: room for n.
static void sandwich(const double *b, size_t rank, const double *s, size_t n, double *row, double *m)
{
    for (size_t i = 0; i < rank; i++) {
        memset(row, 0, n * sizeof *row);
        for (size_t k = 0; k < n; k++) add_scaled(row, s + k * n, b[i * n + k], n);
        for (size_t j = 0; j < rank; j++) m[i * rank + j] = dot(row, b + j * n, n);
    }
}

// The vectors of a small set as a root of its covariance. Returns their number.
static size_t centred_rows(const yd_moments *m, double *b)
{
    size_t n = (size_t)m->size, rows = (size_t)m->count;
    double k = 1.0 / sqrt((double)(m->count - 1));
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < n; j++) b[i * n + j] = (m->kept[i * n + j] - m->mean[j]) * k;
    return rows;
}

typedef struct workspace { // n = size of the vectors
    double *s1, *s2;       // [n][n], the covariances; s1 is destroyed
    double *b;             // [n][n]
    double *values, *row;  // [n]
} workspace;

// Tr sqrt(S1 S2), S1 the covariance of `a`.
static int trace_of_root(const yd_moments *a, const workspace *w, double *out, yd_err *err)
{
    size_t n = (size_t)a->size, rank;
    if (a->count <= a->size) {
        rank = centred_rows(a, w->b);
    } else {
        int rc = yd_eigen_symmetric(w->s1, a->size, w->values, w->b, err);
        if (rc) return rc;
        rank = scaled_rows(w->b, w->values, n);
    }
    *out = 0.0;
    if (rank == 0) return YD_OK;
    sandwich(w->b, rank, w->s2, n, w->row, w->s1);
    int rc = yd_eigen_symmetric(w->s1, (int)rank, w->values, NULL, err);
    if (!rc) *out = sum_of_roots(w->values, rank);
    return rc;
}

int yd_frechet_distance(const yd_moments *a, const yd_moments *b, double *out, yd_err *err)
{
    if (a->size != b->size)
        return yd_fail(err, YD_E_INVALID, "vectors of %d and of %d numbers cannot be compared", a->size, b->size);
    if (b->count < a->count) { // the distance is symmetric, the work is not
        const yd_moments *smaller = b;
        b = a, a = smaller;
    }
    int rc = check_set(a, err);
    if (!rc) rc = check_set(b, err);
    if (rc) return rc;

    size_t n = (size_t)a->size;
    double *work = yd_calloc(3 * n * n + 2 * n, sizeof *work);
    if (!work) return yd_fail(err, YD_E_NOMEM, "no memory for the Frechet distance of vectors of %d numbers", a->size);
    const workspace w = {work, work + n * n, work + 2 * n * n, work + 3 * n * n, work + 3 * n * n + n};
    double traces = covariance(a, w.s1) + covariance(b, w.s2), root = 0.0, apart = 0.0;
    rc = trace_of_root(a, &w, &root, err);
    for (size_t i = 0; i < n; i++) apart += (a->mean[i] - b->mean[i]) * (a->mean[i] - b->mean[i]);
    if (!rc) *out = fmax(apart + traces - 2.0 * root, 0.0);
    yd_free(work);
    return rc;
}
