// Bodies: judged by their head before a byte is read, then collected into one buffer that grows with what has really arrived (an
// announced 32 MiB costs nothing until it is sent).
// Threads: the loop's. Invariants: len <= cap, the caps of all requests add up to api->body_bytes, which stays within max_queue_bytes.
#include "api/body.h"

#include "api/request.h"
#include "core/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIRST_CAP 65536

#define ACCEPTED_TYPES                                                                                                 \
    "image/*, application/octet-stream, application/x-www-form-urlencoded (the bare picture, as curl --data-binary "   \
    "sends it), "                                                                                                      \
    "application/json, multipart/form-data"

typedef struct header_count {
    const char *name;
    int n;
} header_count;

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    (void)value;
    header_count *c = cls;
    c->n += !strcasecmp(key, c->name);
    return MHD_YES;
}

static int times_given(const yd_request *r, const char *name)
{
    header_count c = {name, 0};
    MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, count_header, &c);
    return c.n;
}

// Anything about which a proxy in front and we might disagree is refused: that is how requests are smuggled.
static int judge_framing(yd_request *r, yd_err *err)
{
    const char *length = yd_request_header(r, "Content-Length"), *coding = yd_request_header(r, "Transfer-Encoding");
    r->body.present = coding || (length && strcmp(length, "0"));
    if (times_given(r, "Content-Length") > 1 || times_given(r, "Transfer-Encoding") > 1 || times_given(r, "Host") > 1)
        return yd_fail(err, YD_E_INVALID, "Content-Length, Transfer-Encoding and Host may be given once each");
    if (length && coding) return yd_fail(err, YD_E_INVALID, "Content-Length and Transfer-Encoding exclude each other");
    if (coding && strcasecmp(coding, "chunked"))
        return yd_fail_field(err, YD_E_INVALID, "Transfer-Encoding", "chunked", "this transfer coding is not known");
    if (!length) return 0;

    char *end = NULL;
    errno = 0;
    const unsigned long long n = strtoull(length, &end, 10);
    if (length[0] < '0' || length[0] > '9' || *end || errno)
        return yd_fail_field(err, YD_E_INVALID, "Content-Length", "decimal digits", "this is no length");
    r->body.announced = n > SIZE_MAX ? SIZE_MAX : (size_t)n;
    return 0;
}

static int too_large(const yd_request *r, yd_err *err)
{
    char accepted[64];
    snprintf(accepted, sizeof accepted, "at most %lld bytes", (long long)r->api->cfg->max_body_bytes);
    return yd_fail_field(err, YD_E_BODY_TOO_LARGE, "", accepted, "the body has more than %lld bytes",
                         (long long)r->api->cfg->max_body_bytes);
}

static int is_type(const char *type, const char *want)
{
    const size_t n = strlen(want);
    return !strncasecmp(type, want, n) && (want[n - 1] == '/' || strchr("; \t", type[n])); // strchr also finds the end
}

static int judge_type(const yd_request *r, yd_err *err)
{
    static const char *const known[] = {"image/", "application/octet-stream", "application/x-www-form-urlencoded",
                                        "application/json", "multipart/form-data"};
    const char *encoding = yd_request_header(r, "Content-Encoding");
    if (encoding && strcasecmp(encoding, "identity"))
        return yd_fail_field(err, YD_E_MEDIA_TYPE, "Content-Encoding", "identity", "bodies are not decompressed");
    const char *type = yd_request_header(r, "Content-Type");
    if (!type) return 0; // the picture says itself what it is
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (is_type(type, known[i])) return 0;
    return yd_fail_field(err, YD_E_MEDIA_TYPE, "Content-Type", ACCEPTED_TYPES, "this content type is not taken");
}

int yd_body_begin(yd_request *r, yd_err *err)
{
    const int rc = judge_framing(r, err);
    if (rc || !r->match.route) return rc;
    if (r->match.route->body == YD_BODY_NONE)
        return r->body.present ? yd_fail(err, YD_E_INVALID, "%s here takes no body", r->method_text) : 0;
    if (r->body.announced > (size_t)r->api->cfg->max_body_bytes) return too_large(r, err);
    return judge_type(r, err);
}

static int grow(yd_request *r, size_t need, yd_err *err)
{
    yd_body *b = &r->body;
    const size_t max = (size_t)r->api->cfg->max_body_bytes;
    size_t cap = b->cap ? b->cap : FIRST_CAP;
    while (cap < need) cap = cap > max / 2 ? max : cap * 2;
    if (b->announced && cap > b->announced) cap = b->announced; // never less than need: the parser counts
    const size_t more = cap - b->cap;
    const size_t all = (size_t)r->api->cfg->max_queue_bytes; // it may have become less than there is
    if (r->api->body_bytes > all || more > all - r->api->body_bytes)
        return yd_fail(err, YD_E_QUEUE_FULL, "the uploads under way fill the memory that is set aside for them");
    uint8_t *p = yd_realloc(b->bytes, cap);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for a body of %zu bytes", cap);
    r->api->body_bytes += more;
    b->bytes = p;
    b->cap = cap;
    return 0;
}

int yd_body_append(yd_request *r, const char *data, size_t n, yd_err *err)
{
    yd_body *b = &r->body;
    size_t need;
    if (yd_add_size(b->len, n, &need) || need > (size_t)r->api->cfg->max_body_bytes) return too_large(r, err);
    if (need > b->cap) {
        const int rc = grow(r, need, err);
        if (rc) return rc;
    }
    memcpy(b->bytes + b->len, data, n);
    b->len = need;
    return 0;
}

uint8_t *yd_body_take(yd_request *r, size_t *len)
{
    uint8_t *p = r->body.bytes;
    *len = r->body.len;
    r->api->body_bytes -= r->body.cap;
    r->body.bytes = NULL;
    r->body.len = r->body.cap = 0;
    return p;
}

void yd_body_clear(yd_request *r)
{
    size_t len;
    yd_free(yd_body_take(r, &len));
}
