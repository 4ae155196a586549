// The loop's side of the mapper: requests, runs, the cache; and the thread that does what it is given. See mapper.h.
//
// Lists, cache and counts are the loop thread's own. The thread is given one run at a time under the mutex and gives it back by the async; meanwhile
// it alone touches the run's buffers, and reads the requests' pictures. Read next: core/attention_nets.h.
#include "daemon/mapper.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/clock.h"
#include "daemon/idmap.h"
#include "daemon/log.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NICE 5 // as the device's thread

typedef struct kept {
    struct kept *newer, *older;
    yd_raw_maps *raw;
    char key[33];
} kept;

typedef struct run {
    yd_map_request *request[YD_ATTENTION_MAX_BATCH];
    yd_raw_maps *raw[YD_ATTENTION_MAX_BATCH];
    int n, rc;
    yd_err err;
    double seconds;
} run;

struct yd_mapper {
    uv_loop_t *loop;
    yd_attention_nets *nets;
    int most;                             // pictures in a run
    yd_map_request *first, *last, *ready; // waiting; done but not told
    size_t waiting;
    run run; // under way, n 0: none
    yd_idmap *cache;
    kept *newest, *oldest;
    size_t cached_bytes, cache_max;
    yd_mapper_now counts;
    float *unit[YD_ATTENTION_MAX_BATCH]; // the thread's: pictures as the network wants them
    size_t unit_room;

    uv_async_t async;
    pthread_t thread;
    int has_thread;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    int given, back, quit; // under the mutex: the run is the thread's; it is the loop's again

    void (*closed)(void *arg);
    void *closed_arg;
    int owners; // the handle, and who has opened it
};

// ---- raw maps and the cache ----------------------------------------------------------------------------------------

static size_t bytes_of(const yd_raw_maps *m)
{
    return sizeof *m + m->count * sizeof m->value[0] + sizeof(kept);
}

void yd_raw_maps_unref(yd_raw_maps *m)
{
    if (m && --m->refs == 0) yd_free(m);
}

static void unlink_kept(yd_mapper *m, kept *k)
{
    *(k->newer ? &k->newer->older : &m->newest) = k->older;
    *(k->older ? &k->older->newer : &m->oldest) = k->newer;
}

static void link_newest(yd_mapper *m, kept *k)
{
    k->newer = NULL;
    k->older = m->newest;
    *(m->newest ? &m->newest->newer : &m->oldest) = k;
    m->newest = k;
}

static void drop(yd_mapper *m, kept *k)
{
    yd_idmap_remove(m->cache, k->key);
    unlink_kept(m, k);
    m->cached_bytes -= bytes_of(k->raw);
    yd_raw_maps_unref(k->raw);
    yd_free(k);
}

// Without memory it is just not kept.
static void keep(yd_mapper *m, const char *key, yd_raw_maps *raw)
{
    if (bytes_of(raw) > m->cache_max || yd_idmap_get(m->cache, key)) return;
    while (m->oldest && m->cached_bytes + bytes_of(raw) > m->cache_max) drop(m, m->oldest);
    kept *k = yd_calloc(1, sizeof *k);
    if (!k) return;
    memcpy(k->key, key, sizeof k->key);
    k->raw = raw;
    if (yd_idmap_put(m->cache, key, k)) {
        yd_free(k);
        return;
    }
    raw->refs++;
    m->cached_bytes += bytes_of(raw);
    link_newest(m, k);
}

static yd_raw_maps *find(yd_mapper *m, const char *key)
{
    kept *k = yd_idmap_get(m->cache, key);
    if (!k) return NULL;
    unlink_kept(m, k);
    link_newest(m, k);
    k->raw->refs++;
    return k->raw;
}

void yd_map_request_key(const yd_mapper *m, yd_map_request *r)
{
    yd_attention_net_info info;
    yd_sha256 s;
    uint8_t digest[32];
    char head[160];
    yd_attention_nets_info(m->nets, (size_t)r->ref.net, &info);
    const int n = snprintf(head, sizeof head, "%s %d %dx%d ", info.checksum, r->ref.variant, r->w, r->h);
    yd_sha256_init(&s);
    yd_sha256_update(&s, head, (size_t)n);
    yd_sha256_update(&s, r->shown, 3 * (size_t)r->w * (size_t)r->h);
    yd_sha256_final(&s, digest);
    for (int i = 0; i < 16; i++) snprintf(r->key + 2 * i, 3, "%02x", digest[i]);
}

// ---- the thread ----------------------------------------------------------------------------------------------------

static int make_units(yd_mapper *m, const run *r, yd_err *err)
{
    const size_t n = 3 * (size_t)r->request[0]->w * (size_t)r->request[0]->h;
    int ok = 1;
    for (int i = 0; n > m->unit_room && i < m->most; i++) {
        yd_free(m->unit[i]);
        m->unit[i] = yd_malloc(n * sizeof *m->unit[i]);
        ok = ok && m->unit[i];
    }
    if (n > m->unit_room) m->unit_room = ok ? n : 0;
    if (!ok) return yd_fail(err, YD_E_NOMEM, "no memory to show pictures to an attention network");
    for (int i = 0; i < r->n; i++) yd_attention_unit(r->request[i]->shown, n, m->unit[i]);
    return 0;
}

static void perform(yd_mapper *m, run *r)
{
    const int64_t began = yd_mono_us();
    const yd_map_request *q = r->request[0];
    float *raw[YD_ATTENTION_MAX_BATCH];
    for (int i = 0; i < r->n; i++) raw[i] = r->raw[i]->value;
    r->rc = make_units(m, r, &r->err);
    if (!r->rc) r->rc = yd_attention_nets_run(m->nets, &q->ref, r->n, q->w, q->h, (const float *const *)m->unit, raw, &r->err);
    r->seconds = (double)(yd_mono_us() - began) / 1e6;
}

static void *thread_main(void *arg)
{
    yd_mapper *m = arg;
    pthread_setname_np(pthread_self(), "yodad-maps");
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), NICE)) yd_log(YD_LOG_DEBUG, NULL, "priority not lowered", NULL);
    for (;;) {
        pthread_mutex_lock(&m->mutex);
        while (!m->given && !m->quit) pthread_cond_wait(&m->work, &m->mutex);
        const int quit = m->quit && !m->given;
        pthread_mutex_unlock(&m->mutex);
        if (quit) return NULL;
        perform(m, &m->run);
        pthread_mutex_lock(&m->mutex);
        m->given = 0;
        m->back = 1;
        pthread_mutex_unlock(&m->mutex);
        uv_async_send(&m->async);
    }
}

// ---- requests ------------------------------------------------------------------------------------------------------

static void finish(yd_map_request *r, int rc, const yd_err *err, yd_raw_maps *raw)
{
    r->rc = rc;
    if (err) r->err = *err;
    r->raw = raw;
    if (raw) raw->refs++;
    r->done(r);
}

static void finish_cancelled(yd_map_request *r)
{
    yd_err err = {0};
    finish(r, yd_fail(&err, YD_E_CANCELLED, "the job was cancelled"), &err, NULL);
}

static int fits(const yd_map_request *a, const yd_map_request *b)
{
    return a->ref.net == b->ref.net && a->ref.variant == b->ref.variant && a->w == b->w && a->h == b->h;
}

// Take what `take` wants out of the waiting ones, at most `most`, as a list in their order.
static yd_map_request *take_waiting(yd_mapper *m, int (*take)(const yd_map_request *r, const void *arg), const void *arg, int most)
{
    yd_map_request *taken = NULL, **end = &taken, **at = &m->first;
    m->last = NULL;
    while (*at) {
        yd_map_request *r = *at;
        if (most > 0 && take(r, arg)) {
            *at = r->next;
            r->next = NULL;
            *end = r;
            end = &r->next;
            most--;
            m->waiting--;
        } else {
            m->last = r;
            at = &r->next;
        }
    }
    return taken;
}

static int is_stopped(const yd_map_request *r, const void *arg)
{
    (void)arg;
    return r->stop && atomic_load(r->stop);
}

static int is_same(const yd_map_request *r, const void *key)
{
    return strcmp(r->key, key) == 0;
}

// Another picture for the run that begins with this one; equal ones wait for what it brings.
static int joins(const yd_map_request *r, const void *arg)
{
    const run *n = arg;
    if (!fits(r, n->request[0])) return 0;
    for (int i = 0; i < n->n; i++)
        if (strcmp(r->key, n->request[i]->key) == 0) return 0;
    return 1;
}

static int is_any(const yd_map_request *r, const void *arg)
{
    (void)r;
    (void)arg;
    return 1;
}

// Memory for what the run will bring. 0, or -1.
static int make_raw(yd_mapper *m, run *r)
{
    int gw, gh;
    const size_t count = yd_attention_nets_raw(m->nets, &r->request[0]->ref, r->request[0]->w, r->request[0]->h, &gw, &gh);
    for (int i = 0; i < r->n; i++) {
        r->raw[i] = yd_malloc(sizeof *r->raw[i] + count * sizeof r->raw[i]->value[0]);
        if (!r->raw[i]) return -1;
        r->raw[i]->refs = 1;
        r->raw[i]->count = count;
    }
    return 0;
}

// Give the loop's hold on a run back, telling everybody who asked for it.
static void finish_run(yd_mapper *m)
{
    run r = m->run;
    memset(&m->run, 0, sizeof m->run); // done may start others
    for (int i = 0; i < r.n; i++) {
        yd_map_request *q = r.request[i], *same = take_waiting(m, is_same, q->key, (int)m->waiting);
        if (!r.rc) keep(m, q->key, r.raw[i]);
        finish(q, r.rc, &r.err, r.rc ? NULL : r.raw[i]);
        while (same) {
            yd_map_request *next = same->next;
            m->counts.shared++;
            finish(same, r.rc, &r.err, r.rc ? NULL : r.raw[i]);
            same = next;
        }
        yd_raw_maps_unref(r.raw[i]);
    }
}

static void begin_run(yd_mapper *m)
{
    for (yd_map_request *r = take_waiting(m, is_stopped, NULL, (int)m->waiting), *next; r; r = next) {
        next = r->next;
        finish_cancelled(r);
    }
    if (m->run.n || !m->first) return;
    run *r = &m->run;
    r->request[r->n++] = take_waiting(m, is_any, NULL, 1);
    for (yd_map_request *q; r->n < m->most && (q = take_waiting(m, joins, r, 1));) r->request[r->n++] = q;
    m->counts.misses += (uint64_t)r->n;
    if (make_raw(m, r)) {
        r->rc = yd_fail(&r->err, YD_E_NOMEM, "no memory for attention maps");
        finish_run(m);
        uv_async_send(&m->async); // the next one
        return;
    }
    pthread_mutex_lock(&m->mutex);
    m->given = 1;
    pthread_cond_signal(&m->work);
    pthread_mutex_unlock(&m->mutex);
}

static void on_async(uv_async_t *a)
{
    yd_mapper *m = a->data;
    yd_map_request *ready = m->ready;
    m->ready = NULL;
    for (yd_map_request *next; ready; ready = next) {
        next = ready->next;
        ready->done(ready);
    }
    pthread_mutex_lock(&m->mutex);
    const int back = m->back;
    m->back = 0;
    pthread_mutex_unlock(&m->mutex);
    if (back) {
        m->counts.runs++;
        m->counts.pictures += (uint64_t)m->run.n;
        m->counts.seconds += m->run.seconds;
        finish_run(m);
    }
    if (!m->run.n) begin_run(m);
}

void yd_mapper_start(yd_mapper *m, yd_map_request *r)
{
    r->next = NULL;
    r->rc = 0;
    yd_err_clear(&r->err);
    r->raw = find(m, r->key);
    if (r->raw) {
        m->counts.hits++;
        r->next = m->ready;
        m->ready = r;
    } else {
        *(m->last ? &m->last->next : &m->first) = r;
        m->last = r;
        m->waiting++;
    }
    uv_async_send(&m->async); // runs begin there, so that those who come together share one
}

// ---- life ----------------------------------------------------------------------------------------------------------

static void passed(void *arg, const char *path, const yd_err *err)
{
    (void)arg;
    yd_log(YD_LOG_WARN, NULL, "an attention network is passed by", "file", path, "why", err->detail, NULL);
}

static int read_options(const yd_config *cfg, yd_attention_map_options *o, yd_err *err)
{
    *o = (yd_attention_map_options){.short_side = (int)cfg->attention_short_side, .long_side = (int)cfg->attention_long_side};
    const int rc = yd_attention_norm_parse("attention_norm", cfg->attention_norm, &o->norm, err);
    return rc ? rc : yd_attention_resize_parse("attention_resize", cfg->attention_resize, &o->resize, err);
}

static int load_nets(yd_mapper *m, const yd_config *cfg, yd_err *err)
{
    yd_attention_map_options o;
    const yd_attention_load from = {
        .list = cfg->attention_nets, .folder = cfg->model_dir, .net = {.threads = (int)cfg->threads}, .passed = passed};
    int rc = read_options(cfg, &o, err);
    if (!rc) rc = yd_attention_nets_new(&o, &m->nets, err);
    if (!rc) rc = yd_attention_nets_load(m->nets, &from, err);
    for (size_t i = 0; !rc && i < yd_attention_nets_count(m->nets); i++) {
        const yd_attention_ref ref = {.net = (int)i};
        yd_attention_net_info info;
        char text[32];
        rc = yd_attention_nets_reserve(m->nets, &ref, m->most, err);
        yd_attention_nets_info(m->nets, i, &info);
        snprintf(text, sizeof text, "%zu", info.bytes);
        yd_log(YD_LOG_INFO, NULL, "attention network", "name", yd_attention_nets_name(m->nets, i), "file",
               yd_attention_nets_path(m->nets, i), "checksum", info.checksum, "#bytes", text, NULL);
    }
    return rc;
}

static void let_go(yd_mapper *m)
{
    if (--m->owners > 0) return;
    while (m->oldest) drop(m, m->oldest);
    yd_idmap_free(m->cache);
    for (int i = 0; i < YD_ATTENTION_MAX_BATCH; i++) yd_free(m->unit[i]);
    yd_attention_nets_free(m->nets);
    yd_free(m);
}

int yd_mapper_open(uv_loop_t *loop, const yd_config *cfg, yd_mapper **out, yd_err *err)
{
    yd_mapper *m = yd_calloc(1, sizeof *m);
    *out = NULL;
    if (!m) return yd_fail(err, YD_E_NOMEM, "no memory for attention maps");
    m->loop = loop;
    m->most = (int)cfg->attention_batch;
    m->cache_max = (size_t)cfg->attention_cache_bytes;
    m->cache = yd_idmap_new();
    int rc = m->cache ? load_nets(m, cfg, err) : yd_fail(err, YD_E_NOMEM, "no memory for attention maps");
    if (!rc && uv_async_init(loop, &m->async, on_async))
        rc = yd_fail(err, YD_E_INTERNAL, "the attention networks' thread cannot be reached");
    m->owners = 1;
    if (rc) {
        let_go(m);
        return rc;
    }
    m->owners = 2;
    m->async.data = m;
    pthread_mutex_init(&m->mutex, NULL);
    pthread_cond_init(&m->work, NULL);
    m->has_thread = yd_attention_nets_count(m->nets) > 0 && pthread_create(&m->thread, NULL, thread_main, m) == 0;
    if (yd_attention_nets_count(m->nets) > 0 && !m->has_thread) {
        yd_mapper_close(m, NULL, NULL);
        yd_mapper_free(m);
        return yd_fail(err, YD_E_INTERNAL, "the attention networks' thread cannot be started");
    }
    *out = m;
    return 0;
}

static void on_closed(uv_handle_t *h)
{
    yd_mapper *m = h->data;
    void (*closed)(void *arg) = m->closed;
    void *arg = m->closed_arg;
    pthread_cond_destroy(&m->work);
    pthread_mutex_destroy(&m->mutex);
    let_go(m);
    if (closed) closed(arg);
}

void yd_mapper_free(yd_mapper *m)
{
    if (m) let_go(m);
}

void yd_mapper_close(yd_mapper *m, void (*closed)(void *arg), void *arg)
{
    m->closed = closed;
    m->closed_arg = arg;
    if (m->has_thread) {
        pthread_mutex_lock(&m->mutex);
        m->quit = 1;
        pthread_cond_signal(&m->work);
        pthread_mutex_unlock(&m->mutex);
        pthread_join(m->thread, NULL);
        m->has_thread = 0;
    }
    yd_map_request *ready = m->ready;
    m->ready = NULL;
    for (yd_map_request *next; ready; ready = next) {
        next = ready->next;
        ready->done(ready);
    }
    if (m->run.n) finish_run(m);
    for (yd_map_request *r = take_waiting(m, is_any, NULL, (int)m->waiting), *next; r; r = next) {
        next = r->next;
        finish_cancelled(r);
    }
    uv_close((uv_handle_t *)&m->async, on_closed);
}

yd_attention_nets *yd_mapper_nets(const yd_mapper *m)
{
    return m->nets;
}

void yd_mapper_look(const yd_mapper *m, yd_mapper_now *now)
{
    *now = m->counts;
    now->nets = yd_attention_nets_count(m->nets);
    now->waiting = m->waiting + (size_t)m->run.n;
    now->cached = yd_idmap_count(m->cache);
    now->cached_bytes = m->cached_bytes;
    for (size_t i = 0; i < now->nets; i++) {
        yd_attention_net_info info;
        yd_attention_nets_info(m->nets, i, &info);
        now->nets_bytes += info.bytes;
    }
}
