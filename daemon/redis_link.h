// Connections to a Redis (or Valkey) server: a blocking one for the start, and one on the loop.
//
// The adapter between hiredis and libuv is here, because the one that comes with hiredis ignores what poll reports as an error (the handle has
// stopped by then, so the connection would hang for ever), loses its memory when the descriptor cannot be watched, does not look at whether
// watching began, and cannot tell a connection that is being made from one that is there. hiredis also looks up names where it is called; a link has a thread of the pool
// do that. Threads: a link belongs to its loop's thread.
#ifndef YD_DAEMON_REDIS_LINK_H
#define YD_DAEMON_REDIS_LINK_H

#include "daemon/redis_url.h"
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <uv.h>

// Connect and log in, waiting at most timeout_ms for each answer. Any thread. YD_E_CONFIG when the server refuses, YD_E_STORAGE when it is not there
// or still loading; both name `store`. redisFree it.
int yd_redis_connect(const yd_redis_url *u, int timeout_ms, redisContext **out, yd_err *err);

typedef struct yd_redis_link {
    // in: set before the first start
    uv_loop_t *loop;
    const yd_redis_url *url;
    void *arg;
    void (*up)(void *arg);                    // it is there and logged in
    void (*down)(void *arg, const char *why); // it is not, or not any more; not called by yd_redis_link_drop
    // out
    redisAsyncContext *context; // NULL: none
    int ready;
    int64_t since_us; // when it began to be made
    struct yd_redis_lookup *lookup; // of the host's name; NULL: there was none
    unsigned tries;                 // each takes the next of its addresses
} yd_redis_link;

// Begin to connect; one that there was is dropped. up or down follows, unless the server does not answer at all: drop it then.
void yd_redis_link_start(yd_redis_link *l);
// Forget the connection at once. Callbacks that wait are called with no reply.
void yd_redis_link_drop(yd_redis_link *l);
// Is it there, or being made?
int yd_redis_link_busy(const yd_redis_link *l);
// Drop it for good, before its memory goes. A name that is still being looked up is left to itself.
void yd_redis_link_end(yd_redis_link *l);
// Send a command; fn(context, reply, arg) gets the answer, NULL when there will be none. -1: not connected.
int yd_redis_link_send(yd_redis_link *l, redisCallbackFn *fn, void *arg, int argc, const char **argv, const size_t *len);

#endif
