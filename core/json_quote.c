// Strings into JSON: the inverse of what json.c does when it reads one. Stateless; never writes beyond what it was given.
#include "core/json.h"

#include <stdio.h>
#include <string.h>

typedef struct sink {
    char *dst;
    size_t cap, n; // n counts what was wanted, also beyond cap
} sink;

static void put(sink *k, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++, k->n++)
        if (k->n + 1 < k->cap) k->dst[k->n] = s[i];
}

size_t yd_json_quote(char *dst, size_t cap, const char *s)
{
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    sink k = {dst, cap, 0};
    char escape[8];
    put(&k, "\"", 1);
    for (; *s; s++) {
        const char *hit = strchr(special, *s);
        if (hit)
            put(&k, (char[]){'\\', letter[hit - special]}, 2);
        else if ((unsigned char)*s < 0x20)
            put(&k, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s));
        else
            put(&k, s, 1);
    }
    put(&k, "\"", 1);
    if (cap) dst[k.n < cap ? k.n : cap - 1] = '\0';
    return k.n;
}
