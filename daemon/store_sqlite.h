// What the files of the SQLite store share: the store itself, its database's statements, and the calls between them.
#ifndef YD_DAEMON_STORE_SQLITE_H
#define YD_DAEMON_STORE_SQLITE_H

#include "daemon/spool.h"
#include "daemon/store_record.h"
#include <pthread.h>
#include <sqlite3.h>

typedef struct yd_op_list {
    yd_store_op *head, *tail;
} yd_op_list;

//  X(name, on the reading connection, text)
#define YD_STATEMENTS(X)                                                                                                                 \
    X(BEGIN, 0, "BEGIN IMMEDIATE")                                                                                                       \
    X(COMMIT, 0, "COMMIT")                                                                                                               \
    X(ROLLBACK, 0, "ROLLBACK")                                                                                                           \
    X(MARK, 0, "SAVEPOINT op")                                                                                                           \
    X(KEEP, 0, "RELEASE op")                                                                                                             \
    X(UNDO, 0, "ROLLBACK TO op")                                                                                                         \
    X(BURIED, 0, "SELECT 1 FROM grave WHERE id = ?1")                                                                                    \
    X(PUT, 0, "INSERT INTO job(ord, id, owner, state, finished_ms, bytes, key, attempts, doc, once) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)") \
    X(UPDATE, 0, "UPDATE job SET state=?2, finished_ms=?3, bytes=?4, key=?5, attempts=?6, doc=?7 WHERE ord = ?1")                        \
    X(CLAIM, 0, "UPDATE job SET state=1, attempts=attempts+1 WHERE ord = ?1")                                                            \
    X(BYTES, 0, "UPDATE job SET bytes=?2 WHERE ord = ?1")                                                                                \
    X(DROP, 0, "DELETE FROM job WHERE ord = ?1")                                                                                         \
    X(ROW, 0, "SELECT ord, state, bytes FROM job WHERE id = ?1")                                                                         \
    X(FILE_PUT, 0, "INSERT OR REPLACE INTO file(ord, kind, name, len, mime, width, height) VALUES(?1,?2,?3,?4,?5,?6,?7)")                \
    X(FILE_DROP, 0, "DELETE FROM file WHERE ord = ?1 AND kind = ?2 RETURNING name")                                                      \
    X(FILES_DROP, 0, "DELETE FROM file WHERE ord = ?1 RETURNING name")                                                                   \
    X(FILES_LEN, 0, "SELECT coalesce(sum(len), 0) FROM file WHERE ord = ?1")                                                             \
    X(FILE_USED, 0, "SELECT 1 FROM file WHERE name = ?1 LIMIT 1")                                                                        \
    X(EVENTS_PUT, 0, "INSERT OR REPLACE INTO events(ord, lines) VALUES(?1, ?2)")                                                         \
    X(EVENTS_DROP, 0, "DELETE FROM events WHERE ord = ?1")                                                                               \
    X(ERRANDS_PUT, 0, "INSERT OR REPLACE INTO errand(ord, due, doc) VALUES(?1, ?2, ?3)")                                                 \
    X(ERRANDS_DROP, 0, "DELETE FROM errand WHERE ord = ?1")                                                                              \
    X(BURY, 0, "INSERT OR IGNORE INTO grave(id, since_ms) VALUES(?1, ?2)")                                                               \
    X(GRAVES_OLD, 0, "DELETE FROM grave WHERE since_ms <= ?1 OR n <= (SELECT max(n) FROM grave) - ?2")                                   \
    X(OLDEST, 0, "SELECT ord, id, finished_ms, bytes FROM job WHERE state >= 2 ORDER BY finished_ms, ord LIMIT ?1")                      \
    X(FINISHED, 0, "SELECT count(*), coalesce(sum(bytes), 0) FROM job WHERE state >= 2")                                                 \
    X(GET, 1, "SELECT ord, id, owner, state, finished_ms, bytes, key, attempts, doc FROM job WHERE id = ?1")                             \
    X(GET_FILES, 1, "SELECT kind, name, len, mime, width, height FROM file WHERE ord = ?1")                                              \
    X(GET_EVENTS, 1, "SELECT lines FROM events WHERE ord = ?1")                                                                          \
    X(GET_ERRANDS, 1, "SELECT due, doc FROM errand WHERE ord = ?1")                                                                      \
    X(LIST_DUE, 1, "SELECT id, ord FROM errand JOIN job USING(ord) WHERE due AND ord < ?1 ORDER BY ord DESC LIMIT ?2")                   \
    X(GET_GRAVE, 1, "SELECT 1 FROM grave WHERE id = ?1")                                                                                 \
    X(LIST, 1, "SELECT id, ord FROM job WHERE ord < ?1 ORDER BY ord DESC LIMIT ?2")                                                      \
    X(LIST_STATE, 1, "SELECT id, ord FROM job WHERE ord < ?1 AND state = ?3 ORDER BY ord DESC LIMIT ?2")                                 \
    X(LIST_OWNER, 1, "SELECT id, ord FROM job WHERE ord < ?1 AND owner = ?4 ORDER BY ord DESC LIMIT ?2")                                 \
    X(LIST_BOTH, 1, "SELECT id, ord FROM job WHERE ord < ?1 AND state = ?3 AND owner = ?4 ORDER BY ord DESC LIMIT ?2")                   \
    X(FIND_KEY, 1, "SELECT id FROM job WHERE key = ?1 AND key <> '' AND state = 2 ORDER BY ord DESC LIMIT 1")             \
    X(BUNDLE_PUT, 0, "INSERT INTO batch(id, owner, doc) VALUES(?1, ?2, ?3)")                                                             \
    X(BUNDLE_DROP, 0, "DELETE FROM batch WHERE id = ?1")                                                                                 \
    X(BUNDLES, 1, "SELECT id, owner, doc FROM batch ORDER BY n")                                                                         \
    X(FIND_ONCE, 1, "SELECT id FROM job WHERE once = ?1 AND once <> '' ORDER BY ord DESC LIMIT 1")

typedef enum {
#define YD_STATEMENT_ENUM(name, reading, text) YD_SQL_##name,
    YD_STATEMENTS(YD_STATEMENT_ENUM)
#undef YD_STATEMENT_ENUM
    YD_SQL_COUNT
} yd_statement;

// Names of files that lost a reference and may have to go.
typedef struct yd_name_list {
    char (*name)[YD_SPOOL_NAME_MAX];
    size_t count, cap;
} yd_name_list;

typedef struct yd_sqlite_store {
    yd_store base;
    sqlite3 *writing, *reading; // the writer's, the loop's
    sqlite3_stmt *stmt[YD_SQL_COUNT];
    yd_spool *spool;
    int lock_fd;
    uint64_t last_order; // loop

    // The writer's own: what finished records are, and what the transaction under way adds to that.
    int64_t finished, finished_bytes, more_finished, more_bytes;
    yd_name_list doubtful;

    pthread_t thread;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t work;
    yd_op_list todo, back;
    int quit;
    yd_store_health health;

    uv_async_t async;
    void (*closed)(void *arg);
    void *closed_arg;
} yd_sqlite_store;

// ---- store_sqlite_open.c ----
// The folder's lock, the database with its schema, every statement, the spool without orphans. What is open after a failure is closed by
// yd_sqlite_close_files.
int yd_sqlite_open_files(yd_sqlite_store *s, const char *folder, yd_err *err);
void yd_sqlite_close_files(yd_sqlite_store *s);

// ---- store_sqlite_write.c (the writer's thread) ----
// Carry out a list of operations in one transaction; each has its rc afterwards.
void yd_sqlite_run(yd_sqlite_store *s, yd_op_list *ops);
// YD_E_STORAGE for a full disk, YD_E_IO for anything else that SQLite says.
int yd_sqlite_error(sqlite3 *db, yd_err *err, const char *what);
// Step a statement that gives no row, and reset it.
int yd_sqlite_do(yd_sqlite_store *s, yd_statement which, yd_err *err);

// Something new, which is turned away when writing fails; everything else is tried again.
int yd_sqlite_is_new(const yd_store_op *op);

// ---- store_sqlite_read.c (the loop's thread) ----
int yd_sqlite_get(yd_store *s, const char *id, int whole, yd_job_record *out, yd_err *err);
int yd_sqlite_list(yd_store *s, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders);
int yd_sqlite_list_due(yd_store *s, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders);
int yd_sqlite_find_key(yd_store *s, const char *key, char id[YD_ID_MAX]);
void yd_sqlite_bundles(yd_store *s, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg);
int yd_sqlite_find_once(yd_store *s, const char *once, char id[YD_ID_MAX]);

#endif
