// Looking at a picture's header before anything is decided about it: in a codec process, like everything that reads pictures.
// The bytes are counted among those that wait while one looks at them. Threads: the loop's.
#include "daemon/service_internal.h"

#include "core/mem.h"

struct yd_probe_call {
    yd_codec_call call;
    yd_service *service;
    const void *bytes;
    size_t len;
    void *left; // the same bytes, when their owner has gone: to be freed
    yd_probe_fn fn;
    void *arg;
};

static int give_file(yd_codec_call *c, yd_err *err)
{
    const yd_probe_call *p = (const yd_probe_call *)(const void *)c;
    return yd_codec_put_file(c, p->bytes, p->len, err);
}

static void on_done(yd_codec_call *c)
{
    yd_probe_call *p = (yd_probe_call *)(void *)c;
    yd_service *s = p->service;
    s->input_bytes -= p->len;
    if (p->fn) p->fn(p->arg, c->rc, c->rc ? NULL : &c->header, c->rc ? &c->err : NULL);
    yd_free(p->left);
    yd_free(p);
    yd_service_release(s);
}

int yd_service_probe(yd_service *s, const void *bytes, size_t len, yd_probe_fn fn, void *arg, yd_probe_call **out, yd_err *err)
{
    int rc = yd_service_admit(s, len, err);
    if (rc) return rc;
    yd_probe_call *p = yd_calloc(1, sizeof *p);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory to look at a picture");
    p->service = s;
    p->bytes = bytes;
    p->len = len;
    p->fn = fn;
    p->arg = arg;
    p->call = (yd_codec_call){.op = YD_CODEC_PROBE, .fill = give_file, .done = on_done};
    p->call.limits = yd_service_image_limits(s);
    s->input_bytes += len;
    s->holds++;
    *out = p;
    yd_codec_start(s->codecs, &p->call);
    return 0;
}

void yd_probe_cancel(yd_probe_call *p, void *bytes)
{
    p->fn = NULL;
    p->left = bytes;
    yd_codec_cancel(&p->call);
}
