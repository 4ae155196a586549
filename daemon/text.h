// A growing string. After a failed allocation it stays failed and every append is a no-op, so only the end needs a check.
// Threads: one at a time.
#ifndef YD_DAEMON_TEXT_H
#define YD_DAEMON_TEXT_H

#include <stddef.h>

typedef struct yd_text {
    char *s; // NUL-terminated once anything was added
    size_t len, cap;
    int failed;
} yd_text;

void yd_text_add(yd_text *t, const char *bytes, size_t n);
void yd_text_printf(yd_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Hand the string over (yd_free). NULL: something could not be allocated; *t is empty either way.
char *yd_text_take(yd_text *t, size_t *len);

#endif
