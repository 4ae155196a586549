// The normalisation kernel (core/cpu/gnorm_kernel.h) on memory: against plain sums in double, and the same bits on
// every path, layout, thread count, batch and split of x.
#include "core/cpu/gnorm_kernel.h"
#include "core/cpu/vec.h"
#include "tests/unit/t.h"
#include <float.h>

enum { MAX_THREADS = 3, PITCH_EXTRA = 5 };

typedef struct shape {
    int n, c0, c1, groups;
    size_t pixels;
    int act, v;
    float mean;
} shape;

static const shape shapes[] = {
    {1, 6, 0, 2, 12, 1, 1, 0},          {2, 6, 5, 11, 7, 0, 1, 0},       {3, 16, 0, 4, 1, 1, 0, 0},
    {2, 32, 0, 32, 33, 1, 1, 3},        {1, 48, 32, 5, 30, 1, 1, 0},     {2, 20, 12, 4, 65, 1, 1, -2},
    {1, 64, 0, 32, 128 * 129, 1, 1, 1}, {2, 64, 64, 32, 1025, 0, 1, 0},  {1, 512, 256, 32, 64, 1, 0, 0},
    {5, 96, 0, 32, 263, 1, 1, 0},       {1, 17, 0, 17, 600, 1, 1, 1000}, {1, 160, 0, 1, 255, 1, 0, 2e4f},
};

// One way to lay a shape out.
typedef struct way {
    int x_blocked, x_bf16, y_blocked, y_bf16, pitched, joined; // joined: x in one map
    int threads;
    yd_gnorm_path path;
} way;

static uint32_t seed;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

// --- maps. Sizes include the padding; elements no channel owns hold NaN in sources, and 7 in results.

typedef struct map {
    yd_gnorm_map m;
    size_t pixels, count;
} map;

static map map_new(const shape *s, int c, int blocked, int bf16, int pitched)
{
    size_t pitch = (size_t)c + (pitched ? PITCH_EXTRA : 0), padded = ((size_t)c + 15) / 16 * 16;
    size_t sample = (blocked ? padded : pitch) * s->pixels + (pitched ? 3 : 0);
    map m = {{NULL, c, blocked, bf16, pitched ? pitch : 0, pitched ? sample : 0}, s->pixels, sample * (size_t)s->n};
    m.m.data = malloc(m.count * (bf16 ? 2 : 4) + 1);
    return m;
}

static void map_fill(const map *m, float value)
{
    for (size_t i = 0; i < m->count; i++) yd_store(m->m.data, i, m->m.bf16, value);
}

static size_t map_at(const map *m, int n, size_t sample, size_t pixel, int channel)
{
    size_t ch = (size_t)channel, in_sample;
    if (m->m.blocked)
        in_sample = (ch / 16 * m->pixels + pixel) * 16 + ch % 16;
    else
        in_sample = pixel * (m->m.pitch ? m->m.pitch : (size_t)m->m.c) + ch;
    return sample * (m->count / (size_t)n) + in_sample;
}

// --- a run of the kernel on values [n][pixels][c], giving values of the same form

static void put(const shape *s, const map *m, const float *values, int first)
{
    int c = s->c0 + s->c1;
    map_fill(m, NAN);
    for (size_t i = 0; i < (size_t)s->n * s->pixels; i++)
        for (int j = 0; j < m->m.c; j++)
            yd_store(m->m.data, map_at(m, s->n, i / s->pixels, i % s->pixels, j), m->m.bf16,
                     values[i * (size_t)c + (size_t)(first + j)]);
}

// 1 when whatever in the result is not a channel's was left alone, or is zero where blocks are padded.
static int get(const shape *s, const map *m, float *values)
{
    int c = s->c0 + s->c1, padded = m->m.blocked ? (c + 15) / 16 * 16 : c, clean = 1;
    char *own = calloc(m->count, 1);
    for (size_t i = 0; i < (size_t)s->n * s->pixels; i++)
        for (int j = 0; j < padded; j++) {
            size_t at = map_at(m, s->n, i / s->pixels, i % s->pixels, j);
            float v = yd_load(m->m.data, at, m->m.bf16);
            own[at] = 1;
            if (j < c)
                values[i * (size_t)c + (size_t)j] = v;
            else
                clean &= yd_bits(v) == 0;
        }
    for (size_t i = 0; i < m->count; i++) clean &= own[i] || yd_load(m->m.data, i, m->m.bf16) == 7;
    free(own);
    return clean;
}

typedef struct operands {
    float *x, *v, *gamma, *beta;
} operands;

static void run(const shape *s, const way *w, const operands *o, float *y, float *stats)
{
    int c = s->c0 + s->c1, c0 = w->joined ? c : s->c0, c1 = c - c0;
    map x0 = map_new(s, c0, w->x_blocked, w->x_bf16, w->pitched), x1 = map_new(s, c1, w->x_blocked, w->x_bf16, 0);
    map out = map_new(s, c, w->y_blocked, w->y_bf16, w->pitched);
    put(s, &x0, o->x, 0);
    if (c1) put(s, &x1, o->x, c0);
    map_fill(&out, 7);
    yd_gnorm g = {
        .src = {x0.m},
        .dst = out.m,
        .n = s->n,
        .pixels = s->pixels,
        .groups = s->groups,
        .eps = 1e-5f,
        .act = s->act,
        .v = s->v ? o->v : NULL,
        .gamma = o->gamma,
        .beta = o->beta,
        .stats = stats,
        .path = w->path,
    };
    if (c1) g.src[1] = x1.m;
    const char *wrong = yd_gnorm_check(&g);
    CHECK_MSG(!wrong, "%s", wrong);
    if (!wrong) {
        void *scratch = aligned_alloc(64, (yd_gnorm_scratch(&g) + 63) / 64 * 64);
        yd_gnorm_run(&g, scratch, w->threads);
        free(scratch);
    }
    CHECK(get(s, &out, y));
    free(x0.m.data);
    free(x1.m.data);
    free(out.m.data);
}

static size_t count_of(const shape *s)
{
    return (size_t)s->n * s->pixels * (size_t)(s->c0 + s->c1);
}

static operands operands_new(const shape *s, int round)
{
    size_t count = count_of(s), c = (size_t)(s->c0 + s->c1);
    operands o = {malloc(count * 4), malloc((size_t)s->n * c * 4), malloc(c * 4), malloc(c * 4)};
    seed = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        o.x[i] = s->mean + noise() * (1 + (float)(i % c) / (float)c);
        if (round) o.x[i] = yd_from_bits((uint32_t)yd_to_bf16(o.x[i]) << 16);
    }
    for (size_t i = 0; i < (size_t)s->n * c; i++) o.v[i] = 3 * noise();
    for (size_t i = 0; i < c; i++) o.gamma[i] = 1 + 4 * noise();
    for (size_t i = 0; i < c; i++) o.beta[i] = 2 * noise();
    return o;
}

static void operands_free(operands *o)
{
    free(o->x);
    free(o->v);
    free(o->gamma);
    free(o->beta);
}

// --- the truth

static void group_truth(const shape *s, const operands *o, size_t sample, int group, float *y, float *stats)
{
    size_t c = (size_t)(s->c0 + s->c1), width = c / (size_t)s->groups, from = (size_t)group * width;
    const float *x = o->x + sample * s->pixels * c, *v = o->v + sample * c;
    double sum = 0, dev = 0, count = (double)width * (double)s->pixels;
    for (size_t i = 0; i < s->pixels; i++)
        for (size_t j = from; j < from + width; j++) sum += (double)x[i * c + j] + (s->v ? (double)v[j] : 0);
    double mean = sum / count;
    for (size_t i = 0; i < s->pixels; i++)
        for (size_t j = from; j < from + width; j++)
            dev += pow((double)x[i * c + j] + (s->v ? (double)v[j] : 0) - mean, 2);
    double rstd = 1 / sqrt(dev / count + (double)1e-5f);
    stats[sample * 2 * (size_t)s->groups + (size_t)group] = (float)mean;
    stats[sample * 2 * (size_t)s->groups + (size_t)(s->groups + group)] = (float)rstd;
    for (size_t i = 0; i < s->pixels; i++)
        for (size_t j = from; j < from + width; j++) {
            double u = (double)x[i * c + j] + (s->v ? (double)v[j] : 0);
            double z = (double)o->gamma[j] * (u - mean) * rstd + (double)o->beta[j];
            y[(sample * s->pixels + i) * c + j] = (float)(s->act ? z / (1 + exp(-z)) : z);
        }
}

static void test_truth(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const shape *s = &shapes[i];
        size_t count = count_of(s), n_stats = 2 * (size_t)s->groups * (size_t)s->n;
        float *want = malloc(count * 4), *got = malloc(count * 4);
        float *stats = malloc(n_stats * 4), *want_stats = malloc(n_stats * 4);
        for (int bf16 = 0; bf16 < 2; bf16++) {
            operands o = operands_new(s, bf16);
            for (size_t k = 0; k < (size_t)s->n; k++)
                for (int g = 0; g < s->groups; g++) group_truth(s, &o, k, g, want, want_stats);
            way w = {.x_bf16 = bf16, .y_bf16 = bf16, .threads = 2};
            run(s, &w, &o, got, stats);
            double diff = t_rel_diff(got, want, count), limit = bf16 ? 4e-3 : 2e-6;
            CHECK_MSG(diff <= limit, "shape %zu, bf16 %d: off by %.3g, allowed %.3g", i, bf16, diff, limit);
            diff = t_rel_diff(stats, want_stats, n_stats);
            CHECK_MSG(diff <= 1e-6, "shape %zu, bf16 %d: statistics are off by %.3g", i, bf16, diff);
            operands_free(&o);
        }
        free(want);
        free(got);
        free(stats);
        free(want_stats);
    }
}

// --- the same bits

static const way ways[] = {
    {.threads = 1, .joined = 1},
    {.threads = 2},
    {.threads = 3, .pitched = 1},
    {.threads = 2, .x_blocked = 1},
    {.threads = 1, .y_blocked = 1, .joined = 1},
    {.threads = 3, .x_blocked = 1, .y_blocked = 1, .joined = 1},
    {.threads = 2, .x_blocked = 1, .pitched = 1},
};

static void check_way(const shape *s, size_t index, const way *w, const operands *o, const float *want,
                      const float *want_stats)
{
    size_t count = count_of(s), n_stats = 2 * (size_t)s->groups * (size_t)s->n;
    float *got = malloc(count * 4), *stats = malloc(n_stats * 4);
    run(s, w, o, got, stats);
    CHECK_MSG(memcmp(got, want, count * 4) == 0 && memcmp(stats, want_stats, n_stats * 4) == 0,
              "shape %zu differs: layouts %d %d, types %d %d, %d threads, path %d, joined %d", index, w->x_blocked,
              w->y_blocked, w->x_bf16, w->y_bf16, w->threads, (int)w->path, w->joined);
    free(got);
    free(stats);
}

static void test_same_bits(void)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int types = 0; types < 4; types++) {
            const shape *s = &shapes[i];
            size_t count = count_of(s);
            operands o = operands_new(s, 1);
            float *want = malloc(count * 4), *stats = malloc(2 * (size_t)s->groups * (size_t)s->n * 4);
            way w = {.threads = 1, .joined = 1, .path = YD_GNORM_PLAIN};
            w.x_bf16 = types & 1;
            w.y_bf16 = types >> 1;
            run(s, &w, &o, want, stats);
            for (size_t k = 0; k < sizeof ways / sizeof *ways; k++)
                for (int path = YD_GNORM_BEST; path < YD_GNORM_PATHS; path++) {
                    if (!yd_gnorm_has_path((yd_gnorm_path)path)) continue;
                    w = ways[k];
                    w.path = (yd_gnorm_path)path;
                    w.x_bf16 = types & 1;
                    w.y_bf16 = types >> 1;
                    check_way(s, i, &w, &o, want, stats);
                }
            operands_free(&o);
            free(want);
            free(stats);
        }
}

static void test_alone(void)
{
    shape s = shapes[9], one = s;
    one.n = 1;
    size_t per = count_of(&one), c = (size_t)s.c0;
    operands o = operands_new(&s, 0);
    float *all = malloc(per * (size_t)s.n * 4), *alone = malloc(per * 4), stats[5 * 2 * 32];
    run(&s, &(way){.threads = 2}, &o, all, stats);
    for (int i = 0; i < s.n; i++) {
        operands mine = {o.x + (size_t)i * per, o.v + (size_t)i * c, o.gamma, o.beta};
        run(&one, &(way){.threads = MAX_THREADS}, &mine, alone, stats);
        CHECK_MSG(memcmp(alone, all + (size_t)i * per, per * 4) == 0, "sample %d differs when alone", i);
    }
    free(all);
    free(alone);
    operands_free(&o);
}

// Values at the edges of both types: one pixel more than its group needs, so that they pass through nearly unchanged.
static void test_edges(void)
{
    static const float edge[] = {0,       -0.0f,  FLT_MIN, -FLT_MIN,     1e-40f, -1e-40f, 1.00390625f, 1.01171875f,
                                 3.3e38f, 1e30f,  -1e30f,  88,           -88,    -86.7f,  87,          FLT_TRUE_MIN,
                                 -1,      1e-38f, -1e-38f, 1.17549e-38f, 0.5f,   -20.25f, 19.1f,       2.3e-38f};
    enum { N = sizeof edge / sizeof *edge };
    shape s = {.n = 1, .c0 = N, .groups = N, .pixels = 1};
    float x[N] = {0}, gamma[N] = {0}, y[N], want[N], stats[2 * N], silu[N];
    operands o = {x, NULL, gamma, (float *)(void *)edge};
    for (int act = 0; act < 2; act++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            s.act = act;
            way w = {.threads = 1, .y_bf16 = bf16, .path = YD_GNORM_PLAIN};
            run(&s, &w, &o, want, stats);
            for (int path = YD_GNORM_AVX2; path < YD_GNORM_PATHS; path++) {
                w.path = (yd_gnorm_path)path;
                if (!yd_gnorm_has_path(w.path)) continue;
                run(&s, &w, &o, y, stats);
                CHECK_MSG(memcmp(y, want, sizeof y) == 0, "edges differ on path %d, act %d, bf16 %d", path, act, bf16);
            }
            if (act && !bf16) memcpy(silu, want, sizeof silu);
            for (int i = 0; i < N && !act && bf16; i++) {
                uint16_t b = yd_to_bf16(edge[i]);
                double rounded = (double)yd_load(&b, 0, 1), normal = fabsf(edge[i]) < FLT_MIN ? 0 : rounded;
                CHECK_MSG((double)want[i] == normal, "%g stored as bf16 is %g", (double)edge[i], (double)want[i]);
            }
        }
    for (int i = 0; i < N; i++) {
        double z = (double)edge[i], exact = z / (1 + exp(-z)), off = fabs((double)silu[i] - exact);
        CHECK_MSG(off <= 3e-7 * fabs(exact) + 1e-30 * fmax(1, fabs(z)), "silu(%g) = %g", z, (double)silu[i]);
    }
}

static void test_nan(void)
{
    shape s = {.n = 1, .c0 = 32, .groups = 2, .pixels = 3, .act = 1};
    operands o = operands_new(&s, 0);
    float y[96], stats[4];
    o.x[40] = NAN; // pixel 1, channel 8: the first group
    for (int path = YD_GNORM_BEST; path < YD_GNORM_PATHS; path++)
        for (int bf16 = 0; bf16 < 2 && yd_gnorm_has_path((yd_gnorm_path)path); bf16++) {
            run(&s, &(way){.threads = 1, .y_bf16 = bf16, .path = (yd_gnorm_path)path}, &o, y, stats);
            for (int i = 0; i < 96; i++) CHECK(!isnan(y[i]) == (i % 32 >= 16));
        }
    operands_free(&o);
}

static void test_refusals(void)
{
    const yd_gnorm good = {.src = {{.c = 16}, {.c = 16}}, .dst = {.c = 32}, .n = 1, .pixels = 4, .groups = 4};
    CHECK(yd_gnorm_check(&good) == NULL);
    yd_gnorm g = good;
    g.groups = 3;
    CHECK(yd_gnorm_check(&g) != NULL);
    g.groups = 0;
    CHECK(yd_gnorm_check(&g) != NULL);
    g = good;
    g.dst.c = 16;
    CHECK(yd_gnorm_check(&g) != NULL);
    g = good;
    g.pixels = 0;
    CHECK(yd_gnorm_check(&g) != NULL);
    g = good;
    g.src[1].c = -16;
    CHECK(yd_gnorm_check(&g) != NULL);
    g = good;
    g.dst.pitch = 31;
    CHECK(yd_gnorm_check(&g) != NULL);
    g = good;
    g.src[0].c = 8;
    g.src[1].c = 24;
    CHECK(yd_gnorm_check(&g) == NULL);
    g.dst.blocked = 1;
    CHECK(yd_gnorm_check(&g) != NULL);
    g = good;
    g.path = YD_GNORM_PATHS;
    CHECK(yd_gnorm_check(&g) != NULL);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"normalisation agrees with plain sums", test_truth},
        {"normalisation: the same bits on every path, layout and thread count", test_same_bits},
        {"normalisation: a sample's bits do not depend on its batch", test_alone},
        {"values at the edges of f32 and bf16", test_edges},
        {"NaN stays in its group", test_nan},
        {"impossible shapes are refused", test_refusals},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
