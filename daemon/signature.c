// Secrets of webhooks, and what they sign. A secret never appears in a message or a log.
#include "daemon/signature.h"

#include "core/base64.h"
#include "core/hmac.h"
#include "core/mem.h"
#include <stdio.h>
#include <string.h>

#define PREFIX      "whsec_"
#define LEAST       24
#define MOST        64
#define OWNER_ROOM  64
#define EACH_MAX    8 // signatures of one message
#define SECRETS_MAX 4096

typedef struct secret {
    char owner[OWNER_ROOM];
    uint8_t key[MOST];
    size_t len;
} secret;

struct yd_secrets {
    size_t n;
    secret item[];
};

static int is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

// A line without the white space around it; returns its length.
static size_t trim(const char **line, size_t n)
{
    while (n && is_blank(**line)) {
        (*line)++;
        n--;
    }
    while (n && is_blank((*line)[n - 1])) n--;
    return n;
}

static int parse_key(const char *text, size_t n, secret *out)
{
    uint8_t bytes[2 * MOST];
    const size_t prefix = sizeof PREFIX - 1;
    if (n < prefix || memcmp(text, PREFIX, prefix) != 0 || n - prefix > 4 * MOST / 3 + 4) return -1;
    if (yd_base64_decode(text + prefix, n - prefix, bytes, &out->len) || out->len < LEAST || out->len > MOST) return -1;
    memcpy(out->key, bytes, out->len);
    return 0;
}

// 1: a secret; 0: nothing; -1: neither.
static int parse_line(const char *line, size_t n, secret *out)
{
    n = trim(&line, n);
    if (!n || *line == '#') return 0;
    size_t owner = 0;
    while (owner < n && !is_blank(line[owner])) owner++;
    memset(out, 0, sizeof *out);
    if (owner == n) return parse_key(line, n, out) ? -1 : 1;
    if (owner >= OWNER_ROOM) return -1;
    memcpy(out->owner, line, owner);
    const char *key = line + owner;
    const size_t len = trim(&key, n - owner);
    return parse_key(key, len, out) ? -1 : 1;
}

static size_t owned(const yd_secrets *s, const char *owner)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += strcmp(s->item[i].owner, owner) == 0;
    return n;
}

int yd_secrets_parse(const char *text, size_t len, yd_secrets **out, yd_err *err)
{
    static const char accepted[] = "lines \"whsec_BASE64\" or \"OWNER whsec_BASE64\", 24 to 64 bytes each";
    size_t lines = 1;
    for (size_t i = 0; i < len; i++) lines += text[i] == '\n';
    if (lines > SECRETS_MAX) return yd_fail_field(err, YD_E_CONFIG, "webhook_secret_file", accepted, "the file has %zu lines", lines);
    yd_secrets *s = yd_calloc(1, sizeof *s + lines * sizeof(secret));
    if (!s) return yd_fail(err, YD_E_NOMEM, "no memory for the secrets");
    const char *at = text, *end = text + len;
    int rc = 0;
    for (size_t number = 1; at < end && !rc; number++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        const int got = parse_line(at, (size_t)(stop - at), &s->item[s->n]);
        if (got < 0 || (got && owned(s, s->item[s->n].owner) == EACH_MAX))
            rc = yd_fail_field(err, YD_E_CONFIG, "webhook_secret_file", accepted,
                               got < 0 ? "line %zu is no secret" : "line %zu is one secret too many of its owner", number);
        s->n += got > 0;
        at = stop + 1;
    }
    if (!rc && !s->n) rc = yd_fail_field(err, YD_E_CONFIG, "webhook_secret_file", accepted, "there is no secret in it");
    if (rc) {
        yd_secrets_free(s);
        return rc;
    }
    *out = s;
    return 0;
}

void yd_secrets_free(yd_secrets *s)
{
    if (!s) return;
    memset(s->item, 0, s->n * sizeof(secret));
    yd_free(s);
}

// Whose secrets sign for this owner: his own, or everybody's.
static const char *signer(const yd_secrets *s, const char *owner)
{
    return owned(s, owner) ? owner : "";
}

int yd_secrets_have(const yd_secrets *s, const char *owner)
{
    return owned(s, signer(s, owner)) > 0;
}

void yd_secrets_sign(const yd_secrets *s, const char *owner, const char *id, int64_t timestamp_s, const void *body, size_t len,
                     char dst[YD_SIGNATURES_MAX])
{
    char head[160];
    const char *who = signer(s, owner);
    const int n = snprintf(head, sizeof head, "%.120s.%lld.", id, (long long)timestamp_s);
    const yd_hmac_piece piece[] = {{head, (size_t)n}, {body, len}};
    size_t at = 0;
    dst[0] = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint8_t code[32];
        char text[45] = "";
        if (strcmp(s->item[i].owner, who) != 0) continue;
        yd_hmac_sha256(s->item[i].key, s->item[i].len, piece, 2, code);
        yd_base64_encode(code, sizeof code, text);
        at += (size_t)snprintf(dst + at, YD_SIGNATURES_MAX - at, "%sv1,%s", at ? " " : "", text);
    }
}
