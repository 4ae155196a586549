// The deviceless ends of a job: sizes, grey, alpha, and what a picture is before its first step.
#include "core/mem.h"
#include "core/resize.h"
#include "core/upscale.h"
#include "tests/unit/t.h"

static yd_model_config config(void)
{
    yd_model_config c;
    yd_model_config_init(&c);
    c.window = 32;
    c.overlap = 8;
    return c;
}

static yd_image picture(int w, int h, int with_alpha, int grey)
{
    yd_image im;
    CHECK(yd_image_alloc(&im, w, h, with_alpha, NULL) == 0);
    for (int i = 0; i < w * h; i++) {
        for (int c = 0; c < 3; c++) im.rgb[3 * i + c] = yd_widen((uint8_t)(grey ? i * 7 : i * 7 + c * 50));
        if (with_alpha) im.alpha[i] = yd_widen((uint8_t)(16 + i % 80 * 3)); // nowhere transparent
    }
    im.grey = grey;
    return im;
}

static void before_the_first_step_it_is_bicubic(void)
{
    yd_model_config c = config();
    yd_image in = picture(20, 16, 1, 0), out = {0};
    yd_prepared p;
    yd_err err = {0};
    uint8_t *up = yd_malloc(80 * 64 * 3), *alpha = yd_malloc(80 * 64);
    int rc = yd_prepare(&c, &c.defaults, NULL, &in, &p, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    CHECK(p.w == 80 && p.h == 64 && p.alpha && yd_finish(&p, &out, &err) == 0);
    uint8_t low[20 * 16 * 3], low_alpha[20 * 16];
    yd_image_rgb8(&in, low);
    for (int i = 0; i < 20 * 16; i++) low_alpha[i] = yd_narrow(in.alpha[i]);
    CHECK(yd_resize_bicubic_u8(low, 20, 16, 3, up, 80, 64, NULL) == 0 && yd_resize_bicubic_u8(low_alpha, 20, 16, 1, alpha, 80, 64, NULL) == 0);
    CHECK(out.w == 80 && out.h == 64 && !out.grey && out.alpha);
    int bad = 0;
    for (int i = 0; i < 80 * 64; i++) {
        bad += out.alpha[i] != yd_widen(alpha[i]);
        for (int k = 0; k < 3; k++) bad += out.rgb[3 * i + k] != yd_widen(up[3 * i + k]);
    }
    CHECK_MSG(bad == 0, "%d samples differ", bad);
    yd_image_clear(&out);
    yd_prepared_clear(&p);
    yd_prepared_clear(&p); // twice is fine
    yd_image_clear(&in);
    yd_free(up);
    yd_free(alpha);
}

// One step of a network that colours everything: a grey source still gives a grey result, the luma of what was made.
static void grey_stays_grey(void)
{
    static float x[32 * 32 * 6], pred[32 * 32 * 3];
    yd_model_config c = config();
    c.prediction = YD_PREDICT_X0;
    c.scale = 2;
    yd_sample_settings set = c.defaults;
    set.steps = 1;
    snprintf(set.attention, sizeof set.attention, "constant");
    yd_image in = picture(16, 16, 0, 1), out = {0};
    yd_prepared p;
    yd_unit u;
    yd_step_info info;
    float level;
    for (int i = 0; i < 32 * 32 * 3; i++) pred[i] = i % 3 == 0 ? 1.0f : -1.0f; // red
    CHECK(yd_prepare(&c, &set, NULL, &in, &p, NULL) == 0 && yd_sampler_next(p.sampler, &u));
    yd_sampler_gather(p.sampler, &u, x, &level);
    CHECK(yd_sampler_scatter(p.sampler, &u, pred, &info, NULL) == 1 && yd_sampler_done(p.sampler));
    CHECK(yd_finish(&p, &out, NULL) == 0 && out.grey && !out.alpha);
    for (int i = 0; i < 32 * 32 * 3; i++) CHECK(out.rgb[i] == yd_widen(76)); // 0.299 * 255
    yd_image_clear(&out);
    yd_prepared_clear(&p);
    yd_image_clear(&in);
}

static void impossible_requests_are_refused(void)
{
    yd_model_config c = config();
    c.scale = 16;
    yd_image in = picture(4096, 1, 0, 0); // 65536 pixels
    yd_prepared p;
    yd_err err = {0};
    CHECK(yd_prepare(&c, &c.defaults, NULL, &in, &p, &err) == YD_E_IMAGE_TOO_LARGE && strstr(err.detail, "65535"));
    yd_prepared_clear(&p);
    yd_sample_settings set = c.defaults;
    snprintf(set.attention, sizeof set.attention, "none such");
    c.scale = 1;
    CHECK(yd_prepare(&c, &set, NULL, &in, &p, &err) == YD_E_SETTING && strcmp(err.field, "attention") == 0);
    yd_prepared_clear(&p);
    yd_image_clear(&in);
}

static void out_of_memory_is_an_error(void)
{
    yd_model_config c = config();
    yd_image in = picture(16, 16, 1, 0);
    int failures = 0;
    for (long k = 1; k < 200; k++) {
        yd_prepared p;
        yd_mem_fail_at(k);
        int rc = yd_prepare(&c, &c.defaults, NULL, &in, &p, NULL);
        yd_mem_fail_at(0);
        yd_prepared_clear(&p);
        if (rc == 0) break;
        CHECK(rc == YD_E_NOMEM);
        failures++;
    }
    CHECK(failures > 10 && failures < 199);
    yd_image_clear(&in);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"before the first step the picture is the bicubic one, alpha included", before_the_first_step_it_is_bicubic},
        {"a grey picture stays grey", grey_stays_grey},
        {"impossible requests are refused", impossible_requests_are_refused},
        {"every failing allocation is an error", out_of_memory_is_an_error},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
