// The machine that makes a pickle's nodes: its arrays, stack, memo and input. See pickle_machine.h.
#include "core/pickle_machine.h"

#include "core/mem.h"

#include <string.h>

// ---- refusing

int yd_pk_refuse(const yd_pkmachine *m, const char *what)
{
    yd_fail_field(m->err, YD_E_CHECKPOINT, "pickle", "a checkpoint written by torch.save", "instruction 0x%02x at byte %zu of the pickle: %s", (unsigned)m->op,
                  m->start, what);
    return YD_E_CHECKPOINT;
}

// ---- arrays

static int grow(yd_pkarray *a, size_t n, size_t size)
{
    size_t cap = a->cap ? a->cap : 64, bytes;
    if (a->at && n <= a->cap) return 0;
    if (n > a->most) return YD_E_CHECKPOINT;
    while (cap < n) cap *= 2;
    void *at = yd_mul_size(cap, size, &bytes) ? NULL : yd_realloc(a->at, bytes);
    if (!at) return YD_E_NOMEM;
    a->at = at;
    a->cap = cap;
    return 0;
}

static int room(const yd_pkmachine *m, yd_pkarray *a, size_t n, size_t size, const char *what)
{
    const int rc = grow(a, n, size);
    if (rc == YD_E_CHECKPOINT) return yd_pk_refuse(m, what);
    if (rc) yd_fail(m->err, rc, "no memory for a pickle");
    return rc;
}

// ---- the stack. Values below the last mark cannot be reached.

int yd_pk_push(yd_pkmachine *m, yd_pkid id)
{
    const int rc = room(m, &m->stack, m->stack.n + 1, sizeof id, "more than 2^20 values on the stack");
    if (rc || !m->stack.at) return rc;
    ((yd_pkid *)m->stack.at)[m->stack.n++] = id;
    return 0;
}

int yd_pk_pop(yd_pkmachine *m, yd_pkid *id)
{
    if (!m->stack.at || m->stack.n <= m->floor) return yd_pk_refuse(m, "it wants a value and there is none");
    *id = ((yd_pkid *)m->stack.at)[--m->stack.n];
    return 0;
}

int yd_pk_top(const yd_pkmachine *m, yd_pkid *id)
{
    if (!m->stack.at || m->stack.n <= m->floor) return yd_pk_refuse(m, "it wants a value and there is none");
    *id = ((yd_pkid *)m->stack.at)[m->stack.n - 1];
    return 0;
}

int yd_pk_mark(yd_pkmachine *m)
{
    const int rc = room(m, &m->marks, m->marks.n + 1, sizeof(size_t), "more than 1024 marks");
    if (rc) return rc;
    ((size_t *)m->marks.at)[m->marks.n++] = m->floor;
    m->floor = m->stack.n;
    return 0;
}

// Where the values above the last mark begin; they stay until the caller lowers the stack to it.
int yd_pk_unmark(yd_pkmachine *m, size_t *from)
{
    if (!m->marks.n) return yd_pk_refuse(m, "there is no mark");
    *from = m->floor;
    m->floor = ((size_t *)m->marks.at)[--m->marks.n];
    return 0;
}

// ---- nodes

int yd_pk_make(yd_pkmachine *m, yd_pickle_kind kind, yd_pkid *id)
{
    yd_pickle *p = m->p;
    const int rc = room(m, &p->nodes, p->nodes.n + 1, sizeof(yd_pknode), "more than 2^21 values");
    if (rc) return rc;
    *id = (yd_pkid)p->nodes.n++;
    *yd_pknode_at(p, *id) = (yd_pknode){.kind = kind, .callee = -1, .args = -1, .state = -1, .first = -1, .last = -1};
    return 0;
}

int yd_pk_push_new(yd_pkmachine *m, yd_pickle_kind kind, yd_pkid *id)
{
    const int rc = yd_pk_make(m, kind, id);
    return rc ? rc : yd_pk_push(m, *id);
}

static int add_item(yd_pkmachine *m, yd_pkid to, yd_pkid item)
{
    yd_pickle *p = m->p;
    const int rc = room(m, &p->cells, p->cells.n + 1, sizeof(yd_pkitem), "more than 2^21 items");
    if (rc) return rc;
    const yd_pkcell at = (yd_pkcell)p->cells.n++;
    ((yd_pkitem *)p->cells.at)[at] = (yd_pkitem){item, -1};
    yd_pknode *n = yd_pknode_at(p, to);
    if (n->last >= 0)
        ((yd_pkitem *)p->cells.at)[n->last].next = at;
    else
        n->first = at;
    n->last = at;
    n->n_items++;
    return 0;
}

// The stack's values from `from` on become items of a node.
int yd_pk_add_above(yd_pkmachine *m, yd_pkid to, size_t from)
{
    int rc = 0;
    for (size_t i = from; !rc && i < m->stack.n; i++) rc = add_item(m, to, ((yd_pkid *)m->stack.at)[i]);
    m->stack.n = from;
    return rc;
}

// ---- what follows an instruction

int yd_pk_take(yd_pkmachine *m, size_t n, const uint8_t **bytes)
{
    if (n > m->len - m->at) return yd_pk_refuse(m, "the file ends within it");
    *bytes = m->bytes + m->at;
    m->at += n;
    return 0;
}

int yd_pk_take_number(yd_pkmachine *m, size_t n, uint64_t *value)
{
    const uint8_t *b = NULL;
    const int rc = yd_pk_take(m, n, &b);
    *value = 0;
    for (size_t i = 0; !rc && i < n; i++) *value |= (uint64_t)b[i] << (8 * i);
    return rc;
}

int yd_pk_take_line(yd_pkmachine *m, const char **text, uint32_t *len)
{
    const uint8_t *begin = m->bytes + m->at, *end = m->at < m->len ? memchr(begin, '\n', m->len - m->at) : NULL;
    if (!end || end - begin > 1024) return yd_pk_refuse(m, "its line does not end");
    *text = (const char *)begin;
    *len = (uint32_t)(end - begin);
    m->at += *len + 1u;
    return 0;
}

// ---- the memo

int yd_pk_remember(yd_pkmachine *m, uint64_t index)
{
    yd_pkid id = -1;
    int rc = yd_pk_top(m, &id);
    if (!rc && index >= YD_PK_MAX_NODES) rc = yd_pk_refuse(m, "its memo entry lies beyond 2^21");
    if (!rc) rc = room(m, &m->memo, (size_t)index + 1, sizeof id, "its memo entry lies beyond 2^21");
    if (rc) return rc;
    while (m->memo.n <= index) ((yd_pkid *)m->memo.at)[m->memo.n++] = -1;
    ((yd_pkid *)m->memo.at)[index] = id;
    return 0;
}

yd_pkid yd_pk_recall(const yd_pkmachine *m, uint64_t index)
{
    return index < m->memo.n ? ((yd_pkid *)m->memo.at)[index] : -1;
}
