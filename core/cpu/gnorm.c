// Group normalisation, with the noise-level vector added before and SiLU applied after, over NHWC maps:
//     y = f(gamma*(x + v - mean)*rstd + beta)
//
// Two passes over x. The first takes, per block of pixels and channel, f32 sums of d and d*d, d = x - x(first pixel
// of the sample): the shift keeps large means from cancelling. v shifts a channel's mean and leaves its variance
// alone, so it needs no pass. Blocks are joined per sample in double, in block order. The second pass applies
//     y = f((x - m)*a + b)
// with per-channel m, a, b; the part of the mean that m cannot hold in f32 goes into b.
//
// Scratch: [n][2c] double totals, [n][3c] coefficients, [n*blocks][3c] block sums (shift, sum, squares).
// Read next: gnorm_bwd.c.
#include "core/cpu/cpu.h"
#include "core/cpu/vec.h"
#include "core/simd.h"
#include <math.h>

typedef struct norm {
    const yd_op *op;
    const void *x;
    void *y;
    int xb, yb; // storage types
    const float *v, *gamma, *beta;
    float *stats;
    size_t n, pixels, c, rows, blocks;
    double *totals;
    float *coef, *sums;
} norm;

// Add rows of x - shift to sum and of its square to sq. Four rows at once, because the sums are memory operands.
YD_INLINE void sum_body(const void *x, int xb, size_t rows, size_t c, const float *restrict shift, float *restrict sum,
                        float *restrict sq)
{
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const void *p0 = yd_at(x, r * c, xb), *p1 = yd_at(x, (r + 1) * c, xb), *p2 = yd_at(x, (r + 2) * c, xb),
                   *p3 = yd_at(x, (r + 3) * c, xb);
#pragma omp simd
        for (size_t j = 0; j < c; j++) {
            float d0 = yd_load(p0, j, xb) - shift[j], d1 = yd_load(p1, j, xb) - shift[j];
            float d2 = yd_load(p2, j, xb) - shift[j], d3 = yd_load(p3, j, xb) - shift[j];
            sum[j] += (d0 + d1) + (d2 + d3);
            sq[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
        }
    }
    for (; r < rows; r++) {
        const void *p = yd_at(x, r * c, xb);
#pragma omp simd
        for (size_t j = 0; j < c; j++) {
            float d = yd_load(p, j, xb) - shift[j];
            sum[j] += d;
            sq[j] += d * d;
        }
    }
}

YD_SIMD
static void sum_rows(const void *x, int xb, size_t rows, size_t c, const float *shift, float *sum, float *sq)
{
    if (xb)
        sum_body(x, 1, rows, c, shift, sum, sq);
    else
        sum_body(x, 0, rows, c, shift, sum, sq);
}

static void sum_block(const norm *s, size_t sample, size_t block)
{
    const void *x = yd_at(s->x, sample * s->pixels * s->c, s->xb);
    float *out = s->sums + (sample * s->blocks + block) * 3 * s->c;
    size_t first = block * s->rows, left = s->pixels - first;
    for (size_t j = 0; j < s->c; j++) {
        out[j] = yd_load(x, j, s->xb);
        out[s->c + j] = out[2 * s->c + j] = 0;
    }
    sum_rows(yd_at(x, first * s->c, s->xb), s->xb, left < s->rows ? left : s->rows, s->c, out, out + s->c,
             out + 2 * s->c);
}

// Per-channel totals of a sample: replaces (sum, squares) by (mean, sum of squared deviations).
static void join_blocks(const norm *s, size_t sample)
{
    size_t c = s->c;
    const float *sums = s->sums + sample * s->blocks * 3 * c;
    double *mean = s->totals + sample * 2 * c, *dev = mean + c, count = (double)s->pixels;
    for (size_t j = 0; j < 2 * c; j++) mean[j] = 0;
    for (size_t b = 0; b < s->blocks; b++)
        for (size_t j = 0; j < 2 * c; j++)
            mean[j] += (double)sums[b * 3 * c + c + j]; // both halves: they are adjacent in both
    for (size_t j = 0; j < c; j++) {
        double d = mean[j] / count, v = s->v ? (double)s->v[sample * c + j] : 0;
        dev[j] -= d * mean[j];
        mean[j] = (double)sums[j] + d + v;
    }
}

static void make_coefficients(const norm *s, size_t sample)
{
    size_t c = s->c, groups = yd_sz(s->op->groups), width = c / groups;
    join_blocks(s, sample);
    const double *mean_c = s->totals + sample * 2 * c, *dev_c = mean_c + c;
    float *m = s->coef + sample * 3 * c, *a = m + c, *b = a + c;
    for (size_t g = 0; g < groups; g++) {
        double mean = 0, dev = 0;
        for (size_t j = g * width; j < (g + 1) * width; j++) mean += mean_c[j];
        mean /= (double)width;
        for (size_t j = g * width; j < (g + 1) * width; j++) {
            double d = mean_c[j] - mean;
            dev += dev_c[j] + (double)s->pixels * d * d;
        }
        double var = dev / ((double)width * (double)s->pixels), rstd = 1.0 / sqrt((var > 0   ? var
                                                                                   : var < 0 ? 0
                                                                                             : var) +
                                                                                  (double)s->op->eps);
        for (size_t j = g * width; j < (g + 1) * width; j++) {
            double mj = mean - (s->v ? (double)s->v[sample * c + j] : 0), aj = (double)s->gamma[j] * rstd;
            m[j] = (float)mj;
            a[j] = (float)aj;
            b[j] = (float)((double)s->beta[j] - (mj - (double)m[j]) * aj);
        }
        if (!s->stats) continue;
        s->stats[sample * 2 * groups + g] = (float)mean;
        s->stats[sample * 2 * groups + groups + g] = (float)rstd;
    }
}

YD_INLINE void apply_body(const void *x, int xb, void *y, int yb, int act, size_t rows, size_t c,
                          const float *restrict m, const float *restrict a, const float *restrict b)
{
    for (size_t r = 0; r < rows; r++) {
        const void *p = yd_at(x, r * c, xb);
        void *q = yd_at_mut(y, r * c, yb);
#pragma omp simd
        for (size_t j = 0; j < c; j++) {
            float z = (yd_load(p, j, xb) - m[j]) * a[j] + b[j];
            yd_store(q, j, yb, act ? z * yd_sigmoid(z) : z);
        }
    }
}

YD_SIMD
static void apply_rows(const void *x, int xb, void *y, int yb, int act, size_t rows, size_t c, const float *coef)
{
    const float *m = coef, *a = coef + c, *b = a + c;
    if (xb && yb && act)
        apply_body(x, 1, y, 1, 1, rows, c, m, a, b);
    else if (!xb && !yb && act)
        apply_body(x, 0, y, 0, 1, rows, c, m, a, b);
    else if (xb && yb)
        apply_body(x, 1, y, 1, 0, rows, c, m, a, b);
    else if (!xb && !yb)
        apply_body(x, 0, y, 0, 0, rows, c, m, a, b);
    else
        apply_body(x, xb, y, yb, act, rows, c, m, a, b);
}

static void apply_block(const norm *s, size_t sample, size_t block)
{
    size_t first = block * s->rows, left = s->pixels - first, at = (sample * s->pixels + first) * s->c;
    apply_rows(yd_at(s->x, at, s->xb), s->xb, yd_at_mut(s->y, at, s->yb), s->yb, s->op->act,
               left < s->rows ? left : s->rows, s->c, s->coef + sample * 3 * s->c);
}

static void set_sizes(const yd_exec *e, const yd_op *op, norm *s)
{
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    *s = (norm){.op = op, .n = yd_sz(e->n), .pixels = yd_sz(t->h) * yd_sz(t->w), .c = yd_sz(t->c)};
    s->rows = yd_block_rows(s->pixels, s->c);
    s->blocks = (s->pixels + s->rows - 1) / s->rows;
}

static int run_gnorm(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    const yd_op *op = k->op;
    norm s;
    set_sizes(e, op, &s);
    s.x = yd_exec_ptr(e, op->in[0]);
    s.y = yd_exec_ptr(e, op->out[0]);
    s.xb = yd_is_bf16(e, op->in[0]);
    s.yb = yd_is_bf16(e, op->out[0]);
    s.v = op->in[1] == YD_NONE ? NULL : yd_exec_ptr(e, op->in[1]);
    s.gamma = yd_exec_ptr(e, op->in[2]);
    s.beta = yd_exec_ptr(e, op->in[3]);
    s.stats = op->out[1] == YD_NONE ? NULL : yd_exec_ptr(e, op->out[1]);
    s.totals = (double *)(void *)e->scratch;
    s.coef = (float *)(s.totals + s.n * 2 * s.c);
    s.sums = s.coef + s.n * 3 * s.c;
    size_t tasks = s.n * s.blocks;
#pragma omp parallel num_threads(yd_threads(e, s.n *s.pixels *s.c))
    {
#pragma omp for schedule(static)
        for (size_t i = 0; i < tasks; i++) sum_block(&s, i / s.blocks, i % s.blocks);
#pragma omp for schedule(static)
        for (size_t i = 0; i < s.n; i++) make_coefficients(&s, i);
#pragma omp for schedule(static)
        for (size_t i = 0; i < tasks; i++) apply_block(&s, i / s.blocks, i % s.blocks);
    }
    return 0;
}

int yd_make_gnorm(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need(e, op, op->in[0], "input", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    if (op->groups < 1 || t->c % op->groups)
        return yd_exec_refuse(e, op, YD_E_INVALID, "the groups do not divide the channels", err);
    int vec[4] = {t->c, 1, 1, 1};
    rc = yd_need(e, op, op->out[0], "result", t->h, t->w, t->c, err);
    if (!rc && op->in[1] != YD_NONE) rc = yd_need_f32(e, op, op->in[1], "vector", 1, 1, t->c, err);
    if (!rc) rc = yd_need_param(e, op, op->in[2], "gamma", vec, err);
    if (!rc) rc = yd_need_param(e, op, op->in[3], "beta", vec, err);
    if (!rc && op->out[1] != YD_NONE) rc = yd_need_f32(e, op, op->out[1], "statistics", 1, 1, 2 * op->groups, err);
    if (rc) return rc;
    norm s;
    set_sizes(e, op, &s);
    yd_exec_scratch(e, s.n * s.c * (2 * sizeof(double) + 3 * sizeof(float) + s.blocks * 3 * sizeof(float)));
    return yd_exec_kernel(e, op, run_gnorm) ? 0 : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
}
