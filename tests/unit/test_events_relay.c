// Events of replicas that share a Redis server: one order for all, each event once, in spite of a server in trouble; pictures fetched and asked for.
//
// The relays are in this process, on one loop; the server is a real one.
#include "daemon/events_relay.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "tests/unit/loop_rig.h"
#include "tests/unit/redis_rig.h"

#define RELAYS 3
#define JOBS   5
#define MOST   4000

typedef struct seen {
    uint64_t place, id, before;
    int job, own, type;
    size_t picture, mask; // bytes, of which all have the right value
    char data[24];
} seen;

typedef struct replica {
    int number;
    uint64_t position;
    int views, asked, looked_at, reached;
    int answer; // to a question: 0 nothing, 1 a picture, 2 a refusal
    yd_relay *relay;
    seen *event;
    int n;
    int64_t at_us; // when the last one was told
    uint64_t id[JOBS];
} replica;

static yd_err err;
static replica at[RELAYS];

static int64_t number_of(void *arg)
{
    return ((replica *)arg)->number;
}
static uint64_t position_of(void *arg)
{
    return ((replica *)arg)->position;
}

static int views(void *arg, const yd_told *e)
{
    (void)e;
    return ((replica *)arg)->views;
}

// Bytes, if each is what it should be.
static size_t sound(const yd_blob *b, int value)
{
    for (size_t i = 0; b && i < b->len; i++)
        if (b->bytes[i] != (uint8_t)(value + (int)i)) return 0;
    return b ? b->len : 0;
}

static void told(void *arg, const yd_told *e)
{
    replica *me = arg;
    CHECK(me->n < MOST);
    seen *s = &me->event[me->n++];
    *s = (seen){e->place, e->id, e->before, e->job[4] - '0', e->own, e->type, sound(e->blob, 1), sound(e->mask, 2), ""};
    snprintf(s->data, sizeof s->data, "%s", e->data);
    CHECK(strcmp(e->owner, "ann") == 0 &&
          (!e->blob || (strcmp(e->blob->mime, "image/jpeg") == 0 && e->blob->width == 30 && e->blob->height == 20)));
    me->at_us = yd_mono_us();
}

static void viewed(void *arg, const char *job)
{
    ((replica *)arg)->looked_at += strcmp(job, "job-3") == 0;
}

static void reached(void *arg, const char *job, const char *words)
{
    ((replica *)arg)->reached += strcmp(job, "job-2") == 0 && strcmp(words, "{\"b\":2}") == 0;
}

static yd_blob *bytes(size_t n, int value, const char *mime)
{
    uint8_t *p = yd_malloc(n);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(value + (int)i);
    yd_blob *b = yd_blob_new(p, n, mime, 0);
    b->width = 30;
    b->height = 20;
    return b;
}

static void asked(void *arg, const yd_relay_question *q)
{
    replica *me = arg;
    me->asked++;
    CHECK(strcmp(q->job, "job-1") == 0 && strcmp(q->words, "{\"a\":1}") == 0);
    yd_blob *b = bytes(100000, 3, "image/png");
    yd_err why;
    yd_fail_field(&why, YD_E_SETTING, "step", "1..3", "there is no step 4");
    if (me->answer == 1) yd_relay_answer(me->relay, q->replica, q->number, 0, b, NULL);
    if (me->answer == 2) yd_relay_answer(me->relay, q->replica, q->number, YD_E_SETTING, NULL, &why);
    yd_blob_unref(b);
}

static int open_one(int i, long keep)
{
    at[i].number = i + 1;
    at[i].event = yd_calloc(MOST, sizeof *at[i].event);
    redis_do("HSET yodad:live %d 0", i + 1);
    const yd_relay_host host = {&at[i], number_of, position_of, views, told, viewed, reached, asked};
    return yd_relay_open(&loop, redis_url, keep, &host, &at[i].relay, &err);
}

// 1: skipped.
static int begin(int n, long keep)
{
    if (!redis_is_installed()) {
        t_skip("redis-server is not installed");
        return 1;
    }
    redis_start();
    loop_begin(2);
    memset(at, 0, sizeof at);
    for (int i = 0; i < n; i++) CHECK_MSG(open_one(i, keep) == 0, "%s", err.detail);
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
    yd_relay_close(at[i].relay, on_closed, NULL);
    while (!closed) uv_run(&loop, UV_RUN_ONCE);
    at[i].relay = NULL;
}

static void end(void)
{
    for (int i = 0; i < RELAYS; i++) {
        if (at[i].relay) close_one(i);
        yd_free(at[i].event);
    }
    loop_end();
    redis_end();
}

static void publish_as(int i, int job, int64_t claims, uint64_t id, yd_event_type type, yd_blob *picture, yd_blob *mask)
{
    char data[24];
    yd_told e = {
        .claims = claims, .id = id, .before = id - 1, .type = type, .data = data, .blob = picture, .mask = mask};
    snprintf(e.job, sizeof e.job, "job-%d", job);
    snprintf(e.owner, sizeof e.owner, "ann");
    snprintf(data, sizeof data, "{\"n\":%llu}", (unsigned long long)id);
    yd_relay_publish(at[i].relay, &e);
}

// Job k is run by replica k modulo n.
static void publish(int n, int job)
{
    publish_as(job % n, job, 1, ++at[job % n].id[job], YD_EVENT_STEP, NULL, NULL);
}

// Until a replica was told of so many.
static int wait_for(int i, int n)
{
    const int64_t until = yd_mono_us() + 20000000;
    while (at[i].n < n && yd_mono_us() < until) uv_run(&loop, UV_RUN_ONCE);
    CHECK_MSG(at[i].n == n, "replica %d was told of %d events, not %d", i, at[i].n, n);
    return at[i].n == n;
}

// Until each of n has both its connections; what was told for that is forgotten.
static void connect_all(int n)
{
    for (int i = 0; i < n; i++) {
        publish_as(i, 4, 0, (uint64_t)i + 1, YD_EVENT_STEP, NULL, NULL);
        for (int k = 0; k < n; k++) wait_for(k, i + 1);
    }
    for (int i = 0; i < n; i++) at[i].n = 0;
}

static void same(int a, int b, int n)
{
    for (int k = 0; k < n; k++) {
        seen x = at[a].event[k], y = at[b].event[k];
        CHECK_MSG(x.place == y.place && x.id == y.id && x.job == y.job && x.before == y.before &&
                      strcmp(x.data, y.data) == 0,
                  "event %d: %llu of job %d, %llu of job %d", k, (unsigned long long)x.id, x.job,
                  (unsigned long long)y.id, y.job);
    }
}

// Every event of every job once, in its order, at rising places.
static void whole(int i, int n_replicas)
{
    uint64_t last[JOBS] = {0};
    for (int k = 0; k < at[i].n; k++) {
        const seen *s = &at[i].event[k];
        CHECK_MSG(s->id == last[s->job] + 1 && s->before == s->id - 1, "job %d: %llu after %llu", s->job,
                  (unsigned long long)s->id, (unsigned long long)last[s->job]);
        CHECK(k == 0 || s->place > at[i].event[k - 1].place);
        CHECK(s->own == (s->job % n_replicas == i));
        last[s->job] = s->id;
    }
    for (int job = 0; job < JOBS; job++) CHECK(last[job] == at[job % n_replicas].id[job]);
}

// ---- cases ---------------------------------------------------------------------------------------------------------

static void one_order_for_all(void)
{
    if (begin(2, 10000)) return;
    for (int k = 0; k < 600; k++) {
        publish(2, k % JOBS);
        if (k % 7 == 0) uv_run(&loop, UV_RUN_NOWAIT);
    }
    if (wait_for(0, 600) && wait_for(1, 600)) {
        same(0, 1, 600);
        whole(0, 2);
        whole(1, 2);
    }
    // Who comes later is told what there is.
    CHECK(open_one(2, 10000) == 0 && at[2].n == 600);
    same(0, 2, at[2].n);
    publish(2, 0);
    if (wait_for(2, 601) && wait_for(0, 601)) same(0, 2, 601);
    end();
}

static void the_stream_is_bounded(void)
{
    if (begin(2, 200)) return;
    // In lots that are smaller than what is kept: who is further behind than that misses what was trimmed.
    for (int k = 0; k < 1500; k++) {
        publish(2, k % JOBS);
        if (k % 100 == 99) wait_for(1, k + 1);
    }
    const long long kept = redis_do("XLEN yodad:events");
    CHECK_MSG(kept >= 200 && kept < 700, "%lld are kept", kept);
    CHECK(open_one(2, 200) == 0 && at[2].n == kept && at[2].event[0].place == (uint64_t)(1501 - kept) &&
          yd_relay_place(at[2].relay) == 1500);
    end();
}

static void told_when_the_log_has_come_as_far(void)
{
    if (begin(2, 1000)) return;
    publish(2, 0);
    wait_for(1, 1);
    at[0].position = 7; // of the store's log, where the next one is told
    publish(2, 0);
    wait_for(0, 2);
    wait_ms(200);
    CHECK(at[1].n == 1);
    at[1].position = 6;
    yd_relay_advanced(at[1].relay);
    CHECK(at[1].n == 1);
    at[1].position = 7;
    yd_relay_advanced(at[1].relay);
    CHECK(at[1].n == 2);
    end();
}

static void stop_it(void)
{
    kill(redis_pid, SIGSTOP);
}
static void go_on(void)
{
    kill(redis_pid, SIGCONT);
}
static void fill_it(void)
{
    CHECK(redis_do("CONFIG SET maxmemory 1") > 0);
}
static void empty_it(void)
{
    CHECK(redis_do("CONFIG SET maxmemory 0") > 0);
}
static void make_replica(void)
{
    CHECK(redis_do("REPLICAOF 127.0.0.1 1") > 0);
}
static void make_master(void)
{
    CHECK(redis_do("REPLICAOF NO ONE") > 0);
}

static void through_trouble(const char *what, void (*begins)(void), void (*ends)(void), int64_t long_ms)
{
    const int before = at[0].n;
    publish(2, 0);
    publish(2, 1);
    begins();
    const int64_t until = yd_mono_us() + long_ms * 1000;
    int k = 2;
    for (; yd_mono_us() < until; k++) {
        publish(2, k % JOBS);
        wait_ms(20);
    }
    ends();
    for (int more = 0; more < 100; more++, k++) {
        publish(2, k % JOBS);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    printf("    %s: %d events\n", what, k);
    wait_for(0, before + k);
    wait_for(1, before + k);
}

static void trouble(void)
{
    if (begin(2, 10000)) return;
    CHECK(redis_do("CONFIG SET appendfsync always") > 0);
    through_trouble("killed", redis_kill, redis_start, 500);
    through_trouble("stopped", stop_it, go_on, 2500);
    through_trouble("full", fill_it, empty_it, 700);
    through_trouble("read-only", make_replica, make_master, 700);
    same(0, 1, at[0].n);
    whole(0, 2);
    whole(1, 2);
    end();
}

static void who_may_tell(void)
{
    if (begin(2, 1000)) return;
    publish_as(0, 0, 1, 1, YD_EVENT_STARTED, NULL, NULL);
    wait_for(1, 1);
    publish_as(1, 0, 2, 20, YD_EVENT_STARTED, NULL, NULL); // it has claimed the job after that
    wait_for(0, 2);
    publish_as(0, 0, 1, 21, YD_EVENT_STEP, NULL, NULL); // too late
    publish_as(0, 1, 1, 1, YD_EVENT_STEP, NULL, NULL);
    wait_for(1, 3);
    CHECK(at[1].event[2].job == 1);
    // The end may come from anybody, and once; nothing follows it.
    publish_as(0, 1, 1, 2, YD_EVENT_STEP, NULL, NULL);
    wait_for(1, 4);
    publish_as(1, 1, 1, 2, YD_EVENT_CANCELLED, NULL, NULL);
    wait_for(0, 5);
    CHECK(at[0].event[4].type == YD_EVENT_CANCELLED && at[0].event[4].id == 3);
    publish_as(0, 1, 1, 3, YD_EVENT_STEP, NULL, NULL);
    publish_as(0, 1, 1, 4, YD_EVENT_SUCCEEDED, NULL, NULL);
    publish_as(0, 2, 1, 1, YD_EVENT_STEP, NULL, NULL);
    wait_for(1, 6);
    CHECK(at[1].event[5].job == 2);
    // Who has claimed a job tells what came before, too, should the other one be slow: it is told once.
    publish_as(1, 4, 1, 1, YD_EVENT_QUEUED, NULL, NULL);
    publish_as(1, 4, 1, 2, YD_EVENT_STARTED, NULL, NULL);
    wait_for(0, 8);
    publish_as(0, 4, 0, 1, YD_EVENT_QUEUED, NULL, NULL);
    publish_as(0, 2, 1, 2, YD_EVENT_STEP, NULL, NULL);
    wait_for(1, 9);
    CHECK(at[1].event[8].job == 2);
    // Who was taken for dead is not heard.
    redis_do("HDEL yodad:live 1");
    publish_as(0, 2, 1, 3, YD_EVENT_STEP, NULL, NULL);
    wait_ms(100);
    publish_as(1, 3, 1, 1, YD_EVENT_STEP, NULL, NULL);
    wait_for(0, 10);
    CHECK(at[0].event[9].job == 3);
    end();
}

static void pictures_of_previews(void)
{
    if (begin(RELAYS, 1000)) return;
    connect_all(RELAYS); // who is not connected yet sends no pictures, and fetches none
    at[1].views = 1;
    for (int k = 0; k < 20; k++) {
        yd_blob *picture = bytes(200000, 1, "image/jpeg"), *mask = k % 2 ? bytes(500, 2, "image/png") : NULL;
        publish(1, 0);
        publish_as(0, 0, 1, ++at[0].id[0], YD_EVENT_PREVIEW, picture, mask);
        publish(1, 0);
        yd_blob_unref(picture);
        yd_blob_unref(mask);
        wait_for(1, 3 * (k + 1));
    }
    for (int i = 1; i < RELAYS; i++) wait_for(i, 60);
    same(1, 2, 60);
    for (int k = 0; k < 60; k++) {
        const seen *shown = &at[1].event[k], *hidden = &at[2].event[k];
        const int preview = k % 3 == 1;
        CHECK(shown->type == (preview ? YD_EVENT_PREVIEW : YD_EVENT_STEP) && shown->id == (uint64_t)k + 1);
        CHECK_MSG(shown->picture == (preview ? 200000 : 0) && shown->mask == (preview && k / 3 % 2 ? 500 : 0),
                  "event %d: %zu, %zu", k, shown->picture, shown->mask);
        CHECK(hidden->picture == 0 && hidden->mask == 0);
    }
    CHECK(redis_do("TTL yodad:preview:job-0:2") > 0);
    end();
}

static int answered, answer_rc;
static size_t answer_bytes;
static yd_err answer_err;

static void on_answer(void *arg, int rc, yd_blob *blob, const yd_err *why)
{
    (void)arg;
    answered++;
    answer_rc = rc;
    answer_bytes = sound(blob, 3);
    if (rc) answer_err = *why;
    CHECK(!blob || (strcmp(blob->mime, "image/png") == 0 && blob->width == 30));
    yd_blob_unref(blob);
}

static void ask(int i)
{
    const int before = answered;
    CHECK(yd_relay_ask(at[i].relay, "job-1", "{\"a\":1}", on_answer, NULL, NULL, &err) == 0);
    for (int64_t until = yd_mono_us() + 20000000; answered == before && yd_mono_us() < until;)
        uv_run(&loop, UV_RUN_ONCE);
    CHECK(answered == before + 1);
}

static void questions(void)
{
    yd_relay_call *call;
    if (begin(RELAYS, 1000)) return;
    connect_all(RELAYS);
    at[2].answer = 1;
    ask(0);
    CHECK(answer_rc == 0 && answer_bytes == 100000 && at[1].asked == 1 && at[2].asked == 1 && at[0].asked == 0);
    at[2].answer = 2;
    ask(0);
    CHECK(answer_rc == YD_E_SETTING && strcmp(answer_err.field, "step") == 0 &&
          strcmp(answer_err.detail, "there is no step 4") == 0);
    at[2].answer = 0;
    ask(0);
    CHECK(answer_rc == YD_E_NOT_READY);
    at[2].answer = 1;
    CHECK(yd_relay_ask(at[0].relay, "job-1", "{\"a\":1}", on_answer, NULL, &call, &err) == 0);
    yd_relay_call_cancel(call);
    const int before = answered;
    wait_ms(300);
    CHECK(answered == before && at[2].asked == 4);
    CHECK(yd_relay_ask(at[0].relay, "job-1", "{\"a\":1}", on_answer, NULL, NULL, &err) == 0);
    close_one(0); // tells whoever waits
    CHECK(answered == before + 1);
    yd_relay_reach(at[1].relay, "job-2", "{\"b\":2}");
    yd_relay_view(at[1].relay, "job-3");
    for (int64_t until = yd_mono_us() + 20000000; !at[2].looked_at && yd_mono_us() < until;) uv_run(&loop, UV_RUN_ONCE);
    CHECK(at[2].looked_at == 1 && at[1].looked_at == 0 && at[2].reached == 1 && at[1].reached == 0);
    end();
}

static int earlier(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void how_long_it_takes(void)
{
    enum { N = 300 };
    static int64_t took[N];
    if (begin(2, 1000)) return;
    connect_all(2);
    for (int k = 0; k < N; k++) {
        const int64_t since = yd_mono_us();
        publish(1, 0);
        wait_for(1, k + 1);
        took[k] = at[1].at_us - since;
        wait_ms(1);
    }
    qsort(took, N, sizeof took[0], earlier);
    printf("    from publish to told: median %lld us, 99%% %lld us\n", (long long)took[N / 2],
           (long long)took[N * 99 / 100]);
    end();
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"relay: one order for all", one_order_for_all},
        {"relay: the stream is bounded", the_stream_is_bounded},
        {"relay: told when the log has come as far", told_when_the_log_has_come_as_far},
        {"relay: a server in trouble", trouble},
        {"relay: who may tell", who_may_tell},
        {"relay: pictures of previews", pictures_of_previews},
        {"relay: questions", questions},
        {"relay: how long it takes", how_long_it_takes},
    };
    yd_log_set_level(argc > 2 ? "info" : "error");
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
