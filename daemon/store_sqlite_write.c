// The writer's work: a list of operations becomes files, then one transaction, then the removal of files that nobody needs any more.
//
// Invariants
//   W1  A picture is durable under its name before the transaction that refers to it commits, and is removed after the one that takes the
//       last reference away: at no moment does the database refer to what is not there.
//   W2  Every operation of a list has its savepoint: one that fails leaves the others alone. When the commit fails, all have failed.
//   W3  An operation is not carried out before an earlier one of the same record that failed for want of a working disk.
//   W4  finished and finished_bytes follow the database: what a transaction adds is counted when it has committed.
// Threads: the writer's alone. Read next: store_sqlite.c, which hands the lists over and keeps what must be tried again.
#include "daemon/store_sqlite.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/mutant.h"
#include <string.h>

#define MAX_TOMBSTONES 65536
#define VACUUM_AT      512 // free pages in the database
#define VACUUM_PAGES   "256"

int yd_sqlite_error(sqlite3 *db, yd_err *err, const char *what)
{
    const int full = (sqlite3_errcode(db) & 0xff) == SQLITE_FULL;
    return yd_fail(err, full ? YD_E_STORAGE : YD_E_IO, "cannot %s: %s", what, sqlite3_errmsg(db));
}

int yd_sqlite_do(yd_sqlite_store *s, yd_statement which, yd_err *err)
{
    const int done = sqlite3_step(s->stmt[which]);
    int rc = done == SQLITE_DONE || done == SQLITE_ROW ? 0 : yd_sqlite_error(s->writing, err, "write the job database");
    sqlite3_reset(s->stmt[which]);
    return rc;
}

static sqlite3_stmt *with_order(yd_sqlite_store *s, yd_statement which, int64_t order)
{
    sqlite3_bind_int64(s->stmt[which], 1, order);
    return s->stmt[which];
}

static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    sqlite3_bind_text(q, at, text, -1, SQLITE_TRANSIENT);
}

// ---- files ---------------------------------------------------------------------------------------------------------

// Without memory a file that could go stays until the next start.
static void doubt(yd_sqlite_store *s, const char *name)
{
    yd_name_list *l = &s->doubtful;
    if (l->count == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 16;
        void *more = yd_realloc(l->name, cap * sizeof *l->name);
        if (!more) return;
        l->name = more;
        l->cap = cap;
    }
    snprintf(l->name[l->count++], YD_SPOOL_NAME_MAX, "%s", name);
}

static void remove_unused(yd_sqlite_store *s)
{
    for (size_t i = 0; i < s->doubtful.count; i++) {
        const char *name = s->doubtful.name[i];
        sqlite3_stmt *q = s->stmt[YD_SQL_FILE_USED];
        sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
        if (sqlite3_step(q) == SQLITE_DONE) yd_spool_remove(s->spool, name, 0);
        sqlite3_reset(q);
    }
    s->doubtful.count = 0;
}

static int has_files(const yd_store_op *op)
{
    return op->kind == YD_OP_PUT || op->kind == YD_OP_UPDATE || op->kind == YD_OP_CANCEL || op->kind == YD_OP_ATTACH;
}

// Content decides the name; a digest that nobody has computed yet is kept with the blob's own copy of this operation only.
static void name_of(const yd_blob *b, char name[65])
{
    if (*b->sha256)
        snprintf(name, 65, "%.64s", b->sha256);
    else
        yd_sha256_hex(b->bytes, b->len, name);
}

static void write_files(yd_sqlite_store *s, yd_store_op *op)
{
    for (int i = 0; has_files(op) && i < YD_FILES && !op->rc; i++) {
        const yd_blob *b = *yd_job_record_blob(&op->rec, (yd_record_file)i);
        char name[65];
        if (!b || b->mapped) continue; // mapped: it came from here
        name_of(b, name);
        op->rc = yd_spool_write(s->spool, name, &(yd_piece){b->bytes, b->len}, 1, YD_SPOOL_KEEP_BYTES, &op->err);
        doubt(s, name); // should the transaction not take place
    }
}

// A mapped picture of a record that has gone meanwhile is written again.
static int refer(yd_sqlite_store *s, yd_store_op *op, int64_t order, yd_record_file kind, const yd_blob *b)
{
    char name[65];
    name_of(b, name);
    if (b->mapped) {
        int rc = yd_spool_write(s->spool, name, &(yd_piece){b->bytes, b->len}, 1, YD_SPOOL_KEEP_LENGTH, &op->err);
        if (!rc) rc = yd_spool_sync(s->spool, &op->err);
        if (rc) return rc;
    }
    sqlite3_stmt *q = with_order(s, YD_SQL_FILE_PUT, order);
    sqlite3_bind_int(q, 2, (int)kind);
    bind_text(q, 3, name);
    sqlite3_bind_int64(q, 4, (sqlite3_int64)b->len);
    bind_text(q, 5, b->mime);
    sqlite3_bind_int(q, 6, b->width);
    sqlite3_bind_int(q, 7, b->height);
    return yd_sqlite_do(s, YD_SQL_FILE_PUT, &op->err);
}

// Run a DELETE ... RETURNING name.
static int release_files(yd_sqlite_store *s, yd_statement which, yd_err *err)
{
    sqlite3_stmt *q = s->stmt[which];
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 0);
        if (YD_BROKEN(EARLY_UNLINK)) yd_spool_remove(s->spool, name, 0);
        doubt(s, name);
    }
    if (rc != SQLITE_DONE) rc = yd_sqlite_error(s->writing, err, "write the job database");
    sqlite3_reset(q);
    return rc == SQLITE_DONE ? 0 : rc;
}

// The rows of a record's files as its blobs are; only: a mask of kinds.
static int set_files(yd_sqlite_store *s, yd_store_op *op, int64_t order, unsigned only)
{
    int rc = 0;
    for (int i = 0; i < YD_FILES && !rc; i++) {
        if (!(only & 1u << i)) continue;
        const yd_blob *b = *yd_job_record_blob(&op->rec, (yd_record_file)i);
        sqlite3_bind_int(with_order(s, YD_SQL_FILE_DROP, order), 2, i);
        rc = b ? refer(s, op, order, (yd_record_file)i, b) : release_files(s, YD_SQL_FILE_DROP, &op->err);
    }
    return rc;
}

// ---- records -------------------------------------------------------------------------------------------------------

typedef struct row {
    int64_t order, bytes;
    int state;
} row;

static int find_row(yd_sqlite_store *s, const char *id, row *r, yd_err *err)
{
    sqlite3_stmt *q = s->stmt[YD_SQL_ROW];
    bind_text(q, 1, id);
    const int got = sqlite3_step(q);
    int rc = got == SQLITE_ROW    ? 0
             : got == SQLITE_DONE ? yd_fail(err, YD_E_NOT_FOUND, "there is no job %.40s", id)
                                  : yd_sqlite_error(s->writing, err, "read the job database");
    *r = rc ? (row){0} : (row){sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 2), sqlite3_column_int(q, 1)};
    sqlite3_reset(q);
    return rc;
}

static int is_buried(yd_sqlite_store *s, const char *id)
{
    bind_text(s->stmt[YD_SQL_BURIED], 1, id);
    const int got = sqlite3_step(s->stmt[YD_SQL_BURIED]);
    sqlite3_reset(s->stmt[YD_SQL_BURIED]);
    return got == SQLITE_ROW;
}

static int64_t bytes_of(yd_job_record *r, size_t doc_len)
{
    size_t sum = doc_len + (r->events ? r->events->len : 0);
    for (int i = 0; i < YD_FILES; i++) {
        const yd_blob *b = *yd_job_record_blob(r, (yd_record_file)i);
        if (b) sum += b->len;
    }
    return (int64_t)sum;
}

// The columns from `at` on: state, finished_ms, bytes, key, attempts, doc.
static void bind_columns(sqlite3_stmt *q, int at, yd_job_record *r, const char *doc, int64_t bytes)
{
    sqlite3_bind_int(q, at, (int)r->state);
    sqlite3_bind_int64(q, at + 1, r->finished_ms);
    sqlite3_bind_int64(q, at + 2, bytes);
    bind_text(q, at + 3, r->key);
    sqlite3_bind_int(q, at + 4, r->attempts);
    bind_text(q, at + 5, doc);
}

static int set_events(yd_sqlite_store *s, yd_store_op *op, int64_t order)
{
    const yd_blob *lines = op->rec.events;
    if (!lines) return 0;
    sqlite3_bind_blob64(with_order(s, YD_SQL_EVENTS_PUT, order), 2, lines->bytes, lines->len, SQLITE_TRANSIENT);
    return yd_sqlite_do(s, YD_SQL_EVENTS_PUT, &op->err);
}

static int set_errands(yd_sqlite_store *s, yd_store_op *op, int64_t order)
{
    const yd_blob *doc = op->rec.errands;
    if (!doc) return 0;
    sqlite3_stmt *q = with_order(s, YD_SQL_ERRANDS_PUT, order);
    sqlite3_bind_int(q, 2, op->rec.due);
    sqlite3_bind_text(q, 3, (const char *)doc->bytes, (int)doc->len, SQLITE_TRANSIENT);
    return yd_sqlite_do(s, YD_SQL_ERRANDS_PUT, &op->err);
}

static int write_record(yd_sqlite_store *s, yd_store_op *op, yd_statement which, int64_t order, int at)
{
    yd_job_record *r = &op->rec;
    char *doc = yd_job_record_print(r);
    if (!doc) return yd_fail(&op->err, YD_E_NOMEM, "no memory to store a job");
    const int64_t bytes = bytes_of(r, strlen(doc));
    sqlite3_stmt *q = with_order(s, which, order);
    bind_columns(q, at, r, doc, bytes);
    yd_free(doc);
    int rc = yd_sqlite_do(s, which, &op->err);
    if (!rc) rc = set_files(s, op, order, ~0u);
    if (!rc) rc = set_events(s, op, order);
    if (!rc) rc = set_errands(s, op, order);
    if (!rc && yd_job_state_final(r->state)) {
        s->more_finished++;
        s->more_bytes += bytes;
    }
    return rc;
}

static int put(yd_sqlite_store *s, yd_store_op *op)
{
    row r;
    yd_err none;
    int rc = find_row(s, op->rec.id, &r, &none);
    if (rc == 0 || is_buried(s, op->rec.id))
        return yd_fail_field(&op->err, YD_E_CONFLICT, "id", "", "the id %s is already taken", op->rec.id);
    bind_text(s->stmt[YD_SQL_PUT], 2, op->rec.id);
    bind_text(s->stmt[YD_SQL_PUT], 3, op->rec.owner);
    bind_text(s->stmt[YD_SQL_PUT], 10, op->rec.once);
    return write_record(s, op, YD_SQL_PUT, (int64_t)op->rec.order, 4);
}

static int update(yd_sqlite_store *s, yd_store_op *op)
{
    row r;
    int rc = find_row(s, op->rec.id, &r, &op->err);
    if (!rc && yd_job_state_final((yd_job_state)r.state))
        rc = yd_fail(&op->err, YD_E_CONFLICT, "job %s has already %s", op->rec.id, yd_job_state_name((yd_job_state)r.state));
    return rc ? rc : write_record(s, op, YD_SQL_UPDATE, r.order, 2);
}

static int attach(yd_sqlite_store *s, yd_store_op *op)
{
    row r;
    int rc = find_row(s, op->rec.id, &r, &op->err);
    if (!rc) rc = set_files(s, op, r.order, 1u << YD_FILE_ATTENTION | 1u << YD_FILE_ACTIVATION);
    if (rc) return rc;
    const yd_blob *a = op->rec.attention, *b = op->rec.activation;
    const int64_t more = (int64_t)((a ? a->len : 0) + (b ? b->len : 0));
    sqlite3_bind_int64(with_order(s, YD_SQL_BYTES, r.order), 2, r.bytes + more);
    rc = yd_sqlite_do(s, YD_SQL_BYTES, &op->err);
    if (!rc && yd_job_state_final((yd_job_state)r.state)) s->more_bytes += more;
    return rc;
}

static int note(yd_sqlite_store *s, yd_store_op *op)
{
    row r;
    int rc = find_row(s, op->rec.id, &r, &op->err);
    return rc ? rc : set_errands(s, op, r.order);
}

static int claim(yd_sqlite_store *s, yd_store_op *op)
{
    row r;
    int rc = find_row(s, op->rec.id, &r, &op->err);
    if (!rc && r.state != YD_JOB_QUEUED)
        rc = yd_fail(&op->err, YD_E_CONFLICT, "job %s is not queued but %s", op->rec.id, yd_job_state_name((yd_job_state)r.state));
    if (rc) return rc;
    with_order(s, YD_SQL_CLAIM, r.order);
    return yd_sqlite_do(s, YD_SQL_CLAIM, &op->err);
}

static int bury(yd_sqlite_store *s, const char *id, const row *r, int64_t now_ms, yd_err *err)
{
    with_order(s, YD_SQL_FILES_DROP, r->order);
    int rc = release_files(s, YD_SQL_FILES_DROP, err);
    with_order(s, YD_SQL_EVENTS_DROP, r->order);
    if (!rc) rc = yd_sqlite_do(s, YD_SQL_EVENTS_DROP, err);
    with_order(s, YD_SQL_ERRANDS_DROP, r->order);
    if (!rc) rc = yd_sqlite_do(s, YD_SQL_ERRANDS_DROP, err);
    with_order(s, YD_SQL_DROP, r->order);
    if (!rc) rc = yd_sqlite_do(s, YD_SQL_DROP, err);
    bind_text(s->stmt[YD_SQL_BURY], 1, id);
    sqlite3_bind_int64(s->stmt[YD_SQL_BURY], 2, now_ms);
    if (!rc) rc = yd_sqlite_do(s, YD_SQL_BURY, err);
    if (!rc && yd_job_state_final((yd_job_state)r->state)) {
        s->more_finished--;
        s->more_bytes -= r->bytes;
    }
    return rc;
}

static int remove_record(yd_sqlite_store *s, yd_store_op *op)
{
    row r;
    int rc = find_row(s, op->rec.id, &r, &op->err);
    if (rc == YD_E_NOT_FOUND) return 0;
    return rc ? rc : bury(s, op->rec.id, &r, op->now_ms, &op->err);
}

static int expire(yd_sqlite_store *s, yd_store_op *op)
{
    const yd_store_limits *lim = &op->limits;
    row found[YD_EXPIRE_MAX];
    sqlite3_stmt *q = s->stmt[YD_SQL_OLDEST];
    int64_t count = s->finished + s->more_finished, bytes = s->finished_bytes + s->more_bytes;
    int n = 0, rc = 0;
    sqlite3_bind_int(q, 1, YD_EXPIRE_MAX);
    while (sqlite3_step(q) == SQLITE_ROW) {
        const int old = op->now_ms - sqlite3_column_int64(q, 2) >= lim->job_ttl_ms;
        if (!old && count <= (int64_t)lim->max_finished_jobs && bytes <= (int64_t)lim->max_finished_bytes) break;
        found[n] = (row){sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 3), YD_JOB_SUCCEEDED};
        snprintf(op->expired[n], YD_ID_MAX, "%s", (const char *)sqlite3_column_text(q, 1));
        count--;
        bytes -= found[n++].bytes;
    }
    sqlite3_reset(q);
    for (int i = 0; i < n && !rc; i++) rc = bury(s, op->expired[i], &found[i], op->now_ms, &op->err);
    sqlite3_bind_int64(s->stmt[YD_SQL_GRAVES_OLD], 1, op->now_ms - lim->tombstone_ttl_ms);
    sqlite3_bind_int64(s->stmt[YD_SQL_GRAVES_OLD], 2, MAX_TOMBSTONES);
    if (!rc) rc = yd_sqlite_do(s, YD_SQL_GRAVES_OLD, &op->err);
    op->n_expired = rc ? 0 : n;
    return rc;
}

static int put_bundle(yd_sqlite_store *s, yd_store_op *op)
{
    sqlite3_stmt *q = s->stmt[YD_SQL_BUNDLE_PUT];
    bind_text(q, 1, op->rec.id);
    bind_text(q, 2, op->rec.owner);
    bind_text(q, 3, op->doc);
    return yd_sqlite_do(s, YD_SQL_BUNDLE_PUT, &op->err);
}

static int remove_bundle(yd_sqlite_store *s, yd_store_op *op)
{
    bind_text(s->stmt[YD_SQL_BUNDLE_DROP], 1, op->rec.id);
    return yd_sqlite_do(s, YD_SQL_BUNDLE_DROP, &op->err);
}

static int carry_out(yd_sqlite_store *s, yd_store_op *op)
{
    switch (op->kind) {
    case YD_OP_PUT: return put(s, op);
    case YD_OP_UPDATE:
    case YD_OP_CANCEL: return update(s, op);
    case YD_OP_ATTACH: return attach(s, op);
    case YD_OP_NOTE: return note(s, op);
    case YD_OP_CLAIM: return claim(s, op);
    case YD_OP_REMOVE: return remove_record(s, op);
    case YD_OP_EXPIRE: return expire(s, op);
    case YD_OP_BUNDLE_PUT: return put_bundle(s, op);
    case YD_OP_BUNDLE_REMOVE: return remove_bundle(s, op);
    }
    return yd_fail(&op->err, YD_E_INTERNAL, "an operation of no kind");
}

// ---- lists of operations -------------------------------------------------------------------------------------------

int yd_sqlite_is_new(const yd_store_op *op)
{
    return op->kind == YD_OP_PUT || op->kind == YD_OP_BUNDLE_PUT;
}

// Has an earlier operation of the same record met a disk that does not work? (W3)
static int must_wait(const yd_op_list *ops, const yd_store_op *op)
{
    for (const yd_store_op *o = ops->head; o != op; o = o->next)
        if ((o->rc == YD_E_IO || o->rc == YD_E_STORAGE) && !yd_sqlite_is_new(o) && strcmp(o->rec.id, op->rec.id) == 0) return 1;
    return 0;
}

static void carry_out_alone(yd_sqlite_store *s, yd_store_op *op)
{
    const int64_t finished = s->more_finished, bytes = s->more_bytes;
    op->rc = yd_sqlite_do(s, YD_SQL_MARK, &op->err);
    if (op->rc) return;
    op->rc = carry_out(s, op);
    yd_err ignored;
    if (!op->rc) {
        op->rc = yd_sqlite_do(s, YD_SQL_KEEP, &op->err);
        return;
    }
    s->more_finished = finished;
    s->more_bytes = bytes;
    if (sqlite3_get_autocommit(s->writing)) return; // SQLite has undone everything already
    yd_sqlite_do(s, YD_SQL_UNDO, &ignored);
    yd_sqlite_do(s, YD_SQL_KEEP, &ignored);
}

static int transact(yd_sqlite_store *s, yd_op_list *ops, yd_err *err)
{
    s->more_finished = s->more_bytes = 0;
    int rc = 0, troubled = 0;
    if (YD_BROKEN(EARLY_ACK) && !sqlite3_get_autocommit(s->writing)) rc = yd_sqlite_do(s, YD_SQL_COMMIT, err);
    if (!rc) rc = yd_sqlite_do(s, YD_SQL_BEGIN, err);
    for (yd_store_op *op = ops->head; op && !rc; op = op->next) {
        if (!op->rc && troubled && must_wait(ops, op)) op->rc = yd_fail(&op->err, YD_E_IO, "an earlier change of job %s waits", op->rec.id);
        if (!op->rc) carry_out_alone(s, op);
        troubled |= op->rc == YD_E_IO || op->rc == YD_E_STORAGE;
        if (sqlite3_get_autocommit(s->writing)) rc = op->rc ? yd_fail(err, op->rc, "%s", op->err.detail) : YD_E_IO;
    }
    if (!rc && !YD_BROKEN(EARLY_ACK)) rc = yd_sqlite_do(s, YD_SQL_COMMIT, err);
    if (rc && !sqlite3_get_autocommit(s->writing)) yd_sqlite_do(s, YD_SQL_ROLLBACK, NULL);
    if (rc) return rc;
    s->finished += s->more_finished;
    s->finished_bytes += s->more_bytes;
    return 0;
}

// Give pages back to the file system a few at a time, so that the database does not stay as large as it once was.
static void vacuum(yd_sqlite_store *s, const yd_op_list *ops)
{
    int expired = 0;
    for (const yd_store_op *op = ops->head; op; op = op->next) expired |= op->kind == YD_OP_EXPIRE;
    if (!expired) return;
    sqlite3_stmt *q = NULL;
    int free_pages = 0;
    if (sqlite3_prepare_v2(s->writing, "PRAGMA freelist_count", -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        free_pages = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    if (free_pages > VACUUM_AT) sqlite3_exec(s->writing, "PRAGMA incremental_vacuum(" VACUUM_PAGES ")", NULL, NULL, NULL);
}

void yd_sqlite_run(yd_sqlite_store *s, yd_op_list *ops)
{
    yd_err err = {0};
    for (yd_store_op *op = ops->head; op; op = op->next) {
        op->rc = 0;
        yd_err_clear(&op->err);
        write_files(s, op);
    }
    int rc = yd_spool_sync(s->spool, &err); // W1
    if (!rc) rc = transact(s, ops, &err);
    for (yd_store_op *op = ops->head; op && rc; op = op->next) {
        if (op->rc && op->rc != YD_E_IO && op->rc != YD_E_STORAGE) op->rc = 0; // found wrong in a transaction that never was
        if (!op->rc) op->rc = yd_fail(&op->err, rc, "%s", err.detail);
    }
    remove_unused(s);
    if (!rc) vacuum(s, ops);
}
