// Training the learned attention map (core/learned_map.h): plain loops, Adam, one thread, the same bytes every time.
//
// Every picture is reduced once to its averages and its target e / (e + c); an iteration draws crops of them, with the halo that the layers
// without padding eat up, runs the five layers and goes back through them. The loss is the mean squared difference of the sigmoid and the
// target. Everything random is a function of (seed, iteration). Read next: core/train/data.c, where the pictures come from.
#include "core/mem.h"
#include "core/rng.h"
#include "core/simd.h"
#include "core/train/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BATCH   16
#define CROP    32
#define RATE    2e-3
#define FLOOR   0.02 // of the rate, at the end of the half cosine
#define BETA1   0.9
#define BETA2   0.99
#define EPSILON 1e-8
#define SLOPE   0.1f // of core/learned_map.c's leaky ReLU
#define SIDE    (CROP + 2 * YD_MAP_HALO)
#define STREAM  0x6d61u // of the draws: no other part of a training uses it
#define BINS    65536

typedef struct plane { // a picture as this training sees it
    int w, h;      // averages
    float *input;  // (h + 2 halo) x (w + 2 halo) x 3
    float *target; // h x w
} plane;

typedef struct trainer {
    int reduce;
    plane *planes;
    int count;
    float level; // c
    yd_map_net net, grad, m, v;
    float *act[YD_MAP_LAYERS + 1]; // what goes into each layer, and the result
    float *back[2];                // gradients, with a border of two
    float *flipped;                // a layer's weights as its backward pass wants them
} trainer;

// ---- pictures ------------------------------------------------------------------------------------------------------

static int at_most(int v, int most)
{
    return v < most ? v : most;
}

// |HR - up(LR)| of one square, in [0,1].
static float error_at(const yd_picture *p, int reduce, int lx, int ly)
{
    const int x2 = at_most((lx + 1) * reduce, p->w), y2 = at_most((ly + 1) * reduce, p->h);
    long sum = 0, n = 0;
    for (int y = ly * reduce; y < y2; y++) {
        const size_t row = (size_t)y * (size_t)p->w;
        for (size_t i = (row + (size_t)(lx * reduce)) * 3; i < (row + (size_t)x2) * 3; i++, n++) {
            const int d = p->hr[i] - p->up[i];
            sum += d < 0 ? -d : d;
        }
    }
    return (float)sum / (255.0f * (float)n);
}

// 3x3 binomial; beyond the border the outermost values go on.
static void blur(const float *src, int w, int h, float *dst)
{
    static const float k[3] = {0.25f, 0.5f, 0.25f};
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            float sum = 0;
            for (int t = 0; t < 9; t++) {
                const int sx = x + t % 3 - 1, sy = y + t / 3 - 1;
                const int cx = sx < 0 ? 0 : at_most(sx, w - 1), cy = sy < 0 ? 0 : at_most(sy, h - 1);
                sum += k[t / 3] * k[t % 3] * src[(size_t)cy * (size_t)w + (size_t)cx];
            }
            *dst++ = sum;
        }
}

static int make_plane(const yd_picture *p, int reduce, plane *out, yd_err *err)
{
    out->w = (p->w + reduce - 1) / reduce;
    out->h = (p->h + reduce - 1) / reduce;
    const int pw = out->w + 2 * YD_MAP_HALO, ph = out->h + 2 * YD_MAP_HALO;
    const size_t n = (size_t)out->w * (size_t)out->h;
    float *raw = yd_malloc(n * sizeof *raw);
    out->input = yd_malloc((size_t)pw * (size_t)ph * 3 * sizeof *out->input);
    out->target = yd_malloc(n * sizeof *out->target);
    int rc = raw && out->input && out->target ? 0 : yd_fail(err, YD_E_NOMEM, "out of memory for a picture of %d x %d", p->w, p->h);
    if (rc == 0) {
        yd_map_reduce(p->up, p->w, p->h, reduce, -YD_MAP_HALO, -YD_MAP_HALO, pw, ph, out->input);
        for (int y = 0; y < out->h; y++)
            for (int x = 0; x < out->w; x++) raw[(size_t)y * (size_t)out->w + (size_t)x] = error_at(p, reduce, x, y);
        blur(raw, out->w, out->h, out->target);
    }
    yd_free(raw);
    return rc;
}

// The median error by counting, and every error as its target.
static int make_targets(trainer *t, yd_err *err)
{
    long *bin = yd_calloc(BINS, sizeof *bin), all = 0, below = 0;
    if (!bin) return yd_fail(err, YD_E_NOMEM, "out of memory for the median error");
    for (int i = 0; i < t->count; i++)
        for (size_t k = 0; k < (size_t)t->planes[i].w * (size_t)t->planes[i].h; k++, all++)
            bin[at_most((int)(t->planes[i].target[k] * BINS), BINS - 1)]++;
    int b = 0;
    while (b < BINS - 1 && (below += bin[b]) < (all + 1) / 2) b++;
    t->level = ((float)b + 0.5f) / BINS;
    yd_free(bin);
    for (int i = 0; i < t->count; i++)
        for (size_t k = 0; k < (size_t)t->planes[i].w * (size_t)t->planes[i].h; k++) {
            float *e = &t->planes[i].target[k];
            *e = *e / (*e + t->level);
        }
    return 0;
}

static int make_planes(trainer *t, const yd_dataset *data, yd_err *err)
{
    t->planes = yd_calloc((size_t)data->count, sizeof *t->planes);
    int rc = t->planes ? 0 : yd_fail(err, YD_E_NOMEM, "out of memory for the pictures");
    for (int i = 0; rc == 0 && i < data->count; i++) {
        const yd_picture *p = &data->pictures[i];
        if (p->w < CROP * t->reduce || p->h < CROP * t->reduce) continue;
        rc = make_plane(p, t->reduce, &t->planes[t->count++], err);
    }
    if (rc == 0 && t->count == 0)
        rc = yd_fail_field(err, YD_E_IMAGE, "data.folder", "pictures of at least 32 times the scale a side",
                           "no picture is large enough for the crops of the learned map, %d x %d pixels", CROP * t->reduce, CROP * t->reduce);
    return rc ? rc : make_targets(t, err);
}

// ---- one iteration -------------------------------------------------------------------------------------------------

// Gradient of a layer's weights and biases: x [n][n][in], g [n-2][n-2][out] in rows of g_row values.
static inline __attribute__((always_inline)) void weight_gradient(const float *x, int n, int in, const float *g, size_t g_row, int out,
                                                                  float *dw, float *db)
{
    for (int tap = 0; tap < 9; tap++)
        for (int i = 0; i < in; i++) {
            float sum[YD_MAP_WIDTH] = {0};
            for (int y = 0; y < n - 2; y++) {
                const float *p = x + ((size_t)(y + tap / 3) * (size_t)n + (size_t)(tap % 3)) * (size_t)in + i, *q = g + (size_t)y * g_row;
                for (int k = 0; k < n - 2; k++, p += in, q += out)
                    for (int o = 0; o < out; o++) sum[o] += *p * q[o];
            }
            for (int o = 0; o < out; o++) dw[(tap * in + i) * out + o] += sum[o];
        }
    for (int y = 0; y < n - 2; y++)
        for (int k = 0; k < n - 2; k++)
            for (int o = 0; o < out; o++) db[o] += g[(size_t)y * g_row + (size_t)(k * out + o)];
}

YD_SIMD static void add_weight_gradient(const float *x, int n, int in, const float *g, size_t g_row, int out, float *dw, float *db)
{
    if (in == YD_MAP_WIDTH && out == YD_MAP_WIDTH) weight_gradient(x, n, YD_MAP_WIDTH, g, g_row, YD_MAP_WIDTH, dw, db);
    else if (in == 3) weight_gradient(x, n, 3, g, g_row, YD_MAP_WIDTH, dw, db);
    else weight_gradient(x, n, in, g, g_row, out, dw, db);
}

// dx = g (with a border of two zeros) convolved with the kernel turned round and transposed; through the leaky ReLU that made x.
static void input_gradient(trainer *t, int layer, const float *g, int n, float *dx)
{
    const int in = yd_map_channels(layer), out = yd_map_channels(layer + 1);
    for (int tap = 0; tap < 9; tap++)
        for (int i = 0; i < in; i++)
            for (int o = 0; o < out; o++) t->flipped[((8 - tap) * out + o) * in + i] = t->net.weight[layer][(tap * in + i) * out + o];
    yd_map_conv(g, n + 2, n + 2, out, t->flipped, NULL, in, 0, dx);
    const float *x = t->act[layer];
    for (size_t i = 0; i < (size_t)n * (size_t)n * (size_t)in; i++)
        if (x[i] < 0.0f) dx[i] *= SLOPE;
}

// Put n x n x c values into the middle of zeros, two on each side.
static void with_border(const float *src, int n, int c, float *dst)
{
    const size_t row = (size_t)(n + 4) * (size_t)c;
    memset(dst, 0, row * (size_t)(n + 4) * sizeof *dst);
    for (int y = 0; y < n; y++) memcpy(dst + (size_t)(y + 2) * row + (size_t)(2 * c), src + (size_t)y * (size_t)(n * c), (size_t)(n * c) * sizeof *dst);
}

static void backward(trainer *t)
{
    int n = CROP; // side of the gradient
    with_border(t->act[YD_MAP_LAYERS], n, 1, t->back[0]);
    for (int l = YD_MAP_LAYERS - 1; l >= 0; l--, n += 2) {
        const int in = yd_map_channels(l), out = yd_map_channels(l + 1);
        const size_t row = (size_t)(n + 4) * (size_t)out;
        add_weight_gradient(t->act[l], n + 2, in, t->back[0] + 2 * row + 2 * (size_t)out, row, out, t->grad.weight[l], t->grad.bias[l]);
        if (l == 0) return;
        input_gradient(t, l, t->back[0], n + 2, t->back[1]);
        with_border(t->back[1], n + 2, in, t->back[0]);
    }
}

// One crop forward; leaves the gradient of the loss in the result's place. Returns its part of the loss.
static double forward(trainer *t, const plane *p, int x0, int y0)
{
    const int pw = p->w + 2 * YD_MAP_HALO;
    double loss = 0;
    for (int y = 0; y < SIDE; y++)
        memcpy(t->act[0] + (size_t)y * SIDE * 3, p->input + ((size_t)(y0 + y) * (size_t)pw + (size_t)x0) * 3, SIDE * 3 * sizeof(float));
    int n = SIDE;
    for (int l = 0; l < YD_MAP_LAYERS; l++, n -= 2)
        yd_map_conv(t->act[l], n, n, yd_map_channels(l), t->net.weight[l], t->net.bias[l], yd_map_channels(l + 1), l + 1 < YD_MAP_LAYERS,
                    t->act[l + 1]);
    float *z = t->act[YD_MAP_LAYERS];
    for (int y = 0; y < CROP; y++)
        for (int x = 0; x < CROP; x++, z++) {
            const float s = 1.0f / (1.0f + expf(-*z)), d = s - p->target[(size_t)(y0 + y) * (size_t)p->w + (size_t)(x0 + x)];
            loss += (double)d * (double)d / (BATCH * CROP * CROP);
            *z = 2.0f * d * s * (1.0f - s) / (BATCH * CROP * CROP);
        }
    return loss;
}

static double iterate(trainer *t, uint64_t seed, long iteration)
{
    double loss = 0;
    memset(&t->grad, 0, sizeof t->grad);
    for (int i = 0; i < BATCH; i++) {
        const uint64_t k = (uint64_t)iteration * BATCH + (uint64_t)i;
        const plane *p = &t->planes[(int)(yd_rng_uniform(seed, STREAM, k, 0) * (float)t->count)];
        const int x = (int)(yd_rng_uniform(seed, STREAM, k, 1) * (float)(p->w - CROP + 1));
        const int y = (int)(yd_rng_uniform(seed, STREAM, k, 2) * (float)(p->h - CROP + 1));
        loss += forward(t, p, x, y);
        backward(t);
    }
    return loss;
}

static void adam(float *w, const float *g, float *m, float *v, size_t n, double rate, long step)
{
    const double c1 = 1 - pow(BETA1, (double)step), c2 = 1 - pow(BETA2, (double)step);
    for (size_t i = 0; i < n; i++) {
        m[i] = (float)(BETA1 * (double)m[i] + (1 - BETA1) * (double)g[i]);
        v[i] = (float)(BETA2 * (double)v[i] + (1 - BETA2) * (double)g[i] * (double)g[i]);
        w[i] -= (float)(rate * ((double)m[i] / c1) / (sqrt((double)v[i] / c2) + EPSILON));
    }
}

static void update(trainer *t, double rate, long step)
{
    for (int l = 0; l < YD_MAP_LAYERS; l++) {
        adam(t->net.weight[l], t->grad.weight[l], t->m.weight[l], t->v.weight[l], sizeof t->net.weight[l] / sizeof(float), rate, step);
        adam(t->net.bias[l], t->grad.bias[l], t->m.bias[l], t->v.bias[l], YD_MAP_WIDTH, rate, step);
    }
}

// ---- the run -------------------------------------------------------------------------------------------------------

// Uniform in +-sqrt(6 / fan-in), which keeps the size of what passes a ReLU.
static void init(yd_map_net *net, uint64_t seed)
{
    for (int l = 0; l < YD_MAP_LAYERS; l++) {
        const int in = yd_map_channels(l), out = yd_map_channels(l + 1);
        const float bound = sqrtf(6.0f / (9.0f * (float)in));
        for (int k = 0; k < 9 * in * out; k++)
            net->weight[l][k] = (2.0f * yd_rng_uniform(seed, STREAM + 1, (uint64_t)k, (uint32_t)l) - 1.0f) * bound;
    }
}

static int take_memory(trainer *t, yd_err *err)
{
    const size_t most = (size_t)(SIDE + 4) * (SIDE + 4) * YD_MAP_WIDTH;
    int ok = 1;
    for (int i = 0; i <= YD_MAP_LAYERS; i++) ok &= (t->act[i] = yd_malloc(most * sizeof(float))) != NULL;
    for (int i = 0; i < 2; i++) ok &= (t->back[i] = yd_malloc(most * sizeof(float))) != NULL;
    t->flipped = yd_malloc(sizeof t->net.weight[0]);
    return ok && t->flipped ? 0 : yd_fail(err, YD_E_NOMEM, "out of memory for the training of a map");
}

static void trainer_free(trainer *t)
{
    for (int i = 0; t->planes && i < t->count; i++) {
        yd_free(t->planes[i].input);
        yd_free(t->planes[i].target);
    }
    for (int i = 0; i <= YD_MAP_LAYERS; i++) yd_free(t->act[i]);
    for (int i = 0; i < 2; i++) yd_free(t->back[i]);
    yd_free(t->flipped);
    yd_free(t->planes);
    yd_free(t);
}

static int run(trainer *t, uint64_t seed, const yd_map_options *opt, yd_map_result *res, yd_err *err)
{
    init(&t->net, seed);
    for (long k = 1; k <= opt->iterations; k++) {
        if (opt->stop && *opt->stop) return yd_fail(err, YD_E_CANCELLED, "stopped; the map is written only when it is ready");
        const double loss = iterate(t, seed, k);
        if (!isfinite(loss)) return yd_fail(err, YD_E_NUMERIC, "the loss of the map is NaN or Inf in iteration %ld; nothing is written", k);
        const double turn = (double)(k - 1) / (double)opt->iterations;
        update(t, RATE * (FLOOR + (1 - FLOOR) * 0.5 * (1 + cos(3.14159265358979323846 * turn))), k);
        res->loss = k == 1 ? loss : res->loss + (loss - res->loss) / (k < 100 ? (double)k : 100.0);
        if (opt->progress) opt->progress(opt->user, k, opt->iterations, res->loss);
    }
    return 0;
}

int yd_train_map(const yd_train_config *cfg, const yd_map_options *opt, yd_map_net *out, yd_map_result *res, yd_err *err)
{
    yd_train_config plain = *cfg;
    const yd_train_options loading = {.stop = opt->stop, .notice = opt->notice, .user = opt->user};
    yd_dataset *data = NULL;
    memset(res, 0, sizeof *res);
    snprintf(plain.attention, sizeof plain.attention, "constant"); // nobody looks at the maps of the data
    trainer *t = yd_calloc(1, sizeof *t);
    if (!t) return yd_fail(err, YD_E_NOMEM, "out of memory for the training of a map");
    t->reduce = t->net.reduce = cfg->model.scale;
    int rc = yd_dataset_load(&plain, &loading, &data, err);
    if (rc == 0) rc = make_planes(t, data, err);
    if (rc == 0) {
        res->pictures = t->count;
        res->level = (double)t->level;
        yd_dataset_free(data);
        data = NULL;
        rc = take_memory(t, err);
    }
    if (rc == 0) rc = run(t, cfg->seed, opt, res, err);
    if (rc == 0) *out = t->net;
    yd_dataset_free(data);
    trainer_free(t);
    return rc;
}
