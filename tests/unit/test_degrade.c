// Degradations: JPEG's loss against real files made and read by libvips, parts against wholes, draws against their ranges.
#include "core/degrade.h"
#include "core/image.h"
#include "core/jpeg_loss.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/rng.h"
#include "t.h"

#include <vips/vips.h>

// A picture with smooth parts, edges, texture and saturated colours.
static uint8_t *picture(int w, int h)
{
    uint8_t *rgb = malloc((size_t)w * (size_t)h * 3);
    if (!rgb) exit(2);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            uint8_t *p = rgb + 3 * (y * w + x);
            const int disc = (x - w / 2) * (x - w / 2) + (y - h / 2) * (y - h / 2) < w * h / 16;
            float grain[3];
            yd_rng_row(5, 0, (uint32_t)y, (uint32_t)x, 1, 3, grain);
            for (int c = 0; c < 3; c++) {
                double v = 128 + 100 * sin(x * 0.05 * (c + 1) + y * 0.03) + (y > h / 2 ? 8 * (double)grain[c] : 0);
                if (disc) v = c == 0 ? 250 : 20 + 2 * c;
                p[c] = (uint8_t)fmin(fmax(v, 0), 255);
            }
        }
    return rgb;
}

// Through a real file.
static int through_file(const uint8_t *rgb, int w, int h, int quality, int full, uint8_t *out)
{
    VipsImage *im = vips_image_new_from_memory_copy(rgb, (size_t)w * (size_t)h * 3, w, h, 3, VIPS_FORMAT_UCHAR), *back = NULL;
    void *file = NULL, *pixels = NULL;
    size_t len = 0, n = 0;
    int ok = im && !vips_jpegsave_buffer(im, &file, &len, "Q", quality, "subsample_mode",
                                         full ? VIPS_FOREIGN_SUBSAMPLE_OFF : VIPS_FOREIGN_SUBSAMPLE_ON, NULL);
    ok = ok && !vips_jpegload_buffer(file, len, &back, NULL) && (pixels = vips_image_write_to_memory(back, &n)) &&
         n == (size_t)w * (size_t)h * 3;
    if (ok) memcpy(out, pixels, n);
    g_free(pixels);
    g_free(file);
    if (im) g_object_unref(im);
    if (back) g_object_unref(back);
    return ok;
}

static void test_jpeg_is_a_files_loss(void)
{
    static const struct {
        int w, h, quality, full;
    } cases[] = {{64, 48, 90, 1}, {64, 48, 75, 0}, {61, 47, 50, 0}, {61, 47, 30, 1}, {33, 31, 98, 0}, {17, 40, 70, 0}, {128, 96, 10, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const int w = cases[k].w, h = cases[k].h, n = w * h * 3;
        uint8_t *ours = picture(w, h), *real = picture(w, h);
        yd_err e = {0};
        long changed = 0, off = 0, sum = 0;
        uint8_t *before = picture(w, h);
        CHECK(through_file(ours, w, h, cases[k].quality, cases[k].full, real));
        CHECK(!yd_jpeg_loss(ours, w, h, cases[k].quality, cases[k].full, 0, 0, &e));
        for (int i = 0; i < n; i++) {
            const int d = abs(ours[i] - real[i]);
            changed += real[i] != before[i];
            off += d > 2;
            sum += d;
        }
        CHECK_MSG(changed > n / 10, "the file changed %ld of %d bytes", changed, n);
        CHECK_MSG(off <= n / 100 && (double)sum / n < 0.2, "%d x %d, quality %d: %ld of %d bytes off by more than 2, mean %.4f", w, h,
                  cases[k].quality, off, n, (double)sum / n);
        free(ours);
        free(real);
        free(before);
    }
}

// A grid that begins p pixels before the picture: the same as a picture with those columns and rows in front of it.
static void test_jpeg_phase(void)
{
    const int w = 40, h = 37;
    yd_err e = {0};
    for (int full = 0; full < 2; full++)
        for (int phase = 2; phase < 16; phase += 6) {
            const int bw = w + phase, bh = h + phase;
            uint8_t *small = picture(w, h), *big = malloc((size_t)(bw * bh * 3));
            for (int y = 0; y < bh; y++)
                for (int x = 0; x < bw; x++) {
                    const int sx = x < phase ? 0 : x - phase, sy = y < phase ? 0 : y - phase;
                    memcpy(big + 3 * (y * bw + x), small + 3 * (sy * w + sx), 3);
                }
            CHECK(!yd_jpeg_loss(small, w, h, 80, full, phase, phase, &e) && !yd_jpeg_loss(big, bw, bh, 80, full, 0, 0, &e));
            int wrong = 0; // beside the first column chroma is interpolated from the column before, in the big one alone
            for (int y = 2; y < h; y++) wrong += memcmp(small + 3 * (y * w + 2), big + 3 * ((y + phase) * bw + 2 + phase), (size_t)(w - 2) * 3) != 0;
            CHECK_MSG(!wrong, "phase %d, full chroma %d: %d rows differ", phase, full, wrong);
            free(small);
            free(big);
        }
}

static void test_clean_is_the_resize(void)
{
    const int w = 72, h = 60;
    uint8_t *hr = picture(w, h), want[18 * 15 * 3], got[18 * 15 * 3], other[18 * 15 * 3];
    yd_degradation d = {0};
    yd_err e = {0};
    CHECK(!yd_resize_bicubic_u8(hr, w, h, 3, want, 18, 15, &e) && !yd_degrade_apply(hr, w, h, 4, &d, got, &e));
    CHECK(!memcmp(want, got, sizeof want));
    d.reduction = YD_REDUCE_MATLAB; // inside the borders only the rounding differs
    CHECK(!yd_degrade_apply(hr, w, h, 4, &d, other, &e));
    int worst = 0, border = 0;
    for (int y = 0; y < 15; y++)
        for (int x = 0; x < 18 * 3; x++) {
            const int diff = abs(other[y * 54 + x] - want[y * 54 + x]), inside = y > 1 && y < 13 && x > 5 && x < 48;
            if (inside && diff > worst) worst = diff;
            border += !inside && diff;
        }
    CHECK_MSG(worst <= 1 && border > 0, "worst inside %d, different at the border %d", worst, border);
    CHECK(yd_degrade_apply(hr, w, h - 1, 4, &d, other, &e) == YD_E_INVALID);
    CHECK(yd_degrade_patch(hr, w, h, 4, &d, 10, 0, 9, 3, other, &e) == YD_E_INVALID);
    free(hr);
}

static void test_blur_and_noise_measure(void)
{
    enum { W = 128, H = 128 };
    uint8_t *hr = malloc(W * H * 3), *lr = malloc(W * H * 3);
    yd_err e = {0};
    memset(hr, 0, W * H * 3);
    for (int y = 0; y < H; y++) memset(hr + 3 * (y * W + W / 2), 255, 3 * W / 2);
    yd_degradation d = {.blur = 2.0};
    CHECK(!yd_degrade_apply(hr, W, H, 1, &d, lr, &e)); // a step becomes the integral of a Gaussian
    double worst = 0;
    for (int x = 0; x < W; x++) worst = fmax(worst, fabs(lr[3 * (60 * W + x)] - 255 * 0.5 * (1 + erf((x - W / 2 + 0.5) / (2.0 * sqrt(2))))));
    CHECK_MSG(worst < 2.0, "off by %g", worst);

    for (int level = 64; level <= 192; level += 128)
        for (int grey = 0; grey < 2; grey++) {
            memset(hr, level, W * H * 3);
            d = (yd_degradation){.noise = 4, .shot = 1, .grey_noise = grey, .noise_seed = 9};
            CHECK(!yd_degrade_apply(hr, W, H, 1, &d, lr, &e));
            double sum = 0, squares = 0, cross = 0;
            for (int i = 0; i < W * H; i++) {
                const double a = lr[3 * i] - level, b = lr[3 * i + 1] - level;
                sum += a, squares += a * a, cross += a * b;
            }
            const double var = squares / (W * H), want = 16.0 * level / 128;
            CHECK_MSG(fabs(sum / (W * H)) < 0.15 && fabs(var / want - 1) < 0.06, "level %d: mean %g, variance %g not %g", level, sum / (W * H), var, want);
            CHECK_MSG(grey ? cross / squares > 0.99 : fabs(cross / squares) < 0.05, "channels go together: %g", cross / squares);
        }
    free(hr);
    free(lr);
}

static void test_part_is_the_wholes(void)
{
    const int w = 256, h = 208, scale = 4, lw = 64, lh = 52;
    uint8_t *hr = picture(w, h), *whole = malloc((size_t)(lw * lh * 3)), *part = malloc((size_t)(lw * lh * 3));
    yd_degrade_ranges r;
    yd_err e = {0};
    CHECK(!yd_degrade_preset("blind", &r, &e));
    r.any_phase = 1;
    int wrong = 0, with_jpeg = 0;
    for (uint64_t i = 0; i < 40; i++) {
        yd_degradation d;
        yd_degrade_draw(&r, 3, i, &d);
        d.reduction = i % 2 ? YD_REDUCE_MATLAB : YD_REDUCE_PILLOW8;
        with_jpeg += d.jpeg > 0;
        const int x = (int)(i * 7 % 44), y = (int)(i * 5 % 30), pw = 8 + (int)(i % 13), ph = 22 - (int)(i % 13);
        CHECK_MSG(!yd_degrade_apply(hr, w, h, scale, &d, whole, &e) && !yd_degrade_patch(hr, w, h, scale, &d, x, y, pw, ph, part, &e),
                  "%s", e.detail);
        for (int row = 0; row < ph; row++)
            wrong += memcmp(part + row * pw * 3, whole + ((y + row) * lw + x) * 3, (size_t)pw * 3) != 0;
    }
    CHECK_MSG(!wrong && with_jpeg > 30, "%d rows differ", wrong);
    free(hr);
    free(whole);
    free(part);
}

static void test_draws(void)
{
    yd_degrade_ranges r;
    yd_err e = {0};
    CHECK(!yd_degrade_preset("mild", &r, &e));
    int clean = 0, jpeg = 0, half = 0, phase = 0;
    enum { N = 4000 };
    for (uint64_t i = 0; i < N; i++) {
        yd_degradation d, again;
        yd_degrade_draw(&r, 1, i, &d);
        yd_degrade_draw(&r, 1, i, &again);
        CHECK(!memcmp(&d, &again, sizeof d));
        CHECK(d.blur >= 0 && d.blur <= 0.8 && d.noise >= 0 && d.noise <= 4 && (d.jpeg == 0 || (d.jpeg >= 70 && d.jpeg <= 98)));
        clean += !(d.blur > 0) && !(d.noise > 0) && !d.jpeg;
        jpeg += d.jpeg > 0;
        half += d.jpeg > 0 && !d.full_chroma;
        phase += d.phase_x || d.phase_y;
    }
    // half are left clean; 0.5 * 0.4 * 0.2 of the others have nothing either
    CHECK_MSG(abs(clean - N * 52 / 100) < N / 25 && abs(jpeg - N * 40 / 100) < N / 25 && phase == 0, "clean %d, jpeg %d", clean, jpeg);
    CHECK(abs(half * 10 - jpeg * 6) < jpeg);
    r.any_phase = 1;
    int seen[16] = {0};
    for (uint64_t i = 0; i < 400; i++) {
        yd_degradation d;
        yd_degrade_draw(&r, 1, i, &d);
        CHECK(d.phase_x >= 0 && d.phase_x < 16 && d.phase_y >= 0 && d.phase_y < 16);
        seen[d.phase_x] = 1;
    }
    for (int i = 0; i < 16; i++) CHECK(seen[i]);
    CHECK(yd_degrade_preset("severe", &r, &e) == YD_E_SETTING && strstr(e.detail, "severe") && strstr(e.accepted, "blind"));
    r.blur = (yd_degrade_range){2, 1, 1};
    CHECK(yd_degrade_check(&r, &e) == YD_E_SETTING && !strcmp(e.field, "degrade.blur"));
    char text[64];
    yd_degradation d = {.blur = 0.5, .jpeg = 84};
    yd_degradation_print(&d, text, sizeof text);
    CHECK_MSG(!strcmp(text, "blur 0.50, jpeg 84 4:2:0"), "%s", text);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"degrade: JPEG loses what a file loses", test_jpeg_is_a_files_loss},
        {"degrade: the JPEG grid begins anywhere", test_jpeg_phase},
        {"degrade: nothing but reduction is the resize", test_clean_is_the_resize},
        {"degrade: blur and noise have their size", test_blur_and_noise_measure},
        {"degrade: a part is the whole's", test_part_is_the_wholes},
        {"degrade: draws", test_draws},
    };
    yd_err e = {0};
    if (yd_image_init(&e)) return 1;
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
