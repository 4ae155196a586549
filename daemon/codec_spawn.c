// Starting a codec process: this very program, executed anew with a clean environment, its end of the socket as descriptor YD_CODEC_FD.
//
// Executed, never forked: a copy of a process with threads may inherit a lock that nobody will ever release. /proc/self/exe is the
// program that runs, even when an upgrade has replaced the file. Threads: the loop's.
#include "daemon/codec_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_ENV 24

extern char **environ;

// What a child needs of our environment: where libraries are, and how sanitizers report.
static int passes(const char *entry)
{
    static const char *const names[] = {"LD_LIBRARY_PATH=", "ASAN_OPTIONS=", "LSAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "PATH="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0) return 1;
    return 0;
}

static void make_environment(char *env[MAX_ENV])
{
    static char fixed[][32] = {"MALLOC_ARENA_MAX=2", "VIPS_CONCURRENCY=1", "OMP_NUM_THREADS=1", "LC_ALL=C"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) env[n++] = fixed[i];
    for (char **e = environ; *e && n + 1 < MAX_ENV; e++)
        if (passes(*e)) env[n++] = *e;
    env[n] = NULL;
}

static int plan(posix_spawn_file_actions_t *files, posix_spawnattr_t *how, int socket)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int rc = posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDONLY, 0);
    if (!rc) rc = posix_spawn_file_actions_addopen(files, 1, "/dev/null", O_WRONLY, 0);
#ifndef YD_SANITIZE // whose words belong into the log; a decoder's do not
    if (!rc) rc = posix_spawn_file_actions_addopen(files, 2, "/dev/null", O_WRONLY, 0);
#endif
    if (!rc) rc = posix_spawn_file_actions_adddup2(files, socket, YD_CODEC_FD);
    if (!rc) rc = posix_spawnattr_setsigmask(how, &none);
    if (!rc) rc = posix_spawnattr_setsigdefault(how, &all);
    if (!rc) rc = posix_spawnattr_setflags(how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return rc;
}

static int execute(const char *program, uint64_t address_space, int socket, pid_t *pid)
{
    char limit[24], name[] = "yodad", argument[] = YD_CODEC_ARGUMENT;
    char *argv[] = {name, argument, limit, NULL}, *env[MAX_ENV];
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    snprintf(limit, sizeof limit, "%llu", (unsigned long long)address_space);
    make_environment(env);
    int rc = posix_spawn_file_actions_init(&files);
    if (rc) return rc;
    rc = posix_spawnattr_init(&how);
    if (!rc) {
        rc = plan(&files, &how, socket);
        if (!rc) rc = posix_spawn(pid, program ? program : "/proc/self/exe", &files, &how, argv, env);
        posix_spawnattr_destroy(&how);
    }
    posix_spawn_file_actions_destroy(&files);
    return rc;
}

int yd_codec_spawn(const char *program, uint64_t address_space, pid_t *pid, int *fd, yd_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return yd_fail(err, YD_E_NOMEM, "no socket for a codec process: %m");
    int rc = fcntl(pair[0], F_SETFL, O_NONBLOCK) ? errno : execute(program, address_space, pair[1], pid);
    close(pair[1]);
    if (rc == 0) {
        *fd = pair[0];
        return 0;
    }
    close(pair[0]);
    return yd_fail(err, YD_E_INTERNAL, "a codec process cannot be started: %s", strerror(rc));
}
