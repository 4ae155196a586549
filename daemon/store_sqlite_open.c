// Opening a state folder: its lock, the database's schema and migrations, the statements, and a spool without orphans.
//
//   state_dir/lock        held by the process that has the folder; says which
//   state_dir/jobs.db     the records (SQLite, write-ahead log)
//   state_dir/pictures/   files named by their SHA-256
// The schema has a number (user_version). An older one is taken forward step by step, each in a transaction of its own; a newer one is
// refused, since nobody here knows what it means. Threads: before the writer runs and after it has ended.
#include "daemon/store_sqlite.h"

#include "core/mem.h"
#include "daemon/log.h"
#include "daemon/mutant.h"
#include "daemon/state_lock.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BUSY_MS   5000
#define PATH_ROOM 512

// migration[v] takes a database from version v to v + 1.
static const char *const migration[] = {
    "CREATE TABLE job(ord INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, state INTEGER NOT NULL,"
    " finished_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, key TEXT NOT NULL, attempts INTEGER NOT NULL, doc TEXT NOT NULL);"
    "CREATE INDEX job_owner ON job(owner, ord);"
    "CREATE INDEX job_owner_state ON job(owner, state, ord);"
    "CREATE INDEX job_state ON job(state, ord);"
    "CREATE INDEX job_finished ON job(finished_ms, ord) WHERE state >= 2;"
    "CREATE INDEX job_key ON job(key) WHERE key <> '';"
    "CREATE TABLE file(ord INTEGER NOT NULL, kind INTEGER NOT NULL, name TEXT NOT NULL, len INTEGER NOT NULL, mime TEXT NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, PRIMARY KEY(ord, kind)) WITHOUT ROWID;"
    "CREATE INDEX file_name ON file(name);"
    "CREATE TABLE events(ord INTEGER PRIMARY KEY, lines BLOB NOT NULL);"
    "CREATE TABLE grave(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, since_ms INTEGER NOT NULL);"
    "CREATE INDEX grave_since ON grave(since_ms);"
    "CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO counter VALUES('boot', 0), ('order', 0);",
    "ALTER TABLE job ADD COLUMN once TEXT NOT NULL DEFAULT '';"
    "CREATE INDEX job_once ON job(once) WHERE once <> '';"
    "CREATE TABLE batch(n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, doc TEXT NOT NULL);",
    "CREATE TABLE errand(ord INTEGER PRIMARY KEY, due INTEGER NOT NULL, doc TEXT NOT NULL);"
    "CREATE INDEX errand_due ON errand(ord) WHERE due;",
};
#define SCHEMA ((int)(sizeof migration / sizeof migration[0]))

static const struct {
    int reading;
    const char *text;
} statements[] = {
#define STATEMENT_ROW(name, reading, text) {reading, text},
    YD_STATEMENTS(STATEMENT_ROW)
#undef STATEMENT_ROW
};

static int unusable(yd_err *err, const char *what, const char *path, const char *why)
{
    return yd_fail_field(err, YD_E_CONFIG, "state_dir", "a folder that can be written to", "%s %s: %s", what, path, why);
}

// ---- the database --------------------------------------------------------------------------------------------------

static int execute(sqlite3 *db, const char *sql, const char *what, yd_err *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : yd_sqlite_error(db, err, what);
}

static int64_t ask_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    int64_t v = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW) v = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return v;
}

static int migrate(sqlite3 *db, const char *path, yd_err *err)
{
    int64_t version = ask_number(db, "PRAGMA user_version");
    if (version < 0) return yd_sqlite_error(db, err, "read the version of the job database");
    if (version > SCHEMA)
        return yd_fail_field(err, YD_E_CONFIG, "state_dir", "a folder of this version or an older one",
                             "%s is of version %lld, this program knows versions up to %d", path, (long long)version, SCHEMA);
    for (; version < SCHEMA; version++) {
        char done[48];
        snprintf(done, sizeof done, "PRAGMA user_version=%d; COMMIT", (int)version + 1);
        int rc = execute(db, "BEGIN IMMEDIATE", "lock the job database", err);
        if (!rc) rc = execute(db, migration[version], "make the job database's tables", err);
        if (!rc) rc = execute(db, done, "make the job database's tables", err);
        if (rc) {
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return rc;
        }
    }
    return 0;
}

static int open_database(const char *path, int flags, sqlite3 **db, yd_err *err)
{
    if (sqlite3_open_v2(path, db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return unusable(err, "cannot open", path, *db ? sqlite3_errmsg(*db) : "no memory");
    sqlite3_extended_result_codes(*db, 1);
    sqlite3_busy_timeout(*db, BUSY_MS);
    return 0;
}

static int open_databases(yd_sqlite_store *s, const char *folder, yd_err *err)
{
    char path[PATH_ROOM];
    const int n = snprintf(path, sizeof path, "%s/jobs.db", folder);
    if (n < 0 || (size_t)n >= sizeof path) return unusable(err, "cannot use", "the path", "it is too long");
    int rc = open_database(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &s->writing, err);
    // auto_vacuum counts only before the first table is made.
    if (!rc)
        rc = execute(s->writing,
                     "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                     "PRAGMA journal_size_limit=8388608; PRAGMA foreign_keys=OFF",
                     "set up the job database", err);
    if (!rc && YD_BROKEN(NO_COMMIT_SYNC)) rc = execute(s->writing, "PRAGMA synchronous=OFF", "break the job database", err);
    if (!rc) rc = migrate(s->writing, path, err);
    // What was running when the last process ended waits again; this process is the next in the count.
    if (!rc)
        rc = execute(s->writing,
                     "BEGIN IMMEDIATE; UPDATE job SET state=0 WHERE state=1; UPDATE counter SET value=value+1 WHERE name='boot';"
                     "UPDATE counter SET value=max(value, (SELECT coalesce(max(ord), 0) FROM job)) WHERE name='order'; COMMIT",
                     "take over the job database", err);
    if (!rc) rc = open_database(path, SQLITE_OPEN_READWRITE, &s->reading, err);
    if (!rc) rc = execute(s->reading, "PRAGMA query_only=ON", "read the job database", err);
    return rc;
}

static int prepare(yd_sqlite_store *s, yd_err *err)
{
    for (int i = 0; i < YD_SQL_COUNT; i++) {
        sqlite3 *db = statements[i].reading ? s->reading : s->writing;
        if (sqlite3_prepare_v3(db, statements[i].text, -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[i], NULL) != SQLITE_OK)
            return yd_sqlite_error(db, err, "prepare the job database");
    }
    return 0;
}

// A folder's own name, and those of the files in it, are there after a loss of power once the folders that hold them have been synced. A parent
// that may not be read was not made here.
static void sync_folder(const char *folder, const char *below)
{
    char path[PATH_ROOM];
    const int n = snprintf(path, sizeof path, "%s%s", folder, below);
    const int fd = n < 0 || (size_t)n >= sizeof path ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if ((fd < 0 || fsync(fd)) && errno != EACCES && errno != EINVAL)
        yd_log(YD_LOG_WARN, NULL, "a folder is not synced", "path", path, "why", strerror(errno), NULL);
    if (fd >= 0) close(fd);
}

// ---- all of it -----------------------------------------------------------------------------------------------------

static int is_used(void *arg, const char *name)
{
    yd_sqlite_store *s = arg;
    sqlite3_stmt *q = s->stmt[YD_SQL_FILE_USED];
    sqlite3_bind_text(q, 1, name, -1, SQLITE_STATIC);
    const int rc = sqlite3_step(q);
    sqlite3_reset(q);
    return rc != SQLITE_DONE; // in doubt it stays
}

int yd_sqlite_open_files(yd_sqlite_store *s, const char *folder, yd_err *err)
{
    s->lock_fd = -1;
    int rc = yd_state_lock(folder, 0, &s->lock_fd, err);
    if (!rc) rc = yd_spool_open(folder, "pictures", &s->spool, err);
    if (!rc) rc = open_databases(s, folder, err);
    if (!rc) rc = prepare(s, err);
    if (rc) return rc;
    sync_folder(folder, "");
    sync_folder(folder, "/..");
    s->base.boot = ask_number(s->writing, "SELECT value FROM counter WHERE name='boot'");
    s->last_order = (uint64_t)ask_number(s->writing, "SELECT value FROM counter WHERE name='order'");
    s->finished = ask_number(s->writing, "SELECT count(*) FROM job WHERE state >= 2");
    s->finished_bytes = ask_number(s->writing, "SELECT coalesce(sum(bytes), 0) FROM job WHERE state >= 2");
    s->health = (yd_store_health){.ok = 1, .free_room = yd_spool_free_bytes(s->spool), .bytes = (size_t)s->finished_bytes};
    const long orphans = yd_spool_sweep(s->spool, is_used, s);
    if (orphans > 0) {
        char n[24];
        snprintf(n, sizeof n, "%ld", orphans);
        yd_log(YD_LOG_INFO, NULL, "pictures that no job refers to are removed", "#files", n, NULL);
    }
    return 0;
}

void yd_sqlite_close_files(yd_sqlite_store *s)
{
    for (int i = 0; i < YD_SQL_COUNT; i++) sqlite3_finalize(s->stmt[i]);
    if (s->reading) sqlite3_close(s->reading);
    if (s->writing) {
        char keep[96];
        snprintf(keep, sizeof keep, "UPDATE counter SET value=%lld WHERE name='order'", (long long)s->last_order);
        sqlite3_exec(s->writing, keep, NULL, NULL, NULL); // pages of a list are numbered on; a crash only costs that
        sqlite3_wal_checkpoint_v2(s->writing, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        sqlite3_close(s->writing);
    }
    yd_spool_close(s->spool);
    if (s->lock_fd >= 0) close(s->lock_fd);
    yd_free(s->doubtful.name);
}
