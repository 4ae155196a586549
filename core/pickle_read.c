// Reading a parsed pickle: see pickle.h. Every function takes any number for a node and gives nothing for one that is not there.
#include "core/pickle_machine.h"

#include <string.h>

yd_pkid yd_pickle_root(const yd_pickle *p)
{
    return p->root;
}

size_t yd_pickle_count(const yd_pickle *p)
{
    return p->nodes.n;
}

// A node that exists, or NULL.
static const yd_pknode *known(const yd_pickle *p, yd_pkid id)
{
    return id >= 0 && (size_t)id < p->nodes.n ? yd_pknode_at(p, id) : NULL;
}

yd_pickle_kind yd_pickle_kind_of(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
    return n ? n->kind : YD_PK_NONE;
}

int64_t yd_pickle_int(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
    return n && (n->kind == YD_PK_INT || n->kind == YD_PK_BOOL) ? n->value.i : 0;
}

double yd_pickle_float(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
    return n && n->kind == YD_PK_FLOAT ? n->value.f : 0.0;
}

const char *yd_pickle_text(const yd_pickle *p, yd_pkid id, size_t *len)
{
    const yd_pknode *n = known(p, id);
    *len = n ? n->text_len : 0;
    return n ? n->text : NULL;
}

const char *yd_pickle_name(const yd_pickle *p, yd_pkid id, size_t *len)
{
    const yd_pknode *n = known(p, id);
    *len = n ? n->name_len : 0;
    return n ? n->name : NULL;
}

static int equal(const char *text, size_t len, const char *wanted)
{
    return strlen(wanted) == len && memcmp(text, wanted, len) == 0;
}

int yd_pickle_is_text(const yd_pickle *p, yd_pkid id, const char *text)
{
    const yd_pknode *n = known(p, id);
    return n && n->kind == YD_PK_TEXT && equal(n->text, n->text_len, text);
}

int yd_pickle_is_global(const yd_pickle *p, yd_pkid id, const char *module, const char *name)
{
    const yd_pknode *n = known(p, id);
    return n && n->kind == YD_PK_GLOBAL && equal(n->text, n->text_len, module) && equal(n->name, n->name_len, name);
}

yd_pkid yd_pickle_callee(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
    return n ? n->callee : -1;
}

yd_pkid yd_pickle_args(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
    return n ? n->args : -1;
}

yd_pkid yd_pickle_state(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
    return n ? n->state : -1;
}

yd_pkcell yd_pickle_first(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
    return n ? n->first : -1;
}

yd_pkcell yd_pickle_next(const yd_pickle *p, yd_pkcell at)
{
    return at >= 0 && (size_t)at < p->cells.n ? ((const yd_pkitem *)p->cells.at)[at].next : -1;
}

yd_pkid yd_pickle_item(const yd_pickle *p, yd_pkcell at)
{
    return at >= 0 && (size_t)at < p->cells.n ? ((const yd_pkitem *)p->cells.at)[at].item : -1;
}

size_t yd_pickle_items(const yd_pickle *p, yd_pkid id)
{
    const yd_pknode *n = known(p, id);
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
