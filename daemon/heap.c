// A pairing heap: adding is one comparison, taking out pairs up the children from left to right and joins the pairs from right to left.
#include "daemon/heap.h"

#include <stddef.h>

static int before(const yd_heap_node *a, const yd_heap_node *b)
{
    return a->key < b->key || (a->key == b->key && a->tie < b->tie);
}

// Two heaps, whose tops have no siblings, as one.
static yd_heap_node *join(yd_heap_node *a, yd_heap_node *b)
{
    if (!a || !b) return a ? a : b;
    if (before(b, a)) {
        yd_heap_node *t = a;
        a = b;
        b = t;
    }
    b->next = a->child;
    b->prev = a;
    if (a->child) a->child->prev = b;
    a->child = b;
    return a;
}

static yd_heap_node *alone(yd_heap_node *n)
{
    n->next = n->prev = NULL;
    return n;
}

// The children of a node that leaves, as one heap.
static yd_heap_node *join_children(yd_heap_node *first)
{
    yd_heap_node *pairs = NULL, *all = NULL;
    while (first) {
        yd_heap_node *a = first, *b = a->next;
        first = b ? b->next : NULL;
        yd_heap_node *pair = join(alone(a), b ? alone(b) : NULL);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs) {
        yd_heap_node *rest = pairs->next;
        all = join(all, alone(pairs));
        pairs = rest;
    }
    return all;
}

void yd_heap_add(yd_heap *h, yd_heap_node *n, double key, uint64_t tie)
{
    *n = (yd_heap_node){.key = key, .tie = tie, .in = 1};
    h->top = join(h->top, n);
}

void yd_heap_remove(yd_heap *h, yd_heap_node *n)
{
    if (!n->in) return;
    yd_heap_node *below = join_children(n->child);
    if (h->top == n) {
        h->top = below;
    } else {
        if (n->prev->child == n)
            n->prev->child = n->next;
        else
            n->prev->next = n->next;
        if (n->next) n->next->prev = n->prev;
        h->top = join(h->top, below);
    }
    *n = (yd_heap_node){.in = 0};
}
