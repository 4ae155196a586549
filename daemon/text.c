// Growing by doubling through core/mem.h. Owns its buffer until yd_text_take.
#include "daemon/text.h"

#include "core/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int reserve(yd_text *t, size_t more)
{
    size_t need;
    if (t->failed || yd_add_size(t->len, more, &need) || yd_add_size(need, 1, &need)) {
        t->failed = 1;
        return -1;
    }
    if (need <= t->cap) return 0;
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
