// The spool's files, all through one open folder, so that nobody's renaming of a parent moves them elsewhere.
//
// Order that durability rests on: write, fsync of the file, rename, fsync of the folder; who refers to a file does so after the last.
// A failed fsync of the folder is not forgotten: until one succeeds the spool stays dirty.
#include "daemon/spool.h"

#include "core/mem.h"
#include "daemon/mutant.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define TEMP_NAME ".new" // one writer, so one name does; of several processes each has one of its own that begins so
#define FEW_FILES 32     // that the file system has room for: no room
#define OLD_S     86400  // what nobody wants is nobody's, where others write too

struct yd_spool {
    int fd; // of the folder
    int dirty, shared;
    char temp[32];
    char path[YD_SPOOL_PATH_MAX - YD_SPOOL_NAME_MAX - 1];
};

// ---- the seam for tests --------------------------------------------------------------------------------------------

static atomic_long fail_in;
static atomic_int fail_error;

void yd_spool_fail_at(long k, int error)
{
    atomic_store(&fail_error, error);
    atomic_store(&fail_in, k);
}

// Every call that can fail for want of a good disk asks first.
static int must_fail(void)
{
    if (atomic_load_explicit(&fail_in, memory_order_relaxed) == 0) return 0;
    if (atomic_fetch_sub(&fail_in, 1) != 1) return 0;
    errno = atomic_load(&fail_error);
    return 1;
}

// ---- names and errors ----------------------------------------------------------------------------------------------

static int is_name(const char *s)
{
    const size_t n = strlen(s);
    return n >= 1 && n < YD_SPOOL_NAME_MAX && strspn(s, "0123456789abcdef-") == n;
}

static int failed(yd_err *err, const yd_spool *s, const char *what, const char *name)
{
    const int full = errno == ENOSPC || errno == EDQUOT;
    return yd_fail(err, full ? YD_E_STORAGE : YD_E_IO, "cannot %s %s/%s: %m", what, s->path, name);
}

int yd_spool_path(const yd_spool *s, const char *name, char *dst)
{
    if (!is_name(name)) return -1;
    snprintf(dst, YD_SPOOL_PATH_MAX, "%s/%s", s->path, name);
    return 0;
}

// ---- open ----------------------------------------------------------------------------------------------------------

int yd_spool_open(const char *folder, const char *name, yd_spool **out, yd_err *err)
{
    yd_spool *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for a spool");
    const int n = snprintf(s->path, sizeof s->path, "%s/%s", folder, name);
    int rc = 0;
    if (n < 0 || (size_t)n >= sizeof s->path)
        rc = yd_fail_field(err, YD_E_CONFIG, "state_dir", "a shorter path", "the path %.100s... is too long", folder);
    else if (mkdir(s->path, 0700) && errno != EEXIST)
        rc = yd_fail_field(err, YD_E_CONFIG, "state_dir", "a folder that can be written to", "cannot make %s: %m",
                           s->path);
    else if ((s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = yd_fail_field(err, YD_E_CONFIG, "state_dir", "a folder that can be written to", "cannot open %s: %m",
                           s->path);
    if (rc) {
        yd_free(s);
        return rc;
    }
    snprintf(s->temp, sizeof s->temp, TEMP_NAME);
    unlinkat(s->fd, s->temp, 0);
    *out = s;
    return 0;
}

void yd_spool_share(yd_spool *s)
{
    uint64_t own = 0;
    if (getrandom(&own, sizeof own, GRND_NONBLOCK) != (ssize_t)sizeof own) own = (uint64_t)getpid();
    snprintf(s->temp, sizeof s->temp, TEMP_NAME "-%016" PRIx64, own);
    s->shared = 1;
}

void yd_spool_close(yd_spool *s)
{
    if (!s) return;
    close(s->fd);
    yd_free(s);
}

// ---- write ---------------------------------------------------------------------------------------------------------

static int is_there(const yd_spool *s, const char *name, size_t len)
{
    struct stat st;
    return fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size == len;
}

static int begins_with(int fd, size_t at, const yd_piece *p)
{
    uint8_t there[16384];
    for (size_t done = 0; done < p->len;) {
        const size_t want = p->len - done < sizeof there ? p->len - done : sizeof there;
        const ssize_t n = pread(fd, there, want, (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0 || memcmp(there, (const uint8_t *)p->bytes + done, (size_t)n) != 0) return 0;
        done += (size_t)n;
    }
    return 1;
}

// A file that was damaged on the disk is as long as it was.
static int has_bytes(const yd_spool *s, const char *name, const yd_piece *piece, int n)
{
    const int fd = openat(s->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int same = fd >= 0;
    size_t at = 0;
    for (int i = 0; i < n && same; at += piece[i++].len) same = begins_with(fd, at, &piece[i]);
    if (fd >= 0) close(fd);
    return same;
}

static int write_all(int fd, const void *bytes, size_t len)
{
    for (const char *p = bytes; len > 0;) {
        const ssize_t n = must_fail() ? -1 : write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return YD_BROKEN(IGNORE_ENOSPC) ? 0 : -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

// The pieces under the temporary name, synced. 0, or -1 with errno.
static int write_temp(const yd_spool *s, const yd_piece *piece, int n)
{
    const int fd = must_fail() ? -1 : openat(s->fd, s->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    int rc = 0;
    for (int i = 0; i < n && !rc; i++) rc = write_all(fd, piece[i].bytes, piece[i].len);
    if (!rc && !YD_BROKEN(NO_BLOB_SYNC)) rc = must_fail() ? -1 : fsync(fd);
    const int error = errno;
    if (close(fd) && !rc) return -1;
    errno = error;
    return rc;
}

// Another process may be about to remove it: one that is new is spared, and one that is there after it was made new was not gone before.
static int keep_from_removal(const yd_spool *s, const char *name)
{
    return !s->shared || (utimensat(s->fd, name, NULL, AT_SYMLINK_NOFOLLOW) == 0 &&
                          faccessat(s->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
}

int yd_spool_write(yd_spool *s, const char *name, const yd_piece *piece, int n, yd_spool_keep keep, yd_err *err)
{
    size_t len = 0;
    if (!is_name(name)) return yd_fail(err, YD_E_INVALID, "'%.70s' is no name of a file in %s", name, s->path);
    for (int i = 0; i < n; i++) len += piece[i].len;
    if (keep && is_there(s, name, len) && (keep == YD_SPOOL_KEEP_LENGTH || has_bytes(s, name, piece, n)) &&
        keep_from_removal(s, name))
        return 0;
    int bad = write_temp(s, piece, n);
    if (!bad) bad = must_fail() ? -1 : renameat(s->fd, s->temp, s->fd, name);
    if (bad) {
        const int rc = failed(err, s, "write", name);
        unlinkat(s->fd, s->temp, 0);
        return rc;
    }
    s->dirty = 1;
    return 0;
}

int yd_spool_sync(yd_spool *s, yd_err *err)
{
    if (!s->dirty) return 0;
    // Some file systems cannot sync a folder and say EINVAL: nothing more can be done there.
    if (!YD_BROKEN(NO_FOLDER_SYNC) && (must_fail() || fsync(s->fd)) && errno != EINVAL)
        return failed(err, s, "sync the folder", "");
    s->dirty = 0;
    return 0;
}

// Out of the way first, then looked at: what a writer made new until then comes back.
static void remove_shared(const yd_spool *s, const char *name, int64_t unused_s)
{
    struct stat st;
    char aside[sizeof s->temp + 8];
    snprintf(aside, sizeof aside, "%s-old", s->temp);
    if (fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) || time(NULL) - st.st_mtime < unused_s ||
        renameat(s->fd, name, s->fd, aside))
        return;
    const int is_new = fstatat(s->fd, aside, &st, AT_SYMLINK_NOFOLLOW) == 0 && time(NULL) - st.st_mtime < unused_s;
    if (!is_new || renameat(s->fd, aside, s->fd, name)) unlinkat(s->fd, aside, 0);
}

void yd_spool_remove(yd_spool *s, const char *name, int64_t unused_s)
{
    if (!is_name(name)) return;
    if (s->shared)
        remove_shared(s, name, unused_s);
    else
        unlinkat(s->fd, name, 0);
}

static int may_go(const yd_spool *s, const char *name)
{
    struct stat st;
    if (!s->shared) return 1;
    return fstatat(s->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && time(NULL) - st.st_mtime >= OLD_S;
}

static int is_half_written(const yd_spool *s, const char *name)
{
    return strncmp(name, TEMP_NAME, sizeof TEMP_NAME - 1) == 0 && strcmp(name, s->temp) != 0;
}

long yd_spool_sweep(yd_spool *s, int (*wanted)(void *arg, const char *name), void *arg)
{
    long gone = 0;
    const int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0) close(fd);
        return 0;
    }
    for (const struct dirent *e; (e = readdir(dir));)
        if ((is_half_written(s, e->d_name) || (is_name(e->d_name) && !wanted(arg, e->d_name))) &&
            may_go(s, e->d_name) && unlinkat(s->fd, e->d_name, 0) == 0)
            gone++;
    closedir(dir);
    return gone;
}

uint64_t yd_spool_free_bytes(const yd_spool *s)
{
    struct statvfs v;
    if (fstatvfs(s->fd, &v)) return 0;
    if (v.f_files > 0 && v.f_favail < FEW_FILES) return 0;
    return (uint64_t)v.f_bavail * (uint64_t)v.f_frsize;
}
