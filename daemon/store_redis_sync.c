// Reading what was written elsewhere: who asks is told when this replica's mirror has everything that was in the log when he asked.
//
//   sync -> asked --GET yodad:count--> sent --its answer--> waiting for that position --> done
// Those who ask while an answer is on its way wait for the next one: theirs may be older than what they have seen. Where the server is away nobody
// is held up: nothing can have been written meanwhile by whoever cannot reach it either. Threads: the loop's.
#include "daemon/store_redis.h"

#include "daemon/clock.h"
#include <stdlib.h>

static void done(yd_store_sync *all)
{
    for (yd_store_sync *w = all, *next; w; w = next) {
        next = w->next;
        w->done(w);
    }
}

static void move(yd_store_sync **from, yd_store_sync **to)
{
    yd_store_sync **end = to;
    while (*end) end = &(*end)->next;
    *end = *from;
    *from = NULL;
}

static void on_counted(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *l = c->data;
    yd_redis_store *s = l->arg;
    const redisReply *r = reply;
    (void)arg;
    if (!r || l->context != c) return;
    s->sync_sent_us = 0;
    const uint64_t target = r->type == REDIS_REPLY_STRING ? strtoull(r->str, NULL, 10) : 0;
    for (yd_store_sync *w = s->sync_sent; w; w = w->next) w->target = target;
    move(&s->sync_sent, &s->sync_waiting);
    yd_redis_sync_look(s);
}

void yd_redis_sync_look(yd_redis_store *s)
{
    static const char *const argv[] = {"GET", YD_KEY_COUNT};
    if (s->told_next) return; // what this replica's own operations have come to is told first
    yd_store_sync *ready = NULL, **end = &ready;
    for (yd_store_sync **at = &s->sync_waiting, *w; (w = *at);) {
        if (w->target > s->position) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = NULL;
        *end = w;
        end = &w->next;
    }
    done(ready);
    if (!s->sync_asked || s->sync_sent_us || !s->writer.ready ||
        yd_redis_link_send(&s->writer, on_counted, NULL, 2, (const char **)argv, NULL))
        return;
    s->sync_sent_us = yd_mono_us();
    move(&s->sync_asked, &s->sync_sent);
}

void yd_redis_sync_end(yd_redis_store *s)
{
    yd_store_sync *all = NULL;
    move(&s->sync_waiting, &all);
    move(&s->sync_sent, &all);
    move(&s->sync_asked, &all);
    s->sync_sent_us = 0;
    done(all);
}

static void on_asked(uv_idle_t *h)
{
    yd_redis_store *s = h->data;
    uv_idle_stop(h);
    if (s->ok && !s->fenced)
        yd_redis_sync_look(s);
    else
        yd_redis_sync_end(s);
}

static void sync_store(yd_store *base, yd_store_sync *w)
{
    yd_redis_store *s = (yd_redis_store *)base;
    yd_store_sync *one = w;
    w->next = NULL;
    move(&one, &s->sync_asked);
    uv_idle_start(&s->asker, on_asked);
}

void yd_redis_syncs(yd_store *base)
{
    base->sync = sync_store;
}
