// Stores against a model: random operations on each kind of store and on a plain array that says what must be the case.
//
// The array knows of each id its state, its end, its texts and when it was buried. After every operation the answer is compared, and now and
// then everything that can be read. The store on disk is closed and opened again in between, which must change nothing but what runs.
#include "daemon/store.h"

#include "core/mem.h"

#include "daemon/log.h"
#include "tests/unit/loop_rig.h"
#include "tests/unit/redis_rig.h"
#include "tests/unit/t.h"
#include <sys/stat.h>

#define IDS     40
#define OPS     3000
#define TTL_MS  400
#define GRAVE_MS 300

typedef enum { NONE, LIVE, BURIED } kind;

typedef struct model_row {
    kind kind;
    yd_job_state state;
    int64_t finished_ms, buried_ms;
    int attempts, step, owner;
    uint64_t order;
    char result[24]; // "" none
} model_row;

static yd_store *store;
static yd_err err;
static enum { IN_MEMORY, ON_DISK, IN_REDIS, WHOLLY_IN_REDIS } durable;
static char folder[64];
static model_row model[IDS];
static uint64_t seed;
static int64_t now_ms;
static uint64_t last_order;

static unsigned roll(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static int open_store(void)
{
    if (durable >= IN_REDIS) return yd_store_redis_open(&loop, redis_url, folder, 5000, durable == WHOLLY_IN_REDIS ? 1 << 20 : 0, &store, &err);
    return durable ? yd_store_sqlite_open(&loop, folder, &store, &err) : yd_store_memory_open(&loop, &store, &err);
}

static int closed;
static void on_closed(void *arg)
{
    (void)arg;
    closed = 1;
}

static void close_store(void)
{
    closed = 0;
    store->close(store, on_closed, NULL);
    while (!closed) uv_run(&loop, UV_RUN_ONCE);
}

static int told, told_rc, n_expired;
static uint64_t told_order;
static char expired[YD_EXPIRE_MAX][YD_ID_MAX];

static void on_done(yd_store_op *op)
{
    told++;
    told_rc = op->rc;
    told_order = op->rec.order;
    n_expired = op->n_expired;
    memcpy(expired, op->expired, sizeof expired);
}

static int run(yd_store_op *op)
{
    const int before = told;
    store->submit(store, op);
    while (told == before) uv_run(&loop, UV_RUN_ONCE);
    return told_rc;
}

static void id_of(int i, char id[YD_ID_MAX])
{
    snprintf(id, YD_ID_MAX, "job-%d", i);
}

static yd_job_record record(int i)
{
    yd_job_record r = {0};
    yd_model_config cfg;
    yd_config daemon;
    yd_model_config_init(&cfg);
    yd_config_init(&daemon);
    id_of(i, r.id);
    snprintf(r.owner, sizeof r.owner, "owner-%d", i % 3);
    yd_job_settings_init(&r.settings, &cfg, &daemon);
    r.bytes = 10;
    return r;
}

static int final(const model_row *m)
{
    return m->kind == LIVE && yd_job_state_final(m->state);
}

static void put(int i)
{
    yd_job_record r = record(i);
    model_row *m = &model[i];
    const int rc = run(yd_store_op_new(YD_OP_PUT, &r, on_done, NULL));
    CHECK_MSG(rc == (m->kind == NONE ? 0 : YD_E_CONFLICT), "put %d: %d", i, rc);
    if (rc) return;
    CHECK(told_order > last_order);
    last_order = told_order;
    *m = (model_row){.kind = LIVE, .state = YD_JOB_QUEUED, .order = told_order, .owner = i % 3};
}

static void claim(int i)
{
    yd_job_record r = record(i);
    model_row *m = &model[i];
    yd_store_op *op = yd_store_op_new(YD_OP_CLAIM, &r, on_done, NULL);
    op->now_ms = now_ms;
    const int rc = run(op), want = m->kind != LIVE ? YD_E_NOT_FOUND : m->state != YD_JOB_QUEUED ? YD_E_CONFLICT : 0;
    CHECK_MSG(rc == want, "claim %d: %d, not %d", i, rc, want);
    if (rc) return;
    m->state = YD_JOB_RUNNING;
    m->attempts++;
}

static void update(int i, int ends)
{
    yd_job_record r = record(i);
    model_row *m = &model[i];
    char text[24] = "";
    r.state = ends ? YD_JOB_SUCCEEDED + roll(3) : m->kind == LIVE ? m->state : YD_JOB_QUEUED;
    r.attempts = m->attempts;
    r.progress.step = (int)roll(1000);
    if (ends) r.finished_ms = now_ms;
    if (r.state == YD_JOB_SUCCEEDED) {
        snprintf(text, sizeof text, "result %u", roll(8)); // some are equal: one file
        r.result = yd_blob_new(yd_strdup(text), strlen(text), "image/png", 1);
    }
    const int rc = run(yd_store_op_new(YD_OP_UPDATE, &r, on_done, NULL));
    const int want = m->kind != LIVE ? YD_E_NOT_FOUND : final(m) ? YD_E_CONFLICT : 0;
    CHECK_MSG(rc == want, "update %d: %d, not %d", i, rc, want);
    if (!rc) {
        m->state = r.state;
        m->step = r.progress.step;
        m->finished_ms = r.finished_ms;
        snprintf(m->result, sizeof m->result, "%s", text);
    }
    yd_job_record_clear(&r);
}

static void bury(int i)
{
    model[i] = (model_row){.kind = BURIED, .buried_ms = now_ms};
}

static void remove_job(int i)
{
    yd_job_record r = record(i);
    yd_store_op *op = yd_store_op_new(YD_OP_REMOVE, &r, on_done, NULL);
    op->now_ms = now_ms;
    CHECK(run(op) == 0);
    if (model[i].kind == LIVE) bury(i);
}

// Who ended first, of those that have ended; -1: none. Equal times: in the order in which the store was told, which orders do not say.
static int oldest_end(void)
{
    int64_t first = INT64_MAX;
    for (int i = 0; i < IDS; i++)
        if (final(&model[i]) && model[i].finished_ms < first) first = model[i].finished_ms;
    return first == INT64_MAX ? -1 : (int)first;
}

static int number_of_ended(void)
{
    int n = 0;
    for (int i = 0; i < IDS; i++) n += final(&model[i]);
    return n;
}

static void expire(void)
{
    const size_t most = 6 + roll(20);
    yd_store_op *op = yd_store_op_new(YD_OP_EXPIRE, NULL, on_done, NULL);
    op->now_ms = now_ms;
    op->limits = (yd_store_limits){TTL_MS, GRAVE_MS, most, SIZE_MAX >> 1};
    CHECK(run(op) == 0);
    for (int e = 0; e < n_expired; e++) {
        int i = -1;
        CHECK(sscanf(expired[e], "job-%d", &i) == 1 && i >= 0 && i < IDS);
        if (i < 0 || i >= IDS) return;
        const int due = now_ms - model[i].finished_ms >= TTL_MS || number_of_ended() > (int)most;
        CHECK_MSG(final(&model[i]) && due && model[i].finished_ms == oldest_end(), "job %d went too early", i);
        bury(i);
    }
    CHECK_MSG(number_of_ended() <= (int)most && (oldest_end() < 0 || now_ms - oldest_end() < TTL_MS), "%d are left", number_of_ended());
    for (int i = 0; i < IDS; i++)
        if (model[i].kind == BURIED && now_ms - model[i].buried_ms >= GRAVE_MS) model[i] = (model_row){0};
}

static void restart(void)
{
    if (!durable) return;
    close_store();
    CHECK_MSG(open_store() == 0, "%s", err.detail);
    for (int i = 0; i < IDS; i++)
        if (model[i].kind == LIVE && model[i].state == YD_JOB_RUNNING) model[i].state = YD_JOB_QUEUED;
}

static void compare(int i)
{
    yd_job_record r;
    char id[YD_ID_MAX];
    const model_row *m = &model[i];
    id_of(i, id);
    const int rc = store->get(store, id, 1, &r, &err), want = m->kind == LIVE ? 0 : m->kind == BURIED ? YD_E_GONE : YD_E_NOT_FOUND;
    CHECK_MSG(rc == want, "get %d: %d, not %d", i, rc, want);
    if (rc) return;
    CHECK_MSG(r.state == m->state && r.attempts == m->attempts && r.order == m->order && r.progress.step == m->step, "job %d", i);
    CHECK(r.finished_ms == m->finished_ms && (r.result != NULL) == (*m->result != 0));
    if (r.result) CHECK(r.result->len == strlen(m->result) && memcmp(r.result->bytes, m->result, r.result->len) == 0);
    yd_job_record_clear(&r);
}

static void compare_list(void)
{
    char ids[IDS][YD_ID_MAX], owner[16], id[YD_ID_MAX];
    uint64_t orders[IDS];
    const int of = (int)roll(4), state = (int)roll(6) - 1;
    snprintf(owner, sizeof owner, "owner-%d", of);
    const int n = store->list(store, of < 3 ? owner : NULL, state, UINT64_MAX, IDS, ids, orders);
    int want = 0;
    for (int i = 0; i < IDS; i++) {
        if (model[i].kind != LIVE || (of < 3 && model[i].owner != of) || (state >= 0 && (int)model[i].state != state)) continue;
        int found = 0;
        id_of(i, id);
        for (int k = 0; k < n; k++) found |= strcmp(ids[k], id) == 0 && orders[k] == model[i].order;
        CHECK_MSG(found, "job %d is not listed", i);
        want++;
    }
    CHECK_MSG(n == want, "%d listed, not %d", n, want);
    for (int k = 1; k < n; k++) CHECK(orders[k] < orders[k - 1]);
}

static void one_operation(void)
{
    const int i = (int)roll(IDS);
    now_ms += roll(12);
    switch (roll(10)) {
    case 0: case 1: case 2: put(i); break;
    case 3: case 4: claim(i); break;
    case 5: update(i, 0); break;
    case 6: case 7: update(i, 1); break;
    case 8: remove_job(i); break;
    case 9: expire(); break;
    }
    compare(i);
    if (roll(20) == 0) compare_list();
    if (roll(300) == 0) restart();
}

static void random_life(void)
{
    memset(model, 0, sizeof model);
    seed = 20;
    now_ms = 1000;
    last_order = 0;
    loop_begin(5);
    snprintf(folder, sizeof folder, "build/test-model-XXXXXX");
    if (durable) CHECK(mkdtemp(folder) != NULL);
    CHECK_MSG(open_store() == 0, "%s", err.detail);
    for (int k = 0; k < OPS && !t_failed_checks; k++) one_operation();
    for (int i = 0; i < IDS; i++) compare(i);
    close_store();
    loop_end();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (durable) CHECK(system(command) == 0);
}

static void in_memory(void)
{
    durable = IN_MEMORY;
    random_life();
}

static void on_disk(void)
{
    durable = ON_DISK;
    random_life();
}

static void live_in_redis(int how)
{
    if (!redis_is_installed()) {
        t_skip("redis-server is not installed");
        return;
    }
    redis_start();
    durable = how;
    random_life();
    redis_end();
}

static void in_redis(void)
{
    live_in_redis(IN_REDIS);
}

static void wholly_in_redis(void)
{
    live_in_redis(WHOLLY_IN_REDIS);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"store against a model: in memory", in_memory},
        {"store against a model: on disk", on_disk},
        {"store against a model: in Redis", in_redis},
        {"store against a model: in Redis, pictures too", wholly_in_redis},
    };
    yd_log_set_level("error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
