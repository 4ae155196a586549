// The files that are part of the program: the page and the API's description. The assembler puts them into the binary, so there is
// nothing to install and nothing to find at run time. Paths are relative to the project's root, where the compiler runs.
#include "api/handlers.h"
#include "api/range.h"
#include "api/respond.h"

#include <stdio.h>
#include <string.h>

// Symbols NAME and NAME_end around the bytes of a file.
#define EMBED(name, path)                                                                                              \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".global " #name "\n.hidden " #name "\n" #name ":\n.incbin \"" path "\"\n"                                 \
            ".global " #name "_end\n.hidden " #name "_end\n" #name "_end:\n"                                           \
            ".byte 0\n.popsection\n");                                                                                 \
    extern const char name[] __attribute__((visibility("hidden")));                                                    \
    extern const char name##_end[] __attribute__((visibility("hidden")))

EMBED(yd_asset_page, "api/web/index.html");
EMBED(yd_asset_openapi, "api/openapi.json");
EMBED(yd_asset_style, "api/web/style.css");
EMBED(yd_asset_icon, "api/web/icon.svg");
EMBED(yd_asset_theme, "api/web/theme.js");
EMBED(yd_asset_app, "api/web/app.js");
EMBED(yd_asset_client, "api/web/yoda-client.js");
EMBED(yd_asset_jobs, "api/web/jobs.js");
EMBED(yd_asset_panel, "api/web/panel.js");
EMBED(yd_asset_paint, "api/web/paint.js");
EMBED(yd_asset_settings, "api/web/settings.js");
EMBED(yd_asset_sources, "api/web/sources.js");
EMBED(yd_asset_viewer, "api/web/viewer.js");

static const struct {
    const char *name, *type, *from, *end;
} web_files[] = {
#define WEB_FILE(name, type, symbol) {name, type, symbol, symbol##_end}
    WEB_FILE("app.js", "text/javascript; charset=utf-8", yd_asset_app),
    WEB_FILE("icon.svg", "image/svg+xml", yd_asset_icon),
    WEB_FILE("jobs.js", "text/javascript; charset=utf-8", yd_asset_jobs),
    WEB_FILE("paint.js", "text/javascript; charset=utf-8", yd_asset_paint),
    WEB_FILE("panel.js", "text/javascript; charset=utf-8", yd_asset_panel),
    WEB_FILE("settings.js", "text/javascript; charset=utf-8", yd_asset_settings),
    WEB_FILE("sources.js", "text/javascript; charset=utf-8", yd_asset_sources),
    WEB_FILE("style.css", "text/css; charset=utf-8", yd_asset_style),
    WEB_FILE("theme.js", "text/javascript; charset=utf-8", yd_asset_theme),
    WEB_FILE("viewer.js", "text/javascript; charset=utf-8", yd_asset_viewer),
    WEB_FILE("yoda-client.js", "text/javascript; charset=utf-8", yd_asset_client),
#undef WEB_FILE
};

// The page talks to its own origin only, runs no script and no style but the files above, and nothing may frame it.
static const char page_policy[] = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
                                  "form-action 'none'; frame-ancestors 'none'";

static uint64_t fnv1a(const char *p, const char *end)
{
    uint64_t h = 0xcbf29ce484222325u;
    while (p < end) h = (h ^ (unsigned char)*p++) * 0x100000001b3u;
    return h;
}

static void answer(yd_request *r, const char *type, const char *from, const char *end, const char *policy)
{
    char etag[24];
    snprintf(etag, sizeof etag, "\"%016llx\"", (unsigned long long)fnv1a(from, end));
    const int known = yd_etag_listed(yd_request_header(r, "If-None-Match"), etag);
    const size_t len = known ? 0 : (size_t)(end - from);
    struct MHD_Response *resp = MHD_create_response_from_buffer(len, (void *)(uintptr_t)from, MHD_RESPMEM_PERSISTENT);
    if (resp) {
        yd_header(resp, "Content-Type", type);
        yd_header(resp, "ETag", etag);
        yd_header(resp, "Cache-Control", "no-cache");
        if (policy) {
            yd_header(resp, "Content-Security-Policy", policy);
            yd_header(resp, "Referrer-Policy", "no-referrer");
        }
    }
    yd_respond(r, known ? 304 : 200, resp, len);
}

void yd_handle_page(yd_request *r)
{
    answer(r, "text/html; charset=utf-8", yd_asset_page, yd_asset_page_end, page_policy);
}

void yd_handle_web_file(yd_request *r)
{
    for (size_t i = 0; i < sizeof web_files / sizeof web_files[0]; i++) {
        if (strcmp(web_files[i].name, r->match.param) != 0) continue;
        answer(r, web_files[i].type, web_files[i].from, web_files[i].end, page_policy);
        return;
    }
    yd_err err = {0};
    yd_fail(&err, YD_E_NOT_FOUND, "the page has no such file");
    yd_respond_problem(r, &err);
}

void yd_handle_openapi(yd_request *r)
{
    answer(r, "application/json", yd_asset_openapi, yd_asset_openapi_end, NULL);
}
