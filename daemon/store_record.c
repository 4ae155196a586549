// Records as a store carries them: copied, cleared, wrapped in operations, and written as one line of JSON.
//
// The line holds what is not searched for; its first member says which version of the form it is. Numbers are written with all their
// digits: a job that is taken up again must compute with the same settings to the bit.
#include "daemon/store_record.h"

#include "core/image.h"
#include "core/mem.h"
#include <string.h>

#define VERSION 1

static yd_blob **const no_blob = NULL;

yd_blob **yd_job_record_blob(yd_job_record *r, yd_record_file kind)
{
    switch (kind) {
    case YD_FILE_INPUT: return &r->input;
    case YD_FILE_RESULT: return &r->result;
    case YD_FILE_INVENTED: return &r->invented;
    case YD_FILE_ATTENTION: return &r->attention;
    case YD_FILE_ACTIVATION: return &r->activation;
    case YD_FILES: break;
    }
    return no_blob;
}

void yd_job_record_copy(yd_job_record *dst, const yd_job_record *src)
{
    *dst = *src;
    for (int i = 0; i < YD_FILES; i++) yd_blob_ref(*yd_job_record_blob(dst, (yd_record_file)i));
    yd_blob_ref(dst->events);
    yd_blob_ref(dst->errands);
}

void yd_job_record_clear(yd_job_record *r)
{
    for (int i = 0; i < YD_FILES; i++) yd_blob_unref(*yd_job_record_blob(r, (yd_record_file)i));
    yd_blob_unref(r->events);
    yd_blob_unref(r->errands);
    memset(r, 0, sizeof *r);
}

yd_store_op *yd_store_op_new(yd_store_op_kind kind, const yd_job_record *rec, void (*done)(yd_store_op *op), void *arg)
{
    yd_store_op *op = yd_calloc(1, sizeof *op);
    if (!op) return NULL;
    op->kind = kind;
    op->done = done;
    op->arg = arg;
    if (rec) yd_job_record_copy(&op->rec, rec);
    return op;
}

void yd_store_op_free(yd_store_op *op)
{
    if (!op) return;
    yd_job_record_clear(&op->rec);
    yd_free(op->doc);
    yd_free(op);
}

const char *yd_record_mime(const char *mime)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(k[i].mime, mime) == 0) return k[i].mime;
    return "application/octet-stream";
}

yd_blob *yd_record_placeholder(size_t len, const char *sha256)
{
    yd_blob *b = yd_blob_new(NULL, 0, "", 0);
    if (!b) return NULL;
    b->len = len;
    snprintf(b->sha256, sizeof b->sha256, "%s", sha256);
    return b;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

static json_t *sizes_json(const yd_job_record *r)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:s, s:i, s:i, s:i, s:i, s:i}", "in_w", r->in_w, "in_h", r->in_h, "in_depth", r->in_depth,
                     "in_pages", r->in_pages, "in_format", r->in_format, "grid_w", r->grid_w, "grid_h", r->grid_h, "out_w", r->out_w,
                     "out_h", r->out_h, "out_depth", r->out_depth);
}

static json_t *progress_json(const yd_job_progress *p)
{
    return json_pack("{s:i, s:i, s:I, s:I, s:I, s:f}", "step", p->step, "steps", p->steps, "done", (json_int_t)p->windows_done, "total",
                     (json_int_t)p->windows_total, "skipped", (json_int_t)p->windows_skipped, "share", p->diffused_share);
}

static json_t *timings_json(const yd_job_timings *t)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "wait", t->wait_ms, "prepare", t->prepare_ms, "compute", t->compute_ms, "encode",
                     t->encode_ms, "total", t->total_ms, "device", t->device_ms);
}

static json_t *account_json(const yd_invented *a)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:f}", "difference", a->difference_rms, "psnr", a->psnr_db, "contradicted", a->contradicted,
                     "detail", a->detail_rms, "changed", a->changed);
}

static json_t *problem_json(const yd_err *e)
{
    // Details may hold what a client sent: bytes that are no text are replaced before they get here or by dropping the words.
    json_t *o = json_pack("{s:i}", "code", e->code);
    if (!o) return NULL;
    json_object_set_new(o, "detail", yd_text_clean(e->detail));
    json_object_set_new(o, "field", yd_text_clean(e->field));
    json_object_set_new(o, "accepted", yd_text_clean(e->accepted));
    return o;
}

char *yd_job_record_print(const yd_job_record *r)
{
    json_t *o = json_pack("{s:i, s:s, s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:i, s:i, s:I}", "v", VERSION, "model", r->model, "fingerprint",
                          r->fingerprint, "created", (json_int_t)r->created_ms, "started", (json_int_t)r->started_ms, "settings",
                          yd_job_settings_save(&r->settings), "sizes", sizes_json(r), "progress", progress_json(&r->progress), "timings",
                          timings_json(&r->timings), "cached", r->cached, "resumed", r->resumed, "boot", (json_int_t)r->boot);
    if (!o) return NULL;
    int bad = 0;
    if (r->units) bad |= json_object_set_new(o, "units", json_integer(r->units));
    if (r->claims) bad |= json_object_set_new(o, "claims", json_integer(r->claims));
    if (r->cancel) bad |= json_object_set_new(o, "cancel", json_integer(r->cancel));
    if (r->fetching) bad |= json_object_set_new(o, "fetching", json_integer(r->fetching));
    if (*r->checksum) bad |= json_object_set_new(o, "checksum", json_string(r->checksum));
    if (*r->once) bad |= json_object_set_new(o, "once", json_string(r->once));
    if (*r->request) bad |= json_object_set_new(o, "request", json_string(r->request));
    if (r->problem.code) bad |= json_object_set_new(o, "problem", problem_json(&r->problem));
    if (r->invented) bad |= json_object_set_new(o, "account", account_json(&r->account));
    char *text = bad ? NULL : json_dumps(o, JSON_COMPACT), *copy = text ? yd_strdup(text) : NULL;
    free(text);
    json_decref(o);
    return copy;
}

static void take_text(char *dst, size_t cap, const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    if (s) snprintf(dst, cap, "%s", s);
}

static int64_t integer_at(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static double number_at(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void take_sizes(yd_job_record *r, const json_t *o)
{
    const struct {
        const char *key;
        int *to;
    } row[] = {{"in_w", &r->in_w},     {"in_h", &r->in_h},     {"in_depth", &r->in_depth}, {"in_pages", &r->in_pages}, {"grid_w", &r->grid_w},
               {"grid_h", &r->grid_h}, {"out_w", &r->out_w},   {"out_h", &r->out_h},       {"out_depth", &r->out_depth}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) *row[i].to = (int)integer_at(o, row[i].key);
    take_text(r->in_format, sizeof r->in_format, o, "in_format");
}

static void take_progress(yd_job_progress *p, const json_t *o)
{
    p->step = (int)integer_at(o, "step");
    p->steps = (int)integer_at(o, "steps");
    p->windows_done = (long)integer_at(o, "done");
    p->windows_total = (long)integer_at(o, "total");
    p->windows_skipped = (long)integer_at(o, "skipped");
    p->diffused_share = number_at(o, "share");
}

static void take_numbers(yd_job_record *r, const json_t *o)
{
    const json_t *t = json_object_get(o, "timings"), *a = json_object_get(o, "account");
    const struct {
        const json_t *from;
        const char *key;
        double *to;
    } row[] = {{t, "wait", &r->timings.wait_ms},        {t, "prepare", &r->timings.prepare_ms},
               {t, "compute", &r->timings.compute_ms},  {t, "encode", &r->timings.encode_ms},
               {t, "total", &r->timings.total_ms},      {t, "device", &r->timings.device_ms},
               {a, "difference", &r->account.difference_rms}, {a, "psnr", &r->account.psnr_db},
               {a, "contradicted", &r->account.contradicted}, {a, "detail", &r->account.detail_rms},
               {a, "changed", &r->account.changed}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) *row[i].to = number_at(row[i].from, row[i].key);
}

static void take_problem(yd_err *e, const json_t *o)
{
    e->code = (int)integer_at(o, "code");
    take_text(e->detail, sizeof e->detail, o, "detail");
    take_text(e->field, sizeof e->field, o, "field");
    take_text(e->accepted, sizeof e->accepted, o, "accepted");
}

int yd_job_record_parse(yd_job_record *r, const char *text, yd_err *err)
{
    json_t *o = json_loads(text, 0, NULL);
    const int64_t version = integer_at(o, "v");
    if (version != VERSION) {
        json_decref(o);
        return yd_fail(err, YD_E_IO, "the stored record of job %s is of version %lld, not %d", r->id, (long long)version, VERSION);
    }
    take_text(r->model, sizeof r->model, o, "model");
    take_text(r->checksum, sizeof r->checksum, o, "checksum");
    take_text(r->fingerprint, sizeof r->fingerprint, o, "fingerprint");
    take_text(r->once, sizeof r->once, o, "once");
    take_text(r->request, sizeof r->request, o, "request");
    r->created_ms = integer_at(o, "created");
    r->started_ms = integer_at(o, "started");
    r->cached = (int)integer_at(o, "cached");
    r->resumed = (int)integer_at(o, "resumed");
    r->boot = integer_at(o, "boot");
    r->units = (long)integer_at(o, "units");
    r->claims = integer_at(o, "claims");
    r->cancel = (int)integer_at(o, "cancel");
    r->fetching = (int)integer_at(o, "fetching");
    take_sizes(r, json_object_get(o, "sizes"));
    take_progress(&r->progress, json_object_get(o, "progress"));
    take_numbers(r, o);
    if (json_object_get(o, "problem")) take_problem(&r->problem, json_object_get(o, "problem"));
    int rc = yd_job_settings_load(&r->settings, json_object_get(o, "settings"), err);
    json_decref(o);
    return rc;
}
