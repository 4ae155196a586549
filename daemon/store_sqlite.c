// The durable store: SQLite for records, a spool for pictures, one thread that writes.
//
// DESIGN
//   The loop appends operations to `todo`; the writer takes everything that has gathered there, carries it out in one transaction (so that
//   a hundred jobs that arrive together share one sync of the disk), and appends it to `back`; an async handle has the loop tell who asked.
//   What a broken or full disk turns away, and is no new record, stays with the writer and heads the next list, RETRY_MS later: the loop
//   never sees it fail, only wait.
//
//       submit -> todo -> [writer: files, transaction] -> back -> done(op)
//                            ^         | IO, STORAGE
//                            '- kept <-'
//
// Threads: functions are the loop's; the mutex guards the two lists, `quit` and the health, for a few instructions at a time.
// Read next: store_sqlite_write.c (what a list does), store_sqlite_open.c (the schema).
#include "daemon/store_sqlite.h"

#include "core/mem.h"
#include "daemon/log.h"
#include <string.h>
#include <time.h>

#define RETRY_MS 500

static void append(yd_op_list *l, yd_store_op *op)
{
    op->next = NULL;
    if (l->tail)
        l->tail->next = op;
    else
        l->head = op;
    l->tail = op;
}

static void join(yd_op_list *l, yd_op_list *more)
{
    if (!more->head) return;
    if (l->tail)
        l->tail->next = more->head;
    else
        l->head = more->head;
    l->tail = more->tail;
    *more = (yd_op_list){0};
}

// ---- the writer ----------------------------------------------------------------------------------------------------

static struct timespec from_now(long ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

// Everything that is to be done now, what was kept first. 0: nothing will ever be.
static int next_list(yd_sqlite_store *s, yd_op_list *kept, yd_op_list *ops)
{
    const struct timespec until = from_now(RETRY_MS);
    int late = 0;
    pthread_mutex_lock(&s->mutex);
    while (!s->todo.head && !s->quit && !(kept->head && late)) {
        if (kept->head)
            late = pthread_cond_timedwait(&s->work, &s->mutex, &until) != 0;
        else
            pthread_cond_wait(&s->work, &s->mutex);
    }
    *ops = *kept;
    *kept = (yd_op_list){0};
    join(ops, &s->todo);
    const int quit = s->quit;
    pthread_mutex_unlock(&s->mutex);
    return ops->head || !quit;
}

static int is_trouble(const yd_store_op *op)
{
    return op->rc == YD_E_IO || op->rc == YD_E_STORAGE;
}

// Sort a list that was carried out into what is told and what is tried again; note how the disk does.
static void settle(yd_sqlite_store *s, yd_op_list *ops, yd_op_list *kept)
{
    yd_store_health now = {.ok = 1, .free_room = yd_spool_free_bytes(s->spool), .bytes = (size_t)s->finished_bytes};
    yd_op_list back = {0};
    for (yd_store_op *op = ops->head, *next; op; op = next) {
        next = op->next;
        if (is_trouble(op)) {
            now.ok = 0;
            now.code = YD_E_STORAGE;
            snprintf(now.why, sizeof now.why, "%.250s", op->err.detail);
        }
        append(is_trouble(op) && !yd_sqlite_is_new(op) ? kept : &back, op);
    }
    pthread_mutex_lock(&s->mutex);
    const int was_ok = s->health.ok;
    if (s->quit) join(&back, kept); // there is no later
    join(&s->back, &back);
    s->health = now;
    pthread_mutex_unlock(&s->mutex);
    if (was_ok != now.ok)
        yd_log(now.ok ? YD_LOG_INFO : YD_LOG_ERROR, NULL, now.ok ? "storing works again" : "storing does not work", now.ok ? NULL : "why",
               now.why, NULL);
    uv_async_send(&s->async);
}

static void *writer_main(void *arg)
{
    yd_sqlite_store *s = arg;
    yd_op_list kept = {0}, ops;
    pthread_setname_np(pthread_self(), "yodad-store");
    while (next_list(s, &kept, &ops)) {
        if (!ops.head) continue;
        yd_sqlite_run(s, &ops);
        settle(s, &ops, &kept);
    }
    return NULL;
}

// ---- the loop ------------------------------------------------------------------------------------------------------

static void on_async(uv_async_t *a)
{
    yd_sqlite_store *s = a->data;
    pthread_mutex_lock(&s->mutex);
    yd_store_op *op = s->back.head, *next;
    s->back = (yd_op_list){0};
    pthread_mutex_unlock(&s->mutex);
    for (; op; op = next) {
        next = op->next;
        if (op->done) op->done(op);
        yd_store_op_free(op);
    }
}

static void submit(yd_store *base, yd_store_op *op)
{
    yd_sqlite_store *s = (yd_sqlite_store *)base;
    if (op->kind == YD_OP_PUT) op->rec.order = ++s->last_order;
    pthread_mutex_lock(&s->mutex);
    append(&s->todo, op);
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mutex);
}

static void health(const yd_store *base, yd_store_health *out)
{
    yd_sqlite_store *s = (yd_sqlite_store *)(uintptr_t)base;
    pthread_mutex_lock(&s->mutex);
    *out = s->health;
    pthread_mutex_unlock(&s->mutex);
}

static void free_store(yd_sqlite_store *s)
{
    yd_sqlite_close_files(s);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->mutex);
    yd_free(s);
}

static void on_closed(uv_handle_t *h)
{
    yd_sqlite_store *s = h->data;
    void (*closed)(void *arg) = s->closed;
    void *arg = s->closed_arg;
    free_store(s);
    if (closed) closed(arg);
}

static void close_store(yd_store *base, void (*closed)(void *arg), void *arg)
{
    yd_sqlite_store *s = (yd_sqlite_store *)base;
    s->closed = closed;
    s->closed_arg = arg;
    pthread_mutex_lock(&s->mutex);
    s->quit = 1;
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->mutex);
    pthread_join(s->thread, NULL);
    on_async(&s->async);
    uv_close((uv_handle_t *)&s->async, on_closed);
}

static void init_sync(yd_sqlite_store *s)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->work, &attr);
    pthread_condattr_destroy(&attr);
}

int yd_store_sqlite_open(uv_loop_t *loop, const char *folder, yd_store **out, yd_err *err)
{
    yd_sqlite_store *s = yd_calloc(1, sizeof *s);
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for the job store");
    s->base = (yd_store){.durability = "fsync",
                         .durable = 1,
                         .close = close_store,
                         .submit = submit,
                         .get = yd_sqlite_get,
                         .list = yd_sqlite_list,
                         .list_due = yd_sqlite_list_due,
                         .find_key = yd_sqlite_find_key,
                         .find_once = yd_sqlite_find_once,
                         .bundles = yd_sqlite_bundles,
                         .health = health};
    init_sync(s);
    int rc = yd_sqlite_open_files(s, folder, err);
    s->async.data = s;
    if (!rc && uv_async_init(loop, &s->async, on_async)) rc = yd_fail(err, YD_E_INTERNAL, "the store's thread cannot be reached");
    if (rc) {
        free_store(s);
        return rc;
    }
    if (pthread_create(&s->thread, NULL, writer_main, s)) {
        uv_close((uv_handle_t *)&s->async, on_closed); // the loop frees it
        return yd_fail(err, YD_E_INTERNAL, "the store's thread cannot be started");
    }
    *out = &s->base;
    return 0;
}
