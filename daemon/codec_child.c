// A codec process: limits itself, starts libvips, closes every door, then does one request after the other until the socket closes.
//
// It trusts the daemon, whose program it is, but not the pictures: from the moment it reads the first one it may be somebody else's. So
// everything that guards the rest of the system is in place before: no privileges to gain, no inherited descriptors, few of its own, no
// core files, a bound on memory, no system calls but those of codec_sandbox.c. The daemon guards against the rest: it kills at a deadline
// and believes no answer. SIGTERM and SIGINT, which terminals and service managers send to whole groups, are ignored: the end comes
// with the end of the socket, or with the daemon's.
// Threads: one of its own; libraries may start others. Exit: 0 after the socket's end, 1 when it cannot work.
#include "daemon/codec.h"

#include "core/mem.h"
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OWN_FDS     32
#define OOM_SCORE   "700" // whoever looks for memory takes it here, before the daemon
#define CPU_SLOWNESS 8    // of sanitizers

static void limit(__rlimit_resource_t what, rlim_t soft, rlim_t hard)
{
    const struct rlimit l = {soft, hard};
    setrlimit(what, &l);
}

static void prefer_as_victim(void)
{
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    if (write(fd, OOM_SCORE, sizeof OOM_SCORE - 1) < 0) { /* as it was: nothing depends on it */ }
    close(fd);
}

static void protect(rlim_t address_space)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "yodad-codec");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    syscall(SYS_close_range, YD_CODEC_FD + 1, ~0u, 0);
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_NOFILE, OWN_FDS, OWN_FDS);
#ifndef YD_SANITIZE // their shadows take terabytes of addresses
    if (address_space > 0) limit(RLIMIT_AS, address_space, address_space);
#endif
    (void)address_space;
    prefer_as_victim();
}

// Once through every encoder and decoder: what libraries load or find out when they are first used, they do before the doors close.
static void warm_up(void)
{
    size_t n;
    const yd_image_kind *k = yd_image_kinds(&n);
    for (size_t i = 0; i < n; i++) {
        uint8_t rgb[16 * 16 * 3] = {0};
        yd_image im = {0}, back = {0};
        yd_output out;
        void *bytes = NULL;
        size_t len = 0;
        yd_err err;
        if (!k[i].writes) continue;
        yd_output_init(&out);
        out.format = k[i].format;
        if (!yd_image_from_rgb8(&im, 16, 16, rgb, NULL, &err) && !yd_image_encode(&im, &out, &bytes, &len, &err) &&
            !yd_image_decode(bytes, len, &(yd_image_limits){0}, NULL, &back, &err))
            yd_image_clear(&back);
        yd_image_clear(&im);
        yd_free(bytes);
    }
}

static void unlimit(void)
{
#ifndef YD_SANITIZE
    struct rlimit l;
    if (getrlimit(RLIMIT_AS, &l) == 0) limit(RLIMIT_AS, l.rlim_max, l.rlim_max);
#endif
}

// What this picture may take, beside what all before it have taken.
static void allow(const yd_codec_request *q)
{
    struct rlimit l;
    struct rusage used;
#ifndef YD_SANITIZE
    if (q->address_space > 0 && getrlimit(RLIMIT_AS, &l) == 0)
        limit(RLIMIT_AS, q->address_space < l.rlim_max ? (rlim_t)q->address_space : l.rlim_max, l.rlim_max);
    const rlim_t cpu_s = q->cpu_s;
#else
    const rlim_t cpu_s = (rlim_t)q->cpu_s * CPU_SLOWNESS;
#endif
    if (q->cpu_s == 0 || getrusage(RUSAGE_SELF, &used) || getrlimit(RLIMIT_CPU, &l)) return;
    const rlim_t now_s = (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1);
    limit(RLIMIT_CPU, now_s + cpu_s, l.rlim_max);
}

// A request may bring new memory, which replaces what was there.
static int take_region(yd_region *r, int fd)
{
    if (fd < 0) return r->base ? 0 : -1;
    yd_region_free(r);
    const int rc = yd_region_map(r, fd);
    close(fd);
    return rc;
}

// 1: go on; 0: the daemon has closed its end, or speaks another language.
static int serve_one(yd_region *r, yd_codec_perform_fn perform)
{
    yd_codec_request q;
    yd_codec_answer a;
    int fd;
    if (yd_codec_receive(YD_CODEC_FD, &q, sizeof q, &fd) != 1) return 0;
    unlimit(); // the mapping is no part of the picture before
    if (take_region(r, fd) || yd_codec_request_check(&q, r->size)) return 0;
    allow(&q);
    perform(&q, r->base, &a);
    return yd_codec_send(YD_CODEC_FD, &a, sizeof a, -1) == 0;
}

int yd_codec_child_main(int argc, char **argv, yd_codec_perform_fn perform)
{
    yd_codec_hello hello;
    yd_err err;
    protect(argc > 2 ? (rlim_t)strtoull(argv[2], NULL, 10) : 0);
    if (yd_image_init(&err)) return 1;
    warm_up();
    yd_codec_hello_init(&hello);
    hello.reads = yd_image_reads();
    hello.confined = yd_codec_confine() == 0;
    if (yd_codec_send(YD_CODEC_FD, &hello, sizeof hello, -1)) return 1;
    yd_region region = {.fd = -1};
    while (serve_one(&region, perform)) continue;
    return 0;
}
