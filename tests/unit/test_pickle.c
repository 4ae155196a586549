// The pickle walker: what each instruction makes, calls that are kept and not made, and files that mean harm.
#include "core/pickle.h"

#include "core/mem.h"
#include "tests/unit/t.h"
#include <string.h>

static yd_err err;
static size_t used;

static yd_pickle *parse(const void *bytes, size_t len)
{
    yd_pickle *p = NULL;
    yd_err_clear(&err);
    return yd_pickle_parse(bytes, len, &p, &used, &err) ? NULL : p;
}

#define PARSE(text) parse("" text, sizeof(text) - 1)

static void numbers_and_texts(void)
{
    yd_pickle *p = PARSE("\x80\x02(K\xff" "M\xff\xff" "J\xff\xff\xff\xff" "\x8a\x02\x00\x80" "\x8a\x00" "\x8a\x01\xff" "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"
                         "\x8a\x0a" "0123456789" "G\x40\x09\x21\xfb\x54\x44\x2d\x18" "\x88\x89NX\x02\x00\x00\x00hi" "U\x01x" "\x8c\x00t.rest");
    CHECK_MSG(p != NULL, "%s", err.detail);
    if (!p) return;
    const yd_pkid t = yd_pickle_root(p);
    static const int64_t ints[] = {255, 65535, -1, -32768, 0, -1, INT64_MAX};
    size_t len;
    CHECK(yd_pickle_kind_of(p, t) == YD_PK_TUPLE && yd_pickle_items(p, t) == 15);
    for (size_t i = 0; i < 7; i++) {
        const yd_pkid id = yd_pickle_nth(p, t, i);
        CHECK_MSG(yd_pickle_kind_of(p, id) == YD_PK_INT && yd_pickle_int(p, id) == ints[i], "number %zu: %lld", i, (long long)yd_pickle_int(p, id));
    }
    CHECK(yd_pickle_kind_of(p, yd_pickle_nth(p, t, 7)) == YD_PK_LONG && !memcmp(yd_pickle_text(p, yd_pickle_nth(p, t, 7), &len), "0123456789", 10) && len == 10);
    CHECK(yd_pickle_float(p, yd_pickle_nth(p, t, 8)) == 3.141592653589793);
    CHECK(yd_pickle_int(p, yd_pickle_nth(p, t, 9)) == 1 && yd_pickle_kind_of(p, yd_pickle_nth(p, t, 10)) == YD_PK_BOOL);
    CHECK(yd_pickle_kind_of(p, yd_pickle_nth(p, t, 11)) == YD_PK_NONE);
    CHECK(yd_pickle_is_text(p, yd_pickle_nth(p, t, 12), "hi") && !yd_pickle_is_text(p, yd_pickle_nth(p, t, 12), "h"));
    CHECK(yd_pickle_is_text(p, yd_pickle_nth(p, t, 13), "x") && yd_pickle_is_text(p, yd_pickle_nth(p, t, 14), ""));
    CHECK(yd_pickle_nth(p, t, 15) == -1 && yd_pickle_int(p, -1) == 0 && yd_pickle_first(p, 999) == -1);
    yd_pickle_free(p);
}

// What torch writes for {"a": tensor} in its own order: an OrderedDict that is called, filled, and given a state.
static void calls_are_kept(void)
{
    yd_pickle *p = PARSE("\x80\x02" "ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00" "aq\x02" "ctorch._utils\n_rebuild_tensor_v2\nq\x03("
                         "(X\x07\x00\x00\x00storageq\x04" "ctorch\nFloatStorage\nq\x05X\x01\x00\x00\x00" "0q\x06X\x03\x00\x00\x00" "cpuq\x07K\x06tq\x08QK\x01K\x02K\x03\x86q\x09"
                         "K\x03K\x01\x86q\x0a\x89h\x00)Rq\x0btq\x0cRq\x0dX\x01\x00\x00\x00" "aq\x0eK\x07u}q\x0fX\x09\x00\x00\x00_metadataq\x10K\x01sb.");
    CHECK_MSG(p != NULL, "%s", err.detail);
    if (!p) return;
    const yd_pkid root = yd_pickle_root(p);
    CHECK(yd_pickle_kind_of(p, root) == YD_PK_CALL && yd_pickle_is_global(p, yd_pickle_callee(p, root), "collections", "OrderedDict"));
    CHECK(yd_pickle_items(p, yd_pickle_args(p, root)) == 0 && yd_pickle_items(p, root) == 4);
    CHECK(yd_pickle_int(p, yd_pickle_get(p, root, "a")) == 7); // the last one holds
    CHECK(yd_pickle_int(p, yd_pickle_get(p, yd_pickle_state(p, root), "_metadata")) == 1 && yd_pickle_get(p, root, "b") == -1);
    const yd_pkid tensor = yd_pickle_item(p, yd_pickle_next(p, yd_pickle_first(p, root))), args = yd_pickle_args(p, tensor);
    CHECK(yd_pickle_is_global(p, yd_pickle_callee(p, tensor), "torch._utils", "_rebuild_tensor_v2"));
    CHECK(!yd_pickle_is_global(p, yd_pickle_callee(p, tensor), "torch._utils", "_rebuild_tensor"));
    CHECK(yd_pickle_items(p, args) == 6 && yd_pickle_kind_of(p, yd_pickle_nth(p, args, 0)) == YD_PK_OUTSIDE);
    const yd_pkid id = yd_pickle_args(p, yd_pickle_nth(p, args, 0));
    CHECK(yd_pickle_is_text(p, yd_pickle_nth(p, id, 0), "storage") && yd_pickle_is_global(p, yd_pickle_nth(p, id, 1), "torch", "FloatStorage"));
    CHECK(yd_pickle_int(p, yd_pickle_nth(p, yd_pickle_nth(p, args, 2), 1)) == 3);
    yd_pickle_free(p);
    p = PARSE("cos\nsystem\n(X\x07\x00\x00\x00rm -rf.tR."); // nobody calls it
    CHECK(p && yd_pickle_is_global(p, yd_pickle_callee(p, yd_pickle_root(p)), "os", "system"));
    yd_pickle_free(p);
    p = PARSE("\x80\x04\x95\x12\x00\x00\x00\x00\x00\x00\x00\x8c\x05torch\x94\x8c\x04Size\x94\x93\x94.");
    CHECK(p && yd_pickle_is_global(p, yd_pickle_root(p), "torch", "Size"));
    yd_pickle_free(p);
}

static void lists_dicts_and_the_memo(void)
{
    yd_pickle *p = PARSE("](K\x01K\x02" "eK\x03" "a0}(K\x01K\x02uK\x03K\x04s.");
    CHECK_MSG(p && yd_pickle_items(p, yd_pickle_root(p)) == 4, "%s", err.detail);
    yd_pickle_free(p);
    p = PARSE("]q\x05h\x05" "ah\x05" "a."); // a list that holds itself
    const yd_pkid self = p ? yd_pickle_root(p) : -1;
    CHECK(p && yd_pickle_nth(p, self, 0) == self && yd_pickle_nth(p, self, 1) == self);
    yd_pickle_free(p);
    p = PARSE("K\x01\x94K\x02\x94" "0h\x01\x86."); // MEMOIZE counts on; h reads the second
    CHECK(p && yd_pickle_int(p, yd_pickle_nth(p, yd_pickle_root(p), 1)) == 2);
    yd_pickle_free(p);
    p = PARSE("K\x07.K\x08.");
    CHECK(p && used == 3 && yd_pickle_int(p, yd_pickle_root(p)) == 7);
    yd_pickle_free(p);
}

static void what_is_refused(void)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *says;
    } rows[] = {
#define ROW(text, says) {"" text, sizeof(text) - 1, says}
        ROW("", "without a STOP"), ROW("K", "ends within"), ROW("K\x01", "without a STOP"), ROW(".", "wants a value"), ROW("(.", "mark is left"),
        ROW("i__main__\nX\n.", "0x69"), ROW("(o.", "0x6f"), ROW("I5\n.", "0x49"), ROW("\x80\x06N.", "protocol"), ROW("\x82\x01.", "no instruction"),
        ROW("h\x00.", "memo entry is empty"), ROW("Nr\xff\xff\xff\xff.", "beyond 2^21"), ROW("Nr\x00\x00\x20\x00.", "beyond 2^21"),
        ROW("X\xff\xff\xff\xffhi", "ends within"), ROW("\x8d\xff\xff\xff\xff\xff\xff\xff\xffhi", "ends within"), ROW("\x8b\xff\xff\xff\xff", "ends within"),
        ROW("\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "ends within"), ROW("K\x01K\x02K\x03s.", "no dict"), ROW("}K\x01" "a.", "no list"), ROW("}(K\x01u.", "no value"),
        ROW("}K\x01s.", "nothing to put"), ROW("K\x01s.", "wants more"), ROW("(K\x01u.", "nothing to put"), ROW("K\x01(\x85.", "wants more"), ROW("]u.", "no mark"), ROW("t.", "no mark"),
        ROW("NNR.", "tuple"), ROW("N)R" "ccollections", "line does not end"), ROW("K\x01K\x02\x93.", "two texts"), ROW("N(0.", NULL), ROW("Q.", "wants a value"),
        ROW("Nb.", "wants a value"),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        yd_pickle *p = parse(rows[i].bytes, rows[i].len);
        CHECK_MSG(!p == !!rows[i].says, "row %zu", i);
        if (rows[i].says) CHECK_MSG(err.code == YD_E_CHECKPOINT && strstr(err.detail, rows[i].says), "row %zu: %s", i, err.detail);
        yd_pickle_free(p);
    }
}

static void bounds(void)
{
    enum { N = 5 << 20 };
    char *b = malloc(N);
    if (!b) return;
    memset(b, '(', N);
    CHECK(!parse(b, N) && strstr(err.detail, "1024 marks"));
    memset(b, 'N', N);
    CHECK(!parse(b, N) && strstr(err.detail, "2^20"));
    for (size_t i = 0; i < N; i++) b[i] = "N0"[i % 2];
    CHECK(!parse(b, N) && strstr(err.detail, "2^21 values"));
    b[0] = ']', b[1] = 'q', b[2] = 0;
    for (size_t i = 3; i + 2 < N; i += 3) b[i] = 'h', b[i + 1] = 0, b[i + 2] = 'a';
    CHECK_MSG(!parse(b, N) && strstr(err.detail, "without a STOP"), "%s", err.detail); // 1.7 million items in one list
    free(b);
}

static const char sample[] = "\x80\x02}q\x00(X\x01\x00\x00\x00" "aq\x01](K\x01K\x02" "eX\x01\x00\x00\x00" "bcx\ny\n)R}K\x01G\x40\x09\x21\xfb\x54\x44\x2d\x18sbX\x01\x00\x00\x00" "cNQu(h\x00h\x01t\x86.";

static void broken_in_every_way(void)
{
    yd_pickle *p = parse(sample, sizeof sample - 1);
    CHECK_MSG(p != NULL, "%s", err.detail);
    yd_pickle_free(p);
    for (size_t n = 0; n + 1 < sizeof sample; n++) CHECK(!parse(sample, n));
    unsigned seed = 1;
    for (int round = 0; round < 50000; round++) {
        char b[sizeof sample];
        memcpy(b, sample, sizeof b);
        for (int k = 0; k < 1 + round % 4; k++) {
            seed = seed * 1664525u + 1013904223u;
            b[(seed >> 8) % (sizeof b - 1)] = (char)(seed >> 24);
        }
        p = parse(b, sizeof b - 1);
        for (yd_pkid id = 0; p && (size_t)id < yd_pickle_count(p); id++) { // whatever there is can be read
            size_t len, items = 0;
            (void)yd_pickle_text(p, id, &len);
            for (yd_pkcell c = yd_pickle_first(p, id); c >= 0; c = yd_pickle_next(p, c)) items += yd_pickle_item(p, c) >= 0;
            CHECK(items == yd_pickle_items(p, id) && (yd_pickle_get(p, id, "a") < (yd_pkid)yd_pickle_count(p)));
        }
        yd_pickle_free(p);
    }
}

static void no_memory(void)
{
    for (long n = 1;; n++) {
        yd_pickle *p = NULL;
        yd_mem_fail_at(n);
        const int rc = yd_pickle_parse(sample, sizeof sample - 1, &p, &used, &err);
        yd_mem_fail_at(0);
        yd_pickle_free(p);
        if (!rc) break;
        CHECK_MSG(rc == YD_E_NOMEM && !p && n < 100, "allocation %ld: %d", n, rc);
        if (rc != YD_E_NOMEM || n >= 100) break;
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"pickle: numbers and texts", numbers_and_texts},
        {"pickle: calls are kept, none is made", calls_are_kept},
        {"pickle: lists, dicts and the memo", lists_dicts_and_the_memo},
        {"pickle: what is refused", what_is_refused},
        {"pickle: bounds", bounds},
        {"pickle: broken in every way", broken_in_every_way},
        {"pickle: no memory", no_memory},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof *cases);
}
