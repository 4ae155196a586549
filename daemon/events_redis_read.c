// The relay on Redis: events that come, held until they may be told, and the pictures of previews that somebody here looks at.
//
// Entries wait in their order for two things: that the store's log has been read as far as where they were told (a replica whose log does not come
// in holds them for LOG_MS, then goes on), and for their pictures (PICTURE_MS). Fields of an entry stand in the order of the publish script.
// Threads: the loop's; yd_relay_load before it runs.
#include "daemon/events_redis.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <stdlib.h>
#include <string.h>

#define PAGE       500
#define BLOCK_MS   "1000"
#define FIELDS     10
#define LOG_MS     3000
#define PICTURE_MS 1000

enum { F_REPLICA, F_JOB, F_OWNER, F_CLAIMS, F_ID, F_BEFORE, F_TYPE, F_LOG, F_PICTURE, F_DATA };

// ---- entries -------------------------------------------------------------------------------------------------------

static void free_entry(yd_relay_entry *e)
{
    if (e->fetch) e->fetch->entry = NULL;
    yd_told_clear(&e->told);
    yd_free(e);
}

static void drop_first(yd_relay *r)
{
    yd_relay_entry *e = r->in_first;
    r->in_first = e->next;
    if (!r->in_first) r->in_last = NULL;
    free_entry(e);
}

void yd_relay_entries_free(yd_relay *r)
{
    while (r->in_first) drop_first(r);
}

static int type_of(const char *name, yd_event_type *out)
{
    for (int i = 0; i <= YD_EVENT_CANCELLED; i++)
        if (strcmp(yd_event_name((yd_event_type)i), name) == 0) {
            *out = (yd_event_type)i;
            return 0;
        }
    return -1;
}

// Fields of {id, {name, value, ...}}. -1: it is none of ours.
static int fields_of(const redisReply *entry, const char *value[FIELDS])
{
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 || entry->element[1]->type != REDIS_REPLY_ARRAY)
        return -1;
    const redisReply *all = entry->element[1];
    if (!entry->element[0]->str || all->elements != 2 * FIELDS) return -1;
    for (int i = 0; i < FIELDS; i++)
        if (!(value[i] = all->element[2 * i + 1]->str)) return -1;
    return 0;
}

static int parse(const redisReply *entry, int64_t self, yd_relay_entry *e, int *pictured)
{
    const char *value[FIELDS];
    yd_told *t = &e->told;
    if (fields_of(entry, value) || type_of(value[F_TYPE], &t->type)) return -1;
    if (strlen(value[F_JOB]) >= sizeof t->job || strlen(value[F_OWNER]) >= sizeof t->owner || *value[F_DATA] != '{')
        return -1;
    snprintf(t->job, sizeof t->job, "%s", value[F_JOB]);
    snprintf(t->owner, sizeof t->owner, "%s", value[F_OWNER]);
    t->claims = strtoll(value[F_CLAIMS], NULL, 10);
    t->id = strtoull(value[F_ID], NULL, 10);
    t->before = strtoull(value[F_BEFORE], NULL, 10);
    t->place = strtoull(entry->element[0]->str, NULL, 10);
    t->own = strtoll(value[F_REPLICA], NULL, 10) == self;
    e->log = strtoull(value[F_LOG], NULL, 10);
    *pictured = *value[F_PICTURE] == '1';
    return (t->data = yd_strdup(value[F_DATA])) ? 0 : -1;
}

// ---- pictures of previews ------------------------------------------------------------------------------------------

static void on_pictures(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *link = c->data;
    yd_relay_fetch *f = arg;
    yd_relay_entry *e = f->entry;
    const redisReply *a = reply;
    if (e) e->fetch = NULL;
    if (e && a && a->type == REDIS_REPLY_ARRAY && a->elements == 4) {
        e->told.blob = yd_relay_blob(a->element[0], a->element[1]);
        e->told.mask = e->told.blob ? yd_relay_blob(a->element[2], a->element[3]) : NULL;
    }
    yd_free(f);
    if (e && a) yd_relay_tell(link->arg);
}

// Without memory or a connection the preview comes without them.
static void fetch(yd_relay *r, yd_relay_entry *e)
{
    char key[sizeof YD_KEY_PREVIEW + YD_ID_MAX + 24];
    snprintf(key, sizeof key, YD_KEY_PREVIEW "%s:%llu", e->told.job, (unsigned long long)e->told.id);
    const char *argv[] = {"HMGET", key, "p", "s", "m", "t"};
    yd_relay_fetch *f = yd_calloc(1, sizeof *f);
    if (!f) return;
    f->entry = e;
    if (yd_redis_link_send(&r->teller, on_pictures, f, 6, argv, NULL))
        yd_free(f);
    else
        e->fetch = f;
}

// ---- telling -------------------------------------------------------------------------------------------------------

static int is_held(const yd_relay *r, const yd_relay_entry *e)
{
    const int64_t held_ms = (yd_mono_us() - e->since_us) / 1000;
    return (e->log > r->host.position(r->host.arg) && held_ms < LOG_MS) || (e->fetch && held_ms < PICTURE_MS);
}

// Whoever is told may do anything, and come back here.
void yd_relay_tell(yd_relay *r)
{
    if (r->telling || r->closing > 1) return;
    r->telling = 1;
    while (r->in_first && !is_held(r, r->in_first)) {
        r->place = r->in_first->told.place;
        r->host.told(r->host.arg, &r->in_first->told);
        drop_first(r);
    }
    r->telling = 0;
}

// What cannot be read shows as a place without an event.
static void take(yd_relay *r, const redisReply *entry)
{
    int pictured = 0;
    const int named = entry->type == REDIS_REPLY_ARRAY && entry->elements == 2 && entry->element[0]->str;
    const uint64_t place = named ? strtoull(entry->element[0]->str, NULL, 10) : 0;
    if (place <= r->heard) return;
    r->heard = place;
    yd_relay_entry *e = yd_calloc(1, sizeof *e);
    if (!e) return;
    e->since_us = yd_mono_us();
    if (parse(entry, r->host.replica(r->host.arg), e, &pictured)) {
        free_entry(e);
        return;
    }
    if (r->in_last)
        r->in_last->next = e;
    else
        r->in_first = e;
    r->in_last = e;
    if (pictured && !e->told.own && r->host.views(r->host.arg, &e->told)) fetch(r, e);
}

// ---- listening -----------------------------------------------------------------------------------------------------

static void take_stream(yd_relay *r, const redisReply *stream)
{
    if (stream->type != REDIS_REPLY_ARRAY || stream->elements != 2 || !stream->element[0]->str ||
        stream->element[1]->type != REDIS_REPLY_ARRAY)
        return;
    const redisReply *entries = stream->element[1];
    const int calls = strcmp(stream->element[0]->str, YD_KEY_CALLS) == 0;
    for (size_t i = 0; i < entries->elements; i++) {
        if (calls)
            yd_relay_hear(r, entries->element[i]);
        else
            take(r, entries->element[i]);
    }
}

static void on_heard(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *link = c->data;
    yd_relay *r = link->arg;
    const redisReply *a = reply;
    (void)arg;
    if (!a || link->context != c || r->closing > 1) return;
    r->xread_us = 0;
    if (a->type == REDIS_REPLY_ERROR) {
        yd_relay_lost(r);
        return;
    }
    for (size_t i = 0; a->type == REDIS_REPLY_ARRAY && i < a->elements; i++) take_stream(r, a->element[i]);
    yd_relay_listen(r);
    yd_relay_tell(r);
}

void yd_relay_listen(yd_relay *r)
{
    char place[32];
    snprintf(place, sizeof place, "%llu-0", (unsigned long long)r->heard);
    const char *argv[] = {"XREAD",   "COUNT",       "256",        "BLOCK", BLOCK_MS,
                          "STREAMS", YD_KEY_EVENTS, YD_KEY_CALLS, place,   r->calls_id};
    if (yd_redis_link_send(&r->listener, on_heard, NULL, 10, argv, NULL) == 0) r->xread_us = yd_mono_us();
}

// ---- the beginning -------------------------------------------------------------------------------------------------

static int unreadable(const redisContext *c, const redisReply *a, yd_err *err)
{
    return yd_fail_field(err, YD_E_CONFIG, "store", "a Redis server with this program's data, or none",
                         "the shared events cannot be read: %s",
                         a && a->type == REDIS_REPLY_ERROR ? a->str
                         : c->err                          ? c->errstr
                                                           : "there is something else");
}

static int load_calls(yd_relay *r, redisContext *c, yd_err *err)
{
    redisReply *a = redisCommand(c, "XREVRANGE %s + - COUNT 1", YD_KEY_CALLS);
    const int rc = a && a->type == REDIS_REPLY_ARRAY ? 0 : unreadable(c, a, err);
    const int any = !rc && a->elements == 1 && a->element[0]->elements == 2 && a->element[0]->element[0]->str;
    snprintf(r->calls_id, sizeof r->calls_id, "%.40s", any ? a->element[0]->element[0]->str : "0-0");
    freeReplyObject(a);
    return rc;
}

// What was trimmed before: places up to the first that there is, or, when there is none, up to the last that was given.
static int load_place(yd_relay *r, redisContext *c, yd_err *err)
{
    redisReply *a = redisCommand(c, "XRANGE %s - + COUNT 1", YD_KEY_EVENTS),
               *count = redisCommand(c, "GET %s", YD_KEY_PLACES);
    int rc = a && a->type == REDIS_REPLY_ARRAY && count && count->type != REDIS_REPLY_ERROR ? 0 : unreadable(c, a, err);
    if (!rc && a->elements == 1 && a->element[0]->elements == 2 && a->element[0]->element[0]->str)
        r->heard = strtoull(a->element[0]->element[0]->str, NULL, 10) - 1;
    else if (!rc && count->str)
        r->heard = strtoull(count->str, NULL, 10);
    r->place = r->heard;
    freeReplyObject(a);
    freeReplyObject(count);
    return rc;
}

int yd_relay_load(yd_relay *r, redisContext *c, yd_err *err)
{
    int rc = load_calls(r, c, err);
    if (!rc) rc = load_place(r, c, err);
    for (size_t n = PAGE; !rc && n == PAGE;) {
        redisReply *a =
            redisCommand(c, "XRANGE %s (%llu-0 + COUNT %d", YD_KEY_EVENTS, (unsigned long long)r->heard, PAGE);
        rc = a && a->type == REDIS_REPLY_ARRAY ? 0 : unreadable(c, a, err);
        n = rc ? 0 : a->elements;
        for (size_t i = 0; i < n; i++) take(r, a->element[i]);
        freeReplyObject(a);
        yd_relay_tell(r);
    }
    return rc;
}
