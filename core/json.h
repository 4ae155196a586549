// A small JSON reader for model files: configs and safetensors headers, without a library, so that core + gpu + tests build bare.
//
// Strict RFC 8259 (UTF-8 checked, duplicate keys refused, nesting <= 32, no trailing text), plus one option for the public SR3
// configs: `//` comments. The text is parsed once into an array of nodes in document order; nothing is copied except strings with
// escapes. No recursion. Services that speak JSON to clients use jansson instead.
#ifndef YD_CORE_JSON_H
#define YD_CORE_JSON_H

#include "core/err.h"
#include <stddef.h>

typedef struct yd_json yd_json;
typedef enum { YD_J_NULL, YD_J_FALSE, YD_J_TRUE, YD_J_NUMBER, YD_J_STRING, YD_J_ARRAY, YD_J_OBJECT } yd_json_type;
typedef int yd_jid; // node index; 0 is the root, -1 is "absent" and is accepted by every accessor

#define YD_JSON_COMMENTS 1

// Parse len bytes (not necessarily NUL-terminated; copied). YD_E_INVALID with line and column. Free with yd_json_free.
int yd_json_parse(const char *text, size_t len, int flags, yd_json **out, yd_err *err);
void yd_json_free(yd_json *j);

yd_json_type yd_json_type_of(const yd_json *j, yd_jid n); // YD_J_NULL for -1
yd_jid yd_json_get(const yd_json *j, yd_jid obj, const char *key);
// Walk children of an array or object: first = yd_json_first(j, n), then yd_json_next; -1 at the end. For members, key is set (or NULL).
yd_jid yd_json_first(const yd_json *j, yd_jid n);
yd_jid yd_json_next(const yd_json *j, yd_jid n);
int yd_json_count(const yd_json *j, yd_jid n);
const char *yd_json_key(const yd_json *j, yd_jid member); // key of an object's member, NULL in arrays
const char *yd_json_string(const yd_json *j, yd_jid n);   // NULL unless a string
double yd_json_number(const yd_json *j, yd_jid n, double fallback);
// An integer in [lo, hi]; 0 and *out, or -1 when absent, no number, no integer or out of range. Plain digits are exact over the whole
// range of long long; 2.0 and 1e3 are integers too, below 2^53.
int yd_json_integer(const yd_json *j, yd_jid n, long long lo, long long hi, long long *out);

// Escape s as a JSON string with quotes into dst (cap bytes, NUL-terminated). Length that was needed (as snprintf).
size_t yd_json_quote(char *dst, size_t cap, const char *s);

#endif
