// Where a request comes from when proxies stand in front: X-Forwarded-For with X-Forwarded-Proto, or Forwarded (RFC 7239).
//
// Each proxy adds at the end whom it was talking to. So the list is read backwards: what a trusted proxy has written is believed, up to the
// first address that is no proxy's. What stands before that one, or before something that is no address, anybody can have written.
// Which header proxies write is a setting, because one that they leave alone is the client's: of `either` X-Forwarded-For counts.
// Each proxy may add a line of its own instead of going on with the one before: in order they are one list.
// Threads: any, one for each list. Nothing is allocated; of longer lists the last YD_HOPS are kept.
#ifndef YD_API_FORWARDED_H
#define YD_API_FORWARDED_H

#include <stddef.h>

#define YD_HOPS       32
#define YD_CLIENT_MAX 64
#define YD_SCHEME_MAX 6

typedef struct yd_hops {
    struct yd_hop {
        char node[YD_CLIENT_MAX]; // an address, or what stands in its place; "" where it cannot be read
        char scheme[YD_SCHEME_MAX];
    } hop[YD_HOPS];
    size_t n;
    char scheme[YD_SCHEME_MAX]; // X-Forwarded-Proto
} yd_hops;

typedef struct yd_forwarded {
    yd_hops plain, standard; // X-Forwarded-For, Forwarded
    int use_plain, use_standard;
} yd_forwarded;

// proxy_header: the setting, "x-forwarded-for", "forwarded" or "either".
void yd_forwarded_begin(yd_forwarded *f, const char *proxy_header);
// Every header line of the request in its order; those of other names are passed by.
void yd_forwarded_line(yd_forwarded *f, const char *name, const char *value);
// Replace client (the peer's address) and scheme ("") by what trusted proxies, those in these networks, say. scheme: "http", "https" or "".
void yd_forwarded_client(const yd_forwarded *f, const char *networks, char client[YD_CLIENT_MAX],
                         char scheme[YD_SCHEME_MAX]);

#endif
