// safetensors: the header checked number by number, for the read view of core/tensors.c.
//
// The header's promises are checked once, at opening: afterwards `data` and `bytes` of every tensor lie inside the file, sizes equal shape
// times type, and the tensors tile the data without hole, overlap or rest. Names and metadata point into the parsed header. Values are
// not looked at.
// Read next: safetensors_convert.c, safetensors_write.c
#include "core/tensors_view.h"

#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8 };                   // the header's length, u64 little-endian
#define MAX_HEADER ((size_t)100000000) // the reference implementation's limit
static const char metadata_key[] = "__metadata__";
static const char dtype_names[] = "F32, F16, BF16, F64, I64, I32, I16, I8, U8, BOOL";

static const struct dtype_row {
    const char *name;
    yd_st_dtype dtype;
    unsigned bits;
} dtypes[] = {
    {"F32", YD_ST_F32, 32},          {"F16", YD_ST_F16, 16},      {"BF16", YD_ST_BF16, 16},
    {"F64", YD_ST_F64, 64},          {"I64", YD_ST_I64, 64},      {"I32", YD_ST_I32, 32},
    {"I16", YD_ST_I16, 16},          {"I8", YD_ST_I8, 8},         {"U8", YD_ST_U8, 8},
    {"BOOL", YD_ST_BOOL, 8},         {"U16", YD_ST_OTHER, 16},    {"U32", YD_ST_OTHER, 32},
    {"U64", YD_ST_OTHER, 64},        {"C64", YD_ST_OTHER, 64},    {"F8_E4M3", YD_ST_OTHER, 8},
    {"F8_E5M2", YD_ST_OTHER, 8},     {"F8_E8M0", YD_ST_OTHER, 8}, {"F8_E4M3FNUZ", YD_ST_OTHER, 8},
    {"F8_E5M2FNUZ", YD_ST_OTHER, 8}, {"F6_E2M3", YD_ST_OTHER, 6}, {"F6_E3M2", YD_ST_OTHER, 6},
    {"F4", YD_ST_OTHER, 4},
};

static const struct dtype_row *dtype_by_name(const char *name)
{
    for (size_t i = 0; name && i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    return NULL;
}

// ---- one tensor of the header

static int bad_tensor(yd_err *err, const char *name, const char *accepted, const char *what)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, name, accepted, "tensor '%.200s': %s", name, what);
}

// Bytes of `numel` elements; -1 on overflow or when they fill no whole number of bytes (sub-byte types).
static int byte_size(size_t numel, unsigned bits, size_t *bytes)
{
    if (bits % 8 == 0) return yd_mul_size(numel, bits / 8, bytes);
    size_t total;
    if (yd_mul_size(numel, bits, &total) || total % 8) return -1;
    *bytes = total / 8;
    return 0;
}

static int read_shape(const yd_json *j, yd_jid shape, yd_st_tensor *t, yd_err *err)
{
    if (yd_json_type_of(j, shape) != YD_J_ARRAY)
        return bad_tensor(err, t->name, "an array of sizes", "it has no 'shape'");
    if (yd_json_count(j, shape) > YD_ST_MAX_DIMS)
        return bad_tensor(err, t->name, "at most 8 dimensions", "its shape has too many dimensions");
    t->numel = 1;
    for (yd_jid d = yd_json_first(j, shape); d >= 0; d = yd_json_next(j, d)) {
        long long size;
        if (yd_json_integer(j, d, 0, INT64_MAX, &size))
            return bad_tensor(err, t->name, "integers from 0", "its shape holds something that is no size");
        if (yd_mul_size(t->numel, (size_t)size, &t->numel)) return bad_tensor(err, t->name, "", "its shape overflows");
        t->dims[t->ndim++] = size;
    }
    return 0;
}

static int read_offsets(const yd_json *j, yd_jid pair, const char *name, size_t data_len, size_t *begin, size_t *end,
                        yd_err *err)
{
    long long b, e;
    yd_jid first = yd_json_first(j, pair);
    if (yd_json_type_of(j, pair) != YD_J_ARRAY || yd_json_count(j, pair) != 2 ||
        yd_json_integer(j, first, 0, INT64_MAX, &b) || yd_json_integer(j, yd_json_next(j, first), 0, INT64_MAX, &e))
        return bad_tensor(err, name, "two integers [begin, end]", "it has no usable 'data_offsets'");
    if (b > e) return bad_tensor(err, name, "begin <= end", "its data ends before it begins");
    if ((size_t)e > data_len)
        return yd_fail_field(err, YD_E_CHECKPOINT, name, "",
                             "tensor '%.200s': its data ends at byte %lld, the file has only %zu (cut short?)", name, e,
                             data_len);
    *begin = (size_t)b;
    *end = (size_t)e;
    return 0;
}

static int read_tensor(const yd_json *j, yd_jid entry, const uint8_t *data, size_t data_len, yd_st_tensor *t,
                       yd_err *err)
{
    *t = (yd_st_tensor){.name = yd_json_key(j, entry)};
    if (yd_json_type_of(j, entry) != YD_J_OBJECT)
        return bad_tensor(err, t->name, "an object with dtype, shape and data_offsets", "its entry is no object");
    const struct dtype_row *row = dtype_by_name(yd_json_string(j, yd_json_get(j, entry, "dtype")));
    if (!row) return bad_tensor(err, t->name, dtype_names, "its 'dtype' is missing or unknown");
    t->dtype = row->dtype;
    size_t begin = 0, end = 0, need;
    int rc = read_shape(j, yd_json_get(j, entry, "shape"), t, err);
    if (rc == 0) rc = read_offsets(j, yd_json_get(j, entry, "data_offsets"), t->name, data_len, &begin, &end, err);
    if (rc) return rc;
    if (byte_size(t->numel, row->bits, &need))
        return bad_tensor(err, t->name, "", "its shape gives no possible size in bytes");
    if (need != end - begin)
        return yd_fail_field(err, YD_E_CHECKPOINT, t->name, "",
                             "tensor '%.200s': shape and dtype need %zu bytes, its offsets span %zu", t->name, need,
                             end - begin);
    t->data = data + begin;
    t->bytes = need;
    return 0;
}

// ---- the whole header

static int by_place(const void *a, const void *b)
{
    const yd_st_tensor *x = a, *y = b;
    uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    if (p != q) return p < q ? -1 : 1;
    return (x->bytes > y->bytes) -
           (x->bytes < y->bytes); // empty tensors come before the one that starts where they lie
}

// In order of place, every tensor must begin where the one before ended, and the last must end with the file.
static int check_tiling(yd_safetensors *st, const uint8_t *data, size_t data_len, yd_err *err)
{
    size_t at = 0;
    qsort(st->tensors, st->count, sizeof *st->tensors, by_place);
    for (size_t i = 0; i < st->count; i++) {
        const yd_st_tensor *t = &st->tensors[i];
        size_t begin = (size_t)((const uint8_t *)t->data - data);
        if (begin != at)
            return yd_fail_field(err, YD_E_CHECKPOINT, t->name, "",
                                 "tensor '%.200s': begins at byte %zu of the data, %s", t->name, begin,
                                 begin < at ? "inside another tensor" : "after a hole");
        at += t->bytes;
    }
    if (at != data_len)
        return yd_fail(err, YD_E_CHECKPOINT, "%zu bytes after the last tensor belong to none: the file is damaged",
                       data_len - at);
    return yd_view_sort(st, err);
}

static int check_metadata(yd_safetensors *st, yd_err *err)
{
    const yd_json *j = st->header;
    st->metadata = yd_json_get(j, 0, metadata_key);
    if (st->metadata < 0) return 0;
    if (yd_json_type_of(j, st->metadata) != YD_J_OBJECT)
        return yd_fail_field(err, YD_E_CHECKPOINT, metadata_key, "an object of strings", "__metadata__ is no object");
    for (yd_jid m = yd_json_first(j, st->metadata); m >= 0; m = yd_json_next(j, m))
        if (!yd_json_string(j, m))
            return yd_fail_field(err, YD_E_CHECKPOINT, metadata_key, "strings",
                                 "__metadata__: the value of '%.100s' is no string", yd_json_key(j, m));
    return 0;
}

static int read_entries(yd_safetensors *st, const uint8_t *data, size_t data_len, yd_err *err)
{
    const yd_json *j = st->header;
    if (yd_json_type_of(j, 0) != YD_J_OBJECT) return yd_fail(err, YD_E_CHECKPOINT, "the header is no JSON object");
    int rc = check_metadata(st, err);
    if (rc) return rc;
    st->tensors = yd_calloc((size_t)yd_json_count(j, 0), sizeof *st->tensors);
    if (!st->tensors) return yd_fail(err, YD_E_NOMEM, "no memory for the list of %d tensors", yd_json_count(j, 0));
    for (yd_jid e = yd_json_first(j, 0); e >= 0; e = yd_json_next(j, e)) {
        if (e == st->metadata) continue;
        rc = read_tensor(j, e, data, data_len, &st->tensors[st->count], err);
        if (rc) return rc;
        st->count++;
    }
    return check_tiling(st, data, data_len, err);
}

static int read_header(yd_safetensors *st, const uint8_t *bytes, size_t len, yd_err *err)
{
    uint64_t n = 0;
    if (len < PREFIX) return yd_fail(err, YD_E_CHECKPOINT, "%zu bytes are too few for a safetensors file", len);
    for (int i = 0; i < PREFIX; i++) n |= (uint64_t)bytes[i] << (8 * i);
    if (n > MAX_HEADER)
        return yd_fail(err, YD_E_CHECKPOINT,
                       "no safetensors file: the header would have %llu bytes, at most %zu are accepted",
                       (unsigned long long)n, MAX_HEADER);
    if (n > len - PREFIX)
        return yd_fail(err, YD_E_CHECKPOINT,
                       "the header would have %llu bytes, only %zu follow: no safetensors file, or cut short",
                       (unsigned long long)n, len - PREFIX);
    size_t header_len = (size_t)n;
    if (header_len == 0 || bytes[PREFIX] != '{')
        return yd_fail(err, YD_E_CHECKPOINT, "no safetensors file: the header does not begin with {");
    yd_err why = {0};
    int rc = yd_json_parse((const char *)bytes + PREFIX, header_len, 0, &st->header, &why);
    if (rc == YD_E_NOMEM) return yd_fail(err, rc, "%s", why.detail);
    if (rc) return yd_fail(err, YD_E_CHECKPOINT, "the header is not valid JSON: %s", why.detail);
    return read_entries(st, bytes + PREFIX + header_len, len - PREFIX - header_len, err);
}

int yd_st_open_memory(const void *bytes, size_t len, yd_safetensors **out, yd_err *err)
{
    *out = NULL;
    yd_safetensors *st = yd_view_new(YD_BOX_SAFETENSORS, bytes, len);
    if (!st) return yd_fail(err, YD_E_NOMEM, "no memory to open a model file");
    int rc = read_header(st, bytes, len, err);
    if (rc) {
        yd_st_close(st);
        return rc;
    }
    *out = st;
    return 0;
}

int yd_st_open(const char *path, yd_safetensors **out, yd_err *err)
{
    return yd_view_open(path, yd_st_open_memory, out, err);
}
