// A pickle's nodes, and the machine that makes them: what core/pickle*.c share.
#ifndef YD_CORE_PICKLE_MACHINE_H
#define YD_CORE_PICKLE_MACHINE_H

#include "core/pickle.h"

#define YD_PK_MAX_BYTES ((size_t)64 << 20)
#define YD_PK_MAX_NODES ((size_t)1 << 21)
#define YD_PK_MAX_STACK ((size_t)1 << 20)
#define YD_PK_MAX_MARKS ((size_t)1024)

typedef struct yd_pknode {
    yd_pickle_kind kind;
    yd_pkid callee, args, state;
    yd_pkcell first, last;
    uint32_t n_items;
    uint32_t text_len, name_len;
    const char *text, *name;
    union {
        int64_t i;
        double f;
    } value;
} yd_pknode;

typedef struct yd_pkitem {
    yd_pkid item;
    yd_pkcell next;
} yd_pkitem;

// A growing array of things of one size.
typedef struct yd_pkarray {
    void *at;
    size_t n, cap, most;
} yd_pkarray;

struct yd_pickle {
    yd_pkarray nodes, cells;
    yd_pkid root;
};

typedef struct yd_pkmachine {
    yd_pickle *p;
    const uint8_t *bytes;
    size_t len, at, start;         // start: of the instruction at work
    yd_pkarray stack, marks, memo; // yd_pkid, size_t, yd_pkid
    size_t floor;                  // the stack's height at the last mark
    int op;
    yd_err *err;
} yd_pkmachine;

static inline yd_pknode *yd_pknode_at(const yd_pickle *p, yd_pkid id)
{
    return (yd_pknode *)p->nodes.at + id;
}

// Refuse the instruction at work: YD_E_CHECKPOINT with its number and place.
int yd_pk_refuse(const yd_pkmachine *m, const char *what);

// The stack. Values below the last mark cannot be reached. All return 0, YD_E_CHECKPOINT or YD_E_NOMEM.
int yd_pk_push(yd_pkmachine *m, yd_pkid id);
int yd_pk_pop(yd_pkmachine *m, yd_pkid *id);
int yd_pk_top(const yd_pkmachine *m, yd_pkid *id);
int yd_pk_mark(yd_pkmachine *m);
// Where the values above the last mark begin; they stay until the caller lowers the stack to it.
int yd_pk_unmark(yd_pkmachine *m, size_t *from);
// Nodes: a new one, the same pushed, and the stack's values from `from` on as items of one.
int yd_pk_make(yd_pkmachine *m, yd_pickle_kind kind, yd_pkid *id);
int yd_pk_push_new(yd_pkmachine *m, yd_pickle_kind kind, yd_pkid *id);
int yd_pk_add_above(yd_pkmachine *m, yd_pkid to, size_t from);
// The memo: a node under a number, and back (-1: nothing there).
int yd_pk_remember(yd_pkmachine *m, uint64_t index);
yd_pkid yd_pk_recall(const yd_pkmachine *m, uint64_t index);
// What follows an instruction: n bytes, a little-endian number of n <= 8 bytes, a line of at most 1024.
int yd_pk_take(yd_pkmachine *m, size_t n, const uint8_t **bytes);
int yd_pk_take_number(yd_pkmachine *m, size_t n, uint64_t *value);
int yd_pk_take_line(yd_pkmachine *m, const char **text, uint32_t *len);

#endif
