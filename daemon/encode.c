// The end of a job that succeeds: its canvas becomes a picture, the picture a file; then what is asked for afterwards is packed.
//
//   finish and pack (pool) -> codec -> copy and digest (pool)      [report: source through a codec -> account (pool) -> codec]
//     -> succeeded -> attention map -> codec -> activation steps -> codec -> archived
//
// Threads: the loop's, except what fill and take of a codec call do. Failure: the job ends with it, unless it has ended already.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <string.h>

typedef struct encode_task {
    yd_codec_task task;
    yd_blob *input; // when what is invented is to be accounted for
    yd_image done, picture;
    yd_blob *result, *invented;
    yd_invented account;
} encode_task;

static encode_task *of(yd_codec_call *c)
{
    return (encode_task *)(void *)c;
}

static void clear(encode_task *t)
{
    yd_image_clear(&t->done);
    yd_image_clear(&t->picture);
    yd_blob_unref(t->input);
    t->input = NULL;
}

// ---- archive -------------------------------------------------------------------------------------------------------

typedef struct archive_task {
    yd_codec_task task;
    yd_blob *attention, *activation;
} archive_task;

static int give_map(yd_codec_call *c, yd_err *err)
{
    const yd_prepared *p = &((archive_task *)(void *)c)->task.job->prep;
    uint8_t *plane;
    int w, h, rc = yd_draw_attention(p->map, p->w, p->h, 0, &plane, &w, &h, err);
    if (rc) return rc;
    rc = yd_codec_put_grey(c, plane, w, h, err);
    yd_free(plane);
    return rc;
}

static int take_map(yd_codec_call *c, yd_err *err)
{
    return yd_codec_take_blob(c, 0, &((archive_task *)(void *)c)->attention, err);
}

static int give_activation(yd_codec_call *c, yd_err *err)
{
    const yd_prepared *p = &((archive_task *)(void *)c)->task.job->prep;
    uint8_t *plane;
    int rc = yd_draw_activation(yd_sampler_activation(p->sampler), p->w, p->h, &plane, err);
    if (rc) return rc;
    rc = yd_codec_put_grey(c, plane, p->w, 2 * p->h, err);
    yd_free(plane);
    return rc;
}

static int take_activation(yd_codec_call *c, yd_err *err)
{
    return yd_codec_take_blob(c, 0, &((archive_task *)(void *)c)->activation, err);
}

// From here on an equal request finds all of it in the store, so that nobody needs to follow this job.
static void put_away(yd_job *j)
{
    j->stage = YD_STAGE_ARCHIVED;
    if (yd_job_state_final(j->rec.state)) yd_share_end(j); // otherwise when its end is told
}

static void on_attached(yd_store_op *op)
{
    yd_job *j = op->arg;
    if (j->stage == YD_STAGE_ARCHIVING) put_away(j);
    yd_job_unpin(j);
}

static void archived(yd_codec_task *task)
{
    archive_task *t = (archive_task *)task;
    yd_job *j = task->job;
    j->rec.attention = t->attention;
    j->rec.activation = t->activation;
    j->rec.bytes = yd_job_bytes(j);
    yd_store_op *op = j->gone || j->deleted ? NULL : yd_store_op_new(YD_OP_ATTACH, &j->rec, on_attached, j);
    if (op) {
        yd_job_pin(j);
        yd_service_store(j->service, op);
    } else
        put_away(j);
}

static void map_archived(yd_codec_task *task)
{
    yd_codec_task_again(task, YD_CODEC_ENCODE, give_activation, take_activation, archived);
}

// The pictures that are asked for after the end are packed when the result is already out: nobody waits for them.
static void start_archive(yd_job *j)
{
    archive_task *t = yd_calloc(1, sizeof *t);
    if (!t) return;
    j->stage = YD_STAGE_ARCHIVING;
    t->task.call = (yd_codec_call){.op = YD_CODEC_ENCODE, .fill = give_map, .take = take_map, .w = j->rec.grid_w, .h = j->rec.grid_h};
    yd_codec_task_start(&t->task, j, map_archived);
}

// ---- encode --------------------------------------------------------------------------------------------------------

static void encode_after(yd_codec_task *task)
{
    encode_task *t = (encode_task *)task;
    yd_job *j = task->job;
    j->codec = NULL;
    clear(t);
    if (yd_job_over(j) || task->call.rc) {
        yd_blob_unref(t->result);
        yd_blob_unref(t->invented);
        if (task->call.rc) yd_pipeline_finish(j, YD_JOB_FAILED, &task->call.err);
        return;
    }
    yd_err err = {0};
    if (yd_service_keeps(j->service, "output", t->result->len, &err)) {
        yd_blob_unref(t->result);
        yd_blob_unref(t->invented);
        yd_pipeline_finish(j, YD_JOB_FAILED, &err);
        return;
    }
    j->rec.result = t->result;
    j->rec.invented = t->invented;
    j->rec.account = t->account;
    j->rec.timings.encode_ms = (double)(yd_mono_us() - j->encoding_us) / 1000;
    yd_metrics_duration(j->service->metrics, YD_STAGE_ENCODE, j->rec.timings.encode_ms / 1000);
    yd_average(&j->service->encode_px_s, j->rec.timings.encode_ms / 1000 / j->rec.out_w / j->rec.out_h);
    start_archive(j);
    yd_pipeline_finish(j, YD_JOB_SUCCEEDED, NULL);
}

static int give_result(yd_codec_call *c, yd_err *err)
{
    encode_task *t = of(c);
    int rc = yd_finish(&t->task.job->prep, &t->done, err);
    if (!rc) rc = yd_codec_put_image(c, &t->done, err);
    if (!t->input) yd_image_clear(&t->done);
    return rc;
}

static int take_result(yd_codec_call *c, yd_err *err)
{
    return yd_codec_take_blob(c, 1, &of(c)->result, err);
}

// ---- the account of what is invented -------------------------------------------------------------------------------

static int give_source(yd_codec_call *c, yd_err *err)
{
    const int rc = yd_blob_check(of(c)->input, err);
    return rc ? rc : yd_codec_put_file(c, of(c)->input->bytes, of(c)->input->len, err);
}

static int account(yd_codec_call *c, yd_err *err)
{
    encode_task *t = of(c);
    int rc = yd_invented_account(&c->image, &t->done, &t->account, &t->picture, err);
    yd_image_clear(&t->done);
    return rc;
}

static int give_picture(yd_codec_call *c, yd_err *err)
{
    yd_output_init(&c->output);
    return yd_codec_put_image(c, &of(c)->picture, err);
}

static int take_picture(yd_codec_call *c, yd_err *err)
{
    return yd_codec_take_blob(c, 0, &of(c)->invented, err);
}

static void accounted(yd_codec_task *task)
{
    if (task->call.rc || yd_job_over(task->job))
        encode_after(task);
    else {
        task->call.w = task->job->rec.out_w;
        task->call.h = task->job->rec.out_h;
        yd_codec_task_again(task, YD_CODEC_ENCODE, give_picture, take_picture, encode_after);
    }
}

static void encoded(yd_codec_task *task)
{
    encode_task *t = (encode_task *)task;
    if (!t->input || task->call.rc || yd_job_over(task->job))
        encode_after(task);
    else {
        task->call.w = task->job->rec.in_w;
        task->call.h = task->job->rec.in_h;
        yd_codec_task_again(task, YD_CODEC_DECODE, give_source, account, accounted);
    }
}

void yd_encode_start(yd_job *j)
{
    encode_task *t = yd_calloc(1, sizeof *t);
    yd_err err = {0};
    j->stage = YD_STAGE_ENCODING;
    j->encoding_us = yd_mono_us();
    j->rec.timings.compute_ms = (double)(j->encoding_us - j->computing_us) / 1000;
    yd_metrics_duration(j->service->metrics, YD_STAGE_COMPUTE, j->rec.timings.compute_ms / 1000);
    if (!t) {
        yd_fail(&err, YD_E_NOMEM, "no memory to encode the result");
        yd_pipeline_finish(j, YD_JOB_FAILED, &err);
        return;
    }
    if (j->rec.settings.report) t->input = yd_blob_ref(j->rec.input);
    t->task.call = (yd_codec_call){.op = YD_CODEC_ENCODE, .fill = give_result, .take = take_result, .output = j->rec.settings.output};
    t->task.call.limits = yd_service_image_limits(j->service);
    t->task.call.color_space = j->rec.settings.output.color_space;
    t->task.call.w = j->rec.out_w;
    t->task.call.h = j->rec.out_h;
    j->codec = &t->task;
    yd_codec_task_start(&t->task, j, encoded);
}
