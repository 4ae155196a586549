// Launches of our CUDA kernels that no operator of a graph stands for, on the host: copies and conversions, the search for NaN, the
// optimiser; normalisation at its limits of precision; and what every launch refuses.
#include "tests/oracle/oracle.h"
#include "tests/unit/gpu_rig.h"

static void copies_convert(void)
{
    for (size_t l = 0; l < sizeof layouts / sizeof *layouts; l++)
        for (int c = 1; c <= 17; c++)
            for (int types = 0; types < 4; types++) {
                const int n = 3, h = 4, w = 5;
                yd_gpu_map x = yd_gpu_map_of(NULL, types & 1 ? YD_BF16 : YD_F32, h, w, c);
                yd_gpu_map y = lay_out(&layouts[l], types & 2 ? YD_BF16 : YD_F32, h, w, c);
                const size_t count = (size_t)(n * h * w), size = y.dtype == YD_BF16 ? 2 : 4;
                place p = {.is_map = 1, .n = n, .bytes = (count * (size_t)y.pitch + (size_t)layouts[l].shift) * size};
                x.data = take(count * (size_t)c * 4);
                p.base = take(p.bytes);
                y.data = (char *)p.base + (size_t)layouts[l].shift * size;
                p.m = y;
                for (size_t i = 0; i < count * (size_t)c; i++) yd_put(x.data, i, x.dtype, (float)i * 0.37f - 20.0f);
                CHECK(yd_gpu_copy(&x, &y, n, NULL) == 0);
                int same = 1;
                for (size_t i = 0; i < count * (size_t)c; i++) {
                    float expect = yd_get(x.data, i, x.dtype);
                    if (y.dtype == YD_BF16) expect = (float)oracle_bf16((double)expect);
                    same &= yd_get(y.data, i / (size_t)c * (size_t)y.pitch + i % (size_t)c, y.dtype) == expect;
                }
                CHECK_MSG(same && in_bounds(&p), "%s, %d channels", layouts[l].name, c);
                free(x.data);
                free(p.base);
            }
}

static void not_finite_is_found(void)
{
    const int n = 5, h = 3, w = 7;
    for (int c = 1; c <= 16; c++)
        for (int bad = -1; bad < n * h * w * c; bad += 11) {
            float v[5 * 3 * 7 * 16];
            int flags[5] = {7, 7, 7, 7, 7};
            for (int i = 0; i < n * h * w * c; i++) v[i] = 3e38f;
            if (bad >= 0) v[bad] = bad % 2 ? NAN : -INFINITY;
            const yd_gpu_map m = yd_gpu_map_of(v, YD_F32, h, w, c);
            CHECK(yd_gpu_not_finite(&m, flags, n, NULL) == 0);
            for (int s = 0; s < n; s++) CHECK(flags[s] == (bad >= 0 && bad / (h * w * c) == s));
        }
}

static void adamw_is_the_oracle(void)
{
    enum { COUNT = YD_GPU_SPAN + 1000 };
    static float g[COUNT], w[COUNT], m[COUNT], v[COUNT], ema[COUNT];
    static double og[COUNT], ow[COUNT], om[COUNT], ov[COUNT], oe[COUNT];
    for (int i = 0; i < COUNT; i++) {
        g[i] = (float)sin(i * 0.7), w[i] = ema[i] = (float)cos(i * 0.3);
        og[i] = (double)g[i], ow[i] = oe[i] = (double)w[i];
    }
    const yd_gpu_span spans[2] = {{g, w, m, v, ema, YD_GPU_SPAN, 0},
                                  {g + YD_GPU_SPAN, w + YD_GPU_SPAN, m + YD_GPU_SPAN, v + YD_GPU_SPAN, ema + YD_GPU_SPAN, 1000, 1}};
    yd_adamw hp = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .weight_decay = 0.01f, .clip_norm = 1.0f, .ema_decay = 0.9f};
    for (hp.step = 1; hp.step <= 3; hp.step++) {
        double squares[2], expect[2] = {0}, sum = 0;
        CHECK(yd_gpu_square_sums(spans, 2, squares, NULL) == 0);
        for (int i = 0; i < COUNT; i++) expect[i / YD_GPU_SPAN] += og[i] * og[i];
        for (int i = 0; i < 2; i++) {
            CHECK(fabs(squares[i] - expect[i]) < 1e-9 * expect[i]);
            sum += squares[i];
        }
        const yd_gpu_rates r = yd_gpu_rates_of(&hp, sqrt(sum));
        CHECK(yd_gpu_adamw(spans, 2, &r, NULL) == 0);
        oracle_adamw(&hp, 1.0 / sqrt(sum), COUNT, og, ow, om, ov, oe);
    }
    double worst_w = 0, worst_e = 0;
    for (int i = 0; i < COUNT; i++) {
        worst_w = fmax(worst_w, fabs((double)w[i] - ow[i]));
        worst_e = fmax(worst_e, fabs((double)ema[i] - oe[i]));
    }
    CHECK_MSG(worst_w < 2e-6 && worst_e < 2e-6, "%g, %g", worst_w, worst_e);
    g[17] = NAN;
    double squares[2];
    CHECK(yd_gpu_square_sums(spans, 2, squares, NULL) == 0 && !isfinite(squares[0]) && isfinite(squares[1]));
}

// A mean far from zero costs normalisation no digits, on small maps and on large ones.
static void norms_far_from_zero(void)
{
    for (int side = 16; side <= 48; side += 32) {
        const int count = side * side * 8;
        float *x = take((size_t)count * 4), *y = take((size_t)count * 4), gamma[8], beta[8], stats[4];
        for (int i = 0; i < count; i++) x[i] = 5000.0f + (float)(i * 7919 % 1001) / 1001.0f;
        for (int c = 0; c < 8; c++) gamma[c] = 1.0f, beta[c] = 0.0f;
        const yd_gpu_map mx = yd_gpu_map_of(x, YD_F32, side, side, 8), my = yd_gpu_map_of(y, YD_F32, side, side, 8);
        void *scratch = take(yd_gpu_gnorm_scratch(&mx, 2, 1));
        CHECK(yd_gpu_gnorm(&mx, NULL, gamma, beta, 2, 1e-5f, 0, &my, stats, scratch, 1, NULL) == 0);
        double mean = 0, var = 0;
        for (int i = 0; i < count; i++) mean += i % 8 < 4 ? (double)x[i] / (count / 2) : 0;
        for (int i = 0; i < count; i++) var += i % 8 < 4 ? ((double)x[i] - mean) * ((double)x[i] - mean) / (count / 2) : 0;
        CHECK_MSG(fabs((double)stats[2] * sqrt(var + 1e-5) - 1) < 1e-5, "%dx%d: %g", side, side, (double)stats[2]);
        CHECK(fabs((double)y[8] - ((double)x[8] - mean) / sqrt(var + 1e-5)) < 1e-3);
        free(x);
        free(y);
        free(scratch);
    }
}

// Maps that do not fit together are refused, and nothing is written.
static void misfits_are_refused(void)
{
    float a[64] = {0}, b[64] = {0};
    const yd_gpu_map x = yd_gpu_map_of(a, YD_F32, 2, 4, 4), other = yd_gpu_map_of(b, YD_F32, 4, 2, 4);
    yd_gpu_map cut = yd_gpu_map_of(b, YD_F32, 2, 4, 4), huge = yd_gpu_map_of(b, YD_F32, 40000, 40000, 4);
    cut.pitch = 3;
    CHECK(yd_gpu_copy(&x, &other, 1, NULL) != 0 && yd_gpu_copy(&x, &cut, 1, NULL) != 0 && yd_gpu_copy(&x, &x, 0, NULL) != 0);
    CHECK(yd_gpu_copy(&huge, &huge, 1, NULL) != 0);
    CHECK(yd_gpu_upsample(&x, &other, 1, NULL) != 0 && yd_gpu_concat(&x, &x, &x, 1, NULL) != 0 && yd_gpu_reflect(&x, &x, 2, 1, NULL) != 0);
    CHECK(yd_gpu_gnorm(&x, NULL, a, a, 3, 1e-5f, 0, &x, NULL, NULL, 1, NULL) != 0);
    CHECK(yd_gpu_embed(a, b, 7, 1.0f, 0, 1, NULL) != 0 && yd_gpu_softmax(a, b, YD_F32, 1.0f, 0, 4, NULL) != 0);
}

// Results that may take the place of an operand are the same there. 20 channels of 8 leave threads of a block over.
static void results_in_place(void)
{
    for (int side = 8; side <= 40; side += 32)
        for (int c = 160; c >= 5; c -= 155) {
            const size_t count = (size_t)(2 * side * side * c), bytes = count * 4;
            const int groups = c == 160 ? 4 : 5;
            float *x = take(bytes), *d = take(bytes), *y = take(bytes), *in_place = take(bytes), *v = take((size_t)c * 8), stats[20],
                  grad[2][160];
            for (size_t i = 0; i < count; i++)
                x[i] = (float)(i * 7919 % 1001) / 500.0f - 1.0f, d[i] = (float)(i * 104729 % 997) / 500.0f - 1.0f;
            for (int i = 0; i < 2 * c; i++) v[i] = (float)i / 100.0f;
            const yd_gpu_map mx = yd_gpu_map_of(x, YD_F32, side, side, c), md = yd_gpu_map_of(d, YD_F32, side, side, c);
            const yd_gpu_map my = yd_gpu_map_of(y, YD_F32, side, side, c), mi = yd_gpu_map_of(in_place, YD_F32, side, side, c);
            void *scratch = take(yd_gpu_gnorm_bwd_scratch(&mx, groups, 2));

            memcpy(in_place, x, bytes);
            CHECK(yd_gpu_gnorm(&mx, v, v, v, groups, 1e-5f, 1, &my, stats, scratch, 2, NULL) == 0);
            CHECK(yd_gpu_gnorm(&mi, v, v, v, groups, 1e-5f, 1, &mi, NULL, scratch, 2, NULL) == 0);
            CHECK_MSG(memcmp(y, in_place, bytes) == 0, "normalised, %dx%dx%d", side, side, c);

            memcpy(in_place, d, bytes);
            CHECK(yd_gpu_gnorm_bwd(&mx, v, v, v, stats, &md, groups, 1, &my, NULL, grad[0], grad[1], scratch, 2, NULL) == 0);
            CHECK(yd_gpu_gnorm_bwd(&mx, v, v, v, stats, &mi, groups, 1, &mi, NULL, grad[0], grad[1], scratch, 2, NULL) == 0);
            CHECK_MSG(memcmp(y, in_place, bytes) == 0, "its gradient, %dx%dx%d", side, side, c);

            memcpy(in_place, d, bytes);
            CHECK(yd_gpu_axpy(0.3f, &mx, &md, &my, 2, NULL) == 0 && yd_gpu_axpy(0.3f, &mx, &mi, &mi, 2, NULL) == 0);
            CHECK(memcmp(y, in_place, bytes) == 0);

            memcpy(in_place, d, bytes);
            CHECK(yd_gpu_conv_end(&mx, v, YD_ACT_MISH, 0.0f, v, &md, &my, 2, NULL) == 0);
            CHECK(yd_gpu_conv_end(&mx, v, YD_ACT_MISH, 0.0f, v, &mi, &mi, 2, NULL) == 0);
            CHECK(memcmp(y, in_place, bytes) == 0);
            free(x), free(d), free(y), free(in_place), free(v), free(scratch);
        }
}

static const t_case cases[] = {
    {"copies convert, pad and keep to their own", copies_convert},
    {"NaN and infinity are found in their sample", not_finite_is_found},
    {"AdamW is the oracle's", adamw_is_the_oracle},
    {"norms of maps far from zero", norms_far_from_zero},
    {"results take the place of operands", results_in_place},
    {"misfits are refused", misfits_are_refused},
};

int main(int argc, char **argv)
{
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
