// Codec processes: messages believed only when they are sound; the same bytes as without processes; and what happens to the others when
// one answers nonsense, crashes, hangs, eats or tries to get out. This program is its own codec: a "picture" that begins with EVIL makes
// the process do what the next letter says.
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

// ---- the codec that this program is --------------------------------------------------------------------------------

// How many of these calls of the kernel are let through; each would do no harm here. Numbers, since libc hides some.
static int doors_open(void)
{
    static const long forbidden[] = {SYS_openat,        SYS_socket,   SYS_execve,        SYS_ptrace,  SYS_kill,        SYS_connect,
                                     SYS_bind,          SYS_unlinkat, SYS_renameat2,     SYS_mkdirat, SYS_linkat,      SYS_symlinkat,
                                     SYS_fchmodat,      SYS_fchownat, SYS_setuid,        SYS_setgid,  SYS_mount,       SYS_umount2,
                                     SYS_chroot,        SYS_unshare,  SYS_setns,         SYS_bpf,     SYS_perf_event_open, SYS_memfd_create,
                                     SYS_process_vm_readv, SYS_process_vm_writev, SYS_socketpair, SYS_execveat, SYS_io_uring_setup, SYS_userfaultfd,
                                     SYS_keyctl,        SYS_init_module, SYS_truncate,   SYS_ftruncate, SYS_setpriority, SYS_inotify_init1};
    int open = 0;
    for (size_t i = 0; i < sizeof forbidden / sizeof forbidden[0]; i++) {
        errno = 0;
        const long rc = syscall(forbidden[i], -1L, 0L, 0L, 0L, 0L, 0L);
        open += !(rc == -1 && errno == EPERM);
    }
    open += mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
    open += syscall(SYS_tgkill, getppid(), getppid(), 0) == 0;
    return open;
}

static void eat(void)
{
    for (;;) {
        char *volatile p = malloc(16 << 20);
        if (!p) raise(SIGTRAP); // as GLib does
    }
}

// An answer that says too much, in one way or another.
static void lie(char how, const yd_codec_request *q, yd_codec_answer *a)
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

static void evil_perform(const yd_codec_request *q, uint8_t *region, yd_codec_answer *a)
{
    static volatile uint64_t spin;
    if (q->in_len < 6 || memcmp(region, "EVIL", 4) != 0) {
        yd_codec_perform(q, region, a);
        return;
    }
    const char how = (char)region[4];
    yd_codec_answer_init(a, q);
    lie(how, q, a);
    switch (how) {
    case 'A':
        abort();
    case 'S':
        raise(SIGSEGV);
        break;
    case 'K':
        raise(SIGKILL);
        break;
    case 'T':
        raise(SIGSTOP);
        break;
    case 'X':
        close(YD_CODEC_FD);
        for (;;) pause();
    case 'C':
        for (;;) spin++;
    case 'E':
        eat();
        break;
    case '2': // twice, the second time unasked
        yd_codec_send(YD_CODEC_FD, a, sizeof *a, -1);
        break;
    case 'L':
        yd_codec_send(YD_CODEC_FD, region, sizeof *a + 100, -1);
        break;
    case '0':
        yd_codec_send(YD_CODEC_FD, region, 1, -1);
        break;
    case 'F': // descriptors that nobody asked for
        yd_codec_send(YD_CODEC_FD, a, sizeof *a, 0);
        break;
    case 'D':
        a->w = 16 + doors_open();
        break;
    case 'P': // words that are none
        yd_codec_answer_fail(a, YD_E_IMAGE, &(yd_err){.detail = "bad"});
        memset(a->detail, '\x80', sizeof a->detail);
        memset(a->field, '\n', sizeof a->field);
        break;
    case 'M': // a block of metadata that is none
        a->meta_len = q->meta_len < 1000 ? q->meta_len : 1000;
        memset(region + q->meta_off, 0xff, a->meta_len);
        break;
    default:
        break;
    }
}

// ---- a pool and one call at a time ---------------------------------------------------------------------------------

static void on_tick(uv_timer_t *t)
{
    (void)t;
}

static void on_closed(void *arg)
{
    (void)arg;
    closed = 1;
}

static int count_fds(void)
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

static void setup(int processes)
{
    yd_config_init(&cfg);
    cfg.codec_processes = processes;
    cfg.codec_wall_ms = 1500;
    cfg.codec_cpu_ms = 1000;
}

static void open_codecs(const char *program)
{
    yd_err err;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &ticker);
    uv_timer_start(&ticker, on_tick, 5, 5);
    metrics = yd_metrics_new();
    closed = 0;
    CHECK(metrics && yd_codecs_open(&loop, &cfg, metrics, program, &codecs, &err) == 0);
}

static void close_codecs(void)
{
    yd_codecs_close(codecs, on_closed, NULL);
    WAIT(closed);
    uv_close((uv_handle_t *)&ticker, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT)) continue;
    CHECK(uv_loop_close(&loop) == 0);
    yd_metrics_free(metrics);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD); // nobody is left, dead or alive
}

static int idle(void)
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

static int give_file(yd_codec_call *c, yd_err *err)
{
    const visit *v = (const visit *)(const void *)c;
    return yd_codec_put_file(c, v->file, v->len, err);
}

static int give_image(yd_codec_call *c, yd_err *err)
{
    return yd_codec_put_image(c, ((const visit *)(const void *)c)->im, err);
}

static int copy_image(yd_codec_call *c, yd_err *err)
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

static int copy_file(yd_codec_call *c, yd_err *err)
{
    visit *v = (visit *)(void *)c;
    v->encoded = yd_malloc(c->file_len);
    if (!v->encoded) return yd_fail(err, YD_E_NOMEM, "no memory");
    memcpy(v->encoded, c->file, v->encoded_len = c->file_len);
    return 0;
}

static void on_done(yd_codec_call *c)
{
    visit *v = (visit *)(void *)c;
    v->done++;
    v->order = ++finished;
}

static void start(visit *v, yd_codec_op op)
{
    v->call.op = op;
    v->call.done = on_done;
    v->call.fill = op == YD_CODEC_ENCODE ? give_image : give_file;
    v->call.take = op == YD_CODEC_ENCODE ? copy_file : op == YD_CODEC_DECODE ? copy_image : NULL;
    v->call.limits = wide;
    v->done = 0;
    yd_codec_start(codecs, &v->call);
}

static int run(visit *v, yd_codec_op op)
{
    start(v, op);
    CHECK(!v->done); // never from within
    WAIT(v->done);
    CHECK(v->done == 1);
    return v->call.rc;
}

static void clear(visit *v)
{
    yd_image_clear(&v->decoded);
    yd_free(v->encoded);
    v->encoded = NULL;
}

// ---- samples -------------------------------------------------------------------------------------------------------

static yd_image sample(int w, int h, int depth, int alpha)
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

static int same_image(const yd_image *a, const yd_image *b)
{
    const size_t n = (size_t)a->w * (size_t)a->h;
    return a->w == b->w && a->h == b->h && a->depth == b->depth && a->grey == b->grey && !a->alpha == !b->alpha &&
           memcmp(a->rgb, b->rgb, n * 6) == 0 && (!a->alpha || memcmp(a->alpha, b->alpha, n * 2) == 0);
}

// ---- messages ------------------------------------------------------------------------------------------------------

static yd_codec_request sound_request(yd_codec_op op)
{
    yd_codec_request q;
    yd_output out;
    yd_codec_request_init(&q, op);
    yd_output_init(&out);
    yd_codec_request_output(&q, &out);
    q.w = 32;
    q.h = 16;
    q.bands = 3;
    q.depth = 8;
    q.in_len = op == YD_CODEC_ENCODE ? 32 * 16 * 3 : 1000;
    q.out_off = 8192;
    q.out_len = op == YD_CODEC_DECODE ? 32 * 16 * 8 : 5000;
    q.meta_off = 4096;
    q.meta_len = 100;
    q.region_len = 65536;
    return q;
}

static void requests(void)
{
    for (int op = 0; op < YD_CODEC_OPS; op++) {
        const yd_codec_request good = sound_request((yd_codec_op)op);
        CHECK(yd_codec_request_check(&good, 65536) == 0 && yd_codec_request_check(&good, 65535) == -1);
#define BAD(change)                                                                                                    \
    do {                                                                                                               \
        yd_codec_request q = good;                                                                                     \
        change;                                                                                                        \
        CHECK(yd_codec_request_check(&q, 65536) == -1);                                                                \
    } while (0)
        BAD(q.magic ^= 1);
        BAD(q.version++);
        BAD(q.size--);
        BAD(q.op = YD_CODEC_OPS);
        BAD(q.in_len = 0);
        BAD(q.in_len = 65537);
        BAD(q.in_len = UINT64_MAX);
        BAD(q.meta_off = 65437);
        BAD(q.meta_off = UINT64_MAX);
        BAD(q.meta_len = UINT64_MAX - 4000);
        BAD(q.out_off = 65536);
        BAD(q.out_off = UINT64_MAX - 10);
        BAD(q.out_len = UINT64_MAX);
        if (op == YD_CODEC_PROBE) continue;
        BAD(q.w = 0);
        BAD(q.w = -32);
        BAD(q.h = 1 << 30);
        BAD(q.w = 33);
        if (op == YD_CODEC_DECODE) {
            BAD(q.out_off = 8193);
            BAD(q.out_len--);
            BAD(q.color_space = 2);
        } else {
            BAD(q.bands = 0);
            BAD(q.bands = 5);
            BAD(q.depth = 12);
            BAD(q.format = 4);
            BAD(q.format = -1);
            BAD(q.metadata = 3);
        }
#undef BAD
    }
}

// Whatever bytes a request has: when it passes, everything it points to lies within.
static void random_requests(void)
{
    uint32_t seed = 7;
    int passed = 0;
    for (int i = 0; i < 200000; i++) {
        yd_codec_request q = sound_request((yd_codec_op)(i % YD_CODEC_OPS));
        for (int k = 0; k < 1 + i % 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            ((uint8_t *)&q)[(seed >> 8) % sizeof q] ^= (uint8_t)(1u << (seed >> 29));
        }
        if (yd_codec_request_check(&q, 65536)) continue;
        passed++;
        const int within = q.in_len <= 65536 && q.meta_off + q.meta_len <= 65536 && q.out_off + q.out_len <= 65536;
        if (!within) CHECK(within);
        if (q.op == YD_CODEC_DECODE) CHECK((uint64_t)q.w * (uint64_t)q.h * 8 <= q.out_len && q.w > 0 && q.h > 0);
    }
    CHECK(passed > 1000);
}

static void answers(void)
{
    static const char lies[] = "mvsowWdrR"; // those that are lies about a probe, too
    yd_codec_request probe = sound_request(YD_CODEC_PROBE), decode = sound_request(YD_CODEC_DECODE);
    yd_codec_answer a;
    probe.max_pixels = 10000;
    probe.max_side = 1000;
    probe.min_side = 16;
    yd_codec_answer_init(&a, &probe);
    lie('-', &probe, &a);
    CHECK(yd_codec_answer_check(&probe, &a) == 0);
    for (const char *c = lies; *c; c++) {
        yd_codec_answer_init(&a, &probe);
        lie(*c, &probe, &a);
        CHECK_MSG(yd_codec_answer_check(&probe, &a) == -1, "%c", *c);
    }
    for (const char *c = "mvsowWdglrR"; *c; c++) {
        yd_codec_answer_init(&a, &decode);
        lie(*c, &decode, &a);
        CHECK_MSG(yd_codec_answer_check(&decode, &a) == -1, "%c", *c);
    }
    yd_codec_answer_init(&a, &probe);
    lie('-', &probe, &a);
    a.w = 101; // 101 x 101 pixels are too many
    a.h = 101;
    CHECK(yd_codec_answer_check(&probe, &a) == -1);
    a.w = 15;
    a.h = 20;
    CHECK(yd_codec_answer_check(&probe, &a) == -1);
    yd_codec_request encode = sound_request(YD_CODEC_ENCODE);
    yd_codec_answer_init(&a, &encode);
    a.out_len = encode.out_len;
    CHECK(yd_codec_answer_check(&encode, &a) == 0);
    a.out_len++;
    CHECK(yd_codec_answer_check(&encode, &a) == -1);
    a.out_len = 0;
    CHECK(yd_codec_answer_check(&encode, &a) == -1);
    yd_codec_answer_init(&a, &encode);
    a.rc = YD_E_IMAGE;
    memset(a.detail, 0xff, sizeof a.detail);
    CHECK(yd_codec_answer_check(&encode, &a) == 0 && strlen(a.detail) == sizeof a.detail - 1 && a.detail[5] == '?');
}

static void sockets(void)
{
    int pair[2], fd, before = count_fds();
    char small[100] = "hello", got[100];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(yd_codec_send(pair[0], small, sizeof small, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, sizeof got, &fd) == 1 && fd >= 0 && memcmp(got, small, sizeof got) == 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    CHECK(yd_codec_send(pair[0], small, 99, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, sizeof got, &fd) == -1 && errno == EPROTO && fd == -1);
    CHECK(yd_codec_send(pair[0], small, 100, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, 99, &fd) == -1 && errno == EPROTO && fd == -1);
    CHECK(yd_codec_send(pair[0], small, 100, pair[1]) == 0);
    CHECK(yd_codec_receive(pair[1], got, 100, NULL) == 1); // the descriptor is not taken
    close(pair[0]);
    CHECK(yd_codec_receive(pair[1], got, 100, &fd) == 0);
    close(pair[1]);
    CHECK(count_fds() == before);
}

// Memory that cannot be taken away below who reads it.
static void regions(void)
{
    yd_region r;
    yd_err err;
    CHECK(yd_region_make(&r, 100000, &err) == 0 && r.base[99999] == 0);
    CHECK(ftruncate(r.fd, 10) == -1 && ftruncate(r.fd, 1 << 20) == -1);
    CHECK(fcntl(r.fd, F_ADD_SEALS, F_SEAL_WRITE) == -1);
    yd_region_free(&r);
    CHECK(r.fd == -1 && !r.base);
    yd_region_free(&r);
}

// ---- with real processes -------------------------------------------------------------------------------------------

static void trip(const yd_image *im, yd_image_format format)
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

static void same_bytes(int processes)
{
    setup(processes);
    open_codecs(NULL);
    WAIT(yd_codecs_ready(codecs));
    for (int f = YD_PNG; f <= YD_TIFF; f++)
        for (int kind = 0; kind < 4; kind++) {
            yd_image im = sample(50 + 300 * (f == YD_PNG), 40, kind & 1 ? 16 : 8, kind >> 1);
            im.grey = 0;
            trip(&im, (yd_image_format)f);
            yd_image_clear(&im);
        }
    close_codecs();
}

static void same_bytes_processes(void)
{
    same_bytes(2);
}

static void same_bytes_threads(void)
{
    same_bytes(0);
}

// Metadata goes through a process whole, and what is no picture is refused as without one.
static void refusals(void)
{
    static const char *const files[] = {"hello", "\x89PNG\r\n\x1a\nxxxx", "GIF89a\1\0\1\0\0\0\0;", "<svg xmlns='http://www.w3.org/2000/svg'/>"};
    setup(1);
    open_codecs(NULL);
    WAIT(yd_codecs_ready(codecs));
    for (size_t i = 0; i < 4; i++) {
        yd_image_header h;
        yd_err err = {0};
        visit v = {.file = files[i], .len = strlen(files[i])};
        CHECK(run(&v, YD_CODEC_PROBE) == yd_image_probe(files[i], strlen(files[i]), &wide, &h, &err));
        CHECK_MSG(strcmp(v.call.err.detail, err.detail) == 0 && strcmp(v.call.err.accepted, err.accepted) == 0, "'%s' / '%s'",
                  v.call.err.detail, err.detail);
    }
    visit empty = {.file = "", .len = 0};
    CHECK(run(&empty, YD_CODEC_PROBE) == YD_E_IMAGE);
    // Another size than the header's is the file's fault.
    yd_image im = sample(40, 30, 8, 0);
    yd_output png;
    void *bytes;
    size_t n;
    yd_err err;
    yd_output_init(&png);
    CHECK(yd_image_encode(&im, &png, &bytes, &n, &err) == 0);
    visit v = {.file = bytes, .len = n};
    v.call.w = 30;
    v.call.h = 40;
    CHECK(run(&v, YD_CODEC_DECODE) == YD_E_IMAGE && strstr(v.call.err.detail, "40x30"));
    v.len = n / 2;
    v.call.w = 40;
    v.call.h = 30;
    CHECK(run(&v, YD_CODEC_DECODE) == YD_E_IMAGE && strstr(v.call.err.detail, "damaged"));
    yd_free(bytes);
    yd_image_clear(&im);
    close_codecs();
}

// ---- evil ----------------------------------------------------------------------------------------------------------

static void good_one(void)
{
    static const uint8_t rgb[16 * 16 * 3];
    yd_image im = {0};
    yd_err err;
    CHECK(yd_image_from_rgb8(&im, 16, 16, rgb, NULL, &err) == 0);
    visit v = {.im = &im};
    yd_output_init(&v.call.output);
    CHECK_MSG(run(&v, YD_CODEC_ENCODE) == 0, "%s", v.call.err.detail);
    clear(&v);
    yd_image_clear(&im);
}

static int do_evil(char how, yd_codec_op op, char *words, size_t cap)
{
    const char file[8] = {'E', 'V', 'I', 'L', how, 0, 0, 0};
    visit v = {.file = file, .len = sizeof file};
    v.call.w = v.call.h = 32;
    const int rc = run(&v, op);
    snprintf(words, cap, "%s", v.call.err.detail);
    clear(&v);
    return rc;
}

static void evil(void)
{
    static const struct {
        const char *how;
        yd_codec_op op;
        int rc;
        const char *words;
    } rows[] = {
        {"mvsowWdrR", YD_CODEC_PROBE, YD_E_INTERNAL, "protocol"},
        {"mvsowWdglrR", YD_CODEC_DECODE, YD_E_INTERNAL, "protocol"},
        {"f", YD_CODEC_PROBE, YD_E_INTERNAL, "protocol"},
        {"L0", YD_CODEC_PROBE, YD_E_INTERNAL, "protocol"},
        {"K", YD_CODEC_DECODE, YD_E_INTERNAL, "killed"},
        {"X", YD_CODEC_DECODE, YD_E_INTERNAL, "killed"},
        {"M", YD_CODEC_DECODE, YD_E_IMAGE, "metadata"},
        {"P", YD_CODEC_DECODE, YD_E_IMAGE, "?????"},
        {"T", YD_CODEC_DECODE, YD_E_IMAGE, "longer than the"},
#ifndef YD_SANITIZE // which have their own ways with signals and memory
        {"AS", YD_CODEC_DECODE, YD_E_IMAGE, "crashed"},
        {"E", YD_CODEC_DECODE, YD_E_IMAGE, "more memory"},
#endif
    };
    setup(1);
    open_codecs(NULL);
    WAIT(idle() == 1);
    good_one();
    const int fds = count_fds();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (const char *c = rows[i].how; *c; c++) {
            char words[400];
            const int rc = do_evil(*c, rows[i].op, words, sizeof words);
            CHECK_MSG(rc == rows[i].rc && strstr(words, rows[i].words), "%c: %d %s", *c, rc, words);
            good_one(); // by the one that took its place
        }
    WAIT(idle() == 1);
    CHECK_MSG(count_fds() == fds, "%d descriptors, %d before", count_fds(), fds);
    close_codecs();
}

// One that answers, and then again: the answer counts, the process goes.
static void evil_twice(void)
{
    char words[400];
    setup(1);
    open_codecs(NULL);
    WAIT(idle() == 1);
    good_one();
    const int fds = count_fds();
    for (int i = 0; i < 6; i++) {
        CHECK(do_evil(i & 1 ? '2' : 'F', YD_CODEC_PROBE, words, sizeof words) == 0);
        const int64_t until = yd_mono_us() + 50000 * SLOW; // what comes unasked has come
        while (yd_mono_us() < until) uv_run(&loop, UV_RUN_ONCE);
        WAIT(idle() == 1);
    }
    good_one();
    CHECK_MSG(count_fds() == fds, "%d descriptors, %d before", count_fds(), fds);
    close_codecs();
}

static void processor_time(void)
{
    char words[400];
    setup(1);
    cfg.codec_wall_ms = 60000;
    cfg.codec_cpu_ms = 100; // counted in whole seconds
    open_codecs(NULL);
    WAIT(idle() == 1);
    const int rc = do_evil('C', YD_CODEC_DECODE, words, sizeof words);
    CHECK_MSG(rc == YD_E_IMAGE && strstr(words, "processor time"), "%d %s", rc, words);
    good_one();
    close_codecs();
}

static void doors_are_closed(void)
{
#ifdef YD_SANITIZE
    t_skip("sanitizers need open doors");
#else
    const char file[8] = "EVILD";
    visit v = {.file = file, .len = sizeof file};
    setup(1);
    open_codecs(NULL);
    WAIT(idle() == 1);
    CHECK(run(&v, YD_CODEC_PROBE) == 0);
    CHECK_MSG(v.call.header.w == 16, "%d doors are open", v.call.header.w - 16);
    close_codecs();
#endif
}

// ---- the pool ------------------------------------------------------------------------------------------------------

static pid_t some_child(void)
{
    char path[64];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%d", &pid) != 1) pid = 0;
    if (f) fclose(f);
    return pid;
}

static void comes_back(void)
{
    int64_t worst = 0;
    setup(1);
    open_codecs(NULL);
    WAIT(idle() == 1);
    for (int i = 0; i < 10; i++) {
        const pid_t pid = some_child();
        CHECK(pid > 0 && kill(pid, SIGKILL) == 0);
        const int64_t began = yd_mono_us();
        WAIT(idle() == 0);
        WAIT(idle() == 1);
        if (yd_mono_us() - began > worst) worst = yd_mono_us() - began;
        CHECK(kill(pid, 0) == -1); // reaped
    }
    printf("  back after %.0f ms at most\n", (double)worst / 1000);
    CHECK_MSG(worst < 1000000 * SLOW, "%.0f ms", (double)worst / 1000); // 200 ms where the machine has nothing else to do
    close_codecs();
}

static void recycled(void)
{
    setup(2);
    cfg.codec_recycle = 3;
    open_codecs(NULL);
    WAIT(idle() == 2);
    const int fds = count_fds();
    for (int i = 0; i < 20; i++) {
        good_one();
        WAIT(idle() == 2);
    }
    size_t n;
    yd_metrics_now now = {.version = "", .model = "", .device = ""};
    char *text = yd_metrics_text(metrics, &now, &n);
    const char *line = text ? strstr(text, "yodad_codec_restarts_total{reason=\"recycled\"} ") : NULL;
    CHECK(line && strtol(line + strlen("yodad_codec_restarts_total{reason=\"recycled\"} "), NULL, 10) >= 3);
    yd_free(text);
    CHECK_MSG(count_fds() == fds, "%d descriptors, %d before", count_fds(), fds);
    close_codecs();
}

// Large ones never take every process, and who waits can be called off.
static void queue(void)
{
    const char stop[8] = "EVILT";
    visit large[3] = {{.file = stop, .len = 8}, {.file = stop, .len = 8}, {.file = stop, .len = 8}}, v = {.file = stop, .len = 8};
    yd_codecs_now now;
    setup(2);
    cfg.codec_wall_ms = 600000;
    open_codecs(NULL);
    WAIT(idle() == 2);
    for (int i = 0; i < 3; i++) {
        large[i].call.w = large[i].call.h = 2000;
        start(&large[i], YD_CODEC_DECODE);
    }
    good_one(); // by the one that is kept
    yd_codecs_look(codecs, &now);
    CHECK(now.waiting == 2 && now.busy == 1 && now.idle == 1);
    yd_codec_cancel(&large[2].call);
    CHECK(!large[2].done);
    WAIT(large[2].done);
    CHECK(large[2].call.rc == YD_E_CANCELLED && !large[1].done);
    start(&v, YD_CODEC_DECODE);
    good_one();
    CHECK(!large[0].done);
    close_codecs(); // under way, waiting: all are done
    CHECK(large[0].done == 1 && large[1].done == 1 && v.done == 1);
    CHECK(large[0].call.rc == YD_E_CANCELLED && large[1].call.rc == YD_E_CANCELLED);
}

static int slow_look(yd_codec_call *c, yd_err *err)
{
    const useconds_t us = ((visit *)(void *)c)->order == -1 ? 50000 : 400000;
    (void)err;
    usleep(us);
    return 0;
}

// What one picture is still taken from is not where the process works by then: each gets its own bytes.
static void overlapping_takes(void)
{
    yd_image im = sample(300, 200, 8, 0);
    yd_output png;
    void *file;
    size_t n;
    yd_err err;
    setup(1);
    open_codecs(NULL);
    WAIT(idle() == 1);
    yd_output_init(&png);
    CHECK(yd_image_encode(&im, &png, &file, &n, &err) == 0);
    for (int round = 0; round < 3; round++) {
        visit first = {.file = file, .len = n, .order = -1}, second = {.file = file, .len = n, .order = -2};
        visit *both[2] = {&first, &second};
        for (int i = 0; i < 2; i++) {
            both[i]->call.w = 300;
            both[i]->call.h = 200;
            start(both[i], YD_CODEC_DECODE);
            both[i]->call.take = slow_look;
        }
        WAIT(first.done);
        CHECK(!second.done);
        trip(&im, YD_PNG); // in memory that the process knows
        WAIT(second.done);
        trip(&im, YD_WEBP);
        CHECK(first.call.rc == 0 && second.call.rc == 0);
    }
    yd_free(file);
    yd_image_clear(&im);
    close_codecs();
}

// Programs that are no codecs: tried again, more and more slowly, and everything ends as it should.
static void no_codec(const char *program)
{
    const int fds = count_fds();
    visit v = {.file = "x", .len = 1};
    setup(2);
    open_codecs(program);
    start(&v, YD_CODEC_PROBE);
    const int64_t until = yd_mono_us() + 400000;
    while (yd_mono_us() < until) uv_run(&loop, UV_RUN_ONCE);
    CHECK(!yd_codecs_ready(codecs) && !v.done);
    close_codecs();
    CHECK(v.done == 1 && v.call.rc == YD_E_CANCELLED);
    CHECK(count_fds() == fds);
}

static void no_codecs(void)
{
    no_codec("/bin/false");
    no_codec("/nonexistent");
    no_codec("/bin/cat");
}

// ---- metadata as bytes ---------------------------------------------------------------------------------------------

static void metadata_blocks(void)
{
    yd_image_meta *m = NULL, *back = NULL;
    yd_err err;
    uint8_t block[200] = {0};
    CHECK(yd_image_meta_block(NULL, NULL) == 0 && yd_image_meta_read(NULL, 0, &back, &err) == 0 && !back);
    // magic, lengths 4 3 0 0, no resolution, seven bytes
    const uint32_t magic = 0x59444d31u;
    const uint64_t len[4] = {4, 3, 0, 0};
    memcpy(block, &magic, 4);
    memcpy(block + 8, len, sizeof len);
    const size_t n = 8 + sizeof len + 16 + 7;
    memcpy(block + n - 7, "icc_exi", 7);
    CHECK(yd_image_meta_read(block, n, &m, &err) == 0 && m);
    uint8_t out[200];
    CHECK(yd_image_meta_block(m, NULL) == n && yd_image_meta_block(m, out) == n && memcmp(out, block, n) == 0);
    for (size_t k = 0; k < n; k++) {
        uint8_t *exact = malloc(k ? k : 1);
        memcpy(exact, block, k);
        const int rc = yd_image_meta_read(exact, k, &back, &err);
        CHECK(k == 0 ? rc == 0 : rc == YD_E_IMAGE && !back);
        free(exact);
    }
    uint32_t seed = 3;
    for (int i = 0; i < 20000; i++) {
        uint8_t *bad = malloc(n);
        memcpy(bad, block, n);
        for (int k = 0; k < 1 + i % 4; k++) {
            seed = seed * 1664525u + 1013904223u;
            bad[(seed >> 8) % (n - 7)] ^= (uint8_t)(1u << (seed >> 29));
        }
        if (yd_image_meta_read(bad, n, &back, &err) == 0) yd_image_meta_unref(back);
        free(bad);
    }
    yd_image_meta_unref(m);
}

int main(int argc, char **argv)
{
    static const t_case cases[] = {
        {"requests", requests},
        {"random requests", random_requests},
        {"answers", answers},
        {"sockets", sockets},
        {"regions", regions},
        {"metadata blocks", metadata_blocks},
        {"the same bytes by processes", same_bytes_processes},
        {"the same bytes by threads", same_bytes_threads},
        {"refusals", refusals},
        {"evil", evil},
        {"evil twice", evil_twice},
        {"processor time", processor_time},
        {"doors are closed", doors_are_closed},
        {"comes back", comes_back},
        {"recycled", recycled},
        {"queue", queue},
        {"overlapping takes", overlapping_takes},
        {"no codecs", no_codecs},
    };
    if (argc > 1 && strcmp(argv[1], YD_CODEC_ARGUMENT) == 0) return yd_codec_child_main(argc, argv, evil_perform);
    yd_err err;
    yd_log_set_level("error");
    if (yd_image_init(&err)) return 1;
    return t_main(argc, argv, cases, sizeof cases / sizeof cases[0]);
}
