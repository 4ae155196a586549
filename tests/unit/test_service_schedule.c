// The scheduler's policy as clients of the service meet it, on the fake device: owners, priorities, deadlines, estimates, Retry-After.
#include "tests/unit/service_rig.h"

#include <math.h>

#define MANY 12

// Submit for an owner and wait for the answer; the id is the caller's.
static void submit_for(const char *owner, int w, int h, const char *name, const char *value, const char *steps, char *id)
{
    const yd_setting set[] = {{"steps", steps}, {"lower_bound", "1"}, {name, value}};
    yd_submission sub = {.settings = set, .n_settings = name ? 3 : 2, .owner = owner};
    submitted told = {0};
    picture(w, h, 0, &sub.bytes, &sub.len);
    int rc = yd_service_submit(svc, &sub, on_submitted, &told, NULL, &err);
    if (!rc) {
        WAIT(told.calls == 1);
        rc = told.rc;
    }
    CHECK_MSG(rc == 0, "%s", err.detail);
    snprintf(id, 64, "%s", rc ? "none" : told.id);
}

static yd_job *job_of(const char *owner, const char *id)
{
    yd_job *j = NULL;
    return yd_service_find(svc, owner, id, &j, &err) ? NULL : j;
}

static int over(const char *owner, const char *id)
{
    return yd_job_state_final(yd_job_state_of(job_of(owner, id)));
}

static void a_flood_delays_its_owner(void)
{
    char flood[MANY][64], one[64];
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    cfg.fake_unit_us = 1000;
    cfg.share_slack_ms = 50;
    open_service();
    for (int i = 0; i < MANY; i++) submit_for("many", 64, 64, NULL, NULL, "12", flood[i]); // 9 windows each
    WAIT(over("many", flood[0]));
    submit_for("one", 120, 120, NULL, NULL, "8", one);
    WAIT(over("one", one));
    int waiting = 0;
    for (int i = 0; i < MANY; i++) waiting += yd_job_state_of(job_of("many", flood[i])) == YD_JOB_QUEUED;
    CHECK_MSG(waiting >= 5, "%d of the many were still waiting", waiting); // half the device each: two of them meanwhile
    close_service();
}

static void priorities_and_deadlines(void)
{
    char id[5][64];
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    cfg.fake_unit_us = 1000;
    cfg.max_running = 1;
    open_service();
    submit_for("me", 100, 100, NULL, NULL, "20", id[0]);
    submit_for("me", 64, 64, "priority", "low", "2", id[1]);
    submit_for("me", 100, 100, "priority", "high", "4", id[2]);
    submit_for("me", 100, 100, "deadline_ms", "60", "4", id[3]);
    submit_for("me", 64, 64, "deadline_ms", "60000", "1", id[4]);
    json_t *o = yd_service_job_json(svc, job(id[2])), *set = json_object_get(o, "settings");
    CHECK(strcmp(json_string_value(json_object_get(set, "priority")), "high") == 0 && number_at(o, "settings", "deadline_ms") == 0);
    CHECK(number_at(o, "queue", "position") == 1);
    json_decref(o);
    o = yd_service_job_json(svc, job(id[1]));
    CHECK_MSG(number_at(o, "queue", "position") == 4, "%g", number_at(o, "queue", "position"));
    json_decref(o);
    WAIT(ended(id[3]));
    CHECK(state(id[3]) == YD_JOB_FAILED && yd_job_problem(job(id[3]))->code == YD_E_DEADLINE);
    CHECK(state(id[0]) == YD_JOB_RUNNING);
    const char *h = history(id[3]);
    CHECK_MSG(strcmp(h, "q-") == 0, "%s", h);
    WAIT(ended(id[2]));
    CHECK(!ended(id[1]) && !ended(id[4]));
    WAIT(ended(id[1]) && ended(id[4]));
    CHECK(state(id[4]) == YD_JOB_SUCCEEDED && state(id[1]) == YD_JOB_SUCCEEDED);
    yd_job *j;
    CHECK(try_submit(32, 32, "priority=urgent", &j) == YD_E_SETTING && strstr(err.accepted, "high"));
    CHECK(try_submit(32, 32, "deadline_ms=-1", &j) == YD_E_SETTING && strcmp(err.field, "deadline_ms") == 0);
    close_service();
}

// A job that asks for more than is free waits no longer than it takes to empty the memory.
static void large_jobs_get_memory(void)
{
    char id[24][64], large[64];
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    cfg.fake_unit_us = 500;
    cfg.max_memory_bytes = 12 << 20;
    cfg.reserve_after_ms = 100;
    cfg.share_slack_ms = 0;
    open_service();
    for (int i = 0; i < 4; i++) submit_for("small", 64, 64, NULL, NULL, "10", id[i]);
    submit_for("large", 250, 180, NULL, NULL, "1", large);
    for (int i = 4; i < 24; i++) submit_for("small", 64, 64, NULL, NULL, "10", id[i]);
    WAIT(yd_job_state_of(job_of("large", large)) != YD_JOB_QUEUED);
    int waiting = 0;
    for (int i = 0; i < 24; i++) waiting += yd_job_state_of(job_of("small", id[i])) == YD_JOB_QUEUED;
    CHECK_MSG(waiting >= 10, "%d of the small were still waiting", waiting);
    close_service();
}

static double eta_s(const char *id)
{
    json_t *o = yd_service_job_json(svc, job(id));
    const double eta = number_at(o, "queue", "eta_s");
    json_decref(o);
    return eta;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// A queue of mixed jobs, when nothing else comes. 1: the estimates were good; otherwise why[256] says which was not.
static int estimates_held(int batch_us, int max_batch, char why[256])
{
    static const char *const steps[] = {"2", "12", "4", "7"};
    char id[MANY][64], first[64];
    double eta[MANY], took[MANY] = {0}, slower[MANY];
    int left = MANY, off = 0;
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    cfg.fake_unit_us = 9000; // much longer than what a busy machine adds
    cfg.fake_batch_us = batch_us;
    cfg.max_batch = max_batch;
    cfg.max_running = 16;
    open_service();
    submit_for("me", 100, 80, NULL, NULL, "20", first);
    WAIT(ended(first)); // what a unit takes and the pool's part are known now
    for (int i = 0; i < MANY; i++) submit_for("me", 40 + 20 * (i % 3), 50, NULL, NULL, steps[i % 4], id[i]);
    for (int i = 0; i < MANY; i++) eta[i] = eta_s(id[i]);
    const int64_t t0 = yd_mono_us();
    while (left > 0 && yd_mono_us() - t0 < PATIENCE_US) {
        uv_run(&loop, UV_RUN_ONCE);
        for (int i = 0; i < MANY; i++)
            if (took[i] == 0 && ended(id[i])) {
                took[i] = (double)(yd_mono_us() - t0) / 1e6;
                left--;
            }
    }
    CHECK(left == 0);
    // How fast the machine is may change under a test, for all jobs alike: that is not the policy's fault.
    for (int i = 0; i < MANY; i++) slower[i] = took[i] / eta[i];
    qsort(slower, MANY, sizeof slower[0], by_size);
    const double pace = slower[MANY / 2];
    if (!(pace > 0.6 && pace < 1.7)) snprintf(why, 256, "all is %g times as slow as estimated", pace);
    for (int i = 0; i < MANY; i++) {
        const double wrong = fabs(eta[i] * pace - took[i]) / (took[i] > 0.2 ? took[i] : 0.2);
        if (!(wrong < 0.5)) snprintf(why, 256, "job %d: %g s, not %g", i, eta[i], took[i]);
        off += wrong > 0.25;
    }
    if (off > 2) snprintf(why, 256, "%d of %d are more than a quarter off", off, MANY);
    close_service();
    return !*why;
}

// Whatever else the machine does in one part of a run only is no fault of the estimates either: they must hold in one of three.
static void estimates_hold(int batch_us, int max_batch)
{
    char why[256];
    int held = 0;
    for (int i = 0; i < 3 && !held; i++) {
        *why = 0;
        held = estimates_held(batch_us, max_batch, why);
    }
    CHECK_MSG(held, "%s", why);
}

static void estimates_of_a_queue(void)
{
    estimates_hold(0, 1);
}

static void estimates_where_batches_pay(void)
{
    estimates_hold(24000, 4);
}

static void retry_after_is_when_a_place_is_free(void)
{
    char id[8][64];
    setup();
    cfg.content_cache = 0; // equal jobs are computed, each
    cfg.fake_unit_us = 5000; // much longer than what a busy machine adds
    cfg.queue_max = 2;
    cfg.max_running = 1;
    open_service();
    submit_for("me", 64, 64, NULL, NULL, "8", id[0]);
    WAIT(ended(id[0]));
    for (int i = 1; i < 4; i++) { // 25 windows each
        submit_for("me", 120, 120, NULL, NULL, "16", id[i]);
        if (i == 1) WAIT(strchr(history(id[1]), '.'));
    }
    CHECK(yd_service_admit(svc, 0, &err) == YD_E_QUEUE_FULL);
    const int64_t t0 = yd_mono_us();
    const double told_s = (double)yd_service_retry_after_ms(svc) / 1000;
    CHECK(told_s > 1.5);
    WAIT(yd_service_admit(svc, 0, &err) == 0);
    const double took_s = (double)(yd_mono_us() - t0) / 1e6;
    CHECK_MSG(told_s < 1.6 * took_s && told_s > 0.6 * took_s, "told %g s, it took %g", told_s, took_s);
    close_service();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"schedule: a flood delays its owner", a_flood_delays_its_owner},
        {"schedule: priorities and deadlines", priorities_and_deadlines},
        {"schedule: large jobs get their memory", large_jobs_get_memory},
        {"schedule: estimates of a queue", estimates_of_a_queue},
        {"schedule: estimates where batches pay", estimates_where_batches_pay},
        {"schedule: Retry-After is when a place is free", retry_after_is_when_a_place_is_free},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
