// Batches: several pictures in one form, each a job of its own.
#ifndef YD_API_BATCHES_H
#define YD_API_BATCHES_H

#include "api/submission.h"

// Answer a form with pictures: a batch of them all, or with one_alone a form of one picture as a submission of that, `then` as in
// yd_submit_request.
void yd_batch_request(yd_request *r, int one_alone, void (*then)(yd_request *r, yd_job *j));

#endif
