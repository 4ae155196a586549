// Files in parts: see parts.h for the format and what a crash can do.
//
// The index is a text of lines with a fixed form; a name in it is a plain one, so that an index from elsewhere can make nobody read
// outside its folder. Reading maps the parts behind each other over one reserved stretch of addresses and checks each one's digest.
// Owns nothing beyond a writer's buffer and lists. Read next: core/tensors.c, who maps files
#include "core/parts.h"

#include "core/file.h"
#include "core/mem.h"
#include "core/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEX = 64, NAME_DIGITS = 12, NAME_MAX_BYTES = 256, MAX_INDEX_BYTES = YD_PARTS_MAX * (NAME_MAX_BYTES + 96) + 64 };
#define MAX_BYTES ((uint64_t)64 << 30) // of a whole file

typedef struct part {
    size_t bytes;
    char digest[HEX + 1];
    char name[NAME_MAX_BYTES];
} part;

struct yd_parts_list {
    char *folder; // with its slash, "" for none
    part *parts;
    size_t count, capacity;
};

// ---- lists of parts

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    char *s = yd_malloc(n + 1);
    if (!s) return NULL;
    memcpy(s, path, n);
    s[n] = '\0';
    return s;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void yd_parts_list_free(yd_parts_list *l)
{
    if (!l) return;
    yd_free(l->folder);
    yd_free(l->parts);
    yd_free(l);
}

static yd_parts_list *list_new(const char *path)
{
    yd_parts_list *l = yd_calloc(1, sizeof *l);
    if (l && (l->folder = folder_of(path))) return l;
    yd_parts_list_free(l);
    return NULL;
}

// Room for one more; NULL when memory is out.
static part *list_push(yd_parts_list *l)
{
    if (l->count == l->capacity) {
        const size_t want = l->capacity ? 2 * l->capacity : 16; // at most 2 * YD_PARTS_MAX
        part *bigger = yd_realloc(l->parts, want * sizeof *bigger);
        if (!bigger) return NULL;
        l->parts = bigger;
        l->capacity = want;
    }
    return &l->parts[l->count++];
}

static int list_has(const yd_parts_list *l, const char *name)
{
    for (size_t i = 0; l && i < l->count; i++)
        if (strcmp(l->parts[i].name, name) == 0) return 1;
    return 0;
}

static char *path_of(const yd_parts_list *l, const char *name)
{
    const size_t n = strlen(l->folder), m = strlen(name);
    char *s = yd_malloc(n + m + 1);
    if (!s) return NULL;
    memcpy(s, l->folder, n);
    memcpy(s + n, name, m + 1);
    return s;
}

// Delete the files of l that are not in keep (may be NULL).
static void remove_files(const yd_parts_list *l, const yd_parts_list *keep)
{
    for (size_t i = 0; l && i < l->count; i++) {
        char *path = list_has(keep, l->parts[i].name) ? NULL : path_of(l, l->parts[i].name);
        if (path) unlink(path);
        yd_free(path);
    }
}

void yd_parts_list_remove(yd_parts_list *l)
{
    remove_files(l, NULL);
    yd_parts_list_free(l);
}

// ---- the index

static int bad_index(yd_err *err, size_t line, const char *what)
{
    return yd_fail_field(err, YD_E_CHECKPOINT, "", "the index of a file in parts, as it was written",
                         "line %zu of its index %s", line, what);
}

// "part BYTES SHA256 NAME", without its newline.
static int parse_line(const char *s, size_t len, part *p)
{
    uint64_t bytes = 0;
    const char *end = s + len;
    if (len < 5 || memcmp(s, "part ", 5) != 0) return -1;
    s += 5;
    for (; s < end && *s >= '0' && *s <= '9'; s++) {
        bytes = bytes * 10 + (uint64_t)(*s - '0');
        if (bytes > YD_PARTS_MOST) return -1;
    }
    if (bytes == 0 || end - s < HEX + 3 || *s++ != ' ') return -1;
    if (strspn(s, "0123456789abcdef") != HEX || s[HEX] != ' ') return -1;
    memcpy(p->digest, s, HEX);
    p->digest[HEX] = '\0';
    s += HEX + 1;
    const size_t n = (size_t)(end - s);
    if (n >= sizeof p->name || memchr(s, '/', n) || memchr(s, '\0', n) || s[0] == '.') return -1;
    memcpy(p->name, s, n);
    p->name[n] = '\0';
    p->bytes = (size_t)bytes;
    return 0;
}

int yd_parts_is_index(const void *bytes, size_t len)
{
    return len >= sizeof YD_PARTS_MAGIC - 1 && memcmp(bytes, YD_PARTS_MAGIC, sizeof YD_PARTS_MAGIC - 1) == 0;
}

// text ends in a NUL behind its len bytes.
static int parse_index(const char *text, size_t len, yd_parts_list *l, yd_err *err)
{
    const char *s = text + sizeof YD_PARTS_MAGIC - 1, *end = text + len;
    uint64_t total = 0;
    while (s < end) {
        const size_t line = l->count + 2;
        const char *stop = memchr(s, '\n', (size_t)(end - s));
        if (l->count == YD_PARTS_MAX) return bad_index(err, line, "is one too many");
        part *p = list_push(l);
        if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for the list of a file's parts");
        if (!stop || parse_line(s, (size_t)(stop - s), p)) return bad_index(err, line, "names no part");
        if (stop + 1 < end && p->bytes % YD_PARTS_ALIGN)
            return bad_index(err, line, "is not the last, and names a part of no whole number of pages");
        if ((total += p->bytes) > MAX_BYTES) return bad_index(err, line, "makes the file longer than any may be");
        s = stop + 1;
    }
    return l->count ? 0 : bad_index(err, 2, "is missing");
}

yd_parts_list *yd_parts_list_of(const char *path)
{
    void *text = NULL;
    size_t len = 0;
    char head[sizeof YD_PARTS_MAGIC];
    FILE *f = fopen(path, "re");
    const int is_index = f && yd_parts_is_index(head, fread(head, 1, sizeof head, f));
    if (f) fclose(f);
    if (!is_index || yd_file_read(path, MAX_INDEX_BYTES, &text, &len, NULL)) return NULL;
    yd_parts_list *l = list_new(path);
    if (l && parse_index(text, len, l, NULL)) { // nothing is deleted by the word of a damaged index
        yd_parts_list_free(l);
        l = NULL;
    }
    yd_free(text);
    return l;
}

// ---- reading

// Map one part to where it belongs and look at its bytes.
static int map_part(const yd_parts_list *l, const part *p, uint8_t *at, yd_err *err)
{
    char *path = path_of(l, p->name), digest[HEX + 1];
    struct stat st;
    if (!path) return yd_fail(err, YD_E_NOMEM, "no memory for the name of a part");
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0)
        rc = yd_fail_field(err, YD_E_CHECKPOINT, p->name, "all parts beside the index",
                           "its part %.200s cannot be read: %s", p->name, strerrordesc_np(errno));
    else if (!S_ISREG(st.st_mode) || st.st_size != (off_t)p->bytes)
        rc = yd_fail_field(err, YD_E_CHECKPOINT, p->name, "the part as it was written",
                           "its part %.200s should have %zu bytes and has %lld", p->name, p->bytes,
                           (long long)st.st_size);
    else if (mmap(at, p->bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) == MAP_FAILED)
        rc = yd_fail_field(err, YD_E_IO, p->name, "", "its part %.200s cannot be mapped: %s", p->name,
                           strerrordesc_np(errno));
    if (fd >= 0) close(fd);
    yd_free(path);
    if (rc) return rc;
    yd_sha256_hex(at, p->bytes, digest);
    if (strcmp(digest, p->digest) == 0) return 0;
    return yd_fail_field(err, YD_E_CHECKPOINT, p->name, "the part as it was written",
                         "its part %.200s has other bytes than were written", p->name);
}

static int map_all(const yd_parts_list *l, void **map, size_t *map_len, yd_err *err)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < l->count; i++) total += l->parts[i].bytes;
    uint8_t *base = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return yd_fail(err, YD_E_NOMEM, "no room for %zu bytes of parts: %s", total, strerrordesc_np(errno));
    int rc = 0;
    for (size_t i = 0; i < l->count && !rc; at += l->parts[i++].bytes) rc = map_part(l, &l->parts[i], base + at, err);
    if (rc) {
        munmap(base, total);
        return rc;
    }
    *map = base;
    *map_len = total;
    return 0;
}

int yd_parts_map(const char *path, const void *index, size_t len, void **map, size_t *map_len, yd_err *err)
{
    if (len > MAX_INDEX_BYTES) return bad_index(err, YD_PARTS_MAX, "is followed by too many");
    yd_parts_list *l = list_new(path);
    char *text = yd_malloc(len + 1);
    int rc = l && text ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the list of a file's parts");
    if (!rc) {
        memcpy(text, index, len);
        text[len] = '\0';
        rc = parse_index(text, len, l, err);
    }
    if (!rc) rc = map_all(l, map, map_len, err);
    yd_free(text);
    yd_parts_list_free(l);
    return rc;
}

// ---- writing

struct yd_parts_writer {
    char *path;
    uint8_t *buffer;
    size_t part_bytes, fill;
    yd_parts_list *old, *written; // old: NULL when the file is not there, or in a piece
};

static void writer_free(yd_parts_writer *w)
{
    yd_free(w->path);
    yd_free(w->buffer);
    yd_parts_list_free(w->old);
    yd_parts_list_free(w->written);
    yd_free(w);
}

int yd_parts_writer_open(const char *path, size_t part_bytes, yd_parts_writer **out, yd_err *err)
{
    *out = NULL;
    if (part_bytes < YD_PARTS_LEAST || part_bytes > YD_PARTS_MOST)
        return yd_fail(err, YD_E_INVALID, "parts have %zu to %zu bytes, not %zu", YD_PARTS_LEAST, YD_PARTS_MOST,
                       part_bytes);
    if (strlen(base_of(path)) + NAME_DIGITS + 8 > NAME_MAX_BYTES)
        return yd_fail_field(err, YD_E_IO, path, "a shorter name", "the name of %s leaves no room for a part's number",
                             path);
    yd_parts_writer *w = yd_calloc(1, sizeof *w);
    if (w) {
        w->part_bytes = part_bytes - part_bytes % YD_PARTS_ALIGN;
        w->path = yd_strdup(path);
        w->buffer = yd_malloc(w->part_bytes);
        w->written = list_new(path);
        w->old = yd_parts_list_of(path);
        if (w->path && w->buffer && w->written) {
            *out = w;
            return 0;
        }
        writer_free(w);
    }
    return yd_fail(err, YD_E_NOMEM, "no memory to write %s in parts", path);
}

// Write the buffer as the next part.
static int flush(yd_parts_writer *w, yd_err *err)
{
    const size_t number = w->written->count;
    if (number == YD_PARTS_MAX)
        return yd_fail(err, YD_E_INVALID, "%s would have more than %d parts: larger parts are needed", w->path,
                       YD_PARTS_MAX);
    part *p = list_push(w->written);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for the list of parts of %s", w->path);
    p->bytes = w->fill;
    yd_sha256_hex(w->buffer, w->fill, p->digest);
    snprintf(p->name, sizeof p->name, "%.*s.%04u.%.*s", NAME_MAX_BYTES - NAME_DIGITS - 8, base_of(w->path),
             (unsigned)number % 10000, NAME_DIGITS, p->digest);
    char *path = path_of(w->written, p->name);
    int rc = path ? yd_file_write_atomic(path, w->buffer, w->fill, err)
                  : yd_fail(err, YD_E_NOMEM, "no memory for the name of a part");
    if (rc) w->written->count--;
    yd_free(path);
    w->fill = 0;
    return rc;
}

int yd_parts_writer_write(yd_parts_writer *w, const void *bytes, size_t len, yd_err *err)
{
    const uint8_t *from = bytes;
    while (len > 0) {
        const size_t room = w->part_bytes - w->fill, n = len < room ? len : room;
        memcpy(w->buffer + w->fill, from, n);
        from += n;
        len -= n;
        w->fill += n;
        int rc = w->fill == w->part_bytes ? flush(w, err) : 0;
        if (rc) return rc;
    }
    return 0;
}

static int write_index(const yd_parts_writer *w, yd_err *err)
{
    yd_file_writer f;
    int rc = yd_file_writer_open(&f, w->path, err);
    if (rc) return rc;
    rc = yd_file_writer_write(&f, YD_PARTS_MAGIC, sizeof YD_PARTS_MAGIC - 1, err);
    for (size_t i = 0; !rc && i < w->written->count; i++) {
        const part *p = &w->written->parts[i];
        char line[NAME_MAX_BYTES + HEX + 32];
        const int n = snprintf(line, sizeof line, "part %zu %s %s\n", p->bytes, p->digest, p->name);
        rc = yd_file_writer_write(&f, line, (size_t)n, err);
    }
    if (!rc) return yd_file_writer_commit(&f, err);
    yd_file_writer_abort(&f);
    return rc;
}

int yd_parts_writer_commit(yd_parts_writer *w, yd_err *err)
{
    int rc = w->fill ? flush(w, err) : 0;
    if (!rc) rc = write_index(w, err);
    if (rc) {
        yd_parts_writer_abort(w);
        return rc;
    }
    remove_files(w->old, w->written);
    writer_free(w);
    return 0;
}

void yd_parts_writer_abort(yd_parts_writer *w)
{
    if (!w) return;
    yd_parts_list *there = yd_parts_list_of(w->path); // the new index, where only the folder's sync has failed
    remove_files(w->written, there ? there : w->old);
    yd_parts_list_free(there);
    writer_free(w);
}
