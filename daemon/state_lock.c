// The lock of a state folder: see state_lock.h.
#include "daemon/state_lock.h"

#include "daemon/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_ROOM 512

static int unusable(yd_err *err, const char *what, const char *path, const char *why)
{
    return yd_fail_field(err, YD_E_CONFIG, "state_dir", "a folder that can be written to", "%s %s: %s", what, path, why);
}

static int in_use(int lock, const char *folder, yd_err *err)
{
    char pid[24] = "";
    const ssize_t n = pread(lock, pid, sizeof pid - 1, 0);
    pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
    return yd_fail_field(err, YD_E_CONFIG, "state_dir", "a folder of its own for every process", "%s is used by another process (%s)",
                         folder, *pid ? pid : "its lock is held");
}

int yd_state_lock(const char *folder, int shared, int *fd, yd_err *err)
{
    char path[PATH_ROOM], pid[24];
    if (mkdir(folder, 0700) && errno != EEXIST) return unusable(err, "cannot make", folder, strerror(errno));
    const int n = snprintf(path, sizeof path, "%s/lock", folder);
    if (n < 0 || (size_t)n >= sizeof path) return unusable(err, "cannot use", "the path", "it is too long");
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) return unusable(err, "cannot open", path, strerror(errno));
    if (flock(*fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB)) return in_use(*fd, folder, err);
    if (shared) return 0;
    const int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    // The number only serves the message above.
    if (ftruncate(*fd, 0) || pwrite(*fd, pid, (size_t)len, 0) != len)
        yd_log(YD_LOG_DEBUG, NULL, "lock file not written", NULL);
    return 0;
}
