// Walking a checkpoint's objects: dicts and lists become dotted names, tensors go into the view, the rest is noted. See torch_state.h.
//
// The way down is kept on a small stack of its own, so that neither nesting nor an object that holds itself costs more than MAX_DEPTH; the
// number of objects visited is bounded, because one object may be reached on many ways.
#include "core/torch_state.h"

#include "core/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_DEPTH = 16, MAX_NAME = 511, MAX_TENSORS = 65536, MAX_OTHERS = 1024, WHAT_MAX = 120 };
#define MAX_VISITS ((size_t)1 << 21)

typedef struct frame {
    yd_pkcell at; // the next item, or key
    size_t index; // of the next item, in a list
    size_t name;  // length of the name down to here
    int pairs;    // items are keys and values
} frame;

typedef struct walk {
    const yd_pickle *p;
    const yd_torch_bytes *where;
    yd_safetensors *st;
    yd_err *err;
    frame stack[MAX_DEPTH];
    int depth;
    size_t visits;
    char name[MAX_NAME + 1];
    size_t name_len;
} walk;

static int no_memory(const walk *w)
{
    return yd_fail(w->err, YD_E_NOMEM, "no memory for the names of a model file's tensors");
}

// ---- names

// A text that may stand in a name: UTF-8 is for whoever writes it, control characters are no name's.
static int nameable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) return 0;
    return 1;
}

// Put ".part" behind the first `from` bytes of the name. 0 when it does not fit.
static int set_name(walk *w, size_t from, const char *part, size_t len)
{
    const size_t dot = from > 0;
    w->name_len = from;
    w->name[from] = 0;
    if (len > MAX_NAME - from - dot || from + dot > MAX_NAME || !nameable(part, len)) return 0;
    if (dot) w->name[from] = '.';
    memcpy(w->name + from + dot, part, len);
    w->name_len = from + dot + len;
    w->name[w->name_len] = 0;
    return 1;
}

// ---- what is put away

static int note(walk *w, const char *what, int opaque)
{
    yd_safetensors *st = w->st;
    void *array = st->others;
    if (st->n_others == MAX_OTHERS) return 0;
    const int rc = yd_view_reserve(&array, &st->others_capacity, st->n_others + 1, sizeof *st->others, w->err);
    st->others = array;
    if (rc) return rc;
    char *name = yd_strdup(w->name), *copy = yd_strdup(what);
    if (!name || !copy) {
        yd_free(name);
        yd_free(copy);
        return no_memory(w);
    }
    st->others[st->n_others++] = (yd_st_other){name, copy, opaque};
    return 0;
}

// An object of a class, by its name, as far as that can be printed.
static int note_object(walk *w, yd_pkid callee)
{
    char what[WHAT_MAX];
    size_t n = 0, m = 0;
    const char *module = yd_pickle_text(w->p, callee, &n), *name = yd_pickle_name(w->p, callee, &m);
    if (!module || !name || !nameable(module, n) || !nameable(name, m))
        return note(w, "an object of no known class", 1);
    snprintf(what, sizeof what, "an object of %.*s.%.*s, which is left alone", (int)(n < 48 ? n : 48), module,
             (int)(m < 40 ? m : 40), name);
    return note(w, what, 1);
}

static int note_scalar(walk *w, yd_pkid id)
{
    char what[WHAT_MAX];
    size_t n = 0;
    if (w->depth > 1) return 0; // an optimizer's numbers are nobody's concern
    const yd_pickle_kind kind = yd_pickle_kind_of(w->p, id);
    const char *text = yd_pickle_text(w->p, id, &n);
    if (kind == YD_PK_INT)
        snprintf(what, sizeof what, "%lld", (long long)yd_pickle_int(w->p, id));
    else if (kind == YD_PK_BOOL)
        snprintf(what, sizeof what, "%s", yd_pickle_int(w->p, id) ? "true" : "false");
    else if (kind == YD_PK_FLOAT)
        snprintf(what, sizeof what, "%.9g", yd_pickle_float(w->p, id));
    else if (kind == YD_PK_TEXT && nameable(text, n))
        snprintf(what, sizeof what, "'%.*s'%s", (int)(n < 60 ? n : 60), text, n > 60 ? "..." : "");
    else if (kind == YD_PK_NONE)
        snprintf(what, sizeof what, "none");
    else
        snprintf(what, sizeof what, "a value");
    return note(w, what, 0);
}

static int add_tensor(walk *w, yd_st_tensor *t)
{
    yd_safetensors *st = w->st;
    void *array = st->tensors;
    if (st->count == MAX_TENSORS)
        return yd_fail(w->err, YD_E_CHECKPOINT, "the file has more than %d tensors", (int)MAX_TENSORS);
    const int rc = yd_view_reserve(&array, &st->capacity, st->count + 1, sizeof *st->tensors, w->err);
    st->tensors = array;
    if (rc) return rc;
    char *name = yd_strdup(w->name_len ? w->name : "tensor");
    if (!name) return no_memory(w);
    t->name = name;
    st->tensors[st->count++] = *t;
    return 0;
}

// ---- the walk

static int is_dict_class(const yd_pickle *p, yd_pkid callee)
{
    return yd_pickle_is_global(p, callee, "collections", "OrderedDict") ||
           yd_pickle_is_global(p, callee, "collections", "defaultdict");
}

static int go_down(walk *w, yd_pkid id, int pairs)
{
    if (w->depth == MAX_DEPTH) return note(w, "nested deeper than 16 levels", 1);
    w->stack[w->depth++] = (frame){.at = yd_pickle_first(w->p, id), .name = w->name_len, .pairs = pairs};
    return 0;
}

static int visit_call(walk *w, yd_pkid id)
{
    yd_st_tensor t = {0};
    const char *why = NULL;
    if (is_dict_class(w->p, yd_pickle_callee(w->p, id))) return go_down(w, id, 1);
    const int rc = yd_torch_tensor(w->p, id, w->where, w->st, w->name, &t, &why, w->err);
    if (rc == 0) return add_tensor(w, &t);
    if (rc < 0) return rc;
    return why ? note(w, why, 1) : note_object(w, yd_pickle_callee(w->p, id));
}

static int visit(walk *w, yd_pkid id)
{
    if (++w->visits > MAX_VISITS)
        return yd_fail(w->err, YD_E_CHECKPOINT, "more than 2^21 values are reached from the file's top");
    switch (yd_pickle_kind_of(w->p, id)) {
    case YD_PK_DICT:
        return go_down(w, id, 1);
    case YD_PK_LIST:
    case YD_PK_TUPLE:
        return go_down(w, id, 0);
    case YD_PK_CALL:
        return visit_call(w, id);
    case YD_PK_GLOBAL:
        return note(w, "the name of a class or function", 1);
    case YD_PK_OUTSIDE:
        return note(w, "a storage without a tensor", 1);
    default:
        return note_scalar(w, id);
    }
}

// The next item of a list.
static int visit_item(walk *w, frame *f)
{
    char part[24];
    const int n = snprintf(part, sizeof part, "%zu", f->index++);
    const yd_pkid item = yd_pickle_item(w->p, f->at);
    f->at = yd_pickle_next(w->p, f->at);
    return set_name(w, f->name, part, (size_t)n) ? visit(w, item)
                                                 : note(w, "something whose name is longer than 511 bytes", 1);
}

// The next pair of a dict. Keys are texts, or numbers as in an optimizer's state.
static int visit_pair(walk *w, frame *f)
{
    char digits[24];
    size_t len = 0;
    const yd_pkid key = yd_pickle_item(w->p, f->at);
    const yd_pkcell second = yd_pickle_next(w->p, f->at);
    const char *part = yd_pickle_kind_of(w->p, key) == YD_PK_TEXT ? yd_pickle_text(w->p, key, &len) : NULL;
    f->at = yd_pickle_next(w->p, second);
    if (yd_pickle_kind_of(w->p, key) == YD_PK_INT) {
        len = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)yd_pickle_int(w->p, key));
        part = digits;
    }
    if (part && set_name(w, f->name, part, len)) return visit(w, yd_pickle_item(w->p, second));
    set_name(w, f->name, "?", 1);
    return note(w, "something whose key is no name", 1);
}

int yd_torch_flatten(const yd_pickle *p, const yd_torch_bytes *where, yd_safetensors *st, yd_err *err)
{
    walk w = {.p = p, .where = where, .st = st, .err = err};
    int rc = visit(&w, yd_pickle_root(p));
    while (!rc && w.depth) {
        frame *f = &w.stack[w.depth - 1];
        if (f->at < 0)
            w.depth--;
        else
            rc = f->pairs ? visit_pair(&w, f) : visit_item(&w, f);
    }
    return rc ? rc : yd_view_sort(st, err);
}
