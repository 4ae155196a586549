// Pickles by themselves: every node and item can be read, and every number in them names one that is there.
#include "core/pickle.h"
#include "tests/fuzz/fuzz.h"

static void read_node(const yd_pickle *p, yd_pkid id)
{
    static volatile char sum;
    size_t len, items = 0;
    const yd_pkid count = (yd_pkid)yd_pickle_count(p);
    const char *text = yd_pickle_text(p, id, &len);
    for (size_t i = 0; text && i < len; i++) sum ^= text[i];
    text = yd_pickle_name(p, id, &len);
    for (size_t i = 0; text && i < len; i++) sum ^= text[i];
    for (yd_pkcell c = yd_pickle_first(p, id); c >= 0; c = yd_pickle_next(p, c)) {
        HOLDS(yd_pickle_item(p, c) >= 0 && yd_pickle_item(p, c) < count);
        items++;
    }
    HOLDS(items == yd_pickle_items(p, id));
    HOLDS(yd_pickle_callee(p, id) < count && yd_pickle_args(p, id) < count && yd_pickle_state(p, id) < count && yd_pickle_get(p, id, "a") < count);
    (void)yd_pickle_int(p, id);
    (void)yd_pickle_float(p, id);
    (void)yd_pickle_is_global(p, id, "collections", "OrderedDict");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    yd_pickle *p = NULL;
    yd_err err = {0};
    size_t used = 0;
    const int rc = yd_pickle_parse(data, size, &p, &used, &err);
    HOLDS(!rc == !!p && (!rc || err.detail[0]));
    if (!p) return 0;
    HOLDS(used <= size && yd_pickle_root(p) >= 0);
    for (size_t i = 0; i < yd_pickle_count(p); i++) read_node(p, (yd_pkid)i);
    yd_pickle_free(p);
    return 0;
}
