// The scheduler: admission in order and within bounds, turns, batches, work that comes back undone, and random life against a count.
#include "daemon/scheduler.h"

#include "tests/unit/t.h"

static yd_scheduler s;
static yd_turn job[8];

static void setup(int max_running, size_t memory)
{
    memset(job, 0, sizeof job);
    yd_scheduler_init(&s, max_running, memory);
}

static int number(const yd_turn *t)
{
    return t ? (int)(t - job) : -1;
}

static void start(int i, long units, int windows)
{
    yd_scheduler_enqueue(&s, &job[i], 0, units, 1);
    CHECK(yd_scheduler_admit(&s) == &job[i]);
    yd_scheduler_ready(&s, &job[i], units, windows);
}

// The next n batches of at most `max` units, given back as done at once: "012|0".
static const char *turns(int n, int max)
{
    static char text[256];
    size_t k = 0;
    yd_turn *out[64];
    for (int b = 0; b < n; b++) {
        int got = yd_scheduler_pick(&s, out, max);
        for (int i = 0; i < got; i++) {
            text[k++] = (char)('0' + number(out[i]));
            yd_scheduler_back(&s, out[i], 1);
        }
        text[k++] = '|';
    }
    text[k] = 0;
    return text;
}

static void admission(void)
{
    setup(2, 100);
    for (int i = 0; i < 4; i++) yd_scheduler_enqueue(&s, &job[i], 0, 10, i == 1 ? 90 : 20);
    CHECK(yd_scheduler_position(&s, &job[0]) == 1 && yd_scheduler_position(&s, &job[3]) == 4);
    CHECK(number(yd_scheduler_admit(&s)) == 0);
    CHECK(yd_scheduler_admit(&s) == NULL); // 1 does not fit beside 0, and 2 must not overtake it
    CHECK(yd_scheduler_position(&s, &job[1]) == 1);
    yd_scheduler_leave(&s, &job[0]);
    CHECK(number(yd_scheduler_admit(&s)) == 1);
    CHECK(yd_scheduler_admit(&s) == NULL);
    yd_scheduler_leave(&s, &job[1]);
    CHECK(number(yd_scheduler_admit(&s)) == 2 && number(yd_scheduler_admit(&s)) == 3);
    yd_scheduler_enqueue(&s, &job[4], 0, 1, 1);
    CHECK(yd_scheduler_admit(&s) == NULL); // two are running
    CHECK(s.memory == 40);
    yd_scheduler_stop(&s, &job[4]); // leaves the queue at once
    CHECK(s.waiting.count == 0 && job[4].state == YD_TURN_OUT && yd_scheduler_position(&s, &job[4]) == 0);
}

static void fair_turns(void)
{
    setup(8, 100);
    start(0, 5, 1);
    start(1, 2, 1);
    CHECK_MSG(strcmp(turns(3, 1), "0|1|0|") == 0, "%s", turns(0, 1));
    start(2, 2, 1); // a newcomer has its turn within one round
    const char *t = turns(6, 1);
    CHECK_MSG(strcmp(t, "1|0|2|0|2|0|") == 0, "%s", t);
    CHECK(strcmp(turns(1, 1), "|") == 0);
}

static void starting_jobs_are_passed_over(void)
{
    setup(8, 100);
    yd_scheduler_enqueue(&s, &job[0], 0, 3, 1);
    CHECK(yd_scheduler_admit(&s) == &job[0]);
    yd_turn *out[4];
    CHECK(yd_scheduler_pick(&s, out, 4) == 0);
    start(1, 1, 1);
    CHECK(strcmp(turns(2, 1), "1||") == 0);
}

static void batches_mix_jobs(void)
{
    setup(8, 100);
    start(0, 6, 4);
    start(1, 9, 2);
    start(2, 1, 9);
    const char *t = turns(3, 8);
    // every job gets its turn before one comes again; never more of a job than its windows
    CHECK_MSG(strncmp(t, "0120100|", 8) == 0, "%s", t);
    CHECK(job[0].left == 0 && job[2].left == 0);
}

static void a_batch_is_for_one_engine(void)
{
    setup(8, 100);
    for (int i = 0; i < 4; i++) {
        start(i, i == 3 ? 2 : 6, 3);
        job[i].engine = i & 1;
    }
    const char *t = turns(6, 4);
    // engines take turns by batches, jobs of one engine by units, and nobody waits for the other engine to be through
    CHECK_MSG(strcmp(t, "0202|1313|0202|111|0202|1|") == 0, "%s", t);
    CHECK(strcmp(turns(1, 4), "|") == 0);
}

static void undone_work_comes_again(void)
{
    setup(8, 100);
    start(0, 2, 2);
    yd_turn *out[4];
    CHECK(yd_scheduler_pick(&s, out, 4) == 2 && job[0].left == 0 && job[0].out == 2);
    yd_scheduler_back(&s, &job[0], 1);
    yd_scheduler_back(&s, &job[0], 0);
    CHECK(job[0].left == 1 && job[0].out == 0);
    CHECK(strcmp(turns(2, 1), "0||") == 0);
    start(1, 5, 2);
    CHECK(yd_scheduler_pick(&s, out, 2) == 2);
    yd_scheduler_stop(&s, &job[1]);
    yd_scheduler_back(&s, &job[1], 0);
    yd_scheduler_back(&s, &job[1], 0);
    CHECK(job[1].left == 0 && yd_scheduler_pick(&s, out, 2) == 0);
    yd_scheduler_leave(&s, &job[1]);
    CHECK(s.running.count == 1 && s.memory == 1);
}

static void work_ahead(void)
{
    static const double one[] = {1, 1}, dear[] = {1, 10};
    setup(2, 100);
    start(0, 10, 1);
    start(1, 3, 1);
    yd_scheduler_enqueue(&s, &job[2], 0, 4, 1);
    yd_scheduler_enqueue(&s, &job[3], 0, 5, 1);
    CHECK(yd_scheduler_cost_ahead(&s, &job[1], one) == 6);  // its 3 and as many of job 0
    CHECK(yd_scheduler_cost_ahead(&s, &job[0], one) == 13); // its 10 and all of job 1
    CHECK(yd_scheduler_cost_ahead(&s, &job[2], one) == 17);
    CHECK(yd_scheduler_cost_ahead(&s, &job[3], one) == 22);
    CHECK(yd_scheduler_cost_all(&s, one) == 22);
    job[1].engine = job[3].engine = 1; // whose units cost ten times as much
    CHECK(yd_scheduler_cost_ahead(&s, &job[1], dear) == 33);
    CHECK(yd_scheduler_cost_ahead(&s, &job[0], dear) == 40);
    CHECK(yd_scheduler_cost_ahead(&s, &job[2], dear) == 44);
    CHECK(yd_scheduler_cost_all(&s, dear) == 94);
}

// 20000 random operations; whatever happens, each job is computed exactly as often as it asked for, unless it was stopped.
static void random_life(void)
{
    setup(3, 10);
    long wanted[8] = {0}, done[8] = {0};
    int stopped[8] = {0};
    yd_turn *out[64];
    unsigned r = 12345;
    long finished = 0, out_now = 0;
    yd_turn *under_way[64];
    for (int k = 0; k < 20000; k++) {
        r = r * 1664525u + 1013904223u;
        int i = (int)(r >> 8) % 8;
        unsigned op = (r >> 16) % 6;
        if (op == 0 && job[i].state == YD_TURN_OUT) {
            wanted[i] = 1 + (long)((r >> 20) % 20);
            done[i] = stopped[i] = 0;
            yd_scheduler_enqueue(&s, &job[i], 0, wanted[i] + 5, 1 + (r >> 24) % 4);
            job[i].engine = i & 1;
        } else if (op == 1) {
            yd_turn *t = yd_scheduler_admit(&s);
            if (t) yd_scheduler_ready(&s, t, wanted[number(t)], 1 + (int)((r >> 26) % 3));
        } else if (op == 2 && (r >> 27) == 0 && job[i].state != YD_TURN_OUT) {
            stopped[i] = 1;
            yd_scheduler_stop(&s, &job[i]);
        } else if (op < 5 && out_now == 0) {
            out_now = yd_scheduler_pick(&s, out, 1 + (int)((r >> 22) % 8));
            for (long n = 1; n < out_now; n++) CHECK(out[n]->engine == out[0]->engine);
            memcpy(under_way, out, sizeof out);
        } else {
            for (; out_now > 0; out_now--) {
                int ran = (r >> (out_now % 16)) & 1;
                done[number(under_way[out_now - 1])] += ran;
                yd_scheduler_back(&s, under_way[out_now - 1], ran);
            }
        }
        for (int n = 0; n < 8; n++) {
            if (job[n].out ||
                !(job[n].state == YD_TURN_STOPPING || (job[n].state == YD_TURN_READY && job[n].left == 0)))
                continue;
            if (!stopped[n]) {
                CHECK_MSG(done[n] == wanted[n], "%ld of %ld", done[n], wanted[n]);
                finished++;
            }
            yd_scheduler_leave(&s, &job[n]);
        }
        size_t memory = 0;
        for (const yd_turn *t = s.running.head; t; t = t->next) memory += t->memory;
        CHECK(memory == s.memory && memory <= 10 && s.running.count <= 3);
        if (t_failed_checks) break;
    }
    CHECK_MSG(finished > 100, "only %ld jobs were finished", finished);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"scheduler: admission in order, within places and memory", admission},
        {"scheduler: running jobs take turns", fair_turns},
        {"scheduler: starting jobs are passed over", starting_jobs_are_passed_over},
        {"scheduler: batches mix jobs", batches_mix_jobs},
        {"scheduler: a batch is for one engine", a_batch_is_for_one_engine},
        {"scheduler: undone work is handed out again", undone_work_comes_again},
        {"scheduler: work ahead of a job", work_ahead},
        {"scheduler: random life", random_life},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
