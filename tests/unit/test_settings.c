// Sampling settings as text: what is taken, what is refused and by which name, and that what is printed is what was set.
#include "core/json.h"
#include "core/upscale.h"
#include "tests/unit/t.h"

static yd_sample_settings start(void)
{
    return (yd_sample_settings){.steps = 8, .sampler = YD_SAMPLER_DDIM, .eta = 0.5f, .attention = "edge", .lower_bound = 0.4, .skip = 1};
}

static void good_values_are_taken(void)
{
    static const char *const pairs[][2] = {
        {"steps", "4000"},    {"seed", "18446744073709551615"}, {"sampler", "ancestral"}, {"eta", "0"},         {"variance", "beta"},
        {"attention", "constant"}, {"mask_form", "max"},        {"lower_bound", "1"},     {"lr_noise", "literal"}, {"skip", "false"}, {"spacing", "2.5"}, {"allocation", "windows"}, {"fidelity", "0.25"},
    };
    yd_sample_settings s = start();
    yd_err err = {0};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        CHECK_MSG(yd_setting_set(&s, pairs[i][0], pairs[i][1], &err) == 1, "%s=%s: %s", pairs[i][0], pairs[i][1], err.detail);
    CHECK(s.steps == 4000 && s.seed == UINT64_MAX && s.sampler == YD_SAMPLER_ANCESTRAL && s.eta == 0.0f && s.variance == YD_VARIANCE_BETA);
    CHECK(strcmp(s.attention, "constant") == 0 && s.mask_form == YD_MASK_MAX && s.lower_bound == 1.0 && s.lr_noise == YD_LR_LITERAL && !s.skip && s.spacing == 2.5);
    CHECK(s.allocation == YD_ALLOCATION_WINDOWS && s.fidelity == 0.25);
    CHECK(yd_setting_set(&s, "quality", "90", &err) == 0); // somebody else's
}

static void bad_values_are_named(void)
{
    static const char *const pairs[][2] = {
        {"steps", "0"},   {"steps", "4001"}, {"steps", ""},      {"steps", "8x"},        {"steps", " 8"},       {"steps", "\t8"},
        {"steps", "8.5"}, {"steps", "99999999999999999999"},     {"seed", "-1"},         {"seed", "18446744073709551616"},
        {"allocation", "early"}, {"fidelity", "1.1"}, {"fidelity", "some"}, {"spacing", "0"}, {"spacing", "8.5"}, {"spacing", "nan"}, {"eta", "nan"},   {"eta", "1.01"},   {"eta", "-0.1"},    {"eta", "\n0.5"},       {"eta", ""},           {"lower_bound", "inf"},
        {"skip", "1"},    {"sampler", "DDIM"}, {"sampler", "dpmpp"}, {"variance", ""}, {"mask_form", "sum"},   {"lr_noise", "none"},  {"attention", "dino"}, {"attention", "dino-\x89x"}, {"attention", "dino-\"x"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        yd_sample_settings s = start(), before = s;
        yd_err err = {0};
        int rc = yd_setting_set(&s, pairs[i][0], pairs[i][1], &err);
        CHECK_MSG(rc == YD_E_SETTING && strcmp(err.field, pairs[i][0]) == 0 && err.accepted[0], "%s='%s': rc %d, field '%s'", pairs[i][0],
                  pairs[i][1], rc, err.field);
        CHECK(memcmp(&s, &before, sizeof s) == 0);
    }
}

static void printed_settings_are_json(void)
{
    yd_sample_settings s = start();
    char text[512];
    yd_json *j = NULL;
    size_t n = yd_settings_print(&s, text, sizeof text);
    CHECK(n < sizeof text && yd_json_parse(text, n, 0, &j, NULL) == 0);
    CHECK(yd_json_number(j, yd_json_get(j, 0, "eta"), -1) == 0.5 && yd_json_number(j, yd_json_get(j, 0, "lower_bound"), -1) == 0.4);
    const char *attention = yd_json_string(j, yd_json_get(j, 0, "attention"));
    CHECK(attention && strcmp(attention, "edge") == 0);
    yd_json_free(j);
    CHECK(yd_settings_print(&s, text, 8) == n && strlen(text) == 7);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"good values are taken", good_values_are_taken},
        {"bad values are refused by their setting's name", bad_values_are_named},
        {"settings print as JSON", printed_settings_are_json},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
