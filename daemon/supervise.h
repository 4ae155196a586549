// What a supervisor of processes offers by environment variables: systemd's protocols for readiness, watchdog and sockets.
//
//   NOTIFY_SOCKET               a datagram socket that is told READY=1, STOPPING=1, RELOADING=1, WATCHDOG=1 and one line of status
//   WATCHDOG_USEC, WATCHDOG_PID how often at least WATCHDOG=1 has to come; it is sent from the event loop, so a loop that stands still is seen
//   LISTEN_FDS, LISTEN_PID      sockets that the supervisor listens on and hands over as descriptors from 3 on
//
// Without these variables everything here does nothing. Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3); the protocol is
// a stable interface, so no library is needed for it. Threads: the loop's only, and yd_supervise_begin before there are others.
#ifndef YD_DAEMON_SUPERVISE_H
#define YD_DAEMON_SUPERVISE_H

#include "core/err.h"
#include <uv.h>

// Read the variables and take them out of the environment, so that no child believes that they are for it. Call once, after
// yd_cpu_prepare_process(), which starts the program anew in the same process.
void yd_supervise_begin(void);

// The descriptor of the listening socket that was handed over, or -1 when there is none. The caller closes it. YD_E_CONFIG when it is
// no listening TCP socket or when there are several.
int yd_supervise_socket(int *fd, yd_err *err);

typedef struct yd_supervisor yd_supervisor;
// Watch for readiness (is_ready is asked often until it answers 1), then say READY=1; keep the watchdog quiet. *out is NULL where nobody
// supervises. YD_E_NOMEM.
int yd_supervisor_start(uv_loop_t *loop, int (*is_ready)(void *arg), void *arg, yd_supervisor **out, yd_err *err);
// RELOADING=1, then READY=1: a reload that is done at once. NULL is fine, as below.
void yd_supervisor_reloaded(yd_supervisor *s);
// STOPPING=1. The watchdog is served until yd_supervisor_stop, which closes the handle; the loop must be run once more.
void yd_supervisor_stopping(yd_supervisor *s);
void yd_supervisor_stop(yd_supervisor *s);

#endif
