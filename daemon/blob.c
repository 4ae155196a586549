// Reference-counted bytes; the digest is computed once, by whoever makes the blob, and compared by whoever reads what was on a disk.
//
// A check reads the file with pread, not through the mapping: a sector that cannot be read, or a file that was cut short, is then an error and no
// signal. The generation that a check saw is kept under the mutex of this file, for some instructions at a time.
#include "daemon/blob.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/log.h"
#include "daemon/mutant.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES (256u << 10)

typedef struct generation {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec modified, changed;
} generation;

struct yd_blob_file {
    generation mapped, checked; // what the mapping is of; what the last good check saw
    int is_checked;
    char path[];
};

static pthread_mutex_t files = PTHREAD_MUTEX_INITIALIZER; // `checked` and `is_checked` of every blob

yd_blob *yd_blob_new(void *bytes, size_t len, const char *mime, int hash)
{
    yd_blob *b = yd_calloc(1, sizeof *b);
    if (!b) {
        yd_free(bytes);
        return NULL;
    }
    *b = (yd_blob){.bytes = bytes, .len = len, .mime = mime, .owned = bytes, .refs = 1};
    if (hash) yd_sha256_hex(bytes, len, b->sha256);
    return b;
}

static generation generation_of(const struct stat *st)
{
    return (generation){st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim};
}

static int same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int same_file(const generation *a, const generation *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}

static int same_generation(const generation *a, const generation *b)
{
    return same_file(a, b) && a->size == b->size && same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}

// The whole file, or NULL with the reason in err.
static void *map_file(const char *path, size_t len, generation *seen, yd_err *err)
{
    struct stat st;
    void *bytes = MAP_FAILED;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        yd_fail(err, YD_E_IO, "cannot open %s: %m", path);
    else if (st.st_size < 0 || (size_t)st.st_size != len || len == 0)
        yd_fail(err, YD_E_IO, "%s has %lld bytes, not %zu", path, (long long)st.st_size, len);
    else if ((bytes = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        yd_fail(err, YD_E_IO, "cannot read %s: %m", path);
    if (bytes != MAP_FAILED) *seen = generation_of(&st);
    if (fd >= 0) close(fd);
    return bytes == MAP_FAILED ? NULL : bytes;
}

int yd_blob_map(const char *path, size_t len, const char *mime, const char *sha256, yd_blob **out, yd_err *err)
{
    const size_t path_bytes = strlen(path) + 1;
    yd_blob *b = yd_calloc(1, sizeof *b);
    struct yd_blob_file *file = yd_calloc(1, sizeof *file + path_bytes);
    int rc = b && file ? 0 : yd_fail(err, YD_E_NOMEM, "no memory to read %s", path);
    void *bytes = rc ? NULL : map_file(path, len, &file->mapped, err);
    if (!bytes) {
        yd_free(b);
        yd_free(file);
        return rc ? rc : YD_E_IO;
    }
    memcpy(file->path, path, path_bytes);
    *b = (yd_blob){.bytes = bytes, .len = len, .mime = mime, .owned = bytes, .mapped = 1, .file = file, .refs = 1};
    snprintf(b->sha256, sizeof b->sha256, "%s", sha256 ? sha256 : "");
    *out = b;
    return 0;
}

yd_blob *yd_blob_ref(yd_blob *b)
{
    if (b) __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void yd_blob_unref(yd_blob *b)
{
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    if (b->mapped)
        munmap(b->owned, b->len);
    else
        yd_free(b->owned);
    yd_free(b->file);
    yd_free(b);
}

// ---- looking at what was on a disk ---------------------------------------------------------------------------------

int yd_blob_damaged(const yd_blob *b)
{
    return b && __atomic_load_n(&b->damaged, __ATOMIC_RELAXED);
}

// A file that is not there any more cannot change: the mapping is as it was.
static int is_known(const yd_blob *b, const generation *now)
{
    pthread_mutex_lock(&files);
    const int known = b->file->is_checked && (!now || same_generation(&b->file->checked, now));
    pthread_mutex_unlock(&files);
    return known;
}

int yd_blob_fresh(const yd_blob *b)
{
    struct stat st;
    if (!b->mapped || YD_BROKEN(TRUST_FILES)) return 1;
    if (yd_blob_damaged(b)) return 0;
    const int there = stat(b->file->path, &st) == 0;
    const generation now = there ? generation_of(&st) : (generation){0};
    return is_known(b, there ? &now : NULL);
}

// The digest of the file's first `len` bytes. 0, or -1 with errno (0: it ends before).
static int digest_of(int fd, size_t len, uint8_t *buffer, char hex[65])
{
    yd_sha256 h;
    uint8_t digest[32];
    yd_sha256_init(&h);
    for (size_t at = 0; at < len;) {
        const ssize_t n = pread(fd, buffer, READ_BYTES, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n == 0) errno = 0;
            return -1;
        }
        const size_t use = (size_t)n < len - at ? (size_t)n : len - at;
        yd_sha256_update(&h, buffer, use);
        at += use;
    }
    yd_sha256_final(&h, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return 0;
}

// What is wrong with the bytes, or NULL. seen: the generation that was looked at.
static const char *find_fault(const yd_blob *b, int fd, uint8_t *buffer, generation *seen)
{
    struct stat st;
    char hex[65] = "";
    if (fd >= 0 && fstat(fd, &st)) return strerror(errno);
    if (fd >= 0) *seen = generation_of(&st);
    if (fd < 0 || !same_file(seen, &b->file->mapped)) { // removed or replaced meanwhile: the mapping is the last that holds the bytes
        yd_sha256_hex(b->bytes, b->len, hex);
    } else {
        if (st.st_size < 0 || (size_t)st.st_size != b->len) return "it has another length";
        if (digest_of(fd, b->len, buffer, hex)) return errno ? strerror(errno) : "it was cut short";
    }
    return strcmp(hex, b->sha256) == 0 ? NULL : "its digest is another";
}

int yd_blob_check(yd_blob *b, yd_err *err)
{
    if (yd_blob_fresh(b)) return 0;
    uint8_t *buffer = yd_malloc(READ_BYTES);
    if (!buffer) return yd_fail(err, YD_E_NOMEM, "no memory to read a picture");
    generation seen = b->file->mapped;
    const int fd = open(b->file->path, O_RDONLY | O_CLOEXEC);
    const char *fault = fd < 0 && errno != ENOENT ? strerror(errno) : find_fault(b, fd, buffer, &seen);
    if (fd >= 0) close(fd);
    yd_free(buffer);
    if (fault) {
        if (!__atomic_exchange_n(&b->damaged, 1, __ATOMIC_RELAXED))
            yd_log(YD_LOG_ERROR, NULL, "a stored picture is damaged", "file", b->file->path, "why", fault, NULL);
        return yd_fail(err, YD_E_IO, "the stored picture is damaged and is not sent; the same request computes it anew");
    }
    pthread_mutex_lock(&files);
    b->file->checked = seen;
    b->file->is_checked = 1;
    pthread_mutex_unlock(&files);
    return 0;
}
