// The compute thread of one device.
//
// The loop thread pushes batches (at most YD_WORKER_DEPTH at a time, so that the device need not wait for the loop between two), the
// worker runs them in order and hands each back on the loop thread. A sampler that is in a pushed batch belongs to the worker until
// the batch is back; the worker asks it for its next unit itself, so a job may be in two batches at once.
// Cancelling: set the item's *stop flag; the item comes back without having run, at most one unit later.
// A run that fails as a whole, or a chore that says so, means that the device has failed: it is shut at once, what was pushed and not run comes back as
// it went, chores are dropped, and it takes nothing more until it has been opened again.
// Threads: functions are for the loop thread; the device is opened, run and closed on the worker's. No lock is held while it works.
#ifndef YD_DAEMON_WORKER_H
#define YD_DAEMON_WORKER_H

#include "daemon/device.h"
#include <stdatomic.h>
#include <uv.h>

#define YD_WORKER_DEPTH 2
#define YD_BATCH_MAX    64

typedef struct yd_batch_item {
    // in
    void *job; // the caller's
    yd_sampler *sampler;
    atomic_int *stop;
    int preview_every; // copy the preview when a step is finished whose number is a multiple (the last always); 0: do not
    int preview_now;   // copy the preview after this unit, whether or not a step is finished
    size_t rgb_bytes; // size of a preview
    int save;         // copy the sampler's state when a step is finished
    int last;         // and stop the job there
    // out
    int ran;      // the unit was computed
    int lost;     // it was in the run that failed, and is to be computed again
    int done;     // 1 it finished a step (info), 0 it did not, negative: the job failed (err)
    int finished; // the sampler has nothing left to do
    int resident; // its canvas is in the device's memory
    yd_step_info info;
    yd_err err;
    uint8_t *rgb; // the preview, or NULL; the callee's (yd_free)
    void *state;  // the sampler's state, not sealed, or NULL; the callee's (yd_free)
} yd_batch_item;

typedef struct yd_batch {
    struct yd_batch *next;
    int engine; // of the device, which runs all of it
    int n;
    yd_batch_item item[YD_BATCH_MAX];
    int rc; // of the device as a whole: negative, it has failed, in this run or before (err), and not every item ran
    yd_err err;
    double run_s; // time the device worked
    int ran;      // units computed
} yd_batch;

// What the device does beside batches, as compiling a model: a step at a time, each between two batches, so that a batch waits for one step
// at most. Embedded first in a larger struct of the caller's.
typedef struct yd_chore {
    struct yd_chore *next;
    int (*step)(struct yd_chore *c, yd_device *d); // on the worker's thread: 1 when there is more to do, negative when the device has failed
    void (*done)(struct yd_chore *c);              // on the loop thread; the callee owns it
    int dropped;                                   // the worker was stopped, or the device had failed, before it was through
} yd_chore;

typedef struct yd_worker yd_worker;

// Called on the loop thread. opened: once for each opening, rc of the device's open, and what it is. done: each batch that comes back; the callee owns it.
typedef struct yd_worker_events {
    void (*opened)(void *arg, int rc, const yd_backend_info *about, const yd_err *err);
    void (*done)(void *arg, yd_batch *b);
    void *arg;
} yd_worker_events;

// Start the thread and open the device there. Takes ownership of d, also when it fails. YD_E_NOMEM, YD_E_INTERNAL.
int yd_worker_start(uv_loop_t *loop, yd_device *d, const yd_worker_events *ev, yd_worker **out, yd_err *err);

// Open a device that could not be opened, or has failed and been shut; `opened` is called again. Only when every batch is back.
void yd_worker_open(yd_worker *w);

// How many batches may be pushed now: 0..YD_WORKER_DEPTH. 0 while the device is not open.
int yd_worker_room(const yd_worker *w);
int yd_worker_under_way(const yd_worker *w); // batches that are not back
// Push a batch (there must be room); it comes back through done.
void yd_worker_push(yd_worker *w, yd_batch *b);

// Have a chore done, after those that were given before.
void yd_worker_chore(yd_worker *w, yd_chore *c);

// Finish what was pushed (it still comes back), drop the chores that are left, close the device, end the thread. Waits for at most one unit per batch pushed when the
// stop flags of their items are set. closed is called on the loop thread after the last handle is gone; w is freed before.
void yd_worker_stop(yd_worker *w, void (*closed)(void *arg), void *arg);

#endif
