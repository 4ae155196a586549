// The read view of a model file's tensors, and which container a file is: see tensors.h.
//
// A view owns its mapping (unless the bytes were lent), the list of tensors in name order, and what the container's reader put beside them.
// Immutable once open, so threads may share it. A mapped file must not be cut short while it is open; writers here rename, which is safe.
// Read next: safetensors.c, torch_zip.c, torch_legacy.c
#include "core/tensors_view.h"

#include "core/mem.h"
#include "core/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE ((size_t)64 << 30)

// ---- filling

yd_safetensors *yd_view_new(yd_container container, const void *bytes, size_t len)
{
    yd_safetensors *st = yd_calloc(1, sizeof *st);
    if (st) *st = (yd_safetensors){.container = container, .bytes = bytes, .len = len, .metadata = -1};
    return st;
}

int yd_view_reserve(void **array, size_t *capacity, size_t n, size_t size, yd_err *err)
{
    size_t want = *capacity ? *capacity : 16, bytes;
    if (*array && n <= *capacity) return 0;
    while (want < n) want *= 2;
    void *bigger = yd_mul_size(want, size, &bytes) ? NULL : yd_realloc(*array, bytes);
    if (!bigger) return yd_fail(err, YD_E_NOMEM, "no memory for the list of a model file's tensors");
    *array = bigger;
    *capacity = want;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const yd_st_tensor *)a)->name, ((const yd_st_tensor *)b)->name);
}

int yd_view_sort(yd_safetensors *st, yd_err *err)
{
    if (st->count) qsort(st->tensors, st->count, sizeof *st->tensors, by_name);
    for (size_t i = 1; i < st->count; i++)
        if (strcmp(st->tensors[i - 1].name, st->tensors[i].name) == 0)
            return yd_fail_field(err, YD_E_CHECKPOINT, st->tensors[i].name, "", "two tensors are called '%.200s'",
                                 st->tensors[i].name);
    return 0;
}

void yd_st_close(yd_safetensors *st)
{
    if (!st) return;
    const int own_names = st->container != YD_BOX_SAFETENSORS;
    if (st->map) munmap(st->map, st->map_len);
    for (size_t i = 0; own_names && i < st->count; i++) yd_free((char *)(uintptr_t)st->tensors[i].name);
    for (size_t i = 0; i < st->n_others; i++) {
        yd_free((char *)(uintptr_t)st->others[i].name);
        yd_free((char *)(uintptr_t)st->others[i].what);
    }
    for (size_t i = 0; i < st->n_copies; i++) yd_free(st->copies[i]);
    yd_free(st->copies);
    yd_free(st->others);
    yd_free(st->tensors);
    yd_json_free(st->header);
    yd_free(st);
}

// ---- files

static int map_fd(int fd, const char *path, void **map, size_t *len, yd_err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return yd_fail_field(err, YD_E_IO, path, "", "cannot read %s: %s", path, strerrordesc_np(errno));
    if (!S_ISREG(st.st_mode))
        return yd_fail_field(err, YD_E_IO, path, "a regular file", "cannot read %s: it is no regular file", path);
    if (st.st_size < 8 || (unsigned long long)st.st_size > MAX_FILE)
        return yd_fail(err, YD_E_CHECKPOINT, "%s: %lld bytes are too %s for a model file", path, (long long)st.st_size,
                       st.st_size < 8 ? "few" : "many");
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return yd_fail_field(err, YD_E_IO, path, "", "cannot map %s: %s", path, strerrordesc_np(errno));
    *map = p;
    *len = (size_t)st.st_size;
    return 0;
}

// The map of an index becomes that of the file which it stands for; nothing is mapped after a failure.
static int join_parts(const char *path, void **map, size_t *len, yd_err *err)
{
    void *index = *map;
    const size_t index_len = *len;
    int rc = yd_parts_map(path, index, index_len, map, len, err);
    munmap(index, index_len);
    return rc;
}

int yd_view_open(const char *path, int (*open_memory)(const void *, size_t, yd_safetensors **, yd_err *),
                 yd_safetensors **out, yd_err *err)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not make us wait
    if (fd < 0) return yd_fail_field(err, YD_E_IO, path, "", "cannot open %s: %s", path, strerrordesc_np(errno));
    void *map = NULL;
    size_t len = 0;
    int rc = map_fd(fd, path, &map, &len, err);
    close(fd);
    if (rc) return rc;
    yd_err why = {0};
    if (yd_parts_is_index(map, len) && (rc = join_parts(path, &map, &len, &why)))
        return yd_fail_field(err, rc, why.field, why.accepted, "%s: %s", path, why.detail);
    rc = open_memory(map, len, out, &why);
    if (rc) {
        munmap(map, len);
        return yd_fail_field(err, rc, why.field, why.accepted, "%s: %s", path, why.detail);
    }
    (*out)->map = map;
    (*out)->map_len = len;
    return 0;
}

// ---- which container

#define ACCEPTED "safetensors, or a checkpoint written by torch.save"

// What a file is that is none of ours, where its first bytes say so; NULL where they do not.
static const char *known_otherwise(const uint8_t *b, size_t len)
{
    static const struct {
        size_t at, n;
        const char *magic, *what;
    } kinds[] = {
        {257, 5, "ustar",
         "it is a tar file, the container of PyTorch before 0.1.10: load it with that and save it again"},
        {0, 2, "\x1f\x8b", "it is compressed with gzip: unpack it first"},
        {0, 6, "7z\xbc\xaf\x27\x1c", "it is a 7z archive: unpack it first"},
        {0, 4, "Rar!", "it is a rar archive: unpack it first"},
        {0, 8, "\x89HDF\r\n\x1a\n", "it is an HDF5 file"},
        {0, 6, "\x93NUMPY", "it is a numpy array"},
        {0, 4, "GGUF", "it is a GGUF file"},
        {0, 8, "\x89PNG\r\n\x1a\n", "it is a PNG picture"},
        {0, 3, "\xff\xd8\xff", "it is a JPEG picture"},
        {0, 5, "<!DOC", "it is a web page, as a download that failed leaves it"},
        {0, 5, "<html", "it is a web page, as a download that failed leaves it"},
        {0, 18, "version https://gi", "it is a pointer of git-lfs, not the file that it stands for"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (len >= kinds[i].at + kinds[i].n && memcmp(b + kinds[i].at, kinds[i].magic, kinds[i].n) == 0)
            return kinds[i].what;
    return NULL;
}

int yd_tensors_open_memory(const void *bytes, size_t len, yd_safetensors **out, yd_err *err)
{
    const uint8_t *b = bytes;
    *out = NULL;
    if (len < 8) return yd_fail(err, YD_E_CHECKPOINT, "%zu bytes are too few for a model file", len);
    if (len > MAX_FILE) return yd_fail(err, YD_E_CHECKPOINT, "%zu bytes are too many for a model file", len);
    if (memcmp(b, "PK\x03\x04", 4) == 0) return yd_torch_zip_open(bytes, len, out, err);
    const char *other = known_otherwise(b, len);
    if (other) return yd_fail_field(err, YD_E_CHECKPOINT, "", ACCEPTED, "no model file: %s", other);
    if (b[0] == 0x80 && b[1] <= 5 && !(len > 8 && b[8] == '{'))
        return yd_torch_legacy_open(bytes, len, out, err); // 128 bytes may be a header's length
    return yd_st_open_memory(bytes, len, out, err);
}

int yd_tensors_open(const char *path, yd_safetensors **out, yd_err *err)
{
    return yd_view_open(path, yd_tensors_open_memory, out, err);
}

// ---- reading

size_t yd_st_count(const yd_safetensors *st)
{
    return st->count;
}

const yd_st_tensor *yd_st_at(const yd_safetensors *st, size_t i)
{
    return i < st->count ? &st->tensors[i] : NULL;
}

const void *yd_st_bytes(const yd_safetensors *st, size_t *len)
{
    *len = st->len;
    return st->bytes;
}

const yd_st_tensor *yd_st_find(const yd_safetensors *st, const char *name)
{
    yd_st_tensor key = {.name = name};
    return st->count ? bsearch(&key, st->tensors, st->count, sizeof key, by_name) : NULL;
}

const char *yd_st_metadata(const yd_safetensors *st, const char *key)
{
    return st->metadata < 0 ? NULL : yd_json_string(st->header, yd_json_get(st->header, st->metadata, key));
}

const char *yd_st_metadata_key(const yd_safetensors *st, size_t i)
{
    yd_jid m = st->metadata < 0 ? -1 : yd_json_first(st->header, st->metadata);
    for (; m >= 0 && i > 0; i--) m = yd_json_next(st->header, m);
    return m < 0 ? NULL : yd_json_key(st->header, m);
}

yd_container yd_tensors_container(const yd_safetensors *st)
{
    return st->container;
}

const char *yd_tensors_container_name(const yd_safetensors *st)
{
    static const char *const names[] = {"safetensors", "PyTorch zip", "PyTorch legacy"};
    return names[st->container];
}

int yd_tensors_ending(const char *file, size_t *stem)
{
    static const char *const endings[] = {".safetensors", ".pth", ".pt", ".ckpt"};
    const size_t n = strlen(file);
    for (int i = 0; i < (int)(sizeof endings / sizeof *endings); i++) {
        const size_t k = strlen(endings[i]);
        if (n <= k || file[0] == '.' || strcmp(file + n - k, endings[i]) != 0) continue;
        *stem = n - k;
        return i;
    }
    return -1;
}

const yd_st_other *yd_tensors_other(const yd_safetensors *st, size_t i)
{
    return i < st->n_others ? &st->others[i] : NULL;
}

// Is `name` this, or below it?
static int stands_on_the_way(const char *other, const char *name)
{
    const size_t n = strlen(other);
    return strncmp(name, other, n) == 0 && (name[n] == 0 || name[n] == '.');
}

int yd_tensors_missing(const yd_safetensors *st, const char *name, yd_err *err)
{
    for (size_t i = 0; i < st->n_others; i++)
        if (stands_on_the_way(st->others[i].name, name))
            return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "tensor %.200s cannot be had: '%.200s' is %s", name,
                                 st->others[i].name, st->others[i].what);
    return yd_fail_field(err, YD_E_CHECKPOINT, name, "", "the model file lacks the tensor %.200s", name);
}
