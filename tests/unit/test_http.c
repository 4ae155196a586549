// The pure parts of the HTTP interface: routes, ranges, entity tags, base64.
#include "core/base64.h"
#include "api/range.h"
#include "api/router.h"
#include "t.h"

#include <stdint.h>

static const yd_route table[] = {
    {.method = YD_GET, .pattern = "/"},
    {.method = YD_POST, .pattern = "/v1/jobs"},
    {.method = YD_GET, .pattern = "/v1/jobs"},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}"},
    {.method = YD_DELETE, .pattern = "/v1/jobs/{id}"},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}/events"},
};

static yd_route_match find(unsigned method, const char *path)
{
    yd_route_match m;
    yd_route_find(table, sizeof table / sizeof table[0], method, path, &m);
    return m;
}

static void routes_match_whole_paths(void)
{
    CHECK(find(YD_GET, "/").route == &table[0]);
    CHECK(find(YD_POST, "/v1/jobs").route == &table[1]);
    CHECK(find(YD_GET, "/v1/jobs").route == &table[2]);
    CHECK(find(YD_HEAD, "/v1/jobs").route == &table[2]);
    yd_route_match m = find(YD_GET, "/v1/jobs/abc-1/events");
    CHECK(m.route == &table[5] && !strcmp(m.param, "abc-1"));
    m = find(YD_DELETE, "/v1/jobs/7");
    CHECK(m.route == &table[4] && !strcmp(m.param, "7"));
    const char *nowhere[] = {"", "/v1", "/v1/jobs/", "/v1/jobs//events", "/v1/jobs/a/event", "/v1/jobs/a/events/", "v1/jobs", "//"};
    for (size_t i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++)
        CHECK_MSG(!find(YD_GET, nowhere[i]).route && !find(YD_GET, nowhere[i]).allowed, "%s", nowhere[i]);
}

static void routes_tell_what_is_allowed(void)
{
    const yd_route_match m = find(YD_PUT, "/v1/jobs/x");
    CHECK(!m.route && m.allowed == (YD_GET | YD_HEAD | YD_DELETE));
    char text[64];
    CHECK(yd_methods_print(m.allowed, text, sizeof text) == strlen("GET, HEAD, DELETE") && !strcmp(text, "GET, HEAD, DELETE"));
    char cut[8];
    CHECK(yd_methods_print(m.allowed, cut, sizeof cut) == strlen("GET, HEAD, DELETE") && strlen(cut) < sizeof cut);
    CHECK(yd_method_parse("GET") == YD_GET && yd_method_parse("get") == 0 && yd_method_parse("BREW") == 0);
}

static void parameters_are_bounded(void)
{
    char path[256] = "/v1/jobs/";
    const size_t base = strlen(path);
    memset(path + base, 'x', YD_PARAM_MAX - 1);
    CHECK(find(YD_GET, path).route == &table[3]);
    path[base + YD_PARAM_MAX - 1] = 'x';
    CHECK(!find(YD_GET, path).allowed);
}

static void ranges(void)
{
    const struct {
        const char *header;
        uint64_t size;
        yd_range_kind kind;
        uint64_t first, last;
    } cases[] = {
        {NULL, 100, YD_RANGE_WHOLE, 0, 0},
        {"bytes=0-9", 100, YD_RANGE_PART, 0, 9},
        {"bytes=90-200", 100, YD_RANGE_PART, 90, 99},
        {"bytes=99-", 100, YD_RANGE_PART, 99, 99},
        {"bytes=-10", 100, YD_RANGE_PART, 90, 99},
        {"bytes=-1000", 100, YD_RANGE_PART, 0, 99},
        {"bytes= 5-6 ", 100, YD_RANGE_PART, 5, 6},
        {"bytes=100-", 100, YD_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", 100, YD_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-5", 0, YD_RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=9-5", 100, YD_RANGE_WHOLE, 0, 0},
        {"bytes=0-1,5-6", 100, YD_RANGE_WHOLE, 0, 0},
        {"bytes=", 100, YD_RANGE_WHOLE, 0, 0},
        {"bytes=-", 100, YD_RANGE_WHOLE, 0, 0},
        {"bytes=5", 100, YD_RANGE_WHOLE, 0, 0},
        {"lines=0-9", 100, YD_RANGE_WHOLE, 0, 0},
        {"bytes=0-99999999999999999999999", 100, YD_RANGE_WHOLE, 0, 0}, // more digits than any size has
        {"bytes=9999999999999999999-", 100, YD_RANGE_UNSATISFIABLE, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t first = 0, last = 0;
        const yd_range_kind kind = yd_range_parse(cases[i].header, cases[i].size, &first, &last);
        const char *name = cases[i].header ? cases[i].header : "none";
        CHECK_MSG(kind == cases[i].kind, "%s gives %d", name, (int)kind);
        if (kind == YD_RANGE_PART) CHECK_MSG(first == cases[i].first && last == cases[i].last, "%s", name);
    }
}

static void entity_tags(void)
{
    CHECK(yd_etag_listed("\"a\"", "\"a\""));
    CHECK(yd_etag_listed("\"x\", W/\"a\" , \"y\"", "\"a\""));
    CHECK(yd_etag_listed("\"a\"", "W/\"a\""));
    CHECK(yd_etag_listed("*", "\"a\""));
    CHECK(yd_etag_listed("\"a,b\",\"c\"", "\"c\""));
    CHECK(!yd_etag_listed("\"a,b\"", "\"b\""));
    CHECK(!yd_etag_listed(NULL, "\"a\"") && !yd_etag_listed("", "\"a\"") && !yd_etag_listed("\"ab\"", "\"a\""));
    CHECK(!yd_etag_listed("\"a", "\"a\"") && !yd_etag_listed("a", "\"a\"") && !yd_etag_listed(",,,", "\"a\""));
}

static void base64_known_answers(void)
{
    // RFC 4648, section 10
    const char *plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    const char *coded[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (size_t i = 0; i < 7; i++) {
        char text[16] = "";
        uint8_t back[16];
        size_t n = 99;
        yd_base64_encode((const uint8_t *)plain[i], strlen(plain[i]), text);
        CHECK(!strcmp(text, coded[i]) && yd_base64_length(strlen(plain[i])) == strlen(coded[i]));
        CHECK(!yd_base64_decode(coded[i], strlen(coded[i]), back, &n) && n == strlen(plain[i]) && !memcmp(back, plain[i], n));
    }
}

static void base64_every_byte_both_ways(void)
{
    uint8_t bytes[256], back[400];
    char text[400];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 37);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        size_t n = 0;
        yd_base64_encode(bytes, len, text);
        CHECK(!yd_base64_decode(text, yd_base64_length(len), back, &n) && n == len && !memcmp(bytes, back, len));
    }
}

static void base64_is_strict(void)
{
    const char *bad[] = {"Z", "Zg=", "Zg===", "=", "Zg==Zg==", "Zm9*", "Zm9v-", "Zh==", "Zm9=", "Zm9v=", "Z\xffZZ"};
    uint8_t out[32];
    size_t n;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_MSG(yd_base64_decode(bad[i], strlen(bad[i]), out, &n) == -1, "%s", bad[i]);
    CHECK(!yd_base64_decode("Zm9v\r\nYg", 8, out, &n) && n == 4); // white space and missing padding are common
}

int main(int argc, char **argv)
{
    const t_case cases[] = {
        {"routes match whole paths", routes_match_whole_paths},
        {"routes tell what is allowed", routes_tell_what_is_allowed},
        {"parameters are bounded", parameters_are_bounded},
        {"ranges", ranges},
        {"entity tags", entity_tags},
        {"base64: known answers", base64_known_answers},
        {"base64: every byte, both ways", base64_every_byte_both_ways},
        {"base64 is strict", base64_is_strict},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
