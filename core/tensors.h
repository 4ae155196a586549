// Tensors of a model file, whatever container it comes in: safetensors, or what torch.save writes, as a zip or as pickles back to back.
//
// Opening maps the file, finds out what it is from its bytes (never from its name), and checks every offset, size and name once; the outcome
// is the read view of core/safetensors.h, whose functions work on all containers: yd_st_count, yd_st_at, yd_st_find, yd_st_bytes, yd_st_to_f32,
// yd_st_close. Nothing in a file is executed, imported or trusted.
//
// Names in torch's containers are the keys from the top with dots between: "state_dict.model.denoise_fn.downs.0..." or
// "optimizer_states.0.state.1.exp_avg". A file that is one tensor has the name "tensor". `_metadata` and other states of objects are not looked at.
// Tensors may share storage. One that does not lie row by row is gathered into memory, as long as all of those have no more bytes than the file.
//
// Refused: damage (anything out of bounds, overlapping, missing or twice there), encrypted or compressed zips, big-endian files, the tar
// container of 2016, TorchScript. What is legal but no use as a weight (an object of an unknown class, a sparse or quantised tensor, more
// than 8 dimensions) is left out and does no harm until somebody wants it: yd_tensors_missing says what stands in its place.
//
// Bounds: 64 GiB, 65,536 tensors, names of 511 bytes, 16 levels of nesting, 131,072 zip entries, the bounds of core/pickle.h.
// Source: torch/serialization.py, torch/_utils.py, PKWARE's APPNOTE 6.3.
#ifndef YD_CORE_TENSORS_H
#define YD_CORE_TENSORS_H

#include "core/safetensors.h"

typedef enum { YD_BOX_SAFETENSORS, YD_BOX_TORCH_ZIP, YD_BOX_TORCH_LEGACY } yd_container;

// Map and check a file. YD_E_IO, YD_E_CHECKPOINT (what is wrong and where, naming the file), YD_E_NOMEM. Close with yd_st_close.
int yd_tensors_open(const char *path, yd_safetensors **out, yd_err *err);
// The same over memory, borrowed: it must outlive the view.
int yd_tensors_open_memory(const void *bytes, size_t len, yd_safetensors **out, yd_err *err);

yd_container yd_tensors_container(const yd_safetensors *st);
const char *yd_tensors_container_name(const yd_safetensors *st); // "safetensors", "PyTorch zip", "PyTorch legacy"

// Folders of models are searched by ending: .safetensors, .pth, .pt, .ckpt, and of two files of one name the first of these counts. 0 to 3 and the length of
// the name before it; -1: nothing that folders are searched for (hidden files neither).
int yd_tensors_ending(const char *file, size_t *stem);

// What else a torch file holds: the numbers and texts at its top, and whatever could not be taken for a tensor, in the order of the file.
typedef struct yd_st_other {
    const char *name;
    const char *what; // "12", "'adam'", "an object of argparse.Namespace"
    int opaque;       // 1: might have been a tensor, or hold some
} yd_st_other;
const yd_st_other *yd_tensors_other(const yd_safetensors *st,
                                    size_t i); // NULL from their number on; at most 1024 are kept

// Say in one sentence why there is no tensor of this name: absent, or what stands in its place or on the way to it. Returns YD_E_CHECKPOINT.
int yd_tensors_missing(const yd_safetensors *st, const char *name, yd_err *err);

#endif
