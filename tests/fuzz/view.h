// Reading everything that a view of tensors promises, so that the sanitizers see whether it is there.
#ifndef YD_TESTS_FUZZ_VIEW_H
#define YD_TESTS_FUZZ_VIEW_H

#include "core/model_public.h"
#include "core/seal.h"
#include "core/tensors.h"
#include "tests/fuzz/fuzz.h"

static void read_tensor(const yd_st_tensor *t)
{
    static volatile uint8_t sum;
    static float values[4096];
    HOLDS(t->ndim >= 0 && t->ndim <= YD_ST_MAX_DIMS && t->name && strlen(t->name) < (1u << 24));
    size_t numel = 1;
    for (int i = 0; i < t->ndim; i++) HOLDS(t->dims[i] >= 0 && !__builtin_mul_overflow(numel, (size_t)t->dims[i], &numel));
    HOLDS(numel == t->numel);
    for (size_t i = 0; i < t->bytes; i++) sum ^= ((const uint8_t *)t->data)[i];
    if (t->numel <= 4096) (void)yd_st_to_f32(t, values, NULL);
}

static void read_view(yd_safetensors *st)
{
    yd_err err = {0};
    yd_public_net at;
    size_t seal, len;
    for (size_t i = 0; i < yd_st_count(st); i++) {
        read_tensor(yd_st_at(st, i));
        HOLDS(yd_st_find(st, yd_st_at(st, i)->name) == yd_st_at(st, i));
    }
    for (size_t i = 0; yd_tensors_other(st, i); i++) HOLDS(yd_tensors_other(st, i)->name && yd_tensors_other(st, i)->what);
    HOLDS(yd_tensors_missing(st, "w.x", &err) == YD_E_CHECKPOINT);
    for (size_t i = 0; yd_st_metadata_key(st, i); i++) HOLDS(yd_st_metadata(st, yd_st_metadata_key(st, i)));
    const void *bytes = yd_st_bytes(st, &len);
    if (yd_seal_find(st, &seal, &err) == 1) (void)yd_seal_check(bytes, len, seal, &err);
    if (yd_public_locate(st, &at, &err) == 1) (void)yd_public_detect(st, &at, &err);
    yd_st_close(st);
}

#endif
