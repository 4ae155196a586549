// The output settings: names, values, contradictions, and the size of a result.
#include "core/output.h"
#include "t.h"

static void defaults(void)
{
    yd_output o;
    char text[256];
    yd_output_init(&o);
    CHECK(o.format == YD_PNG && !o.format_given && o.encode_quality == 92 && o.metadata == YD_META_STRIP_GPS && o.bit_depth == 0);
    size_t n = yd_output_print(&o, text, sizeof text);
    CHECK_MSG(n == strlen(text) &&
                  !strcmp(text, "{\"format\":\"png\",\"bit_depth\":0,\"metadata\":\"strip-gps\",\"color_space\":\"source\"}"),
              "%s", text);
    CHECK(yd_output_print(&o, NULL, 0) == n && yd_output_check(&o, NULL) == 0);
}

static void every_name(void)
{
    static const struct {
        const char *name, *value;
    } rows[] = {{"format", "WebP"},          {"encode_quality", "70"},      {"lossless", "false"}, {"bit_depth", "8"}, {"metadata", "keep"},
                {"color_space", "srgb"}, {"scale", "2.5"}, {"width", "640"},      {"height", "480"}};
    yd_output o;
    yd_err err = {0};
    char text[256];
    yd_output_init(&o);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        CHECK_MSG(yd_output_set(&o, rows[i].name, rows[i].value, &err) == 1, "%s: %s", rows[i].name, err.detail);
        CHECK(yd_output_names()[i] && !strcmp(yd_output_names()[i], rows[i].name));
    }
    CHECK(!yd_output_names()[sizeof rows / sizeof rows[0]]);
    yd_output_print(&o, text, sizeof text);
    CHECK_MSG(!strcmp(text, "{\"format\":\"webp\",\"lossless\":false,\"encode_quality\":70,\"bit_depth\":8,\"metadata\":\"keep\","
                            "\"color_space\":\"srgb\",\"scale\":2.5,\"width\":640,\"height\":480}"),
              "%s", text);
    CHECK(o.format_given && yd_output_set(&o, "steps", "4", &err) == 0 && yd_output_set(&o, "quality", "70", &err) == 0);
}

static void bad_values(void)
{
    static const struct {
        const char *name, *value, *accepted;
    } rows[] = {
        {"format", "gif", "png, jpeg, webp, tiff"}, {"encode_quality", "0", "1 to 100"},  {"encode_quality", "101", "1 to 100"},
        {"encode_quality", "9x", "1 to 100"},              {"encode_quality", " 9", "1 to 100"}, {"lossless", "yes", "false, true"},
        {"bit_depth", "12", "source, 8, 16"},       {"metadata", "none", "keep, strip-gps, strip"},
        {"color_space", "p3", "source, srgb"},      {"scale", "1", "above 1"},     {"scale", "8.01", "at most 8"},
        {"scale", "nan", "above 1"},                {"scale", "inf", "above 1"},   {"scale", "0x2", "above 1"},
        {"scale", "", "above 1"},                   {"width", "0", "1 to 65535"},  {"height", "65536", "1 to 65535"},
        {"width", "-5", "1 to 65535"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_output o, before;
        yd_err err = {0};
        yd_output_init(&o);
        before = o;
        CHECK_MSG(yd_output_set(&o, rows[i].name, rows[i].value, &err) == YD_E_SETTING, "%s=%s", rows[i].name, rows[i].value);
        CHECK_MSG(!strcmp(err.field, rows[i].name) && strstr(err.accepted, rows[i].accepted), "%s: %s", err.field, err.accepted);
        CHECK(o.format == before.format && o.encode_quality == before.encode_quality && o.scale == before.scale && o.width == before.width);
    }
}

static void contradictions(void)
{
    static const struct {
        yd_output o;
        const char *field;
    } rows[] = {
        {{.format = YD_JPEG, .bit_depth = 16}, "bit_depth"}, {{.format = YD_WEBP, .bit_depth = 16}, "bit_depth"},
        {{.format = YD_JPEG, .lossless = 1}, "lossless"},    {{.scale = 2, .width = 100}, "scale"},
        {{.scale = 2, .height = 100}, "scale"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_err err = {0};
        int w, h;
        CHECK(yd_output_check(&rows[i].o, &err) == YD_E_SETTING && !strcmp(err.field, rows[i].field) && err.accepted[0]);
        CHECK(yd_output_size(&rows[i].o, 4, 50, 50, &w, &h, &err) == YD_E_SETTING);
    }
    CHECK(yd_output_check(&(yd_output){.format = YD_TIFF, .bit_depth = 16, .lossless = 1}, NULL) == 0);
}

static void sizes(void)
{
    static const struct {
        double scale;
        int box_w, box_h, native, w, h, want_w, want_h, rc;
        const char *field;
    } rows[] = {
        {0, 0, 0, 4, 30, 20, 120, 80, 0, ""},
        {0, 0, 0, 16, 30, 20, 480, 320, 0, ""},
        {2, 0, 0, 4, 30, 20, 60, 40, 0, ""},
        {1.5, 0, 0, 4, 31, 21, 47, 32, 0, ""},
        {8, 0, 0, 4, 30, 20, 240, 160, 0, ""},
        {0, 90, 0, 4, 30, 20, 90, 60, 0, ""},
        {0, 0, 90, 4, 30, 20, 135, 90, 0, ""},
        {0, 90, 90, 4, 30, 20, 90, 60, 0, ""},
        {0, 900, 50, 4, 30, 20, 75, 50, 0, ""},
        {0, 31, 0, 4, 30, 20, 31, 21, 0, ""},
        {0, 30, 0, 4, 30, 20, 0, 0, YD_E_SETTING, "width"},
        {0, 241, 0, 4, 30, 20, 0, 0, YD_E_SETTING, "width"},
        {0, 1000, 20, 4, 30, 20, 0, 0, YD_E_SETTING, "height"},
        {0, 0, 161, 4, 30, 20, 0, 0, YD_E_SETTING, "height"},
        {0, 0, 0, 4, 20000, 20, 0, 0, YD_E_IMAGE_TOO_LARGE, "image"},
        {8, 0, 0, 4, 8192, 20, 0, 0, YD_E_IMAGE_TOO_LARGE, "image"},
        {0, 65535, 0, 4, 65000, 1, 65535, 1, 0, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_output o;
        yd_err err = {0};
        int w = 0, h = 0;
        yd_output_init(&o);
        o.scale = rows[i].scale, o.width = rows[i].box_w, o.height = rows[i].box_h;
        int rc = yd_output_size(&o, rows[i].native, rows[i].w, rows[i].h, &w, &h, &err);
        CHECK_MSG(rc == rows[i].rc && w == rows[i].want_w && h == rows[i].want_h && !strcmp(err.field, rows[i].field),
                  "[%zu] %d: %d x %d %s", i, rc, w, h, err.detail);
    }
}

static void formats(void)
{
    yd_image_format f = YD_PNG;
    CHECK(yd_image_format_parse("tif", &f, NULL) == 0 && f == YD_TIFF && !strcmp(yd_image_format_mime(f), "image/tiff"));
    CHECK(yd_image_format_parse("image/webp", &f, NULL) == 0 && f == YD_WEBP && !strcmp(yd_image_format_name(f), "webp"));
    yd_err err = {0};
    CHECK(yd_image_format_parse("avif", &f, &err) == YD_E_SETTING && !strstr(err.accepted, "avif") && strstr(err.accepted, "tiff"));
    CHECK(yd_image_format_parse("jpg jpeg", &f, &err) == YD_E_SETTING && yd_image_format_parse("", &f, &err) == YD_E_SETTING);
    CHECK(yd_image_init(&err) == 0 && strstr(yd_image_accepted(), "png, jpeg, webp, tiff") == yd_image_accepted());
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"defaults", defaults},     {"every name", every_name}, {"bad values", bad_values},
        {"contradictions", contradictions}, {"sizes", sizes},   {"formats", formats},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
