// Coming to a shared store: a number, a lease, the mirror from the snapshot and the log. And the scripts, each of which is one atomic change.
//
// A replica's number is drawn from a counter when it joins, so a later process never has an earlier one's. It is live while the hash `live` has
// it: only then does the append script take its operations. Whoever finds a live number without a lease takes it out of the hash and says so in
// the log, in one step: what the replica had claimed waits again in every mirror, and nothing that it still sends counts.
// Threads: the loop's, before the store is there.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/state_lock.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPEN_ANSWER_MS 5000
#define LOADING_MS     30000 // that a server may take to read its own files

#define APPEND_RELEASE(n) YD_REDIS_APPEND_RELEASE(n)

// ARGV: replica, number, the number before it, text. KEYS only say which keys: all of them are in one database.
const char yd_redis_append_script[] = YD_REDIS_APPEND_CHECKS YD_REDIS_APPEND_DO "return 'done'";

// ARGV: replica, who, milliseconds, the position of its mirror. The number of its last operation, and the server's time.
const char yd_redis_refresh_script[] =
    "if tonumber(redis.call('GET', 'yodad:count') or '0') < tonumber(ARGV[4]) then return 'behind' end\n"
    "local last = redis.call('HGET', 'yodad:live', ARGV[1])\n"
    "if not last then return 'fenced' end\n"
    "redis.call('SET', 'yodad:lease:' .. ARGV[1], ARGV[2], 'PX', ARGV[3])\n"
    "local t = redis.call('TIME')\n"
    "return last .. ' ' .. string.format('%.0f', tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000))";

// ARGV: replica. It leaves of its own accord.
const char yd_redis_release_script[] =
    "if redis.call('HDEL', 'yodad:live', ARGV[1]) == 0 then return 'fenced' end\n"
    "redis.call('DEL', 'yodad:lease:' .. ARGV[1])\n"
    APPEND_RELEASE("ARGV[1]")
    "return 'done'";

// ARGV: replica, which is alive, the time that the server last told it, milliseconds that this may be ago: a command that was on its way while the
// server was stopped must not end leases that could not be refreshed meanwhile. Everybody else without a lease is released.
const char yd_redis_reap_script[] =
    "local t = redis.call('TIME')\n"
    "if tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) - tonumber(ARGV[2]) > tonumber(ARGV[3]) then return 'late' end\n"
    "for _, n in ipairs(redis.call('HKEYS', 'yodad:live')) do\n"
    "  if n ~= ARGV[1] and redis.call('EXISTS', 'yodad:lease:' .. n) == 0 then\n"
    "    redis.call('HDEL', 'yodad:live', n)\n"
    APPEND_RELEASE("n")
    "  end\n"
    "end\n"
    "return 'done'";

// ARGV: several, who, milliseconds. {what happened, who has it, its number} or {joined, number}.
static const char join_script[] =
    "if redis.call('SETNX', 'yodad:version', '1') == 0 and redis.call('GET', 'yodad:version') ~= '1' then\n"
    "  return {'version', redis.call('GET', 'yodad:version'), '0'}\n"
    "end\n"
    "for _, n in ipairs(redis.call('HKEYS', 'yodad:live')) do\n"
    "  local who = redis.call('GET', 'yodad:lease:' .. n)\n"
    "  if who and ARGV[1] == '0' then return {'busy', who, n} end\n"
    "  if not who and ARGV[1] == '0' then\n" // among several, whose leases a stop of the server may have ended, only after a while
    "    redis.call('HDEL', 'yodad:live', n)\n"
    APPEND_RELEASE("n")
    "  end\n"
    "end\n"
    "local n = redis.call('INCR', 'yodad:boot')\n"
    "redis.call('HSET', 'yodad:live', n, 0)\n"
    "redis.call('SET', 'yodad:lease:' .. n, ARGV[2], 'PX', ARGV[3])\n"
    "return {'joined', string.format('%.0f', n), '0'}";

// ---- who has it ----------------------------------------------------------------------------------------------------

// This process, so that another one on the same machine can tell whether it is still there: the machine's start and the space of its numbers.
static void describe(char *dst, size_t cap)
{
    char host[64] = "", boot[40] = "", space[48] = "";
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f && fscanf(f, "%39s", boot) != 1) *boot = 0;
    if (f) fclose(f);
    const ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
    space[n > 0 ? n : 0] = 0;
    gethostname(host, sizeof host - 1);
    snprintf(dst, cap, "process %ld on %.50s (%.40s %.30s)", (long)getpid(), host, boot, space);
}

// The lease of a process that has ended on this machine need not be waited for.
static int has_ended(const yd_redis_store *s, const char *who)
{
    const char *mine = strchr(s->who, '('), *theirs = strchr(who, '(');
    long pid = 0;
    if (!mine || !theirs || strcmp(mine, theirs) != 0 || strlen(mine) < 40 || sscanf(who, "process %ld on", &pid) != 1) return 0;
    return pid > 0 && kill((pid_t)pid, 0) && errno == ESRCH;
}

static int unreachable(const redisContext *c, const redisReply *r, yd_err *err)
{
    return yd_fail_field(err, YD_E_CONFIG, "store", "a Redis server that can be written to", "the shared store says: %s",
                         r && r->type == REDIS_REPLY_ERROR ? r->str : c->err ? c->errstr : "something else than was asked for");
}

// 0: joined. 1: somebody else has it.
static int try_join(yd_redis_store *s, redisContext *c, char who[160], yd_err *err)
{
    redisReply *r = redisCommand(c, "EVAL %s 0 %d %s %lld", join_script, s->opt.several, s->who, (long long)s->opt.lease_ms);
    int rc = 0;
    if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != 3 || r->element[1]->type != REDIS_REPLY_STRING) {
        rc = unreachable(c, r, err);
    } else if (strcmp(r->element[0]->str, "version") == 0) {
        rc = yd_fail_field(err, YD_E_CONFIG, "store", "a database of this version", "the shared store is of version %.40s, this program knows 1",
                           r->element[1]->str);
    } else if (strcmp(r->element[0]->str, "busy") == 0) {
        snprintf(who, 160, "%s", r->element[1]->str);
        rc = 1;
        if (has_ended(s, who)) {
            redisReply *gone = redisCommand(c, "DEL %s%s", YD_KEY_LEASE, r->element[2]->str);
            freeReplyObject(gone);
        }
    } else {
        s->replica = strtoll(r->element[1]->str, NULL, 10);
    }
    freeReplyObject(r);
    return rc;
}

// What processes that have ended on this machine had need not wait for the end of their leases.
static void end_leases(const yd_redis_store *s, redisContext *c)
{
    redisReply *all = redisCommand(c, "HKEYS %s", YD_KEY_LIVE);
    for (size_t i = 0; all && all->type == REDIS_REPLY_ARRAY && i < all->elements; i++) {
        redisReply *who = redisCommand(c, "GET %s%s", YD_KEY_LEASE, all->element[i]->str);
        if (who && who->type == REDIS_REPLY_STRING && has_ended(s, who->str)) {
            redisReply *gone = redisCommand(c, "EVAL %s 0 %s", yd_redis_release_script, all->element[i]->str);
            freeReplyObject(gone);
        }
        freeReplyObject(who);
    }
    freeReplyObject(all);
}

static int join(yd_redis_store *s, redisContext *c, yd_err *err)
{
    char who[160] = "";
    const int64_t until = yd_mono_us() + s->opt.lease_ms * 1000 + 500000;
    describe(s->who, sizeof s->who);
    if (s->opt.several) end_leases(s, c);
    int rc;
    while ((rc = try_join(s, c, who, err)) == 1 && yd_mono_us() < until) usleep(50000); // a dead one's lease ends within that time
    if (rc == 1)
        return yd_fail_field(err, YD_E_CONFIG, "store", "a database of its own for every process", "the shared store is used by %s", who);
    snprintf(s->replica_text, sizeof s->replica_text, "%lld", (long long)s->replica);
    snprintf(s->lease_key, sizeof s->lease_key, "%s%s", YD_KEY_LEASE, s->replica_text);
    s->base.boot = s->replica;
    return rc;
}

// ---- what it promises ----------------------------------------------------------------------------------------------

// The value of a setting of the server. 0: it does not say.
static int ask_setting(redisContext *c, const char *name, char value[16])
{
    redisReply *r = redisCommand(c, "CONFIG GET %s", name);
    const int told = r && r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[1]->type == REDIS_REPLY_STRING;
    if (told) snprintf(value, 16, "%s", r->element[1]->str);
    freeReplyObject(r);
    return told;
}

static const char *durability(redisContext *c)
{
    char log[16], sync[16];
    if (!ask_setting(c, "appendonly", log) || !ask_setting(c, "appendfsync", sync)) return "unknown";
    if (strcmp(log, "yes") != 0) {
        yd_log(YD_LOG_WARN, NULL, "the shared store keeps no log of its own (appendonly no): jobs are lost when it ends", NULL);
        return "none";
    }
    return strcmp(sync, "always") == 0 ? "fsync" : strcmp(sync, "everysec") == 0 ? "everysec" : "unknown";
}

// ---- all of it -----------------------------------------------------------------------------------------------------

static int connect_loaded(yd_redis_store *s, redisContext **c, yd_err *err)
{
    const int64_t until = yd_mono_us() + LOADING_MS * 1000;
    int rc;
    while ((rc = yd_redis_connect(&s->url, OPEN_ANSWER_MS, c, err)) == YD_E_STORAGE && strstr(err->detail, "LOADING") && yd_mono_us() < until)
        usleep(100000);
    if (rc == YD_E_STORAGE) err->code = rc = YD_E_CONFIG;
    return rc;
}

int yd_redis_join_again(yd_redis_store *s, redisContext *c, yd_err *err)
{
    const int rc = join(s, c, err);
    return rc ? rc : yd_redis_load(s, c, err);
}

int yd_redis_join(yd_redis_store *s, const char *folder, yd_err *err)
{
    redisContext *c = NULL;
    s->lock_fd = -1;
    s->refs = yd_idmap_new();
    int rc = s->refs ? yd_state_lock(folder, s->opt.several && !s->opt.most_picture, &s->lock_fd, err) : yd_fail(err, YD_E_NOMEM, "no memory for the job store");
    if (!rc) rc = yd_spool_open(folder, "pictures", &s->spool, err);
    if (!rc && s->opt.several && !s->opt.most_picture) yd_spool_share(s->spool);
    if (!rc) rc = yd_redis_files_open(s, err);
    if (!rc) rc = connect_loaded(s, &c, err);
    if (!rc) rc = join(s, c, err);
    if (!rc) rc = yd_redis_load(s, c, err);
    if (!rc) rc = yd_redis_files_secret(s, c, err);
    if (!rc) {
        s->base.durability = durability(c);
        yd_redis_sweep(s);
        yd_redis_sweep_server(s, c);
    } else if (c && s->replica) {
        redisReply *r = redisCommand(c, "EVAL %s 0 %s", yd_redis_release_script, s->replica_text);
        freeReplyObject(r);
    }
    if (c) redisFree(c);
    return rc;
}

void yd_redis_free_parts(yd_redis_store *s)
{
    yd_mirror_free(s->mirror); // takes the references away as well
    yd_redis_forget_refs(s);
    yd_redis_budgets_free(s);
    yd_free(s->doubtful);
    yd_free(s->released);
    yd_redis_files_end(s);
    yd_spool_close(s->spool);
    if (s->lock_fd >= 0) close(s->lock_fd);
    yd_free(s);
}
