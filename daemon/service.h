// The service: everything a front end may ask of the daemon, without a word of its protocol.
//
// A job goes  queued -> running (preparing, computing, encoding) -> succeeded | failed | cancelled,  and then expires.
// Submit takes the encoded picture; the answer is a job, whose events and pictures can be asked for from then on.
//
// Threads: every function here belongs to the loop thread and returns without blocking; decoding and encoding happen in libuv's
// pool, computing on the device's thread. Callbacks come on the loop thread, never from inside the call that asked for them.
// Pointers to a yd_job are borrowed: valid until control returns to the loop. Keep the id, not the pointer.
// Memory: everything is bounded by the configuration; see config.h. Read next: job.h for a job's life, scheduler.h for its turn.
#ifndef YD_DAEMON_SERVICE_H
#define YD_DAEMON_SERVICE_H

#include "core/err.h"
#include "core/image.h"
#include "daemon/blob.h"
#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/metrics.h"
#include <jansson.h>
#include <uv.h>

typedef struct yd_service yd_service;
typedef struct yd_job yd_job;

//  X(name, text)
#define YD_JOB_STATES(X)                                                                                               \
    X(QUEUED, "queued")                                                                                                \
    X(RUNNING, "running")                                                                                              \
    X(SUCCEEDED, "succeeded")                                                                                          \
    X(FAILED, "failed")                                                                                                \
    X(CANCELLED, "cancelled")

typedef enum {
#define YD_JOB_ENUM(name, text) YD_JOB_##name,
    YD_JOB_STATES(YD_JOB_ENUM)
#undef YD_JOB_ENUM
} yd_job_state;

const char *yd_job_state_name(yd_job_state s);
// 0 and *out; YD_E_SETTING naming "state" and the accepted words.
int yd_job_state_parse(const char *text, yd_job_state *out, yd_err *err);
static inline int yd_job_state_final(yd_job_state s)
{
    return s >= YD_JOB_SUCCEEDED;
}

// ---- life ----------------------------------------------------------------------------------------------------------

// Start on `loop`: the model is read and compiled on the device's thread, meanwhile jobs are refused as not ready is reported.
// cfg is borrowed and must outlive the service. YD_E_CONFIG, YD_E_CHECKPOINT, YD_E_NOMEM, YD_E_INTERNAL.
int yd_service_open(uv_loop_t *loop, const yd_config *cfg, yd_service **out, yd_err *err);

// About to drain: not ready from now on, so that balancers send new clients elsewhere, and everything is still served.
void yd_service_leave(yd_service *s);
int yd_service_leaving(const yd_service *s); // or draining
// Begin to drain: no new jobs (YD_E_DRAINING), not ready, jobs under way finish within drain_timeout_ms, queued ones are cancelled
// when the time is over; with durable jobs, what waits and what does not finish in time is left to the next process. on_drained (may be NULL) is called once nothing is under way. fast: cancel everything now; a second call with
// fast = 1 shortens a drain that is going on.
void yd_service_drain(yd_service *s, int fast, void (*on_drained)(void *arg), void *arg);
int yd_service_draining(const yd_service *s);
// Be told when the device could not be started: the service will never take a job. One watcher; called once, with the reason.
void yd_service_on_broken(yd_service *s, void (*fn)(void *arg, const yd_err *err), void *arg);
// Be told when a drain begins (streams end then). One watcher; called once.
void yd_service_on_drain(yd_service *s, void (*fn)(void *arg), void *arg);

// Cancel what is left, stop the device's thread (waits for at most one unit of work), close every handle. The loop must be run once
// more (uv_run) before its memory may go; done is called when that has happened.
void yd_service_close(yd_service *s, void (*done)(void *arg), void *arg);

// ---- jobs ----------------------------------------------------------------------------------------------------------

typedef struct yd_setting {
    const char *name, *value; // as the client wrote them, decoded UTF-8
} yd_setting;

typedef struct yd_submission {
    void *bytes; // the encoded picture, yd_malloc'ed; ownership is taken by submit, also when it fails
    size_t len;
    const yd_setting *settings; // borrowed
    size_t n_settings;
    const json_t *errands;  // borrowed; with other servers, as the client wrote them (errands.h), or NULL. With an "input" bytes is NULL
    const char *owner;      // whose job it is; "" while there are no keys
    const char *id;         // chosen by the client, or NULL; a UUID in lower case
    const char *once;       // Idempotency-Key, or NULL; a request with either may be repeated and is taken once
    const char *request_id; // for the log; may be NULL
} yd_submission;

// Would a job be taken now? For the time before a body is read. len: its announced size, 0 when unknown. YD_E_DRAINING, YD_E_QUEUE_FULL,
// YD_E_BODY_TOO_LARGE, YD_E_DEVICE while the model is loading or the device is broken.
int yd_service_admit(const yd_service *s, size_t len, yd_err *err);

// What becomes of a submission. rc 0: the job is stored by the store's own standard, j as from yd_service_find. Otherwise err says why, and
// j is NULL: what admit answers, and YD_E_IMAGE*, YD_E_SETTING, YD_E_STORAGE, YD_E_STORE_AWAY, YD_E_IO, YD_E_NOMEM; YD_E_CONFLICT for an id that is taken,
// YD_E_KEY_REUSED for a key that came with another request.
typedef void (*yd_submit_fn)(void *arg, int rc, yd_job *j, const yd_err *err);
typedef struct yd_arrival yd_arrival;

// Take a job: look at its header, check settings and limits, store it, queue it. 0: fn will be called once, later; *out (may be NULL) is
// valid until then. YD_E_SETTING, what admit answers, YD_E_NOMEM: fn is not called.
int yd_service_submit(yd_service *s, const yd_submission *sub, yd_submit_fn fn, void *arg, yd_arrival **out, yd_err *err);
// From fn: 1: the job was there already, and the request is a repeat of the one that made it.
int yd_arrival_repeats(const yd_arrival *a);
// Whoever submitted is gone: fn will not be called, and no job stays; unless the request can be repeated and its job is being stored.
void yd_arrival_abandon(yd_arrival *a);

// The keys, or NULL: nobody is asked for one. Valid until control returns to the loop.
struct yd_keys *yd_service_keys(const yd_service *s);
// Go on with other settings: read keys and secrets again and take over from `next`, which has been checked, what can change without a restart
// (config.h). cfg: the one the service was opened with. An error naming the setting: nothing has changed.
int yd_service_reload(yd_service *s, yd_config *cfg, const yd_config *next, yd_text *taken, yd_text *left, yd_err *err);
// May this owner have another job? Jobs that are being stored are not counted yet. YD_E_LIMIT with retry_ms.
int yd_service_admit_owner(const yd_service *s, const char *owner, yd_err *err);
// One more request of this owner. YD_E_LIMIT with retry_ms; YD_E_STORE_AWAY where processes share budgets and the store does not say.
int yd_service_request(const yd_service *s, const char *owner, yd_err *err);

// After a retryable error: when to come again, from measured throughput. 1000..600000.
long yd_service_retry_after_ms(const yd_service *s);

// Where processes share a store: fn is called, once and from the loop, when everything is known here that any of them had stored by now, so that
// whoever was told something by another one is told nothing older here. NULL, and no call: there is nothing to wait for.
typedef struct yd_sync yd_sync;
yd_sync *yd_service_sync(yd_service *s, void (*fn)(void *arg), void *arg);
void yd_sync_forget(yd_sync *y); // fn is not called any more; NULL is fine

// Find a job of this owner. YD_E_NOT_FOUND (also when it is somebody else's); YD_E_GONE when it was deleted or has expired.
int yd_service_find(yd_service *s, const char *owner, const char *id, yd_job **out, yd_err *err);

const char *yd_job_id(const yd_job *j);
// Short form of what decides the result's bytes besides picture and settings (core/fingerprint.h).
const char *yd_job_fingerprint(const yd_job *j);
yd_job_state yd_job_state_of(const yd_job *j);
yd_event_log *yd_job_events(const yd_job *j); // borrowed; ref it to keep it
// Why it failed: NULL unless it did.
const yd_err *yd_job_problem(const yd_job *j);
// Any error as RFC 9457 has it: {"type","title","status","detail","retryable"} and, when known, "field" and "accepted". A new
// reference; NULL: out of memory.
json_t *yd_problem_json(const yd_err *e);

// The job as clients see it (new reference). NULL: out of memory.
json_t *yd_service_job_json(const yd_service *s, const yd_job *j);

// Own jobs, newest first: {"jobs":[...], "next": cursor or null}. state: -1 for all. cursor: NULL or what an earlier answer gave.
// limit 1..200. YD_E_INVALID for a cursor that is none. *out is a new reference.
int yd_service_list(yd_service *s, const char *owner, int state, const char *cursor, int limit, json_t **out,
                    yd_err *err);

// Cancel a queued or running job; takes effect within one unit of work and disturbs no other. Already cancelled: 0 again.
// YD_E_CONFLICT when it has succeeded or failed. The state is final at once where the store keeps nothing, otherwise when the end is
// stored: a final event is told then. When another end was about to be stored, that one holds.
int yd_service_cancel(yd_service *s, yd_job *j, yd_err *err);

typedef void (*yd_removed_fn)(void *arg, int rc, const yd_err *err);
// Cancel if need be, then forget the job; its id answers YD_E_GONE from now on, for tombstone_ttl_s. fn (may be NULL) is called once, later,
// when that is stored. YD_E_GONE: it is being deleted already; YD_E_NOMEM: fn is not called and the job stays.
int yd_service_delete(yd_service *s, yd_job *j, yd_removed_fn fn, void *arg, yd_err *err);

// ---- events --------------------------------------------------------------------------------------------------------

// Subscribe to a job's events, see events.h (yd_subscription_log, yd_events_next). Previews are made while somebody is subscribed this
// way; who only waits for the end subscribes to yd_job_events(j) as no viewer.
// Release with yd_events_unsubscribe. YD_E_NOMEM.
int yd_service_subscribe(yd_service *s, yd_job *j, yd_notify_fn fn, void *arg, yd_subscription **out, yd_err *err);

// What happens to all jobs, in one stream; see feed.h. Borrowed.
struct yd_feed *yd_service_feed(const yd_service *s);
// Where several processes share the jobs, what one of them has told may not be known here yet. May this id, above the last of the job's log, follow
// (then a reader waits for what comes after it)? May the end of a job that has ended still come into the stream of all jobs?
int yd_service_id_may_follow(const yd_service *s, const yd_job *j, uint64_t id);
int yd_service_end_may_follow(const yd_service *s, const char *job);
// An event of a job's own log, with its pictures, by the id it has there. NULL: it is not held any more, or the job is not. Borrowed.
const yd_event *yd_service_event(const yd_service *s, const char *owner, const char *job, uint64_t id);

// ---- pictures ------------------------------------------------------------------------------------------------------

// The finished picture: a new reference, with its digest. YD_E_NOT_READY before, and the job's own problem (or YD_E_CANCELLED) when it
// will never be there.
int yd_service_result(const yd_service *s, const yd_job *j, yd_blob **out, yd_err *err);

typedef enum { YD_PICTURE_PREVIEW, YD_PICTURE_ATTENTION, YD_PICTURE_MASK, YD_PICTURE_INVENTED, YD_PICTURE_RESULT } yd_picture_kind;

typedef struct yd_picture_want {
    yd_picture_kind kind;
    int step;     // mask: 1..steps
    yd_image_format format; // what comes back; masks and maps as WebP are exact. The result in its own format is as it is.
    int max_side; // preview: at most this, 0 = the job's setting
} yd_picture_want;

// rc 0: blob is a new reference for the callee (yd_blob_unref). Otherwise err says why and blob is NULL.
typedef void (*yd_picture_fn)(void *arg, int rc, yd_blob *blob, const yd_err *err);
typedef struct yd_picture_call yd_picture_call;

// Ask for a picture beside the result; it is encoded in the pool. 0: fn will be called once, later. YD_E_NOT_READY (not that far yet),
// YD_E_NOT_FOUND (what was invented, of a job that was not asked to report it), YD_E_SETTING ("step" out of range), YD_E_NOMEM: fn is not called.
int yd_service_picture(yd_service *s, yd_job *j, const yd_picture_want *want, yd_picture_fn fn, void *arg,
                       yd_picture_call **out, yd_err *err);
// fn will not be called any more. Only before it was.
void yd_picture_cancel(yd_picture_call *c);

// ---- models --------------------------------------------------------------------------------------------------------

json_t *yd_service_models(const yd_service *s); // {"models":[...], "default", "memory"}: all that were found, each as yd_service_model has it
// One by its name. YD_E_NOT_FOUND naming those there are. *out is a new reference.
int yd_service_model(const yd_service *s, const char *name, json_t **out, yd_err *err);

// Load a model, or read it again when its file has changed: the new version takes jobs once it is warm, the one before ends those it has. Loads are
// made one at a time. YD_E_NOT_FOUND, YD_E_DRAINING.
int yd_service_model_load(yd_service *s, const char *name, yd_err *err);
// Take no new jobs for it; when those under way have ended its memory is given back. Fine when it is not resident. YD_E_NOT_FOUND,
// YD_E_DEVICE before the service is ready for the first time.
int yd_service_model_unload(yd_service *s, const char *name, yd_err *err);
// Has that come to its end? 0: not yet. 1: nothing is under way for it. Negative: it is not resident, and why the last load came to nothing;
// YD_E_NOT_FOUND.
int yd_service_model_settled(const yd_service *s, const char *name, yd_err *err);

typedef struct yd_model_watch {
    struct yd_model_watch *next;
    void (*fn)(void *arg); // a model has come, gone or failed; it may look, and change nothing
    void *arg;
} yd_model_watch;
void yd_service_model_watch(yd_service *s, yd_model_watch *w); // memory is the caller's until unwatched
void yd_service_model_unwatch(yd_service *s, yd_model_watch *w);

// ---- the service itself --------------------------------------------------------------------------------------------

// 1: takes jobs. *report (may be NULL): {"ready", "model", "device", "draining", "queue", ...}, a new reference or NULL.
int yd_service_ready(const yd_service *s, json_t **report);
json_t *yd_service_capabilities(const yd_service *s); // new reference; NULL: out of memory
// What an accepted job survives: "fsync" kill -9 and loss of power, "none" nothing. Static storage.
const char *yd_service_durability(const yd_service *s);
// 32 bytes that the processes of a shared store know, or NULL where a file in state_dir is what they share.
const uint8_t *yd_service_secret(const yd_service *s);
const yd_config *yd_service_config(const yd_service *s);
yd_metrics *yd_service_metrics(yd_service *s); // for the counters of the front end
// Prometheus text exposition; release with yd_free. NULL: out of memory.
char *yd_service_metrics_text(yd_service *s, size_t *len);

#endif
