// GET /v1/batches/{id}/archive: the results of a batch as one ZIP, streamed.
//
// Members are stored as they are, since pictures do not compress again; so the archive's length is known before it begins, and a client
// sees how far its download is. What it holds at a time: a reference of each result, which stay in their files, and one header. A check sum
// stands before its member, so every result is read once more than it is sent: on a pool thread, while the connection is suspended.
//
//   [sum -> header -> bytes] for every member -> directory -> end
//
// The last member, batch.json, says what became of every picture, also of those that are not there.
// Threads: the loop's, except sum_work. The archive belongs to the response, the request lets go of it in drop().
#include "api/batches.h"
#include "api/handlers.h"
#include "api/respond.h"
#include "api/result.h"
#include "api/zip.h"
#include "core/image.h"
#include "core/mem.h"
#include "daemon/bundle.h"
#include "daemon/clock.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

#define BLOCK_BYTES 65536 // asked for at a time

typedef struct member {
    yd_zip_member zip;
    char name[YD_ZIP_NAME_MAX + 1];
    yd_blob *blob;
    int summed;
} member;

typedef struct archive {
    yd_request *r; // NULL once the request ended
    struct sum_task *task;
    size_t n, at;    // members; which one is sent, or counted on in the directory
    int in_directory, over;
    int damaged; // a member is: the archive breaks off before it
    uint64_t sent, directory_offset;
    const uint8_t *now; // what is being sent
    size_t now_len, now_pos;
    int bytes_follow; // a header was sent last
    uint8_t part[YD_ZIP_PART_MAX];
    member member[];
} archive;

// ---- check sums

typedef struct sum_task {
    uv_work_t work;
    archive *archive; // NULL: nobody waits any more
    yd_blob *blob;
    uint32_t crc;
    int rc; // of its check
} sum_task;

static void sum_work(uv_work_t *work)
{
    sum_task *t = work->data;
    yd_err ignored; // the log has it
    t->rc = yd_blob_check(t->blob, &ignored);
    t->crc = t->rc ? 0 : (uint32_t)crc32_z(0, t->blob->bytes, t->blob->len);
}

static void sum_after(uv_work_t *work, int status)
{
    sum_task *t = work->data;
    archive *a = t->archive;
    (void)status;
    yd_blob_unref(t->blob);
    if (a) {
        a->task = NULL;
        a->member[a->at].zip.crc = t->crc;
        a->member[a->at].summed = !t->rc;
        a->damaged |= t->rc != 0;
        if (a->r) yd_request_wake(a->r);
    }
    yd_free(t);
}

static int start_sum(archive *a)
{
    sum_task *t = yd_calloc(1, sizeof *t);
    if (!t) return -1;
    t->archive = a;
    t->blob = yd_blob_ref(a->member[a->at].blob);
    t->work.data = t;
    a->task = t;
    return uv_queue_work(a->r->api->loop, &t->work, sum_work, sum_after);
}

// ---- sending

// The next part that needs no work. 0: there is none; a->over, or the member's sum is wanted.
static int next_part(archive *a)
{
    member *m = &a->member[a->at];
    a->now = a->part;
    a->now_pos = a->now_len = 0;
    if (!a->in_directory && a->bytes_follow) {
        a->bytes_follow = 0;
        a->now = m->blob->bytes;
        a->now_len = m->blob->len;
        if (++a->at == a->n) {
            a->in_directory = 1;
            a->at = 0;
            a->directory_offset = a->sent + a->now_len;
        }
    } else if (!a->in_directory) {
        if (!m->summed) return 0;
        a->now_len = yd_zip_header(&m->zip, a->part);
        a->bytes_follow = 1;
    } else if (a->at < a->n) {
        a->now_len = yd_zip_directory(&m->zip, a->part);
        a->at++;
    } else if (!a->over) {
        a->now_len = yd_zip_end(a->n, a->directory_offset, a->sent - a->directory_offset, a->part);
        a->over = 1;
    } else
        return 0;
    return 1;
}

static void drop(yd_request *r)
{
    archive *a = r->wait;
    a->r = NULL;
}

static ssize_t read_more(void *cls, uint64_t pos, char *buf, size_t max)
{
    archive *a = cls;
    if (!a->r || a->damaged) return MHD_CONTENT_READER_END_WITH_ERROR; // !r: the client is gone
    size_t n = 0;
    while (n < max && (a->now_pos < a->now_len || next_part(a))) {
        const size_t left = a->now_len - a->now_pos, k = left < max - n ? left : max - n;
        memcpy(buf + n, a->now + a->now_pos, k);
        a->now_pos += k;
        a->sent += k;
        n += k;
    }
    a->r->sent_bytes = pos + n;
    if (n) return (ssize_t)n;
    if (a->over) return MHD_CONTENT_READER_END_OF_STREAM;
    if (!a->task && start_sum(a)) return MHD_CONTENT_READER_END_WITH_ERROR;
    yd_request_wait(a->r, NULL, drop, a);
    return 0;
}

static void free_archive(void *cls)
{
    archive *a = cls;
    if (a->task) a->task->archive = NULL;
    for (size_t i = 0; i < a->n; i++) yd_blob_unref(a->member[i].blob);
    yd_free(a);
}

// ---- what is in it

static int is_used(const archive *a, const char *name)
{
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->member[i].name, name) == 0) return 1;
    return 0;
}

// "IMG_1.jpg" becomes "IMG_1.png", and the second of that name "IMG_1-2.png".
static void name_member(const archive *a, member *m, const char *given, const char *mime)
{
    const char *dot = strrchr(given, '.'), *ext = yd_extension_of(mime);
    const int stem = (int)(dot && dot > given ? (size_t)(dot - given) : strlen(given)), ext_len = (int)strcspn(ext, " ");
    snprintf(m->name, sizeof m->name, "%.*s.%.*s", stem, given, ext_len, ext);
    for (size_t i = 2; is_used(a, m->name); i++) snprintf(m->name, sizeof m->name, "%.*s-%zu.%.*s", stem, given, i, ext_len, ext);
}

static void add_member(archive *a, yd_blob *b, int64_t time_ms)
{
    member *m = &a->member[a->n++];
    m->blob = b;
    m->zip = (yd_zip_member){.name = m->name, .size = b->len, .time_ms = time_ms};
}

static int add_summary(archive *a, yd_service *s, const yd_bundle *b, yd_err *err)
{
    size_t len = 0;
    char *text = yd_json_line(yd_bundle_json(s, b, 1), &len);
    yd_blob *blob = text ? yd_blob_new(text, len, "application/json", 0) : NULL;
    if (!blob) return yd_fail(err, YD_E_NOMEM, "no memory for an archive");
    snprintf(a->member[a->n].name, sizeof a->member[0].name, "batch.json");
    add_member(a, blob, yd_wall_ms());
    return 0;
}

static int collect(archive *a, yd_service *s, const yd_bundle *b, yd_err *err)
{
    for (size_t i = 0; i < yd_bundle_count(b); i++) {
        yd_blob *blob;
        int64_t finished_ms;
        const int rc = yd_bundle_result(s, b, i, &blob, &finished_ms, err);
        if (rc == YD_E_NOMEM || rc == YD_E_IO) return rc;
        if (rc) continue; // batch.json says why it is not there
        name_member(a, &a->member[a->n], yd_bundle_name(b, i), blob->mime);
        add_member(a, blob, finished_ms);
    }
    return add_summary(a, s, b, err);
}

// Where everything will be, and how long it is.
static uint64_t lay_out(archive *a)
{
    uint64_t at = 0, directory = 0;
    for (size_t i = 0; i < a->n; i++) {
        yd_zip_member *z = &a->member[i].zip;
        z->offset = at;
        at += yd_zip_header(z, NULL) + z->size;
        directory += yd_zip_directory(z, NULL);
    }
    return at + directory + yd_zip_end(a->n, at, directory, NULL);
}

static void answer(yd_request *r, archive *a)
{
    char disposition[96];
    const uint64_t size = lay_out(a);
    struct MHD_Response *resp = MHD_create_response_from_callback(size, BLOCK_BYTES, read_more, a, free_archive);
    if (resp) {
        a->r = r;
        r->drop = drop;
        r->wait = a;
        snprintf(disposition, sizeof disposition, "attachment; filename=\"batch-%.40s.zip\"", r->match.param);
        yd_header(resp, "Content-Type", "application/zip");
        yd_header(resp, "Content-Disposition", disposition);
        yd_header(resp, "Cache-Control", "no-store");
    } else
        free_archive(a);
    yd_respond(r, 200, resp, size);
}

void yd_handle_batch_archive(yd_request *r)
{
    yd_err err = {0};
    yd_bundle *b;
    yd_job *j;
    archive *a = NULL;
    int rc = yd_bundle_find(r->service, r->owner, r->match.param, &b, &err);
    if (!rc && yd_bundle_unfinished(r->service, b, 0, &j) >= 0)
        rc = yd_fail(&err, YD_E_NOT_READY, "the batch is not done; wait for it with GET /v1/batches/%s?wait=60", yd_bundle_id(b));
    if (!rc) {
        a = yd_calloc(1, sizeof *a + (yd_bundle_count(b) + 1) * sizeof a->member[0]);
        rc = a ? collect(a, r->service, b, &err) : yd_fail(&err, YD_E_NOMEM, "no memory for an archive");
    }
    if (!rc) {
        answer(r, a);
        return;
    }
    if (a) free_archive(a);
    yd_respond_problem(r, &err);
}
