// Batches of the API: pictures that were sent together, each a job of its own. (In this layer a "batch" is what the device runs, so here
// they are bundles.)
//
// A bundle is a list of names, each with its job or with the reason why there is none. It holds nothing else: states, results and
// cancelling are the jobs'. It is stored once, after its jobs, and goes when the last of them has expired; so there are never more of
// them than jobs. All are in memory, a few hundred bytes an item. Threads: the loop thread.
#ifndef YD_DAEMON_BUNDLE_H
#define YD_DAEMON_BUNDLE_H

#include "daemon/service.h"

typedef struct yd_bundle yd_bundle; // borrowed: valid until control returns to the loop

// Told when the bundle is stored (rc 0, id is its id), or why it is not. Called later, once.
typedef void (*yd_bundle_fn)(void *arg, int rc, const char *id, const yd_err *err);

// Store a bundle. items (consumed): [{"name", "job"} or {"name", "problem"}, ...], at least one with a job. YD_E_NOMEM, YD_E_INTERNAL: fn is
// not called.
int yd_bundle_add(yd_service *s, const char *owner, json_t *items, yd_bundle_fn fn, void *arg, yd_err *err);

// YD_E_NOT_FOUND, also when it is somebody else's.
int yd_bundle_find(yd_service *s, const char *owner, const char *id, yd_bundle **out, yd_err *err);
const char *yd_bundle_id(const yd_bundle *b);

// As clients see it, whole (with its items) or in short. NULL: out of memory.
json_t *yd_bundle_json(yd_service *s, const yd_bundle *b, int whole);
// {"batches": [...], "next": cursor or null}, newest first. YD_E_INVALID for a cursor that is none, YD_E_NOMEM.
int yd_bundle_list(yd_service *s, const char *owner, const char *cursor, int limit, json_t **out, yd_err *err);

// Delete its jobs, as yd_service_delete does, and then the bundle. fn is called once, later, when all that is stored; with the first failure
// when a job could not be deleted, and then the bundle stays with those that are left. YD_E_NOMEM: fn is not called.
int yd_bundle_remove(yd_service *s, yd_bundle *b, yd_removed_fn fn, void *arg, yd_err *err);

// ---- items ----
size_t yd_bundle_count(const yd_bundle *b);
const char *yd_bundle_name(const yd_bundle *b, size_t i);
const char *yd_bundle_job(const yd_bundle *b, size_t i); // its id, "" when it was refused
// The first item from `from` on whose job has not ended: its index and *out; -1: there is none.
long yd_bundle_unfinished(yd_service *s, const yd_bundle *b, size_t from, yd_job **out);
// The result of an item: a new reference, and when it was finished (ms since 1970). YD_E_NOT_FOUND when there is none.
int yd_bundle_result(yd_service *s, const yd_bundle *b, size_t i, yd_blob **out, int64_t *finished_ms, yd_err *err);

#endif
