// Python pickles as plain data: the instructions. See pickle.h.
//
// Nodes and the cells that list their items lie in two growing arrays and name each other by index, so that there is nothing to free one by
// one and no recursion whatever the file says. An instruction either consumes what is on the stack above the last mark, or refuses.
// Read next: pickle_machine.c, pickle_read.c
#include "core/pickle_machine.h"

#include "core/mem.h"

#include <string.h>

// ---- the instructions, by what they make

static int integer(yd_pkmachine *m, int64_t value)
{
    yd_pkid id = -1;
    const int rc = yd_pk_push_new(m, YD_PK_INT, &id);
    if (!rc) yd_pknode_at(m->p, id)->value.i = value;
    return rc;
}

static int fixed_integer(yd_pkmachine *m, size_t n)
{
    uint64_t v = 0;
    const int rc = yd_pk_take_number(m, n, &v);
    return rc ? rc : integer(m, n == 4 ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v); // only the one of four bytes has a sign
}

static int span(yd_pkmachine *m, yd_pickle_kind kind, size_t length_bytes)
{
    uint64_t n = 0;
    const uint8_t *b = NULL;
    yd_pkid id = -1;
    int rc = yd_pk_take_number(m, length_bytes, &n);
    if (!rc && (n > m->len - m->at || n > YD_PK_MAX_BYTES)) rc = yd_pk_refuse(m, "the file ends within it");
    if (!rc) rc = yd_pk_take(m, (size_t)n, &b);
    if (!rc) rc = yd_pk_push_new(m, kind, &id);
    if (rc) return rc;
    yd_pknode_at(m->p, id)->text = (const char *)b;
    yd_pknode_at(m->p, id)->text_len = (uint32_t)n;
    return 0;
}

static int long_integer(yd_pkmachine *m, size_t length_bytes)
{
    yd_pkid id = -1;
    int rc = span(m, YD_PK_LONG, length_bytes);
    if (!rc) rc = yd_pk_top(m, &id);
    if (rc) return rc;
    yd_pknode *n = yd_pknode_at(m->p, id);
    if (n->text_len > 8) return 0;
    uint64_t v = 0;
    for (uint32_t i = 0; i < n->text_len; i++) v |= (uint64_t)(uint8_t)n->text[i] << (8 * i);
    const unsigned bits = 8 * n->text_len;
    if (bits && bits < 64 && (v >> (bits - 1) & 1)) v |= ~UINT64_C(0) << bits;
    n->kind = YD_PK_INT;
    memcpy(&n->value.i, &v, sizeof v);
    return 0;
}

static int floating(yd_pkmachine *m)
{
    const uint8_t *b = NULL;
    yd_pkid id = -1;
    uint64_t v = 0;
    int rc = yd_pk_take(m, 8, &b);
    if (!rc) rc = yd_pk_push_new(m, YD_PK_FLOAT, &id);
    if (rc) return rc;
    for (int i = 0; i < 8; i++) v = v << 8 | b[i]; // the one big-endian number
    memcpy(&yd_pknode_at(m->p, id)->value.f, &v, sizeof v);
    return 0;
}

static int boolean(yd_pkmachine *m, int value)
{
    yd_pkid id = -1;
    const int rc = yd_pk_push_new(m, YD_PK_BOOL, &id);
    if (!rc) yd_pknode_at(m->p, id)->value.i = value;
    return rc;
}

static int global(yd_pkmachine *m)
{
    yd_pkid id = -1;
    const char *module = NULL, *name = NULL;
    uint32_t module_len = 0, name_len = 0;
    int rc = yd_pk_take_line(m, &module, &module_len);
    if (!rc) rc = yd_pk_take_line(m, &name, &name_len);
    if (!rc) rc = yd_pk_push_new(m, YD_PK_GLOBAL, &id);
    if (rc) return rc;
    yd_pknode *n = yd_pknode_at(m->p, id);
    n->text = module, n->text_len = module_len;
    n->name = name, n->name_len = name_len;
    return 0;
}

static int stack_global(yd_pkmachine *m)
{
    yd_pkid module = -1, name = -1, id = -1;
    int rc = yd_pk_pop(m, &name);
    if (!rc) rc = yd_pk_pop(m, &module);
    if (!rc && (yd_pknode_at(m->p, module)->kind != YD_PK_TEXT || yd_pknode_at(m->p, name)->kind != YD_PK_TEXT)) rc = yd_pk_refuse(m, "a name is two texts");
    if (!rc) rc = yd_pk_push_new(m, YD_PK_GLOBAL, &id);
    if (rc) return rc;
    yd_pknode *n = yd_pknode_at(m->p, id);
    n->text = yd_pknode_at(m->p, module)->text, n->text_len = yd_pknode_at(m->p, module)->text_len;
    n->name = yd_pknode_at(m->p, name)->text, n->name_len = yd_pknode_at(m->p, name)->text_len;
    return 0;
}

static int tuple(yd_pkmachine *m, size_t n)
{
    yd_pkid id = -1;
    if (m->stack.n - m->floor < n) return yd_pk_refuse(m, "it wants more values than there are");
    int rc = yd_pk_make(m, YD_PK_TUPLE, &id);
    if (!rc) rc = yd_pk_add_above(m, id, m->stack.n - n);
    return rc ? rc : yd_pk_push(m, id);
}

static int marked_tuple(yd_pkmachine *m)
{
    size_t from = 0;
    const int rc = yd_pk_unmark(m, &from);
    return rc ? rc : tuple(m, m->stack.n - from);
}

static int empty(yd_pkmachine *m, yd_pickle_kind kind)
{
    yd_pkid id = -1;
    return yd_pk_push_new(m, kind, &id);
}

static int call(yd_pkmachine *m)
{
    yd_pkid callee = -1, args = -1, id = -1;
    int rc = yd_pk_pop(m, &args);
    if (!rc) rc = yd_pk_pop(m, &callee);
    if (!rc && yd_pknode_at(m->p, args)->kind != YD_PK_TUPLE) rc = yd_pk_refuse(m, "arguments are a tuple");
    if (!rc) rc = yd_pk_push_new(m, YD_PK_CALL, &id);
    if (rc) return rc;
    yd_pknode_at(m->p, id)->callee = callee;
    yd_pknode_at(m->p, id)->args = args;
    return 0;
}

// The state of what is no CALL changes nothing that anybody here asks for.
static int build(yd_pkmachine *m)
{
    yd_pkid state = -1, id = -1;
    int rc = yd_pk_pop(m, &state);
    if (!rc) rc = yd_pk_top(m, &id);
    if (!rc && yd_pknode_at(m->p, id)->kind == YD_PK_CALL) yd_pknode_at(m->p, id)->state = state;
    return rc;
}

static int outside(yd_pkmachine *m)
{
    yd_pkid what = -1, id = -1;
    int rc = yd_pk_pop(m, &what);
    if (!rc) rc = yd_pk_push_new(m, YD_PK_OUTSIDE, &id);
    if (!rc) yd_pknode_at(m->p, id)->args = what;
    return rc;
}

// n values, or with n 0 those above the mark, go into what lies below them: pairs into dicts, single ones into lists, either into a CALL.
static int collect(yd_pkmachine *m, size_t n, yd_pickle_kind into)
{
    size_t from = m->stack.n - n;
    yd_pkid to = -1;
    if (n && m->stack.n - m->floor < n) return yd_pk_refuse(m, "it wants more values than there are");
    const int rc = n ? 0 : yd_pk_unmark(m, &from);
    if (rc) return rc;
    if (from <= m->floor) return yd_pk_refuse(m, "there is nothing to put items into");
    to = ((yd_pkid *)m->stack.at)[from - 1];
    const yd_pickle_kind kind = yd_pknode_at(m->p, to)->kind;
    if (kind != into && kind != YD_PK_CALL) return yd_pk_refuse(m, into == YD_PK_DICT ? "pairs are put into what is no dict" : "items are put into what is no list");
    if (into == YD_PK_DICT && (m->stack.n - from) % 2) return yd_pk_refuse(m, "a key has no value");
    return yd_pk_add_above(m, to, from);
}

static int pop_mark(yd_pkmachine *m)
{
    size_t from = 0;
    const int rc = yd_pk_unmark(m, &from);
    if (!rc) m->stack.n = from;
    return rc;
}

// POP takes a value away or, where there is none above it, the mark.
static int drop(yd_pkmachine *m)
{
    yd_pkid ignored = -1;
    return m->stack.n == m->floor && m->marks.n ? pop_mark(m) : yd_pk_pop(m, &ignored);
}

static int put(yd_pkmachine *m, size_t length_bytes)
{
    uint64_t index = 0;
    const int rc = yd_pk_take_number(m, length_bytes, &index);
    return rc ? rc : yd_pk_remember(m, index);
}

static int get(yd_pkmachine *m, size_t length_bytes)
{
    uint64_t index = 0;
    const int rc = yd_pk_take_number(m, length_bytes, &index);
    if (rc) return rc;
    const yd_pkid id = yd_pk_recall(m, index);
    return id < 0 ? yd_pk_refuse(m, "its memo entry is empty") : yd_pk_push(m, id);
}

static int protocol(yd_pkmachine *m)
{
    uint64_t version = 0;
    const int rc = yd_pk_take_number(m, 1, &version);
    return !rc && version > 5 ? yd_pk_refuse(m, "a protocol above 5") : rc;
}

static int frame(yd_pkmachine *m)
{
    uint64_t n = 0;
    const int rc = yd_pk_take_number(m, 8, &n);
    return !rc && n > m->len - m->at ? yd_pk_refuse(m, "the file ends within it") : rc;
}

static int step(yd_pkmachine *m)
{
    switch (m->op) {
    case 0x80: return protocol(m);
    case 0x95: return frame(m);
    case 'N': return empty(m, YD_PK_NONE);
    case 0x88: return boolean(m, 1);
    case 0x89: return boolean(m, 0);
    case 'K': return fixed_integer(m, 1);
    case 'M': return fixed_integer(m, 2);
    case 'J': return fixed_integer(m, 4);
    case 0x8a: return long_integer(m, 1);
    case 0x8b: return long_integer(m, 4);
    case 'G': return floating(m);
    case 0x8c: // short text
    case 'U':
    case 'C': return span(m, YD_PK_TEXT, 1);
    case 'X':
    case 'T':
    case 'B': return span(m, YD_PK_TEXT, 4);
    case 0x8d:
    case 0x8e: return span(m, YD_PK_TEXT, 8);
    case ')': return empty(m, YD_PK_TUPLE);
    case ']':
    case 0x8f: return empty(m, YD_PK_LIST);
    case '}': return empty(m, YD_PK_DICT);
    case '(': return yd_pk_mark(m);
    case 't': return marked_tuple(m);
    case 0x85: return tuple(m, 1);
    case 0x86: return tuple(m, 2);
    case 0x87: return tuple(m, 3);
    case 'a': return collect(m, 1, YD_PK_LIST);
    case 'e':
    case 0x90: return collect(m, 0, YD_PK_LIST);
    case 's': return collect(m, 2, YD_PK_DICT);
    case 'u': return collect(m, 0, YD_PK_DICT);
    case 'c': return global(m);
    case 0x93: return stack_global(m);
    case 'R':
    case 0x81: return call(m);
    case 'b': return build(m);
    case 'Q': return outside(m);
    case '0': return drop(m);
    case '1': return pop_mark(m);
    case 'q': return put(m, 1);
    case 'r': return put(m, 4);
    case 0x94: return yd_pk_remember(m, m->memo.n);
    case 'h': return get(m, 1);
    case 'j': return get(m, 4);
    default: return yd_pk_refuse(m, "no instruction that builds data");
    }
}

static int run(yd_pkmachine *m)
{
    for (;;) {
        m->start = m->at;
        m->op = 0;
        if (m->at >= m->len || m->at >= YD_PK_MAX_BYTES) return yd_pk_refuse(m, m->at < m->len ? "it is longer than 64 MiB" : "the file ends without a STOP");
        m->op = m->bytes[m->at++];
        if (m->op == '.') return m->marks.n ? yd_pk_refuse(m, "a mark is left") : yd_pk_pop(m, &m->p->root);
        const int rc = step(m);
        if (rc) return rc;
    }
}

int yd_pickle_parse(const void *bytes, size_t len, yd_pickle **out, size_t *used, yd_err *err)
{
    yd_pickle *p = yd_calloc(1, sizeof *p);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for a pickle");
    p->root = -1;
    p->nodes.most = p->cells.most = YD_PK_MAX_NODES;
    yd_pkmachine m = {.p = p, .bytes = bytes, .len = len, .err = err, .stack.most = YD_PK_MAX_STACK, .marks.most = YD_PK_MAX_MARKS, .memo.most = YD_PK_MAX_NODES};
    const int rc = run(&m);
    yd_free(m.stack.at);
    yd_free(m.marks.at);
    yd_free(m.memo.at);
    if (rc) {
        yd_pickle_free(p);
        return rc;
    }
    *out = p;
    *used = m.at;
    return 0;
}

void yd_pickle_free(yd_pickle *p)
{
    if (!p) return;
    yd_free(p->nodes.at);
    yd_free(p->cells.at);
    yd_free(p);
}
