// Requests to other servers: pictures fetched, results put, webhooks posted. Off unless a setting names hosts.
//
//   caller --start--> one thread with libcurl: waits for its turn, connects, transfers --> done (loop)
//
// Every call is held to the lists of address.h: the name before the request and at every redirect, the address at every connection. Only
// https (http where outgoing_http says so), no proxies, no cookies, no credentials, no decompression; bounded in size, time and rate.
// Fetches and deliveries have outgoing_connections each, so that neither waits for the other, and outgoing_per_host of them for one host.
// Threads: the loop's. No function blocks, except yd_outgoing_close while a name is being resolved. Read next: fetch.c, delivery.c.
#ifndef YD_DAEMON_OUTGOING_H
#define YD_DAEMON_OUTGOING_H

#include "daemon/address.h"
#include "daemon/config.h"
#include "daemon/metrics.h"
#include <stdatomic.h>
#include <uv.h>

#define YD_OUT_HEADERS 16

typedef struct yd_outgoing yd_outgoing;
typedef struct yd_out_call yd_out_call;

//  X(name, text, method)
#define YD_OUT_KINDS(X)                                                                                                                  \
    X(FETCH, "fetch", "GET")                                                                                                             \
    X(RESULT, "result", "PUT")                                                                                                           \
    X(WEBHOOK, "webhook", "POST")

typedef enum {
#define YD_OUT_ENUM(name, text, method) YD_OUT_##name,
    YD_OUT_KINDS(YD_OUT_ENUM)
#undef YD_OUT_ENUM
    YD_OUT_COUNT
} yd_out_kind;

struct yd_out_call {
    // What the caller says. The struct is zeroed first and stays where it is until done; everything it points to is borrowed till then.
    yd_out_kind kind;
    const char *url;
    const char *headers[YD_OUT_HEADERS]; // "Name: value"
    size_t n_headers;
    const void *body; // RESULT, WEBHOOK
    size_t body_len;
    void (*done)(yd_out_call *c); // once, never from within yd_outgoing_start; the call may be used again, or freed

    // What comes back.
    int rc; // 0; YD_E_SETTING (not on the list), YD_E_ADDRESS, YD_E_UPSTREAM, YD_E_BODY_TOO_LARGE, YD_E_QUEUE_FULL, YD_E_NOMEM, YD_E_CANCELLED
    yd_err err;
    int again;              // it may work another time
    long status;            // of the last answer; 0: none
    int64_t retry_after_ms; // what that asked for; 0: nothing
    uint8_t *bytes;         // FETCH: what came, yd_malloc'ed, the caller's
    size_t len;

    // The thread's own.
    yd_outgoing *outgoing;
    yd_out_call *next;
    void *easy, *list; // libcurl's
    char *at;          // where redirects have led; NULL: url
    char why[256];     // libcurl's words
    yd_url target;
    const char *refused; // the address that was
    int redirects, too_large, no_room, opened;
    size_t cap, sent, header_bytes;
    int64_t deadline_us;
    atomic_int cancelled;
};

// Words for logs and metrics: "fetch". Static storage.
const char *yd_out_kind_name(yd_out_kind kind);
// The list of a kind's hosts; "" when it is off.
const char *yd_out_hosts(const yd_config *cfg, yd_out_kind kind);
// Lists of hosts and networks can be read, webhooks have secrets. Part of yd_config_check. YD_E_CONFIG.
int yd_outgoing_config(const yd_config *cfg, yd_err *err);
// May this URL be asked for, as far as its text goes? YD_E_SETTING naming field: no URL, not on the list, off altogether.
int yd_outgoing_permits(const yd_config *cfg, yd_out_kind kind, const char *url, const char *field, yd_url *out, yd_err *err);
// How long to wait after `failed` attempts (from 1): doubling from base_ms, at most max_ms, of which a random half is left away.
int64_t yd_outgoing_wait_ms(int failed, int64_t base_ms, int64_t max_ms, uint32_t random);

// Start the thread; metrics is borrowed, and cfg for the loop's own use. YD_E_NOMEM, YD_E_INTERNAL.
int yd_outgoing_open(uv_loop_t *loop, const yd_config *cfg, yd_metrics *metrics, yd_outgoing **out, yd_err *err);
// The settings have changed: hold to these lists and limits from now on, calls under way too, from their next connection. cfg is copied for
// the thread. YD_E_NOMEM: the old ones hold.
int yd_outgoing_reload(yd_outgoing *o, const yd_config *cfg, yd_err *err);
// Calls under way are done with YD_E_CANCELLED; then the struct is freed and closed is called. Nothing may be started afterwards.
void yd_outgoing_close(yd_outgoing *o, void (*closed)(void *arg), void *arg);

void yd_outgoing_start(yd_outgoing *o, yd_out_call *c);
void yd_outgoing_cancel(yd_out_call *c); // done comes soon

// ---- between outgoing.c and outgoing_curl.c (the thread) ----

// Make libcurl's handle for where the call stands now. YD_E_NOMEM.
int yd_out_prepare(yd_out_call *c, const yd_config *cfg, atomic_size_t *received);
// The transfer has ended with libcurl's `code`: 1 when a redirect is to be followed (then prepare again), otherwise the call has its rc.
int yd_out_judge(yd_out_call *c, const yd_config *cfg, int code);
void yd_out_release(yd_out_call *c); // handle and what belongs to it

#endif
