// torch.save's container before PyTorch 1.6: five pickles back to back, then the storages.
//
//   magic number | protocol version 1001 | {protocol_version, little_endian, type_sizes} | the object | [storage keys, in order]
//   for each key: i64 number of elements, the elements, nothing between and nothing after
//
// How large an element is stands in the persistent ids of the object alone, so all of them are read first; a key that none of them names
// could not be skipped and is refused.
#include "core/tensors_view.h"

#include "core/mem.h"
#include "core/torch_state.h"

#include <stdlib.h>
#include <string.h>

#define MAX_PICKLE   ((size_t)64 << 20)
#define MAX_STORAGES ((size_t)1 << 17)
static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"; // 0x1950a86a20f9469cfc6c, little-endian
enum { MAGIC = 10, VERSION = 1001 };

typedef struct storage {
    yd_torch_storage is;
    const uint8_t *bytes; // NULL: not among the keys
} storage;

typedef struct cursor {
    const uint8_t *bytes;
    size_t len, at;
} cursor;

typedef struct table {
    storage *rows; // by key
    size_t n, capacity;
} table;

static int bad(yd_err *err, const char *what)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, "storage", "a whole file", "%s", what);
}

static int next_pickle(cursor *c, yd_pickle **out, yd_err *err)
{
    const size_t left = c->len - c->at;
    size_t used = 0;
    const int rc = yd_pickle_parse(c->bytes + c->at, left < MAX_PICKLE ? left : MAX_PICKLE, out, &used, err);
    c->at += used;
    return rc;
}

// ---- what stands before the object

static int is_magic(const yd_pickle *p)
{
    size_t n = 0;
    const char *text = yd_pickle_text(p, yd_pickle_root(p), &n);
    return yd_pickle_kind_of(p, yd_pickle_root(p)) == YD_PK_LONG && n == MAGIC && memcmp(text, magic, MAGIC) == 0;
}

static int is_version(const yd_pickle *p)
{
    return yd_pickle_kind_of(p, yd_pickle_root(p)) == YD_PK_INT && yd_pickle_int(p, yd_pickle_root(p)) == VERSION;
}

static int is_little_endian(const yd_pickle *p)
{
    const yd_pkid id = yd_pickle_kind_of(p, yd_pickle_root(p)) == YD_PK_DICT
                           ? yd_pickle_get(p, yd_pickle_root(p), "little_endian")
                           : -1;
    return yd_pickle_kind_of(p, id) == YD_PK_BOOL && yd_pickle_int(p, id);
}

static int read_preamble(cursor *c, yd_err *err)
{
    static const struct {
        int (*holds)(const yd_pickle *p);
        const char *field, *accepted, *refusal;
    } parts[] = {
        {is_magic, "", "safetensors, or a checkpoint written by torch.save",
         "it is a Python pickle, but none of PyTorch's"},
        {is_version, "protocol_version", "1001", "it is of another version of PyTorch's container"},
        {is_little_endian, "little_endian", "true",
         "the file was written on a big-endian machine, or its preamble is damaged"},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        yd_pickle *p = NULL;
        int rc = next_pickle(c, &p, err);
        if (!rc && !parts[i].holds(p))
            rc = yd_fail_field(err, YD_E_CHECKPOINT, parts[i].field, parts[i].accepted, "%s", parts[i].refusal);
        yd_pickle_free(p);
        if (rc) return rc;
    }
    return 0;
}

// ---- the storages

static int by_key(const void *a, const void *b)
{
    const yd_torch_storage *x = &((const storage *)a)->is, *y = &((const storage *)b)->is;
    const int order = memcmp(x->key, y->key, x->key_len < y->key_len ? x->key_len : y->key_len);
    return order ? order : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

static storage *find(const table *t, const char *key, size_t len)
{
    const storage wanted = {.is = {.key = key, .key_len = len}};
    return t->n ? bsearch(&wanted, t->rows, t->n, sizeof wanted, by_key) : NULL;
}

// One row for each key that a persistent id names; they must agree on what it is.
static int merge(table *t, yd_err *err)
{
    size_t kept = 0;
    if (t->n) qsort(t->rows, t->n, sizeof *t->rows, by_key);
    for (size_t i = 0; i < t->n; i++) {
        const storage *last = kept ? &t->rows[kept - 1] : NULL;
        if (!last || by_key(last, &t->rows[i]) != 0)
            t->rows[kept++] = t->rows[i];
        else if (last->is.dtype != t->rows[i].is.dtype || last->is.numel != t->rows[i].is.numel)
            return bad(err, "two tensors disagree on the type or size of their storage");
    }
    t->n = kept;
    return 0;
}

static int collect(const yd_pickle *p, table *t, yd_err *err)
{
    for (size_t i = 0; i < yd_pickle_count(p); i++) {
        storage row = {.bytes = NULL};
        const char *why = NULL;
        void *rows = t->rows;
        if (yd_pickle_kind_of(p, (yd_pkid)i) != YD_PK_OUTSIDE) continue;
        int rc = yd_torch_read_storage(p, (yd_pkid)i, &row.is, &why, err);
        if (rc == 1) {
            return yd_fail_field(err, YD_E_CHECKPOINT, "storage", "storages of 32-bit floats and the like",
                                 "the file cannot be taken apart: it has a tensor that is %s", why);
        }
        if (!rc && t->n == MAX_STORAGES) rc = bad(err, "more than 131072 tensors");
        if (!rc) rc = yd_view_reserve(&rows, &t->capacity, t->n + 1, sizeof *t->rows, err);
        t->rows = rows;
        if (rc) return rc;
        t->rows[t->n++] = row;
    }
    return merge(t, err);
}

static int take_storage(cursor *c, storage *s, yd_err *err)
{
    uint64_t n = 0;
    size_t bytes = 0;
    if (c->len - c->at < 8) return bad(err, "the file ends before its tensors do (cut short?)");
    for (int i = 7; i >= 0; i--) n = n << 8 | c->bytes[c->at + (size_t)i];
    c->at += 8;
    if (n != s->is.numel) return bad(err, "a storage has another number of elements than its tensors say");
    if (yd_mul_size(s->is.numel, s->is.item, &bytes) || bytes > c->len - c->at)
        return bad(err, "the file ends within a tensor (cut short?)");
    s->bytes = c->bytes + c->at;
    c->at += bytes;
    return 0;
}

static int read_storages(cursor *c, const yd_pickle *keys, table *t, yd_err *err)
{
    const yd_pkid list = yd_pickle_root(keys);
    if (yd_pickle_kind_of(keys, list) != YD_PK_LIST) return bad(err, "the list of storages is no list");
    for (yd_pkcell at = yd_pickle_first(keys, list); at >= 0; at = yd_pickle_next(keys, at)) {
        size_t len = 0;
        const yd_pkid item = yd_pickle_item(keys, at);
        const char *key = yd_pickle_text(keys, item, &len);
        storage *s = key && yd_pickle_kind_of(keys, item) == YD_PK_TEXT ? find(t, key, len) : NULL;
        if (!s) return bad(err, "the list of storages names one that no tensor has");
        if (s->bytes) return bad(err, "the list of storages names one twice");
        const int rc = take_storage(c, s, err);
        if (rc) return rc;
    }
    if (c->at != c->len)
        return yd_fail_field(err, YD_E_CHECKPOINT, "storage", "",
                             "%zu bytes after the last tensor belong to none: the file is damaged", c->len - c->at);
    return 0;
}

static int find_storage(const void *user, const yd_torch_storage *s, const uint8_t **bytes, yd_err *err)
{
    const storage *row = find(user, s->key, s->key_len);
    if (!row || !row->bytes) return bad(err, "the file lacks the bytes of a tensor");
    *bytes = row->bytes;
    return 0;
}

int yd_torch_legacy_open(const void *bytes, size_t len, yd_safetensors **out, yd_err *err)
{
    cursor c = {bytes, len, 0};
    yd_pickle *object = NULL, *keys = NULL;
    table t = {0};
    *out = NULL;
    yd_safetensors *st = yd_view_new(YD_BOX_TORCH_LEGACY, bytes, len);
    if (!st) return yd_fail(err, YD_E_NOMEM, "no memory to open a model file");
    const yd_torch_bytes where = {find_storage, &t};
    int rc = read_preamble(&c, err);
    if (!rc) rc = next_pickle(&c, &object, err);
    if (!rc) rc = next_pickle(&c, &keys, err);
    if (!rc) rc = collect(object, &t, err);
    if (!rc) rc = read_storages(&c, keys, &t, err);
    if (!rc) rc = yd_torch_flatten(object, &where, st, err);
    yd_pickle_free(keys);
    yd_pickle_free(object);
    yd_free(t.rows);
    if (rc)
        yd_st_close(st);
    else
        *out = st;
    return rc;
}
