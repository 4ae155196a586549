// Whose turn it is: which job starts, and which unit of work (window x step) the device gets next.
//
// Pure bookkeeping: no threads, no clock (the caller says what time it is), no pictures. Which unit of a job comes next is the
// job's sampler's business; the scheduler only counts them. The policy, from the outside in:
//   owners    share the device's time in proportion to their weights, within `slack_s` of each other (yd_share)
//   jobs      of an owner: the one with the least left goes first; every second of waiting is worth `ageing` seconds of work, a priority
//             is a head start, and a deadline goes first when its time gets short
//   started   jobs get a unit every `max_idle_us`, whatever else is preferred
//   batches   a run is filled from several jobs where that pays; elsewhere it is one job's
//   devices   are fed alike; all units of a job that are out are on one of them, as they share a canvas, and between two runs it may change,
//             unless the canvas is in a device's memory: then the job is bound to that one, until a device that has nothing to do gets it
//   places    are given when the device would lack work, or to who would be served before everybody that has one; a job whose memory is not
//             free lets others pass for `reserve_us`, then the memory is kept for it
//
//   enqueue -> waiting --admit--> starting --ready--> ready --stop--> stopping --leave--> out
//   (stop is allowed from every state; leave only when every unit handed out has come back)
//
// Threads: one at a time. Memory: everything lies in the caller's yd_turn and yd_share; nothing is allocated, nothing fails.
#ifndef YD_DAEMON_SCHEDULER_H
#define YD_DAEMON_SCHEDULER_H

#include "daemon/cost.h"
#include "daemon/heap.h"
#include <stddef.h>
#include <stdint.h>

#define YD_TURN_ENGINES 32 // of all models that are resident
#define YD_DEVICES_MAX  16
#define YD_RUNNING_MAX  256
#define YD_PASSED_MAX   16 // jobs that wait for memory while others pass

typedef enum { YD_TURN_OUT, YD_TURN_WAITING, YD_TURN_STARTING, YD_TURN_READY, YD_TURN_STOPPING } yd_turn_state;
typedef enum { YD_PRIORITY_LOW = -1, YD_PRIORITY_NORMAL, YD_PRIORITY_HIGH } yd_priority;

typedef struct yd_link {
    struct yd_link *prev, *next;
} yd_link;

typedef struct yd_turn yd_turn;

// An owner of jobs. Zeroed before first use, then only `weight` (> 0) is the caller's; must outlive its jobs. Between two jobs it may be
// forgotten once yd_share_idle.
typedef struct yd_share {
    double weight;
    double used_s;   // device time it had, by weight: who has least is next
    int jobs;        // in all
    int waiting;     // of these
    double work_s;   // still to be computed for it, as last known
    yd_link all;     // its jobs
    yd_link active;  // shares that have jobs
    yd_heap by_rank, by_start; // waiting jobs: by turn, by the latest time to start
    yd_heap_node hungry, best; // among shares with waiting jobs: by used_s, by the rank of the first of them
} yd_share;

// What a job asks for.
typedef struct yd_ask {
    yd_share *share;
    int engine;           // which of the device's engines computes it, 0..
    long units;           // upper bound of the work
    int windows;          // upper bound of the units in one batch
    size_t memory;        // bytes while it is under way; at most max_memory, or it would wait for ever
    yd_priority priority;
    int64_t deadline_us;  // 0: none
} yd_ask;

// A job as the scheduler sees it; zeroed before first use.
struct yd_turn {
    yd_turn_state state;
    yd_share *share;
    yd_link all, mates;  // every job by arrival; every job of the share
    yd_heap_node by_rank, by_start, by_deadline;
    long left;           // units not handed out yet; an upper bound until `ready`
    long out;            // units handed out and not yet back
    double work_s;       // what it adds to its share's work_s
    double booked_s;     // charged for the units that are out
    int device;          // where these are
    int bound;           // 1 + the device that has its canvas and alone may work on it; 0: none
    int moving;          // 1 + the device that it is to move to: nothing is handed out until it is bound anew
    int alone;           // the caller's: no units of others in a run with its own
    int engine, windows, in_batch;
    size_t memory;
    yd_priority priority;
    int64_t arrived_us, deadline_us;
    int64_t served_us;   // ready or last handed out; of a passed job: when it was passed
    int passed;          // waits for memory
    uint64_t tie;        // order of arrival
};

typedef struct yd_policy {
    int max_running; // 1..YD_RUNNING_MAX
    size_t max_memory;
    double ageing;      // seconds of work that a second of waiting is worth
    int64_t ahead_us;   // head start of high priority over normal, and of normal over low
    double slack_s;     // how far owners' shares may drift apart for the sake of short jobs
    double catch_up_s;  // most that an owner that could not be served is owed
    int64_t max_idle_us, reserve_us;
} yd_policy;

typedef struct yd_scheduler {
    yd_policy policy;
    int max_batch;
    int pays; // units of several jobs are cheaper together
    unsigned devices;             // bits of those in service
    long out_on[YD_DEVICES_MAX];  // units that are out, by device
    unsigned on[YD_TURN_ENGINES]; // devices that have the engine
    yd_cost cost[YD_TURN_ENGINES];
    double price[YD_TURN_ENGINES]; // of a unit, for the order of jobs: cost's unit_s as it was when all were last put in order
    int most[YD_TURN_ENGINES]; // units a run of the engine takes; 0: max_batch
    double bound_share; // exact work of a bound, moving average
    yd_link all, active;
    yd_turn *running[YD_RUNNING_MAX], *passed[YD_PASSED_MAX];
    int n_running, n_passed, n_waiting;
    size_t memory;
    yd_heap hungry, best, by_deadline;
    double level_s; // used_s of who was due last: where a share begins
    uint64_t arrivals;
} yd_scheduler;

void yd_scheduler_init(yd_scheduler *s, const yd_policy *p);
// What the device is like, once that is known: its largest batch, whether units of several jobs are cheaper together, and a unit's time.
void yd_scheduler_device(yd_scheduler *s, int max_batch, int pays);
void yd_scheduler_engine(yd_scheduler *s, int engine, double unit_s);
// Devices that are in service, and those that have an engine, as bits; device 0 and all of them until this is called.
void yd_scheduler_devices(yd_scheduler *s, unsigned devices);
void yd_scheduler_engine_on(yd_scheduler *s, int engine, unsigned devices);
// An engine whose runs take fewer units than the device's largest batch.
void yd_scheduler_engine_batch(yd_scheduler *s, int engine, int most);
// A run of so many units took so long. When the price of a unit has moved by a quarter, jobs are put in order anew.
void yd_scheduler_measured(yd_scheduler *s, int engine, int units, double run_s);

void yd_scheduler_enqueue(yd_scheduler *s, yd_turn *t, const yd_ask *ask, int64_t now_us);
// A waiting job whose deadline is over: it is to be stopped. NULL: none.
yd_turn *yd_scheduler_expired(yd_scheduler *s, int64_t now_us);
// Start the job that is next if one may start: it is `starting` and its memory is taken. NULL: none may start now.
yd_turn *yd_scheduler_admit(yd_scheduler *s, int64_t now_us);
// A job that was never queued goes on where another one has left off, which stops (its `out` must be 0) and is out with this: it is
// `starting` in the other one's place and with its memory.
void yd_scheduler_take_over(yd_scheduler *s, yd_turn *t, const yd_ask *ask, yd_turn *from, int64_t now_us);
// A starting job knows its work: `units` in all, at most `windows` of them at a time.
void yd_scheduler_ready(yd_scheduler *s, yd_turn *t, long units, int windows, int64_t now_us);

// Hand out up to `max` units of one engine to a device: out[i] is the job of the i-th one (a job may come several times). Returns how many.
int yd_scheduler_pick(yd_scheduler *s, int device, int64_t now_us, yd_turn **out, int max);
// A unit handed out has come back: ran 1 it was computed, and cost so much of the device's time; 0 it was not, and will be handed out
// again unless the job stops.
void yd_scheduler_back(yd_scheduler *s, yd_turn *t, int ran, double cost_s);

// Where the job's canvas is: on a device, or, where that is negative, in the process's memory, free for all.
void yd_scheduler_bind(yd_scheduler *s, yd_turn *t, int device);
// What a device has done for a job is lost: so many of its units are not handed out.
void yd_scheduler_again(yd_scheduler *s, yd_turn *t, long left);
// For a device that has nothing to do: a job that is bound to one with several to work on. Nothing of it is handed out any more; when its `out`
// is 0 its canvas is to be fetched and bind called. NULL: none is worth it.
yd_turn *yd_scheduler_move(yd_scheduler *s, int device);

// Hand out nothing more of this job; a waiting one leaves at once.
void yd_scheduler_stop(yd_scheduler *s, yd_turn *t);
// Give back place and memory; t->out must be 0.
void yd_scheduler_leave(yd_scheduler *s, yd_turn *t);

// Jobs by arrival, whatever their state; after NULL the first. NULL: no more.
yd_turn *yd_scheduler_next(const yd_scheduler *s, const yd_turn *after);
// The share has no jobs and owes nothing: forgetting it changes nothing.
int yd_share_idle(const yd_scheduler *s, const yd_share *f);

// ---- foresight (scheduler_eta.c): if nothing else arrives ----

// 1 for the next to start; 0 when it is not waiting.
int yd_scheduler_position(const yd_scheduler *s, const yd_turn *t, int64_t now_us);
// Time of the device until this job is through, its own units included.
double yd_scheduler_eta_s(const yd_scheduler *s, const yd_turn *t, int64_t now_us);
// The same for the started job that will be through first; 0: none is started.
double yd_scheduler_first_s(const yd_scheduler *s, int64_t now_us);

#endif
