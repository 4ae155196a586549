// Counters, gauges and histograms, printed in the Prometheus text format.
//
// The set is fixed at compile time (names in metrics.c), labels come from short closed lists or from a bounded table, so the
// exposition cannot grow without bound. Threads: the loop thread only.
#ifndef YD_DAEMON_METRICS_H
#define YD_DAEMON_METRICS_H

#include "daemon/mapper.h"
#include <stddef.h>
#include <stdint.h>

typedef struct yd_metrics yd_metrics;

// Pipeline stages of yodad_job_duration_seconds{stage}.
typedef enum { YD_STAGE_PREPARE, YD_STAGE_COMPUTE, YD_STAGE_ENCODE, YD_STAGE_TOTAL, YD_STAGE_COUNT } yd_stage;
// Outcomes of yodad_jobs_total{outcome}.
typedef enum { YD_OUTCOME_SUCCEEDED, YD_OUTCOME_FAILED, YD_OUTCOME_CANCELLED, YD_OUTCOME_COUNT } yd_outcome;

yd_metrics *yd_metrics_new(void); // NULL: out of memory
void yd_metrics_free(yd_metrics *m);

void yd_metrics_job(yd_metrics *m, const char *model, yd_outcome o);
void yd_metrics_wait(yd_metrics *m, double seconds); // queued -> started
void yd_metrics_duration(yd_metrics *m, yd_stage stage, double seconds);
void yd_metrics_step(yd_metrics *m, double seconds, int windows_run, int windows_skipped);
void yd_metrics_batch(yd_metrics *m, int units, int max_batch);
void yd_metrics_share(yd_metrics *m, double share); // diffused pixel-steps of a job

// For front ends. delta: +1 when a stream opens, -1 when it ends. reason: the slug of a yd_err_info ("queue-full") or another short
// static string; at most 32 different ones are told apart.
void yd_metrics_sse_clients(yd_metrics *m, int delta);
void yd_metrics_sse_dropped(yd_metrics *m, uint64_t previews);
void yd_metrics_rejected(yd_metrics *m, const char *reason);

// A codec process ended and is replaced; one was given a picture. Both static strings, at most 16 different ones.
void yd_metrics_codec_restart(yd_metrics *m, const char *reason);
void yd_metrics_codec_call(yd_metrics *m, const char *op);

// A request to another server came to its end. kind: 0 fetch, 1 result, 2 webhook.
void yd_metrics_outgoing(yd_metrics *m, int kind, int succeeded);

// What is read at the moment of the exposition rather than counted.
typedef struct yd_model_now {
    const char *name, *state;
    size_t weights_bytes, arena_bytes; // of all versions of it on the device
    size_t jobs;                       // and submissions that hold it
    int loads[2];                      // that failed, that succeeded
    double unit_s;                     // of its first engine; 0: it is not resident
} yd_model_now;

typedef struct yd_lane_now {
    const char *name; // of a device
    int up;
    uint64_t runs, units, failed;
    double busy_s;
    int has_memory; // the rest is known
    size_t total_bytes, free_bytes, weights_bytes, arena_bytes, scratch_bytes;
} yd_lane_now;

typedef struct yd_metrics_now {
    int ready; // as yd_service_ready says
    size_t running;
    int store_up, store_fenced, store_shared; // shared: other processes have the same jobs
    const char *durability;
    uint64_t store_free; // bytes; UINT64_MAX: does not matter
    size_t queue_depth;
    double queue_oldest_s;
    size_t deliveries; // results and webhooks that wait
    int codec_processes, codec_idle, codec_busy, codec_waiting;
    size_t jobs_bytes, results_bytes;
    const yd_model_now *models;
    int n_models;
    size_t models_budget_bytes;
    const yd_lane_now *lanes;
    int n_lanes;
    yd_mapper_now maps;
    const char *version, *model, *device;
} yd_metrics_now;

// Print; release with yd_free. NULL: out of memory.
char *yd_metrics_text(const yd_metrics *m, const yd_metrics_now *now, size_t *len);

#endif
