// core/metrics: values worked out by hand, and SSIM against its definition as one 11x11 window per pixel.
#include "core/mem.h"
#include "core/metrics.h"
#include "tests/unit/t.h"

static void noise(uint8_t *p, size_t n, uint32_t state)
{
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (uint8_t)(state >> 24);
    }
}

static void test_psnr_by_hand(void)
{
    uint8_t a[4 * 4 * 3] = {0}, b[4 * 4 * 3] = {0};
    CHECK(yd_psnr_rgb(a, b, 4, 4, 0) == 100.0);
    memset(b, 255, sizeof b);
    CHECK(fabs(yd_psnr_rgb(a, b, 4, 4, 0)) < 1e-12); // MSE 255^2
    memset(b, 16, sizeof b);
    CHECK(fabs(yd_psnr_rgb(a, b, 4, 4, 0) - 10 * log10(65025.0 / 256)) < 1e-12);
    memset(b, 0, sizeof b);
    b[0] = 12; // one value of 48: MSE 144/48 = 3
    CHECK(fabs(yd_psnr_rgb(a, b, 4, 4, 0) - 43.3596) < 1e-4);
    CHECK(fabs(yd_psnr_rgb(b, a, 4, 4, 0) - 43.3596) < 1e-4);
    CHECK(yd_psnr_rgb(a, b, 4, 4, 1) == 100.0); // the corner is cropped away
    b[(1 * 4 + 1) * 3] = 6;                     // 36 / (4 pixels * 3)
    CHECK(fabs(yd_psnr_rgb(a, b, 4, 4, 1) - 43.3596) < 1e-4);
    CHECK(isnan(yd_psnr_rgb(a, b, 4, 4, 2))); // nothing is left
    CHECK(isnan(yd_psnr_rgb(a, b, 4, 4, -1)));
}

static void test_psnr_never_above_equality(void)
{
    size_t n = 700 * 700 * 3;
    uint8_t *a = calloc(n, 1), *b = calloc(n, 1);
    b[n / 2] = 1;
    CHECK(yd_psnr_rgb(a, b, 700, 700, 0) == 100.0); // 109.8 by the formula
    free(a);
    free(b);
}

static double ssim_oracle(const uint8_t *a, const uint8_t *b, int w, int h, int crop)
{
    double k[11][11], ksum = 0, total = 0;
    long count = 0;
    for (int i = 0; i < 11; i++)
        for (int j = 0; j < 11; j++) ksum += k[i][j] = exp(-((i - 5) * (i - 5) + (j - 5) * (j - 5)) / 4.5);
    for (int c = 0; c < 3; c++)
        for (int y = crop + 5; y < h - crop - 5; y++)
            for (int x = crop + 5; x < w - crop - 5; x++, count++) {
                double ma = 0, mb = 0, va = 0, vb = 0, cov = 0;
                for (int i = 0; i < 11; i++)
                    for (int j = 0; j < 11; j++) {
                        size_t at = ((size_t)(y + i - 5) * (size_t)w + (size_t)(x + j - 5)) * 3 + (size_t)c;
                        ma += k[i][j] / ksum * a[at];
                        mb += k[i][j] / ksum * b[at];
                    }
                for (int i = 0; i < 11; i++)
                    for (int j = 0; j < 11; j++) {
                        size_t at = ((size_t)(y + i - 5) * (size_t)w + (size_t)(x + j - 5)) * 3 + (size_t)c;
                        va += k[i][j] / ksum * (a[at] - ma) * (a[at] - ma);
                        vb += k[i][j] / ksum * (b[at] - mb) * (b[at] - mb);
                        cov += k[i][j] / ksum * (a[at] - ma) * (b[at] - mb);
                    }
                total +=
                    (2 * ma * mb + 6.5025) * (2 * cov + 58.5225) / ((ma * ma + mb * mb + 6.5025) * (va + vb + 58.5225));
            }
    return total / (double)count;
}

static void test_ssim_oracle(void)
{
    static const int sizes[][3] = {{11, 11, 0}, {12, 15, 0}, {31, 22, 0}, {31, 22, 4}, {17, 40, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int w = sizes[i][0], h = sizes[i][1], crop = sizes[i][2];
        size_t n = (size_t)(w * h * 3);
        uint8_t *a = malloc(n), *b = malloc(n);
        noise(a, n, (uint32_t)i);
        noise(b, n, (uint32_t)i + 50);
        for (size_t k = 0; k < n; k++) b[k] = (uint8_t)((3 * a[k] + b[k]) / 4);
        double got = -2, want = ssim_oracle(a, b, w, h, crop);
        CHECK(yd_ssim_rgb(a, b, w, h, crop, &got, NULL) == 0);
        CHECK_MSG(fabs(got - want) < 1e-9 && want < 0.99, "%dx%d crop %d: %.12f, not %.12f", w, h, crop, got, want);
        free(a);
        free(b);
    }
}

static void test_ssim_known(void)
{
    enum { W = 20, H = 16, N = W * H * 3 };
    uint8_t a[N], b[N];
    double v = 0;
    noise(a, N, 3);
    CHECK(yd_ssim_rgb(a, a, W, H, 0, &v, NULL) == 0 && fabs(v - 1.0) < 1e-12);
    memset(a, 100, N);
    memset(b, 150, N); // no variance anywhere: only the luminance term is left
    CHECK(yd_ssim_rgb(a, b, W, H, 0, &v, NULL) == 0);
    CHECK(fabs(v - (2.0 * 100 * 150 + 6.5025) / (100.0 * 100 + 150.0 * 150 + 6.5025)) < 1e-9);
}

static void test_ssim_orders(void)
{
    enum { W = 40, H = 40, N = W * H * 3 };
    uint8_t a[N], b[N], c[N];
    double near = 0, far = 0, back = 0;
    noise(a, N, 1);
    for (int i = 0; i < N; i++) {
        b[i] = (uint8_t)(a[i] ^ 8);
        c[i] = (uint8_t)(a[i] ^ 64);
    }
    CHECK(yd_ssim_rgb(a, b, W, H, 0, &near, NULL) == 0 && yd_ssim_rgb(a, c, W, H, 0, &far, NULL) == 0);
    CHECK(yd_ssim_rgb(c, a, W, H, 0, &back, NULL) == 0);
    CHECK(near > far && near < 1.0 && fabs(back - far) < 1e-12);
    CHECK(yd_psnr_rgb(a, b, W, H, 0) > yd_psnr_rgb(a, c, W, H, 0));
}

static void test_ssim_refusals(void)
{
    uint8_t a[20 * 20 * 3] = {0};
    double v = -7;
    yd_err err = {0};
    CHECK(yd_ssim_rgb(a, a, 10, 20, 0, &v, &err) == YD_E_IMAGE_TOO_SMALL && strstr(err.detail, "11 x 11"));
    CHECK(yd_ssim_rgb(a, a, 20, 10, 0, &v, NULL) == YD_E_IMAGE_TOO_SMALL);
    CHECK(yd_ssim_rgb(a, a, 20, 20, 5, &v, NULL) == YD_E_IMAGE_TOO_SMALL && v == -7);
    CHECK(yd_ssim_rgb(a, a, 20, 20, -1, &v, NULL) == YD_E_IMAGE_TOO_SMALL);
    CHECK(yd_ssim_rgb(a, a, 20, 20, 4, &v, NULL) == 0 && fabs(v - 1.0) < 1e-12);
    for (long k = 1; k <= 3; k++) {
        yd_mem_fail_at(k);
        CHECK(yd_ssim_rgb(a, a, 20, 20, 0, &v, &err) == YD_E_NOMEM && err.code == YD_E_NOMEM);
    }
    yd_mem_fail_at(0);
}

// Pictures by a formula; what scikit-image 0.25 says of them (Gaussian weights, sigma 1.5, population covariance, data range 255).
static void test_options_known(void)
{
    enum { W = 48, H = 40 };
    static uint8_t a[W * H * 3], b[W * H * 3];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++) {
                int v = (x * 3 + y * 2 + c * 29 + x * y % 17 * 5) & 255, d = v + (x * 5 + y * 3 + c * 7) % 31 - 9;
                a[(y * W + x) * 3 + c] = (uint8_t)v;
                b[(y * W + x) * 3 + c] = (uint8_t)(d < 0 ? 0 : d > 255 ? 255 : d);
            }
    static const struct {
        yd_metric_options opt;
        double psnr, ssim;
    } known[] = {
        {{YD_METRIC_RGB, 0, 0}, 27.638926332, 0.955261270}, {{YD_METRIC_Y, 0, 0}, 31.325762609, 0.977680543},
        {{YD_METRIC_RGB, 0, 1}, 29.213635410, 0.955983867}, {{YD_METRIC_Y, 0, 1}, 34.612226509, 0.978236223},
        {{YD_METRIC_RGB, 4, 0}, 27.629967935, 0.953327998}, {{YD_METRIC_Y, 4, 0}, 31.298017255, 0.975824752},
        {{YD_METRIC_RGB, 4, 1}, 29.203626556, 0.953974123}, {{YD_METRIC_Y, 4, 1}, 34.583690395, 0.976343951},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double psnr = 0, ssim = 0;
        CHECK(yd_psnr(a, b, W, H, &known[i].opt, &psnr, NULL) == 0 && yd_ssim(a, b, W, H, &known[i].opt, &ssim, NULL) == 0);
        CHECK_MSG(fabs(psnr - known[i].psnr) < 1e-8, "line %zu: PSNR %.9f", i, psnr);
        CHECK_MSG(fabs(ssim - known[i].ssim) < 1e-8, "line %zu: SSIM %.9f", i, ssim);
    }
    double v = 0;
    CHECK(yd_psnr(a, b, W, H, NULL, &v, NULL) == 0 && v == yd_psnr_rgb(a, b, W, H, 0)); // what NULL means
}

static void test_colour_shift_alone(void)
{
    enum { W = 16, H = 12, N = W * H * 3 };
    uint8_t a[N], b[N];
    noise(a, N, 9);
    for (int i = 0; i < N; i++) {
        a[i] = (uint8_t)(40 + a[i] / 2);
        b[i] = (uint8_t)(a[i] + 5 * (i % 3) - 20); // another shift for each channel, nothing clamped
    }
    for (int space = 0; space < 2; space++) {
        yd_metric_options opt = {.space = space ? YD_METRIC_Y : YD_METRIC_RGB, .unshift = 1};
        double psnr = 0, ssim = 0;
        CHECK(yd_psnr(a, b, W, H, &opt, &psnr, NULL) == 0 && psnr == 100.0);
        CHECK(yd_ssim(a, b, W, H, &opt, &ssim, NULL) == 0 && fabs(ssim - 1.0) < 1e-9);
        opt.unshift = 0;
        CHECK(yd_psnr(a, b, W, H, &opt, &psnr, NULL) == 0 && psnr < 35.0);
    }
}

static void test_psnr_lr(void)
{
    enum { W = 16, H = 8 };
    uint8_t a[W * H * 3], lr[4 * 2 * 3];
    double v = 0;
    yd_err err = {0};
    memset(a, 90, sizeof a);
    memset(lr, 90, sizeof lr);
    CHECK(yd_psnr_lr(a, W, H, lr, 4, 2, &v, NULL) == 0 && v == 100.0);
    memset(lr, 106, sizeof lr);
    CHECK(yd_psnr_lr(a, W, H, lr, 4, 2, &v, NULL) == 0 && fabs(v - 10 * log10(65025.0 / 256)) < 1e-9);
    CHECK(yd_psnr_lr(lr, 4, 2, a, W, H, &v, &err) == YD_E_INVALID && strstr(err.detail, "16 x 8"));
    CHECK(yd_psnr(a, a, W, H, &(yd_metric_options){.crop = 4}, &v, &err) == YD_E_IMAGE_TOO_SMALL && strstr(err.detail, "4 cropped"));
    yd_mem_fail_at(1);
    CHECK(yd_psnr_lr(a, W, H, lr, 4, 2, &v, NULL) == YD_E_NOMEM);
    yd_mem_fail_at(0);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"metrics: PSNR by hand", test_psnr_by_hand},
        {"metrics: PSNR never above that of equal pictures", test_psnr_never_above_equality},
        {"metrics: SSIM against its definition", test_ssim_oracle},
        {"metrics: SSIM known values", test_ssim_known},
        {"metrics: more damage scores less", test_ssim_orders},
        {"metrics: SSIM refusals", test_ssim_refusals},
        {"metrics: luma, crop and no colour shift against known values", test_options_known},
        {"metrics: a colour shift alone is not counted when asked so", test_colour_shift_alone},
        {"metrics: PSNR of the shrunk result", test_psnr_lr},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
