// Conditional and partial requests: the parsing of Range and of entity tag lists (RFC 9110). Pure functions.
#ifndef YD_API_RANGE_H
#define YD_API_RANGE_H

#include <stdint.h>

typedef enum { YD_RANGE_WHOLE, YD_RANGE_PART, YD_RANGE_UNSATISFIABLE } yd_range_kind;

// Judge a Range header (NULL is fine) against `size` bytes. PART sets first <= last < size. Several ranges, other units and malformed
// headers ask for the whole, as the RFC allows.
yd_range_kind yd_range_parse(const char *header, uint64_t size, uint64_t *first, uint64_t *last);

// 1 when an If-None-Match list (NULL is fine) names the tag or "*". `etag` with its quotes; weak comparison.
int yd_etag_listed(const char *header, const char *etag);

#endif
