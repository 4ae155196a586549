// Whole files: bounded reading, atomic replacing.
//
// Owns no state but a counter that keeps the names of temporary files apart inside one process; the process id keeps them apart
// between processes, and O_EXCL settles the rest. Write order: data, fsync(file), rename, fsync(folder): a reader never meets half
// a file, and what commit has acknowledged is on the disk. Every failure removes the temporary file before it returns.
#include "core/file.h"

#include "core/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_READ = 64 << 10, NAME_TRIES = 64, TEMP_NAME_MAX = 64 };

static const char *why(int error)
{
    const char *s = strerrordesc_np(error);
    return s ? s : "unknown error";
}

static int io_error(yd_err *err, const char *doing, const char *path, int error)
{
    return yd_fail_field(err, YD_E_IO, path, "", "cannot %s %s: %s", doing, path, why(error));
}

// ---- reading

// Bytes to reserve first: a regular file's size (one more shows that it has not grown), else a guess.
static size_t first_capacity(int fd, size_t max_bytes)
{
    struct stat st;
    size_t want = FIRST_READ;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) want = (size_t)st.st_size + 1;
    size_t most = max_bytes < SIZE_MAX - 1 ? max_bytes + 1 : max_bytes;
    return want < most ? want : most;
}

static ssize_t read_retrying(int fd, void *dst, size_t n)
{
    ssize_t got;
    do got = read(fd, dst, n);
    while (got < 0 && errno == EINTR);
    return got;
}

static int grow(char **buf, size_t *cap)
{
    size_t doubled, with_nul;
    if (yd_mul_size(*cap, 2, &doubled) || yd_add_size(doubled, 1, &with_nul)) return -1;
    char *p = yd_realloc(*buf, with_nul);
    if (!p) return -1;
    *buf = p;
    *cap = doubled;
    return 0;
}

static int read_all(int fd, const char *path, size_t max_bytes, char **out, size_t *len, yd_err *err)
{
    size_t cap = first_capacity(fd, max_bytes), n = 0;
    if (cap == 0) cap = 1;
    char *buf = yd_malloc(cap + 1);
    int rc = buf ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the %zu bytes of %s", cap, path);
    while (rc == 0) {
        if (n == cap && grow(&buf, &cap)) {
            rc = yd_fail(err, YD_E_NOMEM, "no memory for more than %zu bytes of %s", n, path);
            break;
        }
        ssize_t got = read_retrying(fd, buf + n, cap - n);
        if (got < 0) rc = io_error(err, "read", path, errno);
        if (got <= 0) break;
        n += (size_t)got;
        if (n > max_bytes)
            rc = yd_fail_field(err, YD_E_INVALID, path, "", "%s is too large: at most %zu bytes are read", path,
                               max_bytes);
    }
    if (rc) {
        yd_free(buf);
        return rc;
    }
    buf[n] = '\0';
    *out = buf;
    *len = n;
    return 0;
}

int yd_file_read(const char *path, size_t max_bytes, void **bytes, size_t *len, yd_err *err)
{
    *bytes = NULL;
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return io_error(err, "open", path, errno);
    char *buf = NULL;
    int rc = read_all(fd, path, max_bytes, &buf, len, err);
    close(fd);
    *bytes = buf;
    return rc;
}

// ---- writing

// Length of the folder part of a path, its slash included; 0 when there is none.
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

// Make the temporary file beside the target; its name is written behind the folder part already in w->temp.
static int open_temp(yd_file_writer *w, size_t folder)
{
    static atomic_uint counter;
    for (int i = 0; i < NAME_TRIES; i++) {
        unsigned n = atomic_fetch_add(&counter, 1);
        snprintf(w->temp + folder, TEMP_NAME_MAX, ".yd-%ld-%u.tmp", (long)getpid(), n);
        w->fd = open(w->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0) return 0;
        if (errno != EEXIST) break;
    }
    return -1;
}

static void forget(yd_file_writer *w)
{
    yd_free(w->path);
    yd_free(w->temp);
    *w = (yd_file_writer){.fd = -1};
}

int yd_file_writer_open(yd_file_writer *w, const char *path, yd_err *err)
{
    *w = (yd_file_writer){.fd = -1};
    size_t folder = folder_length(path);
    if (path[folder] == '\0')
        return yd_fail_field(err, YD_E_IO, path, "", "cannot write '%s': this names no file", path);
    w->path = yd_strdup(path);
    w->temp = yd_malloc(folder + TEMP_NAME_MAX);
    if (!w->path || !w->temp) {
        forget(w);
        return yd_fail(err, YD_E_NOMEM, "no memory to write %s", path);
    }
    memcpy(w->temp, path, folder);
    if (open_temp(w, folder)) {
        int rc = io_error(err, "make a file beside", path, errno);
        forget(w);
        return rc;
    }
    return 0;
}

int yd_file_writer_write(yd_file_writer *w, const void *bytes, size_t len, yd_err *err)
{
    const char *p = bytes;
    while (len > 0) {
        ssize_t put = write(w->fd, p, len);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return io_error(err, "write", w->path, errno);
        p += put;
        len -= (size_t)put;
    }
    return 0;
}

// Make the rename itself durable; the temporary name has done its work and is cut down to its folder.
// Some file systems cannot sync a folder and say EINVAL: nothing more can be done there.
static int sync_folder(yd_file_writer *w)
{
    size_t folder = folder_length(w->temp);
    w->temp[folder] = '\0';
    int fd = open(folder ? w->temp : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return errno;
    int error = fsync(fd) != 0 && errno != EINVAL ? errno : 0;
    close(fd);
    return error;
}

int yd_file_writer_commit(yd_file_writer *w, yd_err *err)
{
    int error = fsync(w->fd) == 0 ? 0 : errno;
    if (close(w->fd) != 0 && error == 0) error = errno;
    w->fd = -1;
    if (error == 0 && rename(w->temp, w->path) != 0) error = errno;
    if (error) {
        int rc = io_error(err, "write", w->path, error);
        yd_file_writer_abort(w);
        return rc;
    }
    error = sync_folder(w);
    int rc = error ? io_error(err, "sync the folder of", w->path, error) : 0;
    forget(w);
    return rc;
}

void yd_file_writer_abort(yd_file_writer *w)
{
    if (!w->temp) return;
    if (w->fd >= 0) close(w->fd);
    unlink(w->temp);
    forget(w);
}

int yd_file_write_atomic(const char *path, const void *bytes, size_t len, yd_err *err)
{
    yd_file_writer w;
    int rc = yd_file_writer_open(&w, path, err);
    if (rc) return rc;
    rc = yd_file_writer_write(&w, bytes, len, err);
    if (rc) {
        yd_file_writer_abort(&w);
        return rc;
    }
    return yd_file_writer_commit(&w, err);
}
