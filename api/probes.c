// What operators and their machines ask: liveness, readiness, metrics, capabilities. All answered from memory.
// livez says that the loop turns; readyz that a job would be taken, so it is the one for load balancers.
#include "api/handlers.h"
#include "api/respond.h"

#include <string.h>

void yd_handle_livez(yd_request *r)
{
    static char ok[] = "ok\n";
    yd_respond_text(r, 200, "text/plain; charset=utf-8", ok, sizeof ok - 1, 0);
}

void yd_handle_readyz(yd_request *r)
{
    static char ready[] = "ready\n", unready[] = "not ready\n";
    const int verbose = yd_request_arg(r, "verbose") != NULL;
    json_t *report = NULL;
    const int yes = yd_service_ready(r->service, verbose ? &report : NULL);
    const int status = yes ? 200 : 503;
    if (verbose) {
        yd_respond_json(r, status, report);
        return;
    }
    char *text = yes ? ready : unready;
    yd_respond_text(r, status, "text/plain; charset=utf-8", text, strlen(text), 0);
}

void yd_handle_metrics(yd_request *r)
{
    size_t len = 0;
    char *text = yd_service_metrics_text(r->service, &len);
    yd_respond_text(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, len, 1);
}

void yd_handle_capabilities(yd_request *r)
{
    yd_respond_json(r, 200, yd_service_capabilities(r->service));
}
