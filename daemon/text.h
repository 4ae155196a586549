// Text for clients: a growing string, and JSON printed one way.
//
// A growing string: after a failed allocation it stays failed and every append is a no-op, so only the end needs a check.
// Threads: one at a time.
#ifndef YD_DAEMON_TEXT_H
#define YD_DAEMON_TEXT_H

#include <jansson.h>
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

// Print a JSON value on one line, numbers with at most 9 digits: 0.4, not 0.40000000000000002. Consumes o; *len (may be NULL) is the
// length; release with yd_free. NULL: o is NULL or there is no memory.
char *yd_text_json(json_t *o, size_t *len);

// Bytes of the UTF-8 character that s begins with: 1..4, or 0 when there is none.
size_t yd_text_utf8_length(const char *s);
// A JSON string of text that may hold what a client sent or be cut anywhere: each byte that is no UTF-8 becomes U+FFFD. A new
// reference; NULL: out of memory.
json_t *yd_text_clean(const char *s);

#endif
