// Addresses of Redis servers: see redis_url.h.
#include "daemon/redis_url.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PORT 6379
#define MASK         "***"

static int bad_url(yd_err *err, const char *what)
{
    return yd_fail_field(err, YD_E_CONFIG, "store", YD_REDIS_URL_ACCEPTED, "the address of the shared store has %s", what);
}

// Digits up to the end. -1: anything else, or more than `most`.
static int number_of(const char *text, int most)
{
    char *end;
    const long v = strtol(text, &end, 10);
    return *text < '0' || *text > '9' || *end || v > most ? -1 : (int)v;
}

static int parse_unix(const char *rest, yd_redis_url *out, yd_err *err)
{
    const char *q = strchr(rest, '?');
    const size_t n = q ? (size_t)(q - rest) : strlen(rest);
    if (*rest != '/' || n >= sizeof out->path) return bad_url(err, "no path of a socket, or one that is too long");
    memcpy(out->path, rest, n);
    if (q) out->database = strncmp(q, "?db=", 4) == 0 ? number_of(q + 4, INT_MAX) : -1;
    return out->database < 0 ? bad_url(err, "no number of a database behind the question mark") : 0;
}

static int parse_host(const char *rest, yd_redis_url *out, yd_err *err)
{
    const char *at = strrchr(rest, '@');
    if (at) {
        if (*rest != ':' || (size_t)(at - rest) > sizeof out->password) return bad_url(err, "a user's name, or a password that is too long");
        memcpy(out->password, rest + 1, (size_t)(at - rest) - 1);
        rest = at + 1;
    }
    char place[sizeof out->host + 8];
    const char *slash = strchr(rest, '/');
    const size_t n = slash ? (size_t)(slash - rest) : strlen(rest);
    if (n >= sizeof place) return bad_url(err, "a host's name that is too long");
    snprintf(place, sizeof place, "%.*s", (int)n, rest);
    if (slash && slash[1] && (out->database = number_of(slash + 1, INT_MAX)) < 0) return bad_url(err, "no number behind the slash");
    char *host = place, *colon = strrchr(place, ':'), *bracket = strchr(place, ']');
    out->port = DEFAULT_PORT;
    if (colon && (!bracket || colon > bracket)) {
        *colon = 0;
        if ((out->port = number_of(colon + 1, 65535)) < 1) return bad_url(err, "no port behind the colon");
    }
    if (*host == '[' && bracket) {
        host++;
        *bracket = 0;
    }
    if (!*host || strlen(host) >= sizeof out->host) return bad_url(err, "no host");
    snprintf(out->host, sizeof out->host, "%.*s", (int)sizeof out->host - 1, host);
    return 0;
}

int yd_redis_url_parse(const char *text, yd_redis_url *out, yd_err *err)
{
    memset(out, 0, sizeof *out);
    if (strncmp(text, "redis://", 8) == 0) return parse_host(text + 8, out, err);
    if (strncmp(text, "unix://", 7) == 0) return parse_unix(text + 7, out, err);
    if (strncmp(text, "rediss://", 9) == 0)
        return bad_url(err, "a scheme with TLS, which is not spoken here: a tunnel (stunnel, a sidecar) on this machine does that, and is named by redis:// or unix://");
    return bad_url(err, "an unknown scheme");
}

void yd_redis_url_show(const yd_redis_url *u, char *dst, size_t cap)
{
    if (*u->path)
        snprintf(dst, cap, "unix://%s?db=%d", u->path, u->database);
    else
        snprintf(dst, cap, "redis://%s:%d/%d", u->host, u->port, u->database);
}

void yd_redis_url_mask(const char *text, char *dst, size_t cap)
{
    const char *scheme = strstr(text, "://"), *at = scheme ? strrchr(scheme, '@') : NULL;
    if (at)
        snprintf(dst, cap, "%.*s:" MASK "%s", (int)(scheme + 3 - text), text, at);
    else
        snprintf(dst, cap, "%s", text);
}
