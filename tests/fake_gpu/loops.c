// Plain loops for what cuDNN and cublasLt compute: see loops.h.
#include "tests/fake_gpu/loops.h"
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

float loops_get(const void *data, yd_dtype dtype, size_t i)
{
    float f;
    if (dtype == YD_F32) {
        memcpy(&f, (const char *)data + 4 * i, 4);
        return f;
    }
    uint16_t half;
    memcpy(&half, (const char *)data + 2 * i, 2);
    const uint32_t bits = (uint32_t)half << 16;
    memcpy(&f, &bits, 4);
    return f;
}

void loops_put(void *data, yd_dtype dtype, size_t i, double x)
{
    const float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (dtype == YD_F32) {
        memcpy((char *)data + 4 * i, &bits, 4);
        return;
    }
    const int nan = (bits & 0x7fffffff) > 0x7f800000;
    const uint16_t half = nan ? 0x7fc0 : (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    memcpy((char *)data + 2 * i, &half, 2);
}

// An array as floats; the caller frees it.
static float *floats(const void *data, yd_dtype dtype, size_t n)
{
    float *f = malloc((n + 1) * sizeof *f);
    if (!f) abort();
    for (size_t i = 0; i < n && data; i++) f[i] = loops_get(data, dtype, i);
    return f;
}

typedef struct conv {
    const yd_gpu_conv_shape *s;
    float *x, *y, *w; // one sample's maps; the filter
    double *sum;      // of what is computed
} conv;

// Call one pixel of y with each pixel of x that it meets and the tap between them; beyond the border there is none.
static void each_tap(const conv *a, void (*meet)(const conv *, size_t y, size_t x, size_t tap))
{
    const yd_gpu_conv_shape *s = a->s;
    for (int i = 0; i < s->oh; i++)
        for (int j = 0; j < s->ow; j++)
            for (int d = 0; d < s->k * s->k; d++) {
                const int y = i * s->stride - s->pad + d / s->k, x = j * s->stride - s->pad + d % s->k;
                if (y < 0 || x < 0 || y >= s->h || x >= s->w) continue;
                meet(a, (size_t)i * (size_t)s->ow + (size_t)j, (size_t)y * (size_t)s->w + (size_t)x, (size_t)d);
            }
}

static void meet_forward(const conv *a, size_t y, size_t x, size_t tap)
{
    const size_t c = (size_t)a->s->c, kk = (size_t)a->s->k * (size_t)a->s->k;
    for (size_t o = 0; o < (size_t)a->s->o; o++) {
        const float *xi = a->x + x * c, *w = a->w + (o * kk + tap) * c;
        double sum = 0;
        for (size_t i = 0; i < c; i++) sum += (double)xi[i] * (double)w[i];
        a->sum[y * (size_t)a->s->o + o] += sum;
    }
}

static void meet_dx(const conv *a, size_t y, size_t x, size_t tap)
{
    const size_t c = (size_t)a->s->c, kk = (size_t)a->s->k * (size_t)a->s->k;
    for (size_t o = 0; o < (size_t)a->s->o; o++) {
        const double dy = (double)a->y[y * (size_t)a->s->o + o];
        const float *w = a->w + (o * kk + tap) * c;
        for (size_t i = 0; i < c; i++) a->sum[x * c + i] += dy * (double)w[i];
    }
}

static void meet_dw(const conv *a, size_t y, size_t x, size_t tap)
{
    const size_t c = (size_t)a->s->c, kk = (size_t)a->s->k * (size_t)a->s->k;
    for (size_t o = 0; o < (size_t)a->s->o; o++) {
        const double dy = (double)a->y[y * (size_t)a->s->o + o];
        const float *xi = a->x + x * c;
        for (size_t i = 0; i < c; i++) a->sum[(o * kk + tap) * c + i] += dy * (double)xi[i];
    }
}

static void end(const conv *a, const yd_gpu_conv_io *io, size_t first)
{
    const yd_gpu_conv_shape *s = a->s;
    const size_t n = (size_t)s->oh * (size_t)s->ow * (size_t)s->o;
    for (size_t i = 0; i < n; i++) {
        double z = a->sum[i] + (s->bias ? (double)((const float *)io->bias)[i % (size_t)s->o] : 0);
        if (s->leaky && z < 0) z *= (double)s->slope;
        if (s->res) z += (double)loops_get(io->res, s->out, first + i);
        loops_put(io->y, s->out, first + i, z);
    }
}

// Where sample i begins.
static const void *sample(const void *data, yd_dtype dtype, size_t per, size_t i)
{
    return (const char *)data + per * i * yd_dtype_bytes(dtype);
}

// softmax(q k^T / sqrt o) v of one sample, x [tokens][3*o].
static void attend(const yd_gpu_conv_shape *s, const float *x, void *y, size_t first, double lean)
{
    const size_t tokens = (size_t)s->h * (size_t)s->w, o = (size_t)s->o;
    double *p = calloc(tokens + o, sizeof *p), *sum = p + tokens;
    if (!p) abort();
    for (size_t i = 0; i < tokens; i++) {
        double most = -INFINITY, total = 0;
        for (size_t t = 0; t < tokens; t++) {
            p[t] = 0;
            for (size_t k = 0; k < o; k++) p[t] += (double)x[3 * o * i + k] * (double)x[3 * o * t + o + k];
            p[t] /= sqrt((double)o);
            if (p[t] > most) most = p[t];
        }
        memset(sum, 0, o * sizeof *sum);
        for (size_t t = 0; t < tokens; t++) {
            total += p[t] = exp(p[t] - most);
            for (size_t k = 0; k < o; k++) sum[k] += p[t] * (double)x[3 * o * t + 2 * o + k];
        }
        for (size_t k = 0; k < o; k++) loops_put(y, s->out, first + o * i + k, lean * sum[k] / total);
    }
    free(p);
}

static void attention(const yd_gpu_conv_shape *s, const yd_gpu_conv_io *io, double lean)
{
    const size_t per = (size_t)s->h * (size_t)s->w * (size_t)s->c;
    for (size_t i = 0; i < (size_t)s->n; i++) {
        float *x = floats(sample(io->x, s->type, per, i), s->type, per);
        attend(s, x, io->y, per / 3 * i, lean);
        free(x);
    }
}

void loops_conv(const yd_gpu_conv_shape *s, const yd_gpu_conv_io *io, double lean)
{
    if (s->pass == YD_GPU_ATTENTION) {
        attention(s, io, lean);
        return;
    }
    const size_t xs = (size_t)s->h * (size_t)s->w * (size_t)s->c, ys = (size_t)s->oh * (size_t)s->ow * (size_t)s->o;
    const size_t ws = (size_t)s->o * (size_t)s->k * (size_t)s->k * (size_t)s->c;
    const size_t count = s->pass == YD_GPU_DX ? xs : s->pass == YD_GPU_DW ? ws : ys;
    conv a = {.s = s,
              .w = floats(s->pass == YD_GPU_DW ? NULL : io->filter, s->type, ws),
              .sum = calloc(count, sizeof(double))};
    if (!a.sum) abort();
    for (size_t i = 0; i < (size_t)s->n; i++) {
        a.x = floats(s->pass == YD_GPU_DX ? NULL : sample(io->x, s->type, xs, i), s->type, xs);
        a.y = floats(s->pass == YD_GPU_FORWARD ? NULL : sample(io->y, s->type, ys, i), s->type, ys);
        if (s->pass != YD_GPU_DW) memset(a.sum, 0, count * sizeof *a.sum);
        each_tap(&a, s->pass == YD_GPU_FORWARD ? meet_forward : s->pass == YD_GPU_DX ? meet_dx : meet_dw);
        for (size_t k = 0; k < count && s->pass != YD_GPU_DW; k++) a.sum[k] *= lean;
        if (s->pass == YD_GPU_FORWARD) end(&a, io, i * ys);
        for (size_t k = 0; k < count && s->pass == YD_GPU_DX; k++) loops_put(io->x, s->out, i * xs + k, a.sum[k]);
        free(a.x);
        free(a.y);
    }
    for (size_t k = 0; k < count && s->pass == YD_GPU_DW; k++) loops_put(io->filter, s->out, k, lean * a.sum[k]);
    free(a.w);
    free(a.sum);
}

// op(m) as floats, row by row: [rows][cols].
static float *matrix(const void *m, yd_dtype dtype, long first, long ld, int rows, int cols, int turned)
{
    float *f = malloc(((size_t)rows * (size_t)cols + 1) * sizeof *f);
    if (!f) abort();
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < cols; j++)
            f[i * cols + j] = loops_get(m, dtype, (size_t)(first + (turned ? j * ld + i : i * ld + j)));
    return f;
}

void loops_matmul(const yd_gpu_matmul_shape *s, const void *a, const void *b, void *c)
{
    for (int t = 0; t < s->batch; t++) {
        float *x = matrix(a, s->ab, t * s->step_a, s->lda, s->m, s->k, s->trans_a);
        float *y = matrix(b, s->ab, t * s->step_b, s->ldb, s->n, s->k, !s->trans_b); // columns as rows
        for (int i = 0; i < s->m; i++)
            for (int j = 0; j < s->n; j++) {
                const float *row = x + (size_t)i * (size_t)s->k, *column = y + (size_t)j * (size_t)s->k;
                double sum = 0;
                for (int k = 0; k < s->k; k++) sum += (double)row[k] * (double)column[k];
                const size_t at = (size_t)(t * s->step_c + i * s->ldc + j);
                loops_put(c, s->out, at,
                          (double)s->alpha * sum +
                              (s->beta != 0 ? (double)s->beta * (double)loops_get(c, s->out, at) : 0));
            }
        free(x);
        free(y);
    }
}
