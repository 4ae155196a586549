// A ring of events with contiguous ids: the event of id i is at i modulo its size. See feed.h.
#include "daemon/feed.h"

#include "core/mem.h"
#include <stdio.h>
#include <string.h>

struct yd_feed_reader {
    yd_feed_reader *prev, *next;
    yd_feed *feed;
    const char *owner;
    yd_notify_fn fn;
    void *arg;
    yd_feed_views_fn views;
};

typedef struct slot {
    yd_feed_event event; // owner and data are one allocation; data NULL: it is missing
    char *texts;
} slot;

struct yd_feed {
    slot *slot;
    size_t max;
    uint64_t base, last;
    uint64_t missing; // the latest id without an event
    int shared;       // ids are given elsewhere
    yd_feed_reader *readers;
};

yd_feed *yd_feed_new(size_t max_events, uint64_t base)
{
    yd_feed *f = yd_calloc(1, sizeof *f);
    if (!f) return NULL;
    f->slot = yd_calloc(max_events, sizeof *f->slot);
    f->max = max_events;
    f->base = f->last = f->missing = base;
    if (f->slot) return f;
    yd_free(f);
    return NULL;
}

void yd_feed_free(yd_feed *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->max; i++) yd_free(f->slot[i].texts);
    yd_free(f->slot);
    yd_free(f);
}

static void fill(slot *s, const char *owner, const char *job, const char *data)
{
    const size_t a = strlen(owner) + 1, b = strlen(data) + 1;
    s->texts = yd_malloc(a + b);
    if (!s->texts) return;
    memcpy(s->texts, owner, a);
    memcpy(s->texts + a, data, b);
    s->event.owner = s->texts;
    s->event.data = s->texts + a;
    snprintf(s->event.job, sizeof s->event.job, "%s", job);
}

void yd_feed_share(yd_feed *f)
{
    f->shared = 1;
}

void yd_feed_skip(yd_feed *f, uint64_t id)
{
    if (id <= f->last) return;
    f->last = f->missing = id;
}

void yd_feed_put(yd_feed *f, uint64_t id, const char *owner, const char *job, yd_event_type type, const char *data, uint64_t log_id)
{
    if (id <= f->last) return;
    yd_feed_skip(f, id - 1);
    yd_feed_append(f, owner, job, type, data, log_id);
}

void yd_feed_append(yd_feed *f, const char *owner, const char *job, yd_event_type type, const char *data, uint64_t log_id)
{
    slot *s = &f->slot[++f->last % f->max];
    yd_free(s->texts);
    *s = (slot){.event = {.id = f->last, .type = type, .log_id = log_id}};
    fill(s, owner, job, data);
    if (!s->texts) f->missing = f->last;
    for (yd_feed_reader *r = f->readers; r; r = r->next)
        if (strcmp(r->owner, owner) == 0) r->fn(r->arg);
}

uint64_t yd_feed_begin(const yd_feed *f)
{
    const uint64_t held = f->last - f->base < f->max ? f->base : f->last - f->max;
    return held > f->missing ? held : f->missing;
}

const yd_feed_event *yd_feed_next(const yd_feed *f, const char *owner, uint64_t after, int *gap)
{
    *gap = (after > f->last && !f->shared) || after < yd_feed_begin(f);
    if (*gap) return NULL;
    for (uint64_t id = after + 1; id <= f->last; id++) {
        const yd_feed_event *e = &f->slot[id % f->max].event;
        if (strcmp(e->owner, owner) == 0) return e;
    }
    return NULL;
}

uint64_t yd_feed_last_id(const yd_feed *f)
{
    return f->last;
}

int yd_feed_read(yd_feed *f, const char *owner, yd_feed_views_fn views, yd_notify_fn fn, void *arg, yd_feed_reader **out, yd_err *err)
{
    yd_feed_reader *r = yd_calloc(1, sizeof *r);
    if (!r) return yd_fail(err, YD_E_NOMEM, "no memory for a stream of events");
    *r = (yd_feed_reader){NULL, f->readers, f, owner, fn, arg, views};
    if (r->next) r->next->prev = r;
    f->readers = r;
    *out = r;
    return 0;
}

void yd_feed_unread(yd_feed_reader *r)
{
    if (!r) return;
    *(r->prev ? &r->prev->next : &r->feed->readers) = r->next;
    if (r->next) r->next->prev = r->prev;
    yd_free(r);
}

int yd_feed_viewed(const yd_feed *f, const char *owner, const char *job)
{
    for (const yd_feed_reader *r = f->readers; r; r = r->next)
        if (r->views && strcmp(r->owner, owner) == 0 && r->views(r->arg, job)) return 1;
    return 0;
}
