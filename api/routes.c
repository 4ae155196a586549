// Every address of the API. /openapi.json documents the same list; tests/api holds the two against each other.
#include "api/handlers.h"
#include "api/router.h"
#include "core/keys.h"

const yd_route yd_routes[] = {
    {.method = YD_POST, .pattern = "/v1/jobs", .handle = yd_handle_jobs_post, .body = YD_BODY_PICTURE, .scope = YD_SCOPE_SUBMIT},
    {.method = YD_GET, .pattern = "/v1/jobs", .handle = yd_handle_jobs_list, .args = "state limit cursor", .scope = YD_SCOPE_READ, .stored = 1},
    {.method = YD_PUT, .pattern = "/v1/jobs/{id}", .handle = yd_handle_job_put, .body = YD_BODY_PICTURE, .scope = YD_SCOPE_SUBMIT},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}", .handle = yd_handle_job_get, .args = "wait", .scope = YD_SCOPE_READ, .stored = 1},
    {.method = YD_DELETE, .pattern = "/v1/jobs/{id}", .handle = yd_handle_job_delete, .args = "", .scope = YD_SCOPE_SUBMIT, .stored = 1},
    {.method = YD_POST, .pattern = "/v1/jobs/{id}/cancel", .handle = yd_handle_job_cancel, .args = "", .scope = YD_SCOPE_SUBMIT, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}/events", .handle = yd_handle_events, .args = "inline last_event_id", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}/result", .handle = yd_handle_result, .args = "download", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}/preview", .handle = yd_handle_preview, .args = "max_side", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}/attention", .handle = yd_handle_attention, .args = "", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}/invented", .handle = yd_handle_invented, .args = "", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/jobs/{id}/mask", .handle = yd_handle_mask, .args = "step", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_POST, .pattern = "/v1/batches", .handle = yd_handle_batches_post, .body = YD_BODY_PICTURE, .scope = YD_SCOPE_SUBMIT},
    {.method = YD_GET, .pattern = "/v1/batches", .handle = yd_handle_batches_list, .args = "limit cursor", .scope = YD_SCOPE_READ, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/batches/{id}", .handle = yd_handle_batch_get, .args = "wait", .scope = YD_SCOPE_READ, .stored = 1},
    {.method = YD_DELETE, .pattern = "/v1/batches/{id}", .handle = yd_handle_batch_delete, .args = "", .scope = YD_SCOPE_SUBMIT, .stored = 1},
    {.method = YD_POST, .pattern = "/v1/batches/{id}/cancel", .handle = yd_handle_batch_cancel, .args = "", .scope = YD_SCOPE_SUBMIT, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/batches/{id}/archive", .handle = yd_handle_batch_archive, .args = "", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/events", .handle = yd_handle_events_all, .args = "jobs previews inline last_event_id", .scope = YD_SCOPE_READ, .token = 1, .stored = 1},
    {.method = YD_POST, .pattern = "/v1/upscale", .handle = yd_handle_upscale, .body = YD_BODY_PICTURE, .scope = YD_SCOPE_SUBMIT},
    {.method = YD_POST, .pattern = "/v1/tokens", .handle = yd_handle_tokens_post, .args = "job jobs ttl_s", .scope = YD_SCOPE_READ, .stored = 1},
    {.method = YD_GET, .pattern = "/v1/models", .handle = yd_handle_models, .args = "", .scope = YD_SCOPE_READ},
    {.method = YD_GET, .pattern = "/v1/models/{name}", .handle = yd_handle_model_get, .args = "", .scope = YD_SCOPE_READ},
    {.method = YD_POST, .pattern = "/v1/models/{name}/load", .handle = yd_handle_model_load, .args = "wait", .scope = YD_SCOPE_ADMIN},
    {.method = YD_POST, .pattern = "/v1/models/{name}/unload", .handle = yd_handle_model_unload, .args = "wait", .scope = YD_SCOPE_ADMIN},
    {.method = YD_GET, .pattern = "/v1/capabilities", .handle = yd_handle_capabilities, .args = "", .scope = YD_SCOPE_READ},
    {.method = YD_GET, .pattern = "/livez", .handle = yd_handle_livez, .args = "verbose", .quiet = 1},
    {.method = YD_GET, .pattern = "/readyz", .handle = yd_handle_readyz, .args = "verbose", .quiet = 1},
    {.method = YD_GET, .pattern = "/metrics", .handle = yd_handle_metrics, .args = "", .quiet = 1, .scope = YD_SCOPE_METRICS},
    {.method = YD_GET, .pattern = "/openapi.json", .handle = yd_handle_openapi, .args = ""},
    {.method = YD_GET, .pattern = "/", .handle = yd_handle_page},
    {.method = YD_GET, .pattern = "/web/{file}", .handle = yd_handle_web_file},
};
const size_t yd_routes_count = sizeof yd_routes / sizeof yd_routes[0];
