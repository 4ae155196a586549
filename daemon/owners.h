// The owners of jobs, each with its share of the device and the number of its jobs, by name.
//
// A share exists while its owner has jobs and as long after as the time it had is remembered. Threads: the loop thread.
#ifndef YD_DAEMON_OWNERS_H
#define YD_DAEMON_OWNERS_H

#include "daemon/scheduler.h"

typedef struct yd_owners yd_owners;

// weight: how an owner counts beside others, > 0, asked when it is first seen; NULL: all alike.
yd_owners *yd_owners_new(double (*weight)(void *arg, const char *owner), void *arg); // NULL: out of memory
void yd_owners_free(yd_owners *o);
// Jobs that an owner has queued or running, in the scheduler or not: those whose picture is on its way and those that follow another one
// count too, and so does one that is being stored.
long yd_owners_jobs(const yd_owners *o, const char *owner);
int yd_owners_enter(yd_owners *o, const char *owner);   // one more; -1: out of memory
void yd_owners_leave(yd_owners *o, const char *owner);  // one less
// The share of an owner, made if need be. NULL: out of memory.
yd_share *yd_owners_share(yd_owners *o, const char *owner);
// Ask for everybody's weight again.
void yd_owners_weigh(yd_owners *o);
// Forget shares that are idle, of owners without jobs.
void yd_owners_sweep(yd_owners *o, const yd_scheduler *s);
size_t yd_owners_count(const yd_owners *o);

#endif
