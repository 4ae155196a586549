// The files that are part of the program: the page and the API's description. The assembler puts them into the binary, so there is
// nothing to install and nothing to find at run time. Paths are relative to the project's root, where the compiler runs.
#include "api/handlers.h"
#include "api/range.h"
#include "api/respond.h"

#include <stdio.h>

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

// The page talks to its own origin only, and nothing may frame it.
static const char page_policy[] =
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

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
        if (policy) yd_header(resp, "Content-Security-Policy", policy);
    }
    yd_respond(r, known ? 304 : 200, resp, len);
}

void yd_handle_page(yd_request *r)
{
    answer(r, "text/html; charset=utf-8", yd_asset_page, yd_asset_page_end, page_policy);
}

void yd_handle_openapi(yd_request *r)
{
    answer(r, "application/json", yd_asset_openapi, yd_asset_openapi_end, NULL);
}
