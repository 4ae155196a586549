// Equal requests at a time: one is computed, and when it is cancelled the next goes on where it was, with the same bytes.
#include "daemon/service_internal.h"
#include "tests/unit/service_rig.h"

#define STEPS 6
#define ASKED "steps=6 lower_bound=1 seed=5" // 128 x 128: 9 windows

static char alone[65]; // digest of the result of a job that nobody disturbed

static void note_alone(void)
{
    setup();
    open_service();
    const char *id = submit(64, 64, ASKED);
    WAIT(ended(id));
    yd_blob *b = result(id);
    if (b) memcpy(alone, b->sha256, sizeof alone);
    yd_blob_unref(b);
    close_service();
}

static int same_as_alone(const char *id)
{
    yd_blob *b = result(id);
    const int same = b && strcmp(b->sha256, alone) == 0;
    yd_blob_unref(b);
    return same;
}

static void cancel(const char *id)
{
    CHECK(yd_service_cancel(svc, job(id), &err) == 0);
}

static long computed(const char *id)
{
    return job(id)->computed;
}

// After a number of units, so in the middle of steps and between two: each time another one goes on, and every unit is computed once.
static void the_next_goes_on(void)
{
    static const int after[] = {1, 4, 9, 13, 27, 48};
    for (size_t k = 0; k < sizeof after / sizeof after[0]; k++) {
        setup();
        cfg.fake_unit_us = 3000;
        cfg.max_batch = 1;
        open_service();
        const char *first = submit(64, 64, ASKED), *second = submit(64, 64, ASKED " preview_every=1"), *third = submit(64, 64, ASKED);
        CHECK(job(second)->leader == job(first) && job(third)->leader == job(first));
        WAIT(computed(first) >= after[k]);
        cancel(first);
        WAIT(computed(second) > 0);
        cancel(second);
        WAIT(ended(third));
        CHECK(state(first) == YD_JOB_CANCELLED && state(second) == YD_JOB_CANCELLED && state(third) == YD_JOB_SUCCEEDED);
        CHECK_MSG(same_as_alone(third), "after %d units", after[k]);
        const long sum = computed(first) + computed(second) + computed(third);
        CHECK_MSG(sum == 9 * STEPS, "%ld + %ld + %ld units", computed(first), computed(second), computed(third));
        CHECK_MSG(strncmp(history(third), "qsa.", 4) == 0 || strncmp(history(third), "qsa+", 4) == 0, "%s", history(third));
        WAIT(svc->sched.n_running == 0);
        CHECK(svc->sched.memory == 0);
        close_service();
    }
}

// One that is cancelled before it has begun leaves what it was given to the next; one that is deleted does too.
static void through_many_hands(void)
{
    const char *id[8];
    setup();
    cfg.fake_unit_us = 2000;
    open_service();
    for (int i = 0; i < 8; i++) id[i] = submit(64, 64, ASKED);
    WAIT(computed(id[0]) >= 11);
    cancel(id[0]);
    cancel(id[1]); // follows still
    WAIT(state(id[2]) == YD_JOB_RUNNING);
    cancel(id[2]);
    WAIT(state(id[3]) == YD_JOB_RUNNING);
    const long so_far = computed(id[0]) + computed(id[2]);
    CHECK(yd_service_delete(svc, job(id[3]), NULL, NULL, &err) == 0);
    const char *late = submit(64, 64, ASKED); // follows, too
    WAIT(ended(late));
    CHECK(job(id[0])->stage == YD_STAGE_DONE && computed(id[0]) >= 11 && computed(id[1]) == 0);
    for (int i = 4; i < 8; i++) WAIT(ended(id[i]));
    for (int i = 4; i < 8; i++) CHECK(state(id[i]) == YD_JOB_SUCCEEDED && same_as_alone(id[i]));
    CHECK(same_as_alone(late));
    CHECK_MSG(computed(id[4]) <= 9 * STEPS - so_far, "%ld, %ld were there", computed(id[4]), so_far);
    close_service();
}

static void a_deadline_is_ones_own(void)
{
    setup();
    cfg.fake_unit_us = 2000;
    cfg.max_running = 1;
    open_service();
    const char *before = submit(64, 64, "steps=30 lower_bound=1 seed=9");
    const char *hurry = submit(64, 64, ASKED " deadline_ms=50"), *patient = submit(64, 64, ASKED);
    CHECK(job(patient)->leader == job(hurry));
    WAIT(ended(hurry));
    CHECK(state(hurry) == YD_JOB_FAILED && !ended(patient) && !ended(before));
    WAIT(ended(patient));
    CHECK(state(patient) == YD_JOB_SUCCEEDED && same_as_alone(patient));
    close_service();
}

static void closing_with_an_heir(void)
{
    setup();
    cfg.fake_unit_us = 20000;
    open_service();
    const char *first = submit(64, 64, ASKED);
    submit(64, 64, ASKED);
    submit(64, 64, ASKED);
    WAIT(computed(first) >= 2);
    cancel(first); // a unit is still on the device
    close_service();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"share: the next goes on", the_next_goes_on},
        {"share: through many hands", through_many_hands},
        {"share: a deadline is one's own", a_deadline_is_ones_own},
        {"share: closing with an heir", closing_with_an_heir},
    };
    yd_log_set_level("error");
    note_alone();
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
