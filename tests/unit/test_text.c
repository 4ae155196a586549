// Text for clients: growing strings, JSON as it is printed, and what is done about bytes that are no UTF-8.
#include "daemon/text.h"

#include "core/mem.h"
#include "t.h"

static void it_grows(void)
{
    yd_text t = {0};
    size_t len;
    for (int i = 0; i < 1000; i++) yd_text_printf(&t, "%03d,", i);
    yd_text_add(&t, "end", 3);
    char *s = yd_text_take(&t, &len);
    CHECK(s && len == 4003 && strlen(s) == len && strncmp(s, "000,001,", 8) == 0 && strcmp(s + 3996, "999,end") == 0);
    yd_free(s);
    s = yd_text_take(&t, &len);
    CHECK(s && len == 0 && *s == '\0'); // it is empty and usable again
    yd_free(s);
}

static void without_memory_it_stays_failed(void)
{
    yd_text t = {0};
    size_t len = 7;
    yd_mem_fail_at(1);
    yd_text_add(&t, "a", 1);
    yd_mem_fail_at(0);
    yd_text_add(&t, "b", 1);
    CHECK(yd_text_take(&t, &len) == NULL && len == 0);
    yd_text_add(&t, "c", 1);
    char *s = yd_text_take(&t, NULL);
    CHECK(s && strcmp(s, "c") == 0);
    yd_free(s);
}

static void prints(json_t *o, const char *want)
{
    size_t len;
    char *s = yd_text_json(o, &len);
    CHECK_MSG(s && strcmp(s, want) == 0 && len == strlen(want), "%s, not %s", s ? s : "NULL", want);
    yd_free(s);
}

static void numbers_are_short(void)
{
    prints(json_pack("{s:f, s:f, s:i}", "a", 0.1 + 0.3, "b", 0.012 * 3, "c", 5), "{\"a\":0.4,\"b\":0.036,\"c\":5}");
    prints(json_pack("[f]", 86399.125), "[86399.125]");
    prints(json_integer(9007199254740991), "9007199254740991");
    CHECK(yd_text_json(NULL, NULL) == NULL);
}

static void utf8(void)
{
    static const struct {
        const char *s;
        size_t n;
    } row[] = {{"a", 1},
               {"\xc3\xa9", 2},
               {"\xe2\x82\xac", 3},
               {"\xf0\x9f\x98\x80", 4},
               {"\xff", 0},
               {"\xc3", 0},             // cut
               {"\xe2\x82", 0},         // cut
               {"\x80", 0},             // a continuation
               {"\xc0\xaf", 0},         // overlong
               {"\xe0\x80\xaf", 0},     // overlong
               {"\xf0\x80\x80\xaf", 0}, // overlong
               {"\xed\xa0\x80", 0},     // a surrogate
               {"\xf4\x90\x80\x80", 0}, // beyond the last one
               {"\xf5\x80\x80\x80", 0}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        CHECK_MSG(yd_text_utf8_length(row[i].s) == row[i].n, "row %zu: %zu", i, yd_text_utf8_length(row[i].s));
}

static void bad_bytes_are_replaced(void)
{
    prints(yd_text_clean("caf\xc3\xa9 \xff!\xc3"), "\"caf\xc3\xa9 \xef\xbf\xbd!\xef\xbf\xbd\"");
    prints(yd_text_clean(""), "\"\"");
    // Whatever the bytes are, jansson takes what comes out.
    for (int a = 1; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            char s[] = {(char)a, (char)b, (char)0x80, (char)0xbf, 'x', '\0'};
            json_t *o = yd_text_clean(s);
            CHECK_MSG(json_is_string(o), "%02x %02x", a, b);
            json_decref(o);
        }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"text: it grows", it_grows},
        {"text: without memory it stays failed", without_memory_it_stays_failed},
        {"text: numbers are short", numbers_are_short},
        {"text: UTF-8", utf8},
        {"text: bad bytes are replaced", bad_bytes_are_replaced},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
