// Range and If-None-Match, read as RFC 9110 has them. Pure; allocates nothing; any thread.
#include "api/range.h"

#include <string.h>

// Digits at *p into *v (at most 19 of them, so that nothing overflows). 1 when there was one.
static int digits(const char **p, uint64_t *v)
{
    int n = 0;
    for (*v = 0; **p >= '0' && **p <= '9' && n < 19; n++) *v = *v * 10 + (uint64_t)(*(*p)++ - '0');
    return n > 0;
}

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t') p++;
    return p;
}

yd_range_kind yd_range_parse(const char *header, uint64_t size, uint64_t *first, uint64_t *last)
{
    static const char unit[] = "bytes=";
    if (!header || strncmp(header, unit, sizeof unit - 1)) return YD_RANGE_WHOLE;
    const char *p = skip_space(header + sizeof unit - 1);
    uint64_t a = 0, b = 0;
    const int has_a = digits(&p, &a);
    if (*p++ != '-') return YD_RANGE_WHOLE;
    const int has_b = digits(&p, &b);
    if (*skip_space(p) || (!has_a && !has_b) || (has_a && has_b && b < a)) return YD_RANGE_WHOLE;

    if (!has_a) { // the last b bytes
        if (b == 0 || size == 0) return YD_RANGE_UNSATISFIABLE;
        *first = b < size ? size - b : 0;
        *last = size - 1;
        return YD_RANGE_PART;
    }
    if (a >= size) return YD_RANGE_UNSATISFIABLE;
    *first = a;
    *last = has_b && b < size ? b : size - 1;
    return YD_RANGE_PART;
}

static const char *strong_part(const char *tag)
{
    return tag[0] == 'W' && tag[1] == '/' ? tag + 2 : tag;
}

int yd_etag_listed(const char *header, const char *etag)
{
    const char *want = strong_part(etag);
    const size_t n = strlen(want);
    for (const char *p = header; p && *p;) {
        p = skip_space(p);
        if (*p == '*') return 1;
        p = strong_part(p);
        if (!strncmp(p, want, n) && strchr(" \t,", p[n])) return 1; // strchr also finds the end
        if (*p == '"') p = strchr(p + 1, '"');
        if (p) p = strchr(p, ',');
        if (p) p++;
    }
    return 0;
}
