// What the scheduler does for throughput and for short jobs, as ratios of runs taken in turn.
//
// In simulated time, with the real scheduler and a device that takes so long for a run and so long for each unit in it; and with the real
// service, on the fake device (which waits instead of computing) and on the CPU with the shipped model.
//   job-static batches  four jobs at a time, the next four when the last of them is through. Counted is only the time from a group's
//                       first unit to its last, as if the next four were decoded meanwhile and the last ones encoded later; all that
//                       the service needs beside the device counts against the service.
//   run to completion   one job after the other, each with its decoding and encoding: on the CPU those take the device's own time.
// Both are taken in turn, A B, B A, ..., and the median of the pairs' ratios counts, beside it the quartiles of the pairs.
// The first part ends with the scheduler's own time with ten thousand jobs waiting.
#include "core/backend.h"
#include "daemon/job.h"
#include "tests/bench/bench.h"
#include "tests/unit/schedule_rig.h"
#include "tests/unit/service_rig.h"

#define JOBS   48 // fours
#define ROUNDS 7  // at most: those of a line end when there were three and LINE_S are over, so that the CPU's part takes five minutes at most
#define LINE_S 70

static const int mixed_steps[] = {5, 100, 10, 20}; // drafts to the best, at random
static const int profile_steps[] = {4, 12, 6, 6};  // the shipped model's fast, best and twice the default

static int median_order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, median_order);
    return v[n / 2];
}

// Sorted: median, and how far the middle half of them goes.
static void line_of(const char *what, double *v, int n, const char *aim)
{
    const double middle = median(v, n);
    printf("%-66s %6.2f   aim %s   (half of %d: %.2f to %.2f)\n", what, middle, aim, n, v[n / 4], v[n - 1 - n / 4]);
    fflush(stdout);
}

static void line(const char *what, double ratio, const char *aim)
{
    printf("%-66s %6.2f   aim %s\n", what, ratio, aim);
    fflush(stdout);
}

// ---- simulated time ------------------------------------------------------------------------------------------------

static sim world;
static yd_share one_owner, other_owner;

static void fresh(int max, double run_s, double unit_s, int places)
{
    yd_policy p = sim_policy();
    p.max_running = places;
    one_owner = other_owner = (yd_share){.weight = 1};
    sim_open(&world, &p, max, run_s, unit_s);
    world.prepare_s = 0.01;
}

// The place of a job in its four.
static int kind_of(int i)
{
    static int order[JOBS];
    unsigned r = 4;
    if (order[0] == order[1]) { // as many of each in every JOBS, shuffled
        for (int k = 0; k < JOBS; k++) order[k] = k;
        for (int k = JOBS - 1; k > 0; k--) {
            const int other = (int)(sim_random(&r) >> 4) % (k + 1), was = order[k];
            order[k] = order[other];
            order[other] = was;
        }
    }
    return order[i % JOBS] % 4;
}

static int steps_of(int i)
{
    return mixed_steps[kind_of(i)];
}

// Throughput against batches of four that start and end together; the same device, the same jobs of one window.
static double simulated_batches(double run_s, double unit_s)
{
    double static_s = 0;
    fresh(4, run_s, unit_s, 16);
    for (int i = 0; i < 10 * JOBS; i++) sim_job_at(&world, 0, &one_owner, steps_of(i), 1);
    sim_until(&world, HUGE_VAL);
    for (int i = 0; i < 10 * JOBS; i += 4)
        for (int step = 0, live = 4; live > 0; step++) {
            live = 0;
            for (int k = 0; k < 4; k++) live += steps_of(i + k) > step;
            if (live) static_s += run_s + unit_s * live;
        }
    return static_s / world.now_s;
}

static double simulated_short(int max, double run_s, double unit_s, yd_share *owner)
{
    fresh(max, run_s, unit_s, 8);
    const sim_job *alone = sim_job_at(&world, 0, owner, 200, 4);
    sim_until(&world, HUGE_VAL);
    const double alone_s = alone->end_s;
    fresh(max, run_s, unit_s, 8);
    sim_job_at(&world, 0, &one_owner, 100000, 100);
    const sim_job *behind = sim_job_at(&world, 30, owner, 200, 4);
    sim_until(&world, 100);
    return behind->ended ? (behind->end_s - 30) / alone_s : HUGE_VAL;
}

static double queue_us(int owners)
{
    static yd_share many[10000];
    memset(many, 0, sizeof many);
    fresh(1, 0, 0.01, 8);
    for (int i = 0; i < 10000; i++) {
        many[i].weight = 1;
        sim_job_at(&world, 0, &many[i % owners], 3 + i % 7, 1);
    }
    sim_until(&world, 0);
    const double t0 = bench_now_s();
    double worst = 0;
    for (int k = 0; k < 2000; k++) { // a run comes back, jobs start, the next is made: what the loop does for one
        const double t = bench_now_s();
        sim_until(&world, world.now_s + 0.01);
        const double took = bench_now_s() - t;
        if (took > worst) worst = took;
    }
    printf("%-66s %6.2f   at worst %.0f\n", owners > 1 ? "... of as many owners" : "us for a run, 10,000 jobs of one owner waiting",
           (bench_now_s() - t0) / 2000 * 1e6, worst * 1e6);
    return worst;
}

static void simulated(void)
{
    puts("# simulated time");
    line("throughput, mixed steps, over job-static batches of 4", simulated_batches(0.008, 0.0002), ">= 1.8");
    line("... where a unit costs a quarter of a run", simulated_batches(0.004, 0.001), ">= 1");
    line("short job behind a long one, over alone, one owner", simulated_short(1, 0, 0.01, &one_owner), "<= 2.2");
    line("... another owner's", simulated_short(1, 0, 0.01, &other_owner), "<= 2.2");
    line("... where batches of 8 pay", simulated_short(8, 0.008, 0.001, &one_owner), "<= 2.2");
    queue_us(1);
    queue_us(10000);
}

// ---- the real service ----------------------------------------------------------------------------------------------

typedef struct mix {
    const int *steps; // of the four kinds
    int jobs, group, side;
} mix;

static char ids[JOBS][64];

static void send_job(int i, int side, const char *settings)
{
    yd_job *j;
    int rc = try_submit(side, side, settings, &j);
    if (rc) {
        fprintf(stderr, "not taken: %s\n", err.detail);
        exit(1);
    }
    snprintf(ids[i], sizeof ids[i], "%s", yd_job_id(j));
}

static void wait_for(int from, int to)
{
    for (int i = from; i < to; i++)
        while (!ended(ids[i])) uv_run(&loop, UV_RUN_ONCE);
}

// From the moment that the first of some jobs is decoded to the last one's last unit.
static double on_device_s(int from, int to)
{
    int64_t first_us = INT64_MAX, last_us = 0;
    for (int i = from; i < to; i++) {
        const yd_job *j = job(ids[i]);
        if (j->computing_us < first_us) first_us = j->computing_us;
        if (j->encoding_us > last_us) last_us = j->encoding_us;
    }
    return (double)(last_us - first_us) / 1e6;
}

// All at once: none waits for the answer to the one before.
static void send_jobs(const mix *m, int from, int to)
{
    submitted answers[JOBS] = {0};
    for (int i = from; i < to; i++) {
        char steps[8];
        const yd_setting set[] = {{"steps", steps}, {"lower_bound", "1"}};
        yd_submission sub = {.settings = set, .n_settings = 2, .owner = "me"};
        snprintf(steps, sizeof steps, "%d", m->steps[kind_of(i)]);
        picture(m->side, m->side, 0, &sub.bytes, &sub.len);
        if (yd_service_submit(svc, &sub, on_submitted, &answers[i], NULL, &err)) {
            fprintf(stderr, "not taken: %s\n", err.detail);
            exit(1);
        }
    }
    for (int i = from; i < to; i++) {
        WAIT(answers[i].calls);
        snprintf(ids[i], sizeof ids[i], "%s", answers[i].id);
    }
}

static double all_s(const mix *m)
{
    const double t0 = bench_now_s();
    send_jobs(m, 0, m->jobs);
    wait_for(0, m->jobs);
    return bench_now_s() - t0;
}

// Each group only when the one before is through.
static double groups_s(const mix *m)
{
    const double t0 = bench_now_s();
    double device_s = 0;
    for (int i = 0; i < m->jobs; i += m->group) {
        send_jobs(m, i, i + m->group);
        wait_for(i, i + m->group);
        device_s += on_device_s(i, i + m->group);
    }
    return m->group > 1 ? device_s : bench_now_s() - t0;
}

static int more_rounds(int r, double began_s)
{
    return r < ROUNDS && (r < 3 || bench_now_s() - began_s < LINE_S);
}

// How many times as long so many jobs take in groups as all together.
static void over_groups(const char *what, const mix *m, const char *aim)
{
    const double t0 = bench_now_s();
    double ratio[ROUNDS];
    int r = 0;
    for (; more_rounds(r, t0); r++) {
        const double before = r % 2 ? 0 : groups_s(m), together = all_s(m);
        ratio[r] = (r % 2 ? groups_s(m) : before) / together;
    }
    line_of(what, ratio, r, aim);
}

static double short_seconds(int side, const char *settings)
{
    const double t0 = bench_now_s();
    send_job(1, side, settings);
    wait_for(1, 2);
    return bench_now_s() - t0;
}

// A short job beside a long one of the same owner, over the same job alone, in turns.
static void behind_a_long_one(const char *what, int side, const char *settings, int long_side)
{
    const double t0 = bench_now_s();
    double ratio[ROUNDS];
    int r = 0;
    short_seconds(side, settings);
    for (; more_rounds(r, t0); r++) {
        const double alone = short_seconds(side, settings);
        send_job(0, long_side, "steps=200 lower_bound=1");
        while (!strchr(history(ids[0]), '.') && !ended(ids[0])) uv_run(&loop, UV_RUN_ONCE);
        ratio[r] = short_seconds(side, settings) / alone;
        yd_service_delete(svc, job(ids[0]), NULL, NULL, &err);
    }
    line_of(what, ratio, r, "<= 2.2");
}

static void on_fake_device(void)
{
    puts("# the service on the fake device: runs of 4 ms + 0.1 ms a unit; then 2 ms a unit");
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    cfg.fake_batch_us = 4000;
    cfg.fake_unit_us = 100;
    cfg.max_batch = 4;
    cfg.max_running = 16;
    open_service();
    over_groups("throughput, mixed steps, over job-static batches of 4", &(mix){mixed_steps, JOBS, 4, 32}, ">= 1.8");
    behind_a_long_one("short job behind a long one, over alone, where batches pay", 64, "steps=4", 200);
    close_service();
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    cfg.fake_unit_us = 2000;
    open_service();
    behind_a_long_one("short job behind a long one, over alone", 64, "steps=4", 200);
    close_service();
}

// So many jobs on so many devices that take 4 ms for a unit.
static double on_devices_s(int n, const mix *m)
{
    char word[24];
    setup();
    cfg.content_cache = 0;
    cfg.fake_unit_us = 4000;
    cfg.max_running = 32;
    snprintf(word, sizeof word, "fake:%d", n);
    yd_config_set(&cfg, "device", word, NULL);
    open_service();
    const double took_s = all_s(m);
    close_service();
    return took_s;
}

static void on_several_devices(void)
{
    puts("# four fake devices, 4 ms a unit, over one");
    const double t0 = bench_now_s();
    double ratio[ROUNDS];
    int r = 0;
    for (; more_rounds(r, t0); r++) {
        const mix m = {mixed_steps, JOBS, 1, 32};
        const double before = r % 2 ? 0 : on_devices_s(1, &m), four = on_devices_s(4, &m);
        ratio[r] = (r % 2 ? on_devices_s(1, &m) : before) / four;
    }
    line_of("throughput of four devices over one", ratio, r, ">= 3.6");
}

static void on_the_cpu(void)
{
    const char *folder = getenv("YODA_MODELS");
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    yd_config_set(&cfg, "device", "cpu", NULL);
    yd_config_set(&cfg, "model_dir", folder ? folder : "models", NULL);
    yd_config_set(&cfg, "model", "yoda-compact-4x", NULL);
    open_service();
    puts("# the service on the CPU, the shipped model");
    over_groups("throughput, steps of the profiles, over run to completion", &(mix){profile_steps, 8, 1, 48}, ">= 0.98");
    over_groups("... 5 to 100 steps of small pictures", &(mix){mixed_steps, 8, 1, 32}, ">= 0.98");
    behind_a_long_one("short job behind a long one, over alone", 64, "steps=6", 300);
    close_service();
}

int main(int argc, char **argv)
{
    yd_cpu_prepare_process(argv);
    yd_log_set_level("error");
    const char *part = argc > 1 ? argv[1] : ""; // simulated, fake, devices or cpu alone
    if (!*part || strcmp(part, "simulated") == 0) simulated();
    if (!*part || strcmp(part, "fake") == 0) on_fake_device();
    if (!*part || strcmp(part, "devices") == 0) on_several_devices();
    if (!*part || strcmp(part, "cpu") == 0) on_the_cpu();
    return t_failed_checks > 0;
}
