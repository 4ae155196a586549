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

void yd_scheduler_enqueue(yd_scheduler *s, yd_turn *t, long units, size_t memory)
{
    *t = (yd_turn){.state = YD_TURN_WAITING, .left = units, .memory = memory};
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

int yd_scheduler_pick(yd_scheduler *s, yd_turn **out, int max)
{
    int n = 0, passed = 0; // passed: jobs in a row that could not take a turn
    for (yd_turn *t = s->running.head; t; t = t->next) t->in_batch = 0;
    while (n < max && passed < s->running.count) {
        yd_turn *t = s->running.head;
        if (!t) break; // count says so too
        unlink_turn(&s->running, t);
        append(&s->running, t);
        passed++;
        if (!may_take(t)) continue;
        t->left--;
        t->out++;
        t->in_batch++;
        out[n++] = t;
        passed = 0;
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

long yd_scheduler_units_ahead(const yd_scheduler *s, const yd_turn *t)
{
    long sum = 0, own = remaining(t);
    if (t->state == YD_TURN_OUT) return 0;
    // Taking turns, a running job sees of every other at most as many units as it has itself.
    int waits = t->state == YD_TURN_WAITING;
    for (const yd_turn *r = s->running.head; r; r = r->next) {
        long n = remaining(r);
        sum = add(sum, !waits && n > own ? own : n);
    }
    if (!waits) return sum;
    for (const yd_turn *w = s->waiting.head; w != t; w = w->next) sum = add(sum, remaining(w));
    return add(sum, own);
}

long yd_scheduler_units_all(const yd_scheduler *s)
{
    long sum = 0;
    for (const yd_turn *r = s->running.head; r; r = r->next) sum = add(sum, remaining(r));
    for (const yd_turn *w = s->waiting.head; w; w = w->next) sum = add(sum, remaining(w));
    return sum;
}
