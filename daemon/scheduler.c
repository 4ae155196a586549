// The scheduler's lists, and who is next.
//
// A job's rank is what is left of it in seconds, plus the moment of its arrival in seconds times the ageing: with time passing all ranks
// of waiting jobs fall alike, so the order in a heap stays right without being touched. Shares are served by start-time fair queueing:
// each has the device time it had, divided by its weight, and the least is next; who comes back after a pause begins where the others are.
//
// Invariants: a turn is in the heaps of its share iff WAITING and not `passed`; in running[] iff STARTING, READY or STOPPING; memory is
// the sum over running[]; a share is in `active` iff it has jobs and in `hungry` iff its by_rank has some. Read next: scheduler_eta.c.
#include "daemon/scheduler_internal.h"

#include <limits.h>
#include <string.h>

#define FULL_SPEED 2    // a deadline is pressing when less than so many times the work is left until then,
#define MARGIN_S   1    // and this besides
#define MOVED      1.25 // a price that differs by more is a new one
#define MOVE_S     0.1  // work for which a canvas is moved to another device

// ---- lists ---------------------------------------------------------------------------------------------------------

static void list_init(yd_link *head)
{
    head->prev = head->next = head;
}

static void list_append(yd_link *head, yd_link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

static void list_remove(yd_link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}

static void array_remove(yd_turn **a, int *n, const yd_turn *t)
{
    int i = 0;
    while (i < *n && a[i] != t) i++;
    if (i == *n) return;
    memmove(a + i, a + i + 1, (size_t)(*n - i - 1) * sizeof *a);
    --*n;
}

yd_turn *yd_scheduler_next(const yd_scheduler *s, const yd_turn *after)
{
    yd_link *l = after ? after->all.next : s->all.next;
    return l == &s->all ? NULL : YD_TURN_OF(l, all);
}

// ---- order ---------------------------------------------------------------------------------------------------------

static long add(long a, long b)
{
    long r;
    return __builtin_add_overflow(a, b, &r) ? LONG_MAX : r;
}

long yd_turn_remaining(const yd_turn *t)
{
    return add(t->left, t->out);
}

static double unit_s(const yd_scheduler *s, const yd_turn *t)
{
    return s->cost[t->engine].unit_s;
}

// Priced for all jobs alike: with the latest measurement a job that came in a slow moment would stay behind those that came later.
static double rank(const yd_scheduler *s, const yd_turn *t)
{
    const double arrived_s = (double)(t->arrived_us - t->priority * s->policy.ahead_us) / 1e6;
    return (double)yd_turn_remaining(t) * s->price[t->engine] + s->policy.ageing * arrived_s;
}

static int64_t latest_start_us(const yd_scheduler *s, const yd_turn *t)
{
    const double need_s = FULL_SPEED * (double)yd_turn_remaining(t) * unit_s(s, t) + MARGIN_S;
    return t->deadline_us - (int64_t)(need_s * 1e6 < 1e15 ? need_s * 1e6 : 1e15);
}

// Even alone on the device it would be too late: the others are not to suffer for that.
static int hopeless(const yd_scheduler *s, const yd_turn *t, int64_t now_us)
{
    return (double)(t->deadline_us - now_us) < (double)yd_turn_remaining(t) * unit_s(s, t) * 1e6;
}

static int pressing(const yd_scheduler *s, const yd_turn *t, int64_t now_us)
{
    return t->deadline_us && now_us >= latest_start_us(s, t) && !hopeless(s, t, now_us);
}

int yd_turn_before(const yd_scheduler *s, const yd_turn *a, const yd_turn *b, int64_t now_us)
{
    const int pa = pressing(s, a, now_us), pb = pressing(s, b, now_us);
    if (pa != pb) return pa;
    if (pa && a->deadline_us != b->deadline_us) return a->deadline_us < b->deadline_us;
    const double ra = rank(s, a), rb = rank(s, b);
    return ra < rb || (ra == rb && a->tie < b->tie);
}

// ---- shares --------------------------------------------------------------------------------------------------------

static void place_in(yd_heap *h, yd_heap_node *n, const yd_heap_node *first, double key)
{
    if (n->in && first && n->key == key && n->tie == first->tie) return;
    yd_heap_remove(h, n);
    if (first) yd_heap_add(h, n, key, first->tie);
}

// Keep a share's places among those with waiting jobs right.
static void place(yd_scheduler *s, yd_share *f)
{
    const yd_heap_node *first = f->by_rank.top;
    place_in(&s->hungry, &f->hungry, first, f->used_s);
    place_in(&s->best, &f->best, first, first ? first->key : 0);
}

// A new price of an engine: whoever waits for it gets another key, so that those in the heaps stay comparable.
static void set_price(yd_scheduler *s, int engine, double price)
{
    s->price[engine] = price;
    for (yd_turn *t = yd_scheduler_next(s, NULL); t; t = yd_scheduler_next(s, t)) {
        yd_share *f = t->share;
        if (t->engine != engine || !t->by_rank.in) continue;
        yd_heap_remove(&f->by_rank, &t->by_rank);
        yd_heap_add(&f->by_rank, &t->by_rank, rank(s, t), t->tie);
        place(s, f);
    }
}

static void charge(yd_scheduler *s, const yd_turn *t, double seconds)
{
    static const double price[] = {2, 1, 0.5}; // low, normal, high: a high one has twice its owner's share
    yd_share *f = t->share;
    f->used_s += seconds * price[t->priority + 1] / f->weight;
    place(s, f);
}

static void join(yd_scheduler *s, yd_share *f)
{
    if (f->jobs++ > 0) return;
    list_init(&f->all);
    list_append(&s->active, &f->active);
    if (f->used_s < s->level_s) f->used_s = s->level_s;
    f->work_s = 0;
}

int yd_share_idle(const yd_scheduler *s, const yd_share *f)
{
    return f->jobs == 0 && f->used_s <= s->level_s;
}

static void update_work(const yd_scheduler *s, yd_turn *t)
{
    double now = (double)yd_turn_remaining(t) * unit_s(s, t);
    if (t->state == YD_TURN_WAITING || t->state == YD_TURN_STARTING) now *= s->bound_share;
    t->share->work_s += now - t->work_s;
    t->work_s = now;
}

// ---- life ----------------------------------------------------------------------------------------------------------

void yd_scheduler_init(yd_scheduler *s, const yd_policy *p)
{
    memset(s, 0, sizeof *s);
    s->policy = *p;
    if (s->policy.max_running > YD_RUNNING_MAX) s->policy.max_running = YD_RUNNING_MAX;
    s->bound_share = 1;
    list_init(&s->all);
    list_init(&s->active);
    yd_scheduler_device(s, 1, 0);
    s->devices = 1;
    memset(s->on, 0xff, sizeof s->on);
}

void yd_scheduler_device(yd_scheduler *s, int max_batch, int pays)
{
    s->max_batch = max_batch;
    s->pays = pays && max_batch > 1;
}

void yd_scheduler_engine(yd_scheduler *s, int engine, double unit)
{
    yd_cost_init(&s->cost[engine], s->pays, s->max_batch, unit);
    set_price(s, engine, unit);
}

void yd_scheduler_devices(yd_scheduler *s, unsigned devices)
{
    s->devices = devices;
}

void yd_scheduler_engine_on(yd_scheduler *s, int engine, unsigned devices)
{
    s->on[engine] = devices;
}

int yd_scheduler_width(const yd_scheduler *s)
{
    const int n = __builtin_popcount(s->devices);
    return n > 0 ? n : 1;
}

void yd_scheduler_engine_batch(yd_scheduler *s, int engine, int most)
{
    s->most[engine] = most;
}

void yd_scheduler_measured(yd_scheduler *s, int engine, int units, double run_s)
{
    yd_cost_measured(&s->cost[engine], units, run_s);
    const double now = s->cost[engine].unit_s, was = s->price[engine];
    if (now > was * MOVED || now * MOVED < was) set_price(s, engine, now);
}

static void into_heaps(yd_scheduler *s, yd_turn *t)
{
    yd_share *f = t->share;
    yd_heap_add(&f->by_rank, &t->by_rank, rank(s, t), t->tie);
    if (t->deadline_us) yd_heap_add(&f->by_start, &t->by_start, (double)latest_start_us(s, t), t->tie);
    place(s, f);
}

static void out_of_heaps(yd_scheduler *s, yd_turn *t)
{
    yd_heap_remove(&t->share->by_rank, &t->by_rank);
    yd_heap_remove(&t->share->by_start, &t->by_start);
    place(s, t->share);
}

static void enter(yd_scheduler *s, yd_turn *t, const yd_ask *ask, int64_t now_us)
{
    *t = (yd_turn){.state = YD_TURN_WAITING, .share = ask->share, .engine = ask->engine, .left = ask->units,
                   .windows = ask->windows > 0 ? ask->windows : 1, .memory = ask->memory, .priority = ask->priority,
                   .arrived_us = now_us, .deadline_us = ask->deadline_us, .tie = ++s->arrivals};
    join(s, t->share);
    list_append(&s->all, &t->all);
    list_append(&t->share->all, &t->mates);
}

void yd_scheduler_enqueue(yd_scheduler *s, yd_turn *t, const yd_ask *ask, int64_t now_us)
{
    enter(s, t, ask, now_us);
    t->share->waiting++;
    s->n_waiting++;
    into_heaps(s, t);
    if (t->deadline_us) yd_heap_add(&s->by_deadline, &t->by_deadline, (double)t->deadline_us, t->tie);
    update_work(s, t);
}

// It waits no longer.
static void unqueue(yd_scheduler *s, yd_turn *t)
{
    out_of_heaps(s, t);
    yd_heap_remove(&s->by_deadline, &t->by_deadline);
    if (t->passed) array_remove(s->passed, &s->n_passed, t);
    t->passed = 0;
    t->share->waiting--;
    s->n_waiting--;
}

static void out(yd_scheduler *s, yd_turn *t)
{
    t->state = YD_TURN_OUT;
    t->share->work_s -= t->work_s;
    list_remove(&t->all);
    list_remove(&t->mates);
    if (--t->share->jobs == 0) list_remove(&t->share->active);
    (void)s;
}

yd_turn *yd_scheduler_expired(yd_scheduler *s, int64_t now_us)
{
    yd_heap_node *n = s->by_deadline.top;
    return n && n->key <= (double)now_us ? YD_TURN_OF(n, by_deadline) : NULL;
}

// ---- admission -----------------------------------------------------------------------------------------------------

static int fits(const yd_scheduler *s, const yd_turn *t)
{
    return t->memory <= s->policy.max_memory - s->memory;
}

static int has_work(const yd_turn *t)
{
    return (t->state == YD_TURN_READY || t->state == YD_TURN_STARTING) && t->left > 0;
}

// What a run is being filled with.
typedef struct run_want {
    int device, engine; // engine -1: nothing yet
    int alone;          // nothing of other jobs
    int jobs;           // so many more of those that are not in it
    const yd_turn *first;
} run_want;

// Its canvas is free for this device, which has its engine.
static int may_work(const yd_scheduler *s, const yd_turn *t, int device)
{
    if (t->state != YD_TURN_READY || t->left <= 0 || t->moving) return 0;
    if (t->bound && t->bound != 1 + device) return 0;
    return s->on[t->engine] & 1u << device && (t->out == 0 || t->device == device);
}

static int may_take(const yd_scheduler *s, const yd_turn *t, const run_want *w)
{
    if (!may_work(s, t, w->device) || t->in_batch >= t->windows) return 0;
    if (w->engine >= 0 && t->engine != w->engine) return 0;
    if (w->first && t != w->first && (w->alone || t->alone)) return 0;
    return t->in_batch > 0 || w->jobs > 0;
}

static long at_once(const yd_turn *t)
{
    return t->windows < t->left ? t->windows : t->left;
}

// Units that are worth having in a run.
static int run_size(const yd_scheduler *s)
{
    return s->pays ? s->max_batch : 1;
}

// Is there less work in places than two runs of each device take?
static int in_want(const yd_scheduler *s)
{
    const int run = run_size(s);
    long sum = 0;
    for (int i = 0; i < s->n_running; i++) {
        const yd_turn *t = s->running[i];
        if (has_work(t)) sum += at_once(t) < run ? at_once(t) : run;
    }
    return sum < 2 * run * yd_scheduler_width(s);
}

// The started job that is to be served: of the shares that are within the slack of the least served, the first job by rank.
static yd_turn *due(const yd_scheduler *s, int64_t now_us, const run_want *w)
{
    double least = 0;
    yd_turn *best = NULL;
    for (int i = 0; i < s->n_running; i++)
        if (may_take(s, s->running[i], w) && (!best || s->running[i]->share->used_s < least)) {
            best = s->running[i];
            least = best->share->used_s;
        }
    for (int i = 0; i < s->n_running; i++) {
        yd_turn *t = s->running[i];
        if (may_take(s, t, w) && t->share->used_s <= least + s->policy.slack_s && yd_turn_before(s, t, best, now_us)) best = t;
    }
    return best;
}

// Would a waiting job be in the devices' next runs? They are full when the started jobs that go before it fill them.
static int outranks(const yd_scheduler *s, const yd_turn *t, int64_t now_us)
{
    long before = 0;
    for (int i = 0; i < s->n_running; i++) {
        const yd_turn *r = s->running[i];
        const double ahead_s = t->share->used_s - r->share->used_s;
        if (!has_work(r) || ahead_s < -s->policy.slack_s) continue;
        if (ahead_s > s->policy.slack_s || yd_turn_before(s, r, t, now_us)) before += at_once(r);
    }
    return before < (long)run_size(s) * yd_scheduler_width(s);
}

// The waiting job that is next: the first by rank if its owner is within the slack of the least served, else one of that owner's.
static yd_turn *candidate(yd_scheduler *s, int64_t now_us)
{
    if (!s->hungry.top) return NULL;
    yd_share *least = YD_SHARE_OF(s->hungry.top, hungry), *f = YD_SHARE_OF(s->best.top, best);
    if (f->used_s > least->used_s + s->policy.slack_s) f = least;
    for (yd_heap_node *n; (n = f->by_start.top) && n->key <= (double)now_us; yd_heap_remove(&f->by_start, n))
        if (!hopeless(s, YD_TURN_OF(n, by_start), now_us)) return YD_TURN_OF(n, by_start);
    return YD_TURN_OF(f->by_rank.top, by_rank);
}

static void owe_no_more(yd_scheduler *s, yd_share *f)
{
    if (f->used_s >= s->level_s - s->policy.catch_up_s) return;
    f->used_s = s->level_s - s->policy.catch_up_s;
    place(s, f);
}

static yd_turn *start(yd_scheduler *s, yd_turn *t)
{
    unqueue(s, t);
    t->state = YD_TURN_STARTING;
    s->running[s->n_running++] = t;
    s->memory += t->memory;
    owe_no_more(s, t->share);
    return t;
}

void yd_scheduler_take_over(yd_scheduler *s, yd_turn *t, const yd_ask *ask, yd_turn *from, int64_t now_us)
{
    enter(s, t, ask, now_us);
    t->state = YD_TURN_STARTING;
    t->memory = from->memory;
    t->bound = from->bound;
    for (int i = 0; i < s->n_running; i++)
        if (s->running[i] == from) s->running[i] = t;
    owe_no_more(s, t->share);
    update_work(s, t);
    out(s, from);
}

static void let_pass(yd_scheduler *s, yd_turn *t, int64_t now_us)
{
    out_of_heaps(s, t);
    t->passed = 1;
    t->served_us = now_us;
    s->passed[s->n_passed++] = t;
}

yd_turn *yd_scheduler_admit(yd_scheduler *s, int64_t now_us)
{
    const int want = in_want(s);
    if (s->n_running >= s->policy.max_running) return NULL;
    for (int i = 0; i < s->n_passed; i++) {
        yd_turn *t = s->passed[i];
        if (fits(s, t) && (want || outranks(s, t, now_us))) return start(s, t);
        if (!fits(s, t) && now_us - t->served_us >= s->policy.reserve_us) return NULL;
    }
    for (yd_turn *t; (t = candidate(s, now_us));) {
        if (!want && !outranks(s, t, now_us)) return NULL;
        if (fits(s, t)) return start(s, t);
        if (s->n_passed == YD_PASSED_MAX) return NULL;
        let_pass(s, t, now_us);
    }
    return NULL;
}

void yd_scheduler_ready(yd_scheduler *s, yd_turn *t, long units, int windows, int64_t now_us)
{
    if (t->state != YD_TURN_STARTING) return;
    if (t->left > 0) yd_cost_average(&s->bound_share, (double)units / (double)t->left);
    t->state = YD_TURN_READY;
    t->left = units;
    t->windows = windows > 0 ? windows : 1;
    t->served_us = now_us;
    update_work(s, t);
}

// ---- turns ---------------------------------------------------------------------------------------------------------

// The started job that has had nothing for longest, if that is too long.
static yd_turn *neglected(const yd_scheduler *s, int64_t now_us, const run_want *w)
{
    yd_turn *worst = NULL;
    for (int i = 0; i < s->n_running; i++) {
        yd_turn *t = s->running[i];
        if (may_take(s, t, w) && now_us - t->served_us >= s->policy.max_idle_us && (!worst || t->served_us < worst->served_us))
            worst = t;
    }
    return worst;
}

static int take(yd_scheduler *s, yd_turn *t, int64_t now_us, run_want *w, int most, yd_turn **dst)
{
    const double price = unit_s(s, t);
    int n = 0;
    if (t->in_batch == 0) w->jobs--;
    for (; n < most && t->left > 0 && t->in_batch < t->windows; n++) {
        t->left--;
        t->out++;
        t->in_batch++;
        t->booked_s += price;
        dst[n] = t;
    }
    t->served_us = now_us;
    t->device = w->device;
    s->out_on[w->device] += n;
    charge(s, t, price * n);
    return n;
}

// How many jobs a run may have: while other devices have nothing to do, no more than leaves as many to each of them.
static int fair_jobs(const yd_scheduler *s, int device)
{
    int idle = 0, jobs = 0;
    for (int d = 0; d < YD_DEVICES_MAX; d++) idle += d != device && s->devices & 1u << d && s->out_on[d] == 0;
    for (int i = 0; i < s->n_running; i++) jobs += may_work(s, s->running[i], device);
    return (jobs + idle) / (1 + idle);
}

int yd_scheduler_pick(yd_scheduler *s, int device, int64_t now_us, yd_turn **dst, int max)
{
    int n = 0;
    run_want w = {.device = device, .engine = -1, .jobs = fair_jobs(s, device)};
    for (int i = 0; i < s->n_running; i++) s->running[i]->in_batch = 0;
    const yd_turn *d = due(s, now_us, &w);
    if (d && d->share->used_s > s->level_s) s->level_s = d->share->used_s;
    while (n < max) {
        yd_turn *late = neglected(s, now_us, &w), *t = late ? late : due(s, now_us, &w);
        if (!t) break;
        if (s->most[t->engine] > 0 && s->most[t->engine] < max) max = s->most[t->engine];
        n += take(s, t, now_us, &w, late ? 1 : max - n, dst + n);
        if (!s->pays) break;
        w.engine = t->engine;
        if (!w.first) w.first = t;
        w.alone = w.first->alone;
    }
    return n;
}

void yd_scheduler_back(yd_scheduler *s, yd_turn *t, int ran, double cost_s)
{
    const double booked_s = t->booked_s / (double)t->out;
    t->booked_s -= booked_s;
    t->out--;
    s->out_on[t->device]--;
    if (!ran && t->state == YD_TURN_READY) t->left = add(t->left, 1);
    charge(s, t, (ran ? cost_s : 0) - booked_s);
    update_work(s, t);
}

// ---- canvases on devices -------------------------------------------------------------------------------------------

void yd_scheduler_bind(yd_scheduler *s, yd_turn *t, int device)
{
    (void)s;
    t->bound = device < 0 ? 0 : 1 + device;
    t->moving = 0;
}

void yd_scheduler_again(yd_scheduler *s, yd_turn *t, long left)
{
    if (t->state != YD_TURN_READY) return;
    t->left = left;
    update_work(s, t);
}

static int jobs_on(const yd_scheduler *s, int device)
{
    int n = 0;
    for (int i = 0; i < s->n_running; i++) n += s->running[i]->bound == 1 + device && has_work(s->running[i]) && !s->running[i]->moving;
    return n;
}

static int is_coming(const yd_scheduler *s, int device)
{
    for (int i = 0; i < s->n_running; i++)
        if (s->running[i]->moving == 1 + device) return 1;
    return 0;
}

yd_turn *yd_scheduler_move(yd_scheduler *s, int device)
{
    yd_turn *most = NULL;
    if (!(s->devices & 1u << device) || s->out_on[device] > 0 || jobs_on(s, device) > 0 || is_coming(s, device)) return NULL;
    for (int i = 0; i < s->n_running; i++) {
        yd_turn *t = s->running[i];
        if (!t->bound || t->moving || !has_work(t) || !(s->on[t->engine] & 1u << device)) continue;
        if ((double)t->left * unit_s(s, t) < MOVE_S || jobs_on(s, t->bound - 1) < 2) continue;
        if (!most || (double)t->left * unit_s(s, t) > (double)most->left * unit_s(s, most)) most = t;
    }
    if (most) most->moving = 1 + device;
    return most;
}

void yd_scheduler_stop(yd_scheduler *s, yd_turn *t)
{
    if (t->state == YD_TURN_OUT) return;
    const int waited = t->state == YD_TURN_WAITING;
    if (waited) unqueue(s, t);
    t->state = YD_TURN_STOPPING;
    t->left = 0;
    update_work(s, t);
    if (waited) out(s, t);
}

void yd_scheduler_leave(yd_scheduler *s, yd_turn *t)
{
    yd_scheduler_stop(s, t);
    if (t->state == YD_TURN_OUT) return;
    array_remove(s->running, &s->n_running, t);
    s->memory -= t->memory;
    out(s, t);
}
