// A request by bare sockets: see probe.h. Blocks; used by a program that does nothing else.
#include "daemon/probe.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char *reachable(const char *host)
{
    if (strcmp(host, "0.0.0.0") == 0) return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

static int open_to(const struct addrinfo *ai)
{
    const struct timeval patience = {.tv_sec = YD_PROBE_MS / 1000 / 3};
    const int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); // bounds connect() too
    if (connect(fd, ai->ai_addr, ai->ai_addrlen) == 0) return fd;
    const int why = errno;
    close(fd);
    errno = why;
    return -1;
}

// The status in the answer's first line, or 0.
static int ask(int fd, const char *path)
{
    char text[256];
    size_t have = 0;
    const int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    if (n < 0 || (size_t)n >= sizeof text || send(fd, text, (size_t)n, MSG_NOSIGNAL) != n) return 0;
    for (ssize_t got; have < 12 && (got = recv(fd, text + have, sizeof text - 1 - have, 0)) > 0;) have += (size_t)got;
    text[have] = '\0';
    int status = 0;
    return sscanf(text, "HTTP/1.%*1[01] %3d", &status) == 1 ? status : 0;
}

int yd_probe(const yd_config *cfg, const char *path, yd_err *err)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    const char *host = reachable(cfg->host);
    struct addrinfo *found = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", cfg->port);
    const int rc = getaddrinfo(host, port, &hints, &found);
    if (rc) return yd_fail_field(err, YD_E_IO, "listen", "", "cannot resolve '%s': %s", host, gai_strerror(rc));
    int fd = -1;
    for (const struct addrinfo *ai = found; ai && fd < 0; ai = ai->ai_next) fd = open_to(ai);
    const int why = errno;
    freeaddrinfo(found);
    if (fd < 0)
        return yd_fail_field(err, YD_E_IO, "listen", "", "nobody answers at %s port %s: %s", host, port, strerror(why));
    const int status = ask(fd, path);
    close(fd);
    if (status == 200) return 0;
    if (!status)
        return yd_fail_field(err, YD_E_IO, "listen", "", "what listens at %s port %s does not answer", host, port);
    return yd_fail_field(err, YD_E_IO, "listen", "", "%s at %s port %s answers %d", path, host, port, status);
}
