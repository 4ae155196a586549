// The deviceless ends of a job: sizes, depth, grey, alpha, memory, and what a picture is before its first step.
#include "core/mem.h"
#include "core/resize.h"
#include "core/upscale.h"
#include "tests/unit/t.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

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

// ---- a network that changes nothing: the result is up(LR), and every difference from it is this code's -------------

static yd_model_config silent(void)
{
    yd_model_config c = config();
    c.prediction = YD_PREDICT_X0;
    c.target = YD_TARGET_RESIDUAL;
    c.defaults.steps = 2;
    return c;
}

static void run_silent(yd_sampler *s)
{
    static float x[32 * 32 * 6], zero[32 * 32 * 3];
    yd_unit u;
    yd_step_info info;
    float level;
    while (!yd_sampler_done(s)) {
        CHECK(yd_sampler_next(s, &u));
        yd_sampler_gather(s, &u, x, &level);
        CHECK(yd_sampler_scatter(s, &u, zero, &info, NULL) >= 0);
    }
}

static yd_image upscaled(const yd_image *in, const yd_output *how)
{
    yd_model_config c = silent();
    yd_image out = {0};
    yd_prepared p;
    yd_err err = {0};
    CHECK_MSG(yd_prepare(&c, &c.defaults, how, in, &p, &err) == 0, "%s", err.detail);
    if (p.sampler) {
        run_silent(p.sampler);
        CHECK(yd_finish(&p, &out, NULL) == 0);
    }
    yd_prepared_clear(&p);
    return out;
}

static yd_output asking(const char *name, const char *value)
{
    yd_output how;
    yd_output_init(&how);
    if (name) CHECK(yd_output_set(&how, name, value, NULL) == 1);
    return how;
}

// 20 x 16 pixels of 16 bits whose steps are far finer than a byte's.
static yd_image ramp16(int grey)
{
    yd_image im;
    CHECK(yd_image_alloc(&im, 20, 16, 0, NULL) == 0);
    for (int i = 0; i < 20 * 16; i++)
        for (int c = 0; c < 3; c++) im.rgb[3 * i + c] = (uint16_t)(30000 + i % 20 * 61 + i / 20 * 7 + (grey ? 0 : c * 13));
    im.depth = 16;
    im.grey = grey;
    return im;
}

static int levels(const yd_image *im)
{
    static uint8_t seen[65536];
    int n = 0;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < im->w * im->h; i++) n += !seen[im->rgb[3 * i]], seen[im->rgb[3 * i]] = 1;
    return n;
}

static void sixteen_bits_stay(void)
{
    for (int grey = 0; grey < 2; grey++) {
        yd_image in = ramp16(grey), out = upscaled(&in, NULL);
        uint16_t *want = yd_malloc(80 * 64 * 6);
        CHECK(yd_resize_bicubic_u16(in.rgb, 20, 16, 3, want, 80, 64, NULL) == 0);
        CHECK(out.depth == 16 && out.grey == grey && memcmp(out.rgb, want, 80 * 64 * 6) == 0);
        CHECK_MSG(levels(&out) > 256, "%d levels", levels(&out));
        const yd_output bytes = asking("bit_depth", "8");
        yd_image coarse = upscaled(&in, &bytes);
        int off = 0;
        for (int i = 0; i < 80 * 64 * 3; i++) off += coarse.rgb[i] != yd_widen(yd_narrow(want[i]));
        CHECK_MSG(coarse.depth == 8 && off == 0 && levels(&coarse) < 8, "%d differ, %d levels", off, levels(&coarse));
        yd_free(want);
        yd_image_clear(&coarse);
        yd_image_clear(&out);
        yd_image_clear(&in);
    }
}

// Bytes enlarge as bytes even when 16 bits are asked for: these hold what the network adds, here nothing.
static void bytes_may_become_sixteen_bits(void)
{
    const yd_output deep = asking("bit_depth", "16");
    yd_image in = picture(20, 16, 0, 0), plain = upscaled(&in, NULL), out = upscaled(&in, &deep);
    CHECK(plain.depth == 8 && out.depth == 16 && memcmp(plain.rgb, out.rgb, 80 * 64 * 6) == 0);
    yd_image_clear(&out);
    yd_image_clear(&plain);
    yd_image_clear(&in);
}

// Other sizes are the native result resampled in 16 bits and rounded once.
static void any_size_is_made_of_the_native_one(void)
{
    static const struct {
        const char *name, *value;
        int w, h;
    } sizes[] = {{"scale", "2", 40, 32}, {"scale", "1.35", 27, 22}, {"scale", "4", 80, 64}, {"scale", "7.5", 150, 120}, {"width", "70", 70, 56}, {"height", "120", 150, 120}};
    for (int depth = 8; depth <= 16; depth += 8)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            yd_image in = depth == 8 ? picture(20, 16, 1, 0) : ramp16(0), native = upscaled(&in, NULL);
            const yd_output how = asking(sizes[k].name, sizes[k].value);
            yd_image out = upscaled(&in, &how);
            const int w = sizes[k].w, h = sizes[k].h;
            uint16_t *want = yd_malloc((size_t)(w * h) * 6);
            int off = 0;
            CHECK_MSG(out.w == w && out.h == h, "%s=%s: %dx%d", sizes[k].name, sizes[k].value, out.w, out.h);
            CHECK(yd_resize_bicubic_u16(native.rgb, 80, 64, 3, want, w, h, NULL) == 0);
            for (int i = 0; out.w == w && out.h == h && i < w * h * 3; i++)
                off += out.rgb[i] != (depth == 8 ? yd_widen(yd_narrow(want[i])) : want[i]);
            CHECK_MSG(off == 0 && out.depth == depth && !out.alpha == !in.alpha, "%s=%s at %d bits: %d differ", sizes[k].name, sizes[k].value, depth, off);
            yd_free(want);
            yd_image_clear(&out);
            yd_image_clear(&native);
            yd_image_clear(&in);
        }
}

static void previews_stay_on_the_native_grid(void)
{
    yd_model_config c = silent();
    const yd_output half = asking("scale", "2");
    yd_image in = ramp16(0), early = {0}, late = {0};
    yd_prepared p;
    CHECK(yd_prepare(&c, &c.defaults, &half, &in, &p, NULL) == 0 && p.w == 80 && p.h == 64 && p.out_w == 40 && p.out_h == 32);
    CHECK(yd_preview(&p, &early, NULL) == 0 && early.w == 80 && early.h == 64 && early.depth == 8);
    run_silent(p.sampler);
    CHECK(yd_preview(&p, &late, NULL) == 0 && memcmp(early.rgb, late.rgb, 80 * 64 * 6) == 0);
    yd_image_clear(&early);
    yd_image_clear(&late);
    yd_prepared_clear(&p);
    yd_image_clear(&in);
}

// ---- alpha ---------------------------------------------------------------------------------------------------------

enum { DISC = 40, DISC_UP = DISC * 4 };

// How much of the pixel at (x, y) a disc in the middle covers, of a picture of `side` pixels.
static double covered(int x, int y, int side)
{
    int in = 0;
    for (int k = 0; k < 256; k++) {
        double u = (x + (k % 16 + 0.5) / 16) / side - 0.5, v = (y + (k / 16 + 0.5) / 16) / side - 0.5;
        in += u * u + v * v < 0.32 * 0.32;
    }
    return in / 256.0;
}

static const uint8_t disc_colour[3] = {200, 30, 40};

// A red disc with a soft edge; where nothing of it is left, colours are `unseen`.
static yd_image disc(uint8_t unseen)
{
    yd_image im;
    CHECK(yd_image_alloc(&im, DISC, DISC, 1, NULL) == 0);
    for (int i = 0; i < DISC * DISC; i++) {
        im.alpha[i] = yd_widen((uint8_t)lrint(255 * covered(i % DISC, i / DISC, DISC)));
        for (int c = 0; c < 3; c++) im.rgb[3 * i + c] = yd_widen(im.alpha[i] ? disc_colour[c] : unseen);
    }
    return im;
}

// The picture over a background, in steps of 255: the largest difference from the disc's colour with the picture's own alpha (a rim), and
// the mean difference from the disc as it should be (the edge's blur besides).
static void compare_over(const yd_image *im, double background, double *rim, double *mean)
{
    double sum = 0;
    for (int i = 0; i < DISC_UP * DISC_UP; i++) {
        const double a = im->alpha[i] / 65535.0, ideal = covered(i % DISC_UP, i / DISC_UP, DISC_UP);
        for (int c = 0; c < 3; c++) {
            const double got = a * im->rgb[3 * i + c] / 257 + (1 - a) * background;
            *rim = fmax(*rim, fabs(got - (a * disc_colour[c] + (1 - a) * background)));
            sum += fabs(got - (ideal * disc_colour[c] + (1 - ideal) * background));
        }
    }
    *mean = fmax(*mean, sum / (DISC_UP * DISC_UP * 3));
}

// The rim may be half a step of rounding. From the ideal disc the picture differs by the blur of an edge that is enlarged four times: below
// three steps on average, the same for every background and whatever was unseen.
static void a_disc_has_no_rim(void)
{
    for (int unseen = 0; unseen < 256; unseen += 255) {
        yd_image in = disc((uint8_t)unseen), out = upscaled(&in, NULL);
        double rim = 0, mean = 0;
        for (int background = 0; background < 256; background += 51) compare_over(&out, background, &rim, &mean);
        CHECK_MSG(rim <= 0.5 && mean < 3, "unseen %d: a rim of %.2f, %.2f from the ideal", unseen, rim, mean);
        // What it is worth: the same without filling in.
        uint8_t low[DISC * DISC * 3];
        uint8_t *up = yd_malloc(DISC_UP * DISC_UP * 3);
        yd_image_rgb8(&in, low);
        CHECK(yd_resize_bicubic_u8(low, DISC, DISC, 3, up, DISC_UP, DISC_UP, NULL) == 0);
        for (int i = 0; i < DISC_UP * DISC_UP * 3; i++) out.rgb[i] = yd_widen(up[i]);
        rim = mean = 0;
        compare_over(&out, 255 - unseen, &rim, &mean);
        CHECK_MSG(rim > 10, "unseen %d: a rim of only %.2f without filling in", unseen, rim);
        yd_free(up);
        yd_image_clear(&out);
        yd_image_clear(&in);
    }
}

static void opaque_alpha_changes_no_colour(void)
{
    yd_image in = picture(20, 16, 0, 0), clear = picture(20, 16, 1, 0);
    for (int i = 0; i < 20 * 16; i++) clear.alpha[i] = 65535;
    yd_image out = upscaled(&in, NULL), with = upscaled(&clear, NULL);
    int off = 0;
    for (int i = 0; i < 80 * 64; i++) off += with.alpha[i] != 65535;
    CHECK(!out.alpha && memcmp(out.rgb, with.rgb, 80 * 64 * 6) == 0 && off == 0);
    yd_image_clear(&in);
    yd_image_clear(&clear);
    yd_image_clear(&out);
    yd_image_clear(&with);
}

// ---- limits --------------------------------------------------------------------------------------------------------

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
    const yd_output wide = asking("width", "4096"); // no larger than the source
    CHECK(yd_prepare(&c, &c.defaults, &wide, &in, &p, &err) == YD_E_SETTING && strcmp(err.field, "width") == 0);
    yd_prepared_clear(&p);
    yd_image_clear(&in);
}

static void out_of_memory_is_an_error(void)
{
    yd_model_config c = silent();
    yd_image in = picture(16, 16, 1, 0);
    const yd_output half = asking("scale", "2");
    in.alpha[5] = 0;
    int failures = 0, rc = YD_E_NOMEM;
    for (long k = 1; k < 300 && rc; k++) {
        yd_prepared p;
        yd_image out = {0}, preview = {0};
        yd_mem_fail_at(k);
        rc = yd_prepare(&c, &c.defaults, &half, &in, &p, NULL);
        if (!rc) rc = yd_finish(&p, &out, NULL);
        if (!rc) rc = yd_preview(&p, &preview, NULL);
        yd_mem_fail_at(0);
        yd_image_clear(&out);
        yd_image_clear(&preview);
        yd_prepared_clear(&p);
        CHECK(rc == 0 || rc == YD_E_NOMEM);
        failures += rc != 0;
    }
    CHECK_MSG(rc == 0 && failures > 40, "%d failures", failures);
    yd_image_clear(&in);
}

#ifndef YD_SANITIZE
static long peak_kib(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
}

// In a process of its own: prepare and finish, and say by how many bytes the largest size ever grew.
static size_t peak_of(int w, int h, const char *scale, int depth)
{
    int ends[2];
    size_t grown = 0;
    fflush(stdout);
    if (pipe(ends)) return 0;
    const pid_t child = fork();
    if (child == 0) {
        yd_model_config c = config();
        const yd_output how = asking("scale", scale);
        snprintf(c.defaults.attention, sizeof c.defaults.attention, "constant");
        c.defaults.steps = 1;
        const long before = peak_kib();
        yd_image in = picture(w, h, 1, 0), out = {0};
        yd_prepared p;
        in.depth = depth;
        in.alpha[7] = 0;
        int rc = yd_prepare(&c, &c.defaults, &how, &in, &p, NULL);
        yd_image_clear(&in);
        if (!rc) rc = yd_finish(&p, &out, NULL);
        grown = rc ? 0 : (size_t)(peak_kib() - before) * 1024;
        rc = write(ends[1], &grown, sizeof grown) == (ssize_t)sizeof grown;
        _exit(!rc);
    }
    if (read(ends[0], &grown, sizeof grown) != (ssize_t)sizeof grown) grown = 0;
    close(ends[0]);
    close(ends[1]);
    if (child > 0) waitpid(child, NULL, 0);
    return grown;
}
#endif

// What admission relies on: never more than was announced, and not so much less that jobs are turned away for nothing.
static void memory_is_as_announced(void)
{
#ifdef YD_SANITIZE
    CHECK(1); // a sanitizer's allocator keeps what was freed
#else
    static const char *const scales[] = {"4", "1.5", "6"};
    const size_t slack = 2 << 20; // stack, pages that the allocator keeps
    for (int k = 0; k < 3; k++)
        for (int depth = 8; depth <= 16; depth += 8) {
            yd_model_config c = config();
            const yd_output how = asking("scale", scales[k]);
            size_t said = 0, taken = peak_of(400, 300, scales[k], depth);
            CHECK(yd_upscale_bytes(&c, &c.defaults, &how, 400, 300, &said, NULL) == 0);
            CHECK_MSG(taken > 0 && taken <= said + slack, "scale %s, %d bits: %zu bytes of %zu", scales[k], depth, taken, said);
            CHECK_MSG(said <= taken + taken / 3, "scale %s, %d bits: %zu bytes of %zu", scales[k], depth, taken, said);
        }
#endif
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"before the first step the picture is the bicubic one, alpha included", before_the_first_step_it_is_bicubic},
        {"a grey picture stays grey", grey_stays_grey},
        {"16 bits stay 16 bits", sixteen_bits_stay},
        {"bytes may become 16 bits", bytes_may_become_sixteen_bits},
        {"any size is made of the native one, rounded once", any_size_is_made_of_the_native_one},
        {"previews stay on the native grid", previews_stay_on_the_native_grid},
        {"a disc on nothing has no rim", a_disc_has_no_rim},
        {"opaque alpha changes no colour", opaque_alpha_changes_no_colour},
        {"impossible requests are refused", impossible_requests_are_refused},
        {"every failing allocation is an error", out_of_memory_is_an_error},
        {"memory is as announced", memory_is_as_announced},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
