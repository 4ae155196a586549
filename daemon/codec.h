// Codecs: reading and writing pictures in processes of their own, so that a hostile picture can cost one of them at most.
//
//   caller --start--> queue --> fill (pool thread) --> a codec process --> take (pool thread) --> done (loop)
//
// The processes are started beforehand, take one call at a time, are limited in memory and processor time, may neither open files nor
// sockets, and are killed at a deadline; what dies is replaced at once. Pictures travel in shared memory that neither side can shrink.
// What a process answers is not trusted: sizes, enumerations and text are checked before anybody sees them.
// With processes = 0 the same work is done by the daemon's own threads: for tests, and to measure what the processes cost.
//
// Threads: the loop's, except fill and take. No function blocks. Read next: codec_wire.h (messages), codec_pool.c (processes),
// codec_child.c (the other side).
#ifndef YD_DAEMON_CODEC_H
#define YD_DAEMON_CODEC_H

#include "core/image_parts.h"
#include "daemon/codec_wire.h"
#include "daemon/config.h"
#include "daemon/metrics.h"
#include <stdatomic.h>
#include <uv.h>

typedef struct yd_codecs yd_codecs;
typedef struct yd_codec_call yd_codec_call;

// Memory shared with a codec process; see codec_region.c.
typedef struct yd_region {
    int fd; // -1: none
    uint8_t *base;
    size_t size;
    size_t written; // so much from the beginning, at most
    uint64_t id;    // the call that brought it to its process; 0: none has yet
} yd_region;

#define YD_CODEC_NOTHING 1 // from fill: no codec is needed; done comes with rc 0, without take

struct yd_codec_call {
    // What the caller says. The struct is zeroed first and stays where it is until done.
    yd_codec_op op;
    int (*fill)(yd_codec_call *c, yd_err *err); // hand over the input, by one of yd_codec_put_*; or YD_CODEC_NOTHING
    int (*take)(yd_codec_call *c, yd_err *err); // use what came back, which is gone afterwards; NULL: header is all that is wanted
    void (*done)(yd_codec_call *c);             // once, never from within yd_codec_start; the call may be used again, or freed
    yd_image_limits limits;                     // probe, decode
    yd_color_space color_space;                 // decode
    int w, h; // decode: the size that a probe said, anything else is an error; encode: about the size, to tell large from small
    yd_output output;                           // encode
    const char *request_id;                     // for the log, borrowed until done; or NULL

    // What comes back.
    int rc; // of fill, the codec or take; YD_E_CANCELLED when nobody wanted it any more
    yd_err err;
    yd_image_header header; // probe
    yd_image image;         // decode, in take: pixels of the shared memory, not to be cleared; ref image.meta to keep it
    const uint8_t *file;    // encode, in take
    size_t file_len;

    // The codecs' own.
    uv_work_t work;
    yd_codecs *codecs;
    yd_codec_call *next;
    yd_codec_request request;
    yd_codec_answer answer;
    yd_region region;
    struct yd_codec_slot *slot; // that works on it; NULL: none
    uint64_t process;           // number of the process that has the region
    atomic_int cancelled;
    int waits; // in the queue
};

// ---- the processes

// Start cfg->codec_processes processes (-1: as many as suit the cores) of `program` (NULL: this one), which must call yd_codec_child_main
// when its first argument is YD_CODEC_ARGUMENT. Not waited for: yd_codecs_ready. metrics and cfg are borrowed. YD_E_NOMEM, YD_E_INTERNAL.
int yd_codecs_open(uv_loop_t *loop, const yd_config *cfg, yd_metrics *metrics, const char *program, yd_codecs **out, yd_err *err);
// Be told once, when the first process is ready: from then on yd_image_kinds says what is read.
void yd_codecs_on_ready(yd_codecs *all, void (*fn)(void *arg), void *arg);
int yd_codecs_ready(const yd_codecs *all);
// Address space that a process is started with: what the largest picture of these settings needs.
uint64_t yd_codec_most_memory(const yd_config *cfg);
// The limits of pictures have grown beyond what the processes were started for: others take their place, after the pictures they are at.
void yd_codecs_renew(yd_codecs *all);
// Kill and reap every process; calls under way are done with YD_E_CANCELLED. The struct is freed, then closed is called.
void yd_codecs_close(yd_codecs *all, void (*closed)(void *arg), void *arg);

typedef struct yd_codecs_now {
    int processes, idle, busy, waiting;
} yd_codecs_now;
void yd_codecs_look(const yd_codecs *all, yd_codecs_now *now);

// ---- calls

void yd_codec_start(yd_codecs *all, yd_codec_call *c);
// done comes soon, unless a process is busy with it: then when that is through.
void yd_codec_cancel(yd_codec_call *c);

// For fill. Each once; YD_E_NOMEM, YD_E_SETTING, YD_E_BODY_TOO_LARGE.
int yd_codec_put_file(yd_codec_call *c, const void *bytes, size_t len, yd_err *err);   // probe, decode
int yd_codec_put_image(yd_codec_call *c, const yd_image *im, yd_err *err);             // encode as c->output says
int yd_codec_put_grey(yd_codec_call *c, const uint8_t *plane, int w, int h, yd_err *err); // encode as a map

// To be called first by whatever runs on one of libuv's pool threads: names it, and keeps OpenMP's loops there to one thread, because the
// cores belong to the compute thread's team.
void yd_pool_thread(void);

// ---- the other side

#define YD_CODEC_ARGUMENT "--codec-process"

// Do what a checked request says to its region, and fill *a, an error too. Blocks; any thread.
typedef void (*yd_codec_perform_fn)(const yd_codec_request *q, uint8_t *region, yd_codec_answer *a);
void yd_codec_perform(const yd_codec_request *q, uint8_t *region, yd_codec_answer *a);

// Serve on descriptor YD_CODEC_FD until it is closed, with yd_codec_perform (tests have others). argv: program, YD_CODEC_ARGUMENT, limit of
// address space in bytes (0: none). Returns the exit status.
int yd_codec_child_main(int argc, char **argv, yd_codec_perform_fn perform);

// Only what decoding needs may be asked of the kernel from now on, by any thread of this process. 0, or -1 where that is not possible.
int yd_codec_confine(void);

// ---- shared memory (codec_region.c)

// size bytes of zeroes that nobody can shrink, grow or give other seals. YD_E_NOMEM.
int yd_region_make(yd_region *r, size_t size, yd_err *err);
// The other side of it. 0 or -1; fd stays the caller's.
int yd_region_map(yd_region *r, int fd);
void yd_region_free(yd_region *r); // the descriptor too
void yd_region_close_fd(yd_region *r);

#endif
