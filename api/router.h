// Which handler answers a method at a path. Pure functions over one static table (routes.c).
#ifndef YD_API_ROUTER_H
#define YD_API_ROUTER_H

#include <stddef.h>

struct yd_request;

enum { YD_GET = 1, YD_HEAD = 2, YD_POST = 4, YD_PUT = 8, YD_DELETE = 16, YD_OPTIONS = 32 };

typedef enum {
    YD_BODY_NONE,    // a body is refused
    YD_BODY_PICTURE, // a picture in one of the accepted wrappings; the service must be willing to take a job
} yd_body_kind;

#define YD_PARAM_MAX 64

typedef struct yd_route {
    unsigned method;     // one of the above; YD_GET also answers HEAD
    const char *pattern; // "/v1/jobs/{id}/events": one segment in braces at most, matching 1..YD_PARAM_MAX-1 bytes
    void (*handle)(struct yd_request *r);
    yd_body_kind body;
    const char *args; // query arguments it knows, separated by spaces; NULL: it judges them itself
    unsigned scope;   // that a key must have (core/keys.h); 0: anybody may
    int token;        // a stream token is taken in place of a key
    int stored;       // what it answers is in the store: what other processes have stored there is awaited first
    int quiet;        // logged at debug level only: probes and metrics
} yd_route;

typedef struct yd_route_match {
    const yd_route *route; // NULL: no such path, or not with this method
    unsigned allowed;      // methods the path takes; 0: no such path
    char param[YD_PARAM_MAX];
} yd_route_match;

// Find the route. Never fails; see yd_route_match.
void yd_route_find(const yd_route *table, size_t n, unsigned method, const char *path, yd_route_match *out);

// "GET" -> YD_GET; 0 for a method no resource has.
unsigned yd_method_parse(const char *text);
// "GET, HEAD, DELETE" for an Allow header; the length needed, as snprintf.
size_t yd_methods_print(unsigned methods, char *dst, size_t cap);

// The table.
extern const yd_route yd_routes[];
extern const size_t yd_routes_count;

#endif
