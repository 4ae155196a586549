// The oneDNN backend: opening it, what it says about itself, and the process settings it needs.
//
// Owns the engine, the stream and the thread count. Compute threads are OpenMP's; their number is a property of the
// calling thread, so compile() and run() set it each time. Files of this folder are listed in cpu.h.
// Read next: plan.c.
#include "core/cpu/cpu.h"
#include "core/cpu/wino.h"
#include "core/mem.h"
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS 1024

static void cpu_close(yd_backend *be)
{
    yd_cpu *cpu = (yd_cpu *)be;
    if (!cpu) return;
    dnnl_stream_destroy(cpu->stream);
    dnnl_engine_destroy(cpu->engine);
    yd_free(cpu);
}

static void device_name(char *dst, size_t size)
{
    snprintf(dst, size, "x86-64 processor");
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        colon += 1 + strspn(colon + 1, " \t");
        colon[strcspn(colon, "\n")] = 0;
        snprintf(dst, size, "%s", colon);
        break;
    }
    fclose(f);
}

static const char *isa_name(void)
{
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
        return "sse41";
    case dnnl_cpu_isa_avx:
        return "avx";
    case dnnl_cpu_isa_avx2:
        return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
        return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
        return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "avx512_core_amx";
    default:
        return "x86-64";
    }
}

// bf16 at hardware speed; AVX-512 without it has kernels that convert.
static int has_bf16(void)
{
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
}

static void cpu_info(const yd_backend *be, yd_backend_info *out)
{
    const yd_cpu *cpu = (const yd_cpu *)be;
    const dnnl_version_t *v = dnnl_version();
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "cpu");
    device_name(out->device, sizeof out->device);
    snprintf(out->isa, sizeof out->isa, "%s", isa_name());
    snprintf(out->library, sizeof out->library, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    snprintf(out->kernels, sizeof out->kernels, "%s-%d", cpu->winograd ? "winograd" : "direct", YD_KERNELS_VERSION);
    out->threads = cpu->threads;
    out->bf16 = has_bf16();
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page > 0) out->memory_total = (size_t)pages * (size_t)page;
}

#ifndef YD_SANITIZE
// With OMP_PROC_BIND libgomp binds the first thread to one core as soon as it is loaded, and a program executed from it would
// find only that one: give back all the cores it meant to use.
static void unbind(void)
{
    static int cores[CPU_SETSIZE];
    cpu_set_t all;
    CPU_ZERO(&all);
    const int places = omp_get_num_places();
    for (int p = 0; p < places; p++) {
        const int n = omp_get_place_num_procs(p);
        if (n < 1 || n > CPU_SETSIZE) return;
        omp_get_place_proc_ids(p, cores);
        for (int i = 0; i < n; i++)
            if (cores[i] >= 0 && cores[i] < CPU_SETSIZE) CPU_SET((size_t)cores[i], &all);
    }
    if (CPU_COUNT(&all) > 0) sched_setaffinity(0, sizeof all, &all); // without it we go on, on fewer cores
}
#endif

void yd_cpu_prepare_process(char **argv)
{
#ifdef YD_SANITIZE
    (void)argv; // a sanitizer's own start-up must not run twice, and its timings mean nothing
#else
    // libgomp's threads spin while they wait, which starves every other thread of a small machine. It reads these
    // when it is loaded, that is, before main(). A value the user has set stays.
    if (getenv("YODA_OMP_PREPARED")) return;
    if (setenv("YODA_OMP_PREPARED", "1", 1) != 0) return;
    if (setenv("OMP_WAIT_POLICY", "passive", 0) != 0 || setenv("GOMP_SPINCOUNT", "2000", 0) != 0) return;
    unbind();
    execv("/proc/self/exe", argv); // when this fails we go on, only slower
#endif
}

int yd_cpu_open(const yd_cpu_options *opt, yd_backend **out, yd_err *err)
{
    *out = NULL;
    int threads = opt ? opt->threads : 0;
    if (threads < 0 || threads > MAX_THREADS)
        return yd_fail_field(err, YD_E_CONFIG, "threads", "0 (all cores) to 1024", "%d compute threads cannot be used",
                             threads);
    yd_cpu *cpu = yd_calloc(1, sizeof *cpu);
    if (!cpu) return yd_fail(err, YD_E_NOMEM, "no memory for the CPU backend");
    cpu->threads = threads ? threads : omp_get_num_procs();
    const char *verbose = getenv("YODA_CPU_VERBOSE");
    cpu->verbose = verbose && *verbose == '1';
    const char *profile = getenv("YODA_CPU_PROFILE");
    cpu->profile = profile && *profile == '1' ? 2 : opt ? opt->profile != 0 : 0;
    cpu->bf16_kernels = strncmp(isa_name(), "avx512", 6) == 0;
    cpu->bf16_fast = has_bf16();
    // Matrix units (AMX) run direct bf16 convolutions faster than vectors run Winograd's; f32 has no such units.
    cpu->winograd = yd_wino_here() && cpu->bf16_kernels && !(opt && opt->no_winograd);
    cpu->keep = opt ? opt->keep_activations : 0;
    cpu->base = (yd_backend){
        .close = cpu_close,
        .info = cpu_info,
        .weights_new = yd_cpu_weights_new,
        .weights_free = yd_cpu_weights_free,
        .weights_read = yd_cpu_weights_read,
        .weights_write = yd_cpu_weights_write,
        .adamw = yd_cpu_adamw,
        .compile = yd_cpu_compile,
        .exec_free = yd_cpu_exec_free,
        .exec_stats = yd_cpu_exec_stats,
        .buffer = yd_cpu_buffer,
        .run = yd_cpu_run,
        .peek = yd_cpu_peek,
    };
    dnnl_status_t s = dnnl_engine_create(&cpu->engine, dnnl_cpu, 0);
    if (s != dnnl_success) goto fail_free;
    s = dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_in_order);
    if (s != dnnl_success) goto fail_engine;
    *out = &cpu->base;
    return 0;

fail_engine:
    dnnl_engine_destroy(cpu->engine);
fail_free:
    yd_free(cpu);
    return yd_fail(err, s == dnnl_out_of_memory ? YD_E_NOMEM : YD_E_DEVICE,
                   "oneDNN cannot use this processor (status %d)", (int)s);
}
