// Matching of paths against the route table: segment by segment, a handful of string comparisons per request.
// Pure; allocates nothing; any thread. Read next: routes.c, the table.
#include "api/router.h"

#include <stdio.h>
#include <string.h>

static const struct {
    unsigned bit;
    const char *text;
} methods[] = {{YD_GET, "GET"}, {YD_HEAD, "HEAD"},     {YD_POST, "POST"},
               {YD_PUT, "PUT"}, {YD_DELETE, "DELETE"}, {YD_OPTIONS, "OPTIONS"}};

#define N_METHODS (sizeof methods / sizeof methods[0])

unsigned yd_method_parse(const char *text)
{
    for (size_t i = 0; i < N_METHODS; i++)
        if (!strcmp(text, methods[i].text)) return methods[i].bit;
    return 0;
}

size_t yd_methods_print(unsigned set, char *dst, size_t cap)
{
    size_t len = 0;
    if (cap) dst[0] = '\0';
    for (size_t i = 0; i < N_METHODS; i++) {
        if (!(set & methods[i].bit)) continue;
        const size_t at = len < cap ? len : cap;
        len += (size_t)snprintf(cap ? dst + at : NULL, cap - at, "%s%s", len ? ", " : "", methods[i].text);
    }
    return len;
}

// 1 when path matches; the segment at the braces is copied to param.
static int matches(const char *pattern, const char *path, char param[YD_PARAM_MAX])
{
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++) return 0;
            continue;
        }
        const size_t n = strcspn(path, "/");
        if (n == 0 || n >= YD_PARAM_MAX) return 0;
        memcpy(param, path, n);
        param[n] = '\0';
        path += n;
        pattern += strcspn(pattern, "}") + 1;
    }
    return *path == '\0';
}

void yd_route_find(const yd_route *table, size_t n, unsigned method, const char *path, yd_route_match *out)
{
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < n; i++) {
        char param[YD_PARAM_MAX] = "";
        if (!matches(table[i].pattern, path, param)) continue;
        const unsigned takes = table[i].method | (table[i].method & YD_GET ? (unsigned)YD_HEAD : 0);
        out->allowed |= takes;
        if (out->route || !(takes & method)) continue;
        out->route = &table[i];
        memcpy(out->param, param, sizeof param);
    }
}
