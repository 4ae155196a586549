// The gradient of group normalisation (gnorm.c), recomputing the normalised values and SiLU from x and the saved
// statistics.
//
// With u the normalised input, z = gamma*u + beta and g = dy*f'(z), a channel of a sample needs three sums: A = sum
// g, B = sum g*u, C = sum u. Then dbeta = sum A and dgamma = sum B over the batch, and per group of N elements
//     dx = rstd * (gamma*g - m1 - u*m2),   m1 = sum gamma*A / N,  m2 = sum gamma*B / N,
// and dv, the sum of dx over the pixels, follows from the sums alone. Two passes over x and dy; block sums in f32,
// joined in block order in double.
//
// Scratch: [n][3c] double totals, [n][4c] coefficients (mean, rstd, m1, m2), [n*blocks][3c] block sums.
#include "core/cpu/cpu.h"
#include "core/cpu/vec.h"
#include "core/simd.h"

typedef struct grad {
    const yd_op *op;
    const void *x, *dy;
    void *dx;
    int xb, dyb, dxb;
    const float *v, *gamma, *beta, *stats;
    float *dv, *dgamma, *dbeta;
    size_t n, pixels, c, rows, blocks;
    double *totals;
    float *coef, *sums;
} grad;

YD_INLINE void sum_body(const void *x, int xb, const void *dy, int dyb, int act, size_t rows, size_t c,
                        const float *restrict m, const float *restrict r, const float *restrict gamma,
                        const float *restrict beta, float *restrict a, float *restrict b, float *restrict u_sum)
{
    for (size_t i = 0; i < rows; i++) {
        const void *px = yd_at(x, i * c, xb), *pd = yd_at(dy, i * c, dyb);
#pragma omp simd
        for (size_t j = 0; j < c; j++) {
            float u = (yd_load(px, j, xb) - m[j]) * r[j], g = yd_load(pd, j, dyb);
            if (act) g *= yd_silu_slope(gamma[j] * u + beta[j]);
            a[j] += g;
            b[j] += g * u;
            u_sum[j] += u;
        }
    }
}

YD_SIMD
static void sum_rows(const grad *s, const void *x, const void *dy, size_t rows, const float *coef, float *out)
{
    size_t c = s->c;
    const float *m = coef, *r = coef + c;
    if (s->xb && s->dyb && s->op->act)
        sum_body(x, 1, dy, 1, 1, rows, c, m, r, s->gamma, s->beta, out, out + c, out + 2 * c);
    else if (!s->xb && !s->dyb && s->op->act)
        sum_body(x, 0, dy, 0, 1, rows, c, m, r, s->gamma, s->beta, out, out + c, out + 2 * c);
    else
        sum_body(x, s->xb, dy, s->dyb, s->op->act, rows, c, m, r, s->gamma, s->beta, out, out + c, out + 2 * c);
}

YD_INLINE void apply_body(const void *x, int xb, const void *dy, int dyb, void *dx, int dxb, int act, size_t rows,
                          size_t c, const float *restrict coef, const float *restrict gamma, const float *restrict beta)
{
    const float *restrict m = coef, *restrict r = coef + c, *restrict m1 = coef + 2 * c, *restrict m2 = coef + 3 * c;
    for (size_t i = 0; i < rows; i++) {
        const void *px = yd_at(x, i * c, xb), *pd = yd_at(dy, i * c, dyb);
        void *po = yd_at_mut(dx, i * c, dxb);
#pragma omp simd
        for (size_t j = 0; j < c; j++) {
            float u = (yd_load(px, j, xb) - m[j]) * r[j], g = yd_load(pd, j, dyb);
            if (act) g *= yd_silu_slope(gamma[j] * u + beta[j]);
            yd_store(po, j, dxb, r[j] * ((gamma[j] * g - m1[j]) - u * m2[j]));
        }
    }
}

YD_SIMD
static void apply_rows(const grad *s, const void *x, const void *dy, void *dx, size_t rows, const float *coef)
{
    int xb = s->xb, dyb = s->dyb, dxb = s->dxb, act = s->op->act;
    if (xb && dyb && dxb && act)
        apply_body(x, 1, dy, 1, dx, 1, 1, rows, s->c, coef, s->gamma, s->beta);
    else if (!xb && !dyb && !dxb && act)
        apply_body(x, 0, dy, 0, dx, 0, 1, rows, s->c, coef, s->gamma, s->beta);
    else
        apply_body(x, xb, dy, dyb, dx, dxb, act, rows, s->c, coef, s->gamma, s->beta);
}

static void set_moments(const grad *s, size_t sample)
{
    size_t groups = yd_sz(s->op->groups), width = s->c / groups;
    const float *stats = s->stats + sample * 2 * groups;
    float *m = s->coef + sample * 4 * s->c, *r = m + s->c;
    for (size_t j = 0; j < s->c; j++) {
        m[j] = stats[j / width] - (s->v ? s->v[sample * s->c + j] : 0);
        r[j] = stats[groups + j / width];
    }
}

static void sum_block(const grad *s, size_t sample, size_t block)
{
    size_t first = block * s->rows, left = s->pixels - first, at = (sample * s->pixels + first) * s->c;
    float *out = s->sums + (sample * s->blocks + block) * 3 * s->c;
    memset(out, 0, 3 * s->c * sizeof *out);
    sum_rows(s, yd_at(s->x, at, s->xb), yd_at(s->dy, at, s->dyb), left < s->rows ? left : s->rows,
             s->coef + sample * 4 * s->c, out);
}

static void join_blocks(const grad *s, size_t sample)
{
    size_t c = s->c, width = c / yd_sz(s->op->groups);
    const float *sums = s->sums + sample * s->blocks * 3 * c;
    double *a = s->totals + sample * 3 * c, *b = a + c, *u = b + c, count = (double)width * (double)s->pixels;
    for (size_t j = 0; j < 3 * c; j++) a[j] = 0;
    for (size_t k = 0; k < s->blocks; k++)
        for (size_t j = 0; j < 3 * c; j++) a[j] += (double)sums[k * 3 * c + j];
    float *r = s->coef + sample * 4 * c + c, *m1 = r + c, *m2 = m1 + c;
    for (size_t g = 0; g < c; g += width) {
        double s1 = 0, s2 = 0;
        for (size_t j = g; j < g + width; j++) {
            s1 += (double)s->gamma[j] * a[j];
            s2 += (double)s->gamma[j] * b[j];
        }
        s1 /= count;
        s2 /= count;
        for (size_t j = g; j < g + width; j++) {
            m1[j] = (float)s1;
            m2[j] = (float)s2;
            if (s->dv)
                s->dv[sample * c + j] =
                    (float)((double)r[j] * ((double)s->gamma[j] * a[j] - (double)s->pixels * s1 - u[j] * s2));
        }
    }
}

static void apply_block(const grad *s, size_t sample, size_t block)
{
    size_t first = block * s->rows, left = s->pixels - first, at = (sample * s->pixels + first) * s->c;
    apply_rows(s, yd_at(s->x, at, s->xb), yd_at(s->dy, at, s->dyb), yd_at_mut(s->dx, at, s->dxb),
               left < s->rows ? left : s->rows, s->coef + sample * 4 * s->c);
}

static void sum_batch(const grad *s)
{
    for (size_t j = 0; j < s->c; j++) {
        double a = 0, b = 0;
        for (size_t i = 0; i < s->n; i++) {
            a += s->totals[i * 3 * s->c + j];
            b += s->totals[i * 3 * s->c + s->c + j];
        }
        s->dbeta[j] = (float)a;
        s->dgamma[j] = (float)b;
    }
}

static void set_sizes(const yd_exec *e, const yd_op *op, grad *s)
{
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    *s = (grad){.op = op, .n = yd_sz(e->n), .pixels = yd_sz(t->h) * yd_sz(t->w), .c = yd_sz(t->c)};
    s->rows = yd_block_rows(s->pixels, s->c);
    s->blocks = (s->pixels + s->rows - 1) / s->rows;
}

static void set_operands(const yd_exec *e, const yd_op *op, grad *s)
{
    s->x = yd_exec_ptr(e, op->in[0]);
    s->v = op->in[1] == YD_NONE ? NULL : yd_exec_ptr(e, op->in[1]);
    s->gamma = yd_exec_ptr(e, op->in[2]);
    s->beta = yd_exec_ptr(e, op->in[3]);
    s->stats = yd_exec_ptr(e, op->in[4]);
    s->dy = yd_exec_ptr(e, op->in[5]);
    s->dx = yd_exec_ptr(e, op->out[0]);
    s->dv = op->out[1] == YD_NONE ? NULL : yd_exec_ptr(e, op->out[1]);
    s->dgamma = yd_exec_ptr(e, op->out[2]);
    s->dbeta = yd_exec_ptr(e, op->out[3]);
    s->xb = yd_is_bf16(e, op->in[0]);
    s->dyb = yd_is_bf16(e, op->in[5]);
    s->dxb = yd_is_bf16(e, op->out[0]);
    s->totals = (double *)(void *)e->scratch;
    s->coef = (float *)(s->totals + s->n * 3 * s->c);
    s->sums = s->coef + s->n * 4 * s->c;
}

static int run_gnorm_bwd(yd_exec *e, const yd_kernel *k, yd_err *err)
{
    (void)err;
    grad s;
    set_sizes(e, k->op, &s);
    set_operands(e, k->op, &s);
    size_t tasks = s.n * s.blocks;
#pragma omp parallel num_threads(yd_threads(e, s.n *s.pixels *s.c))
    {
#pragma omp for schedule(static)
        for (size_t i = 0; i < s.n; i++) set_moments(&s, i);
#pragma omp for schedule(static)
        for (size_t i = 0; i < tasks; i++) sum_block(&s, i / s.blocks, i % s.blocks);
#pragma omp for schedule(static)
        for (size_t i = 0; i < s.n; i++) join_blocks(&s, i);
#pragma omp for schedule(static)
        for (size_t i = 0; i < tasks; i++) apply_block(&s, i / s.blocks, i % s.blocks);
    }
    sum_batch(&s);
    return 0;
}

int yd_make_gnorm_bwd(yd_exec *e, const yd_op *op, yd_err *err)
{
    int rc = yd_need(e, op, op->in[0], "input", 0, 0, 0, err);
    if (rc) return rc;
    const yd_tensor *t = yd_exec_tensor(e, op->in[0]);
    if (op->groups < 1 || t->c % op->groups)
        return yd_exec_refuse(e, op, YD_E_INVALID, "the groups do not divide the channels", err);
    int vec[4] = {t->c, 1, 1, 1};
    if (op->in[1] != YD_NONE) rc = yd_need_f32(e, op, op->in[1], "vector", 1, 1, t->c, err);
    if (!rc) rc = yd_need_param(e, op, op->in[2], "gamma", vec, err);
    if (!rc) rc = yd_need_param(e, op, op->in[3], "beta", vec, err);
    if (!rc) rc = yd_need_f32(e, op, op->in[4], "statistics", 1, 1, 2 * op->groups, err);
    if (!rc) rc = yd_need(e, op, op->in[5], "gradient", t->h, t->w, t->c, err);
    if (!rc) rc = yd_need(e, op, op->out[0], "result", t->h, t->w, t->c, err);
    if (!rc && op->out[1] != YD_NONE) rc = yd_need_f32(e, op, op->out[1], "vector gradient", 1, 1, t->c, err);
    if (!rc) rc = yd_need_param(e, op, op->out[2], "gamma gradient", vec, err);
    if (!rc) rc = yd_need_param(e, op, op->out[3], "beta gradient", vec, err);
    if (rc) return rc;
    grad s;
    set_sizes(e, op, &s);
    yd_exec_scratch(e, s.n * s.c * (3 * sizeof(double) + 4 * sizeof(float) + s.blocks * 3 * sizeof(float)));
    return yd_exec_kernel(e, op, run_gnorm_bwd) ? 0
                                                : yd_exec_refuse(e, op, YD_E_NOMEM, "no memory for its kernel", err);
}
