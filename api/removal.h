// Answering a DELETE: 204 when the store has forgotten what was asked to be forgotten. Threads: the loop's.
#ifndef YD_API_REMOVAL_H
#define YD_API_REMOVAL_H

#include "api/request.h"
#include "daemon/service.h"

// Begin to forget `what`; as yd_service_delete: fn is called once, later, unless the return value is negative.
typedef int yd_removal_start(yd_service *s, void *what, yd_removed_fn fn, void *arg, yd_err *err);

// Begin, and answer the request when it is done. What has gone already (YD_E_GONE) is no error: the wish is fulfilled.
void yd_removal_answer(yd_request *r, yd_removal_start *start, void *what);

#endif
