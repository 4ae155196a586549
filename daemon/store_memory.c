// The store in memory: a hash by id, one list in order of arrival for listing, one of finished records for expiry.
//
// Invariants: every record is in `by_id` and in `all`; in `finished` iff its state is final.
// `finished` is ordered by when records entered it, so expiry only looks at its head. Tombstones are a list ordered by age, and a hash.
// Operations take effect when they are handed in; who asked is told in the loop's next turn, by an idle handle that runs only then.
// Threads: the loop thread only.
#include "daemon/store.h"

#include "core/mem.h"
#include <stdio.h>
#include <string.h>

#define MAX_TOMBSTONES 65536

typedef struct row row;

typedef struct hook {
    row *prev, *next;
} hook;

struct row {
    yd_job_record rec;
    hook all, turn; // turn: in `finished`
};

typedef struct list {
    row *head, *tail;
    size_t count;
} list;

typedef struct grave {
    struct grave *next;
    int64_t since_ms;
    char id[YD_ID_MAX];
} grave;

typedef struct memory_store {
    yd_store base;
    yd_idmap *by_id, *graves_by_id;
    list all, finished;
    size_t finished_bytes;
    uint64_t last_order;
    grave *oldest_grave, *newest_grave;
    uv_idle_t teller;
    yd_store_op *told_next, *told_last; // done, not yet told
    void (*closed)(void *arg);
    void *closed_arg;
} memory_store;

static hook *hook_of(row *r, int all)
{
    return all ? &r->all : &r->turn;
}

static void append(list *l, row *r, int all)
{
    hook *k = hook_of(r, all);
    k->prev = l->tail;
    k->next = NULL;
    if (l->tail)
        hook_of(l->tail, all)->next = r;
    else
        l->head = r;
    l->tail = r;
    l->count++;
}

static void unlink_row(list *l, row *r, int all)
{
    hook *k = hook_of(r, all);
    if (k->prev)
        hook_of(k->prev, all)->next = k->next;
    else
        l->head = k->next;
    if (k->next)
        hook_of(k->next, all)->prev = k->prev;
    else
        l->tail = k->prev;
    l->count--;
}

static void enter(memory_store *m, row *r)
{
    if (!yd_job_state_final(r->rec.state)) return;
    append(&m->finished, r, 0);
    m->finished_bytes += r->rec.bytes;
}

static void leave(memory_store *m, row *r)
{
    if (!yd_job_state_final(r->rec.state)) return;
    unlink_row(&m->finished, r, 0);
    m->finished_bytes -= r->rec.bytes;
}

static int put(memory_store *m, yd_job_record *rec, yd_err *err)
{
    if (yd_idmap_get(m->by_id, rec->id) || yd_idmap_get(m->graves_by_id, rec->id))
        return yd_fail_field(err, YD_E_CONFLICT, "id", "", "the id %s is already taken", rec->id);
    row *r = yd_calloc(1, sizeof *r);
    if (!r || yd_idmap_put(m->by_id, rec->id, r)) {
        yd_free(r);
        return yd_fail(err, YD_E_NOMEM, "no memory for another job");
    }
    rec->order = ++m->last_order;
    yd_job_record_copy(&r->rec, rec);
    append(&m->all, r, 1);
    enter(m, r);
    return 0;
}

// Replace r's record; enters and leaves the lists its states call for.
static void replace(memory_store *m, row *r, const yd_job_record *rec)
{
    yd_job_record old = r->rec;
    uint64_t order = old.order;
    leave(m, r);
    yd_job_record_copy(&r->rec, rec); // before the old references go: they may be the same blobs
    r->rec.order = order;
    yd_job_record_clear(&old);
    enter(m, r);
}

static int update(memory_store *m, const yd_job_record *rec, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, rec->id);
    if (!r) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %s", rec->id);
    if (yd_job_state_final(r->rec.state))
        return yd_fail(err, YD_E_CONFLICT, "job %s has already %s", rec->id, yd_job_state_name(r->rec.state));
    replace(m, r, rec);
    return 0;
}

static int attach(memory_store *m, const yd_job_record *rec, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, rec->id);
    if (!r) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %s", rec->id);
    if (yd_job_state_final(r->rec.state)) m->finished_bytes -= r->rec.bytes;
    yd_blob_unref(r->rec.attention);
    yd_blob_unref(r->rec.activation);
    r->rec.attention = yd_blob_ref(rec->attention);
    r->rec.activation = yd_blob_ref(rec->activation);
    r->rec.bytes = rec->bytes;
    if (yd_job_state_final(r->rec.state)) m->finished_bytes += r->rec.bytes;
    return 0;
}

static int note(memory_store *m, const yd_job_record *rec, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, rec->id);
    if (!r) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %s", rec->id);
    yd_blob_unref(r->rec.errands);
    r->rec.errands = yd_blob_ref(rec->errands);
    r->rec.due = rec->due;
    return 0;
}

static int get(yd_store *s, const char *id, int whole, yd_job_record *out, yd_err *err)
{
    (void)whole; // references cost nothing
    memory_store *m = (memory_store *)s;
    row *r = yd_idmap_get(m->by_id, id);
    if (r) {
        yd_job_record_copy(out, &r->rec);
        return 0;
    }
    if (yd_idmap_get(m->graves_by_id, id))
        return yd_fail(err, YD_E_GONE, "job %.40s has been deleted or has expired", id);
    return yd_fail(err, YD_E_NOT_FOUND, "there is no job %.40s", id);
}

static int claim(memory_store *m, const char *id, int64_t now_ms, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, id);
    if (!r) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %.40s", id);
    if (r->rec.state != YD_JOB_QUEUED)
        return yd_fail(err, YD_E_CONFLICT, "job %s is not queued but %s", id, yd_job_state_name(r->rec.state));
    r->rec.state = YD_JOB_RUNNING;
    r->rec.started_ms = now_ms;
    r->rec.attempts++;
    return 0;
}

static int list_ids(yd_store *s, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX],
                    uint64_t *orders)
{
    memory_store *m = (memory_store *)s;
    int n = 0;
    for (row *r = m->all.tail; r && n < limit; r = r->all.prev) {
        if (r->rec.order >= before || (state >= 0 && r->rec.state != (yd_job_state)state)) continue;
        if (owner && strcmp(r->rec.owner, owner) != 0) continue;
        snprintf(ids[n], YD_ID_MAX, "%s", r->rec.id);
        orders[n++] = r->rec.order;
    }
    return n;
}

static int list_due(yd_store *s, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    memory_store *m = (memory_store *)s;
    int n = 0;
    for (const row *r = m->all.tail; r && n < limit; r = r->all.prev) {
        if (r->rec.order >= before || !r->rec.due) continue;
        memcpy(ids[n], r->rec.id, YD_ID_MAX);
        orders[n++] = r->rec.order;
    }
    return n;
}

static void forget_oldest_grave(memory_store *m)
{
    grave *g = m->oldest_grave;
    m->oldest_grave = g->next;
    if (!m->oldest_grave) m->newest_grave = NULL;
    yd_idmap_remove(m->graves_by_id, g->id);
    yd_free(g);
}

// Without memory for a tombstone the job is plainly unknown afterwards.
static void bury(memory_store *m, const char *id, int64_t now_ms)
{
    grave *g = yd_calloc(1, sizeof *g);
    if (!g) return;
    snprintf(g->id, sizeof g->id, "%s", id);
    g->since_ms = now_ms;
    if (yd_idmap_put(m->graves_by_id, id, g)) {
        yd_free(g);
        return;
    }
    if (m->newest_grave)
        m->newest_grave->next = g;
    else
        m->oldest_grave = g;
    m->newest_grave = g;
    if (yd_idmap_count(m->graves_by_id) > MAX_TOMBSTONES) forget_oldest_grave(m);
}

static void drop(memory_store *m, row *r)
{
    leave(m, r);
    unlink_row(&m->all, r, 1);
    yd_idmap_remove(m->by_id, r->rec.id);
    yd_job_record_clear(&r->rec);
    yd_free(r);
}

static void remove_id(memory_store *m, const char *id, int64_t now_ms)
{
    row *r = yd_idmap_get(m->by_id, id);
    if (!r) return;
    bury(m, r->rec.id, now_ms);
    drop(m, r);
}

static void expire(memory_store *m, yd_store_op *op)
{
    const yd_store_limits *lim = &op->limits;
    for (row *r; (r = m->finished.head) && op->n_expired < YD_EXPIRE_MAX;) {
        int old = op->now_ms - r->rec.finished_ms >= lim->job_ttl_ms;
        if (!old && m->finished.count <= lim->max_finished_jobs && m->finished_bytes <= lim->max_finished_bytes) break;
        char *id = op->expired[op->n_expired++];
        memcpy(id, r->rec.id, YD_ID_MAX);
        bury(m, id, op->now_ms);
        drop(m, r);
    }
    while (m->oldest_grave && op->now_ms - m->oldest_grave->since_ms >= lim->tombstone_ttl_ms) forget_oldest_grave(m);
}

static int find_key(yd_store *s, const char *key, char id[YD_ID_MAX])
{
    const memory_store *m = (const memory_store *)s;
    for (const row *r = m->finished.tail; *key && r; r = r->turn.prev)
        if (r->rec.state == YD_JOB_SUCCEEDED && strcmp(r->rec.key, key) == 0) {
            memcpy(id, r->rec.id, YD_ID_MAX);
            return 1;
        }
    return 0;
}

static int find_once(yd_store *s, const char *once, char id[YD_ID_MAX])
{
    const memory_store *m = (const memory_store *)s;
    for (const row *r = m->all.tail; *once && r; r = r->all.prev)
        if (strcmp(r->rec.once, once) == 0) {
            memcpy(id, r->rec.id, YD_ID_MAX);
            return 1;
        }
    return 0;
}

// Batches are gone with the process: nobody will ask.
static void bundles(yd_store *s, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg)
{
    (void)s;
    (void)each;
    (void)arg;
}

static void health(const yd_store *s, yd_store_health *out)
{
    *out = (yd_store_health){.ok = 1, .free_room = UINT64_MAX, .bytes = ((const memory_store *)s)->finished_bytes};
}

// ---- operations ----------------------------------------------------------------------------------------------------

static void tell(uv_idle_t *teller)
{
    memory_store *m = teller->data;
    yd_store_op *op = m->told_next, *next;
    m->told_next = m->told_last = NULL;
    uv_idle_stop(teller);
    for (; op; op = next) {
        next = op->next;
        if (op->done) op->done(op);
        yd_store_op_free(op);
    }
}

static void submit(yd_store *s, yd_store_op *op)
{
    memory_store *m = (memory_store *)s;
    op->rc = 0;
    switch (op->kind) {
    case YD_OP_PUT: op->rc = put(m, &op->rec, &op->err); break;
    case YD_OP_UPDATE: op->rc = update(m, &op->rec, &op->err); break;
    case YD_OP_ATTACH: op->rc = attach(m, &op->rec, &op->err); break;
    case YD_OP_NOTE: op->rc = note(m, &op->rec, &op->err); break;
    case YD_OP_CLAIM: op->rc = claim(m, op->rec.id, op->now_ms, &op->err); break;
    case YD_OP_REMOVE: remove_id(m, op->rec.id, op->now_ms); break;
    case YD_OP_EXPIRE: expire(m, op); break;
    case YD_OP_BUNDLE_PUT:
    case YD_OP_BUNDLE_REMOVE: break; // the service has them
    }
    op->next = NULL;
    if (m->told_last)
        m->told_last->next = op;
    else
        m->told_next = op;
    m->told_last = op;
    uv_idle_start(&m->teller, tell);
}

static void free_store(uv_handle_t *h)
{
    memory_store *m = h->data;
    void (*closed)(void *arg) = m->closed;
    void *arg = m->closed_arg;
    while (m->all.head) drop(m, m->all.head);
    while (m->oldest_grave) forget_oldest_grave(m);
    yd_idmap_free(m->by_id);
    yd_idmap_free(m->graves_by_id);
    yd_free(m);
    if (closed) closed(arg);
}

static void close_store(yd_store *s, void (*closed)(void *arg), void *arg)
{
    memory_store *m = (memory_store *)s;
    m->closed = closed;
    m->closed_arg = arg;
    while (m->told_next) tell(&m->teller); // what is told may hand in more
    uv_close((uv_handle_t *)&m->teller, free_store);
}

int yd_store_memory_open(uv_loop_t *loop, yd_store **out, yd_err *err)
{
    memory_store *m = yd_calloc(1, sizeof *m);
    if (m) {
        m->by_id = yd_idmap_new();
        m->graves_by_id = yd_idmap_new();
    }
    if (!m || !m->by_id || !m->graves_by_id) {
        if (m) {
            yd_idmap_free(m->by_id);
            yd_idmap_free(m->graves_by_id);
        }
        yd_free(m);
        return yd_fail(err, YD_E_NOMEM, "no memory for the job store");
    }
    m->base = (yd_store){.durability = "none",
                         .boot = 1,
                         .close = close_store,
                         .submit = submit,
                         .get = get,
                         .list = list_ids,
                         .list_due = list_due,
                         .find_key = find_key,
                         .find_once = find_once,
                         .bundles = bundles,
                         .health = health};
    uv_idle_init(loop, &m->teller); // cannot fail
    m->teller.data = m;
    *out = &m->base;
    return 0;
}
