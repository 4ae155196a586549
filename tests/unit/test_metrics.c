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

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"metrics: PSNR by hand", test_psnr_by_hand},
        {"metrics: PSNR never above that of equal pictures", test_psnr_never_above_equality},
        {"metrics: SSIM against its definition", test_ssim_oracle},
        {"metrics: SSIM known values", test_ssim_known},
        {"metrics: more damage scores less", test_ssim_orders},
        {"metrics: SSIM refusals", test_ssim_refusals},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
