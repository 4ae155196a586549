// From a checkpoint's pickle to the tensors of a view: what both containers of torch have in common.
#ifndef YD_CORE_TORCH_STATE_H
#define YD_CORE_TORCH_STATE_H

#include "core/pickle.h"
#include "core/tensors_view.h"

// What a persistent id of a pickle says: one storage, whose bytes lie elsewhere in the file. Texts lie in the pickle.
typedef struct yd_torch_storage {
    yd_st_dtype dtype;
    size_t item; // bytes of an element
    const char *key;
    size_t key_len;
    size_t numel;
} yd_torch_storage;

// Read a persistent id (an OUTSIDE node). 0; YD_E_CHECKPOINT when it is damaged; 1 when it is none that this reader knows, and *why says so.
int yd_torch_read_storage(const yd_pickle *p, yd_pkid id, yd_torch_storage *out, const char **why, yd_err *err);

// Where the bytes of storages lie. find: all numel * item bytes of one, or an error that names it.
typedef struct yd_torch_bytes {
    int (*find)(const void *user, const yd_torch_storage *s, const uint8_t **bytes, yd_err *err);
    const void *user;
} yd_torch_bytes;

// Put every tensor that can be reached from the pickle's root into the view, under its dotted name, and the rest into its others; sort it.
// YD_E_CHECKPOINT, YD_E_NOMEM.
int yd_torch_flatten(const yd_pickle *p, const yd_torch_bytes *where, yd_safetensors *st, yd_err *err);

// One tensor, as its call says: dtype, dims and data of *out are filled in, its name is left. 0; YD_E_CHECKPOINT when it is damaged, YD_E_NOMEM;
// 1 when the call is no tensor or one that this reader cannot use; then *why is a text to print, or NULL when it is no tensor at all.
int yd_torch_tensor(const yd_pickle *p, yd_pkid id, const yd_torch_bytes *where, yd_safetensors *st, const char *name,
                    yd_st_tensor *out, const char **why, yd_err *err);

#endif
