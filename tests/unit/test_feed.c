// The feed of all jobs' events: order, owners, gaps, the ring's bound, readers.
#include "daemon/feed.h"
#include "tests/unit/t.h"

#define BASE (5ull << 32)

static int calls;

static void on_event(void *arg)
{
    *(int *)arg += 1;
    calls++;
}

static int shows_a(const void *arg, const char *job)
{
    (void)arg;
    return strcmp(job, "a") == 0;
}

static void owners_and_order(void)
{
    yd_feed *f = yd_feed_new(64, BASE);
    int gap;
    CHECK(yd_feed_last_id(f) == BASE && !yd_feed_next(f, "me", BASE, &gap) && !gap);
    for (int i = 0; i < 6; i++) yd_feed_append(f, i % 2 ? "me" : "you", i % 2 ? "a" : "b", YD_EVENT_STEP, i % 2 ? "{\"i\":1}" : "{}", 7);
    const yd_feed_event *e = yd_feed_next(f, "me", BASE, &gap);
    CHECK(e && e->id == BASE + 2 && strcmp(e->job, "a") == 0 && strcmp(e->data, "{\"i\":1}") == 0 && e->type == YD_EVENT_STEP && e->log_id == 7);
    e = yd_feed_next(f, "me", BASE + 2, &gap);
    CHECK(e && e->id == BASE + 4);
    CHECK(!yd_feed_next(f, "me", BASE + 6, &gap) && !gap);
    CHECK(!yd_feed_next(f, "nobody", BASE, &gap) && !gap);
    yd_feed_free(f);
}

static void gaps(void)
{
    yd_feed *f = yd_feed_new(64, BASE);
    int gap;
    for (int i = 0; i < 64; i++) yd_feed_append(f, "me", "a", YD_EVENT_STEP, "{}", 7);
    CHECK(yd_feed_next(f, "me", BASE, &gap) && !gap); // full, and nothing is lost
    yd_feed_append(f, "me", "a", YD_EVENT_STEP, "{}", 7);
    CHECK(!yd_feed_next(f, "me", BASE, &gap) && gap);
    const yd_feed_event *e = yd_feed_next(f, "me", BASE + 1, &gap);
    CHECK(e && !gap && e->id == BASE + 2);
    CHECK(!yd_feed_next(f, "me", BASE + 66, &gap) && gap); // was never given
    CHECK(!yd_feed_next(f, "me", 3, &gap) && gap);         // an earlier process gave it
    for (int i = 0; i < 1000; i++) yd_feed_append(f, "you", "b", YD_EVENT_STEP, "{}", 7);
    CHECK(yd_feed_last_id(f) == BASE + 1065);
    yd_feed_free(f);
}

// Ids come from elsewhere: some were never seen here, and some are known to others before.
static void shared_ids(void)
{
    yd_feed *f = yd_feed_new(64, 0);
    int gap;
    yd_feed_share(f);
    yd_feed_skip(f, 100);
    CHECK(yd_feed_last_id(f) == 100 && yd_feed_begin(f) == 100);
    CHECK(!yd_feed_next(f, "me", 99, &gap) && gap);
    CHECK(!yd_feed_next(f, "me", 100, &gap) && !gap);
    yd_feed_put(f, 101, "me", "a", YD_EVENT_STEP, "{}", 1);
    yd_feed_put(f, 101, "me", "a", YD_EVENT_STEP, "{}", 1);
    yd_feed_put(f, 102, "you", "b", YD_EVENT_STEP, "{}", 1);
    const yd_feed_event *e = yd_feed_next(f, "me", 100, &gap);
    CHECK(e && !gap && e->id == 101 && !yd_feed_next(f, "me", 101, &gap) && !gap);
    CHECK_MSG(!yd_feed_next(f, "me", 105, &gap) && !gap, "another process has told 105 already: it waits");
    yd_feed_put(f, 105, "me", "a", YD_EVENT_STEP, "{}", 2);
    CHECK_MSG(!yd_feed_next(f, "me", 102, &gap) && gap, "103 and 104 are not known");
    yd_feed_put(f, 106, "me", "a", YD_EVENT_STEP, "{}", 3);
    e = yd_feed_next(f, "me", 105, &gap);
    CHECK(e && !gap && e->id == 106 && e->log_id == 3);
    for (uint64_t id = 107; id < 300; id++) yd_feed_put(f, id, "me", "a", YD_EVENT_STEP, "{}", id);
    CHECK(yd_feed_begin(f) == 299 - 64);
    e = yd_feed_next(f, "me", 299 - 64, &gap);
    CHECK(e && !gap && e->id == 300 - 64);
    yd_feed_free(f);
}

static void readers(void)
{
    yd_feed *f = yd_feed_new(64, BASE);
    yd_err err = {0};
    yd_feed_reader *r[3];
    int seen[3] = {0};
    CHECK(yd_feed_read(f, "me", NULL, on_event, &seen[0], &r[0], &err) == 0);
    CHECK(yd_feed_read(f, "you", shows_a, on_event, &seen[1], &r[1], &err) == 0);
    CHECK(yd_feed_read(f, "me", shows_a, on_event, &seen[2], &r[2], &err) == 0);
    yd_feed_append(f, "me", "a", YD_EVENT_QUEUED, "{}", 7);
    CHECK(seen[0] == 1 && seen[1] == 0 && seen[2] == 1 && yd_feed_viewed(f, "me", "a") && yd_feed_viewed(f, "you", "a") && !yd_feed_viewed(f, "you", "b"));
    yd_feed_unread(r[2]);
    CHECK(!yd_feed_viewed(f, "me", "a") && !yd_feed_viewed(f, "nobody", "a"));
    yd_feed_append(f, "me", "a", YD_EVENT_STEP, "{}", 7);
    CHECK(seen[0] == 2 && seen[2] == 1);
    yd_feed_unread(r[0]);
    yd_feed_append(f, "me", "a", YD_EVENT_STEP, "{}", 7);
    CHECK(seen[0] == 2 && calls == 3);
    yd_feed_unread(r[1]);
    yd_feed_unread(NULL);
    yd_feed_free(f);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {{"feed: owners and order", owners_and_order}, {"feed: gaps", gaps}, {"feed: ids from elsewhere", shared_ids}, {"feed: readers", readers}};
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
