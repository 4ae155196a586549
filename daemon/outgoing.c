// The outgoing thread: which calls have their turn, libcurl's multi interface around them, and the way back to the loop.
//
//   todo --(thread)--> waiting --turn--> active --ended--> back --(async)--> done
// The mutex guards todo, back, next and quit. What waits or is active belongs to the thread. Calls are few: lists are walked.
#include "daemon/outgoing.h"

#include "core/mem.h"
#include "daemon/log.h"
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#define POLL_MS 1000

typedef struct call_list {
    yd_out_call *head, *tail;
} call_list;

struct yd_outgoing {
    const yd_config *cfg;
    yd_config *own;  // the thread's copy
    yd_config *next; // what is to take its place; under the mutex
    yd_metrics *metrics;
    CURLM *multi;
    uv_async_t async;
    pthread_t thread;
    pthread_mutex_t mutex;
    call_list todo, back;
    int quit;
    call_list waiting, active; // the thread's
    atomic_size_t received;
    void (*closed)(void *arg);
    void *closed_arg;
};

static const struct {
    const char *name;
} kinds[] = {
#define KIND_ROW(name, text, method) {text},
    YD_OUT_KINDS(KIND_ROW)
#undef KIND_ROW
};

const char *yd_out_kind_name(yd_out_kind kind)
{
    return kinds[kind].name;
}

// ---- what is allowed -----------------------------------------------------------------------------------------------

const char *yd_out_hosts(const yd_config *cfg, yd_out_kind kind)
{
    return kind == YD_OUT_FETCH ? cfg->fetch_hosts : kind == YD_OUT_RESULT ? cfg->result_hosts : cfg->webhook_hosts;
}

int yd_outgoing_config(const yd_config *cfg, yd_err *err)
{
    int rc = yd_hosts_check(cfg->fetch_hosts, "fetch_hosts", err);
    if (!rc) rc = yd_hosts_check(cfg->result_hosts, "result_hosts", err);
    if (!rc) rc = yd_hosts_check(cfg->webhook_hosts, "webhook_hosts", err);
    if (!rc) rc = yd_networks_check(cfg->outgoing_networks, "outgoing_networks", err);
    if (!rc && *cfg->webhook_hosts && !*cfg->webhook_secret_file)
        rc = yd_fail_field(err, YD_E_CONFIG, "webhook_secret_file", "a file of secrets", "webhooks are signed: webhook_hosts needs webhook_secret_file");
    return rc;
}

int yd_outgoing_permits(const yd_config *cfg, yd_out_kind kind, const char *url, const char *field, yd_url *out, yd_err *err)
{
    const char *hosts = yd_out_hosts(cfg, kind);
    if (!hosts[strspn(hosts, ", \t")])
        return yd_fail_field(err, YD_E_SETTING, field, "nothing: this server was not told to connect to anybody", "%s is not taken here", field);
    int rc = yd_url_parse(url, field, out, err);
    if (rc) return rc;
    if (!out->secure && !cfg->outgoing_http)
        return yd_fail_field(err, YD_E_SETTING, field, "an https:// URL", "%s is not encrypted: %s must be an https:// URL", out->host, field);
    if (!yd_hosts_allow(hosts, out))
        return yd_fail_field(err, YD_E_SETTING, field, "a host that the server is allowed to connect to", "%s, port %d, is not among the hosts for %s",
                             out->host, out->port, field);
    return 0;
}

int64_t yd_outgoing_wait_ms(int failed, int64_t base_ms, int64_t max_ms, uint32_t random)
{
    int64_t ms = base_ms < max_ms ? base_ms : max_ms;
    for (int i = 1; i < failed && ms < max_ms; i++) ms = ms > max_ms / 2 ? max_ms : 2 * ms;
    return ms - (int64_t)((double)random / 4294967296.0 * (double)(ms / 2));
}

// ---- lists ---------------------------------------------------------------------------------------------------------

static void push(call_list *l, yd_out_call *c)
{
    c->next = NULL;
    if (l->tail)
        l->tail->next = c;
    else
        l->head = c;
    l->tail = c;
}

static void drop(call_list *l, yd_out_call *c)
{
    yd_out_call **at = &l->head, *before = NULL;
    for (; *at && *at != c; at = &(*at)->next) before = *at;
    if (!*at) return;
    *at = c->next;
    if (l->tail == c) l->tail = before;
}

// ---- the thread ----------------------------------------------------------------------------------------------------

static void hand_back(yd_outgoing *o, yd_out_call *c)
{
    yd_free(c->at);
    c->at = NULL;
    atomic_fetch_sub(&o->received, c->cap); // the caller accounts for it from here
    c->cap = 0;
    if (c->rc || c->kind != YD_OUT_FETCH) {
        yd_free(c->bytes);
        c->bytes = NULL;
        c->len = 0;
    }
    pthread_mutex_lock(&o->mutex);
    push(&o->back, c);
    pthread_mutex_unlock(&o->mutex);
    uv_async_send(&o->async);
}

static void stop(yd_outgoing *o, yd_out_call *c)
{
    curl_multi_remove_handle(o->multi, (CURL *)c->easy);
    yd_out_release(c);
}

static void cancelled(yd_outgoing *o, yd_out_call *c)
{
    c->rc = yd_fail(&c->err, YD_E_CANCELLED, "nobody waits for the answer any more");
    hand_back(o, c);
}

static int start(yd_outgoing *o, yd_out_call *c)
{
    int rc = yd_out_prepare(c, o->own, &o->received);
    if (!rc && curl_multi_add_handle(o->multi, (CURL *)c->easy)) rc = yd_fail(&c->err, YD_E_NOMEM, "no memory for a request to %s", c->target.host);
    if (!rc) return 0;
    yd_out_release(c);
    c->rc = rc;
    c->again = 1;
    return rc;
}

// Is there a place for it among those that are active?
static int has_turn(const yd_outgoing *o, const yd_out_call *c)
{
    int lane = 0, host = 0;
    for (const yd_out_call *a = o->active.head; a; a = a->next) {
        if ((a->kind == YD_OUT_FETCH) != (c->kind == YD_OUT_FETCH)) continue;
        lane++;
        host += strcmp(a->target.host, c->target.host) == 0;
    }
    return lane < o->own->outgoing_connections && host < o->own->outgoing_per_host;
}

static void begin_waiting(yd_outgoing *o)
{
    for (yd_out_call *c = o->waiting.head, *next; c; c = next) {
        next = c->next;
        const int stopped = atomic_load(&c->cancelled);
        if (!stopped && !has_turn(o, c)) continue;
        drop(&o->waiting, c);
        if (stopped)
            cancelled(o, c);
        else if (start(o, c))
            hand_back(o, c);
        else
            push(&o->active, c);
    }
}

static void end_cancelled(yd_outgoing *o, int all)
{
    for (yd_out_call *c = o->active.head, *next; c; c = next) {
        next = c->next;
        if (!all && !atomic_load(&c->cancelled)) continue;
        drop(&o->active, c);
        stop(o, c);
        cancelled(o, c);
    }
}

static void transfer_ended(yd_outgoing *o, yd_out_call *c, int code)
{
    const int follow = yd_out_judge(c, o->own, code);
    stop(o, c);
    if (follow && start(o, c) == 0) return;
    drop(&o->active, c);
    hand_back(o, c);
}

// Returns how many transfers have ended.
static int collect(yd_outgoing *o)
{
    int left, ended = 0;
    for (CURLMsg *m; (m = curl_multi_info_read(o->multi, &left));) {
        yd_out_call *c = NULL;
        if (m->msg != CURLMSG_DONE || curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c) || !c) continue;
        transfer_ended(o, c, (int)m->data.result);
        ended++;
    }
    return ended;
}

static int take_todo(yd_outgoing *o)
{
    pthread_mutex_lock(&o->mutex);
    for (yd_out_call *c; (c = o->todo.head);) {
        drop(&o->todo, c);
        push(&o->waiting, c);
    }
    if (o->next) *o->own = *o->next;
    yd_free(o->next);
    o->next = NULL;
    const int quit = o->quit;
    pthread_mutex_unlock(&o->mutex);
    return quit;
}

static void *work(void *arg)
{
    yd_outgoing *o = arg;
    int running;
    while (!take_todo(o)) {
        end_cancelled(o, 0);
        begin_waiting(o);
        curl_multi_perform(o->multi, &running);
        // What has ended has made room for another, whose turn does not wait for the next event.
        if (!collect(o)) curl_multi_poll(o->multi, NULL, 0, POLL_MS, NULL);
    }
    end_cancelled(o, 1);
    for (yd_out_call *c; (c = o->waiting.head);) {
        drop(&o->waiting, c);
        cancelled(o, c);
    }
    return NULL;
}

// ---- the loop ------------------------------------------------------------------------------------------------------

static void tell(yd_outgoing *o)
{
    for (yd_out_call *c;;) {
        pthread_mutex_lock(&o->mutex);
        c = o->back.head;
        if (c) drop(&o->back, c);
        pthread_mutex_unlock(&o->mutex);
        if (!c) return;
        if (c->rc != YD_E_CANCELLED) yd_metrics_outgoing(o->metrics, (int)c->kind, c->rc == 0);
        c->done(c);
    }
}

static void on_async(uv_async_t *a)
{
    tell(a->data);
}

static void *no_thread(yd_outgoing *o)
{
    curl_multi_cleanup(o->multi);
    pthread_mutex_destroy(&o->mutex);
    yd_free(o->own);
    yd_free(o->next);
    yd_free(o);
    return NULL;
}

// Signals belong to the loop's thread.
static int start_thread(yd_outgoing *o)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&o->thread, NULL, work, o);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc) pthread_setname_np(o->thread, "outgoing");
    return rc;
}

static void free_unstarted(uv_handle_t *h)
{
    no_thread(h->data);
}

int yd_outgoing_open(uv_loop_t *loop, const yd_config *cfg, yd_metrics *metrics, yd_outgoing **out, yd_err *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) return yd_fail(err, YD_E_INTERNAL, "libcurl cannot be used");
    yd_outgoing *o = yd_calloc(1, sizeof *o);
    yd_config *own = yd_malloc(sizeof *own);
    if (!o || !own || !(o->multi = curl_multi_init())) {
        yd_free(o);
        yd_free(own);
        return yd_fail(err, YD_E_NOMEM, "no memory for outgoing connections");
    }
    o->cfg = cfg;
    o->own = own;
    *own = *cfg;
    o->metrics = metrics;
    atomic_init(&o->received, 0);
    pthread_mutex_init(&o->mutex, NULL);
    o->async.data = o;
    if (uv_async_init(loop, &o->async, on_async)) {
        no_thread(o);
        return yd_fail(err, YD_E_INTERNAL, "no handle for outgoing connections");
    }
    if (start_thread(o)) {
        uv_close((uv_handle_t *)&o->async, free_unstarted);
        return yd_fail(err, YD_E_INTERNAL, "no thread for outgoing connections");
    }
    *out = o;
    return 0;
}

static void on_handle_closed(uv_handle_t *h)
{
    yd_outgoing *o = h->data;
    void (*closed)(void *arg) = o->closed;
    void *arg = o->closed_arg;
    no_thread(o);
    if (closed) closed(arg);
}

void yd_outgoing_close(yd_outgoing *o, void (*closed)(void *arg), void *arg)
{
    o->closed = closed;
    o->closed_arg = arg;
    pthread_mutex_lock(&o->mutex);
    o->quit = 1;
    pthread_mutex_unlock(&o->mutex);
    curl_multi_wakeup(o->multi);
    pthread_join(o->thread, NULL);
    tell(o);
    uv_close((uv_handle_t *)&o->async, on_handle_closed);
}

int yd_outgoing_reload(yd_outgoing *o, const yd_config *cfg, yd_err *err)
{
    yd_config *next = yd_malloc(sizeof *next);
    if (!next) return yd_fail(err, YD_E_NOMEM, "no memory for other settings");
    *next = *cfg;
    pthread_mutex_lock(&o->mutex);
    yd_config *unused = o->next;
    o->next = next;
    pthread_mutex_unlock(&o->mutex);
    yd_free(unused);
    curl_multi_wakeup(o->multi);
    return 0;
}

void yd_outgoing_start(yd_outgoing *o, yd_out_call *c)
{
    c->outgoing = o;
    c->rc = c->again = c->redirects = c->too_large = c->no_room = c->opened = 0;
    c->status = 0;
    c->retry_after_ms = c->deadline_us = 0;
    c->bytes = NULL;
    c->len = c->cap = c->header_bytes = 0;
    c->refused = NULL;
    atomic_store(&c->cancelled, 0);
    yd_err_clear(&c->err);
    c->rc = yd_outgoing_permits(o->cfg, c->kind, c->url, "url", &c->target, &c->err);
    pthread_mutex_lock(&o->mutex);
    push(c->rc ? &o->back : &o->todo, c);
    pthread_mutex_unlock(&o->mutex);
    if (c->rc)
        uv_async_send(&o->async);
    else
        curl_multi_wakeup(o->multi);
}

void yd_outgoing_cancel(yd_out_call *c)
{
    atomic_store(&c->cancelled, 1);
    curl_multi_wakeup(c->outgoing->multi);
}
