// Memory that the daemon shares with a codec process: made by the daemon, of a fixed size.
//
// The seals are what makes it safe to read: a process that could shrink the file would end whoever reads beyond its new end. Bytes nobody
// has written take no memory, so a region may be as large as the largest answer. It is used again for the next picture of the same process,
// because fresh pages cost more than a decoder does for a pixel; never by another process, which would find what is left of the picture.
// Threads: any; a region belongs to one call at a time.
#include "daemon/codec.h"

#include "core/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int yd_region_make(yd_region *r, size_t size, yd_err *err)
{
    *r = (yd_region){.fd = memfd_create("yodad-picture", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (r->fd < 0) return yd_fail(err, YD_E_NOMEM, "no shared memory for a picture: %m");
    void *p = MAP_FAILED;
    if (ftruncate(r->fd, (off_t)size) == 0 && fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
    if (p == MAP_FAILED) {
        const int rc = yd_fail(err, YD_E_NOMEM, "no shared memory of %zu bytes for a picture: %m", size);
        yd_region_free(r);
        return rc;
    }
    r->base = p;
    r->size = size;
    return 0;
}

int yd_region_map(yd_region *r, int fd)
{
    struct stat st;
    *r = (yd_region){.fd = -1};
    if (fstat(fd, &st) || st.st_size <= 0) return -1;
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return -1;
    r->base = p;
    r->size = (size_t)st.st_size;
    return 0;
}

void yd_region_close_fd(yd_region *r)
{
    if (r->fd >= 0) close(r->fd);
    r->fd = -1;
}

void yd_region_free(yd_region *r)
{
    if (r->base) munmap(r->base, r->size);
    yd_region_close_fd(r);
    *r = (yd_region){.fd = -1};
}
