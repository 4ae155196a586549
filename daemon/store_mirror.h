// What all operations of a store so far have made of it, in memory: the deterministic core of the stores that hold their records there.
//
// Applying the same operations in the same order makes the same mirror anywhere: nothing here asks for the time, draws a number or knows who it
// is for. The store in memory has one; each replica on a shared log has its own. Threads: one at a time.
#ifndef YD_DAEMON_STORE_MIRROR_H
#define YD_DAEMON_STORE_MIRROR_H

#include "daemon/store.h"

typedef struct yd_mirror yd_mirror;

yd_mirror *yd_mirror_new(void); // NULL: out of memory
void yd_mirror_free(yd_mirror *m); // NULL is fine

// Apply an operation: its rc, err and what else it tells are filled in as store.h says, and a PUT is given its order. by: who asks, from 1; a
// record that is claimed is theirs. YD_E_NOMEM: nothing has changed.
void yd_mirror_apply(yd_mirror *m, yd_store_op *op, int64_t by);
// What `by` has claimed and not finished waits again. each (NULL: nobody) is told the ids, in the order of their arrival. Returns how many.
long yd_mirror_release(yd_mirror *m, int64_t by, void (*each)(void *arg, const char *id), void *arg);
int64_t yd_mirror_holder(const yd_mirror *m, const char *id); // 0: nobody, or there is no such record

// Calls of store.h. get copies out with the blobs as they were given.
int yd_mirror_get(const yd_mirror *m, const char *id, yd_job_record *out, yd_err *err);
int yd_mirror_list(const yd_mirror *m, const char *owner, int state, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders);
int yd_mirror_list_due(const yd_mirror *m, uint64_t before, int limit, char (*ids)[YD_ID_MAX], uint64_t *orders);
int yd_mirror_find_key(const yd_mirror *m, const char *key, char id[YD_ID_MAX]);
int yd_mirror_find_once(const yd_mirror *m, const char *once, char id[YD_ID_MAX]);
void yd_mirror_bundles(const yd_mirror *m, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg);
long yd_mirror_unfinished(const yd_mirror *m, const char *owner); // records of this owner
void yd_mirror_bundle(const yd_mirror *m, const char *id, void (*each)(void *arg, const char *id, const char *owner, const char *doc), void *arg);
size_t yd_mirror_bytes(const yd_mirror *m); // that finished records take

// From now on `refer` is told of every record that comes (by 1) and goes (-1), a change being both. NULL: nobody.
void yd_mirror_on_refer(yd_mirror *m, void (*refer)(void *arg, yd_job_record *rec, int by), void *arg);

// ---- all of it, to write it down and read it back ------------------------------------------------------------------

typedef struct yd_mirror_row {
    yd_job_record rec; // with its order
    int64_t holder;    // who claimed it; 0: nobody
    uint64_t ended;    // its place among finished ones; 0: it is not finished
} yd_mirror_row;

typedef struct yd_mirror_sink {
    void *arg;
    void (*row)(void *arg, const yd_mirror_row *row); // in their order; borrowed
    void (*grave)(void *arg, const char *id, int64_t since_ms); // oldest first
    void (*bundle)(void *arg, const char *id, const char *owner, const char *doc);
} yd_mirror_sink;

void yd_mirror_walk(const yd_mirror *m, const yd_mirror_sink *to);
uint64_t yd_mirror_last_order(const yd_mirror *m);
uint64_t yd_mirror_last_end(const yd_mirror *m); // the place of the record that finished last
size_t yd_mirror_count(const yd_mirror *m);
// Into an empty mirror, in the order in which yd_mirror_walk gave them; then once yd_mirror_restored. YD_E_NOMEM.
int yd_mirror_restore_row(yd_mirror *m, const yd_mirror_row *row);
int yd_mirror_restore_grave(yd_mirror *m, const char *id, int64_t since_ms);
int yd_mirror_restored(yd_mirror *m, uint64_t last_order, uint64_t last_end);

#endif
