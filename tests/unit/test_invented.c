// The account of what was invented, on results whose inventions are known.
#include "core/invented.h"
#include "core/mem.h"
#include "core/resize.h"
#include "core/upscale.h"
#include "tests/unit/t.h"

#define STEP 257 // of 8 bits, in 16

static yd_image blank(int w, int h, int depth, int with_alpha)
{
    yd_image im;
    CHECK(yd_image_alloc(&im, w, h, with_alpha, NULL) == 0);
    im.depth = depth;
    return im;
}

// A picture with detail of every size, away from the ends of the range.
static yd_image busy(int w, int h)
{
    yd_image im = blank(w, h, 16, 0);
    uint32_t state = 7;
    for (int i = 0; i < w * h * 3; i++) {
        int x = i / 3 % w, y = i / 3 / w;
        state = state * 1664525u + 1013904223u;
        im.rgb[i] = (uint16_t)(30000 + 9000 * sin(x * 0.11 + i % 3) * cos(y * 0.07) + (int)(state >> 19) - 4096);
    }
    return im;
}

static yd_image reduced(const yd_image *im, int w, int h)
{
    yd_image low = blank(w, h, 16, 0);
    CHECK(yd_resize_bicubic_u16(im->rgb, im->w, im->h, 3, low.rgb, w, h, NULL) == 0);
    return low;
}

static void plain_enlargement_adds_nothing(void)
{
    for (int depth = 8; depth <= 16; depth += 8) {
        yd_image large = busy(96, 80), low = reduced(&large, 24, 20), result = blank(96, 80, depth, 0);
        yd_invented n;
        low.depth = depth;
        for (int i = 0; depth == 8 && i < 24 * 20 * 3; i++) low.rgb[i] = yd_widen(yd_narrow(low.rgb[i]));
        CHECK(yd_upsample(&low, 96, 80, result.rgb, NULL) == 0 && yd_invented_account(&low, &result, &n, NULL, NULL) == 0);
        CHECK_MSG(n.detail_rms == 0 && n.changed == 0, "%d bits: %g %g", depth, n.detail_rms, n.changed);
        yd_image_clear(&large);
        yd_image_clear(&low);
        yd_image_clear(&result);
    }
}

// A result that reduces to exactly its source contradicts nothing, however much it adds; raised by ten steps, it does so by ten.
static void a_shift_is_a_contradiction_of_its_size(void)
{
    yd_image large = busy(96, 80), low = reduced(&large, 24, 20);
    yd_invented n, shifted;
    CHECK(yd_invented_account(&low, &large, &n, NULL, NULL) == 0);
    CHECK_MSG(n.difference_rms == 0 && n.contradicted == 0 && n.psnr_db == 100, "%g %g %g", n.difference_rms, n.contradicted, n.psnr_db);
    CHECK_MSG(n.detail_rms > 5 && n.changed > 0.5, "%g %g", n.detail_rms, n.changed);
    for (int i = 0; i < 96 * 80 * 3; i++) large.rgb[i] = (uint16_t)(large.rgb[i] + 10 * STEP);
    CHECK(yd_invented_account(&low, &large, &shifted, NULL, NULL) == 0);
    CHECK_MSG(fabs(shifted.difference_rms - 10) < 0.01 && shifted.contradicted == 1, "%g %g", shifted.difference_rms, shifted.contradicted);
    CHECK_MSG(fabs(shifted.psnr_db - 20 * log10(25.5)) < 0.01, "%g", shifted.psnr_db);
    CHECK_MSG(fabs(shifted.detail_rms - n.detail_rms) < 0.01, "%g, %g", shifted.detail_rms, n.detail_rms);
    yd_image_clear(&large);
    yd_image_clear(&low);
}

// Grey 128, in the right half a checkerboard of +-12 steps: all energy, half strength of cyan, and only there. At every kind of scale.
static void added_energy_is_where_it_was_added(void)
{
    static const int sizes[][2] = {{128, 96}, {112, 84}, {100, 99}};
    for (int k = 0; k < 3; k++) {
        const int w = sizes[k][0], h = sizes[k][1];
        yd_image low = blank(32, 24, 8, 0), result = blank(w, h, 8, 0), picture;
        yd_invented n;
        for (int i = 0; i < 32 * 24 * 3; i++) low.rgb[i] = 128 * STEP;
        for (int i = 0; i < w * h * 3; i++) {
            int x = i / 3 % w, y = i / 3 / w;
            result.rgb[i] = (uint16_t)((128 + (x < w / 2 ? 0 : (x + y) % 2 ? 12 : -12)) * STEP);
        }
        CHECK(yd_invented_account(&low, &result, &n, &picture, NULL) == 0);
        CHECK_MSG(fabs(n.detail_rms - 12 * sqrt(0.5)) < 0.3, "%dx%d: detail %g", w, h, n.detail_rms);
        CHECK_MSG(fabs(n.changed - 0.5) < 0.01 && n.contradicted < 0.05, "%dx%d: %g %g", w, h, n.changed, n.contradicted);
        const uint16_t *left = picture.rgb + 3 * (h / 2 * w + w / 4), *right = picture.rgb + 3 * (h / 2 * w + 3 * w / 4);
        CHECK_MSG(left[0] == 64 * STEP && left[1] == left[0] && left[2] == left[0], "left is %d %d %d", left[0], left[1], left[2]);
        CHECK_MSG(right[1] > 120 * STEP && right[1] < 145 * STEP && right[0] < 45 * STEP, "right is %d %d", right[0] / STEP, right[1] / STEP);
        CHECK(picture.w == w && picture.h == h && picture.depth == 8);
        yd_image_clear(&picture);
        yd_image_clear(&low);
        yd_image_clear(&result);
    }
}

// A patch painted 16 steps too bright is fully red, the rest is not red at all; two steps too bright is nothing.
static void contradictions_are_red_where_they_are(void)
{
    yd_image low = blank(32, 24, 8, 0), result = blank(128, 96, 8, 0), picture;
    yd_invented n;
    for (int i = 0; i < 32 * 24 * 3; i++) low.rgb[i] = 100 * STEP;
    for (int i = 0; i < 128 * 96 * 3; i++) {
        int x = i / 3 % 128, y = i / 3 / 128, in = x >= 32 && x < 64 && y >= 32 && y < 64;
        result.rgb[i] = (uint16_t)((in ? 116 : x >= 96 ? 102 : 100) * STEP);
    }
    CHECK(yd_invented_account(&low, &result, &n, &picture, NULL) == 0);
    CHECK_MSG(n.contradicted > 0.08 && n.contradicted < 0.14, "%g", n.contradicted); // 64 of 768, and the rim
    const uint16_t *patch = picture.rgb + 3 * (48 * 128 + 48), *away = picture.rgb + 3 * (48 * 128 + 80), *mild = picture.rgb + 3 * (48 * 128 + 120);
    CHECK_MSG(patch[0] > 250 * STEP && patch[1] < 70 * STEP, "the patch is %d %d", patch[0] / STEP, patch[1] / STEP);
    CHECK(away[0] == away[1] && away[0] == 50 * STEP);
    CHECK(mild[0] == mild[1] && mild[0] == 51 * STEP);
    yd_image_clear(&picture);
    yd_image_clear(&low);
    yd_image_clear(&result);
}

static void what_is_hidden_does_not_count(void)
{
    yd_image low = blank(32, 24, 8, 1), result = blank(128, 96, 8, 1);
    yd_invented n;
    for (int i = 0; i < 32 * 24 * 3; i++) low.rgb[i] = (uint16_t)((i / 3 % 32 < 16 ? 0 : 100) * STEP); // black where nothing is seen
    for (int i = 0; i < 128 * 96 * 3; i++) result.rgb[i] = 100 * STEP;
    CHECK(yd_invented_account(&low, &result, &n, NULL, NULL) == 0); // all hidden
    CHECK_MSG(n.difference_rms == 0 && n.psnr_db == 100 && n.detail_rms == 0 && n.changed == 0, "%g %g", n.difference_rms, n.detail_rms);
    for (int i = 0; i < 32 * 24; i++) low.alpha[i] = i % 32 < 16 ? 0 : 65535;
    CHECK(yd_invented_account(&low, &result, &n, NULL, NULL) == 0);
    CHECK_MSG(n.difference_rms == 0 && n.contradicted == 0 && n.detail_rms == 0 && n.changed == 0, "%g %g %g", n.difference_rms, n.detail_rms, n.changed);
    for (int i = 0; i < 32 * 24; i++) low.alpha[i] = 65535;
    CHECK(yd_invented_account(&low, &result, &n, NULL, NULL) == 0);
    CHECK_MSG(n.contradicted == 0.5 && n.difference_rms > 60, "%g %g", n.contradicted, n.difference_rms);
    yd_image_clear(&low);
    yd_image_clear(&result);
}

static void a_smaller_result_is_refused(void)
{
    yd_image low = blank(32, 24, 8, 0), result = blank(40, 20, 8, 0);
    yd_invented n;
    yd_err err = {0};
    CHECK(yd_invented_account(&low, &result, &n, NULL, &err) == YD_E_INVALID && strstr(err.detail, "40x20"));
    yd_image_clear(&low);
    yd_image_clear(&result);
}

static void every_allocation_may_fail(void)
{
    yd_image large = busy(40, 32), low = reduced(&large, 20, 16);
    int rc = YD_E_NOMEM;
    long k = 1;
    for (; k < 200 && rc; k++) {
        yd_image picture = {0};
        yd_invented n;
        yd_mem_fail_at(k);
        rc = yd_invented_account(&low, &large, &n, &picture, NULL);
        yd_mem_fail_at(0);
        CHECK(rc == 0 || (rc == YD_E_NOMEM && !picture.rgb));
        yd_image_clear(&picture);
    }
    CHECK_MSG(rc == 0 && k > 30, "%ld allocations", k - 2);
    yd_image_clear(&large);
    yd_image_clear(&low);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"invented: plain enlargement adds nothing", plain_enlargement_adds_nothing},
        {"invented: a shift is a contradiction of its size", a_shift_is_a_contradiction_of_its_size},
        {"invented: added energy is where it was added", added_energy_is_where_it_was_added},
        {"invented: contradictions are red where they are", contradictions_are_red_where_they_are},
        {"invented: what is hidden does not count", what_is_hidden_does_not_count},
        {"invented: a smaller result is refused", a_smaller_result_is_refused},
        {"invented: every allocation may fail", every_allocation_may_fail},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
