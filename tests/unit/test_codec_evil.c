// Codecs that lie, crash, hang and vanish, and the pool that goes on without them.
#include "tests/unit/codec_rig.h"

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
    yd_metrics_now now = {.version = "", .model = "", .device = "", .durability = ""};
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

int main(int argc, char **argv)
{
    static const t_case cases[] = {
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
