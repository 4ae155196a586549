// The HTTP interface of the daemon: the only header of api/ that other layers include.
//
// yd_api is an HTTP/1.1 server (libmicrohttpd driven by the caller's libuv loop) that turns requests into calls of daemon/service.h.
// It owns its sockets, its timers and every request in flight; it owns no job. Its settings are those of yd_service_config: listen,
// max_body_bytes, max_connections, the *_timeout_ms and so on. Everything here, and everything it calls, runs on the thread of the
// loop: there are no locks and no call blocks.
//
// Life: start -> (serve) -> when the service begins to drain, streams end and every response closes its connection, while new
// connections are still taken, so that a balancer sees /readyz fail -> quiesce -> when yd_api_connections() is 0 or patience ends: stop.
#ifndef YD_API_H
#define YD_API_H

#include "core/err.h"
#include <uv.h>

typedef struct yd_api yd_api;
struct yd_service;

// Bind and begin to answer, or take a socket that a supervisor hands over: then nobody is answered before yd_api_open. `service` must outlive *out; its on_drain watcher is taken. YD_E_CONFIG (the address names no interface
// of this machine), YD_E_IO (bind, with the reason), YD_E_NOMEM.
int yd_api_start(uv_loop_t *loop, struct yd_service *service, yd_api **out, yd_err *err);

// The address that was bound ("127.0.0.1:41233"). Owned by `api`.
const char *yd_api_address(const yd_api *api);

// 1: the socket is a supervisor's, who had it before this process and will hand it to the next. Connections wait in it meanwhile, so that it is best
// taken from only by who is ready.
void yd_api_open(yd_api *api);
int yd_api_inherited(const yd_api *api);

// The settings or the keys have changed: go by them from now on. Streams end whose owners have no key any more that reads.
void yd_api_reload(yd_api *api);

// Accept no further connection and close those that are between two requests; the others are served to their end. Idempotent.
void yd_api_quiesce(yd_api *api);

// Connections open now.
unsigned yd_api_connections(const yd_api *api);

// Close everything, cutting off what is still open, and call `done` once the loop holds nothing of api any more; then `api` is freed.
// Call it before yd_service_close: requests in flight let go of their jobs here.
void yd_api_stop(yd_api *api, void (*done)(void *arg), void *arg);

#endif
