// Eigenvalues against their definition, Frechet distances against closed forms.
#include "core/frechet.h"

#include "core/eigen.h"
#include "core/mem.h"
#include "tests/unit/t.h"

static double uniform(uint32_t *s)
{
    *s = *s * 1664525u + 1013904223u;
    return (*s >> 8) / 8388608.0 - 1.0;
}

// A z = l z, and the rows of z are orthonormal.
static void check_eigen(int n, int rank)
{
    size_t c = (size_t)n * (size_t)n;
    double *a = calloc(c, sizeof *a), *copy = calloc(c, sizeof *a), *z = calloc(c, sizeof *a),
           *l = calloc((size_t)n, sizeof *l);
    double norm = 1e-300, wrong = 0, skew = 0;
    uint32_t seed = (uint32_t)(n * 31 + rank);
    for (int r = 0; r < rank; r++) {
        for (int i = 0; i < n; i++) l[i] = uniform(&seed);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) a[i * n + j] += (r % 2 ? -1 : 1) * l[i] * l[j];
    }
    memcpy(copy, a, c * sizeof *a);
    for (size_t i = 0; i < c; i++) norm = fmax(norm, fabs(a[i]));
    CHECK(yd_eigen_symmetric(a, n, l, z, NULL) == 0);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < n; i++) {
            double sum = 0;
            for (int j = 0; j < n; j++) sum += copy[i * n + j] * z[k * n + j];
            wrong = fmax(wrong, fabs(sum - l[k] * z[k * n + i]));
        }
        for (int m = 0; m <= k; m++) {
            double sum = 0;
            for (int j = 0; j < n; j++) sum += z[k * n + j] * z[m * n + j];
            skew = fmax(skew, fabs(sum - (m == k)));
        }
    }
    CHECK_MSG(wrong < 1e-13 * n * norm && skew < 1e-13 * n, "%d x %d of rank %d: off by %g of %g, skew %g", n, n, rank,
              wrong, norm, skew);
    free(a);
    free(copy);
    free(z);
    free(l);
}

static void test_eigen(void)
{
    static const int sizes[][2] = {{1, 1}, {1, 0},   {2, 2},  {3, 3},  {3, 1},  {5, 0},
                                   {8, 8}, {40, 40}, {41, 3}, {64, 1}, {90, 90}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_eigen(sizes[i][0], sizes[i][1]);
}

static void test_eigen_known(void)
{
    // 2 on the diagonal, -1 beside it: 2 - 2 cos(k pi/(n+1)).
    enum { N = 30 };
    double a[N * N] = {0}, l[N];
    for (int i = 0; i < N; i++) {
        a[i * N + i] = 2;
        if (i) a[i * N + i - 1] = a[(i - 1) * N + i] = -1;
    }
    CHECK(yd_eigen_symmetric(a, N, l, NULL, NULL) == 0);
    for (int k = 1; k <= N; k++) {
        double want = 2 - 2 * cos(k * acos(-1.0) / (N + 1)), near = 9;
        for (int i = 0; i < N; i++) near = fmin(near, fabs(l[i] - want));
        CHECK_MSG(near < 1e-13, "%d: %g away", k, near);
    }
    yd_err err = {0};
    double bad[9] = {1, NAN, 0, NAN, 1, 0, 0, 0, 1};
    CHECK(yd_eigen_symmetric(bad, 3, l, NULL, &err) == YD_E_NUMERIC && strstr(err.detail, "3 x 3"));
}

static double distance(const yd_moments *a, const yd_moments *b)
{
    double d = -1;
    yd_err err = {0};
    CHECK_MSG(yd_frechet_distance(a, b, &d, &err) == 0, "%s", err.detail);
    return d;
}

static void test_equal_and_moved(void)
{
    enum { N = 24 };
    uint32_t seed = 3;
    yd_moments *a = yd_moments_new(N), *b = yd_moments_new(N);
    for (int k = 0; k < 100; k++) {
        float x[N], y[N];
        for (int i = 0; i < N; i++) {
            x[i] = (float)(int)(uniform(&seed) * 64) / 64; // so that x + 0.5 is exact
            y[i] = x[i] + 0.5f;
        }
        yd_moments_add(a, x);
        yd_moments_add(b, y);
    }
    CHECK(yd_moments_count(a) == 100);
    CHECK(fabs(distance(a, a)) < 1e-10);
    CHECK(fabs(distance(a, b) - N * 0.25) < 1e-10 && fabs(distance(b, a) - N * 0.25) < 1e-10);
    yd_moments_free(a);
    yd_moments_free(b);
}

// The points +-s_i e_i along the first n axes have mean 0 and the variances 2 s_i^2/(2n-1): d = sum (sd_a - sd_b)^2. Of n < N/2 axes
// there are fewer points than numbers in each, and a set is its own root.
static void check_diagonal(int n)
{
    enum { N = 9 };
    yd_moments *a = yd_moments_new(N), *b = yd_moments_new(N);
    double want = 0;
    for (int i = 0; i < n; i++) {
        float x[N] = {0}, y[N] = {0};
        for (int sign = -1; sign <= 1; sign += 2) {
            x[i] = (float)(sign * (i + 1));
            y[i] = (float)(sign * (N - i) * (i != 2)); // one direction without variance
            yd_moments_add(a, x);
            yd_moments_add(b, y);
        }
        double sa = (i + 1) * sqrt(2.0 / (2 * n - 1)), sb = (N - i) * (i != 2) * sqrt(2.0 / (2 * n - 1));
        want += (sa - sb) * (sa - sb);
    }
    CHECK_MSG(fabs(distance(a, b) - want) < 1e-10 * want, "%.12f, not %.12f", distance(a, b), want);
    CHECK(fabs(distance(b, a) - want) < 1e-10 * want);
    yd_moments_add(a, (float[N]){0}); // sets of different sizes, the smaller one on either side
    CHECK(distance(a, b) == distance(b, a));
    yd_moments_free(a);
    yd_moments_free(b);
}

static void test_diagonal(void)
{
    check_diagonal(9);
    check_diagonal(4);
}

// Two points each: covariances u u'/2 and v v'/2 of rank one, Tr sqrt = |u.v|/2.
static void test_two_points(void)
{
    enum { N = 20 };
    yd_moments *a = yd_moments_new(N), *b = yd_moments_new(N);
    float zero[N] = {0}, u[N], v[N];
    uint32_t seed = 11;
    double uu = 0, vv = 0, uv = 0, apart = 0;
    for (int i = 0; i < N; i++) {
        u[i] = (float)uniform(&seed);
        v[i] = (float)uniform(&seed);
        uu += (double)u[i] * u[i];
        vv += (double)v[i] * v[i];
        uv += (double)u[i] * v[i];
        apart += pow((u[i] - (double)v[i]) / 2, 2);
    }
    yd_moments_add(a, zero);
    yd_moments_add(a, u);
    yd_moments_add(b, zero);
    yd_moments_add(b, v);
    double want = apart + (uu + vv) / 2 - fabs(uv), got = distance(a, b);
    CHECK_MSG(fabs(got - want) < 1e-6 * want, "%.12f, not %.12f", got, want);
    yd_moments_free(a);
    yd_moments_free(b);
}

// In two dimensions Tr sqrt(P) = sqrt(Tr P + 2 sqrt(det P)); covariances that do not commute.
static void test_plane(void)
{
    double s[2][3] = {{0}}, mean[2][2] = {{0}};
    float x[2][50][2];
    uint32_t seed = 5;
    yd_moments *m[2] = {yd_moments_new(2), yd_moments_new(2)};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < 50; i++) {
            double p = uniform(&seed), q = uniform(&seed);
            x[k][i][0] = (float)(k ? p : 3 * p + q);
            x[k][i][1] = (float)(k ? 2 * q - p : q);
            yd_moments_add(m[k], x[k][i]);
            for (int c = 0; c < 2; c++) mean[k][c] += x[k][i][c] / 50.0;
        }
        for (int i = 0; i < 50; i++) {
            double p = x[k][i][0] - mean[k][0], q = x[k][i][1] - mean[k][1];
            s[k][0] += p * p / 49, s[k][1] += p * q / 49, s[k][2] += q * q / 49;
        }
    }
    double trace = s[0][0] * s[1][0] + 2 * s[0][1] * s[1][1] + s[0][2] * s[1][2];
    double det = (s[0][0] * s[0][2] - s[0][1] * s[0][1]) * (s[1][0] * s[1][2] - s[1][1] * s[1][1]);
    double want = s[0][0] + s[0][2] + s[1][0] + s[1][2] - 2 * sqrt(trace + 2 * sqrt(det));
    for (int c = 0; c < 2; c++) want += pow(mean[0][c] - mean[1][c], 2);
    CHECK_MSG(fabs(distance(m[0], m[1]) - want) < 1e-10, "%.12f, not %.12f", distance(m[0], m[1]), want);
    yd_moments_free(m[0]);
    yd_moments_free(m[1]);
}

static void test_refused(void)
{
    yd_moments *a = yd_moments_new(3), *b = yd_moments_new(4), *c = yd_moments_new(3);
    double d = -5;
    yd_err err = {0};
    CHECK(yd_moments_new(0) == NULL && yd_moments_new(YD_MOMENTS_MAX_SIZE + 1) == NULL);
    CHECK(yd_frechet_distance(a, b, &d, &err) == YD_E_INVALID && strstr(err.detail, "3 and of 4"));
    yd_moments_add(a, (float[]){1, 2, 3});
    yd_moments_add(c, (float[]){1, 2, 3});
    yd_moments_add(c, (float[]){1, 2, 3});
    CHECK(yd_frechet_distance(a, c, &d, &err) == YD_E_INVALID && strstr(err.detail, "at least 2"));
    yd_moments_add(a, (float[]){1, NAN, 3});
    CHECK(yd_frechet_distance(c, a, &d, &err) == YD_E_INVALID && strstr(err.detail, "number 1") && d == -5.0);
    CHECK(yd_frechet_distance(c, c, &d, NULL) == 0 && d == 0.0); // no variance at all
    d = -5;
    for (long k = 1; k <= 3; k++) {
        yd_mem_fail_at(k);
        CHECK(yd_frechet_distance(c, c, &d, NULL) == (k < 3 ? YD_E_NOMEM : 0));
    }
    for (long k = 1; k <= 5; k++) {
        yd_mem_fail_at(k);
        CHECK(yd_moments_new(3) == NULL);
    }
    yd_mem_fail_at(0);
    yd_moments_free(a);
    yd_moments_free(b);
    yd_moments_free(c);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"eigen: vectors and values of random matrices", test_eigen},
        {"eigen: a matrix with known values; what is not finite", test_eigen_known},
        {"frechet: equal and moved sets", test_equal_and_moved},
        {"frechet: diagonal covariances", test_diagonal},
        {"frechet: sets of two vectors", test_two_points},
        {"frechet: covariances that do not commute", test_plane},
        {"frechet: what is refused", test_refused},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
