// Pictures of the Redis store: files in state_dir/pictures named by their digest, which are there before the log refers to them and go when no
// record does. With most_picture they are in the server as well (redis_files.h), and the folder is this process's own: copies. Where replicas share the folder, each of them removes what no record refers to: spared_s after that, which is more than a lease, so that
// whoever wrote it meanwhile has brought its record into the log or is fenced off; what was written, or found there, since then stays.
// Threads: yd_redis_write_batch on a pool thread, one at a time; everything else on the loop's.
#include "daemon/store_redis.h"

#include "core/mem.h"
#include "core/sha256.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define OLD_S          86400 // what nobody wants in the server is nobody's: as in a folder that is shared
#define POOL_ANSWER_MS 700   // a new job is refused within a second
#define LOOP_ANSWER_MS 400

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
    if (s->writing) {
        const int rc = yd_redis_files_put(s->writing, YD_REDIS_PICTURE, name, b->bytes, b->len, err);
        if (rc) return rc;
    }
    // A mapped one came from here; it is written again where its record has gone meanwhile.
    return yd_spool_write(s->spool, name, &(yd_piece){b->bytes, b->len}, 1,
                          b->mapped ? YD_SPOOL_KEEP_LENGTH : YD_SPOOL_KEEP_BYTES, err);
}

static int is_too_large(const yd_redis_store *s, const yd_blob *b)
{
    return s->opt.most_picture && b->len > s->opt.most_picture;
}

// The service looks at uploads and results; a map beside them that has no room is done without.
static void leave_out(yd_pending *p, yd_blob **b, char *name)
{
    yd_log(YD_LOG_WARN, NULL, "a picture of a job is not kept", "job", p->op->rec.id, "why", p->err.detail, NULL);
    yd_blob_unref(*b);
    *b = NULL;
    *name = 0;
    p->rc = 0;
    yd_err_clear(&p->err);
}

static void write_one(yd_redis_store *s, yd_pending *p)
{
    const yd_store_op_kind k = p->op->kind;
    const int files = k == YD_OP_PUT || k == YD_OP_UPDATE || k == YD_OP_CANCEL || k == YD_OP_ATTACH;
    p->rc = 0;
    yd_err_clear(&p->err);
    for (int i = 0; files && i < YD_FILES && !p->rc; i++) {
        yd_blob **b = yd_job_record_blob(&p->op->rec, (yd_record_file)i);
        if (!*b) continue;
        p->rc = write_picture(s, *b, p->names[i], &p->err);
        if (p->rc && !yd_redis_is_new(p->op) && is_too_large(s, *b)) leave_out(p, b, p->names[i]);
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

// A picture that another process stored is fetched when it is first asked for, about a millisecond for each megabyte.
static int have_copy(yd_redis_store *s, const char *name, const char *path, yd_err *err)
{
    if (!s->reading || access(path, F_OK) == 0) return 0;
    if (!s->ok) return yd_fail(err, YD_E_STORE_AWAY, "the shared store does not work: %s", s->why);
    const int rc = yd_redis_files_fetch(s->reading, YD_REDIS_PICTURE, name, path, err);
    return rc == YD_E_NOT_FOUND ? err->code = YD_E_IO : rc;
}

int yd_redis_fill(yd_redis_store *s, yd_job_record *r, yd_err *err)
{
    for (int i = 0; i < YD_FILES; i++) {
        yd_blob **at = yd_job_record_blob(r, (yd_record_file)i), *whole;
        const yd_blob *b = *at;
        char path[YD_SPOOL_PATH_MAX];
        if (!b) continue;
        if (yd_spool_path(s->spool, b->sha256, path))
            return yd_fail(err, YD_E_IO, "job %s has a picture that cannot be read", r->id);
        int rc = have_copy(s, b->sha256, path, err);
        if (rc) return rc;
        rc = yd_blob_map(path, b->len, b->mime, b->sha256, &whole, err);
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

static void on_dropped(redisAsyncContext *c, void *reply, void *arg)
{
    (void)c, (void)reply, (void)arg;
}

// Without an answer: what is not taken away now is found by whoever starts next.
static void drop(yd_redis_store *s, yd_redis_file_kind kind, const char *name, int64_t unused_s)
{
    char key[YD_REDIS_FILE_KEY_MAX], ms[24];
    yd_redis_file_key(kind, name, key);
    snprintf(ms, sizeof ms, "%lld", (long long)unused_s * 1000);
    const char *argv[] = {"EVAL", yd_redis_files_drop_script, "0", key, ms};
    if (s->writer.ready) yd_redis_link_send(&s->writer, on_dropped, NULL, 5, argv, NULL);
}

static void remove_file(yd_redis_store *s, const char *name)
{
    yd_spool_remove(s->spool, name, s->opt.spared_s);
    if (s->writing) drop(s, YD_REDIS_PICTURE, name, s->opt.spared_s);
}

void yd_redis_remove_unused(yd_redis_store *s)
{
    const int64_t until_us = yd_mono_us() - (s->opt.several ? s->opt.spared_s * 1000000 : 0);
    size_t n = 0;
    for (; n < s->n_doubtful && s->doubtful[n].since_us <= until_us; n++)
        if (!is_used(s, s->doubtful[n].name)) remove_file(s, s->doubtful[n].name);
    if (n) memmove(s->doubtful, s->doubtful + n, (s->n_doubtful - n) * sizeof *s->doubtful);
    s->n_doubtful -= n;
}

long yd_redis_sweep(yd_redis_store *s)
{
    return yd_spool_sweep(s->spool, is_used, s);
}

// ---- files in the server --------------------------------------------------------------------------------------------

static int is_left_over(yd_redis_store *s, const char *key)
{
    const char *name = strrchr(key, ':') + 1;
    yd_job_record r;
    yd_err err;
    if (strncmp(key, "yodad:picture:", 14) == 0) return !is_used(s, name);
    if (yd_mirror_get(s->mirror, name, &r, &err)) return 1;
    const int left = yd_job_state_final(r.state);
    yd_job_record_clear(&r);
    return left;
}

void yd_redis_sweep_server(yd_redis_store *s, redisContext *c)
{
    if (!s->writing) return;
    redisReply *all = redisCommand(c, "HKEYS %s", YD_REDIS_FILES);
    for (size_t i = 0; all && all->type == REDIS_REPLY_ARRAY && i < all->elements; i++) {
        const char *key = all->element[i]->str;
        if (!strrchr(key, ':') || !is_left_over(s, key)) continue;
        redisReply *r = redisCommand(c, "EVAL %s 0 %s %lld", yd_redis_files_drop_script, key, OLD_S * 1000LL);
        freeReplyObject(r);
    }
    freeReplyObject(all);
}

static int keep(yd_store *base, const char *name, const void *bytes, size_t len, yd_err *err)
{
    return yd_redis_files_put(((yd_redis_store *)base)->saving, YD_REDIS_CHECKPOINT, name, bytes, len, err);
}

static int fetch(yd_store *base, const char *name, const char *path, yd_err *err)
{
    return yd_redis_files_fetch(((yd_redis_store *)base)->saving, YD_REDIS_CHECKPOINT, name, path, err);
}

static void drop_checkpoint(yd_store *base, const char *name)
{
    drop((yd_redis_store *)base, YD_REDIS_CHECKPOINT, name, 0);
}

int yd_redis_files_open(yd_redis_store *s, yd_err *err)
{
    if (!s->opt.most_picture) return 0;
    s->writing = yd_redis_files_new(&s->url, s->opt.most_picture, POOL_ANSWER_MS);
    s->reading = yd_redis_files_new(&s->url, s->opt.most_picture, LOOP_ANSWER_MS);
    s->saving = yd_redis_files_new(&s->url, s->opt.most_picture, POOL_ANSWER_MS);
    if (!s->writing || !s->reading || !s->saving) return yd_fail(err, YD_E_NOMEM, "no memory for the job store");
    s->base.most_picture = s->opt.most_picture;
    s->base.keep = keep;
    s->base.fetch = fetch;
    s->base.drop = drop_checkpoint;
    return 0;
}

// The first one's counts. In hex: whoever looks at the database with its own tools should not have to guess.
int yd_redis_files_secret(yd_redis_store *s, redisContext *c, yd_err *err)
{
    if (!s->opt.most_picture) return 0;
    char hex[65] = "";
    if (getrandom(s->secret, sizeof s->secret, 0) != (ssize_t)sizeof s->secret) return yd_fail(err, YD_E_IO, "no random numbers: %m");
    for (size_t i = 0; i < sizeof s->secret; i++) snprintf(hex + 2 * i, 3, "%02x", s->secret[i]);
    redisReply *set = redisCommand(c, "SETNX yodad:secret %s", hex), *r = redisCommand(c, "GET yodad:secret");
    int ok = set && r && r->type == REDIS_REPLY_STRING && r->len == 64;
    for (size_t i = 0; ok && i < sizeof s->secret; i++) {
        unsigned byte = 0;
        ok = sscanf(r->str + 2 * i, "%2x", &byte) == 1;
        s->secret[i] = (uint8_t)byte;
    }
    freeReplyObject(set);
    freeReplyObject(r);
    s->base.secret = s->secret;
    return ok ? 0 : yd_fail_field(err, YD_E_CONFIG, "store", "a Redis server that can be written to", "the shared store has no secret for tokens (yodad:secret)");
}

void yd_redis_files_end(yd_redis_store *s)
{
    yd_redis_files_close(s->writing);
    yd_redis_files_close(s->reading);
    yd_redis_files_close(s->saving);
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
