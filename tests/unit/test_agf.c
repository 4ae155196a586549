// Attribution guided factorisation: every rule by itself against plain loops in double, and what must not change a bit.
#include "core/agf.h"

#include "core/agf_rules.h"
#include "tests/oracle/resnet.h"
#include "tests/unit/t.h"

#include <omp.h>

// ---- numbers

static uint32_t state = 1;

// In [low, high).
static double drawn(double low, double high)
{
    state = state * 1664525u + 1013904223u;
    return low + (high - low) * (double)(state >> 8) / 16777216.0;
}

static oracle_map draw(int c, int h, int w, double low, double high)
{
    oracle_map m = oracle_map_new(c, h, w);
    for (int i = 0; i < c * h * w; i++) m.v[i] = (double)(float)drawn(low, high);
    return m;
}

// Set a third of it to 0.
static oracle_map draw_holes(int c, int h, int w, double low, double high)
{
    oracle_map m = draw(c, h, w, low, high);
    for (int i = 0; i < c * h * w; i++)
        if (drawn(0, 3) < 1) m.v[i] = 0;
    return m;
}

// Channels last, as the code under test has them.
static float *last(const oracle_map *m)
{
    const int places = m->h * m->w;
    float *f = calloc((size_t)(m->c * places), sizeof *f);
    for (int c = 0; c < m->c; c++)
        for (int p = 0; p < places; p++) f[p * m->c + c] = (float)m->v[c * places + p];
    return f;
}

static void check_near(const float *got, const oracle_map *want, double limit, const char *what)
{
    float *w = last(want);
    const double apart = t_rel_diff(got, w, (size_t)(want->c * want->h * want->w));
    CHECK_MSG(apart < limit, "%s: %g apart", what, apart);
    free(w);
}

// ---- rules without convolutions

static void test_top(void)
{
    int index[4];
    yd_agf_top((float[]){1, 5, 3, 5, -1, 4}, 6, 4, index);
    CHECK(index[0] == 1 && index[1] == 3 && index[2] == 5 && index[3] == 2);
}

static void test_start(void)
{
    enum { N = 40 };
    float y[N], c[N], g[N];
    double dy[N], dc[N], dg[N];
    for (int i = 0; i < N; i++) y[i] = (float)drawn(0, 3), dy[i] = y[i];
    for (int t = 0; t < N; t += 7) {
        yd_agf_start(y, N, t, c, g);
        oracle_agf_start(dy, N, t, dc, dg);
        double worst = 0, most = 0, worst_c = 0, most_c = 0;
        for (int i = 0; i < N; i++) {
            worst = fmax(worst, fabs(g[i] - dg[i])), most = fmax(most, fabs(dg[i]));
            worst_c = fmax(worst_c, fabs(c[i] - dc[i])), most_c = fmax(most_c, fabs(dc[i]));
        }
        CHECK_MSG(worst < 1e-6 * most && worst_c < 1e-6 * most_c && most > 0, "target %d: %g of %g", t, worst, most);
    }
    for (int i = 0; i < N; i++) y[i] = 2;
    yd_agf_start(y, N, 3, c, g);
    for (int i = 0; i < N; i++) CHECK(c[i] == 0 && g[i] == 0);
}

// The gradient is one: a step of y changes P as it says.
static void test_start_is_gradient(void)
{
    enum { N = 12 };
    double y[N], c[N], g[N], step = 1e-6;
    for (int i = 0; i < N; i++) y[i] = drawn(0, 2);
    const int t = 4;
    oracle_agf_start(y, N, t, c, g);
    for (int j = 0; j < N; j++) {
        double p[2];
        for (int side = 0; side < 2; side++) {
            double z[N], s = 0, sum = 0, keep = y[j];
            y[j] += side ? step : -step;
            for (int k = 0; k < N; k++) s = fmax(s, fabs(y[k] - y[t]));
            for (int k = 0; k < N; k++) sum += z[k] = exp(y[t] * exp(-pow((y[k] - y[t]) / s, 2) / 2));
            p[side] = z[t] / sum;
            y[j] = keep;
        }
        CHECK_MSG(fabs((p[1] - p[0]) / (2 * step) - g[j]) < 1e-7, "of number %d: %g, not %g", j, g[j], (p[1] - p[0]) / (2 * step));
    }
}

static void test_mean(void)
{
    oracle_map x = draw_holes(5, 3, 4, 0, 1), gx, cx;
    double c[5], g[5];
    float cf[5], gf[5], mean[5], *xf = last(&x), got_c[60], got_g[60];
    for (int i = 0; i < 5; i++) cf[i] = (float)drawn(-1, 1), c[i] = cf[i], gf[i] = (float)drawn(-1, 1), g[i] = gf[i];
    cx = oracle_agf_mean(&x, c, g, &gx);
    yd_agf_mean(xf, 12, 5, mean);
    yd_agf_mean_back(xf, 12, 5, mean, cf, gf, got_c, got_g);
    check_near(got_c, &cx, 1e-6, "C of a mean");
    check_near(got_g, &gx, 1e-6, "G of a mean");
    free(xf);
    oracle_map_free(&x), oracle_map_free(&cx), oracle_map_free(&gx);
}

static void test_relu(void)
{
    oracle_map x = draw(7, 5, 6, -1, 1), c = draw_holes(7, 5, 6, -2, 2), g = draw(7, 5, 6, -1, 1), y = oracle_map_copy(&x);
    for (int i = 0; i < 210; i++) y.v[i] = fmax(0, x.v[i]);
    oracle_map want = oracle_agf_relu(&x, &c);
    float *yf = last(&y), *cf = last(&c), *gf = last(&g);
    yd_agf_relu(yf, 210, cf, gf);
    check_near(cf, &want, 1e-6, "C of a ReLU");
    for (int i = 0; i < 210; i++)
        if (x.v[i] <= 0) g.v[i] = 0;
    check_near(gf, &g, 1e-6, "G of a ReLU");
    free(yf), free(cf), free(gf);
    oracle_map_free(&x), oracle_map_free(&c), oracle_map_free(&g), oracle_map_free(&y), oracle_map_free(&want);
}

static void test_add(void)
{
    oracle_map a = draw(6, 4, 5, -1, 1), b = draw_holes(6, 4, 5, 0, 1), c = draw_holes(6, 4, 5, -2, 2), g = draw(6, 4, 5, -1, 1);
    oracle_map total = oracle_map_copy(&a), y = oracle_map_copy(&a), wa, wb;
    for (int i = 0; i < 120; i++) total.v[i] = (double)(float)(a.v[i] + b.v[i]), y.v[i] = fmax(0, total.v[i]);
    oracle_map through = oracle_agf_relu(&total, &c);
    oracle_agf_add(&a, &b, &through, &wa, &wb);
    float *af = last(&a), *bf = last(&b), *yf = last(&y), *cf = last(&c), *gf = last(&g), ca[120], cb[120], ga[120], gb[120];
    yd_agf_add(yf, af, bf, 120, cf, gf, ca, cb, ga, gb);
    check_near(ca, &wa, 1e-5, "C of a sum's first");
    check_near(cb, &wb, 1e-5, "C of a sum's second");
    for (int i = 0; i < 120; i++) CHECK(ga[i] == (yf[i] > 0 ? gf[i] : 0) && gb[i] == ga[i]);
    free(af), free(bf), free(yf), free(cf), free(gf);
    oracle_map *all[] = {&a, &b, &c, &g, &total, &y, &wa, &wb, &through};
    for (int i = 0; i < 9; i++) oracle_map_free(all[i]);
}

static void test_fork(void)
{
    oracle_map x = draw_holes(3, 4, 5, 0, 1), c0 = draw_holes(3, 4, 5, -1, 1), c1 = draw_holes(3, 4, 5, -1, 1),
               want = oracle_agf_fork(&x, &c0, &c1);
    float *xf = last(&x), *a = last(&c0), *b = last(&c1), g[60], sum_g[60];
    for (int i = 0; i < 60; i++) g[i] = (float)i, sum_g[i] = 1;
    yd_agf_fork_first(xf, 60, a);
    yd_agf_fork_more(xf, 60, b, g, a, sum_g);
    yd_agf_fork_end(xf, 60, a);
    check_near(a, &want, 1e-6, "C of a fork");
    for (int i = 0; i < 60; i++) CHECK(sum_g[i] == (float)(i + 1));
    free(xf), free(a), free(b);
    oracle_map_free(&x), oracle_map_free(&c0), oracle_map_free(&c1), oracle_map_free(&want);
}

static void check_pool(int h, int w, int k, int stride, int pad)
{
    const int oh = (h + 2 * pad - k) / stride + 1, ow = (w + 2 * pad - k) / stride + 1;
    oracle_map x = draw_holes(4, h, w, 0, 1), c = draw_holes(4, oh, ow, -1, 1), g = draw(4, oh, ow, -1, 1), gx,
               y = oracle_map_new(4, oh, ow);
    for (int i = 0; i < 4 * h * w; i++) x.v[i] = round(2 * x.v[i]) / 2; // windows with several largest
    oracle_map cx = oracle_agf_pool(&x, k, stride, pad, &c, &g, &gx);
    for (int i = 0; i < 4; i++)
        for (int row = 0; row < oh; row++)
            for (int col = 0; col < ow; col++) {
                double *to = oracle_map_at(&y, i, row, col);
                *to = -1;
                for (int a = row * stride - pad; a < row * stride - pad + k; a++)
                    for (int b = col * stride - pad; b < col * stride - pad + k; b++)
                        if (a >= 0 && a < h && b >= 0 && b < w) *to = fmax(*to, *oracle_map_at(&x, i, a, b));
            }
    const yd_agf_pool p = {h, w, oh, ow, {k, k}, {pad, pad}, stride, 4};
    float *xf = last(&x), *yf = last(&y), *cf = last(&c), *gf = last(&g), *got_c = calloc((size_t)(4 * h * w), 4),
          *got_g = calloc((size_t)(4 * h * w), 4);
    uint8_t *which = calloc((size_t)(4 * oh * ow), 1);
    yd_agf_pool_find(&p, xf, which);
    yd_agf_pool_back(&p, xf, yf, which, cf, gf, got_c, got_g);
    check_near(got_c, &cx, 1e-6, "C of a maximum");
    check_near(got_g, &gx, 1e-6, "G of a maximum");
    free(xf), free(yf), free(cf), free(gf), free(got_c), free(got_g), free(which);
    oracle_map_free(&x), oracle_map_free(&c), oracle_map_free(&g), oracle_map_free(&gx), oracle_map_free(&cx), oracle_map_free(&y);
}

static void test_pool(void)
{
    check_pool(7, 8, 3, 2, 1);
    check_pool(6, 5, 2, 2, 0);
    check_pool(9, 9, 3, 1, 1);
    check_pool(8, 9, 5, 3, 2);
}

static void test_picture(void)
{
    float map[2];
    yd_agf_picture((float[]){1, -2, 4, 2, 2, -6}, 2, map);
    CHECK(map[0] == 0.75f && map[1] == -0.5f);
    yd_agf_picture((float[]){0, 0, 0, 0, 0, 0}, 2, map);
    CHECK(map[0] == 0 && map[1] == 0);
}

// ---- convolutions: a first one, and one more whose rule is looked at

typedef struct conv_case {
    int h, w, in_c, c, k, stride, heads, together;
} conv_case;

static void fill_filter(oracle_filter *f, float **w)
{
    const int n = f->c * f->in_c * f->k * f->k;
    *w = calloc((size_t)n, sizeof **w);
    f->w = calloc((size_t)n, sizeof *f->w);
    for (int i = 0; i < n; i++) (*w)[i] = (float)drawn(-1, 1) / (float)sqrt(f->in_c * f->k * f->k), f->w[i] = (*w)[i];
}

static yd_trunk_step step_of(const oracle_filter *f, const float *w, const float *bias, int from, int linear)
{
    return (yd_trunk_step){.kind = YD_TRUNK_CONV,
                           .from = {from},
                           .n_from = 1,
                           .in_c = f->in_c,
                           .c = f->c,
                           .k = {f->k, f->k},
                           .stride = f->stride,
                           .pad = {f->pad, f->pad},
                           .linear = linear,
                           .weight = w,
                           .bias = bias,
                           .tap = -1};
}

static void check_conv(conv_case v)
{
    oracle_filter f0 = {v.in_c, 3, 3, 1, 1, NULL}, f1 = {v.c, v.in_c, v.k, v.stride, v.k / 2, NULL};
    const int oh = (v.h - 1) / v.stride + 1, ow = (v.w - 1) / v.stride + 1;
    float *w0, *w1, *bias = calloc((size_t)(v.in_c + v.c), sizeof *bias);
    double *scale = calloc((size_t)v.c, sizeof *scale);
    fill_filter(&f0, &w0), fill_filter(&f1, &w1);
    for (int i = 0; i < v.in_c + v.c; i++) bias[i] = (float)drawn(-0.1, 0.1);
    for (int i = 1; i < v.c; i++) scale[i] = drawn(0.2, 2); // and one of 0, which C must not see
    yd_trunk_step steps[2] = {step_of(&f0, w0, bias, 0, 0), step_of(&f1, w1, bias + v.in_c, 1, 1)};
    steps[1].scale = scale;
    yd_agf *a = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_agf_new(steps, 2, v.heads, v.together, &a, &err) == 0 && yd_agf_prepare(a, v.h, v.w, &err) == 0, "%s", err.detail);
    oracle_map picture = draw(3, v.h, v.w, -2, 2);
    float *pf = last(&picture);
    memcpy(yd_agf_input(a), pf, (size_t)(3 * v.h * v.w) * sizeof *pf);
    CHECK(yd_agf_forward(a, &err) == 0);
    const size_t in = (size_t)(v.in_c * v.h * v.w), out = (size_t)(v.c * oh * ow);
    // What the second convolution reads, computed here in single precision as the trunk does, so that both see the same signs.
    oracle_map pre = oracle_conv_map(&picture, &f0), x = oracle_map_copy(&pre);
    for (int i = 0; i < (int)in; i++) x.v[i] = fmax(0, pre.v[i] + bias[i / (v.h * v.w)]);
    float *c = calloc(out * (size_t)v.together, 4), *g = calloc(out * (size_t)v.together, 4), *cx = calloc(in * (size_t)v.together, 4),
          *gx = calloc(in * (size_t)v.together, 4);
    oracle_map cs[8], gs[8];
    for (int k = 0; k < v.together; k++) {
        cs[k] = draw_holes(v.c, oh, ow, -1, 2), gs[k] = draw(v.c, oh, ow, -1, 1);
        float *t = last(&cs[k]);
        memcpy(c + (size_t)k * out, t, out * sizeof *c);
        free(t), t = last(&gs[k]);
        memcpy(g + (size_t)k * out, t, out * sizeof *g);
        free(t);
    }
    CHECK(yd_agf_back(a, c, g, 1, cx, gx, &err) == 0);
    char what[80];
    snprintf(what, sizeof what, "%d x %d, %d to %d, kernel %d, stride %d", v.h, v.w, v.in_c, v.c, v.k, v.stride);
    for (int k = 0; k < v.together; k++) {
        oracle_map scaled = oracle_map_copy(&gs[k]);
        for (int i = 0; i < (int)out; i++) scaled.v[i] *= scale[i / (oh * ow)];
        oracle_map want_g = oracle_conv_map_back(&scaled, &f1, v.h, v.w);
        oracle_map want_c = v.k == 1 ? oracle_agf_flat(&x, &f1, &cs[k]) : oracle_agf_full(&x, &f1, &cs[k], &scaled);
        check_near(cx + (size_t)k * in, &want_c, 2e-5, what);
        check_near(gx + (size_t)k * in, &want_g, 2e-5, what);
        oracle_map_free(&scaled), oracle_map_free(&want_c), oracle_map_free(&want_g), oracle_map_free(&cs[k]), oracle_map_free(&gs[k]);
    }
    yd_agf_free(a);
    free(c), free(g), free(cx), free(gx), free(w0), free(w1), free(f0.w), free(f1.w), free(bias), free(scale), free(pf);
    oracle_map_free(&picture), oracle_map_free(&pre), oracle_map_free(&x);
}

static void test_flat(void)
{
    check_conv((conv_case){5, 7, 9, 11, 1, 1, 2, 2});
    check_conv((conv_case){8, 6, 16, 32, 1, 1, 1, 1});
    check_conv((conv_case){8, 7, 12, 40, 1, 2, 3, 3});
    check_conv((conv_case){1, 1, 7, 8, 1, 1, 2, 1});
}

static void test_full(void)
{
    check_conv((conv_case){5, 7, 9, 11, 3, 1, 2, 2});
    check_conv((conv_case){8, 6, 16, 32, 3, 1, 1, 1});
    check_conv((conv_case){8, 7, 40, 12, 3, 2, 3, 3});
    check_conv((conv_case){9, 9, 33, 8, 5, 1, 2, 1});
    check_conv((conv_case){1, 2, 7, 8, 3, 1, 2, 2});
    check_conv((conv_case){30, 31, 70, 9, 3, 1, 1, 1}); // several blocks of places
    check_conv((conv_case){12, 13, 2, 2, 3, 1, 2, 2});  // places where nothing is
}

static void check_first(int h, int w, int c, int k, int stride)
{
    oracle_filter f = {c, 3, k, stride, k / 2, NULL};
    const int oh = (h + 2 * (k / 2) - k) / stride + 1, ow = (w + 2 * (k / 2) - k) / stride + 1;
    float *weight, *bias = calloc((size_t)c, sizeof *bias);
    double *scale = calloc((size_t)c, sizeof *scale); // must not matter
    fill_filter(&f, &weight);
    for (int i = 0; i < c; i++) bias[i] = (float)drawn(-0.1, 0.1), scale[i] = drawn(0.5, 1.5);
    yd_trunk_step step = step_of(&f, weight, bias, 0, 0);
    step.scale = scale;
    yd_agf *a = NULL;
    yd_err err = {0};
    CHECK_MSG(yd_agf_new(&step, 1, 1, 1, &a, &err) == 0 && yd_agf_prepare(a, h, w, &err) == 0, "%s", err.detail);
    oracle_map x = draw(3, h, w, -2, 2), pre, y = draw_holes(c, oh, ow, -1, 1), g = draw(c, oh, ow, -1, 1);
    float *xf = last(&x), *cf, *gf = last(&g), *got = calloc((size_t)(3 * h * w), 4);
    memcpy(yd_agf_input(a), xf, (size_t)(3 * h * w) * sizeof *xf);
    CHECK(yd_agf_forward(a, &err) == 0);
    cf = last(&y);
    CHECK(yd_agf_back(a, cf, gf, 0, got, NULL, &err) == 0);
    oracle_filter s = f;
    s.w = calloc((size_t)(c * 3 * k * k), sizeof *s.w);
    for (int i = 0; i < c * 3 * k * k; i++) s.w[i] = f.w[i] * scale[i / (3 * k * k)];
    pre = oracle_conv_map(&x, &s);
    for (int i = 0; i < c * oh * ow; i++) pre.v[i] += bias[i / (oh * ow)];
    oracle_map through = oracle_agf_relu(&pre, &y), want = oracle_agf_first(&x, &f, &through);
    char what[80];
    snprintf(what, sizeof what, "first, %d x %d, %d channels, kernel %d, stride %d", h, w, c, k, stride);
    check_near(got, &want, 1e-4, what);
    yd_agf_free(a);
    free(weight), free(bias), free(scale), free(xf), free(cf), free(gf), free(got), free(f.w), free(s.w);
    oracle_map *all[] = {&x, &pre, &y, &g, &through, &want};
    for (int i = 0; i < 6; i++) oracle_map_free(all[i]);
}

static void test_first(void)
{
    check_first(12, 10, 8, 7, 2);
    check_first(9, 9, 16, 3, 1);
    check_first(16, 17, 64, 7, 2);
}

// A step that moves the mask: G where C is 0 must not reach F_g, but reaches M and the gradient. That is what draw_holes is for; here its
// opposite, where nothing is masked, and the two ways must give the same.
static void test_mask(void)
{
    float masked[6];
    CHECK(yd_agf_mask((float[]){1, 0, -1, 0, 2, 0}, (float[]){1, 2, 3, 0, 0, 4}, 6, masked) == 2);
    CHECK(masked[0] == 1 && masked[1] == 0 && masked[2] == 3 && masked[3] == 0 && masked[4] == 0 && masked[5] == 0);
}

// ---- what is refused

static void test_refused(void)
{
    static const float w[3 * 3 * 9];
    const oracle_filter f = {3, 3, 3, 1, 1, NULL};
    yd_trunk_step steps[3] = {step_of(&f, w, NULL, 0, 1), step_of(&f, w, NULL, 1, 0), step_of(&f, w, NULL, 2, 0)};
    yd_agf *a = NULL;
    CHECK(yd_agf_new(steps, 3, 1, 1, &a, NULL) == YD_E_INVALID && !a); // a convolution of numbers below 0
    steps[0].linear = 0;
    CHECK(yd_agf_new(steps, 3, 4, 1, &a, NULL) == YD_E_INVALID); // more heads than features
    CHECK(yd_agf_new(steps, 3, 3, 2, &a, NULL) == YD_E_INVALID);
    steps[2] = (yd_trunk_step){.kind = YD_TRUNK_JOIN, .from = {1, 2}, .n_from = 2, .c = 6};
    CHECK(yd_agf_new(steps, 3, 1, 1, &a, NULL) == YD_E_INVALID);
    steps[2] = (yd_trunk_step){.kind = YD_TRUNK_ADD, .from = {2, 2}, .n_from = 2, .c = 3};
    CHECK(yd_agf_new(steps, 3, 1, 1, &a, NULL) == YD_E_INVALID);
    steps[2].from[0] = 0;
    CHECK(yd_agf_new(steps, 3, 1, 1, &a, NULL) == YD_E_INVALID);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"agf: the highest features", test_top},
        {"agf: the start", test_start},
        {"agf: the start is a gradient", test_start_is_gradient},
        {"agf: a mean", test_mean},
        {"agf: a ReLU", test_relu},
        {"agf: a sum", test_add},
        {"agf: a fork", test_fork},
        {"agf: a maximum over windows", test_pool},
        {"agf: the mask of a gradient", test_mask},
        {"agf: a flat convolution", test_flat},
        {"agf: a full convolution", test_full},
        {"agf: the first convolution", test_first},
        {"agf: a picture of three channels", test_picture},
        {"agf: what is refused", test_refused},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
