// safetensors files: memory-mapped reading with every offset and product checked, atomic writing.
//
// Format: u64 LE header length, JSON header, data. Checked as the reference implementation does: header <= 100 MB, tensors tile the
// data exactly (no holes, overlaps or trailing bytes), sizes equal shape * dtype, no duplicate names. Source: huggingface/safetensors.
// A reader is immutable and may be shared by threads.
#ifndef YD_CORE_SAFETENSORS_H
#define YD_CORE_SAFETENSORS_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

#define YD_ST_MAX_DIMS 8

typedef enum {
    YD_ST_F32, YD_ST_F16, YD_ST_BF16, YD_ST_F64, YD_ST_I64, YD_ST_I32, YD_ST_I16, YD_ST_I8, YD_ST_U8, YD_ST_BOOL, YD_ST_OTHER
} yd_st_dtype;

typedef struct yd_st_tensor {
    const char *name;
    yd_st_dtype dtype;
    int ndim;
    int64_t dims[YD_ST_MAX_DIMS];
    const void *data; // into the mapping, unaligned
    size_t bytes;
    size_t numel;
} yd_st_tensor;

typedef struct yd_safetensors yd_safetensors;

// Map and check a file, in one piece or in parts (core/parts.h). YD_E_IO, YD_E_CHECKPOINT (what is wrong and where). Close with yd_st_close (NULL is fine).
int yd_st_open(const char *path, yd_safetensors **out, yd_err *err);
// The same over memory (borrowed; must outlive the reader). For tests and fuzzing.
int yd_st_open_memory(const void *bytes, size_t len, yd_safetensors **out, yd_err *err);
void yd_st_close(yd_safetensors *st);

size_t yd_st_count(const yd_safetensors *st);
const yd_st_tensor *yd_st_at(const yd_safetensors *st, size_t i); // in name order
// All of the file, header included.
const void *yd_st_bytes(const yd_safetensors *st, size_t *len);
const yd_st_tensor *yd_st_find(const yd_safetensors *st, const char *name);
const char *yd_st_metadata(const yd_safetensors *st, const char *key); // NULL if absent
// The metadata one by one: its i-th key, NULL from their number on.
const char *yd_st_metadata_key(const yd_safetensors *st, size_t i);

// Convert a tensor's values to f32; dst has numel floats. YD_E_CHECKPOINT for YD_ST_OTHER, for an integer that f32 cannot hold exactly
// and for a finite F64 beyond f32's range.
int yd_st_to_f32(const yd_st_tensor *t, float *dst, yd_err *err);

// Write a file from parts; tmp + fsync + rename. dtype of every tensor given; data in that dtype. Equal parts give equal bytes, in
// whatever order they are added; a metadata key set again is replaced. NULL when memory is out. YD_E_INVALID for an impossible shape, a
// name used twice (found by save) or no UTF-8, YD_E_IO, YD_E_NOMEM; a failed save leaves the old file and no temporary one.
typedef struct yd_st_writer yd_st_writer;
yd_st_writer *yd_st_writer_new(void);
int yd_st_writer_metadata(yd_st_writer *w, const char *key, const char *value, yd_err *err);
// data is borrowed until yd_st_writer_save returns.
int yd_st_writer_add(yd_st_writer *w, const char *name, yd_st_dtype dt, int ndim, const int64_t *dims, const void *data, yd_err *err);
// Have the file carry a checksum of itself (core/seal.h), so that whoever loads it finds every changed bit.
int yd_st_writer_seal(yd_st_writer *w, yd_err *err);
int yd_st_writer_save(yd_st_writer *w, const char *path, yd_err *err);
// The same as a file in parts (core/parts.h) of at most part_bytes each; 0: in one piece. Either takes the place of the other. YD_E_INVALID too
// for a part_bytes out of range and for too many parts.
int yd_st_writer_save_parts(yd_st_writer *w, const char *path, size_t part_bytes, yd_err *err);
void yd_st_writer_free(yd_st_writer *w);

// bf16 <-> f32, round to nearest even; NaN stays NaN.
uint16_t yd_bf16_from_f32(float x);
float yd_bf16_to_f32(uint16_t b);

#endif
