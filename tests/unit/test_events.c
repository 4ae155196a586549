// Event logs: ids, replay, trimming, gaps, subscribers that come and go while they are called.
#include "daemon/events.h"

#include "core/mem.h"
#include "tests/unit/t.h"

static uint64_t add(yd_event_log *log, yd_event_type t)
{
    uint64_t id = 0;
    yd_blob *b = t == YD_EVENT_PREVIEW ? yd_blob_new(yd_calloc(1, 100), 100, "image/png", 0) : NULL;
    yd_err err;
    return yd_events_append(log, t, yd_strdup("{}"), b, NULL, &id, &err) ? 0 : id;
}

// The ids a reader gets from `after` on, as text; gaps are marked with g.
static const char *replay(const yd_event_log *log, uint64_t after)
{
    static char s[512];
    size_t n = 0;
    int gap;
    s[0] = 0;
    for (const yd_event *e; (e = yd_events_next(log, after, &gap)); after = e->id)
        n += (size_t)snprintf(s + n, sizeof s - n, "%s%s%llu", n ? " " : "", gap ? "g" : "", (unsigned long long)e->id);
    return s;
}

static void replay_and_end(void)
{
    yd_event_log *log = yd_events_new(16, 3);
    yd_err err;
    CHECK(yd_events_last_id(log) == 0 && yd_events_next(log, 0, NULL) == NULL);
    CHECK(add(log, YD_EVENT_QUEUED) == 1 && add(log, YD_EVENT_STARTED) == 2 && add(log, YD_EVENT_STEP) == 3);
    CHECK(strcmp(replay(log, 0), "1 2 3") == 0);
    CHECK(strcmp(replay(log, 2), "3") == 0);
    CHECK(strcmp(replay(log, 3), "") == 0 && strcmp(replay(log, 99), "") == 0);
    CHECK(!yd_events_ended(log));
    CHECK(add(log, YD_EVENT_SUCCEEDED) == 4 && yd_events_ended(log));
    CHECK(yd_events_append(log, YD_EVENT_STEP, yd_strdup("{}"), NULL, NULL, NULL, &err) == YD_E_CONFLICT);
    CHECK(yd_events_last_id(log) == 4);
    yd_events_unref(log);
}

static void previews_are_replaceable(void)
{
    yd_event_log *log = yd_events_new(64, 2);
    add(log, YD_EVENT_QUEUED);
    for (int i = 0; i < 4; i++) {
        add(log, YD_EVENT_STEP);
        add(log, YD_EVENT_PREVIEW);
    }
    // ids 3, 5, 7, 9 were previews; only the latest two are left, and holes of previews are no gap
    CHECK_MSG(strcmp(replay(log, 0), "1 2 4 6 7 8 9") == 0, "%s", replay(log, 0));
    CHECK(yd_events_bytes(log) > 200 && yd_events_bytes(log) < 1000);
    yd_events_unref(log);
}

static void steps_are_trimmed_with_a_gap(void)
{
    yd_event_log *log = yd_events_new(16, 2);
    add(log, YD_EVENT_QUEUED);
    add(log, YD_EVENT_STARTED);
    for (int i = 0; i < 30; i++) add(log, YD_EVENT_STEP); // ids 3..32
    CHECK_MSG(strcmp(replay(log, 0), "1 2 g19 20 21 22 23 24 25 26 27 28 29 30 31 32") == 0, "%s", replay(log, 0));
    CHECK(strncmp(replay(log, 10), "g19", 3) == 0); // the cursor lies inside what was trimmed
    CHECK(strncmp(replay(log, 18), "19", 2) == 0);  // everything up to 18 was seen
    CHECK(strncmp(replay(log, 25), "26", 2) == 0);
    CHECK(add(log, YD_EVENT_FAILED) == 33);
    CHECK(strstr(replay(log, 30), "33") != NULL);
    yd_events_unref(log);
}

typedef struct reader {
    int calls;
    yd_subscription *self, *other;
    yd_event_log *log;
} reader;

static void count_call(void *arg)
{
    ((reader *)arg)->calls++;
}

static void leave_call(void *arg)
{
    reader *r = arg;
    r->calls++;
    yd_events_unsubscribe(r->self);
    yd_events_unsubscribe(r->other);
    r->self = r->other = NULL;
}

static void append_call(void *arg)
{
    reader *r = arg;
    if (r->calls++ == 0) add(r->log, YD_EVENT_STEP);
}

static void subscribers(void)
{
    yd_event_log *log = yd_events_new(16, 2);
    yd_err err;
    reader a = {0}, b = {0}, c = {.log = log};
    CHECK(yd_events_subscribe(log, 1, count_call, &a, &a.self, &err) == 0);
    CHECK(yd_events_subscribe(log, 0, leave_call, &b, &b.self, &err) == 0);
    CHECK(yd_events_subscribe(log, 1, append_call, &c, &c.self, &err) == 0);
    CHECK(yd_events_viewers(log) == 2);
    b.other = a.self; // b takes a along with itself, while both are being called
    add(log, YD_EVENT_QUEUED);
    CHECK(b.calls == 1);
    CHECK(a.calls == 0); // called after b, by then it had left
    CHECK(c.calls == 2); // its own append called it again
    CHECK(yd_events_viewers(log) == 1);
    CHECK(yd_events_last_id(log) == 2);
    yd_events_close(log);
    CHECK(c.calls == 3 && yd_events_closed(log));
    yd_events_close(log);
    CHECK(c.calls == 3);
    yd_events_unref(log); // the subscription keeps it
    CHECK(yd_events_last_id(yd_subscription_log(c.self)) == 2);
    yd_events_unsubscribe(c.self);
}

static void out_of_memory(void)
{
    yd_event_log *log = yd_events_new(16, 2);
    yd_err err;
    CHECK(yd_events_append(log, YD_EVENT_QUEUED, NULL, NULL, NULL, NULL, &err) == YD_E_NOMEM);
    CHECK(yd_events_last_id(log) == 0);
    // However many events there are when memory runs out, the final one still finds its place.
    for (int n = 0; n < 40; n++) {
        yd_event_log *l = yd_events_new(64, 2);
        for (int i = 0; i < n; i++) CHECK(add(l, YD_EVENT_STEP) == (uint64_t)i + 1);
        char *step[64], *last = yd_strdup("{}");
        int failed = 0;
        for (int i = 0; i < 64; i++) step[i] = yd_strdup("{}");
        for (int i = 0; i < 64; i++) {
            yd_mem_fail_at(1);
            failed += yd_events_append(l, YD_EVENT_STEP, step[i], NULL, NULL, NULL, &err) == YD_E_NOMEM;
        }
        yd_mem_fail_at(1);
        CHECK(yd_events_append(l, YD_EVENT_FAILED, last, NULL, NULL, NULL, &err) == 0);
        yd_mem_fail_at(0);
        CHECK(failed > 0);
        yd_events_unref(l);
    }
    yd_events_unref(log);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"events: replay from any id, nothing after the end", replay_and_end},
        {"events: old previews leave holes", previews_are_replaceable},
        {"events: old steps leave a gap that is told", steps_are_trimmed_with_a_gap},
        {"events: subscribers leave and append while they are called", subscribers},
        {"events: no memory", out_of_memory},
    };
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
