// The body of a request: bounded, counted, in one growing buffer.
#ifndef YD_API_BODY_H
#define YD_API_BODY_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

struct yd_request;

typedef struct yd_body {
    uint8_t *bytes;
    size_t len, cap;
    size_t announced; // Content-Length; 0 when absent
    int present;      // the head says that there is one
} yd_body;

// Judge the head: framing that two parsers could read differently (YD_E_INVALID), size (YD_E_BODY_TOO_LARGE), encoding and type
// (YD_E_MEDIA_TYPE). Sets announced and present.
int yd_body_begin(struct yd_request *r, yd_err *err);
// Append what arrived. YD_E_BODY_TOO_LARGE, YD_E_QUEUE_FULL when all uploads together are too much, YD_E_NOMEM.
int yd_body_append(struct yd_request *r, const char *data, size_t n, yd_err *err);
// Hand the buffer to the caller (yd_free).
uint8_t *yd_body_take(struct yd_request *r, size_t *len);
void yd_body_clear(struct yd_request *r);

#endif
