// The store in memory: a mirror (store_mirror.h) that is gone with the process.
//
// Operations take effect when they are handed in; who asked is told in the loop's next turn, by an idle handle that runs only then.
// Threads: the loop thread only.
#include "daemon/store_mirror.h"

#include "core/mem.h"

typedef struct memory_store {
    yd_store base;
    yd_mirror *mirror;
    uv_idle_t teller;
    yd_store_op *told_next, *told_last; // done, not yet told
    void (*closed)(void *arg);
    void *closed_arg;
} memory_store;

static yd_mirror *mirror_of(yd_store *s)
{
    return ((memory_store *)s)->mirror;
}

static int get(yd_store *s, const char *id, int whole, yd_job_record *out, yd_err *err)
{
    (void)whole; // references cost nothing
    return yd_mirror_get(mirror_of(s), id, out, err);
}

static int list_ids(yd_store *s, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    return yd_mirror_list(mirror_of(s), owner, state, before, limit, ids, orders);
}

static int list_due(yd_store *s, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    return yd_mirror_list_due(mirror_of(s), before, limit, ids, orders);
}

static int find_key(yd_store *s, const char *key, char id[YD_ID_MAX])
{
    return yd_mirror_find_key(mirror_of(s), key, id);
}

static int find_once(yd_store *s, const char *once, char id[YD_ID_MAX])
{
    return yd_mirror_find_once(mirror_of(s), once, id);
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
    *out = (yd_store_health){.ok = 1, .free_room = UINT64_MAX, .bytes = yd_mirror_bytes(((const memory_store *)s)->mirror)};
}

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
    const int bundle = op->kind == YD_OP_BUNDLE_PUT || op->kind == YD_OP_BUNDLE_REMOVE; // the service has them
    op->rc = 0;
    if (!bundle) yd_mirror_apply(m->mirror, op, 1);
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
    yd_mirror_free(m->mirror);
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
    if (m) m->mirror = yd_mirror_new();
    if (!m || !m->mirror) {
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
