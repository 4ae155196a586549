// Headers of requests: Range, If-None-Match, Accept, Last-Event-ID, and the texts of URLs, hosts and networks. The first byte chooses the size
// that a range is of.
#include "api/accept.h"
#include "api/range.h"
#include "api/stream.h"
#include "daemon/address.h"
#include "tests/fuzz/fuzz.h"

static void ranges(const char *text, uint64_t size)
{
    uint64_t first = 1, last = 0;
    if (yd_range_parse(text, size, &first, &last) == YD_RANGE_PART) HOLDS(first <= last && last < size);
}

static void addresses(const char *text)
{
    static yd_url url;
    yd_err err = {0};
    const int rc = yd_url_parse(text, "input", &url, &err);
    HOLDS(rc == 0 || err.detail[0]);
    if (yd_hosts_check(text, "fetch_hosts", &err) == 0 && rc == 0) (void)yd_hosts_allow(text, &url);
    if (yd_networks_check(text, "outgoing_networks", &err) == 0) {
        (void)yd_address_named("10.1.2.3", text);
        (void)yd_address_named("fd00::1", text);
    }
    (void)yd_address_named(text, "10.0.0.0/8 fd00::/8");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const offers[] = {"image/png", "image/webp", "image/jpeg"};
    uint64_t cursor = 0;
    yd_err err = {0};
    if (!size) return 0;
    char *text = as_text(data + 1, size - 1);
    ranges(text, data[0]);
    ranges(text, data[0] ? UINT64_MAX >> (data[0] % 64) : 0);
    (void)yd_etag_listed(text, "\"abc-yfp1:1\"");
    const int chosen = yd_accept_choose(text, offers, 3);
    HOLDS(chosen >= -1 && chosen < 3);
    const int rc = yd_stream_cursor_parse(text, &cursor, &err);
    HOLDS(rc == 0 || (rc == YD_E_INVALID && err.detail[0]));
    addresses(text);
    free(text);
    return 0;
}
