// What the files of the service share: its state, and the calls between submit.c, pipeline.c, encode.c, pictures.c, report.c and service.c.
#ifndef YD_DAEMON_SERVICE_INTERNAL_H
#define YD_DAEMON_SERVICE_INTERNAL_H

#include "daemon/codec.h"
#include "daemon/job.h"
#include "daemon/owners.h"
#include "daemon/worker.h"

typedef enum { YD_DEVICE_LOADING, YD_DEVICE_READY, YD_DEVICE_BROKEN } yd_device_state;

struct yd_service {
    uv_loop_t *loop;
    const yd_config *cfg;
    yd_metrics *metrics;
    yd_store *store;
    yd_idmap *jobs; // every job that is known, by id
    yd_scheduler sched;
    yd_owners *owners; // and their shares of the device
    size_t input_bytes; // encoded pictures of jobs that are not finished
    int under_way;      // jobs that are not final, and final ones that still hold a stage

    yd_codecs *codecs;
    yd_worker *worker;
    yd_device_state device;
    yd_err device_err;
    int device_failures; // runs in a row
    yd_model_config model;
    char model_checksum[72];
    size_t model_params;
    yd_engine_info engine[YD_ENGINES_MAX]; // what is resident; the first serves who asks for none
    int n_engines;
    double prepare_px_s, encode_px_s; // of a pixel of the grid, of the result; moving averages

    uv_timer_t sweep_timer, drain_timer;
    int draining, closing;
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

// ---- pool tasks (pipeline.c): work runs on a pool thread, after on the loop thread; the job is pinned in between ----
typedef struct yd_task {
    uv_work_t req;
    yd_job *job;
    void (*work)(struct yd_task *t);
    void (*after)(struct yd_task *t);
} yd_task;

// Queue a task that is embedded first in a larger struct allocated with yd_malloc; it is freed after `after`.
void yd_task_start(yd_task *t, yd_job *j, void (*work)(yd_task *t), void (*after)(yd_task *t));
void yd_job_pin(yd_job *j);
void yd_job_unpin(yd_job *j);

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
// From `after`: another round. op, fill, take and after as given, the call's other fields as they are.
void yd_codec_task_again(yd_codec_task *t, yd_codec_op op, int (*fill)(yd_codec_call *c, yd_err *err),
                         int (*take)(yd_codec_call *c, yd_err *err), void (*after)(yd_codec_task *t));
// For take: a copy of the encoded picture, of w x h pixels. hash as for yd_blob_new. YD_E_NOMEM.
int yd_codec_take_blob(const yd_codec_call *c, int hash, yd_blob **out, yd_err *err);

// ---- pipeline.c ----
// Start what may start, feed the device. Call after everything that changes what is possible.
void yd_pipeline_kick(yd_service *s);
void yd_pipeline_batch_done(void *service, yd_batch *b);
// Bring a job to its end now; err is its problem when it failed. Its resources follow when nobody pins it.
void yd_pipeline_finish(yd_job *j, yd_job_state state, const yd_err *err);
// End every job that has not ended.
void yd_pipeline_end_all(yd_service *s, yd_job_state state, const yd_err *err);
double yd_job_eta_s(const yd_job *j);
void yd_average(double *mean, double now); // a moving average takes in a new measurement; 0 is none yet
// Take a job out of the table; it is freed when nobody pins it.
void yd_job_forget(yd_job *j);

// ---- submit.c ----
yd_image_limits yd_service_image_limits(const yd_service *s);

// ---- pictures.c ----
// Encode a preview in the pool and append its event. pixels: the output picture's RGB bytes; takes a reference.
void yd_preview_encode(yd_job *j, yd_blob *pixels, int step);
// A copy asked for by waiting calls has come (pixels as above), or will never come (NULL).
void yd_pictures_serve(yd_job *j, yd_blob *pixels);

// ---- picture_draw.c: what pictures beside the result are made of. On pool threads; memory is the caller's. ----
// RGB bytes shrunk to at most max_side (0: as they are).
int yd_draw_preview(const uint8_t *rgb, int w, int h, int max_side, yd_image *out, yd_err *err);
// How previews are encoded.
void yd_preview_output(int jpeg, yd_output *out);
// The map as grey bytes, shrunk to at most max_side (0: as it is).
int yd_draw_attention(const float *map, int w, int h, int max_side, uint8_t **plane, int *pw, int *ph, yd_err *err);
// Activation steps as a plane that keeps masks of every step (w x 2h: low bytes above high bytes), and a mask of such a picture.
int yd_draw_activation(const uint16_t *a, int w, int h, uint8_t **plane, yd_err *err);
int yd_draw_mask(const uint16_t *a, int w, int h, int threshold, uint8_t **plane, yd_err *err);
int yd_draw_mask_of(const yd_image *packed, int threshold, uint8_t **plane, yd_err *err);

// ---- encode.c ----
// The last unit of work is back: finish, encode, account, end the job; then pack maps and masks.
void yd_encode_start(yd_job *j);

// ---- job.c ----
json_t *yd_invented_json(const yd_invented *a); // a new reference; NULL: out of memory

// ---- service.c ----
// Let go of one hold; the last one frees a closing service.
void yd_service_release(yd_service *s);
// After a job has ended: is the drain over?
void yd_service_check_drained(yd_service *s);

#endif
