// Entries of a shared log as JSON: see store_entry.h. Threads: any, on different operations.
#include "daemon/store_entry.h"

#include "core/mem.h"
#include <jansson.h>
#include <string.h>

static const char *const kind_name[] = {
    [YD_OP_PUT] = "put",     [YD_OP_UPDATE] = "update", [YD_OP_ATTACH] = "attach",         [YD_OP_NOTE] = "note",
    [YD_OP_CLAIM] = "claim", [YD_OP_REMOVE] = "remove", [YD_OP_EXPIRE] = "expire",         [YD_OP_BUNDLE_PUT] = "batch-put",
    [YD_OP_BUNDLE_REMOVE] = "batch-remove", [YD_OP_CANCEL] = "cancel"};
#define KINDS (sizeof kind_name / sizeof kind_name[0])

// ---- print ---------------------------------------------------------------------------------------------------------

// Text that is no UTF-8 is none that was written here; what there is of it is kept.
static json_t *text_json(const yd_blob *b)
{
    json_t *o = json_stringn((const char *)b->bytes, b->len);
    char *copy = o ? NULL : yd_calloc(1, b->len + 1);
    if (!copy) return o;
    memcpy(copy, b->bytes, b->len);
    o = yd_text_clean(copy);
    yd_free(copy);
    return o;
}

static int add_files(json_t *rec, yd_job_record *r, yd_entry_names names)
{
    json_t *files = json_array();
    int bad = !files;
    for (int i = 0; i < YD_FILES; i++) {
        const yd_blob *b = *yd_job_record_blob(r, (yd_record_file)i);
        if (!b) continue;
        bad |= json_array_append_new(files, json_pack("[i,s,I,s,i,i]", i, names ? names[i] : b->sha256, (json_int_t)b->len,
                                                      b->mime ? b->mime : "", b->width, b->height));
    }
    return bad | json_object_set_new(rec, "files", files);
}

// all 0: only what a NOTE says.
static json_t *record_json(yd_job_record *r, int all, yd_entry_names names)
{
    json_t *o = json_pack("{s:s, s:i}", "id", r->id, "due", r->due);
    int bad = !o;
    if (r->errands) bad |= json_object_set_new(o, "errands", text_json(r->errands));
    char *doc = all ? yd_job_record_print(r) : NULL;
    if (all && !bad) {
        bad |= !doc || json_object_set_new(o, "doc", json_string(doc));
        json_t *columns = json_pack("{s:s, s:i, s:I, s:I, s:I, s:s, s:i}", "owner", r->owner, "state", (int)r->state, "finished",
                                    (json_int_t)r->finished_ms, "bytes", (json_int_t)r->bytes, "order", (json_int_t)r->order, "key", r->key,
                                    "attempts", r->attempts);
        bad |= !columns || json_object_update(o, columns) || add_files(o, r, names);
        if (r->events) bad |= json_object_set_new(o, "events", text_json(r->events));
        json_decref(columns);
    }
    yd_free(doc);
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

// Takes o.
static char *print(json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL, *copy = text ? yd_strdup(text) : NULL;
    free(text);
    json_decref(o);
    return copy;
}

static int has_record(const yd_store_op *op)
{
    return op->kind == YD_OP_PUT || op->kind == YD_OP_UPDATE || op->kind == YD_OP_CANCEL || op->kind == YD_OP_ATTACH;
}

char *yd_entry_print_op(yd_store_op *op, int64_t replica, uint64_t number, yd_entry_names names)
{
    const yd_store_limits *lim = &op->limits;
    json_t *o = json_pack("{s:I, s:I, s:s, s:I}", "r", (json_int_t)replica, "n", (json_int_t)number, "k", kind_name[op->kind], "t",
                          (json_int_t)op->now_ms);
    int bad = !o;
    if (op->kind == YD_OP_EXPIRE)
        bad |= json_object_set_new(o, "limits", json_pack("[I,I,I,I]", (json_int_t)lim->job_ttl_ms, (json_int_t)lim->tombstone_ttl_ms,
                                                          (json_int_t)lim->max_finished_jobs, (json_int_t)lim->max_finished_bytes));
    else if (has_record(op) || op->kind == YD_OP_NOTE)
        bad |= json_object_set_new(o, "rec", record_json(&op->rec, op->kind != YD_OP_NOTE, names));
    else
        bad |= json_object_set_new(o, "rec", json_pack("{s:s, s:s}", "id", op->rec.id, "owner", op->rec.owner));
    if (op->once_ms) bad |= json_object_set_new(o, "once", json_integer(op->once_ms));
    if (op->charge.jobs) bad |= json_object_set_new(o, "jobs", json_integer(op->charge.jobs));
    if (op->doc) bad |= json_object_set_new(o, "doc", json_string(op->doc));
    if (!bad) return print(o);
    json_decref(o);
    return NULL;
}

char *yd_entry_print_row(const yd_mirror_row *row)
{
    yd_job_record r = row->rec; // borrowed
    return print(json_pack("{s:s, s:o, s:I, s:I}", "k", "row", "rec", record_json(&r, 1, NULL), "holder", (json_int_t)row->holder, "ended",
                           (json_int_t)row->ended));
}

char *yd_entry_print_grave(const char *id, int64_t since_ms)
{
    return print(json_pack("{s:s, s:{s:s}, s:I}", "k", "grave", "rec", "id", id, "t", (json_int_t)since_ms));
}

char *yd_entry_print_batch(const char *id, const char *owner, const char *doc)
{
    return print(json_pack("{s:s, s:{s:s, s:s}, s:s}", "k", "batch", "rec", "id", id, "owner", owner, "doc", doc));
}

char *yd_entry_print_end(uint64_t rows, uint64_t order, uint64_t ends)
{
    return print(json_pack("{s:s, s:I, s:I, s:I}", "k", "end", "rows", (json_int_t)rows, "order", (json_int_t)order, "ends", (json_int_t)ends));
}

// ---- parse ---------------------------------------------------------------------------------------------------------

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int64_t integer_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static int take_file(yd_job_record *r, const json_t *f, yd_err *err)
{
    const json_int_t kind = json_integer_value(json_array_get(f, 0)), len = json_integer_value(json_array_get(f, 2));
    const char *name = json_string_value(json_array_get(f, 1)), *mime = json_string_value(json_array_get(f, 3));
    if (kind < 0 || kind >= YD_FILES || len < 0 || !name || !mime) return yd_fail(err, YD_E_IO, "a picture of job %s is not described", r->id);
    yd_blob *b = yd_record_placeholder((size_t)len, name), **at = yd_job_record_blob(r, (yd_record_file)kind);
    if (!b) return yd_fail(err, YD_E_NOMEM, "no memory for a job");
    b->mime = yd_record_mime(mime);
    b->width = (int)json_integer_value(json_array_get(f, 4));
    b->height = (int)json_integer_value(json_array_get(f, 5));
    yd_blob_unref(*at);
    *at = b;
    return 0;
}

static int take_text(yd_blob **at, const json_t *o, const char *key, const char *mime, yd_err *err)
{
    const json_t *s = json_object_get(o, key);
    if (!json_is_string(s)) return 0;
    const size_t len = json_string_length(s);
    char *copy = yd_calloc(1, len + 1);
    if (copy) memcpy(copy, json_string_value(s), len);
    *at = copy ? yd_blob_new(copy, len, mime, 0) : NULL;
    return *at ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a job");
}

static int take_record(yd_job_record *r, const json_t *o, yd_err *err)
{
    snprintf(r->id, sizeof r->id, "%s", text_of(o, "id"));
    snprintf(r->owner, sizeof r->owner, "%s", text_of(o, "owner"));
    r->due = (int)integer_of(o, "due");
    int rc = take_text(&r->errands, o, "errands", "application/json", err);
    if (rc || !json_object_get(o, "doc")) return rc;
    snprintf(r->key, sizeof r->key, "%s", text_of(o, "key"));
    r->state = (yd_job_state)integer_of(o, "state");
    r->finished_ms = integer_of(o, "finished");
    r->bytes = (size_t)integer_of(o, "bytes");
    r->order = (uint64_t)integer_of(o, "order");
    r->attempts = (int)integer_of(o, "attempts");
    rc = yd_job_record_parse(r, text_of(o, "doc"), err);
    if (!rc) rc = take_text(&r->events, o, "events", "", err);
    const json_t *files = json_object_get(o, "files");
    for (size_t i = 0; i < json_array_size(files) && !rc; i++) rc = take_file(r, json_array_get(files, i), err);
    return rc;
}

static void take_limits(yd_store_limits *lim, const json_t *a)
{
    lim->job_ttl_ms = json_integer_value(json_array_get(a, 0));
    lim->tombstone_ttl_ms = json_integer_value(json_array_get(a, 1));
    lim->max_finished_jobs = (size_t)json_integer_value(json_array_get(a, 2));
    lim->max_finished_bytes = (size_t)json_integer_value(json_array_get(a, 3));
}

static int take_op(yd_entry *e, const json_t *o, yd_store_op_kind kind, yd_err *err)
{
    const char *doc = json_string_value(json_object_get(o, "doc"));
    e->op = yd_store_op_new(kind, NULL, NULL, NULL);
    if (!e->op || (doc && !(e->op->doc = yd_strdup(doc)))) return yd_fail(err, YD_E_NOMEM, "no memory for an operation");
    e->op->now_ms = integer_of(o, "t");
    take_limits(&e->op->limits, json_object_get(o, "limits"));
    e->op->once_ms = integer_of(o, "once");
    e->op->charge.jobs = (long)integer_of(o, "jobs");
    if (kind == YD_OP_BUNDLE_PUT && !doc) return yd_fail(err, YD_E_IO, "a batch without its text");
    return take_record(&e->op->rec, json_object_get(o, "rec"), err);
}

static int take_entry(yd_entry *e, const json_t *o, yd_err *err)
{
    const char *k = text_of(o, "k");
    e->replica = integer_of(o, "r");
    e->number = (uint64_t)integer_of(o, "n");
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(k, kind_name[i]) == 0) return take_op(e, o, (yd_store_op_kind)i, err);
    static const char *const others[] = {[YD_ENTRY_RELEASE] = "release", [YD_ENTRY_ROW] = "row", [YD_ENTRY_GRAVE] = "grave",
                                         [YD_ENTRY_BATCH] = "batch", [YD_ENTRY_END] = "end"};
    for (int i = YD_ENTRY_RELEASE; i <= YD_ENTRY_END; i++)
        if (strcmp(k, others[i]) == 0) e->what = (yd_entry_what)i;
    switch (e->what) {
    case YD_ENTRY_RELEASE: return 0;
    case YD_ENTRY_ROW:
        e->row.holder = integer_of(o, "holder");
        e->row.ended = (uint64_t)integer_of(o, "ended");
        return take_record(&e->row.rec, json_object_get(o, "rec"), err);
    case YD_ENTRY_GRAVE: return take_op(e, o, YD_OP_REMOVE, err);
    case YD_ENTRY_BATCH: return take_op(e, o, YD_OP_BUNDLE_PUT, err);
    case YD_ENTRY_END:
        e->rows = (uint64_t)integer_of(o, "rows");
        e->order = (uint64_t)integer_of(o, "order");
        e->ends = (uint64_t)integer_of(o, "ends");
        return 0;
    case YD_ENTRY_OP: break;
    }
    return yd_fail(err, YD_E_IO, "the shared log has an entry of a kind that is not known here ('%.20s')", k);
}

int yd_entry_parse(const char *text, size_t len, yd_entry *out, yd_err *err)
{
    memset(out, 0, sizeof *out);
    json_error_t why;
    json_t *o = json_loadb(text, len, 0, &why);
    int rc = o ? take_entry(out, o, err)
               : yd_fail(err, json_error_code(&why) == json_error_out_of_memory ? YD_E_NOMEM : YD_E_IO, "the shared log has a damaged entry");
    json_decref(o);
    if (rc) yd_entry_clear(out);
    return rc;
}

void yd_entry_clear(yd_entry *e)
{
    yd_store_op_free(e->op);
    yd_job_record_clear(&e->row.rec);
    memset(e, 0, sizeof *e);
}
