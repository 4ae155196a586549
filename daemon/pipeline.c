// How jobs move: from the queue through the pool and the device to their end.
//
// Stages and who performs each change: see job.h. Everything here runs on the loop thread except what codec calls give and
// take, which happens on pool threads and touches only the task, the blobs of the job and its prepared state; the job is pinned meanwhile, and its stage
// keeps anybody else away from what they change.
// Failure: whoever meets an error ends the job with it (yd_pipeline_finish); no error of one job touches another. Read next: worker.h, units.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define NEW_WEIGHT 0.2 // of a new measurement in the moving average

// ---- pool tasks ----------------------------------------------------------------------------------------------------

static void task_work(uv_work_t *req)
{
    yd_task *t = (yd_task *)req;
    yd_pool_thread();
    t->work(t);
}

static void task_after(uv_work_t *req, int status)
{
    yd_task *t = (yd_task *)req;
    yd_job *j = t->job;
    yd_service *s = j->service;
    (void)status; // tasks are never cancelled
    t->after(t);
    yd_free(t);
    yd_job_unpin(j);
    yd_service_release(s);
}

void yd_task_start(yd_task *t, yd_job *j, void (*work)(yd_task *t), void (*after)(yd_task *t))
{
    t->job = j;
    t->work = work;
    t->after = after;
    yd_job_pin(j);
    j->service->holds++;
    uv_queue_work(j->service->loop, &t->req, task_work, task_after); // fails only without a callback
}

// ---- measurements --------------------------------------------------------------------------------------------------

void yd_average(double *mean, double now)
{
    *mean = *mean > 0 ? (1 - NEW_WEIGHT) * *mean + NEW_WEIGHT * now : now;
}

// ---- estimates -----------------------------------------------------------------------------------------------------

// What is left of a stage that takes so long, when it has begun or not.
static double left(double stage_s, int begun, int64_t since_us)
{
    const double gone_s = begun ? (double)(yd_mono_us() - since_us) / 1e6 : 0;
    return stage_s > gone_s ? stage_s - gone_s : 0;
}

double yd_job_eta_s(const yd_job *j)
{
    const yd_service *s = j->service;
    if (j->foreign) return round(left(j->told_eta_s, j->told_eta_us != 0, j->told_eta_us) * 1e6) / 1e6;
    const yd_job_record *r = &j->rec;
    const double prepare_s = s->prepare_px_s * r->grid_w * r->grid_h, encode_s = s->encode_px_s * r->out_w * r->out_h;
    double sum = yd_scheduler_eta_s(&s->sched, &j->turn, yd_mono_us());
    if (j->stage <= YD_STAGE_PREPARING) sum += left(prepare_s, j->stage == YD_STAGE_PREPARING, j->started_us);
    if (j->stage <= YD_STAGE_ENCODING) sum += left(encode_s, j->stage == YD_STAGE_ENCODING, j->encoding_us);
    return round(sum * 1e6) / 1e6; // printed without digits that mean nothing
}

// ---- decode and prepare --------------------------------------------------------------------------------------------

typedef struct prepare_task {
    yd_codec_task task;
    yd_model_config model;
    yd_job_settings settings;
    yd_blob *input;
    yd_prepared prep;
    uint8_t *plane; // small picture of the attention map, for the event
    int plane_w, plane_h;
    yd_blob *map; // the same, encoded
    char checkpoint[YD_SPOOL_PATH_MAX], fingerprint[YD_FINGERPRINT_SHORT]; // "": the job begins at its beginning
    yd_err not_restored;
    yd_map_request map_of; // of a map that an attention network makes
    yd_raw_maps *raw;      // what came of it
    int ended;
} prepare_task;

static int give_input(yd_codec_call *c, yd_err *err)
{
    const prepare_task *t = (const prepare_task *)(const void *)c;
    const int rc = yd_blob_check(t->input, err);
    return rc ? rc : yd_codec_put_file(c, t->input->bytes, t->input->len, err);
}

// The second half of preparing, with the map of a network or without.
static int end_prepare(prepare_task *t, yd_err *err)
{
    const int rc = yd_prepare_end(&t->model, &t->settings.sample, &t->prep, t->raw ? t->raw->value : NULL, err);
    if (rc) return rc;
    t->ended = 1;
    if (*t->checkpoint) yd_job_checkpoint_read(t->task.job, t->checkpoint, t->fingerprint, t->prep.sampler, &t->not_restored);
    yd_err ignored; // a missing picture of the map is no reason to fail
    yd_draw_attention(t->prep.map, t->prep.w, t->prep.h, t->settings.preview_max_side, &t->plane, &t->plane_w, &t->plane_h, &ignored);
    return 0;
}

static int prepare_decoded(yd_codec_call *c, yd_err *err)
{
    prepare_task *t = (prepare_task *)(void *)c;
    if (atomic_load(&t->task.job->stop)) return 0;
    int rc = yd_prepare_begin(&t->model, &t->settings.sample, &t->settings.output, &c->image, &t->prep, err);
    if (rc) return rc;
    const yd_prepare_begun *b = &t->prep.begun;
    if (!b->awaits) return end_prepare(t, err);
    t->map_of = (yd_map_request){.ref = b->ref, .shown = b->shown, .w = b->shown_w, .h = b->shown_h, .stop = &t->task.job->stop};
    yd_map_request_key(t->task.job->service->mapper, &t->map_of);
    return 0;
}

static int give_plane(yd_codec_call *c, yd_err *err)
{
    const prepare_task *t = (const prepare_task *)(const void *)c;
    return yd_codec_put_grey(c, t->plane, t->plane_w, t->plane_h, err);
}

// A network has made the map: what was left of preparing, then as above.
static int end_and_give_plane(yd_codec_call *c, yd_err *err)
{
    prepare_task *t = (prepare_task *)(void *)c;
    const int rc = atomic_load(&t->task.job->stop) ? 0 : end_prepare(t, err);
    return rc ? rc : t->plane ? give_plane(c, err) : YD_CODEC_NOTHING;
}

static int take_map(yd_codec_call *c, yd_err *err)
{
    return yd_codec_take_blob(c, 0, &((prepare_task *)(void *)c)->map, err);
}

// The map of a canvas that another job has left.
static int give_map(yd_codec_call *c, yd_err *err)
{
    const prepare_task *t = (const prepare_task *)(const void *)c;
    const yd_prepared *p = &t->task.job->prep;
    uint8_t *plane = NULL;
    int w, h, rc = yd_draw_attention(p->map, p->w, p->h, t->settings.preview_max_side, &plane, &w, &h, err);
    if (!rc) rc = yd_codec_put_grey(c, plane, w, h, err);
    yd_free(plane);
    return rc;
}

static json_t *attention_data(const yd_job *j, const yd_blob *map)
{
    char path[128];
    snprintf(path, sizeof path, YD_JOB_PATH "%s/attention", j->rec.id);
    json_t *o = json_pack("{s:s, s:f, s:I, s:I, s:f, s:s}", "method", j->rec.settings.sample.attention,
                          "diffused_share", j->rec.progress.diffused_share, "windows_total",
                          (json_int_t)j->rec.progress.windows_total, "windows_skipped",
                          (json_int_t)j->rec.progress.windows_skipped, "eta_s", yd_job_eta_s(j), "link", path);
    if (o && map) {
        json_object_set_new(o, "width", json_integer(map->width));
        json_object_set_new(o, "height", json_integer(map->height));
    }
    return o;
}

static void begin_compute(yd_job *j, yd_blob *map)
{
    yd_service *s = j->service;
    yd_work work;
    yd_sampler_work(j->prep.sampler, &work);
    j->stage = YD_STAGE_COMPUTING;
    j->computing_us = yd_mono_us();
    j->rec.timings.prepare_ms = (double)(j->computing_us - j->started_us) / 1000;
    j->rec.progress.windows_total = work.units;
    j->rec.progress.windows_skipped = work.units_all - work.units;
    j->rec.progress.diffused_share = work.pixel_share;
    j->rec.progress.step = work.steps - work.steps_left;
    j->rec.progress.windows_done = work.units - work.units_left;
    j->saved_us = j->computing_us;
    yd_service_settle(s, j->rec.owner, j->computed + work.units_left, &j->booking);
    yd_scheduler_ready(&s->sched, &j->turn, work.units_left, work.windows, j->computing_us);
    yd_metrics_duration(s->metrics, YD_STAGE_PREPARE, j->rec.timings.prepare_ms / 1000);
    if (work.units_left == work.units) yd_average(&s->prepare_px_s, j->rec.timings.prepare_ms / 1000 / j->rec.grid_w / j->rec.grid_h);
    yd_metrics_share(s->metrics, work.pixel_share);
    yd_job_event(j, YD_EVENT_ATTENTION, attention_data(j, map), yd_blob_ref(map));
    // The event's readers may have cancelled it.
    if (!yd_job_over(j) && work.units_left == 0) yd_encode_start(j);
}

static void prepare_after(yd_codec_task *task)
{
    prepare_task *t = (prepare_task *)task;
    yd_job *j = task->job;
    if (yd_job_over(j))
        yd_prepared_clear(&t->prep);
    else {
        if (!j->has_prep) j->prep = t->prep;
        j->has_prep = 1;
        begin_compute(j, t->map);
    }
    yd_free(t->plane);
    yd_blob_unref(t->map);
    yd_raw_maps_unref(t->raw);
    yd_pipeline_kick(j->service);
}

static void prepare_failed(prepare_task *t, const yd_err *err)
{
    yd_job *j = t->task.job;
    yd_prepared_clear(&t->prep);
    yd_free(t->plane); // cancelled when everything was made already
    yd_raw_maps_unref(t->raw);
    yd_pipeline_finish(j, YD_JOB_FAILED, err); // nothing when it is over
    yd_pipeline_kick(j->service);
}

static void tell_of_checkpoint(const prepare_task *t)
{
    const yd_job *j = t->task.job;
    if (!*t->checkpoint || t->not_restored.code == YD_E_NOT_FOUND) return;
    yd_log(t->not_restored.code ? YD_LOG_WARN : YD_LOG_INFO, j->request_id,
           t->not_restored.code ? "a checkpoint cannot be used, the job starts over" : "the job goes on from its checkpoint", "job", j->rec.id,
           t->not_restored.code ? "why" : NULL, t->not_restored.detail, NULL);
}

// The round in which what was left of preparing was done.
static void map_after(yd_codec_task *task)
{
    prepare_task *t = (prepare_task *)task;
    if (!t->ended && !yd_job_over(task->job)) {
        prepare_failed(t, &task->call.err);
        return;
    }
    if (t->ended) tell_of_checkpoint(t);
    prepare_after(task);
}

static void map_made(yd_map_request *r)
{
    prepare_task *t = (prepare_task *)(void *)((char *)r - offsetof(prepare_task, map_of));
    t->raw = r->raw;
    if (r->rc || yd_job_over(t->task.job)) {
        prepare_failed(t, &r->err);
        yd_codec_task_end(&t->task);
        return;
    }
    t->task.call.w = t->task.call.h = t->settings.preview_max_side; // about as large as the plane will be
    yd_codec_task_again(&t->task, YD_CODEC_ENCODE, end_and_give_plane, take_map, map_after);
}

static void decode_after(yd_codec_task *task)
{
    prepare_task *t = (prepare_task *)task;
    yd_job *j = task->job;
    yd_blob_unref(t->input);
    j->codec = NULL;
    if (task->call.rc) {
        prepare_failed(t, &task->call.err);
    } else if (t->prep.begun.awaits && !t->ended && !yd_job_over(j)) {
        t->map_of.done = map_made;
        yd_codec_task_pause(task);
        yd_mapper_start(j->service->mapper, &t->map_of);
    } else {
        if (t->ended) tell_of_checkpoint(t);
        if (!t->plane || yd_job_over(j)) {
            prepare_after(task);
            return;
        }
        task->call.w = t->plane_w;
        task->call.h = t->plane_h;
        yd_codec_task_again(task, YD_CODEC_ENCODE, give_plane, take_map, prepare_after);
    }
}

static void start_decode(yd_job *j, prepare_task *t)
{
    yd_service *s = j->service;
    t->model = j->model->cfg;
    t->input = yd_blob_ref(j->rec.input);
    yd_job_checkpoint_path(j, t->checkpoint);
    memcpy(t->fingerprint, j->rec.fingerprint, sizeof t->fingerprint);
    t->task.call = (yd_codec_call){.op = YD_CODEC_DECODE, .fill = give_input, .take = prepare_decoded};
    t->task.call.limits = yd_service_image_limits(s);
    t->task.call.color_space = j->rec.settings.output.color_space;
    t->task.call.w = j->rec.in_w;
    t->task.call.h = j->rec.in_h;
    j->codec = &t->task;
    yd_codec_task_start(&t->task, j, decode_after);
}

// Everything is there but the picture of the map, for the event.
static void start_map(yd_job *j, prepare_task *t)
{
    t->task.call = (yd_codec_call){.op = YD_CODEC_ENCODE, .fill = give_map, .take = take_map, .w = j->rec.grid_w, .h = j->rec.grid_h};
    yd_codec_task_start(&t->task, j, prepare_after);
}

static void begin_prepare(yd_job *j, prepare_task *t, int64_t now_ms)
{
    yd_service *s = j->service;
    j->rec.state = YD_JOB_RUNNING;
    j->rec.attempts++;
    j->rec.started_ms = now_ms;
    j->started_us = yd_mono_us();
    j->rec.timings.wait_ms = (double)(j->started_us - j->created_us) / 1000;
    yd_metrics_wait(s->metrics, j->rec.timings.wait_ms / 1000);
    t->settings = j->rec.settings;
    if (j->has_prep)
        start_map(j, t);
    else
        start_decode(j, t);
    yd_job_event(j, YD_EVENT_STARTED,
                 json_pack("{s:f, s:f}", "wait_ms", j->rec.timings.wait_ms, "eta_s", yd_job_eta_s(j)), NULL);
}

// The store has counted the attempt: should this process die of the job, the next one knows.
static void on_claimed(yd_store_op *op)
{
    yd_job *j = op->arg;
    yd_service *s = j->service;
    j->claiming = 0;
    if (s->store->several && !yd_job_over(j) && (op->rc == YD_E_CONFLICT || op->rc == YD_E_NOT_FOUND)) {
        yd_replicas_give_way(j);
        yd_job_unpin(j);
        yd_pipeline_kick(s);
        return;
    }
    if (!yd_job_over(j)) yd_replicas_claimed(j, op);
    prepare_task *t = yd_job_over(j) || op->rc ? NULL : yd_calloc(1, sizeof *t);
    if (!t && !op->rc) op->rc = yd_fail(&op->err, YD_E_NOMEM, "no memory to start the job");
    if (t) {
        begin_prepare(j, t, op->now_ms);
        yd_replicas_look(s, j->rec.id); // somebody may have been asked to cancel it, or deleted it, meanwhile
    } else if (!s->closing)
        yd_pipeline_finish(j, YD_JOB_FAILED, &op->err); // nothing when it is over
    yd_job_unpin(j);
}

// Another process may have made the same meanwhile.
static int is_made(yd_job *j)
{
    yd_service *s = j->service;
    const size_t len = j->rec.input ? j->rec.input->len : 0;
    if (!s->store->several || j->has_prep || !yd_share_fill(s, &j->rec)) return 0;
    s->input_bytes -= len;
    j->rec.state = YD_JOB_QUEUED; // until its end is stored
    yd_pipeline_finish(j, YD_JOB_SUCCEEDED, NULL);
    return 1;
}

static void start_prepare(yd_job *j)
{
    yd_err err = {0};
    if (is_made(j)) return;
    yd_store_op *op = yd_store_op_new(YD_OP_CLAIM, NULL, on_claimed, j);
    j->stage = YD_STAGE_PREPARING;
    if (!op) {
        yd_fail(&err, YD_E_NOMEM, "no memory to start the job");
        yd_pipeline_finish(j, YD_JOB_FAILED, &err);
        return;
    }
    memcpy(op->rec.id, j->rec.id, sizeof op->rec.id);
    op->now_ms = yd_wall_ms();
    j->claiming = 1;
    yd_job_pin(j);
    yd_service_store(j->service, op);
}

void yd_pipeline_go_on(yd_job *j)
{
    start_prepare(j);
}

// ---- the device ----------------------------------------------------------------------------------------------------

static int preview_due(const yd_job *j, int64_t now_us)
{
    return j->rec.settings.preview_every > 0 && !j->preview_encoding &&
           now_us - j->preview_us >= j->service->cfg->preview_interval_ms * 1000 &&
           yd_job_is_shown(j, now_us);
}

static void fill_item(yd_batch_item *it, yd_job *j, int64_t now_us)
{
    memset(it, 0, sizeof *it);
    it->job = j;
    it->sampler = j->prep.sampler;
    it->stop = &j->stop;
    it->preview_every = preview_due(j, now_us) ? j->rec.settings.preview_every : 0;
    it->preview_now = j->wait_preview && !j->preview_ordered;
    it->rgb_bytes = (size_t)j->prep.w * (size_t)j->prep.h * 3;
    it->last = j->handing_over && !j->saving;
    it->save = it->last || yd_job_checkpoint_due(j, now_us);
    if (it->preview_now) j->preview_ordered = 1;
    yd_job_pin(j);
}

// One run for a device; 0: there is none.
static int feed_one(yd_service *s, yd_lane *l, int64_t now_us)
{
    yd_turn *turn[YD_BATCH_MAX];
    yd_batch *b = yd_malloc(sizeof *b);
    if (!b) return 0; // whatever comes back next tries again
    const int n = yd_scheduler_pick(&s->sched, (int)(l - s->lanes), now_us, turn, YD_BATCH_MAX);
    b->next = NULL;
    b->engine = n ? turn[0]->engine : 0;
    b->n = n;
    b->rc = b->ran = 0;
    b->run_s = 0;
    yd_err_clear(&b->err);
    for (int i = 0; i < n; i++) fill_item(&b->item[i], yd_job_of_turn(turn[i]), now_us);
    if (n)
        yd_worker_push(l->worker, b);
    else
        yd_free(b);
    return n > 0;
}

static void feed(yd_service *s)
{
    const int64_t now_us = yd_mono_us();
    unsigned idle = 0;
    for (yd_lane *l; (l = yd_lane_for_work(s, idle));)
        if (!feed_one(s, l, now_us)) idle |= 1u << (l - s->lanes);
    yd_canvases_level(s);
}

// Jobs that waited until their deadline was over.
static void end_expired(yd_service *s)
{
    yd_err err = {0};
    for (yd_turn *t; (t = yd_scheduler_expired(&s->sched, yd_mono_us()));) {
        yd_fail(&err, YD_E_DEADLINE, "the job could not be started within the %lld ms it was given", (long long)yd_job_of_turn(t)->rec.settings.deadline_ms);
        yd_pipeline_finish(yd_job_of_turn(t), YD_JOB_FAILED, &err);
    }
}

// Starting a job can end another (no memory, a reader that cancels), which asks for a kick again: that is noted, not nested.
void yd_pipeline_kick(yd_service *s)
{
    s->kick_again = 1;
    if (s->kicking) return;
    s->kicking = 1;
    while (s->kick_again && s->device == YD_DEVICE_READY && !s->closing) {
        s->kick_again = 0;
        end_expired(s);
        for (yd_turn *t; yd_lanes_up(s) && (t = yd_scheduler_admit(&s->sched, yd_mono_us()));) start_prepare(yd_job_of_turn(t));
        feed(s);
    }
    s->kicking = 0;
}

// Of those whose turn is in one of these states, given as bits, and of who follows them.
static yd_job *first_not_ended(const yd_service *s, unsigned states)
{
    for (yd_turn *t = yd_scheduler_next(&s->sched, NULL); t; t = yd_scheduler_next(&s->sched, t)) {
        yd_job *j = yd_job_of_turn(t);
        if (!(states & 1u << t->state)) continue;
        if (j->followers) return j->followers;
        if (!yd_job_over(j)) return j;
    }
    return NULL;
}

void yd_pipeline_park_all(yd_service *s, int waiting)
{
    for (yd_job *j; (j = first_not_ended(s, waiting ? 1u << YD_TURN_WAITING : ~0u));) yd_pipeline_park(j);
    yd_service_park_left(s);
}

void yd_pipeline_say_reached(yd_service *s)
{
    for (yd_turn *t = yd_scheduler_next(&s->sched, NULL); t; t = yd_scheduler_next(&s->sched, t)) yd_job_say_reached(yd_job_of_turn(t));
}

int yd_pipeline_hand_over(yd_service *s)
{
    int n = 0;
    for (yd_turn *t = yd_scheduler_next(&s->sched, NULL); t; t = yd_scheduler_next(&s->sched, t)) {
        yd_job *j = yd_job_of_turn(t);
        if (j->stage != YD_STAGE_COMPUTING || yd_job_over(j)) continue;
        j->handing_over = 1;
        n++;
    }
    return n;
}

void yd_pipeline_end_all(yd_service *s, yd_job_state state, const yd_err *err)
{
    // From the start each time: readers of events may do anything to the lists.
    for (yd_job *j; (j = first_not_ended(s, ~0u));)
        yd_pipeline_finish(j, state, err);
}

static yd_job *first_of_model(const yd_service *s, const yd_resident *v)
{
    for (yd_turn *t = yd_scheduler_next(&s->sched, NULL); t; t = yd_scheduler_next(&s->sched, t))
        if (yd_job_of_turn(t)->model == v && !yd_job_over(yd_job_of_turn(t)) && yd_job_of_turn(t)->stage <= YD_STAGE_COMPUTING)
            return yd_job_of_turn(t);
    return NULL;
}

void yd_pipeline_end_of_model(yd_service *s, const yd_resident *v, const yd_err *err)
{
    for (yd_job *j; (j = first_of_model(s, v));) yd_pipeline_finish(j, YD_JOB_FAILED, err);
}
