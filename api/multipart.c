// multipart/form-data with one picture: the form that browsers and `curl -F image=@photo.jpg` send.
// libmicrohttpd's post processor splits the parts, fed with the complete body; the picture is copied out of it once.
// Threads: the loop's. Several `image` parts are refused by name: one request makes one job.
#include "api/submission.h"

#include "core/mem.h"

#include <string.h>

#define PART_BUFFER    4096
#define SETTINGS_BYTES 65536 // of the JSON part
#define ACCEPTED_PARTS "one part `image`, at most one part `settings` (JSON)"

typedef struct parts {
    yd_intake *in;
    size_t picture_cap; // no part is longer than the body
    int pictures;
    char *settings;
    size_t settings_len;
    yd_err *err;
    int rc;
} parts;

static int add_picture(parts *p, const char *data, uint64_t offset, size_t n)
{
    if (offset == 0 && ++p->pictures > 1)
        return yd_fail_field(p->err, YD_E_INVALID, "image", ACCEPTED_PARTS, "more than one picture in one request");
    if (!p->in->picture) p->in->picture = yd_malloc(p->picture_cap);
    if (!p->in->picture) return yd_fail(p->err, YD_E_NOMEM, "no memory for the picture");
    if (n > p->picture_cap - p->in->len) return yd_fail(p->err, YD_E_INVALID, "the form is malformed");
    memcpy(p->in->picture + p->in->len, data, n);
    p->in->len += n;
    return 0;
}

static int add_settings(parts *p, const char *data, size_t n)
{
    if (n > SETTINGS_BYTES - p->settings_len)
        return yd_fail_field(p->err, YD_E_INVALID, "settings", "at most 64 KiB of JSON", "the part is too large");
    if (!p->settings) p->settings = yd_malloc(SETTINGS_BYTES);
    if (!p->settings) return yd_fail(p->err, YD_E_NOMEM, "no memory for the settings");
    memcpy(p->settings + p->settings_len, data, n);
    p->settings_len += n;
    return 0;
}

static enum MHD_Result on_part(void *cls, enum MHD_ValueKind kind, const char *key, const char *filename,
                               const char *type, const char *encoding, const char *data, uint64_t offset, size_t n)
{
    (void)kind;
    (void)filename;
    (void)type;
    (void)encoding;
    parts *p = cls;
    if (key && !strcmp(key, "image"))
        p->rc = add_picture(p, data, offset, n);
    else if (key && !strcmp(key, "settings"))
        p->rc = add_settings(p, data, n);
    else
        p->rc = yd_fail_field(p->err, YD_E_INVALID, key ? key : "", ACCEPTED_PARTS,
                              "the form has a part that is not known");
    return p->rc ? MHD_NO : MHD_YES;
}

int yd_intake_multipart(yd_intake *in, yd_request *r, const char *text, size_t len, yd_err *err)
{
    parts p = {.in = in, .picture_cap = len, .err = err};
    struct MHD_PostProcessor *pp = MHD_create_post_processor(r->mhd, PART_BUFFER, on_part, &p);
    if (!pp)
        return yd_fail_field(err, YD_E_INVALID, "Content-Type", "multipart/form-data; boundary=...",
                             "the form has no boundary");
    const int fed = MHD_post_process(pp, text, len) == MHD_YES;
    const int ended = MHD_destroy_post_processor(pp) == MHD_YES;
    if (!p.rc && (!fed || !ended)) p.rc = yd_fail(err, YD_E_INVALID, "the form is malformed or cut short");
    if (!p.rc && !p.pictures)
        p.rc = yd_fail_field(err, YD_E_INVALID, "image", ACCEPTED_PARTS, "the form has no part named image");
    if (!p.rc && p.settings) p.rc = yd_intake_json(in, p.settings, p.settings_len, 0, err);
    yd_free(p.settings);
    return p.rc;
}
