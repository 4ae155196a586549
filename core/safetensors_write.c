// Writing safetensors: collect, lay out, check the header with our own reader's eyes, write in one atomic step.
//
// Layout as the reference does it: larger element types first, then by name, so that every tensor is aligned to its type; the header is
// padded with spaces to a multiple of 8. The same parts give the same bytes in whatever order they were added.
// The writer copies names and metadata and borrows the data. One thread at a time. Read next: safetensors.c, file.c
#include "core/safetensors.h"

#include "core/file.h"
#include "core/json.h"
#include "core/mem.h"
#include "core/parts.h"
#include "core/seal.h"
#include "core/sha256.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 8 };

typedef struct entry {
    char *name;
    yd_st_dtype dtype;
    int ndim;
    int64_t dims[YD_ST_MAX_DIMS];
    const void *data;
    size_t bytes;
} entry;

typedef struct meta {
    char *key, *value;
} meta;

struct yd_st_writer {
    entry *entries;
    size_t count, capacity;
    meta *metadata;
    size_t metas, meta_capacity;
    int sealed;
};

static const struct type_row {
    const char *name;
    size_t bytes;
} types[] = {
    [YD_ST_F32] = {"F32", 4}, [YD_ST_F16] = {"F16", 2},   [YD_ST_BF16] = {"BF16", 2}, [YD_ST_F64] = {"F64", 8},
    [YD_ST_I64] = {"I64", 8}, [YD_ST_I32] = {"I32", 4},   [YD_ST_I16] = {"I16", 2},   [YD_ST_I8] = {"I8", 1},
    [YD_ST_U8] = {"U8", 1},   [YD_ST_BOOL] = {"BOOL", 1},
};

static int no_memory(yd_err *err)
{
    return yd_fail(err, YD_E_NOMEM, "no memory to write a model file");
}

// ---- collecting

yd_st_writer *yd_st_writer_new(void)
{
    return yd_calloc(1, sizeof(yd_st_writer));
}

void yd_st_writer_free(yd_st_writer *w)
{
    if (!w) return;
    for (size_t i = 0; i < w->count; i++) yd_free(w->entries[i].name);
    for (size_t i = 0; i < w->metas; i++) {
        yd_free(w->metadata[i].key);
        yd_free(w->metadata[i].value);
    }
    yd_free(w->entries);
    yd_free(w->metadata);
    yd_free(w);
}

// Room for one more element of the given size; 0 or -1.
static int reserve(void **array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) return 0;
    size_t want = *capacity ? 2 * *capacity : 16, bytes;
    if (yd_mul_size(want, size, &bytes)) return -1;
    void *bigger = yd_realloc(*array, bytes);
    if (!bigger) return -1;
    *array = bigger;
    *capacity = want;
    return 0;
}

int yd_st_writer_metadata(yd_st_writer *w, const char *key, const char *value, yd_err *err)
{
    char *copy = yd_strdup(value);
    if (!copy) return no_memory(err);
    for (size_t i = 0; i < w->metas; i++) {
        if (strcmp(w->metadata[i].key, key) != 0) continue;
        yd_free(w->metadata[i].value);
        w->metadata[i].value = copy;
        return 0;
    }
    void *array = w->metadata;
    char *key_copy = reserve(&array, w->metas, &w->meta_capacity, sizeof *w->metadata) ? NULL : yd_strdup(key);
    w->metadata = array;
    if (!key_copy) {
        yd_free(copy);
        return no_memory(err);
    }
    w->metadata[w->metas++] = (meta){key_copy, copy};
    return 0;
}

int yd_st_writer_add(yd_st_writer *w, const char *name, yd_st_dtype dt, int ndim, const int64_t *dims, const void *data,
                     yd_err *err)
{
    if ((unsigned)dt >= YD_ST_OTHER)
        return yd_fail_field(err, YD_E_INVALID, name, "", "tensor '%.200s': this type cannot be written", name);
    if (ndim < 0 || ndim > YD_ST_MAX_DIMS)
        return yd_fail_field(err, YD_E_INVALID, name, "0 to 8 dimensions", "tensor '%.200s': %d dimensions", name,
                             ndim);
    if (strcmp(name, "__metadata__") == 0)
        return yd_fail_field(err, YD_E_INVALID, name, "", "no tensor may be called __metadata__");
    entry e = {.dtype = dt, .ndim = ndim, .data = data, .bytes = types[dt].bytes};
    for (int i = 0; i < ndim; i++) {
        if (dims[i] < 0 || yd_mul_size(e.bytes, (size_t)dims[i], &e.bytes))
            return yd_fail_field(err, YD_E_INVALID, name, "", "tensor '%.200s': impossible shape", name);
        e.dims[i] = dims[i];
    }
    void *array = w->entries;
    if (reserve(&array, w->count, &w->capacity, sizeof *w->entries) == 0) e.name = yd_strdup(name);
    w->entries = array;
    if (!e.name) return no_memory(err);
    w->entries[w->count++] = e;
    return 0;
}

int yd_st_writer_seal(yd_st_writer *w, yd_err *err)
{
    char empty[sizeof YD_SEAL_ALGORITHM + YD_SEAL_DIGITS];
    snprintf(empty, sizeof empty, "%s%0*d", YD_SEAL_ALGORITHM, YD_SEAL_DIGITS, 0);
    int rc = yd_st_writer_metadata(w, YD_SEAL_KEY, empty, err);
    if (!rc) rc = yd_st_writer_metadata(w, YD_SEAL_MARK, YD_SEAL_KEY, err);
    if (!rc) w->sealed = 1;
    return rc;
}

// ---- the header

typedef struct text {
    char *s;
    size_t len, cap;
    int failed; // memory ran out: later calls do nothing
} text;

static void text_reserve(text *t, size_t more)
{
    size_t need;
    if (t->failed || (t->s && t->cap - t->len > more)) return;
    if (yd_add_size(t->len, more + 1, &need) || yd_mul_size(need, 2, &need)) t->failed = 1;
    char *bigger = t->failed ? NULL : yd_realloc(t->s, need);
    if (!bigger) {
        t->failed = 1;
        return;
    }
    t->s = bigger;
    t->cap = need;
}

__attribute__((format(printf, 2, 3))) static void text_add(text *t, const char *fmt, ...)
{
    text_reserve(t, 128); // every piece is a few numbers
    if (t->failed) return;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->s + t->len, t->cap - t->len, fmt, ap);
    va_end(ap);
    t->len += (size_t)n;
}

static void text_quote(text *t, const char *s)
{
    size_t n = yd_json_quote(NULL, 0, s);
    text_reserve(t, n);
    if (t->failed) return;
    yd_json_quote(t->s + t->len, t->cap - t->len, s);
    t->len += n;
}

static void add_metadata(text *t, const yd_st_writer *w)
{
    text_add(t, "\"__metadata__\":{");
    for (size_t i = 0; i < w->metas; i++) {
        if (i) text_add(t, ",");
        text_quote(t, w->metadata[i].key);
        text_add(t, ":");
        text_quote(t, w->metadata[i].value);
    }
    text_add(t, "}");
}

static void add_entry(text *t, const entry *e, size_t begin)
{
    text_quote(t, e->name);
    text_add(t, ":{\"dtype\":\"%s\",\"shape\":[", types[e->dtype].name);
    for (int i = 0; i < e->ndim; i++) text_add(t, "%s%lld", i ? "," : "", (long long)e->dims[i]);
    text_add(t, "],\"data_offsets\":[%zu,%zu]}", begin, begin + e->bytes);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const meta *)a)->key, ((const meta *)b)->key);
}

static int by_size_and_name(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    size_t p = types[x->dtype].bytes, q = types[y->dtype].bytes;
    return p != q ? (p > q ? -1 : 1) : strcmp(x->name, y->name);
}

// Lay the parts out and write the header's text, padded. Refuses what a reader would refuse: names twice, broken UTF-8.
static int make_header(yd_st_writer *w, text *t, yd_err *err)
{
    size_t begin = 0, end;
    if (w->count) qsort(w->entries, w->count, sizeof *w->entries, by_size_and_name);
    if (w->metas) qsort(w->metadata, w->metas, sizeof *w->metadata, by_key);
    text_add(t, "{");
    if (w->metas) add_metadata(t, w);
    for (size_t i = 0; i < w->count; i++) {
        const entry *e = &w->entries[i];
        if (yd_add_size(begin, e->bytes, &end))
            return yd_fail(err, YD_E_INVALID, "the tensors have more bytes than a file can hold");
        if (i || w->metas) text_add(t, ",");
        add_entry(t, e, begin);
        begin = end;
    }
    text_add(t, "}");
    while (!t->failed && t->len % ALIGN) text_add(t, " ");
    if (t->failed) return no_memory(err);
    yd_json *check = NULL;
    yd_err why = {0};
    int rc = yd_json_parse(t->s, t->len, 0, &check, &why);
    yd_json_free(check);
    if (rc == YD_E_NOMEM) return no_memory(err);
    return rc ? yd_fail(err, YD_E_INVALID, "a name of this model file cannot be written: %s", why.detail) : 0;
}

// ---- the file

static void length_prefix(const text *header, uint8_t prefix[8])
{
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)((uint64_t)header->len >> (8 * i));
}

// Put the checksum of everything, with zeros in its place, in its place.
static void seal(const yd_st_writer *w, text *header)
{
    uint8_t prefix[8], digest[32];
    char digits[YD_SEAL_DIGITS + 1];
    yd_sha256 s;
    length_prefix(header, prefix);
    yd_sha256_init(&s);
    yd_sha256_update(&s, prefix, sizeof prefix);
    yd_sha256_update(&s, header->s, header->len);
    for (size_t i = 0; i < w->count; i++) yd_sha256_update(&s, w->entries[i].data, w->entries[i].bytes);
    yd_sha256_final(&s, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(digits + 2 * i, 3, "%02x", digest[i]);
    char *place = memmem(header->s, header->len, YD_SEAL_BEFORE, sizeof YD_SEAL_BEFORE - 1);
    memcpy(place + sizeof YD_SEAL_BEFORE - 1, digits, YD_SEAL_DIGITS);
}

// Where the bytes go: one file, or one in parts.
typedef struct sink {
    yd_file_writer file;
    yd_parts_writer *parts; // NULL: file
} sink;

static int sink_write(sink *s, const void *bytes, size_t len, yd_err *err)
{
    return s->parts ? yd_parts_writer_write(s->parts, bytes, len, err)
                    : yd_file_writer_write(&s->file, bytes, len, err);
}

static int write_all(const yd_st_writer *w, const text *header, sink *s, yd_err *err)
{
    uint8_t prefix[8];
    length_prefix(header, prefix);
    int rc = sink_write(s, prefix, sizeof prefix, err);
    if (rc == 0) rc = sink_write(s, header->s, header->len, err);
    for (size_t i = 0; rc == 0 && i < w->count; i++) rc = sink_write(s, w->entries[i].data, w->entries[i].bytes, err);
    return rc;
}

static int write_in_a_piece(const yd_st_writer *w, const text *header, const char *path, yd_err *err)
{
    sink s = {.file = {.fd = -1}};
    int rc = yd_file_writer_open(&s.file, path, err);
    if (rc) return rc;
    rc = write_all(w, header, &s, err);
    if (rc == 0) return yd_file_writer_commit(&s.file, err);
    yd_file_writer_abort(&s.file);
    return rc;
}

static int write_in_parts(const yd_st_writer *w, const text *header, const char *path, size_t part_bytes, yd_err *err)
{
    sink s = {.file = {.fd = -1}};
    int rc = yd_parts_writer_open(path, part_bytes, &s.parts, err);
    if (rc) return rc;
    rc = write_all(w, header, &s, err);
    if (rc == 0) return yd_parts_writer_commit(s.parts, err);
    yd_parts_writer_abort(s.parts);
    return rc;
}

int yd_st_writer_save_parts(yd_st_writer *w, const char *path, size_t part_bytes, yd_err *err)
{
    text header = {0};
    int rc = make_header(w, &header, err);
    if (rc == 0 && w->sealed) seal(w, &header);
    if (rc == 0 && part_bytes)
        rc = write_in_parts(w, &header, path, part_bytes, err);
    else if (rc == 0) {
        yd_parts_list *old = yd_parts_list_of(path);
        rc = write_in_a_piece(w, &header, path, err);
        if (rc == 0)
            yd_parts_list_remove(old);
        else
            yd_parts_list_free(old);
    }
    yd_free(header.s);
    return rc;
}

int yd_st_writer_save(yd_st_writer *w, const char *path, yd_err *err)
{
    return yd_st_writer_save_parts(w, path, 0, err);
}
