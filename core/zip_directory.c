// Reading the directory of a zip file: see zip_directory.h.
//
// Offsets are u64 from the start of the file and compared with its length before they become pointers. The order of work: the end record,
// zip64's end record where a locator stands before it, the entries, then the whole list for overlaps and names that are there twice.
#include "core/zip_directory.h"

#include "core/mem.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES ((uint64_t)1 << 17)
enum { END = 22, END64 = 56, LOCATOR = 20, CENTRAL = 46, LOCAL = 30, MAX_COMMENT = 65535 };
enum { ENCRYPTED = 1 | 1 << 6 | 1 << 13 };

typedef struct file {
    const uint8_t *b;
    uint64_t len;
    yd_err *err;
} file;

// Where the entries' list lies.
typedef struct listing {
    uint64_t at, bytes, count;
} listing;

static uint64_t number(const file *f, uint64_t at, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes - 1; i >= 0; i--) v = v << 8 | f->b[at + (uint64_t)i];
    return v;
}

static int is_at(const file *f, uint64_t at, uint64_t room, uint32_t signature)
{
    return at <= f->len && f->len - at >= room && number(f, at, 4) == signature;
}

static int damaged(const file *f, const char *what)
{
    return yd_fail_field(f->err, YD_E_CHECKPOINT, "", "a whole file", "the zip directory is damaged: %s", what);
}

static int bad(const file *f, const yd_zip_entry *e, const char *accepted, const char *what)
{
    char name[81];
    size_t n = e->name_len < sizeof name ? e->name_len : sizeof name - 1;
    for (size_t i = 0; i < n; i++) name[i] = e->name[i];
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || (unsigned char)name[i] >= 0x7f) name[i] = '?';
    name[n] = 0;
    return yd_fail_field(f->err, YD_E_CHECKPOINT, name, accepted, "zip entry '%s': %s", name, what);
}

// ---- the end records

static int find_end(const file *f, uint64_t *at)
{
    const uint64_t least = f->len > END + MAX_COMMENT ? f->len - END - MAX_COMMENT : 0;
    if (f->len < END) return damaged(f, "the file is too short");
    for (uint64_t p = f->len - END;; p--) {
        if (is_at(f, p, END, 0x06054b50) && number(f, p + 20, 2) == f->len - p - END) {
            *at = p;
            return 0;
        }
        if (p == least) return damaged(f, "its end is not there, the file is cut short");
    }
}

// Does a field of the old end record agree with zip64's? All ones mean "see there".
static int agrees(uint64_t narrow, uint64_t full, int bytes)
{
    return narrow == full || narrow == (UINT64_C(1) << (8 * bytes)) - 1;
}

static int read_end64(const file *f, uint64_t end, listing *l, uint64_t *directory_end)
{
    const uint64_t locator = end - LOCATOR, at = number(f, locator + 8, 8);
    if (number(f, locator + 4, 4) != 0 || number(f, locator + 16, 4) > 1) return damaged(f, "it spans several disks");
    if (at > locator || !is_at(f, at, END64, 0x06064b50))
        return damaged(f, "zip64's end record is not where it should be");
    const uint64_t size = number(f, at + 4, 8); // of what follows this field
    if (size < END64 - 12 || size != locator - at - 12) return damaged(f, "zip64's end record has another size");
    if (number(f, at + 16, 4) || number(f, at + 20, 4) || number(f, at + 24, 8) != number(f, at + 32, 8))
        return damaged(f, "it spans several disks");
    *l = (listing){.count = number(f, at + 32, 8), .bytes = number(f, at + 40, 8), .at = number(f, at + 48, 8)};
    *directory_end = at;
    if (!agrees(number(f, end + 10, 2), l->count, 2) || !agrees(number(f, end + 12, 4), l->bytes, 4) ||
        !agrees(number(f, end + 16, 4), l->at, 4))
        return damaged(f, "its two end records contradict each other");
    return 0;
}

static int read_end(const file *f, listing *l)
{
    uint64_t end = 0, directory_end = 0;
    int rc = find_end(f, &end);
    if (rc) return rc;
    if (end >= LOCATOR && is_at(f, end - LOCATOR, LOCATOR, 0x07064b50)) {
        rc = read_end64(f, end, l, &directory_end);
    } else {
        *l = (listing){.count = number(f, end + 10, 2), .bytes = number(f, end + 12, 4), .at = number(f, end + 16, 4)};
        directory_end = end;
        if (number(f, end + 4, 2) || number(f, end + 6, 2) || number(f, end + 8, 2) != l->count)
            rc = damaged(f, "it spans several disks");
    }
    if (rc) return rc;
    if (l->at > directory_end || l->bytes != directory_end - l->at)
        return damaged(f, "it does not end where its end record begins");
    if (l->count > MAX_ENTRIES || l->count > l->bytes / CENTRAL)
        return damaged(f, "it has more entries than room for them, or more than 131072");
    return 0;
}

// ---- one entry

// Sizes and offset that are all ones stand in the extra field 0x0001, in this order.
static int read_extra64(const file *f, uint64_t at, uint64_t len, uint64_t *wide[3])
{
    while (len >= 4) {
        const uint64_t id = number(f, at, 2), n = number(f, at + 2, 2);
        uint64_t have = n, p = at + 4;
        if (n > len - 4) return -1;
        for (int i = 0; id == 1 && i < 3; i++) {
            if (*wide[i] != UINT32_MAX) continue;
            if (have < 8) return -1;
            *wide[i] = number(f, p, 8);
            p += 8, have -= 8;
        }
        if (id == 1) return 0;
        at += 4 + n, len -= 4 + n;
    }
    return 0;
}

static int check_name(const file *f, const yd_zip_entry *e)
{
    const char *s = e->name;
    const size_t n = e->name_len;
    if (n == 0 || s[0] == '/') return bad(f, e, "a relative name", "its name is empty or absolute");
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < 0x20 || s[i] == '\\' || s[i] == 0x7f)
            return bad(f, e, "a name without them", "its name has a backslash or a control character");
        const int begins = i == 0 || s[i - 1] == '/';
        if (begins && n - i >= 2 && s[i] == '.' && s[i + 1] == '.' && (n - i == 2 || s[i + 2] == '/'))
            return bad(f, e, "a name without ..", "its name leads out of the archive");
    }
    return 0;
}

// The local header says where the data begins. What else it says must not contradict the directory; its sizes may be 0.
static int read_local(const file *f, uint64_t at, uint64_t flags, uint64_t limit, yd_zip_entry *e)
{
    if (at > limit || limit - at < LOCAL || !is_at(f, at, LOCAL, 0x04034b50))
        return bad(f, e, "", "there is no entry where the directory says");
    const uint64_t name = number(f, at + 26, 2), extra = number(f, at + 28, 2), data = at + LOCAL + name + extra;
    if (data > limit || e->bytes > limit - data) return bad(f, e, "", "its bytes leave the file (cut short?)");
    if (name != e->name_len || memcmp(f->b + at + LOCAL, e->name, e->name_len) != 0)
        return bad(f, e, "", "the directory has another name for it");
    if (number(f, at + 8, 2) != 0 || ((number(f, at + 6, 2) ^ flags) & ENCRYPTED))
        return bad(f, e, "", "the directory has another method for it");
    e->data = f->b + data;
    return 0;
}

// The entry at *at, which moves to the next. end: where the directory ends; limit: where it begins.
static int read_entry(const file *f, uint64_t *at, uint64_t end, uint64_t limit, yd_zip_entry *e)
{
    if (end - *at < CENTRAL || !is_at(f, *at, CENTRAL, 0x02014b50))
        return damaged(f, "an entry is not where it should be");
    const uint64_t p = *at, flags = number(f, p + 8, 2), method = number(f, p + 10, 2);
    const uint64_t name = number(f, p + 28, 2), extra = number(f, p + 30, 2), comment = number(f, p + 32, 2);
    uint64_t size = number(f, p + 24, 4), packed = number(f, p + 20, 4), local = number(f, p + 42, 4);
    if (name + extra + comment > end - p - CENTRAL) return damaged(f, "an entry leaves it");
    *e = (yd_zip_entry){
        .name = (const char *)f->b + p + CENTRAL, .name_len = (size_t)name, .crc = (uint32_t)number(f, p + 16, 4)};
    *at = p + CENTRAL + name + extra + comment;
    int rc = check_name(f, e);
    if (rc) return rc;
    if (flags & ENCRYPTED) return bad(f, e, "entries that are not", "it is encrypted");
    if (method != 0) return bad(f, e, "stored entries, as torch.save writes them", "it is compressed");
    if (number(f, p + 34, 2) != 0) return damaged(f, "it spans several disks");
    if (read_extra64(f, p + CENTRAL + name, extra, (uint64_t *[3]){&size, &packed, &local}))
        return bad(f, e, "", "its zip64 field is damaged");
    if (size != packed) return bad(f, e, "", "it is stored but has two sizes");
    if (size > f->len) return bad(f, e, "", "its bytes leave the file (cut short?)");
    e->bytes = (size_t)size;
    return read_local(f, local, flags, limit, e);
}

// ---- the whole list

static int by_place(const void *a, const void *b)
{
    const yd_zip_entry *x = a, *y = b;
    const uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    return (p > q) - (p < q);
}

static int compare_names(const char *a, size_t n, const char *b, size_t m)
{
    const int order = memcmp(a, b, n < m ? n : m);
    return order ? order : (n > m) - (n < m);
}

static int by_name(const void *a, const void *b)
{
    const yd_zip_entry *x = a, *y = b;
    return compare_names(x->name, x->name_len, y->name, y->name_len);
}

// An entry reaches from its local header, which ends with name and extra field, to the end of its data.
static int check_list(const file *f, yd_zip *z)
{
    if (z->count) qsort(z->entries, z->count, sizeof *z->entries, by_place);
    for (size_t i = 1; i < z->count; i++) {
        const yd_zip_entry *before = &z->entries[i - 1], *e = &z->entries[i];
        if ((size_t)(e->data - before->data) < before->bytes + LOCAL + e->name_len)
            return bad(f, e, "", "it overlaps another entry");
    }
    if (z->count) qsort(z->entries, z->count, sizeof *z->entries, by_name);
    for (size_t i = 1; i < z->count; i++)
        if (by_name(&z->entries[i - 1], &z->entries[i]) == 0) return bad(f, &z->entries[i], "", "it is there twice");
    return 0;
}

int yd_zip_read(const void *bytes, size_t len, yd_zip *out, yd_err *err)
{
    const file f = {bytes, len, err};
    listing l = {0};
    *out = (yd_zip){0};
    int rc = read_end(&f, &l);
    if (rc) return rc;
    out->entries = yd_calloc((size_t)l.count, sizeof *out->entries);
    if (!out->entries) return yd_fail(err, YD_E_NOMEM, "no memory for the directory of a zip file");
    uint64_t at = l.at;
    for (; !rc && out->count < l.count; out->count++)
        rc = read_entry(&f, &at, l.at + l.bytes, l.at, &out->entries[out->count]);
    if (!rc && at != l.at + l.bytes) rc = damaged(&f, "it has more in it than its entries");
    if (!rc && out->count) out->first = out->entries[0];
    if (!rc) rc = check_list(&f, out);
    if (rc) yd_zip_free(out);
    return rc;
}

void yd_zip_free(yd_zip *z)
{
    yd_free(z->entries);
    *z = (yd_zip){0};
}

const yd_zip_entry *yd_zip_find(const yd_zip *z, const char *name, size_t name_len)
{
    const yd_zip_entry key = {.name = name, .name_len = name_len};
    return z->count ? bsearch(&key, z->entries, z->count, sizeof key, by_name) : NULL;
}
