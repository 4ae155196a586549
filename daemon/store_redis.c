// The shared store: every operation goes through one log in Redis, and takes effect here when it comes back from there.
//
// DESIGN
//   submit -> todo -> [pool: pictures, entry's text] -> sent -> writer: append script -> the log -> reader -> mirror -> done(op)
//   The order of the log is the order of everything: two replicas that claim one job both see who was first. Operations of one replica have
//   rising numbers. The script takes number n only after all before it, and once: what is sent again because an answer was lost does no harm.
//
//   A new record that is not in the log within GIVE_UP_MS is refused (YD_E_STORE_AWAY), everything else waits for as long as it takes. Should a
//   refused one turn out to be in the log after all, it is removed.
//   A connection that owes an answer for ANSWER_MS is dropped, both are made again, at first after 20 ms and then every 250.
//   A replica whose lease has ended and that was released by somebody (store_redis_open.c) is fenced off for good: it refuses everything.
//
// Threads: the loop's; the batch belongs to the pool while `working`. Read next: store_redis_open.c, store_redis_snapshot.c, store_redis_files.c, store_redis_read.c.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <stdlib.h>
#include <string.h>

#define TICK_MS       50
#define ANSWER_MS     600
#define CONNECT_MS    500
#define GIVE_UP_MS    750
#define BLOCK_MS      "1000"
#define READ_MS       (1000 + ANSWER_MS)
#define RETRY_DISK_MS 500
#define RETRY_MS      200
#define FIRST_MS      20
#define MOST_MS       250
#define BATCH         256
#define MANY_DOUBTFUL 256
#define CLOSE_MS      2000
#define LEAVE_MS      500

static int64_t after_ms(int64_t ms)
{
    return yd_mono_us() + ms * 1000;
}

// ---- lists, and telling --------------------------------------------------------------------------------------------

static void append(yd_pending_list *l, yd_pending *p)
{
    p->next = NULL;
    if (l->tail)
        l->tail->next = p;
    else
        l->head = p;
    l->tail = p;
    l->count++;
}

static yd_pending *pop(yd_pending_list *l)
{
    yd_pending *p = l->head;
    l->head = p->next;
    if (!l->head) l->tail = NULL;
    l->count--;
    return p;
}

static void take_out(yd_pending_list *l, yd_pending *p)
{
    yd_pending_list rest = {0};
    while (l->head) {
        yd_pending *q = pop(l);
        if (q != p) append(&rest, q);
    }
    *l = rest;
}

static void on_teller(uv_idle_t *teller)
{
    yd_redis_store *s = teller->data;
    yd_store_op *op = s->told_next, *next;
    s->told_next = s->told_last = NULL;
    uv_idle_stop(teller);
    for (; op; op = next) {
        next = op->next;
        if (op->done) op->done(op);
        yd_store_op_free(op);
    }
    yd_redis_sync_look(s);
}

static void tell_op(yd_redis_store *s, yd_store_op *op)
{
    op->next = NULL;
    if (s->told_last)
        s->told_last->next = op;
    else
        s->told_next = op;
    s->told_last = op;
    uv_idle_start(&s->teller, on_teller);
}

// p is not in a list any more.
static void tell(yd_redis_store *s, yd_pending *p)
{
    tell_op(s, p->op);
    yd_free(p->text);
    yd_free(p);
}

static void refuse(yd_redis_store *s, yd_pending *p, int code, const char *why)
{
    p->op->rc = yd_fail(&p->op->err, code, "the shared store does not work: %s", why);
    if (code == YD_E_STORE_AWAY) p->op->err.retry_ms = YD_STORE_RETRY_MS;
    if (!p->sent_us) yd_redis_doubt(s, p->names); // otherwise it may yet turn out to be in the log
    tell(s, p);
}

// The owner's budget of units has not enough; nothing was taken.
static void refuse_limit(yd_redis_store *s, yd_pending *p, long wait_ms)
{
    const yd_store_op *op = p->op;
    p->op->rc = yd_fail(&p->op->err, YD_E_LIMIT, "'%s' has %.0f units of work an hour, and the job may need %.0f", op->rec.owner, op->charge.most, op->charge.units);
    p->op->err.retry_ms = wait_ms < 1 ? 1 : wait_ms > 3600000 ? 3600000 : wait_ms;
    take_out(&s->sent, p);
    yd_redis_doubt(s, p->names);
    tell(s, p);
}

// ---- trouble -------------------------------------------------------------------------------------------------------

static void set_trouble(yd_redis_store *s, const char *why)
{
    const int was_ok = s->ok;
    s->ok = 0;
    snprintf(s->why, sizeof s->why, "%.250s", why);
    if (was_ok) yd_log(YD_LOG_ERROR, NULL, "storing does not work", "why", s->why, NULL);
}

static void set_ok(yd_redis_store *s)
{
    if (!s->ok) {
        yd_log(YD_LOG_INFO, NULL, "storing works again", NULL);
        s->ok_us = yd_mono_us();
    }
    s->ok = 1;
}

// This process has lost its part in the store, or cannot know what is in it any more: nothing it says counts from here.
static void fence(yd_redis_store *s, const char *why)
{
    if (s->fenced) return;
    s->fenced = 1;
    set_trouble(s, why);
    yd_pending_list *lists[] = {&s->sent, &s->todo};
    for (int i = 0; i < 2; i++)
        while (lists[i]->head) {
            yd_pending *p = pop(lists[i]);
            refuse(s, p, yd_redis_is_new(p->op) ? YD_E_STORE_AWAY : YD_E_CONFLICT, s->why);
        }
    yd_redis_sync_end(s);
}

static void lost(yd_redis_store *s, const char *why)
{
    if (s->fenced || s->closing > 2) return;
    set_trouble(s, why);
    yd_redis_link_drop(&s->writer);
    yd_redis_link_drop(&s->reader);
    s->wire = 0;
    for (yd_pending *p = s->sent.head; p; p = p->next) p->on_wire = 0;
    s->refresh_sent_us = s->xread_us = 0;
    yd_redis_sync_end(s);
    s->backoff_us = s->backoff_us ? 2 * s->backoff_us : FIRST_MS * 1000;
    if (s->backoff_us > MOST_MS * 1000) s->backoff_us = MOST_MS * 1000;
    s->reconnect_us = yd_mono_us() + s->backoff_us;
}

void yd_redis_back(yd_redis_store *s)
{
    yd_redis_link_drop(&s->writer);
    yd_redis_link_drop(&s->reader);
    s->wire = s->fenced = 0;
    s->refresh_sent_us = s->xread_us = s->reconnect_us = s->backoff_us = 0;
    s->refreshed_us = s->reaped_us = yd_mono_us();
    yd_log(YD_LOG_WARN, NULL, "this process is back in the shared store as another one", "replica", s->replica_text, NULL);
    set_ok(s);
    if (s->changed) s->changed(s->changed_arg, NULL);
}

static void on_down(void *store, const char *why)
{
    lost(store, why);
}

// An answer that refuses. 1: it was one.
static int refuses(yd_redis_store *s, const redisReply *r)
{
    if (r->type == REDIS_REPLY_ERROR) {
        set_trouble(s, r->str);
        return 1;
    }
    const int fenced = r->type == REDIS_REPLY_STATUS || r->type == REDIS_REPLY_STRING ? strcmp(r->str, "fenced") == 0 : 0;
    if (fenced)
        fence(s, s->opt.several ? "this process was taken for dead, and comes back as another one"
                                : "this process was taken for dead and another one may have its jobs, or the store was emptied; restart it");
    return fenced;
}

// ---- writing -------------------------------------------------------------------------------------------------------

static void flush(yd_redis_store *s);

static void on_appended(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *l = c->data;
    yd_redis_store *s = l->arg;
    const redisReply *r = reply;
    const uint64_t number = (uintptr_t)arg;
    if (!r || l->context != c) return;
    s->wire--;
    s->wire_us = yd_mono_us();
    yd_pending *p = s->sent.head;
    while (p && p->number != number) p = p->next;
    if (p) p->on_wire = 0;
    if (refuses(s, r)) {
        s->retry_write_us = after_ms(RETRY_MS);
        if (s->fenced || !p || !yd_redis_is_new(p->op)) return;
        take_out(&s->sent, p);
        refuse(s, p, YD_E_STORE_AWAY, s->why);
    } else if (r->str && strcmp(r->str, "done") == 0) {
        if (p) p->logged = 1;
        if (number > s->last_logged) s->last_logged = number;
    } else if (r->str && strncmp(r->str, "limit:", 6) == 0) {
        if (p) refuse_limit(s, p, strtol(r->str + 6, NULL, 10));
    } else { // a gap: what came before it was refused, or the log has lost its end; the next refresh will tell
        s->retry_write_us = after_ms(FIRST_MS);
    }
    if (s->wire == 0) flush(s);
}

static int send_one(yd_redis_store *s, yd_pending *p, uint64_t previous)
{
    char number[24], before[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)p->number);
    snprintf(before, sizeof before, "%llu", (unsigned long long)previous);
    const int charged = p->op->charge.units > 0;
    yd_redis_charge c = {0};
    if (charged) yd_redis_charge_text(p->op, &c);
    const char *argv[] = {"EVAL", charged ? yd_redis_charge_script : yd_redis_append_script, "0", s->replica_text, number, before, p->text, c.key, c.units, c.most, c.rate};
    if (yd_redis_link_send(&s->writer, on_appended, (void *)(uintptr_t)p->number, charged ? 11 : 7, argv, NULL)) return -1;
    p->sent_us = s->wire_us = yd_mono_us();
    p->on_wire = 1;
    s->wire++;
    return 0;
}

// Everything that is not in the log yet, in order, once the answers to what was sent before are there.
static void flush(yd_redis_store *s)
{
    uint64_t previous = s->last_logged;
    int n = 0;
    if (!s->writer.ready || s->wire || s->fenced || s->healing || s->muted || (s->opt.several && !s->ok) || yd_mono_us() < s->retry_write_us) return;
    for (yd_pending *p = s->sent.head; p && n < BATCH; p = p->next) {
        if (p->logged) continue;
        if (send_one(s, p, previous)) {
            lost(s, "no memory to send");
            return;
        }
        previous = p->number;
        n++;
    }
}

// A server that is killed while its disk is slow may have acknowledged what it had not written: the log ends before what is known here. One
// replica alone knows everything that was ever in it, and writes it down anew.
static int heals(yd_redis_store *s, const redisReply *r)
{
    const int behind = r->str && strcmp(r->str, "behind") == 0;
    if (!r->str || (!behind && strtoull(r->str, NULL, 10) >= s->refresh_last)) return 0;
    if (s->opt.several) {
        fence(s, "the shared store has lost the end of its log");
        return 1;
    }
    set_trouble(s, "the shared store has lost the end of its log, which is written anew");
    yd_redis_heal(s);
    return 1;
}

static void on_refreshed(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *l = c->data;
    yd_redis_store *s = l->arg;
    (void)arg;
    if (!reply || l->context != c) return;
    s->refresh_sent_us = 0;
    s->refreshed_us = yd_mono_us();
    if (refuses(s, reply) || s->healing || heals(s, reply)) return;
    const char *said = ((const redisReply *)reply)->str, *time = said ? strchr(said, ' ') : NULL;
    s->told_ms = time ? strtoull(time, NULL, 10) : 0;
    set_ok(s);
    s->backoff_us = 0;
    flush(s);
}

static void refresh(yd_redis_store *s)
{
    char ms[24];
    snprintf(ms, sizeof ms, "%lld", (long long)s->opt.lease_ms);
    s->refresh_last = s->last_logged;
    char position[24];
    snprintf(position, sizeof position, "%llu", s->opt.several ? (unsigned long long)s->position : 0);
    const char *argv[] = {"EVAL", yd_redis_refresh_script, "0", s->replica_text, s->who, ms, position};
    if (yd_redis_link_send(&s->writer, on_refreshed, NULL, 7, argv, NULL) == 0) s->refresh_sent_us = yd_mono_us();
}

static void on_reaped(redisAsyncContext *c, void *reply, void *arg)
{
    (void)c, (void)reply, (void)arg; // what it did comes in the log
}

static void reap(yd_redis_store *s)
{
    char told[24], age[24];
    snprintf(told, sizeof told, "%llu", (unsigned long long)s->told_ms);
    snprintf(age, sizeof age, "%lld", (long long)s->opt.lease_ms / 2);
    const char *argv[] = {"EVAL", yd_redis_reap_script, "0", s->replica_text, told, age};
    s->reaped_us = yd_mono_us();
    yd_redis_link_send(&s->writer, on_reaped, NULL, 6, argv, NULL);
}

// ---- reading -------------------------------------------------------------------------------------------------------

static int is_idle(const yd_redis_store *s)
{
    return !s->working && !s->todo.head && !s->sent.head;
}

static void submit(yd_store *base, yd_store_op *op);

// An own operation has come back, or one of an earlier life of its submission that was given up.
static void settle(yd_redis_store *s, yd_entry *e)
{
    yd_pending *p = s->sent.head;
    while (p && p->number != e->number) p = p->next;
    if (e->number > s->last_logged) s->last_logged = e->number;
    if (p) {
        p->op->rc = e->op->rc;
        p->op->err = e->op->err;
        p->op->rec.order = e->op->rec.order;
        p->op->charged = p->op->charge.units > 0;
        p->op->rec.claims = e->op->rec.claims;
        p->op->asked = e->op->asked;
        p->op->n_expired = e->op->n_expired;
        memcpy(p->op->expired, e->op->expired, sizeof p->op->expired);
        take_out(&s->sent, p);
        if (is_idle(s)) yd_redis_remove_unused(s);
        tell(s, p);
    } else if (yd_redis_is_new(e->op) && e->op->rc == 0) {
        yd_store_op *undo = yd_store_op_new(e->op->kind == YD_OP_PUT ? YD_OP_REMOVE : YD_OP_BUNDLE_REMOVE, NULL, NULL, NULL);
        if (!undo) return; // it is a job that nobody was told of
        snprintf(undo->rec.id, sizeof undo->rec.id, "%s", e->op->rec.id);
        undo->now_ms = e->op->now_ms ? e->op->now_ms : yd_wall_ms();
        submit(&s->base, undo);
    }
}

static void tell_changes(yd_redis_store *s, const yd_entry *e)
{
    if (!s->changed || s->closing > 1) return;
    if (s->released_more) s->changed(s->changed_arg, NULL);
    for (size_t i = 0; i < s->n_released; i++) s->changed(s->changed_arg, s->released[i]);
    for (int i = 0; e->op && i < e->op->n_expired; i++) s->changed(s->changed_arg, e->op->expired[i]);
    if (e->op && e->op->kind != YD_OP_EXPIRE && e->op->rc == 0) s->changed(s->changed_arg, e->op->rec.id);
}

static int take_entries(yd_redis_store *s, const redisReply *entries)
{
    yd_err err = {0};
    for (size_t i = 0; i < entries->elements; i++) {
        const redisReply *e = entries->element[i];
        if (e->elements != 2 || e->element[1]->elements != 2) return YD_E_IO;
        const redisReply *text = e->element[1]->element[1];
        yd_entry entry;
        int rc = yd_redis_take(s, e->element[0]->str, text->str, (size_t)text->len, &entry, &err);
        if (rc == YD_E_NOMEM)
            lost(s, err.detail);
        else if (rc)
            fence(s, err.detail);
        if (rc) return rc;
        const int own = entry.what == YD_ENTRY_OP && entry.replica == s->replica;
        if (own && !s->fenced) settle(s, &entry);
        if (!own) tell_changes(s, &entry);
        yd_entry_clear(&entry);
    }
    return 0;
}

static void read_on(yd_redis_store *s);

static void on_read(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *l = c->data;
    yd_redis_store *s = l->arg;
    const redisReply *r = reply;
    (void)arg;
    if (!r || l->context != c || s->closing > 2 || s->muted) return;
    s->xread_us = 0;
    if (r->type == REDIS_REPLY_ERROR) {
        lost(s, r->str);
        return;
    }
    // {{name, {{id, {"o", text}}, ...}}}, or nothing within the time.
    if (r->type == REDIS_REPLY_ARRAY && r->elements == 1 && r->element[0]->elements == 2 && take_entries(s, r->element[0]->element[1])) return;
    yd_redis_snapshot_if_due(s);
    yd_redis_sync_look(s);
    read_on(s);
    if (s->advanced && s->closing <= 1) s->advanced(s->advanced_arg);
}

static void read_on(yd_redis_store *s)
{
    char from[32];
    snprintf(from, sizeof from, "%llu-1", (unsigned long long)s->position);
    const char *argv[] = {"XREAD", "COUNT", "256", "BLOCK", BLOCK_MS, "STREAMS", YD_KEY_LOG, from};
    if (yd_redis_link_send(&s->reader, on_read, NULL, 8, argv, NULL) == 0) s->xread_us = yd_mono_us();
}

static void on_up(void *store)
{
    yd_redis_store *s = store;
    if (s->writer.ready && !s->refresh_sent_us) refresh(s);
    if (s->reader.ready && !s->xread_us) read_on(s);
}

// ---- pictures ------------------------------------------------------------------------------------------------------

static void start_batch(yd_redis_store *s);

static void work_main(uv_work_t *w)
{
    yd_redis_store *s = w->data;
    yd_redis_write_batch(s, &s->batch);
}

static void note_disk(yd_redis_store *s, const yd_pending *bad)
{
    if (bad && !s->disk_bad) yd_log(YD_LOG_ERROR, NULL, "storing does not work", "why", bad->err.detail, NULL);
    if (!bad && s->disk_bad) yd_log(YD_LOG_INFO, NULL, "storing works again", NULL);
    s->disk_bad = bad != NULL;
    if (bad) snprintf(s->why, sizeof s->why, "%.250s", bad->err.detail);
    if (bad) s->retry_disk_us = after_ms(RETRY_DISK_MS);
}

// What could not be written and is not new waits at the head, and with it what is not new and came after it.
static void work_done(uv_work_t *w, int status)
{
    yd_redis_store *s = w->data;
    yd_pending_list kept = {0};
    (void)status;
    s->working = 0;
    for (const yd_pending *p = s->batch.head;; p = p->next)
        if (!p || p->rc) {
            note_disk(s, p);
            break;
        }
    while (s->batch.head) {
        yd_pending *p = pop(&s->batch);
        const int is_new = yd_redis_is_new(p->op);
        if (s->fenced)
            refuse(s, p, is_new ? YD_E_STORE_AWAY : YD_E_CONFLICT, s->why);
        else if (is_new && p->rc)
            refuse(s, p, p->rc, p->err.detail);
        else if (!is_new && (p->rc || kept.head))
            append(&kept, p);
        else
            append(&s->sent, p);
    }
    while (s->todo.head) append(&kept, pop(&s->todo));
    s->todo = kept;
    flush(s);
    start_batch(s);
}

static void start_batch(yd_redis_store *s)
{
    if (s->working || !s->todo.head || s->fenced || s->muted || (s->disk_bad && yd_mono_us() < s->retry_disk_us && !yd_redis_is_new(s->todo.tail->op)))
        return;
    if (s->n_doubtful > MANY_DOUBTFUL && !s->opt.several) { // files go when nothing is on its way
        if (s->sent.head) return;
        yd_redis_remove_unused(s);
    }
    while (s->todo.head && s->batch.count < BATCH) {
        yd_pending *p = pop(&s->todo);
        p->number = ++s->next_number;
        append(&s->batch, p);
    }
    s->work.data = s;
    s->working = 1;
    if (uv_queue_work(s->tick.loop, &s->work, work_main, work_done)) work_done(&s->work, 0);
}

static void submit(yd_store *base, yd_store_op *op)
{
    yd_redis_store *s = (yd_redis_store *)base;
    const int is_new = yd_redis_is_new(op);
    yd_pending *p = NULL;
    yd_err_clear(&op->err);
    if (s->fenced || s->closing > 1 || (is_new && !s->ok))
        op->rc = yd_fail(&op->err, is_new ? YD_E_STORE_AWAY : YD_E_CONFLICT, "the shared store does not work: %s", *s->why ? s->why : "it is closed");
    else if (!(p = yd_calloc(1, sizeof *p)))
        op->rc = yd_fail(&op->err, YD_E_NOMEM, "no memory to store a job");
    if (!p) {
        tell_op(s, op);
        return;
    }
    p->op = op;
    p->since_us = yd_mono_us();
    append(&s->todo, p);
    start_batch(s);
}

// ---- time ----------------------------------------------------------------------------------------------------------

static void give_up_new(yd_redis_store *s, int64_t now)
{
    yd_pending_list *lists[] = {&s->todo, &s->sent};
    for (int i = 0; i < 2; i++)
        for (yd_pending *p = lists[i]->head, *next; p; p = next) {
            next = p->next;
            if (!yd_redis_is_new(p->op) || now - p->since_us < GIVE_UP_MS * 1000) continue;
            take_out(lists[i], p);
            refuse(s, p, YD_E_STORE_AWAY, s->ok ? "it does not answer" : s->why);
        }
}

static int is_late(int64_t since_us, int64_t now, int64_t ms)
{
    return since_us && now - since_us > ms * 1000;
}

static void look_after_links(yd_redis_store *s, int64_t now)
{
    yd_redis_link *links[] = {&s->writer, &s->reader};
    if (!yd_redis_link_busy(&s->writer) && !yd_redis_link_busy(&s->reader)) {
        if (now < s->reconnect_us) return;
        yd_redis_link_start(&s->writer);
        if (yd_redis_link_busy(&s->writer)) yd_redis_link_start(&s->reader);
        return;
    }
    int late = is_late(s->refresh_sent_us, now, ANSWER_MS) || is_late(s->xread_us, now, READ_MS) || is_late(s->sync_sent_us, now, ANSWER_MS) || (s->wire && is_late(s->wire_us, now, ANSWER_MS));
    for (int i = 0; i < 2; i++) late |= yd_redis_link_busy(links[i]) && !links[i]->ready && is_late(links[i]->since_us, now, CONNECT_MS);
    for (const yd_pending *p = s->sent.head; p && !late; p = p->next) late = (p->on_wire || p->logged) && is_late(p->sent_us, now, ANSWER_MS);
    if (late) {
        lost(s, "it does not answer");
        return;
    }
    const int64_t every = s->ok ? s->opt.lease_ms / 4 : RETRY_MS;
    if (s->writer.ready && !s->refresh_sent_us && is_late(s->refreshed_us, now, every)) refresh(s);
    // After trouble with the server others may need a while as well.
    if (s->opt.several && s->ok && now - s->reaped_us > s->opt.lease_ms * 500 && now - s->ok_us > s->opt.lease_ms * 1000) reap(s);
}

static void on_handle_closed(uv_handle_t *h)
{
    yd_redis_store *s = h->data;
    void (*closed)(void *arg) = s->closed;
    void *arg = s->closed_arg;
    if (--s->open_handles > 0) return;
    yd_redis_free_parts(s);
    if (closed) closed(arg);
}

static void finish(yd_redis_store *s)
{
    s->closing = 3;
    yd_redis_link_end(&s->writer);
    yd_redis_link_end(&s->reader);
    while (s->told_next) on_teller(&s->teller);
    yd_redis_sync_end(s);
    s->open_handles = 3;
    uv_close((uv_handle_t *)&s->tick, on_handle_closed);
    uv_close((uv_handle_t *)&s->teller, on_handle_closed);
    uv_close((uv_handle_t *)&s->asker, on_handle_closed);
}

static void on_left(redisAsyncContext *c, void *reply, void *arg)
{
    const yd_redis_link *l = c->data;
    yd_redis_store *s = l->arg;
    (void)arg;
    if (reply && l->context == c && s->closing == 2) s->closing_us = 0; // at once
    if (s->closing == 2) uv_timer_start(&s->tick, s->tick.timer_cb, 0, TICK_MS);
}

static void go_on_closing(yd_redis_store *s, int64_t now)
{
    if (s->working || s->snapping || s->rejoining) return;
    if (s->closing == 1) {
        if (!is_idle(s) && s->ok && !s->disk_bad && now - s->closing_us < CLOSE_MS * 1000) return;
        while (s->todo.head) append(&s->sent, pop(&s->todo));
        while (s->sent.head) refuse(s, pop(&s->sent), YD_E_STORE_AWAY, *s->why ? s->why : "it does not answer");
        const char *argv[] = {"EVAL", yd_redis_release_script, "0", s->replica_text};
        s->closing = 2;
        s->closing_us = now;
        if (s->fenced || s->muted || yd_redis_link_send(&s->writer, on_left, NULL, 4, argv, NULL)) s->closing_us = 0;
    }
    if (s->closing == 2 && now - s->closing_us > LEAVE_MS * 1000) finish(s);
}

static void on_tick(uv_timer_t *t)
{
    yd_redis_store *s = t->data;
    const int64_t now = yd_mono_us();
    if (s->closing) {
        go_on_closing(s, now);
        if (s->closing > 1) return;
    }
    if (s->muted) return;
    yd_redis_rejoin_if_due(s);
    if (!s->fenced) look_after_links(s, now);
    give_up_new(s, now);
    flush(s);
    yd_redis_budgets_sync(s, now);
    start_batch(s);
    if (is_idle(s) && s->n_doubtful) yd_redis_remove_unused(s);
}

// ---- the interface -------------------------------------------------------------------------------------------------

static void close_store(yd_store *base, void (*closed)(void *arg), void *arg)
{
    yd_redis_store *s = (yd_redis_store *)base;
    s->closed = closed;
    s->closed_arg = arg;
    s->closing = 1;
    s->closing_us = yd_mono_us();
    uv_timer_start(&s->tick, on_tick, 0, 10);
}

static void start(yd_redis_store *s, uv_loop_t *loop)
{
    s->writer = s->reader = (yd_redis_link){.loop = loop, .url = &s->url, .arg = s, .up = on_up, .down = on_down};
    uv_timer_init(loop, &s->tick);
    uv_idle_init(loop, &s->teller);
    uv_idle_init(loop, &s->asker);
    s->tick.data = s->teller.data = s->asker.data = s;
    s->ok = 1; // it has just answered
    s->refreshed_us = s->reaped_us = s->ok_us = yd_mono_us();
    uv_timer_start(&s->tick, on_tick, 0, TICK_MS);
}

int yd_store_redis_open_with(uv_loop_t *loop, const char *url, const char *folder, const yd_redis_options *opt, yd_store **out, yd_err *err)
{
    yd_redis_store *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for the job store");
    s->opt = *opt;
    s->lock_fd = -1;
    s->base = (yd_store){.durable = 1, .several = s->opt.several, .close = close_store, .submit = submit};
    yd_redis_reads(&s->base);
    yd_redis_syncs(&s->base);
    if (opt->several) yd_redis_budgets(s);
    int rc = yd_redis_url_parse(url, &s->url, err);
    if (!rc) rc = yd_redis_join(s, folder, err);
    if (rc) {
        yd_redis_free_parts(s);
        return rc;
    }
    start(s, loop);
    *out = &s->base;
    return 0;
}

int yd_store_redis_open(uv_loop_t *loop, const char *url, const char *folder, int64_t lease_ms, size_t most_picture, yd_store **out, yd_err *err)
{
    yd_redis_options opt = YD_REDIS_OPTIONS;
    opt.lease_ms = lease_ms;
    opt.most_picture = most_picture;
    return yd_store_redis_open_with(loop, url, folder, &opt, out, err);
}
