// Batches of the API: see bundle.h.
//
// Invariants: a bundle is in the table and in the list, newest in front, from when the store has it; `n` grows along the list, and is a time and a
// process's number where processes share the store, so that no two have the same. The sweep
// looks at a few of them a second, the longest not looked at first, and removes those of which no job is known any more.
#include "daemon/bundle.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/service_internal.h"
#include "daemon/text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOKED_AT  8 // bundles in a sweep
#define BATCH_PATH "/v1/batches/"

struct yd_bundle {
    yd_bundle *older, *newer;
    char id[YD_ID_MAX];
    char owner[YD_OWNER_MAX];
    int64_t created_ms;
    json_int_t n;
    json_t *items;
};

static void free_bundle(yd_bundle *b)
{
    json_decref(b->items);
    yd_free(b);
}

static int enter(yd_service *s, yd_bundle *b)
{
    if (yd_idmap_put(s->bundles, b->id, b)) return -1;
    b->older = s->newest_bundle;
    b->newer = NULL;
    while (b->older && b->older->n > b->n) { // another process's came a moment late
        b->newer = b->older;
        b->older = b->older->older;
    }
    *(b->older ? &b->older->newer : &s->oldest_bundle) = b;
    *(b->newer ? &b->newer->older : &s->newest_bundle) = b;
    if (b->n > s->last_bundle) s->last_bundle = b->n;
    return 0;
}

static void leave(yd_service *s, yd_bundle *b)
{
    if (s->next_bundle == b) s->next_bundle = b->newer;
    *(b->older ? &b->older->newer : &s->oldest_bundle) = b->newer;
    *(b->newer ? &b->newer->older : &s->newest_bundle) = b->older;
    yd_idmap_remove(s->bundles, b->id);
    free_bundle(b);
}

void yd_bundles_close(yd_service *s)
{
    while (s->oldest_bundle) leave(s, s->oldest_bundle);
    yd_idmap_free(s->bundles);
}

// ---- storing -------------------------------------------------------------------------------------------------------

typedef struct addition {
    yd_service *service;
    yd_bundle *bundle;
    yd_bundle_fn fn;
    void *arg;
} addition;

static void on_stored(yd_store_op *op)
{
    addition *a = op->arg;
    yd_service *s = a->service;
    if (!op->rc && s->closing) op->rc = yd_fail(&op->err, YD_E_DRAINING, "the server has shut down");
    if (!op->rc && enter(s, a->bundle)) op->rc = yd_fail(&op->err, YD_E_NOMEM, "no memory for another batch");
    a->fn(a->arg, op->rc, a->bundle->id, op->rc ? &op->err : NULL);
    if (op->rc) free_bundle(a->bundle);
    yd_free(a);
    yd_service_release(s);
}

static json_int_t next_number(yd_service *s, int64_t now_ms)
{
    const json_int_t own = s->store->several ? now_ms * 1024 + s->store->boot % 1024 : 0; // < 2^53 for 200 years
    return s->last_bundle = own > s->last_bundle ? own : s->last_bundle + 1;
}

static char *print(const yd_bundle *b)
{
    return yd_text_json(json_pack("{s:I, s:I, s:O}", "created", (json_int_t)b->created_ms, "n", b->n, "items", b->items), NULL);
}

int yd_bundle_add(yd_service *s, const char *owner, json_t *items, yd_bundle_fn fn, void *arg, yd_err *err)
{
    addition *a = yd_calloc(1, sizeof *a);
    yd_bundle *b = yd_calloc(1, sizeof *b);
    yd_store_op *op = yd_store_op_new(YD_OP_BUNDLE_PUT, NULL, on_stored, a);
    int rc = a && b && op ? 0 : YD_E_NOMEM;
    if (!rc) {
        *b = (yd_bundle){.created_ms = yd_wall_ms(), .items = json_incref(items)};
        b->n = next_number(s, b->created_ms);
        snprintf(b->owner, sizeof b->owner, "%s", owner);
        rc = yd_job_id_new(s->cfg->replica, b->id, err);
    }
    if (!rc && !(op->doc = print(b))) rc = YD_E_NOMEM;
    json_decref(items);
    if (rc) {
        yd_store_op_free(op);
        yd_free(a);
        if (b) free_bundle(b);
        return rc == YD_E_NOMEM ? yd_fail(err, rc, "no memory for another batch") : rc;
    }
    memcpy(op->rec.id, b->id, sizeof op->rec.id);
    memcpy(op->rec.owner, b->owner, sizeof op->rec.owner);
    *a = (addition){s, b, fn, arg};
    s->holds++;
    yd_service_store(s, op);
    return 0;
}

// ---- after a restart, and in the end -------------------------------------------------------------------------------

static void take_up(void *arg, const char *id, const char *owner, const char *doc)
{
    json_t *o = json_loads(doc, 0, NULL), *items = json_object_get(o, "items");
    yd_bundle *b = json_is_array(items) ? yd_calloc(1, sizeof *b) : NULL; // without memory for it its jobs are there all the same
    if (b) {
        *b = (yd_bundle){.created_ms = json_integer_value(json_object_get(o, "created")), .items = json_incref(items)};
        b->n = json_integer_value(json_object_get(o, "n"));
        snprintf(b->id, sizeof b->id, "%s", id);
        snprintf(b->owner, sizeof b->owner, "%s", owner);
        if (enter(arg, b)) free_bundle(b);
    }
    json_decref(o);
}

void yd_bundles_recover(yd_service *s)
{
    s->store->bundles(s->store, take_up, s);
}

typedef struct looking {
    yd_service *service;
    int found;
} looking;

static void found(void *arg, const char *id, const char *owner, const char *doc)
{
    looking *l = arg;
    l->found = 1;
    if (!yd_idmap_get(l->service->bundles, id)) take_up(l->service, id, owner, doc);
}

static void look_at(yd_service *s, const char *id)
{
    looking l = {.service = s};
    s->store->bundle(s->store, id, found, &l);
    yd_bundle *b = l.found ? NULL : yd_idmap_get(s->bundles, id);
    if (b) leave(s, b);
}

void yd_bundles_look(yd_service *s, const char *id)
{
    looking l = {.service = s};
    if (id) {
        look_at(s, id);
        return;
    }
    for (yd_bundle *b = s->oldest_bundle, *next; b; b = next) {
        next = b->newer;
        look_at(s, b->id);
    }
    s->store->bundles(s->store, found, &l);
}

static int is_known(yd_service *s, const char *id)
{
    yd_job_record r;
    yd_err ignored;
    if (yd_idmap_get(s->jobs, id)) return 1;
    const int rc = s->store->get(s->store, id, 0, &r, &ignored);
    if (!rc) yd_job_record_clear(&r);
    return rc != YD_E_NOT_FOUND && rc != YD_E_GONE; // in doubt it stays
}

static int has_jobs(yd_service *s, const yd_bundle *b)
{
    for (size_t i = 0; i < yd_bundle_count(b); i++)
        if (*yd_bundle_job(b, i) && is_known(s, yd_bundle_job(b, i))) return 1;
    return 0;
}

// ---- removing ------------------------------------------------------------------------------------------------------

typedef struct removal {
    yd_service *service;
    char id[YD_ID_MAX];
    size_t open; // jobs that are being deleted, and one while they are being begun
    int rc;
    yd_err err;
    yd_removed_fn fn;
    void *arg;
    yd_store_op *op; // had before anything is deleted
} removal;

static void end_removal(removal *w)
{
    yd_service *s = w->service;
    w->fn(w->arg, w->rc, w->rc ? &w->err : NULL);
    yd_store_op_free(w->op);
    yd_free(w);
    yd_service_release(s);
}

static void on_bundle_removed(yd_store_op *op)
{
    removal *w = op->arg;
    if ((w->rc = op->rc)) w->err = op->err;
    end_removal(w);
}

static void close_removal(removal *w)
{
    yd_service *s = w->service;
    yd_bundle *b = yd_idmap_get(s->bundles, w->id); // unless the sweep has been faster
    if (b && !w->rc) leave(s, b);
    if (w->rc) {
        end_removal(w);
        return;
    }
    yd_store_op *op = w->op;
    w->op = NULL;
    yd_service_store(s, op); // removing what is not there is fine
}

static void on_job_removed(void *arg, int rc, const yd_err *err)
{
    removal *w = arg;
    if (rc && !w->rc) {
        w->rc = rc;
        w->err = *err;
    }
    if (--w->open == 0) close_removal(w);
}

int yd_bundle_remove(yd_service *s, yd_bundle *b, yd_removed_fn fn, void *arg, yd_err *err)
{
    removal *w = yd_calloc(1, sizeof *w);
    yd_store_op *op = yd_store_op_new(YD_OP_BUNDLE_REMOVE, NULL, on_bundle_removed, w);
    if (!w || !op) {
        yd_store_op_free(op);
        yd_free(w);
        return yd_fail(err, YD_E_NOMEM, "no memory to delete a batch");
    }
    *w = (removal){.service = s, .open = 1, .fn = fn, .arg = arg, .op = op};
    memcpy(w->id, b->id, sizeof w->id);
    memcpy(op->rec.id, b->id, sizeof op->rec.id);
    s->holds++;
    for (size_t i = 0; i < yd_bundle_count(b); i++) {
        yd_job *j;
        yd_err e = {0};
        if (!*yd_bundle_job(b, i)) continue;
        int rc = yd_service_find(s, b->owner, yd_bundle_job(b, i), &j, &e);
        if (!rc) rc = yd_service_delete(s, j, on_job_removed, w, &e);
        if (!rc)
            w->open++;
        else if (rc != YD_E_GONE && rc != YD_E_NOT_FOUND && !w->rc)
            w->rc = rc, w->err = e;
    }
    if (--w->open > 0) return 0;
    if (!w->rc) { // every job had gone
        close_removal(w);
        return 0;
    }
    const int rc = w->rc; // none was begun
    if (err) *err = w->err;
    yd_store_op_free(w->op);
    yd_free(w);
    yd_service_release(s);
    return rc;
}

// ---- the sweep -----------------------------------------------------------------------------------------------------

void yd_bundles_sweep(yd_service *s)
{
    for (int i = 0; i < LOOKED_AT; i++) {
        yd_bundle *b = s->next_bundle ? s->next_bundle : s->oldest_bundle;
        if (!b) return;
        s->next_bundle = b->newer;
        if (has_jobs(s, b)) continue;
        yd_store_op *op = yd_store_op_new(YD_OP_BUNDLE_REMOVE, NULL, NULL, NULL);
        if (!op) return; // the next sweep comes soon
        memcpy(op->rec.id, b->id, sizeof op->rec.id);
        yd_service_store(s, op);
        leave(s, b);
    }
}

// ---- items ---------------------------------------------------------------------------------------------------------

int yd_bundle_find(yd_service *s, const char *owner, const char *id, yd_bundle **out, yd_err *err)
{
    yd_bundle *b = yd_idmap_get(s->bundles, id);
    if (!b && yd_replicas_unknown(s, id, err) == YD_E_STORE_AWAY) return YD_E_STORE_AWAY; // another process may have it
    if (!b || strcmp(b->owner, owner) != 0) return yd_fail(err, YD_E_NOT_FOUND, "there is no batch %.40s", id);
    *out = b;
    return 0;
}

const char *yd_bundle_id(const yd_bundle *b)
{
    return b->id;
}

size_t yd_bundle_count(const yd_bundle *b)
{
    return json_array_size(b->items);
}

static const char *text_of(const yd_bundle *b, size_t i, const char *key)
{
    const char *text = json_string_value(json_object_get(json_array_get(b->items, i), key));
    return text ? text : "";
}

const char *yd_bundle_name(const yd_bundle *b, size_t i)
{
    return text_of(b, i, "name");
}

const char *yd_bundle_job(const yd_bundle *b, size_t i)
{
    return text_of(b, i, "job");
}

long yd_bundle_unfinished(yd_service *s, const yd_bundle *b, size_t from, yd_job **out)
{
    for (size_t i = from; i < yd_bundle_count(b); i++) {
        yd_job *j = yd_idmap_get(s->jobs, yd_bundle_job(b, i)); // the others have ended
        if (!j || j->deleted || yd_job_state_final(j->rec.state)) continue;
        *out = j;
        return (long)i;
    }
    return -1;
}

int yd_bundle_result(yd_service *s, const yd_bundle *b, size_t i, yd_blob **out, int64_t *finished_ms, yd_err *err)
{
    const char *id = yd_bundle_job(b, i);
    const yd_job *j = yd_idmap_get(s->jobs, id);
    yd_job_record r;
    if (j)
        yd_job_record_copy(&r, &j->rec);
    else {
        const int rc = *id ? s->store->get(s->store, id, 1, &r, err) : yd_fail(err, YD_E_NOT_FOUND, "the picture was refused");
        if (rc) return rc;
    }
    *out = j && j->deleted ? NULL : yd_blob_ref(r.result);
    *finished_ms = r.finished_ms;
    yd_job_record_clear(&r);
    return *out ? 0 : yd_fail(err, YD_E_NOT_FOUND, "there is no result");
}

// ---- what clients see ----------------------------------------------------------------------------------------------

enum { REFUSED = YD_JOB_CANCELLED + 1, GONE, FATES };

typedef struct tally {
    int of[FATES];
    double share; // of everything, done
} tally;

static const char *fate_name(int fate)
{
    return fate == REFUSED ? "refused" : fate == GONE ? "gone" : yd_job_state_name((yd_job_state)fate);
}

// How far it is: 0..1.
static double share_of(const yd_job_record *r)
{
    const yd_job_progress *p = &r->progress;
    if (yd_job_state_final(r->state)) return 1;
    return p->windows_total > 0 ? (double)p->windows_done / (double)p->windows_total : 0;
}

static int fate_of(yd_service *s, const yd_bundle *b, size_t i, double *share)
{
    const char *id = yd_bundle_job(b, i);
    const yd_job *j = yd_idmap_get(s->jobs, id);
    yd_job_record r;
    yd_err ignored; // it has gone, then
    *share = 1;
    if (!*id) return REFUSED;
    if (j) {
        *share = share_of(&j->rec);
        return j->deleted ? GONE : (int)j->rec.state;
    }
    if (s->store->get(s->store, id, 0, &r, &ignored)) return GONE;
    const int state = (int)r.state;
    yd_job_record_clear(&r);
    return state;
}

static json_t *item_json(const yd_bundle *b, size_t i, int fate, double share)
{
    json_t *o = json_pack("{s:i, s:s, s:s, s:f}", "index", (int)i, "name", yd_bundle_name(b, i), "state", fate_name(fate), "share", share);
    json_t *problem = json_object_get(json_array_get(b->items, i), "problem");
    const char *id = yd_bundle_job(b, i);
    char self[128], result[160];
    json_object_set_new(o, "job", *id ? json_string(id) : json_null());
    if (problem) json_object_set(o, "problem", problem);
    if (!*id) return o;
    snprintf(self, sizeof self, YD_JOB_PATH "%.40s", id);
    snprintf(result, sizeof result, "%s/result", self);
    json_t *links = json_pack("{s:s}", "self", self);
    if (fate == YD_JOB_SUCCEEDED) json_object_set_new(links, "result", json_string(result));
    json_object_set_new(o, "links", links);
    return o;
}

static json_t *counts_json(const tally *t, size_t total)
{
    json_t *o = json_pack("{s:I}", "total", (json_int_t)total);
    for (int i = 0; i < FATES; i++) json_object_set_new(o, fate_name(i), json_integer(t->of[i]));
    return o;
}

static json_t *links_json(const yd_bundle *b, int done)
{
    char self[64], cancel[80], archive[80];
    snprintf(self, sizeof self, BATCH_PATH "%s", b->id);
    snprintf(cancel, sizeof cancel, "%s/cancel", self);
    snprintf(archive, sizeof archive, "%s/archive", self);
    return json_pack("{s:s, s:s}", "self", self, done ? "archive" : "cancel", done ? archive : cancel);
}

json_t *yd_bundle_json(yd_service *s, const yd_bundle *b, int whole)
{
    tally t = {{0}, 0};
    const size_t n = yd_bundle_count(b);
    json_t *items = json_array();
    for (size_t i = 0; i < n; i++) {
        double share;
        const int fate = fate_of(s, b, i, &share);
        t.of[fate]++;
        t.share += share / (double)n;
        if (whole) json_array_append_new(items, item_json(b, i, fate, share));
    }
    char created[YD_RFC3339_MAX];
    yd_rfc3339(b->created_ms, created, sizeof created);
    const int done = t.of[YD_JOB_QUEUED] + t.of[YD_JOB_RUNNING] == 0;
    json_t *o = json_pack("{s:s, s:s, s:b, s:f, s:o, s:o}", "id", b->id, "created", created, "done", done, "share", done ? 1.0 : t.share, "counts",
                          counts_json(&t, n), "links", links_json(b, done));
    if (whole) json_object_set(o, "items", items);
    json_decref(items);
    return o;
}

static int parse_cursor(const char *text, json_int_t *out, yd_err *err)
{
    char *end;
    errno = 0;
    *out = INT64_MAX;
    if (!text || !*text) return 0;
    *out = strtoll(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && !errno) return 0;
    return yd_fail_field(err, YD_E_INVALID, "cursor", "what an earlier answer gave as \"next\"", "this is no cursor");
}

int yd_bundle_list(yd_service *s, const char *owner, const char *cursor, int limit, json_t **out, yd_err *err)
{
    json_int_t before, last = 0;
    const int rc = parse_cursor(cursor, &before, err);
    if (rc) return rc;
    json_t *list = json_array();
    int n = 0;
    for (const yd_bundle *b = s->newest_bundle; b && n < limit; b = b->older) {
        if (b->n >= before || strcmp(b->owner, owner) != 0) continue;
        json_array_append_new(list, yd_bundle_json(s, b, 0));
        last = b->n;
        n++;
    }
    char next[24];
    snprintf(next, sizeof next, "%lld", (long long)last);
    *out = json_pack("{s:o, s:o}", "batches", list, "next", n == limit ? json_string(next) : json_null());
    return *out ? 0 : yd_fail(err, YD_E_NOMEM, "no memory for the list of batches");
}
