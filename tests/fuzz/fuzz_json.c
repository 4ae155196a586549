// JSON with and without comments: what is accepted can be walked, and texts quoted and read again are the same.
#include "core/json.h"
#include "tests/fuzz/fuzz.h"

static void walk(const yd_json *j)
{
    static char quoted[1 << 16];
    yd_jid id = 0;
    for (int steps = 0; id >= 0 && steps < 1000; steps++) { // down along the first ones, then on
        const char *s = yd_json_string(j, id);
        long long v;
        (void)yd_json_integer(j, id, -5, 5, &v);
        HOLDS(yd_json_count(j, id) >= 0);
        if (s && yd_json_quote(quoted, sizeof quoted, s) < sizeof quoted) {
            yd_json *again = NULL;
            HOLDS(yd_json_parse(quoted, strlen(quoted), 0, &again, NULL) == 0 && strcmp(yd_json_string(again, 0), s) == 0);
            yd_json_free(again);
        }
        const yd_jid down = yd_json_first(j, id);
        id = down >= 0 ? down : yd_json_next(j, id);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int flags[] = {0, YD_JSON_COMMENTS};
    for (size_t i = 0; i < 2; i++) {
        yd_json *j = NULL;
        yd_err err = {0};
        const int rc = yd_json_parse((const char *)data, size, flags[i], &j, &err);
        HOLDS(!rc == !!j && (!rc || err.detail[0]));
        if (j) walk(j);
        yd_json_free(j);
    }
    return 0;
}
