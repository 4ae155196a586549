// The lists behind every outgoing connection. Addresses of both families are compared as 16 bytes with a prefix length; IPv4 ones only
// with IPv4 networks. What is not known to be public is refused: of IPv6 only 2000::/3 is given out, less what is set apart in it.
// Sources: the IANA special-purpose address registries (RFC 6890 and its successors).
#include "daemon/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct network {
    int family;
    uint8_t bytes[16];
    int bits;
} network;

static const struct {
    const char *network, *what;
} set_apart[] = {
    {"0.0.0.0/8", "an address of this network"},     {"10.0.0.0/8", "a private address"},
    {"100.64.0.0/10", "an address behind a carrier's translation"}, {"127.0.0.0/8", "a loopback address"},
    {"169.254.0.0/16", "a link-local address"},      {"172.16.0.0/12", "a private address"},
    {"192.0.0.0/24", "a reserved address"},          {"192.0.2.0/24", "an address for documentation"},
    {"192.88.99.0/24", "a reserved address"},        {"192.168.0.0/16", "a private address"},
    {"198.18.0.0/15", "an address for measurements"}, {"198.51.100.0/24", "an address for documentation"},
    {"203.0.113.0/24", "an address for documentation"}, {"224.0.0.0/4", "a multicast address"},
    {"240.0.0.0/4", "a reserved address"},           {"::/128", "no address"},
    {"::1/128", "a loopback address"},               {"::ffff:0:0/96", "an IPv4 address in IPv6 form"},
    {"64:ff9b::/96", "a translated IPv4 address"},   {"64:ff9b:1::/48", "a translated IPv4 address"},
    {"2001::/23", "a reserved address"},             {"2001:db8::/32", "an address for documentation"},
    {"2002::/16", "a tunnelled IPv4 address"},       {"3fff::/20", "an address for documentation"},
    {"fc00::/7", "a private address"},               {"fe80::/10", "a link-local address"},
    {"fec0::/10", "a private address"},              {"ff00::/8", "a multicast address"},
};

// ---- lists of words ------------------------------------------------------------------------------------------------

// The next entry of a list, copied; 0 at its end, -1 when it does not fit.
static int next_entry(const char **at, char *dst, size_t cap)
{
    *at += strspn(*at, ", \t");
    const size_t n = strcspn(*at, ", \t");
    if (n >= cap) return -1;
    memcpy(dst, *at, n);
    dst[n] = 0;
    *at += n;
    return n > 0;
}

// ---- networks ------------------------------------------------------------------------------------------------------

static int parse_network(const char *text, network *out)
{
    char address[64];
    const char *slash = strchr(text, '/');
    const size_t n = slash ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof address) return -1;
    memcpy(address, text, n);
    address[n] = 0;
    memset(out, 0, sizeof *out);
    out->family = strchr(address, ':') ? AF_INET6 : AF_INET;
    if (inet_pton(out->family, address, out->bytes) != 1) return -1;
    const int whole = out->family == AF_INET ? 32 : 128;
    out->bits = whole;
    if (!slash) return 0;
    char *end;
    if (!isdigit((unsigned char)slash[1])) return -1;
    const long bits = strtol(slash + 1, &end, 10);
    if (*end || bits < 0 || bits > whole) return -1;
    out->bits = (int)bits;
    return 0;
}

static int lies_in(const network *n, int family, const uint8_t *bytes)
{
    if (n->family != family) return 0;
    const size_t whole = (size_t)n->bits / 8;
    const int rest = n->bits % 8;
    if (memcmp(n->bytes, bytes, whole) != 0) return 0;
    return !rest || (n->bytes[whole] ^ bytes[whole]) >> (8 - rest) == 0;
}

int yd_networks_check(const char *networks, const char *setting, yd_err *err)
{
    char entry[64];
    network n;
    for (int got; (got = next_entry(&networks, entry, sizeof entry));)
        if (got < 0 || parse_network(entry, &n))
            return yd_fail_field(err, YD_E_CONFIG, setting, "networks as 10.1.0.0/16 or fd00::/8, separated by commas",
                                 "'%.64s' is no network", got < 0 ? networks : entry);
    return 0;
}

static int named(const char *networks, int family, const uint8_t *bytes)
{
    char entry[64];
    network n;
    while (next_entry(&networks, entry, sizeof entry) > 0)
        if (!parse_network(entry, &n) && lies_in(&n, family, bytes)) return 1;
    return 0;
}

const char *yd_address_refused(const struct sockaddr *a, const char *networks)
{
    const uint8_t *bytes;
    network n;
    if (a->sa_family == AF_INET)
        bytes = (const uint8_t *)&((const struct sockaddr_in *)(const void *)a)->sin_addr;
    else if (a->sa_family == AF_INET6)
        bytes = ((const struct sockaddr_in6 *)(const void *)a)->sin6_addr.s6_addr;
    else
        return "no internet address";
    if (named(networks, a->sa_family, bytes)) return NULL;
    for (size_t i = 0; i < sizeof set_apart / sizeof set_apart[0]; i++)
        if (!parse_network(set_apart[i].network, &n) && lies_in(&n, a->sa_family, bytes)) return set_apart[i].what;
    if (a->sa_family == AF_INET6 && bytes[0] >> 5 != 1) return "an address that is not given out";
    return NULL;
}

// ---- hosts ---------------------------------------------------------------------------------------------------------

typedef struct host_entry {
    char name[YD_HOST_MAX]; // without "*", with the dot then
    int below, port;        // port 0: the scheme's own
} host_entry;

static int is_host(const char *name, size_t n, int literal)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)name[i];
        if (!isalnum(c) && !strchr(literal ? ":." : "-._", c)) return 0;
    }
    return n > 0;
}

static int parse_port(const char *text, int *port)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return -1;
    const long v = strtol(text, &end, 10);
    if (*end || v < 1 || v > 65535) return -1;
    *port = (int)v;
    return 0;
}

static int parse_host(const char *text, host_entry *e)
{
    const int literal = *text == '[';
    const char *name = text + literal, *end = literal ? strchr(name, ']') : strchr(name, ':'), *after;
    memset(e, 0, sizeof *e);
    if (literal && !end) return -1;
    if (!end) end = name + strlen(name);
    after = end + literal;
    if (*after && (*after != ':' || parse_port(after + 1, &e->port))) return -1;
    if (!literal && name[0] == '*' && name[1] == '.') {
        e->below = 1;
        name++;
    }
    const size_t n = (size_t)(end - name);
    if (n >= sizeof e->name || !is_host(name + e->below, n - (size_t)e->below, literal)) return -1;
    for (size_t i = 0; i < n; i++) e->name[i] = (char)tolower((unsigned char)name[i]);
    return 0;
}

int yd_hosts_check(const char *hosts, const char *setting, yd_err *err)
{
    char entry[YD_HOST_MAX];
    host_entry e;
    for (int got; (got = next_entry(&hosts, entry, sizeof entry));)
        if (got < 0 || parse_host(entry, &e))
            return yd_fail_field(err, YD_E_CONFIG, setting, "hosts as name, *.suffix or name:port, separated by commas", "'%.64s' is no host",
                                 got < 0 ? hosts : entry);
    return 0;
}

static int is_entry(const host_entry *e, const yd_url *url)
{
    if (url->port != (e->port ? e->port : url->default_port)) return 0;
    if (!e->below) return strcmp(e->name, url->host) == 0;
    const size_t n = strlen(url->host), suffix = strlen(e->name);
    return n > suffix && strcmp(url->host + n - suffix, e->name) == 0;
}

int yd_hosts_allow(const char *hosts, const yd_url *url)
{
    char entry[YD_HOST_MAX];
    host_entry e;
    while (next_entry(&hosts, entry, sizeof entry) > 0)
        if (!parse_host(entry, &e) && is_entry(&e, url)) return 1;
    return 0;
}

// ---- URLs ----------------------------------------------------------------------------------------------------------

static void take_host(const char *host, yd_url *out)
{
    size_t n = strlen(host);
    if (*host == '[') {
        host++;
        n -= 2;
    }
    if (n && host[n - 1] == '.') n--;
    for (size_t i = 0; i < n && i + 1 < sizeof out->host; i++) out->host[i] = (char)tolower((unsigned char)host[i]);
}

// What the parser of the transfer itself understands; two parsers that disagree are how such checks are got around.
static int take_apart(CURLU *u, const char *url, yd_url *out)
{
    char *scheme = NULL, *host = NULL, *user = NULL, *password = NULL, *port = NULL, *zone = NULL;
    int rc = -1;
    memset(out, 0, sizeof *out);
    if (curl_url_set(u, CURLUPART_URL, url, 0) || curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) || curl_url_get(u, CURLUPART_HOST, &host, 0))
        goto done;
    if (curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT)) goto done;
    const int named_user = !curl_url_get(u, CURLUPART_USER, &user, 0), named_password = !curl_url_get(u, CURLUPART_PASSWORD, &password, 0);
    out->secure = strcmp(scheme, "https") == 0;
    out->default_port = out->secure ? 443 : 80;
    const int zoned = !curl_url_get(u, CURLUPART_ZONEID, &zone, 0);
    if (named_user || named_password || zoned || (!out->secure && strcmp(scheme, "http") != 0)) goto done;
    const size_t n = strlen(host);
    const int literal = *host == '[';
    if (n < 2 * (size_t)literal + 1 || n >= sizeof out->host || !is_host(host + literal, n - 2 * (size_t)literal, literal)) goto done;
    take_host(host, out);
    rc = parse_port(port, &out->port);
done:
    curl_free(scheme);
    curl_free(host);
    curl_free(user);
    curl_free(password);
    curl_free(port);
    curl_free(zone);
    return rc;
}

int yd_url_parse(const char *url, const char *field, yd_url *out, yd_err *err)
{
    static const char accepted[] = "an https:// URL of at most 2048 bytes, without user name or password";
    size_t n = 0;
    while (n <= YD_URL_MAX && (unsigned char)url[n] > ' ' && (unsigned char)url[n] < 127) n++;
    CURLU *u = !url[n] && n <= YD_URL_MAX ? curl_url() : NULL;
    const int rc = u ? take_apart(u, url, out) : -1;
    curl_url_cleanup(u);
    return rc ? yd_fail_field(err, YD_E_SETTING, field, accepted, "%s is not %s", field, accepted) : 0;
}

int yd_address_named(const char *address, const char *networks)
{
    network n;
    if (strchr(address, '/') || parse_network(address, &n)) return -1;
    return named(networks, n.family, n.bytes);
}
