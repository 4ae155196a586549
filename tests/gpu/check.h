// What the files of tests/gpu/check share: the backend under test, the table of results, and the outputs that the CPU has saved.
//
//   check.c   options, the table, its sum      check_ops.c     every operator against tests/oracle
//   check_nets.c  whole networks, memory, ends  check_sampler.c  whole sampling runs      check_train.c  a short training
//   saved.c   tests/gpu/data/cpu.safetensors       open_*.c  devices
#ifndef TESTS_GPU_CHECK_H
#define TESTS_GPU_CHECK_H

#include "core/backend_load.h"
#include "core/safetensors.h"

typedef struct saved saved;

typedef struct check {
    const char *device; // "cpu", "cuda:1"
    int on_gpu;         // 0: the CPU, to prove these checks themselves
    const char *only;   // NULL, or words of the rows to run
    yd_backend *be;     // of the default options, activations kept
    saved *saved;
    int passed, failed, skipped;
} check;

// A row of the table begins: prints its name; 0 when it is not wanted. Then one of the ends.
int check_begin(check *c, const char *group, const char *name);
// ok, and what was found ("off by 3e-6, allowed 1e-4").
void check_end(check *c, int ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void check_skip(check *c, const char *why);
// A detail of a row that has failed, printed below it; only the first ones are.
void check_detail(check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Another backend on the same device. NULL and a printed reason when it cannot be opened. cuda: of the CPU nothing of it is used.
yd_backend *check_open(const check *c, const yd_cuda_options *cuda);

// Where devices come from: open_device.c, by name; open_fake.c, the CUDA backend on a driver that computes with loops.
// 1 and whether it is a GPU; 0: there is none, *err says why; negative: there is no such name.
int check_find_device(const char *name, int *on_gpu, yd_err *err);
int check_open_device(const char *name, const yd_cpu_options *cpu, const yd_cuda_options *cuda, yd_backend **out, yd_err *err);

// max |a-b| / max |b|; NaN anywhere gives infinity.
double check_rel_diff(const float *a, const float *b, size_t n);
// Peak signal-to-noise ratio in dB of values in [-1,1].
double check_psnr(const float *a, const float *b, size_t n);
// Values in [-1,1) that are the same everywhere.
void check_fill(float *dst, size_t n, unsigned long seed);

// Saved values by name: compare against them, or with --save take v as them. Returns the relative difference, 0 when it was saved, infinity
// when there are no such values.
double saved_compare(saved *s, const char *name, const float *v, size_t n);
// The saved values, borrowed; NULL when there are none of that number.
const float *saved_values(saved *s, const char *name, size_t n);
int saved_open(const char *path, int writing, saved **out, yd_err *err);
// Writes the file where it was opened for that.
int saved_close(saved *s, yd_err *err);

void check_ops(check *c);
void check_nets(check *c);
void check_sampler(check *c);
void check_train(check *c);

#endif
