// What comes back from a device: steps and previews to their readers, states to the store, units of a run that failed to the scheduler again.
//
// A unit that fails for its job (NaN) ends that job. A run that fails takes its device out of service (lanes.c) and its units are computed
// elsewhere or later; only a job with which devices fail again and again is given up. Threads: the loop's. Read next: worker.h, lanes.c.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <stdio.h>

#define JOB_PATIENCE 3 // runs in a row at which devices failed with units of a job: then it is taken to be the job's fault

static json_t *step_data(const yd_job *j, const yd_step_info *in)
{
    char path[128];
    int step = in->steps - in->step + 1;
    snprintf(path, sizeof path, YD_JOB_PATH "%s/mask?step=%d", j->rec.id, step);
    return json_pack("{s:i, s:i, s:i, s:f, s:i, s:i, s:f, s:f, s:s}", "t", in->tau, "step", step, "steps", in->steps,
                     "active_share", in->pixels > 0 ? (double)in->active / (double)in->pixels : 0.0, "windows_run",
                     in->windows_run, "windows_skipped", in->windows_skipped, "elapsed_ms",
                     (double)(yd_mono_us() - j->started_us) / 1000, "eta_s", yd_job_eta_s(j), "mask", path);
}

// One copy of the pixels serves everybody who wants them.
static void hand_out_preview(yd_job *j, yd_batch_item *it)
{
    yd_blob *pixels = yd_blob_new(it->rgb, it->rgb_bytes, "", 0);
    it->rgb = NULL;
    if (!pixels) return; // who waits for one gets the next
    if (it->preview_now) yd_pictures_serve(j, pixels);
    if (it->preview_every > 0 && !j->preview_encoding && it->done == 1)
        yd_preview_encode(j, pixels, j->rec.progress.step);
    yd_blob_unref(pixels);
}

static void unit_done(yd_job *j, yd_batch_item *it)
{
    j->rec.progress.windows_done++;
    if (it->done < 0) {
        yd_pipeline_finish(j, YD_JOB_FAILED, &it->err);
        return;
    }
    if (it->done == 1) {
        j->rec.progress.step = it->info.steps - it->info.left;
        yd_metrics_step(j->service->metrics, j->step_s, it->info.windows_run, it->info.windows_skipped);
        j->step_s = 0;
        yd_job_event(j, YD_EVENT_STEP, step_data(j, &it->info), NULL);
    }
    if (it->rgb && !yd_job_over(j)) hand_out_preview(j, it);
    if (it->state && !yd_job_over(j)) {
        if (it->last) yd_scheduler_stop(&j->service->sched, &j->turn);
        yd_job_checkpoint_save(j, it->state, yd_sampler_state_bytes(it->sampler));
        it->state = NULL;
    }
    if (it->finished && j->stage == YD_STAGE_COMPUTING && !yd_job_over(j)) yd_encode_start(j);
}

// A device failed in a run with units of this job. Should it be the job that no device can bear, it is found out in runs of its own.
static void run_failed(yd_service *s, yd_job *j, const yd_err *why)
{
    if (j->last_failed == s->failed_runs) return; // in the same run, with another unit
    j->last_failed = s->failed_runs;
    j->turn.alone = 1;
    if (++j->failed_runs >= JOB_PATIENCE) yd_pipeline_finish(j, YD_JOB_FAILED, why);
}

static void item_back(yd_lane *l, yd_batch_item *it, const yd_batch *b)
{
    yd_service *s = l->service;
    yd_job *j = it->job;
    // Where a run failed its canvas may have been on the device for the first time: yd_canvases_left looks.
    const int there = it->ran ? it->resident : it->lost;
    if ((it->ran || it->lost) && !j->turn.moving) yd_scheduler_bind(&s->sched, &j->turn, there ? (int)(l - s->lanes) : -1);
    yd_scheduler_back(&s->sched, &j->turn, it->ran, b->ran > 0 ? b->run_s / b->ran : 0);
    if (it->preview_now) j->preview_ordered = 0;
    if (it->ran) {
        j->computed++;
        if (!b->rc) j->failed_runs = j->turn.alone = 0;
        double share_s = b->ran > 0 ? b->run_s / b->ran : 0;
        j->step_s += share_s;
        j->rec.timings.device_ms += share_s * 1000;
    }
    if (it->ran && !yd_job_over(j)) unit_done(j, it);
    if (it->lost && !yd_job_over(j)) run_failed(s, j, &b->err);
    yd_free(it->rgb);
    yd_free(it->state);
    yd_canvas_units_back(j);
    yd_job_unpin(j);
}

static int any_lost(const yd_batch *b)
{
    for (int i = 0; i < b->n; i++)
        if (b->item[i].lost) return 1;
    return 0;
}

static void judge_device(yd_service *s, yd_lane *l, const yd_batch *b)
{
    if (b->rc) {
        if (any_lost(b)) s->failed_runs++; // the others were only behind it
        yd_lane_fail(l, &b->err);
    }
    if (b->rc || b->ran == 0) return;
    yd_lane_worked(l, b->ran, b->run_s);
    yd_scheduler_measured(&s->sched, b->engine, b->ran, b->run_s);
    yd_metrics_batch(s->metrics, b->ran, s->sched.most[b->engine]);
}

void yd_units_back(void *lane, yd_batch *b)
{
    yd_lane *l = lane;
    yd_service *s = l->service;
    judge_device(s, l, b);
    for (int i = 0; i < b->n; i++) item_back(l, &b->item[i], b);
    if (b->rc) yd_canvases_left(l);
    yd_free(b);
    yd_pipeline_kick(s);
}
