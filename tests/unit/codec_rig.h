// What the tests of the codecs share: a pool of codec processes, one call at a time, pictures to send through it.
//
// The processes are this same program, started again: what they do is up to the main() of each test.
#ifndef YD_TESTS_CODEC_RIG_H
#define YD_TESTS_CODEC_RIG_H

#include "daemon/codec.h"

#include "core/mem.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "tests/unit/t.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef YD_SANITIZE
#define SLOW 8
#else
#define SLOW 1
#endif

static uv_loop_t loop;
static uv_timer_t ticker;
static yd_config cfg;
static yd_codecs *codecs;
static yd_metrics *metrics;
static int closed;
static const yd_image_limits wide = {50000000, 1, 30000, 64 << 20};

// ---- a pool and one call at a time ---------------------------------------------------------------------------------

static inline void on_tick(uv_timer_t *t)
{
    (void)t;
}

static inline void on_closed(void *arg)
{
    (void)arg;
    closed = 1;
}

static inline int count_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

#define WAIT(cond)                                                                                                     \
    do {                                                                                                               \
        const int64_t until_ = yd_mono_us() + 20000000 * SLOW;                                                         \
        while (!(cond) && yd_mono_us() < until_) uv_run(&loop, UV_RUN_ONCE);                                           \
        CHECK(cond);                                                                                                   \
    } while (0)

static inline void setup(int processes)
{
    yd_config_init(&cfg);
    cfg.codec_processes = processes;
    cfg.codec_wall_ms = 1500;
    cfg.codec_cpu_ms = 1000;
}

static inline void open_codecs(const char *program)
{
    yd_err err;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 5, 5);
    metrics = yd_metrics_new();
    closed = 0;
    CHECK(metrics && yd_codecs_open(&loop, &cfg, metrics, program, &codecs, &err) == 0);
}

static inline void close_codecs(void)
{
    yd_codecs_close(codecs, on_closed, NULL);
    WAIT(closed);
    uv_close((uv_handle_t *)&ticker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT)) continue;
    CHECK(uv_loop_close(&loop) == 0);
    yd_metrics_free(metrics);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD); // nobody is left, dead or alive
}

static inline int idle(void)
{
    yd_codecs_now now;
    yd_codecs_look(codecs, &now);
    return now.idle;
}

typedef struct visit {
    yd_codec_call call;
    const void *file;
    size_t len;
    const yd_image *im;
    yd_image decoded; // copied
    void *encoded;
    size_t encoded_len;
    int done, order;
} visit;

static int finished;

static inline int give_file(yd_codec_call *c, yd_err *err)
{
    const visit *v = (const visit *)(const void *)c;
    return yd_codec_put_file(c, v->file, v->len, err);
}

static inline int give_image(yd_codec_call *c, yd_err *err)
{
    return yd_codec_put_image(c, ((const visit *)(const void *)c)->im, err);
}

static inline int copy_image(yd_codec_call *c, yd_err *err)
{
    yd_image *to = &((visit *)(void *)c)->decoded;
    const yd_image *from = &c->image;
    const size_t n = (size_t)from->w * (size_t)from->h;
    int rc = yd_image_alloc(to, from->w, from->h, from->alpha != NULL, err);
    if (rc) return rc;
    memcpy(to->rgb, from->rgb, n * 6);
    if (from->alpha) memcpy(to->alpha, from->alpha, n * 2);
    to->depth = from->depth;
    to->grey = from->grey;
    to->meta = yd_image_meta_ref(from->meta);
    return 0;
}

static inline int copy_file(yd_codec_call *c, yd_err *err)
{
    visit *v = (visit *)(void *)c;
    v->encoded = yd_malloc(c->file_len);
    if (!v->encoded) return yd_fail(err, YD_E_NOMEM, "no memory");
    memcpy(v->encoded, c->file, v->encoded_len = c->file_len);
    return 0;
}

static inline void on_done(yd_codec_call *c)
{
    visit *v = (visit *)(void *)c;
    v->done++;
    v->order = ++finished;
}

static inline void start(visit *v, yd_codec_op op)
{
    v->call.op = op;
    v->call.done = on_done;
    v->call.fill = op == YD_CODEC_ENCODE ? give_image : give_file;
    v->call.take = op == YD_CODEC_ENCODE ? copy_file : op == YD_CODEC_DECODE ? copy_image : NULL;
    v->call.limits = wide;
    v->done = 0;
    yd_codec_start(codecs, &v->call);
}

static inline int run(visit *v, yd_codec_op op)
{
    start(v, op);
    CHECK(!v->done); // never from within
    WAIT(v->done);
    CHECK(v->done == 1);
    return v->call.rc;
}

static inline void clear(visit *v)
{
    yd_image_clear(&v->decoded);
    yd_free(v->encoded);
    v->encoded = NULL;
}

// ---- samples -------------------------------------------------------------------------------------------------------

static inline yd_image sample(int w, int h, int depth, int alpha)
{
    yd_image im;
    yd_err err;
    CHECK(yd_image_alloc(&im, w, h, alpha, &err) == 0);
    for (int i = 0; i < w * h; i++) {
        for (int c = 0; c < 3; c++) im.rgb[3 * i + c] = (uint16_t)(depth == 16 ? i * 51 + c : yd_widen((uint8_t)(i * 7 + c * 50 + i / w)));
        if (alpha) im.alpha[i] = depth == 16 ? (uint16_t)(i * 33) : yd_widen((uint8_t)(i * 3));
    }
    im.depth = depth;
    return im;
}

static inline int same_image(const yd_image *a, const yd_image *b)
{
    const size_t n = (size_t)a->w * (size_t)a->h;
    return a->w == b->w && a->h == b->h && a->depth == b->depth && a->grey == b->grey && !a->alpha == !b->alpha &&
           memcmp(a->rgb, b->rgb, n * 6) == 0 && (!a->alpha || memcmp(a->alpha, b->alpha, n * 2) == 0);
}

// An answer that says too much, in one way or another.
static inline void lie(char how, const yd_codec_request *q, yd_codec_answer *a)
{
    a->w = q->w ? q->w : 64;
    a->h = q->h ? q->h : 64;
    a->channels = 3;
    a->depth = 8;
    a->pages = 1;
    a->out_len = 100;
    memcpy(a->format, "png", 4);
    if (how == 'm') a->magic++;
    if (how == 'v') a->version++;
    if (how == 's') a->serial++;
    if (how == 'o') a->op = YD_CODEC_ENCODE;
    if (how == 'w') a->w = 1 << 20;
    if (how == 'W') a->w = -5;
    if (how == 'd') a->depth = 9;
    if (how == 'g') a->grey = 2;
    if (how == 'l') a->meta_len = (uint64_t)1 << 40;
    if (how == 'r') a->rc = YD_E_DEVICE;
    if (how == 'R') a->rc = 12345;
    if (how == 'f') memset(a->format, 'x', sizeof a->format);
}

static inline void trip(const yd_image *im, yd_image_format format)
{
    visit v = {.im = im}, back = {0};
    yd_err err;
    void *direct;
    size_t n;
    yd_image again;
    yd_output_init(&v.call.output);
    v.call.output.format = format;
    CHECK_MSG(run(&v, YD_CODEC_ENCODE) == 0, "%s", v.call.err.detail);
    CHECK(yd_image_encode(im, &v.call.output, &direct, &n, &err) == 0);
    CHECK(v.encoded && n == v.encoded_len && memcmp(direct, v.encoded, n) == 0);
    back.file = direct;
    back.len = n;
    CHECK(run(&back, YD_CODEC_PROBE) == 0);
    CHECK(back.call.header.w == im->w && back.call.header.h == im->h && strcmp(back.call.header.format, yd_image_format_name(format)) == 0);
    back.call.w = im->w;
    back.call.h = im->h;
    CHECK_MSG(run(&back, YD_CODEC_DECODE) == 0, "%s", back.call.err.detail);
    CHECK(yd_image_decode(direct, n, &wide, NULL, &again, &err) == 0);
    CHECK(same_image(&again, &back.decoded));
    yd_image_clear(&again);
    clear(&v);
    clear(&back);
    yd_free(direct);
}

#endif
