// The scheduler's lists. Running jobs form a ring in the order of their next turn: who was served goes to the end.
//
// Invariants: a turn is in `waiting` iff WAITING, in `running` iff STARTING, READY or STOPPING; memory is the sum over `running`;
// left + out is what is still to be computed of a job. Read next: service.c, which acts on what is decided here.
#include "daemon/scheduler.h"

#include <limits.h>
#include <string.h>

static void append(yd_turn_list *l, yd_turn *t)
{
    t->prev = l->tail;
    t->next = NULL;
    if (l->tail)
        l->tail->next = t;
    else
        l->head = t;
    l->tail = t;
    l->count++;
}

static void unlink_turn(yd_turn_list *l, yd_turn *t)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        l->head = t->next;
    if (t->next)
        t->next->prev = t->prev;
    else
        l->tail = t->prev;
    t->prev = t->next = NULL;
    l->count--;
}

static long add(long a, long b)
{
    long r;
    return __builtin_add_overflow(a, b, &r) ? LONG_MAX : r;
}

static long remaining(const yd_turn *t)
{
    return add(t->left, t->out);
}

void yd_scheduler_init(yd_scheduler *s, int max_running, size_t max_memory)
{
    memset(s, 0, sizeof *s);
    s->max_running = max_running;
    s->max_memory = max_memory;
}

void yd_scheduler_enqueue(yd_scheduler *s, yd_turn *t, int engine, long units, size_t memory)
{
    *t = (yd_turn){.state = YD_TURN_WAITING, .engine = engine, .left = units, .memory = memory};
    append(&s->waiting, t);
}

yd_turn *yd_scheduler_admit(yd_scheduler *s)
{
    yd_turn *t = s->waiting.head;
    if (!t || s->running.count >= s->max_running || t->memory > s->max_memory - s->memory) return NULL;
    unlink_turn(&s->waiting, t);
    append(&s->running, t);
    t->state = YD_TURN_STARTING;
    s->memory += t->memory;
    return t;
}

void yd_scheduler_ready(yd_scheduler *s, yd_turn *t, long units, int windows)
{
    (void)s;
    if (t->state != YD_TURN_STARTING) return;
    t->state = YD_TURN_READY;
    t->left = units;
    t->windows = windows > 0 ? windows : 1;
}

static int may_take(const yd_turn *t)
{
    return t->state == YD_TURN_READY && t->left > 0 && t->in_batch < t->windows;
}

// Who is next to have a unit in a batch for this engine; -1: for any.
static yd_turn *next_for(const yd_scheduler *s, int engine)
{
    for (yd_turn *t = s->running.head; t; t = t->next)
        if (may_take(t) && (engine < 0 || t->engine == engine)) return t;
    return NULL;
}

// Only who is served goes to the end of the ring: jobs of another engine stay in front and have the next batch.
int yd_scheduler_pick(yd_scheduler *s, yd_turn **out, int max)
{
    int n = 0;
    for (yd_turn *t = s->running.head; t; t = t->next) t->in_batch = 0;
    for (yd_turn *t; n < max && (t = next_for(s, n ? out[0]->engine : -1)); n++) {
        unlink_turn(&s->running, t);
        append(&s->running, t);
        t->left--;
        t->out++;
        t->in_batch++;
        out[n] = t;
    }
    return n;
}

void yd_scheduler_back(yd_scheduler *s, yd_turn *t, int ran)
{
    (void)s;
    t->out--;
    if (!ran && t->state == YD_TURN_READY) t->left = add(t->left, 1);
}

void yd_scheduler_stop(yd_scheduler *s, yd_turn *t)
{
    if (t->state == YD_TURN_WAITING) {
        unlink_turn(&s->waiting, t);
        t->state = YD_TURN_OUT;
    } else if (t->state != YD_TURN_OUT) {
        t->state = YD_TURN_STOPPING;
    }
    t->left = 0;
}

void yd_scheduler_leave(yd_scheduler *s, yd_turn *t)
{
    yd_scheduler_stop(s, t);
    if (t->state == YD_TURN_OUT) return;
    unlink_turn(&s->running, t);
    s->memory -= t->memory;
    t->state = YD_TURN_OUT;
}

int yd_scheduler_position(const yd_scheduler *s, const yd_turn *t)
{
    int n = 0;
    if (t->state != YD_TURN_WAITING) return 0;
    for (const yd_turn *p = s->waiting.head; p != t; p = p->next) n++;
    return n + 1;
}

double yd_scheduler_cost_ahead(const yd_scheduler *s, const yd_turn *t, const double *cost)
{
    const long own = remaining(t);
    double sum = 0;
    if (t->state == YD_TURN_OUT) return 0;
    // Taking turns, a running job sees of every other at most as many units as it has itself.
    int waits = t->state == YD_TURN_WAITING;
    for (const yd_turn *r = s->running.head; r; r = r->next) {
        long n = remaining(r);
        sum += (double)(!waits && n > own ? own : n) * cost[r->engine];
    }
    if (!waits) return sum;
    for (const yd_turn *w = s->waiting.head; w != t; w = w->next) sum += (double)remaining(w) * cost[w->engine];
    return sum + (double)own * cost[t->engine];
}

double yd_scheduler_cost_all(const yd_scheduler *s, const double *cost)
{
    double sum = 0;
    for (const yd_turn *r = s->running.head; r; r = r->next) sum += (double)remaining(r) * cost[r->engine];
    for (const yd_turn *w = s->waiting.head; w; w = w->next) sum += (double)remaining(w) * cost[w->engine];
    return sum;
}
