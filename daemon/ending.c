// How jobs let go of what they hold, and end: stored first, then told.
//
//   finish  decided -> [stored with its events] -> state final, final event     (succeeded, failed, cancelled)
//   park    decided -> [stored as queued] -> its streams end                    (a later process goes on)
//   delete  gone for everybody -> [removed] -> final event if it had none, forgotten
// Between the decision and the store's word the job is `ending`: nothing of it is computed any more, nobody else can end it, and clients
// still see it as it was, so that what they are told survives a crash. Where the store keeps nothing anyway, the middle is left out.
// Threads: the loop thread. Read next: pipeline.c for what comes before, recovery.c for what comes after a restart.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/errands.h"
#include "daemon/log.h"
#include "daemon/text.h"
#include <stdio.h>
#include <string.h>

int yd_job_over(const yd_job *j)
{
    return j->ending || yd_job_state_final(j->rec.state);
}

// ---- what a job holds ----------------------------------------------------------------------------------------------

void yd_job_pin(yd_job *j)
{
    j->pins++;
}

// Nobody works with it and it has ended: what only running jobs need may go.
static void let_go(yd_job *j)
{
    yd_service *s = j->service;
    yd_share_hand_over(j);
    if (j->has_prep) yd_prepared_clear(&j->prep);
    j->has_prep = 0;
    yd_models_release(s, &j->model);
    if (j->stage != YD_STAGE_DONE) {
        j->stage = YD_STAGE_DONE;
        yd_service_settle(s, j->rec.owner, j->computed, &j->booking);
        yd_scheduler_leave(&s->sched, &j->turn);
        s->under_way--;
        if (!j->foreign) yd_delivery_add(j);
        j->pins++; // the next job's start is told to its readers, and they may delete this one
        yd_pipeline_kick(s);
        yd_service_check_drained(s);
        j->pins--;
    }
    if (j->pins > 0) return;
    if (j->gone)
        yd_job_free(j);
    else
        yd_job_rest(j);
}

void yd_job_unpin(yd_job *j)
{
    if (--j->pins == 0 && (j->gone || yd_job_over(j))) let_go(j);
}

void yd_job_forget(yd_job *j)
{
    yd_job_stir(j);
    yd_service_uncount(j->service, j->rec.owner, &j->booking);
    yd_idmap_remove(j->service->jobs, j->rec.id);
    yd_events_close(j->events);
    j->gone = 1;
    if (j->pins == 0) let_go(j);
}

// ---- telling the end -----------------------------------------------------------------------------------------------

static const yd_event_type event_of[] = {
    [YD_JOB_SUCCEEDED] = YD_EVENT_SUCCEEDED, [YD_JOB_FAILED] = YD_EVENT_FAILED, [YD_JOB_CANCELLED] = YD_EVENT_CANCELLED};

static json_t *end_data(const yd_job_record *r)
{
    json_t *o = json_pack("{s:i, s:i, s:f}", "step", r->progress.step, "steps", r->progress.steps, "elapsed_ms", r->timings.total_ms);
    if (o && r->state == YD_JOB_FAILED) json_object_set_new(o, "problem", yd_problem_json(&r->problem));
    if (o && r->result) {
        char path[128];
        snprintf(path, sizeof path, YD_JOB_PATH "%s/result", r->id);
        json_object_set_new(o, "width", json_integer(r->out_w));
        json_object_set_new(o, "height", json_integer(r->out_h));
        json_object_set_new(o, "bytes", json_integer((json_int_t)r->result->len));
        json_object_set_new(o, "sha256", json_string(r->result->sha256));
        json_object_set_new(o, "link", json_string(path));
    }
    if (o && r->invented) json_object_set_new(o, "invented", yd_invented_json(&r->account));
    return o;
}

// The words of the final event; without memory for them, those that were put by when the job was made.
static char *end_words(yd_job *j, const yd_job_record *end)
{
    char *text = yd_text_json(end_data(end), NULL);
    if (text) return text;
    text = j->last_words;
    j->last_words = NULL;
    return text;
}

// The record as it will be once the job has ended.
static void set_end(yd_job_record *r, const yd_job *j, yd_job_state state, const yd_err *err)
{
    r->state = state;
    if (state == YD_JOB_FAILED && err) r->problem = *err;
    r->finished_ms = yd_wall_ms();
    r->timings.total_ms = (double)(yd_mono_us() - j->created_us) / 1000;
    r->input = NULL;
    r->due = yd_errands_due(r->errands, state);
    r->bytes = yd_job_bytes(j);
}

void yd_job_drop_input(yd_job *j)
{
    if (!j->rec.input) return;
    j->service->input_bytes -= j->rec.input->len;
    yd_blob_unref(j->rec.input);
    j->rec.input = NULL;
}

static void count_end(const yd_job *j)
{
    static const yd_outcome outcome[] = {[YD_JOB_SUCCEEDED] = YD_OUTCOME_SUCCEEDED,
                                         [YD_JOB_FAILED] = YD_OUTCOME_FAILED,
                                         [YD_JOB_CANCELLED] = YD_OUTCOME_CANCELLED};
    const yd_job_record *r = &j->rec;
    char ms[32];
    snprintf(ms, sizeof ms, "%.1f", r->timings.total_ms);
    yd_metrics_job(j->service->metrics, r->model, outcome[r->state]);
    yd_metrics_duration(j->service->metrics, YD_STAGE_TOTAL, r->timings.total_ms / 1000);
    yd_log(r->state == YD_JOB_FAILED ? YD_LOG_WARN : YD_LOG_INFO, j->request_id, "job ended", "job", r->id, "state",
           yd_job_state_name(r->state), "#ms", ms, r->state == YD_JOB_FAILED ? "why" : NULL, r->problem.detail, NULL);
}

// Subscribers may look at the job, cancel or delete it from their callback: pinned, it stays.
static void tell_end(yd_job *j, char *words)
{
    yd_job_pin(j);
    yd_service_uncount(j->service, j->rec.owner, &j->booking);
    yd_pictures_serve(j, NULL);
    if (!j->foreign) { // otherwise that is another process's business
        count_end(j);
        yd_job_checkpoint_remove(j);
    } else if (j->service->store->drop) // a copy of one's own
        yd_job_checkpoint_remove(j);
    yd_job_event_text(j, event_of[j->rec.state], words);
    if (j->stage != YD_STAGE_ARCHIVING) yd_share_end(j);
    yd_job_unpin(j);
}

// ---- finish --------------------------------------------------------------------------------------------------------

// Nothing of it is computed from here on.
static void stop(yd_job *j)
{
    atomic_store(&j->stop, 1);
    if (j->codec) yd_codec_cancel(&j->codec->call);
    yd_fetch_stop(j);
    yd_scheduler_stop(&j->service->sched, &j->turn);
}

// Hand in what the record becomes, with the operation that was put by for this.
static void store_end(yd_job *j, const yd_job_record *end, void (*done)(yd_store_op *op))
{
    yd_store_op *op = j->end_op;
    j->end_op = NULL;
    op->kind = end->state == YD_JOB_CANCELLED ? YD_OP_CANCEL : YD_OP_UPDATE;
    yd_job_record_copy(&op->rec, end);
    op->done = done;
    op->arg = j;
    if (done) yd_job_pin(j);
    yd_service_store(j->service, op);
}

static void on_end_stored(yd_store_op *op)
{
    yd_job *j = op->arg;
    if (j->service->store->several && (op->asked || op->rc == YD_E_CONFLICT || op->rc == YD_E_NOT_FOUND)) {
        if (!j->gone) yd_replicas_lost(j);
    } else if (op->rc) {
        // Only a closing store gives up; the next process finds the job as it was and ends it again.
        yd_log(YD_LOG_ERROR, j->request_id, "the end of a job is not stored", "job", j->rec.id, "why", op->err.detail, NULL);
    } else {
        yd_job_drop_input(j);
        j->rec.state = op->rec.state;
        j->rec.problem = op->rec.problem;
        j->rec.finished_ms = op->rec.finished_ms;
        j->rec.timings = op->rec.timings;
        j->rec.bytes = op->rec.bytes;
        j->rec.due = op->rec.due;
        char *words = j->end_words;
        j->end_words = NULL;
        tell_end(j, words);
        yd_replicas_kept(j); // it may have been deleted elsewhere at once
    }
    yd_job_unpin(j);
}

void yd_pipeline_finish(yd_job *j, yd_job_state state, const yd_err *err)
{
    if (yd_job_over(j) || j->foreign) return;
    yd_share_leave(j);
    stop(j);
    yd_job_record end = j->rec;
    set_end(&end, j, state, err);
    if (!j->service->store->durable) {
        yd_job_drop_input(j);
        j->rec = end;
        if (!j->deleted) store_end(j, &end, NULL);
        tell_end(j, end_words(j, &end));
        return;
    }
    j->ending = 1;
    j->end_words = end_words(j, &end);
    end.events = yd_events_print(j->events, event_of[state], j->end_words);
    store_end(j, &end, on_end_stored);
    yd_blob_unref(end.events);
}

// ---- park ----------------------------------------------------------------------------------------------------------

static void on_parked(yd_store_op *op)
{
    yd_job *j = op->arg;
    yd_events_close(j->events);
    if (j->service->store->several && !j->gone) { // it is anybody's from here on
        yd_job_drop_input(j);
        yd_job_forget(j);
        yd_replicas_look(j->service, j->rec.id);
    }
    yd_job_unpin(j);
}

// Has this process nothing of it that the store would have to be told of?
static int is_anybodys(const yd_job *j)
{
    return j->service->store->several && j->rec.state == YD_JOB_QUEUED && !j->claiming && !j->rec.fetching;
}

void yd_pipeline_park(yd_job *j)
{
    if (yd_job_over(j) || j->foreign) return;
    if (is_anybodys(j)) {
        yd_replicas_leave(j);
        return;
    }
    yd_job_pin(j);
    yd_share_park(j);
    stop(j);
    yd_job_record end = j->rec;
    j->ending = 1;
    if (end.state == YD_JOB_RUNNING && end.attempts > 0) end.attempts--; // it did not fail, it was sent away
    end.state = YD_JOB_QUEUED;
    end.started_ms = 0;
    end.events = yd_events_hand_over(j->events, j->service->store->several ? end.claims : j->service->store->boot);
    store_end(j, &end, on_parked);
    yd_blob_unref(end.events);
    yd_job_unpin(j);
}

// ---- what another process has done ---------------------------------------------------------------------------------

void yd_pipeline_drop(yd_job *j)
{
    if (yd_job_over(j)) return;
    yd_job_pin(j);
    yd_share_yield(j);
    stop(j);
    j->ending = 1;
    yd_job_unpin(j);
}

void yd_pipeline_told(yd_job *j, char *words)
{
    tell_end(j, words ? words : end_words(j, &j->rec));
}

void yd_pipeline_removed(yd_job *j)
{
    yd_job_record end = j->rec;
    set_end(&end, j, YD_JOB_CANCELLED, NULL);
    yd_job_drop_input(j);
    j->rec = end;
    tell_end(j, end_words(j, &end));
}

// ---- cancel and delete ---------------------------------------------------------------------------------------------

// What it becomes should nobody have it; otherwise who has it decides.
static int cancel_foreign(yd_job *j, yd_err *err)
{
    yd_job_record end = j->rec;
    set_end(&end, j, YD_JOB_CANCELLED, NULL);
    char *words = end_words(j, &end);
    end.events = yd_events_print(j->events, YD_EVENT_CANCELLED, words);
    const int rc = yd_replicas_cancel(j, &end, err);
    yd_blob_unref(end.events);
    yd_free(words);
    return rc;
}

int yd_service_cancel(yd_service *s, yd_job *j, yd_err *err)
{
    (void)s;
    if (j->rec.state == YD_JOB_CANCELLED) return 0;
    if (yd_job_state_final(j->rec.state))
        return yd_fail(err, YD_E_CONFLICT, "the job has already %s", yd_job_state_name(j->rec.state));
    if (j->foreign) return yd_job_over(j) ? 0 : cancel_foreign(j, err);
    yd_pipeline_finish(j, YD_JOB_CANCELLED, NULL); // nothing when another end is being stored: that one holds
    return 0;
}

static void on_removed(yd_store_op *op)
{
    yd_job *j = op->arg;
    yd_removed_fn fn = j->removed;
    void *arg = j->removed_arg;
    j->ends_here = 1;
    if (op->rc == 0 && !yd_job_state_final(j->rec.state)) yd_pipeline_removed(j);
    if (op->rc == 0 && !j->gone) yd_job_forget(j);
    if (op->rc && j->service->store->several && !j->gone) { // it is there as it was
        j->deleted = 0;
        if (!yd_job_state_final(j->rec.state)) yd_replicas_lost(j);
    }
    if (fn) fn(arg, op->rc, op->rc ? &op->err : NULL);
    yd_job_unpin(j);
}

int yd_service_delete(yd_service *s, yd_job *j, yd_removed_fn fn, void *arg, yd_err *err)
{
    if (j->deleted || j->gone) return yd_fail(err, YD_E_GONE, "job %s has been deleted", j->rec.id);
    yd_store_op *op = yd_store_op_new(YD_OP_REMOVE, NULL, on_removed, j);
    if (!op) return yd_fail(err, YD_E_NOMEM, "no memory to delete a job");
    memcpy(op->rec.id, j->rec.id, sizeof op->rec.id);
    op->now_ms = yd_wall_ms();
    yd_job_pin(j);
    j->deleted = 1;
    j->removed = fn;
    j->removed_arg = arg;
    if (!s->store->durable) {
        yd_pipeline_finish(j, YD_JOB_CANCELLED, NULL);
    } else if (!yd_job_over(j)) {
        yd_share_leave(j);
        stop(j);
        j->ending = 1;
    }
    if (yd_job_state_final(j->rec.state)) yd_events_close(j->events);
    yd_service_store(s, op);
    return 0;
}
