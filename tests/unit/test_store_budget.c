// Budgets that replicas on one Redis share: units of work and jobs at a time to the last one, requests in the long run, nothing without the server.
#include "daemon/store_redis.h"

#include "daemon/clock.h"
#include "daemon/log.h"
#include "tests/unit/loop_rig.h"
#include "tests/unit/redis_rig.h"

#define STORES 3
#define BURST  24

static yd_err err;
static yd_store *store[STORES];
static char folder[STORES][64];

static int begin(void)
{
    if (!redis_is_installed()) {
        t_skip("redis-server is not installed");
        return 1;
    }
    redis_start();
    loop_begin(5);
    for (int i = 0; i < STORES; i++) {
        snprintf(folder[i], sizeof folder[i], "build/test-budget-XXXXXX");
        CHECK(mkdtemp(folder[i]) != NULL);
        CHECK_MSG(yd_store_redis_open_with(&loop, redis_url, folder[i], &(yd_redis_options){.several = 1, .lease_ms = 60000, .snapshot_every = 100000}, &store[i], &err) == 0, "%s", err.detail);
    }
    return 0;
}

static int closed;
static void on_closed(void *arg)
{
    (void)arg;
    closed++;
}

static void end(void)
{
    closed = 0;
    for (int i = 0; i < STORES; i++) store[i]->close(store[i], on_closed, NULL);
    while (closed < STORES) uv_run(&loop, UV_RUN_ONCE);
    for (int i = 0; i < STORES; i++) {
        char command[128];
        snprintf(command, sizeof command, "rm -rf '%.63s'", folder[i]);
        CHECK(system(command) == 0);
    }
    loop_end();
    redis_end();
}

// ---- new records ---------------------------------------------------------------------------------------------------

static int on_way, taken, limited, others;
static long wait_told;
static char taken_id[YD_ID_MAX];

static void on_put(yd_store_op *op)
{
    on_way--;
    taken += op->rc == 0;
    limited += op->rc == YD_E_LIMIT;
    others += op->rc != 0 && op->rc != YD_E_LIMIT;
    if (op->rc == 0) memcpy(taken_id, op->rec.id, sizeof taken_id);
    if (op->rc == YD_E_LIMIT) wait_told = op->err.retry_ms;
}

static void hand_in(int at, yd_store_op_kind kind, const char *id, yd_job_state state, yd_charge charge)
{
    yd_job_record r = {.state = state};
    yd_model_config cfg;
    yd_config daemon;
    yd_model_config_init(&cfg);
    yd_config_init(&daemon);
    yd_job_settings_init(&r.settings, &cfg, &daemon);
    snprintf(r.id, sizeof r.id, "%s", id);
    snprintf(r.owner, sizeof r.owner, "me");
    yd_store_op *op = yd_store_op_new(kind, &r, on_put, NULL);
    op->now_ms = 1000;
    op->charge = charge;
    on_way++;
    store[at]->submit(store[at], op);
    yd_job_record_clear(&r);
}

// Put n records at all replicas in one moment; count what becomes of them.
static void burst(int n, yd_charge charge)
{
    static int next;
    char id[YD_ID_MAX];
    taken = limited = others = 0;
    for (int i = 0; i < n; i++) {
        snprintf(id, sizeof id, "job-%d", next++);
        hand_in(i % STORES, YD_OP_PUT, id, YD_JOB_QUEUED, charge);
    }
    while (on_way) uv_run(&loop, UV_RUN_ONCE);
    CHECK_MSG(!others, "%d of %d were neither taken nor too many", others, n);
}

static void units(void)
{
    if (begin()) return;
    const yd_charge c = {.units = 30, .most = 100};
    burst(BURST, c);
    CHECK_MSG(taken == 3 && limited == BURST - 3, "%d were taken, %d were too many", taken, limited);
    CHECK_MSG(wait_told > 300000 && wait_told <= 720000, "come again after %ld ms", wait_told); // 20 of 30 at 100 an hour
    store[1]->give_back(store[1], "me", 45, 100); // 10 and what it gained, and this
    wait_ms(100);
    burst(BURST, c);
    CHECK_MSG(taken == 1, "%d were taken of what was given back", taken);
    burst(1, (yd_charge){.units = 30, .most = 0.1});
    CHECK(limited == 1);
    burst(BURST, (yd_charge){0});
    CHECK_MSG(taken == BURST, "who is not counted is taken: %d", taken);
    store[0]->give_back(store[0], "me", 1e9, 100); // never more than an hour's
    wait_ms(100);
    burst(BURST, c);
    CHECK_MSG(taken == 3, "%d were taken of a full budget", taken);
    end();
}

static void jobs_at_a_time(void)
{
    if (begin()) return;
    const yd_charge c = {.jobs = 4};
    burst(BURST, c);
    CHECK_MSG(taken == 4 && limited == BURST - 4, "%d were taken", taken);
    for (int i = 0; i < STORES; i++) CHECK(store[i]->unfinished(store[i], "me") == 4 && store[i]->unfinished(store[i], "other") == 0);
    hand_in(0, YD_OP_REMOVE, taken_id, YD_JOB_QUEUED, (yd_charge){0});
    while (on_way) uv_run(&loop, UV_RUN_ONCE);
    burst(BURST, c);
    CHECK_MSG(taken == 1, "%d were taken in the place of one", taken);
    end();
}

// ---- requests ------------------------------------------------------------------------------------------------------

// Ask at all replicas as often as goes within a time: how many were let through, and the last refusal.
static int ask(int64_t ms, int *refusal)
{
    const int64_t until = yd_mono_us() + ms * 1000;
    long wait;
    int n = 0;
    *refusal = 0;
    while (yd_mono_us() < until) {
        for (int i = 0; i < STORES; i++) {
            const int rc = store[i]->spend(store[i], "me", 100, 60, &wait, &err);
            n += rc == 0;
            if (rc) *refusal = rc;
        }
        uv_run(&loop, UV_RUN_ONCE);
    }
    return n;
}

static void requests(void)
{
    int refusal;
    long wait = 0;
    if (begin()) return;
    ask(500, &refusal); // what there was at first, perhaps three times
    CHECK(refusal == YD_E_LIMIT);
    const int64_t began = yd_mono_us();
    const int n = ask(3000, &refusal);
    const double gained = 100 * (double)(yd_mono_us() - began) / 1e6;
    CHECK_MSG(refusal == YD_E_LIMIT && n > gained / 4 && n < gained + 60, "%d requests, where %.0f may be", n, gained);
    // Each has heard of some; without the server no more than that is spent, by all of them together.
    wait_ms(600);
    for (int i = 0; i < STORES; i++) CHECK(store[i]->spend(store[i], "me", 100, 60, &wait, &err) == 0);
    wait_ms(300);
    redis_kill();
    wait_ms(500);
    const int left = ask(1000, &refusal);
    CHECK_MSG(refusal == YD_E_STORE_AWAY && left > 0 && left <= 60, "%d requests of at most 60, then %d", left, refusal);
    CHECK(store[0]->spend(store[0], "unheard of", 1, 10, &wait, &err) == YD_E_STORE_AWAY && wait == YD_STORE_RETRY_MS);
    redis_start();
    yd_store_health h = {0};
    for (const int64_t until = yd_mono_us() + 5000000; !h.ok && yd_mono_us() < until;) {
        uv_run(&loop, UV_RUN_ONCE);
        store[0]->health(store[0], &h);
    }
    wait_ms(600);
    CHECK_MSG(store[0]->spend(store[0], "me", 100, 60, &wait, &err) == 0, "%s", err.detail);
    end();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"shared budgets: units of work", units},
        {"shared budgets: jobs at a time", jobs_at_a_time},
        {"shared budgets: requests", requests},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
