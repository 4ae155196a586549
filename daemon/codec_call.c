// One call of a codec: from its input to what the caller makes of the answer. See codec.h.
//
//   queue -> fill (pool thread) -> process -> check -> take (pool thread) -> done
//
// Queue: in order, but large pictures never have every process: one at least is there for headers and for pictures of up to LIGHT_PX, so
// that nobody waits for a header behind a stranger's gigantic result. Where no process exists a pool thread does its work.
// Failure: whatever goes wrong is the call's rc and err; done always comes.
#include "daemon/codec_internal.h"

#include "core/mem.h"
#include <omp.h>
#include <pthread.h>
#include <string.h>

#define LIGHT_PX      (1 << 20)
#define PAGE          4096u
#define DECODE_PX_MS  1000 // pixels that are read in a millisecond by the slowest decoder on a slow machine
#define ENCODE_PX_MS  250  // the same for writing: lossless WebP
#define WALL_PER_CPU  3    // a process that does not have a core for itself
#define MEMORY_PX     32   // bytes of address space that decoding may take per pixel
#define KEEP_BYTES    ((size_t)64 << 20) // regions that take more memory are not kept
#define MEMORY_SAMPLE 9    // the same for encoding, per byte of packed samples: compressed growing by doubling, and copied

static size_t pixels(const yd_codec_call *c)
{
    return c->op == YD_CODEC_PROBE ? 0 : (size_t)c->w * (size_t)c->h;
}

int yd_codec_call_heavy(const yd_codec_call *c)
{
    return pixels(c) > LIGHT_PX;
}

int64_t yd_codec_cpu_ms(const yd_codec_call *c)
{
    const int64_t px = (int64_t)pixels(c);
    return c->codecs->cfg->codec_cpu_ms + px / (c->op == YD_CODEC_ENCODE ? ENCODE_PX_MS : DECODE_PX_MS);
}

int64_t yd_codec_wall_ms(const yd_codec_call *c)
{
    const yd_config *cfg = c->codecs->cfg;
    return cfg->codec_wall_ms + WALL_PER_CPU * (yd_codec_cpu_ms(c) - cfg->codec_cpu_ms);
}

uint64_t yd_codec_most_memory(const yd_config *cfg)
{
    const uint64_t px = (uint64_t)(cfg->max_pixels > cfg->max_output_pixels ? cfg->max_pixels : cfg->max_output_pixels);
    return (uint64_t)cfg->codec_memory_bytes + 4 * (uint64_t)cfg->max_body_bytes + 4 * KEEP_BYTES + px * 8 * (2 * MEMORY_SAMPLE);
}

static uint64_t memory(const yd_codec_call *c)
{
    const yd_codec_request *q = &c->request;
    const uint64_t own = (uint64_t)c->codecs->cfg->codec_memory_bytes + q->region_len;
    if (c->op == YD_CODEC_ENCODE) return own + q->meta_len + q->in_len * MEMORY_SAMPLE;
    return own + 2 * q->in_len + (uint64_t)pixels(c) * MEMORY_PX;
}

void yd_pool_thread(void)
{
    static _Thread_local int known;
    if (known) return;
    known = 1;
    pthread_setname_np(pthread_self(), "yodad-pool");
    omp_set_num_threads(1);
}

// ---- input

static size_t up(size_t n)
{
    return (n + PAGE - 1) / PAGE * PAGE;
}

// Room for a call: what its process has, when that is large enough; else as much as a power of two, so that it will do for the next, too.
static int have_region(yd_codec_call *c, size_t size, yd_err *err)
{
    size_t room = (size_t)1 << 22;
    if (c->region.size >= size) return 0;
    while (room < size) room *= 2;
    yd_region_free(&c->region);
    return yd_region_make(&c->region, room, err);
}

// Lay the parts out, each on pages of its own, and have the region.
static int lay_out(yd_codec_call *c, size_t in, size_t meta, size_t out, yd_err *err)
{
    yd_codec_request *q = &c->request;
    size_t size, most = SIZE_MAX / 4;
    if (in > most || meta > most || out > most) return yd_fail(err, YD_E_NOMEM, "no memory for a picture of %zu bytes", in);
    q->in_len = in;
    q->meta_len = meta;
    q->out_len = out;
    q->meta_off = up(in) + (c->op == YD_CODEC_DECODE ? up(out) : 0); // what may be much, and seldom is, comes last
    q->out_off = up(in) + (c->op == YD_CODEC_DECODE ? 0 : up(meta));
    size = up(in) + up(meta) + up(out);
    int rc = have_region(c, size, err);
    q->region_len = c->region.size;
    return rc;
}

int yd_codec_put_file(yd_codec_call *c, const void *bytes, size_t len, yd_err *err)
{
    yd_codec_request *q = &c->request;
    const int decodes = c->op == YD_CODEC_DECODE;
    if (len == 0 || (c->limits.max_bytes > 0 && len > c->limits.max_bytes)) {
        if (len == 0) return yd_fail_field(err, YD_E_IMAGE, "image", yd_image_accepted(), "the picture's file is empty");
        return yd_fail_field(err, YD_E_BODY_TOO_LARGE, "image", "a smaller file", "the picture's file has %zu bytes, at most %zu are accepted",
                             len, c->limits.max_bytes);
    }
    q->max_pixels = c->limits.max_pixels;
    q->max_bytes = c->limits.max_bytes;
    q->min_side = c->limits.min_side;
    q->max_side = c->limits.max_side;
    q->color_space = (int32_t)c->color_space;
    q->w = decodes ? c->w : 0;
    q->h = decodes ? c->h : 0;
    int rc = lay_out(c, len, decodes ? YD_META_BLOCK_MAX : 0, pixels(c) * 8, err);
    if (!rc) memcpy(c->region.base, bytes, len);
    return rc;
}

static int put_samples(yd_codec_call *c, const yd_packing *p, size_t meta, yd_err *err)
{
    yd_codec_request *q = &c->request;
    const size_t n = yd_packing_bytes(p);
    q->w = p->w;
    q->h = p->h;
    q->bands = p->bands;
    q->depth = p->depth;
    c->w = p->w;
    c->h = p->h;
    yd_codec_request_output(q, &c->output);
    return lay_out(c, n, meta, 2 * n + YD_META_BLOCK_MAX + ((size_t)1 << 20), err); // no encoder doubles what it is given
}

int yd_codec_put_image(yd_codec_call *c, const yd_image *im, yd_err *err)
{
    yd_packing p;
    const size_t meta = yd_image_meta_block(im->meta, NULL);
    int rc = yd_image_packing(im, &c->output, &p, err);
    if (!rc) rc = put_samples(c, &p, meta, err);
    if (rc) return rc;
    yd_image_pack(im, &c->output, &p, c->region.base);
    yd_image_meta_block(im->meta, c->region.base + c->request.meta_off);
    return 0;
}

int yd_codec_put_grey(yd_codec_call *c, const uint8_t *plane, int w, int h, yd_err *err)
{
    const yd_packing p = {w, h, 1, 8};
    yd_output_for_maps(&c->output);
    int rc = put_samples(c, &p, 0, err);
    if (!rc) memcpy(c->region.base, plane, yd_packing_bytes(&p));
    return rc;
}

// ---- output

// What was checked once is in our own memory; what lies in the region may change while it is read, and is judged for itself.
static int understand(yd_codec_call *c, yd_err *err)
{
    const yd_codec_request *q = &c->request;
    const yd_codec_answer *a = &c->answer;
    if (c->op == YD_CODEC_PROBE) {
        c->header = (yd_image_header){a->w, a->h, a->channels, a->depth, a->pages, ""};
        memcpy(c->header.format, a->format, sizeof c->header.format);
        return 0;
    }
    if (c->op == YD_CODEC_ENCODE) {
        c->file = c->region.base + q->out_off;
        c->file_len = (size_t)a->out_len;
        const char *begins = yd_image_sniff(c->file, c->file_len);
        if (begins && strcmp(begins, yd_image_format_name(c->output.format)) == 0) return 0;
        return yd_fail(err, YD_E_INTERNAL, "the encoded picture is no %s", yd_image_format_name(c->output.format));
    }
    yd_image *im = &c->image;
    *im = (yd_image){.w = a->w, .h = a->h, .depth = a->depth, .grey = a->grey};
    im->rgb = (uint16_t *)(void *)(c->region.base + q->out_off);
    if (a->alpha) im->alpha = im->rgb + 3 * pixels(c);
    return yd_image_meta_read(c->region.base + q->meta_off, (size_t)a->meta_len, &im->meta, err);
}

// Regions keep the pages that were ever written: a first part, the size of the largest call.
static int worth_keeping(yd_codec_call *c)
{
    const yd_codec_request *q = &c->request;
    const size_t end = (size_t)(c->op == YD_CODEC_DECODE ? q->meta_off + c->answer.meta_len : q->out_off + c->answer.out_len);
    if (end > c->region.written) c->region.written = end;
    return c->region.written <= KEEP_BYTES;
}

static void take_work(uv_work_t *w)
{
    yd_codec_call *c = w->data;
    yd_pool_thread();
    if (!atomic_load(&c->cancelled)) {
        c->rc = understand(c, &c->err);
        if (!c->rc && c->take) c->rc = c->take(c, &c->err);
    }
    yd_image_meta_unref(c->image.meta);
    memset(&c->image, 0, sizeof c->image);
    c->file = NULL;
    if (!worth_keeping(c)) yd_region_free(&c->region);
}

void yd_codec_call_finish(yd_codec_call *c)
{
    yd_codecs *all = c->codecs;
    if (c->region.base) yd_codec_region_back(c);
    if (c->rc == YD_CODEC_NOTHING)
        c->rc = 0;
    else if (!c->rc && atomic_load(&c->cancelled))
        c->rc = yd_fail(&c->err, YD_E_CANCELLED, "nobody waits for the picture any more");
    c->done(c);
    yd_codecs_release(all);
}

static void take_after(uv_work_t *w, int status)
{
    (void)status;
    yd_codec_call_finish(w->data);
}

void yd_codec_call_back(yd_codec_call *c, int rc)
{
    c->rc = rc;
    if (!rc && c->answer.rc) c->rc = yd_codec_answer_error(&c->answer, &c->err);
    if (c->rc || (c->op == YD_CODEC_PROBE && !c->take)) {
        if (!c->rc) c->rc = understand(c, &c->err);
        yd_codec_call_finish(c);
        return;
    }
    uv_queue_work(c->codecs->loop, &c->work, take_work, take_after);
}

// ---- without processes

static void perform_work(uv_work_t *w)
{
    yd_codec_call *c = w->data;
    yd_pool_thread();
    if (!atomic_load(&c->cancelled)) yd_codec_perform(&c->request, c->region.base, &c->answer);
}

static void perform_after(uv_work_t *w, int status)
{
    yd_codec_call *c = w->data;
    (void)status;
    int bad = !atomic_load(&c->cancelled) && yd_codec_answer_check(&c->request, &c->answer);
    yd_codec_call_back(c, bad ? yd_fail(&c->err, YD_E_INTERNAL, "the codec's answer makes no sense") : 0);
}

// ---- the queue

static void enqueue(yd_codec_call *c)
{
    yd_codecs *all = c->codecs;
    c->next = NULL;
    if (all->tail)
        all->tail->next = c;
    else
        all->head = c;
    all->tail = c;
    c->waits = 1;
    all->waiting++;
}

static void unlink_call(yd_codecs *all, yd_codec_call *before, yd_codec_call *c)
{
    if (before)
        before->next = c->next;
    else
        all->head = c->next;
    if (all->tail == c) all->tail = before;
    c->waits = 0;
    all->waiting--;
}

yd_codec_call *yd_codec_call_next(yd_codecs *all)
{
    const int most = all->n > 1 ? all->n - 1 : 1;
    for (yd_codec_call *before = NULL, *c = all->head; c; before = c, c = c->next) {
        if (yd_codec_call_heavy(c) && all->heavy >= most) continue;
        unlink_call(all, before, c);
        return c;
    }
    return NULL;
}

void yd_codec_call_requeue(yd_codec_call *c)
{
    yd_codecs *all = c->codecs;
    c->slot = NULL;
    c->next = all->head;
    all->head = c;
    if (!all->tail) all->tail = c;
    c->waits = 1;
    all->waiting++;
}

void yd_codec_calls_drop(yd_codecs *all)
{
    for (yd_codec_call *c; (c = all->head);) {
        unlink_call(all, NULL, c);
        c->rc = yd_fail(&c->err, YD_E_CANCELLED, "nobody waits for the picture any more");
        yd_codec_call_finish(c);
    }
}

// ---- input, on a pool thread

static void fill_work(uv_work_t *w)
{
    yd_codec_call *c = w->data;
    yd_pool_thread();
    c->rc = atomic_load(&c->cancelled) ? yd_fail(&c->err, YD_E_CANCELLED, "nobody waits for the picture any more") : c->fill(c, &c->err);
}

static void fill_after(uv_work_t *w, int status)
{
    yd_codec_call *c = w->data;
    yd_codecs *all = c->codecs;
    (void)status;
    c->request.serial = ++all->serial;
    c->request.address_space = memory(c);
    c->request.cpu_s = (uint32_t)((yd_codec_cpu_ms(c) + 999) / 1000);
    if (all->n > 0)
        yd_codec_filled(c);
    else if (c->rc)
        yd_codec_call_finish(c);
    else
        uv_queue_work(all->loop, &c->work, perform_work, perform_after);
}

void yd_codec_call_fill(yd_codec_call *c)
{
    yd_codec_request_init(&c->request, c->op);
    uv_queue_work(c->codecs->loop, &c->work, fill_work, fill_after);
}

void yd_codec_start(yd_codecs *all, yd_codec_call *c)
{
    c->codecs = all;
    c->work.data = c;
    c->rc = 0;
    yd_err_clear(&c->err);
    c->region = (yd_region){.fd = -1};
    memset(&c->answer, 0, sizeof c->answer);
    memset(&c->image, 0, sizeof c->image);
    atomic_store(&c->cancelled, 0);
    c->slot = NULL;
    c->process = 0;
    all->holds++;
    if (all->n == 0) {
        yd_codec_call_fill(c);
        return;
    }
    enqueue(c);
    if (all->closing)
        yd_codec_cancel(c);
    else
        yd_codecs_pump(all);
}

// One that waited is done from the loop, as always: a stage with nothing to do brings it there.
void yd_codec_cancel(yd_codec_call *c)
{
    yd_codecs *all = c->codecs;
    atomic_store(&c->cancelled, 1);
    if (!c->waits) return;
    for (yd_codec_call *before = NULL, *x = all->head; x; before = x, x = x->next)
        if (x == c) {
            unlink_call(all, before, c);
            uv_queue_work(all->loop, &c->work, take_work, take_after);
            return;
        }
}
