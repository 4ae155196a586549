// Whose turn it is: which job starts, and which unit of work (window x step) the device gets next.
//
// Pure bookkeeping: no threads, no clock, no pictures. Jobs wait in order of arrival and start when a place and their memory are free;
// the first in the queue is never overtaken, so none starves. Started jobs take turns unit by unit, so every one of them makes
// progress and a short one is never stuck behind a long one. Which unit of a job comes next is the job's sampler's business: the
// scheduler only counts them. A device may have several engines: a batch is for one of them, and jobs of different engines take turns
// batch by batch.
//
//   enqueue -> waiting --admit--> starting --ready--> ready --stop--> stopping --leave--> out
//   (stop is allowed from every state; leave only when every unit handed out has come back)
//
// Threads: one at a time. Memory: the links live in the caller's yd_turn; nothing is allocated, nothing fails.
#ifndef YD_DAEMON_SCHEDULER_H
#define YD_DAEMON_SCHEDULER_H

#include <stddef.h>

typedef enum { YD_TURN_OUT, YD_TURN_WAITING, YD_TURN_STARTING, YD_TURN_READY, YD_TURN_STOPPING } yd_turn_state;

// A job as the scheduler sees it; zeroed before first use.
typedef struct yd_turn {
    struct yd_turn *prev, *next;
    yd_turn_state state;
    long left;     // units not handed out yet; an upper bound until `ready`
    long out;      // units handed out and not yet back
    int engine;    // which of the device's engines computes it, 0..
    int windows;   // most units that can be worked on in one batch
    int in_batch;  // units in the batch that is being made
    size_t memory; // bytes while it is under way
} yd_turn;

typedef struct yd_turn_list {
    yd_turn *head, *tail;
    int count;
} yd_turn_list;

typedef struct yd_scheduler {
    yd_turn_list waiting, running;
    int max_running;
    size_t max_memory, memory;
} yd_scheduler;

void yd_scheduler_init(yd_scheduler *s, int max_running, size_t max_memory);

// Join the queue for an engine, with an upper bound of the work and the memory it will take (at most max_memory, or it would wait for
// ever).
void yd_scheduler_enqueue(yd_scheduler *s, yd_turn *t, int engine, long units, size_t memory);
// Start the first job in the queue if there is room: it is `starting` and its memory is taken. NULL: none may start now.
yd_turn *yd_scheduler_admit(yd_scheduler *s);
// A starting job knows its work: `units` in all, at most `windows` of them at a time.
void yd_scheduler_ready(yd_scheduler *s, yd_turn *t, long units, int windows);

// Hand out up to `max` units of one engine, taking turns: out[i] is the job of the i-th one (a job may come several times). Returns how many.
int yd_scheduler_pick(yd_scheduler *s, yd_turn **out, int max);
// A unit handed out has come back: ran 1 it was computed; 0 it was not, and will be handed out again unless the job stops.
void yd_scheduler_back(yd_scheduler *s, yd_turn *t, int ran);

// Hand out nothing more of this job; a waiting one leaves at once.
void yd_scheduler_stop(yd_scheduler *s, yd_turn *t);
// Give back place and memory; t->out must be 0.
void yd_scheduler_leave(yd_scheduler *s, yd_turn *t);

// 1 for the first in the queue; 0 when it is not waiting.
int yd_scheduler_position(const yd_scheduler *s, const yd_turn *t);
// What is computed before this job is through, its own units included, if nothing else arrives. cost[engine]: of one unit.
double yd_scheduler_cost_ahead(const yd_scheduler *s, const yd_turn *t, const double *cost);
// The same for everything that waits or runs.
double yd_scheduler_cost_all(const yd_scheduler *s, const double *cost);

#endif
