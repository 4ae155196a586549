// Coming back to a shared store from which this replica was fenced off, or whose log has lost its end: with a new number, a mirror that is read
// anew, and nothing in flight. What it had claimed waits again by then; the service is told that anything may have changed.
//
// A server that is killed may have acknowledged more than it had written, and one without a log of its own comes back empty: then its log ends
// before what replicas know. Nobody adds to it (the refresh that comes first on each connection says so); each says in a sorted set how far its
// mirror is, and the one that is farthest writes its mirror down as the snapshot from which all of them, itself included, begin again.
// What one has acknowledged that no other replica had read, and that is gone with it and the server's end at once, is lost.
// Threads: the loop's; rejoin_main on a pool thread with a shell of the store that nobody else knows.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 2000
#define SAY_MS    400  // for all to say how far they are: connections are made again within 250 ms
#define WAIT_MS   5000 // for another one to write its mirror down
#define AGAIN_MS  300

typedef struct yd_rejoin {
    yd_redis_store shell;    // what it comes back with
    struct yd_snapshot *all; // of the mirror as it is known here
    uint64_t position;
    char before[24]; // its number until now
    int rc;
    yd_err err;
} yd_rejoin;

static uint64_t ask_count(redisContext *c)
{
    redisReply *r = redisCommand(c, "GET %s", YD_KEY_COUNT);
    const uint64_t n = r && r->type == REDIS_REPLY_STRING ? strtoull(r->str, NULL, 10) : 0;
    freeReplyObject(r);
    return n;
}

static int is_farthest(const yd_rejoin *j, redisContext *c)
{
    redisReply *r = redisCommand(c, "ZREVRANGE %s 0 0", YD_KEY_HEAL);
    const int mine =
        r && r->type == REDIS_REPLY_ARRAY && r->elements == 1 && strcmp(r->element[0]->str, j->before) == 0;
    freeReplyObject(r);
    return mine;
}

static int heal(yd_rejoin *j, redisContext *c, yd_err *err)
{
    redisReply *said = redisCommand(c, "ZADD %s %llu %s", YD_KEY_HEAL, (unsigned long long)j->position, j->before);
    freeReplyObject(said);
    said = redisCommand(c, "PEXPIRE %s %d", YD_KEY_HEAL, 2 * WAIT_MS);
    freeReplyObject(said);
    usleep(SAY_MS * 1000);
    if (is_farthest(j, c) && yd_redis_snapshot_over(j->all, c))
        return yd_fail(err, YD_E_STORAGE, "%s", c->err ? c->errstr : "the shared store cannot be written anew");
    for (int64_t until = yd_mono_us() + WAIT_MS * 1000; ask_count(c) < j->position;) {
        if (c->err || yd_mono_us() > until)
            return yd_fail(err, YD_E_STORAGE,
                           "the shared store has lost the end of its log, and nobody has written it anew");
        usleep(50000);
    }
    return 0;
}

static void rejoin_main(uv_work_t *w)
{
    yd_rejoin *j = w->data;
    redisContext *c = NULL;
    j->rc = yd_redis_connect(&j->shell.url, ANSWER_MS, &c, &j->err);
    if (j->rc) return;
    if (ask_count(c) < j->position) j->rc = heal(j, c, &j->err);
    redisReply *left = j->rc ? NULL : redisCommand(c, "EVAL %s 0 %s", yd_redis_release_script, j->before);
    freeReplyObject(left); // it is gone already, or it goes now
    if (!j->rc) j->rc = yd_redis_join_again(&j->shell, c, &j->err);
    redisFree(c);
}

static void take_over(yd_redis_store *s, yd_redis_store *from)
{
    yd_mirror_on_refer(s->mirror, NULL, NULL);
    yd_mirror_free(s->mirror);
    yd_redis_forget_refs(s);
    s->mirror = from->mirror;
    s->refs = from->refs;
    from->mirror = NULL;
    from->refs = NULL;
    yd_mirror_on_refer(s->mirror, yd_redis_refer, s);
    s->keep_all |= from->keep_all;
    s->n_doubtful = 0; // a later start finds what is nobody's
    s->position = from->position;
    s->since_snapshot = from->since_snapshot;
    s->replica = s->base.boot = from->replica;
    memcpy(s->replica_text, from->replica_text, sizeof s->replica_text);
    memcpy(s->lease_key, from->lease_key, sizeof s->lease_key);
    s->next_number = s->last_logged = s->refresh_last = 0;
}

static void free_rejoin(yd_rejoin *j)
{
    yd_redis_snapshot_free(j->all);
    if (j->shell.mirror) yd_mirror_on_refer(j->shell.mirror, NULL, NULL);
    yd_mirror_free(j->shell.mirror);
    yd_redis_forget_refs(&j->shell);
    yd_free(j->shell.doubtful);
    yd_free(j->shell.released);
    yd_free(j);
}

static void rejoin_done(uv_work_t *w, int status)
{
    yd_rejoin *j = w->data;
    yd_redis_store *s = j->shell.changed_arg;
    (void)status;
    s->rejoining = 0;
    s->rejoin_us = yd_mono_us() + AGAIN_MS * 1000;
    if (j->rc) {
        snprintf(s->why, sizeof s->why, "%.250s", j->err.detail);
    } else if (!s->closing) {
        take_over(s, &j->shell);
        yd_redis_back(s);
    }
    free_rejoin(j);
}

void yd_redis_rejoin_if_due(yd_redis_store *s)
{
    if (!s->fenced || !s->opt.several || s->rejoining || s->working || s->snapping || s->closing || s->muted ||
        yd_mono_us() < s->rejoin_us)
        return;
    yd_rejoin *j = yd_calloc(1, sizeof *j);
    if (!j || !(j->all = yd_redis_snapshot_copy(s)) || !(j->shell.refs = yd_idmap_new())) {
        if (j) free_rejoin(j);
        s->rejoin_us = yd_mono_us() + AGAIN_MS * 1000;
        return;
    }
    j->shell.url = s->url;
    j->shell.opt = s->opt;
    j->shell.changed_arg = s;
    j->position = s->position;
    memcpy(j->before, s->replica_text, sizeof j->before);
    s->rejoin_work.data = j;
    s->rejoining = 1;
    if (uv_queue_work(s->tick.loop, &s->rejoin_work, rejoin_main, rejoin_done)) rejoin_done(&s->rejoin_work, 0);
}
