// Python pickles as plain data: what PyTorch puts into .pth and .ckpt files. Nothing is imported, called or executed.
//
// A pickle is a program for a small stack machine. This walker runs the instructions that build data and keeps those that would call
// something as CALL nodes: the name of what would be called, its arguments, and the state and items that were put onto it afterwards. It
// is for whoever reads to know what such a call means; unknown ones do no harm. Instructions outside the set are refused.
//
// Source: CPython's Lib/pickletools.py for the instructions; the set is that of torch's own restricted reader (torch/_weights_only_unpickler.py)
// and of what torch, numpy and Lightning write. Bounds: 64 MiB of pickle, 2^21 nodes, cells and memo entries, 2^20 values on the stack,
// 1024 marks. Time and memory are linear in the length.
//
// Nodes are numbers below yd_pickle_count, in the order in which they were made. Through the memo a node may be reached on many ways, and from
// itself: who walks must bound the depth. A pickle is immutable once parsed and may be shared by threads. Texts and bytes lie in the input.
#ifndef YD_CORE_PICKLE_H
#define YD_CORE_PICKLE_H

#include "core/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct yd_pickle yd_pickle;
typedef int32_t yd_pkid; // a node; -1: none

typedef enum {
    YD_PK_NONE,
    YD_PK_BOOL,
    YD_PK_INT,    // of at most 64 bits
    YD_PK_LONG,   // a longer one: little-endian two's complement, as text
    YD_PK_FLOAT,
    YD_PK_TEXT,   // UTF-8 as it stands in the file, unchecked; bytes too
    YD_PK_TUPLE,
    YD_PK_LIST,   // and sets
    YD_PK_DICT,   // items: key, value, key, value...
    YD_PK_GLOBAL, // a name: text is the module, name the name in it
    YD_PK_CALL,   // of `callee` with the tuple `args`; items and state as put onto its outcome
    YD_PK_OUTSIDE // a persistent id: args is the id
} yd_pickle_kind;

// Parse one pickle at the beginning of bytes, which are borrowed and must outlive it. *used: its length. YD_E_CHECKPOINT naming the
// instruction and where it stands; YD_E_NOMEM.
int yd_pickle_parse(const void *bytes, size_t len, yd_pickle **out, size_t *used, yd_err *err);
void yd_pickle_free(yd_pickle *p); // NULL is fine

yd_pkid yd_pickle_root(const yd_pickle *p);
size_t yd_pickle_count(const yd_pickle *p);
// Everything below takes -1 for "none" and gives NONE, 0, NULL or -1 for it, and for nodes of another kind.
yd_pickle_kind yd_pickle_kind_of(const yd_pickle *p, yd_pkid id);
int64_t yd_pickle_int(const yd_pickle *p, yd_pkid id); // BOOL, INT
double yd_pickle_float(const yd_pickle *p, yd_pkid id);
// TEXT, LONG, GLOBAL: not terminated, *len bytes. NULL for other kinds.
const char *yd_pickle_text(const yd_pickle *p, yd_pkid id, size_t *len);
const char *yd_pickle_name(const yd_pickle *p, yd_pkid id, size_t *len); // GLOBAL: what stands after its module, in the same way
int yd_pickle_is_text(const yd_pickle *p, yd_pkid id, const char *text); // is it this TEXT?
int yd_pickle_is_global(const yd_pickle *p, yd_pkid id, const char *module, const char *name);
yd_pkid yd_pickle_callee(const yd_pickle *p, yd_pkid id); // CALL
yd_pkid yd_pickle_args(const yd_pickle *p, yd_pkid id);   // CALL, OUTSIDE
yd_pkid yd_pickle_state(const yd_pickle *p, yd_pkid id);  // CALL: what BUILD gave it

// Items of TUPLE, LIST, DICT and CALL, in order. A cursor starts at first() and ends at -1.
typedef int32_t yd_pkcell;
yd_pkcell yd_pickle_first(const yd_pickle *p, yd_pkid id);
yd_pkcell yd_pickle_next(const yd_pickle *p, yd_pkcell cell);
yd_pkid yd_pickle_item(const yd_pickle *p, yd_pkcell cell);
size_t yd_pickle_items(const yd_pickle *p, yd_pkid id);           // how many; keys and values each count
yd_pkid yd_pickle_nth(const yd_pickle *p, yd_pkid id, size_t n);  // TUPLE, LIST: walks from the first
yd_pkid yd_pickle_get(const yd_pickle *p, yd_pkid id, const char *key); // DICT, CALL: the last value of this text; -1

#endif
