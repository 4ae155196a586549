// The mirror: a hash by id, one list in order of arrival for listing, one of finished records for expiry.
//
// Invariants: every record is in `by_id` and in `all`; in `finished` iff its state is final.
// `finished` is ordered by when records entered it, so expiry only looks at its head. Tombstones are a list ordered by age, and a hash.
// Threads: one at a time.
#include "daemon/store_mirror.h"

#include "core/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TOMBSTONES 65536

typedef struct row row;

typedef struct hook {
    row *prev, *next;
} hook;

struct row {
    yd_job_record rec;
    int64_t holder; // who claimed it, or fetches its picture; 0: nobody
    uint64_t ended; // counts up as records enter `finished`
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

typedef struct bundle {
    struct bundle *next;
    char id[YD_ID_MAX], owner[YD_OWNER_MAX];
    char *doc;
} bundle;

struct yd_mirror {
    yd_idmap *by_id, *graves_by_id;
    list all, finished;
    size_t finished_bytes;
    uint64_t last_order, last_end;
    grave *oldest_grave, *newest_grave;
    bundle *bundles; // oldest first
    void (*refer)(void *arg, yd_job_record *rec, int by);
    void *refer_arg;
};

static void refer(yd_mirror *m, yd_job_record *rec, int by)
{
    if (m->refer) m->refer(m->refer_arg, rec, by);
}

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

static void enter(yd_mirror *m, row *r)
{
    if (!yd_job_state_final(r->rec.state)) return;
    r->ended = ++m->last_end;
    append(&m->finished, r, 0);
    m->finished_bytes += r->rec.bytes;
}

static void leave(yd_mirror *m, row *r)
{
    if (!yd_job_state_final(r->rec.state)) return;
    unlink_row(&m->finished, r, 0);
    r->ended = 0;
    m->finished_bytes -= r->rec.bytes;
}

long yd_mirror_unfinished(const yd_mirror *m, const char *owner)
{
    long n = 0;
    for (const row *r = m->all.head; r; r = r->all.next) n += !yd_job_state_final(r->rec.state) && strcmp(r->rec.owner, owner) == 0;
    return n;
}

static int has_once(const yd_mirror *m, const yd_job_record *rec, int64_t once_ms)
{
    const row *r = once_ms && *rec->once ? m->all.tail : NULL;
    while (r && (strcmp(r->rec.once, rec->once) != 0 || rec->created_ms - r->rec.created_ms >= once_ms)) r = r->all.prev;
    return r != NULL;
}

static int put(yd_mirror *m, yd_store_op *op, int64_t by)
{
    yd_job_record *rec = &op->rec;
    yd_err *err = &op->err;
    const long most = op->charge.jobs;
    if (yd_idmap_get(m->by_id, rec->id) || yd_idmap_get(m->graves_by_id, rec->id))
        return yd_fail_field(err, YD_E_CONFLICT, "id", "", "the id %s is already taken", rec->id);
    if (most && yd_mirror_unfinished(m, rec->owner) >= most)
        return yd_fail(err, YD_E_LIMIT, "'%s' has %ld jobs under way, no more than that may be", rec->owner, most);
    if (has_once(m, rec, op->once_ms)) return yd_fail(err, YD_E_CONFLICT, "the key is another request's");
    row *r = yd_calloc(1, sizeof *r);
    if (!r || yd_idmap_put(m->by_id, rec->id, r)) {
        yd_free(r);
        return yd_fail(err, YD_E_NOMEM, "no memory for another job");
    }
    rec->order = ++m->last_order;
    yd_job_record_copy(&r->rec, rec);
    r->holder = rec->fetching ? by : 0;
    refer(m, &r->rec, 1);
    append(&m->all, r, 1);
    enter(m, r);
    return 0;
}

// Replace r's record; enters and leaves the lists its states call for.
static void replace(yd_mirror *m, row *r, const yd_job_record *rec)
{
    yd_job_record old = r->rec;
    uint64_t order = old.order;
    leave(m, r);
    yd_job_record_copy(&r->rec, rec); // before the old references go: they may be the same blobs
    r->rec.order = order;
    r->rec.claims = old.claims;
    r->rec.cancel = old.cancel;
    if (!rec->events) r->rec.events = yd_blob_ref(old.events);
    if (!rec->errands) { // none is no news
        r->rec.errands = yd_blob_ref(old.errands);
        r->rec.due = old.due;
    }
    refer(m, &r->rec, 1);
    refer(m, &old, -1);
    yd_job_record_clear(&old);
    enter(m, r);
}

static int update(yd_mirror *m, const yd_job_record *rec, int64_t by, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, rec->id);
    if (!r) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %s", rec->id);
    if (yd_job_state_final(r->rec.state))
        return yd_fail(err, YD_E_CONFLICT, "job %s has already %s", rec->id, yd_job_state_name(r->rec.state));
    if (r->holder && r->holder != by) return yd_fail(err, YD_E_CONFLICT, "job %s is another process's", rec->id);
    if (rec->state == YD_JOB_RUNNING && r->rec.state != YD_JOB_RUNNING) r->holder = by;
    replace(m, r, rec);
    if (r->rec.state != YD_JOB_RUNNING) r->holder = 0;
    return 0;
}

static int cancel(yd_mirror *m, yd_store_op *op, int64_t by)
{
    row *r = yd_idmap_get(m->by_id, op->rec.id);
    op->asked = r && r->holder && r->holder != by;
    if (!op->asked) return update(m, &op->rec, by, &op->err);
    r->rec.cancel = 1;
    return 0;
}

static int attach(yd_mirror *m, const yd_job_record *rec, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, rec->id);
    if (!r) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %s", rec->id);
    if (yd_job_state_final(r->rec.state)) m->finished_bytes -= r->rec.bytes;
    refer(m, &r->rec, -1);
    yd_blob_unref(r->rec.attention);
    yd_blob_unref(r->rec.activation);
    r->rec.attention = yd_blob_ref(rec->attention);
    r->rec.activation = yd_blob_ref(rec->activation);
    refer(m, &r->rec, 1);
    r->rec.bytes = rec->bytes;
    if (yd_job_state_final(r->rec.state)) m->finished_bytes += r->rec.bytes;
    return 0;
}

static int note(yd_mirror *m, const yd_job_record *rec, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, rec->id);
    if (!r) return yd_fail(err, YD_E_NOT_FOUND, "there is no job %s", rec->id);
    yd_blob_unref(r->rec.errands);
    r->rec.errands = yd_blob_ref(rec->errands);
    r->rec.due = rec->due;
    return 0;
}

int yd_mirror_get(const yd_mirror *m, const char *id, yd_job_record *out, yd_err *err)
{
    row *r = yd_idmap_get(m->by_id, id);
    if (r) {
        yd_job_record_copy(out, &r->rec);
        return 0;
    }
    if (yd_idmap_get(m->graves_by_id, id))
        return yd_fail(err, YD_E_GONE, "job %.40s has been deleted or has expired", id);
    return yd_fail(err, YD_E_NOT_FOUND, "there is no job %.40s", id);
}

static int claim(yd_mirror *m, yd_store_op *op, int64_t by)
{
    const char *id = op->rec.id;
    row *r = yd_idmap_get(m->by_id, id);
    if (!r) return yd_fail(&op->err, YD_E_NOT_FOUND, "there is no job %.40s", id);
    if (r->rec.state != YD_JOB_QUEUED)
        return yd_fail(&op->err, YD_E_CONFLICT, "job %s is not queued but %s", id, yd_job_state_name(r->rec.state));
    if (r->holder && r->holder != by) return yd_fail(&op->err, YD_E_CONFLICT, "job %s is another process's", id);
    r->holder = by;
    op->rec.claims = ++r->rec.claims;
    if (r->rec.fetching) return 0;
    r->rec.state = YD_JOB_RUNNING;
    r->rec.started_ms = op->now_ms;
    r->rec.attempts++;
    return 0;
}

int yd_mirror_list(const yd_mirror *m, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    int n = 0;
    for (row *r = m->all.tail; r && n < limit; r = r->all.prev) {
        if (r->rec.order >= before || (state >= 0 && r->rec.state != (yd_job_state)state)) continue;
        if (owner && strcmp(r->rec.owner, owner) != 0) continue;
        snprintf(ids[n], YD_ID_MAX, "%s", r->rec.id);
        orders[n++] = r->rec.order;
    }
    return n;
}

int yd_mirror_list_due(const yd_mirror *m, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    int n = 0;
    for (const row *r = m->all.tail; r && n < limit; r = r->all.prev) {
        if (r->rec.order >= before || !r->rec.due) continue;
        memcpy(ids[n], r->rec.id, YD_ID_MAX);
        orders[n++] = r->rec.order;
    }
    return n;
}

static void forget_oldest_grave(yd_mirror *m)
{
    grave *g = m->oldest_grave;
    m->oldest_grave = g->next;
    if (!m->oldest_grave) m->newest_grave = NULL;
    yd_idmap_remove(m->graves_by_id, g->id);
    yd_free(g);
}

// Without memory for a tombstone the job is plainly unknown afterwards.
static void bury(yd_mirror *m, const char *id, int64_t now_ms)
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

static void drop(yd_mirror *m, row *r)
{
    leave(m, r);
    refer(m, &r->rec, -1);
    unlink_row(&m->all, r, 1);
    yd_idmap_remove(m->by_id, r->rec.id);
    yd_job_record_clear(&r->rec);
    yd_free(r);
}

static void remove_id(yd_mirror *m, const char *id, int64_t now_ms)
{
    row *r = yd_idmap_get(m->by_id, id);
    if (!r) return;
    bury(m, r->rec.id, now_ms);
    drop(m, r);
}

static void expire(yd_mirror *m, yd_store_op *op)
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

int yd_mirror_find_key(const yd_mirror *m, const char *key, char id[YD_ID_MAX])
{
    for (const row *r = m->finished.tail; *key && r; r = r->turn.prev)
        if (r->rec.state == YD_JOB_SUCCEEDED && strcmp(r->rec.key, key) == 0) {
            memcpy(id, r->rec.id, YD_ID_MAX);
            return 1;
        }
    return 0;
}

int yd_mirror_find_once(const yd_mirror *m, const char *once, char id[YD_ID_MAX])
{
    for (const row *r = m->all.tail; *once && r; r = r->all.prev)
        if (strcmp(r->rec.once, once) == 0) {
            memcpy(id, r->rec.id, YD_ID_MAX);
            return 1;
        }
    return 0;
}

// ---- batches -------------------------------------------------------------------------------------------------------

static int put_bundle(yd_mirror *m, const char *id, const char *owner, const char *doc, yd_err *err)
{
    bundle *b = yd_calloc(1, sizeof *b), **end = &m->bundles;
    if (b) b->doc = yd_strdup(doc);
    if (!b || !b->doc) {
        yd_free(b);
        return yd_fail(err, YD_E_NOMEM, "no memory for another batch");
    }
    snprintf(b->id, sizeof b->id, "%s", id);
    snprintf(b->owner, sizeof b->owner, "%s", owner);
    while (*end) end = &(*end)->next;
    *end = b;
    return 0;
}

static void remove_bundle(yd_mirror *m, const char *id)
{
    for (bundle **at = &m->bundles, *b; (b = *at); at = &b->next)
        if (strcmp(b->id, id) == 0) {
            *at = b->next;
            yd_free(b->doc);
            yd_free(b);
            return;
        }
}

void yd_mirror_bundles(const yd_mirror *m, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg)
{
    for (const bundle *b = m->bundles; b; b = b->next) each(arg, b->id, b->owner, b->doc);
}

void yd_mirror_bundle(const yd_mirror *m, const char *id, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg)
{
    for (const bundle *b = m->bundles; b; b = b->next)
        if (strcmp(b->id, id) == 0) {
            each(arg, b->id, b->owner, b->doc);
            return;
        }
}

// ---- operations ----------------------------------------------------------------------------------------------------

void yd_mirror_apply(yd_mirror *m, yd_store_op *op, int64_t by)
{
    op->rc = 0;
    switch (op->kind) {
    case YD_OP_PUT: op->rc = put(m, op, by); break;
    case YD_OP_UPDATE: op->rc = update(m, &op->rec, by, &op->err); break;
    case YD_OP_ATTACH: op->rc = attach(m, &op->rec, &op->err); break;
    case YD_OP_NOTE: op->rc = note(m, &op->rec, &op->err); break;
    case YD_OP_CLAIM: op->rc = claim(m, op, by); break;
    case YD_OP_REMOVE: remove_id(m, op->rec.id, op->now_ms); break;
    case YD_OP_EXPIRE: expire(m, op); break;
    case YD_OP_BUNDLE_PUT: op->rc = put_bundle(m, op->rec.id, op->rec.owner, op->doc, &op->err); break;
    case YD_OP_BUNDLE_REMOVE: remove_bundle(m, op->rec.id); break;
    case YD_OP_CANCEL: op->rc = cancel(m, op, by); break;
    }
}

long yd_mirror_release(yd_mirror *m, int64_t by, void (*each)(void *arg, const char *id), void *arg)
{
    long n = 0;
    for (row *r = m->all.head; r; r = r->all.next) {
        if (r->holder != by) continue;
        r->rec.state = YD_JOB_QUEUED;
        r->holder = 0;
        if (each) each(arg, r->rec.id);
        n++;
    }
    return n;
}

int64_t yd_mirror_holder(const yd_mirror *m, const char *id)
{
    const row *r = yd_idmap_get(m->by_id, id);
    return r ? r->holder : 0;
}

size_t yd_mirror_bytes(const yd_mirror *m)
{
    return m->finished_bytes;
}

void yd_mirror_on_refer(yd_mirror *m, void (*call)(void *arg, yd_job_record *rec, int by), void *arg)
{
    m->refer = call;
    m->refer_arg = arg;
}

// ---- all of it -----------------------------------------------------------------------------------------------------

void yd_mirror_walk(const yd_mirror *m, const yd_mirror_sink *to)
{
    for (const row *r = m->all.head; r; r = r->all.next) to->row(to->arg, &(yd_mirror_row){r->rec, r->holder, r->ended});
    for (const grave *g = m->oldest_grave; g; g = g->next) to->grave(to->arg, g->id, g->since_ms);
    for (const bundle *b = m->bundles; b; b = b->next) to->bundle(to->arg, b->id, b->owner, b->doc);
}

uint64_t yd_mirror_last_order(const yd_mirror *m)
{
    return m->last_order;
}

uint64_t yd_mirror_last_end(const yd_mirror *m)
{
    return m->last_end;
}

size_t yd_mirror_count(const yd_mirror *m)
{
    return m->all.count;
}

int yd_mirror_restore_row(yd_mirror *m, const yd_mirror_row *from)
{
    row *r = yd_calloc(1, sizeof *r);
    if (!r || yd_idmap_put(m->by_id, from->rec.id, r)) {
        yd_free(r);
        return YD_E_NOMEM;
    }
    yd_job_record_copy(&r->rec, &from->rec);
    r->holder = from->holder;
    r->ended = from->ended;
    refer(m, &r->rec, 1);
    append(&m->all, r, 1);
    return 0;
}

int yd_mirror_restore_grave(yd_mirror *m, const char *id, int64_t since_ms)
{
    bury(m, id, since_ms);
    return yd_idmap_get(m->graves_by_id, id) ? 0 : YD_E_NOMEM;
}

static int by_end(const void *a, const void *b)
{
    const uint64_t x = (*(row *const *)a)->ended, y = (*(row *const *)b)->ended;
    return (x > y) - (x < y);
}

int yd_mirror_restored(yd_mirror *m, uint64_t last_order, uint64_t last_end)
{
    size_t n = 0;
    row **ended = yd_calloc(m->all.count + 1, sizeof *ended);
    if (!ended) return YD_E_NOMEM;
    for (row *r = m->all.head; r; r = r->all.next)
        if (yd_job_state_final(r->rec.state)) ended[n++] = r;
    qsort(ended, n, sizeof *ended, by_end);
    for (size_t i = 0; i < n; i++) {
        m->last_end = ended[i]->ended - 1;
        enter(m, ended[i]);
    }
    yd_free(ended);
    m->last_order = last_order;
    m->last_end = last_end;
    return 0;
}

yd_mirror *yd_mirror_new(void)
{
    yd_mirror *m = yd_calloc(1, sizeof *m);
    if (!m) return NULL;
    m->by_id = yd_idmap_new();
    m->graves_by_id = yd_idmap_new();
    if (m->by_id && m->graves_by_id) return m;
    yd_idmap_free(m->by_id);
    yd_idmap_free(m->graves_by_id);
    yd_free(m);
    return NULL;
}

void yd_mirror_free(yd_mirror *m)
{
    if (!m) return;
    while (m->all.head) drop(m, m->all.head);
    while (m->oldest_grave) forget_oldest_grave(m);
    while (m->bundles) remove_bundle(m, m->bundles->id);
    yd_idmap_free(m->by_id);
    yd_idmap_free(m->graves_by_id);
    yd_free(m);
}
