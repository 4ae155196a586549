// yodad: where everything is put together, and taken apart again in the reverse order.
//
//   configuration -> loop -> service (jobs, device) -> api (HTTP) -> run -> SIGTERM or SIGINT:
//     leave     drain_delay_ms: not ready, every answer closes its connection, everything is still served
//     drain     no new jobs; running ones finish (drain_timeout_ms), event streams end; connections are still taken
//     quiesce   no new connections, those open are served to their end (at most QUIESCE_MS)
//     stop      api, then service, then the loop is empty and main returns
//   A supervisor's socket is taken from when the models are warm until the first signal: who connects otherwise waits for the next process.
//   A second signal shortens each wait to nothing. Exit 0 after a drain, 1 when something could not be started.
// Threads: this one runs the loop and with it everything but computing, decoding and encoding. Read next: api/jobs.c.
#include "api/api.h"
#include "core/backend.h"
#include "core/fingerprint.h"
#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/codec.h"
#include "daemon/log.h"
#include "daemon/probe.h"
#include "daemon/service.h"
#include "daemon/supervise.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define POLL_MS    20
#define QUIESCE_MS 2000
#define HELD_MS    250
#define OWN_FDS    256 // beside connections: lingering ones, the loop, libraries

extern char **environ;

typedef struct program {
    int argc;
    char **argv;
    yd_config cfg;
    uv_loop_t loop;
    uv_signal_t term, interrupt, hangup;
    uv_timer_t poll; // runs while shutting down
    yd_service *service;
    yd_api *api;
    yd_supervisor *supervisor;
    int signals, drained, quiesced, stopping, exit_code;
    int64_t leave_us, quiesce_us; // when each phase began
} program;

static void on_service_closed(void *arg)
{
    (void)arg; // its handles are gone; the loop has nothing left to do
}

static void on_api_stopped(void *arg)
{
    program *p = arg;
    yd_service_close(p->service, on_service_closed, p);
}

static void stop(program *p)
{
    p->stopping = 1;
    yd_supervisor_stop(p->supervisor);
    uv_close((uv_handle_t *)&p->poll, NULL);
    uv_close((uv_handle_t *)&p->term, NULL);
    uv_close((uv_handle_t *)&p->interrupt, NULL);
    uv_close((uv_handle_t *)&p->hangup, NULL);
    if (p->api)
        yd_api_stop(p->api, on_api_stopped, p);
    else
        on_api_stopped(p);
}

static void on_drained(void *arg)
{
    ((program *)arg)->drained = 1;
}

static int is_held(const program *p)
{
    return p->api && yd_api_inherited(p->api);
}

// How long everything is still served: what was accepted already from a socket that is the next process's, too.
static int64_t leave_ms(const program *p)
{
    return is_held(p) && p->cfg.drain_delay_ms < HELD_MS ? HELD_MS : p->cfg.drain_delay_ms;
}

static void on_poll(uv_timer_t *t)
{
    program *p = t->data;
    int64_t now = yd_mono_us();
    int hurry = p->signals > 1 || p->exit_code != 0;
    if (!p->drained) {
        if (!yd_service_draining(p->service) && now - p->leave_us >= leave_ms(p) * 1000)
            yd_service_drain(p->service, 0, on_drained, p);
        return;
    }
    if (!p->quiesced) {
        p->quiesced = 1;
        p->quiesce_us = now;
        if (p->api) yd_api_quiesce(p->api);
        return;
    }
    if (!p->api || yd_api_connections(p->api) == 0 || hurry || now - p->quiesce_us >= QUIESCE_MS * 1000) stop(p);
}

static void begin_shutdown(program *p, int fast)
{
    if (!p->leave_us) {
        p->leave_us = yd_mono_us();
        yd_supervisor_stopping(p->supervisor);
        uv_timer_start(&p->poll, on_poll, POLL_MS, POLL_MS);
    }
    yd_service_leave(p->service);
    if (is_held(p)) yd_api_quiesce(p->api);
    if (!p->drained && (fast || leave_ms(p) == 0)) yd_service_drain(p->service, fast, on_drained, p);
}

static void on_signal(uv_signal_t *h, int number)
{
    program *p = h->data;
    p->signals++;
    yd_log(YD_LOG_INFO, NULL, "signal", "name", number == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    if (!p->stopping) begin_shutdown(p, p->signals > 1);
}

static void tell_reloaded(char *taken, char *left)
{
    yd_log(YD_LOG_INFO, NULL, "reloaded", "changed", taken ? taken : "", NULL);
    if (left && *left) yd_log(YD_LOG_WARN, NULL, "settings have changed that count after a restart only", "settings", left, NULL);
    yd_free(taken);
    yd_free(left);
}

// Settings, keys and secrets are read again; what cannot be used changes nothing.
static void on_hangup(uv_signal_t *h, int number)
{
    program *p = h->data;
    yd_config next;
    yd_config_action ignored;
    yd_err err = {0};
    yd_text taken = {0}, left = {0};
    (void)number;
    if (p->stopping) return;
    int rc = yd_config_load(p->argc, p->argv, environ, &next, &ignored, &err);
    if (!rc) rc = yd_service_reload(p->service, &p->cfg, &next, &taken, &left, &err);
    char *changed = yd_text_take(&taken, NULL), *unchanged = yd_text_take(&left, NULL);
    if (rc)
        yd_log(YD_LOG_ERROR, NULL, "the settings were not read again, the old ones hold", "field", err.field, "why", err.detail, NULL);
    else
        tell_reloaded(changed, unchanged);
    if (!rc && p->api) yd_api_reload(p->api);
    yd_supervisor_reloaded(p->supervisor);
}

static int fail(const yd_err *err)
{
    fprintf(stderr, "yodad: %s%s%s\n", err->field, *err->field ? ": " : "", err->detail);
    return 1;
}

static void on_broken(void *arg, const yd_err *err)
{
    program *p = arg;
    p->exit_code = fail(err);
    begin_shutdown(p, 1);
}

// Room for the descriptors that the configuration promises: many systems begin with 1024 and allow more to those who ask.
static void allow_descriptors(const yd_config *cfg)
{
    const rlim_t need = (rlim_t)cfg->max_connections + OWN_FDS;
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) || lim.rlim_cur >= need) return;
    lim.rlim_cur = lim.rlim_max < need ? lim.rlim_max : need;
    if (setrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur == need) return;
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)need);
    yd_log(YD_LOG_WARN, NULL, "fewer descriptors may be open than max_connections needs", "#needs", text, NULL);
}

static int is_ready(void *arg)
{
    return yd_service_ready(((program *)arg)->service, NULL);
}

static void on_warm(uv_timer_t *t)
{
    program *p = t->data;
    if (!is_ready(p)) return;
    uv_timer_stop(t);
    yd_api_open(p->api);
}

// Serve until a signal, or until something turns out not to work: that is said at once, although the model may still be loading.
static int serve(program *p)
{
    yd_err err = {0};
    if (yd_service_open(&p->loop, &p->cfg, &p->service, &err)) {
        uv_run(&p->loop, UV_RUN_DEFAULT); // what was started already ends
        return fail(&err);
    }
    yd_service_on_broken(p->service, on_broken, p);
    p->term.data = p->interrupt.data = p->hangup.data = p->poll.data = p;
    uv_signal_init(&p->loop, &p->term);
    uv_signal_init(&p->loop, &p->interrupt);
    uv_signal_init(&p->loop, &p->hangup);
    uv_timer_init(&p->loop, &p->poll);
    uv_signal_start(&p->term, on_signal, SIGTERM);
    uv_signal_start(&p->interrupt, on_signal, SIGINT);
    uv_signal_start(&p->hangup, on_hangup, SIGHUP);
    if (yd_api_start(&p->loop, p->service, &p->api, &err) ||
        yd_supervisor_start(&p->loop, is_ready, p, &p->supervisor, &err)) {
        p->exit_code = fail(&err);
        stop(p);
    } else {
        if (is_held(p)) uv_timer_start(&p->poll, on_warm, POLL_MS, POLL_MS);
        yd_log(YD_LOG_INFO, NULL, "listening", "address", yd_api_address(p->api), "version", YD_VERSION, NULL);
    }
    uv_run(&p->loop, UV_RUN_DEFAULT);
    return p->exit_code;
}

static int show_fingerprint(void)
{
    yd_fingerprint fp;
    yd_err err = {0};
    char brief[YD_FINGERPRINT_SHORT], text[4096];
    if (yd_fingerprint_here(&fp, &err)) return fail(&err);
    yd_fingerprint_short(&fp, brief);
    yd_fingerprint_print(&fp, 1, text, sizeof text);
    printf("yodad %s\n%s\n%s\n", YD_VERSION, brief, text);
    return 0;
}

static int probe(const yd_config *cfg, const char *path)
{
    yd_err err = {0};
    return yd_probe(cfg, path, &err) ? fail(&err) : 0;
}

static int show(yd_config_action action, const yd_config *cfg)
{
    if (action == YD_PROBE) return probe(cfg, "/readyz");
    if (action == YD_PROBE_LIVE) return probe(cfg, "/livez");
    if (action == YD_SHOW_FINGERPRINT) return show_fingerprint();
    if (action == YD_SHOW_VERSION) {
        puts("yodad " YD_VERSION);
        return 0;
    }
    if (action == YD_SHOW_HELP) {
        char *text = yd_config_help();
        if (text) fputs(text, stdout);
        yd_free(text);
        return text ? 0 : 1;
    }
    json_t *o = yd_config_json(cfg);
    int rc = o ? json_dumpf(o, stdout, JSON_INDENT(2)) : -1;
    puts("");
    json_decref(o);
    return rc ? 1 : 0;
}

int main(int argc, char **argv)
{
    static program p;
    yd_config_action action;
    yd_err err = {0};
    if (argc > 1 && strcmp(argv[1], YD_CODEC_ARGUMENT) == 0) return yd_codec_child_main(argc, argv, yd_codec_perform);
    yd_cpu_prepare_process(argv);
    yd_supervise_begin();
    p.argc = argc;
    p.argv = argv;
    if (yd_config_load(argc, argv, environ, &p.cfg, &action, &err)) return fail(&err);
    if (action != YD_RUN) return show(action, &p.cfg);
    yd_log_set_level(p.cfg.log_level);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD,
           SIG_DFL); // ignored, as some parents leave it, codec processes could not be told apart when they end
    allow_descriptors(&p.cfg);
    if (uv_loop_init(&p.loop)) return fail(&(yd_err){.detail = "no event loop"});
    const int status = serve(&p);
    if (uv_loop_close(&p.loop)) yd_log(YD_LOG_WARN, NULL, "handles were left open", NULL);
    if (status == 0) yd_log(YD_LOG_INFO, NULL, "stopped", NULL);
    return status;
}
