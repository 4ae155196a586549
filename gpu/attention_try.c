// See attention_try.h.
#include "gpu/attention_try.h"
#include "core/mem.h"

#include <math.h>
#include <string.h>

#define ALLOWED 0.03
#define LOOKED  16 // tokens of a sample, spread evenly

static uint16_t half_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static double value_of(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float f;
    memcpy(&f, &bits, 4);
    return (double)f;
}

void yd_gpu_attention_fill(uint16_t *qkv, size_t n, int tokens, int c)
{
    const float low = -20.0f / sqrtf((float)c); // of a key, so that q k^T / sqrt c is near -20
    uint64_t s = 1;
    for (size_t i = 0; i < n * (size_t)tokens; i++)
        for (int j = 0; j < 3 * c; j++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            const float u = (float)(s >> 40) * (2.0f / 16777216.0f) - 1; // [-1,1)
            *qkv++ = half_of(j < c ? 1 + u / 2 : j < 2 * c ? low + 2 * u : u);
        }
}

// One token's result, in double. p: room for `tokens` numbers.
static void one_token(const uint16_t *qkv, int tokens, int c, int i, double *p, double *y)
{
    const size_t step = 3 * (size_t)c;
    const uint16_t *q = qkv + (size_t)i * step, *k = qkv + c, *v = qkv + 2 * (size_t)c;
    double most = -INFINITY, sum = 0;
    for (int t = 0; t < tokens; t++) {
        p[t] = 0;
        for (int j = 0; j < c; j++) p[t] += value_of(q[j]) * value_of(k[(size_t)t * step + (size_t)j]);
        p[t] /= sqrt((double)c);
        if (p[t] > most) most = p[t];
    }
    for (int t = 0; t < tokens; t++) sum += p[t] = exp(p[t] - most);
    for (int j = 0; j < c; j++) {
        y[j] = 0;
        for (int t = 0; t < tokens; t++) y[j] += p[t] / sum * value_of(v[(size_t)t * step + (size_t)j]);
    }
}

static int sample_right(const uint16_t *qkv, const uint16_t *y, int tokens, int c, double *p, double *want)
{
    const int looked = tokens < LOOKED ? tokens : LOOKED;
    double most = 0, off = 0;
    for (int k = 0; k < looked; k++) {
        const int i = looked < 2 ? 0 : (int)((long long)k * (tokens - 1) / (looked - 1));
        one_token(qkv, tokens, c, i, p, want);
        for (int j = 0; j < c; j++) {
            const double d = fabs(value_of(y[(size_t)i * (size_t)c + (size_t)j]) - want[j]);
            if (!(d < INFINITY)) return 0;
            if (d > off) off = d;
            if (fabs(want[j]) > most) most = fabs(want[j]);
        }
    }
    return off <= ALLOWED * most;
}

int yd_gpu_attention_right(const uint16_t *qkv, const uint16_t *y, size_t n, int tokens, int c)
{
    const size_t per = (size_t)tokens * (size_t)c;
    double *p = yd_calloc((size_t)tokens + (size_t)c, sizeof *p);
    if (!p) return 0;
    int right = 1;
    for (size_t i = 0; i < n && right; i += n > 1 ? n - 1 : 1)
        right = sample_right(qkv + 3 * per * i, y + per * i, tokens, c, p, p + tokens);
    yd_free(p);
    return right;
}
