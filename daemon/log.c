// One write(2) a line, so that lines of different threads never mix. State: the level.
#include "daemon/log.h"

#include "daemon/clock.h"
#include "daemon/text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

typedef struct line {
    char s[LINE_MAX_BYTES];
    size_t len;
} line;

static const char *const names[] = {"debug", "info", "warn", "error"};
static _Atomic yd_log_level min_level = YD_LOG_INFO;

void yd_log_set_level(const char *level)
{
    for (int i = 0; i <= YD_LOG_ERROR; i++)
        if (strcmp(level, names[i]) == 0) min_level = (yd_log_level)i;
}

int yd_log_enabled(yd_log_level level)
{
    return level >= min_level;
}

// Room for `"}\n` is kept back, so that a cut line is still a whole JSON object.
static int put(line *l, const char *s, size_t n)
{
    if (l->len + n > sizeof l->s - 3) return -1;
    memcpy(l->s + l->len, s, n);
    l->len += n;
    return 0;
}

// Control characters, quotes and backslashes are escaped; bytes that are no UTF-8 become U+FFFD.
static int put_escaped(line *l, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        char esc[8];
        size_t n = yd_text_utf8_length((const char *)s);
        int rc;
        if (n == 0) {
            rc = put(l, "\xef\xbf\xbd", 3);
            n = 1;
        } else if (*s < 0x20 || *s == 0x7f) {
            snprintf(esc, sizeof esc, "\\u%04x", *s);
            rc = put(l, esc, 6);
        } else if (*s == '"' || *s == '\\') {
            esc[0] = '\\';
            esc[1] = (char)*s;
            rc = put(l, esc, 2);
        } else
            rc = put(l, (const char *)s, n);
        if (rc) return rc;
        s += n;
    }
    return 0;
}

// 0, or -1 when there is no room.
static int put_name(line *l, const char *name)
{
    return put(l, ",\"", 2) || put(l, name, strlen(name)) || put(l, "\":", 2);
}

static void put_number(line *l, const char *name, const char *value)
{
    size_t start = l->len;
    if (put_name(l, name) || put(l, value, strlen(value))) l->len = start; // half a number would be another one
}

static void put_text(line *l, const char *name, const char *value)
{
    size_t start = l->len;
    if (put_name(l, name) || put(l, "\"", 1)) {
        l->len = start; // no room even for the name
        return;
    }
    put_escaped(l, value ? value : "");
    l->s[l->len++] = '"';
}

static void put_field(line *l, const char *name, const char *value)
{
    if (*name == '#')
        put_number(l, name + 1, value);
    else
        put_text(l, name, value);
}

void yd_log(yd_log_level level, const char *request_id, const char *msg, ...)
{
    if (!yd_log_enabled(level)) return;
    line l = {.len = 0};
    char ts[YD_RFC3339_MAX];
    yd_rfc3339(yd_wall_ms(), ts, sizeof ts);
    put_field(&l, "ts", ts);
    l.s[0] = '{'; // in the place of the comma
    put_field(&l, "level", names[level]);
    put_field(&l, "msg", msg);
    if (request_id && *request_id) put_field(&l, "req", request_id);
    va_list ap;
    va_start(ap, msg);
    for (const char *name; (name = va_arg(ap, const char *));) put_field(&l, name, va_arg(ap, const char *));
    va_end(ap);
    l.s[l.len++] = '}';
    l.s[l.len++] = '\n';
    // A log that cannot be written is no reason to stop serving.
    if (write(STDERR_FILENO, l.s, l.len) < 0) return;
}
