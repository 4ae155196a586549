// The next batch, made while the device works on this one.
//
// Two batches and one helper thread. The helper fills batch `made % 2` for the iterations first, first+1, ...; it waits while both are
// full. What is in a batch depends on its iteration alone (draw.c), so timing cannot change a run.
// Invariants: taken <= made <= taken + 2, where taken counts batches handed back; the batch being read is `(made at hand-out) % 2` and is
// handed back by the next call. `lock` guards made, taken, quit, rc, why; the batches themselves need no lock, since one side owns each.
// Read next: core/train/trainer.c
#include "core/mem.h"
#include "core/train/internal.h"

#include <pthread.h>

struct yd_prefetch {
    const yd_train_config *cfg;
    const yd_dataset *data;
    yd_batch batch[2];
    long first;       // iteration of the first batch
    long made, taken; // batches filled; batches the reader is done with
    long reading;     // batches handed out so far
    int quit;
    int rc; // of the batch that could not be made; the helper has then ended
    yd_err why;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void *helper(void *arg)
{
    yd_prefetch *p = arg;
    pthread_mutex_lock(&p->lock);
    while (!p->quit) {
        if (p->made - p->taken == 2) {
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        const long i = p->made;
        pthread_mutex_unlock(&p->lock);
        yd_err why = {0};
        const int rc = yd_batch_fill(p->cfg, p->data, p->first + i, &p->batch[i % 2], &why);
        pthread_mutex_lock(&p->lock);
        if (rc) {
            p->rc = rc;
            p->why = why;
            p->quit = 1;
        } else {
            p->made++;
        }
        pthread_cond_broadcast(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

int yd_prefetch_start(const yd_train_config *cfg, const yd_dataset *data, long first, yd_prefetch **out, yd_err *err)
{
    int rc = 0;
    *out = NULL;
    yd_prefetch *p = yd_calloc(1, sizeof *p);
    if (!p) return yd_fail(err, YD_E_NOMEM, "out of memory for the batches");
    p->cfg = cfg;
    p->data = data;
    p->first = first;
    for (int i = 0; i < 2 && !rc; i++) rc = yd_batch_alloc(&p->batch[i], cfg->batch, cfg->crop, err);
    if (rc) goto fail_batch;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    if (pthread_create(&p->thread, NULL, helper, p)) {
        rc = yd_fail(err, YD_E_NOMEM, "cannot start the thread that prepares batches");
        goto fail_thread;
    }
    *out = p;
    return 0;

fail_thread:
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
fail_batch:
    for (int i = 0; i < 2; i++) yd_batch_clear(&p->batch[i]);
    yd_free(p);
    return rc;
}

const yd_batch *yd_prefetch_next(yd_prefetch *p, yd_err *err)
{
    pthread_mutex_lock(&p->lock);
    p->taken = p->reading; // the one handed out before is free again
    pthread_cond_broadcast(&p->changed);
    while (p->made == p->reading && !p->rc) pthread_cond_wait(&p->changed, &p->lock);
    const yd_batch *b = NULL;
    if (p->made > p->reading)
        b = &p->batch[p->reading++ % 2];
    else
        yd_fail(err, p->rc, "%s", p->why.detail);
    pthread_mutex_unlock(&p->lock);
    return b;
}

void yd_prefetch_stop(yd_prefetch *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->quit = 1;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    for (int i = 0; i < 2; i++) yd_batch_clear(&p->batch[i]);
    yd_free(p);
}
