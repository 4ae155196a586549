// Plots: round ticks, the front against its definition, what is drawn where.
#include "core/mem.h"
#include "tests/unit/t.h"
#include "tools/plot.h"

static void ticks_are_round(void)
{
    const struct {
        double lo, hi, step;
    } cases[] = {{0, 1, 0.2}, {0, 6, 1}, {0, 60, 10}, {0.13, 0.31, 0.05}, {-3, 9, 2}, {20, 20.0006, 0.0001}, {0, 1e6, 2e5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const double step = yd_plot_tick_step(cases[i].lo, cases[i].hi, 6);
        CHECK_MSG(fabs(step / cases[i].step - 1) < 1e-9, "%g..%g: %g", cases[i].lo, cases[i].hi, step);
    }
}

static void front_is_what_nothing_beats(void)
{
    const yd_plot_point p[] = {{1, 5, NULL}, {2, 3, NULL}, {2, 4, NULL}, {3, 3, NULL}, {4, 1, NULL}, {NAN, 0, NULL}, {4, 1, NULL}, {0.5, INFINITY, NULL}};
    const uint8_t less[] = {1, 1, 0, 0, 1, 0, 1, 0}, more[] = {1, 0, 0, 0, 0, 0, 0, 0};
    uint8_t got[8];
    CHECK(yd_plot_find_front(p, 8, YD_PLOT_LESS_IS_BETTER, got) == 4);
    CHECK(memcmp(got, less, sizeof got) == 0);
    CHECK(yd_plot_find_front(p, 8, YD_PLOT_MORE_IS_BETTER, got) == 1);
    CHECK(memcmp(got, more, sizeof got) == 0);
}

static int count(const char *text, const char *word)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word)) n++;
    return n;
}

static yd_plot_panel sample(yd_plot_series *series, const yd_plot_point *points)
{
    series[0] = (yd_plot_series){.name = "a < b & \"c\"", .colour = 0, .points = points, .n = 3};
    series[1] = (yd_plot_series){.name = "other", .colour = 1, .points = points + 3, .n = 2};
    return (yd_plot_panel){.title = "Title", .x_label = "work", .series = series, .n = 2, .front = YD_PLOT_LESS_IS_BETTER, .level = 2, .level_name = "level"};
}

static const yd_plot_point points[] = {{1, 3, "one"}, {2, 2, "two"}, {3, NAN, "lost"}, {1.5, 2.5, NULL}, {4, 1, "five"}};

static void svg_has_a_circle_for_every_point(void)
{
    yd_plot_series series[2];
    const yd_plot_panel panels[] = {sample(series, points), sample(series, points)};
    const yd_plot plot = {.title = "plot", .panels = panels, .n = 2, .columns = 2};
    char *svg, *again;
    size_t len, len2;
    yd_err err;
    CHECK(yd_plot_svg(&plot, &svg, &len, &err) == 0);
    CHECK(yd_plot_svg(&plot, &again, &len2, &err) == 0);
    CHECK(len == strlen(svg) && len2 == len && memcmp(svg, again, len) == 0);
    CHECK_MSG(count(svg, "class=\"point\"") == 8, "%d", count(svg, "class=\"point\""));
    CHECK(count(svg, ">one<") == 2 && count(svg, ">five<") == 2 && count(svg, "lost") == 0);
    CHECK(count(svg, "a &lt; b &amp; &quot;c&quot;") > 0 && count(svg, "a < b") == 0);
    CHECK(count(svg, "stroke-dasharray") == 4); // level and its key, twice
    CHECK(count(svg, "r=\"5.1\"") == 2 * 4);     // rings of the front: all points but the lost one
    CHECK(count(svg, "nan") == 0 && count(svg, "inf") == 0);
    free(svg);
    free(again);
}

// One that is far from all points would leave them no room.
static void a_far_level_is_only_named(void)
{
    yd_plot_series series[2];
    yd_plot_panel panel = sample(series, points); // from 1 to 3
    const yd_plot plot = {.title = "plot", .panels = &panel, .n = 1};
    char *svg;
    size_t len;
    yd_err err;
    for (int far = 0; far < 2; far++) {
        panel.level = far ? 4.5 : 4.1;
        CHECK(yd_plot_svg(&plot, &svg, &len, &err) == 0);
        CHECK(count(svg, "stroke-dasharray") == (far ? 0 : 2) && count(svg, ">level<") == !far && count(svg, "(level: 4.5)") == far);
        free(svg);
    }
}

// How many pixels have exactly this colour.
static long pixels_of(const uint8_t *rgb, int w, int h, const uint8_t colour[3])
{
    long n = 0;
    for (long i = 0; i < (long)w * h; i++) n += memcmp(rgb + 3 * i, colour, 3) == 0;
    return n;
}

static void pixels_show_the_same_plot(void)
{
    static const uint8_t blue[3] = {0x00, 0x72, 0xb2}, orange[3] = {0xd5, 0x5e, 0x00}, front[3] = {0xc4, 0xc4, 0xc4}, green[3] = {0x00, 0x9e, 0x73};
    yd_plot_series series[2];
    yd_plot_panel panel = sample(series, points);
    const yd_plot plot = {.title = "plot", .panels = &panel, .n = 1, .columns = 2};
    uint8_t *rgb, *without;
    int w, h, w2, h2;
    yd_err err;
    CHECK(yd_plot_rgb(&plot, &rgb, &w, &h, &err) == 0);
    CHECK(w == 900 && h > 500);
    CHECK(pixels_of(rgb, w, h, blue) > 100 && pixels_of(rgb, w, h, orange) > 100 && pixels_of(rgb, w, h, green) == 0);
    const long with_front = pixels_of(rgb, w, h, front);
    panel.front = YD_PLOT_NO_FRONT;
    CHECK(yd_plot_rgb(&plot, &without, &w2, &h2, &err) == 0);
    CHECK(with_front > 1000 && pixels_of(without, w2, h2, front) < with_front / 10);
    yd_free(rgb);
    yd_free(without);
}

static void odd_data_is_drawn_all_the_same(void)
{
    const yd_plot_point same[] = {{5, 5, "x"}, {5, 5, "x"}, {5, 5, "x"}, {5, 5, "x"}, {5, 5, "x"}, {5, 5, "x"}};
    const yd_plot_series series[] = {{"same", 3, same, 6}, {"none", 12, NULL, 0}};
    const yd_plot_panel panels[] = {{.title = "", .x_label = "", .series = series, .n = 2, .level = NAN},
                                    {.title = "", .x_label = "", .series = series + 1, .n = 1, .level = NAN}};
    const yd_plot plot = {.title = "", .panels = panels, .n = 2, .columns = 1}, none = {.title = ""};
    char *svg;
    uint8_t *rgb;
    size_t len;
    int w, h;
    yd_err err;
    CHECK(yd_plot_svg(&plot, &svg, &len, &err) == 0);
    CHECK(count(svg, "class=\"point\"") == 6 && count(svg, "nan") == 0);
    free(svg);
    CHECK(yd_plot_rgb(&plot, &rgb, &w, &h, &err) == 0);
    yd_free(rgb);
    CHECK(yd_plot_svg(&none, &svg, &len, &err) == YD_E_INVALID);
}

static void running_out_of_memory_is_an_error(void)
{
    yd_plot_series series[2];
    const yd_plot_panel panel = sample(series, points);
    const yd_plot plot = {.title = "plot", .panels = &panel, .n = 1};
    uint8_t *rgb = NULL;
    int w, h, failures = 0;
    yd_err err;
    for (long n = 1; n < 10; n++) {
        yd_mem_fail_at(n);
        const int rc = yd_plot_rgb(&plot, &rgb, &w, &h, &err);
        yd_mem_fail_at(0);
        if (rc == 0) break;
        CHECK(rc == YD_E_NOMEM);
        failures++;
    }
    CHECK(failures == 4); // pixels, labels, points and flags of the front
    yd_free(rgb);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"ticks are round", ticks_are_round},
        {"the front is what nothing beats", front_is_what_nothing_beats},
        {"an SVG has a circle for every point", svg_has_a_circle_for_every_point},
        {"a far level is only named", a_far_level_is_only_named},
        {"pixels show the same plot", pixels_show_the_same_plot},
        {"odd data is drawn all the same", odd_data_is_drawn_all_the_same},
        {"running out of memory is an error", running_out_of_memory_is_an_error},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
