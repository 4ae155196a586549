// What one replica tells of its jobs, told at all the others: events in one order for everybody, pictures on request.
//
//   publish -> one stream of the shared server -> told() at every replica, the publisher too, in the same order
//   An event's `place` in that order is its id in /v1/events, wherever somebody asks. Its id in the job's own log is the one that who runs the
//   job gave it. An event is told here only when this replica has read the store's log as far as the publisher had: what it says of a job
//   (it exists, it is claimed, it has succeeded) is known here by then.
//
// Bounds and losses: the stream keeps the latest `keep` events; who starts reads what there is. While the server is away events are kept and sent
// when it is back, in order and once; beyond YD_RELAY_WAITING the `step` ones and previews are left out, and `before` shows it. A picture of a
// preview is kept for seconds beside the stream, and fetched only where somebody looks at the job. What a replica tells that has lost its lease,
// or of a job that somebody claimed after it, is dropped by the server.
// Threads: the loop's. Nothing here waits, except yd_relay_open. Implementation: events_redis.c.
#ifndef YD_DAEMON_EVENTS_RELAY_H
#define YD_DAEMON_EVENTS_RELAY_H

#include "daemon/events.h"
#include "daemon/idmap.h"
#include "daemon/store.h"

#define YD_RELAY_WAITING 16384

typedef struct yd_relay yd_relay;

typedef struct yd_told {
    char job[YD_ID_MAX], owner[YD_OWNER_MAX];
    int64_t claims; // how often the job had been claimed when it was told; an earlier claimant is not heard any more
    uint64_t id;    // in the job's log
    uint64_t
        before; // the id there of the latest event before it that was no preview: who has not got that far has missed something
    yd_event_type type;
    char *data;           // one JSON object, no newline in it
    yd_blob *blob, *mask; // of a preview, where they are to be had; otherwise NULL
    uint64_t place;       // out: in the order of all, from 1; below 2^53
    int own;              // out: this replica published it
} yd_told;

// A picture that another replica wants of a job that is under way here.
typedef struct yd_relay_question {
    int64_t replica;
    uint64_t number;
    const char *job, *words; // words: what yd_relay_ask was given
} yd_relay_question;

typedef struct yd_relay_host {
    void *arg;
    int64_t (*replica)(void *arg);              // its number in the store
    uint64_t (*position)(void *arg);            // how far this replica has read the store's log
    int (*views)(void *arg, const yd_told *e);  // should the pictures of this preview be fetched?
    void (*told)(void *arg, const yd_told *e);  // borrowed
    void (*viewed)(void *arg, const char *job); // elsewhere somebody looks at this job
    void (*reached)(void *arg, const char *job, const char *words); // another replica has got so far with it; words: what it said
    void (*asked)(
        void *arg,
        const yd_relay_question *q); // borrowed. yd_relay_answer it where the job is under way, otherwise nothing
} yd_relay_host;

// Read what the stream holds (told() is called, where the position allows it) and go on from there. host is copied. keep: events in the stream.
// YD_E_CONFIG naming `store`, YD_E_NOMEM.
int yd_relay_open(uv_loop_t *loop, const char *url, long keep, const yd_relay_host *host, yd_relay **out, yd_err *err);
// Send what waits, for at most a second, then call closed from the loop; its memory is gone then. NULL is not fine.
void yd_relay_close(yd_relay *r, void (*closed)(void *arg), void *arg);

// Tell everybody. Data is copied, blobs are referenced; without memory it is missing, and `before` shows it.
void yd_relay_publish(yd_relay *r, const yd_told *e);
// This replica has read more of the store's log.
void yd_relay_advanced(yd_relay *r);
uint64_t yd_relay_place(const yd_relay *r); // of the last event that was told here, or trimmed before this replica came

// Say that somebody looks at a job here. Lost where the server is away.
void yd_relay_view(yd_relay *r, const char *job);
// Say how far a job has got here between two events, in words for `reached`; lost likewise.
void yd_relay_reach(yd_relay *r, const char *job, const char *words);

// rc 0: blob is a new reference for the callee. YD_E_NOT_READY: nobody answers. Otherwise what the other replica says.
typedef void (*yd_relay_answer_fn)(void *arg, int rc, yd_blob *blob, const yd_err *err);
typedef struct yd_relay_call yd_relay_call;
// Ask whoever runs a job for something. 0: fn is called once, later, after at most YD_RELAY_PATIENCE_MS. YD_E_NOT_READY: the server is away;
// YD_E_NOMEM: fn is not called.
int yd_relay_ask(yd_relay *r, const char *job, const char *words, yd_relay_answer_fn fn, void *arg, yd_relay_call **out,
                 yd_err *err);
void yd_relay_call_cancel(yd_relay_call *c); // fn will not be called. Only before it was
// Answer a question: blob (borrowed) where rc is 0, otherwise err.
void yd_relay_answer(yd_relay *r, int64_t replica, uint64_t number, int rc, const yd_blob *blob, const yd_err *err);

#define YD_RELAY_PATIENCE_MS 8000

#endif
