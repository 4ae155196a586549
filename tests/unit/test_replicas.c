// Several services on one Redis and one folder, in this process and on one loop: whatever is done at any of them, in any order, all come to agree.
//
// Jobs are submitted, cancelled and deleted at random services while services leave (SIGTERM), are stopped for longer than their lease (muted: they
// compute on, and come back as others) and are asked. When nothing is on its way any more: every job that was accepted and neither cancelled nor
// deleted has succeeded with the bytes of an undisturbed run, all services answer alike, and none has anything left over.
#include "daemon/service_internal.h"
#include "daemon/store_redis.h"
#include "tests/unit/redis_rig.h"
#include "tests/unit/service_rig.h"

#define SERVICES 3
#define JOBS     400
#define KINDS    3
#define LEASE_MS 1000

typedef struct model {
    char id[YD_ID_MAX];
    int kind, cancelled, deleted; // asked for
    int deleting, perhaps;        // not answered yet; nobody knows what came of it
} model;

static yd_service *all[SERVICES];
static yd_config cfgs[SERVICES];
static char state_folder[64], alone[KINDS][65];
static const char *const asked[KINDS] = {"steps=3 lower_bound=1 seed=5", "steps=5 seed=7 sampler=ancestral",
                                         "steps=8 lower_bound=1 priority=high"};
static model jobs[JOBS];
static int n_jobs, restarts, stops;
static uint64_t seed;

static unsigned roll(unsigned n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % n;
}

static void note_alone(void)
{
    for (int k = 0; k < KINDS; k++) {
        setup();
        open_service();
        const char *id = submit(40 + 8 * k, 32, asked[k]);
        WAIT(ended(id));
        yd_blob *b = result(id);
        if (b) memcpy(alone[k], b->sha256, sizeof alone[k]);
        yd_blob_unref(b);
        close_service();
    }
}

// ---- services ------------------------------------------------------------------------------------------------------

static void open_one(int i)
{
    cfgs[i] = cfg;
    const int rc = yd_service_open(&loop, &cfgs[i], &all[i], &err);
    CHECK_MSG(rc == 0, "%s", err.detail);
    if (rc) exit(1);
    WAIT(yd_service_ready(all[i], NULL));
}

static void close_one(int i)
{
    closed = 0;
    yd_service_close(all[i], on_closed, NULL);
    WAIT(closed);
    all[i] = NULL;
}

// 1: skipped.
static int begin(int content_cache)
{
    if (!redis_is_installed()) {
        t_skip("redis-server is not installed");
        return 1;
    }
    note_alone();
    redis_start();
    snprintf(state_folder, sizeof state_folder, "build/test-replicas-XXXXXX");
    CHECK(mkdtemp(state_folder) != NULL);
    setup();
    cfg.fake_unit_us = 500;
    cfg.checkpoint_interval_ms = 1;
    cfg.max_attempts = 1000000;
    cfg.max_running = 2;
    cfg.content_cache = content_cache;
    cfg.store_lease_ms = LEASE_MS;
    cfg.handover_timeout_ms = 20000;
    yd_config_set(&cfg, "store", redis_url, NULL);
    yd_config_set(&cfg, "state_dir", state_folder, NULL);
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 5, 5);
    for (int i = 0; i < SERVICES; i++) open_one(i);
    n_jobs = restarts = stops = 0;
    return 0;
}

static void end(void)
{
    char command[128];
    for (int i = 0; i < SERVICES; i++) close_one(i);
    uv_close((uv_handle_t *)&ticker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT)) continue;
    CHECK(uv_loop_close(&loop) == 0);
    redis_end();
    snprintf(command, sizeof command, "rm -rf '%s'", state_folder);
    CHECK(system(command) == 0);
}

static yd_redis_store *store_of(int i)
{
    return (yd_redis_store *)all[i]->store;
}

static void run_ms(int64_t ms)
{
    const int64_t until = yd_mono_us() + ms * 1000;
    while (yd_mono_us() < until) uv_run(&loop, UV_RUN_ONCE);
}

static int works(int i)
{
    yd_store_health h;
    all[i]->store->health(all[i]->store, &h);
    return h.ok && !store_of(i)->muted;
}

// ---- what is done --------------------------------------------------------------------------------------------------

static void on_taken(void *arg, int rc, yd_job *j, const yd_err *e)
{
    model *m = arg;
    (void)e;
    if (!rc)
        snprintf(m->id, sizeof m->id, "%s", yd_job_id(j));
    else
        m->deleted = 1; // nobody was promised anything
}

static void submit_at(int i)
{
    if (n_jobs == JOBS) return;
    model *m = &jobs[n_jobs++];
    *m = (model){.kind = (int)roll(KINDS)};
    void *bytes;
    size_t len;
    picture(40 + 8 * m->kind, 32, 0, &bytes, &len);
    char copy[96];
    yd_setting set[4];
    size_t n = 0;
    snprintf(copy, sizeof copy, "%s", asked[m->kind]);
    for (char *s = copy; *s && n < 4;) { // "a=1 b=2"
        set[n].name = s;
        s += strcspn(s, "=");
        *s++ = 0;
        set[n++].value = s;
        s += strcspn(s, " ");
        if (*s) *s++ = 0;
    }
    yd_submission sub = {
        .bytes = bytes, .len = len, .settings = set, .n_settings = n, .owner = "me", .request_id = "req"};
    if (yd_service_submit(all[i], &sub, on_taken, m, NULL, &err)) m->deleted = 1;
}

static void cancel_at(int i, model *m)
{
    yd_job *j;
    if (!*m->id || m->deleted || yd_service_find(all[i], "me", m->id, &j, &err)) return;
    if (yd_service_cancel(all[i], j, &err) == 0) m->cancelled = 1; // unless it is faster
}

static void on_deleted(void *arg, int rc, const yd_err *e)
{
    model *m = arg;
    (void)e;
    m->deleting--;
    if (!rc)
        m->deleted = 1;
    else
        m->perhaps = 1; // refused by one that was fenced off, it may have been on its way
}

static void delete_at(int i, model *m)
{
    yd_job *j;
    if (!*m->id || m->deleted || !works(i) || yd_service_find(all[i], "me", m->id, &j, &err)) return;
    if (yd_service_delete(all[i], j, on_deleted, m, &err) == 0) m->deleting++;
}

static void on_drained(void *arg)
{
    *(int *)arg = 1;
}

// As a rolling update does it.
static void restart(int i)
{
    int drained = 0;
    restarts++;
    yd_service_drain(all[i], 0, on_drained, &drained);
    cfgs[i].drain_timeout_ms = 0;
    WAIT(drained);
    close_one(i);
    open_one(i);
}

// It does not hear and say anything for longer than its lease, and computes on meanwhile.
static void stop_for_a_while(int i)
{
    yd_redis_store *s = store_of(i);
    const int64_t before = s->replica;
    stops++;
    s->muted = 1;
    yd_redis_store *other = store_of((i + 1) % SERVICES);
    for (int64_t until = yd_mono_us() + 8000000; yd_mono_us() < until;) {
        run_ms(50);
        redisContext *c = redis_ask();
        redisReply *r = redisCommand(c, "HEXISTS yodad:live %s", s->replica_text);
        const int gone = r && r->type == REDIS_REPLY_INTEGER && !r->integer;
        freeReplyObject(r);
        redisFree(c);
        if (gone) break;
    }
    CHECK(other->ok);
    run_ms(roll(300));
    s->muted = 0;
    s->xread_us = s->refresh_sent_us = 0; // what it was sent meanwhile it has not read
    yd_redis_link_drop(&s->reader);
    yd_redis_link_drop(&s->writer);
    s->wire = 0;
    for (yd_pending *p = s->sent.head; p; p = p->next) p->on_wire = 0;
    WAIT(works(i) && s->replica > before);
}

static void one_random(void)
{
    const int i = (int)roll(SERVICES);
    model *m = n_jobs ? &jobs[roll((unsigned)n_jobs)] : NULL;
    const unsigned what = roll(100);
    if (what < 60)
        submit_at(i);
    else if (what < 75 && m)
        cancel_at(i, m);
    else if (what < 85 && m)
        delete_at(i, m);
    else if (what < 87)
        restart(i);
    else if (what < 88)
        stop_for_a_while(i);
    run_ms(roll(30));
}

// ---- what comes of it ----------------------------------------------------------------------------------------------

static int state_at(int i, const char *id)
{
    yd_job *j;
    const int rc = yd_service_find(all[i], "me", id, &j, &err);
    return rc ? rc : (int)yd_job_state_of(j);
}

static int is_quiet(void)
{
    for (int i = 0; i < SERVICES; i++) {
        if (all[i]->under_way || all[i]->arriving || store_of(i)->sent.head || store_of(i)->todo.head ||
            store_of(i)->working)
            return 0;
        if (store_of(i)->position != store_of(0)->position || !works(i)) return 0;
    }
    for (int k = 0; k < n_jobs; k++) {
        if (jobs[k].deleting) return 0;
        for (int i = 0; *jobs[k].id && i < SERVICES; i++) {
            const int s = state_at(i, jobs[k].id);
            if (s == YD_JOB_QUEUED || s == YD_JOB_RUNNING) return 0;
        }
    }
    return 1;
}

static void check_job(const model *m)
{
    if (!*m->id) return;
    for (int i = 0; i < SERVICES; i++) {
        const int s = state_at(i, m->id);
        if (m->deleted)
            CHECK_MSG(s == YD_E_GONE, "deleted job %s is %d at %d", m->id, s, i);
        else
            CHECK_MSG(s == YD_JOB_SUCCEEDED || (s == YD_JOB_CANCELLED && m->cancelled) ||
                          (s == YD_E_GONE && m->perhaps),
                      "job %s is %d at %d", m->id, s, i);
        CHECK_MSG(s == state_at(0, m->id), "job %s is %d at %d, %d at 0", m->id, s, i, state_at(0, m->id));
        if (s != YD_JOB_SUCCEEDED) continue;
        yd_job *j;
        yd_blob *b = NULL;
        CHECK(yd_service_find(all[i], "me", m->id, &j, &err) == 0 && yd_service_result(all[i], j, &b, &err) == 0);
        CHECK_MSG(b && strcmp(b->sha256, alone[m->kind]) == 0, "job %s of kind %d has other bytes at %d", m->id,
                  m->kind, i);
        CHECK_MSG(b && yd_blob_check(b, &err) == 0, "%s", err.detail);
        yd_blob_unref(b);
    }
}

static void check_all(void)
{
    const int64_t until = yd_mono_us() + 60000000;
    while (!is_quiet() && yd_mono_us() < until) run_ms(20);
    CHECK_MSG(is_quiet(), "something is still on its way: %d %d %d under way", all[0]->under_way, all[1]->under_way,
              all[2]->under_way);
    for (int k = 0; k < n_jobs && !t_failed_checks; k++) check_job(&jobs[k]);
    for (int i = 0; i < SERVICES; i++) {
        CHECK_MSG(all[i]->input_bytes == 0, "%zu bytes of pictures are left at %d", all[i]->input_bytes, i);
        CHECK_MSG(yd_owners_jobs(all[i]->owners, "me") == 0, "%ld jobs are counted at %d",
                  yd_owners_jobs(all[i]->owners, "me"), i);
        CHECK(all[i]->followers == 0 && all[i]->sched.n_waiting == 0 && all[i]->sched.n_running == 0);
    }
}

static void many_things(int content_cache, uint64_t from)
{
    if (begin(content_cache)) return;
    const char *other = getenv("YODA_TEST_SEED");
    seed = other ? strtoull(other, NULL, 10) : from;
    for (int round = 0; round < 4 && !t_failed_checks; round++) {
        for (int k = 0; k < 60; k++) one_random();
        check_all();
    }
    printf("  %d jobs, %d restarts, %d stops\n", n_jobs, restarts, stops);
    end();
}

static void each_job_computed(void)
{
    many_things(0, 3);
}
static void equal_jobs_shared(void)
{
    many_things(1, 11);
}

static void take_all(const char *names[], int n)
{
    for (int k = 0; k < n; k++) {
        svc = all[0];
        names[k] = submit(40, 32, asked[0]);
        model *m = &jobs[n_jobs++];
        *m = (model){0};
        snprintf(m->id, sizeof m->id, "%s", names[k]);
    }
}

static int is_foreign_at(int i, const char *id)
{
    const yd_job *j = yd_idmap_get(all[i]->jobs, id);
    return j && j->foreign;
}

// One that would make other bytes leaves jobs to those that make what they were taken for, and has them when there is nobody else.
static void what_it_was_taken_for(void)
{
    const char *names[6];
    yd_model_record *m;
    if (begin(0)) return;
    CHECK(yd_registry_find(&all[1]->models, "fake-2x", &m, &err) == 0 && m->current);
    for (int i = 0; i < m->current->n_engines; i++)
        snprintf(m->current->engine[i].backend.isa, sizeof m->current->engine[i].backend.isa, "another");
    take_all(names, 6);
    check_all();
    for (int k = 0; k < 6; k++) CHECK_MSG(is_foreign_at(1, names[k]), "job %d", k);
    all[1]->unfit_us = 300000;
    for (int i = 0; i < SERVICES; i += 2) all[i]->sched.policy.max_running = 0; // they compute nothing from now on
    take_all(names, 2);
    check_all();
    for (int k = 0; k < 2; k++) CHECK_MSG(!is_foreign_at(1, names[k]), "job %d", k);
    end();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"replicas: each job computed", each_job_computed},
        {"replicas: equal jobs shared", equal_jobs_shared},
        {"replicas: what a job was taken for", what_it_was_taken_for},
    };
    yd_log_set_level(argc > 2 ? "info" : "error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
