// See agf_rules.h. Loops over numbers are cut into blocks by their count alone; each block's sum is kept and the blocks are joined in order,
// in double.
#include "core/agf_rules.h"

#include "core/cpu/vec.h"
#include "core/simd.h"

#include <math.h>

enum { BLOCK = 16384, STEEP = 10 }; // numbers of a block; slope of the step that the factorisation looks through

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

// ---- start

void yd_agf_top(const float *y, int count, int n, int *index)
{
    for (int i = 0; i < n; i++) {
        int best = -1;
        for (int k = 0; k < count; k++) {
            int taken = 0;
            for (int j = 0; j < i && !taken; j++) taken = index[j] == k;
            if (!taken && (best < 0 || y[k] > y[best])) best = k;
        }
        index[i] = best;
    }
}

void yd_agf_start(const float *y, int count, int t, float *c, float *g)
{
    const double top = y[t];
    double s = 0, sum = 0;
    int far = 0;
    for (int k = 0; k < count; k++) {
        const double d = fabs(y[k] - top);
        if (d > s) s = d, far = k;
    }
    for (int k = 0; k < count; k++) g[k] = c[k] = 0.0f;
    if (!(s > 0.0)) return;
    for (int k = 0; k < count; k++) { // of the softmax, less its largest input or so
        const double u = (y[k] - top) / s;
        sum += exp(top * exp(-0.5 * u * u) - top);
    }
    const double pt = 1.0 / sum;
    double of_top = 0, of_s = 0; // what reaches y_t and s from all k
    for (int k = 0; k < count; k++) {
        const double u = (y[k] - top) / s, e = exp(-0.5 * u * u), p = exp(top * e - top) / sum;
        const double dz = pt * ((k == t ? 1.0 : 0.0) - p); // dP_t / dz_k
        const double du = -dz * top * e * u;               // dP_t / du_k
        g[k] = (float)(du / s);
        of_top += dz * e - du / s;
        of_s -= du * u / s;
    }
    const double sign = y[far] > top ? 1.0 : -1.0;
    g[far] = (float)(g[far] + sign * of_s);
    g[t] = (float)(g[t] + of_top - sign * of_s);
    for (int k = 0; k < count; k++) c[k] = y[k] * g[k];
}

void yd_agf_mean(const float *x, size_t pixels, size_t c, float *mean)
{
    for (size_t i = 0; i < c; i++) {
        double sum = 0;
        for (size_t p = 0; p < pixels; p++) sum += x[p * c + i];
        mean[i] = (float)(sum / (double)pixels);
    }
}

void yd_agf_mean_back(const float *x, size_t pixels, size_t c, const float *mean, const float *cm, const float *gm, float *cx, float *gx)
{
    const float count = (float)pixels;
    for (size_t p = 0; p < pixels; p++)
        for (size_t i = 0; i < c; i++) {
            cx[p * c + i] = x[p * c + i] * (yd_agf_sd(cm[i], mean[i]) / count);
            gx[p * c + i] = gm[i] / count;
        }
}

// ---- number by number

YD_SIMD static void relu_block(const float *restrict y, size_t n, float *restrict c, float *restrict g)
{
    for (size_t i = 0; i < n; i++) {
        const float q = y[i] * yd_agf_sd(c[i], y[i]);
        c[i] = y[i] > 0.0f ? q : 0.0f;
        g[i] = y[i] > 0.0f ? g[i] : 0.0f;
    }
}

void yd_agf_relu(const float *y, size_t n, float *c, float *g)
{
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < n; at += BLOCK) relu_block(y + at, smaller(BLOCK, n - at), c + at, g + at);
}

YD_SIMD static void add_block(const float *restrict y, const float *restrict a, const float *restrict b, size_t n, const float *restrict c,
                              const float *restrict g, float *restrict ca, float *restrict cb, float *restrict ga, float *restrict gb)
{
    for (size_t i = 0; i < n; i++) {
        const float through = y[i] * yd_agf_sd(c[i], y[i]); // the ReLU
        const float q = y[i] > 0.0f ? yd_agf_sd(through, y[i]) : 0.0f;
        ca[i] = a[i] * q;
        cb[i] = b[i] * q;
        ga[i] = gb[i] = y[i] > 0.0f ? g[i] : 0.0f;
    }
}

void yd_agf_add(const float *y, const float *a, const float *b, size_t n, const float *c, const float *g, float *ca, float *cb, float *ga,
                float *gb)
{
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < n; at += BLOCK)
        add_block(y + at, a + at, b + at, smaller(BLOCK, n - at), c + at, g + at, ca + at, cb + at, ga + at, gb + at);
}

YD_SIMD static void quotient_block(const float *c, const float *restrict z, size_t n, float *q)
{
    for (size_t i = 0; i < n; i++) q[i] = yd_agf_sd(c[i], z[i]);
}

void yd_agf_fork_first(const float *x, size_t n, float *c)
{
    yd_agf_quotient(c, x, 1, n, c);
}

YD_SIMD static void more_block(const float *restrict x, size_t n, const float *restrict c, const float *restrict g, float *restrict sum_c,
                               float *restrict sum_g)
{
    for (size_t i = 0; i < n; i++) {
        sum_c[i] += yd_agf_sd(c[i], x[i]);
        sum_g[i] += g[i];
    }
}

void yd_agf_fork_more(const float *x, size_t n, const float *c, const float *g, float *sum_c, float *sum_g)
{
#pragma omp parallel for schedule(static)
    for (size_t at = 0; at < n; at += BLOCK) more_block(x + at, smaller(BLOCK, n - at), c + at, g + at, sum_c + at, sum_g + at);
}

void yd_agf_fork_end(const float *x, size_t n, float *c)
{
    yd_agf_multiply(x, 1, n, c);
}

void yd_agf_quotient(const float *c, const float *z, int heads, size_t n, float *q)
{
    for (size_t k = 0; k < (size_t)heads; k++) {
#pragma omp parallel for schedule(static)
        for (size_t at = 0; at < n; at += BLOCK) quotient_block(c + k * n + at, z + at, smaller(BLOCK, n - at), q + k * n + at);
    }
}

YD_SIMD static void multiply_block(const float *restrict x, size_t n, float *restrict c)
{
    for (size_t i = 0; i < n; i++) c[i] *= x[i];
}

void yd_agf_multiply(const float *x, int heads, size_t n, float *c)
{
    for (size_t k = 0; k < (size_t)heads; k++) {
#pragma omp parallel for schedule(static)
        for (size_t at = 0; at < n; at += BLOCK) multiply_block(x + at, smaller(BLOCK, n - at), c + k * n + at);
    }
}

YD_SIMD static size_t mask_block(const float *restrict c, const float *restrict g, size_t n, float *restrict masked)
{
    uint32_t lost = 0;
    for (size_t i = 0; i < n; i++) {
        masked[i] = c[i] != 0.0f ? g[i] : 0.0f;
        lost += (c[i] == 0.0f) & (g[i] != 0.0f);
    }
    return lost;
}

size_t yd_agf_mask(const float *c, const float *g, size_t n, float *masked)
{
    size_t lost = 0;
#pragma omp parallel for schedule(static) reduction(+ : lost)
    for (size_t at = 0; at < n; at += BLOCK) lost += mask_block(c + at, g + at, smaller(BLOCK, n - at), masked + at);
    return lost;
}

// ---- maximum over windows

static void range_of(int at, int pad, int k, int side, int *from, int *to)
{
    *from = at - pad > 0 ? at - pad : 0;
    *to = at - pad + k < side ? at - pad + k : side;
}

void yd_agf_pool_find(const yd_agf_pool *p, const float *x, uint8_t *which)
{
#pragma omp parallel for schedule(static)
    for (int row = 0; row < p->out_h; row++)
        for (int col = 0; col < p->out_w; col++) {
            uint8_t *to = which + ((size_t)row * (size_t)p->out_w + (size_t)col) * p->c;
            const int top = row * p->stride - p->pad[0], left = col * p->stride - p->pad[1];
            int y0, y1, x0, x1;
            range_of(row * p->stride, p->pad[0], p->k[0], p->h, &y0, &y1);
            range_of(col * p->stride, p->pad[1], p->k[1], p->w, &x0, &x1);
            for (size_t i = 0; i < p->c; i++) {
                float best = -INFINITY;
                for (int py = y0; py < y1; py++)
                    for (int px = x0; px < x1; px++) {
                        const float v = x[((size_t)py * (size_t)p->w + (size_t)px) * p->c + i];
                        if (v > best) best = v, to[i] = (uint8_t)((py - top) * p->k[1] + px - left);
                    }
            }
        }
}

// What the windows over one place send back to it.
static void pool_place(const yd_agf_pool *p, int row, int col, const float *y, const uint8_t *which, const float *c, const float *g,
                       float *cx, float *gx)
{
    const int first_row = row + p->pad[0] < p->k[0] ? 0 : (row + p->pad[0] - p->k[0]) / p->stride + 1;
    const int first_col = col + p->pad[1] < p->k[1] ? 0 : (col + p->pad[1] - p->k[1]) / p->stride + 1;
    for (size_t i = 0; i < p->c; i++) cx[i] = gx[i] = 0.0f;
    for (int wy = first_row; wy < p->out_h && wy * p->stride - p->pad[0] <= row; wy++)
        for (int wx = first_col; wx < p->out_w && wx * p->stride - p->pad[1] <= col; wx++) {
            const int me = (row - wy * p->stride + p->pad[0]) * p->k[1] + col - wx * p->stride + p->pad[1];
            const size_t at = ((size_t)wy * (size_t)p->out_w + (size_t)wx) * p->c;
            for (size_t i = 0; i < p->c; i++) {
                if (which[at + i] != me) continue;
                cx[i] += yd_agf_sd(c[at + i], y[at + i]);
                gx[i] += g[at + i];
            }
        }
}

void yd_agf_pool_back(const yd_agf_pool *p, const float *x, const float *y, const uint8_t *which, const float *c, const float *g, float *cx,
                      float *gx)
{
#pragma omp parallel for schedule(static)
    for (int row = 0; row < p->h; row++)
        for (int col = 0; col < p->w; col++) {
            const size_t at = ((size_t)row * (size_t)p->w + (size_t)col) * p->c;
            pool_place(p, row, col, y, which, c, g, cx + at, gx + at);
            for (size_t i = 0; i < p->c; i++) cx[at + i] *= x[at + i];
        }
}

// ---- the full rule

static size_t rows_of(size_t c)
{
    return c < BLOCK / 16 ? BLOCK / c : 16;
}

static size_t blocks_of(size_t pixels, size_t c)
{
    return (pixels + rows_of(c) - 1) / rows_of(c);
}

// The work area: four numbers per place, then per block two rows of channels, two sums and a largest, then the two rows of means.
size_t yd_agf_full_work(size_t pixels, size_t c)
{
    return 4 * pixels + blocks_of(pixels, c) * (2 * c + 2) + 2 * c;
}

YD_SIMD static float largest_of(const float *x, size_t n)
{
    float best = x[0];
    for (size_t i = 1; i < n; i++) best = x[i] > best ? x[i] : best;
    return best;
}

static float largest(const float *x, size_t n, float *of_block)
{
    const size_t blocks = (n + BLOCK - 1) / BLOCK;
    float best = -INFINITY;
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < blocks; b++) of_block[b] = largest_of(x + b * BLOCK, smaller(BLOCK, n - b * BLOCK));
    for (size_t b = 0; b < blocks; b++) best = of_block[b] > best ? of_block[b] : best;
    return best;
}

// r- and r+ of a block: the sums of sigmoid(scale t) over its places with phi below and above 0.
YD_SIMD static void represent(const float *restrict t, float scale, size_t places, size_t c, const float *restrict phi, float *restrict r)
{
    for (size_t i = 0; i < 2 * c; i++) r[i] = 0.0f;
    for (size_t p = 0; p < places; p++) {
        if (phi[p] == 0.0f) continue;
        float *restrict sum = r + (phi[p] > 0.0f ? c : 0);
        const float *restrict from = t + p * c;
        for (size_t i = 0; i < c; i++) sum[i] += yd_sigmoid(scale * from[i]);
    }
}

enum { LANES = 32 };

YD_INLINE float join(float *lane)
{
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t k = 0; k < half; k++) lane[k] += lane[k + half];
    return lane[0];
}

// The products of one place's sigmoid(scale t) with r- and r+.
YD_SIMD static void project(const float *restrict t, float scale, size_t c, const float *restrict r, float *minus, float *plus)
{
    float a[LANES] = {0}, b[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= c; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            const float v = yd_sigmoid(scale * t[i + k]);
            a[k] += v * r[i + k];
            b[k] += v * r[c + i + k];
        }
    for (size_t k = 0; i < c; i++, k++) {
        const float v = yd_sigmoid(scale * t[i]);
        a[k] += v * r[i];
        b[k] += v * r[c + i];
    }
    *minus = join(a);
    *plus = join(b);
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

// Means over the places with phi below and above 0, from the blocks' sums; r at work + blocks * 2 c.
static void join_means(size_t pixels, size_t c, const float *phi, const float *of_block, float *r)
{
    const size_t blocks = blocks_of(pixels, c);
    size_t count[2] = {0, 0};
    for (size_t p = 0; p < pixels; p++)
        if (phi[p] != 0.0f) count[phi[p] > 0.0f]++;
    for (size_t i = 0; i < 2 * c; i++) {
        double sum = 0;
        for (size_t b = 0; b < blocks; b++) sum += of_block[b * 2 * c + i];
        const size_t n = count[i >= c];
        r[i] = n ? (float)(sum / (double)n) : 0.0f;
    }
}

// relu(F) of every place into out. top: the largest of t.
static void factorise(const yd_agf_full *f, const float *t, float top, const float *phi, float *of_block, float *r, float *out)
{
    const size_t c = f->c, rows = rows_of(c), blocks = blocks_of(f->pixels, c);
    const float scale = top != 0.0f ? (float)(STEEP / ((double)top + (double)YD_AGF_TINY)) : 0.0f;
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < blocks; b++)
        represent(t + b * rows * c, scale, smaller(rows, f->pixels - b * rows), c, phi + b * rows, of_block + b * 2 * c);
    join_means(f->pixels, c, phi, of_block, r);
    const double mm = dot(r, r, c) + 1, pp = dot(r + c, r + c, c) + 1, mp = dot(r, r + c, c), det = mm * pp - mp * mp;
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < f->pixels; p++) {
        float minus, plus;
        project(t + p * c, scale, c, r, &minus, &plus);
        double low = (pp * minus - mp * plus) / det, high = (mm * plus - mp * minus) / det;
        low = low > 0 ? low : 0;
        high = high > 0 ? high : 0;
        out[p] = high > low ? (float)(high - low) : 0.0f;
    }
}

YD_SIMD static float product_sum(const float *restrict x, const float *restrict w, size_t n)
{
    return yd_lane_sum(x, w, n);
}

YD_SIMD static float plain_sum(const float *restrict x, size_t n)
{
    return yd_lane_sum(x, NULL, n);
}

// R of one place, in a's place.
YD_SIMD static void residual(const float *restrict c, size_t n, float damped, float fixed, float *restrict a)
{
    for (size_t i = 0; i < n; i++) {
        const float r = damped / (1.0f + yd_exp(-c[i]) + YD_AGF_TINY) + fixed + a[i];
        a[i] = c[i] != 0.0f ? r : 0.0f;
    }
}

YD_SIMD static uint32_t count_set(const float *restrict c, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) count += c[i] != 0.0f;
    return count;
}

YD_SIMD static void shift(const float *restrict r, size_t n, float mean, float *restrict c)
{
    for (size_t i = 0; i < n; i++) c[i] = c[i] != 0.0f ? c[i] + r[i] - mean : c[i];
}

// M and phi of every place, M before it is divided by its largest, which is returned.
static float look(const yd_agf_full *f, const float *c, float *m, float *phi)
{
    const float by = 1.0f / (float)f->c;
    float most = 0.0f;
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < f->pixels; p++) {
        const float v = product_sum(f->x + p * f->c, f->g + p * f->c, f->c) * by;
        m[p] = v > 0.0f ? v : 0.0f;
        phi[p] = plain_sum(c + p * f->c, f->c) * by;
    }
    for (size_t p = 0; p < f->pixels; p++) most = m[p] > most ? m[p] : most;
    return most;
}

void yd_agf_full_rule(const yd_agf_full *f, float *c)
{
    const size_t pixels = f->pixels, n = pixels * f->c;
    float *m = f->work, *phi = m + pixels, *of_x = phi + pixels, *of_g = of_x + pixels, *of_block = of_g + pixels;
    float *r = of_block + blocks_of(pixels, f->c) * 2 * f->c;
    const float most = look(f, c, m, phi);
    factorise(f, f->x, largest(f->x, n, of_block), phi, of_block, r, of_x);
    factorise(f, f->masked_g, largest(f->masked_g, n, of_block), phi, of_block, r, of_g);
    float *sums = phi, *counts = of_x; // by place, once what lay there has been used
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < pixels; p++) {
        residual(c + p * f->c, f->c, of_x[p] + yd_agf_sd(m[p], most), of_g[p], f->a + p * f->c);
        sums[p] = plain_sum(f->a + p * f->c, f->c);
        counts[p] = (float)count_set(c + p * f->c, f->c);
    }
    double sum = 0, count = 0;
    for (size_t p = 0; p < pixels; p++) sum += sums[p], count += counts[p];
    const float mean = count > 0 ? (float)(sum / count) : 0.0f;
#pragma omp parallel for schedule(static)
    for (size_t p = 0; p < pixels; p++) shift(f->a + p * f->c, f->c, mean, c + p * f->c);
}

void yd_agf_picture(const float *c, size_t pixels, float *map)
{
    float most = c[0];
    for (size_t i = 1; i < 3 * pixels; i++) most = c[i] > most ? c[i] : most;
    for (size_t p = 0; p < pixels; p++) map[p] = most != 0.0f ? c[3 * p] / most + c[3 * p + 1] / most + c[3 * p + 2] / most : 0.0f;
}
