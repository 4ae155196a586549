// Pictures of the Redis store: files in state_dir/pictures named by their digest, which are there before the log refers to them and go when no
// record does. Where replicas share the folder, each of them removes what no record refers to: spared_s after that, which is more than a lease, so that
// whoever wrote it meanwhile has brought its record into the log or is fenced off; what was written, or found there, since then stays.
// Threads: yd_redis_write_batch on a pool thread, one at a time; everything else on the loop's.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/clock.h"
#include <string.h>

typedef struct ref {
    long count;
    char name[YD_SPOOL_NAME_MAX];
} ref;

int yd_redis_is_new(const yd_store_op *op)
{
    return op->kind == YD_OP_PUT || op->kind == YD_OP_BUNDLE_PUT;
}

// ---- writing -------------------------------------------------------------------------------------------------------

static int write_picture(yd_redis_store *s, const yd_blob *b, char name[YD_SPOOL_NAME_MAX], yd_err *err)
{
    if (*b->sha256)
        snprintf(name, YD_SPOOL_NAME_MAX, "%.64s", b->sha256);
    else
        yd_sha256_hex(b->bytes, b->len, name);
    if (!b->bytes) return 0; // a placeholder: it is there
    // A mapped one came from here; it is written again where its record has gone meanwhile.
    return yd_spool_write(s->spool, name, &(yd_piece){b->bytes, b->len}, 1,
                          b->mapped ? YD_SPOOL_KEEP_LENGTH : YD_SPOOL_KEEP_BYTES, err);
}

static void write_one(yd_redis_store *s, yd_pending *p)
{
    const yd_store_op_kind k = p->op->kind;
    const int files = k == YD_OP_PUT || k == YD_OP_UPDATE || k == YD_OP_CANCEL || k == YD_OP_ATTACH;
    p->rc = 0;
    yd_err_clear(&p->err);
    for (int i = 0; files && i < YD_FILES && !p->rc; i++) {
        const yd_blob *b = *yd_job_record_blob(&p->op->rec, (yd_record_file)i);
        if (b) p->rc = write_picture(s, b, p->names[i], &p->err);
    }
    if (p->rc) return;
    yd_free(p->text);
    p->text = yd_entry_print_op(p->op, s->replica, p->number, p->names);
    if (!p->text) p->rc = yd_fail(&p->err, YD_E_NOMEM, "no memory to store a job");
}

void yd_redis_write_batch(yd_redis_store *s, yd_pending_list *batch)
{
    yd_err err = {0};
    for (yd_pending *p = batch->head; p; p = p->next) write_one(s, p);
    const int rc = yd_spool_sync(s->spool, &err);
    for (yd_pending *p = batch->head; p && rc; p = p->next) p->rc = yd_fail(&p->err, rc, "%s", err.detail);
}

// ---- reading -------------------------------------------------------------------------------------------------------

int yd_redis_fill(yd_redis_store *s, yd_job_record *r, yd_err *err)
{
    for (int i = 0; i < YD_FILES; i++) {
        yd_blob **at = yd_job_record_blob(r, (yd_record_file)i), *whole;
        const yd_blob *b = *at;
        char path[YD_SPOOL_PATH_MAX];
        if (!b) continue;
        if (yd_spool_path(s->spool, b->sha256, path))
            return yd_fail(err, YD_E_IO, "job %s has a picture that cannot be read", r->id);
        int rc = yd_blob_map(path, b->len, b->mime, b->sha256, &whole, err);
        if (rc) return rc;
        whole->width = b->width;
        whole->height = b->height;
        yd_blob_unref(*at);
        *at = whole;
    }
    return 0;
}

// ---- who is referred to --------------------------------------------------------------------------------------------

static void doubt(yd_redis_store *s, const char *name)
{
    if (s->n_doubtful == s->cap_doubtful) {
        const size_t cap = s->cap_doubtful ? 2 * s->cap_doubtful : 16;
        void *more = yd_realloc(s->doubtful, cap * sizeof *s->doubtful);
        if (!more) return; // it stays until the next start
        s->doubtful = more;
        s->cap_doubtful = cap;
    }
    yd_redis_doubtful *d = &s->doubtful[s->n_doubtful++];
    d->since_us = yd_mono_us();
    snprintf(d->name, sizeof d->name, "%s", name);
}

void yd_redis_doubt(yd_redis_store *s, yd_entry_names names)
{
    for (int i = 0; i < YD_FILES; i++)
        if (*names[i]) doubt(s, names[i]);
}

static void key_of(const char *name, char key[YD_ID_MAX])
{
    snprintf(key, YD_ID_MAX, "%.*s", YD_ID_MAX - 1, name); // 156 bits of a digest are as good as all of it
}

static void change(yd_redis_store *s, const char *name, int by)
{
    char key[YD_ID_MAX];
    key_of(name, key);
    ref *r = yd_idmap_get(s->refs, key);
    if (!r && by > 0) {
        r = yd_calloc(1, sizeof *r);
        if (r) snprintf(r->name, sizeof r->name, "%s", name);
        if (!r || yd_idmap_put(s->refs, key, r)) {
            yd_free(r);
            s->keep_all = 1;
            return;
        }
    }
    if (!r || (r->count += by) > 0) return;
    yd_idmap_remove(s->refs, key);
    yd_free(r);
    doubt(s, name);
}

void yd_redis_refer(void *store, yd_job_record *rec, int by)
{
    yd_redis_store *s = store;
    for (int i = 0; i < YD_FILES; i++) {
        const yd_blob *b = *yd_job_record_blob(rec, (yd_record_file)i);
        if (b) change(s, b->sha256, by);
    }
}

static int is_used(void *store, const char *name)
{
    yd_redis_store *s = store;
    char key[YD_ID_MAX];
    key_of(name, key);
    return s->keep_all || yd_idmap_get(s->refs, key) != NULL;
}

void yd_redis_remove_unused(yd_redis_store *s)
{
    const int64_t until_us = yd_mono_us() - (s->opt.several ? s->opt.spared_s * 1000000 : 0);
    size_t n = 0;
    for (; n < s->n_doubtful && s->doubtful[n].since_us <= until_us; n++)
        if (!is_used(s, s->doubtful[n].name)) yd_spool_remove(s->spool, s->doubtful[n].name, s->opt.spared_s);
    if (n) memmove(s->doubtful, s->doubtful + n, (s->n_doubtful - n) * sizeof *s->doubtful);
    s->n_doubtful -= n;
}

long yd_redis_sweep(yd_redis_store *s)
{
    return yd_spool_sweep(s->spool, is_used, s);
}

void yd_redis_forget_refs(yd_redis_store *s)
{
    for (ref *r; s->refs && (r = yd_idmap_any(s->refs));) {
        char key[YD_ID_MAX];
        key_of(r->name, key);
        yd_free(yd_idmap_remove(s->refs, key));
    }
    yd_idmap_free(s->refs);
}
