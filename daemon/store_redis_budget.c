// Budgets of keys that all replicas on one Redis spend from: buckets in the server, one hash for each.
//
// Units of work are taken by the script that appends a new record (YD_REDIS_CHARGE), together with it or not at all. Requests are too many to ask
// for each: a replica spends from what it was last told there is, and tells what it has spent every SYNC_MS. Replicas together may so overdraw a
// bucket by what comes within that time; the bucket then owes it, so that what is spent in the long run is right. Without the server nothing is
// gained any more, and each replica has its share of what there was: then requests are refused rather than budgets overspent.
// Threads: the loop's.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SYNC_MS   100
#define FORGET_MS 60000
#define HOUR_S    3600

typedef struct yd_redis_budget {
    struct yd_redis_budget *next;
    char owner[YD_OWNER_MAX];
    double rate, most;   // a second; at a time
    double level;        // that may be spent here, as far as is known
    double heard;        // what there was when the server last said so; it has done so if `told`
    int64_t at_us;       // when that was so
    int64_t asked_us;    // when somebody last spent from it
    long unsent, sending; // requests that the server has not been told of
    int told;
    yd_redis_store *store;
} budget;

// A bucket that gains ARGV[rate] a second up to ARGV[most], and is a hash: `level` and the time `at` of it. It is full when it has expired.
#define BUCKET(key, most, rate) \
    "local b = redis.call('HMGET', " key ", 'level', 'at')\n" \
    "local t = redis.call('TIME')\n" \
    "local now, most, rate = tonumber(t[1]) + tonumber(t[2]) / 1000000, tonumber(" most "), tonumber(" rate ")\n" \
    "local level = most\n" \
    "if b[1] then level = math.min(most, tonumber(b[1]) + rate * math.max(0, now - tonumber(b[2]))) end\n"
#define KEEP_BUCKET(key) \
    "redis.call('HSET', " key ", 'level', string.format('%.17g', level), 'at', string.format('%.17g', now))\n" \
    "redis.call('PEXPIRE', " key ", math.ceil((most - level) / rate * 1000) + 1000)\n"

// As yd_redis_append_script, and ARGV[5]: the bucket's key, 6: units, 7: its most, 8: its rate. 'limit:' and the milliseconds until there is enough.
const char yd_redis_charge_script[] =
    YD_REDIS_APPEND_CHECKS
    BUCKET("ARGV[5]", "ARGV[7]", "ARGV[8]")
    "if level < tonumber(ARGV[6]) then return 'limit:' .. string.format('%.0f', math.ceil((tonumber(ARGV[6]) - level) / rate * 1000)) end\n"
    "level = level - tonumber(ARGV[6])\n"
    YD_REDIS_APPEND_DO
    KEEP_BUCKET("ARGV[5]")
    "return 'done'";

// ARGV: key, most, rate, what is spent (below 0: given back). It may owe as much as it holds. {what it has, replicas}.
static const char spend_script[] =
    BUCKET("ARGV[1]", "ARGV[2]", "ARGV[3]")
    "level = math.max(-most, math.min(most, level - tonumber(ARGV[4])))\n"
    KEEP_BUCKET("ARGV[1]")
    "return {string.format('%.17g', level), redis.call('HLEN', 'yodad:live')}";

void yd_redis_charge_text(const yd_store_op *op, yd_redis_charge *c)
{
    snprintf(c->key, sizeof c->key, YD_KEY_UNITS "%s", op->rec.owner);
    snprintf(c->units, sizeof c->units, "%.17g", op->charge.units);
    snprintf(c->most, sizeof c->most, "%.17g", op->charge.most);
    snprintf(c->rate, sizeof c->rate, "%.17g", op->charge.most / HOUR_S);
}

// ---- requests ------------------------------------------------------------------------------------------------------

static budget *find(yd_redis_store *s, const char *owner, double rate, double most)
{
    budget *b = s->budgets;
    while (b && strcmp(b->owner, owner) != 0) b = b->next;
    if (!b && (b = yd_calloc(1, sizeof *b))) {
        snprintf(b->owner, sizeof b->owner, "%s", owner);
        b->store = s;
        b->next = s->budgets;
        s->budgets = b;
        b->level = most;
        b->at_us = yd_mono_us();
    }
    if (b) {
        b->rate = rate;
        b->most = most;
    }
    return b;
}

static void gain(budget *b, int64_t now)
{
    if (b->store->ok) b->level = fmin(b->most, b->level + b->rate * (double)(now - b->at_us) / 1e6);
    b->at_us = now;
}

static int spend(yd_store *base, const char *owner, double rate, double most, long *wait_ms, yd_err *err)
{
    yd_redis_store *s = (yd_redis_store *)base;
    const int64_t now = yd_mono_us();
    budget *b = find(s, owner, rate, most);
    if (!b) return yd_fail(err, YD_E_NOMEM, "no memory to count requests");
    gain(b, now);
    b->asked_us = now;
    // Without the server: this replica's share of what there was, if it ever heard of it.
    const double have = s->ok ? b->level : b->told ? b->level - b->heard * (1 - 1.0 / (double)(s->replicas > 1 ? s->replicas : 1)) : 0;
    if (have >= 1) {
        b->level -= 1;
        b->unsent++;
        return 0;
    }
    *wait_ms = s->ok ? (long)ceil((1 - have) / rate * 1000) : YD_STORE_RETRY_MS;
    if (!s->ok) return yd_fail(err, YD_E_STORE_AWAY, "the budget of '%s' cannot be looked at: %.200s", owner, s->why);
    return yd_fail(err, YD_E_LIMIT, "'%s' may make %g requests a second", owner, rate);
}

static void on_spent(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *l = c->data;
    yd_redis_store *s = l->arg;
    budget *b = s->budgets;
    const redisReply *r = reply;
    while (b && b != arg) b = b->next;
    if (!b) return;
    const int counted = r && r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[0]->type == REDIS_REPLY_STRING;
    if (!counted) b->unsent += b->sending; // perhaps for the second time: less is spent then
    b->sending = 0;
    if (!counted) return;
    b->level = strtod(r->element[0]->str, NULL) - (double)b->unsent;
    b->heard = fmax(0, b->level);
    b->at_us = yd_mono_us();
    b->told = 1;
    s->replicas = (long)r->element[1]->integer;
}

static int send_spent(yd_redis_store *s, const char *key, double most, double rate, double amount, redisCallbackFn *fn, void *arg)
{
    char text[3][32];
    snprintf(text[0], sizeof text[0], "%.17g", most);
    snprintf(text[1], sizeof text[1], "%.17g", rate);
    snprintf(text[2], sizeof text[2], "%.17g", amount);
    const char *argv[] = {"EVAL", spend_script, "0", key, text[0], text[1], text[2]};
    return yd_redis_link_send(&s->writer, fn, arg, 7, argv, NULL);
}

static void sync_one(yd_redis_store *s, budget *b)
{
    char key[sizeof YD_KEY_REQUESTS + YD_OWNER_MAX];
    snprintf(key, sizeof key, YD_KEY_REQUESTS "%s", b->owner);
    if (send_spent(s, key, b->most, b->rate, (double)b->unsent, on_spent, b)) return;
    b->sending = b->unsent;
    b->unsent = 0;
}

void yd_redis_budgets_sync(yd_redis_store *s, int64_t now)
{
    if (!s->budgets || !s->writer.ready || s->muted || now - s->budgets_us < SYNC_MS * 1000) return;
    s->budgets_us = now;
    for (budget **at = &s->budgets, *b; (b = *at);) {
        if (!b->unsent && !b->sending && now - b->asked_us > FORGET_MS * 1000LL) {
            *at = b->next;
            yd_free(b);
            continue;
        }
        // Also what others spend counts for somebody who is asking.
        if (!b->sending && (b->unsent || now - b->asked_us < 10 * SYNC_MS * 1000)) sync_one(s, b);
        at = &b->next;
    }
}

void yd_redis_budgets_free(yd_redis_store *s)
{
    for (budget *b; (b = s->budgets);) {
        s->budgets = b->next;
        yd_free(b);
    }
}

// ---- units ---------------------------------------------------------------------------------------------------------

static void on_given_back(redisAsyncContext *c, void *reply, void *arg)
{
    (void)c, (void)reply, (void)arg; // what is lost is the owner's
}

static void give_back(yd_store *base, const char *owner, double units, double most)
{
    yd_redis_store *s = (yd_redis_store *)base;
    char key[sizeof YD_KEY_UNITS + YD_OWNER_MAX];
    snprintf(key, sizeof key, YD_KEY_UNITS "%s", owner);
    if (!s->muted && !s->fenced) send_spent(s, key, most, most / HOUR_S, -units, on_given_back, NULL);
}

static long unfinished(const yd_store *base, const char *owner)
{
    return yd_mirror_unfinished(((const yd_redis_store *)base)->mirror, owner);
}

void yd_redis_budgets(yd_redis_store *s)
{
    s->base.spend = spend;
    s->base.give_back = give_back;
    s->base.unfinished = unfinished;
}
