// A device and its jobs in simulated time around a real scheduler: what would take hours takes milliseconds, and is the same every time.
//
// A run of n units takes run_s + n * unit_s; one run is under way at a time. Starting takes prepare_s. The rig keeps for each job when it
// came, started and ended and its longest pause; whoever uses it submits jobs between calls of sim_until. Used by tests and benchmarks.
#ifndef SCHEDULE_RIG_H
#define SCHEDULE_RIG_H

#include "daemon/scheduler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SIM_JOBS 20000

typedef struct sim_job {
    yd_turn turn;
    long units;
    int windows, ended, cancelled, expired;
    double at_s; // it comes
    double started_s, end_s, served_s, pause_s, eta_s;
    double ready_s; // it is decoded
    double used_s;  // device time it had
    yd_ask ask;
} sim_job;

typedef struct sim {
    yd_scheduler s;
    double now_s, run_s, unit_s, prepare_s;
    double busy_s; // the device worked
    int max;       // units in a run
    sim_job *job;
    int n, entered, left; // jobs that are planned, have come, are not over
    yd_turn *out[64];
    int n_out;
    double back_s; // the run under way is over
    long done;
} sim;

static inline int64_t sim_us(double s)
{
    return (int64_t)llround(s * 1e6);
}

static inline yd_policy sim_policy(void)
{
    return (yd_policy){.max_running = 8, .max_memory = 100, .ageing = 0.5, .ahead_us = 300000000, .slack_s = 2, .catch_up_s = 10,
                       .max_idle_us = 10000000, .reserve_us = 5000000};
}

static inline void sim_open(sim *m, const yd_policy *p, int max, double run_s, double unit_s)
{
    sim_job *jobs = m->job ? m->job : calloc(SIM_JOBS, sizeof *jobs);
    if (!jobs) abort();
    memset(jobs, 0, SIM_JOBS * sizeof *jobs);
    *m = (sim){.max = max, .run_s = run_s, .unit_s = unit_s, .job = jobs};
    yd_scheduler_init(&m->s, p);
    yd_scheduler_device(&m->s, max, run_s > 0);
    for (int i = 0; i < YD_TURN_ENGINES; i++) yd_scheduler_engine(&m->s, i, run_s + unit_s);
}

// Plan a job; they come in the order of their times, which must be the order of these calls.
static inline sim_job *sim_job_at(sim *m, double at_s, yd_share *share, long units, int windows)
{
    sim_job *j = &m->job[m->n++];
    j->at_s = at_s;
    j->units = units;
    j->windows = windows;
    j->ask = (yd_ask){.share = share, .units = units, .windows = windows, .memory = 1};
    return j;
}

static inline sim_job *sim_job_of(yd_turn *t)
{
    return (sim_job *)(void *)t; // its first member
}

static inline void sim_end(sim *m, sim_job *j)
{
    yd_scheduler_leave(&m->s, &j->turn);
    j->ended = 1;
    j->end_s = m->now_s;
    m->left--;
}

static inline void sim_enter(sim *m)
{
    while (m->entered < m->n && m->job[m->entered].at_s <= m->now_s) {
        sim_job *j = &m->job[m->entered++];
        yd_scheduler_enqueue(&m->s, &j->turn, &j->ask, sim_us(m->now_s));
        j->served_s = m->now_s;
        j->eta_s = -1;
        m->left++;
    }
}

static inline void sim_start(sim *m)
{
    for (yd_turn *t; (t = yd_scheduler_expired(&m->s, sim_us(m->now_s)));) {
        yd_scheduler_stop(&m->s, t);
        sim_job_of(t)->expired = 1;
        sim_end(m, sim_job_of(t));
    }
    for (yd_turn *t; (t = yd_scheduler_admit(&m->s, sim_us(m->now_s)));) {
        sim_job *j = sim_job_of(t);
        j->started_s = m->now_s;
        j->ready_s = m->now_s + m->prepare_s;
    }
    for (int i = 0; i < m->s.n_running; i++) {
        sim_job *j = sim_job_of(m->s.running[i]);
        if (j->turn.state != YD_TURN_STARTING || j->ready_s > m->now_s) continue;
        yd_scheduler_ready(&m->s, &j->turn, j->units, j->windows, sim_us(m->now_s));
        j->served_s = m->now_s;
    }
}

static inline void sim_pick(sim *m)
{
    if (m->n_out) return;
    m->n_out = yd_scheduler_pick(&m->s, 0, sim_us(m->now_s), m->out, m->max);
    if (m->n_out == 0) return;
    m->back_s = m->now_s + m->run_s + m->unit_s * m->n_out;
    for (int i = 0; i < m->n_out; i++) {
        sim_job *j = sim_job_of(m->out[i]);
        if (m->now_s - j->served_s > j->pause_s) j->pause_s = m->now_s - j->served_s;
        j->served_s = m->now_s;
    }
}

static inline void sim_back(sim *m)
{
    const double took_s = m->run_s + m->unit_s * m->n_out;
    const int n = m->n_out;
    m->busy_s += took_s;
    yd_scheduler_measured(&m->s, m->out[0]->engine, n, took_s);
    m->n_out = 0;
    for (int i = 0; i < n; i++) {
        sim_job *j = sim_job_of(m->out[i]);
        const int ran = !j->cancelled;
        yd_scheduler_back(&m->s, m->out[i], ran, took_s / n);
        m->done += ran;
        if (ran) j->used_s += took_s / n;
        if (j->turn.state != YD_TURN_OUT && j->turn.left + j->turn.out == 0) sim_end(m, j);
    }
}

static inline void sim_cancel(sim *m, sim_job *j)
{
    if (j->ended || j->turn.state == YD_TURN_OUT) return;
    j->cancelled = 1;
    yd_scheduler_stop(&m->s, &j->turn);
    if (j->turn.state == YD_TURN_OUT || j->turn.out == 0) sim_end(m, j);
}

// When something happens next; HUGE_VAL: never.
static inline double sim_next_s(const sim *m)
{
    double next = m->entered < m->n ? m->job[m->entered].at_s : HUGE_VAL;
    if (m->n_out && m->back_s < next) next = m->back_s;
    for (int i = 0; i < m->s.n_running; i++) {
        const sim_job *j = sim_job_of(m->s.running[i]);
        if (j->turn.state == YD_TURN_STARTING && j->ready_s < next) next = j->ready_s;
    }
    return next;
}

// Go on until a time, or until everything planned is over.
static inline void sim_until(sim *m, double until_s)
{
    for (;;) {
        sim_enter(m);
        sim_start(m);
        sim_pick(m);
        const double next = sim_next_s(m);
        if (next > until_s || next == HUGE_VAL) break;
        m->now_s = next;
        if (m->n_out && m->back_s <= m->now_s) sim_back(m);
    }
    if (until_s != HUGE_VAL) m->now_s = until_s;
}

// A random number generator that is the same everywhere.
static inline unsigned sim_random(unsigned *r)
{
    *r = *r * 1664525u + 1013904223u;
    return *r >> 8;
}

#endif
