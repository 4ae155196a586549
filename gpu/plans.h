// The plan cache: which engine computes which convolution, by GPU, library version and shape; in memory, and in a file that outlives the process.
//
// The file is text, one choice a line, each with a checksum of its own: a damaged line, or a file of another form, costs its choices and no more.
// It is read when the cache is opened and replaced in one step by save, which keeps the lines of other GPUs and versions. All backends of a process
// that name one file have one table, so that GPUs of one kind take the same engines although they choose by time, each when it is the first to
// meet a shape; choices that could not be written stay in the table until the process ends, also when no backend is open.
// Threads: any; a key's choice is looked for, made and kept between lock and unlock.
#ifndef YD_GPU_PLANS_H
#define YD_GPU_PLANS_H

#include "gpu/driver.h"

typedef struct yd_gpu_plans yd_gpu_plans;

#define YD_GPU_KEY 224

// path: NULL for memory only. A file that is not there or cannot be read is an empty one. YD_E_NOMEM.
int yd_gpu_plans_open(const char *path, const yd_gpu_about *about, yd_gpu_plans **out, yd_err *err);
void yd_gpu_plans_close(yd_gpu_plans *p); // does not save

// While one thread is between them others wait: for choosing and keeping in one step.
void yd_gpu_plans_lock(yd_gpu_plans *p);
void yd_gpu_plans_unlock(yd_gpu_plans *p);

// The key of a shape: every field, but n only where it counts; and whether the choice was to be made by time, so that none that was serves
// somebody who wants what the library ranks first.
void yd_gpu_plans_key(const yd_gpu_plans *p, const yd_gpu_conv_shape *shape, int with_n, int by_time,
                      char key[YD_GPU_KEY]);
// The choice kept under a key; NULL when there is none. Valid until the next put. Locked.
const yd_gpu_choice *yd_gpu_plans_get(const yd_gpu_plans *p, const char *key);
// Keep or replace one. Locked. YD_E_NOMEM, YD_E_INVALID (a key with a tab or line end in it).
int yd_gpu_plans_put(yd_gpu_plans *p, const char *key, const yd_gpu_choice *c, yd_err *err);
// Write the file, if there is one and something was put since. Locks by itself. YD_E_IO, YD_E_NOMEM: the old file stays.
int yd_gpu_plans_save(yd_gpu_plans *p, yd_err *err);
// How many are kept, and how many lines of the file were dropped as damaged.
int yd_gpu_plans_count(const yd_gpu_plans *p, int *dropped);

#endif
