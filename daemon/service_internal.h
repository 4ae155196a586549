// What the files of the service share: its state, and the calls between submit.c, pipeline.c, encode.c, pictures.c, report.c and service.c.
#ifndef YD_DAEMON_SERVICE_INTERNAL_H
#define YD_DAEMON_SERVICE_INTERNAL_H

#include "daemon/bundle.h"
#include "daemon/codec.h"
#include "daemon/device_choice.h"
#include "daemon/events_relay.h"
#include "daemon/feed.h"
#include "daemon/job.h"
#include "daemon/mapper.h"
#include "daemon/outgoing.h"
#include "daemon/owners.h"
#include "daemon/registry.h"
#include "daemon/spool.h"
#include "daemon/worker.h"

typedef struct yd_deliveries yd_deliveries;

// READY since what is to be there at the start was loaded; whether a device is in service at the moment is the lanes' business.
typedef enum { YD_DEVICE_LOADING, YD_DEVICE_READY, YD_DEVICE_BROKEN } yd_device_state;

// ---- lanes.c: the devices, each with its compute thread ----
typedef enum { YD_LANE_OPENING, YD_LANE_UP, YD_LANE_DOWN, YD_LANE_REFUSED } yd_lane_state;

typedef struct yd_lane {
    yd_service *service;
    yd_worker *worker;
    char name[YD_DEVICE_NAME_MAX];
    yd_lane_state state;
    int tried;        // its first opening is over
    yd_err problem;   // DOWN, REFUSED: why
    int failures;     // in a row, without a run in between
    int64_t retry_us; // DOWN: it is opened again
    uv_timer_t timer;
    yd_backend_info about;
    yd_backend_memory memory; // as last looked at
    int has_memory, looking;
    uint64_t runs, units, failed; // so far
    double busy_s;
} yd_lane;

struct yd_service {
    uv_loop_t *loop;
    const yd_config *cfg;
    yd_metrics *metrics;
    yd_store *store;
    yd_idmap *jobs; // every job that is known, by id
    yd_scheduler sched;
    struct yd_keys *keys; // NULL: nobody is asked for one
    yd_owners *owners; // and their shares of the device
    size_t input_bytes; // encoded pictures of jobs that are not finished
    int arriving;       // submissions that are not jobs yet
    yd_idmap *leaders;  // jobs that others may follow, by content (share.c)
    int followers;
    yd_feed *feed;
    yd_relay *relay; // NULL: nobody else has these jobs (replica_events.c)
    yd_idmap *bundles; // and their list, see bundle.c
    yd_bundle *oldest_bundle, *newest_bundle, *next_bundle;
    json_int_t last_bundle;
    yd_outgoing *outgoing; // NULL: no connections to anybody (delivery.c has it)
    yd_deliveries *deliveries;
    yd_fetch *fetches; // jobs whose pictures are on their way (fetch.c)
    int fetching;
    yd_idmap *keyed; // jobs with an Idempotency-Key that are being stored (repeat.c)
    yd_job *rest_first, *rest_last; // finished jobs that nobody uses (recovery.c)
    size_t resting, resting_bytes;
    char (*left)[YD_ID_MAX]; // unfinished jobs of the last process until they are in the queue, newest first
    size_t n_left;
    int64_t unfit_us; // how long a job that does not fit is left to other processes (replicas.c)
    int expiring, store_closing;
    yd_spool *checkpoints; // NULL where nothing survives anyway
    uv_mutex_t checkpoints_mutex;
    int under_way;      // jobs that are not final, and final ones that still hold a stage

    yd_codecs *codecs;
    yd_device_choice choice;
    char why_cpu[256]; // "", or why "auto" is no GPU
    yd_lane *lanes;
    int n_lanes, lane_sweeps;
    uint64_t failed_runs;
    yd_mapper *mapper; // attention networks
    yd_device_state device;
    yd_err device_err;
    yd_registry models;
    struct yd_load *load;    // the one under way (loading.c)
    int starting;            // models that are to be there before the service is ready
    int scanning, sweeps;    // a look at the model folders is under way; sweeps since the last
    yd_backend_info backend; // what the devices are, once one was opened
    yd_model_watch *watches;
    struct yd_demand *demands; // submissions that wait for their models (demand.c)
    double prepare_px_s, encode_px_s; // of a pixel of the grid, of the result; moving averages

    uv_timer_t sweep_timer, drain_timer;
    int leaving, draining, handing_over, closing;
    int kicking, kick_again; // see yd_pipeline_kick
    int holds;               // handles, threads and pool tasks that still need this struct
    void (*drain_watch)(void *arg);
    void *drain_watch_arg;
    void (*drained)(void *arg);
    void *drained_arg;
    void (*broken)(void *arg, const yd_err *err);
    void *broken_arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

_Static_assert(YD_SEATS * YD_ENGINES_MAX <= YD_TURN_ENGINES, "the scheduler knows every engine of the device");

// ---- lanes.c ----
int yd_lanes_plan(yd_service *s, yd_err *err); // which devices; none is touched. YD_E_CONFIG, YD_E_NOMEM
int yd_lanes_start(yd_service *s, yd_err *err);
void yd_lanes_stop(yd_service *s);                  // holds the service until it is over
unsigned yd_lanes_up(const yd_service *s);          // bits of those that are open
unsigned yd_lanes_serving(const yd_service *s);     // and have a model that takes jobs
int yd_lanes_first(const yd_service *s);            // one has not been opened yet, with success or without
const yd_err *yd_lanes_problem(const yd_service *s); // of the first that has one, or NULL
yd_lane *yd_lane_for_work(const yd_service *s, unsigned except); // that has room for a batch and least under way; NULL: none
void yd_lane_fail(yd_lane *l, const yd_err *why);   // it is out of service until it can be opened again
void yd_lane_worked(yd_lane *l, int units, double run_s);
void yd_lanes_look(yd_service *s); // at their memory
void yd_lanes_sweep(yd_service *s);
// Which of them have a job's model, as json; and all of them, with what there is to say. New references; NULL: out of memory.
json_t *yd_lanes_names(const yd_service *s, unsigned lanes);
json_t *yd_lanes_json(const yd_service *s);
int yd_lanes_now(const yd_service *s, yd_lane_now *out); // out: YD_DEVICES_MAX; returns how many

// ---- canvases.c ----
void yd_canvases_left(yd_lane *l);     // the device has failed and is shut: no canvas is on it any more
void yd_canvas_units_back(yd_job *j);  // units of it came back: if it is to move, and none is out, its canvas is fetched
void yd_canvases_level(yd_service *s); // devices have been fed: those with nothing to do get jobs of others

// ---- loading.c: models come and go ----
void yd_models_kick(yd_service *s);             // load what is wanted, free what has left
void yd_models_release(yd_service *s, yd_resident **v); // NULL it; the last one lets it leave
void yd_models_off(yd_service *s, unsigned lanes); // these devices have lost them
void yd_models_try_again(yd_service *s);           // to bring back what no device has

// ---- model_start.c ----
int yd_models_open(yd_service *s, yd_err *err); // look for them, and note which are wanted at the start
void yd_models_started(yd_service *s, yd_model_record *m); // a load of it has come to its end
void yd_models_sweep(yd_service *s);
void yd_models_tell(yd_service *s); // those who watch
void yd_models_broken(yd_service *s, const yd_err *err); // the service will never take a job

// ---- model_requests.c ----
// What a submission computes with: the model that it names, or the default. YD_E_SETTING, YD_E_MODEL_AWAY.
int yd_models_choose(const yd_service *s, const yd_submission *sub, yd_resident **out, yd_err *err);
// For a job of an earlier process: 0, *out; 1: it is on its way; YD_E_SETTING, or why it could not be loaded.
int yd_models_recall(yd_service *s, const yd_job_record *r, yd_resident **out, yd_err *err);
// Number of a resident's engine for device and scheduler.
static inline int yd_models_engine(const yd_resident *v, int k)
{
    return v->seat * YD_ENGINES_MAX + k;
}

// A model that is not resident is on its way, or is now, because a job asks for it: 0 is what load_on_demand or its file does not allow.
int yd_models_demand(yd_service *s, const yd_submission *sub);
int yd_models_coming(const yd_service *s, const yd_submission *sub); // it is on its way

// ---- demand.c ----
typedef struct yd_demand {
    struct yd_demand *next;
    yd_submission sub; // a copy
    // Its model is resident (rc 0), or will not be. sub is valid for the time of the call.
    void (*ready)(struct yd_demand *d, int rc, const yd_submission *sub, yd_resident *model, yd_err *err);
} yd_demand;
int yd_demand_wait(yd_service *s, yd_demand *d, const yd_submission *sub, yd_err *err); // copies sub, not its bytes. YD_E_NOMEM
void yd_demands_look(yd_service *s);
void yd_demands_end(yd_service *s);

// ---- models_report.c ----
json_t *yd_model_record_json(const yd_service *s, const yd_model_record *m); // a new reference; NULL: out of memory
int yd_models_now(const yd_service *s, yd_model_now *out);                   // out: YD_MODELS_MAX; returns how many
const char *yd_dtype_name(yd_dtype t);

// ---- pool tasks (pipeline.c): work runs on a pool thread, after on the loop thread; the job is pinned in between ----
typedef struct yd_task {
    uv_work_t req;
    yd_job *job;
    void (*work)(struct yd_task *t);
    void (*after)(struct yd_task *t);
} yd_task;

// Queue a task that is embedded first in a larger struct allocated with yd_malloc; it is freed after `after`.
void yd_task_start(yd_task *t, yd_job *j, void (*work)(yd_task *t), void (*after)(yd_task *t));
// ---- codec tasks (codec_task.c): calls of a codec for a job, which is pinned in between ----
typedef struct yd_codec_task {
    yd_codec_call call;
    yd_job *job;
    void (*after)(struct yd_codec_task *t); // on the loop thread
    int again;
} yd_codec_task;

// Start a task that is embedded first in a larger struct allocated with yd_calloc, its call's op, fill and take set; it is freed after
// `after`, unless that has called yd_codec_task_again.
void yd_codec_task_start(yd_codec_task *t, yd_job *j, void (*after)(yd_codec_task *t));
// From `after`, or after a pause: another round. op, fill, take and after as given, the call's other fields as they are.
void yd_codec_task_again(yd_codec_task *t, yd_codec_op op, int (*fill)(yd_codec_call *c, yd_err *err),
                         int (*take)(yd_codec_call *c, yd_err *err), void (*after)(yd_codec_task *t));
// From `after`: it stays, and yd_codec_task_again or yd_codec_task_end follows from elsewhere on the loop.
void yd_codec_task_pause(yd_codec_task *t);
void yd_codec_task_end(yd_codec_task *t);
// For take: a copy of the encoded picture, of w x h pixels. hash as for yd_blob_new. YD_E_NOMEM.
int yd_codec_take_blob(const yd_codec_call *c, int hash, yd_blob **out, yd_err *err);

// ---- pipeline.c ----
// Start what may start, feed the device. Call after everything that changes what is possible.
void yd_pipeline_kick(yd_service *s);
void yd_pipeline_go_on(yd_job *j); // start one that has a place and another one's prepared state
// End every job that has not ended and computes with this version of a model.
void yd_pipeline_end_of_model(yd_service *s, const yd_resident *v, const yd_err *err);
// End every job that has not ended.
void yd_pipeline_end_all(yd_service *s, yd_job_state state, const yd_err *err);
double yd_job_eta_s(const yd_job *j);
void yd_average(double *mean, double now); // a moving average takes in a new measurement; 0 is none yet
// Have every job that is on the device saved at the end of its step and then left to another process. Returns how many.
int yd_pipeline_hand_over(yd_service *s);
void yd_pipeline_say_reached(yd_service *s); // how far running jobs have got, to other processes
// Leave every job that has not ended (waiting: only those that wait) to the next process.
void yd_pipeline_park_all(yd_service *s, int waiting);

// ---- units.c ----
void yd_units_back(void *lane, yd_batch *b); // for the worker: a run is over

// ---- ending.c ----
void yd_job_pin(yd_job *j);
void yd_job_unpin(yd_job *j);
int yd_job_over(const yd_job *j); // it has ended, or its end is being stored
// Bring a job to its end now; err is its problem when it failed. Its resources follow when nobody pins it.
void yd_pipeline_finish(yd_job *j, yd_job_state state, const yd_err *err);
// Stop working on it; the record becomes a queued one again. Durable stores only.
void yd_pipeline_park(yd_job *j);
// Take a job out of the table; it is freed when nobody pins it.
void yd_job_forget(yd_job *j);
void yd_job_drop_input(yd_job *j); // it has ended, or another process has it

// Stop working on it without a word to the store, which has it as another process left it.
void yd_pipeline_drop(yd_job *j);
// It has ended, as its record says, which another process has stored: tell of it. words: of its final event (taken; NULL: none are known).
void yd_pipeline_told(yd_job *j, char *words);
// Its record was removed before it ended: it ends as cancelled for who still looks at it.
void yd_pipeline_removed(yd_job *j);

// ---- replicas.c ----
void yd_replicas_open(yd_service *s); // at the start: unfinished jobs into the table, and what others do is seen from now on
void yd_replicas_look(yd_service *s, const char *id); // make the job agree with its record
// YD_E_GONE: by the store's word it was deleted, although this process has still something of it to store. 0: it was not.
int yd_replicas_gone(const yd_job *j, yd_err *err);
void yd_replicas_kept(yd_job *j); // its end is stored: unless it was deleted since
int yd_replicas_unknown(const yd_service *s, const char *id, yd_err *err); // YD_E_NOT_FOUND (err as it was), or YD_E_STORE_AWAY: who knows
void yd_replicas_give_way(yd_job *j); // another process was first
void yd_replicas_lost(yd_job *j);     // its end was not taken: another process has it, or has ended it
void yd_replicas_unfit(yd_job *j, const yd_err *why); // it cannot be computed here, and is left to others
void yd_replicas_fetch(yd_job *j);    // claim it, then fetch its picture
void yd_replicas_sweep(yd_service *s);
void yd_replicas_leave(yd_job *j);    // one that waits is left to the others; its streams end
// Have a foreign job cancelled; end: what the record becomes if nobody has it. Its end is told when the record says so. YD_E_NOMEM.
int yd_replicas_cancel(yd_job *j, const yd_job_record *end, yd_err *err);
int yd_replicas_claimed(yd_job *j, yd_store_op *op); // its picture is here again; returns and sets op->rc

// ---- replica_events.c ----
int yd_replica_events_open(yd_service *s, yd_err *err); // when the store and the feed are open; nothing where nobody else has the jobs
void yd_replica_events_close(yd_service *s, void (*closed)(void *service)); // what waits is sent first
void yd_job_tell(yd_job *j, const yd_event *e, uint64_t before); // an event of the job's log: into the feed, and to the other processes. Copied
void yd_job_tell_unheard(yd_job *j, uint64_t below); // what its log has below this id, and nobody has told yet
void yd_job_looked_at(yd_job *j, int again); // somebody here may look at it: who runs it elsewhere hears of that; again: even if it just did
void yd_job_say_reached(yd_job *j); // how far it has got, for the other processes; every second
int yd_job_is_shown(const yd_job *j, int64_t now_us); // somebody looks at it, here or elsewhere
// Ask who runs the job for a picture. As yd_relay_ask.
int yd_job_ask_picture(yd_job *j, const yd_picture_want *want, yd_relay_answer_fn fn, void *arg, yd_err *err);

// ---- submit.c ----
yd_image_limits yd_service_image_limits(const yd_service *s);
// What can be known of a submission without its header: settings, owner.
int yd_service_begin_record(const yd_service *s, const yd_submission *sub, const yd_resident *model, yd_job_record *r, yd_err *err);
// With the header everything that can be wrong is known; the record gets its id, unless it has one, sizes and fingerprint.
int yd_service_examine(const yd_service *s, const yd_resident *model, const yd_image_header *h, size_t len, yd_job_record *r, yd_estimate *e,
                       yd_err *err);
// The same for a record of an earlier process, which keeps its id.
int yd_service_reexamine(yd_service *s, yd_job *j, yd_err *err);

int yd_service_name(const yd_service *s, yd_job_record *r, yd_err *err); // its id, unless it has one, and the time
// The same for a picture that came after its job.
int yd_service_examine_fetched(const yd_service *s, const yd_image_header *h, yd_job *j, yd_err *err);

// ---- limits.c ----
double yd_owner_weight(void *service, const char *owner); // for yd_owners_new
// Count one more job of an owner, unless that was done, and take units from the owner's budget. b: zeroed before first use. YD_E_LIMIT,
// YD_E_SETTING, YD_E_NOMEM: nothing more is taken than before.
int yd_service_book(yd_service *s, const char *owner, long units, yd_booking *b, yd_err *err);
// What is booked, for the record of a new job: where processes share budgets the store takes the units with it. Zeros: nothing is.
yd_charge yd_service_charge(const yd_service *s, const char *owner, const yd_booking *b);
void yd_service_charge_late(yd_service *s, const char *owner, const yd_booking *b); // the same for one that is stored already
// No more than so many of the units are needed: the others go back.
void yd_service_settle(yd_service *s, const char *owner, long units, yd_booking *b);
void yd_service_uncount(yd_service *s, const char *owner, yd_booking *b); // it is not queued or running any more

// ---- arrival.c ----
void yd_service_enqueue(yd_job *j);     // into the scheduler's queue
// Into the place of a job that has stopped and nobody works with, whose prepared state it gets.
void yd_service_take_over(yd_job *j, yd_job *from);
void yd_service_tell_queued(yd_job *j); // where processes share the jobs: before it is stored as one that waits, so that all know of the event
void yd_service_enter_queue(yd_job *j); // behind a leader or into the queue, with its event

// ---- fetch.c ----
void yd_fetch_start(yd_job *j);                // get the picture of a stored job; then it enters the queue, or it fails
void yd_fetch_stop(yd_job *j);                 // the job is over: what comes back is dropped
void yd_fetches_end(yd_service *s, int park);  // cancel every job whose picture is on its way, or leave them to the next process

// ---- delivery.c ----
int yd_deliveries_open(yd_service *s, yd_err *err); // when the store is open; nothing where no setting names hosts
// The settings have changed to `next`, which is about to be taken over. What can fail is done first: then nothing has changed.
int yd_deliveries_reload(yd_service *s, const yd_config *next, yd_err *err);
void yd_deliveries_close(yd_service *s);            // holds the service until it is over
// Is there room and a secret for what a job asks for? YD_E_QUEUE_FULL, YD_E_SETTING.
int yd_deliveries_admit(const yd_service *s, const yd_job_record *r, yd_err *err);
void yd_delivery_add(yd_job *j); // it has ended, that is stored, and no stage holds it; nothing where nothing is due
size_t yd_deliveries_waiting(const yd_service *s);

// ---- repeat.c ----
// Take id and key of a submission into its record, and the digest of its settings. YD_E_SETTING, YD_E_INVALID, YD_E_NOMEM.
int yd_repeat_begin(const yd_submission *sub, yd_job_record *r, yd_err *err);
void yd_repeat_digest(yd_job_record *r); // the picture's digest is known: that of the request follows
// The job that the same request made before, or NULL. YD_E_CONFLICT, YD_E_KEY_REUSED, YD_E_IO.
int yd_repeat_find(yd_service *s, const yd_job_record *r, yd_job **out, yd_err *err);
int yd_repeat_storing(yd_job *j); // its key can be found from now on; -1: no memory
void yd_repeat_stored(yd_job *j); // the store has it, or refused it

// ---- bundle.c ----
void yd_bundles_recover(yd_service *s);
void yd_bundles_look(yd_service *s, const char *id); // another process may have made or removed it; NULL: any
void yd_bundles_sweep(yd_service *s);
void yd_bundles_close(yd_service *s);

// ---- recovery.c ----
int yd_service_recover(yd_service *s, yd_err *err); // at the start: unfinished jobs into the table
void yd_service_resume(yd_service *s);              // those whose models are there: into the queue
void yd_service_park_left(yd_service *s);           // those that are not in the queue yet are left to the next process again
int yd_job_recall(yd_service *s, const char *id, yd_job **out, yd_err *err);
yd_job *yd_job_revive(yd_service *s, yd_job_record *r); // of a stored record, outside the table. NULL: out of memory
// Bring a job's events up to what its record has of them, and behind all that another process can have told. Returns the words of its final
// event, which is not appended (yd_free), or NULL: it has none yet.
char *yd_job_history(yd_job *j, const yd_job_record *r);
void yd_job_book_stored(yd_job *j); // what its owner was charged with for it, and it has not used
json_t *yd_job_stored_json(yd_service *s, const char *id); // of a job that is not in the table
void yd_job_rest(yd_job *j); // nobody uses it: it may be evicted where the store has it
void yd_job_stir(yd_job *j);
void yd_jobs_evict(yd_service *s);

// Does the store keep a picture of that size? YD_E_IMAGE_TOO_LARGE naming `field`, with what it would take.
int yd_service_keeps(const yd_service *s, const char *field, size_t len, yd_err *err);

// ---- checkpoint.c ----
int yd_checkpoints_open(yd_service *s, yd_err *err); // when the unfinished jobs are in the table
void yd_checkpoints_close(yd_service *s);
int yd_job_checkpoint_due(const yd_job *j, int64_t now_us);
void yd_job_checkpoint_save(yd_job *j, void *state, size_t len); // a copied state; takes it
void yd_job_checkpoint_remove(yd_job *j);
int yd_job_checkpoint_path(const yd_job *j, char *path); // path: YD_SPOOL_PATH_MAX; 0 and "": there can be none
// On a pool thread: what yd_sampler_restore says, YD_E_NOT_FOUND, YD_E_IO.
int yd_job_checkpoint_read(const yd_job *j, const char *path, const char *fingerprint, yd_sampler *sampler, yd_err *err);

// ---- share.c ----
void yd_share_key(const yd_service *s, yd_job_record *r); // r->key, or "" when the cache is off
int yd_share_fill(yd_service *s, yd_job_record *r);       // 1: it has succeeded, with the pictures of one that did
int yd_share_join(yd_job *j);                             // 1: it follows another one; 0: it is to be computed
void yd_share_leave(yd_job *j);                           // it follows no more
void yd_share_end(yd_job *j);                             // it has ended: so do its followers, or one takes its place
void yd_share_hand_over(yd_job *j);                       // nobody works with it any more: one that takes its place may have its canvas
void yd_share_park(yd_job *j);
void yd_share_yield(yd_job *j);                           // another process has it: its followers do without

// ---- pictures.c ----
// Encode a preview in the pool and append its event. pixels: the output picture's RGB bytes; takes a reference.
void yd_preview_encode(yd_job *j, yd_blob *pixels, int step);
// A copy asked for by waiting calls has come (pixels as above), or will never come (NULL).
void yd_pictures_serve(yd_job *j, yd_blob *pixels);

// ---- picture_draw.c: what pictures beside the result are made of. On pool threads; memory is the caller's. ----
// RGB bytes shrunk to at most max_side (0: as they are).
int yd_draw_preview(const uint8_t *rgb, int w, int h, int max_side, yd_image *out, yd_err *err);
// How previews are encoded.
void yd_preview_output(yd_image_format format, yd_output *out);
// The map as grey bytes, shrunk to at most max_side (0: as it is).
int yd_draw_attention(const float *map, int w, int h, int max_side, uint8_t **plane, int *pw, int *ph, yd_err *err);
// Activation steps as a plane that keeps masks of every step (w x 2h: low bytes above high bytes), and a mask of such a picture.
int yd_draw_activation(const uint16_t *a, int w, int h, uint8_t **plane, yd_err *err);
int yd_draw_mask(const uint16_t *a, int w, int h, int threshold, uint8_t **plane, yd_err *err);
// The mask at the size of a preview: the pixel in the middle of each stands for it.
int yd_draw_small_mask(const uint16_t *a, int w, int h, int threshold, int pw, int ph, uint8_t **plane, yd_err *err);
int yd_draw_mask_of(const yd_image *packed, int threshold, uint8_t **plane, yd_err *err);

// ---- encode.c ----
// The last unit of work is back: finish, encode, account, end the job; then pack maps and masks.
void yd_encode_start(yd_job *j);

// ---- job.c ----
json_t *yd_invented_json(const yd_invented *a); // a new reference; NULL: out of memory

// ---- service.c ----
// Hand an operation to the store; while that closes it comes back failed at once.
void yd_service_store(yd_service *s, yd_store_op *op);
// Let go of one hold; the last one frees a closing service.
void yd_service_release(yd_service *s);
// After a job has ended: is the drain over?
void yd_service_check_drained(yd_service *s);

#endif
