// The contract of job stores (store.h), held by the one in memory.
#include "daemon/store.h"

#include "core/mem.h"
#include "tests/unit/t.h"

static yd_store *store;
static yd_err err;

static yd_job_record record(const char *id, const char *owner)
{
    yd_job_record r = {0};
    snprintf(r.id, sizeof r.id, "%s", id);
    snprintf(r.owner, sizeof r.owner, "%s", owner);
    r.bytes = 100;
    return r;
}

static void put(const char *id, const char *owner)
{
    yd_job_record r = record(id, owner);
    CHECK(store->put(store, &r, &err) == 0);
}

static void finish(const char *id, int64_t at)
{
    yd_job_record r;
    CHECK(store->get(store, id, &r, &err) == 0);
    r.state = YD_JOB_SUCCEEDED;
    r.finished_ms = at;
    CHECK(store->update(store, &r, &err) == 0);
    yd_job_record_clear(&r);
}

static int state_of(const char *id)
{
    yd_job_record r;
    int rc = store->get(store, id, &r, &err);
    if (rc) return rc;
    int state = (int)r.state;
    yd_job_record_clear(&r);
    return state;
}

static char expired_ids[256];
static void note(void *arg, const char *id)
{
    (void)arg;
    strncat(expired_ids, id, sizeof expired_ids - strlen(expired_ids) - 1);
}

static const char *expire(int64_t now, int64_t ttl, size_t jobs, size_t bytes)
{
    yd_store_limits lim = {ttl, 50, jobs, bytes};
    expired_ids[0] = 0;
    store->expire(store, now, &lim, note, NULL);
    return expired_ids;
}

static void life_of_a_record(void)
{
    CHECK(yd_store_memory_open(&store, &err) == 0);
    put("a", "");
    yd_job_record r = record("a", "");
    CHECK(store->put(store, &r, &err) == YD_E_CONFLICT);
    CHECK(state_of("a") == YD_JOB_QUEUED && state_of("b") == YD_E_NOT_FOUND);
    CHECK(store->claim(store, "a", 5, &err) == 0 && state_of("a") == YD_JOB_RUNNING);
    CHECK(store->claim(store, "a", 6, &err) == YD_E_CONFLICT);
    CHECK(store->claim(store, "b", 6, &err) == YD_E_NOT_FOUND);
    finish("a", 10);
    CHECK(state_of("a") == YD_JOB_SUCCEEDED);
    r.state = YD_JOB_FAILED;
    CHECK(store->update(store, &r, &err) == YD_E_CONFLICT && state_of("a") == YD_JOB_SUCCEEDED);
    store->remove(store, "a", 20);
    CHECK(state_of("a") == YD_E_GONE);
    CHECK(store->put(store, &r, &err) == YD_E_CONFLICT); // an id is not given twice
    store->remove(store, "a", 20);
    CHECK(strcmp(expire(69, 1000, 10, 10000), "") == 0 && state_of("a") == YD_E_GONE);
    CHECK(strcmp(expire(70, 1000, 10, 10000), "") == 0 && state_of("a") == YD_E_NOT_FOUND);
    store->close(store);
}

static void expiry(void)
{
    CHECK(yd_store_memory_open(&store, &err) == 0);
    const char *ids[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++) put(ids[i], "");
    finish("b", 100);
    finish("a", 110);
    finish("c", 120);
    CHECK(store->finished_bytes(store) == 300);
    CHECK(strcmp(expire(199, 100, 10, 10000), "") == 0);
    CHECK(strcmp(expire(200, 100, 10, 10000), "b") == 0 && state_of("b") == YD_E_GONE); // by age, in order of their end
    CHECK(strcmp(expire(201, 100, 1, 10000), "a") == 0);                                // by number
    finish("d", 201);
    CHECK(strcmp(expire(202, 100, 10, 150), "c") == 0); // by bytes
    CHECK(strcmp(expire(100000, 100, 10, 150), "d") == 0);
    CHECK(state_of("e") == YD_JOB_QUEUED); // what is not finished does not expire
    CHECK(store->finished_bytes(store) == 0);
    store->close(store);
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
    CHECK(yd_store_memory_open(&store, &err) == 0);
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
    store->close(store);
}

static void blobs_are_shared(void)
{
    CHECK(yd_store_memory_open(&store, &err) == 0);
    yd_job_record r = record("a", ""), got;
    r.input = yd_blob_new(yd_strdup("hello"), 5, "text/plain", 1);
    CHECK(strcmp(r.input->sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824") == 0);
    CHECK(store->put(store, &r, &err) == 0 && r.input->refs == 2);
    CHECK(store->get(store, "a", &got, &err) == 0 && got.input == r.input && got.input->refs == 3);
    yd_job_record_clear(&got);
    store->remove(store, "a", 1); // a download goes on
    CHECK(r.input->refs == 1 && memcmp(r.input->bytes, "hello", 5) == 0);
    yd_job_record_clear(&r);
    store->close(store);
}

static void graves_are_bounded(void)
{
    CHECK(yd_store_memory_open(&store, &err) == 0);
    char id[YD_ID_MAX];
    for (int i = 0; i < 65537 + 10; i++) {
        snprintf(id, sizeof id, "job-%d", i);
        put(id, "");
        store->remove(store, id, 1);
    }
    CHECK(state_of("job-0") == YD_E_NOT_FOUND && state_of("job-10") == YD_E_NOT_FOUND &&
          state_of("job-11") == YD_E_GONE);
    CHECK(state_of("job-65546") == YD_E_GONE);
    store->close(store);
}

// Whatever allocation fails, the store stays whole and an answer of 0 stays true.
static void out_of_memory(void)
{
    for (long k = 1; k < 10; k++) {
        yd_mem_fail_at(k);
        int rc = yd_store_memory_open(&store, &err);
        yd_mem_fail_at(0);
        if (rc) {
            CHECK(rc == YD_E_NOMEM && k <= 5);
            continue;
        }
        yd_job_record r = record("a", "");
        yd_mem_fail_at(1 + k % 2);
        rc = store->put(store, &r, &err);
        yd_mem_fail_at(0);
        CHECK(rc == YD_E_NOMEM && state_of("a") == YD_E_NOT_FOUND);
        put("a", "");
        CHECK(state_of("a") == YD_JOB_QUEUED);
        store->close(store);
    }
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"store: put, claim, finish, remove", life_of_a_record},
        {"store: expiry by age, number and bytes", expiry},
        {"store: listing", listing},
        {"store: blobs are shared and outlive their record", blobs_are_shared},
        {"store: tombstones are bounded", graves_are_bounded},
        {"store: no memory", out_of_memory},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
