// The JSON reader: what RFC 8259 allows and forbids, values, escapes, comments, limits, speed and every allocation failing in turn.
#include "core/json.h"
#include "core/mem.h"
#include "t.h"

#include <locale.h>
#include <time.h>

static int parse(const char *text, size_t len, int flags, yd_json **j, yd_err *err)
{
    yd_err_clear(err);
    char *exact = malloc(len ? len : 1); // no byte after the end, so that reading on is seen
    memcpy(exact, text, len);
    int rc = yd_json_parse(exact, len, flags, j, err);
    free(exact);
    return rc;
}

static yd_json *must_parse(const char *text, int flags)
{
    yd_json *j = NULL;
    yd_err err;
    int rc = parse(text, strlen(text), flags, &j, &err);
    CHECK_MSG(rc == 0, "%s: %s", text, err.detail);
    return j;
}

static void accepts(void)
{
    static const char *const good[] = {
        "null",
        "true",
        " false\n",
        "0",
        "-0",
        "-0.0e-0",
        "1E+5",
        "123.456e-7",
        "\"\"",
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1]",
        "[[],{}]",
        "{\"\":1}",
        "{\"a\":{\"a\":{\"a\":0}}}",
        "[\"\\u00e9\\ud83d\\ude00\\/\"]",
        "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"",
        "\t\r\n[1 , 2 ]",
        "\"//\"",
        "\"\x7f\"",
        "1e-999",
        "[{\"a\":1},{\"a\":1}]",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) yd_json_free(must_parse(good[i], 0));
}

static void refuses(void)
{
    static const char *const bad[] = {
        "",
        " ",
        "nul",
        "nulll",
        "True",
        "NaN",
        "Infinity",
        "-",
        "+1",
        "01",
        "-01",
        ".5",
        "1.",
        "1.e5",
        "1e",
        "1e+",
        "0x10",
        "1a",
        "--1",
        "1 2",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1 \"b\":2}",
        "{1:2}",
        "[1}",
        "{\"a\":1]",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\ud800x\"",
        "\"\\u0000\"",
        "\"\n\"",
        "\"\t\"",
        "\"\x01\"",
        "\"\xff\"",
        "\"\xc0\x80\"",
        "\"\xc3\"",
        "\"\xe0\x80\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xf5\x80\x80\x80\"",
        "\"\xe2\x82\"",
        "\"\x80\"",
        "\xef\xbb\xbf{}",
        "// c\n1",
        "1 /* c */",
        "1 // c",
        "1e999",
        "-1e400",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "[1]]",
        "{\"\":1,\"\":2}",
        "\xc2\xa0"
        "1",
        "\v1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        yd_json *j = NULL;
        yd_err err;
        CHECK_MSG(parse(bad[i], strlen(bad[i]), 0, &j, &err) == YD_E_INVALID, "[%zu] %s", i, bad[i]);
        CHECK_MSG(j == NULL && strncmp(err.detail, "line ", 5) == 0, "[%zu] %s", i, err.detail);
        yd_json_free(j);
    }
}

static void nul_bytes(void)
{
    static const struct {
        const char *text;
        size_t len;
    } bad[] = {{"1\0", 2},         {"\0", 1},    {"\"a\0b\"", 5}, {"[1,\0 2]", 7},
               {"{\"a\"\0:1}", 8}, {"[1]\0", 4}, {"tru\0", 4},    {"{\"a\0\":1}", 8}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        yd_json *j = NULL;
        yd_err err;
        CHECK_MSG(parse(bad[i].text, bad[i].len, YD_JSON_COMMENTS, &j, &err) == YD_E_INVALID, "[%zu]", i);
        yd_json_free(j);
    }
}

static void values(void)
{
    yd_json *j = must_parse("{\"n\":-12.5e1,\"s\":\"a\\\"\\\\\\n\\u20ac\\ud83d\\ude00z\",\"l\":[1,true,false,null,{"
                            "\"k\":7}],\"e\":{},\"t\":3}",
                            0);
    CHECK(yd_json_type_of(j, 0) == YD_J_OBJECT && yd_json_count(j, 0) == 5);
    CHECK(yd_json_number(j, yd_json_get(j, 0, "n"), 0) == -125.0);
    CHECK(!strcmp(yd_json_string(j, yd_json_get(j, 0, "s")), "a\"\\\n\xe2\x82\xac\xf0\x9f\x98\x80z"));
    yd_jid l = yd_json_get(j, 0, "l"), c = yd_json_first(j, l);
    CHECK(yd_json_count(j, l) == 5 && yd_json_type_of(j, l) == YD_J_ARRAY && yd_json_key(j, c) == NULL);
    static const yd_json_type types[] = {YD_J_NUMBER, YD_J_TRUE, YD_J_FALSE, YD_J_NULL, YD_J_OBJECT};
    size_t i = 0;
    for (; c >= 0; c = yd_json_next(j, c), i++) CHECK(i < 5 && yd_json_type_of(j, c) == types[i]);
    CHECK(i == 5);
    CHECK(yd_json_first(j, yd_json_get(j, 0, "e")) == -1 && yd_json_count(j, yd_json_get(j, 0, "e")) == 0);
    static const char *const keys[] = {"n", "s", "l", "e", "t"};
    i = 0;
    for (c = yd_json_first(j, 0); c >= 0; c = yd_json_next(j, c), i++)
        CHECK(i < 5 && !strcmp(yd_json_key(j, c), keys[i]));
    CHECK(i == 5);
    // A key of an inner object is none of the outer's; absent nodes pass through every accessor.
    CHECK(yd_json_get(j, 0, "k") == -1 && yd_json_get(j, l, "k") == -1 && yd_json_get(j, -1, "k") == -1);
    CHECK(yd_json_type_of(j, -1) == YD_J_NULL && yd_json_first(j, -1) == -1 && yd_json_next(j, -1) == -1);
    CHECK(yd_json_count(j, -1) == 0 && !yd_json_key(j, -1) && !yd_json_string(j, -1) && yd_json_number(j, -1, 4) == 4);
    CHECK(!yd_json_string(j, yd_json_get(j, 0, "n")) && yd_json_number(j, yd_json_get(j, 0, "s"), 3) == 3);
    yd_json_free(j);
}

static void integers(void)
{
    static const struct {
        const char *text;
        int ok;
        long long want;
    } rows[] = {
        {"0", 1, 0},
        {"-0", 1, 0},
        {"100", 1, 100},
        {"2.0", 1, 2},
        {"1e3", 1, 1000},
        {"2.5", 0, 0},
        {"1e-1", 0, 0},
        {"\"5\"", 0, 0},
        {"9007199254740993", 1, 9007199254740993},
        {"9223372036854775807", 1, 9223372036854775807},
        {"9223372036854775808", 0, 0},
        {"-9223372036854775808", 1, -9223372036854775807 - 1},
        {"1e16", 0, 0},
        {"1e300", 0, 0},
        {"true", 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_json *j = must_parse(rows[i].text, 0);
        long long v = -77;
        int rc = yd_json_integer(j, 0, -9223372036854775807 - 1, 9223372036854775807, &v);
        CHECK_MSG(rows[i].ok ? rc == 0 && v == rows[i].want : rc == -1 && v == -77, "%s gave %d, %lld", rows[i].text,
                  rc, v);
        yd_json_free(j);
    }
    yd_json *j = must_parse("[3,-4]", 0);
    long long v = 0;
    CHECK(yd_json_integer(j, 1, 3, 3, &v) == 0 && yd_json_integer(j, 1, 4, 9, &v) == -1 &&
          yd_json_integer(j, 1, 0, 2, &v) == -1);
    CHECK(yd_json_integer(j, 2, -4, 0, &v) == 0 && v == -4 && yd_json_integer(j, -1, -9, 9, &v) == -1);
    yd_json_free(j);
}

static void error_places(void)
{
    static const struct {
        const char *text, *start;
    } rows[] = {
        {"{\n  \"a\": tru\n}", "line 2, column 8: "},
        {"[1,\n2,\n   x]", "line 3, column 4: "},
        {"[\"\xc3\xa9\xc3\xa9\", x]", "line 1, column 8: "},
        {"[\"\\n\\n\\n\", x]", "line 1, column 12: "},
        {"{\"a\":1,\"b\":2,\n\"a\":3}", "line 2, column 1: the key \"a\" occurs twice"},
        {"[1,2", "line 1, column 5: the text ends"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_json *j = NULL;
        yd_err err;
        CHECK(parse(rows[i].text, strlen(rows[i].text), 0, &j, &err) == YD_E_INVALID);
        CHECK_MSG(!strncmp(err.detail, rows[i].start, strlen(rows[i].start)), "%s", err.detail);
    }
}

static void comments(void)
{
    yd_json *j = must_parse("// first\n{ // \"a\": 0,\n \"a\": 1, // two\n \"url\": \"http://x\" //\n} // end",
                            YD_JSON_COMMENTS);
    CHECK(yd_json_count(j, 0) == 2 && yd_json_number(j, yd_json_get(j, 0, "a"), 0) == 1);
    CHECK(!strcmp(yd_json_string(j, yd_json_get(j, 0, "url")), "http://x"));
    yd_json_free(j);
    j = must_parse("1//x", YD_JSON_COMMENTS);
    yd_json_free(j);
    yd_err err;
    CHECK(parse("1 / 2", 5, YD_JSON_COMMENTS, &j, &err) == YD_E_INVALID);
    CHECK(parse("/* */ 1", 7, YD_JSON_COMMENTS, &j, &err) == YD_E_INVALID);
}

static void nesting(void)
{
    for (int depth = 31; depth <= 34; depth++) {
        char text[80] = "";
        for (int i = 0; i < depth; i++) text[i] = '[', text[2 * depth - 1 - i] = ']';
        yd_json *j = NULL;
        yd_err err;
        int rc = parse(text, 2 * (size_t)depth, 0, &j, &err);
        CHECK_MSG(rc == (depth <= 32 ? 0 : YD_E_INVALID), "depth %d", depth);
        yd_json_free(j);
    }
    size_t n = 1 << 20; // far too deep must be as harmless
    char *text = malloc(n);
    memset(text, '[', n);
    yd_json *j = NULL;
    yd_err err;
    CHECK(parse(text, n, 0, &j, &err) == YD_E_INVALID && strstr(err.detail, "32"));
    free(text);
}

// A locale with a decimal comma must change nothing; where none is installed, the check is the plain one.
static void locale_independent(void)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"};
    for (size_t i = 0; i < 4; i++)
        if (setlocale(LC_ALL, names[i])) break;
    yd_json *j = must_parse("[1.5,2.25e-3]", 0);
    CHECK(yd_json_number(j, 1, 0) == 1.5 && yd_json_number(j, 2, 0) == 2.25e-3);
    yd_json_free(j);
    setlocale(LC_ALL, "C");
}

static void quoting(void)
{
    char buf[64];
    const char *s = "a\"b\\c\n\t\x01\xc3\xa9/";
    size_t n = yd_json_quote(buf, sizeof buf, s);
    CHECK_MSG(!strcmp(buf, "\"a\\\"b\\\\c\\n\\t\\u0001\xc3\xa9/\"") && n == strlen(buf), "%s", buf);
    yd_json *j = must_parse(buf, 0);
    CHECK(!strcmp(yd_json_string(j, 0), s));
    yd_json_free(j);
    CHECK(yd_json_quote(NULL, 0, s) == n);
    for (size_t cap = 1; cap <= n; cap++) {
        char part[64];
        memset(part, 'X', sizeof part);
        CHECK(yd_json_quote(part, cap, s) == n && strlen(part) == cap - 1 && part[cap] == 'X' &&
              !strncmp(part, buf, cap - 1));
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// About 10 MB as the header of a huge checkpoint would be: 100,000 members in one object.
static void large(void)
{
    size_t cap = 14 << 20, n = 1;
    char *text = malloc(cap);
    text[0] = '{';
    const int members = 100000;
    for (int i = 0; i < members; i++)
        n += (size_t)snprintf(text + n, cap - n,
                              "%s\"unet.blocks.%d.attention.projection.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],"
                              "\"data_offsets\":[%d,%d]}",
                              i ? "," : "", i, 8 * i, 8 * i + 8);
    text[n++] = '}';
    yd_json *j = NULL;
    yd_err err = {0};
    double t = now();
    CHECK_MSG(yd_json_parse(text, n, 0, &j, &err) == 0, "%s", err.detail);
    t = now() - t;
    CHECK_MSG(t < 3.0, "%zu bytes took %.2f s", n,
              t); // generous: sanitizers, a loaded machine; quadratic would be minutes
    CHECK(n > 9000000 && yd_json_count(j, 0) == members);
    long long v = 0;
    yd_jid last = yd_json_get(j, 0, "unet.blocks.99999.attention.projection.weight");
    CHECK(yd_json_integer(j, yd_json_first(j, yd_json_get(j, last, "data_offsets")), 0, 1LL << 40, &v) == 0 &&
          v == 8LL * 99999);
    CHECK(yd_json_get(j, 0, "unet.blocks.100000.attention.projection.weight") == -1);
    yd_json_free(j);
    memcpy(strstr(text, ".99999."), ".99998.", 7); // the same key twice, far from the start
    CHECK(yd_json_parse(text, n, 0, &j, &err) == YD_E_INVALID && strstr(err.detail, "unet.blocks.99998."));
    free(text);
}

// Every allocation fails in turn: NOMEM each time, and in the end success. Leaks are the sanitizer's to find.
static void no_memory(void)
{
    char text[8192];
    size_t n = (size_t)snprintf(text, sizeof text, "{\"k\":[1");
    for (int i = 0; i < 200; i++) n += (size_t)snprintf(text + n, sizeof text - n, ",{\"a%d\":\"\\n\"}", i);
    n += (size_t)snprintf(text + n, sizeof text - n, "]}");
    for (long k = 1;; k++) {
        yd_json *j = NULL;
        yd_err err = {0};
        yd_mem_fail_at(k);
        int rc = yd_json_parse(text, n, 0, &j, &err);
        long made = yd_mem_fail_at(0);
        if (made < k) {
            CHECK(rc == 0 && k > 5);
            yd_json_free(j);
            return;
        }
        CHECK_MSG(rc == YD_E_NOMEM && err.code == YD_E_NOMEM && j == NULL, "allocation %ld: %d", k, rc);
    }
}

// Damaged texts: an answer every time, whatever it is, and never a read outside (the sanitizer's to see).
static void mutants(void)
{
    static const char seed[] =
        "{\"model\": {\"ch\": [1, 2.5e3, -0], \"s\": \"\\u00e9\\ud83d\\ude00 x\"}, \"b\": [true, null, {}]} // end";
    unsigned r = 1;
    int good = 0;
    for (int round = 0; round < 20000; round++) {
        char text[sizeof seed];
        size_t n = sizeof seed - 1;
        memcpy(text, seed, sizeof seed);
        for (int k = 0; k < 1 + round % 3; k++) {
            r = r * 1664525u + 1013904223u;
            text[(r >> 8) % n] ^= (char)(1u << (r >> 28 & 7));
        }
        if (round % 4 == 0) n = (r >> 4) % n;
        yd_json *j = NULL;
        yd_err err;
        int rc = parse(text, n, YD_JSON_COMMENTS, &j, &err);
        CHECK((rc == 0) == (j != NULL) && (rc == 0 || rc == YD_E_INVALID));
        good += rc == 0;
        yd_json_free(j);
    }
    CHECK_MSG(good > 100 && good < 15000, "%d accepted", good);
}

static void fixtures(void)
{
    static const char *const names[] = {"ddpm_tiny",         "dino_tiny",      "sr3_tiny",      "sr3_deep_rect",
                                        "sr3_legacy_format", "srdiff_x4_tiny", "srdiff_x8_tiny"};
    int seen = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char rel[128];
        snprintf(rel, sizeof rel, "fixtures/%s/config.json", names[i]);
        const char *path = t_shared(rel);
        FILE *f = path ? fopen(path, "rb") : NULL;
        if (!f) continue;
        static char text[65536];
        size_t n = fread(text, 1, sizeof text, f);
        fclose(f);
        yd_json *j = NULL;
        yd_err err = {0};
        CHECK_MSG(yd_json_parse(text, n, YD_JSON_COMMENTS, &j, &err) == 0, "%s: %s", rel, err.detail);
        CHECK(yd_json_type_of(j, 0) == YD_J_OBJECT && yd_json_count(j, 0) > 0);
        yd_json_free(j);
        seen++;
    }
    if (!seen) t_skip("no fixtures/*/config.json");
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"accepts", accepts},   {"refuses", refuses},   {"nul_bytes", nul_bytes},
        {"values", values},     {"integers", integers}, {"error_places", error_places},
        {"comments", comments}, {"nesting", nesting},   {"locale", locale_independent},
        {"quoting", quoting},   {"large", large},       {"no_memory", no_memory},
        {"mutants", mutants},   {"fixtures", fixtures},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
