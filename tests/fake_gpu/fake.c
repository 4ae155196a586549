// The fake driver: memory, streams, graphs, convolutions and products by loops. See fake.h.
#include "tests/fake_gpu/fake.h"
#include "tests/fake_gpu/loops.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ARGS 2048

typedef struct node {
    int (*run)(const void *);
    _Alignas(16) char args[ARGS];
} node;

typedef struct graph {
    node *nodes;
    size_t n, cap;
} graph;

_Thread_local fake_gpu fake;
extern _Thread_local int yd_host_dry; // kernels.c
static int do_conv(const void *p), do_matmul(const void *p);
static _Thread_local graph *capturing;
static _Thread_local int capture_failed;
static int stream; // its address is the one stream

void fake_reset(void)
{
    fake = (fake_gpu){.memory_total = (size_t)8 << 30, .memory_free = (size_t)8 << 30};
    capturing = NULL;
}

// Is this call to fail?
static yd_gpu_outcome turn(void)
{
    fake.calls++;
    if (fake.watch) fake.watch(&fake);
    if (fake.lost) return YD_GPU_LOST;
    if (!fake.fail_at || --fake.fail_at) return YD_GPU_OK;
    fake.lost = fake.fail_with == YD_GPU_LOST;
    capture_failed = 1;
    return fake.fail_with;
}

typedef struct move {
    void *dst;
    const void *src;
    size_t bytes;
} move;

static int do_copy(const void *p)
{
    const move *a = p;
    memcpy(a->dst, a->src, a->bytes);
    return 0;
}

static int do_zero(const void *p)
{
    const move *a = p;
    memset(a->dst, 0, a->bytes);
    return 0;
}

// Convolutions and products have no grid of ours.
static int judge(int (*run)(const void *), const void *args)
{
    if (run == do_conv || run == do_matmul) return 0;
    yd_host_dry = 1;
    const int rc = run(args);
    yd_host_dry = 0;
    return rc ? YD_GPU_FAILED : 0;
}

int fake_submit(int (*run)(const void *), const void *args, size_t size)
{
    const yd_gpu_outcome o = turn();
    if (o) return (int)o;
    if (size > ARGS) abort();
    if (fake.idle && run != do_copy && run != do_zero) return judge(run, args);
    if (!capturing) {
        fake.launches++;
        return run(args) ? YD_GPU_FAILED : 0;
    }
    if (capturing->n == capturing->cap) {
        capturing->cap = 2 * capturing->cap + 64;
        capturing->nodes = realloc(capturing->nodes, capturing->cap * sizeof(node));
        if (!capturing->nodes) abort();
    }
    node *x = &capturing->nodes[capturing->n++];
    x->run = run;
    memcpy(x->args, args, size);
    return 0;
}

static void fake_close(yd_gpu_driver *d)
{
    (void)d;
    if (fake.watch) fake.watch(&fake);
}

static yd_gpu_outcome fake_enter(yd_gpu_driver *d)
{
    (void)d;
    return fake.lost ? YD_GPU_LOST : YD_GPU_OK;
}

static void fake_about(const yd_gpu_driver *d, yd_gpu_about *out)
{
    (void)d;
    memset(out, 0, sizeof *out);
    snprintf(out->device, sizeof out->device, "no GPU");
    snprintf(out->isa, sizeof out->isa, "sm_00");
    snprintf(out->library, sizeof out->library, "loops 1.0");
    out->memory_total = fake.memory_total;
}

static const char *fake_words(const yd_gpu_driver *d)
{
    (void)d;
    return fake.lost ? "an illegal address" : "said so";
}

static yd_gpu_outcome fake_memory(yd_gpu_driver *d, size_t *available, size_t *total)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    *available = fake.memory_free - fake.bytes;
    *total = fake.memory_total;
    return o;
}

// A block: its size, then 256-byte aligned memory.
static yd_gpu_outcome fake_alloc(yd_gpu_driver *d, size_t bytes, void **out)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    *out = NULL;
    if (o) return o;
    if (bytes > fake.memory_free - fake.bytes) return YD_GPU_NO_MEMORY;
    char *p = aligned_alloc(256, (bytes + 511) / 256 * 256);
    if (!p) abort();
    memcpy(p, &bytes, sizeof bytes);
    memset(p + 256, fake.idle ? 0 : 0xff, bytes);
    fake.bytes += bytes;
    if (fake.bytes > fake.peak) fake.peak = fake.bytes;
    fake.allocs++;
    fake.live++;
    *out = p + 256;
    return YD_GPU_OK;
}

static void fake_release(yd_gpu_driver *d, void *p)
{
    (void)d;
    size_t bytes;
    if (!p) return;
    memcpy(&bytes, (char *)p - 256, sizeof bytes);
    fake.bytes -= bytes;
    fake.live--;
    free((char *)p - 256);
}

static yd_gpu_outcome fake_alloc_host(yd_gpu_driver *d, size_t bytes, void **out)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    *out = o ? NULL : calloc(bytes + 1, 1);
    if (o) return o;
    if (!*out) abort();
    fake.allocs++;
    fake.live++;
    return YD_GPU_OK;
}

static void fake_release_host(yd_gpu_driver *d, void *p)
{
    (void)d;
    fake.live -= p != NULL;
    free(p);
}

static yd_gpu_outcome fake_stream_new(yd_gpu_driver *d, yd_gpu_stream *out)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    *out = o ? NULL : &stream;
    fake.live += !o;
    return o;
}

static void fake_stream_free(yd_gpu_driver *d, yd_gpu_stream s)
{
    (void)d;
    fake.live -= s != NULL;
}

static yd_gpu_outcome fake_sync(yd_gpu_driver *d, yd_gpu_stream s)
{
    (void)d;
    if (s != &stream || capturing) abort(); // a real one would refuse it
    return turn();
}

static yd_gpu_outcome fake_copy(yd_gpu_driver *d, void *dst, const void *src, size_t bytes, yd_gpu_stream s)
{
    (void)d;
    if (s != &stream) abort();
    const move a = {dst, src, bytes};
    return (yd_gpu_outcome)fake_submit(do_copy, &a, sizeof a);
}

static yd_gpu_outcome fake_zero(yd_gpu_driver *d, void *dst, size_t bytes, yd_gpu_stream s)
{
    (void)d;
    if (s != &stream) abort();
    const move a = {dst, NULL, bytes};
    return (yd_gpu_outcome)fake_submit(do_zero, &a, sizeof a);
}

static yd_gpu_outcome fake_kernel(yd_gpu_driver *d, int code)
{
    (void)d;
    return (yd_gpu_outcome)code;
}

static yd_gpu_outcome fake_event_new(yd_gpu_driver *d, yd_gpu_event *out)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    *out = o ? NULL : &stream;
    fake.live += !o;
    return o;
}

static void fake_event_free(yd_gpu_driver *d, yd_gpu_event e)
{
    (void)d;
    fake.live -= e != NULL;
}

static yd_gpu_outcome fake_event_record(yd_gpu_driver *d, yd_gpu_event e, yd_gpu_stream s)
{
    (void)d, (void)e, (void)s;
    return turn();
}

static yd_gpu_outcome fake_event_seconds(yd_gpu_driver *d, yd_gpu_event a, yd_gpu_event b, double *out)
{
    (void)d, (void)a, (void)b;
    *out = 1e-6;
    return turn();
}

static yd_gpu_outcome fake_capture_begin(yd_gpu_driver *d, yd_gpu_stream s)
{
    (void)d, (void)s;
    const yd_gpu_outcome o = turn();
    if (o) return o;
    if (capturing) abort();
    capturing = calloc(1, sizeof *capturing);
    if (!capturing) abort();
    capture_failed = 0;
    return YD_GPU_OK;
}

static void graph_drop(graph *g)
{
    if (g) free(g->nodes);
    free(g);
}

static yd_gpu_outcome fake_capture_end(yd_gpu_driver *d, yd_gpu_stream s, yd_gpu_graph *out)
{
    (void)d, (void)s;
    graph *g = capturing;
    capturing = NULL;
    *out = NULL;
    yd_gpu_outcome o = turn();
    if (!o && (capture_failed || fake.no_capture)) o = YD_GPU_FAILED;
    if (o) {
        graph_drop(g);
        return o;
    }
    fake.live++;
    *out = g;
    return YD_GPU_OK;
}

static yd_gpu_outcome fake_graph_launch(yd_gpu_driver *d, yd_gpu_graph p, yd_gpu_stream s)
{
    (void)d;
    if (s != &stream || !p) abort();
    const yd_gpu_outcome o = turn();
    const graph *g = p;
    for (size_t i = 0; i < g->n && !o; i++)
        if (g->nodes[i].run(g->nodes[i].args)) abort(); // a real one refuses arguments when they are recorded
    fake.graph_launches += !o;
    return o;
}

static void fake_graph_free(yd_gpu_driver *d, yd_gpu_graph g)
{
    (void)d;
    fake.live -= g != NULL;
    graph_drop(g);
}

// --- convolutions and products

struct yd_gpu_conv {
    yd_gpu_conv_shape shape;
    double lean; // of the choice: with another one there are other bits
};
struct yd_gpu_matmul {
    yd_gpu_matmul_shape shape;
};

static int refused(const yd_gpu_conv_shape *s)
{
    const int end = s->bias || s->res || s->leaky;
    if (s->pass == YD_GPU_ATTENTION) return fake.no_attention || s->type != YD_BF16 || s->out != YD_BF16 || (s->o > 256 && !fake.wide_attention);
    return fake.no_conv || (fake.no_fused && end) || (fake.no_wide && s->type == YD_BF16 && s->out == YD_F32);
}

static yd_gpu_outcome fake_conv_choose(yd_gpu_driver *d, const yd_gpu_conv_shape *s, double by_time, yd_gpu_choice *out)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    if (o) return o;
    if (s->c % 8 || s->o % 8) abort(); // what real engines want
    if (s->pass == YD_GPU_ATTENTION && (s->c != 3 * s->o || s->oh != s->h || s->ow != s->w || s->h * s->w < 2)) abort();
    fake.choices++;
    if (by_time > 0) {
        fake.timed++;
        nanosleep(&(struct timespec){0, fake.choose_ms * 1000000}, NULL);
    }
    *out = (yd_gpu_choice){.engine = 7 + (by_time > 0), .n_knobs = !fake.no_tiles, .knob = {{2, s->n}}};
    return refused(s) ? YD_GPU_UNSUPPORTED : YD_GPU_OK;
}

static yd_gpu_outcome fake_conv_new(yd_gpu_driver *d, const yd_gpu_conv_shape *s, const yd_gpu_choice *how,
                                    yd_gpu_conv **out, size_t *workspace)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    *out = NULL;
    if (o) return o;
    if (refused(s) || (how->engine != 7 && how->engine != 8) || (fake.conv_one_by_one && s->n > 1))
        return YD_GPU_UNSUPPORTED;
    *out = malloc(sizeof **out);
    if (!*out) abort();
    (*out)->shape = *s;
    (*out)->lean = 1 + 1e-7 * (double)(how->n_knobs ? how->knob[0].value : s->n);
    *workspace = 1000;
    fake.prepared++;
    fake.attentions += s->pass == YD_GPU_ATTENTION;
    fake.live++;
    return YD_GPU_OK;
}

typedef struct conv_args {
    yd_gpu_conv_shape shape;
    double lean;
    yd_gpu_conv_io io;
} conv_args;

static int do_conv(const void *p)
{
    const conv_args *a = p;
    memset(a->io.workspace, 0xff, 1000);
    loops_conv(&a->shape, &a->io, a->lean);
    return 0;
}

static yd_gpu_outcome fake_conv_run(yd_gpu_driver *d, yd_gpu_conv *c, const yd_gpu_conv_io *io, yd_gpu_stream s)
{
    (void)d;
    if (s != &stream) abort();
    const conv_args a = {c->shape, c->lean, *io};
    return (yd_gpu_outcome)fake_submit(do_conv, &a, sizeof a);
}

static void fake_conv_free(yd_gpu_driver *d, yd_gpu_conv *c)
{
    (void)d;
    fake.live -= c != NULL;
    free(c);
}

static yd_gpu_outcome fake_matmul_new(yd_gpu_driver *d, const yd_gpu_matmul_shape *s, yd_gpu_matmul **out,
                                      size_t *workspace)
{
    (void)d;
    const yd_gpu_outcome o = turn();
    *out = NULL;
    if (o) return o;
    if (fake.matmul_one_by_one && s->pinned && s->batch > 1) return YD_GPU_UNSUPPORTED;
    *out = malloc(sizeof **out);
    if (!*out) abort();
    (*out)->shape = *s;
    *workspace = 600;
    fake.prepared++;
    fake.live++;
    return YD_GPU_OK;
}

typedef struct matmul_args {
    yd_gpu_matmul_shape shape;
    const void *a, *b;
    void *c, *workspace;
} matmul_args;

static int do_matmul(const void *p)
{
    const matmul_args *a = p;
    memset(a->workspace, 0xff, 600);
    loops_matmul(&a->shape, a->a, a->b, a->c);
    return 0;
}

static yd_gpu_outcome fake_matmul_run(yd_gpu_driver *d, yd_gpu_matmul *m, const void *a, const void *b, void *c,
                                      void *workspace, yd_gpu_stream s)
{
    (void)d;
    if (s != &stream) abort();
    const uintptr_t low = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c;
    if (m->shape.align < 2 || low % (uintptr_t)m->shape.align) abort(); // a real kernel would fault
    const matmul_args args = {m->shape, a, b, c, workspace};
    return (yd_gpu_outcome)fake_submit(do_matmul, &args, sizeof args);
}

static void fake_matmul_free(yd_gpu_driver *d, yd_gpu_matmul *m)
{
    (void)d;
    fake.live -= m != NULL;
    free(m);
}

yd_gpu_driver *fake_driver(void)
{
    static yd_gpu_driver d = {
        .close = fake_close,
        .enter = fake_enter,
        .about = fake_about,
        .words = fake_words,
        .memory = fake_memory,
        .alloc = fake_alloc,
        .release = fake_release,
        .alloc_host = fake_alloc_host,
        .release_host = fake_release_host,
        .stream_new = fake_stream_new,
        .stream_free = fake_stream_free,
        .sync = fake_sync,
        .copy = fake_copy,
        .zero = fake_zero,
        .kernel = fake_kernel,
        .event_new = fake_event_new,
        .event_free = fake_event_free,
        .event_record = fake_event_record,
        .event_seconds = fake_event_seconds,
        .capture_begin = fake_capture_begin,
        .capture_end = fake_capture_end,
        .graph_launch = fake_graph_launch,
        .graph_free = fake_graph_free,
        .conv_choose = fake_conv_choose,
        .conv_new = fake_conv_new,
        .conv_run = fake_conv_run,
        .conv_free = fake_conv_free,
        .matmul_new = fake_matmul_new,
        .matmul_run = fake_matmul_run,
        .matmul_free = fake_matmul_free,
    };
    return &d;
}
