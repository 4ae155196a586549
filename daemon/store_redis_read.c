// What is asked of the Redis store: answered by its mirror, without the server. Threads: the loop's.
#include "daemon/store_redis.h"

#include <string.h>

static const yd_mirror *mirror_of(const yd_store *s)
{
    return ((const yd_redis_store *)s)->mirror;
}

static int get(yd_store *base, const char *id, int whole, yd_job_record *out, yd_err *err)
{
    memset(out, 0, sizeof *out);
    int rc = yd_mirror_get(mirror_of(base), id, out, err);
    if (!rc && whole && (rc = yd_redis_fill((yd_redis_store *)base, out, err))) yd_job_record_clear(out);
    return rc;
}

static int list_ids(yd_store *s, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    return yd_mirror_list(mirror_of(s), owner, state, before, limit, ids, orders);
}

static int list_due(yd_store *s, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    return yd_mirror_list_due(mirror_of(s), before, limit, ids, orders);
}

static int find_key(yd_store *s, const char *key, char id[YD_ID_MAX])
{
    return yd_mirror_find_key(mirror_of(s), key, id);
}

static int find_once(yd_store *s, const char *once, char id[YD_ID_MAX])
{
    return yd_mirror_find_once(mirror_of(s), once, id);
}

static void bundles(yd_store *s, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg)
{
    yd_mirror_bundles(mirror_of(s), each, arg);
}

static int64_t holder(const yd_store *s, const char *id)
{
    return yd_mirror_holder(mirror_of(s), id);
}

static void watch(yd_store *base, void (*changed)(void *arg, const char *id), void *arg)
{
    yd_redis_store *s = (yd_redis_store *)base;
    s->changed = changed;
    s->changed_arg = arg;
}

static void bundle(yd_store *s, const char *id, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg)
{
    yd_mirror_bundle(mirror_of(s), id, each, arg);
}

static uint64_t position(const yd_store *s)
{
    return ((const yd_redis_store *)s)->position;
}

static void follow(yd_store *base, void (*fn)(void *arg), void *arg)
{
    yd_redis_store *s = (yd_redis_store *)base;
    s->advanced = fn;
    s->advanced_arg = arg;
}

static void health(const yd_store *base, yd_store_health *out)
{
    const yd_redis_store *s = (const yd_redis_store *)base;
    *out = (yd_store_health){.ok = s->ok && !s->disk_bad, .fenced = s->fenced, .free_room = yd_spool_free_bytes(s->spool), .bytes = yd_mirror_bytes(s->mirror)};
    if (!out->ok) out->code = s->ok ? YD_E_STORAGE : YD_E_STORE_AWAY;
    if (!out->ok) snprintf(out->why, sizeof out->why, "%s", s->why);
}

void yd_redis_reads(yd_store *base)
{
    base->get = get;
    base->list = list_ids;
    base->list_due = list_due;
    base->find_key = find_key;
    base->find_once = find_once;
    base->bundles = bundles;
    base->bundle = bundle;
    base->health = health;
    base->holder = holder;
    base->watch = watch;
    base->position = position;
    base->follow = follow;
}
