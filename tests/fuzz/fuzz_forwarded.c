// Headers that say where a request comes from and what it prefers: X-Forwarded-For, X-Forwarded-Proto, Forwarded, Prefer, traceparent, X-Request-Id.
//
// The first byte chooses which header proxies write; the lines after it are "name:value", in the order in which they came. What a client may
// choose, lines before those of the proxies, must never be believed.
#include "api/access.h"
#include "api/job_wait.h"
#include "daemon/address.h"
#include "tests/fuzz/fuzz.h"

#define PEER     "10.0.0.9"
#define NETWORKS "10.0.0.0/8, fd00::/8"
#define FORGED   "203.0.113.66" // in no network, and in no corpus

typedef struct origin {
    char client[YD_CLIENT_MAX], scheme[YD_SCHEME_MAX];
} origin;

static void read_lines(yd_forwarded *f, const char *lines)
{
    static const char *const names[] = {"X-Forwarded-For", "X-Forwarded-Proto", "Forwarded"};
    char *copy = as_text((const uint8_t *)lines, strlen(lines)), *rest = copy;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char *value = line + strcspn(line, ":");
        if (*value) *value++ = '\0';
        yd_forwarded_line(f, line, value);
        if (*line && strchr("012", *line))
            yd_forwarded_line(f, names[*line - '0'], value); // short names, for the fuzzer's sake
    }
    free(copy);
}

static origin find(const char *setting, const char *forged, const char *lines)
{
    yd_forwarded f;
    origin o = {.client = PEER};
    yd_forwarded_begin(&f, setting);
    if (forged) yd_forwarded_line(&f, forged, strcmp(forged, "Forwarded") == 0 ? "for=" FORGED : FORGED);
    read_lines(&f, lines);
    yd_forwarded_client(&f, NETWORKS, o.client, o.scheme);
    HOLDS(memchr(o.client, 0, sizeof o.client) && memchr(o.scheme, 0, sizeof o.scheme));
    HOLDS(yd_address_named(o.client, NETWORKS) >= 0);
    HOLDS(!o.scheme[0] || strcmp(o.scheme, "http") == 0 || strcmp(o.scheme, "https") == 0);
    return o;
}

// A client's own line comes first. It counts only when everything after it is proxies'.
static void forge(const char *setting, const char *header, const char *lines)
{
    const origin honest = find(setting, NULL, lines), forged = find(setting, header, lines);
    if (strstr(lines, FORGED)) return;
    HOLDS(strcmp(honest.client, forged.client) == 0 ||
          (strcmp(forged.client, FORGED) == 0 && yd_address_named(honest.client, NETWORKS) == 1));
}

static void preferences(const char *text)
{
    const int64_t ms = yd_prefer_parse(text);
    HOLDS(ms >= -1 && ms <= 86400 * 1000 && (ms <= 0 || ms % 1000 == 0));
    HOLDS(ms >= 0 || !strcasestr(text, "respond-async") || strcasestr(text, "wait="));
    HOLDS(ms <= 0 || strcasestr(text, "wait="));
    if (yd_trace_is_plain(text)) HOLDS(strlen(text) == 55 && strspn(text, "0123456789abcdef-") == 55);
    if (yd_request_id_is_plain(text)) HOLDS(strlen(text) < YD_REQUEST_ID_MAX && !strpbrk(text, " \t\r\n\"\\<>"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const settings[] = {"x-forwarded-for", "forwarded", "either"};
    if (!size) return 0;
    const unsigned which = data[0] % 3;
    char *text = as_text(data + 1, size - 1);
    (void)find(settings[which], NULL, text);
    if (which < 2) forge(settings[which], which ? "Forwarded" : "X-Forwarded-For", text);
    preferences(text);
    free(text);
    return 0;
}
