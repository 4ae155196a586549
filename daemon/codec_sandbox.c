// What a codec process may still ask of the kernel once it is ready: memory, time, threads, its two descriptors. Nothing else.
//
// A list of what is allowed, as a classic BPF program; everything else fails with EPERM, so that a library that merely asks (for the
// number of processors, say) finds another way, and one that was taken over finds none: no files, no sockets, no programs, no other
// process, no code that is written and then run. Three calls are allowed for some arguments only:
//   mmap, mprotect  without PROT_EXEC
//   clone           of threads (clone3, whose arguments lie in memory, is said not to exist: libc then uses clone)
//   prctl           names of threads and of memory;  prlimit64, tgkill  on the process itself
// Threads: call before other threads matter; those that exist already are confined too. Where the architecture is unknown here, -1.
#include "daemon/codec.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#if defined(ARCHITECTURE) && !defined(YD_SANITIZE) // sanitizers ask for more than decoders do
static const unsigned allowed[] = {
    __NR_futex,        __NR_read,           __NR_write,        __NR_pread64,      __NR_pwrite64,      __NR_readv,
    __NR_writev,       __NR_close,          __NR_fstat,        __NR_lseek,        __NR_munmap,        __NR_brk,
    __NR_mremap,       __NR_madvise,        __NR_recvmsg,      __NR_sendmsg,      __NR_exit,          __NR_exit_group,
    __NR_rt_sigaction, __NR_rt_sigprocmask, __NR_rt_sigreturn, __NR_sigaltstack,  __NR_sched_yield,   __NR_sched_getaffinity,
    __NR_gettid,       __NR_getpid,         __NR_getppid,      __NR_getuid,       __NR_geteuid,       __NR_clock_gettime,
    __NR_clock_getres, __NR_clock_nanosleep, __NR_nanosleep,   __NR_gettimeofday, __NR_getrandom,     __NR_getrusage,
    __NR_times,        __NR_sysinfo,        __NR_uname,        __NR_getcpu,       __NR_restart_syscall, __NR_set_robust_list,
    __NR_ppoll,
#ifdef __NR_poll
    __NR_poll,
#endif
#ifdef __NR_time
    __NR_time,
#endif
#ifdef __NR_newfstatat // of an open descriptor; a path tells no more than whether it is there
    __NR_newfstatat,
#endif
#ifdef __NR_rseq
    __NR_rseq,
#endif
#ifdef __NR_membarrier
    __NR_membarrier,
#endif
};

enum { ALLOWED = sizeof allowed / sizeof allowed[0], MOST = 2 * ALLOWED + 64 };

#define ARG_LOW(i) ((unsigned)(offsetof(struct seccomp_data, args) + 8 * (i))) // little-endian machines both

typedef struct program {
    struct sock_filter code[MOST];
    unsigned short n;
} program;

static void add(program *p, unsigned code, unsigned k, unsigned yes, unsigned no)
{
    if (p->n < MOST) p->code[p->n++] = (struct sock_filter){(unsigned short)code, (unsigned char)yes, (unsigned char)no, k};
}

static void load(program *p, unsigned at)
{
    add(p, BPF_LD | BPF_W | BPF_ABS, at, 0, 0);
}

static void answer(program *p, unsigned what)
{
    add(p, BPF_RET | BPF_K, what, 0, 0);
}

static void deny(program *p, int error)
{
    answer(p, SECCOMP_RET_ERRNO | (unsigned)error);
}

// call nr is allowed when (argument & mask) == value, else EPERM. The number is loaded.
static void allow_if(program *p, unsigned nr, unsigned argument, unsigned mask, unsigned value)
{
    add(p, BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 5);
    load(p, ARG_LOW(argument));
    add(p, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
    add(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(p, SECCOMP_RET_ALLOW);
    deny(p, EPERM);
}

static void write_program(program *p)
{
    load(p, offsetof(struct seccomp_data, arch));
    add(p, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    answer(p, SECCOMP_RET_KILL_PROCESS);
    load(p, offsetof(struct seccomp_data, nr)); // numbers of another calling convention are on no list
    for (unsigned i = 0; i < ALLOWED; i++) {
        add(p, BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        answer(p, SECCOMP_RET_ALLOW);
    }
}
#endif

#if defined(ARCHITECTURE) && !defined(YD_SANITIZE)
static void write_conditions(program *p)
{
    const unsigned self = (unsigned)getpid();
    allow_if(p, __NR_mmap, 2, PROT_EXEC, 0);
    allow_if(p, __NR_mprotect, 2, PROT_EXEC, 0);
    allow_if(p, __NR_clone, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM);
    allow_if(p, __NR_prlimit64, 0, ~0u, 0);
    allow_if(p, __NR_tgkill, 0, ~0u, self);
    allow_if(p, __NR_prctl, 0, ~0u, PR_SET_NAME);
#ifdef __NR_clone3
    add(p, BPF_JMP | BPF_JEQ | BPF_K, __NR_clone3, 0, 1);
    deny(p, ENOSYS);
#endif
    deny(p, EPERM);
}

int yd_codec_confine(void)
{
    program p = {.n = 0};
    write_program(&p);
    write_conditions(&p);
    const struct sock_fprog f = {p.n, p.code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -1;
    return syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &f) == 0 ? 0 : -1;
}
#else
int yd_codec_confine(void)
{
    errno = ENOSYS;
    return -1;
}
#endif
