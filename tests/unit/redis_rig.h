// A redis-server of the test's own: on a Unix socket in a folder, with a log that is synced every second.
#ifndef REDIS_RIG_H
#define REDIS_RIG_H

#include "tests/unit/t.h"
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static char redis_folder[64], redis_url[160];
static pid_t redis_pid;

__attribute__((unused)) static int redis_is_installed(void)
{
    return system("command -v redis-server >/dev/null 2>&1") == 0;
}

// Wait until it answers.
__attribute__((unused)) static redisContext *redis_ask(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/socket", redis_folder);
    for (int i = 0; i < 500; i++) {
        redisContext *c = redisConnectUnix(path);
        redisReply *r = c && !c->err ? redisCommand(c, "PING") : NULL;
        const int there = r && r->type == REDIS_REPLY_STATUS;
        if (r) freeReplyObject(r);
        if (there) return c;
        if (c) redisFree(c);
        usleep(20000);
    }
    CHECK_MSG(0, "redis-server does not answer");
    return NULL;
}

// What it says to a command: a number, or the length of a text; -1: an error.
__attribute__((unused)) static long long redis_do(const char *format, ...)
{
    redisContext *c = redis_ask();
    if (!c) return -1;
    va_list args;
    va_start(args, format);
    redisReply *r = redisvCommand(c, format, args);
    va_end(args);
    const long long v = !r || r->type == REDIS_REPLY_ERROR ? -1 : r->type == REDIS_REPLY_INTEGER ? r->integer : (long long)r->len;
    if (r) freeReplyObject(r);
    redisFree(c);
    return v;
}

__attribute__((unused)) static void redis_start(void)
{
    if (!redis_pid && !*redis_folder) {
        snprintf(redis_folder, sizeof redis_folder, "build/test-redis-XXXXXX");
        CHECK(mkdtemp(redis_folder) != NULL);
        snprintf(redis_url, sizeof redis_url, "unix://%s/socket", redis_folder);
        char cwd[96];
        if (getcwd(cwd, sizeof cwd)) snprintf(redis_url, sizeof redis_url, "unix://%.80s/%.40s/socket", cwd, redis_folder);
    }
    fflush(stdout);
    redis_pid = fork();
    if (redis_pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", "socket", "--dir", redis_folder, "--appendonly", "yes", "--appendfsync",
               "everysec", "--save", "", "--loglevel", "warning", "--logfile", "log", (char *)NULL);
        _exit(127);
    }
    redisContext *c = redis_ask();
    if (c) redisFree(c);
}

__attribute__((unused)) static void redis_kill(void)
{
    if (redis_pid > 0) {
        kill(redis_pid, SIGKILL);
        waitpid(redis_pid, NULL, 0);
    }
    redis_pid = 0;
}

__attribute__((unused)) static void redis_end(void)
{
    char command[96];
    redis_kill();
    snprintf(command, sizeof command, "rm -rf '%s'", redis_folder);
    CHECK(system(command) == 0);
    *redis_folder = 0;
}

#endif
