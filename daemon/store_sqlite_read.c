// Reading the job database on the loop's thread: one row by its id or a page of ids by index, some tens of microseconds each.
//
// Its connection sees what has been committed. Pictures are not read but mapped: their bytes come from the page cache as they are sent.
#include "daemon/store_sqlite.h"

#include "core/mem.h"
#include <string.h>

static const char *text_at(sqlite3_stmt *q, int column)
{
    const char *s = (const char *)sqlite3_column_text(q, column);
    return s ? s : "";
}

static int take_file(yd_sqlite_store *s, sqlite3_stmt *q, int whole, yd_job_record *r, yd_err *err)
{
    char path[YD_SPOOL_PATH_MAX];
    const int kind = sqlite3_column_int(q, 0);
    const char *name = text_at(q, 1);
    const size_t len = (size_t)sqlite3_column_int64(q, 2);
    yd_blob **at = kind >= 0 && kind < YD_FILES ? yd_job_record_blob(r, (yd_record_file)kind) : NULL;
    if (!at || yd_spool_path(s->spool, name, path)) return yd_fail(err, YD_E_IO, "job %s has a picture that cannot be read", r->id);
    if (!whole) {
        *at = yd_record_placeholder(len, name);
        return *at ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for a job");
    }
    int rc = yd_blob_map(path, len, yd_record_mime(text_at(q, 3)), name, at, err);
    if (rc) return rc;
    (*at)->width = sqlite3_column_int(q, 4);
    (*at)->height = sqlite3_column_int(q, 5);
    return 0;
}

static int take_files(yd_sqlite_store *s, int64_t order, int whole, yd_job_record *r, yd_err *err)
{
    sqlite3_stmt *q = s->stmt[YD_SQL_GET_FILES];
    int rc = 0, got = SQLITE_DONE;
    sqlite3_bind_int64(q, 1, order);
    while (!rc && (got = sqlite3_step(q)) == SQLITE_ROW) rc = take_file(s, q, whole, r, err);
    if (!rc && got != SQLITE_DONE) rc = yd_sqlite_error(s->reading, err, "read the job database");
    sqlite3_reset(q);
    return rc;
}

static int take_events(yd_sqlite_store *s, int64_t order, yd_job_record *r, yd_err *err)
{
    sqlite3_stmt *q = s->stmt[YD_SQL_GET_EVENTS];
    int rc = 0;
    sqlite3_bind_int64(q, 1, order);
    if (sqlite3_step(q) == SQLITE_ROW) {
        const size_t len = (size_t)sqlite3_column_bytes(q, 0);
        const void *lines = sqlite3_column_blob(q, 0);
        void *copy = yd_malloc(len);
        if (copy && len) memcpy(copy, lines, len);
        r->events = copy ? yd_blob_new(copy, len, "", 0) : NULL;
        if (!r->events) rc = yd_fail(err, YD_E_NOMEM, "no memory for the events of a job");
    }
    sqlite3_reset(q);
    return rc;
}

static int take_errands(yd_sqlite_store *s, int64_t order, yd_job_record *r, yd_err *err)
{
    sqlite3_stmt *q = s->stmt[YD_SQL_GET_ERRANDS];
    int rc = 0;
    sqlite3_bind_int64(q, 1, order);
    if (sqlite3_step(q) == SQLITE_ROW) {
        r->due = sqlite3_column_int(q, 0);
        char *copy = yd_strdup(text_at(q, 1));
        r->errands = copy ? yd_blob_new(copy, strlen(copy), "application/json", 0) : NULL;
        if (!r->errands) rc = yd_fail(err, YD_E_NOMEM, "no memory for the errands of a job");
    }
    sqlite3_reset(q);
    return rc;
}

static int take_row(yd_sqlite_store *s, sqlite3_stmt *q, int whole, yd_job_record *r, yd_err *err)
{
    const int64_t order = sqlite3_column_int64(q, 0);
    r->order = (uint64_t)order;
    snprintf(r->id, sizeof r->id, "%s", text_at(q, 1));
    snprintf(r->owner, sizeof r->owner, "%s", text_at(q, 2));
    r->state = (yd_job_state)sqlite3_column_int(q, 3);
    r->finished_ms = sqlite3_column_int64(q, 4);
    r->bytes = (size_t)sqlite3_column_int64(q, 5);
    snprintf(r->key, sizeof r->key, "%s", text_at(q, 6));
    r->attempts = sqlite3_column_int(q, 7);
    int rc = yd_job_record_parse(r, text_at(q, 8), err);
    if (!rc) rc = take_files(s, order, whole, r, err);
    if (!rc) rc = take_errands(s, order, r, err);
    if (!rc && whole) rc = take_events(s, order, r, err);
    return rc;
}

static int not_there(yd_sqlite_store *s, const char *id, yd_err *err)
{
    sqlite3_stmt *q = s->stmt[YD_SQL_GET_GRAVE];
    sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
    const int buried = sqlite3_step(q) == SQLITE_ROW;
    sqlite3_reset(q);
    return buried ? yd_fail(err, YD_E_GONE, "job %.40s has been deleted or has expired", id)
                  : yd_fail(err, YD_E_NOT_FOUND, "there is no job %.40s", id);
}

int yd_sqlite_get(yd_store *base, const char *id, int whole, yd_job_record *out, yd_err *err)
{
    yd_sqlite_store *s = (yd_sqlite_store *)base;
    sqlite3_stmt *q = s->stmt[YD_SQL_GET];
    memset(out, 0, sizeof *out);
    sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
    const int got = sqlite3_step(q);
    int rc = got == SQLITE_ROW    ? take_row(s, q, whole, out, err)
             : got == SQLITE_DONE ? not_there(s, id, err)
                                  : yd_sqlite_error(s->reading, err, "read the job database");
    sqlite3_reset(q);
    if (rc) yd_job_record_clear(out);
    return rc;
}

int yd_sqlite_list(yd_store *base, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    yd_sqlite_store *s = (yd_sqlite_store *)base;
    static const yd_statement which[2][2] = {{YD_SQL_LIST, YD_SQL_LIST_STATE}, {YD_SQL_LIST_OWNER, YD_SQL_LIST_BOTH}};
    sqlite3_stmt *q = s->stmt[which[owner != NULL][state >= 0]];
    int n = 0;
    sqlite3_bind_int64(q, 1, before > INT64_MAX ? INT64_MAX : (sqlite3_int64)before);
    sqlite3_bind_int(q, 2, limit);
    if (state >= 0) sqlite3_bind_int(q, 3, state);
    if (owner) sqlite3_bind_text(q, 4, owner, -1, SQLITE_STATIC);
    while (n < limit && sqlite3_step(q) == SQLITE_ROW) {
        snprintf(ids[n], YD_ID_MAX, "%s", text_at(q, 0));
        orders[n++] = (uint64_t)sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    return n;
}

int yd_sqlite_list_due(yd_store *base, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders)
{
    yd_sqlite_store *s = (yd_sqlite_store *)base;
    sqlite3_stmt *q = s->stmt[YD_SQL_LIST_DUE];
    int n = 0;
    sqlite3_bind_int64(q, 1, before > INT64_MAX ? INT64_MAX : (sqlite3_int64)before);
    sqlite3_bind_int(q, 2, limit);
    while (n < limit && sqlite3_step(q) == SQLITE_ROW) {
        snprintf(ids[n], YD_ID_MAX, "%s", text_at(q, 0));
        orders[n++] = (uint64_t)sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    return n;
}

static int find_by(yd_store *base, yd_statement which, const char *key, char id[YD_ID_MAX])
{
    yd_sqlite_store *s = (yd_sqlite_store *)base;
    sqlite3_stmt *q = s->stmt[which];
    sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    const int found = sqlite3_step(q) == SQLITE_ROW;
    if (found) snprintf(id, YD_ID_MAX, "%s", text_at(q, 0));
    sqlite3_reset(q);
    return found;
}

void yd_sqlite_bundles(yd_store *base, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg)
{
    yd_sqlite_store *s = (yd_sqlite_store *)base;
    sqlite3_stmt *q = s->stmt[YD_SQL_BUNDLES];
    while (sqlite3_step(q) == SQLITE_ROW) each(arg, text_at(q, 0), text_at(q, 1), text_at(q, 2));
    sqlite3_reset(q);
}

int yd_sqlite_find_key(yd_store *base, const char *key, char id[YD_ID_MAX])
{
    return find_by(base, YD_SQL_FIND_KEY, key, id);
}

int yd_sqlite_find_once(yd_store *base, const char *once, char id[YD_ID_MAX])
{
    return find_by(base, YD_SQL_FIND_ONCE, once, id);
}
