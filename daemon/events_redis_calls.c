// The relay on Redis: who looks at what, and pictures that one replica makes for another.
//
//   view     JOB is looked at somewhere
//   at       how far JOB has got (words)
//   ask      REPLICA wants something of JOB (words), number N
//   answer   to REPLICA's N: the bytes are at yodad:answer:REPLICA:N, or the words say why not
// They go through one short stream that every replica reads. What is lost while the server is away is not sent again: who looks says so again
// soon, and who asks gets no answer within YD_RELAY_PATIENCE_MS. Threads: the loop's.
#include "daemon/events_redis.h"

#include "core/image.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define KEPT   "1000"
#define FIELDS 5
#define KEEP_S "15" // an answer that nobody fetches

enum { F_KIND, F_REPLICA, F_NUMBER, F_JOB, F_WORDS };

static void on_sent(redisAsyncContext *c, void *reply, void *arg)
{
    (void)c, (void)reply, (void)arg; // what it did comes back in the stream
}

static int say(yd_relay *r, const char *kind, int64_t replica, uint64_t number, const char *job, const char *words)
{
    char by[24], n[24];
    snprintf(by, sizeof by, "%lld", (long long)replica);
    snprintf(n, sizeof n, "%llu", (unsigned long long)number);
    const char *argv[] = {"XADD", YD_KEY_CALLS, "MAXLEN", "~", KEPT, "*", "k", kind,
                          "r",    by,           "n",      n,   "j",  job, "w", words};
    return yd_redis_link_send(&r->teller, on_sent, NULL, (int)(sizeof argv / sizeof argv[0]), argv, NULL);
}

void yd_relay_view(yd_relay *r, const char *job)
{
    say(r, "view", r->host.replica(r->host.arg), 0, job, "");
}

void yd_relay_reach(yd_relay *r, const char *job, const char *words)
{
    say(r, "at", r->host.replica(r->host.arg), 0, job, words);
}

// ---- asking --------------------------------------------------------------------------------------------------------

static int silent(yd_err *err)
{
    return yd_fail(err, YD_E_NOT_READY, "the replica that runs the job does not answer");
}

int yd_relay_ask(yd_relay *r, const char *job, const char *words, yd_relay_answer_fn fn, void *arg, yd_relay_call **out,
                 yd_err *err)
{
    yd_relay_call *c = yd_calloc(1, sizeof *c);
    if (!c) return yd_fail(err, YD_E_NOMEM, "no memory to ask another replica");
    *c = (yd_relay_call){.next = r->calls, .number = ++r->next_call, .fn = fn, .arg = arg, .since_us = yd_mono_us()};
    if (r->closing || say(r, "ask", r->host.replica(r->host.arg), c->number, job, words)) {
        yd_free(c);
        return silent(err);
    }
    r->calls = c;
    if (out) *out = c;
    return 0;
}

void yd_relay_call_cancel(yd_relay_call *c)
{
    c->fn = NULL;
}

static yd_relay_call *find(const yd_relay *r, uint64_t number)
{
    yd_relay_call *c = r->calls;
    while (c && c->number != number) c = c->next;
    return c;
}

static void end_call(yd_relay *r, yd_relay_call *c)
{
    yd_relay_call **at = &r->calls;
    while (*at != c) at = &(*at)->next;
    *at = c->next;
    if (c->fn)
        c->fn(c->arg, c->rc, c->blob, c->rc ? &c->err : NULL);
    else
        yd_blob_unref(c->blob);
    yd_free(c);
}

// Of calls that are over: from here, so that nobody is called from inside his own call.
void yd_relay_calls_tick(yd_relay *r, int64_t now_us)
{
    for (yd_relay_call *c = r->calls, *next; c; c = next) {
        next = c->next;
        if (now_us - c->since_us < YD_RELAY_PATIENCE_MS * 1000) continue;
        c->rc = silent(&c->err);
        end_call(r, c);
        next = r->calls; // whoever was called may have asked for more
    }
}

void yd_relay_calls_end(yd_relay *r)
{
    while (r->calls) {
        r->calls->rc = silent(&r->calls->err);
        end_call(r, r->calls);
    }
}

// ---- answers that come ---------------------------------------------------------------------------------------------

static const char *known_mime(const char *mime)
{
    size_t n;
    const yd_image_kind *kind = yd_image_kinds(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(kind[i].mime, mime) == 0) return kind[i].mime;
    return "application/octet-stream";
}

yd_blob *yd_relay_blob(const redisReply *bytes, const redisReply *size)
{
    char mime[40];
    int w = 0, h = 0;
    if (bytes->type != REDIS_REPLY_STRING || size->type != REDIS_REPLY_STRING || bytes->len == 0) return NULL;
    if (sscanf(size->str, "%39s %d %d", mime, &w, &h) != 3) return NULL;
    void *copy = yd_malloc((size_t)bytes->len);
    if (!copy) return NULL;
    memcpy(copy, bytes->str, (size_t)bytes->len);
    yd_blob *b = yd_blob_new(copy, (size_t)bytes->len, known_mime(mime), 0);
    if (!b) return NULL;
    b->width = w;
    b->height = h;
    return b;
}

static void on_bytes(redisAsyncContext *ac, void *reply, void *arg)
{
    const yd_redis_link *link = ac->data;
    yd_relay *r = link->arg;
    const redisReply *a = reply;
    yd_relay_call *c = find(r, (uintptr_t)arg);
    if (!c || !a || link->context != ac) return; // its time will be over
    c->blob = a->type == REDIS_REPLY_ARRAY && a->elements == 2 ? yd_relay_blob(a->element[0], a->element[1]) : NULL;
    if (!c->blob) c->rc = silent(&c->err);
    end_call(r, c);
}

static void take_refusal(yd_relay_call *c, const char *words)
{
    int code = 0;
    const char *detail = "", *field = "", *accepted = "";
    json_t *o = json_loads(words, 0, NULL);
    if (!o ||
        json_unpack(o, "{s:i, s:s, s:s, s:s}", "code", &code, "detail", &detail, "field", &field, "accepted",
                    &accepted) ||
        code >= 0)
        c->rc = silent(&c->err);
    else
        c->rc = yd_fail_field(&c->err, code, field, accepted, "%s", detail);
    json_decref(o);
}

static void take_answer(yd_relay *r, uint64_t number, const char *words)
{
    char key[80];
    yd_relay_call *c = find(r, number);
    if (!c) return;
    snprintf(key, sizeof key, YD_KEY_ANSWER "%lld:%llu", (long long)r->host.replica(r->host.arg),
             (unsigned long long)number);
    const char *argv[] = {"HMGET", key, "p", "s"};
    if (!*words && yd_redis_link_send(&r->teller, on_bytes, (void *)(uintptr_t)number, 4, argv, NULL) == 0) return;
    take_refusal(c, words);
    end_call(r, c);
}

void yd_relay_hear(yd_relay *r, const redisReply *entry)
{
    const char *value[FIELDS];
    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 || !entry->element[0]->str) return;
    snprintf(r->calls_id, sizeof r->calls_id, "%.40s", entry->element[0]->str);
    const redisReply *all = entry->element[1];
    if (all->type != REDIS_REPLY_ARRAY || all->elements != 2 * FIELDS) return;
    for (int i = 0; i < FIELDS; i++)
        if (!(value[i] = all->element[2 * i + 1]->str)) return;
    const int64_t replica = strtoll(value[F_REPLICA], NULL, 10);
    const uint64_t number = strtoull(value[F_NUMBER], NULL, 10);
    const int mine = replica == r->host.replica(r->host.arg);
    if (strcmp(value[F_KIND], "answer") == 0) {
        if (mine) take_answer(r, number, value[F_WORDS]);
    } else if (mine)
        return;
    else if (strcmp(value[F_KIND], "view") == 0)
        r->host.viewed(r->host.arg, value[F_JOB]);
    else if (strcmp(value[F_KIND], "at") == 0)
        r->host.reached(r->host.arg, value[F_JOB], value[F_WORDS]);
    else if (strcmp(value[F_KIND], "ask") == 0)
        r->host.asked(r->host.arg, &(yd_relay_question){replica, number, value[F_JOB], value[F_WORDS]});
}

// ---- answers that go -----------------------------------------------------------------------------------------------

// ARGV: replica, number, bytes, size, seconds, how many calls are kept. The bytes are there before the word.
static const char answer_script[] = "local key = 'yodad:answer:' .. ARGV[1] .. ':' .. ARGV[2]\n"
                                    "redis.call('HSET', key, 'p', ARGV[3], 's', ARGV[4])\n"
                                    "redis.call('EXPIRE', key, ARGV[5])\n"
                                    "redis.call('XADD', 'yodad:calls', 'MAXLEN', '~', ARGV[6], '*', 'k', 'answer', "
                                    "'r', ARGV[1], 'n', ARGV[2], 'j', '', 'w', '')\n"
                                    "return 'done'";

static void give(yd_relay *r, int64_t replica, uint64_t number, const yd_blob *blob)
{
    char by[24], n[24], size[64];
    snprintf(by, sizeof by, "%lld", (long long)replica);
    snprintf(n, sizeof n, "%llu", (unsigned long long)number);
    snprintf(size, sizeof size, "%.30s %d %d", blob->mime, blob->width, blob->height);
    const char *argv[] = {"EVAL", answer_script, "0", by, n, (const char *)blob->bytes, size, KEEP_S, KEPT};
    const size_t len[] = {4,
                          sizeof answer_script - 1,
                          1,
                          strlen(by),
                          strlen(n),
                          blob->len,
                          strlen(size),
                          sizeof KEEP_S - 1,
                          sizeof KEPT - 1};
    yd_redis_link_send(&r->teller, on_sent, NULL, 9, argv, len);
}

void yd_relay_answer(yd_relay *r, int64_t replica, uint64_t number, int rc, const yd_blob *blob, const yd_err *err)
{
    if (rc == 0 && blob) {
        give(r, replica, number, blob);
        return;
    }
    json_t *o = json_pack("{s:i, s:s, s:s, s:s}", "code", rc, "detail", err->detail, "field", err->field, "accepted",
                          err->accepted);
    char *words = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (words) say(r, "answer", replica, number, "", words);
    free(words);
}
