// The HTTP interface of the daemon: the only header of api/ that other layers include.
//
// yd_api is an HTTP/1.1 server (libmicrohttpd driven by the caller's libuv loop) that turns requests into calls of daemon/service.h.
// It owns its sockets, its timers and every request in flight; it owns no job. Everything here, and everything it calls, runs on the
// thread of the loop: there are no locks and no call blocks.
//
// Life: start -> (serve) -> drain -> quiesce -> when yd_api_connections() is 0 or patience ends: stop. Behind a load balancer leave
// its health-check interval twice between drain and quiesce.
#ifndef YD_API_H
#define YD_API_H

#include "core/err.h"
#include <stddef.h>
#include <uv.h>

typedef struct yd_api yd_api;
struct yd_service;

typedef struct yd_api_config {
    char listen[256];          // "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080", "unix:/run/yodad.sock"; port 0 picks a free one
    unsigned connections;      // at most this many at once; more wait in the kernel's queue
    unsigned per_address;      // of one client address; beyond it 429. 0 = no limit. Loopback is excepted unless limit_loopback
    int limit_loopback;        // 1: loopback addresses are counted too
    size_t connection_bytes;   // memory of one connection: request line, headers and send buffer, 4096..65536
    size_t body_bytes;         // largest request body
    int header_ms;             // from accept to the end of the headers
    int body_ms;               // from the end of the headers to the end of the body
    size_t body_rate;          // bytes/s a body must average once it has had two seconds; 0 = any
    int send_ms;               // grace for taking a response, plus its size at send_rate
    size_t send_rate;          // bytes/s
    int idle_ms;               // between two requests of a connection
    int heartbeat_ms;          // comment lines of event streams
    int wait_ms;               // longest ?wait= of GET /v1/jobs/{id}
} yd_api_config;

// Fill in the defaults.
void yd_api_config_init(yd_api_config *cfg);

// Set one field from text by its name above. 1 taken, 0 no such name, YD_E_CONFIG naming the field and what it accepts.
int yd_api_config_set(yd_api_config *cfg, const char *name, const char *value, yd_err *err);

// Names of all fields, for --help and unknown-key messages; NULL-terminated, static.
const char *const *yd_api_config_names(void);

// Bind and begin to answer. `service` must outlive *out. YD_E_CONFIG (address), YD_E_IO (bind, with the reason), YD_E_NOMEM.
int yd_api_start(uv_loop_t *loop, struct yd_service *service, const yd_api_config *cfg, yd_api **out, yd_err *err);

// The address that was bound ("127.0.0.1:41233"). Owned by `api`.
const char *yd_api_address(const yd_api *api);

// Every response from now on closes its connection, and event streams end (clients come back with Last-Event-ID). New connections
// are still taken, so that a balancer sees /readyz fail. That the service refuses jobs is the service's own business. Idempotent.
void yd_api_drain(yd_api *api);

// Accept no further connection; those open are served to their end. Idempotent.
void yd_api_quiesce(yd_api *api);

// Connections open now.
unsigned yd_api_connections(const yd_api *api);

// Close everything, cutting off what is still open, and call `done` once the loop holds nothing of api any more; then `api` is freed.
void yd_api_stop(yd_api *api, void (*done)(void *ctx), void *ctx);

#endif
