// When a job will be through, from what waits and runs now and the rules of scheduler.c.
//
// Of its own owner's jobs those that go before it count whole. Of another owner's work counts what that owner gets while this one is
// served: in proportion to the weights, more or less what one has had more than the other, and no more than there is. Where batches
// pay, the slots of a run are filled as the device will fill them: a job takes as many as it has windows for as many runs as it needs.
// Several devices have as many times the slots, and what goes ahead is through so much earlier.
#include "daemon/scheduler_internal.h"

#include <math.h>

#define EXACT_JOBS 512 // jobs ahead that are laid into slots one by one; more are spread evenly
#define SLOTS_MAX  64

static const yd_turn *mate(const yd_share *f, const yd_link *after)
{
    const yd_link *l = after ? after->next : f->all.next;
    return l == &f->all ? NULL : YD_TURN_OF(l, mates);
}

static double expected_units(const yd_scheduler *s, const yd_turn *t)
{
    const double n = (double)yd_turn_remaining(t);
    return t->state == YD_TURN_READY || t->state == YD_TURN_STOPPING ? n : n * s->bound_share;
}

static double expected_s(const yd_scheduler *s, const yd_turn *t)
{
    return expected_units(s, t) * s->cost[t->engine].unit_s;
}

// Of another owner's jobs those go before this one that rank before it, as far as the shares do not drift apart by more than the slack.
static double shared_s(const yd_scheduler *s, const yd_turn *t, const yd_share *other, double own_s, int64_t now_us)
{
    const yd_share *own = t->share;
    const double due_s = (own_s / own->weight + own->used_s - other->used_s) * other->weight, slack_s = s->policy.slack_s * other->weight;
    double ahead_s = 0;
    for (const yd_turn *m = mate(other, NULL); m; m = mate(other, &m->mates))
        if (yd_turn_before(s, m, t, now_us)) ahead_s += expected_s(s, m);
    if (ahead_s < due_s - slack_s) ahead_s = due_s - slack_s;
    if (ahead_s > due_s + slack_s) ahead_s = due_s + slack_s;
    return ahead_s < 0 ? 0 : ahead_s > other->work_s ? other->work_s : ahead_s;
}

static double own_ahead_s(const yd_scheduler *s, const yd_turn *t, int64_t now_us)
{
    double sum = expected_s(s, t);
    for (const yd_turn *m = mate(t->share, NULL); m; m = mate(t->share, &m->mates))
        if (m != t && yd_turn_before(s, m, t, now_us)) sum += expected_s(s, m);
    return sum;
}

// ---- runs that several jobs share ----

typedef struct slots {
    double until[SLOTS_MAX]; // in runs from now
    int taken[SLOTS_MAX];
    int n, laid;
    double units; // in all
} slots;

static int free_first(const slots *a)
{
    int best = -1;
    for (int i = 0; i < a->n; i++)
        if (!a->taken[i] && (best < 0 || a->until[i] < a->until[best])) best = i;
    return best;
}

// A job takes the slots that are free first, as many as it has windows and are free before it is through; returns when that is.
static double lay(slots *a, double units, int windows)
{
    int mine[SLOTS_MAX], width = 0;
    double sum = units, end = HUGE_VAL;
    for (int k; width < windows && width < a->n && a->until[k = free_first(a)] < end; end = sum / width) {
        a->taken[k] = 1;
        mine[width++] = k;
        sum += a->until[k];
    }
    for (int k = 0; k < width; k++) {
        a->until[mine[k]] = end;
        a->taken[mine[k]] = 0;
    }
    a->units += units;
    return end;
}

static void spread(slots *a, double units)
{
    for (int i = 0; i < a->n; i++) a->until[i] += units / a->n;
    a->units += units;
}

// Lay those of a share's jobs that go before t, at most so many units of them; what is missing from `units` is spread.
static void lay_share(const yd_scheduler *s, slots *a, const yd_share *f, const yd_turn *t, double units, int64_t now_us)
{
    for (const yd_turn *m = mate(f, NULL); m && units > 0; m = mate(f, &m->mates)) {
        if (m == t || !yd_turn_before(s, m, t, now_us)) continue;
        double n = expected_units(s, m);
        if (n > units) n = units;
        units -= n;
        if (a->laid++ < EXACT_JOBS)
            lay(a, n, m->windows);
        else
            spread(a, n);
    }
    if (units > 0) spread(a, units);
}

// Jobs that go after t use what is free beside it, which makes its runs longer.
static double fill_of(const yd_scheduler *s, const slots *a, const yd_turn *t, double runs, int64_t now_us)
{
    double units = a->units;
    const yd_turn *m = NULL;
    while (units < runs * a->n && (m = yd_scheduler_next(s, m))) {
        if (m == t || yd_turn_before(s, m, t, now_us)) continue;
        const double n = expected_units(s, m), most = runs * m->windows;
        units += n < most ? n : most;
    }
    return units > runs * a->n ? a->n : units < runs ? 1 : units / runs;
}

static double batched_s(const yd_scheduler *s, const yd_turn *t, int64_t now_us)
{
    const int devices = yd_scheduler_width(s), all = s->max_batch * devices;
    slots a = {.n = all < SLOTS_MAX ? all : SLOTS_MAX};
    const yd_cost *c = &s->cost[t->engine];
    const double unit = c->unit_s > 0 ? c->unit_s : 1, own_s = own_ahead_s(s, t, now_us);
    lay_share(s, &a, t->share, t, own_s / unit - expected_units(s, t), now_us);
    for (const yd_link *l = s->active.next; l != &s->active; l = l->next) {
        const yd_share *f = YD_SHARE_OF(l, active);
        if (f != t->share) lay_share(s, &a, f, t, shared_s(s, t, f, own_s, now_us) / unit, now_us);
    }
    const double runs = lay(&a, expected_units(s, t), t->windows);
    const double fill = fill_of(s, &a, t, runs, now_us) / devices;
    return runs * yd_cost_of(c, fill < 1 ? 1 : fill);
}

double yd_scheduler_eta_s(const yd_scheduler *s, const yd_turn *t, int64_t now_us)
{
    if (t->state == YD_TURN_OUT || yd_turn_remaining(t) <= 0) return 0;
    if (s->pays) return batched_s(s, t, now_us);
    const double own_s = own_ahead_s(s, t, now_us), itself_s = expected_s(s, t);
    double ahead_s = own_s - itself_s;
    for (const yd_link *l = s->active.next; l != &s->active; l = l->next) {
        const yd_share *f = YD_SHARE_OF(l, active);
        if (f != t->share) ahead_s += shared_s(s, t, f, own_s, now_us);
    }
    return itself_s + ahead_s / yd_scheduler_width(s);
}

double yd_scheduler_first_s(const yd_scheduler *s, int64_t now_us)
{
    double first_s = 0;
    for (int i = 0; i < s->n_running; i++) {
        const yd_turn *t = s->running[i];
        const double left_s = s->pays ? expected_units(s, t) / t->windows * yd_cost_of(&s->cost[t->engine], s->max_batch) : expected_s(s, t);
        if (i == 0 || left_s < first_s) first_s = left_s;
    }
    (void)now_us;
    return first_s;
}

int yd_scheduler_position(const yd_scheduler *s, const yd_turn *t, int64_t now_us)
{
    if (t->state != YD_TURN_WAITING) return 0;
    int own = 0;
    double n = 0;
    for (const yd_turn *m = mate(t->share, NULL); m; m = mate(t->share, &m->mates))
        own += m->state == YD_TURN_WAITING && m != t && !t->passed && (m->passed || yd_turn_before(s, m, t, now_us));
    for (const yd_link *l = s->active.next; l != &s->active; l = l->next) {
        const yd_share *f = YD_SHARE_OF(l, active);
        if (f == t->share) continue;
        const double passing = floor((own + (f->used_s < t->share->used_s)) * f->weight / t->share->weight);
        n += passing < f->waiting ? passing : f->waiting;
    }
    return 1 + own + (int)n;
}
