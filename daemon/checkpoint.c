// Saving where a running job stands, so that a crash costs the last few seconds and not the whole job.
//
// The device's thread copies the sampler's state when a step is finished and checkpoint_interval_ms are over; a pool thread seals and writes
// it (state_dir/checkpoints/ID, whole or not at all); then the record follows with the job's progress and its events so far, and what was
// counted against it as attempts is forgotten: it has got further. Whoever takes the job up reads the file in the pool where the job is
// prepared. A checkpoint that cannot be written or read costs only time. Files go with their jobs; what a crash left is swept at the start.
// Threads: the loop thread, except *_work and yd_job_checkpoint_read; the mutex lets one pool thread at a time use the spool.
#include "daemon/service_internal.h"

#include "core/file.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <string.h>
#include <unistd.h>

#define MOST_BYTES ((size_t)1 << 36)

typedef struct save_task {
    yd_task task;
    void *state;
    size_t len;
    yd_job_progress progress;
    char name[YD_ID_MAX], fingerprint[YD_FINGERPRINT_SHORT];
    int rc;
    yd_err err;
} save_task;

static int is_unfinished(void *arg, const char *name)
{
    const yd_service *s = arg;
    return yd_idmap_get(s->jobs, name) != NULL;
}

int yd_checkpoints_open(yd_service *s, yd_err *err)
{
    if (!s->store->durable) return 0;
    int rc = yd_spool_open(s->cfg->state_dir, "checkpoints", &s->checkpoints, err);
    if (rc) return rc;
    if (s->store->several) yd_spool_share(s->checkpoints);
    uv_mutex_init(&s->checkpoints_mutex);
    yd_spool_sweep(s->checkpoints, is_unfinished, s);
    return 0;
}

void yd_checkpoints_close(yd_service *s)
{
    if (!s->checkpoints) return;
    uv_mutex_destroy(&s->checkpoints_mutex);
    yd_spool_close(s->checkpoints);
}

int yd_job_checkpoint_due(const yd_job *j, int64_t now_us)
{
    const yd_service *s = j->service;
    const int64_t interval_us = s->cfg->checkpoint_interval_ms * 1000;
    return s->checkpoints && interval_us > 0 && !j->saving && now_us - j->saved_us >= interval_us;
}

// ---- saving --------------------------------------------------------------------------------------------------------

static void save_work(yd_task *task)
{
    save_task *t = (save_task *)task;
    yd_service *s = task->job->service;
    yd_sampler_seal(t->state, t->len, t->fingerprint);
    uv_mutex_lock(&s->checkpoints_mutex);
    t->rc = yd_spool_write(s->checkpoints, t->name, &(yd_piece){t->state, t->len}, 1, YD_SPOOL_REPLACE, &t->err);
    if (!t->rc) t->rc = yd_spool_sync(s->checkpoints, &t->err);
    if (!t->rc && s->store->keep) t->rc = s->store->keep(s->store, t->name, t->state, t->len, &t->err);
    uv_mutex_unlock(&s->checkpoints_mutex);
    yd_free(t->state);
}

static void on_noted(yd_store_op *op)
{
    yd_job_unpin(op->arg);
}

// The record follows the file: should only one of them be there, the job still ends with the same bytes.
static void note(yd_job *j, const save_task *t)
{
    yd_job_record now = j->rec;
    now.progress = t->progress;
    now.attempts = j->rec.attempts = 0;
    now.events = yd_events_print(j->events, YD_EVENT_STEP, NULL);
    yd_store_op *op = yd_store_op_new(YD_OP_UPDATE, &now, on_noted, j);
    yd_blob_unref(now.events);
    if (!op) return;
    yd_job_pin(j);
    yd_service_store(j->service, op);
}

static void save_after(yd_task *task)
{
    const save_task *t = (const save_task *)task;
    yd_job *j = task->job;
    j->saving = 0;
    if (t->rc)
        yd_log(YD_LOG_WARN, j->request_id, "checkpoint not written", "job", j->rec.id, "why", t->err.detail, NULL);
    else if (!yd_job_over(j))
        note(j, t);
    else if (yd_job_state_final(j->rec.state))
        yd_job_checkpoint_remove(j);
    if (j->handing_over && atomic_load(&j->stop)) yd_pipeline_park(j);
}

void yd_job_checkpoint_save(yd_job *j, void *state, size_t len)
{
    save_task *t = j->saving ? NULL : yd_calloc(1, sizeof *t);
    if (!t) {
        yd_free(state);
        return;
    }
    t->state = state;
    t->len = len;
    t->progress = j->rec.progress;
    memcpy(t->name, j->rec.id, sizeof t->name);
    memcpy(t->fingerprint, j->rec.fingerprint, sizeof t->fingerprint);
    j->saving = j->has_checkpoint = 1;
    j->saved_us = yd_mono_us();
    yd_task_start(&t->task, j, save_work, save_after);
}

// ---- the end of it -------------------------------------------------------------------------------------------------

static void on_unlinked(uv_fs_t *req)
{
    uv_fs_req_cleanup(req);
    yd_free(req);
}

void yd_job_checkpoint_remove(yd_job *j)
{
    char path[YD_SPOOL_PATH_MAX];
    yd_service *s = j->service;
    if (!s->checkpoints || !j->has_checkpoint || yd_spool_path(s->checkpoints, j->rec.id, path)) return;
    if (s->store->drop && !j->foreign) s->store->drop(s->store, j->rec.id);
    uv_fs_t *req = yd_malloc(sizeof *req); // without memory it stays until the next start
    if (req && uv_fs_unlink(s->loop, req, path, on_unlinked)) yd_free(req);
}

// ---- going on ------------------------------------------------------------------------------------------------------

int yd_job_checkpoint_path(const yd_job *j, char *path)
{
    *path = 0;
    if (!j->service->checkpoints || !j->rec.resumed) return 0;
    return yd_spool_path(j->service->checkpoints, j->rec.id, path) == 0;
}

// An older copy of this process's own does where there is none to be had: it only costs time.
static void fetch_copy(const yd_job *j, const char *path)
{
    yd_service *s = j->service;
    yd_err err = {0};
    uv_mutex_lock(&s->checkpoints_mutex);
    const int rc = s->store->fetch(s->store, j->rec.id, path, &err);
    uv_mutex_unlock(&s->checkpoints_mutex);
    if (rc && rc != YD_E_NOT_FOUND) yd_log(YD_LOG_WARN, NULL, "checkpoint not fetched", "job", j->rec.id, "why", err.detail, NULL);
}

int yd_job_checkpoint_read(const yd_job *j, const char *path, const char *fingerprint, yd_sampler *sampler, yd_err *err)
{
    void *state = NULL;
    size_t len = 0;
    if (j->service->store->fetch) fetch_copy(j, path);
    if (access(path, F_OK)) return yd_fail(err, YD_E_NOT_FOUND, "there is no checkpoint");
    int rc = yd_file_read(path, MOST_BYTES, &state, &len, err);
    if (!rc) rc = yd_sampler_restore(sampler, state, len, fingerprint, err);
    yd_free(state);
    return rc;
}
