// What the files of the daemon's side of codecs share: the pool and its slots. Private to daemon/codec_*.c.
#ifndef YD_DAEMON_CODEC_INTERNAL_H
#define YD_DAEMON_CODEC_INTERNAL_H

#include "daemon/codec.h"
#include <sys/types.h>

// A process's socket on the loop. On its own, because a closed handle goes on for a while and its slot does not wait.
typedef struct yd_codec_link {
    uv_poll_t poll;
    struct yd_codec_slot *slot; // NULL: given up
    struct yd_codecs *all;
    int fd;
} yd_codec_link;

//   EMPTY     no process; the timer (backoff) starts one       -> STARTING
//   STARTING  it has not said hello; the timer kills it        -> IDLE, DYING
//   IDLE      waits for a call                                 -> FILLING, DYING
//   FILLING   a pool thread prepares the input of `call`       -> BUSY, IDLE, DYING (the call then waits for another process)
//   BUSY      has `call`; the timer kills it                   -> IDLE, DYING
//   DYING     was killed or has closed its socket; the timer asks whether it can be reaped  -> EMPTY
typedef enum { YD_CODEC_EMPTY, YD_CODEC_STARTING, YD_CODEC_IDLE, YD_CODEC_FILLING, YD_CODEC_BUSY, YD_CODEC_DYING } yd_codec_state;

typedef struct yd_codec_slot {
    yd_codecs *all;
    yd_codec_state state;
    pid_t pid;
    yd_codec_link *link;
    uv_timer_t timer;
    yd_codec_call *call;
    yd_region region;    // of this process, when no call has it
    uint64_t region_id;  // the one that the process has: the last that was sent to it
    uint64_t process; // number of this process
    int64_t since_us; // of the call
    int served;       // pictures of this process
    int stale;        // it ends when it has nothing to do
    int failures;     // starts in a row that came to nothing
    const char *why;  // the daemon ended it: the reason; NULL: it ended by itself
} yd_codec_slot;

struct yd_codecs {
    uv_loop_t *loop;
    const yd_config *cfg;
    yd_metrics *metrics;
    const char *program;
    int n; // processes; 0: the daemon's own threads
    yd_codec_slot *slot;
    yd_codec_call *head, *tail; // that wait
    int waiting, heavy;         // heavy: large pictures with a process
    uint64_t serial, processes; // numbers given
    int holds; // handles and calls that still need this struct
    int ready, closing, warned;
    void (*on_ready)(void *arg);
    void *on_ready_arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

// ---- codec_call.c ----
// Prepare the input: yd_codec_filled follows.
void yd_codec_call_fill(yd_codec_call *c);
// A call came back from its process (rc 0: c->answer is checked), or never will.
void yd_codec_call_back(yd_codec_call *c, int rc);
// The next call that may run now, taken out of the queue; NULL: none. And back into it, in front.
yd_codec_call *yd_codec_call_next(yd_codecs *all);
void yd_codec_call_requeue(yd_codec_call *c);
int yd_codec_call_heavy(const yd_codec_call *c);
// The call is over.
void yd_codec_call_finish(yd_codec_call *c);
// Every call that waits ends with YD_E_CANCELLED.
void yd_codec_calls_drop(yd_codecs *all);
// Milliseconds of processor that a call may take, and of time.
int64_t yd_codec_cpu_ms(const yd_codec_call *c);
int64_t yd_codec_wall_ms(const yd_codec_call *c);

// ---- codec_pool.c ----
void yd_codecs_pump(yd_codecs *all);
// The input of a call is ready, or there will be none (c->rc).
void yd_codec_filled(yd_codec_call *c);
// A call is through with its region: its process may use it again.
void yd_codec_region_back(yd_codec_call *c);
void yd_codecs_release(yd_codecs *all);

// ---- codec_spawn.c ----
// Start a process; its end of the socket is *fd, which does not block. YD_E_INTERNAL, YD_E_NOMEM.
int yd_codec_spawn(const char *program, uint64_t address_space, pid_t *pid, int *fd, yd_err *err);

#endif
