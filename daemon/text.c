// Growing by doubling through core/mem.h. Owns its buffer until yd_text_take.
#include "daemon/text.h"

#include "core/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define REAL_DIGITS 9

static int reserve(yd_text *t, size_t more)
{
    size_t need;
    if (t->failed || yd_add_size(t->len, more, &need) || yd_add_size(need, 1, &need)) {
        t->failed = 1;
        return -1;
    }
    if (t->s && need <= t->cap) return 0;
    size_t cap = t->cap ? t->cap : 256;
    while (cap < need)
        if (yd_mul_size(cap, 2, &cap)) cap = need;
    char *s = yd_realloc(t->s, cap);
    if (!s) {
        t->failed = 1;
        return -1;
    }
    t->s = s;
    t->cap = cap;
    return 0;
}

void yd_text_add(yd_text *t, const char *bytes, size_t n)
{
    if (reserve(t, n)) return;
    memcpy(t->s + t->len, bytes, n);
    t->len += n;
    t->s[t->len] = 0;
}

void yd_text_printf(yd_text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) t->failed = 1;
    if (n <= 0 || reserve(t, (size_t)n)) return;
    va_start(ap, fmt);
    vsnprintf(t->s + t->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->len += (size_t)n;
}

char *yd_text_take(yd_text *t, size_t *len)
{
    if (!t->failed && !t->s) yd_text_add(t, "", 0);
    char *s = t->failed ? NULL : t->s;
    if (t->failed) yd_free(t->s);
    if (len) *len = t->failed ? 0 : t->len;
    memset(t, 0, sizeof *t);
    return s;
}

char *yd_text_json(json_t *o, size_t *len)
{
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(REAL_DIGITS);
    const size_t n = o ? json_dumpb(o, NULL, 0, flags) : 0;
    char *s = n ? yd_malloc(n + 1) : NULL;
    if (s) {
        json_dumpb(o, s, n, flags);
        s[n] = '\0';
    }
    if (len) *len = s ? n : 0;
    json_decref(o);
    return s;
}

// The ranges of the second byte leave out overlong forms, surrogates and what lies beyond U+10FFFF.
size_t yd_text_utf8_length(const char *s)
{
    const unsigned char *b = (const unsigned char *)s;
    size_t n = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80) return 0;
    if (n > 2 && ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) || (b[0] == 0xf0 && b[1] < 0x90) ||
                  (b[0] == 0xf4 && b[1] > 0x8f)))
        return 0;
    return n;
}

json_t *yd_text_clean(const char *s)
{
    yd_text t = {0};
    size_t len;
    while (*s) {
        size_t n = yd_text_utf8_length(s);
        yd_text_add(&t, n ? s : "\xef\xbf\xbd", n ? n : 3);
        s += n ? n : 1;
    }
    char *clean = yd_text_take(&t, &len);
    json_t *o = clean ? json_stringn(clean, len) : NULL;
    yd_free(clean);
    return o;
}
