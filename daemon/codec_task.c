// Codec calls on behalf of jobs: the job is pinned and the service held while one is under way; several rounds may follow each other.
// Threads: the loop's, except what a call's fill and take do with yd_codec_take_blob.
#include "daemon/service_internal.h"

#include "core/mem.h"
#include <string.h>

static void on_done(yd_codec_call *c)
{
    yd_codec_task *t = (yd_codec_task *)(void *)c;
    t->again = 0;
    t->after(t);
    if (!t->again) yd_codec_task_end(t);
}

void yd_codec_task_end(yd_codec_task *t)
{
    yd_job *j = t->job;
    yd_service *s = j->service;
    yd_free(t);
    yd_job_unpin(j);
    yd_service_release(s);
}

void yd_codec_task_start(yd_codec_task *t, yd_job *j, void (*after)(yd_codec_task *t))
{
    t->job = j;
    t->after = after;
    t->call.done = on_done;
    t->call.request_id = j->request_id;
    yd_job_pin(j);
    j->service->holds++;
    yd_codec_start(j->service->codecs, &t->call);
}

void yd_codec_task_pause(yd_codec_task *t)
{
    t->again = 1;
}

void yd_codec_task_again(yd_codec_task *t, yd_codec_op op, int (*fill)(yd_codec_call *c, yd_err *err),
                         int (*take)(yd_codec_call *c, yd_err *err), void (*after)(yd_codec_task *t))
{
    t->again = 1;
    t->after = after;
    t->call.op = op;
    t->call.fill = fill;
    t->call.take = take;
    yd_codec_start(t->job->service->codecs, &t->call);
}

int yd_codec_take_blob(const yd_codec_call *c, int hash, yd_blob **out, yd_err *err)
{
    void *copy = yd_malloc(c->file_len);
    if (copy) memcpy(copy, c->file, c->file_len);
    yd_blob *b = copy ? yd_blob_new(copy, c->file_len, yd_image_format_mime(c->output.format), hash) : NULL;
    if (!b) return yd_fail(err, YD_E_NOMEM, "no memory for a picture of %zu bytes", c->file_len);
    b->width = c->request.w;
    b->height = c->request.h;
    *out = b;
    return 0;
}
