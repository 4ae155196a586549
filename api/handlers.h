// The handlers behind the route table, one resource per file. Each answers, or suspends, the request it is given (request.h).
#ifndef YD_API_HANDLERS_H
#define YD_API_HANDLERS_H

#include "api/request.h"

void yd_handle_jobs_post(yd_request *r);    // jobs.c
void yd_handle_job_put(yd_request *r);      // jobs.c
void yd_handle_jobs_list(yd_request *r);    // jobs.c
void yd_handle_job_get(yd_request *r);      // job.c
void yd_handle_job_delete(yd_request *r);   // job.c
void yd_handle_job_cancel(yd_request *r);   // job.c
void yd_handle_batches_post(yd_request *r); // batches.c
void yd_handle_batches_list(yd_request *r); // batches.c
void yd_handle_batch_get(yd_request *r);    // batches.c
void yd_handle_batch_cancel(yd_request *r); // batches.c
void yd_handle_batch_delete(yd_request *r); // batches.c
void yd_handle_batch_archive(yd_request *r); // archive.c
void yd_handle_upscale(yd_request *r);      // upscale.c
void yd_handle_events(yd_request *r);       // event_stream.c
void yd_handle_events_all(yd_request *r);   // feed_stream.c
void yd_handle_result(yd_request *r);       // result.c
void yd_handle_preview(yd_request *r);      // pictures.c
void yd_handle_attention(yd_request *r);    // pictures.c
void yd_handle_invented(yd_request *r);     // pictures.c
void yd_handle_mask(yd_request *r);         // pictures.c
void yd_handle_livez(yd_request *r);        // probes.c
void yd_handle_readyz(yd_request *r);       // probes.c
void yd_handle_metrics(yd_request *r);      // probes.c
void yd_handle_tokens_post(yd_request *r);  // access.c
void yd_handle_models(yd_request *r);       // models.c
void yd_handle_model_get(yd_request *r);    // models.c
void yd_handle_model_load(yd_request *r);   // models.c
void yd_handle_model_unload(yd_request *r); // models.c
void yd_handle_capabilities(yd_request *r); // probes.c
void yd_handle_page(yd_request *r);         // assets.c
void yd_handle_web_file(yd_request *r);     // assets.c
void yd_handle_openapi(yd_request *r);      // assets.c

#endif
