// Where the service's work ends early, on the fake device: limits, cancelling, deleting, draining and closing, failures.
#include "tests/unit/service_rig.h"

static void limits(void)
{
    setup();
    cfg.max_pixels = 10000;
    cfg.max_output_pixels = 30000;
    cfg.queue_max = 2;
    cfg.max_running = 1;
    cfg.fake_unit_us = 20000;
    open_service();
    yd_job *j;
    CHECK(try_submit(101, 100, "", &j) == YD_E_IMAGE_TOO_LARGE && strstr(err.accepted, "10000"));
    CHECK(try_submit(90, 90, "", &j) == YD_E_IMAGE_TOO_LARGE && strstr(err.accepted, "7500"));
    CHECK(try_submit(8, 8, "", &j) == YD_E_IMAGE_TOO_SMALL);
    CHECK(submit_bytes(yd_strdup("no picture at all"), 17, "", &j) == YD_E_IMAGE_FORMAT);
    CHECK(yd_service_admit(svc, (size_t)cfg.max_body_bytes + 1, &err) == YD_E_BODY_TOO_LARGE &&
          strstr(err.detail, "33554432"));
    const char *running = submit(32, 32, "");
    submit(32, 32, "");
    submit(32, 32, "");
    CHECK(try_submit(32, 32, "", &j) == YD_E_QUEUE_FULL);
    CHECK(yd_service_admit(svc, 0, &err) == YD_E_QUEUE_FULL);
    CHECK(yd_service_retry_after_ms(svc) >= 1000);
    WAIT(ended(running));
    WAIT(yd_service_admit(svc, 0, &err) == 0);
    close_service();

    setup();
    cfg.max_memory_bytes = 1 << 20;
    open_service();
    CHECK(try_submit(400, 400, "", &j) == YD_E_IMAGE_TOO_LARGE && strstr(err.detail, "memory"));
    close_service();
}

// What a refusal names as accepted is accepted, and much more is not (a smaller file takes a little less, too).
static void accepted_is_the_largest(const char *settings, int w, int h)
{
    yd_job *j;
    int fit_w = 0, fit_h = 0;
    CHECK(try_submit(w, h, settings, &j) < 0);
    const char *words = strstr(err.accepted, "a picture of at most ");
    CHECK_MSG(words && sscanf(words, "a picture of at most %dx%d pixels", &fit_w, &fit_h) == 2, "%s", err.accepted);
    CHECK(fit_w >= 16 && fit_w < w && abs(fit_w * h - fit_h * w) <= w + h);
    CHECK_MSG(try_submit(fit_w, fit_h, settings, &j) == 0, "%dx%d: %s", fit_w, fit_h, err.detail);
    CHECK_MSG(try_submit(fit_w + fit_w / 8, fit_h + fit_h / 8, settings, &j) < 0, "an eighth more than %dx%d is taken", fit_w, fit_h);
}

static void refusals_name_the_largest(void)
{
    setup();
    cfg.max_memory_bytes = 8 << 20;
    open_service();
    accepted_is_the_largest("steps=1", 600, 400);
    accepted_is_the_largest("steps=1 report=true bit_depth=16", 300, 500);
    close_service();
    setup();
    cfg.max_job_units = 60;
    open_service();
    accepted_is_the_largest("steps=10", 400, 300); // windows times steps
    CHECK(strcmp(err.field, "steps") == 0 || strcmp(err.field, "image") == 0);
    yd_job *j;
    CHECK(try_submit(120, 120, "steps=20", &j) == YD_E_SETTING);
    int steps = 0;
    CHECK_MSG(sscanf(err.accepted, "at most %d steps", &steps) == 1 && steps == 60 / 25, "%s", err.accepted);
    CHECK(try_submit(32, 32, "steps=61", &j) == YD_E_SETTING && strstr(err.accepted, "no picture"));
    close_service();
}

// Where even one step is too much, fewer steps are no advice.
static void more_windows_than_units(void)
{
    setup();
    cfg.max_job_units = 3;
    open_service();
    yd_job *j;
    CHECK(try_submit(300, 300, "steps=1", &j) == YD_E_IMAGE_TOO_LARGE);
    CHECK_MSG(strcmp(err.field, "image") == 0 && *err.accepted && strstr(err.detail, "windows"), "%s: %s", err.field,
              err.detail);
    CHECK(try_submit(32, 32, "steps=4", &j) == YD_E_SETTING && strcmp(err.field, "steps") == 0);
    close_service();
}

static int has_steps(const char *id, int n)
{
    int seen = 0;
    for (const char *h = history(id); *h; h++) seen += *h == '.';
    return seen == n;
}

// The state is final at once, whoever holds the job; the holder lets go later, and the next job gets the place.
static void cancelled_in_every_stage(void)
{
    static const char *const stages[] = {"queued", "preparing", "computing", "encoding", "archiving"};
    setup();
    cfg.fake_unit_us = 1000;
    cfg.max_running = 1;
    open_service();
    for (int stage = 0; stage < 5; stage++) {
        const char *blocker = stage == 0 ? submit(64, 64, "steps=30") : NULL, *id = submit(64, 64, "steps=5");
        if (stage == 1) WAIT(state(id) != YD_JOB_QUEUED); // the job before may still be putting its pictures away
        if (stage == 2) WAIT(strchr(history(id), '.'));
        if (stage == 3) WAIT(has_steps(id, 5));
        if (stage == 4) WAIT(ended(id));
        CHECK_MSG(state(id) == (stage == 0   ? YD_JOB_QUEUED
                                : stage == 4 ? YD_JOB_SUCCEEDED
                                             : YD_JOB_RUNNING),
                  "%s: %d", stages[stage], state(id));
        int rc = yd_service_cancel(svc, job(id), &err);
        if (stage == 4) {
            CHECK(rc == YD_E_CONFLICT && state(id) == YD_JOB_SUCCEEDED);
        } else {
            yd_blob *none = NULL;
            CHECK_MSG(rc == 0 && state(id) == YD_JOB_CANCELLED, "%s: %d", stages[stage], rc);
            CHECK_MSG(history(id)[strlen(history(id)) - 1] == 'x', "%s: %s", stages[stage], history(id));
            CHECK(yd_service_result(svc, job(id), &none, &err) == YD_E_CANCELLED && !none);
            CHECK(yd_service_cancel(svc, job(id), &err) == 0); // again: no error, no second event
        }
        if (blocker) yd_service_delete(svc, job(blocker), NULL, NULL, &err);
        const char *next = submit(32, 32, "steps=1");
        WAIT(ended(next));
        CHECK_MSG(state(next) == YD_JOB_SUCCEEDED, "after %s", stages[stage]);
        const char *h = history(id);
        CHECK_MSG(strchr(h, 'x') == (stage == 4 ? NULL : h + strlen(h) - 1), "%s: %s", stages[stage], h);
        yd_service_delete(svc, job(id), NULL, NULL, &err);
    }
    close_service();
}

static const char *victim;
static void on_started(void *arg)
{
    (void)arg;
    if (victim && job(victim)) yd_service_delete(svc, job(victim), NULL, NULL, &err);
    victim = NULL;
}

// A job lets go of its place, the next one starts, and a reader of its events deletes the first at that very moment.
static void deleted_while_it_lets_go(void)
{
    setup();
    cfg.fake_unit_us = 20000;
    cfg.max_running = 1;
    open_service();
    const char *first = submit(64, 64, "steps=50"), *second = submit(32, 32, "steps=1");
    yd_subscription *sub;
    WAIT(strchr(history(first), 'a'));
    CHECK(yd_service_subscribe(svc, job(second), on_started, NULL, &sub, &err) == 0);
    victim = first;
    CHECK(yd_service_cancel(svc, job(first), &err) == 0);
    WAIT(ended(second));
    CHECK(victim == NULL && !job(first) && state(second) == YD_JOB_SUCCEEDED);
    yd_events_unsubscribe(sub);
    close_service();
}

static void nan_fails_the_job(void)
{
    setup();
    cfg.max_batch = 1;
    cfg.fake_nan_at = 3;
    open_service();
    const char *bad = submit(32, 32, ""), *good = submit(32, 32, "steps=40");
    WAIT(ended(bad) && ended(good));
    int failed = (state(bad) == YD_JOB_FAILED) + (state(good) == YD_JOB_FAILED);
    CHECK(failed == 1); // one unit was spoilt: one job
    const char *which = state(bad) == YD_JOB_FAILED ? bad : good;
    CHECK(yd_job_problem(job(which))->code == YD_E_NUMERIC);
    close_service();
}

static int drained, watched;
static void on_drained(void *arg)
{
    (void)arg;
    drained++;
}
static void on_drain(void *arg)
{
    (void)arg;
    watched++;
}

static void draining(void)
{
    setup();
    cfg.fake_unit_us = 3000;
    cfg.max_running = 1;
    open_service();
    drained = watched = 0;
    const char *id = submit(64, 64, "steps=10"), *next = submit(32, 32, "");
    yd_job *j;
    yd_service_on_drain(svc, on_drain, NULL);
    yd_service_drain(svc, 0, on_drained, NULL);
    CHECK(watched == 1 && drained == 0 && !yd_service_ready(svc, NULL) && yd_service_draining(svc));
    CHECK(try_submit(32, 32, "", &j) == YD_E_DRAINING);
    WAIT(drained == 1);
    CHECK(state(id) == YD_JOB_SUCCEEDED && state(next) == YD_JOB_SUCCEEDED);
    close_service();

    cfg.drain_timeout_ms = 50;
    open_service();
    drained = 0;
    id = submit(120, 120, "steps=500");
    yd_service_drain(svc, 0, on_drained, NULL);
    WAIT(drained == 1);
    CHECK(state(id) == YD_JOB_CANCELLED);
    close_service();

    cfg.drain_timeout_ms = 600000;
    open_service();
    drained = 0;
    id = submit(120, 120, "steps=500");
    next = submit(120, 120, "steps=500");
    yd_service_drain(svc, 0, on_drained, NULL);
    yd_service_drain(svc, 1, NULL, NULL); // the second signal
    WAIT(drained == 1);
    CHECK(state(id) == YD_JOB_CANCELLED && state(next) == YD_JOB_CANCELLED);
    close_service();

    open_service();
    drained = 0;
    yd_service_drain(svc, 0, on_drained, NULL); // nothing to do, but not from inside either
    CHECK(drained == 0);
    WAIT(drained == 1);
    close_service();
}

static void finished_jobs_expire(void)
{
    setup();
    cfg.max_finished_jobs = 2;
    open_service();
    yd_job *j;
    const char *id[4];
    for (int i = 0; i < 4; i++) { // one after the other, so that it is known which ended first
        id[i] = submit(32, 32, "");
        WAIT(ended(id[i]) || i == 3);
    }
    WAIT(yd_service_find(svc, "me", id[1], &j, &err) == YD_E_GONE); // the sweep comes once a second
    CHECK(yd_service_find(svc, "me", id[0], &j, &err) == YD_E_GONE);
    CHECK(job(id[2]) && job(id[3]));
    close_service();
}

static void close_at_any_time(const char *state_dir, int most)
{
    for (int delay = 0; delay < most; delay++) {
        setup();
        cfg.fake_unit_us = 1000;
        cfg.queue_max = 1000;
        cfg.checkpoint_interval_ms = 5;
        snprintf(cfg.state_dir, sizeof cfg.state_dir, "%s", state_dir);
        open_service();
        for (int i = 0; i < 6; i++) submit(60, 60, "steps=50");
        answer a = {0};
        yd_picture_want want = {YD_PICTURE_PREVIEW, 0, 0, 0};
        int64_t until = yd_mono_us() + delay * 3000;
        while (yd_mono_us() < until) uv_run(&loop, UV_RUN_NOWAIT);
        const char *id = submit(60, 60, "");
        yd_service_picture(svc, job(id), &want, on_picture, &a, NULL, &err);
        // And one that is on its way: looked at, stored, or neither.
        void *bytes;
        size_t len;
        submitted late = {0};
        picture(40, 40, 1, &bytes, &len);
        yd_submission sub = {.bytes = bytes, .len = len, .owner = "me"};
        CHECK(yd_service_submit(svc, &sub, on_submitted, &late, NULL, &err) == 0);
        for (int turns = delay; turns > 0; turns--) uv_run(&loop, UV_RUN_NOWAIT);
        close_service();
        CHECK(late.calls == 1);
        yd_blob_unref(a.blob);
    }
}

static void close_in_the_middle(void)
{
    close_at_any_time("", 12);
}

// Every process leaves its jobs to the next; the last one finishes them.
static void close_in_the_middle_on_disk(void)
{
    char folder[] = "build/test-close-XXXXXX", command[64];
    CHECK(mkdtemp(folder) != NULL);
    close_at_any_time(folder, 6);
    setup();
    snprintf(cfg.state_dir, sizeof cfg.state_dir, "%s", folder);
    open_service();
    json_t *page = NULL;
    const char *last = submit(40, 40, "steps=1 priority=low");
    WAIT(ended(last));
    for (int open = 1; open;) {
        uv_run(&loop, UV_RUN_ONCE);
        CHECK(yd_service_list(svc, "me", YD_JOB_QUEUED, NULL, 1, &page, &err) == 0);
        open = (int)json_array_size(json_object_get(page, "jobs"));
        json_decref(page);
        CHECK(yd_service_list(svc, "me", YD_JOB_RUNNING, NULL, 1, &page, &err) == 0);
        open += (int)json_array_size(json_object_get(page, "jobs"));
        json_decref(page);
    }
    CHECK(yd_service_list(svc, "me", YD_JOB_SUCCEEDED, NULL, 200, &page, &err) == 0);
    const int done = (int)json_array_size(json_object_get(page, "jobs"));
    CHECK_MSG(done >= 6 * 7 + 1 && done <= 6 * 8 + 1, "%d have succeeded", done); // those on their way may have been refused
    json_decref(page);
    close_service();
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    CHECK(system(command) == 0);
}

static void out_of_memory(void)
{
    setup();
    open_service();
    int refused = 0, taken = 0;
    for (long k = 1; k < 60; k++) {
        void *bytes;
        size_t len;
        yd_job *j = NULL;
        picture(32, 32, 0, &bytes, &len);
        yd_mem_fail_at(k);
        int rc = submit_bytes(bytes, len, "", &j);
        yd_mem_fail_at(0);
        CHECK_MSG(rc == 0 || rc == YD_E_NOMEM, "%d %s", rc, err.detail);
        refused += rc != 0;
        taken += rc == 0;
        if (rc) continue;
        char id[64];
        snprintf(id, sizeof id, "%s", yd_job_id(j));
        WAIT(ended(id)); // one way or the other
    }
    CHECK(refused >= 3 && taken >= 3);
    const char *id = submit(32, 32, "");
    WAIT(ended(id));
    CHECK(state(id) == YD_JOB_SUCCEEDED);
    close_service();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"service: refusals name the largest that would fit", refusals_name_the_largest},
        {"service: limits", limits},
        {"service: more windows than units", more_windows_than_units},
        {"service: cancelled in every stage", cancelled_in_every_stage},
        {"service: a job deleted while it lets go of its place", deleted_while_it_lets_go},
        {"service: NaN fails the job", nan_fails_the_job},
        {"service: drain", draining},
        {"service: finished jobs expire", finished_jobs_expire},
        {"service: closed in the middle", close_in_the_middle},
        {"service: closed in the middle, jobs on disk", close_in_the_middle_on_disk},
        {"service: no memory", out_of_memory},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
