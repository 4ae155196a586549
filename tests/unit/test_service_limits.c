// What a key's limits count: jobs from the moment that they are taken to their end, units of work as far as they were computed.
#include "core/keys.h"
#include "daemon/service_internal.h"
#include "tests/unit/service_rig.h"

#include <unistd.h>

#define MANY 6
#define HOUR 10000 // units

static char key_path[] = "/tmp/yodad-limits-XXXXXX";

static void open_with(const char *limits)
{
    const int fd = mkstemp(key_path);
    CHECK(fd >= 0);
    dprintf(fd, "me %064d %s\n", 7, limits);
    close(fd);
    yd_config_set(&cfg, "keys", key_path, NULL);
    open_service();
}

static void close_with(void)
{
    close_service();
    unlink(key_path);
    memcpy(key_path + strlen(key_path) - 6, "XXXXXX", 6);
}

// Units that the owner has left now.
static double left(void)
{
    double least = 0, most = HOUR;
    while (most - least > 0.25) {
        const double half = (least + most) / 2;
        long ms;
        if (yd_keys_work(svc->keys, "me", half, yd_mono_us(), &ms, &err))
            most = half;
        else {
            yd_keys_give_back(svc->keys, "me", half, yd_mono_us());
            least = half;
        }
    }
    return least;
}

// Units that are gone; what comes back while a test runs is less than a hundred.
static int gone(double units, double slack)
{
    const double now = HOUR - left();
    return now <= units + 1 && now >= units - slack;
}

static void ask(const char *seed, submitted *told)
{
    const yd_setting set[] = {{"steps", "100"}, {"lower_bound", "1"}, {"seed", seed}};
    yd_submission sub = {.settings = set, .n_settings = 3, .owner = "me"};
    picture(32, 32, 0, &sub.bytes, &sub.len);
    const int rc = yd_service_submit(svc, &sub, on_submitted, told, NULL, &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
}

static void cancel(const char *id)
{
    CHECK(yd_service_cancel(svc, job(id), &err) == 0);
}

static void jobs_at_a_time(void)
{
    submitted told[MANY] = {0}, after[MANY] = {0};
    setup();
    cfg.fake_unit_us = 3000;
    open_with("jobs=3");
    // One leads, one follows it, one is another: three. Those behind them come in the same moment and are too many.
    const char *const seed[MANY] = {"1", "1", "2", "3", "1", "4"};
    for (int i = 0; i < MANY; i++) ask(seed[i], &told[i]);
    int taken = 0;
    const char *id[MANY];
    for (int i = 0; i < MANY; i++) {
        WAIT(told[i].calls == 1);
        CHECK_MSG(told[i].rc == 0 || told[i].rc == YD_E_LIMIT, "%d", told[i].rc);
        if (!told[i].rc) id[taken++] = told[i].id;
    }
    CHECK_MSG(taken == 3, "%d were taken", taken);
    CHECK(yd_service_admit_owner(svc, "me", &err) == YD_E_LIMIT && err.retry_ms >= 1000);
    CHECK(yd_service_admit_owner(svc, "other", &err) == 0);
    cancel(id[0]);
    CHECK(yd_service_admit_owner(svc, "me", &err) == 0); // at once
    ask("5", &after[0]);
    WAIT(after[0].calls == 1);
    CHECK(after[0].rc == 0 && yd_service_admit_owner(svc, "me", &err) == YD_E_LIMIT);
    for (int i = 1; i < taken; i++) cancel(id[i]);
    WAIT(ended(after[0].id));
    CHECK(yd_owners_jobs(svc->owners, "me") == 0); // finished jobs are kept, and do not count
    close_with();
}

static void (*real_submit)(yd_store *s, yd_store_op *op);

static void refuse_put(yd_store *s, yd_store_op *op)
{
    if (op->kind != YD_OP_PUT) {
        real_submit(s, op);
        return;
    }
    op->rc = yd_fail(&op->err, YD_E_STORAGE, "no room");
    op->done(op);
    yd_store_op_free(op);
}

static void units_come_back(void)
{
    char limits[64];
    yd_job *j;
    setup();
    cfg.fake_unit_us = 1000;
    cfg.max_running = 1;
    snprintf(limits, sizeof limits, "jobs=9 units_per_hour=%d", HOUR);
    open_with(limits);
    CHECK(gone(0, 1));

    real_submit = svc->store->submit;
    svc->store->submit = refuse_put;
    CHECK(try_submit(32, 32, "steps=1000 lower_bound=1", &j) == YD_E_STORAGE);
    svc->store->submit = real_submit;
    CHECK_MSG(gone(0, 1) && yd_owners_jobs(svc->owners, "me") == 0, "%g are left", left()); // never a job

    const char *first = submit(32, 32, "steps=1000 lower_bound=1 seed=1"), *follower = submit(32, 32, "steps=1000 lower_bound=1 seed=1");
    const char *waits = submit(32, 32, "steps=2000 lower_bound=1 seed=2");
    CHECK_MSG(gone(4000, 50), "%g are left", left());
    cancel(waits);
    CHECK_MSG(gone(2000, 50), "%g are left", left()); // nothing of it was computed
    cancel(follower);
    CHECK_MSG(gone(1000, 50), "%g are left", left());
    WAIT(strchr(history(first), '.'));
    cancel(first);
    WAIT(gone(30, 50)); // a few units were
    close_with();
}

// Grey, with something to see in a corner.
static const char *submit_corner(void)
{
    static char id[2][64];
    static int next;
    yd_image im = {0};
    yd_output png;
    void *bytes;
    size_t len;
    yd_job *j = NULL;
    CHECK(yd_image_alloc(&im, 200, 200, 0, &err) == 0);
    for (int y = 0; y < 200; y++)
        for (int x = 0; x < 200; x++)
            for (int c = 0; c < 3; c++) im.rgb[(y * 200 + x) * 3 + c] = yd_widen(x < 20 && y < 20 ? (uint8_t)(x * y * 13) : 128);
    yd_output_init(&png);
    CHECK(yd_image_encode(&im, &png, &bytes, &len, &err) == 0);
    yd_image_clear(&im);
    CHECK_MSG(submit_bytes(bytes, len, "steps=100 lower_bound=0.1 mask_form=max", &j) == 0, "%s", err.detail);
    char *to = id[next++ % 2];
    snprintf(to, sizeof id[0], "%s", yd_job_id(j));
    return to;
}

static void what_is_masked_costs_nothing(void)
{
    char limits[64];
    setup();
    snprintf(limits, sizeof limits, "units_per_hour=%d", HOUR);
    open_with(limits);
    const char *id = submit_corner(); // 64 windows
    WAIT(ended(id));
    WAIT(job(id)->stage == YD_STAGE_DONE);
    const yd_job_progress *p = &job(id)->rec.progress;
    CHECK_MSG(p->windows_skipped > 500 && p->windows_done == p->windows_total, "%ld skipped, %ld of %ld done", (long)p->windows_skipped, (long)p->windows_done, (long)p->windows_total);
    CHECK_MSG(gone((double)p->windows_total, 100), "%g are left, %ld were computed", left(), (long)p->windows_total);
    const char *again = submit_corner(); // is answered from the cache
    CHECK(ended(again) && gone((double)p->windows_total, 100));
    close_with();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"limits: jobs at a time", jobs_at_a_time},
        {"limits: units that were not computed come back", units_come_back},
        {"limits: what is masked costs nothing", what_is_masked_costs_nothing},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
