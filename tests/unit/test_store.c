// The contract of job stores (store.h): the same cases for the one in memory, the one on disk and the one in Redis.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "daemon/log.h"
#include "daemon/spool.h"
#include "tests/unit/loop_rig.h"
#include "tests/unit/redis_rig.h"
#include "tests/unit/t.h"
#include <errno.h>
#include <sqlite3.h>

static yd_store *store;
static yd_err err;
static enum { IN_MEMORY, ON_DISK, IN_REDIS } durable; // which store the cases are about
static char folder[64];

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    CHECK(system(command) == 0);
}

static int open_again(void)
{
    const yd_redis_options alone = {.several = 0, .lease_ms = 5000, .snapshot_every = 5000}; // files go at once
    if (durable == IN_REDIS) return yd_store_redis_open_with(&loop, redis_url, folder, &alone, &store, &err);
    return durable ? yd_store_sqlite_open(&loop, folder, &store, &err) : yd_store_memory_open(&loop, &store, &err);
}

static void open_store(void)
{
    loop_begin(5);
    snprintf(folder, sizeof folder, "build/test-store-XXXXXX");
    if (durable) CHECK(mkdtemp(folder) != NULL);
    CHECK_MSG(open_again() == 0, "%s", err.detail);
}

static int closed;
static void on_closed(void *arg)
{
    (void)arg;
    closed = 1;
}

static void close_only(void)
{
    closed = 0;
    store->close(store, on_closed, NULL);
    while (!closed) uv_run(&loop, UV_RUN_ONCE);
}

static void close_store(void)
{
    close_only();
    loop_end();
    if (durable) remove_folder();
}

static int told, told_rc, n_expired;
static char expired_ids[YD_EXPIRE_MAX * YD_ID_MAX];

static void on_done(yd_store_op *op)
{
    told++;
    told_rc = op->rc;
    if (op->rc) err = op->err;
    expired_ids[0] = 0;
    n_expired = op->n_expired;
    for (int i = 0; i < op->n_expired; i++) strncat(expired_ids, op->expired[i], sizeof expired_ids - strlen(expired_ids) - 1);
}

// Hand in an operation and wait for its end.
static int run(yd_store_op *op)
{
    const int before = told;
    store->submit(store, op);
    CHECK(told == before); // never from inside
    while (told == before) uv_run(&loop, UV_RUN_ONCE);
    CHECK(told == before + 1);
    return told_rc;
}

static int do_op(yd_store_op_kind kind, const char *id, int64_t now_ms)
{
    yd_store_op *op = yd_store_op_new(kind, NULL, on_done, NULL);
    snprintf(op->rec.id, sizeof op->rec.id, "%s", id);
    op->now_ms = now_ms;
    return run(op);
}

static int with_record(yd_store_op_kind kind, const yd_job_record *r)
{
    return run(yd_store_op_new(kind, r, on_done, NULL));
}

static yd_job_record record(const char *id, const char *owner)
{
    yd_job_record r = {0};
    snprintf(r.id, sizeof r.id, "%s", id);
    snprintf(r.owner, sizeof r.owner, "%s", owner);
    snprintf(r.model, sizeof r.model, "some-4x");
    yd_model_config cfg;
    yd_config daemon;
    yd_model_config_init(&cfg);
    yd_config_init(&daemon);
    yd_job_settings_init(&r.settings, &cfg, &daemon);
    r.bytes = 100;
    return r;
}

static void put(const char *id, const char *owner)
{
    yd_job_record r = record(id, owner);
    CHECK_MSG(with_record(YD_OP_PUT, &r) == 0, "%s", err.detail);
}

static void finish(const char *id, int64_t at)
{
    yd_job_record r;
    CHECK(store->get(store, id, 1, &r, &err) == 0);
    r.state = YD_JOB_SUCCEEDED;
    r.finished_ms = at;
    CHECK_MSG(with_record(YD_OP_UPDATE, &r) == 0, "%s", err.detail);
    yd_job_record_clear(&r);
}

static int state_of(const char *id)
{
    yd_job_record r;
    int rc = store->get(store, id, 1, &r, &err);
    if (rc) return rc;
    int state = (int)r.state;
    yd_job_record_clear(&r);
    return state;
}

static size_t finished_bytes(void)
{
    yd_store_health h;
    store->health(store, &h);
    CHECK(h.ok);
    return h.bytes;
}

static const char *expire(int64_t now, int64_t ttl, size_t jobs, size_t bytes)
{
    yd_store_op *op = yd_store_op_new(YD_OP_EXPIRE, NULL, on_done, NULL);
    op->now_ms = now;
    op->limits = (yd_store_limits){ttl, 50, jobs, bytes};
    CHECK(run(op) == 0);
    return expired_ids;
}

static void life_of_a_record(void)
{
    open_store();
    put("a", "");
    yd_job_record r = record("a", "");
    CHECK(with_record(YD_OP_PUT, &r) == YD_E_CONFLICT);
    CHECK(state_of("a") == YD_JOB_QUEUED && state_of("b") == YD_E_NOT_FOUND);
    CHECK(do_op(YD_OP_CLAIM, "a", 5) == 0 && state_of("a") == YD_JOB_RUNNING);
    CHECK(do_op(YD_OP_CLAIM, "a", 6) == YD_E_CONFLICT);
    CHECK(do_op(YD_OP_CLAIM, "b", 6) == YD_E_NOT_FOUND);
    finish("a", 10);
    CHECK(state_of("a") == YD_JOB_SUCCEEDED);
    r.state = YD_JOB_FAILED;
    CHECK(with_record(YD_OP_UPDATE, &r) == YD_E_CONFLICT && state_of("a") == YD_JOB_SUCCEEDED);
    do_op(YD_OP_REMOVE, "a", 20);
    CHECK(state_of("a") == YD_E_GONE);
    CHECK(with_record(YD_OP_PUT, &r) == YD_E_CONFLICT); // an id is not given twice
    do_op(YD_OP_REMOVE, "a", 20);
    CHECK(strcmp(expire(69, 1000, 10, 10000), "") == 0 && state_of("a") == YD_E_GONE);
    CHECK(strcmp(expire(70, 1000, 10, 10000), "") == 0 && state_of("a") == YD_E_NOT_FOUND);
    close_store();
}

static void expiry(void)
{
    open_store();
    const char *ids[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++) put(ids[i], "");
    finish("b", 100);
    finish("a", 110);
    finish("c", 120);
    CHECK(finished_bytes() == 300);
    CHECK(strcmp(expire(199, 100, 10, 10000), "") == 0);
    CHECK(strcmp(expire(200, 100, 10, 10000), "b") == 0 && state_of("b") == YD_E_GONE); // by age, in order of their end
    CHECK(strcmp(expire(201, 100, 1, 10000), "a") == 0);                                // by number
    finish("d", 201);
    CHECK(strcmp(expire(202, 100, 10, 150), "c") == 0); // by bytes
    CHECK(strcmp(expire(100000, 100, 10, 150), "d") == 0);
    CHECK(state_of("e") == YD_JOB_QUEUED); // what is not finished does not expire
    CHECK(finished_bytes() == 0);
    close_store();
}

static const char *listed(const char *owner, int state, uint64_t before, int limit)
{
    static char text[64];
    char ids[8][YD_ID_MAX];
    uint64_t orders[8];
    int n = store->list(store, owner, state, before, limit, ids, orders);
    text[0] = 0;
    for (int i = 0; i < n; i++) {
        strncat(text, ids[i], sizeof text - strlen(text) - 1);
        CHECK(i == 0 || orders[i] < orders[i - 1]);
    }
    return text;
}

static void listing(void)
{
    open_store();
    put("a", "x");
    put("b", "y");
    put("c", "x");
    put("d", "x");
    finish("c", 1);
    CHECK(strcmp(listed("x", -1, UINT64_MAX, 8), "dca") == 0);
    CHECK(strcmp(listed("x", -1, UINT64_MAX, 2), "dc") == 0);
    CHECK(strcmp(listed("x", -1, 3, 8), "a") == 0);
    CHECK(strcmp(listed("x", YD_JOB_SUCCEEDED, UINT64_MAX, 8), "c") == 0);
    CHECK(strcmp(listed("z", -1, UINT64_MAX, 8), "") == 0);
    CHECK(strcmp(listed(NULL, -1, UINT64_MAX, 8), "dcba") == 0);
    close_store();
}

static void blobs_are_shared(void)
{
    open_store();
    yd_job_record r = record("a", ""), got;
    r.input = yd_blob_new(yd_strdup("hello"), 5, "text/plain", 1);
    CHECK(strcmp(r.input->sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824") == 0);
    CHECK(with_record(YD_OP_PUT, &r) == 0 && r.input->refs == 2);
    CHECK(store->get(store, "a", 1, &got, &err) == 0 && got.input == r.input && got.input->refs == 3);
    yd_job_record_clear(&got);
    do_op(YD_OP_REMOVE, "a", 1); // a download goes on
    CHECK(r.input->refs == 1 && memcmp(r.input->bytes, "hello", 5) == 0);
    yd_job_record_clear(&r);
    close_store();
}

static void graves_are_bounded(void)
{
    open_store();
    char id[YD_ID_MAX];
    for (int i = 0; i < 65537 + 10; i++) {
        snprintf(id, sizeof id, "job-%d", i);
        put(id, "");
        do_op(YD_OP_REMOVE, id, 1);
    }
    CHECK(state_of("job-0") == YD_E_NOT_FOUND && state_of("job-10") == YD_E_NOT_FOUND &&
          state_of("job-11") == YD_E_GONE);
    CHECK(state_of("job-65546") == YD_E_GONE);
    close_store();
}

// Whatever allocation fails, the store stays whole and an answer of 0 stays true.
static void out_of_memory(void)
{
    uv_loop_init(&loop);
    for (long k = 1; k < 10; k++) {
        yd_mem_fail_at(k);
        int rc = open_again();
        yd_mem_fail_at(0);
        if (rc) {
            CHECK(rc == YD_E_NOMEM && k <= 6);
            continue;
        }
        yd_job_record r = record("a", "");
        yd_store_op *op = yd_store_op_new(YD_OP_PUT, &r, on_done, NULL);
        yd_mem_fail_at(1 + k % 2);
        rc = run(op);
        yd_mem_fail_at(0);
        CHECK(rc == YD_E_NOMEM && state_of("a") == YD_E_NOT_FOUND);
        put("a", "");
        CHECK(state_of("a") == YD_JOB_QUEUED);
        close_only();
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(uv_loop_close(&loop) == 0);
}

static yd_blob *text_blob(const char *text)
{
    return yd_blob_new(yd_strdup(text), strlen(text), "image/png", 1);
}

static int has_text(const yd_blob *b, const char *text)
{
    return b && b->len == strlen(text) && memcmp(b->bytes, text, b->len) == 0;
}

static int files(void)
{
    char command[128];
    int n = -1;
    snprintf(command, sizeof command, "ls '%s/pictures' | wc -l", folder);
    FILE *f = popen(command, "r");
    CHECK(f && fscanf(f, "%d", &n) == 1);
    if (f) pclose(f);
    return n;
}

// Everything of a record is there in the next process; what was running waits again; the order goes on.
static void a_restart(void)
{
    open_store();
    const int64_t boot = store->boot;
    yd_job_record r = record("a", "me"), got;
    snprintf(r.once, sizeof r.once, "owner and key");
    snprintf(r.request, sizeof r.request, "its digest");
    r.settings.sample.seed = UINT64_MAX;
    r.settings.sample.eta = 0.1f;
    r.settings.sample.lower_bound = 1.0 / 3;
    r.settings.output.scale = 1.7;
    r.settings.output.format_given = 1; // written down it is
    r.settings.sample.spacing = 1;      // 0 counts as 1
    r.progress.windows_total = 77;
    r.timings.device_ms = 0.125;
    r.in_w = 5;
    r.boot = boot;
    snprintf(r.key, sizeof r.key, "abc");
    r.input = text_blob("the picture");
    CHECK(with_record(YD_OP_PUT, &r) == 0 && do_op(YD_OP_CLAIM, "a", 3) == 0 && state_of("a") == YD_JOB_RUNNING);
    put("b", "you");
    finish("b", 9);
    close_only();
    CHECK_MSG(open_again() == 0 && store->boot == boot + 1, "%s", err.detail);
    CHECK(store->get(store, "a", 1, &got, &err) == 0 && got.state == YD_JOB_QUEUED && got.attempts == 1);
    CHECK(memcmp(&got.settings, &r.settings, sizeof r.settings) == 0);
    CHECK(got.progress.windows_total == 77 && got.timings.device_ms == 0.125 && got.in_w == 5 && got.boot == boot);
    CHECK(strcmp(got.owner, "me") == 0 && strcmp(got.key, "abc") == 0 && strcmp(got.model, "some-4x") == 0);
    CHECK(has_text(got.input, "the picture") && strcmp(got.input->sha256, r.input->sha256) == 0);
    CHECK(state_of("b") == YD_JOB_SUCCEEDED);
    // Its end: the picture goes, the result comes.
    yd_blob_unref(got.input);
    got.input = NULL;
    got.result = text_blob("the result");
    got.events = text_blob("1 queued {}\n");
    got.state = YD_JOB_SUCCEEDED;
    got.finished_ms = 12;
    CHECK(with_record(YD_OP_UPDATE, &got) == 0 && files() == 1);
    yd_job_record_clear(&got);
    put("c", "me");
    close_only();
    CHECK(open_again() == 0 && store->get(store, "a", 1, &got, &err) == 0);
    CHECK(!got.input && has_text(got.result, "the result") && has_text(got.events, "1 queued {}\n"));
    CHECK(strcmp(listed(NULL, -1, UINT64_MAX, 8), "cba") == 0);
    char id[YD_ID_MAX] = "";
    CHECK(store->find_key(store, "abc", id) && strcmp(id, "a") == 0 && !store->find_key(store, "", id));
    CHECK(strcmp(got.once, "owner and key") == 0 && strcmp(got.request, "its digest") == 0);
    CHECK(store->find_once(store, "owner and key", id) && strcmp(id, "a") == 0 && !store->find_once(store, "", id));
    do_op(YD_OP_REMOVE, "a", 20);
    CHECK(!store->find_once(store, "owner and key", id));
    CHECK(has_text(got.result, "the result") && files() == 0); // a download goes on
    yd_job_record_clear(&got);
    yd_job_record_clear(&r);
    close_store();
}

// Equal bytes are one file, which stays while somebody refers to it; what nobody refers to goes at the start.
static void files_are_shared(void)
{
    char path[128];
    open_store();
    yd_job_record a = record("a", ""), b = record("b", ""), got;
    a.input = text_blob("same");
    b.input = text_blob("same");
    CHECK(with_record(YD_OP_PUT, &a) == 0 && with_record(YD_OP_PUT, &b) == 0 && files() == 1);
    do_op(YD_OP_REMOVE, "a", 1);
    CHECK(store->get(store, "b", 1, &got, &err) == 0 && has_text(got.input, "same") && files() == 1);
    yd_job_record_clear(&got);
    do_op(YD_OP_REMOVE, "b", 1);
    CHECK(files() == 0);
    yd_job_record_clear(&a);
    yd_job_record_clear(&b);
    snprintf(path, sizeof path, "%s/pictures/0123abc", folder);
    FILE *f = fopen(path, "w");
    CHECK(f && fclose(f) == 0);
    close_only();
    CHECK(open_again() == 0 && files() == 0);
    close_store();
}

static void one_process_at_a_time(void)
{
    yd_store *other = NULL;
    open_store();
    put("old", "");
    CHECK(yd_store_sqlite_open(&loop, folder, &other, &err) == YD_E_CONFIG && !other);
    CHECK_MSG(strcmp(err.field, "state_dir") == 0 && strstr(err.detail, folder), "%s", err.detail);
    CHECK(yd_store_sqlite_open(&loop, "/proc/none", &other, &err) == YD_E_CONFIG);
    close_only();
    char command[160];
    snprintf(command, sizeof command, "%s/jobs.db", folder);
    sqlite3 *db;
    CHECK(sqlite3_open(command, &db) == SQLITE_OK && sqlite3_exec(db, "PRAGMA user_version=99", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    CHECK(open_again() == YD_E_CONFIG);
    CHECK_MSG(strstr(err.detail, "version 99"), "%s", err.detail);
    // Back to what the first version made: it is taken forward again, with what is in it.
    CHECK(sqlite3_open(command, &db) == SQLITE_OK &&
          sqlite3_exec(db, "DROP INDEX job_once; ALTER TABLE job DROP COLUMN once; DROP TABLE batch; DROP TABLE errand; PRAGMA user_version=1", NULL, NULL, NULL) ==
              SQLITE_OK);
    sqlite3_close(db);
    CHECK(open_again() == 0 && state_of("old") == YD_JOB_QUEUED);
    close_store();
}

// A disk that does not work turns new records away, and holds everything else until it does.
static void a_disk_that_fails(void)
{
    open_store();
    put("a", "");
    for (long k = 1; k < 6; k++) {
        yd_job_record r = record("b", "");
        r.input = text_blob("some picture");
        yd_store_op *op = yd_store_op_new(YD_OP_PUT, &r, on_done, NULL);
        yd_spool_fail_at(k, ENOSPC);
        const int rc = run(op);
        yd_spool_fail_at(0, 0);
        CHECK_MSG(k < 6 && (rc == YD_E_STORAGE) == (k <= 5), "call %ld: %d", k, rc); // open, write, sync, rename, sync of the folder
        CHECK(state_of("b") == YD_E_NOT_FOUND);
        yd_job_record_clear(&r);
    }
    yd_job_record got;
    CHECK(store->get(store, "a", 1, &got, &err) == 0);
    got.state = YD_JOB_SUCCEEDED;
    got.finished_ms = 5;
    got.result = text_blob("kept through trouble");
    yd_spool_fail_at(2, EIO);
    const int before = told;
    store->submit(store, yd_store_op_new(YD_OP_UPDATE, &got, on_done, NULL));
    yd_store_health h = {.ok = 1};
    for (int i = 0; h.ok && i < 400; i++) {
        uv_run(&loop, UV_RUN_ONCE);
        store->health(store, &h);
    }
    CHECK(!h.ok && strstr(h.why, "pictures") && told == before);
    while (told == before) uv_run(&loop, UV_RUN_ONCE);
    store->health(store, &h);
    CHECK(told_rc == 0 && h.ok && state_of("a") == YD_JOB_SUCCEEDED && files() == 1);
    yd_job_record_clear(&got);
    close_store();
}

// What a job has to do with others is kept with it, found while it is due, noted after its end, and gone with it.
static void errands(void)
{
    uint64_t orders[4];
    char ids[4][YD_ID_MAX];
    yd_job_record got;
    open_store();
    yd_job_record r = record("a", "");
    r.errands = text_blob("{\"webhook\":1}");
    CHECK(with_record(YD_OP_PUT, &r) == 0);
    put("b", "");
    yd_job_record c = record("c", "");
    c.errands = text_blob("{\"webhook\":2}");
    CHECK(with_record(YD_OP_PUT, &c) == 0 && store->list_due(store, UINT64_MAX, 4, ids, orders) == 0);
    r.due = c.due = 1;
    r.state = c.state = YD_JOB_SUCCEEDED;
    r.finished_ms = c.finished_ms = 9;
    CHECK(with_record(YD_OP_UPDATE, &r) == 0 && with_record(YD_OP_UPDATE, &c) == 0);
    CHECK(store->list_due(store, UINT64_MAX, 4, ids, orders) == 2 && strcmp(ids[0], "c") == 0 && strcmp(ids[1], "a") == 0);
    CHECK(store->list_due(store, orders[0], 4, ids, orders) == 1 && strcmp(ids[0], "a") == 0);
    CHECK(store->list_due(store, UINT64_MAX, 1, ids, orders) == 1 && strcmp(ids[0], "c") == 0);
    yd_blob_unref(c.errands);
    c.errands = text_blob("{\"webhook\":3}");
    c.due = 0;
    c.state = YD_JOB_FAILED; // nothing but the errands counts
    CHECK(with_record(YD_OP_NOTE, &c) == 0 && state_of("c") == YD_JOB_SUCCEEDED);
    if (durable) {
        close_only();
        CHECK(open_again() == 0);
    }
    CHECK(store->list_due(store, UINT64_MAX, 4, ids, orders) == 1 && strcmp(ids[0], "a") == 0);
    CHECK(store->get(store, "c", 0, &got, &err) == 0 && got.due == 0 && has_text(got.errands, "{\"webhook\":3}"));
    yd_job_record_clear(&got);
    CHECK(store->get(store, "b", 1, &got, &err) == 0 && !got.errands && !got.due);
    yd_job_record_clear(&got);
    do_op(YD_OP_REMOVE, "a", 20);
    CHECK(store->list_due(store, UINT64_MAX, 4, ids, orders) == 0 && with_record(YD_OP_NOTE, &r) == YD_E_NOT_FOUND);
    CHECK(store->list_due(store, UINT64_MAX, 4, ids, orders) == 0);
    yd_job_record_clear(&r);
    yd_job_record_clear(&c);
    close_store();
}

static void on_disk(void (*run_case)(void))
{
    durable = ON_DISK;
    run_case();
    durable = IN_MEMORY;
}

static void in_redis(void (*run_case)(void))
{
    if (!redis_is_installed()) {
        t_skip("redis-server is not installed");
        return;
    }
    redis_start();
    durable = IN_REDIS;
    run_case();
    durable = IN_MEMORY;
    redis_end();
}

static void life_in_redis(void) { in_redis(life_of_a_record); }
static void expiry_in_redis(void) { in_redis(expiry); }
static void listing_in_redis(void) { in_redis(listing); }
static void restart_in_redis(void) { in_redis(a_restart); }
static void sharing_in_redis(void) { in_redis(files_are_shared); }
static void errands_in_redis(void) { in_redis(errands); }
static void trouble_in_redis(void) { in_redis(a_disk_that_fails); }

static void life_on_disk(void) { on_disk(life_of_a_record); }
static void listing_on_disk(void) { on_disk(listing); }
static void restart_on_disk(void) { on_disk(a_restart); }
static void sharing_on_disk(void) { on_disk(files_are_shared); }
static void errands_on_disk(void) { on_disk(errands); }
static void lock_on_disk(void) { on_disk(one_process_at_a_time); }
static void trouble_on_disk(void) { on_disk(a_disk_that_fails); }

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"store: put, claim, finish, remove", life_of_a_record},
        {"store: expiry by age, number and bytes", expiry},
        {"store: listing", listing},
        {"store: blobs are shared and outlive their record", blobs_are_shared},
        {"store: tombstones are bounded", graves_are_bounded},
        {"store: no memory", out_of_memory},
        {"store: errands", errands},
        {"store on disk: put, claim, finish, remove", life_on_disk},
        {"store on disk: listing", listing_on_disk},
        {"store on disk: a restart", restart_on_disk},
        {"store on disk: files are shared", sharing_on_disk},
        {"store on disk: errands", errands_on_disk},
        {"store on disk: one process, one version", lock_on_disk},
        {"store on disk: a disk that fails", trouble_on_disk},
        {"store in Redis: put, claim, finish, remove", life_in_redis},
        {"store in Redis: expiry by age, number and bytes", expiry_in_redis},
        {"store in Redis: listing", listing_in_redis},
        {"store in Redis: a restart", restart_in_redis},
        {"store in Redis: files are shared", sharing_in_redis},
        {"store in Redis: errands", errands_in_redis},
        {"store in Redis: a disk that fails", trouble_in_redis},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
