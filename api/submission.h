// From a request to a job: the picture and the settings, in whichever wrapping the client chose.
#ifndef YD_API_SUBMISSION_H
#define YD_API_SUBMISSION_H

#include "api/request.h"
#include <jansson.h>

#define YD_SETTINGS_MAX 48

#define YD_NAME_MAX 128

typedef struct yd_upload {
    uint8_t *bytes; // yd_malloc'ed; NULL: empty, or taken
    size_t len, cap;
    char name[YD_NAME_MAX]; // of its file
} yd_upload;

// What was read. Settings given twice are refused, in whatever part they were given.
typedef struct yd_intake {
    uint8_t *picture; // bare or from JSON, yd_malloc'ed
    size_t len;
    yd_setting settings[YD_SETTINGS_MAX]; // names and values yd_malloc'ed
    size_t n_settings;
    size_t max_uploads;  // pictures that a form may have; 0: one
    yd_upload *uploads;
    size_t n_uploads;
    json_t *errands; // with other servers: "input", "result", "webhook" as the client wrote them; NULL: none
} yd_intake;

// Whether the request may be repeated: it has an Idempotency-Key, or is a PUT.
int yd_submit_repeatable(const yd_request *r);
// Read the request's query and body, submit, and wait until the job is stored; then call `then` with it (borrowed, as from
// yd_service_find). What is wrong is answered. A client that leaves before the job is stored leaves none; cancel_if_gone: nor afterwards,
// until `then` is called. Neither where it may be repeated: the client is expected back. r->repeated: the job was there before.
void yd_submit_request(yd_request *r, int cancel_if_gone, void (*then)(yd_request *r, yd_job *j));

// Parts of the above.
int yd_intake_read(yd_intake *in, yd_request *r, yd_err *err); // query and body
// Submit what was read, of one picture; in is cleared.
void yd_submit_intake(yd_request *r, yd_intake *in, int cancel_if_gone, void (*then)(yd_request *r, yd_job *j));
int yd_intake_add(yd_intake *in, const char *name, size_t name_len, const char *value, size_t value_len, yd_err *err);
// {"image": {"base64": "..."}, NAME: VALUE, ...}, or "input": {"url": "..."} for the picture; need_image 0: settings only. text need not be terminated.
int yd_intake_json(yd_intake *in, const char *text, size_t len, int need_image, yd_err *err);
// multipart/form-data: parts `image`, at most one part `settings` (JSON).
int yd_intake_multipart(yd_intake *in, yd_request *r, const char *text, size_t len, yd_err *err);
void yd_intake_clear(yd_intake *in);

#endif
