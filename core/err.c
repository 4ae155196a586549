// The error list made callable: look-up by code, and the two functions that fill a yd_err.
// Owns nothing, allocates nothing, safe on every thread. Messages that do not fit are cut, never overrun.
#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const yd_err_info table[] = {
#define YD_ERR_ROW(name, value, slug, status, retry, title) {-(value), #name, slug, title, status, retry},
    YD_ERRORS(YD_ERR_ROW)
#undef YD_ERR_ROW
};

const yd_err_info *yd_err_lookup(int code)
{
    const size_t n = sizeof table / sizeof table[0];
    for (size_t i = 0; i < n; i++)
        if (table[i].code == code) return &table[i];
    return &table[n - 1];
}

static void fill(yd_err *e, int code, const char *field, const char *accepted, const char *fmt, va_list ap)
{
    if (!e) return;
    e->code = code;
    e->retry_ms = 0;
    snprintf(e->field, sizeof e->field, "%s", field ? field : "");
    snprintf(e->accepted, sizeof e->accepted, "%s", accepted ? accepted : "");
    vsnprintf(e->detail, sizeof e->detail, fmt, ap);
}

int yd_fail(yd_err *e, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(e, code, NULL, NULL, fmt, ap);
    va_end(ap);
    return code;
}

int yd_fail_field(yd_err *e, int code, const char *field, const char *accepted, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fill(e, code, field, accepted, fmt, ap);
    va_end(ap);
    return code;
}

void yd_err_clear(yd_err *e)
{
    if (e) memset(e, 0, sizeof *e);
}
