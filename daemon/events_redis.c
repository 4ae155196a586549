// The relay on Redis: events on their way out, and the two connections.
//
// DESIGN
//   publish -> out -> [publish script] -> stream -> listener -> in -> told()
//   One script puts an event into the stream. It takes the events of a replica in the order of their numbers and each once, so that what is sent
//   again because an answer was lost does no harm, and what was refused (memory, a server that only reads) is sent again before what follows it.
//   Places are counted by the server, but never again given up to where this replica has read: a server that lost the end of its log goes on above.
//   The teller carries events, pictures and answers; the listener only waits, on both streams at once.
// Threads: the loop's. Read next: events_redis_read.c, events_redis_calls.c.
#include "daemon/events_redis.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include <stdlib.h>
#include <string.h>

#define TICK_MS      50
#define ANSWER_MS    1000
#define CONNECT_MS   500
#define READ_MS      (1000 + ANSWER_MS)
#define RETRY_MS     200
#define RECONNECT_MS 100
#define CLOSE_MS     1000
#define ON_WIRE      64
#define OPEN_MS      5000

// ARGV: 1 replica, 2 number, 3 the number before it, 4 place that is known, 5 how many are kept, 6 job, 7 owner, 8 claims, 9 id, 10 before, 11 type,
// 12 is it the last one, 13 position of the store's log, 14 data, then with a preview 15 picture, 16 its size, 17 mask, 18 its size.
// {what happened, the replica's last number}. The end of a job comes from whoever ends it, which need not be who runs it: it is never too late.
static const char publish_script[] =
    "if redis.call('HEXISTS', 'yodad:live', ARGV[1]) == 0 then return {'fenced', '0'} end\n"
    "local mine = 'yodad:teller:' .. ARGV[1]\n"
    "local last = redis.call('GET', mine) or '0'\n"
    "if tonumber(ARGV[2]) <= tonumber(last) then return {'done', last} end\n"
    "if tonumber(ARGV[3]) > tonumber(last) then return {'gap', last} end\n"
    "redis.call('SET', mine, ARGV[2], 'EX', 3600)\n"
    "local told = 'yodad:told:' .. ARGV[6]\n"
    "local had = redis.call('HMGET', told, 'c', 'n', 'e')\n"
    "local id, stop = tonumber(ARGV[9]), ARGV[12] == '1'\n"
    "if had[3] or (had[1] and tonumber(had[1]) > tonumber(ARGV[8])) then return {'done', ARGV[2]} end\n"
    "if had[2] and id <= tonumber(had[2]) then\n"
    "  if not stop then return {'done', ARGV[2]} end\n"
    "  id = tonumber(had[2]) + 1\n"
    "end\n"
    "id = string.format('%.0f', id)\n"
    "redis.call('HSET', told, 'c', ARGV[8], 'n', id)\n"
    "if stop then redis.call('HSET', told, 'e', '1') end\n"
    "redis.call('EXPIRE', told, stop and 600 or 86400)\n"
    "local i = redis.call('INCR', 'yodad:events:count')\n"
    "if i <= tonumber(ARGV[4]) then\n"
    "  i = tonumber(ARGV[4]) + 1\n"
    "  redis.call('SET', 'yodad:events:count', string.format('%.0f', i))\n"
    "end\n"
    "local sizes = ''\n"
    "if #ARGV > 14 then\n"
    "  local key = 'yodad:preview:' .. ARGV[6] .. ':' .. id\n"
    "  redis.call('HSET', key, 'p', ARGV[15], 's', ARGV[16], 'm', ARGV[17], 't', ARGV[18])\n"
    "  redis.call('EXPIRE', key, 30)\n"
    "  sizes = '1'\n"
    "end\n"
    "redis.call('XADD', 'yodad:events', 'MAXLEN', '~', ARGV[5], string.format('%.0f-0', i), 'r', ARGV[1], 'j', "
    "ARGV[6], 'o', ARGV[7], 'c', ARGV[8],\n"
    "  'i', id, 'b', ARGV[10], 't', ARGV[11], 'l', ARGV[13], 'p', sizes, 'd', ARGV[14])\n"
    "return {'done', ARGV[2]}";

// ---- what waits ----------------------------------------------------------------------------------------------------

void yd_told_clear(yd_told *e)
{
    yd_free(e->data);
    yd_blob_unref(e->blob);
    yd_blob_unref(e->mask);
}

static void drop_first(yd_relay *r)
{
    yd_letter *l = r->out_first;
    r->out_first = l->next;
    if (!r->out_first) r->out_last = NULL;
    r->waiting--;
    yd_told_clear(&l->told);
    yd_free(l);
}

static void drop_all(yd_relay *r)
{
    while (r->out_first) drop_first(r);
}

// ---- sending -------------------------------------------------------------------------------------------------------

static void flush(yd_relay *r);

static void on_published(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *link = c->data;
    yd_relay *r = link->arg;
    const redisReply *a = reply;
    if (!a || link->context != c) return; // what was on the wire is sent again
    yd_letter *l = arg;
    r->wire--;
    r->wire_us = yd_mono_us();
    l->on_wire = 0;
    const int told = a->type == REDIS_REPLY_ARRAY && a->elements == 2 && a->element[0]->str && a->element[1]->str;
    const char *word = told ? a->element[0]->str : "";
    if (strcmp(word, "done") == 0 && !r->refused) {
        r->acknowledged = l->number;
        drop_first(r); // answers come in the order of what was asked
    } else {
        r->refused = 1; // with it, whatever was sent after it
        if (strcmp(word, "gap") == 0) r->acknowledged = strtoull(a->element[1]->str, NULL, 10);
        r->retry_us = strcmp(word, "gap") == 0 ? 0 : yd_mono_us() + RETRY_MS * 1000;
    }
    if (r->wire == 0 && strcmp(word, "fenced") == 0) drop_all(r);
    if (r->wire == 0) r->refused = 0;
    if (!r->refused) flush(r);
}

static void size_of(const yd_blob *b, char text[64])
{
    snprintf(text, 64, "%.30s %d %d", b ? b->mime : "", b ? b->width : 0, b ? b->height : 0);
}

static int send_one(yd_relay *r, yd_letter *l, uint64_t previous)
{
    enum { WORDS = 7 };
    const yd_told *e = &l->told;
    char number[WORDS][24], size[64], mask_size[64];
    const unsigned long long values[WORDS] = {(unsigned long long)r->host.replica(r->host.arg),
                                              l->number,
                                              previous,
                                              r->heard,
                                              (unsigned long long)e->claims,
                                              e->id,
                                              e->before};
    char keep[24], log[24];
    for (int i = 0; i < WORDS; i++) snprintf(number[i], sizeof number[i], "%llu", values[i]);
    snprintf(keep, sizeof keep, "%ld", r->keep);
    snprintf(log, sizeof log, "%llu", (unsigned long long)l->log);
    size_of(e->blob, size);
    size_of(e->mask, mask_size);
    const char *argv[] = {"EVAL",
                          publish_script,
                          "0",
                          number[0],
                          number[1],
                          number[2],
                          number[3],
                          keep,
                          e->job,
                          e->owner,
                          number[4],
                          number[5],
                          number[6],
                          yd_event_name(e->type),
                          yd_event_is_final(e->type) ? "1" : "0",
                          log,
                          e->data,
                          e->blob ? (const char *)e->blob->bytes : "",
                          size,
                          e->mask ? (const char *)e->mask->bytes : "",
                          mask_size};
    size_t len[sizeof argv / sizeof argv[0]];
    const int all = (int)(sizeof argv / sizeof argv[0]), n = e->blob ? all : all - 4;
    for (int i = 0; i < n; i++) len[i] = strlen(i == all - 4 || i == all - 2 ? "" : argv[i]);
    if (e->blob) len[all - 4] = e->blob->len;
    len[all - 2] = e->mask ? e->mask->len : 0;
    if (yd_redis_link_send(&r->teller, on_published, l, n, argv, len)) return -1;
    l->on_wire = 1;
    if (r->wire++ == 0) r->wire_us = yd_mono_us();
    return 0;
}

static void flush(yd_relay *r)
{
    uint64_t previous = r->acknowledged;
    if (!r->teller.ready || r->refused || yd_mono_us() < r->retry_us) return;
    for (yd_letter *l = r->out_first; l && r->wire < ON_WIRE; l = l->next) {
        if (!l->on_wire && send_one(r, l, previous)) {
            yd_relay_lost(r);
            return;
        }
        previous = l->number;
    }
}

void yd_relay_publish(yd_relay *r, const yd_told *e)
{
    const int spare = e->type == YD_EVENT_STEP || e->type == YD_EVENT_PREVIEW;
    if (r->closing > 1 || (spare && r->waiting >= YD_RELAY_WAITING)) return;
    yd_letter *l = yd_calloc(1, sizeof *l);
    char *data = l ? yd_strdup(e->data) : NULL;
    if (!data) {
        yd_free(l);
        return;
    }
    l->told = *e;
    l->told.data = data;
    // Nobody looks at a preview that comes late.
    const int shown = e->type != YD_EVENT_PREVIEW || (r->teller.ready && r->waiting < ON_WIRE);
    l->told.blob = shown ? yd_blob_ref(e->blob) : NULL;
    l->told.mask = shown ? yd_blob_ref(e->mask) : NULL;
    l->number = ++r->next_number;
    l->log = r->host.position(r->host.arg);
    if (r->out_last)
        r->out_last->next = l;
    else
        r->out_first = l;
    r->out_last = l;
    r->waiting++;
    flush(r);
}

// ---- connections ---------------------------------------------------------------------------------------------------

void yd_relay_lost(yd_relay *r)
{
    yd_redis_link_drop(&r->teller);
    yd_redis_link_drop(&r->listener);
    r->wire = r->refused = 0;
    r->xread_us = 0;
    for (yd_letter *l = r->out_first; l; l = l->next) l->on_wire = 0;
    r->reconnect_us = yd_mono_us() + RECONNECT_MS * 1000;
}

static void on_down(void *relay, const char *why)
{
    (void)why; // the store says so
    yd_relay_lost(relay);
}

static void on_up(void *relay)
{
    yd_relay *r = relay;
    if (r->teller.ready) flush(r);
    if (r->listener.ready && !r->xread_us) yd_relay_listen(r);
}

static int is_late(int64_t since_us, int64_t now, int64_t ms)
{
    return since_us && now - since_us > ms * 1000;
}

static void look_after_links(yd_relay *r, int64_t now)
{
    yd_redis_link *links[] = {&r->teller, &r->listener};
    int late = (r->wire > 0 && is_late(r->wire_us, now, ANSWER_MS)) || is_late(r->xread_us, now, READ_MS);
    for (int i = 0; i < 2; i++)
        late |= yd_redis_link_busy(links[i]) && !links[i]->ready && is_late(links[i]->since_us, now, CONNECT_MS);
    if (late || !yd_redis_link_busy(&r->teller) != !yd_redis_link_busy(&r->listener)) yd_relay_lost(r);
    if (yd_redis_link_busy(&r->teller) || now < r->reconnect_us) return;
    yd_redis_link_start(&r->teller);
    if (yd_redis_link_busy(&r->teller)) yd_redis_link_start(&r->listener);
}

// ---- opened and closed ---------------------------------------------------------------------------------------------

static void free_relay(yd_relay *r)
{
    drop_all(r);
    yd_relay_entries_free(r);
    yd_free(r);
}

static void on_handle_closed(uv_handle_t *h)
{
    yd_relay *r = h->data;
    void (*closed)(void *arg) = r->closed;
    void *arg = r->closed_arg;
    free_relay(r);
    if (closed) closed(arg);
}

static void on_tick(uv_timer_t *t)
{
    yd_relay *r = t->data;
    const int64_t now = yd_mono_us();
    if (r->closing == 1 && (!r->out_first || now - r->closing_us > CLOSE_MS * 1000)) {
        r->closing = 2;
        yd_redis_link_end(&r->teller);
        yd_redis_link_end(&r->listener);
        yd_relay_calls_end(r);
        uv_close((uv_handle_t *)&r->tick, on_handle_closed);
        return;
    }
    look_after_links(r, now);
    flush(r);
    yd_relay_tell(r);
    yd_relay_calls_tick(r, now);
}

void yd_relay_close(yd_relay *r, void (*closed)(void *arg), void *arg)
{
    r->closed = closed;
    r->closed_arg = arg;
    r->closing = 1;
    r->closing_us = yd_mono_us();
    uv_timer_start(&r->tick, on_tick, 0, 5);
}

void yd_relay_advanced(yd_relay *r)
{
    if (r->in_first) yd_relay_tell(r);
}

uint64_t yd_relay_place(const yd_relay *r)
{
    return r->place;
}

int yd_relay_open(uv_loop_t *loop, const char *url, long keep, const yd_relay_host *host, yd_relay **out, yd_err *err)
{
    redisContext *c = NULL;
    yd_relay *r = yd_calloc(1, sizeof *r);
    if (!r) return yd_fail(err, YD_E_NOMEM, "no memory for events of other replicas");
    r->host = *host;
    r->keep = keep;
    int rc = yd_redis_url_parse(url, &r->url, err);
    if (!rc) rc = yd_redis_connect(&r->url, OPEN_MS, &c, err);
    if (!rc) rc = yd_relay_load(r, c, err);
    if (c) redisFree(c);
    if (rc) {
        free_relay(r);
        return rc == YD_E_NOMEM ? rc : (err->code = YD_E_CONFIG);
    }
    r->teller = r->listener = (yd_redis_link){.loop = loop, .url = &r->url, .arg = r, .up = on_up, .down = on_down};
    uv_timer_init(loop, &r->tick);
    r->tick.data = r;
    uv_timer_start(&r->tick, on_tick, 0, TICK_MS);
    *out = r;
    return 0;
}
