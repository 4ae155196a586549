// What the scheduler's decisions and its foresight share: the order of jobs.
#ifndef YD_DAEMON_SCHEDULER_INTERNAL_H
#define YD_DAEMON_SCHEDULER_INTERNAL_H

#include "daemon/scheduler.h"

#define YD_TURN_OF(node, field)  ((yd_turn *)(void *)((char *)(node) - offsetof(yd_turn, field)))
#define YD_SHARE_OF(node, field) ((yd_share *)(void *)((char *)(node) - offsetof(yd_share, field)))

// Devices in service, at least 1.
int yd_scheduler_width(const yd_scheduler *s);
// Units still to be computed, those under way included.
long yd_turn_remaining(const yd_turn *t);
// Does a go before b? Both of one share.
int yd_turn_before(const yd_scheduler *s, const yd_turn *a, const yd_turn *b, int64_t now_us);

#endif
