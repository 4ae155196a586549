// What the files of the Redis store share: the store itself, its scripts, and the calls between them.
#ifndef YD_DAEMON_STORE_REDIS_H
#define YD_DAEMON_STORE_REDIS_H

#include "daemon/redis_files.h"
#include "daemon/redis_link.h"
#include "daemon/spool.h"
#include "daemon/store_entry.h"
#include "daemon/store_mirror.h"

// Everything is kept under these names of one database.
#define YD_KEY_LIVE     "yodad:live"          // hash: replica -> number of its last operation in the log
#define YD_KEY_COUNT    "yodad:count"         // of entries that the log ever had: its last position
#define YD_KEY_LOG      "yodad:log"           // stream: entry i has the id i-1
#define YD_KEY_BOOT     "yodad:boot"          // the last replica's number
#define YD_KEY_VERSION  "yodad:version"       // of all this
#define YD_KEY_LEASE    "yodad:lease:"        // and a replica: who it is; expires unless it is refreshed
#define YD_KEY_SNAPSHOT "yodad:snapshot"      // the name of a list that says what the log had come to at the position in its name
#define YD_KEY_HEAL     "yodad:heal"          // sorted set: how far the mirrors of replicas are, after the log has lost its end
#define YD_KEY_SNAPLOCK "yodad:snapshot:lock"
#define YD_KEY_UNITS    "yodad:budget:units:"    // and an owner: a bucket (store_redis_budget.c)
#define YD_KEY_REQUESTS "yodad:budget:requests:" // the same

typedef struct yd_redis_options {
    int several;        // replicas may share it; otherwise a second one is refused while the first one's lease lasts
    int64_t lease_ms;   // after which a replica that does not refresh it is taken for dead
    long snapshot_every; // entries of the log
    int64_t spared_s;    // how long a picture that no record refers to stays where several write: more than a lease
    size_t most_picture; // 0: pictures are in a folder that all share; otherwise in the server, up to this size, and the folder is one process's own
} yd_redis_options;

#define YD_REDIS_OPTIONS ((yd_redis_options){.several = 1, .lease_ms = 5000, .snapshot_every = 5000, .spared_s = 60})

typedef struct yd_pending {
    struct yd_pending *next;
    yd_store_op *op;
    uint64_t number;
    int64_t since_us, sent_us; // handed in; on its way
    int on_wire, logged;       // no answer yet; it is in the log
    char *text;                // of its entry
    yd_entry_names names;
    int rc; // of writing its pictures
    yd_err err;
} yd_pending;

typedef struct yd_pending_list {
    yd_pending *head, *tail;
    size_t count;
} yd_pending_list;

typedef struct yd_redis_doubtful {
    int64_t since_us;
    char name[YD_SPOOL_NAME_MAX];
} yd_redis_doubtful;

typedef struct yd_redis_store {
    yd_store base;
    yd_redis_url url;
    yd_redis_options opt;
    yd_mirror *mirror;
    uint64_t position; // of the log, up to which the mirror has it
    yd_spool *spool;
    yd_redis_files *writing, *reading, *saving; // of the pool thread that writes batches, the loop's, checkpoints'; NULL: all is in the folder
    uint8_t secret[32];
    int lock_fd;

    int64_t replica; // this one's number, which fences it off as well
    char replica_text[24], lease_key[48], who[160];

    // Pictures that records refer to, by the beginning of their digest, and names that may have lost their last record.
    yd_idmap *refs;
    yd_redis_doubtful *doubtful; // in the order of `since_us`
    size_t n_doubtful, cap_doubtful;
    int keep_all; // memory was out: until the next start no file is known to be nobody's

    yd_redis_link writer, reader;
    yd_pending_list todo, batch, sent; // waiting; in the pool; written and on the way to the log and back
    uint64_t next_number, last_logged;
    int wire; // answers that the writer waits for
    uv_work_t work, snap_work;
    int working, snapping, healing, rejoining;
    uv_work_t rejoin_work;
    uint64_t told_ms; // the server's time, with its last answer to a refresh
    int64_t rejoin_us, ok_us; // when to try; since when it is ok
    struct yd_snapshot *snapshot;
    long since_snapshot;
    yd_store_op *told_next, *told_last;
    yd_store_sync *sync_asked, *sync_sent, *sync_waiting;
    int64_t sync_sent_us;
    void (*changed)(void *arg, const char *id);
    void *changed_arg;
    void (*advanced)(void *arg);
    void *advanced_arg;
    char (*released)[YD_ID_MAX]; // by the entry that was applied last
    size_t n_released, cap_released;
    int released_more; // than memory was there for

    uv_timer_t tick;
    uv_idle_t teller, asker;
    int ok, fenced, disk_bad;
    char why[256];
    int64_t retry_disk_us, retry_write_us, reconnect_us, backoff_us, refreshed_us, refresh_sent_us, xread_us, reaped_us;
    uint64_t refresh_last; // last_logged when a refresh was sent
    int64_t wire_us; // when the writer last sent an operation, or heard of one

    int closing; // 1: finishing, 2: leaving, 3: handles are being closed
    int64_t closing_us;
    int open_handles;
    void (*closed)(void *arg);
    void *closed_arg;
    struct yd_redis_budget *budgets; // of requests
    int64_t budgets_us;              // when they were last told of
    long replicas;                   // that are alive, as the server last said
    int muted; // tests only: it does nothing any more, as if it had been stopped
} yd_redis_store;

// Open with other options than those of the service.
int yd_store_redis_open_with(uv_loop_t *loop, const char *url, const char *folder, const yd_redis_options *opt, yd_store **out, yd_err *err);

// Pieces of the append script, ARGV: replica, number, the number before it, text. What is in between may still refuse.
#define YD_REDIS_APPEND_CHECKS \
    "local last = redis.call('HGET', 'yodad:live', ARGV[1])\n" \
    "if not last then return 'fenced' end\n" \
    "last = tonumber(last)\n" \
    "if tonumber(ARGV[2]) <= last then return 'done' end\n" \
    "if tonumber(ARGV[3]) > last then return 'gap' end\n"
#define YD_REDIS_APPEND_DO \
    YD_REDIS_APPEND("ARGV[4]") \
    "redis.call('HSET', 'yodad:live', ARGV[1], ARGV[2])\n"
#define YD_REDIS_APPEND(text) \
    "local i = redis.call('INCR', 'yodad:count')\n" \
    "redis.call('XADD', 'yodad:log', string.format('%.0f-1', i), 'o', " text ")\n"

#define YD_REDIS_APPEND_RELEASE(n) YD_REDIS_APPEND("'{\"r\":' .. " n " .. ',\"k\":\"release\"}'")

// ---- store_redis_open.c ----
// Take a number, load the mirror. What is there after a failure goes with yd_redis_free_parts.
int yd_redis_join(yd_redis_store *s, const char *folder, yd_err *err);
int yd_redis_join_again(yd_redis_store *s, redisContext *c, yd_err *err); // a number and a mirror, without the rest
void yd_redis_free_parts(yd_redis_store *s);
extern const char yd_redis_append_script[], yd_redis_refresh_script[], yd_redis_release_script[], yd_redis_reap_script[];

// ---- store_redis_budget.c ----
typedef struct yd_redis_charge {
    char key[sizeof YD_KEY_UNITS + YD_OWNER_MAX], units[32], most[32], rate[32];
} yd_redis_charge;
extern const char yd_redis_charge_script[]; // for a new record whose owner is charged
void yd_redis_charge_text(const yd_store_op *op, yd_redis_charge *c);
void yd_redis_budgets(yd_redis_store *s);                    // the calls of store.h
void yd_redis_budgets_sync(yd_redis_store *s, int64_t now); // now and then
void yd_redis_budgets_free(yd_redis_store *s);

// ---- store_redis_files.c ----
// Write the pictures and print the entry of each of a batch. A pool thread.
void yd_redis_write_batch(yd_redis_store *s, yd_pending_list *batch);
void yd_redis_refer(void *store, yd_job_record *rec, int by); // for the mirror
void yd_redis_doubt(yd_redis_store *s, yd_entry_names names); // an operation with these will not take place
void yd_redis_remove_unused(yd_redis_store *s); // nothing may be on its way
long yd_redis_sweep(yd_redis_store *s); // files of no record; how many went
void yd_redis_forget_refs(yd_redis_store *s);
int yd_redis_fill(yd_redis_store *s, yd_job_record *r, yd_err *err); // the pictures' bytes in place of placeholders
int yd_redis_is_new(const yd_store_op *op);
int yd_redis_files_open(yd_redis_store *s, yd_err *err); // and the calls of store.h for checkpoints
int yd_redis_files_secret(yd_redis_store *s, redisContext *c, yd_err *err); // once connected
void yd_redis_files_end(yd_redis_store *s);
void yd_redis_sweep_server(yd_redis_store *s, redisContext *c); // the same of what the server has

// ---- store_redis_read.c ----
void yd_redis_reads(yd_store *base); // fills in the calls that read

// ---- store_redis_sync.c ----
void yd_redis_syncs(yd_store *base); // fills in the call
void yd_redis_sync_look(yd_redis_store *s); // the mirror has got on, or the server can be asked
void yd_redis_sync_end(yd_redis_store *s);  // nobody waits any longer

// ---- store_redis_rejoin.c ----
void yd_redis_rejoin_if_due(yd_redis_store *s);

// ---- store_redis.c ----
void yd_redis_back(yd_redis_store *s); // it has a number and a mirror again: connect, and go on

// ---- store_redis_snapshot.c ----
// Apply the entry with this id of the log; *e: what it was, to be cleared. YD_E_NOMEM: not applied, may be tried again. YD_E_IO: it cannot be.
int yd_redis_take(yd_redis_store *s, const char *id, const char *text, size_t len, yd_entry *e, yd_err *err);
int yd_redis_load(yd_redis_store *s, redisContext *c, yd_err *err);
struct yd_snapshot *yd_redis_snapshot_copy(const yd_redis_store *s); // NULL: out of memory
void yd_redis_snapshot_free(struct yd_snapshot *p); // NULL is fine
// Put it in place of a log that ends before it, and release everybody. A pool thread. 0; -1: it is not done, or was not needed any more.
int yd_redis_snapshot_over(struct yd_snapshot *p, redisContext *c);
void yd_redis_snapshot_if_due(yd_redis_store *s);
// The server has lost the end of its log: write it anew from the mirror. For one replica alone. Sets healing until it is done or has failed.
void yd_redis_heal(yd_redis_store *s);

#endif
