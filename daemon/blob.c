// Reference-counted bytes; the digest is computed once, by whoever makes the blob.
#include "daemon/blob.h"

#include "core/mem.h"
#include "core/sha256.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

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

// The whole file, or NULL with the reason in err.
static void *map_file(const char *path, size_t len, yd_err *err)
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
    if (fd >= 0) close(fd);
    return bytes == MAP_FAILED ? NULL : bytes;
}

int yd_blob_map(const char *path, size_t len, const char *mime, const char *sha256, yd_blob **out, yd_err *err)
{
    yd_blob *b = yd_calloc(1, sizeof *b);
    if (!b) return yd_fail(err, YD_E_NOMEM, "no memory to read %s", path);
    void *bytes = map_file(path, len, err);
    if (!bytes) {
        yd_free(b);
        return YD_E_IO;
    }
    *b = (yd_blob){.bytes = bytes, .len = len, .mime = mime, .owned = bytes, .mapped = 1, .refs = 1};
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
    yd_free(b);
}
