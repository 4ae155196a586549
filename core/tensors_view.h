// What is behind a read view of tensors, for those who fill it: core/tensors.c and the readers of the containers.
#ifndef YD_CORE_TENSORS_VIEW_H
#define YD_CORE_TENSORS_VIEW_H

#include "core/json.h"
#include "core/tensors.h"

struct yd_safetensors {
    yd_container container;
    const uint8_t *bytes;
    size_t len;
    void *map; // NULL when the bytes are borrowed
    size_t map_len;
    yd_st_tensor *tensors; // in name order once open
    size_t count, capacity;

    yd_json *header; // safetensors: names and metadata point into it
    yd_jid metadata; // -1: none

    yd_st_other *others; // torch: these names and those of the tensors are the view's own
    size_t n_others, others_capacity;
    void **copies; // gathered tensors
    size_t n_copies, copies_capacity, copied_bytes;
};

// A view over borrowed bytes, with nothing in it; NULL when memory is out.
yd_safetensors *yd_view_new(yd_container container, const void *bytes, size_t len);
// Room for n elements of `size` bytes. 0, or YD_E_NOMEM with its message.
int yd_view_reserve(void **array, size_t *capacity, size_t n, size_t size, yd_err *err);
// Put the tensors in name order. YD_E_CHECKPOINT when two have one name.
int yd_view_sort(yd_safetensors *st, yd_err *err);

// Map the regular file `path`, or the file in parts whose index it is (core/parts.h), and open what is in it; the message of a failure
// names the file.
int yd_view_open(const char *path, int (*open_memory)(const void *, size_t, yd_safetensors **, yd_err *),
                 yd_safetensors **out, yd_err *err);

// The readers of the containers, each over all of a file: YD_E_CHECKPOINT, YD_E_NOMEM.
int yd_torch_zip_open(const void *bytes, size_t len, yd_safetensors **out, yd_err *err);
int yd_torch_legacy_open(const void *bytes, size_t len, yd_safetensors **out, yd_err *err);

#endif
