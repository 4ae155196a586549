// What owners may have: weight, jobs at a time, units of work; and the key file, read again.
// Threads: the loop's.
#include "daemon/service_internal.h"

#include "daemon/clock.h"
#include "core/keys.h"

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

int yd_service_reload(yd_service *s, yd_err *err)
{
    yd_keys *next = NULL;
    if (!*s->cfg->keys) return 0;
    const int rc = yd_keys_load(s->cfg->keys, &next, err);
    if (rc) return rc;
    yd_keys_carry(next, s->keys);
    yd_keys_free(s->keys);
    s->keys = next;
    yd_owners_weigh(s->owners);
    return 0;
}

int yd_service_admit_owner(const yd_service *s, const char *owner, yd_err *err)
{
    const yd_key_limits *l = s->keys ? yd_keys_limits(s->keys, owner) : NULL;
    const yd_share *share = l && l->jobs ? yd_owners_find(s->owners, owner) : NULL;
    if (!share || share->jobs < l->jobs) return 0;
    yd_fail(err, YD_E_LIMIT, "'%s' has %d jobs under way, no more than %ld may be", owner, share->jobs, l->jobs);
    if (err) err->retry_ms = yd_service_retry_after_ms(s);
    return YD_E_LIMIT;
}

int yd_service_charge(yd_service *s, const char *owner, long units, yd_err *err)
{
    long wait_ms = 0;
    int rc = yd_service_admit_owner(s, owner, err);
    if (rc || !s->keys) return rc;
    rc = yd_keys_work(s->keys, owner, (double)units, yd_mono_us(), &wait_ms, err);
    if (rc && err) err->retry_ms = wait_ms;
    return rc;
}
