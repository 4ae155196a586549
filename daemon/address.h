// Where the server may connect to: lists of hosts, networks, and what a URL names. Pure functions, any thread.
//
// Two gates, both always shut unless a setting opens them. The name in a URL must be on a list; the address that the name stands for,
// looked at again for every connection, must be a public one or lie in a network that outgoing_networks names. A name may be on the list
// and still resolve, today or after the next change of its record, to the machine next door.
#ifndef YD_DAEMON_ADDRESS_H
#define YD_DAEMON_ADDRESS_H

#include "core/err.h"
#include <sys/socket.h>

#define YD_URL_MAX  2048
#define YD_HOST_MAX 256

typedef struct yd_url {
    char host[YD_HOST_MAX]; // lower case, without brackets or a final dot
    int port, default_port; // the scheme's own
    int secure;             // https
} yd_url;

// Take a URL apart. YD_E_SETTING naming `field`: no http(s) URL, longer than YD_URL_MAX, with a user name or a host that is no plain ASCII.
int yd_url_parse(const char *url, const char *field, yd_url *out, yd_err *err);

// hosts: entries separated by commas or spaces: "name", "*.suffix" (below it, not itself), each with ":port" when another port than the
// scheme's is meant; IPv6 in brackets. YD_E_CONFIG naming `setting`.
int yd_hosts_check(const char *hosts, const char *setting, yd_err *err);
int yd_hosts_allow(const char *hosts, const yd_url *url);

// networks: "10.1.0.0/16, fd00::/8, 127.0.0.1". YD_E_CONFIG naming `setting`.
int yd_networks_check(const char *networks, const char *setting, yd_err *err);
// Does an address in text lie in one of them? -1: it is no address.
int yd_address_named(const char *address, const char *networks);
// Why no connection is made to an address ("a loopback address"): static text, or NULL: one may be made.
const char *yd_address_refused(const struct sockaddr *a, const char *networks);

#endif
