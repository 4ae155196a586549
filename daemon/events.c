// Event logs: a ring of events, trimmed in the order of how little they are missed; subscribers in a list that tolerates changes
// while it is walked.
//
// Invariants: ids in the ring increase; trimmed_id is the highest id of a trimmed event that was no preview (0: none).
// Unsubscribing during a notification only marks the entry; the outermost notification sweeps marked entries afterwards.
// Threads: the loop thread only. Read next: service.c, which appends.
#include "daemon/events.h"

#include "core/mem.h"
#include <string.h>

struct yd_subscription {
    yd_subscription *next;
    yd_event_log *log;
    yd_notify_fn fn;
    void *arg;
    int viewer, dead;
};

struct yd_event_log {
    yd_event *event; // ordered by id; grows up to max_events
    size_t count, cap, max_events, max_previews, previews;
    uint64_t last_id, trimmed_id, firm_id;
    size_t bytes;
    int ended, closed, refs;
    int notifying; // depth of notifications under way
    yd_subscription *subs;
    size_t viewers;
};

static const struct {
    const char *name;
    int last;
} types[] = {
#define YD_EVENT_ROW(name, text, last) {text, last},
    YD_EVENT_TYPES(YD_EVENT_ROW)
#undef YD_EVENT_ROW
};

const char *yd_event_name(yd_event_type t)
{
    return types[t].name;
}

int yd_event_is_final(yd_event_type t)
{
    return types[t].last;
}

static int make_room(yd_event_log *log, int final);

yd_event_log *yd_events_new(size_t max_events, size_t max_previews)
{
    yd_event_log *log = yd_calloc(1, sizeof *log);
    if (!log) return NULL;
    log->max_events = max_events < 16 ? 16 : max_events;
    log->max_previews = max_previews;
    log->refs = 1;
    if (make_room(log, 0) == 0) return log;
    yd_free(log);
    return NULL;
}

yd_event_log *yd_events_ref(yd_event_log *log)
{
    log->refs++;
    return log;
}

void yd_events_unref(yd_event_log *log)
{
    if (!log || --log->refs > 0) return;
    for (size_t i = 0; i < log->count; i++) {
        yd_free(log->event[i].data);
        yd_blob_unref(log->event[i].blob);
        yd_blob_unref(log->event[i].mask);
    }
    yd_free(log->event);
    yd_free(log);
}

static size_t bytes_of(const yd_event *e)
{
    return sizeof *e + strlen(e->data) + 1 + (e->blob ? e->blob->len : 0) + (e->mask ? e->mask->len : 0);
}

static void drop(yd_event_log *log, size_t at)
{
    yd_event *e = &log->event[at];
    if (e->type == YD_EVENT_PREVIEW)
        log->previews--;
    else if (e->id > log->trimmed_id)
        log->trimmed_id = e->id;
    log->bytes -= bytes_of(e);
    yd_free(e->data);
    yd_blob_unref(e->blob);
    yd_blob_unref(e->mask);
    memmove(e, e + 1, (log->count - at - 1) * sizeof *e);
    log->count--;
}

static int drop_oldest(yd_event_log *log, yd_event_type type)
{
    for (size_t i = 0; i < log->count; i++)
        if (log->event[i].type == type) {
            drop(log, i);
            return 1;
        }
    return 0;
}

// One place is always kept back for the final event, which therefore cannot fail for want of room.
static int make_room(yd_event_log *log, int final)
{
    if (log->count >= log->max_events && !drop_oldest(log, YD_EVENT_PREVIEW)) drop_oldest(log, YD_EVENT_STEP);
    if (log->count + (final ? 0 : 1) < log->cap) return 0;
    size_t cap = log->cap ? log->cap * 2 : 16, bytes;
    if (yd_mul_size(cap, sizeof(yd_event), &bytes)) return -1;
    yd_event *e = yd_realloc(log->event, bytes);
    if (!e) return -1;
    log->event = e;
    log->cap = cap;
    return 0;
}

static void sweep(yd_event_log *log)
{
    for (yd_subscription **at = &log->subs; *at;) {
        yd_subscription *s = *at;
        if (!s->dead) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        yd_free(s);
        yd_events_unref(log);
    }
}

static void notify(yd_event_log *log)
{
    yd_events_ref(log);
    log->notifying++;
    for (yd_subscription *s = log->subs; s; s = s->next)
        if (!s->dead) s->fn(s->arg);
    if (--log->notifying == 0) sweep(log);
    yd_events_unref(log);
}

int yd_events_append(yd_event_log *log, yd_event_type type, char *data, yd_blob *blob, yd_blob *mask, uint64_t *id, yd_err *err)
{
    int rc = 0;
    if (log->ended)
        rc = yd_fail(err, YD_E_CONFLICT, "event '%s' after the end of the job", types[type].name);
    else if (!data || make_room(log, types[type].last))
        rc = yd_fail(err, YD_E_NOMEM, "no memory for an event");
    if (rc) {
        yd_free(data);
        yd_blob_unref(blob);
        yd_blob_unref(mask);
        return rc;
    }
    yd_event *e = &log->event[log->count++];
    *e = (yd_event){.id = ++log->last_id, .type = type, .data = data, .blob = blob, .mask = mask};
    log->bytes += bytes_of(e);
    if (id) *id = e->id;
    if (types[type].last) log->ended = 1;
    if (type != YD_EVENT_PREVIEW) log->firm_id = e->id;
    if (type == YD_EVENT_PREVIEW && ++log->previews > log->max_previews) drop_oldest(log, YD_EVENT_PREVIEW);
    notify(log);
    return 0;
}

void yd_events_skip_to(yd_event_log *log, uint64_t id)
{
    if (id > log->last_id) log->last_id = id;
}

void yd_events_trim_to(yd_event_log *log, uint64_t id)
{
    yd_events_skip_to(log, id);
    if (id > log->trimmed_id) log->trimmed_id = id;
    if (id > log->firm_id) log->firm_id = id;
}

const yd_event *yd_events_next(const yd_event_log *log, uint64_t after, int *gap)
{
    if (gap) *gap = 0;
    size_t lo = 0, hi = log->count; // first index with id > after
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (log->event[mid].id > after)
            hi = mid;
        else
            lo = mid + 1;
    }
    if (lo == log->count) return NULL;
    const yd_event *e = &log->event[lo];
    // Only steps are trimmed besides previews, oldest first: what is missing lies right after the cursor or not at all.
    if (gap) *gap = log->trimmed_id > after && log->trimmed_id < e->id;
    return e;
}

uint64_t yd_events_last_id(const yd_event_log *log)
{
    return log->last_id;
}

uint64_t yd_events_firm_id(const yd_event_log *log)
{
    return log->firm_id;
}

int yd_events_ended(const yd_event_log *log)
{
    return log->ended;
}

int yd_events_closed(const yd_event_log *log)
{
    return log->closed;
}

void yd_events_close(yd_event_log *log)
{
    if (log->closed) return;
    log->closed = 1;
    notify(log);
}

int yd_events_subscribe(yd_event_log *log, int viewer, yd_notify_fn fn, void *arg, yd_subscription **out, yd_err *err)
{
    yd_subscription *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for a subscription");
    *s = (yd_subscription){.next = log->subs, .log = yd_events_ref(log), .fn = fn, .arg = arg, .viewer = viewer};
    log->subs = s;
    log->viewers += (size_t)viewer;
    *out = s;
    return 0;
}

void yd_events_unsubscribe(yd_subscription *s)
{
    if (!s) return;
    yd_event_log *log = s->log;
    s->dead = 1;
    log->viewers -= (size_t)s->viewer;
    if (log->notifying) return;
    yd_events_ref(log); // sweep may release the last reference
    sweep(log);
    yd_events_unref(log);
}

yd_event_log *yd_subscription_log(const yd_subscription *s)
{
    return s->log;
}

size_t yd_events_viewers(const yd_event_log *log)
{
    return log->viewers;
}

size_t yd_events_bytes(const yd_event_log *log)
{
    return log->bytes;
}
