// What the analyzers cannot see, because they read one file at a time: a failure that is reported returns the code it was given.
// Included before every source while it is analysed, never compiled into anything.
#ifndef ANALYZE_FACTS_H
#define ANALYZE_FACTS_H

#include "core/err.h"

#define yd_fail(e, code, ...)              (yd_fail((e), (code), __VA_ARGS__), (code))
#define yd_fail_field(e, code, field, ...) (yd_fail_field((e), (code), (field), __VA_ARGS__), (code))

#endif
