// Several stores on one Redis, and a Redis in trouble: what one does all see, in one order, and nothing that was acknowledged is lost.
//
// The stores are in this process, each with its folder, on one loop; the server is a real one. Random operations come from all stores at once;
// when nothing is on its way any more, all mirrors must be one, and equal to what a store that is opened then reads from the log.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "tests/unit/loop_rig.h"
#include "tests/unit/redis_rig.h"

#define STORES 3
#define IDS    30

static yd_err err;
static yd_store *store[STORES + 1];
static char folder[STORES + 1][64];
static yd_redis_options opt;
static uint64_t seed;

static unsigned roll(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static int open_one(int i)
{
    return yd_store_redis_open_with(&loop, redis_url, folder[i], &opt, &store[i], &err);
}

// 1: skipped.
static int begin(int n, long snapshot_every, int64_t lease_ms)
{
    if (!redis_is_installed()) {
        t_skip("redis-server is not installed");
        return 1;
    }
    redis_start();
    opt = (yd_redis_options){.several = n > 1, .lease_ms = lease_ms, .snapshot_every = snapshot_every, .spared_s = 1};
    loop_begin(5);
    memset(store, 0, sizeof store);
    for (int i = 0; i <= STORES; i++) {
        snprintf(folder[i], sizeof folder[i], "build/test-several-XXXXXX");
        CHECK(mkdtemp(folder[i]) != NULL);
        if (i < n) CHECK_MSG(open_one(i) == 0, "%s", err.detail);
    }
    return 0;
}

static int closed;
static void on_closed(void *arg)
{
    (void)arg;
    closed = 1;
}

static void close_one(int i)
{
    closed = 0;
    store[i]->close(store[i], on_closed, NULL);
    while (!closed) uv_run(&loop, UV_RUN_ONCE);
    store[i] = NULL;
}

static void end(void)
{
    for (int i = 0; i <= STORES; i++) {
        if (store[i]) close_one(i);
        char command[128];
        snprintf(command, sizeof command, "rm -rf '%.63s'", folder[i]);
        CHECK(system(command) == 0);
    }
    loop_end();
    redis_end();
}

// ---- operations ----------------------------------------------------------------------------------------------------

static int on_way, told_rc, claims[IDS];

static void on_done(yd_store_op *op)
{
    on_way--;
    told_rc = op->rc;
    const intptr_t i = (intptr_t)op->arg;
    if (op->kind == YD_OP_CLAIM && op->rc == 0) claims[i]++;
}

static yd_job_record record(int i)
{
    yd_job_record r = {0};
    yd_model_config cfg;
    yd_config daemon;
    yd_model_config_init(&cfg);
    yd_config_init(&daemon);
    snprintf(r.id, sizeof r.id, "job-%d", i);
    snprintf(r.owner, sizeof r.owner, "owner-%d", i % 3);
    yd_job_settings_init(&r.settings, &cfg, &daemon);
    r.bytes = 10;
    return r;
}

static void hand_in(int at, yd_store_op_kind kind, int i, yd_job_state state)
{
    yd_job_record r = record(i);
    r.state = state;
    r.progress.step = (int)roll(1000);
    if (yd_job_state_final(state)) r.finished_ms = 1000 + roll(100);
    if (state == YD_JOB_SUCCEEDED) r.result = yd_blob_new(yd_strdup("a result"), 8, "image/png", 1);
    yd_store_op *op = yd_store_op_new(kind, &r, on_done, (void *)(intptr_t)i);
    op->now_ms = 1000 + (int64_t)roll(100);
    op->limits = (yd_store_limits){500, 50, 8, SIZE_MAX >> 2};
    on_way++;
    store[at]->submit(store[at], op);
    yd_job_record_clear(&r);
}

static int run_one(int at, yd_store_op_kind kind, int i, yd_job_state state)
{
    hand_in(at, kind, i, state);
    while (on_way) uv_run(&loop, UV_RUN_ONCE);
    return told_rc;
}

static int state_at(int at, int i)
{
    yd_job_record r = record(i), got;
    int rc = store[at]->get(store[at], r.id, 0, &got, &err);
    if (rc) return rc;
    rc = (int)got.state;
    yd_job_record_clear(&got);
    return rc;
}

static const yd_redis_store *inside(int at)
{
    return (const yd_redis_store *)store[at];
}

// Until nothing is on its way and all have read as far as the log goes.
static void quiesce(int n)
{
    const int64_t until = yd_mono_us() + 20000000;
    int apart = 1;
    while ((on_way || apart) && yd_mono_us() < until) {
        uv_run(&loop, UV_RUN_ONCE);
        apart = 0;
        for (int i = 1; i < n; i++) apart |= inside(i)->position != inside(0)->position;
    }
    CHECK_MSG(!on_way && !apart, "%d operations are still on their way", on_way);
}

// ---- mirrors -------------------------------------------------------------------------------------------------------

typedef struct sum {
    char *text;
    size_t len;
} sum;

static void add(sum *s, char *text)
{
    const size_t n = strlen(text);
    s->text = yd_realloc(s->text, s->len + n + 2);
    memcpy(s->text + s->len, text, n + 1);
    s->len += n;
    yd_free(text);
}

static void sum_row(void *arg, const yd_mirror_row *row) { add(arg, yd_entry_print_row(row)); }
static void sum_grave(void *arg, const char *id, int64_t since) { add(arg, yd_entry_print_grave(id, since)); }
static void sum_batch(void *arg, const char *id, const char *owner, const char *doc) { add(arg, yd_entry_print_batch(id, owner, doc)); }

static char *all_of(int at)
{
    sum s = {yd_strdup(""), 0};
    yd_mirror_walk(inside(at)->mirror, &(yd_mirror_sink){&s, sum_row, sum_grave, sum_batch});
    add(&s, yd_entry_print_end(yd_mirror_count(inside(at)->mirror), yd_mirror_last_order(inside(at)->mirror), yd_mirror_last_end(inside(at)->mirror)));
    return s.text;
}

static void compare(int a, int b)
{
    char *x = all_of(a), *y = all_of(b);
    CHECK_MSG(strcmp(x, y) == 0, "stores %d and %d differ:\n%.600s\n%.600s", a, b, x, y);
    yd_free(x);
    yd_free(y);
}

static void one_random(void)
{
    const int at = (int)roll(STORES), i = (int)roll(IDS);
    switch (roll(9)) {
    case 0: case 1: case 2: hand_in(at, YD_OP_PUT, i, YD_JOB_QUEUED); break;
    case 3: case 4: hand_in(at, YD_OP_CLAIM, i, YD_JOB_QUEUED); break;
    case 5: hand_in(at, YD_OP_UPDATE, i, YD_JOB_RUNNING); break;
    case 6: hand_in(at, YD_OP_UPDATE, i, YD_JOB_SUCCEEDED); break;
    case 7: hand_in(at, YD_OP_REMOVE, i, YD_JOB_QUEUED); break;
    case 8: hand_in(at, YD_OP_EXPIRE, i, YD_JOB_QUEUED); break;
    }
}

// ---- cases ---------------------------------------------------------------------------------------------------------

static void one_order_for_all(void)
{
    if (begin(STORES, 400, 5000)) return;
    seed = 7;
    for (int round = 0; round < 12 && !t_failed_checks; round++) {
        for (int k = 0; k < 150; k++) one_random();
        quiesce(STORES);
        for (int i = 1; i < STORES; i++) compare(0, i);
        if (round % 4 != 3) continue;
        CHECK_MSG(open_one(STORES) == 0, "%s", err.detail); // from a snapshot, and what came after it
        quiesce(STORES + 1);
        compare(0, STORES);
        close_one(STORES);
    }
    wait_ms(300);
    CHECK_MSG(redis_do("GET yodad:snapshot") > 0 && redis_do("XLEN yodad:log") < 1300, "the log is cut back");
    end();
}

static void a_claim_is_decided_once(void)
{
    if (begin(STORES, 100000, 5000)) return;
    memset(claims, 0, sizeof claims);
    for (int i = 0; i < IDS; i++) hand_in(i % STORES, YD_OP_PUT, i, YD_JOB_QUEUED);
    quiesce(STORES);
    for (int i = 0; i < IDS; i++)
        for (int at = 0; at < STORES; at++) hand_in((at + i) % STORES, YD_OP_CLAIM, i, YD_JOB_QUEUED);
    quiesce(STORES);
    for (int i = 0; i < IDS; i++) CHECK_MSG(claims[i] == 1, "job %d was claimed %d times", i, claims[i]);
    end();
}

static int wait_until_ok(int64_t ms)
{
    yd_store_health h = {0};
    const int64_t until = yd_mono_us() + ms * 1000;
    while (!h.ok && yd_mono_us() < until) {
        uv_run(&loop, UV_RUN_ONCE);
        store[0]->health(store[0], &h);
    }
    return h.ok;
}

// A replica that stops is released when its lease has ended; what it sends later is refused, and changes nothing.
static void a_stopped_one_is_fenced_off(void)
{
    if (begin(2, 100000, 600)) return;
    CHECK(run_one(0, YD_OP_PUT, 1, YD_JOB_QUEUED) == 0 && run_one(0, YD_OP_CLAIM, 1, YD_JOB_QUEUED) == 0);
    CHECK(run_one(1, YD_OP_PUT, 2, YD_JOB_QUEUED) == 0 && run_one(1, YD_OP_CLAIM, 2, YD_JOB_QUEUED) == 0);
    ((yd_redis_store *)store[0])->muted = 1;
    for (int i = 0; i < 200 && state_at(1, 1) != YD_JOB_QUEUED; i++) wait_ms(20);
    CHECK(state_at(1, 1) == YD_JOB_QUEUED && state_at(1, 2) == YD_JOB_RUNNING);
    CHECK(run_one(1, YD_OP_CLAIM, 1, YD_JOB_QUEUED) == 0);
    hand_in(0, YD_OP_UPDATE, 1, YD_JOB_SUCCEEDED);
    yd_redis_store *late = (yd_redis_store *)store[0];
    late->refreshed_us = late->xread_us = yd_mono_us(); // so that its write comes before anything that would tell it
    late->muted = 0;
    while (on_way) uv_run(&loop, UV_RUN_ONCE);
    CHECK_MSG(told_rc == YD_E_CONFLICT && state_at(1, 1) == YD_JOB_RUNNING, "%d", told_rc);
    yd_store_health h;
    store[0]->health(store[0], &h);
    CHECK(!h.ok && h.fenced && strstr(h.why, "taken for dead"));
    CHECK(run_one(0, YD_OP_PUT, 3, YD_JOB_QUEUED) == YD_E_STORE_AWAY && state_at(1, 3) == YD_E_NOT_FOUND);
    // It comes back as another one, to which nothing of what the first had is left.
    const int64_t before = late->replica;
    CHECK(wait_until_ok(5000) && late->replica > before && store[0]->boot == late->replica);
    CHECK(run_one(0, YD_OP_PUT, 3, YD_JOB_QUEUED) == 0 && state_at(0, 1) == YD_JOB_RUNNING);
    CHECK(run_one(0, YD_OP_UPDATE, 1, YD_JOB_SUCCEEDED) == YD_E_CONFLICT && run_one(1, YD_OP_UPDATE, 1, YD_JOB_SUCCEEDED) == 0);
    quiesce(2);
    compare(0, 1);
    end();
}

// Leases end while the server is stopped: nobody is taken for dead who is not.
static void a_stop_longer_than_a_lease(void)
{
    if (begin(STORES, 100000, 600)) return;
    for (int i = 0; i < STORES; i++) CHECK(run_one(i, YD_OP_PUT, i, YD_JOB_QUEUED) == 0 && run_one(i, YD_OP_CLAIM, i, YD_JOB_QUEUED) == 0);
    quiesce(STORES);
    kill(redis_pid, SIGSTOP);
    wait_ms(2000);
    kill(redis_pid, SIGCONT);
    CHECK(wait_until_ok(2000));
    CHECK_MSG(open_one(STORES) == 0, "%s", err.detail); // nor by one that comes just then
    wait_ms(2000);
    for (int i = 0; i < STORES; i++)
        for (int at = 0; at <= STORES; at++) CHECK_MSG(state_at(at, i) == YD_JOB_RUNNING, "job %d is %d at %d", i, state_at(at, i), at);
    for (int i = 0; i < STORES; i++) CHECK(run_one(i, YD_OP_UPDATE, i, YD_JOB_SUCCEEDED) == 0);
    end();
}

// A process that has the store with a running job, until it is killed.
static pid_t start_holder(void)
{
    int ends[2];
    char c = 0;
    CHECK(pipe(ends) == 0);
    fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        loop_begin(5);
        if (open_one(0) || run_one(0, YD_OP_PUT, 1, YD_JOB_QUEUED) || run_one(0, YD_OP_CLAIM, 1, YD_JOB_QUEUED)) _exit(1);
        if (write(ends[1], "x", 1) != 1) _exit(1);
        uv_run(&loop, UV_RUN_DEFAULT);
        _exit(0);
    }
    close(ends[1]);
    CHECK_MSG(read(ends[0], &c, 1) == 1 && c == 'x', "the other process has no store");
    close(ends[0]);
    return pid;
}

// While one process has the store another one is refused; when it was killed, the next one has it, and its job.
static void one_process_at_a_time(void)
{
    if (begin(0, 100000, 700)) return;
    opt.several = 0;
    const pid_t pid = start_holder();
    CHECK(open_one(1) == YD_E_CONFIG && strcmp(err.field, "store") == 0);
    CHECK_MSG(strstr(err.detail, "is used by process"), "%s", err.detail);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CHECK_MSG(open_one(1) == 0 && state_at(1, 1) == YD_JOB_QUEUED, "%s", err.detail);
    end();
}

// Put until told; how long the answer took.
static int64_t put_time(int i, int *rc)
{
    const int64_t began = yd_mono_us();
    *rc = run_one(0, YD_OP_PUT, i, YD_JOB_QUEUED);
    return (yd_mono_us() - began) / 1000;
}

// The server is in trouble: new records are refused within a second, a change is held; it is well again: the change is made, within a second.
static void through_trouble(const char *what, void (*trouble)(void), void (*over)(void), int i)
{
    int rc;
    CHECK(run_one(0, YD_OP_PUT, i, YD_JOB_QUEUED) == 0);
    trouble();
    int64_t took = put_time(i + 1, &rc);
    CHECK_MSG(rc == YD_E_STORE_AWAY && took < 1000, "%s: %d after %lld ms", what, rc, (long long)took);
    took = put_time(i + 1, &rc);
    CHECK_MSG(rc == YD_E_STORE_AWAY && took < 1000, "%s again: %d after %lld ms", what, rc, (long long)took);
    yd_store_health h;
    store[0]->health(store[0], &h);
    CHECK_MSG(!h.ok && *h.why, "%s: health %d (%s) after %lld ms", what, h.ok, h.why, (long long)took);
    hand_in(0, YD_OP_UPDATE, i, YD_JOB_SUCCEEDED);
    wait_ms(700);
    CHECK_MSG(on_way == 1, "%s: the change waits", what);
    over();
    const int64_t began = yd_mono_us();
    CHECK_MSG(wait_until_ok(1500), "%s: it is not back", what);
    while (on_way && yd_mono_us() - began < 3000000) uv_run(&loop, UV_RUN_ONCE);
    CHECK_MSG(!on_way && told_rc == 0 && state_at(0, i) == YD_JOB_SUCCEEDED, "%s: the change was not made: %d", what, told_rc);
    CHECK_MSG(yd_mono_us() - began < 1500000, "%s: back after %lld ms", what, (long long)(yd_mono_us() - began) / 1000);
    wait_ms(200);
    CHECK_MSG(state_at(0, i + 1) < 0, "%s: what was refused is there", what);
    CHECK_MSG(run_one(0, YD_OP_PUT, i + 2, YD_JOB_QUEUED) == 0, "%s: no new records", what);
}

static void stop_it(void) { kill(redis_pid, SIGSTOP); }
static void go_on(void) { kill(redis_pid, SIGCONT); }
static void fill_it(void) { CHECK(redis_do("CONFIG SET maxmemory 1") > 0); }
static void empty_it(void) { CHECK(redis_do("CONFIG SET maxmemory 0") > 0); }
static void make_replica(void) { CHECK(redis_do("REPLICAOF 127.0.0.1 1") > 0); }
static void make_master(void) { CHECK(redis_do("REPLICAOF NO ONE") > 0); }

static void trouble(void)
{
    if (begin(1, 100000, 5000)) return;
    through_trouble("killed", redis_kill, redis_start, 0);
    through_trouble("stopped", stop_it, go_on, 10);
    through_trouble("full", fill_it, empty_it, 20);
    through_trouble("read-only", make_replica, make_master, 30);
    // Everything that was acknowledged is there for the next one.
    close_one(0);
    CHECK_MSG(open_one(0) == 0, "%s", err.detail);
    for (int i = 0; i < 40; i += 10)
        CHECK(state_at(0, i) == YD_JOB_SUCCEEDED && state_at(0, i + 1) < 0 && state_at(0, i + 2) == YD_JOB_QUEUED);
    end();
}

// Under a steady load the server is killed again and again: what was acknowledged is there, and once.
static int acknowledged[2000], n_acknowledged;

static void on_put(yd_store_op *op)
{
    on_way--;
    if (op->rc == 0) acknowledged[n_acknowledged++] = (int)(intptr_t)op->arg;
}

static void nothing_acknowledged_is_lost(void)
{
    if (begin(1, 300, 5000)) return;
    n_acknowledged = 0;
    for (int i = 0; i < 900; i++) {
        yd_job_record r = record(i);
        on_way++;
        store[0]->submit(store[0], yd_store_op_new(YD_OP_PUT, &r, on_put, (void *)(intptr_t)i));
        if (i % 300 == 299) {
            redis_kill();
            redis_start();
            CHECK(wait_until_ok(5000));
        }
        wait_ms(1);
    }
    quiesce(1);
    CHECK_MSG(n_acknowledged > 400, "%d of 900 were taken", n_acknowledged);
    close_one(0);
    CHECK_MSG(open_one(0) == 0, "%s", err.detail);
    for (int k = 0; k < n_acknowledged; k++) CHECK_MSG(state_at(0, acknowledged[k]) == YD_JOB_QUEUED, "job %d is lost", acknowledged[k]);
    CHECK_MSG((int)yd_mirror_count(inside(0)->mirror) == n_acknowledged, "%zu records of %d", yd_mirror_count(inside(0)->mirror), n_acknowledged);
    end();
}

// What the server does with a connection that was given up, and what is sent again, are one change together.
static void an_answer_that_was_lost(void)
{
    if (begin(1, 100000, 5000)) return;
    CHECK(run_one(0, YD_OP_PUT, 1, YD_JOB_QUEUED) == 0);
    const uint64_t before = inside(0)->position;
    stop_it();
    hand_in(0, YD_OP_UPDATE, 1, YD_JOB_RUNNING);
    wait_ms(900); // its connection has been dropped
    CHECK(on_way == 1);
    go_on();
    for (int64_t until = yd_mono_us() + 3000000; on_way && yd_mono_us() < until;) uv_run(&loop, UV_RUN_ONCE);
    CHECK(run_one(0, YD_OP_CLAIM, 2, YD_JOB_QUEUED) == YD_E_NOT_FOUND);
    CHECK_MSG(inside(0)->position == before + 2, "%llu entries of two operations", (unsigned long long)(inside(0)->position - before));
    end();
}

// A server that comes back without the end of what it had acknowledged: the process that has it all writes it down anew.
static void a_log_that_lost_its_end(void)
{
    char command[320];
    if (begin(1, 100000, 5000)) return;
    for (int i = 0; i < 10; i++) CHECK(run_one(0, YD_OP_PUT, i, YD_JOB_QUEUED) == 0);
    snprintf(command, sizeof command, "cp -r '%s/appendonlydir' '%s/earlier'", redis_folder, redis_folder);
    CHECK(system(command) == 0);
    for (int i = 10; i < 20; i++) CHECK(run_one(0, YD_OP_PUT, i, YD_JOB_QUEUED) == 0);
    CHECK(run_one(0, YD_OP_CLAIM, 3, YD_JOB_QUEUED) == 0);
    redis_kill();
    snprintf(command, sizeof command, "rm -r '%s/appendonlydir' && mv '%s/earlier' '%s/appendonlydir'", redis_folder, redis_folder, redis_folder);
    CHECK(system(command) == 0);
    hand_in(0, YD_OP_UPDATE, 3, YD_JOB_SUCCEEDED);
    redis_start();
    for (int64_t until = yd_mono_us() + 3000000; on_way && yd_mono_us() < until;) uv_run(&loop, UV_RUN_ONCE);
    CHECK_MSG(!on_way && told_rc == 0 && wait_until_ok(1000), "%d on their way, %d", on_way, told_rc);
    close_one(0);
    CHECK_MSG(open_one(0) == 0, "%s", err.detail);
    for (int i = 0; i < 20; i++) CHECK_MSG(state_at(0, i) == (i == 3 ? YD_JOB_SUCCEEDED : YD_JOB_QUEUED), "job %d is %d", i, state_at(0, i));
    end();
}

static int all_ok(int n)
{
    yd_store_health h = {.ok = 1};
    for (int i = 0; i < n && h.ok; i++) store[i]->health(store[i], &h);
    return h.ok;
}

// The same among several: who knows most writes it down anew, and all begin again from there; nothing that was acknowledged is lost.
static void lose(const char *how, int keep)
{
    char command[320];
    if (begin(STORES, 100000, 5000)) return;
    for (int i = 0; i < 10; i++) CHECK(run_one(i % STORES, YD_OP_PUT, i, YD_JOB_QUEUED) == 0);
    snprintf(command, sizeof command, "cp -r '%s/appendonlydir' '%s/earlier'", redis_folder, redis_folder);
    CHECK(system(command) == 0);
    for (int i = 10; i < 20; i++) CHECK(run_one(i % STORES, YD_OP_PUT, i, YD_JOB_QUEUED) == 0);
    CHECK(run_one(1, YD_OP_CLAIM, 3, YD_JOB_QUEUED) == 0 && run_one(2, YD_OP_UPDATE, 4, YD_JOB_SUCCEEDED) == 0);
    quiesce(STORES);
    redis_kill();
    snprintf(command, sizeof command, "rm -r '%s/appendonlydir' && %s '%s/earlier' '%s/appendonlydir'", redis_folder, keep ? "mv" : "true", redis_folder, redis_folder);
    CHECK(system(command) == 0);
    redis_start();
    for (int64_t until = yd_mono_us() + 10000000; (!all_ok(STORES) || inside(0)->replica <= STORES) && yd_mono_us() < until;) uv_run(&loop, UV_RUN_ONCE);
    CHECK_MSG(all_ok(STORES), "%s: they are not back", how);
    quiesce(STORES);
    for (int at = 0; at < STORES; at++) {
        for (int i = 0; i < 20; i++)
            CHECK_MSG(state_at(at, i) == (i == 4 ? YD_JOB_SUCCEEDED : YD_JOB_QUEUED), "%s: job %d is %d at %d", how, i, state_at(at, i), at);
        compare(0, at);
    }
    CHECK(run_one(2, YD_OP_CLAIM, 3, YD_JOB_QUEUED) == 0 && run_one(1, YD_OP_PUT, 20, YD_JOB_QUEUED) == 0);
    end();
}

static void several_whose_log_lost_its_end(void) { lose("the log has lost its end", 1); }
static void several_whose_server_came_back_empty(void) { lose("the server is empty", 0); }

// A log that was trimmed beyond what one has read: it begins again from the snapshot.
static void a_slow_one(void)
{
    if (begin(2, 20, 60000)) return;
    CHECK(run_one(0, YD_OP_PUT, 1, YD_JOB_QUEUED) == 0 && run_one(0, YD_OP_CLAIM, 1, YD_JOB_QUEUED) == 0);
    ((yd_redis_store *)store[0])->muted = 1; // what it is sent now it never reads
    for (int i = 2; i < 20; i++)
        for (int k = 0; k < 6; k++) CHECK(run_one(1, k ? YD_OP_UPDATE : YD_OP_PUT, i, YD_JOB_QUEUED) == 0);
    for (int i = 0; i < 200 && redis_do("XLEN yodad:log") > 60; i++) wait_ms(20);
    yd_redis_store *slow = (yd_redis_store *)store[0];
    slow->muted = 0;
    yd_redis_link_drop(&slow->reader);
    yd_redis_link_drop(&slow->writer);
    for (int64_t until = yd_mono_us() + 10000000; (!all_ok(2) || slow->replica <= 2) && yd_mono_us() < until;) uv_run(&loop, UV_RUN_ONCE);
    quiesce(2);
    CHECK_MSG(state_at(0, 1) == YD_JOB_QUEUED && state_at(0, 19) == YD_JOB_QUEUED, "%d %d", state_at(0, 1), state_at(0, 19));
    compare(0, 1);
    end();
}

static void addresses(void)
{
    static const struct {
        const char *text, *host, *path, *password;
        int port, database;
    } good[] = {{"redis://h", "h", "", "", 6379, 0},          {"redis://:p:w@h.x:70/3", "h.x", "", "p:w", 70, 3}, {"redis://[::1]:7/", "::1", "", "", 7, 0},
                {"unix:///a/b", "", "/a/b", "", 0, 0},        {"unix:///a?db=12", "", "/a", "", 0, 12}};
    static const char *const bad[] = {"", "redis:/h", "redis://", "redis://h:0", "redis://h:70000", "redis://h/x", "redis://u:p@h", "unix://a", "unix:///a?db=-1", "unix:///a?x=1", "http://h", "rediss://h"};
    yd_redis_url u;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK_MSG(yd_redis_url_parse(good[i].text, &u, &err) == 0 && strcmp(u.host, good[i].host) == 0 && strcmp(u.path, good[i].path) == 0 &&
                      strcmp(u.password, good[i].password) == 0 && u.port == good[i].port && u.database == good[i].database,
                  "%s", good[i].text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_MSG(yd_redis_url_parse(bad[i], &u, &err) == YD_E_CONFIG && strcmp(err.field, "store") == 0, "%s", bad[i]);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"shared store: addresses", addresses},
        {"shared store: one order for all", one_order_for_all},
        {"shared store: a claim is decided once", a_claim_is_decided_once},
        {"shared store: a stopped one is fenced off", a_stopped_one_is_fenced_off},
        {"shared store: a server that was stopped for longer than a lease", a_stop_longer_than_a_lease},
        {"shared store: several, and a log that lost its end", several_whose_log_lost_its_end},
        {"shared store: several, and an empty server", several_whose_server_came_back_empty},
        {"shared store: one that is slow", a_slow_one},
        {"shared store: one process at a time", one_process_at_a_time},
        {"shared store: a server in trouble", trouble},
        {"shared store: an answer that was lost", an_answer_that_was_lost},
        {"shared store: a log that lost its end", a_log_that_lost_its_end},
        {"shared store: a server that is killed under load", nothing_acknowledged_is_lost},
    };
    yd_log_set_level(argc > 2 ? "info" : "error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
