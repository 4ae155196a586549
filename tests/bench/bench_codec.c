// What it costs that pictures are read and written by codec processes: header, decoding and encoding of one picture, through a process
// and by the same functions called directly, in turn. At most 1.15 is aimed at for 2048x2048, at most 1 ms more for small ones.
#include "core/mem.h"
#include "daemon/codec.h"
#include "tests/bench/bench.h"
#include <stdio.h>
#include <string.h>

enum { SLICES = 12 };

static uv_loop_t loop;
static yd_config cfg;
static yd_codecs *codecs;
static const yd_image_limits limits = {100000000, 1, 65535, (size_t)1 << 30};

typedef struct sample {
    yd_image im;
    void *file;
    size_t len;
    yd_output out;
} sample;

// Something like a photograph: shapes, shades and a little noise.
static int make_sample(sample *s, int side, yd_image_format format)
{
    yd_err err;
    uint32_t seed = 1;
    if (yd_image_alloc(&s->im, side, side, 0, &err)) return -1;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < 3; c++) {
                seed = seed * 1664525u + 1013904223u;
                const int shade = x * 200 / side + ((x / 37 + y / 53) % 3) * 15 + y % 61 / (c + 2) + (int)(seed >> 30);
                s->im.rgb[((size_t)y * (size_t)side + (size_t)x) * 3 + (size_t)c] = yd_widen((uint8_t)(shade > 255 ? 255 : shade));
            }
    yd_output_init(&s->out);
    s->out.format = format;
    return yd_image_encode(&s->im, &s->out, &s->file, &s->len, &err);
}

typedef struct times {
    double s[YD_CODEC_OPS];
} times;

// ---- directly

static int direct(const sample *s, times *t)
{
    yd_err err;
    yd_image_header h;
    yd_image im;
    void *bytes;
    size_t n;
    const double t0 = bench_now_s();
    if (yd_image_probe(s->file, s->len, &limits, &h, &err)) return -1;
    const double t1 = bench_now_s();
    if (yd_image_decode(s->file, s->len, &limits, NULL, &im, &err)) return -1;
    const double t2 = bench_now_s();
    yd_image_clear(&im);
    const double t3 = bench_now_s();
    if (yd_image_encode(&s->im, &s->out, &bytes, &n, &err)) return -1;
    const double t4 = bench_now_s();
    yd_free(bytes);
    *t = (times){{t1 - t0, t2 - t1, t4 - t3}};
    return 0;
}

// ---- through a process

typedef struct trip {
    yd_codec_call call;
    const sample *s;
    int done;
    size_t written;
} trip;

static int give_file(yd_codec_call *c, yd_err *err)
{
    const trip *t = (const trip *)(const void *)c;
    return yd_codec_put_file(c, t->s->file, t->s->len, err);
}

static int look(yd_codec_call *c, yd_err *err)
{
    (void)err;
    return c->image.rgb ? 0 : -1; // what follows in a job reads the pixels where they are
}

static int give_image(yd_codec_call *c, yd_err *err)
{
    return yd_codec_put_image(c, &((const trip *)(const void *)c)->s->im, err);
}

static int copy_file(yd_codec_call *c, yd_err *err)
{
    void *copy = yd_malloc(c->file_len);
    (void)err;
    if (!copy) return YD_E_NOMEM;
    memcpy(copy, c->file, c->file_len);
    ((trip *)(void *)c)->written = c->file_len;
    yd_free(copy);
    return 0;
}

static void on_done(yd_codec_call *c)
{
    ((trip *)(void *)c)->done = 1;
}

static int go(trip *t, yd_codec_op op, int (*fill)(yd_codec_call *, yd_err *), int (*take)(yd_codec_call *, yd_err *))
{
    t->call.op = op;
    t->call.fill = fill;
    t->call.take = take;
    t->done = 0;
    yd_codec_start(codecs, &t->call);
    while (!t->done) uv_run(&loop, UV_RUN_ONCE);
    return t->call.rc;
}

static int through(const sample *s, times *took)
{
    trip t = {.s = s};
    t.call.done = on_done;
    t.call.limits = limits;
    t.call.output = s->out;
    const double t0 = bench_now_s();
    if (go(&t, YD_CODEC_PROBE, give_file, NULL)) return -1;
    t.call.w = t.call.header.w;
    t.call.h = t.call.header.h;
    const double t1 = bench_now_s();
    if (go(&t, YD_CODEC_DECODE, give_file, look)) return -1;
    const double t2 = bench_now_s();
    if (go(&t, YD_CODEC_ENCODE, give_image, copy_file)) return -1;
    *took = (times){{t1 - t0, t2 - t1, bench_now_s() - t2}};
    return 0;
}

// ---- all of it

static void keep_least(times *least, const times *t)
{
    for (int i = 0; i < YD_CODEC_OPS; i++)
        if (t->s[i] < least->s[i]) least->s[i] = t->s[i];
}

static int measure(int side, yd_image_format format)
{
    sample s = {0};
    times a = {{1e9, 1e9, 1e9}}, b = a, t;
    double sum_a = 0, sum_b = 0;
    if (make_sample(&s, side, format)) return -1;
    for (int i = 0; i < SLICES; i++) {
        if (direct(&s, &t)) return -1;
        keep_least(&a, &t);
        if (through(&s, &t)) return -1;
        keep_least(&b, &t);
    }
    printf("%4dx%-4d %-4s ", side, side, yd_image_format_name(format));
    for (int i = 0; i < YD_CODEC_OPS; i++) {
        printf(" %s %7.2f -> %7.2f ms ", yd_codec_op_name((yd_codec_op)i), a.s[i] * 1e3, b.s[i] * 1e3);
        sum_a += a.s[i];
        sum_b += b.s[i];
    }
    printf(" all: ratio %.3f (%+.2f ms)\n", sum_b / sum_a, (sum_b - sum_a) * 1e3);
    yd_image_clear(&s.im);
    yd_free(s.file);
    return 0;
}

static void on_closed(void *arg)
{
    *(int *)arg = 1;
}

int main(int argc, char **argv)
{
    yd_err err;
    int closed = 0, rc = 0;
    yd_metrics *metrics = yd_metrics_new();
    if (argc > 1 && strcmp(argv[1], YD_CODEC_ARGUMENT) == 0) return yd_codec_child_main(argc, argv, yd_codec_perform);
    yd_config_init(&cfg);
    uv_loop_init(&loop);
    if (!metrics || yd_codecs_open(&loop, &cfg, metrics, NULL, &codecs, &err)) return 1;
    while (!yd_codecs_ready(codecs)) uv_run(&loop, UV_RUN_ONCE);
    for (int side = 64; side <= 2048 && !rc; side *= side == 64 ? 8 : 4)
        for (int f = YD_PNG; f <= YD_WEBP && !rc; f++) rc = measure(side, (yd_image_format)f);
    yd_codecs_close(codecs, on_closed, &closed);
    while (!closed) uv_run(&loop, UV_RUN_ONCE);
    uv_loop_close(&loop);
    yd_metrics_free(metrics);
    return rc ? 1 : 0;
}
