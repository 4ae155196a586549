// Errors: one list of codes, one caller-owned record that carries the detail.
//
// Every function that can fail returns 0 or a negative YD_E_* and takes a `yd_err *` as its last parameter. Who detects the
// failure writes the message with yd_fail(); who passes it on stays silent. A NULL yd_err is allowed everywhere: the code
// still comes back, only the words are lost. Nothing here allocates, locks or exits; all functions may be called on any thread.
#ifndef YD_CORE_ERR_H
#define YD_CORE_ERR_H

#include <stddef.h>

//  X(name, value, slug for /problems/<slug>, HTTP status, retryable, title shown to clients)
#define YD_ERRORS(X)                                                                                                   \
    X(INVALID, 1, "invalid-request", 400, 0, "The request cannot be understood")                                       \
    X(SETTING, 2, "invalid-setting", 422, 0, "A setting is unknown or out of range")                                   \
    X(IMAGE, 3, "invalid-image", 422, 0, "The picture cannot be read")                                                 \
    X(IMAGE_FORMAT, 4, "unsupported-format", 415, 0, "The picture's format is not supported")                          \
    X(IMAGE_TOO_LARGE, 5, "image-too-large", 413, 0, "The picture has too many pixels")                                \
    X(IMAGE_TOO_SMALL, 6, "image-too-small", 422, 0, "The picture is too small")                                       \
    X(BODY_TOO_LARGE, 7, "body-too-large", 413, 0, "The request body is too large")                                    \
    X(NOT_FOUND, 8, "not-found", 404, 0, "There is nothing at this address")                                           \
    X(METHOD, 9, "method-not-allowed", 405, 0, "This address does not take that method")                               \
    X(GONE, 10, "gone", 410, 0, "The job has been deleted or has expired")                                             \
    X(NOT_READY, 11, "not-ready", 409, 1, "The job has not got that far yet")                                          \
    X(CONFLICT, 12, "conflict", 409, 0, "The job's state does not allow this")                                         \
    X(QUEUE_FULL, 13, "queue-full", 503, 1, "The queue is full")                                                       \
    X(DRAINING, 14, "draining", 503, 1, "The server is shutting down")                                                 \
    X(TIMEOUT, 15, "timeout", 408, 1, "The request did not arrive in time")                                            \
    X(LIMIT, 16, "too-many-requests", 429, 1, "Too many requests or connections from this client")                     \
    X(CANCELLED, 17, "cancelled", 409, 0, "The job was cancelled")                                                     \
    X(MEDIA_TYPE, 18, "unsupported-media-type", 415, 0, "The request's content type is not supported")                 \
    X(CHECKPOINT, 19, "invalid-checkpoint", 422, 0, "A model file cannot be used")                                     \
    X(CONFIG, 20, "invalid-config", 500, 0, "The configuration cannot be used")                                        \
    X(DEVICE, 21, "device-failed", 503, 1, "The compute device failed")                                                \
    X(NUMERIC, 22, "not-finite", 500, 0, "The computation produced NaN or Inf")                                        \
    X(NOMEM, 23, "out-of-memory", 503, 1, "Out of memory")                                                             \
    X(IO, 24, "io-error", 500, 1, "Reading or writing failed")                                                         \
    X(UNSUPPORTED, 25, "unsupported", 501, 0, "This build cannot do that")                                             \
    X(UNAUTHORIZED, 29, "unauthorized", 401, 0, "The request needs a key that is known")                            \
    X(FORBIDDEN, 30, "forbidden", 403, 0, "The key does not allow this")                                              \
    X(DEADLINE, 27, "deadline-exceeded", 504, 1, "The job could not be started before its deadline")                   \
    X(STORAGE, 28, "insufficient-storage", 507, 1, "There is no room to keep another job")                             \
    X(UPSTREAM, 40, "upstream-failed", 502, 1, "Another server did not do what the request needs of it")               \
    X(ADDRESS, 41, "address-refused", 422, 0, "The server does not connect to that address")                           \
    X(KEY_REUSED, 42, "idempotency-key-reused", 422, 0, "The Idempotency-Key was used for another request")             \
    X(NOT_ACCEPTABLE, 43, "not-acceptable", 406, 0, "The picture cannot be sent in any form that the request accepts")  \
    X(MODEL_ROOM, 44, "model-memory-full", 409, 1, "There is no memory for another model")                              \
    X(MODEL_AWAY, 45, "model-not-loaded", 503, 1, "The model is not loaded")                                            \
    X(STORE_AWAY, 46, "store-unavailable", 503, 1, "The shared store of jobs cannot be reached or written to")       \
    X(INTERNAL, 26, "internal-error", 500, 0, "An unexpected error")

enum {
    YD_OK = 0,
#define YD_ERR_ENUM(name, value, slug, status, retry, title) YD_E_##name = -(value),
    YD_ERRORS(YD_ERR_ENUM)
#undef YD_ERR_ENUM
};

// What went wrong, in words. `field` names the offending setting, key, tensor or header ("" when there is none);
// `accepted` says what would have been taken ("" when that is no help). All strings are NUL-terminated.
typedef struct yd_err {
    int code;
    char detail[384];
    char field[96];
    char accepted[256];
    long retry_ms; // when to come again, where who failed knows; 0: not said. yd_fail clears it
} yd_err;

typedef struct yd_err_info {
    int code;
    const char *name;  // "IMAGE_TOO_LARGE"
    const char *slug;  // "image-too-large"
    const char *title; // one sentence for clients
    int http_status;
    int retryable; // 1: the same request may succeed later
} yd_err_info;

// Describe a code. Never NULL: an unknown code is described as INTERNAL. Static storage.
const yd_err_info *yd_err_lookup(int code);

// Fill *e (when not NULL) with a printf-style detail and return `code`.
int yd_fail(yd_err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// The same, naming the field and what it accepts ("" or NULL for either when unknown).
int yd_fail_field(yd_err *e, int code, const char *field, const char *accepted, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

// Reset to "no error".
void yd_err_clear(yd_err *e);

#endif
