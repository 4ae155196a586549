// Python pickles as plain data: see pickle.h.
//
// Nodes and the cells that list their items lie in two growing arrays and name each other by index, so that there is nothing to free one by
// one and no recursion whatever the file says. An instruction either consumes what is on the stack above the last mark, or refuses.
#include "core/pickle.h"

#include "core/mem.h"

#include <string.h>

#define MAX_BYTES ((size_t)64 << 20)
#define MAX_NODES ((size_t)1 << 21)
#define MAX_STACK ((size_t)1 << 20)
#define MAX_MARKS ((size_t)1024)

typedef struct node {
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
} node;

typedef struct cell {
    yd_pkid item;
    yd_pkcell next;
} cell;

// A growing array of things of one size.
typedef struct array {
    void *at;
    size_t n, cap, most;
} array;

struct yd_pickle {
    array nodes, cells;
    yd_pkid root;
};

typedef struct machine {
    yd_pickle *p;
    const uint8_t *bytes;
    size_t len, at, start; // start: of the instruction at work
    array stack, marks, memo; // yd_pkid, size_t, yd_pkid
    size_t floor; // the stack's height at the last mark
    int op;
    yd_err *err;
} machine;

// ---- refusing

static int refuse(const machine *m, const char *what)
{
    yd_fail_field(m->err, YD_E_CHECKPOINT, "pickle", "a checkpoint written by torch.save", "instruction 0x%02x at byte %zu of the pickle: %s", (unsigned)m->op,
                  m->start, what);
    return YD_E_CHECKPOINT;
}

// ---- arrays

static int grow(array *a, size_t n, size_t size)
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

static int room(const machine *m, array *a, size_t n, size_t size, const char *what)
{
    const int rc = grow(a, n, size);
    if (rc == YD_E_CHECKPOINT) return refuse(m, what);
    if (rc) yd_fail(m->err, rc, "no memory for a pickle");
    return rc;
}

static node *node_at(const yd_pickle *p, yd_pkid id)
{
    return (node *)p->nodes.at + id;
}

// ---- the stack. Values below the last mark cannot be reached.

static int push(machine *m, yd_pkid id)
{
    const int rc = room(m, &m->stack, m->stack.n + 1, sizeof id, "more than 2^20 values on the stack");
    if (rc || !m->stack.at) return rc;
    ((yd_pkid *)m->stack.at)[m->stack.n++] = id;
    return 0;
}

static int pop(machine *m, yd_pkid *id)
{
    if (!m->stack.at || m->stack.n <= m->floor) return refuse(m, "it wants a value and there is none");
    *id = ((yd_pkid *)m->stack.at)[--m->stack.n];
    return 0;
}

static int top(const machine *m, yd_pkid *id)
{
    if (!m->stack.at || m->stack.n <= m->floor) return refuse(m, "it wants a value and there is none");
    *id = ((yd_pkid *)m->stack.at)[m->stack.n - 1];
    return 0;
}

static int mark(machine *m)
{
    const int rc = room(m, &m->marks, m->marks.n + 1, sizeof(size_t), "more than 1024 marks");
    if (rc) return rc;
    ((size_t *)m->marks.at)[m->marks.n++] = m->floor;
    m->floor = m->stack.n;
    return 0;
}

// Where the values above the last mark begin; they stay until the caller lowers the stack to it.
static int unmark(machine *m, size_t *from)
{
    if (!m->marks.n) return refuse(m, "there is no mark");
    *from = m->floor;
    m->floor = ((size_t *)m->marks.at)[--m->marks.n];
    return 0;
}

// ---- nodes

static int make(machine *m, yd_pickle_kind kind, yd_pkid *id)
{
    yd_pickle *p = m->p;
    const int rc = room(m, &p->nodes, p->nodes.n + 1, sizeof(node), "more than 2^21 values");
    if (rc) return rc;
    *id = (yd_pkid)p->nodes.n++;
    *node_at(p, *id) = (node){.kind = kind, .callee = -1, .args = -1, .state = -1, .first = -1, .last = -1};
    return 0;
}

static int push_new(machine *m, yd_pickle_kind kind, yd_pkid *id)
{
    const int rc = make(m, kind, id);
    return rc ? rc : push(m, *id);
}

static int add_item(machine *m, yd_pkid to, yd_pkid item)
{
    yd_pickle *p = m->p;
    const int rc = room(m, &p->cells, p->cells.n + 1, sizeof(cell), "more than 2^21 items");
    if (rc) return rc;
    const yd_pkcell at = (yd_pkcell)p->cells.n++;
    ((cell *)p->cells.at)[at] = (cell){item, -1};
    node *n = node_at(p, to);
    if (n->last >= 0)
        ((cell *)p->cells.at)[n->last].next = at;
    else
        n->first = at;
    n->last = at;
    n->n_items++;
    return 0;
}

// The stack's values from `from` on become items of a node.
static int add_above(machine *m, yd_pkid to, size_t from)
{
    int rc = 0;
    for (size_t i = from; !rc && i < m->stack.n; i++) rc = add_item(m, to, ((yd_pkid *)m->stack.at)[i]);
    m->stack.n = from;
    return rc;
}

// ---- what follows an instruction

static int take(machine *m, size_t n, const uint8_t **bytes)
{
    if (n > m->len - m->at) return refuse(m, "the file ends within it");
    *bytes = m->bytes + m->at;
    m->at += n;
    return 0;
}

static int take_number(machine *m, size_t n, uint64_t *value)
{
    const uint8_t *b = NULL;
    const int rc = take(m, n, &b);
    *value = 0;
    for (size_t i = 0; !rc && i < n; i++) *value |= (uint64_t)b[i] << (8 * i);
    return rc;
}

static int take_line(machine *m, const char **text, uint32_t *len)
{
    const uint8_t *begin = m->bytes + m->at, *end = m->at < m->len ? memchr(begin, '\n', m->len - m->at) : NULL;
    if (!end || end - begin > 1024) return refuse(m, "its line does not end");
    *text = (const char *)begin;
    *len = (uint32_t)(end - begin);
    m->at += *len + 1u;
    return 0;
}

// ---- the instructions, by what they make

static int integer(machine *m, int64_t value)
{
    yd_pkid id = -1;
    const int rc = push_new(m, YD_PK_INT, &id);
    if (!rc) node_at(m->p, id)->value.i = value;
    return rc;
}

static int fixed_integer(machine *m, size_t n)
{
    uint64_t v = 0;
    const int rc = take_number(m, n, &v);
    return rc ? rc : integer(m, n == 4 ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v); // only the one of four bytes has a sign
}

static int span(machine *m, yd_pickle_kind kind, size_t length_bytes)
{
    uint64_t n = 0;
    const uint8_t *b = NULL;
    yd_pkid id = -1;
    int rc = take_number(m, length_bytes, &n);
    if (!rc && n > m->len - m->at) rc = refuse(m, "the file ends within it");
    if (!rc) rc = take(m, (size_t)n, &b);
    if (!rc) rc = push_new(m, kind, &id);
    if (rc) return rc;
    node_at(m->p, id)->text = (const char *)b;
    node_at(m->p, id)->text_len = (uint32_t)n;
    return 0;
}

static int long_integer(machine *m, size_t length_bytes)
{
    yd_pkid id = -1;
    int rc = span(m, YD_PK_LONG, length_bytes);
    if (!rc) rc = top(m, &id);
    if (rc) return rc;
    node *n = node_at(m->p, id);
    if (n->text_len > 8) return 0;
    uint64_t v = 0;
    for (uint32_t i = 0; i < n->text_len; i++) v |= (uint64_t)(uint8_t)n->text[i] << (8 * i);
    const unsigned bits = 8 * n->text_len;
    if (bits && bits < 64 && (v >> (bits - 1) & 1)) v |= ~UINT64_C(0) << bits;
    n->kind = YD_PK_INT;
    memcpy(&n->value.i, &v, sizeof v);
    return 0;
}

static int floating(machine *m)
{
    const uint8_t *b = NULL;
    yd_pkid id = -1;
    uint64_t v = 0;
    int rc = take(m, 8, &b);
    if (!rc) rc = push_new(m, YD_PK_FLOAT, &id);
    if (rc) return rc;
    for (int i = 0; i < 8; i++) v = v << 8 | b[i]; // the one big-endian number
    memcpy(&node_at(m->p, id)->value.f, &v, sizeof v);
    return 0;
}

static int boolean(machine *m, int value)
{
    yd_pkid id = -1;
    const int rc = push_new(m, YD_PK_BOOL, &id);
    if (!rc) node_at(m->p, id)->value.i = value;
    return rc;
}

static int global(machine *m)
{
    yd_pkid id = -1;
    const char *module = NULL, *name = NULL;
    uint32_t module_len = 0, name_len = 0;
    int rc = take_line(m, &module, &module_len);
    if (!rc) rc = take_line(m, &name, &name_len);
    if (!rc) rc = push_new(m, YD_PK_GLOBAL, &id);
    if (rc) return rc;
    node *n = node_at(m->p, id);
    n->text = module, n->text_len = module_len;
    n->name = name, n->name_len = name_len;
    return 0;
}

static int stack_global(machine *m)
{
    yd_pkid module = -1, name = -1, id = -1;
    int rc = pop(m, &name);
    if (!rc) rc = pop(m, &module);
    if (!rc && (node_at(m->p, module)->kind != YD_PK_TEXT || node_at(m->p, name)->kind != YD_PK_TEXT)) rc = refuse(m, "a name is two texts");
    if (!rc) rc = push_new(m, YD_PK_GLOBAL, &id);
    if (rc) return rc;
    node *n = node_at(m->p, id);
    n->text = node_at(m->p, module)->text, n->text_len = node_at(m->p, module)->text_len;
    n->name = node_at(m->p, name)->text, n->name_len = node_at(m->p, name)->text_len;
    return 0;
}

static int tuple(machine *m, size_t n)
{
    yd_pkid id = -1;
    if (m->stack.n - m->floor < n) return refuse(m, "it wants more values than there are");
    int rc = make(m, YD_PK_TUPLE, &id);
    if (!rc) rc = add_above(m, id, m->stack.n - n);
    return rc ? rc : push(m, id);
}

static int marked_tuple(machine *m)
{
    size_t from = 0;
    const int rc = unmark(m, &from);
    return rc ? rc : tuple(m, m->stack.n - from);
}

static int empty(machine *m, yd_pickle_kind kind)
{
    yd_pkid id = -1;
    return push_new(m, kind, &id);
}

static int call(machine *m)
{
    yd_pkid callee = -1, args = -1, id = -1;
    int rc = pop(m, &args);
    if (!rc) rc = pop(m, &callee);
    if (!rc && node_at(m->p, args)->kind != YD_PK_TUPLE) rc = refuse(m, "arguments are a tuple");
    if (!rc) rc = push_new(m, YD_PK_CALL, &id);
    if (rc) return rc;
    node_at(m->p, id)->callee = callee;
    node_at(m->p, id)->args = args;
    return 0;
}

// The state of what is no CALL changes nothing that anybody here asks for.
static int build(machine *m)
{
    yd_pkid state = -1, id = -1;
    int rc = pop(m, &state);
    if (!rc) rc = top(m, &id);
    if (!rc && node_at(m->p, id)->kind == YD_PK_CALL) node_at(m->p, id)->state = state;
    return rc;
}

static int outside(machine *m)
{
    yd_pkid what = -1, id = -1;
    int rc = pop(m, &what);
    if (!rc) rc = push_new(m, YD_PK_OUTSIDE, &id);
    if (!rc) node_at(m->p, id)->args = what;
    return rc;
}

// n values, or with n 0 those above the mark, go into what lies below them: pairs into dicts, single ones into lists, either into a CALL.
static int collect(machine *m, size_t n, yd_pickle_kind into)
{
    size_t from = m->stack.n - n;
    yd_pkid to = -1;
    if (n && m->stack.n - m->floor < n) return refuse(m, "it wants more values than there are");
    const int rc = n ? 0 : unmark(m, &from);
    if (rc) return rc;
    if (from <= m->floor) return refuse(m, "there is nothing to put items into");
    to = ((yd_pkid *)m->stack.at)[from - 1];
    const yd_pickle_kind kind = node_at(m->p, to)->kind;
    if (kind != into && kind != YD_PK_CALL) return refuse(m, into == YD_PK_DICT ? "pairs are put into what is no dict" : "items are put into what is no list");
    if (into == YD_PK_DICT && (m->stack.n - from) % 2) return refuse(m, "a key has no value");
    return add_above(m, to, from);
}

static int pop_mark(machine *m)
{
    size_t from = 0;
    const int rc = unmark(m, &from);
    if (!rc) m->stack.n = from;
    return rc;
}

// POP takes a value away or, where there is none above it, the mark.
static int drop(machine *m)
{
    yd_pkid ignored = -1;
    return m->stack.n == m->floor && m->marks.n ? pop_mark(m) : pop(m, &ignored);
}

static int remember(machine *m, uint64_t index)
{
    yd_pkid id = -1;
    int rc = top(m, &id);
    if (!rc && index >= MAX_NODES) rc = refuse(m, "its memo entry lies beyond 2^21");
    if (!rc) rc = room(m, &m->memo, (size_t)index + 1, sizeof id, "its memo entry lies beyond 2^21");
    if (rc) return rc;
    while (m->memo.n <= index) ((yd_pkid *)m->memo.at)[m->memo.n++] = -1;
    ((yd_pkid *)m->memo.at)[index] = id;
    return 0;
}

static int put(machine *m, size_t length_bytes)
{
    uint64_t index = 0;
    const int rc = take_number(m, length_bytes, &index);
    return rc ? rc : remember(m, index);
}

static int get(machine *m, size_t length_bytes)
{
    uint64_t index = 0;
    const int rc = take_number(m, length_bytes, &index);
    if (rc) return rc;
    if (index >= m->memo.n || ((yd_pkid *)m->memo.at)[index] < 0) return refuse(m, "its memo entry is empty");
    return push(m, ((yd_pkid *)m->memo.at)[index]);
}

static int protocol(machine *m)
{
    uint64_t version = 0;
    const int rc = take_number(m, 1, &version);
    return !rc && version > 5 ? refuse(m, "a protocol above 5") : rc;
}

static int frame(machine *m)
{
    uint64_t n = 0;
    const int rc = take_number(m, 8, &n);
    return !rc && n > m->len - m->at ? refuse(m, "the file ends within it") : rc;
}

static int step(machine *m)
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
    case '(': return mark(m);
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
    case 0x94: return remember(m, m->memo.n);
    case 'h': return get(m, 1);
    case 'j': return get(m, 4);
    default: return refuse(m, "no instruction that builds data");
    }
}

static int run(machine *m)
{
    for (;;) {
        m->start = m->at;
        m->op = 0;
        if (m->at >= m->len || m->at >= MAX_BYTES) return refuse(m, m->at < m->len ? "it is longer than 64 MiB" : "the file ends without a STOP");
        m->op = m->bytes[m->at++];
        if (m->op == '.') return m->marks.n ? refuse(m, "a mark is left") : pop(m, &m->p->root);
        const int rc = step(m);
        if (rc) return rc;
    }
}

int yd_pickle_parse(const void *bytes, size_t len, yd_pickle **out, size_t *used, yd_err *err)
{
    yd_pickle *p = yd_calloc(1, sizeof *p);
    if (!p) return yd_fail(err, YD_E_NOMEM, "no memory for a pickle");
    p->root = -1;
    p->nodes.most = p->cells.most = MAX_NODES;
    machine m = {.p = p, .bytes = bytes, .len = len, .err = err, .stack.most = MAX_STACK, .marks.most = MAX_MARKS, .memo.most = MAX_NODES};
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

// ---- reading

yd_pkid yd_pickle_root(const yd_pickle *p)
{
    return p->root;
}

size_t yd_pickle_count(const yd_pickle *p)
{
    return p->nodes.n;
}

// A node that exists, or NULL.
static const node *known(const yd_pickle *p, yd_pkid id)
{
    return id >= 0 && (size_t)id < p->nodes.n ? node_at(p, id) : NULL;
}

yd_pickle_kind yd_pickle_kind_of(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n ? n->kind : YD_PK_NONE;
}

int64_t yd_pickle_int(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n && (n->kind == YD_PK_INT || n->kind == YD_PK_BOOL) ? n->value.i : 0;
}

double yd_pickle_float(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n && n->kind == YD_PK_FLOAT ? n->value.f : 0.0;
}

const char *yd_pickle_text(const yd_pickle *p, yd_pkid id, size_t *len)
{
    const node *n = known(p, id);
    *len = n ? n->text_len : 0;
    return n ? n->text : NULL;
}

static int equal(const char *text, size_t len, const char *wanted)
{
    return strlen(wanted) == len && memcmp(text, wanted, len) == 0;
}

int yd_pickle_is_text(const yd_pickle *p, yd_pkid id, const char *text)
{
    const node *n = known(p, id);
    return n && n->kind == YD_PK_TEXT && equal(n->text, n->text_len, text);
}

int yd_pickle_is_global(const yd_pickle *p, yd_pkid id, const char *module, const char *name)
{
    const node *n = known(p, id);
    return n && n->kind == YD_PK_GLOBAL && equal(n->text, n->text_len, module) && equal(n->name, n->name_len, name);
}

yd_pkid yd_pickle_callee(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n ? n->callee : -1;
}

yd_pkid yd_pickle_args(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n ? n->args : -1;
}

yd_pkid yd_pickle_state(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n ? n->state : -1;
}

yd_pkcell yd_pickle_first(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n ? n->first : -1;
}

yd_pkcell yd_pickle_next(const yd_pickle *p, yd_pkcell at)
{
    return at >= 0 && (size_t)at < p->cells.n ? ((const cell *)p->cells.at)[at].next : -1;
}

yd_pkid yd_pickle_item(const yd_pickle *p, yd_pkcell at)
{
    return at >= 0 && (size_t)at < p->cells.n ? ((const cell *)p->cells.at)[at].item : -1;
}

size_t yd_pickle_items(const yd_pickle *p, yd_pkid id)
{
    const node *n = known(p, id);
    return n ? n->n_items : 0;
}

yd_pkid yd_pickle_nth(const yd_pickle *p, yd_pkid id, size_t n)
{
    yd_pkcell c = yd_pickle_first(p, id);
    while (c >= 0 && n--) c = yd_pickle_next(p, c);
    return yd_pickle_item(p, c);
}

yd_pkid yd_pickle_get(const yd_pickle *p, yd_pkid id, const char *key)
{
    yd_pkid found = -1;
    for (yd_pkcell c = yd_pickle_first(p, id); c >= 0;) {
        const yd_pkcell value = yd_pickle_next(p, c);
        if (yd_pickle_is_text(p, yd_pickle_item(p, c), key)) found = yd_pickle_item(p, value);
        c = yd_pickle_next(p, value);
    }
    return found;
}
