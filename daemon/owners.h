// The owners of jobs, each with its share of the device, by name.
//
// A share exists while its owner has jobs and as long after as the time it had is remembered. Threads: the loop thread.
#ifndef YD_DAEMON_OWNERS_H
#define YD_DAEMON_OWNERS_H

#include "daemon/scheduler.h"

typedef struct yd_owners yd_owners;

// weight: how an owner counts beside others, > 0, asked when it is first seen; NULL: all alike.
yd_owners *yd_owners_new(double (*weight)(void *arg, const char *owner), void *arg); // NULL: out of memory
void yd_owners_free(yd_owners *o);
// The share of an owner, or NULL: it has no jobs.
const yd_share *yd_owners_find(const yd_owners *o, const char *owner);
// The share of an owner, made if need be. NULL: out of memory.
yd_share *yd_owners_share(yd_owners *o, const char *owner);
// Ask for everybody's weight again.
void yd_owners_weigh(yd_owners *o);
// Forget shares that are idle.
void yd_owners_sweep(yd_owners *o, const yd_scheduler *s);
size_t yd_owners_count(const yd_owners *o);

#endif
