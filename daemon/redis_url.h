// Addresses of Redis (or Valkey) servers as settings have them. Any thread.
#ifndef YD_DAEMON_REDIS_URL_H
#define YD_DAEMON_REDIS_URL_H

#include "core/err.h"

#define YD_REDIS_URL_ACCEPTED "redis://[:password@]host[:port][/database] or unix:///path[?db=number]"

typedef struct yd_redis_url {
    char host[128], path[108], password[128]; // path: of a Unix socket; then there is no host
    int port, database;
} yd_redis_url;

// Read one. YD_E_CONFIG naming `store`; nothing of the text is in the message, for it may have a password.
int yd_redis_url_parse(const char *text, yd_redis_url *out, yd_err *err);
// Without the password. dst: 160 bytes or more are enough for all of it.
void yd_redis_url_show(const yd_redis_url *u, char *dst, size_t cap);
// The text as it was given, with asterisks for what stands where a password may; dst: 5 bytes more than the text are enough. It need not be an address.
void yd_redis_url_mask(const char *text, char *dst, size_t cap);

#endif
