// A job in this process: its record, its turn, its events, and what it holds while it is under way.
//
//   stage      who has it                          left by
//   QUEUED     the scheduler's queue               yd_pipeline_kick -> prepare in the pool
//   PREPARING  a pool thread (decode, map, canvas) prepared -> COMPUTING, or failed
//   COMPUTING  scheduler and device, unit by unit  last unit back -> ENCODING, or failed
//   ENCODING   a pool thread                       encoded -> ARCHIVING, state succeeded
//   ARCHIVING  maps and masks are packed           archived -> ARCHIVED
//   ARCHIVED   the store puts them away            stored -> DONE
//   DONE       nobody: record, events and pictures wait to expire
// Cancelling ends it from any stage (ending.c); the stage's holder then lets go, within one unit of work.
//
// `pins` counts who works with the job right now (pool tasks, units on the device). What only running jobs need is freed when the state
// is final and nobody pins it; the job itself when, besides, it was removed from the table (`gone`).
// Threads: the loop thread, except `stop` (read by the worker) and what a stage's holder was given.
#ifndef YD_DAEMON_JOB_H
#define YD_DAEMON_JOB_H

#include "core/upscale.h"
#include "daemon/registry.h"
#include "daemon/scheduler.h"
#include "daemon/service.h"
#include "daemon/store.h"
#include <stdatomic.h>

#define YD_JOB_PATH     "/v1/jobs/" // what the links of a job begin with
#define YD_EVENT_STRIDE 16384       // more ids than one run of a job gives to events: > 2 * YD_MAX_STEPS and the few others

typedef enum {
    YD_STAGE_QUEUED,
    YD_STAGE_PREPARING,
    YD_STAGE_COMPUTING,
    YD_STAGE_ENCODING,
    YD_STAGE_ARCHIVING,
    YD_STAGE_ARCHIVED,
    YD_STAGE_DONE
} yd_job_stage;

// What a job will take: known from its header.
typedef struct yd_estimate {
    int grid_w, grid_h, out_w, out_h;
    int engine; // of its model, that computes it
    long units; // at most
    int windows; // in one batch, at most
    size_t memory;
} yd_estimate;

// What was taken from an owner's limits for a job (limits.c).
typedef struct yd_booking {
    int counted; // among the owner's jobs
    long units;  // from the owner's budget: the most that it can need, then what its map says, in the end what was computed
} yd_booking;

typedef struct yd_fetch yd_fetch;

struct yd_job {
    yd_service *service;
    yd_job_record rec;
    yd_estimate estimate;
    yd_resident *model; // held until it has ended; NULL while it waits for its model after a restart
    yd_turn turn;
    yd_booking booking;
    long computed; // units that the device ran for it in this process
    int failed_runs;   // of devices that failed in a run with units of its own, in a row
    uint64_t last_failed; // the service's number of the last of these
    int losses;   // of its canvas with a device, as far as is known here
    int fetching; // its canvas is on its way from a device
    yd_event_log *events;
    yd_job_stage stage;
    atomic_int stop; // 1: units of this job are not computed any more
    int pins, gone;
    int ending;  // its end is decided and being stored (ending.c)
    int deleted; // nobody finds it any more; its removal is being stored
    int foreign;  // another process has it, or is to have it: there is only its record here (replicas.c)
    int claiming; // its claim is being stored
    int ends_here; // foreign, and this process has ended it: it tells of the end
    uint64_t told_id;  // of the latest event that all processes have, or were told from here
    double told_eta_s; // foreign: what its process said last, and when
    int64_t told_eta_us;
    long said_windows; // that were done when the other processes were told
    int64_t look_us, looked_at_us; // when this process last said that somebody looks at it; when another one did
    int64_t unfit_us; // when it was found that it cannot be computed here; 0: it can
    yd_store_op *end_op; // had beforehand, so that the end can always be stored
    char *end_words;     // data of the final event meanwhile
    yd_removed_fn removed;
    void *removed_arg;
    int saving, has_checkpoint; // checkpoint.c
    int handing_over; // it is saved at the end of its step and then left to another process
    int64_t saved_us;
    yd_arrival *arrival;                        // arrival.c: that it is being stored for; NULL: it is stored
    yd_job *leader, *followers, *next_follower; // share.c
    int leads;
    yd_job *rest_prev, *rest_next; // recovery.c
    int resting;
    size_t rest_bytes;
    char *last_words; // data of the final event, should memory be out by then
    char request_id[64];

    yd_fetch *fetch; // fetch.c: its picture is on the way

    struct yd_codec_task *codec; // the codec's part of its stage, while there is one

    yd_prepared prep; // from COMPUTING to the end of ARCHIVING
    int has_prep;
    int64_t created_us, started_us, computing_us, encoding_us; // monotonic
    double step_s;                                             // device time of the step under way

    yd_blob *preview; // the latest encoded one
    int preview_step;
    int64_t preview_us;            // when the last one was asked for
    int preview_encoding;          // one is in the pool
    int preview_ordered;           // a unit on the device will bring one
    yd_picture_call *wait_preview; // calls that wait for a fresh copy
};

static inline yd_job *yd_job_of_turn(yd_turn *t)
{
    return (yd_job *)(void *)((char *)t - offsetof(yd_job, turn));
}

// Make a queued job from a record (copied). NULL: out of memory.
yd_job *yd_job_new(yd_service *s, const yd_job_record *rec);
void yd_job_free(yd_job *j);

// A random UUID (version 4). With a replica of 0..255 its first two digits are that number (version 8). YD_E_INTERNAL without entropy.
int yd_job_id_new(int64_t replica, char id[YD_ID_MAX], yd_err *err);

// Append an event; data is stolen (NULL: out of memory, logged like any other failure to append).
void yd_job_event(yd_job *j, yd_event_type type, json_t *data, yd_blob *blob);
void yd_job_preview(yd_job *j, json_t *data, yd_blob *blob, yd_blob *mask); // mask: NULL: every pixel, or none of it is known
// The same with data that was printed already (stolen; NULL: out of memory).
void yd_job_event_text(yd_job *j, yd_event_type type, char *data);

// The job is stored: tell all of what was told of it so far, which only its own log has.
void yd_job_tell_stored(yd_job *j);

// What a record and its events take, for the bound on finished jobs.
size_t yd_job_bytes(const yd_job *j);

#endif
