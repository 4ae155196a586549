// A heap whose nodes lie in what they order: the smallest key is found at once, any node can leave, nothing is allocated.
//
// Nodes of equal keys come out in the order they went in when the caller gives them rising `tie`s. Threads: one at a time.
#ifndef YD_DAEMON_HEAP_H
#define YD_DAEMON_HEAP_H

#include <stdint.h>

typedef struct yd_heap_node {
    struct yd_heap_node *child, *next, *prev; // prev: the sibling before, or the parent of the first child
    double key;
    uint64_t tie;
    int in; // in a heap
} yd_heap_node;

typedef struct yd_heap {
    yd_heap_node *top; // the smallest; NULL: empty
} yd_heap;

// Put in a node that is in no heap; one step.
void yd_heap_add(yd_heap *h, yd_heap_node *n, double key, uint64_t tie);
// Take out a node; nothing happens when it is in no heap. Logarithmic on average.
void yd_heap_remove(yd_heap *h, yd_heap_node *n);

#endif
