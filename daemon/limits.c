// What owners may have: weight, jobs at a time, units of work; and settings that change while they hold.
// Threads: the loop's.
#include "daemon/service_internal.h"

#include "core/keys.h"
#include "daemon/clock.h"
#include "daemon/log.h"

struct yd_keys *yd_service_keys(const yd_service *s)
{
    return s->keys;
}

double yd_owner_weight(void *service, const char *owner)
{
    const yd_service *s = service;
    const yd_key_limits *l = s->keys ? yd_keys_limits(s->keys, owner) : NULL;
    return l ? l->weight : 1;
}

static void take_keys(yd_service *s, yd_keys *next)
{
    if (!next) return;
    yd_keys_carry(next, s->keys);
    yd_keys_free(s->keys);
    s->keys = next;
    yd_owners_weigh(s->owners);
}

// What has copied settings for itself is told of the new ones.
static int spread(yd_service *s, uint64_t codec_memory, yd_err *err)
{
    const yd_config *cfg = s->cfg;
    yd_log_set_level(cfg->log_level);
    yd_policy *p = &s->sched.policy;
    p->max_running = cfg->max_running < YD_RUNNING_MAX ? (int)cfg->max_running : YD_RUNNING_MAX;
    p->max_idle_us = cfg->max_idle_ms * 1000;
    p->reserve_us = cfg->reserve_after_ms * 1000;
    p->slack_s = (double)cfg->share_slack_ms / 1000;
    p->catch_up_s = (double)cfg->share_catch_up_ms / 1000;
    if (yd_codec_most_memory(cfg) > codec_memory) yd_codecs_renew(s->codecs);
    const int rc = s->deliveries ? 0 : yd_deliveries_open(s, err);
    yd_pipeline_kick(s);
    return rc;
}

int yd_service_reload(yd_service *s, yd_config *cfg, const yd_config *next, yd_text *taken, yd_text *left, yd_err *err)
{
    yd_keys *keys = NULL;
    const uint64_t codec_memory = yd_codec_most_memory(cfg);
    int rc = *cfg->keys && *next->keys ? yd_keys_load(next->keys, &keys, err) : 0;
    if (!rc) rc = yd_deliveries_reload(s, next, err);
    if (rc) {
        yd_keys_free(keys);
        return rc;
    }
    take_keys(s, keys);
    yd_config_take(cfg, next, taken, left);
    return spread(s, codec_memory, err);
}

static const yd_key_limits *limits_of(const yd_service *s, const char *owner)
{
    return s->keys ? yd_keys_limits(s->keys, owner) : NULL;
}

// Jobs that are known to this process, one that is being stored too; and those that others have stored.
static long jobs_of(const yd_service *s, const char *owner)
{
    const long here = yd_owners_jobs(s->owners, owner), stored = s->store->unfinished ? s->store->unfinished(s->store, owner) : 0;
    return here > stored ? here : stored;
}

int yd_service_admit_owner(const yd_service *s, const char *owner, yd_err *err)
{
    const yd_key_limits *l = limits_of(s, owner);
    const long jobs = l && l->jobs ? jobs_of(s, owner) : 0;
    if (!l || !l->jobs || jobs < l->jobs) return 0;
    yd_fail(err, YD_E_LIMIT, "'%s' has %ld jobs under way, no more than %ld may be", owner, jobs, l->jobs);
    if (err) err->retry_ms = yd_service_retry_after_ms(s);
    return YD_E_LIMIT;
}

int yd_service_request(const yd_service *s, const char *owner, yd_err *err)
{
    const yd_key_limits *l = limits_of(s, owner);
    long wait_ms = 0;
    int rc;
    if (!l) return 0;
    if (s->store->spend && l->rate > 0)
        rc = s->store->spend(s->store, owner, l->rate, yd_keys_burst(l), &wait_ms, err);
    else
        rc = yd_keys_request(s->keys, owner, yd_mono_us(), &wait_ms, err);
    if (rc && err) err->retry_ms = wait_ms;
    return rc;
}

static int charge(yd_service *s, const char *owner, long units, yd_booking *b, yd_err *err)
{
    const yd_key_limits *l = limits_of(s, owner);
    long wait_ms = 0;
    int rc = 0;
    if (!l) return 0;
    if (!s->store->spend)
        rc = yd_keys_work(s->keys, owner, (double)units, yd_mono_us(), &wait_ms, err);
    else // the store takes them with the record
        rc = yd_keys_may_work(l, owner, (double)units, err);
    if (!rc) b->units = units;
    if (rc && err) err->retry_ms = wait_ms;
    return rc;
}

yd_charge yd_service_charge(const yd_service *s, const char *owner, const yd_booking *b)
{
    const yd_key_limits *l = limits_of(s, owner);
    yd_charge c = {0};
    if (!l || !s->store->spend) return c;
    c.jobs = l->jobs;
    if (l->units_per_hour > 0 && b->units > 0) {
        c.units = (double)b->units;
        c.most = l->units_per_hour;
    }
    return c;
}

void yd_service_charge_late(yd_service *s, const char *owner, const yd_booking *b)
{
    const yd_charge c = yd_service_charge(s, owner, b);
    if (c.units > 0) s->store->give_back(s->store, owner, -c.units, c.most);
}

int yd_service_book(yd_service *s, const char *owner, long units, yd_booking *b, yd_err *err)
{
    int rc = b->counted ? 0 : yd_service_admit_owner(s, owner, err);
    if (!rc) rc = charge(s, owner, units, b, err);
    if (!rc && !b->counted) {
        b->counted = yd_owners_enter(s->owners, owner) == 0;
        if (!b->counted) rc = yd_fail(err, YD_E_NOMEM, "no memory for another owner of jobs");
    }
    if (rc) yd_service_settle(s, owner, 0, b);
    return rc;
}

void yd_service_settle(yd_service *s, const char *owner, long units, yd_booking *b)
{
    if (b->units <= units) return;
    const yd_key_limits *l = limits_of(s, owner);
    if (l && !s->store->spend) yd_keys_give_back(s->keys, owner, (double)(b->units - units), yd_mono_us());
    if (l && s->store->spend && l->units_per_hour > 0) s->store->give_back(s->store, owner, (double)(b->units - units), l->units_per_hour);
    b->units = units;
}

void yd_service_uncount(yd_service *s, const char *owner, yd_booking *b)
{
    if (b->counted) yd_owners_leave(s->owners, owner);
    b->counted = 0;
}
