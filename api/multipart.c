// multipart/form-data: the form that browsers and `curl -F image=@photo.jpg` send, with one picture or with several.
// libmicrohttpd's post processor splits the parts, fed with the complete body; each picture is copied out of it once.
// Threads: the loop's. More `image` parts than the request takes are refused by name.
#include "api/submission.h"

#include "core/mem.h"
#include "daemon/text.h"

#include <stdio.h>
#include <string.h>

#define PART_BUFFER    4096
#define SETTINGS_BYTES 65536 // of the JSON part
#define ACCEPTED_PARTS "parts named `image`, at most one part `settings` (JSON)"
#define ONE_PART       "one part `image`, at most one part `settings` (JSON)"

typedef struct parts {
    yd_intake *in;
    char *settings;
    size_t settings_len;
    yd_err *err;
    int rc;
} parts;

// What the client calls the picture, without folders and what no file's name should have; something when there is nothing of it.
static void take_name(yd_upload *up, const char *given, size_t index)
{
    const char *name = given ? given : "";
    size_t n = 0;
    for (const char *p = name; *p; p++)
        if (*p == '/' || *p == '\\') name = p + 1;
    while (*name == '.') name++;
    for (size_t k; *name && n + 4 < sizeof up->name; name += k) {
        k = yd_text_utf8_length(name);
        const int plain = k > 1 || (k == 1 && *name >= ' ' && *name != 127 && !strchr("<>:\"|?*", *name));
        if (plain) memcpy(up->name + n, name, k);
        if (plain) n += k;
        if (!k) k = 1;
    }
    up->name[n] = '\0';
    if (!n) snprintf(up->name, sizeof up->name, "image-%zu", index + 1);
}

static int begin_picture(parts *p, const char *filename)
{
    yd_intake *in = p->in;
    const size_t max = in->max_uploads ? in->max_uploads : 1;
    if (in->n_uploads == max) {
        char accepted[96];
        snprintf(accepted, sizeof accepted, "at most %zu parts `image`", max);
        return max == 1 ? yd_fail_field(p->err, YD_E_INVALID, "image", ONE_PART, "more than one picture in one request")
                        : yd_fail_field(p->err, YD_E_INVALID, "image", accepted, "more than %zu pictures in one request", max);
    }
    yd_upload *more = yd_realloc(in->uploads, (in->n_uploads + 1) * sizeof *more);
    if (!more) return yd_fail(p->err, YD_E_NOMEM, "no memory for the pictures");
    in->uploads = more;
    more[in->n_uploads] = (yd_upload){0};
    take_name(&more[in->n_uploads], filename, in->n_uploads);
    in->n_uploads++;
    return 0;
}

static int add_picture(parts *p, const char *filename, const char *data, uint64_t offset, size_t n)
{
    int rc = offset == 0 ? begin_picture(p, filename) : 0;
    if (rc) return rc;
    yd_upload *up = &p->in->uploads[p->in->n_uploads - 1];
    if (n > up->cap - up->len) {
        size_t cap = up->cap ? up->cap : 4 * PART_BUFFER;
        while (cap - up->len < n) cap *= 2; // no part is longer than the body
        uint8_t *bytes = yd_realloc(up->bytes, cap);
        if (!bytes) return yd_fail(p->err, YD_E_NOMEM, "no memory for the picture");
        up->bytes = bytes;
        up->cap = cap;
    }
    if (n) memcpy(up->bytes + up->len, data, n);
    up->len += n;
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
    (void)type;
    (void)encoding;
    parts *p = cls;
    if (key && !strcmp(key, "image"))
        p->rc = add_picture(p, filename, data, offset, n);
    else if (key && !strcmp(key, "settings"))
        p->rc = add_settings(p, data, n);
    else
        p->rc = yd_fail_field(p->err, YD_E_INVALID, key ? key : "", ACCEPTED_PARTS,
                              "the form has a part that is not known");
    return p->rc ? MHD_NO : MHD_YES;
}

int yd_intake_multipart(yd_intake *in, yd_request *r, const char *text, size_t len, yd_err *err)
{
    parts p = {.in = in, .err = err};
    struct MHD_PostProcessor *pp = MHD_create_post_processor(r->mhd, PART_BUFFER, on_part, &p);
    if (!pp)
        return yd_fail_field(err, YD_E_INVALID, "Content-Type", "multipart/form-data; boundary=...",
                             "the form has no boundary");
    const int fed = MHD_post_process(pp, text, len) == MHD_YES;
    const int ended = MHD_destroy_post_processor(pp) == MHD_YES;
    if (!p.rc && (!fed || !ended)) p.rc = yd_fail(err, YD_E_INVALID, "the form is malformed or cut short");
    if (!p.rc && !in->n_uploads)
        p.rc = yd_fail_field(err, YD_E_INVALID, "image", ACCEPTED_PARTS, "the form has no part named image");
    if (!p.rc && p.settings) p.rc = yd_intake_json(in, p.settings, p.settings_len, 0, err);
    yd_free(p.settings);
    return p.rc;
}
