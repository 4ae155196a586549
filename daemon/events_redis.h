// What the files of the relay on Redis share; see events_relay.h.
#ifndef YD_DAEMON_EVENTS_REDIS_H
#define YD_DAEMON_EVENTS_REDIS_H

#include "daemon/events_relay.h"
#include "daemon/redis_link.h"

// Beside the keys of the store (store_redis.h):
#define YD_KEY_EVENTS  "yodad:events"       // stream: the event at place i has the id i-0
#define YD_KEY_PLACES  "yodad:events:count" // the last place that was given
#define YD_KEY_CALLS   "yodad:calls"        // stream: who looks at what, questions and answers
#define YD_KEY_PREVIEW "yodad:preview:"     // and JOB:ID, hash: the pictures of a preview; expires after seconds
#define YD_KEY_ANSWER  "yodad:answer:"      // and REPLICA:NUMBER: bytes of an answer; expires after seconds
// yodad:teller:REPLICA: number of its last event in the stream. yodad:told:JOB, hash: who tells of it (c: claims), its last id (n), its end (e).

// An event on its way out.
typedef struct yd_letter {
    struct yd_letter *next;
    yd_told told;
    uint64_t number, log; // log: how far the store's log had been read when it was told
    int on_wire;
} yd_letter;

// The pictures of a preview, asked for. Lives until the answer has come.
typedef struct yd_relay_fetch {
    struct yd_relay_entry *entry; // NULL: nobody waits any more
} yd_relay_fetch;

// An event that has come.
typedef struct yd_relay_entry {
    struct yd_relay_entry *next;
    yd_told told;
    uint64_t log;
    yd_relay_fetch *fetch; // under way
    int64_t since_us;
} yd_relay_entry;

struct yd_relay_call {
    struct yd_relay_call *next;
    uint64_t number;
    yd_relay_answer_fn fn; // NULL: nobody wants it any more
    void *arg;
    int64_t since_us;
    yd_blob *blob;
    int rc, done;
    yd_err err;
};

struct yd_relay {
    yd_relay_host host;
    yd_redis_url url;
    long keep;
    yd_redis_link teller, listener;
    uv_timer_t tick;
    uint64_t place, heard; // told here; read from the stream
    char calls_id[48];     // of the last entry of the calls that was read

    yd_letter *out_first, *out_last;
    size_t waiting;
    int wire, refused; // answers that the teller owes; the last one said no
    uint64_t next_number, acknowledged;
    yd_relay_entry *in_first, *in_last;
    int telling; // inside told()

    yd_relay_call *calls;
    uint64_t next_call;
    int64_t wire_us, hello_us, xread_us, retry_us, reconnect_us;

    int closing; // 1: sending what waits, 2: the handle is being closed
    int64_t closing_us;
    void (*closed)(void *arg);
    void *closed_arg;
};

void yd_told_clear(yd_told *e);

// ---- events_redis.c ----
void yd_relay_lost(yd_relay *r); // drop both connections; they are made again

// ---- events_redis_read.c ----
int yd_relay_load(yd_relay *r, redisContext *c, yd_err *err); // what there is, before the loop runs
void yd_relay_listen(yd_relay *r);                            // wait for more
void yd_relay_tell(yd_relay *r);                              // what may be told by now
void yd_relay_entries_free(yd_relay *r);

// ---- events_redis_calls.c ----
void yd_relay_hear(yd_relay *r, const redisReply *entry); // one of the calls
void yd_relay_calls_tick(yd_relay *r, int64_t now_us);
void yd_relay_calls_end(yd_relay *r);                                    // nobody will answer
yd_blob *yd_relay_blob(const redisReply *bytes, const redisReply *size); // size: "TYPE W H"; NULL: there is none

#endif
