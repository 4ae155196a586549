// Jobs' canvases that devices keep in their memory, as the loop sees them.
//
//   in the process's memory --a run on a device that keeps canvases--> bound to that device --a device with nothing to do--> fetched, and free
//                           <---------the device fails, or is closed: fetched as far as it can be read----------/
// What cannot be read is lost: the sampler stands at its beginning, and so does the job; its owner does not pay for what was lost. All of it is
// decided by where the worker says that a canvas is (worker.h: resident), so devices without such memory are never bound to.
// Threads: the loop's, except fetch_step. Read next: core/sampler.h, scheduler.h.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include "daemon/log.h"
#include <stdio.h>

typedef struct fetch {
    yd_chore chore; // first
    yd_job *job;
    yd_lane *lane;
    int rc;
    yd_err err;
} fetch;

// The job goes on from wherever its canvas stands.
static void go_on(yd_job *j)
{
    yd_service *s = j->service;
    yd_work work;
    yd_scheduler_bind(&s->sched, &j->turn, -1);
    const int losses = yd_sampler_losses(j->prep.sampler);
    if (losses == j->losses || yd_job_over(j)) return;
    j->losses = losses;
    yd_sampler_work(j->prep.sampler, &work);
    yd_scheduler_again(&s->sched, &j->turn, work.units_left - j->turn.out);
    const long lost = j->rec.progress.windows_done - (work.units - work.units_left);
    j->computed -= lost < j->computed ? lost : j->computed;
    j->rec.progress.windows_done -= lost;
    j->rec.progress.step = work.steps - work.steps_left;
    yd_log(YD_LOG_WARN, j->request_id, "a device was lost with the job's canvas: the job starts over", "job", j->rec.id, NULL);
}

void yd_canvases_left(yd_lane *l)
{
    yd_service *s = l->service;
    const int device = (int)(l - s->lanes);
    for (yd_turn *t = yd_scheduler_next(&s->sched, NULL); t; t = yd_scheduler_next(&s->sched, t)) {
        yd_job *j = yd_job_of_turn(t);
        if (t->bound == 1 + device && j->has_prep && !j->fetching) go_on(j); // else fetch_done does
    }
}

// ---- to a device that has nothing to do ----------------------------------------------------------------------------

static int fetch_step(yd_chore *c, yd_device *d)
{
    fetch *f = (fetch *)c;
    (void)d;
    f->rc = yd_sampler_leave(f->job->prep.sampler, &f->err);
    return f->rc ? -1 : 0;
}

static void fetch_done(yd_chore *c)
{
    fetch *f = (fetch *)c;
    yd_job *j = f->job;
    yd_service *s = j->service;
    j->fetching = 0;
    if (f->rc) {
        yd_lane_fail(f->lane, &f->err);
        yd_canvases_left(f->lane);
    }
    if (j->has_prep) go_on(j);
    yd_free(f);
    yd_job_unpin(j);
    yd_pipeline_kick(s);
}

void yd_canvas_units_back(yd_job *j)
{
    yd_service *s = j->service;
    if (!j->turn.moving || j->turn.out > 0) return;
    fetch *f = j->turn.bound && !yd_job_over(j) && !s->closing ? yd_calloc(1, sizeof *f) : NULL;
    if (!f) { // it stays where it is
        yd_scheduler_bind(&s->sched, &j->turn, j->turn.bound - 1);
        return;
    }
    f->chore.step = fetch_step;
    f->chore.done = fetch_done;
    f->job = j;
    f->lane = &s->lanes[j->turn.bound - 1];
    j->fetching = 1;
    yd_job_pin(j);
    yd_worker_chore(f->lane->worker, &f->chore);
}

void yd_canvases_level(yd_service *s)
{
    for (int i = 0; i < s->n_lanes && s->n_lanes > 1; i++) {
        yd_turn *t = s->lanes[i].state == YD_LANE_UP ? yd_scheduler_move(&s->sched, i) : NULL;
        if (t) yd_canvas_units_back(yd_job_of_turn(t));
    }
}
