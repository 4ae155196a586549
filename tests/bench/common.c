// Shared pieces of the benchmarks (bench.h): the peak probes are plain intrinsics with enough independent accumulators to keep every
// multiplier busy; nothing touches memory.
#include "tests/bench/bench.h"

#include <glob.h>
#include <immintrin.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROBE_ROUNDS 400000

double bench_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

typedef double (*probe)(void); // floating-point operations done

// Sixteen accumulators as sixteen variables: an array of them would live in memory. KEEP holds the compiler to one instruction each.
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define KEEP(v) __asm__ volatile("" : "+v"(v))

__attribute__((target("avx512f"))) static double fma_avx512(void)
{
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-9f);
#define DECLARE(i) __m512 a##i = _mm512_set1_ps((float)i);
#define STEP(i) a##i = _mm512_fmadd_ps(a##i, x, y); KEEP(a##i);
    EACH(DECLARE)
    for (int r = 0; r < PROBE_ROUNDS; r++) {
        EACH(STEP)
    }
#undef DECLARE
#undef STEP
    return 2.0 * 16 * 16 * PROBE_ROUNDS;
}

__attribute__((target("avx2,fma"))) static double fma_avx2(void)
{
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-9f);
#define DECLARE(i) __m256 a##i = _mm256_set1_ps((float)i);
#define STEP(i) a##i = _mm256_fmadd_ps(a##i, x, y); KEEP(a##i);
    EACH(DECLARE)
    for (int r = 0; r < PROBE_ROUNDS; r++) {
        EACH(STEP)
    }
#undef DECLARE
#undef STEP
    return 2.0 * 8 * 16 * PROBE_ROUNDS;
}

__attribute__((target("avx512f,avx512bf16"))) static double dot_bf16(void)
{
    const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3c00), y = (__m512bh)_mm512_set1_epi16(0x3b00);
#define DECLARE(i) __m512 a##i = _mm512_set1_ps((float)i);
#define STEP(i) a##i = _mm512_dpbf16_ps(a##i, x, y); KEEP(a##i);
    EACH(DECLARE)
    for (int r = 0; r < PROBE_ROUNDS; r++) {
        EACH(STEP)
    }
#undef DECLARE
#undef STEP
    return 4.0 * 16 * 16 * PROBE_ROUNDS;
}

static double measure(probe p, int threads)
{
    double best = 0;
    for (int i = 0; i < 5; i++) {
        double work = 0, t = bench_now_s();
#pragma omp parallel num_threads(threads) reduction(+ : work)
        work += p();
        t = bench_now_s() - t;
        if (work / t > best) best = work / t;
    }
    return best;
}

double bench_peak_f32(int threads)
{
    __builtin_cpu_init();
    return measure(__builtin_cpu_supports("avx512f") ? fma_avx512 : fma_avx2, threads);
}

double bench_peak_bf16(int threads)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") ? measure(dot_bf16, threads) : 0;
}

yd_model *bench_model(void)
{
    const char *path = getenv("YODA_MODEL");
    glob_t found = {0};
    yd_model *m = NULL;
    yd_err err = {0};
    if (!path && glob("models/*.safetensors", 0, NULL, &found) == 0 && found.gl_pathc > 0) path = found.gl_pathv[0];
    if (!path) fprintf(stderr, "no model: set YODA_MODEL or put one into models/\n");
    else if (yd_model_load(path, &m, &err)) fprintf(stderr, "%s: %s\n", path, err.detail);
    globfree(&found);
    return m;
}

static yd_model *sr3_model(const char *name, int res_blocks)
{
    yd_model_config c;
    yd_model *m = NULL;
    yd_err err = {0};
    yd_model_config_init(&c);
    snprintf(c.name, sizeof c.name, "%s", name);
    c.net.res_blocks = res_blocks;
    c.net.n_attn = 1;
    c.net.attn_res[0] = 16;
    if (yd_model_init(&c, 1, 0, &m, &err)) fprintf(stderr, "%s\n", err.detail);
    return m;
}

yd_model *bench_paper_model(void)
{
    return sr3_model("sr3-paper", 3);
}

yd_model *bench_sr3_16_128_model(void)
{
    return sr3_model("sr3_16_128", 2);
}

yd_model *bench_srdiff_model(void)
{
    static const char text[] = "{\"name\": \"srdiff_df2k4x\", \"network\": {\"type\": \"srdiff\", \"inner_channel\": 64, \"channel_multiplier\": [1, 2, 3, 4],"
                               "\"up_scale\": 4, \"rrdb_blocks\": 17, \"rrdb_features\": 64}}";
    yd_model_config c;
    yd_model *m = NULL;
    yd_err err = {0};
    if (yd_model_config_parse(text, strlen(text), &c, &err) || yd_model_init(&c, 1, 0, &m, &err)) fprintf(stderr, "%s\n", err.detail);
    return m;
}
