// A file in parts: an index under the file's own name, and beside it the file's bytes cut into parts, for places that take files up to a
// size only.
//
//   NAME                       "yoda-parts-1", then one line a part, in order: part BYTES SHA256 NAME
//   NAME.0000.DIGITS ...       the parts; DIGITS are the first of the part's digest. `cat NAME.[0-9]*` is the whole file
//
// Every part but the last has the same length, a multiple of YD_PARTS_ALIGN, so that they can be mapped one behind the other.
// Parts of another content have another name: a save never touches the parts of the file that is there, and the index is replaced in one
// step. A crash leaves the old file whole, and perhaps parts that no index names.
// core/tensors.h and core/safetensors.h read such a file as any other. All functions block.
#ifndef YD_CORE_PARTS_H
#define YD_CORE_PARTS_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

#define YD_PARTS_MAGIC "yoda-parts-1\n"
#define YD_PARTS_ALIGN ((size_t)65536)
#define YD_PARTS_LEAST YD_PARTS_ALIGN
#define YD_PARTS_MOST  ((size_t)1 << 30)
#define YD_PARTS_MAX   9999

// Is this the beginning of an index?
int yd_parts_is_index(const void *bytes, size_t len);

// Map the whole file behind the index `path`, whose text is index[0..len): one read-only stretch of *map_len bytes, released with munmap.
// Every part is looked at: YD_E_CHECKPOINT when one is missing, of another length or with other bytes, or the index is damaged; YD_E_IO,
// YD_E_NOMEM.
int yd_parts_map(const char *path, const void *index, size_t len, void **map, size_t *map_len, yd_err *err);

typedef struct yd_parts_writer yd_parts_writer;

// Begin to write `path` in parts of at most part_bytes (YD_PARTS_LEAST..YD_PARTS_MOST; rounded down to a multiple of YD_PARTS_ALIGN). A
// buffer of that size is held. YD_E_NOMEM.
int yd_parts_writer_open(const char *path, size_t part_bytes, yd_parts_writer **out, yd_err *err);
// YD_E_IO, YD_E_NOMEM, YD_E_INVALID for more than YD_PARTS_MAX parts; only abort may follow.
int yd_parts_writer_write(yd_parts_writer *w, const void *bytes, size_t len, yd_err *err);
// Write the index and remove the parts that were the old file's. Ends the writer, also when it fails.
int yd_parts_writer_commit(yd_parts_writer *w, yd_err *err);
// Remove what was written, but for parts that belong to the file that is there. NULL is fine.
void yd_parts_writer_abort(yd_parts_writer *w);

// For who replaces a file in parts by one in a piece: note its parts, write, then remove them. NULL when `path` is no whole index, or memory
// is out: parts then stay behind.
typedef struct yd_parts_list yd_parts_list;
yd_parts_list *yd_parts_list_of(const char *path);
void yd_parts_list_remove(yd_parts_list *l); // deletes the files and frees the list; NULL is fine
void yd_parts_list_free(yd_parts_list *l);   // frees the list alone; NULL is fine

#endif
