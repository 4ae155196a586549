// Deadlines and vanished clients, per TCP connection; what libmicrohttpd leaves to its user.
//
// A yd_conn exists from accept until just before its socket is closed. It is always in one phase, and the phase decides by when the
// client must have done its part. Loop thread only.
#ifndef YD_API_CONN_GUARD_H
#define YD_API_CONN_GUARD_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

typedef struct yd_guard yd_guard;
typedef struct yd_conn yd_conn;

typedef enum {
    YD_CONN_HEADERS, // accepted; the head of the first request is due
    YD_CONN_IDLE,    // between two requests
    YD_CONN_BODY,    // head complete; the body is due
    YD_CONN_WORKING, // the server's turn: no deadline
    YD_CONN_SENDING, // a response of known size is being taken
    YD_CONN_STREAM,  // an endless response: progress is the stream's to judge
} yd_conn_phase;

// Times in milliseconds, rates in bytes per second.
typedef struct yd_guard_limits {
    unsigned per_address; // connections of one client address; 0 = any number
    int limit_loopback;   // 0: loopback is not counted
    uint64_t header_ms, body_ms, idle_ms, send_ms;
    size_t body_rate; // average a body must keep after two seconds, 0 = any
    size_t send_rate; // a response has send_ms + size / send_rate
    const char *late; // complete response to a client whose body was late; NULL = none
} yd_guard_limits;

// YD_E_NOMEM.
int yd_guard_new(uv_loop_t *loop, const yd_guard_limits *limits, yd_guard **out, yd_err *err);
// Other limits from now on; a phase that has begun keeps its deadline.
void yd_guard_limit(yd_guard *g, const yd_guard_limits *limits);
// Every yd_conn must be closed before. The memory goes when the loop has closed the handles.
void yd_guard_free(yd_guard *g);
unsigned yd_guard_open_count(const yd_guard *g);
// Shut down the sockets of connections that are between two requests.
void yd_guard_cut_idle(yd_guard *g);
// Shut down the sockets of all connections (their server will see the end of file and close them).
void yd_guard_cut_all(yd_guard *g);

// Begin to guard an accepted socket. NULL when out of memory.
yd_conn *yd_conn_open(yd_guard *g, int fd, const struct sockaddr *addr);
// The socket is about to be closed by its owner. Frees `c`; NULL is fine.
void yd_conn_close(yd_conn *c);

// Enter a phase. `bytes`: size of the response for YD_CONN_SENDING, ignored otherwise.
void yd_conn_enter(yd_conn *c, yd_conn_phase phase, size_t bytes);
// Count received body bytes (for the minimum rate).
void yd_conn_received(yd_conn *c, size_t n);
// Shut the socket down now.
void yd_conn_cut(yd_conn *c);
// 1: this address has more connections than it may have.
int yd_conn_over_limit(const yd_conn *c);
// The socket was shut down because a deadline passed.
int yd_conn_expired(const yd_conn *c);
// Client address as text, for logs. Owned by `c`.
const char *yd_conn_peer(const yd_conn *c);

// Call `gone` once when the peer closes or half-closes; for connections that the server has suspended and does not read.
// yd_conn_unwatch ends it; both may be called at any time, also inside `gone`.
int yd_conn_watch(yd_conn *c, void (*gone)(void *ctx), void *ctx);
void yd_conn_unwatch(yd_conn *c);

// The response was sent before the request was read to its end: keep the socket's other half open after its owner closes it, and
// read it empty for a moment, so that the response is not lost in a reset.
void yd_conn_linger(yd_conn *c);

// Write a last small response straight to the socket, then linger: for moments when the server library takes no response any more.
void yd_conn_last_words(yd_conn *c, const char *bytes, size_t len);

#endif
