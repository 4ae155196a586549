// One thread, two lists of batches: `todo` under mutex and condition, `back` under the same mutex and an uv_async; and two of chores likewise.
//
// The mutex guards the lists, `quit`, the openings and nothing else; it is held for a few instructions, never while the device works. Counts of
// what is under way are the loop thread's own. The thread lowers its priority before the device starts its OpenMP team, which
// inherits it: answering requests goes before computing.
#include "daemon/worker.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NICE 5

typedef struct batch_list {
    yd_batch *head, *tail;
} batch_list;

typedef struct chore_list {
    yd_chore *head, *tail;
} chore_list;

struct yd_worker {
    yd_device *device;
    yd_worker_events ev;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    uv_async_t async;
    batch_list todo, back;
    chore_list chores, chores_back;
    int quit, reopen;
    int opened, open_rc; // an opening is over that was not told yet, its result
    yd_backend_info about;
    yd_err open_err;
    int broken;        // the thread's: the device is not open
    yd_err why;        // and why not
    int up, under_way; // the loop's: it is open as far as is known; batches that are not back
    void (*closed)(void *arg);
    void *closed_arg;
};

static void append(batch_list *l, yd_batch *b)
{
    b->next = NULL;
    if (l->tail)
        l->tail->next = b;
    else
        l->head = b;
    l->tail = b;
}

static yd_batch *take_first(batch_list *l)
{
    yd_batch *b = l->head;
    if (!b) return NULL;
    l->head = b->next;
    if (!l->head) l->tail = NULL;
    return b;
}

static void append_chore(chore_list *l, yd_chore *c)
{
    c->next = NULL;
    if (l->tail)
        l->tail->next = c;
    else
        l->head = c;
    l->tail = c;
}

static yd_chore *take_chore(chore_list *l)
{
    yd_chore *c = l->head;
    if (!c) return NULL;
    l->head = c->next;
    if (!l->head) l->tail = NULL;
    return c;
}

static void copy_preview(yd_batch_item *it)
{
    int at_step = it->done == 1 && it->preview_every > 0 &&
                  ((it->info.steps - it->info.step + 1) % it->preview_every == 0 || it->info.step == 1);
    if (it->done < 0 || (!it->preview_now && !at_step)) return;
    it->rgb = yd_malloc(it->rgb_bytes); // without memory there is just no preview
    if (it->rgb) yd_sampler_preview(it->sampler, it->rgb);
}

static void copy_state(yd_batch_item *it)
{
    if (!it->save || it->done != 1 || it->finished) return;
    it->state = yd_malloc(yd_sampler_state_bytes(it->sampler)); // without memory it is saved another time
    if (!it->state) return;
    if (!yd_sampler_save(it->sampler, it->state)) {
        if (it->last) atomic_store(it->stop, 1); // runs that are ordered already leave it where it stands
        return;
    }
    yd_free(it->state);
    it->state = NULL;
}

static void fail(yd_worker *w, const yd_err *why)
{
    w->broken = 1;
    w->why = *why;
    w->device->shut(w->device);
}

#define NOT_RUN 2 // neither of what a scatter returns

static void item_ran(yd_batch_item *it, int done, const yd_step_info *info, const yd_err *why)
{
    it->ran = 1;
    it->done = done;
    it->info = *info;
    it->finished = yd_sampler_done(it->sampler);
    it->resident = yd_sampler_on_device(it->sampler);
    if (done < 0) it->err = *why;
    copy_preview(it);
    copy_state(it);
}

// Ask each item's sampler for a unit and run what there is as one batch. When the run fails some units may have been scattered already: the first of them.
static void run_batch(yd_worker *w, yd_batch *b)
{
    yd_sampler *sampler[YD_BATCH_MAX];
    yd_unit unit[YD_BATCH_MAX];
    yd_step_info info[YD_BATCH_MAX];
    yd_err errs[YD_BATCH_MAX];
    int done[YD_BATCH_MAX], item[YD_BATCH_MAX], n = 0;
    memset(info, 0, sizeof info);
    for (int i = 0; i < b->n; i++) {
        yd_batch_item *it = &b->item[i];
        if (atomic_load_explicit(it->stop, memory_order_relaxed)) continue;
        if (yd_sampler_next(it->sampler, &unit[n]) != 1) continue;
        sampler[n] = it->sampler;
        done[n] = NOT_RUN;
        item[n++] = i;
    }
    int64_t t0 = yd_mono_us();
    if (n) b->rc = w->device->run(w->device, b->engine, sampler, unit, n, done, info, errs);
    b->run_s = (double)(yd_mono_us() - t0) / 1e6;
    if (b->rc) b->err = errs[0];
    for (int k = 0; k < n; k++) {
        yd_batch_item *it = &b->item[item[k]];
        b->ran += it->ran = done[k] != NOT_RUN && done[k] != YD_E_DEVICE;
        if (it->ran) {
            item_ran(it, done[k], &info[k], &errs[k]);
        } else {
            it->lost = 1;
            yd_sampler_put_back(it->sampler);
        }
    }
    if (b->rc) fail(w, &b->err);
}

// Of a device that has failed before.
static void turn_back(const yd_worker *w, yd_batch *b)
{
    b->rc = w->why.code;
    b->err = w->why;
}

static void open_device(yd_worker *w)
{
    yd_err err = {0};
    yd_backend_info about = {.threads = 0};
    int rc = w->device->open(w->device, &about, &err);
    w->broken = 0;
    if (rc) fail(w, &err);
    pthread_mutex_lock(&w->mutex);
    w->open_rc = rc;
    w->open_err = err;
    w->about = about;
    w->opened = 1;
    pthread_mutex_unlock(&w->mutex);
    uv_async_send(&w->async);
}

static void do_step(yd_worker *w, yd_chore *c)
{
    c->dropped = w->broken;
    const int rc = c->dropped ? 0 : c->step(c, w->device);
    if (rc > 0) return;
    if (rc < 0) fail(w, &(yd_err){.code = YD_E_DEVICE, .detail = "the device failed"});
    pthread_mutex_lock(&w->mutex);
    append_chore(&w->chores_back, take_chore(&w->chores));
    pthread_mutex_unlock(&w->mutex);
    uv_async_send(&w->async);
}

static void *thread_main(void *arg)
{
    yd_worker *w = arg;
    pthread_setname_np(pthread_self(), "yodad-compute");
    // On Linux a priority belongs to a thread; one that cannot be lowered is no reason not to compute.
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), NICE)) yd_log(YD_LOG_DEBUG, NULL, "priority not lowered", NULL);
    open_device(w);
    for (;;) {
        pthread_mutex_lock(&w->mutex);
        while (!w->todo.head && !w->chores.head && !w->quit && !w->reopen) pthread_cond_wait(&w->work, &w->mutex);
        yd_batch *b = take_first(&w->todo);
        yd_chore *c = w->quit ? NULL : w->chores.head; // stays in front until it is through
        const int reopen = w->reopen && !w->quit;
        w->reopen = 0;
        pthread_mutex_unlock(&w->mutex);
        if (reopen) open_device(w);
        if (!b && !c && !reopen) break;
        if (b) {
            if (w->broken)
                turn_back(w, b);
            else
                run_batch(w, b);
            pthread_mutex_lock(&w->mutex);
            append(&w->back, b);
            pthread_mutex_unlock(&w->mutex);
            uv_async_send(&w->async);
        }
        if (c) do_step(w, c);
    }
    w->device->close(w->device);
    return NULL;
}

static void on_async(uv_async_t *a)
{
    yd_worker *w = a->data;
    pthread_mutex_lock(&w->mutex);
    const int opened = w->opened, rc = w->open_rc;
    const yd_err why = w->open_err;
    const yd_backend_info about = w->about;
    w->opened = 0;
    batch_list back = w->back;
    w->back = (batch_list){0};
    chore_list chores = w->chores_back;
    w->chores_back = (chore_list){0};
    pthread_mutex_unlock(&w->mutex);
    if (opened && !w->closed) { // nobody waits for it any more
        w->up = rc == 0;
        w->ev.opened(w->ev.arg, rc, &about, &why);
    }
    for (yd_batch *b; (b = take_first(&back));) {
        w->under_way--;
        if (b->rc) w->up = 0;
        w->ev.done(w->ev.arg, b);
    }
    for (yd_chore *c; (c = take_chore(&chores));) c->done(c);
}

static void free_worker(uv_handle_t *h)
{
    yd_free(h->data);
}

int yd_worker_start(uv_loop_t *loop, yd_device *d, const yd_worker_events *ev, yd_worker **out, yd_err *err)
{
    yd_worker *w = yd_calloc(1, sizeof *w);
    if (!w) {
        d->close(d);
        return yd_fail(err, YD_E_NOMEM, "no memory for a compute thread");
    }
    w->device = d;
    w->ev = *ev;
    w->async.data = w;
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->work, NULL);
    if (uv_async_init(loop, &w->async, on_async)) goto fail_sync;
    if (pthread_create(&w->thread, NULL, thread_main, w)) goto fail_async;
    *out = w;
    return 0;

fail_async:
    // The handle must outlive this call: the loop frees it.
    d->close(d);
    uv_close((uv_handle_t *)&w->async, free_worker);
    return yd_fail(err, YD_E_INTERNAL, "the compute thread cannot be started");
fail_sync:
    d->close(d);
    yd_free(w);
    return yd_fail(err, YD_E_INTERNAL, "the compute thread cannot be reached");
}

int yd_worker_room(const yd_worker *w)
{
    return w->up ? YD_WORKER_DEPTH - w->under_way : 0;
}

int yd_worker_under_way(const yd_worker *w)
{
    return w->under_way;
}

void yd_worker_open(yd_worker *w)
{
    pthread_mutex_lock(&w->mutex);
    w->reopen = 1;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
}

void yd_worker_push(yd_worker *w, yd_batch *b)
{
    w->under_way++;
    pthread_mutex_lock(&w->mutex);
    append(&w->todo, b);
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
}

void yd_worker_chore(yd_worker *w, yd_chore *c)
{
    pthread_mutex_lock(&w->mutex);
    append_chore(&w->chores, c);
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
}

static void on_closed(uv_handle_t *h)
{
    yd_worker *w = h->data;
    void (*closed)(void *arg) = w->closed;
    void *arg = w->closed_arg;
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->mutex);
    yd_free(w);
    closed(arg);
}

void yd_worker_stop(yd_worker *w, void (*closed)(void *arg), void *arg)
{
    pthread_mutex_lock(&w->mutex);
    w->quit = 1;
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    w->closed = closed;
    w->closed_arg = arg;
    on_async(&w->async);
    for (yd_chore *c; (c = take_chore(&w->chores));) {
        c->dropped = 1;
        c->done(c);
    }
    uv_close((uv_handle_t *)&w->async, on_closed);
}
