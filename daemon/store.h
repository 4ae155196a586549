// Where job records live: an interface, so that jobs can be kept in memory, in a file or in a shared database.
//
// A record is everything that must outlive the process for the job to be answered for: who, what, how far, why not, and its pictures.
// What only the present process needs (canvas, subscribers, queue links) belongs to the service. A record that was put is either
// queued, claimed (running) or finished; finished ones expire into tombstones, tombstones into nothing.
//
// Contract of every implementation:
//   * put and update are done when they return 0: a job acknowledged afterwards is not lost by this store's own standard.
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
    size_t bytes;        // what the record and its blobs take, kept by the service
} yd_job_record;

// Copy, taking references of the blobs; release them.
void yd_job_record_copy(yd_job_record *dst, const yd_job_record *src);
void yd_job_record_clear(yd_job_record *r);

typedef struct yd_store_limits {
    int64_t job_ttl_ms, tombstone_ttl_ms;
    size_t max_finished_jobs, max_finished_bytes;
} yd_store_limits;

typedef struct yd_store yd_store;

struct yd_store {
    void (*close)(yd_store *s);
    // Add a new record and give it its `order`. YD_E_CONFLICT: the id is taken. YD_E_NOMEM, YD_E_IO.
    int (*put)(yd_store *s, yd_job_record *r, yd_err *err);
    // Replace the record of that id. YD_E_NOT_FOUND, YD_E_IO. A finished record stays finished (YD_E_CONFLICT).
    int (*update)(yd_store *s, const yd_job_record *r, yd_err *err);
    // Add blobs to a finished record, nothing else changes. YD_E_NOT_FOUND.
    int (*attach)(yd_store *s, const yd_job_record *r, yd_err *err);
    // Copy out; clear it afterwards. YD_E_NOT_FOUND; YD_E_GONE for a tombstone.
    int (*get)(yd_store *s, const char *id, yd_job_record *out, yd_err *err);
    // Take a queued record for this process: it becomes running, started now. YD_E_CONFLICT: it is not queued any more (somebody else
    // has it). YD_E_NOT_FOUND, YD_E_IO.
    int (*claim)(yd_store *s, const char *id, int64_t now_ms, yd_err *err);
    // Up to `limit` ids of this owner (NULL: of everybody) with order < before (UINT64_MAX: from the newest), newest first; state -1: any. Returns how many.
    int (*list)(yd_store *s, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX],
                uint64_t *orders);
    // Remove a record, leaving a tombstone. Unknown ids are fine.
    void (*remove)(yd_store *s, const char *id, int64_t now_ms);
    // Turn finished records that are too old or too many into tombstones, and forget old tombstones. fn is told each expired id.
    void (*expire)(yd_store *s, int64_t now_ms, const yd_store_limits *lim, void (*fn)(void *arg, const char *id),
                   void *arg);
    // What finished records take (the sum of `bytes`).
    size_t (*finished_bytes)(const yd_store *s);
};

// Jobs in memory: gone with the process. Tombstones are bounded to 65536, the oldest go first. YD_E_NOMEM.
int yd_store_memory_open(yd_store **out, yd_err *err);

#endif
