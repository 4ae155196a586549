// The scheduler in simulated time: who goes first, fair shares, batches, places and memory, deadlines, estimates, and random life.
#include "tests/unit/schedule_rig.h"

#include "tests/unit/t.h"

#include <time.h>

static sim m;
static yd_share who[8];

static void fresh_with(const yd_policy *p, int max, double run_s, double unit_s)
{
    memset(who, 0, sizeof who);
    for (int i = 0; i < 8; i++) who[i].weight = 1;
    sim_open(&m, p, max, run_s, unit_s);
}

static void fresh(int max, double run_s, double unit_s)
{
    const yd_policy p = sim_policy();
    fresh_with(&p, max, run_s, unit_s);
}

static void run_out(void)
{
    sim_until(&m, HUGE_VAL);
    CHECK(m.left == 0 && m.s.n_running == 0 && m.s.n_waiting == 0 && m.s.memory == 0);
}

// The order in which jobs ended, as letters.
static const char *ends(void)
{
    static char text[64];
    for (int k = 0; k < m.n && k < 63; k++) {
        int first = -1;
        for (int i = 0; i < m.n; i++)
            if (m.job[i].ended < 2 && (first < 0 || m.job[i].end_s < m.job[first].end_s)) first = i;
        m.job[first].ended = 2;
        text[k] = (char)('a' + first);
        text[k + 1] = 0;
    }
    return text;
}

static void shortest_first(void)
{
    fresh(1, 0, 0.01);
    static const long units[] = {500, 300, 40, 100, 20};
    for (int i = 0; i < 5; i++) sim_job_at(&m, i * 0.05, &who[0], units[i], 1);
    run_out();
    const char *e = ends();
    CHECK_MSG(strcmp(e, "ecdba") == 0, "%s", e);
}

// A job of 10 s against ever new ones of 1 s: it is passed for no longer than its work is worth in waiting.
static void ageing(void)
{
    fresh(1, 0, 0.1);
    sim_job *longer = sim_job_at(&m, 0, &who[0], 100, 1);
    for (int i = 0; i < 200; i++) sim_job_at(&m, 0.01 + i, &who[0], 10, 1);
    run_out();
    CHECK_MSG(longer->end_s > 20 && longer->end_s < 2 * 10 / 0.5 + 10 + 2, "it ended after %g s", longer->end_s);
}

static void priorities(void)
{
    fresh(1, 0, 0.01);
    for (int i = 0; i < 3; i++) sim_job_at(&m, 0, &who[0], 100, 1)->ask.priority = YD_PRIORITY_LOW + i;
    sim_job *normal = sim_job_at(&m, 0, &who[0], 5, 1);
    run_out();
    const char *e = ends();
    CHECK_MSG(strcmp(e, "cdba") == 0, "%s", e); // even the short one waits for the one of high priority
    CHECK(normal->end_s < 1.3);
    // A high priority is no right to stay in front for ever.
    yd_policy p = sim_policy();
    p.max_idle_us = sim_us(1e6);
    fresh_with(&p, 1, 0, 0.1);
    sim_job *low = sim_job_at(&m, 0, &who[0], 10, 1);
    low->ask.priority = YD_PRIORITY_LOW;
    for (int i = 0; i < 1500; i++) sim_job_at(&m, i, &who[0], 10, 1)->ask.priority = YD_PRIORITY_HIGH;
    run_out();
    CHECK_MSG(low->end_s > 500 && low->end_s < 700, "%g", low->end_s);
}

// Several owners with as much work as they like get device time as their weights say, whatever the length of their jobs.
static void fair_shares(void)
{
    static const double weight[] = {1, 2, 4};
    fresh(1, 0, 0.01);
    for (int i = 0; i < 3; i++) who[i].weight = weight[i];
    for (int i = 0; i < 600; i++) sim_job_at(&m, 0, &who[i % 3], i % 3 == 0 ? 1000 : 50 + 100 * (i % 2), 1);
    sim_until(&m, 140);
    double had[3] = {0}, all = 0;
    for (int i = 0; i < m.n; i++) had[i % 3] += m.job[i].used_s;
    for (int i = 0; i < 3; i++) all += had[i];
    for (int i = 0; i < 3; i++) {
        const double share = had[i] / all, due = weight[i] / 7;
        CHECK_MSG(fabs(share / due - 1) < 0.1, "owner %d got %g of %g", i, share, due);
    }
}

// Who had nothing to do for an hour is not owed that hour, and who worked alone for an hour owes none.
static void pauses_are_forgotten(void)
{
    fresh(1, 0, 0.01);
    for (int i = 0; i < 40; i++) sim_job_at(&m, 0, &who[0], 10000, 1);
    sim_job *second = sim_job_at(&m, 3600, &who[1], 2000, 1);
    sim_until(&m, 3650);
    CHECK_MSG(second->end_s > 3620 + 10 && second->end_s < 3620 + 23, "%g", second->end_s);
}

// An owner's flood of jobs does not delay another's one.
static void floods(void)
{
    fresh(1, 0, 0.01);
    for (int i = 0; i < 5000; i++) sim_job_at(&m, 0, &who[0], 20, 1);
    sim_job *one = sim_job_at(&m, 10, &who[1], 100, 1);
    sim_until(&m, 30);
    CHECK_MSG(one->end_s < 10 + 2 * 1 + 2.1, "%g", one->end_s);
}

static void started_jobs_are_not_left(void)
{
    fresh(1, 0, 0.01);
    sim_job *longer = sim_job_at(&m, 0, &who[0], 3000, 1);
    for (int i = 0; i < 60; i++) sim_job_at(&m, 1 + i, &who[0], 100, 1);
    sim_until(&m, 25);
    CHECK(longer->turn.state == YD_TURN_READY);
    CHECK_MSG(longer->pause_s > 5 && longer->pause_s < 10.1, "%g", longer->pause_s);
    run_out();
}

static void batches(void)
{
    // Where they pay a run is filled from several jobs, the shortest first; otherwise a run is one job's.
    for (int pays = 0; pays < 2; pays++) {
        fresh(8, pays ? 0.01 : 0, 0.001);
        sim_job_at(&m, 0, &who[0], 30, 3);
        sim_job_at(&m, 0, &who[0], 20, 2);
        sim_job_at(&m, 0, &who[1], 40, 8);
        sim_until(&m, 0);
        int of[3] = {0};
        for (int i = 0; i < m.n_out; i++) of[sim_job_of(m.out[i]) - m.job]++;
        CHECK_MSG(of[1] == 2 && of[0] == (pays ? 3 : 0) && of[2] == (pays ? 3 : 0), "%d: %d %d %d", pays, of[0], of[1], of[2]);
        run_out();
    }
}

static void a_batch_is_for_one_engine(void)
{
    fresh(8, 0.01, 0.001);
    for (int i = 0; i < 6; i++) sim_job_at(&m, 0, &who[i % 3], 20 + i, 2)->ask.engine = i & 1;
    for (int k = 0; k < 200; k++) {
        sim_until(&m, k * 0.005);
        for (int i = 1; i < m.n_out; i++) CHECK(m.out[i]->engine == m.out[0]->engine);
    }
    run_out();
}

static void a_batch_is_as_large_as_its_engine_takes(void)
{
    fresh(8, 0.01, 0.001);
    yd_scheduler_engine_batch(&m.s, 1, 3);
    for (int i = 0; i < 4; i++) sim_job_at(&m, 0, &who[i % 2], 40, 8)->ask.engine = i & 1;
    int largest[2] = {0};
    for (int k = 0; k < 200; k++) {
        sim_until(&m, k * 0.005);
        if (m.n_out > largest[m.n_out ? m.out[0]->engine : 0]) largest[m.out[0]->engine] = m.n_out;
    }
    run_out();
    CHECK_MSG(largest[0] == 8 && largest[1] == 3, "%d, %d", largest[0], largest[1]);
}

static void places(void)
{
    // Where batches do not pay there is one job at work and one in preparation, and the rest waits.
    fresh(1, 0, 0.01);
    for (int i = 0; i < 6; i++) sim_job_at(&m, 0, &who[i % 2], 100, 1);
    sim_until(&m, 0.005);
    CHECK_MSG(m.s.n_running == 2 && m.s.n_waiting == 4, "%d started", m.s.n_running);
    // A shorter one is started besides and goes first; never more than there are places.
    for (int i = 0; i < 10; i++) sim_job_at(&m, 0.1 + 0.001 * i, &who[0], 60 - 5 * i, 1);
    sim_until(&m, 0.12);
    CHECK_MSG(m.s.n_running == 8, "%d started", m.s.n_running);
    run_out();
    // Where they pay as many start as fill two runs.
    fresh(4, 0.01, 0.001);
    for (int i = 0; i < 20; i++) sim_job_at(&m, 0, &who[0], 100, 1);
    sim_until(&m, 0.005);
    CHECK_MSG(m.s.n_running == 8, "%d started", m.s.n_running);
    run_out();
}

// A job that needs all the memory is passed by small ones for a while; then the memory is kept for it.
static void memory_is_reserved(void)
{
    fresh(1, 0, 0.1);
    for (int i = 0; i < 200; i++) sim_job_at(&m, 0.5 * i, &who[0], 10, 1)->ask.memory = 10;
    sim_job *big = sim_job_at(&m, 100, &who[1], 50, 1);
    big->ask.memory = 100;
    for (int i = 0; i < 200; i++) sim_job_at(&m, 100 + 0.5 * i, &who[2], 10, 1)->ask.memory = 10;
    sim_until(&m, 104);
    CHECK(big->turn.state == YD_TURN_WAITING && big->turn.passed);
    const int passed_by = m.s.n_running;
    CHECK(passed_by > 0);
    sim_until(&m, 300);
    CHECK_MSG(big->ended && big->started_s > 105 && big->started_s < 112, "it started at %g", big->started_s);
    run_out();
}

static void deadlines(void)
{
    fresh(1, 0, 0.1);
    sim_job *longer = sim_job_at(&m, 0, &who[0], 100, 1); // 10 s
    longer->ask.deadline_us = sim_us(40);
    sim_job *late = sim_job_at(&m, 0, &who[0], 300, 1);
    late->ask.deadline_us = sim_us(15);
    for (int i = 0; i < 60; i++) sim_job_at(&m, 0.01 + i, &who[0], 10, 1);
    sim_until(&m, 14.9);
    CHECK(!late->ended);
    run_out();
    CHECK_MSG(longer->end_s <= 40 && longer->end_s > 25, "it ended at %g", longer->end_s); // not before it has to
    CHECK(late->expired || late->end_s > 40); // it could not be done in time: nobody waited for it
    // One that nobody starts is over when its time is.
    fresh(1, 0, 0.1);
    sim_job_at(&m, 0, &who[0], 1, 1);
    sim_job *never = sim_job_at(&m, 0, &who[0], 1000, 1);
    never->ask.deadline_us = sim_us(2);
    for (int i = 0; i < 20; i++) sim_job_at(&m, 0, &who[1], 10, 1);
    for (int i = 0; i < 20; i++) sim_job_at(&m, 0, &who[0], 10, 1);
    sim_until(&m, 1.99);
    CHECK(never->turn.state == YD_TURN_WAITING);
    sim_until(&m, 2.2);
    CHECK(never->expired && never->turn.state == YD_TURN_OUT);
    run_out();
}

static void cancelled(void)
{
    fresh(4, 0.01, 0.01);
    for (int i = 0; i < 6; i++) sim_job_at(&m, 0, &who[i % 2], 100, 1);
    sim_until(&m, 0.5);
    sim_job *victim = &m.job[0];
    CHECK(victim->turn.out == 1);
    sim_cancel(&m, victim);
    CHECK(!victim->ended); // a unit of it is on the device
    sim_until(&m, 0.5 + 0.051);
    CHECK(victim->ended && victim->end_s <= 0.551); // one run later it has let go
    sim_cancel(&m, &m.job[5]);
    run_out();
    for (int i = 1; i < 5; i++) CHECK(m.job[i].ended && m.job[i].turn.left == 0);
    CHECK_MSG(m.done >= 400 && m.done < 600, "%ld", m.done);
}

static void undone_work_comes_again(void)
{
    fresh(4, 0.01, 0.01);
    sim_job_at(&m, 0, &who[0], 2, 2);
    sim_until(&m, 0);
    yd_turn *t = &m.job[0].turn;
    CHECK(m.n_out == 2 && t->left == 0 && t->out == 2);
    const double used = who[0].used_s;
    yd_scheduler_back(&m.s, t, 1, 0.01);
    yd_scheduler_back(&m.s, t, 0, 0.01);
    CHECK(t->left == 1 && t->out == 0 && who[0].used_s < used); // what did not run is not paid for
    CHECK(fabs(who[0].used_s - 0.01) < 1e-9);
    CHECK(yd_scheduler_pick(&m.s, 0, 0, m.out, 4) == 1);
    yd_scheduler_stop(&m.s, t);
    yd_scheduler_back(&m.s, t, 0, 0.01);
    CHECK(t->left == 0 && yd_scheduler_pick(&m.s, 0, 0, m.out, 4) == 0);
    yd_scheduler_leave(&m.s, t);
    CHECK(m.s.n_running == 0 && m.s.memory == 0 && who[0].jobs == 0);
}

// Takes what a device is given and returns the jobs, as letters in the order of their coming.
static const char *picked(int device, int max)
{
    static char text[2][65];
    static int next;
    char *to = text[next++ % 2];
    yd_turn *out[64];
    const int n = yd_scheduler_pick(&m.s, device, sim_us(m.now_s), out, max);
    for (int i = 0; i < n; i++) to[i] = (char)('a' + (sim_job_of(out[i]) - m.job));
    to[n] = 0;
    return to;
}

static void ready_jobs(int n, long units, int windows)
{
    for (int i = 0; i < n; i++) sim_job_at(&m, 0, &who[0], units, windows);
    sim_enter(&m);
    sim_start(&m);
    sim_start(&m); // those that were just admitted are prepared at once
}

// All units of a job that are out are on one device; when they are back, it may go elsewhere.
static void a_canvas_is_on_one_device(void)
{
    fresh(1, 0, 0.01);
    yd_scheduler_devices(&m.s, 3);
    ready_jobs(2, 10, 1);
    yd_turn *a = &m.job[0].turn, *b = &m.job[1].turn;
    CHECK(strcmp(picked(0, 1), "a") == 0 && strcmp(picked(1, 1), "b") == 0); // the first is taken, for the other device
    CHECK(strcmp(picked(0, 1), "a") == 0 && strcmp(picked(1, 1), "b") == 0);
    yd_scheduler_back(&m.s, a, 1, 0.01);
    yd_scheduler_back(&m.s, b, 1, 0.01);
    CHECK(strcmp(picked(0, 1), "a") == 0 && strcmp(picked(1, 1), "b") == 0); // a unit of each is still there
    a->left = 0;
    CHECK(!*picked(0, 1));
    yd_scheduler_back(&m.s, b, 1, 0.01);
    CHECK(!*picked(0, 1));
    yd_scheduler_back(&m.s, b, 1, 0.01);
    CHECK(strcmp(picked(0, 1), "b") == 0 && b->device == 0 && m.s.out_on[0] == 3 && m.s.out_on[1] == 0);
}

// A canvas in a device's memory binds its job, until a device that has nothing to do gets it.
static void bound_to_a_device(void)
{
    fresh(1, 0, 0.01);
    yd_scheduler_devices(&m.s, 3);
    ready_jobs(3, 100, 1);
    yd_turn *a = &m.job[0].turn, *b = &m.job[1].turn, *c = &m.job[2].turn;
    for (int i = 0; i < 3; i++) yd_scheduler_bind(&m.s, &m.job[i].turn, 0);
    c->left = 5; // 0.05 s: not worth it
    b->left = 50;
    CHECK(!*picked(1, 1) && strcmp(picked(0, 1), "c") == 0);
    yd_scheduler_back(&m.s, c, 1, 0.01);
    CHECK(!yd_scheduler_move(&m.s, 0) && yd_scheduler_move(&m.s, 1) == a && !yd_scheduler_move(&m.s, 1)); // one at a time
    a->left = 1;
    CHECK(strcmp(picked(0, 1), "c") == 0); // the least is left of a, but that is on its way
    yd_scheduler_back(&m.s, c, 1, 0.01);
    yd_scheduler_bind(&m.s, a, -1);
    CHECK(strcmp(picked(1, 1), "a") == 0 && !yd_scheduler_move(&m.s, 1)); // it has something to do now
    yd_scheduler_back(&m.s, a, 1, 0.01);
    yd_scheduler_bind(&m.s, a, 1);
    CHECK(!*picked(1, 1) && a->left == 0);
    yd_scheduler_again(&m.s, a, 40); // what it had was lost
    CHECK(fabs(who[0].work_s - (40 + 100 + 3) * 0.01) < 1e-9);
    CHECK(strcmp(picked(1, 1), "a") == 0);
    yd_scheduler_back(&m.s, a, 1, 0.01);
    a->left = 0;
    c->left = 0;
    CHECK(!yd_scheduler_move(&m.s, 1)); // the other one would have nothing
}

// Only a device that has the engine computes for it.
static void an_engine_is_where_it_is(void)
{
    fresh(1, 0, 0.01);
    yd_scheduler_devices(&m.s, 3);
    yd_scheduler_engine_on(&m.s, 0, 2);
    ready_jobs(1, 10, 1);
    CHECK(!*picked(0, 1) && strcmp(picked(1, 1), "a") == 0);
    yd_scheduler_back(&m.s, &m.job[0].turn, 0, 0);
    yd_scheduler_engine_on(&m.s, 0, 0);
    CHECK(!*picked(0, 1) && !*picked(1, 1));
    yd_scheduler_engine_on(&m.s, 0, 3);
    CHECK(strcmp(picked(0, 1), "a") == 0);
}

// Where batches pay, idle devices share what there is; one that has all of it lets go of half for another that has nothing.
static void idle_devices_share(void)
{
    fresh(8, 0.01, 0.001);
    yd_scheduler_devices(&m.s, 3);
    ready_jobs(4, 100, 1);
    CHECK(strlen(picked(0, 8)) == 2 && strlen(picked(1, 8)) == 2 && m.s.out_on[0] == 2 && m.s.out_on[1] == 2);

    fresh(8, 0.01, 0.001);
    yd_scheduler_devices(&m.s, 1);
    ready_jobs(4, 100, 1);
    CHECK(strlen(picked(0, 8)) == 4 && strlen(picked(0, 8)) == 4);
    yd_scheduler_devices(&m.s, 3); // another one comes into service
    CHECK(!*picked(1, 8));
    for (int i = 0; i < 4; i++) yd_scheduler_back(&m.s, &m.job[i].turn, 1, 0.001);
    CHECK(strlen(picked(0, 8)) == 2);
    for (int i = 0; i < 4; i++) yd_scheduler_back(&m.s, &m.job[i].turn, 1, 0.001);
    CHECK(strlen(picked(1, 8)) == 2);
}

// One that has to be computed alone.
static void alone_in_a_run(void)
{
    fresh(8, 0.01, 0.001);
    ready_jobs(3, 100, 2);
    m.job[1].turn.alone = 1;
    const char *first = picked(0, 8);
    CHECK_MSG(strcmp(first, "aacc") == 0, "%s", first);
    m.job[0].turn.left = m.job[2].turn.left = 0;
    CHECK(strcmp(picked(0, 8), "bb") == 0);
    m.job[0].turn.left = 100;
    m.job[1].turn.left = 1; // it goes first
    CHECK(strcmp(picked(0, 8), "b") == 0);
}

// A unit's price is measured anew all the time, and depends on what else the machine does. Jobs that ask for the same keep their order of arrival
// whatever it was when each came, and those that ask for less go first by what it is now.
static void the_order_is_not_of_the_moment(void)
{
    yd_policy p = sim_policy();
    p.max_running = 1;
    fresh_with(&p, 1, 0, 0.01);
    sim_job *last = NULL;
    for (int i = 0; i < 8; i++) {
        sim_job_at(&m, 0.001 * i, &who[0], 100, 1);
        last = sim_job_at(&m, 0.001 * i, &who[1], 100, 1);
        m.now_s = 0.001 * i;
        sim_enter(&m);
        yd_scheduler_measured(&m.s, 0, 1, i % 2 ? 0.001 : 0.1);
    }
    CHECK(last->turn.state == YD_TURN_WAITING);
    for (int i = 0; i < 16; i++) {
        yd_turn *t = yd_scheduler_admit(&m.s, sim_us(0.01));
        CHECK_MSG(t == &m.job[i].turn, "%d is job %d", i, t ? (int)(sim_job_of(t) - m.job) : -1);
        if (t) yd_scheduler_leave(&m.s, t);
    }
}

static void a_new_price_is_a_new_order(void)
{
    yd_policy p = sim_policy();
    p.max_running = 1;
    fresh_with(&p, 1, 0, 0.1);
    sim_job_at(&m, 0, &who[0], 100, 1); // 10 s of work, waits for 5 s: 2.5 s of it are made good
    sim_job_at(&m, 5, &who[0], 20, 1);  // 2 s of work
    sim_enter(&m);
    m.now_s = 5;
    sim_enter(&m);
    CHECK(who[0].by_rank.top == &m.job[1].turn.by_rank);
    yd_scheduler_measured(&m.s, 0, 1, 0.11); // no news
    CHECK(m.s.price[0] == 0.1 && who[0].by_rank.top == &m.job[1].turn.by_rank);
    yd_scheduler_measured(&m.s, 0, 100, 0.5); // so quick that who came first is first
    CHECK(m.s.price[0] < 0.02 && who[0].by_rank.top == &m.job[0].turn.by_rank);
}

// Queues of mixed jobs: when nothing else comes, jobs end when they were said to. Counts estimates, and those a quarter off or more.
static void judge_estimates(int pays, int owners, unsigned seed, int *all, int *off)
{
    yd_policy p = sim_policy();
    if (pays) p.max_running = 32;
    fresh_with(&p, pays ? 8 : 1, pays ? 0.02 : 0, 0.01);
    for (int i = 0; i < 40; i++) {
        const int windows = 1 + (int)(sim_random(&seed) % 12);
        sim_job_at(&m, 0, &who[i % owners], windows * (2 + (long)(sim_random(&seed) % 40)), windows);
    }
    sim_until(&m, 0.5);
    for (int i = 0; i < m.n; i++)
        if (!m.job[i].ended) m.job[i].eta_s = yd_scheduler_eta_s(&m.s, &m.job[i].turn, sim_us(m.now_s));
    run_out();
    for (int i = 0; i < m.n; i++) {
        const sim_job *j = &m.job[i];
        if (j->eta_s < 0) continue;
        const double took = j->end_s - 0.5, wrong = fabs(j->eta_s - took) / (took > 1 ? took : 1);
        CHECK_MSG(wrong <= 0.4, "pays %d, %d owners: %g s, not %g", pays, owners, j->eta_s, took);
        ++*all;
        *off += wrong > 0.25;
    }
}

static void estimates(void)
{
    for (int pays = 0; pays < 2; pays++)
        for (int owners = 1; owners <= 3; owners += 2) {
            int all = 0, off = 0;
            for (unsigned seed = 1; seed <= 50; seed++) judge_estimates(pays, owners, seed, &all, &off);
            CHECK_MSG(all > 1000 && off <= all / 50, "pays %d, %d owners: %d of %d are off", pays, owners, off, all);
        }
}

static void positions(void)
{
    fresh(1, 0, 0.01);
    for (int i = 0; i < 8; i++) sim_job_at(&m, 0, &who[0], 100 - 10 * i, 1);
    sim_until(&m, 0.001);
    int seen[9] = {0};
    for (int i = 0; i < 8; i++) seen[yd_scheduler_position(&m.s, &m.job[i].turn, sim_us(m.now_s))]++;
    CHECK_MSG(seen[0] == 2, "%d", seen[0]);
    for (int p = 1; p <= 6; p++) CHECK_MSG(seen[p] == 1, "position %d: %d", p, seen[p]);
    run_out();
}

// Random life: places, memory and counts hold at every moment, nobody is forgotten, everyone is computed exactly as often as asked.
static void random_life(void)
{
    unsigned r = 99;
    for (int round = 0; round < 40; round++) {
        yd_policy p = sim_policy();
        p.max_running = 1 + (int)(sim_random(&r) % 10);
        p.max_memory = 50;
        fresh_with(&p, 1 + (int)(sim_random(&r) % 8), round % 2 ? 0.01 : 0, 0.01);
        for (int i = 0; i < 8; i++) who[i].weight = 1 + (double)(sim_random(&r) % 4);
        m.prepare_s = 0.02 * (round % 3);
        double at = 0;
        for (int i = 0; i < 300; i++) {
            at += 0.001 * (sim_random(&r) % 500);
            const int windows = 1 + (int)(sim_random(&r) % 6);
            sim_job *j = sim_job_at(&m, at, &who[sim_random(&r) % 8], 1 + (long)(sim_random(&r) % 120), windows);
            j->ask.units = j->units + (long)(sim_random(&r) % 30);
            j->ask.memory = 1 + sim_random(&r) % 50;
            j->ask.priority = (int)(sim_random(&r) % 3) - 1;
            j->ask.engine = (int)(sim_random(&r) % 2);
            if (sim_random(&r) % 4 == 0) j->ask.deadline_us = sim_us(at + 1 + sim_random(&r) % 60);
        }
        for (int k = 0; k < 400; k++) {
            sim_until(&m, m.now_s + 0.25);
            size_t memory = 0;
            long waiting = 0;
            for (int i = 0; i < m.s.n_running; i++) memory += m.s.running[i]->memory;
            for (const yd_turn *t = NULL; (t = yd_scheduler_next(&m.s, t));) waiting += t->state == YD_TURN_WAITING;
            CHECK(memory == m.s.memory && memory <= 50 && m.s.n_running <= p.max_running && waiting == m.s.n_waiting);
            if (sim_random(&r) % 8 == 0 && m.entered) sim_cancel(&m, &m.job[sim_random(&r) % (unsigned)m.entered]);
        }
        run_out();
        for (int i = 0; i < m.n; i++) {
            CHECK_MSG(m.job[i].ended, "job %d of round %d", i, round);
            const long units = llround(m.job[i].used_s > 0 ? 1 : 0);
            CHECK(m.job[i].cancelled || m.job[i].expired || units == 1);
        }
        for (int i = 0; i < 8; i++) CHECK(who[i].jobs == 0 && who[i].waiting == 0 && fabs(who[i].work_s) < 1e-6);
        if (t_failed_checks) return;
    }
}

static double since_s(const struct timespec *t0)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)(t.tv_sec - t0->tv_sec) + (double)(t.tv_nsec - t0->tv_nsec) / 1e9;
}

// Ten thousand waiting jobs of one owner, or of so many: each start and each pick stays a matter of microseconds.
static void long_queues(void)
{
    for (int owners = 1; owners <= 10000; owners *= 10000) {
        static yd_share many[10000];
        memset(many, 0, sizeof many);
        fresh(1, 0, 0.01);
        for (int i = 0; i < 10000; i++) {
            many[i].weight = 1;
            sim_job_at(&m, 0, &many[i % owners], 3 + i % 7, 1);
        }
        sim_until(&m, 0);
        struct timespec t0;
        clock_gettime(CLOCK_MONOTONIC, &t0);
        run_out();
        const double each_us = since_s(&t0) * 1e6 / 10000;
        CHECK_MSG(each_us < 300, "%d owners: %g us for each job", owners, each_us);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"scheduler: the job with the least left goes first", shortest_first},
        {"scheduler: waiting counts", ageing},
        {"scheduler: priorities", priorities},
        {"scheduler: owners get their shares", fair_shares},
        {"scheduler: pauses are forgotten", pauses_are_forgotten},
        {"scheduler: a flood delays its owner", floods},
        {"scheduler: started jobs are not left alone", started_jobs_are_not_left},
        {"scheduler: batches of one job, or of several where that pays", batches},
        {"scheduler: a batch is for one engine", a_batch_is_for_one_engine},
        {"scheduler: a batch is as large as its engine takes", a_batch_is_as_large_as_its_engine_takes},
        {"scheduler: places", places},
        {"scheduler: memory is kept for a large job", memory_is_reserved},
        {"scheduler: deadlines", deadlines},
        {"scheduler: cancelling", cancelled},
        {"scheduler: undone work is handed out again", undone_work_comes_again},
        {"scheduler: a canvas is on one device at a time", a_canvas_is_on_one_device},
        {"scheduler: bound to a device", bound_to_a_device},
        {"scheduler: an engine is where it is", an_engine_is_where_it_is},
        {"scheduler: idle devices share", idle_devices_share},
        {"scheduler: alone in a run", alone_in_a_run},
        {"scheduler: the order is not of the moment", the_order_is_not_of_the_moment},
        {"scheduler: a new price is a new order", a_new_price_is_a_new_order},
        {"scheduler: estimates", estimates},
        {"scheduler: positions", positions},
        {"scheduler: random life", random_life},
        {"scheduler: long queues", long_queues},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
