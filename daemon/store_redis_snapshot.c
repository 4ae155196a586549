// The mirror from the log, and the log kept short: loading, applying one entry, and writing a snapshot.
//
// A snapshot is the mirror of one position as a list of entries (store_entry.h), complete when its last one says how many rows there are. It is
// written under a name of its own by a pool thread with a connection of its own, from copies; then one script makes it the one that counts,
// removes the one before, and trims the log up to as much before its position as lies between two snapshots. One replica at a time does so (a lock with a time). Who loads while it is
// replaced finds a list without an end, and begins again.
// Threads: the loop's, except snap_main.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "daemon/log.h"
#include <stdlib.h>
#include <string.h>

#define PAGE        200
#define LOCK_MS     60000
#define ANSWER_MS   5000
#define LOAD_TRIES  5
#define BURST       100

// ---- entries of the log --------------------------------------------------------------------------------------------

static void add_released(void *store, const char *id)
{
    yd_redis_store *s = store;
    if (s->n_released == s->cap_released) {
        const size_t cap = s->cap_released ? 2 * s->cap_released : 16;
        void *more = yd_realloc(s->released, cap * sizeof *s->released);
        if (!more) {
            s->released_more = 1;
            return;
        }
        s->released = more;
        s->cap_released = cap;
    }
    snprintf(s->released[s->n_released++], sizeof *s->released, "%s", id);
}

int yd_redis_take(yd_redis_store *s, const char *id, const char *text, size_t len, yd_entry *e, yd_err *err)
{
    const uint64_t at = strtoull(id, NULL, 10);
    memset(e, 0, sizeof *e);
    if (at != s->position + 1)
        return yd_fail(err, YD_E_IO, "the shared log goes on at %llu, not at %llu: it was changed, or trimmed beyond what is known here",
                       (unsigned long long)at, (unsigned long long)s->position + 1);
    int rc = yd_entry_parse(text, len, e, err);
    if (rc) return rc;
    s->n_released = 0;
    s->released_more = 0;
    if (e->what == YD_ENTRY_RELEASE)
        yd_mirror_release(s->mirror, e->replica, add_released, s);
    else if (e->what == YD_ENTRY_OP)
        yd_mirror_apply(s->mirror, e->op, e->replica);
    else
        rc = yd_fail(err, YD_E_IO, "the shared log has an entry that belongs into a snapshot");
    if (e->op && e->op->rc == YD_E_NOMEM) rc = yd_fail(err, YD_E_NOMEM, "%s", e->op->err.detail);
    if (rc) {
        yd_entry_clear(e);
        return rc;
    }
    s->position = at;
    s->since_snapshot++;
    return 0;
}

// ---- loading -------------------------------------------------------------------------------------------------------

static int answer(const redisContext *c, const redisReply *r, int type, yd_err *err)
{
    if (r && r->type == type) return 0;
    return yd_fail_field(err, YD_E_CONFIG, "store", "a Redis server with this program's data, or none", "the shared store cannot be read: %s",
                         r && r->type == REDIS_REPLY_ERROR ? r->str : c->err ? c->errstr : "it holds something else");
}

typedef struct end {
    int seen;
    uint64_t rows, order, ends;
} end;

static int restore(yd_redis_store *s, const redisReply *text, end *last, yd_err *err)
{
    yd_entry e;
    if (text->type != REDIS_REPLY_STRING) return yd_fail(err, YD_E_IO, "a snapshot that is none");
    int rc = yd_entry_parse(text->str, (size_t)text->len, &e, err);
    if (rc) return rc;
    if (e.what == YD_ENTRY_ROW) {
        rc = yd_mirror_restore_row(s->mirror, &e.row);
        last->rows++;
    } else if (e.what == YD_ENTRY_GRAVE) {
        rc = yd_mirror_restore_grave(s->mirror, e.op->rec.id, e.op->now_ms);
    } else if (e.what == YD_ENTRY_BATCH) {
        yd_mirror_apply(s->mirror, e.op, 0);
        rc = e.op->rc;
    } else if (e.what == YD_ENTRY_END) {
        last->seen = e.rows == last->rows;
        last->order = e.order;
        last->ends = e.ends;
    }
    yd_entry_clear(&e);
    return rc ? yd_fail(err, rc, "no memory for the jobs of the shared store") : 0;
}

// 1: it was replaced meanwhile.
static int load_list(yd_redis_store *s, redisContext *c, const char *name, yd_err *err)
{
    end last = {0};
    int rc = 0, n = PAGE;
    for (long at = 0; !rc && n == PAGE; at += PAGE) {
        redisReply *r = redisCommand(c, "LRANGE %s %ld %ld", name, at, at + PAGE - 1);
        rc = answer(c, r, REDIS_REPLY_ARRAY, err);
        n = rc ? 0 : (int)r->elements;
        for (int i = 0; i < n && !rc; i++) rc = restore(s, r->element[i], &last, err);
        freeReplyObject(r);
    }
    if (rc || !last.seen) return rc ? rc : 1;
    s->position = strtoull(name + strlen(YD_KEY_SNAPSHOT) + 1, NULL, 10);
    return yd_mirror_restored(s->mirror, last.order, last.ends) ? yd_fail(err, YD_E_NOMEM, "no memory for the jobs of the shared store") : 0;
}

static int load_snapshot(yd_redis_store *s, redisContext *c, yd_err *err)
{
    yd_mirror_free(s->mirror);
    s->position = 0;
    if (!(s->mirror = yd_mirror_new())) return yd_fail(err, YD_E_NOMEM, "no memory for the job store");
    yd_mirror_on_refer(s->mirror, yd_redis_refer, s);
    redisReply *r = redisCommand(c, "GET %s", YD_KEY_SNAPSHOT);
    const int none = r && r->type == REDIS_REPLY_NIL;
    int rc = none ? 0 : answer(c, r, REDIS_REPLY_STRING, err);
    if (!rc && !none) rc = load_list(s, c, r->str, err);
    freeReplyObject(r);
    return rc;
}

static int take_reply(yd_redis_store *s, const redisReply *r, yd_err *err)
{
    yd_entry e;
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[1]->type != REDIS_REPLY_ARRAY || r->element[1]->elements != 2)
        return yd_fail(err, YD_E_IO, "the shared log is none");
    const redisReply *text = r->element[1]->element[1];
    int rc = yd_redis_take(s, r->element[0]->str, text->str, (size_t)text->len, &e, err);
    if (!rc) yd_entry_clear(&e);
    return rc;
}

static int load_log(yd_redis_store *s, redisContext *c, yd_err *err)
{
    int rc = 0;
    for (size_t n = PAGE; !rc && n == PAGE;) {
        redisReply *r = redisCommand(c, "XRANGE %s (%llu-1 + COUNT %d", YD_KEY_LOG, (unsigned long long)s->position, PAGE);
        rc = answer(c, r, REDIS_REPLY_ARRAY, err);
        n = rc ? 0 : r->elements;
        for (size_t i = 0; i < n && !rc; i++) rc = take_reply(s, r->element[i], err);
        freeReplyObject(r);
    }
    return rc;
}

int yd_redis_load(yd_redis_store *s, redisContext *c, yd_err *err)
{
    int rc = 1;
    for (int i = 0; i < LOAD_TRIES && rc == 1; i++) rc = load_snapshot(s, c, err);
    if (rc == 1) rc = yd_fail_field(err, YD_E_CONFIG, "store", "", "the shared store's snapshot is damaged");
    s->since_snapshot = 0;
    return rc ? rc : load_log(s, c, err);
}

// ---- writing a snapshot --------------------------------------------------------------------------------------------

typedef struct yd_snapshot {
    yd_redis_url url;
    char name[96], token[24], trim[24], position[24], last[24];
    int heal;
    uint64_t order, ends;
    yd_mirror_row *rows;
    size_t n_rows, cap;
    char **others; // graves and batches, printed
    size_t n_others, cap_others;
    int bad;
    long wire; // answers to be read
} yd_snapshot;

static void copy_row(void *arg, const yd_mirror_row *row)
{
    yd_snapshot *p = arg;
    if (p->n_rows == p->cap) return; // cannot be
    p->rows[p->n_rows] = *row;
    yd_job_record_copy(&p->rows[p->n_rows++].rec, &row->rec);
}

static void add_other(yd_snapshot *p, char *text)
{
    if (text && p->n_others == p->cap_others) {
        const size_t cap = p->cap_others ? 2 * p->cap_others : 64;
        void *more = yd_realloc(p->others, cap * sizeof *p->others);
        if (more) {
            p->others = more;
            p->cap_others = cap;
        }
    }
    if (text && p->n_others < p->cap_others)
        p->others[p->n_others++] = text;
    else {
        yd_free(text);
        p->bad = 1;
    }
}

static void copy_grave(void *arg, const char *id, int64_t since_ms)
{
    add_other(arg, yd_entry_print_grave(id, since_ms));
}

static void copy_batch(void *arg, const char *id, const char *owner, const char *doc)
{
    add_other(arg, yd_entry_print_batch(id, owner, doc));
}

void yd_redis_snapshot_free(yd_snapshot *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n_rows; i++) yd_job_record_clear(&p->rows[i].rec);
    for (size_t i = 0; i < p->n_others; i++) yd_free(p->others[i]);
    yd_free(p->rows);
    yd_free(p->others);
    yd_free(p);
}

yd_snapshot *yd_redis_snapshot_copy(const yd_redis_store *s)
{
    yd_snapshot *p = yd_calloc(1, sizeof *p);
    if (!p) return NULL;
    p->url = s->url;
    p->order = yd_mirror_last_order(s->mirror);
    p->ends = yd_mirror_last_end(s->mirror);
    p->cap = yd_mirror_count(s->mirror);
    snprintf(p->token, sizeof p->token, "%s", s->replica_text);
    const uint64_t back = (uint64_t)s->opt.snapshot_every; // for replicas that read more slowly
    snprintf(p->trim, sizeof p->trim, "%llu", (unsigned long long)(s->position > back ? s->position - back : 0));
    snprintf(p->position, sizeof p->position, "%llu", (unsigned long long)s->position);
    snprintf(p->name, sizeof p->name, "%s:%llu:%s", YD_KEY_SNAPSHOT, (unsigned long long)s->position, p->token);
    p->rows = yd_calloc(p->cap + 1, sizeof *p->rows);
    if (p->rows) yd_mirror_walk(s->mirror, &(yd_mirror_sink){p, copy_row, copy_grave, copy_batch});
    if (p->rows && !p->bad) return p;
    yd_redis_snapshot_free(p);
    return NULL;
}

static int read_answers(yd_snapshot *p, redisContext *c)
{
    for (; p->wire > 0; p->wire--) {
        redisReply *r = NULL;
        if (redisGetReply(c, (void **)&r) != REDIS_OK) return -1;
        const int bad = r->type == REDIS_REPLY_ERROR;
        freeReplyObject(r);
        if (bad) p->bad = 1;
    }
    return p->bad ? -1 : 0;
}

// Takes text.
static int push(yd_snapshot *p, redisContext *c, char *text)
{
    const int bad = !text || redisAppendCommand(c, "RPUSH %s %s", p->name, text) != REDIS_OK;
    yd_free(text);
    if (bad) return -1;
    return ++p->wire < BURST ? 0 : read_answers(p, c);
}

static const char publish_script[] =
    "if redis.call('GET', 'yodad:snapshot:lock') ~= ARGV[1] then return 0 end\n"
    "local old = redis.call('GET', 'yodad:snapshot')\n"
    "if old and tonumber(string.match(old, ':(%d+):')) >= tonumber(string.match(ARGV[2], ':(%d+):')) then\n"
    "  redis.call('DEL', 'yodad:snapshot:lock')\n"
    "  return 0\n"
    "end\n"
    "redis.call('SET', 'yodad:snapshot', ARGV[2])\n"
    "if old then redis.call('UNLINK', old) end\n"
    "redis.call('XTRIM', 'yodad:log', 'MINID', ARGV[3] .. '-1')\n"
    "redis.call('DEL', 'yodad:snapshot:lock')\n"
    "return 1";

// ARGV: replica, name, position, number of its last operation. The log begins anew behind the snapshot.
static const char heal_script[] =
    "if redis.call('HEXISTS', 'yodad:live', ARGV[1]) == 0 then return 0 end\n"
    "local old = redis.call('GET', 'yodad:snapshot')\n"
    "redis.call('SET', 'yodad:snapshot', ARGV[2])\n"
    "if old and old ~= ARGV[2] then redis.call('UNLINK', old) end\n"
    "redis.call('DEL', 'yodad:log', 'yodad:snapshot:lock')\n"
    "redis.call('SET', 'yodad:count', ARGV[3])\n"
    "redis.call('HSET', 'yodad:live', ARGV[1], ARGV[4])\n"
    "return 1";

static int write_list(yd_snapshot *p, redisContext *c)
{
    int bad = redisAppendCommand(c, "DEL %s", p->name) != REDIS_OK;
    p->wire = 1;
    for (size_t i = 0; i < p->n_rows && !bad; i++) bad = push(p, c, yd_entry_print_row(&p->rows[i]));
    for (size_t i = 0; i < p->n_others && !bad; i++) {
        bad = push(p, c, p->others[i]);
        p->others[i] = NULL;
    }
    if (!bad) bad = push(p, c, yd_entry_print_end(p->n_rows, p->order, p->ends));
    return bad ? -1 : read_answers(p, c);
}

// ARGV: name, position. As above, and everybody begins again.
static const char over_script[] =
    "if tonumber(redis.call('GET', 'yodad:count') or '0') >= tonumber(ARGV[2]) then return 0 end\n"
    "local old = redis.call('GET', 'yodad:snapshot')\n"
    "redis.call('SET', 'yodad:snapshot', ARGV[1])\n"
    "if old and old ~= ARGV[1] then redis.call('UNLINK', old) end\n"
    "redis.call('DEL', 'yodad:log', 'yodad:snapshot:lock', 'yodad:heal')\n"
    "redis.call('SET', 'yodad:count', ARGV[2])\n"
    "redis.call('SETNX', 'yodad:version', '1')\n"
    "for _, n in ipairs(redis.call('HKEYS', 'yodad:live')) do\n"
    "  redis.call('HDEL', 'yodad:live', n)\n"
    "  redis.call('DEL', 'yodad:lease:' .. n)\n"
    YD_REDIS_APPEND_RELEASE("n")
    "end\n"
    "local last = tonumber(redis.call('GET', 'yodad:boot') or '0')\n"
    "if last < tonumber(ARGV[3]) then redis.call('SET', 'yodad:boot', ARGV[3]) end\n"
    "return 1";

int yd_redis_snapshot_over(yd_snapshot *p, redisContext *c)
{
    for (size_t i = 0; i < p->n_rows; i++) { // nobody has anything any more
        p->rows[i].holder = 0;
        if (p->rows[i].rec.state == YD_JOB_RUNNING) p->rows[i].rec.state = YD_JOB_QUEUED;
    }
    redisReply *done = NULL;
    if (write_list(p, c) == 0) done = redisCommand(c, "EVAL %s 0 %s %s %s", over_script, p->name, p->position, p->token);
    const int ok = done && done->type == REDIS_REPLY_INTEGER && done->integer == 1;
    if (!ok && !c->err) {
        redisReply *gone = redisCommand(c, "DEL %s", p->name);
        freeReplyObject(gone);
    }
    freeReplyObject(done);
    return ok ? 0 : -1;
}

static void snap_main(uv_work_t *w)
{
    yd_snapshot *p = ((yd_redis_store *)w->data)->snapshot;
    redisContext *c = NULL;
    yd_err ignored; // the next one is written as soon
    if (yd_redis_connect(&p->url, ANSWER_MS, &c, &ignored)) return;
    redisReply *lock = redisCommand(c, p->heal ? "SET %s %s PX %d" : "SET %s %s NX PX %d", YD_KEY_SNAPLOCK, p->token, LOCK_MS), *done = NULL;
    if (lock && lock->type == REDIS_REPLY_STATUS) {
        const int bad = write_list(p, c);
        if (!bad && p->heal) done = redisCommand(c, "EVAL %s 0 %s %s %s %s", heal_script, p->token, p->name, p->position, p->last);
        if (!bad && !p->heal) done = redisCommand(c, "EVAL %s 0 %s %s %s", publish_script, p->token, p->name, p->trim);
        if (!done || done->type != REDIS_REPLY_INTEGER || done->integer != 1) {
            redisReply *gone = c->err ? NULL : redisCommand(c, "DEL %s %s", p->name, YD_KEY_SNAPLOCK);
            freeReplyObject(gone);
        }
    }
    freeReplyObject(lock);
    freeReplyObject(done);
    redisFree(c);
}

static void snap_done(uv_work_t *w, int status)
{
    yd_redis_store *s = w->data;
    (void)status;
    s->snapping = s->healing = 0; // the next refresh tells whether it is well again
    yd_redis_snapshot_free(s->snapshot);
    s->snapshot = NULL;
}

static int begin(yd_redis_store *s)
{
    if (s->snapping || s->closing || !(s->snapshot = yd_redis_snapshot_copy(s))) return 0;
    s->snap_work.data = s;
    s->snapping = 1;
    return 1;
}

static void go(yd_redis_store *s)
{
    if (uv_queue_work(s->tick.loop, &s->snap_work, snap_main, snap_done)) snap_done(&s->snap_work, 0);
}

void yd_redis_snapshot_if_due(yd_redis_store *s)
{
    if (s->since_snapshot < s->opt.snapshot_every || !begin(s)) return;
    s->since_snapshot = 0;
    go(s);
}

void yd_redis_heal(yd_redis_store *s)
{
    if (!begin(s)) return;
    yd_log(YD_LOG_WARN, NULL, "the shared store has lost the end of its log, which is written anew", NULL);
    s->healing = s->snapshot->heal = 1;
    snprintf(s->snapshot->last, sizeof s->snapshot->last, "%llu", (unsigned long long)s->last_logged);
    go(s);
}
