// Where job records live: an interface, so that jobs can be kept in memory, in a file or in a shared database.
//
// A record is everything that must outlive the process for the job to be answered for: who, what, how far, why not, its pictures, and
// what was told about it. What only the present process needs (canvas, subscribers, queue links) belongs to the service. A record that
// was put is either queued, claimed (running) or finished; finished ones expire into tombstones, tombstones into nothing.
//
// Contract of every implementation:
//   * Changes are operations that are handed in and told of later: `done` comes on the loop thread, never from inside `submit`. With rc 0
//     the change is kept by this store's own standard: `durable` says whether that includes kill -9 and loss of power.
//   * Operations take effect in the order in which they were handed in.
//   * A store that cannot write refuses new records, and holds on to every other change until it can be made: work under way is not lost
//     because a disk is full for a while. `health` says so.
//   * Records are copied in and out; blobs are shared by reference.
//   * An id is never given to two records, and one with a tombstone is not taken again.
// Threads: the loop thread only.
#ifndef YD_DAEMON_STORE_H
#define YD_DAEMON_STORE_H

#include "core/err.h"
#include "core/invented.h"
#include "core/fingerprint.h"
#include "daemon/blob.h"
#include "daemon/idmap.h"
#include "daemon/job_settings.h"
#include "daemon/service.h"
#include <stdint.h>
#include <uv.h>

#define YD_OWNER_MAX 64

typedef struct yd_job_progress {
    int step, steps;       // steps finished, of all
    long windows_done;     // units of work (window x step) computed
    long windows_total;    // to be computed in all; 0 until the map is known
    long windows_skipped;  // that need no computing, because no pixel of theirs is active
    double diffused_share; // diffused pixel-steps / all; 0 until the map is known
} yd_job_progress;

typedef struct yd_job_timings {
    double wait_ms, prepare_ms, compute_ms, encode_ms, total_ms; // 0: not there yet
    double device_ms;                                            // the device's own time for this job's units
} yd_job_timings;

typedef struct yd_job_record {
    char id[YD_ID_MAX];
    char owner[YD_OWNER_MAX];
    yd_job_state state;
    int64_t created_ms, started_ms, finished_ms; // wall clock; 0: not yet
    uint64_t order;                              // strictly increases with every put; newest first means highest first
    char model[64];
    char checksum[72]; // of the model's file; "": an earlier version of the program did not note it
    char fingerprint[YD_FINGERPRINT_SHORT]; // what else decides the result's bytes
    yd_job_settings settings;
    int in_w, in_h, in_depth, in_pages;
    char in_format[16];
    int grid_w, grid_h;          // the model's own multiple of the input: canvas, maps, masks
    int out_w, out_h, out_depth; // the result
    yd_job_progress progress;
    yd_job_timings timings;
    yd_err problem;      // code 0: none
    yd_blob *input;      // until the job is finished
    yd_blob *result;     // succeeded
    yd_blob *invented;   // picture of what was invented, succeeded with settings.report
    yd_invented account; // the numbers beside it
    yd_blob *attention;  // the map as PNG, once finished
    yd_blob *activation; // activation steps, see pictures.c, once finished
    yd_blob *errands;    // with other servers (errands.h), or NULL
    int due;             // once finished: some of them are not done
    yd_blob *events;     // what was told about it as lines (yd_events_print); NULL where the log itself is kept in memory
    size_t bytes;        // what the record and its blobs take, kept by the service
    char key[65];        // of the content: two records with one key have one result; "" where that is not to be used
    char once[65];       // of owner and Idempotency-Key; "": none was given
    char request[65];    // of the request, where it may be repeated
    int cached;          // its result was there already, or another job made it
    int attempts;        // how often it was claimed since it last got further
    int resumed;         // how often a later process took it up
    int64_t boot;        // which process took it first, counted by the store
    long units;          // taken from its owner's budget for it, where processes share that
    // Where several processes share a store, which alone changes them:
    int64_t claims; // how often it was claimed: of two processes that had it, the later one has the higher number
    int cancel;     // somebody asked whoever has it to cancel it
    int fetching;   // its picture is still to come: who has it is who fetches it
} yd_job_record;

// Copy, taking references of the blobs; release them.
void yd_job_record_copy(yd_job_record *dst, const yd_job_record *src);
void yd_job_record_clear(yd_job_record *r);

typedef struct yd_store_limits {
    int64_t job_ttl_ms, tombstone_ttl_ms;
    size_t max_finished_jobs, max_finished_bytes;
} yd_store_limits;

typedef struct yd_store yd_store;

// What an operation needs of `rec`: PUT, UPDATE, CANCEL and ATTACH all of it, NOTE its id, errands and due, CLAIM and REMOVE its id, EXPIRE nothing.
//   PUT     add a new record and give it its `order` (in the operation's own rec). YD_E_CONFLICT: the id is taken, or another record has its `once`
//           and was created within once_ms before it. YD_E_NOMEM, YD_E_IO,
//           YD_E_LIMIT: the owner's budgets do not allow it (charge); YD_E_STORAGE: no room; YD_E_STORE_AWAY: the server that has the records is away, or takes nothing.
//   UPDATE  replace the record of that id. YD_E_NOT_FOUND. A finished record stays finished (YD_E_CONFLICT), and one that another process has
//           is changed by that one alone (YD_E_CONFLICT).
//   CANCEL  as UPDATE, to a cancelled one; but where another process has it, that one is asked to cancel it (`asked`).
//   ATTACH  give a finished record its attention and activation, nothing else changes. YD_E_NOT_FOUND.
//   CLAIM   take a queued record for this process: it becomes running, at now_ms; attempts + 1. YD_E_CONFLICT: it is not queued any more
//           (somebody else has it). YD_E_NOT_FOUND. claims + 1, given in the operation's own rec. One that is `fetching` stays queued.
//   NOTE    give a finished record its errands and whether they are due, nothing else changes. YD_E_NOT_FOUND.
//   REMOVE  remove a record, leaving a tombstone. Unknown ids are fine.
//   BUNDLE_PUT     keep a batch of the API: its id, owner and doc. YD_E_NOMEM, YD_E_IO, YD_E_STORAGE, YD_E_STORE_AWAY.
//   BUNDLE_REMOVE  forget it. Unknown ids are fine.
//   EXPIRE  turn finished records that are too old or too many into tombstones, at most YD_EXPIRE_MAX of them, and forget old tombstones.
typedef enum {
    YD_OP_PUT, YD_OP_UPDATE, YD_OP_ATTACH, YD_OP_NOTE, YD_OP_CLAIM, YD_OP_REMOVE, YD_OP_EXPIRE, YD_OP_BUNDLE_PUT, YD_OP_BUNDLE_REMOVE,
    YD_OP_CANCEL
} yd_store_op_kind;

#define YD_EXPIRE_MAX     64
#define YD_STORE_RETRY_MS 1000 // when to come again after YD_E_STORE_AWAY: the server is looked for several times a second

// What a new record counts for in its owner's budgets, where processes share them (yd_store.spend).
typedef struct yd_charge {
    double units, most; // units of work that it may need, and an hour's worth; 0: they are not counted
    long jobs;          // how many jobs of the owner may be unfinished with it; 0: any
} yd_charge;

typedef struct yd_store_op {
    struct yd_store_op *next; // the store's
    yd_store_op_kind kind;
    yd_job_record rec; // a copy, with references of its blobs
    char *doc; // BUNDLE_PUT: text, yd_malloc'ed; freed with the operation
    int64_t now_ms;
    yd_store_limits limits; // EXPIRE
    yd_charge charge;       // PUT
    int64_t once_ms;        // PUT: how long its `once` is nobody else's
    void (*done)(struct yd_store_op *op); // may be NULL; the store clears and frees the operation afterwards
    void *arg;
    // out
    int rc;
    yd_err err;
    int charged; // PUT: the units were taken from the owner's budget, even if rc is not 0
    int asked; // CANCEL: another process has it and was asked
    int n_expired;
    char expired[YD_EXPIRE_MAX][YD_ID_MAX];
} yd_store_op;

// Allocated with yd_malloc, so that it can be had before it is needed; rec may be NULL. NULL: out of memory.
yd_store_op *yd_store_op_new(yd_store_op_kind kind, const yd_job_record *rec, void (*done)(yd_store_op *op), void *arg);
void yd_store_op_free(yd_store_op *op); // one that was not handed in; NULL is fine

// Who waits until everything that any process had stored when he asked is known here. Its memory is the asker's, until done is called.
typedef struct yd_store_sync {
    struct yd_store_sync *next; // the store's, as is target
    uint64_t target;
    void (*done)(struct yd_store_sync *w); // on the loop, never from inside `sync`; at once where the store is not reached
} yd_store_sync;

typedef struct yd_store_health {
    int ok;             // writing works
    int code;           // otherwise what new records are refused with: YD_E_STORAGE, YD_E_STORE_AWAY
    int fenced;         // this process was taken for dead by others on the same store; where several share it, it comes back as another one
    char why[256];      // or what is in the way
    uint64_t free_room; // bytes that its disk has left; UINT64_MAX: does not matter
    size_t bytes;       // that finished records take
} yd_store_health;

struct yd_store {
    const char *durability; // "fsync", "everysec" (fsync within a second), "unknown", or "none": gone with the process
    int durable;            // what is done survives kill -9 and loss of power
    int64_t boot;           // number of this process among those that had the store, from 1
    const uint8_t *secret;  // 32 bytes that only processes of this store know, where they have no folder in common to keep them in; or NULL
    size_t most_picture;    // bytes of a picture that it keeps; 0: any
    int several;            // other processes may share it: then there are watch, bundle, holder and sync
    // Finish what was handed in, or give up on it where writing fails; then closed is called from the loop. Nothing may be handed in
    // afterwards.
    void (*close)(yd_store *s, void (*closed)(void *arg), void *arg);
    // Hand in an operation; the store owns it from here.
    void (*submit)(yd_store *s, yd_store_op *op);
    // Copy out; clear it afterwards. whole 0: of the pictures only that they exist, without bytes. YD_E_NOT_FOUND; YD_E_GONE for a
    // tombstone; YD_E_IO.
    int (*get)(yd_store *s, const char *id, int whole, yd_job_record *out, yd_err *err);
    // Up to `limit` ids of this owner (NULL: of everybody) with order < before (UINT64_MAX: from the newest), newest first; state -1: any.
    // Returns how many.
    int (*list)(yd_store *s, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX],
                uint64_t *orders);
    // The same of finished records that are due.
    int (*list_due)(yd_store *s, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders);
    // The id of a record that succeeded and has this key: 1, or 0 when there is none.
    int (*find_key)(yd_store *s, const char *key, char id[YD_ID_MAX]);
    // The id of the newest record that has this `once`: 1, or 0 when there is none.
    int (*find_once)(yd_store *s, const char *once, char id[YD_ID_MAX]);
    // Every batch that is kept, oldest first, one call for each. For the start.
    void (*bundles)(yd_store *s, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg);
    void (*health)(const yd_store *s, yd_store_health *out);
    // Budgets of owners that all processes on this store spend from; NULL where there is only this one.
    // One more request, of `rate` a second and `most` at a time. 0; YD_E_LIMIT and *wait_ms; YD_E_STORE_AWAY: nobody knows.
    int (*spend)(yd_store *s, const char *owner, double rate, double most, long *wait_ms, yd_err *err);
    // Units of a charge that are not needed after all; below 0: more of them, although there may not be enough.
    void (*give_back)(yd_store *s, const char *owner, double units, double most);
    long (*unfinished)(const yd_store *s, const char *owner); // jobs of this owner
    // From now on `changed` is called, from the loop and never from inside a call of the store, for everything that another process has done
    // to a record (or a batch): with its id, when `get` answers accordingly. id NULL: anything may have changed.
    void (*watch)(yd_store *s, void (*changed)(void *arg, const char *id), void *arg);
    // One call for the batch of this id, if it is kept.
    void (*bundle)(yd_store *s, const char *id, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg);
    // Number of the process that has claimed this record, or fetches its picture; 0: nobody.
    int64_t (*holder)(const yd_store *s, const char *id);
    void (*sync)(yd_store *s, yd_store_sync *w);
    // How many changes, of all processes, `get` accounts for; follow: fn is called, as above, when there are more.
    uint64_t (*position)(const yd_store *s);
    void (*follow)(yd_store *s, void (*fn)(void *arg), void *arg);
    // Where processes have no folder in common, their checkpoints are kept by the store; otherwise all three are NULL. keep has a file there, fetch
    // makes a copy at `path`: on a pool thread, one at a time. YD_E_STORE_AWAY, YD_E_STORAGE (it is too large), YD_E_NOT_FOUND, YD_E_IO.
    int (*keep)(yd_store *s, const char *name, const void *bytes, size_t len, yd_err *err);
    int (*fetch)(yd_store *s, const char *name, const char *path, yd_err *err);
    void (*drop)(yd_store *s, const char *name); // the loop thread; soon
};

// Jobs in memory: gone with the process. Tombstones are bounded to 65536, the oldest go first. YD_E_NOMEM.
int yd_store_memory_open(uv_loop_t *loop, yd_store **out, yd_err *err);

// Jobs in a folder, which is made if need be: an SQLite database and a spool of pictures beside it. One process at a time. YD_E_CONFIG
// naming state_dir, YD_E_IO, YD_E_NOMEM.
int yd_store_sqlite_open(uv_loop_t *loop, const char *folder, yd_store **out, yd_err *err);

// Jobs in a Redis server ("redis://..." or "unix://...", see redis_link.h), their pictures in a folder as above, both shared with any number of
// other processes. A process whose lease ends is taken for dead: what it had claimed waits again, and nothing that it still sends counts. Waits for the server's answers. YD_E_CONFIG naming store or state_dir, YD_E_IO, YD_E_NOMEM.
// most_picture: 0, or pictures up to that size are in the server as well and the folder is this process's own.
int yd_store_redis_open(uv_loop_t *loop, const char *url, const char *folder, int64_t lease_ms, size_t most_picture, yd_store **out, yd_err *err);

#endif
