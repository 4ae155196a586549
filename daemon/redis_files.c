// Files in a Redis server: see redis_files.h.
#include "daemon/redis_files.h"

#include "core/mem.h"
#include "daemon/redis_link.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define NOW "local t = redis.call('TIME') local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)\n"

struct yd_redis_files {
    yd_redis_url url;
    size_t most;
    int answer_ms;
    redisContext *c; // NULL: none
};

// ARGV: the key. 1: it is there, and new again.
static const char touch_script[] = NOW "if redis.call('EXISTS', ARGV[1]) == 0 then return 0 end\n"
                                       "redis.call('HSET', 'yodad:files', ARGV[1], string.format('%.0f', now))\n"
                                       "return 1";

// ARGV: the key, the bytes.
static const char put_script[] = NOW "redis.call('SET', ARGV[1], ARGV[2])\n"
                                     "redis.call('HSET', 'yodad:files', ARGV[1], string.format('%.0f', now))\n"
                                     "return 1";

const char yd_redis_files_drop_script[] = NOW "local at = tonumber(redis.call('HGET', 'yodad:files', ARGV[1]) or '0')\n"
                                              "if now - at < tonumber(ARGV[2]) then return 0 end\n"
                                              "redis.call('DEL', ARGV[1])\n"
                                              "redis.call('HDEL', 'yodad:files', ARGV[1])\n"
                                              "return 1";

yd_redis_files *yd_redis_files_new(const yd_redis_url *u, size_t most, int answer_ms)
{
    yd_redis_files *f = yd_calloc(1, sizeof *f);
    if (!f) return NULL;
    f->url = *u;
    f->most = most;
    f->answer_ms = answer_ms;
    return f;
}

static void disconnect(yd_redis_files *f)
{
    if (f->c) redisFree(f->c);
    f->c = NULL;
}

void yd_redis_files_close(yd_redis_files *f)
{
    if (!f) return;
    disconnect(f);
    yd_free(f);
}

void yd_redis_file_key(yd_redis_file_kind kind, const char *name, char *key)
{
    snprintf(key, YD_REDIS_FILE_KEY_MAX, "yodad:%s:%.64s", kind == YD_REDIS_PICTURE ? "picture" : "checkpoint", name);
}

// Ask once more on a new connection where the old one turns out to be closed, not where nobody answers: asking twice does no harm. *r is NULL after a failure.
static int ask(yd_redis_files *f, int argc, const char **argv, const size_t *len, redisReply **r, yd_err *err)
{
    *r = NULL;
    for (int old = f->c != NULL;; old = 0) {
        if (!f->c && yd_redis_connect(&f->url, f->answer_ms, &f->c, err)) return err->code = YD_E_STORE_AWAY;
        *r = redisCommandArgv(f->c, argc, argv, len);
        if (*r && (*r)->type != REDIS_REPLY_ERROR) return 0;
        const int broken = !*r, silent = broken && f->c->err == REDIS_ERR_IO && errno == EAGAIN;
        yd_fail(err, YD_E_STORE_AWAY, "the shared store says: %s", *r ? (*r)->str : f->c->errstr);
        freeReplyObject(*r);
        *r = NULL;
        if (broken) disconnect(f);
        if (!broken || silent || !old) return YD_E_STORE_AWAY;
    }
}

static int run(yd_redis_files *f, const char *script, const char *key, const void *bytes, size_t n, long long *said,
               yd_err *err)
{
    const char *argv[] = {"EVAL", script, "0", key, bytes};
    const size_t len[] = {4, strlen(script), 1, strlen(key), n};
    redisReply *r;
    const int rc = ask(f, bytes ? 5 : 4, argv, len, &r, err);
    *said = r && r->type == REDIS_REPLY_INTEGER ? r->integer : 0;
    freeReplyObject(r);
    return rc;
}

int yd_redis_files_put(yd_redis_files *f, yd_redis_file_kind kind, const char *name, const void *bytes, size_t len,
                       yd_err *err)
{
    char key[YD_REDIS_FILE_KEY_MAX];
    long long there = 0;
    if (len > f->most)
        return yd_fail(err, YD_E_STORAGE,
                       "a file of %zu bytes is larger than the %zu that picture_store_max keeps in the shared store",
                       len, f->most);
    yd_redis_file_key(kind, name, key);
    const int rc = kind == YD_REDIS_PICTURE ? run(f, touch_script, key, NULL, 0, &there, err) : 0;
    return rc || there ? rc : run(f, put_script, key, len ? bytes : "", len, &there, err);
}

// ---- copies --------------------------------------------------------------------------------------------------------

static int not_written(yd_err *err, const char *path)
{
    const int full = errno == ENOSPC || errno == EDQUOT;
    return yd_fail(err, full ? YD_E_STORAGE : YD_E_IO, "cannot write %s: %m", path);
}

// Not synced: after a crash it is fetched again, and pictures are compared with their digests before they are sent.
static int write_copy(const char *path, const char *bytes, size_t len, yd_err *err)
{
    char temp[600];
    uint64_t own = 0;
    if (getrandom(&own, sizeof own, GRND_NONBLOCK) != (ssize_t)sizeof own) own = (uint64_t)(uintptr_t)bytes;
    const char *slash = strrchr(path, '/');
    const int n = snprintf(temp, sizeof temp, "%.*s/.new-%016" PRIx64, slash ? (int)(slash - path) : 0, path, own);
    if (!slash || n < 0 || (size_t)n >= sizeof temp)
        return yd_fail(err, YD_E_IO, "the path %.100s cannot be used", path);
    const int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return not_written(err, path);
    int bad = 0;
    while (len > 0 && !bad) {
        const ssize_t done = write(fd, bytes, len);
        if (done < 0 && errno == EINTR) continue;
        bad = done < 0;
        if (!bad) bytes += done, len -= (size_t)done;
    }
    if (close(fd)) bad = 1;
    if (!bad && rename(temp, path) == 0) return 0;
    const int rc = not_written(err, path);
    unlink(temp);
    return rc;
}

int yd_redis_files_fetch(yd_redis_files *f, yd_redis_file_kind kind, const char *name, const char *path, yd_err *err)
{
    char key[YD_REDIS_FILE_KEY_MAX];
    if (kind == YD_REDIS_PICTURE && access(path, F_OK) == 0) return 0;
    yd_redis_file_key(kind, name, key);
    const char *argv[] = {"GET", key};
    redisReply *r;
    int rc = ask(f, 2, argv, NULL, &r, err);
    if (!rc && r->type != REDIS_REPLY_STRING)
        rc = yd_fail(err, YD_E_NOT_FOUND, "the shared store has no file %.64s", name);
    if (!rc) rc = write_copy(path, r->str, r->len, err);
    freeReplyObject(r);
    return rc;
}
