// The finished picture as an answer; for the handlers of /result and of /v1/upscale.
#ifndef YD_API_RESULT_H
#define YD_API_RESULT_H

#include "api/request.h"

// Answer with the job's picture (conditional and partial requests included), or with the reason why there is none.
void yd_answer_result(yd_request *r, yd_job *j, int attachment);

// What files of this type are called: the usual endings ("jpg jpeg"). Static text.
const char *yd_extension_of(const char *mime);

#endif
