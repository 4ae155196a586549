// Where a request comes from when proxies stand in front: X-Forwarded-For with X-Forwarded-Proto, or Forwarded (RFC 7239). See forwarded.h.
#include "api/forwarded.h"

#include "api/access.h"
#include "daemon/address.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct yd_hop hop;
typedef struct yd_hops hops;

static hop *add_hop(hops *h)
{
    if (h->n == YD_HOPS) memmove(h->hop, h->hop + 1, (--h->n) * sizeof h->hop[0]);
    h->hop[h->n] = (hop){.node = ""};
    return &h->hop[h->n++];
}

// "192.0.2.1:80" and "[2001:db8::1]:80" without port and brackets; what is too long is nothing.
static void set_node(hop *h, const char *s, size_t n)
{
    const char *colon = memchr(s, ':', n), *bracket = n && *s == '[' ? memchr(s, ']', n) : NULL;
    if (bracket) {
        n = (size_t)(bracket - s) - 1;
        s++;
    } else if (colon && !memchr(colon + 1, ':', n - (size_t)(colon + 1 - s)))
        n = (size_t)(colon - s);
    if (n < sizeof h->node) snprintf(h->node, sizeof h->node, "%.*s", (int)n, s);
}

static void set_scheme(char scheme[6], const char *s, size_t n)
{
    scheme[0] = '\0';
    if (n == 4 && strncasecmp(s, "http", 4) == 0) memcpy(scheme, "http", 5);
    if (n == 5 && strncasecmp(s, "https", 5) == 0) memcpy(scheme, "https", 6);
}

static size_t trimmed(const char **s, size_t n)
{
    while (n && (**s == ' ' || **s == '\t')) (*s)++, n--;
    while (n && ((*s)[n - 1] == ' ' || (*s)[n - 1] == '\t')) n--;
    return n;
}

// ---- X-Forwarded-*

static void read_for(hops *h, const char *list)
{
    for (const char *s = list;; s++) {
        const size_t n = strcspn(s, ",");
        const char *one = s;
        const size_t len = trimmed(&one, n);
        set_node(add_hop(h), one, len);
        s += n;
        if (!*s) return;
    }
}

static void read_proto(hops *h, const char *list)
{
    const char *comma = strrchr(list, ','), *one = comma ? comma + 1 : list;
    const size_t n = trimmed(&one, strlen(one));
    set_scheme(h->scheme, one, n);
}

// ---- Forwarded

// A token or a quoted string at *s into value (cut: its length says so). 0, or -1 when it has no end.
static int read_value(const char **s, char *value, size_t cap, size_t *len)
{
    const char *p = *s;
    *len = 0;
    if (*p != '"') {
        const size_t n = strcspn(p, ";, \t\"");
        if (n < cap) memcpy(value, p, n);
        *len = n;
        *s = p + n;
        return 0;
    }
    for (p++; *p && *p != '"'; p++) {
        if (*p == '\\' && p[1]) p++;
        if (*len < cap) value[*len] = *p;
        ++*len;
    }
    *s = *p ? p + 1 : p;
    return *p ? 0 : -1;
}

// One "name=value" of an element. 0, or -1: it is none.
static int read_pair(hop *h, const char **s, int *named)
{
    char value[sizeof h->node];
    size_t len;
    const char *name = *s;
    const size_t n = strcspn(name, "=;, \t\"");
    if (name[n] != '=') return -1;
    *s += n + 1;
    if (read_value(s, value, sizeof value, &len)) return -1;
    if (n == 3 && strncasecmp(name, "for", 3) == 0) {
        if ((*named)++ || len >= sizeof value) return -1;
        set_node(h, value, len);
    }
    if (n == 5 && strncasecmp(name, "proto", 5) == 0 && len < sizeof value) set_scheme(h->scheme, value, len);
    return 0;
}

// An element, up to its comma. 0, or -1: it cannot be read, and with it all that follows.
static int read_element(hop *h, const char **s)
{
    for (int named = 0;;) {
        *s += strspn(*s, " \t;");
        if (!**s || **s == ',') return 0;
        if (read_pair(h, s, &named)) return -1;
        *s += strspn(*s, " \t");
        if (**s && **s != ';' && **s != ',') return -1;
    }
}

static void read_forwarded(hops *h, const char *line)
{
    for (const char *s = line;; s++) {
        hop *one = add_hop(h);
        if (read_element(one, &s)) {
            *one = (hop){.node = ""};
            return;
        }
        if (!*s) return;
    }
}

// ---- all of it

void yd_forwarded_begin(yd_forwarded *f, const char *proxy_header)
{
    memset(f, 0, sizeof *f);
    f->use_plain = strcmp(proxy_header, "forwarded") != 0;
    f->use_standard = strcmp(proxy_header, "x-forwarded-for") != 0;
}

void yd_forwarded_line(yd_forwarded *f, const char *name, const char *value)
{
    if (f->use_plain && strcasecmp(name, "X-Forwarded-For") == 0) read_for(&f->plain, value);
    if (f->use_plain && strcasecmp(name, "X-Forwarded-Proto") == 0) read_proto(&f->plain, value);
    if (f->use_standard && strcasecmp(name, "Forwarded") == 0) read_forwarded(&f->standard, value);
}

static void believe(const hops *h, const char *networks, char client[YD_CLIENT_MAX], char scheme[YD_SCHEME_MAX])
{
    for (size_t i = h->n; i-- > 0;) {
        const hop *one = &h->hop[i];
        const int trusted = yd_address_named(one->node, networks);
        if (trusted < 0) return; // no address: what stands before it is no better
        memcpy(client, one->node, sizeof one->node);
        memcpy(scheme, one->scheme, sizeof one->scheme);
        if (!trusted) return;
    }
}

void yd_forwarded_client(const yd_forwarded *f, const char *networks, char client[YD_CLIENT_MAX],
                         char scheme[YD_SCHEME_MAX])
{
    const int standard = !f->plain.n && f->standard.n;
    believe(standard ? &f->standard : &f->plain, networks, client, scheme);
    if (!standard) memcpy(scheme, f->plain.scheme, sizeof f->plain.scheme);
}

static enum MHD_Result read_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    if (value) yd_forwarded_line(cls, name, value);
    return MHD_YES;
}

int yd_access_client(yd_request *r)
{
    const yd_config *cfg = r->api->cfg;
    const char *peer = yd_conn_peer(r->conn);
    snprintf(r->client, sizeof r->client, "%s", peer);
    if (!*cfg->trusted_proxies || yd_address_named(peer, cfg->trusted_proxies) != 1) return 0;
    yd_forwarded all;
    yd_forwarded_begin(&all, cfg->proxy_header);
    MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, read_header, &all);
    yd_forwarded_client(&all, cfg->trusted_proxies, r->client, r->scheme);
    return 1;
}
