// The codec processes of the daemon: started, given calls, watched, killed, reaped, replaced.
//
// Each has a slot (states: codec_internal.h). A process is over when its socket is: whatever happened, it is killed, reaped by asking every
// REAP_MS (never by waiting), its call ends with a reason, and the slot starts another at once; one that dies before it has said hello
// is followed after a pause that doubles. After codec_recycle pictures a process is let go, one at a time, so that what libraries leak does
// not add up.
// Threads: the loop's. Closing: every process is killed; the struct goes when its handles and calls have.
// Read next: codec_call.c, codec_spawn.c
#include "daemon/codec_internal.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define REAP_MS    2
#define BACKOFF_MS 100
#define BACKOFFS   7 // doublings at most: 12.8 s
#define MOST       16

#ifdef YD_SANITIZE
#define START_MS 120000
#define SLOWNESS 8
#else
#define START_MS 20000
#define SLOWNESS 1
#endif

static void start(yd_codec_slot *s);
static void on_timer(uv_timer_t *t);

// ---- life of the pool

void yd_codecs_release(yd_codecs *all)
{
    if (--all->holds > 0) return;
    void (*closed)(void *arg) = all->closed;
    void *arg = all->closed_arg;
    yd_free(all->slot);
    yd_free(all);
    if (closed) closed(arg);
}

static void on_slot_closed(uv_handle_t *h)
{
    yd_codecs_release(((yd_codec_slot *)h->data)->all);
}

static void on_link_closed(uv_handle_t *h)
{
    yd_codec_link *l = h->data;
    yd_codecs *all = l->all;
    yd_free(l);
    yd_codecs_release(all);
}

static void unlink_socket(yd_codec_slot *s)
{
    yd_codec_link *l = s->link;
    s->link = NULL;
    if (!l) return;
    l->slot = NULL;
    uv_poll_stop(&l->poll);
    close(l->fd);
    uv_close((uv_handle_t *)&l->poll, on_link_closed);
}

// ---- the end of a process

static const char *reason(const yd_codec_slot *s, int status)
{
    if (s->why) return s->why;
    if (!WIFSIGNALED(status)) return "exited";
    const int signal = WTERMSIG(status);
    return signal == SIGXCPU ? "cpu" : signal == SIGKILL ? "killed" : signal == SIGTRAP ? "memory" : "crashed";
}

// Why the call failed, in words for whoever sent the picture: what reading it did to the process is the picture's fault unless
// somebody else ended it.
static int blame(const yd_codec_call *c, const char *why, int status, yd_err *err)
{
    const char *doing = c->op == YD_CODEC_ENCODE ? "writing" : "reading";
    int code = c->op == YD_CODEC_ENCODE ? YD_E_INTERNAL : YD_E_IMAGE;
    if (strcmp(why, "closing") == 0) return yd_fail(err, YD_E_CANCELLED, "the server stops");
    if (strcmp(why, "deadline") == 0)
        return yd_fail_field(err, code, "image", "", "%s the picture took longer than the %lld ms that are allowed", doing,
                             (long long)yd_codec_wall_ms(c));
    if (strcmp(why, "cpu") == 0)
        return yd_fail_field(err, code, "image", "", "%s the picture took more than the %lld ms of processor time that are allowed", doing,
                             (long long)yd_codec_cpu_ms(c));
    if (strcmp(why, "memory") == 0)
        return yd_fail_field(err, code, "image", "", "%s the picture took more memory than is allowed", doing);
    if (strcmp(why, "crashed") == 0)
        return yd_fail_field(err, code, "image", "", "the codec process crashed while %s the picture (signal %d)", doing, WTERMSIG(status));
    return yd_fail(err, YD_E_INTERNAL, "the codec process ended while %s the picture (%s)", doing, why);
}

static void tell(const yd_codec_slot *s, const char *why, int status)
{
    char pid[16], ms[24], signal[16];
    const int planned = strcmp(why, "recycled") == 0;
    snprintf(pid, sizeof pid, "%d", (int)s->pid);
    snprintf(ms, sizeof ms, "%lld", (long long)(s->call ? (yd_mono_us() - s->since_us) / 1000 : 0));
    snprintf(signal, sizeof signal, "%d", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    yd_log(planned ? YD_LOG_DEBUG : YD_LOG_WARN, s->call ? s->call->request_id : NULL, "codec process ended", "#pid", pid, "reason", why,
           "#signal", signal, "during", s->call ? yd_codec_op_name(s->call->op) : "nothing", "#ms", ms, NULL);
}

static void give_back(yd_codec_slot *s, int rc)
{
    yd_codec_call *c = s->call;
    s->call = NULL;
    if (!c) return;
    if (yd_codec_call_heavy(c)) s->all->heavy--;
    c->slot = NULL;
    yd_codec_call_back(c, rc);
}

static void reaped(yd_codec_slot *s, int status)
{
    yd_codecs *all = s->all;
    const char *why = reason(s, status);
    const int pause = s->failures > 0;
    uv_timer_stop(&s->timer);
    if (!all->closing) {
        yd_metrics_codec_restart(all->metrics, why);
        tell(s, why, status);
    }
    s->state = YD_CODEC_EMPTY;
    s->pid = 0;
    yd_err err = {0};
    const int rc = s->call ? blame(s->call, why, status, &err) : 0;
    if (s->call) s->call->err = err;
    if (!all->closing && !pause) start(s); // before anybody hears of the failure and asks again
    if (!all->closing && pause)
        uv_timer_start(&s->timer, on_timer, (uint64_t)BACKOFF_MS << (s->failures > BACKOFFS ? BACKOFFS : s->failures - 1), 0);
    if (all->closing) uv_close((uv_handle_t *)&s->timer, on_slot_closed);
    if (rc) give_back(s, rc);
}

static void try_reap(yd_codec_slot *s)
{
    int status = 0;
    const pid_t got = waitpid(s->pid, &status, WNOHANG);
    if (got == 0) return;
    reaped(s, got < 0 ? 0 : status); // somebody else reaped it: its status is lost
}

// why NULL: it ended by itself.
static void end(yd_codec_slot *s, const char *why)
{
    if (s->state == YD_CODEC_DYING) return;
    if (s->state == YD_CODEC_STARTING) s->failures++;
    if (s->state == YD_CODEC_FILLING) { // the process dies for no fault of the picture
        s->call->slot = NULL;
        if (yd_codec_call_heavy(s->call)) s->all->heavy--;
        s->call = NULL;
    }
    s->why = why;
    s->state = YD_CODEC_DYING;
    yd_region_free(&s->region);
    unlink_socket(s);
    kill(s->pid, SIGKILL); // also one that has only closed its socket; one that is ending keeps its own reason
    uv_timer_start(&s->timer, on_timer, REAP_MS, REAP_MS);
}

// ---- what a process says

// A receive that says that the process is gone, whose wait status says why. Reset: it ended before it read all that was sent.
static int is_gone(int got)
{
    return got == 0 || (got < 0 && errno == ECONNRESET);
}

static void hello(yd_codec_slot *s)
{
    yd_codecs *all = s->all;
    yd_codec_hello h;
    const int got = yd_codec_receive(s->link->fd, &h, sizeof h, NULL);
    if (got < 0 && errno == EAGAIN) return;
    if (got != 1 || yd_codec_hello_check(&h)) {
        end(s, is_gone(got) ? NULL : "protocol");
        return;
    }
    s->state = YD_CODEC_IDLE;
    s->failures = 0;
    uv_timer_stop(&s->timer);
    if (!h.confined && !all->warned) {
        all->warned = 1;
        yd_log(YD_LOG_WARN, NULL, "codec processes run without a filter of system calls", NULL);
    }
    if (!all->ready) {
        all->ready = 1;
        yd_image_set_reads(h.reads);
        if (all->on_ready) all->on_ready(all->on_ready_arg);
    }
}

static int others_serve(const yd_codec_slot *s)
{
    const yd_codecs *all = s->all;
    for (int i = 0; i < all->n; i++)
        if (&all->slot[i] != s && (all->slot[i].state == YD_CODEC_STARTING || all->slot[i].state == YD_CODEC_DYING)) return 0;
    return 1;
}

static void answer(yd_codec_slot *s)
{
    yd_codec_call *c = s->call;
    const int got = yd_codec_receive(s->link->fd, &c->answer, sizeof c->answer, NULL);
    if (got < 0 && errno == EAGAIN) return;
    if (is_gone(got)) {
        end(s, NULL);
        return;
    }
    if (got < 0 || yd_codec_answer_check(&c->request, &c->answer)) {
        end(s, "protocol");
        return;
    }
    uv_timer_stop(&s->timer);
    s->state = YD_CODEC_IDLE;
    c->slot = NULL;
    if (++s->served >= s->all->cfg->codec_recycle && others_serve(s)) end(s, "recycled");
    if (s->state == YD_CODEC_DYING) { // the answer is good: only the process goes
        s->call = NULL;
        if (yd_codec_call_heavy(c)) s->all->heavy--;
        yd_codec_call_back(c, 0);
    } else
        give_back(s, 0);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
    yd_codec_slot *s = ((yd_codec_link *)p->data)->slot;
    (void)events;
    if (!s) return;
    yd_codecs *all = s->all;
    all->holds++; // what is called back may close everything
    if (status < 0)
        end(s, NULL);
    else if (s->state == YD_CODEC_STARTING)
        hello(s);
    else if (s->state == YD_CODEC_BUSY)
        answer(s);
    else {
        char unasked; // the end of a process that had nothing to do; or it speaks unasked
        end(s, is_gone(yd_codec_receive(s->link->fd, &unasked, sizeof unasked, NULL)) ? NULL : "protocol");
    }
    if (!all->closing) yd_codecs_pump(all);
    yd_codecs_release(all);
}

// ---- calls

static void give(yd_codec_slot *s, yd_codec_call *c)
{
    s->call = c;
    s->state = YD_CODEC_FILLING;
    if (yd_codec_call_heavy(c)) s->all->heavy++;
    c->slot = s;
    c->process = s->process;
    c->region = s->region;
    s->region = (yd_region){.fd = -1};
    yd_codec_call_fill(c);
}

static void send_request(yd_codec_slot *s, yd_codec_call *c)
{
    if (yd_codec_send(s->link->fd, &c->request, sizeof c->request, c->region.fd)) {
        end(s, NULL); // it has ended already; another process gets the picture
        yd_region_free(&c->region);
        yd_codec_call_requeue(c);
        return;
    }
    if (c->region.fd >= 0) s->region_id = c->region.id = c->request.serial;
    yd_region_close_fd(&c->region);
    s->state = YD_CODEC_BUSY;
    s->since_us = yd_mono_us();
    uv_timer_start(&s->timer, on_timer, (uint64_t)yd_codec_wall_ms(c) * SLOWNESS, 0);
    yd_metrics_codec_call(s->all->metrics, yd_codec_op_name(c->op));
}

void yd_codec_filled(yd_codec_call *c)
{
    yd_codecs *all = c->codecs;
    yd_codec_slot *s = c->slot;
    all->holds++;
    if (s && !c->rc)
        send_request(s, c);
    else if (s) {
        s->state = YD_CODEC_IDLE;
        s->call = NULL;
        c->slot = NULL;
        if (yd_codec_call_heavy(c)) all->heavy--;
        if (c->region.fd >= 0) yd_region_free(&c->region); // the process has never heard of it
        yd_codec_call_finish(c);
    } else if (c->rc || all->closing) {
        if (!c->rc) c->rc = yd_fail(&c->err, YD_E_CANCELLED, "the server stops");
        yd_codec_call_finish(c);
    } else {
        yd_region_free(&c->region);
        yd_codec_call_requeue(c);
    }
    if (!all->closing) yd_codecs_pump(all);
    yd_codecs_release(all);
}

// While a call was still taking from its region, the next one may have brought another to the process, which has forgotten this one.
void yd_codec_region_back(yd_codec_call *c)
{
    yd_codecs *all = c->codecs;
    for (int i = 0; i < all->n; i++) {
        yd_codec_slot *s = &all->slot[i];
        const int has_another = s->call != NULL || s->region.base;
        if (s->process != c->process || s->state != YD_CODEC_IDLE || has_another || s->region_id != c->region.id) continue;
        s->region = c->region;
        c->region = (yd_region){.fd = -1};
    }
    yd_region_free(&c->region);
}

void yd_codecs_pump(yd_codecs *all)
{
    for (int i = 0; i < all->n && !all->closing; i++) {
        yd_codec_slot *s = &all->slot[i];
        if (s->state != YD_CODEC_IDLE) continue;
        if (s->stale) {
            end(s, "recycled");
            continue;
        }
        yd_codec_call *c = yd_codec_call_next(all);
        if (!c) return;
        give(s, c);
    }
}

void yd_codecs_renew(yd_codecs *all)
{
    for (int i = 0; i < all->n; i++) all->slot[i].stale = all->slot[i].state != YD_CODEC_EMPTY;
    yd_codecs_pump(all);
}

// ---- starting

static int watch(yd_codec_slot *s, int fd, yd_err *err)
{
    yd_codec_link *l = yd_calloc(1, sizeof *l);
    if (!l) return yd_fail(err, YD_E_NOMEM, "no memory for a codec process");
    *l = (yd_codec_link){.slot = s, .all = s->all, .fd = fd};
    l->poll.data = l;
    const int rc = uv_poll_init(s->all->loop, &l->poll, fd);
    if (rc) {
        yd_free(l);
        return yd_fail(err, YD_E_INTERNAL, "a codec process cannot be watched: %s", uv_strerror(rc));
    }
    s->all->holds++;
    s->link = l;
    uv_poll_start(&l->poll, UV_READABLE, on_readable);
    return 0;
}

static void start(yd_codec_slot *s)
{
    yd_err err = {0};
    int fd;
    int rc = yd_codec_spawn(s->all->program, yd_codec_most_memory(s->all->cfg), &s->pid, &fd, &err);
    s->served = s->stale = 0;
    s->why = NULL;
    s->process = ++s->all->processes;
    s->region_id = 0;
    if (rc == 0) {
        s->state = YD_CODEC_STARTING;
        uv_timer_start(&s->timer, on_timer, START_MS, 0);
        if (watch(s, fd, &err) == 0) return;
        close(fd);
        end(s, "start");
        return;
    }
    s->state = YD_CODEC_EMPTY;
    s->failures++;
    yd_log(YD_LOG_ERROR, NULL, "no codec process", "why", err.detail, NULL);
    uv_timer_start(&s->timer, on_timer, (uint64_t)BACKOFF_MS << (s->failures > BACKOFFS ? BACKOFFS : s->failures - 1), 0);
}

static void on_timer(uv_timer_t *t)
{
    yd_codec_slot *s = t->data;
    yd_codecs *all = s->all;
    all->holds++;
    if (s->state == YD_CODEC_EMPTY)
        start(s);
    else if (s->state == YD_CODEC_STARTING)
        end(s, "start");
    else if (s->state == YD_CODEC_BUSY)
        end(s, "deadline");
    else if (s->state == YD_CODEC_DYING)
        try_reap(s);
    yd_codecs_release(all);
}

// One more than cores, because one is kept for small pictures.
static int suitable(const yd_config *cfg)
{
    if (cfg->codec_processes >= 0) return (int)cfg->codec_processes;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 2 : cores + 1 > MOST ? MOST : (int)cores + 1;
}

int yd_codecs_open(uv_loop_t *loop, const yd_config *cfg, yd_metrics *metrics, const char *program, yd_codecs **out, yd_err *err)
{
    yd_codecs *all = yd_calloc(1, sizeof *all);
    const int n = suitable(cfg);
    if (all) all->slot = yd_calloc((size_t)n, sizeof *all->slot);
    if (!all || !all->slot) {
        yd_free(all);
        return yd_fail(err, YD_E_NOMEM, "no memory for codec processes");
    }
    all->loop = loop;
    all->cfg = cfg;
    all->metrics = metrics;
    all->program = program;
    all->n = n;
    all->holds = 1 + n; // the caller, the slots' timers
    if (n == 0) {
        const int rc = yd_image_init(err);
        if (rc) {
            yd_codecs_release(all);
            return rc;
        }
        all->ready = 1;
    }
    for (int i = 0; i < n; i++) {
        all->slot[i].all = all;
        all->slot[i].region.fd = -1;
        all->slot[i].timer.data = &all->slot[i];
        uv_timer_init(loop, &all->slot[i].timer);
    }
    for (int i = 0; i < n; i++) start(&all->slot[i]);
    *out = all;
    return 0;
}

void yd_codecs_on_ready(yd_codecs *all, void (*fn)(void *arg), void *arg)
{
    all->on_ready = fn;
    all->on_ready_arg = arg;
}

int yd_codecs_ready(const yd_codecs *all)
{
    return all->ready;
}

void yd_codecs_look(const yd_codecs *all, yd_codecs_now *now)
{
    *now = (yd_codecs_now){.processes = all->n, .waiting = all->waiting};
    for (int i = 0; i < all->n; i++) {
        now->idle += all->slot[i].state == YD_CODEC_IDLE;
        now->busy += all->slot[i].state == YD_CODEC_BUSY || all->slot[i].state == YD_CODEC_FILLING;
    }
}

void yd_codecs_close(yd_codecs *all, void (*closed)(void *arg), void *arg)
{
    all->closed = closed;
    all->closed_arg = arg;
    all->closing = 1;
    for (int i = 0; i < all->n; i++) {
        yd_codec_slot *s = &all->slot[i];
        if (s->state == YD_CODEC_EMPTY) {
            uv_timer_stop(&s->timer);
            uv_close((uv_handle_t *)&s->timer, on_slot_closed);
        } else
            end(s, "closing");
    }
    yd_codec_calls_drop(all);
    yd_codecs_release(all);
}
